/*
 * How short a volume can be. It must keep, before its new end: the tables of groups that stay, where they are; all blocks that are in use by anything
 * but tables, wherever they come to lie; some more for maps that get longer, since pieces may; and a number for each inode.
 *
 * All numbers are of blocks, and where space is had in clusters, of whole ones: a cluster with any table in it has nothing else, and one that
 * tables of several groups share is counted once.
 *
 * What cannot go elsewhere: inodes that the superblock names, and, where the volume says that numbers stay (stable_inodes), all; values of attributes
 * that know their owner, and he; bad blocks.
 */
#include "shorten.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define SLACK_BLOCKS   64u
#define SLACK_CLUSTERS 16u
#define SLACK_PART     128u /* of what moves */

/* What stays where it is. */
struct pins {
	u64 blk;   /* the last block */
	u32 group; /* the last group whose inodes are needed */
	const char *why;
};

struct reckoning {
	struct ext4_super *es;
	struct pins pins;
	u64 data;              /* blocks in use, tables left out */
	u64 inodes;            /* in use */
	u64 log_last;          /* of the journal's blocks; 0: it is not on the volume */
	u64 log;               /* blocks that it has */
	struct ext4_zone all;  /* the tables of all groups */
	struct ext4_zone kept; /* those of the groups that were looked at so far */
	u64 tables;            /* blocks in that */
	u64 occupied; /* blocks of `all` that lie in those groups: they are free only when the end has moved */
	u64 table_end; /* where `kept` ends */
};

static u64 unit(const struct ext4_super *es)
{
	return 1ull << es->cluster_bits;
}

/* ---- what is in use ---- */

int ext4_short_each(struct ext4_super *es, u32 first, u32 end, int (*fn)(void *ctx, u64 ino), void *ctx)
{
	u32 bytes = DIV_ROUND_UP(es->inodes_per_group, 8u);
	scoped(freep) u8 *bits = malloc(bytes);
	int err = bits ? 0 : fail(-ENOMEM, "no memory for a bitmap");

	for (u32 g = first; g < end && !err; g++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (es->group[g].flags & EXT4_GROUP_INODE_UNINIT)
			continue;
		err = ext4_inode_bitmap(es, g, &bh);
		if (!err)
			memcpy(bits, bh->data, bytes);
		for (u32 i = 0; i < es->inodes_per_group && !err; i++)
			if (bits[i / 8] >> i % 8 & 1)
				err = fn(ctx, (u64)g * es->inodes_per_group + i + 1);
	}
	return err;
}

/* Blocks in use in the group from block `from` on. */
static int used_from(struct ext4_super *es, u32 group, u64 from, u64 *used)
{
	u64 start = ext4_group_start(es, group), at = from > start ? from - start : 0;
	u32 clusters = ext4_group_clusters(es, group);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	if (!at) {
		*used += (u64)(clusters - es->group[group].free_clusters) << es->cluster_bits;
		return 0;
	}
	err = ext4_block_bitmap(es, group, &bh);
	for (u64 i = at >> es->cluster_bits; !err && i < clusters; i++)
		*used += (u64)(((const u8 *)bh->data)[i / 8] >> i % 8 & 1) << es->cluster_bits;
	return err;
}

/* ---- what stays ---- */

static void pin_group(struct pins *p, u64 ino, const struct ext4_super *es, const char *why)
{
	u32 group = ext4_ino_group(es, ino);

	if (!ino || ino > es->inodes || group < p->group)
		return;
	p->group = group;
	p->why = group ? why : p->why;
}

static void pin_blk(struct pins *p, u64 blk, const char *why)
{
	if (blk <= p->blk)
		return;
	p->blk = blk;
	p->why = why;
}

/* The owner is known by number and generation, either of which would change; so would the generation of the inode that has the value. */
static int pin_owned(void *ctx, u64 ino)
{
	static const char why[] = "values of attributes that know their owner (ea_inode)";
	struct reckoning *r = ctx;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	int err = ino < r->es->first_ino ? 0 : ext4_raw_inode_get(r->es, ino, &bh, &raw);

	if (!err && bh && le32_get(raw->flags) & EXT4_FL_EA_INODE && !ext4_value_refs(raw)) {
		pin_group(&r->pins, ino, r->es, why);
		pin_group(&r->pins, le32_get(raw->mtime), r->es, why);
	}
	return err;
}

