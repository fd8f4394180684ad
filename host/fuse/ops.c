/*
 * Requests about names and attributes, INIT, and the table of all requests. One short function per request: find
 * the inodes, translate what the kernel says, call vfs, reply. Nothing is remembered between requests but the
 * lookup counts (ino.c), and the kernel is never notified from inside a request.
 */
#include "adapter.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>

static void ll_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			      FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR |
			      FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_NO_OPEN_SUPPORT |
			      FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_DONT_MASK;
	const struct fuse_init_in *in = req_body();
	struct adapter *a = userdata;

	a->noopen = a->opts.noopen && (conn->capable & FUSE_CAP_NO_OPEN_SUPPORT);
	a->noopendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
	/* libfuse cannot ask for it: session.c adds it to the reply. */
	a->killpriv = in->flags & FUSE_HANDLE_KILLPRIV_V2;
	/* Without AUTO_INVAL_DATA: nobody else writes, so a changed time is our own doing. */
	conn->want = want;
	/* Where the kernel tells of no opens, truncation must come as SETATTR. */
	if (!a->noopen)
		conn->want |= FUSE_CAP_ATOMIC_O_TRUNC;
	if (a->sb->has_acl)
		conn->want |= FUSE_CAP_POSIX_ACL;
	if (a->opts.writeback)
		conn->want |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want &= conn->capable;
	a->dont_mask = conn->want & FUSE_CAP_DONT_MASK;
	conn->max_write = REQUEST_MAX;
	conn->max_readahead = REQUEST_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = a->sb->time_gran_ns ? a->sb->time_gran_ns : 1;
	eventfd_write(a->ready_fd, 1);
}

static void ll_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	scoped(vfs_iputp) struct inode *dir = NULL, *inode = NULL;
	int err = req_inode(req, parent, &dir);

	if (!err)
		err = vfs_lookup(dir, &NAME(name), &inode);
	if (!err)
		reply_entry(req, dir, inode, NULL);
	else if (err == -ENOENT)
		reply_no_entry(req, dir);
	else
		reply_err(req, err);
}

static void ll_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t count)
{
	node_forget(req_adapter(req)->nodes, nodeid, count);
	fuse_reply_none(req);
}

static void ll_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(req_adapter(req)->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void ll_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (err)
		reply_err(req, err);
	else
		reply_attr(req, inode);
}

/* ---- changing attributes ---- */

static struct timespec64 from_timespec(struct timespec t)
{
	return (struct timespec64){ .sec = t.tv_sec, .nsec = (u32)t.tv_nsec };
}

static void attr_times(const struct stat *st, int set, struct iattr *attr)
{
	struct timespec64 now = os_now();

	if (set & FUSE_SET_ATTR_ATIME) {
		attr->valid |= ATTR_ATIME;
		attr->atime = set & FUSE_SET_ATTR_ATIME_NOW ? now : from_timespec(st->st_atim);
	}
	if (set & FUSE_SET_ATTR_MTIME) {
		attr->valid |= ATTR_MTIME;
		attr->mtime = set & FUSE_SET_ATTR_MTIME_NOW ? now : from_timespec(st->st_mtim);
	}
	if (set & FUSE_SET_ATTR_CTIME) {
		attr->valid |= ATTR_CTIME;
		attr->ctime = from_timespec(st->st_ctim);
	}
}

/* A change of owner also clears set-id bits of what is no directory, as chown(2) says. */
static int attr_owner(const struct adapter *a, struct inode *inode, const struct stat *st, int set,
		      struct iattr *attr)
{
	const struct idmap *ids = &a->opts.ids;
	struct kstat now;

