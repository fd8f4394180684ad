/*
 * The buffer cache on a toy device with two copies of everything: what is a hit, what is checked again, which copy
 * is taken, what goes home and when, and all of it from several threads.
 */
#include "block/block.h"

#include "lib/os.h"
#include "lib/trace.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BS     1024u
#define BLOCKS 65536u

/* ---- the device ---- */

static u8 *copy_data[2];
static struct blkdev toy;
static struct health health;
static struct bcache *cache;
static _Atomic bool dev_slow; /* background reads end later, on another thread */
static _Atomic u32 dev_reads, dev_writes, dev_fail_writes;

static void *end_later(void *bio)
{
	os_wait(&dev_reads, dev_reads, 20);
	bio_complete(bio, 0);
	return NULL;
}

static void toy_submit(struct blkdev *dev, struct bio *bio)
{
	u64 at = bio->at_bytes;
	int err = 0;

	(void)dev;
	if (bio->op == BIO_WRITE && dev_fail_writes)
		err = -EIO;
	for (u32 i = 0; i < bio->iov_count && !err; i++) {
		void *p = bio->iov[i].iov_base;
		size_t n = bio->iov[i].iov_len;

		if (bio->op == BIO_READ) {
			memcpy(p, copy_data[bio->copy] + at, n);
		} else {
			for (u32 c = 0; c < 2; c++)
				if (!(bio->flags & BIO_HEAL) || c == bio->copy)
					memcpy(copy_data[c] + at, p, n);
		}
		at += n;
	}
	if (bio->op == BIO_READ)
		dev_reads++;
	else
		dev_writes++;
	if (dev_slow && !bio->batch) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, end_later, bio), 0);
		pthread_detach(t);
		return;
	}
	bio_complete(bio, err);
}

static void toy_release(struct blkdev *dev)
{
	blkdev_fini(dev);
}

static const struct blkdev_ops toy_ops = { .kind = "toy", .submit = toy_submit, .release = toy_release };

/* ---- the block type: first word is its number xor the context, last byte is set by seal ---- */

static _Atomic u32 checks;

static int toy_verify(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	u32 first;

	checks++;
	memcpy(&first, data, sizeof(first));
	if (first == ((u32)bh->blk ^ (u32)ctx->v[0]))
		return 0;
	return corrupt(bh->dev->health, "block", bh->blk, "holds %x", first);
}

static void toy_seal(const struct buffer_head *bh, void *data)
{
	((u8 *)data)[bh->size_bytes - 1] = 0x5a;
}

static const struct bh_ops kind = { .name = "toy", .verify = toy_verify, .seal = toy_seal };
static const struct bh_ops other_kind = { .name = "other", .verify = toy_verify };
static const struct bh_ctx plain;

static void put_number(u8 *p, u32 n)
{
	memcpy(p, &n, sizeof(n));
}

static int setup(void **state)
{
	(void)state;
	for (int c = 0; c < 2; c++) {
		copy_data[c] = calloc(BLOCKS, BS);
		for (u32 i = 0; i < BLOCKS; i++)
			put_number(copy_data[c] + (u64)i * BS, i);
	}
	health_init(&health, "toy");
	if (blkdev_init(&toy, &toy_ops, "toy", (u64)BLOCKS * BS))
		return -1;
	toy.copies = 2;
	toy.health = &health;
	dev_reads = dev_writes = dev_fail_writes = checks = 0;
	return bcache_new(16u << 20, &cache) || bcache_attach(cache, &toy, BS);
}

static int teardown(void **state)
{
	(void)state;
	if (toy.cache)
		assert_int_equal(bcache_detach(&toy, true), 0);
	assert_int_equal(bcache_bytes(cache), 0);
	bcache_free(cache);
	blkdev_put(&toy);
	health_fini(&health);
	free(copy_data[0]);
	free(copy_data[1]);
	return 0;
}

/* ---- reading ---- */

