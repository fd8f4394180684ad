/* Open files, for engines and tests: what open(2), read(2), write(2) and lseek(2) say, over the calls of vfs.h. */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static bool wants_write(u32 flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* One try at O_CREAT: made, or what has the name already, which may be a symlink. *dir is where the path ends. */
static int create_at(struct super_block *sb, struct inode *start, const char *path, u32 flags, u32 mode,
		     const struct cred *cred, struct inode **dir, struct inode **out)
{
	struct name last;
	int err = vfs_path_parent(sb, start, path, dir, &last);

	if (err)
		return err == -EINVAL ? -EISDIR : err;
	if (last.s[last.len] == '/')
		err = -EISDIR;
	else
		err = vfs_create(*dir, &last, S_IFREG | (mode & 07777), 0, 0, NULL, cred, out);
	if (err == -EEXIST && !(flags & O_EXCL))
		err = vfs_lookup(*dir, &last, out);
	if (err)
		vfs_iput(*dir);
	return err;
}

/* The inode for O_CREAT: a symlink that leads nowhere leads to what is made. */
static int open_create(struct super_block *sb, struct inode *start, const char *path, u32 flags, u32 mode,
		       const struct cred *cred, struct inode **out)
{
	scoped(freep) char *target = malloc(VFS_PATH_MAX + 1);
	struct inode *at = start ? vfs_igrab(start) : NULL;
	int err;

	if (!target)
		return -ENOMEM;
	for (u32 links = 0;; links++) {
		struct inode *dir, *found;
		u32 len;

		err = create_at(sb, at, path, flags, mode, cred, &dir, &found);
		if (err)
			break;
		vfs_iput(at);
		at = dir;
		if (!is_symlink(found) || flags & (O_NOFOLLOW | O_EXCL)) {
			*out = found;
			break;
		}
		err = links < VFS_SYMLINKS_MAX ? vfs_readlink(found, target, VFS_PATH_MAX, &len) : -ELOOP;
		vfs_iput(found);
		if (err)
			break;
		target[len] = 0;
		path = target;
	}
	vfs_iput(at);
	return err;
}

static int open_inode(struct super_block *sb, struct inode *start, const char *path, u32 flags, u32 mode,
		      const struct cred *cred, struct inode **out)
{
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		struct inode *dir;
		int err = vfs_path(sb, start, path, true, &dir);

		if (err)
			return err;
		err = is_dir(dir) ? vfs_create(dir, NULL, S_IFREG | (mode & 07777), 0, 0, NULL, cred, out)
				  : -ENOTDIR;
		if (!err && flags & O_EXCL)
			atomic_fetch_and(&(*out)->state, ~I_LINKABLE);
		vfs_iput(dir);
		return err;
	}
	if (flags & O_CREAT)
		return open_create(sb, start, path, flags, mode, cred, out);
	return vfs_path(sb, start, path, !(flags & O_NOFOLLOW), out);
}

int vfs_may_open(const struct inode *inode, u32 flags)
{
	if (flags & O_DIRECTORY && is_symlink(inode))
		return -ENOTDIR;
	if (is_symlink(inode))
		return -ELOOP;
	if (flags & O_CREAT && is_dir(inode))
		return -EISDIR;
	if (flags & O_DIRECTORY && !is_dir(inode) && (flags & O_TMPFILE) != O_TMPFILE)
		return -ENOTDIR;
	if (wants_write(flags)) {
		if (is_dir(inode))
			return -EISDIR;
		if (inode->sb->rdonly)
			return -EROFS;
		if (inode->flags & INO_IMMUTABLE ||
		    (inode->flags & INO_APPEND && (!(flags & O_APPEND) || flags & O_TRUNC)))
			return -EPERM;
	}
	return inode->ops->may_open ? inode->ops->may_open(inode, wants_write(flags)) : 0;
}

int vfs_open(struct super_block *sb, struct inode *start, const char *path, u32 flags, u32 mode,
	     const struct cred *cred, struct file **out)
{
	struct file *f = calloc(1, sizeof(*f));
	struct inode *inode;
	int err;

	if (!f)
		return -ENOMEM;
	err = open_inode(sb, start, path, flags, mode, cred, &inode);
	if (err) {
		free(f);
		return err;
	}
	err = vfs_may_open(inode, flags);
	if (!err && flags & O_TRUNC && is_reg(inode) && wants_write(flags))
		err = vfs_truncate(inode, 0);
	if (err) {
		vfs_iput(inode);
		free(f);
		return err;
	}
	f->inode = inode;
	f->opened = vfs_moment(sb);
	f->flags = flags;
	*out = f;
	return 0;
}

void vfs_close(struct file *f)
{
	if (!f)
		return;
	if (wants_write(f->flags))
		vfs_closed(f->inode);
	vfs_iput(f->inode);
	free(f);
}

int vfs_file_read(struct file *f, void *buf, u64 len_bytes, u64 *done)
{
	int err;

	*done = 0;
	if ((f->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	err = vfs_read(f->inode, f->pos_bytes, buf, len_bytes, done);
	f->pos_bytes += *done;
	if (!err && !(f->flags & O_NOATIME))
		vfs_accessed(f->inode);
	return err;
}

int vfs_file_write(struct file *f, const void *buf, u64 len_bytes, u64 *done)
{
	u32 flags = f->flags & O_APPEND ? WRITE_APPEND : 0;
	int err;

	*done = 0;
	if (!wants_write(f->flags))
		return -EBADF;
	if (f->flags & O_DSYNC)
		flags |= WRITE_SYNC;
	err = vfs_write(f->inode, f->pos_bytes, buf, len_bytes, flags, done);
	if (f->flags & O_APPEND && *done)
		f->pos_bytes = atomic_load(&f->inode->size_bytes);
	else
		f->pos_bytes += *done;
	return err;
}

int vfs_file_seek(struct file *f, s64 off_bytes, int whence, u64 *pos)
{
	s64 base = 0, to;
	int err;

	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = (s64)f->pos_bytes;
		break;
	case SEEK_END:
		base = (s64)atomic_load(&f->inode->size_bytes);
		break;
	default:
		if (off_bytes < 0)
			return whence == SEEK_HOLE || whence == SEEK_DATA ? -ENXIO : -EINVAL;
		err = vfs_seek(f->inode, (u64)off_bytes, whence, pos);
		if (!err)
			f->pos_bytes = *pos;
		return err;
	}
	if (__builtin_add_overflow(base, off_bytes, &to) || to < 0)
		return -EINVAL;
	f->pos_bytes = *pos = (u64)to;
	return 0;
}
