/*
 * The space of groups: which blocks can be had, where a piece is best taken, and what becomes of those that are freed.
 *
 *   - A group that is allocated from has a map in memory, `busy`: the bitmap on the volume, and besides blocks that are reserved
 *     or wait for a commit. It is made when it is needed, and dropped when it says no more than the volume and there are too many.
 *   - Search: at the goal; behind it and before it in its group; then group by group, first for a piece of full length,
 *     then for shorter ones. `free` and `longest` of a group, read without its lock, tell which need not be looked at.
 *   - Freed blocks are listed by transaction. ext4_committed makes them free in memory too.
 *
 * Invariants
 *  1. A block is handed out only when it is free on the volume, not reserved, not waiting, and may belong to a file, whatever
 *     the bitmap says: `busy` has what the zone and the journal hold.
 *  2. A bitmap that contradicts the zone, the journal or its descriptor's count is corruption: the group is broken,
 *     and left as it is until somebody repairs the volume. One that could not be read is another matter: it is tried again.
 *  3. Blocks are taken only if they were reserved, freed only if they were taken; anything else is corruption, found before
 *     something is changed.
 *  4. free = zero bits of busy, held = bits of busy that the volume's bitmap has not. Without busy: held is 0.
 *  5. No lock is held over a group but its own, and one group's at a time.
 */
#include "balloc.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define BUSY_BYTES_MAX (16u << 20) /* of all maps that could be dropped */
#define NO_GOAL        UINT32_MAX
#define LOADS_MAX      32u /* groups whose map is made in search of a long piece */
#define ROUNDS_MAX     3u
#define REST_S         10u /* a group whose bitmap could not be read */

/* A run that waits for its transaction. */
struct freed {
	struct list link;
	u32 tid, group;
	u32 at, len; /* in the group, in clusters */
};

/* ---- bits ---- */

static u32 find_bit(const u64 *map, u32 from, u32 end, bool busy)
{
	u64 flip = busy ? 0 : ~0ull, word;

	if (from >= end)
		return end;
	word = (map[from / 64] ^ flip) & ~0ull << from % 64;
	for (from = ALIGN_DOWN(from, 64u);; word = map[from / 64] ^ flip) {
		if (word)
			return MIN(end, from + (u32)__builtin_ctzll(word));
		from += 64;
		if (from >= end)
			return end;
	}
}

static void change_bits(u64 *map, u32 from, u32 len, bool busy)
{
	while (len) {
		u32 n = MIN(len, 64 - from % 64);
		u64 mask = (n == 64 ? ~0ull : (1ull << n) - 1) << from % 64;

		if (busy)
			map[from / 64] |= mask;
		else
			map[from / 64] &= ~mask;
		from += n;
		len -= n;
	}
}

/* Are all of these bits of a bitmap as they should be? */
static bool disk_bits_are(const u8 *bitmap, u32 from, u32 len, bool set)
{
	for (u32 i = from; i < from + len; i++) {
		if (i % 8 == 0 && from + len - i >= 8) {
			if (bitmap[i / 8] != (set ? 0xff : 0))
				return false;
			i += 7;
		} else if ((bitmap[i / 8] >> i % 8 & 1) != set) {
			return false;
		}
	}
	return true;
}

static void change_disk_bits(u8 *bitmap, u32 from, u32 len, bool set)
{
	for (u32 i = from; i < from + len; i++) {
		if (i % 8 == 0 && from + len - i >= 8) {
			bitmap[i / 8] = set ? 0xff : 0;
			i += 7;
		} else if (set) {
			bitmap[i / 8] |= (u8)(1u << i % 8);
		} else {
			bitmap[i / 8] &= (u8) ~(1u << i % 8);
		}
	}
}

/* ---- maps ---- */

/* Of the monotonic clock; never 0. */
static u32 now_s(void)
{
	return (u32)(os_monotonic_ns() / 1000000000u) | 1;
}

static u32 map_words(const struct ext4_super *es)
{
	return DIV_ROUND_UP(es->clusters_per_group, 64u);
}

