/*
 * Blocks of a file go to other places, while the file stays what it is.
 *
 *   copy ─► the bytes are at the new place, which is reserved and nobody's ─► swap: for each piece one handle in which the new blocks are
 *   taken, the map leads there, and the old ones are freed
 *
 * Invariants
 *  1. A handle moves one extent, a part of it, or a cluster: so what a crash leaves is a file some of whose pieces have moved, each whole.
 *  2. Data is on the device before what says that it is a file's: the commit flushes it; without a journal copy does.
 *  3. What the file had is used again only after the map that does not lead there any more is durable. With a journal the freed-block
 *     gate sees to that; without one the old blocks stay taken until what was swapped is home.
 *  4. Nobody writes between copy and swap: what was copied is what the file has.
 *  5. Old blocks that a bitmap says are free already are corruption, and end the moving; the file is whole at its new place.
 *
 * Files whose data goes through the journal: the newest bytes may be in the cache, and are copied from there; what they had is forgotten as it
 * is freed. At the new place they are the file's with the commit that has the map.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define BUF_BYTES    (1u << 20)
#define MIXED_MAX    64u /* runs in a cluster */
#define METADATA_MAX 64u /* blocks of a step that are forgotten one by one */

static u64 cluster_mask(const struct ext4_inode *ei)
{
	return (1ull << ext4_inode_super(ei)->cluster_bits) - 1;
}

/* ---- bytes ---- */

static int buf_write(struct ext4_move *m)
{
	struct ext4_super *es = ext4_inode_super(m->ei);
	u32 n = m->buf_len;

	m->buf_len = 0;
	return n ? blkdev_write(es->vfs.dev, m->buf_blk << es->block_bits, m->buf, (u64)n << es->block_bits,
				0)
		 : 0;
}

/* What is newer in the cache than on the device. */
static void overlay(struct ext4_inode *ei, u64 blk, u32 len, u8 *bytes)
{
	u32 bs = ext4_block_bytes(ext4_inode_super(ei));

	for (u32 i = 0; ext4_jdata(ei) && i < len; i++) {
		struct buffer_head *bh = bh_find(ei->vfs.sb->dev, blk + i);

		if (bh)
			memcpy(bytes + (u64)i * bs, bh->data, bs);
		bh_put(bh);
	}
}

static int copy(struct ext4_move *m, u64 from, u64 to, u32 len)
{
	struct ext4_super *es = ext4_inode_super(m->ei);
	u32 room = BUF_BYTES >> es->block_bits, n;
	int err = 0;

	for (; len && !err; from += n, to += n, len -= n) {
		u8 *at;

		n = 0;
		if (m->buf_len == room || m->buf_blk + m->buf_len != to)
			err = buf_write(m);
		if (err)
			break;
		if (!m->buf_len)
			m->buf_blk = to;
		n = MIN(len, room - m->buf_len);
		at = m->buf + ((u64)m->buf_len << es->block_bits);
		err = blkdev_read(es->vfs.dev, from << es->block_bits, at, (u64)n << es->block_bits);
		if (err)
			break;
		overlay(m->ei, from, n, at);
		m->buf_len += n;
	}
	return err;
}

/* ---- copying ---- */

/* [lblk, lblk + len), which lies at `from`, has its place: the first of those that are reserved. */
static void add_piece(struct ext4_move *m, u64 from, u32 len, u32 mixed)
{
	if (!m->swapped && !m->pieces)
		m->first = m->lblk;
	m->piece[m->pieces++] = (struct ext4_moved){
		.lblk = m->lblk, .from = from, .to = m->blk, .len = len, .mixed = mixed
	};
	m->lblk += len;
	m->blk += len;
	m->len -= len;
}

/* One cluster, of which parts may be holes or unwritten. */
static int copy_mixed(struct ext4_move *m)
{
	u64 mask = cluster_mask(m->ei), end = m->lblk + mask + 1, base = 0, at;
	struct ext4_run run;
	u32 runs = 0;

	for (at = m->lblk; at < end; at = run.lblk + run.len) {
		int err = ext4_map_piece(m->ei, at, &run);
		u64 pblk = run.pblk + (at - run.lblk), n;

		if (err)
			return err;
		if (!run.pblk)
			continue;
		n = MIN(run.lblk + run.len, end) - at;
		if ((pblk & mask) != (at & mask) || (base && base != (pblk & ~mask)))
			return ext4_cluster_askew(m->ei, at);
		if (++runs > MIXED_MAX)
			return fail(-EOPNOTSUPP, "inode %llu: more than %u pieces in one cluster",
				    (unsigned long long)m->ei->vfs.ino, MIXED_MAX);
		base = pblk & ~mask;
		if (!run.unwritten)
			err = copy(m, pblk, m->blk + (at & mask), (u32)n);
		if (err)
			return err;
	}
	if (runs)
		add_piece(m, base, (u32)mask + 1, runs);
	else
		m->lblk = end;
	return 0;
}

