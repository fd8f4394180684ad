/*
 * Dirty buffers: becoming dirty, going home, and the thread that sees to it.
 *
 * A buffer goes home under its lock: sealed unless it is, written, and only then clean; so whoever finds it dirty
 * and gets its lock either finds the work done or does it. Neighbours go in one request. A failed write is never
 * repeated: the host may have dropped the pages. The buffer is clean then, the device's error stays, and the
 * volume's health says ABORTED.
 */
#include "cache.h"

#include "lib/log.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRTY_AGE_NS     5000000000ull
#define WRITEBACK_MS     1000u
#define WRITE_BUFFERS    256u /* in one go */
#define WRITE_NEIGHBOURS 64u  /* in one request */

static void start_writeback(struct bcache *cache);

bool bh_is_dirty(const struct buffer_head *bh)
{
	return bh_state(bh) & BH_DIRTY;
}

bool bh_is_pinned(const struct buffer_head *bh)
{
	return bh_state(bh) >= BH_PIN_ONE;
}

void bh_sealed(struct buffer_head *bh)
{
	lock_assert_held(bh);
	atomic_fetch_or(&bh->state, BH_SEALED);
}

void bh_pin(struct buffer_head *bh)
{
	lock_assert_held(bh);
	atomic_fetch_add(&bh->state, BH_PIN_ONE);
}

void bh_unpin(struct buffer_head *bh)
{
	lock_assert_held(bh);
	atomic_fetch_sub(&bh->state, BH_PIN_ONE);
}

void bh_dirty(struct buffer_head *bh)
{
	struct cache_shard *s = cache_shard_of(bh);
	struct bcache *cache = bh->dev->cache;
	bool gone;

	lock_assert_held(bh);
	atomic_fetch_and(&bh->state, ~BH_SEALED);
	if (bh_is_dirty(bh))
		return;
	mutex_lock(&s->lock);
	/* A block that was forgotten belongs to somebody else now. */
	gone = bh_is_gone(bh);
	if (!gone) {
		atomic_fetch_or(&bh->state, BH_DIRTY);
		bh->dirty_since_ns = os_monotonic_ns();
		list_add_tail(&s->dirty, &bh->dirty);
		atomic_fetch_add(&cache->dirty_bytes, bh->size_bytes);
	}
	mutex_unlock(&s->lock);
	if (!gone)
		start_writeback(cache);
}

void bh_clean(struct buffer_head *bh)
{
	struct cache_shard *s = cache_shard_of(bh);

	lock_assert_held(bh);
	if (!bh_is_dirty(bh))
		return;
	mutex_lock(&s->lock);
	atomic_fetch_and(&bh->state, ~(BH_DIRTY | BH_SEALED));
	list_del(&bh->dirty);
	mutex_unlock(&s->lock);
	atomic_fetch_sub(&bh->dev->cache->dirty_bytes, bh->size_bytes);
}

/* ---- going home ---- */

struct run {
	struct bio bio;
	struct iovec iov[WRITE_NEIGHBOURS];
};

static bool must_write(const struct buffer_head *bh)
{
	return bh_is_dirty(bh) && !bh_is_pinned(bh);
}

static void seal(struct buffer_head *bh)
{
	if (!(bh_state(bh) & BH_SEALED) && bh->ops && bh->ops->seal)
		bh->ops->seal(bh, bh->data);
	atomic_fetch_or(&bh->state, BH_SEALED);
}

static void written(struct buffer_head *bh, int err)
{
	int none = 0;

	trace(TRACE_BH_WRITE, bh->blk, bh->size_bytes);
	if (err &&
	    atomic_compare_exchange_strong(&bh->dev->cache->write_err[bh->dev->cache_slot], &none, err))
		log_error("%s: metadata block %llu could not be written: %s", bh->dev->name,
			  (unsigned long long)bh->blk, err_name(err));
	if (err && bh->dev->health)
		health_raise(bh->dev->health, HEALTH_ABORTED);
	bh_clean(bh);
}

/* The last block of a device may be short. */
static u64 bytes_on_device(const struct buffer_head *bh)
{
	u64 off = bh->blk * bh->size_bytes;

	return MIN((u64)bh->size_bytes, bh->dev->size_bytes - off);
}

int bh_write(struct buffer_head *bh)
{
	int err = 0;

	bh_lock(bh);
	if (must_write(bh)) {
		seal(bh);
		err = blkdev_write(bh->dev, bh->blk * bh->size_bytes, bh->data, bytes_on_device(bh), 0);
		written(bh, err);
	}
	bh_unlock(bh);
	return err;
}

