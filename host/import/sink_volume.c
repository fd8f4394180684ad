/*
 * A volume as a sink: what vfs.h offers, called in the order in which the items come.
 *
 * The directories that lead to the last item stay looked up (`way`), for the next one is mostly beside or below it. Symbolic links on the way
 * are refused: what an archive says of a path must not be bent by what another one put there.
 *
 * What was there under a file's name keeps it until the new file is complete: it is made under a name of its own and takes the old
 * one's place by a rename. Times of directories, and the ACLs that new files would inherit, are set at the end.
 */
#include "way.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR_MODE 0755u /* of directories that nobody listed */

/* What a directory gets at the end, and a file whose flags forbid it another name. */
struct due {
	u64 ino;
	u32 generation, valid; /* ATTR_* */
	u32 flags;
	struct timespec64 atime, mtime;
	void *acl; /* system.posix_acl_default; NULL: none */
	u32 acl_bytes;
};

struct sink_volume {
	struct sink sink;
	struct super_block *sb;
	struct cred cred;
	struct way way; /* of inodes */
	struct due *due;
	u64 dues, due_room;
	struct seen made; /* with SINK_LAYER: the inodes that came from this layer */
};

struct sink_file {
	struct inode *inode, *dir;
	u64 size_bytes; /* that it will have */
	char *name;     /* the item's */
	char temp[32];  /* the name it has meanwhile; "": its own */
};

static struct sink_volume *to_volume(struct sink *k)
{
	return container_of(k, struct sink_volume, sink);
}

/* Whiteouts do not touch it any more. */
static int made_add(struct sink_volume *v, u64 ino)
{
	int err = v->sink.keep & SINK_LAYER ? seen_add(&v->made, ino) : 0;

	return err == -EEXIST ? 0 : err;
}

/* What has the name goes. Directories only as a layer may. */
static int take_away(struct sink_volume *v, struct inode *dir, const struct name *name, struct inode *old)
{
	if (!is_dir(old))
		return vfs_unlink(dir, name);
	if (!(v->sink.keep & SINK_LAYER))
		return fail(-EISDIR, "there is a directory of that name");
	return volume_remove(dir, name, NULL);
}

/* ---- the way to an item ---- */

static void way_leave(struct way *w, void *dir)
{
	(void)w;
	vfs_iput(dir);
}

/* Takes dir over. */
static int add_dir(struct sink_volume *v, struct inode *dir, size_t end)
{
	int err = way_add(&v->way, dir, end);

	if (err) {
		vfs_iput(dir);
		return err;
	}
	return made_add(v, dir->ino);
}

/* arg: a bool, whether a directory is made when it is not there. */
static int way_down(struct way *w, const struct name *name, size_t end, void *arg)
{
	struct sink_volume *v = container_of(w, struct sink_volume, way);
	struct inode *dir = way_dir(w), *next;
	int err = vfs_lookup(dir, name, &next);

	if (err == -ENOENT && *(bool *)arg) {
		err = vfs_create(dir, name, S_IFDIR | DIR_MODE, 0, 0, NULL, &v->cred, &next);
		err_clear();
	}
	if (err)
		return err;
	if (is_dir(next))
		return add_dir(v, next, end);
	err = fail(is_symlink(next) ? -ELOOP : -ENOTDIR, "%s \"%.*s\" is in its way",
		   is_symlink(next) ? "the symbolic link" : "the file", (int)end, w->path);
	vfs_iput(next);
	return err;
}

/* The directory of a path's last name, borrowed until the next call, and that name. */
static int way_of(struct sink_volume *v, const char *path, bool make, struct inode **dir, struct name *last)
{
	int err = way_to(&v->way, path, &make, last);

	*dir = err ? NULL : way_dir(&v->way);
	return err;
}

/* After a directory was taken away: nothing below it stays looked up. */
static void forget_way(struct sink_volume *v)
{
	way_back(&v->way, 1);
}

/* ---- attributes ---- */

static int due_add(struct sink_volume *v, const struct inode *inode, const struct due *due)
{
	struct due *more;

	if (v->dues == v->due_room) {
		u64 room = MAX(2 * v->due_room, 256ull);

		more = realloc(v->due, room * sizeof(*more));
		if (!more)
			return fail(-ENOMEM, "no memory to copy");
		v->due = more;
		v->due_room = room;
	}
	more = &v->due[v->dues++];
	*more = *due;
	more->ino = inode->ino;
	more->generation = inode->generation;
	return 0;
}

static int set_one_xattr(struct inode *inode, const struct item_xattr *x)
{
	int err = vfs_setxattr(inode, x->name, x->value, x->len_bytes, 0);

	/* The volume has room, the inode has not. */
	if (err == -ENOSPC)
		err = fail(-E2BIG, "its attribute %s does not fit", x->name);
	else if (err == -EOPNOTSUPP || err == -ENOTSUP)
		err = fail(-EOPNOTSUPP, "the volume has no room for attributes like %s", x->name);
	return err;
}

