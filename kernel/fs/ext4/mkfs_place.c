/*
 * Where things lie on a new volume: bitmaps and inode tables, then directories, the resize inode, the journal, the orphan file, in this
 * order, each where mke2fs would put it.
 *
 *   tables    with flex_bg those of a set of groups lie together in its first group: block bitmaps, inode bitmaps, tables, each kind
 *             behind the one before; where that is not free, the first place in the set that is. Else in their own group.
 *   files     block after block from a goal on, in the first that is free
 *   journal   as long runs as there are, from the middle of the volume on
 *
 * While tables are placed blocks are what is taken; from then on clusters are.
 *
 * Interface: ext4_mkfs_place, mkfs.h. Pure: nothing is read or written but the plan.
 */
#include "mkfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define INODE_ROOT_EXTENTS 4u

static u64 cluster(const struct ext4_super *es)
{
	return 1ull << es->cluster_bits;
}

static int no_room(void)
{
	return fail(-ENOSPC, "the volume is too small for what is to be on it");
}

/* ---- blocks ---- */

/* Not for what is there without being in a bitmap yet: superblocks, descriptors. */
static void touch(struct ext4_super *es, u64 blk, u64 len)
{
	u64 group = (blk - es->first_data_blk) / es->blocks_per_group;

	for (; ext4_group_start(es, (u32)group) < blk + len; group++)
		es->group[group].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
}

/* The first place for len blocks that begins in [from, to). */
static bool find(const struct ext4_mkfs_plan *p, u64 from, u64 to, u64 len, u64 *out)
{
	u64 end;

	for (u64 blk = MAX(from, p->es->first_data_blk); blk < to; blk = end) {
		blk = ext4_zone_gap(&p->used, blk, &end);
		end = MIN(end, p->es->blocks);
		if (blk >= to || blk >= end)
			return false;
		if (end - blk >= len) {
			*out = blk;
			return true;
		}
	}
	return false;
}

/* A cluster for a file: the first free one from goal on, or else the first of all. */
static int take_cluster(struct ext4_mkfs_plan *p, u64 goal, u64 *out)
{
	const struct ext4_super *es = p->es;
	u64 mask = cluster(es) - 1;

	if (goal >= es->blocks)
		goal = 0;
	if (!find(p, goal & ~mask, es->blocks, cluster(es), out) && !find(p, 0, goal, cluster(es), out))
		return no_room();
	touch(p->es, *out, 1);
	return ext4_zone_insert(&p->used, *out, cluster(es));
}

/* Where a file without blocks looks first. */
static u64 goal_of_ino(const struct ext4_super *es, u32 ino)
{
	u32 group = ext4_ino_group(es, ino), bits = es->disk.log_groups_per_flex;

	return ext4_group_start(es, bits < 32 ? group >> bits << bits : 0);
}

/* ---- tables ---- */

/* A place for one of the tables of groups up to last: where one like it ended, or else the first in the set. */
static u64 flex_goal(const struct ext4_mkfs_plan *p, u32 first, u32 last, u64 hint, u64 len, u64 each)
{
	const struct ext4_super *es = p->es;
	u64 end = ext4_group_start(es, last) + ext4_group_blocks(es, last) - 1, found = 0;

	len = MIN(len, (u64)es->blocks_per_group / 4);
	if (hint && hint < es->blocks && find(p, hint, hint + len, each, &found))
		return found;
	if (find(p, ext4_group_start(es, first), end, len, &found) ||
	    find(p, ext4_group_start(es, first), end, each, &found) || find(p, 0, end, each, &found))
		return found;
	return ext4_group_start(es, first);
}

static int take_table(struct ext4_mkfs_plan *p, u64 goal, u64 fallback, u64 end, u64 len, bool flex, u64 *out)
{
	if (!find(p, goal, end, len, out) && !find(p, fallback, end, len, out))
		return no_room();
	if (flex)
		touch(p->es, *out, len);
	return ext4_zone_insert(&p->used, *out, len);
}

