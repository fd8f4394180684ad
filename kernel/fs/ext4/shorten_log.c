/*
 * The journal goes before the end; see shorten.h. One that has extents: with old blocks O, new ones N, and promised means that they are not written:
 *
 *   closed, as before     [0, n) O
 *   after prepare         [0, n) O in one part of the map   │ [t, t + n) N, then A and Z, promised, in a node of its own
 *   after move            [0, n) N in node A                │ [t, t + n) O, then all nodes of the map that was, promised, in node Z
 *   after tidy            [0, n) N
 *
 * t is n, or where space is had in clusters, the next whole one: there each node has a cluster of the file to itself, since it has one of the volume, and
 * lies in it where it lies in that.
 *
 * A file may have promised blocks behind its end, whoever looks at it. Who mounts the volume reads the journal by the map as it lies, before he has
 * applied it. So nodes that lead to the log are whole on the device before the inode leads to them, and are never changed; the inode's own part of the
 * map is in one sector. The node of what is promised may be anything until the journal was applied.
 *
 * The journal in memory knows where its blocks are from when it was opened, and nothing of what changes here.
 */
#include "shorten.h"

#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define ROOT_PLACES 4u
#define PIECES_MAX  64u

static int load(struct ext4_super *es, struct ext4_inode **out)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err = ext4_inode_open(es, le32_get(es->disk.journal_inum), &ei);

	if (!err && !is_reg(&ei->vfs))
		err = corrupt(&es->vfs.health, "inode", ei->vfs.ino, "the journal is not a file");
	*out = err ? NULL : take(ei);
	return err;
}

/* Of a journal that has extents, or is prepared. */
static u64 log_blocks(const struct ext4_inode *ei)
{
	if (!ext4_has_extents(ei))
		return ext4_short_pointers_log(ei);
	return ext4_size(ei) >> ext4_inode_super(ei)->block_bits;
}

static u64 unit(const struct ext4_inode *ei)
{
	return 1ull << ext4_inode_super(ei)->cluster_bits;
}

/* Where the other set begins. */
static u64 twin_of(const struct ext4_inode *ei)
{
	return ALIGN_UP(log_blocks(ei), unit(ei));
}

/* Where the cluster of the nth block that is or was a node begins. */
static u64 node_lblk(const struct ext4_inode *ei, u32 nth)
{
	return 2 * twin_of(ei) + nth * unit(ei);
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

static int too_many(const struct ext4_inode *ei)
{
	return fail(-EOPNOTSUPP, "%s: its journal is in too many pieces to be moved",
		    ei->vfs.sb->health.name);
}

/* ---- nodes ---- */

struct leaf {
	u8 *block;
	u32 count, places;
};

static int leaf_new(const struct ext4_super *es, struct leaf *l)
{
	*l = (struct leaf){ .block = os_alloc_aligned(4096, MAX(ext4_block_bytes(es), 4096u)),
			    .places = places(es) };
	if (!l->block)
		return fail(-ENOMEM, "no memory for a block");
	memset(l->block, 0, ext4_block_bytes(es));
	return 0;
}

static int leaf_add(struct leaf *l, const struct ext4_inode *ei, u64 lblk, u64 len, u64 pblk, bool promised)
{
	u32 most = promised ? EXT4_EXTENT_UNWRITTEN_MAX : EXT4_EXTENT_INIT_MAX;
	struct ext4_disk_extent_header *hdr = (void *)l->block;

	for (u32 n; len; lblk += n, pblk += n, len -= n) {
		struct ext4_disk_extent *e = (struct ext4_disk_extent *)(hdr + 1) + l->count;

		if (l->count == l->places)
			return too_many(ei);
		n = (u32)MIN(len, (u64)most);
		*e = (struct ext4_disk_extent){
			.lblk = le32_put((u32)lblk),
			.len = le16_put((u16)(promised ? n + EXT4_EXTENT_INIT_MAX : n)),
			.start_hi = le16_put((u16)(pblk >> 32)),
			.start_lo = le32_put((u32)pblk),
		};
		l->count++;
	}
	return 0;
}

/* To the device, not by the cache. */
static int leaf_write(struct leaf *l, const struct ext4_inode *ei, u64 blk)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_disk_extent_header *hdr = (void *)l->block;
	struct ext4_disk_extent_tail *tail = (void *)(l->block + tail_off(es));

	*hdr = (struct ext4_disk_extent_header){ .magic = le16_put(EXT4_EXTENT_MAGIC),
						 .entries = le16_put((u16)l->count),
						 .max = le16_put((u16)l->places) };
	if (es->metadata_csum)
		tail->checksum = le32_put(ext4_csum_extent(ei->csum_seed, l->block, tail_off(es)));
	return blkdev_write(es->vfs.dev, blk << es->block_bits, l->block, ext4_block_bytes(es), 0);
}

