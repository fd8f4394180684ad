/*
 * Groups that change: bitmaps that were never written, descriptors and counts on the disk after one handle and after many at once, what is
 * not known keeps its bytes. e2fsck and dumpe2fs judge.
 */
#include "volume.h"

#include <errno.h>
#include <pthread.h>

static struct ext4_super *es;

static void nothing(void *priv, u32 tid)
{
	(void)priv;
	(void)tid;
}

static const struct jbd2_ops ops = { ext4_precommit, nothing };

static void open_volume(void)
{
	vol_open_parts(VOL_GROUPS, &ops);
	es = vol_es;
}

static u32 clear_bits(const u8 *bitmap, u32 bits)
{
	u32 n = 0;

	for (u32 i = 0; i < bits; i++)
		n += !(bitmap[i / 8] >> i % 8 & 1);
	return n;
}

/* Of both kinds, in all groups: as many free ones as the descriptor counts, and padding that is set. */
static void assert_bitmaps(void)
{
	for (u32 i = 0; i < es->groups; i++) {
		struct buffer_head *b, *n;
		u32 bits = 8 * ext4_block_bytes(es);

		mutex_guard(&es->group_lock[i]);
		assert_int_equal(ext4_block_bitmap(es, i, &b), 0);
		assert_int_equal(ext4_inode_bitmap(es, i, &n), 0);
		assert_int_equal(clear_bits(b->data, ext4_group_blocks(es, i)), es->group[i].free_clusters);
		assert_int_equal(clear_bits(b->data, bits), es->group[i].free_clusters);
		assert_int_equal(clear_bits(n->data, es->inodes_per_group), es->group[i].free_inodes);
		assert_int_equal(clear_bits(n->data, bits), es->group[i].free_inodes);
		bh_put(b);
		bh_put(n);
	}
}

/* The last block of the group becomes taken, or free. */
static int flip_in(struct ext4_handle *h, u32 group)
{
	struct ext4_group *g = &es->group[group];
	u32 bit = ext4_group_blocks(es, group) - 1;
	struct buffer_head *bh;
	u8 *byte, mask = (u8)(1u << bit % 8);
	int err;

	mutex_guard(&es->group_lock[group]);
	err = ext4_block_bitmap(es, group, &bh);
	if (err)
		return err;
	err = ext4_group_change(h, group);
	if (!err)
		err = ext4_access(h, bh);
	if (!err) {
		byte = (u8 *)bh->data + bit / 8;
		ext4_group_add(es, group, *byte & mask ? 1 : -1, 0);
		g->flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
		*byte ^= mask;
		ext4_dirty(h, bh);
	}
	bh_put(bh);
	return err;
}

static int flip(u32 group)
{
	struct ext4_handle h;

	assert_int_equal(ext4_begin(es, EXT4_CREDITS_GROUP, 0, &h), 0);
	return ext4_end(&h, flip_in(&h, group));
}

static const char *const shapes[] = {
	"-t ext4 -O ^has_journal,metadata_csum,64bit -b 1024 -g 1024",
	"-t ext4 -O ^has_journal,metadata_csum,^64bit -b 1024 -g 2048",
	"-t ext4 -O ^has_journal,^metadata_csum,uninit_bg,^flex_bg -b 1024 -g 1024",
	"-t ext4 -O ^has_journal,metadata_csum,meta_bg,^resize_inode -b 1024 -g 1024",
	"-t ext2 -b 1024 -g 1024",
};

/* Descriptors as they lie, without what may change. */
static void read_descs(u8 *out)
{
	for (u32 i = 0; i < es->groups; i++) {
		u64 blk = ext4_group_desc_blk(es, i / es->descs_per_block, 0);
		struct ext4_disk_group d = { 0 };

		assert_int_equal(
			blkdev_read(vol_dev,
				    (blk << es->block_bits) + i % es->descs_per_block * es->desc_bytes, &d,
				    es->desc_bytes),
			0);
		d.free_blocks_count_lo = d.free_blocks_count_hi = le16_put(0);
		d.block_bitmap_csum_lo = d.block_bitmap_csum_hi = d.checksum = le16_put(0);
		d.flags = le16_put(le16_get(d.flags) & (u16)~EXT4_GROUP_BLOCK_UNINIT);
		memcpy(out + i * sizeof(d), &d, sizeof(d));
	}
}

static void test_shapes(void **state)
{
	static u8 before[64 * 64], after[64 * 64];

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		bool uninit = false;

		vol_make(shapes[s], 16, NULL);
		open_volume();
		assert_in_range(es->groups, 8, 64);
		assert_bitmaps();
		read_descs(before);
		for (u32 i = 0; i < es->groups; i++) {
			uninit = uninit || es->group[i].flags & EXT4_GROUP_BLOCK_UNINIT;
			assert_int_equal(flip(i), 0);
		}
		assert_int_equal(uninit, es->desc_csum);
		assert_bitmaps();
		vol_close_parts();
		/* One block in each group that nobody has, and nothing else. */
		assert_int_not_equal(try_run("e2fsck -fn %s/img >%s/log 2>&1", vol_dir, vol_dir), 0);
		run("! grep -v -e '^Pass' -e '^e2fsck' -e 'Block bitmap differences' -e '^Fix' -e '^$' -e "
		    "WARNING "
		    "-e 'files' %s/log",
		    vol_dir);
		open_volume();
		read_descs(after);
		assert_memory_equal(before, after, es->groups * 64);
		assert_bitmaps();
		for (u32 i = 0; i < es->groups; i++)
			assert_int_equal(flip(i), 0);
		vol_close_parts();
		vol_fsck();
		vol_remove();
	}
}

static void *flipper(void *arg)
{
	(void)arg;
	for (u32 i = 0; i < 500; i++) {
		struct ext4_handle h;

		assert_int_equal(ext4_begin(es, 2 * EXT4_CREDITS_GROUP, 0, &h), 0);
		assert_int_equal(flip_in(&h, i % es->groups), 0);
		assert_int_equal(flip_in(&h, (i + 1) % es->groups), 0);
		assert_int_equal(ext4_end(&h, 0), 0);
	}
	return NULL;
}

/* An even number of flips for each group: nothing has changed in the end, and every sum is right. */
static void test_parallel(void **state)
{
	pthread_t thread[4];

	(void)state;
	vol_make(shapes[0], 16, NULL);
	open_volume();
	for (u32 i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, flipper, NULL), 0);
	for (u32 i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	assert_bitmaps();
	vol_close_parts();
	vol_fsck();
	vol_remove();
}

static void test_bad_group(void **state)
{
	struct buffer_head *bh;

	(void)state;
	vol_make(shapes[0], 16, NULL);
	open_volume();
	es->group[3].bad = true;
	assert_int_equal(flip(3), -EUCLEAN);
	mutex_lock(&es->group_lock[3]);
	assert_int_equal(ext4_inode_bitmap(es, 3, &bh), -EUCLEAN);
	mutex_unlock(&es->group_lock[3]);
	es->group[3].bad = false;
	vol_close_parts();
	vol_fsck();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_shapes, vol_clean),
		cmocka_unit_test_teardown(test_parallel, vol_clean),
		cmocka_unit_test_teardown(test_bad_group, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
