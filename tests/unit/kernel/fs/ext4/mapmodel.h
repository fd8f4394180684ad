/*
 * Random changes of one file's map, against an array that says what it must be. The file's blocks are in a few segments, far from
 * each other; what lies between is never mapped.
 */
#ifndef TEST_MAPMODEL_H
#define TEST_MAPMODEL_H

#include "volume.h"

#include <errno.h>

#define SEGS     4u
#define SEG      1024u
#define PLACES   (SEGS * SEG)
#define PIECE    24u
#define MAP_MANY 128u /* credits and revokes: more than anything here needs */

static struct {
	u64 seg[SEGS]; /* the first block of each */
	struct {
		u64 pblk; /* 0: a hole */
		bool unwritten;
	} at[PLACES];
	struct ext4_inode *ei;
	u32 mapped;
} model;

static inline u64 place_lblk(u32 i)
{
	return model.seg[i / SEG] + i % SEG;
}

static inline void model_open(const char *name, const u64 *seg)
{
	struct inode *inode;

	memset(&model, 0, sizeof(model));
	memcpy(model.seg, seg, sizeof(model.seg));
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, name, false, &inode), 0);
	model.ei = ext4_inode(inode);
	rw_write_lock(&inode->lock);
	inode_set_size(inode, (place_lblk(PLACES - 1) + 1) << vol_es->block_bits);
}

static inline void model_close(void)
{
	rw_write_unlock(&model.ei->vfs.lock);
	vfs_iput(&model.ei->vfs);
}

static inline void begin(struct ext4_handle *h)
{
	assert_int_equal(ext4_begin(vol_es, MAP_MANY, MAP_MANY, h), 0);
	rw_write_lock(&model.ei->tree);
}

static inline void end(struct ext4_handle *h)
{
	rw_write_unlock(&model.ei->tree);
	assert_int_equal(ext4_inode_write(h, model.ei), 0);
	assert_int_equal(ext4_end(h, 0), 0);
}

/* The places from i on, in its segment, that are all holes, or all blocks of one kind; at most `max`. */
static inline u32 same(u32 i, u32 max)
{
	u32 n = 1;

	while (n < max && (i + n) % SEG && !model.at[i + n].pblk == !model.at[i].pblk &&
	       (!model.at[i].pblk || model.at[i + n].unwritten == model.at[i].unwritten))
		n++;
	return n;
}

/* Blocks come anywhere, or behind those before them. */
static inline void model_insert(u32 i, u32 n, bool unwritten)
{
	u64 goal = i && model.at[i - 1].pblk && rnd(3) ? model.at[i - 1].pblk + 1 : rnd((u32)vol_es->blocks),
	    pblk;
	struct ext4_handle h;
	bool tried = false;
	u32 len;

	n = same(i, n);
	if (!(model.ei->flags & EXT4_FL_EXTENTS)) {
		n = MIN(n, ext4_indirect_piece(model.ei, place_lblk(i)));
		unwritten = false;
	}
	/* What was freed comes back with a commit. */
	if (ext4_blocks_avail(vol_es) < 512)
		ext4_retry(vol_es, -ENOSPC, &tried);
	assert_int_equal(ext4_blocks_reserve(vol_es, goal, n, 0, &pblk, &len), 0);
	begin(&h);
	assert_int_equal(ext4_map_insert(&h, model.ei, place_lblk(i), len, pblk, unwritten), 0);
	assert_int_equal(ext4_blocks_take(&h, pblk, len), 0);
	end(&h);
	for (u32 k = 0; k < len; k++) {
		model.at[i + k].pblk = pblk + k;
		model.at[i + k].unwritten = unwritten;
	}
	model.mapped += len;
}

static inline void model_convert(u32 i, u32 n)
{
	struct ext4_handle h;

	n = same(i, n);
	begin(&h);
	assert_int_equal(ext4_extent_convert(&h, model.ei, place_lblk(i), n), 0);
	end(&h);
	for (u32 k = i; k < i + n; k++)
		model.at[k].unwritten = false;
}

/* What is mapped there, at most an extent and n blocks, lies at or near `goal` from then on, where there is as much in one piece. */
static inline u32 model_remap(u32 i, u32 n, u64 goal)
{
	u64 want = model.ei->flags & EXT4_FL_EXTENTS ? 1 : ext4_indirect_piece(model.ei, place_lblk(i)),
	    at = place_lblk(i), old = model.at[i].pblk, pblk;
	struct ext4_handle h;
	struct ext4_run run;
	bool tried = false;
	u32 len;

	assert_int_equal(ext4_map_blocks(model.ei, at, want, &run), 0);
	n = (u32)MIN((u64)n, run.lblk + run.len - at);
	if (ext4_blocks_avail(vol_es) < 512)
		ext4_retry(vol_es, -ENOSPC, &tried);
	assert_int_equal(ext4_blocks_reserve(vol_es, goal, n, 0, &pblk, &len), 0);
	begin(&h);
	assert_int_equal(ext4_blocks_take(&h, pblk, len), 0);
	if (model.ei->flags & EXT4_FL_EXTENTS)
		assert_int_equal(ext4_extent_remap(&h, model.ei, at, len, pblk), 0);
	else
		assert_int_equal(ext4_indirect_remap(&h, model.ei, at, len, pblk), 0);
	assert_int_equal(ext4_blocks_free(&h, old, len, false), 0);
	if (model.ei->flags & EXT4_FL_EXTENTS && rnd(2)) {
		assert_int_equal(ext4_extent_pack(&h, model.ei, &at), 0);
		assert_int_equal(ext4_extent_shrink(&h, model.ei), 0);
	}
	end(&h);
	for (u32 k = 0; k < len; k++)
		model.at[i + k].pblk = pblk + k;
	return len;
}

