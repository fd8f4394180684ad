/*
 * Answering beside the asker. A request that crosses from one CPU to another wakes a sleeping one twice, there and back, and on
 * a virtual machine that costs more than most answers do. A lone program that asks for one small thing after the other
 * need not pay it: the worker that serves it sits on the program's own CPU, which is free whenever the program waits.
 *
 * The way back is the difficult one. The kernel wakes the asker on a CPU that is idle, so on another one, since on its own the worker
 * still runs. But a CPU on which nothing but SCHED_IDLE threads run counts as idle too. So the worker writes its reply as such a thread: it is
 * lowered. It stays so while one small request of the client follows the other, since changing the class costs as much as a small answer; it is a
 * normal thread again before it sleeps, and before what is large, slow or somebody else's.
 * That takes the right to leave that class again (CAP_SYS_NICE, or RLIMIT_NICE); without it nothing of this happens.
 *
 *   far    workers sit anywhere; the watcher spins
 *   near   the watcher is bound to `cpu`, where the client was last seen, and sleeps
 *
 * Requests are looked at in windows. One is good when nearly all requests came from one thread, one soon after the other, none large, and none while
 * another was waiting: large ones, and many at a time, gain from two CPUs. What it is judged by is a trip: from a reply to the client's next
 * request, the median of the window, since what the answers take depends on what is asked. Two good windows far, then three near (the first of them does not count), and near is kept
 * for long unless its trips are half as long again: far trips are short only while the watcher spins, on a CPU that others want.
 *
 * A lowered worker that wants the CPU and does not get it (somebody else works there) is found out by the deputy's clock, with whatever it holds:
 * it is set free, and near is given up for a while, each time for longer.
 */
#include "adapter.h"

#include "lib/trace.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW        64u     /* requests */
#define STRANGERS     4u      /* of them, from others; as many may be large */
#define LARGE_BYTES   32768u  /* of content */
#define CROWD_EVERY   16u     /* requests between two looks at whether another one waits */
#define CROWDED       2u      /* of the window's looks, found one */
#define BUSY_NS       200000u /* a trip: a program that is busy otherwise gains nothing */
#define LOOK_EVERY    128u    /* requests between two looks at where the client is */
#define LOOK_SOON     4u      /* where it seems to be elsewhere */
#define FAR_WINDOWS   2u
#define NEAR_WINDOWS  3u
#define KEEP_WINDOWS  1024u /* near was faster */
#define AGAIN_WINDOWS 256u  /* near was not */
#define FAILED_MIN    8u    /* windows that the first failure costs */
#define FAILED_MAX    65536u
#define SMALL_BYTES   512u /* of a reply */

enum phase { FAR_MEASURED, NEAR_MEASURED, NEAR_KEPT, FAR_KEPT };

struct near {
	cpu_set_t all;           /* [const] where workers may sit */
	_Atomic u32 on;          /* 1: near */
	_Atomic u32 cpu, client; /* with on: the thread that is answered, and where it is */
	_Atomic u64 replied_ns;  /* the last reply of all */
	_Atomic u32
		apart; /* 1: the worker had to sleep. Beside the client it runs only when that waits for it */
	_Atomic(struct worker *) lowered; /* the one that is, or is about to be, a SCHED_IDLE thread */
	struct worker *seen_lowered;      /* [deputy] at its last tick */
	u32 seen_taken;                   /* [deputy] likewise, of that worker's */
	struct mutex
		lock; /* rank LEAF; of the rest, and while the deputy touches the thread of another worker */
	u32 total, strangers, large, crowded, last, look;
	u32 trip_ns[WINDOW];
	enum phase phase;
	u32 windows;         /* left of the phase */
	u32 far_ns, near_ns; /* a trip in the best measured window; 0: none was */
	u32 failed;          /* windows that the next failure costs */
};

bool near_is_on(const struct adapter *a)
{
	return a->near && atomic_load_explicit(&a->near->on, memory_order_relaxed);
}

