/*
 * Logs made by hand, of every kind, replayed: what must be applied is, what must not is not, and broken ones end
 * where the kernel ends. The builder below writes the format with its own code.
 */
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
#include <time.h>
#include <cmocka.h>

#define BLOCK    1024u
#define LOG_AT   2000u /* the log's place on the device */
#define BLKS     60u   /* of the volume, in random logs */
#define FC_TOTAL 1400u

static u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

struct kind {
	const char *name;
	u32 compat, incompat;
};

static const struct kind kinds[] = {
	{ "plain", 0, JBD2_INCOMPAT_REVOKE },
	{ "plain 64", 0, JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT },
	{ "v1", JBD2_COMPAT_CHECKSUM, JBD2_INCOMPAT_REVOKE },
	{ "v1 64 async", JBD2_COMPAT_CHECKSUM,
	  JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_ASYNC_COMMIT },
	{ "v2", 0, JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_CSUM_V2 },
	{ "v2 64", 0, JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_64BIT },
	{ "v3", 0, JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_CSUM_V3 },
	{ "v3 64", 0, JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT },
};

/* ---- the builder ---- */

struct log {
	struct kind kind;
	struct blkdev *dev;
	u32 blocks, first, end, start, sequence;
	u8 uuid[16];
	u8 *bytes; /* of the log; put to the device by log_put */
	u32 at;    /* next block */
	u32 tid;
	u32 crc;
	u32 seed;
	u64 time;
	struct health health;
};

static void put32(void *p, u32 v)
{
	be32 x = be32_put(v);

	memcpy(p, &x, 4);
}

static bool has_csum(const struct log *l)
{
	return l->kind.incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
}

static void log_super(struct log *l)
{
	u8 *sb = l->bytes;

	memset(sb, 0, BLOCK);
	put32(sb, 0xc03b3998);
	put32(sb + 4, 4);
	put32(sb + 0xc, BLOCK);
	put32(sb + 0x10, l->blocks);
	put32(sb + 0x14, l->first);
	put32(sb + 0x18, l->sequence);
	put32(sb + 0x1c, l->start);
	put32(sb + 0x24, l->kind.compat);
	put32(sb + 0x28, l->kind.incompat);
	memcpy(sb + 0x30, l->uuid, 16);
	put32(sb + 0x40, 1);
	if (has_csum(l)) {
		sb[0x50] = 4;
		put32(sb + 0xfc, crc32c(~0u, sb, 1024));
	}
}

static void log_new(struct log *l, const struct kind *kind, u32 blocks, u32 start, u32 sequence)
{
	memset(l, 0, sizeof(*l));
	l->kind = *kind;
	l->blocks = blocks;
	l->first = 1;
	l->end = kind->incompat & JBD2_INCOMPAT_FAST_COMMIT ? blocks - 256 : blocks;
	l->at = l->start = start;
	l->tid = l->sequence = sequence;
	l->crc = ~0u;
	l->time = 1000000;
	memcpy(l->uuid, "0123456789abcdef", 16);
	l->seed = crc32c(~0u, l->uuid, 16);
	l->bytes = calloc(blocks, BLOCK);
	assert_int_equal(dev_mem_new("m", (u64)(LOG_AT + blocks) * BLOCK, BLOCK, &l->dev), 0);
	health_init(&l->health, "log");
	log_super(l);
}

static void log_free(struct log *l)
{
	free(l->bytes);
	blkdev_put(l->dev);
	health_fini(&l->health);
}

static u8 *log_next(struct log *l)
{
	u8 *p = l->bytes + (u64)l->at * BLOCK;

	if (++l->at == l->end)
		l->at = l->first;
	memset(p, 0, BLOCK);
	return p;
}

static u8 *log_control(struct log *l, u32 type)
{
	u8 *p = log_next(l);

	put32(p, 0xc03b3998);
	put32(p + 4, type);
	put32(p + 8, l->tid);
	return p;
}

static void log_tail(struct log *l, u8 *p)
{
	if (has_csum(l))
		put32(p + BLOCK - 4, crc32c(l->seed, p, BLOCK));
}

struct image {
	u64 blk;
	u8 data[BLOCK];
};

