/*
 * Directories get longer: a block at the end, or the first one of all. A block is a leaf without entries until its
 * caller makes something else of it, so that the directory is whole at every step.
 */
#include "ext4.h"

#include <errno.h>

int ext4_dir_append(struct ext4_handle *h, struct ext4_inode *dir, struct buffer_head **out)
{
	struct ext4_super *es = ext4_inode_super(dir);
	u64 size = ext4_size(dir), lblk = size >> es->block_bits;
	u64 max = ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR) ? (u64)INT64_MAX : UINT32_MAX;
	struct bh_ctx ctx = ext4_ctx_dir(dir, (u32)lblk);
	int err;

	if (size & (ext4_block_bytes(es) - 1))
		return corrupt(&es->vfs.health, "directory", dir->vfs.ino, "its size is not whole blocks");
	if (size + ext4_block_bytes(es) > max || lblk > EXT4_DX_LBLK_MASK)
		return fail(-ENOSPC, "directory %llu is as long as one can be",
			    (unsigned long long)dir->vfs.ino);
	err = ext4_map_new_block(h, dir, lblk, &ext4_dir_ops, &ctx, out);
	if (err)
		return err;
	ext4_leaf_init(es, (*out)->data);
	ext4_dirty(h, *out);
	atomic_store_explicit(&dir->vfs.size_bytes, size + ext4_block_bytes(es), memory_order_relaxed);
	return 0;
}

int ext4_dir_init(struct ext4_handle *h, struct ext4_inode *dir, u64 parent)
{
	struct buffer_head *bh;
	int err = ext4_dir_append(h, dir, &bh);

	if (err)
		return err;
	ext4_leaf_top(h->es, bh->data, (u32)dir->vfs.ino, (u32)parent);
	ext4_dirty(h, bh);
	bh_put(bh);
	return 0;
}
