/*
 * Block maps of ext2 and ext3: twelve pointers in the inode, then a block of pointers, a block of such blocks,
 * and once more. A zero pointer is a hole, of everything below it.
 *
 *   - Pointers were checked when the inode was loaded or their block was read: each is on the volume and no
 *     metadata of a group. Levels are counted down, so no map makes a walk endless.
 *   - A run is collected within one block of pointers, or within the inode.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

#define LEVELS 3u

/* The run that begins at ptr[i], each pointer standing for `width` blocks from `lblk` on; only those of width 1 point to data. */
static void collect(const le32 *ptr, u32 i, u32 n, u64 lblk, u64 width, u64 want, struct ext4_run *out)
{
	u64 first = le32_get(ptr[i]);
	u32 k = 1;

	while (i + k < n && k * width < want && le32_get(ptr[i + k]) == (first ? first + k : 0))
		k++;
	*out = (struct ext4_run){ .lblk = lblk, .len = k * width, .pblk = first };
}

int ext4_indirect_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out)
{
	u32 per_block = ext4_pointers_per_block(ext4_inode_super(ei)), level = 1;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const le32 *ptr = (const void *)ei->block;
	u64 start = EXT4_NDIR, width = per_block, i;
	struct buffer_head *child;
	int err;

	if (lblk < EXT4_NDIR) {
		collect(ptr, (u32)lblk, EXT4_NDIR, lblk, 1, want, out);
		return 0;
	}
	while (level <= LEVELS && lblk - start >= width) {
		start += width;
		width *= per_block;
		level++;
	}
	if (level > LEVELS) {
		*out = (struct ext4_run){ .lblk = start, .len = UINT64_MAX - start, .last = true };
		return 0;
	}
	i = EXT4_NDIR + level - 1;
	while (le32_get(ptr[i]) && level) {
		struct bh_ctx ctx = ext4_ctx_map(ei, level);

		err = bh_read(ei->vfs.sb->dev, le32_get(ptr[i]), &ext4_indirect_ops, &ctx, &child);
		if (err)
			return err;
		bh_put(bh);
		bh = child;
		ptr = bh->data;
		width /= per_block;
		i = (lblk - start) / width;
		start += i * width;
		level--;
	}
	collect(ptr, (u32)i, bh ? per_block : (u32)i + 1, start, width, want + lblk - start, out);
	return 0;
}
