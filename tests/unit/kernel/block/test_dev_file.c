/*
 * Files and block devices in every way a request can take: buffered and O_DIRECT, on disk, in memory and on a loop
 * device with sectors of 4096 bytes, each with the ring and without it.
 */
#include "devtest.h"

#include "lib/trace.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static char path[64]; /* of the file under test */

static int new_file(const char *dir, u64 size)
{
	int fd;

	snprintf(path, sizeof(path), "%s/werunos-test-XXXXXX", dir);
	fd = mkstemp(path);
	if (fd >= 0 && ftruncate(fd, (off_t)size)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void run_all(const char *dir, u32 flags)
{
	int fd = new_file(dir, DEVTEST_BYTES);
	struct blkdev *dev;

	if (fd < 0) {
		print_message("skipped: cannot make a file in %s\n", dir);
		skip();
	}
	close(fd);
	assert_int_equal(dev_file_open(path, DEV_WRITE | flags, &dev), 0);
	assert_int_equal(dev->size_bytes, DEVTEST_BYTES);
	if (flags & DEV_DIRECT && !(dev->flags & BLKDEV_DIRECT))
		print_message("%s has no O_DIRECT: buffered instead\n", dir);
	devtest_all(dev);
	blkdev_put(dev);
	unlink(path);
}

static void disk_buffered(void **state)
{
	run_all("/var/tmp", *(u32 *)*state);
}

static void disk_direct(void **state)
{
	run_all("/var/tmp", DEV_DIRECT | *(u32 *)*state);
}

static void tmpfs_buffered(void **state)
{
	run_all("/dev/shm", *(u32 *)*state);
}

static void tmpfs_direct(void **state)
{
	run_all("/dev/shm", DEV_DIRECT | *(u32 *)*state);
}

/* Attaches the file to a free loop device. -1: not possible here. */
static int loop_open(int fd, char *name, size_t name_bytes)
{
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), loop = -1;
	struct loop_config cfg = { .fd = (u32)fd, .block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR };

	for (int tries = 0; ctl >= 0 && loop < 0 && tries < 20; tries++) {
		int nr = ioctl(ctl, LOOP_CTL_GET_FREE);

		if (nr < 0)
			break;
		snprintf(name, name_bytes, "/dev/loop%d", nr);
		loop = open(name, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &cfg)) {
			close(loop);
			loop = -1;
		}
	}
	if (ctl >= 0)
		close(ctl);
	return loop;
}

static void loop_4k(void **state)
{
	char name[32];
	int fd = new_file("/var/tmp", DEVTEST_BYTES), loop;
	struct blkdev *dev;

	assert_true(fd >= 0);
	loop = loop_open(fd, name, sizeof(name));
	unlink(path);
	close(fd);
	if (loop < 0) {
		print_message("skipped: no loop device (not root?)\n");
		skip();
	}
	assert_int_equal(dev_file_open(name, DEV_WRITE | *(u32 *)*state, &dev), 0);
	close(loop);
	assert_int_equal(dev->size_bytes, DEVTEST_BYTES);
	assert_int_equal(dev->sector_bytes, 4096);
	assert_true(dev->flags & BLKDEV_DIRECT);
	devtest_all(dev);
	blkdev_put(dev);
}

/* A size that is no multiple of the sector: the end is readable all the same. */
static void odd_end(void **state)
{
	int fd = new_file("/var/tmp", 1000003);
	struct blkdev *dev;
	u8 b[5000];

	assert_int_equal(pwrite(fd, "end", 3, 1000000), 3);
	assert_int_equal(dev_file_fd(fd, "odd", DEV_WRITE | DEV_DIRECT | *(u32 *)*state, &dev), 0);
	assert_int_equal(blkdev_read(dev, 1000003 - 4999, b, 4999), 0);
	assert_memory_equal(b + 4996, "end", 3);
	assert_int_equal(blkdev_read(dev, 1000000, b, 4), -EIO);
	/* The file shrinks under us. */
	assert_int_equal(truncate(path, 500000), 0);
	assert_int_equal(blkdev_read(dev, 700000, b, 100), -EIO);
	assert_int_equal(blkdev_read(dev, 499000, b, 4096), -EIO);
	blkdev_put(dev);
	unlink(path);
}

static void what_is_refused(void **state)
{
	int fd = new_file("/var/tmp", 65536);
	struct blkdev *dev;
	u8 b[512] = { 0 };

	(void)state;
	assert_int_equal(dev_file_open("/nonexistent/x", 0, &dev), -ENOENT);
	assert_int_equal(dev_file_open("/tmp", 0, &dev), -ENOTBLK);
	assert_int_equal(dev_file_open("/tmp", DEV_WRITE, &dev), -ENOTBLK);
	assert_int_equal(dev_file_open("/dev/null", 0, &dev), -ENOTBLK);
	assert_int_equal(dev_file_open(path, 0, &dev), 0);
	assert_true(dev->flags & BLKDEV_RDONLY);
	assert_int_equal(blkdev_write(dev, 0, b, 512, 0), -EROFS);
	assert_int_equal(blkdev_zero(dev, 0, 512), -EROFS);
	assert_int_equal(blkdev_discard(dev, 0, 512), -EROFS);
	assert_int_equal(blkdev_flush(dev), 0);
	blkdev_put(dev);
	close(fd);
	unlink(path);
}