static int broken(struct ext4_super *es, u32 group, const char *why)
{
	struct ext4_balloc *b = es->balloc;
	struct ext4_space *s = &b->space[group];

	atomic_store(&s->broken, true);
	atomic_fetch_sub(&b->avail, atomic_exchange(&s->free, 0));
	ext4_group_take_out(es, group, true);
	log_warn("%s: group %u: %s: nothing is allocated there as long as it is mounted", es->vfs.health.name,
		 group, why);
	return corrupt(&es->vfs.health, "group", group, "%s: nothing is allocated there any more", why);
}

/* Its bitmap could not be read just now: it is not asked for again at once. */
static bool rests(const struct ext4_space *s)
{
	u32 until_s = atomic_load(&s->rest_until_s);

	return until_s && (s32)(until_s - now_s()) > 0;
}

/* What the zone has of the group becomes busy. False: some of it was free. */
static bool lay_zone(const struct ext4_super *es, const struct ext4_zone *z, u32 group, u64 *map)
{
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group);
	bool all = true;

	for (u32 i = 0; i < z->count; i++) {
		u64 from = MAX(z->range[i].start, start), to = MIN(z->range[i].end, end);
		u32 first, last;

		if (from >= to)
			continue;
		first = (u32)((from - start) >> es->cluster_bits);
		last = (u32)((to - 1 - start) >> es->cluster_bits);
		all = all && find_bit(map, first, last + 1, false) == last + 1;
		change_bits(map, first, last + 1 - first, true);
	}
	return all;
}

static u32 count_free(const u64 *map, u32 words)
{
	u32 n = 0;

	for (u32 i = 0; i < words; i++)
		n += (u32)__builtin_popcountll(~map[i]);
	return n;
}

/* The group has `busy` afterwards. -EUCLEAN: it is broken. -EIO: its bitmap could not be read, this time. Locks: the group's. */
static int load(struct ext4_super *es, u32 group)
{
	struct ext4_space *s = &es->balloc->space[group];
	u32 clusters = ext4_group_clusters(es, group);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	scoped(freep) u64 *map = NULL;
	int err;

	if (atomic_load(&s->broken))
		return corrupt(&es->vfs.health, "group", group, "its block bitmap is not usable");
	if (s->busy)
		return 0;
	map = calloc(map_words(es), sizeof(*map));
	if (!map)
		return fail(-ENOMEM, "no memory for the map of group %u", group);
	err = ext4_block_bitmap(es, group, &bh);
	if (err == -EUCLEAN)
		return broken(es, group, "its block bitmap is damaged");
	atomic_store(&s->rest_until_s, err == -EIO ? now_s() + REST_S : 0);
	if (err)
		return err;
	for (u32 i = 0; i < DIV_ROUND_UP(es->clusters_per_group, 8u); i++)
		map[i / 8] |= (u64)((const u8 *)bh->data)[i] << i % 8 * 8;
	change_bits(map, clusters, map_words(es) * 64 - clusters, true);
	if (count_free(map, map_words(es)) != es->group[group].free_clusters)
		return broken(es, group, "its descriptor and its block bitmap disagree on what is free");
	if (!lay_zone(es, &es->zone, group, map) || !lay_zone(es, &es->journal_zone, group, map))
		return broken(es, group, "its block bitmap has blocks of metadata as free");
	s->busy = take(map);
	atomic_fetch_add(&es->balloc->loaded, 1);
	return 0;
}

/* Drops some maps when there are many. Locks: none of rank ALLOC. */
static void shed(struct ext4_super *es)
{
	struct ext4_balloc *b = es->balloc;

	for (u32 tries = 0; atomic_load(&b->loaded) >= b->loaded_max && tries < 64; tries++) {
		u32 group = atomic_fetch_add(&b->hand, 1) % es->groups;
		struct ext4_space *s = &b->space[group];

		if (!mutex_trylock(&es->group_lock[group]))
			continue;
		if (s->busy && !s->held) {
			free(s->busy);
			s->busy = NULL;
			atomic_fetch_sub(&b->loaded, 1);
		}
		mutex_unlock(&es->group_lock[group]);
	}
}

/* ---- claims ---- */

