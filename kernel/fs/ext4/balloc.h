/*
 * Between mballoc.c and balloc.c: the space of each group, and what stands above it.
 *
 * A block's way:   free ──ext4_space_get──► reserved ──ext4_blocks_take──► taken ──ext4_blocks_free──► waiting ──commit──► free
 *                                              └───────ext4_space_put───► free
 * Reserved and waiting blocks are known in memory alone: on the volume a reserved one is free still, a waiting one already.
 *
 * `avail` counts what is free and nobody has claimed: who wants blocks claims them there first, and then finds
 * that many in the groups. What is promised is claimed and not looked for.
 *
 * All numbers here are of clusters, and all bits; places on the volume are blocks.
 */
#ifndef BALLOC_H
#define BALLOC_H

#include "ext4.h"

/* A group's space. */
struct ext4_space {
	u64 *busy; /* [group lock] a bit for each that cannot be had; NULL: as the bitmap on the volume says */
	_Atomic u32 free;    /* [group lock to change] that can be had */
	_Atomic u32 longest; /* [group lock to change] no run of free ones is longer */
	u32 held;            /* [group lock] reserved, or waiting */
	u32 next;            /* [group lock] where a search for any place in the group begins */
	_Atomic u32
		rest_until_s; /* [group lock to change] its bitmap could not be read: not tried before. 0: it could */
	_Atomic bool broken; /* its bitmap is not to be believed: nothing is taken from it or given back */
	_Atomic bool closed; /* it lies behind the limit: nothing is taken from it */
};

struct ext4_window_list {
	struct mutex lock; /* rank LEAF */
	struct list list;  /* [lock] the one used last first */
	u32 count;         /* [lock] */
};
#define EXT4_WINDOW_LISTS 256u

struct ext4_balloc {
	struct ext4_space *space; /* [groups] */
	_Atomic s64 avail;
	_Atomic u64 waiting;
	_Atomic u64 kept_root, kept_meta; /* of avail, for the superuser and for metadata */
	_Atomic u32 loaded;               /* groups with `busy` */
	u32 loaded_max;                   /* [const] beyond it those are dropped that can be made again */
	_Atomic u32 hand;                 /* the group that is looked at next for that */
	u64 limit;               /* [const once others use it] nothing is taken from here on; ~0: none */
	struct mutex freed_lock; /* rank LEAF */
	struct list freed;       /* [freed_lock] runs that wait, in order of their transactions */
	struct ext4_window_list window[EXT4_WINDOW_LISTS];
};

/* ---- mballoc.c ---- */

int ext4_space_open(struct ext4_super *es) __must_check;
void ext4_space_close(struct ext4_super *es);
/* Claims up to n; `floor` of all must be left. What it got. */
u32 ext4_space_claim(struct ext4_balloc *b, u32 n, u64 floor);
void ext4_space_unclaim(struct ext4_balloc *b, u64 n);
/*
 * Finds 1 to n of n claimed, in one piece in one group; the rest of the claim is given back. *blk begins a cluster. -ENOSPC,
 * everything given back: there are none, after all.
 */
int ext4_space_get(struct ext4_super *es, u64 goal, u32 n, u64 *blk, u32 *len) __must_check;
/* The same backwards: the clusters of these blocks. */
void ext4_space_put(struct ext4_super *es, u64 blk, u32 blocks);

#endif
