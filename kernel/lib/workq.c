/*
 * A thread pool: one list, one lock. Threads start when work waits and all are busy, and stay until the pool
 * is freed. `queued` and `finished` number the work, which is what a drain waits by.
 */
#include "lib/workq.h"

#include "lib/lock.h"
#include "lib/os.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct workq {
	struct mutex lock; /* rank RING */
	struct cond more, idle_or_done;
	struct list work;     /* [lock] */
	u32 threads, waiting; /* [lock] */
	u32 todo;             /* [lock] queued, not started */
	u64 queued, finished; /* [lock] */
	bool stop;            /* [lock] */
	u32 threads_max;      /* [const] */
	char name[16];        /* [const] */
	pthread_t thread[];   /* [lock] */
};

static void *workq_thread(void *arg)
{
	struct workq *wq = arg;

	mutex_lock(&wq->lock);
	for (;;) {
		struct list *l = list_pop(&wq->work);

		if (l) {
			struct work *w = list_entry(l, struct work, link);

			wq->todo--;
			mutex_unlock(&wq->lock);
			w->fn(w);
			mutex_lock(&wq->lock);
			wq->finished++;
			cond_broadcast(&wq->idle_or_done);
			continue;
		}
		if (wq->stop)
			break;
		wq->waiting++;
		cond_wait(&wq->more, &wq->lock);
		wq->waiting--;
	}
	mutex_unlock(&wq->lock);
	return NULL;
}

int workq_new(const char *name, u32 threads_max, struct workq **out)
{
	struct workq *wq = calloc(1, sizeof(*wq) + threads_max * sizeof(wq->thread[0]));
	int err;

	if (!wq)
		return -ENOMEM;
	mutex_init(&wq->lock, RANK_RING);
	cond_init(&wq->more);
	cond_init(&wq->idle_or_done);
	list_init(&wq->work);
	wq->threads_max = threads_max;
	snprintf(wq->name, sizeof(wq->name), "%s", name);
	/* One thread always, so that queueing cannot fail. */
	err = os_thread(&wq->thread[0], wq->name, workq_thread, wq);
	if (err) {
		free(wq);
		return err;
	}
	wq->threads = 1;
	*out = wq;
	return 0;
}

void workq_free(struct workq *wq)
{
	u32 n;

	if (!wq)
		return;
	mutex_lock(&wq->lock);
	wq->stop = true;
	n = wq->threads;
	cond_broadcast(&wq->more);
	mutex_unlock(&wq->lock);
	for (u32 i = 0; i < n; i++)
		pthread_join(wq->thread[i], NULL);
	cond_fini(&wq->more);
	cond_fini(&wq->idle_or_done);
	mutex_fini(&wq->lock);
	free(wq);
}

void workq_queue(struct workq *wq, struct work *w)
{
	mutex_lock(&wq->lock);
	list_add_tail(&wq->work, &w->link);
	wq->queued++;
	wq->todo++;
	cond_signal(&wq->more);
	/* A thread that was signalled may not have woken yet: compare with the work, not with the signals. */
	if (wq->todo > wq->waiting && wq->threads < wq->threads_max && !wq->stop &&
	    !os_thread(&wq->thread[wq->threads], wq->name, workq_thread, wq))
		wq->threads++;
	mutex_unlock(&wq->lock);
}

void workq_drain(struct workq *wq)
{
	u64 until;

	mutex_lock(&wq->lock);
	until = wq->queued;
	/* Work finishes out of order, so "all that was queued" is certain only when as many have finished. */
	while (wq->finished < until)
		cond_wait(&wq->idle_or_done, &wq->lock);
	mutex_unlock(&wq->lock);
}
