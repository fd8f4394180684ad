/*
 * Errors that are met while the volume is used: they are on the volume after a crash, with and without a journal, also when nothing else
 * changed and where errors=remount-ro forbids changes; each is counted once; read-only mounts write nothing. dumpe2fs and e2fsck judge.
 */
#include "volume.h"

#include <errno.h>
#include <pthread.h>

#define WAIT_MS 20000u

static const char *const shapes[] = {
	"-t ext4 -O ^has_journal,metadata_csum,64bit -b 4096",
	"-t ext4 -O has_journal,metadata_csum,64bit -b 1024",
	"-t ext4 -O has_journal,^metadata_csum,^64bit -b 4096",
	"-t ext3 -b 1024",
	"-t ext2 -b 2048",
};

static void open_with(const char *fs_opts)
{
	vol_dev_open();
	vol_mount_dev(false, fs_opts);
}

/* The slot of /victim becomes nonsense. Its number. */
static u64 break_victim(void)
{
	struct inode *inode;
	u8 block[4096];
	u64 ino, blk;
	u32 off;

	vol_open();
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "victim", false, &inode), 0);
	ino = inode->ino;
	vfs_iput(inode);
	assert_int_equal(ext4_inode_where(vol_es, ino, &blk, &off), 0);
	blk <<= vol_es->block_bits;
	vol_close();
	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, ALIGN_DOWN(blk + off, 1024ull), block, 1024), 0);
	memset(block + off % 1024, 0xff, EXT4_INODE_BYTES_OLD);
	assert_int_equal(blkdev_write(vol_dev, ALIGN_DOWN(blk + off, 1024ull), block, 1024, 0), 0);
	vol_dev_close();
	return ino;
}

static void meet_victim(void)
{
	struct inode *inode;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "victim", false, &inode), -EUCLEAN);
}

static u64 commits(void)
{
	struct jbd2_stats s;

	jbd2_stats(vol_es->journal, &s);
	return s.commits;
}

static u32 error_count_on_disk(void)
{
	struct ext4_disk_super d;

	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d)), 0);
	return le32_get(d.error_count);
}

/* Until the timers have done what they do, with so many errors in all. */
static void wait_told(u64 commits_before, u32 count)
{
	u64 end = os_monotonic_ns() + WAIT_MS * 1000000ull;

	while (vol_es->journal ? commits() == commits_before : error_count_on_disk() != count) {
		assert_true(os_monotonic_ns() < end);
		usleep(20000);
	}
	assert_false(ext4_errors_new(vol_es));
}

/* The power goes now: what goes on with the image is what is in it now. */
static void cut_power(void)
{
	run("cp %s/img %s/cut", vol_dir, vol_dir);
	vol_close();
	run("mv %s/cut %s/img", vol_dir, vol_dir);
}

/* A mount after the crash keeps what is recorded; a repair ends it. */
static void assert_told(u32 count, u64 ino)
{
	char text[8192], want[64];

	vol_open();
	assert_non_null(strstr(vol_es->vfs.notice, "recorded errors"));
	vol_close();
	output(text, sizeof(text), "dumpe2fs -h %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(text, "clean with errors\n"));
	snprintf(want, sizeof(want), "FS Error count:           %u\n", count);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, "First error function:     werunos:"));
	assert_non_null(strstr(text, "Last error function:      werunos:"));
	assert_non_null(strstr(text, "First error err:          EFSCORRUPTED\n"));
	assert_non_null(strstr(text, "Last error err:           EFSCORRUPTED\n"));
	if (ino) {
		snprintf(want, sizeof(want), "First error inode #:      %llu\n", (unsigned long long)ino);
		assert_non_null(strstr(text, want));
		snprintf(want, sizeof(want), "Last error inode #:       %llu\n", (unsigned long long)ino);
		assert_non_null(strstr(text, want));
	}
	output(text, sizeof(text), "e2fsck -n %s/img 2>&1", vol_dir);
	assert_non_null(strstr(text, "contains a file system with errors, check forced"));
	output(text, sizeof(text),
	       "e2fsck -y %s/img >/dev/null 2>&1; test $? -le 1 && dumpe2fs -h %s/img 2>&1", vol_dir,
	       vol_dir);
	assert_non_null(strstr(text, " clean\n"));
	assert_null(strstr(text, "FS Error count"));
	vol_fsck();
}

