/* Names: which are legal, how long, and what a path means. */
#include "conform/conform.h"

#include <stdio.h>
#include <string.h>

static void name_lengths(struct t *t)
{
	char name[300];
	struct fs_stat st;

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	TOUCH(name);
	t_expect_names(t, "", name);
	EQ(0, STAT(name).size);
	OK(unlink, name);
	OK(mkdir, name, 0755);
	OK(rmdir, name);
	name[255] = 'n';
	name[256] = 0;
	ERR(-ENAMETOOLONG, mkdir, name, 0755);
	ERR(-ENAMETOOLONG, mknod, name, S_IFREG | 0644, 0, 0);
	ERR(-ENAMETOOLONG, symlink, "x", name);
	ERR(-ENAMETOOLONG, stat, name, false, &st);
	ERR(-ENAMETOOLONG, unlink, name);
	ERR(-ENAMETOOLONG, rmdir, name);
	TOUCH("a");
	ERR(-ENAMETOOLONG, rename, "a", name, 0);
	ERR(-ENAMETOOLONG, rename, name, "a", 0);
	ERR(-ENAMETOOLONG, link, "a", name);
	t_expect_names(t, "", "a");
}

static void every_byte(struct t *t)
{
	char name[16];

	for (int c = 1; c < 256; c++) {
		if (c == '/' || c == '.')
			continue;
		snprintf(name, sizeof(name), "%c", c);
		TOUCH(name);
	}
	for (int c = 1; c < 256; c++) {
		if (c == '/' || c == '.')
			continue;
		snprintf(name, sizeof(name), "%c", c);
		EQ(S_IFREG, STAT(name).mode & S_IFMT);
		OK(unlink, name);
	}
	t_expect_names(t, "", "");
}

static void case_and_dots(struct t *t)
{
	TOUCH("a");
	TOUCH("A");
	TOUCH("...");
	TOUCH(".a");
	TOUCH("a.");
	TOUCH("..a");
	t_expect_names(t, "", "... ..a .a A a a.");
	TRUE(STAT("a").ino != STAT("A").ino);
	EQ(STAT("").ino, STAT(".").ino);
	OK(mkdir, "d", 0755);
	EQ(STAT("").ino, STAT("d/..").ino);
	EQ(STAT("d").ino, STAT("d/./../d/.").ino);
}

static void missing_and_not_dir(struct t *t)
{
	struct fs_stat st;
	struct fs_file f;

	TOUCH("f");
	ERR(-ENOENT, stat, "none", false, &st);
	ERR(-ENOENT, stat, "none/x", false, &st);
	ERR(-ENOTDIR, stat, "f/x", false, &st);
	ERR(-ENOTDIR, stat, "f/.", false, &st);
	ERR(-ENOENT, open, "none", O_RDONLY, 0, &f);
	ERR(-ENOENT, open, "none/x", O_CREAT | O_WRONLY, 0644, &f);
	ERR(-ENOTDIR, open, "f/x", O_CREAT | O_WRONLY, 0644, &f);
	ERR(-ENOTDIR, open, "f", O_RDONLY | O_DIRECTORY, 0, &f);
	ERR(-ENOENT, mkdir, "none/x", 0755);
	ERR(-ENOTDIR, mkdir, "f/x", 0755);
	ERR(-ENOENT, unlink, "none");
	ERR(-ENOENT, rmdir, "none");
	ERR(-ENOTDIR, rmdir, "f");
	ERR(-ENOENT, link, "none", "x");
	ERR(-ENOENT, rename, "none", "x", 0);
	ERR(-ENOENT, symlink, "x", "none/x");
	ERR(-ENOENT, mknod, "none/x", S_IFIFO | 0644, 0, 0);
	ERR(-ENOENT, chmod, "none", 0644);
	t_expect_names(t, "", "f");
}

