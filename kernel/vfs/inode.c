/*
 * The inode cache: each inode of a volume is in memory at most once, found by its number.
 *
 *     absent ─ iget ─► NEW ─ read_inode ─► held (refs > 0) ◄─► idle (refs 0, on the LRU) ─► freed
 *                        └─ error ─► BAD ─ last put ─► freed
 *     held, nlink 0 ─ last put ─► FREEING ─ evict_inode ─► freed
 *     held, owes the volume something (lazy.c) ─ last put ─► waits, on no LRU ─ written ─► idle
 *
 * Invariants
 *  1. refs goes from 0 to 1 and from 1 to 0 only under the shard's lock.
 *  2. While NEW or FREEING is set, whoever wants the inode waits on the shard's condition; FREEING waiters look
 *     it up again, since it will be gone.
 *  3. An idle inode holds nothing that the volume does not have: it may be freed at any time.
 */
#include "internal.h"

#include "lib/hash.h"
#include "lib/trace.h"
#include <stdlib.h>
#include <string.h>

#define ICACHE_SHARDS 16u
/* Inodes that follow one another are looked for one after the other: a run of so many has its places side by side, in one shard. */
#define RUN_BITS 6u

struct icache_shard {
	struct mutex lock;     /* rank SHARD */
	struct cond changed;   /* NEW or FREEING ended */
	struct list idle;      /* [lock] oldest first */
	u32 idle_count;        /* [lock] */
	u32 held_count;        /* [lock] */
	u32 hashed_count;      /* [lock] */
	struct inode **bucket; /* [lock] */
};

struct icache {
	u32 buckets;  /* [const] per shard */
	u32 idle_max; /* [const] per shard */
	struct icache_shard shard[ICACHE_SHARDS];
};

int icache_new(u32 idle_max, struct icache **out)
{
	struct icache *ic = calloc(1, sizeof(*ic));

	if (!ic)
		return -ENOMEM;
	ic->idle_max = MAX(idle_max / ICACHE_SHARDS, 8u);
	ic->buckets = 1u << MAX(ilog2(ic->idle_max) + 2, RUN_BITS);
	for (u32 i = 0; i < ICACHE_SHARDS; i++) {
		struct icache_shard *s = &ic->shard[i];

		mutex_init(&s->lock, RANK_SHARD);
		cond_init(&s->changed);
		list_init(&s->idle);
		s->bucket = calloc(ic->buckets, sizeof(s->bucket[0]));
		if (!s->bucket) {
			icache_free(ic);
			return -ENOMEM;
		}
	}
	*out = ic;
	return 0;
}

static struct icache_shard *shard_of(struct icache *ic, u64 ino)
{
	return &ic->shard[hash_number(ino >> RUN_BITS) >> 60];
}

static struct inode **find(struct icache *ic, struct icache_shard *s, u64 ino)
{
	u64 place = hash_number(ino >> RUN_BITS) << RUN_BITS | (ino & ((1u << RUN_BITS) - 1));
	struct inode **p = &s->bucket[place & (ic->buckets - 1)];

	while (*p && (*p)->ino != ino)
		p = &(*p)->hash_next;
	return p;
}

/* Locks: the shard. */
static void unhash(struct icache *ic, struct icache_shard *s, struct inode *inode)
{
	struct inode **p = find(ic, s, inode->ino);

	if (*p == inode) {
		*p = inode->hash_next;
		s->hashed_count--;
	}
}

static void inode_free(struct inode *inode)
{
	/* Nobody else sees it: no lock is needed to know, and a new inode that failed may be put where none may be taken. */
	if (atomic_load(&inode->stage))
		stage_drop(inode);
	trace(TRACE_EVICT, inode->ino, inode->nlink);
	rw_fini(&inode->lock);
	rw_fini(&inode->map_lock);
	mutex_fini(&inode->attr);
	mutex_fini(&inode->stage_lock);
	inode->sb->ops->free_inode(inode);
}

void icache_free(struct icache *ic)
{
	if (!ic)
		return;
	for (u32 i = 0; i < ICACHE_SHARDS; i++) {
		struct icache_shard *s = &ic->shard[i];

		if (!s->bucket)
			break;
		/* Resident ones are left. */
		for (u32 b = 0; b < ic->buckets && s->hashed_count; b++)
			for (struct inode *inode = s->bucket[b], *next; inode; inode = next) {
				next = inode->hash_next;
				inode_free(inode);
			}
		free(s->bucket);
		cond_fini(&s->changed);
		mutex_fini(&s->lock);
	}
	free(ic);
}

