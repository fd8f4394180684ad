/*
 * Before a volume is mended: what a mount does before all else, its journal applied and its orphans finished, and the mark that it is not sound.
 * With the journal that is as safe against a crash as a mount is. Afterwards, what was mended on an overlay is one transaction of the journal, if there
 * is one that can be used and is not itself among what was mended: so all of it is on the volume or nothing.
 */
#include "check.h"

#include "lib/scope.h"
#include "lib/text.h"
#include <errno.h>

int ck_open_still(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
		  struct ext4_super **out)
{
	struct mount_opts opts = *mount;
	int err;

	opts.rdonly = opts.norecovery = true;
	err = ext4_super_open(dev, type, &opts, out);
	if (err || !mount->journal)
		return err;
	err = ext4_journal_use_dev(*out, mount->journal);
	if (err)
		(void)!vfs_unmount(&(*out)->vfs);
	return err;
}

static bool has_orphans(const struct ext4_super *es)
{
	return le32_get(es->disk.last_orphan) || ext4_has_ro_compat(es, EXT4_RO_COMPAT_ORPHAN_PRESENT);
}

static bool needs_journal(const struct ext4_super *es)
{
	return ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER) && ext4_journal_is_here(es);
}

/* A volume that is not written may have its journal applied all the same, if that has nothing but blocks. */
static int replay_blocks(struct ext4_super *es)
{
	struct ext4_replay replay = { 0 };
	bool again;
	int err = ext4_write_recover(es, &replay, &again);

	if (!err && replay.fast_commits.count)
		err = fail(-EOPNOTSUPP, "%s: its fast commits cannot be applied", es->vfs.health.name);
	ext4_fc_free(&replay.fast_commits);
	return err;
}

int ck_mount_once(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
		  bool orphans)
{
	struct mount_opts opts = *mount;
	struct text why = { 0 };
	struct ext4_super *es;
	bool refused, journal;
	u64 still;
	int err = ck_open_still(type, dev, mount, &es), end;

	if (err)
		return err;
	err = mount->claimed ? 0 : ext4_mmp_check(es, &still);
	if (err) {
		(void)!vfs_unmount(&es->vfs);
		return err;
	}
	journal = needs_journal(es);
	refused = ext4_write_refused(es, &why) || (!journal && !(orphans && has_orphans(es)));
	if (refused && journal)
		err = replay_blocks(es);
	end = vfs_unmount(&es->vfs);
	text_free(&why);
	if (err || end || refused)
		return err ? err : end;
	opts.rdonly = opts.norecovery = false;
	err = ext4_super_open(dev, type, &opts, &es);
	return err ? err : vfs_unmount(&es->vfs);
}

/* A volume that nobody has open, for what is written without being asked about. */
struct still {
	struct check_opts opts;
	struct check_summary sum;
	struct ck ck;
};

static int still_open(struct still *s, const struct fs_type *type, struct blkdev *dev,
		      const struct mount_opts *mount)
{
	*s = (struct still){ .ck = { .dev = dev } };
	s->ck.opts = &s->opts;
	s->ck.sum = &s->sum;
	return ck_open_still(type, dev, mount, &s->ck.es);
}

static int still_close(struct still *s, struct blkdev *dev)
{
	int err = s->ck.err ? s->ck.err : blkdev_flush(dev), end = vfs_unmount(&s->ck.es->vfs);

	return err ? err : end;
}

int ck_finish_orphans(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct still s;
	int err = ck_mount_once(type, dev, mount, true);

	if (err == -EBUSY || err == -ENOMEM)
		return err;
	err = still_open(&s, type, dev, mount);
	if (err)
		return err;
	if (le32_get(s.ck.es->disk.last_orphan))
		ck_orphan_list_empty(&s.ck);
	if (ext4_has_ro_compat(s.ck.es, EXT4_RO_COMPAT_ORPHAN_PRESENT))
		ck_orphan_file_empty(&s.ck);
	return still_close(&s, dev);
}

