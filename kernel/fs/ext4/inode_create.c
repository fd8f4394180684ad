/*
 * A new inode, whole before anybody can find it: its number, its members from what the vfs says and what the directory
 * hands down, a symbolic link's target, and the ACLs that come with it. It has no link yet: that is its name's business.
 *
 *   - Flags come down from the directory: those that are inherited at all, less those that the type cannot have.
 *   - The map is an empty extent root where the volume has extents; a short target of a symbolic link takes its place.
 *   - A longer target is a block of metadata, written through the journal like a directory's.
 *
 * Should a step fail, those before it are undone in the same handle.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define FL_INHERITED                                                                                       \
	(EXT4_FL_SECRM | EXT4_FL_UNRM | EXT4_FL_COMPR | EXT4_FL_SYNC | EXT4_FL_NODUMP | EXT4_FL_NOATIME |  \
	 EXT4_FL_NOCOMPR | EXT4_FL_JOURNAL_DATA | EXT4_FL_NOTAIL | EXT4_FL_DIRSYNC | EXT4_FL_PROJINHERIT | \
	 EXT4_FL_CASEFOLD | EXT4_FL_DAX)

static bool is_fast(const struct new_inode *what)
{
	return S_ISLNK(what->mode) && what->target.len < EXT4_IBLOCK_BYTES;
}

static void fill_map(struct ext4_super *es, struct ext4_inode *ei, const struct new_inode *what)
{
	bool mapped = S_ISREG(what->mode) || S_ISDIR(what->mode) || S_ISLNK(what->mode);

	if (is_fast(what)) {
		memcpy(ei->block, what->target.s, what->target.len);
	} else if (mapped && ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS)) {
		ei->flags |= EXT4_FL_EXTENTS;
		ext4_extent_root_init(ei->block);
	} else if (S_ISCHR(what->mode) || S_ISBLK(what->mode)) {
		ext4_rdev_put(what->rdev_major, what->rdev_minor, ei->block);
	}
}

/* Nobody else has the inode yet. */
static void fill(struct ext4_super *es, struct ext4_inode *ei, const struct ext4_inode *dir,
		 const struct new_inode *what)
{
	struct inode *inode = &ei->vfs;

	inode->mode = what->mode;
	inode->uid = what->uid;
	inode->gid = what->gid;
	inode->project = what->project;
	inode->rdev_major = what->rdev_major;
	inode->rdev_minor = what->rdev_minor;
	inode->generation = ext4_generation_new(es);
	inode->atime = inode->mtime = inode->ctime = inode->btime = inode_now(inode);
	ei->flags = ext4_flags_of_type(what->mode, dir->flags & FL_INHERITED);
	ei->extra_isize = ext4_extra_isize_new(es);
	ei->csum_seed = ext4_csum_inode_seed(es, (u32)inode->ino, inode->generation);
	fill_map(es, ei, what);
	inode->flags = ei->flags & EXT4_FL_USER_VISIBLE;
	if (S_ISLNK(what->mode))
		inode_set_size(inode, what->target.len);
	es->set_ops(inode);
}

static int set_target(struct ext4_handle *h, struct ext4_inode *ei, const struct name *target)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);
	int err = ext4_map_new_block(h, ei, 0, &ext4_symlink_ops, &ctx, &bh);

	if (err)
		return err;
	bh_lock(bh);
	memcpy(bh->data, target->s, target->len);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	return ext4_inode_write(h, ei);
}

static int set_acl(struct ext4_handle *h, struct ext4_inode *ei, u32 index, const struct acl *acl)
{
	scoped(freep) u8 *value = NULL;
	u32 len;
	int err;

	if (!acl)
		return 0;
	err = ext4_acl_encode(acl, &value, &len);
	return err ? err : ext4_xattr_set(h, ei, index, "", 0, value, len, 0);
}

static int build(struct ext4_handle *h, struct ext4_inode *ei, const struct new_inode *what)
{
	int err = 0;

	if (S_ISLNK(what->mode) && !is_fast(what))
		return set_target(h, ei, &what->target);
	if (!err)
		err = set_acl(h, ei, EXT4_XATTR_ACL_ACCESS, what->acl);
	if (!err)
		err = set_acl(h, ei, EXT4_XATTR_ACL_DEFAULT, what->default_acl);
	return err;
}

/* The number is free again, and its slot says that it was deleted. */
static int give_back(struct ext4_handle *h, u64 ino, bool is_dir, int err)
{
	int undo = ext4_inode_set_dtime(h, ino, (u32)super_now(&h->es->vfs).sec);

	if (!undo)
		undo = ext4_ino_free(h, ino, is_dir);
	return undo ? ext4_abort(h->es, err) : err;
}

/* A number, and memory for its inode. */
static int take_number(struct ext4_handle *h, struct ext4_inode *dir, u32 mode, u64 *ino, struct inode **out)
{
	int err;

	/* A bitmap that calls an inode free which is in use is right from now on: the next number is tried. */
	do {
		err = ext4_ino_take(h, dir, mode, ino);
		if (err)
			return err;
		err = inode_new(&h->es->vfs, *ino, out);
	} while (err == -EUCLEAN);
	return err ? give_back(h, *ino, S_ISDIR(mode), err) : 0;
}

int ext4_inode_create(struct ext4_handle *h, struct ext4_inode *dir, const struct new_inode *what,
		      struct ext4_inode **out)
{
	struct ext4_super *es = h->es;
	bool directory = S_ISDIR(what->mode);
	struct ext4_inode *ei;
	struct inode *inode;
	u64 ino;
	int err;

	if (S_ISLNK(what->mode) && what->target.len >= ext4_block_bytes(es))
		return -ENAMETOOLONG;
	err = take_number(h, dir, what->mode, &ino, &inode);
	if (err)
		return err;
	ei = ext4_inode(inode);
	fill(es, ei, dir, what);
	err = ext4_inode_write_new(h, ei);
	if (err) {
		inode_ready(inode, err);
		vfs_iput(inode);
		return give_back(h, ino, directory, err);
	}
	err = build(h, ei, what);
	if (!err) {
		*out = ei;
		return 0;
	}
	if (((ei->xattr_blk || ei->xattr_off) && ext4_xattr_drop(h, ei, EXT4_DROP_NEW)) ||
	    ext4_quota_gone(h, ei))
		err = ext4_abort(es, err);
	inode_ready(inode, err);
	vfs_iput(inode);
	return give_back(h, ino, directory, err);
}