	if (!(set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		return 0;
	vfs_getattr(inode, &now);
	if (set & FUSE_SET_ATTR_UID) {
		attr->valid |= ATTR_UID;
		if (!id_change(&ids->uid, now.uid, st->st_uid, &attr->uid))
			return fail(-EOVERFLOW, "user %u has no partner on the volume", st->st_uid);
	}
	if (set & FUSE_SET_ATTR_GID) {
		attr->valid |= ATTR_GID;
		if (!id_change(&ids->gid, now.gid, st->st_gid, &attr->gid))
			return fail(-EOVERFLOW, "group %u has no partner on the volume", st->st_gid);
	}
	if (!is_dir(inode) && a->killpriv)
		attr->valid |= ATTR_KILL_PRIV;
	return 0;
}

static void ll_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *st, int set, struct fuse_file_info *fi)
{
	const struct fuse_setattr_in *in = req_body();
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct iattr attr = { 0 };
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (set & FUSE_SET_ATTR_MODE) {
		attr.valid |= ATTR_MODE;
		attr.mode = st->st_mode & 07777;
	}
	if (set & FUSE_SET_ATTR_SIZE) {
		attr.valid |= ATTR_SIZE;
		attr.size_bytes = (u64)st->st_size;
	}
	if (in->valid & FATTR_KILL_SUIDGID)
		attr.valid |= ATTR_KILL_PRIV;
	attr_times(st, set, &attr);
	if (!err)
		err = attr_owner(req_adapter(req), inode, st, set, &attr);
	if (!err)
		err = vfs_setattr(inode, &attr);
	if (settled(req_adapter(req), err))
		err = vfs_setattr(inode, &attr);
	if (err)
		reply_err(req, err);
	else
		reply_attr(req, inode);
}

static void ll_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	char *out = this_worker->out;
	u32 len = 0;
	int err = req_inode(req, nodeid, &inode);

	if (!err)
		err = vfs_readlink(inode, out, VFS_PATH_MAX, &len);
	if (err) {
		reply_err(req, err);
		return;
	}
	out[len] = 0;
	vfs_accessed(inode);
	fuse_reply_readlink(req, out);
}

/* ---- making, moving and removing names ---- */

struct new_file {
	const char *name;
	mode_t mode;
	dev_t rdev;
	const char *target; /* symlinks */
	struct fuse_file_info *fi;
};

static void make(fuse_req_t req, fuse_ino_t parent, const struct new_file *f)
{
	scoped(vfs_iputp) struct inode *dir = NULL, *inode = NULL;
	struct name target = NAME(f->target ? f->target : ""), name = NAME(f->name);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct adapter *a = req_adapter(req);
	struct cred cred;
	int err = req_inode(req, parent, &dir);

	if (!err)
		err = make_cred(a, ctx->uid, ctx->gid, ctx->umask, &cred);
	if (!err) {
		const u32 maj = major(f->rdev), min = minor(f->rdev);

		err = vfs_create(dir, &name, f->mode, maj, min, f->target ? &target : NULL, &cred, &inode);
		if (settled(a, err))
			err = vfs_create(dir, &name, f->mode, maj, min, f->target ? &target : NULL, &cred,
					 &inode);
	}
	if (!err)
		err = sync_names(a, dir);
	if (err)
		reply_err(req, err);
	else
		reply_entry(req, dir, inode, f->fi);
}

static void ll_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, &(struct new_file){ .name = name, .mode = mode, .rdev = rdev });
}

static void ll_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, &(struct new_file){ .name = name, .mode = S_IFDIR | (mode & 07777) });
}

static void ll_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, &(struct new_file){ .name = name, .mode = S_IFLNK | 0777, .target = target });
}

static void ll_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fi->noflush = 1;
	fi->fh = vfs_moment(req_adapter(req)->sb);
	make(req, parent, &(struct new_file){ .name = name, .mode = S_IFREG | (mode & 07777), .fi = fi });
}

static void ll_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t new_parent, const char *name)
{
	scoped(vfs_iputp) struct inode *inode = NULL, *dir = NULL;
	int err = req_inode(req, nodeid, &inode);

	if (!err)
		err = req_inode(req, new_parent, &dir);
	if (!err)
		err = vfs_link(inode, dir, &NAME(name));
	if (settled(req_adapter(req), err))
		err = vfs_link(inode, dir, &NAME(name));
	if (!err)
		err = sync_names(req_adapter(req), dir);
	if (err)
		reply_err(req, err);
	else
		reply_entry(req, dir, inode, NULL);
}

