/*
 * Volumes for tests of what writes: made by mke2fs in a file below /tmp, opened in process, judged by e2fsck and debugfs.
 * One at a time.
 */
#ifndef TEST_VOLUME_H
#define TEST_VOLUME_H

#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATHS "PATH=$PATH:/sbin:/usr/sbin; "

static char vol_dir[64]; /* holds img, and what tests put there */
static struct blkdev *vol_dev;
static struct ext4_super *vol_es; /* between vol_open and vol_close */

static inline __printf_like(1, 2) int try_run(const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;
	size_t n = (size_t)snprintf(cmd, sizeof(cmd), "%s", PATHS);

	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	return system(cmd);
}

#define run(...) assert_int_equal(try_run(__VA_ARGS__), 0)

/* The output of a command, cut to size. */
static inline __printf_like(3, 4) void output(char *buf, size_t size, const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;
	size_t n = (size_t)snprintf(cmd, sizeof(cmd), "%s", PATHS);
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	f = popen(cmd, "r");
	assert_non_null(f);
	n = fread(buf, 1, size - 1, f);
	buf[n] = 0;
	pclose(f);
}

/*
 * mke2fs ARGS; `src`, when not NULL, are commands run in the directory that the volume is filled from. What mke2fs does not write is
 * not zeros.
 */
static inline void vol_make(const char *args, u32 mib, const char *src)
{
	snprintf(vol_dir, sizeof(vol_dir), "/tmp/test_ext4.XXXXXX");
	assert_non_null(mkdtemp(vol_dir));
	run("mkdir %s/src && cd %s/src && { %s; }", vol_dir, vol_dir, src ? src : ":");
	run("mke2fs -qF %s -d %s/src %s/img %uM >%s/log 2>&1 || { cat %s/log; false; }", args, vol_dir,
	    vol_dir, mib, vol_dir, vol_dir);
	run("rm -rf %s/src", vol_dir);
}

static inline void vol_remove(void)
{
	if (vol_dir[0])
		(void)!try_run("rm -rf --one-file-system %s", vol_dir);
	vol_dir[0] = 0;
}

/* Some of what it would mend does not show in its exit code; what it would only make smaller is right as it is. */
static inline void vol_fsck(void)
{
	run("cd %s && e2fsck -fn img >log 2>&1 && ! grep '? no$' log | grep -qv 'Optimize? no$' || "
	    "{ cat log; false; }",
	    vol_dir);
}

/* A copy, "theirs", is whole once e2fsck has applied its journal and seen to its orphans. */
static inline void vol_replayed(void)
{
	run("cd %s && cp img theirs && { e2fsck -y -E journal_only theirs; test $? -le 1; } >log 2>&1 && "
	    "{ e2fsck -p theirs; test $? -le 1; } >>log 2>&1 && e2fsck -fn theirs >>log 2>&1 || { cat log; "
	    "false; }",
	    vol_dir);
}

/* Unless a test has opened one already, perhaps with a device of its own on top. */
static inline void vol_dev_open(void)
{
	char path[128];

	if (vol_dev)
		return;
	snprintf(path, sizeof(path), "%s/img", vol_dir);
	assert_int_equal(dev_file_open(path, DEV_WRITE | DEV_BUFFERED, &vol_dev), 0);
}

static inline void vol_dev_close(void)
{
	blkdev_put(vol_dev);
	vol_dev = NULL;
}

/* What is opened next lies on a device that can fail. */
static inline void vol_dev_fault(bool record)
{
	struct blkdev *file;

	vol_dev_open();
	file = vol_dev;
	assert_int_equal(dev_fault_new(file, record, &vol_dev), 0);
	blkdev_put(file);
}

/* On vol_dev. */
static inline void vol_mount_dev(bool rdonly, const char *fs_opts)
{
	const struct mount_opts opts = { .rdonly = rdonly, .fs_opts = fs_opts };
	struct super_block *sb;

	assert_int_equal(ext4_fs_type.mount(&vol_dev, 1, &opts, &sb), 0);
	vol_es = ext4_super(sb);
	if (sb->rdonly != rdonly)
		fail_msg("not writable: %s", sb->notice);
}

/* Opens it for writing, as a mount does. */
static inline void vol_open(void)
{
	vol_dev_open();
	vol_mount_dev(false, NULL);
}

static inline void vol_open_rdonly(void)
{
	vol_dev_open();
	vol_mount_dev(true, NULL);
}

