/*
 * The blocks of files come and go: the changing operations on maps, whichever kind the map is of.
 *
 *   alloc ─► bytes are written ─► commit     a hole is filled from reserved blocks; what was unwritten becomes written;
 *         └─► abort                          what was there already stays as it is
 *   unpack                                   bytes inside the inode move to a block
 *   prealloc                                 holes become unwritten
 *   set_size, unmap, ext4_map_cut            the end moves; blocks go
 *   ext4_map_new_block                       a block of a directory or a symlink
 *
 * Invariants
 *  1. A reserved block is in nobody's map, and no block is in a map that is not taken in the same handle. So a crash shows neither blocks
 *     that hold another file's bytes nor blocks that nobody has.
 *  2. Whatever was changed in a handle, the inode is written in it, also when something failed on the way: memory and volume have the same map.
 *  3. A cut goes backwards in steps, each of which leaves the map whole; between two of them the handle may end. Who cuts a file shorter has
 *     noted it as an orphan in the handle that set the size; the last handle of the cut takes the note off.
 *  4. The tree's lock is held W from the first look at the map to its last change, and not while a transaction is waited for.
 */
#include "ext4.h"

#include <errno.h>
#include <stdlib.h>

/* What commit has to do. */
enum {
	IS_WRITTEN,
	IS_UNWRITTEN,
	IS_NEW,
};

/* With the inode and what may come at the end of a cut. */
#define CREDITS_STEP     (EXT4_CREDITS_CUT + EXT4_CREDITS_ORPHAN + 2 * EXT4_CREDITS_INODE + EXT4_CREDITS_QUOTA)
#define CUT_METADATA_MAX 64u
/* Without a journal nothing bounds a handle but this. */
#define JOINED_MAX 256u

int ext4_map_end(struct ext4_handle *h, struct ext4_inode *ei, int err)
{
	int write_err = ext4_inode_write(h, ei);

	if (write_err)
		write_err = ext4_abort(h->es, write_err);
	return ext4_end(h, err ? err : write_err);
}

/* ---- where ---- */

u64 ext4_goal(struct ext4_inode *ei, u64 lblk)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 goal = ext4_group_start(es, ext4_ino_group(es, ei->vfs.ino)), before = lblk,
	    mask = (1ull << es->cluster_bits) - 1;
	struct ext4_run run;
	int err = 0;

	rw_read_lock(&ei->tree);
	/* What is before it, over a hole. */
	for (u32 i = 0; i < 2 && before && !err; i++) {
		err = ext4_map_blocks(ei, before - 1, 1, &run);
		if (err)
			break;
		if (run.pblk) {
			goal = run.pblk + (lblk - run.lblk);
			break;
		}
		before = run.lblk;
	}
	rw_read_unlock(&ei->tree);
	if (err)
		err_clear();
	return (goal < es->blocks ? goal & ~mask : 0) | (lblk & mask);
}

/* ---- one map ---- */

int ext4_map_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk, bool unwritten)
{
	if (ext4_has_extents(ei))
		return ext4_extent_insert(h, ei, lblk, len, pblk, unwritten);
	return ext4_indirect_insert(h, ei, lblk, len, pblk);
}

/* The longest piece that an insert at lblk takes. */
static u32 piece_max(const struct ext4_inode *ei, u64 lblk)
{
	return ext4_has_extents(ei) ? EXT4_EXTENT_UNWRITTEN_MAX : ext4_indirect_piece(ei, lblk);
}

/*
 * Of the hole [lblk, lblk + *len), where a part at its beginning may have a place in a cluster that the file has: *len is of that part, which
 * lies at *pblk; or *pblk is 0, and none of *len blocks has such a place.
 */
