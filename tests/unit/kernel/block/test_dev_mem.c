/* Memory devices, and windows on them. */
#include "devtest.h"

static void mem_all(void **state)
{
	struct blkdev *dev;

	(void)state;
	assert_int_equal(dev_mem_new("m", DEVTEST_BYTES, 512, &dev), 0);
	devtest_all(dev);
	blkdev_put(dev);
	/* An odd size, any write. */
	assert_int_equal(dev_mem_new("m", 5000001, 1, &dev), 0);
	devtest_all(dev);
	blkdev_put(dev);
	assert_int_equal(dev_mem_new("m", 4096, 100, &dev), -EINVAL);
}

static void mem_is_sparse(void **state)
{
	struct blkdev *dev;
	u8 b[512];

	(void)state;
	assert_int_equal(dev_mem_new("m", 1ull << 44, 512, &dev), 0);
	memset(b, 7, sizeof(b));
	assert_int_equal(blkdev_write(dev, (1ull << 44) - 512, b, 512, 0), 0);
	assert_int_equal(blkdev_read(dev, (1ull << 44) - 512, b, 512), 0);
	assert_int_equal(b[511], 7);
	assert_int_equal(blkdev_read(dev, 1ull << 43, b, 512), 0);
	assert_int_equal(b[0], 0);
	blkdev_put(dev);
}

static void part_all(void **state)
{
	struct blkdev *dev, *part, *inner;
	u8 a[512], b[512];

	(void)state;
	assert_int_equal(dev_mem_new("m", 2 * DEVTEST_BYTES, 512, &dev), 0);
	memset(a, 9, sizeof(a));
	assert_int_equal(blkdev_write(dev, 512 * 99, a, 512, 0), 0);
	assert_int_equal(dev_part_new(dev, "p", 512 * 100, DEVTEST_BYTES, &part), 0);
	assert_int_equal(dev->refs, 2);
	devtest_all(part);
	assert_int_equal(blkdev_read(dev, 512 * 99, b, 512), 0);
	assert_memory_equal(a, b, 512);
	assert_int_equal(dev_part_new(part, "pp", 512, 4096, &inner), 0);
	assert_int_equal(blkdev_write(inner, 1024, a, 512, 0), 0);
	assert_int_equal(blkdev_read(dev, 512 * 103, b, 512), 0);
	assert_memory_equal(a, b, 512);
	blkdev_put(inner);
	assert_int_equal(dev_part_new(dev, "p", 512, 2 * DEVTEST_BYTES, &inner), -ERANGE);
	assert_int_equal(dev_part_new(dev, "p", UINT64_MAX, 512, &inner), -ERANGE);
	assert_int_equal(dev_part_new(dev, "p", 100, 512, &inner), -EINVAL);
	blkdev_put(part);
	assert_int_equal(dev->refs, 1);
	blkdev_put(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mem_all),
		cmocka_unit_test(mem_is_sparse),
		cmocka_unit_test(part_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
