/*
 * A volume that becomes longer, in use or not: the last group is filled up, and groups are added.
 *
 *   ext4_grow ─► phase: as many groups as there is room for descriptors ─► step: some groups, one handle
 *
 * Where the descriptors of new groups go: behind the others as long as the resize inode keeps blocks there; then, with meta_bg from then on, into
 * the groups that they describe. Tables lie where mkfs puts those of new groups, but never in a group that was there before.
 *
 * Invariants
 *  1. What lies behind the volume's end is nobody's: the inode tables of new groups are cleared there, if they have to be, before a handle makes them the
 *     volume's. All the rest changes in that one handle, so a crash leaves the volume as it was before a step or after it.
 *  2. In memory a group is whole before es->groups says that it is there, and nothing that is there moves.
 *  3. Without a journal descriptors are durable before the superblock speaks of them.
 *  4. Who mounts the volume after a crash looks at superblock and descriptors before he applies the journal. So the superblock goes home after the
 *     descriptors, and nothing of a new group can be had before it is there.
 *  5. Copies of superblock and descriptors come last (super_copy.c).
 *
 * Interface: ext4_grow; ext4_kept_top and ext4_kept_point, for shorten_end.c. The facts are in the kernel's Documentation/filesystems/ext4/ (group_descr, super) and e2fsprogs' lib/ext2fs/res_gdt.c.
 */
#include "mkfs.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define STEP_GROUPS 128u /* that a step makes, at most, where only few of their bitmaps are written */
#define SET_GROUPS  16u  /* that it makes else; 1 << FLEX_BITS */
#define FLEX_BITS   4u   /* sets in which tables are put together, at most */
#define STEP_BLOCKS 96u  /* that a step changes besides blocks kept for descriptors */
#define GROUP_SPARE 50u  /* blocks that a last group has besides its tables */
#define PERMYRIAD   10000u

struct grow {
	struct ext4_super *es;
	struct ext4_mkfs_plan plan; /* plan.es: the volume after this step, but for what it has in memory */
	struct ext4_super *after;   /* plan.es */
	u64 blocks;                 /* of the volume after this phase */
	u32 groups;                 /* likewise */
	bool one_by_one;            /* the journal is too short for steps of more than one group */
	u32 descs;                  /* descriptor blocks that are there or kept */
	u64 reserved_permyriad;
	u64 reserved_before, blocks_before;
};

/* ---- may it be? ---- */

static int refused(const struct ext4_super *es)
{
	const char *name = es->vfs.health.name;
	bool kept = ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE);

	if (kept && ext4_has_incompat(es, EXT4_INCOMPAT_META_BG))
		return fail(-EOPNOTSUPP, "%s has resize_inode and meta_bg, which exclude each other", name);
	if (!kept && le16_get(es->disk.reserved_gdt_blocks))
		return fail(-EUCLEAN, "%s keeps blocks for descriptors without resize_inode: check it first",
			    name);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_META_BG) && es->meta_bg_from > es->gdt_blocks)
		return fail(-EOPNOTSUPP, "%s has meta_bg from a descriptor block on that it does not have",
			    name);
	if (ext4_errors_new(es) || le16_get(es->disk.state) & EXT4_STATE_ERROR)
		return fail(-EUCLEAN, "%s has recorded errors: check it first", name);
	return 0;
}

