/*
 * Group descriptors: where they lie, what they say, and which of their copies can be believed.
 *
 *   - Descriptor block i lies behind the superblock of group 0, with copies behind the other superblocks; or,
 *     with meta_bg and from first_meta_bg on, in the first group that it describes, with copies in the second
 *     and the last.
 *   - Each descriptor is checked by itself. One that is bad is looked for in the copies. Where no copy is good
 *     the group is marked bad, and of its block numbers those are kept that can be right: inodes have checks of
 *     their own, so reading may try.
 *   - ext4_group_load also makes the system zone, and sums up what is free. A group counts for the sums what it says, or nothing:
 *     where it says more than it can have, and where a bitmap was found to be damaged. Who changes a count does so by ext4_group_add.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define COPIES_MAX  32u /* more than sparse_super makes on any volume */
#define GDT_BATCH   64u
#define GROUPS_ROOM 2048u

/* 1, 3, 5, 7 and their powers. */
static bool is_sparse(u32 group)
{
	static const u32 base[] = { 3, 5, 7 };

	if (group <= 1)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(base); i++) {
		u64 n = base[i];

		while (n < group)
			n *= base[i];
		if (n == group)
			return true;
	}
	return false;
}

bool ext4_group_has_super(const struct ext4_super *es, u32 group)
{
	if (!group)
		return true;
	if (ext4_has_compat(es, EXT4_COMPAT_SPARSE_SUPER2))
		return group == le32_get(es->disk.backup_bgs[0]) || group == le32_get(es->disk.backup_bgs[1]);
	return !ext4_has_ro_compat(es, EXT4_RO_COMPAT_SPARSE_SUPER) || is_sparse(group);
}

static bool in_meta_bg(const struct ext4_super *es, u32 i)
{
	return i >= es->meta_bg_from;
}

/* Group 0 begins with the boot block where a 1 KiB block is not the first of the data. */
static u64 group_super_blk(const struct ext4_super *es, u32 group)
{
	return group ? ext4_group_start(es, group) : es->super_blk;
}

u32 ext4_group_base_blocks(const struct ext4_super *es, u32 group)
{
	u32 n = 0, meta = group / es->descs_per_block, nth = group % es->descs_per_block;
	bool super = ext4_group_has_super(es, group);

	if (super)
		n = 1;
	if (!group)
		n = (u32)(es->super_blk - es->first_data_blk) + 1;
	if (in_meta_bg(es, meta))
		return n + (nth == 0 || nth == 1 || nth == es->descs_per_block - 1);
	if (!super)
		return n;
	if (ext4_has_incompat(es, EXT4_INCOMPAT_META_BG))
		return n + MIN((u32)es->meta_bg_from, (u32)es->gdt_blocks);
	return n + es->gdt_blocks + le16_get(es->disk.reserved_gdt_blocks);
}

/* The group of superblock copy `copy`: 0, then the others in order. UINT32_MAX: none. */
static u32 copy_group(const struct ext4_super *es, u32 copy)
{
	u64 p3 = 3, p5 = 5, p7 = 7, group = copy;
	u32 a = le32_get(es->disk.backup_bgs[0]), b = le32_get(es->disk.backup_bgs[1]);

	if (!copy)
		return 0;
	if (ext4_has_compat(es, EXT4_COMPAT_SPARSE_SUPER2))
		group = copy == 1 ? (a ? a : b) : copy == 2 && a ? b : 0;
	else if (copy > 1 && ext4_has_ro_compat(es, EXT4_RO_COMPAT_SPARSE_SUPER))
		while (--copy && group < es->groups) {
			group = MIN(p3, MIN(p5, p7));
			p3 *= group == p3 ? 3 : 1;
			p5 *= group == p5 ? 5 : 1;
			p7 *= group == p7 ? 7 : 1;
		}
	return group && group < es->groups ? (u32)group : UINT32_MAX;
}

u64 ext4_super_copy_blk(const struct ext4_super *es, u32 copy)
{
	u32 group = copy_group(es, copy);

	return group == UINT32_MAX ? 0 : group_super_blk(es, group);
}