static int last_of_runs(struct ext4_inode *ei, u64 *last)
{
	struct ext4_run run = { 0 };
	int err = 0;

	for (u64 at = 0; !err && at < EXT4_LBLK_END && !run.last; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, 1024, &run);
		if (!err && run.pblk)
			*last = MAX(*last, run.pblk + run.len - 1);
	}
	return err;
}

/* The nodes of a tree: its inner ones, level by level, are the blocks that index entries name. */
static int last_of_nodes(struct ext4_inode *ei, const void *node, u32 depth, u64 *last)
{
	const struct ext4_disk_extent_header *hdr = node;
	const struct ext4_disk_extent_idx *x = (const void *)(hdr + 1);
	int err = 0;

	for (u32 i = 0; i < le16_get(hdr->entries) && depth && !err; i++) {
		const struct bh_ctx ctx = ext4_ctx_map(ei, depth - 1);
		scoped(bh_putp) struct buffer_head *bh = NULL;

		*last = MAX(*last, ext4_extent_child(&x[i]));
		if (depth > 1)
			err = bh_read(ei->vfs.sb->dev, ext4_extent_child(&x[i]), &ext4_extent_ops, &ctx, &bh);
		if (bh)
			err = last_of_nodes(ei, bh->data, depth - 1, last);
	}
	return err;
}

int ext4_short_log_last(struct ext4_super *es, u64 *last)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	u32 depth;
	int err;

	*last = 0;
	if (!ext4_journal_is_inside(es))
		return 0;
	err = ext4_inode_open(es, le32_get(es->disk.journal_inum), &ei);
	if (err)
		return err;
	depth = le16_get(((const struct ext4_disk_extent_header *)(const void *)ei->block)->depth);
	err = last_of_runs(ei, last);
	if (!err && !ext4_has_extents(ei))
		return ext4_short_pointers_last(ei, last);
	if (!err)
		err = depth > EXT4_EXTENT_DEPTH_MAX ? -EUCLEAN : last_of_nodes(ei, ei->block, depth, last);
	return err;
}

static int look_at_log(struct reckoning *r)
{
	struct ext4_super *es = r->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err = ext4_short_log_last(es, &r->log_last);

	if (err || !r->log_last)
		return err;
	err = ext4_inode_open(es, le32_get(es->disk.journal_inum), &ei);
	if (err)
		return err;
	r->log = ALIGN_UP(ext4_size(ei) >> es->block_bits, unit(es));
	if (!ext4_has_extents(ei))
		r->log += 2 * ext4_short_pointers_nodes(es, 2 * r->log);
	return 0;
}

static int look_at_bad_blocks(struct reckoning *r)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	u64 last = 0;
	int err = ext4_inode_open(r->es, EXT4_INO_BAD, &ei);

	if (err == -ESTALE) {
		err_clear();
		return 0;
	}
	if (!err)
		err = last_of_runs(ei, &last);
	if (!err)
		pin_blk(&r->pins, last, "bad blocks");
	return err;
}

static int look_at_pins(struct reckoning *r)
{
	struct ext4_super *es = r->es;
	const struct ext4_disk_super *d = &es->disk;
	const u32 named[] = { le32_get(d->journal_inum), le32_get(d->usr_quota_inum),
			      le32_get(d->grp_quota_inum), le32_get(d->prj_quota_inum),
			      ext4_has_compat(es, EXT4_COMPAT_ORPHAN_FILE) ? le32_get(d->orphan_file_inum)
									   : 0 };
	int err;

	for (u32 i = 0; i < ARRAY_SIZE(named); i++)
		pin_group(&r->pins, named[i], es, "an inode that its superblock names");
	for (u32 g = 0; g < es->groups && ext4_has_compat(es, EXT4_COMPAT_STABLE_INODES); g++)
		if (es->group[g].free_inodes < es->inodes_per_group)
			pin_group(&r->pins, (u64)g * es->inodes_per_group + 1, es,
				  "inodes whose numbers may not change (stable_inodes)");
	if (ext4_has_incompat(es, EXT4_INCOMPAT_MMP))
		pin_blk(&r->pins, le64_get(d->mmp_block), "its block of multiple mount protection");
	err = look_at_log(r);
	if (!err)
		err = look_at_bad_blocks(r);
	if (!err && ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE))
		err = ext4_short_each(es, 0, es->groups, pin_owned, r);
	return err;
}