/* The kernel may go on using a file whose last name went. */
static void keep_nameless(struct adapter *a, struct inode *inode)
{
	struct kstat k;

	vfs_getattr(inode, &k);
	if (!k.nlink)
		node_unlinked(a->nodes, inode);
}

static void unlink_or_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name,
			    int (*remove)(struct inode *, const struct name *))
{
	scoped(vfs_iputp) struct inode *dir = NULL, *inode = NULL;
	int err = req_inode(req, parent, &dir);

	if (!err)
		err = vfs_lookup(dir, &NAME(name), &inode);
	if (!err)
		err = remove(dir, &NAME(name));
	if (!err)
		keep_nameless(req_adapter(req), inode);
	reply_err(req, err ? err : sync_names(req_adapter(req), dir));
}

static void ll_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_or_rmdir(req, parent, name, vfs_unlink);
}

static void ll_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	unlink_or_rmdir(req, parent, name, vfs_rmdir);
}

static void ll_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned int flags)
{
	scoped(vfs_iputp) struct inode *dir = NULL, *new_dir = NULL, *victim = NULL;
	int err = req_inode(req, parent, &dir);

	if (!err)
		err = req_inode(req, new_parent, &new_dir);
	if (!err)
		err = vfs_lookup(new_dir, &NAME(new_name), &victim);
	if (!err || err == -ENOENT)
		err = vfs_rename(dir, &NAME(name), new_dir, &NAME(new_name), flags);
	if (settled(req_adapter(req), err))
		err = vfs_rename(dir, &NAME(name), new_dir, &NAME(new_name), flags);
	if (!err && victim)
		keep_nameless(req_adapter(req), victim);
	if (!err)
		err = sync_names(req_adapter(req), new_dir);
	reply_err(req, err);
}

/* ---- the whole volume ---- */

static void ll_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
	struct kstatfs k;
	struct statvfs st;
	int err = vfs_statfs(req_adapter(req)->sb, &k);

	(void)nodeid;
	if (err) {
		reply_err(req, err);
		return;
	}
	st = (struct statvfs){
		.f_bsize = k.block_bytes,
		.f_frsize = k.block_bytes,
		.f_blocks = k.blocks,
		.f_bfree = k.blocks_free,
		.f_bavail = k.blocks_avail,
		.f_files = k.inodes,
		.f_ffree = k.inodes_free,
		.f_favail = k.inodes_free,
		.f_namemax = k.name_max,
		.f_fsid = k.fsid,
	};
	fuse_reply_statfs(req, &st);
}

static void ll_opendir(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	if (req_adapter(req)->noopendir) {
		reply_never(req);
		return;
	}
	fi->keep_cache = 1;
	fi->cache_readdir = 1;
	fuse_reply_open(req, fi);
}

const struct fuse_lowlevel_ops adapter_ops = {
	.init = ll_init,
	.lookup = ll_lookup,
	.forget = ll_forget,
	.forget_multi = ll_forget_multi,
	.getattr = ll_getattr,
	.setattr = ll_setattr,
	.readlink = ll_readlink,
	.mknod = ll_mknod,
	.mkdir = ll_mkdir,
	.symlink = ll_symlink,
	.create = ll_create,
	.link = ll_link,
	.unlink = ll_unlink,
	.rmdir = ll_rmdir,
	.rename = ll_rename,
	.statfs = ll_statfs,
	.opendir = ll_opendir,
	.releasedir = ll_release,
	.readdir = ll_readdir,
	.readdirplus = ll_readdirplus,
	.fsyncdir = ll_fsync,
	.open = ll_open,
	.release = ll_release,
	.flush = ll_flush,
	.read = ll_read,
	.write = ll_write,
	.fsync = ll_fsync,
	.fallocate = ll_fallocate,
	.lseek = ll_lseek,
	.copy_file_range = ll_copy_file_range,
	.ioctl = ll_ioctl,
	.getxattr = ll_getxattr,
	.setxattr = ll_setxattr,
	.listxattr = ll_listxattr,
	.removexattr = ll_removexattr,
};
