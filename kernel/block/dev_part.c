/* A window on another device: each request goes on, moved by the window's start. */
#include "block/block.h"

#include <errno.h>
#include <stdlib.h>

struct dev_part {
	struct blkdev dev;
	struct blkdev *lower; /* [const] referenced */
	u64 start_bytes;      /* [const] */
};

static void part_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_part *p = container_of(dev, struct dev_part, dev);

	bio_pass(bio, p->lower, p->start_bytes + bio->at_bytes);
}

static void part_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	struct dev_part *p = container_of(dev, struct dev_part, dev);

	blkdev_will_need(p->lower, p->start_bytes + off_bytes, len_bytes);
}

static void part_release(struct blkdev *dev)
{
	struct dev_part *p = container_of(dev, struct dev_part, dev);

	blkdev_put(p->lower);
	blkdev_fini(dev);
	free(p);
}

static const struct blkdev_ops part_ops = {
	.kind = "part",
	.submit = part_submit,
	.will_need = part_will_need,
	.release = part_release,
};

int dev_part_new(struct blkdev *lower, const char *name, u64 off_bytes, u64 len_bytes, struct blkdev **out)
{
	struct dev_part *p;
	int err;

	if (off_bytes > lower->size_bytes || len_bytes > lower->size_bytes - off_bytes)
		return fail(-ERANGE, "%s: bytes %llu to %llu do not lie within %s, which has %llu", name,
			    (unsigned long long)off_bytes, (unsigned long long)(off_bytes + len_bytes),
			    lower->name, (unsigned long long)lower->size_bytes);
	/* Writes are checked against the window only: its sectors must be the device's. */
	if (!IS_ALIGNED(off_bytes, (u64)lower->sector_bytes) && !(lower->flags & BLKDEV_RDONLY))
		return fail(-EINVAL, "%s: its start, %llu, is not a multiple of the sector of %s, %u bytes",
			    name, (unsigned long long)off_bytes, lower->name, lower->sector_bytes);
	p = calloc(1, sizeof(*p));
	if (!p)
		return fail(-ENOMEM, "no memory for a device");
	err = blkdev_init(&p->dev, &part_ops, name, len_bytes);
	if (err) {
		free(p);
		return err;
	}
	p->dev.sector_bytes = lower->sector_bytes;
	p->dev.physical_bytes = lower->physical_bytes;
	p->dev.flags = lower->flags;
	p->dev.copies = lower->copies;
	p->lower = blkdev_get(lower);
	p->start_bytes = off_bytes;
	*out = &p->dev;
	return 0;
}
