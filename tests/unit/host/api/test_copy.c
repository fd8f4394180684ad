/* Copies by werunos.h: where they go, what they are called, what stops them; volumes made and filled. */
#include "api/werunos.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct werunos_volume *v;

static const char *in(const char *name)
{
	static char path[4][128];
	static int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static int write_host(const char *name, const char *text)
{
	int fd = open(in(name), O_CREAT | O_WRONLY, 0640);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	close(fd);
	return n < 0 ? -1 : 0;
}

static int setup(void **state)
{
	const struct werunos_open_options o = { .write = true };

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/werunos-api.XXXXXX");
	if (!mkdtemp(dir) || mkdir(in("tree"), 0755) || mkdir(in("tree/sub"), 0700) || mkdir(in("out"), 0755))
		return -1;
	if (write_host("tree/one", "1") || write_host("tree/sub/two", "22") ||
	    symlink("one", in("tree/link")))
		return -1;
	return werunos_open("memfs:16M", &o, &v);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return werunos_close(v) || system(command);
}

static bool is(const char *path, uint64_t size_bytes)
{
	struct werunos_stat st;

	return !werunos_stat(v, path, WERUNOS_NOFOLLOW, &st) && st.size_bytes == size_bytes;
}

static bool there(const char *name)
{
	struct stat st;

	return !lstat(in(name), &st);
}

static void a_copy_is_called_as_its_path_says(void **state)
{
	struct werunos_report r;

	(void)state;
	assert_int_equal(werunos_import_tree(v, in("tree"), "/new", NULL, &r), 0);
	assert_int_equal(r.files, 2);
	assert_int_equal(r.directories, 2);
	assert_int_equal(r.others, 1);
	assert_int_equal(r.bytes, 3);
	assert_true(is("/new/one", 1) && is("/new/sub/two", 2) && is("/new/link", 3));
	/* A directory that is there is merged with; its content can be the destination. */
	assert_int_equal(werunos_mkdir(v, "/there", 0755), 0);
	assert_int_equal(werunos_import_tree(v, in("tree"), "/there", NULL, NULL), 0);
	assert_true(is("/there/one", 1));
	assert_int_equal(werunos_import_tree(v, in("tree/sub"), "/there/", NULL, NULL), 0);
	assert_true(is("/there/two", 2));
	/* A single file. */
	assert_int_equal(werunos_import_tree(v, in("tree/one"), "/there/uno", NULL, NULL), 0);
	assert_int_equal(werunos_import_tree(v, in("tree/one"), "/there/sub/", NULL, NULL), 0);
	assert_true(is("/there/uno", 1) && is("/there/sub/one", 1));
	assert_int_equal(werunos_import_tree(v, in("tree"), "/none/new", NULL, NULL), -ENOENT);
	assert_int_equal(werunos_import_tree(v, in("tree"), "/none/", NULL, NULL), -ENOENT);
	assert_int_equal(werunos_import_tree(v, in("nothing"), "/x", NULL, NULL), -ENOENT);
	assert_true(strstr(werunos_error_text(), "nothing") != NULL);
	/* Outwards. */
	assert_int_equal(werunos_export_tree(v, "/new", in("out/copy"), NULL, NULL), 0);
	assert_true(there("out/copy/sub/two"));
	assert_int_equal(werunos_export_tree(v, "/new/sub", in("out/"), NULL, NULL), 0);
	assert_true(there("out/two"));
	assert_int_equal(werunos_export_tree(v, "/new/one", in("out/"), NULL, NULL), 0);
	assert_true(there("out/one"));
	assert_int_equal(werunos_export_tree(v, "/nothing", in("out/x"), NULL, NULL), -ENOENT);
	assert_int_equal(werunos_copy(v, "/new", v, "/again", NULL, NULL), 0);
	assert_true(is("/again/sub/two", 2));
}

static void options_are_heard(void **state)
{
	static const char *const exclude[] = { "one", "new/sub/*" };
	const struct werunos_id_map map = { 0, 5000, 1 };
	struct werunos_copy_options o = { .exclude = exclude, .excludes = 1, .drop = WERUNOS_DROP_ALL };
	const struct werunos_copy_options mapped = { .uid_map = &map, .uid_maps = 1 };
	struct werunos_stat st;
	mode_t mask = umask(0);

	(void)state;
	umask(mask);
	o.umask = 027;
	assert_int_equal(werunos_import_tree(v, in("tree"), "/masked", &o, NULL), 0);
	assert_false(is("/masked/one", 1));
	assert_true(is("/masked/sub/two", 2));
	assert_int_equal(werunos_stat(v, "/masked", 0, &st), 0);
	assert_int_equal(st.mode & 07777, 0750);
	assert_int_equal(umask(mask), mask);
	assert_int_equal(werunos_import_tree(v, in("tree"), "/mapped", &mapped, NULL), 0);
	assert_int_equal(werunos_stat(v, "/mapped", 0, &st), 0);
	assert_int_equal(st.uid, geteuid() ? geteuid() : 5000);
}

static void who_stops_is_told(void **state)
{
	volatile int stop = 1;
	const struct werunos_copy_options o = { .stop = &stop };
	struct werunos_report r;

	(void)state;
	assert_int_equal(werunos_import_tree(v, in("tree"), "/stopped", &o, &r), -ECANCELED);
	assert_true(r.stopped);
	assert_int_equal(r.files, 0);
}

static void archives(void **state)
{
	const struct werunos_copy_options drop = { .drop = WERUNOS_DROP_OWNER };
	struct werunos_report r;

	(void)state;
	assert_int_equal(werunos_import_tree(v, in("tree"), "/tar", NULL, NULL), 0);
	assert_int_equal(werunos_export_tar(v, "/tar", in("a.tar.gz"), NULL, &r), 0);
	assert_int_equal(r.files, 2);
	assert_int_equal(werunos_mkdir(v, "/untar", 0755), 0);
	assert_int_equal(werunos_import_tar(v, in("a.tar.gz"), false, "/untar", NULL, &r), 0);
	assert_int_equal(r.files, 2);
	assert_true(is("/untar/sub/two", 2));
	assert_int_equal(werunos_import_tar(v, in("a.tar.gz"), false, "/nowhere", NULL, NULL), -ENOENT);
	assert_int_equal(werunos_import_tar(v, in("tree/one"), false, "/untar", NULL, NULL), -EBADMSG);
	assert_int_equal(werunos_export_tar(v, "/tar", in("b.tar"), &drop, NULL), -EINVAL);
	assert_int_equal(werunos_export_tar(v, "/nothing", in("b.tar"), NULL, NULL), -ENOENT);
	assert_false(there("b.tar"));
}

static void volumes_are_made(void **state)
{
	const struct werunos_open_options write = { .write = true };
	struct werunos_report r = { 0 };
	struct werunos_make_options o = { .from = in("tree"), .label = "made", .report = &r };
	const struct werunos_names names = { .label = "renamed", .uuid_random = true };
	struct werunos_identity before, after;
	struct werunos_volume *made;
	struct werunos_facts *facts;
	struct werunos_stat st;
	char image[96], notice[256] = "x";

	(void)state;
	snprintf(image, sizeof(image), "%s", in("new.img"));
	assert_int_equal(werunos_make("xfs", image, &o, NULL), -EOPNOTSUPP);
	assert_int_equal(werunos_make("ext4", image, NULL, NULL), -ENOENT);
	assert_int_equal(werunos_make("ext4", image, &o, &facts), 0);
	assert_int_equal(r.files, 2);
	assert_non_null(strstr(werunos_facts_text(facts, true), "\"ext4\""));
	assert_non_null(strstr(werunos_facts_text(facts, false), "ext4"));
	werunos_facts_free(facts);
	assert_int_equal(werunos_make("ext4", image, &o, NULL), -EEXIST);
	assert_int_equal(werunos_identify(image, NULL, &before), 0);
	assert_string_equal(before.label, "made");
	assert_int_equal(werunos_open(image, &write, &made), 0);
	assert_int_equal(werunos_stat(made, "/sub/two", 0, &st), 0);
	/* Who has it open to write has it alone. */
	assert_int_equal(werunos_relabel(image, NULL, &names, NULL, 0), -EBUSY);
	assert_int_equal(werunos_close(made), 0);
	assert_int_equal(werunos_relabel(image, NULL, &names, notice, sizeof(notice)), 0);
	assert_string_equal(notice, "");
	assert_int_equal(werunos_identify(image, NULL, &after), 0);
	assert_string_equal(after.label, "renamed");
	assert_memory_not_equal(before.uuid, after.uuid, sizeof(after.uuid));
	/* Only looked at: nothing can be changed. */
	assert_int_equal(werunos_open(image, NULL, &made), 0);
	assert_int_equal(werunos_mkdir(made, "/no", 0700), -EROFS);
	assert_int_equal(werunos_close(made), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_is_called_as_its_path_says),
		cmocka_unit_test(options_are_heard),
		cmocka_unit_test(who_stops_is_told),
		cmocka_unit_test(archives),
		cmocka_unit_test(volumes_are_made),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
