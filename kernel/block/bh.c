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
	atomic_fetch_or(&bh->state, BH_UPTODATE | BH_SHOWN);
	return 0;
}

/* The buffer of the block, made when absent. When most of the memory is dirty, helps to clean some, so that eviction can go on. */
static int grab(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx, bool *hit,
		struct buffer_head **out)
{
	struct bcache *cache = dev->cache;
	u64 limit = cache->limit_bytes;

	if (unlikely(atomic_load(&cache->bytes) > limit + limit / 4 &&
		     atomic_load(&cache->dirty_bytes) > limit / 4))
		cache_reclaim(cache);
	return cache_grab(dev, blk, true, ops, ctx, hit, out);
}

/* Takes the lock; a buffer whose block was forgotten meanwhile is replaced by its successor. On error *bh is NULL. */
static int lock_hashed(struct buffer_head **bh, const struct bh_ops *ops, const struct bh_ctx *ctx)
{
	struct blkdev *dev = (*bh)->dev;
	u64 blk = (*bh)->blk;
	bool hit;

	for (;;) {
		int err;

		bh_lock(*bh);
		if (!bh_is_gone(*bh))
			return 0;
		bh_unlock(*bh);
		bh_put(*bh);
		err = grab(dev, blk, ops, ctx, &hit, bh);
		if (err)
			return err;
	}
}

/* What is in memory, and passed something else or nothing, against new expectations. Locks: the buffer. */
static int recheck(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx, int *verdict)
{
	int err;

	if (bh_in_use(bh)) {
		err = corrupt(bh->dev->health, "block", bh->blk, "claimed by two owners, as %s and as %s",
			      bh->ops ? bh->ops->name : "plain bytes", ops ? ops->name : "plain bytes");
	} else {
		err = verify(bh, ops, ctx);
		if (!err) {
			cache_set_checked(bh, ops, ctx);
			return 0;
		}
		/* Another copy may be better. */
		if (bh->dev->copies > 1 && cache_take_back(bh))
			return fetch(bh, ops, ctx, verdict);
	}
	if (!verdict)
		return err;
	*verdict = err;
	if (!(bh_state(bh) & BH_CHECKED))
		atomic_fetch_or(&bh->state, BH_SHOWN);
	return 0;
}

