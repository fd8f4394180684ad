/*
 * Fast commits, applied: as ordinary changes without a journal, on a volume that is as its last full transaction left it and that
 * nobody else sees. Afterwards it is whole: maps, names, bitmaps, counters and usage agree.
 *
 * Interface
 * - ext4_fc_apply: all of a log. Not idempotent on a volume where it was cut off: who keeps the result takes care that it is
 *   written as a whole or not at all.
 *
 * What the records say, and do not
 *   INODE      the inode's fields, without its map. Of a directory only when it is new: what its names make of link counts,
 *              size and an index follows from the names here. Times of directories are in no record: they get those of the inodes named.
 *   ADD_RANGE  a piece of its map, which may take the place of others. The blocks are free as of the last full transaction, or
 *              have been this file's. All of them are taken before anything is allocated, so that no block of a map or
 *              directory comes to lie there.
 *   DEL_RANGE  a piece of the map goes.
 *   CREAT, LINK, UNLINK  a name. The link count of a file is what its INODE record in the same commit says; without one, one more
 *              or less.
 * Within a commit names come first, but for a CREAT, which follows its INODE. An inode that has no link in the end is freed in the
 * end, unless it was an orphan before: then it is on the volume's list.
 *
 * Usage is in no record: quota files are as of the last full transaction, as the inodes are. It is not counted while the records are applied, some
 * of which overwrite slots as they are; but what the inodes of the records and the directories of their names count for is looked up before and after.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

/* An inode that records name. */
struct fc_inode {
	u32 ino;
	u32 last;    /* its last INODE record, plus 1; 0: none */
	bool seen;   /* a record of it was applied */
	bool orphan; /* as of the last full transaction */
};

struct fc_apply {
	struct ext4_super *es;
	const struct ext4_fc_log *log;
	struct fc_inode *inode; /* sorted by number */
	u32 inodes;
	u64 *named; /* (commit, inode) of every INODE record, sorted */
	u32 nameds;
	struct ext4_recount usage; /* of all that may change */
};

/* ---- records ---- */

static u32 ino_of(const struct ext4_fc_log *log, u32 i)
{
	const void *v = ext4_fc_value(log, i);

	switch (log->record[i].tag) {
	case EXT4_FC_TAG_ADD_RANGE:
		return le32_get(((const struct ext4_disk_fc_add_range *)v)->ino);
	case EXT4_FC_TAG_DEL_RANGE:
		return le32_get(((const struct ext4_disk_fc_del_range *)v)->ino);
	case EXT4_FC_TAG_INODE:
		return le32_get(((const struct ext4_disk_fc_inode *)v)->ino);
	default:
		return le32_get(((const struct ext4_disk_fc_name *)v)->ino);
	}
}

static int by_number(const void *a, const void *b)
{
	u32 x = ((const struct fc_inode *)a)->ino, y = ((const struct fc_inode *)b)->ino;

	return x < y ? -1 : x > y;
}

