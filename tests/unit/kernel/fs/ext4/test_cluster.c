/*
 * Files whose blocks share clusters: what each takes is what its map says, at every step; a cluster goes with its last block, and no earlier; maps
 * that lie, of which nothing may come but -EUCLEAN.
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>

#define BLOCKS  256u /* of the file, at most */
#define CLUSTER 8u   /* blocks */

static struct inode *file(void)
{
	struct inode *inode;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "f", false, &inode), 0);
	return inode;
}

static void open_vol(const char *args)
{
	vol_make(args, 24, ": >f");
	vol_open();
	assert_int_equal(1u << vol_es->cluster_bits, CLUSTER);
}

static void close_vol(struct inode *inode)
{
	vfs_iput(inode);
	vol_close();
	vol_fsck();
	vol_remove();
}

static void put(struct inode *inode, u32 at, u32 n)
{
	u64 bs = inode->sb->block_bytes, done;
	u8 *p = calloc(n, bs);

	assert_non_null(p);
	assert_int_equal(vfs_write(inode, at * bs, p, n * bs, 0, &done), 0);
	assert_int_equal(done, n * bs);
	free(p);
}

static int punch(struct inode *inode, u32 at, u32 n)
{
	u64 bs = inode->sb->block_bytes;

	return vfs_fallocate(inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at * bs, n * bs);
}

/* Where block `at` lies, 0: nowhere. */
static u64 place(struct inode *inode, u32 at)
{
	struct ext4_run run;

	assert_int_equal(ext4_map_blocks(ext4_inode(inode), at, 1, &run), 0);
	return run.pblk ? run.pblk + (at - run.lblk) : 0;
}

/* What it counts, and what is free, is what the clusters say in which it has blocks; each in its place of one. */
static void check(struct inode *inode, u64 free_at_first)
{
	u64 clusters = 0;

	for (u32 c = 0; c < BLOCKS; c += CLUSTER) {
		u64 blk = 0;

		for (u32 i = c; i < c + CLUSTER; i++) {
			u64 p = place(inode, i);

			if (!p)
				continue;
			assert_int_equal(p % CLUSTER, i % CLUSTER);
			assert_true(!blk || blk == p - i % CLUSTER);
			blk = p - i % CLUSTER;
		}
		clusters += blk != 0;
	}
	assert_int_equal(inode->blocks_512, clusters * CLUSTER * (inode->sb->block_bytes / 512));
	assert_int_equal(vol_es->free_clusters, free_at_first - clusters);
}

/* Blocks at random come and go. The map stays in the inode or one leaf, which is counted by nobody here. */
static void comes_and_goes_on(const char *args)
{
	struct inode *inode;
	u64 at_first;

	open_vol(args);
	at_first = vol_es->free_clusters;
	inode = file();
	for (u32 i = 0; i < 400; i++) {
		u32 at = rnd(BLOCKS), n = MIN(1 + rnd(rnd(3) ? 3 : 40), BLOCKS - at);
		u64 bs = inode->sb->block_bytes;

		switch (rnd(6)) {
		case 0:
			assert_int_equal(vfs_truncate(inode, at * bs), 0);
			break;
		case 1:
		case 2:
			assert_int_equal(punch(inode, at, n), 0);
			break;
		case 3:
			assert_int_equal(vfs_fallocate(inode, FALLOC_FL_KEEP_SIZE, at * bs, n * bs), 0);
			break;
		default:
			put(inode, at, n);
		}
		if (ext4_inode(inode)->block[6]) /* the tree has a depth: start again */
			assert_int_equal(vfs_truncate(inode, 0), 0);
		check(inode, at_first);
	}
	close_vol(inode);
}

static void comes_and_goes(void **state)
{
	(void)state;
	comes_and_goes_on("-t ext4 -b 1024 -C 8192 -O bigalloc,metadata_csum,^has_journal");
	comes_and_goes_on(
		"-t ext4 -b 4096 -C 32768 -J size=4 -O bigalloc,^flex_bg,^resize_inode,metadata_csum");
}

/* The tail waits in memory: who writes before it, in its cluster, does not get another one. */
static void beside_the_tail(void **state)
{
	struct inode *inode;
	u64 done, at_first;

	(void)state;
	open_vol("-t ext4 -b 1024 -C 8192 -O bigalloc,metadata_csum,^has_journal");
	at_first = vol_es->free_clusters;
	inode = file();
	assert_int_equal(vfs_write(inode, 5 * 1024, "abc", 3, 0, &done), 0);
	assert_non_null(inode->tail);
	put(inode, 2, 1);
	assert_int_equal(vfs_fsync(inode, false), 0);
	check(inode, at_first);
	assert_int_equal(vol_es->free_clusters, at_first - 1);
	/* In another cluster it may wait. */
	assert_int_equal(vfs_write(inode, 20 * 1024, "abc", 3, 0, &done), 0);
	put(inode, 9, 7);
	assert_non_null(inode->tail);
	assert_int_equal(vfs_fsync(inode, false), 0);
	check(inode, at_first);
	close_vol(inode);
}

