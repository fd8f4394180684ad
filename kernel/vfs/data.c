/*
 * Moving file data. The module says where bytes lie (map) or shall lie (alloc); here they are moved, in batches
 * of requests, and then the module is told (commit). File data is never in the buffer cache.
 *
 * Interface: vfs_read, vfs_write, vfs_truncate, vfs_fallocate, vfs_copy_range, vfs_fsync, vfs_fsync_opened, vfs_closed.
 *
 * Invariants
 *  1. A block becomes part of a file only after its bytes are on the device: alloc, write, commit.
 *  2. The bytes between the end of file and the end of its last block are zeros in what we write, and are read
 *     as zeros whatever a volume holds there.
 *  3. A mapping is used only while the map lock is held, R for moving bytes, W for taking mappings away.
 *  4. Each call of the module is one change that a crash leaves done or not done, and after each of them the file is one
 *     that the callers may find:
 *     - a file gets shorter by set_size; then its last block's rest becomes zeros, then what lies beyond is unmapped. A
 *       crash in between leaves the new size, and blocks that the module's own recovery frees (vfs.h, set_size);
 *     - it gets longer by zeros behind the old end, then, where blocks are promised, prealloc, and set_size last: before
 *       that the old size, perhaps with blocks beyond it that read as zeros once they are part of the file;
 *     - a hole is punched by zeros in its first and last block, then unmap: each byte of it is the old one or zero.
 *       Zeroing a range is that, then prealloc.
 */
#include "internal.h"

#include "lib/scope.h"
#include "lib/trace.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading ---- */

/* Reads [off, off + len), below the file's size: what is staged, and the rest from the volume. Locks: map_lock. */
static int read_locked(struct inode *inode, u64 off_bytes, u8 *buf, u64 len_bytes, u64 room)
{
	u64 done = 0;
	int err = 0;

	while (!err && done < len_bytes) {
		u64 n = 0, gap = len_bytes - done;

		if (atomic_load(&inode->stage))
			n = stage_take(inode, off_bytes + done, buf + done, len_bytes - done, &gap);
		if (!n) {
			n = gap;
			err = read_range(inode, off_bytes + done, buf + done, n, room - done);
		}
		done += n;
	}
	return err;
}

/* The piece that begins at `start`, checked. Locks: map_lock. */
static int read_piece(struct inode *inode, u64 start, u8 *piece, u64 len_bytes, u64 room)
{
	int err = read_locked(inode, start, piece, len_bytes, room);

	return err ? err : inode->ops->verify(inode, start, piece, len_bytes);
}

/* As read_locked, of a file whose content is checked. Whole pieces are checked where they are wanted. Locks: map_lock. */
static int read_verified(struct inode *inode, u64 off_bytes, u8 *buf, u64 len_bytes, u64 room, u64 size)
{
	u64 pos = off_bytes, end = off_bytes + len_bytes;
	scoped(freep) u8 *piece = NULL;
	u32 unit;
	int err = inode->ops->verify_unit(inode, &unit);

	while (!err && pos < end) {
		u64 start = ALIGN_DOWN(pos, (u64)unit),
		    whole = end == size ? end : ALIGN_DOWN(end, (u64)unit);
		u8 *dst = buf + (pos - off_bytes);
		u64 n;

		if (pos == start && pos < whole) {
			n = whole - pos;
			err = read_locked(inode, pos, dst, n, room - (pos - off_bytes));
			if (!err)
				err = inode->ops->verify(inode, pos, dst, n);
		} else {
			if (!piece)
				piece = os_alloc_aligned(4096, MAX(unit, 4096u));
			if (!piece)
				return fail(-ENOMEM, "no memory for a buffer");
			err = read_piece(inode, start, piece, MIN((u64)unit, size - start), unit);
			n = MIN(start + unit, end) - pos;
			if (!err)
				memcpy(dst, piece + (pos - start), n);
		}
		pos += n;
	}
	return err;
}

int vfs_read(struct inode *inode, u64 off_bytes, void *buf, u64 len_bytes, u64 *done)
{
	u64 size, n = 0;
	int err = 0;

	*done = 0;
	if (!is_reg(inode))
		return is_dir(inode) ? -EISDIR : -EINVAL;
	if (!inode->ops->map)
		return -EOPNOTSUPP;
	tail_await(inode, off_bytes + MIN(len_bytes, ~0ull - off_bytes));
	rw_read_lock(&inode->map_lock);
	size = inode_readable_size(inode);
	if (off_bytes < size && len_bytes) {
		n = MIN(len_bytes, size - off_bytes);
		stage_advance(inode, off_bytes, n);
		err = inode->ops->verify ? read_verified(inode, off_bytes, buf, n, len_bytes, size)
					 : read_locked(inode, off_bytes, buf, n, len_bytes);
	}
	rw_read_unlock(&inode->map_lock);
	if (!err)
		*done = n;
	return err;
}

