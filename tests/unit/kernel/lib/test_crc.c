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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(known_answers), cmocka_unit_test(continues) };

	return cmocka_run_group_tests_name("lib/crc", tests, NULL, NULL);
}
