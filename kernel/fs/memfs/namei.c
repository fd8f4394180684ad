/*
 * Names and inodes of the memory file system. An inode lives as long as it has a link or a user: it is resident,
 * because there is no disk to read it again from.
 */
#include "memfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static u8 type_of(const struct inode *inode)
{
	return (u8)IFTODT(inode->mode);
}

static void add_nlink(struct inode *inode, s32 n)
{
	mutex_lock(&inode->attr);
	inode->nlink = (u32)((s32)inode->nlink + n);
	mutex_unlock(&inode->attr);
}

/* A name went; a directory has only one. */
static void lose_name(struct inode *inode)
{
	add_nlink(inode, is_dir(inode) ? -(s32)inode->nlink : -1);
	inode_touch(inode, ATTR_CTIME);
}

static int memfs_lookup(struct inode *dir, const struct name *name, u64 *ino)
{
	const struct memfs_entry *e;

	if (name->s[0] == '.' && name->len == 1) {
		*ino = dir->ino;
		return 0;
	}
	if (name->s[0] == '.' && name->s[1] == '.' && name->len == 2) {
		*ino = memfs_i(dir)->dir.parent;
		return 0;
	}
	e = memfs_dir_find(memfs_i(dir), name);
	if (!e)
		return -ENOENT;
	*ino = e->ino;
	return 0;
}

static int ino_take(struct memfs *fs, u64 *ino)
{
	int err = 0;

	mutex_lock(&fs->alloc);
	if (fs->inodes == fs->inodes_max)
		err = -ENOSPC;
	else
		fs->inodes++;
	*ino = fs->next_ino++;
	mutex_unlock(&fs->alloc);
	return err;
}

static void ino_give(struct memfs *fs)
{
	mutex_lock(&fs->alloc);
	fs->inodes--;
	mutex_unlock(&fs->alloc);
}

static int fill_new(struct inode *inode, const struct new_inode *what)
{
	struct memfs_inode *mi = memfs_i(inode);
	int err = 0;

	inode->ops = &memfs_inode_ops;
	inode->iflags = I_RESIDENT;
	inode->mode = what->mode;
	inode->uid = what->uid;
	inode->gid = what->gid;
	inode->project = what->project;
	inode->rdev_major = what->rdev_major;
	inode->rdev_minor = what->rdev_minor;
	inode->generation = (u32)inode->ino;
	inode_touch(inode, ATTR_ATIME | ATTR_MTIME | ATTR_CTIME);
	inode->btime = inode->ctime;
	if (what->target.len) {
		mi->target = strndup(what->target.s, what->target.len);
		mi->target_len = what->target.len;
		atomic_store(&inode->size_bytes, what->target.len);
		err = mi->target ? 0 : -ENOMEM;
	}
	if (!err && what->acl)
		err = memfs_set_acl(inode, false, what->acl, what->mode);
	if (!err && what->default_acl)
		err = memfs_set_acl(inode, true, what->default_acl, what->mode);
	return err;
}

static int new_inode(struct memfs *fs, const struct new_inode *what, struct inode **out)
{
	struct inode *inode;
	u64 ino;
	int err = ino_take(fs, &ino);

	if (err)
		return err;
	err = inode_new(&fs->sb, ino, &inode);
	if (err) {
		ino_give(fs);
		return err;
	}
	err = fill_new(inode, what);
	inode_ready(inode, err);
	if (err) {
		ino_give(fs);
		vfs_iput(inode);
		return err;
	}
	*out = inode;
	return 0;
}

static int memfs_create(struct inode *dir, const struct name *name, const struct new_inode *what,
			struct inode **out)
{
	struct inode *inode;
	int err = memfs_dir_reserve(memfs_i(dir));

	if (!err)
		err = new_inode(memfs_of(dir->sb), what, &inode);
	if (err)
		return err;
	if (name) {
		err = memfs_dir_add(memfs_i(dir), name, inode->ino, type_of(inode));
		if (err) {
			vfs_iput(inode); /* without a link: it goes */
			return err;
		}
		add_nlink(inode, is_dir(inode) ? 2 : 1);
		if (is_dir(inode)) {
			memfs_i(inode)->dir.parent = dir->ino;
			add_nlink(dir, 1);
		}
		inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
	}
	*out = inode;
	return 0;
}

static int memfs_link(struct inode *dir, const struct name *name, struct inode *inode)
{
	int err;

	if (inode->nlink >= MEMFS_LINK_MAX)
		return -EMLINK;
	err = memfs_dir_add(memfs_i(dir), name, inode->ino, type_of(inode));
	if (err)
		return err;
	add_nlink(inode, 1);
	inode_touch(inode, ATTR_CTIME);
	inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
	return 0;
}

