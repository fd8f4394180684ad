/* The device whose start is held back: read as written, below a mark, and the start comes last of all. */
#include "devtest.h"

#define HELD (64u << 10)
#define MARK "not yet\n"

static void like_any_device(void **state)
{
	struct blkdev *mem, *hold;

	(void)state;
	assert_int_equal(dev_mem_new("m", DEVTEST_BYTES, 512, &mem), 0);
	assert_int_equal(dev_hold_new(mem, HELD, MARK, &hold), 0);
	devtest_all(hold);
	blkdev_put(hold);
	assert_int_equal(mem->refs, 1);
	blkdev_put(mem);
}

/* After any number of the requests that let_go makes, there is the mark, or everything. */
static void whole_or_marked(void **state)
{
	struct blkdev *mem, *fault, *hold;
	struct fault_record r;
	u64 seed = new_seed(), first, flushed = 0;
	u8 *content = malloc(2 * HELD), *below = malloc(2 * HELD);
	bool marked = true;

	(void)state;
	assert_int_equal(dev_mem_new("m", 1u << 20, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, true, &fault), 0);
	assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), 0);
	fill(content, 2 * HELD, &seed);
	assert_int_equal(blkdev_write(hold, 0, content, 2 * HELD, 0), 0);
	assert_int_equal(blkdev_read(mem, 0, below, 2 * HELD), 0);
	assert_memory_equal(below, MARK, sizeof(MARK) - 1);
	assert_memory_equal(below + HELD, content + HELD, HELD);
	first = dev_fault_records(fault);
	assert_int_equal(dev_hold_let_go(hold), 0);
	for (u64 i = first; i < dev_fault_records(fault); i++) {
		assert_int_equal(dev_fault_record(fault, i, &r), 0);
		if (r.op == FAULT_FLUSH) {
			flushed = i;
			continue;
		}
		assert_int_equal(r.op, FAULT_WRITE);
		assert_true(marked);
		if (r.off_bytes)
			continue;
		/* The mark goes in a request of a page, behind all others and a flush. */
		assert_true(flushed && flushed == i - 1 && r.len_bytes <= 4096);
		marked = false;
	}
	assert_false(marked);
	assert_int_equal(flushed, dev_fault_records(fault) - 1);
	assert_int_equal(blkdev_read(mem, 0, below, 2 * HELD), 0);
	assert_memory_equal(below, content, 2 * HELD);
	free(content);
	free(below);
	blkdev_put(hold);
	blkdev_put(fault);
	blkdev_put(mem);
}

static void failures(void **state)
{
	struct blkdev *mem, *fault, *hold;
	u8 b[4096] = { 7 }, below[4096];

	(void)state;
	assert_int_equal(dev_mem_new("m", 1u << 20, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &fault), 0);
	for (u64 nth = 1; nth <= 2; nth++) {
		assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), 0);
		assert_int_equal(blkdev_write(hold, 0, b, sizeof(b), 0), 0);
		dev_fault_nth(fault, FAULT_WRITE, nth, -EIO, false);
		assert_int_equal(dev_hold_let_go(hold), -EIO);
		assert_int_equal(blkdev_read(mem, 0, below, sizeof(below)), 0);
		assert_memory_equal(below, MARK, sizeof(MARK) - 1);
		blkdev_put(hold);
	}
	blkdev_put(fault);
	blkdev_put(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_any_device),
		cmocka_unit_test(whole_or_marked),
		cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
