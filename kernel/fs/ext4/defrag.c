/*
 * Files in fewer pieces: which parts of a file are worth moving, and where to.
 *
 * A piece is what lies in one on the volume, in the order of the file, or but for holes whose places are kept free; what is long already stays. A part is some pieces in a row, together no
 * longer than a group. All that it needs is reserved before anything is copied (as little as it takes to see that it is no good), and only
 * when the place is in fewer pieces than what is there the part is moved (move.c), else all is given back. Where a large part finds no such place,
 * smaller ones are tried.
 *
 * The place is used up in the order of the file. When others change the file between two steps, it may be too small, and the rest of
 * the part stays where it is; or too large, and what is left is given back.
 */
#include "ext4.h"

#include <errno.h>
#include <stdlib.h>

#define PLACES_MAX   1024u /* pieces of a part's new place */
#define PART_SMALLER 4u    /* each try is for a part so many times smaller */
#define PART_TRIES   4u

/* ---- pieces ---- */

/* A walk through a file's pieces, in file order. */
struct walk {
	struct ext4_inode *ei;
	u64 lblk;            /* where it is */
	struct ext4_run run; /* the next one of the map, from lblk on; len 0: not looked at yet */
	u64 last;            /* the last cluster on the volume so far; 0: none */
};

struct piece {
	u64 from, to; /* blocks of the file, from a cluster to a cluster */
	u64 clusters, blocks;
};

/* The next run that is not a hole is in w->run. len 0: there is none. Locks: map_lock. */
static int next_run(struct walk *w)
{
	struct ext4_inode *ei = w->ei;
	u64 end = ext4_file_blocks_max(ext4_inode_super(ei), ext4_has_extents(ei));
	int err = 0;

	w->run.len = 0;
	while (w->lblk < end && !err && !w->run.len) {
		rw_read_lock(&ei->tree);
		err = ext4_map_blocks(ei, w->lblk, end - w->lblk, &w->run);
		rw_read_unlock(&ei->tree);
		if (err || w->run.pblk)
			continue;
		w->lblk = w->run.last ? end : w->run.lblk + w->run.len;
		w->run.len = 0;
	}
	return err;
}

/* The next piece; clusters 0: there is none. Locks: map_lock. */
static int next_piece(struct walk *w, struct piece *out)
{
	u32 bits = ext4_inode_super(w->ei)->cluster_bits;
	u64 counted = 0; /* clusters of the file up to here */
	int err = 0;

	*out = (struct piece){ 0 };
	for (;;) {
		u64 pblk, len, first;

		if (!w->run.len)
			err = next_run(w);
		if (err || !w->run.len)
			return err;
		pblk = w->run.pblk + (w->lblk - w->run.lblk);
		len = w->run.lblk + w->run.len - w->lblk;
		first = pblk >> bits;
		if (out->clusters && first != w->last && first != w->last + 1 &&
		    first - w->last != (w->lblk >> bits) - (counted - 1))
			return 0;
		if (!out->clusters)
			out->from = w->lblk >> bits << bits;
		w->last = (pblk + len - 1) >> bits;
		out->clusters += ((w->lblk + len - 1) >> bits) + 1 - MAX(w->lblk >> bits, counted);
		out->blocks += len;
		w->lblk += len;
		counted = ((w->lblk - 1) >> bits) + 1;
		out->to = counted << bits;
		w->run.len = 0;
	}
}

int ext4_fragments(struct inode *inode, struct fragments *out)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	struct walk w = { .ei = ei };
	u64 clusters = 0;
	int err;

	*out = (struct fragments){ 0 };
	if (ei->flags & EXT4_FL_INLINE_DATA)
		return 0;
	for (;;) {
		struct piece p;

		err = next_piece(&w, &p);
		if (err || !p.clusters)
			break;
		out->blocks += p.blocks;
		out->pieces++;
		clusters += p.clusters;
	}
	out->best = MIN(out->pieces, DIV_ROUND_UP(clusters, (u64)es->clusters_per_group));
	return err;
}

/* ---- a part ---- */

struct part {
	struct defrag_part vfs; /* first */
	struct ext4_move move;
	u64 clusters, pieces; /* as it lies */
	u32 places, next;     /* what is reserved for it, and which of them comes next */
	struct {
		u64 blk;
		u32 len;
	} place[PLACES_MAX];
};

static void part_add(struct part *p, const struct piece *piece)
{
	if (!p->pieces)
		p->move.lblk = piece->from;
	p->move.end = piece->to;
	p->clusters += piece->clusters;
	p->pieces++;
}

/*
 * The first pieces in [from, until) that are no longer than half of `max` clusters, several of them, and together no more. pieces < 2: none.
 */
static int find_part(struct ext4_inode *ei, u64 from, u64 until, u64 max, struct part *out)
{
	struct walk w = { .ei = ei, .lblk = from };

	out->pieces = 0;
	out->clusters = 0;
	for (;;) {
		struct piece p;
		int err = next_piece(&w, &p);
		bool is_short = p.clusters <= max / 2, fits = is_short && out->clusters + p.clusters <= max;

		if (err)
			return err;
		if (!p.clusters || p.from >= until || (!fits && out->pieces > 1))
			return 0;
		if (!fits) {
			out->pieces = 0;
			out->clusters = 0;
		}
		if (is_short)
			part_add(out, &p);
	}
}

