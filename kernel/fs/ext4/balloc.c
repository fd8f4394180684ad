/*
 * Blocks: which are free, who gets them, and when they may be used again.
 *
 *            reserve              take                     free                      committed
 *   free ──────────────► reserved ─────► taken (a file's) ──────► freed, not durable ──────────► free
 *          unreserve ◄──┘
 *
 * Memory has for each group that was ever looked at a bitmap of what cannot be allocated, `busy`: taken on the volume, reserved, or freed
 * in a transaction that is not durable. Reserving and giving back change memory only; taking and freeing change the volume's
 * bitmap too, in a handle.
 *
 * Invariants
 *  1. A block is reserved by at most one, and only if ext4_blocks_ok: neither bitmap nor descriptor is believed about metadata.
 *  2. The volume's bit is set exactly while the block is taken. A bit that is not what it must be is corruption: nothing is
 *     changed, and the group gives no more blocks.
 *  3. A freed block is busy until ext4_committed says that the transaction that freed it is durable. So nothing that is written to
 *     it can be seen through what the volume says before that.
 *  4. `avail` is the number of blocks that are not busy, over all groups, as counted in groups not looked at.
 *
 * Of what is free, the superblock's reserved blocks are for the privileged, and a pool is kept for metadata, so that data once accepted finds its
 * extent blocks.
 *
 * Windows. Who appends to a file gets blocks reserved behind what he asked for, doubling each time, so that files written at the
 * same time stay in one piece each. There are few; the one not used for longest goes, and all go before anybody is told
 * that the volume is full.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define META_POOL_MAX     4096u
#define WINDOWS           64u
#define WINDOW_BLOCKS_MIN 16u
#define WINDOW_BYTES_MAX  (8u << 20)
#define GROUPS_TRIED      64u /* before a shorter piece is good enough */
#define RACES_MAX         8u  /* what was found was gone when it was to be reserved */

struct bgroup {
	u8 *busy;    /* [the group's lock] NULL: never looked at */
	u32 avail;   /* [the group's lock] clear bits in busy */
	u32 longest; /* [the group's lock] no run of clear bits is longer */
	bool broken; /* [the group's lock] its bitmap cannot be believed */
};

/* Blocks that wait for a commit. */
struct freed {
	u64 blk;
	u32 len, tid;
};

struct window {
	u64 ino; /* 0: unused */
	u64 lblk, blk;
	u32 len, grow;
	u64 used; /* when, by the count of requests */
};

struct ext4_balloc {
	_Atomic s64 avail;        /* see invariant 4 */
	_Atomic u64 freed_blocks; /* that wait for a commit */
	u64 meta_pool, reserved;  /* [const] blocks kept back */
	struct mutex lock;        /* rank LEAF */
	struct freed *freed;      /* [lock] a ring, by tid */
	u32 freed_first, freed_count, freed_room;
	struct window window[WINDOWS]; /* [lock] */
	u64 window_clock;              /* [lock] */
	struct bgroup group[];
};

/* ---- bits ---- */

/* The first bit at or after `from` that is `set`; `end`: none. */
static u32 next_bit(const u8 *map, u32 from, u32 end, bool set)
{
	while (from < end) {
		u64 word = 0;
		u32 at = from / 64 * 8;

		memcpy(&word, map + at, sizeof(word));
		word = set ? word : ~word;
		word &= ~0ull << from % 64;
		if (word) {
			from = at * 8 + (u32)__builtin_ctzll(word);
			break;
		}
		from = at * 8 + 64;
	}
	return MIN(from, end);
}

static bool all_are(const u8 *map, u32 from, u32 len, bool set)
{
	return next_bit(map, from, from + len, !set) == from + len;
}

static void put_bits(u8 *map, u32 from, u32 len, bool set)
{
	for (u32 i = from; i < from + len; i++) {
		if (i % 8 == 0 && from + len - i >= 8) {
			map[i / 8] = set ? 0xff : 0;
			i += 7;
		} else if (set) {
			map[i / 8] |= (u8)(1u << i % 8);
		} else {
			map[i / 8] &= (u8) ~(1u << i % 8);
		}
	}
}