/* What is at m->lblk, at most `max` blocks. */
static int copy_next(struct ext4_move *m, u32 max)
{
	struct ext4_super *es = ext4_inode_super(m->ei);
	u64 mask = cluster_mask(m->ei), pblk, whole;
	struct ext4_run run;
	int err = ext4_map_piece(m->ei, m->lblk, &run);

	if (err)
		return err;
	whole = (MIN(run.lblk + run.len, m->end) - m->lblk) & ~mask;
	if (!whole)
		return copy_mixed(m);
	if (!run.pblk) {
		m->lblk += whole;
		return 0;
	}
	pblk = run.pblk + (m->lblk - run.lblk);
	if ((pblk ^ m->lblk) & mask)
		return ext4_cluster_askew(m->ei, m->lblk);
	/* What one handle frees lies in two groups at most. */
	whole = MIN(MIN(whole, (u64)m->len), (u64)MIN(max, es->blocks_per_group));
	err = run.unwritten ? 0 : copy(m, pblk, m->blk, (u32)whole);
	if (!err)
		add_piece(m, pblk, (u32)whole, 0);
	return err;
}

/* Without a journal: what was swapped is home, then what the file had is free. */
static int settle(struct ext4_move *m)
{
	struct ext4_super *es = ext4_inode_super(m->ei);
	struct ext4_handle h;
	int err;

	if (!m->left_count)
		return 0;
	err = bcache_sync(es->vfs.dev);
	if (!err)
		err = ext4_flush(es);
	for (u32 i = 0; i < m->left_count && !err; i++) {
		err = ext4_begin(es, 2 * EXT4_CREDITS_GROUP, 0, &h);
		if (!err)
			err = ext4_end(&h, ext4_blocks_free(&h, m->left[i].blk, m->left[i].len, false));
	}
	m->left_count = 0;
	return err;
}

int ext4_move_copy(struct ext4_move *m)
{
	struct ext4_super *es = ext4_inode_super(m->ei);
	u32 cluster = 1u << es->cluster_bits,
	    max = ALIGN_UP(ext4_jdata(m->ei) ? METADATA_MAX : EXT4_MOVE_BYTES >> es->block_bits, cluster);
	u64 first = m->blk;
	int err = settle(m);

	if (!m->buf)
		m->buf = os_alloc_aligned(4096, BUF_BYTES);
	if (!err && !m->buf)
		err = fail(-ENOMEM, "no memory for a buffer");
	while (!err && m->lblk < m->end && m->len && m->pieces < EXT4_MOVE_PIECES && m->blk - first < max)
		err = copy_next(m, max - (u32)(m->blk - first));
	if (!err)
		err = buf_write(m);
	if (!err && m->pieces && !es->journal)
		err = ext4_flush(es);
	return err;
}

/* ---- swapping ---- */

static int remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk)
{
	return ext4_has_extents(ei) ? ext4_extent_remap(h, ei, lblk, len, pblk)
				    : ext4_indirect_remap(h, ei, lblk, len, pblk);
}

u32 ext4_cluster_remap_credits(const struct ext4_inode *ei, u32 runs)
{
	const struct ext4_disk_extent_header *root = (const void *)ei->block;
	u32 depth = ext4_has_extents(ei) ? MIN((u32)le16_get(root->depth), EXT4_EXTENT_DEPTH_MAX)
					 : EXT4_EXTENT_DEPTH_MAX;

	return 2 * EXT4_CREDITS_INSERT + runs * depth;
}

int ext4_cluster_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u64 pblk)
{
	struct ext4_run run;
	bool any = false;
	int err = 0;

	for (u64 at = lblk, end = lblk + cluster_mask(ei) + 1; at < end && !err; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, 1, &run);
		if (err || !run.pblk)
			continue;
		err = remap(h, ei, at, (u32)(MIN(run.lblk + run.len, end) - at), pblk + (at - lblk));
		any = any || !err;
	}
	return err && any ? ext4_abort(h->es, err) : err;
}

