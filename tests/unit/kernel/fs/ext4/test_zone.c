/* A zone that grows block by block is what an array of flags is. */
#include "volume.h"

#define BLOCKS 400u

static bool flag[BLOCKS + 1];

static void compare(const struct ext4_zone *z)
{
	for (u32 i = 0; i < z->count; i++) {
		assert_true(z->range[i].start < z->range[i].end);
		/* Joined: there is a gap before each. */
		assert_true(!i || z->range[i - 1].end < z->range[i].start);
	}
	for (u32 blk = 0; blk < BLOCKS; blk++) {
		u32 gap = blk, n = 0, len = rnd(BLOCKS - blk) + 1;
		u64 end, at = ext4_zone_gap(z, blk, &end);

		while (flag[gap])
			gap++;
		assert_int_equal(at, gap);
		while (gap < BLOCKS && !flag[gap])
			gap++;
		assert_int_equal(end, gap == BLOCKS ? ~0ull : gap);
		for (u32 i = blk; i < blk + len; i++)
			n += flag[i];
		assert_int_equal(ext4_zone_count(z, blk, blk + len), n);
		assert_int_equal(ext4_zone_meets(z, blk, len), n > 0);
	}
}

static void test_insert(void **state)
{
	(void)state;
	rnd_seed();
	for (u32 round = 0; round < 60; round++) {
		struct ext4_zone z = { 0 };
		u32 most = 1 + rnd(20);

		memset(flag, 0, sizeof(flag));
		compare(&z);
		for (u32 n = 0; n < 60; n++) {
			u32 len = 1 + rnd(most), start = rnd(BLOCKS - len);

			assert_int_equal(ext4_zone_insert(&z, start, len), 0);
			memset(flag + start, true, len);
			if (n % 8 == 0)
				compare(&z);
		}
		compare(&z);
		ext4_zone_free(&z);
	}
}

/* Whole units, of what lay in any of their blocks. */
static void test_round(void **state)
{
	(void)state;
	for (u32 round = 0; round < 60; round++) {
		u32 bits = rnd(5), unit = 1u << bits;
		struct ext4_zone z = { 0 }, other = { 0 };

		memset(flag, 0, sizeof(flag));
		for (u32 n = 0; n < 12; n++) {
			u32 len = 1 + rnd(9), start = rnd(BLOCKS - len);

			assert_int_equal(ext4_zone_insert(&z, start, len), 0);
			for (u32 blk = start & ~(unit - 1); blk < ((start + len - 1) | (unit - 1)) + 1; blk++)
				flag[blk] = true;
		}
		assert_int_equal(ext4_zone_clusters(&z, bits, &other), 0);
		compare(&other);
		ext4_zone_free(&other);
		assert_int_equal(ext4_zone_round(&z, bits), 0);
		compare(&z);
		ext4_zone_free(&z);
	}
}

/* Added in any order and sealed, or inserted: the same. */
static void test_both_ways(void **state)
{
	struct ext4_zone a = { 0 }, b = { 0 };

	(void)state;
	rnd_seed();
	for (u32 n = 0; n < 200; n++) {
		u64 start = rnd(5000), len = 1 + rnd(9);

		assert_int_equal(ext4_zone_add(&a, start, len), 0);
		assert_int_equal(ext4_zone_insert(&b, start, len), 0);
	}
	ext4_zone_seal(&a);
	assert_int_equal(a.count, b.count);
	assert_memory_equal(a.range, b.range, a.count * sizeof(*a.range));
	ext4_zone_free(&a);
	ext4_zone_free(&b);
}

/* Whole zones, and one of nothing, of which there may be no memory at all. */
static void test_append(void **state)
{
	struct ext4_zone z = { 0 }, more = { 0 };

	(void)state;
	assert_int_equal(ext4_zone_add(&z, 10, 5), 0);
	assert_true(ext4_zone_append(&z, &more));
	assert_int_equal(z.count, 1);
	assert_int_equal(ext4_zone_add(&more, 30, 2), 0);
	assert_int_equal(ext4_zone_room(&z, 1), 0);
	assert_true(ext4_zone_append(&z, &more));
	assert_int_equal(z.count, 2);
	assert_int_equal(ext4_zone_count(&z, 0, BLOCKS), 7);
	ext4_zone_free(&z);
	ext4_zone_free(&more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_insert),
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_append),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