static struct ext4_disk_extent_header *root_of(u8 *block)
{
	return (void *)block;
}

/* An index entry more. There is room. */
static void root_add(u8 *block, u64 lblk, u64 blk)
{
	struct ext4_disk_extent_header *hdr = root_of(block);
	struct ext4_disk_extent_idx *x = (struct ext4_disk_extent_idx *)(hdr + 1) + le16_get(hdr->entries);

	hdr->depth = le16_put(1);
	hdr->entries = le16_put(le16_get(hdr->entries) + 1);
	*x = (struct ext4_disk_extent_idx){ .lblk = le32_put((u32)lblk),
					    .leaf_lo = le32_put((u32)blk),
					    .leaf_hi = le16_put((u16)(blk >> 32)) };
}

/* ---- prepare ---- */

struct piece {
	u64 lblk, blk;
	u32 len;
};

/* Blocks that are reserved: the new ones, A and Z, the node for what is promised, and perhaps one for what the inode has now. */
struct places {
	struct piece piece[PIECES_MAX];
	u32 count;
	u64 promised, kept; /* 0: not needed */
};

static void give_back(struct ext4_super *es, const struct places *p)
{
	for (u32 i = 0; i < p->count; i++)
		ext4_blocks_unreserve(es, p->piece[i].blk, p->piece[i].len);
	if (p->promised)
		ext4_blocks_unreserve(es, p->promised, 1);
	if (p->kept)
		ext4_blocks_unreserve(es, p->kept, 1);
}

static int reserve_one(struct ext4_super *es, u64 *blk)
{
	u32 len;

	return ext4_blocks_reserve(es, es->first_data_blk, 1, EXT4_RESERVE_META, blk, &len);
}

/* For the blocks [at, at + len) of the file. */
static int reserve_part(struct ext4_inode *ei, u64 at, u64 len, struct places *p)
{
	struct ext4_super *es = ext4_inode_super(ei);
	int err = 0;

	for (u64 end = at + len; at < end && !err;) {
		struct piece *one = &p->piece[p->count];

		if (p->count == PIECES_MAX)
			return too_many(ei);
		one->lblk = at;
		err = ext4_blocks_reserve(es, es->first_data_blk, (u32)MIN(end - at, (u64)UINT32_MAX / 2),
					  EXT4_RESERVE_META, &one->blk, &one->len);
		p->count += !err;
		at += one->len;
	}
	return err;
}

static int reserve(struct ext4_inode *ei, u64 n, struct places *p)
{
	struct ext4_super *es = ext4_inode_super(ei);
	int err = reserve_part(ei, twin_of(ei), n, p);

	for (u32 i = 0; i < 2 && !err; i++)
		err = reserve_part(ei, node_lblk(ei, i), 1, p);
	if (!err)
		err = reserve_one(es, &p->promised);
	if (!err && !le16_get(root_of(ei->block)->depth))
		err = reserve_one(es, &p->kept);
	return err;
}

/* What the inode leads to then. */
static int write_nodes(struct ext4_inode *ei, const struct places *p)
{
	const struct ext4_disk_extent *e = (const void *)(root_of(ei->block) + 1);
	struct leaf kept = { .block = NULL }, promised = { .block = NULL };
	struct ext4_super *es = ext4_inode_super(ei);
	int err = leaf_new(es, &promised);

	for (u32 i = 0; i < p->count && !err; i++)
		err = leaf_add(&promised, ei, p->piece[i].lblk, p->piece[i].len, p->piece[i].blk, true);
	if (!err)
		err = leaf_write(&promised, ei, p->promised);
	if (!err && p->kept)
		err = leaf_new(es, &kept);
	for (u32 i = 0; p->kept && i < le16_get(root_of(ei->block)->entries) && !err; i++)
		err = leaf_add(&kept, ei, le32_get(e[i].lblk), ext4_extent_len(&e[i]),
			       ext4_extent_start(&e[i]), ext4_extent_unwritten(&e[i]));
	if (!err && p->kept)
		err = leaf_write(&kept, ei, p->kept);
	free(promised.block);
	free(kept.block);
	return err ? err : ext4_flush(es);
}

