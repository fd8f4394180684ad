/*
 * A volume mounted in this process, called through vfs.h as the FUSE adapter calls it. What the kernel decides in
 * front of an adapter (access modes of descriptors, when a write kills set-id bits) is decided here.
 */
#include "support/fsapi.h"

#include "fs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vfs_priv {
	struct super_block *sb;
	struct blkdev *dev;
	struct inode *start; /* the directory entered; NULL: the root */
	struct cred cred;
};

static struct vfs_priv *priv(struct fs *fs)
{
	return fs->priv;
}

static struct super_block *sb_of(struct fs *fs)
{
	return priv(fs)->sb;
}

struct super_block *fs_vfs_sb(struct fs *fs)
{
	return sb_of(fs);
}

static struct inode *inode_of(const struct fs_file *f)
{
	return ((struct file *)f->in)->inode;
}

static bool readable(const struct fs_file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool writable(const struct fs_file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY;
}

static int at(struct fs *fs, const char *path, bool follow, struct inode **out)
{
	return vfs_path(sb_of(fs), priv(fs)->start, *path ? path : ".", follow, out);
}

static int parent(struct fs *fs, const char *path, struct inode **dir, struct name *last)
{
	return vfs_path_parent(sb_of(fs), priv(fs)->start, *path ? path : ".", dir, last);
}

static int v_open(struct fs *fs, const char *path, int flags, u32 mode, struct fs_file *out)
{
	struct file *f;
	int err = vfs_open(sb_of(fs), priv(fs)->start, *path ? path : ".", (u32)flags, mode, &priv(fs)->cred,
			   &f);

	if (err)
		return err;
	*out = (struct fs_file){ .fd = -1, .in = f, .flags = flags };
	return 0;
}

static void v_close(struct fs *fs, struct fs_file *f)
{
	(void)fs;
	vfs_close(f->in);
}

static int v_pread(struct fs *fs, struct fs_file *f, u64 off, void *buf, u64 len, u64 *done)
{
	(void)fs;
	*done = 0;
	return readable(f) ? vfs_read(inode_of(f), off, buf, len, done) : -EBADF;
}

static int v_pwrite(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len, u64 *done)
{
	u32 flags = (f->flags & O_APPEND ? WRITE_APPEND : 0) | (priv(fs)->cred.uid ? WRITE_KILL_PRIV : 0);

	*done = 0;
	if (!writable(f))
		return -EBADF;
	return len ? vfs_write(inode_of(f), off, buf, len, flags, done) : 0;
}

static int resize(struct fs *fs, struct inode *inode, u64 size)
{
	struct iattr a = { .valid = ATTR_SIZE | (priv(fs)->cred.uid ? ATTR_KILL_PRIV : 0),
			   .size_bytes = size };

	return vfs_setattr(inode, &a);
}

static int v_ftruncate(struct fs *fs, struct fs_file *f, u64 size)
{
	if (!writable(f) || (s64)size < 0)
		return -EINVAL;
	return resize(fs, inode_of(f), size);
}

/* What the kernel asks of an adapter before a change that carries no flag of its own for it. */
static int kill_priv(struct fs *fs, struct fs_file *f)
{
	struct iattr a = { .valid = ATTR_KILL_PRIV };

	return priv(fs)->cred.uid ? vfs_setattr(inode_of(f), &a) : 0;
}

static int v_fallocate(struct fs *fs, struct fs_file *f, int mode, u64 off, u64 len)
{
	int err;

	if (!len || (s64)off < 0 || (s64)len < 0)
		return -EINVAL;
	if (!writable(f))
		return -EBADF;
	err = kill_priv(fs, f);
	if (err)
		return err;
	return vfs_fallocate(inode_of(f), (u32)mode, off, len);
}

static int v_seek(struct fs *fs, struct fs_file *f, u64 off, int whence, u64 *out)
{
	(void)fs;
	return (s64)off < 0 ? -ENXIO : vfs_seek(inode_of(f), off, whence, out);
}

static int v_copy_range(struct fs *fs, struct fs_file *in, u64 in_off, struct fs_file *out, u64 out_off,
			u64 len, u64 *done)
{
	(void)fs;
	*done = 0;
	if (is_dir(inode_of(in)) || is_dir(inode_of(out)))
		return -EISDIR;
	if (!readable(in) || !writable(out) || out->flags & O_APPEND)
		return -EBADF;
	return vfs_copy_range(inode_of(in), in_off, inode_of(out), out_off, len, done);
}

static int v_fsync(struct fs *fs, struct fs_file *f, bool data_only)
{
	(void)fs;
	return vfs_fsync(inode_of(f), data_only);
}

static void stat_out(struct inode *inode, struct fs_stat *out)
{
	struct kstat k;

	vfs_getattr(inode, &k);
	*out = (struct fs_stat){ .ino = k.ino,
				 .size = k.size_bytes,
				 .blocks_512 = k.blocks_512,
				 .mode = k.mode,
				 .nlink = k.nlink,
				 .uid = k.uid,
				 .gid = k.gid,
				 .rdev_major = k.rdev_major,
				 .rdev_minor = k.rdev_minor,
				 .block_bytes = k.block_bytes,
				 .atime = { k.atime.sec, k.atime.nsec },
				 .mtime = { k.mtime.sec, k.mtime.nsec },
				 .ctime = { k.ctime.sec, k.ctime.nsec } };
}

static int v_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out)
{
	(void)fs;
	stat_out(inode_of(f), out);
	return 0;
}

