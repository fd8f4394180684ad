/* Undo files: what was is given back, from whole files, from those of a mending that was broken off, never from damaged ones. */
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES   2u
#define DEV_BYTES (256u << 10)
#define FILE_MAX  (1u << 20)

struct bed {
	char dir[64], file[96];
	struct blkdev *dev[DEVICES], *snap[DEVICES];
	u8 was[DEVICES][DEV_BYTES];
	u8 saved[FILE_MAX]; /* the undo file */
	u64 saved_bytes;
};

static void start_seed(void)
{
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();

	print_message("seed %u\n", seed);
	srand(seed);
}

static void scribble(struct blkdev *dev, u32 count)
{
	u8 bytes[512];

	for (u32 i = 0; i < count; i++) {
		for (u32 k = 0; k < sizeof(bytes); k++)
			bytes[k] = (u8)rand();
		assert_int_equal(
			blkdev_write(dev, (u64)rand() % (DEV_BYTES / 512) * 512, bytes, sizeof(bytes), 0), 0);
	}
}

static int setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	start_seed();
	strcpy(b->dir, "/tmp/test_undo.XXXXXX");
	if (!mkdtemp(b->dir))
		return -1;
	snprintf(b->file, sizeof(b->file), "%s/undo", b->dir);
	for (u32 i = 0; i < DEVICES; i++) {
		assert_int_equal(dev_mem_new("mem", DEV_BYTES, 512, &b->dev[i]), 0);
		scribble(b->dev[i], 400);
		assert_int_equal(blkdev_read(b->dev[i], 0, b->was[i], DEV_BYTES), 0);
	}
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bed *b = *state;

	for (u32 i = 0; i < DEVICES; i++)
		blkdev_put(b->dev[i]);
	unlink(b->file);
	rmdir(b->dir);
	free(b);
	return 0;
}

/* What changed in overlays is recorded and then written, in `times` steps. */
static void change(struct bed *b, struct undo *u, u32 times)
{
	static u8 all[DEV_BYTES];

	for (u32 t = 0; t < times; t++) {
		for (u32 i = 0; i < DEVICES; i++) {
			assert_int_equal(dev_snap_new(b->dev[i], &b->snap[i]), 0);
			scribble(b->snap[i], 8);
		}
		assert_int_equal(undo_save(u, b->snap, b->dev, DEVICES), 0);
		for (u32 i = 0; i < DEVICES; i++) {
			assert_int_equal(blkdev_read(b->snap[i], 0, all, DEV_BYTES), 0);
			assert_int_equal(blkdev_write(b->dev[i], 0, all, DEV_BYTES, 0), 0);
			blkdev_put(b->snap[i]);
		}
	}
}

static void record(struct bed *b, bool finish)
{
	static const char *const name[DEVICES] = { "/one", "/two" };
	struct undo *u = NULL;
	int fd;

	assert_int_equal(undo_create(b->file, name, b->dev, DEVICES, &u), 0);
	change(b, u, 3);
	if (finish)
		assert_int_equal(undo_finish(u, b->dev), 0);
	undo_close(u);
	assert_int_equal(undo_create(b->file, name, b->dev, DEVICES, &u), -EEXIST);
	fd = open(b->file, O_RDONLY);
	b->saved_bytes = (u64)read(fd, b->saved, FILE_MAX);
	close(fd);
}

static void is_as_it_was(struct bed *b)
{
	static u8 all[DEV_BYTES];

	for (u32 i = 0; i < DEVICES; i++) {
		assert_int_equal(blkdev_read(b->dev[i], 0, all, DEV_BYTES), 0);
		assert_memory_equal(all, b->was[i], DEV_BYTES);
	}
}

static void rewrite(const struct bed *b, u64 len)
{
	int fd = open(b->file, O_WRONLY | O_TRUNC);

	assert_int_equal(write(fd, b->saved, len), len);
	close(fd);
}