/* Writes locked buffers, sorted by block, those that are neighbours together. */
static void write_locked(struct buffer_head **bh, u32 n)
{
	struct run *runs = malloc(n * sizeof(*runs));
	struct io_batch batch;
	u32 used = 0;

	if (!runs) { /* one at a time, then */
		for (u32 i = 0; i < n; i++) {
			seal(bh[i]);
			written(bh[i], blkdev_write(bh[i]->dev, bh[i]->blk * bh[i]->size_bytes, bh[i]->data,
						    bytes_on_device(bh[i]), 0));
		}
		return;
	}
	io_batch_init(&batch);
	for (u32 i = 0; i < n;) {
		struct run *r = &runs[used++];
		u32 first = i, count = 0;
		u64 bytes = 0;

		do {
			seal(bh[i]);
			r->iov[count++] = (struct iovec){ bh[i]->data, bytes_on_device(bh[i]) };
			bytes += bytes_on_device(bh[i]);
			i++;
		} while (i < n && count < WRITE_NEIGHBOURS && bh[i]->blk == bh[i - 1]->blk + 1 &&
			 bh[i]->dev == bh[first]->dev);
		bio_init(&r->bio, bh[first]->dev, BIO_WRITE, bh[first]->blk * bh[first]->size_bytes, NULL,
			 bytes);
		r->bio.iov = r->iov;
		r->bio.iov_count = count;
		io_submit(&batch, &r->bio);
	}
	/* Each buffer takes its own request's result. */
	if (io_wait(&batch))
		err_clear();
	for (u32 k = 0, i = 0; k < used; k++)
		for (u32 c = 0; c < runs[k].bio.iov_count; c++)
			written(bh[i++], runs[k].bio.err);
	free(runs);
}

/* Writes what is dirty among `n` referenced buffers, sorted, at most WRITE_BUFFERS. Those that somebody holds come
 * last, alone, if we may `wait`. */
static void write_some(struct buffer_head **bh, u32 n, bool wait)
{
	struct buffer_head *locked[WRITE_BUFFERS];
	u32 now = 0;

	for (u32 i = 0; i < n; i++) {
		if (!bh_trylock(bh[i]))
			continue;
		if (must_write(bh[i]))
			locked[now++] = bh[i];
		else
			bh_unlock(bh[i]);
	}
	if (now)
		write_locked(locked, now);
	for (u32 i = 0; i < now; i++)
		bh_unlock(locked[i]);
	for (u32 i = 0; i < n; i++) {
		/* Clean by now, unless its lock was busy. The error stays with the device. */
		if (wait && must_write(bh[i]) && bh_write(bh[i]))
			err_clear();
	}
}

static void write_and_put(struct buffer_head **bh, u32 n, bool wait)
{
	write_some(bh, n, wait);
	for (u32 i = 0; i < n; i++)
		bh_put(bh[i]);
}

static int by_block(const void *a, const void *b)
{
	const struct buffer_head *x = *(struct buffer_head *const *)a, *y = *(struct buffer_head *const *)b;

	if (x->dev != y->dev)
		return x->dev->cache_slot < y->dev->cache_slot ? -1 : 1;
	return x->blk < y->blk ? -1 : x->blk > y->blk;
}

void bh_write_many(struct buffer_head **bh, u32 n)
{
	qsort(bh, n, sizeof(*bh), by_block);
	for (u32 at = 0; at < n; at += WRITE_BUFFERS)
		write_some(bh + at, MIN(n - at, WRITE_BUFFERS), true);
}

/* References to the dirty, unpinned buffers, of one device or (NULL) all, dirty since before `until_ns`. Returns how many, at most `max`. */
static u32 gather(struct bcache *cache, const struct blkdev *dev, u64 until_ns, struct buffer_head **out,
		  u32 max)
{
	u32 n = 0;

	for (u32 i = 0; i < CACHE_SHARDS; i++) {
		struct cache_shard *s = &cache->shard[i];

		mutex_lock(&s->lock);
		list_for_each(l, &s->dirty)
		{
			struct buffer_head *bh = list_entry(l, struct buffer_head, dirty);

			if (n == max)
				break;
			if ((dev && bh->dev != dev) || bh->dirty_since_ns > until_ns || bh_is_pinned(bh))
				continue;
			out[n++] = bh_get(bh);
		}
		mutex_unlock(&s->lock);
	}
	qsort(out, n, sizeof(struct buffer_head *), by_block);
	return n;
}

