/* fallocate: the modes, sizes and zeros. */
#include "conform/conform.h"

#define KEEP  FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO  FALLOC_FL_ZERO_RANGE

static void allocate(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);

	OK_OR_SKIP(fallocate, f, 0, 0, 100000);
	EQ(100000, STAT("f").size);
	TRUE(STAT("f").blocks_512 * 512 >= 100000);
	t_expect_zeros(t, "f", 0, 100000);
	OK(fallocate, f, 0, 1000, 1000);
	EQ(100000, STAT("f").size);
	OK(fallocate, f, 0, 200000, 1000);
	EQ(201000, STAT("f").size);
	/* What is there stays. */
	FILL("g", 10000);
	f = OPEN("g", O_RDWR, 0);
	OK(fallocate, f, 0, 5000, 50000);
	t_expect_pattern(t, "g", 0, 10000);
	t_expect_zeros(t, "g", 10000, 45000);
	EQ(55000, STAT("g").size);
}

static void keep_size(struct t *t)
{
	struct fs_file *f;
	u64 blocks, done;

	FILL("f", 5000);
	f = OPEN("f", O_RDWR, 0);
	OK_OR_SKIP(fallocate, f, KEEP, 0, 200000);
	EQ(5000, STAT("f").size);
	blocks = STAT("f").blocks_512;
	TRUE(blocks * 512 >= 200000);
	OK(ftruncate, f, 150000);
	t_expect_pattern(t, "f", 0, 5000);
	t_expect_zeros(t, "f", 5000, 145000);
	OK(pwrite, f, 180000, "x", 1, &done);
	t_expect_zeros(t, "f", 150000, 30000);
	OK(ftruncate, f, 100);
	TRUE(STAT("f").blocks_512 < blocks);
}

static void punch(struct t *t)
{
	static const u32 range[][2] = { { 0, 4096 },     { 1, 1 },         { 100, 8000 },   { 4096, 4096 },
					{ 4000, 10000 }, { 8192, 40000 },  { 49000, 1000 }, { 49999, 1 },
					{ 0, 50000 },    { 10000, 999999 } };
	struct fs_file *f;

	for (u32 i = 0; i < ARRAY_SIZE(range); i++) {
		u32 off = range[i][0], end = MIN(off + range[i][1], 50000u);

		FILL("f", 50000);
		f = OPEN("f", O_RDWR, 0);
		OK_OR_SKIP(fallocate, f, PUNCH, off, range[i][1]);
		EQ(50000, STAT("f").size);
		t_expect_pattern(t, "f", 0, off);
		t_expect_zeros(t, "f", off, end - off);
		t_expect_pattern(t, "f", end, 50000 - end);
	}
	ERR(-EOPNOTSUPP, fallocate, f, FALLOC_FL_PUNCH_HOLE, 0, 100);
	OK(fallocate, f, PUNCH, 1 << 20, 100);
	EQ(50000, STAT("f").size);
}

static void punch_frees(struct t *t)
{
	struct fs_file *f;
	u64 before, pos;

	FILL("f", 1 << 20);
	f = OPEN("f", O_RDWR, 0);
	OK(fsync, f, false);
	before = STAT("f").blocks_512;
	OK_OR_SKIP(fallocate, f, PUNCH, 1 << 18, 1 << 19);
	TRUE(STAT("f").blocks_512 <= before - 1024 + 16);
	OK(seek, f, 0, SEEK_HOLE, &pos);
	EQ(1 << 18, pos);
	OK(seek, f, 1 << 18, SEEK_DATA, &pos);
	EQ((1 << 18) + (1 << 19), pos);
	/* Filled again. */
	DO(fs_write_all(t->fs, f, 300000, "abc", 3));
	t_expect_zeros(t, "f", 1 << 18, 300000 - (1 << 18));
	t_expect_zeros(t, "f", 300003, (3 << 18) - 300003);
}

static void zero_range(struct t *t)
{
	struct fs_file *f;

	FILL("f", 50000);
	f = OPEN("f", O_RDWR, 0);
	OK_OR_SKIP(fallocate, f, ZERO, 1000, 30000);
	EQ(50000, STAT("f").size);
	t_expect_pattern(t, "f", 0, 1000);
	t_expect_zeros(t, "f", 1000, 30000);
	t_expect_pattern(t, "f", 31000, 19000);
	OK(fallocate, f, ZERO | KEEP, 40000, 100000);
	EQ(50000, STAT("f").size);
	t_expect_zeros(t, "f", 40000, 10000);
	OK(fallocate, f, ZERO, 49000, 10000);
	EQ(59000, STAT("f").size);
	t_expect_pattern(t, "f", 31000, 9000);
	t_expect_zeros(t, "f", 40000, 19000);
}

static void refused(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);

	ERR(-EINVAL, fallocate, f, 0, 0, 0);
	ERR(-EINVAL, fallocate, f, 0, 1ull << 63, 10);
	ERR(-EINVAL, fallocate, f, 0, 10, 1ull << 63);
	f = OPEN("f", O_RDONLY, 0);
	ERR(-EBADF, fallocate, f, 0, 0, 10);
	EQ(0, STAT("f").size);
}

const struct conform_test conform_falloc[] = {
	{ "fallocate: allocates and grows", allocate },
	{ "fallocate: KEEP_SIZE", keep_size },
	{ "fallocate: PUNCH_HOLE", punch },
	{ "fallocate: PUNCH_HOLE frees", punch_frees },
	{ "fallocate: ZERO_RANGE", zero_range },
	{ "fallocate: refused", refused },
	{ NULL, NULL },
};
