/*
 * Devices: their life, and the one door through which requests reach them.
 *
 * Interface
 * - io_submit, bio_submit_background: a request from outside. It is checked here, once, against the size, the
 *   sector and RDONLY of the device it names, and counted. What stacks below is trusted.
 * - bio_pass, bio_submit_child: how a device that stands on another goes on.
 * - blkdev_read and its like: one request, waited for.
 */
#include "block/block.h"

#include "lib/os.h"
#include "lib/trace.h"
#include "stack.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ZERO_CHUNK_BYTES (64u << 10)
#define ZERO_CHUNKS      16 /* in one request */

int blkdev_init(struct blkdev *dev, const struct blkdev_ops *ops, const char *name, u64 size_bytes)
{
	memset(dev, 0, sizeof(*dev));
	dev->name = strdup(name);
	if (!dev->name)
		return fail(-ENOMEM, "no memory for a device");
	dev->ops = ops;
	dev->size_bytes = size_bytes;
	dev->sector_bytes = 1;
	dev->physical_bytes = 1;
	dev->copies = 1;
	atomic_init(&dev->refs, 1);
	return 0;
}

int blkdev_grow(struct blkdev *dev, u64 size_bytes)
{
	int err = dev->ops->grow ? dev->ops->grow(dev, size_bytes) : 0;

	if (!err && dev->size_bytes < size_bytes)
		err = fail(-ENOSPC, "%s has %llu bytes, not %llu", dev->name,
			   (unsigned long long)dev->size_bytes, (unsigned long long)size_bytes);
	return err;
}

void blkdev_cut_back(struct blkdev *dev)
{
	if (dev->ops->cut_back)
		dev->ops->cut_back(dev);
}

void blkdev_fini(struct blkdev *dev)
{
	free(dev->name);
}

struct blkdev *blkdev_get(struct blkdev *dev)
{
	atomic_fetch_add_explicit(&dev->refs, 1, memory_order_relaxed);
	return dev;
}

void blkdev_put(struct blkdev *dev)
{
	if (dev && atomic_fetch_sub_explicit(&dev->refs, 1, memory_order_acq_rel) == 1)
		dev->ops->release(dev);
}

void blkdev_putp(struct blkdev **dev)
{
	blkdev_put(*dev);
}

static int check_write(const struct blkdev *dev, const struct bio *bio)
{
	if (dev->flags & BLKDEV_RDONLY)
		return -EROFS;
	if (!IS_ALIGNED(bio->off_bytes | bio->len_bytes, (u64)dev->sector_bytes))
		return -EINVAL;
	return 0;
}

static int check(const struct bio *bio)
{
	const struct blkdev *dev = bio->dev;
	u64 sum_bytes = 0;

	if (bio->op == BIO_FLUSH)
		return bio->len_bytes ? -EINVAL : 0;
	if (bio->op > BIO_ZERO || bio->copy >= dev->copies)
		return -EINVAL;
	if (bio->off_bytes > dev->size_bytes || bio->len_bytes > dev->size_bytes - bio->off_bytes)
		return -EIO;
	if (bio->op == BIO_READ || bio->op == BIO_WRITE) {
		for (u32 i = 0; i < bio->iov_count; i++)
			sum_bytes += bio->iov[i].iov_len;
		if (sum_bytes != bio->len_bytes)
			return -EINVAL;
	}
	return bio->op == BIO_READ ? 0 : check_write(dev, bio);
}

static void count(const struct bio *bio)
{
	switch (bio->op) {
	case BIO_READ:
		stat_add(STAT_DEV_READS, 1);
		stat_add(STAT_DEV_READ_BYTES, bio->len_bytes);
		break;
	case BIO_WRITE:
		stat_add(STAT_DEV_WRITES, 1);
		stat_add(STAT_DEV_WRITE_BYTES, bio->len_bytes);
		break;
	case BIO_FLUSH:
		stat_add(STAT_DEV_FLUSHES, 1);
		break;
	}
}

