/*
 * Whole volumes that mke2fs made, in memory, then damaged in one place: what is damaged hides nothing else, copies
 * are used, positions of listings can be come back to, what is unknown is refused by name.
 */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NAMES       400u
#define COMB_BLOCKS 1500u /* of 1 KiB: into the second level of pointers, and of extents */

static struct blkdev *dev;

static void run(const char *fmt, ...) __printf_like(1, 2);
static void run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

/* A file in which every other KiB is a hole, the rest begins with its own number: as many extents as data blocks. */
static void make_comb(const char *dir)
{
	char path[64], block[1024] = { 0 };
	FILE *f;

	snprintf(path, sizeof(path), "%s/src/comb", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	for (u32 i = 0; i < COMB_BLOCKS; i += 2) {
		snprintf(block, sizeof(block), "block %u", i);
		assert_int_equal(fseek(f, (long)i * 1024, SEEK_SET), 0);
		assert_int_equal(fwrite(block, sizeof(block), 1, f), 1);
	}
	fclose(f);
}

/* A volume with a long directory "many" (hashed), and sparse files. */
static void make(const char *args, u32 mib)
{
	char dir[] = "/tmp/test_volume.XXXXXX", path[64];
	u8 *bytes = malloc((size_t)mib << 20);
	int fd;

	assert_non_null(mkdtemp(dir));
	run("mkdir %s/src %s/src/many && cd %s/src/many && for i in $(seq %u); do echo $i "
	    ">name-that-is-long-$i; done",
	    dir, dir, dir, NAMES);
	run("truncate -s 3G %s/src/sparse && echo end >>%s/src/sparse", dir, dir);
	make_comb(dir);
	run("PATH=$PATH:/sbin:/usr/sbin; mke2fs -qF %s -d %s/src %s/img %uM >/dev/null 2>&1", args, dir, dir,
	    mib);
	run("PATH=$PATH:/sbin:/usr/sbin; e2fsck -fyD %s/img >/dev/null 2>&1; test $? -le 1", dir);
	snprintf(path, sizeof(path), "%s/img", dir);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, bytes, (size_t)mib << 20), (ssize_t)mib << 20);
	close(fd);
	run("rm -rf %s", dir);
	assert_int_equal(dev_mem_new("volume", (u64)mib << 20, 512, &dev), 0);
	assert_int_equal(blkdev_write(dev, 0, bytes, (u64)mib << 20, 0), 0);
	free(bytes);
}

static int drop(void **state)
{
	(void)state;
	blkdev_put(dev);
	dev = NULL;
	return 0;
}

static int mount_at(u64 sb_block, struct super_block **sb)
{
	const struct mount_opts opts = { .rdonly = true, .sb_block = sb_block };

	return ext4_fs_type.mount(&dev, 1, &opts, sb);
}

static struct super_block *mounted(void)
{
	struct super_block *sb;

	assert_int_equal(mount_at(0, &sb), 0);
	return sb;
}

/* Within one block of 4096 bytes. */
static void put(u64 off, const void *p, u32 len)
{
	u8 block[4096];
	u64 start = off & ~4095ull;

	assert_int_equal(blkdev_read(dev, start, block, sizeof(block)), 0);
	memcpy(block + (off - start), p, len);
	assert_int_equal(blkdev_write(dev, start, block, sizeof(block), 0), 0);
}

static void smear(u64 off, u32 len)
{
	u8 junk[1024];

	memset(junk, 0x5a, sizeof(junk));
	put(off, junk, len);
}

static void put32(u64 off, u32 v)
{
	le32 x = le32_put(v);

	put(off, &x, sizeof(x));
}

/* ---- listing ---- */

struct listing {
	u32 count, stop_after;
	u64 next[NAMES + 8];
	char name[NAMES + 8][64];
};

static int take_entry(void *ctx, const struct dirent_out *de)
{
	struct listing *l = ctx;

	if (l->count == l->stop_after)
		return 1;
	assert_true(l->count < ARRAY_SIZE(l->next));
	l->next[l->count] = de->next_pos;
	snprintf(l->name[l->count++], sizeof(l->name[0]), "%.*s", (int)de->name.len, de->name.s);
	return 0;
}

