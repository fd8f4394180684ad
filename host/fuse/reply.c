/*
 * Between the two sides: attributes, entries and errors on their way out, ids on their way in.
 *
 * An entry counts a lookup before it is sent, since the kernel may forget it at once; when the reply does not
 * arrive (the caller was killed meanwhile) the count is taken back.
 */
#include "adapter.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void reply_err(fuse_req_t req, int err)
{
	/* ENOSYS would switch the operation off for good. */
	fuse_reply_err(req, err == -ENOSYS ? EOPNOTSUPP : -err);
}

void reply_never(fuse_req_t req)
{
	fuse_reply_err(req, ENOSYS);
}

int make_cred(const struct adapter *a, u32 uid, u32 gid, u32 umask, struct cred *out)
{
	if (!id_store(&a->opts.ids.uid, uid, &out->uid))
		return fail(-EOVERFLOW, "user %u has no partner on the volume", uid);
	if (!id_store(&a->opts.ids.gid, gid, &out->gid))
		return fail(-EOVERFLOW, "group %u has no partner on the volume", gid);
	out->umask = a->dont_mask ? umask : 0;
	return 0;
}

bool may_all(u32 uid)
{
	return !uid || uid == geteuid();
}

int sync_names(const struct adapter *a, struct inode *dir)
{
	struct kstat k;

	if (!(a->opts.ms_flags & (MS_SYNCHRONOUS | MS_DIRSYNC))) {
		vfs_getattr(dir, &k);
		if (!(k.flags & (INO_SYNC | INO_DIRSYNC)))
			return 0;
	}
	return vfs_fsync(dir, false);
}

static struct timespec to_timespec(struct timespec64 t)
{
	return (struct timespec){ .tv_sec = (time_t)t.sec, .tv_nsec = t.nsec };
}

void stat_fill(const struct adapter *a, struct inode *inode, struct stat *out)
{
	const struct idmap *ids = &a->opts.ids;
	struct kstat k;

	vfs_getattr(inode, &k);
	*out = (struct stat){
		.st_ino = k.ino,
		.st_mode = mode_show(ids, k.mode),
		.st_nlink = k.nlink,
		.st_uid = id_show(&ids->uid, k.uid),
		.st_gid = id_show(&ids->gid, k.gid),
		.st_rdev = makedev(k.rdev_major, k.rdev_minor),
		.st_size = (off_t)k.size_bytes,
		.st_blocks = (blkcnt_t)k.blocks_512,
		.st_blksize = (blksize_t)k.block_bytes,
		.st_atim = to_timespec(k.atime),
		.st_mtim = to_timespec(k.mtime),
		.st_ctim = to_timespec(k.ctime),
	};
}

/* Where one file answers to many spellings, the kernel may remember none: it would not know when they all go. */
static double name_timeout(const struct inode *dir)
{
	return dir->iflags & I_NO_DCACHE ? 0 : TIMEOUT_SEC;
}

void entry_fill(const struct adapter *a, struct inode *dir, struct inode *inode, struct fuse_entry_param *out)
{
	memset(out, 0, sizeof(*out));
	out->ino = node_id(a->nodes, inode->ino);
	out->generation = inode->generation;
	out->attr_timeout = TIMEOUT_SEC;
	out->entry_timeout = name_timeout(dir);
	stat_fill(a, inode, &out->attr);
}

void reply_attr(fuse_req_t req, struct inode *inode)
{
	struct stat st;

	stat_fill(req_adapter(req), inode, &st);
	fuse_reply_attr(req, &st, TIMEOUT_SEC);
}

void reply_entry(fuse_req_t req, struct inode *dir, struct inode *inode, struct fuse_file_info *fi)
{
	struct adapter *a = req_adapter(req);
	struct fuse_entry_param e;
	int err = node_remember(a->nodes, inode);

	if (err) {
		reply_err(req, err);
		return;
	}
	entry_fill(a, dir, inode, &e);
	err = fi ? fuse_reply_create(req, &e, fi) : fuse_reply_entry(req, &e);
	if (err)
		node_forget(a->nodes, e.ino, 1);
}

void reply_no_entry(fuse_req_t req, struct inode *dir)
{
	struct fuse_entry_param e = { .entry_timeout = dir->sb->folds_case ? 0 : name_timeout(dir) };

	if (e.entry_timeout == 0)
		reply_err(req, -ENOENT);
	else
		fuse_reply_entry(req, &e);
}