static u32 group_of(const struct ext4_super *es, u64 blk)
{
	return (u32)((blk - es->first_data_blk) / es->blocks_per_group);
}

static u32 bit_of(const struct ext4_super *es, u64 blk)
{
	return (u32)((blk - es->first_data_blk) % es->blocks_per_group);
}

/* ---- groups in memory ---- */

/* What no file may have is busy, whatever the bitmap says. */
static void hide_metadata(const struct ext4_super *es, u32 group, u8 *busy)
{
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group);

	if (start <= es->first_data_blk)
		put_bits(busy, 0, 1, true);
	for (u32 i = 0; i < es->zone.count; i++) {
		const struct ext4_zone_range *r = &es->zone.range[i];
		u64 from = MAX(r->start, start), to = MIN(r->end, end);

		if (from < to)
			put_bits(busy, (u32)(from - start), (u32)(to - from), true);
	}
}

static u32 count_clear(const u8 *map, u32 bits)
{
	u32 n = 0;

	for (u32 at = 0; at < bits;) {
		u32 from = next_bit(map, at, bits, false);

		at = next_bit(map, from, bits, true);
		n += at - from;
	}
	return n;
}

/* The group's busy map, made when it is not there. A group whose bitmap cannot be used gives no blocks. Locks: the group's. */
static int look_at(struct ext4_super *es, u32 group, struct bgroup **out)
{
	struct bgroup *b = &es->balloc->group[group];
	u32 bits = ext4_group_blocks(es, group);
	struct buffer_head *bh;
	u8 *busy;
	int err;

	*out = b;
	if (b->busy || b->broken)
		return 0;
	err = ext4_block_bitmap(es, group, &bh);
	if (err == -EUCLEAN) {
		b->broken = true;
		atomic_fetch_sub(&es->balloc->avail, b->avail);
		b->avail = 0;
		return 0;
	}
	if (err)
		return err;
	busy = malloc(ext4_block_bytes(es));
	if (busy)
		memcpy(busy, bh->data, ext4_block_bytes(es));
	bh_put(bh);
	if (!busy)
		return fail(-ENOMEM, "no memory for a bitmap");
	hide_metadata(es, group, busy);
	b->busy = busy;
	atomic_fetch_sub(&es->balloc->avail, b->avail);
	b->avail = count_clear(busy, bits);
	b->longest = b->avail;
	atomic_fetch_add(&es->balloc->avail, b->avail);
	return 0;
}

static u64 reserved_of(const struct ext4_disk_super *d)
{
	return le32_get(d->r_blocks_count_lo) | (le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT
							 ? (u64)le32_get(d->r_blocks_count_hi) << 32
							 : 0);
}