static void write_dirty(struct bcache *cache, const struct blkdev *dev, u64 until_ns)
{
	/* Room for all that is dirty, so that the whole goes in block order; what becomes dirty meanwhile has time. */
	u32 max = (u32)MIN(atomic_load(&cache->dirty_bytes) / 512 + WRITE_BUFFERS, (u64)1 << 20), n;
	struct buffer_head **bh = malloc(max * sizeof(struct buffer_head *));
	struct buffer_head *few[WRITE_BUFFERS];

	do {
		struct buffer_head **list = bh ? bh : few;

		n = gather(cache, dev, until_ns, list, bh ? max : WRITE_BUFFERS);
		for (u32 at = 0; at < n; at += WRITE_BUFFERS)
			write_and_put(list + at, MIN(n - at, WRITE_BUFFERS), true);
	} while (n == (bh ? max : WRITE_BUFFERS));
	free(bh);
}

int bcache_error(const struct blkdev *dev)
{
	return dev->cache ? atomic_load(&dev->cache->write_err[dev->cache_slot]) : 0;
}

int bcache_sync(struct blkdev *dev)
{
	struct bcache *cache = dev->cache;
	int err;

	if (!cache)
		return 0;
	write_dirty(cache, dev, os_monotonic_ns());
	err = bcache_error(dev);
	return err ? fail(err, "%s: metadata could not be written", dev->name) : 0;
}

/* ---- the thread ---- */

static bool too_much_dirty(struct bcache *cache)
{
	return atomic_load(&cache->dirty_bytes) > cache->limit_bytes / 4;
}

/* False: somebody detaches a device, and nothing may be held. Locks: cache->lock. */
static bool round_begin(struct bcache *cache)
{
	if (cache->wb_holds)
		return false;
	cache->wb_rounds++;
	return true;
}

static void round_end(struct bcache *cache)
{
	if (!--cache->wb_rounds)
		cond_broadcast(&cache->idle);
}

void cache_reclaim(struct bcache *cache)
{
	struct buffer_head *bh[WRITE_BUFFERS];
	bool go;

	mutex_lock(&cache->lock);
	go = round_begin(cache);
	mutex_unlock(&cache->lock);
	if (!go)
		return;
	write_and_put(bh, gather(cache, NULL, UINT64_MAX, bh, WRITE_BUFFERS), false);
	mutex_lock(&cache->lock);
	round_end(cache);
	mutex_unlock(&cache->lock);
}

static void *writeback(void *arg)
{
	struct bcache *cache = arg;

	mutex_lock(&cache->lock);
	while (!cache->wb_stop) {
		u64 now;

		cond_wait_ms(&cache->wake, &cache->lock, WRITEBACK_MS);
		if (cache->wb_stop || !atomic_load(&cache->dirty_bytes) || !round_begin(cache))
			continue;
		mutex_unlock(&cache->lock);
		now = os_monotonic_ns();
		write_dirty(cache, NULL, too_much_dirty(cache) ? now : now - MIN(now, DIRTY_AGE_NS));
		mutex_lock(&cache->lock);
		round_end(cache);
	}
	mutex_unlock(&cache->lock);
	return NULL;
}

static void start_writeback(struct bcache *cache)
{
	if (atomic_load_explicit(&cache->wb_started, memory_order_acquire) && !too_much_dirty(cache))
		return;
	mutex_lock(&cache->lock);
	/* Without a thread the buffers still go home, in sync and detach. */
	if (!cache->wb_running && !os_thread(&cache->wb_thread, "bh-writeback", writeback, cache)) {
		cache->wb_running = true;
		atomic_store_explicit(&cache->wb_started, true, memory_order_release);
	}
	cond_signal(&cache->wake);
	mutex_unlock(&cache->lock);
}

void cache_quiesce(struct bcache *cache)
{
	mutex_lock(&cache->lock);
	cache->wb_holds++;
	while (cache->wb_rounds || cache->aheads)
		cond_wait(&cache->idle, &cache->lock);
	mutex_unlock(&cache->lock);
}

void cache_resume(struct bcache *cache)
{
	mutex_lock(&cache->lock);
	cache->wb_holds--;
	mutex_unlock(&cache->lock);
}

void cache_stop_writeback(struct bcache *cache)
{
	bool running;

	mutex_lock(&cache->lock);
	running = cache->wb_running;
	cache->wb_stop = true;
	cond_signal(&cache->wake);
	mutex_unlock(&cache->lock);
	if (running)
		pthread_join(cache->wb_thread, NULL);
}
