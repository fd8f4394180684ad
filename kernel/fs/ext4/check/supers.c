/* What the volume says of itself: superblock, descriptors, their copies, the journal, orphans. */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COPIES_MAX          32u
#define GROUPS_PER_FLEX_MAX 31u /* log2 */
#define GROUPS_PER_FLEX     4u  /* what mkfs makes */
#define EXTRA_BYTES         32u /* of inodes, what mkfs gives them */
#define RESERVED_PART       20u /* of the blocks is kept for the superuser: 5 % */

/* ---- superblocks ---- */

/* The copy's words become the first superblock's. Whether the journal holds anything only the journal knows then. */
static void mend_primary(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct jbd2 *journal;

	if (ei && ext4_journal_is_inside(es) && !ext4_journal_open(es, ei, &journal)) {
		if (jbd2_info(journal)->needs_recovery)
			es->disk.feature_incompat = le32_put(es->incompat | EXT4_INCOMPAT_RECOVER);
		jbd2_close(journal);
	}
	ck_super_put(ck);
	ck->rest = true;
}

static void check_primary(struct ck *ck)
{
	struct ext4_disk_super copy;

	if (ck->asked_copy && !ck_mends(ck))
		return;
	if (ck->es->from_copy) {
		if (ck_fix(ck, CK_SUPER_PRIMARY, 0, "%s", ""))
			mend_primary(ck);
		return;
	}
	if (!ck_super_sum_ok(ck) && ck_fix(ck, CK_SUPER_SUM, 0, "%s", ""))
		ck_super_put(ck);
	if (!ck->asked_copy && ck_super_sizes_differ(ck, &copy) &&
	    ck_fix(ck, CK_SUPER_PRIMARY, 0, "%s", "its sizes or features are not those of the copies"))
		ck_super_take_sizes(ck, &copy);
}

/* True: it is wrong, and is to be set. What follows from it is left to the next round. */
static bool field_wrong(struct ck *ck, bool wrong, const char *what, u64 says)
{
	if (!wrong || !ck_fix(ck, CK_SUPER_FIELD, 0, "%s, %llu", what, (unsigned long long)says))
		return false;
	ck->rest = true;
	return true;
}

/* Of the two numbers that say how many blocks a group has, that which mkfs can have made. */
static le32 group_blocks(const struct ext4_super *es)
{
	const struct ext4_disk_super *d = &es->disk;
	u32 usual = ext4_block_bytes(es) * 8, clusters = le32_get(d->clusters_per_group);

	return clusters == usual || (es->blocks_per_group % 8 && !(clusters % 8) && clusters)
		       ? d->clusters_per_group
		       : d->blocks_per_group;
}

static void check_sizes(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	struct ext4_disk_super *d = &ck->es->disk;
	u32 room = es->inode_bytes - EXT4_INODE_BYTES_OLD, usual = MIN(room, EXTRA_BYTES);
	bool bigalloc = ext4_has_ro_compat(es, EXT4_RO_COMPAT_BIGALLOC), old = !le32_get(d->rev_level);
	u64 reserved = le32_get(d->r_blocks_count_lo);
	u32 desc = le16_get(d->desc_size);

	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		reserved |= (u64)le32_get(d->r_blocks_count_hi) << 32;
	if (field_wrong(ck, reserved > es->blocks / 2, "blocks kept for the superuser", reserved))
		ck_super_reserved(ck, es->blocks / RESERVED_PART);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_EXTRA_ISIZE) &&
	    field_wrong(ck,
			le16_get(d->min_extra_isize) > room || le16_get(d->want_extra_isize) > room ||
				le16_get(d->min_extra_isize) % 4 || le16_get(d->want_extra_isize) % 4,
			"bytes of extra fields of inodes", le16_get(d->want_extra_isize)))
		d->min_extra_isize = d->want_extra_isize = le16_put((u16)usual);
	/* Files without extents have no clusters. */
	if (field_wrong(ck, bigalloc && !es->cluster_bits && !ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS),
			"clusters of more than a block, which are blocks", le32_get(d->log_cluster_size)))
		d->feature_ro_compat = le32_put(es->ro_compat & ~EXT4_RO_COMPAT_BIGALLOC);
	if (field_wrong(ck, !bigalloc && le32_get(d->log_cluster_size) != le32_get(d->log_block_size),
			"size of clusters, which are blocks", le32_get(d->log_cluster_size)))
		d->log_cluster_size = d->log_block_size;
	if (field_wrong(ck, !bigalloc && le32_get(d->clusters_per_group) != es->blocks_per_group,
			"clusters of a group, which are blocks", le32_get(d->clusters_per_group)))
		d->clusters_per_group = d->blocks_per_group = group_blocks(es);
	/* Without wide descriptors nothing depends on it. */
	if (field_wrong(ck,
			!ext4_has_incompat(es, EXT4_INCOMPAT_64BIT) &&
				(desc & (desc - 1) || desc > EXT4_DESC_BYTES_MAX),
			"bytes of a descriptor", desc))
		d->desc_size = le16_put(0);
	if (field_wrong(ck, d->log_groups_per_flex > GROUPS_PER_FLEX_MAX, "groups that lie together",
			d->log_groups_per_flex))
		d->log_groups_per_flex = GROUPS_PER_FLEX;
	if (field_wrong(ck,
			le32_get(d->rev_level) > 1 || (old && (es->compat || es->incompat || es->ro_compat)),
			"revision", le32_get(d->rev_level)))
		d->rev_level = le32_put(1);
	if (field_wrong(ck, !old && es->first_ino > EXT4_FIRST_INO_REV0, "the first inode for files",
			es->first_ino))
		d->first_ino = le32_put(EXT4_FIRST_INO_REV0);
}