/* ---- writing ---- */

/* What is asked of a write, and how far it is. */
struct writing {
	struct inode *inode;
	u64 off_bytes, len_bytes; /* the caller's bytes */
	bool stage;               /* nobody waits for it to be durable */
	struct write_answer *answer;
};

/* From so many bytes on, moving them beside the caller's next step is worth another thread's waking. */
#define AHEAD_MIN_BYTES (128u << 10)

/* Whether the place of [pos, pos + n) is all that was missing for an answer. Locks: lock W, map_lock R. */
static bool goes_ahead(const struct writing *w, u64 pos, u64 n)
{
	return w->answer && w->stage && n >= AHEAD_MIN_BYTES && pos + n == w->off_bytes + w->len_bytes &&
	       pos >= atomic_load(&w->inode->size_bytes) && !w->inode->tail;
}

/* Bytes to where they shall lie, and that into the file. Locks: lock W, map_lock. `size`: as for write_run. */
static int write_mapped(struct inode *inode, struct mapping *m, u64 pos, const u8 *src, u64 n, u64 size)
{
	int err = blkdev_write(m->dev, m->dev_off_bytes + (pos - m->off_bytes), src, n, 0);

	if (err)
		inode->ops->abort(inode, m);
	else
		err = inode->ops->commit(inode, m, MAX(MIN(size, pos + n), inode_disk_size(inode)));
	return err;
}

/* One run of whole blocks, as long as alloc gives. `size`: where the file ends if that makes it longer. w: of whom it may be answered, or NULL.
 * Locks: lock W, map_lock. *done: bytes written. */
static int write_run(struct inode *inode, u64 pos, const u8 *src, u64 len_bytes, u64 size, struct writing *w,
		     u64 *done)
{
	struct mapping m = { 0 };
	u64 n;
	int err = inode->ops->alloc(inode, pos, len_bytes, &m);

	if (err)
		return err;
	n = MIN(m.off_bytes + m.len_bytes - pos, len_bytes);
	if (w && goes_ahead(w, pos, n)) {
		tail_on_its_way(inode, &m, pos + n);
		/* Who wants all of the volume durable waits for it too. */
		lazy_add(inode, LAZY_TAIL);
		w->answer->given = true;
		w->answer->give(w->answer, w->len_bytes);
		tail_arrived(inode, write_mapped(inode, &m, pos, src, n, size));
	} else {
		err = write_mapped(inode, &m, pos, src, n, size);
	}
	map_done(&m);
	*done = err ? 0 : n;
	return err;
}

/* [start, start + len) of a block as the file has it, zeros behind its end. Locks: lock W. */
static int block_read(struct inode *inode, u64 start, u64 len_bytes, u8 *out)
{
	u64 size = atomic_load(&inode->size_bytes), n = size > start ? MIN(size - start, len_bytes) : 0;

	memset(out + n, 0, len_bytes - n);
	return n ? read_locked(inode, start, out, n, len_bytes) : 0;
}

/*
 * [start, start + len) of a block: what is there, with a piece of n bytes laid over it, in *out. src NULL: zeros. Locks: lock W, map_lock.
 */
static int block_with(struct inode *inode, u64 start, u64 len_bytes, u64 pos, const u8 *src, u64 n, u8 **out)
{
	u8 *block = os_alloc_aligned(4096, len_bytes);
	int err = block ? 0 : -ENOMEM;

	/* What is replaced whole is not read. */
	if (!err && (pos > start || MIN(atomic_load(&inode->size_bytes), start + len_bytes) > pos + n))
		err = block_read(inode, start, len_bytes, block);
	else if (!err)
		memset(block, 0, len_bytes);
	if (err) {
		free(block);
		return err;
	}
	if (src)
		memcpy(block + (pos - start), src, n);
	else
		memset(block + (pos - start), 0, n);
	*out = block;
	return 0;
}

/* Of a block whose bytes stay where they are, so much is written at once, or the device's sector if that is longer. */
#define PART_BYTES 4096u