/* A blank inode, NEW, with one reference, in no table. */
static int inode_alloc(struct super_block *sb, u64 ino, struct inode **out)
{
	struct inode *inode = sb->ops->alloc_inode(sb);

	if (!inode)
		return -ENOMEM;
	inode->sb = sb;
	inode->ino = ino;
	atomic_init(&inode->refs, 1);
	atomic_init(&inode->state, I_NEW);
	atomic_init(&inode->tail_from, ~0ull);
	rw_init(&inode->lock, RANK_INODE);
	rw_init(&inode->map_lock, RANK_MAP);
	mutex_init(&inode->attr, RANK_LEAF);
	mutex_init(&inode->stage_lock, RANK_STAGE);
	list_init(&inode->lru);
	for (u32 k = 0; k < LAZY_KINDS; k++)
		list_init(&inode->lazy[k]);
	*out = inode;
	return 0;
}

/* Inserts unless the number is taken; then *out is the other one. Locks: the shard. */
static bool hash_insert(struct icache *ic, struct icache_shard *s, struct inode *inode)
{
	struct inode **p = find(ic, s, inode->ino);

	if (*p)
		return false;
	inode->hash_next = NULL;
	*p = inode;
	s->held_count++;
	s->hashed_count++;
	return true;
}

/* Locks: the shard. */
static void ref_locked(struct icache_shard *s, struct inode *inode)
{
	if (atomic_fetch_add(&inode->refs, 1) > 0)
		return;
	if (!list_empty(&inode->lru)) {
		list_del(&inode->lru);
		s->idle_count--;
	}
	s->held_count++;
}

bool icache_grab(struct inode *inode)
{
	struct icache_shard *s = shard_of(inode->sb->icache, inode->ino);
	bool here;

	mutex_lock(&s->lock);
	here = !(atomic_load(&inode->state) & I_FREEING);
	if (here)
		ref_locked(s, inode);
	mutex_unlock(&s->lock);
	return here;
}

/* Locks: the shard. Returns the inode held and no longer NEW, or NULL when it is absent. */
static struct inode *grab_hashed(struct icache *ic, struct icache_shard *s, u64 ino)
{
	struct inode *inode;

	for (;;) {
		inode = *find(ic, s, ino);
		if (!inode)
			return NULL;
		if (!(atomic_load(&inode->state) & I_FREEING))
			break;
		cond_wait(&s->changed, &s->lock);
	}
	ref_locked(s, inode);
	while (atomic_load(&inode->state) & I_NEW)
		cond_wait(&s->changed, &s->lock);
	return inode;
}

int vfs_iget(struct super_block *sb, u64 ino, struct inode **out)
{
	struct icache *ic = sb->icache;
	struct icache_shard *s = shard_of(ic, ino);
	struct inode *inode, *fresh = NULL;
	int err;

	mutex_lock(&s->lock);
	inode = grab_hashed(ic, s, ino);
	mutex_unlock(&s->lock);
	while (!inode) {
		err = inode_alloc(sb, ino, &fresh);
		if (err)
			return err;
		mutex_lock(&s->lock);
		if (hash_insert(ic, s, fresh)) {
			mutex_unlock(&s->lock);
			break;
		}
		inode = grab_hashed(ic, s, ino);
		mutex_unlock(&s->lock);
		inode_free(fresh);
		fresh = NULL;
	}
	if (!inode) {
		stat_add(STAT_INODE_READS, 1);
		err = sb->ops->read_inode(fresh);
		trace(TRACE_IGET, ino, fresh->generation);
		inode_ready(fresh, err);
		if (err) {
			vfs_iput(fresh);
			return err;
		}
		*out = fresh;
		return 0;
	}
	if (atomic_load(&inode->state) & I_BAD) {
		/* Somebody's read failed while we waited. The inode is unhashed: our own read says why. */
		vfs_iput(inode);
		return vfs_iget(sb, ino, out);
	}
	stat_add(STAT_INODE_HITS, 1);
	*out = inode;
	return 0;
}

