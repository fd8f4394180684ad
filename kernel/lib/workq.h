/* A thread pool. Work is embedded in its owner and runs once per queueing, on any of the pool's threads. */
#ifndef LIB_WORKQ_H
#define LIB_WORKQ_H

#include "lib/list.h"
#include "lib/types.h"

struct work {
	struct list link; /* [pool] */
	void (*fn)(struct work *);
};

struct workq;

/* `name` has at most 15 bytes; threads start on demand, up to `threads_max`. */
int workq_new(const char *name, u32 threads_max, struct workq **out) __must_check;
/* Runs what is queued, then ends the threads. NULL is ignored. */
void workq_free(struct workq *wq);
/* The work must not be queued already; after fn was entered it may be queued again or freed. */
void workq_queue(struct workq *wq, struct work *w);
/* Waits until everything queued before the call has run. */
void workq_drain(struct workq *wq);

#endif
