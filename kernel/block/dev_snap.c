/*
 * A writable overlay in memory: throw-away mounts, dry runs, a journal replayed without touching the image. What
 * was written lives in units of 4 KiB; everything else is read from below, which is never written.
 *
 * A read that meets no unit goes down as it is; one that meets only units is a copy; a mixed one is read from below whole,
 * and the units are laid over it. A write that covers a unit in part first fetches the unit from below. No lock is held meanwhile:
 * two such writers of one unit both fetch it, one of them makes the unit, both put their bytes into it.
 *
 * Invariant: a unit, once made, holds what the range reads as, and stays. Nothing is durable, so a flush has
 * nothing to do.
 */
#include "block/block.h"

#include "iov.h"
#include "sparse.h"
#include <errno.h>
#include <stdlib.h>

#define UNIT_BYTES DEV_SNAP_UNIT_BYTES

struct dev_snap {
	struct blkdev dev;
	struct blkdev *lower; /* [const] referenced */
	struct sparse units;
};

static struct dev_snap *to_snap(struct blkdev *dev)
{
	return container_of(dev, struct dev_snap, dev);
}

/* ---- reading ---- */

/* How many of the units that the bio touches are there. */
static u64 present(struct dev_snap *s, const struct bio *bio)
{
	u64 n = 0, last = (bio->at_bytes + bio->len_bytes - 1) / UNIT_BYTES;

	for (u64 unit = bio->at_bytes / UNIT_BYTES; unit <= last; unit++)
		n += sparse_get(&s->units, unit) != NULL;
	return n;
}

static void lay_over(struct dev_snap *s, struct bio *bio)
{
	for (u64 done = 0; done < bio->len_bytes;) {
		u64 at = bio->at_bytes + done, within = at % UNIT_BYTES;
		u64 now = MIN(bio->len_bytes - done, UNIT_BYTES - within);
		u8 *unit = sparse_get(&s->units, at / UNIT_BYTES);

		if (unit)
			iov_copy(bio->iov, done, unit + within, now, true);
		done += now;
	}
}

struct snap_read {
	struct bio child;
	struct bio *parent;
	struct dev_snap *snap;
};

static void mixed_done(struct bio *child)
{
	struct snap_read *r = child->private;
	struct bio *parent = r->parent;
	int err = child->err;

	if (!err)
		lay_over(r->snap, parent);
	free(r);
	bio_complete(parent, err);
}

static void snap_read(struct dev_snap *s, struct bio *bio)
{
	u64 first = bio->at_bytes / UNIT_BYTES, last = (bio->at_bytes + bio->len_bytes - 1) / UNIT_BYTES;
	u64 here = present(s, bio);
	struct snap_read *r;

	if (!here) {
		bio_pass(bio, s->lower, bio->at_bytes);
		return;
	}
	if (here == last - first + 1) {
		lay_over(s, bio);
		bio_complete(bio, 0);
		return;
	}
	r = malloc(sizeof(*r));
	if (!r) {
		bio_complete(bio, -ENOMEM);
		return;
	}
	r->parent = bio;
	r->snap = s;
	bio_init(&r->child, s->lower, BIO_READ, bio->at_bytes, NULL, bio->len_bytes);
	r->child.iov = bio->iov;
	r->child.iov_count = bio->iov_count;
	r->child.copy = bio->copy;
	r->child.done = mixed_done;
	r->child.private = r;
	bio_submit_child(bio, &r->child);
}

/* ---- writing ---- */

/* Every unit that the bio covers in part is there. */
static int put_bytes(struct dev_snap *s, struct bio *bio)
{
	for (u64 done = 0; done < bio->len_bytes;) {
		u64 at = bio->at_bytes + done, within = at % UNIT_BYTES;
		u64 now = MIN(bio->len_bytes - done, UNIT_BYTES - within);
		u8 *unit = sparse_make(&s->units, at / UNIT_BYTES, NULL);

		if (!unit)
			return -ENOMEM;
		iov_copy(bio->iov, done, unit + within, now, false);
		done += now;
	}
	return 0;
}

/* A write that waits for its first and last unit from below. */
struct snap_write {
	struct dev_snap *snap;
	struct bio *parent;
	struct bio child[2];
	u64 unit[2];
	u32 count;
	_Atomic u32 left;
	u8 bytes[2][UNIT_BYTES];
};

