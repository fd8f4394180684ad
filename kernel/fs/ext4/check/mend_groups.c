/*
 * Descriptors that cannot be believed, and bitmaps and inode tables that lie where something else does.
 *
 * What a damaged descriptor no longer tells is where it was when the volume was made. Where that is taken, or the volume grew since, bitmaps
 * get free blocks, once it is known which are: a bitmap is written anew anyway. An inode table keeps its content when it moves; one whose place
 * nobody knows is lost, and gets an empty one.
 */
#include "check.h"

#include "../mkfs.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define USUAL_FLEX 4u  /* what mkfs makes, log2 */
#define SAMPLE     64u /* groups */

/* ---- where they were ---- */

/* Where groups have their tables when the volume is made so. NULL: no memory, or no such volume can be made. */
static struct ext4_group *groups_planned(const struct ck *ck, u8 log_groups_per_flex, u32 stride)
{
	struct ext4_mkfs_plan p = { .es = calloc(1, sizeof(*p.es)), .opts.stride = stride };
	struct ext4_group *made = NULL;

	if (!p.es)
		return NULL;
	p.es->disk = ck->es->disk;
	p.es->disk.log_groups_per_flex = log_groups_per_flex;
	ext4_sb_fill(p.es);
	p.es->group = calloc(p.es->groups, sizeof(*p.es->group));
	if (p.es->group && !ext4_mkfs_place_tables(&p))
		made = take(p.es->group);
	ext4_mkfs_free(&p);
	return made;
}

/* The inode is a directory, and what it holds does not say that it is another's. */
static bool is_dir_of(struct ck *ck, u64 ino, const struct ext4_disk_inode *raw)
{
	/* Read only. */
	const struct ck_inode ci = { .ino = ino,
				     .raw = (struct ext4_disk_inode *)raw,
				     .mode = le16_get(raw->mode),
				     .flags = le32_get(raw->flags) };

	return ck_holds_dir(ck, &ci);
}

/*
 * How many of the first inodes of the group, in a block of its table, are in use and look like it. Without checksums those of other numbers do so,
 * too: but not their directories.
 */
static u32 inodes_in(struct ck *ck, u32 group, const void *block)
{
	const struct ext4_super *es = ck->es;
	u64 first = (u64)group * es->inodes_per_group + 1;
	u32 n = 0, dirs = 0, right = 0;

	for (u32 i = 0; i < es->inodes_per_block; i++) {
		const struct ext4_disk_inode *raw =
			(const void *)((const u8 *)block + (size_t)i * es->inode_bytes);
		bool root = first + i == EXT4_INO_ROOT;

		if (!ext4_dirent_type(&(struct ext4_super){ .filetype = true }, le16_get(raw->mode)) ||
		    !le16_get(raw->links_count) || le32_get(raw->dtime) ||
		    (es->metadata_csum && !ext4_inode_sum_ok(es, first + i, raw))) {
			dirs += root;
			continue;
		}
		n++;
		if (!root && (es->metadata_csum || !S_ISDIR(le16_get(raw->mode))))
			continue;
		dirs++;
		right += es->metadata_csum || is_dir_of(ck, first + i, raw);
	}
	return dirs && !right ? 0 : n;
}

/* The same, of a table that begins there. */
static u32 inodes_at(struct ck *ck, u32 group, u64 table)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;

	return table < ck->es->blocks && ck_read(ck, table, &bh) ? inodes_in(ck, group, bh->data) : 0;
}

/* Of the first groups, those whose table is there: their descriptors say so, or inodes show it. */
static u32 tables_right(struct ck *ck, const struct ext4_group *made, u32 groups)
{
	u32 n = 0;

	for (u32 i = 0; i < groups; i++)
		n += made[i].inode_table == ck->es->group[i].inode_table ||
		     inodes_at(ck, i, made[i].inode_table);
	return n;
}

/* Where the volume's groups had their tables when it was made. What the superblock says of that may be damaged, too. NULL: nobody knows. */
static const struct ext4_group *groups_made(struct ck *ck)
{
	const struct ext4_disk_super *d = &ck->es->disk;
	const struct {
		u8 log_groups_per_flex;
		u32 stride;
	} guess[] = { { d->log_groups_per_flex, le16_get(d->raid_stride) },
		      { d->log_groups_per_flex, 0 },
		      { USUAL_FLEX, le16_get(d->raid_stride) },
		      { USUAL_FLEX, 0 } };
	u32 groups = MIN(ck->es->groups, SAMPLE), best = 0;

	if (ck->made)
		return ck->made;
	for (u32 i = 0; i < ARRAY_SIZE(guess) && best < groups; i++) {
		struct ext4_group *made = groups_planned(ck, guess[i].log_groups_per_flex, guess[i].stride);
		u32 right = made ? tables_right(ck, made, groups) : 0;

		if (made && (!ck->made || right > best)) {
			free(ck->made);
			ck->made = take(made);
			best = right;
		}
		free(made);
	}
	return ck->made;
}

/* *at is that place, if nothing has it and nothing is known. False: it is not known either. */
static bool place_made(const struct ck *ck, u64 *at, u64 made, u64 blocks)
{
	if (!*at && made && !ext4_zone_meets(&ck->es->zone, made, blocks))
		*at = made;
	return *at;
}