static int by_key(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 key(u32 commit, u32 ino)
{
	return (u64)commit << 32 | ino;
}

static struct fc_inode *find(const struct fc_apply *a, u32 ino)
{
	struct fc_inode want = { .ino = ino };

	return bsearch(&want, a->inode, a->inodes, sizeof(want), by_number);
}

/* Before the inode changes: is it an orphan? */
static void see(struct fc_apply *a, u32 ino, bool orphan)
{
	struct fc_inode *f = find(a, ino);

	f->orphan |= orphan && !f->seen;
	f->seen = true;
}

/* Has the inode an INODE record in the commit? */
static bool is_told(const struct fc_apply *a, u32 commit, u32 ino)
{
	u64 want = key(commit, ino);

	return bsearch(&want, a->named, a->nameds, sizeof(want), by_key);
}

static int collect(struct fc_apply *a)
{
	const struct ext4_fc_log *log = a->log;
	u32 n = 0;

	a->inode = calloc(log->count, sizeof(*a->inode));
	a->named = calloc(log->count, sizeof(*a->named));
	if (!a->inode || !a->named)
		return fail(-ENOMEM, "no memory for fast commits");
	for (u32 i = 0; i < log->count; i++) {
		a->inode[i].ino = ino_of(log, i);
		if (log->record[i].tag == EXT4_FC_TAG_INODE)
			a->named[a->nameds++] = key(log->record[i].commit, ino_of(log, i));
	}
	qsort(a->named, a->nameds, sizeof(*a->named), by_key);
	qsort(a->inode, log->count, sizeof(*a->inode), by_number);
	for (u32 i = 0; i < log->count; i++)
		if (!n || a->inode[n - 1].ino != a->inode[i].ino)
			a->inode[n++] = a->inode[i];
	a->inodes = n;
	for (u32 i = 0; i < log->count; i++)
		if (log->record[i].tag == EXT4_FC_TAG_INODE)
			find(a, ino_of(log, i))->last = i + 1;
	return 0;
}

static bool is_name(u16 tag)
{
	return tag == EXT4_FC_TAG_CREAT || tag == EXT4_FC_TAG_LINK || tag == EXT4_FC_TAG_UNLINK;
}

static int look_at_usage(struct fc_apply *a)
{
	const struct ext4_fc_log *log = a->log;
	int err = 0;

	for (u32 i = 0; i < log->count && !err; i++) {
		const struct ext4_disk_fc_name *v = ext4_fc_value(log, i);

		err = ext4_recount_add(a->es, &a->usage, ino_of(log, i));
		if (!err && is_name(log->record[i].tag))
			err = ext4_recount_add(a->es, &a->usage, le32_get(v->parent));
	}
	return err ? err : ext4_recount_begin(a->es, &a->usage);
}

/* ---- inodes ---- */

/* 1: there. 0: no such inode. */
static int load(struct fc_apply *a, u32 ino, struct ext4_inode **out)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	bool taken;
	int err;

	if (!ext4_ino_public(a->es, ino))
		return 0;
	err = ext4_ino_is_taken(a->es, ino, &taken);
	if (err || !taken)
		return err;
	err = ext4_inode_open_orphan(a->es, ino, &ei);
	if (err)
		return err == -ESTALE ? 0 : err;
	if (is_dir(&ei->vfs))
		ei->vfs.lock.rank = RANK_DIR;
	a->es->set_ops(&ei->vfs);
	*out = take(ei);
	return 1;
}

static int write_inode(struct ext4_inode *ei)
{
	struct ext4_handle h;
	int err = ext4_begin(ext4_inode_super(ei), EXT4_CREDITS_INODE, 0, &h);

	return err ? err : ext4_end(&h, ext4_inode_write(&h, ei));
}

/* Blocks, attributes and number go. */
static int end_inode(struct ext4_inode *ei)
{
	ei->vfs.nlink = 0;
	return ext4_evict_inode(&ei->vfs);
}

static int claim(struct fc_apply *a, u32 ino, bool is_directory)
{
	struct ext4_handle h;
	int err = ext4_begin(a->es, EXT4_CREDITS_GROUP + 1, 0, &h);

	return err ? err : ext4_end(&h, ext4_ino_claim(&h, ino, is_directory));
}

/* i_block of the inode whose other fields were just copied: its map is kept, everything else is what the record has. */
static void put_block(struct ext4_disk_inode *raw, const struct ext4_disk_inode *told, const u8 *map)
{
	u32 flags = le32_get(raw->flags), type = le16_get(raw->mode) & S_IFMT;
	const struct ext4_disk_extent_header *head = (const void *)map;

	if (flags & EXT4_FL_INLINE_DATA) {
		memcpy(raw->block, told->block, sizeof(raw->block));
	} else if (flags & EXT4_FL_EXTENTS) {
		memcpy(raw->block, map, sizeof(raw->block));
		if (le16_get(head->magic) != EXT4_EXTENT_MAGIC)
			ext4_extent_root_init(raw->block);
	} else if (type == S_IFREG || type == S_IFDIR) {
		memcpy(raw->block, map, sizeof(raw->block));
	} else {
		memcpy(raw->block, told->block, sizeof(raw->block));
	}
}

