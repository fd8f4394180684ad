/*
 * Maps of ext2 and ext3 that change: pointers set, and cleared from the end backwards. Blocks of pointers come with the first pointer
 * in them and go with the last.
 *
 *   slot 0, in the inode ──► slot 1 ──► … ──► slot `levels`, whose pointers are to data
 *
 * Invariants
 *  1. Nothing is changed before all of it is read and joined, and the new blocks are there; a new block is linked when it is full of what it
 *     is to hold.
 *  2. One step of a cut looks at one block of pointers, and frees data in a few pieces only: so its cost is bounded.
 *  3. Slots are counted, so no map makes a walk endless, and every step of a cut ends before where it began.
 */
#include "ext4.h"

#include <errno.h>

#define LEVELS 3u

/* The way to a block's pointer. */
struct path {
	u32 levels; /* of blocks of pointers above it: 0 to LEVELS */
	u32 have;   /* the last slot that there is */
	struct slot {
		struct buffer_head *bh; /* NULL: in the inode */
		le32 *ptr;
		u32 at;    /* the pointer that leads to the block */
		u64 first; /* block of the file that ptr[0] stands for, or (slot 0) the one that is followed */
		u64 width; /* blocks that a pointer stands for */
	} slot[LEVELS + 1];
};

/* The arithmetic of a path; nothing is read. */
static int plan_path(struct ext4_inode *ei, u64 lblk, struct path *p)
{
	u32 n = ext4_pointers_per_block(ext4_inode_super(ei));
	u64 start = EXT4_NDIR, width = n;

	*p = (struct path){ .slot[0] = {
				    .ptr = (void *)ei->block, .at = (u32)lblk, .first = 0, .width = 1 } };
	if (lblk < EXT4_NDIR)
		return 0;
	for (p->levels = 1; p->levels <= LEVELS && lblk - start >= width; p->levels++) {
		start += width;
		width *= n;
	}
	if (p->levels > LEVELS) {
		p->levels = 0;
		return fail(-EFBIG, "inode %llu cannot be that long", (unsigned long long)ei->vfs.ino);
	}
	p->slot[0].at = EXT4_NDIR + p->levels - 1;
	p->slot[0].first = start;
	p->slot[0].width = width;
	for (u32 k = 1; k <= p->levels; k++) {
		width /= n;
		p->slot[k].at = (u32)((lblk - start) / width);
		p->slot[k].first = start;
		p->slot[k].width = width;
		start += p->slot[k].at * width;
	}
	return 0;
}

/* Whatever it returns, ended by path_put. */
static int find(struct ext4_inode *ei, u64 lblk, struct path *p)
{
	int err = plan_path(ei, lblk, p);

	while (!err && p->have < p->levels) {
		struct slot *s = &p->slot[p->have];
		const struct bh_ctx ctx = ext4_ctx_map(ei, p->levels - p->have);
		u32 blk = le32_get(s->ptr[s->at]);

		if (!blk)
			break;
		err = bh_read(ei->vfs.sb->dev, blk, &ext4_indirect_ops, &ctx, &s[1].bh);
		if (err)
			break;
		s[1].ptr = s[1].bh->data;
		p->have++;
	}
	return err;
}

static void path_put(struct path *p)
{
	for (u32 k = 0; k <= p->have; k++)
		bh_put(p->slot[k].bh);
}

/* The inode's pointers are written with it. */
static void changed(struct ext4_handle *h, const struct slot *s)
{
	if (s->bh)
		ext4_dirty(h, s->bh);
}

/* ---- inserting ---- */

u32 ext4_indirect_piece(const struct ext4_inode *ei, u64 lblk)
{
	u32 n = ext4_pointers_per_block(ext4_inode_super(ei));

	return lblk < EXT4_NDIR ? EXT4_NDIR - (u32)lblk : n - (u32)((lblk - EXT4_NDIR) % n);
}

