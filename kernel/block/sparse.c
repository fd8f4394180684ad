/*
 * Two levels: a table of leaves over the whole size, each leaf a table of units. Both are made on demand and
 * published by compare-and-swap, so looking and making need no lock.
 */
#include "sparse.h"

#include "lib/err.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEAF_UNITS 1024

struct sparse_leaf {
	_Atomic(void *) unit[LEAF_UNITS];
};

int sparse_init(struct sparse *s, u32 unit_bytes, u64 size_bytes)
{
	s->unit_bytes = unit_bytes;
	s->leaves = size_bytes / unit_bytes / LEAF_UNITS + 1;
	atomic_init(&s->units, 0);
	/* Untouched pages of a large table cost nothing. */
	s->leaf = calloc(s->leaves, sizeof(s->leaf[0]));
	return s->leaf ? 0
		       : fail(-ENOMEM, "no memory for a device of %llu bytes",
			      (unsigned long long)size_bytes);
}

void sparse_fini(struct sparse *s)
{
	for (u64 i = 0; i < s->leaves; i++) {
		struct sparse_leaf *leaf = s->leaf[i];

		for (u32 j = 0; leaf && j < LEAF_UNITS; j++)
			free(leaf->unit[j]);
		free(leaf);
	}
	free(s->leaf);
	s->leaf = NULL;
	s->leaves = 0;
}

void *sparse_get(struct sparse *s, u64 unit)
{
	struct sparse_leaf *leaf = atomic_load_explicit(&s->leaf[unit / LEAF_UNITS], memory_order_acquire);

	return leaf ? atomic_load_explicit(&leaf->unit[unit % LEAF_UNITS], memory_order_acquire) : NULL;
}

static struct sparse_leaf *make_leaf(struct sparse *s, u64 i)
{
	struct sparse_leaf *leaf = s->leaf[i], *mine;

	if (leaf)
		return leaf;
	mine = calloc(1, sizeof(*mine));
	if (mine && atomic_compare_exchange_strong(&s->leaf[i], &leaf, mine))
		return mine;
	free(mine);
	return leaf;
}

void *sparse_make(struct sparse *s, u64 unit, const void *from)
{
	struct sparse_leaf *leaf = make_leaf(s, unit / LEAF_UNITS);
	void *old = NULL, *mine;

	if (!leaf)
		return NULL;
	old = leaf->unit[unit % LEAF_UNITS];
	if (old)
		return old;
	mine = os_alloc_aligned(MIN(s->unit_bytes, 4096u), s->unit_bytes);
	if (!mine)
		return NULL;
	if (from)
		memcpy(mine, from, s->unit_bytes);
	else
		memset(mine, 0, s->unit_bytes);
	if (atomic_compare_exchange_strong(&leaf->unit[unit % LEAF_UNITS], &old, mine)) {
		atomic_fetch_add_explicit(&s->units, 1, memory_order_relaxed);
		return mine;
	}
	free(mine);
	return old;
}

u64 sparse_next(struct sparse *s, u64 unit)
{
	while (unit / LEAF_UNITS < s->leaves) {
		if (!atomic_load_explicit(&s->leaf[unit / LEAF_UNITS], memory_order_acquire))
			unit = ALIGN_UP(unit + 1, (u64)LEAF_UNITS);
		else if (sparse_get(s, unit))
			return unit;
		else
			unit++;
	}
	return ~0ull;
}

void sparse_drop(struct sparse *s, u64 unit)
{
	struct sparse_leaf *leaf = s->leaf[unit / LEAF_UNITS];
	void *old = leaf ? atomic_exchange(&leaf->unit[unit % LEAF_UNITS], NULL) : NULL;

	if (old)
		atomic_fetch_sub_explicit(&s->units, 1, memory_order_relaxed);
	free(old);
}