static int list(struct super_block *sb, const char *path, u64 pos, struct listing *l)
{
	struct inode *dir;
	int err;

	memset(l, 0, sizeof(*l));
	l->stop_after = UINT32_MAX;
	assert_int_equal(vfs_path(sb, NULL, path, true, &dir), 0);
	err = vfs_readdir(dir, pos, take_entry, l);
	vfs_iput(dir);
	return err;
}

/* How many of the names a lookup finds. */
static u32 found(struct super_block *sb)
{
	u32 n = 0;

	for (u32 i = 1; i <= NAMES; i++) {
		struct inode *inode;
		char path[64];

		snprintf(path, sizeof(path), "many/name-that-is-long-%u", i);
		if (vfs_path(sb, NULL, path, true, &inode))
			continue;
		n++;
		vfs_iput(inode);
	}
	return n;
}

/* Where block lblk of the directory lies. */
static u64 dir_block_off(struct super_block *sb, u64 lblk)
{
	struct inode *dir;
	struct ext4_run run;

	assert_int_equal(vfs_path(sb, NULL, "many", true, &dir), 0);
	assert_int_equal(ext4_map_blocks(ext4_inode(dir), lblk, 1, &run), 0);
	vfs_iput(dir);
	return (run.pblk + lblk - run.lblk) * sb->block_bytes;
}

static void positions(void **state)
{
	static const char *const kinds[] = { "-t ext4 -b 1024 -O ^has_journal",
					     "-t ext2 -b 4096 -O ^dir_index",
					     "-t ext4 -b 1024 -I 512 -O inline_data,^has_journal" };
	static struct listing whole, part;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct super_block *sb;

		make(kinds[k], 8);
		sb = mounted();
		assert_int_equal(list(sb, "many", 0, &whole), 0);
		assert_int_equal(whole.count, NAMES + 2);
		for (u32 i = 0; i < whole.count; i += 7) {
			assert_int_equal(list(sb, "many", whole.next[i], &part), 0);
			assert_int_equal(part.count, whole.count - i - 1);
			if (part.count)
				assert_string_equal(part.name[0], whole.name[i + 1]);
		}
		/* A position that nobody gave out is one too. */
		assert_int_equal(list(sb, "many", whole.next[9] + 1, &part), 0);
		assert_int_equal(list(sb, "many", ~0ull, &part), 0);
		assert_int_equal(part.count, 0);
		assert_int_equal(found(sb), NAMES);
		vfs_unmount(sb);
		drop(state);
	}
}

static void damaged_leaf(void **state)
{
	static struct listing l;
	struct super_block *sb;
	struct inode *inode;
	u64 off;

	(void)state;
	make("-t ext4 -b 1024 -O ^has_journal,metadata_csum", 8);
	sb = mounted();
	off = dir_block_off(sb, 3);
	vfs_unmount(sb);
	smear(off + 100, 50);
	sb = mounted();
	assert_int_equal(list(sb, "many", 0, &l), -EUCLEAN);
	assert_true(l.count > NAMES / 2 && l.count < NAMES);
	assert_int_equal(found(sb), l.count - 2);
	assert_int_equal(vfs_path(sb, NULL, "many/no-such-name-at-all", true, &inode) == 0, 0);
	assert_int_equal(health_state(&sb->health), HEALTH_CORRUPT);
	vfs_unmount(sb);
}

