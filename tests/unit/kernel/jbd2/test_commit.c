/*
 * Transactions that were committed, in every format, and what is left of them when the power goes: the record of a random workload is
 * cut at every write, with writes since the last flush lost or not, and recovered. What was acknowledged must be there, in order, all or
 * nothing.
 */
#include "jtest.h"

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
	u32 freed_in[SLOTS]; /* transaction */
	u32 committed;       /* what committed() said last */
	u64 datas, revokes;
};

static void on_committed(void *priv, u32 tid)
{
	struct load *l = priv;

	assert_true(tid == l->committed + 1 || !l->committed);
	l->committed = tid;
}

/* A free block is used for file data when it may be; on the device at once, as data is. */
static void use_free(struct load *l, struct promise *now)
{
	for (u32 b = 1; b < SLOTS; b++) {
		u64 word[BLOCK / 8];

		if (l->slot[b].use != FREE || (s32)(l->freed_in[b] - l->committed) > 0 || rnd(l->seed) % 3)
			continue;
		l->slot[b] = (struct slot){ DATA, rnd(l->seed), 0 };
		for (u32 i = 0; i < BLOCK / 8; i++)
			word[i] = l->slot[b].word;
		assert_null(bh_find(l->t->dev, b));
		assert_int_equal(blkdev_write(l->t->dev, (u64)b * BLOCK, word, BLOCK, 0), 0);
		l->slot[b].at = dev_fault_records(l->t->dev);
		/* It belongs to the state that is already reached. */
		now->slot[b] = l->slot[b];
		l->datas++;
	}
}

/* One block in a change: freed, or (made metadata and) changed. */
static void touch(struct load *l, struct jbd2_handle *h, u32 b)
{
	struct slot *s = &l->slot[b];

	if (s->use == META && rnd(l->seed) % 4 == 0) {
		assert_int_equal(jbd2_forget(h, b), 0);
		*s = (struct slot){ FREE, 0, 0 };
		l->freed_in[b] = h->tid;
		l->revokes++;
	} else if (s->use != FREE || (s32)(l->freed_in[b] - l->committed) <= 0 || rnd(l->seed) % 2) {
		/* A block freed in this very transaction may be taken back; of an older one, once that is durable. */
		if (s->use == FREE && l->freed_in[b] != h->tid && (s32)(l->freed_in[b] - l->committed) > 0)
			return;
		*s = (struct slot){ META, rnd(l->seed) % 8 ? rnd(l->seed) : log_magic, 0 };
		jt_put(l->t, h, b, s->word);
	}
}

static void workload(struct load *l, struct promise *p)
{
	struct jt *t = l->t;

	for (u32 i = 0; i < CHANGES; i++) {
		struct jbd2_handle h;
		u32 n = (u32)(rnd(l->seed) % 7 + 1);

		assert_int_equal(jbd2_begin(t->j, n + 1, n, &h), 0);
		/* Block 0 numbers the changes. */
		jt_put(t, &h, 0, i + 1);
		l->slot[0] = (struct slot){ META, i + 1, 0 };
		for (; n; n--)
			touch(l, &h, 1 + (u32)(rnd(l->seed) % (SLOTS - 1)));
		jbd2_end(&h);
		memcpy(p[i].slot, l->slot, sizeof(l->slot));
		p[i].acked_at = UINT64_MAX;
		if (rnd(l->seed) % 3 == 0) {
			u64 at;

			assert_int_equal(jbd2_commit(t->j, h.tid), 0);
			at = dev_fault_records(t->dev);
			for (u32 k = 0; k <= i; k++)
				p[k].acked_at = MIN(p[k].acked_at, at);
			use_free(l, &p[i]);
		}
		if (rnd(l->seed) % 10 == 0)
			assert_int_equal(bcache_sync(t->dev), 0);
		if (rnd(l->seed) % 25 == 0)
			assert_int_equal(jbd2_flush(t->j, true), 0);
	}
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
	workload(&l, p);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