static int find_own(struct ext4_inode *ei, u64 lblk, u32 *len, u64 *pblk)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 mask = (1ull << es->cluster_bits) - 1, end = lblk + *len, last = 0;
	int err;

	*pblk = 0;
	if (!mask)
		return 0;
	if (!ext4_has_extents(ei))
		return corrupt(&es->vfs.health, "inode", ei->vfs.ino,
			       "is mapped by pointers, on a volume with clusters");
	rw_read_lock(&ei->tree);
	err = ext4_cluster_find(ei, lblk, pblk);
	if (!err && !*pblk && end & mask)
		err = ext4_cluster_find(ei, end - 1, &last);
	rw_read_unlock(&ei->tree);
	if (*pblk)
		*len = (u32)MIN((u64)*len, (lblk | mask) + 1 - lblk);
	else if (last)
		*len = (u32)((end & ~mask) - lblk);
	return err;
}

/* How many blocks of the map an insert at lblk would need. */
static int map_need(struct ext4_inode *ei, u64 lblk, u32 *blocks)
{
	int err;

	rw_read_lock(&ei->tree);
	err = ext4_has_extents(ei) ? ext4_extent_need(ei, lblk, blocks)
				   : ext4_indirect_need(ei, lblk, blocks);
	rw_read_unlock(&ei->tree);
	return err;
}

/* The owner's quota has room for another block at lblk, fresh: in a cluster that the file does not have. */
static int check_quota(struct ext4_inode *ei, u64 lblk, bool fresh)
{
	u32 need = 0;
	int err = ext4_inode_super(ei)->quotas ? map_need(ei, lblk, &need) : 0;

	return err ? err : ext4_quota_check(ei, need + fresh, 0);
}

/* Blocks become part of the map, fresh: reserved ones, which are taken. They stay reserved when that fails with nothing done. Locks: tree W. */
static int insert_locked(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk,
			 bool unwritten, bool fresh)
{
	int err = ext4_map_insert(h, ei, lblk, len, pblk, unwritten);

	if (!err && fresh) {
		err = ext4_blocks_take(h, pblk, len);
		if (err)
			err = ext4_abort(h->es, err);
	}
	return err;
}

static int insert_placed(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk,
			 bool unwritten, bool fresh)
{
	int err;

	rw_write_lock(&ei->tree);
	err = insert_locked(h, ei, lblk, len, pblk, unwritten, fresh);
	rw_write_unlock(&ei->tree);
	return err;
}

int ext4_map_new_block(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, const struct bh_ops *ops,
		       const struct bh_ctx *ctx, struct buffer_head **out)
{
	struct buffer_head *bh;
	u32 len = 1;
	u64 blk;
	int err = find_own(ei, lblk, &len, &blk);
	bool fresh = !blk;

	if (!err)
		err = check_quota(ei, lblk, fresh);
	if (!err && fresh)
		err = ext4_blocks_reserve(h->es, ext4_goal(ei, lblk), 1, 0, &blk, &len);
	if (err)
		return err;
	err = bh_get_new(h->es->vfs.dev, blk, ops, ctx, &bh);
	if (err)
		goto unreserve;
	err = insert_placed(h, ei, lblk, 1, blk, false, fresh);
	if (err)
		goto put;
	err = ext4_access(h, bh);
	if (!err) {
		*out = bh;
		return 0;
	}
	bh_put(bh);
	return ext4_abort(h->es, err);
put:
	bh_put(bh);
unreserve:
	if (fresh)
		ext4_blocks_unreserve(h->es, blk, 1);
	return err;
}

/* ---- out of the inode ---- */

/* The inode's own bytes go, the block (0: none is needed) comes. */
static int swap_in(struct ext4_handle *h, struct ext4_inode *ei, u64 pblk)
{
	u8 *data;
	u32 len;
	int err = ext4_inline_take_out(h, ei, &data, &len);

	if (err)
		return err;
	free(data);
	err = pblk ? insert_placed(h, ei, 0, 1, pblk, false, true) : 0;
	return err ? ext4_abort(h->es, err) : 0;
}