/* Writes a piece of one block by writing the block, or of a long one that is the file's the parts that the piece meets. Locks: lock W,
 * map_lock. `size` is where the file ends if the write makes it longer. */
static int write_partial(struct inode *inode, u64 pos, const u8 *src, u64 n, u64 size)
{
	u64 bs = inode->sb->block_bytes, start = ALIGN_DOWN(pos, bs), end = start + bs;
	scoped(freep) u8 *bytes = NULL;
	struct mapping m = { 0 };
	int err = inode->ops->alloc(inode, start, bs, &m);

	if (err)
		return err;
	/* What has the file's end is written whole, with its zeros. */
	if (m.flags & MAP_KEPT && end <= atomic_load(&inode->size_bytes)) {
		u64 part = MIN(MAX(PART_BYTES, m.dev->sector_bytes), bs);

		start = ALIGN_DOWN(pos, part);
		end = ALIGN_UP(pos + n, part);
	}
	err = block_with(inode, start, end - start, pos, src, n, &bytes);
	if (err)
		inode->ops->abort(inode, &m);
	else
		err = write_mapped(inode, &m, start, bytes, end - start, size);
	map_done(&m);
	return err;
}

/* A piece of one block, with which the file ends: into the tail stage. Locks: lock W. */
static int stage_partial(struct inode *inode, u64 pos, const u8 *src, u64 n)
{
	u64 bs = inode->sb->block_bytes, start = ALIGN_DOWN(pos, bs);
	u8 *block;
	int err;

	rw_read_lock(&inode->map_lock);
	err = block_with(inode, start, bs, pos, src, n, &block);
	rw_read_unlock(&inode->map_lock);
	if (!err)
		err = tail_begin(inode, start, block, pos + n);
	if (!err)
		lazy_add(inode, LAZY_TAIL);
	return err;
}

int data_zero_partial(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	struct mapping m;
	int err;

	if (!len_bytes)
		return 0;
	err = map_at(inode, off_bytes, len_bytes, &m);
	if (err)
		return err;
	map_done(&m);
	if (m.kind == MAP_HOLE || m.kind == MAP_UNWRITTEN)
		return 0;
	return write_partial(inode, off_bytes, NULL, len_bytes, 0);
}

/* Before the file grows from inside a block: what the volume holds behind the old end must not come to light. */
static int zero_old_tail(struct inode *inode, u64 new_end)
{
	u64 size = atomic_load(&inode->size_bytes), end = ALIGN_UP(size, (u64)inode->sb->block_bytes);

	/* The tail stage's block has zeros there. */
	if (new_end <= size || size == end || inode->tail)
		return 0;
	return data_zero_partial(inode, size, MIN(end, new_end) - size);
}

/* As much of [at, at + n) as goes in one step. Locks: lock W. */
static int write_step(struct writing *w, u64 at, const u8 *src, u64 n, u64 *moved)
{
	struct inode *inode = w->inode;
	u64 bs = inode->sb->block_bytes, start = ALIGN_DOWN(at, bs);
	u64 tail = inode->tail ? inode->tail->off_bytes : ~0ull;
	int err;

	if (IS_ALIGNED(at, bs) && n >= bs && start != tail) {
		rw_read_lock(&inode->map_lock);
		err = write_run(inode, at, src, MIN(ALIGN_DOWN(n, bs), tail - MIN(at, tail)),
				w->off_bytes + w->len_bytes, w, moved);
		rw_read_unlock(&inode->map_lock);
		return err;
	}
	*moved = MIN(n, start + bs - at);
	if (start == tail)
		return tail_put(inode, at, src, *moved);
	if (w->stage && at + *moved < start + bs && at + *moved >= atomic_load(&inode->size_bytes))
		return stage_partial(inode, at, src, *moved);
	rw_read_lock(&inode->map_lock);
	err = write_partial(inode, at, src, *moved, at + *moved);
	rw_read_unlock(&inode->map_lock);
	return err;
}

/* len_bytes: with zeros behind the file's end. Locks: lock W. */
static int write_locked(struct writing *w, const u8 *src, u64 len_bytes, u64 *done)
{
	int err = 0;

	while (!err && *done < len_bytes) {
		u64 moved = 0;

		err = write_step(w, w->off_bytes + *done, src + *done, len_bytes - *done, &moved);
		if (!err)
			*done += moved;
	}
	return err;
}

