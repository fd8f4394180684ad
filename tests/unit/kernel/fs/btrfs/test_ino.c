/* Inode numbers: the rule there and back, what does not fit, and that numbers stay. */
#include "btrfs/btrfs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */

#include <errno.h>
#include <stdlib.h>

static struct btrfs_root top = { .id = 300 };

static u64 number(struct btrfs_super *bs, u64 root, u64 objectid, u64 absent)
{
	const struct btrfs_place at = { root, objectid, absent };
	struct btrfs_place back;
	u64 ino;

	assert_int_equal(btrfs_ino(bs, &at, &ino), 0);
	assert_int_equal(btrfs_ino_split(bs, ino, &back), 0);
	assert_int_equal(back.root, root);
	assert_int_equal(back.objectid, objectid);
	assert_int_equal(back.absent, absent);
	return ino;
}

static struct btrfs_super *setup_super(void)
{
	struct btrfs_super *bs = calloc(1, sizeof(*bs));

	bs->top = &top;
	assert_int_equal(btrfs_inos_new(&bs->inos), 0);
	return bs;
}

static void drop(struct btrfs_super *bs)
{
	btrfs_inos_free(bs->inos);
	free(bs);
}

static void rule(void **state)
{
	struct btrfs_super *bs = setup_super();
	u64 big = 1ull << 40, first;

	(void)state;
	assert_int_equal(number(bs, 300, 256, 0), 256);
	assert_int_equal(number(bs, 300, big - 1, 0), big - 1);
	assert_int_equal(number(bs, 5, 256, 0), 5 * big + 256);
	assert_int_equal(number(bs, (1 << 23) - 1, big - 1, 0), ~0ull >> 1);
	first = number(bs, 300, big, 0);
	assert_true(first >> 63);
	assert_int_equal(number(bs, 1 << 23, 256, 0), first + 1);
	assert_int_equal(number(bs, 5, 256, 7), first + 2);
	assert_int_equal(number(bs, 5, 256, 8), first + 3);
	assert_int_equal(number(bs, 300, big, 0), first);
	drop(bs);
}

static void never_given(void **state)
{
	struct btrfs_super *bs = setup_super();
	struct btrfs_place at;

	(void)state;
	assert_int_equal(btrfs_ino_split(bs, 1ull << 63, &at), -ESTALE);
	/* The shown subvolume's inodes have one number each. */
	assert_int_equal(btrfs_ino_split(bs, (300ull << 40) + 256, &at), -ESTALE);
	drop(bs);
}

static void many(void **state)
{
	struct btrfs_super *bs = setup_super();
	u64 first = number(bs, 5, 1ull << 50, 0);

	(void)state;
	for (u64 i = 1; i < 5000; i++)
		assert_int_equal(number(bs, 5 + i % 3, (1ull << 50) + i, i % 2), first + i);
	for (u64 i = 1; i < 5000; i++)
		assert_int_equal(number(bs, 5 + i % 3, (1ull << 50) + i, i % 2), first + i);
	drop(bs);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(rule), cmocka_unit_test(never_given),
					    cmocka_unit_test(many) };

	return cmocka_run_group_tests_name("btrfs/ino", tests, NULL, NULL);
}
