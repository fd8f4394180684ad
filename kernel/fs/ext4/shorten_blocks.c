/*
 * Blocks behind the end go before it: of files and directories, of their maps, of attributes, of the files of quotas and of orphans. Each piece is
 * copied to its new place, which is nobody's yet, and a handle then takes that, makes the map lead there, and frees the old one. The
 * commit flushes the device first, so what the map leads to is there.
 *
 * What is copied is what lies on the device: the volume was just opened and nothing changes but maps. Quota's records do change, with nodes of maps
 * that are charged; so its files are moved first, before anybody looks at them.
 *
 * Where space is had in clusters, a piece is whole clusters in one extent, or one cluster with whatever in it is mapped: no cluster of a file is ever at
 * two places. A node of a map, or a block of attributes, has its own.
 *
 * A block that is shared, of attributes, gets a copy with the first inode; the others find that one, and the last one frees the old.
 * Who frees a block whose bitmap cannot be read leaves it taken for a check to find; so bitmaps are looked at before anything changes.
 */
#include "shorten.h"

#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define COPY_BYTES     (1u << 20)
#define METADATA_MAX   64u /* blocks of a piece that are forgotten one by one */
#define CREDITS_PIECE  (3 * EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE)
#define CREDITS_NODE   (2 + 2 * EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE)
#define CREDITS_XATTRS (EXT4_CREDITS_XATTR + EXT4_CREDITS_INODE)

struct mover {
	struct ext4_short *s;
	struct ext4_inode *ei;
	u64 goal;
	u8 *buf; /* [COPY_BYTES] */
	u64 done;
};

/* What moves at once: [lblk, lblk + len), which lies at `from`. */
struct piece {
	u64 lblk, from;
	u32 len;
	u32 mixed; /* a cluster, with so many runs in it; 0: all is of one kind */
	bool unwritten;
};

static u64 cluster_mask(const struct ext4_inode *ei)
{
	return (1ull << ext4_inode_super(ei)->cluster_bits) - 1;
}

/* It has blocks, and they are in a map. */
static bool is_mapped(const struct ext4_inode *ei)
{
	u32 type = ei->vfs.mode & S_IFMT;

	if (ei->flags & EXT4_FL_INLINE_DATA || ext4_inode_is_fast_symlink(ei))
		return false;
	return type == S_IFREG || type == S_IFDIR || type == S_IFLNK;
}

static bool is_quota_file(const struct ext4_super *es, u64 ino)
{
	for (u32 i = 0; es->quotas && i < QUOTA_KINDS; i++)
		if (es->quotas->file[i].ei && es->quotas->file[i].ei->vfs.ino == ino)
			return true;
	return false;
}

static bool is_orphan_file(const struct ext4_super *es, u64 ino)
{
	return ext4_has_compat(es, EXT4_COMPAT_ORPHAN_FILE) && ino == le32_get(es->disk.orphan_file_inum);
}

/* Its blocks may be in the journal. */
static bool is_metadata(const struct ext4_inode *ei)
{
	const struct ext4_super *es = ext4_inode_super(ei);

	return !is_reg(&ei->vfs) || ei->flags & EXT4_FL_EA_INODE || ext4_jdata(ei) ||
	       is_quota_file(es, ei->vfs.ino) || is_orphan_file(es, ei->vfs.ino);
}

/* ---- content ---- */

static int copy(struct mover *m, u64 from, u64 to, u32 len)
{
	struct ext4_super *es = m->s->es;
	u32 most = MAX(COPY_BYTES >> es->block_bits, 1u), n;
	int err = 0;

	for (; len && !err; from += n, to += n, len -= n) {
		n = MIN(len, most);
		err = blkdev_read(es->vfs.dev, from << es->block_bits, m->buf, (u64)n << es->block_bits);
		if (!err)
			err = blkdev_write(es->vfs.dev, to << es->block_bits, m->buf,
					   (u64)n << es->block_bits, 0);
	}
	return err;
}

