/*
 * The buffer cache's table: hash, references, idle list, memory, and the buffer's lock.
 *
 * Invariants
 *  1. refs goes from 0 to 1 and from 1 to 0 only under the shard's lock; a buffer with refs 0 is IDLE, on the LRU,
 *     unless it is dirty or pinned.
 *  2. (ops, ctx) change only under both the buffer's and the shard's lock, so either is enough to read them: a hit
 *     is recognised under the shard's lock alone, also while the block is being written.
 *  3. Block memory comes from the slab of its size. It goes back to the slab, not to the host, so the bytes held never exceed
 *     the most that was in use at once, and aligned blocks waste nothing.
 */
#include "cache.h"

#include "lib/hash.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BUCKETS 8u /* a cache line of them */

static struct slab *blocks_of(struct bcache *cache, u32 block_bytes)
{
	return &cache->blocks[ilog2(block_bytes) - 9];
}

/* ---- the hash ---- */

/* Blocks that are neighbours have neighbouring buckets of one shard: who goes from one to the next finds them in one cache line, or two. */
static u64 key_hash(const struct blkdev *dev, u64 blk)
{
	u64 line = hash_number(blk / LINE_BUCKETS * CACHE_DEVICES + dev->cache_slot + 1);

	return line / LINE_BUCKETS * LINE_BUCKETS + blk % LINE_BUCKETS;
}

struct cache_shard *cache_shard_of(const struct buffer_head *bh)
{
	return &bh->dev->cache->shard[key_hash(bh->dev, bh->blk) >> 59];
}

/* The link that points at the buffer, or at NULL. Locks: the shard. */
static struct buffer_head **find(struct cache_shard *s, const struct blkdev *dev, u64 blk)
{
	struct buffer_head **p = &s->bucket[key_hash(dev, blk) & (dev->cache->buckets - 1)];

	while (*p && ((*p)->blk != blk || (*p)->dev != dev))
		p = &(*p)->hash_next;
	return p;
}

/* What a buffer takes of the limit: its head too. */
static u64 cost_bytes(u32 block_bytes)
{
	return block_bytes + ALIGN_UP(sizeof(struct buffer_head), 64u);
}

static void bh_free(struct buffer_head *bh)
{
	struct bcache *cache = bh->dev->cache;

	atomic_fetch_sub(&cache->bytes, cost_bytes(bh->size_bytes));
	slab_put(blocks_of(cache, bh->size_bytes), bh->data);
	slab_put(&cache->heads, bh);
}

/* Locks: the shard. */
static void unhash_locked(struct cache_shard *s, struct buffer_head *bh)
{
	struct buffer_head **p = find(s, bh->dev, bh->blk);

	if (*p == bh) {
		*p = bh->hash_next;
		s->hashed--;
	}
	atomic_fetch_or(&bh->state, BH_GONE);
}

bool bh_is_gone(const struct buffer_head *bh)
{
	return bh_state(bh) & BH_GONE;
}

void cache_unhash(struct buffer_head *bh)
{
	struct cache_shard *s = cache_shard_of(bh);

	mutex_lock(&s->lock);
	unhash_locked(s, bh);
	mutex_unlock(&s->lock);
}

/* Frees idle buffers, oldest of each shard in turn, until `more` bytes fit or nothing is idle. */
static void make_room(struct bcache *cache, u64 more)
{
	for (u32 empty = 0; empty < CACHE_SHARDS && atomic_load(&cache->bytes) + more > cache->limit_bytes;) {
		struct cache_shard *s =
			&cache->shard[atomic_fetch_add(&cache->next_victim, 1) % CACHE_SHARDS];
		struct buffer_head *bh = NULL;
		struct list *l;

		mutex_lock(&s->lock);
		l = list_pop(&s->lru);
		if (l) {
			bh = list_entry(l, struct buffer_head, lru);
			unhash_locked(s, bh);
		}
		mutex_unlock(&s->lock);
		if (bh) {
			bh_free(bh);
			stat_add(STAT_BH_EVICTED, 1);
			empty = 0;
		} else {
			empty++;
		}
	}
}

