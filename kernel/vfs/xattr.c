/*
 * Extended attributes by name: which namespaces exist, who may carry them, and ACLs, which a module keeps in
 * its own form. Who may see what is the caller's question.
 */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool is_acl_name(const char *name, bool *is_default)
{
	*is_default = !strcmp(name, ACL_DEFAULT);
	return *is_default || !strcmp(name, ACL_ACCESS);
}

static int check_name(const struct inode *inode, const char *name)
{
	static const char *const space[] = { "user.", "trusted.", "security.", "system." };
	size_t len = strlen(name);

	if (!len || len > VFS_NAME_MAX)
		return -ERANGE;
	if (!inode->sb->has_xattr)
		return -EOPNOTSUPP;
	if (inode->sb->xattr_prefix && starts_with(name, inode->sb->xattr_prefix))
		return 0;
	for (u32 i = 0; i < ARRAY_SIZE(space); i++) {
		if (!starts_with(name, space[i]))
			continue;
		/* Only files and directories carry user attributes (xattr(7)). */
		if (i == 0 && !is_reg(inode) && !is_dir(inode))
			return -EPERM;
		return name[strlen(space[i])] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

static int get_acl(struct inode *inode, bool is_default, void *buf, u32 size, u32 *len)
{
	scoped(acl_freep) struct acl *acl = NULL;
	int err;

	if (!inode->sb->has_acl || !inode->ops->get_acl || is_symlink(inode))
		return -EOPNOTSUPP;
	err = inode->ops->get_acl(inode, is_default, &acl);
	if (err)
		return err;
	return acl ? acl_to_xattr(acl, buf, size, len) : -ENODATA;
}

int vfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len)
{
	bool is_default;
	int err = check_name(inode, name);

	*len = 0;
	if (err)
		return err == -EPERM ? -ENODATA : err;
	rw_read_lock(&inode->lock);
	if (is_acl_name(name, &is_default))
		err = get_acl(inode, is_default, buf, size, len);
	else if (inode->ops->getxattr)
		err = inode->ops->getxattr(inode, name, buf, size, len);
	else
		err = -ENODATA;
	rw_read_unlock(&inode->lock);
	return err;
}

/* Locks: inode->lock W. value NULL removes. */
static int set_acl(struct inode *inode, bool is_default, const void *value, u32 len)
{
	scoped(acl_freep) struct acl *acl = NULL;
	u32 mode = inode->mode;
	int err = 0;

	if (!inode->sb->has_acl || !inode->ops->set_acl || is_symlink(inode))
		return -EOPNOTSUPP;
	if (value)
		err = acl_from_xattr(value, len, &acl);
	if (err)
		return err;
	if (is_default && !is_dir(inode))
		return acl ? -EACCES : 0;
	if (!value) { /* taking away what is not there changes nothing */
		scoped(acl_freep) struct acl *old = NULL;

		err = inode->ops->get_acl(inode, is_default, &old);
		if (err || !old)
			return err;
	}
	/* An access ACL that the mode can say is kept as the mode. */
	if (acl && !is_default && acl_to_mode(acl, &mode)) {
		acl_free(acl);
		acl = NULL;
	}
	return inode->ops->set_acl(inode, is_default, acl, mode);
}

static int set_or_remove(struct inode *inode, const char *name, const void *value, u32 len, u32 flags)
{
	bool is_default;
	int err = vfs_check_writable(inode->sb);

	if (!err)
		err = check_name(inode, name);
	if (err)
		return err;
	if (len > VFS_XATTR_MAX)
		return -E2BIG;
	rw_write_lock(&inode->lock);
	if (inode->flags & (INO_IMMUTABLE | INO_APPEND))
		err = -EPERM;
	else if (is_acl_name(name, &is_default))
		err = set_acl(inode, is_default, value, len);
	else if (inode->ops->setxattr)
		err = inode->ops->setxattr(inode, name, value, len, flags);
	else
		err = -EOPNOTSUPP;
	rw_write_unlock(&inode->lock);
	return err;
}

int vfs_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags)
{
	if (flags & ~(u32)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	return set_or_remove(inode, name, value ? value : "", len, flags);
}

int vfs_removexattr(struct inode *inode, const char *name)
{
	return set_or_remove(inode, name, NULL, 0, XATTR_REPLACE);
}

struct name_list {
	char *buf;
	u32 size, len;
};

static int list_add_name(void *ctx, const char *name)
{
	struct name_list *l = ctx;
	size_t n = strlen(name) + 1;

	if (l->size) {
		if (n > l->size - l->len)
			return -ERANGE;
		memcpy(l->buf + l->len, name, n);
	}
	l->len += (u32)n;
	return 0;
}

static int list_acl(struct inode *inode, bool is_default, struct name_list *l)
{
	scoped(acl_freep) struct acl *acl = NULL;
	int err = inode->ops->get_acl(inode, is_default, &acl);

	if (err || !acl)
		return err;
	return list_add_name(l, is_default ? ACL_DEFAULT : ACL_ACCESS);
}

int vfs_listxattr(struct inode *inode, char *buf, u32 size, u32 *len)
{
	struct name_list l = { .buf = buf, .size = size };
	int err = 0;

	*len = 0;
	rw_read_lock(&inode->lock);
	if (inode->sb->has_acl && inode->ops->get_acl && !is_symlink(inode)) {
		err = list_acl(inode, false, &l);
		if (!err && is_dir(inode))
			err = list_acl(inode, true, &l);
	}
	if (!err && inode->ops->listxattr)
		err = inode->ops->listxattr(inode, list_add_name, &l);
	rw_read_unlock(&inode->lock);
	if (!err)
		*len = l.len;
	return err;
}
