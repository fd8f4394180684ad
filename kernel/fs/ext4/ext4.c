/* All that the rest of the program sees of ext4: one table. */
#include "mkfs.h"

#include <errno.h>

static int ext4_probe(struct blkdev *dev, struct fs_probe *info)
{
	struct ext4_disk_super d = { 0 };
	struct mount_opts opts = { 0 };
	u64 off = EXT4_SUPER_OFF;
	int err = ext4_sb_read(dev, &opts, &d, &off);

	if (err && le16_get(d.magic) != EXT4_MAGIC)
		return err == -EIO ? err : 0;
	info->score = err ? 50 : off == EXT4_SUPER_OFF ? 100 : 30;
	memcpy(info->uuid, d.uuid, sizeof(info->uuid));
	memcpy(info->label, d.volume_name, sizeof(d.volume_name));
	info->label[sizeof(d.volume_name)] = 0;
	if (!err)
		info->size_bytes = ext4_sb_blocks(&d) << (EXT4_BLOCK_BITS_MIN + le32_get(d.log_block_size));
	return 0;
}

static int ext4_mount(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct super_block **out)
{
	struct ext4_super *es;
	struct inode *root;
	int err;

	err = ext4_one_device(n);
	if (err)
		return err;
	err = ext4_super_open(devs[0], &ext4_fs_type, opts, &es);
	if (err)
		return err;
	err = vfs_iget(&es->vfs, EXT4_INO_ROOT, &root);
	if (!err) {
		if (!is_dir(root))
			err = corrupt(&es->vfs.health, "inode", EXT4_INO_ROOT, "the root is not a directory");
		vfs_iput(root);
	}
	if (err) {
		vfs_unmount(&es->vfs);
		return err;
	}
	*out = &es->vfs;
	return 0;
}

static int check_volume(struct blkdev **devs, u32 n, const struct mount_opts *mount,
			const struct check_opts *opts, struct check_summary *out)
{
	int err = ext4_one_device(n);

	return err ? err : ext4_check(&ext4_fs_type, devs[0], mount, opts, out);
}

static int settle(struct blkdev **devs, u32 n, const struct mount_opts *mount)
{
	int err = ext4_one_device(n);

	return err ? err : ext4_settle(&ext4_fs_type, devs[0], mount);
}

static int claim(struct blkdev *dev, const struct fs_claim *how, struct blkdev **out)
{
	return ext4_claim(dev, &ext4_fs_type, how, out);
}

static int write_mended(struct blkdev **devs, struct blkdev **overlays, u32 n, const struct mount_opts *mount,
			bool *done)
{
	int err = ext4_one_device(n);

	return err ? err : ext4_write_mended(&ext4_fs_type, devs[0], overlays[0], mount, done);
}

static int shorten(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct shorten *what)
{
	int err = ext4_one_device(n);

	return err ? err : ext4_shorten(&ext4_fs_type, devs[0], opts, what);
}

const struct fs_type ext4_fs_type = {
	.name = "ext4",

	.probe = ext4_probe,
	.mount = ext4_mount,
	.info = ext4_info,
	.dump = ext4_dump,
	.relabel = ext4_relabel,
	.format = ext4_format,
	.check = check_volume,
	.settle = settle,
	.claim = claim,
	.write_mended = write_mended,
	.shorten = shorten,
	.super_bytes = EXT4_SUPER_OFF,
	.super_len_bytes = EXT4_SUPER_BYTES,
};
