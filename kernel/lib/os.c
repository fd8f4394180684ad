/* The host's threads, clocks, randomness and memory, for everything under kernel/ that must not name Linux itself. */
#include "lib/os.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

int os_thread(pthread_t *out, const char *name, void *(*fn)(void *), void *arg)
{
	struct sched_param param;
	sigset_t all, old;
	cpu_set_t cpus;
	int err, policy;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(out, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	pthread_setname_np(*out, name);
	/* It may run where the program may, also when who starts it is bound to one CPU. */
	if (!sched_getaffinity(getpid(), sizeof(cpus), &cpus))
		(void)!pthread_setaffinity_np(*out, sizeof(cpus), &cpus);
	/* Nor does it inherit another scheduling class than the program's. */
	policy = sched_getscheduler(getpid());
	if (policy != sched_getscheduler(0) && !sched_getparam(getpid(), &param))
		(void)!pthread_setschedparam(*out, policy, &param);
	return 0;
}

struct timespec64 os_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (struct timespec64){ .sec = t.tv_sec, .nsec = (u32)t.tv_nsec };
}

static u64 clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

u64 os_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

u64 os_boottime_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

void os_nodename(char *out, size_t room)
{
	struct utsname u;

	snprintf(out, room, "%s", !uname(&u) && u.nodename[0] ? u.nodename : "?");
}

void os_random(void *p, size_t len_bytes)
{
	u8 *at = p;

	while (len_bytes) {
		ssize_t n = getrandom(at, len_bytes, 0);

		if (n < 0 && errno != EINTR) {
			/* No random source at all (a very old kernel): the clock must do, for hash seeds it can. */
			for (size_t i = 0; i < len_bytes; i++)
				at[i] = (u8)(os_monotonic_ns() >> (i % 8));
			return;
		}
		if (n > 0) {
			at += n;
			len_bytes -= (size_t)n;
		}
	}
}

u32 os_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (u32)n : 1;
}

u64 os_memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (u64)pages * (u64)page : 1ull << 30;
}

void *os_alloc_aligned(size_t align, size_t len_bytes)
{
	void *p;

	return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, len_bytes) ? NULL : p;
}

void os_huge_pages(void *p, size_t len_bytes)
{
	(void)!madvise(p, len_bytes, MADV_HUGEPAGE);
}

void os_wait(_Atomic u32 *word, u32 expected, u32 timeout_ms)
{
	struct timespec t = { .tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000 };

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ms ? &t : NULL, NULL, 0);
}

void os_wake_one(_Atomic u32 *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void os_wake_all(_Atomic u32 *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