static int place_flex(struct ext4_mkfs_plan *p, u32 group)
{
	struct ext4_super *es = p->es;
	struct ext4_group *g = &es->group[group], *before = g - 1;
	u32 set = 1u << es->disk.log_groups_per_flex, nth = group & (set - 1), first = group - nth;
	u32 last = (u32)MIN((u64)first + set, (u64)es->groups) - 1, rest = last - group + 1, apart = set;
	u64 start = ext4_group_start(es, group), end, goal;
	int err;

	/* The last set keeps its tables together. */
	if (!nth && last == es->groups - 1 && (last & (set - 1)))
		apart = (last & (set - 1)) + 1;
	end = ext4_group_start(es, last) + ext4_group_blocks(es, last) - 1;
	goal = flex_goal(p, first, last, nth ? before->block_bitmap + 1 : 0, rest, 1);
	err = take_table(p, goal, start, end, 1, true, &g->block_bitmap);
	if (err)
		return err;
	goal = flex_goal(p, first, last, nth ? before->inode_bitmap + 1 : g->block_bitmap + apart, rest, 1);
	err = take_table(p, goal, start, end, 1, true, &g->inode_bitmap);
	if (err)
		return err;
	goal = flex_goal(p, first, last,
			 nth ? before->inode_table + es->itable_blocks : g->inode_bitmap + apart,
			 (u64)rest * es->itable_blocks, es->itable_blocks);
	return take_table(p, goal, goal, end, es->itable_blocks, true, &g->inode_table);
}

static int place_own(struct ext4_mkfs_plan *p, u32 group)
{
	struct ext4_super *es = p->es;
	struct ext4_group *g = &es->group[group];
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group) - 1, at = start;
	u32 stride = p->opts.stride;
	int err;

	/* So that the bitmaps of groups are on different disks. */
	if (stride && find(p, start, end, 1, &at)) {
		at += es->itable_blocks;
		at += (u64)stride * group % (end - at + 1);
		if (at >= end)
			at = start;
	}
	err = take_table(p, at, start, end, 1, false, &g->block_bitmap);
	if (!err)
		err = take_table(p, at, start, end, 1, false, &g->inode_bitmap);
	return err ? err : take_table(p, start, start, end, es->itable_blocks, false, &g->inode_table);
}

/* What mke2fs counts as in use before there is any file. */
static u64 overhead(const struct ext4_mkfs_plan *p)
{
	const struct ext4_super *es = p->es;
	u64 blocks = ext4_zone_count(&p->used, es->first_data_blk, es->blocks) >> es->cluster_bits;

	return blocks +
	       (DIV_ROUND_UP(p->journal_blocks, cluster(es)) + DIV_ROUND_UP(es->first_data_blk, cluster(es)));
}

/*
 * What begins groups, up to group `last`, is taken. Not all at once: what comes in the order in which it lies costs nothing, also on a volume
 * of millions of groups. *done: groups for which it was.
 */
static int place_bases(struct ext4_mkfs_plan *p, u64 last, u32 *done)
{
	struct ext4_super *es = p->es;
	int err = 0;

	for (; *done < es->groups && *done <= last && !err; ++*done) {
		u32 base = ext4_group_base_blocks(es, *done);

		if (base)
			err = ext4_zone_insert(&p->used, ext4_group_start(es, *done), base);
		es->group[*done].flags =
			es->desc_csum ? EXT4_GROUP_INODE_UNINIT | EXT4_GROUP_BLOCK_UNINIT : 0;
		/* The bitmap of the last one has an end, so it is always written. */
		if (*done == es->groups - 1)
			es->group[*done].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
	}
	return err;
}

int ext4_mkfs_place_more(struct ext4_mkfs_plan *p, u32 first)
{
	struct ext4_super *es = p->es;
	u32 bits = MIN((u32)es->disk.log_groups_per_flex, 31u), done = first;
	bool flex = bits && ext4_has_incompat(es, EXT4_INCOMPAT_FLEX_BG);
	u64 set = flex ? 1ull << bits : 1;
	int err = 0;

	for (u32 i = first; i < es->groups && !err; i++) {
		/* A table is looked for in its set, and may end in the group behind it. */
		err = place_bases(p, (i & ~(set - 1)) + set, &done);
		if (!err)
			err = flex ? place_flex(p, i) : place_own(p, i);
	}
	return err;
}