/* Inodes that the superblock names, and features do not. */
static void check_own_inodes(struct ck *ck)
{
	static const u8 none[16] = { 0 };
	const struct ext4_super *es = ck->es;
	struct ext4_disk_super *d = &ck->es->disk;
	bool journal = ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL),
	     quota = ext4_has_ro_compat(es, EXT4_RO_COMPAT_QUOTA), elsewhere;

	u32 inum;

	elsewhere = memcmp(d->journal_uuid, none, sizeof(none)) != 0;
	if (field_wrong(ck, !journal && le32_get(d->journal_inum), "the journal's inode, without a journal",
			le32_get(d->journal_inum)))
		d->journal_inum = le32_put(0);
	if (field_wrong(ck, journal && !le32_get(d->journal_inum) && !elsewhere, "the journal's inode", 0))
		d->journal_inum = le32_put(EXT4_INO_JOURNAL);
	if (field_wrong(ck, elsewhere && (!journal || le32_get(d->journal_inum)),
			"the UUID of a journal that lies elsewhere, journal's inode",
			le32_get(d->journal_inum)))
		memset(d->journal_uuid, 0, sizeof(d->journal_uuid));
	/* Before there was the feature, reserved inodes could be named. */
	inum = MAX(le32_get(d->usr_quota_inum),
		   MAX(le32_get(d->grp_quota_inum), le32_get(d->prj_quota_inum)));
	if (field_wrong(ck, !quota && inum >= es->first_ino, "an inode for quota, without the feature", inum))
		d->usr_quota_inum = d->grp_quota_inum = d->prj_quota_inum = le32_put(0);
	inum = ext4_quota_inum(d, QUOTA_USER);
	if (field_wrong(ck, inum && inum != EXT4_INO_USR_QUOTA, "the inode for users' quota", inum))
		d->usr_quota_inum = le32_put(EXT4_INO_USR_QUOTA);
	inum = ext4_quota_inum(d, QUOTA_GROUP);
	if (field_wrong(ck, inum && inum != EXT4_INO_GRP_QUOTA, "the inode for groups' quota", inum))
		d->grp_quota_inum = le32_put(EXT4_INO_GRP_QUOTA);
	inum = ext4_quota_inum(d, QUOTA_PROJECT);
	if (field_wrong(ck, inum && (inum < es->first_ino || inum > es->inodes),
			"the inode for projects' quota", inum))
		d->prj_quota_inum = le32_put(0);
	if (field_wrong(ck, !ext4_has_compat(es, EXT4_COMPAT_ORPHAN_FILE) && le32_get(d->orphan_file_inum),
			"the orphan file, without the feature", le32_get(d->orphan_file_inum)))
		d->orphan_file_inum = le32_put(0);
}

