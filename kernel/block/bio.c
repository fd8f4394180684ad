/*
 * Requests: making them, waiting for them, ending them. What happens between is blkdev.c's and the devices'.
 *
 * A foreground bio counts in its batch from io_submit to bio_complete. The waiter looks for its completions in
 * three places, in this order: its own ring, the pool's work that it can do itself, and at last a futex on
 * batch->pending. The top bit of that word says that the waiter sleeps, so that whoever ends the last bio knows
 * without another look at the batch (which is on the waiter's stack and may be gone) whether to wake it.
 */
#include "block/block.h"

#include "io_pool.h"
#include "lib/os.h"
#include "lib/trace.h"
#include "stack.h"
#include "uring.h"
#include <errno.h>
#include <string.h>

#define BATCH_SLEEPS 0x80000000u

void bio_init(struct bio *bio, struct blkdev *dev, enum bio_op op, u64 off_bytes, void *buf, u64 len_bytes)
{
	memset(bio, 0, sizeof(*bio));
	bio->dev = dev;
	bio->op = (u8)op;
	bio->off_bytes = off_bytes;
	bio->len_bytes = len_bytes;
	bio->one = (struct iovec){ .iov_base = buf, .iov_len = len_bytes };
	bio->iov = &bio->one;
	bio->iov_count = buf ? 1 : 0;
}

void io_batch_init(struct io_batch *batch)
{
	atomic_init(&batch->pending, 0);
	atomic_init(&batch->failed, NULL);
}

static void batch_end(struct io_batch *batch, struct bio *bio)
{
	struct bio *none = NULL;

	if (bio->err)
		atomic_compare_exchange_strong(&batch->failed, &none, bio);
	if (atomic_fetch_sub(&batch->pending, 1) == (BATCH_SLEEPS | 1))
		os_wake_all(&batch->pending);
}

void bio_complete(struct bio *bio, int err)
{
	bio->err = err;
	if (bio->flags & BIO_CHILD) {
		bio->done(bio);
		return;
	}
	if (unlikely(err) && err != -EOPNOTSUPP) {
		stat_add(STAT_DEV_ERRORS, 1);
		trace(TRACE_DEV_ERROR, (u64)-err, bio->off_bytes);
	}
	if (bio->batch)
		batch_end(bio->batch, bio);
	else
		bio->done(bio);
}

static const char *op_name(u8 op)
{
	static const char *const names[] = {
		[BIO_READ] = "read",       [BIO_WRITE] = "write", [BIO_FLUSH] = "flush",
		[BIO_DISCARD] = "discard", [BIO_ZERO] = "zero",
	};

	return op < ARRAY_SIZE(names) ? names[op] : "request";
}

int io_wait(struct io_batch *batch)
{
	struct bio *bio;

	for (;;) {
		u32 now = atomic_load(&batch->pending);

		if (!(now & ~BATCH_SLEEPS))
			break;
		if (uring_reap() || io_pool_help(batch))
			continue;
		now = atomic_fetch_or(&batch->pending, BATCH_SLEEPS) | BATCH_SLEEPS;
		if (now != BATCH_SLEEPS)
			os_wait(&batch->pending, now, 0);
	}
	atomic_store(&batch->pending, 0);
	bio = atomic_exchange(&batch->failed, NULL);
	if (likely(!bio))
		return 0;
	return fail(bio->err, "%s: %s of %llu bytes at %llu: %s", bio->dev->name, op_name(bio->op),
		    (unsigned long long)bio->len_bytes, (unsigned long long)bio->off_bytes,
		    strerror(-bio->err));
}