static void whole(void **state)
{
	struct bed *b = *state;
	struct undo_plan p;
	u64 changed;

	record(b, true);
	assert_int_equal(undo_read(b->file, &p), 0);
	assert_true(p.finished);
	assert_int_equal(p.devices, DEVICES);
	assert_string_equal(p.name[1], "/two");
	assert_int_equal(p.size_bytes[1], DEV_BYTES);
	assert_int_equal(undo_changed(&p, b->dev, &changed), 0);
	assert_int_equal(changed, 0);
	assert_int_equal(undo_apply(&p, b->dev), 0);
	is_as_it_was(b);
	/* What was put back is no change by others, what is neither old nor new is. */
	assert_int_equal(undo_changed(&p, b->dev, &changed), 0);
	assert_int_equal(changed, 0);
	scribble(b->dev[0], 600);
	assert_int_equal(undo_changed(&p, b->dev, &changed), 0);
	assert_int_not_equal(changed, 0);
	undo_forget(&p);
}

static void broken_off(void **state)
{
	struct bed *b = *state;
	struct undo_plan p;
	u64 units, last = 0;

	record(b, false);
	assert_int_equal(undo_read(b->file, &p), 0);
	assert_false(p.finished);
	units = p.units;
	assert_int_equal(undo_apply(&p, b->dev), 0);
	undo_forget(&p);
	is_as_it_was(b);
	/* Cut anywhere: the records before the cut, or no file at all. */
	for (u64 len = 0; len < b->saved_bytes; len += 1 + (u64)rand() % 512) {
		int err;

		rewrite(b, len);
		err = undo_read(b->file, &p);
		if (err) {
			assert_int_equal(err, -EBADMSG);
			assert_int_equal(last, 0);
			continue;
		}
		assert_true(p.units >= last && p.units < units);
		last = p.units;
		assert_int_equal(undo_apply(&p, b->dev), 0);
		undo_forget(&p);
		is_as_it_was(b);
	}
	assert_int_not_equal(last, 0);
}

static void damaged(void **state)
{
	struct bed *b = *state;
	struct undo_plan p;

	record(b, true);
	/* The last 16 bytes say that there is a trailer: without them it is a file that was broken off, and all records are good. */
	for (u64 at = 0; at < b->saved_bytes - 16; at += 1 + (u64)rand() % 200) {
		u8 flip = (u8)(1u << rand() % 8);
		int err;

		b->saved[at] ^= flip;
		rewrite(b, b->saved_bytes);
		err = undo_read(b->file, &p);
		if (err != -EBADMSG && err != -EOPNOTSUPP)
			print_message("byte %llu: %d\n", (unsigned long long)at, err);
		assert_true(err == -EBADMSG || err == -EOPNOTSUPP);
		b->saved[at] ^= flip;
	}
}

/* What nobody foresaw is recorded when it is written, and not at all when that fails. */
static void unforeseen(void **state)
{
	static const char *const name[DEVICES] = { "/one", "/two" };
	struct bed *b = *state;
	const u8 block[512] = { 1 };
	struct blkdev *kept[DEVICES], *fault;
	struct undo *u = NULL;
	struct undo_plan p;

	assert_int_equal(undo_create(b->file, name, b->dev, DEVICES, &u), 0);
	change(b, u, 1);
	assert_int_equal(dev_fault_new(b->dev[1], false, &fault), 0);
	assert_int_equal(undo_dev_new(u, b->dev[0], 0, &kept[0]), 0);
	assert_int_equal(undo_dev_new(u, fault, 1, &kept[1]), 0);
	for (u32 i = 0; i < DEVICES; i++)
		scribble(kept[i], 20);
	assert_int_equal(blkdev_zero(kept[0], 5120, 20480), 0);
	/* A unit that was not recorded, as likely as not; else nothing is to be read. */
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, true);
	for (u32 i = 0; i < DEV_BYTES / 4096; i++)
		(void)!blkdev_write(kept[1], (u64)i * 4096, block, sizeof(block), 0);
	assert_int_equal(blkdev_write(kept[0], 0, block, sizeof(block), 0), -EIO);
	for (u32 i = 0; i < DEVICES; i++)
		blkdev_put(kept[i]);
	blkdev_put(fault);
	undo_close(u);
	assert_int_equal(undo_read(b->file, &p), 0);
	assert_int_equal(undo_apply(&p, b->dev), 0);
	undo_forget(&p);
	is_as_it_was(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(whole, setup, teardown),
					    cmocka_unit_test_setup_teardown(broken_off, setup, teardown),
					    cmocka_unit_test_setup_teardown(damaged, setup, teardown),
					    cmocka_unit_test_setup_teardown(unforeseen, setup, teardown) };

	return cmocka_run_group_tests_name("host/undo", tests, NULL, NULL);
}
