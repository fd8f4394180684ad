/*
 * The journal goes before the end; see shorten.h. With old blocks O, new ones N, and M, the block for the new map:
 *
 *   closed, as before     [0, n) O
 *   after prepare         [0, n) O   [n, 2n) N, promised   [2n] M, promised
 *   after move            [0, n) N   [n, 2n) O, promised   [2n …] nodes of the map that was, promised
 *   after tidy            [0, n) N
 *
 * A file may have promised blocks behind its end, whoever looks at it. The journal in memory knows where its blocks are from when it was opened, and
 * nothing of what changes here.
 */
#include "shorten.h"

#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define NODES_MAX 64u
#define CREDITS   (EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE)

static int load(struct ext4_super *es, struct ext4_inode **out)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei =
		ext4_inode_private(es, le32_get(es->disk.journal_inum));
	int err = ei ? ext4_inode_load(ei) : fail(-ENOMEM, "no memory for an inode");

	if (!err && !is_reg(&ei->vfs))
		err = corrupt(&es->vfs.health, "inode", ei->vfs.ino, "the journal is not a file");
	*out = err ? NULL : take(ei);
	return err;
}

static u64 log_blocks(const struct ext4_inode *ei)
{
	return ext4_size(ei) >> ext4_inode_super(ei)->block_bits;
}

/* Extents that the new map's one node has places for. */
static u32 places(const struct ext4_super *es)
{
	u32 bytes = ext4_block_bytes(es) - (u32)sizeof(struct ext4_disk_extent_header) -
		    (es->metadata_csum ? (u32)sizeof(struct ext4_disk_extent_tail) : 0);

	return bytes / (u32)sizeof(struct ext4_disk_extent);
}

static u32 tail_off(const struct ext4_super *es)
{
	return (u32)sizeof(struct ext4_disk_extent_header) +
	       places(es) * (u32)sizeof(struct ext4_disk_extent);
}

/* ---- nodes of the map ---- */

struct nodes {
	u64 blk[NODES_MAX];
	u32 count;
};

static int too_many(const struct ext4_inode *ei)
{
	return fail(-EOPNOTSUPP, "%s: its journal is in too many pieces to be moved",
		    ei->vfs.sb->health.name);
}

static int find_nodes(struct ext4_inode *ei, const void *node, u32 depth, struct nodes *n)
{
	const struct ext4_disk_extent_header *hdr = node;
	const struct ext4_disk_extent_idx *x = (const void *)(hdr + 1);
	int err = 0;

	for (u32 i = 0; i < le16_get(hdr->entries) && depth && !err; i++) {
		const struct bh_ctx ctx = ext4_ctx_map(ei, depth - 1);
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (n->count == NODES_MAX)
			return too_many(ei);
		n->blk[n->count++] = ext4_extent_child(&x[i]);
		err = bh_read(ei->vfs.sb->dev, ext4_extent_child(&x[i]), &ext4_extent_ops, &ctx, &bh);
		if (!err)
			err = find_nodes(ei, bh->data, depth - 1, n);
	}
	return err;
}

/* ---- prepare ---- */

static int insert(struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_handle h;
	int err = ext4_begin(es, CREDITS, 0, &h), end;

	if (err)
		return err;
	rw_write_lock(&ei->tree);
	err = ext4_blocks_take(&h, pblk, len);
	if (!err) {
		err = ext4_map_insert(&h, ei, lblk, len, pblk, true);
		if (err)
			err = ext4_abort(es, err);
	}
	rw_write_unlock(&ei->tree);
	end = ext4_inode_write(&h, ei);
	return ext4_end(&h, err ? err : end ? ext4_abort(es, end) : 0);
}

