/* File content: reads, writes, holes, truncation, and their edges. */
#include "conform/conform.h"

#include <stdlib.h>
#include <string.h>

static void read_edges(struct t *t)
{
	struct fs_file *f;
	u8 buf[100];
	u64 done;

	FILL("f", 50);
	f = OPEN("f", O_RDWR, 0);
	OK(pread, f, 40, buf, 100, &done);
	EQ(10, done);
	OK(pread, f, 50, buf, 100, &done);
	EQ(0, done);
	OK(pread, f, 1ull << 40, buf, 100, &done);
	EQ(0, done);
	OK(pread, f, 10, buf, 0, &done);
	EQ(0, done);
	OK(pwrite, f, 1000, buf, 0, &done);
	EQ(50, STAT("f").size);
	f = OPEN("f", O_WRONLY, 0);
	ERR(-EBADF, pread, f, 0, buf, 10, &done);
	f = OPEN("f", O_RDONLY, 0);
	ERR(-EBADF, pwrite, f, 0, buf, 10, &done);
	ERR(-EINVAL, ftruncate, f, 10);
}

static void write_patterns(struct t *t)
{
	static const u32 edges[] = { 1,    511,  512,   513,   1023,  1024,   4095,
				     4096, 4097, 65535, 65536, 65537, 1 << 20 };
	u32 max = 1 << 20;
	u8 *buf = malloc(max);
	struct fs_file *f;

	for (u32 i = 0; i < max; i++)
		buf[i] = t_byte(i);
	for (u32 i = 0; i < ARRAY_SIZE(edges); i++) {
		for (u32 k = 0; k < ARRAY_SIZE(edges); k++) {
			u32 off = edges[k] < max ? edges[k] : 0, len = MIN(edges[i], max - off);

			f = OPEN("f", O_CREAT | O_TRUNC | O_RDWR, 0644);
			t->opens--;
			int err = fs_write_all(t->fs, f, off, buf + off, len);
			fs_close(t->fs, f);
			DO(err);
			EQ(off + len, STAT("f").size);
			t_expect_zeros(t, "f", 0, off);
			t_expect_pattern(t, "f", off, len);
		}
	}
	free(buf);
}

static void overwrite(struct t *t)
{
	struct fs_file *f;
	u8 zero[5000] = { 0 };

	FILL("f", 100000);
	f = OPEN("f", O_RDWR, 0);
	DO(fs_write_all(t->fs, f, 12345, zero, sizeof(zero)));
	t_expect_pattern(t, "f", 0, 12345);
	t_expect_zeros(t, "f", 12345, 5000);
	t_expect_pattern(t, "f", 17345, 100000 - 17345);
	EQ(100000, STAT("f").size);
}

static void append(struct t *t)
{
	struct fs_file *a, *b;
	u64 done;

	TOUCH("f");
	a = OPEN("f", O_WRONLY | O_APPEND, 0);
	b = OPEN("f", O_WRONLY | O_APPEND, 0);
	for (int i = 0; i < 10; i++) {
		OK(pwrite, a, 0, "a", 1, &done);
		OK(pwrite, b, 0, "bb", 2, &done);
	}
	t_expect_content(t, "f", "abbabbabbabbabbabbabbabbabbabb");
	OK(ftruncate, a, 3);
	OK(pwrite, b, 100, "!", 1, &done);
	t_expect_content(t, "f", "abb!");
}

static void open_truncates(struct t *t)
{
	FILL("f", 5000);
	t_close(t, OPEN("f", O_WRONLY, 0));
	EQ(5000, STAT("f").size);
	t_close(t, OPEN("f", O_WRONLY | O_TRUNC, 0));
	EQ(0, STAT("f").size);
	EQ(0, STAT("f").blocks_512);
}

/* What was behind the end is zeros when the file grows again, to the byte. */
static void truncate_zeroes(struct t *t)
{
	static const u32 cuts[] = { 0, 1, 511, 512, 1000, 1024, 4095, 4096, 4097, 10000, 12288, 20000 };

	for (u32 i = 0; i < ARRAY_SIZE(cuts); i++) {
		FILL("f", 20000);
		OK(truncate, "f", cuts[i]);
		EQ(cuts[i], STAT("f").size);
		OK(truncate, "f", 30000);
		EQ(30000, STAT("f").size);
		t_expect_pattern(t, "f", 0, cuts[i]);
		t_expect_zeros(t, "f", cuts[i], 30000 - cuts[i]);
		OK(unlink, "f");
	}
	/* The same by a write beyond the end, and through a descriptor. */
	FILL("f", 3000);
	struct fs_file *f = OPEN("f", O_RDWR, 0);
	u64 done;
	OK(ftruncate, f, 1234);
	OK(pwrite, f, 9000, "x", 1, &done);
	t_expect_pattern(t, "f", 0, 1234);
	t_expect_zeros(t, "f", 1234, 9000 - 1234);
	OK(ftruncate, f, 0);
	OK(ftruncate, f, 9001);
	t_expect_zeros(t, "f", 0, 9001);
}

