/*
 * Reading ahead of a sequential reader. Where the device sits on a cache of its own (BLKDEV_HINTS), that cache
 * is told what will be needed. Where it does not (BLKDEV_DIRECT), the bytes are read into the file's stage: a
 * short list of pieces in file order, each consumed by one reader and dropped.
 *
 * Invariants
 *  1. A piece's mapping was taken under the map lock, and stage_drop, which waits for pieces in flight, runs
 *     before any mapping goes away: so no piece holds bytes of a block that is no longer the file's.
 *  2. A file stages at most STAGE_FILE_MAX, a volume STAGE_VOLUME_MAX bytes.
 *  3. A piece is freed by whoever takes it off the list, after its read is done.
 *  4. Spare buffers belong to nobody, are all of PIECE_MAX bytes, and no more than their table holds.
 */
#include "internal.h"

#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STAGE_FILE_MAX   (4ull << 20)
#define STAGE_VOLUME_MAX (64ull << 20)
#define PIECE_MAX        (512ull << 10)
/* Reads in a row before anything is read ahead, as bytes: one kernel read-ahead window. */
#define SEQUENTIAL_BYTES (128ull << 10)
/* Requests of one sequential reader arrive in parallel and out of order, at most this far apart. */
#define NEAR_BYTES (512ull << 10)

struct piece {
	struct list link; /* [stage_lock] by off_bytes */
	u64 off_bytes, len_bytes;
	u64 valid_bytes; /* of them: what lay within the file when the read began */
	u64 taken_bytes; /* [stage_lock] */
	u8 *buf;
	struct bio bio;
	_Atomic u32 done; /* 1 when bio.err and buf are valid */
};

struct stage {
	struct list pieces; /* [stage_lock] */
	u64 bytes;          /* [stage_lock] */
};

static void piece_done(struct bio *bio)
{
	struct piece *p = bio->private;

	atomic_store_explicit(&p->done, 1, memory_order_release);
	os_wake_all(&p->done);
}

static void piece_wait(struct piece *p)
{
	while (!atomic_load_explicit(&p->done, memory_order_acquire))
		os_wait(&p->done, 0, 0);
}

/* Fresh memory costs a page fault for every 4 KiB, more than the copy out of it: buffers go round. */
static void *buf_get(struct super_block *sb, u64 len_bytes)
{
	void *buf = NULL;

	for (u32 i = 0; i < ARRAY_SIZE(sb->stage_spare) && !buf && len_bytes == PIECE_MAX; i++)
		if (atomic_load(&sb->stage_spare[i]))
			buf = atomic_exchange(&sb->stage_spare[i], NULL);
	return buf ? buf : os_alloc_aligned(4096, len_bytes);
}

static void buf_put(struct super_block *sb, void *buf, u64 len_bytes)
{
	for (u32 i = 0; i < ARRAY_SIZE(sb->stage_spare) && len_bytes == PIECE_MAX; i++) {
		void *none = NULL;

		if (atomic_compare_exchange_strong(&sb->stage_spare[i], &none, buf))
			return;
	}
	free(buf);
}

void stage_fini(struct super_block *sb)
{
	for (u32 i = 0; i < ARRAY_SIZE(sb->stage_spare); i++)
		free(atomic_exchange(&sb->stage_spare[i], NULL));
}

static void piece_free(struct inode *inode, struct piece *p)
{
	piece_wait(p);
	atomic_fetch_sub(&inode->sb->stage_bytes, p->len_bytes);
	buf_put(inode->sb, p->buf, p->len_bytes);
	free(p);
}

/* Starts reading one mapped range. Locks: stage_lock. Returns the bytes staged, 0 when there is no room. */
static u64 piece_start(struct inode *inode, const struct mapping *m, u64 off_bytes, u64 len_bytes)
{
	u64 size = atomic_load(&inode->size_bytes);
	struct stage *st = inode->stage;
	struct piece *p;

	len_bytes = MIN(len_bytes, PIECE_MAX);
	if (off_bytes >= size || st->bytes + len_bytes > STAGE_FILE_MAX ||
	    atomic_load(&inode->sb->stage_bytes) + len_bytes > STAGE_VOLUME_MAX)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return 0;
	p->buf = buf_get(inode->sb, len_bytes);
	if (!p->buf) {
		free(p);
		return 0;
	}
	p->off_bytes = off_bytes;
	p->len_bytes = len_bytes;
	p->valid_bytes = MIN(len_bytes, size - off_bytes);
	bio_init(&p->bio, m->dev, BIO_READ, m->dev_off_bytes + (off_bytes - m->off_bytes), p->buf, len_bytes);
	p->bio.private = p;
	p->bio.done = piece_done;
	list_add_tail(&st->pieces, &p->link);
	st->bytes += len_bytes;
	atomic_fetch_add(&inode->sb->stage_bytes, len_bytes);
	bio_submit_background(&p->bio);
	return len_bytes;
}

