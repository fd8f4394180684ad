/* A volume's files: made, named, changed. Interface: werunos.h. */
#include "api/api.h"

#include "lib/scope.h"
#include <errno.h>
#include <string.h>

/* ---- names ---- */

static int make(struct werunos_volume *v, const char *path, u32 mode, u32 rdev_major, u32 rdev_minor,
		const char *target)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	scoped(vfs_iputp) struct inode *made = NULL;
	const struct name to = NAME(target ? target : "");
	struct name last;
	int err;

	api_begin();
	err = path_place(v->sb, path, &dir, &last);
	/* Only a directory can be called so. */
	if (!err && last.s[last.len] && !S_ISDIR(mode))
		err = -ENOENT;
	if (!err)
		err = vfs_create(dir, &last, mode, rdev_major, rdev_minor, target ? &to : NULL, &v->cred,
				 &made);
	return api_end(err);
}

int werunos_mkdir(struct werunos_volume *v, const char *path, uint32_t mode)
{
	return make(v, path, S_IFDIR | (mode & 07777), 0, 0, NULL);
}

int werunos_symlink(struct werunos_volume *v, const char *target, const char *path)
{
	return make(v, path, S_IFLNK | 0777, 0, 0, target);
}

int werunos_mknod(struct werunos_volume *v, const char *path, uint32_t mode, uint32_t rdev_major,
		  uint32_t rdev_minor)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return make(v, path, mode, rdev_major, rdev_minor, NULL);
	}
	api_begin();
	return api_end(
		fail(-EINVAL, "%s: no device, fifo, socket or file is what mode 0%o says", path, mode));
}

int werunos_link(struct werunos_volume *v, const char *from, const char *path)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct name last;
	int err;

	api_begin();
	err = path_find(v->sb, from, false, &inode);
	if (!err)
		err = path_place(v->sb, path, &dir, &last);
	if (!err && last.s[last.len])
		err = -ENOENT;
	if (!err)
		err = vfs_link(inode, dir, &last);
	return api_end(err);
}

static int remove_name(struct werunos_volume *v, const char *path, bool directory)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct name last;
	int err;

	api_begin();
	err = path_place(v->sb, path, &dir, &last);
	if (!err && last.s[last.len] && !directory)
		err = -ENOTDIR;
	if (!err)
		err = directory ? vfs_rmdir(dir, &last) : vfs_unlink(dir, &last);
	return api_end(err);
}

int werunos_unlink(struct werunos_volume *v, const char *path)
{
	return remove_name(v, path, false);
}

int werunos_rmdir(struct werunos_volume *v, const char *path)
{
	return remove_name(v, path, true);
}

int werunos_rename(struct werunos_volume *v, const char *from, const char *to, uint32_t flags)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	scoped(vfs_iputp) struct inode *to_dir = NULL;
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct name last, to_last;
	int err;

	api_begin();
	err = path_place(v->sb, from, &dir, &last);
	if (!err)
		err = path_place(v->sb, to, &to_dir, &to_last);
	if (!err)
		err = vfs_lookup(dir, &last, &inode);
	if (!err && (last.s[last.len] || to_last.s[to_last.len]) && !is_dir(inode))
		err = -ENOTDIR;
	if (!err)
		err = vfs_rename(dir, &last, to_dir, &to_last, flags);
	return api_end(err);
}

/* ---- attributes ---- */

static int change(struct werunos_volume *v, const char *path, uint32_t flags, const struct iattr *attr)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	api_begin();
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	return api_end(err ? err : vfs_setattr(inode, attr));
}

int werunos_truncate(struct werunos_volume *v, const char *path, uint64_t size_bytes)
{
	return change(v, path, 0, &(struct iattr){ .valid = ATTR_SIZE, .size_bytes = size_bytes });
}

int werunos_chmod(struct werunos_volume *v, const char *path, uint32_t mode)
{
	return change(v, path, 0, &(struct iattr){ .valid = ATTR_MODE, .mode = mode & 07777 });
}

int werunos_chown(struct werunos_volume *v, const char *path, uint32_t flags, uint32_t uid, uint32_t gid)
{
	struct iattr attr = { .uid = uid, .gid = gid };

	if (uid != UINT32_MAX)
		attr.valid |= ATTR_UID;
	if (gid != UINT32_MAX)
		attr.valid |= ATTR_GID;
	return change(v, path, flags, &attr);
}

int werunos_utimes(struct werunos_volume *v, const char *path, uint32_t flags,
		   const struct werunos_time *accessed, const struct werunos_time *modified)
{
	struct iattr attr = { 0 };

	if (accessed) {
		attr.valid |= ATTR_ATIME;
		attr.atime = (struct timespec64){ accessed->sec, accessed->nsec };
	}
	if (modified) {
		attr.valid |= ATTR_MTIME;
		attr.mtime = (struct timespec64){ modified->sec, modified->nsec };
	}
	if ((accessed && accessed->nsec >= 1000000000) || (modified && modified->nsec >= 1000000000)) {
		api_begin();
		return api_end(fail(-EINVAL, "%s: a second has fewer nanoseconds", path));
	}
	return change(v, path, flags, &attr);
}

int werunos_setxattr(struct werunos_volume *v, const char *path, uint32_t flags, const char *name,
		     const void *value, size_t len_bytes, uint32_t xattr_flags)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	api_begin();
	if (len_bytes > VFS_XATTR_MAX)
		return api_end(-E2BIG);
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	return api_end(err ? err : vfs_setxattr(inode, name, value, (u32)len_bytes, xattr_flags));
}

int werunos_removexattr(struct werunos_volume *v, const char *path, uint32_t flags, const char *name)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	api_begin();
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	return api_end(err ? err : vfs_removexattr(inode, name));
}