/* The record's fields into the slot. same: it is the inode that lies there. */
static void put_fields(const struct ext4_super *es, struct ext4_disk_inode *raw, const void *bytes, u32 len,
		       bool same)
{
	const u32 behind = offsetof(struct ext4_disk_inode, generation);
	struct ext4_disk_inode told = { 0 }, old = { 0 };
	u32 head = MIN(len, (u32)sizeof(told)), blocks;

	memcpy(&told, bytes, head);
	if (same)
		memcpy(&old, raw, MIN(es->inode_bytes, (u32)sizeof(old)));
	else
		memset(raw, 0, es->inode_bytes);
	memcpy(raw, bytes, offsetof(struct ext4_disk_inode, block));
	memcpy((u8 *)raw + behind, (const u8 *)bytes + behind, len - behind);
	put_block(raw, &told, old.block);
	raw->dtime = old.dtime;
	blocks = le32_get(raw->file_acl_lo) ? 1u << (es->cluster_bits + es->block_bits - 9) : 0;
	raw->blocks_lo = same ? old.blocks_lo : le32_put(blocks);
	raw->blocks_hi = same ? old.blocks_hi : le16_put(0);
	if (!S_ISDIR(le16_get(raw->mode)))
		return;
	raw->flags =
		le32_put((le32_get(told.flags) & ~EXT4_FL_INDEX) | (le32_get(old.flags) & EXT4_FL_INDEX));
	raw->links_count = same ? old.links_count : le16_put(2);
	raw->size_lo = same ? old.size_lo : le32_put(0);
	raw->size_hi = same ? old.size_hi : le32_put(0);
}

static int put_inode(struct fc_apply *a, u32 ino, const void *bytes, u32 len)
{
	const struct ext4_disk_inode *told = bytes;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	struct ext4_handle h;
	int got, err = 0;
	bool same;

	if (!ext4_ino_public(a->es, ino))
		return corrupt(&a->es->vfs.health, "inode", ino, "a fast commit changes it");
	got = load(a, ino, &ei);
	if (got < 0)
		return got;
	same = got && ei->vfs.generation == le32_get(told->generation) &&
	       (ei->vfs.mode & S_IFMT) == (le16_get(told->mode) & S_IFMT);
	see(a, ino, same && !ei->vfs.nlink);
	if (got && !same)
		err = end_inode(ei);
	if (!err && !same)
		err = claim(a, ino, S_ISDIR(le16_get(told->mode)));
	if (!err)
		err = ext4_begin(a->es, EXT4_CREDITS_INODE, 0, &h);
	if (err)
		return err;
	err = ext4_inode_slot(&h, ino, &bh, &raw);
	if (!err) {
		bh_lock(bh);
		put_fields(a->es, raw, bytes, len, same);
		ext4_inode_slot_done(&h, ino, bh, raw);
	}
	return ext4_end(&h, err);
}

/* ---- blocks ---- */

/* A run of blocks in one group whose clusters are all free, or all taken. */
static int bitmap_run(struct ext4_super *es, u64 blk, u32 len, bool *is_free, u32 *run)
{
	u32 group = (u32)((blk - es->first_data_blk) / es->blocks_per_group);
	u32 at = (u32)(blk - ext4_group_start(es, group)), end = ext4_group_blocks(es, group);
	u32 bit = at >> es->cluster_bits, next;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const u8 *map;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = ext4_block_bitmap(es, group, &bh);
	if (err)
		return err;
	map = bh->data;
	*is_free = !(map[bit / 8] >> bit % 8 & 1);
	end = (u32)MIN((u64)end, (u64)at + len);
	for (next = bit + 1; next << es->cluster_bits < end; next++)
		if (!(map[next / 8] >> next % 8 & 1) != *is_free)
			break;
	*run = MIN(next << es->cluster_bits, end) - at;
	return 0;
}

static int take_run(struct ext4_super *es, u64 blk, u32 len)
{
	struct ext4_handle h;
	u64 got;
	u32 n;
	int err;

	while (len) {
		err = ext4_blocks_reserve(es, blk, len, EXT4_RESERVE_META, &got, &n);
		if (err)
			return err;
		if (got != blk) {
			ext4_blocks_unreserve(es, got, n);
			return corrupt(&es->vfs.health, "block", blk,
				       "a fast commit's, and it cannot be taken");
		}
		err = ext4_begin(es, EXT4_CREDITS_GROUP, 0, &h);
		if (err)
			return err;
		err = ext4_end(&h, ext4_blocks_take(&h, blk, n));
		if (err)
			return err;
		blk += n;
		len -= n;
	}
	return 0;
}