static void truncate_errors(struct t *t)
{
	struct fs_file f;

	OK(mkdir, "d", 0755);
	OK(mknod, "p", S_IFIFO | 0644, 0, 0);
	ERR(-EISDIR, truncate, "d", 0);
	ERR(-EINVAL, truncate, "p", 0);
	ERR(-ENOENT, truncate, "none", 0);
	FILL("f", 10);
	ERR(-EINVAL, truncate, "f", 1ull << 63);
	OK(symlink, "f", "l");
	OK(truncate, "l", 5);
	EQ(5, STAT("f").size);
	ERR(-ELOOP, open, "l", O_RDWR | O_NOFOLLOW, 0, &f);
}

static void truncate_frees(struct t *t)
{
	u64 left;

	FILL("f", 1 << 20);
	CALL(sync);
	TRUE(STAT("f").blocks_512 >= 2048);
	OK(truncate, "f", 4096);
	/* In one piece, however long that is. */
	TRUE(STAT("f").blocks_512 < 2048);
	left = STAT("f").blocks_512;
	OK(truncate, "f", 1ull << 30);
	EQ(left, STAT("f").blocks_512);
}

#define MiB (1ull << 20)

static void holes(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);
	u64 done, pos;

	/* data at 1 MiB and 3 MiB, a hole behind up to 5 MiB */
	OK(pwrite, f, 1 * MiB, "x", 1, &done);
	OK(pwrite, f, 3 * MiB, "y", 1, &done);
	OK(ftruncate, f, 5 * MiB);
	OK(fsync, f, false);
	OK(seek, f, 0, SEEK_DATA, &pos);
	TRUE(pos <= 1 * MiB && pos > 1 * MiB - 65536);
	OK(seek, f, 0, SEEK_HOLE, &pos);
	EQ(0, pos);
	OK(seek, f, 1 * MiB, SEEK_DATA, &pos);
	EQ(1 * MiB, pos);
	OK(seek, f, 1 * MiB, SEEK_HOLE, &pos);
	TRUE(pos > 1 * MiB && pos <= 1 * MiB + 65536);
	OK(seek, f, 2 * MiB, SEEK_DATA, &pos);
	TRUE(pos <= 3 * MiB && pos > 3 * MiB - 65536);
	ERR(-ENXIO, seek, f, 4 * MiB, SEEK_DATA, &pos);
	OK(seek, f, 4 * MiB, SEEK_HOLE, &pos);
	EQ(4 * MiB, pos);
	OK(seek, f, 5 * MiB - 1, SEEK_HOLE, &pos);
	EQ(5 * MiB - 1, pos);
	ERR(-ENXIO, seek, f, 5 * MiB, SEEK_DATA, &pos);
	ERR(-ENXIO, seek, f, 5 * MiB, SEEK_HOLE, &pos);
	ERR(-ENXIO, seek, f, 9 * MiB, SEEK_HOLE, &pos);
	TRUE(STAT("f").blocks_512 < 1024);
	t_expect_zeros(t, "f", 0, 1 * MiB);
	t_expect_zeros(t, "f", 1 * MiB + 1, 2 * MiB - 1);
	/* A file without hole ends in one. */
	FILL("g", 10000);
	f = OPEN("g", O_RDONLY, 0);
	OK(seek, f, 0, SEEK_HOLE, &pos);
	EQ(10000, pos);
	OK(seek, f, 9999, SEEK_DATA, &pos);
	EQ(9999, pos);
}