/* Before a file's bytes change. Locks: lock W. */
static int unpack(struct inode *inode)
{
	int err;

	if (!atomic_load(&inode->is_packed))
		return 0;
	rw_write_lock(&inode->map_lock);
	err = inode->ops->unpack(inode);
	rw_write_unlock(&inode->map_lock);
	return err;
}

/* What begins behind the tail's block, or before it and meets its unit, makes that an ordinary block first. Locks: lock W. */
static int make_way(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	u64 bs = inode->sb->block_bytes, unit = MAX((u64)inode->sb->unit_bytes, bs);
	const struct tail *t = inode->tail;
	bool behind = t && off_bytes >= t->off_bytes + bs,
	     beside = t && off_bytes < t->off_bytes && off_bytes + len_bytes > ALIGN_DOWN(t->off_bytes, unit);

	return behind || (beside && unit > bs) ? tail_flush(inode) : 0;
}

static int write_check(struct inode *inode, u64 *off_bytes, u64 *len_bytes, u32 flags)
{
	u32 iflags = inode->flags;

	if (flags & WRITE_APPEND)
		*off_bytes = atomic_load(&inode->size_bytes);
	if (iflags & INO_IMMUTABLE)
		return -EPERM;
	if (iflags & INO_APPEND && !(flags & WRITE_APPEND))
		return -EPERM;
	if (*off_bytes >= inode->sb->size_max_bytes)
		return -EFBIG;
	*len_bytes = MIN(*len_bytes, inode->sb->size_max_bytes - *off_bytes);
	return 0;
}

/* How many of the zeros behind the buffer make its last block whole, where that block is all new. Locks: lock W. */
static u64 padding(const struct inode *inode, u64 off_bytes, u64 len_bytes, u32 flags)
{
	u64 bs = inode->sb->block_bytes, end = off_bytes + len_bytes;

	if (!(flags & WRITE_PADDED) || !IS_ALIGNED(off_bytes, bs) || inode->tail ||
	    atomic_load(&inode->size_bytes) > off_bytes)
		return 0;
	return ALIGN_UP(end, bs) - end;
}

/* Of a file whose module cannot change its content. */
static int why_not(const struct inode *inode)
{
	int err = inode->ops->may_open ? inode->ops->may_open(inode, true) : 0;

	return err ? err : -EOPNOTSUPP;
}

/* What stands in the way of a write. Locks: lock W. */
static int write_prepare(struct writing *w, u32 flags)
{
	struct inode *inode = w->inode;
	int err = atomic_exchange(&inode->answered_err, 0);

	if (!err)
		err = write_check(inode, &w->off_bytes, &w->len_bytes, flags);
	if (!err && flags & WRITE_KILL_PRIV)
		err = inode_kill_priv(inode);
	if (!err)
		stage_drop(inode);
	if (!err)
		err = unpack(inode);
	if (!err)
		err = make_way(inode, w->off_bytes, w->len_bytes);
	if (!err) {
		rw_read_lock(&inode->map_lock);
		err = zero_old_tail(inode, w->off_bytes);
		rw_read_unlock(&inode->map_lock);
	}
	return err;
}

int vfs_write_answered(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes, u32 flags,
		       struct write_answer *answer, u64 *done)
{
	struct writing w = { inode, off_bytes, len_bytes, false, answer };
	int err = vfs_check_writable(inode->sb);
	bool sync;

	*done = 0;
	if (err)
		return err;
	if (!is_reg(inode))
		return is_dir(inode) ? -EISDIR : -EINVAL;
	if (!inode->ops->alloc)
		return why_not(inode);
	if (!len_bytes)
		return 0;
	rw_write_lock(&inode->lock);
	err = write_prepare(&w, flags);
	sync = flags & WRITE_SYNC || inode->flags & INO_SYNC;
	w.stage = !sync;
	if (!err) {
		err = write_locked(&w, buf, w.len_bytes + padding(inode, w.off_bytes, w.len_bytes, flags),
				   done);
		*done = MIN(*done, w.len_bytes);
	}
	/* Readers that ran beside the write may have staged the old bytes. */
	stage_drop(inode);
	rw_write_unlock(&inode->lock);
	if (!err && sync)
		err = vfs_fsync(inode, true);
	lazy_limit(inode->sb);
	return *done || (answer && answer->given) ? 0 : err;
}

int vfs_write(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes, u32 flags, u64 *done)
{
	return vfs_write_answered(inode, off_bytes, buf, len_bytes, flags, NULL, done);
}

