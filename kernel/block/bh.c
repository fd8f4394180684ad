/*
 * Reading buffers: what is cached and passed the same check is a hit; else the block is read and checked, or
 * checked anew. The rules are in block.h.
 *
 * Where the device keeps several copies, the first that passes is taken, and the bad ones before it are rewritten
 * from it when the device may be written. "Passes" includes the context: a copy whose write was lost, sound but old,
 * is a bad copy too.
 */
#include "cache.h"

#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct bh_ctx no_ctx;

static int verify(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx)
{
	int err = ops && ops->verify ? ops->verify(bh, bh->data, ctx) : 0;

	if (err) {
		stat_add(STAT_BH_BAD, 1);
		trace(TRACE_BH_BAD, bh->blk, bh->size_bytes);
	}
	return err;
}

/* The range a buffer covers; the device's last block may be short, and reads as if zeros followed. */
static u64 prepare_read(struct buffer_head *bh, u64 *off)
{
	u64 len;

	*off = bh->blk * bh->size_bytes;
	len = MIN((u64)bh->size_bytes, bh->dev->size_bytes - *off);
	if (len < bh->size_bytes)
		memset((u8 *)bh->data + len, 0, bh->size_bytes - len);
	return len;
}

static int read_copy(struct buffer_head *bh, u8 copy)
{
	struct io_batch batch;
	struct bio bio;
	u64 off, len = prepare_read(bh, &off);

	io_batch_init(&batch);
	bio_init(&bio, bh->dev, BIO_READ, off, bh->data, len);
	bio.copy = copy;
	io_submit(&batch, &bio);
	return io_wait(&batch);
}

/* Writes the good content over copies [0, good). A copy that cannot be written stays bad: reading goes on as before. */
static void heal(struct buffer_head *bh, u32 good)
{
	for (u32 copy = 0; copy < good; copy++) {
		struct io_batch batch;
		struct bio bio;
		u64 off = bh->blk * bh->size_bytes, len = MIN((u64)bh->size_bytes, bh->dev->size_bytes - off);

		io_batch_init(&batch);
		bio_init(&bio, bh->dev, BIO_WRITE, off, bh->data, len);
		bio.copy = (u8)copy;
		bio.flags = BIO_HEAL;
		io_submit(&batch, &bio);
		if (io_wait(&batch))
			err_clear();
		else
			stat_add(STAT_BH_HEALED, 1);
	}
}

/*
 * Reads and checks, copy by copy. Locks: the buffer. With `verdict` the bytes of copy 0 are good enough: *verdict
 * says what the check said. The first error is the one that is returned.
 */
static int fetch(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx, int *verdict)
{
	int err = 0, first = 0;

	stat_add(STAT_BH_MISSES, 1);
	for (u32 copy = 0; copy < bh->dev->copies; copy++) {
		err = read_copy(bh, (u8)copy);
		if (!err)
			err = verify(bh, ops, ctx);
		if (!err) {
			cache_set_checked(bh, ops, ctx);
			if (copy && !(bh->dev->flags & BLKDEV_RDONLY))
				heal(bh, copy);
			return 0;
		}
		if (!first)
			first = err;
	}
	if (!verdict)
		return first;
	*verdict = first;
	if (bh->dev->copies > 1 || first != -EUCLEAN) {
		err = read_copy(bh, 0);
		if (err)
			return err;
	}
	atomic_fetch_or(&bh->state, BH_UPTODATE);
	return 0;
}

/* The way of everything that is not a plain hit. Locks: takes and gives back the buffer's. */
static int read_slow(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx, int *verdict)
{
	int err;

	bh_lock(bh);
	if (!(bh_state(bh) & BH_UPTODATE)) {
		err = fetch(bh, ops, ctx, verdict);
	} else if (bh_state(bh) & BH_CHECKED && bh->ops == ops && !memcmp(&bh->ctx, ctx, sizeof(*ctx))) {
		err = 0; /* another thread was faster */
	} else if (bh_in_use(bh)) {
		err = corrupt(bh->dev->health, "block", bh->blk, "claimed by two owners, as %s and as %s",
			      bh->ops ? bh->ops->name : "plain bytes", ops ? ops->name : "plain bytes");
	} else {
		err = verify(bh, ops, ctx);
		if (!err) {
			cache_set_checked(bh, ops, ctx);
		} else if (verdict) {
			*verdict = err;
			err = 0;
		} else if (!(bh_state(bh) & BH_CHECKED)) {
			/* Read ahead, and bad: another copy may be better. */
			atomic_fetch_and(&bh->state, ~BH_UPTODATE);
			if (bh->dev->copies > 1)
				err = fetch(bh, ops, ctx, NULL);
		}
	}
	bh_unlock(bh);
	return err;
}

static int read_one(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
		    struct buffer_head **out, int *verdict)
{
	struct buffer_head *bh;
	bool hit = false;
	int err;