/* ---- the reply ---- */

static int set_class(pthread_t thread, int policy)
{
	const struct sched_param none = { 0 };

	return pthread_setschedparam(thread, policy, &none);
}

/* Of thread `tid`. Pages that the kernel writes back are nobody's: the thread that closes their file waits for them. */
static bool is_from(const struct fuse_in_header *h, u32 tid)
{
	return h->pid == tid || (!h->pid && h->opcode == FUSE_WRITE);
}

/* Nobody waits for the answer, if there is one. */
static bool is_unawaited(const struct fuse_in_header *h)
{
	return h->opcode == FUSE_RELEASE || h->opcode == FUSE_RELEASEDIR || h->opcode == FUSE_FORGET ||
	       h->opcode == FUSE_BATCH_FORGET || h->opcode == FUSE_INTERRUPT;
}

/* One at a time, and told before: the deputy must know whom it has to set free. */
static bool lower(struct near *n, struct worker *w)
{
	struct worker *none = NULL;

	if (atomic_load(&n->lowered) == w)
		return true;
	if (!atomic_compare_exchange_strong(&n->lowered, &none, w))
		return false;
	if (!set_class(pthread_self(), SCHED_IDLE))
		return true;
	atomic_store(&n->lowered, NULL);
	return false;
}

/* The worker's own thread is a normal one from here on. */
static void lift(struct near *n, struct worker *w)
{
	if (atomic_load(&n->lowered) != w)
		return;
	set_class(pthread_self(), SCHED_OTHER);
	atomic_store(&n->lowered, NULL);
}

/* The kernel pins each piece of a reply on its own: that costs more than putting small ones together. */
static ssize_t send(int fd, const struct iovec *iov, int count)
{
	char small[SMALL_BYTES];
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > sizeof(small) - len)
			return writev(fd, iov, count);
		memcpy(small + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return write(fd, small, len);
}

ssize_t near_reply(struct worker *w, int fd, const struct iovec *iov, int count)
{
	const struct fuse_in_header *h = w->buf.mem;
	struct near *n = w->a->near;
	ssize_t done;
	int err;

	if (!n)
		return send(fd, iov, count);
	if (is_unawaited(h))
		return send(fd, iov, count);
	atomic_store_explicit(&n->replied_ns, os_monotonic_ns(), memory_order_relaxed);
	if (!near_is_on(w->a) || w->cpu != (int)atomic_load(&n->cpu) ||
	    !is_from(h, atomic_load(&n->client))) {
		lift(n, w);
		return send(fd, iov, count);
	}
	if (!lower(n, w))
		return send(fd, iov, count);
	done = send(fd, iov, count);
	err = errno;
	stat_add(STAT_FUSE_NEAR, 1);
	/* The deputy may have set it free: it may sit elsewhere than w->cpu says. */
	if (!near_is_on(w->a))
		near_sit(w);
	errno = err;
	return done;
}

/* ---- where workers sit ---- */

static void bind_to(const struct near *n, pthread_t thread, int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	if (cpu >= 0)
		CPU_SET((u32)cpu, &one);
	(void)!pthread_setaffinity_np(thread, sizeof(one), cpu >= 0 ? &one : &n->all);
}

void near_rest(struct worker *w)
{
	if (w->a->near)
		lift(w->a->near, w);
}

void near_watch(struct worker *w)
{
	if (near_is_on(w->a))
		atomic_store(&w->a->near->apart, 1);
	near_rest(w);
	near_sit(w);
}

void near_sit(struct worker *w)
{
	struct near *n = w->a->near;
	int cpu = near_is_on(w->a) ? (int)atomic_load(&n->cpu) : -1;

	if (w->cpu == cpu)
		return;
	lift(n, w);
	bind_to(n, pthread_self(), cpu);
	w->cpu = cpu;
}

