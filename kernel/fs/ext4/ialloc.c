/*
 * Inode numbers: which one a new inode gets, and giving it back.
 *
 * Where. Groups are looked at in sets that share their metadata (flex_bg), or one by one. A file goes to the group of its directory;
 * when that is full of inodes or blocks, to its set, then to groups at growing distances, which depend on the directory so that
 * full neighbours do not all run into the same one, then anywhere. Directories at the top are spread: to the set with the fewest directories
 * among those with about the average of free inodes and blocks or more. Others stay with their parent as long as its set is not
 * much worse than the average. The averages are of some time ago: they only steer.
 *
 * Invariants
 *  1. A number is taken by its bit, under the group's lock, with the descriptor joined first. A bit that is not what it must be is corruption,
 *     and nothing is changed.
 *  2. Reserved numbers are never given out, whatever the bitmap says; nor is one whose slot holds an inode in use.
 *  3. Slots below the end of the used part of the table are inodes or zeros: where the table was never written
 *     (INODE_ZEROED unset), the rest of the block in which the used part will end is zeroed first.
 *
 * A number may be used again before its freeing is durable. With a journal the freeing and the new use are in this order in the log, in one
 * transaction or in two, so each state that recovery can bring about has the one inode or the other, whole; and the names of the former one went in the
 * same transaction as it or before. Its blocks are another matter: they wait for the commit (balloc.c). In memory the former inode may still
 * be on its way out: inode_new waits for that, and who frees an inode begins no handle after ext4_ino_free. Without a
 * journal nothing orders the name's end before the new inode, and after a crash the old name could lead to it; there a number
 * whose inode was deleted only seconds ago is passed over while there are others.
 */
#include "ext4.h"

#include "lib/hash.h"
#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>

#define RECENT_SECONDS  35u  /* without a journal: until a deleted inode's names are surely home */
#define RECENT_MAX      32u  /* passed over in a group; then one of them is taken */
#define AVERAGE_AGE     256u /* new directories between two looks at all groups */
#define SPREAD_SETS_MAX 256u /* looked at for a directory at the top */

/* Free and used things of a group, or of a set of them. */
struct room {
	u64 free_inodes, free_clusters, dirs;
};

/* What a search may do. */
struct demand {
	bool is_dir;
	bool blocks; /* only groups that have free blocks too */
	bool recent; /* numbers of inodes deleted just now, too */
	int *unread; /* becomes -EIO when a group was left out because its bitmap could not be read */
};

/* ---- looking at groups ---- */

static u32 set_bits(const struct ext4_super *es)
{
	u32 bits = es->disk.log_groups_per_flex;

	return ext4_has_incompat(es, EXT4_INCOMPAT_FLEX_BG) && bits < 31 ? bits : 0;
}

static u32 set_count(const struct ext4_super *es)
{
	return (u32)(((u64)es->groups - 1) >> set_bits(es)) + 1;
}

static void set_room(struct ext4_super *es, u32 set, struct room *out)
{
	u32 bits = set_bits(es);
	u64 first = (u64)set << bits, end = MIN(first + (1ull << bits), (u64)es->groups);

	*out = (struct room){ 0 };
	for (u64 i = first; i < end; i++) {
		const struct ext4_group *g = &es->group[i];

		mutex_guard(&es->group_lock[i]);
		if (g->bad)
			continue;
		out->free_inodes += g->free_inodes;
		out->free_clusters += g->free_clusters;
		out->dirs += g->used_dirs;
	}
}

/* The average of a set, by now or by some time ago. *turn: how many directories have asked. */
static struct room average(struct ext4_super *es, u32 *turn)
{
	struct ext4_spread *s = &es->spread;
	u32 sets = set_count(es);

	*turn = atomic_fetch_add(&s->turn, 1);
	if (*turn % AVERAGE_AGE == 0) {
		struct room sum = { 0 }, one;

		for (u32 i = 0; i < sets; i++) {
			set_room(es, i, &one);
			sum.free_inodes += one.free_inodes;
			sum.free_clusters += one.free_clusters;
			sum.dirs += one.dirs;
		}
		atomic_store(&s->free_inodes, sum.free_inodes / sets);
		atomic_store(&s->free_clusters, sum.free_clusters / sets);
		atomic_store(&s->dirs, sum.dirs / sets);
	}
	return (struct room){ atomic_load(&s->free_inodes), atomic_load(&s->free_clusters),
			      atomic_load(&s->dirs) };
}

/* ---- taking in one group ---- */