static int take_all(struct ext4_handle *h, const struct places *p)
{
	int err = ext4_blocks_take(h, p->promised, 1);

	if (!err && p->kept)
		err = ext4_blocks_take(h, p->kept, 1);
	for (u32 i = 0; i < p->count && !err; i++)
		err = ext4_blocks_take(h, p->piece[i].blk, p->piece[i].len);
	return err ? ext4_abort(h->es, err) : 0;
}

static int lead_there(struct ext4_inode *ei, const struct places *p)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u32 credits = (p->count + 2) * EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE;
	struct ext4_handle h;
	int err;

	if (es->journal && credits > jbd2_credits_max(es->journal))
		return too_many(ei);
	err = ext4_begin(es, credits, 0, &h);
	if (err)
		return err;
	err = take_all(&h, p);
	rw_write_lock(&ei->tree);
	if (!err && p->kept) {
		ext4_extent_root_init(ei->block);
		root_add(ei->block, 0, p->kept);
	}
	if (!err)
		root_add(ei->block, twin_of(ei), p->promised);
	rw_write_unlock(&ei->tree);
	ext4_inode_add_clusters(ei, (s64)(twin_of(ei) >> es->cluster_bits) + 3 + (p->kept != 0));
	if (!err)
		err = ext4_inode_write(&h, ei);
	return ext4_end(&h, err ? ext4_abort(es, err) : 0);
}

int ext4_short_log_prepare(struct ext4_short *s)
{
	struct ext4_super *es = s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	struct places p = { .count = 0 };
	u64 n;
	int err = load(es, &ei);

	if (err)
		return err;
	if (!ext4_has_extents(ei))
		return ext4_short_pointers_prepare(ei);
	n = log_blocks(ei);
	if (le16_get(root_of(ei->block)->depth) > 1 ||
	    (le16_get(root_of(ei->block)->depth) && le16_get(root_of(ei->block)->entries) == ROOT_PLACES))
		return too_many(ei);
	err = reserve(ei, n, &p);
	if (!err)
		err = write_nodes(ei, &p);
	if (err) {
		give_back(es, &p);
		return err;
	}
	return lead_there(ei, &p);
}

/* ---- move ---- */

/* What the map has at [from, from + n) comes to lie at `to`. */
static int leaf_take(struct leaf *l, struct ext4_inode *ei, u64 from, u64 n, u64 to, bool promised)
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
		err = leaf_add(l, ei, to + (at - from), len, run.pblk + (at - run.lblk), promised);
	}
	return err;
}

/* The new blocks are zeros, but for the log's superblock, which says that it is empty. */
static int fill_log(struct ext4_inode *ei, u64 n, u8 *block)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 first = 0, twin = twin_of(ei);
	struct ext4_run run;
	int err = ext4_map_blocks(ei, 0, 1, &run);

	if (!err)
		err = blkdev_read(es->vfs.dev, run.pblk << es->block_bits, block, ext4_block_bytes(es));
	for (u64 at = twin, len; at < twin + n && !err; at += len) {
		u64 blk;

		err = ext4_map_blocks(ei, at, n, &run);
		if (err)
			return err;
		blk = run.pblk + (at - run.lblk);
		len = MIN(run.lblk + run.len, twin + n) - at;
		first = at == twin ? blk : first;
		err = blkdev_zero(es->vfs.dev, blk << es->block_bits, len << es->block_bits);
	}
	return err ? err : blkdev_write(es->vfs.dev, first << es->block_bits, block, ext4_block_bytes(es), 0);
}

/* The node of the journal, and that of what is promised. */
static int fill_map(struct ext4_inode *ei, u64 n, u64 a, u64 z)
{
	const struct ext4_disk_extent_header *root = root_of(ei->block);
	const struct ext4_disk_extent_idx *x = (const void *)(root + 1);
	struct leaf log = { .block = NULL }, promised = { .block = NULL };
	u64 twin = twin_of(ei), mask = unit(ei) - 1;
	int err = leaf_new(ext4_inode_super(ei), &log);

	if (!err)
		err = leaf_new(ext4_inode_super(ei), &promised);
	if (!err)
		err = leaf_take(&log, ei, twin, n, 0, false);
	if (!err)
		err = leaf_take(&promised, ei, 0, n, twin, true);
	for (u32 i = 0; i < le16_get(root->entries) && !err; i++) {
		u64 node = ext4_extent_child(&x[i]);

		err = leaf_add(&promised, ei, node_lblk(ei, i) + (node & mask), 1, node, true);
	}
	if (!err)
		err = leaf_write(&log, ei, a);
	if (!err)
		err = leaf_write(&promised, ei, z);
	free(log.block);
	free(promised.block);
	return err;
}