/* Those of the blocks that are free are taken. */
static int take_free(struct ext4_super *es, u64 blk, u32 len)
{
	bool is_free = false;
	u32 run = 0;
	int err = 0;

	for (; len && !err; blk += run, len -= run) {
		err = bitmap_run(es, blk, len, &is_free, &run);
		if (!err && is_free)
			err = take_run(es, blk, run);
	}
	return err;
}

struct range {
	u64 lblk, pblk;
	u32 len;
	bool unwritten;
};

/* False: no file can have it. */
static bool range_of(const struct ext4_super *es, const struct ext4_disk_fc_add_range *v, struct range *out)
{
	u32 len = le16_get(v->ex.len);

	out->unwritten = len > EXT4_EXTENT_INIT_MAX;
	out->len = out->unwritten ? len - EXT4_EXTENT_INIT_MAX : len;
	out->lblk = le32_get(v->ex.lblk);
	out->pblk = le32_get(v->ex.start_lo) | (u64)le16_get(v->ex.start_hi) << 32;
	return out->len && ext4_blocks_ok(es, out->pblk, out->len);
}

static int bad_range(struct fc_apply *a, u32 ino)
{
	return corrupt(&a->es->vfs.health, "inode", ino, "a fast commit maps blocks that no file can have");
}

static int take_all(struct fc_apply *a)
{
	int err = 0;

	for (u32 i = 0; i < a->log->count && !err; i++) {
		struct range r;

		if (a->log->record[i].tag != EXT4_FC_TAG_ADD_RANGE)
			continue;
		if (!range_of(a->es, ext4_fc_value(a->log, i), &r))
			return bad_range(a, ino_of(a->log, i));
		err = take_free(a->es, r.pblk, r.len);
	}
	return err;
}

/* ---- maps ---- */

static int insert(struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk, bool unwritten)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_handle h;
	int err = take_free(es, pblk, len);

	if (!err)
		err = ext4_begin(es, EXT4_CREDITS_INSERT + EXT4_CREDITS_INODE, 0, &h);
	if (err)
		return err;
	rw_write_lock(&ei->tree);
	err = ext4_map_insert(&h, ei, lblk, len, pblk, unwritten);
	rw_write_unlock(&ei->tree);
	if (!err)
		err = ext4_inode_write(&h, ei);
	return ext4_end(&h, err);
}

static int unmap(struct ext4_inode *ei, u64 lblk, u64 len)
{
	u32 bits = ext4_inode_super(ei)->block_bits;

	return ext4_unmap(&ei->vfs, lblk << bits, len << bits);
}

static bool has_map(const struct ext4_inode *ei)
{
	return !(ei->flags & EXT4_FL_INLINE_DATA) &&
	       (is_reg(&ei->vfs) || (is_symlink(&ei->vfs) && !ext4_inode_is_fast_symlink(ei)));
}

/*
 * A cluster of the file is one of the volume: what of the range's clusters lies elsewhere is the file's no more, also where it is another record
 * that says what comes there. So the other cluster is given back as a whole.
 */
static int drop_elsewhere(struct ext4_inode *ei, const struct range *r)
{
	u64 cluster = 1ull << ext4_inode_super(ei)->cluster_bits;
	u64 at = ALIGN_DOWN(r->lblk, cluster), end = ALIGN_UP(r->lblk + r->len, cluster);
	int err = 0;

	while (at < end && !err) {
		struct ext4_run run;
		u64 n;

		err = ext4_map_blocks(ei, at, end - at, &run);
		if (err)
			return err;
		n = MIN(run.lblk + run.len, end) - at;
		if (run.pblk && run.pblk - run.lblk != r->pblk - r->lblk)
			err = unmap(ei, at, n);
		at += n;
	}
	return err;
}

static int add_pieces(struct ext4_inode *ei, const struct range *r)
{
	u64 at = r->lblk, end = at + r->len;
	int err = drop_elsewhere(ei, r);

	while (at < end && !err) {
		u64 pblk = r->pblk + (at - r->lblk), n;
		struct ext4_run run;
		bool right;

		err = ext4_map_blocks(ei, at, end - at, &run);
		if (err)
			return err;
		n = MIN(run.lblk + run.len, end) - at;
		right = run.pblk && run.pblk + (at - run.lblk) == pblk && run.unwritten == r->unwritten;
		if (!right && run.pblk)
			err = unmap(ei, at, n);
		if (!err && !right)
			err = insert(ei, at, (u32)n, pblk, r->unwritten);
		at += n;
	}
	return err;
}