static int holes_only(struct ext4_inode *ei, const struct slot *s, u32 len)
{
	for (u32 i = s->at; i < s->at + len; i++)
		if (le32_get(s->ptr[i]))
			return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
				       "its block map: a block is there where a hole was to be filled");
	return 0;
}

/* What can be, is done: from the data upwards. */
static void link_up(struct ext4_handle *h, struct path *p, const struct ext4_fresh *f, u32 len, u64 pblk)
{
	u32 k = p->levels;

	for (u32 i = 0; i < len; i++)
		p->slot[k].ptr[p->slot[k].at + i] = le32_put((u32)(pblk + i));
	changed(h, &p->slot[k]);
	for (u32 i = 0; i < f->count; i++) {
		k--;
		p->slot[k].ptr[p->slot[k].at] = le32_put((u32)f->b[i].blk);
		changed(h, &p->slot[k]);
	}
}

static int insert(struct ext4_handle *h, struct ext4_inode *ei, struct path *p, u32 len, u64 pblk)
{
	u32 missing = p->levels - p->have;
	struct slot *last = &p->slot[p->have];
	struct ext4_fresh f;
	int err = missing ? 0 : holes_only(ei, last, len);

	if (!err && last->bh)
		err = ext4_access(h, last->bh);
	if (err)
		return err;
	err = ext4_fresh_get(h, ei, pblk, missing, 1, &ext4_indirect_ops, &f);
	for (u32 i = 0; i < f.count && !err; i++) {
		if (f.b[i].blk > UINT32_MAX) {
			err = ext4_fresh_undo(h, &f);
			if (!err)
				err = fail(-ENOSPC, "no free block that a block map could point to");
			break;
		}
		p->slot[p->levels - i].bh = f.b[i].bh;
		p->slot[p->levels - i].ptr = f.b[i].bh->data;
	}
	if (!err) {
		link_up(h, p, &f, len, pblk);
		ext4_inode_add_clusters(ei, (s64)len + missing);
	}
	ext4_fresh_done(&f);
	return err;
}

int ext4_indirect_need(struct ext4_inode *ei, u64 lblk, u32 *blocks)
{
	struct path p;
	int err = find(ei, lblk, &p);

	*blocks = err ? 0 : p.levels - p.have;
	path_put(&p);
	return err;
}

int ext4_indirect_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk)
{
	struct path p;
	int err;

	if (!len || len > ext4_indirect_piece(ei, lblk))
		return fail(-EFBIG, "inode %llu: %u blocks from block %llu on are more than can be mapped",
			    (unsigned long long)ei->vfs.ino, len, (unsigned long long)lblk);
	if (pblk + len > UINT32_MAX)
		return fail(-ENOSPC, "no free block that a block map could point to");
	err = find(ei, lblk, &p);
	if (!err)
		err = insert(h, ei, &p, len, pblk);
	path_put(&p);
	return err;
}

/* ---- moving ---- */

int ext4_indirect_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk)
{
	struct slot *s;
	struct path p;
	int err = find(ei, lblk, &p);

	s = &p.slot[p.have];
	if (!err && pblk + len > UINT32_MAX)
		err = fail(-ENOSPC, "a block map cannot point behind block %u", UINT32_MAX);
	if (!err && (p.have < p.levels || len > ext4_indirect_piece(ei, lblk)))
		err = corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			      "its block map: a hole is where blocks are to move");
	if (!err && s->bh)
		err = ext4_access(h, s->bh);
	for (u32 i = 0; i < len && !err; i++)
		s->ptr[s->at + i] = le32_put((u32)(pblk + i));
	if (!err)
		changed(h, s);
	path_put(&p);
	return err;
}

/* ---- cutting ---- */

/* What a step frees, and the pointers [lo, hi] of slot `top` that it clears. */
struct step {
	struct piece {
		u64 blk;
		u32 len;
	} piece[EXT4_CUT_PIECES];
	u32 pieces, blocks;
	u32 top, lo, hi;
};