static int check_size(const struct ext4_super *es, u64 blocks)
{
	const char *name = es->vfs.health.name;
	u64 groups = DIV_ROUND_UP(blocks - es->first_data_blk, (u64)es->blocks_per_group);
	u64 max = UINT32_MAX / es->inodes_per_group;

	if (blocks < es->blocks)
		return fail(-EINVAL,
			    "%s has %llu blocks of %u bytes, more than %llu: it becomes shorter only while "
			    "it is not mounted",
			    name, (unsigned long long)es->blocks, ext4_block_bytes(es),
			    (unsigned long long)blocks);
	if (blocks >> 32 && !ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		return fail(-EFBIG, "%s has not the feature 64bit: it can have 2^32 - 1 blocks at most",
			    name);
	if (blocks >> 48)
		return fail(-EFBIG, "%llu blocks are more than a volume can have",
			    (unsigned long long)blocks);
	if (groups > max)
		return fail(
			-EFBIG,
			"%s has %u inodes for each group, so it can have %llu groups, %llu blocks, at most",
			name, es->inodes_per_group, (unsigned long long)max,
			(unsigned long long)(max * es->blocks_per_group + es->first_data_blk));
	return 0;
}

/* ---- what it will be ---- */

/* g->after becomes the volume with so many blocks. */
static void set_after(struct grow *g, u64 blocks)
{
	struct ext4_disk_super *d = &g->after->disk;
	u64 reserved = g->reserved_before + (blocks - g->blocks_before) * g->reserved_permyriad / PERMYRIAD;
	u64 groups = DIV_ROUND_UP(blocks - g->es->first_data_blk, (u64)g->es->blocks_per_group);

	d->blocks_count_lo = le32_put((u32)blocks);
	d->r_blocks_count_lo = le32_put((u32)reserved);
	if (ext4_has_incompat(g->es, EXT4_INCOMPAT_64BIT)) {
		d->blocks_count_hi = le32_put((u32)(blocks >> 32));
		d->r_blocks_count_hi = le32_put((u32)(reserved >> 32));
	}
	d->inodes_count = le32_put((u32)groups * g->es->inodes_per_group);
	ext4_sb_fill(g->after);
	if (ext4_has_compat(g->es, EXT4_COMPAT_RESIZE_INODE))
		d->reserved_gdt_blocks = le16_put((u16)(g->descs - g->after->gdt_blocks));
}

/* A last group that is too short for its tables is none. */
static void cut_last(struct grow *g)
{
	const struct ext4_super *a = g->after;
	u64 start = ext4_group_start(a, a->groups - 1);

	if (a->groups > g->es->groups &&
	    a->blocks - start < ext4_group_base_blocks(a, a->groups - 1) + 2 + a->itable_blocks + GROUP_SPARE)
		set_after(g, start);
	g->blocks = a->blocks;
	g->groups = a->groups;
}

/* As much of the way to `blocks` as there is room for, in memory and for descriptors. */
static int plan_phase(struct grow *g, u64 blocks)
{
	struct ext4_super *es = g->es;
	u64 groups = es->groups_room, end;
	int err;

	g->after = g->plan.es = calloc(1, sizeof(*g->after));
	if (!g->after)
		return fail(-ENOMEM, "no memory for a volume");
	(void)ext4_super_lock(es);
	g->after->disk = es->disk;
	ext4_super_unlock(es);
	g->descs = es->gdt_blocks + le16_get(es->disk.reserved_gdt_blocks);
	if (!ext4_has_incompat(es, EXT4_INCOMPAT_META_BG))
		groups = MIN(groups, (u64)g->descs * es->descs_per_block);
	end = es->first_data_blk + groups * es->blocks_per_group;
	set_after(g, MIN(blocks, end));
	cut_last(g);
	g->one_by_one =
		es->journal && g->descs - es->gdt_blocks + STEP_BLOCKS > jbd2_credits_max(es->journal);
	g->after->disk.log_groups_per_flex =
		g->one_by_one ? 0 : (u8)MIN((u32)es->disk.log_groups_per_flex, FLEX_BITS);
	g->after->group = calloc(g->groups, sizeof(*g->after->group));
	if (!g->after->group)
		return fail(-ENOMEM, "no memory for %u group descriptors", g->groups);
	err = ext4_zone_insert(&g->plan.used, 0, ext4_group_start(es, es->groups));
	if (!err)
		err = ext4_mkfs_place_more(&g->plan, es->groups);
	return err ? err : ext4_zone_round(&g->plan.used, es->cluster_bits);
}

/* ---- the inode that keeps blocks for descriptors ---- */

/* What of its map a step changes. */
struct kept {
	bool is;                 /* it does */
	struct buffer_head *top; /* the block that points to those that are kept in group 0 */
	struct buffer_head **bh; /* [count] these, as long as they are kept, when they get more copies */
	u32 count;
};

static void kept_put(struct kept *k)
{
	bh_put(k->top);
	for (u32 i = 0; k->bh && i < k->count; i++)
		bh_put(k->bh[i]);
	free(k->bh);
}

static bool more_copies(const struct grow *g)
{
	for (u32 i = g->es->groups; i < g->after->groups; i++)
		if (ext4_group_has_super(g->after, i))
			return true;
	return false;
}

int ext4_kept_top(struct ext4_super *es, struct buffer_head **out)
{
	u32 per = ext4_pointers_per_block(es), reserved = le16_get(es->disk.reserved_gdt_blocks);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	const le32 *ptr;
	u64 top;
	int err = ext4_raw_inode_get(es, EXT4_INO_RESIZE, &bh, &raw);

	if (err)
		return err;
	top = le32_get(((const le32 *)(const void *)raw->block)[EXT4_NDIR + 1]);
	if (!ext4_blocks_ok(es, top, 1))
		return corrupt(&es->vfs.health, "inode", EXT4_INO_RESIZE, "its map lies where none can");
	err = bh_read(es->vfs.dev, top, NULL, &(struct bh_ctx){ { 0 } }, out);
	ptr = err ? NULL : (*out)->data;
	for (u32 i = es->gdt_blocks; !err && i < es->gdt_blocks + reserved; i++)
		if (le32_get(ptr[i % per]) != es->super_blk + 1 + i)
			err = corrupt(&es->vfs.health, "inode", EXT4_INO_RESIZE,
				      "it does not have the blocks that are kept for descriptors");
	return err;
}

static int kept_join(struct ext4_handle *h, const struct grow *g, struct kept *k)
{
	struct ext4_super *es = g->es;
	u32 first = g->after->gdt_blocks, n = g->descs - first;
	int err;

	k->is = ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE) &&
		(first != es->gdt_blocks || (n && more_copies(g)));
	if (!k->is)
		return 0;
	err = ext4_kept_top(es, &k->top);
	if (!err)
		err = ext4_access(h, k->top);
	if (err || !more_copies(g))
		return err;
	k->bh = calloc(n + 1, sizeof(*k->bh));
	if (!k->bh)
		return fail(-ENOMEM, "no memory for descriptor blocks");
	for (k->count = 0; k->count < n && !err; k->count++) {
		err = bh_read(es->vfs.dev, es->super_blk + 1 + first + k->count, &ext4_gdt_ops,
			      &(struct bh_ctx){ { 0 } }, &k->bh[k->count]);
		if (!err)
			err = ext4_access(h, k->bh[k->count]);
	}
	return err;
}

