/*
 * The tail stage: the last, partial block of a file that grows stays in memory, so that appending piece by piece
 * costs one write for each block and reads nothing again. One block for a file; lazy.c bounds and writes them all.
 *
 *     write that ends at the end of file, inside a block ─► tail_begin ─► tail_put … ─► tail_flush   (or tail_drop, tail_cut)
 *
 * Interface: internal.h.
 *
 * Invariants
 *  1. The block's place was got from alloc when its first bytes were taken, and is held: what was accepted is never
 *     refused later. It becomes part of the file by commit, in tail_flush, after the bytes are on the device.
 *  2. Readers see the bytes: map_at says MAP_INLINE for the block, size_bytes counts them. The volume does not know of
 *     them: inode->tail_from is the size that it may say.
 *  3. The block is the last one of the file: what goes beyond it flushes first, and so does whatever changes mappings.
 *  4. Bytes behind the end of file are zeros.
 *  5. inode->tail and the block change under inode->lock W and map_lock W; either lock is enough to look.
 *  6. When the block cannot be written, it goes, and the file ends where the volume says; fsync says why.
 *
 * A large write that is answered before the device has its bytes (data.c) is shown likewise, by size_bytes and
 * tail_from, without a block here: the writer has the bytes and holds inode->lock W until they have arrived. Readers read
 * as far as the device has it, and whoever was answered and reads, waits.
 */
#include "internal.h"

#include "lib/log.h"
#include "lib/scope.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static u32 block_bytes(const struct inode *inode)
{
	return inode->sb->block_bytes;
}

/* Readers may know of bytes up to `end` from now on. Locks: lock W, map_lock W. */
static void show(struct inode *inode, u64 end)
{
	if (end > atomic_load(&inode->size_bytes))
		atomic_store(&inode->size_bytes, end);
	inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
}

/* Space that the file will have. */
static void set_512(struct inode *inode, u64 bytes)
{
	mutex_lock(&inode->attr);
	inode->tail_512 = (u32)(bytes / 512);
	mutex_unlock(&inode->attr);
}

int tail_begin(struct inode *inode, u64 off_bytes, u8 *block, u64 end)
{
	struct tail *t = calloc(1, sizeof(*t));
	int err = -ENOMEM;

	if (t) {
		rw_read_lock(&inode->map_lock);
		err = inode->ops->alloc(inode, off_bytes, block_bytes(inode), &t->m);
		rw_read_unlock(&inode->map_lock);
	}
	if (err) {
		free(t);
		free(block);
		return err;
	}
	t->off_bytes = off_bytes;
	t->block = block;
	set_512(inode, t->m.flags & MAP_NEW ? MAX(inode->sb->unit_bytes, block_bytes(inode)) : 0);
	rw_write_lock(&inode->map_lock);
	atomic_store(&inode->tail_from, atomic_load(&inode->size_bytes));
	inode->tail = t;
	show(inode, end);
	rw_write_unlock(&inode->map_lock);
	return 0;
}

static void free_tail(struct inode *inode, struct tail *t)
{
	set_512(inode, 0);
	map_done(&t->m);
	free(t->block);
	free(t);
}

/* The tail is no more. With err its bytes are lost. Locks: lock W. */
static void end_tail(struct inode *inode, int err)
{
	struct tail *t = inode->tail;

	rw_write_lock(&inode->map_lock);
	if (err)
		inode_set_size(inode, inode_disk_size(inode));
	atomic_store(&inode->tail_from, ~0ull);
	inode->tail = NULL;
	rw_write_unlock(&inode->map_lock);
	free_tail(inode, t);
	/* What was read ahead of it is the block as it was. */
	stage_drop(inode);
}

/* For those who fsync. */
static void keep_error(struct inode *inode, int err)
{
	lazy_failed(inode, err);
	log_error("%s: the end of inode %llu could not be written: %s", inode->sb->health.name,
		  (unsigned long long)inode->ino, err_name(err));
}

int tail_flush(struct inode *inode)
{
	struct tail *t = inode->tail;
	int err;

	if (!t)
		return 0;
	stat_add(STAT_TAIL_WRITES, 1);
	rw_read_lock(&inode->map_lock);
	err = vfs_check_writable(inode->sb);
	if (!err)
		err = blkdev_write(t->m.dev, t->m.dev_off_bytes, t->block, block_bytes(inode), 0);
	if (err) {
		inode->ops->abort(inode, &t->m);
	} else {
		t->m.flags |= MAP_LATE;
		err = inode->ops->commit(inode, &t->m, atomic_load(&inode->size_bytes));
	}
	rw_read_unlock(&inode->map_lock);
	if (err)
		keep_error(inode, err);
	end_tail(inode, err);
	return err;
}

int tail_put(struct inode *inode, u64 off_bytes, const u8 *src, u64 len_bytes)
{
	struct tail *t = inode->tail;

	rw_write_lock(&inode->map_lock);
	memcpy(t->block + (off_bytes - t->off_bytes), src, len_bytes);
	show(inode, off_bytes + len_bytes);
	rw_write_unlock(&inode->map_lock);
	stat_add(STAT_TAIL_PUTS, 1);
	return atomic_load(&inode->size_bytes) < t->off_bytes + block_bytes(inode) ? 0 : tail_flush(inode);
}

void tail_drop(struct inode *inode)
{
	if (!inode->tail)
		return;
	inode->ops->abort(inode, &((struct tail *)inode->tail)->m);
	end_tail(inode, -ECANCELED);
}

void tail_cut(struct inode *inode)
{
	struct tail *t = inode->tail;

	if (!t)
		return;
	inode->ops->abort(inode, &t->m);
	inode->tail = NULL;
	free_tail(inode, t);
}

void tail_on_its_way(struct inode *inode, struct mapping *m, u64 end)
{
	m->flags |= MAP_LATE;
	set_512(inode, m->flags & MAP_NEW ? m->len_bytes : 0);
	atomic_store(&inode->tail_from, atomic_load(&inode->size_bytes));
	show(inode, end);
}

void tail_arrived(struct inode *inode, int err)
{
	set_512(inode, 0);
	if (!err)
		return;
	/* In this order: who reads or syncs beside it takes no lock to find nothing on its way any more. */
	atomic_store(&inode->answered_err, err);
	keep_error(inode, err);
	atomic_store(&inode->size_bytes, inode_disk_size(inode));
	atomic_store(&inode->tail_from, ~0ull);
}
