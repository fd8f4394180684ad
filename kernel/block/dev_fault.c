/*
 * A device for tests: passes everything on, fails what it was told to fail, and keeps what was written.
 *
 * Failing happens before the device below hears of the request. Recording happens when the request below has ended well,
 * before the submitter is told: so the records are in an order in which the writes may be taken to have
 * happened, and a flush stands behind every write that it covers. It says itself which those are: what ended while it was under
 * way stands before it, and may not be covered.
 */
#include "block/block.h"

#include "iov.h"
#include "lib/lock.h"
#include <errno.h>
#include <stdlib.h>

struct fault_plan {
	u64 count; /* requests so far */
	u64 nth;   /* from now, 0: none */
	int err;
	bool sticky;
};

struct dev_fault {
	struct blkdev dev;
	struct blkdev *lower;                   /* [const] referenced */
	bool record;                            /* [const] */
	struct mutex lock;                      /* rank RING */
	struct fault_plan plan[FAULT_OP_COUNT]; /* [lock] */
	struct fault_record *records;           /* [lock] */
	u64 records_count, records_room;        /* [lock] */
};

/* A request that is recorded when it is done. */
struct fault_io {
	struct bio child;
	struct bio *parent;
	struct dev_fault *fault;
	u64 before; /* records when it was submitted */
};

static struct dev_fault *to_fault(struct blkdev *dev)
{
	return container_of(dev, struct dev_fault, dev);
}

static enum fault_op kind_of(const struct bio *bio)
{
	switch (bio->op) {
	case BIO_READ:
		return FAULT_READ;
	case BIO_FLUSH:
		return FAULT_FLUSH;
	case BIO_DISCARD:
		return FAULT_DISCARD;
	default:
		return FAULT_WRITE;
	}
}

/* Counts the request; the error it is to end in, or 0. */
static int verdict(struct dev_fault *f, enum fault_op op)
{
	struct fault_plan *p = &f->plan[op];
	int err = 0;

	mutex_lock(&f->lock);
	p->count++;
	if (p->nth == 1) {
		err = p->err;
		if (!p->sticky)
			p->nth = 0;
	} else if (p->nth) {
		p->nth--;
	}
	mutex_unlock(&f->lock);
	return err;
}

static int grow(struct dev_fault *f)
{
	u64 room = f->records_room ? f->records_room * 2 : 64;
	struct fault_record *r;

	if (f->records_count < f->records_room)
		return 0;
	r = realloc(f->records, room * sizeof(*r));
	if (!r)
		return -ENOMEM;
	f->records = r;
	f->records_room = room;
	return 0;
}

static int keep(struct dev_fault *f, const struct bio *bio, u64 before)
{
	struct fault_record r = { .op = kind_of(bio), .flags = bio->flags & BIO_FUA };
	u8 *data = NULL;
	int err;

	r.off_bytes = bio->at_bytes;
	r.len_bytes = bio->len_bytes;
	r.covers = r.op == FAULT_FLUSH ? before : 0;
	if (r.op == FAULT_WRITE) {
		data = malloc(bio->len_bytes);
		if (!data)
			return -ENOMEM;
		iov_copy(bio->iov, 0, data, bio->len_bytes, false);
	}
	r.data = data;
	mutex_lock(&f->lock);
	err = grow(f);
	if (!err)
		f->records[f->records_count++] = r;
	mutex_unlock(&f->lock);
	if (err)
		free(data);
	return err;
}

static void recorded(struct bio *child)
{
	struct fault_io *io = child->private;
	struct bio *parent = io->parent;
	int err = child->err;

	if (!err)
		err = keep(io->fault, parent, io->before);
	free(io);
	bio_complete(parent, err);
}

