/*
 * A volume that becomes shorter on a device that fails, once or from then on, at any of its reads, writes or flushes: it is as long as it was or as it is to be, all
 * that it had is there, to e2fsck, to the kernel and to us, and it can be gone on with.
 */
#include "shortvol.h"

#include <errno.h>

#define EACH       2u /* requests that fail, of a kind */
#define LAST_BYTES (8500ull << 10)

static const char *const shapes[] = {
	SHORT_ARGS,
	"-t ext4 -b 1024 -g 1024 -I 256 -N 1200 -J size=1 -O ^metadata_csum,^64bit,uninit_bg -E resize=60000",
	SHORT_CLUSTERS,
};

static int cut(u64 *counts, enum fault_op op, u64 nth, bool sticky)
{
	struct shorten what = { .size_bytes = LAST_BYTES };
	const struct mount_opts opts = { 0 };
	int err;

	vol_dev_fault(false);
	dev_fault_nth(vol_dev, op, nth, -EIO, sticky);
	err = ext4_fs_type.shorten(&vol_dev, 1, &opts, &what);
	for (u32 i = 0; i < FAULT_OP_COUNT && counts; i++)
		counts[i] = dev_fault_count(vol_dev, (enum fault_op)i);
	vol_dev_close();
	return err;
}

static void judge(void)
{
	vol_replayed();
	if (vol_kernel_can()) {
		run("cd %s && cp img theirs", vol_dir);
		vol_kernel("theirs", "errors=continue");
		run("diff -r --no-dereference %s/want %s/mnt", vol_dir, vol_dir);
		vol_kernel_end();
	}
	vol_open();
	vol_close();
	short_check();
}

static void test_errors(void **state)
{
	const enum fault_op ops[] = { FAULT_READ, FAULT_WRITE, FAULT_FLUSH };
	u64 counts[FAULT_OP_COUNT];
	int err;

	short_make(*state);
	run("cp %s/img %s/base", vol_dir, vol_dir);
	rnd_seed();
	assert_int_equal(cut(counts, FAULT_WRITE, 0, false), 0);
	judge();
	for (u32 k = 0; k < 2 * ARRAY_SIZE(ops); k++) {
		enum fault_op op = ops[k / 2];
		u64 step = MAX(counts[op] / EACH, 1ull);

		for (u64 nth = 1 + rnd((u32)step); nth <= counts[op]; nth += 1 + rnd(2 * (u32)step - 1)) {
			run("cp %s/base %s/img", vol_dir, vol_dir);
			err = cut(NULL, op, nth, k & 1);
			/* Before anything is written, descriptors that cannot be read count as damaged. */
			assert_true(err == 0 || err == -EIO || err == -EROFS ||
				    (err == -EUCLEAN && op == FAULT_READ));
			judge();
			/* What stopped its journal is to be looked into first. */
			run("e2fsck -p %s/img >/dev/null || test $? = 1", vol_dir);
			assert_int_equal(cut(NULL, FAULT_WRITE, 0, false), 0);
			short_check();
		}
	}
	vol_remove();
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(shapes)];

	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++)
		tests[i] = (struct CMUnitTest){ shapes[i], test_errors, NULL, vol_clean,
						(void *)(uintptr_t)shapes[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
