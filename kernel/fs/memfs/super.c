/*
 * Mounting the memory file system on a memory device, whose size bounds the files' data; the number of inodes is
 * bounded by the number of blocks. At unmount every inode still linked gives up the reference it holds on itself.
 */
#include "memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct inode *memfs_alloc_inode(struct super_block *sb)
{
	struct memfs_inode *mi = calloc(1, sizeof(*mi));

	(void)sb;
	if (!mi)
		return NULL;
	mutex_init(&mi->tree, RANK_EXTENT);
	return &mi->vfs;
}

static void memfs_free_inode(struct inode *inode)
{
	struct memfs_inode *mi = memfs_i(inode);

	for (u32 i = 0; i < mi->chunks; i++)
		free(mi->chunk[i]);
	free(mi->chunk);
	free(mi->target);
	memfs_dir_free(mi);
	memfs_xattr_free(mi);
	mutex_fini(&mi->tree);
	free(mi);
}

/* Every inode there is is in memory: who has to be read does not exist. */
static int memfs_read_inode(struct inode *inode)
{
	(void)inode;
	return -ESTALE;
}

static int memfs_evict_inode(struct inode *inode)
{
	struct memfs *fs = memfs_of(inode->sb);

	mutex_lock(&fs->alloc);
	fs->inodes--;
	mutex_unlock(&fs->alloc);
	return memfs_unmap(inode, 0, ~0ull);
}

static int memfs_statfs(struct super_block *sb, struct kstatfs *out)
{
	struct memfs *fs = memfs_of(sb);

	mutex_lock(&fs->alloc);
	out->blocks = fs->blocks;
	out->blocks_free = out->blocks_avail = fs->blocks_free;
	out->inodes = fs->inodes_max;
	out->inodes_free = fs->inodes_max - fs->inodes;
	mutex_unlock(&fs->alloc);
	return 0;
}

static void memfs_put_super(struct super_block *sb)
{
	struct memfs *fs = memfs_of(sb);

	super_fini(sb);
	blkdev_put(sb->dev);
	mutex_fini(&fs->alloc);
	free(fs->bitmap);
	free(fs);
}

static const struct super_ops memfs_super_ops = {
	.alloc_inode = memfs_alloc_inode,
	.free_inode = memfs_free_inode,
	.read_inode = memfs_read_inode,
	.evict_inode = memfs_evict_inode,
	.statfs = memfs_statfs,
	.put_super = memfs_put_super,
};

static int memfs_mount(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct super_block **out)
{
	struct memfs *fs;
	int err;

	if (n != 1 || devs[0]->size_bytes < MEMFS_BLOCK)
		return fail(-EINVAL, "memfs needs one device of at least %u bytes", MEMFS_BLOCK);
	if (opts->fs_opts && *opts->fs_opts)
		return fail(-EINVAL, "option \"%.*s\" is not known to memfs",
			    (int)strcspn(opts->fs_opts, ","), opts->fs_opts);
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs->blocks = fs->blocks_free = MIN(devs[0]->size_bytes / MEMFS_BLOCK, (u64)MEMFS_BLOCK_MASK - 1);
	fs->inodes_max = fs->blocks;
	fs->next_ino = MEMFS_ROOT;
	fs->bitmap = calloc(DIV_ROUND_UP(fs->blocks, 64), sizeof(fs->bitmap[0]));
	err = fs->bitmap ? super_init(&fs->sb, &memfs_fs_type, &memfs_super_ops, devs[0]->name, opts)
			 : -ENOMEM;
	if (err) {
		free(fs->bitmap);
		free(fs);
		return err;
	}
	mutex_init(&fs->alloc, RANK_ALLOC);
	fs->sb.dev = blkdev_get(devs[0]);
	fs->sb.root_ino = MEMFS_ROOT;
	fs->sb.block_bytes = MEMFS_BLOCK;
	fs->sb.size_max_bytes = MEMFS_SIZE_MAX;
	fs->sb.has_acl = fs->sb.has_xattr = true;
	err = memfs_make_root(fs);
	if (err) {
		memfs_put_super(&fs->sb);
		return err;
	}
	*out = &fs->sb;
	return 0;
}

const struct fs_type memfs_fs_type = {
	.name = "memfs",
	.mount = memfs_mount,
};