/* First free bit at or after `from`, or UINT32_MAX. */
static u32 free_bit(const u8 *bitmap, u32 from, u32 bits)
{
	u32 i = from;

	while (i < bits) {
		u64 word;

		memcpy(&word, bitmap + i / 64 * sizeof(word), sizeof(word));
		if (i % 64 == 0 && word == ~0ull) {
			i += 64;
			continue;
		}
		if (!(bitmap[i / 8] >> i % 8 & 1))
			return i;
		i++;
	}
	return UINT32_MAX;
}

/* Inodes at the table's start that may have been used. */
static u32 used_slots(const struct ext4_super *es, const struct ext4_group *g)
{
	return es->inodes_per_group - MIN(g->itable_unused, es->inodes_per_group);
}

/* What the slot of a number says that the bitmap calls free. */
enum slot {
	SLOT_FREE,
	SLOT_RECENT, /* deleted just now */
	SLOT_IN_USE, /* as e2fsck sees it: so the bitmap is wrong */
};

static enum slot slot_of(const struct ext4_super *es, const struct ext4_disk_inode *raw)
{
	u32 dtime = le32_get(raw->dtime);

	if (le16_get(raw->links_count))
		return le16_get(raw->mode) && !dtime ? SLOT_IN_USE : SLOT_FREE;
	return dtime && (u32)super_now(&es->vfs).sec - dtime < RECENT_SECONDS ? SLOT_RECENT : SLOT_FREE;
}

/* Locks: the group's. */
static int look_at_slot(struct ext4_super *es, u32 group, u32 bit, enum slot *out)
{
	u64 ino = (u64)group * es->inodes_per_group + bit + 1, blk;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = { { 0 } };
	u32 off;
	int err;

	*out = SLOT_FREE;
	if (bit >= used_slots(es, &es->group[group]))
		return 0;
	err = ext4_inode_where(es, ino, &blk, &off);
	if (!err)
		err = bh_read(es->vfs.dev, blk, &ext4_itable_ops, &ctx, &bh);
	if (err)
		return err;
	bh_lock(bh);
	*out = slot_of(es, (const void *)((const u8 *)bh->data + off));
	bh_unlock(bh);
	if (*out == SLOT_IN_USE)
		(void)!corrupt(&es->vfs.health, "inode", ino, "in use, but its bitmap says that it is free");
	return 0;
}

/* Locks: the group's. UINT32_MAX: none that fits the demand. */
static int choose_bit(struct ext4_super *es, u32 group, const u8 *bitmap, const struct demand *want, u32 *bit)
{
	u64 base = (u64)group * es->inodes_per_group;
	u32 at = base + 1 < es->first_ino ? (u32)(es->first_ino - 1 - base) : 0, passed = 0;
	enum slot slot;

	while ((at = free_bit(bitmap, at, es->inodes_per_group)) != UINT32_MAX) {
		int err = look_at_slot(es, group, at, &slot);

		if (err)
			return err;
		if (slot == SLOT_FREE || (slot == SLOT_RECENT && (want->recent || passed++ >= RECENT_MAX)))
			break;
		at++;
	}
	*bit = at;
	return 0;
}

/* See invariant 3. The slot itself is written whole by who asked for it. Locks: the group's. */
static int zero_neighbours(struct ext4_handle *h, const struct ext4_group *g, u32 bit)
{
	struct ext4_super *es = h->es;
	u32 per = es->inodes_per_block, first = bit / per * per, used = used_slots(es, g);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = { { 0 } };
	u64 blk = g->inode_table + bit / per;
	int err;

	if (!es->desc_csum || g->flags & EXT4_GROUP_INODE_ZEROED || bit < used)
		return 0;
	if (used <= first)
		err = bh_get_new(es->vfs.dev, blk, &ext4_itable_ops, &ctx, &bh);
	else
		err = bh_read(es->vfs.dev, blk, &ext4_itable_ops, &ctx, &bh);
	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	used = MAX(used, first) - first;
	bh_lock(bh);
	memset((u8 *)bh->data + used * es->inode_bytes, 0, (per - used) * es->inode_bytes);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	return 0;
}

