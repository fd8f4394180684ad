/*
 * The journal goes before the end when it is mapped by pointers; see shorten.h. Such a file cannot have blocks behind its end, but a log may be shorter
 * than its file. With n blocks of the log, K of pointers in a map of 2n + K blocks, old blocks O, new ones N:
 *
 *   closed, as before     [0, n) O
 *   after prepare         [0, n) O │ [n, 2n) N │ [2n, 2n + K) K new blocks
 *   after move            [0, n) N │ [n, 2n) O │ [2n, 2n + K) the blocks of pointers that were; the new ones are those of pointers now
 *   after tidy            [0, n) N
 *
 * The file's length is never more or less than what is mapped: e2fsck takes a journal that is not so for a damaged one. Both maps have the same
 * shape, so the file has the same blocks before and after the move, which is the inode's fifteen pointers in one sector.
 */
#include "shorten.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define POINTERS     (EXT4_NDIR + 3u)
#define PIECE_BLOCKS 8192u
#define CREDITS_MORE (EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE)
#define CREDITS_LESS (EXT4_CREDITS_CUT + EXT4_CREDITS_INODE)

/* Blocks of the file. */
struct blocks {
	u32 *blk;
	u64 count, room;
};

static int blocks_new(struct blocks *b, u64 room)
{
	*b = (struct blocks){ .blk = calloc(room, sizeof(*b->blk)), .room = room };
	return b->blk ? 0 : fail(-ENOMEM, "no memory for the journal's map");
}

u64 ext4_short_pointers_nodes(const struct ext4_super *es, u64 blocks)
{
	u64 p = ext4_pointers_per_block(es), left = blocks - MIN(blocks, (u64)EXT4_NDIR), nodes = left != 0;

	left -= MIN(left, p);
	nodes += left ? 1 + DIV_ROUND_UP(MIN(left, p * p), p) : 0;
	left -= MIN(left, p * p);
	return nodes + (left ? 1 + DIV_ROUND_UP(left, p * p) + DIV_ROUND_UP(left, p) : 0);
}

/* Blocks of the file for a log of n. */
static u64 doubled(const struct ext4_super *es, u64 n)
{
	u64 nodes = 0, all;

	do {
		all = 2 * n + nodes;
		nodes = ext4_short_pointers_nodes(es, all);
	} while (all != 2 * n + nodes);
	return all;
}

static u64 file_blocks(const struct ext4_inode *ei)
{
	return ext4_size(ei) >> ext4_inode_super(ei)->block_bits;
}

/* ---- the map as it is ---- */

static int odd(const struct ext4_inode *ei)
{
	return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
		       "the journal's map is not that of a file without holes");
}

/* The block of pointers blk and those below it. `level` 1: its pointers are to data. */
static int add_nodes(struct ext4_inode *ei, u32 blk, u32 level, struct blocks *nodes)
{
	const struct bh_ctx ctx = ext4_ctx_map(ei, level);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const le32 *ptr;
	int err;

	if (nodes->count == nodes->room)
		return odd(ei);
	nodes->blk[nodes->count++] = blk;
	if (level == 1)
		return 0;
	err = bh_read(ei->vfs.sb->dev, blk, &ext4_indirect_ops, &ctx, &bh);
	ptr = err ? NULL : bh->data;
	for (u32 i = 0; i < ext4_pointers_per_block(ext4_inode_super(ei)) && !err; i++)
		if (le32_get(ptr[i]))
			err = add_nodes(ei, le32_get(ptr[i]), level - 1, nodes);
	return err;
}

/* All of them; there are as many as a file of this length has. */
static int nodes_of(struct ext4_inode *ei, struct blocks *nodes)
{
	const le32 *ptr = (const void *)ei->block;
	u64 want = ext4_short_pointers_nodes(ext4_inode_super(ei), file_blocks(ei));
	int err = blocks_new(nodes, want + 1);

	for (u32 k = 1; k <= POINTERS - EXT4_NDIR && !err; k++)
		if (le32_get(ptr[EXT4_NDIR + k - 1]))
			err = add_nodes(ei, le32_get(ptr[EXT4_NDIR + k - 1]), k, nodes);
	return err || nodes->count == want ? err : odd(ei);
}

