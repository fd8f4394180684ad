/*
 * What was mended, onto the volume: all of it or nothing, whenever the power goes.
 *
 *   own log      superblock: needs recovery ─► one transaction, home ─► superblock as it was mended
 *   spare log    inode 10 over free blocks, an empty log ─► superblock: that is the journal, needs recovery ─► one transaction, home
 *                ─► superblock as it was mended, not sound ─► inode 10 as it was ─► the superblock once more
 *
 * The own log serves if it is long enough and found whatever of the transaction is home. Else, and on volumes that have none, a spare one does, as
 * long as the transaction: then the superblock names it for the time of writing. What has to be right before all else for either is mended and written
 * before (check_opts.base): the first superblock, the first descriptors, the journal's inode.
 *
 * The transaction has the superblock as well: as it was mended, but still naming the log. So what changes with a switch, from the log and back, is
 * in its first sector.
 *
 * Blocks of a spare log are free before and after, and are not called used in between: so nobody but us writes a volume that has one.
 */
#include "check.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>

#define LOG_BLOCKS_MIN   1024u /* what other programs call long enough */
#define LOG_PART         50u   /* of a log is not for images, at most */
#define ROOM_TIMES       8u    /* of what it needs, is looked at for free blocks */
#define CACHE_MORE_BYTES (16ull << 20)

/* ---- room for it ---- */

struct writing {
	const struct fs_type *type;
	const struct mount_opts *mount;
	struct ck_still volume, mended; /* as it is; as it is to be, in `top` */
	struct blkdev *dev, *overlay, *top;
	struct ext4_disk_super super; /* as it was mended */
	bool spare;
};

static void claim_bits(struct ck *ck, u32 group, const u8 *bits)
{
	u64 first = (u64)group * ck->es->clusters_per_group;
	u32 n = ck->es->clusters_per_group;

	for (u32 i = 0; i < n && !ck->err; i++) {
		u32 from = i;

		while (i < n && bits[i / 8] >> i % 8 & 1)
			i++;
		if (i > from)
			(void)ck_claim(ck, first + from, i - from);
	}
}

/* Blocks [blk, end), as far as they are in the first `groups` groups. */
static void claim_range(struct ck *ck, u32 groups, u64 blk, u64 end)
{
	const struct ext4_super *es = ck->es;

	blk = MAX(blk, (u64)es->first_data_blk);
	end = MIN(end, es->first_data_blk + (u64)groups * es->blocks_per_group);
	end = MIN(end, es->blocks);
	if (blk < end)
		(void)ck_claim(ck, ck_cluster(ck, blk), ck_cluster(ck, end - 1) + 1 - ck_cluster(ck, blk));
}

/* What bitmaps and descriptors of `from`, the same volume at another time, call used. */
static void claim_used(struct ck *ck, u32 groups, struct ck *from)
{
	const struct ext4_super *es = from->es;

	for (u32 i = 0; i < es->zone.count; i++)
		claim_range(ck, groups, es->zone.range[i].start, es->zone.range[i].end);
	for (u32 g = 0; g < groups && ck_goes_on(ck); g++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_group *grp = &es->group[g];

		if (!grp->bad && grp->block_bitmap && !(grp->flags & EXT4_GROUP_BLOCK_UNINIT) &&
		    ck_read(from, grp->block_bitmap, &bh))
			claim_bits(ck, g, bh->data);
	}
}

/* What inodes have, whatever bitmaps say: a mending that breaks off is begun anew from that. */
static int claim_found(struct ck *ck, u32 groups, const struct writing *w)
{
	const struct check_opts opts = { .force = true };
	struct check_summary sum = { 0 };
	struct ck found = { .opts = &opts, .sum = &sum, .path = ck_path };
	struct blkdev *view;
	int err = dev_snap_new(w->dev, &view), end;

	if (err)
		return err;
	err = ck_open(&found, w->type, view, w->mount);
	if (!err) {
		ck_supers(&found);
		ck_inodes(&found);
		err = found.err;
	}
	for (u32 g = 0; !err && g < groups; g++)
		if (found.used.group[g])
			claim_bits(ck, g, found.used.group[g]);
	ck_seen_free(&found);
	end = found.es ? vfs_unmount(&found.es->vfs) : 0;
	blkdev_put(view);
	return err ? err : end;
}

