/* The growable string: growth, names that try to steer a terminal, sizes. */
#include "lib/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

static void grows(void **state)
{
	struct text t = { 0 };

	(void)state;
	assert_string_equal(text_str(&t), "");
	for (int i = 0; i < 1000; i++)
		text_add(&t, "%03d,", i);
	assert_int_equal(t.len_bytes, 4000);
	assert_memory_equal(t.buf + 3996, "999,", 5);
	text_reset(&t);
	assert_string_equal(text_str(&t), "");
	text_free(&t);
}

static void names(void **state)
{
	static const struct {
		const char *in, *out;
	} c[] = {
		{ "plain", "plain" },
		{ "a\\b", "a\\\\b" },
		{ "\x1b[2J", "\\x1b[2J" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "\xc3", "\\xc3" },
		{ "\xc2\x9b", "\\xc2\\x9b" },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" },
		{ "\xc0\xaf", "\\xc0\\xaf" },
		{ "\x7f\n", "\\x7f\\x0a" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		struct text t = { 0 };

		text_add_name(&t, c[i].in, strlen(c[i].in));
		assert_string_equal(text_str(&t), c[i].out);
		text_free(&t);
	}
}

static void sizes(void **state)
{
	static const struct {
		u64 in;
		const char *out;
	} c[] = { { 0, "0 B" },
		  { 1023, "1023 B" },
		  { 1024, "1 KiB" },
		  { 1536, "1.5 KiB" },
		  { ~0ull, "15.9 EiB" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		struct text t = { 0 };

		text_add_size(&t, c[i].in);
		assert_string_equal(text_str(&t), c[i].out);
		text_free(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(grows), cmocka_unit_test(names),
					    cmocka_unit_test(sizes) };

	return cmocka_run_group_tests_name("lib/text", tests, NULL, NULL);
}
