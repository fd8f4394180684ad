/*
 * What the tests of the journal share: a volume of VOLUME blocks of 1 KiB with a log behind it, on one device in memory that records
 * what is written; and making the volume of what a crash would leave of the record.
 */
#ifndef JTEST_H
#define JTEST_H

#include "jbd2/jbd2.h"

#include "lib/crc.h"
#include "lib/disk.h"
#include "lib/os.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BLOCK  1024u
#define VOLUME 256u /* blocks */
#define LOG_AT VOLUME

struct kind {
	const char *name;
	u32 compat, incompat;
};

static const struct kind kinds[] __unused = {
	{ "plain", 0, 0 },
	{ "plain 64", 0, JBD2_INCOMPAT_64BIT },
	{ "v1", JBD2_COMPAT_CHECKSUM, 0 },
	{ "v1 64 async", JBD2_COMPAT_CHECKSUM, JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_ASYNC_COMMIT },
	{ "v2", 0, JBD2_INCOMPAT_CSUM_V2 },
	{ "v2 64", 0, JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_64BIT },
	{ "v3", 0, JBD2_INCOMPAT_CSUM_V3 },
	{ "v3 64", 0, JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT },
};

static inline u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* $SEED, or one that is new. */
static inline u64 test_seed(void)
{
	const char *s = getenv("SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns() | 1;

	print_message("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static inline void put32(void *p, u32 v)
{
	be32 x = be32_put(v);

	memcpy(p, &x, 4);
}

struct jt {
	struct kind kind;
	u32 log_blocks;
	struct blkdev *mem, *dev; /* dev: the recorder over mem */
	struct bcache *cache;
	struct health health;
	struct jbd2_where where;
	struct jbd2_config config;
	struct jbd2 *j;
};

static inline void jt_super(struct jt *t, u32 sequence)
{
	u8 *sb = calloc(1, BLOCK);

	put32(sb, 0xc03b3998);
	put32(sb + 4, 4);
	put32(sb + 0xc, BLOCK);
	put32(sb + 0x10, t->log_blocks);
	put32(sb + 0x14, 1);
	put32(sb + 0x18, sequence);
	put32(sb + 0x24, t->kind.compat);
	put32(sb + 0x28, t->kind.incompat);
	memcpy(sb + 0x30, "0123456789abcdef", 16);
	put32(sb + 0x40, 1);
	if (t->kind.incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3)) {
		sb[0x50] = 4;
		put32(sb + 0xfc, crc32c(~0u, sb, 1024));
	}
	assert_int_equal(blkdev_write(t->mem, (u64)LOG_AT * BLOCK, sb, BLOCK, 0), 0);
	free(sb);
}

/* Opens and starts the journal of t->dev, which has an empty log. */
static inline void jt_start(struct jt *t)
{
	assert_int_equal(bcache_new(1 << 20, &t->cache), 0);
	assert_int_equal(bcache_attach(t->cache, t->dev, BLOCK), 0);
	t->dev->health = &t->health;
	t->where = (struct jbd2_where){
		.dev = t->dev, .block_bytes = BLOCK, .blocks = t->log_blocks, .first_blk = LOG_AT
	};
	assert_int_equal(jbd2_open(&t->where, &t->health, &t->j), 0);
	t->config.target = t->dev;
	assert_int_equal(jbd2_start(t->j, &t->config), 0);
}

static inline void jt_new(struct jt *t, const struct kind *kind, u32 log_blocks, u32 sequence)
{
	t->kind = *kind;
	t->log_blocks = log_blocks;
	health_init(&t->health, "journal");
	assert_int_equal(dev_mem_new("m", (u64)(VOLUME + log_blocks) * BLOCK, BLOCK, &t->mem), 0);
	jt_super(t, sequence);
	assert_int_equal(dev_fault_new(t->mem, true, &t->dev), 0);
	jt_start(t);
}

/* Without a stop: as a crash would have it. */
static inline void jt_drop(struct jt *t)
{
	jbd2_close(t->j);
	t->j = NULL;
	assert_int_equal(bcache_detach(t->dev, true), 0);
	bcache_free(t->cache);
	t->cache = NULL;
}

static inline void jt_free(struct jt *t)
{
	if (t->cache)
		jt_drop(t);
	blkdev_put(t->dev);
	blkdev_put(t->mem);
	health_fini(&t->health);
}

/* Applies the log of the device to it, and marks it empty. */
static inline void jt_recover(struct jt *t, struct blkdev *dev, struct jbd2_recovery *r)
{
	struct jbd2_where where = t->where;
	struct jbd2 *j;

	where.dev = dev;
	assert_int_equal(jbd2_open(&where, NULL, &j), 0);
	assert_int_equal(jbd2_recover(j, dev, r), 0);
	assert_int_equal(jbd2_mark_empty(j, dev, r->end), 0);
	assert_false(jbd2_info(j)->needs_recovery);
	jbd2_close(j);
}

static inline struct buffer_head *jt_read(struct jt *t, u64 blk)
{
	struct buffer_head *bh;

	assert_int_equal(bh_read(t->dev, blk, NULL, NULL, &bh), 0);
	return bh;
}

/* The block is full of `word` from now on, within the handle. */
static inline int jt_try_put(struct jt *t, struct jbd2_handle *h, u64 blk, u64 word)
{
	struct buffer_head *bh = jt_read(t, blk);
	int err = jbd2_access(h, bh);

	for (u32 i = 0; !err && i < BLOCK / 8; i++)
		memcpy((u8 *)bh->data + i * 8, &word, 8);
	if (!err)
		jbd2_dirty(h, bh);
	bh_put(bh);
	return err;
}

static inline void jt_put(struct jt *t, struct jbd2_handle *h, u64 blk, u64 word)
{
	assert_int_equal(jt_try_put(t, h, blk, word), 0);
}

/* What a block of the device is full of. */
static inline u64 jt_word(struct blkdev *dev, u64 blk)
{
	u64 word[BLOCK / 8];

	assert_int_equal(blkdev_read(dev, blk * BLOCK, word, BLOCK), 0);
	for (u32 i = 1; i < BLOCK / 8; i++)
		assert_true(word[i] == word[0]);
	return word[0];
}

#endif