u64 ext4_group_desc_blk(const struct ext4_super *es, u32 i, u32 copy)
{
	u32 group;
	u64 blk;

	if (!in_meta_bg(es, i)) {
		group = copy_group(es, copy);
		/* A group whose own descriptor lies elsewhere has no copies of all the others. */
		blk = group == UINT32_MAX || in_meta_bg(es, group / es->descs_per_block)
			      ? 0
			      : group_super_blk(es, group) + 1 + i;
	} else {
		const u32 nth[] = { 0, 1, es->descs_per_block - 1 };

		if (copy >= ARRAY_SIZE(nth))
			return 0;
		group = i * es->descs_per_block + nth[copy];
		if (group >= es->groups)
			return 0;
		blk = group_super_blk(es, group) + ext4_group_has_super(es, group);
	}
	return blk < es->blocks ? blk : 0;
}

u64 ext4_resize_clusters(const struct ext4_super *es)
{
	u32 copies = 1;

	while (ext4_super_copy_blk(es, copies))
		copies++;
	return 1 + (u64)le16_get(es->disk.reserved_gdt_blocks) * copies;
}

void ext4_group_decode(const struct ext4_super *es, const void *desc, struct ext4_group *g)
{
	const struct ext4_disk_group *d = desc;

	*g = (struct ext4_group){
		.block_bitmap = le32_get(d->block_bitmap_lo),
		.inode_bitmap = le32_get(d->inode_bitmap_lo),
		.inode_table = le32_get(d->inode_table_lo),
		.free_clusters = le16_get(d->free_blocks_count_lo),
		.free_inodes = le16_get(d->free_inodes_count_lo),
		.used_dirs = le16_get(d->used_dirs_count_lo),
		.itable_unused = es->desc_csum ? le16_get(d->itable_unused_lo) : 0,
		.block_bitmap_csum = le16_get(d->block_bitmap_csum_lo),
		.inode_bitmap_csum = le16_get(d->inode_bitmap_csum_lo),
		.flags = es->desc_csum ? le16_get(d->flags) : 0,
	};
	if (es->desc_bytes < EXT4_DESC_BYTES_64BIT)
		return;
	g->block_bitmap |= (u64)le32_get(d->block_bitmap_hi) << 32;
	g->inode_bitmap |= (u64)le32_get(d->inode_bitmap_hi) << 32;
	g->inode_table |= (u64)le32_get(d->inode_table_hi) << 32;
	g->free_clusters |= (u32)le16_get(d->free_blocks_count_hi) << 16;
	g->free_inodes |= (u32)le16_get(d->free_inodes_count_hi) << 16;
	g->used_dirs |= (u32)le16_get(d->used_dirs_count_hi) << 16;
	g->block_bitmap_csum |= (u32)le16_get(d->block_bitmap_csum_hi) << 16;
	g->inode_bitmap_csum |= (u32)le16_get(d->inode_bitmap_csum_hi) << 16;
	if (es->desc_csum)
		g->itable_unused |= (u32)le16_get(d->itable_unused_hi) << 16;
}

void ext4_group_encode(const struct ext4_super *es, u32 group, const struct ext4_group *g, void *desc)
{
	struct ext4_disk_group *d = desc;

	d->block_bitmap_lo = le32_put((u32)g->block_bitmap);
	d->inode_bitmap_lo = le32_put((u32)g->inode_bitmap);
	d->inode_table_lo = le32_put((u32)g->inode_table);
	d->free_blocks_count_lo = le16_put((u16)g->free_clusters);
	d->free_inodes_count_lo = le16_put((u16)g->free_inodes);
	d->used_dirs_count_lo = le16_put((u16)g->used_dirs);
	if (es->metadata_csum) {
		d->block_bitmap_csum_lo = le16_put((u16)g->block_bitmap_csum);
		d->inode_bitmap_csum_lo = le16_put((u16)g->inode_bitmap_csum);
	}
	if (es->desc_csum) {
		d->flags = le16_put(g->flags);
		d->itable_unused_lo = le16_put((u16)g->itable_unused);
	}
	if (es->desc_bytes >= EXT4_DESC_BYTES_64BIT) {
		d->block_bitmap_hi = le32_put((u32)(g->block_bitmap >> 32));
		d->inode_bitmap_hi = le32_put((u32)(g->inode_bitmap >> 32));
		d->inode_table_hi = le32_put((u32)(g->inode_table >> 32));
		d->free_blocks_count_hi = le16_put((u16)(g->free_clusters >> 16));
		d->free_inodes_count_hi = le16_put((u16)(g->free_inodes >> 16));
		d->used_dirs_count_hi = le16_put((u16)(g->used_dirs >> 16));
		if (es->metadata_csum) {
			d->block_bitmap_csum_hi = le16_put((u16)(g->block_bitmap_csum >> 16));
			d->inode_bitmap_csum_hi = le16_put((u16)(g->inode_bitmap_csum >> 16));
		}
		if (es->desc_csum)
			d->itable_unused_hi = le16_put((u16)(g->itable_unused >> 16));
	}
	if (es->desc_csum)
		d->checksum = le16_put(ext4_csum_group(es, group, d));
}

