/*
 * The data path against a byte array: random writes, truncates, punches, zeroings and reads, each compared whole.
 * The seed is printed; SEED=n repeats a run.
 */
#include "memmount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPAN (96u * 4096u + 1000u)

struct shadow {
	u8 byte[SPAN];
	u64 size;
};

static u64 rnd_state;

static u32 rnd(u32 below)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(rnd_state >> 33) % below;
}

/* Offsets near block borders are where mistakes live. */
static u64 rnd_off(void)
{
	u64 off = rnd(SPAN);

	return rnd(3) ? off : MIN((u64)SPAN - 1, ALIGN_DOWN(off, 4096ull) + rnd(3) - (off > 4096 ? 1 : 0));
}

static void compare(struct inode *inode, const struct shadow *s)
{
	static u8 buf[SPAN + 4096];
	u64 done, off = rnd_off(), len = rnd(2) ? SPAN : rnd(9000) + 1;

	assert_int_equal(atomic_load(&inode->size_bytes), s->size);
	assert_int_equal(vfs_read(inode, off, buf, len, &done), 0);
	assert_int_equal(done, off >= s->size ? 0 : MIN(len, s->size - off));
	assert_memory_equal(buf, s->byte + off, done);
}

static void do_write(struct inode *inode, struct shadow *s)
{
	static u8 buf[SPAN];
	u64 off = rnd(2) && s->size < SPAN ? s->size : rnd_off();
	u64 len = MIN((u64)SPAN - off, (u64)(rnd(4) ? rnd(rnd(2) ? 500 : 20000) + 1 : rnd(SPAN) + 1)), done;
	u8 mark = (u8)rnd(256);

	for (u64 i = 0; i < len; i++)
		buf[i] = (u8)(mark + i % 251);
	assert_int_equal(vfs_write(inode, off, buf, len, 0, &done), 0);
	assert_int_equal(done, len);
	if (off > s->size)
		memset(s->byte + s->size, 0, off - s->size);
	memcpy(s->byte + off, buf, len);
	s->size = MAX(s->size, off + len);
}

static void do_truncate(struct inode *inode, struct shadow *s)
{
	u64 size = rnd_off();

	assert_int_equal(vfs_truncate(inode, size), 0);
	if (size > s->size)
		memset(s->byte + s->size, 0, size - s->size);
	s->size = size;
}

static void do_fallocate(struct inode *inode, struct shadow *s)
{
	static const u32 modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_KEEP_SIZE };
	u32 mode = modes[rnd(ARRAY_SIZE(modes))];
	u64 off = rnd_off(), len = MIN((u64)SPAN - off, (u64)rnd(30000) + 1), end = off + len;

	assert_int_equal(vfs_fallocate(inode, mode, off, len), 0);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > s->size) {
		memset(s->byte + s->size, 0, end - s->size);
		s->size = end;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && off < s->size)
		memset(s->byte + off, 0, MIN(end, s->size) - off);
}

/* Holes are zeros, and the walk by SEEK_DATA and SEEK_HOLE covers the file. */
static void check_seek(struct inode *inode, const struct shadow *s)
{
	u64 pos = 0;

	while (pos < s->size) {
		u64 data;
		int err = vfs_seek(inode, pos, SEEK_DATA, &data);

		if (err) {
			assert_int_equal(err, -ENXIO);
			data = s->size;
		}
		for (u64 i = pos; i < data; i++)
			assert_int_equal(s->byte[i], 0);
		pos = data;
		if (pos < s->size) {
			assert_int_equal(vfs_seek(inode, pos, SEEK_HOLE, &data), 0);
			assert_true(data > pos && data <= s->size);
			pos = data;
		}
	}
}

static void random_against_shadow(void **state)
{
	const char *seed = getenv("SEED");
	struct super_block *sb = mount_mem(8u << 20);
	struct shadow *s = calloc(1, sizeof(*s));
	struct kstatfs st;
	struct file *f;
	u64 free_before;

	(void)state;
	rnd_state = seed ? strtoull(seed, NULL, 0) : os_monotonic_ns();
	printf("SEED=%llu\n", (unsigned long long)rnd_state);
	assert_non_null(s);
	assert_int_equal(vfs_statfs(sb, &st), 0);
	free_before = st.blocks_free;
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
	for (int i = 0; i < 4000; i++) {
		if (!rnd(6))
			assert_int_equal(vfs_fsync(f->inode, false), 0);
		switch (rnd(8)) {
		case 0:
			do_truncate(f->inode, s);
			break;
		case 1:
		case 2:
			do_fallocate(f->inode, s);
			break;
		default:
			do_write(f->inode, s);
		}
		compare(f->inode, s);
		if (i % 50 == 0)
			check_seek(f->inode, s);
	}
	vfs_close(f);
	struct inode *root;
	assert_int_equal(vfs_path(sb, NULL, "/", true, &root), 0);
	assert_int_equal(vfs_unlink(root, &NAME("f")), 0);
	vfs_iput(root);
	assert_int_equal(vfs_statfs(sb, &st), 0);
	assert_int_equal(st.blocks_free, free_before);
	assert_int_equal(vfs_unmount(sb), 0);
	free(s);
}

