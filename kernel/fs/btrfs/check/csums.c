/* The checksum tree: which bytes have checksums, and that what has one is data. */
#include "check.h"

struct state {
	u64 end; /* of the item before */
};

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct state *s = ctx;
	u64 from = it->key.offset, to = from + (u64)(it->len / c->bs->csum_bytes) * c->bs->sector_bytes;

	if (it->key.type != BTRFS_KEY_EXTENT_CSUM)
		return;
	if (from < s->end)
		btrfs_ck_found(c, CK_CSUM_OVERLAP, "byte", from, NULL, "those before end at %llu",
			       (unsigned long long)s->end);
	from = MAX(from, s->end);
	s->end = MAX(to, s->end);
	if (from < to && btrfs_ck_range_add(&c->csums, from, to))
		btrfs_ck_oom(c);
}

void btrfs_ck_csums(struct ck *c)
{
	struct state s = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, take_item, &s, 0, 0, 0 };

	c->csums_partial = true;
	if (!btrfs_ck_tree_find(c, BTRFS_TREE_CSUM, &t))
		return;
	(void)!btrfs_ck_walk(c, &w);
	c->csums_partial = !btrfs_ck_whole(c, &w, "whether data have checksums");
}

/* The part of a range that begins in no data. */
static void check_range(struct ck *c, const struct ck_range *r)
{
	u64 at = r->from, i = btrfs_ck_extent_from(c, r->from);

	if (i && (i == c->extents || c->extent[i].bytenr > at))
		i--;
	for (; i < c->extents && at < r->to && c->extent[i].bytenr <= at; i++) {
		const struct ck_extent *e = &c->extent[i];

		if (e->flags & CK_EXTENT_DATA)
			at = MAX(at, e->bytenr + (u64)e->sectors * c->bs->sector_bytes);
	}
	if (at < r->to)
		btrfs_ck_found(c, CK_CSUM_ALONE, "byte", at, NULL, "from there to %llu, or a part of that",
			       (unsigned long long)r->to);
}

void btrfs_ck_csums_alone(struct ck *c)
{
	if (c->extents_partial)
		return;
	for (u64 i = 0; i < c->csums.count && !c->err; i++)
		check_range(c, &c->csums.at[i]);
}
