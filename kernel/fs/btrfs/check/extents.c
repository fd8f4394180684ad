/*
 * The extent tree: what is in use, who refers to it, and the block groups that it lies in. Read first, since it says which nodes' references
 * name the node (FULL_BACKREF); compared at the end, when every tree was walked.
 */
#include "check.h"

#include <stdlib.h>

struct reading {
	u64 last; /* address of the item before, for references that have items of their own */
	u64 end;  /* of the extent before */
};

/* ---- reading ---- */

static void take_ref(struct ck *c, struct ck_extent *e, u8 type, u64 offset, const void *data)
{
	const struct btrfs_disk_data_ref *ref = data;
	const struct btrfs_disk_shared_data_ref *shared = data;
	u32 n = 1;

	switch (type) {
	case BTRFS_KEY_TREE_BLOCK_REF:
	case BTRFS_KEY_SHARED_BLOCK_REF:
		e->back_sum += btrfs_ck_ref(c, type, offset, 0, 0);
		break;
	case BTRFS_KEY_EXTENT_DATA_REF:
		n = le32_get(ref->count);
		e->back_sum += n * btrfs_ck_ref(c, type, le64_get(ref->root), le64_get(ref->objectid),
						le64_get(ref->offset));
		break;
	case BTRFS_KEY_SHARED_DATA_REF:
		n = le32_get(shared->count);
		e->back_sum += n * btrfs_ck_ref(c, type, offset, 0, 0);
		break;
	default:
		n = 0;
	}
	e->back += n;
}

/* The references behind the extent in its item: their form was looked at by the verifier. */
static void take_inline(struct ck *c, struct ck_extent *e, const u8 *p, u32 left)
{
	while (left) {
		const struct btrfs_disk_inline_ref *d = (const void *)p;
		bool is_data = d->type == BTRFS_KEY_EXTENT_DATA_REF;
		u32 bytes = is_data                                ? 1 + sizeof(struct btrfs_disk_data_ref)
			    : d->type == BTRFS_KEY_SHARED_DATA_REF ? sizeof(*d) + sizeof(le32)
								   : sizeof(*d);

		take_ref(c, e, d->type, is_data ? 0 : le64_get(d->offset), is_data ? p + 1 : p + sizeof(*d));
		p += bytes;
		left -= bytes;
	}
}

static void take_extent(struct ck *c, struct reading *r, const struct ck_item *it)
{
	const struct btrfs_disk_extent_item *d = it->data;
	bool skinny = it->key.type == BTRFS_KEY_METADATA_ITEM;
	u64 len = skinny ? c->bs->node_bytes : it->key.offset, flags = le64_get(d->flags);
	const u8 *p = (const u8 *)(d + 1);
	struct ck_extent *e;

	if (c->extents && r->end > it->key.objectid)
		btrfs_ck_found(c, CK_EXTENT_OVERLAP, "block", it->key.objectid, NULL,
			       "the one before ends at %llu", (unsigned long long)r->end);
	if (c->extents && c->extent[c->extents - 1].bytenr == it->key.objectid)
		return;
	e = btrfs_ck_extent_add(c, it->key.objectid);
	if (!e)
		return;
	r->last = it->key.objectid;
	r->end = it->key.objectid + len;
	e->sectors = (u32)MIN(len / c->bs->sector_bytes, (u64)UINT32_MAX);
	e->count = (u32)MIN(le64_get(d->refs), (u64)UINT32_MAX);
	e->generation = (u32)le64_get(d->generation);
	e->flags = (flags & BTRFS_EXTENT_FLAG_DATA ? CK_EXTENT_DATA : CK_EXTENT_INFO) |
		   (flags & BTRFS_EXTENT_FLAG_FULL_BACKREF ? CK_EXTENT_FULL : 0);
	if (skinny) {
		e->level = (u8)it->key.offset;
	} else if (!(flags & BTRFS_EXTENT_FLAG_DATA)) {
		e->level = ((const struct btrfs_disk_tree_block_info *)p)->level;
		p += sizeof(struct btrfs_disk_tree_block_info);
	}
	take_inline(c, e, p, (u32)((const u8 *)it->data + it->len - p));
}

