/* Records by number: open addressing, so that a record costs itself and a third. */
#include "check.h"

#include "lib/hash.h"
#include <stdlib.h>

#define SLOTS_MIN 256u

static u64 key_of(const void *rec)
{
	return *(const u64 *)rec;
}

static void *slot_of(const struct ck_table *t, u64 key)
{
	u64 i = hash_number(key) & (t->slots - 1);

	for (;; i = (i + 1) & (t->slots - 1)) {
		void *rec = t->slot + i * t->rec_bytes;

		if (!key_of(rec) || key_of(rec) == key)
			return rec;
	}
}

void *btrfs_ck_find(const struct ck_table *t, u64 key)
{
	void *rec = t->slots && key ? slot_of(t, key) : NULL;

	return rec && key_of(rec) ? rec : NULL;
}

static bool grow(struct ck_table *t)
{
	struct ck_table old = *t;

	t->slots = MAX(old.slots * 2, (u64)SLOTS_MIN);
	t->slot = calloc(t->slots, t->rec_bytes);
	if (!t->slot) {
		*t = old;
		return false;
	}
	for (u64 i = 0; i < old.slots; i++) {
		const void *rec = old.slot + i * old.rec_bytes;

		if (key_of(rec))
			memcpy(slot_of(t, key_of(rec)), rec, t->rec_bytes);
	}
	free(old.slot);
	return true;
}

void *btrfs_ck_add(struct ck_table *t, u64 key)
{
	void *rec = btrfs_ck_find(t, key);

	if (rec)
		return rec;
	if (t->count >= t->slots / 8 * 7 && !grow(t))
		return NULL;
	rec = slot_of(t, key);
	*(u64 *)rec = key;
	t->count++;
	return rec;
}

void *btrfs_ck_each(const struct ck_table *t, u64 *at)
{
	while (*at < t->slots) {
		void *rec = t->slot + (*at)++ * t->rec_bytes;

		if (key_of(rec))
			return rec;
	}
	return NULL;
}

void btrfs_ck_table_free(struct ck_table *t)
{
	free(t->slot);
	t->slot = NULL;
	t->slots = t->count = 0;
}
