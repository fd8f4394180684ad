/*
 * Extent trees that get smaller.
 *
 *   cut      from the end backwards, one extent or a part of it a step; nodes that get empty go, with the entries that led to them
 *   pack     a node whose entries its left neighbour has room for goes
 *   shrink   a root that leads to one small node takes its place
 *
 * The invariants are those of extents_edit.c.
 */
#include "extent_path.h"

#include "lib/scope.h"
#include <errno.h>

/* ---- cutting ---- */

/* Where a step begins that ends with the extent: not before c->from, no longer than c->max, within one group. */
static u64 step_start(const struct ext4_super *es, const struct ext4_disk_extent *e, const struct ext4_cut *c)
{
	u64 start = le32_get(e->lblk), last = ext4_extent_start(e) + ext4_extent_len(e) - 1,
	    in_group = (last - es->first_data_blk) % es->blocks_per_group + 1,
	    len = MIN(ext4_extent_len(e), MIN(in_group, (u64)c->max));

	return MAX(MAX(start, c->from), start + ext4_extent_len(e) - len);
}

/* Frees the nodes of the levels (top, depth]. */
static int free_nodes(struct ext4_handle *h, struct path *p, struct ext4_cut *c, u32 top)
{
	int err = 0;

	for (u32 k = p->depth; k > top && !err; k--)
		err = ext4_cut_free(h, c, p->level[k].bh->blk, 1, true);
	return err ? ext4_abort(h->es, err) : 0;
}

/* The level that stays when the node at level k loses an entry. */
static u32 level_that_stays(const struct path *p, u32 k)
{
	while (k && entries(&p->level[k]) == 1)
		k--;
	return k;
}

/* The path's entry at level `top` goes, with all that it led to. */
static void take_out(struct ext4_handle *h, struct path *p, u32 top)
{
	struct node *n = &p->level[top];

	entry_remove(n, n->at);
	if (!entries(n)) /* the root */
		ext4_extent_root_init(p->ei->block);
	else if (!n->at)
		ext4_path_fix_keys(h, p, top);
	changed(h, n);
}

/* What the extent had is free, but for clusters that other blocks of the file lie in too. *clusters: how many it had alone. */
static int free_extent(struct ext4_handle *h, struct path *p, struct ext4_cut *c,
		       const struct ext4_disk_extent *gone, u64 *clusters)
{
	u64 start = le32_get(gone->lblk), pblk = ext4_extent_start(gone), from, to;
	int err = ext4_cluster_own(p->ei, start, ext4_extent_len(gone), &from, &to);

	if (err)
		return err;
	*clusters = ext4_clusters_of(h->es, from, to - from);
	/* Clusters that are none of the file's are left alone. */
	if (((start ^ pblk) & ((1ull << h->es->cluster_bits) - 1)) != 0) {
		c->bad++;
		(void)!ext4_path_bad(p->ei, "an extent lies across clusters");
		return 0;
	}
	if (from < to)
		err = ext4_cut_free(h, c, pblk + (from - start), (u32)(to - from), c->metadata);
	if (err || !c->metadata)
		return err;
	for (u64 at = start; at < end_of(gone) && !err; at++)
		if (at < from || at >= to)
			err = ext4_forget(h, pblk + (at - start));
	return err ? ext4_abort(h->es, err) : 0;
}

/* The path's last extent goes, from `start` on. */
static int cut_extent(struct ext4_handle *h, struct path *p, struct ext4_cut *c, u64 start)
{
	struct node *leaf = leaf_of(p);
	struct ext4_disk_extent *e = entry(leaf, leaf->at - 1), gone = part(e, start, end_of(e));
	bool whole = start == le32_get(e->lblk);
	u32 top = whole ? level_that_stays(p, p->depth) : p->depth;
	u64 clusters;
	int err = ext4_path_join(h, p, top);

	if (!err)
		err = free_extent(h, p, c, &gone, &clusters);
	if (err)
		return err;
	err = free_nodes(h, p, c, top);
	if (err)
		return err;
	leaf->at--;
	if (whole) {
		take_out(h, p, top);
	} else {
		*e = part(e, le32_get(e->lblk), start);
		changed(h, leaf);
	}
	ext4_inode_add_clusters(p->ei, -(s64)(clusters + p->depth - top));
	return 0;
}

/* A leaf that was empty when it was read. */
static int drop_leaf(struct ext4_handle *h, struct path *p, struct ext4_cut *c)
{
	u32 top = level_that_stays(p, p->depth - 1);
	int err = ext4_path_join(h, p, top);

	if (!err)
		err = free_nodes(h, p, c, top);
	if (err)
		return err;
	take_out(h, p, top);
	ext4_inode_add_clusters(p->ei, -(s64)(p->depth - top));
	return 0;
}