/* Locks: the shard. Takes the device's buffers without users out of one chain, onto *gone; returns those with users. */
static u32 drop_chain(struct cache_shard *s, const struct blkdev *dev, struct buffer_head **p,
		      struct buffer_head **gone, struct buffer_head **busy)
{
	u32 held = 0;

	while (*p) {
		struct buffer_head *bh = *p;

		if (bh->dev != dev) {
			p = &bh->hash_next;
			continue;
		}
		if (atomic_load(&bh->refs)) {
			held++;
			if (!*busy)
				*busy = bh_get(bh);
			p = &bh->hash_next;
			continue;
		}
		*p = bh->hash_next;
		s->hashed--;
		list_del(&bh->lru);
		if (bh_state(bh) & BH_DIRTY) {
			list_del(&bh->dirty);
			atomic_fetch_sub(&dev->cache->dirty_bytes, bh->size_bytes);
		}
		bh->hash_next = *gone;
		*gone = bh;
	}
	return held;
}

u32 cache_drop_idle(struct bcache *cache, const struct blkdev *dev, struct buffer_head **busy)
{
	u32 held = 0;

	*busy = NULL;
	for (u32 i = 0; i < CACHE_SHARDS; i++) {
		struct cache_shard *s = &cache->shard[i];
		struct buffer_head *gone = NULL;

		mutex_lock(&s->lock);
		/* What was never used is not touched: of a short command that would be a good part. */
		for (u32 b = 0; s->hashed && b < cache->buckets; b++)
			held += drop_chain(s, dev, &s->bucket[b], &gone, busy);
		mutex_unlock(&s->lock);
		for (struct buffer_head *bh = gone, *next; bh; bh = next) {
			next = bh->hash_next;
			bh_free(bh);
		}
	}
	return held;
}

static struct buffer_head *bh_alloc(struct blkdev *dev, u64 blk)
{
	struct buffer_head *bh = slab_get_zeroed(&dev->cache->heads);

	if (!bh)
		return NULL;
	make_room(dev->cache, cost_bytes(dev->cache_block_bytes));
	bh->data = slab_get(blocks_of(dev->cache, dev->cache_block_bytes));
	if (!bh->data) {
		slab_put(&dev->cache->heads, bh);
		return NULL;
	}
	bh->dev = dev;
	bh->blk = blk;
	bh->size_bytes = dev->cache_block_bytes;
	atomic_init(&bh->refs, 1);
	list_init(&bh->lru);
	list_init(&bh->dirty);
	atomic_fetch_add(&dev->cache->bytes, cost_bytes(bh->size_bytes));
	return bh;
}

/* Locks: the shard. */
static void ref_hashed(struct buffer_head *bh)
{
	if (atomic_fetch_add(&bh->refs, 1) == 0 && bh_state(bh) & BH_IDLE) {
		list_del(&bh->lru);
		atomic_fetch_and(&bh->state, ~BH_IDLE);
	}
}

static bool is_checked(const struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx)
{
	const u32 both = BH_UPTODATE | BH_CHECKED;

	return (bh_state(bh) & both) == both && bh->ops == ops && !memcmp(&bh->ctx, ctx, sizeof(*ctx));
}

