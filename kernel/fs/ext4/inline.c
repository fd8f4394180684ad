/*
 * Data inside the inode: the first 60 bytes take the place of the block map, the rest is the value of the
 * attribute system.data, which always stays in the inode. A directory has its parent's number in the first 4
 * bytes, then records; its second piece is records again.
 */
#include "ext4.h"

#include <errno.h>

#define DATA_NAME "data"

int ext4_inline_get(struct ext4_inode *ei, struct ext4_inline *out)
{
	const struct ext4_disk_xattr_entry *e;
	u64 size = ext4_size(ei);
	int err;

	*out = (struct ext4_inline){ 0 };
	out->piece[0].p = ei->block;
	out->piece[0].len = (u32)MIN(size, (u64)EXT4_IBLOCK_BYTES);
	if (size <= EXT4_IBLOCK_BYTES)
		return 0;
	err = ext4_xattr_ibody(ei, &out->list);
	if (err)
		return err == -ENODATA ? 0 : err;
	e = ext4_xattr_find(&out->list, EXT4_XATTR_SYSTEM, DATA_NAME, sizeof(DATA_NAME) - 1);
	if (e && le32_get(e->value_size) && !le32_get(e->value_inum)) {
		out->piece[1].p = ext4_xattr_value(&out->list, e);
		out->piece[1].len = (u32)MIN(size - EXT4_IBLOCK_BYTES, (u64)le32_get(e->value_size));
	}
	return 0;
}

void ext4_inline_put(struct ext4_inline *in)
{
	ext4_xattr_list_put(&in->list);
}
