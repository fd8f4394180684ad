/*
 * Fast-commit areas made by hand: what is whole and follows the last transaction is read, the first thing that is
 * wrong is the end, and no bytes whatsoever make the reader leave the area.
 */
#include "ext4/ext4.h"

#include "lib/crc.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define BLOCK  1024u
#define LOG    1400u
#define FC     9u /* of which one is nobody's */
#define TID    77u
#define FC_AT  (LOG - FC + 1)
#define ROUNDS 20000

struct area {
	struct ext4_super es;
	struct blkdev *dev;
	struct jbd2 *journal;
	u8 bytes[(FC - 1) * BLOCK];
	u32 at;  /* where the next record goes */
	u32 crc; /* since the last tail */
};

static void put32(u8 *p, u32 v)
{
	be32 x = be32_put(v);

	memcpy(p, &x, 4);
}

static int setup(void **state)
{
	struct area *a = calloc(1, sizeof(*a));
	struct jbd2_where where = { .block_bytes = BLOCK, .blocks = LOG };
	u8 sb[BLOCK] = { 0 };

	put32(sb, 0xc03b3998);
	put32(sb + 4, 4);
	put32(sb + 0xc, BLOCK);
	put32(sb + 0x10, LOG);
	put32(sb + 0x14, 1);
	put32(sb + 0x18, TID);
	put32(sb + 0x1c, 1);
	put32(sb + 0x28, JBD2_INCOMPAT_FAST_COMMIT);
	put32(sb + 0x54, FC);
	assert_int_equal(dev_mem_new("m", LOG * BLOCK, BLOCK, &a->dev), 0);
	assert_int_equal(blkdev_write(a->dev, 0, sb, BLOCK, 0), 0);
	where.dev = a->dev;
	assert_int_equal(jbd2_open(&where, NULL, &a->journal), 0);
	a->es.vfs.block_bytes = BLOCK;
	a->es.inode_bytes = 256;
	*state = a;
	return 0;
}

static int teardown(void **state)
{
	struct area *a = *state;

	jbd2_close(a->journal);
	blkdev_put(a->dev);
	free(a);
	return 0;
}

static void raw(struct area *a, u16 tag, const void *value, u32 len, u32 summed)
{
	struct ext4_disk_fc_tl tl = { le16_put(tag), le16_put((u16)len) };

	memcpy(a->bytes + a->at, &tl, sizeof(tl));
	if (value)
		memcpy(a->bytes + a->at + sizeof(tl), value, MIN(len, summed));
	a->crc = crc32c(a->crc, a->bytes + a->at, sizeof(tl) + summed);
	a->at += (u32)sizeof(tl) + len;
}

static u32 room(const struct area *a)
{
	return BLOCK - a->at % BLOCK;
}

/* Padded to the next block when it does not fit beside a tail. */
static void put(struct area *a, u16 tag, const void *value, u32 len)
{
	if (room(a) < 4 + len + 12)
		raw(a, EXT4_FC_TAG_PAD, NULL, room(a) - 4, room(a) - 4);
	raw(a, tag, value, len, len);
}

static void head(struct area *a, u32 features, u32 tid)
{
	struct ext4_disk_fc_head h = { le32_put(features), le32_put(tid) };

	put(a, EXT4_FC_TAG_HEAD, &h, sizeof(h));
}

static void tail(struct area *a, u32 tid)
{
	struct ext4_disk_fc_tail t = { .tid = le32_put(tid) };
	u32 at = a->at;

	raw(a, EXT4_FC_TAG_TAIL, &t, room(a) - 4, 4);
	t.crc = le32_put(a->crc);
	memcpy(a->bytes + at + 4, &t, sizeof(t));
	a->crc = 0;
}

static void name(struct area *a, u16 tag, u32 parent, u32 ino, const char *s, u32 len)
{
	u8 v[8 + 255];
	struct ext4_disk_fc_name n = { le32_put(parent), le32_put(ino) };

	memcpy(v, &n, 8);
	memcpy(v + 8, s, len);
	put(a, tag, v, 8 + len);
}

static int load(struct area *a, struct ext4_fc_log *log)
{
	assert_int_equal(blkdev_write(a->dev, FC_AT * BLOCK, a->bytes, sizeof(a->bytes), 0), 0);
	return ext4_fc_load(&a->es, a->journal, TID, log);
}

static void expect(struct area *a, u32 commits, u32 records)
{
	struct ext4_fc_log log;

	assert_int_equal(load(a, &log), 0);
	assert_int_equal(log.commits, commits);
	assert_int_equal(log.count, records);
	ext4_fc_free(&log);
}

static void test_none(void **state)
{
	struct area *a = *state;

	expect(a, 0, 0);
	name(a, EXT4_FC_TAG_LINK, 2, 12, "no-head", 7);
	tail(a, TID);
	expect(a, 0, 0);
}

