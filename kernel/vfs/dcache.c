/*
 * The name cache: "in directory D, NAME is inode N", or "is nothing". Sharded by hash; each shard is a hash
 * table with its own LRU and bound. Entries are values: nothing outside holds a pointer to one, so an entry may
 * go at any moment.
 *
 * Invariants
 *  1. A key is (directory number, directory generation, name); a number given to a new directory brings a new
 *     generation, so entries of a removed directory are never found again and age out.
 *  2. An entry is changed or added only under the directory's lock (internal.h), so it equals the volume.
 */
#include "internal.h"

#include "lib/hash.h"
#include "lib/trace.h"
#include <stdlib.h>
#include <string.h>

#define DCACHE_SHARDS 16u

struct dentry {
	struct dentry *hash_next; /* [shard] */
	struct list lru;          /* [shard] */
	u64 hash;
	u64 dir_ino;
	u64 ino; /* [shard] 0: negative */
	u32 dir_generation;
	u32 len;
	char name[];
};

struct dcache_shard {
	struct mutex lock;      /* rank SHARD */
	struct list lru;        /* [lock] oldest first */
	u32 count;              /* [lock] */
	struct dentry **bucket; /* [lock] */
};

struct dcache {
	u64 seed;      /* [const] */
	u32 buckets;   /* [const] per shard, a power of two */
	u32 shard_max; /* [const] entries per shard */
	struct dcache_shard shard[DCACHE_SHARDS];
};

int dcache_new(u32 entries_max, struct dcache **out)
{
	struct dcache *dc = calloc(1, sizeof(*dc));

	if (!dc)
		return -ENOMEM;
	os_random(&dc->seed, sizeof(dc->seed));
	dc->shard_max = MAX(entries_max / DCACHE_SHARDS, 16u);
	dc->buckets = 1u << (ilog2(dc->shard_max) + 1);
	for (u32 i = 0; i < DCACHE_SHARDS; i++) {
		struct dcache_shard *s = &dc->shard[i];

		mutex_init(&s->lock, RANK_SHARD);
		list_init(&s->lru);
		s->bucket = calloc(dc->buckets, sizeof(s->bucket[0]));
		if (!s->bucket) {
			dcache_free(dc);
			return -ENOMEM;
		}
	}
	*out = dc;
	return 0;
}

static u64 dentry_hash(const struct dcache *dc, const struct inode *dir, const struct name *name)
{
	return hash_bytes(name->s, name->len, dc->seed ^ hash_u64(dir->ino) ^ dir->generation);
}

static struct dcache_shard *shard_of(struct dcache *dc, u64 hash)
{
	return &dc->shard[hash >> 60];
}

/* The link that points at the entry, or at NULL. Locks: the shard. */
static struct dentry **find(struct dcache *dc, struct dcache_shard *s, const struct inode *dir,
			    const struct name *name, u64 hash)
{
	struct dentry **p = &s->bucket[hash & (dc->buckets - 1)];

	for (; *p; p = &(*p)->hash_next) {
		const struct dentry *d = *p;

		if (d->hash == hash && d->dir_ino == dir->ino && d->dir_generation == dir->generation &&
		    d->len == name->len && !memcmp(d->name, name->s, name->len))
			break;
	}
	return p;
}

bool dcache_lookup(struct dcache *dc, const struct inode *dir, const struct name *name, u64 *ino)
{
	u64 hash = dentry_hash(dc, dir, name);
	struct dcache_shard *s = shard_of(dc, hash);
	struct dentry *d;

	mutex_lock(&s->lock);
	d = *find(dc, s, dir, name, hash);
	if (d) {
		*ino = d->ino;
		list_del(&d->lru);
		list_add_tail(&s->lru, &d->lru);
	}
	mutex_unlock(&s->lock);
	stat_add(d ? STAT_DENTRY_HITS : STAT_DENTRY_MISSES, 1);
	return d;
}

/* Locks: the shard. p points at the entry's link. */
static void shard_remove(struct dcache_shard *s, struct dentry **p)
{
	struct dentry *d = *p;

	*p = d->hash_next;
	list_del(&d->lru);
	s->count--;
	free(d);
}

static void shard_evict_oldest(struct dcache *dc, struct dcache_shard *s)
{
	struct dentry *old = list_entry(s->lru.next, struct dentry, lru);
	struct dentry **p = &s->bucket[old->hash & (dc->buckets - 1)];

	while (*p != old)
		p = &(*p)->hash_next;
	shard_remove(s, p);
}

void dcache_forget(struct dcache *dc, const struct inode *dir, const struct name *name)
{
	u64 hash = dentry_hash(dc, dir, name);
	struct dcache_shard *s = shard_of(dc, hash);
	struct dentry **p;

	mutex_lock(&s->lock);
	p = find(dc, s, dir, name, hash);
	if (*p)
		shard_remove(s, p);
	mutex_unlock(&s->lock);
}

void dcache_set(struct dcache *dc, const struct inode *dir, const struct name *name, u64 ino)
{
	u64 hash = dentry_hash(dc, dir, name);
	struct dcache_shard *s = shard_of(dc, hash);
	struct dentry **p, *d;

	mutex_lock(&s->lock);
	p = find(dc, s, dir, name, hash);
	d = *p;
	if (d) {
		d->ino = ino;
		mutex_unlock(&s->lock);
		return;
	}
	d = malloc(sizeof(*d) + name->len);
	if (d) {
		*d = (struct dentry){ .hash = hash,
				      .dir_ino = dir->ino,
				      .dir_generation = dir->generation,
				      .ino = ino,
				      .len = name->len };
		memcpy(d->name, name->s, name->len);
		*p = d;
		list_add_tail(&s->lru, &d->lru);
		if (++s->count > dc->shard_max)
			shard_evict_oldest(dc, s);
	}
	mutex_unlock(&s->lock);
}

void dcache_clear(struct dcache *dc)
{
	for (u32 i = 0; i < DCACHE_SHARDS; i++) {
		struct dcache_shard *s = &dc->shard[i];

		mutex_lock(&s->lock);
		while (!list_empty(&s->lru))
			shard_evict_oldest(dc, s);
		mutex_unlock(&s->lock);
	}
}

void dcache_free(struct dcache *dc)
{
	if (!dc)
		return;
	for (u32 i = 0; i < DCACHE_SHARDS && dc->shard[i].bucket; i++) {
		for (struct list *l; (l = list_pop(&dc->shard[i].lru));)
			free(list_entry(l, struct dentry, lru));
		free(dc->shard[i].bucket);
		mutex_fini(&dc->shard[i].lock);
	}
	free(dc);
}