static void check_fields(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	const struct ext4_disk_super *d = &es->disk;

	check_sizes(ck);
	check_own_inodes(ck);
	if (ck->rest)
		ck_super_put(ck);
	/* Who mends it forgets that at the end. */
	if (ck_mends(ck))
		return;
	if (le16_get(d->state) & EXT4_STATE_ERROR)
		ck_say(ck, CK_SUPER_STATE, 0, "%u errors", le32_get(d->error_count));
	else if (!(le16_get(d->state) & EXT4_STATE_VALID) && !ck->replayed && !es->from_copy)
		ck_say(ck, CK_SUPER_STATE, 0, "%s", "it was not cleanly unmounted");
}

static void check_copy(struct ck *ck, u64 blk)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_super *d;
	const char *bad = NULL;
	u32 mask = EXT4_COMPAT_EXT_ATTR;

	if (!ck_read(ck, blk, &bh))
		return;
	d = (const void *)((const u8 *)bh->data +
			   (blk == es->super_blk ? EXT4_SUPER_OFF % bh->size_bytes : 0));
	if (le16_get(d->magic) != EXT4_MAGIC)
		bad = "no superblock is there";
	else if (es->metadata_csum && ext4_csum_super(d) != le32_get(d->checksum))
		bad = "wrong checksum";
	else if (memcmp(d->uuid, es->disk.uuid, sizeof(d->uuid)))
		bad = "another UUID";
	else if (ext4_sb_blocks(d) != es->blocks || le32_get(d->inodes_count) != es->inodes ||
		 le32_get(d->log_block_size) != le32_get(es->disk.log_block_size) ||
		 le32_get(d->blocks_per_group) != es->blocks_per_group)
		bad = "other sizes";
	if (bad ? ck_fix(ck, CK_SUPER_COPY, blk, "%s", bad)
		: !(le32_get(d->feature_compat) & mask) && es->compat & mask &&
			    ck_fix(ck, CK_SUPER_COPY_FEATURES, blk, "%s", "ext_attr"))
		ck_super_copy_put(ck, blk);
}

/* ---- descriptors ---- */

/* e2fsck/super.c of e2fsprogs 1.47, check_super_block. */
static const char *unused_wrong(const struct ext4_super *es, u32 group, const struct ext4_disk_group *d,
				const struct ext4_group *g)
{
	u32 unused = le16_get(d->itable_unused_lo);

	if (es->desc_bytes >= EXT4_DESC_BYTES_64BIT)
		unused |= (u32)le16_get(d->itable_unused_hi) << 16;
	if (!es->desc_csum)
		return unused || le16_get(d->flags) & (EXT4_GROUP_BLOCK_UNINIT | EXT4_GROUP_INODE_UNINIT)
			       ? "the volume has no descriptors that can say it"
			       : NULL;
	if (group == es->groups - 1 && g->flags & EXT4_GROUP_BLOCK_UNINIT)
		return "the last block bitmap is always written";
	if (unused > es->inodes_per_group || unused > g->free_inodes)
		return "more inodes than are free";
	return NULL;
}

static void check_desc_block(struct ck *ck, u32 i)
{
	const struct ext4_super *es = ck->es;
	u64 blk = ext4_group_desc_blk(es, i, 0);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 first = i * es->descs_per_block, n = MIN(es->descs_per_block, es->groups - first);

	if (!blk || !ck_read(ck, blk, &bh))
		return;
	for (u32 k = 0; k < n; k++) {
		u8 *desc = (u8 *)bh->data + (size_t)k * es->desc_bytes;
		struct ext4_group g;
		const char *bad, *unused;

		ext4_group_decode(es, desc, &g);
		bad = ext4_group_wrong(es, first + k, desc, &g);
		unused = bad ? NULL : unused_wrong(es, first + k, (const void *)desc, &g);
		if (unused && ck_fix(ck, CK_GROUP_UNUSED, first + k, "%s", unused))
			ck_desc_all_used(ck, first + k, (void *)desc);
		if (bad && ck_fix(ck, CK_GROUP_DESC, first + k, "%s%s", bad,
				  es->group[first + k].bad ? "" : ", a copy was used"))
			ck_desc_mend(ck, first + k);
	}
}