void ext4_kept_point(const struct ext4_super *after, u64 blk, le32 *ptr)
{
	u32 per = ext4_pointers_per_block(after);
	u64 super;

	memset(ptr, 0, ext4_block_bytes(after));
	for (u32 k = 1; k <= per && (super = ext4_super_copy_blk(after, k)); k++)
		ptr[k - 1] = le32_put((u32)(super - after->first_data_blk + blk));
}

/* Locks: none of rank BUFFER. */
static int kept_change(struct ext4_handle *h, const struct grow *g, const struct kept *k)
{
	struct ext4_super *es = g->es;
	const struct ext4_super *after = g->after;
	u32 per = ext4_pointers_per_block(es);
	u64 sectors = ext4_resize_clusters(after) << (es->cluster_bits + es->block_bits - 9);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err;

	if (!k->is)
		return 0;
	err = ext4_inode_slot(h, EXT4_INO_RESIZE, &bh, &raw);
	if (err)
		return err;
	bh_lock(bh);
	raw->blocks_lo = le32_put((u32)sectors);
	raw->blocks_hi = le16_put((u16)(sectors >> 32));
	ext4_inode_slot_done(h, EXT4_INO_RESIZE, bh, raw);
	for (u32 i = es->gdt_blocks; i < after->gdt_blocks; i++)
		((le32 *)k->top->data)[i % per] = le32_put(0);
	ext4_dirty(h, k->top);
	for (u32 i = 0; i < k->count; i++) {
		ext4_kept_point(after, k->bh[i]->blk, k->bh[i]->data);
		ext4_dirty(h, k->bh[i]);
	}
	return 0;
}

