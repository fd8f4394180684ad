/*
 * Ranked locks. A thread takes locks in rising rank; of one rank only by the _nested calls, whose order the
 * caller guarantees (directories: ancestor first, else by inode number). Debug builds (WERUNOS_DEBUG) keep
 * each thread's held locks and abort on an inversion, on a double acquire and on a failed lock_assert_held.
 * The table with its reasons is in kernel/README.md.
 */
#ifndef LIB_LOCK_H
#define LIB_LOCK_H

#include "lib/types.h"
#include <pthread.h>

enum lock_rank {
	RANK_MOUNT = 1,
	RANK_RENAME,
	RANK_DIR,        /* a directory's inode lock */
	RANK_INODE,      /* any other inode's lock */
	RANK_MAP,        /* an inode's map lock */
	RANK_STAGE,      /* an inode's read stage */
	RANK_CHECKPOINT, /* who makes room in a journal's log */
	RANK_HANDLE,     /* an open transaction handle */
	RANK_EXTENT,     /* an inode's extent tree */
	RANK_ALLOC,      /* allocator group, orphan list, tree nodes */
	RANK_BUFFER,
	RANK_JOURNAL,
	RANK_SHARD, /* a shard of the buffer, inode or dentry cache */
	RANK_LRU,
	RANK_RING, /* devices, rings, thread pools */
	RANK_LEAF, /* log, health, trace: nothing is taken below it */
};

struct mutex {
	pthread_mutex_t m;
	u8 rank;
};

/* Readers in parallel; a waiting writer keeps new readers out. Not recursive. */
struct rwlock {
	pthread_rwlock_t rw;
	u8 rank;
};

/* Condition on a mutex. */
struct cond {
	_Atomic u32 calls; /* signals and broadcasts that somebody waited for; a futex word */
	_Atomic u32 waiters;
};

void mutex_init(struct mutex *m, enum lock_rank rank);
void mutex_fini(struct mutex *m);
void mutex_lock(struct mutex *m);
void mutex_lock_nested(struct mutex *m);
bool mutex_trylock(struct mutex *m) __must_check;
void mutex_unlock(struct mutex *m);

void rw_init(struct rwlock *l, enum lock_rank rank);
void rw_fini(struct rwlock *l);
void rw_read_lock(struct rwlock *l);
bool rw_read_trylock(struct rwlock *l) __must_check;
void rw_read_unlock(struct rwlock *l);
void rw_write_lock(struct rwlock *l);
void rw_write_lock_nested(struct rwlock *l);
bool rw_write_trylock(struct rwlock *l) __must_check;
void rw_write_unlock(struct rwlock *l);

void cond_init(struct cond *c);
void cond_fini(struct cond *c);
/* May return early, like all of these. */
void cond_wait(struct cond *c, struct mutex *m);
/* At most `ms`, by the monotonic clock. False: nobody called. */
bool cond_wait_ms(struct cond *c, struct mutex *m, u32 ms);
/* With the mutex, or after it was held to change what is waited for. */
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* Locks that are not of these types (buffer locks, handles) report themselves to the debug checks. */
void lock_note_acquire(const void *lock, enum lock_rank rank, bool nested);
void lock_note_release(const void *lock);
/* Debug builds abort when this thread does not hold `lock`; else nothing. */
void lock_assert_held(const void *lock);
/* Debug builds abort when this thread holds any lock of `rank` or above it in the table (a lower number). */
void lock_assert_none_at(enum lock_rank rank);

static inline void mutex_unlockp(struct mutex **m)
{
	if (*m)
		mutex_unlock(*m);
}
/* Holds the mutex until the end of the scope. */
#define GUARD_CAT2(a, b) a##b
#define GUARD_CAT(a, b)  GUARD_CAT2(a, b)
#define mutex_guard(mtx)                                                                            \
	__attribute__((cleanup(mutex_unlockp), unused)) struct mutex *GUARD_CAT(guard_, __LINE__) = \
		(mutex_lock(mtx), (mtx))

#endif
