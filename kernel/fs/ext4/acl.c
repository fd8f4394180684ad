/*
 * POSIX ACLs: ext4 stores them as attributes of their own index, in a form where only the entries of named users
 * and groups carry a number.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

u32 ext4_acl_entry_bytes(const struct ext4_disk_acl_entry *e)
{
	u32 tag = le16_get(e->tag);

	return tag == ACL_USER || tag == ACL_GROUP ? sizeof(*e) : EXT4_ACL_ENTRY_SHORT;
}

int ext4_acl_decode(const void *p, u32 len, struct acl **out)
{
	const struct ext4_disk_acl_header *h = p;
	const u8 *at = (const u8 *)(h + 1), *end = (const u8 *)p + len;
	scoped(acl_freep) struct acl *acl = NULL;
	int err;

	if (len < sizeof(*h) || le32_get(h->version) != EXT4_ACL_VERSION)
		return -EINVAL;
	acl = acl_new(len / EXT4_ACL_ENTRY_SHORT);
	if (!acl)
		return fail(-ENOMEM, "no memory for an ACL");
	acl->count = 0;
	while (at < end) {
		const struct ext4_disk_acl_entry *e = (const void *)at;
		struct acl_entry *to = &acl->e[acl->count++];
		u32 bytes;

		if (end - at < EXT4_ACL_ENTRY_SHORT)
			return -EINVAL;
		bytes = ext4_acl_entry_bytes(e);
		if (end - at < (s32)bytes)
			return -EINVAL;
		*to = (struct acl_entry){ .tag = le16_get(e->tag), .perm = le16_get(e->perm) };
		if (bytes == sizeof(*e))
			to->id = le32_get(e->id);
		at += bytes;
	}
	err = acl_check(acl);
	if (!err)
		*out = take(acl);
	return err;
}

int ext4_get_acl(struct inode *inode, bool is_default, struct acl **out)
{
	u32 index = is_default ? EXT4_XATTR_ACL_DEFAULT : EXT4_XATTR_ACL_ACCESS, len;
	scoped(freep) u8 *value = NULL;
	int err = ext4_xattr_load(ext4_inode(inode), index, "", 0, &value, &len);

	*out = NULL;
	if (err)
		return err == -ENODATA ? 0 : err;
	err = ext4_acl_decode(value, len, out);
	return err == -EINVAL ? corrupt(&inode->sb->health, "inode", inode->ino, "its ACL makes no sense")
			      : err;
}
