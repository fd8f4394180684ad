/* The device that records, and fails when it is told to. */
#include "devtest.h"

static void like_any_device(void **state)
{
	struct blkdev *mem, *fault;

	for (u32 record = 0; record < 2; record++) {
		assert_int_equal(dev_mem_new("m", DEVTEST_BYTES, 512, &mem), 0);
		assert_int_equal(dev_fault_new(mem, record, &fault), 0);
		devtest_all(fault);
		assert_int_equal(dev_fault_records(fault) > 0, record);
		blkdev_put(fault);
		assert_int_equal(mem->refs, 1);
		blkdev_put(mem);
	}
	(void)state;
}

static void what_is_recorded(void **state)
{
	struct blkdev *mem, *fault;
	struct fault_record r;
	u8 b[1024];

	(void)state;
	assert_int_equal(dev_mem_new("m", 65536, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, true, &fault), 0);
	memset(b, 1, sizeof(b));
	assert_int_equal(blkdev_write(fault, 512, b, 1024, 0), 0);
	memset(b, 2, sizeof(b));
	assert_int_equal(blkdev_flush(fault), 0);
	assert_int_equal(blkdev_write(fault, 2048, b, 512, BIO_FUA), 0);
	assert_int_equal(blkdev_discard(fault, 4096, 8192), 0);
	assert_int_equal(blkdev_read(fault, 0, b, 512), 0);
	assert_int_equal(blkdev_zero(fault, 512, 512), 0);
	/* Refused before it got there. */
	assert_int_equal(blkdev_write(fault, 65536, b, 512, 0), -EIO);
	assert_int_equal(dev_fault_records(fault), 5);
	assert_int_equal(dev_fault_record(fault, 0, &r), 0);
	assert_int_equal(r.op, FAULT_WRITE);
	assert_int_equal(r.off_bytes, 512);
	assert_int_equal(r.len_bytes, 1024);
	assert_int_equal(r.flags, 0);
	assert_int_equal(((const u8 *)r.data)[1023], 1);
	assert_int_equal(dev_fault_record(fault, 1, &r), 0);
	assert_int_equal(r.op, FAULT_FLUSH);
	assert_null(r.data);
	assert_int_equal(dev_fault_record(fault, 2, &r), 0);
	assert_int_equal(r.flags, BIO_FUA);
	assert_int_equal(((const u8 *)r.data)[0], 2);
	assert_int_equal(dev_fault_record(fault, 3, &r), 0);
	assert_int_equal(r.op, FAULT_DISCARD);
	assert_int_equal(r.len_bytes, 8192);
	assert_int_equal(dev_fault_record(fault, 4, &r), 0);
	assert_int_equal(r.op, FAULT_WRITE);
	assert_int_equal(((const u8 *)r.data)[511], 0);
	assert_int_equal(dev_fault_record(fault, 5, &r), -ERANGE);
	assert_int_equal(dev_fault_count(fault, FAULT_WRITE), 3);
	assert_int_equal(dev_fault_count(fault, FAULT_READ), 1);
	blkdev_put(fault);
	blkdev_put(mem);
}

static void nth_fails(void **state)
{
	struct blkdev *mem, *fault;
	u8 b[512] = { 5 };

	(void)state;
	assert_int_equal(dev_mem_new("m", 65536, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, true, &fault), 0);
	dev_fault_nth(fault, FAULT_WRITE, 2, -ENOSPC, false);
	assert_int_equal(blkdev_write(fault, 0, b, 512, 0), 0);
	assert_int_equal(blkdev_write(fault, 512, b, 512, 0), -ENOSPC);
	assert_int_equal(blkdev_write(fault, 1024, b, 512, 0), 0);
	assert_int_equal(dev_fault_records(fault), 2);
	assert_int_equal(blkdev_read(mem, 512, b, 512), 0);
	assert_int_equal(b[0], 0);
	dev_fault_nth(fault, FAULT_FLUSH, 1, -EIO, true);
	assert_int_equal(blkdev_flush(fault), -EIO);
	assert_int_equal(blkdev_flush(fault), -EIO);
	dev_fault_nth(fault, FAULT_FLUSH, 0, 0, false);
	assert_int_equal(blkdev_flush(fault), 0);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, false);
	assert_int_equal(blkdev_read(fault, 0, b, 512), -EIO);
	assert_int_equal(blkdev_read(fault, 0, b, 512), 0);
	blkdev_put(fault);
	blkdev_put(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_any_device),
		cmocka_unit_test(what_is_recorded),
		cmocka_unit_test(nth_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