/* A full volume says so, keeps what it took, and has the space back after the file is gone. */
static void full_volume(void **state)
{
	struct super_block *sb = mount_mem(64 * 4096);
	static u8 buf[100 * 4096], back[100 * 4096];
	struct inode *root;
	struct file *f;
	u64 done, n;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(vfs_path(sb, NULL, "/", true, &root), 0);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(vfs_open(sb, NULL, "/big", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
		assert_int_equal(vfs_file_write(f, buf, sizeof(buf), &done), 0);
		assert_int_equal(done, 64 * 4096);
		assert_int_equal(vfs_file_write(f, buf, 1, &n), -ENOSPC);
		assert_int_equal(vfs_read(f->inode, 0, back, sizeof(back), &n), 0);
		assert_int_equal(n, done);
		assert_memory_equal(back, buf, n);
		assert_int_equal(vfs_unlink(root, &NAME("big")), 0);
		assert_int_equal(vfs_read(f->inode, 0, back, sizeof(back), &n), 0);
		assert_int_equal(n, done); /* unlinked, still open */
		vfs_close(f);
	}
	vfs_iput(root);
	assert_int_equal(vfs_unmount(sb), 0);
}

/* What lies behind the end of file in its last block never comes to light. */
static void tail_stays_dark(void **state)
{
	struct super_block *sb = mount_mem(1 << 20);
	u8 buf[4096], zero[4096] = { 0 };
	struct file *f;
	u64 done;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
	assert_int_equal(vfs_file_write(f, buf, sizeof(buf), &done), 0);
	assert_int_equal(vfs_truncate(f->inode, 10), 0);
	assert_int_equal(vfs_truncate(f->inode, 4096), 0);
	assert_int_equal(vfs_read(f->inode, 10, buf, 4096, &done), 0);
	assert_int_equal(done, 4086);
	assert_memory_equal(buf, zero, done);
	vfs_close(f);
	assert_int_equal(vfs_unmount(sb), 0);
}

/* ---- what the module is told, in order ---- */

static const struct inode_ops *told_ops;
static char told[64];
static int alloc_err;

static void tell(char what)
{
	size_t n = strlen(told);

	assert_true(n + 1 < sizeof(told));
	told[n] = what;
	told[n + 1] = 0;
}

static int tell_alloc(struct inode *inode, u64 off, u64 len, struct mapping *out)
{
	tell('a');
	return alloc_err ? alloc_err : told_ops->alloc(inode, off, len, out);
}

static int tell_commit(struct inode *inode, const struct mapping *m, u64 size)
{
	tell('c');
	return told_ops->commit(inode, m, size);
}

static int tell_unmap(struct inode *inode, u64 off, u64 len)
{
	tell('u');
	return told_ops->unmap(inode, off, len);
}

static int tell_prealloc(struct inode *inode, u64 off, u64 len)
{
	tell('p');
	return told_ops->prealloc(inode, off, len);
}

static int tell_set_size(struct inode *inode, u64 size)
{
	tell('s');
	return told_ops->set_size(inode, size);
}

static void told_is(const char *want)
{
	assert_string_equal(told, want);
	told[0] = 0;
}

/* A file gets shorter by its size first, and longer by its size last: what a crash in between leaves is in data.c. */
static void order_of_changes(void **state)
{
	struct super_block *sb = mount_mem(1 << 20);
	struct inode_ops ops;
	u8 buf[12288];
	struct file *f;
	u64 done;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
	assert_int_equal(vfs_file_write(f, buf, sizeof(buf), &done), 0);
	told_ops = f->inode->ops;
	ops = *told_ops;
	ops.alloc = tell_alloc;
	ops.commit = tell_commit;
	ops.unmap = tell_unmap;
	ops.prealloc = tell_prealloc;
	ops.set_size = tell_set_size;
	f->inode->ops = &ops;
	told_is("");
	assert_int_equal(vfs_truncate(f->inode, 5000), 0);
	told_is("sacu");
	assert_int_equal(vfs_truncate(f->inode, 5000), 0);
	told_is("su");
	assert_int_equal(vfs_truncate(f->inode, 4096), 0);
	told_is("su");
	assert_int_equal(vfs_truncate(f->inode, 100), 0);
	told_is("sacu");
	assert_int_equal(vfs_truncate(f->inode, 9000), 0);
	told_is("acs");
	assert_int_equal(vfs_fallocate(f->inode, 0, 0, 10000), 0);
	told_is("pps"); /* asked, promised */
	assert_int_equal(vfs_write(f->inode, 0, buf, 10000, WRITE_SYNC, &done), 0);
	told[0] = 0;
	assert_int_equal(vfs_fallocate(f->inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 9000), 0);
	told_is("acacu");
	/* The zeros cannot be written: the module is told of the rest all the same. */
	alloc_err = -EIO;
	assert_int_equal(vfs_truncate(f->inode, 50), -EIO);
	told_is("sau");
	assert_int_equal(atomic_load(&f->inode->size_bytes), 50);
	alloc_err = 0;
	assert_int_equal(vfs_truncate(f->inode, 4096), 0);
	assert_int_equal(vfs_read(f->inode, 50, buf, 4096, &done), 0);
	for (u64 i = 0; i < done; i++)
		assert_int_equal(buf[i], 0);
	f->inode->ops = told_ops;
	vfs_close(f);
	assert_int_equal(vfs_unmount(sb), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_against_shadow),
					    cmocka_unit_test(full_volume), cmocka_unit_test(tail_stays_dark),
					    cmocka_unit_test(order_of_changes) };

	return cmocka_run_group_tests_name("vfs/data", tests, NULL, NULL);
}