/* The file's bytes, on the device. */
static int copy_out(struct ext4_inode *ei, u64 pblk)
{
	u32 bs = ei->vfs.sb->block_bytes;
	u8 *block = os_alloc_aligned(MAX(bs, 4096u), bs);
	int err = block ? 0 : fail(-ENOMEM, "no memory for a block");

	if (!err) {
		memset(block, 0, bs);
		err = ext4_read_content(ei, 0, block, ext4_size(ei));
	}
	if (!err)
		err = blkdev_write(ei->vfs.sb->dev, pblk * bs, block, bs, 0);
	free(block);
	return err;
}

static int unpack_to(struct ext4_inode *ei, u64 pblk)
{
	struct ext4_handle h;
	int err = pblk ? copy_out(ei, pblk) : 0;

	if (!err)
		err = ext4_begin(ext4_inode_super(ei),
				 EXT4_CREDITS_XATTR + EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP +
					 EXT4_CREDITS_INODE,
				 1, &h);
	if (err)
		return err;
	err = swap_in(&h, ei, pblk);
	atomic_store(&ei->data_tid, h.jh.tid);
	return ext4_map_end(&h, ei, err);
}

int ext4_unpack(struct inode *inode)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	bool tried = false;
	u64 pblk = 0;
	u32 len;
	int err = 0;

	if (ext4_size(ei) > ext4_block_bytes(es))
		return corrupt(&es->vfs.health, "inode", inode->ino, "inline data longer than a block");
	if (ext4_size(ei))
		do {
			err = ext4_quota_check(ei, 1, 0);
			if (!err)
				err = ext4_blocks_reserve(es, ext4_goal(ei, 0), 1, 0, &pblk, &len);
		} while (ext4_retry(es, err, &tried));
	if (err)
		return err;
	err = unpack_to(ei, pblk);
	if (err && pblk)
		ext4_blocks_unreserve(es, pblk, 1);
	if (!err)
		atomic_store(&inode->is_packed, false);
	return err;
}

/* ---- writing ---- */

static int look(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *run)
{
	int err;

	rw_read_lock(&ei->tree);
	err = ext4_map_blocks(ei, lblk, want, run);
	rw_read_unlock(&ei->tree);
	return err;
}

/* mapping.fs_private: what commit has to do, how many blocks of the map were promised for it, the block where the mapping begins, and where
 * bytes wait that go through the journal (else NULL). */
#define WHAT     0
#define PROMISED 1
#define PBLK     2
#define STAGED   3

static struct blkdev *staged(const struct mapping *m)
{
	return (struct blkdev *)(uintptr_t)m->fs_private[STAGED];
}

/* The mapping's bytes go to memory first. */
static int stage(struct mapping *m)
{
	struct blkdev *dev;
	int err = ext4_jdata_stage(m->len_bytes, &dev);

	if (err)
		return err;
	m->fs_private[STAGED] = (uintptr_t)dev;
	m->dev = dev;
	m->dev_off_bytes = 0;
	return 0;
}

/* Clusters that are held of the owner's quota. */
static u64 charged(const struct ext4_super *es, const struct mapping *m)
{
	u64 fresh = m->flags & MAP_NEW ? ext4_clusters_of(es, m->off_bytes >> es->block_bits,
							  m->len_bytes >> es->block_bits)
				       : 0;

	return fresh + m->fs_private[PROMISED];
}

/* Of the owner's quota what *want blocks of a hole need, fresh: which are in no cluster that the file has, and `promised` blocks of the map. *want
 * is as many as there is room for; *clusters are held. */
static int hold_quota(struct ext4_inode *ei, u64 lblk, bool fresh, u32 promised, u32 *want, u64 *clusters)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 mask = (1ull << es->cluster_bits) - 1;
	int err;

	*clusters = promised + (fresh ? ext4_clusters_of(es, lblk, *want) : 0);
	err = ext4_quota_reserve(ei, promised + (u64)fresh, clusters);
	if (!err && fresh)
		*want = (u32)MIN((u64)*want, ((*clusters - promised) << es->cluster_bits) - (lblk & mask));
	return err;
}

