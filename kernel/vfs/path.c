/*
 * Walking a path from component to component, through symlinks, as path_resolution(7) has it. Permissions are
 * not looked at: the kernel does that in front of a mount, and the tools act with the volume owner's rights.
 */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	struct super_block *sb;
	struct inode *at; /* referenced */
	u32 links;        /* symlinks followed so far */
};

static int walk_path(struct walk *w, const char *path, size_t len, bool follow);

/* Replaces w->at, a symlink found in `dir`, by what it points to. */
static int walk_link(struct walk *w, struct inode *dir)
{
	scoped(freep) char *target = NULL;
	u32 len = 0;
	int err;

	if (++w->links > VFS_SYMLINKS_MAX)
		return -ELOOP;
	target = malloc(VFS_PATH_MAX + 1);
	if (!target)
		return -ENOMEM;
	err = vfs_readlink(w->at, target, VFS_PATH_MAX + 1, &len);
	if (err)
		return err;
	if (!len)
		return -ENOENT;
	vfs_iput(w->at);
	w->at = vfs_igrab(dir);
	return walk_path(w, target, len, true);
}

static int walk_step(struct walk *w, const struct name *name, bool follow)
{
	struct inode *dir = w->at, *next;
	int err;

	if (!is_dir(dir))
		return -ENOTDIR;
	if (name->len == 1 && name->s[0] == '.')
		return 0;
	/* The root is its own parent, whatever its ".." says. */
	if (name->len == 2 && name->s[0] == '.' && name->s[1] == '.' && dir->ino == w->sb->root_ino)
		return 0;
	err = vfs_lookup(dir, name, &next);
	if (err)
		return err;
	w->at = next;
	if (follow && is_symlink(next))
		err = walk_link(w, dir);
	vfs_iput(dir);
	return err;
}

/* Recursion: once per symlink, at most VFS_SYMLINKS_MAX deep. On error w->at is still to be put. */
static int walk_path(struct walk *w, const char *path, size_t len, bool follow)
{
	const char *p = path, *end = path + len;

	if (len > VFS_PATH_MAX)
		return -ENAMETOOLONG;
	if (p < end && *p == '/') {
		struct inode *root;
		int err = vfs_iget(w->sb, w->sb->root_ino, &root);

		if (err)
			return err;
		vfs_iput(w->at);
		w->at = root;
	}
	while (p < end) {
		struct name name;
		const char *slash;
		int err;

		if (*p == '/') {
			p++;
			continue;
		}
		slash = memchr(p, '/', (size_t)(end - p));
		name = (struct name){ p, (u32)((slash ? slash : end) - p) };
		p += name.len;
		/* A name with a slash behind it must be a directory: symlinks there are followed in any case. */
		err = walk_step(w, &name, follow || slash);
		if (!err && slash && !is_dir(w->at))
			err = -ENOTDIR;
		if (err)
			return err;
	}
	return 0;
}

static int walk_start(struct walk *w, struct super_block *sb, struct inode *start)
{
	*w = (struct walk){ .sb = sb };
	if (!start)
		return vfs_iget(sb, sb->root_ino, &w->at);
	w->at = vfs_igrab(start);
	return 0;
}

static int path_n(struct super_block *sb, struct inode *start, const char *path, size_t len, bool follow,
		  struct inode **out)
{
	struct walk w;
	int err = walk_start(&w, sb, start);

	if (err)
		return err;
	err = walk_path(&w, path, len, follow);
	if (err)
		vfs_iput(w.at);
	else
		*out = w.at;
	return err;
}

int vfs_path(struct super_block *sb, struct inode *start, const char *path, bool follow, struct inode **out)
{
	if (!*path)
		return -ENOENT;
	return path_n(sb, start, path, strlen(path), follow, out);
}

int vfs_path_parent(struct super_block *sb, struct inode *start, const char *path, struct inode **dir,
		    struct name *last)
{
	size_t end = strlen(path), at;
	int err;

	if (!end)
		return -ENOENT;
	while (end && path[end - 1] == '/')
		end--;
	if (!end)
		return -EINVAL;
	for (at = end; at && path[at - 1] != '/';)
		at--;
	*last = (struct name){ path + at, (u32)(end - at) };
	err = path_n(sb, start, path, at, true, dir);
	if (!err && !is_dir(*dir)) {
		vfs_iput(*dir);
		err = -ENOTDIR;
	}
	return err;
}
