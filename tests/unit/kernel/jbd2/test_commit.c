/*
 * Transactions that were committed, in every format, and what is left of them when the power goes: the record of a random workload is
 * cut at every write, with writes since the last flush lost or not, and recovered. What was acknowledged must be there, in order, all or
 * nothing.
 */
#include "jtest.h"

#include "lib/log.h"

static const u32 log_magic = 0x98393bc0; /* as little endian bytes: what must be escaped */

/* One change of a few blocks each, committed; never checkpointed. */
static void test_formats(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct jt t = { 0 };
		struct jbd2_handle h;
		struct jbd2_recovery r;
		u32 tid = 0;

		jt_new(&t, &kinds[k], 400, 77);
		for (u32 i = 0; i < 5; i++) {
			assert_int_equal(jbd2_begin(t.j, 90, 0, &h), 0);
			for (u32 b = 0; b < 90; b++)
				jt_put(&t, &h, b, b == 3 ? log_magic | (u64)i << 32 : 1000 * i + b);
			tid = h.tid;
			jbd2_end(&h);
			assert_false(jbd2_is_durable(t.j, tid));
			assert_int_equal(jbd2_commit(t.j, tid), 0);
			assert_true(jbd2_is_durable(t.j, tid));
			if (i < 2)
				assert_int_equal(jt_word(t.mem, 5), 0);
		}
		assert_int_equal(tid, 81);
		jt_drop(&t);
		jt_recover(&t, t.mem, &r);
		assert_int_equal(r.end, 82);
		assert_false(r.bad_commit);
		for (u32 b = 0; b < 90; b++)
			assert_true(jt_word(t.mem, b) == (b == 3 ? log_magic | 4ull << 32 : 4000 + b));
		jt_free(&t);
	}
}

/* ---- cut ---- */

#define SLOTS   32u /* blocks that the workload uses */
#define CHANGES 150u

enum use { FREE, META, DATA };

/* What a block is: journalled, or file data that was written at record `at`, or nothing that matters. */
struct slot {
	enum use use;
	u64 word, at;
};

/* The state after change i; acknowledged when `records` were written. */
struct promise {
	struct slot slot[SLOTS];
	u64 acked_at; /* records at the acknowledgement; ~0: never */
};

struct load {
	struct jt *t;
	u64 *seed;
	struct slot slot[SLOTS];
	u32 freed_in[SLOTS];   /* transaction */
	_Atomic u32 committed; /* what committed() said last */
	u64 datas, revokes;
};

static void on_committed(void *priv, u32 tid)
{
	struct load *l = priv;

	assert_true(tid == l->committed + 1 || !l->committed);
	l->committed = tid;
}

/* A free block is used for file data when it may be; on the device at once, as data is. */
static int use_free(struct load *l, struct promise *now)
{
	int err;

	for (u32 b = 1; b < SLOTS; b++) {
		u64 word[BLOCK / 8];

		if (l->slot[b].use != FREE || (s32)(l->freed_in[b] - l->committed) > 0 || rnd(l->seed) % 3)
			continue;
		l->slot[b] = (struct slot){ DATA, rnd(l->seed), 0 };
		for (u32 i = 0; i < BLOCK / 8; i++)
			word[i] = l->slot[b].word;
		assert_null(bh_find(l->t->dev, b));
		err = blkdev_write(l->t->dev, (u64)b * BLOCK, word, BLOCK, 0);
		if (err)
			return err;
		l->slot[b].at = dev_fault_records(l->t->dev);
		/* It belongs to the state that is already reached. */
		now->slot[b] = l->slot[b];
		l->datas++;
	}
	return 0;
}

/* One block in a change: freed, or (made metadata and) changed. */
static int touch(struct load *l, struct jbd2_handle *h, u32 b)
{
	struct slot *s = &l->slot[b];

	if (s->use == META && rnd(l->seed) % 4 == 0) {
		int err = jbd2_forget(h, b);

		if (err)
			return err;
		*s = (struct slot){ FREE, 0, 0 };
		l->freed_in[b] = h->tid;
		l->revokes++;
	} else if (s->use != FREE || (s32)(l->freed_in[b] - l->committed) <= 0 || rnd(l->seed) % 2) {
		/* A block freed in this very transaction may be taken back; of an older one, once that is durable. */
		if (s->use == FREE && l->freed_in[b] != h->tid && (s32)(l->freed_in[b] - l->committed) > 0)
			return 0;
		*s = (struct slot){ META, rnd(l->seed) % 8 ? rnd(l->seed) : log_magic, 0 };
		return jt_try_put(l->t, h, b, s->word);
	}
	return 0;
}