/* The way of everything that is not a plain hit. Locks: takes and gives back the buffer's. On error *bh is put and NULL. */
static int read_slow(struct buffer_head **bh, const struct bh_ops *ops, const struct bh_ctx *ctx,
		     int *verdict)
{
	int err = lock_hashed(bh, ops, ctx);
	u32 state;

	if (err)
		return err;
	state = bh_state(*bh);
	if (!(state & BH_UPTODATE))
		err = fetch(*bh, ops, ctx, verdict);
	else if (!(state & BH_CHECKED) || (*bh)->ops != ops || memcmp(&(*bh)->ctx, ctx, sizeof(*ctx)))
		err = recheck(*bh, ops, ctx, verdict);
	bh_unlock(*bh);
	if (err) {
		bh_put(*bh);
		*bh = NULL;
	}
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
	err = grab(dev, blk, ops, ctx, &hit, &bh);
	if (err)
		return err;
	if (hit)
		stat_add(STAT_BH_HITS, 1);
	else
		err = read_slow(&bh, ops, ctx, verdict);
	*out = bh;
	return err;
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

#define RUN_BLOCKS 256u /* neighbours in one request */

struct many_item {
	struct buffer_head *bh; /* referenced */
	bool done;
};

struct many {
	struct blkdev *dev;
	const struct bh_ops *ops;
	const struct bh_ctx *ctxs; /* one for each, or NULL */
	struct many_item *item;    /* as asked for */
	u32 *order;                /* indices of the absent ones whose lock we got, by block */
	struct iovec *iov;
	struct bio *bio; /* one for each run of neighbours */
	u32 count, locked, runs;
};

static const struct bh_ctx *many_ctx(const struct many *m, u32 i)
{
	return m->ctxs ? &m->ctxs[i] : &no_ctx;
}

static struct buffer_head *many_locked(const struct many *m, u32 at)
{
	return m->item[m->order[at]].bh;
}

/* Takes the lock of an absent one, if it is free: nobody is waited for while locks are held. */
static bool try_absent(struct buffer_head *bh)
{
	if (bh_state(bh) & BH_UPTODATE || !bh_trylock_raw(bh))
		return false;
	if (!(bh_state(bh) & (BH_UPTODATE | BH_GONE)))
		return true;
	bh_unlock_raw(bh);
	return false;
}

static int many_grab(struct many *m, const u64 *blks)
{
	for (u32 i = 0; i < m->count; i++) {
		struct many_item *it = &m->item[i];
		int err = grab(m->dev, blks[i], m->ops, many_ctx(m, i), &it->done, &it->bh);

		if (err)
			return err;
		if (it->done)
			stat_add(STAT_BH_HITS, 1);
		else if (try_absent(it->bh))
			m->order[m->locked++] = i;
	}
	return 0;
}

static int by_block(const void *a, const void *b, void *arg)
{
	const struct many *m = arg;
	u64 x = m->item[*(const u32 *)a].bh->blk, y = m->item[*(const u32 *)b].bh->blk;

	return x < y ? -1 : x > y;
}

/* Reads what we locked in one batch. */
static void many_fetch(struct many *m)
{
	struct io_batch batch;

	qsort_r(m->order, m->locked, sizeof(m->order[0]), by_block, m);
	io_batch_init(&batch);
	for (u32 at = 0; at < m->locked;) {
		struct bio *bio = &m->bio[m->runs++];
		u64 first = many_locked(m, at)->blk, bytes = 0, off;
		u32 from = at;

		do {
			struct buffer_head *bh = many_locked(m, at);
			u64 len = prepare_read(bh, &off);

			m->iov[at++] = (struct iovec){ bh->data, len };
			bytes += len;
		} while (at < m->locked && at - from < RUN_BLOCKS &&
			 many_locked(m, at)->blk == first + (at - from));
		bio_init(bio, m->dev, BIO_READ, first * m->dev->cache_block_bytes, NULL, bytes);
		bio->iov = &m->iov[from];
		bio->iov_count = at - from;
		io_submit(&batch, bio);
	}
	/* Which of them failed stands in each bio. */
	if (io_wait(&batch))
		err_clear();
}

/*
 * Checks and unlocks what was read. What does not pass is left as it is read, unchecked, when there are other
 * copies to look for; a request that failed is left to read_slow, block by block.
 */
static int many_check(struct many *m)
{
	u32 at = 0;
	int err = 0;

	for (u32 r = 0; r < m->runs; r++) {
		for (u32 n = m->bio[r].iov_count; n; n--, at++) {
			struct many_item *it = &m->item[m->order[at]];
			const struct bh_ctx *ctx = many_ctx(m, m->order[at]);
			int bad = m->bio[r].err ? 0 : verify(it->bh, m->ops, ctx);

			it->done = !m->bio[r].err && !bad;
			if (it->done)
				cache_set_checked(it->bh, m->ops, ctx);
			if (!m->bio[r].err)
				stat_add(STAT_BH_MISSES, 1);
			bh_unlock_raw(it->bh);
			if (!err && m->dev->copies == 1)
				err = bad;
		}
	}
	return err;
}

static int many_read(struct many *m, const u64 *blks)
{
	int err = many_grab(m, blks), bad;

	/* After an error too: what is locked must be unlocked, and may as well be read. */
	many_fetch(m);
	bad = many_check(m);
	if (!err)
		err = bad;
	for (u32 i = 0; i < m->count && !err; i++)
		if (!m->item[i].done)
			err = read_slow(&m->item[i].bh, m->ops, many_ctx(m, i), NULL);
	return err;
}

int bh_read_many(struct blkdev *dev, const u64 *blks, u32 n, const struct bh_ops *ops,
		 const struct bh_ctx *ctxs, struct buffer_head **out)
{
	struct many m = { .dev = dev, .ops = ops, .ctxs = ctxs, .count = n };
	int err = -ENOMEM;

	if (!n)
		return 0;
	m.item = calloc(n, sizeof(m.item[0]));
	m.order = malloc(n * sizeof(m.order[0]));
	m.iov = malloc(n * sizeof(m.iov[0]));
	m.bio = malloc(n * sizeof(m.bio[0]));
	if (m.item && m.order && m.iov && m.bio)
		err = many_read(&m, blks);
	else
		err = fail(err, "no memory to read %u blocks", n);
	for (u32 i = 0; i < n && m.item; i++) {
		out[i] = err ? NULL : m.item[i].bh;
		if (err)
			bh_put(m.item[i].bh);
	}
	free(m.item);
	free(m.order);
	free(m.iov);
	free(m.bio);
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
	err = grab(dev, blk, ops, ctx, &same, &bh);
	if (!err)
		err = lock_hashed(&bh, ops, ctx);
	if (err)
		return err;
	same = bh->ops == ops && !memcmp(&bh->ctx, ctx, sizeof(*ctx));
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
	if (bh_state(bh) & BH_UPTODATE) {
		if (!(bh_state(bh) & BH_CHECKED))
			atomic_fetch_or(&bh->state, BH_SHOWN);
		return bh;
	}
	bh_put(bh);
	return NULL;
}

void bh_void(struct buffer_head *bh)
{
	bh_clean(bh);
	cache_unhash(bh);
}

void bh_forget(struct blkdev *dev, u64 blk)
{
	struct buffer_head *bh;
	bool hit;

	if (cache_grab(dev, blk, false, NULL, &no_ctx, &hit, &bh) || !bh)
		return;
	bh_lock(bh); /* a write under way ends first */
	bh_void(bh);
	bh_unlock(bh);
	bh_put(bh);
}
