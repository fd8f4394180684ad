/*
 * The free space tree against what the extents leave of each block group. Where it is not marked as valid, the next writer makes it anew, and
 * nothing is asked of it.
 */
#include "check.h"

struct state {
	u64 start, len_bytes; /* of the block group whose items are read; len 0: none yet */
	u32 runs;             /* that it should have */
	u32 groups;
	bool stale; /* what is read is of no block group */
	struct ck_ranges free;
};

int btrfs_ck_gaps(struct ck *c, u64 start, u64 len_bytes, struct ck_ranges *out)
{
	u64 at = start, end = start + len_bytes, i = btrfs_ck_extent_from(c, start);
	int err = 0;

	for (; i < c->extents && c->extent[i].bytenr < end && !err; i++) {
		const struct ck_extent *e = &c->extent[i];

		if (e->bytenr > at)
			err = btrfs_ck_range_add(out, at, e->bytenr);
		at = MAX(at, e->bytenr + (u64)e->sectors * c->bs->sector_bytes);
	}
	if (!err && at < end)
		err = btrfs_ck_range_add(out, at, end);
	return err;
}

static void end_group(struct ck *c, struct state *s)
{
	struct ck_ranges want = { 0 };
	u64 at;

	if (!s->len_bytes)
		return;
	if (btrfs_ck_gaps(c, s->start, s->len_bytes, &want))
		btrfs_ck_oom(c);
	btrfs_ck_range_sort(&s->free);
	at = btrfs_ck_range_differ(&want, &s->free);
	if (at != ~0ull)
		btrfs_ck_found(c, CK_FREE_SPACE, "group", s->start, NULL, "from byte %llu on",
			       (unsigned long long)at);
	else if (want.count != s->runs)
		btrfs_ck_found(c, CK_FREE_SPACE, "group", s->start, NULL,
			       "it counts %u pieces, there are %llu", s->runs,
			       (unsigned long long)want.count);
	btrfs_ck_ranges_free(&want);
	btrfs_ck_ranges_free(&s->free);
	s->len_bytes = 0;
}

static bool is_group(const struct ck *c, u64 start, u64 len)
{
	const struct ck_group *g = btrfs_ck_group(c, start);

	return g && g->start == start && g->len_bytes == len;
}

static void take_bitmap(struct ck *c, struct state *s, const struct ck_item *it)
{
	u64 sector = c->bs->sector_bytes;
	const u8 *bits = it->data;

	for (u64 i = 0; i < it->key.offset / sector; i++)
		if (bits[i / 8] >> (i % 8) & 1 && btrfs_ck_range_add(&s->free, it->key.objectid + i * sector,
								     it->key.objectid + (i + 1) * sector))
			btrfs_ck_oom(c);
}

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct state *s = ctx;
	const struct btrfs_disk_free_space_info *info = it->data;
	u64 end = it->key.objectid + it->key.offset;

	if (it->key.type == BTRFS_KEY_FREE_SPACE_INFO) {
		end_group(c, s);
		s->stale = !is_group(c, it->key.objectid, it->key.offset);
		if (s->stale) {
			btrfs_ck_found(c, CK_FREE_STALE, "group", it->key.objectid, NULL, NULL);
			return;
		}
		s->start = it->key.objectid;
		s->len_bytes = it->key.offset;
		s->runs = le32_get(info->extent_count);
		s->groups++;
		return;
	}
	if (it->key.type != BTRFS_KEY_FREE_SPACE_EXTENT && it->key.type != BTRFS_KEY_FREE_SPACE_BITMAP)
		return;
	if (s->stale)
		return;
	if (!s->len_bytes || it->key.objectid < s->start || end > s->start + s->len_bytes) {
		btrfs_ck_found(c, CK_FREE_SPACE, "group", it->key.objectid, NULL,
			       "it does not lie in a block group");
		return;
	}
	if (it->key.type == BTRFS_KEY_FREE_SPACE_BITMAP)
		take_bitmap(c, s, it);
	else if (btrfs_ck_range_add(&s->free, it->key.objectid, end))
		btrfs_ck_oom(c);
}

void btrfs_ck_free_space(struct ck *c)
{
	const u64 valid = BTRFS_COMPAT_RO_FREE_SPACE_TREE | BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID;
	struct state s = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, take_item, &s, 0, 0, 0 };

	if (!btrfs_ck_tree_find(c, BTRFS_TREE_FREE_SPACE, &t))
		return;
	if (c->extents_partial || c->groups_partial || (le64_get(c->bs->disk.compat_ro) & valid) != valid)
		w.item = NULL;
	(void)!btrfs_ck_walk(c, &w);
	if (btrfs_ck_whole(c, &w, "free space") && w.item) {
		end_group(c, &s);
		if (s.groups != c->groups)
			btrfs_ck_found(c, CK_FREE_SPACE, "tree", BTRFS_TREE_FREE_SPACE, NULL,
				       "it has %u block groups of %u", s.groups, c->groups);
	}
	btrfs_ck_ranges_free(&s.free);
}
