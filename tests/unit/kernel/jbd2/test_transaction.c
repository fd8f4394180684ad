/* Handles: what they may do, what they wait for, and what a transaction keeps of them; threads that work at once. */
#include "jtest.h"

#include "lib/lock.h"
#include "lib/log.h"
#include <pthread.h>
#include <unistd.h>

#define LOG 200u

static void sleep_ms(u32 ms)
{
	usleep(ms * 1000);
}

static void test_states(void **state)
{
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct buffer_head *bh;
	struct jbd2_stats st;
	u32 tid;

	(void)state;
	jt_new(&t, &kinds[6], LOG, 5);
	assert_int_equal(jbd2_running(t.j), 5);
	assert_int_equal(jbd2_commit(t.j, 5), 0); /* nothing was done in it */
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
	assert_int_equal(h.tid, 5);
	bh = jt_read(&t, 9);
	assert_int_equal(jbd2_access(&h, bh), 0);
	assert_int_equal(h.credits, 1);
	assert_int_equal(jbd2_access(&h, bh), 0);
	assert_int_equal(h.credits, 1);
	assert_true(bh_is_pinned(bh));
	assert_false(bh_is_dirty(bh));
	memset(bh->data, 7, BLOCK);
	jbd2_dirty(&h, bh);
	tid = h.tid;
	jbd2_end(&h);
	assert_int_equal(bh_write(bh), 0);
	assert_int_equal(bcache_sync(t.dev), 0);
	assert_int_equal(jt_word(t.mem, 9), 0); /* not before it is durable */
	assert_int_equal(jbd2_commit(t.j, tid), 0);
	assert_false(bh_is_pinned(bh));
	assert_true(bh_is_dirty(bh));
	assert_int_equal(jbd2_running(t.j), 6);
	/* Joined by the next one: pinned again, and still dirty. */
	assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
	assert_int_equal(jbd2_access(&h, bh), 0);
	assert_int_equal(bcache_sync(t.dev), 0);
	assert_int_equal(jt_word(t.mem, 9), 0);
	jbd2_end(&h);
	assert_int_equal(jbd2_flush(t.j, true), 0);
	assert_true(jt_word(t.mem, 9) == 0x0707070707070707ull);
	assert_null(bh->owner);
	bh_put(bh);
	jbd2_stats(t.j, &st);
	assert_int_equal(st.commits, 2);
	assert_int_equal(st.log_bytes_free, (LOG - 1) * BLOCK);
	assert_int_equal(jbd2_stop(t.j), 0);
	assert_int_equal(jbd2_info(t.j)->start, 0);
	assert_int_equal(jbd2_info(t.j)->sequence, 7);
	/* And again: the numbers go on. */
	assert_int_equal(jbd2_start(t.j, &t.config), 0);
	assert_int_equal(jbd2_running(t.j), 7);
	assert_int_equal(jbd2_stop(t.j), 0);
	jt_free(&t);
}

/* Who has a buffer in hand that was forgotten cannot join it when that is durable: it would never go home. */
static void test_gone(void **state)
{
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct buffer_head *bh;

	(void)state;
	jt_new(&t, &kinds[6], LOG, 1);
	assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
	jt_put(&t, &h, 9, 1);
	jbd2_end(&h);
	assert_int_equal(jbd2_commit(t.j, h.tid), 0);
	assert_int_equal(jbd2_begin(t.j, 1, 1, &h), 0);
	assert_int_equal(jbd2_forget(&h, 9), 0);
	jbd2_end(&h);
	bh = jt_read(&t, 9);
	assert_false(bh_is_gone(bh));
	assert_int_equal(jbd2_commit(t.j, h.tid), 0);
	assert_true(bh_is_gone(bh));
	assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
	assert_int_equal(jbd2_access(&h, bh), -ESTALE);
	assert_int_equal(h.credits, 1);
	bh_put(bh);
	jt_put(&t, &h, 9, 2);
	jbd2_end(&h);
	assert_int_equal(jbd2_flush(t.j, true), 0);
	assert_true(jt_word(t.mem, 9) == 2);
	assert_int_equal(jbd2_stop(t.j), 0);
	jt_free(&t);
}

