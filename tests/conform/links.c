/* Links: hard, symbolic, and files that have no name (yet, or any more). */
#include "conform/conform.h"

#include <stdio.h>
#include <string.h>

static void hard_links(struct t *t)
{
	struct fs_stat st;
	u64 ino;

	FILL("a", 10);
	OK(mkdir, "d", 0755);
	ino = STAT("a").ino;
	EQ(1, STAT("a").nlink);
	OK(link, "a", "d/b");
	EQ(2, STAT("a").nlink);
	EQ(ino, STAT("d/b").ino);
	OK(chmod, "d/b", 0600);
	EQ(0600, STAT("a").mode & 07777);
	OK(unlink, "a");
	ERR(-ENOENT, stat, "a", false, &st);
	EQ(1, STAT("d/b").nlink);
	t_expect_pattern(t, "d/b", 0, 10);
	ERR(-EPERM, link, "d", "e");
	ERR(-ENOENT, link, "d/b", "none/x");
}

static void links_of_every_type(struct t *t)
{
	OK(symlink, "target", "l");
	OK(mknod, "p", S_IFIFO | 0644, 0, 0);
	OK(mknod, "s", S_IFSOCK | 0644, 0, 0);
	OK(link, "l", "l2");
	OK(link, "p", "p2");
	OK(link, "s", "s2");
	EQ(2, STAT("l").nlink);
	EQ(S_IFLNK, STAT("l2").mode & S_IFMT);
	EQ(STAT("l").ino, STAT("l2").ino);
	EQ(2, STAT("p2").nlink);
	EQ(S_IFSOCK, STAT("s2").mode & S_IFMT);
}

static void many_links(struct t *t)
{
	char name[32];

	TOUCH("f");
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(link, "f", name);
	}
	EQ(1001, STAT("f").nlink);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(unlink, name);
	}
	EQ(1, STAT("f").nlink);
}

static void directory_links(struct t *t)
{
	char name[32];

	OK(mkdir, "d", 0755);
	EQ(2, STAT("d").nlink);
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		OK(mkdir, name, 0755);
		TOUCH("d/file");
		EQ(3 + i, STAT("d").nlink);
	}
	ERR(-ENOTEMPTY, rmdir, "d");
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		OK(rmdir, name);
	}
	EQ(2, STAT("d").nlink);
	ERR(-ENOTEMPTY, rmdir, "d");
	OK(unlink, "d/file");
	OK(rmdir, "d");
}

static void unlinked_open_file(struct t *t)
{
	struct fs_file *f;
	struct fs_stat st;
	u8 buf[64];
	u64 done;

	FILL("f", 64);
	f = OPEN("f", O_RDWR, 0);
	OK(unlink, "f");
	ERR(-ENOENT, stat, "f", false, &st);
	OK(fstat, f, &st);
	EQ(0, st.nlink);
	EQ(64, st.size);
	OK(pread, f, 0, buf, 64, &done);
	EQ(64, done);
	for (u32 i = 0; i < 64; i++)
		EQ(t_byte(i), buf[i]);
	OK(pwrite, f, 64, "more", 4, &done);
	OK(ftruncate, f, 66);
	OK(fstat, f, &st);
	EQ(66, st.size);
	/* The name is free for another file. */
	FILL("f", 3);
	EQ(3, STAT("f").size);
	TRUE(STAT("f").ino != st.ino);
	ERR(-ENOENT, flink, f, "again");
	CALL(forget);
	OK(pread, f, 0, buf, 64, &done);
	EQ(t_byte(63), buf[63]);
	t_close(t, f);
	EQ(3, STAT("f").size);
}

static void removed_open_directory(struct t *t)
{
	struct fs_dirent e[4];
	struct fs_file *f;
	struct fs_stat st;
	u32 n;

	OK(mkdir, "d", 0755);
	f = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	OK(rmdir, "d");
	OK(fstat, f, &st);
	EQ(0, st.nlink);
	EQ(S_IFDIR, st.mode & S_IFMT);
	int err = CALL(readdir, f, 0, e, 4, &n);
	TRUE(err == -ENOENT || (!err && n <= 2));
}

