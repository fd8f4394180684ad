/*
 * The system zone: which blocks hold the metadata of groups, so that a file that claims one of them is found
 * out before its reader, or one day its writer, touches it.
 *
 *   - ext4_zone_add while descriptors are read, ext4_zone_seal once, then only questions. Or, where what comes depends on what there
 *     is, ext4_zone_insert, and questions at any time.
 *   - Ranges that follow each other are joined as they come: with flex_bg a volume has few ranges.
 */
#include "ext4.h"

#include <errno.h>
#include <stdlib.h>

/* Room for one more range. */
static int one_more(struct ext4_zone *z)
{
	u32 cap = z->cap ? z->cap * 2 : 64;
	struct ext4_zone_range *r;

	if (z->count < z->cap)
		return 0;
	r = realloc(z->range, cap * sizeof(*r));
	if (!r)
		return fail(-ENOMEM, "no memory for the map of system blocks");
	z->range = r;
	z->cap = cap;
	return 0;
}

int ext4_zone_add(struct ext4_zone *z, u64 start, u64 len)
{
	struct ext4_zone_range *r;
	int err;

	/* Bitmaps and tables of neighbouring groups come in turn: three open ranges are enough to join them. */
	for (u32 i = 1; i <= 4 && i <= z->count; i++) {
		r = &z->range[z->count - i];
		if (r->end == start) {
			r->end += len;
			return 0;
		}
	}
	err = one_more(z);
	if (err)
		return err;
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

/* The first range that ends behind blk. */
static u32 range_at(const struct ext4_zone *z, u64 blk)
{
	u32 lo = 0, hi = z->count;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (z->range[mid].end <= blk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool ext4_zone_meets(const struct ext4_zone *z, u64 start, u64 len)
{
	u32 at = range_at(z, start);

	return at < z->count && z->range[at].start < start + len;
}

u64 ext4_zone_gap(const struct ext4_zone *z, u64 blk, u64 *end)
{
	u32 at = range_at(z, blk);

	if (at < z->count && z->range[at].start <= blk)
		blk = z->range[at++].end;
	*end = at < z->count ? z->range[at].start : ~0ull;
	return blk;
}

u64 ext4_zone_count(const struct ext4_zone *z, u64 start, u64 end)
{
	u64 n = 0;

	for (u32 at = range_at(z, start); at < z->count && z->range[at].start < end; at++)
		n += MIN(end, z->range[at].end) - MAX(start, z->range[at].start);
	return n;
}

int ext4_zone_room(struct ext4_zone *z, u32 ranges)
{
	struct ext4_zone_range *r;

	if (z->cap - z->count >= ranges)
		return 0;
	r = realloc(z->range, ((size_t)z->count + ranges) * sizeof(*r));
	if (!r)
		return fail(-ENOMEM, "no memory for the map of system blocks");
	z->range = r;
	z->cap = z->count + ranges;
	return 0;
}

bool ext4_zone_append(struct ext4_zone *z, const struct ext4_zone *more)
{
	if (z->cap - z->count < more->count)
		return false;
	if (more->count)
		memcpy(z->range + z->count, more->range, more->count * sizeof(*z->range));
	z->count += more->count;
	return true;
}

int ext4_zone_insert(struct ext4_zone *z, u64 start, u64 len)
{
	u32 at = start ? range_at(z, start - 1) : 0, last = at;
	struct ext4_zone_range in = { start, start + len };
	int err = one_more(z);

	if (err)
		return err;
	/* Those that it touches become one with it. */
	while (last < z->count && z->range[last].start <= in.end)
		last++;
	if (last > at) {
		in.start = MIN(in.start, z->range[at].start);
		in.end = MAX(in.end, z->range[last - 1].end);
	}
	memmove(&z->range[at + 1], &z->range[last], (z->count - last) * sizeof(*z->range));
	z->count += 1 + at - last;
	z->range[at] = in;
	return 0;
}

int ext4_zone_clusters(const struct ext4_zone *z, u32 bits, struct ext4_zone *out)
{
	u64 unit = 1ull << bits;
	int err = 0;

	for (u32 i = 0; i < z->count && !err; i++) {
		u64 start = ALIGN_DOWN(z->range[i].start, unit);

		err = ext4_zone_insert(out, start, ALIGN_UP(z->range[i].end, unit) - start);
	}
	return err;
}

int ext4_zone_round(struct ext4_zone *z, u32 bits)
{
	struct ext4_zone blocks = *z;
	int err;

	if (!bits)
		return 0;
	*z = (struct ext4_zone){ 0 };
	err = ext4_zone_clusters(&blocks, bits, z);
	ext4_zone_free(&blocks);
	return err;
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
