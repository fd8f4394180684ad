/*
 * Operations on names. Each takes its locks, asks the name cache or the module, checks what POSIX asks for, and
 * lets the module change the volume; the name cache is brought along before the locks are given back.
 *
 * Order of locks: sb->rename (only when two directories are involved), directories (ancestor first, else by
 * number), then the inodes named (by number). A directory that is itself the object is locked after its parent.
 */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <string.h>

#define RENAME_NOREPLACE 1u
#define RENAME_EXCHANGE  2u
#define RENAME_WHITEOUT  4u
/* More directories above each other than any path can name: a loop that only a broken volume has. */
#define DEPTH_MAX 65536u

int namei_check_name(const struct super_block *sb, const struct name *name)
{
	if (!name->len)
		return -ENOENT;
	if (name->len > sb->name_max)
		return -ENAMETOOLONG;
	if (memchr(name->s, '/', name->len) || memchr(name->s, 0, name->len))
		return -EINVAL;
	return 0;
}

static bool is_dot_or_dotdot(const struct name *name)
{
	return name->s[0] == '.' && (name->len == 1 || (name->len == 2 && name->s[1] == '.'));
}

int namei_find(struct inode *dir, const struct name *name, u64 *ino)
{
	bool cacheable = !(dir->iflags & I_NO_DCACHE);
	int err;

	if (cacheable && dcache_lookup(dir->sb->dcache, dir, name, ino))
		return 0;
	err = dir->ops->lookup(dir, name, ino);
	if (err == -ENOENT) {
		*ino = 0;
		err = 0;
	}
	if (!err && cacheable && !is_dot_or_dotdot(name))
		dcache_set(dir->sb->dcache, dir, name, *ino);
	return err;
}

static void remember(struct inode *dir, const struct name *name, u64 ino)
{
	if (!(dir->iflags & I_NO_DCACHE))
		dcache_set(dir->sb->dcache, dir, name, ino);
}

int vfs_lookup(struct inode *dir, const struct name *name, struct inode **out)
{
	u64 ino;
	int err;

	if (!is_dir(dir) || !dir->ops->lookup)
		return -ENOTDIR;
	err = namei_check_name(dir->sb, name);
	if (err)
		return err;
	rw_read_lock(&dir->lock);
	err = namei_find(dir, name, &ino);
	/* Under the lock, so that the number cannot be freed and given to another file in between. */
	if (!err)
		err = ino ? vfs_iget(dir->sb, ino, out) : -ENOENT;
	rw_read_unlock(&dir->lock);
	/* A name that leads to a free or impossible inode is damage, not an absent file. */
	if (err == -ESTALE)
		err = corrupt(&dir->sb->health, "directory", dir->ino,
			      "entry \"%.*s\" names inode %llu, which is not in use", (int)name->len, name->s,
			      (unsigned long long)ino);
	return err;
}

int vfs_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx)
{
	int err;

	if (!is_dir(dir) || !dir->ops->readdir)
		return -ENOTDIR;
	rw_read_lock(&dir->lock);
	err = dir->ops->readdir(dir, pos, emit, ctx);
	rw_read_unlock(&dir->lock);
	return err;
}

int vfs_readlink(struct inode *inode, char *buf, u32 size, u32 *len)
{
	if (!is_symlink(inode) || !inode->ops->readlink)
		return -EINVAL;
	return inode->ops->readlink(inode, buf, size, len);
}

/* Whether names in `dir` may change. Locks: dir->lock W. */
static int may_change(struct inode *dir, bool takes_away)
{
	if (!dir->nlink)
		return -ENOENT; /* removed while still open */
	if (dir->flags & INO_IMMUTABLE || (takes_away && dir->flags & INO_APPEND))
		return -EPERM;
	return 0;
}

static int check_new_name(struct inode *dir, const struct name *name)
{
	int err = vfs_check_writable(dir->sb);

	if (err)
		return err;
	if (!is_dir(dir))
		return -ENOTDIR;
	err = namei_check_name(dir->sb, name);
	if (err)
		return err;
	return is_dot_or_dotdot(name) ? -EEXIST : 0;
}

/* Locks: dir->lock W. 0: the name is free. */
static int must_be_free(struct inode *dir, const struct name *name)
{
	u64 ino;
	int err = namei_find(dir, name, &ino);

	return err ? err : ino ? -EEXIST : 0;
}

/* ---- create ---- */

/* acl(5), "object creation": the default ACL becomes the access ACL, cut by the mode asked for, and the mode by it. */
static int inherit_acl(struct inode *dir, u32 umask, struct new_inode *what, struct acl **dir_acl,
		       struct acl **acl)
{
	u32 mode = what->mode;
	int err = 0;