static void tmpfile_and_link(struct t *t)
{
	struct fs_file *f = &t->open[t->opens];
	struct fs_stat st;
	u64 done;
	int err;

	OK(mkdir, "d", 0755);
	err = CALL(open, "d", O_TMPFILE | O_RDWR, 0640, f);
	t_optional(t, __FILE__, __LINE__, "O_TMPFILE", err);
	t->opens++;
	t_expect_names(t, "d", "");
	OK(fstat, f, &st);
	EQ(0, st.nlink);
	EQ(S_IFREG | 0640, st.mode);
	OK(pwrite, f, 0, "unnamed", 7, &done);
	OK(flink, f, "d/named");
	EQ(1, STAT("d/named").nlink);
	EQ(st.ino, STAT("d/named").ino);
	t_expect_content(t, "d/named", "unnamed");
	OK(flink, f, "second");
	EQ(2, STAT("second").nlink);
	ERR(-EEXIST, flink, f, "second");
	f = OPEN("d", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	ERR(-ENOENT, flink, f, "third");
	f = OPEN("", O_TMPFILE | O_WRONLY, 0600);
	OK(pwrite, f, 100000, "x", 1, &done);
	t_expect_names(t, "", "d second");
}

static void symlinks(struct t *t)
{
	static const u32 lengths[] = { 1, 59, 60, 61, 255, 1000, 1023 };
	char target[4200], got[PATH_MAX];

	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(target, 't', sizeof(target));
		target[lengths[i]] = 0;
		OK(symlink, target, "l");
		OK(readlink, "l", got);
		TRUE(!strcmp(got, target));
		EQ(lengths[i], STAT("l").size);
		EQ(S_IFLNK | 0777, STAT("l").mode);
		OK(unlink, "l");
	}
	ERR(-ENOENT, symlink, "", "l");
	memset(target, 't', sizeof(target));
	target[4096] = 0;
	ERR(-ENAMETOOLONG, symlink, target, "l");
	TOUCH("f");
	ERR(-EINVAL, readlink, "f", got);
	ERR(-EINVAL, readlink, ".", got);
	t_expect_names(t, "", "f");
}

static void symlink_walk(struct t *t)
{
	struct fs_stat st;
	struct fs_file f;

	OK(mkdir, "d", 0755);
	FILL("d/f", 10);
	OK(symlink, "d", "ld");
	OK(symlink, "ld/f", "lf");
	OK(symlink, "../d/./f", "d/up");
	OK(symlink, "none", "dangling");
	OK(stat, "lf", true, &st);
	EQ(STAT("d/f").ino, st.ino);
	OK(stat, "ld/up", true, &st);
	EQ(STAT("d/f").ino, st.ino);
	ERR(-ENOENT, stat, "dangling", true, &st);
	ERR(-ELOOP, open, "lf", O_RDONLY | O_NOFOLLOW, 0, &f);
	/* A dangling link is where O_CREAT creates. */
	t_close(t, OPEN("dangling", O_CREAT | O_WRONLY, 0644));
	EQ(S_IFREG, STAT("none").mode & S_IFMT);
	OK(unlink, "ld");
	t_expect_names(t, "d", "f up");
}

static void symlink_loops(struct t *t)
{
	struct fs_stat st;
	char name[16], to[16];

	OK(symlink, "b", "a");
	OK(symlink, "a", "b");
	OK(symlink, "self", "self");
	ERR(-ELOOP, stat, "a", true, &st);
	ERR(-ELOOP, stat, "self", true, &st);
	ERR(-ELOOP, stat, "a/x", false, &st);
	ERR(-ELOOP, mkdir, "self/x", 0755);
	TOUCH("0");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "%d", i);
		snprintf(to, sizeof(to), "%d", i - 1);
		OK(symlink, to, name);
	}
	OK(stat, "40", true, &st);
	EQ(STAT("0").ino, st.ino);
	ERR(-ELOOP, stat, "41", true, &st);
}

const struct conform_test conform_links[] = {
	{ "links: hard", hard_links },
	{ "links: of every type", links_of_every_type },
	{ "links: a thousand", many_links },
	{ "links: of directories", directory_links },
	{ "links: an unlinked file stays until closed", unlinked_open_file },
	{ "links: a removed directory stays until closed", removed_open_directory },
	{ "links: O_TMPFILE", tmpfile_and_link },
	{ "links: symbolic, of every length", symlinks },
	{ "links: symbolic, followed", symlink_walk },
	{ "links: ELOOP after 40", symlink_loops },
	{ NULL, NULL },
};