static void damaged_index(void **state)
{
	static const char *const kinds[] = { "metadata_csum", "^metadata_csum" };
	static struct listing l;
	struct super_block *sb;
	struct inode *inode;
	u64 off;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		char args[128];

		snprintf(args, sizeof(args), "-t ext4 -b 1024 -O ^has_journal,%s", kinds[k]);
		make(args, 8);
		sb = mounted();
		off = dir_block_off(sb, 0);
		vfs_unmount(sb);
		smear(off + EXT4_DX_INFO_OFF, 16);
		sb = mounted();
		assert_int_equal(found(sb), NAMES);
		assert_int_equal(list(sb, "many", 0, &l), k ? 0 : -EUCLEAN);
		assert_int_equal(l.count, k ? NAMES + 2 : NAMES);
		/* With block 0 unreadable nobody can say that a name is not there. */
		assert_int_equal(vfs_path(sb, NULL, "many/x", true, &inode), k ? -ENOENT : -EUCLEAN);
		vfs_unmount(sb);
		drop(state);
	}
}

/* ---- superblock and descriptors ---- */

static void copies(void **state)
{
	struct super_block *sb;

	(void)state;
	make("-t ext4 -b 1024 -O ^has_journal", 32);
	smear(EXT4_SUPER_OFF, 1024);
	sb = mounted();
	assert_non_null(strstr(sb->notice, "block 8193"));
	assert_int_equal(found(sb), NAMES);
	vfs_unmount(sb);
	assert_int_equal(mount_at(24577, &sb), 0);
	assert_non_null(strstr(sb->notice, "block 24577"));
	vfs_unmount(sb);
	assert_int_equal(mount_at(16385, &sb), -EINVAL);
	smear(2048, 1024); /* the descriptors of group 0 and on */
	sb = mounted();
	assert_non_null(strstr(sb->notice, "descriptors were read from a copy"));
	assert_int_equal(found(sb), NAMES);
	vfs_unmount(sb);
}