static void check_desc_copy(struct ck *ck, u32 i, u64 blk)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 first = i * es->descs_per_block, n = MIN(es->descs_per_block, es->groups - first);

	if (!ck_read(ck, blk, &bh))
		return;
	for (u32 k = 0; k < n; k++) {
		u8 *desc = (u8 *)bh->data + (size_t)k * es->desc_bytes;
		const struct ext4_group *have = &es->group[first + k];
		struct ext4_group g;

		ext4_group_decode(es, desc, &g);
		if (!have->bad &&
		    (g.block_bitmap != have->block_bitmap || g.inode_bitmap != have->inode_bitmap ||
		     g.inode_table != have->inode_table) &&
		    ck_fix(ck, CK_GROUP_COPY, first + k, "block %llu", (unsigned long long)blk)) {
			ext4_group_encode(es, first + k, have, desc);
			ck_put(ck, bh);
		}
	}
}

static void check_descs(struct ck *ck)
{
	for (u32 i = 0; i < ck->es->gdt_blocks && ck_goes_on(ck); i++) {
		check_desc_block(ck, i);
		if (ck->opts->base)
			break;
		for (u32 copy = 1; copy < COPIES_MAX; copy++) {
			u64 blk = ext4_group_desc_blk(ck->es, i, copy);

			if (!blk)
				break;
			check_desc_copy(ck, i, blk);
		}
	}
}

/* Where the journal's inode and other ones are that are mended before all else. */
static void check_first_table(struct ck *ck)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 table = ck->es->group[0].inode_table;

	if (ck_mends(ck) && table && !ck->es->group[0].bad && ck_read(ck, table, &bh))
		ck_table_check(ck, 0, bh->data);
}

/* ---- metadata of groups is in use ---- */

static void meta_twice(struct ck *ck, u32 group, u64 blk, u8 what)
{
	static const char *const name[] = { [CK_MOVE_ITABLE] = "inode table",
					    [CK_MOVE_BLOCKS] = "block bitmap",
					    [CK_MOVE_INODES] = "inode bitmap" };

	if (ck_fix(ck, CK_GROUP_META_TWICE, group, "%s, block %llu", name[what], (unsigned long long)blk) &&
	    !(what == CK_MOVE_ITABLE && ck_tables_found(ck)))
		ck_move(ck, group, what);
}

static void claim_meta(struct ck *ck, u32 group, u64 blk, u64 n, u8 what)
{
	if (blk && ck_claim(ck, ck_cluster(ck, blk), n))
		meta_twice(ck, group, blk, what);
}

/* What a group has. */
struct meta {
	u64 blk, end;
	u32 group;
	u8 what; /* CK_MOVE_*; 0: what cannot be moved */
};

static int by_place(const void *a, const void *b)
{
	const struct meta *x = a, *y = b;

	return x->blk < y->blk ? -1 : x->blk > y->blk;
}

/* In order; of two that lie on each other the one that is easier to move is moved. */
static void find_overlaps(struct ck *ck, struct meta *m, u32 n)
{
	struct meta *last = NULL;

	qsort(m, n, sizeof(*m), by_place);
	for (u32 i = 0; i < n && ck_goes_on(ck) && !ck->rest; i++) {
		struct meta *other = &m[i];

		if (last && other->blk < last->end) {
			const struct meta *one = other->what < last->what ? last : other;

			if (one->what)
				meta_twice(ck, one->group, one->blk, one->what);
		}
		if (!last || other->end > last->end)
			last = other;
	}
}

/* Clusters do not tell whether two share a block. */
static void check_overlaps(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	struct meta *m = calloc(es->groups, 4 * sizeof(*m));
	u32 n = 0;

	if (!m) {
		ck_no_memory(ck);
		return;
	}
	for (u32 i = 0; i < es->groups; i++) {
		const struct ext4_group *g = &es->group[i];
		u64 start = ext4_group_start(es, i), base = ext4_group_base_blocks(es, i);

		m[n++] = (struct meta){ start, start + MIN(base, ext4_group_blocks(es, i)), i, 0 };
		if (g->inode_table)
			m[n++] = (struct meta){ g->inode_table, g->inode_table + es->itable_blocks, i,
						CK_MOVE_ITABLE };
		if (g->block_bitmap)
			m[n++] = (struct meta){ g->block_bitmap, g->block_bitmap + 1, i, CK_MOVE_BLOCKS };
		if (g->inode_bitmap)
			m[n++] = (struct meta){ g->inode_bitmap, g->inode_bitmap + 1, i, CK_MOVE_INODES };
	}
	find_overlaps(ck, m, n);
	free(m);
}