/* A place for a hole's blocks, if any are wanted, and `promised` more for the map. */
static int reserve_blocks(struct ext4_inode *ei, u64 lblk, u32 want, u64 *pblk, u32 *len, u32 promised)
{
	struct ext4_super *es = ext4_inode_super(ei);
	int err = promised ? ext4_blocks_promise(es, promised, EXT4_RESERVE_META) : 0;

	if (err || !want)
		return err;
	err = ext4_data_reserve(ei, lblk, ext4_goal(ei, lblk), want, pblk, len);
	if (err && promised)
		ext4_blocks_unpromise(es, promised);
	return err;
}

/* As reserve_blocks, of which the owner's quota is asked first: *len is what was had of it. */
static int reserve(struct ext4_inode *ei, u64 lblk, u32 want, u64 *pblk, u32 *len, bool *fresh, u32 *promised)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 held;
	int err;

	want = MIN(want, piece_max(ei, lblk));
	err = find_own(ei, lblk, &want, pblk);
	if (err)
		return err;
	*fresh = !*pblk;
	err = map_need(ei, lblk, promised);
	if (!err)
		err = hold_quota(ei, lblk, *fresh, *promised, &want, &held);
	if (err)
		return err;
	*len = want;
	err = reserve_blocks(ei, lblk, *fresh ? want : 0, pblk, len, *promised);
	ext4_quota_unreserve(ei,
			     err ? held : held - *promised - (*fresh ? ext4_clusters_of(es, lblk, *len) : 0));
	return err;
}

static void give_back_promise(struct ext4_super *es, const struct mapping *m)
{
	if (m->fs_private[PROMISED])
		ext4_blocks_unpromise(es, (u32)m->fs_private[PROMISED]);
}

static void drop_reserved(struct ext4_super *es, const struct mapping *m)
{
	if (m->flags & MAP_NEW)
		ext4_blocks_unreserve(es, m->fs_private[PBLK], (u32)(m->len_bytes >> es->block_bits));
}

void ext4_abort_alloc(struct inode *inode, const struct mapping *m)
{
	give_back_promise(ext4_super(inode->sb), m);
	drop_reserved(ext4_super(inode->sb), m);
	ext4_quota_unreserve(ext4_inode(inode), charged(ext4_super(inode->sb), m));
	blkdev_put(staged(m));
}

int ext4_alloc(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	u64 lblk = off_bytes >> es->block_bits, pblk;
	u32 len = (u32)MIN(len_bytes >> es->block_bits, (u64)EXT4_EXTENT_UNWRITTEN_MAX), promised = 0;
	bool tried = false, fresh = false;
	struct ext4_run run;
	int err;

	if (lblk + len > ext4_file_blocks_max(es, ext4_has_extents(ei)))
		return fail(-EFBIG, "inode %llu cannot be that long", (unsigned long long)inode->ino);
	if (ext4_jdata(ei))
		len = MIN(len, ext4_jdata_blocks_max(es));
	err = look(ei, lblk, len, &run);
	if (err)
		return err;
	len = (u32)MIN((u64)len, run.lblk + run.len - lblk);
	pblk = run.pblk + (lblk - run.lblk);
	if (!run.pblk) {
		do
			err = reserve(ei, lblk, len, &pblk, &len, &fresh, &promised);
		while (ext4_retry(es, err, &tried));
		if (err)
			return err;
	}
	*out = (struct mapping){ .kind = MAP_DATA,
				 .flags = fresh ? MAP_NEW : 0,
				 .off_bytes = lblk << es->block_bits,
				 .len_bytes = (u64)len << es->block_bits,
				 .dev = inode->sb->dev,
				 .dev_off_bytes = pblk << es->block_bits };
	out->fs_private[WHAT] = !run.pblk ? IS_NEW : run.unwritten ? IS_UNWRITTEN : IS_WRITTEN;
	out->fs_private[PROMISED] = promised;
	out->fs_private[PBLK] = pblk;
	if (ext4_jdata(ei))
		err = stage(out);
	else if (out->fs_private[WHAT] == IS_WRITTEN)
		out->flags |= MAP_KEPT;
	if (err)
		ext4_abort_alloc(inode, out);
	return err;
}

