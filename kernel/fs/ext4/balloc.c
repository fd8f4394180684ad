/*
 * Blocks for files: what may be had by whom, and reservations.
 *
 *   - ext4_blocks_reserve claims and finds; ext4_blocks_unreserve gives back. Of what is free a part is kept for the superuser, and a
 *     small part for the map of what was accepted already, so that data once accepted never fails for lack of an extent block.
 *   - ext4_data_reserve does it for a file that is written. Who appends gets more than he asked for: the rest is the file's
 *     window, from which he is served the next time, so that files that grow at the same time do not mix. It grows with the file.
 *   - ext4_blocks_promise counts blocks without choosing any.
 *   - Below this file space is counted in clusters: what is asked for in blocks is rounded up to them, and what is given back is the
 *     clusters in which blocks lie. A file's blocks have in their clusters the places that they have in the file's.
 *
 * Invariants
 *  1. A window's blocks are reserved like any others; it belongs to one inode and goes before that does.
 *  2. No -ENOSPC while a window holds blocks.
 *  3. A piece that is handed out lies in one group.
 *  4. A window begins and ends with a cluster. What its owner leaves of his last cluster is not in the window: it is found by the map.
 */
#include "balloc.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define KEPT_META_MAX    4096u /* clusters */
#define KEPT_META_FRESH  16u
#define KEPT_META_PART   50u /* of the volume: 2 % */
#define WINDOW_MIN_BYTES (64ull << 10)
#define WINDOW_MAX_BYTES (8ull << 20)
#define WINDOWS_MAX      4u  /* in a list: 1024 in all */
#define WINDOW_PART      32u /* of what is free: the longest window */

struct window {
	struct list link;
	u64 ino;
	u64 lblk, pblk;
	u32 len; /* in blocks */
};

/* ---- windows ---- */

static struct ext4_window_list *window_list(struct ext4_super *es, u64 ino)
{
	return &es->balloc->window[hash_number(ino) % EXT4_WINDOW_LISTS];
}

/* The inode's window, which the caller then owns; NULL: none. */
static struct window *window_take(struct ext4_super *es, u64 ino)
{
	struct ext4_window_list *wl = window_list(es, ino);

	mutex_guard(&wl->lock);
	list_for_each(l, &wl->list)
	{
		struct window *w = list_entry(l, struct window, link);

		if (w->ino == ino) {
			list_del(&w->link);
			wl->count--;
			return w;
		}
	}
	return NULL;
}

static void window_free(struct ext4_super *es, struct window *w)
{
	if (w && w->len)
		ext4_space_put(es, w->pblk, w->len);
	free(w);
}

static void window_put(struct ext4_super *es, struct window *w)
{
	struct ext4_window_list *wl = window_list(es, w->ino);
	struct window *old = NULL;

	if (!w->len) {
		free(w);
		return;
	}
	mutex_lock(&wl->lock);
	if (wl->count == WINDOWS_MAX) {
		old = list_entry(wl->list.prev, struct window, link);
		list_del(&old->link);
		wl->count--;
	}
	list_add(&wl->list, &w->link);
	wl->count++;
	mutex_unlock(&wl->lock);
	window_free(es, old);
}

void ext4_window_drop(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);

	if (es->balloc)
		window_free(es, window_take(es, ei->vfs.ino));
}

/* True: there were some. */
static bool drop_windows(struct ext4_super *es)
{
	bool any = false;

	for (u32 i = 0; i < EXT4_WINDOW_LISTS; i++) {
		struct ext4_window_list *wl = &es->balloc->window[i];
		struct list all = LIST_INIT(all), *l;

		mutex_lock(&wl->lock);
		list_splice_tail(&all, &wl->list);
		wl->count = 0;
		mutex_unlock(&wl->lock);
		while ((l = list_pop(&all))) {
			window_free(es, list_entry(l, struct window, link));
			any = true;
		}
	}
	return any;
}

/* ---- reserving ---- */

/* How many blocks of its cluster lie before blk; of the volume or of a file. */
static u32 cluster_part(const struct ext4_super *es, u64 blk)
{
	return (u32)blk & ((1u << es->cluster_bits) - 1);
}

u64 ext4_kept_root(const struct ext4_super *es)
{
	return MIN((u64)es->kept_root, (u64)es->blocks);
}

