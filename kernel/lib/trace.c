/*
 * The trace ring. A writer claims a slot by its index and marks it done last; a reader takes only slots whose
 * mark belongs to the index it expects, so a slot being overwritten is left out of a dump and never misread.
 */
#include "lib/trace.h"

#include "lib/os.h"

#define TRACE_RING 4096u

struct trace_slot {
	_Atomic u64 index_plus_1; /* 0: never written or being written */
	_Atomic u64 when_ns, a, b;
	_Atomic u32 event;
};

_Atomic u64 stat_counters[STAT_COUNT];
static struct trace_slot ring[TRACE_RING];
static _Atomic u64 ring_next;

#define RELAXED memory_order_relaxed

void trace(enum trace_event ev, u64 a, u64 b)
{
	u64 index = atomic_fetch_add_explicit(&ring_next, 1, RELAXED);
	struct trace_slot *s = &ring[index % TRACE_RING];

	atomic_store_explicit(&s->index_plus_1, 0, RELAXED);
	atomic_store_explicit(&s->when_ns, os_monotonic_ns(), RELAXED);
	atomic_store_explicit(&s->a, a, RELAXED);
	atomic_store_explicit(&s->b, b, RELAXED);
	atomic_store_explicit(&s->event, ev, RELAXED);
	atomic_store_explicit(&s->index_plus_1, index + 1, memory_order_release);
}

static void trace_line(struct text *t, u64 index)
{
	struct trace_slot *s = &ring[index % TRACE_RING];
	unsigned long long when, a, b;
	u32 ev;

	if (atomic_load_explicit(&s->index_plus_1, memory_order_acquire) != index + 1)
		return;
	when = atomic_load_explicit(&s->when_ns, RELAXED);
	a = atomic_load_explicit(&s->a, RELAXED);
	b = atomic_load_explicit(&s->b, RELAXED);
	ev = atomic_load_explicit(&s->event, RELAXED);
	if (atomic_load_explicit(&s->index_plus_1, memory_order_acquire) != index + 1)
		return;
	text_add(t, "%llu.%06llu ", when / 1000000000, when / 1000 % 1000000);
	switch (ev) {
#define TRACE_CASE(name, format)           \
	case TRACE_##name:                 \
		text_add(t, format, a, b); \
		break;
		TRACE_EVENTS(TRACE_CASE)
	}
	text_add(t, "\n");
}

void trace_to_text(struct text *t)
{
	u64 end = atomic_load(&ring_next), at = end > TRACE_RING ? end - TRACE_RING : 0;

	for (; at < end; at++)
		trace_line(t, at);
}

void stats_to_text(struct text *t)
{
#define STAT_LINE(name, what) text_add(t, "%-48s %llu\n", what, (unsigned long long)stat_get(STAT_##name));
	STATS(STAT_LINE)
}
