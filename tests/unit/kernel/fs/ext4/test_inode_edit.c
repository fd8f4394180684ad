/*
 * Inodes written and read back: every member, on every shape of inode; times of four centuries; what is not known keeps its bytes. Our
 * reader judges, and debugfs.
 */
#include "volume.h"

#include <errno.h>

#define INO_FILE 12u /* the first that mke2fs gives out here: lost+found is 11 */

static struct ext4_super *es;

static int only_super(void *priv, struct jbd2_handle *h)
{
	(void)h;
	ext4_super_fill(priv);
	return 0;
}

static void nothing(void *priv, u32 tid)
{
	(void)priv;
	(void)tid;
}

/* Inodes alone change here: no groups, no allocator. */
static void open_volume(void)
{
	static const struct jbd2_ops ops = { only_super, nothing };

	vol_open_parts(VOL_SUPER, &ops);
	es = vol_es;
}

static struct ext4_inode *load(u64 ino)
{
	struct ext4_inode *ei = ext4_inode_alloc();

	assert_non_null(ei);
	ei->vfs.sb = &es->vfs;
	ei->vfs.ino = ino;
	mutex_init(&ei->vfs.attr, RANK_LEAF);
	atomic_store(&ei->vfs.tail_from, ~0ull);
	assert_int_equal(ext4_inode_load(ei), 0);
	return ei;
}

static int write_inode(struct ext4_inode *ei)
{
	struct ext4_handle h;

	assert_int_equal(ext4_begin(es, EXT4_CREDITS_INODE, 0, &h), 0);
	return ext4_end(&h, ext4_inode_write(&h, ei));
}

static void fill_random(struct ext4_inode *ei)
{
	struct inode *inode = &ei->vfs;
	bool huge = ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE);

	inode->mode = (inode->mode & S_IFMT) | rnd(010000);
	inode->uid = rnd(2) ? rnd(UINT32_MAX) : rnd(65536);
	inode->gid = rnd(2) ? rnd(UINT32_MAX) : rnd(65536);
	inode->nlink = 1 + rnd(65000);
	inode->size_bytes = (u64)rnd(1u << 20) << rnd(13);
	inode->blocks_512 = (u64)rnd(UINT32_MAX) << (huge ? rnd(16) : 0);
	inode->atime = (struct timespec64){ (s64)rnd(UINT32_MAX) - (1ll << 31), rnd(1000000000) };
	inode->mtime = (struct timespec64){ (s64)rnd(INT32_MAX), rnd(1000000000) };
	inode->ctime = (struct timespec64){ -(s64)rnd(INT32_MAX), rnd(1000000000) };
	inode->btime = (struct timespec64){ (s64)rnd(INT32_MAX), rnd(1000000000) };
	ei->flags ^= rnd(2) ? EXT4_FL_NODUMP : EXT4_FL_NOATIME;
	ei->xattr_blk = 0;
}

static void assert_time(const struct timespec64 *a, const struct timespec64 *b)
{
	assert_int_equal(a->sec, b->sec);
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		assert_int_equal(a->nsec, b->nsec);
}

static void assert_same(const struct ext4_inode *a, const struct ext4_inode *b)
{
	assert_int_equal(a->vfs.mode, b->vfs.mode);
	assert_int_equal(a->vfs.uid, b->vfs.uid);
	assert_int_equal(a->vfs.gid, b->vfs.gid);
	assert_int_equal(a->vfs.nlink, b->vfs.nlink);
	assert_int_equal(a->vfs.size_bytes, b->vfs.size_bytes);
	assert_int_equal(a->vfs.blocks_512, b->vfs.blocks_512);
	assert_int_equal(a->vfs.generation, b->vfs.generation);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->xattr_blk, b->xattr_blk);
	assert_int_equal(a->extra_isize, b->extra_isize);
	assert_memory_equal(a->block, b->block, sizeof(a->block));
	assert_time(&a->vfs.atime, &b->vfs.atime);
	assert_time(&a->vfs.mtime, &b->vfs.mtime);
	assert_time(&a->vfs.ctime, &b->vfs.ctime);
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		assert_time(&a->vfs.btime, &b->vfs.btime);
}