static bool is_default_acl(const char *name)
{
	return !strcmp(name, "system.posix_acl_default");
}

/* `due` gets what waits for the end. */
static int set_xattrs(struct inode *inode, const struct item *it, struct due *due)
{
	bool acl = false;
	int err = 0, one;

	for (u32 i = 0; i < it->xattrs; i++) {
		const struct item_xattr *x = &it->xattr[i];

		if (due && is_default_acl(x->name)) {
			due->acl = malloc(x->len_bytes);
			if (!due->acl)
				return fail(-ENOMEM, "no memory to copy");
			memcpy(due->acl, x->value, x->len_bytes);
			due->acl_bytes = x->len_bytes;
			continue;
		}
		acl |= !strcmp(x->name, "system.posix_acl_access");
		one = set_one_xattr(inode, x);
		err = err ? err : one;
	}
	/* What it inherited is not its own. */
	if (!acl && inode->sb->has_acl && !is_symlink(inode)) {
		one = vfs_removexattr(inode, "system.posix_acl_access");
		if (one && one != -ENODATA && one != -EOPNOTSUPP)
			err = err ? err : one;
	}
	return err;
}

static u32 mode_of(const struct sink_volume *v, const struct item *it)
{
	if (v->sink.keep & KEEP_MODE)
		return it->mode;
	return (it->mode & S_IFMT) | (it->mode & 0777 & ~v->cred.umask);
}

static struct cred owner_of(const struct sink_volume *v, const struct item *it)
{
	struct cred c = { v->cred.uid, v->cred.gid, 0 };

	if (v->sink.keep & KEEP_OWNER && it->has & ITEM_OWNER) {
		c.uid = it->uid;
		c.gid = it->gid;
	}
	return c;
}

/* Everything but the bytes. Directories get their times at the end. */
static int set_attributes(struct sink_volume *v, struct inode *inode, const struct item *it)
{
	struct cred owner = owner_of(v, it);
	struct iattr a = { .mode = mode_of(v, it) & 07777, .uid = owner.uid, .gid = owner.gid };
	struct due due = { 0 };
	u32 times = 0;
	int err = v->sink.keep & KEEP_XATTR ? set_xattrs(inode, it, is_dir(inode) ? &due : NULL) : 0, one;

	if (v->sink.keep & KEEP_TIMES && it->has & ITEM_MTIME)
		times |= ATTR_MTIME;
	if (v->sink.keep & KEEP_TIMES && it->has & ITEM_ATIME && !(v->sink.keep & SINK_NO_ATIME))
		times |= ATTR_ATIME;
	a.mtime = due.mtime = it->mtime;
	a.atime = due.atime = it->atime;
	a.valid = is_dir(inode) ? 0 : times;
	if (inode->uid != owner.uid || inode->gid != owner.gid)
		a.valid |= ATTR_UID | ATTR_GID;
	if (!is_symlink(inode) && (inode->mode & 07777) != a.mode)
		a.valid |= ATTR_MODE;
	one = a.valid ? vfs_setattr(inode, &a) : 0;
	err = err ? err : one;
	due.valid = is_dir(inode) ? times : 0;
	/* Flags come last: they may forbid the rest, and the names that the file is still to get. */
	a.flags = due.flags = (inode->flags & ~ITEM_FLAGS_KEPT) | (it->flags & ITEM_FLAGS_KEPT);
	if (v->sink.keep & KEEP_XATTR && it->has & ITEM_FLAGS && inode->flags != a.flags) {
		bool late = is_dir(inode) || a.flags & (INO_IMMUTABLE | INO_APPEND);

		due.valid |= late ? ATTR_FLAGS : 0;
		a.valid = ATTR_FLAGS;
		one = late ? 0 : vfs_setattr(inode, &a);
		err = err ? err : one;
	}
	if (due.valid || due.acl) {
		one = due_add(v, inode, &due);
		if (one)
			free(due.acl);
		err = err ? err : one;
	}
	return err;
}

/* ---- all but regular files ---- */

static int make_link(struct sink_volume *v, const struct item *it)
{
	struct inode *target, *dir, *old;
	struct name name;
	int err = way_of(v, it->target, false, &dir, &name);

	if (!err)
		err = vfs_lookup(dir, &name, &target);
	if (err)
		return err == -ENOENT ? fail(-ENOENT, "a link to \"%s\", which is not there", it->target)
				      : err;
	if (is_dir(target))
		err = fail(-EPERM, "a hard link to a directory");
	if (!err)
		err = way_of(v, it->path, true, &dir, &name);
	if (!err && !vfs_lookup(dir, &name, &old)) {
		if (old != target)
			err = take_away(v, dir, &name, old);
		vfs_iput(old);
		if (old == target || err)
			goto out;
	}
	if (!err)
		err = vfs_link(target, dir, &name);
out:
	vfs_iput(target);
	return err;
}

