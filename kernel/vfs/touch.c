/* Times and privileges that other changes drag along, and the plain "set these members" that modules share. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define FRESH_NS 4000000u /* a tick of the kernel's coarse clock */

static _Thread_local bool unprivileged;

bool vfs_privileged(void)
{
	return !unprivileged;
}

void vfs_set_privileged(bool privileged)
{
	unprivileged = !privileged;
}

struct timespec64 super_now(const struct super_block *sb)
{
	return sb->scripted ? sb->script.now : os_now();
}

struct timespec64 inode_now(const struct inode *inode)
{
	struct timespec64 now = super_now(inode->sb);

	now.nsec -= now.nsec % inode->sb->time_gran_ns;
	return now;
}

void inode_set_size(struct inode *inode, u64 size_bytes)
{
	atomic_store(&inode->tail_from, ~0ull);
	atomic_store(&inode->size_bytes, size_bytes);
}

bool inode_grow(struct inode *inode, u64 size_bytes)
{
	u64 known = atomic_load(&inode->size_bytes);

	if (size_bytes <= inode_disk_size(inode))
		return false;
	/* Readers may know of this already, and of more. */
	if (size_bytes > known)
		atomic_store(&inode->size_bytes, size_bytes);
	atomic_store(&inode->tail_from, size_bytes < known ? size_bytes : ~0ull);
	return true;
}

void inode_touch(struct inode *inode, u32 which)
{
	struct timespec64 now = inode_now(inode);

	mutex_lock(&inode->attr);
	if (which & ATTR_ATIME)
		inode->atime = now;
	if (which & ATTR_MTIME)
		inode->mtime = now;
	if (which & ATTR_CTIME)
		inode->ctime = now;
	if (which & (ATTR_MTIME | ATTR_CTIME))
		inode->times_seen = false;
	mutex_unlock(&inode->attr);
}

bool inode_times_fresh(struct inode *inode)
{
	struct timespec64 now = inode_now(inode);
	bool fresh;

	mutex_lock(&inode->attr);
	fresh = !inode->times_seen && inode->mtime.sec == now.sec && inode->ctime.sec == now.sec &&
		inode->mtime.nsec == inode->ctime.nsec && inode->mtime.nsec <= now.nsec &&
		now.nsec - inode->mtime.nsec < FRESH_NS;
	mutex_unlock(&inode->attr);
	return fresh;
}

void inode_apply(struct inode *inode, const struct iattr *a)
{
	mutex_lock(&inode->attr);
	if (a->valid & ATTR_MODE)
		inode->mode = (inode->mode & S_IFMT) | (a->mode & 07777);
	if (a->valid & ATTR_UID)
		inode->uid = a->uid;
	if (a->valid & ATTR_GID)
		inode->gid = a->gid;
	if (a->valid & ATTR_FLAGS)
		inode->flags = a->flags;
	if (a->valid & ATTR_PROJECT)
		inode->project = a->project;
	if (a->valid & ATTR_ATIME)
		inode->atime = a->atime;
	if (a->valid & ATTR_MTIME)
		inode->mtime = a->mtime;
	if (a->valid & ATTR_CTIME)
		inode->ctime = a->ctime;
	if (a->valid & ATTR_BTIME)
		inode->btime = a->btime;
	mutex_unlock(&inode->attr);
}

int inode_kill_priv(struct inode *inode)
{
	struct iattr a = { .valid = ATTR_MODE | ATTR_CTIME };
	u32 mode, keep;
	int err = 0;

	if (inode->ops->setxattr && inode->sb->has_xattr) {
		err = inode->ops->setxattr(inode, "security.capability", NULL, 0, 0);
		if (err && err != -ENODATA && err != -EOPNOTSUPP)
			return err;
	}
	mutex_lock(&inode->attr);
	mode = inode->mode;
	mutex_unlock(&inode->attr);
	keep = mode & ~(u32)S_ISUID;
	/* Set-group-id without group execute is mandatory locking's mark, not a privilege. */
	if (mode & S_IXGRP)
		keep &= ~(u32)S_ISGID;
	if (keep == mode)
		return 0;
	a.mode = keep & 07777;
	a.ctime = inode_now(inode);
	return inode->ops->setattr(inode, &a);
}