/* One descriptor with n images; the first tag carries the UUID. */
static u8 *log_images(struct log *l, const struct image *im, u32 n)
{
	u8 *desc = log_control(l, 1), *tag = desc + 12, *copy[256];
	u32 bytes = 8;

	if (l->kind.incompat & JBD2_INCOMPAT_64BIT)
		bytes += 4;
	if (l->kind.incompat & JBD2_INCOMPAT_CSUM_V2)
		bytes += 2;
	if (l->kind.incompat & JBD2_INCOMPAT_CSUM_V3)
		bytes = 16;
	for (u32 i = 0; i < n; i++) {
		u32 flags = i ? 2 : 0, crc;
		be32 seq = be32_put(l->tid);

		copy[i] = log_next(l);
		memcpy(copy[i], im[i].data, BLOCK);
		if (!memcmp(copy[i], "\xc0\x3b\x39\x98", 4)) {
			memset(copy[i], 0, 4);
			flags |= 1;
		}
		if (i == n - 1)
			flags |= 8;
		crc = crc32c(crc32c(l->seed, &seq, 4), copy[i], BLOCK);
		put32(tag, (u32)im[i].blk);
		if (bytes == 16) {
			put32(tag + 4, flags);
			put32(tag + 8, (u32)(im[i].blk >> 32));
			put32(tag + 12, crc);
		} else {
			tag[6] = 0;
			tag[7] = (u8)flags;
			if (l->kind.incompat & JBD2_INCOMPAT_CSUM_V2) {
				tag[4] = (u8)(crc >> 8);
				tag[5] = (u8)crc;
			}
			if (l->kind.incompat & JBD2_INCOMPAT_64BIT)
				put32(tag + 8, (u32)(im[i].blk >> 32));
		}
		tag += bytes;
		if (!i) {
			memcpy(tag, l->uuid, 16);
			tag += 16;
		}
	}
	assert_true(tag - desc <= BLOCK - 4);
	log_tail(l, desc);
	l->crc = crc32_be(l->crc, desc, BLOCK);
	for (u32 i = 0; i < n; i++)
		l->crc = crc32_be(l->crc, copy[i], BLOCK);
	return desc;
}

static u8 *log_revoke(struct log *l, const u64 *blks, u32 n)
{
	u8 *p = log_control(l, 5);
	u32 each = l->kind.incompat & JBD2_INCOMPAT_64BIT ? 8 : 4;

	put32(p + 12, 16 + n * each);
	for (u32 i = 0; i < n; i++) {
		if (each == 8)
			put32(p + 16 + i * 8, (u32)(blks[i] >> 32));
		put32(p + 16 + i * each + each - 4, (u32)blks[i]);
	}
	log_tail(l, p);
	return p;
}

static u8 *log_commit(struct log *l)
{
	u8 *p = log_control(l, 2);

	put32(p + 0x34, (u32)l->time);
	l->time += 5;
	if (l->kind.compat & JBD2_COMPAT_CHECKSUM) {
		p[12] = 1;
		p[13] = 4;
		put32(p + 16, l->crc);
	} else if (has_csum(l)) {
		put32(p + 16, crc32c(l->seed, p, BLOCK));
	}
	l->crc = ~0u;
	l->tid++;
	return p;
}

static int recover(struct log *l, struct jbd2_recovery *r)
{
	struct jbd2_where w = {
		.dev = l->dev, .block_bytes = BLOCK, .blocks = l->blocks, .first_blk = LOG_AT
	};
	struct jbd2 *j;
	int err;

	assert_int_equal(blkdev_write(l->dev, (u64)LOG_AT * BLOCK, l->bytes, (u64)l->blocks * BLOCK, 0), 0);
	memset(r, 0, sizeof(*r));
	err = jbd2_open(&w, &l->health, &j);
	if (err)
		return err;
	err = jbd2_recover(j, l->dev, r);
	jbd2_close(j);
	return err;
}

static u8 byte_of(struct log *l, u64 blk, u32 at)
{
	u8 b;

	assert_int_equal(blkdev_read(l->dev, blk * BLOCK + at, &b, 1), 0);
	return b;
}

