/* Disk integers: byte order, and no alignment. */
#include "lib/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct sample {
	u8 a;
	le32 b;
	be16 c;
};
DISK_SIZE(struct sample, 7);
DISK_FIELD(struct sample, b, 1);

static void byte_order(void **state)
{
	u8 raw[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	assert_int_equal(le16_get(*(le16 *)(raw + 1)), 0x0201);
	assert_int_equal(be16_get(*(be16 *)(raw + 1)), 0x0102);
	assert_int_equal(le32_get(*(le32 *)(raw + 1)), 0x04030201);
	assert_int_equal(be32_get(*(be32 *)(raw + 1)), 0x01020304);
	assert_true(le64_get(*(le64 *)(raw + 1)) == 0x0807060504030201);
	assert_true(be64_get(*(be64 *)(raw + 1)) == 0x0102030405060708);
	assert_int_equal(be32_get(be32_put(0xdeadbeef)), 0xdeadbeef);
	assert_int_equal(le16_put(0x1234).b[0], 0x34);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(byte_order) };

	return cmocka_run_group_tests_name("lib/disk", tests, NULL, NULL);
}