static void fault_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_fault *f = to_fault(dev);
	struct fault_io *io;
	int err;

	/* Zeroing is done by writes, which are counted and recorded as such. */
	err = bio->op == BIO_ZERO ? -EOPNOTSUPP : verdict(f, kind_of(bio));
	if (err) {
		bio_complete(bio, err);
		return;
	}
	if (!f->record || bio->op == BIO_READ) {
		bio_pass(bio, f->lower, bio->at_bytes);
		return;
	}
	io = malloc(sizeof(*io));
	if (!io) {
		bio_complete(bio, -ENOMEM);
		return;
	}
	io->parent = bio;
	io->fault = f;
	mutex_lock(&f->lock);
	io->before = f->records_count;
	mutex_unlock(&f->lock);
	bio_init(&io->child, f->lower, (enum bio_op)bio->op, bio->at_bytes, NULL, bio->len_bytes);
	io->child.iov = bio->iov;
	io->child.iov_count = bio->iov_count;
	io->child.flags = bio->flags & (BIO_FUA | BIO_HEAL);
	io->child.copy = bio->copy;
	io->child.done = recorded;
	io->child.private = io;
	bio_submit_child(bio, &io->child);
}

static void fault_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	blkdev_will_need(to_fault(dev)->lower, off_bytes, len_bytes);
}

static int fault_grow(struct blkdev *dev, u64 size_bytes)
{
	struct blkdev *lower = to_fault(dev)->lower;
	int err = blkdev_grow(lower, size_bytes);

	dev->size_bytes = lower->size_bytes;
	return err;
}

static void fault_cut_back(struct blkdev *dev)
{
	struct blkdev *lower = to_fault(dev)->lower;

	blkdev_cut_back(lower);
	dev->size_bytes = lower->size_bytes;
}

static void fault_release(struct blkdev *dev)
{
	struct dev_fault *f = to_fault(dev);

	for (u64 i = 0; i < f->records_count; i++)
		free((void *)(uintptr_t)f->records[i].data);
	free(f->records);
	mutex_fini(&f->lock);
	blkdev_put(f->lower);
	blkdev_fini(dev);
	free(f);
}

static const struct blkdev_ops fault_ops = {
	.kind = "fault",
	.submit = fault_submit,
	.will_need = fault_will_need,
	.grow = fault_grow,
	.cut_back = fault_cut_back,
	.release = fault_release,
};

int dev_fault_new(struct blkdev *lower, bool record, struct blkdev **out)
{
	struct dev_fault *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return fail(-ENOMEM, "no memory for a device");
	err = blkdev_init(&f->dev, &fault_ops, lower->name, lower->size_bytes);
	if (err) {
		free(f);
		return err;
	}
	f->dev.sector_bytes = lower->sector_bytes;
	f->dev.physical_bytes = lower->physical_bytes;
	f->dev.flags = lower->flags;
	f->dev.copies = lower->copies;
	f->lower = blkdev_get(lower);
	f->record = record;
	mutex_init(&f->lock, RANK_RING);
	*out = &f->dev;
	return 0;
}

void dev_fault_nth(struct blkdev *fault, enum fault_op op, u64 nth, int err, bool sticky)
{
	struct dev_fault *f = to_fault(fault);

	mutex_lock(&f->lock);
	f->plan[op].nth = nth;
	f->plan[op].err = err;
	f->plan[op].sticky = sticky;
	mutex_unlock(&f->lock);
}

u64 dev_fault_count(struct blkdev *fault, enum fault_op op)
{
	struct dev_fault *f = to_fault(fault);
	u64 n;

	mutex_lock(&f->lock);
	n = f->plan[op].count;
	mutex_unlock(&f->lock);
	return n;
}

u64 dev_fault_records(struct blkdev *fault)
{
	struct dev_fault *f = to_fault(fault);
	u64 n;

	mutex_lock(&f->lock);
	n = f->records_count;
	mutex_unlock(&f->lock);
	return n;
}

int dev_fault_record(struct blkdev *fault, u64 index, struct fault_record *out)
{
	struct dev_fault *f = to_fault(fault);
	int err = 0;

	mutex_lock(&f->lock);
	if (index < f->records_count)
		*out = f->records[index];
	else
		err = -ERANGE;
	mutex_unlock(&f->lock);
	return err ? fail(err, "%s: no record %llu", fault->name, (unsigned long long)index) : 0;
}
