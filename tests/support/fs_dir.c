/*
 * The tree below a directory of the host, by system calls relative to its descriptor.
 *
 * Extended attributes have no calls relative to a descriptor: they go through /proc/self/fd, whose entry stands
 * for the directory, so that a long root path takes nothing off the length of a path.
 */
#include "support/fsapi.h"

#include "fuse/fuse.h"

#include <dirent.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>

struct dir_priv {
	int top, root; /* the tree's own root; the one entered, or the same */
};

static int root_of(const struct fs *fs)
{
	return ((struct dir_priv *)fs->priv)->root;
}

static const char *rel(const char *path)
{
	return *path ? path : ".";
}

static int ret(long r)
{
	return r < 0 ? -errno : 0;
}

static int d_open(struct fs *fs, const char *path, int flags, u32 mode, struct fs_file *out)
{
	out->in = NULL;
	out->flags = flags;
	out->fd = openat(root_of(fs), rel(path), flags | O_CLOEXEC, mode);
	return ret(out->fd);
}

static void d_close(struct fs *fs, struct fs_file *f)
{
	(void)fs;
	close(f->fd);
}

static int moved(ssize_t r, u64 *done)
{
	*done = r < 0 ? 0 : (u64)r;
	return ret(r);
}

static int d_pread(struct fs *fs, struct fs_file *f, u64 off, void *buf, u64 len, u64 *done)
{
	(void)fs;
	return moved(pread(f->fd, buf, len, (off_t)off), done);
}

static int d_pwrite(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len, u64 *done)
{
	(void)fs;
	return moved(pwrite(f->fd, buf, len, (off_t)off), done);
}

static int d_ftruncate(struct fs *fs, struct fs_file *f, u64 size)
{
	(void)fs;
	return ret(ftruncate(f->fd, (off_t)size));
}

static int d_fallocate(struct fs *fs, struct fs_file *f, int mode, u64 off, u64 len)
{
	(void)fs;
	return ret(fallocate(f->fd, mode, (off_t)off, (off_t)len));
}

static int d_seek(struct fs *fs, struct fs_file *f, u64 off, int whence, u64 *out)
{
	off_t r = lseek(f->fd, (off_t)off, whence);

	(void)fs;
	*out = (u64)r;
	return ret(r);
}

static int d_copy_range(struct fs *fs, struct fs_file *in, u64 in_off, struct fs_file *out, u64 out_off,
			u64 len, u64 *done)
{
	loff_t a = (loff_t)in_off, b = (loff_t)out_off;

	(void)fs;
	return moved(copy_file_range(in->fd, &a, out->fd, &b, len, 0), done);
}

static int d_fsync(struct fs *fs, struct fs_file *f, bool data_only)
{
	(void)fs;
	return ret(data_only ? fdatasync(f->fd) : fsync(f->fd));
}

static int stat_out(int r, const struct stat *st, struct fs_stat *out)
{
	if (r)
		return -errno;
	*out = (struct fs_stat){ .ino = st->st_ino,
				 .size = (u64)st->st_size,
				 .blocks_512 = (u64)st->st_blocks,
				 .mode = st->st_mode,
				 .nlink = (u32)st->st_nlink,
				 .uid = st->st_uid,
				 .gid = st->st_gid,
				 .rdev_major = major(st->st_rdev),
				 .rdev_minor = minor(st->st_rdev),
				 .block_bytes = (u32)st->st_blksize,
				 .atime = st->st_atim,
				 .mtime = st->st_mtim,
				 .ctime = st->st_ctim };
	return 0;
}

static int d_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out)
{
	struct stat st;

	(void)fs;
	return stat_out(fstat(f->fd, &st), &st, out);
}

static int d_flink(struct fs *fs, struct fs_file *f, const char *path)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", f->fd);
	return ret(linkat(AT_FDCWD, proc, root_of(fs), rel(path), AT_SYMLINK_FOLLOW));
}

struct dirent64_disk {
	u64 ino, off;
	u16 reclen;
	u8 type;
	char name[];
};

