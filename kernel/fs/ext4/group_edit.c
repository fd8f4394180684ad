/*
 * Groups that change: their bitmaps, and their descriptors brought to the disk.
 *
 *   - ext4_block_bitmap, ext4_inode_bitmap: a group's bitmap, read and verified; or made, where the descriptor says that it
 *     was never written. Such a bitmap is made anew as long as the descriptor says so; who changes it, in a handle, drops the flag.
 *   - ext4_group_change: the group's members will change in this handle.
 *   - ext4_precommit: what was changed goes into descriptors and superblock, with the sums of bitmaps, once for many handles; and
 *     errors that were met, into the superblock.
 *
 * Invariants
 *  1. A group that changed stands in `changed` until its descriptor's bytes say what es->group says.
 *  2. The buffers of a changed group's bitmaps and of its descriptor are joined by the handle that changed it, so they are in
 *     memory at the next precommit, which comes before that handle's buffers are let go.
 *  3. Of a descriptor's bytes only those change that have a member in struct ext4_group.
 *  4. The superblock's counts are the sums over all groups of what their descriptors say.
 *  5. A group without a usable descriptor has no bitmaps and never changes.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define ZONE_RANGES 4u /* of a group: its start, two bitmaps, the table */

struct ext4_group_edit {
	struct mutex filling; /* rank EXTENT: one precommit at a time */
	u32 *taken;           /* [filling] [groups] the list that is worked on */
	u64 free_clusters;    /* [filling] as the descriptors on their way to the disk say, in all */
	u64 free_inodes;      /* [filling] */
	struct {
		u32 free_clusters, free_inodes;
	} * said;          /* [filling] [groups] of each */
	struct mutex lock; /* rank LEAF */
	u32 *changed;      /* [lock] [groups] */
	u32 count;         /* [lock] of changed */
};

/* ---- bitmaps ---- */

static void set_bits(u8 *bitmap, u64 from, u64 end)
{
	while (from < end && from % 8) {
		bitmap[from / 8] |= (u8)(1u << from % 8);
		from++;
	}
	if (from < end) {
		memset(bitmap + from / 8, 0xff, (end - from) / 8);
		for (from = ALIGN_DOWN(end, 8ull); from < end; from++)
			bitmap[from / 8] |= (u8)(1u << from % 8);
	}
}

/* Nothing in the group is taken but what holds metadata. */
static void make_block_bitmap(const struct ext4_super *es, u32 group, u8 *bitmap)
{
	u64 start = ext4_group_start(es, group), blocks = ext4_group_blocks(es, group);
	u32 bits = es->cluster_bits;

	for (u32 i = 0; i < es->zone.count; i++) {
		u64 from = MAX(es->zone.range[i].start, start),
		    end = MIN(es->zone.range[i].end, start + blocks);

		if (from < end)
			set_bits(bitmap, (from - start) >> bits, ((end - 1 - start) >> bits) + 1);
	}
	set_bits(bitmap, ext4_group_clusters(es, group), 8ull * ext4_block_bytes(es));
}

static void make_inode_bitmap(const struct ext4_super *es, u32 group, u8 *bitmap)
{
	(void)group;
	set_bits(bitmap, es->inodes_per_group, 8ull * ext4_block_bytes(es));
}

static int bitmap(struct ext4_super *es, u32 group, bool blocks, struct buffer_head **out)
{
	const struct ext4_group *g = &es->group[group];
	const struct bh_ops *ops = blocks ? &ext4_block_bitmap_ops : &ext4_inode_bitmap_ops;
	const struct bh_ctx ctx = ext4_ctx_group(group);
	u64 blk = blocks ? g->block_bitmap : g->inode_bitmap;
	int err;

	if (g->bad)
		return corrupt(&es->vfs.health, "group", group, "its descriptor is not usable");
	if (!(g->flags & (blocks ? EXT4_GROUP_BLOCK_UNINIT : EXT4_GROUP_INODE_UNINIT)))
		return bh_read(es->vfs.dev, blk, ops, &ctx, out);
	err = bh_get_new(es->vfs.dev, blk, ops, &ctx, out);
	if (err)
		return err;
	bh_lock(*out);
	(blocks ? make_block_bitmap : make_inode_bitmap)(es, group, (*out)->data);
	bh_unlock(*out);
	return 0;
}