/* What the overlay writes to, be it used or not. */
static void claim_written(struct ck *ck, u32 groups, struct blkdev *overlay)
{
	u32 bits = ck->es->block_bits;

	for (u64 at = 0; (at = dev_snap_next(overlay, at)) != ~0ull; at += DEV_SNAP_UNIT_BYTES)
		claim_range(ck, groups, at >> bits,
			    DIV_ROUND_UP(at + DEV_SNAP_UNIT_BYTES, (u64)ext4_block_bytes(ck->es)));
}

/* Of a log for a transaction of so many. */
static u32 log_blocks(u32 images)
{
	return images + images / LOG_PART + 16;
}

/* So many groups from the first on have, as they say, more than enough free blocks. */
static u32 groups_enough(const struct ext4_super *es, u32 blocks)
{
	u64 free = 0;
	u32 g = 0;

	while (g < es->groups && free < (u64)blocks * ROOM_TIMES)
		free += (u64)es->group[g++].free_clusters << es->cluster_bits;
	return g;
}

/* A file in the first `groups` groups, of as many blocks as the log has to have, or of those that others want it to have. */
static int place_within(struct writing *w, u32 groups, u32 blocks, struct ext4_disk_inode *raw)
{
	struct ck *ck = &w->volume.ck;
	u64 end = (u64)groups * ck->es->clusters_per_group;
	int err;

	claim_used(ck, groups, ck);
	claim_used(ck, groups, &w->mended.ck);
	claim_written(ck, groups, w->overlay);
	err = claim_found(ck, groups, w);
	if (!err)
		err = ck->err;
	if (!err)
		err = ck_file_place(ck, EXT4_INO_SPARE, MAX(blocks, LOG_BLOCKS_MIN), end, raw);
	if (err == -ENOSPC && blocks < LOG_BLOCKS_MIN)
		err = ck_file_place(ck, EXT4_INO_SPARE, blocks, end, raw);
	return err;
}

static int place_file(struct writing *w, u32 images, struct ext4_disk_inode *raw)
{
	const struct ext4_super *es = w->mended.ck.es;
	u32 blocks = log_blocks(images), groups = groups_enough(es, MAX(blocks, LOG_BLOCKS_MIN));
	int err = place_within(w, groups, blocks, raw);

	return err == -ENOSPC && groups < es->groups ? place_within(w, es->groups, blocks, raw) : err;
}

/* ---- writing ---- */

/* The log can be found with either of them, and as long as one becomes the other. */
static bool same_place(const struct ext4_super *a, const struct ext4_super *b)
{
	return a->blocks == b->blocks && a->block_bits == b->block_bits &&
	       a->cluster_bits == b->cluster_bits && a->first_data_blk == b->first_data_blk &&
	       a->blocks_per_group == b->blocks_per_group && a->inode_bytes == b->inode_bytes &&
	       a->inodes_per_group == b->inodes_per_group && a->csum_seed == b->csum_seed &&
	       a->metadata_csum == b->metadata_csum && !a->group[0].bad && !b->group[0].bad &&
	       a->group[0].inode_table == b->group[0].inode_table;
}

static bool base_is_sound(struct writing *w)
{
	const struct ext4_super *es = w->volume.ck.es, *mended = w->mended.ck.es;

	return !es->from_copy && !mended->from_copy && !mended->half_written &&
	       !ext4_feature_mendable(&es->disk) && ck_super_sum_ok(&w->volume.ck) &&
	       !ext4_sb_has_spare(&es->disk) && es->vfs.dev->sector_bytes <= ext4_block_bytes(es) &&
	       same_place(es, mended);
}

