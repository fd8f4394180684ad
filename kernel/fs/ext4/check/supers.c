/* The volume opened, and what it says of itself: superblock, descriptors, their copies, the journal, orphans. */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COPIES_MAX 32u

/* ---- opening ---- */

static void say_state(struct ck *ck, bool replayed)
{
	const struct ext4_super *es = ck->es;
	u32 state = le16_get(es->disk.state);
	const char *what = "clean";

	if (replayed)
		what = "not cleanly unmounted, its journal was applied in memory";
	else if (state & EXT4_STATE_ERROR)
		what = "with recorded errors";
	else if (!(state & EXT4_STATE_VALID) || ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER))
		what = "not cleanly unmounted";
	snprintf(ck->sum->state, sizeof(ck->sum->state), "%s", what);
}

int ck_open(struct ck *ck, const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct mount_opts opts = *mount;
	char why[300] = "";
	int err;

	opts.rdonly = true;
	if (ck->opts->cache_bytes)
		opts.cache_bytes = ck->opts->cache_bytes;
	err = ext4_super_open(dev, type, &opts, &ck->es);
	if (err == -EUCLEAN || err == -EOPNOTSUPP || err == -EIO || err == -EINVAL || err == -ESTALE) {
		snprintf(why, sizeof(why), "%s", err_text());
		opts.norecovery = true;
		err = ext4_super_open(dev, type, &opts, &ck->es);
	}
	if (err)
		return err;
	ck->dev = ck->es->vfs.dev;
	ck->replayed = ck->sum->replayed = ck->dev != dev;
	err = ck_seen_new(ck);
	if (!err && why[0])
		ck_say(ck, CK_JOURNAL, 0, "%s", why);
	say_state(ck, ck->replayed);
	return err ? err : ck->err;
}

/* ---- superblocks ---- */

static void check_primary(struct ck *ck)
{
	struct ext4_disk_super d;

	if (ck->asked_copy)
		return;
	if (ck->es->from_copy) {
		ck_say(ck, CK_SUPER_PRIMARY, 0, "%s", "");
		return;
	}
	if (blkdev_read(ck->dev, EXT4_SUPER_OFF, &d, sizeof(d))) {
		ck_say(ck, CK_READ_ERROR, ck->es->super_blk, "%s", "");
		return;
	}
	if (ck->es->metadata_csum && ext4_csum_super(&d) != le32_get(d.checksum))
		ck_say(ck, CK_SUPER_SUM, 0, "%s", "");
}

static void check_fields(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	const struct ext4_disk_super *d = &es->disk;
	u32 room = es->inode_bytes - EXT4_INODE_BYTES_OLD;
	u64 reserved = le32_get(d->r_blocks_count_lo);

	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		reserved |= (u64)le32_get(d->r_blocks_count_hi) << 32;
	if (reserved > es->blocks / 2)
		ck_say(ck, CK_SUPER_FIELD, 0, "%llu blocks are kept for the superuser",
		       (unsigned long long)reserved);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_EXTRA_ISIZE) &&
	    (le16_get(d->min_extra_isize) > room || le16_get(d->want_extra_isize) > room ||
	     le16_get(d->min_extra_isize) % 4 || le16_get(d->want_extra_isize) % 4))
		ck_say(ck, CK_SUPER_FIELD, 0, "extra fields of inodes: %u and %u bytes",
		       le16_get(d->min_extra_isize), le16_get(d->want_extra_isize));
	if (le16_get(d->state) & EXT4_STATE_ERROR)
		ck_say(ck, CK_SUPER_STATE, 0, "%u errors", le32_get(d->error_count));
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
	if (bad)
		ck_say(ck, CK_SUPER_COPY, blk, "%s", bad);
	else if (le32_get(d->feature_compat) & mask ? 0 : es->compat & mask)
		ck_say(ck, CK_SUPER_COPY_FEATURES, blk, "%s", "ext_attr");
}

/* ---- descriptors ---- */