void ck_desc_mend(struct ck *ck, u32 group)
{
	struct ext4_super *es = ck->es;
	struct ext4_group *g = &es->group[group];
	const struct ext4_group *made = g->bad ? groups_made(ck) : NULL;

	if (g->bad) {
		u64 itable = made ? made[group].inode_table : 0;

		if (!place_made(ck, &g->inode_table, itable, es->itable_blocks))
			ck_move(ck, group, CK_MOVE_ITABLE);
		if (!place_made(ck, &g->block_bitmap, made ? made[group].block_bitmap : 0, 1))
			ck_move(ck, group, CK_MOVE_BLOCKS);
		if (!place_made(ck, &g->inode_bitmap, made ? made[group].inode_bitmap : 0, 1))
			ck_move(ck, group, CK_MOVE_INODES);
		if (ck->move && ck->move[group])
			return;
		g->bad = false;
	}
	ck_group_put(ck, group);
	ck->rest = true;
}

void ck_group_all_used(struct ck *ck, u32 group)
{
	struct ext4_group *g = &ck->es->group[group];

	g->flags &= (u16) ~(EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT);
	g->itable_unused = 0;
	ck_group_put(ck, group);
}

void ck_desc_all_used(struct ck *ck, u32 group, struct ext4_disk_group *desc)
{
	const u16 uninit = EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT;

	/* Without the features whose these are, they are not what es->group has. */
	desc->flags = le16_put(le16_get(desc->flags) & (u16)~uninit);
	desc->itable_unused_lo = le16_put(0);
	if (ck->es->desc_bytes >= EXT4_DESC_BYTES_64BIT)
		desc->itable_unused_hi = le16_put(0);
	ck_group_all_used(ck, group);
}

/* Where the group's table was at first there are more of its inodes than where it is said to be: *table. */
static bool table_elsewhere(struct ck *ck, u32 group, u64 *table)
{
	const struct ext4_group *made = groups_made(ck);
	u64 now = ck->es->group[group].inode_table;

	*table = made ? made[group].inode_table : now;
	return *table != now && inodes_at(ck, group, *table) > inodes_at(ck, group, now);
}

static void set_table(struct ck *ck, u32 group, u64 table)
{
	ck->es->group[group].inode_table = table;
	ck_group_put(ck, group);
	ck->rest = true;
}

bool ck_tables_found(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	u64 table;

	if (ck->tables_known)
		return false;
	ck->tables_known = true;
	for (u32 i = 0; i < es->groups && ck_goes_on(ck); i++)
		if (!inodes_at(ck, i, es->group[i].inode_table) && table_elsewhere(ck, i, &table))
			set_table(ck, i, table);
	return ck->rest;
}

void ck_table_check(struct ck *ck, u32 group, const void *block)
{
	u64 table;

	if (!inodes_in(ck, group, block) && table_elsewhere(ck, group, &table) &&
	    ck_fix(ck, CK_GROUP_DESC, group, "its inode table is in block %llu, not %llu",
		   (unsigned long long)table, (unsigned long long)ck->es->group[group].inode_table))
		set_table(ck, group, table);
}

/* ---- elsewhere ---- */

void ck_move(struct ck *ck, u32 group, u8 what)
{
	if (!ck->move)
		ck->move = calloc(ck->es->groups, 1);
	if (ck->move)
		ck->move[group] |= what;
	else
		ck_no_memory(ck);
}

static bool new_place(struct ck *ck, u32 group, u64 blocks, u64 *blk)
{
	const struct ext4_super *es = ck->es;
	u64 first, start = ck_cluster(ck, ext4_group_start(es, group)),
		   n = DIV_ROUND_UP(blocks, 1ull << es->cluster_bits);
	u64 end = start + DIV_ROUND_UP(ext4_group_blocks(es, group), 1u << es->cluster_bits);
	int err;

	/* Without flex_bg a group has all of its own. */
	if (ext4_has_incompat(es, EXT4_INCOMPAT_FLEX_BG))
		err = ck_alloc(ck, start, n, &first);
	else
		err = ck_alloc_within(ck, start, end, n, &first);
	if (!err)
		*blk = es->first_data_blk + (first << es->cluster_bits);
	else
		ck_say(ck, CK_GROUP_META_TWICE, group, "%s", err_text());
	return !err;
}

/* The table with what it holds, from 0: with nothing. */
static void copy_table(struct ck *ck, u64 from, u64 to)
{
	for (u32 i = 0; i < ck->es->itable_blocks && ck_goes_on(ck); i++) {
		scoped(bh_putp) struct buffer_head *old = NULL, *bh = NULL;

		if (!ck_read(ck, to + i, &bh) || (from && !ck_read(ck, from + i, &old)))
			continue;
		if (old)
			memcpy(bh->data, old->data, bh->size_bytes);
		else
			memset(bh->data, 0, bh->size_bytes);
		ck_put(ck, bh);
	}
}

static void move_one(struct ck *ck, u32 group)
{
	struct ext4_super *es = ck->es;
	struct ext4_group *g = &es->group[group];
	u8 what = ck->move[group];
	u64 blk;

	if (what & CK_MOVE_ITABLE && new_place(ck, group, es->itable_blocks, &blk)) {
		copy_table(ck, g->inode_table, blk);
		if (!g->inode_table && es->desc_csum)
			g->flags |= EXT4_GROUP_INODE_ZEROED;
		g->inode_table = blk;
	}
	if (what & CK_MOVE_BLOCKS && new_place(ck, group, 1, &blk))
		g->block_bitmap = blk;
	if (what & CK_MOVE_INODES && new_place(ck, group, 1, &blk))
		g->inode_bitmap = blk;
	if (!g->inode_table || !g->block_bitmap || !g->inode_bitmap)
		return;
	g->bad = false;
	g->flags &= (u16) ~(EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT);
	ck_group_put(ck, group);
}

void ck_groups_move(struct ck *ck)
{
	for (u32 i = 0; ck->move && i < ck->es->groups && ck_goes_on(ck); i++)
		if (ck->move[i])
			move_one(ck, i);
	ck->rest = ck->rest || ck->move;
}
