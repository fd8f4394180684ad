/* The cache as a whole: its limit, and the devices that are attached to it. */
#include "cache.h"

#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_LEAST (16ull << 20)
#define LIMIT_MOST  (256ull << 20)

int bcache_new(u64 limit_bytes, struct bcache **out)
{
	struct bcache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return fail(-ENOMEM, "no memory for a buffer cache");
	cache->limit_bytes =
		limit_bytes ? limit_bytes : MAX(LIMIT_LEAST, MIN(LIMIT_MOST, os_memory_bytes() / 8));
	/* About as many as there are buffers of 4 KiB when it is full. */
	cache->buckets = 1u << ilog2(MAX(cache->limit_bytes / 4096 / CACHE_SHARDS, (u64)16));
	mutex_init(&cache->lock, RANK_LRU);
	cond_init(&cache->wake);
	cond_init(&cache->idle);
	for (u32 i = 0; i < CACHE_SIZES; i++)
		slab_init(&cache->blocks[i], 512u << i);
	slab_init(&cache->heads, ALIGN_UP((u32)sizeof(struct buffer_head), 64u));
	for (u32 i = 0; i < CACHE_SHARDS; i++) {
		struct cache_shard *s = &cache->shard[i];

		mutex_init(&s->lock, RANK_SHARD);
		list_init(&s->lru);
		list_init(&s->dirty);
		s->bucket = calloc(cache->buckets, sizeof(struct buffer_head *));
		if (!s->bucket) {
			bcache_free(cache);
			return fail(-ENOMEM, "no memory for a buffer cache");
		}
	}
	*out = cache;
	return 0;
}

void bcache_free(struct bcache *cache)
{
	if (!cache)
		return;
	cache_stop_writeback(cache);
	for (u32 i = 0; i < CACHE_SHARDS && cache->shard[i].bucket; i++) {
		free(cache->shard[i].bucket);
		mutex_fini(&cache->shard[i].lock);
	}
	for (u32 i = 0; i < CACHE_SIZES; i++)
		slab_fini(&cache->blocks[i]);
	slab_fini(&cache->heads);
	cond_fini(&cache->wake);
	cond_fini(&cache->idle);
	mutex_fini(&cache->lock);
	free(cache);
}

u64 bcache_bytes(const struct bcache *cache)
{
	return atomic_load(&cache->bytes);
}

void bcache_charge(struct bcache *cache, s64 bytes)
{
	atomic_fetch_add(&cache->bytes, (u64)bytes);
}

u64 bcache_limit_bytes(const struct bcache *cache)
{
	return cache->limit_bytes;
}

int bcache_attach(struct bcache *cache, struct blkdev *dev, u32 block_bytes)
{
	int err = 0;

	if (!is_pow2(block_bytes) || block_bytes < 512 || block_bytes > 65536)
		return fail(-EINVAL, "%s: no cache for blocks of %u bytes", dev->name, block_bytes);
	if (dev->cache == cache && dev->cache_block_bytes == block_bytes)
		return 0;
	if (dev->cache)
		err = bcache_detach(dev, false);
	if (err)
		return err;
	mutex_lock(&cache->lock);
	for (dev->cache_slot = 0; dev->cache_slot < CACHE_DEVICES; dev->cache_slot++)
		if (!cache->device[dev->cache_slot])
			break;
	if (dev->cache_slot < CACHE_DEVICES) {
		cache->device[dev->cache_slot] = dev;
		atomic_store(&cache->write_err[dev->cache_slot], 0);
		dev->cache = cache;
		dev->cache_block_bytes = block_bytes;
	} else {
		err = -ENOSPC;
	}
	mutex_unlock(&cache->lock);
	return err ? fail(err, "%s: more than %u devices in one cache", dev->name, CACHE_DEVICES) : 0;
}

int bcache_detach(struct blkdev *dev, bool discard)
{
	struct bcache *cache = dev->cache;
	int err = discard ? 0 : bcache_sync(dev);
	struct buffer_head *busy;
	u32 held;

	if (!cache)
		return 0;
	cache_quiesce(cache);
	held = cache_drop_idle(cache, dev, &busy);
	bh_put(busy);
	cache_resume(cache);
	if (held) {
		log_error("%s: %u buffers still held at detach", dev->name, held);
#ifdef WERUNOS_DEBUG
		abort();
#endif
		return fail(-EBUSY, "%s: %u buffers are still held", dev->name, held);
	}
	mutex_lock(&cache->lock);
	cache->device[dev->cache_slot] = NULL;
	mutex_unlock(&cache->lock);
	dev->cache = NULL;
	dev->cache_block_bytes = 0;
	return err;
}