static struct image image_of(u64 blk, u8 byte)
{
	struct image im = { .blk = blk };

	memset(im.data, byte, BLOCK);
	return im;
}

/* ---- cases ---- */

static void an_empty_log(void **state)
{
	struct jbd2_recovery r;
	struct log l;

	(void)state;
	log_new(&l, &kinds[7], 1024, 0, 17);
	assert_int_equal(recover(&l, &r), 0);
	assert_int_equal(r.first, 17);
	assert_int_equal(r.end, 17);
	log_free(&l);
}

/* Two transactions, wrapped at the end of the log, with an escaped block, and an incomplete third. */
static void two_and_a_half(void **state)
{
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct image im[3] = { image_of(10, 1), image_of(11, 2), image_of(12, 3) };
		struct jbd2_recovery r;
		struct log l;

		log_new(&l, &kinds[k], 64, 60, 0xffffffff);
		memcpy(im[1].data, "\xc0\x3b\x39\x98", 4);
		log_images(&l, im, 3);
		log_commit(&l);
		im[0] = image_of(10, 9);
		log_images(&l, im, 1);
		log_commit(&l);
		im[0] = image_of(10, 77);
		log_images(&l, im, 1);
		assert_int_equal(recover(&l, &r), 0);
		assert_int_equal(r.first, 0xffffffff);
		assert_int_equal(r.end, 1);
		assert_int_equal(r.replayed, 4);
		assert_false(r.bad_commit);
		assert_int_equal(byte_of(&l, 10, 5), 9);
		assert_int_equal(byte_of(&l, 11, 0), 0xc0);
		assert_int_equal(byte_of(&l, 11, 3), 0x98);
		assert_int_equal(byte_of(&l, 11, 4), 2);
		assert_int_equal(byte_of(&l, 12, 1023), 3);
		assert_int_equal(health_state(&l.health), HEALTH_OK);
		log_free(&l);
	}
	(void)state;
}

/* The awkward orders of journalling and revoking a block: see revoke.c. */
static void revokes(void **state)
{
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct image im[4] = { image_of(20, 1), image_of(21, 1), image_of(22, 1), image_of(23, 1) };
		u64 seven[] = { 20, 21, 22, 900 }, nine[] = { 22 };
		struct jbd2_recovery r;
		struct log l;

		log_new(&l, &kinds[k], 1024, 1, 5);
		log_images(&l, im, 4);
		log_commit(&l); /* 5 */
		log_images(&l, im, 1);
		log_revoke(&l, seven, 4);
		log_commit(&l); /* 6: 20 is journalled and revoked */
		im[1] = image_of(21, 2);
		im[2] = image_of(22, 2);
		log_images(&l, im + 1, 2);
		log_commit(&l); /* 7: 21, 22 again */
		log_revoke(&l, nine, 1);
		log_commit(&l); /* 8: 22 is gone for good */
		assert_int_equal(recover(&l, &r), 0);
		assert_int_equal(r.end, 9);
		assert_int_equal(byte_of(&l, 20, 0), 0);
		assert_int_equal(byte_of(&l, 21, 0), 2);
		assert_int_equal(byte_of(&l, 22, 0), 0);
		assert_int_equal(byte_of(&l, 23, 0), 1);
		assert_int_equal(r.replayed, 2);
		assert_int_equal(r.revoked, 5);
		log_free(&l);
	}
	(void)state;
}

static void a_bad_image(void **state)
{
	for (u32 k = 4; k < ARRAY_SIZE(kinds); k++) {
		struct image im[3] = { image_of(10, 1), image_of(11, 2), image_of(12, 3) };
		struct jbd2_recovery r;
		struct log l;

		log_new(&l, &kinds[k], 64, 1, 5);
		log_images(&l, im, 3);
		log_commit(&l);
		l.bytes[3 * BLOCK + 100] ^= 1; /* the second image */
		assert_int_equal(recover(&l, &r), -EUCLEAN);
		assert_int_equal(r.replayed, 2);
		assert_int_equal(byte_of(&l, 10, 0), 1);
		assert_int_equal(byte_of(&l, 11, 0), 0);
		assert_int_equal(byte_of(&l, 12, 0), 3);
		assert_int_equal(health_state(&l.health), HEALTH_CORRUPT);
		log_free(&l);
	}
	(void)state;
}

