/*
 * Known wrong behaviour, planted on purpose: what conform and model must notice. Each fault replaces one or two
 * operations of a tree's table; the replaced ones are called through fs->under.
 *
 * To add one: write the wrong operation and add a row to `faults`.
 */
#include "support/fsapi.h"

#include <stdlib.h>
#include <string.h>

struct fault {
	const char *name;
	void (*plant)(struct fs_ops *ops);
};

/* True each nth time. */
static bool every(struct fs *fs, u64 n)
{
	return ++fs->fault_state % n == 0;
}

static int lose_write(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len, u64 *done)
{
	if (!every(fs, 5))
		return fs->under->pwrite(fs, f, off, buf, len, done);
	*done = len;
	return 0;
}
static void plant_lost_write(struct fs_ops *ops)
{
	ops->pwrite = lose_write;
}

static int write_ignoring_append(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len,
				 u64 *done)
{
	struct fs_stat st;

	/* Appends one byte too early. */
	if (f->flags & O_APPEND && !fs->under->fstat(fs, f, &st) && st.size) {
		int err = fs->under->ftruncate(fs, f, st.size - 1);

		if (err)
			return err;
	}
	return fs->under->pwrite(fs, f, off, buf, len, done);
}
static void plant_append(struct fs_ops *ops)
{
	ops->pwrite = write_ignoring_append;
}

/* Growing a file shows a byte of what was there before. */
static int grow_unclean(struct fs *fs, struct fs_file *f, u64 size)
{
	struct fs_stat st;
	u64 done;
	int err = fs->under->fstat(fs, f, &st);

	if (!err)
		err = fs->under->ftruncate(fs, f, size);
	if (!err && size > st.size + 1 && st.size % 4096)
		err = fs->under->pwrite(fs, f, st.size, "x", 1, &done);
	return err;
}
static void plant_stale_tail(struct fs_ops *ops)
{
	ops->ftruncate = grow_unclean;
}

static int stat_one_link(struct fs *fs, const char *path, bool follow, struct fs_stat *out)
{
	int err = fs->under->stat(fs, path, follow, out);

	if (!err && !S_ISDIR(out->mode) && out->nlink > 1)
		out->nlink--;
	return err;
}
static void plant_nlink(struct fs_ops *ops)
{
	ops->stat = stat_one_link;
}

static int stat_old_ctime(struct fs *fs, const char *path, bool follow, struct fs_stat *out)
{
	int err = fs->under->stat(fs, path, follow, out);

	if (!err)
		out->ctime = (struct timespec){ 1, 1 };
	return err;
}
static void plant_ctime(struct fs_ops *ops)
{
	ops->stat = stat_old_ctime;
}

static int rename_replacing(struct fs *fs, const char *from, const char *to, u32 flags)
{
	return fs->under->rename(fs, from, to, flags & ~(u32)RENAME_NOREPLACE);
}
static void plant_noreplace(struct fs_ops *ops)
{
	ops->rename = rename_replacing;
}

static int rename_not_exchanging(struct fs *fs, const char *from, const char *to, u32 flags)
{
	return fs->under->rename(fs, from, to, flags & ~(u32)RENAME_EXCHANGE);
}
static void plant_exchange(struct fs_ops *ops)
{
	ops->rename = rename_not_exchanging;
}

static int setxattr_any(struct fs *fs, const char *path, const char *name, const void *v, u32 len, int flags)
{
	return fs->under->setxattr(fs, path, name, v, len, flags & ~(XATTR_CREATE | XATTR_REPLACE));
}
static void plant_xattr_flags(struct fs_ops *ops)
{
	ops->setxattr = setxattr_any;
}

static int punch_nothing(struct fs *fs, struct fs_file *f, int mode, u64 off, u64 len)
{
	return mode & FALLOC_FL_PUNCH_HOLE ? 0 : fs->under->fallocate(fs, f, mode, off, len);
}
static void plant_punch(struct fs_ops *ops)
{
	ops->fallocate = punch_nothing;
}

static int fallocate_growing(struct fs *fs, struct fs_file *f, int mode, u64 off, u64 len)
{
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		mode &= ~FALLOC_FL_KEEP_SIZE;
	return fs->under->fallocate(fs, f, mode, off, len);
}
static void plant_keep_size(struct fs_ops *ops)
{
	ops->fallocate = fallocate_growing;
}

/* Leaves out the last of many entries. */
static int readdir_less(struct fs *fs, struct fs_file *f, u64 pos, struct fs_dirent *out, u32 max, u32 *n)
{
	int err = fs->under->readdir(fs, f, pos, out, max, n);

	if (!err && *n > 4 && *n < max)
		(*n)--;
	return err;
}
static void plant_readdir(struct fs_ops *ops)
{
	ops->readdir = readdir_less;
}

