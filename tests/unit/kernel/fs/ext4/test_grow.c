/*
 * A volume that becomes longer on a device that fails, once or from then on, at any of its requests: it is as long as it was or longer, and whole,
 * to e2fsck and to us, once its journal was applied. A file that was made longer for nothing is as long as before.
 */
#include "volume.h"

#include "block/block.h"
#include <errno.h>

#define FIRST_MIB 12u
#define LAST_MIB  26u
#define EACH      6u /* requests that fail, of a kind */

static const char *const shapes[] = {
	"-t ext4 -b 1024 -g 1024 -G 4 -N 600 -J size=1 -E resize=40000 -O metadata_csum,64bit,^orphan_file",
	"-t ext4 -b 1024 -g 1024 -N 600 -J size=1 -O "
	"^metadata_csum,^64bit,uninit_bg,^flex_bg,^resize_inode,meta_bg",
	"-t ext4 -b 1024 -C 4096 -g 512 -N 600 -J size=1 -O metadata_csum,64bit,bigalloc,^resize_inode",
	"-t ext3 -b 1024 -g 1024 -N 600 -J size=1 -E resize=40000",
};

static u64 file_bytes(void)
{
	char said[64];

	output(said, sizeof(said), "stat -c %%s %s/img", vol_dir);
	return strtoull(said, NULL, 10);
}

static u64 volume_bytes(void)
{
	struct ext4_disk_super d;
	u64 bytes;

	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d)), 0);
	bytes = ext4_sb_blocks(&d) << (10 + le32_get(d.log_block_size));
	vol_dev_close();
	return bytes;
}

static void judge(u64 least_bytes)
{
	vol_replayed();
	if (vol_kernel_can()) {
		run("cd %s && cp img theirs", vol_dir);
		vol_kernel("theirs", "errors=continue");
		run("cmp %s/mnt/content %s/want", vol_dir, vol_dir);
		vol_kernel_end();
	}
	vol_open();
	vol_close();
	vol_fsck();
	run("cd %s && debugfs -R 'cat /content' img 2>/dev/null | cmp - want", vol_dir);
	assert_true(volume_bytes() >= least_bytes);
	assert_true(volume_bytes() <= LAST_MIB << 20);
}

/* The nth request from now on, of the kind, fails; 0: none. How many of the kinds there were. */
static void grow(enum fault_op op, u64 nth, int why, bool sticky, u64 *counts)
{
	u64 least = FIRST_MIB << 20, before[FAULT_OP_COUNT];
	struct grown grown;
	bool aborted;
	int err;

	run("cp %s/base %s/img", vol_dir, vol_dir);
	vol_dev_fault(false);
	vol_mount_dev(false, NULL);
	for (u32 i = 0; i < FAULT_OP_COUNT; i++)
		before[i] = dev_fault_count(vol_dev, (enum fault_op)i);
	dev_fault_nth(vol_dev, op, nth, why, sticky);
	err = vfs_grow(&vol_es->vfs, LAST_MIB << 20, &grown);
	aborted = health_state(&vol_es->vfs.health) >= HEALTH_ABORTED;
	for (u32 i = 0; i < FAULT_OP_COUNT && counts; i++)
		counts[i] = dev_fault_count(vol_dev, (enum fault_op)i) - before[i];
	assert_true(err == 0 || err == why || err == -EROFS || err == -EUCLEAN);
	assert_true(nth || !err);
	/* What a flush that failed has lost may be anybody's. */
	assert_true(op != FAULT_FLUSH || !err || aborted);
	if (!err)
		least = grown.after_bytes;
	(void)!vfs_unmount(&vol_es->vfs);
	vol_es = NULL;
	vol_dev_close();
	assert_int_equal(file_bytes(), err && !aborted && grown.after_bytes == grown.before_bytes
					       ? FIRST_MIB << 20
					       : LAST_MIB << 20);
	judge(least);
}

static void test_errors(void **state)
{
	const enum fault_op ops[] = { FAULT_WRITE, FAULT_FLUSH, FAULT_READ };
	u64 counts[FAULT_OP_COUNT];

	vol_make(*state, FIRST_MIB, "seq 20000 >content");
	run("cd %s && seq 20000 >want && mv img base", vol_dir);
	rnd_seed();
	grow(FAULT_WRITE, 0, 0, false, counts);
	for (u32 k = 0; k < 2 * ARRAY_SIZE(ops); k++) {
		enum fault_op op = ops[k / 2];
		u64 step = MAX(counts[op] / EACH, 1ull);

		for (u64 nth = 1 + rnd((u32)step); nth <= counts[op]; nth += 1 + rnd(2 * (u32)step - 1))
			grow(op, nth, op == FAULT_WRITE && nth & 1 ? -ENOSPC : -EIO, k & 1, NULL);
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