static void fetched(struct bio *child)
{
	struct snap_write *w = child->private;
	struct bio *parent = w->parent;
	int err = 0;

	if (atomic_fetch_sub(&w->left, 1) > 1)
		return;
	for (u32 i = 0; i < w->count && !err; i++) {
		err = w->child[i].err;
		if (!err && !sparse_make(&w->snap->units, w->unit[i], w->bytes[i]))
			err = -ENOMEM;
	}
	if (!err)
		err = put_bytes(w->snap, parent);
	free(w);
	bio_complete(parent, err);
}

/* Notes the unit if it is covered in part and absent. */
static u32 want_unit(struct dev_snap *s, u64 unit, u64 from, u64 to, u64 *out)
{
	u64 start = unit * UNIT_BYTES, end = MIN(start + UNIT_BYTES, s->dev.size_bytes);

	if ((from <= start && end <= to) || sparse_get(&s->units, unit))
		return 0;
	*out = unit;
	return 1;
}

static void snap_write(struct dev_snap *s, struct bio *bio)
{
	u64 from = bio->at_bytes, to = from + bio->len_bytes, unit[2];
	u64 first = from / UNIT_BYTES, last = (to - 1) / UNIT_BYTES;
	u32 count = want_unit(s, first, from, to, &unit[0]);
	struct snap_write *w;

	if (last != first)
		count += want_unit(s, last, from, to, &unit[count]);
	if (!count) {
		bio_complete(bio, put_bytes(s, bio));
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		bio_complete(bio, -ENOMEM);
		return;
	}
	w->snap = s;
	w->parent = bio;
	w->count = count;
	atomic_init(&w->left, count);
	for (u32 i = 0; i < count; i++) {
		u64 off = unit[i] * UNIT_BYTES;

		w->unit[i] = unit[i];
		bio_init(&w->child[i], s->lower, BIO_READ, off, w->bytes[i],
			 MIN((u64)UNIT_BYTES, s->dev.size_bytes - off));
		w->child[i].done = fetched;
		w->child[i].private = w;
	}
	/* The last completion frees w: count is ours. */
	for (u32 i = 0; i < count; i++)
		bio_submit_child(bio, &w->child[i]);
}

static void snap_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_snap *s = to_snap(dev);

	switch (bio->op) {
	case BIO_READ:
		snap_read(s, bio);
		break;
	case BIO_WRITE:
		snap_write(s, bio);
		break;
	case BIO_FLUSH:
		bio_complete(bio, 0);
		break;
	default:
		bio_complete(bio, -EOPNOTSUPP);
	}
}

static void snap_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	blkdev_will_need(to_snap(dev)->lower, off_bytes, len_bytes);
}

static void snap_release(struct blkdev *dev)
{
	struct dev_snap *s = to_snap(dev);

	sparse_fini(&s->units);
	blkdev_put(s->lower);
	blkdev_fini(dev);
	free(s);
}

static const struct blkdev_ops snap_ops = {
	.kind = "snap",
	.submit = snap_submit,
	.will_need = snap_will_need,
	.release = snap_release,
};

int dev_snap_new(struct blkdev *lower, struct blkdev **out)
{
	struct dev_snap *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return fail(-ENOMEM, "no memory for a device");
	err = blkdev_init(&s->dev, &snap_ops, lower->name, lower->size_bytes);
	if (err)
		goto free_dev;
	err = sparse_init(&s->units, UNIT_BYTES, lower->size_bytes);
	if (err)
		goto fini_dev;
	s->dev.physical_bytes = lower->physical_bytes;
	s->dev.flags = lower->flags & (BLKDEV_HINTS | BLKDEV_DIRECT);
	s->dev.copies = lower->copies;
	s->lower = blkdev_get(lower);
	*out = &s->dev;
	return 0;
fini_dev:
	blkdev_fini(&s->dev);
free_dev:
	free(s);
	return err;
}

u64 dev_snap_units(struct blkdev *snap)
{
	return atomic_load(&to_snap(snap)->units.units);
}

u64 dev_snap_next(struct blkdev *snap, u64 off_bytes)
{
	u64 unit = sparse_next(&to_snap(snap)->units, DIV_ROUND_UP(off_bytes, (u64)UNIT_BYTES));

	return unit == ~0ull ? unit : unit * UNIT_BYTES;
}