static void existing(struct t *t)
{
	struct fs_file f;

	TOUCH("f");
	OK(mkdir, "d", 0755);
	OK(symlink, "none", "l");
	ERR(-EEXIST, mkdir, "f", 0755);
	ERR(-EEXIST, mkdir, "d", 0755);
	ERR(-EEXIST, mkdir, "l", 0755);
	ERR(-EEXIST, mknod, "f", S_IFREG | 0644, 0, 0);
	ERR(-EEXIST, symlink, "x", "f");
	ERR(-EEXIST, symlink, "x", "l");
	ERR(-EEXIST, link, "f", "d");
	ERR(-EEXIST, link, "f", "f");
	ERR(-EEXIST, open, "f", O_CREAT | O_EXCL | O_WRONLY, 0644, &f);
	ERR(-EEXIST, open, "l", O_CREAT | O_EXCL | O_WRONLY, 0644, &f);
	ERR(-EEXIST, open, "d", O_CREAT | O_EXCL | O_WRONLY, 0644, &f);
	ERR(-EISDIR, open, "d", O_CREAT | O_WRONLY, 0644, &f);
	ERR(-EISDIR, open, "d", O_WRONLY, 0, &f);
	ERR(-EISDIR, open, "d", O_RDWR, 0, &f);
	ERR(-EISDIR, unlink, "d");
	t_expect_names(t, "", "d f l");
}

static void dots_cannot_be_made(struct t *t)
{
	OK(mkdir, "d", 0755);
	ERR(-EEXIST, mkdir, "d/.", 0755);
	ERR(-EEXIST, mkdir, "d/..", 0755);
	ERR(-EINVAL, rmdir, "d/.");
	ERR(-ENOTEMPTY, rmdir, "d/..");
	ERR(-EBUSY, rename, "d/.", "e", 0);
	ERR(-EBUSY, rename, "d", "d/..", 0);
	t_expect_names(t, "", "d");
}

static void long_paths(struct t *t)
{
	char path[5000] = "";
	struct fs_stat st;
	size_t len;

	/* 4095 bytes are a path; 4096 are none. */
	OK(mkdir, "d", 0755);
	TOUCH("d/f");
	strcpy(path, "d/");
	while (strlen(path) < 4092)
		strcat(path, "./");
	len = strlen(path);
	memset(path + len, '/', 4094 - len);
	strcpy(path + 4094, "f");
	EQ(4095, strlen(path));
	OK(stat, path, false, &st);
	EQ(STAT("d/f").ino, st.ino);
	if (!strcmp(t->fs->ops->kind, "dir")) {
		memmove(path + 3, path + 2, strlen(path + 2) + 1);
		path[2] = '/';
		ERR(-ENAMETOOLONG, stat, path, false, &st);
	}
}

static void deep_directories(struct t *t)
{
	char path[4096] = "";

	for (int i = 0; i < 200; i++) {
		sprintf(path + strlen(path), "%sdeep%d", i ? "/" : "", i % 10);
		OK(mkdir, path, 0755);
	}
	strcat(path, "/f");
	FILL(path, 10);
	t_expect_pattern(t, path, 0, 10);
	EQ(2, STAT("deep0/deep1/deep2").nlink - 1);
}

static void trailing_slash(struct t *t)
{
	struct fs_stat st;
	struct fs_file f;

	TOUCH("f");
	OK(mkdir, "d", 0755);
	OK(symlink, "d", "ld");
	OK(stat, "d/", false, &st);
	OK(stat, "ld/", false, &st);
	EQ(STAT("d").ino, st.ino);
	ERR(-ENOTDIR, stat, "f/", false, &st);
	ERR(-EISDIR, open, "new/", O_CREAT | O_WRONLY, 0644, &f);
	OK(mkdir, "e/", 0755);
	OK(rmdir, "e/");
	t_expect_names(t, "", "d f ld");
}

const struct conform_test conform_names[] = {
	{ "names: 255 bytes and no more", name_lengths },
	{ "names: every legal byte", every_byte },
	{ "names: case, dots", case_and_dots },
	{ "names: ENOENT and ENOTDIR", missing_and_not_dir },
	{ "names: EEXIST and EISDIR", existing },
	{ "names: dot and dot-dot", dots_cannot_be_made },
	{ "names: paths of 4095 bytes", long_paths },
	{ "names: 200 directories deep", deep_directories },
	{ "names: a slash at the end", trailing_slash },
	{ NULL, NULL },
};