int ext4_balloc_open(struct ext4_super *es)
{
	struct ext4_balloc *ba = calloc(1, sizeof(*ba) + es->groups * sizeof(ba->group[0]));

	if (!ba)
		return fail(-ENOMEM, "no memory for %u groups", es->groups);
	mutex_init(&ba->lock, RANK_LEAF);
	for (u32 i = 0; i < es->groups; i++) {
		if (es->group[i].bad)
			continue;
		ba->group[i].avail = MIN(es->group[i].free_clusters, ext4_group_blocks(es, i));
		ba->group[i].longest = ba->group[i].avail;
		atomic_fetch_add(&ba->avail, ba->group[i].avail);
	}
	if (ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		ba->meta_pool = MIN(es->blocks / 50, (u64)META_POOL_MAX);
	ba->reserved = reserved_of(&es->disk);
	es->balloc = ba;
	return 0;
}

void ext4_balloc_close(struct ext4_super *es)
{
	struct ext4_balloc *ba = es->balloc;

	if (!ba)
		return;
	for (u32 i = 0; i < es->groups; i++)
		free(ba->group[i].busy);
	free(ba->freed);
	mutex_fini(&ba->lock);
	free(ba);
	es->balloc = NULL;
}

/* ---- reserving ---- */

/* A run of clear bits. */
struct run {
	u32 group, bit, len;
};

/* The first run of `want`, from `from` on and then from the start, or else the longest. Locks: the group's. */
static void search(const struct ext4_super *es, struct bgroup *b, u32 group, u32 from, u32 want,
		   struct run *best)
{
	u32 bits = ext4_group_blocks(es, group), longest = 0;

	for (u32 round = 0; round < 2; round++) {
		u32 at = round ? 0 : from, end = round ? from : bits;

		while (at < end) {
			u32 clear = next_bit(b->busy, at, end, false), len;

			at = next_bit(b->busy, clear, bits, true);
			len = at - clear;
			longest = MAX(longest, len);
			if (len > best->len)
				*best = (struct run){ group, clear, len };
			if (best->len >= want)
				return;
		}
		if (!from)
			break;
	}
	/* All was seen but what a run that begins before `from` has behind it, which was seen as a part. */
	if (!from)
		b->longest = longest;
}

/* Makes up to `want` of a run busy, if it begins with a clear bit still. 0: it does not. Locks: the group's. */
static u32 seize(struct ext4_super *es, const struct run *r, u32 want)
{
	struct bgroup *b = &es->balloc->group[r->group];
	u32 bits = ext4_group_blocks(es, r->group), end = MIN(bits, r->bit + want);
	u32 len = next_bit(b->busy, r->bit, end, true) - r->bit;

	put_bits(b->busy, r->bit, len, true);
	b->avail -= len;
	b->longest = MIN(b->longest, b->avail);
	atomic_fetch_sub(&es->balloc->avail, len);
	return len;
}

/* Looks at one group; takes what is long enough at once: *len. */
static int try_group(struct ext4_super *es, u32 group, u32 goal_bit, u32 want, struct run *best, u32 *len)
{
	struct bgroup *b;
	int err;

	mutex_guard(&es->group_lock[group]);
	b = &es->balloc->group[group];
	if (!b->avail || MIN(b->longest, want) <= best->len)
		return 0;
	err = look_at(es, group, &b);
	if (err || !b->busy || !b->avail)
		return err;
	if (goal_bit && goal_bit < ext4_group_blocks(es, group)) {
		struct run exact = { group, goal_bit, 0 };

		exact.len = next_bit(b->busy, goal_bit, MIN(ext4_group_blocks(es, group), goal_bit + want),
				     true) -
			    goal_bit;
		if (exact.len == want)
			*best = exact;
	}
	if (best->len < want)
		search(es, b, group, goal_bit < ext4_group_blocks(es, group) ? goal_bit : 0, want, best);
	if (best->len >= want && best->group == group)
		*len = seize(es, best, want);
	return 0;
}

static int reserve_once(struct ext4_super *es, u64 goal, u32 want, u64 *blk, u32 *len)
{
	u32 home = goal > es->first_data_blk && goal < es->blocks ? group_of(es, goal) : 0;
	struct run best = { 0 };
	int err = 0;

	*len = 0;
	for (u32 i = 0; i < es->groups && !err && !*len; i++) {
		if (i >= GROUPS_TRIED && best.len)
			break;
		err = try_group(es, (home + i) % es->groups,
				i || goal <= es->first_data_blk ? 0 : bit_of(es, goal), want, &best, len);
	}
	if (err)
		return err;
	if (!*len && best.len) {
		mutex_guard(&es->group_lock[best.group]);
		*len = seize(es, &best, want);
	}
	if (*len)
		*blk = ext4_group_start(es, best.group) + best.bit;
	return best.len ? 0 : -ENOSPC;
}

/* Blocks that a request of this kind may have. */
static s64 usable(struct ext4_super *es, u32 flags)
{
	struct ext4_balloc *ba = es->balloc;
	s64 n = atomic_load(&ba->avail);

	if (flags & EXT4_RESERVE_META)
		return n;
	n -= (s64)ba->meta_pool;
	return vfs_privileged() ? n : n - (s64)ba->reserved;
}

static void drop_windows(struct ext4_super *es, u64 ino);

int ext4_blocks_reserve(struct ext4_super *es, u64 goal, u32 want, u32 flags, u64 *blk, u32 *len)
{
	s64 room = usable(es, flags);
	int err = 0;

	if (room < (s64)want) {
		drop_windows(es, 0);
		room = usable(es, flags);
	}
	if (room > 0) {
		want = (u32)MIN((s64)want, room);
		want = MIN(want, es->blocks_per_group);
		for (u32 i = 0; i < RACES_MAX; i++) {
			err = reserve_once(es, goal, want, blk, len);
			if (err || *len)
				break;
		}
		if (!err && *len)
			return 0;
	}
	if (err && err != -ENOSPC)
		return err;
	return fail(-ENOSPC, "no free block on %s", es->vfs.health.name);
}

/* Locks: the group's. */
static void release(struct ext4_super *es, u32 group, u32 bit, u32 len)
{
	struct bgroup *b = &es->balloc->group[group];

	if (!b->busy)
		return;
	put_bits(b->busy, bit, len, false);
	b->avail += len;
	b->longest = b->avail;
	atomic_fetch_add(&es->balloc->avail, len);
}

void ext4_blocks_unreserve(struct ext4_super *es, u64 blk, u32 len)
{
	while (len) {
		u32 group = group_of(es, blk), bit = bit_of(es, blk),
		    n = MIN(len, es->blocks_per_group - bit);

		mutex_lock(&es->group_lock[group]);
		release(es, group, bit, n);
		mutex_unlock(&es->group_lock[group]);
		blk += n;
		len -= n;
	}
}

/* ---- taking and freeing ---- */

/* The group's bitmap, joined; the bits must all be `set`. Locks: the group's. */
static int bitmap_change(struct ext4_handle *h, u32 group, u32 bit, u32 len, bool set,
			 struct buffer_head **out)
{
	struct ext4_super *es = h->es;
	struct bgroup *b = &es->balloc->group[group];
	int err = ext4_block_bitmap(es, group, out);

	if (err)
		return err;
	if (!all_are((*out)->data, bit, len, set)) {
		b->broken = true;
		atomic_fetch_sub(&es->balloc->avail, b->avail);
		b->avail = 0;
		err = corrupt(
			&es->vfs.health, "group", group,
			set ? "blocks are freed that its bitmap says are free already: %u from block %llu on"
			    : "blocks are taken that its bitmap says are in use: %u from block %llu on",
			len, (unsigned long long)(ext4_group_start(es, group) + bit));
	}
	if (!err)
		err = ext4_group_change(h, group);
	if (!err)
		err = ext4_access(h, *out);
	return err;
}

static int take_in_group(struct ext4_handle *h, u32 group, u32 bit, u32 len)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = bitmap_change(h, group, bit, len, false, &bh);
	if (err)
		return err;
	put_bits(bh->data, bit, len, true);
	ext4_dirty(h, bh);
	es->group[group].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
	es->group[group].free_clusters -= MIN(len, es->group[group].free_clusters);
	return 0;
}