/* Where the file would go on, were it in one piece. Locks: map_lock. */
static int goal_of(struct ext4_inode *ei, u64 lblk, u64 *goal)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 mask = (1ull << es->cluster_bits) - 1;
	struct ext4_run run = { .lblk = lblk };
	int err = 0;

	if (lblk) {
		rw_read_lock(&ei->tree);
		err = ext4_map_blocks(ei, lblk - 1, 1, &run);
		rw_read_unlock(&ei->tree);
		if (run.pblk)
			run.lblk = lblk;
	}
	if (!err)
		*goal = (ext4_goal(ei, run.lblk) + mask) & ~mask;
	return err;
}

static void give_back(struct part *p)
{
	struct ext4_super *es = ext4_inode_super(p->move.ei);

	for (; p->next < p->places; p->next++)
		ext4_blocks_unreserve(es, p->place[p->next].blk, p->place[p->next].len);
	p->places = p->next = 0;
}

/* A place for all of it. 1: it is in fewer pieces. 0: there is no better one, or no room for it. Locks: none of rank ALLOC. */
static int reserve(struct part *p, u64 goal)
{
	struct ext4_super *es = ext4_inode_super(p->move.ei);
	u64 all = p->clusters << es->cluster_bits, rest = all, pieces = 0, at = goal,
	    highest = ext4_has_extents(p->move.ei) ? ~0ull : UINT32_MAX;
	int err = 0;

	while (rest && !err && pieces < p->pieces && p->places < PLACES_MAX) {
		u64 blk;
		u32 len;

		err = ext4_blocks_reserve(es, at, (u32)MIN(rest, (u64)es->blocks_per_group), 0, &blk, &len);
		if (err)
			break;
		p->place[p->places].blk = blk;
		p->place[p->places++].len = len;
		if (blk + len > highest)
			break;
		pieces += blk != at || (!p->move.lblk && rest == all);
		at = blk + len;
		rest -= len;
	}
	if (!rest && pieces < p->pieces)
		return 1;
	give_back(p);
	return err;
}

/* As reserve, once more when blocks that wait for a commit may have been in the way. */
static int reserve_patiently(struct part *p)
{
	struct ext4_super *es = ext4_inode_super(p->move.ei);
	bool tried = false;
	u64 goal;
	int got = goal_of(p->move.ei, p->move.lblk, &goal);

	if (got)
		return got;
	do
		got = reserve(p, goal);
	while (ext4_retry(es, got ? got : -ENOSPC, &tried));
	if (got != -ENOSPC)
		return got;
	err_clear();
	return 0;
}

/*
 * The longest part at or behind `from` for which there is a better place. 1: it is reserved. 0: there is none before p->move.end; ~0: none at all.
 */
static int choose(struct part *p, u64 from)
{
	u64 max = ext4_inode_super(p->move.ei)->clusters_per_group, end = ~0ull;
	int got = 0;

	for (u32 i = 0; i < PART_TRIES && !got; i++, max /= PART_SMALLER) {
		got = find_part(p->move.ei, from, end, max, p);
		if (!got && p->pieces < 2)
			break;
		if (!got)
			got = reserve_patiently(p);
		if (!i)
			end = p->move.end;
	}
	if (!got)
		p->move.end = end;
	return got;
}

static int begin(struct inode *inode, u64 *pos_bytes, struct defrag_part **out)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	struct part *p;
	int got;

	*out = NULL;
	if (ext4_errors_new(es) || le16_get(es->disk.state) & EXT4_STATE_ERROR)
		return fail(-EUCLEAN, "%s has errors: check it first (werunos fsck)", es->vfs.health.name);
	p = calloc(1, sizeof(*p));
	if (!p)
		return fail(-ENOMEM, "no memory for a change of places");
	p->move.ei = ei;
	/* What is written next goes on where the file will end then. */
	ext4_window_drop(ei);
	got = choose(p, *pos_bytes >> es->block_bits);
	if (got >= 0)
		*pos_bytes = p->move.end == ~0ull ? ~0ull : p->move.end << es->block_bits;
	if (got > 0)
		*out = &p->vfs;
	else
		free(p);
	return MIN(got, 0);
}

static struct part *part_of(struct defrag_part *part)
{
	return container_of(part, struct part, vfs);
}

static int copy(struct inode *inode, struct defrag_part *part)
{
	struct part *p = part_of(part);
	struct ext4_move *m = &p->move;
	int err = 0;

	(void)inode;
	while (!err && !m->pieces && m->lblk < m->end) {
		if (!m->len && p->next == p->places)
			break;
		if (!m->len) {
			m->blk = p->place[p->next].blk;
			m->len = p->place[p->next++].len;
		}
		err = ext4_move_copy(m);
	}
	return err ? err : m->pieces > 0;
}

static int swap(struct inode *inode, struct defrag_part *part)
{
	struct ext4_move *m = &part_of(part)->move;
	u64 blocks = 0;
	int err;

	for (u32 i = 0; i < m->pieces; i++)
		blocks += m->piece[i].len;
	err = ext4_move_swap(m);
	if (!err)
		part->moved_bytes += blocks << ext4_inode_super(ext4_inode(inode))->block_bits;
	return err;
}

static int end(struct inode *inode, struct defrag_part *part)
{
	struct part *p = part_of(part);
	int err = ext4_move_end(&p->move);

	if (p->move.len)
		ext4_blocks_unreserve(ext4_super(inode->sb), p->move.blk, p->move.len);
	give_back(p);
	free(p);
	return err;
}

const struct defrag_ops ext4_defrag_ops = { .begin = begin, .copy = copy, .swap = swap, .end = end };
