/*
 * Inodes for the vfs: read from their items, and which operations each type has. Files with verity are ordinary files here: their tree of
 * hashes is not looked at, since every sector has its checksum.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include "lib/slab.h"
#include <errno.h>
#include <stdlib.h>

/* Flags that vfs.h has no name for (linux/fs.h). */
#define FS_COMPR  0x00000004u
#define FS_NOCOMP 0x00000400u
#define FS_NOCOW  0x00800000u
/* Inodes this near to each other are in the same leaf, or in the next. */
#define LEAF_INODES 16u

static struct slab inodes = SLAB_OF(struct btrfs_inode);

struct inode *btrfs_alloc_inode(struct super_block *sb)
{
	struct btrfs_inode *bi = slab_get_zeroed(&inodes);

	(void)sb;
	return bi ? &bi->vfs : NULL;
}

void btrfs_free_inode(struct inode *inode)
{
	slab_put(&inodes, btrfs_inode(inode));
}

static const struct inode_ops dir_ops = {
	.lookup = btrfs_lookup,
	.readdir = btrfs_readdir,
	.getxattr = btrfs_getxattr,
	.listxattr = btrfs_listxattr,
	.get_acl = btrfs_get_acl,
	.ioctl = btrfs_ioctl,
};

static const struct inode_ops file_ops = {
	.map = btrfs_map,
	.decode = btrfs_decode,
	.getxattr = btrfs_getxattr,
	.listxattr = btrfs_listxattr,
	.get_acl = btrfs_get_acl,
	.ioctl = btrfs_ioctl,
};

static const struct inode_ops symlink_ops = {
	.readlink = btrfs_readlink,
	.getxattr = btrfs_getxattr,
	.listxattr = btrfs_listxattr,
};

/* Devices, fifos and sockets. */
static const struct inode_ops special_ops = {
	.getxattr = btrfs_getxattr,
	.listxattr = btrfs_listxattr,
	.get_acl = btrfs_get_acl,
};

static struct timespec64 time_get(const struct btrfs_disk_time *t)
{
	/* What is no fraction of a second would be refused by who gets to see it. */
	return (struct timespec64){ .sec = (s64)le64_get(t->sec),
				    .nsec = MIN(le32_get(t->nsec), 999999999u) };
}

/* btrfs's flags as FS_IOC_GETFLAGS has them (fs/btrfs/ioctl.c, btrfs_inode_flags_to_fsflags). */
static u32 flags_get(u64 flags)
{
	static const struct {
		u64 disk;
		u32 shown;
	} flag[] = {
		{ BTRFS_INODE_SYNC, INO_SYNC },       { BTRFS_INODE_IMMUTABLE, INO_IMMUTABLE },
		{ BTRFS_INODE_APPEND, INO_APPEND },   { BTRFS_INODE_NODUMP, INO_NODUMP },
		{ BTRFS_INODE_NOATIME, INO_NOATIME }, { BTRFS_INODE_DIRSYNC, INO_DIRSYNC },
		{ BTRFS_INODE_NODATACOW, FS_NOCOW },  { BTRFS_INODE_RO_VERITY, INO_VERITY },
	};
	u32 shown = 0;

	for (u32 i = 0; i < ARRAY_SIZE(flag); i++)
		if (flags & flag[i].disk)
			shown |= flag[i].shown;
	if (flags & BTRFS_INODE_NOCOMPRESS)
		shown |= FS_NOCOMP;
	else if (flags & BTRFS_INODE_COMPRESS)
		shown |= FS_COMPR;
	return shown;
}

static void fill(struct btrfs_inode *bi, const struct btrfs_disk_inode *d)
{
	struct inode *inode = &bi->vfs;
	u64 rdev = le64_get(d->rdev);

	inode->generation = (u32)le64_get(d->generation);
	inode->mode = le32_get(d->mode);
	inode->uid = le32_get(d->uid);
	inode->gid = le32_get(d->gid);
	inode->nlink = le32_get(d->nlink);
	bi->disk_flags = le64_get(d->flags);
	inode->flags = flags_get(bi->disk_flags);
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
		inode->rdev_major = (u32)(rdev >> 20);
		inode->rdev_minor = (u32)(rdev & 0xfffff);
	}
	atomic_store(&inode->size_bytes, le64_get(d->size_bytes));
	/* As the kernel shows it: in whole sectors. */
	inode->blocks_512 = ALIGN_UP(le64_get(d->nbytes), (u64)btrfs_inode_super(bi)->sector_bytes) / 512;
	inode->atime = time_get(&d->atime);
	inode->mtime = time_get(&d->mtime);
	inode->ctime = time_get(&d->ctime);
	inode->btime = time_get(&d->otime);
}

/* The directory where a subvolume is not: of the owner and the times of the directory around it. */
static void make_placeholder(struct btrfs_inode *bi)
{
	bi->placeholder = true;
	bi->vfs.mode = S_IFDIR | 0755;
	bi->vfs.nlink = 1;
	bi->vfs.flags = 0;
	bi->vfs.blocks_512 = 0;
	atomic_store(&bi->vfs.size_bytes, 0);
}

static void set_ops(struct inode *inode)
{
	if (is_dir(inode))
		inode->ops = &dir_ops;
	else if (is_reg(inode))
		inode->ops = &file_ops;
	else if (is_symlink(inode))
		inode->ops = &symlink_ops;
	else
		inode->ops = &special_ops;
}

int btrfs_read_inode(struct inode *inode)
{
	struct btrfs_super *bs = btrfs_super(inode->sb);
	struct btrfs_inode *bi = btrfs_inode(inode);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	struct btrfs_place at;
	u32 len;
	int err = btrfs_ino_split(bs, inode->ino, &at);

	if (!err && !btrfs_is_subvol(at.root))
		err = -ENOENT;
	if (!err)
		err = btrfs_root_get(bs, at.root, &bi->root);
	if (!err)
		err = btrfs_find(bi->root, &BTRFS_KEY(at.objectid, BTRFS_KEY_INODE_ITEM, 0), &p);
	if (err == -ENOENT)
		return fail(-ESTALE, "there is no inode %llu", (unsigned long long)inode->ino);
	if (err)
		return err;
	bi->objectid = at.objectid;
	fill(bi, btrfs_path_item(&p, &len));
	if (at.absent)
		make_placeholder(bi);
	set_ops(inode);
	return 0;
}

void btrfs_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n)
{
	struct btrfs_super *bs = btrfs_super(sb);
	struct btrfs_place last = { 0 };

	for (u32 i = 0; i < n; i++) {
		const struct btrfs_root *root;
		struct btrfs_place at;

		if (btrfs_ino_split(bs, inos[i], &at) || at.absent)
			continue;
		if (at.root == last.root && at.objectid - last.objectid < LEAF_INODES)
			continue;
		last = at;
		if (!btrfs_root_get(bs, at.root, &root))
			btrfs_ahead(root, &BTRFS_KEY(at.objectid, BTRFS_KEY_INODE_ITEM, 0), 2);
	}
	err_clear();
}
