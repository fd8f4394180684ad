/*
 * A tree whose directories fold case, called with names in any spelling: each letter of a name that is there, or ought to be, changes
 * its case by chance. A name that is made keeps its spelling: the results are those of the names as they are.
 */
#include "support/fsapi.h"

#include "lib/hash.h"
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

static _Atomic u64 chance;

struct spelling {
	char path[PATH_MAX];
};

static bool letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The directories on the way, and with `last` what they lead to. */
static const char *spell(const char *path, bool last, struct spelling *s)
{
	const char *end = last ? path + strlen(path) : strrchr(path, '/');
	size_t len = strlen(path);

	if (len >= sizeof(s->path))
		return path;
	memcpy(s->path, path, len + 1);
	for (const char *p = path; end && p < end; p++)
		if (letter(*p) && hash_u64(atomic_fetch_add(&chance, 1)) & 1)
			s->path[p - path] ^= 'a' ^ 'A';
	return s->path;
}

static int fold_open(struct fs *fs, const char *path, int flags, u32 mode, struct fs_file *out)
{
	struct spelling s;

	return fs->under->open(fs, spell(path, !(flags & O_CREAT), &s), flags, mode, out);
}

static int fold_flink(struct fs *fs, struct fs_file *f, const char *path)
{
	struct spelling s;

	return fs->under->flink(fs, f, spell(path, false, &s));
}

static int fold_stat(struct fs *fs, const char *path, bool follow, struct fs_stat *out)
{
	struct spelling s;

	return fs->under->stat(fs, spell(path, true, &s), follow, out);
}

static int fold_mkdir(struct fs *fs, const char *path, u32 mode)
{
	struct spelling s;

	return fs->under->mkdir(fs, spell(path, false, &s), mode);
}

static int fold_rmdir(struct fs *fs, const char *path)
{
	struct spelling s;

	return fs->under->rmdir(fs, spell(path, true, &s));
}

static int fold_unlink(struct fs *fs, const char *path)
{
	struct spelling s;

	return fs->under->unlink(fs, spell(path, true, &s));
}

/* Names that change places keep their spelling, which is that of the entries. */
static int fold_rename(struct fs *fs, const char *from, const char *to, u32 flags)
{
	struct spelling s, t;

	return fs->under->rename(fs, spell(from, true, &s), spell(to, flags & RENAME_EXCHANGE, &t), flags);
}

static int fold_link(struct fs *fs, const char *from, const char *to)
{
	struct spelling s, t;

	return fs->under->link(fs, spell(from, true, &s), spell(to, false, &t));
}

static int fold_symlink(struct fs *fs, const char *target, const char *path)
{
	struct spelling s;

	return fs->under->symlink(fs, target, spell(path, false, &s));
}

static int fold_readlink(struct fs *fs, const char *path, char *out)
{
	struct spelling s;

	return fs->under->readlink(fs, spell(path, true, &s), out);
}

static int fold_mknod(struct fs *fs, const char *path, u32 mode, u32 major, u32 minor)
{
	struct spelling s;

	return fs->under->mknod(fs, spell(path, false, &s), mode, major, minor);
}

static int fold_truncate(struct fs *fs, const char *path, u64 size)
{
	struct spelling s;

	return fs->under->truncate(fs, spell(path, true, &s), size);
}

static int fold_chmod(struct fs *fs, const char *path, u32 mode)
{
	struct spelling s;

	return fs->under->chmod(fs, spell(path, true, &s), mode);
}

static int fold_chown(struct fs *fs, const char *path, u32 uid, u32 gid)
{
	struct spelling s;

	return fs->under->chown(fs, spell(path, true, &s), uid, gid);
}

static int fold_utimens(struct fs *fs, const char *path, const struct timespec t[2])
{
	struct spelling s;

	return fs->under->utimens(fs, spell(path, true, &s), t);
}

static int fold_getxattr(struct fs *fs, const char *path, const char *name, void *buf, u32 size, u32 *len)
{
	struct spelling s;

	return fs->under->getxattr(fs, spell(path, true, &s), name, buf, size, len);
}

static int fold_setxattr(struct fs *fs, const char *path, const char *name, const void *v, u32 len, int flags)
{
	struct spelling s;

	return fs->under->setxattr(fs, spell(path, true, &s), name, v, len, flags);
}

static int fold_removexattr(struct fs *fs, const char *path, const char *name)
{
	struct spelling s;

	return fs->under->removexattr(fs, spell(path, true, &s), name);
}

static int fold_listxattr(struct fs *fs, const char *path, char *buf, u32 size, u32 *len)
{
	struct spelling s;

	return fs->under->listxattr(fs, spell(path, true, &s), buf, size, len);
}

static struct fs_ops folding; /* all such trees of a process are of one kind */

void fs_spell_otherwise(struct fs *fs)
{
	fs->under = fs->ops;
	folding = *fs->ops;
	folding.open = fold_open;
	folding.flink = fold_flink;
	folding.stat = fold_stat;
	folding.mkdir = fold_mkdir;
	folding.rmdir = fold_rmdir;
	folding.unlink = fold_unlink;
	folding.rename = fold_rename;
	folding.link = fold_link;
	folding.symlink = fold_symlink;
	folding.readlink = fold_readlink;
	folding.mknod = fold_mknod;
	folding.truncate = fold_truncate;
	folding.chmod = fold_chmod;
	folding.chown = fold_chown;
	folding.utimens = fold_utimens;
	folding.getxattr = fold_getxattr;
	folding.setxattr = fold_setxattr;
	folding.removexattr = fold_removexattr;
	folding.listxattr = fold_listxattr;
	fs->ops = &folding;
}