static void test_two_commits(void **state)
{
	struct area *a = *state;
	struct ext4_fc_log log;
	u8 inode[4 + 160] = { 12 };
	struct ext4_disk_fc_del_range del = { le32_put(12), le32_put(5), le32_put(6) };

	head(a, 0, TID);
	put(a, EXT4_FC_TAG_INODE, inode, sizeof(inode));
	name(a, EXT4_FC_TAG_CREAT, 2, 12, "a", 1);
	tail(a, TID);
	put(a, EXT4_FC_TAG_DEL_RANGE, &del, sizeof(del));
	for (u32 i = 0; i < 8; i++) {
		char s[255];

		memset(s, 'a' + (int)i, sizeof(s));
		name(a, EXT4_FC_TAG_UNLINK, 2, 100 + i, s, 255);
	}
	tail(a, TID);
	assert_int_equal(load(a, &log), 0);
	assert_int_equal(log.commits, 2);
	assert_int_equal(log.count, 11);
	assert_int_equal(log.record[0].tag, EXT4_FC_TAG_INODE);
	assert_int_equal(log.record[0].len, sizeof(inode));
	assert_int_equal(log.record[2].tag, EXT4_FC_TAG_DEL_RANGE);
	assert_memory_equal(ext4_fc_value(&log, 2), &del, sizeof(del));
	for (u32 i = 0; i < 8; i++) {
		const u8 *v = ext4_fc_value(&log, 3 + i);

		assert_int_equal(log.record[3 + i].len, 8 + 255);
		assert_int_equal(v[4], 100 + i);
		assert_int_equal(v[8 + 254], 'a' + i);
	}
	ext4_fc_free(&log);
}

/* Whatever byte of the second commit is another: the first stays, the second does not count. */
static void test_second_torn(void **state)
{
	struct area *a = *state;
	u32 second, end;

	head(a, 0, TID);
	name(a, EXT4_FC_TAG_CREAT, 2, 12, "a", 1);
	tail(a, TID);
	second = a->at;
	name(a, EXT4_FC_TAG_LINK, 2, 12, "bcd", 3);
	end = a->at + 12;
	tail(a, TID);
	expect(a, 2, 2);
	for (u32 i = second; i < end; i++) {
		a->bytes[i] ^= 0x40;
		/* What the tail leaves of the block may be anything; the length says only where that ends. */
		if (i == end - 10 || i == end - 9)
			;
		else
			expect(a, 1, 1);
		a->bytes[i] ^= 0x40;
	}
	expect(a, 2, 2);
}

static void test_other_transaction(void **state)
{
	struct area *a = *state;

	head(a, 0, TID - 1);
	name(a, EXT4_FC_TAG_CREAT, 2, 12, "a", 1);
	tail(a, TID - 1);
	expect(a, 0, 0);
	/* The remains of a former round behind a good one. */
	memset(a->bytes, 0, sizeof(a->bytes));
	a->at = a->crc = 0;
	head(a, 0, TID);
	name(a, EXT4_FC_TAG_CREAT, 2, 12, "a", 1);
	tail(a, TID);
	name(a, EXT4_FC_TAG_CREAT, 2, 13, "b", 1);
	tail(a, TID - 1);
	name(a, EXT4_FC_TAG_CREAT, 2, 14, "c", 1);
	tail(a, TID);
	expect(a, 1, 1);
}

static void test_features(void **state)
{
	struct area *a = *state;
	struct ext4_fc_log log;

	head(a, 1, TID);
	tail(a, TID);
	assert_int_equal(load(a, &log), -EOPNOTSUPP);
}

/* The area full to its last byte. */
static void test_full(void **state)
{
	struct area *a = *state;
	u32 n = 0;

	head(a, 0, TID);
	while (a->at < sizeof(a->bytes) - BLOCK || room(a) > 300) {
		name(a, EXT4_FC_TAG_LINK, 2, 12, "12345678", 8);
		n++;
	}
	tail(a, TID);
	assert_int_equal(a->at, sizeof(a->bytes));
	expect(a, 1, n);
}

static u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Random bytes that look like records, with sums that are right: under the sanitizers this must stay inside. */
static void test_hostile(void **state)
{
	struct area *a = *state;
	u64 seed = 20240607;

	print_message("seed %llu\n", (unsigned long long)seed);
	for (u32 i = 0; i < ROUNDS / 20; i++) {
		struct ext4_fc_log log;

		memset(a->bytes, 0, sizeof(a->bytes));
		a->at = a->crc = 0;
		head(a, 0, TID);
		while (a->at < sizeof(a->bytes) - 2 * BLOCK) {
			u32 len = (u32)(rnd(&seed) % (room(a) > 16 ? room(a) - 16 : 1));

			put(a, (u16)(rnd(&seed) % 8), NULL, len);
			if (rnd(&seed) % 4 == 0)
				tail(a, TID);
			if (rnd(&seed) % 64 == 0)
				a->bytes[rnd(&seed) % a->at] = (u8)rnd(&seed);
		}
		assert_int_equal(load(a, &log), 0);
		for (u32 r = 0; r < log.count; r++)
			assert_true(log.record[r].at + log.record[r].len <= sizeof(a->bytes));
		ext4_fc_free(&log);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_none),        TEST(test_two_commits),
		TEST(test_second_torn), TEST(test_other_transaction),
		TEST(test_features),    TEST(test_full),
		TEST(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
