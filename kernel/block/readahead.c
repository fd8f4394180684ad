/*
 * Reading blocks that will be wanted soon, in the background. Runs of absent blocks are read by one request each.
 * What arrives is up to date but unchecked: the reader who comes for it checks it, since only the reader knows the
 * context.
 *
 * Each buffer of a run stays referenced and locked until the run is done, which the completing thread ends; hence the
 * raw lock, which is in no thread's list of held locks.
 */
#include "cache.h"

#include <stdlib.h>
#include <string.h>

#define RUN_MAX 64u

struct ahead {
	struct bio bio;
	u32 count;
	struct buffer_head *bh[RUN_MAX];
	struct iovec iov[RUN_MAX];
};

static void ahead_done(struct bio *bio)
{
	struct ahead *a = bio->private;
	struct bcache *cache = a->bh[0]->dev->cache;

	for (u32 i = 0; i < a->count; i++) {
		if (!bio->err)
			atomic_fetch_or(&a->bh[i]->state, BH_UPTODATE);
		bh_unlock_raw(a->bh[i]);
		bh_put(a->bh[i]);
	}
	free(a);
	/* Last, since detach waits for it and the cache may go then. */
	mutex_lock(&cache->lock);
	cache->aheads--;
	cond_broadcast(&cache->idle);
	mutex_unlock(&cache->lock);
}

/* The buffer of an absent block, locked and referenced; NULL when it is there, or somebody is at it, or there is no room. */
static struct buffer_head *take_absent(struct blkdev *dev, u64 blk)
{
	static const struct bh_ctx none;
	struct bcache *cache = dev->cache;
	struct buffer_head *bh = bh_find(dev, blk);
	bool hit;

	if (bh) {
		bh_put(bh);
		return NULL;
	}
	if (atomic_load(&cache->dirty_bytes) + dev->cache_block_bytes > cache->limit_bytes)
		return NULL;
	/* Whole blocks only: the short one at the end is the reader's. */
	if (blk >= dev->size_bytes / dev->cache_block_bytes)
		return NULL;
	if (cache_grab(dev, blk, true, NULL, &none, &hit, &bh)) {
		err_clear();
		return NULL;
	}
	if (!bh_trylock_raw(bh)) {
		bh_put(bh);
		return NULL;
	}
	if (bh_state(bh) & BH_UPTODATE) {
		bh_unlock_raw(bh);
		bh_put(bh);
		return NULL;
	}
	return bh;
}

static void submit_run(struct ahead *a)
{
	struct buffer_head *first = a->bh[0];

	for (u32 i = 0; i < a->count; i++)
		a->iov[i] = (struct iovec){ a->bh[i]->data, a->bh[i]->size_bytes };
	bio_init(&a->bio, first->dev, BIO_READ, first->blk * first->size_bytes, NULL,
		 (u64)a->count * first->size_bytes);
	a->bio.iov = a->iov;
	a->bio.iov_count = a->count;
	a->bio.private = a;
	a->bio.done = ahead_done;
	mutex_lock(&first->dev->cache->lock);
	first->dev->cache->aheads++;
	mutex_unlock(&first->dev->cache->lock);
	bio_submit_background(&a->bio);
}

void bh_readahead(struct blkdev *dev, u64 blk, u32 n)
{
	struct ahead *a = NULL;

	for (u64 end = blk + n; blk < end; blk++) {
		struct buffer_head *bh = take_absent(dev, blk);

		if (bh && !a) {
			a = malloc(sizeof(*a));
			if (!a) {
				bh_unlock_raw(bh);
				bh_put(bh);
				return;
			}
			a->count = 0;
		}
		if (bh)
			a->bh[a->count++] = bh;
		if (a && (!bh || a->count == RUN_MAX)) {
			submit_run(a);
			a = NULL;
		}
	}
	if (a)
		submit_run(a);
}
