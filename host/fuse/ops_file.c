/* Requests about content: open, read, write, sync, holes, ranges, and the inode flags that ioctl asks for. */
#include "adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

void ll_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	const struct fuse_open_in *in = req_body();
	struct adapter *a = req_adapter(req);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	if (a->noopen) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	if (!err)
		err = vfs_may_open(inode, (u32)fi->flags);
	if (!err && (fi->flags & O_TRUNC)) {
		struct iattr attr = { .valid = ATTR_SIZE };

		if (in->open_flags & FUSE_OPEN_KILL_SUIDGID)
			attr.valid |= ATTR_KILL_PRIV;
		err = vfs_setattr(inode, &attr);
	}
	if (err) {
		reply_err(req, err);
		return;
	}
	/* What the kernel writes back from its cache does not say that it was appended. */
	if (a->opts.writeback && inode->flags & INO_APPEND)
		fi->direct_io = 1;
	fi->keep_cache = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

/* There is no state of an open file: nothing to do. */
void ll_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	reply_err(req, 0);
}

void ll_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	reply_never(req);
}

void ll_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	void *out = this_worker->out;
	u64 done = 0;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (!err)
		err = vfs_read(inode, (u64)off, out, MIN(size, (size_t)REQUEST_MAX), &done);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_buf(req, out, done);
}

void ll_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = req_body();
	u32 flags = in->write_flags & FUSE_WRITE_KILL_SUIDGID ? WRITE_KILL_PRIV : 0;
	bool appends = fi->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
	scoped(vfs_iputp) struct inode *inode = NULL;
	u64 done = 0;
	int err = req_inode(req, nodeid, &inode);

	/* An append-only file takes nothing else. Others: the kernel has placed the bytes where it believes the end. */
	if (!err && appends && inode->flags & INO_APPEND)
		flags |= WRITE_APPEND;
	if (!err)
		err = vfs_write(inode, (u64)off, buf, size, flags, &done);
	if (settled(req_adapter(req), err))
		err = vfs_write(inode, (u64)off, buf, size, flags, &done);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}

void ll_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	reply_err(req, err ? err : vfs_fsync(inode, datasync));
}

void ll_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (!err)
		err = vfs_fallocate(inode, (u32)mode, (u64)off, (u64)len);
	if (settled(req_adapter(req), err))
		err = vfs_fallocate(inode, (u32)mode, (u64)off, (u64)len);
	reply_err(req, err);
}

void ll_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t off, int whence, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	u64 at = 0;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (!err)
		err = vfs_seek(inode, (u64)off, whence, &at);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)at);
}

void ll_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags)
{
	scoped(vfs_iputp) struct inode *from = NULL, *to = NULL;
	u64 done = 0;
	int err = req_inode(req, in, &from);

	(void)in_fi;
	(void)out_fi;
	(void)flags;
	if (!err)
		err = req_inode(req, out, &to);
	if (!err)
		err = vfs_copy_range(from, (u64)in_off, to, (u64)out_off, len, &done);
	if (settled(req_adapter(req), err))
		err = vfs_copy_range(from, (u64)in_off, to, (u64)out_off, len, &done);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}

/* ---- inode flags ---- */

/* FS_IOC_FSGETXATTR speaks of the same flags in other bits. */
static const struct {
	u32 flag, xflag;
} flag_names[] = {
	{ INO_SYNC, FS_XFLAG_SYNC },       { INO_IMMUTABLE, FS_XFLAG_IMMUTABLE },
	{ INO_APPEND, FS_XFLAG_APPEND },   { INO_NODUMP, FS_XFLAG_NODUMP },
	{ INO_NOATIME, FS_XFLAG_NOATIME }, { INO_PROJINHERIT, FS_XFLAG_PROJINHERIT },
};

static void reply_fsxattr(fuse_req_t req, const struct kstat *k)
{
	struct fsxattr x = { .fsx_projid = k->project };

	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (k->flags & flag_names[i].flag)
			x.fsx_xflags |= flag_names[i].xflag;
	fuse_reply_ioctl(req, 0, &x, sizeof(x));
}

static int set_fsxattr(struct inode *inode, const struct kstat *k, const void *in, size_t size)
{
	struct iattr attr = { .valid = ATTR_FLAGS | ATTR_PROJECT, .flags = k->flags };
	struct fsxattr x;

	if (size < sizeof(x))
		return -EINVAL;
	memcpy(&x, in, sizeof(x));
	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++) {
		attr.flags &= ~flag_names[i].flag;
		if (x.fsx_xflags & flag_names[i].xflag)
			attr.flags |= flag_names[i].flag;
	}
	attr.project = x.fsx_projid;
	return vfs_setattr(inode, &attr);
}

static int set_flags(struct inode *inode, const void *in, size_t size)
{
	struct iattr attr = { .valid = ATTR_FLAGS };

	if (size < sizeof(attr.flags))
		return -EINVAL;
	memcpy(&attr.flags, in, sizeof(attr.flags));
	return vfs_setattr(inode, &attr);
}

/* Root, who mounted, and the owner; which flags an owner may change is the kernel's to check. */
static bool may_set_flags(fuse_req_t req, const struct kstat *k)
{
	u32 uid = fuse_req_ctx(req)->uid;

	return !uid || uid == geteuid() || uid == id_show(&req_adapter(req)->opts.ids.uid, k->uid);
}

void ll_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi,
	      unsigned int flags, const void *in_buf, size_t in_size, size_t out_size)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct kstat k;
	int err = req_inode(req, nodeid, &inode);

	(void)arg;
	(void)fi;
	(void)flags;
	(void)out_size;
	if (err) {
		reply_err(req, err);
		return;
	}
	vfs_getattr(inode, &k);
	if ((cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR) && !may_set_flags(req, &k)) {
		reply_err(req, -EPERM);
		return;
	}
	switch (cmd) {
	case FS_IOC_GETFLAGS:
		fuse_reply_ioctl(req, 0, &k.flags, sizeof(k.flags));
		return;
	case FS_IOC_FSGETXATTR:
		reply_fsxattr(req, &k);
		return;
	case FS_IOC_SETFLAGS:
		err = set_flags(inode, in_buf, in_size);
		break;
	case FS_IOC_FSSETXATTR:
		err = set_fsxattr(inode, &k, in_buf, in_size);
		break;
	default:
		err = -ENOTTY;
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}