/* The second of three transactions has a bad sum in its commit (v1: in its data). */
static void a_bad_commit(void **state)
{
	for (u32 k = 2; k < ARRAY_SIZE(kinds); k++) {
		struct image im = image_of(10, 1);
		bool async = kinds[k].incompat & JBD2_INCOMPAT_ASYNC_COMMIT;
		struct jbd2_recovery r;
		struct log l;
		u8 *p;

		for (u32 third = 0; third < 2; third++) {
			log_new(&l, &kinds[k], 64, 1, 5);
			log_images(&l, &im, 1);
			log_commit(&l);
			im = image_of(10, 2);
			log_images(&l, &im, 1);
			p = log_commit(&l);
			p[0x10] ^= 1;
			im = image_of(10, 3);
			log_images(&l, &im, 1);
			if (third)
				log_commit(&l);
			im = image_of(10, 1);
			assert_int_equal(recover(&l, &r), 0);
			assert_int_equal(r.end, 6);
			assert_int_equal(byte_of(&l, 10, 0), 1);
			/* With asynchronous commits only a later commit proves that something is wrong. */
			assert_int_equal(r.bad_commit, async ? third : true);
			log_free(&l);
		}
		/* Older than its predecessor: what is left of a former round. */
		log_new(&l, &kinds[k], 64, 1, 5);
		log_images(&l, &im, 1);
		log_commit(&l);
		l.time -= 1000;
		log_images(&l, &im, 1);
		p = log_commit(&l);
		p[0x10] ^= 1;
		assert_int_equal(recover(&l, &r), 0);
		assert_int_equal(r.end, 6);
		assert_false(r.bad_commit);
		log_free(&l);
	}
	(void)state;
}

/* A commit block of which only the first sector reached the disk. */
static void a_torn_commit(void **state)
{
	struct image im = image_of(10, 1);
	struct jbd2_recovery r;
	struct log l;
	u8 *p;

	(void)state;
	log_new(&l, &kinds[7], 64, 1, 5);
	log_images(&l, &im, 1);
	p = log_commit(&l);
	memset(p + 512, 0xaa, 512);
	assert_int_equal(recover(&l, &r), 0);
	assert_int_equal(r.end, 6);
	assert_false(r.bad_commit);
	log_free(&l);
}

static void a_bad_descriptor(void **state)
{
	for (u32 k = 4; k < ARRAY_SIZE(kinds); k++) {
		for (u32 old = 0; old < 2; old++) {
			struct image im = image_of(10, 1);
			u64 blk = 10;
			struct jbd2_recovery r;
			struct log l;
			u8 *p;

			for (u32 revoke = 0; revoke < 2; revoke++) {
				log_new(&l, &kinds[k], 64, 1, 5);
				log_images(&l, &im, 1);
				log_commit(&l);
				if (old)
					l.time -= 1000;
				p = revoke ? log_revoke(&l, &blk, 1) : log_images(&l, &im, 1);
				p[900] ^= 1;
				log_commit(&l);
				/* Newer than its predecessor: the log is broken. Older: it has ended before. */
				assert_int_equal(recover(&l, &r), old ? 0 : -EUCLEAN);
				assert_int_equal(r.end, old ? 6 : 5);
				assert_int_equal(byte_of(&l, 10, 0), old ? 1 : 0);
				log_free(&l);
			}
		}
	}
	(void)state;
}

static void beyond_the_end(void **state)
{
	struct image im[2] = { image_of(1ull << 33, 1), image_of(11, 2) };
	struct jbd2_recovery r;
	struct log l;

	(void)state;
	log_new(&l, &kinds[7], 64, 1, 5);
	log_images(&l, im, 2);
	log_commit(&l);
	assert_int_equal(recover(&l, &r), -EUCLEAN);
	assert_int_equal(byte_of(&l, 11, 0), 2);
	log_free(&l);
}