int ext4_blocks_take(struct ext4_handle *h, u64 blk, u32 len)
{
	int err = 0;

	while (len && !err) {
		u32 bit = bit_of(h->es, blk), n = MIN(len, h->es->blocks_per_group - bit);

		err = take_in_group(h, group_of(h->es, blk), bit, n);
		blk += n;
		len -= n;
	}
	return err;
}

static int freed_add(struct ext4_balloc *ba, u64 blk, u32 len, u32 tid)
{
	int err = 0;

	mutex_lock(&ba->lock);
	if (ba->freed_count == ba->freed_room) {
		u32 room = ba->freed_room ? 2 * ba->freed_room : 64;
		struct freed *more = calloc(room, sizeof(*more));

		for (u32 i = 0; more && i < ba->freed_count; i++)
			more[i] = ba->freed[(ba->freed_first + i) % ba->freed_room];
		if (more) {
			free(ba->freed);
			ba->freed = more;
			ba->freed_room = room;
			ba->freed_first = 0;
		} else {
			err = fail(-ENOMEM, "no memory to note freed blocks");
		}
	}
	if (!err) {
		ba->freed[(ba->freed_first + ba->freed_count++) % ba->freed_room] =
			(struct freed){ blk, len, tid };
		atomic_fetch_add(&ba->freed_blocks, len);
	}
	mutex_unlock(&ba->lock);
	return err;
}