/* ---- taking away, and promising ---- */

/* What is staged becomes an ordinary block, unless the file will end before it: then it is there until it does. Locks: lock W. */
static int settle_tail(struct inode *inode, u64 size_bytes)
{
	return inode->tail && size_bytes <= inode->tail->off_bytes ? 0 : tail_flush(inode);
}

/* Locks: lock W, map_lock W. */
static int truncate_locked(struct inode *inode, u64 size_bytes)
{
	u64 old = atomic_load(&inode->size_bytes), bs = inode->sb->block_bytes,
	    end = ALIGN_UP(size_bytes, bs);
	int err = 0, unmap_err;

	stage_drop(inode);
	if (size_bytes > old)
		err = zero_old_tail(inode, size_bytes);
	if (!err)
		err = inode->ops->set_size(inode, size_bytes);
	if (err || size_bytes > old)
		return err;
	tail_cut(inode);
	if (size_bytes < end && size_bytes < old)
		err = data_zero_partial(inode, size_bytes, MIN(end, old) - size_bytes);
	/* Also when the zeros could not be written: the module waits for it. Nobody reads what lies behind the end. */
	unmap_err = inode->ops->unmap(inode, end, ~0ull);
	return err ? err : unmap_err;
}

static int change_check(struct inode *inode)
{
	int err = vfs_check_writable(inode->sb);

	if (err)
		return err;
	if (!is_reg(inode))
		return is_dir(inode) ? -EISDIR : -EINVAL;
	return inode->ops->set_size && inode->ops->unmap ? 0 : why_not(inode);
}

int vfs_truncate(struct inode *inode, u64 size_bytes)
{
	int err = change_check(inode);

	if (err)
		return err;
	if (size_bytes > inode->sb->size_max_bytes)
		return -EFBIG;
	rw_write_lock(&inode->lock);
	if (inode->flags & (INO_IMMUTABLE | INO_APPEND)) {
		err = -EPERM;
	} else {
		if (!size_bytes && atomic_load(&inode->size_bytes))
			atomic_fetch_or(&inode->state, I_CUT);
		err = unpack(inode);
	}
	if (!err)
		err = settle_tail(inode, size_bytes);
	if (!err) {
		rw_write_lock(&inode->map_lock);
		err = truncate_locked(inode, size_bytes);
		rw_write_unlock(&inode->map_lock);
	}
	rw_write_unlock(&inode->lock);
	return err;
}

/* [off, end) reads as zeros and holds no block that lies wholly within. Locks: lock W, map_lock W. */
static int punch_locked(struct inode *inode, u64 off_bytes, u64 end)
{
	u64 bs = inode->sb->block_bytes, first = ALIGN_UP(off_bytes, bs), last;
	int err;

	/* Beyond the end of file: the last block goes whole, since nothing follows in it. */
	if (end > atomic_load(&inode->size_bytes))
		end = ALIGN_UP(end, bs);
	last = ALIGN_DOWN(end, bs);
	if (first > last) /* inside one block */
		return data_zero_partial(inode, off_bytes, end - off_bytes);
	err = data_zero_partial(inode, off_bytes, first - off_bytes);
	if (!err)
		err = data_zero_partial(inode, last, end - last);
	if (!err && first < last)
		err = inode->ops->unmap(inode, first, last - first);
	return err;
}

/* Locks: lock W, map_lock W. */
static int prealloc_locked(struct inode *inode, u64 off_bytes, u64 end)
{
	u64 bs = inode->sb->block_bytes, first = ALIGN_DOWN(off_bytes, bs);

	return inode->ops->prealloc(inode, first, ALIGN_UP(end, bs) - first);
}

static int fallocate_locked(struct inode *inode, u32 mode, u64 off_bytes, u64 end)
{
	u64 size = atomic_load(&inode->size_bytes);
	int err;

	stage_drop(inode);
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return punch_locked(inode, off_bytes, end);
	/* Who cannot promise says so before anything is zeroed. */
	err = inode->ops->prealloc ? inode->ops->prealloc(inode, 0, 0) : -EOPNOTSUPP;
	if (!err && !(mode & FALLOC_FL_KEEP_SIZE) && end > size)
		err = zero_old_tail(inode, end);
	if (!err && mode & FALLOC_FL_ZERO_RANGE)
		err = punch_locked(inode, off_bytes, end);
	if (!err)
		err = prealloc_locked(inode, off_bytes, end);
	if (!err && !(mode & FALLOC_FL_KEEP_SIZE) && end > size)
		err = inode->ops->set_size(inode, end);
	return err;
}