/* Logs that never end: all descriptors, all revokes, all commits of one number, tags without a last one. */
static void endless(void **state)
{
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		for (u32 type = 0; type < 8; type++) {
			struct jbd2_recovery r;
			struct log l;
			int err;

			log_new(&l, &kinds[k], 1024, 1 + type * 100, 5);
			for (u32 i = 1; i < 1024; i++) {
				u8 *p = log_control(&l, type);

				memset(p + 12, type % 2 ? 0 : 0xff, BLOCK - 12);
				log_tail(&l, p);
			}
			err = recover(&l, &r);
			assert_true(err == 0 || err == -EUCLEAN);
			/* The same with numbers that count up. */
			for (u32 i = 1; i < 1024; i++)
				put32(l.bytes + i * BLOCK + 8, 5 + (i + 1023 - l.start) % 1023);
			err = recover(&l, &r);
			assert_true(err == 0 || err == -EUCLEAN);
			log_free(&l);
		}
	}
	(void)state;
}

/* A block whose hash, as hash_u64 has it, is h. */
static u64 unhash(u64 h)
{
	const u64 by[] = { 0x94d049bb133111ebull, 0xbf58476d1ce4e5b9ull };

	h ^= h >> 31 ^ h >> 62;
	for (u32 i = 0; i < 2; i++) {
		u64 inverse = by[i];
		u32 n = 27 + 3 * i;

		while (inverse * by[i] != 1)
			inverse *= 2 - by[i] * inverse;
		h *= inverse;
		h ^= h >> n ^ h >> 2 * n;
	}
	return h;
}

#define IMAGES_IN_ALL 4000u
#define REVOKES       (4000u * 100)

/* The time that many images take, with as many revokes again of other blocks, and one for each. aimed: all that have one place in a table. */
static u64 crowded_ns(bool aimed)
{
	struct timespec from, to;
	struct image im[40] = { { 0 } };
	struct jbd2_recovery r;
	u64 blk[100];
	struct log l;

	log_new(&l, &kinds[1], 9000, 1, 5);
	for (u64 i = 0; i < IMAGES_IN_ALL; i++) {
		im[i % 40].blk = aimed ? unhash(i << 24) : i;
		if (i % 40 == 39)
			log_images(&l, im, 40);
	}
	for (u64 i = REVOKES; i-- > 0;) {
		blk[i % 100] = aimed ? unhash(i << 24) : i;
		if (i % 100 == 0)
			log_revoke(&l, blk, 100);
	}
	log_commit(&l);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	assert_int_equal(recover(&l, &r), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	assert_int_equal(r.revoked, IMAGES_IN_ALL);
	log_free(&l);
	return (u64)(to.tv_sec - from.tv_sec) * 1000000000u + (u64)to.tv_nsec - (u64)from.tv_nsec;
}

/* A log whose blocks were chosen for it takes no longer than any other. */
static void crowded(void **state)
{
	u64 plain = crowded_ns(false), aimed = crowded_ns(true);

	(void)state;
	assert_true(aimed < 10 * plain + 50000000);
}

static void bad_superblocks(void **state)
{
	static const struct {
		u32 at, value;
		int err;
	} bad[] = { { 0, 0, -EUCLEAN },          { 4, 2, -EUCLEAN },       { 0xc, 4096, -EUCLEAN },
		    { 0x10, 65, -EUCLEAN },      { 0x10, 0, -EUCLEAN },    { 0x10, 0xffffffff, -EUCLEAN },
		    { 0x14, 0, -EUCLEAN },       { 0x14, 64, -EUCLEAN },   { 0x1c, 64, -EUCLEAN },
		    { 0x28, 0x40, -EOPNOTSUPP }, { 0x28, 0x18, -EUCLEAN }, { 0x2c, 1, -EOPNOTSUPP },
		    { 0x28, 0x21, -EUCLEAN },    { 0x14, 5, -EUCLEAN } };
	struct jbd2_recovery r;
	struct log l;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		log_new(&l, &kinds[0], 64, 1, 5);
		put32(l.bytes + bad[i].at, bad[i].value);
		assert_int_equal(recover(&l, &r), bad[i].err);
		log_free(&l);
	}
	log_new(&l, &kinds[7], 64, 1, 5);
	l.bytes[0x300] ^= 1;
	assert_int_equal(recover(&l, &r), -EUCLEAN);
	log_free(&l);
}