static int cut_step(struct ext4_handle *h, struct path *p, struct ext4_cut *c)
{
	struct node *leaf = leaf_of(p);
	const struct ext4_disk_extent *e;
	u64 start;
	int err;

	if (!leaf->at) { /* nothing in this leaf, or all of it behind */
		err = p->depth && !entries(leaf) ? drop_leaf(h, p, c) : 0;
		c->to = MIN(p->lo, c->to - 1);
		return err;
	}
	e = entry(leaf, leaf->at - 1);
	if (end_of(e) <= c->from) {
		c->to = c->from;
		return 0;
	}
	if (end_of(e) > c->to)
		return ext4_path_bad(p->ei, "extents overlap");
	start = step_start(h->es, e, c);
	err = cut_extent(h, p, c, start);
	if (!err)
		c->to = start;
	return err;
}

int ext4_extent_cut(struct ext4_handle *h, struct ext4_inode *ei, struct ext4_cut *c)
{
	struct path p;
	int err;

	c->to = MIN(c->to, EXT4_LBLK_END);
	if (c->to <= c->from)
		return 0;
	err = ext4_path_find(ei, c->to - 1, &p);
	if (!err)
		err = cut_step(h, &p, c);
	ext4_path_put(&p);
	return err;
}

/* ---- fewer nodes ---- */

/* The path's node at level k goes, when the one before it, below the same parent, has room for what it has. 1: it went. */
static int pack_level(struct ext4_handle *h, struct path *p, u32 k)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct node *n = &p->level[k], *up = &p->level[k - 1], left;
	const struct bh_ctx ctx = ext4_ctx_map(p->ei, p->depth - k);
	u32 count;
	int err;

	if (!up->at)
		return 0;
	err = bh_read(p->ei->vfs.sb->dev, child_of(up, up->at - 1), &ext4_extent_ops, &ctx, &bh);
	if (err)
		return err;
	left = (struct node){ .bh = bh, .hdr = bh->data };
	count = entries(&left);
	if (!count || !entries(n) || count + entries(n) > places(&left))
		return 0;
	err = ext4_path_join(h, p, k - 1);
	if (!err)
		err = ext4_access(h, bh);
	if (!err)
		err = ext4_blocks_free(h, n->bh->blk, 1, true);
	if (err)
		return err;
	memcpy(entry(&left, count), entry(n, 0), entries(n) * sizeof(struct ext4_disk_extent));
	set_entries(&left, count + entries(n));
	if (k == p->depth)
		merge(&left, count - 1);
	changed(h, &left);
	entry_remove(up, up->at);
	changed(h, up);
	ext4_inode_add_clusters(p->ei, -1);
	return 1;
}

int ext4_extent_pack(struct ext4_handle *h, struct ext4_inode *ei, u64 *lblk)
{
	struct path p;
	int went = ext4_path_find(ei, *lblk, &p);

	for (u32 k = p.depth; !went && k; k--)
		went = pack_level(h, &p, k);
	if (!went)
		*lblk = p.hi;
	ext4_path_put(&p);
	return MIN(went, 0);
}

/* The root leads to one node, whose entries fit into it. 1: they are in it now. */
static int shrink_once(struct ext4_handle *h, struct ext4_inode *ei)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct node root = { .hdr = (void *)ei->block }, child;
	u32 depth = le16_get(root.hdr->depth), count,
	    room = (EXT4_IBLOCK_BYTES - (u32)sizeof(*root.hdr)) / (u32)sizeof(struct ext4_disk_extent);
	struct bh_ctx ctx;
	int err;

	if (!depth || depth > EXT4_EXTENT_DEPTH_MAX || entries(&root) != 1)
		return 0;
	ctx = ext4_ctx_map(ei, depth - 1);
	err = bh_read(ei->vfs.sb->dev, child_of(&root, 0), &ext4_extent_ops, &ctx, &bh);
	if (err)
		return err;
	child = (struct node){ .bh = bh, .hdr = bh->data };
	count = entries(&child);
	if (count > room)
		return 0;
	err = ext4_blocks_free(h, bh->blk, 1, true);
	if (err)
		return err;
	memcpy(entry(&root, 0), entry(&child, 0), count * sizeof(struct ext4_disk_extent));
	set_entries(&root, count);
	root.hdr->max = le16_put((u16)room);
	root.hdr->depth = le16_put((u16)(depth - 1));
	ext4_inode_add_clusters(ei, -1);
	return 1;
}

int ext4_extent_shrink(struct ext4_handle *h, struct ext4_inode *ei)
{
	int more;

	do
		more = shrink_once(h, ei);
	while (more > 0);
	return more;
}