int inode_new(struct super_block *sb, u64 ino, struct inode **out)
{
	struct icache_shard *s = shard_of(sb->icache, ino);
	struct inode *inode;
	bool inserted;
	int err = inode_alloc(sb, ino, &inode);

	if (err)
		return err;
	mutex_lock(&s->lock);
	/* The number's former inode may still be on its way out. */
	for (struct inode *old; (old = *find(sb->icache, s, ino)) && atomic_load(&old->state) & I_FREEING;)
		cond_wait(&s->changed, &s->lock);
	inserted = hash_insert(sb->icache, s, inode);
	mutex_unlock(&s->lock);
	if (!inserted) {
		inode_free(inode);
		return corrupt(&sb->health, "inode", ino, "given out again while in use");
	}
	*out = inode;
	return 0;
}

void inode_ready(struct inode *inode, int err)
{
	struct icache_shard *s = shard_of(inode->sb->icache, inode->ino);

	inode->lock.rank = !err && is_dir(inode) ? RANK_DIR : RANK_INODE;
	mutex_lock(&s->lock);
	if (err) {
		unhash(inode->sb->icache, s, inode);
		atomic_fetch_or(&inode->state, I_BAD);
	}
	atomic_fetch_and(&inode->state, ~I_NEW);
	cond_broadcast(&s->changed);
	mutex_unlock(&s->lock);
}

struct inode *vfs_igrab(struct inode *inode)
{
	atomic_fetch_add(&inode->refs, 1);
	return inode;
}

/* The last reference to an inode without a name went. */
static void inode_evict(struct inode *inode, struct icache_shard *s)
{
	const struct super_ops *ops = inode->sb->ops;

	lazy_forget(inode);
	tail_drop(inode);
	stage_drop(inode);
	/* An error leaves blocks behind that fsck finds; it is recorded where it was born. */
	if (ops->evict_inode && ops->evict_inode(inode))
		health_raise(&inode->sb->health, HEALTH_CORRUPT);
	mutex_lock(&s->lock);
	unhash(inode->sb->icache, s, inode);
	cond_broadcast(&s->changed);
	mutex_unlock(&s->lock);
	inode_free(inode);
}

void vfs_iput(struct inode *inode)
{
	struct icache_shard *s;
	struct inode *drop = NULL;
	struct icache *ic;
	u32 refs;

	if (!inode)
		return;
	refs = atomic_load(&inode->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&inode->refs, &refs, refs - 1))
			return;
	ic = inode->sb->icache;
	s = shard_of(ic, inode->ino);
	mutex_lock(&s->lock);
	if (atomic_fetch_sub(&inode->refs, 1) > 1) {
		mutex_unlock(&s->lock);
		return;
	}
	s->held_count--;
	if (atomic_load(&inode->state) & I_BAD) {
		mutex_unlock(&s->lock);
		inode_free(inode);
		return;
	}
	if (!inode->nlink && !inode->sb->rdonly) {
		atomic_fetch_or(&inode->state, I_FREEING);
		mutex_unlock(&s->lock);
		inode_evict(inode, s);
		return;
	}
	if (inode->iflags & I_RESIDENT ||
	    atomic_load(&inode->state) & (I_LAZY_TAIL | I_LAZY_TIME | I_FAILED)) {
		mutex_unlock(&s->lock);
		return;
	}
	list_add_tail(&s->idle, &inode->lru);
	if (++s->idle_count > ic->idle_max) {
		drop = list_entry(list_pop(&s->idle), struct inode, lru);
		unhash(ic, s, drop);
		s->idle_count--;
	}
	mutex_unlock(&s->lock);
	if (drop)
		inode_free(drop);
}

void vfs_iputp(struct inode **inode)
{
	vfs_iput(*inode);
}

void icache_shrink(struct super_block *sb)
{
	struct icache *ic = sb->icache;

	for (u32 i = 0; i < ICACHE_SHARDS; i++) {
		struct icache_shard *s = &ic->shard[i];
		struct list gone;

		list_init(&gone);
		mutex_lock(&s->lock);
		list_for_each(l, &s->idle) unhash(ic, s, list_entry(l, struct inode, lru));
		list_splice_tail(&gone, &s->idle);
		s->idle_count = 0;
		mutex_unlock(&s->lock);
		for (struct list *l; (l = list_pop(&gone));)
			inode_free(list_entry(l, struct inode, lru));
	}
}

u32 icache_held(struct super_block *sb)
{
	u32 held = 0;

	for (u32 i = 0; i < ICACHE_SHARDS; i++) {
		struct icache_shard *s = &sb->icache->shard[i];

		mutex_lock(&s->lock);
		held += s->held_count;
		mutex_unlock(&s->lock);
	}
	return held;
}
