/* Transfers carried out by the calling thread, with the calls every Linux has. */
#include "xfer.h"

#include <errno.h>

s64 xfer_one(const struct xfer *x)
{
	for (;;) {
		s64 res =
			x->write
				? pwritev2(x->fd, x->iov, (int)x->iov_count, (off_t)x->off_bytes, x->rw_flags)
				: preadv2(x->fd, x->iov, (int)x->iov_count, (off_t)x->off_bytes, x->rw_flags);

		if (res >= 0)
			return res;
		if (errno != EINTR)
			return -errno;
	}
}

void xfer_run(struct bio *bio)
{
	const struct xfer_ops *ops = xfer_ops(bio);
	struct xfer x;

	if (bio->op != BIO_READ && bio->op != BIO_WRITE) {
		ops->blocking(bio);
		return;
	}
	do
		ops->next(bio, &x);
	while (ops->ended(bio, xfer_one(&x)));
}
