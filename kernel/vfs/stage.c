/*
 * Reading ahead of a sequential reader. Where the device sits on a cache of its own (BLKDEV_HINTS), that cache
 * is told what will be needed. Where it does not (BLKDEV_DIRECT), and where bytes are costly to make (MAP_COSTLY), they are
 * made ready in the file's stage: a short list of pieces in file order, each consumed by one reader and dropped. What a
 * device has as it is comes by a background request; what the module decodes is made by a pool of threads, or by
 * the reader himself when he is there first.
 *
 *     QUEUED ── a thread of the pool, or the reader ──► RUNNING ──► DONE
 *        └── stage_drop ──► DROPPED
 *
 * Invariants
 *  1. A piece's mapping was taken under the map lock, and stage_drop, which waits for pieces that are RUNNING, comes
 *     before any mapping goes away: so no piece holds bytes of a block that is no longer the file's.
 *  2. A file stages at most STAGE_FILE_MAX, a volume STAGE_VOLUME_MAX bytes, besides what readers are copying.
 *  3. A piece is freed with its last reference: the list's, the pool's, and that of each reader who copies from it. Its bytes go before,
 *     with the list's and the readers': the pool may come to a piece long after everybody is done with it.
 *  4. Spare buffers belong to nobody, are all of PIECE_MAX bytes, and no more than their table holds.
 */
#include "internal.h"

#include "lib/trace.h"
#include "lib/workq.h"
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
#define POOL_MAX   8u

enum piece_state { PIECE_QUEUED, PIECE_RUNNING, PIECE_DONE, PIECE_DROPPED };

struct piece {
	struct list link; /* [stage_lock] by off_bytes */
	struct super_block *sb;
	struct inode *inode; /* there as long as the piece is on the list, or a reader has it */
	u64 off_bytes, len_bytes;
	u64 valid_bytes; /* of them: what lay within the file when the read began */
	u64 taken_bytes; /* [stage_lock] */
	u8 *buf;
	int err; /* [const once DONE] */
	_Atomic u32 refs;
	_Atomic u32 users; /* of refs, the list's and the readers': while there is one there is buf */
	_Atomic u32 state; /* enum piece_state; a futex word */
	struct bio bio;    /* of a device's bytes as they are */
	struct work work;  /* of decoded ones */
};

struct stage {
	struct list pieces; /* [stage_lock] */
	u64 bytes;          /* [stage_lock] */
};

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
	workq_free(atomic_exchange(&sb->stage_pool, NULL));
	for (u32 i = 0; i < ARRAY_SIZE(sb->stage_spare); i++)
		free(atomic_exchange(&sb->stage_spare[i], NULL));
}

/* The volume's threads, started by who needs them first; NULL: none can be. */
static struct workq *pool_get(struct super_block *sb)
{
	struct workq *pool = atomic_load(&sb->stage_pool), *none = NULL;

	if (pool || workq_new("stage", MIN(os_cpus(), POOL_MAX), &pool))
		return pool;
	if (atomic_compare_exchange_strong(&sb->stage_pool, &none, pool))
		return pool;
	workq_free(pool);
	return none;
}

/* ---- pieces ---- */

static void piece_put(struct piece *p)
{
	if (atomic_fetch_sub(&p->refs, 1) == 1)
		free(p);
}

/* Gives back the reference of the list or of a reader. */
static void piece_unuse(struct piece *p)
{
	if (atomic_fetch_sub(&p->users, 1) == 1) {
		atomic_fetch_sub(&p->sb->stage_bytes, p->len_bytes);
		buf_put(p->sb, p->buf, p->len_bytes);
	}
	piece_put(p);
}

static void piece_done(struct piece *p, int err)
{
	p->err = err;
	atomic_store_explicit(&p->state, PIECE_DONE, memory_order_release);
	os_wake_all(&p->state);
}

static void piece_bio_done(struct bio *bio)
{
	struct piece *p = bio->private;

	piece_done(p, bio->err);
	piece_put(p);
}

