/* The debug checks see an inversion, a double acquire and a lock not held; in release builds they are off. */
#include "lib/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(inversions_abort),
					    cmocka_unit_test(good_order_passes),
					    cmocka_unit_test(timed_wait_ends) };

	mutex_init(&low, RANK_MOUNT);
	rw_init(&rw, RANK_MAP);
	mutex_init(&high, RANK_LEAF);
	return cmocka_run_group_tests_name("lib/lock", tests, NULL, NULL);
}
