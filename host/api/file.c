/* Open files. Interface: werunos.h. */
#include "api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define FLAGS_KNOWN (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC)

struct werunos_file {
	struct werunos_volume *v;
	struct file *file;
};

/* Regular files alone. */
static int judge(const struct inode *inode)
{
	if (is_dir(inode))
		return -EISDIR;
	return is_reg(inode) ? 0
			     : fail(-ENODEV, "it is no regular file, and what stands behind it is elsewhere");
}

int werunos_file_open(struct werunos_volume *v, const char *path, int flags, uint32_t mode,
		      struct werunos_file **out)
{
	struct werunos_file *f = calloc(1, sizeof(*f));
	int err = 0;

	api_begin();
	if (!f)
		err = fail(-ENOMEM, "no memory for a file");
	else if (flags & ~FLAGS_KNOWN || (flags & O_ACCMODE) == O_ACCMODE)
		err = fail(-EINVAL, "%s: flags 0%o are not understood", path, flags);
	if (!err)
		err = vfs_open(v->sb, NULL, path, (u32)flags, mode, &v->cred, &f->file);
	if (!err)
		err = judge(f->file->inode);
	if (err) {
		vfs_close(f ? f->file : NULL);
		free(f);
		return api_end(err);
	}
	f->v = v;
	atomic_fetch_add(&v->files, 1);
	*out = f;
	return 0;
}

void werunos_file_close(struct werunos_file *f)
{
	if (!f)
		return;
	vfs_close(f->file);
	atomic_fetch_sub(&f->v->files, 1);
	free(f);
}

int werunos_file_stat(struct werunos_file *f, struct werunos_stat *out)
{
	api_begin();
	api_stat_of(f->file->inode, out);
	return 0;
}

int werunos_file_read(struct werunos_file *f, uint64_t off_bytes, void *buf, size_t len_bytes,
		      size_t *done_bytes)
{
	u64 done = 0;
	int err;

	api_begin();
	*done_bytes = 0;
	if ((f->file->flags & O_ACCMODE) == O_WRONLY)
		return api_end(-EBADF);
	err = vfs_read(f->file->inode, off_bytes, buf, len_bytes, &done);
	*done_bytes = done;
	if (!err)
		vfs_accessed(f->file->inode);
	return api_end(err);
}

static bool writable(const struct werunos_file *f)
{
	return (f->file->flags & O_ACCMODE) != O_RDONLY;
}

int werunos_file_write(struct werunos_file *f, uint64_t off_bytes, const void *buf, size_t len_bytes,
		       size_t *done_bytes)
{
	u32 flags = f->file->flags & O_APPEND ? WRITE_APPEND : 0;
	u64 all = 0;
	int err = writable(f) ? 0 : -EBADF;

	api_begin();
	while (!err && all < len_bytes) {
		u64 done = 0;

		err = vfs_write(f->file->inode, off_bytes + all, (const u8 *)buf + all, len_bytes - all,
				flags, &done);
		if (!err && !done)
			err = fail(-EIO, "nothing more could be written");
		all += done;
	}
	if (done_bytes)
		*done_bytes = all;
	return api_end(err);
}

int werunos_file_truncate(struct werunos_file *f, uint64_t size_bytes)
{
	api_begin();
	return api_end(writable(f) ? vfs_truncate(f->file->inode, size_bytes) : -EBADF);
}

int werunos_file_sync(struct werunos_file *f)
{
	api_begin();
	return api_end(vfs_fsync_opened(f->file->inode, f->file->opened, false));
}
