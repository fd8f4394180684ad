/* Attributes: what stat shows, and changing it. A change of size is a truncate; a change of mode takes the ACL along. */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <string.h>

void vfs_getattr(struct inode *inode, struct kstat *out)
{
	memset(out, 0, sizeof(*out));
	mutex_lock(&inode->attr);
	out->ino = inode->ino;
	out->generation = inode->generation;
	out->mode = inode->mode;
	out->nlink = inode->nlink;
	out->uid = inode->uid;
	out->gid = inode->gid;
	out->rdev_major = inode->rdev_major;
	out->rdev_minor = inode->rdev_minor;
	out->size_bytes = atomic_load(&inode->size_bytes);
	out->blocks_512 = inode->blocks_512 + inode->tail_512;
	out->block_bytes = inode->sb->block_bytes;
	out->flags = inode->flags;
	out->project = inode->project;
	out->atime = inode->atime;
	out->mtime = inode->mtime;
	out->ctime = inode->ctime;
	out->btime = inode->btime;
	out->has_btime = inode->btime.sec || inode->btime.nsec;
	inode->times_seen = true;
	mutex_unlock(&inode->attr);
}

int vfs_digest(struct inode *inode, struct file_digest *out)
{
	return inode->ops->digest ? inode->ops->digest(inode, out) : -ENODATA;
}

/* chmod of a file with an access ACL: the mask (else the group entry) takes the group bits. Locks: inode->lock W. */
static int acl_chmod(struct inode *inode, u32 mode)
{
	scoped(acl_freep) struct acl *acl = NULL;
	bool has_mask = false;
	int err;

	if (!inode->sb->has_acl || !inode->ops->get_acl || !inode->ops->set_acl)
		return 0;
	err = inode->ops->get_acl(inode, false, &acl);
	if (err || !acl)
		return err;
	for (u32 i = 0; i < acl->count; i++)
		has_mask |= acl->e[i].tag == ACL_MASK;
	for (u32 i = 0; i < acl->count; i++) {
		struct acl_entry *e = &acl->e[i];

		if (e->tag == ACL_USER_OBJ)
			e->perm = mode >> 6 & 7;
		else if (e->tag == ACL_OTHER)
			e->perm = mode & 7;
		else if (e->tag == (has_mask ? ACL_MASK : ACL_GROUP_OBJ))
			e->perm = mode >> 3 & 7;
	}
	return inode->ops->set_acl(inode, false, acl, mode);
}

int vfs_setattr(struct inode *inode, const struct iattr *attr)
{
	struct iattr a = *attr;
	u32 flags;
	int err = vfs_check_writable(inode->sb);

	if (err)
		return err;
	if (!inode->ops->setattr)
		return -EOPNOTSUPP;
	if (a.valid & ATTR_SIZE) {
		err = vfs_truncate(inode, a.size_bytes);
		if (err)
			return err;
	}
	rw_write_lock(&inode->lock);
	flags = inode->flags;
	/* The flags themselves may change on a file that is immutable or append-only; times of the latter too. */
	if (flags & (INO_IMMUTABLE | INO_APPEND) &&
	    a.valid & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_PROJECT))
		err = -EPERM;
	if (flags & INO_IMMUTABLE && a.valid & (ATTR_ATIME | ATTR_MTIME))
		err = -EPERM;
	if (!err && a.valid & ATTR_KILL_PRIV)
		err = inode_kill_priv(inode);
	a.valid &= ~(ATTR_SIZE | ATTR_KILL_PRIV);
	if (!err && a.valid && !(a.valid & ATTR_CTIME)) {
		a.valid |= ATTR_CTIME;
		a.ctime = inode_now(inode);
	}
	a.atime.nsec -= a.atime.nsec % inode->sb->time_gran_ns;
	a.mtime.nsec -= a.mtime.nsec % inode->sb->time_gran_ns;
	/* Flags may change how data is written: what was accepted under the old ones is written as they say. */
	if (!err && a.valid & ATTR_FLAGS)
		err = tail_flush(inode);
	if (!err && a.valid)
		err = inode->ops->setattr(inode, &a);
	if (!err && a.valid & ATTR_MODE)
		err = acl_chmod(inode, (inode->mode & S_IFMT) | (a.mode & 07777));
	rw_write_unlock(&inode->lock);
	return err;
}

int vfs_ioctl(struct inode *inode, u32 cmd, bool privileged, const void *in, u32 in_bytes, void *out,
	      u32 *out_bytes)
{
	return inode->ops->ioctl ? inode->ops->ioctl(inode, cmd, privileged, in, in_bytes, out, out_bytes)
				 : -ENOTTY;
}
