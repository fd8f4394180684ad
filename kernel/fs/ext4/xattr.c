/*
 * Extended attributes, by name. An attribute is in the inode's own list, in its xattr block, or its value is the
 * content of another inode (ea_inode), whose hash must match.
 *
 * On the disk a name is an index, which stands for its beginning, and the rest. Indexes that have no name of
 * their own here (the data of inline files, encryption contexts, richacls) are not shown; ACLs are given by
 * acl.c.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

static const char *const prefix_of[] = {
	[EXT4_XATTR_USER] = "user.",
	[EXT4_XATTR_TRUSTED] = "trusted.",
	[EXT4_XATTR_SECURITY] = "security.",
};

u32 ext4_xattr_index(const char *name, const char **rest)
{
	for (u32 i = 0; i < ARRAY_SIZE(prefix_of); i++) {
		size_t len = prefix_of[i] ? strlen(prefix_of[i]) : 0;

		if (len && !strncmp(name, prefix_of[i], len) && name[len]) {
			*rest = name + len;
			return i;
		}
	}
	return 0;
}

/* ---- one attribute ---- */

/* Finds in both lists. *l holds it until ext4_xattr_list_put. */
static int find(struct ext4_inode *ei, u32 index, const char *name, u32 name_len, struct ext4_xattr_list *l,
		const struct ext4_disk_xattr_entry **e)
{
	static int (*const get[])(struct ext4_inode *, struct ext4_xattr_list *) = { ext4_xattr_ibody,
										     ext4_xattr_block };

	for (u32 i = 0; i < ARRAY_SIZE(get); i++) {
		int err = get[i](ei, l);

		if (err && err != -ENODATA)
			return err;
		if (err)
			continue;
		*e = ext4_xattr_find(l, index, name, name_len);
		if (*e)
			return 0;
		ext4_xattr_list_put(l);
	}
	return -ENODATA;
}

/* At most `size` bytes; *len is the value's length in any case. */
static int value_get(struct ext4_inode *ei, const struct ext4_xattr_list *l,
		     const struct ext4_disk_xattr_entry *e, void *buf, u32 size)
{
	u32 len = le32_get(e->value_size);

	if (len > size)
		return -ERANGE;
	if (le32_get(e->value_inum))
		return ext4_value_read(ei, le32_get(e->value_inum), buf, len);
	if (len)
		memcpy(buf, ext4_xattr_value(l, e), len);
	return 0;
}

int ext4_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len)
{
	struct ext4_inode *ei = ext4_inode(inode);
	scoped(ext4_xattr_list_put) struct ext4_xattr_list l = { 0 };
	const struct ext4_disk_xattr_entry *e;
	const char *rest;
	u32 index = ext4_xattr_index(name, &rest);
	int err;

	if (!index)
		return -EOPNOTSUPP;
	err = find(ei, index, rest, (u32)strlen(rest), &l, &e);
	if (err)
		return err;
	*len = le32_get(e->value_size);
	return size ? value_get(ei, &l, e, buf, size) : 0;
}

int ext4_xattr_load(struct ext4_inode *ei, u32 index, const char *name, u32 name_len, u8 **value, u32 *len)
{
	scoped(ext4_xattr_list_put) struct ext4_xattr_list l = { 0 };
	const struct ext4_disk_xattr_entry *e;
	scoped(freep) u8 *buf = NULL;
	int err = find(ei, index, name, name_len, &l, &e);

	if (err)
		return err;
	*len = le32_get(e->value_size);
	if (*len > VFS_XATTR_MAX)
		return fail(-E2BIG, "an attribute of inode %llu has %u bytes",
			    (unsigned long long)ei->vfs.ino, *len);
	buf = malloc(*len + 1);
	if (!buf)
		return fail(-ENOMEM, "no memory for an attribute");
	err = value_get(ei, &l, e, buf, *len);
	if (!err)
		*value = take(buf);
	return err;
}

/* ---- all names ---- */

static int list_names(const struct ext4_xattr_list *l, xattr_name_fn emit, void *ctx)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	char name[32 + 256];

	while ((e = ext4_xattr_next(l, e))) {
		const char *prefix = e->name_index < ARRAY_SIZE(prefix_of) ? prefix_of[e->name_index] : NULL;
		size_t len = prefix ? strlen(prefix) : 0;
		int err;

		if (!prefix || !e->name_len)
			continue;
		memcpy(name, prefix, len);
		memcpy(name + len, ext4_xattr_entry_name(e), e->name_len);
		name[len + e->name_len] = 0;
		err = emit(ctx, name);
		if (err)
			return err;
	}
	return 0;
}

int ext4_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_xattr_list l;
	int err = ext4_xattr_ibody(ei, &l);

	if (!err) {
		err = list_names(&l, emit, ctx);
		ext4_xattr_list_put(&l);
	}
	if (err && err != -ENODATA)
		return err;
	err = ext4_xattr_block(ei, &l);
	if (!err) {
		err = list_names(&l, emit, ctx);
		ext4_xattr_list_put(&l);
	}
	return err == -ENODATA ? 0 : err;
}
