/* Known answers: the check values of the CRC catalogue, brought to raw state where our functions keep it. */
#include "lib/crc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>

static void known_answers(void **state)
{
	(void)state;
	assert_int_equal(crc32c(~0u, "123456789", 9) ^ ~0u, 0xe3069283);
	assert_int_equal(crc16(0, "123456789", 9), 0xbb3d);
	assert_int_equal(crc32_be(~0u, "123456789", 9) ^ ~0u, 0xfc891918);
}

static void continues(void **state)
{
	u8 buf[1000];

	(void)state;
	for (u32 i = 0; i < sizeof(buf); i++)
		buf[i] = (u8)(i * 7 + 3);
	for (u32 cut = 0; cut <= sizeof(buf); cut += 37) {
		assert_int_equal(crc32c(crc32c(5, buf, cut), buf + cut, sizeof(buf) - cut),
				 crc32c(5, buf, sizeof(buf)));
		assert_int_equal(crc16(crc16(5, buf, cut), buf + cut, sizeof(buf) - cut),
				 crc16(5, buf, sizeof(buf)));
		assert_int_equal(crc32_be(crc32_be(5, buf, cut), buf + cut, sizeof(buf) - cut),
				 crc32_be(5, buf, sizeof(buf)));
	}
}

static void before_zeros(void **state)
{
	static const u8 zeros[64];
	u32 crc = 1;

	(void)state;
	for (u32 len = 0; len <= sizeof(zeros); len++) {
		crc = crc * 1664525 + 1013904223;
		assert_int_equal(crc32c(crc32c_before_zeros(crc, len), zeros, len), crc);
		assert_int_equal(crc32c_before_zeros(crc32c(crc, zeros, len), len), crc);
	}
}

/* Four bytes after some others that make the crc whatever is wanted. */
static void any_crc_in_four_bytes(void **state)
{
	const u32 start = crc32c(~0u, "123456789", 9), want = 0xdeadbeef,
		  x = start ^ crc32c_before_zeros(want, 4);
	const u8 bytes[] = { (u8)x, (u8)(x >> 8), (u8)(x >> 16), (u8)(x >> 24) };

	(void)state;
	assert_int_equal(crc32c(start, bytes, sizeof(bytes)), want);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(known_answers), cmocka_unit_test(continues),
					    cmocka_unit_test(before_zeros),
					    cmocka_unit_test(any_crc_in_four_bytes) };

	return cmocka_run_group_tests_name("lib/crc", tests, NULL, NULL);
}