/* What proc(5) tells of a thread: its state, and the CPU that it was last on, the 39th field (the 3rd, the state, follows the last ')'). False: nothing. */
static bool thread_stat(u32 tid, char *state, int *cpu)
{
	char path[64], buf[1024], *p;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/task/%u/stat", tid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[MAX(len, (ssize_t)0)] = 0;
	p = strrchr(buf, ')');
	*state = p && p[1] ? p[2] : 0;
	for (u32 field = 2; p && field < 39; field++)
		p = strchr(p + 1, ' ');
	*cpu = p ? atoi(p) : -1;
	return p != NULL;
}

/* -1: cannot be known, or not ours to sit on. */
static int cpu_of(const struct near *n, u32 tid)
{
	char state;
	int cpu;

	if (!thread_stat(tid, &state, &cpu))
		return -1;
	return cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET((u32)cpu, &n->all) ? cpu : -1;
}

/* The worker does not sleep: it runs, or would. */
static bool wants_cpu(const struct worker *w)
{
	char state = 0;
	int cpu;

	return !thread_stat((u32)w->tid, &state, &cpu) || state == 'R';
}

/* ---- which stance; all of this under the lock ---- */

static void go_far(struct near *n, enum phase phase, u32 windows)
{
	atomic_store(&n->on, 0);
	n->phase = phase;
	n->windows = windows;
	n->far_ns = 0;
}

/* Near the client, wherever it is by now; far when that cannot be known. */
static void follow(struct near *n, u32 client)
{
	int cpu = cpu_of(n, client);

	if (cpu < 0) {
		go_far(n, FAR_KEPT, AGAIN_WINDOWS);
		return;
	}
	atomic_store(&n->cpu, (u32)cpu);
	atomic_store(&n->client, client);
	atomic_store(&n->on, 1);
}

/* Sorts them. */
static u32 median_trip_ns(u32 trip_ns[WINDOW])
{
	for (u32 i = 1; i < WINDOW; i++) {
		u32 one = trip_ns[i], k = i;

		for (; k && trip_ns[k - 1] > one; k--)
			trip_ns[k] = trip_ns[k - 1];
		trip_ns[k] = one;
	}
	return trip_ns[WINDOW / 2];
}

/* After a good window. */
static void judge(struct near *n, u32 trip_ns)
{
	u32 *best = n->phase == FAR_MEASURED ? &n->far_ns : &n->near_ns;

	if (n->phase == FAR_MEASURED || (n->phase == NEAR_MEASURED && n->windows < NEAR_WINDOWS))
		*best = *best ? MIN(*best, trip_ns) : trip_ns;
	if (n->windows && --n->windows)
		return;
	switch (n->phase) {
	case FAR_KEPT:
	case NEAR_KEPT:
		go_far(n, FAR_MEASURED, FAR_WINDOWS);
		break;
	case FAR_MEASURED:
		n->phase = NEAR_MEASURED;
		n->windows = NEAR_WINDOWS;
		n->near_ns = 0;
		follow(n, n->last);
		break;
	case NEAR_MEASURED:
		if (n->near_ns > n->far_ns + n->far_ns / 2) {
			go_far(n, FAR_KEPT, AGAIN_WINDOWS);
			break;
		}
		n->phase = NEAR_KEPT;
		n->windows = KEEP_WINDOWS;
		n->failed = FAILED_MIN;
	}
}

static void window_end(struct near *n)
{
	u32 trip_ns = median_trip_ns(n->trip_ns);
	bool good = n->last && n->strangers <= STRANGERS && n->large <= STRANGERS && n->crowded < CROWDED &&
		    trip_ns < BUSY_NS;

	n->total = n->strangers = n->large = n->crowded = 0;
	if (good)
		judge(n, trip_ns);
	else if (n->phase != FAR_KEPT)
		go_far(n, FAR_MEASURED, FAR_WINDOWS);
}

static bool is_large(const struct fuse_in_header *h)
{
	if (h->opcode == FUSE_READ)
		return ((const struct fuse_read_in *)(h + 1))->size > LARGE_BYTES;
	return h->len > LARGE_BYTES;
}

