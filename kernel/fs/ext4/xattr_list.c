/*
 * Lists of attributes: one inside the inode, behind its fields, and one in a block of its own that inodes may
 * share. Both are checked before anybody follows an offset in them: the block when it is read, the inode's when
 * it is got.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

int ext4_xattr_ibody(struct ext4_inode *ei, struct ext4_xattr_list *out)
{
	struct ext4_super *es = ext4_inode_super(ei);
	const struct ext4_disk_inode *raw;
	const char *bad;
	u32 off;
	int err;

	*out = (struct ext4_xattr_list){ 0 };
	if (!ei->xattr_off)
		return -ENODATA;
	err = ext4_raw_inode_get(es, ei->vfs.ino, &out->bh, &raw);
	if (err)
		return err;
	off = ei->xattr_off + (u32)sizeof(struct ext4_disk_xattr_ibody);
	out->base = (const u8 *)raw + off;
	out->bytes = es->inode_bytes - off;
	bad = ext4_xattr_list_wrong(es, out->base, 0, out->bytes);
	if (!bad)
		return 0;
	ext4_xattr_list_put(out);
	return corrupt(&es->vfs.health, "inode", ei->vfs.ino, "%s", bad);
}

int ext4_xattr_block(struct ext4_inode *ei, struct ext4_xattr_list *out)
{
	const struct bh_ctx ctx = { { 0 } };
	int err;

	*out = (struct ext4_xattr_list){ 0 };
	if (!ei->xattr_blk)
		return -ENODATA;
	err = bh_read(ei->vfs.sb->dev, ei->xattr_blk, &ext4_xattr_ops, &ctx, &out->bh);
	if (err)
		return err;
	out->base = out->bh->data;
	out->first = sizeof(struct ext4_disk_xattr_header);
	out->bytes = out->bh->size_bytes;
	return 0;
}

void ext4_xattr_list_put(struct ext4_xattr_list *l)
{
	bh_put(take(l->bh));
}

const struct ext4_disk_xattr_entry *ext4_xattr_next(const struct ext4_xattr_list *l,
						    const struct ext4_disk_xattr_entry *prev)
{
	const u8 *p = l->base + l->first;

	if (prev)
		p = (const u8 *)prev + ALIGN_UP((u32)sizeof(*prev) + prev->name_len, 4u);
	return memcmp(p, &(le32){ { 0 } }, sizeof(le32)) ? (const void *)p : NULL;
}

const struct ext4_disk_xattr_entry *ext4_xattr_find(const struct ext4_xattr_list *l, u32 index,
						    const char *name, u32 name_len)
{
	const struct ext4_disk_xattr_entry *e = NULL;

	while ((e = ext4_xattr_next(l, e)))
		if (e->name_index == index && e->name_len == name_len &&
		    !memcmp(ext4_xattr_entry_name(e), name, name_len))
			return e;
	return NULL;
}
