/* A memfs mounted on a memory device, for the unit tests of vfs. */
#ifndef TEST_MEMMOUNT_H
#define TEST_MEMMOUNT_H

#include "fs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */

static const struct cred test_cred = { .uid = 1000, .gid = 1000, .umask = 022 };

static inline struct super_block *mount_mem(u64 size_bytes)
{
	const struct mount_opts opts = { 0 };
	struct super_block *sb;
	struct blkdev *dev;

	assert_int_equal(dev_mem_new("mem", size_bytes, 512, &dev), 0);
	assert_int_equal(fs_find("memfs")->mount(&dev, 1, &opts, &sb), 0);
	blkdev_put(dev);
	return sb;
}

#endif