/* Blocks of a group's metadata lie in the group itself, or with flex_bg anywhere on the volume. */
static bool desc_blocks_ok(const struct ext4_super *es, u32 group, u64 start, u32 len)
{
	u64 lo = es->super_blk + 1, hi = es->blocks;

	if (!ext4_has_incompat(es, EXT4_INCOMPAT_FLEX_BG)) {
		lo = MAX(lo, ext4_group_start(es, group));
		hi = ext4_group_start(es, group) + ext4_group_blocks(es, group);
	}
	return start >= lo && start < hi && len <= hi - start;
}

const char *ext4_group_wrong(const struct ext4_super *es, u32 group, const void *desc,
			     const struct ext4_group *g)
{
	const struct ext4_disk_group *d = desc;

	if (es->desc_csum && ext4_csum_group(es, group, desc) != le16_get(d->checksum))
		return "wrong checksum of the descriptor";
	if (!desc_blocks_ok(es, group, g->block_bitmap, 1))
		return "the block bitmap lies outside";
	if (!desc_blocks_ok(es, group, g->inode_bitmap, 1))
		return "the inode bitmap lies outside";
	if (!desc_blocks_ok(es, group, g->inode_table, es->itable_blocks))
		return "the inode table lies outside";
	return NULL;
}

/* Descriptor `nth` of block i from a copy that is good. False: there is none. */
static bool group_from_copy(struct ext4_super *es, u32 i, u32 nth)
{
	u32 group = i * es->descs_per_block + nth;
	struct ext4_group g;

	for (u32 copy = 1; copy < COPIES_MAX; copy++) {
		u64 blk = ext4_group_desc_blk(es, i, copy);
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const u8 *desc;

		if (!blk)
			return false;
		if (bh_read(es->vfs.dev, blk, &ext4_gdt_ops, &(struct bh_ctx){ { 0 } }, &bh))
			continue;
		desc = (const u8 *)bh->data + (size_t)nth * es->desc_bytes;
		ext4_group_decode(es, desc, &g);
		/* A copy is written rarely: what changes in daily use is not to be taken from it. */
		g.flags &= (u16) ~(EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT);
		g.itable_unused = 0;
		if (!ext4_group_wrong(es, group, desc, &g)) {
			es->group[group] = g;
			return true;
		}
	}
	return false;
}

static void keep_plausible(const struct ext4_super *es, u32 group, struct ext4_group *g)
{
	*g = (struct ext4_group){
		.bad = true,
		.block_bitmap = desc_blocks_ok(es, group, g->block_bitmap, 1) ? g->block_bitmap : 0,
		.inode_bitmap = desc_blocks_ok(es, group, g->inode_bitmap, 1) ? g->inode_bitmap : 0,
		.inode_table =
			desc_blocks_ok(es, group, g->inode_table, es->itable_blocks) ? g->inode_table : 0,
	};
}

static void load_block(struct ext4_super *es, u32 i, const struct buffer_head *bh, u32 *bad, u32 *backup)
{
	u32 first = i * es->descs_per_block, n = MIN(es->descs_per_block, es->groups - first);

	for (u32 nth = 0; nth < n; nth++) {
		struct ext4_group *g = &es->group[first + nth];
		const char *what = "its block cannot be read";

		if (bh) {
			const u8 *desc = (const u8 *)bh->data + (size_t)nth * es->desc_bytes;

			ext4_group_decode(es, desc, g);
			what = ext4_group_wrong(es, first + nth, desc, g);
		}
		if (!what)
			continue;
		(void)!corrupt(&es->vfs.health, "group", first + nth, "%s", what);
		if (group_from_copy(es, i, nth)) {
			++*backup;
		} else {
			keep_plausible(es, first + nth, g);
			++*bad;
		}
	}
}