static int data_of(struct ext4_inode *ei, struct blocks *data)
{
	u64 all = file_blocks(ei);
	struct ext4_run run;
	int err = blocks_new(data, all);

	for (u64 at = 0; at < all && !err; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, all - at, &run);
		if (!err && !run.pblk)
			err = odd(ei);
		for (u64 i = at; i < MIN(run.lblk + run.len, all) && !err; i++)
			data->blk[data->count++] = (u32)(run.pblk + (i - run.lblk));
	}
	return err;
}

int ext4_short_pointers_last(struct ext4_inode *ei, u64 *last)
{
	struct blocks nodes;
	int err = nodes_of(ei, &nodes);

	for (u64 i = 0; i < nodes.count && !err; i++)
		*last = MAX(*last, (u64)nodes.blk[i]);
	free(nodes.blk);
	return err;
}

/* ---- prepare, tidy: the file gets longer, and shorter ---- */

static int set_blocks(struct ext4_handle *h, struct ext4_inode *ei, u64 blocks)
{
	inode_set_size(&ei->vfs, blocks << ext4_inode_super(ei)->block_bits);
	return ext4_inode_write(h, ei);
}

static int add_piece(struct ext4_inode *ei, u64 at, u64 blk, u32 len)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_handle h;
	int err = ext4_begin(es, CREDITS_MORE, 0, &h);

	if (err) {
		ext4_blocks_unreserve(es, blk, len);
		return err;
	}
	rw_write_lock(&ei->tree);
	err = ext4_indirect_insert(&h, ei, at, len, blk);
	rw_write_unlock(&ei->tree);
	if (err) {
		ext4_blocks_unreserve(es, blk, len);
		return ext4_end(&h, err);
	}
	err = ext4_blocks_take(&h, blk, len);
	if (!err)
		err = set_blocks(&h, ei, at + len);
	return ext4_end(&h, err ? ext4_abort(es, err) : 0);
}

static int lengthen(struct ext4_inode *ei, u64 all)
{
	struct ext4_super *es = ext4_inode_super(ei);
	int err = 0;
	u32 len;

	for (u64 at = file_blocks(ei), blk; at < all && !err; at += len) {
		u64 want = MIN(MIN(all - at, (u64)ext4_indirect_piece(ei, at)), (u64)PIECE_BLOCKS);

		err = ext4_blocks_reserve(es, es->first_data_blk, (u32)want, EXT4_RESERVE_META, &blk, &len);
		if (!err)
			err = add_piece(ei, at, blk, len);
	}
	return err;
}

/* Blocks of the file from `from` on, and those of its map, are such that can be freed. */
static int look_behind(struct ext4_inode *ei, u64 from)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 all = file_blocks(ei);
	struct blocks nodes;
	struct ext4_run run;
	int err = nodes_of(ei, &nodes);

	for (u64 i = 0; i < nodes.count && !err; i++)
		err = ext4_blocks_look(es, nodes.blk[i], 1);
	free(nodes.blk);
	for (u64 at = from; at < all && !err; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, all - at, &run);
		if (!err && run.pblk)
			err = ext4_blocks_look(es, run.pblk + (at - run.lblk),
					       (u32)(run.lblk + run.len - at));
	}
	return err;
}

int ext4_short_pointers_cut(struct ext4_inode *ei, u64 blocks)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_handle h;
	int err = look_behind(ei, blocks);

	while (file_blocks(ei) > blocks && !err) {
		struct ext4_cut c = { .from = blocks, .to = file_blocks(ei), .max = UINT32_MAX };

		err = ext4_begin(es, CREDITS_LESS, EXT4_REVOKES_CUT, &h);
		if (err)
			return err;
		rw_write_lock(&ei->tree);
		err = ext4_indirect_cut(&h, ei, &c);
		rw_write_unlock(&ei->tree);
		err = ext4_end(&h, err ? err : set_blocks(&h, ei, c.to));
	}
	return err;
}