/* One change; it ends, whatever happens in it. */
static int change(struct load *l, u32 i, u32 *tid)
{
	u32 n = (u32)(rnd(l->seed) % 7 + 1);
	struct jbd2_handle h;
	int err = jbd2_begin(l->t->j, n + 1, n, &h);

	if (err)
		return err;
	/* Block 0 numbers the changes. */
	err = jt_try_put(l->t, &h, 0, i + 1);
	l->slot[0] = (struct slot){ META, i + 1, 0 };
	for (; n && !err; n--)
		err = touch(l, &h, 1 + (u32)(rnd(l->seed) % (SLOTS - 1)));
	*tid = h.tid;
	jbd2_end(&h);
	return err;
}

/* Until the first error. */
static int workload(struct load *l, struct promise *p)
{
	struct jt *t = l->t;
	int err = 0;

	for (u32 i = 0; i < CHANGES; i++)
		p[i].acked_at = UINT64_MAX;
	for (u32 i = 0; i < CHANGES && !err; i++) {
		u32 tid;

		err = change(l, i, &tid);
		memcpy(p[i].slot, l->slot, sizeof(l->slot));
		if (!err && rnd(l->seed) % 3 == 0) {
			u64 at;

			err = jbd2_commit(t->j, tid);
			if (err)
				break;
			at = dev_fault_records(t->dev);
			for (u32 k = 0; k <= i; k++)
				p[k].acked_at = MIN(p[k].acked_at, at);
			err = use_free(l, &p[i]);
		}
		if (!err && rnd(l->seed) % 10 == 0)
			err = bcache_sync(t->dev);
		if (!err && rnd(l->seed) % 25 == 0)
			err = jbd2_flush(t->j, true);
	}
	return err;
}

static void apply(struct blkdev *dev, const struct fault_record *r)
{
	if (r->op == FAULT_WRITE)
		assert_int_equal(blkdev_write(dev, r->off_bytes, r->data, r->len_bytes, 0), 0);
}

/* What the device holds when the power goes after `cut` records: what is since the last flush may be lost, by sector. */
static void crash(struct jt *t, struct blkdev *base, u64 cut, bool lose, u64 *seed, struct blkdev **out)
{
	struct fault_record r;
	u64 flushed = 0;

	assert_int_equal(dev_snap_new(base, out), 0);
	for (u64 i = 0; lose && i < cut; i++) {
		assert_int_equal(dev_fault_record(t->dev, i, &r), 0);
		if (r.op == FAULT_FLUSH)
			flushed = i;
	}
	for (u64 i = 0; i < cut; i++) {
		assert_int_equal(dev_fault_record(t->dev, i, &r), 0);
		if (r.op != FAULT_WRITE || !lose || i < flushed || r.flags & BIO_FUA) {
			apply(*out, &r);
			continue;
		}
		for (u64 off = 0; off < r.len_bytes; off += 512)
			if (rnd(seed) & 1)
				assert_int_equal(blkdev_write(*out, r.off_bytes + off,
							      (const u8 *)r.data + off, 512, 0),
						 0);
	}
}

/* Was it flushed between the record `at` and the cut? */
static bool is_durable(struct jt *t, u64 at, u64 cut)
{
	struct fault_record r;

	for (u64 i = at; i < cut; i++) {
		assert_int_equal(dev_fault_record(t->dev, i, &r), 0);
		if (r.op == FAULT_FLUSH)
			return true;
	}
	return false;
}

static void judge(struct jt *t, struct blkdev *dev, const struct promise *p, u64 cut)
{
	struct jbd2_recovery r;
	u64 must = 0, found;

	jt_recover(t, dev, &r);
	assert_false(r.bad_commit);
	for (u64 i = 0; i < CHANGES; i++)
		if (p[i].acked_at <= cut)
			must = i + 1;
	found = jt_word(dev, 0);
	assert_true(found >= must && found <= CHANGES);
	for (u32 b = 0; found && b < SLOTS; b++) {
		const struct slot *s = &p[found - 1].slot[b];

		if (s->use == META || (s->use == DATA && is_durable(t, s->at, cut)))
			assert_true(jt_word(dev, b) == s->word);
	}
}