/* The blocks of m become the file's, or count as written. Those whose bytes go through the journal have them before anybody sees the map. */
static int commit_map(struct ext4_handle *h, struct ext4_inode *ei, const struct mapping *m)
{
	u32 bits = h->es->block_bits, len = (u32)(m->len_bytes >> bits);
	u64 lblk = m->off_bytes >> bits;
	int err = 0;

	rw_write_lock(&ei->tree);
	if (m->fs_private[WHAT] == IS_NEW)
		err = insert_locked(h, ei, lblk, len, m->fs_private[PBLK], false, m->flags & MAP_NEW);
	else if (m->fs_private[WHAT] == IS_UNWRITTEN)
		err = ext4_extent_convert(h, ei, lblk, len);
	if (!err && staged(m))
		err = ext4_jdata_put(h, ei, m->fs_private[PBLK], len, staged(m));
	rw_write_unlock(&ei->tree);
	return err;
}

static int commit_once(struct ext4_inode *ei, const struct mapping *m, u64 size_bytes)
{
	static const u32 credits[] = {
		[IS_WRITTEN] = EXT4_CREDITS_INODE,
		[IS_UNWRITTEN] = 2 * EXT4_CREDITS_INSERT + EXT4_CREDITS_INODE,
		[IS_NEW] = EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE,
	};
	struct inode *inode = &ei->vfs;
	bool moved = m->fs_private[WHAT] != IS_WRITTEN || staged(m) || size_bytes > inode_disk_size(inode);
	u32 data = staged(m) ? (u32)(m->len_bytes >> ext4_inode_super(ei)->block_bits) : 0;
	struct ext4_handle h;
	int err = ext4_begin(ext4_inode_super(ei), credits[m->fs_private[WHAT]] + data, 0, &h);

	if (err)
		return err;
	err = commit_map(&h, ei, m);
	/* Before the file is seen to end where it does on the volume: from then on an fsync takes no lock to learn of them. */
	if (moved)
		atomic_store(&ei->data_tid, h.jh.tid);
	atomic_store(&ei->tid, h.jh.tid);
	if (!err) {
		inode_grow(inode, size_bytes);
		if (!(m->flags & MAP_LATE))
			inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	}
	return ext4_map_end(&h, ei, err);
}

int ext4_commit(struct inode *inode, const struct mapping *m, u64 size_bytes)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	bool tried = false;
	int err;

	give_back_promise(es, m);
	/* Blocks that the file had were written over, and nothing else changes: no transaction, so an fsync is a flush. */
	if (m->fs_private[WHAT] == IS_WRITTEN && !staged(m) && !(m->flags & MAP_LATE) &&
	    size_bytes <= inode_disk_size(inode) && inode_times_fresh(inode))
		return 0;
	do
		err = commit_once(ei, m, size_bytes);
	while (ext4_retry(es, err, &tried));
	if (err)
		drop_reserved(es, m);
	blkdev_put(staged(m));
	ext4_quota_unreserve(ei, charged(es, m));
	return err;
}

/* ---- promising ---- */

/* What has its place becomes an unwritten part of the file. */
static int promise(struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk, bool fresh)
{
	struct ext4_handle h;
	int err = ext4_begin(ext4_inode_super(ei),
			     EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE, 0, &h);

	if (err)
		return err;
	err = insert_placed(&h, ei, lblk, len, pblk, true, fresh);
	if (!err)
		inode_touch(&ei->vfs, ATTR_MTIME | ATTR_CTIME);
	atomic_store(&ei->data_tid, h.jh.tid);
	return ext4_map_end(&h, ei, err);
}