static int mkdir_wrong_error(struct fs *fs, const char *path, u32 mode)
{
	int err = fs->under->mkdir(fs, path, mode);

	return err == -EEXIST ? -EIO : err;
}
static void plant_errno(struct fs_ops *ops)
{
	ops->mkdir = mkdir_wrong_error;
}

static int utimens_coarse(struct fs *fs, const char *path, const struct timespec t[2])
{
	struct timespec c[2] = { t[0], t[1] };

	for (int i = 0; i < 2; i++)
		if (c[i].tv_nsec < 1000000000)
			c[i].tv_nsec -= c[i].tv_nsec % 1000;
	return fs->under->utimens(fs, path, c);
}
static void plant_coarse_times(struct fs_ops *ops)
{
	ops->utimens = utimens_coarse;
}

static int mkdir_without_group(struct fs *fs, const char *path, u32 mode)
{
	struct fs_stat st;
	int err = fs->under->mkdir(fs, path, mode);

	if (!err && !fs->under->stat(fs, path, false, &st) && st.mode & S_ISGID)
		err = fs->under->chmod(fs, path, mode & 01777);
	return err;
}
static void plant_setgid(struct fs_ops *ops)
{
	ops->mkdir = mkdir_without_group;
}

static int chown_keeping_mode(struct fs *fs, const char *path, u32 uid, u32 gid)
{
	struct fs_stat st;
	int err = fs->under->stat(fs, path, false, &st);

	if (!err)
		err = fs->under->chown(fs, path, uid, gid);
	if (!err && st.mode & (S_ISUID | S_ISGID))
		err = fs->under->chmod(fs, path, st.mode & 07777);
	return err;
}
static void plant_keep_setid(struct fs_ops *ops)
{
	ops->chown = chown_keeping_mode;
}

static int readlink_cut(struct fs *fs, const char *path, char *out)
{
	int err = fs->under->readlink(fs, path, out);

	if (!err && strlen(out) > 60)
		out[60] = 0;
	return err;
}
static void plant_readlink(struct fs_ops *ops)
{
	ops->readlink = readlink_cut;
}

static int unlink_truncating(struct fs *fs, const char *path)
{
	struct fs_stat st;

	if (!fs->under->stat(fs, path, false, &st) && S_ISREG(st.mode) && st.nlink == 1)
		(void)fs->under->truncate(fs, path, 0);
	return fs->under->unlink(fs, path);
}
static void plant_unlink_open(struct fs_ops *ops)
{
	ops->unlink = unlink_truncating;
}

static int copy_short(struct fs *fs, struct fs_file *in, u64 in_off, struct fs_file *out, u64 out_off,
		      u64 len, u64 *done)
{
	int err = fs->under->copy_range(fs, in, in_off + (len > 100), out, out_off, len, done);

	return err;
}
static void plant_copy(struct fs_ops *ops)
{
	ops->copy_range = copy_short;
}

static const struct fault faults[] = {
	{ "lost-write", plant_lost_write },
	{ "append", plant_append },
	{ "stale-tail", plant_stale_tail },
	{ "nlink", plant_nlink },
	{ "ctime", plant_ctime },
	{ "noreplace", plant_noreplace },
	{ "exchange", plant_exchange },
	{ "xattr-flags", plant_xattr_flags },
	{ "punch", plant_punch },
	{ "keep-size", plant_keep_size },
	{ "readdir", plant_readdir },
	{ "errno", plant_errno },
	{ "coarse-times", plant_coarse_times },
	{ "setgid", plant_setgid },
	{ "keep-setid", plant_keep_setid },
	{ "readlink", plant_readlink },
	{ "unlink-open", plant_unlink_open },
	{ "copy", plant_copy },
};

const char *const *fs_faults(void)
{
	static const char *names[ARRAY_SIZE(faults) + 1];

	for (u32 i = 0; i < ARRAY_SIZE(faults); i++)
		names[i] = faults[i].name;
	return names;
}

int fs_plant_env_fault(struct fs *fs)
{
	const char *fault = getenv("FS_FAULT");

	return fault && *fault ? fs_plant_fault(fs, fault) : 0;
}

static struct fs_ops planted; /* one tree with a fault in a process */

int fs_plant_fault(struct fs *fs, const char *name)
{
	for (u32 i = 0; i < ARRAY_SIZE(faults); i++) {
		if (strcmp(faults[i].name, name))
			continue;
		fs->under = fs->ops;
		planted = *fs->ops;
		faults[i].plant(&planted);
		fs->ops = &planted;
		return 0;
	}
	return -ENOENT;
}