/* ---- descriptors find room in groups ---- */

/* The inode is nothing any more. It has no blocks but the one of its map. */
static int kept_end(struct ext4_handle *h, u64 top)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = ext4_blocks_free(h, top, 1, true);

	if (!err)
		err = ext4_inode_slot(h, EXT4_INO_RESIZE, &bh, &raw);
	if (err)
		return err;
	bh_lock(bh);
	memset(raw, 0, es->inode_bytes);
	ext4_inode_slot_done(h, EXT4_INO_RESIZE, bh, raw);
	return 0;
}

static int to_meta_bg(struct ext4_super *es)
{
	scoped(bh_putp) struct buffer_head *top = NULL;
	bool kept = ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE);
	struct ext4_disk_super *d;
	struct ext4_handle h;
	u64 blk = 0;
	int err = kept ? ext4_kept_top(es, &top) : 0;

	if (!err && top)
		blk = top->blk;
	bh_put(take(top));
	if (!err)
		err = ext4_begin(es, EXT4_CREDITS_GROUP + EXT4_CREDITS_INODE + 1, 1, &h);
	if (err)
		return err;
	err = ext4_super_join(&h);
	if (!err && kept)
		err = kept_end(&h, blk);
	if (err)
		return ext4_end(&h, kept ? ext4_abort(es, err) : err);
	d = ext4_super_lock(es);
	d->first_meta_bg = le32_put(es->gdt_blocks);
	d->feature_incompat = le32_put(le32_get(d->feature_incompat) | EXT4_INCOMPAT_META_BG);
	d->feature_compat = le32_put(le32_get(d->feature_compat) & ~EXT4_COMPAT_RESIZE_INODE);
	ext4_super_revise(d);
	es->meta_bg_from = es->gdt_blocks;
	es->incompat |= EXT4_INCOMPAT_META_BG;
	es->compat &= ~EXT4_COMPAT_RESIZE_INODE;
	ext4_super_unlock(es);
	return ext4_end(&h, 0);
}

/* ---- a step ---- */

/* Before the volume has them: tables that have to be zeros, and copies of the superblock, which are brought along later. */
static int write_ahead(const struct grow *g)
{
	struct ext4_super *es = g->es;
	int err = 0;

	for (u32 i = es->groups; i < g->after->groups && !err; i++) {
		if (!es->desc_csum)
			err = blkdev_zero(es->vfs.dev, g->after->group[i].inode_table << es->block_bits,
					  (u64)es->itable_blocks << es->block_bits);
		if (!err && ext4_group_has_super(g->after, i))
			err = ext4_copy_make(es, i);
	}
	return err;
}

/* Blocks for more descriptors, cleared. */
static int new_descs(struct ext4_handle *h, const struct grow *g)
{
	struct ext4_super *es = g->es;
	const struct bh_ctx ctx = { { 0 } };
	int err = 0;

	for (u32 i = es->gdt_blocks; i < g->after->gdt_blocks && !err; i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		u64 blk = ext4_group_desc_blk(g->after, i, 0);

		err = bh_get_new(es->vfs.dev, blk, &ext4_gdt_ops, &ctx, &bh);
		if (!err)
			err = ext4_access(h, bh);
		if (err)
			break;
		memset(bh->data, 0, bh->size_bytes);
		ext4_dirty(h, bh);
	}
	return err;
}