/* The superblock that names the log, in es->disk. */
static void name_log(const struct writing *w, struct ext4_super *es)
{
	struct ext4_disk_super *d = &es->disk;
	struct ck_journal log = ck_journal_of(d);

	log.recover = true;
	if (w->spare)
		log = (struct ck_journal){ .has = true, .recover = true, .inum = EXT4_INO_SPARE };
	ck_journal_set(d, &log);
	d->state = le16_put(le16_get(d->state) & (u16)~EXT4_STATE_VALID);
}

/*
 * The superblock that is written last may be written by half. Then a copy tells that it is whole: so those that say otherwise of what never changes in use
 * are made anew. *count: how many.
 */
static int put_copies(struct writing *w, u32 *count)
{
	struct ck *ck = &w->mended.ck;
	u64 blk;

	*count = 0;
	for (u32 i = 1; ck->es->metadata_csum && (blk = ext4_super_copy_blk(ck->es, i)) && ck_goes_on(ck);
	     i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (!ck_read(ck, blk, &bh) || ext4_sb_same_volume(&w->super, bh->data))
			continue;
		ck_super_copy_put(ck, blk);
		++*count;
	}
	return ck->err;
}

/* The superblock of the transaction, and with a spare log its inode. */
static int fill_top(struct writing *w)
{
	struct ck *ck = &w->mended.ck;
	struct ck_inode ci;
	struct ck_journal own = ck_journal_of(&w->super);
	scoped(freep) void *raw = NULL;

	if (w->spare) {
		raw = ck_inode_load(&w->volume.ck, EXT4_INO_SPARE, &ci);
		if (!raw)
			return w->volume.ck.err;
		ck_spare_remember(ci.raw, &own);
		ck_inode_put(ck, &ci);
	}
	name_log(w, ck->es);
	return ck_super_sync(ck);
}

/* Then the superblock names it. */
static int make_spare(struct writing *w, u32 images)
{
	struct ck *ck = &w->volume.ck;
	struct ext4_super *es = ck->es;
	struct ck_journal own = ck_journal_of(&es->disk);
	struct ext4_disk_inode raw;
	int err = ck_seen_new(ck);

	if (err)
		return err;
	err = place_file(w, images, &raw);
	if (err)
		return err;
	ck_spare_remember(&raw, &own);
	ck_own_put(ck, EXT4_INO_SPARE, &raw);
	blkdev_put(take(es->journal_dev));
	name_log(w, es);
	err = ck->err ? ck->err : ck_log_anew(ck);
	return err ? err : blkdev_flush(ck->dev);
}

/* The volume has what was mended, by way of a log that is there. */
static int by_log(struct writing *w)
{
	struct ck *ck = &w->volume.ck;
	struct ext4_super *es = ck->es;
	int err = fill_top(w);

	name_log(w, es);
	if (!err)
		err = ck_super_sync(ck);
	return err ? err : ext4_write_overlay(es, w->overlay, w->top, NULL, NULL);
}

/* As it was mended, now that all else is. */
static int put_mended_super(struct writing *w)
{
	struct ck *ck = &w->volume.ck;
	struct ext4_super *es = ck->es;
	int err = 0;

	es->disk = w->super;
	if (w->spare) {
		es->disk.state = le16_put(le16_get(es->disk.state) & (u16)~EXT4_STATE_VALID);
		err = ck_super_sync(ck);
		if (!err)
			err = ck_spare_end(ck);
		es->disk = w->super;
	}
	return err ? err : ck_super_sync(ck);
}

/* ---- the own log ---- */

static int log_inode(struct ext4_super *es, struct ext4_inode *ei, u8 *out, u64 *blocks)
{
	const struct bh_ctx ctx = { { 0 } };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct jbd2 *journal;
	u64 blk;
	u32 off;
	int err = ext4_journal_open(es, ei, &journal);

	if (err)
		return err;
	if (jbd2_info(journal)->needs_recovery || jbd2_info(journal)->err)
		err = fail(-EBUSY, "the log is not empty");
	*blocks = jbd2_info(journal)->blocks;
	jbd2_close(journal);
	if (!err && ext4_journal_is_inside(es))
		err = ext4_inode_where(es, le32_get(es->disk.journal_inum), &blk, &off);
	else
		return err;
	if (!err)
		err = bh_read(es->vfs.dev, blk, NULL, &ctx, &bh);
	if (!err)
		memcpy(out, (const u8 *)bh->data + off, EXT4_INODE_BYTES_OLD);
	return err;
}