static void *reader(void *arg)
{
	struct blkdev *dev = arg;
	u64 seed = (u64)(uintptr_t)&seed | 1;
	u8 b[16][4096];

	for (u32 round = 0; round < 100; round++) {
		struct io_batch batch;
		struct bio bio[16];
		u64 blk[16];

		io_batch_init(&batch);
		for (u32 i = 0; i < 16; i++) {
			blk[i] = rnd(&seed) % (DEVTEST_BYTES / 4096);
			bio_init(&bio[i], dev, BIO_READ, blk[i] * 4096, b[i], 4096);
			io_submit(&batch, &bio[i]);
		}
		if (io_wait(&batch))
			return "read failed";
		for (u32 i = 0; i < 16; i++)
			for (u32 j = 0; j < 4096; j++)
				if (b[i][j] != (u8)(blk[i] * 7 + j / 512))
					return "wrong bytes";
	}
	return NULL;
}

static void threads(const char *dir, u32 flags)
{
	int fd = new_file(dir, DEVTEST_BYTES);
	struct blkdev *dev;
	pthread_t t[4];
	u8 b[4096];

	assert_true(fd >= 0);
	assert_int_equal(dev_file_fd(fd, path, DEV_WRITE | flags, &dev), 0);
	unlink(path);
	for (u64 blk = 0; blk < DEVTEST_BYTES / 4096; blk++) {
		for (u32 j = 0; j < 4096; j++)
			b[j] = (u8)(blk * 7 + j / 512);
		assert_int_equal(blkdev_write(dev, blk * 4096, b, 4096, 0), 0);
	}
	assert_int_equal(blkdev_flush(dev), 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(os_thread(&t[i], "reader", reader, dev), 0);
	for (u32 i = 0; i < 4; i++) {
		void *what;

		pthread_join(t[i], &what);
		if (what)
			fail_msg("%s", (const char *)what);
	}
	blkdev_put(dev);
}

static void many_threads(void **state)
{
	u32 flags = *(u32 *)*state;

	threads("/var/tmp", flags);
	threads("/var/tmp", flags | DEV_DIRECT);
	threads("/dev/shm", flags);
}

/* Much in long writes: the host is told to begin, but not where there is nothing to begin with. */
static u64 write_outs(const char *dir, u32 flags, u64 each_bytes)
{
	u64 before = stat_get(STAT_DEV_WRITE_OUTS), size = 40u << 20;
	int fd = new_file(dir, size);
	struct blkdev *dev;
	u8 *buf = calloc(1, each_bytes);

	assert_non_null(buf);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(dev_file_open(path, DEV_WRITE | flags, &dev), 0);
	for (u64 at = 0; at < size; at += each_bytes)
		assert_int_equal(blkdev_write(dev, at, buf, each_bytes, 0), 0);
	blkdev_put(dev);
	unlink(path);
	free(buf);
	return stat_get(STAT_DEV_WRITE_OUTS) - before;
}

static void much_is_written_out(void **state)
{
	struct statfs fs;

	(void)state;
	assert_int_equal(write_outs("/dev/shm", 0, 1 << 20), 0);
	if (statfs("/var/tmp", &fs) || fs.f_type == TMPFS_MAGIC)
		skip();
	assert_in_range(write_outs("/var/tmp", 0, 1 << 20), 1, 2);
	assert_in_range(write_outs("/var/tmp", DEV_NO_RING, 256 << 10), 1, 2);
	assert_int_equal(write_outs("/var/tmp", 0, 64 << 10), 0);
}

int main(void)
{
	static u32 ring = 0, no_ring = DEV_NO_RING;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(disk_buffered, &ring),
		cmocka_unit_test_prestate(disk_buffered, &no_ring),
		cmocka_unit_test_prestate(disk_direct, &ring),
		cmocka_unit_test_prestate(disk_direct, &no_ring),
		cmocka_unit_test_prestate(tmpfs_buffered, &ring),
		cmocka_unit_test_prestate(tmpfs_direct, &no_ring),
		cmocka_unit_test_prestate(loop_4k, &ring),
		cmocka_unit_test_prestate(loop_4k, &no_ring),
		cmocka_unit_test_prestate(odd_end, &ring),
		cmocka_unit_test_prestate(odd_end, &no_ring),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(much_is_written_out),
		cmocka_unit_test_prestate(many_threads, &ring),
		cmocka_unit_test_prestate(many_threads, &no_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
