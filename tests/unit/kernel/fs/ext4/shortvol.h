/* A volume with something all over it, that becomes shorter part by part. */
#ifndef TEST_SHORTVOL_H
#define TEST_SHORTVOL_H

#include "volume.h"

#include "fs/ext4/shorten.h"
#include <errno.h>

#define SHORT_ARGS \
	"-t ext4 -b 1024 -g 1024 -G 4 -I 256 -N 1200 -J size=1 -O metadata_csum,64bit,^resize_inode"
#define SHORT_CLUSTERS                                                      \
	"-t ext4 -b 1024 -C 4096 -g 256 -G 16 -I 256 -N 1200 -J size=1 -O " \
	"metadata_csum,64bit,bigalloc,^resize_inode"
#define SHORT_MIB 16u

static struct shorten short_what;
static struct ext4_short short_plan;

/* It is to have what it has now. */
static inline void short_want(void)
{
	run("cd %s && mkdir want && debugfs -R 'rdump / want' img >/dev/null 2>&1", vol_dir);
	vol_fsck();
}

/* What lies in its first part goes again. */
static inline void short_make(const char *args)
{
	vol_make(args, SHORT_MIB,
		 "for i in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/urandom >f$i; done; mkdir d; "
		 "for i in $(seq 400); do echo $i >e$i; echo $i >d/e$i; done; ln e399 d/twin; ln -s d/e3 "
		 "link");
	run("cd %s && { for i in 1 2 3 4 5; do echo rm f$i; done; for i in $(seq 350); do echo rm e$i; done; "
	    "} >gone && "
	    "debugfs -w -f gone img >/dev/null 2>&1",
	    vol_dir);
	short_want();
}

/* All that it had is there, and nothing is wrong. */
static inline void short_check(void)
{
	vol_fsck();
	run("cd %s && mkdir have && debugfs -R 'rdump / have' img >/dev/null 2>&1 && diff -r "
	    "--no-dereference want have && "
	    "rm -r have",
	    vol_dir);
}

/* short_plan for so many bytes. */
static inline int short_find(u64 bytes)
{
	int err;

	vol_open_rdonly();
	short_plan.what = &short_what;
	err = ext4_short_plan(vol_es, bytes >> vol_es->block_bits, &short_plan);
	vol_close();
	return err;
}

/* Opened, the allocators kept before the new end. */
static inline struct ext4_super *short_open(void)
{
	const struct mount_opts opts = { 0 };

	vol_dev_open();
	assert_int_equal(ext4_short_open_written(&ext4_fs_type, vol_dev, &opts, &short_plan.es), 0);
	ext4_inos_limit(short_plan.es, short_plan.groups);
	assert_int_equal(ext4_blocks_limit(short_plan.es, short_plan.end), 0);
	return short_plan.es;
}

static inline void short_close(void)
{
	int err = 0;

	ext4_short_close(short_plan.es, &err);
	assert_int_equal(err, 0);
	vol_dev_close();
}

/* The part, of the volume as it is, while its nth read fails. False: it had not so many. Then each block is somebody's or free, and no error is remembered. */
static inline bool short_read_fails(int (*part)(struct ext4_short *s), u64 nth)
{
	struct ext4_super *es;
	bool met;
	u64 before;
	int err;

	vol_dev_fault(false);
	es = short_open();
	before = dev_fault_count(vol_dev, FAULT_READ);
	dev_fault_nth(vol_dev, FAULT_READ, nth, -EIO, false);
	err = part(&short_plan);
	met = dev_fault_count(vol_dev, FAULT_READ) >= before + nth;
	dev_fault_nth(vol_dev, FAULT_READ, 0, 0, false);
	assert_true(!err || (met && err == -EIO));
	ext4_short_close(es, &err);
	vol_dev_close();
	vol_open();
	assert_false(le16_get(vol_es->disk.state) & EXT4_STATE_ERROR);
	vol_close();
	vol_fsck();
	return met;
}

/* Each of its reads once. Afterwards it was done. */
static inline void short_reads_fail(int (*part)(struct ext4_short *s))
{
	u64 nth = 0;

	run("cp %s/img %s/base", vol_dir, vol_dir);
	while (short_read_fails(part, ++nth))
		run("cp %s/base %s/img", vol_dir, vol_dir);
	assert_true(nth > 1);
}

#endif
