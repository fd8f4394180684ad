/* Hashes of names: values that debugfs's dx_hash gives; folding of names without regard to case. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>

#define LONG "a_rather_long_name_that_needs_more_than_32_bytes"
#define WIDE "gr\xc3\xbc\xc3\x9f\x65"

static void known(void **state)
{
	static const struct {
		u32 version;
		const char *name;
		u32 hash, minor;
	} c[] = {
		{ EXT4_HASH_LEGACY, "hello", 0x32252546, 0 },
		{ EXT4_HASH_LEGACY, LONG, 0x67137344, 0 },
		{ EXT4_HASH_LEGACY, WIDE, 0xcc69faba, 0 },
		{ EXT4_HASH_HALF_MD4, "hello", 0x1746da32, 0x420013b5 },
		{ EXT4_HASH_HALF_MD4, LONG, 0x49925342, 0x0bf383ad },
		{ EXT4_HASH_HALF_MD4, WIDE, 0xd75e0ad8, 0xfefc474e },
		{ EXT4_HASH_HALF_MD4_UNSIGNED, "hello", 0x1746da32, 0x420013b5 },
		{ EXT4_HASH_TEA, "hello", 0x6f5bb1a8, 0x231917c2 },
		{ EXT4_HASH_TEA, LONG, 0xf08680ce, 0x17edaf5d },
		{ EXT4_HASH_TEA, WIDE, 0xc271df04, 0x8fb097d8 },
	};
	struct ext4_super es = { 0 };
	struct ext4_hash h;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		assert_int_equal(ext4_name_hash(&es, c[i].version, c[i].name, (u32)strlen(c[i].name), &h), 0);
		assert_int_equal(h.hash, c[i].hash);
		assert_int_equal(h.minor, c[i].minor);
	}
}

static void seeded(void **state)
{
	static const u8 uuid[16] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
				     0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00 };
	struct ext4_super es = { 0 };
	struct ext4_hash h;

	(void)state;
	memcpy(es.hash_seed, uuid, sizeof(uuid));
	assert_int_equal(ext4_name_hash(&es, EXT4_HASH_HALF_MD4, "hello", 5, &h), 0);
	assert_int_equal(h.hash, 0x6a6d483e);
	assert_int_equal(h.minor, 0x029b44a0);
}

static void signs_differ(void **state)
{
	struct ext4_super es = { 0 };
	struct ext4_hash s, u;

	(void)state;
	for (u32 v = EXT4_HASH_LEGACY; v <= EXT4_HASH_TEA; v++) {
		assert_int_equal(ext4_name_hash(&es, v, WIDE, 7, &s), 0);
		assert_int_equal(ext4_name_hash(&es, v + EXT4_HASH_LEGACY_UNSIGNED, WIDE, 7, &u), 0);
		assert_int_not_equal(s.hash, u.hash);
	}
	assert_int_equal(ext4_name_hash(&es, EXT4_HASH_SIPHASH, WIDE, 7, &s), -EOPNOTSUPP);
}

static void folds(void **state)
{
	static const struct {
		const char *a, *b;
		bool same;
	} c[] = {
		{ "ReadMe.TXT", "README.txt", true },
		{ "GR\xc3\x9cSSE", "gr\xc3\xbc\xc3\x9f\x65", true },
		{ "e\xcc\x81", "\xc3\xa9", true }, /* decomposed, composed */
		{ "a\xc2\xad\x62", "ab", true },   /* a soft hyphen is ignored */
		{ "\xe2\x84\xaa", "k", true },     /* the Kelvin sign */
		{ "a", "b", false },
		{ "e", "\xc3\xa9", false },
	};
	char x[EXT4_FOLD_MAX], y[EXT4_FOLD_MAX];
	u32 nx, ny;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		assert_true(ext4_casefold(c[i].a, (u32)strlen(c[i].a), x, &nx));
		assert_true(ext4_casefold(c[i].b, (u32)strlen(c[i].b), y, &ny));
		assert_int_equal(nx == ny && !memcmp(x, y, nx), c[i].same);
	}
	assert_false(ext4_casefold("\xff", 1, x, &nx));
	assert_false(ext4_casefold("a\xc3", 2, x, &nx));
}

/* The i-th name of one to three of these. */
static u32 short_name(u32 i, char name[64])
{
	static const char *const unit[] = { "a",        "A",        "k",        "K", "\xe2\x84\xaa",
					    "\xcc\x81", "\xc2\xad", "\xc3\xa9", "e", "\xff" };

	name[0] = 0;
	for (i++; i; i = (i - 1) / ARRAY_SIZE(unit))
		strcat(name, unit[(i - 1) % ARRAY_SIZE(unit)]);
	return (u32)strlen(name);
}

/* What is compared from the end on is the same as what is compared whole, of every two short names. */
static void folds_compare(void **state)
{
	char a[64], b[64], folded[EXT4_FOLD_MAX], own[EXT4_FOLD_MAX];
	const u32 names = 10 + 100 + 1000;
	u32 n, m, same = 0;

	(void)state;
	for (u32 i = 0; i < names; i++) {
		if (!ext4_casefold(a, short_name(i, a), folded, &n))
			continue;
		for (u32 k = 0; k < names; k++) {
			u32 len = short_name(k, b);
			bool is = ext4_casefold(b, len, own, &m) && n == m && !memcmp(folded, own, n);

			assert_int_equal(ext4_casefold_is(b, len, folded, n), is);
			same += is;
		}
	}
	assert_true(same > names);
}

/* The longest names of what grows most stay within the buffer. */
static void folds_long(void **state)
{
	static const char *const unit[] = { "\xce\x90", "\xef\xac\x83", "\xe1\xbe\x82", "\xf0\x9d\x85\xa0" };
	char name[256], out[EXT4_FOLD_MAX];
	u32 len, n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(unit); i++) {
		for (len = 0; len + strlen(unit[i]) <= EXT4_NAME_MAX; len += (u32)strlen(unit[i]))
			memcpy(name + len, unit[i], strlen(unit[i]));
		if (ext4_casefold(name, len, out, &n))
			assert_true(n <= EXT4_FOLD_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known), cmocka_unit_test(seeded),        cmocka_unit_test(signs_differ),
		cmocka_unit_test(folds), cmocka_unit_test(folds_compare), cmocka_unit_test(folds_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
