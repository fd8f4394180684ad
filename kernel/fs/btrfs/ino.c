/*
 * Inode numbers of a mount: those of the shown subvolume as they are, those of others with the subvolume's id above them, and a table for
 * what does not fit. See btrfs.h for the rule.
 *
 * The table holds each place once, in order of first use; index i has the number TABLE_BIT | i.
 */
#include "btrfs.h"

#include "lib/hash.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define OBJECT_BITS 40u
#define ROOT_MAX    (1ull << 23)
#define TABLE_BIT   (1ull << 63)

struct btrfs_inos {
	struct mutex lock;         /* rank ALLOC */
	u64 seed;                  /* [const] a volume cannot aim at one slot */
	struct btrfs_place *place; /* [lock] */
	u32 *slot; /* [lock] hash table of indexes + 1, 0: empty; twice as long as place or more */
	u32 count, room, slots; /* [lock] */
};

int btrfs_inos_new(struct btrfs_inos **out)
{
	struct btrfs_inos *t = calloc(1, sizeof(*t));

	if (!t)
		return fail(-ENOMEM, "no memory for inode numbers");
	mutex_init(&t->lock, RANK_ALLOC);
	os_random(&t->seed, sizeof(t->seed));
	*out = t;
	return 0;
}

void btrfs_inos_free(struct btrfs_inos *t)
{
	if (!t)
		return;
	mutex_fini(&t->lock);
	free(t->place);
	free(t->slot);
	free(t);
}

static bool same(const struct btrfs_place *a, const struct btrfs_place *b)
{
	return a->root == b->root && a->objectid == b->objectid && a->absent == b->absent;
}

/* Where the place's index stands, or would. Locks: lock; there are slots. */
static u32 *slot_of(const struct btrfs_inos *t, const struct btrfs_place *at)
{
	u32 i = (u32)hash_bytes(at, sizeof(*at), t->seed) & (t->slots - 1);

	while (t->slot[i] && !same(&t->place[t->slot[i] - 1], at))
		i = (i + 1) & (t->slots - 1);
	return &t->slot[i];
}

/* Room for one more. Locks: lock. */
static int grow(struct btrfs_inos *t)
{
	u32 room = t->room ? t->room * 2 : 64;
	struct btrfs_place *place;
	u32 *slot;

	if (t->count < t->room)
		return 0;
	if (room > UINT32_MAX / 4)
		return -ENOMEM;
	place = realloc(t->place, room * sizeof(*place));
	if (!place)
		return -ENOMEM;
	t->place = place;
	slot = calloc(room * 2, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	free(t->slot);
	t->slot = slot;
	t->slots = room * 2;
	t->room = room;
	for (u32 i = 0; i < t->count; i++)
		*slot_of(t, &t->place[i]) = i + 1;
	return 0;
}

static int from_table(struct btrfs_inos *t, const struct btrfs_place *at, u64 *ino)
{
	u32 *slot;

	mutex_guard(&t->lock);
	if (grow(t))
		return fail(-ENOMEM, "no memory for inode numbers");
	slot = slot_of(t, at);
	if (!*slot) {
		t->place[t->count] = *at;
		*slot = ++t->count;
	}
	*ino = TABLE_BIT | (*slot - 1);
	return 0;
}

int btrfs_ino(struct btrfs_super *bs, const struct btrfs_place *at, u64 *ino)
{
	bool small = at->objectid < 1ull << OBJECT_BITS && !at->absent;

	if (small && at->root == bs->top->id)
		*ino = at->objectid;
	else if (small && at->root && at->root < ROOT_MAX)
		*ino = at->objectid | at->root << OBJECT_BITS;
	else
		return from_table(bs->inos, at, ino);
	return 0;
}

int btrfs_ino_split(struct btrfs_super *bs, u64 ino, struct btrfs_place *at)
{
	struct btrfs_inos *t = bs->inos;

	if (!(ino & TABLE_BIT)) {
		u64 root = ino >> OBJECT_BITS;

		*at = (struct btrfs_place){ .root = root ? root : bs->top->id,
					    .objectid = ino & ((1ull << OBJECT_BITS) - 1) };
		/* One inode has one number. */
		return root != bs->top->id
			       ? 0
			       : fail(-ESTALE, "inode %llu has another number", (unsigned long long)ino);
	}
	mutex_guard(&t->lock);
	ino &= ~TABLE_BIT;
	if (ino >= t->count)
		return fail(-ESTALE, "there is no inode %llu", (unsigned long long)(ino | TABLE_BIT));
	*at = t->place[ino];
	return 0;
}
