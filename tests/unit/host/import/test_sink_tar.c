/* What sink_tar writes, feed_tar gives back; twice the same bytes. */
#include "support/tar_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/werunos-sink.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static struct item *item(u32 mode, const char *path)
{
	struct item *it = item_new(path);

	assert_non_null(it);
	it->mode = mode;
	it->uid = 1;
	it->gid = 2;
	it->mtime.sec = 3;
	it->has = ITEM_OWNER | ITEM_MTIME;
	return it;
}

static void make(struct sink *k, struct item *it, int want)
{
	assert_int_equal(k->ops->make(k, it), want);
	item_free(it);
}

static int file(struct sink *k, struct item *it, u64 off, const char *data)
{
	struct sink_file *sf;
	char room[SINK_PAD_BYTES] = { 0 };
	int err;

	assert_int_equal(k->ops->begin(k, it, &sf), 0);
	memcpy(room, data, strlen(data));
	err = *data ? k->ops->write(k, sf, off, room, strlen(data)) : 0;
	err = k->ops->end(k, sf, it, err);
	item_free(it);
	return err;
}

static void special_items(struct sink *k)
{
	static const u8 acl[] = "\2\0\0\0\1\0\7\0\377\377\377\377\2\0\5\0\322\4\0\0\4\0\4\0\377\377\377\377"
				"\20\0\7\0\377\377\377\377\40\0\0\0\377\377\377\377";
	struct item *it = item(S_IFDIR | 02770, "d");

	it->mtime = (struct timespec64){ -2, 750000000 };
	it->atime = (struct timespec64){ 5, 1 };
	it->has |= ITEM_ATIME;
	assert_int_equal(item_add_xattr(it, "system.posix_acl_access", acl, sizeof(acl) - 1), 0);
	assert_int_equal(item_add_xattr(it, "system.posix_acl_default", acl, sizeof(acl) - 1), 0);
	assert_int_equal(item_add_xattr(it, "user.a=%b", "x\0\n=", 4), 0);
	assert_int_equal(item_add_xattr(it, "trusted.overlay.opaque", "", 0), 0);
	make(k, it, 0);
	it = item(S_IFCHR | 0600, "d/c");
	it->rdev_major = 4095;
	it->rdev_minor = 4000000000u;
	make(k, it, 0);
	it = item(S_IFIFO | 0600, "d/p");
	it->uid = 4294967294u;
	it->gid = 2097152;
	make(k, it, 0);
	make(k, item(S_IFSOCK | 0600, "d/s"), -EOPNOTSUPP);
	it = item(S_IFREG, "d/gone");
	it->kind = ITEM_WHITEOUT;
	make(k, it, -EOPNOTSUPP);
	it = item(S_IFLNK | 0777, "d/l");
	it->target = strdup("../\xff/x");
	make(k, it, 0);
	it = item(S_IFREG | 0644, "d/h");
	it->kind = ITEM_LINK;
	it->target = strdup("d/c");
	make(k, it, 0);
}

static void long_items(struct sink *k)
{
	char name[600];
	struct item *it;

	memset(name, 'n', sizeof(name));
	name[100] = 0;
	assert_int_equal(file(k, item(S_IFREG | 0644, name), 0, ""), 0);
	name[100] = 'n';
	name[101] = 0;
	assert_int_equal(file(k, item(S_IFREG | 0644, name), 0, ""), 0);
	name[200] = '/';
	name[101] = 'n';
	name[400] = 0;
	it = item(S_IFLNK | 0777, name);
	it->target = strdup(name);
	make(k, it, 0);
}

static void sparse_items(struct sink *k)
{
	struct item *it = item(S_IFREG | 0644, "holes");

	it->size_bytes = 3000;
	it->has |= ITEM_MAP;
	assert_int_equal(item_add_range(it, 10, 5), 0);
	assert_int_equal(item_add_range(it, 2000, 10), 0);
	assert_int_equal(file(k, it, 2003, "abcdefg"), 0);
	it = item(S_IFREG | 0644, "empty");
	it->size_bytes = 1ull << 62;
	it->has |= ITEM_MAP;
	assert_int_equal(file(k, it, 0, ""), 0);
	/* Nobody says where they are. */
	it = item(S_IFREG | 0644, "plain");
	it->size_bytes = 700;
	assert_int_equal(file(k, it, 650, "tail"), 0);
	/* Data where there was a hole, and beyond the end. */
	it = item(S_IFREG | 0644, "changed");
	it->size_bytes = 3000;
	it->has |= ITEM_MAP;
	assert_int_equal(item_add_range(it, 10, 5), 0);
	assert_int_equal(file(k, it, 12, "abcdefg"), -ESTALE);
	it = item(S_IFREG | 0644, "grown");
	it->size_bytes = 3;
	assert_int_equal(file(k, it, 0, "abcdefg"), -ESTALE);
}

