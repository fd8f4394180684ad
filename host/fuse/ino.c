/*
 * The table of inodes the kernel knows. A nodeid is an inode's number, so a FUSE request leads to its inode
 * through the inode cache, and an inode that is linked and idle need not stay in memory while the kernel knows
 * it: what stays is the entry here, 16 bytes.
 *
 * Interface: ino.h.
 *
 * FUSE calls the root 1, file systems call it something else (ext4: 2) and may have another inode 1. So the two
 * numbers change places; the rule is its own inverse.
 *
 * Each shard is an open-addressed array, filled to at most 7/8 and grown by half: 1,000,000 entries cost at most
 * 16 / (7/8 / 1.5) = 27.4 bytes each, and growing adds one shard's array for a moment. An entry is removed by
 * moving its successors back, so there are no tombstones.
 *
 * Invariants
 *  1. lookups is what the kernel was told minus what it forgot; 0 is an empty slot. At its greatest value it
 *     sticks: such an entry stays until the mount ends.
 *  2. An inode without names that has an entry is referenced by it (held): only FORGET lets it be evicted.
 *     Whoever comes second of "remembered" and "last name gone" takes the reference: both look under the
 *     shard's lock. The reference needs no pointer: a referenced inode is found by its number.
 */
#include "ino.h"

#include "lib/hash.h"
#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>

#define SHARDS      64u
#define CAP_MIN     16u
#define LOOKUPS_MAX ((1u << 31) - 1)

struct node {
	u64 ino;
	u32 generation;
	u32 lookups : 31;
	u32 held : 1; /* references the inode, which has no names */
};

struct shard {
	struct mutex lock;  /* rank SHARD */
	struct node *slots; /* [lock] */
	u32 cap, count;     /* [lock] */
};

struct nodes {
	struct super_block *sb; /* [const] */
	struct shard shard[SHARDS];
};

int nodes_new(struct super_block *sb, struct nodes **out)
{
	struct nodes *t = calloc(1, sizeof(*t));

	if (!t)
		return fail(-ENOMEM, "no memory for the table of nodes");
	t->sb = sb;
	for (u32 i = 0; i < SHARDS; i++)
		mutex_init(&t->shard[i].lock, RANK_SHARD);
	*out = t;
	return 0;
}

/* Ends the reference of an entry that held the inode. */
static void give_back(struct nodes *t, u64 ino)
{
	struct inode *inode;
	int err = vfs_iget(t->sb, ino, &inode);

	if (err) {
		log_error("inode %llu cannot be let go: %s", (unsigned long long)ino, err_text());
		return;
	}
	vfs_iput(inode);
	vfs_iput(inode);
}

/* Under the shard's lock. The reference is the entry's from now on. */
static void hold(struct node *n, struct inode *inode)
{
	if (n->held)
		return;
	vfs_igrab(inode);
	n->held = 1;
}

void nodes_free(struct nodes *t)
{
	if (!t)
		return;
	for (u32 i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shard[i];

		for (u32 k = 0; k < s->cap; k++)
			if (s->slots[k].held)
				give_back(t, s->slots[k].ino);
		free(s->slots);
		mutex_fini(&s->lock);
	}
	free(t);
}

u64 node_id(const struct nodes *t, u64 ino)
{
	u64 root = t->sb->root_ino;

	return ino == root ? 1 : ino == 1 ? root : ino;
}

static struct shard *shard_of(struct nodes *t, u64 ino)
{
	return &t->shard[hash_u64(ino) % SHARDS];
}

/* Where an inode's probe sequence begins. */
static u32 home(const struct shard *s, u64 ino)
{
	return (u32)(((hash_u64(ino) >> 32) * s->cap) >> 32);
}

static u32 next_slot(const struct shard *s, u32 k)
{
	return k + 1 == s->cap ? 0 : k + 1;
}

/* The inode's slot, or the empty one that ends its probe sequence; NULL: there are no slots. */
static struct node *find(const struct shard *s, u64 ino)
{
	u32 k;

	if (!s->cap)
		return NULL;
	for (k = home(s, ino); s->slots[k].lookups && s->slots[k].ino != ino; k = next_slot(s, k))
		;
	return &s->slots[k];
}

