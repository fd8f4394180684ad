/* Inodes get numbers in groups that stay: every name leads to what it led to, and the groups that go have none. */
#include "shortvol.h"

#include <errno.h>

static void test_moved(void **state)
{
	struct ext4_super *es;
	u64 moved;

	short_make(*state);
	assert_int_equal(short_find(0), 0);
	moved = short_plan.inodes;
	assert_true(moved > 0);
	es = short_open();
	assert_int_equal(ext4_short_inodes(&short_plan), 0);
	for (u32 i = short_plan.groups; i < es->groups; i++)
		assert_int_equal(es->group[i].free_inodes, es->inodes_per_group);
	short_close();
	short_check();
	/* And that is all that there was to do. */
	assert_int_equal(short_find(short_plan.end << 10), 0);
	assert_int_equal(short_plan.inodes, 0);
	vol_remove();
}

/* Link counts that are wrong: found out before anything of the inode changed. */
static void test_wrong_links(void **state)
{
	(void)state;
	short_make(SHORT_ARGS);
	run("cd %s && for i in $(seq 400); do echo sif /e$i links_count 3; echo sif /d/e$i links_count 3; "
	    "done >wrong && "
	    "debugfs -w -f wrong img >/dev/null 2>&1",
	    vol_dir);
	assert_int_equal(short_find(0), 0);
	(void)short_open();
	assert_int_equal(ext4_short_inodes(&short_plan), -EUCLEAN);
	assert_non_null(strstr(err_text(), "names, 3 links: check the volume first"));
	short_close();
	run("cd %s && debugfs -R 'cat /d/e390' img 2>/dev/null | grep -qx 390", vol_dir);
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "metadata_csum", test_moved, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS },
		{ "inline_data", test_moved, NULL, vol_clean, (void *)(uintptr_t)SHORT_ARGS ",inline_data" },
		{ "no sums", test_moved, NULL, vol_clean,
		  (void *)(uintptr_t) "-t ext4 -b 1024 -g 1024 -N 1200 -J size=1 -O "
				      "^metadata_csum,^64bit,^resize_inode" },
		cmocka_unit_test_teardown(test_wrong_links, vol_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
