/* Inodes for the vfs: which may be seen, and which operations each type has. */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

/* A target in a block of its own: metadata, so what was just written may be in the cache alone. */
static int slow_target(struct ext4_inode *ei, char *buf, u32 len)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);
	struct ext4_run run;
	int err;

	if (ei->flags & EXT4_FL_INLINE_DATA)
		return ext4_read_content(ei, 0, buf, len);
	err = ext4_map_blocks(ei, 0, 1, &run);
	if (err)
		return err;
	if (!run.pblk || run.unwritten || ext4_size(ei) > ei->vfs.sb->block_bytes)
		return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			       "a symbolic link whose target is not in its block");
	err = bh_read(ei->vfs.sb->dev, run.pblk, &ext4_symlink_ops, &ctx, &bh);
	if (!err)
		memcpy(buf, bh->data, len);
	return err;
}

static int ext4_readlink(struct inode *inode, char *buf, u32 size, u32 *len)
{
	struct ext4_inode *ei = ext4_inode(inode);
	u32 n = (u32)MIN(ext4_size(ei), (u64)size);

	if (ei->flags & EXT4_FL_ENCRYPT)
		return fail(-ENOKEY, "symbolic link %llu is encrypted", (unsigned long long)inode->ino);
	*len = n;
	if (ext4_inode_is_fast_symlink(ei)) {
		memcpy(buf, ei->block, n);
		return 0;
	}
	return slow_target(ei, buf, n);
}

static const struct inode_ops dir_ops = {
	.lookup = ext4_lookup,
	.readdir = ext4_readdir,
	.create = ext4_create,
	.link = ext4_link,
	.unlink = ext4_unlink,
	.rename = ext4_rename,
	.setattr = ext4_setattr,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.set_acl = ext4_set_acl,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
	.get_acl = ext4_get_acl,
};

/* Who goes on appending gets another window. */
static void file_closed(struct inode *inode)
{
	ext4_window_drop(ext4_inode(inode));
}

static const struct inode_ops file_ops = {
	.setattr = ext4_setattr,
	.map = ext4_map,
	.unpack = ext4_unpack,
	.alloc = ext4_alloc,
	.commit = ext4_commit,
	.abort = ext4_abort_alloc,
	.unmap = ext4_unmap,
	.prealloc = ext4_prealloc,
	.set_size = ext4_set_size,
	.closed = file_closed,
	.fragments = ext4_fragments,
	.defrag = &ext4_defrag_ops,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.set_acl = ext4_set_acl,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
	.get_acl = ext4_get_acl,
};

static int sealed_may_open(const struct inode *inode, bool write)
{
	const struct ext4_inode *ei = container_of(inode, const struct ext4_inode, vfs);

	if (ei->flags & EXT4_FL_ENCRYPT)
		return fail(-ENOKEY, "inode %llu is encrypted", (unsigned long long)inode->ino);
	if (write)
		return fail(-EPERM, "inode %llu is sealed (verity): its content never changes",
			    (unsigned long long)inode->ino);
	return 0;
}

/* A file whose content is encrypted. */
static const struct inode_ops encrypted_ops = {
	.setattr = ext4_setattr,
	.map = ext4_map,
	.fragments = ext4_fragments,
	.may_open = sealed_may_open,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.set_acl = ext4_set_acl,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
	.get_acl = ext4_get_acl,
};

/* A file whose content never changes again. */
static const struct inode_ops verity_ops = {
	.setattr = ext4_setattr,
	.map = ext4_map,
	.fragments = ext4_fragments,
	.may_open = sealed_may_open,
	.verify_unit = ext4_verity_unit,
	.verify = ext4_verity_check,
	.digest = ext4_verity_digest,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.set_acl = ext4_set_acl,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
	.get_acl = ext4_get_acl,
};

static const struct inode_ops symlink_ops = {
	.readlink = ext4_readlink,
	.setattr = ext4_setattr,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
};

/* Devices, fifos and sockets. */
static const struct inode_ops special_ops = {
	.setattr = ext4_setattr,
	.fsync = ext4_fsync,
	.setxattr = ext4_setxattr,
	.set_acl = ext4_set_acl,
	.getxattr = ext4_getxattr,
	.listxattr = ext4_listxattr,
	.get_acl = ext4_get_acl,
};

static const struct inode_ops *ops_of_file(u32 flags)
{
	if (flags & EXT4_FL_VERITY)
		return &verity_ops;
	return flags & EXT4_FL_ENCRYPT ? &encrypted_ops : &file_ops;
}

void ext4_inode_set_ops(struct inode *inode)
{
	if (is_dir(inode))
		inode->ops = &dir_ops;
	else if (is_reg(inode))
		inode->ops = ops_of_file(ext4_inode(inode)->flags);
	else if (is_symlink(inode))
		inode->ops = &symlink_ops;
	else
		inode->ops = &special_ops;
	if (is_dir(inode) && ext4_inode(inode)->flags & EXT4_FL_CASEFOLD)
		inode->iflags |= I_NO_DCACHE;
}

int ext4_read_inode(struct inode *inode)
{
	struct ext4_super *es = ext4_super(inode->sb);
	struct ext4_inode *ei = ext4_inode(inode);
	int err;

	if (!ext4_ino_public(es, inode->ino))
		return fail(-ESTALE, "inode %llu is not for files", (unsigned long long)inode->ino);
	err = ext4_inode_load(ei);
	if (err)
		return err;
	if (ei->flags & EXT4_FL_EA_INODE)
		return corrupt(&es->vfs.health, "inode", inode->ino,
			       "it holds an attribute's value, yet a name leads to it");
	/* A file without blocks looks like one hole to tar and the like; inline data is none. */
	if (is_reg(inode) && ei->flags & EXT4_FL_INLINE_DATA) {
		inode->blocks_512 += DIV_ROUND_UP(ext4_size(ei), 512);
		atomic_store(&inode->is_packed, true);
	}
	/* Its last change may be in a transaction that is not durable yet, from an earlier stay in memory. */
	if (es->journal) {
		atomic_store(&ei->tid, jbd2_running(es->journal));
		atomic_store(&ei->data_tid, atomic_load(&ei->tid));
	}
	ext4_inode_set_ops(inode);
	return 0;
}
