/*
 * OCI image layouts, read. Interface: oci.h.
 *
 * A layout's files refer to each other by descriptors: a digest, a size, a media type. A digest is checked to be hexadecimal before it becomes
 * a path, so that it leads into blobs/ and nowhere else; a file counts only when its bytes have the digest. So whoever made the
 * layout can choose what is in the image, and nothing else.
 *
 * index.json ─► (index ─►) manifest ─► config, layers. All manifests that the indexes lead to are candidates; tag and platform choose one.
 */
#include "import/oci.h"

#include "import/import.h"
#include "lib/err.h"
#include "lib/scope.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define JSON_BYTES_MAX (4u << 20)
#define LAYERS_MAX     4096u
#define CANDIDATES_MAX 1024u
#define LOADS_MAX      256u /* of JSON files, for one image */
#define DEPTH_MAX      8u   /* of indexes in indexes */
#define READ_BYTES     (1u << 20)

#define TAG_KEY "org.opencontainers.image.ref.name"

static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
};
static const char *const manifest_types[] = {
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
};
static const char *const layer_types[] = {
	"application/vnd.oci.image.layer.v1.tar",
	"application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
};

static const struct {
	const char *name; /* with its colon */
	int algo;
	u32 bytes;
} digests[] = {
	{ "sha256:", GCRY_MD_SHA256, 32 },
	{ "sha512:", GCRY_MD_SHA512, 64 },
};

/* What one file says of another. */
struct descriptor {
	const char *digest, *type; /* borrowed from the JSON */
	u64 size_bytes;
};

struct candidate {
	char *digest, *tag, *os, *arch, *variant; /* os, arch, variant: NULL where nobody says */
	u64 size_bytes;
	json_t *manifest; /* once it was loaded */
};

struct layout {
	char *dir;
	struct candidate *c;
	u32 count;
	u32 loads;
};

static bool is_in(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(s, list[i]))
			return true;
	return false;
}

/* ---- digests ---- */

/* Which of digests; -1: it is none that can be compared, or none at all. */
static int digest_kind(const char *digest)
{
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		size_t n = strlen(digests[i].name);

		if (!strncmp(digest, digests[i].name, n))
			return strlen(digest + n) == 2 * digests[i].bytes &&
					       strspn(digest + n, "0123456789abcdef") == 2 * digests[i].bytes
				       ? (int)i
				       : -1;
	}
	return -1;
}

/* The path of a blob, to be freed. */
static int blob_path(const char *dir, const char *digest, char **out)
{
	int kind = digest_kind(digest);
	size_t n;

	*out = NULL;
	if (kind < 0) {
		struct text t = { 0 };
		int err;

		text_add_name(&t, digest, strnlen(digest, 100));
		err = fail(-EINVAL, "%s: \"%s\" is no digest of a kind that is known", dir, text_str(&t));
		text_free(&t);
		return err;
	}
	n = strlen(digests[kind].name);
	if (asprintf(out, "%s/blobs/%.*s/%s", dir, (int)n - 1, digest, digest + n) < 0) {
		*out = NULL;
		return fail(-ENOMEM, "no memory for a path");
	}
	return 0;
}

static void hex(const u8 *p, u32 n, char *out)
{
	for (u32 i = 0; i < n; i++)
		snprintf(out + (size_t)2 * i, 3, "%02x", p[i]);
}

static int is_another(const char *path, const char *what)
{
	return fail(-EBADMSG,
		    "%s: its %s is not what the image says of it: the file is damaged or was changed", path,
		    what);
}

/* Reads all of fd; buf gets it, when not NULL, and has room for size_bytes. */
static int read_digest(int fd, const char *path, int kind, u64 size_bytes, u8 *buf, const volatile int *stop,
		       char *hex_out)
{
	scoped(freep) u8 *own = buf ? NULL : malloc(READ_BYTES);
	gcry_md_hd_t md;
	u64 at = 0;
	int err = 0;

	if ((!buf && !own) || gcry_md_open(&md, digests[kind].algo, 0))
		return fail(-ENOMEM, "no memory to read %s", path);
	while (!err && at < size_bytes) {
		u8 *to = buf ? buf + at : own;
		ssize_t n = read(fd, to, MIN(size_bytes - at, (u64)READ_BYTES));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = fail(-errno, "%s cannot be read: %s", path, strerror(errno));
		else if (!n)
			err = is_another(path, "length");
		else
			gcry_md_write(md, to, (size_t)n);
		if (!err && stop_asked(stop))
			err = -ECANCELED;
		at += n > 0 ? (u64)n : 0;
	}
	if (!err)
		hex(gcry_md_read(md, digests[kind].algo), digests[kind].bytes, hex_out);
	gcry_md_close(md);
	return err;
}

