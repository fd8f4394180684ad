/*
 * readers TYPE SEED THREADS READS [-d] [-o OPTIONS] IMAGE...
 *
 * Threads read the files of a volume at once, at random and in order, and what each reads must be what one thread alone read before:
 * also while inodes and names are dropped. -d: without the host's cache. Exit code 0: it always was.
 */
#include "fs.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK     4096u
#define READ_MAX  (1u << 20)
#define FILES_MAX 4096u

struct content {
	u64 ino, size;
	u32 *sum; /* of each block */
};

struct reader {
	pthread_t thread;
	u64 seed;
	u32 reads;
	u8 *buf;
};

static struct super_block *sb;
static struct content file[FILES_MAX];
static u32 files;
static _Atomic u32 failures;

static u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed >> 8;
}

static void wrong(u64 ino, u64 off, const char *what)
{
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "inode %llu at %llu: %s\n", (unsigned long long)ino, (unsigned long long)off, what);
}

static u32 sum_of(const u8 *p, u64 len)
{
	return crc32c(~0u, p, len);
}

/* The first look at a file, by one thread. */
static int learn(void *ctx, const struct walk_entry *e)
{
	struct content *c = &file[files];
	u8 *buf = ctx;

	if (!e->inode || !is_reg(e->inode) || !e->inode->size_bytes || files == FILES_MAX)
		return 0;
	*c = (struct content){ .ino = e->inode->ino, .size = e->inode->size_bytes };
	c->sum = calloc(DIV_ROUND_UP(c->size, BLOCK), sizeof(*c->sum));
	if (!c->sum)
		return -ENOMEM;
	for (u64 off = 0, done; off < c->size; off += done) {
		int err = vfs_read(e->inode, off, buf, READ_MAX, &done);

		if (err)
			return err;
		for (u64 at = 0; at < done; at += BLOCK)
			c->sum[(off + at) / BLOCK] = sum_of(buf + at, MIN(done - at, (u64)BLOCK));
	}
	files++;
	return 0;
}

/* Reads [off, off + len) and compares the blocks that lie wholly in it. */
static void look(struct reader *r, struct inode *inode, const struct content *c, u64 off, u64 len)
{
	u64 done, first = ALIGN_UP(off, (u64)BLOCK);
	int err = vfs_read(inode, off, r->buf, len, &done);

	if (err || done != MIN(len, c->size - off)) {
		wrong(c->ino, off, err ? err_text() : "a short read");
		return;
	}
	for (u64 at = first; at < off + done; at += BLOCK) {
		u64 n = MIN(c->size - at, (u64)BLOCK);

		if (at + n <= off + done && sum_of(r->buf + (at - off), n) != c->sum[at / BLOCK])
			wrong(c->ino, at, "other bytes");
	}
}

static void *run(void *arg)
{
	struct reader *r = arg;

	for (u32 i = 0; i < r->reads; i++) {
		const struct content *c = &file[rnd(&r->seed) % files];
		scoped(vfs_iputp) struct inode *inode = NULL;
		u64 len = 1 + rnd(&r->seed) % (rnd(&r->seed) % 2 ? 9000 : 200000);

		if (vfs_iget(sb, c->ino, &inode)) {
			wrong(c->ino, 0, err_text());
			continue;
		}
		if (rnd(&r->seed) % 8) {
			look(r, inode, c, rnd(&r->seed) % c->size, len);
		} else {
			u64 end = MIN(c->size, 8ull << 20);

			for (u64 off = 0; off < end; off += len)
				look(r, inode, c, off, len);
		}
		if (i % 64 == 0)
			vfs_shrink(sb);
	}
	return NULL;
}

static int open_volume(const char *type, char **image, u32 n, u32 flags, const struct mount_opts *opts)
{
	struct blkdev *dev[16] = { NULL };
	const struct fs_type *t = fs_find(type);
	int err = t && n && n <= ARRAY_SIZE(dev) ? 0 : -EINVAL;

	for (u32 i = 0; i < n && !err; i++)
		err = dev_file_open(image[i], flags, &dev[i]);
	if (!err)
		err = t->mount(dev, n, opts, &sb);
	for (u32 i = 0; i < n && i < ARRAY_SIZE(dev); i++)
		blkdev_put(dev[i]);
	return err;
}

int main(int argc, char **argv)
{
	struct mount_opts opts = { .rdonly = true };
	u8 *buf = os_alloc_aligned(4096, READ_MAX);
	struct inode *root = NULL;
	struct reader r[32] = { 0 };
	u32 threads, flags = DEV_BUFFERED;
	int opt, err;

	while ((opt = getopt(argc, argv, "do:")) != -1) {
		if (opt == 'd')
			flags = DEV_DIRECT;
		else
			opts.fs_opts = optarg;
	}
	if (argc - optind < 5)
		return 64;
	argv += optind;
	threads = (u32)MIN(atoi(argv[2]), 32);
	err = open_volume(argv[0], argv + 4, (u32)(argc - optind - 4), flags, &opts);
	if (!err)
		err = vfs_iget(sb, sb->root_ino, &root);
	if (!err)
		err = vfs_walk(root, learn, buf);
	if (err || !files) {
		fprintf(stderr, "%s\n", err_text());
		return 1;
	}
	vfs_iput(root);
	for (u32 i = 0; i < threads; i++) {
		r[i] = (struct reader){ .seed = strtoull(argv[1], NULL, 0) * 77 + i + 1,
					.reads = (u32)atoi(argv[3]) };
		r[i].buf = os_alloc_aligned(4096, READ_MAX);
		if (pthread_create(&r[i].thread, NULL, run, &r[i]))
			return 1;
	}
	for (u32 i = 0; i < threads; i++) {
		pthread_join(r[i].thread, NULL);
		free(r[i].buf);
	}
	for (u32 i = 0; i < files; i++)
		free(file[i].sum);
	free(buf);
	err = vfs_unmount(sb);
	printf("%u files, %u wrong\n", files, failures);
	return err || failures ? 1 : 0;
}