static int add_range(struct fc_apply *a, const struct ext4_disk_fc_add_range *v)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	struct range r;
	int got = load(a, le32_get(v->ino), &ei);

	if (got <= 0)
		return got;
	if (!range_of(a->es, v, &r) || !has_map(ei) ||
	    r.lblk + r.len > ext4_file_blocks_max(a->es, ext4_has_extents(ei)))
		return bad_range(a, le32_get(v->ino));
	rw_write_lock(&ei->vfs.lock);
	rw_write_lock(&ei->vfs.map_lock);
	got = add_pieces(ei, &r);
	rw_write_unlock(&ei->vfs.map_lock);
	rw_write_unlock(&ei->vfs.lock);
	return got;
}

static int del_range(struct fc_apply *a, const struct ext4_disk_fc_del_range *v)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int got = load(a, le32_get(v->ino), &ei);

	if (got <= 0 || !has_map(ei))
		return got < 0 ? got : 0;
	rw_write_lock(&ei->vfs.lock);
	rw_write_lock(&ei->vfs.map_lock);
	got = unmap(ei, le32_get(v->lblk), le32_get(v->len));
	rw_write_unlock(&ei->vfs.map_lock);
	rw_write_unlock(&ei->vfs.lock);
	return got;
}

/* ---- names ---- */

struct naming {
	struct ext4_inode *dir, *child;
	struct name name;
	bool told; /* the child's link count is in an INODE record of this commit */
};

static bool is_later(struct timespec64 a, struct timespec64 b)
{
	return a.sec > b.sec || (a.sec == b.sec && a.nsec > b.nsec);
}

/* A directory changed when the inode did whose name came or went. */
static void date_dir(const struct naming *n)
{
	struct inode *dir = &n->dir->vfs;

	if (is_later(n->child->vfs.ctime, dir->mtime))
		dir->mtime = n->child->vfs.ctime;
	if (is_later(n->child->vfs.ctime, dir->ctime))
		dir->ctime = n->child->vfs.ctime;
}

/* One subdirectory more or less. A directory with too many to count says 1. */
static void count_subdir(struct ext4_inode *dir, bool more)
{
	if (dir->vfs.nlink > 1)
		dir->vfs.nlink += more ? 1 : -1u;
}

static int write_both(struct ext4_handle *h, const struct naming *n)
{
	int err;

	date_dir(n);
	err = ext4_inode_write(h, n->dir);
	return err ? err : ext4_inode_write(h, n->child);
}

static int add_name(struct ext4_handle *h, struct naming *n, u64 found)
{
	struct ext4_inode *child = n->child;
	int err = 0;

	if (is_dir(&child->vfs) && !ext4_size(child))
		err = ext4_dir_init(h, child, n->dir->vfs.ino);
	if (err)
		return err;
	if (found)
		err = ext4_dir_set(h, n->dir, &n->name, child->vfs.ino, child->vfs.mode);
	else
		err = ext4_dir_add(h, n->dir, &n->name, child->vfs.ino, child->vfs.mode);
	if (err)
		return err;
	if (is_dir(&child->vfs))
		count_subdir(n->dir, true);
	else if (!n->told)
		child->vfs.nlink++;
	return write_both(h, n);
}

static int del_name(struct ext4_handle *h, struct naming *n)
{
	struct ext4_inode *child = n->child;
	int err = ext4_dir_del(h, n->dir, &n->name);

	if (err)
		return err;
	if (is_dir(&child->vfs)) {
		count_subdir(n->dir, false);
		child->vfs.nlink = 0;
	} else if (!n->told && child->vfs.nlink) {
		child->vfs.nlink--;
	}
	return write_both(h, n);
}

static int change_name(struct fc_apply *a, struct naming *n, bool add)
{
	struct ext4_handle h;
	u64 found = 0;
	int err = ext4_lookup(&n->dir->vfs, &n->name, &found);

	if (err && err != -ENOENT)
		return err;
	if (err)
		found = 0;
	/* It is so already, or the name went to another inode. */
	if (add == (found == n->child->vfs.ino))
		return 0;
	err = ext4_begin(a->es, 2 * EXT4_CREDITS_DIR_ADD, 0, &h);
	if (err)
		return err;
	return ext4_end(&h, add ? add_name(&h, n, found) : del_name(&h, n));
}