/* Everything in [lblk, to). */
static inline void model_cut(u64 lblk, u64 to)
{
	struct ext4_cut c = { .from = lblk, .to = to, .max = 1 + rnd(2) * 64, .metadata = rnd(2) };
	bool extents = model.ei->flags & EXT4_FL_EXTENTS;
	struct ext4_handle h;

	begin(&h);
	if (extents)
		assert_int_equal(ext4_extent_split(&h, model.ei, to), 0);
	end(&h);
	while (c.from < c.to) {
		u64 before = c.to;

		begin(&h);
		assert_int_equal(
			extents ? ext4_extent_cut(&h, model.ei, &c) : ext4_indirect_cut(&h, model.ei, &c), 0);
		end(&h);
		assert_true(c.to < before && !c.bad);
	}
	begin(&h);
	if (extents)
		assert_int_equal(ext4_extent_shrink(&h, model.ei), 0);
	end(&h);
	for (u32 k = 0; k < PLACES; k++) {
		if (place_lblk(k) < lblk || place_lblk(k) >= to)
			continue;
		model.mapped -= model.at[k].pblk != 0;
		model.at[k].pblk = 0;
	}
}

/* Keys, order, no empty node. Returns the first key. */
static inline u64 check_node(const struct ext4_disk_extent_header *hdr, u32 depth, u32 *nodes)
{
	const struct ext4_disk_extent *e = (const void *)(hdr + 1);
	u32 n = le16_get(hdr->entries);

	assert_int_equal(le16_get(hdr->depth), depth);
	assert_true(n && n <= le16_get(hdr->max));
	for (u32 i = 0; i < n; i++) {
		const struct bh_ctx ctx = ext4_ctx_map(model.ei, depth - 1);
		struct buffer_head *bh;

		if (i)
			assert_true(le32_get(e[i].lblk) > le32_get(e[i - 1].lblk));
		if (!depth)
			continue;
		assert_int_equal(
			bh_read(vol_dev, ext4_extent_child((const void *)&e[i]), &ext4_extent_ops, &ctx, &bh),
			0);
		assert_int_equal(check_node(bh->data, depth - 1, nodes), le32_get(e[i].lblk));
		bh_put(bh);
		++*nodes;
	}
	return le32_get(e[0].lblk);
}

/* The map says what the model says, and the inode counts its blocks. *nodes: blocks of the map. */
static inline void model_check(u32 *nodes)
{
	const struct ext4_disk_extent_header *root = (const void *)model.ei->block;
	struct ext4_run run;

	*nodes = 0;
	for (u32 i = 0; i < PLACES;) {
		u64 lblk = place_lblk(i), n;

		assert_int_equal(ext4_map_blocks(model.ei, lblk, 64, &run), 0);
		assert_true(run.lblk <= lblk && lblk < run.lblk + run.len);
		n = MIN(run.lblk + run.len - lblk, (u64)SEG - i % SEG);
		for (u32 k = 0; k < n; k++, i++) {
			assert_int_equal(model.at[i].pblk,
					 run.pblk ? run.pblk + (place_lblk(i) - run.lblk) : 0);
			if (run.pblk)
				assert_int_equal(model.at[i].unwritten, run.unwritten);
		}
	}
	if (!(model.ei->flags & EXT4_FL_EXTENTS))
		return;
	if (le16_get(root->entries) || le16_get(root->depth))
		check_node(root, le16_get(root->depth), nodes);
	assert_int_equal(model.ei->vfs.blocks_512 >> (vol_es->block_bits - 9), model.mapped + *nodes);
}

/* One change of a kind that fits what is there. */
static inline void model_step(u32 cuts)
{
	u32 i = rnd(PLACES), n = 1 + rnd(PIECE);

	if (!model.at[i].pblk) {
		model_insert(i, n, rnd(2));
	} else if (rnd(100) < cuts) {
		u64 from = place_lblk(i), to = rnd(8) ? from + n : place_lblk(i + rnd(PLACES - i)) + 1;

		model_cut(from, rnd(64) ? to : EXT4_LBLK_END);
	} else if (model.at[i].unwritten && rnd(2)) {
		model_convert(i, n);
	} else {
		model_remap(i, n,
			    i && model.at[i - 1].pblk && rnd(3) ? model.at[i - 1].pblk + 1
								: rnd((u32)vol_es->blocks));
	}
}

#endif
