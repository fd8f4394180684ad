/* The debug checks see an inversion, a double acquire and a lock not held; in release builds they are off. */
#include "lib/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct mutex low, high;
static struct rwlock rw;

static void inversion(void)
{
	mutex_lock(&high);
	mutex_lock(&low);
}

static void twice(void)
{
	rw_read_lock(&rw);
	rw_read_lock(&rw);
}

static void not_held(void)
{
	lock_assert_held(&low);
}

static void same_rank(void)
{
	struct mutex other;

	mutex_init(&other, RANK_MOUNT);
	mutex_lock(&low);
	mutex_lock(&other);
}

/* The signal that fn ends a child with, 0 for none. */
static int dies_by(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		alarm(1); /* a release build may deadlock here */
		fn();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void inversions_abort(void **state)
{
	(void)state;
#ifndef WERUNOS_DEBUG
	puts("release build: the order is not checked");
	skip();
#endif
	assert_int_equal(dies_by(inversion), SIGABRT);
	assert_int_equal(dies_by(twice), SIGABRT);
	assert_int_equal(dies_by(not_held), SIGABRT);
	assert_int_equal(dies_by(same_rank), SIGABRT);
}

static void good_order_passes(void **state)
{
	(void)state;
	mutex_lock(&low);
	rw_write_lock(&rw);
	mutex_lock(&high);
	lock_assert_held(&low);
	lock_assert_held(&rw);
	mutex_unlock(&low); /* release order is free */
	mutex_unlock(&high);
	rw_write_unlock(&rw);
	assert_true(rw_read_trylock(&rw));
	assert_false(rw_write_trylock(&rw));
	rw_read_unlock(&rw);
}

static void timed_wait_ends(void **state)
{
	struct cond c;

	(void)state;
	cond_init(&c);
	mutex_lock(&low);
	assert_false(cond_wait_ms(&c, &low, 5));
	mutex_unlock(&low);
	cond_fini(&c);
}

/* Tokens go round between threads that wait for them in two conditions: were one call lost, all would stand still. */
#define THREADS 8u
#define ROUNDS  20000u

static struct mutex bowl;
static struct cond full, empty;
static u32 tokens, taken;

static void *take_tokens(void *arg)
{
	mutex_lock(&bowl);
	while (taken < THREADS * ROUNDS) {
		while (!tokens && taken < THREADS * ROUNDS)
			cond_wait(&full, &bowl);
		if (!tokens)
			break;
		tokens--;
		if (++taken % 7 && taken < THREADS * ROUNDS) {
			cond_signal(&empty);
		} else {
			cond_broadcast(&empty);
			cond_broadcast(&full);
		}
	}
	mutex_unlock(&bowl);
	return arg;
}

static void *put_tokens(void *arg)
{
	for (u32 i = 0; i < 2 * ROUNDS; i++) {
		mutex_lock(&bowl);
		while (tokens > 1)
			cond_wait(&empty, &bowl);
		tokens++;
		mutex_unlock(&bowl);
		/* As well without the mutex. */
		cond_signal(&full);
	}
	return arg;
}

static void no_call_is_lost(void **state)
{
	pthread_t thread[THREADS + THREADS / 2];

	(void)state;
	mutex_init(&bowl, RANK_LEAF);
	cond_init(&full);
	cond_init(&empty);
	alarm(60);
	for (u32 i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, i < THREADS ? take_tokens : put_tokens, NULL), 0);
	for (u32 i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	alarm(0);
	assert_int_equal(taken, THREADS * ROUNDS);
	assert_int_equal(tokens, 0);
	cond_fini(&empty);
	cond_fini(&full);
	mutex_fini(&bowl);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(inversions_abort),
					    cmocka_unit_test(good_order_passes),
					    cmocka_unit_test(timed_wait_ends),
					    cmocka_unit_test(no_call_is_lost) };

	mutex_init(&low, RANK_MOUNT);
	rw_init(&rw, RANK_MAP);
	mutex_init(&high, RANK_LEAF);
	return cmocka_run_group_tests_name("lib/lock", tests, NULL, NULL);
}