static int on_name(struct fc_apply *a, u32 i)
{
	const struct ext4_fc_record *rec = &a->log->record[i];
	const struct ext4_disk_fc_name *v = ext4_fc_value(a->log, i);
	scoped(ext4_inode_privatep) struct ext4_inode *dir = NULL;
	scoped(ext4_inode_privatep) struct ext4_inode *child = NULL;
	u32 parent = le32_get(v->parent), ino = le32_get(v->ino);
	struct naming n = { .name = { (const char *)(v + 1), rec->len - (u32)sizeof(*v) } };
	int got = load(a, parent, &dir);

	if (got > 0 && parent != ino)
		got = load(a, ino, &child);
	if (got <= 0 || !child || !is_dir(&dir->vfs))
		return got < 0 ? got : 0;
	if (memchr(n.name.s, '/', n.name.len) || memchr(n.name.s, 0, n.name.len) ||
	    ext4_is_dot_or_dotdot(n.name.s, n.name.len))
		return corrupt(&a->es->vfs.health, "inode", parent,
			       "a fast commit has a name that cannot be");
	n.dir = dir;
	n.child = child;
	n.told = is_told(a, rec->commit, ino);
	see(a, ino, !child->vfs.nlink);
	rw_write_lock(&dir->vfs.lock);
	got = change_name(a, &n, rec->tag != EXT4_FC_TAG_UNLINK);
	rw_write_unlock(&dir->vfs.lock);
	return got;
}

/* ---- the whole ---- */

static int apply_one(struct fc_apply *a, u32 i)
{
	const struct ext4_fc_record *rec = &a->log->record[i];
	const void *v = ext4_fc_value(a->log, i);

	switch (rec->tag) {
	case EXT4_FC_TAG_ADD_RANGE:
		return add_range(a, v);
	case EXT4_FC_TAG_DEL_RANGE:
		return del_range(a, v);
	case EXT4_FC_TAG_INODE:
		return put_inode(a, ino_of(a->log, i), (const u8 *)v + sizeof(struct ext4_disk_fc_inode),
				 rec->len - (u32)sizeof(struct ext4_disk_fc_inode));
	default:
		return on_name(a, i);
	}
}

/* Changes of the map made the inode look changed just now: its times are those of its last record. */
static int restore_times(struct fc_apply *a, struct ext4_inode *ei, u32 record)
{
	const u8 *bytes = (const u8 *)ext4_fc_value(a->log, record) + sizeof(struct ext4_disk_fc_inode);
	u32 len = a->log->record[record].len - (u32)sizeof(struct ext4_disk_fc_inode);
	struct ext4_disk_inode told = { 0 };

	if (is_dir(&ei->vfs))
		return 0;
	memcpy(&told, bytes, MIN(len, (u32)sizeof(told)));
	ei->vfs.atime = ext4_inode_time(a->es, &told, &told.atime, &told.atime_extra);
	ei->vfs.mtime = ext4_inode_time(a->es, &told, &told.mtime, &told.mtime_extra);
	ei->vfs.ctime = ext4_inode_time(a->es, &told, &told.ctime, &told.ctime_extra);
	return write_inode(ei);
}

static int finish_inode(struct fc_apply *a, const struct fc_inode *f)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int got = load(a, f->ino, &ei);

	if (got <= 0)
		return got;
	if (!ei->vfs.nlink)
		return f->orphan ? 0 : end_inode(ei);
	return f->last ? restore_times(a, ei, f->last - 1) : 0;
}

static int apply_all(struct fc_apply *a)
{
	int err = collect(a);

	if (!err)
		err = look_at_usage(a);
	if (!err)
		err = take_all(a);
	for (u32 i = 0; i < a->log->count && !err; i++)
		err = apply_one(a, i);
	for (u32 i = 0; i < a->inodes && !err; i++)
		err = finish_inode(a, &a->inode[i]);
	return err ? err : ext4_recount_end(a->es, &a->usage);
}

int ext4_fc_apply(struct ext4_super *es, const struct ext4_fc_log *log)
{
	struct fc_apply a = { .es = es, .log = log };
	int err;

	if (!log->count)
		return 0;
	err = apply_all(&a);
	free(a.inode);
	free(a.named);
	ext4_recount_free(&a.usage);
	return err;
}
