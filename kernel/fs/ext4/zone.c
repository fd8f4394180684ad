/*
 * The system zone: which blocks hold the metadata of groups, so that a file that claims one of them is found
 * out before its reader, or one day its writer, touches it.
 *
 *   - ext4_zone_add while descriptors are read, ext4_zone_seal once, then only questions.
 *   - Ranges that follow each other are joined as they come: with flex_bg a volume has few ranges.
 */
#include "ext4.h"

#include <errno.h>
#include <stdlib.h>

int ext4_zone_add(struct ext4_zone *z, u64 start, u64 len)
{
	struct ext4_zone_range *r;
	u32 cap;

	/* Bitmaps and tables of neighbouring groups come in turn: three open ranges are enough to join them. */
	for (u32 i = 1; i <= 4 && i <= z->count; i++) {
		r = &z->range[z->count - i];
		if (r->end == start) {
			r->end += len;
			return 0;
		}
	}
	if (z->count == z->cap) {
		cap = z->cap ? z->cap * 2 : 64;
		r = realloc(z->range, cap * sizeof(*r));
		if (!r)
			return fail(-ENOMEM, "no memory for the map of system blocks");
		z->range = r;
		z->cap = cap;
	}
	z->range[z->count++] = (struct ext4_zone_range){ start, start + len };
	return 0;
}

static int range_compare(const void *a, const void *b)
{
	const struct ext4_zone_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

void ext4_zone_seal(struct ext4_zone *z)
{
	u32 n = 0;

	if (!z->count)
		return;
	qsort(z->range, z->count, sizeof(*z->range), range_compare);
	for (u32 i = 1; i < z->count; i++) {
		if (z->range[i].start <= z->range[n].end)
			z->range[n].end = MAX(z->range[n].end, z->range[i].end);
		else
			z->range[++n] = z->range[i];
	}
	z->count = n + 1;
}

void ext4_zone_free(struct ext4_zone *z)
{
	free(z->range);
	*z = (struct ext4_zone){ 0 };
}

bool ext4_zone_meets(const struct ext4_zone *z, u64 start, u64 len)
{
	u32 lo = 0, hi = z->count;

	/* The first range that ends behind start. */
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (z->range[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < z->count && z->range[lo].start < start + len;
}

bool ext4_blocks_ok(const struct ext4_super *es, u64 start, u64 len)
{
	return len && start > es->first_data_blk && start < es->blocks && len <= es->blocks - start &&
	       !ext4_zone_meets(&es->zone, start, len);
}

bool ext4_blocks_ok_for(const struct ext4_super *es, u64 ino, u64 start, u64 len)
{
	return ext4_blocks_ok(es, start, len) &&
	       (ino == le32_get(es->disk.journal_inum) || !ext4_zone_meets(&es->journal_zone, start, len));
}