static void dispatch(struct bio *bio)
{
	int err = check(bio);

	bio->flags &= (u8)~BIO_CHILD;
	bio->err = 0;
	bio->at_bytes = bio->off_bytes;
	if (unlikely(err)) {
		bio_complete(bio, err);
		return;
	}
	count(bio);
	if (unlikely(!bio->len_bytes && bio->op != BIO_FLUSH))
		bio_complete(bio, 0);
	else
		bio->dev->ops->submit(bio->dev, bio);
}

void io_submit(struct io_batch *batch, struct bio *bio)
{
	bio->batch = batch;
	atomic_fetch_add_explicit(&batch->pending, 1, memory_order_relaxed);
	dispatch(bio);
}

void bio_submit_background(struct bio *bio)
{
	bio->batch = NULL;
	dispatch(bio);
}

void bio_pass(struct bio *bio, struct blkdev *lower, u64 at_bytes)
{
	bio->at_bytes = at_bytes;
	lower->ops->submit(lower, bio);
}

void bio_submit_child(struct bio *parent, struct bio *child)
{
	child->batch = parent->batch;
	child->flags |= BIO_CHILD;
	child->at_bytes = child->off_bytes;
	child->dev->ops->submit(child->dev, child);
}

static int one_request(struct bio *bio)
{
	struct io_batch batch;

	io_batch_init(&batch);
	io_submit(&batch, bio);
	return io_wait(&batch);
}

int blkdev_read(struct blkdev *dev, u64 off_bytes, void *buf, u64 len_bytes)
{
	struct bio bio;

	bio_init(&bio, dev, BIO_READ, off_bytes, buf, len_bytes);
	return one_request(&bio);
}

int blkdev_write(struct blkdev *dev, u64 off_bytes, const void *buf, u64 len_bytes, u32 bio_flags)
{
	struct bio bio;

	/* The iovec is shared with reads; a write only reads from it. */
	bio_init(&bio, dev, BIO_WRITE, off_bytes, (void *)(uintptr_t)buf, len_bytes);
	bio.flags = (u8)bio_flags;
	return one_request(&bio);
}

int blkdev_flush(struct blkdev *dev)
{
	struct bio bio;

	bio_init(&bio, dev, BIO_FLUSH, 0, NULL, 0);
	return one_request(&bio);
}

int blkdev_discard(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	struct bio bio;

	bio_init(&bio, dev, BIO_DISCARD, off_bytes, NULL, len_bytes);
	return one_request(&bio);
}

static int write_zeros(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	static const u8 zeros[ZERO_CHUNK_BYTES] __attribute__((aligned(4096)));
	struct iovec iov[ZERO_CHUNKS];
	struct bio bio;
	int err;

	while (len_bytes) {
		u64 now = MIN(len_bytes, (u64)ZERO_CHUNK_BYTES * ZERO_CHUNKS);
		u32 n = 0;

		for (u64 at = 0; at < now; at += ZERO_CHUNK_BYTES)
			iov[n++] = (struct iovec){ .iov_base = (void *)(uintptr_t)zeros,
						   .iov_len = MIN(now - at, (u64)ZERO_CHUNK_BYTES) };
		bio_init(&bio, dev, BIO_WRITE, off_bytes, NULL, now);
		bio.iov = iov;
		bio.iov_count = n;
		err = one_request(&bio);
		if (err)
			return err;
		off_bytes += now;
		len_bytes -= now;
	}
	return 0;
}

int blkdev_zero(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	struct bio bio;
	int err;

	bio_init(&bio, dev, BIO_ZERO, off_bytes, NULL, len_bytes);
	err = one_request(&bio);
	return err == -EOPNOTSUPP ? write_zeros(dev, off_bytes, len_bytes) : err;
}

void blkdev_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	if (!(dev->flags & BLKDEV_HINTS) || !dev->ops->will_need || off_bytes >= dev->size_bytes)
		return;
	dev->ops->will_need(dev, off_bytes, MIN(len_bytes, dev->size_bytes - off_bytes));
}
