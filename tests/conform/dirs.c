/* Reading directories: complete, without repetition, and steady while names come and go. */
#include "conform/conform.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void types_and_inodes(struct t *t)
{
	static const char *const names[] = { "chr", "dir", "fifo", "link", "reg", "sock" };
	static const u8 types[] = { DT_CHR, DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_SOCK };
	struct fs_dirent *list;
	u32 n;

	OK(mkdir, "d", 0755);
	TOUCH("d/reg");
	OK(mkdir, "d/dir", 0755);
	OK(symlink, "x", "d/link");
	OK(mknod, "d/fifo", S_IFIFO | 0644, 0, 0);
	OK(mknod, "d/sock", S_IFSOCK | 0644, 0, 0);
	/* 0:0 is what a whiteout is, and the one device that needs no privilege. */
	OK(mknod, "d/chr", S_IFCHR | 0644, 0, 0);
	DO(fs_list(t->fs, "d", &list, &n));
	EQ(ARRAY_SIZE(names), n);
	for (u32 i = 0; i < n; i++) {
		char path[64];

		snprintf(path, sizeof(path), "d/%s", names[i]);
		TRUE(!strcmp(list[i].name, names[i]));
		TRUE(list[i].type == types[i] || list[i].type == DT_UNKNOWN);
		EQ(STAT(path).ino, list[i].ino);
	}
	free(list);
}

static void dots(struct t *t)
{
	struct fs_dirent e[8];
	struct fs_file *f;
	u32 n, seen = 0;

	OK(mkdir, "d", 0755);
	f = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	OK(readdir, f, 0, e, 8, &n);
	for (u32 i = 0; i < n; i++) {
		if (!strcmp(e[i].name, "."))
			EQ(STAT("d").ino, e[i].ino);
		else if (!strcmp(e[i].name, ".."))
			EQ(STAT("").ino, e[i].ino);
		else
			FAIL("an empty directory holds %s", e[i].name);
		seen++;
	}
	EQ(2, seen);
	OK(readdir, f, e[n - 1].next_pos, e, 8, &n);
	EQ(0, n);
}

#define MANY 10000

static void ten_thousand(struct t *t)
{
	struct fs_dirent *list;
	struct fs_stat st;
	char name[64];
	u32 n;

	OK(mkdir, "d", 0755);
	for (u32 i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "d/entry-%u-%.*s", i, (int)(i % 30),
			 "abcdefghijklmnopqrstuvwxyz0123");
		OK(mknod, name, S_IFREG | 0644, 0, 0);
	}
	DO(fs_list(t->fs, "d", &list, &n));
	EQ(MANY, n);
	for (u32 i = 1; i < n; i++)
		if (!strcmp(list[i].name, list[i - 1].name))
			FAIL("%s is listed twice", list[i].name);
	free(list);
	for (u32 i = 0; i < MANY; i += 97) {
		snprintf(name, sizeof(name), "d/entry-%u-%.*s", i, (int)(i % 30),
			 "abcdefghijklmnopqrstuvwxyz0123");
		OK(stat, name, false, &st);
	}
	ERR(-ENOENT, stat, "d/entry-10000-", false, &st);
	/* Every second one goes. */
	for (u32 i = 0; i < MANY; i += 2) {
		snprintf(name, sizeof(name), "d/entry-%u-%.*s", i, (int)(i % 30),
			 "abcdefghijklmnopqrstuvwxyz0123");
		OK(unlink, name);
	}
	DO(fs_list(t->fs, "d", &list, &n));
	free(list);
	EQ(MANY / 2, n);
	ERR(-ENOTEMPTY, rmdir, "d");
}