/* ---- how short ---- */

static int look_around(struct reckoning *r)
{
	struct ext4_super *es = r->es;
	u64 used = 0;
	int err;

	for (u32 g = 0; g < es->groups; g++) {
		u32 clusters = ext4_group_clusters(es, g);

		used += (u64)(clusters - MIN(es->group[g].free_clusters, clusters)) << es->cluster_bits;
		r->inodes += es->inodes_per_group - MIN(es->group[g].free_inodes, es->inodes_per_group);
	}
	err = ext4_zone_clusters(&es->zone, es->cluster_bits, &r->all);
	if (err)
		return err;
	r->data = used - MIN(used, ext4_zone_count(&r->all, 0, ~0ull));
	return look_at_pins(r);
}

static int add_table(struct reckoning *r, u64 start, u64 len)
{
	u64 end = ALIGN_UP(start + len, unit(r->es));

	start = ALIGN_DOWN(start, unit(r->es));
	r->tables += end - start - ext4_zone_count(&r->kept, start, end);
	r->table_end = MAX(r->table_end, end);
	return ext4_zone_insert(&r->kept, start, end - start);
}

/* The tables of the next group. */
static int add_tables(struct reckoning *r, u32 group)
{
	const struct ext4_super *es = r->es;
	const struct ext4_group *g = &es->group[group];
	u64 start = ext4_group_start(es, group);
	u32 base = ext4_group_base_blocks(es, group);
	int err = base ? add_table(r, start, base) : 0;

	r->table_end = MAX(r->table_end, start + 1);
	if (!err)
		err = add_table(r, g->block_bitmap, 1);
	if (!err)
		err = add_table(r, g->inode_bitmap, 1);
	return err ? err : add_table(r, g->inode_table, es->itable_blocks);
}

static u64 group_end(const struct ext4_super *es, u32 groups)
{
	return MIN(ext4_group_start(es, groups), (u64)es->blocks);
}

/* With `groups`, which were added, beside so many blocks of tables: how many there must be; 0: it cannot be. */
static u64 least_with(const struct reckoning *r, u32 groups, u64 tables)
{
	const struct ext4_super *es = r->es;
	u64 slack = MAX((u64)SLACK_BLOCKS, SLACK_CLUSTERS * unit(es)) + r->data / SLACK_PART,
	    need = es->first_data_blk + tables + r->data + slack,
	    least = MAX(MAX(r->table_end, r->pins.blk + 1), need);

	if (groups <= r->pins.group || (u64)groups * es->inodes_per_group < r->inodes)
		return 0;
	/* A journal that has to move is there twice for a while. */
	if (r->log_last >= least)
		least = MIN(MAX(least, need + r->log), r->log_last + 1);
	least = ALIGN_UP(least, unit(es));
	return least <= group_end(es, groups) ? least : 0;
}

/* What fits into `want` blocks, or 0: the least; at once, or when tables are free that are not needed then. */
static int find(struct reckoning *r, u64 want, struct ext4_short *s)
{
	struct ext4_super *es = r->es;
	u64 from = 0;
	int err;

	for (u32 n = 1; n <= es->groups; n++) {
		u64 end = group_end(es, n), one, later;

		if (s->least && s->least_now && ext4_group_start(es, n - 1) >= want)
			break;
		err = add_tables(r, n - 1);
		if (err)
			return err;
		r->occupied += ext4_zone_count(&r->all, from, end);
		from = end;
		one = least_with(r, n, r->occupied);
		later = least_with(r, n, r->tables);
		s->least = s->least || !later ? s->least : later;
		if (!one)
			continue;
		if (!s->least_now) {
			s->least_now = one;
			s->groups_now = n;
		}
		if (!want || one > want)
			continue;
		s->end = MIN(end, want);
		s->groups = n;
	}
	return 0;
}

