/* Calling a worker that has nothing to do, and letting those finish that have. How workers wait: session.c. */
#include "adapter.h"

#include <errno.h>

#define SETTLE_MS 20u

void rouse_deputy(struct adapter *a)
{
	atomic_fetch_add(&a->deputy_calls, 1);
	os_wake_one(&a->deputy_calls);
}

void call_one(struct adapter *a)
{
	if (atomic_load(&a->sleepers)) {
		atomic_fetch_add(&a->calls, 1);
		os_wake_one(&a->calls);
	} else {
		atomic_store(&a->deputy_leave, 1);
		rouse_deputy(a);
	}
}

bool settled(struct adapter *a, int err)
{
	_Atomic u32 never = 0;

	if (err != -ENOSPC)
		return false;
	/* At least two ticks: a request just received counts as served only a moment later. */
	for (u32 ms = 0; ms < SETTLE_MS; ms++) {
		if (ms >= 2 && !a->way->pending(a) && atomic_load(&a->serving) == 1)
			break;
		if (!atomic_load(&a->watching))
			call_one(a);
		os_wait(&never, 0, 1);
	}
	return true;
}