/* The last group becomes a whole one, or as long as the volume will be. */
static int fill_last(struct ext4_handle *h, const struct grow *g)
{
	struct ext4_super *es = g->es;
	u32 last = es->groups - 1, have = ext4_group_clusters(es, last);
	u32 will = ext4_group_clusters(g->after, last);
	u64 end = ext4_group_start(es, last) + ext4_group_blocks(g->after, last);

	return will > have ? ext4_blocks_append(h, last, have, will - have, end) : 0;
}

/* Tables and descriptors of groups from `from` on, as ranges. */
static int step_zone(const struct grow *g, u32 from, struct ext4_zone *z)
{
	const struct ext4_super *a = g->after;
	int err = 0;

	for (u32 i = from; i < a->groups && !err; i++) {
		u32 base = ext4_group_base_blocks(a, i);

		if (base)
			err = ext4_zone_insert(z, ext4_group_start(a, i), base);
		if (!err)
			err = ext4_zone_insert(z, a->group[i].block_bitmap, 1);
		if (!err)
			err = ext4_zone_insert(z, a->group[i].inode_bitmap, 1);
		if (!err)
			err = ext4_zone_insert(z, a->group[i].inode_table, a->itable_blocks);
	}
	return err;
}

static int put_bitmap(struct ext4_handle *h, u32 group, bool blocks)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = blocks ? ext4_block_bitmap(es, group, &bh) : ext4_inode_bitmap(es, group, &bh);

	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	ext4_dirty(h, bh);
	es->group[group].flags &= (u16) ~(blocks ? EXT4_GROUP_BLOCK_UNINIT : EXT4_GROUP_INODE_UNINIT);
	return 0;
}

/* The new group's block bitmap is not written: it follows from where its tables are. Of the volume's last group e2fsck wants it to be. */
static bool is_uninit(const struct grow *g, u32 group)
{
	return g->after->group[group].flags & EXT4_GROUP_BLOCK_UNINIT && group + 1 < g->after->groups;
}

/* A group that is there in memory goes to the volume. */
static int put_group(struct ext4_handle *h, const struct grow *g, u32 group)
{
	struct ext4_super *es = g->es;
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group);
	u64 free = end - start - ext4_zone_count(&g->plan.used, start, end);
	int err;

	mutex_guard(&es->group_lock[group]);
	err = ext4_group_change(h, group);
	if (!err && !is_uninit(g, group))
		err = put_bitmap(h, group, true);
	if (!err && !es->desc_csum)
		err = put_bitmap(h, group, false);
	if (!err)
		ext4_group_add(es, group, (s32)(free >> es->cluster_bits), (s32)es->inodes_per_group);
	return err;
}

/* In memory: the groups are there, with nothing to be had. */
static void publish(const struct grow *g)
{
	struct ext4_super *es = g->es;
	const struct ext4_super *a = g->after;

	for (u32 i = es->groups; i < a->groups; i++) {
		es->group[i] = a->group[i];
		es->group[i].flags = EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT;
		es->group[i].blocks_out = es->group[i].inodes_out = true;
		es->group[i].itable_unused = es->desc_csum ? es->inodes_per_group : 0;
	}
	es->blocks = a->blocks;
	es->inodes = a->inodes;
	es->gdt_blocks = a->gdt_blocks;
	es->groups = a->groups;
}

/* Into es->disk, whose block was joined. The groups from `first` on are new. */
static void put_super(const struct grow *g, u32 first)
{
	struct ext4_super *es = g->es;
	u64 overhead =
		ext4_zone_count(&g->plan.used, ext4_group_start(es, first), es->blocks) >> es->cluster_bits;
	const struct ext4_disk_super *from = &g->after->disk;
	struct ext4_disk_super *d = ext4_super_lock(es);
	u64 said = le32_get(d->overhead_clusters);

	d->blocks_count_lo = from->blocks_count_lo;
	d->blocks_count_hi = from->blocks_count_hi;
	d->r_blocks_count_lo = from->r_blocks_count_lo;
	d->r_blocks_count_hi = from->r_blocks_count_hi;
	d->inodes_count = from->inodes_count;
	d->reserved_gdt_blocks = from->reserved_gdt_blocks;
	if (said)
		d->overhead_clusters = le32_put((said + overhead) >> 32 ? 0 : (u32)(said + overhead));
	es->overhead_clusters += overhead;
	es->kept_root = g->after->kept_root;
	ext4_super_unlock(es);
}

