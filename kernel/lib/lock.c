/*
 * Ranked locks. The release build is a thin layer over pthreads; with WERUNOS_DEBUG each thread keeps the list
 * of what it holds and aborts, naming the ranks, when the order of lock.h is broken. An inversion is a defect
 * of ours, never of a volume, hence the abort.
 *
 * Conditions are our own: those of glibc before 2.41 lose a wakeup now and then (its bug 25847), which here is a mount that hangs. Ours
 * count calls. A waiter reads the count while it has the mutex and sleeps as long as it is that; who calls changed what is waited for under
 * the mutex, so whoever saw it unchanged is among the waiters, and sees the count change.
 */
#include "lib/lock.h"

#include "lib/os.h"
#include <stdio.h>
#include <stdlib.h>

#ifdef WERUNOS_DEBUG
#define HELD_MAX 1024

struct held {
	const void *lock;
	u8 rank;
};
static _Thread_local struct held held[HELD_MAX];
static _Thread_local u32 held_count;

static void lock_die(const char *what, const void *lock, u32 rank)
{
	fprintf(stderr, "lock: %s: lock %p of rank %u; this thread holds:", what, lock, rank);
	for (u32 i = 0; i < held_count; i++)
		fprintf(stderr, " %p(%u)", held[i].lock, held[i].rank);
	fprintf(stderr, "\n");
	abort();
}

/* Before blocking, so that an inversion is reported and not met as a deadlock. */
static void note_order(const void *lock, enum lock_rank rank, bool nested)
{
	for (u32 i = 0; i < held_count; i++) {
		if (held[i].lock == lock)
			lock_die("taken twice", lock, rank);
		if (held[i].rank > rank || (held[i].rank == rank && !nested))
			lock_die("rank inversion", lock, rank);
	}
}

static void note_push(const void *lock, enum lock_rank rank)
{
	if (held_count == HELD_MAX)
		lock_die("too many held", lock, rank);
	held[held_count++] = (struct held){ lock, (u8)rank };
}

void lock_note_acquire(const void *lock, enum lock_rank rank, bool nested)
{
	note_order(lock, rank, nested);
	note_push(lock, rank);
}

void lock_note_release(const void *lock)
{
	for (u32 i = held_count; i-- > 0;) {
		if (held[i].lock != lock)
			continue;
		for (; i + 1 < held_count; i++)
			held[i] = held[i + 1];
		held_count--;
		return;
	}
	lock_die("released but not held", lock, 0);
}

void lock_assert_held(const void *lock)
{
	for (u32 i = 0; i < held_count; i++)
		if (held[i].lock == lock)
			return;
	lock_die("not held", lock, 0);
}

void lock_assert_none_at(enum lock_rank rank)
{
	for (u32 i = 0; i < held_count; i++)
		if (held[i].rank <= rank)
			lock_die("held where none may be", held[i].lock, held[i].rank);
}
#else
static void note_order(const void *lock, enum lock_rank rank, bool nested)
{
	(void)lock, (void)rank, (void)nested;
}

static void note_push(const void *lock, enum lock_rank rank)
{
	(void)lock, (void)rank;
}

void lock_note_acquire(const void *lock, enum lock_rank rank, bool nested)
{
	(void)lock, (void)rank, (void)nested;
}

void lock_note_release(const void *lock)
{
	(void)lock;
}

void lock_assert_held(const void *lock)
{
	(void)lock;
}

void lock_assert_none_at(enum lock_rank rank)
{
	(void)rank;
}
#endif

void mutex_init(struct mutex *m, enum lock_rank rank)
{
	pthread_mutex_init(&m->m, NULL);
	m->rank = (u8)rank;
}

void mutex_fini(struct mutex *m)
{
	pthread_mutex_destroy(&m->m);
}

void mutex_lock(struct mutex *m)
{
	note_order(m, m->rank, false);
	pthread_mutex_lock(&m->m);
	note_push(m, m->rank);
}

void mutex_lock_nested(struct mutex *m)
{
	note_order(m, m->rank, true);
	pthread_mutex_lock(&m->m);
	note_push(m, m->rank);
}

bool mutex_trylock(struct mutex *m)
{
	if (pthread_mutex_trylock(&m->m))
		return false;
	note_push(m, m->rank);
	return true;
}

void mutex_unlock(struct mutex *m)
{
	lock_note_release(m);
	pthread_mutex_unlock(&m->m);
}

void rw_init(struct rwlock *l, enum lock_rank rank)
{
	pthread_rwlockattr_t a;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->rw, &a);
	pthread_rwlockattr_destroy(&a);
	l->rank = (u8)rank;
}

void rw_fini(struct rwlock *l)
{
	pthread_rwlock_destroy(&l->rw);
}

void rw_read_lock(struct rwlock *l)
{
	note_order(l, l->rank, false);
	pthread_rwlock_rdlock(&l->rw);
	note_push(l, l->rank);
}

bool rw_read_trylock(struct rwlock *l)
{
	if (pthread_rwlock_tryrdlock(&l->rw))
		return false;
	note_push(l, l->rank);
	return true;
}

void rw_read_unlock(struct rwlock *l)
{
	lock_note_release(l);
	pthread_rwlock_unlock(&l->rw);
}

void rw_write_lock(struct rwlock *l)
{
	note_order(l, l->rank, false);
	pthread_rwlock_wrlock(&l->rw);
	note_push(l, l->rank);
}

void rw_write_lock_nested(struct rwlock *l)
{
	note_order(l, l->rank, true);
	pthread_rwlock_wrlock(&l->rw);
	note_push(l, l->rank);
}

bool rw_write_trylock(struct rwlock *l)
{
	if (pthread_rwlock_trywrlock(&l->rw))
		return false;
	note_push(l, l->rank);
	return true;
}

void rw_write_unlock(struct rwlock *l)
{
	lock_note_release(l);
	pthread_rwlock_unlock(&l->rw);
}

void cond_init(struct cond *c)
{
	atomic_init(&c->calls, 0);
	atomic_init(&c->waiters, 0);
}

void cond_fini(struct cond *c)
{
#ifdef WERUNOS_DEBUG
	if (atomic_load(&c->waiters))
		lock_die("a condition goes for which somebody waits", c, 0);
#else
	(void)c;
#endif
}

/* ms 0: no limit. The mutex counts as held meanwhile: the waiter may take nothing in between anyway. */
static bool wait_for_call(struct cond *c, struct mutex *m, u32 ms)
{
	u32 calls = atomic_load(&c->calls);

	atomic_fetch_add(&c->waiters, 1);
	pthread_mutex_unlock(&m->m);
	os_wait(&c->calls, calls, ms);
	pthread_mutex_lock(&m->m);
	atomic_fetch_sub(&c->waiters, 1);
	return atomic_load(&c->calls) != calls;
}

void cond_wait(struct cond *c, struct mutex *m)
{
	(void)wait_for_call(c, m, 0);
}

bool cond_wait_ms(struct cond *c, struct mutex *m, u32 ms)
{
	return wait_for_call(c, m, MAX(ms, 1u));
}

void cond_signal(struct cond *c)
{
	if (!atomic_load(&c->waiters))
		return;
	atomic_fetch_add(&c->calls, 1);
	os_wake_one(&c->calls);
}

void cond_broadcast(struct cond *c)
{
	if (!atomic_load(&c->waiters))
		return;
	atomic_fetch_add(&c->calls, 1);
	os_wake_all(&c->calls);
}
