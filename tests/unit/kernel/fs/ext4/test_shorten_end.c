/* The end moves when nothing is behind it, and does not while anything is. */
#include "shortvol.h"

#include <errno.h>

static int end(void)
{
	const struct mount_opts opts = { 0 };
	int err;

	vol_dev_open();
	err = ext4_short_end(&ext4_fs_type, vol_dev, &opts, &short_plan);
	vol_dev_close();
	return err;
}

static u64 blocks(void)
{
	u64 n;

	vol_open_rdonly();
	n = vol_es->blocks;
	vol_close();
	return n;
}

static void test_end(void **state)
{
	short_make(*state);
	assert_int_equal(short_find(10 << 20), 0);
	/* Not yet. */
	assert_int_equal(end(), -EUCLEAN);
	assert_non_null(strstr(err_text(), "are in use"));
	short_check();
	assert_int_equal(blocks(), SHORT_MIB << 10);
	(void)short_open();
	assert_int_equal(ext4_short_inodes(&short_plan), 0);
	short_close();
	(void)short_open();
	assert_int_equal(ext4_short_blocks(&short_plan), 0);
	short_close();
	if (short_plan.log)
		fail_msg("the journal is not where this test has it");
	assert_int_equal(end(), 0);
	/* Whoever opens it next applies the log, which ends it. */
	vol_open();
	vol_close();
	assert_int_equal(blocks(), short_plan.end);
	short_check();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "blocks", test_end, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS },
		{ "clusters", test_end, NULL, vol_clean, (void *)(uintptr_t)SHORT_CLUSTERS },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
