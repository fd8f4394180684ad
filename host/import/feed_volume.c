/* The trees of a volume as a feed. Names that a volume may hold but no path can say ("..", one with a slash) are told of and left out. */
#include "tree.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct feed_volume {
	struct tree tree;
	struct inode *top;
	char *name;
	char *xattr_names;
	u8 *xattr_value;  /* VFS_XATTR_MAX each, [next] */
	struct seen seen; /* [next] directories: a damaged volume may have one in two places, or in itself */
};

static struct feed_volume *to_volume(struct tree *t)
{
	return container_of(t, struct feed_volume, tree);
}

/* ---- items ---- */

static int add_target(struct inode *inode, struct item *it)
{
	u32 len;
	int err;

	it->target = malloc(VFS_PATH_MAX + 1);
	if (!it->target)
		return fail(-ENOMEM, "no memory for a link");
	err = vfs_readlink(inode, it->target, VFS_PATH_MAX, &len);
	if (err)
		return err;
	it->target[len] = 0;
	return strlen(it->target) == len ? 0 : fail(-EINVAL, "a symbolic link with a zero byte in it");
}

static int add_xattrs(struct feed_volume *f, struct inode *inode, struct item *it)
{
	u32 len, n;
	int err;

	if (!inode->sb->has_xattr)
		return 0;
	err = vfs_listxattr(inode, f->xattr_names, VFS_XATTR_MAX, &len);
	if (err == -EOPNOTSUPP)
		return 0;
	for (const char *name = f->xattr_names; !err && name < f->xattr_names + len;
	     name += strlen(name) + 1) {
		err = vfs_getxattr(inode, name, f->xattr_value, VFS_XATTR_MAX, &n);
		if (!err)
			err = item_add_xattr(it, name, f->xattr_value, n);
	}
	return err;
}

static int as_link(struct tree *t, const struct kstat *k, struct item *it, bool *is_link)
{
	const char *first;
	int err = tree_seen(t, 0, k->ino, it->path, &first);

	*is_link = !err && first;
	if (!*is_link)
		return err;
	it->kind = ITEM_LINK;
	it->target = strdup(first);
	return it->target ? 0 : fail(-ENOMEM, "no memory for hard links");
}

static int inspect(struct feed_volume *f, struct inode *inode, struct item *it)
{
	bool is_link = false;
	struct kstat k;
	int err = 0;

	vfs_getattr(inode, &k);
	it->mode = k.mode;
	it->uid = k.uid;
	it->gid = k.gid;
	it->rdev_major = k.rdev_major;
	it->rdev_minor = k.rdev_minor;
	it->flags = k.flags & ITEM_FLAGS_KEPT;
	it->atime = k.atime;
	it->mtime = k.mtime;
	it->has = ITEM_OWNER | ITEM_ATIME | ITEM_MTIME | ITEM_FLAGS;
	if (S_ISREG(k.mode)) {
		it->size_bytes = k.size_bytes;
		it->data_bytes = MIN(k.blocks_512 * 512, k.size_bytes);
	}
	if (!S_ISDIR(k.mode) && k.nlink > 1)
		err = as_link(&f->tree, &k, it, &is_link);
	if (err || is_link)
		return err;
	if (S_ISLNK(k.mode))
		err = add_target(inode, it);
	return err ? err : add_xattrs(f, inode, it);
}

static int look(struct tree *t, void *dir, const char *name, const char *path, struct item **out, void **into)
{
	struct feed_volume *f = to_volume(t);
	struct item *it = item_new(path);
	struct inode *inode = NULL;
	int err = 0;

	*out = it;
	if (!it)
		return fail(-ENOMEM, "no memory for a tree");
	if (!dir)
		inode = vfs_igrab(f->top);
	else
		err = vfs_lookup(dir, &NAME(name), &inode);
	if (!err)
		err = inspect(f, inode, it);
	if (!err && is_dir(inode))
		err = seen_add(&f->seen, inode->ino);
	if (err == -EEXIST)
		err = fail(-ELOOP, "this directory has another place in the tree");
	if (err) {
		item_spoil(it, err);
		vfs_iput(inode);
		return err == -ENOMEM ? err : 0;
	}
	if (is_dir(inode)) {
		*into = inode;
		return 0;
	}
	/* For fill. */
	it->priv = malloc(sizeof(u64));
	if (it->priv)
		memcpy(it->priv, &inode->ino, sizeof(u64));
	vfs_iput(inode);
	return it->priv ? 0 : fail(-ENOMEM, "no memory for a tree");
}

