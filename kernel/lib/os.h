/* What the kernel directory needs from the host and libc does not say portably: threads, time, randomness, memory. */
#ifndef LIB_OS_H
#define LIB_OS_H

#include "lib/types.h"
#include <pthread.h>

struct timespec64 {
	s64 sec;
	u32 nsec;
};

/* Starts a thread with all signals blocked, on any CPU of the program's first thread. `name` has at most 15 bytes. 0 or -errno. */
int os_thread(pthread_t *out, const char *name, void *(*fn)(void *), void *arg) __must_check;
/* Wall clock. */
struct timespec64 os_now(void);
/* Monotonic clock. */
u64 os_monotonic_ns(void);
/* The same, which goes on while the machine sleeps. */
u64 os_boottime_ns(void);
/* The machine's name, cut off to room - 1 bytes; "?" when it has none. */
void os_nodename(char *out, size_t room);
void os_random(void *p, size_t len_bytes);
u32 os_cpus(void);
/* Physical memory of the machine, bytes. */
u64 os_memory_bytes(void);
/* Memory aligned to `align` (a power of two), not cleared; NULL when there is none. Released by free(). */
void *os_alloc_aligned(size_t align, size_t len_bytes);
/* Such memory, aligned to huge pages, may be made of them. */
void os_huge_pages(void *p, size_t len_bytes);
/* Sleeps while *word == expected, until os_wake on it or `timeout_ms` (0: no limit). May wake early. */
void os_wait(_Atomic u32 *word, u32 expected, u32 timeout_ms);
void os_wake_one(_Atomic u32 *word);
void os_wake_all(_Atomic u32 *word);

#endif
