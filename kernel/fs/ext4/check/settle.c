/*
 * Before a volume is mended: what a mount does before all else, its journal applied and its orphans finished, and the mark that it is not sound.
 * With the journal that is as safe against a crash as a mount is. A spare journal that a mending left which broke off is applied and ended.
 */
#include "check.h"

#include "lib/scope.h"
#include "lib/text.h"
#include <errno.h>

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

int ck_finish_orphans(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct ck_still s;
	int err = ck_mount_once(type, dev, mount, true);

	if (err == -EBUSY || err == -ENOMEM)
		return err;
	err = ck_still_open(&s, type, dev, mount);
	if (err)
		return err;
	if (le32_get(s.ck.es->disk.last_orphan))
		ck_orphan_list_empty(&s.ck);
	if (ext4_has_ro_compat(s.ck.es, EXT4_RO_COMPAT_ORPHAN_PRESENT))
		ck_orphan_file_empty(&s.ck);
	return ck_still_close(&s, dev);
}

int ext4_settle(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct ck_still s;
	int err = ck_mount_once(type, dev, mount, false);

	if (err == -EBUSY || err == -ENOMEM)
		return err;
	err = ck_still_open(&s, type, dev, mount);
	if (err)
		return err == -EBUSY || err == -ENOMEM ? err : 0;
	s.ck.err = ext4_feature_mendable(&s.ck.es->disk);
	if (!s.ck.err)
		s.ck.err = ck_spare_end(&s.ck);
	if (!s.ck.err && !s.ck.es->from_copy && ck_super_sum_ok(&s.ck)) {
		struct ext4_disk_super *d = &s.ck.es->disk;

		d->state = le16_put(le16_get(d->state) & (u16)~EXT4_STATE_VALID);
		ck_super_put(&s.ck);
	}
	return ck_still_close(&s, dev);
}
