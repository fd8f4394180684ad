/*
 * A device whose first bytes are held back: what is written there stays in memory until it is let go, and whoever looks at the device
 * below meanwhile finds a mark instead. So a volume that is being made is none before it is complete: what a volume is known by lies at
 * its start.
 *
 * Who uses the held bytes is one at a time, as a buffer's lock sees to it.
 */
#include "block/block.h"

#include "iov.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The mark, and what volumes begin with: written last and alone, so that no part of the rest can be missing behind it. */
#define HEAD_BYTES 4096u

struct dev_hold {
	struct blkdev dev;
	struct blkdev *lower; /* [const] referenced */
	u8 *held;
	u64 held_bytes; /* [const] */
};

static struct dev_hold *to_hold(struct blkdev *dev)
{
	return container_of(dev, struct dev_hold, dev);
}

/* A bio that goes beyond what is held. */
struct straddle {
	struct bio child;
	struct bio *parent;
	struct dev_hold *hold;
	struct iovec iov[];
};

static void straddle_done(struct bio *child)
{
	struct straddle *s = child->private;
	struct bio *parent = s->parent;
	int err = child->err;

	if (!err && parent->op == BIO_READ)
		iov_copy(parent->iov, 0, s->hold->held + parent->at_bytes,
			 s->hold->held_bytes - parent->at_bytes, true);
	free(s);
	bio_complete(parent, err);
}

/* All of a read goes down, and what is held is laid over it; of a write only what lies behind. */
static void straddle(struct dev_hold *h, struct bio *bio)
{
	u64 head = bio->op == BIO_READ ? 0 : h->held_bytes - bio->at_bytes;
	struct straddle *s = malloc(sizeof(*s) + bio->iov_count * sizeof(s->iov[0]));
	u32 n = 0;

	if (!s) {
		bio_complete(bio, -ENOMEM);
		return;
	}
	s->parent = bio;
	s->hold = h;
	bio_init(&s->child, h->lower, bio->op, bio->at_bytes + head, NULL, bio->len_bytes - head);
	for (u32 i = 0; i < bio->iov_count; i++) {
		const struct iovec *v = &bio->iov[i];
		u64 skip = MIN(head, (u64)v->iov_len);

		head -= skip;
		if (skip < v->iov_len)
			s->iov[n++] = (struct iovec){ (u8 *)v->iov_base + skip, v->iov_len - skip };
	}
	s->child.iov = s->iov;
	s->child.iov_count = n;
	s->child.flags = bio->flags;
	s->child.copy = bio->copy;
	s->child.done = straddle_done;
	s->child.private = s;
	bio_submit_child(bio, &s->child);
}

static void hold_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_hold *h = to_hold(dev);
	u64 n;

	if (bio->op == BIO_FLUSH || bio->at_bytes >= h->held_bytes) {
		bio_pass(bio, h->lower, bio->at_bytes);
		return;
	}
	if (bio->op != BIO_READ && bio->op != BIO_WRITE) {
		bio_complete(bio, -EOPNOTSUPP);
		return;
	}
	n = MIN(bio->len_bytes, h->held_bytes - bio->at_bytes);
	if (bio->op == BIO_WRITE || n == bio->len_bytes)
		iov_copy(bio->iov, 0, h->held + bio->at_bytes, n, bio->op == BIO_READ);
	if (n == bio->len_bytes)
		bio_complete(bio, 0);
	else
		straddle(h, bio);
}

static void hold_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	blkdev_will_need(to_hold(dev)->lower, off_bytes, len_bytes);
}

static void hold_release(struct blkdev *dev)
{
	struct dev_hold *h = to_hold(dev);

	free(h->held);
	blkdev_put(h->lower);
	blkdev_fini(dev);
	free(h);
}

static const struct blkdev_ops hold_ops = {
	.kind = "hold",
	.submit = hold_submit,
	.will_need = hold_will_need,
	.release = hold_release,
};

int dev_hold_new(struct blkdev *lower, u64 held_bytes, const char *mark, struct blkdev **out)
{
	struct dev_hold *h = calloc(1, sizeof(*h));
	int err = h ? blkdev_init(&h->dev, &hold_ops, lower->name, lower->size_bytes) : -ENOMEM;

	if (err) {
		free(h);
		return fail(err, "no memory for a device");
	}
	h->lower = blkdev_get(lower);
	h->held_bytes = MIN(held_bytes, lower->size_bytes);
	h->held = calloc(1, held_bytes);
	h->dev.sector_bytes = lower->sector_bytes;
	h->dev.physical_bytes = lower->physical_bytes;
	h->dev.flags = lower->flags;
	h->dev.copies = lower->copies;
	if (!h->held) {
		blkdev_put(&h->dev);
		return fail(-ENOMEM, "no memory for a device");
	}
	strncpy((char *)h->held, mark, held_bytes);
	err = blkdev_write(lower, 0, h->held, h->held_bytes, 0);
	if (!err)
		err = blkdev_flush(lower);
	memset(h->held, 0, held_bytes);
	if (err)
		blkdev_put(&h->dev);
	else
		*out = &h->dev;
	return err;
}

int dev_hold_let_go(struct blkdev *hold)
{
	struct dev_hold *h = to_hold(hold);
	u64 head = MIN(h->held_bytes, (u64)HEAD_BYTES);
	int err = 0;

	if (h->held_bytes > head)
		err = blkdev_write(h->lower, head, h->held + head, h->held_bytes - head, 0);
	if (!err)
		err = blkdev_flush(h->lower);
	if (!err)
		err = blkdev_write(h->lower, 0, h->held, head, 0);
	return err ? err : blkdev_flush(h->lower);
}
