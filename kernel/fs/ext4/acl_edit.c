/*
 * ACLs that change: the attribute in its on-disk form and, for the access ACL, the permission bits, which are a part of it, in one
 * handle.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

int ext4_acl_encode(const struct acl *acl, u8 **value, u32 *len)
{
	struct ext4_disk_acl_header head = { .version = le32_put(EXT4_ACL_VERSION) };
	u8 *at = malloc(sizeof(head) + acl->count * sizeof(struct ext4_disk_acl_entry));

	if (!at)
		return fail(-ENOMEM, "no memory for an ACL");
	*value = at;
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	for (u32 i = 0; i < acl->count; i++) {
		struct ext4_disk_acl_entry e = { .tag = le16_put(acl->e[i].tag),
						 .perm = le16_put(acl->e[i].perm),
						 .id = le32_put(acl->e[i].id) };
		u32 bytes = ext4_acl_entry_bytes(&e);

		memcpy(at, &e, bytes);
		at += bytes;
	}
	*len = (u32)(at - *value);
	return 0;
}

u32 ext4_acl_credits(const struct ext4_super *es, const struct acl *acl)
{
	u32 len = (u32)sizeof(struct ext4_disk_acl_header);

	if (!acl)
		return 0;
	len += acl->count * (u32)sizeof(struct ext4_disk_acl_entry);
	return ext4_xattr_credits(es, len) - EXT4_CREDITS_XATTR;
}

/* The permission bits in memory; returns what they were. */
static u32 set_mode(struct inode *inode, u32 mode)
{
	u32 before;

	mutex_lock(&inode->attr);
	before = inode->mode;
	inode->mode = (before & S_IFMT) | (mode & 07777);
	mutex_unlock(&inode->attr);
	return before;
}

/* value NULL: there is to be none. */
static int store(struct ext4_handle *h, struct inode *inode, bool is_default, const u8 *value, u32 len,
		 u32 mode)
{
	u32 index = is_default ? EXT4_XATTR_ACL_DEFAULT : EXT4_XATTR_ACL_ACCESS, before = inode->mode;
	int err;

	if (!is_default)
		before = set_mode(inode, mode);
	err = ext4_xattr_set(h, ext4_inode(inode), index, "", 0, value, len, 0);
	if (err == -ENODATA && !value)
		err = 0;
	/* An ACL that does not change leaves the inode unwritten. */
	if (!err) {
		inode_touch(inode, ATTR_CTIME);
		err = ext4_inode_write(h, ext4_inode(inode));
	}
	if (err)
		set_mode(inode, before);
	return err;
}

int ext4_set_acl(struct inode *inode, bool is_default, const struct acl *acl, u32 mode)
{
	struct ext4_super *es = ext4_super(inode->sb);
	bool inline_data = ext4_inode(inode)->flags & EXT4_FL_INLINE_DATA, tried = false;
	scoped(freep) u8 *value = NULL;
	struct ext4_handle h;
	u32 len = 0;
	int err = acl ? ext4_acl_encode(acl, &value, &len) : 0;

	if (err)
		return err;
	do {
		if (inline_data)
			rw_write_lock(&inode->map_lock);
		err = ext4_begin(es, ext4_xattr_credits(es, len), 1, &h);
		if (!err) {
			err = store(&h, inode, is_default, value, len, mode);
			err = ext4_end(&h, err);
		}
		if (inline_data)
			rw_write_unlock(&inode->map_lock);
	} while (ext4_retry(es, err, &tried));
	return err;
}