static void check_desc_block(struct ck *ck, u32 i)
{
	const struct ext4_super *es = ck->es;
	u64 blk = ext4_group_desc_blk(es, i, 0);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 first = i * es->descs_per_block, n = MIN(es->descs_per_block, es->groups - first);

	if (!blk || !ck_read(ck, blk, &bh))
		return;
	for (u32 k = 0; k < n; k++) {
		const u8 *desc = (const u8 *)bh->data + (size_t)k * es->desc_bytes;
		struct ext4_group g;
		const char *bad;

		ext4_group_decode(es, desc, &g);
		bad = ext4_group_wrong(es, first + k, desc, &g);
		if (bad)
			ck_say(ck, CK_GROUP_DESC, first + k, "%s%s", bad,
			       es->group[first + k].bad ? "" : ", a copy was used");
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
		const u8 *desc = (const u8 *)bh->data + (size_t)k * es->desc_bytes;
		const struct ext4_group *have = &es->group[first + k];
		struct ext4_group g;

		ext4_group_decode(es, desc, &g);
		if (!have->bad &&
		    (g.block_bitmap != have->block_bitmap || g.inode_bitmap != have->inode_bitmap ||
		     g.inode_table != have->inode_table))
			ck_say(ck, CK_GROUP_COPY, first + k, "block %llu", (unsigned long long)blk);
	}
}

static void check_descs(struct ck *ck)
{
	for (u32 i = 0; i < ck->es->gdt_blocks && ck_goes_on(ck); i++) {
		check_desc_block(ck, i);
		for (u32 copy = 1; copy < COPIES_MAX; copy++) {
			u64 blk = ext4_group_desc_blk(ck->es, i, copy);

			if (!blk)
				break;
			check_desc_copy(ck, i, blk);
		}
	}
}

/* ---- metadata of groups is in use ---- */

static void claim_meta(struct ck *ck, u32 group, u64 blk, u64 n, const char *what)
{
	if (ck_claim(ck, ck_cluster(ck, blk), n))
		ck_say(ck, CK_GROUP_META_TWICE, group, "%s, block %llu", what, (unsigned long long)blk);
}

/* Where a cluster is more than a block, several kinds of metadata may share one. */
static void claim_clusters(struct ck *ck)
{
	u64 next = 0;

	for (u32 i = 0; i < ck->es->zone.count; i++) {
		const struct ext4_zone_range *r = &ck->es->zone.range[i];
		u64 from = MAX(ck_cluster(ck, r->start), next), end = ck_cluster(ck, r->end - 1) + 1;

		if (from < end)
			(void)ck_claim(ck, from, end - from);
		next = MAX(next, end);
	}
}

static void claim_groups(struct ck *ck)
{
	const struct ext4_super *es = ck->es;

	for (u32 i = 0; i < es->groups && ck_goes_on(ck); i++) {
		u32 base = ext4_group_base_blocks(es, i);

		/* The last group may be shorter than that. */
		base = MIN(base, ext4_group_blocks(es, i));
		if (base)
			claim_meta(ck, i, ext4_group_start(es, i), base, "superblock and descriptors");
	}
	for (u32 i = 0; i < es->groups && ck_goes_on(ck); i++) {
		const struct ext4_group *g = &es->group[i];

		if (g->block_bitmap)
			claim_meta(ck, i, g->block_bitmap, 1, "block bitmap");
		if (g->inode_bitmap)
			claim_meta(ck, i, g->inode_bitmap, 1, "inode bitmap");
		if (g->inode_table)
			claim_meta(ck, i, g->inode_table, es->itable_blocks, "inode table");
	}
}

static void check_mmp(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk = le64_get(es->disk.mmp_block);
	const struct ext4_disk_mmp *m;

	if (!ext4_has_incompat(es, EXT4_INCOMPAT_MMP))
		return;
	if (!ext4_blocks_ok(es, blk, 1)) {
		ck_say(ck, CK_MMP, 0, "block %llu is not one for it", (unsigned long long)blk);
		return;
	}
	(void)ck_claim(ck, ck_cluster(ck, blk), 1);
	if (!ck_read(ck, blk, &bh))
		return;
	m = bh->data;
	if (le32_get(m->magic) != EXT4_MMP_MAGIC)
		ck_say(ck, CK_MMP, 0, "%s", "wrong magic");
	else if (es->metadata_csum && ext4_csum_mmp(es, m) != le32_get(m->checksum))
		ck_say(ck, CK_MMP, 0, "%s", "wrong checksum");
}