/* Where a cluster is more than a block, several kinds of metadata may share one. */
static void claim_clusters(struct ck *ck)
{
	u64 next = 0;

	check_overlaps(ck);

	for (u32 i = 0; i < ck->es->zone.count; i++) {
		const struct ext4_zone_range *r = &ck->es->zone.range[i];
		u64 from = MAX(ck_cluster(ck, r->start), next), end = ck_cluster(ck, r->end - 1) + 1;

		if (from < end)
			(void)ck_claim(ck, from, end - from);
		next = MAX(next, end);
	}
}

/* What can least be moved comes first. */
static void claim_groups(struct ck *ck)
{
	const struct ext4_super *es = ck->es;

	for (u32 i = 0; i < es->groups && ck_goes_on(ck); i++) {
		u32 base = ext4_group_base_blocks(es, i);

		/* The last group may be shorter than that. */
		base = MIN(base, ext4_group_blocks(es, i));
		(void)ck_claim(ck, ck_cluster(ck, ext4_group_start(es, i)), base);
	}
	for (u32 i = 0; i < es->groups && ck_goes_on(ck) && !ck->rest; i++)
		claim_meta(ck, i, es->group[i].inode_table, es->itable_blocks, CK_MOVE_ITABLE);
	for (u32 i = 0; i < es->groups && ck_goes_on(ck) && !ck->rest; i++) {
		claim_meta(ck, i, es->group[i].block_bitmap, 1, CK_MOVE_BLOCKS);
		claim_meta(ck, i, es->group[i].inode_bitmap, 1, CK_MOVE_INODES);
	}
}

static void check_mmp(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk = le64_get(es->disk.mmp_block);
	const struct ext4_disk_mmp *m;
	const char *bad = NULL;

	if (!ext4_has_incompat(es, EXT4_INCOMPAT_MMP))
		return;
	if (!ext4_blocks_ok(es, blk, 1)) {
		if (ck_fix(ck, CK_MMP, 0, "block %llu is not one for it", (unsigned long long)blk))
			ck->own |= CK_OWN_MMP;
		return;
	}
	(void)ck_claim(ck, ck_cluster(ck, blk), 1);
	if (!ck_read(ck, blk, &bh))
		return;
	m = bh->data;
	bad = ext4_mmp_wrong(es->csum_seed, es->metadata_csum, m);
	if (!bad || !ck_fix(ck, CK_MMP, 0, "%s", bad))
		return;
	/* Another block may be anybody's, until it is known who claims it. */
	if (le32_get(m->magic) == EXT4_MMP_MAGIC)
		ck_mmp_put(ck);
	else
		ck->own |= CK_OWN_MMP_HERE;
}

/* ---- journal and orphans ---- */

/* Every block of the journal has a place. */
static int journal_whole(struct ext4_inode *ei)
{
	u64 blocks = ext4_size(ei) >> ext4_inode_super(ei)->block_bits;
	struct ext4_run run;
	int err = 0;

	for (u64 at = 0; at < blocks && !err; at = run.lblk + run.len) {
		err = ext4_map_blocks(ei, at, 1024, &run);
		if (!err && !run.pblk)
			err = fail(-EUCLEAN, "the journal has a hole at block %llu", (unsigned long long)at);
	}
	return err;
}

/* The inode says what the copy says: what is wrong is that it lies on something else, which is found with what that is. */
static bool is_as_copied(struct ck *ck, const struct ext4_inode *copy)
{
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(ck, copy->vfs.ino, &ci);

	return raw && S_ISREG(ci.mode) && ci.size_bytes == ext4_size(copy) &&
	       !memcmp(ci.raw->block, copy->block, sizeof(ci.raw->block));
}

