/* The set against an array of bools. */
#include "seen.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#define NUMBERS 500u

static void as_a_set(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();
	bool in[NUMBERS] = { false };
	struct seen s = { 0 };
	u32 count = 0;

	(void)state;
	print_message("seed %u\n", seed);
	srand(seed);
	assert_false(seen_has(&s, 1));
	seen_del(&s, 1);
	for (u32 i = 0; i < 200000; i++) {
		/* Now it grows, now it shrinks. */
		bool add = (u32)rand() % 100 < (i / 5000 % 2 ? 30u : 70u);
		u32 n = (u32)rand() % NUMBERS;

		if (add) {
			assert_int_equal(seen_add(&s, n + 1), in[n] ? -EEXIST : 0);
			count += !in[n];
		} else {
			seen_del(&s, n + 1);
			count -= in[n];
		}
		in[n] = add;
		assert_int_equal(s.count, count);
		n = (u32)rand() % NUMBERS;
		assert_int_equal(seen_has(&s, n + 1), in[n]);
	}
	for (u32 n = 0; n < NUMBERS; n++)
		assert_int_equal(seen_has(&s, n + 1), in[n]);
	seen_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(as_a_set) };

	return cmocka_run_group_tests_name("host/seen", tests, NULL, NULL);
}
