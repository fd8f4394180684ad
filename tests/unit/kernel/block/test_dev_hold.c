/* The device whose beginning is held back: reads as written, and below stands the mark until it is let go. */
#include "devtest.h"

#define MARK "not yet\n"

enum { HELD = 128 << 10, EDGE = 5000 };

static u8 *whole(struct blkdev *dev)
{
	u8 *p = malloc(dev->size_bytes);

	assert_int_equal(blkdev_read(dev, 0, p, dev->size_bytes), 0);
	return p;
}

/* The first `held` bytes below are the mark and zeros. */
static void marked(struct blkdev *lower, u64 held)
{
	u8 *p = whole(lower);

	assert_memory_equal(p, MARK, MIN(strlen(MARK), held));
	for (u64 i = strlen(MARK); i < held; i++)
		if (p[i])
			fail_msg("byte %llu is %u", (unsigned long long)i, p[i]);
	free(p);
}

static void alike(struct blkdev *a, struct blkdev *b, u64 from)
{
	u8 *x = whole(a), *y = whole(b);

	assert_memory_equal(x + from, y + from, a->size_bytes - from);
	free(x);
	free(y);
}

static void like_any_device(void **state)
{
	struct blkdev *mem, *hold;

	(void)state;
	assert_int_equal(dev_mem_new("m", DEVTEST_BYTES, 512, &mem), 0);
	assert_int_equal(dev_hold_new(mem, HELD, MARK, &hold), 0);
	assert_int_equal(hold->sector_bytes, 512);
	devtest_all(hold);
	marked(mem, HELD);
	alike(mem, hold, HELD);
	assert_int_equal(dev_hold_let_go(hold), 0);
	alike(mem, hold, 0);
	blkdev_put(hold);
	assert_int_equal(mem->refs, 1);
	blkdev_put(mem);
}

/* One request through memory in pieces, none of which ends where the held bytes do. */
static void pieces(struct blkdev *dev, enum bio_op op, u64 off, u8 *buf, u64 len, u64 *seed)
{
	struct iovec iov[4];
	struct io_batch batch;
	struct bio bio;
	u64 at = 0;

	bio_init(&bio, dev, op, off, NULL, len);
	for (u32 i = 0; i < 4; i++) {
		u64 n = i < 3 ? rnd(seed) % (len - at + 1) : len - at;

		iov[i] = (struct iovec){ buf + at, n };
		at += n;
	}
	bio.iov = iov;
	bio.iov_count = 4;
	io_batch_init(&batch);
	io_submit(&batch, &bio);
	assert_int_equal(io_wait(&batch), 0);
}

static void over_the_edge(void **state)
{
	u64 size = 20000, seed = new_seed();
	u8 *model = calloc(1, size), *buf = malloc(size);
	struct blkdev *mem, *hold;

	(void)state;
	assert_int_equal(dev_mem_new("m", size, 1, &mem), 0);
	memset(buf, 0xaa, size);
	assert_int_equal(blkdev_write(mem, 0, buf, size, 0), 0);
	assert_int_equal(dev_hold_new(mem, EDGE, MARK, &hold), 0);
	/* What was there before is gone where it is held, and stays behind. */
	memset(model + EDGE, 0xaa, size - EDGE);
	for (u32 i = 0; i < 3000; i++) {
		u64 off = i % 4 ? rnd(&seed) % EDGE : rnd(&seed) % size;
		u64 len = 1 + rnd(&seed) % MIN(size - off, (u64)8000);

		if (rnd(&seed) % 2) {
			fill(buf, len, &seed);
			memcpy(model + off, buf, len);
			pieces(hold, BIO_WRITE, off, buf, len, &seed);
		} else {
			memset(buf, 0x55, len);
			pieces(hold, BIO_READ, off, buf, len, &seed);
			assert_memory_equal(buf, model + off, len);
		}
	}
	marked(mem, EDGE);
	alike(mem, hold, EDGE);
	assert_int_equal(dev_hold_let_go(hold), 0);
	assert_int_equal(blkdev_read(mem, 0, buf, size), 0);
	assert_memory_equal(buf, model, size);
	free(buf);
	free(model);
	blkdev_put(hold);
	blkdev_put(mem);
}

