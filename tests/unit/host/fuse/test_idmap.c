/* Identity: pairs both ways, what has no partner, squash, masks, ids inside ACLs. */
#include "fuse/idmap.h"

#include "lib/disk.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>

static void nothing_is_changed_by_default(void **state)
{
	struct id_side s = { 0 };
	u32 disk;

	(void)state;
	assert_false(id_is_mapped(&s));
	assert_int_equal(id_show(&s, 1234), 1234);
	assert_true(id_store(&s, 1234, &disk));
	assert_int_equal(disk, 1234);
}

static void pairs_work_both_ways(void **state)
{
	struct id_side s = { 0 };
	u32 disk;

	(void)state;
	assert_int_equal(id_pair_add(&s, 0, 1000), 0);
	assert_int_equal(id_pair_add(&s, 33, 0), 0);
	assert_int_equal(id_pair_add(&s, 0, 5), -EEXIST);
	assert_int_equal(id_pair_add(&s, 5, 1000), -EEXIST);
	assert_int_equal(id_show(&s, 0), 1000);
	assert_int_equal(id_show(&s, 33), 0);
	assert_int_equal(id_show(&s, 1000), ID_OVERFLOW);
	assert_true(id_store(&s, 1000, &disk));
	assert_int_equal(disk, 0);
	assert_true(id_store(&s, 0, &disk));
	assert_int_equal(disk, 33);
	assert_false(id_store(&s, 5, &disk));
	assert_false(id_store(&s, ID_OVERFLOW, &disk));
	for (u32 i = s.count; i < ID_PAIRS; i++)
		assert_int_equal(id_pair_add(&s, 100000 + i, 200000 + i), 0);
	assert_int_equal(id_pair_add(&s, 1, 1), -E2BIG);
}

static void what_is_shown_already_is_kept(void **state)
{
	struct id_side s = { 0 }, squash = { .squash = true, .shown = 7 };
	u32 disk;

	(void)state;
	assert_int_equal(id_pair_add(&s, 0, 1000), 0);
	assert_true(id_change(&s, 44, ID_OVERFLOW, &disk));
	assert_int_equal(disk, 44);
	assert_true(id_change(&s, 44, 1000, &disk));
	assert_int_equal(disk, 0);
	assert_false(id_change(&s, 44, 1001, &disk));
	assert_false(id_change(&s, 0, ID_OVERFLOW, &disk));
	assert_int_equal(id_pair_add(&squash, 10, 7), 0);
	assert_int_equal(id_show(&squash, 10), 7);
	assert_int_equal(id_show(&squash, 11), 7);
	/* Squashed: still its own on the disk. */
	assert_true(id_change(&squash, 11, 7, &disk));
	assert_int_equal(disk, 11);
	assert_true(id_store(&squash, 7, &disk));
	assert_int_equal(disk, 10);
}

static void masks_take_bits_away(void **state)
{
	const struct idmap m = { .fmask = 0137, .dmask = 022 };

	(void)state;
	assert_int_equal(mode_show(&m, S_IFREG | 04777), S_IFREG | 04640);
	assert_int_equal(mode_show(&m, S_IFDIR | 01777), S_IFDIR | 01755);
	assert_int_equal(mode_show(&m, S_IFLNK | 0777), S_IFLNK | 0777);
}

struct xattr_acl {
	le32 version;
	struct {
		le16 tag, perm;
		le32 id;
	} e[4];
};

static struct xattr_acl sample(void)
{
	struct xattr_acl a = { .version = le32_put(2) };

	a.e[0].tag = le16_put(1); /* the owner: no id */
	a.e[0].id = le32_put(~0u);
	a.e[1].tag = le16_put(2); /* a user */
	a.e[1].id = le32_put(500);
	a.e[2].tag = le16_put(8); /* a group */
	a.e[2].id = le32_put(500);
	a.e[3].tag = le16_put(2);
	a.e[3].id = le32_put(501);
	return a;
}

static void acls_are_translated(void **state)
{
	struct idmap m = { .fmask = 0 };
	struct xattr_acl a = sample();

	(void)state;
	assert_int_equal(id_pair_add(&m.uid, 500, 1000), 0);
	acl_show(&m, &a, sizeof(a));
	assert_int_equal(le32_get(a.e[0].id), ~0u);
	assert_int_equal(le32_get(a.e[1].id), 1000);
	assert_int_equal(le32_get(a.e[2].id), 500);
	assert_int_equal(le32_get(a.e[3].id), ID_OVERFLOW);
	assert_int_equal(acl_store(&m, &a, sizeof(a)), -EOVERFLOW);
	a.e[3].id = le32_put(1000);
	a.e[1].id = le32_put(1000);
	assert_int_equal(acl_store(&m, &a, sizeof(a)), 0);
	assert_int_equal(le32_get(a.e[1].id), 500);
	assert_int_equal(le32_get(a.e[3].id), 500);
}

static void what_is_no_acl_stays(void **state)
{
	struct idmap m = { .fmask = 0 };
	struct xattr_acl a = sample(), b = sample();

	(void)state;
	assert_int_equal(id_pair_add(&m.uid, 500, 1000), 0);
	for (u32 len = 0; len < sizeof(a); len++) {
		if (len >= 4 && (len - 4) % 8 == 0)
			continue;
		assert_int_equal(acl_store(&m, &a, len), 0);
		assert_memory_equal(&a, &b, sizeof(a));
	}
	a.version = b.version = le32_put(3);
	assert_int_equal(acl_store(&m, &a, sizeof(a)), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_changed_by_default), cmocka_unit_test(pairs_work_both_ways),
		cmocka_unit_test(what_is_shown_already_is_kept), cmocka_unit_test(masks_take_bits_away),
		cmocka_unit_test(acls_are_translated),           cmocka_unit_test(what_is_no_acl_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