int ext4_mkfs_place_tables(struct ext4_mkfs_plan *p)
{
	struct ext4_super *es = p->es;
	int err = ext4_mkfs_place_more(p, 0);

	if (!err)
		err = ext4_zone_round(&p->used, es->cluster_bits);
	if (!err)
		es->overhead_clusters = overhead(p);
	return err;
}

/* ---- maps ---- */

static int add_node(const struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f, u64 blk, u8 **data)
{
	if (f->nodes == f->nodes_room) {
		u32 room = f->nodes_room ? f->nodes_room * 2 : 16;
		struct ext4_mkfs_node *n = realloc(f->node, room * sizeof(*n));

		if (!n)
			return fail(-ENOMEM, "no memory for the map of a file");
		f->node = n;
		f->nodes_room = room;
	}
	*data = calloc(1, ext4_block_bytes(p->es));
	if (!*data)
		return fail(-ENOMEM, "no memory for the map of a file");
	f->node[f->nodes++] = (struct ext4_mkfs_node){ blk, *data };
	return 0;
}

static int add_run(struct ext4_mkfs_file *f, u64 pblk, u32 lblk, u32 len)
{
	if (f->runs == f->runs_room) {
		u32 room = f->runs_room ? f->runs_room * 2 : 16;
		struct ext4_mkfs_run *r = realloc(f->run, room * sizeof(*r));

		if (!r)
			return fail(-ENOMEM, "no memory for the map of a file");
		f->run = r;
		f->runs_room = room;
	}
	f->run[f->runs++] = (struct ext4_mkfs_run){ pblk, lblk, len };
	return 0;
}

/* The runs as extents: in the inode, or in leaves whose blocks are known already. */
static void fill_extents(const struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f)
{
	u32 tail = ext4_block_bytes(p->es) / (u32)sizeof(struct ext4_disk_extent) *
		   (u32)sizeof(struct ext4_disk_extent);
	u32 per = (ext4_block_bytes(p->es) - (u32)sizeof(struct ext4_disk_extent_header)) /
		  (u32)sizeof(struct ext4_disk_extent);
	u32 seed = ext4_csum_inode_seed(p->es, f->ino, 0), done = 0;
	struct ext4_disk_extent_header *root = (void *)f->block;

	ext4_extent_root_init(f->block);
	root->entries = le16_put((u16)(f->nodes ? f->nodes : f->runs));
	root->depth = le16_put(f->nodes > 0);
	for (u32 i = 0; i < MAX(f->nodes, 1u); i++) {
		u32 n = f->nodes ? MIN(per, f->runs - done) : f->runs;
		struct ext4_disk_extent_header *h = f->nodes ? (void *)f->node[i].data : root;
		struct ext4_disk_extent *e = (void *)(h + 1);

		if (f->nodes) {
			struct ext4_disk_extent_idx *x = (void *)(root + 1);

			*h = *root;
			h->depth = le16_put(0);
			h->entries = le16_put((u16)n);
			h->max = le16_put((u16)per);
			x[i].lblk = le32_put(f->run[done].lblk);
			x[i].leaf_lo = le32_put((u32)f->node[i].blk);
			x[i].leaf_hi = le16_put((u16)(f->node[i].blk >> 32));
		}
		for (u32 k = 0; k < n; k++, done++)
			e[k] = (struct ext4_disk_extent){
				.lblk = le32_put(f->run[done].lblk),
				.len = le16_put((u16)f->run[done].len),
				.start_hi = le16_put((u16)(f->run[done].pblk >> 32)),
				.start_lo = le32_put((u32)f->run[done].pblk),
			};
		if (f->nodes && p->es->metadata_csum)
			*(le32 *)(void *)(f->node[i].data + tail) =
				le32_put(ext4_csum_extent(seed, f->node[i].data, tail));
	}
}

