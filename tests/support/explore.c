/* Does with a volume what users do: mounts, walks, reads, lists; within bounds of work, whatever the volume claims. */
#include "support/explore.h"

#include "fs.h"
#include "lib/text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Per volume: a hostile one can claim any number of files and bytes. */
#define FILES_MAX 2000u
#define BYTES_MAX (8u << 20)
#define CHUNK     (64u << 10)

struct explorer {
	u32 files;
	u64 bytes;
	u8 *buf;
};

static int count_extent(void *ctx, const struct mapping *m)
{
	u32 *n = ctx;

	(void)m;
	return ++*n > 10000;
}

static void read_file(struct explorer *x, struct inode *inode)
{
	u64 size = atomic_load(&inode->size_bytes), done, at;
	u64 spots[] = { 0, size / 2, size > CHUNK ? size - CHUNK : 0, 1ull << 32, size - 1 };
	u32 extents = 0;

	for (u32 i = 0; i < ARRAY_SIZE(spots); i++) {
		if (x->bytes > BYTES_MAX)
			return;
		if (!vfs_read(inode, spots[i], x->buf, CHUNK, &done))
			x->bytes += done;
	}
	if (vfs_seek(inode, 0, SEEK_DATA, &at) == 0 && vfs_seek(inode, at, SEEK_HOLE, &at))
		return;
	if (vfs_extents(inode, 0, size, count_extent, &extents))
		return;
}

static void read_xattrs(struct explorer *x, struct inode *inode)
{
	char names[4096];
	u32 len, n;

	if (vfs_listxattr(inode, names, sizeof(names), &len))
		return;
	for (u32 at = 0; at < len; at += (u32)strlen(names + at) + 1)
		if (vfs_getxattr(inode, names + at, x->buf, CHUNK, &n))
			continue;
}

static int visit(void *ctx, const struct walk_entry *e)
{
	struct explorer *x = ctx;
	struct kstat st;
	u32 len;

	if (++x->files > FILES_MAX)
		return 1;
	if (!e->inode || e->err)
		return 0;
	vfs_getattr(e->inode, &st);
	read_xattrs(x, e->inode);
	if (is_reg(e->inode))
		read_file(x, e->inode);
	else if (is_symlink(e->inode) && vfs_readlink(e->inode, (char *)x->buf, CHUNK, &len))
		return 0;
	else if (is_dir(e->inode)) {
		struct inode *found;

		if (!vfs_lookup(e->inode, &NAME("no-such-name"), &found))
			vfs_iput(found);
		if (!vfs_lookup(e->inode, &NAME(".."), &found))
			vfs_iput(found);
	}
	return 0;
}

static void dump_all(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts)
{
	/* The inodes are those of tests/fuzz/images.sh: "d", a file of many extents, a long directory. Each opens
	 * the volume anew, so they are few. */
	static const char *const ext4_words[][2] = {
		{ "superblock", NULL }, { "group", "0" },    { "bitmap", "0" }, { "inode", "12" },
		{ "dir", "18" },        { "htree", "18" },   { "xattr", "81" }, { "extents", "16" },
		{ "block", "1" },       { "journal", NULL },
	};
	static const char *const btrfs_words[][2] = {
		{ "superblock", NULL }, { "chunk", NULL },  { "devices", NULL }, { "tree", "1" },
		{ "tree", "5" },        { "tree", "2" },    { "log", NULL },     { "subvolumes", NULL },
		{ "root", NULL },       { "backup", NULL },
	};
	bool btrfs = !strcmp(type->name, "btrfs");
	const char *const(*words)[2] = btrfs ? btrfs_words : ext4_words;

	if (type->info) {
		struct doc *d = doc_new();

		if (type->info(&dev, 1, opts, d))
			err_clear();
		doc_free(d);
	}
	_Static_assert(ARRAY_SIZE(ext4_words) == ARRAY_SIZE(btrfs_words), "as many words for each type");
	for (u32 i = 0; type->dump && i < ARRAY_SIZE(ext4_words); i++) {
		struct doc *d = doc_new();
		struct text t = { 0 };

		if (!type->dump(&dev, 1, opts, words[i][1] ? 2 : 1, words[i], d)) {
			doc_to_text(d, &t);
			doc_to_json(d, &t);
		}
		text_free(&t);
		doc_free(d);
	}
}

/* Checks all of it, whatever it says of itself. */
static void check_all(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts)
{
	const struct check_opts how = { .force = true, .cache_bytes = opts->cache_bytes };
	struct check_summary sum;

	if (type->check && type->check(&dev, 1, opts, &how, &sum))
		err_clear();
}

/* Mounts it, walks it, reads what it holds. */
static int see(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts)
{
	struct explorer x = { 0 };
	struct super_block *sb;
	struct inode *root;
	struct kstatfs st;
	int err = type->mount(&dev, 1, opts, &sb);

	if (err)
		return err;
	x.buf = malloc(CHUNK);
	err = vfs_iget(sb, sb->root_ino, &root);
	if (!err && x.buf) {
		err = vfs_walk(root, visit, &x);
		vfs_iput(root);
	}
	if (vfs_statfs(sb, &st))
		err = err ? err : -EIO;
	free(x.buf);
	if (vfs_unmount(sb))
		abort(); /* nothing was written: there is nothing that could fail */
	return err < 0 ? err : 0;
}

int explore(struct blkdev *dev, bool dumps)
{
	struct mount_opts opts = { .rdonly = true, .cache_bytes = 4u << 20 };
	const struct fs_type *type = fs_find("ext4");
	struct fs_probe p;
	char first[256];
	int err;

	if (fs_probe(dev, &type, &p))
		type = fs_find("ext4");
	if (dumps)
		dump_all(type, dev, &opts);
	check_all(type, dev, &opts);
	err = see(type, dev, &opts);
	/* What is broken is shown as far as it goes, where the type can do that. */
	if (!strcmp(type->name, "btrfs")) {
		snprintf(first, sizeof(first), "%s", err_text());
		opts.fs_opts = "degraded,rescue=all";
		if (see(type, dev, &opts))
			err_clear();
		if (err)
			err = fail(err, "%s", first);
	}
	return err;
}