u32 ext4_space_claim(struct ext4_balloc *b, u32 n, u64 floor)
{
	s64 have = atomic_load(&b->avail), got;

	do {
		got = MIN(have - (s64)floor, (s64)n);
		if (got <= 0)
			return 0;
	} while (!atomic_compare_exchange_weak(&b->avail, &have, have - got));
	return (u32)got;
}

void ext4_space_unclaim(struct ext4_balloc *b, u64 n)
{
	atomic_fetch_add(&b->avail, (s64)n);
}

/* ---- search ---- */

struct piece {
	u32 at, len;
};

/* The first run of at least `want` that begins in [from, last), else the longest so far into *best. */
static bool scan(const u64 *map, u32 from, u32 last, u32 end, u32 want, struct piece *best)
{
	for (;;) {
		u32 at = find_bit(map, from, last, false), to;

		if (at == last)
			return false;
		to = find_bit(map, at, end, true);
		if (to - at > best->len)
			*best = (struct piece){ at, to - at };
		if (best->len >= want)
			return true;
		from = MIN(to, last);
	}
}

/*
 * A piece of `need` to `want`; at the goal, if that is free, of any length. A goal at the group's start means anywhere: then the
 * search begins where the last one ended, or where something was freed since. Locks: the group's.
 */
static bool pick(struct ext4_space *s, u32 all, u32 goal, u32 need, u32 want, struct piece *out)
{
	struct piece best = { 0, 0 };
	bool anywhere = goal == NO_GOAL || !goal;
	u32 from = anywhere ? s->next : goal;

	if (goal != NO_GOAL && find_bit(s->busy, goal, goal + 1, false) == goal) {
		*out = (struct piece){ goal, find_bit(s->busy, goal, MIN(all, goal + want), true) - goal };
		return true;
	}
	if (atomic_load(&s->longest) < need)
		return false;
	if (!scan(s->busy, from, all, all, want, &best) && !scan(s->busy, 0, from, all, want, &best))
		atomic_store(&s->longest, best.len);
	if (best.len < need)
		return false;
	*out = (struct piece){ best.at, MIN(best.len, want) };
	if (anywhere)
		s->next = out->at + out->len;
	return true;
}

/* Locks: the group's. */
static void reserve(struct ext4_space *s, const struct piece *p)
{
	change_bits(s->busy, p->at, p->len, true);
	atomic_fetch_sub(&s->free, p->len);
	s->held += p->len;
}

static bool worth(const struct ext4_space *s, u32 need)
{
	return !atomic_load(&s->broken) && !atomic_load(&s->closed) && atomic_load(&s->free) >= need &&
	       atomic_load(&s->longest) >= need && !rests(s);
}

/* 1: *out is reserved. goal NO_GOAL: none in this group. *loads: how many more maps may be made for a long piece. */
static int get_in_group(struct ext4_super *es, u32 group, u32 goal, u32 need, u32 want, u32 *loads,
			struct piece *out)
{
	struct ext4_space *s = &es->balloc->space[group];
	u32 least = goal == NO_GOAL ? need : 1;
	int err;

	if (!worth(s, least))
		return 0;
	shed(es);
	mutex_guard(&es->group_lock[group]);
	if (!worth(s, least))
		return 0;
	if (!s->busy) {
		if (goal == NO_GOAL && need > 1 && !*loads)
			return 0;
		*loads -= *loads ? 1 : 0;
		err = load(es, group);
		/* What is damaged was recorded; the other groups serve on. */
		if (err)
			return err == -EUCLEAN || err == -EIO ? 0 : err;
	}
	if (!pick(s, ext4_group_clusters(es, group), goal, need, want, out))
		return 0;
	reserve(s, out);
	return 1;
}

/* One round through the groups. */
static int get_round(struct ext4_super *es, u64 goal, u32 need, u32 want, u64 *blk, u32 *len)
{
	u32 first = (u32)((goal - es->first_data_blk) / es->blocks_per_group), loads = LOADS_MAX;

	for (u32 i = 0; i < es->groups; i++) {
		u32 group = (u32)(((u64)first + i) % es->groups);
		u64 start = ext4_group_start(es, group);
		struct piece p = { 0, 0 };
		u32 at = i ? NO_GOAL : (u32)((goal - start) >> es->cluster_bits);
		int got = get_in_group(es, group, at, need, want, &loads, &p);

		if (got < 0)
			return got;
		if (got) {
			*blk = start + ((u64)p.at << es->cluster_bits);
			*len = p.len;
			return 1;
		}
	}
	return 0;
}