/* Nothing else changes: a damaged inode is looked at, and the timers run. */
static void test_alone(void **state)
{
	static const char *const opts[] = { "commit=1", "commit=1,errors=remount-ro" };

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++)
		for (u32 o = 0; o < ARRAY_SIZE(opts); o++) {
			struct ext4_handle h;
			u64 ino, before;

			vol_make(shapes[s], 16, "echo x >victim");
			ino = break_victim();
			open_with(opts[o]);
			before = vol_es->journal ? commits() : 0;
			meet_victim();
			wait_told(before, 1);
			if (o)
				assert_int_equal(ext4_begin(vol_es, 1, 0, &h), -EROFS);
			cut_power();
			assert_told(1, ino);
			vol_remove();
		}
}

/* With the commit that comes next, though nobody but the precommit sees to it. */
static void test_next_commit(void **state)
{
	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		struct ext4_handle h;

		vol_make(shapes[s], 16, NULL);
		vol_open();
		ext4_upkeep_stop(vol_es);
		assert_int_equal(ext4_begin(vol_es, 1, 0, &h), 0);
		assert_int_equal(ext4_inode_set_dtime(&h, 12, 1), 0);
		assert_int_equal(ext4_inode_set_dtime(&h, 12, 0), 0);
		assert_int_equal(corrupt(&vol_es->vfs.health, "block", 77, "a test"), -EUCLEAN);
		assert_int_equal(corrupt(&vol_es->vfs.health, "group", 3, "a test"), -EUCLEAN);
		assert_int_equal(ext4_end(&h, 0), 0);
		assert_int_equal(vol_es->vfs.ops->sync(&vol_es->vfs), 0);
		assert_false(ext4_errors_new(vol_es));
		cut_power();
		run("dumpe2fs -h %s/img 2>/dev/null | grep -q '^First error block #: *77$' || "
		    "{ e2fsck -E journal_only -y %s/img >/dev/null 2>&1; "
		    "dumpe2fs -h %s/img 2>/dev/null | grep -q '^First error block #: *77$'; }",
		    vol_dir, vol_dir, vol_dir);
		assert_told(2, 0);
		vol_remove();
	}
}

/* The power goes at any write: what was told once stays told. */
static void test_crash(void **state)
{
	(void)state;
	for (u32 s = 0; s < 2; s++) {
		struct vol_cuts cuts;
		u32 told = 0;

		vol_make(shapes[s], 16, NULL);
		vol_cuts_begin(&cuts);
		open_with("commit=1");
		for (u32 i = 0; i < 2; i++) {
			u64 before = vol_es->journal ? commits() : 0;

			assert_int_equal(corrupt(&vol_es->vfs.health, "inode", 12 + i, "a test"), -EUCLEAN);
			wait_told(before, i + 1);
		}
		vol_close();
		while (vol_cuts_next(&cuts)) {
			u32 now;

			vol_open();
			vol_close();
			vol_dev_open();
			now = error_count_on_disk();
			vol_dev_close();
			assert_in_range(now, told, 2);
			told = now;
			if (s)
				vol_fsck();
		}
		assert_told(2, 0);
		vol_remove();
	}
}

/* ---- many ---- */

#define THREADS 4u
#define ERRORS  500u

static void *hail(void *arg)
{
	for (u32 i = 0; i < ERRORS; i++) {
		struct ext4_handle h;

		(void)!corrupt(&vol_es->vfs.health, "inode", 12, "of thread %p", arg);
		if (i % 8)
			continue;
		assert_int_equal(ext4_begin(vol_es, 1, 0, &h), 0);
		assert_int_equal(ext4_end(&h, ext4_super_join(&h)), 0);
		if (vol_es->journal && i % 64 == 0)
			assert_int_equal(jbd2_commit(vol_es->journal, h.jh.tid), 0);
	}
	return NULL;
}

static void test_counted_once(void **state)
{
	(void)state;
	for (u32 s = 0; s < 2; s++) {
		pthread_t thread[THREADS];

		vol_make(shapes[s], 16, NULL);
		open_with("errors=continue");
		for (u32 i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, hail, NULL), 0);
		for (u32 i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		vol_close();
		assert_told(THREADS * ERRORS, 12);
		vol_remove();
	}
}

/* What the outside world does is no damage. */
static void test_outside(void **state)
{
	struct inode *inode;

	(void)state;
	vol_make(shapes[1], 16, "mkdir d; echo x >d/file");
	vol_dev_fault(false);
	vol_mount_dev(false, "commit=1");
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, true);
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "d/file", false, &inode), -EIO);
	dev_fault_nth(vol_dev, FAULT_READ, 0, 0, false);
	assert_int_equal(atomic_load(&vol_es->vfs.health.corrupt_count), 0);
	vol_close();
	vol_dev_open();
	assert_int_equal(error_count_on_disk(), 0);
	vol_dev_close();
	vol_fsck();
}