int ext4_settle(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct still s;
	int err = ck_mount_once(type, dev, mount, false);

	if (err == -EBUSY || err == -ENOMEM)
		return err;
	err = still_open(&s, type, dev, mount);
	if (err)
		return err == -EBUSY || err == -ENOMEM ? err : 0;
	s.ck.err = ext4_feature_mendable(&s.ck.es->disk);
	if (!s.ck.err && !s.ck.es->from_copy && ck_super_sum_ok(&s.ck)) {
		struct ext4_disk_super *d = &s.ck.es->disk;

		d->state = le16_put(le16_get(d->state) & (u16)~EXT4_STATE_VALID);
		ck_super_put(&s.ck);
	}
	return still_close(&s, dev);
}

/* ---- what was mended ---- */

/* By what the journal is found. */
struct log_place {
	u8 inode[EXT4_INODE_BYTES_OLD];
	u64 table, blocks;
};

static int log_place(struct ext4_super *es, struct ext4_inode *ei, struct log_place *out)
{
	const struct bh_ctx ctx = { { 0 } };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct jbd2 *journal;
	u64 blk;
	u32 off;
	int err = ext4_journal_open(es, ei, &journal);

	memset(out, 0, sizeof(*out));
	if (err)
		return err;
	if (jbd2_info(journal)->needs_recovery || jbd2_info(journal)->err)
		err = fail(-EBUSY, "the log is not empty");
	out->blocks = jbd2_info(journal)->blocks;
	jbd2_close(journal);
	if (!err && ext4_journal_is_inside(es))
		err = ext4_inode_where(es, le32_get(es->disk.journal_inum), &blk, &off);
	else
		return err;
	if (!err)
		err = bh_read(es->vfs.dev, blk, NULL, &ctx, &bh);
	if (err)
		return err;
	memcpy(out->inode, (const u8 *)bh->data + off, sizeof(out->inode));
	out->table = es->group[0].inode_table;
	return 0;
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

/* The volume's log can take what the overlay holds, and is found whatever of that is on the device. */
static bool log_serves(struct ext4_super *es, struct ext4_super *mended, struct blkdev *overlay)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc(), *after = ext4_inode_alloc();
	struct log_place here, there;
	bool touched = true;

	if (!ei || !after || es->from_copy || ext4_feature_mendable(&es->disk) ||
	    ext4_block_bytes(es) > DEV_SNAP_UNIT_BYTES || es->vfs.dev->sector_bytes > ext4_block_bytes(es) ||
	    !ext4_journal_is_here(es) || !ext4_journal_is_here(mended) ||
	    ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER))
		return false;
	if (log_place(es, ei, &here) || log_place(mended, after, &there) ||
	    memcmp(&here, &there, sizeof(here)) != 0)
		return false;
	if (!ext4_journal_is_inside(es))
		return true;
	return !log_touched(ei, overlay, &touched) && !touched;
}

int ext4_write_mended(const struct fs_type *type, struct blkdev *dev, struct blkdev *overlay,
		      const struct mount_opts *mount, bool *done)
{
	struct ext4_super *mended;
	struct still s;
	bool serves;
	int err = still_open(&s, type, dev, mount);

	*done = false;
	if (err)
		goto out;
	err = ck_open_still(type, overlay, mount, &mended);
	serves = !err && ck_super_sum_ok(&s.ck) && log_serves(s.ck.es, mended, overlay);
	if (!err)
		err = vfs_unmount(&mended->vfs);
	if (!err && serves) {
		struct ext4_super *es = s.ck.es;

		es->disk.feature_incompat =
			le32_put(le32_get(es->disk.feature_incompat) | EXT4_INCOMPAT_RECOVER);
		es->incompat = le32_get(es->disk.feature_incompat);
		ck_super_put(&s.ck);
		err = s.ck.err ? s.ck.err : blkdev_flush(dev);
		if (!err)
			err = ext4_write_overlay(es, overlay, EXT4_SUPER_OFF >> es->block_bits, NULL, NULL);
		*done = !err;
	}
	if (still_close(&s, dev) && !err)
		err = -EIO;
out:
	if (err == -ENOMEM || err == -EIO)
		return err;
	err_clear();
	return 0;
}