static int free_in_group(struct ext4_handle *h, u32 group, u32 bit, u32 len)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct bgroup *b;
	int err;

	mutex_guard(&es->group_lock[group]);
	/* The busy map is made while the bits are still set: they stay busy in it. */
	err = look_at(es, group, &b);
	if (!err)
		err = bitmap_change(h, group, bit, len, true, &bh);
	if (!err)
		err = freed_add(es->balloc, ext4_group_start(es, group) + bit, len, h->jh.tid);
	if (err)
		return err;
	put_bits(bh->data, bit, len, false);
	ext4_dirty(h, bh);
	es->group[group].free_clusters += len;
	return 0;
}

int ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata)
{
	struct ext4_super *es = h->es;
	int err = 0;

	if (!ext4_blocks_ok(es, blk, len))
		return corrupt(&es->vfs.health, "block", blk, "freed, but not a block for files");
	for (u32 i = 0; metadata && i < len && !err; i++)
		err = ext4_forget(h, blk + i);
	while (len && !err) {
		u32 bit = bit_of(es, blk), n = MIN(len, es->blocks_per_group - bit);

		err = free_in_group(h, group_of(es, blk), bit, n);
		blk += n;
		len -= n;
	}
	return err;
}

int ext4_block_new(struct ext4_handle *h, u64 goal, u64 *blk)
{
	u32 len;
	int err = ext4_blocks_reserve(h->es, goal, 1, EXT4_RESERVE_META, blk, &len);

	if (err)
		return err;
	err = ext4_blocks_take(h, *blk, 1);
	if (err)
		ext4_blocks_unreserve(h->es, *blk, 1);
	return err;
}

/* ---- after a commit ---- */

static bool freed_pop(struct ext4_balloc *ba, u32 tid, struct freed *f)
{
	bool any;

	mutex_lock(&ba->lock);
	any = ba->freed_count && (s32)(tid - ba->freed[ba->freed_first].tid) >= 0;
	if (any) {
		*f = ba->freed[ba->freed_first];
		ba->freed_first = (ba->freed_first + 1) % ba->freed_room;
		ba->freed_count--;
	}
	mutex_unlock(&ba->lock);
	return any;
}

void ext4_committed(void *priv, u32 tid)
{
	struct ext4_super *es = priv;
	struct freed f;

	while (freed_pop(es->balloc, tid, &f)) {
		u32 group = group_of(es, f.blk);

		/* Nobody has the blocks yet. What the device makes of the hint is its own affair. */
		if (es->discard &&
		    blkdev_discard(es->vfs.dev, f.blk << es->block_bits, (u64)f.len << es->block_bits))
			err_clear();
		mutex_lock(&es->group_lock[group]);
		release(es, group, bit_of(es, f.blk), f.len);
		mutex_unlock(&es->group_lock[group]);
		atomic_fetch_sub(&es->balloc->freed_blocks, f.len);
	}
}

u64 ext4_blocks_avail(struct ext4_super *es)
{
	s64 n = usable(es, 0);

	return n > 0 ? (u64)n : 0;
}

bool ext4_blocks_pending(struct ext4_super *es)
{
	return atomic_load(&es->balloc->freed_blocks);
}