/* What the file had becomes free, or will. */
static int leave(struct ext4_handle *h, struct ext4_move *m, const struct ext4_moved *p)
{
	int err;

	if (!h->es->journal) {
		m->left[m->left_count++] = (struct ext4_left){ p->from, p->len };
		return 0;
	}
	err = ext4_blocks_free(h, p->from, p->len, ext4_jdata(m->ei));
	return err && err != -EUCLEAN ? ext4_abort(h->es, err) : err;
}

/* Fewer extents need fewer nodes: of those that lead to lblk one may go. Locks: tree W. */
static int pack_at(struct ext4_handle *h, struct ext4_inode *ei, u64 *lblk)
{
	int err = ext4_has_extents(ei) ? ext4_extent_pack(h, ei, lblk) : 0;

	return err || !ext4_has_extents(ei) ? err : ext4_extent_shrink(h, ei);
}

/* Locks: tree W. *taken: the new blocks are not reserved any more. */
static int swap_locked(struct ext4_handle *h, struct ext4_move *m, const struct ext4_moved *p, bool *taken)
{
	int err = ext4_blocks_take(h, p->to, p->len), undo;

	if (err)
		return err;
	*taken = true;
	err = p->mixed ? ext4_cluster_remap(h, m->ei, p->lblk, p->to)
		       : remap(h, m->ei, p->lblk, p->len, p->to);
	if (!err) {
		u64 at = p->lblk;

		err = leave(h, m, p);
		return err ? err : pack_at(h, m->ei, &at);
	}
	undo = ext4_blocks_free(h, p->to, p->len, false);
	return undo ? ext4_abort(h->es, undo) : err;
}

static int swap_piece(struct ext4_move *m, const struct ext4_moved *p, bool *taken)
{
	struct ext4_inode *ei = m->ei;
	struct ext4_handle h;
	int err = ext4_begin(ext4_inode_super(ei),
			     ext4_cluster_remap_credits(ei, MAX(p->mixed, 1u)) + 3 * EXT4_CREDITS_GROUP +
				     EXT4_CREDITS_CUT + EXT4_CREDITS_INODE,
			     EXT4_REVOKES_CUT + (ext4_jdata(ei) ? p->len : 0), &h);

	if (err)
		return err;
	rw_write_lock(&ei->tree);
	err = swap_locked(&h, m, p, taken);
	rw_write_unlock(&ei->tree);
	atomic_store(&ei->data_tid, h.jh.tid);
	return ext4_map_end(&h, ei, err);
}

/* The pieces from `first` on are given up. */
static void give_up(struct ext4_move *m, u32 first)
{
	for (u32 i = first; i < m->pieces; i++)
		ext4_blocks_unreserve(ext4_inode_super(m->ei), m->piece[i].to, m->piece[i].len);
	m->pieces = 0;
}

int ext4_move_swap(struct ext4_move *m)
{
	u32 done = 0;
	int err = 0;

	while (done < m->pieces && !err) {
		bool taken = false;

		err = swap_piece(m, &m->piece[done], &taken);
		done += taken;
	}
	m->swapped = m->swapped || done;
	give_up(m, done);
	return err;
}

/* Until nothing more can go of what was moved. */
static int pack(struct ext4_move *m)
{
	struct ext4_inode *ei = m->ei;
	u64 at = m->first;
	int err = 0;

	while (m->swapped && ext4_has_extents(ei) && at < m->lblk && !err) {
		struct ext4_handle h;

		err = ext4_begin(ext4_inode_super(ei), EXT4_CREDITS_CUT + EXT4_CREDITS_INODE,
				 EXT4_REVOKES_CUT, &h);
		if (err)
			break;
		rw_write_lock(&ei->tree);
		err = pack_at(&h, ei, &at);
		rw_write_unlock(&ei->tree);
		atomic_store(&ei->data_tid, h.jh.tid);
		err = ext4_map_end(&h, ei, err);
	}
	return err;
}

int ext4_move_end(struct ext4_move *m)
{
	int err;

	give_up(m, 0);
	free(take(m->buf));
	err = settle(m);
	return err ? err : pack(m);
}