static int make_whiteout(struct sink_volume *v, const struct item *it)
{
	struct inode *dir;
	struct name name;
	int err = way_of(v, it->path, false, &dir, &name);

	if (!err)
		err = volume_remove(dir, &name, &v->made);
	forget_way(v);
	return err == -ENOENT ? 0 : err;
}

static int top_or(struct sink_volume *v, const struct item *it, struct inode **out)
{
	struct inode *dir;
	struct name name;
	int err;

	if (!*it->path) {
		*out = vfs_igrab(v->way.level[0].dir);
		return 0;
	}
	err = way_of(v, it->path, true, &dir, &name);
	return err ? err : vfs_lookup(dir, &name, out);
}

static int make_opaque(struct sink_volume *v, const struct item *it)
{
	struct inode *dir;
	int err = top_or(v, it, &dir);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = is_dir(dir) ? volume_clear(dir, &v->made) : 0;
	vfs_iput(dir);
	forget_way(v);
	return err;
}

/* A directory, symlink, device …: what is there may be kept. */
static int make_file(struct sink_volume *v, const struct item *it)
{
	struct cred owner = owner_of(v, it);
	struct name target = { 0 }, name;
	struct inode *inode, *dir = NULL;
	int err = top_or(v, it, &inode);

	if (!err && (!is_dir(inode) || !S_ISDIR(it->mode))) {
		err = *it->path ? way_of(v, it->path, true, &dir, &name)
				: fail(-ENOTDIR, "the top is a directory, and stays one");
		if (!err)
			err = take_away(v, dir, &name, inode);
		vfs_iput(inode);
		err = err ? err : -ENOENT;
	}
	if (err == -ENOENT) {
		err_clear();
		if (it->target)
			target = NAME(it->target);
		err = way_of(v, it->path, true, &dir, &name);
		if (!err)
			err = vfs_create(dir, &name, mode_of(v, it), it->rdev_major, it->rdev_minor,
					 it->target ? &target : NULL, &owner, &inode);
	}
	if (err)
		return err;
	err = made_add(v, inode->ino);
	if (!err)
		err = set_attributes(v, inode, it);
	vfs_iput(inode);
	return err;
}

static int sink_make(struct sink *k, const struct item *it)
{
	struct sink_volume *v = to_volume(k);

	switch (it->kind) {
	case ITEM_LINK:
		return make_link(v, it);
	case ITEM_WHITEOUT:
		return make_whiteout(v, it);
	case ITEM_OPAQUE:
		return make_opaque(v, it);
	case ITEM_FILE:
		break;
	}
	return make_file(v, it);
}

/* ---- regular files ---- */

static void file_free(struct sink_file *sf)
{
	if (sf->inode)
		vfs_iput(sf->inode);
	if (sf->dir)
		vfs_iput(sf->dir);
	free(sf->name);
	free(sf);
}

/* The name is taken: the new file gets another for the time being, unless it may not have this one at all. */
static int create_beside(struct sink_volume *v, struct inode *dir, const struct name *name,
			 const struct item *it, const struct cred *owner, struct sink_file *sf)
{
	struct inode *old;
	int err = vfs_lookup(dir, name, &old);

	if (err)
		return err;
	if (is_dir(old)) {
		err = take_away(v, dir, name, old);
		vfs_iput(old);
		return err ? err : vfs_create(dir, name, mode_of(v, it), 0, 0, NULL, owner, &sf->inode);
	}
	vfs_iput(old);
	do {
		u32 chance;

		os_random(&chance, sizeof(chance));
		snprintf(sf->temp, sizeof(sf->temp), ".werunos-copy-%08x", chance);
		err = vfs_create(dir, &NAME(sf->temp), mode_of(v, it), 0, 0, NULL, owner, &sf->inode);
	} while (err == -EEXIST);
	return err;
}

static int sink_begin(struct sink *k, const struct item *it, struct sink_file **out)
{
	struct sink_volume *v = to_volume(k);
	struct sink_file *sf = calloc(1, sizeof(*sf));
	struct cred owner = owner_of(v, it);
	struct inode *dir;
	struct name name;
	int err;

	if (!sf)
		return fail(-ENOMEM, "no memory to copy");
	err = way_of(v, it->path, true, &dir, &name);
	if (!err) {
		sf->size_bytes = it->size_bytes;
		sf->dir = vfs_igrab(dir);
		sf->name = strdup(name.s);
		err = sf->name ? vfs_create(dir, &name, mode_of(v, it), 0, 0, NULL, &owner, &sf->inode)
			       : fail(-ENOMEM, "no memory to copy");
	}
	if (err == -EEXIST) {
		err_clear();
		err = create_beside(v, dir, &name, it, &owner, sf);
	}
	if (err) {
		file_free(sf);
		return err;
	}
	*out = sf;
	return 0;
}

