/*
 * Values of attributes that are the content of inodes of their own (ea_inode): reading one. In such an inode the time of access is the hash of
 * the content, and time of change and version are its count of references (fs/ext4/xattr.c of Linux).
 */
#include "ext4.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <errno.h>

u32 ext4_value_hash(const struct ext4_super *es, const void *value, u32 len)
{
	return crc32c(es->csum_seed, value, len);
}

u64 ext4_value_refs(const struct ext4_disk_inode *raw)
{
	return (u64)le32_get(raw->ctime) << 32 | le32_get(raw->version);
}

bool ext4_value_is_owned(const struct ext4_inode *ei, const struct ext4_inode *owner)
{
	return (u32)ei->vfs.mtime.sec == (u32)owner->vfs.ino && ei->vfs.generation == owner->vfs.generation;
}

bool ext4_value_ino_ok(const struct ext4_super *es, u32 ino)
{
	return ino != EXT4_INO_ROOT && ext4_ino_public(es, ino);
}

/* One run's bytes; *done of them. */
static int read_run(struct ext4_inode *ei, u32 at, u8 *dst, u32 len, u32 *done)
{
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);
	u32 bits = ext4_inode_super(ei)->block_bits;
	struct ext4_run run;
	u64 lblk = at >> bits;
	int err = ext4_map_blocks(ei, lblk, DIV_ROUND_UP(len, 1u << bits), &run);

	if (err)
		return err;
	len = (u32)MIN((u64)len, (run.lblk + run.len - lblk) << bits);
	*done = len;
	if (!run.pblk || run.unwritten) {
		memset(dst, 0, len);
		return 0;
	}
	bh_readahead(ei->vfs.sb->dev, run.pblk + lblk - run.lblk, DIV_ROUND_UP(len, 1u << bits));
	for (u64 blk = run.pblk + lblk - run.lblk; len && !err; blk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		u32 n = MIN(len, 1u << bits);

		err = bh_read(ei->vfs.sb->dev, blk, &ext4_symlink_ops, &ctx, &bh);
		if (!err)
			memcpy(dst, bh->data, n);
		dst += n;
		len -= n;
	}
	return err;
}

static int read_all(struct ext4_inode *ei, u8 *value, u32 len)
{
	int err = 0;

	if (ei->flags & EXT4_FL_INLINE_DATA)
		return ext4_read_content(ei, 0, value, len);
	for (u32 at = 0, n; at < len && !err; at += n)
		err = read_run(ei, at, value + at, len - at, &n);
	return err;
}

int ext4_value_read(struct ext4_inode *owner, u32 ino, void *value, u32 len)
{
	struct ext4_super *es = ext4_inode_super(owner);
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err = ext4_inode_open(es, ino, &ei);

	if (err)
		return err == -ESTALE
			       ? corrupt(&es->vfs.health, "inode", owner->vfs.ino,
					 "the value of an attribute is in inode %u, which is free", ino)
			       : err;
	if (!ext4_value_ino_ok(es, ino) || !(ei->flags & EXT4_FL_EA_INODE) || !is_reg(&ei->vfs) ||
	    ext4_size(ei) != len)
		return corrupt(&es->vfs.health, "inode", owner->vfs.ino,
			       "inode %u does not hold the value of its attribute", ino);
	err = read_all(ei, value, len);
	if (err || ext4_value_hash(es, value, len) == (u32)ei->vfs.atime.sec ||
	    ext4_value_is_owned(ei, owner))
		return err;
	return corrupt(&es->vfs.health, "inode", ino, "the attribute's value in it has a wrong hash");
}
