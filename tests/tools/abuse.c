/*
 * abuse SEED OPS IMAGE…: mounts each volume read-write, over memory, and does what a user might to whatever is there; one
 * line each. Ends 0 whatever the volumes are like: what counts is that nothing crashes or hangs.
 */
#include "support/fsapi.h"

#include "block/block.h"
#include "lib/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATHS_MAX 400u
#define DEPTH_MAX 6u
#define LIST_MAX  64u

struct abuse {
	struct fs *fs;
	u64 seed;
	char *path[PATHS_MAX];
	u32 paths, done, failed;
};

static u32 pick(struct abuse *a, u32 n)
{
	a->seed = a->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(a->seed >> 33) % n;
}

static void collect(struct abuse *a, const char *dir, u32 depth)
{
	struct fs_dirent *list = malloc(LIST_MAX * sizeof(*list));
	struct fs_file f;
	u64 pos = 0;
	u32 n;

	if (list && !fs_open(a->fs, dir, O_RDONLY | O_DIRECTORY, 0, &f)) {
		while (a->paths < PATHS_MAX && !FS_CALL(a->fs, readdir, &f, pos, list, LIST_MAX, &n) && n) {
			for (u32 i = 0; i < n && a->paths < PATHS_MAX; i++) {
				char path[4096];

				if (!strcmp(list[i].name, ".") || !strcmp(list[i].name, ".."))
					continue;
				snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", list[i].name);
				a->path[a->paths] = strdup(path);
				if (!a->path[a->paths])
					break;
				a->paths++;
				if (depth < DEPTH_MAX)
					collect(a, path, depth + 1);
			}
			if (list[n - 1].next_pos <= pos)
				break;
			pos = list[n - 1].next_pos;
		}
		fs_close(a->fs, &f);
	}
	free(list);
}

static const char *some(struct abuse *a)
{
	return a->paths ? a->path[pick(a, a->paths)] : "";
}

static int use_file(struct abuse *a, const char *path)
{
	static u8 buf[70000];
	u64 done, off = pick(a, 3) ? pick(a, 200000) : (u64)pick(a, 1u << 20) << 12;
	struct fs_file f;
	int err = fs_open(a->fs, path, O_RDWR | (pick(a, 2) ? O_CREAT : 0), 0644, &f);

	if (err)
		return err;
	switch (pick(a, 8)) {
	case 0:
		err = FS_CALL(a->fs, pread, &f, off, buf, pick(a, sizeof(buf)), &done);
		break;
	case 1:
	case 2:
		err = FS_CALL(a->fs, pwrite, &f, off, buf, pick(a, sizeof(buf)), &done);
		break;
	case 3:
		err = FS_CALL(a->fs, ftruncate, &f, off);
		break;
	case 4:
		err = FS_CALL(a->fs, fallocate, &f,
			      pick(a, 2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : 0, off,
			      1 + pick(a, 300000));
		break;
	case 5:
		err = FS_CALL(a->fs, fsync, &f, false);
		break;
	case 6:
		err = FS_CALL(a->fs, defrag, &f, &done);
		break;
	default:
		err = FS_CALL(a->fs, seek, &f, off, SEEK_HOLE, &done);
		break;
	}
	fs_close(a->fs, &f);
	return err;
}

static int one(struct abuse *a)
{
	const char *path = some(a), *other = some(a);
	char name[600], value[600];
	struct fs_stat st;

	snprintf(name, sizeof(name), "%.300s/new-%u-%.*s", path, pick(a, 500), (int)pick(a, 200),
		 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		 "nnnnnnnnnnnnnnnnnnnnn"
		 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		 "nnnnn");
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	switch (pick(a, 16)) {
	case 0:
	case 1:
	case 2:
		return use_file(a, path);
	case 3:
		return use_file(a, name);
	case 4:
		return FS_CALL(a->fs, unlink, path);
	case 5:
		return FS_CALL(a->fs, rmdir, path);
	case 6:
		return FS_CALL(a->fs, mkdir, name, 0755);
	case 7:
		return FS_CALL(a->fs, rename, path, pick(a, 2) ? other : name, pick(a, 3));
	case 8:
		return FS_CALL(a->fs, link, path, name);
	case 9:
		return FS_CALL(a->fs, symlink, value, name);
	case 10:
		return FS_CALL(a->fs, truncate, path, pick(a, 100000));
	case 11:
		return FS_CALL(a->fs, chmod, path, pick(a, 01000));
	case 12:
		return FS_CALL(a->fs, setxattr, path, pick(a, 2) ? "user.a" : "user.b", value,
			       pick(a, sizeof(value) - 1), 0);
	case 13:
		return FS_CALL(a->fs, removexattr, path, "user.a");
	case 14:
		return FS_CALL(a->fs, chown, path, pick(a, 70000), pick(a, 70000));
	default:
		return FS_CALL(a->fs, stat, path, true, &st);
	}
}

static void abuse(const char *image, u64 seed, u32 ops)
{
	struct abuse a = { .seed = seed };
	struct blkdev *dev, *snap = NULL;
	int err = dev_file_open(image, 0, &dev);

	if (!err) {
		err = dev_snap_new(dev, &snap);
		blkdev_put(dev);
	}
	if (!err)
		err = fs_vfs_on("ext4", snap, &a.fs);
	blkdev_put(snap);
	if (err) {
		printf("%s: %s\n", image, err_text());
		return;
	}
	collect(&a, "", 0);
	for (u32 i = 0; i < ops; i++) {
		if (one(&a))
			a.failed++;
		a.done++;
	}
	err = fs_vfs_end(a.fs);
	printf("%s: %u paths, %u operations, %u failed, unmount: %s\n", image, a.paths, a.done, a.failed,
	       err ? err_name(err) : "clean");
	for (u32 i = 0; i < a.paths; i++)
		free(a.path[i]);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: abuse SEED OPS IMAGE…\n");
		return 64;
	}
	for (int i = 3; i < argc; i++) {
		abuse(argv[i], strtoull(argv[1], NULL, 0), (u32)strtoul(argv[2], NULL, 0));
		fflush(stdout);
	}
	return 0;
}