static int add_name(void *to, const struct dirent_out *de)
{
	const struct name *n = &de->name;

	if (n->s[0] == '.' && (n->len == 1 || (n->len == 2 && n->s[1] == '.')))
		return 0;
	return tree_add(to, n->s, n->len);
}

static int list(struct tree *t, void *dir, struct tree_names *to)
{
	(void)t;
	return vfs_readdir(dir, 0, add_name, to);
}

static void leave(struct tree *t, void *dir)
{
	(void)t;
	vfs_iput(dir);
}

static const struct tree_ops tree_ops = { look, list, leave };

/* ---- data ---- */

/* [at, end) of the file. */
static int move(struct inode *inode, u64 at, u64 end, struct outlet *to)
{
	while (at < end) {
		u64 room, n;
		u8 *buf = to->room(to, end - at, &room);
		int err = buf ? vfs_read(inode, at, buf, room, &n) : -ECANCELED;

		if (!err && !n)
			err = fail(-EIO, "the file is shorter than it says");
		if (!err)
			err = to->put(to, at, n);
		if (err)
			return err;
		at += n;
	}
	return 0;
}

/* The first data at or behind `at`; len 0: there are none. */
static int data_behind(struct inode *inode, u64 at, u64 size, struct item_range *out)
{
	u64 data, hole;
	int err = vfs_seek(inode, at, SEEK_DATA, &data);

	*out = (struct item_range){ size, 0 };
	if (err == -ENXIO || (!err && data >= size))
		return 0;
	if (!err)
		err = vfs_seek(inode, data, SEEK_HOLE, &hole);
	if (!err)
		*out = (struct item_range){ data, MIN(hole, size) - data };
	return err;
}

static int move_data(struct inode *inode, u64 size, struct outlet *to)
{
	struct item_range r = { 0 };
	int err = 0;

	do {
		err = data_behind(inode, r.off_bytes + r.len_bytes, size, &r);
		if (!err)
			err = move(inode, r.off_bytes, r.off_bytes + r.len_bytes, to);
	} while (!err && r.len_bytes && r.off_bytes + r.len_bytes < size);
	return err;
}

static int inode_of(struct feed *f, const struct item *it, struct inode **out)
{
	struct feed_volume *v = container_of(f, struct feed_volume, tree.feed);
	u64 ino;

	memcpy(&ino, it->priv, sizeof(ino));
	return vfs_iget(v->top->sb, ino, out);
}

static int map(struct feed *f, struct item *it)
{
	struct item_range r = { 0 };
	struct inode *inode;
	int err = inode_of(f, it, &inode);

	if (err)
		return err;
	do {
		err = data_behind(inode, r.off_bytes + r.len_bytes, it->size_bytes, &r);
		if (!err && r.len_bytes)
			err = item_add_range(it, r.off_bytes, r.len_bytes);
	} while (!err && r.len_bytes && r.off_bytes + r.len_bytes < it->size_bytes);
	vfs_iput(inode);
	if (!err)
		it->has |= ITEM_MAP;
	return err == -E2BIG ? 0 : err;
}

static int fill(struct feed *f, const struct item *it, struct outlet *to)
{
	struct inode *inode;
	int err = inode_of(f, it, &inode);

	if (err)
		return err;
	err = it->data_bytes < it->size_bytes ? move_data(inode, it->size_bytes, to)
					      : move(inode, 0, it->size_bytes, to);
	vfs_iput(inode);
	return err;
}

static void feed_close(struct feed *f)
{
	struct feed_volume *v = container_of(f, struct feed_volume, tree.feed);

	tree_fini(&v->tree);
	vfs_iput(v->top);
	seen_free(&v->seen);
	free(v->name);
	free(v->xattr_names);
	free(v->xattr_value);
	free(v);
}

static const struct feed_ops feed_ops = { .next = tree_next, .fill = fill, .map = map, .close = feed_close };

int feed_volume(struct inode *top, const char *name, const struct select *select, struct feed **out)
{
	struct feed_volume *f = calloc(1, sizeof(*f));

	if (!f)
		return fail(-ENOMEM, "no memory to copy");
	f->tree = (struct tree){ .feed = { .ops = &feed_ops, .select = select }, .ops = &tree_ops };
	f->top = vfs_igrab(top);
	f->name = strdup(name);
	f->xattr_names = malloc(VFS_XATTR_MAX);
	f->xattr_value = malloc(VFS_XATTR_MAX);
	if (!f->name || !f->xattr_names || !f->xattr_value) {
		feed_close(&f->tree.feed);
		return fail(-ENOMEM, "no memory to copy");
	}
	f->tree.name = f->name;
	*out = &f->tree.feed;
	return 0;
}
