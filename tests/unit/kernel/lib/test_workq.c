/* The pool runs everything once, in parallel where asked, and drains. */
#include "lib/workq.h"

#include "lib/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <unistd.h>

static _Atomic u32 ran, inside, inside_max;

static void count(struct work *w)
{
	(void)w;
	ran++;
}

static void meet(struct work *w)
{
	u32 now = ++inside, max = inside_max;

	(void)w;
	while (max < now && !atomic_compare_exchange_weak(&inside_max, &max, now))
		;
	for (int i = 0; i < 1000 && inside_max < 4; i++)
		usleep(1000);
	inside--;
}

static void all_run(void **state)
{
	struct work w[1000];
	struct workq *wq;

	(void)state;
	ran = 0;
	assert_int_equal(workq_new("t", 4, &wq), 0);
	for (int i = 0; i < 1000; i++) {
		w[i].fn = count;
		workq_queue(wq, &w[i]);
	}
	workq_drain(wq);
	assert_int_equal(ran, 1000);
	workq_free(wq);
}

static void in_parallel(void **state)
{
	struct work w[4];
	struct workq *wq;

	(void)state;
	assert_int_equal(workq_new("t", 4, &wq), 0);
	for (int i = 0; i < 4; i++) {
		w[i].fn = meet;
		workq_queue(wq, &w[i]);
	}
	workq_free(wq);
	assert_int_equal(inside_max, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_run), cmocka_unit_test(in_parallel) };

	return cmocka_run_group_tests_name("lib/workq", tests, NULL, NULL);
}
