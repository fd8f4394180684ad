/*
 * A tree of files as a test sees it: the calls of POSIX and Linux on paths below a root, with one table of
 * operations and two back ends, so that a suite is written once.
 *
 *   fs_dir_new   system calls below a directory: a mount of ours, or a file system of the kernel
 *   fs_vfs_new   vfs.h in process, on a volume mounted here
 *
 * Every call returns 0 or -errno; results come by out-parameter last. Paths are relative to the root, "" is the
 * root itself; no call on a path follows a symlink at its end, except open and where `follow` is asked. Files and
 * directories opened here are closed with fs_close. umask is 0 unless fs_as says otherwise.
 */
#ifndef SUPPORT_FSAPI_H
#define SUPPORT_FSAPI_H

#include "lib/types.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

struct fs;
struct blkdev;

struct fs_file {
	int fd;   /* dir */
	void *in; /* vfs: struct inode */
	int flags;
};

struct fs_stat {
	u64 ino, size, blocks_512;
	u32 mode, nlink, uid, gid, rdev_major, rdev_minor, block_bytes;
	struct timespec atime, mtime, ctime;
};

struct fs_statfs {
	u64 blocks, blocks_free, blocks_avail, inodes, inodes_free;
	u32 block_bytes, name_max;
};

struct fs_dirent {
	u64 ino, next_pos;
	u8 type; /* DT_* */
	char name[NAME_MAX + 1];
};

struct fs_ops {
	const char *kind;
	int (*open)(struct fs *fs, const char *path, int flags, u32 mode, struct fs_file *out);
	void (*close)(struct fs *fs, struct fs_file *f);
	/* With O_APPEND a write goes to the end, whatever off is. */
	int (*pread)(struct fs *fs, struct fs_file *f, u64 off, void *buf, u64 len, u64 *done);
	int (*pwrite)(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len, u64 *done);
	int (*ftruncate)(struct fs *fs, struct fs_file *f, u64 size);
	int (*fallocate)(struct fs *fs, struct fs_file *f, int mode, u64 off, u64 len);
	int (*seek)(struct fs *fs, struct fs_file *f, u64 off, int whence, u64 *out);
	int (*copy_range)(struct fs *fs, struct fs_file *in, u64 in_off, struct fs_file *out, u64 out_off,
			  u64 len, u64 *done);
	int (*fsync)(struct fs *fs, struct fs_file *f, bool data_only);
	/* In fewer pieces, all of it. -EOPNOTSUPP: this tree's files stay where they are. */
	int (*defrag)(struct fs *fs, struct fs_file *f, u64 *moved);
	int (*fstat)(struct fs *fs, struct fs_file *f, struct fs_stat *out);
	int (*flink)(struct fs *fs, struct fs_file *f, const char *path);
	/* Up to max entries from the position on; *n 0: the end. The file is an open directory. */
	int (*readdir)(struct fs *fs, struct fs_file *f, u64 pos, struct fs_dirent *out, u32 max, u32 *n);
	/* FS_IOC_GETFLAGS, FS_IOC_SETFLAGS */
	int (*get_flags)(struct fs *fs, struct fs_file *f, u32 *flags);
	int (*set_flags)(struct fs *fs, struct fs_file *f, u32 flags);

	int (*stat)(struct fs *fs, const char *path, bool follow, struct fs_stat *out);
	int (*mkdir)(struct fs *fs, const char *path, u32 mode);
	int (*rmdir)(struct fs *fs, const char *path);
	int (*unlink)(struct fs *fs, const char *path);
	int (*rename)(struct fs *fs, const char *from, const char *to, u32 flags);
	int (*link)(struct fs *fs, const char *from, const char *to);
	int (*symlink)(struct fs *fs, const char *target, const char *path);
	/* NUL-terminated, of PATH_MAX bytes */
	int (*readlink)(struct fs *fs, const char *path, char *out);
	/* mode with the type of a fifo, socket, device or regular file */
	int (*mknod)(struct fs *fs, const char *path, u32 mode, u32 major, u32 minor);
	int (*truncate)(struct fs *fs, const char *path, u64 size);
	int (*chmod)(struct fs *fs, const char *path, u32 mode);
	int (*chown)(struct fs *fs, const char *path, u32 uid, u32 gid); /* ~0: as it is */
	int (*utimens)(struct fs *fs, const char *path,
		       const struct timespec t[2]); /* UTIME_NOW, UTIME_OMIT */
	/* size 0: *len only */
	int (*getxattr)(struct fs *fs, const char *path, const char *name, void *buf, u32 size, u32 *len);
	int (*setxattr)(struct fs *fs, const char *path, const char *name, const void *v, u32 len, int flags);
	int (*removexattr)(struct fs *fs, const char *path, const char *name);
	int (*listxattr)(struct fs *fs, const char *path, char *buf, u32 size, u32 *len);