/* A run more, whose blocks are taken. What does not fit into the inode moves to a leaf, whose block is taken now. */
static int extent_add(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f, u64 pblk, u32 lblk, u32 len,
		      bool join)
{
	struct ext4_mkfs_run *last = f->runs ? &f->run[f->runs - 1] : NULL;
	u32 per = (ext4_block_bytes(p->es) - (u32)sizeof(struct ext4_disk_extent_header)) /
		  (u32)sizeof(struct ext4_disk_extent);
	u64 blk;
	u8 *data;
	int err;

	if (join && last && last->pblk + last->len == pblk && last->len + len < EXT4_EXTENT_INIT_MAX - 1) {
		last->len += len;
		return 0;
	}
	if (f->runs == (f->nodes ? per * f->nodes : INODE_ROOT_EXTENTS)) {
		if (f->nodes == INODE_ROOT_EXTENTS)
			return fail(-ENOSPC, "what is free is in too many pieces for a file of %u blocks",
				    f->blocks);
		err = take_cluster(p, f->run[0].pblk - MIN(cluster(p->es), f->run[0].pblk), &blk);
		if (!err)
			err = add_node(p, f, blk, &data);
		if (err)
			return err;
		f->clusters++;
	}
	return add_run(f, pblk, lblk, len);
}

/* ---- block pointers ---- */

/* A map of pointers as it grows: the block of each level that is being filled. */
struct pointers {
	u8 *node[3];
	u64 at; /* the block that was taken last */
};

/* Enters blk as the nth pointer of a block. */
static void pointer_put(u8 *block, u64 nth, u64 blk)
{
	((le32 *)(void *)block)[nth] = le32_put((u32)blk);
}

static int pointer_node(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f, struct pointers *m, u32 level,
			u8 *parent, u64 nth)
{
	int err = take_cluster(p, m->at, &m->at);

	if (!err)
		err = add_node(p, f, m->at, &m->node[level]);
	if (err)
		return err;
	f->clusters++;
	pointer_put(parent, nth, m->at);
	return 0;
}

/* The blocks of the map that must be there before the file's block lblk, and the place of its pointer. */
static int pointer_place(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f, struct pointers *m, u64 lblk,
			 u8 **block, u64 *nth)
{
	u64 per = ext4_pointers_per_block(p->es), span = 1, in;
	u32 depth = 0;
	int err = 0;

	*block = f->block;
	*nth = lblk;
	if (lblk < EXT4_NDIR)
		return 0;
	in = lblk - EXT4_NDIR;
	for (span = per; in >= span && depth < 2; span *= per, depth++)
		in -= span;
	if (in >= span)
		return fail(-EFBIG, "a file of %u blocks is too long for this volume", f->blocks);
	*nth = EXT4_NDIR + depth;
	for (u32 level = 0; level <= depth && !err; level++) {
		if (in % span == 0)
			err = pointer_node(p, f, m, level, *block, *nth);
		*block = m->node[level];
		span /= per;
		*nth = in / span % per;
	}
	return err;
}

/* ---- files ---- */

/* So many blocks, one after the other, as a file that grows gets them: each in the cluster of the one before, or in the next free one. */
static int grow(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f, u64 goal)
{
	bool extents = ext4_has_incompat(p->es, EXT4_INCOMPAT_EXTENTS);
	u64 mask = cluster(p->es) - 1;
	struct pointers m = { .at = goal };
	int err = 0;

	for (u32 lblk = 0; lblk < f->blocks && !err; lblk++) {
		u8 *block = NULL;
		u64 nth = 0;

		if (!extents)
			err = pointer_place(p, f, &m, lblk, &block, &nth);
		if (err)
			break;
		if (lblk && (lblk & mask)) {
			m.at++;
		} else {
			err = take_cluster(p, m.at, &m.at);
			f->clusters++;
		}
		if (err)
			break;
		if (block)
			pointer_put(block, nth, m.at);
		err = extents ? extent_add(p, f, m.at, lblk, 1, true) : add_run(f, m.at, lblk, 1);
	}
	if (!err && extents)
		fill_extents(p, f);
	return err;
}

