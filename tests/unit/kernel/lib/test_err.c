/* Errors keep their sentence, and a volume keeps its first. */
#include "lib/err.h"
#include "lib/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours */
#include <errno.h>
#include <string.h>

static void sentence(void **state)
{
	(void)state;
	assert_int_equal(fail(-EIO, "read of %s", "x"), -EIO);
	assert_string_equal(err_text(), "read of x");
	err_clear();
	assert_string_equal(err_text(), "");
	assert_string_equal(err_name(-ENOSPC), "ENOSPC");
	assert_string_equal(err_name(-99999), "E?");
}

static void first_error_stays(void **state)
{
	struct health_error first, last;
	struct health h;
	char name[200];
	u32 bell;

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	health_init(&h, name);
	assert_int_equal(health_errors(&h, &first, &last), 0);
	assert_int_equal(strlen(h.name), sizeof(h.name) - 1);
	assert_int_equal(health_state(&h), HEALTH_OK);
	bell = h.bell;
	assert_int_equal(corrupt(&h, "inode", 12, "bad %d", 1), -EUCLEAN);
	assert_int_not_equal(h.bell, bell);
	assert_int_equal(corrupt(&h, "a thing with a very long name", 13, "bad %0600d", 2), -EUCLEAN);
	assert_int_equal(health_errors(&h, &first, &last), 2);
	assert_string_equal(first.what, "inode");
	assert_int_equal(first.nr, 12);
	assert_string_equal(first.file, "test_err.c");
	assert_string_equal(first.func, __func__);
	assert_in_range(first.line, 1, last.line - 1);
	assert_string_equal(last.what, "a thing with a very lon");
	assert_int_equal(last.nr, 13);
	assert_in_range(last.time_sec, first.time_sec, os_now().sec);
	assert_non_null(strstr(h.first, "inode 12: bad 1"));
	assert_int_equal(h.corrupt_count, 2);
	assert_int_equal(health_state(&h), HEALTH_CORRUPT);
	health_raise(&h, HEALTH_SHUTDOWN);
	health_raise(&h, HEALTH_ABORTED);
	assert_int_equal(health_state(&h), HEALTH_SHUTDOWN);
	health_fini(&h);
	assert_int_equal(corrupt(NULL, "superblock", 0, "no volume"), -EUCLEAN);
	assert_string_equal(err_text(), "superblock 0: no volume");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(sentence), cmocka_unit_test(first_error_stays) };

	return cmocka_run_group_tests_name("lib/err", tests, NULL, NULL);
}