int ext4_space_get(struct ext4_super *es, u64 goal, u32 n, u64 *blk, u32 *len)
{
	int got = 0;

	ext4_space_unclaim(es->balloc, n - MIN(n, es->clusters_per_group));
	n = MIN(n, es->clusters_per_group);
	if (goal < es->first_data_blk || goal >= es->blocks)
		goal = es->first_data_blk;
	for (u32 round = 0; round < ROUNDS_MAX && !got; round++)
		for (u32 need = n; need && !got; need = need == 1 ? 0 : DIV_ROUND_UP(need, 4u))
			got = get_round(es, goal, need, n, blk, len);
	ext4_space_unclaim(es->balloc, got == 1 ? n - *len : n);
	if (got)
		return MIN(got, 0);
	for (u32 i = 0; i < es->groups; i++)
		if (rests(&es->balloc->space[i]))
			return fail(-EIO, "%s: no free block but in groups whose bitmaps could not be read",
				    es->vfs.health.name);
	return fail(-ENOSPC, "no free block on %s", es->vfs.health.name);
}

/* ---- reserved, taken, freed ---- */

/* The clusters of the part of [blk, blk + len) in blk's group; how many blocks that part has. */
static u32 group_part(const struct ext4_super *es, u64 blk, u32 len, u32 *group, struct piece *p)
{
	u32 at;

	*group = (u32)((blk - es->first_data_blk) / es->blocks_per_group);
	at = (u32)(blk - ext4_group_start(es, *group));
	len = MIN(len, es->blocks_per_group - at);
	*p = (struct piece){ at >> es->cluster_bits, (u32)ext4_clusters_of(es, at, len) };
	return len;
}

static u64 piece_blk(const struct ext4_super *es, u32 group, u32 at)
{
	return ext4_group_start(es, group) + ((u64)at << es->cluster_bits);
}

/* How many clusters of the group lie before the limit. */
static u32 before_limit(const struct ext4_super *es, u32 group)
{
	u64 start = ext4_group_start(es, group), limit = es->balloc->limit;

	return limit <= start ? 0
			      : (u32)MIN((u64)es->clusters_per_group, (limit - start) >> es->cluster_bits);
}

/* Held blocks are free in memory again, but for those behind the limit. Locks: the group's. */
static void release(struct ext4_super *es, u32 group, const struct piece *p)
{
	struct ext4_space *s = &es->balloc->space[group];
	u32 end = before_limit(es, group), n = p->at < end ? MIN(p->len, end - p->at) : 0;

	if (atomic_load(&s->closed)) {
		change_bits(s->busy, p->at, p->len, false);
		s->held -= p->len;
	}
	if (!n)
		return;
	change_bits(s->busy, p->at, n, false);
	s->held -= n;
	s->next = MIN(s->next, p->at);
	atomic_store(&s->longest, atomic_fetch_add(&s->free, n) + n);
	ext4_space_unclaim(es->balloc, n);
}

void ext4_space_put(struct ext4_super *es, u64 blk, u32 blocks)
{
	u32 group, n;
	struct piece p;

	for (; blocks; blk += n, blocks -= n) {
		n = group_part(es, blk, blocks, &group, &p);
		mutex_guard(&es->group_lock[group]);
		release(es, group, &p);
	}
}

/* Joins what taking or freeing changes. Locks: the group's. */
static int join_group(struct ext4_handle *h, u32 group, struct buffer_head **bh)
{
	int err = ext4_block_bitmap(h->es, group, bh);

	if (!err)
		err = ext4_group_change(h, group);
	return err ? err : ext4_access(h, *bh);
}