/* Blocks of the orphan file tell where they lie. */
static int copy_orphans(struct mover *m, u64 to, u32 len)
{
	struct ext4_super *es = m->s->es;
	int err = 0;

	for (u32 i = 0; i < len && !err; i++) {
		ext4_orphan_block_init(es, m->ei->csum_seed, to + i, m->buf);
		err = blkdev_write(es->vfs.dev, (to + i) << es->block_bits, m->buf, ext4_block_bytes(es), 0);
	}
	return err;
}

static int copy_run(struct mover *m, u64 from, u64 to, u32 len)
{
	return is_orphan_file(m->s->es, m->ei->vfs.ino) ? copy_orphans(m, to, len) : copy(m, from, to, len);
}

/* What is written in a cluster. */
static int copy_mixed(struct mover *m, const struct piece *p, u64 to)
{
	u64 end = p->lblk + p->len;
	struct ext4_run run;
	int err = 0;

	for (u64 at = p->lblk; at < end && !err; at = run.lblk + run.len) {
		u64 off = at - p->lblk;

		err = ext4_map_piece(m->ei, at, &run);
		if (!err && run.pblk && !run.unwritten)
			err = copy_run(m, p->from + off, to + off, (u32)(MIN(run.lblk + run.len, end) - at));
	}
	return err;
}

static int copy_piece(struct mover *m, const struct piece *p, u64 to)
{
	if (p->mixed)
		return copy_mixed(m, p, to);
	return p->unwritten ? 0 : copy_run(m, p->from, to, p->len);
}

/* Blocks that maps may need. What turns out to be missing half way would be the end of the mount. */
static int room_for_nodes(struct ext4_super *es)
{
	int err = ext4_blocks_promise(es, 2 * EXT4_EXTENT_DEPTH_MAX, EXT4_RESERVE_META);

	if (!err)
		ext4_blocks_unpromise(es, 2 * EXT4_EXTENT_DEPTH_MAX);
	return err;
}

static int lead_there(struct ext4_handle *h, struct ext4_inode *ei, const struct piece *p, u64 to)
{
	if (p->mixed)
		return ext4_cluster_remap(h, ei, p->lblk, to);
	return ext4_has_extents(ei) ? ext4_extent_remap(h, ei, p->lblk, p->len, to)
				    : ext4_indirect_remap(h, ei, p->lblk, p->len, to);
}

static int remap(struct mover *m, const struct piece *p, u64 to)
{
	struct ext4_super *es = m->s->es;
	struct ext4_inode *ei = m->ei;
	bool metadata = is_metadata(ei);
	u32 credits = CREDITS_PIECE + ext4_cluster_remap_credits(ei, p->mixed);
	struct ext4_handle h;
	int err = ext4_begin(es, credits, metadata ? p->len : 0, &h), end;

	if (err)
		return err;
	rw_write_lock(&ei->tree);
	err = ext4_blocks_take(&h, to, p->len);
	if (err) {
		rw_write_unlock(&ei->tree);
		return ext4_end(&h, err);
	}
	err = lead_there(&h, ei, p, to);
	if (!err)
		err = ext4_blocks_free(&h, p->from, p->len, metadata);
	rw_write_unlock(&ei->tree);
	end = ext4_inode_write(&h, ei);
	err = err ? err : end;
	return ext4_end(&h, err ? ext4_abort(es, err) : 0);
}

/* p->len: how many were moved. */
static int move_piece(struct mover *m, struct piece *p)
{
	struct ext4_super *es = m->s->es;
	u64 to;
	u32 got;
	int err = ext4_blocks_reserve(es, m->goal, p->len, EXT4_RESERVE_META, &to, &got);

	if (err)
		return err;
	p->len = got;
	err = room_for_nodes(es);
	if (!err)
		err = ext4_blocks_look(es, p->from, got);
	if (!err)
		err = copy_piece(m, p, to);
	if (!err)
		err = remap(m, p, to);
	if (err) {
		ext4_blocks_unreserve(es, to, got);
		return err;
	}
	m->goal = to + got;
	m->done += got;
	return 0;
}