	*dir_acl = *acl = NULL;
	if (S_ISLNK(mode))
		return 0;
	if (dir->sb->has_acl && dir->ops->get_acl)
		err = dir->ops->get_acl(dir, true, dir_acl);
	if (err)
		return err;
	if (!*dir_acl) {
		what->mode &= ~(umask & 0777u);
		return 0;
	}
	*acl = acl_new((*dir_acl)->count);
	if (!*acl)
		return -ENOMEM;
	memcpy((*acl)->e, (*dir_acl)->e, (*acl)->count * sizeof((*acl)->e[0]));
	if (acl_cut_by_mode(*acl, &what->mode)) {
		acl_free(*acl);
		*acl = NULL;
	}
	what->acl = *acl;
	if (S_ISDIR(mode))
		what->default_acl = *dir_acl;
	return 0;
}

/* What a new inode takes from its directory. The ACLs are the caller's to free. */
static int inherit(struct inode *dir, u32 umask, struct new_inode *what, struct acl **dir_acl,
		   struct acl **acl)
{
	int err = inherit_acl(dir, umask, what, dir_acl, acl);

	if (err)
		return err;
	if (dir->mode & S_ISGID) {
		what->gid = dir->gid;
		if (S_ISDIR(what->mode))
			what->mode |= S_ISGID;
	}
	if (dir->flags & INO_PROJINHERIT)
		what->project = dir->project;
	return 0;
}

static int create_locked(struct inode *dir, const struct name *name, struct new_inode *what, u32 umask,
			 struct inode **out)
{
	scoped(acl_freep) struct acl *dir_acl = NULL;
	scoped(acl_freep) struct acl *acl = NULL;
	int err = may_change(dir, false);

	if (!err && name)
		err = must_be_free(dir, name);
	if (!err)
		err = inherit(dir, umask, what, &dir_acl, &acl);
	if (!err)
		err = dir->ops->create(dir, name, what, out);
	if (err)
		return err;
	if (name)
		remember(dir, name, (*out)->ino);
	else
		atomic_fetch_or(&(*out)->state, I_LINKABLE);
	return 0;
}

int vfs_create(struct inode *dir, const struct name *name, u32 mode, u32 rdev_major, u32 rdev_minor,
	       const struct name *target, const struct cred *cred, struct inode **out)
{
	struct new_inode what = { .mode = mode,
				  .uid = cred->uid,
				  .gid = cred->gid,
				  .rdev_major = rdev_major,
				  .rdev_minor = rdev_minor };
	static const struct name unnamed = { "unnamed", 7 };
	int err = check_new_name(dir, name ? name : &unnamed);

	if (err)
		return err;
	if (!dir->ops->create)
		return -EPERM;
	if (S_ISLNK(mode)) {
		if (!target || !target->len)
			return -ENOENT;
		if (target->len >= VFS_PATH_MAX || target->len >= dir->sb->block_bytes)
			return -ENAMETOOLONG;
		what.target = *target;
	}
	rw_write_lock(&dir->lock);
	err = create_locked(dir, name, &what, cred->umask, out);
	rw_write_unlock(&dir->lock);
	return err;
}

int vfs_link(struct inode *inode, struct inode *dir, const struct name *name)
{
	int err = check_new_name(dir, name);

	if (err)
		return err;
	if (!dir->ops->link)
		return -EPERM;
	rw_write_lock(&dir->lock);
	err = may_change(dir, false);
	if (!err)
		err = must_be_free(dir, name);
	if (!err && is_dir(inode))
		err = -EPERM;
	if (!err) {
		rw_write_lock(&inode->lock);
		if (!inode->nlink && !(atomic_load(&inode->state) & I_LINKABLE))
			err = -ENOENT;
		else if (inode->flags & (INO_IMMUTABLE | INO_APPEND))
			err = -EPERM;
		else
			err = dir->ops->link(dir, name, inode);
		if (!err)
			atomic_fetch_and(&inode->state, ~I_LINKABLE);
		rw_write_unlock(&inode->lock);
	}
	if (!err)
		remember(dir, name, inode->ino);
	rw_write_unlock(&dir->lock);
	return err;
}

/* ---- removal ---- */

static void lock_child(struct inode *child)
{
	if (is_dir(child))
		rw_write_lock_nested(&child->lock);
	else
		rw_write_lock(&child->lock);
}

/* Locks: dir->lock W. The inode of a name that must be there. */
static int get_child(struct inode *dir, const struct name *name, struct inode **out)
{
	u64 ino;
	int err = namei_find(dir, name, &ino);

	if (err)
		return err;
	if (!ino)
		return -ENOENT;
	/* The module keeps loops out of what it writes; on a broken volume this would lock the directory twice. */
	if (ino == dir->ino)
		return corrupt(&dir->sb->health, "directory", dir->ino, "contains itself");
	return vfs_iget(dir->sb, ino, out);
}

