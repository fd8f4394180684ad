/*
 * The superblock's copies get the features that our changes set, in every layout; a repair that has nothing but a copy loses no attribute;
 * a crash at any write in between leaves a volume whose next mount brings the copies along; damaged copies are left alone.
 */
#include "volume.h"

#include <errno.h>

#define MIB 16u

static const struct {
	const char *args;
	u32 block_bytes, copies;
} shapes[] = {
	{ "-t ext2 -O none,filetype,sparse_super -b 1024 -g 1024", 1024, 5 },
	{ "-t ext4 -O none,filetype,sparse_super,has_journal,extent,64bit,flex_bg,metadata_csum -b 1024 -g "
	  "1024",
	  1024, 5 },
	{ "-t ext4 -O none,filetype,sparse_super2,has_journal,extent,metadata_csum -b 1024 -g 1024", 1024,
	  2 },
	{ "-t ext4 -O none,filetype,has_journal,extent,metadata_csum -b 2048 -g 1024", 2048, 7 },
	{ "-t ext4 -O none,filetype,sparse_super,has_journal,extent,meta_bg,metadata_csum -b 1024 -g 1024",
	  1024, 5 },
	{ "-t ext2 -r 0 -b 1024 -g 1024", 1024, 15 },
	{ "-t ext3 -O none,filetype,sparse_super,has_journal -b 4096 -g 2048", 4096, 1 },
};

static char value[600]; /* more than an inode has room for */

/* What sets both features. */
static void change(void)
{
	struct inode *inode;

	memset(value, 'v', sizeof(value) - 1);
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "f", false, &inode), 0);
	assert_int_equal(vfs_setxattr(inode, "user.a", value, sizeof(value) - 1, 0), 0);
	assert_int_equal(vfs_fsync(inode, false), 0);
	assert_int_equal(vfs_truncate(inode, 3ull << 30), 0);
	vfs_iput(inode);
}

/* Reads the copies' blocks out of what dumpe2fs says. */
static u32 copies_of(const char *img, u64 *blk, u32 room)
{
	char text[4096], *p = text;
	u32 n = 0;

	output(text, sizeof(text),
	       "dumpe2fs %s/%s 2>/dev/null | grep -o 'Backup superblock at [0-9]*' | grep -o '[0-9]*$'",
	       vol_dir, img);
	for (char *end; n < room; p = end) {
		u64 v = strtoull(p, &end, 10);

		if (end == p)
			break;
		blk[n++] = v;
	}
	return n;
}

static void assert_copies_have(u32 s, bool all)
{
	u64 blk[32];
	u32 n = copies_of("img", blk, ARRAY_SIZE(blk));

	assert_int_equal(n, shapes[s].copies);
	for (u32 i = 0; i < n; i++) {
		char text[8192];

		output(text, sizeof(text), "dumpe2fs -o superblock=%llu -o blocksize=%u -h %s/img 2>&1",
		       (unsigned long long)blk[i], shapes[s].block_bytes, vol_dir);
		assert_non_null(strstr(text, "Filesystem features:"));
		assert_int_equal(strstr(text, " ext_attr") != NULL, all);
		assert_int_equal(strstr(text, " large_file") != NULL, all);
	}
}

static void test_shapes(void **state)
{
	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		u64 blk[32];
		u32 n;

		vol_make(shapes[s].args, MIB, "echo x >f");
		assert_copies_have(s, false);
		vol_open();
		change();
		vol_close();
		vol_fsck();
		assert_copies_have(s, true);
		n = copies_of("img", blk, ARRAY_SIZE(blk));
		for (u32 i = 0; i < n; i++) {
			char text[1024];

			run("cp %s/img %s/copy && dd if=/dev/zero of=%s/copy bs=1024 seek=1 count=1 "
			    "conv=notrunc "
			    "status=none",
			    vol_dir, vol_dir, vol_dir);
			run("e2fsck -b %llu -B %u -fy %s/copy >%s/log 2>&1; test $? -le 1 || { cat %s/log; "
			    "false; }",
			    (unsigned long long)blk[i], shapes[s].block_bytes, vol_dir, vol_dir, vol_dir);
			output(text, sizeof(text), "debugfs -R 'ea_get -V f user.a' %s/copy 2>/dev/null",
			       vol_dir);
			assert_true(!strncmp(text, value, sizeof(value) - 1));
			run("e2fsck -fn %s/copy >/dev/null 2>&1", vol_dir);
		}
		vol_remove();
	}
}

/* ---- the power goes ---- */

static bool lacks_both(const u8 *super)
{
	const struct ext4_disk_super *d = (const void *)super;

	return !(le32_get(d->feature_compat) & EXT4_COMPAT_EXT_ATTR) &&
	       !(le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_LARGE_FILE);
}

