/* Volumes that tests of the writing half change: made by mke2fs in a file, opened here, judged by e2fsck. */
#ifndef TEST_RWVOL_H
#define TEST_RWVOL_H

#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct rwvol {
	char dir[32]; /* of its own, under /tmp */
	char img[40];
	struct super_block *sb; /* while it is mounted */
};

/* Runs a command; its exit code. */
static inline int sh(const char *fmt, ...) __printf_like(1, 2);
static inline int sh(const char *fmt, ...)
{
	char cmd[2048] = "PATH=$PATH:/sbin:/usr/sbin; ";
	size_t at = strlen(cmd);
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(cmd + at, sizeof(cmd) - at, fmt, ap);
	va_end(ap);
	rc = system(cmd);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : 255;
}

/* files: so many files f0, f1, … in the root. tune: arguments for tune2fs, "" for none. */
static inline void rwvol_make(struct rwvol *v, const char *mke2fs_args, const char *tune, u32 mib, u32 files)
{
	strcpy(v->dir, "/tmp/test_rwvol.XXXXXX");
	assert_non_null(mkdtemp(v->dir));
	snprintf(v->img, sizeof(v->img), "%s/img", v->dir);
	v->sb = NULL;
	assert_int_equal(sh("mkdir -p %s/src/d && cd %s/src && for i in $(seq 0 %d); do : >f$i; done", v->dir,
			    v->dir, (int)files - 1),
			 0);
	assert_int_equal(
		sh("mke2fs -qF %s -d %s/src %s %uM >/dev/null 2>&1", mke2fs_args, v->dir, v->img, mib), 0);
	if (*tune)
		assert_int_equal(sh("tune2fs %s %s >/dev/null 2>&1 && e2fsck -fy %s >/dev/null 2>&1", tune,
				    v->img, v->img),
				 0);
}

static inline void rwvol_mount(struct rwvol *v, bool rdonly)
{
	const struct mount_opts opts = { .rdonly = rdonly };
	struct blkdev *dev;

	assert_int_equal(dev_file_open(v->img, rdonly ? 0 : DEV_WRITE, &dev), 0);
	if (ext4_fs_type.mount(&dev, 1, &opts, &v->sb))
		fail_msg("mount: %s", err_text());
	blkdev_put(dev);
}

static inline void rwvol_unmount(struct rwvol *v)
{
	int err = vfs_unmount(v->sb);

	if (err)
		fail_msg("unmount: %d %s", err, err_text());
	v->sb = NULL;
}

/* e2fsck finds nothing to mend. The volume is not mounted. */
static inline void rwvol_check(struct rwvol *v)
{
	int rc = sh("e2fsck -fn %s >%s/fsck 2>&1", v->img, v->dir);

	if (rc) {
		sh("head -40 %s/fsck >&2", v->dir);
		fail_msg("e2fsck -fn: %d", rc);
	}
}

static inline void rwvol_drop(struct rwvol *v)
{
	assert_int_equal(sh("rm -rf %s", v->dir), 0);
}

/* The seed of a random test: WERUNOS_SEED, or the clock. Printed. */
static inline u64 new_seed(void)
{
	const char *s = getenv("WERUNOS_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns() | 1;

	print_message("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static inline u32 rnd(u64 *state, u32 below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (u32)((*state >> 20) % below);
}

#endif