static int take_part(struct ext4_handle *h, u32 group, const struct piece *p)
{
	struct ext4_super *es = h->es;
	struct ext4_space *s = &es->balloc->space[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = join_group(h, group, &bh);
	if (err)
		return err;
	if (!s->busy || find_bit(s->busy, p->at, p->at + p->len, false) != p->at + p->len ||
	    !disk_bits_are(bh->data, p->at, p->len, false))
		return corrupt(&es->vfs.health, "block", piece_blk(es, group, p->at),
			       "is to be taken, but was taken already or not reserved");
	change_disk_bits(bh->data, p->at, p->len, true);
	ext4_dirty(h, bh);
	es->group[group].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
	ext4_group_add(es, group, -(s32)p->len, 0);
	s->held -= p->len;
	return 0;
}

int ext4_blocks_take(struct ext4_handle *h, u64 blk, u32 len)
{
	u32 group, n;
	struct piece p;

	for (; len; blk += n, len -= n) {
		int err;

		n = group_part(h->es, blk, len, &group, &p);
		err = take_part(h, group, &p);
		if (err)
			return err;
	}
	return 0;
}

/* In order of transactions; a run that goes on where the last one ended joins it. `fresh` is used or freed. */
static void note_freed(struct ext4_balloc *b, struct freed *fresh)
{
	struct freed *last;

	atomic_fetch_add(&b->waiting, fresh->len);
	mutex_guard(&b->freed_lock);
	last = list_empty(&b->freed) ? NULL : list_entry(b->freed.prev, struct freed, link);
	if (last && last->tid == fresh->tid && last->group == fresh->group &&
	    (last->at + last->len == fresh->at || fresh->at + fresh->len == last->at)) {
		last->at = MIN(last->at, fresh->at);
		last->len += fresh->len;
		free(fresh);
	} else {
		list_add_tail(&b->freed, &fresh->link);
	}
}

static int forget(struct ext4_handle *h, u64 blk, u32 len)
{
	int err = 0;

	for (u32 i = 0; i < len && !err; i++)
		err = ext4_forget(h, blk + i);
	return err;
}

/* The clusters of the blocks [blk, blk + len). */
static int free_part(struct ext4_handle *h, u32 group, const struct piece *p, u64 blk, u32 len, bool metadata)
{
	struct ext4_super *es = h->es;
	struct ext4_space *s = &es->balloc->space[group];
	scoped(freep) struct freed *fresh = malloc(sizeof(*fresh));
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	if (!fresh)
		return fail(-ENOMEM, "no memory for freed blocks");
	*fresh = (struct freed){ .tid = h->jh.tid, .group = group, .at = p->at, .len = p->len };
	list_init(&fresh->link);
	mutex_guard(&es->group_lock[group]);
	err = load(es, group);
	if (err == -EIO)
		err = corrupt(&es->vfs.health, "block", blk,
			      "of %u that are freed: they stay taken, since their bitmap could not be read",
			      len);
	/* What lies there can be given up, but not be given back before the volume is repaired. */
	if (err == -EUCLEAN)
		return metadata ? forget(h, blk, len) : 0;
	if (!err)
		err = join_group(h, group, &bh);
	if (err)
		return err;
	if (!disk_bits_are(bh->data, p->at, p->len, true))
		return corrupt(&es->vfs.health, "block", blk, "of %u that are freed: some are free already",
			       len);
	if (metadata)
		err = forget(h, blk, len);
	if (err)
		return err;
	change_disk_bits(bh->data, p->at, p->len, false);
	ext4_dirty(h, bh);
	ext4_group_add(es, group, (s32)p->len, 0);
	s->held += p->len;
	note_freed(es->balloc, take(fresh));
	return 0;
}

int ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata)
{
	struct ext4_super *es = h->es;
	u64 mask = (1ull << es->cluster_bits) - 1;
	u32 group, n;
	struct piece p;

	if (!len || blk + len > es->blocks ||
	    !ext4_blocks_ok_for(es, 0, blk & ~mask, ((blk + len + mask) & ~mask) - (blk & ~mask)))
		return corrupt(&es->vfs.health, "block", blk, "of %u that are freed: not all are a file's",
			       len);
	for (; len; blk += n, len -= n) {
		int err;

		n = group_part(es, blk, len, &group, &p);
		err = free_part(h, group, &p, blk, n, metadata);
		if (err)
			return err;
	}
	return 0;
}

