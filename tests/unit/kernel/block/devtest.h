/* The same questions to every kind of device: what was written is read, at any offset, in any shape of memory. */
#ifndef DEVTEST_H
#define DEVTEST_H

#include "block/block.h"

#include "lib/os.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static inline u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* WERUNOS_SEED repeats a run. */
static inline u64 new_seed(void)
{
	const char *s = getenv("WERUNOS_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns() | 1;

	print_message("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static inline void fill(void *p, u64 len, u64 *seed)
{
	u8 *b = p;

	for (u64 i = 0; i < len; i++)
		b[i] = (u8)(rnd(seed) >> 32);
}

#define DEVTEST_BYTES  (8u << 20)
#define DEVTEST_BATCH  48
#define DEVTEST_ROUNDS 12

/* Random batches of reads and writes against a copy in memory. The device is all zeros at first. */
static inline void devtest_random(struct blkdev *dev, u64 seed)
{
	u64 size = MIN(dev->size_bytes, (u64)DEVTEST_BYTES), sector = dev->sector_bytes;
	u8 *model = calloc(1, size), *buf[DEVTEST_BATCH];
	struct iovec iov[DEVTEST_BATCH][3];
	struct bio bio[DEVTEST_BATCH];
	struct io_batch batch;

	for (u32 i = 0; i < DEVTEST_BATCH; i++)
		buf[i] = os_alloc_aligned(4096, (1u << 18) + 8192);
	io_batch_init(&batch);
	for (u32 round = 0; round < DEVTEST_ROUNDS; round++) {
		bool write = round % 2 == 0;
		/* Writes of one batch may not overlap: each has a stripe of its own. */
		u64 stripe = ALIGN_DOWN(size / DEVTEST_BATCH, sector);

		for (u32 i = 0; i < DEVTEST_BATCH; i++) {
			u64 unit = write ? sector : 1, off, len, cut;
			u8 *p = buf[i] + (rnd(&seed) % 3 ? 0 : rnd(&seed) % 64);

			if (write) {
				off = i * stripe + ALIGN_DOWN(rnd(&seed) % (stripe / 2), unit);
				len = ALIGN_UP(1 + rnd(&seed) % (stripe / 4), unit);
			} else {
				off = rnd(&seed) % size;
				if (rnd(&seed) % 2)
					off = ALIGN_DOWN(off, 4096);
				len = 1 + rnd(&seed) % MIN(size - off, (u64)1 << 18);
			}
			bio_init(&bio[i], dev, write ? BIO_WRITE : BIO_READ, off, p, len);
			if (rnd(&seed) % 2) {
				cut = ALIGN_DOWN(len / 2, 512);
				iov[i][0] = (struct iovec){ p, cut };
				iov[i][1] = (struct iovec){ p + cut, 0 };
				iov[i][2] = (struct iovec){ p + cut, len - cut };
				bio[i].iov = iov[i];
				bio[i].iov_count = 3;
			}
			if (write) {
				fill(p, len, &seed);
				memcpy(model + off, p, len);
				bio[i].flags = rnd(&seed) % 8 ? 0 : BIO_FUA;
			}
			io_submit(&batch, &bio[i]);
		}
		assert_int_equal(io_wait(&batch), 0);
		for (u32 i = 0; i < DEVTEST_BATCH && !write; i++)
			assert_memory_equal(bio[i].iov[0].iov_base, model + bio[i].off_bytes,
					    bio[i].len_bytes);
	}
	for (u64 off = 0; off < size; off += 1u << 18) {
		u64 len = MIN(size - off, (u64)1 << 18);

		assert_int_equal(blkdev_read(dev, off, buf[0], len), 0);
		assert_memory_equal(buf[0], model + off, len);
	}
	for (u32 i = 0; i < DEVTEST_BATCH; i++)
		free(buf[i]);
	free(model);
}

/* What is refused, and what the ends of the device do. */
static inline void devtest_limits(struct blkdev *dev)
{
	u64 size = dev->size_bytes;
	u8 *buf = calloc(1, 8192);

	assert_int_equal(blkdev_read(dev, size, buf, 1), -EIO);
	assert_int_equal(blkdev_read(dev, size - 10, buf, 11), -EIO);
	assert_int_equal(blkdev_read(dev, UINT64_MAX - 5, buf, 11), -EIO);
	assert_int_equal(blkdev_write(dev, size, buf, 4096, 0), -EIO);
	assert_int_equal(blkdev_read(dev, size - 10, buf, 10), 0);
	assert_int_equal(blkdev_read(dev, size, buf, 0), 0);
	if (dev->sector_bytes > 1) {
		assert_int_equal(blkdev_write(dev, 1, buf, dev->sector_bytes, 0), -EINVAL);
		assert_int_equal(blkdev_write(dev, 0, buf, dev->sector_bytes / 2, 0), -EINVAL);
	}
	assert_int_equal(blkdev_flush(dev), 0);
	free(buf);
}

/* Zero and discard, whole sectors. */
static inline void devtest_zero(struct blkdev *dev, u64 seed)
{
	u64 len = 1u << 20, from = 12288, to = 700000 / 4096 * 4096;
	u8 *a = malloc(len), *b = malloc(len);
	int err;

	fill(a, len, &seed);
	assert_int_equal(blkdev_write(dev, 0, a, len, 0), 0);
	assert_int_equal(blkdev_zero(dev, from, to - from), 0);
	memset(a + from, 0, to - from);
	assert_int_equal(blkdev_read(dev, 0, b, len), 0);
	assert_memory_equal(a, b, len);
	/* Again, where there are holes now. */
	assert_int_equal(blkdev_zero(dev, from, to - from), 0);
	assert_int_equal(blkdev_read(dev, 0, b, len), 0);
	assert_memory_equal(a, b, len);
	err = blkdev_discard(dev, 4096, 8192);
	assert_true(err == 0 || err == -EOPNOTSUPP);
	if (err && dev->flags & BLKDEV_DISCARD)
		print_message("%s: no discard\n", dev->name);
	assert_int_equal(blkdev_read(dev, 12288, b, len - 12288), 0);
	assert_memory_equal(a + 12288, b, len - 12288);
	free(a);
	free(b);
}

struct devtest_bg {
	struct bio bio;
	_Atomic u32 *left;
};

static inline void devtest_bg_done(struct bio *bio)
{
	_Atomic u32 *left = ((struct devtest_bg *)bio->private)->left;

	if (atomic_fetch_sub(left, 1) == 1)
		os_wake_all(left);
}

/* More background requests than any queue is deep. */
static inline void devtest_background(struct blkdev *dev, u64 seed)
{
	enum { N = 400, LEN = 8192 };
	struct devtest_bg *bg = calloc(N, sizeof(*bg));
	u8 *a = os_alloc_aligned(4096, (size_t)N * LEN), *b = os_alloc_aligned(4096, (size_t)N * LEN);
	_Atomic u32 left;
	u32 now;

	fill(a, (u64)N * LEN, &seed);
	for (int write = 1; write >= 0; write--) {
		left = N;
		for (u32 i = 0; i < N; i++) {
			bio_init(&bg[i].bio, dev, write ? BIO_WRITE : BIO_READ, i * LEN,
				 (write ? a : b) + i * LEN, LEN);
			bg[i].bio.done = devtest_bg_done;
			bg[i].bio.private = &bg[i];
			bg[i].left = &left;
			bio_submit_background(&bg[i].bio);
		}
		while ((now = left))
			os_wait(&left, now, 0);
		for (u32 i = 0; i < N; i++)
			assert_int_equal(bg[i].bio.err, 0);
	}
	assert_memory_equal(a, b, (size_t)N * LEN);
	left = 1;
	bio_init(&bg[0].bio, dev, BIO_FLUSH, 0, NULL, 0);
	bg[0].bio.done = devtest_bg_done;
	bg[0].bio.private = &bg[0];
	bg[0].left = &left;
	bio_submit_background(&bg[0].bio);
	while ((now = left))
		os_wait(&left, now, 0);
	assert_int_equal(bg[0].bio.err, 0);
	free(a);
	free(b);
	free(bg);
}

static inline void devtest_all(struct blkdev *dev)
{
	u64 seed = new_seed();

	devtest_random(dev, seed);
	devtest_limits(dev);
	devtest_zero(dev, seed);
	devtest_background(dev, seed);
}

#endif