int ext4_short_pointers_prepare(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 n = file_blocks(ei), all = doubled(es, n);
	struct blocks nodes;
	int err = nodes_of(ei, &nodes), cut;
	char why[400];

	free(nodes.blk);
	if (!err && all > ext4_file_blocks_max(es, false))
		err = fail(-EOPNOTSUPP, "%s: its journal is too long to be moved", es->vfs.health.name);
	if (err)
		return err;
	err = lengthen(ei, all);
	if (!err)
		return 0;
	snprintf(why, sizeof(why), "%s", err_text());
	cut = ext4_short_pointers_cut(ei, n);
	return cut ? cut : fail(err, "%s", why);
}

/* ---- move ---- */

/* A map being written: what it leads to, and the blocks that it may lie in. */
struct map {
	struct ext4_super *es;
	const u32 *data;
	u64 blocks, at; /* of data; the next one */
	const u32 *node;
	u64 nodes;
};

/* A block of pointers for what comes next, written behind those below it. 0: no more is to come. */
static int write_node(struct map *m, u32 level, u32 *blk)
{
	u32 p = ext4_pointers_per_block(m->es);
	le32 *ptr;
	int err = 0;

	*blk = 0;
	if (m->at == m->blocks)
		return 0;
	ptr = os_alloc_aligned(4096, MAX(ext4_block_bytes(m->es), 4096u));
	if (!ptr)
		return fail(-ENOMEM, "no memory for a block");
	memset(ptr, 0, ext4_block_bytes(m->es));
	*blk = *m->node++;
	for (u32 i = 0; i < p && m->at < m->blocks && !err; i++) {
		u32 child = 0;

		if (level == 1)
			child = m->data[m->at++];
		else
			err = write_node(m, level - 1, &child);
		ptr[i] = le32_put(child);
	}
	if (!err)
		err = blkdev_write(m->es->vfs.dev, (u64)*blk << m->es->block_bits, ptr,
				   ext4_block_bytes(m->es), 0);
	free(ptr);
	return err;
}

static int write_map(struct map *m, le32 root[POINTERS])
{
	int err = 0;

	memset(root, 0, POINTERS * sizeof(*root));
	for (u32 i = 0; i < EXT4_NDIR; i++)
		root[i] = le32_put(m->data[m->at++]);
	for (u32 k = 1; k <= POINTERS - EXT4_NDIR && !err; k++) {
		u32 blk;

		err = write_node(m, k, &blk);
		root[EXT4_NDIR + k - 1] = le32_put(blk);
	}
	return err;
}

static void swap_blocks(u32 *a, u32 *b, u64 count)
{
	for (u64 i = 0; i < count; i++) {
		u32 one = a[i];

		a[i] = b[i];
		b[i] = one;
	}
}

u64 ext4_short_pointers_log(const struct ext4_inode *ei)
{
	u64 all = file_blocks(ei);

	return (all - ext4_short_pointers_nodes(ext4_inode_super(ei), all)) / 2;
}

int ext4_short_pointers_map(struct ext4_inode *ei, u8 root[EXT4_IBLOCK_BYTES])
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 n = ext4_short_pointers_log(ei);
	struct blocks nodes, data = { .blk = NULL };
	struct map m = { .es = es };
	int err = nodes_of(ei, &nodes);

	if (!err)
		err = data_of(ei, &data);
	if (!err && (n <= EXT4_NDIR || data.count != 2 * n + nodes.count))
		err = odd(ei);
	if (!err) {
		swap_blocks(data.blk, data.blk + n, n);
		swap_blocks(data.blk + 2 * n, nodes.blk, nodes.count);
		m.data = data.blk;
		m.blocks = data.count;
		m.node = nodes.blk;
		err = write_map(&m, (le32 *)(void *)root);
	}
	free(nodes.blk);
	free(data.blk);
	return err;
}
