/*
 * A bio as a row of transfers on a file descriptor. The device says what comes next and hears how it ended;
 * a ring, a thread of the pool or the submitter itself carries it out. So the same device code runs in all of
 * them, and whoever meets an obstacle can hand the bio to another at the point it has reached.
 *
 * While a bio is in this form, dev_private holds: [0] its xfer_ops, [1] to [3] the device's own.
 */
#ifndef BLOCK_XFER_H
#define BLOCK_XFER_H

#include "block/block.h"

struct xfer {
	int fd;
	int rw_flags; /* RWF_* */
	bool write;
	u64 off_bytes;
	const struct iovec *iov; /* count > 1: lives as long as the bio; count 1: may be &one */
	u32 iov_count;           /* 1 .. IOV_MAX */
	struct iovec one;
};

struct xfer_ops {
	/* The next transfer of a READ or WRITE. */
	void (*next)(struct bio *bio, struct xfer *x);
	/* It ended with res: bytes moved, or -errno. False: the bio is complete, and no longer ours. True: more. */
	bool (*ended)(struct bio *bio, s64 res) __must_check;
	/* Any other operation: does and completes it, blocking. */
	void (*blocking)(struct bio *bio);
};

static inline void xfer_init(struct bio *bio, const struct xfer_ops *ops)
{
	bio->dev_private[0] = (uintptr_t)ops;
}

static inline const struct xfer_ops *xfer_ops(const struct bio *bio)
{
	return (const struct xfer_ops *)(uintptr_t)bio->dev_private[0];
}

/* Carries out one transfer on this thread. Bytes or -errno; EINTR is continued. */
s64 xfer_one(const struct xfer *x);
/* Carries the bio to its end on this thread. */
void xfer_run(struct bio *bio);

#endif
