/*
 * Extended attributes: like entries of a directory, found by the hash of the whole name ("user.x"), with a value behind the name. ACLs are
 * attributes whose value is in the system calls' form.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* The attribute with that name; the path keeps it in place. -ENODATA: none. */
static int find(const struct btrfs_inode *bi, const char *name, struct btrfs_path *p, const u8 **value,
		u32 *value_len)
{
	u32 name_len = (u32)strlen(name), len;
	const struct btrfs_disk_dir_item *d;
	const void *item;
	int err = -ENOENT;

	if (!bi->placeholder)
		err = btrfs_find(
			bi->root,
			&BTRFS_KEY(bi->objectid, BTRFS_KEY_XATTR_ITEM, btrfs_name_hash(name, name_len)), p);
	if (err)
		return err == -ENOENT ? -ENODATA : err;
	item = btrfs_path_item(p, &len);
	d = btrfs_dir_item_find(item, len, name, name_len);
	if (!d)
		return -ENODATA;
	*value = d->name + name_len;
	*value_len = le16_get(d->data_len);
	return 0;
}

int btrfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const u8 *value;
	int err = find(btrfs_inode(inode), name, &p, &value, len);

	if (err || !size)
		return err;
	if (*len > size)
		return -ERANGE;
	memcpy(buf, value, *len);
	return 0;
}

static int emit_names(const void *item, u32 len, xattr_name_fn emit, void *ctx)
{
	char name[BTRFS_NAME_MAX + 1];
	int err = 0;

	for (u32 at = 0; at < len && !err;) {
		const struct btrfs_disk_dir_item *d = (const void *)((const u8 *)item + at);
		u32 name_len = le16_get(d->name_len);

		memcpy(name, d->name, name_len);
		name[name_len] = 0;
		if (strcmp(name, ACL_ACCESS) && strcmp(name, ACL_DEFAULT))
			err = emit(ctx, name);
		at += (u32)sizeof(*d) + name_len + le16_get(d->data_len);
	}
	return err;
}

int btrfs_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx)
{
	const struct btrfs_inode *bi = btrfs_inode(inode);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err = -ENOENT;

	if (!bi->placeholder)
		err = btrfs_seek(bi->root, &BTRFS_KEY(bi->objectid, BTRFS_KEY_XATTR_ITEM, 0), &p);
	for (; !err; err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);
		const void *item;
		u32 len;

		if (key.objectid != bi->objectid || key.type != BTRFS_KEY_XATTR_ITEM)
			return 0;
		item = btrfs_path_item(&p, &len);
		err = emit_names(item, len, emit, ctx);
		if (err)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

int btrfs_get_acl(struct inode *inode, bool is_default, struct acl **out)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const u8 *value;
	u32 len;
	int err = find(btrfs_inode(inode), is_default ? ACL_DEFAULT : ACL_ACCESS, &p, &value, &len);

	*out = NULL;
	if (err)
		return err == -ENODATA ? 0 : err;
	err = acl_from_xattr(value, len, out);
	return err == -EINVAL || err == -EOPNOTSUPP
		       ? corrupt(&inode->sb->health, "inode", inode->ino, "its ACL makes no sense")
		       : err;
}
