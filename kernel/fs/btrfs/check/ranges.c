/* Sorted ranges of bytes. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

int btrfs_ck_range_add(struct ck_ranges *r, u64 from, u64 to)
{
	struct ck_range *more;

	if (r->count && r->at[r->count - 1].to == from) {
		r->at[r->count - 1].to = to;
		return 0;
	}
	if (r->count == r->room) {
		more = realloc(r->at, (r->room * 2 + 64) * sizeof(*more));
		if (!more)
			return fail(-ENOMEM, "no memory for a list of ranges");
		r->at = more;
		r->room = r->room * 2 + 64;
	}
	r->at[r->count++] = (struct ck_range){ from, to };
	return 0;
}

/* The first that ends behind an address. */
static u64 search(const struct ck_ranges *r, u64 at)
{
	u64 lo = 0, hi = r->count;

	while (lo < hi) {
		u64 mid = lo + (hi - lo) / 2;

		if (r->at[mid].to > at)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

u64 btrfs_ck_range_covered(const struct ck_ranges *r, u64 from, u64 to)
{
	u64 bytes = 0;

	for (u64 i = search(r, from); i < r->count && r->at[i].from < to; i++)
		bytes += MIN(r->at[i].to, to) - MAX(r->at[i].from, from);
	return bytes;
}

static int by_start(const void *a, const void *b)
{
	const struct ck_range *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

void btrfs_ck_range_sort(struct ck_ranges *r)
{
	u64 n = 0;

	if (r->count)
		qsort(r->at, r->count, sizeof(*r->at), by_start);
	for (u64 i = 0; i < r->count; i++) {
		if (n && r->at[n - 1].to >= r->at[i].from)
			r->at[n - 1].to = MAX(r->at[n - 1].to, r->at[i].to);
		else
			r->at[n++] = r->at[i];
	}
	r->count = n;
}

u64 btrfs_ck_range_differ(const struct ck_ranges *a, const struct ck_ranges *b)
{
	for (u64 i = 0; i < MAX(a->count, b->count); i++) {
		if (i >= a->count)
			return b->at[i].from;
		if (i >= b->count)
			return a->at[i].from;
		if (a->at[i].from != b->at[i].from)
			return MIN(a->at[i].from, b->at[i].from);
		if (a->at[i].to != b->at[i].to)
			return MIN(a->at[i].to, b->at[i].to);
	}
	return ~0ull;
}

void btrfs_ck_ranges_free(struct ck_ranges *r)
{
	free(r->at);
	*r = (struct ck_ranges){ 0 };
}
