/*
 * Blocks of files, maps and attributes go before the end: nothing but tables and the journal is behind it, and content is what it was. Where one of its
 * reads fails, too, every block is somebody's or free.
 */
#include "shortvol.h"

#include "lib/scope.h"
#include <errno.h>

static u64 used_behind(struct ext4_super *es)
{
	u64 used = 0;

	for (u64 blk = short_plan.end; blk < es->blocks; blk += 1u << es->cluster_bits) {
		u32 group = (u32)((blk - es->first_data_blk) / es->blocks_per_group);
		u64 at = (blk - ext4_group_start(es, group)) >> es->cluster_bits;
		scoped(bh_putp) struct buffer_head *bh = NULL;

		assert_int_equal(ext4_block_bitmap(es, group, &bh), 0);
		used += (((const u8 *)bh->data)[at / 8] >> at % 8 & 1) &&
			!ext4_zone_meets(&es->zone, blk, 1u << es->cluster_bits) &&
			!ext4_zone_meets(&es->journal_zone, blk, 1);
	}
	return used;
}

static void test_moved(void **state)
{
	struct ext4_super *es;

	short_make(*state);
	assert_int_equal(short_find(9 << 20), 0);
	es = short_open();
	assert_true(used_behind(es) > 0);
	if (short_plan.inodes)
		assert_int_equal(ext4_short_inodes(&short_plan), 0);
	short_close();
	es = short_open();
	assert_int_equal(ext4_short_blocks(&short_plan), 0);
	short_close();
	short_check();
	vol_open_rdonly();
	assert_int_equal(used_behind(vol_es), 0);
	vol_close();
	vol_remove();
}

static void test_reads_fail(void **state)
{
	short_make(*state);
	assert_int_equal(short_find(9 << 20), 0);
	(void)short_open();
	assert_int_equal(ext4_short_inodes(&short_plan), 0);
	short_close();
	short_reads_fail(ext4_short_blocks);
	short_check();
	vol_remove();
}

/* Of a file that does not lie in clusters nothing moves. */
static void refused(const char *words, const char *why)
{
	char blk[32];
	int err = 0;

	short_make(SHORT_CLUSTERS);
	output(blk, sizeof(blk), "debugfs -R 'blocks f9' %s/img 2>/dev/null | cut -d ' ' -f 1", vol_dir);
	run("cd %s && blk=$(echo %s) && { %s; } >how && debugfs -w -f how img >/dev/null 2>&1", vol_dir, blk,
	    words);
	assert_int_equal(short_find(9 << 20), 0);
	assert_true(strtoull(blk, NULL, 10) >= short_plan.end);
	(void)short_open();
	assert_int_equal(ext4_short_blocks(&short_plan), -EUCLEAN);
	assert_non_null(strstr(err_text(), why));
	ext4_short_close(short_plan.es, &err);
	vol_dev_close();
	vol_remove();
}

static void test_askew(void **state)
{
	(void)state;
	refused("echo sif f9 block[5] $((blk + 1))", "does not lie in a cluster");
}

static void test_pointers(void **state)
{
	(void)state;
	refused("echo sif f9 flags 0; for i in 1 2 3 4 5; do echo sif f9 \"block[$i]\" 0; done; "
		"echo sif f9 block[0] $blk",
		"mapped by pointers");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "extents", test_moved, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS },
		{ "pointers", test_moved, NULL, vol_clean,
		  (void *)(uintptr_t) "-t ext3 -b 1024 -g 1024 -I 256 -N 1200 -J size=1 -O ^resize_inode" },
		{ "clusters", test_moved, NULL, vol_clean, (void *)(uintptr_t)SHORT_CLUSTERS },
		{ "without a journal", test_moved, NULL, vol_clean,
		  (void *)(uintptr_t) "-t ext4 -b 1024 -g 1024 -N 1200 -O ^has_journal,^resize_inode" },
		{ "reads that fail", test_reads_fail, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS },
		{ "reads that fail, of clusters", test_reads_fail, NULL, vol_clean,
		  (void *)(uintptr_t)SHORT_CLUSTERS },
		cmocka_unit_test_teardown(test_askew, vol_clean),
		cmocka_unit_test_teardown(test_pointers, vol_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