/* All of the inode that changes lies in its first bytes, in one sector. */
static int switch_over(struct ext4_inode *ei, const u8 root[EXT4_IBLOCK_BYTES], u8 *block)
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
	memcpy(raw->block, root, EXT4_IBLOCK_BYTES);
	if (es->metadata_csum)
		ext4_csum_inode_put(es, ei->csum_seed, raw);
	at = ALIGN_DOWN((blk << es->block_bits) + off, (u64)sector);
	err = blkdev_flush(es->vfs.dev);
	if (!err)
		err = blkdev_write(es->vfs.dev, at, block + (at - (blk << es->block_bits)), sector, 0);
	return err ? err : blkdev_flush(es->vfs.dev);
}

/* The place of one promised block. */
static int promised_blk(struct ext4_inode *ei, u64 lblk, u64 *blk)
{
	struct ext4_run run;
	int err = ext4_map_blocks(ei, lblk, 1, &run);

	if (!err && (!run.pblk || !run.unwritten))
		err = corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			      "the journal has no place for another map");
	*blk = err ? 0 : run.pblk + (lblk - run.lblk);
	return err;
}

/* The nodes that its root leads to are written. */
static int new_map(struct ext4_inode *ei, u8 root[EXT4_IBLOCK_BYTES])
{
	u64 a, z;
	int err;

	if (!ext4_has_extents(ei))
		return ext4_short_pointers_map(ei, root);
	err = promised_blk(ei, node_lblk(ei, 0), &a);
	if (!err)
		err = promised_blk(ei, node_lblk(ei, 1), &z);
	if (!err)
		err = fill_map(ei, log_blocks(ei), a, z);
	if (err)
		return err;
	ext4_extent_root_init(root);
	root_add(root, 0, a);
	root_add(root, twin_of(ei), z);
	return 0;
}

int ext4_short_log_move(struct ext4_super *es)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	scoped(freep) u8 *block = os_alloc_aligned(4096, MAX(ext4_block_bytes(es), 4096u));
	u8 root[EXT4_IBLOCK_BYTES] __attribute__((aligned(4)));
	int err = block ? load(es, &ei) : fail(-ENOMEM, "no memory for a block");

	if (!err)
		err = fill_log(ei, log_blocks(ei), block);
	if (!err)
		err = new_map(ei, root);
	return err ? err : switch_over(ei, root, block);
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

/* Nodes of the map, and what it has from block n on, are such that can be freed. 0: it has nothing there. */
static int look_behind(struct ext4_inode *ei, u64 n)
{
	const struct ext4_disk_extent_header *root = root_of(ei->block);
	const struct ext4_disk_extent_idx *x = (const void *)(root + 1);
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_run run = { .lblk = n };
	int any = 0, err = 0;

	for (u64 at = n; !err; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, EXT4_LBLK_END - at, &run);
		if (err || (!run.pblk && run.last))
			break;
		any = 1;
		if (run.pblk)
			err = ext4_blocks_look(es, run.pblk + (at - run.lblk),
					       (u32)(run.lblk + run.len - at));
	}
	for (u32 i = 0; any && le16_get(root->depth) && i < le16_get(root->entries) && !err; i++)
		err = ext4_blocks_look(es, ext4_extent_child(&x[i]), 1);
	return err ? err : any;
}

/* Gives up what is behind the log. 1: there was nothing. */
static int cut(struct ext4_super *es, struct ext4_inode *ei)
{
	u64 n = ext4_size(ei) >> es->block_bits, log;
	int err;

	if (!ext4_has_extents(ei)) {
		log = es->journal ? jbd2_info(es->journal)->blocks : n;
		return n > log ? ext4_short_pointers_cut(ei, log) : 1;
	}
	err = look_behind(ei, n);
	return err > 0 ? ext4_map_cut(ei, n) : err ? err : 1;
}

int ext4_short_log_tidy(struct ext4_super *es)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err = ext4_journal_is_inside(es) ? load(es, &ei) : 0;

	if (err || !ei)
		return err;
	err = cut(es, ei);
	return err ? MIN(err, 0) : back_up(es, ei);
}
