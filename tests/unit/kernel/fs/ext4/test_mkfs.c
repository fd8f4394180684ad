/*
 * Making a volume on a device that fails, that held something else, or on which the power goes: an error, and never a volume that is
 * not whole. What was made is mounted and written to.
 */
#include "volume.h"

#include "fs/ext4/mkfs.h"
#include <errno.h>

#define BYTES (64u << 20)

static struct blkdev *memory(u8 fill)
{
	struct blkdev *dev;
	u8 *buf = malloc(1 << 20);

	assert_non_null(buf);
	assert_int_equal(dev_mem_new("mem", BYTES, 1, &dev), 0);
	memset(buf, fill, 1 << 20);
	for (u32 at = 0; fill && at < BYTES; at += 1 << 20)
		assert_int_equal(blkdev_write(dev, at, buf, 1 << 20, 0), 0);
	free(buf);
	return dev;
}

static int format(struct blkdev *dev, bool zeroed, const char *words)
{
	const struct format_opts opts = { .size_bytes = BYTES,
					  .zeroed = zeroed,
					  .fs_opts = words,
					  .label = "new",
					  .now = { 1700000000, 0 } };

	return ext4_fs_type.format(dev, &opts, NULL);
}

static int score(struct blkdev *dev)
{
	struct fs_probe info = { 0 };

	assert_int_equal(ext4_fs_type.probe(dev, &info), 0);
	return info.score;
}

/* Mounted, written to, mounted again. */
static void use(struct blkdev *dev)
{
	const struct cred root = { 0 };
	const struct name name = NAME("file");
	struct inode *dir, *file;
	u64 n;

	vol_dev = blkdev_get(dev);
	for (u32 round = 0; round < 2; round++) {
		char buf[4] = "";

		vol_open();
		if (vol_es->vfs.notice[0] && !strstr(vol_es->vfs.notice, "no journal"))
			fail_msg("%s", vol_es->vfs.notice);
		assert_int_equal(vfs_iget(&vol_es->vfs, vol_es->vfs.root_ino, &dir), 0);
		if (!round)
			assert_int_equal(vfs_create(dir, &name, S_IFREG | 0644, 0, 0, NULL, &root, &file), 0);
		else
			assert_int_equal(vfs_lookup(dir, &name, &file), 0);
		if (!round)
			assert_int_equal(vfs_write(file, 0, "abc", 4, 0, &n), 0);
		assert_int_equal(vfs_read(file, 0, buf, 4, &n), 0);
		assert_string_equal(buf, "abc");
		vfs_iput(file);
		vfs_iput(dir);
		vol_close();
		vol_dev = round ? NULL : blkdev_get(dev);
	}
}

static const char *const kinds[] = { NULL, "block_size=4096", "variant=ext3", "variant=ext2,block_size=2048",
				     "inode_size=128" };

static void test_use(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
		for (u32 fill = 0; fill < 256; fill += 0xa5) {
			struct blkdev *dev = memory((u8)fill);

			if (format(dev, !fill, kinds[i]))
				fail_msg("%s: %s", kinds[i], err_text());
			assert_int_equal(score(dev), 100);
			use(dev);
			blkdev_put(dev);
		}
}

/* Each request fails in turn: there is an error, and no volume. */
static void test_fails(void **state)
{
	static const enum fault_op ops[] = { FAULT_WRITE, FAULT_FLUSH, FAULT_DISCARD };
	u32 failed = 0;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(ops); i++)
		for (u32 nth = 1;; nth++) {
			struct blkdev *dev = memory(0xa5), *fault;
			bool met;
			int err;

			assert_int_equal(dev_fault_new(dev, false, &fault), 0);
			dev_fault_nth(fault, ops[i], nth, -EIO, false);
			err = format(fault, false, "lazy_itable_init=0");
			met = dev_fault_count(fault, ops[i]) >= nth;
			if (met && !err && ops[i] != FAULT_DISCARD)
				fail_msg("request %u of kind %u failed, and nobody heard of it", nth, i);
			if (!met)
				assert_int_equal(err, 0);
			if (err) {
				assert_true(*err_text());
				failed++;
			}
			blkdev_put(fault);
			blkdev_put(dev);
			if (!met)
				break;
		}
	assert_true(failed > 5);
	print_message("%u failures\n", failed);
}

/* The power goes after any write: until the last one there is no volume, neither the new one nor half of the old one. */
static void test_power(void **state)
{
	struct blkdev *dev = memory(0xa5), *fault, *shadow = memory(0xa5);
	struct fault_record r;
	u64 writes = 0, after_flush = 0;

	(void)state;
	assert_int_equal(format(dev, false, "variant=ext2"), 0);
	assert_int_equal(format(shadow, false, "variant=ext2"), 0);
	assert_int_equal(dev_fault_new(dev, true, &fault), 0);
	assert_int_equal(format(fault, false, NULL), 0);
	for (u64 i = 0; i < dev_fault_records(fault); i++) {
		assert_int_equal(dev_fault_record(fault, i, &r), 0);
		if (r.op == FAULT_FLUSH)
			after_flush = 0;
		if (r.op != FAULT_WRITE)
			continue;
		assert_int_equal(blkdev_write(shadow, r.off_bytes, r.data, r.len_bytes, 0), 0);
		writes++;
		after_flush++;
		if (i + 2 < dev_fault_records(fault))
			assert_true(score(shadow) < 100);
	}
	/* The superblock, by itself between two flushes. */
	assert_int_equal(r.op, FAULT_FLUSH);
	assert_int_equal(after_flush, 0);
	assert_true(writes > 3);
	assert_int_equal(score(shadow), 100);
	blkdev_put(fault);
	blkdev_put(shadow);
	blkdev_put(dev);
}

static void test_refused(void **state)
{
	struct format_opts opts = { .size_bytes = BYTES + 1 };
	struct blkdev *dev = memory(0), *fault;
	struct doc *doc = doc_new();

	(void)state;
	assert_int_equal(dev_fault_new(dev, true, &fault), 0);
	assert_int_equal(ext4_fs_type.format(fault, &opts, NULL), -EINVAL);
	opts.size_bytes = BYTES;
	opts.features = "^extent";
	assert_int_equal(ext4_fs_type.format(fault, &opts, NULL), -EINVAL);
	opts.features = NULL;
	opts.dry = true;
	assert_int_equal(ext4_fs_type.format(fault, &opts, doc), 0);
	assert_int_equal(dev_fault_records(fault), 0);
	doc_free(doc);
	blkdev_put(fault);
	blkdev_put(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_use, vol_clean),
		cmocka_unit_test(test_fails),
		cmocka_unit_test(test_power),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