static int resize(struct shard *s, u32 cap)
{
	struct node *slots = calloc(cap, sizeof(*slots));
	struct shard old = *s;

	if (!slots)
		return fail(-ENOMEM, "no memory for %u nodes", cap);
	s->slots = slots;
	s->cap = cap;
	for (u32 k = 0; k < old.cap; k++)
		if (old.slots[k].lookups)
			*find(s, old.slots[k].ino) = old.slots[k];
	free(old.slots);
	return 0;
}

/* Empties slot k and moves back what probed past it. */
static void remove_slot(struct shard *s, u32 k)
{
	u32 hole = k;

	for (k = next_slot(s, k); s->slots[k].lookups; k = next_slot(s, k)) {
		u32 h = home(s, s->slots[k].ino);
		bool between = hole <= k ? (h > hole && h <= k) : (h > hole || h <= k);

		if (between)
			continue;
		s->slots[hole] = s->slots[k];
		hole = k;
	}
	s->slots[hole] = (struct node){ 0 };
	s->count--;
}

int node_remember(struct nodes *t, struct inode *inode)
{
	struct shard *s = shard_of(t, inode->ino);
	struct node *n;
	u32 nlink;

	if (inode->ino == t->sb->root_ino)
		return 0;
	mutex_guard(&s->lock);
	n = find(s, inode->ino);
	if (!n || !n->lookups) {
		if (s->count + 1 > s->cap - s->cap / 8) {
			int err = resize(s, s->cap ? s->cap + s->cap / 2 : CAP_MIN);

			if (err)
				return err;
			n = find(s, inode->ino);
		}
		*n = (struct node){ .ino = inode->ino };
		s->count++;
	}
	n->generation = inode->generation;
	if (n->lookups < LOOKUPS_MAX)
		n->lookups++;
	mutex_lock(&inode->attr);
	nlink = inode->nlink;
	mutex_unlock(&inode->attr);
	if (!nlink)
		hold(n, inode);
	return 0;
}

void node_forget(struct nodes *t, u64 nodeid, u64 count)
{
	u64 ino = node_id(t, nodeid);
	struct shard *s = shard_of(t, ino);
	bool held = false;
	struct node *n;

	mutex_lock(&s->lock);
	n = find(s, ino);
	if (n && n->lookups && n->lookups < LOOKUPS_MAX) {
		if (count < n->lookups) {
			n->lookups -= (u32)count;
		} else {
			held = n->held;
			remove_slot(s, (u32)(n - s->slots));
			/* A table that was large once gives memory back; staying as it is does no harm. */
			if (s->cap > CAP_MIN && s->count < s->cap / 4 && resize(s, s->cap / 2))
				err_clear();
		}
	}
	mutex_unlock(&s->lock);
	if (held)
		give_back(t, ino);
}

void node_unlinked(struct nodes *t, struct inode *inode)
{
	struct shard *s = shard_of(t, inode->ino);
	struct node *n;

	mutex_guard(&s->lock);
	n = find(s, inode->ino);
	if (n && n->lookups)
		hold(n, inode);
}

int node_inode(struct nodes *t, u64 nodeid, struct inode **out)
{
	u64 ino = node_id(t, nodeid);
	struct shard *s = shard_of(t, ino);
	u32 generation = 0;
	bool known = false;
	struct node *n;
	int err;

	if (nodeid == 1)
		return vfs_iget(t->sb, ino, out);
	mutex_lock(&s->lock);
	n = find(s, ino);
	if (n && n->lookups) {
		known = true;
		generation = n->generation;
	}
	mutex_unlock(&s->lock);
	if (!known)
		return fail(-ESTALE, "node %llu is not known", (unsigned long long)nodeid);
	err = vfs_iget(t->sb, ino, out);
	if (err || (*out)->generation == generation)
		return err;
	vfs_iput(*out);
	return fail(-ESTALE, "inode %llu is another file by now", (unsigned long long)ino);
}

u64 nodes_count(struct nodes *t)
{
	u64 count = 0;

	for (u32 i = 0; i < SHARDS; i++) {
		mutex_guard(&t->shard[i].lock);
		count += t->shard[i].count;
	}
	return count;
}

u64 nodes_bytes(struct nodes *t)
{
	u64 bytes = sizeof(*t);

	for (u32 i = 0; i < SHARDS; i++) {
		mutex_guard(&t->shard[i].lock);
		bytes += t->shard[i].cap * sizeof(struct node);
	}
	return bytes;
}
