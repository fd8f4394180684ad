/* Checksums and hashes of names: published vectors, and what the kernel and mkfs.btrfs wrote. */
#include "fs/btrfs/btrfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define LONG "a_rather_long_name_to_fill_the_item_with_many_names_"

static void hex(const u8 *p, u32 n, char *out)
{
	for (u32 i = 0; i < n; i++)
		sprintf(out + 2 * (size_t)i, "%02x", p[i]);
}

static void known(void **state)
{
	static const struct {
		u32 type, bytes;
		const char *text, *sum; /* as the bytes lie */
	} c[] = {
		{ BTRFS_CSUM_CRC32C, 4, "123456789", "839206e3" },
		{ BTRFS_CSUM_CRC32C, 4, "", "00000000" },
		{ BTRFS_CSUM_XXHASH, 8, "", "99e9d85137db46ef" },
		{ BTRFS_CSUM_XXHASH, 8, "abc", "990977adf52cbc44" },
		{ BTRFS_CSUM_SHA256, 32, "abc",
		  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ BTRFS_CSUM_BLAKE2, 32, "abc",
		  "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319" },
	};
	static const u8 none[BTRFS_CSUM_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		u8 sum[BTRFS_CSUM_BYTES];
		char text[65];

		memset(sum, 0xee, sizeof(sum));
		assert_int_equal(btrfs_csum_bytes(c[i].type), c[i].bytes);
		btrfs_csum(c[i].type, c[i].text, strlen(c[i].text), sum);
		hex(sum, c[i].bytes, text);
		assert_string_equal(text, c[i].sum);
		assert_memory_equal(sum + c[i].bytes, none, sizeof(none) - c[i].bytes);
	}
	assert_int_equal(btrfs_csum_bytes(4), 0);
	assert_int_equal(btrfs_csum_bytes(~0u), 0);
	assert_string_equal(btrfs_csum_name(BTRFS_CSUM_BLAKE2), "blake2b");
	assert_string_equal(btrfs_csum_name(4), "unknown");
}

/* Offsets of keys in a volume of the kernel's. */
static void names(void **state)
{
	(void)state;
	assert_int_equal(btrfs_name_hash("default", 7), 2378154706u);
	assert_int_equal(btrfs_extref_hash(256, LONG "292", strlen(LONG) + 3), 188852384);
	assert_int_equal(btrfs_extref_hash(256, LONG "281", strlen(LONG) + 3), 196330275);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