static void test_credits(void **state)
{
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct jbd2_stats st;
	struct buffer_head *bh;
	u32 max, tid;
	int err = 0;

	(void)state;
	jt_new(&t, &kinds[0], LOG, 1);
	max = jbd2_credits_max(t.j);
	assert_true(max > 10 && max < LOG / 4);
	assert_int_equal(jbd2_begin(t.j, LOG / 4, 0, &h), -ENOSPC);
	/* More than was asked for, as long as there is room. */
	assert_int_equal(log_open("/dev/null"), 0);
	assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
	jt_put(&t, &h, 1, 1);
	for (u32 i = 2; i < LOG; i++) {
		bh = jt_read(&t, i);
		err = jbd2_access(&h, bh);
		bh_put(bh);
		if (err)
			break;
		assert_true(i < LOG / 4);
	}
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(jbd2_forget(&h, 3), -ENOSPC);
	jbd2_end(&h);
	jbd2_stats(t.j, &st);
	assert_true(st.overdrawn > 10);
	assert_int_equal(jbd2_commit(t.j, h.tid), 0);
	assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
	assert_true(jbd2_is_running(t.j, h.tid));
	assert_false(jbd2_is_running(t.j, h.tid + 1));
	assert_int_equal(jbd2_forget(&h, 4), 0);
	assert_int_equal(jbd2_extend(&h, 2, 1), 0);
	assert_int_equal(jbd2_forget(&h, 3), 0);
	assert_int_equal(jbd2_forget(&h, 3), 0); /* the same */
	jt_put(&t, &h, 2, 1);
	/* What cannot be. */
	assert_int_equal(jbd2_forget(&h, VOLUME + LOG), -EUCLEAN);
	assert_int_equal(jbd2_extend(&h, LOG, 0), -ENOSPC);
	tid = h.tid;
	assert_int_equal(jbd2_restart(&h, max, max), 0);
	assert_int_equal(h.tid, tid + 1);
	assert_true(jbd2_is_durable(t.j, tid));
	jbd2_end(&h);
	/* Unused credits come back. */
	for (u32 i = 0; i < 20; i++) {
		assert_int_equal(jbd2_begin(t.j, max, max, &h), 0);
		assert_int_equal(h.tid, tid + 1);
		jbd2_end(&h);
	}
	assert_int_equal(jbd2_begin(t.j, max / 2, 0, &h), 0);
	jbd2_end(&h);
	assert_int_equal(jbd2_stop(t.j), 0);
	jt_free(&t);
}

/* As many images and revokes as there may be, again and again round the log. */
static void test_largest(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct jt t = { 0 };
		struct jbd2_handle h;
		struct jbd2_recovery r;
		u32 max;

		jt_new(&t, &kinds[k], 400, 1);
		max = jbd2_credits_max(t.j);
		for (u32 i = 0; i < 25; i++) {
			assert_int_equal(jbd2_begin(t.j, max, max, &h), 0);
			for (u32 b = 0; b < max; b++)
				jt_put(&t, &h, b, i + 1000 * b);
			for (u32 b = 0; b < max; b++)
				assert_int_equal(jbd2_forget(&h, VOLUME - 1 - b), 0);
			jbd2_end(&h);
			assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		}
		jt_drop(&t);
		jt_recover(&t, t.mem, &r);
		assert_int_equal(r.end, 26);
		for (u32 b = 0; b < max; b++)
			assert_int_equal(jt_word(t.mem, b), 24 + 1000 * b);
		jt_free(&t);
	}
}

/* A change that is larger than changes may usually be, between others that go round the log. */
static void test_long(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct jt t = { 0 };
		struct jbd2_handle h;
		struct jbd2_recovery r;
		u32 max, most = 240;

		jt_new(&t, &kinds[k], 320, 1);
		max = jbd2_credits_max(t.j);
		while (jbd2_begin_long(t.j, most, 0, &h))
			most--;
		jt_put(&t, &h, 0, 1);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_in_range(most, 225, 238);
		for (u32 i = 0; i < 12; i++) {
			assert_int_equal(jbd2_begin(t.j, max, 0, &h), 0);
			for (u32 b = 0; b < max; b++)
				jt_put(&t, &h, b, i + 1000 * b);
			/* What runs already has the room that it has. */
			assert_int_equal(jbd2_extend(&h, most - max, 0), -ENOSPC);
			jbd2_end(&h);
			assert_int_equal(jbd2_begin(t.j, most, 0, &h), -ENOSPC);
			assert_int_equal(jbd2_begin_long(t.j, most, 0, &h), 0);
			for (u32 b = 0; b < most; b++)
				jt_put(&t, &h, b, i + 2000 * b);
			jbd2_end(&h);
			assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		}
		jt_drop(&t);
		jt_recover(&t, t.mem, &r);
		for (u32 b = 0; b < most; b++)
			assert_int_equal(jt_word(t.mem, b), 11 + 2000 * b);
		jt_free(&t);
	}
}

