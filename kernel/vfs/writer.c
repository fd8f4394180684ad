/*
 * Writes what the queues of lazy.c hold: a thread, started by the first that comes, what is old; whoever adds to a full
 * queue, the oldest; and those who want it durable. What is written without anybody waiting leaves its error in the
 * inode, for those who fsync.
 *
 * Interface: internal.h, and vfs_accessed.
 */
#include "internal.h"

#include <errno.h>

/* Bounds of what waits: tails in number and in bytes, and times. */
#define TAILS_MAX       1024u
#define TAILS_BYTES_MAX (4u << 20)
#define TIMES_MAX       8192u
#define TAIL_AGE_NS     5000000000ull
#define TIME_AGE_NS     30000000000ull
#define LOOK_MS         1000u
#define DAY_SEC         86400

static u32 queue_max(const struct super_block *sb, enum lazy_kind kind)
{
	return kind == LAZY_TIME ? TIMES_MAX : MIN(TAILS_MAX, TAILS_BYTES_MAX / sb->block_bytes);
}

/* ---- writing ---- */

/* The time of access as it is in memory. Locks: lock W. */
static int write_time(struct inode *inode)
{
	struct iattr a = { .valid = ATTR_ATIME };

	if (!(atomic_fetch_and(&inode->state, ~I_ATIME) & I_ATIME) || !inode->ops->setattr ||
	    vfs_check_writable(inode->sb))
		return 0;
	mutex_lock(&inode->attr);
	a.atime = inode->atime;
	mutex_unlock(&inode->attr);
	return inode->ops->setattr(inode, &a);
}

int lazy_write_inode(struct inode *inode)
{
	int err, time_err;

	if (atomic_load(&inode->tail_from) == ~0ull && !(atomic_load(&inode->state) & I_ATIME))
		return 0;
	rw_write_lock(&inode->lock);
	err = tail_flush(inode);
	time_err = write_time(inode);
	rw_write_unlock(&inode->lock);
	return err ? err : time_err;
}

/* The oldest of a queue that came before `until_ns`, off the queue and referenced, counted in busy[*phase]; NULL: none. */
static struct inode *next_due(struct lazies *z, enum lazy_kind kind, u64 until_ns, u32 *phase)
{
	struct inode *inode = NULL;
	bool here;

	mutex_lock(&z->lock);
	while (!inode && !list_empty(&z->queue[kind])) {
		inode = container_of(z->queue[kind].next, struct inode, lazy[kind]);
		if (inode->lazy_since_ns[kind] > until_ns) {
			inode = NULL;
			break;
		}
		here = icache_grab(inode);
		/* Not before it is held: what is on no queue may be dropped. Is it on its way out, it is there as long as this lock is. */
		lazy_unqueue(z, inode, kind);
		if (!here)
			inode = NULL;
	}
	*phase = z->phase;
	z->busy[*phase] += inode != NULL;
	mutex_unlock(&z->lock);
	return inode;
}

static int write_due(struct lazies *z, enum lazy_kind kind, u64 until_ns, u32 max)
{
	struct inode *inode;
	int err = 0;
	u32 phase;

	while (max-- && (inode = next_due(z, kind, until_ns, &phase))) {
		int one = lazy_write_inode(inode);

		err = err ? err : one;
		vfs_iput(inode);
		mutex_lock(&z->lock);
		if (!--z->busy[phase] && z->waiting)
			cond_broadcast(&z->wake);
		mutex_unlock(&z->lock);
	}
	return err;
}

/* Waits for those who took something off the queues before the call. */
static void wait_busy(struct lazies *z)
{
	u32 old;

	mutex_lock(&z->lock);
	while (z->waiting)
		cond_wait(&z->wake, &z->lock);
	z->waiting = true;
	old = z->phase;
	z->phase = !old;
	while (z->busy[old])
		cond_wait(&z->wake, &z->lock);
	z->waiting = false;
	cond_broadcast(&z->wake);
	mutex_unlock(&z->lock);
}

int lazy_write_all(struct super_block *sb)
{
	u64 now = os_monotonic_ns();
	int err = 0;

	for (u32 k = 0; k < LAZY_KINDS; k++) {
		int one = write_due(sb->lazies, k, now, ~0u);

		err = err ? err : one;
	}
	wait_busy(sb->lazies);
	return err;
}

void lazy_limit(struct super_block *sb)
{
	struct lazies *z = sb->lazies;

	for (u32 k = 0; k < LAZY_KINDS; k++) {
		u32 over;

		mutex_lock(&z->lock);
		over = z->count[k] > queue_max(sb, k) ? z->count[k] - queue_max(sb, k) : 0;
		mutex_unlock(&z->lock);
		/* Their errors are kept in the inodes. */
		if (over && write_due(z, k, ~0ull, over))
			err_clear();
	}
}

/* ---- the thread ---- */

void *lazy_run(void *arg)
{
	struct lazies *z = arg;

	mutex_lock(&z->lock);
	while (!z->stop) {
		u64 now;

		z->sleeps = !lazy_has_clock(z);
		if (z->sleeps)
			cond_wait(&z->wake, &z->lock);
		else
			cond_wait_ms(&z->wake, &z->lock, LOOK_MS);
		z->sleeps = false;
		if (z->stop)
			break;
		mutex_unlock(&z->lock);
		now = os_monotonic_ns();
		if (write_due(z, LAZY_TAIL, now - MIN(now, TAIL_AGE_NS), ~0u) ||
		    (!z->sb->lazytime && write_due(z, LAZY_TIME, now - MIN(now, TIME_AGE_NS), ~0u)))
			err_clear();
		mutex_lock(&z->lock);
	}
	mutex_unlock(&z->lock);
	return NULL;
}

/* ---- times of access ---- */

static bool before(struct timespec64 a, struct timespec64 b)
{
	return a.sec != b.sec ? a.sec < b.sec : a.nsec < b.nsec;
}

/* Locks: attr. */
static bool is_news(const struct inode *inode, struct timespec64 now)
{
	if (inode->flags & INO_NOATIME)
		return false;
	if (inode->sb->atime == ATIME_STRICT)
		return before(inode->atime, now);
	return !before(inode->mtime, inode->atime) || !before(inode->ctime, inode->atime) ||
	       now.sec - inode->atime.sec >= DAY_SEC;
}

void vfs_accessed(struct inode *inode)
{
	struct super_block *sb = inode->sb;
	struct timespec64 now;
	bool news;

	if (sb->atime == ATIME_NEVER || (sb->nodiratime && is_dir(inode)) || vfs_check_writable(sb))
		return;
	now = inode_now(inode);
	mutex_lock(&inode->attr);
	news = is_news(inode, now);
	if (news)
		inode->atime = now;
	mutex_unlock(&inode->attr);
	if (!news)
		return;
	atomic_fetch_or(&inode->state, I_ATIME);
	lazy_add(inode, LAZY_TIME);
	lazy_limit(sb);
}
