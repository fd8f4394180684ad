/*
 * Data leaves the inode: a file or directory that is to grow, or change in a way that its kind of storage does not know, becomes one with
 * an empty map. Where the bytes go then is its caller's business, in the same handle.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define DATA_NAME "data"

static int copy_out(struct ext4_inode *ei, u8 **data, u32 *len)
{
	struct ext4_inline in;
	u64 size = ext4_size(ei);
	u32 at = 0;
	int err;

	/* What is said to be longer than an inode has no bytes there. */
	if (size > ext4_inode_super(ei)->inode_bytes)
		return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			       "inline data longer than the inode");
	err = ext4_inline_get(ei, &in);
	if (err)
		return err;
	*len = (u32)size;
	*data = calloc(1, size + 1);
	for (u32 i = 0; *data && i < ARRAY_SIZE(in.piece); i++) {
		if (in.piece[i].len)
			memcpy(*data + at, in.piece[i].p, in.piece[i].len);
		at += in.piece[i].len;
	}
	ext4_inline_put(&in);
	return *data ? 0 : fail(-ENOMEM, "no memory for inline data");
}

static void make_mapped(struct ext4_super *es, struct ext4_inode *ei)
{
	bool extents = ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS);
	u64 blocks_512;

	mutex_lock(&ei->vfs.attr);
	blocks_512 = ext4_inode_disk_512(ei);
	mutex_unlock(&ei->vfs.attr);
	rw_write_lock(&ei->tree);
	ei->flags &= ~EXT4_FL_INLINE_DATA;
	if (extents) {
		ei->flags |= EXT4_FL_EXTENTS;
		ext4_extent_root_init(ei->block);
	} else {
		memset(ei->block, 0, sizeof(ei->block));
	}
	rw_write_unlock(&ei->tree);
	mutex_lock(&ei->vfs.attr);
	ei->vfs.flags = ei->flags & EXT4_FL_USER_VISIBLE;
	ei->vfs.blocks_512 = blocks_512;
	mutex_unlock(&ei->vfs.attr);
}

int ext4_inline_take_out(struct ext4_handle *h, struct ext4_inode *ei, u8 **data, u32 *len)
{
	scoped(freep) u8 *bytes = NULL;
	u32 n = 0;
	int err = copy_out(ei, &bytes, &n);

	if (err)
		return err;
	err = ext4_xattr_set(h, ei, EXT4_XATTR_SYSTEM, DATA_NAME, sizeof(DATA_NAME) - 1, NULL, 0, 0);
	if (err && err != -ENODATA)
		return err;
	make_mapped(h->es, ei);
	err = ext4_inode_write(h, ei);
	if (err)
		return ext4_abort(h->es, err);
	*data = take(bytes);
	*len = n;
	return 0;
}