int ext4_block_bitmap(struct ext4_super *es, u32 group, struct buffer_head **out)
{
	return bitmap(es, group, true, out);
}

int ext4_inode_bitmap(struct ext4_super *es, u32 group, struct buffer_head **out)
{
	return bitmap(es, group, false, out);
}

/* ---- changes ---- */

/* The block with the group's descriptor. */
static int desc_block(struct ext4_super *es, u32 group, struct buffer_head **out)
{
	const struct bh_ctx ctx = { { 0 } };
	u64 blk = ext4_group_desc_blk(es, group / es->descs_per_block, 0);

	if (!blk)
		return corrupt(&es->vfs.health, "group", group, "its descriptor has no place");
	return bh_read(es->vfs.dev, blk, &ext4_gdt_ops, &ctx, out);
}

int ext4_group_change(struct ext4_handle *h, u32 group)
{
	struct ext4_super *es = h->es;
	struct ext4_group_edit *edit = es->group_edit;
	struct ext4_group *g = &es->group[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	lock_assert_held(&es->group_lock[group]);
	if (g->bad)
		return corrupt(&es->vfs.health, "group", group, "its descriptor is not usable");
	err = desc_block(es, group, &bh);
	if (!err)
		err = ext4_access(h, bh);
	if (!err)
		err = ext4_super_join(h);
	if (err)
		return err;
	ext4_dirty(h, bh);
	if (!g->changed) {
		g->changed = true;
		mutex_lock(&edit->lock);
		edit->changed[edit->count++] = group;
		mutex_unlock(&edit->lock);
	}
	return 0;
}

/* ---- to the disk ---- */

/* The bitmap's sum, when it is in memory: one that is not did not change. */
static void sum_bitmap(struct ext4_super *es, u64 blk, const struct bh_ops *ops, u32 bits, u32 *sum)
{
	scoped(bh_putp) struct buffer_head *bh = bh_find(es->vfs.dev, blk);
	u32 mask = es->desc_bytes >= EXT4_DESC_BYTES_64BIT ? ~0u : 0xffff;

	if (!bh)
		return;
	bh_lock(bh);
	if (bh->ops == ops)
		*sum = ext4_csum_bitmap(es, bh->data, bits) & mask;
	bh_unlock(bh);
}

/* Locks: the group's. */
static void sum_bitmaps(struct ext4_super *es, struct ext4_group *g)
{
	if (!es->metadata_csum)
		return;
	if (!(g->flags & EXT4_GROUP_BLOCK_UNINIT))
		sum_bitmap(es, g->block_bitmap, &ext4_block_bitmap_ops, es->clusters_per_group,
			   &g->block_bitmap_csum);
	if (!(g->flags & EXT4_GROUP_INODE_UNINIT))
		sum_bitmap(es, g->inode_bitmap, &ext4_inode_bitmap_ops, es->inodes_per_group,
			   &g->inode_bitmap_csum);
}

/* Locks: filling. */
static int fill_desc(struct ext4_super *es, u32 group)
{
	struct ext4_group_edit *edit = es->group_edit;
	struct ext4_group *g = &es->group[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 nth = group % es->descs_per_block;
	int err = desc_block(es, group, &bh);

	if (err)
		return err;
	mutex_guard(&es->group_lock[group]);
	g->changed = false;
	sum_bitmaps(es, g);
	ext4_group_encode(es, group, g, (void *)((u8 *)bh->data + (size_t)nth * es->desc_bytes));
	edit->free_clusters += (u64)g->free_clusters - edit->said[group].free_clusters;
	edit->free_inodes += (u64)g->free_inodes - edit->said[group].free_inodes;
	edit->said[group].free_clusters = g->free_clusters;
	edit->said[group].free_inodes = g->free_inodes;
	return 0;
}

/* Locks: filling. */
static void fill_counts(struct ext4_super *es)
{
	const struct ext4_group_edit *edit = es->group_edit;
	u64 blocks = edit->free_clusters << es->cluster_bits;
	struct ext4_disk_super *d = ext4_super_lock(es);

	d->free_blocks_count_lo = le32_put((u32)blocks);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		d->free_blocks_count_hi = le32_put((u32)(blocks >> 32));
	d->free_inodes_count = le32_put((u32)edit->free_inodes);
	ext4_super_unlock(es);
}

int ext4_precommit(void *priv, struct jbd2_handle *jh)
{
	struct ext4_super *es = priv;
	struct ext4_group_edit *edit = es->group_edit;
	u32 *list, count;
	int err = 0, one;

	mutex_guard(&edit->filling);
	mutex_lock(&edit->lock);
	list = edit->changed;
	count = edit->count;
	edit->changed = edit->taken;
	edit->taken = list;
	edit->count = 0;
	mutex_unlock(&edit->lock);
	for (u32 i = 0; i < count; i++) {
		one = fill_desc(es, list[i]);
		err = err ? err : one;
	}
	if (count)
		fill_counts(es);
	ext4_errors_commit(es, jh);
	ext4_super_fill(es);
	return err;
}

/* ---- life ---- */

int ext4_groups_open(struct ext4_super *es)
{
	struct ext4_group_edit *edit = calloc(1, sizeof(*edit));

	es->group_edit = edit;
	es->group_lock = calloc(es->groups_room, sizeof(*es->group_lock));
	if (!edit || !es->group_lock)
		goto no_memory;
	edit->taken = calloc(es->groups_room, sizeof(*edit->taken));
	edit->changed = calloc(es->groups_room, sizeof(*edit->changed));
	edit->said = calloc(es->groups_room, sizeof(*edit->said));
	if (!edit->taken || !edit->changed || !edit->said ||
	    ext4_zone_room(&es->zone, ZONE_RANGES * (es->groups_room - es->groups)))
		goto no_memory;
	mutex_init(&edit->filling, RANK_EXTENT);
	mutex_init(&edit->lock, RANK_LEAF);
	for (u32 i = 0; i < es->groups; i++) {
		mutex_init(&es->group_lock[i], RANK_ALLOC);
		edit->said[i].free_clusters = es->group[i].free_clusters;
		edit->said[i].free_inodes = es->group[i].free_inodes;
		edit->free_clusters += es->group[i].free_clusters;
		edit->free_inodes += es->group[i].free_inodes;
	}
	/* A journal has the groups' counts; the superblock's may be older. */
	fill_counts(es);
	return 0;

no_memory:
	if (edit) {
		free(edit->taken);
		free(edit->changed);
		free(edit->said);
	}
	free(edit);
	free(es->group_lock);
	es->group_edit = NULL;
	es->group_lock = NULL;
	return fail(-ENOMEM, "no memory for the locks of %u groups", (u32)es->groups);
}

int ext4_groups_more(struct ext4_super *es, u32 end)
{
	if (end > es->groups_room)
		return fail(-ENOMEM, "%s: no room for %u groups as long as it is mounted",
			    es->vfs.health.name, end);
	for (u32 i = es->groups; i < end; i++)
		mutex_init(&es->group_lock[i], RANK_ALLOC);
	return 0;
}

void ext4_groups_less(struct ext4_super *es, u32 end)
{
	struct ext4_group_edit *edit = es->group_edit;

	for (u32 i = end; i < es->groups; i++) {
		edit->free_clusters -= edit->said[i].free_clusters;
		edit->free_inodes -= edit->said[i].free_inodes;
		mutex_fini(&es->group_lock[i]);
	}
	es->groups = end;
}

void ext4_groups_close(struct ext4_super *es)
{
	struct ext4_group_edit *edit = es->group_edit;

	if (!edit)
		return;
	for (u32 i = 0; i < es->groups; i++)
		mutex_fini(&es->group_lock[i]);
	mutex_fini(&edit->filling);
	mutex_fini(&edit->lock);
	free(edit->taken);
	free(edit->changed);
	free(edit->said);
	free(edit);
	free(es->group_lock);
	es->group_edit = NULL;
	es->group_lock = NULL;
}
