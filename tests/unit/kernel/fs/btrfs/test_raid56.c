/* Stripes made from the others: every combination of what can be bad, against arithmetic of the test's own. */
#include "devices.h"

static u8 multiply(u8 a, u8 b)
{
	u8 product = 0;

	for (; b; b >>= 1, a = times_2(a))
		if (b & 1)
			product ^= a;
	return product;
}

/* P and Q of n data stripes of len bytes, one after the other. */
static void parity(u32 n, u8 *const *d, u32 len)
{
	for (u32 i = 0; i < len; i++) {
		u8 p = 0, q = 0, g = 1;

		for (u32 k = 0; k < n; k++, g = times_2(g)) {
			p ^= d[k][i];
			q ^= multiply(g, d[k][i]);
		}
		d[n][i] = p;
		d[n + 1][i] = q;
	}
}

/* Makes stripe `data` with the bad ones unusable, and full of rubbish. */
static int make(u32 n, u32 parities, u32 data, const bool *bad, u8 *const *d, u8 *out, u32 len)
{
	u8 factor[256], *src[256];
	u32 count = 0;
	int err = btrfs_raid56_factors(n, parities, data, bad, factor);

	for (u32 i = 0; i < n + parities && !err; i++) {
		assert_true(!factor[i] || !bad[i]);
		if (!factor[i])
			continue;
		factor[count] = factor[i];
		src[count++] = d[i];
	}
	if (!err)
		btrfs_raid56_combine(count, factor, src, out, len);
	return err;
}

/* Every stripe with every set of at most two others bad besides it. */
static void all_of(u32 n, u32 parities, u32 step, u32 len, u64 *seed)
{
	u32 all = n + parities;
	u8 *d[257], *out = malloc(len);
	bool bad[257] = { 0 };

	for (u32 i = 0; i < n + 2; i++) {
		d[i] = malloc(len);
		fill(d[i], len, seed);
	}
	parity(n, d, len);
	for (u32 data = 0; data < n; data += step)
		for (u32 second = 0; second < all; second += second < n ? step : 1)
			for (u32 third = second; third < all; third += third < n ? step : 1) {
				u32 count;

				memset(bad, 0, sizeof(bad));
				bad[data] = bad[second] = bad[third] = true;
				count = 1u + (second != data) + (third != data && third != second);
				/* A parity that is bad is no loss where it is not needed: only P and one stripe make it with RAID5. */
				if (make(n, parities, data, bad, d, out, len)) {
					assert_true(count > parities);
					continue;
				}
				assert_true(count <= parities);
				assert_memory_equal(out, d[data], len);
			}
	for (u32 i = 0; i < n + 2; i++)
		free(d[i]);
	free(out);
}

static void combinations(void **state)
{
	static const u32 lens[] = { 1, 31, 32, 33, 512, 4099 };
	u64 seed = new_seed();

	(void)state;
	for (u32 n = 1; n <= 9; n++)
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			all_of(n, 1, 1, lens[i], &seed);
			all_of(n, 2, 1, lens[i], &seed);
		}
	all_of(60, 2, 7, 100, &seed);
}

/* P and Q of what they are to belong to. */
static void made(void **state)
{
	static const u32 widths[] = { 1, 2, 3, 7, 60, 253 };
	u8 *d[255], out[300];
	u64 seed = new_seed();

	(void)state;
	for (u32 i = 0; i < 255; i++)
		d[i] = malloc(sizeof(out));
	for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
		u32 n = widths[w];

		for (u32 i = 0; i < n; i++)
			fill(d[i], sizeof(out), &seed);
		parity(n, d, sizeof(out));
		for (u32 q = 0; q < 2; q++) {
			btrfs_raid56_parity(n, q, d, out, sizeof(out));
			assert_memory_equal(out, d[n + q], sizeof(out));
		}
	}
	for (u32 i = 0; i < 255; i++)
		free(d[i]);
}

/* As wide as a chunk may be: 255 stripes. */
static void widest(void **state)
{
	u64 seed = new_seed();

	(void)state;
	all_of(254, 1, 23, 64, &seed);
	all_of(253, 2, 28, 64, &seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(combinations),
		cmocka_unit_test(widest),
		cmocka_unit_test(made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
