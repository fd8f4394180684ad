/* Numbers that were chosen to crowd one place of a table do not. */
#include "lib/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#define SLOTS   1024u
#define NUMBERS 1024u

/* How many of the numbers come to the fullest place. */
static u32 fullest(const u64 *number, u64 (*hash)(u64 x))
{
	u32 at[SLOTS] = { 0 }, most = 0;

	for (u32 i = 0; i < NUMBERS; i++) {
		u32 *n = &at[hash(number[i]) & (SLOTS - 1)];

		most = MAX(most, ++*n);
	}
	return most;
}

static void aimed(void **state)
{
	u64 number[NUMBERS];
	u32 n = 0;

	(void)state;
	for (u64 x = 0; n < NUMBERS; x++)
		if (!(hash_u64(x) & (SLOTS - 1)))
			number[n++] = x;
	assert_int_equal(fullest(number, hash_u64), NUMBERS);
	assert_in_range(fullest(number, hash_number), 1, 20);
}

static void plain(void **state)
{
	u64 number[NUMBERS];

	(void)state;
	for (u32 i = 0; i < NUMBERS; i++)
		number[i] = i;
	assert_in_range(fullest(number, hash_number), 1, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aimed),
		cmocka_unit_test(plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
