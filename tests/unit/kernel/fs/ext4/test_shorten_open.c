/* A volume is opened for a part of its way only as that part may find it; of errors the first is told. */
#include "shortvol.h"

#include <errno.h>

static const struct mount_opts opts;

/* Its journal has to be applied first. */
static void test_not_clean(void **state)
{
	struct ext4_super *es;

	(void)state;
	vol_make(SHORT_ARGS, SHORT_MIB, NULL);
	vol_dev_open();
	assert_int_equal(ext4_short_open(&ext4_fs_type, vol_dev, &opts, &es), 0);
	assert_true(es->vfs.rdonly);
	assert_int_equal(vfs_unmount(&es->vfs), 0);
	vol_dev_close();
	run("debugfs -w -R 'feature needs_recovery' %s/img >/dev/null 2>&1", vol_dir);
	vol_dev_open();
	assert_int_equal(ext4_short_open(&ext4_fs_type, vol_dev, &opts, &es), -EIO);
	assert_non_null(strstr(err_text(), "could not be emptied"));
	vol_dev_close();
	vol_remove();
}

static void test_not_writable(void **state)
{
	struct ext4_super *es;
	char path[128];

	(void)state;
	vol_make(SHORT_ARGS, SHORT_MIB, NULL);
	snprintf(path, sizeof(path), "%s/img", vol_dir);
	assert_int_equal(dev_file_open(path, DEV_BUFFERED, &vol_dev), 0);
	assert_int_equal(ext4_short_open_written(&ext4_fs_type, vol_dev, &opts, &es), -EROFS);
	assert_non_null(strstr(err_text(), "cannot be changed"));
	vol_dev_close();
	vol_remove();
}

static void test_first_error(void **state)
{
	struct ext4_super *es;
	int err;

	(void)state;
	vol_make(SHORT_ARGS, SHORT_MIB, NULL);
	vol_dev_fault(false);
	assert_int_equal(ext4_short_open_written(&ext4_fs_type, vol_dev, &opts, &es), 0);
	dev_fault_nth(vol_dev, FAULT_WRITE, 1, -EIO, true);
	err = (fail)(-ENOSPC, "what was first"); /* not that of cmocka */
	ext4_short_close(es, &err);
	assert_int_equal(err, -ENOSPC);
	assert_non_null(strstr(err_text(), "what was first"));
	vol_dev_close();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_not_clean, vol_clean),
		cmocka_unit_test_teardown(test_not_writable, vol_clean),
		cmocka_unit_test_teardown(test_first_error, vol_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