/* The volume's own journal has an inode that leads to it, and the superblock knows where that is. */
static void check_journal_inode(struct ck *ck, const struct ext4_inode *used)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct ext4_disk_super d = es->disk;

	if (!ei) {
		ck_no_memory(ck);
		return;
	}
	if (ext4_journal_inode(es, ei) || !is_reg(&ei->vfs)) {
		if (is_as_copied(ck, used) || !ck_fix(ck, CK_JOURNAL_INODE, ei->vfs.ino, "%s", ""))
			return;
		if (ei->vfs.ino == EXT4_INO_JOURNAL)
			ck_journal_inode(ck, used);
		else
			ck_journal_usual(ck);
		return;
	}
	ext4_journal_backup(&d, ei->block, ext4_size(ei));
	if (memcmp(&d, &es->disk, sizeof(d)) != 0 && ck_fix(ck, CK_JOURNAL_COPY, 0, "%s", "")) {
		es->disk = d;
		ck_super_put(ck);
	}
}

static void check_log(struct ck *ck, const struct ext4_inode *ei, struct jbd2 *journal)
{
	struct ext4_super *es = ck->es;
	const struct jbd2_info *info = jbd2_info(journal);

	if (!es->journal_dev)
		check_journal_inode(ck, ei);
	if (!es->journal_dev && info->users > 1 &&
	    ck_fix(ck, CK_JOURNAL, 0, "it says that %u volumes share it", info->users))
		ck_journal_empty(ck);
	else if (info->err && ck_fix(ck, CK_JOURNAL_ERROR, 0, "%d", info->err))
		ck_journal_forgive(ck, journal);
}

/* The journal cannot be applied, or not be used: it says why. */
static void journal_bad(struct ck *ck, struct ext4_inode *ei, struct jbd2 *journal, const char *why)
{
	scoped(ext4_inode_freep) struct ext4_inode *own = ext4_inode_alloc();

	if (!ext4_journal_is_inside(ck->es)) {
		ck_say(ck, CK_JOURNAL, 0, "%s", why);
		return;
	}
	if (!own)
		ck_no_memory(ck);
	else if (!ck_fix(ck, CK_JOURNAL, 0, "%s", why))
		return;
	else if (le32_get(ck->es->disk.journal_inum) != EXT4_INO_JOURNAL)
		ck_journal_usual(ck);
	else if (journal && !journal_whole(ei))
		ck_journal_salvage(ck, journal);
	else if (!ext4_journal_inode(ck->es, own) && is_reg(&own->vfs) && !journal_whole(own))
		ck_journal_empty(ck);
	else
		ck_journal_give_up(ck);
}

/* True: what comes after is left to the next round. */
static bool check_spare(struct ck *ck)
{
	if (!ck_spare_left(ck) || !ck_fix(ck, CK_JOURNAL_SPARE, 0, "%s", ""))
		return false;
	if (ck_spare_end(ck) && !ck->err)
		ck->err = -EIO;
	ck->rest = true;
	return true;
}

static void check_journal(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = NULL;
	struct jbd2 *journal = NULL;
	int err;

	if (check_spare(ck))
		return;
	if (!ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL))
		return;
	if (!ext4_journal_is_here(es)) {
		if (!ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER))
			ck_say(ck, CK_JOURNAL_ELSEWHERE, 0, "%s", "");
		else if (ck_fix(ck, CK_JOURNAL_NEEDED, 0, "%s", ""))
			ck_journal_done(ck);
		return;
	}
	ei = ext4_inode_alloc();
	if (!ei) {
		ck_no_memory(ck);
		return;
	}
	err = ext4_journal_open(es, ei, &journal);
	if (err)
		journal = NULL;
	if (!err && !es->journal_dev)
		err = journal_whole(ei);
	if (ck->opts->base) {
		if (!err && !es->journal_dev && !ck->journal_why[0])
			check_journal_inode(ck, ei);
	} else if (ck->journal_why[0])
		journal_bad(ck, ei, journal, ck->journal_why);
	else if (err)
		journal_bad(ck, ei, journal, err_text());
	else
		check_log(ck, ei, journal);
	jbd2_close(journal);
}

/* Where orphans are noted. */
struct orphans {
	u32 count;
	bool bad, empty; /* what stands there is nonsense; it is to be emptied */
};

static void bad_orphan(struct ck *ck, struct orphans *o, u32 ino, const char *why)
{
	o->bad = true;
	if (ck_fix(ck, CK_ORPHAN_BAD, ino, "%s", why))
		o->empty = true;
}