void near_request(struct worker *w, bool slow)
{
	const struct fuse_in_header *h = w->buf.mem;
	struct near *n = w->a->near;
	bool another;
	u32 taken;

	if (!n)
		return;
	taken = atomic_fetch_add_explicit(&w->taken, 1, memory_order_relaxed);
	if (is_unawaited(h))
		return;
	another = taken % CROWD_EVERY == 0 && w->a->way->pending(w->a);
	mutex_lock(&n->lock);
	n->crowded += another;
	n->trip_ns[n->total] = (u32)MIN(os_monotonic_ns() - atomic_load(&n->replied_ns), UINT32_MAX);
	n->strangers += !is_from(h, n->last);
	n->last = h->pid ? h->pid : n->last;
	n->large += is_large(h);
	if (++n->total == WINDOW)
		window_end(n);
	n->look++;
	if (atomic_load(&n->on) && n->look >= (atomic_load(&n->apart) ? LOOK_SOON : LOOK_EVERY)) {
		n->look = 0;
		atomic_store(&n->apart, 0);
		follow(n, n->last);
	}
	mutex_unlock(&n->lock);
	if (slow || !is_from(h, atomic_load(&n->client)) || is_large(h))
		lift(n, w);
	/* While the client waits: else it would be pushed aside, to the CPU that this worker leaves. */
	near_sit(w);
}

void near_tick(struct adapter *a)
{
	struct near *n = a->near;
	struct worker *w;
	u32 taken;
	bool late;

	if (!n)
		return;
	w = atomic_load(&n->lowered);
	taken = w ? atomic_load(&w->taken) : 0;
	late = w && w == n->seen_lowered && taken == n->seen_taken;
	n->seen_lowered = w;
	n->seen_taken = taken;
	if (!late)
		return;
	mutex_lock(&n->lock);
	/* While it is lowered it has not passed near_leave, and cannot before the unlock: its thread is there. */
	if (atomic_load(&n->lowered) == w && wants_cpu(w)) {
		go_far(n, FAR_KEPT, n->failed);
		n->failed = MIN(2 * n->failed, FAILED_MAX);
		set_class(w->thread, SCHED_OTHER);
		bind_to(n, w->thread, -1);
	}
	mutex_unlock(&n->lock);
}

void near_leave(struct worker *w)
{
	struct near *n = w->a->near;

	if (!n)
		return;
	lift(n, w);
	mutex_lock(&n->lock);
	mutex_unlock(&n->lock);
}

/* ---- life ---- */

static void *try_classes(void *arg)
{
	bool *can = arg;

	*can = !set_class(pthread_self(), SCHED_IDLE) && !set_class(pthread_self(), SCHED_OTHER);
	return NULL;
}

/* There is more than one CPU, and threads may change their class to and fro. */
static bool is_possible(struct near *n)
{
	pthread_t thread;
	bool can = false;

	if (sched_getscheduler(0) != SCHED_OTHER || sched_getaffinity(0, sizeof(n->all), &n->all) ||
	    CPU_COUNT(&n->all) < 2 || os_thread(&thread, "werunos-try", try_classes, &can))
		return false;
	pthread_join(thread, NULL);
	return can;
}

void near_start(struct adapter *a)
{
	struct near *n;

	/* A worker alone has no deputy that would set it free. */
	if (a->worker_count < 2)
		return;
	n = calloc(1, sizeof(*n));
	if (!n)
		return;
	if (!is_possible(n)) {
		free(n);
		return;
	}
	n->failed = FAILED_MIN;
	n->windows = FAR_WINDOWS;
	mutex_init(&n->lock, RANK_LEAF);
	a->near = n;
}

void near_stop(struct adapter *a)
{
	if (!a->near)
		return;
	mutex_fini(&a->near->lock);
	free(a->near);
	a->near = NULL;
}