int ext4_blocks_look(struct ext4_super *es, u64 blk, u32 len)
{
	struct piece p;
	u32 group, n;
	int err = 0;

	for (; len && !err; blk += n, len -= n) {
		n = group_part(es, blk, len, &group, &p);
		mutex_guard(&es->group_lock[group]);
		err = load(es, group);
	}
	return err;
}

/* The runs whose transactions are durable. */
static void take_durable(struct ext4_balloc *b, u32 tid, struct list *out)
{
	mutex_guard(&b->freed_lock);
	while (!list_empty(&b->freed)) {
		struct freed *f = list_entry(b->freed.next, struct freed, link);

		if ((s32)(f->tid - tid) > 0)
			break;
		list_del(&f->link);
		list_add_tail(out, &f->link);
	}
}

static void discard(struct ext4_super *es, const struct freed *f)
{
	u32 unit = es->cluster_bits + es->block_bits;

	/* It is a hint. */
	if (blkdev_discard(es->vfs.dev, piece_blk(es, f->group, f->at) << es->block_bits,
			   (u64)f->len << unit))
		err_clear();
}

void ext4_committed(void *priv, u32 tid)
{
	struct ext4_super *es = priv;
	struct ext4_balloc *b = es->balloc;
	struct list done = LIST_INIT(done), *l;

	if (!atomic_load(&b->waiting))
		return;
	take_durable(b, tid, &done);
	while ((l = list_pop(&done))) {
		struct freed *f = list_entry(l, struct freed, link);
		const struct piece p = { f->at, f->len };

		if (es->discard)
			discard(es, f);
		mutex_lock(&es->group_lock[f->group]);
		release(es, f->group, &p);
		mutex_unlock(&es->group_lock[f->group]);
		atomic_fetch_sub(&b->waiting, f->len);
		free(f);
	}
}

/* ---- a volume that grows ---- */