	if (!ctx)
		ctx = &no_ctx;
	err = cache_grab(dev, blk, true, ops, ctx, &hit, &bh);
	if (err)
		return err;
	if (hit) {
		stat_add(STAT_BH_HITS, 1);
	} else {
		err = read_slow(bh, ops, ctx, verdict);
		if (err) {
			bh_put(bh);
			return err;
		}
	}
	*out = bh;
	return 0;
}

int bh_read(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
	    struct buffer_head **out)
{
	return read_one(dev, blk, ops, ctx, out, NULL);
}

int bh_read_raw(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
		struct buffer_head **out, int *verdict)
{
	*verdict = 0;
	return read_one(dev, blk, ops, ctx, out, verdict);
}

/* ---- many ---- */

struct many {
	struct buffer_head *bh;
	const struct bh_ctx *ctx;
	struct bio bio;
	bool locked, done;
};

/* Starts the read of one that is absent, if its lock is free: nobody is waited for while locks are held. */
static void many_start(struct many *m, struct io_batch *batch)
{
	u64 off, len;

	if (bh_state(m->bh) & BH_UPTODATE || !bh_trylock(m->bh))
		return;
	if (bh_state(m->bh) & BH_UPTODATE) {
		bh_unlock(m->bh);
		return;
	}
	m->locked = true;
	len = prepare_read(m->bh, &off);
	bio_init(&m->bio, m->bh->dev, BIO_READ, off, m->bh->data, len);
	io_submit(batch, &m->bio);
}

static int many_finish(struct many *m, const struct bh_ops *ops)
{
	bool good;

	if (m->locked) {
		stat_add(STAT_BH_MISSES, 1);
		good = !m->bio.err && !verify(m->bh, ops, m->ctx);
		if (good)
			cache_set_checked(m->bh, ops, m->ctx);
		bh_unlock(m->bh);
		if (good)
			return 0;
	}
	/* Somebody else was reading it, or copy 0 is bad: the thorough way, alone. */
	return read_slow(m->bh, ops, m->ctx, NULL);
}

int bh_read_many(struct blkdev *dev, const u64 *blks, u32 n, const struct bh_ops *ops,
		 const struct bh_ctx *ctxs, struct buffer_head **out)
{
	struct many *m = calloc(n ? n : 1, sizeof(*m));
	struct io_batch batch;
	int err = 0;
	u32 got;

	if (!m)
		return fail(-ENOMEM, "no memory to read %u blocks", n);
	io_batch_init(&batch);
	for (got = 0; got < n && !err; got++) {
		m[got].ctx = ctxs ? &ctxs[got] : &no_ctx;
		err = cache_grab(dev, blks[got], true, ops, m[got].ctx, &m[got].done, &m[got].bh);
		if (err)
			break;
		if (m[got].done)
			stat_add(STAT_BH_HITS, 1);
		else
			many_start(&m[got], &batch);
	}
	/* Which of them failed stands in each bio. */
	if (io_wait(&batch))
		err_clear();
	for (u32 i = 0; i < got; i++)
		if (!m[i].done) {
			int e = many_finish(&m[i], ops);

			err = err ? err : e;
		}
	for (u32 i = 0; i < got; i++) {
		if (err)
			bh_put(m[i].bh);
		else
			out[i] = m[i].bh;
	}
	free(m);
	return err;
}

/* ---- without reading ---- */

int bh_get_new(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
	       struct buffer_head **out)
{
	struct buffer_head *bh;
	bool same = false;
	int err;

	if (!ctx)
		ctx = &no_ctx;
	err = cache_grab(dev, blk, true, ops, ctx, &same, &bh);
	if (err)
		return err;
	bh_lock(bh);
	if (!same && bh_state(bh) & BH_UPTODATE && bh_in_use(bh)) {
		err = corrupt(dev->health, "block", blk, "claimed by two owners, as %s and as %s",
			      bh->ops ? bh->ops->name : "plain bytes", ops ? ops->name : "plain bytes");
	} else {
		memset(bh->data, 0, bh->size_bytes);
		atomic_fetch_and(&bh->state, ~BH_SEALED);
		cache_set_checked(bh, ops, ctx);
	}
	bh_unlock(bh);
	if (err)
		bh_put(bh);
	else
		*out = bh;
	return err;
}

struct buffer_head *bh_find(struct blkdev *dev, u64 blk)
{
	struct buffer_head *bh;
	bool hit;

	if (cache_grab(dev, blk, false, NULL, &no_ctx, &hit, &bh) || !bh)
		return NULL;
	if (bh_state(bh) & BH_UPTODATE)
		return bh;
	bh_put(bh);
	return NULL;
}

void bh_forget(struct blkdev *dev, u64 blk)
{
	struct buffer_head *bh;
	bool hit;

	if (cache_grab(dev, blk, false, NULL, &no_ctx, &hit, &bh) || !bh)
		return;
	bh_lock(bh); /* a write under way ends first */
	bh_clean(bh);
	cache_unhash(bh);
	bh_unlock(bh);
	bh_put(bh);
}
