/* The overlay: reads as written, and the device below stays as it was. */
#include "devtest.h"

#include <pthread.h>
#include <unistd.h>

static u8 *whole(struct blkdev *dev)
{
	u8 *p = malloc(dev->size_bytes);

	assert_int_equal(blkdev_read(dev, 0, p, dev->size_bytes), 0);
	return p;
}

static void like_any_device(void **state)
{
	struct blkdev *mem, *snap;
	u8 *p;

	(void)state;
	assert_int_equal(dev_mem_new("m", DEVTEST_BYTES, 512, &mem), 0);
	assert_int_equal(dev_snap_new(mem, &snap), 0);
	devtest_all(snap);
	assert_true(dev_snap_units(snap) > 0);
	p = whole(mem);
	for (u64 i = 0; i < mem->size_bytes; i++)
		if (p[i])
			fail_msg("the device below was written at %llu", (unsigned long long)i);
	free(p);
	blkdev_put(snap);
	assert_int_equal(mem->refs, 1);
	blkdev_put(mem);
}

/* Over random content, with an odd size, on a device that may not be written. */
static void over_content(void **state)
{
	u64 seed = new_seed(), size = 1000003;
	u8 *model = malloc(size), *before, *after, *b;
	struct blkdev *mem, *snap;

	(void)state;
	assert_int_equal(dev_mem_new("m", size, 1, &mem), 0);
	fill(model, size, &seed);
	assert_int_equal(blkdev_write(mem, 0, model, size, 0), 0);
	before = whole(mem);
	mem->flags |= BLKDEV_RDONLY;
	assert_int_equal(dev_snap_new(mem, &snap), 0);
	assert_int_equal(dev_snap_units(snap), 0);
	for (u32 i = 0; i < 400; i++) {
		u64 off = rnd(&seed) % size, len = 1 + rnd(&seed) % MIN(size - off, (u64)20000);

		b = malloc(len);
		if (i % 2) {
			fill(b, len, &seed);
			memcpy(model + off, b, len);
			assert_int_equal(blkdev_write(snap, off, b, len, 0), 0);
		} else {
			assert_int_equal(blkdev_read(snap, off, b, len), 0);
			assert_memory_equal(b, model + off, len);
		}
		free(b);
	}
	assert_int_equal(blkdev_zero(snap, 999000, 1003), 0);
	memset(model + 999000, 0, 1003);
	assert_int_equal(blkdev_discard(snap, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(blkdev_flush(snap), 0);
	after = whole(snap);
	assert_memory_equal(after, model, size);
	free(after);
	after = whole(mem);
	assert_memory_equal(after, before, size);
	free(after);
	free(before);
	free(model);
	blkdev_put(snap);
	blkdev_put(mem);
}

/* The lower device's error reaches who asked, and a failed partial write leaves no unit. */
static void lower_fails(void **state)
{
	struct blkdev *mem, *fault, *snap;
	u8 b[8192] = { 0 };

	(void)state;
	assert_int_equal(dev_mem_new("m", 65536, 1, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &fault), 0);
	assert_int_equal(dev_snap_new(fault, &snap), 0);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, true);
	assert_int_equal(blkdev_write(snap, 100, b, 200, 0), -EIO);
	assert_int_equal(dev_snap_units(snap), 0);
	assert_int_equal(blkdev_read(snap, 0, b, 8192), -EIO);
	assert_int_equal(blkdev_write(snap, 0, b, 4096, 0), 0);
	assert_int_equal(blkdev_read(snap, 0, b, 4096), 0);
	assert_int_equal(blkdev_read(snap, 0, b, 8192), -EIO);
	dev_fault_nth(fault, FAULT_READ, 0, 0, false);
	assert_int_equal(blkdev_read(snap, 0, b, 8192), 0);
	blkdev_put(snap);
	blkdev_put(fault);
	blkdev_put(mem);
}

struct writer {
	pthread_t thread;
	struct blkdev *dev;
	u32 nr;
};

/* Each of eight writers has an eighth of every unit. */
static void *write_eighths(void *arg)
{
	struct writer *w = arg;
	u8 b[512];

	memset(b, (int)w->nr + 1, sizeof(b));
	for (u64 unit = 0; unit < 64; unit++)
		if (blkdev_write(w->dev, unit * 4096 + w->nr * 512, b, 512, 0))
			return "write failed";
	return NULL;
}

static void unit_has_many_writers(void **state)
{
	char path[] = "/var/tmp/werunos-test-XXXXXX";
	int fd = mkstemp(path);
	struct blkdev *file, *snap;
	struct writer w[8];
	u8 *p;

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, 64 * 4096), 0);
	assert_int_equal(dev_file_fd(fd, "f", DEV_DIRECT, &file), 0);
	assert_int_equal(dev_snap_new(file, &snap), 0);
	for (u32 i = 0; i < 8; i++) {
		w[i] = (struct writer){ .dev = snap, .nr = i };
		assert_int_equal(os_thread(&w[i].thread, "writer", write_eighths, &w[i]), 0);
	}
	for (u32 i = 0; i < 8; i++) {
		void *what;

		pthread_join(w[i].thread, &what);
		assert_null(what);
	}
	p = whole(snap);
	for (u64 i = 0; i < 64 * 4096; i++)
		if (p[i] != i / 512 % 8 + 1)
			fail_msg("byte %llu is %u", (unsigned long long)i, p[i]);
	free(p);
	assert_int_equal(dev_snap_units(snap), 64);
	blkdev_put(snap);
	blkdev_put(file);
}

static void units_are_found_in_order(void **state)
{
	const u64 size = 64ull << 20, at[] = { 0, 4096, 9 << 20, size - 4096 };
	struct blkdev *mem, *snap;
	u8 sector[512] = { 1 };
	u64 off = 0;

	(void)state;
	assert_int_equal(dev_mem_new("m", size, 512, &mem), 0);
	assert_int_equal(dev_snap_new(mem, &snap), 0);
	assert_true(dev_snap_next(snap, 0) == ~0ull);
	for (u32 i = ARRAY_SIZE(at); i--;)
		assert_int_equal(blkdev_write(snap, at[i] + 512, sector, 512, 0), 0);
	for (u32 i = 0; i < ARRAY_SIZE(at); i++) {
		off = dev_snap_next(snap, off);
		assert_true(off == at[i]);
		off += DEV_SNAP_UNIT_BYTES;
	}
	assert_true(dev_snap_next(snap, off) == ~0ull);
	blkdev_put(snap);
	blkdev_put(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_any_device),
		cmocka_unit_test(over_content),
		cmocka_unit_test(lower_fails),
		cmocka_unit_test(unit_has_many_writers),
		cmocka_unit_test(units_are_found_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