int ext4_short_log_prepare(struct ext4_short *s)
{
	struct ext4_super *es = s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	u64 n, end;
	int err = load(es, &ei);

	if (err)
		return err;
	if (!(ei->flags & EXT4_FL_EXTENTS))
		return fail(-EOPNOTSUPP, "%s: its journal is mapped by pointers, and cannot be moved",
			    es->vfs.health.name);
	n = log_blocks(ei);
	end = 2 * n + 1;
	for (u64 at = n; at < end && !err;) {
		u32 want = (u32)MIN((at < 2 * n ? 2 * n : end) - at, (u64)EXT4_EXTENT_UNWRITTEN_MAX), len;
		u64 blk;

		err = ext4_blocks_reserve(es, es->first_data_blk, want, EXT4_RESERVE_META, &blk, &len);
		if (err)
			break;
		err = insert(ei, at, len, blk);
		if (err)
			ext4_blocks_unreserve(es, blk, len);
		at += len;
	}
	return err;
}

/* ---- move ---- */

/* A new map's one node. */
struct leaf {
	struct ext4_disk_extent_header *hdr; /* at the beginning of a block */
	u32 count, places;
};

static int leaf_add(struct leaf *l, const struct ext4_inode *ei, u64 lblk, u64 len, u64 pblk, bool unwritten)
{
	u32 most = unwritten ? EXT4_EXTENT_UNWRITTEN_MAX : EXT4_EXTENT_INIT_MAX;

	for (u32 n; len; lblk += n, pblk += n, len -= n) {
		struct ext4_disk_extent *e = (struct ext4_disk_extent *)(l->hdr + 1) + l->count;

		if (l->count == l->places)
			return too_many(ei);
		n = (u32)MIN(len, (u64)most);
		*e = (struct ext4_disk_extent){
			.lblk = le32_put((u32)lblk),
			.len = le16_put((u16)(unwritten ? n + EXT4_EXTENT_INIT_MAX : n)),
			.start_hi = le16_put((u16)(pblk >> 32)),
			.start_lo = le32_put((u32)pblk),
		};
		l->count++;
	}
	return 0;
}

/* What the map has at [from, from + n) comes to lie at `to`. */
static int leaf_take(struct leaf *l, struct ext4_inode *ei, u64 from, u64 n, u64 to, bool unwritten)
{
	struct ext4_run run;
	int err = 0;

	for (u64 at = from, len; at < from + n && !err; at += len) {
		err = ext4_map_blocks(ei, at, n, &run);
		if (err)
			return err;
		len = MIN(run.lblk + run.len, from + n) - at;
		if (!run.pblk)
			return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino, "the journal has a hole");
		err = leaf_add(l, ei, to + (at - from), len, run.pblk + (at - run.lblk), unwritten);
	}
	return err;
}

/* The new blocks are zeros, but for the log's superblock, which says that it is empty. */
static int fill_log(struct ext4_inode *ei, u64 n, u8 *block)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_run run;
	u64 first = 0;
	int err = ext4_map_blocks(ei, 0, 1, &run);

	if (!err)
		err = blkdev_read(es->vfs.dev, run.pblk << es->block_bits, block, ext4_block_bytes(es));
	for (u64 at = n, len; at < 2 * n && !err; at += len) {
		u64 blk;

		err = ext4_map_blocks(ei, at, n, &run);
		if (err)
			return err;
		blk = run.pblk + (at - run.lblk);
		len = MIN(run.lblk + run.len, 2 * n) - at;
		first = at == n ? blk : first;
		err = blkdev_zero(es->vfs.dev, blk << es->block_bits, len << es->block_bits);
	}
	return err ? err : blkdev_write(es->vfs.dev, first << es->block_bits, block, ext4_block_bytes(es), 0);
}

static int fill_map(struct ext4_inode *ei, u64 n, u64 map_blk, u8 *block)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct leaf l = { .hdr = (void *)block, .places = places(es) };
	struct nodes nodes = { .count = 0 };
	struct ext4_disk_extent_tail *tail = (void *)(block + tail_off(es));
	u32 depth = le16_get(((const struct ext4_disk_extent_header *)(const void *)ei->block)->depth);
	int err = find_nodes(ei, ei->block, depth, &nodes);

	memset(block, 0, ext4_block_bytes(es));
	if (!err)
		err = leaf_take(&l, ei, n, n, 0, false);
	if (!err)
		err = leaf_take(&l, ei, 0, n, n, true);
	for (u32 i = 0; i < nodes.count && !err; i++)
		err = leaf_add(&l, ei, 2 * n + i, 1, nodes.blk[i], true);
	if (err)
		return err;
	*l.hdr = (struct ext4_disk_extent_header){ .magic = le16_put(EXT4_EXTENT_MAGIC),
						   .entries = le16_put((u16)l.count),
						   .max = le16_put((u16)l.places) };
	if (es->metadata_csum)
		tail->checksum = le32_put(ext4_csum_extent(ei->csum_seed, block, tail_off(es)));
	return blkdev_write(es->vfs.dev, map_blk << es->block_bits, block, ext4_block_bytes(es), 0);
}

