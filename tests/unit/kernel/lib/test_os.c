/* A thread may run where the program may. */
#include "lib/os.h"
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <unistd.h>

static _Atomic bool started;
static u32 cpus_seen;

static void *count_cpus(void *arg)
{
	cpu_set_t cpus;

	(void)arg;
	while (!started)
		usleep(100);
	if (!sched_getaffinity(0, sizeof(cpus), &cpus))
		cpus_seen = (u32)CPU_COUNT(&cpus);
	return NULL;
}

/* Starts a thread while it is bound to the CPU it is on. */
static void *bound(void *arg)
{
	pthread_t *child = arg;
	cpu_set_t one;
	int err;

	CPU_ZERO(&one);
	CPU_SET((u32)sched_getcpu(), &one);
	err = sched_setaffinity(0, sizeof(one), &one);
	if (!err)
		err = os_thread(child, "t", count_cpus, NULL);
	started = true;
	return err ? child : NULL;
}

static void not_bound_like_its_maker(void **state)
{
	pthread_t maker, child;
	cpu_set_t all;
	void *bad;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	if (CPU_COUNT(&all) < 2)
		skip();
	assert_int_equal(os_thread(&maker, "m", bound, &child), 0);
	pthread_join(maker, &bad);
	assert_null(bad);
	pthread_join(child, NULL);
	assert_int_equal(cpus_seen, CPU_COUNT(&all));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(not_bound_like_its_maker) };

	return cmocka_run_group_tests_name("lib/os", tests, NULL, NULL);
}
