/*
 * A device in memory: sparse, zeros at first. Every request ends before submit returns.
 *
 * Reads and writes run in parallel: units appear, but go away only in discard and zero, which keep the others out.
 */
#include "block/block.h"

#include "iov.h"
#include "lib/lock.h"
#include "sparse.h"
#include <errno.h>
#include <stdlib.h>

#define UNIT_BYTES 65536u

struct dev_mem {
	struct blkdev dev;
	struct sparse bytes;
	struct rwlock drop; /* rank RING; shared: looks at units; exclusive: drops some */
};

static int move(struct dev_mem *m, struct bio *bio)
{
	for (u64 done = 0; done < bio->len_bytes;) {
		u64 at = bio->at_bytes + done, within = at % UNIT_BYTES;
		u64 now = MIN(bio->len_bytes - done, UNIT_BYTES - within);
		u8 *unit = bio->op == BIO_WRITE ? sparse_make(&m->bytes, at / UNIT_BYTES, NULL)
						: sparse_get(&m->bytes, at / UNIT_BYTES);

		if (unit)
			iov_copy(bio->iov, done, unit + within, now, bio->op == BIO_READ);
		else if (bio->op == BIO_READ)
			iov_fill(bio->iov, done, 0, now);
		else
			return -ENOMEM;
		done += now;
	}
	return 0;
}

static void zero(struct dev_mem *m, u64 at, u64 end)
{
	while (at < end) {
		u64 within = at % UNIT_BYTES, now = MIN(end - at, UNIT_BYTES - within);
		u8 *unit = sparse_get(&m->bytes, at / UNIT_BYTES);

		if (unit && now == UNIT_BYTES)
			sparse_drop(&m->bytes, at / UNIT_BYTES);
		else if (unit)
			memset(unit + within, 0, now);
		at += now;
	}
}

static void mem_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_mem *m = container_of(dev, struct dev_mem, dev);
	int err = 0;

	switch (bio->op) {
	case BIO_READ:
	case BIO_WRITE:
		rw_read_lock(&m->drop);
		err = move(m, bio);
		rw_read_unlock(&m->drop);
		break;
	case BIO_DISCARD:
	case BIO_ZERO:
		rw_write_lock(&m->drop);
		zero(m, bio->at_bytes, bio->at_bytes + bio->len_bytes);
		rw_write_unlock(&m->drop);
		break;
	}
	bio_complete(bio, err);
}

static void mem_release(struct blkdev *dev)
{
	struct dev_mem *m = container_of(dev, struct dev_mem, dev);

	sparse_fini(&m->bytes);
	rw_fini(&m->drop);
	blkdev_fini(dev);
	free(m);
}

static const struct blkdev_ops mem_ops = {
	.kind = "mem",
	.submit = mem_submit,
	.release = mem_release,
};

int dev_mem_new(const char *name, u64 size_bytes, u32 sector_bytes, struct blkdev **out)
{
	struct dev_mem *m;
	int err;

	if (!is_pow2(sector_bytes))
		return fail(-EINVAL, "%s: a sector of %u bytes", name, sector_bytes);
	m = calloc(1, sizeof(*m));
	if (!m)
		return fail(-ENOMEM, "no memory for a device");
	err = blkdev_init(&m->dev, &mem_ops, name, size_bytes);
	if (err)
		goto free_dev;
	err = sparse_init(&m->bytes, UNIT_BYTES, size_bytes);
	if (err)
		goto fini_dev;
	rw_init(&m->drop, RANK_RING);
	m->dev.sector_bytes = sector_bytes;
	m->dev.physical_bytes = sector_bytes;
	m->dev.flags = BLKDEV_DISCARD;
	*out = &m->dev;
	return 0;
fini_dev:
	blkdev_fini(&m->dev);
free_dev:
	free(m);
	return err;
}