static u32 credits(const struct grow *g)
{
	const struct ext4_super *es = g->es, *a = g->after;
	u32 n = 1 + EXT4_CREDITS_GROUP + a->gdt_blocks - (es->groups - 1) / es->descs_per_block;

	for (u32 i = es->groups; i < a->groups; i++)
		n += !is_uninit(g, i) + !es->desc_csum;
	if (ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE))
		n += EXT4_CREDITS_INODE + 1 + (more_copies(g) ? g->descs - a->gdt_blocks : 0);
	return n;
}

/* All that a step changes but the superblock. From the first change on an error is the end. */
static int change(struct ext4_handle *h, const struct grow *g, struct kept *k, const struct ext4_zone *zone)
{
	struct ext4_super *es = g->es;
	u32 from = es->groups;
	int err = ext4_super_join(h);

	if (!err)
		err = kept_join(h, g, k);
	if (!err)
		err = fill_last(h, g);
	if (err)
		return err;
	(void)ext4_zone_append(&es->zone, zone);
	err = new_descs(h, g);
	if (!err)
		err = kept_change(h, g, k);
	if (!err)
		publish(g);
	for (u32 i = from; i < es->groups && !err; i++)
		err = put_group(h, g, i);
	return err ? ext4_abort(es, err) : 0;
}

/* Without a journal: what was changed is durable, and another handle is open. On error none is. */
static int make_durable(struct ext4_handle *h)
{
	struct ext4_super *es = h->es;
	int err = ext4_end(h, 0);

	if (!err)
		err = ext4_sync(&es->vfs);
	if (!err)
		err = ext4_begin(es, 1, 0, h);
	if (!err) {
		err = ext4_super_join(h);
		if (err)
			(void)!ext4_end(h, 0);
	}
	return err ? ext4_abort(es, err) : 0;
}

static void pin_super(struct ext4_super *es, bool pin)
{
	bh_lock(es->super_bh);
	(pin ? bh_pin : bh_unpin)(es->super_bh);
	bh_unlock(es->super_bh);
}

/*
 * With a journal: what this handle changed is durable and home, the superblock last, which is not home before it is called. Nor ever, as long as this is
 * mounted, where the others cannot go.
 */
static int go_home(struct ext4_super *es)
{
	int err = ext4_sync(&es->vfs);

	if (!err)
		err = bcache_sync(es->vfs.dev);
	if (err)
		return ext4_abort(es, err);
	err = ext4_flush(es);
	if (err)
		return err;
	pin_super(es, false);
	err = bh_write(es->super_bh);
	return err ? err : ext4_flush(es);
}

static int run_change(const struct grow *g, const struct ext4_zone *zone)
{
	struct ext4_super *es = g->es;
	struct kept kept = { 0 };
	u32 from = es->groups;
	struct ext4_handle h;
	int err = ext4_begin_long(es, credits(g), &h);

	if (err)
		return err != -ENOSPC ? err
				      : fail(err, "%s: its journal is too short to change %u blocks at once",
					     es->vfs.health.name, credits(g));
	err = change(&h, g, &kept, zone);
	kept_put(&kept);
	if (err)
		return ext4_end(&h, err);
	if (!es->journal) {
		err = make_durable(&h);
		if (err)
			return err;
		put_super(g, from);
		return ext4_end(&h, 0);
	}
	put_super(g, from);
	pin_super(es, true);
	err = ext4_end(&h, 0);
	return err ? err : go_home(es);
}