static void zero_and_discard(void **state)
{
	u8 *buf = malloc(4 * HELD), *model = malloc(4 * HELD);
	struct blkdev *mem, *hold;
	u64 seed = new_seed();

	(void)state;
	assert_int_equal(dev_mem_new("m", 4 * HELD, 512, &mem), 0);
	assert_int_equal(dev_hold_new(mem, HELD, MARK, &hold), 0);
	fill(model, 4 * HELD, &seed);
	assert_int_equal(blkdev_write(hold, 0, model, 4 * HELD, 0), 0);
	assert_int_equal(blkdev_zero(hold, 1024, 2048), 0);
	memset(model + 1024, 0, 2048);
	assert_int_equal(blkdev_zero(hold, HELD - 4096, 8192), 0);
	memset(model + HELD - 4096, 0, 8192);
	assert_int_equal(blkdev_zero(hold, 2 * HELD, 512), 0);
	memset(model + 2 * HELD, 0, 512);
	assert_int_equal(blkdev_discard(hold, 0, 512), -EOPNOTSUPP);
	assert_int_equal(blkdev_discard(hold, HELD - 512, 1024), -EOPNOTSUPP);
	assert_int_equal(blkdev_discard(hold, 3 * HELD, HELD), blkdev_discard(mem, 3 * HELD, HELD));
	assert_int_equal(blkdev_read(hold, 0, buf, 3 * HELD), 0);
	assert_memory_equal(buf, model, 3 * HELD);
	marked(mem, HELD);
	free(buf);
	free(model);
	blkdev_put(hold);
	blkdev_put(mem);
}

/* All of a device, and a mark that is longer than it. */
static void held_whole(void **state)
{
	struct blkdev *mem, *hold;
	u8 buf[4] = "abcd";

	(void)state;
	assert_int_equal(dev_mem_new("m", 4, 1, &mem), 0);
	assert_int_equal(dev_hold_new(mem, HELD, MARK, &hold), 0);
	assert_int_equal(blkdev_write(hold, 0, buf, 4, 0), 0);
	assert_int_equal(blkdev_read(mem, 0, buf, 4), 0);
	assert_memory_equal(buf, "not ", 4);
	assert_int_equal(blkdev_write(hold, 4, buf, 1, 0), -EIO);
	assert_int_equal(dev_hold_let_go(hold), 0);
	assert_int_equal(blkdev_read(mem, 0, buf, 4), 0);
	assert_memory_equal(buf, "abcd", 4);
	blkdev_put(hold);
	blkdev_put(mem);
}

/* Everything else is durable before the first page is written, which takes the mark's place. */
static void let_go_in_order(void **state)
{
	struct blkdev *mem, *fault, *hold;
	struct fault_record r;
	u8 *buf = malloc(2 * HELD);
	u64 n, seed = new_seed();

	(void)state;
	assert_int_equal(dev_mem_new("m", 2 * HELD, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, true, &fault), 0);
	assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), 0);
	assert_int_equal(dev_fault_records(fault), 2);
	fill(buf, 2 * HELD, &seed);
	assert_int_equal(blkdev_write(hold, 0, buf, 2 * HELD, 0), 0);
	assert_int_equal(blkdev_flush(hold), 0);
	assert_int_equal(dev_fault_count(fault, FAULT_FLUSH), 2);
	assert_int_equal(blkdev_write(hold, HELD, buf, 512, 0), 0);
	assert_int_equal(dev_hold_let_go(hold), 0);
	n = dev_fault_records(fault);
	for (u64 i = 2; i < n; i++) {
		assert_int_equal(dev_fault_record(fault, i, &r), 0);
		if (r.op == FAULT_WRITE && !r.off_bytes)
			assert_int_equal(i, n - 2);
	}
	assert_int_equal(dev_fault_record(fault, n - 3, &r), 0);
	assert_int_equal(r.op, FAULT_FLUSH);
	assert_int_equal(r.covers, n - 3);
	assert_int_equal(dev_fault_record(fault, n - 2, &r), 0);
	assert_int_equal(r.off_bytes, 0);
	assert_true(r.len_bytes <= 4096);
	assert_int_equal(dev_fault_record(fault, n - 1, &r), 0);
	assert_int_equal(r.op, FAULT_FLUSH);
	free(buf);
	blkdev_put(hold);
	blkdev_put(fault);
	blkdev_put(mem);
}