static int memfs_unlink(struct inode *dir, const struct name *name, struct inode *inode)
{
	if (is_dir(inode) && memfs_i(inode)->dir.live)
		return -ENOTEMPTY;
	memfs_dir_remove(memfs_i(dir), memfs_dir_find(memfs_i(dir), name));
	if (is_dir(inode))
		add_nlink(dir, -1);
	lose_name(inode);
	inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
	return 0;
}

/* `inode`, when it is a directory, has moved from one directory to another. */
static void move_dir(struct inode *inode, struct inode *from, struct inode *to)
{
	if (!is_dir(inode) || from == to)
		return;
	memfs_i(inode)->dir.parent = to->ino;
	add_nlink(from, -1);
	add_nlink(to, 1);
}

static void exchange(struct memfs_entry *a, struct memfs_entry *b)
{
	u64 ino = a->ino;
	u8 type = a->type;

	a->ino = b->ino;
	a->type = b->type;
	b->ino = ino;
	b->type = type;
}

/* Something new takes the old name's place. */
static int leave_behind(struct inode *dir, struct memfs_entry *e, const struct new_inode *what)
{
	struct inode *inode;
	int err = new_inode(memfs_of(dir->sb), what, &inode);

	if (err)
		return err;
	add_nlink(inode, 1);
	e->ino = inode->ino;
	e->type = type_of(inode);
	vfs_iput(inode);
	return 0;
}

static int memfs_rename(struct inode *dir, const struct name *name, struct inode *inode,
			struct inode *new_dir, const struct name *new_name, struct inode *victim,
			bool exchange_names, const struct new_inode *whiteout)
{
	struct memfs_entry *from = memfs_dir_find(memfs_i(dir), name),
			   *to = memfs_dir_find(memfs_i(new_dir), new_name);
	int err = 0;

	if (exchange_names) {
		exchange(from, to);
		move_dir(inode, dir, new_dir);
		move_dir(victim, new_dir, dir);
		inode_touch(victim, ATTR_CTIME);
	} else {
		if (victim && is_dir(victim) && memfs_i(victim)->dir.live)
			return -ENOTEMPTY;
		if (!victim)
			err = memfs_dir_add(memfs_i(new_dir), new_name, inode->ino, type_of(inode));
		if (!err && whiteout) {
			err = leave_behind(dir, from, whiteout);
			if (err && !victim)
				memfs_dir_remove(memfs_i(new_dir),
						 memfs_dir_find(memfs_i(new_dir), new_name));
		}
		if (err)
			return err;
		if (victim) {
			to->ino = inode->ino;
			to->type = type_of(inode);
			if (is_dir(victim))
				add_nlink(new_dir, -1);
			lose_name(victim);
		}
		if (!whiteout)
			memfs_dir_remove(memfs_i(dir), from);
		move_dir(inode, dir, new_dir);
	}
	inode_touch(inode, ATTR_CTIME);
	inode_touch(dir, ATTR_MTIME | ATTR_CTIME);
	inode_touch(new_dir, ATTR_MTIME | ATTR_CTIME);
	return 0;
}

static int memfs_readlink(struct inode *inode, char *buf, u32 size, u32 *len)
{
	const struct memfs_inode *mi = memfs_i(inode);

	*len = MIN(size, mi->target_len);
	memcpy(buf, mi->target, *len);
	return 0;
}

static int memfs_setattr(struct inode *inode, const struct iattr *attr)
{
	inode_apply(inode, attr);
	return 0;
}

const struct inode_ops memfs_inode_ops = {
	.lookup = memfs_lookup,
	.readdir = memfs_readdir,
	.create = memfs_create,
	.link = memfs_link,
	.unlink = memfs_unlink,
	.rename = memfs_rename,
	.readlink = memfs_readlink,
	.setattr = memfs_setattr,
	.map = memfs_map,
	.alloc = memfs_alloc,
	.commit = memfs_commit,
	.abort = memfs_abort,
	.unmap = memfs_unmap,
	.prealloc = memfs_prealloc,
	.set_size = memfs_set_size,
	.getxattr = memfs_getxattr,
	.setxattr = memfs_setxattr,
	.listxattr = memfs_listxattr,
	.get_acl = memfs_get_acl,
	.set_acl = memfs_set_acl,
};

int memfs_make_root(struct memfs *fs)
{
	const struct new_inode what = { .mode = S_IFDIR | 0755 };
	struct inode *root;
	int err = new_inode(fs, &what, &root);

	if (err)
		return err;
	add_nlink(root, 2);
	memfs_i(root)->dir.parent = root->ino;
	vfs_iput(root);
	return 0;
}