/* Locks: the group's. */
static int take_bit(struct ext4_handle *h, u32 group, struct buffer_head *bitmap, u32 bit, bool is_dir)
{
	struct ext4_super *es = h->es;
	struct ext4_group *g = &es->group[group];
	u8 *bytes = bitmap->data;
	int err = ext4_group_change(h, group);

	if (!err)
		err = ext4_access(h, bitmap);
	if (!err)
		err = zero_neighbours(h, g, bit);
	if (err)
		return err;
	bytes[bit / 8] |= (u8)(1u << bit % 8);
	ext4_dirty(h, bitmap);
	ext4_group_add(es, group, 0, -1);
	if (is_dir)
		g->used_dirs++;
	if (es->desc_csum) {
		g->flags &= (u16)~EXT4_GROUP_INODE_UNINIT;
		g->itable_unused = MIN(g->itable_unused, es->inodes_per_group - bit - 1);
	}
	return 0;
}

/* Without its bitmap: damage was recorded where it was found out, and lasts; the other groups serve on. Locks: the group's. */
static int left_out(struct ext4_super *es, u32 group, const struct demand *want, int err)
{
	if (err == -EUCLEAN) {
		ext4_group_take_out(es, group, false);
		log_warn("%s: group %u: its inode bitmap is damaged: no new inodes there as long as it is "
			 "mounted",
			 es->vfs.health.name, group);
		return 0;
	}
	if (err != -EIO)
		return err;
	*want->unread = err;
	return 0;
}