bool ext4_retry(struct ext4_super *es, int err, bool *tried)
{
	if (err != -ENOSPC || *tried || !es->journal || !ext4_blocks_pending(es))
		return false;
	*tried = true;
	return !jbd2_commit(es->journal, jbd2_running(es->journal));
}

/* ---- windows ---- */

/* Takes the inode's window (ino 0: any) out of the table; len 0 when there is none. */
static struct window window_out(struct ext4_balloc *ba, u64 ino)
{
	struct window w = { 0 };

	mutex_lock(&ba->lock);
	for (u32 i = 0; i < WINDOWS && !w.ino; i++)
		if (ba->window[i].ino && (!ino || ba->window[i].ino == ino)) {
			w = ba->window[i];
			ba->window[i] = (struct window){ 0 };
		}
	mutex_unlock(&ba->lock);
	return w;
}

/* Puts it back, perhaps in the place of an old one, which is returned. */
static struct window window_in(struct ext4_balloc *ba, const struct window *w)
{
	struct window old;
	u32 at = 0;

	mutex_lock(&ba->lock);
	for (u32 i = 1; i < WINDOWS && ba->window[at].ino; i++)
		if (!ba->window[i].ino || ba->window[i].used < ba->window[at].used)
			at = i;
	old = ba->window[at];
	ba->window[at] = *w;
	ba->window[at].used = ++ba->window_clock;
	mutex_unlock(&ba->lock);
	return old;
}

static void drop_windows(struct ext4_super *es, u64 ino)
{
	struct window w;

	do {
		w = window_out(es->balloc, ino);
		if (w.len)
			ext4_blocks_unreserve(es, w.blk, w.len);
	} while (w.ino && !ino);
}

void ext4_window_drop(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);

	if (es->balloc)
		drop_windows(es, ei->vfs.ino);
}

/* Windows are a luxury: not on a volume that is filling up. */
static u32 window_room(struct ext4_super *es, u32 grow)
{
	return ext4_blocks_avail(es) > es->blocks / 16 ? grow : 0;
}

/* More blocks for the window, which has fewer than are wanted. */
static int window_refill(struct ext4_super *es, struct window *w, u64 goal, u32 want)
{
	u32 ahead = window_room(es, w->grow), len;
	u64 blk;
	int err = ext4_blocks_reserve(es, w->len ? w->blk + w->len : goal, want - w->len + ahead, 0, &blk,
				      &len);

	if (err)
		return w->len ? 0 : err;
	w->grow = MIN(2 * w->grow, WINDOW_BYTES_MAX >> es->block_bits);
	if (w->len && blk != w->blk + w->len) {
		/* Elsewhere: what there is goes first; the rest is found next time. */
		ext4_blocks_unreserve(es, blk, len);
		return 0;
	}
	if (!w->len)
		w->blk = blk;
	w->len += len;
	return 0;
}

int ext4_data_reserve(struct ext4_inode *ei, u64 lblk, u64 goal, u32 want, u64 *blk, u32 *len)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct window w = window_out(es->balloc, ei->vfs.ino), old;
	int err = 0;

	if (w.ino && w.lblk != lblk) {
		ext4_blocks_unreserve(es, w.blk, w.len);
		w.ino = 0;
	}
	if (!w.ino) {
		if (lblk << es->block_bits < inode_disk_size(&ei->vfs))
			return ext4_blocks_reserve(es, goal, want, 0, blk, len);
		w = (struct window){ .ino = ei->vfs.ino, .lblk = lblk, .grow = WINDOW_BLOCKS_MIN };
	}
	if (w.len < want)
		err = window_refill(es, &w, goal, want);
	if (err)
		return err;
	*blk = w.blk;
	*len = MIN(want, w.len);
	w.blk += *len;
	w.lblk += *len;
	w.len -= *len;
	old = window_in(es->balloc, &w);
	if (old.len)
		ext4_blocks_unreserve(es, old.blk, old.len);
	return 0;
}