/* ---- journal and orphans ---- */

static void check_journal(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = NULL;
	struct jbd2 *journal;
	int err;

	if (!ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL) || ck->sum->found[CHECK_LOSS])
		return;
	if (!ext4_journal_is_here(es)) {
		ck_say(ck,
		       ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER) ? CK_JOURNAL_NEEDED
								    : CK_JOURNAL_ELSEWHERE,
		       0, "%s", "");
		return;
	}
	ei = ext4_inode_alloc();
	if (!ei) {
		ck_no_memory(ck);
		return;
	}
	err = ext4_journal_open(es, ei, &journal);
	if (err) {
		ck_say(ck, CK_JOURNAL, 0, "%s", err_text());
		return;
	}
	if (!es->journal_dev && jbd2_info(journal)->users > 1)
		ck_say(ck, CK_JOURNAL, 0, "it says that %u volumes share it", jbd2_info(journal)->users);
	if (jbd2_info(journal)->err)
		ck_say(ck, CK_JOURNAL_ERROR, 0, "%d", jbd2_info(journal)->err);
	jbd2_close(journal);
}

/* False: it cannot be an orphan. */
static bool mark_orphan(struct ck *ck, u32 ino, u32 *next)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	struct ck_ino *in;
	u64 blk;
	u32 off;

	if (ino < ck->es->first_ino || ino > ck->es->inodes) {
		ck_say(ck, CK_ORPHAN_BAD, ino, "%s", "there is no such inode for files");
		return false;
	}
	in = ck_ino_make(ck, ino);
	if (!in || ext4_inode_where(ck->es, ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return false;
	raw = (const void *)((const u8 *)bh->data + off);
	if (in->flags & CK_ORPHAN || !le16_get(raw->mode)) {
		ck_say(ck, CK_ORPHAN_BAD, ino, "%s",
		       in->flags & CK_ORPHAN ? "it stands there twice" : "it is free");
		return false;
	}
	in->flags |= CK_ORPHAN;
	*next = le32_get(raw->dtime);
	return true;
}

static u32 orphan_list(struct ck *ck)
{
	u32 ino = le32_get(ck->es->disk.last_orphan), n = 0;

	while (ino && ck_goes_on(ck) && mark_orphan(ck, ino, &ino))
		n++;
	return n;
}

static u32 orphan_file(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	u32 n = 0, ino = 0, next;
	int err = ext4_orphan_open(es);

	if (err) {
		ck_say(ck, CK_ORPHAN_FILE, le32_get(es->disk.orphan_file_inum), "%s", err_text());
		return 0;
	}
	for (u32 i = 0; i < ext4_orphan_places(es) && ck_goes_on(ck); i++)
		if (!ext4_orphan_at(es, i, &ino) && ino && mark_orphan(ck, ino, &next))
			n++;
	ext4_orphan_close(es);
	return n;
}

static void check_orphans(struct ck *ck)
{
	bool present = ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_ORPHAN_PRESENT), file;
	u32 n = orphan_list(ck), in_file = 0;

	file = ext4_has_compat(ck->es, EXT4_COMPAT_ORPHAN_FILE);
	if (file)
		in_file = orphan_file(ck);
	if (n + in_file)
		ck_say(ck, CK_ORPHANS_LEFT, 0, "%u", n + in_file);
	if (present && !in_file && !ck->replayed)
		ck_say(ck, CK_ORPHAN_PRESENT, 0, "%s", "");
}

void ck_supers(struct ck *ck)
{
	ck_progress(ck, "superblocks and descriptors", 0, 1);
	check_primary(ck);
	check_fields(ck);
	for (u32 copy = 1; copy < ck->es->groups && ck_goes_on(ck); copy++) {
		u64 blk = ext4_super_copy_blk(ck->es, copy);

		if (!blk)
			break;
		check_copy(ck, blk);
	}
	check_descs(ck);
	if (ck->es->cluster_bits)
		claim_clusters(ck);
	else
		claim_groups(ck);
	/* Metadata that lies on metadata was said; who else claims it, is told by its inode. */
	ck->any_twice = false;
	check_mmp(ck);
	check_journal(ck);
	check_orphans(ck);
}
