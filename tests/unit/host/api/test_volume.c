/* What werunos.h says of volumes, files and errors, on a volume in memory. */
#include "api/werunos.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct werunos_volume *v;

static int setup(void **state)
{
	const struct werunos_open_options o = { .write = true, .has_owner = true, .uid = 7, .gid = 8 };

	(void)state;
	return werunos_open("memfs:16M", &o, &v);
}

static int teardown(void **state)
{
	(void)state;
	return werunos_close(v);
}

static void write_file(const char *path, const char *text)
{
	struct werunos_file *f;

	assert_int_equal(werunos_file_open(v, path, O_CREAT | O_WRONLY | O_TRUNC, 0640, &f), 0);
	assert_int_equal(werunos_file_write(f, 0, text, strlen(text), NULL), 0);
	assert_int_equal(werunos_file_sync(f), 0);
	werunos_file_close(f);
}

/* ---- files ---- */

static void bytes_come_back(void **state)
{
	struct werunos_stat st;
	struct werunos_file *f;
	char buf[32];
	size_t n;

	(void)state;
	write_file("/bytes", "0123456789");
	assert_int_equal(werunos_file_open(v, "/bytes", O_RDWR | O_APPEND, 0, &f), 0);
	assert_int_equal(werunos_file_read(f, 7, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, 3);
	assert_memory_equal(buf, "789", 3);
	assert_int_equal(werunos_file_write(f, 0, "ab", 2, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(werunos_file_read(f, 10, buf, sizeof(buf), &n), 0);
	assert_memory_equal(buf, "ab", 2);
	assert_int_equal(werunos_file_truncate(f, 1), 0);
	assert_int_equal(werunos_file_stat(f, &st), 0);
	assert_int_equal(st.size_bytes, 1);
	werunos_file_close(f);
	assert_int_equal(werunos_truncate(v, "/bytes", 5000), 0);
	assert_int_equal(werunos_stat(v, "/bytes", 0, &st), 0);
	assert_int_equal(st.size_bytes, 5000);
	assert_int_equal(st.mode, S_IFREG | 0640);
	assert_int_equal(st.uid, 7);
	assert_int_equal(st.gid, 8);
}

static void files_are_opened_for_something(void **state)
{
	struct werunos_file *f;
	char c = 0;
	size_t n = 9;

	(void)state;
	write_file("/only", "x");
	assert_int_equal(werunos_file_open(v, "/only", O_RDONLY, 0, &f), 0);
	assert_int_equal(werunos_file_write(f, 0, &c, 1, &n), -EBADF);
	assert_int_equal(n, 0);
	assert_int_equal(werunos_file_truncate(f, 0), -EBADF);
	/* A volume with an open file stays open. */
	assert_int_equal(werunos_close(v), -EBUSY);
	werunos_file_close(f);
	assert_int_equal(werunos_file_open(v, "/only", O_WRONLY, 0, &f), 0);
	assert_int_equal(werunos_file_read(f, 0, &c, 1, &n), -EBADF);
	werunos_file_close(f);
	assert_int_equal(werunos_file_open(v, "/", O_RDONLY, 0, &f), -EISDIR);
	assert_int_equal(werunos_file_open(v, "/only", O_RDONLY | O_DIRECTORY, 0, &f), -EINVAL);
	assert_int_equal(werunos_file_open(v, "/only", O_CREAT | O_EXCL | O_WRONLY, 0600, &f), -EEXIST);
	assert_int_equal(werunos_mknod(v, "/fifo", S_IFIFO | 0600, 0, 0), 0);
	assert_int_equal(werunos_file_open(v, "/fifo", O_RDONLY, 0, &f), -ENODEV);
	werunos_file_close(NULL);
	assert_int_equal(werunos_close(NULL), 0);
}

/* ---- names ---- */

static void names_are_made_moved_and_taken_away(void **state)
{
	struct werunos_stat st;
	char target[32];
	mode_t mask;

	(void)state;
	mask = umask(077);
	assert_int_equal(werunos_mkdir(v, "/d", 0755), 0);
	assert_int_equal(umask(mask), 077);
	assert_int_equal(werunos_stat(v, "/d", 0, &st), 0);
	assert_int_equal(st.mode, S_IFDIR | 0755);
	assert_int_equal(werunos_mkdir(v, "/d", 0755), -EEXIST);
	assert_int_equal(werunos_mkdir(v, "/none/d", 0755), -ENOENT);
	assert_int_equal(werunos_mkdir(v, "/", 0755), -EINVAL);
	assert_int_equal(werunos_mkdir(v, "/slash/", 0755), 0);
	write_file("/d/f", "f");
	assert_int_equal(werunos_link(v, "/d/f", "/g"), 0);
	assert_int_equal(werunos_stat(v, "/g", 0, &st), 0);
	assert_int_equal(st.links, 2);
	assert_int_equal(werunos_symlink(v, "d/f", "/s"), 0);
	assert_int_equal(werunos_readlink(v, "/s", target, sizeof(target)), 0);
	assert_string_equal(target, "d/f");
	assert_int_equal(werunos_readlink(v, "/s", target, 3), -ERANGE);
	assert_int_equal(werunos_stat(v, "/s", WERUNOS_NOFOLLOW, &st), 0);
	assert_true(S_ISLNK(st.mode));
	assert_int_equal(werunos_stat(v, "/s", 0, &st), 0);
	assert_true(S_ISREG(st.mode));
	assert_int_equal(werunos_stat(v, "/d/f/", 0, &st), -ENOTDIR);
	assert_int_equal(werunos_symlink(v, "x", "/t/"), -ENOENT);
	assert_int_equal(werunos_unlink(v, "/d/f/"), -ENOTDIR);
	assert_int_equal(werunos_unlink(v, "/d"), -EISDIR);
	assert_int_equal(werunos_rmdir(v, "/d"), -ENOTEMPTY);
	assert_int_equal(werunos_rename(v, "/d/f", "/h/", 0), -ENOTDIR);
	assert_int_equal(werunos_rename(v, "/d/f", "/h", 0), 0);
	assert_int_equal(werunos_rename(v, "/d", "/e/", 0), 0);
	assert_int_equal(werunos_rmdir(v, "/e/"), 0);
	assert_int_equal(werunos_rename(v, "/h", "/slash", 1 /* RENAME_NOREPLACE */), -EEXIST);
	assert_int_equal(werunos_mknod(v, "/null", S_IFCHR | 0666, 1, 3), 0);
	assert_int_equal(werunos_stat(v, "/null", 0, &st), 0);
	assert_int_equal(st.rdev_major, 1);
	assert_int_equal(st.rdev_minor, 3);
	assert_int_equal(werunos_mknod(v, "/no", S_IFDIR | 0700, 0, 0), -EINVAL);
}

static void attributes(void **state)
{
	const struct werunos_time then = { -5, 999999999 }, wrong = { 0, 1000000000 };
	struct werunos_stat st;
	char buf[64];
	size_t n;

	(void)state;
	write_file("/a", "a");
	assert_int_equal(werunos_symlink(v, "a", "/to-a"), 0);
	assert_int_equal(werunos_chmod(v, "/to-a", 04711), 0);
	assert_int_equal(werunos_chown(v, "/a", 0, 1000, UINT32_MAX), 0);
	assert_int_equal(werunos_chown(v, "/to-a", WERUNOS_NOFOLLOW, 3, 4), 0);
	assert_int_equal(werunos_chmod(v, "/a", 04711), 0);
	assert_int_equal(werunos_utimes(v, "/a", 0, NULL, &then), 0);
	assert_int_equal(werunos_utimes(v, "/a", 0, &wrong, NULL), -EINVAL);
	assert_int_equal(werunos_stat(v, "/a", 0, &st), 0);
	assert_int_equal(st.mode, S_IFREG | 04711);
	assert_int_equal(st.uid, 1000);
	assert_int_equal(st.gid, 8);
	assert_int_equal(st.modified.sec, -5);
	assert_int_equal(st.modified.nsec, 999999999);
	assert_int_equal(werunos_stat(v, "/to-a", WERUNOS_NOFOLLOW, &st), 0);
	assert_int_equal(st.uid, 3);
	assert_int_equal(werunos_setxattr(v, "/a", 0, "user.x", "value", 5, 0), 0);
	assert_int_equal(werunos_setxattr(v, "/a", 0, "user.x", "value", 5, XATTR_CREATE), -EEXIST);
	assert_int_equal(werunos_getxattr(v, "/a", 0, "user.x", NULL, 0, &n), 0);
	assert_int_equal(n, 5);
	assert_int_equal(werunos_getxattr(v, "/a", 0, "user.x", buf, 2, &n), -ERANGE);
	assert_int_equal(werunos_getxattr(v, "/to-a", 0, "user.x", buf, sizeof(buf), &n), 0);
	assert_memory_equal(buf, "value", 5);
	assert_int_equal(werunos_listxattr(v, "/a", 0, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, 7);
	assert_string_equal(buf, "user.x");
	assert_int_equal(werunos_removexattr(v, "/a", 0, "user.x"), 0);
	assert_int_equal(werunos_removexattr(v, "/a", 0, "user.x"), -ENODATA);
}

/* ---- listings ---- */

struct seen {
	uint32_t count, directories;
	int stop_at;
};

/* A callback may ask for more, and make names: nothing is locked. */
static int look(void *ctx, const struct werunos_entry *e)
{
	struct seen *seen = ctx;
	struct werunos_stat st;
	char path[300];

	snprintf(path, sizeof(path), "/many/%s", e->name);
	assert_int_equal(strlen(e->name), e->name_bytes);
	assert_int_equal(werunos_stat(v, path, 0, &st), 0);
	assert_int_equal(st.ino, e->ino);
	assert_int_equal(e->type, S_ISDIR(st.mode) ? DT_DIR : DT_REG);
	assert_int_equal(werunos_chmod(v, path, 0700), 0);
	seen->count++;
	return seen->stop_at && (int)seen->count == seen->stop_at ? 42 : 0;
}

static int visit(void *ctx, const struct werunos_visit *e)
{
	struct seen *seen = ctx;

	assert_int_equal(e->err, 0);
	assert_int_equal(e->depth, e->path[0] ? 1 : 0);
	seen->count++;
	seen->directories += S_ISDIR(e->stat->mode);
	return 0;
}

static void listings(void **state)
{
	struct seen all = { 0 }, some = { .stop_at = 300 }, walk = { 0 };
	char path[64];

	(void)state;
	assert_int_equal(werunos_mkdir(v, "/many", 0755), 0);
	assert_int_equal(werunos_mkdir(v, "/many/dir", 0755), 0);
	for (int i = 0; i < 999; i++) {
		snprintf(path, sizeof(path), "/many/file-%d", i);
		assert_int_equal(werunos_mknod(v, path, S_IFREG | 0600, 0, 0), 0);
	}
	assert_int_equal(werunos_readdir(v, "/many", look, &all), 0);
	assert_int_equal(all.count, 1000);
	assert_int_equal(werunos_readdir(v, "/many", look, &some), 42);
	assert_int_equal(some.count, 300);
	assert_int_equal(werunos_readdir(v, "/many/file-1", look, &all), -ENOTDIR);
	assert_int_equal(werunos_walk(v, "/many", visit, &walk), 0);
	assert_int_equal(walk.count, 1001);
	assert_int_equal(walk.directories, 2);
}

/* ---- volumes ---- */

static void facts(void **state)
{
	struct werunos_identity id;
	struct werunos_info info;

	(void)state;
	assert_int_equal(werunos_info(v, &info), 0);
	assert_string_equal(info.type, "memfs");
	assert_false(info.read_only);
	assert_true(info.blocks_free * info.block_bytes > 8 << 20);
	assert_int_equal(werunos_sync(v), 0);
	assert_int_equal(werunos_identify("memfs:1M", NULL, &id), -EOPNOTSUPP);
	assert_string_equal(werunos_version(), WERUNOS_VERSION);
}

static void errors_have_sentences(void **state)
{
	struct werunos_volume *none = NULL;
	struct werunos_stat st;

	(void)state;
	assert_int_equal(werunos_open("/nonexistent/disk.img", NULL, &none), -ENOENT);
	assert_string_equal(werunos_error_text(), "/nonexistent/disk.img does not exist");
	assert_null(none);
	/* One that nobody made a sentence for. */
	assert_int_equal(werunos_stat(v, "/nothing", 0, &st), -ENOENT);
	assert_string_equal(werunos_error_text(), strerror(ENOENT));
	assert_int_equal(werunos_mkdir(v, "/", 0700), -EINVAL);
	assert_string_equal(werunos_error_text(), "it is the volume's root directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_back),
		cmocka_unit_test(files_are_opened_for_something),
		cmocka_unit_test(names_are_made_moved_and_taken_away),
		cmocka_unit_test(attributes),
		cmocka_unit_test(listings),
		cmocka_unit_test(facts),
		cmocka_unit_test(errors_have_sentences),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