/* Locks: map_lock R, stage_lock. Stages or hints [from, to); returns how far it got. */
static u64 fill(struct inode *inode, u64 from, u64 to)
{
	while (from < to) {
		struct mapping m;
		u64 end, n;

		if (map_at(inode, from, to - from, &m))
			break; /* the reader itself will meet the error */
		map_done(&m);
		end = MIN(m.off_bytes + m.len_bytes, to);
		n = end - from;
		if (m.kind == MAP_DATA && m.dev->flags & BLKDEV_HINTS)
			blkdev_will_need(m.dev, m.dev_off_bytes + (from - m.off_bytes), n);
		else if (m.kind == MAP_DATA && m.dev->flags & BLKDEV_DIRECT)
			n = piece_start(inode, &m, from, n);
		if (!n)
			break;
		from += n;
	}
	return from;
}

/* True when a reader at `off` belongs to the run that would go on at ra_next. */
static bool in_run(struct inode *inode, u64 off_bytes, u64 next)
{
	u64 expected = atomic_load(&inode->ra_next_bytes);
	bool near = off_bytes + NEAR_BYTES >= expected && off_bytes <= expected + NEAR_BYTES;

	if (!near || next > expected)
		atomic_store(&inode->ra_next_bytes, next);
	return near;
}

void stage_advance(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	u64 next = off_bytes + len_bytes, size = atomic_load(&inode->size_bytes), from, to;

	if (inode->sb->readahead_off)
		return;
	if (!in_run(inode, off_bytes, next)) {
		stage_drop(inode);
		atomic_store(&inode->ra_run_bytes, 0);
		atomic_store(&inode->ra_done_bytes, next);
		return;
	}
	if (atomic_fetch_add(&inode->ra_run_bytes, len_bytes) + len_bytes < SEQUENTIAL_BYTES)
		return;
	from = MAX(atomic_load(&inode->ra_done_bytes), next);
	to = MIN(ALIGN_DOWN(next, PIECE_MAX) + STAGE_FILE_MAX, ALIGN_UP(size, (u64)inode->sb->block_bytes));
	/* Half a window at a time, so that requests stay large. */
	if (from >= to || from > next + STAGE_FILE_MAX / 2)
		return;
	mutex_lock(&inode->stage_lock);
	if (!inode->stage) {
		inode->stage = calloc(1, sizeof(*inode->stage));
		if (inode->stage)
			list_init(&inode->stage->pieces);
	}
	from = MAX(atomic_load(&inode->ra_done_bytes), next);
	if (inode->stage && from < to)
		atomic_store(&inode->ra_done_bytes, fill(inode, from, to));
	mutex_unlock(&inode->stage_lock);
}

u64 stage_take(struct inode *inode, u64 off_bytes, void *dst, u64 len_bytes, int *err)
{
	struct piece *found = NULL;
	struct list stale;
	u64 n = 0;

	*err = 0;
	list_init(&stale);
	mutex_lock(&inode->stage_lock);
	if (inode->stage)
		list_for_each_safe(l, &inode->stage->pieces)
		{
			struct piece *p = list_entry(l, struct piece, link);
			u64 end = p->off_bytes + p->valid_bytes;

			if (p->off_bytes <= off_bytes && off_bytes < end) {
				found = p;
				n = MIN(end - off_bytes, len_bytes);
				p->taken_bytes += n;
			}
			if (p->taken_bytes >= p->valid_bytes || end + NEAR_BYTES <= off_bytes) {
				list_del(&p->link);
				list_add_tail(&stale, &p->link);
				inode->stage->bytes -= p->len_bytes;
			}
			if (found)
				break;
		}
	if (found) {
		piece_wait(found);
		*err = found->bio.err;
		if (!found->bio.err)
			memcpy(dst, found->buf + (off_bytes - found->off_bytes), n);
	}
	mutex_unlock(&inode->stage_lock);
	for (struct list *l; (l = list_pop(&stale));)
		piece_free(inode, list_entry(l, struct piece, link));
	if (n)
		stat_add(STAT_STAGE_HITS, 1);
	return n;
}

void stage_drop(struct inode *inode)
{
	struct stage *st;

	mutex_lock(&inode->stage_lock);
	st = inode->stage;
	inode->stage = NULL;
	atomic_store(&inode->ra_done_bytes, 0);
	mutex_unlock(&inode->stage_lock);
	if (!st)
		return;
	for (struct list *l; (l = list_pop(&st->pieces));)
		piece_free(inode, list_entry(l, struct piece, link));
	free(st);
}