u64 ext4_kept_meta(const struct ext4_super *es)
{
	if (!ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		return 0;
	return MIN((es->blocks >> es->cluster_bits) / KEPT_META_PART, (u64)KEPT_META_MAX) << es->cluster_bits;
}

static u64 floor_for(const struct ext4_balloc *b, u32 flags)
{
	if (flags & EXT4_RESERVE_META)
		return 0;
	return b->kept_meta + (vfs_privileged() ? 0 : b->kept_root);
}

static int no_space(const struct ext4_super *es)
{
	return fail(-ENOSPC, "%s is full", es->vfs.health.name);
}

/* The clusters of `want` blocks, up to those of `extra` more where there is plenty. *blk begins one, *len is of whole ones. */
static int reserve(struct ext4_super *es, u64 goal, u32 want, u32 extra, u32 flags, u64 *blk, u32 *len)
{
	u32 need = (u32)ext4_clusters_of(es, 0, want);
	struct ext4_balloc *b = es->balloc;
	u64 floor = floor_for(b, flags);
	bool dropped = false;

	extra >>= es->cluster_bits;
	for (;;) {
		u32 got = ext4_space_claim(b, need + extra, floor), n = 0;
		int err = got ? ext4_space_get(es, goal, got, blk, &n) : -ENOSPC;

		/* Who tries again still knows what he wants. */
		if (!err)
			*len = n << es->cluster_bits;
		if (err != -ENOSPC)
			return err;
		if (dropped || !drop_windows(es))
			return no_space(es);
		dropped = true;
		extra = 0;
	}
}

int ext4_blocks_reserve(struct ext4_super *es, u64 goal, u32 want, u32 flags, u64 *blk, u32 *len)
{
	u32 before = cluster_part(es, goal);
	int err = reserve(es, goal, before + want, 0, flags, blk, len);

	if (err)
		return err;
	*blk += before;
	*len = MIN(*len - before, want);
	return 0;
}

void ext4_blocks_unreserve(struct ext4_super *es, u64 blk, u32 len)
{
	ext4_space_put(es, blk, len);
}

int ext4_blocks_promise(struct ext4_super *es, u32 n, u32 flags)
{
	struct ext4_balloc *b = es->balloc;
	u64 floor = floor_for(b, flags);

	for (;;) {
		u32 got = ext4_space_claim(b, n, floor);

		if (got == n)
			return 0;
		ext4_space_unclaim(b, got);
		if (!drop_windows(es))
			return no_space(es);
	}
}

void ext4_blocks_unpromise(struct ext4_super *es, u32 n)
{
	ext4_space_unclaim(es->balloc, n);
}

int ext4_block_new(struct ext4_handle *h, u64 goal, u64 *blk)
{
	u32 len;
	int err =
		ext4_blocks_reserve(h->es, goal - cluster_part(h->es, goal), 1, EXT4_RESERVE_META, blk, &len);

	if (err)
		return err;
	err = ext4_blocks_take(h, *blk, 1);
	if (err)
		ext4_blocks_unreserve(h->es, *blk, 1);
	return err;
}

/* ---- for files ---- */

/* How much a file that will have `end` blocks gets ahead of its writer, who writes `want` now. */
static u32 window_len(const struct ext4_inode *ei, u64 lblk, u32 want)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	u64 bytes = (lblk + want) << es->block_bits, size = ext4_size(ei), n = WINDOW_MIN_BYTES;
	s64 avail = atomic_load(&es->balloc->avail);

	/* Only who appends; and a file that begins with little may have all it will ever have, but for the rest of a block. */
	if (lblk < size >> es->block_bits)
		return 0;
	if (!lblk && bytes < WINDOW_MIN_BYTES)
		return 1;
	while (n < bytes && n < WINDOW_MAX_BYTES)
		n *= 2;
	return avail > 0 ? (u32)MIN(n >> es->block_bits, ((u64)avail << es->cluster_bits) / WINDOW_PART) : 0;
}

static bool same_group(const struct ext4_super *es, u64 a, u64 b)
{
	return (a - es->first_data_blk) / es->blocks_per_group ==
	       (b - es->first_data_blk) / es->blocks_per_group;
}

/* A window for the inode, that begins where lblk, which begins a cluster, is wanted. *w is NULL or an empty one. */
static int window_new(struct ext4_inode *ei, u64 lblk, u64 goal, u32 want, struct window **w)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 pblk;
	u32 len;
	int err;

	if (!*w)
		*w = calloc(1, sizeof(**w));
	if (!*w)
		return fail(-ENOMEM, "no memory for a reservation");
	err = reserve(es, goal, want, window_len(ei, lblk, want), 0, &pblk, &len);
	if (err)
		return err;
	**w = (struct window){ .ino = ei->vfs.ino, .lblk = lblk, .pblk = pblk, .len = len };
	list_init(&(*w)->link);
	return 0;
}