static const struct shape {
	const char *args;
	bool extra; /* times have more than 32 bits */
} shapes[] = {
	{ "-t ext4 -O ^has_journal,metadata_csum,64bit -I 256", true },
	{ "-t ext4 -O ^has_journal,metadata_csum,^64bit -I 512 -b 1024", true },
	{ "-t ext4 -O ^has_journal,^metadata_csum,uninit_bg -I 256 -b 4096", true },
	{ "-t ext4 -O ^has_journal,metadata_csum -I 128", false },
	{ "-t ext2 -I 128 -b 1024 -O ^resize_inode,^large_file", false },
};

static void test_round_trip(void **state)
{
	(void)state;
	rnd_seed();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		vol_make(shapes[s].args, 16, "echo hello >file");
		open_volume();
		for (u32 i = 0; i < 200; i++) {
			struct ext4_inode *a = load(INO_FILE), *b;

			fill_random(a);
			assert_int_equal(write_inode(a), 0);
			b = load(INO_FILE);
			assert_same(a, b);
			mutex_fini(&a->vfs.attr);
			mutex_fini(&b->vfs.attr);
			ext4_inode_free(a);
			ext4_inode_free(b);
		}
		vol_close_parts();
		vol_remove();
	}
}

/* Bytes behind the fields, and fields that we do not know, stay; the sum is right for e2fsck. */
static void test_kept(void **state)
{
	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		const struct ext4_disk_inode *raw;
		struct buffer_head *bh;
		struct ext4_inode *ei;
		u8 *before;

		vol_make(shapes[s].args, 16, "echo hello >file; touch -d @77 file");
		run("debugfs -w -R 'ea_set <12> user.name value' %s/img 2>/dev/null", vol_dir);
		vol_fsck();
		open_volume();
		before = malloc(es->inode_bytes);
		assert_int_equal(ext4_raw_inode_get(es, INO_FILE, &bh, &raw), 0);
		ei = load(INO_FILE);
		((struct ext4_disk_inode *)raw)->obso_faddr = le32_put(7);
		memcpy(before, raw, es->inode_bytes);
		assert_int_equal(write_inode(ei), 0);
		/* The version alone goes on. */
		((struct ext4_disk_inode *)before)->version = raw->version;
		((struct ext4_disk_inode *)before)->checksum_lo = raw->checksum_lo;
		if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
			((struct ext4_disk_inode *)before)->checksum_hi = raw->checksum_hi;
		assert_memory_equal(before, raw, es->inode_bytes);
		((struct ext4_disk_inode *)raw)->obso_faddr = le32_put(0);
		assert_int_equal(write_inode(ei), 0);
		bh_put(bh);
		free(before);
		mutex_fini(&ei->vfs.attr);
		ext4_inode_free(ei);
		vol_close_parts();
		vol_fsck();
		vol_remove();
	}
}

static void test_times(void **state)
{
	static const s64 sec[] = { -2147483648ll, -1,           0,
				   2147483647ll,  2147483648ll, 4294967295ll,
				   4294967296ll,  6442450944ll, 12884901888ll,
				   15032385535ll };

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		vol_make(shapes[s].args, 16, "echo hello >file");
		open_volume();
		for (u32 i = 0; i < ARRAY_SIZE(sec); i++) {
			struct ext4_inode *a = load(INO_FILE), *b;
			char text[4096], want[64];
			s64 kept = shapes[s].extra ? sec[i] : MIN(sec[i], 2147483647ll);

			a->vfs.mtime = (struct timespec64){ sec[i], 999999999 };
			assert_int_equal(write_inode(a), 0);
			ext4_time_clamp(a, &a->vfs.mtime);
			assert_int_equal(a->vfs.mtime.sec, kept);
			b = load(INO_FILE);
			assert_time(&a->vfs.mtime, &b->vfs.mtime);
			assert_int_equal(b->vfs.mtime.sec, kept);
			assert_int_equal(bcache_sync(vol_dev), 0);
			output(text, sizeof(text), "debugfs -R 'stat <12>' %s/img 2>/dev/null", vol_dir);
			snprintf(want, sizeof(want), "mtime: 0x%08x", (u32)kept);
			assert_non_null(strstr(text, want));
			mutex_fini(&a->vfs.attr);
			mutex_fini(&b->vfs.attr);
			ext4_inode_free(a);
			ext4_inode_free(b);
		}
		vol_close_parts();
		vol_remove();
	}
}

