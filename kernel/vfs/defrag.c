/*
 * Files in fewer pieces. The module knows what is worth it and where to (defrag_ops); here are the locks: the file's writers wait while one step, a few MiB, is
 * copied and swapped, its readers only for the swap.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

/* Where a page ends, swap space says what it is. Where it lies may be written down elsewhere, to wake a sleeping machine from. */
#define SWAP_OFF   4086u
#define SWAP_MAGIC "SWAPSPACE2"

static bool is_swap(struct inode *inode)
{
	char magic[sizeof(SWAP_MAGIC) - 1];
	u64 done;

	if (vfs_read(inode, SWAP_OFF, magic, sizeof(magic), &done)) {
		err_clear();
		return false;
	}
	return done == sizeof(magic) && !memcmp(magic, SWAP_MAGIC, sizeof(magic));
}

const char *vfs_defrag_refused(struct inode *inode)
{
	if (!is_reg(inode))
		return "not a regular file";
	if (inode->flags & INO_IMMUTABLE)
		return "immutable: who set that may count on where it lies";
	if (inode->flags & INO_VERITY)
		return "sealed (verity)";
	if (inode->flags & INO_ENCRYPTED)
		return "encrypted";
	if (atomic_load(&inode->is_packed))
		return "lies in its inode";
	if (!inode->ops->defrag)
		return "this file system cannot move its files";
	return is_swap(inode) ? "swap space: where it lies may be known elsewhere" : NULL;
}

int vfs_fragments(struct inode *inode, struct fragments *out)
{
	int err;

	*out = (struct fragments){ 0 };
	if (!is_reg(inode))
		return is_dir(inode) ? -EISDIR : -EINVAL;
	if (!inode->ops->fragments)
		return fail(-EOPNOTSUPP, "%s does not tell in how many pieces a file lies",
			    inode->sb->type->name);
	rw_read_lock(&inode->map_lock);
	err = inode->ops->fragments(inode, out);
	rw_read_unlock(&inode->map_lock);
	return err;
}

/* Locks: lock W. */
static int may_move(struct inode *inode)
{
	if (!inode->ops->defrag || atomic_load(&inode->is_packed) || inode->flags & INO_IMMUTABLE)
		return -EPERM;
	return tail_flush(inode);
}

/* 1: there was something to move. Locks: lock W. */
static int step(struct inode *inode, struct defrag_part *part)
{
	int more, err = 0;

	rw_read_lock(&inode->map_lock);
	more = inode->ops->defrag->copy(inode, part);
	rw_read_unlock(&inode->map_lock);
	if (more <= 0)
		return more;
	rw_write_lock(&inode->map_lock);
	stage_drop(inode);
	err = inode->ops->defrag->swap(inode, part);
	rw_write_unlock(&inode->map_lock);
	return err ? err : 1;
}

int vfs_defrag(struct inode *inode, u64 *pos_bytes, u64 *moved_bytes)
{
	struct defrag_part *part = NULL;
	_Atomic u32 nobody = 0;
	int err = vfs_check_writable(inode->sb), more = 1, end;

	*moved_bytes = 0;
	if (!err && !is_reg(inode))
		err = is_dir(inode) ? -EISDIR : -EINVAL;
	if (err)
		return err;
	rw_write_lock(&inode->lock);
	err = may_move(inode);
	if (!err) {
		rw_read_lock(&inode->map_lock);
		err = inode->ops->defrag->begin(inode, pos_bytes, &part);
		rw_read_unlock(&inode->map_lock);
	}
	while (part && !err && more) {
		more = step(inode, part);
		err = MIN(more, 0);
		/* Writers that wait have their turn. */
		rw_write_unlock(&inode->lock);
		os_wait(&nobody, 0, 1);
		rw_write_lock(&inode->lock);
		if (!err && more)
			err = may_move(inode);
	}
	if (part) {
		*moved_bytes = part->moved_bytes;
		end = inode->ops->defrag->end(inode, part);
		err = err ? err : end;
	}
	rw_write_unlock(&inode->lock);
	return err;
}