/* Whether the overlay has a block of the log. */
static int log_touched(struct ext4_inode *ei, struct blkdev *overlay, bool *touched)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 blocks = ext4_size(ei) >> es->block_bits;
	struct ext4_run run;
	int err = 0;

	*touched = false;
	for (u64 at = 0; at < blocks && !err && !*touched; at = run.lblk + run.len) {
		u64 from;

		err = ext4_map_blocks(ei, at, 1024, &run);
		if (err)
			break;
		from = ALIGN_DOWN(run.pblk << es->block_bits, (u64)DEV_SNAP_UNIT_BYTES);
		*touched = !run.pblk || dev_snap_next(overlay, from) < (run.pblk + run.len) << es->block_bits;
	}
	return err;
}

/* The volume's log is empty and long enough, and is found whatever of what was mended is on the device. */
static bool log_serves(struct writing *w, u32 images)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc(), *after = ext4_inode_alloc();
	struct ext4_super *es = w->volume.ck.es, *mended = w->mended.ck.es;
	u8 here[EXT4_INODE_BYTES_OLD] = { 0 }, there[EXT4_INODE_BYTES_OLD] = { 0 };
	u64 blocks, mended_blocks;
	bool touched = true;

	if (!ei || !after || !ext4_journal_is_here(es) || !ext4_journal_is_here(mended) ||
	    ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER) ||
	    le32_get(es->disk.journal_inum) != le32_get(mended->disk.journal_inum))
		return false;
	if (log_inode(es, ei, here, &blocks) || log_inode(mended, after, there, &mended_blocks) ||
	    blocks != mended_blocks || blocks < log_blocks(images) || memcmp(here, there, sizeof(here)) != 0)
		return false;
	if (!ext4_journal_is_inside(es))
		return true;
	return !log_touched(ei, w->overlay, &touched) && !touched;
}

/* ---- all of it ---- */

static int write_by(struct writing *w, bool *done)
{
	u32 images = 0, copies;
	int err = ext4_overlay_blocks(w->volume.ck.es, w->overlay, &images);

	if (!err)
		err = put_copies(w, &copies);
	if (err)
		return err;
	/* The superblock, and the block of a spare log's inode, may be two more. */
	images += copies + 2;
	w->spare = !log_serves(w, images);
	if (w->spare)
		err = make_spare(w, images);
	if (!err)
		err = by_log(w);
	if (!err)
		err = put_mended_super(w);
	else if (w->spare && ck_spare_end(&w->volume.ck))
		log_debug("%s: a spare journal is left", w->dev->name);
	*done = !err;
	return err;
}

int ext4_write_mended(const struct fs_type *type, struct blkdev *dev, struct blkdev *overlay,
		      const struct mount_opts *mount, bool *done)
{
	struct writing w = { .type = type, .mount = mount, .dev = dev, .overlay = overlay };
	struct mount_opts opts = *mount;
	int err, end;

	*done = false;
	/* A transaction is in memory as a whole. */
	opts.cache_bytes =
		MAX(opts.cache_bytes, 3 * dev_snap_units(overlay) * DEV_SNAP_UNIT_BYTES + CACHE_MORE_BYTES);
	err = dev_snap_new(overlay, &w.top);
	if (err)
		return err;
	err = ck_still_open(&w.volume, type, dev, &opts);
	if (!err) {
		err = ck_still_open(&w.mended, type, w.top, &opts);
		if (!err) {
			w.super = w.mended.ck.es->disk;
			if (base_is_sound(&w))
				err = write_by(&w, done);
			end = ck_still_close(&w.mended, w.top);
			err = err ? err : end;
		}
		end = ck_still_close(&w.volume, dev);
		err = err ? err : end;
	}
	blkdev_put(w.top);
	if (err == -ENOMEM || err == -EIO)
		return err;
	err_clear();
	return 0;
}