/* Whole clusters. */
static u32 serve(const struct ext4_super *es, struct window *w, u32 want)
{
	u32 n = MIN(ALIGN_UP(want, 1u << es->cluster_bits), w->len);

	w->lblk += n;
	w->pblk += n;
	w->len -= n;
	return n;
}

int ext4_data_reserve(struct ext4_inode *ei, u64 lblk, u64 goal, u32 want, u64 *blk, u32 *len)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct window *w = window_take(es, ei->vfs.ino);
	u32 before = cluster_part(es, lblk), need = before + want;
	u64 first = lblk - before;
	int err = 0;

	if (w && w->lblk != first) {
		/* A write elsewhere does not take the appending writer's window away. */
		if (first < w->lblk) {
			window_put(es, w);
			return ext4_blocks_reserve(es, goal, want, 0, blk, len);
		}
		window_free(es, w);
		w = NULL;
	}
	if (!w)
		err = window_new(ei, first, goal, need, &w);
	if (err) {
		free(w);
		return err;
	}
	*blk = w->pblk;
	*len = serve(es, w, need);
	/* Where it goes on without a gap the piece is made longer. */
	if (*len < need && !window_new(ei, first + *len, *blk + *len, need - *len, &w) &&
	    w->pblk == *blk + *len && same_group(es, w->pblk, *blk))
		*len += serve(es, w, need - *len);
	window_put(es, w);
	*blk += before;
	*len = MIN(*len - before, want);
	return 0;
}

/* ---- the volume ---- */

u64 ext4_blocks_avail(struct ext4_super *es)
{
	s64 n = atomic_load(&es->balloc->avail) - (s64)es->balloc->kept_meta;

	return n > 0 ? (u64)n << es->cluster_bits : 0;
}

bool ext4_blocks_pending(struct ext4_super *es)
{
	return atomic_load(&es->balloc->waiting);
}

bool ext4_retry(struct ext4_super *es, int err, bool *tried)
{
	if (err == -EDQUOT && !*tried && ext4_orphan_any(es)) {
		ext4_quota_wait(es);
		return *tried = true;
	}
	if (err != -ENOSPC || *tried || !ext4_blocks_pending(es))
		return false;
	*tried = true;
	return !es->journal || !jbd2_commit(es->journal, jbd2_running(es->journal));
}

/* The journal's blocks are its own, whatever a bitmap says. */
static int guard_journal(struct ext4_super *es)
{
	struct ext4_inode *ei = es->journal_inode;
	u64 blocks = ei ? ext4_size(ei) >> es->block_bits : 0;
	struct ext4_run run;
	int err = 0;

	for (u64 lblk = 0; lblk < blocks && !err; lblk = run.lblk + run.len) {
		err = ext4_map_blocks(ei, lblk, blocks - lblk, &run);
		if (!err && run.pblk)
			err = ext4_zone_add(&es->journal_zone, run.pblk, run.len);
	}
	ext4_zone_seal(&es->journal_zone);
	return err;
}

void ext4_balloc_resized(struct ext4_super *es)
{
	u64 meta = ext4_kept_meta(es) >> es->cluster_bits;

	es->balloc->kept_root = ext4_kept_root(es) >> es->cluster_bits;
	/* What does not fit into a fresh volume is made anew elsewhere: it may be filled to the brim. */
	es->balloc->kept_meta = es->fresh ? MIN(meta, (u64)KEPT_META_FRESH) : meta;
}

int ext4_balloc_open(struct ext4_super *es)
{
	struct ext4_balloc *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return fail(-ENOMEM, "no memory for the allocator");
	es->balloc = b;
	ext4_balloc_resized(es);
	for (u32 i = 0; i < EXT4_WINDOW_LISTS; i++) {
		mutex_init(&b->window[i].lock, RANK_LEAF);
		list_init(&b->window[i].list);
	}
	err = ext4_space_open(es);
	if (!err)
		err = guard_journal(es);
	if (err)
		ext4_balloc_close(es);
	return err;
}

void ext4_balloc_close(struct ext4_super *es)
{
	struct ext4_balloc *b = es->balloc;

	if (!b)
		return;
	if (b->space)
		(void)drop_windows(es);
	for (u32 i = 0; i < EXT4_WINDOW_LISTS; i++)
		mutex_fini(&b->window[i].lock);
	ext4_space_close(es);
	ext4_zone_free(&es->journal_zone);
	free(b);
	es->balloc = NULL;
}