/* Counts the runs of a cluster of the file, which have to lie in one. */
static int look_at_cluster(struct mover *m, struct piece *p)
{
	struct ext4_super *es = m->s->es;
	u64 mask = cluster_mask(m->ei), end = p->lblk + p->len;
	struct ext4_run run;
	u32 credits;

	for (u64 at = p->lblk; at < end; at = run.lblk + run.len) {
		int err = ext4_map_piece(m->ei, at, &run);
		u64 pblk = run.pblk + (at - run.lblk);

		if (err)
			return err;
		if (run.pblk && pblk != p->from + (at & mask))
			return ext4_cluster_askew(m->ei, at);
		p->mixed += run.pblk != 0;
	}
	credits = CREDITS_PIECE + ext4_cluster_remap_credits(m->ei, p->mixed);
	if (es->journal && credits > jbd2_credits_max(es->journal))
		return fail(
			-EOPNOTSUPP,
			"%s: inode %llu has %u pieces in one cluster, more than its journal can change at "
			"once",
			es->vfs.health.name, (unsigned long long)m->ei->vfs.ino, p->mixed);
	return 0;
}

/* The next piece of [first, last), which is of one kind and lies at pblk. */
static int next_piece(struct mover *m, u64 first, u64 last, u64 pblk, struct piece *p)
{
	u64 mask = cluster_mask(m->ei),
	    most = is_metadata(m->ei) ? MAX((u64)METADATA_MAX, mask + 1) : (u64)COPY_BYTES * 4;

	if (mask && !ext4_has_extents(m->ei))
		return corrupt(&m->ei->vfs.sb->health, "inode", m->ei->vfs.ino,
			       "mapped by pointers, where space is had in clusters: check the volume first");
	if ((pblk ^ first) & mask)
		return ext4_cluster_askew(m->ei, first);
	p->lblk = first & ~mask;
	p->from = pblk & ~mask;
	if (p->lblk == first && last - first > mask) {
		p->len = (u32)MIN((last - first) & ~mask, most);
		return 0;
	}
	p->len = (u32)mask + 1;
	return look_at_cluster(m, p);
}

/* What of the run lies behind the end. *next: where to go on. */
static int move_run(struct mover *m, const struct ext4_run *run, u64 at, u64 *next)
{
	u64 end = m->s->end, first = MAX(at, run->lblk), pblk = run->pblk + (first - run->lblk),
	    last = run->lblk + run->len;
	struct piece p = { .unwritten = run->unwritten };
	int err;

	if (pblk < end) {
		first += MIN(end - pblk, last - first);
		pblk = run->pblk + (first - run->lblk);
	}
	*next = first;
	if (first == last)
		return 0;
	err = next_piece(m, first, last, pblk, &p);
	if (!err && !ext4_has_extents(m->ei))
		p.len = MIN(p.len, ext4_indirect_piece(m->ei, first));
	if (!err)
		err = move_piece(m, &p);
	*next = p.lblk + p.len;
	return err;
}

static int move_content(struct mover *m)
{
	struct shorten *what = m->s->what;
	struct ext4_run run = { 0 };
	int err = 0;

	for (u64 at = 0, next; !err && at < EXT4_LBLK_END; at = next) {
		err = ext4_map_piece(m->ei, at, &run);
		if (err || (!run.pblk && run.last))
			break;
		next = run.lblk + run.len;
		if (run.pblk)
			err = move_run(m, &run, at, &next);
		if (!err && what->progress)
			err = what->progress(what->ctx, "blocks", m->done, m->s->blocks);
	}
	return err;
}

/* ---- maps ---- */