/* The root of a map that has one node. */
static void point_to(u8 *root, u64 blk)
{
	struct ext4_disk_extent_header *hdr = (void *)root;
	struct ext4_disk_extent_idx *x = (void *)(hdr + 1);

	ext4_extent_root_init(root);
	hdr->entries = le16_put(1);
	hdr->depth = le16_put(1);
	*x = (struct ext4_disk_extent_idx){ .leaf_lo = le32_put((u32)blk),
					    .leaf_hi = le16_put((u16)(blk >> 32)) };
}

/* All of the inode that changes lies in its first bytes, in one sector. */
static int switch_over(struct ext4_inode *ei, u64 map_blk, u8 *block)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u32 sector = MAX(es->vfs.dev->sector_bytes, 512u), off;
	struct ext4_disk_inode *raw;
	u64 blk, at;
	int err = ext4_inode_where(es, ei->vfs.ino, &blk, &off);

	if (!err)
		err = blkdev_read(es->vfs.dev, blk << es->block_bits, block, ext4_block_bytes(es));
	if (err)
		return err;
	raw = (void *)(block + off);
	point_to((u8 *)raw->block, map_blk);
	if (es->metadata_csum)
		ext4_csum_inode_put(es, ei->csum_seed, raw);
	at = ALIGN_DOWN((blk << es->block_bits) + off, (u64)sector);
	err = blkdev_flush(es->vfs.dev);
	if (!err)
		err = blkdev_write(es->vfs.dev, at, block + (at - (blk << es->block_bits)), sector, 0);
	return err ? err : blkdev_flush(es->vfs.dev);
}

int ext4_short_log_move(struct ext4_super *es)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	scoped(freep) u8 *block = os_alloc_aligned(4096, MAX(ext4_block_bytes(es), 4096u));
	struct ext4_run run;
	u64 n, map_blk;
	int err = block ? load(es, &ei) : fail(-ENOMEM, "no memory for a block");

	if (err)
		return err;
	n = log_blocks(ei);
	err = ext4_map_blocks(ei, 2 * n, 1, &run);
	if (err || !run.pblk || !run.unwritten)
		return err ? err
			   : corrupt(&es->vfs.health, "inode", ei->vfs.ino,
				     "the journal has no place for another map");
	map_blk = run.pblk + (2 * n - run.lblk);
	err = fill_log(ei, n, block);
	if (!err)
		err = fill_map(ei, n, map_blk, block);
	return err ? err : switch_over(ei, map_blk, block);
}

/* ---- tidy ---- */

/* The superblock's copy of the map. */
static int back_up(struct ext4_super *es, struct ext4_inode *ei)
{
	struct ext4_handle h;
	struct ext4_disk_super *d;
	int err = ext4_begin(es, 1, 0, &h);

	if (err)
		return err;
	err = ext4_super_join(&h);
	if (!err) {
		d = ext4_super_lock(es);
		ext4_journal_backup(d, ei->block, ext4_size(ei));
		ext4_super_unlock(es);
	}
	return ext4_end(&h, err);
}

int ext4_short_log_tidy(struct ext4_super *es)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	struct ext4_run run;
	u64 n;
	int err = ext4_journal_is_inside(es) ? load(es, &ei) : 0;

	if (err || !ei || !(ei->flags & EXT4_FL_EXTENTS))
		return err;
	n = log_blocks(ei);
	err = ext4_map_blocks(ei, n, 1, &run);
	if (err || (!run.pblk && run.last))
		return err;
	err = ext4_map_cut(ei, n);
	return err ? err : back_up(es, ei);
}
