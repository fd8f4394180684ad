/*
 * Which images in the log are void. Recovery has one table for the whole log; a transaction that is being made has one of
 * what it revokes.
 *
 * A block of metadata that is freed may be used for file data next, which is not journalled: replaying the older
 * image would destroy it. So the transaction that frees it revokes it, and replay obeys:
 *
 *     journalled in 5, revoked in 7                      not replayed
 *     journalled and revoked in 7                        not replayed (the revoke is the later of the two: had the
 *                                                        block been journalled again, the revoke would have been taken back)
 *     revoked in 7, journalled in 8                      replayed
 *     revoked in 7 and again in 9, journalled in 8       not replayed
 *
 * Recovery's table has the blocks of which the scan met an image, and no others: a revoke of another block has nothing
 * to prevent. Therefore it is never larger than the log, whatever a hostile log's revoke blocks contain.
 *
 * It is a hash with open addressing, at most two thirds full, keyed, so that blocks in a log cannot be chosen to crowd one place.
 */
#include "journal.h"

#include "lib/hash.h"
#include <errno.h>
#include <stdlib.h>

#define SLOTS_FIRST 1024u

struct slot {
	u64 blk;
	u32 sequence; /* of the last revoke */
	bool used, revoked;
};

struct revoke_table {
	struct slot *slot;
	u64 slots; /* a power of two */
	u64 used;
};

int revoke_new(struct revoke_table **out)
{
	struct revoke_table *t = calloc(1, sizeof(*t));

	if (t)
		t->slot = calloc(SLOTS_FIRST, sizeof(t->slot[0]));
	if (!t || !t->slot) {
		free(t);
		return fail(-ENOMEM, "no memory for a journal's revoke table");
	}
	t->slots = SLOTS_FIRST;
	*out = t;
	return 0;
}

void revoke_free(struct revoke_table *t)
{
	if (!t)
		return;
	free(t->slot);
	free(t);
}

/* The block's slot, or the free one where it belongs. */
static struct slot *find(struct slot *slot, u64 slots, u64 blk)
{
	u64 i = hash_number(blk) & (slots - 1);

	while (slot[i].used && slot[i].blk != blk)
		i = (i + 1) & (slots - 1);
	return &slot[i];
}

static int grow(struct revoke_table *t)
{
	u64 slots = t->slots * 2;
	struct slot *slot = calloc(slots, sizeof(slot[0]));

	if (!slot)
		return fail(-ENOMEM, "no memory for a journal's revoke table");
	for (u64 i = 0; i < t->slots; i++)
		if (t->slot[i].used)
			*find(slot, slots, t->slot[i].blk) = t->slot[i];
	free(t->slot);
	t->slot = slot;
	t->slots = slots;
	return 0;
}

int revoke_note(struct revoke_table *t, u64 blk)
{
	struct slot *s = find(t->slot, t->slots, blk);
	int err;

	if (s->used)
		return 0;
	if (t->used + 1 > t->slots / 3 * 2) {
		err = grow(t);
		if (err)
			return err;
		s = find(t->slot, t->slots, blk);
	}
	*s = (struct slot){ .blk = blk, .used = true };
	t->used++;
	return 0;
}

void revoke_set(struct revoke_table *t, u64 blk, u32 sequence)
{
	struct slot *s = find(t->slot, t->slots, blk);

	if (!s->used || (s->revoked && !tid_gt(sequence, s->sequence)))
		return;
	s->revoked = true;
	s->sequence = sequence;
}

void revoke_cancel(struct revoke_table *t, u64 blk)
{
	find(t->slot, t->slots, blk)->revoked = false;
}

bool revoke_next(const struct revoke_table *t, u64 *pos, u64 *blk)
{
	while (*pos < t->slots) {
		const struct slot *s = &t->slot[(*pos)++];

		if (s->used && s->revoked) {
			*blk = s->blk;
			return true;
		}
	}
	return false;
}

bool revoke_test(const struct revoke_table *t, u64 blk, u32 sequence)
{
	const struct slot *s = find(t->slot, t->slots, blk);

	return s->used && s->revoked && !tid_gt(sequence, s->sequence);
}