static int link_to(struct fs *fs, struct inode *inode, const char *path)
{
	struct inode *dir;
	struct name last;
	int err = parent(fs, path, &dir, &last);

	if (err)
		return err;
	err = vfs_link(inode, dir, &last);
	vfs_iput(dir);
	return err;
}

static int v_flink(struct fs *fs, struct fs_file *f, const char *path)
{
	return link_to(fs, inode_of(f), path);
}

struct dirents {
	struct fs_dirent *out;
	u32 max, n;
};

static int take_dirent(void *ctx, const struct dirent_out *de)
{
	struct dirents *d = ctx;
	struct fs_dirent *o = &d->out[d->n];

	if (d->n == d->max)
		return 1;
	*o = (struct fs_dirent){ .ino = de->ino, .next_pos = de->next_pos, .type = de->type };
	if (de->name.len > NAME_MAX)
		return -EUCLEAN;
	memcpy(o->name, de->name.s, de->name.len);
	d->n++;
	return 0;
}

static int v_readdir(struct fs *fs, struct fs_file *f, u64 pos, struct fs_dirent *out, u32 max, u32 *n)
{
	struct dirents d = { .out = out, .max = max };
	int err = vfs_readdir(inode_of(f), pos, take_dirent, &d);

	(void)fs;
	*n = d.n;
	return err;
}

static int v_defrag(struct fs *fs, struct fs_file *f, u64 *moved)
{
	u64 pos = 0, part;
	int err = is_reg(inode_of(f)) && !inode_of(f)->ops->defrag ? -EOPNOTSUPP : 0;

	(void)fs;
	*moved = 0;
	while (!err && pos != ~0ull) {
		err = vfs_defrag(inode_of(f), &pos, &part);
		*moved += part;
	}
	return err;
}

static int v_get_flags(struct fs *fs, struct fs_file *f, u32 *flags)
{
	struct kstat k;

	(void)fs;
	vfs_getattr(inode_of(f), &k);
	*flags = k.flags;
	return 0;
}

static int v_set_flags(struct fs *fs, struct fs_file *f, u32 flags)
{
	struct iattr a = { .valid = ATTR_FLAGS, .flags = flags };

	if (priv(fs)->cred.uid)
		return -EPERM;
	return vfs_setattr(inode_of(f), &a);
}

static int v_stat(struct fs *fs, const char *path, bool follow, struct fs_stat *out)
{
	struct inode *inode;
	int err = at(fs, path, follow, &inode);

	if (err)
		return err;
	stat_out(inode, out);
	vfs_iput(inode);
	return 0;
}

static int create(struct fs *fs, const char *path, u32 mode, u32 major, u32 minor, const char *target)
{
	struct inode *dir, *inode;
	struct name last, to = { target, target ? (u32)strlen(target) : 0 };
	int err = parent(fs, path, &dir, &last);

	if (err)
		return err;
	err = vfs_create(dir, &last, mode, major, minor, target ? &to : NULL, &priv(fs)->cred, &inode);
	if (!err)
		vfs_iput(inode);
	vfs_iput(dir);
	return err;
}

static int v_mkdir(struct fs *fs, const char *path, u32 mode)
{
	return create(fs, path, S_IFDIR | (mode & 01777), 0, 0, NULL);
}

static int v_mknod(struct fs *fs, const char *path, u32 mode, u32 major, u32 minor)
{
	bool device = S_ISCHR(mode) || S_ISBLK(mode);

	/* A whiteout needs no privilege. */
	if (device && priv(fs)->cred.uid && !(S_ISCHR(mode) && !major && !minor))
		return -EPERM;
	if (S_ISDIR(mode))
		return -EPERM;
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	return create(fs, path, mode, device ? major : 0, device ? minor : 0, NULL);
}

static int v_symlink(struct fs *fs, const char *target, const char *path)
{
	return create(fs, path, S_IFLNK | 0777, 0, 0, target);
}

static int remove_by(struct fs *fs, const char *path, int (*fn)(struct inode *, const struct name *))
{
	struct inode *dir;
	struct name last;
	int err = parent(fs, path, &dir, &last);

	if (err)
		return err;
	err = fn(dir, &last);
	vfs_iput(dir);
	return err;
}