/* Inode tables and directories of a set are in its first group: the journal goes to the roomiest of the groups behind. */
static u64 journal_goal(const struct ext4_mkfs_plan *p)
{
	const struct ext4_super *es = p->es;
	u64 middle = (es->blocks - es->first_data_blk) / 2;
	u32 bits = es->disk.log_groups_per_flex, best, start, most = 0;
	u32 group = (u32)((middle - MIN(middle, es->first_data_blk)) / es->blocks_per_group), end;

	if (bits && group > 1u << bits) {
		group = group >> bits << bits;
		while (group < es->groups &&
		       ext4_zone_count(&p->used, ext4_group_start(es, group),
				       ext4_group_start(es, group) + ext4_group_blocks(es, group)) ==
			       ext4_group_blocks(es, group))
			group++;
		start = group = group == es->groups ? 0 : group;
	} else {
		start = group ? group - 1 : group;
	}
	end = MIN(group + 1, es->groups - 1);
	best = start;
	for (u32 i = start; i <= end; i++) {
		u64 from = ext4_group_start(es, i), blocks = ext4_group_blocks(es, i);
		u32 left = (u32)(blocks - ext4_zone_count(&p->used, from, from + blocks));

		if (i == start || left > most) {
			best = i;
			most = left;
		}
	}
	return ext4_group_start(es, best);
}

static int place_journal(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f)
{
	const struct ext4_super *es = p->es;
	u64 c = cluster(es), longest = ALIGN_DOWN((u64)EXT4_EXTENT_INIT_MAX, c), at, end;
	u32 lblk = 0;
	int err = 0;

	if (!ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		return grow(p, f, goal_of_ino(es, f->ino));
	at = journal_goal(p);
	while (lblk < f->blocks && !err) {
		u64 len = MIN((u64)f->blocks - lblk, longest);

		if (at >= es->blocks || !find(p, at & ~(c - 1), es->blocks, c, &at))
			if (!find(p, 0, es->blocks, c, &at))
				return no_room();
		(void)ext4_zone_gap(&p->used, at, &end);
		len = MIN(len, MIN(end, es->blocks) - at);
		touch(p->es, at, len);
		err = ext4_zone_insert(&p->used, at, ALIGN_UP(len, c));
		if (!err)
			err = extent_add(p, f, at, lblk, (u32)len, false);
		f->clusters += DIV_ROUND_UP(len, c);
		lblk += (u32)len;
		at += len;
	}
	if (!err)
		fill_extents(p, f);
	return err;
}

static u32 lost_found_blocks(u32 block)
{
	u32 n = 1;

	/* 16 KiB, but at least two blocks, and no more than an inode points to. */
	while (n < EXT4_NDIR && (n * block < 16384 || n < 2))
		n++;
	return n;
}

int ext4_mkfs_place_log(struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f)
{
	return f->ino == EXT4_INO_JOURNAL ? place_journal(p, f) : grow(p, f, 0);
}

static int place_resize(struct ext4_mkfs_plan *p)
{
	const struct ext4_super *es = p->es;
	u64 goal = es->super_blk + es->gdt_blocks + le16_get(es->disk.reserved_gdt_blocks) + 2 +
		   es->itable_blocks;

	return ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE) ? take_cluster(p, goal, &p->resize_blk) : 0;
}

static int place_files(struct ext4_mkfs_plan *p)
{
	const struct ext4_super *es = p->es;
	int err;

	p->root = (struct ext4_mkfs_file){ .ino = EXT4_INO_ROOT, .blocks = 1 };
	p->lost_found = (struct ext4_mkfs_file){ .ino = es->first_ino,
						 .blocks = lost_found_blocks(ext4_block_bytes(es)) };
	p->journal = (struct ext4_mkfs_file){ .ino = EXT4_INO_JOURNAL, .blocks = p->journal_blocks };
	p->orphans = (struct ext4_mkfs_file){ .ino = es->first_ino + 1, .blocks = p->orphan_blocks };
	p->last_ino = p->orphan_blocks ? p->orphans.ino : p->lost_found.ino;
	err = grow(p, &p->root, goal_of_ino(es, p->root.ino));
	if (!err)
		err = grow(p, &p->lost_found, goal_of_ino(es, p->lost_found.ino));
	if (!err)
		err = place_resize(p);
	if (!err && p->journal_blocks)
		err = ext4_mkfs_place_log(p, &p->journal);
	if (!err && p->orphan_blocks)
		err = ext4_mkfs_place_log(p, &p->orphans);
	return err;
}

