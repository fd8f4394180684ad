/*
 * A device whose old content is in an undo file before it is written over. What a mending is going to write is recorded ahead, by trying it; where a
 * thread or a clock makes it write something else, too (a transaction that ends earlier takes more of the log), this is who notices.
 */
#include "undo.h"

#include <errno.h>
#include <stdlib.h>

struct undo_dev {
	struct blkdev dev;
	struct blkdev *lower; /* [const] referenced */
	struct undo *undo;    /* [const] */
	u32 device;           /* [const] its number there */
};

static struct undo_dev *to_undo(struct blkdev *dev)
{
	return container_of(dev, struct undo_dev, dev);
}

static void undo_submit(struct blkdev *dev, struct bio *bio)
{
	struct undo_dev *d = to_undo(dev);
	bool writes = bio->op == BIO_WRITE || bio->op == BIO_DISCARD || bio->op == BIO_ZERO;
	int err = writes ? undo_keep(d->undo, d->lower, d->device, bio->at_bytes, bio->len_bytes) : 0;

	if (err)
		bio_complete(bio, err);
	else
		bio_pass(bio, d->lower, bio->at_bytes);
}

static void undo_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	blkdev_will_need(to_undo(dev)->lower, off_bytes, len_bytes);
}

static void undo_release(struct blkdev *dev)
{
	struct undo_dev *d = to_undo(dev);

	blkdev_put(d->lower);
	blkdev_fini(dev);
	free(d);
}

static const struct blkdev_ops undo_ops = {
	.kind = "undo",
	.submit = undo_submit,
	.will_need = undo_will_need,
	.release = undo_release,
};

int undo_dev_new(struct undo *u, struct blkdev *lower, u32 device, struct blkdev **out)
{
	struct undo_dev *d = calloc(1, sizeof(*d));
	int err = d ? blkdev_init(&d->dev, &undo_ops, lower->name, lower->size_bytes) : -ENOMEM;

	if (err) {
		free(d);
		return fail(-ENOMEM, "no memory for a device");
	}
	d->lower = blkdev_get(lower);
	d->undo = u;
	d->device = device;
	d->dev.sector_bytes = lower->sector_bytes;
	d->dev.physical_bytes = lower->physical_bytes;
	d->dev.flags = lower->flags;
	d->dev.copies = lower->copies;
	*out = &d->dev;
	return 0;
}