static int v_rmdir(struct fs *fs, const char *path)
{
	return remove_by(fs, path, vfs_rmdir);
}

static int v_unlink(struct fs *fs, const char *path)
{
	return remove_by(fs, path, vfs_unlink);
}

static int v_rename(struct fs *fs, const char *from, const char *to, u32 flags)
{
	struct inode *dir[2];
	struct name last[2];
	int err = parent(fs, from, &dir[0], &last[0]);

	if (err)
		return err;
	err = parent(fs, to, &dir[1], &last[1]);
	if (!err) {
		err = vfs_rename(dir[0], &last[0], dir[1], &last[1], flags);
		vfs_iput(dir[1]);
	}
	vfs_iput(dir[0]);
	return err;
}

static int v_link(struct fs *fs, const char *from, const char *to)
{
	struct inode *inode;
	int err = at(fs, from, false, &inode);

	if (err)
		return err;
	err = link_to(fs, inode, to);
	vfs_iput(inode);
	return err;
}

static int v_readlink(struct fs *fs, const char *path, char *out)
{
	struct inode *inode;
	u32 len = 0;
	int err = at(fs, path, false, &inode);

	if (err)
		return err;
	err = vfs_readlink(inode, out, PATH_MAX - 1, &len);
	out[len] = 0;
	vfs_iput(inode);
	return err;
}

static int v_truncate(struct fs *fs, const char *path, u64 size)
{
	struct inode *inode;
	int err = at(fs, path, true, &inode);

	if (err)
		return err;
	err = (s64)size < 0 ? -EINVAL : resize(fs, inode, size);
	vfs_iput(inode);
	return err;
}

static int change(struct fs *fs, const char *path, bool follow, const struct iattr *a)
{
	struct inode *inode;
	int err = at(fs, path, follow, &inode);

	if (err)
		return err;
	err = vfs_setattr(inode, a);
	vfs_iput(inode);
	return err;
}

static int v_chmod(struct fs *fs, const char *path, u32 mode)
{
	struct iattr a = { .valid = ATTR_MODE, .mode = mode & 07777 };

	return change(fs, path, true, &a);
}

static int v_chown(struct fs *fs, const char *path, u32 uid, u32 gid)
{
	struct iattr a = { .uid = uid, .gid = gid };
	struct fs_stat st;
	int err = v_stat(fs, path, false, &st);

	if (err)
		return err;
	a.valid = (uid == ~0u ? 0 : ATTR_UID) | (gid == ~0u ? 0 : ATTR_GID) |
		  (S_ISDIR(st.mode) ? 0 : ATTR_KILL_PRIV) | ATTR_CTIME;
	a.ctime = os_now();
	return change(fs, path, false, &a);
}

static bool want_time(const struct timespec *t, const struct timespec64 *now, struct timespec64 *out)
{
	*out = t->tv_nsec == UTIME_NOW ? *now : (struct timespec64){ t->tv_sec, (u32)t->tv_nsec };
	return t->tv_nsec != UTIME_OMIT;
}

static int v_utimens(struct fs *fs, const char *path, const struct timespec t[2])
{
	struct timespec64 now = os_now();
	struct iattr a = { 0 };

	for (int i = 0; i < 2; i++)
		if ((t[i].tv_nsec < 0 || t[i].tv_nsec > 999999999) && t[i].tv_nsec != UTIME_NOW &&
		    t[i].tv_nsec != UTIME_OMIT)
			return -EINVAL;
	a.valid |= want_time(&t[0], &now, &a.atime) ? ATTR_ATIME : 0;
	a.valid |= want_time(&t[1], &now, &a.mtime) ? ATTR_MTIME : 0;
	return a.valid ? change(fs, path, false, &a) : 0;
}

static int v_getxattr(struct fs *fs, const char *path, const char *name, void *buf, u32 size, u32 *len)
{
	struct inode *inode;
	int err = at(fs, path, false, &inode);

	*len = 0;
	if (err)
		return err;
	err = vfs_getxattr(inode, name, buf, size, len);
	vfs_iput(inode);
	return err;
}

static int v_setxattr(struct fs *fs, const char *path, const char *name, const void *v, u32 len, int flags)
{
	struct inode *inode;
	int err = at(fs, path, false, &inode);

	if (err)
		return err;
	err = vfs_setxattr(inode, name, v, len, (u32)flags);
	vfs_iput(inode);
	return err;
}

static int v_removexattr(struct fs *fs, const char *path, const char *name)
{
	struct inode *inode;
	int err = at(fs, path, false, &inode);

	if (err)
		return err;
	err = vfs_removexattr(inode, name);
	vfs_iput(inode);
	return err;
}

