/* The volume, opened to be checked: as it lies, with its journal applied, and by a copy of its superblock where the first is of no use. */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

static bool is_damage(int err)
{
	return err == -EUCLEAN || err == -EOPNOTSUPP || err == -EIO || err == -EINVAL || err == -ESTALE;
}

/* The copy that was asked for was written to where the first superblock is: from then on that one is right. */
static bool copy_was_put(struct blkdev *dev, const struct mount_opts *mount)
{
	struct mount_opts first = *mount;
	struct ext4_disk_super a, b;
	u64 off;

	first.has_sb = false;
	first.sb_block = 0;
	return !ext4_sb_read(dev, &first, &a, &off) && off == EXT4_SUPER_OFF &&
	       !ext4_sb_read(dev, mount, &b, &off) && ext4_sb_same_volume(&a, &b);
}

/* As it lies, its journal not applied; the device that has it is known all the same. */
static int open_as_it_lies(struct ck *ck, const struct fs_type *type, struct blkdev *dev,
			   const struct mount_opts *mount)
{
	int err = ck_open_still(type, dev, mount, &ck->es);

	if (err)
		ck->es = NULL;
	return err;
}

/* Whoever names a device for the journal is told when it is not that: nothing is mended because of it. */
static int journal_fits(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct mount_opts opts = *mount;
	struct ext4_super *es;
	int err;

	if (!mount->journal)
		return 0;
	opts.rdonly = opts.norecovery = true;
	/* What cannot be opened is another matter. */
	if (ext4_super_open(dev, type, &opts, &es))
		return 0;
	err = ext4_sb_has_spare(&es->disk) ? 0 : ext4_journal_use_dev(es, mount->journal);
	(void)!vfs_unmount(&es->vfs);
	return err;
}

/* For mending: the journal is applied to the device, which is an overlay. */
static int open_mended(struct ck *ck, const struct fs_type *type, struct blkdev *dev, struct mount_opts *opts,
		       char *why, size_t room)
{
	int err;

	if (opts->sb_block && copy_was_put(dev, opts)) {
		opts->has_sb = ck->asked_copy = false;
		opts->sb_block = 0;
	}
	err = ck_mount_once(type, dev, opts, false);
	if (err && !is_damage(err))
		return err;
	if (err)
		snprintf(why, room, "%s", err_text());
	err = open_as_it_lies(ck, type, dev, opts);
	if (!err && !why[0] && ext4_has_incompat(ck->es, EXT4_INCOMPAT_RECOVER) &&
	    ext4_journal_is_inside(ck->es))
		snprintf(why, room, "it cannot be applied");
	return err;
}

/*
 * Without a copy a superblock whose numbers of inodes do not agree cannot be opened. One of them follows from the other, so it is set: on the
 * device, for mending, or on *over, which then is to be opened instead.
 */
static int count_inodes(struct ck *ck, struct blkdev *dev, const struct mount_opts *mount,
			struct blkdev **over)
{
	struct ext4_disk_super d;
	u32 says, per_group;
	u64 off;
	int err = 0;

	if (mount->has_sb || ext4_sb_read(dev, mount, &d, &off) != -EUCLEAN)
		return 0;
	says = le32_get(d.inodes_count);
	per_group = le32_get(d.inodes_per_group);
	if (!ext4_sb_count_inodes(dev, &d))
		return 0;
	if (!ck_fix(ck, CK_SUPER_FIELD, 0, "the number of inodes, %u, or of those of a group, %u", says,
		    per_group)) {
		err = ck->err ? ck->err : dev_snap_new(dev, over);
		dev = *over;
	}
	return err ? err : ext4_super_put(dev, &d);
}

/* Another machine that has the volume. Where that cannot be told, opening it will say why. */
static int look_for_others(struct ck *ck, const struct fs_type *type, struct blkdev *dev,
			   struct mount_opts *mount)
{
	struct ext4_disk_super d;
	struct ext4_super *es;
	u64 off;
	int err, end;

	if (mount->claimed || ext4_sb_read(dev, mount, &d, &off) ||
	    !(le32_get(d.feature_incompat) & EXT4_INCOMPAT_MMP) || ck_open_still(type, dev, mount, &es)) {
		err_clear();
		return 0;
	}
	err = ext4_mmp_check(es, &ck->sum->still);
	mount->claimed = !err;
	end = vfs_unmount(&es->vfs);
	return err ? err : end;
}

static int open_with(struct ck *ck, const struct fs_type *type, struct blkdev *dev,
		     const struct mount_opts *mount)
{
	struct mount_opts opts = *mount;
	char *why = ck->journal_why;
	size_t room = sizeof(ck->journal_why);
	int err;

	opts.rdonly = true;
	if (ck->opts->cache_bytes)
		opts.cache_bytes = ck->opts->cache_bytes;
	if (ck_mends(ck)) {
		err = open_mended(ck, type, dev, &opts, why, room);
	} else {
		err = look_for_others(ck, type, dev, &opts);
		if (!err)
			err = ext4_super_open(dev, type, &opts, &ck->es);
		if (is_damage(err)) {
			snprintf(why, room, "%s", err_text());
			err = open_as_it_lies(ck, type, dev, &opts);
		}
	}
	/* Opened again through an overlay it does not know the device any more. */
	if (!err && mount->journal && !ck->es->journal_dev && !ext4_sb_has_spare(&ck->es->disk))
		err = ext4_journal_use_dev(ck->es, mount->journal);
	if (err)
		return err;
	if (ck_mends(ck) && (err = ext4_feature_mendable(&ck->es->disk)))
		return err;
	ck->dev = ck->es->vfs.dev;
	ck->replayed = ck->sum->replayed = ck->dev != dev;
	err = ck_seen_new(ck);
	say_state(ck, ck->replayed);
	return err ? err : ck->err;
}

int ck_open(struct ck *ck, const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount)
{
	struct blkdev *over = NULL;
	int err = count_inodes(ck, dev, mount, &over);

	if (!err)
		err = journal_fits(type, over ? over : dev, mount);
	if (!err)
		err = open_with(ck, type, over ? over : dev, mount);
	blkdev_put(over);
	return err;
}