/* Opens a file of a size; 0: of any up to JSON_BYTES_MAX. */
static int open_sized(const char *path, u64 *size_bytes, int *fd)
{
	struct stat st;

	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return fail(-errno, "%s: %s", path, strerror(errno));
	if (fstat(*fd, &st) || !S_ISREG(st.st_mode)) {
		close(*fd);
		return fail(-EINVAL, "%s is no file", path);
	}
	if ((*size_bytes && (u64)st.st_size != *size_bytes) ||
	    (!*size_bytes && st.st_size > (off_t)JSON_BYTES_MAX)) {
		close(*fd);
		return *size_bytes ? is_another(path, "length")
				   : fail(-EFBIG, "%s is longer than a file of its kind can be", path);
	}
	*size_bytes = (u64)st.st_size;
	return 0;
}

int oci_verify(const struct oci_layer *l, const volatile int *stop)
{
	char found[2 * 64 + 1];
	int kind = digest_kind(l->digest), fd;
	u64 size = l->size_bytes;
	int err =
		kind < 0 ? fail(-EINVAL, "\"%s\" is no digest", l->digest) : open_sized(l->path, &size, &fd);

	if (err)
		return err;
	err = read_digest(fd, l->path, kind, size, NULL, stop, found);
	close(fd);
	if (!err && strcmp(found, l->digest + strlen(digests[kind].name)) != 0)
		err = is_another(l->path, "digest");
	return err;
}

/* ---- JSON ---- */

static int parse(const char *path, const char *buf, size_t len, json_t **out)
{
	json_error_t e;

	*out = json_loadb(buf, len, JSON_REJECT_DUPLICATES, &e);
	if (!*out)
		return fail(-EINVAL, "%s, line %d: %s", path, e.line, e.text);
	if (!json_is_object(*out)) {
		json_decref(*out);
		*out = NULL;
		return fail(-EINVAL, "%s: an object is wanted", path);
	}
	return 0;
}

/* digest NULL: nobody has said what it is to be. */
static int load(struct layout *l, const char *path, const char *digest, u64 size_bytes, json_t **out)
{
	int kind = digest ? digest_kind(digest) : 0, fd, err;
	scoped(freep) u8 *buf = NULL;
	char found[2 * 64 + 1];

	*out = NULL;
	if (l->loads++ == LOADS_MAX)
		return fail(-EINVAL, "%s: more than %u files describe the image", l->dir, LOADS_MAX);
	if (size_bytes > JSON_BYTES_MAX)
		return fail(-EFBIG, "%s is longer than a file of its kind can be", path);
	err = open_sized(path, &size_bytes, &fd);
	if (err)
		return err;
	buf = malloc(size_bytes + 1);
	err = buf ? read_digest(fd, path, kind, size_bytes, buf, NULL, found)
		  : fail(-ENOMEM, "no memory to read %s", path);
	close(fd);
	if (!err && digest && strcmp(found, digest + strlen(digests[kind].name)) != 0)
		err = is_another(path, "digest");
	return err ? err : parse(path, (const char *)buf, size_bytes, out);
}

static int load_blob(struct layout *l, const char *digest, u64 size_bytes, json_t **out)
{
	scoped(freep) char *path = NULL;
	int err = blob_path(l->dir, digest, &path);

	*out = NULL;
	if (!err && !size_bytes)
		err = is_another(path, "length");
	return err ? err : load(l, path, digest, size_bytes, out);
}

/* A string of an object; NULL: there is none. */
static const char *string_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int descriptor_of(struct layout *l, const json_t *o, struct descriptor *d)
{
	const json_t *size = json_object_get(o, "size");

	d->digest = string_of(o, "digest");
	d->type = string_of(o, "mediaType");
	d->size_bytes = (u64)json_integer_value(size);
	if (!d->digest || !d->type || !json_is_integer(size) || json_integer_value(size) < 0)
		return fail(-EINVAL, "%s: a descriptor without digest, size or media type", l->dir);
	return 0;
}