/* A pointer to a node of a map, in another node or in the inode. */
struct edge {
	struct buffer_head *up; /* NULL: the inode */
	void *entry;
	u32 depth; /* of the node that it leads to */
};

static u64 edge_blk(const struct ext4_inode *ei, const struct edge *e)
{
	return ext4_has_extents(ei) ? ext4_extent_child(e->entry) : le32_get(*(const le32 *)e->entry);
}

static void edge_set(const struct ext4_inode *ei, const struct edge *e, u64 blk)
{
	struct ext4_disk_extent_idx *x = e->entry;

	if (ext4_has_extents(ei)) {
		x->leaf_lo = le32_put((u32)blk);
		x->leaf_hi = le16_put((u16)(blk >> 32));
	} else {
		*(le32 *)e->entry = le32_put((u32)blk);
	}
}

static int node_read(const struct ext4_inode *ei, u64 blk, u32 depth, struct buffer_head **out)
{
	const struct bh_ctx ctx = ext4_ctx_map(ei, depth);

	return bh_read(ei->vfs.sb->dev, blk, ext4_has_extents(ei) ? &ext4_extent_ops : &ext4_indirect_ops,
		       &ctx, out);
}

static int move_node_in(struct ext4_handle *h, struct mover *m, const struct edge *e)
{
	struct ext4_inode *ei = m->ei;
	const struct bh_ctx ctx = ext4_ctx_map(ei, e->depth);
	scoped(bh_putp) struct buffer_head *old = NULL;
	scoped(bh_putp) struct buffer_head *new = NULL;
	u64 from = edge_blk(ei, e), to;
	int err = node_read(ei, from, e->depth, &old);

	if (!err)
		err = ext4_block_new(h, m->goal, &to);
	if (err)
		return err;
	err = bh_get_new(h->es->vfs.dev, to, old->ops, &ctx, &new);
	if (!err)
		err = ext4_access(h, new);
	if (!err && e->up)
		err = ext4_access(h, e->up);
	if (!err && !ext4_has_extents(ei) && to > UINT32_MAX)
		err = fail(-ENOSPC, "no free block that a block map could point to");
	if (err)
		return ext4_abort(h->es, err);
	memcpy(new->data, old->data, old->size_bytes);
	ext4_dirty(h, new);
	edge_set(ei, e, to);
	if (e->up)
		ext4_dirty(h, e->up);
	err = ext4_blocks_free(h, from, 1, true);
	return err ? ext4_abort(h->es, err) : 0;
}

static int move_node(struct mover *m, const struct edge *e)
{
	struct ext4_handle h;
	int err = ext4_blocks_look(m->s->es, edge_blk(m->ei, e), 1), end;

	if (!err)
		err = ext4_begin(m->s->es, CREDITS_NODE, 1, &h);
	if (err)
		return err;
	rw_write_lock(&m->ei->tree);
	err = move_node_in(&h, m, e);
	rw_write_unlock(&m->ei->tree);
	end = ext4_inode_write(&h, m->ei);
	m->done++;
	return ext4_end(&h, err ? err : end);
}

static int move_nodes(struct mover *m, struct buffer_head *up, void *first, u32 count, u32 bytes, u32 depth);

static int move_nodes_of(struct mover *m, const struct edge *e)
{
	u32 n = ext4_pointers_per_block(m->s->es);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_extent_header *hdr;
	int err = node_read(m->ei, edge_blk(m->ei, e), e->depth, &bh);

	if (err)
		return err;
	hdr = bh->data;
	return ext4_has_extents(m->ei) ? move_nodes(m, bh, hdr + 1, le16_get(hdr->entries),
						    sizeof(struct ext4_disk_extent), e->depth)
				       : move_nodes(m, bh, bh->data, n, sizeof(le32), e->depth);
}