/* False: it cannot be an orphan. */
static bool mark_orphan(struct ck *ck, struct orphans *o, u32 ino, u32 *next)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	struct ck_ino *in;
	u64 blk;
	u32 off;

	if (ino < ck->es->first_ino || ino > ck->es->inodes) {
		bad_orphan(ck, o, ino, "there is no such inode for files");
		return false;
	}
	in = ck_ino_make(ck, ino);
	if (!in || ext4_inode_where(ck->es, ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return false;
	raw = (const void *)((const u8 *)bh->data + off);
	if (in->flags & CK_ORPHAN || !le16_get(raw->mode)) {
		bad_orphan(ck, o, ino, in->flags & CK_ORPHAN ? "it stands there twice" : "it is free");
		return false;
	}
	in->flags |= CK_ORPHAN;
	*next = le32_get(raw->dtime);
	o->count++;
	return true;
}

static struct orphans orphan_list(struct ck *ck)
{
	u32 ino = le32_get(ck->es->disk.last_orphan);
	struct orphans o = { 0 };

	while (ino && ck_goes_on(ck) && mark_orphan(ck, &o, ino, &ino))
		;
	return o;
}

static struct orphans orphan_file(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	struct orphans o = { 0 };
	u32 ino = 0, next;
	int err = ext4_orphan_open(es);

	if (err) {
		o.empty = ck_fix(ck, CK_ORPHAN_FILE, le32_get(es->disk.orphan_file_inum), "%s", err_text());
		return o;
	}
	for (u32 i = 0; i < ext4_orphan_places(es) && ck_goes_on(ck); i++)
		if (!ext4_orphan_at(es, i, &ino) && ino)
			(void)mark_orphan(ck, &o, ino, &next);
	ext4_orphan_close(es);
	return o;
}

static void check_orphans(struct ck *ck)
{
	bool present = ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_ORPHAN_PRESENT);
	struct orphans list = orphan_list(ck), file = { 0 };
	u32 n;

	if (ext4_has_compat(ck->es, EXT4_COMPAT_ORPHAN_FILE))
		file = orphan_file(ck);
	n = list.count + file.count;
	if (list.empty)
		ck_orphan_list_empty(ck);
	if (file.empty)
		ck_orphan_file_empty(ck);
	if (file.count && !file.bad && !present && !ck->replayed &&
	    ck_fix(ck, CK_ORPHAN_FILE, le32_get(ck->es->disk.orphan_file_inum), "%s",
		   "it has orphans, but the superblock says that there are none")) {
		ck_orphan_file_empty(ck);
		return;
	}
	if (n && !list.bad && !file.bad && ck_fix(ck, CK_ORPHANS_LEFT, 0, "%u", n))
		ck->finish_orphans = ck->rest = true;
	else if (n && (list.bad || file.bad))
		ck_say(ck, CK_ORPHANS_LEFT, 0, "%u", n);
	if (present && !file.count && !file.bad && !ck->replayed &&
	    ck_fix(ck, CK_ORPHAN_PRESENT, 0, "%s", ""))
		ck_orphans_done(ck);
}

void ck_supers(struct ck *ck)
{
	ck_progress(ck, "superblocks and descriptors", 0, 1);
	check_primary(ck);
	if (!ck->rest)
		check_fields(ck);
	/* What is read with another superblock is another volume. */
	if (ck->rest)
		return;
	if (ck->opts->base) {
		check_descs(ck);
		check_first_table(ck);
		check_journal(ck);
		return;
	}
	for (u32 copy = 1; copy < ck->es->groups && ck_goes_on(ck); copy++) {
		u64 blk = ext4_super_copy_blk(ck->es, copy);

		if (!blk)
			break;
		check_copy(ck, blk);
	}
	check_descs(ck);
	check_first_table(ck);
	if (ck->es->cluster_bits)
		claim_clusters(ck);
	else
		claim_groups(ck);
	/* Metadata that lies on metadata was said; who else claims it, is told by its inode. */
	ck->any_twice = false;
	if (ck->rest)
		return;
	check_mmp(ck);
	check_journal(ck);
	check_orphans(ck);
}