/* An extent that does not lie in its cluster as it does in the file's: nothing is put beside it, and what it has is not freed. */
static void askew(void **state)
{
	struct ext4_disk_extent *e;
	u8 block[1024] = { 0 };
	u64 done, free_before;
	struct inode *inode;

	(void)state;
	open_vol("-t ext4 -b 1024 -C 8192 -O bigalloc,metadata_csum,^has_journal");
	inode = file();
	put(inode, 0, 2);
	e = (void *)(ext4_inode(inode)->block + sizeof(struct ext4_disk_extent_header));
	e->start_lo = le32_put(le32_get(e->start_lo) + 1);
	free_before = vol_es->free_clusters;
	assert_int_equal(vfs_write(inode, 4096, block, sizeof(block), 0, &done), -EUCLEAN);
	assert_int_equal(vfs_fallocate(inode, FALLOC_FL_KEEP_SIZE, 4096, 1024), -EUCLEAN);
	assert_int_equal(vfs_truncate(inode, 0), 0);
	assert_int_equal(vol_es->free_clusters, free_before);
	assert_int_equal(place(inode, 0), 0);
	vfs_iput(inode);
	vol_close();
	vol_remove();
}

/* A file that is mapped by pointers: the kernel knows none where there are clusters. */
static void pointers(void **state)
{
	struct inode *inode;
	u8 block[1024] = { 0 };
	u64 done;

	(void)state;
	open_vol("-t ext4 -b 1024 -C 8192 -O bigalloc,metadata_csum,^has_journal");
	inode = file();
	ext4_inode(inode)->flags &= ~EXT4_FL_EXTENTS;
	memset(ext4_inode(inode)->block, 0, EXT4_IBLOCK_BYTES);
	assert_int_equal(vfs_write(inode, 0, block, sizeof(block), 0, &done), -EUCLEAN);
	assert_int_equal(vfs_truncate(inode, 0), -EUCLEAN);
	vfs_iput(inode);
	vol_close();
	vol_remove();
}

static struct inode *journalled(void)
{
	struct iattr a = { .valid = ATTR_FLAGS };
	struct inode *inode;

	open_vol("-t ext4 -b 1024 -C 8192 -J size=1 -O bigalloc,metadata_csum");
	inode = file();
	a.flags = inode->flags | EXT4_FL_JOURNAL_DATA;
	assert_int_equal(vfs_setattr(inode, &a), 0);
	put(inode, 0, CLUSTER);
	return inode;
}

static void fill(struct inode *inode, u32 at, int byte)
{
	u8 block[1024];
	u64 done;

	memset(block, byte, sizeof(block));
	assert_int_equal(vfs_write(inode, at * sizeof(block), block, sizeof(block), 0, &done), 0);
	assert_int_equal(done, sizeof(block));
}

static void assert_filled(struct inode *inode, u32 at, int byte)
{
	u8 block[1024];
	u64 done;

	assert_int_equal(vfs_read(inode, at * sizeof(block), block, sizeof(block), &done), 0);
	for (u32 i = 0; i < sizeof(block); i++)
		assert_int_equal(block[i], byte);
}

static void assert_home(struct inode *inode, u32 at, int byte)
{
	u8 block[1024];

	assert_int_equal(jbd2_flush(vol_es->journal, true), 0);
	assert_int_equal(blkdev_read(inode->sb->dev, place(inode, at) * sizeof(block), block, sizeof(block)),
			 0);
	for (u32 i = 0; i < sizeof(block); i++)
		assert_int_equal(block[i], byte);
}

static void *fill_second(void *inode)
{
	fill(inode, 1, 7);
	return NULL;
}

/* What a hole had is given up when that is durable: just then somebody is about to change the block that is there anew. */
static void journalled_given_up(void **state)
{
	struct buffer_head *bh;
	struct inode *inode;
	pthread_t thread;

	(void)state;
	inode = journalled();
	assert_int_equal(jbd2_flush(vol_es->journal, true), 0);
	bh = bh_find(vol_dev, place(inode, 1));
	assert_non_null(bh);
	bh_lock(bh);
	assert_int_equal(pthread_create(&thread, NULL, fill_second, inode), 0);
	usleep(100000);
	bh_void(bh);
	bh_unlock(bh);
	bh_put(bh);
	pthread_join(thread, NULL);
	assert_filled(inode, 1, 7);
	assert_home(inode, 1, 7);
	close_vol(inode);
}

static _Atomic bool committing;

static void *commit_on(void *journal)
{
	while (atomic_load(&committing))
		assert_int_equal(jbd2_flush(journal, false), 0);
	return NULL;
}

/* A block goes, while its cluster is the file's, and comes back with other bytes through the journal: whatever others commit meanwhile, these
 * are what is read, at once and when they are home. */
static void journalled_comes_back(void **state)
{
	struct inode *inode;
	pthread_t thread;
	u32 at = 0;

	(void)state;
	inode = journalled();
	atomic_store(&committing, true);
	assert_int_equal(pthread_create(&thread, NULL, commit_on, vol_es->journal), 0);
	for (u32 i = 1; i < 2000; i++) {
		at = 1 + i % (CLUSTER - 2);
		assert_int_equal(punch(inode, at, 1), 0);
		fill(inode, at, (int)(i % 256));
		assert_filled(inode, at, (int)(i % 256));
	}
	atomic_store(&committing, false);
	pthread_join(thread, NULL);
	assert_home(inode, at, 1999 % 256);
	close_vol(inode);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(comes_and_goes, vol_clean),
		cmocka_unit_test_teardown(beside_the_tail, vol_clean),
		cmocka_unit_test_teardown(askew, vol_clean),
		cmocka_unit_test_teardown(pointers, vol_clean),
		cmocka_unit_test_teardown(journalled_given_up, vol_clean),
		cmocka_unit_test_teardown(journalled_comes_back, vol_clean),
	};

	rnd_seed();
	return cmocka_run_group_tests_name("ext4 cluster", tests, NULL, NULL);
}