static void test_refused(void **state)
{
	struct jt t = { 0 };
	struct jbd2_config config = { 0 };
	struct jbd2 *j;

	(void)state;
	jt_new(&t, &kinds[0], LOG, 1);
	assert_int_equal(jbd2_start(t.j, &t.config), -EINVAL); /* it is */
	jt_free(&t);
	t.log_blocks = 20;
	assert_int_equal(dev_mem_new("m", (VOLUME + LOG) * BLOCK, BLOCK, &t.mem), 0);
	jt_super(&t, 1);
	t.where.blocks = 20;
	t.where.dev = config.target = t.mem;
	assert_int_equal(jbd2_open(&t.where, NULL, &j), 0);
	assert_int_equal(jbd2_start(j, &config), -EINVAL); /* no cache */
	assert_int_equal(bcache_new(1 << 20, &t.cache), 0);
	assert_int_equal(bcache_attach(t.cache, t.mem, BLOCK), 0);
	assert_int_equal(jbd2_start(j, &config), -EINVAL); /* too short */
	jbd2_close(j);
	assert_int_equal(bcache_detach(t.mem, true), 0);
	bcache_free(t.cache);
	blkdev_put(t.mem);
}

/* The shortest log that can be written: every transaction makes room for itself. */
static void test_short_log(void **state)
{
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct jbd2_recovery r;

	(void)state;
	jt_new(&t, &kinds[7], 33, 1);
	for (u32 i = 0; i < 300; i++) {
		assert_int_equal(jbd2_begin(t.j, 3, 2, &h), 0);
		jt_put(&t, &h, i % 100, i);
		jt_put(&t, &h, 100 + i % 10, i);
		jbd2_end(&h);
		if (i % 3 == 0)
			assert_int_equal(jbd2_commit(t.j, h.tid), 0);
	}
	assert_int_equal(jbd2_flush(t.j, false), 0);
	jt_drop(&t);
	jt_recover(&t, t.mem, &r);
	for (u32 i = 200; i < 300; i++)
		assert_int_equal(jt_word(t.mem, i % 100), i);
	jt_free(&t);
}

static void *send_home(void *arg)
{
	struct buffer_head *bh = arg;

	sleep_ms(150);
	bh_lock(bh);
	bh_unpin(bh);
	bh_unlock(bh);
	assert_int_equal(bh_write(bh), 0);
	return NULL;
}

/* Somebody sends a block home in an order of his own, and the log gets full meanwhile: the others wait. */
static void test_pinned(void **state)
{
	struct jt t = { 0 };
	struct buffer_head *bh;
	struct jbd2_handle h;
	pthread_t thread;

	(void)state;
	jt_new(&t, &kinds[0], LOG, 1);
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
		jt_put(&t, &h, VOLUME - 1, i);
		bh = jt_read(&t, VOLUME - 1);
		bh_lock(bh);
		bh_pin(bh);
		bh_unlock(bh);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_int_equal(pthread_create(&thread, NULL, send_home, bh), 0);
		for (u32 k = 0; k < LOG && !i; k++) {
			assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
			jt_put(&t, &h, k % 30, k);
			jt_put(&t, &h, 30 + k % 20, k);
			jbd2_end(&h);
			assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		}
		if (i)
			assert_int_equal(jbd2_flush(t.j, true), 0);
		pthread_join(thread, NULL);
		bh_put(bh);
	}
	assert_int_equal(jbd2_stop(t.j), 0);
	jt_free(&t);
}

/* ---- hooks ---- */

struct hooks {
	struct jt *t;
	u32 precommits;
	u32 committed;
	int fail;
};

