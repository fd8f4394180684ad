/* The journal goes before the end by states of its inode, each of which is whole for e2fsck: the same log, at other places at last. */
#include "shortvol.h"

#include <errno.h>

static u64 log_last(void)
{
	u64 last;

	vol_open_rdonly();
	assert_int_equal(ext4_short_log_last(vol_es, &last), 0);
	vol_close();
	return last;
}

static u64 log_blocks(void)
{
	char said[64];

	output(said, sizeof(said), "debugfs -R 'stat <8>' %s/img 2>/dev/null | sed -n 's/.*Blockcount: //p'",
	       vol_dir);
	return strtoull(said, NULL, 10);
}

static void test_moved(void **state)
{
	const struct mount_opts opts = { 0 };
	struct ext4_super *es;
	u64 before, sectors;
	int err;

	(void)state;
	short_make(SHORT_ARGS);
	before = log_last();
	sectors = log_blocks();
	/* Its own last block is behind it. */
	short_plan = (struct ext4_short){ .what = &short_what, .end = before, .groups = SHORT_MIB };
	(void)short_open();
	assert_int_equal(ext4_short_log_prepare(&short_plan), 0);
	short_close();
	short_check();
	assert_int_equal(log_last(), before);
	vol_dev_open();
	assert_int_equal(ext4_short_open(&ext4_fs_type, vol_dev, &opts, &es), 0);
	err = ext4_short_log_move(es);
	ext4_short_close(es, &err);
	assert_int_equal(err, 0);
	vol_dev_close();
	short_check();
	es = short_open();
	assert_int_equal(ext4_short_log_tidy(es), 0);
	short_close();
	short_check();
	assert_true(log_last() < before);
	assert_in_range(log_blocks(), sectors, sectors + 8);
	/* There is nothing more to tidy, and it is a log. */
	es = short_open();
	assert_int_equal(ext4_short_log_tidy(es), 0);
	assert_non_null(es->journal);
	short_close();
	short_check();
	vol_remove();
}

/* Blocks of files that were copied before may be lost: nothing may lead to them. */
static void test_flush_that_fails(void **state)
{
	const struct mount_opts opts = { 0 };
	int err = 0;

	(void)state;
	short_make(SHORT_ARGS);
	short_plan = (struct ext4_short){ .what = &short_what, .end = log_last(), .groups = SHORT_MIB };
	vol_dev_fault(false);
	assert_int_equal(ext4_short_open_written(&ext4_fs_type, vol_dev, &opts, &short_plan.es), 0);
	dev_fault_nth(vol_dev, FAULT_FLUSH, 1, -EIO, false);
	assert_int_equal(ext4_short_log_prepare(&short_plan), -EIO);
	ext4_short_close(short_plan.es, &err);
	assert_int_equal(err, -EROFS);
	vol_dev_close();
	vol_replayed();
	short_check();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_moved, vol_clean),
		cmocka_unit_test_teardown(test_flush_that_fails, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
