/* Limits and states: full volumes, statfs, immutable and append-only files, durability calls. */
#include "conform/conform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_MAX (600ull << 20) /* a volume with more room is not filled */

static void full_volume(struct t *t)
{
	enum { CHUNK = 1 << 20 };
	u8 *buf = malloc(CHUNK);
	struct fs_statfs before, after;
	struct fs_file *f;
	u64 off = 0, done, small;
	int err;

	for (u32 i = 0; i < CHUNK; i++)
		buf[i] = t_byte(i);
	err = CALL(statfs, &before);
	if (err || before.blocks_free * before.block_bytes > FULL_MAX) {
		free(buf);
		DO(err);
		SKIP("too much room to fill");
	}
	f = OPEN("big", O_CREAT | O_RDWR, 0644);
	do {
		u64 in = off % CHUNK;

		err = CALL(pwrite, f, off, buf + in, CHUNK - in, &done);
		off += done;
	} while (!err && done);
	free(buf);
	EQ((u32)-ENOSPC, (u32)err);
	TRUE(off > before.blocks_free * before.block_bytes / 2);
	EQ(off, STAT("big").size);
	/* Nothing accepted is lost. */
	OK(fsync, f, false);
	for (small = 0; small + CHUNK <= off; small += 16ull * CHUNK) {
		u8 b[64];

		OK(pread, f, small + 1000, b, 64, &done);
		for (u32 i = 0; i < 64; i++)
			EQ(t_byte(1000 + i), b[i]);
	}
	/* Names can go, and room comes back. */
	OK(unlink, "big");
	t_close(t, f);
	/* Behind a mount the last close is a message, which nobody waits for. */
	for (u32 ms = 0; ms < 2000; ms += 20) {
		CALL(sync);
		OK(statfs, &after);
		if (after.blocks_free + 64 >= before.blocks_free)
			break;
		usleep(20000);
	}
	TRUE(after.blocks_free + 64 >= before.blocks_free);
	FILL("again", 1 << 20);
	t_expect_pattern(t, "again", 0, 1 << 20);
}

static void full_of_names(struct t *t)
{
	struct fs_statfs s;
	char name[32];
	u64 n;
	int err = 0;

	OK(statfs, &s);
	if (!s.inodes || s.inodes_free > 100000)
		SKIP("too many inodes to use up");
	OK(mkdir, "d", 0755);
	for (n = 0; n <= s.inodes_free + 1000 && !err; n++) { /* some may still be on their way back */
		snprintf(name, sizeof(name), "d/%llu", (unsigned long long)n);
		err = CALL(mknod, name, S_IFREG | 0644, 0, 0);
	}
	EQ((u32)-ENOSPC, (u32)err);
	TRUE(n > s.inodes_free / 2);
	OK(unlink, "d/0");
	OK(mknod, "d/again", S_IFREG | 0644, 0, 0);
}

static void statfs_counts(struct t *t)
{
	struct fs_statfs a, b;
	u64 used;

	/* Behind a mount, files that went before this test may still be on their way: until nothing comes for a while. */
	OK(statfs, &a);
	for (u32 same = 0; same < 20; same++) {
		usleep(25000);
		OK(statfs, &b);
		if (a.inodes_free != b.inodes_free || a.blocks_free != b.blocks_free)
			same = 0;
		a = b;
	}
	TRUE(a.block_bytes >= 512 && !(a.block_bytes & (a.block_bytes - 1)));
	TRUE(a.blocks >= a.blocks_free && a.blocks_free >= a.blocks_avail);
	TRUE(!a.inodes || a.inodes >= a.inodes_free);
	EQ(255, a.name_max);
	FILL("f", 4 << 20);
	DO(CALL(sync));
	OK(statfs, &b);
	used = (a.blocks_free - b.blocks_free) * a.block_bytes;
	TRUE(used >= (4 << 20) && used < (5 << 20));
	EQ(a.blocks, b.blocks);
	if (a.inodes)
		EQ(a.inodes_free - 1, b.inodes_free);
}

/* Adds a flag; *before is what undoes it. */
static void add_flag(struct t *t, struct fs_file *f, u32 flag, u32 *before)
{
	int err = CALL(get_flags, f, before);

	if (!err)
		err = CALL(set_flags, f, *before | flag);
	if (err == -EPERM && t->fs->uid)
		SKIP("setting these flags needs root");
	t_optional(t, __FILE__, __LINE__, "setting inode flags", err);
}