/* Keeps a sum of block 1 in block 2, which every handle joins. */
static int on_precommit(void *priv, struct jbd2_handle *h)
{
	struct hooks *k = priv;
	struct buffer_head *one = jt_read(k->t, 1);
	u64 word;

	k->precommits++;
	if (k->fail) {
		bh_put(one);
		return k->fail;
	}
	memcpy(&word, one->data, 8);
	bh_put(one);
	assert_true(h->credits);
	jt_put(k->t, h, 2, ~word);
	return 0;
}

static void on_committed(void *priv, u32 tid)
{
	struct hooks *k = priv;

	assert_int_equal(tid, k->committed + 1);
	assert_true(jbd2_is_durable(k->t->j, tid));
	k->committed = tid;
}

static void test_hooks(void **state)
{
	static const struct jbd2_ops ops = { on_precommit, on_committed };
	struct jt t = { 0 };
	struct hooks k = { .t = &t };
	struct jbd2_handle h;
	struct jbd2_recovery r;

	(void)state;
	t.config = (struct jbd2_config){ .ops = &ops, .priv = &k };
	jt_new(&t, &kinds[2], LOG, 1);
	for (u32 i = 1; i <= 10; i++) {
		assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
		jt_put(&t, &h, 1, i);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_int_equal(k.precommits, i);
		assert_int_equal(k.committed, i);
	}
	k.fail = -EUCLEAN;
	assert_int_equal(log_open("/dev/null"), 0);
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
	jt_put(&t, &h, 1, 77);
	jbd2_end(&h);
	assert_int_equal(jbd2_commit(t.j, h.tid), -EROFS);
	assert_int_equal(jbd2_error(t.j), -EUCLEAN);
	assert_int_equal(k.committed, 10);
	jt_drop(&t);
	jt_recover(&t, t.mem, &r);
	assert_int_equal(jt_word(t.mem, 1), 10);
	assert_true(jt_word(t.mem, 2) == ~10ull);
	jt_free(&t);
}

/* ---- seals ---- */

static void seal_count(const struct buffer_head *bh, void *data)
{
	u64 n;

	(void)bh;
	memcpy(&n, (u8 *)data + 8, 8);
	n++;
	memcpy((u8 *)data + 8, &n, 8);
}

/* Sealed once for each transaction; what goes home is what went to the log. */
static void test_seal(void **state)
{
	static const struct bh_ops ops = { .name = "counted", .seal = seal_count };
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct buffer_head *bh;
	u64 home[BLOCK / 8];

	(void)state;
	jt_new(&t, &kinds[4], LOG, 1);
	assert_int_equal(bh_get_new(t.dev, 30, &ops, NULL, &bh), 0);
	for (u32 i = 1; i <= 5; i++) {
		assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
		assert_int_equal(jbd2_access(&h, bh), 0);
		jbd2_dirty(&h, bh);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_int_equal(bcache_sync(t.dev), 0);
		assert_int_equal(blkdev_read(t.mem, 30 * BLOCK, home, BLOCK), 0);
		assert_int_equal(home[1], i);
	}
	bh_put(bh);
	jt_free(&t);
}

/* ---- abort ---- */

static void test_abort(void **state)
{
	struct jt t = { 0 };
	struct jbd2_handle h;
	struct jbd2_recovery r;
	struct buffer_head *bh;

	(void)state;
	assert_int_equal(log_open("/dev/null"), 0);
	jt_new(&t, &kinds[7], LOG, 1);
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
	jt_put(&t, &h, 1, 1);
	jt_put(&t, &h, 2, 1);
	jbd2_end(&h);
	assert_int_equal(jbd2_commit(t.j, h.tid), 0);
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
	jt_put(&t, &h, 1, 2);
	jbd2_abort(t.j, -ENOMEM);
	assert_int_equal(jbd2_error(t.j), -ENOMEM);
	assert_int_equal(health_state(&t.health), HEALTH_ABORTED);
	bh = jt_read(&t, 2);
	assert_int_equal(jbd2_access(&h, bh), -EROFS);
	bh_put(bh);
	assert_int_equal(jbd2_forget(&h, 2), -EROFS);
	assert_int_equal(jbd2_extend(&h, 1, 0), -EROFS);
	jbd2_end(&h);
	assert_int_equal(jbd2_commit(t.j, h.tid), -EROFS);
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), -EROFS);
	assert_int_equal(jbd2_flush(t.j, true), -EROFS);
	/* Reading goes on with what is in memory. */
	bh = jt_read(&t, 1);
	assert_int_equal(*(u64 *)bh->data, 2);
	assert_int_equal(jbd2_stop(t.j), -EROFS);
	bh_put(bh);
	assert_int_equal(jbd2_info(t.j)->err, -ENOMEM);
	assert_true(jbd2_info(t.j)->needs_recovery);
	assert_int_equal(jt_word(t.mem, 1), 0);
	bh = jt_read(&t, 1);
	assert_int_equal(*(u64 *)bh->data, 0);
	bh_put(bh);
	assert_int_equal(bcache_sync(t.dev), 0);
	jt_drop(&t);
	jt_recover(&t, t.mem, &r);
	assert_int_equal(jt_word(t.mem, 1), 1);
	assert_int_equal(jt_word(t.mem, 2), 1);
	jt_free(&t);
}

