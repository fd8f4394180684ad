/* How short a volume can be: what is told holds, what cannot be is refused with the least that can, and what stays where it is counts. */
#include "shortvol.h"

#include <errno.h>

static void test_plan(void **state)
{
	u64 all = (u64)SHORT_MIB << 20;

	short_make(*state);
	assert_int_equal(short_find(all), 0);
	assert_int_equal(short_plan.blocks + short_plan.inodes, 0);
	assert_int_equal(short_find(0), 0);
	assert_true(short_plan.end < all >> 10 && short_plan.end >= short_plan.least);
	assert_true(short_plan.blocks && short_plan.inodes);
	for (u64 want = all; want >= short_plan.least << 10; want -= 300000) {
		struct ext4_short least = short_plan;

		assert_int_equal(short_find(want), 0);
		assert_true(short_plan.more || short_plan.end <= want >> 10);
		assert_int_equal((short_plan.end << 10) % short_plan.unit_bytes, 0);
		assert_int_equal(short_plan.least, least.least);
	}
	assert_int_equal(short_find((short_plan.least - 1) << 10), -ENOSPC);
	assert_non_null(strstr(err_text(), "bytes at least"));
	/* Less than a cluster is a length too, and not the least. */
	assert_int_equal(short_find(1024), -ENOSPC);
	vol_remove();
}

/* Numbers that may not change: the last group with an inode is the least. */
static void test_stable(void **state)
{
	u64 least;

	(void)state;
	short_make(SHORT_ARGS);
	assert_int_equal(short_find(0), 0);
	least = short_plan.least;
	run("debugfs -w -R 'feature stable_inodes' %s/img >/dev/null 2>&1", vol_dir);
	assert_int_equal(short_find(0), 0);
	assert_int_equal(short_plan.inodes, 0);
	assert_true(short_plan.least > least);
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "blocks", test_plan, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS },
		{ "clusters", test_plan, NULL, vol_clean, (void *)(uintptr_t)SHORT_CLUSTERS },
		cmocka_unit_test_teardown(test_stable, vol_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