static void refusals(void **state)
{
	static const struct {
		u32 off, value; /* in the superblock */
		int err;
		const char *says;
	} c[] = {
		{ 0x60, 0x1042, -EOPNOTSUPP, "dirdata" },
		{ 0x60, 0x80000042, -EOPNOTSUPP, "incompat-0x80000000" },
		{ 0x60, 0x4a, -EOPNOTSUPP, "journal device" },
		{ 0x04, 8193, -EUCLEAN, "cut off" },
		{ 0x18, 7, -EUCLEAN, "block size" },
		{ 0x20, 0, -EUCLEAN, "blocks in a group" },
		{ 0x28, 3, -EUCLEAN, "inodes in a group" },
		{ 0x28, 0x2000, -EUCLEAN, "number of inodes" },
		{ 0x00, 5, -EUCLEAN, "number of inodes" },
		{ 0x14, 0, -EUCLEAN, "first block" },
		{ 0x58, 0x1001, -EUCLEAN, "inode size" },
		{ 0x38, 0, -EINVAL, "no ext2, ext3 or ext4" },
	};
	u8 sound[1024];

	(void)state;
	make("-t ext4 -b 1024 -N 1024 -O ^has_journal,^metadata_csum,^64bit,^flex_bg", 8);
	assert_int_equal(blkdev_read(dev, EXT4_SUPER_OFF, sound, sizeof(sound)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		struct super_block *sb;
		struct fs_probe p = { 0 };

		put(EXT4_SUPER_OFF, sound, sizeof(sound));
		put32(EXT4_SUPER_OFF + c[i].off, c[i].value);
		assert_int_equal(mount_at(0, &sb), c[i].err);
		if (!strstr(err_text(), c[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err_text(), c[i].says);
		assert_int_equal(ext4_fs_type.probe(dev, &p), 0);
		assert_int_equal(p.score, c[i].off == 0x38 ? 0 : 50);
	}
}

/* ---- inodes and maps ---- */

static void hole_in_one(void **state)
{
	static const char *const kinds[] = { "-t ext4 -O ^has_journal", "-t ext2" };

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct super_block *sb;
		struct inode *inode;
		struct mapping m;
		u64 pos = 0;
		u32 steps = 0;

		make(kinds[k], 8);
		sb = mounted();
		assert_int_equal(vfs_path(sb, NULL, "sparse", true, &inode), 0);
		while (pos < 3ull << 30) {
			assert_int_equal(ext4_map(inode, pos, ~0ull - pos, &m), 0);
			assert_int_equal(m.kind, MAP_HOLE);
			assert_true(m.off_bytes <= pos && m.len_bytes > pos - m.off_bytes);
			pos = m.off_bytes + m.len_bytes;
			assert_true(++steps < 2000);
		}
		assert_true(k || steps == 1);
		assert_int_equal(ext4_map(inode, 3ull << 30, 1, &m), 0);
		assert_int_equal(m.kind, MAP_DATA);
		assert_int_equal(ext4_map(inode, 1ull << 62, 1, &m), 0);
		assert_int_equal(m.kind, MAP_HOLE);
		vfs_iput(inode);
		vfs_unmount(sb);
		drop(state);
	}
}

static void comb(void **state)
{
	static const char *const kinds[] = { "-t ext4 -b 1024 -O ^has_journal,metadata_csum",
					     "-t ext2 -b 1024",
					     "-t ext4 -b 1024 -O bigalloc,^has_journal -C 4096" };

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct super_block *sb;
		struct inode *inode;
		u64 pos = 0, done;
		char text[32], want[32];
		struct mapping m;

		make(kinds[k], 8);
		sb = mounted();
		assert_int_equal(vfs_path(sb, NULL, "comb", true, &inode), 0);
		for (u32 i = 0; i < COMB_BLOCKS - 1; i++) {
			assert_int_equal(ext4_map(inode, pos, 1u << 20, &m), 0);
			assert_int_equal(m.kind, i % 2 ? MAP_HOLE : MAP_DATA);
			assert_int_equal(m.off_bytes, pos);
			assert_int_equal(m.len_bytes, 1024);
			/* The same from the middle of it. */
			assert_int_equal(ext4_map(inode, pos + 700, 1, &m), 0);
			assert_true(m.off_bytes == pos && m.len_bytes >= 1024);
			if (m.kind == MAP_DATA) {
				snprintf(want, sizeof(want), "block %u", i);
				assert_int_equal(vfs_read(inode, pos, text, sizeof(text), &done), 0);
				assert_string_equal(text, want);
			}
			pos += 1024;
		}
		vfs_iput(inode);
		vfs_unmount(sb);
		drop(state);
	}
}

/* Reserved inodes, and those beyond the last, are no answer to a name. */
static void bad_numbers(void **state)
{
	static const u32 numbers[] = { 1, 3, 7, 8, 1000000, UINT32_MAX };
	static struct listing l;
	struct super_block *sb;
	struct name name;
	char third[64];
	u64 off;

	(void)state;
	make("-t ext2 -b 1024 -O ^dir_index", 8);
	sb = mounted();
	assert_int_equal(list(sb, "many", 0, &l), 0);
	memcpy(third, l.name[2], sizeof(third));
	name = NAME(third);
	off = dir_block_off(sb, 0) + 2 * EXT4_DIRENT_MIN;
	vfs_unmount(sb);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct inode *inode, *dir;
		u64 ino;

		put32(off, numbers[i]);
		sb = mounted();
		assert_int_equal(vfs_iget(sb, numbers[i], &inode), -ESTALE);
		assert_int_equal(list(sb, "many", 0, &l), -EUCLEAN);
		assert_int_equal(l.count, NAMES + 1);
		assert_int_equal(vfs_path(sb, NULL, "many", true, &dir), 0);
		assert_int_equal(ext4_lookup(dir, &name, &ino), -EUCLEAN);
		vfs_iput(dir);
		vfs_unmount(sb);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(positions),
		cmocka_unit_test_teardown(damaged_leaf, drop),
		cmocka_unit_test(damaged_index),
		cmocka_unit_test_teardown(copies, drop),
		cmocka_unit_test_teardown(refusals, drop),
		cmocka_unit_test(hole_in_one),
		cmocka_unit_test(comb),
		cmocka_unit_test_teardown(bad_numbers, drop),
	};

	if (system("PATH=$PATH:/sbin:/usr/sbin; command -v mke2fs >/dev/null && command -v e2fsck "
		   ">/dev/null")) {
		printf("1..0 # SKIP mke2fs is not installed\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