/* ---- features ---- */

/* A superblock of the first version, and one with checksums of the first kind: both get what is wanted. */
static void test_features(void **state)
{
	(void)state;
	for (u32 old = 0; old < 2; old++) {
		struct jt t = { .log_blocks = LOG, .kind = kinds[2] };
		struct jbd2_handle h;
		struct jbd2_recovery r;
		u8 sb[BLOCK];

		t.config.incompat_want = JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT;
		health_init(&t.health, "journal");
		assert_int_equal(dev_mem_new("m", (VOLUME + LOG) * BLOCK, BLOCK, &t.mem), 0);
		jt_super(&t, 9);
		assert_int_equal(blkdev_read(t.mem, LOG_AT * BLOCK, sb, BLOCK), 0);
		if (old) {
			put32(sb + 4, 3);
			memset(sb + 0x24, 0xa5, BLOCK - 0x24);
		}
		assert_int_equal(blkdev_write(t.mem, LOG_AT * BLOCK, sb, BLOCK, 0), 0);
		assert_int_equal(dev_fault_new(t.mem, true, &t.dev), 0);
		jt_start(&t);
		/* Nothing was written yet. */
		assert_int_equal(dev_fault_records(t.dev), 0);
		assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
		jt_put(&t, &h, 5, 55);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_int_equal(jbd2_mark_empty(t.j, t.dev, 1), -EINVAL);
		jt_drop(&t);
		assert_int_equal(blkdev_read(t.mem, LOG_AT * BLOCK, sb, BLOCK), 0);
		assert_int_equal(sb[7], 4);
		assert_int_equal(sb[0x27], 0); /* compat */
		assert_int_equal(sb[0x2b],
				 JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_CSUM_V3);
		jt_recover(&t, t.mem, &r);
		assert_int_equal(r.replayed, 1);
		assert_int_equal(jt_word(t.mem, 5), 55);
		jt_free(&t);
	}
}

/* ---- hostile superblocks ---- */

/* Whatever the log's superblock says: it is refused, or written within the log. */
static void test_hostile(void **state)
{
	u64 seed = test_seed(), started = 0;

	(void)state;
	assert_int_equal(log_open("/dev/null"), 0);
	for (u32 i = 0; i < 3000; i++) {
		struct jt t = { .log_blocks = LOG, .kind = kinds[rnd(&seed) % 4] };
		struct jbd2_handle h;
		struct jbd2_recovery r;
		u8 sb[BLOCK], zero[BLOCK] = { 0 };
		bool good;

		health_init(&t.health, "journal");
		/* Behind the log is a block that nobody may touch. */
		assert_int_equal(dev_mem_new("m", (VOLUME + LOG + 1) * BLOCK, BLOCK, &t.mem), 0);
		jt_super(&t, (u32)rnd(&seed));
		assert_int_equal(blkdev_read(t.mem, LOG_AT * BLOCK, sb, BLOCK), 0);
		for (u32 n = (u32)(rnd(&seed) % 4); n; n--)
			sb[0x10 + rnd(&seed) % 0x50] = (u8)(rnd(&seed) % 3 ? rnd(&seed) % 200 : rnd(&seed));
		assert_int_equal(blkdev_write(t.mem, LOG_AT * BLOCK, sb, BLOCK, 0), 0);
		t.dev = blkdev_get(t.mem);
		assert_int_equal(bcache_new(1 << 20, &t.cache), 0);
		assert_int_equal(bcache_attach(t.cache, t.dev, BLOCK), 0);
		t.where = (struct jbd2_where){
			.dev = t.dev, .block_bytes = BLOCK, .blocks = LOG, .first_blk = LOG_AT
		};
		t.config.target = t.dev;
		good = !jbd2_open(&t.where, &t.health, &t.j);
		if (good && jbd2_info(t.j)->start) {
			good = !jbd2_recover(t.j, t.dev, &r) && !jbd2_mark_empty(t.j, t.dev, r.end);
			assert_true(!good || !jbd2_info(t.j)->start);
		}
		good = good && !jbd2_start(t.j, &t.config);
		for (u32 k = 0; good && k < 30; k++) {
			assert_int_equal(jbd2_begin(t.j, 2, 2, &h), 0);
			jt_put(&t, &h, k, k);
			jt_put(&t, &h, 0, k);
			jbd2_end(&h);
			assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		}
		if (good) {
			started++;
			assert_int_equal(jbd2_stop(t.j), 0);
			assert_int_equal(jt_word(t.mem, 29), 29);
		}
		assert_int_equal(blkdev_read(t.mem, (VOLUME + LOG) * BLOCK, sb, BLOCK), 0);
		assert_memory_equal(sb, zero, BLOCK);
		jt_free(&t);
	}
	assert_true(started > 500);
}