/* Reads n descriptor blocks from the ith on, in one go where all can be read. */
static void load_batch(struct ext4_super *es, u32 i, u32 n, u32 *bad, u32 *backup)
{
	struct buffer_head *bh[GDT_BATCH] = { NULL };
	struct bh_ctx ctx[GDT_BATCH] = { { { 0 } } };
	u64 blk[GDT_BATCH] = { 0 };
	bool all = true;

	for (u32 k = 0; k < n; k++) {
		blk[k] = ext4_group_desc_blk(es, i + k, 0);
		all = all && blk[k];
	}
	if (!all || bh_read_many(es->vfs.dev, blk, n, &ext4_gdt_ops, ctx, bh))
		for (u32 k = 0; k < n; k++)
			if (!blk[k] || bh_read(es->vfs.dev, blk[k], &ext4_gdt_ops, &ctx[k], &bh[k]))
				bh[k] = NULL;
	for (u32 k = 0; k < n; k++) {
		load_block(es, i + k, bh[k], bad, backup);
		bh_put(bh[k]);
	}
}

/* ---- what is free ---- */

static u32 clusters_counted(const struct ext4_super *es, u32 group)
{
	const struct ext4_group *g = &es->group[group];

	return g->bad || g->blocks_out || g->free_clusters > ext4_group_clusters(es, group)
		       ? 0
		       : g->free_clusters;
}

static u32 inodes_counted(const struct ext4_super *es, u32 group)
{
	const struct ext4_group *g = &es->group[group];

	return g->bad || g->inodes_out || g->free_inodes > es->inodes_per_group ? 0 : g->free_inodes;
}

void ext4_group_add(struct ext4_super *es, u32 group, s32 clusters, s32 inodes)
{
	struct ext4_group *g = &es->group[group];
	u64 clusters_before = clusters_counted(es, group), inodes_before = inodes_counted(es, group);

	g->free_clusters += (u32)clusters;
	g->free_inodes += (u32)inodes;
	atomic_fetch_add(&es->free_clusters, clusters_counted(es, group) - clusters_before);
	atomic_fetch_add(&es->free_inodes, inodes_counted(es, group) - inodes_before);
}

void ext4_group_take_out(struct ext4_super *es, u32 group, bool blocks)
{
	struct ext4_group *g = &es->group[group];

	if (blocks) {
		atomic_fetch_sub(&es->free_clusters, clusters_counted(es, group));
		g->blocks_out = true;
	} else {
		atomic_fetch_sub(&es->free_inodes, inodes_counted(es, group));
		g->inodes_out = true;
	}
}

void ext4_group_take_in(struct ext4_super *es, u32 group)
{
	struct ext4_group *g = &es->group[group];

	g->blocks_out = g->inodes_out = false;
	atomic_fetch_add(&es->free_clusters, clusters_counted(es, group));
	atomic_fetch_add(&es->free_inodes, inodes_counted(es, group));
}

static void sum_up(struct ext4_super *es)
{
	u64 clusters = 0, inodes = 0;

	for (u32 group = 0; group < es->groups; group++) {
		clusters += clusters_counted(es, group);
		inodes += inodes_counted(es, group);
	}
	atomic_init(&es->free_clusters, clusters);
	atomic_init(&es->free_inodes, inodes);
}

/* ---- all of them ---- */

static int zone_load(struct ext4_super *es)
{
	int err = 0;

	for (u32 group = 0; group < es->groups && !err; group++) {
		const struct ext4_group *g = &es->group[group];
		u32 base = ext4_group_base_blocks(es, group);

		if (base)
			err = ext4_zone_add(&es->zone, ext4_group_start(es, group), base);
		/* What a damaged descriptor says must not take blocks away from files. */
		if (err || g->bad)
			continue;
		err = ext4_zone_add(&es->zone, g->block_bitmap, 1);
		if (!err)
			err = ext4_zone_add(&es->zone, g->inode_bitmap, 1);
		if (!err)
			err = ext4_zone_add(&es->zone, g->inode_table, es->itable_blocks);
	}
	ext4_zone_seal(&es->zone);
	return err;
}

int ext4_group_load(struct ext4_super *es, u32 *bad, u32 *backup)
{
	/* Memory that is never touched is none: a volume may grow by much while it is mounted. */
	es->groups_room = MAX(GROUPS_ROOM, es->groups + es->groups / 2);
	es->group = calloc(es->groups_room, sizeof(*es->group));
	if (!es->group)
		return fail(-ENOMEM, "no memory for %u group descriptors", es->groups);
	*bad = *backup = 0;
	for (u32 i = 0; i < es->gdt_blocks; i += GDT_BATCH)
		load_batch(es, i, MIN(GDT_BATCH, es->gdt_blocks - i), bad, backup);
	sum_up(es);
	return zone_load(es);
}