/* Decodes it, if nobody else has begun. */
static void piece_run(struct piece *p)
{
	u32 queued = PIECE_QUEUED;

	if (atomic_compare_exchange_strong(&p->state, &queued, PIECE_RUNNING))
		piece_done(p, read_range(p->inode, p->off_bytes, p->buf, p->valid_bytes, p->len_bytes));
}

static void piece_work(struct work *w)
{
	struct piece *p = container_of(w, struct piece, work);

	piece_run(p);
	piece_put(p);
}

static void piece_wait(struct piece *p)
{
	while (atomic_load_explicit(&p->state, memory_order_acquire) == PIECE_RUNNING)
		os_wait(&p->state, PIECE_RUNNING, 0);
}

/* It is off the list: nobody works on it afterwards. */
static void piece_drop(struct piece *p)
{
	u32 queued = PIECE_QUEUED;

	atomic_compare_exchange_strong(&p->state, &queued, PIECE_DROPPED);
	piece_wait(p);
	piece_unuse(p);
}

/* A blank piece for [off, off + len), on the list; NULL: there is no room. Locks: stage_lock. */
static struct piece *piece_new(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	u64 size = inode_readable_size(inode);
	struct stage *st = inode->stage;
	struct piece *p;

	if (off_bytes >= size || st->bytes + len_bytes > STAGE_FILE_MAX ||
	    atomic_load(&inode->sb->stage_bytes) + len_bytes > STAGE_VOLUME_MAX)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->buf = buf_get(inode->sb, len_bytes);
	if (!p->buf) {
		free(p);
		return NULL;
	}
	p->sb = inode->sb;
	p->inode = inode;
	p->off_bytes = off_bytes;
	p->len_bytes = len_bytes;
	p->valid_bytes = MIN(len_bytes, size - off_bytes);
	atomic_init(&p->refs, 2); /* the list's, and that of who makes the bytes */
	atomic_init(&p->users, 1);
	list_add_tail(&st->pieces, &p->link);
	st->bytes += len_bytes;
	atomic_fetch_add(&inode->sb->stage_bytes, len_bytes);
	return p;
}

/* Starts reading one mapped range. Locks: stage_lock. Returns the bytes staged, 0 when there is no room. */
static u64 piece_read(struct inode *inode, const struct mapping *m, u64 off_bytes, u64 len_bytes)
{
	struct piece *p;

	len_bytes = MIN(len_bytes, PIECE_MAX);
	p = piece_new(inode, off_bytes, len_bytes);
	if (!p)
		return 0;
	atomic_store(&p->state, PIECE_RUNNING);
	bio_init(&p->bio, m->dev, BIO_READ, m->dev_off_bytes + (off_bytes - m->off_bytes), p->buf, len_bytes);
	p->bio.private = p;
	p->bio.done = piece_bio_done;
	bio_submit_background(&p->bio);
	return len_bytes;
}

/* What [from, to) of a mapping is made of will be needed. */
static void hint(const struct mapping *m, u64 from, u64 to)
{
	if (!m->dev || !(m->dev->flags & BLKDEV_HINTS) || (m->kind != MAP_DATA && m->kind != MAP_ENCODED))
		return;
	if (m->flags & MAP_COSTLY && !(m->flags & MAP_PLAIN))
		blkdev_will_need(m->dev, m->dev_off_bytes, m->dev_len_bytes);
	else
		blkdev_will_need(m->dev, m->dev_off_bytes + (from - m->off_bytes), to - from);
}

