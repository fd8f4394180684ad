/*
 * recovered IMAGE OUT
 * Mounts the image read-only and writes what the volume is then, its journal applied in memory, to OUT.
 */
#include "fs.h"
#include "vfs/vfs.h"

#include "support/copy_out.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct mount_opts opts = { .rdonly = true };
	struct super_block *sb;
	struct blkdev *dev;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: recovered IMAGE OUT\n");
		return 64;
	}
	err = dev_file_open(argv[1], 0, &dev);
	if (!err) {
		err = fs_find("ext4")->mount(&dev, 1, &opts, &sb);
		blkdev_put(dev);
	}
	if (err) {
		fprintf(stderr, "%s\n", err_text());
		return 1;
	}
	puts(sb->notice);
	err = copy_out(sb->dev, argv[2]);
	vfs_unmount(sb);
	return err ? 1 : 0;
}