/* 1: taken. 0: the group has none, or cannot be used. */
static int try_group(struct ext4_handle *h, u32 group, const struct demand *want, u64 *ino)
{
	struct ext4_super *es = h->es;
	struct ext4_group *g = &es->group[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 bit;
	int err;

	mutex_guard(&es->group_lock[group]);
	if (g->bad || g->inodes_out || !g->free_inodes || (want->blocks && !g->free_clusters))
		return 0;
	err = ext4_inode_bitmap(es, group, &bh);
	if (err)
		return left_out(es, group, want, err);
	err = choose_bit(es, group, bh->data, want, &bit);
	if (err || bit == UINT32_MAX)
		return err;
	err = take_bit(h, group, bh, bit, want->is_dir);
	*ino = (u64)group * es->inodes_per_group + bit + 1;
	return err ? err : 1;
}

/* ---- which group ---- */

static int try_set(struct ext4_handle *h, u32 set, const struct demand *want, u64 *ino)
{
	u32 bits = set_bits(h->es);
	u64 first = (u64)set << bits, end = MIN(first + (1ull << bits), (u64)h->es->groups);
	int got = 0;

	for (u64 i = first; i < end && !got; i++)
		got = try_group(h, (u32)i, want, ino);
	return got;
}

static int try_all(struct ext4_handle *h, u32 start, const struct demand *want, u64 *ino)
{
	u32 groups = h->es->groups;
	int got = 0;

	for (u32 i = 0; i < groups && !got; i++)
		got = try_group(h, (u32)(((u64)start + i) % groups), want, ino);
	return got;
}

static int take_for_file(struct ext4_handle *h, const struct ext4_inode *dir, struct demand want, u64 *ino)
{
	u32 groups = h->es->groups, home = ext4_ino_group(h->es, dir->vfs.ino);
	int got;

	want.blocks = true;
	got = try_group(h, home, &want, ino);
	if (!got)
		got = try_set(h, home >> set_bits(h->es), &want, ino);
	for (u64 step = 1, at = home + dir->vfs.ino; step < groups && !got; step *= 2) {
		at += step;
		got = try_group(h, (u32)(at % groups), &want, ino);
	}
	want.blocks = false;
	return got ? got : try_all(h, home, &want, ino);
}

static bool is_top(const struct ext4_inode *dir)
{
	return dir->vfs.ino == EXT4_INO_ROOT || dir->flags & EXT4_FL_TOPDIR;
}

/* The set with the fewest directories among those that are not much worse than the average. UINT32_MAX: none. */
static u32 emptiest_set(struct ext4_super *es, const struct room *mean, u32 turn)
{
	u32 sets = set_count(es), start = (u32)(hash_u64(turn) % sets), best = UINT32_MAX;
	u64 least = UINT64_MAX;
	struct room r;

	for (u32 i = 0; i < MIN(sets, SPREAD_SETS_MAX); i++) {
		u32 set = (u32)(((u64)start + i) % sets);

		set_room(es, set, &r);
		if (!r.free_inodes || r.free_inodes < mean->free_inodes * 3 / 4 || !r.free_clusters ||
		    r.free_clusters < mean->free_clusters * 3 / 4 || r.dirs >= least)
			continue;
		least = r.dirs;
		best = set;
	}
	return best;
}

/* The parent's set, or the next that is not much worse than the average. UINT32_MAX: none. */
static u32 balanced_set(struct ext4_super *es, const struct room *mean, u32 home)
{
	u64 inodes = (u64)es->inodes_per_group << set_bits(es),
	    clusters = (u64)es->clusters_per_group << set_bits(es);
	u32 sets = set_count(es);
	struct room r;

	for (u32 i = 0; i < MIN(sets, SPREAD_SETS_MAX); i++) {
		u32 set = (u32)(((u64)home + i) % sets);

		set_room(es, set, &r);
		if (r.free_inodes && r.free_clusters && r.dirs <= mean->dirs + inodes / 16 &&
		    r.free_inodes + inodes / 4 >= mean->free_inodes &&
		    r.free_clusters + clusters / 4 >= mean->free_clusters)
			return set;
	}
	return UINT32_MAX;
}

static int take_for_dir(struct ext4_handle *h, const struct ext4_inode *parent, struct demand want, u64 *ino)
{
	struct ext4_super *es = h->es;
	u32 home = ext4_ino_group(es, parent->vfs.ino), turn, set;
	struct room mean = average(es, &turn);
	int got = 0;

	want.is_dir = true;
	set = is_top(parent) ? emptiest_set(es, &mean, turn) : balanced_set(es, &mean, home >> set_bits(es));
	if (set != UINT32_MAX)
		got = try_set(h, set, &want, ino);
	return got ? got : try_all(h, home, &want, ino);
}

int ext4_ino_take(struct ext4_handle *h, struct ext4_inode *dir, u32 mode, u64 *ino)
{
	int got, unread = 0;
	struct demand want = { .recent = h->es->journal, .unread = &unread };

	for (;;) {
		got = S_ISDIR(mode) ? take_for_dir(h, dir, want, ino) : take_for_file(h, dir, want, ino);
		if (got || want.recent)
			break;
		want.recent = true;
	}
	if (got)
		return MIN(got, 0);
	if (unread)
		return fail(unread, "%s: no free inode but in groups whose bitmaps could not be read",
			    h->es->vfs.health.name);
	return fail(-ENOSPC, "no free inode on %s", h->es->vfs.health.name);
}

int ext4_ino_claim(struct ext4_handle *h, u64 ino, bool is_dir)
{
	struct ext4_super *es = h->es;
	u32 group = ext4_ino_group(es, ino), bit = (u32)((ino - 1) % es->inodes_per_group);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = es->group[group].bad ? -EUCLEAN : ext4_inode_bitmap(es, group, &bh);
	if (err)
		return err;
	if (((const u8 *)bh->data)[bit / 8] >> bit % 8 & 1)
		return corrupt(&es->vfs.health, "inode", ino,
			       "taken, but its bitmap says that it is taken already");
	if (!es->group[group].free_inodes)
		return corrupt(&es->vfs.health, "inode", ino, "taken, but its group counts none as free");
	return take_bit(h, group, bh, bit, is_dir);
}

/* ---- giving back ---- */

int ext4_ino_free(struct ext4_handle *h, u64 ino, bool is_dir)
{
	struct ext4_super *es = h->es;
	u32 group = ext4_ino_group(es, ino), bit = (u32)((ino - 1) % es->inodes_per_group);
	u8 mask = (u8)(1u << bit % 8);
	struct ext4_group *g = &es->group[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u8 *byte;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = ext4_inode_bitmap(es, group, &bh);
	if (err)
		return err;
	byte = (u8 *)bh->data + bit / 8;
	if (!(*byte & mask))
		return corrupt(&es->vfs.health, "inode", ino,
			       "freed, but its bitmap says that it is free already");
	err = ext4_group_change(h, group);
	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	*byte &= (u8)~mask;
	ext4_dirty(h, bh);
	ext4_group_add(es, group, 0, 1);
	if (is_dir && g->used_dirs)
		g->used_dirs--;
	return 0;
}

int ext4_ino_is_taken(struct ext4_super *es, u64 ino, bool *taken)
{
	u32 group = ext4_ino_group(es, ino), bit = (u32)((ino - 1) % es->inodes_per_group);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	mutex_guard(&es->group_lock[group]);
	err = ext4_inode_bitmap(es, group, &bh);
	if (!err)
		*taken = ((const u8 *)bh->data)[bit / 8] >> bit % 8 & 1;
	return err;
}

void ext4_inos_limit(struct ext4_super *es, u32 group)
{
	for (; group < es->groups; group++) {
		mutex_guard(&es->group_lock[group]);
		if (!es->group[group].inodes_out)
			ext4_group_take_out(es, group, false);
	}
}