/* As piece_read, for bytes that have to be made, whatever their mappings are: at most to `to`, and to a multiple of PIECE_MAX. */
static u64 piece_decode(struct inode *inode, u64 off_bytes, u64 to)
{
	u64 len_bytes = MIN(ALIGN_DOWN(off_bytes, PIECE_MAX) + PIECE_MAX, to) - off_bytes;
	struct workq *pool = pool_get(inode->sb);
	struct piece *p = pool ? piece_new(inode, off_bytes, len_bytes) : NULL;
	struct mapping m;

	if (!p)
		return 0;
	for (u64 at = off_bytes; at < off_bytes + len_bytes; at = m.off_bytes + m.len_bytes) {
		if (map_at(inode, at, off_bytes + len_bytes - at, &m))
			break;
		map_done(&m);
		hint(&m, at, MIN(m.off_bytes + m.len_bytes, off_bytes + len_bytes));
	}
	p->work.fn = piece_work;
	workq_queue(pool, &p->work);
	return len_bytes;
}

/* Locks: map_lock R, stage_lock. Stages or hints [from, to); returns how far it got. */
static u64 fill(struct inode *inode, u64 from, u64 to)
{
	while (from < to) {
		struct mapping m;
		u64 end, n;
		bool direct;

		if (map_at(inode, from, to - from, &m))
			break; /* the reader itself will meet the error */
		map_done(&m);
		end = MIN(m.off_bytes + m.len_bytes, to);
		n = end - from;
		direct = m.dev && m.dev->flags & BLKDEV_DIRECT;
		if (m.kind == MAP_ENCODED && (direct || m.flags & MAP_COSTLY))
			n = piece_decode(inode, from, to);
		else if (m.kind == MAP_DATA && direct)
			n = piece_read(inode, &m, from, n);
		else
			hint(&m, from, end);
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
	u64 next = off_bytes + len_bytes, size = inode_readable_size(inode), from, to;

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

/*
 * The piece that has `off`, referenced; NULL: none, and *gap becomes less when one begins later. Pieces that were read to
 * the end, or that the reader has left behind, go to `stale`. Locks: stage_lock.
 */
static struct piece *piece_find(struct stage *st, u64 off_bytes, u64 len_bytes, u64 *gap, struct list *stale)
{
	list_for_each_safe(l, &st->pieces)
	{
		struct piece *p = list_entry(l, struct piece, link);
		u64 end = p->off_bytes + p->valid_bytes;
		bool has = p->off_bytes <= off_bytes && off_bytes < end;

		if (p->off_bytes > off_bytes) {
			*gap = MIN(*gap, p->off_bytes - off_bytes);
			break;
		}
		if (has) {
			p->taken_bytes += MIN(end - off_bytes, len_bytes);
			atomic_fetch_add(&p->refs, 1);
			atomic_fetch_add(&p->users, 1);
		}
		if (p->taken_bytes >= p->valid_bytes || end + NEAR_BYTES <= off_bytes) {
			list_del(&p->link);
			list_add_tail(stale, &p->link);
			st->bytes -= p->len_bytes;
		}
		if (has)
			return p;
	}
	return NULL;
}

u64 stage_take(struct inode *inode, u64 off_bytes, void *dst, u64 len_bytes, u64 *gap)
{
	struct piece *found = NULL;
	struct list stale;
	u64 n = 0;

	*gap = len_bytes;
	list_init(&stale);
	mutex_lock(&inode->stage_lock);
	if (inode->stage)
		found = piece_find(inode->stage, off_bytes, len_bytes, gap, &stale);
	mutex_unlock(&inode->stage_lock);
	if (found) {
		piece_run(found);
		piece_wait(found);
		*gap = MIN(found->off_bytes + found->valid_bytes - off_bytes, len_bytes);
		/* When it is bad, that may be elsewhere in it: the reader sees for himself. */
		if (atomic_load(&found->state) == PIECE_DONE && !found->err) {
			n = *gap;
			memcpy(dst, found->buf + (off_bytes - found->off_bytes), n);
			stat_add(STAT_STAGE_HITS, 1);
		}
		piece_unuse(found);
	}
	for (struct list *l; (l = list_pop(&stale));)
		piece_drop(list_entry(l, struct piece, link));
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
		piece_drop(list_entry(l, struct piece, link));
	free(st);
}