/* ---- candidates ---- */

static void layout_fini(struct layout *l)
{
	for (u32 i = 0; i < l->count; i++) {
		struct candidate *c = &l->c[i];

		free(c->digest);
		free(c->tag);
		free(c->os);
		free(c->arch);
		free(c->variant);
		json_decref(c->manifest);
	}
	free(l->c);
	free(l->dir);
}

static char *copy_of(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int candidate_add(struct layout *l, const json_t *o, const struct descriptor *d, const char *tag)
{
	const json_t *platform = json_object_get(o, "platform");
	struct candidate *more, *c;

	if (l->count == CANDIDATES_MAX)
		return fail(-EINVAL, "%s: more than %u images", l->dir, CANDIDATES_MAX);
	more = realloc(l->c, (l->count + 1) * sizeof(*more));
	if (!more)
		return fail(-ENOMEM, "no memory for an image");
	l->c = more;
	c = &more[l->count++];
	*c = (struct candidate){
		.digest = strdup(d->digest),
		.tag = copy_of(tag),
		.os = copy_of(string_of(platform, "os")),
		.arch = copy_of(string_of(platform, "architecture")),
		.variant = copy_of(string_of(platform, "variant")),
		.size_bytes = d->size_bytes,
	};
	return c->digest ? 0 : fail(-ENOMEM, "no memory for an image");
}

/* want: the tag that is asked for, NULL: any. tag: what the index above was called. */
static int collect(struct layout *l, const json_t *index, const char *want, const char *tag, u32 depth)
{
	const json_t *list = json_object_get(index, "manifests"), *o;
	size_t i;
	int err = 0;

	if (!json_is_array(list))
		return fail(-EINVAL, "%s: an index without a list of manifests", l->dir);
	if (depth == DEPTH_MAX)
		return fail(-EINVAL, "%s: indexes in indexes, deeper than %u", l->dir, DEPTH_MAX);
	json_array_foreach((json_t *)list, i, o)
	{
		const char *own = string_of(json_object_get(o, "annotations"), TAG_KEY);
		scoped(json_decrefp) json_t *inner = NULL;
		struct descriptor d;

		own = own ? own : tag;
		err = descriptor_of(l, o, &d);
		if (!err && is_in(d.type, index_types, ARRAY_SIZE(index_types))) {
			/* Of another tag: there is nothing to be found in it. */
			if (want && own && strcmp(own, want) != 0)
				continue;
			err = load_blob(l, d.digest, d.size_bytes, &inner);
			if (!err)
				err = collect(l, inner, want, own, depth + 1);
		} else if (!err && is_in(d.type, manifest_types, ARRAY_SIZE(manifest_types)) &&
			   (!want || (own && !strcmp(own, want)))) {
			err = candidate_add(l, o, &d, own);
		}
		if (err)
			break;
	}
	return err;
}

/* The manifest, and what its configuration says of the platform where the index says nothing. */
static int load_manifest(struct layout *l, struct candidate *c)
{
	scoped(json_decrefp) json_t *config = NULL;
	struct descriptor d;
	int err = c->manifest ? 0 : load_blob(l, c->digest, c->size_bytes, &c->manifest);

	if (err || (c->os && c->arch))
		return err;
	err = descriptor_of(l, json_object_get(c->manifest, "config"), &d);
	if (!err)
		err = load_blob(l, d.digest, d.size_bytes, &config);
	if (err)
		return err;
	free(c->os);
	free(c->arch);
	c->os = copy_of(string_of(config, "os"));
	c->arch = copy_of(string_of(config, "architecture"));
	if (!c->variant)
		c->variant = copy_of(string_of(config, "variant"));
	return 0;
}

/* ---- which of them ---- */

/* As Go names machines, which is what images use. */
static const char *machine(void)
{
	static const struct {
		const char *uname, *go;
	} names[] = {
		{ "x86_64", "amd64" },    { "aarch64", "arm64" },
		{ "i686", "386" },        { "i386", "386" },
		{ "armv7l", "arm" },      { "armv6l", "arm" },
		{ "ppc64le", "ppc64le" }, { "s390x", "s390x" },
		{ "riscv64", "riscv64" }, { "loongarch64", "loong64" },
	};
	struct utsname u;

	for (size_t i = 0; !uname(&u) && i < ARRAY_SIZE(names); i++)
		if (!strcmp(u.machine, names[i].uname))
			return names[i].go;
	return "unknown";
}

/* platform: "OS/ARCHITECTURE[/VARIANT]". */
static bool fits(const struct candidate *c, const char *platform)
{
	char own[256];
	size_t n;

	if (!c->os || !c->arch)
		return false;
	n = (size_t)snprintf(own, sizeof(own), "%s/%s", c->os, c->arch);
	if (n >= sizeof(own) || strncmp(own, platform, n) != 0)
		return false;
	return !platform[n] || (platform[n] == '/' && c->variant && !strcmp(platform + n + 1, c->variant));
}

static void add_platform(const struct candidate *c, struct text *t)
{
	const char *part[] = { c->os ? c->os : "?", c->arch ? c->arch : "?", c->variant };

	for (size_t i = 0; i < ARRAY_SIZE(part) && part[i]; i++) {
		if (i)
			text_add(t, "/");
		text_add_name(t, part[i], strnlen(part[i], 64));
	}
}

/* What there is, for a sentence. */
static void add_candidates(const struct layout *l, struct text *t)
{
	for (u32 i = 0; i < MIN(l->count, 8u); i++) {
		const struct candidate *c = &l->c[i];

		text_add(t, "%s", i ? ", " : "");
		if (c->tag)
			text_add_name(t, c->tag, strnlen(c->tag, 64));
		text_add(t, "%s(", c->tag ? " " : "");
		add_platform(c, t);
		text_add(t, ")");
	}
	if (l->count > 8)
		text_add(t, ", …");
}

static int none_or_several(const struct layout *l, u32 found, const char *platform)
{
	struct text t = { 0 };
	int err;

	add_candidates(l, &t);
	err = found ? fail(-EINVAL, "%s holds several images: DIR:TAG or --platform must say which of %s",
			   l->dir, text_str(&t))
		    : fail(-ENOENT, "%s holds no image for %s, but %s", l->dir, platform, text_str(&t));
	text_free(&t);
	return err;
}

/* Statements about images, which builders put beside them, are for a platform that there is not. */
static bool is_image(const struct candidate *c)
{
	return !(c->os && c->arch && !strcmp(c->os, "unknown") && !strcmp(c->arch, "unknown"));
}

static int choose(struct layout *l, const char *platform, struct candidate **out)
{
	struct candidate *only = NULL, *fitting = NULL;
	u32 images = 0, fit = 0;
	char own[64];
	int err;

	snprintf(own, sizeof(own), "linux/%s", machine());
	for (u32 i = 0; i < l->count; i++) {
		struct candidate *c = &l->c[i];

		if (!is_image(c))
			continue;
		err = load_manifest(l, c);
		if (err)
			return err;
		images++;
		only = c;
		if (fits(c, platform ? platform : own)) {
			fit++;
			fitting = c;
		}
	}
	*out = fit == 1 ? fitting : !platform && !fit && images == 1 ? only : NULL;
	return *out ? 0 : none_or_several(l, fit, platform ? platform : own);
}

/* ---- its layers ---- */

static int layer_add(struct layout *l, struct oci_image *o, const json_t *j)
{
	struct oci_layer *y = &o->layer[o->layers];
	struct descriptor d;
	int err = descriptor_of(l, j, &d);

	if (!err && !is_in(d.type, layer_types, ARRAY_SIZE(layer_types))) {
		struct text t = { 0 };

		text_add_name(&t, d.type, strnlen(d.type, 100));
		err = fail(-EOPNOTSUPP, "%s: a layer of the media type \"%s\", which cannot be read", l->dir,
			   text_str(&t));
		text_free(&t);
	}
	if (!err)
		err = blob_path(l->dir, d.digest, &y->path);
	if (err)
		return err;
	o->layers++;
	y->size_bytes = d.size_bytes;
	y->digest = strdup(d.digest);
	o->bytes += d.size_bytes;
	if (!y->digest)
		return fail(-ENOMEM, "no memory for an image");
	if (!d.size_bytes)
		return fail(-EINVAL, "%s: a layer of no bytes", l->dir);
	return 0;
}

static int layers_of(struct layout *l, const struct candidate *c, struct oci_image *o)
{
	const json_t *list = json_object_get(c->manifest, "layers"), *j;
	struct text platform = { 0 };
	size_t i, n = json_array_size(list);
	int err = 0;

	if (!json_is_array(list) || json_integer_value(json_object_get(c->manifest, "schemaVersion")) != 2)
		return fail(-EINVAL, "%s: a manifest of a form that is not known", l->dir);
	if (n > LAYERS_MAX)
		return fail(-EINVAL, "%s: an image of %zu layers, more than %u", l->dir, n, LAYERS_MAX);
	o->layer = calloc(n + 1, sizeof(*o->layer));
	if (c->os || c->arch)
		add_platform(c, &platform);
	o->platform = strdup(text_str(&platform));
	text_free(&platform);
	o->name = strdup(c->digest);
	if (!o->layer || !o->platform || !o->name)
		return fail(-ENOMEM, "no memory for an image");
	json_array_foreach((json_t *)list, i, j)
	{
		err = layer_add(l, o, j);
		if (err)
			break;
	}
	return err;
}

/* ---- the layout ---- */

/* DIR, or DIR:TAG. *tag borrows from spec. */
static int split(const char *spec, char **dir, const char **tag)
{
	const char *colon = strrchr(spec, ':');
	struct stat st;

	*tag = NULL;
	if (colon && stat(spec, &st)) {
		*tag = colon + 1;
		*dir = strndup(spec, (size_t)(colon - spec));
	} else {
		*dir = strdup(spec);
	}
	if (!*dir)
		return fail(-ENOMEM, "no memory for an image");
	if (stat(*dir, &st))
		return fail(-errno, "%s: %s", *dir, strerror(errno));
	return S_ISDIR(st.st_mode)
		       ? 0
		       : fail(-ENOTDIR, "%s: a directory is wanted, in which an image's layout lies", *dir);
}

static int load_named(struct layout *l, const char *name, json_t **out)
{
	scoped(freep) char *path = NULL;

	if (asprintf(&path, "%s/%s", l->dir, name) < 0) {
		path = NULL;
		return fail(-ENOMEM, "no memory for a path");
	}
	return load(l, path, NULL, 0, out);
}

static int is_layout(struct layout *l)
{
	scoped(json_decrefp) json_t *j = NULL;
	int err = load_named(l, "oci-layout", &j);
	const char *version = err ? NULL : string_of(j, "imageLayoutVersion");

	if (err == -ENOENT)
		return fail(-EINVAL, "%s is no OCI image layout: it has no file \"oci-layout\"", l->dir);
	if (!err && (!version || strncmp(version, "1.", 2) != 0))
		err = fail(-EOPNOTSUPP, "%s: an image layout of a version that is not known", l->dir);
	return err;
}

static int find(struct layout *l, const char *tag, const char *platform, struct candidate **out)
{
	scoped(json_decrefp) json_t *index = NULL;
	int err = load_named(l, "index.json", &index);

	if (!err)
		err = collect(l, index, tag, NULL, 0);
	if (!err && !l->count)
		err = tag ? fail(-ENOENT, "%s holds no image of the tag \"%s\"", l->dir, tag)
			  : fail(-ENOENT, "%s holds no image", l->dir);
	return err ? err : choose(l, platform, out);
}

int oci_open(const char *spec, const char *platform, struct oci_image **out)
{
	scoped(layout_fini) struct layout l = { 0 };
	struct oci_image *o = calloc(1, sizeof(*o));
	struct candidate *c = NULL;
	const char *tag;
	int err = o ? 0 : fail(-ENOMEM, "no memory for an image");

	if (!err && !gcry_check_version("1.8.0"))
		err = fail(-EOPNOTSUPP, "libgcrypt is too old");
	if (!err)
		err = split(spec, &l.dir, &tag);
	if (!err)
		err = is_layout(&l);
	if (!err)
		err = find(&l, tag, platform, &c);
	if (!err)
		err = layers_of(&l, c, o);
	if (err)
		oci_close(o);
	else
		*out = o;
	return err;
}

void oci_close(struct oci_image *o)
{
	if (!o)
		return;
	for (u32 i = 0; i < o->layers; i++) {
		free(o->layer[i].path);
		free(o->layer[i].digest);
	}
	free(o->layer);
	free(o->name);
	free(o->platform);
	free(o);
}
