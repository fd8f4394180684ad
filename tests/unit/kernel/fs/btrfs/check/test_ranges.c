/* Ranges and records of a check: against an array of bytes, and against numbers that are known. */
#include "btrfs/check/check.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */

#include <stdlib.h>

#define BYTES 4096u

static void test_covered(void **state)
{
	struct ck_ranges r = { 0 };
	static u8 has[BYTES];
	u64 at = 0;

	(void)state;
	while (at < BYTES - 64) {
		u64 from = at + (u64)rand() % 20, to = from + 1 + (u64)rand() % 40;

		assert_int_equal(btrfs_ck_range_add(&r, from, to), 0);
		memset(has + from, 1, to - from);
		at = to;
	}
	for (u32 i = 0; i < 5000; i++) {
		u64 from = (u64)rand() % BYTES, to = from + (u64)rand() % (BYTES - from + 1), want = 0;

		for (u64 b = from; b < to; b++)
			want += has[b];
		assert_int_equal(btrfs_ck_range_covered(&r, from, to), want);
	}
	for (u64 i = 1; i < r.count; i++)
		assert_true(r.at[i - 1].to < r.at[i].from);
	btrfs_ck_ranges_free(&r);
}

static void test_sort_and_differ(void **state)
{
	struct ck_ranges a = { 0 }, b = { 0 };

	(void)state;
	assert_int_equal(btrfs_ck_range_add(&a, 100, 200), 0);
	assert_int_equal(btrfs_ck_range_add(&a, 10, 20), 0);
	assert_int_equal(btrfs_ck_range_add(&a, 15, 30), 0);
	assert_int_equal(btrfs_ck_range_add(&a, 200, 210), 0);
	btrfs_ck_range_sort(&a);
	assert_int_equal(a.count, 2);
	assert_int_equal(btrfs_ck_range_add(&b, 10, 30), 0);
	assert_int_equal(btrfs_ck_range_differ(&a, &b), 100);
	assert_int_equal(btrfs_ck_range_add(&b, 100, 210), 0);
	assert_true(btrfs_ck_range_differ(&a, &b) == ~0ull);
	b.at[1].to = 209;
	assert_int_equal(btrfs_ck_range_differ(&a, &b), 209);
	btrfs_ck_ranges_free(&a);
	btrfs_ck_ranges_free(&b);
}

static void test_table(void **state)
{
	struct ck_table t = { .rec_bytes = sizeof(struct ck_dir) };
	const struct ck_dir *d;
	u64 n = 0, sum = 0;

	(void)state;
	assert_null(btrfs_ck_find(&t, 7));
	for (u64 i = 1; i <= 20000; i++) {
		struct ck_dir *new = btrfs_ck_add(&t, i * 4096);

		assert_int_equal(new->parent, 0);
		new->parent = i;
	}
	for (u64 i = 1; i <= 20000; i++) {
		d = btrfs_ck_find(&t, i * 4096);
		assert_int_equal(d->parent, i);
		assert_null(btrfs_ck_find(&t, i * 4096 + 1));
	}
	for (u64 at = 0; (d = btrfs_ck_each(&t, &at)); n++)
		sum += d->parent;
	assert_int_equal(n, 20000);
	assert_int_equal(sum, 20000ull * 20001 / 2);
	btrfs_ck_table_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_covered),
		cmocka_unit_test(test_sort_and_differ),
		cmocka_unit_test(test_table),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