static int refused(const struct ext4_super *es)
{
	const char *name = es->vfs.health.name;

	if (ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE) && ext4_has_incompat(es, EXT4_INCOMPAT_META_BG))
		return fail(-EOPNOTSUPP, "%s has resize_inode and meta_bg, which exclude each other", name);
	if (ext4_errors_new(es) || le16_get(es->disk.state) & EXT4_STATE_ERROR || ext4_groups_bad(es))
		return fail(-EUCLEAN, "%s has errors: check it first", name);
	return 0;
}

static int count_moves(struct ext4_short *s, const struct reckoning *r)
{
	struct ext4_super *es = s->es;
	u32 first = (u32)((s->end - es->first_data_blk) / es->blocks_per_group);
	u64 used = 0;
	int err = 0;

	for (u32 g = first; g < es->groups && !err; g++)
		err = used_from(es, g, s->end, &used);
	s->blocks = used - MIN(used, ext4_zone_count(&r->all, s->end, ~0ull));
	for (u32 g = s->groups; g < es->groups; g++)
		s->inodes += es->inodes_per_group - es->group[g].free_inodes;
	s->log = r->log_last >= s->end;
	return err;
}

static int plan(struct reckoning *r, u64 want, struct ext4_short *s)
{
	struct ext4_super *es = r->es;
	int err = look_around(r);

	if (!err)
		err = find(r, want, s);
	if (err)
		return err;
	s->least = s->least ? MIN(s->least, s->least_now) : s->least_now;
	if (!s->least_now) {
		s->least = s->least_now = es->blocks;
		s->groups_now = es->groups;
	}
	if (want && want < s->least)
		return fail(r->pins.why && r->pins.blk + 1 >= s->least ? -EOPNOTSUPP : -ENOSPC,
			    "%s needs %llu bytes at least%s%s", es->vfs.health.name,
			    (unsigned long long)(s->least << es->block_bits),
			    r->pins.why ? "; what cannot be moved: " : "", r->pins.why ? r->pins.why : "");
	s->more = !s->end;
	if (s->more) {
		s->end = s->least_now;
		s->groups = s->groups_now;
	}
	return count_moves(s, r);
}

int ext4_short_plan(struct ext4_super *es, u64 want, struct ext4_short *s)
{
	struct reckoning r = { .es = es };
	int err = refused(es);

	*s = (struct ext4_short){ .es = es, .what = s->what };
	s->unit_bytes = unit(es) << es->block_bits;
	if (!err)
		err = plan(&r, want ? MAX(ALIGN_DOWN(want, unit(es)), 1ull) : 0, s);
	ext4_zone_free(&r.all);
	ext4_zone_free(&r.kept);
	return err;
}

/* ---- what it will say ---- */

static void put_counts(const struct ext4_short *s, struct ext4_disk_super *d)
{
	const struct ext4_super *es = s->es;
	u64 kept = ext4_kept_root(es), reserved;

	reserved = kept >= es->blocks ? s->end : kept * s->end / es->blocks;
	d->blocks_count_lo = le32_put((u32)s->end);
	d->r_blocks_count_lo = le32_put((u32)reserved);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT)) {
		d->blocks_count_hi = le32_put((u32)(s->end >> 32));
		d->r_blocks_count_hi = le32_put((u32)(reserved >> 32));
	}
	d->inodes_count = le32_put(s->groups * es->inodes_per_group);
	for (u32 i = 0; i < ARRAY_SIZE(d->backup_bgs) && ext4_has_compat(es, EXT4_COMPAT_SPARSE_SUPER2); i++)
		if (le32_get(d->backup_bgs[i]) >= s->groups)
			d->backup_bgs[i] = le32_put(0);
}

void ext4_short_after(const struct ext4_short *s, struct ext4_super *after)
{
	const struct ext4_super *es = s->es;
	struct ext4_disk_super *d = &after->disk;
	u32 descs = es->gdt_blocks + le16_get(es->disk.reserved_gdt_blocks);

	*d = es->disk;
	put_counts(s, d);
	ext4_sb_fill(after);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_META_BG) && after->gdt_blocks < le32_get(d->first_meta_bg)) {
		d->first_meta_bg = le32_put(after->gdt_blocks);
		ext4_sb_fill(after);
	}
	/* As many as the map of the inode that keeps them has room for. */
	if (ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE))
		d->reserved_gdt_blocks =
			le16_put((u16)MIN(descs - after->gdt_blocks, ext4_pointers_per_block(es)));
}
