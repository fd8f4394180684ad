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

/* Attributes' values in inodes behind the new end. debugfs does not count their blocks, which is left to e2fsck. */
static void make_values(void)
{
	vol_make(SHORT_ARGS ",ea_inode", SHORT_MIB, "for i in $(seq 600); do echo $i >e$i; done");
	run("cd %s && for i in $(seq 15); do seq $i 1500 | head -c 1000 >v$i; done && { "
	    "for i in $(seq 15); do echo ea_set -f v$i /e$((500 + i)) user.v; done; "
	    "for i in $(seq 450); do echo rm e$i; done; } >make && "
	    "debugfs -w -f make img >/dev/null 2>&1 && { e2fsck -fy img >said 2>&1; mkdir want; } && debugfs "
	    "-R 'rdump / want' img "
	    ">/dev/null 2>&1",
	    vol_dir);
}

static void test_values(void **state)
{
	struct ext4_super *es;

	(void)state;
	make_values();
	vol_fsck();
	assert_int_equal(short_find(0), 0);
	es = short_open();
	assert_true(ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE));
	assert_int_equal(ext4_short_inodes(&short_plan), 0);
	for (u32 i = short_plan.groups; i < es->groups; i++)
		assert_int_equal(es->group[i].free_inodes, es->inodes_per_group);
	short_close();
	short_check();
	run("cd %s && for i in $(seq 15); do debugfs -R \"ea_get -f got$i /e$((500 + i)) user.v\" img "
	    ">/dev/null 2>&1; cmp v$i got$i || exit 1; done",
	    vol_dir);
	vol_remove();
}

/* A value that counts an attribute too many: found out before anything of it changed. */
static void test_wrong_count(void **state)
{
	(void)state;
	make_values();
	run("cd %s && debugfs -w -R 'sif <612> version 2' img >/dev/null 2>&1", vol_dir);
	assert_int_equal(short_find(0), 0);
	(void)short_open();
	assert_int_equal(ext4_short_inodes(&short_plan), -EUCLEAN);
	assert_non_null(strstr(err_text(), "1 attributes have their value in it, it counts 2"));
	short_close();
	vol_remove();
}

/* A value that counts none knows its owner by his number: both stay. */
static void test_owned(void **state)
{
	(void)state;
	make_values();
	run("cd %s && debugfs -w -R 'sif <612> version 0' img >/dev/null 2>&1", vol_dir);
	assert_int_equal(short_find(0), 0);
	assert_true(short_plan.groups >= 9);
	assert_int_equal(short_find(1u << 20), -ENOSPC);
	assert_non_null(strstr(err_text(), "values of attributes that know their owner"));
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
		cmocka_unit_test_teardown(test_values, vol_clean),
		cmocka_unit_test_teardown(test_wrong_count, vol_clean),
		cmocka_unit_test_teardown(test_owned, vol_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