static int d_readdir(struct fs *fs, struct fs_file *f, u64 pos, struct fs_dirent *out, u32 max, u32 *n)
{
	_Alignas(8) char buf[16384];
	u32 want = MIN(max * 280u,
		       (u32)sizeof(buf)); /* room for the longest name, so that few are taken in vain */

	(void)fs;
	*n = 0;
	if (lseek(f->fd, (off_t)pos, SEEK_SET) < 0)
		return -errno;
	while (*n < max) {
		long r = syscall(SYS_getdents64, f->fd, buf, want);

		if (r < 0)
			return -errno;
		if (!r)
			return 0;
		for (long at = 0; at < r && *n < max;) {
			struct dirent64_disk *d = (void *)(buf + at);
			struct fs_dirent *o = &out[(*n)++];

			o->ino = d->ino;
			o->next_pos = d->off;
			o->type = d->type;
			snprintf(o->name, sizeof(o->name), "%s", d->name);
			at += d->reclen;
		}
	}
	return 0;
}

static int d_defrag(struct fs *fs, struct fs_file *f, u64 *moved)
{
	struct server_defrag d = { 0 };

	(void)fs;
	*moved = 0;
	while (!d.err && d.pos_bytes != ~0ull) {
		if (ioctl(f->fd, SERVER_IOC_DEFRAG, &d) < 0)
			return errno == ENOTTY ? -EOPNOTSUPP : -errno;
		*moved += d.moved_bytes;
	}
	return d.err;
}

static int d_get_flags(struct fs *fs, struct fs_file *f, u32 *flags)
{
	long v = 0; /* the kernel writes 32 of its bits */

	(void)fs;
	if (ioctl(f->fd, FS_IOC_GETFLAGS, &v))
		return -errno;
	*flags = (u32)v;
	return 0;
}

static int d_set_flags(struct fs *fs, struct fs_file *f, u32 flags)
{
	long v = flags;

	(void)fs;
	return ret(ioctl(f->fd, FS_IOC_SETFLAGS, &v));
}

static int d_stat(struct fs *fs, const char *path, bool follow, struct fs_stat *out)
{
	struct stat st;
	int flags = (follow ? 0 : AT_SYMLINK_NOFOLLOW) | (*path ? 0 : AT_EMPTY_PATH);

	return stat_out(fstatat(root_of(fs), path, &st, flags), &st, out);
}

static int d_mkdir(struct fs *fs, const char *path, u32 mode)
{
	return ret(mkdirat(root_of(fs), path, mode));
}

static int d_rmdir(struct fs *fs, const char *path)
{
	return ret(unlinkat(root_of(fs), path, AT_REMOVEDIR));
}

static int d_unlink(struct fs *fs, const char *path)
{
	return ret(unlinkat(root_of(fs), path, 0));
}

static int d_rename(struct fs *fs, const char *from, const char *to, u32 flags)
{
	return ret(renameat2(root_of(fs), from, root_of(fs), to, flags));
}

static int d_link(struct fs *fs, const char *from, const char *to)
{
	return ret(linkat(root_of(fs), from, root_of(fs), to, 0));
}

static int d_symlink(struct fs *fs, const char *target, const char *path)
{
	return ret(symlinkat(target, root_of(fs), path));
}

static int d_readlink(struct fs *fs, const char *path, char *out)
{
	ssize_t r = readlinkat(root_of(fs), path, out, PATH_MAX - 1);

	if (r >= 0)
		out[r] = 0;
	return ret(r);
}

static int d_mknod(struct fs *fs, const char *path, u32 mode, u32 maj, u32 min)
{
	return ret(mknodat(root_of(fs), path, mode, makedev(maj, min)));
}