/* Names that are there all the time are seen exactly once, whatever else changes meanwhile. */
static void steady_while_changing(struct t *t)
{
	enum { STAY = 600 };
	static u8 seen[STAY];
	struct fs_dirent e[16];
	struct fs_file *f;
	char name[64];
	u64 pos = 0;
	u32 n, round = 0;

	memset(seen, 0, sizeof(seen));
	OK(mkdir, "d", 0755);
	for (u32 i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "d/stay%u", i);
		OK(mknod, name, S_IFREG | 0644, 0, 0);
		snprintf(name, sizeof(name), "d/goes%u", i);
		OK(mknod, name, S_IFREG | 0644, 0, 0);
	}
	f = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	for (;;) {
		OK(readdir, f, pos, e, ARRAY_SIZE(e), &n);
		if (!n)
			break;
		for (u32 i = 0; i < n; i++) {
			u32 id;

			if (sscanf(e[i].name, "stay%u", &id) == 1 && seen[id]++)
				FAIL("%s is listed twice", e[i].name);
		}
		pos = e[n - 1].next_pos;
		if (round < 40) {
			snprintf(name, sizeof(name), "d/comes%u", round);
			OK(mknod, name, S_IFREG | 0644, 0, 0);
		}
		for (u32 i = 0; i < 6 && round * 6 + i < STAY; i++) {
			snprintf(name, sizeof(name), "d/goes%u", (round * 6 + i) * 7 % STAY);
			OK(unlink, name);
		}
		if (++round > 10000)
			FAIL("a directory without end");
	}
	for (u32 i = 0; i < STAY; i++)
		if (!seen[i])
			FAIL("stay%u was not listed", i);
}

static void positions(struct t *t)
{
	static struct fs_dirent all[256], again[256];
	struct fs_file *f;
	char name[64];
	u64 pos = 0;
	u32 n, total = 0;

	OK(mkdir, "d", 0755);
	for (u32 i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "d/n%u", i);
		TOUCH(name);
	}
	f = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	do {
		OK(readdir, f, pos, all + total, 7, &n);
		total += n;
		pos = total ? all[total - 1].next_pos : 0;
	} while (n && total < 210);
	EQ(202, total);
	/* From every position the rest is the same. */
	for (u32 i = 0; i < total; i += 13) {
		OK(readdir, f, all[i].next_pos, again, 256 - 1, &n);
		EQ(total - i - 1, n);
		for (u32 k = 0; k < n; k++)
			TRUE(!strcmp(all[i + 1 + k].name, again[k].name));
	}
	OK(readdir, f, 0, again, 3, &n);
	TRUE(!strcmp(all[0].name, again[0].name));
}

static void removed_while_listing(struct t *t)
{
	struct fs_dirent e[10];
	struct fs_file *f;
	char name[300];
	u32 n, left = 500;

	OK(mkdir, "d", 0755);
	for (u32 i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "d/%u", i);
		TOUCH(name);
	}
	/* As rm -r does: list some, remove them, go on from there. */
	f = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	for (u64 pos = 0;;) {
		OK(readdir, f, pos, e, 10, &n);
		if (!n)
			break;
		pos = e[n - 1].next_pos;
		for (u32 i = 0; i < n; i++) {
			if (e[i].name[0] == '.')
				continue;
			snprintf(name, sizeof(name), "d/%s", e[i].name);
			OK(unlink, name);
			left--;
		}
	}
	EQ(0, left);
	OK(rmdir, "d");
}

static void readdir_of_a_file(struct t *t)
{
	struct fs_dirent e[2];
	struct fs_file *f;
	u8 buf[8];
	u64 done;
	u32 n;

	TOUCH("f");
	OK(mkdir, "d", 0755);
	f = OPEN("f", O_RDONLY, 0);
	ERR(-ENOTDIR, readdir, f, 0, e, 2, &n);
	f = OPEN("d", O_RDONLY, 0);
	ERR(-EISDIR, pread, f, 0, buf, 8, &done);
}

const struct conform_test conform_dirs[] = {
	{ "dirs: types and inode numbers", types_and_inodes },
	{ "dirs: dot and dot-dot are listed", dots },
	{ "dirs: 10,000 entries", ten_thousand },
	{ "dirs: steady while names come and go", steady_while_changing },
	{ "dirs: positions", positions },
	{ "dirs: removed while listing", removed_while_listing },
	{ "dirs: not a directory", readdir_of_a_file },
	{ NULL, NULL },
};
