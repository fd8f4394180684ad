/*
 * recovered IMAGE OUT
 * Mounts the image read-only and writes what the volume is then, its journal applied in memory, to OUT.
 */
#include "fs.h"
#include "vfs/vfs.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK (1u << 20)

static int copy_out(struct blkdev *dev, const char *path)
{
	FILE *f = fopen(path, "w");
	void *buf = malloc(CHUNK);
	int err = f && buf ? 0 : -1;

	for (u64 off = 0; !err && off < dev->size_bytes; off += CHUNK) {
		u64 now = MIN(dev->size_bytes - off, (u64)CHUNK);

		err = blkdev_read(dev, off, buf, now);
		if (!err && fwrite(buf, 1, now, f) != now)
			err = -1;
	}
	free(buf);
	return f && fclose(f) ? -1 : err;
}

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