/* The first hole in [*lblk, end), or a part of it. *lblk: where to go on. */
static int prealloc_step(struct ext4_inode *ei, u64 *lblk, u64 end)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_run run;
	u64 pblk, run_end, held;
	u32 len, promised;
	bool fresh;
	int err = look(ei, *lblk, end - *lblk, &run);

	if (err)
		return err;
	run_end = run.lblk + run.len;
	if (run.pblk) {
		*lblk = run_end;
		return 0;
	}
	len = (u32)MIN(MIN(run_end, end) - *lblk, (u64)EXT4_EXTENT_UNWRITTEN_MAX);
	err = find_own(ei, *lblk, &len, &pblk);
	fresh = !pblk;
	if (!err)
		err = map_need(ei, *lblk, &promised);
	if (!err)
		err = hold_quota(ei, *lblk, fresh, promised, &len, &held);
	if (err)
		return err;
	if (fresh)
		err = ext4_blocks_reserve(es, ext4_goal(ei, *lblk), len, 0, &pblk, &len);
	if (!err) {
		err = promise(ei, *lblk, len, pblk, fresh);
		if (err && fresh)
			ext4_blocks_unreserve(es, pblk, len);
		else if (!err)
			*lblk += len;
	}
	ext4_quota_unreserve(ei, held);
	return err;
}

int ext4_prealloc(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	u64 lblk = off_bytes >> es->block_bits, end = lblk + (len_bytes >> es->block_bits);
	bool tried = false;
	int err = 0;

	if (!ext4_has_extents(ei))
		return fail(-EOPNOTSUPP, "inode %llu: its map knows no unwritten blocks",
			    (unsigned long long)inode->ino);
	if (end > ext4_file_blocks_max(es, true))
		return fail(-EFBIG, "inode %llu cannot be that long", (unsigned long long)inode->ino);
	ext4_window_drop(ei);
	while (lblk < end) {
		err = prealloc_step(ei, &lblk, end);
		if (err && !ext4_retry(es, err, &tried))
			break;
	}
	return err;
}

/* ---- taking away ---- */

/* A cut under way. */
struct cutting {
	struct ext4_inode *ei;
	struct ext4_cut cut;
	bool is_end; /* of a truncate: nothing is left behind */
	struct ext4_handle h;
};

static u32 revokes_of(const struct cutting *c)
{
	return EXT4_REVOKES_CUT + (c->cut.metadata ? c->cut.max : 0);
}

/* The handle has enough for another step; it may be another handle. On error there is none. */
static int next_step(struct cutting *c)
{
	struct ext4_handle *h = &c->h;
	u32 revokes = revokes_of(c);
	int err = 0;

	if (!h->es->journal && h->joined_count <= JOINED_MAX)
		return 0;
	if (h->es->journal) {
		if (h->jh.credits >= CREDITS_STEP && h->jh.revokes >= revokes)
			return 0;
		err = ext4_extend(h, CREDITS_STEP, revokes);
		if (err != -ENOSPC)
			return err ? ext4_end(h, err) : 0;
	}
	err = ext4_inode_write(h, c->ei);
	if (err)
		return ext4_end(h, ext4_abort(h->es, err));
	return ext4_restart(h, CREDITS_STEP, revokes);
}

/* Locks: tree W, for these two. */
static int cut_begin(struct cutting *c)
{
	struct ext4_super *es = ext4_inode_super(c->ei);

	if (es->cluster_bits && !ext4_has_extents(c->ei))
		return corrupt(&es->vfs.health, "inode", c->ei->vfs.ino,
			       "is mapped by pointers, on a volume with clusters");
	return ext4_has_extents(c->ei) ? ext4_extent_split(&c->h, c->ei, c->cut.to) : 0;
}

static int cut_step(struct cutting *c)
{
	if (!ext4_has_extents(c->ei))
		return ext4_indirect_cut(&c->h, c->ei, &c->cut);
	if (c->cut.from < c->cut.to)
		return ext4_extent_cut(&c->h, c->ei, &c->cut);
	return ext4_extent_shrink(&c->h, c->ei);
}