/* ---- counts ---- */

static void count_group(struct ext4_mkfs_plan *p, u32 group)
{
	struct ext4_super *es = p->es;
	struct ext4_group *g = &es->group[group];
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group);
	u64 first = (u64)group * es->inodes_per_group, used = p->last_ino > first ? p->last_ino - first : 0;

	g->free_clusters = (u32)((end - start - ext4_zone_count(&p->used, start, end)) >> es->cluster_bits);
	used = MIN(used, (u64)es->inodes_per_group);
	g->free_inodes = es->inodes_per_group - (u32)used;
	g->used_dirs = (EXT4_INO_ROOT > first && EXT4_INO_ROOT <= first + used) +
		       (p->lost_found.ino > first && p->lost_found.ino <= first + used);
	if (!es->desc_csum)
		return;
	g->itable_unused = g->free_inodes;
	if (used)
		g->flags &= (u16) ~(EXT4_GROUP_INODE_UNINIT | EXT4_GROUP_BLOCK_UNINIT);
	if (p->opts.zeroed || !p->opts.lazy_itable)
		g->flags |= EXT4_GROUP_INODE_ZEROED;
}

static void counts(struct ext4_mkfs_plan *p)
{
	struct ext4_super *es = p->es;
	struct ext4_disk_super *d = &es->disk;
	u64 blocks = 0;

	for (u32 i = 0; i < es->groups; i++) {
		count_group(p, i);
		blocks += (u64)es->group[i].free_clusters << es->cluster_bits;
	}
	d->free_blocks_count_lo = le32_put((u32)blocks);
	d->free_blocks_count_hi = le32_put((u32)(blocks >> 32));
	d->free_inodes_count = le32_put(es->inodes - p->last_ino);
	d->overhead_clusters = le32_put((u32)es->overhead_clusters);
	if (p->orphan_blocks)
		d->orphan_file_inum = le32_put(p->orphans.ino);
	if (p->journal_blocks)
		ext4_journal_backup(d, p->journal.block, (u64)p->journal_blocks << es->block_bits);
}

int ext4_mkfs_place(struct ext4_mkfs_plan *p)
{
	struct ext4_super *es = p->es;
	int err;

	es->group = calloc(es->groups, sizeof(*es->group));
	if (!es->group)
		return fail(-ENOMEM, "no memory for %u group descriptors", es->groups);
	err = ext4_mkfs_place_tables(p);
	if (!err)
		err = place_files(p);
	if (!err)
		counts(p);
	return err;
}

/* ---- the plan ---- */

int ext4_mkfs_plan(const struct ext4_mkfs_opts *opts, struct ext4_mkfs_plan *out)
{
	int err;

	*out = (struct ext4_mkfs_plan){ .opts = *opts, .es = calloc(1, sizeof(*out->es)) };
	if (!out->es)
		return fail(-ENOMEM, "no memory for a volume");
	err = ext4_mkfs_layout(out);
	return err ? err : ext4_mkfs_place(out);
}

static void file_free(struct ext4_mkfs_file *f)
{
	for (u32 i = 0; i < f->nodes; i++)
		free(f->node[i].data);
	free(f->node);
	free(f->run);
}

void ext4_mkfs_free(struct ext4_mkfs_plan *p)
{
	file_free(&p->root);
	file_free(&p->lost_found);
	file_free(&p->journal);
	file_free(&p->orphans);
	ext4_zone_free(&p->used);
	if (p->es)
		free(p->es->group);
	free(p->es);
	*p = (struct ext4_mkfs_plan){ 0 };
}