/* The file's last block is written whole. */
static u32 pad(const struct sink_file *sf, u64 off_bytes, u8 *buf, u64 len_bytes)
{
	u64 bs = sf->inode->sb->block_bytes;

	if (off_bytes + len_bytes != sf->size_bytes || off_bytes % bs || bs > SINK_PAD_BYTES)
		return 0;
	memset(buf + len_bytes, 0, ALIGN_UP(len_bytes, bs) - len_bytes);
	return WRITE_PADDED;
}

static int sink_write(struct sink *k, struct sink_file *sf, u64 off_bytes, void *buf, u64 len_bytes)
{
	u32 flags = pad(sf, off_bytes, buf, len_bytes);
	u8 *p = buf;
	int err = 0;

	(void)k;
	while (!err && len_bytes) {
		u64 done;

		err = vfs_write(sf->inode, off_bytes, p, len_bytes, flags, &done);
		off_bytes += done;
		p += done;
		len_bytes -= done;
	}
	return err;
}

/* The file is as it shall be: now it gets its name. */
static int settle(struct sink_volume *v, struct sink_file *sf, const struct item *it)
{
	int err = 0, attr_err;

	if (atomic_load(&sf->inode->size_bytes) < it->size_bytes)
		err = vfs_truncate(sf->inode, it->size_bytes);
	if (err)
		return err;
	vfs_closed(sf->inode);
	attr_err = set_attributes(v, sf->inode, it);
	err = made_add(v, sf->inode->ino);
	if (!err && sf->temp[0])
		err = vfs_rename(sf->dir, &NAME(sf->temp), sf->dir, &NAME(sf->name), 0);
	sf->temp[0] = err ? sf->temp[0] : 0;
	return err ? err : attr_err;
}

static int sink_end(struct sink *k, struct sink_file *sf, const struct item *it, int err)
{
	struct sink_volume *v = to_volume(k);
	bool broken = err;

	if (!err)
		err = settle(v, sf, it);
	/* Bytes that are missing make it no file; an attribute that is missing is told of. */
	if (broken || (err && (sf->temp[0] || atomic_load(&sf->inode->size_bytes) < it->size_bytes)))
		(void)!vfs_unlink(sf->dir, &NAME(sf->temp[0] ? sf->temp : sf->name));
	file_free(sf);
	return err;
}

/* ---- the end ---- */

static int pay(struct sink_volume *v, const struct due *d)
{
	struct inode *inode;
	int err = vfs_iget(v->sb, d->ino, &inode);

	/* Taken away since. */
	if (err)
		return err == -ESTALE ? 0 : err;
	if (inode->generation == d->generation && inode->nlink) {
		if (d->acl)
			err = vfs_setxattr(inode, "system.posix_acl_default", d->acl, d->acl_bytes, 0);
		if (!err && d->valid)
			err = vfs_setattr(inode, &(struct iattr){ .valid = d->valid,
								  .flags = d->flags,
								  .mtime = d->mtime,
								  .atime = d->atime });
	}
	vfs_iput(inode);
	return err;
}

static int sink_finish(struct sink *k)
{
	struct sink_volume *v = to_volume(k);
	int err = 0;

	forget_way(v);
	for (u64 i = 0; i < v->dues; i++) {
		int one = pay(v, &v->due[i]);

		err = err ? err : one;
		free(v->due[i].acl);
	}
	v->dues = 0;
	return err;
}

static void sink_close(struct sink *k)
{
	struct sink_volume *v = to_volume(k);

	for (u64 i = 0; i < v->dues; i++)
		free(v->due[i].acl);
	way_fini(&v->way);
	free(v->due);
	seen_free(&v->made);
	free(v);
}

static const struct sink_ops sink_ops = {
	.make = sink_make,
	.begin = sink_begin,
	.write = sink_write,
	.end = sink_end,
	.finish = sink_finish,
	.close = sink_close,
};

int sink_volume(struct inode *top, u32 keep, const struct cred *cred, struct sink **out)
{
	struct sink_volume *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return fail(-ENOMEM, "no memory to copy");
	v->sink = (struct sink){ .ops = &sink_ops, .keep = keep };
	v->way = (struct way){ .down = way_down, .leave = way_leave };
	v->sb = top->sb;
	v->cred = *cred;
	err = is_dir(top) ? add_dir(v, vfs_igrab(top), 0)
			  : fail(-ENOTDIR, "what shall be copied to is no directory");
	if (err)
		sink_close(&v->sink);
	else
		*out = &v->sink;
	return err;
}
