/* All that the rest of the program sees of btrfs: one table. */
#include "btrfs.h"

#include <errno.h>

static int btrfs_probe(struct blkdev *dev, struct fs_probe *info)
{
	struct btrfs_disk_super d;
	u32 which;
	int err = btrfs_sb_read(dev, -1, &d, &which);

	if (err == -EUCLEAN || err == -EOPNOTSUPP) {
		/* One that is damaged: the mount says how. */
		info->score = 50;
		err_clear();
		return 0;
	}
	if (err) {
		if (err != -ENODEV)
			return err;
		err_clear();
		return 0;
	}
	info->score = 100;
	memcpy(info->uuid, d.fsid, sizeof(info->uuid));
	memcpy(info->label, d.label, sizeof(info->label) - 1);
	info->size_bytes = le64_get(d.total_bytes);
	info->devices = le64_get(d.num_devices);
	info->devid = le64_get(d.dev_item.devid);
	memcpy(info->dev_uuid, d.dev_item.uuid, sizeof(info->dev_uuid));
	info->generation = le64_get(d.generation);
	return 0;
}

static int btrfs_mount(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct super_block **out)
{
	struct btrfs_super *bs;
	struct inode *root;
	int err = btrfs_super_open(devs, n, &btrfs_fs_type, opts, false, &bs);

	if (err)
		return err;
	err = vfs_iget(&bs->vfs, bs->vfs.root_ino, &root);
	if (!err) {
		if (!is_dir(root))
			err = corrupt(&bs->vfs.health, "inode", root->ino, "the root is not a directory");
		vfs_iput(root);
	}
	if (err) {
		vfs_unmount(&bs->vfs);
		return err;
	}
	*out = &bs->vfs;
	return 0;
}

const struct fs_type btrfs_fs_type = {
	.name = "btrfs",
	.rdonly = true,
	.probe = btrfs_probe,
	.mount = btrfs_mount,
	.info = btrfs_info,
	.dump = btrfs_dump,
	.check = btrfs_check,
	.super_bytes = BTRFS_SUPER_OFF(0),
	.super_len_bytes = BTRFS_SUPER_BYTES,
};
