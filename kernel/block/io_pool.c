/*
 * The I/O pool: one queue of bios, worked off by the threads of a workq.
 *
 * A wake-up of a sleeping processor costs as much as copying a megabyte, so a foreground bio is first kept in
 * a list of its own thread. When the thread comes to wait, one bio is its own, the rest goes to the queue, and
 * until the pool has taken them all the thread takes from the queue's end what belongs to its batch.
 *
 * Invariants
 * 1. While the queue is not empty, every runner is either queued in the workq or before its next look at the
 *    queue. So nothing is left lying.
 * 2. A bio is in at most one of: a thread's own list, the queue, the hands of one thread.
 */
#include "io_pool.h"

#include "lib/lock.h"
#include "lib/workq.h"
#include "xfer.h"
#include <errno.h>
#include <pthread.h>

#define RUNNERS 16 /* blocking I/O in flight at once */

struct runner {
	struct work work;
	bool queued; /* [pool lock] */
};

static struct {
	pthread_mutex_t
		life;     /* orders get and put; taken above everything, held over thread starts and joins */
	u32 users;        /* [life] */
	struct workq *wq; /* [const while users > 0] */
	struct mutex lock;
	struct list bios;              /* [lock] */
	struct runner runner[RUNNERS]; /* [lock] */
} pool = {
	.life = PTHREAD_MUTEX_INITIALIZER,
	.lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_RING },
	.bios = LIST_INIT(pool.bios),
};

/* Deferred by this thread; next is NULL until its first use. */
static _Thread_local struct list own;

static void run(struct work *w)
{
	struct runner *r = container_of(w, struct runner, work);
	struct list *l;

	for (;;) {
		mutex_lock(&pool.lock);
		l = list_pop(&pool.bios);
		if (!l)
			r->queued = false;
		mutex_unlock(&pool.lock);
		if (!l)
			return;
		xfer_run(list_entry(l, struct bio, link));
	}
}

int io_pool_get(void)
{
	int err = 0;

	pthread_mutex_lock(&pool.life);
	if (!pool.users)
		err = workq_new("werunos-io", RUNNERS, &pool.wq);
	if (!err)
		pool.users++;
	pthread_mutex_unlock(&pool.life);
	return err ? fail(err, "cannot start I/O threads") : 0;
}

void io_pool_put(void)
{
	pthread_mutex_lock(&pool.life);
	if (!--pool.users)
		workq_free(pool.wq);
	pthread_mutex_unlock(&pool.life);
}

/* Queues all of `bios`, and as many runners as have something to do. */
static void push(struct list *bios, u32 count)
{
	struct runner *wake[RUNNERS];
	u32 n = 0;

	mutex_lock(&pool.lock);
	list_splice_tail(&pool.bios, bios);
	for (u32 i = 0; i < RUNNERS && n < count; i++) {
		struct runner *r = &pool.runner[i];

		if (r->queued)
			continue;
		r->queued = true;
		r->work.fn = run;
		wake[n++] = r;
	}
	mutex_unlock(&pool.lock);
	for (u32 i = 0; i < n; i++)
		workq_queue(pool.wq, &wake[i]->work);
}

void io_pool_queue(struct bio *bio)
{
	struct list one = LIST_INIT(one);

	list_add_tail(&one, &bio->link);
	push(&one, 1);
}

void io_pool_defer(struct bio *bio)
{
	if (!own.next)
		list_init(&own);
	list_add_tail(&own, &bio->link);
}

/* One bio of the thread's own list; the others go to the queue. NULL: it is empty. */
static struct bio *take_own(void)
{
	struct list *first = own.next ? list_pop(&own) : NULL;
	u32 count = 0;

	if (!first)
		return NULL;
	list_for_each(l, &own) count++;
	if (count)
		push(&own, count);
	return list_entry(first, struct bio, link);
}

bool io_pool_help(struct io_batch *batch)
{
	struct bio *bio = take_own();

	if (!bio) {
		mutex_lock(&pool.lock);
		if (!list_empty(&pool.bios))
			bio = list_entry(pool.bios.prev, struct bio, link);
		if (bio && bio->batch == batch)
			list_del(&bio->link);
		else
			bio = NULL;
		mutex_unlock(&pool.lock);
	}
	if (bio)
		xfer_run(bio);
	return bio;
}
