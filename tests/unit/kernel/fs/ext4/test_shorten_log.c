/* The journal goes before the end by states of its inode, each of which is whole for e2fsck: the same log, at other places at last. */
#include "shortvol.h"

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

static int tidy(struct ext4_short *s)
{
	return ext4_short_log_tidy(s->es);
}

static void test_moved(void **state)
{
	const struct mount_opts opts = { 0 };
	struct ext4_super *es;
	u64 before, sectors, unit;
	int err;

	((void (*)(void)) * state)();
	before = log_last();
	sectors = log_blocks();
	vol_open_rdonly();
	unit = 1ull << vol_es->cluster_bits;
	/* Its own last block is behind it. */
	short_plan = (struct ext4_short){ .what = &short_what,
					  .end = ALIGN_DOWN(before, unit),
					  .groups = vol_es->groups };
	vol_close();
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
	short_reads_fail(tidy);
	short_check();
	assert_true(log_last() < before);
	assert_in_range(log_blocks(), sectors, sectors + 2 * MAX(unit, 4ull));
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

static void with_blocks(void)
{
	short_make(SHORT_ARGS);
}

static void with_clusters(void)
{
	short_make(SHORT_CLUSTERS);
}

/* The log takes half a cluster, behind some that are free. */
static void with_one_cluster(void)
{
	vol_make("-t ext4 -b 1024 -C 2097152 -N 512 -O bigalloc,^resize_inode,^has_journal", 2048,
		 "for i in $(seq 12); do echo $i >f$i; done");
	run("cd %s && tune2fs -J size=1 img >/dev/null 2>&1 && seq -f 'rm f%%g' 11 >gone && "
	    "debugfs -w -f gone img >/dev/null 2>&1",
	    vol_dir);
	short_want();
}

/* The journal lies behind what a file leaves free. */
static void make_pointers(const char *args, u32 mib, u32 free_mib, u32 log_mib)
{
	char fill[200];

	snprintf(fill, sizeof(fill), "head -c %uM /dev/zero | tr '\\0' x >f; seq 10000 >a", free_mib);
	vol_make(args, mib, fill);
	run("cd %s && tune2fs -j -J size=%u img >/dev/null 2>&1 && debugfs -w -R 'rm f' img >/dev/null 2>&1 "
	    "&& mkdir want && "
	    "debugfs -R 'rdump / want' img >/dev/null 2>&1",
	    vol_dir, log_mib);
}

static void with_pointers(void)
{
	make_pointers("-t ext2 -b 1024 -g 1024 -I 128 -N 1200 -O ^resize_inode", SHORT_MIB, 10, 1);
}

/* With room for a map of all three levels. */
static void with_many_pointers(void)
{
	make_pointers("-t ext2 -b 1024 -I 128 -N 512 -O ^resize_inode", 130, 40, 33);
}

static void test_nodes(void **state)
{
	struct ext4_super *es;

	(void)state;
	short_make(SHORT_ARGS);
	vol_open_rdonly();
	es = vol_es;
	assert_int_equal(ext4_short_pointers_nodes(es, 0), 0);
	assert_int_equal(ext4_short_pointers_nodes(es, 12), 0);
	assert_int_equal(ext4_short_pointers_nodes(es, 13), 1);
	assert_int_equal(ext4_short_pointers_nodes(es, 12 + 256), 1);
	assert_int_equal(ext4_short_pointers_nodes(es, 12 + 257), 3);
	assert_int_equal(ext4_short_pointers_nodes(es, 12 + 256 + 65536), 2 + 256);
	assert_int_equal(ext4_short_pointers_nodes(es, 12 + 256 + 65537), 2 + 256 + 3);
	vol_close();
	vol_remove();
}

/* What the volume has no room for leaves the journal as it was. */
static void test_no_room(void **state)
{
	u64 sectors;

	(void)state;
	with_pointers();
	sectors = log_blocks();
	short_plan = (struct ext4_short){ .what = &short_what, .end = 8000, .groups = SHORT_MIB };
	(void)short_open();
	assert_int_equal(ext4_short_log_prepare(&short_plan), 0);
	assert_int_equal(ext4_short_log_tidy(short_plan.es), 0);
	short_plan.end = 1500;
	assert_int_equal(ext4_blocks_limit(short_plan.es, short_plan.end), 0);
	assert_int_equal(ext4_short_log_prepare(&short_plan), -ENOSPC);
	short_close();
	short_check();
	assert_int_equal(log_blocks(), sectors);
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "blocks", test_moved, NULL, vol_clean, (void *)(uintptr_t)with_blocks },
		{ "clusters", test_moved, NULL, vol_clean, (void *)(uintptr_t)with_clusters },
		{ "a cluster", test_moved, NULL, vol_clean, (void *)(uintptr_t)with_one_cluster },
		{ "pointers", test_moved, NULL, vol_clean, (void *)(uintptr_t)with_pointers },
		{ "many pointers", test_moved, NULL, vol_clean, (void *)(uintptr_t)with_many_pointers },
		cmocka_unit_test_teardown(test_nodes, vol_clean),
		cmocka_unit_test_teardown(test_no_room, vol_clean),
		cmocka_unit_test_teardown(test_flush_that_fails, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
