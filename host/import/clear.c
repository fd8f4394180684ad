/* Emptying a directory of a volume, however deep it is, without recursion. Interface: import.h. */
#include "import.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A directory on the way down. */
struct climb {
	struct inode *dir;
	char *name; /* its own, in the one before */
	bool kept;
	u64 pos; /* names before are dealt with */
};

struct clearing {
	struct climb *up;
	u32 depth, room;
	bool (*keeps)(void *ctx, u64 ino);
	void *ctx;
};

struct first_name {
	char name[VFS_NAME_MAX + 1];
	u64 after, ino;
};

static int take_first(void *ctx, const struct dirent_out *de)
{
	struct first_name *f = ctx;

	if (de->name.len <= 2 && de->name.s[0] == '.' && (de->name.len == 1 || de->name.s[1] == '.'))
		return 0;
	memcpy(f->name, de->name.s, de->name.len);
	f->name[de->name.len] = 0;
	f->ino = de->ino;
	f->after = de->next_pos;
	return 1;
}

/* Takes dir over. */
static int down(struct clearing *c, struct inode *dir, const char *name, bool kept)
{
	struct climb *at;

	if (c->depth == c->room) {
		u32 room = MAX(2 * c->room, 16u);
		struct climb *more = realloc(c->up, room * sizeof(*more));

		if (!more) {
			vfs_iput(dir);
			return fail(-ENOMEM, "no memory to take files away");
		}
		c->up = more;
		c->room = room;
	}
	at = &c->up[c->depth++];
	*at = (struct climb){ .dir = dir, .name = strdup(name), .kept = kept };
	return at->name ? 0 : fail(-ENOMEM, "no memory to take files away");
}

static void up(struct clearing *c)
{
	struct climb *at = &c->up[--c->depth];

	vfs_iput(at->dir);
	free(at->name);
}

/* The last directory has no name left that is to go. */
static int leave(struct clearing *c)
{
	struct climb *at = &c->up[c->depth - 1];
	int err = at->kept ? 0 : vfs_rmdir(c->up[c->depth - 2].dir, &NAME(at->name));

	up(c);
	return err;
}

static int step(struct clearing *c)
{
	struct climb *at = &c->up[c->depth - 1];
	struct first_name f = { .name = "" };
	struct inode *child;
	bool kept;
	int err = vfs_readdir(at->dir, at->pos, take_first, &f);

	if (err < 0)
		return err;
	if (!f.name[0])
		return leave(c);
	kept = c->keeps && c->keeps(c->ctx, f.ino);
	err = vfs_lookup(at->dir, &NAME(f.name), &child);
	if (err)
		return err;
	if (kept)
		at->pos = f.after;
	if (is_dir(child))
		return down(c, child, f.name, kept);
	if (!kept)
		err = vfs_unlink(at->dir, &NAME(f.name));
	vfs_iput(child);
	return err;
}

int volume_clear(struct inode *top, bool (*keeps)(void *ctx, u64 ino), void *ctx)
{
	struct clearing c = { .keeps = keeps, .ctx = ctx };
	int err = down(&c, vfs_igrab(top), "", true);

	while (!err && c.depth)
		err = step(&c);
	while (c.depth)
		up(&c);
	free(c.up);
	return err;
}

int volume_remove(struct inode *dir, const struct name *name, bool (*keeps)(void *ctx, u64 ino), void *ctx)
{
	struct inode *inode;
	bool kept;
	int err = vfs_lookup(dir, name, &inode);

	if (err)
		return err;
	kept = keeps && keeps(ctx, inode->ino);
	if (is_dir(inode))
		err = volume_clear(inode, keeps, ctx);
	if (!err && !kept)
		err = is_dir(inode) ? vfs_rmdir(dir, name) : vfs_unlink(dir, name);
	vfs_iput(inode);
	return err;
}
