/* Quota files: what is made is read back; what is damaged is found, and what else is there still read. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct bytes {
	u8 *p;
	u64 len;
	u64 hole; /* a block that cannot be read; 0: none */
};

static int read_bytes(void *ctx, u64 off, void *buf, u64 len)
{
	const struct bytes *b = ctx;

	assert_true(off <= b->len && len <= b->len - off);
	if (b->hole && off / EXT4_QUOTA_BLOCK == b->hole)
		return -EIO;
	memcpy(buf, b->p + off, len);
	return 0;
}

static void parse(struct bytes *b, struct ext4_quota_list *out)
{
	struct ext4_quota_source src = {
		.read = read_bytes, .ctx = b, .size_bytes = b->len, .blocks_max = 1u << 20
	};

	assert_int_equal(ext4_quota_parse(&src, QUOTA_GROUP, out), 0);
}

/* n records whose ids are `step` apart. */
static struct bytes make(u32 n, u32 step)
{
	struct ext4_quota_list l = { .space_grace_sec = 11, .inodes_grace_sec = 12 };
	struct bytes b = { 0 };

	for (u32 i = 0; i < n; i++) {
		struct quota q = { .id = i * step, .space_bytes = i * 4096ull, .inodes_hard = i };

		assert_int_equal(ext4_quota_list_add(&l, &q), 0);
	}
	assert_int_equal(ext4_quota_pack(&l, QUOTA_GROUP, &b.p, &b.len), 0);
	ext4_quota_list_free(&l);
	return b;
}

static void read_back(void **state)
{
	static const u32 counts[] = { 0, 1, 13, 14, 15, 28, 500, 5000 };

	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(counts) * 2; k++) {
		u32 n = counts[k / 2], step = k % 2 ? 858993 : 1;
		struct bytes b = make(n, step);
		const struct ext4_disk_quota_head *h = (void *)b.p;
		struct ext4_quota_list l;

		parse(&b, &l);
		assert_null(l.bad);
		assert_true(l.is_one);
		assert_int_equal(l.count, n);
		assert_int_equal(l.space_grace_sec, 11);
		assert_int_equal(l.inodes_grace_sec, 12);
		assert_int_equal(le32_get(h->blocks) * 1024ull, b.len);
		assert_int_equal(!!le32_get(h->free_leaf), n % EXT4_QUOTA_PER_LEAF != 0);
		for (u32 i = 0; i < n; i++) {
			assert_int_equal(l.quota[i].id, i * step);
			assert_int_equal(l.quota[i].space_bytes, i * 4096ull);
			assert_int_equal(l.quota[i].inodes_hard, i);
			assert_int_equal(l.quota[i].inodes_until_sec, 0);
		}
		ext4_quota_list_free(&l);
		free(b.p);
	}
}

static struct ext4_disk_quota_node *node_at(struct bytes *b, u32 blk)
{
	return (void *)(b->p + (size_t)blk * EXT4_QUOTA_BLOCK);
}

enum damage { MAGIC, VERSION, SHORT, NO_TREE, FREE_LEAF, OUT, TWICE, LOST, COUNT, MOVED, UNREAD, DAMAGES };

/* Of a file with 40 records: 0 head, 1 root, 2 leaf, 3 to 5 nodes, 6 and 7 leaves. */
static void break_it(struct bytes *b, enum damage how)
{
	struct ext4_disk_quota_head *h = (void *)b->p;
	struct ext4_disk_quota_leaf *leaf = (void *)node_at(b, 2);

	switch (how) {
	case MAGIC:
		h->magic = le32_put(EXT4_QUOTA_MAGIC_USER);
		return;
	case VERSION:
		h->version = le32_put(2);
		return;
	case SHORT:
		h->blocks = le32_put(le32_get(h->blocks) + 1);
		return;
	case NO_TREE:
		h->blocks = le32_put(1);
		return;
	case FREE_LEAF:
		h->free_leaf = h->blocks;
		return;
	case OUT:
		node_at(b, 5)->child[39] = h->blocks;
		return;
	case TWICE:
		node_at(b, 3)->child[7] = le32_put(5);
		return;
	case LOST:
		node_at(b, 5)->child[39] = le32_put(0);
		return;
	case COUNT:
		leaf->count = le16_put(13);
		return;
	case MOVED:
		node_at(b, 5)->child[39] = le32_put(2);
		return;
	default:
		b->hole = 7;
	}
}

static void damaged(void **state)
{
	static const u32 left[DAMAGES] = { [SHORT] = 40, [FREE_LEAF] = 40, [OUT] = 39,   [TWICE] = 40,
					   [LOST] = 39,  [COUNT] = 40,     [MOVED] = 39, [UNREAD] = 28 };

	(void)state;
	for (u32 how = 0; how < DAMAGES; how++) {
		struct bytes b = make(40, 1);
		struct ext4_quota_list l;

		assert_int_equal(b.len, 8 * EXT4_QUOTA_BLOCK);
		break_it(&b, how);
		parse(&b, &l);
		if (!l.bad || l.count != left[how])
			fail_msg("damage %u: %s, %u records", how, l.bad ? l.bad : "nothing", l.count);
		assert_int_equal(l.is_one, how != MAGIC);
		ext4_quota_list_free(&l);
		free(b.p);
	}
}

/* A tree in which every place leads somewhere ends all the same. */
static void endless(void **state)
{
	struct bytes b = make(40, 1);
	struct ext4_quota_list l;

	(void)state;
	for (u32 blk = 1; blk < 8; blk++)
		for (u32 i = 0; i < EXT4_QUOTA_FANOUT; i++)
			node_at(&b, blk)->child[i] = le32_put(1 + (blk + i) % 7);
	parse(&b, &l);
	assert_non_null(l.bad);
	ext4_quota_list_free(&l);
	free(b.p);
}

static void random_bytes(void **state)
{
	const char *given = getenv("SEED");
	u32 seed = given ? (u32)strtoul(given, NULL, 0) : (u32)time(NULL), found = 0;

	(void)state;
	printf("seed %u\n", seed);
	srandom(seed);
	for (u32 run = 0; run < 2000; run++) {
		struct bytes b = make(40, 1);
		struct ext4_quota_list l;

		for (u32 k = 0; k < 1 + run % 7; k++)
			b.p[(u64)random() % b.len] ^= (u8)(1 + random() % 255);
		parse(&b, &l);
		assert_true(l.count <= 7 * EXT4_QUOTA_PER_LEAF);
		found += !!l.bad;
		ext4_quota_list_free(&l);
		free(b.p);
	}
	assert_true(found > 500);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_back),
		cmocka_unit_test(damaged),
		cmocka_unit_test(endless),
		cmocka_unit_test(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