/* *out is what lost its name. It is put without locks: that may free a large file. */
static int remove_locked(struct inode *dir, const struct name *name, bool want_dir, struct inode **out)
{
	struct inode *inode;
	int err = may_change(dir, true);

	if (!err)
		err = get_child(dir, name, out);
	if (err)
		return err;
	inode = *out;
	if (is_dir(inode) != want_dir)
		return want_dir ? -ENOTDIR : -EISDIR;
	if (inode->ino == dir->sb->root_ino)
		return -EBUSY;
	lock_child(inode);
	if (inode->flags & (INO_IMMUTABLE | INO_APPEND))
		err = -EPERM;
	else
		err = dir->ops->unlink(dir, name, inode);
	rw_write_unlock(&inode->lock);
	if (!err)
		remember(dir, name, 0);
	return err;
}

static int vfs_remove(struct inode *dir, const struct name *name, bool want_dir)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = vfs_check_writable(dir->sb);

	if (err)
		return err;
	if (!is_dir(dir))
		return -ENOTDIR;
	err = namei_check_name(dir->sb, name);
	if (err)
		return err;
	if (is_dot_or_dotdot(name))
		return want_dir ? (name->len == 1 ? -EINVAL : -ENOTEMPTY) : -EISDIR;
	if (!dir->ops->unlink)
		return -EPERM;
	rw_write_lock(&dir->lock);
	err = remove_locked(dir, name, want_dir, &inode);
	rw_write_unlock(&dir->lock);
	return err;
}

int vfs_unlink(struct inode *dir, const struct name *name)
{
	return vfs_remove(dir, name, false);
}

int vfs_rmdir(struct inode *dir, const struct name *name)
{
	return vfs_remove(dir, name, true);
}

/* ---- rename ---- */

struct renaming {
	struct inode *dir[2]; /* old, new */
	const struct name *name[2];
	struct inode *inode[2]; /* what the names mean; [1] NULL when the new name is free */
	u64 trap[2]; /* [0]: the old directory's child that leads to the new one; [1]: the other way round */
	u32 flags;
};

/*
 * When `above` is an ancestor of `dir`: the number of its child on the way down to `dir`, else 0.
 * Locks: sb->rename, which keeps every directory's parent as it is.
 */
static int child_towards(struct inode *above, struct inode *dir, u64 *child)
{
	scoped(vfs_iputp) struct inode *at = vfs_igrab(dir);
	static const struct name dotdot = { "..", 2 };

	*child = 0;
	for (u32 depth = 0; at->ino != above->sb->root_ino; depth++) {
		struct inode *up;
		u64 ino;
		int err;

		rw_read_lock(&at->lock);
		err = at->ops->lookup(at, &dotdot, &ino);
		rw_read_unlock(&at->lock);
		if (err)
			return err;
		if (ino == above->ino) {
			*child = at->ino;
			return 0;
		}
		if (depth > DEPTH_MAX)
			return corrupt(&dir->sb->health, "directory", dir->ino, "its parents form a loop");
		err = vfs_iget(dir->sb, ino, &up);
		if (err)
			return err;
		vfs_iput(at);
		at = up;
		if (!is_dir(at))
			return corrupt(&dir->sb->health, "directory", at->ino,
				       "is a parent but no directory");
	}
	return 0;
}

static int lock_dirs(struct renaming *r)
{
	struct inode *a = r->dir[0], *b = r->dir[1];
	int err;

	if (a == b) {
		rw_write_lock(&a->lock);
		return 0;
	}
	mutex_lock(&a->sb->rename);
	err = child_towards(a, b, &r->trap[0]);
	if (!err)
		err = child_towards(b, a, &r->trap[1]);
	if (err) {
		mutex_unlock(&a->sb->rename);
		return err;
	}
	if (r->trap[1] || (!r->trap[0] && b->ino < a->ino)) {
		struct inode *swap = a;

		a = b;
		b = swap;
	}
	rw_write_lock(&a->lock);
	rw_write_lock_nested(&b->lock);
	return 0;
}

static void unlock_dirs(struct renaming *r)
{
	rw_write_unlock(&r->dir[0]->lock);
	if (r->dir[0] == r->dir[1])
		return;
	rw_write_unlock(&r->dir[1]->lock);
	mutex_unlock(&r->dir[0]->sb->rename);
}

static int rename_check(const struct renaming *r)
{
	struct inode *from = r->inode[0], *to = r->inode[1];

	if (to && r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!to && r->flags & RENAME_EXCHANGE)
		return -ENOENT;
	if (r->trap[0] && from->ino == r->trap[0])
		return -EINVAL; /* into itself */
	if (to && r->trap[1] && to->ino == r->trap[1])
		return r->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if ((from->flags | (to ? to->flags : 0)) & (INO_IMMUTABLE | INO_APPEND))
		return -EPERM;
	if (!to)
		return 0;
	if (r->flags & RENAME_EXCHANGE)
		return 0;
	if (is_dir(from) && !is_dir(to))
		return -ENOTDIR;
	return !is_dir(from) && is_dir(to) ? -EISDIR : 0;
}