/* ---- a log on another device ---- */

static void test_two_devices(void **state)
{
	struct jt t = { 0 };
	struct blkdev *volume_mem, *volume;
	struct jbd2_handle h;
	struct jbd2_recovery r;
	struct jbd2 *j;
	u64 flushes, volume_flushes;

	(void)state;
	/* The volume of the journal that jt makes is on the log's device, and not used. */
	jt_new(&t, &kinds[6], LOG, 1);
	assert_int_equal(jbd2_stop(t.j), 0);
	assert_int_equal(dev_mem_new("v", VOLUME * BLOCK, BLOCK, &volume_mem), 0);
	assert_int_equal(dev_fault_new(volume_mem, true, &volume), 0);
	assert_int_equal(bcache_attach(t.cache, volume, BLOCK), 0);
	t.config.target = volume;
	assert_int_equal(jbd2_start(t.j, &t.config), 0);
	for (u32 i = 0; i < 100; i++) {
		struct buffer_head *bh;

		assert_int_equal(jbd2_begin(t.j, 1, 0, &h), 0);
		assert_int_equal(bh_get_new(volume, i, NULL, NULL, &bh), 0);
		assert_int_equal(jbd2_access(&h, bh), 0);
		memset(bh->data, (int)i, BLOCK);
		jbd2_dirty(&h, bh);
		bh_put(bh);
		jbd2_end(&h);
		flushes = dev_fault_count(t.dev, FAULT_FLUSH);
		volume_flushes = dev_fault_count(volume, FAULT_FLUSH);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		assert_true(dev_fault_count(t.dev, FAULT_FLUSH) > flushes);
		/* What was written to the volume is durable. */
		assert_true(dev_fault_count(volume, FAULT_FLUSH) > volume_flushes);
	}
	jbd2_close(t.j);
	t.j = NULL;
	assert_int_equal(bcache_detach(volume, true), 0);
	assert_int_equal(jbd2_open(&t.where, NULL, &j), 0);
	assert_true(jbd2_info(j)->needs_recovery);
	assert_int_equal(jbd2_recover(j, volume_mem, &r), 0);
	jbd2_close(j);
	for (u32 i = 0; i < 100; i++)
		assert_true(jt_word(volume_mem, i) == i * 0x0101010101010101ull);
	blkdev_put(volume);
	blkdev_put(volume_mem);
	jt_free(&t);
}

/* ---- time ---- */

static void test_age(void **state)
{
	struct jt t = { .config = { .commit_ms = 100 } };
	struct jbd2_handle h;

	(void)state;
	jt_new(&t, &kinds[0], LOG, 1);
	assert_int_equal(jbd2_begin(t.j, 2, 0, &h), 0);
	jt_put(&t, &h, 1, 1);
	jbd2_end(&h);
	for (u32 i = 0; i < 300 && !jbd2_is_durable(t.j, h.tid); i++)
		sleep_ms(10);
	assert_true(jbd2_is_durable(t.j, h.tid));
	jt_free(&t);
}

