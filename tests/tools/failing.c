/*
 * failing IMAGE SEED NTH…
 *
 * Mounts a copy of the ext4 image (in memory) on a device whose NTH read, write or flush fails with EIO, once or from then on, works on
 * it, and unmounts; all six for each NTH. What must hold:
 *
 *   - a call fails with EIO, EROFS or EUCLEAN, or not at all, and after a failed write or flush nothing is written any more
 *   - what can be read is right: each file that was synced reads as it was, or fails while the device fails
 *   - recovered by us, and by e2fsck which then finds nothing, every file whose fsync returned 0 is there
 *
 * A line in TAP for each; with "not reached" when the workload had fewer requests than that.
 */
#include "support/fsapi.h"
#include "support/programs.h"

#include "block/block.h"
#include "lib/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILES     120u
#define SIZE_MOST 60000u

struct work {
	struct fs *fs;
	u64 seed;
	bool synced[FILES];
	u8 *buf, *want;
	u32 wrong;
};

static u64 rnd(struct work *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static void wrong(struct work *w, const char *what, u32 i, int err)
{
	w->wrong++;
	printf("# %s of file %u: %s\n", what, i, err ? strerror(-err) : "wrong content");
}

/* Every file has its own content for ever. */
static u64 content(u32 i, u8 *out)
{
	u64 x = i * 0x9e3779b97f4a7c15ull + 1, len = (x >> 20) % SIZE_MOST;

	for (u64 at = 0; at < len; at++)
		out[at] = (u8)(x >> (at / 512 % 48));
	return len;
}

static const char *name_of(u32 i, char *name)
{
	snprintf(name, 32, "d%u/file%u", i % 5, i);
	return name;
}

static bool may_be(int err)
{
	return !err || err == -EIO || err == -EROFS || err == -EUCLEAN;
}

static int make(struct work *w, u32 i)
{
	u64 len = content(i, w->buf);
	struct fs_file f;
	char name[32];
	int err = fs_open(w->fs, name_of(i, name), O_CREAT | O_RDWR | O_TRUNC, 0644, &f);

	if (err)
		return err;
	err = fs_write_all(w->fs, &f, 0, w->buf, len);
	if (!err && rnd(w) % 2) {
		err = w->fs->ops->fsync(w->fs, &f, false);
		w->synced[i] = !err;
	}
	fs_close(w->fs, &f);
	return err;
}

/* Nobody needs this one. */
static int litter(struct work *w, u32 i)
{
	char a[32], b[32];
	int err = 0;

	snprintf(a, sizeof(a), "litter%u", i % 7);
	snprintf(b, sizeof(b), "moved%u", i % 3);
	memset(w->buf, 1, SIZE_MOST);
	switch (rnd(w) % 5) {
	case 0:
		err = fs_put(w->fs, a, w->buf, rnd(w) % SIZE_MOST);
		break;
	case 1:
		err = FS_CALL(w->fs, rename, a, b, 0);
		break;
	case 2:
		err = FS_CALL(w->fs, unlink, b);
		break;
	case 3:
		err = FS_CALL(w->fs, truncate, a, rnd(w) % SIZE_MOST);
		break;
	default:
		err = FS_CALL(w->fs, setxattr, a, "user.x", w->buf, (u32)(rnd(w) % 500), 0);
	}
	return err == -ENOENT ? 0 : err;
}

/* Reads the file back. `gone`: why it may be unreadable. */
static void check(struct work *w, u32 i, bool device_fails)
{
	u64 len = content(i, w->want), done = 0;
	struct fs_file f;
	char name[32];
	int err = fs_open(w->fs, name_of(i, name), O_RDONLY, 0, &f);

	if (!err) {
		err = fs_read_all(w->fs, &f, 0, w->buf, SIZE_MOST, &done);
		fs_close(w->fs, &f);
	}
	if (err && !(device_fails && err == -EIO))
		wrong(w, "reading", i, err);
	else if (!err && (done != len || memcmp(w->buf, w->want, len)))
		wrong(w, "reading", i, 0);
}

static void run(struct work *w, bool reads_fail)
{
	char name[32];
	int err = 0;

	for (u32 d = 0; d < 5; d++) {
		snprintf(name, sizeof(name), "d%u", d);
		err = FS_CALL(w->fs, mkdir, name, 0755);
		if (!may_be(err))
			wrong(w, "mkdir", d, err);
	}
	for (u32 i = 0; i < FILES; i++) {
		err = make(w, i);
		if (err == -ENOENT) /* its directory could not be made */
			err = 0;
		if (!may_be(err))
			wrong(w, "making", i, err);
		err = litter(w, i);
		if (!may_be(err))
			wrong(w, "litter", i, err);
		if (i % 16 == 15) {
			err = FS_CALL(w->fs, sync);
			if (!may_be(err))
				wrong(w, "sync", i, err);
		}
	}
	for (u32 i = 0; i < FILES; i++)
		if (w->synced[i])
			check(w, i, reads_fail);
}

/* ---- devices and judges ---- */

static int copy(struct blkdev *from, struct blkdev *to)
{
	u8 *buf = malloc(1 << 20);
	int err = buf ? 0 : -ENOMEM;

	for (u64 off = 0; !err && off < from->size_bytes; off += 1 << 20) {
		u64 now = MIN(from->size_bytes - off, (u64)1 << 20);

		err = blkdev_read(from, off, buf, now);
		if (!err)
			err = blkdev_write(to, off, buf, now, 0);
	}
	free(buf);
	return err;
}

static void run_on(struct work *w, const char *program, const char *path, int most)
{
	char command[256], *said = NULL;
	int code;

	snprintf(command, sizeof(command), "%s %s", program, path);
	code = program_run(command, &said);
	if (code < 0 || code > most) {
		w->wrong++;
		printf("# %s: exit code %d\n# %s\n", program, code, said ? said : "");
	}
	free(said);
}

/*
 * Replay alone, and then all is well. Where there is no copy of the superblock to compare with, e2fsck -p takes the volume for clean and
 * leaves orphan_present, after the kernel's mounts too: the flag goes, and with it nothing may be left in the orphan file.
 */
static void replay(struct work *w, const char *path)
{
	run_on(w, "e2fsck -y -E journal_only", path, 1);
	run_on(w, "e2fsck -p", path, 1);
	run_on(w, "debugfs -w -R 'feature -orphan_present'", path, 0);
	run_on(w, "e2fsck -fn", path, 0);
}

static void judge(struct work *w, struct blkdev *dev)
{
	int fd = memfd_create("volume", MFD_CLOEXEC), err;
	struct blkdev *file;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
	if (fd < 0 || ftruncate(fd, (off_t)dev->size_bytes) ||
	    dev_file_fd(dup(fd), "volume", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &file)) {
		wrong(w, "copy", 0, -EIO);
		return;
	}
	for (u32 ours = 0; ours < 2; ours++) {
		err = copy(dev, file);
		if (err)
			wrong(w, "copy", 0, err);
		if (!ours)
			replay(w, path);
		err = fs_vfs_on("ext4", file, &w->fs);
		if (err) {
			wrong(w, "mount", ours, err);
			continue;
		}
		for (u32 i = 0; i < FILES; i++)
			if (w->synced[i])
				check(w, i, false);
		err = fs_vfs_end(w->fs);
		if (err)
			wrong(w, "unmount", ours, err);
		run_on(w, "e2fsck -fn", path, 0);
	}
	blkdev_put(file);
	close(fd);
}

static int one(const char *image, u64 seed, enum fault_op op, u64 nth, bool sticky, struct work *w,
	       bool *reached)
{
	struct blkdev *file, *mem, *dev;
	int err = dev_file_open(image, DEV_BUFFERED, &file);

	if (err)
		return err;
	err = dev_mem_new("memory", file->size_bytes, 512, &mem);
	if (!err)
		err = copy(file, mem);
	blkdev_put(file);
	if (!err)
		err = dev_fault_new(mem, false, &dev);
	if (err)
		return err;
	*w = (struct work){ .seed = seed | 1, .buf = malloc(SIZE_MOST), .want = malloc(SIZE_MOST) };
	dev_fault_nth(dev, op, nth, -EIO, sticky);
	err = fs_vfs_on("ext4", dev, &w->fs);
	if (!err) {
		run(w, op == FAULT_READ);
		err = fs_vfs_end(w->fs);
	}
	*reached = dev_fault_count(dev, op) >= nth;
	if (!may_be(err) || (err && !*reached))
		wrong(w, "the end", 0, err);
	blkdev_put(dev);
	judge(w, mem);
	blkdev_put(mem);
	free(w->buf);
	free(w->want);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const ops[] = { "read", "write", "flush" };
	bool reached = false;
	u32 failed = 0;

	if (argc < 4 || log_open("/dev/null")) {
		fprintf(stderr, "usage: failing IMAGE SEED NTH...\n");
		return 64;
	}
	for (int i = 3; i < argc; i++) {
		for (u32 k = 0; k < 2 * ARRAY_SIZE(ops); k++) {
			struct work w;

			if (one(argv[1], strtoull(argv[2], NULL, 0) + (u64)i, (enum fault_op)(k / 2),
				strtoull(argv[i], NULL, 0), k & 1, &w, &reached)) {
				fprintf(stderr, "%s\n", err_text());
				return 1;
			}
			failed += w.wrong;
			printf("%s - failing %s %s %s%s\n", w.wrong ? "not ok" : "ok", ops[k / 2], argv[i],
			       k & 1 ? "for ever" : "once", reached ? "" : " (not reached)");
		}
	}
	return failed ? 1 : 0;
}
