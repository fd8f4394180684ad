/* Objects from a slab are each somebody's own, aligned, come again, and go back to the host with the last one. */
#include "lib/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#define OBJECTS 40000u

static void distinct(void **state)
{
	static u32 *obj[OBJECTS];
	struct slab s;

	(void)state;
	slab_init(&s, 192);
	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < OBJECTS; i++) {
			obj[i] = slab_get_zeroed(&s);
			assert_non_null(obj[i]);
			assert_int_equal(obj[i][0] | obj[i][47], 0);
			obj[i][0] = obj[i][47] = i;
		}
		for (u32 i = 0; i < OBJECTS; i++) {
			assert_int_equal(obj[i][0], i);
			assert_int_equal(obj[i][47], i);
		}
		/* Not in their order, and half of them are taken again meanwhile. */
		for (u32 i = 0; i < OBJECTS; i += 2)
			slab_put(&s, obj[i]);
		for (u32 i = 0; i < OBJECTS; i += 2) {
			obj[i] = slab_get_zeroed(&s);
			assert_non_null(obj[i]);
			obj[i][0] = obj[i][47] = i;
		}
		for (u32 i = OBJECTS; i--;) {
			assert_int_equal(obj[i][0], i);
			assert_int_equal(obj[i][47], i);
			slab_put(&s, obj[i]);
		}
		assert_int_equal(s.used, 0);
		assert_int_equal(s.chunks, 0);
	}
	slab_fini(&s);
}

static void aligned(void **state)
{
	(void)state;
	for (u32 bytes = 512; bytes <= 65536; bytes *= 2) {
		void *obj[100];
		struct slab s;

		slab_init(&s, bytes);
		for (u32 i = 0; i < 100; i++) {
			obj[i] = slab_get(&s);
			assert_non_null(obj[i]);
			assert_int_equal((uintptr_t)obj[i] % MIN(bytes, 4096u), 0);
			memset(obj[i], (int)i, bytes);
		}
		for (u32 i = 0; i < 100; i++) {
			assert_int_equal(*(u8 *)obj[i], i);
			assert_int_equal(((u8 *)obj[i])[bytes - 1], i);
			slab_put(&s, obj[i]);
		}
		slab_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(distinct),
		cmocka_unit_test(aligned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