/* Until c->cut is done, and once more for the tree to get smaller. *open: the handle is. */
static int cut_all(struct cutting *c, bool *open)
{
	bool more = true;
	int err;

	rw_write_lock(&c->ei->tree);
	err = cut_begin(c);
	rw_write_unlock(&c->ei->tree);
	while (!err && more) {
		err = next_step(c);
		if (err) {
			*open = false;
			return err;
		}
		if (c->cut.bad > EXT4_CUT_BAD_MAX)
			return corrupt(&c->ei->vfs.sb->health, "inode", c->ei->vfs.ino,
				       "too many blocks that are not its own");
		more = c->cut.from < c->cut.to;
		rw_write_lock(&c->ei->tree);
		err = cut_step(c);
		rw_write_unlock(&c->ei->tree);
	}
	return err;
}

static int cut(struct cutting *c, bool touch)
{
	struct ext4_inode *ei = c->ei;
	bool open = true;
	int err;

	c->cut.metadata = !is_reg(&ei->vfs) || ei->is_value || ext4_jdata(ei);
	c->cut.max = c->cut.metadata ? CUT_METADATA_MAX : UINT32_MAX;
	err = ext4_begin(ext4_inode_super(ei), CREDITS_STEP, revokes_of(c), &c->h);
	if (err)
		return err;
	if (touch)
		inode_touch(&ei->vfs, ATTR_MTIME | ATTR_CTIME);
	err = cut_all(c, &open);
	if (!open)
		return err;
	if (!err && c->is_end && ei->vfs.nlink)
		err = ext4_orphan_del(&c->h, ei);
	atomic_store(&ei->data_tid, c->h.jh.tid);
	return ext4_map_end(&c->h, ei, err);
}

int ext4_unmap(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	struct ext4_inode *ei = ext4_inode(inode);
	u32 bits = ext4_inode_super(ei)->block_bits;
	bool to_end = len_bytes > ~0ull - off_bytes || off_bytes + len_bytes == ~0ull;
	struct cutting c = { .ei = ei, .cut.from = off_bytes >> bits, .is_end = to_end };
	bool tried = false;
	int err;

	ext4_window_drop(ei);
	do {
		c.cut.to = to_end ? EXT4_LBLK_END : (off_bytes + len_bytes) >> bits;
		err = cut(&c, true);
	} while (ext4_retry(c.h.es, err, &tried));
	return err;
}

int ext4_map_piece(struct ext4_inode *ei, u64 lblk, struct ext4_run *out)
{
	u64 want = ext4_has_extents(ei) ? 1 : ext4_indirect_piece(ei, lblk);
	int err;

	rw_read_lock(&ei->tree);
	err = ext4_map_blocks(ei, lblk, want, out);
	rw_read_unlock(&ei->tree);
	return err;
}

int ext4_map_cut(struct ext4_inode *ei, u64 lblk)
{
	struct cutting c = { .ei = ei, .cut = { .from = lblk, .to = EXT4_LBLK_END } };

	if (ei->flags & EXT4_FL_INLINE_DATA || ext4_inode_is_fast_symlink(ei))
		return 0;
	return cut(&c, false);
}

int ext4_set_size(struct inode *inode, u64 size_bytes)
{
	struct ext4_inode *ei = ext4_inode(inode);
	u64 old = ext4_size(ei);
	struct ext4_handle h;
	int err;

	if (size_bytes < old)
		ext4_window_drop(ei);
	err = ext4_begin(ext4_inode_super(ei), EXT4_CREDITS_ORPHAN + 2 * EXT4_CREDITS_INODE, 0, &h);
	if (err)
		return err;
	if (size_bytes < old)
		err = ext4_orphan_add(&h, ei);
	if (err)
		return ext4_end(&h, err);
	inode_set_size(inode, size_bytes);
	inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	atomic_store(&ei->data_tid, h.jh.tid);
	return ext4_map_end(&h, ei, 0);
}