	/* This directory of the tree is the root from now on; NULL: the tree's own root again. */
	int (*enter)(struct fs *fs, const char *path);
	int (*statfs)(struct fs *fs, struct fs_statfs *out);
	int (*sync)(struct fs *fs);
	/* The following calls are made as this user, with these groups and no privilege unless uid is 0. -EPERM: cannot. */
	int (*as)(struct fs *fs, u32 uid, u32 gid, u32 umask);
	/* What is only remembered is forgotten, where that can be asked for. */
	void (*forget)(struct fs *fs);
	void (*free)(struct fs *fs);
};

struct fs {
	const struct fs_ops *ops;
	const struct fs_ops *under; /* what a planted fault or another spelling replaced; else NULL */
	void *priv;                 /* the back end's */
	u32 uid, gid;               /* who acts, unless `as` says otherwise */
	u64 fault_state;
};

int fs_dir_new(const char *dir, struct fs **out);
/* A volume of `type` ("memfs") on size_bytes of fresh memory, or, with image, on that file. */
int fs_vfs_new(const char *type, const char *image, u64 size_bytes, struct fs **out);
struct super_block;
/* The mount behind fs_vfs_on's. */
struct super_block *fs_vfs_sb(struct fs *fs);
/* A volume of `type` on dev, mounted read-write; -EROFS when that is refused. */
int fs_vfs_on(const char *type, struct blkdev *dev, struct fs **out);
struct mount_opts;
int fs_vfs_with(const char *type, struct blkdev *dev, const struct mount_opts *opts, struct fs **out);
/* fs_free for a tree of fs_vfs_on; what the unmount said. */
int fs_vfs_end(struct fs *fs);
/* "dir:PATH", "vfs:TYPE" or "vfs:TYPE:IMAGE"; "fold:" before it: spelled otherwise. On failure says why on stderr. */
struct fs *fs_by_name(const char *spec);
void fs_free(struct fs *fs);
/* From now on the tree misbehaves as `name` says. -ENOENT: no such fault. */
int fs_plant_fault(struct fs *fs, const char *name);
/* The fault that the environment's FS_FAULT names, if it does. */
int fs_plant_env_fault(struct fs *fs);
/* From now on names that are there are spelled in any case (fs_fold.c). Excludes a fault. */
void fs_spell_otherwise(struct fs *fs);
/* The names of all faults, NULL-terminated. */
const char *const *fs_faults(void);

#define FS_CALL(fs, op, ...) ((fs)->ops->op((fs), ##__VA_ARGS__))

static inline int fs_open(struct fs *fs, const char *path, int flags, u32 mode, struct fs_file *out)
{
	return fs->ops->open(fs, path, flags, mode, out);
}
static inline void fs_close(struct fs *fs, struct fs_file *f)
{
	fs->ops->close(fs, f);
}

/* ---- made of the above ---- */

/* All bytes are written, or -errno. */
int fs_write_all(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len);
/* Reads until the end of file or len. */
int fs_read_all(struct fs *fs, struct fs_file *f, u64 off, void *buf, u64 len, u64 *done);
/* A new file, or one with new content. */
int fs_put(struct fs *fs, const char *path, const void *buf, u64 len);
/* All entries but "." and "..", sorted by name, with their types. *out is freed by the caller. */
int fs_list(struct fs *fs, const char *path, struct fs_dirent **out, u32 *n);
/* Removes everything below the path, but no lost+found; not the path itself. */
int fs_clear(struct fs *fs, const char *path);
/* A 64-bit fingerprint of a regular file's bytes. */
int fs_hash(struct fs *fs, const char *path, u64 *out);

#endif