int cache_grab(struct blkdev *dev, u64 blk, bool create, const struct bh_ops *ops, const struct bh_ctx *ctx,
	       bool *hit, struct buffer_head **out)
{
	struct cache_shard *s = &dev->cache->shard[key_hash(dev, blk) >> 59];
	struct buffer_head *bh, *fresh = NULL;

	*out = NULL;
	if (blk >= DIV_ROUND_UP(dev->size_bytes, (u64)dev->cache_block_bytes))
		return fail(-EIO, "%s: block %llu lies beyond the end", dev->name, (unsigned long long)blk);
	for (;;) {
		struct buffer_head **p;

		mutex_lock(&s->lock);
		p = find(s, dev, blk);
		bh = *p;
		if (bh) {
			ref_hashed(bh);
			*hit = is_checked(bh, ops, ctx);
		} else if (fresh) {
			*p = bh = fresh;
			s->hashed++;
			fresh = NULL;
			*hit = false;
		}
		mutex_unlock(&s->lock);
		if (bh || !create)
			break;
		fresh = bh_alloc(dev, blk);
		if (!fresh)
			return fail(-ENOMEM, "no memory for a buffer");
	}
	if (fresh)
		bh_free(fresh);
	*out = bh;
	return 0;
}

void cache_set_checked(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx)
{
	struct cache_shard *s = cache_shard_of(bh);

	mutex_lock(&s->lock);
	bh->ops = ops;
	bh->ctx = *ctx;
	atomic_fetch_and(&bh->state, ~BH_SHOWN);
	atomic_fetch_or(&bh->state, BH_UPTODATE | BH_CHECKED);
	mutex_unlock(&s->lock);
}

bool cache_take_back(struct buffer_head *bh)
{
	struct cache_shard *s = cache_shard_of(bh);
	bool alone;

	mutex_lock(&s->lock);
	/* Others with a reference look at it if they were given it, and wait for the lock if they were not. */
	alone = atomic_load(&bh->refs) == 1 || !(bh_state(bh) & (BH_CHECKED | BH_SHOWN));
	if (alone)
		atomic_fetch_and(&bh->state, ~(BH_UPTODATE | BH_CHECKED | BH_SHOWN));
	mutex_unlock(&s->lock);
	return alone;
}

/* ---- references ---- */

struct buffer_head *bh_get(struct buffer_head *bh)
{
	atomic_fetch_add(&bh->refs, 1);
	return bh;
}

void bh_put(struct buffer_head *bh)
{
	struct cache_shard *s;
	u32 refs, state;
	bool gone = false;

	if (!bh)
		return;
	refs = atomic_load(&bh->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&bh->refs, &refs, refs - 1))
			return;
	s = cache_shard_of(bh);
	mutex_lock(&s->lock);
	if (atomic_fetch_sub(&bh->refs, 1) == 1) {
		state = bh_state(bh);
		if (state & BH_GONE) {
			gone = true;
		} else if (!(state & BH_UPTODATE)) {
			unhash_locked(s, bh); /* its read failed: the next one starts anew */
			gone = true;
		} else if (!bh_in_use(bh)) {
			list_add_tail(&s->lru, &bh->lru);
			atomic_fetch_or(&bh->state, BH_IDLE);
		}
	}
	mutex_unlock(&s->lock);
	if (gone)
		bh_free(bh);
}

void bh_putp(struct buffer_head **bh)
{
	bh_put(*bh);
}

/* ---- the lock: 0 free, 1 held, 2 held and somebody waits ---- */

bool bh_trylock_raw(struct buffer_head *bh)
{
	u32 free_word = 0;

	return atomic_compare_exchange_strong(&bh->lock, &free_word, 1);
}

void bh_unlock_raw(struct buffer_head *bh)
{
	if (atomic_exchange(&bh->lock, 0) == 2)
		os_wake_one(&bh->lock);
}

bool bh_trylock(struct buffer_head *bh)
{
	if (!bh_trylock_raw(bh))
		return false;
	lock_note_acquire(bh, RANK_BUFFER, true);
	return true;
}

void bh_lock(struct buffer_head *bh)
{
	if (!bh_trylock_raw(bh))
		while (atomic_exchange(&bh->lock, 2) != 0)
			os_wait(&bh->lock, 2, 0);
	lock_note_acquire(bh, RANK_BUFFER, true);
}

void bh_unlock(struct buffer_head *bh)
{
	lock_note_release(bh);
	bh_unlock_raw(bh);
}