static int scattered(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	u32 *calls = priv;

	++*calls;
	/* Pairs of blocks, the pairs in falling order. */
	*blk = LOG_AT + 64 - 2 - lblk / 2 * 2 + lblk % 2;
	*count = 2 - lblk % 2;
	return 0;
}

static int hole(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	(void)priv;
	*blk = lblk < 2 ? LOG_AT + lblk : 0;
	*count = 1;
	return 0;
}

static void mapped(void **state)
{
	u32 calls = 0;
	struct jbd2_where w = { .block_bytes = BLOCK, .blocks = 64, .map = scattered, .priv = &calls };
	struct image im[3] = { image_of(10, 1), image_of(11, 2), image_of(12, 3) };
	struct jbd2_recovery r;
	struct jbd2 *j;
	struct log l;

	(void)state;
	log_new(&l, &kinds[5], 64, 61, 5);
	log_images(&l, im, 3);
	log_commit(&l);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(blkdev_write(l.dev, (LOG_AT + 62 - i / 2 * 2 + i % 2) * BLOCK,
					      l.bytes + i * BLOCK, BLOCK, 0),
				 0);
	w.dev = l.dev;
	assert_int_equal(jbd2_open(&w, &l.health, &j), 0);
	assert_true(jbd2_info(j)->needs_recovery);
	assert_int_equal(jbd2_recover(j, l.dev, &r), 0);
	assert_int_equal(r.replayed, 3);
	assert_int_equal(byte_of(&l, 12, 9), 3);
	assert_true(calls > 3);
	jbd2_close(j);
	/* A file with a hole. */
	w.map = hole;
	assert_int_equal(blkdev_write(l.dev, (u64)LOG_AT * BLOCK, l.bytes, 64 * BLOCK, 0), 0);
	assert_int_equal(jbd2_open(&w, &l.health, &j), 0);
	assert_int_equal(jbd2_recover(j, l.dev, &r), -EUCLEAN);
	jbd2_close(j);
	log_free(&l);
}

static void fast_commit_area(void **state)
{
	struct kind kind = { "fc", 0,
			     JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_FAST_COMMIT |
				     JBD2_INCOMPAT_REVOKE };
	struct image im[3] = { image_of(10, 1), image_of(11, 2), image_of(12, 3) };
	struct jbd2_where w = { .block_bytes = BLOCK, .blocks = FC_TOTAL, .first_blk = LOG_AT };
	struct jbd2_recovery r;
	struct jbd2 *j;
	struct log l;
	u8 b[BLOCK];

	(void)state;
	/* The log wraps before the area. */
	log_new(&l, &kind, FC_TOTAL, FC_TOTAL - 256 - 2, 5);
	log_images(&l, im, 3);
	log_commit(&l);
	memset(l.bytes + (FC_TOTAL - 255) * BLOCK, 0x5a, BLOCK);
	assert_int_equal(recover(&l, &r), 0);
	assert_int_equal(r.replayed, 3);
	assert_true(r.has_fast_commits);
	w.dev = l.dev;
	assert_int_equal(jbd2_open(&w, NULL, &j), 0);
	assert_int_equal(jbd2_info(j)->fc_count, 255);
	assert_int_equal(jbd2_fc_read(j, 0, b), 0);
	assert_int_equal(b[7], 0x5a);
	assert_int_equal(jbd2_fc_read(j, 254, b), 0);
	assert_int_equal(jbd2_fc_read(j, 255, b), -EINVAL);
	jbd2_close(j);
	log_free(&l);
}

/* ---- random logs against a model ---- */

