/* Requests about extended attributes. ACLs are attributes with known names; the ids in them are translated. */
#include "adapter.h"

#include <errno.h>
#include <string.h>

static bool is_acl(const char *name)
{
	return !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");
}

/*
 * ls asks every file for its label, and stops asking a file system that says it has no such thing. A volume says so whose root directory has
 * none, until one is met or given: where labels are in use the root has one.
 */
#define LABEL "security.selinux"

static int label_error(struct adapter *a, const char *name, int err)
{
	if (strcmp(name, LABEL) != 0)
		return err;
	if (!err || err == -ERANGE)
		atomic_store(&a->has_labels, true);
	return err == -ENODATA && !atomic_load(&a->has_labels) ? -EOPNOTSUPP : err;
}

void labels_find(struct adapter *a)
{
	scoped(vfs_iputp) struct inode *root = NULL;
	u32 len;

	if (a->sb->has_xattr && !vfs_iget(a->sb, a->sb->root_ino, &root) &&
	    !vfs_getxattr(root, LABEL, NULL, 0, &len))
		atomic_store(&a->has_labels, true);
	err_clear();
}

void ll_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
	struct adapter *a = req_adapter(req);
	scoped(vfs_iputp) struct inode *inode = NULL;
	char *out = this_worker->out;
	u32 len = 0;
	int err;

	if (!a->sb->has_xattr) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	if (!err)
		err = vfs_getxattr(inode, name, out, (u32)MIN(size, (size_t)VFS_XATTR_MAX), &len);
	err = label_error(a, name, err);
	if (!err && size && is_acl(name))
		err = acl_show(&a->opts.ids, out, len);
	if (err)
		reply_err(req, err);
	else if (size)
		fuse_reply_buf(req, out, len);
	else
		fuse_reply_xattr(req, len);
}

void ll_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
	struct adapter *a = req_adapter(req);
	scoped(vfs_iputp) struct inode *inode = NULL;
	char *out = this_worker->out;
	u32 len = 0;
	int err;

	if (!a->sb->has_xattr) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	if (!err)
		err = vfs_listxattr(inode, out, (u32)MIN(size, (size_t)REQUEST_MAX), &len);
	if (err)
		reply_err(req, err);
	else if (size)
		fuse_reply_buf(req, out, len);
	else
		fuse_reply_xattr(req, len);
}

void ll_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size,
		 int flags)
{
	struct adapter *a = req_adapter(req);
	scoped(vfs_iputp) struct inode *inode = NULL;
	char *copy = this_worker->out;
	int err;

	if (!a->sb->has_xattr) {
		reply_never(req);
		return;
	}
	err = size > VFS_XATTR_MAX ? -E2BIG : req_inode(req, nodeid, &inode);
	if (!err) {
		memcpy(copy, value, size);
		if (is_acl(name))
			err = acl_store(&a->opts.ids, copy, (u32)size);
	}
	if (!err)
		err = vfs_setxattr(inode, name, copy, (u32)size, (u32)flags);
	if (settled(a, err))
		err = vfs_setxattr(inode, name, copy, (u32)size, (u32)flags);
	reply_err(req, label_error(a, name, err));
}

void ll_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	if (!req_adapter(req)->sb->has_xattr) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	reply_err(req, err ? err : vfs_removexattr(inode, name));
}