static void big_offsets(struct t *t)
{
	static const u64 at[] = { (1ull << 31) - 2, (1ull << 32) - 2, (1ull << 32) + 4096,
				  (1ull << 40) + 12345 };
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);
	u8 buf[4];
	u64 done, pos;
	int err;

	for (u32 i = 0; i < ARRAY_SIZE(at); i++) {
		OK(pwrite, f, at[i], "abcd", 4, &done);
		EQ(at[i] + 4, STAT("f").size);
	}
	for (u32 i = 0; i < ARRAY_SIZE(at); i++) {
		OK(pread, f, at[i], buf, 4, &done);
		TRUE(!memcmp(buf, "abcd", 4));
		OK(pread, f, at[i] - 4, buf, 4, &done);
		TRUE(!memcmp(buf, "\0\0\0", 4));
	}
	OK(fsync, f, false);
	OK(seek, f, 1ull << 33, SEEK_DATA, &pos);
	TRUE(pos <= at[3] && pos > at[3] - 65536);
	OK(ftruncate, f, 1ull << 32);
	OK(pread, f, (1ull << 32) - 2, buf, 4, &done);
	EQ(2, done);
	TRUE(!memcmp(buf, "ab", 2));
	/* Some file systems of the kernel do reach that far. */
	err = CALL(pwrite, f, (1ull << 63) - 4096, "x", 1, &done);
	TRUE(err == -EFBIG || !err);
	EQ(err ? 1ull << 32 : (1ull << 63) - 4095, STAT("f").size);
}

static void copy_range(struct t *t)
{
	struct fs_file *a, *b;
	u64 done, total = 0;

	FILL("a", 300000);
	a = OPEN("a", O_RDWR, 0);
	b = OPEN("b", O_CREAT | O_RDWR, 0644);
	while (total < 299000) {
		OK_OR_SKIP(copy_range, a, 1000 + total, b, 1000 + total, 400000, &done);
		TRUE(done > 0);
		total += done;
	}
	EQ(299000, total);
	EQ(300000, STAT("b").size);
	t_expect_zeros(t, "b", 0, 1000);
	t_expect_pattern(t, "b", 1000, 299000);
	OK(copy_range, a, 300000, b, 0, 100, &done);
	EQ(0, done);
	/* Within one file: apart is fine, overlapping is not. */
	OK(copy_range, a, 0, a, 300000, 1000, &done);
	EQ(1000, done);
	ERR(-EINVAL, copy_range, a, 0, a, 500, 1000, &done);
	a = OPEN("a", O_WRONLY, 0);
	ERR(-EBADF, copy_range, a, 0, b, 0, 10, &done);
	a = OPEN("a", O_RDONLY, 0);
	ERR(-EBADF, copy_range, b, 0, a, 0, 10, &done);
}

static void many_small_writes(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);
	u8 b;

	/* Every third byte, then the others, backwards. */
	for (u32 i = 0; i < 9000; i += 3) {
		b = t_byte(i);
		DO(fs_write_all(t->fs, f, i, &b, 1));
	}
	for (u32 i = 9000; i-- > 0;) {
		b = t_byte(i);
		if (i % 3)
			DO(fs_write_all(t->fs, f, i, &b, 1));
	}
	t_expect_pattern(t, "f", 0, 9000);
	CALL(forget);
	t_expect_pattern(t, "f", 0, 9000);
}

static void fragments(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);
	u8 block[4096];
	u32 n = 800;

	for (u32 i = 0; i < n; i++) {
		u64 off = (u64)(i * 7 % n) * 8192;

		for (u32 k = 0; k < sizeof(block); k++)
			block[k] = t_byte(off + k);
		DO(fs_write_all(t->fs, f, off, block, sizeof(block)));
	}
	OK(fsync, f, true);
	for (u32 i = 0; i < n; i += 17) {
		t_expect_pattern(t, "f", (u64)i * 8192, 4096);
		if (i + 1 < n)
			t_expect_zeros(t, "f", (u64)i * 8192 + 4096, 4096);
	}
}

const struct conform_test conform_data[] = {
	{ "data: reading at the edges", read_edges },
	{ "data: writes of every alignment", write_patterns },
	{ "data: overwriting", overwrite },
	{ "data: O_APPEND", append },
	{ "data: O_TRUNC", open_truncates },
	{ "data: truncation zeroes what it cuts off", truncate_zeroes },
	{ "data: truncation refused", truncate_errors },
	{ "data: truncation frees", truncate_frees },
	{ "data: holes, SEEK_HOLE and SEEK_DATA", holes },
	{ "data: offsets beyond 32 and 40 bits", big_offsets },
	{ "data: copy_file_range", copy_range },
	{ "data: many small writes", many_small_writes },
	{ "data: fragments", fragments },
	{ NULL, NULL },
};
