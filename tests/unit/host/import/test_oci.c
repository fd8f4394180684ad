/* Image layouts, made here: which image, which layers; digests that are no paths, files that are not what is said of them. */
#include "import/oci.h"
#include "lib/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <gcrypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYER    "application/vnd.oci.image.layer.v1.tar"
#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX    "application/vnd.oci.image.index.v1+json"

static char dir[64];

static void put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fputs(text, f) < 0, 0);
	assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
	char path[128];

	(void)state;
	gcry_check_version(NULL);
	snprintf(dir, sizeof(dir), "/tmp/werunos-oci.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/blobs", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/blobs/sha256", dir);
	mkdir(path, 0755);
	put("oci-layout", "{\"imageLayoutVersion\": \"1.0.0\"}");
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* Makes a blob; its descriptor, with `more` members, valid until the fourth call after. */
static const char *blob(const char *text, const char *type, const char *more)
{
	static char out[4][4096];
	static u32 at;
	char name[128] = "blobs/sha256/", *hex = name + strlen(name);
	u8 sum[32];

	gcry_md_hash_buffer(GCRY_MD_SHA256, sum, text, strlen(text));
	for (u32 i = 0; i < sizeof(sum); i++)
		snprintf(hex + (size_t)2 * i, 3, "%02x", sum[i]);
	put(name, text);
	at = (at + 1) % 4;
	snprintf(out[at], sizeof(out[at]), "{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%zu%s}",
		 type, hex, strlen(text), more);
	return out[at];
}

/* Of one layer, whose content is its name. */
static const char *image(const char *layer, const char *arch, const char *more)
{
	char config[256], manifest[9000];

	snprintf(config, sizeof(config), "{\"os\":\"linux\",\"architecture\":\"%s\"}", arch);
	snprintf(manifest, sizeof(manifest), "{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}",
		 blob(config, "application/vnd.oci.image.config.v1+json", ""), blob(layer, LAYER, ""));
	return blob(manifest, MANIFEST, more);
}

static void index_of(const char *a, const char *b)
{
	char text[9000];

	snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"manifests\":[%s%s%s]}", a, *b ? "," : "", b);
	put("index.json", text);
}

/* The first layer has this content; NULL: refused with err. */
static void opens_as(const char *tag, const char *platform, int err, const char *want)
{
	struct oci_image *o = NULL;
	char spec[128], got[64] = "";
	FILE *f;

	snprintf(spec, sizeof(spec), "%s%s%s", dir, *tag ? ":" : "", tag);
	assert_int_equal(oci_open(spec, platform, &o), err);
	if (err) {
		assert_null(strchr(err_text(), '\n'));
		return;
	}
	assert_int_equal(o->layers, 1);
	assert_int_equal(o->bytes, strlen(want));
	assert_int_equal(oci_verify(&o->layer[0], NULL), 0);
	f = fopen(o->layer[0].path, "r");
	assert_non_null(f);
	assert_non_null(fgets(got, sizeof(got), f));
	fclose(f);
	assert_string_equal(got, want);
	oci_close(o);
}

static void which_one(void **state)
{
	char inner[9000], one[4096];

	(void)state;
	index_of(image("only", "m68k", ""), "");
	opens_as("", NULL, 0, "only");
	opens_as("", "linux/m68k", 0, "only");
	opens_as("", "linux/m68", -ENOENT, NULL);
	opens_as("", "linux/m68k/v1", -ENOENT, NULL);
	opens_as("v1", NULL, -ENOENT, NULL);
	snprintf(one, sizeof(one), "%s",
		 image("first", "m68k", ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"v1\"}"));
	index_of(one,
		 image("second", "m68k", ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"v2\"}"));
	opens_as("v1", NULL, 0, "first");
	opens_as("v2", "linux/m68k", 0, "second");
	opens_as("", NULL, -ENOENT, NULL);
	opens_as("", "linux/m68k", -EINVAL, NULL);
	/* An index in the index. */
	snprintf(one, sizeof(one), "%s",
		 image("arm", "arm",
		       ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}"));
	snprintf(inner, sizeof(inner), "{\"manifests\":[%s,%s]}", one,
		 image("statement", "m68k",
		       ",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}"));
	index_of(blob(inner, INDEX, ""), "");
	opens_as("", NULL, 0, "arm");
	opens_as("", "linux/arm/v7", 0, "arm");
	opens_as("", "linux/arm/v6", -ENOENT, NULL);
}

static void digests_are_no_paths(void **state)
{
	static const char *const bad[] = {
		"sha256:../../../etc/passwd",
		"sha256:",
		"",
		"../x",
		"sha256:/"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"SHA256:"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"sha256:"
		"Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char d[512];

		snprintf(d, sizeof(d), "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":5}", MANIFEST,
			 bad[i]);
		index_of(d, "");
		opens_as("", NULL, -EINVAL, NULL);
		snprintf(d, sizeof(d), "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":5}", INDEX, bad[i]);
		index_of(d, "");
		opens_as("", NULL, -EINVAL, NULL);
	}
}