/* Also when nothing was there to change, as on Linux. */
static int fallocate_moves_times(struct inode *inode)
{
	struct timespec64 now = inode_now(inode);
	struct iattr a = { .valid = ATTR_MTIME | ATTR_CTIME, .mtime = now, .ctime = now };

	return inode->ops->setattr(inode, &a);
}

int vfs_fallocate(struct inode *inode, u32 mode, u64 off_bytes, u64 len_bytes)
{
	u32 how = mode & ~(u32)FALLOC_FL_KEEP_SIZE;
	int err;

	if (how && how != FALLOC_FL_PUNCH_HOLE && how != FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	if (mode == FALLOC_FL_PUNCH_HOLE) /* always with KEEP_SIZE */
		return -EOPNOTSUPP;
	if (!len_bytes)
		return -EINVAL;
	err = change_check(inode);
	if (err)
		return err == -EISDIR ? err : err == -EINVAL ? -ENODEV : err;
	if (len_bytes > inode->sb->size_max_bytes || off_bytes > inode->sb->size_max_bytes - len_bytes)
		return -EFBIG;
	rw_write_lock(&inode->lock);
	if (inode->flags & INO_IMMUTABLE || (how && inode->flags & INO_APPEND)) {
		err = -EPERM;
	} else {
		err = unpack(inode);
	}
	if (!err)
		err = tail_flush(inode);
	if (!err) {
		rw_write_lock(&inode->map_lock);
		err = fallocate_locked(inode, mode, off_bytes, off_bytes + len_bytes);
		rw_write_unlock(&inode->map_lock);
	}
	/* The kernel in front of a mount leaves privileges to us and does not say who asks: they always go. */
	if (!err)
		err = inode_kill_priv(inode);
	if (!err)
		err = fallocate_moves_times(inode);
	rw_write_unlock(&inode->lock);
	return err;
}

#define COPY_BYTES (1ull << 20)

int vfs_copy_range(struct inode *in, u64 in_off, struct inode *out, u64 out_off, u64 len_bytes, u64 *done)
{
	scoped(freep) u8 *buf = NULL;

	*done = 0;
	if (!is_reg(in) || !is_reg(out))
		return is_dir(in) || is_dir(out) ? -EISDIR : -EINVAL;
	if (in_off >= atomic_load(&in->size_bytes) || !len_bytes)
		return 0;
	len_bytes = MIN(len_bytes, atomic_load(&in->size_bytes) - in_off);
	if (in == out && in_off < out_off + len_bytes && out_off < in_off + len_bytes)
		return -EINVAL;
	buf = os_alloc_aligned(4096, MIN(ALIGN_UP(len_bytes, 4096ull), COPY_BYTES));
	if (!buf)
		return -ENOMEM;
	while (*done < len_bytes) {
		u64 n = 0, put = 0;
		int err = vfs_read(in, in_off + *done, buf, MIN(len_bytes - *done, COPY_BYTES), &n);

		if (!err && n)
			err = vfs_write(out, out_off + *done, buf, n, WRITE_KILL_PRIV, &put);
		if (err)
			return *done ? 0 : err;
		*done += put;
		if (put < n || !n)
			break;
	}
	return 0;
}

int vfs_fsync_opened(struct inode *inode, u64 opened, bool data_only)
{
	int err, late;

	if (inode->sb->rdonly)
		return 0;
	err = lazy_write_inode(inode);
	late = lazy_error(inode, opened);
	if (err || late)
		return err ? err : late;
	/* Names are a directory's data: programs fdatasync it to make the loss of one durable. */
	return inode->ops->fsync ? inode->ops->fsync(inode, data_only && !is_dir(inode))
				 : vfs_sync(inode->sb);
}

int vfs_fsync(struct inode *inode, bool data_only)
{
	return vfs_fsync_opened(inode, 0, data_only);
}

void vfs_closed(struct inode *inode)
{
	/* A file that was emptied and written anew: after a crash it shall not be found empty for long. */
	if (atomic_fetch_and(&inode->state, ~I_CUT) & I_CUT && inode->tail) {
		rw_write_lock(&inode->lock);
		if (tail_flush(inode))
			err_clear(); /* fsync says so */
		rw_write_unlock(&inode->lock);
	}
	if (inode->ops->closed)
		inode->ops->closed(inode);
}
