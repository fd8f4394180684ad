/* The volume that becomes shorter, opened for a part of that. */
#include "shorten.h"

#include <errno.h>
#include <stdio.h>

int ext4_short_open(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		    struct ext4_super **out)
{
	struct mount_opts as_it_lies = *opts;
	int err;

	as_it_lies.rdonly = as_it_lies.norecovery = true;
	err = ext4_super_open(dev, type, &as_it_lies, out);
	if (err)
		return err;
	if (ext4_has_incompat(*out, EXT4_INCOMPAT_RECOVER))
		err = fail(-EIO, "%s: its journal could not be emptied", dev->name);
	if (!err && opts->journal)
		err = ext4_journal_use_dev(*out, opts->journal);
	if (err)
		ext4_short_close(*out, &err);
	return err;
}

void ext4_short_close(struct ext4_super *es, int *err)
{
	char why[400];
	int end;

	snprintf(why, sizeof(why), "%s", *err ? err_text() : "");
	end = vfs_unmount(&es->vfs);
	if (*err)
		*err = fail(*err, "%s", why);
	else
		*err = end;
}

int ext4_short_open_written(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
			    struct ext4_super **out)
{
	struct mount_opts write = *opts;
	int err;

	write.rdonly = write.norecovery = false;
	write.batch = true;
	err = ext4_super_open(dev, type, &write, out);
	if (!err && (*out)->vfs.rdonly) {
		err = fail(-EROFS, "%s cannot be changed: %s", dev->name, (*out)->vfs.notice);
		ext4_short_close(*out, &err);
	}
	return err;
}