int ext4_blocks_append(struct ext4_handle *h, u32 group, u32 from, u32 len, u64 blocks)
{
	struct ext4_super *es = h->es;
	struct ext4_space *s = &es->balloc->space[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = load(es, group);
	if (!err)
		err = join_group(h, group, &bh);
	if (err)
		return err;
	change_disk_bits(bh->data, from, len, false);
	ext4_dirty(h, bh);
	es->group[group].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
	es->blocks = blocks;
	ext4_group_add(es, group, (s32)len, 0);
	s->held += len;
	return 0;
}

void ext4_blocks_open_group(struct ext4_super *es, u32 group)
{
	struct ext4_space *s = &es->balloc->space[group];
	u32 n;

	mutex_guard(&es->group_lock[group]);
	ext4_group_take_in(es, group);
	n = es->group[group].free_clusters;
	s->longest = n;
	s->free = n;
	ext4_space_unclaim(es->balloc, n);
}

/* ---- a volume that is to become shorter ---- */

/* The group's clusters from `from` on cannot be had. Locks: the group's. */
static int close_part(struct ext4_super *es, u32 group, u32 from)
{
	struct ext4_space *s = &es->balloc->space[group];
	u32 end = ext4_group_clusters(es, group), taken = 0, at, to;
	int err = load(es, group);

	for (at = from; !err && (at = find_bit(s->busy, at, end, false)) < end; at = to) {
		to = find_bit(s->busy, at, end, true);
		change_bits(s->busy, at, to - at, true);
		taken += to - at;
	}
	atomic_fetch_sub(&s->free, taken);
	s->held += taken;
	atomic_fetch_sub(&es->balloc->avail, taken);
	return err;
}

int ext4_blocks_limit(struct ext4_super *es, u64 blocks)
{
	struct ext4_balloc *b = es->balloc;
	u32 group = (u32)((blocks - es->first_data_blk) / es->blocks_per_group), from;
	int err = 0;

	b->limit = blocks;
	b->kept_meta = 0;
	from = before_limit(es, group);
	for (; group < es->groups && !err; group++, from = 0) {
		mutex_guard(&es->group_lock[group]);
		if (from) {
			err = close_part(es, group, from);
			continue;
		}
		atomic_store(&b->space[group].closed, true);
		atomic_fetch_sub(&b->avail, atomic_exchange(&b->space[group].free, 0));
	}
	return err;
}

/* ---- what is free, told to the device ---- */

/* The next free run of at least `least` in [*at, end) of the group is reserved. 0: none is left. *at moves on. */
static int trim_next(struct ext4_super *es, u32 group, u32 *at, u32 end, u32 least, struct piece *out)
{
	struct ext4_space *s = &es->balloc->space[group];
	int err;

	if (!worth(s, least))
		return 0;
	shed(es);
	mutex_guard(&es->group_lock[group]);
	err = worth(s, least) ? load(es, group) : -EUCLEAN;
	if (err)
		return err == -EUCLEAN ? 0 : err;
	while (*at < end) {
		out->at = find_bit(s->busy, *at, end, false);
		out->len = find_bit(s->busy, out->at, end, true) - out->at;
		*at = out->at + MAX(out->len, 1u);
		if (out->len < least)
			continue;
		out->len = ext4_space_claim(es->balloc, out->len, 0);
		if (out->len)
			reserve(s, out);
		return out->len > 0;
	}
	return 0;
}

static int trim_group(struct ext4_super *es, u32 group, u32 at, u32 end, u32 least, u64 *trimmed)
{
	struct piece p = { 0, 0 };
	int got;

	while ((got = trim_next(es, group, &at, end, least, &p)) > 0) {
		u64 blk = piece_blk(es, group, p.at), blocks = (u64)p.len << es->cluster_bits,
		    bytes = blocks << es->block_bits;
		int err = blkdev_discard(es->vfs.dev, blk << es->block_bits, bytes);

		ext4_space_put(es, blk, (u32)blocks);
		if (err)
			return err;
		*trimmed += bytes;
	}
	return got;
}

int ext4_trim(struct super_block *sb, u64 off_bytes, u64 len_bytes, u64 min_bytes, u64 *trimmed_bytes)
{
	struct ext4_super *es = ext4_super(sb);
	u32 bits = es->cluster_bits + es->block_bits;
	u64 bytes = es->blocks << es->block_bits, from = MIN(off_bytes, bytes) >> bits,
	    end = (off_bytes < bytes ? off_bytes + MIN(len_bytes, bytes - off_bytes) : bytes) >> bits;
	u32 least = (u32)MAX(
		MIN(DIV_ROUND_UP(MIN(min_bytes, bytes), 1ull << bits), (u64)es->clusters_per_group + 1),
		1ull);
	int err = 0;

	for (u32 group = 0; group < es->groups && !err; group++) {
		u64 start = ext4_group_start(es, group) >> es->cluster_bits,
		    stop = start + ext4_group_clusters(es, group);

		if (from < stop && end > start)
			err = trim_group(es, group, (u32)(MAX(from, start) - start),
					 (u32)(MIN(end, stop) - start), least, trimmed_bytes);
	}
	return err;
}

/* ---- life ---- */

int ext4_space_open(struct ext4_super *es)
{
	struct ext4_balloc *b = es->balloc;
	s64 all = 0;

	b->space = calloc(es->groups_room, sizeof(*b->space));
	if (!b->space)
		return fail(-ENOMEM, "no memory for the space of %u groups", (u32)es->groups);
	for (u32 i = 0; i < es->groups; i++) {
		u32 n = es->group[i].bad ? 0 : es->group[i].free_clusters;

		if (n > ext4_group_clusters(es, i))
			n = 0; /* found out when the bitmap is looked at */
		atomic_init(&b->space[i].free, n);
		atomic_init(&b->space[i].longest, n);
		all += n;
	}
	atomic_init(&b->avail, all);
	b->limit = ~0ull;
	list_init(&b->freed);
	mutex_init(&b->freed_lock, RANK_LEAF);
	b->loaded_max = MAX(BUSY_BYTES_MAX / (map_words(es) * (u32)sizeof(u64)), 16u);
	return 0;
}

void ext4_space_close(struct ext4_super *es)
{
	struct ext4_balloc *b = es->balloc;
	struct list *l;

	if (!b->space)
		return;
	while ((l = list_pop(&b->freed)))
		free(list_entry(l, struct freed, link));
	mutex_fini(&b->freed_lock);
	for (u32 i = 0; i < es->groups; i++)
		free(b->space[i].busy);
	free(b->space);
}