static void checked_once(void **state)
{
	struct buffer_head *a, *b;

	(void)state;
	assert_int_equal(bh_read(&toy, 7, &kind, NULL, &a), 0);
	assert_int_equal(bh_read(&toy, 7, &kind, &plain, &b), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(checks, 1);
	assert_int_equal(dev_reads, 1);
	bh_put(a);
	bh_put(b);
	assert_int_equal(bh_read(&toy, BLOCKS, &kind, NULL, &a), -EIO);
	assert_int_equal(bh_read(&toy, ~0ull, &kind, NULL, &a), -EIO);
}

static void other_context_is_checked_again(void **state)
{
	const struct bh_ctx wrong = { .v = { 1 } };
	struct buffer_head *a, *b;

	(void)state;
	assert_int_equal(bh_read(&toy, 7, &kind, NULL, &a), 0);
	assert_int_equal(bh_read(&toy, 7, &kind, &wrong, &b), -EUCLEAN);
	assert_int_equal(bh_read(&toy, 7, &other_kind, NULL, &b), 0);
	bh_put(b);
	assert_int_equal(bh_read(&toy, 7, &kind, NULL, &b), 0);
	bh_put(b);
	bh_lock(a);
	bh_dirty(a);
	bh_unlock(a);
	assert_int_equal(bh_read(&toy, 7, &other_kind, NULL, &b), -EUCLEAN);
	assert_non_null(strstr(err_text(), "two owners"));
	assert_int_equal(bh_get_new(&toy, 7, &other_kind, NULL, &b), -EUCLEAN);
	bh_put(a);
}

static void bad_copy_is_healed(void **state)
{
	struct buffer_head *bh;

	(void)state;
	copy_data[0][9 * BS] ^= 0xff;
	assert_int_equal(bh_read(&toy, 9, &kind, NULL, &bh), 0);
	bh_put(bh);
	assert_memory_equal(copy_data[0] + 9 * BS, copy_data[1] + 9 * BS, BS);
	/* Found bad after reading ahead as well. */
	copy_data[0][10 * BS] ^= 0xff;
	bh_readahead(&toy, 10, 1);
	assert_int_equal(bh_read(&toy, 10, &kind, NULL, &bh), 0);
	bh_put(bh);
	assert_memory_equal(copy_data[0] + 10 * BS, copy_data[1] + 10 * BS, BS);
	/* Not on a read-only device. */
	toy.flags |= BLKDEV_RDONLY;
	copy_data[0][11 * BS] ^= 0xff;
	assert_int_equal(bh_read(&toy, 11, &kind, NULL, &bh), 0);
	bh_put(bh);
	assert_memory_not_equal(copy_data[0] + 11 * BS, copy_data[1] + 11 * BS, BS);
	/* Both bad. */
	copy_data[0][12 * BS] ^= 0xff;
	copy_data[1][12 * BS] ^= 0xff;
	assert_int_equal(bh_read(&toy, 12, &kind, NULL, &bh), -EUCLEAN);
	copy_data[1][12 * BS] ^= 0xff;
	assert_int_equal(bh_read(&toy, 12, &kind, NULL, &bh), 0); /* a failed read is not remembered */
	bh_put(bh);
}

static void raw_gives_bytes_and_verdict(void **state)
{
	struct buffer_head *bh;
	int verdict;

	(void)state;
	copy_data[0][5 * BS] ^= 0xff;
	copy_data[1][5 * BS] ^= 0xff;
	assert_int_equal(bh_read_raw(&toy, 5, &kind, NULL, &bh, &verdict), 0);
	assert_int_equal(verdict, -EUCLEAN);
	assert_memory_equal(bh->data, copy_data[0] + 5 * BS, BS);
	bh_put(bh);
	assert_int_equal(bh_read(&toy, 5, &kind, NULL, &bh), -EUCLEAN);
	assert_int_equal(bh_read_raw(&toy, 6, &kind, NULL, &bh, &verdict), 0);
	assert_int_equal(verdict, 0);
	bh_put(bh);
}

static void many_at_once(void **state)
{
	u64 blks[] = { 3, 900, 4, 3, 5 };
	struct buffer_head *bh[ARRAY_SIZE(blks)];

	(void)state;
	assert_int_equal(bh_read(&toy, 4, &kind, NULL, &bh[0]), 0);
	bh_put(bh[0]);
	copy_data[0][900 * BS] ^= 0xff;
	assert_int_equal(bh_read_many(&toy, blks, ARRAY_SIZE(blks), &kind, NULL, bh), 0);
	assert_ptr_equal(bh[0], bh[3]);
	for (u32 i = 0; i < ARRAY_SIZE(blks); i++) {
		assert_int_equal(bh[i]->blk, blks[i]);
		bh_put(bh[i]);
	}
	blks[2] = BLOCKS + 1;
	assert_int_equal(bh_read_many(&toy, blks, ARRAY_SIZE(blks), &kind, NULL, bh), -EIO);
}

static void memory_is_bounded(void **state)
{
	struct buffer_head *bh;

	(void)state;
	for (u32 i = 0; i < BLOCKS; i++) {
		assert_int_equal(bh_read(&toy, i, &kind, NULL, &bh), 0);
		bh_put(bh);
		assert_true(bcache_bytes(cache) <= bcache_limit_bytes(cache));
	}
	assert_true(bcache_bytes(cache) > bcache_limit_bytes(cache) / 2);
	/* The oldest went, the newest are there. */
	assert_null(bh_find(&toy, 0));
	bh = bh_find(&toy, BLOCKS - 1);
	assert_non_null(bh);
	bh_put(bh);
}

static void readahead_saves_reads(void **state)
{
	struct buffer_head *bh;

	(void)state;
	bh_readahead(&toy, 100, 200);
	assert_in_range(dev_reads, 1, 8);
	for (u32 i = 100; i < 300; i++) {
		assert_int_equal(bh_read(&toy, i, &kind, NULL, &bh), 0);
		bh_put(bh);
	}
	assert_in_range(dev_reads, 1, 8);
	assert_int_equal(checks, 200);
	bh_readahead(&toy, BLOCKS - 2, 100); /* over the end */
}

static void detach_waits_for_reads_under_way(void **state)
{
	(void)state;
	dev_slow = true;
	bh_readahead(&toy, 5, 10);
	assert_int_equal(bcache_detach(&toy, false), 0);
	assert_int_equal(bcache_bytes(cache), 0);
	dev_slow = false;
}

/* ---- writing ---- */

static struct buffer_head *dirtied(u64 blk, u8 byte)
{
	struct buffer_head *bh;

	assert_int_equal(bh_read(&toy, blk, &kind, NULL, &bh), 0);
	bh_lock(bh);
	((u8 *)bh->data)[100] = byte;
	bh_dirty(bh);
	bh_unlock(bh);
	return bh;
}

static void sync_writes_sealed_blocks_together(void **state)
{
	(void)state;
	for (u32 i = 0; i < 50; i++)
		bh_put(dirtied(20 + i, 7));
	assert_int_equal(copy_data[0][20 * BS + 100], 0);
	assert_int_equal(bcache_sync(&toy), 0);
	for (u32 i = 0; i < 50; i++) {
		assert_int_equal(copy_data[0][(20 + i) * BS + 100], 7);
		assert_int_equal(copy_data[1][(20 + i) * BS + BS - 1], 0x5a);
	}
	assert_int_equal(dev_writes, 1);
	assert_int_equal(bcache_sync(&toy), 0);
	assert_int_equal(dev_writes, 1);
}

static void pinned_stays(void **state)
{
	struct buffer_head *bh = dirtied(20, 7);

	(void)state;
	bh_lock(bh);
	bh_pin(bh);
	bh_unlock(bh);
	assert_int_equal(bcache_sync(&toy), 0);
	assert_int_equal(dev_writes, 0);
	assert_true(bh_is_dirty(bh));
	bh_lock(bh);
	bh_unpin(bh);
	bh_sealed(bh);
	bh_unlock(bh);
	assert_int_equal(bh_write(bh), 0);
	assert_int_equal(copy_data[0][20 * BS + 100], 7);
	assert_int_equal(copy_data[0][20 * BS + BS - 1], 0); /* sealed by its owner: not again */
	bh_put(bh);
}

static void failed_write_is_told_and_not_repeated(void **state)
{
	(void)state;
	bh_put(dirtied(20, 7));
	dev_fail_writes = 1;
	assert_int_equal(bcache_sync(&toy), -EIO);
	assert_int_equal(health_state(&health), HEALTH_ABORTED);
	dev_fail_writes = 0;
	assert_int_equal(dev_writes, 1);
	assert_int_equal(bcache_sync(&toy), -EIO);
	assert_int_equal(dev_writes, 1);
}

static void forgotten_is_read_again(void **state)
{
	struct buffer_head *bh = dirtied(20, 7), *again;

	(void)state;
	bh_forget(&toy, 20);
	assert_int_equal(bcache_sync(&toy), 0);
	assert_int_equal(dev_writes, 0);
	assert_int_equal(bh_read(&toy, 20, &kind, NULL, &again), 0);
	assert_ptr_not_equal(bh, again);
	assert_int_equal(((u8 *)again->data)[100], 0);
	bh_put(bh);
	bh_put(again);
	bh_forget(&toy, 33); /* not there */
}

static void new_block_needs_no_read(void **state)
{
	struct buffer_head *bh;

	(void)state;
	assert_int_equal(bh_get_new(&toy, 40, &kind, NULL, &bh), 0);
	assert_int_equal(dev_reads, 0);
	bh_lock(bh);
	put_number(bh->data, 40);
	bh_dirty(bh);
	bh_unlock(bh);
	bh_put(bh);
	assert_int_equal(bcache_detach(&toy, false), 0);
	assert_int_equal(copy_data[0][40 * BS + BS - 1], 0x5a);
	/* Another size, another view of the same bytes. */
	assert_int_equal(bcache_attach(cache, &toy, 4096), 0);
	assert_int_equal(bh_read(&toy, 10, NULL, NULL, &bh), 0);
	assert_memory_equal(bh->data, copy_data[0] + 40 * BS, 4096);
	bh_put(bh);
}

static void old_dirt_goes_by_itself(void **state)
{
	(void)state;
	/* More than a quarter of the limit: the thread does not wait for the age. */
	for (u32 i = 0; i < 5000; i++)
		bh_put(dirtied(i, 9));
	for (int i = 0; i < 500 && !dev_writes; i++)
		os_wait(&dev_writes, 0, 10);
	assert_true(dev_writes > 0);
}

/* ---- threads ---- */

#define HOT 3000u

static _Atomic u64 counted[HOT];

static void *worker(void *arg)
{
	u64 s = (uintptr_t)arg * 977 + 5;

	for (int i = 0; i < 20000; i++) {
		struct buffer_head *bh, *many[8];
		u64 blk, blks[8];

		s = s * 6364136223846793005ull + 1442695040888963407ull;
		blk = (s >> 33) % HOT;
		switch ((s >> 50) % 8) {
		case 0:
			bh_readahead(&toy, blk, 20);
			break;
		case 1:
			for (u32 k = 0; k < 8; k++)
				blks[k] = (blk + k * 13) % HOT;
			if (bh_read_many(&toy, blks, 8, &kind, NULL, many))
				return (void *)1;
			for (u32 k = 0; k < 8; k++)
				bh_put(many[k]);
			break;
		case 2:
			if (i % 50 == 0 && bcache_sync(&toy))
				return (void *)2;
			break;
		default: {
			u64 n;

			if (bh_read(&toy, blk, &kind, NULL, &bh))
				return (void *)3;
			bh_lock(bh);
			memcpy(&n, (u8 *)bh->data + 8, 8);
			n++;
			memcpy((u8 *)bh->data + 8, &n, 8);
			bh_dirty(bh);
			bh_unlock(bh);
			bh_put(bh);
			counted[blk]++;
		}
		}
	}
	return NULL;
}

static void no_change_is_lost(void **state)
{
	pthread_t t[4];
	void *bad;

	(void)state;
	/* A limit far below what is used, so that buffers come and go all the time. */
	assert_int_equal(bcache_detach(&toy, true), 0);
	bcache_free(cache);
	assert_int_equal(bcache_new(1u << 20, &cache), 0);
	assert_int_equal(bcache_attach(cache, &toy, BS), 0);
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, worker, (void *)i), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(bcache_detach(&toy, false), 0);
	for (u32 i = 0; i < HOT; i++) {
		u64 n;

		memcpy(&n, copy_data[0] + (u64)i * BS + 8, 8);
		assert_int_equal(n, counted[i]);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(checked_once),
		T(other_context_is_checked_again),
		T(bad_copy_is_healed),
		T(raw_gives_bytes_and_verdict),
		T(many_at_once),
		T(memory_is_bounded),
		T(readahead_saves_reads),
		T(detach_waits_for_reads_under_way),
		T(sync_writes_sealed_blocks_together),
		T(pinned_stays),
		T(failed_write_is_told_and_not_repeated),
		T(forgotten_is_read_again),
		T(new_block_needs_no_read),
		T(old_dirt_goes_by_itself),
		T(no_change_is_lost),
	};

	return cmocka_run_group_tests_name("block/bh", tests, NULL, NULL);
}