static void test_rdonly(void **state)
{
	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		vol_make(shapes[s], 16, "echo x >victim");
		break_victim();
		run("cp %s/img %s/before", vol_dir, vol_dir);
		vol_open_rdonly();
		meet_victim();
		vol_close();
		run("cmp %s/img %s/before", vol_dir, vol_dir);
		vol_remove();
	}
}

/* The kernel records errors in the superblock at once: a log that has it as it was before must not take them away. */
static void test_kept(void **state)
{
	struct ext4_disk_super d;
	struct ext4_handle h;

	(void)state;
	vol_make(shapes[1], 16, NULL);
	vol_open();
	assert_int_equal(ext4_begin(vol_es, 1, 0, &h), 0);
	assert_int_equal(ext4_super_join(&h), 0);
	assert_int_equal(ext4_end(&h, 0), 0);
	assert_int_equal(jbd2_commit(vol_es->journal, h.jh.tid), 0);
	cut_power();
	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d)), 0);
	d.state = le16_put(le16_get(d.state) | EXT4_STATE_ERROR);
	d.error_count = le32_put(41);
	d.last_error_ino = le32_put(4711);
	d.last_error_errcode = 2;
	d.checksum = le32_put(ext4_csum_super(&d));
	assert_int_equal(blkdev_write(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d), 0), 0);
	vol_dev_close();
	vol_open();
	vol_close();
	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, &d, sizeof(d)), 0);
	vol_dev_close();
	assert_true(le16_get(d.state) & EXT4_STATE_ERROR);
	assert_int_equal(le32_get(d.error_count), 41);
	assert_int_equal(le32_get(d.last_error_ino), 4711);
	assert_int_equal(d.last_error_errcode, 2);
}

/* In state and log of an image: that it has to be checked. */
static void assert_stopped(const char *image, bool in_state, bool in_log)
{
	run("cd %s && dumpe2fs -h %s 2>/dev/null >log; grep -q '^Filesystem state:.*errors' log; test $? = "
	    "%d",
	    vol_dir, image, !in_state);
	run("cd %s && debugfs -R 'logdump -S' %s 2>/dev/null >log; grep -q '^Journal errno' log; test $? = "
	    "%d",
	    vol_dir, image, !in_log);
}

/* What stopped a journal is known, once it is applied, by what says that the volume is to be checked; to the kernel, too. */
static void test_stopped(void **state)
{
	struct ext4_handle h;

	(void)state;
	vol_make(shapes[1], 16, NULL);
	vol_dev_fault(false);
	vol_mount_dev(false, NULL);
	assert_int_equal(ext4_begin(vol_es, 1, 0, &h), 0);
	assert_int_equal(ext4_super_join(&h), 0);
	assert_int_equal(ext4_end(&h, 0), 0);
	dev_fault_nth(vol_dev, FAULT_WRITE, 1, -EIO, false);
	assert_int_not_equal(jbd2_commit(vol_es->journal, h.jh.tid), 0);
	assert_int_not_equal(vfs_unmount(&vol_es->vfs), 0);
	vol_dev_close();
	run("cp %s/img %s/theirs", vol_dir, vol_dir);
	assert_stopped("img", false, true);
	vol_open_rdonly();
	assert_non_null(strstr(vol_es->vfs.notice, "an error stopped who wrote it"));
	vol_close();
	assert_stopped("img", false, true);
	vol_open();
	assert_stopped("img", true, false);
	vol_close();
	assert_stopped("img", true, false);
	if (vol_kernel_can()) {
		vol_kernel("theirs", "errors=continue");
		vol_kernel_end();
		assert_stopped("theirs", true, false);
	}
	run("e2fsck -p %s/img >%s/log; test $? = 0 -o $? = 1", vol_dir, vol_dir);
	assert_stopped("img", false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_alone, vol_clean),
		cmocka_unit_test_teardown(test_next_commit, vol_clean),
		cmocka_unit_test_teardown(test_crash, vol_clean),
		cmocka_unit_test_teardown(test_counted_once, vol_clean),
		cmocka_unit_test_teardown(test_outside, vol_clean),
		cmocka_unit_test_teardown(test_rdonly, vol_clean),
		cmocka_unit_test_teardown(test_kept, vol_clean),
		cmocka_unit_test_teardown(test_stopped, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
