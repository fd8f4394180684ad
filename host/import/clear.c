/* Taking trees of a volume away, but for what is to be kept. Interface: import.h. */
#include "import.h"

#include "descend.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>

struct clearing {
	const struct seen *kept;
	const struct inode *top; /* stays */
	int err;                 /* the first */
	char why[256];
};

static bool keeps(const struct clearing *c, u64 ino)
{
	return c->kept && seen_has(c->kept, ino);
}

static int clear_enter(void *ctx, const struct visit *v)
{
	struct clearing *c = ctx;

	return is_dir(v->inode) || keeps(c, v->inode->ino) ? 0 : vfs_unlink(v->dir, &v->name);
}

static int clear_leave(void *ctx, const struct visit *v)
{
	struct clearing *c = ctx;
	struct inode *inode;
	bool stays;
	int err;

	if (!v->dir)
		return 0;
	err = vfs_lookup(v->dir, &v->name, &inode);
	if (err)
		return err;
	stays = inode == c->top || keeps(c, inode->ino);
	vfs_iput(inode);
	return stays ? 0 : vfs_rmdir(v->dir, &v->name);
}

static void clear_failed(void *ctx, int err, const char *path)
{
	struct clearing *c = ctx;

	(void)path;
	if (!c->err)
		snprintf(c->why, sizeof(c->why), "%s", err_text());
	c->err = c->err ? c->err : err;
}

static int clear(struct clearing *c, const struct visit *start)
{
	const struct visitor v = { clear_enter, clear_leave, clear_failed, c };

	descend(start, "", &v);
	return c->err && c->why[0] ? fail(c->err, "%s", c->why) : c->err;
}

int volume_clear(struct inode *top, const struct seen *kept)
{
	struct clearing c = { .kept = kept, .top = top };

	return clear(&c, &(struct visit){ NULL, { "", 0 }, top });
}

int volume_remove(struct inode *dir, const struct name *name, const struct seen *kept)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct clearing c = { .kept = kept };
	int err = vfs_lookup(dir, name, &inode);

	return err ? err : clear(&c, &(struct visit){ dir, *name, inode });
}