/* What debugfs reads in an inode that we wrote. */
static void test_debugfs(void **state)
{
	struct ext4_inode *ei;
	char text[4096];

	(void)state;
	vol_make(shapes[0].args, 16, "echo hello >file");
	open_volume();
	ei = load(INO_FILE);
	ei->vfs.mode = S_IFREG | 04751;
	ei->vfs.uid = 123456;
	ei->vfs.gid = 654321;
	ei->vfs.nlink = 3;
	ei->vfs.size_bytes = 5ull << 32;
	ei->vfs.blocks_512 = 1ull << 33;
	ei->vfs.btime.sec = 0x180000000;
	assert_int_equal(write_inode(ei), 0);
	mutex_fini(&ei->vfs.attr);
	ext4_inode_free(ei);
	vol_close_parts();
	output(text, sizeof(text), "debugfs -R 'stat <12>' %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(text, "Mode:  04751"));
	assert_non_null(strstr(text, "User: 123456"));
	assert_non_null(strstr(text, "Group: 654321"));
	assert_non_null(strstr(text, "Links: 3"));
	assert_non_null(strstr(text, "Size: 21474836480"));
	assert_non_null(strstr(text, "Blockcount: 8589934592"));
	assert_non_null(strstr(text, "crtime: 0x80000000"));
	vol_remove();
}

/* The first file of more than 2 GiB sets the feature; one that cannot be counted is refused. */
static void test_limits(void **state)
{
	struct ext4_inode *ei;
	char text[4096];

	(void)state;
	vol_make("-t ext2 -I 128 -O ^resize_inode,^large_file", 16, "echo hello >file");
	open_volume();
	assert_false(ext4_has_ro_compat(es, EXT4_RO_COMPAT_LARGE_FILE));
	ei = load(INO_FILE);
	ei->vfs.size_bytes = 0x7fffffff;
	assert_int_equal(write_inode(ei), 0);
	assert_int_equal(le32_get(es->disk.feature_ro_compat) & EXT4_RO_COMPAT_LARGE_FILE, 0);
	ei->vfs.size_bytes = 0x80000000;
	assert_int_equal(write_inode(ei), 0);
	ei->vfs.blocks_512 = 1ull << 32;
	assert_int_equal(write_inode(ei), -EFBIG);
	mutex_fini(&ei->vfs.attr);
	ext4_inode_free(ei);
	vol_close_parts();
	output(text, sizeof(text), "dumpe2fs -h %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(text, "large_file"));
	vol_remove();
}

static void test_add_blocks(void **state)
{
	struct ext4_inode *ei;

	(void)state;
	vol_make(shapes[1].args, 16, "echo hello >file");
	open_volume();
	ei = load(INO_FILE);
	ei->vfs.blocks_512 = 10;
	ext4_inode_add_clusters(ei, 3);
	assert_int_equal(ei->vfs.blocks_512, 16);
	ext4_inode_add_clusters(ei, -8);
	assert_int_equal(ei->vfs.blocks_512, 0);
	ext4_inode_add_clusters(ei, -1);
	assert_int_equal(ei->vfs.blocks_512, 0);
	mutex_fini(&ei->vfs.attr);
	ext4_inode_free(ei);
	vol_close_parts();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_round_trip, vol_clean),
		cmocka_unit_test_teardown(test_kept, vol_clean),
		cmocka_unit_test_teardown(test_times, vol_clean),
		cmocka_unit_test_teardown(test_debugfs, vol_clean),
		cmocka_unit_test_teardown(test_limits, vol_clean),
		cmocka_unit_test_teardown(test_add_blocks, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