static void random_log(u64 *seed, const struct kind *kind)
{
	u32 blocks = 100 + (u32)(rnd(seed) % 400), used = 0, transactions = 0, cut;
	struct image *im = calloc(40, sizeof(*im));
	u8 want[BLKS] = { 0 };
	u32 commit_at[64];
	/* By transaction and block: the byte that fills the image, 0: none. */
	u8 journalled[64][BLKS] = { 0 };
	bool revoked_in[64][BLKS] = { 0 };
	struct jbd2_recovery r;
	struct log l;

	log_new(&l, kind, blocks, 1 + (u32)(rnd(seed) % (blocks - 1)), (u32)rnd(seed));
	while (transactions < 64) {
		u32 n = (u32)(rnd(seed) % 20) + 1, revokes_n = (u32)(rnd(seed) % 4);
		u64 rev[4];

		if (used + n + 3 > blocks - 1)
			break;
		for (u32 i = 0; i < n; i++) {
			u64 blk;

			do
				blk = rnd(seed) % BLKS;
			while (journalled[transactions][blk]);
			im[i] = image_of(blk, (u8)(1 + rnd(seed) % 255));
			if (rnd(seed) % 8 == 0)
				memcpy(im[i].data, "\xc0\x3b\x39\x98", 4);
			journalled[transactions][blk] = im[i].data[8];
		}
		log_images(&l, im, n);
		for (u32 i = 0; i < revokes_n; i++) {
			rev[i] = rnd(seed) % BLKS;
			revoked_in[transactions][rev[i]] = true;
		}
		if (revokes_n)
			log_revoke(&l, rev, revokes_n);
		log_commit(&l);
		used += n + 2 + !!revokes_n;
		commit_at[transactions++] = l.at == l.first ? l.end - 1 : l.at - 1;
	}
	/* Cut before the commit of one of them. */
	cut = (u32)(rnd(seed) % (transactions + 1));
	if (cut < transactions)
		memset(l.bytes + (u64)commit_at[cut] * BLOCK, 0, 4);
	for (u32 t = 0; t < cut; t++)
		for (u32 blk = 0; blk < BLKS; blk++) {
			bool gone = false;

			for (u32 later = t; later < cut; later++)
				gone |= revoked_in[later][blk];
			if (journalled[t][blk] && !gone)
				want[blk] = journalled[t][blk];
		}
	assert_int_equal(recover(&l, &r), 0);
	assert_int_equal(r.end - r.first, cut);
	for (u32 blk = 0; blk < BLKS; blk++)
		if (byte_of(&l, blk, 8) != want[blk])
			fail_msg("block %u is %u, not %u", blk, byte_of(&l, blk, 8), want[blk]);
	free(im);
	log_free(&l);
}

static void random_logs(void **state)
{
	const char *s = getenv("WERUNOS_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns() | 1;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (u32 i = 0; i < 160; i++)
		random_log(&seed, &kinds[i % ARRAY_SIZE(kinds)]);
}

/* Bytes of a good log are changed at random: any error will do, and an end. */
static void mutated_logs(void **state)
{
	const char *s = getenv("WERUNOS_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns() | 1;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (u32 round = 0; round < 400; round++) {
		struct image im[3] = { image_of(10, 1), image_of(11, 2), image_of(12, 3) };
		u64 blk = 11;
		struct jbd2_recovery r;
		struct log l;
		int err;

		log_new(&l, &kinds[round % ARRAY_SIZE(kinds)], 64, 50, 5);
		for (u32 t = 0; t < 5; t++) {
			log_images(&l, im, 3);
			log_revoke(&l, &blk, 1);
			log_commit(&l);
		}
		for (u32 i = 0; i < 1 + round % 6; i++) {
			u64 block = rnd(&seed) % 64;

			l.bytes[block * BLOCK + rnd(&seed) % (round % 2 ? 64 : BLOCK)] = (u8)rnd(&seed);
		}
		err = recover(&l, &r);
		assert_true(err == 0 || err == -EUCLEAN || err == -EOPNOTSUPP);
		log_free(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_log),     cmocka_unit_test(two_and_a_half),
		cmocka_unit_test(revokes),          cmocka_unit_test(a_bad_image),
		cmocka_unit_test(a_bad_commit),     cmocka_unit_test(a_torn_commit),
		cmocka_unit_test(a_bad_descriptor), cmocka_unit_test(beyond_the_end),
		cmocka_unit_test(endless),          cmocka_unit_test(crowded),
		cmocka_unit_test(bad_superblocks),  cmocka_unit_test(mapped),
		cmocka_unit_test(fast_commit_area), cmocka_unit_test(random_logs),
		cmocka_unit_test(mutated_logs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