static int d_truncate(struct fs *fs, const char *path, u64 size)
{
	char proc[PATH_MAX + 64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", root_of(fs), path);
	return ret(truncate(proc, (off_t)size));
}

static int d_chmod(struct fs *fs, const char *path, u32 mode)
{
	return ret(fchmodat(root_of(fs), rel(path), mode, 0));
}

static int d_chown(struct fs *fs, const char *path, u32 uid, u32 gid)
{
	return ret(fchownat(root_of(fs), rel(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int d_utimens(struct fs *fs, const char *path, const struct timespec t[2])
{
	return ret(utimensat(root_of(fs), rel(path), t, AT_SYMLINK_NOFOLLOW));
}

static const char *via_proc(struct fs *fs, const char *path, char out[PATH_MAX + 64])
{
	snprintf(out, PATH_MAX + 64, "/proc/self/fd/%d/%s", root_of(fs), rel(path));
	return out;
}

static int d_getxattr(struct fs *fs, const char *path, const char *name, void *buf, u32 size, u32 *len)
{
	char p[PATH_MAX + 64];
	ssize_t r = lgetxattr(via_proc(fs, path, p), name, buf, size);

	*len = r < 0 ? 0 : (u32)r;
	return ret(r);
}

static int d_setxattr(struct fs *fs, const char *path, const char *name, const void *v, u32 len, int flags)
{
	char p[PATH_MAX + 64];

	return ret(lsetxattr(via_proc(fs, path, p), name, v, len, flags));
}

static int d_removexattr(struct fs *fs, const char *path, const char *name)
{
	char p[PATH_MAX + 64];

	return ret(lremovexattr(via_proc(fs, path, p), name));
}

static int d_listxattr(struct fs *fs, const char *path, char *buf, u32 size, u32 *len)
{
	char p[PATH_MAX + 64];
	ssize_t r = llistxattr(via_proc(fs, path, p), buf, size);

	*len = r < 0 ? 0 : (u32)r;
	return ret(r);
}

static int d_enter(struct fs *fs, const char *path)
{
	struct dir_priv *p = fs->priv;
	int fd = p->top;

	if (path) {
		fd = openat(p->top, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}
	if (p->root != p->top)
		close(p->root);
	p->root = fd;
	return 0;
}

static int d_statfs(struct fs *fs, struct fs_statfs *out)
{
	struct statvfs s;

	if (fstatvfs(root_of(fs), &s))
		return -errno;
	*out = (struct fs_statfs){ .blocks = s.f_blocks,
				   .blocks_free = s.f_bfree,
				   .blocks_avail = s.f_bavail,
				   .inodes = s.f_files,
				   .inodes_free = s.f_ffree,
				   .block_bytes = (u32)s.f_frsize,
				   .name_max = (u32)s.f_namemax };
	return 0;
}

static int d_sync(struct fs *fs)
{
	return ret(syncfs(root_of(fs)));
}

/* The thread's file system ids: they decide who asks, and only capability CAP_SETUID may change them. */
static int d_as(struct fs *fs, u32 uid, u32 gid, u32 mask)
{
	(void)fs;
	if (geteuid())
		return uid == geteuid() && gid == getegid() ? (umask(mask), 0) : -EPERM;
	if (setgroups(0, NULL))
		return -errno;
	setfsgid(gid);
	setfsuid(uid);
	umask(mask);
	return 0;
}

static void d_forget(struct fs *fs)
{
	(void)fs;
}

static void d_free(struct fs *fs)
{
	struct dir_priv *p = fs->priv;

	if (p->root != p->top)
		close(p->root);
	close(p->top);
	free(p);
}

static const struct fs_ops dir_ops = {
	.kind = "dir",
	.open = d_open,
	.close = d_close,
	.pread = d_pread,
	.pwrite = d_pwrite,
	.ftruncate = d_ftruncate,
	.fallocate = d_fallocate,
	.seek = d_seek,
	.copy_range = d_copy_range,
	.fsync = d_fsync,
	.defrag = d_defrag,
	.fstat = d_fstat,
	.flink = d_flink,
	.readdir = d_readdir,
	.get_flags = d_get_flags,
	.set_flags = d_set_flags,
	.stat = d_stat,
	.mkdir = d_mkdir,
	.rmdir = d_rmdir,
	.unlink = d_unlink,
	.rename = d_rename,
	.link = d_link,
	.symlink = d_symlink,
	.readlink = d_readlink,
	.mknod = d_mknod,
	.truncate = d_truncate,
	.chmod = d_chmod,
	.chown = d_chown,
	.utimens = d_utimens,
	.getxattr = d_getxattr,
	.setxattr = d_setxattr,
	.removexattr = d_removexattr,
	.listxattr = d_listxattr,
	.enter = d_enter,
	.statfs = d_statfs,
	.sync = d_sync,
	.as = d_as,
	.forget = d_forget,
	.free = d_free,
};

int fs_dir_new(const char *dir, struct fs **out)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dir_priv *p;
	struct fs *fs;

	if (fd < 0)
		return -errno;
	p = calloc(1, sizeof(*p));
	fs = calloc(1, sizeof(*fs));
	if (!p || !fs) {
		free(p);
		free(fs);
		close(fd);
		return -ENOMEM;
	}
	umask(0);
	p->top = p->root = fd;
	fs->ops = &dir_ops;
	fs->uid = geteuid();
	fs->gid = getegid();
	fs->priv = p;
	*out = fs;
	return 0;
}