/* Block blk, found before the last piece's. False: it is too much for this step. */
static bool collect(const struct ext4_super *es, struct step *s, u64 blk, u32 max)
{
	struct piece *last = s->pieces ? &s->piece[s->pieces - 1] : NULL;

	if (s->blocks == max)
		return false;
	if (last && last->blk == blk + 1 && (last->blk - es->first_data_blk) % es->blocks_per_group) {
		last->blk = blk;
		last->len++;
	} else if (s->pieces < EXT4_CUT_PIECES) {
		s->piece[s->pieces++] = (struct piece){ blk, 1 };
	} else {
		return false;
	}
	s->blocks++;
	return true;
}

/* Looks at the pointers to data, down from the path's, which was set to the last one that is to go. */
static void look(const struct ext4_super *es, const struct slot *leaf, const struct ext4_cut *c,
		 struct step *s)
{
	u32 from = c->from > leaf->first ? (u32)(c->from - leaf->first) : 0;

	s->hi = leaf->at;
	s->lo = leaf->at + 1;
	while (s->lo > from) {
		u32 blk = le32_get(leaf->ptr[s->lo - 1]);

		if (blk && !collect(es, s, blk, c->max))
			break;
		s->lo--;
	}
}

/* No pointer but those of [lo, hi]. */
static bool only(const struct slot *s, u32 count, u32 lo, u32 hi)
{
	for (u32 i = 0; i < count; i++)
		if ((i < lo || i > hi) && le32_get(s->ptr[i]))
			return false;
	return true;
}

/* Blocks of pointers that will be empty go too. */
static void climb(const struct ext4_super *es, const struct path *p, struct step *s)
{
	s->top = p->have;
	while (s->top && only(&p->slot[s->top], ext4_pointers_per_block(es), s->lo, s->hi)) {
		s->top--;
		s->lo = s->hi = p->slot[s->top].at;
	}
}

static int free_all(struct ext4_handle *h, struct path *p, const struct step *s, struct ext4_cut *c)
{
	int err = 0;

	for (u32 i = 0; i < s->pieces && !err; i++) {
		err = ext4_cut_free(h, c, s->piece[i].blk, s->piece[i].len, c->metadata);
		if (err && i)
			return ext4_abort(h->es, err);
	}
	if (err)
		return err;
	for (u32 k = p->have; k > s->top && !err; k--) {
		err = ext4_cut_free(h, c, p->slot[k].bh->blk, 1, true);
		if (err && (s->pieces || k < p->have))
			return ext4_abort(h->es, err);
	}
	return err;
}

static int cut_step(struct ext4_handle *h, struct ext4_inode *ei, struct path *p, struct ext4_cut *c)
{
	struct slot *at = &p->slot[p->have];
	struct step s = { .lo = 1 };
	u64 to;
	int err;

	if (p->have == p->levels) {
		look(h->es, at, c, &s);
		to = at->first + s.lo;
	} else {
		/* A hole of everything below, and perhaps more of them before it. */
		u32 i = at->at;

		while (at->bh && i && !le32_get(at->ptr[i - 1]))
			i--;
		to = at->first + (at->bh ? i * at->width : 0);
	}
	climb(h->es, p, &s);
	at = &p->slot[s.top];
	if (s.lo <= s.hi) {
		err = at->bh ? ext4_access(h, at->bh) : 0;
		if (!err)
			err = free_all(h, p, &s, c);
		if (err)
			return err;
		memset(&at->ptr[s.lo], 0, (s.hi - s.lo + 1) * sizeof(le32));
		changed(h, at);
		ext4_inode_add_clusters(ei, -(s64)(s.blocks + p->have - s.top));
	}
	c->to = to;
	return 0;
}

int ext4_indirect_cut(struct ext4_handle *h, struct ext4_inode *ei, struct ext4_cut *c)
{
	struct path p;
	int err;

	c->to = MIN(c->to, ext4_file_blocks_max(h->es, false));
	if (c->to <= c->from)
		return 0;
	err = find(ei, c->to - 1, &p);
	if (!err)
		err = cut_step(h, ei, &p, c);
	path_put(&p);
	return err;
}
