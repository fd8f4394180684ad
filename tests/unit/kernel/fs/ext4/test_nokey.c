/* Encrypted names as they are shown: every length there and back, the kernel's alphabet, and what is no such name. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void there_and_back(void **state)
{
	const struct ext4_hash hash = { 0x12345678, 0x9abcdef0 };
	char name[EXT4_NAME_MAX], shown[EXT4_NAME_MAX];

	(void)state;
	for (u32 len = 1; len <= EXT4_NAME_MAX; len++) {
		struct ext4_nokey n;
		struct name as_shown = { shown, 0 };

		for (u32 i = 0; i < len; i++)
			name[i] = (char)(i * 37 + len);
		as_shown.len = ext4_nokey_name(&hash, name, len, shown);
		assert_true(as_shown.len <= EXT4_NAME_MAX);
		assert_null(memchr(shown, '/', as_shown.len));
		assert_true(ext4_nokey_parse(&as_shown, &n));
		assert_int_equal(n.hash.hash, hash.hash);
		assert_int_equal(n.hash.minor, hash.minor);
		assert_true(ext4_nokey_is(&n, name, len));
		name[len - 1] ^= 1;
		assert_false(ext4_nokey_is(&n, name, len));
		name[len - 1] ^= 1;
		assert_false(ext4_nokey_is(&n, name, len - 1));
	}
}

/* As Linux shows it: the hash, then the bytes, base64url without padding. */
static void known(void **state)
{
	const struct ext4_hash hash = { 0xd925c386, 0xa9d8f092 };
	char shown[EXT4_NAME_MAX];
	u32 len = ext4_nokey_name(&hash, "short", 5, shown);

	(void)state;
	assert_int_equal(len, 18);
	assert_memory_equal(shown, "hsMl2ZLw2KlzaG9ydA", 18);
}

static void none(void **state)
{
	static const char *const c[] = { "",
					 "a",
					 "AAAAAAAAAAA",
					 "hsMl2ZLw2KlzaG9yd",
					 "hsMl2ZLw2KlzaG9ydB",
					 "hsMl2ZLw2Klz+G9ydA",
					 "hsMl2ZLw2KlzaG9ydA==",
					 "name.txt" };
	struct ext4_nokey n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		assert_false(ext4_nokey_parse(&NAME(c[i]), &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(there_and_back), cmocka_unit_test(known),
					    cmocka_unit_test(none) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