static void write_all(const char *path)
{
	struct sink *k;
	struct sink_file *sf;
	struct item *it = item(S_IFREG | 0644, "unreadable");

	assert_int_equal(sink_tar(path, &k), 0);
	make(k, item(S_IFDIR | 0755, ""), 0);
	special_items(k);
	long_items(k);
	sparse_items(k);
	/* Nothing is left of what could not be read at all. */
	it->size_bytes = 5;
	assert_int_equal(k->ops->begin(k, it, &sf), 0);
	assert_int_equal(k->ops->end(k, sf, it, -EIO), -EIO);
	item_free(it);
	assert_int_equal(k->ops->finish(k), 0);
	k->ops->close(k);
}

static const char *wanted(void)
{
	static struct text t;
	char n[101], dots[3001];

	memset(n, 'n', 100);
	n[100] = 0;
	memset(dots, '.', 3000);
	text_reset(&t);
	text_add(&t, "d  0755 1:2 0 @3\n"
		     "d d 2770 1:2 0 @-2.750000000 a5.000000001");
	for (int i = 0; i < 2; i++)
		text_add(&t,
			 " {system.posix_acl_%s=\\x02\\x00\\x00\\x00\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff"
			 "\\x02\\x00\\x05\\x00\\xd2\\x04\\x00\\x00\\x04\\x00\\x04\\x00\\xff\\xff\\xff\\xff"
			 "\\x10\\x00\\x07\\x00\\xff\\xff\\xff\\xff \\x00\\x00\\x00\\xff\\xff\\xff\\xff}",
			 i ? "default" : "access");
	text_add(&t, " {user.a=%%b=x\\x00\\x0a=} {trusted.overlay.opaque=}\n"
		     "c d/c 0600 1:2 0 @3 4095,4000000000\n"
		     "p d/p 0600 4294967294:2097152 0 @3\n"
		     "l d/l 0777 1:2 0 @3 <../\\xff/x>\n"
		     "h d/h 0644 1:2 0 @3 <d/c>\n");
	text_add(&t, "f %s 0644 1:2 0 @3\nf %sn 0644 1:2 0 @3\n", n, n);
	text_add(&t, "l %s%s/%s%.99s 0777 1:2 0 @3 <%s%s/%s%.99s>\n", n, n, n, n, n, n, n, n);
	text_add(&t, "f holes 0644 1:2 3000 @3 [%.10s", dots);
	text_add_name(&t, "\0\0\0\0\0", 5);
	text_add(&t, "%.1985s", dots);
	text_add_name(&t, "\0\0\0abcdefg", 10);
	text_add(&t, "%.990s]\n", dots);
	return text_str(&t);
}

static void gives_back_what_it_was_given(void **state)
{
	struct text got = { 0 };

	(void)state;
	write_all(in_dir("a.tar"));
	assert_int_equal(make_read(in_dir("a.tar"), false, &got), 0);
	assert_memory_equal(text_str(&got), wanted(), strlen(wanted()));
	assert_non_null(strstr(text_str(&got), "f empty 0644 1:2 4611686018427387904 @3 [....."));
	assert_non_null(strstr(text_str(&got), "\\x00\\x00tail\\x00"));
	assert_non_null(strstr(text_str(&got), "f grown 0644 1:2 3 @3 [\\x00\\x00\\x00]\n"));
	assert_null(strstr(text_str(&got), "unreadable"));
	text_free(&got);
}

static size_t slurp(const char *path, char **out)
{
	FILE *f = fopen(path, "r");
	struct stat st;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	*out = malloc((size_t)st.st_size + 1);
	assert_int_equal(fread(*out, 1, (size_t)st.st_size, f), st.st_size);
	fclose(f);
	return (size_t)st.st_size;
}

static void twice_the_same_packed_or_not(void **state)
{
	static const char *const names[][2] = { { "b.tar", "c.tar" },
						{ "b.tar.gz", "c.tar.gz" },
						{ "b.tar.zst", "c.tar.zst" },
						{ "b.tar.xz", "c.tar.xz" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct text got = { 0 };
		char *a, *b;
		size_t n;

		write_all(in_dir(names[i][0]));
		sleep(i == 1); /* what counts seconds shows it */
		write_all(in_dir(names[i][1]));
		n = slurp(in_dir(names[i][0]), &a);
		assert_int_equal(slurp(in_dir(names[i][1]), &b), n);
		assert_memory_equal(a, b, n);
		assert_int_equal(make_read(in_dir(names[i][0]), false, &got), 0);
		assert_memory_equal(text_str(&got), wanted(), strlen(wanted()));
		free(a);
		free(b);
		text_free(&got);
	}
}

static void what_cannot_be_written(void **state)
{
	struct sink *k;
	int err = 0;

	(void)state;
	assert_int_equal(sink_tar("/none/x.tar", &k), -ENOENT);
	assert_int_equal(sink_tar("/dev/full", &k), 0);
	for (int i = 0; !err && i < 10000; i++) {
		struct item *it = item(S_IFDIR | 0755, "d");

		err = k->ops->make(k, it);
		item_free(it);
	}
	assert_int_equal(err, -ENOSPC);
	assert_non_null(strstr(err_text(), "/dev/full cannot be written"));
	k->ops->close(k);
	assert_int_equal(sink_tar("/dev/full", &k), 0);
	assert_int_equal(k->ops->finish(k), -ENOSPC);
	k->ops->close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_it_was_given),
		cmocka_unit_test(twice_the_same_packed_or_not),
		cmocka_unit_test(what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
