/* ACLs: the system calls' form there and back, what is refused, what a mode can say alone. */
#include "memmount.h"

#include "lib/disk.h"
#include <errno.h>
#include <string.h>

static void there_and_back(void **state)
{
	static const struct acl_entry e[] = { { ACL_USER_OBJ, 7, 0 },  { ACL_USER, 5, 1000 },
					      { ACL_GROUP_OBJ, 5, 0 }, { ACL_GROUP, 4, 50 },
					      { ACL_MASK, 5, 0 },      { ACL_OTHER, 0, 0 } };
	struct acl *acl = acl_new(ARRAY_SIZE(e)), *back;
	u8 buf[100];
	u32 len, mode = S_IFREG;

	(void)state;
	memcpy(acl->e, e, sizeof(e));
	assert_int_equal(acl_check(acl), 0);
	assert_int_equal(acl_to_xattr(acl, NULL, 0, &len), 0);
	assert_int_equal(len, 4 + 6 * 8);
	assert_int_equal(acl_to_xattr(acl, buf, len - 1, &len), -ERANGE);
	assert_int_equal(acl_to_xattr(acl, buf, sizeof(buf), &len), 0);
	assert_int_equal(acl_from_xattr(buf, len, &back), 0);
	assert_int_equal(back->count, acl->count);
	assert_int_equal(back->e[1].id, 1000);
	assert_false(acl_to_mode(back, &mode));
	assert_int_equal(mode, S_IFREG | 0750);
	acl_free(back);
	assert_int_equal(acl_from_xattr(buf, len - 1, &back), -EINVAL);
	buf[0] = 9;
	assert_int_equal(acl_from_xattr(buf, len, &back), -EOPNOTSUPP);
	acl_free(acl);
}

static void refused(void **state)
{
	static const struct {
		u32 count;
		struct acl_entry e[4];
	} bad[] = {
		{ 2, { { ACL_USER_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 4,
		  { { ACL_USER_OBJ, 7, 0 },
		    { ACL_USER_OBJ, 7, 0 },
		    { ACL_GROUP_OBJ, 7, 0 },
		    { ACL_OTHER, 7, 0 } } },
		{ 4,
		  { { ACL_USER_OBJ, 7, 0 },
		    { ACL_USER, 7, 5 },
		    { ACL_GROUP_OBJ, 7, 0 },
		    { ACL_OTHER, 7, 0 } } },
		{ 3, { { ACL_GROUP_OBJ, 7, 0 }, { ACL_USER_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 3, { { ACL_USER_OBJ, 8, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 } } },
		{ 4,
		  { { ACL_USER_OBJ, 7, 0 }, { ACL_GROUP_OBJ, 7, 0 }, { ACL_OTHER, 7, 0 }, { 0x40, 7, 0 } } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct acl *acl = acl_new(bad[i].count);

		memcpy(acl->e, bad[i].e, bad[i].count * sizeof(bad[i].e[0]));
		assert_int_equal(acl_check(acl), -EINVAL);
		acl_free(acl);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(there_and_back), cmocka_unit_test(refused) };

	return cmocka_run_group_tests_name("vfs/acl", tests, NULL, NULL);
}