static void take_keyed(struct ck *c, struct reading *r, const struct ck_item *it)
{
	struct ck_extent *e = c->extents ? &c->extent[c->extents - 1] : NULL;

	if (!e || e->bytenr != it->key.objectid) {
		btrfs_ck_found(c, CK_EXTENT_REF_ALONE, "block", it->key.objectid, NULL, NULL);
		return;
	}
	if (it->key.type != BTRFS_KEY_EXTENT_DATA_REF)
		take_ref(c, e, it->key.type, it->key.offset, it->data);
	/* Those with one hash share an item. */
	else
		for (u32 at = 0; at < it->len; at += (u32)sizeof(struct btrfs_disk_data_ref))
			take_ref(c, e, it->key.type, 0, (const u8 *)it->data + at);
	(void)r;
}

static void take_group(struct ck *c, const struct ck_item *it)
{
	const struct btrfs_disk_block_group *d = it->data;

	if (c->groups == c->groups_room) {
		u32 room = c->groups_room * 2 + 32;
		struct ck_group *more = realloc(c->group, room * sizeof(*more));

		if (!more) {
			btrfs_ck_oom(c);
			return;
		}
		c->group = more;
		c->groups_room = room;
	}
	c->group[c->groups++] = (struct ck_group){
		.start = it->key.objectid,
		.len_bytes = it->key.offset,
		.used_bytes = le64_get(d->used_bytes),
		.flags = le64_get(d->flags),
	};
}

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	switch (it->key.type) {
	case BTRFS_KEY_EXTENT_ITEM:
	case BTRFS_KEY_METADATA_ITEM:
		take_extent(c, ctx, it);
		break;
	case BTRFS_KEY_TREE_BLOCK_REF:
	case BTRFS_KEY_EXTENT_DATA_REF:
	case BTRFS_KEY_SHARED_BLOCK_REF:
	case BTRFS_KEY_SHARED_DATA_REF:
		take_keyed(c, ctx, it);
		break;
	case BTRFS_KEY_BLOCK_GROUP_ITEM:
		take_group(c, it);
		break;
	}
}

static bool walk(struct ck *c, u64 id, const char *what)
{
	struct reading r = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, take_item, &r, 0, 0, 0 };

	if (!btrfs_ck_tree_find(c, id, &t))
		return false;
	(void)!btrfs_ck_walk(c, &w);
	return btrfs_ck_whole(c, &w, what);
}

void btrfs_ck_extents(struct ck *c)
{
	c->extents_partial = !walk(c, BTRFS_TREE_EXTENT, "what is in use, references");
	if (le64_get(c->bs->disk.compat_ro) & BTRFS_COMPAT_RO_BLOCK_GROUP_TREE)
		c->groups_partial = !walk(c, BTRFS_TREE_BLOCK_GROUP, "block groups");
	else
		c->groups_partial = c->extents_partial;
}

/* ---- comparing ---- */

static void compare(struct ck *c, const struct ck_extent *e, u64 sum, u32 refs)
{
	const char *object = e->flags & CK_EXTENT_DATA ? "extent" : "block";

	/* Of 32 bits: no extent can have so many that this is not exact. */
	if (e->back != e->count)
		btrfs_ck_found(c, CK_EXTENT_COUNT, object, e->bytenr, NULL, "it counts %u, there are %u",
			       e->count, e->back);
	if (sum == e->back_sum || (c->refs_partial && refs < e->back))
		return;
	if (!refs)
		btrfs_ck_found(c, CK_EXTENT_UNUSED, object, e->bytenr, NULL, NULL);
	else
		btrfs_ck_found(c, CK_EXTENT_REFS, object, e->bytenr, NULL,
			       "%u references there, %u of the trees%s", e->back, refs,
			       refs == e->back ? ", not the same" : "");
}

static void check_node(struct ck *c, const struct ck_extent *e)
{
	const struct ck_node *n = btrfs_ck_find(&c->nodes, e->bytenr);

	if (!n || !n->counted) {
		compare(c, e, 0, 0);
		return;
	}
	compare(c, e, n->refs_sum, n->refs);
	if (n->state != CK_GOOD)
		return;
	if (e->level != n->level)
		btrfs_ck_found(c, CK_EXTENT_LEVEL, "block", e->bytenr, NULL, "%u, the block's is %u",
			       e->level, n->level);
	if (e->generation != (u32)n->generation)
		btrfs_ck_found(c, CK_EXTENT_GENERATION, "block", e->bytenr, NULL, "%u, the block's is %llu",
			       e->generation, (unsigned long long)n->generation);
}

