/*
 * Making a stripe of RAID5 or RAID6 from the others. P is the sum of the data stripes D0 … in GF(2^8), and Q the sum of g^i Di with
 * g = 2 (H. Peter Anvin, "The mathematics of RAID-6"). What is made is always a sum of what is there, each times a factor:
 *
 *   one bad           Di = P + the other D
 *   Di and P bad      Di = g^-i (Q + the other g^k Dk)
 *   Di and Dj bad     Di = (g^j (P + the other D) + Q + the other g^k Dk) / (g^i + g^j)
 */
#include "volume.h"

#include <errno.h>
#include <isa-l/erasure_code.h>
#include <stdlib.h>

static u8 power_of_2(u32 n)
{
	u8 x = 1;

	for (n %= 255; n; n--)
		x = gf_mul(x, 2);
	return x;
}

int btrfs_raid56_factors(u32 data_stripes, u32 parity, u32 data, const bool *bad, u8 *factor)
{
	u32 p = data_stripes, q = data_stripes + 1, second = BTRFS_NO_STRIPE, count = 0;
	u8 gi = power_of_2(data), gj, divisor;

	memset(factor, 0, data_stripes + parity);
	for (u32 i = 0; i < data_stripes; i++)
		if (i != data && bad[i]) {
			second = i;
			count++;
		}
	if (!count && !bad[p]) {
		for (u32 i = 0; i <= p; i++)
			factor[i] = i != data;
		return 0;
	}
	if (parity < 2 || bad[q] || count + bad[p] > 1)
		return -EIO;
	if (bad[p]) {
		factor[q] = gf_inv(gi);
		for (u32 i = 0; i < data_stripes; i++)
			factor[i] = i == data ? 0 : gf_mul(factor[q], power_of_2(i));
		return 0;
	}
	gj = power_of_2(second);
	divisor = gf_inv(gi ^ gj);
	factor[p] = gf_mul(gj, divisor);
	factor[q] = divisor;
	for (u32 i = 0; i < data_stripes; i++)
		factor[i] = i == data || i == second ? 0 : gf_mul(gj ^ power_of_2(i), divisor);
	return 0;
}

void btrfs_raid56_combine(u32 n, const u8 *factor, u8 *const *src, u8 *out, u32 len_bytes)
{
	u8 tables[32 * 256], *dst[1] = { out };

	/* The library takes sources and factors as not const, and changes neither. */
	ec_init_tables((int)n, 1, (u8 *)(uintptr_t)factor, tables);
	ec_encode_data((int)len_bytes, (int)n, 1, tables, (u8 **)(uintptr_t)src, dst);
}

void btrfs_raid56_parity(u32 data_stripes, bool q, u8 *const *data, u8 *out, u32 len_bytes)
{
	u8 factor[256];

	for (u32 i = 0; i < data_stripes; i++)
		factor[i] = q ? power_of_2(i) : 1;
	btrfs_raid56_combine(data_stripes, factor, data, out, len_bytes);
}