static void assert_like_primary(const u64 *blk, u32 n, u32 block_bytes)
{
	struct ext4_disk_super d, c;

	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d)), 0);
	for (u32 i = 0; i < n; i++) {
		assert_int_equal(blkdev_read(vol_dev, blk[i] * block_bytes, &c, sizeof(c)), 0);
		assert_int_equal(le32_get(c.feature_compat), le32_get(d.feature_compat));
		assert_int_equal(le32_get(c.feature_ro_compat), le32_get(d.feature_ro_compat));
		assert_int_equal(le32_get(c.feature_incompat), le32_get(d.feature_incompat));
	}
	vol_dev_close();
}

static void crash_run(u32 s)
{
	struct vol_cuts cuts;
	u64 blk[32];
	u32 n, some = 0;
	bool journal = strstr(shapes[s].args, "has_journal");

	vol_make(shapes[s].args, MIB, "echo x >f");
	n = copies_of("img", blk, ARRAY_SIZE(blk));
	vol_cuts_begin(&cuts);
	vol_open();
	change();
	vol_close();
	while (vol_cuts_next(&cuts)) {
		u32 have = 0;

		for (u32 c = 0; c < n; c++)
			have += !lacks_both(cuts.image + blk[c] * shapes[s].block_bytes);
		/* No copy has what the primary may not get. */
		if (have && !journal)
			assert_false(lacks_both(cuts.image + EXT4_SUPER_OFF));
		some += have && have < n;
		vol_open();
		vol_close();
		assert_like_primary(blk, n, shapes[s].block_bytes);
		if (journal)
			vol_fsck();
	}
	assert_in_range(some, n - 1, UINT32_MAX);
	vol_remove();
}

static void test_crash(void **state)
{
	(void)state;
	for (u32 s = 0; s < 2; s++)
		crash_run(s);
}

/* A copy that is none, or another volume's. */
static void test_damaged(void **state)
{
	const u32 s = 1;
	u64 blk[32];
	u32 n;

	(void)state;
	vol_make(shapes[s].args, MIB, "echo x >f");
	n = copies_of("img", blk, ARRAY_SIZE(blk));
	assert_int_equal(n, shapes[s].copies);
	run("cd %s && head -c 1024 /dev/urandom >junk && dd if=junk of=img bs=1024 seek=%llu conv=notrunc "
	    "status=none",
	    vol_dir, (unsigned long long)blk[1]);
	/* A byte of the UUID, and with it the checksum. */
	run("cd %s && printf '\\377\\376' | dd of=img bs=1 seek=%llu conv=notrunc status=none", vol_dir,
	    (unsigned long long)blk[2] * 1024 + 0x68);
	run("cd %s && for b in %llu %llu; do dd if=img bs=1024 skip=$b count=1 status=none; done >before",
	    vol_dir, (unsigned long long)blk[1], (unsigned long long)blk[2]);
	vol_open();
	change();
	vol_close();
	run("cd %s && for b in %llu %llu; do dd if=img bs=1024 skip=$b count=1 status=none; done | cmp - "
	    "before",
	    vol_dir, (unsigned long long)blk[1], (unsigned long long)blk[2]);
	run("cd %s && for b in %llu %llu; do dumpe2fs -o superblock=$b -o blocksize=1024 -h img 2>/dev/null "
	    "| "
	    "grep -q ' ext_attr' || exit 1; done",
	    vol_dir, (unsigned long long)blk[0], (unsigned long long)blk[n - 1]);
	vol_fsck();
}

/* One that cannot be written costs nothing but itself; a flush that fails may have lost more. */
static void test_failing(void **state)
{
	const struct ext4_features want = { .compat = EXT4_COMPAT_EXT_ATTR };
	const u32 s = 1;
	u64 blk[32];
	u32 n;

	(void)state;
	vol_make(shapes[s].args, MIB, NULL);
	n = copies_of("img", blk, ARRAY_SIZE(blk));
	vol_dev_fault(false);
	vol_open();
	ext4_upkeep_stop(vol_es);
	dev_fault_nth(vol_dev, FAULT_WRITE, 1, -EIO, false);
	ext4_copies_write(vol_es, &want);
	assert_int_equal(health_state(&vol_es->vfs.health), HEALTH_OK);
	for (u32 i = 0; i < n; i++) {
		struct ext4_disk_super d;

		assert_int_equal(blkdev_read(vol_dev, blk[i] * shapes[s].block_bytes, &d, sizeof(d)), 0);
		assert_int_equal(!(le32_get(d.feature_compat) & EXT4_COMPAT_EXT_ATTR), i == n - 1);
	}
	dev_fault_nth(vol_dev, FAULT_FLUSH, 1, -EIO, false);
	ext4_copies_write(vol_es, &want);
	assert_int_equal(health_state(&vol_es->vfs.health), HEALTH_ABORTED);
	assert_int_equal(vfs_unmount(&vol_es->vfs), -EROFS);
	vol_es = NULL;
	vol_dev_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_shapes, vol_clean),
		cmocka_unit_test_teardown(test_crash, vol_clean),
		cmocka_unit_test_teardown(test_damaged, vol_clean),
		cmocka_unit_test_teardown(test_failing, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