static int run_step(const struct grow *g)
{
	struct ext4_super *es = g->es;
	struct ext4_zone zone = { 0 };
	u32 from = es->groups, last = from - 1, had = ext4_group_blocks(es, last), more;
	int err = step_zone(g, from, &zone);

	if (!err)
		err = write_ahead(g);
	if (!err)
		err = ext4_groups_more(es, g->after->groups);
	if (!err)
		err = run_change(g, &zone);
	ext4_zone_free(&zone);
	if (err)
		return err;
	more = ext4_group_blocks(es, last) - had;
	if (more)
		ext4_blocks_unreserve(es, ext4_group_start(es, last) + had, more);
	for (u32 i = from; i < es->groups; i++)
		ext4_blocks_open_group(es, i);
	return 0;
}

/* The volume after the next step. */
static void next_step(struct grow *g)
{
	u32 set = g->one_by_one ? 1 : g->es->desc_csum ? STEP_GROUPS : SET_GROUPS;
	u64 end = ALIGN_UP((u64)g->es->groups + 1, (u64)set);

	set_after(g, end < g->groups ? ext4_group_start(g->es, (u32)end) : g->blocks);
}

/* ---- all of it ---- */

static bool no_room_for_descs(const struct ext4_super *es, u64 blocks)
{
	u64 groups = DIV_ROUND_UP(blocks - es->first_data_blk, (u64)es->blocks_per_group);
	u64 descs = es->gdt_blocks + le16_get(es->disk.reserved_gdt_blocks);

	return !ext4_has_incompat(es, EXT4_INCOMPAT_META_BG) && groups > es->groups &&
	       es->groups == descs * es->descs_per_block && es->blocks == ext4_group_start(es, es->groups);
}

static int phase(struct grow *g, u64 blocks)
{
	struct ext4_super *es = g->es;
	int err = no_room_for_descs(es, blocks) ? to_meta_bg(es) : 0;

	if (!err)
		err = plan_phase(g, blocks);
	while (!err && es->blocks < g->blocks) {
		next_step(g);
		err = run_step(g);
	}
	if (g->after)
		free(g->after->group);
	free(g->after);
	ext4_zone_free(&g->plan.used);
	g->plan = (struct ext4_mkfs_plan){ 0 };
	g->after = NULL;
	return err;
}

int ext4_grow(struct super_block *sb, u64 size_bytes, struct grown *out)
{
	struct ext4_super *es = ext4_super(sb);
	struct grow g = { .es = es };
	u64 blocks, before, cluster = 1ull << es->cluster_bits;
	int err;

	mutex_guard(&es->grow);
	err = refused(es);
	if (!err && size_bytes)
		err = check_size(es, ALIGN_DOWN(size_bytes >> es->block_bits, cluster));
	if (!err)
		err = blkdev_grow(sb->dev, size_bytes);
	blocks = ALIGN_DOWN((size_bytes ? size_bytes : sb->dev->size_bytes) >> es->block_bits, cluster);
	if (!err && !size_bytes)
		err = check_size(es, blocks);
	g.blocks_before = es->blocks;
	g.reserved_before = ext4_kept_root(es);
	g.reserved_permyriad = (g.reserved_before * PERMYRIAD + g.blocks_before / 2) / g.blocks_before;
	do {
		before = es->blocks;
		if (!err)
			err = phase(&g, blocks);
	} while (!err && es->blocks != before);
	if (es->blocks != g.blocks_before) {
		ext4_balloc_resized(es);
		ext4_copies_outdated(es);
	}
	/* Nothing can say that the volume is longer. */
	if (err && es->blocks == g.blocks_before && health_state(&es->vfs.health) < HEALTH_ABORTED)
		blkdev_cut_back(sb->dev);
	*out = (struct grown){ g.blocks_before << es->block_bits, es->blocks << es->block_bits };
	return err;
}