static void immutable(struct t *t)
{
	struct fs_file *f, g;
	struct timespec v[2] = { { 1, 1 }, { 2, 2 } };
	u32 flags, was;

	FILL("f", 10);
	f = OPEN("f", O_RDONLY, 0);
	add_flag(t, f, FS_IMMUTABLE_FL, &was);
	OK(get_flags, f, &flags);
	TRUE(flags & FS_IMMUTABLE_FL);
	int open_err = CALL(open, "f", O_WRONLY, 0, &g), unlink_err = CALL(unlink, "f"),
	    link_err = CALL(link, "f", "g"), rename_err = CALL(rename, "f", "g", 0),
	    chmod_err = CALL(chmod, "f", 0600), time_err = CALL(utimens, "f", v),
	    cut_err = CALL(truncate, "f", 0), x_err = CALL(setxattr, "f", "user.a", "x", 1, 0);
	OK(set_flags, f, was);
	EQ((u32)-EPERM, (u32)open_err);
	EQ((u32)-EPERM, (u32)unlink_err);
	EQ((u32)-EPERM, (u32)link_err);
	EQ((u32)-EPERM, (u32)rename_err);
	EQ((u32)-EPERM, (u32)chmod_err);
	EQ((u32)-EPERM, (u32)time_err);
	EQ((u32)-EPERM, (u32)cut_err);
	EQ((u32)-EPERM, (u32)x_err);
	OK(chmod, "f", 0600);
	t_expect_pattern(t, "f", 0, 10);
}

static void append_only(struct t *t)
{
	struct fs_file *f, a, g;
	u64 done = 0;
	u32 was;
	int err;

	FILL("f", 4);
	f = OPEN("f", O_RDONLY, 0);
	add_flag(t, f, FS_APPEND_FL, &was);
	int write_err = CALL(open, "f", O_WRONLY, 0, &g), cut_err = CALL(truncate, "f", 0),
	    unlink_err = CALL(unlink, "f");
	err = CALL(open, "f", O_WRONLY | O_APPEND, 0, &a);
	if (!err) {
		err = CALL(pwrite, &a, 0, "more", 4, &done);
		CALL(close, &a);
	}
	OK(set_flags, f, was);
	EQ((u32)-EPERM, (u32)write_err);
	EQ((u32)-EPERM, (u32)cut_err);
	EQ((u32)-EPERM, (u32)unlink_err);
	DO(err);
	EQ(8, STAT("f").size);
	t_expect_pattern(t, "f", 0, 4);
}

static void immutable_directory(struct t *t)
{
	struct fs_file *d;
	struct fs_stat st;
	u32 was;

	OK(mkdir, "d", 0755);
	TOUCH("d/f");
	d = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	add_flag(t, d, FS_IMMUTABLE_FL, &was);
	int make_err = CALL(mkdir, "d/x", 0755), unlink_err = CALL(unlink, "d/f"),
	    rename_err = CALL(rename, "d/f", "f", 0), write_err = CALL(truncate, "d/f", 5);
	OK(set_flags, d, was);
	EQ((u32)-EPERM, (u32)make_err);
	EQ((u32)-EPERM, (u32)unlink_err);
	EQ((u32)-EPERM, (u32)rename_err);
	DO(write_err); /* the files in it may change */
	OK(stat, "d/f", false, &st);
	EQ(5, st.size);
}

static void durability(struct t *t)
{
	struct fs_file *f, *d;

	FILL("f", 100000);
	f = OPEN("f", O_RDWR, 0);
	OK(fsync, f, true);
	OK(fsync, f, false);
	OK(mkdir, "d", 0755);
	d = OPEN("d", O_RDONLY | O_DIRECTORY, 0);
	OK(fsync, d, false);
	OK(sync);
	CALL(forget);
	t_expect_pattern(t, "f", 0, 100000);
}

const struct conform_test conform_limits[] = {
	{ "limits: a full volume", full_volume },
	{ "limits: all inodes used", full_of_names },
	{ "limits: statfs", statfs_counts },
	{ "limits: immutable files", immutable },
	{ "limits: append-only files", append_only },
	{ "limits: immutable directories", immutable_directory },
	{ "limits: fsync and sync", durability },
	{ NULL, NULL },
};