static void files_that_are_others(void **state)
{
	const volatile int stop = 1;
	struct oci_image *o;
	char name[256];

	(void)state;
	index_of(image("layer", "m68k", ""), "");
	assert_int_equal(oci_open(dir, NULL, &o), 0);
	assert_int_equal(oci_verify(&o->layer[0], &stop), -ECANCELED);
	snprintf(name, sizeof(name), "%s", o->layer[0].path + strlen(dir) + 1);
	put(name, "Layer");
	assert_int_equal(oci_verify(&o->layer[0], NULL), -EBADMSG);
	put(name, "laye");
	assert_int_equal(oci_verify(&o->layer[0], NULL), -EBADMSG);
	put(name, "layers");
	assert_int_equal(oci_verify(&o->layer[0], NULL), -EBADMSG);
	assert_int_equal(unlink(o->layer[0].path), 0);
	assert_int_equal(oci_verify(&o->layer[0], NULL), -ENOENT);
	assert_int_equal(mkdir(o->layer[0].path, 0755), 0);
	assert_int_equal(oci_verify(&o->layer[0], NULL), -EINVAL);
	assert_int_equal(rmdir(o->layer[0].path), 0);
	/* The manifest, as long as before. */
	snprintf(name, sizeof(name), "blobs/sha256/%s", o->name + strlen("sha256:"));
	oci_close(o);
	put(name, "{\"schemaVersion\":2}");
	opens_as("", NULL, -EBADMSG, NULL);
}

static void what_is_no_layout(void **state)
{
	static const char *const bad[] = { "",
					   "[]",
					   "{}",
					   "{\"manifests\":{}}",
					   "{\"manifests\":[[]]}",
					   "{\"manifests\":[{\"size\":1}]}",
					   "{\"manifests\":[]",
					   "{\"manifests\":[],\"manifests\":[]}" };
	static char deep[200001];
	struct oci_image *o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put("index.json", bad[i]);
		opens_as("", NULL, -EINVAL, NULL);
	}
	memset(deep, '[', sizeof(deep) - 1);
	put("index.json", deep);
	opens_as("", NULL, -EINVAL, NULL);
	index_of(blob("{\"schemaVersion\":2,\"layers\":[]}", MANIFEST, ""), "");
	opens_as("", NULL, -EINVAL, NULL);
	index_of(image("", "m68k", ""), "");
	opens_as("", NULL, -EINVAL, NULL);
	put("oci-layout", "{\"imageLayoutVersion\": \"2.0.0\"}");
	opens_as("", NULL, -EOPNOTSUPP, NULL);
	put("oci-layout", "{\"imageLayoutVersion\": \"1.1.0\"}");
	assert_int_equal(oci_open("/tmp", NULL, &o), -EINVAL);
	assert_int_equal(oci_open("/none", NULL, &o), -ENOENT);
	assert_int_equal(oci_open("/none:tag", NULL, &o), -ENOENT);
	assert_int_equal(oci_open("/dev/null", NULL, &o), -ENOTDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(which_one),
		cmocka_unit_test(digests_are_no_paths),
		cmocka_unit_test(files_that_are_others),
		cmocka_unit_test(what_is_no_layout),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