/* Directories before other inodes, each kind by number: the order of their ranks. */
static bool locks_before(const struct inode *a, const struct inode *b)
{
	return is_dir(a) != is_dir(b) ? is_dir(a) : a->ino < b->ino;
}

static int rename_under_locks(struct renaming *r)
{
	struct inode *first = r->inode[0], *second = r->inode[1];
	/* A character device 0:0 stays at the old name: overlay file systems read it as "removed". */
	struct new_inode whiteout = { .mode = S_IFCHR };
	scoped(acl_freep) struct acl *dir_acl = NULL;
	scoped(acl_freep) struct acl *acl = NULL;
	int err = 0;

	if (second && locks_before(second, first)) {
		first = r->inode[1];
		second = r->inode[0];
	}
	lock_child(first);
	if (second && is_dir(second) == is_dir(first))
		rw_write_lock_nested(&second->lock);
	else if (second)
		lock_child(second);
	if (r->flags & RENAME_WHITEOUT)
		err = inherit(r->dir[0], 0, &whiteout, &dir_acl, &acl);
	/* What replaces a file is whole before the other goes: many programs count on it without fsync. */
	if (!err && r->inode[1] && !(r->flags & RENAME_EXCHANGE))
		err = tail_flush(r->inode[0]);
	if (!err)
		err = r->dir[0]->ops->rename(r->dir[0], r->name[0], r->inode[0], r->dir[1], r->name[1],
					     r->inode[1], r->flags & RENAME_EXCHANGE,
					     r->flags & RENAME_WHITEOUT ? &whiteout : NULL);
	if (second)
		rw_write_unlock(&second->lock);
	rw_write_unlock(&first->lock);
	return err;
}

static int rename_locked(struct renaming *r)
{
	u64 to_ino;
	int err = may_change(r->dir[0], true);

	if (!err)
		err = may_change(r->dir[1], false);
	if (!err)
		err = get_child(r->dir[0], r->name[0], &r->inode[0]);
	if (!err)
		err = namei_find(r->dir[1], r->name[1], &to_ino);
	if (err)
		return err;
	if (to_ino && to_ino == r->inode[0]->ino && !(r->flags & RENAME_NOREPLACE))
		return 0; /* two names of one file: nothing to do */
	if (to_ino == r->dir[0]->ino || to_ino == r->dir[1]->ino) {
		/* The new name is one of the directories themselves: not empty, since it holds the old name. */
		if (r->flags & RENAME_NOREPLACE)
			return -EEXIST;
		return r->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	}
	if (r->inode[0] == r->dir[1])
		return to_ino && r->flags & RENAME_NOREPLACE   ? -EEXIST
		       : !to_ino && r->flags & RENAME_EXCHANGE ? -ENOENT
							       : -EINVAL;
	if (to_ino)
		err = vfs_iget(r->dir[1]->sb, to_ino, &r->inode[1]);
	if (!err)
		err = rename_check(r);
	if (!err)
		err = rename_under_locks(r);
	if (err)
		return err;
	remember(r->dir[1], r->name[1], r->inode[0]->ino);
	if (r->flags & RENAME_EXCHANGE)
		remember(r->dir[0], r->name[0], r->inode[1]->ino);
	else if (r->flags & RENAME_WHITEOUT)
		dcache_forget(r->dir[0]->sb->dcache, r->dir[0], r->name[0]); /* the module knows its number */
	else
		remember(r->dir[0], r->name[0], 0);
	return 0;
}

int vfs_rename(struct inode *dir, const struct name *name, struct inode *new_dir, const struct name *new_name,
	       u32 flags)
{
	struct renaming r = { .dir = { dir, new_dir }, .name = { name, new_name }, .flags = flags };
	int err = vfs_check_writable(dir->sb);

	if (err)
		return err;
	if (dir->sb != new_dir->sb)
		return -EXDEV;
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	if (!is_dir(dir) || !is_dir(new_dir))
		return -ENOTDIR;
	err = namei_check_name(dir->sb, name);
	if (!err)
		err = namei_check_name(dir->sb, new_name);
	if (err)
		return err;
	if (is_dot_or_dotdot(name) || is_dot_or_dotdot(new_name))
		return flags & RENAME_NOREPLACE && is_dot_or_dotdot(new_name) ? -EEXIST : -EBUSY;
	if (!dir->ops->rename)
		return -EPERM;
	err = lock_dirs(&r);
	if (err)
		return err;
	err = rename_locked(&r);
	unlock_dirs(&r);
	vfs_iput(r.inode[0]);
	vfs_iput(r.inode[1]);
	return err;
}