/* ---- threads ---- */

#define THREADS 6u
#define ROUNDS  300u

struct crew {
	struct jt t;
	struct mutex
		lock[16]; /* of the pairs of blocks 2 i and 2 i + 1, which are always alike; rank ALLOC */
	_Atomic u64 changes;
	_Atomic bool stop;
};

static void *change_pairs(void *arg)
{
	struct crew *c = arg;
	u64 seed = os_monotonic_ns() | 1;

	for (u32 i = 0; i < ROUNDS; i++) {
		u32 pair = (u32)(rnd(&seed) % 16);
		u64 word = rnd(&seed);
		struct jbd2_handle h;

		assert_int_equal(jbd2_begin(c->t.j, 4, 1, &h), 0);
		mutex_lock(&c->lock[pair]);
		jt_put(&c->t, &h, 2 * pair, word);
		jt_put(&c->t, &h, 2 * pair + 1, word);
		mutex_unlock(&c->lock[pair]);
		if (rnd(&seed) % 8 == 0)
			assert_int_equal(jbd2_forget(&h, 100 + rnd(&seed) % 50), 0);
		jbd2_end(&h);
		atomic_fetch_add(&c->changes, 1);
		if (rnd(&seed) % 4 == 0) {
			assert_int_equal(jbd2_commit(c->t.j, h.tid), 0);
			assert_true(jbd2_is_durable(c->t.j, h.tid));
		}
		if (rnd(&seed) % 64 == 0)
			assert_int_equal(jbd2_flush(c->t.j, rnd(&seed) & 1), 0);
	}
	return NULL;
}

static void *read_pairs(void *arg)
{
	struct crew *c = arg;
	u64 seed = os_monotonic_ns() | 1;

	while (!atomic_load(&c->stop)) {
		u32 pair = (u32)(rnd(&seed) % 16);
		struct buffer_head *a = jt_read(&c->t, 2 * pair), *b = jt_read(&c->t, 2 * pair + 1);

		mutex_lock(&c->lock[pair]);
		assert_memory_equal(a->data, b->data, BLOCK);
		mutex_unlock(&c->lock[pair]);
		bh_put(a);
		bh_put(b);
		if (rnd(&seed) % 16 == 0)
			assert_int_equal(bcache_sync(c->t.dev), 0);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct crew *c = calloc(1, sizeof(*c));
	pthread_t id[THREADS], reader;
	struct jbd2_recovery r;
	struct jbd2_stats st;

	(void)state;
	c->t.config.commit_ms = 20;
	jt_new(&c->t, &kinds[7], 150, 1);
	for (u32 i = 0; i < 16; i++)
		mutex_init(&c->lock[i], RANK_ALLOC);
	assert_int_equal(os_thread(&reader, "reader", read_pairs, c), 0);
	for (u32 i = 0; i < THREADS; i++)
		assert_int_equal(os_thread(&id[i], "changer", change_pairs, c), 0);
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	atomic_store(&c->stop, true);
	pthread_join(reader, NULL);
	assert_int_equal(jbd2_flush(c->t.j, false), 0);
	jbd2_stats(c->t.j, &st);
	print_message("%llu changes, %llu commits, %llu checkpoints\n", (unsigned long long)c->changes,
		      (unsigned long long)st.commits, (unsigned long long)st.checkpoints);
	assert_true(st.commits < c->changes / 2);
	jt_drop(&c->t);
	jt_recover(&c->t, c->t.mem, &r);
	for (u32 i = 0; i < 16; i++)
		assert_true(jt_word(c->t.mem, 2 * i) == jt_word(c->t.mem, 2 * i + 1));
	for (u32 i = 0; i < 16; i++)
		mutex_fini(&c->lock[i]);
	jt_free(&c->t);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states),      cmocka_unit_test(test_gone),
		cmocka_unit_test(test_credits),     cmocka_unit_test(test_largest),
		cmocka_unit_test(test_long),        cmocka_unit_test(test_refused),
		cmocka_unit_test(test_short_log),   cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_hooks),       cmocka_unit_test(test_seal),
		cmocka_unit_test(test_abort),       cmocka_unit_test(test_features),
		cmocka_unit_test(test_two_devices), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_age),         cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