static void cut_everywhere(const struct kind *kind, u32 log_blocks, u64 seed)
{
	struct promise *p = calloc(CHANGES, sizeof(*p));
	static const struct jbd2_ops ops = { .committed = on_committed };
	struct jt t = { 0 };
	struct load l = { .t = &t, .seed = &seed };
	struct blkdev *base;
	u8 sb[BLOCK];

	t.config = (struct jbd2_config){ .ops = &ops, .priv = &l, .commit_ms = 3600000 };
	jt_new(&t, kind, log_blocks, 1);
	assert_int_equal(dev_mem_new("b", t.mem->size_bytes, 512, &base), 0);
	assert_int_equal(blkdev_read(t.mem, (u64)LOG_AT * BLOCK, sb, BLOCK), 0);
	assert_int_equal(blkdev_write(base, (u64)LOG_AT * BLOCK, sb, BLOCK, 0), 0);
	assert_int_equal(workload(&l, p), 0);
	assert_true(l.datas > 10 && l.revokes > 10);
	jt_drop(&t);
	for (u64 cut = 0; cut <= dev_fault_records(t.dev); cut++) {
		for (u32 lose = 0; lose < 3; lose++) {
			struct blkdev *dev;

			crash(&t, base, cut, lose, &seed, &dev);
			judge(&t, dev, p, cut);
			blkdev_put(dev);
		}
	}
	blkdev_put(base);
	jt_free(&t);
	free(p);
}

static void test_cut(void **state)
{
	u64 seed = test_seed();

	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++)
		cut_everywhere(&kinds[k], k & 1 ? 70 : 200, rnd(&seed));
}

/*
 * The nth write or flush fails, once or for ever. Nothing more is committed, what was acknowledged stays, and what was not durable is not
 * home, however the volume is closed.
 */
static bool fail_at(const struct kind *kind, enum fault_op op, u64 nth, bool sticky, u64 seed)
{
	struct promise *p = calloc(CHANGES, sizeof(*p));
	static const struct jbd2_ops ops = { .committed = on_committed };
	struct jt t = { 0 };
	struct load l = { .t = &t, .seed = &seed };
	struct jbd2_handle h;
	bool met;
	int err;

	t.config = (struct jbd2_config){ .ops = &ops, .priv = &l, .commit_ms = 3600000 };
	jt_new(&t, kind, 100, 1);
	dev_fault_nth(t.dev, op, nth, -EIO, sticky);
	err = workload(&l, p);
	met = err;
	if (!err)
		err = jbd2_stop(t.j);
	/* The failure of a write home is the cache's to report; the journal sees it when it commits. */
	if (err && !jbd2_error(t.j) && health_state(&t.health) < HEALTH_ABORTED)
		assert_true(op == FAULT_WRITE);
	if (met && jbd2_error(t.j)) {
		assert_int_equal(jbd2_begin(t.j, 1, 0, &h), -EROFS);
		assert_int_equal(health_state(&t.health), HEALTH_ABORTED);
		assert_true(jbd2_stop(t.j) < 0);
	} else if (met) {
		err = jbd2_stop(t.j);
	}
	err = bcache_detach(t.dev, false);
	judge(&t, t.mem, p, dev_fault_records(t.dev));
	if (!err)
		assert_int_equal(bcache_attach(t.cache, t.dev, BLOCK), 0);
	else
		err_clear();
	bcache_free(t.cache);
	t.cache = NULL;
	jbd2_close(t.j);
	jt_free(&t);
	free(p);
	return met;
}

static void test_failures(void **state)
{
	u64 seed = test_seed(), met = 0;

	(void)state;
	assert_int_equal(log_open("/dev/null"), 0);
	for (u64 nth = 1; nth < 400; nth++) {
		met += fail_at(&kinds[nth % ARRAY_SIZE(kinds)], FAULT_WRITE, nth, nth & 1, rnd(&seed));
		met += fail_at(&kinds[nth % ARRAY_SIZE(kinds)], FAULT_FLUSH, nth, nth & 1, rnd(&seed));
	}
	assert_true(met > 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