static void check_missing(struct ck *c)
{
	const struct ck_node *n;
	const struct ck_stray *s;

	for (u64 at = 0; !c->err && (n = btrfs_ck_each(&c->nodes, &at));) {
		const struct ck_extent *e = btrfs_ck_extent(c, n->bytenr);

		if (n->counted && (!e || e->flags & CK_EXTENT_DATA))
			btrfs_ck_found(c, CK_EXTENT_MISSING, "block", n->bytenr, NULL, "a tree block");
	}
	for (u64 at = 0; !c->err && (s = btrfs_ck_each(&c->strays, &at));)
		btrfs_ck_found(c, CK_EXTENT_MISSING, "extent", s->bytenr, NULL, "%llu bytes of data",
			       (unsigned long long)s->len_bytes);
}

void btrfs_ck_references(struct ck *c)
{
	for (u64 i = 0; i < c->extents && !c->err; i++) {
		const struct ck_extent *e = &c->extent[i];

		if (i % 4096 == 0 && !btrfs_ck_step(c, 4096))
			return;
		if (!(e->flags & CK_EXTENT_DATA)) {
			check_node(c, e);
			continue;
		}
		compare(c, e, e->refs_sum, e->refs);
		if ((e->flags & (CK_EXTENT_SUMMED | CK_EXTENT_WRITTEN)) == CK_EXTENT_SUMMED)
			btrfs_ck_found(c, CK_CSUM_ODD, "extent", e->bytenr, NULL, "it is preallocated");
	}
	if (!c->extents_partial)
		check_missing(c);
}

/* ---- block groups ---- */

static u64 count_extents(struct ck *c)
{
	u64 all = 0;

	for (u64 i = 0; i < c->extents && !c->err; i++) {
		const struct ck_extent *e = &c->extent[i];
		u64 len = (u64)e->sectors * c->bs->sector_bytes;
		struct ck_group *g = btrfs_ck_group(c, e->bytenr);
		bool data = e->flags & CK_EXTENT_DATA;

		all += len;
		if (!g || e->bytenr + len > g->start + g->len_bytes) {
			btrfs_ck_found(c, CK_EXTENT_OUTSIDE, data ? "extent" : "block", e->bytenr, NULL,
				       NULL);
			continue;
		}
		g->counted_bytes += len;
		if (!(g->flags & (data ? BTRFS_BG_DATA : BTRFS_BG_METADATA | BTRFS_BG_SYSTEM)))
			btrfs_ck_found(c, CK_EXTENT_KIND, data ? "extent" : "block", e->bytenr, NULL,
				       "the block group is for %s", btrfs_bg_type_name(g->flags));
	}
	return all;
}

static void check_group(struct ck *c, const struct ck_group *g)
{
	const struct btrfs_chunk *chunk = btrfs_chunk_find(c->bs->volume, g->start);

	if (!chunk || chunk->logical != g->start || chunk->len_bytes != g->len_bytes)
		btrfs_ck_found(c, CK_GROUP_CHUNK, "group", g->start, NULL, "no chunk is like it");
	else if (chunk->type != g->flags)
		btrfs_ck_found(c, CK_GROUP_CHUNK, "group", g->start, NULL, "its flags are 0x%llx, not 0x%llx",
			       (unsigned long long)g->flags, (unsigned long long)chunk->type);
	if (!c->extents_partial && g->used_bytes != g->counted_bytes)
		btrfs_ck_found(c, CK_GROUP_USED, "group", g->start, NULL, "%llu, there are %llu",
			       (unsigned long long)g->used_bytes, (unsigned long long)g->counted_bytes);
}

void btrfs_ck_groups(struct ck *c)
{
	const struct btrfs_chunk *chunk;
	u64 all;

	if (c->groups_partial)
		return;
	all = count_extents(c);
	for (u32 i = 0; i < c->groups && !c->err; i++)
		check_group(c, &c->group[i]);
	for (u32 i = 0; !c->err && (chunk = btrfs_chunk_at(c->bs->volume, i)); i++) {
		const struct ck_group *g = btrfs_ck_group(c, chunk->logical);

		if (!g || g->start != chunk->logical)
			btrfs_ck_found(c, CK_GROUP_MISSING, "chunk", chunk->logical, NULL, NULL);
	}
	if (!c->extents_partial && all != le64_get(c->bs->disk.bytes_used))
		btrfs_ck_super_value(
			c, &c->super.bytes_used, all,
			!c->refs_partial && !c->sum->found[CHECK_WRONG] && !c->sum->found[CHECK_LOSS],
			"%llu bytes in use, there are %llu",
			(unsigned long long)le64_get(c->bs->disk.bytes_used), (unsigned long long)all);
}