/* Of a node `depth` levels above the leaves: what it leads to. Pointers' lowest blocks lead to data. */
static int move_nodes(struct mover *m, struct buffer_head *up, void *first, u32 count, u32 bytes, u32 depth)
{
	u32 least = ext4_has_extents(m->ei) ? 0 : 1;
	int err = 0;

	for (u32 i = 0; i < count && depth > least && !err; i++) {
		const struct edge e = { up, (u8 *)first + (size_t)i * bytes, depth - 1 };

		if (!edge_blk(m->ei, &e))
			continue;
		if (edge_blk(m->ei, &e) >= m->s->end)
			err = move_node(m, &e);
		if (!err)
			err = move_nodes_of(m, &e);
	}
	return err;
}

static int move_map(struct mover *m)
{
	struct ext4_inode *ei = m->ei;
	struct ext4_disk_extent_header *hdr = (void *)ei->block;
	le32 *ptr = (void *)ei->block;
	u32 depth = le16_get(hdr->depth);
	int err = 0;

	if (ext4_has_extents(ei))
		return depth > EXT4_EXTENT_DEPTH_MAX ? -EUCLEAN
						     : move_nodes(m, NULL, hdr + 1, le16_get(hdr->entries),
								  sizeof(struct ext4_disk_extent), depth);
	for (u32 i = 0; i < 3 && !err; i++)
		err = move_nodes(m, NULL, ptr + EXT4_NDIR + i, 1, sizeof(le32), i + 2);
	return err;
}

/* ---- inodes ---- */

static int move_xattrs(struct mover *m)
{
	struct ext4_handle h;
	int err, end;

	if (m->ei->xattr_blk < m->s->end)
		return 0;
	err = ext4_blocks_look(m->s->es, m->ei->xattr_blk, 1);
	if (!err)
		err = ext4_begin(m->s->es, CREDITS_XATTRS, 1, &h);
	if (err)
		return err;
	err = ext4_xattr_block_move(&h, m->ei);
	end = ext4_inode_write(&h, m->ei);
	m->done++;
	return ext4_end(&h, err ? err : end ? ext4_abort(h.es, end) : 0);
}

static int move_inode(struct mover *m, struct ext4_inode *ei)
{
	struct ext4_super *es = m->s->es;
	u64 start = ext4_group_start(es, ext4_ino_group(es, ei->vfs.ino));
	int err = 0;

	m->ei = ei;
	m->goal = start < m->s->end ? start : es->first_data_blk;
	if (is_mapped(ei)) {
		err = move_content(m);
		if (!err)
			err = move_map(m);
	}
	return err ? err : move_xattrs(m);
}

static int move_if_any(void *ctx, u64 ino)
{
	struct mover *m = ctx;
	struct ext4_super *es = m->s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err;

	/* Bad blocks stay; what is kept for descriptors is a matter of shorten_end.c. */
	if (ino == EXT4_INO_BAD || ino == EXT4_INO_RESIZE || ino == le32_get(es->disk.journal_inum) ||
	    is_quota_file(es, ino))
		return 0;
	err = ext4_inode_open(es, ino, &ei);
	if (err == -ESTALE && ino < es->first_ino) {
		err_clear();
		return 0;
	}
	return err ? err : move_inode(m, ei);
}

int ext4_short_blocks(struct ext4_short *s)
{
	struct mover m = { .s = s };
	int err;

	m.buf = os_alloc_aligned(4096, MAX(COPY_BYTES, ext4_block_bytes(s->es)));
	if (!m.buf)
		return fail(-ENOMEM, "no memory for blocks that move");
	err = 0;
	for (u32 i = 0; s->es->quotas && i < QUOTA_KINDS && !err; i++)
		if (s->es->quotas->file[i].ei)
			err = move_inode(&m, s->es->quotas->file[i].ei);
	if (!err)
		err = ext4_short_each(s->es, 0, s->es->groups, move_if_any, &m);
	free(m.buf);
	return err;
}
