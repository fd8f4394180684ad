/* Where errors are born: see err.h. The thread's last sentence is kept in thread-local memory. */
#include "lib/err.h"

#include "lib/log.h"
#include "lib/os.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last[512];

void health_init(struct health *h, const char *name)
{
	memset(h, 0, sizeof(*h));
	snprintf(h->name, sizeof(h->name), "%s", name);
	mutex_init(&h->lock, RANK_LEAF);
}

void health_fini(struct health *h)
{
	mutex_fini(&h->lock);
}

void health_raise(struct health *h, enum health_state state)
{
	u32 old = atomic_load(&h->state);

	while (old < (u32)state && !atomic_compare_exchange_weak(&h->state, &old, (u32)state))
		;
}

int fail(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(last, sizeof(last), fmt, ap);
	va_end(ap);
	log_debug("%s (%s)", last, err_name(err));
	return err;
}

void health_ring(struct health *h)
{
	atomic_fetch_add(&h->bell, 1);
	os_wake_all(&h->bell);
}

u64 health_errors(struct health *h, struct health_error *first, struct health_error *latest)
{
	mutex_guard(&h->lock);
	*first = h->first_error;
	*latest = h->last_error;
	return atomic_load(&h->corrupt_count);
}

/* Its number. */
static u64 record(struct health *h, const struct health_error *e, const char *sentence)
{
	u64 count;

	health_raise(h, HEALTH_CORRUPT);
	mutex_lock(&h->lock);
	count = atomic_fetch_add(&h->corrupt_count, 1) + 1;
	if (count == 1) {
		h->first_error = *e;
		memccpy(h->first, sentence, 0, sizeof(h->first) - 1);
	}
	h->last_error = *e;
	mutex_unlock(&h->lock);
	health_ring(h);
	return count;
}

int corrupt_at(const char *file, const char *func, u32 line, struct health *h, const char *what, u64 nr,
	       const char *fmt, ...)
{
	struct health_error e = {
		.time_sec = os_now().sec, .nr = nr, .file = file, .func = func, .line = line
	};
	int n = snprintf(last, sizeof(last), "%s%s%s %llu: ", h ? h->name : "", h ? ": " : "", what,
			 (unsigned long long)nr);
	u64 count = 1;
	va_list ap;

	if (n < 0 || n >= (int)sizeof(last))
		n = 0;
	va_start(ap, fmt);
	vsnprintf(last + n, sizeof(last) - (size_t)n, fmt, ap);
	va_end(ap);
	snprintf(e.what, sizeof(e.what), "%s", what);
	if (h)
		count = record(h, &e, last);
	trace(TRACE_CORRUPT, nr, count);
	log_debug("%s", last);
	return -EUCLEAN;
}

const char *err_text(void)
{
	return last;
}

void err_clear(void)
{
	last[0] = 0;
}

const char *err_name(int err)
{
	const char *name = strerrorname_np(err < 0 ? -err : err);

	return name ? name : "E?";
}