/* What statfs tells is what the groups have that can be had. Nobody changes them. */
static inline void vol_assert_sums(void)
{
	u64 clusters = 0, inodes = 0;
	struct kstatfs st = { 0 };

	for (u32 i = 0; i < vol_es->groups; i++) {
		const struct ext4_group *g = &vol_es->group[i];

		if (!g->bad && !g->blocks_out && g->free_clusters <= ext4_group_blocks(vol_es, i))
			clusters += g->free_clusters;
		if (!g->bad && !g->inodes_out && g->free_inodes <= vol_es->inodes_per_group)
			inodes += g->free_inodes;
	}
	assert_int_equal(vfs_statfs(&vol_es->vfs, &st), 0);
	assert_int_equal(st.blocks_free, clusters << vol_es->cluster_bits);
	assert_int_equal(st.inodes_free, inodes);
}

static inline void vol_close(void)
{
	vol_assert_sums();
	assert_int_equal(vfs_unmount(&vol_es->vfs), 0);
	vol_es = NULL;
	vol_dev_close();
}

/* What a mount for writing makes ready, up to this; each includes those before it. */
enum vol_parts { VOL_SUPER, VOL_GROUPS, VOL_SPACE };

/* Opens no more of it than a test of these parts needs, without its journal, and with these ops at the end of handles. */
static inline void vol_open_parts(enum vol_parts parts, const struct jbd2_ops *ops)
{
	vol_open_rdonly();
	vol_es->vfs.rdonly = false;
	vol_es->trans_ops = ops;
	mutex_init(&vol_es->super_lock, RANK_LEAF);
	mutex_init(&vol_es->orphan_lock, RANK_ALLOC);
	list_init(&vol_es->orphans);
	assert_int_equal(ext4_super_hold(vol_es), 0);
	if (parts >= VOL_GROUPS)
		assert_int_equal(ext4_groups_open(vol_es), 0);
	if (parts >= VOL_SPACE)
		assert_int_equal(ext4_balloc_open(vol_es), 0);
}

static inline void vol_close_parts(void)
{
	ext4_balloc_close(vol_es);
	ext4_groups_close(vol_es);
	ext4_super_release(vol_es);
	assert_int_equal(bcache_sync(vol_dev), 0);
	mutex_fini(&vol_es->super_lock);
	mutex_fini(&vol_es->orphan_lock);
	vol_es->vfs.rdonly = true;
	vol_close();
}

/* The power cut: what is written from the beginning on is recorded, then the image is what it was after each write in turn. */
struct vol_cuts {
	struct blkdev *fault;
	u8 *image;
	u64 bytes, at;
};

static inline void vol_cuts_begin(struct vol_cuts *c)
{
	vol_dev_open();
	*c = (struct vol_cuts){ .bytes = vol_dev->size_bytes, .image = malloc(vol_dev->size_bytes) };
	assert_non_null(c->image);
	assert_int_equal(blkdev_read(vol_dev, 0, c->image, c->bytes), 0);
	vol_dev_fault(true);
	c->fault = blkdev_get(vol_dev);
}

/* False: that was the last one. */
static inline bool vol_cuts_next(struct vol_cuts *c)
{
	struct fault_record r = { .op = FAULT_FLUSH };

	while (c->at < dev_fault_records(c->fault) && r.op != FAULT_WRITE)
		assert_int_equal(dev_fault_record(c->fault, c->at++, &r), 0);
	if (r.op != FAULT_WRITE) {
		blkdev_put(c->fault);
		free(c->image);
		return false;
	}
	memcpy(c->image + r.off_bytes, r.data, r.len_bytes);
	vol_dev_open();
	assert_int_equal(blkdev_write(vol_dev, 0, c->image, c->bytes, 0), 0);
	vol_dev_close();
	return true;
}

/* Mounts the image `name` of vol_dir on vol_dir/mnt with the kernel. */
static inline void vol_kernel(const char *name, const char *opts)
{
	run("mkdir -p %s/mnt && mount -o loop,%s %s/%s %s/mnt", vol_dir, opts, vol_dir, name, vol_dir);
}

static inline void vol_kernel_end(void)
{
	run("umount %s/mnt", vol_dir);
}

/* The kernel's mounts are there for root alone, where there are loop devices. */
static inline bool vol_kernel_can(void)
{
	return !getuid() && !access("/dev/loop-control", R_OK | W_OK);
}

/* For a test's teardown. */
static inline int vol_clean(void **state)
{
	(void)state;
	/* What a test that failed has left open stays so. */
	vol_es = NULL;
	vol_dev = NULL;
	if (vol_dir[0])
		(void)!try_run("mountpoint -q %s/mnt && umount -l %s/mnt", vol_dir, vol_dir);
	vol_remove();
	return 0;
}

/* Numbers that repeat with the seed, which a failing test prints. */
static u64 rnd_state;

static inline u32 rnd(u32 below)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)((rnd_state >> 33) % below);
}

static inline void rnd_seed(void)
{
	const char *s = getenv("SEED");

	rnd_state = s ? strtoull(s, NULL, 0) : os_monotonic_ns();
	print_message("seed %llu\n", (unsigned long long)rnd_state);
}

#endif