/* The nth request of a kind below fails while it is let go: who looks below then finds the mark, or all that was held. */
static bool let_go_fails(enum fault_op op, u64 nth, u64 *seed)
{
	struct blkdev *mem, *fault, *hold;
	u8 *buf = malloc(HELD), first[8];
	bool done;

	assert_int_equal(dev_mem_new("m", 2 * HELD, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &fault), 0);
	assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), 0);
	fill(buf, HELD, seed);
	assert_int_equal(blkdev_write(hold, 0, buf, HELD, 0), 0);
	dev_fault_nth(fault, op, nth, -EIO, false);
	done = !dev_hold_let_go(hold);
	assert_int_equal(blkdev_read(mem, 0, first, sizeof(first)), 0);
	if (memcmp(first, MARK, sizeof(first)) != 0) {
		u8 *got = malloc(HELD);

		assert_int_equal(blkdev_read(mem, 0, got, HELD), 0);
		assert_memory_equal(got, buf, HELD);
		free(got);
	} else {
		assert_false(done);
	}
	blkdev_put(hold);
	assert_int_equal(mem->refs, 2);
	blkdev_put(fault);
	blkdev_put(mem);
	free(buf);
	return done;
}

static void the_device_below_fails(void **state)
{
	struct blkdev *mem, *fault, *hold;
	static u8 buf[2 * HELD];
	u64 seed = new_seed();

	(void)state;
	for (u32 op = FAULT_WRITE; op <= FAULT_FLUSH; op++) {
		u64 nth = 1;

		while (!let_go_fails(op, nth, &seed))
			nth++;
		assert_true(nth >= 3);
	}
	assert_int_equal(dev_mem_new("m", 2 * HELD, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &fault), 0);
	for (u32 op = FAULT_WRITE; op <= FAULT_FLUSH; op++) {
		dev_fault_nth(fault, op, 1, -ENOSPC, false);
		assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), -ENOSPC);
		assert_int_equal(fault->refs, 1);
	}
	assert_int_equal(dev_hold_new(fault, HELD, MARK, &hold), 0);
	/* Whatever goes down; what is held needs nothing of it. */
	dev_fault_nth(fault, FAULT_WRITE, 1, -EIO, true);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, true);
	dev_fault_nth(fault, FAULT_FLUSH, 1, -EIO, true);
	assert_int_equal(blkdev_write(hold, 0, buf, HELD, BIO_FUA), 0);
	assert_int_equal(blkdev_read(hold, 0, buf, HELD), 0);
	assert_int_equal(blkdev_write(hold, HELD - 512, buf, 1024, 0), -EIO);
	assert_int_equal(blkdev_read(hold, HELD - 512, buf, 1024), -EIO);
	assert_int_equal(blkdev_write(hold, HELD, buf, 512, 0), -EIO);
	assert_int_equal(blkdev_read(hold, HELD, buf, 512), -EIO);
	assert_int_equal(blkdev_flush(hold), -EIO);
	blkdev_put(hold);
	blkdev_put(fault);
	blkdev_put(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_any_device),  cmocka_unit_test(over_the_edge),
		cmocka_unit_test(zero_and_discard), cmocka_unit_test(held_whole),
		cmocka_unit_test(let_go_in_order),  cmocka_unit_test(the_device_below_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