static int v_listxattr(struct fs *fs, const char *path, char *buf, u32 size, u32 *len)
{
	struct inode *inode;
	int err = at(fs, path, false, &inode);

	*len = 0;
	if (err)
		return err;
	err = vfs_listxattr(inode, buf, size, len);
	vfs_iput(inode);
	return err;
}

static int v_enter(struct fs *fs, const char *path)
{
	struct inode *inode = NULL;
	int err = path ? vfs_path(sb_of(fs), NULL, path, true, &inode) : 0;

	if (err)
		return err;
	vfs_iput(priv(fs)->start);
	priv(fs)->start = inode;
	return 0;
}

static int v_statfs(struct fs *fs, struct fs_statfs *out)
{
	struct kstatfs k;
	int err = vfs_statfs(sb_of(fs), &k);

	if (err)
		return err;
	*out = (struct fs_statfs){ .blocks = k.blocks,
				   .blocks_free = k.blocks_free,
				   .blocks_avail = k.blocks_avail,
				   .inodes = k.inodes,
				   .inodes_free = k.inodes_free,
				   .block_bytes = k.block_bytes,
				   .name_max = k.name_max };
	return 0;
}

static int v_sync(struct fs *fs)
{
	return vfs_sync(sb_of(fs));
}

static int v_as(struct fs *fs, u32 uid, u32 gid, u32 umask)
{
	priv(fs)->cred = (struct cred){ uid, gid, umask };
	return 0;
}

static void v_forget(struct fs *fs)
{
	vfs_shrink(sb_of(fs));
}

static void v_free(struct fs *fs)
{
	int err;

	vfs_iput(priv(fs)->start);
	err = vfs_unmount(sb_of(fs));
	if (err)
		fprintf(stderr, "unmount: %s\n", strerror(-err));
	blkdev_put(priv(fs)->dev);
	free(fs->priv);
}

static const struct fs_ops vfs_ops = {
	.kind = "vfs",
	.open = v_open,
	.close = v_close,
	.pread = v_pread,
	.pwrite = v_pwrite,
	.ftruncate = v_ftruncate,
	.fallocate = v_fallocate,
	.seek = v_seek,
	.copy_range = v_copy_range,
	.fsync = v_fsync,
	.defrag = v_defrag,
	.fstat = v_fstat,
	.flink = v_flink,
	.readdir = v_readdir,
	.get_flags = v_get_flags,
	.set_flags = v_set_flags,
	.stat = v_stat,
	.mkdir = v_mkdir,
	.rmdir = v_rmdir,
	.unlink = v_unlink,
	.rename = v_rename,
	.link = v_link,
	.symlink = v_symlink,
	.readlink = v_readlink,
	.mknod = v_mknod,
	.truncate = v_truncate,
	.chmod = v_chmod,
	.chown = v_chown,
	.utimens = v_utimens,
	.getxattr = v_getxattr,
	.setxattr = v_setxattr,
	.removexattr = v_removexattr,
	.listxattr = v_listxattr,
	.enter = v_enter,
	.statfs = v_statfs,
	.sync = v_sync,
	.as = v_as,
	.forget = v_forget,
	.free = v_free,
};

int fs_vfs_on(const char *type, struct blkdev *dev, struct fs **out)
{
	const struct mount_opts opts = { 0 };

	return fs_vfs_with(type, dev, &opts, out);
}

int fs_vfs_with(const char *type, struct blkdev *dev, const struct mount_opts *opts, struct fs **out)
{
	const struct fs_type *t = fs_find(type);
	struct vfs_priv *p = calloc(1, sizeof(*p));
	struct fs *fs = calloc(1, sizeof(*fs));
	int err = p && fs ? t ? t->mount(&dev, 1, opts, &p->sb) : -ENODEV : -ENOMEM;

	if (!err && p->sb->rdonly) {
		err = fail(-EROFS, "mounted read-only: %s", p->sb->notice);
		vfs_unmount(p->sb);
	}
	if (err) {
		free(p);
		free(fs);
		return err;
	}
	p->dev = blkdev_get(dev);
	fs->ops = &vfs_ops;
	fs->priv = p;
	*out = fs;
	return 0;
}

int fs_vfs_end(struct fs *fs)
{
	int err;

	vfs_iput(priv(fs)->start);
	err = vfs_unmount(sb_of(fs));
	blkdev_put(priv(fs)->dev);
	free(fs->priv);
	free(fs);
	return err;
}

int fs_vfs_new(const char *type, const char *image, u64 size_bytes, struct fs **out)
{
	struct blkdev *dev;
	int err =
		image ? dev_file_open(image, DEV_WRITE, &dev) : dev_mem_new("memory", size_bytes, 512, &dev);

	if (err)
		return err;
	err = fs_vfs_on(type, dev, out);
	blkdev_put(dev);
	return err;
}
