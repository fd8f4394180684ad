/*
 * A log that is gone on with after recovery: until its first commit it says what it said, also when the power goes; after it the
 * new transaction is applied, and the old ones are not applied again.
 */
#include "jtest.h"

static void recover(struct jt *t, struct jbd2_recovery *r)
{
	struct jbd2_where where = t->where;
	struct jbd2 *j;

	assert_int_equal(jbd2_open(&where, NULL, &j), 0);
	assert_true(jbd2_info(j)->needs_recovery);
	assert_int_equal(jbd2_recover(j, t->dev, r), 0);
	jbd2_close(j);
}

/* One transaction that fills a block. */
static void commit(struct jt *t, u64 blk, u64 word)
{
	struct jbd2_handle h;

	assert_int_equal(jbd2_begin(t->j, 2, 0, &h), 0);
	jt_put(t, &h, blk, word);
	jbd2_end(&h);
	assert_int_equal(jbd2_commit(t->j, h.tid), 0);
}

static void resume(struct jt *t, const struct jbd2_recovery *r)
{
	t->config.resume = r;
	jt_start(t);
}

static void one_kind(const struct kind *kind)
{
	struct jbd2_recovery first, again, last;
	struct jt t = { 0 };

	jt_new(&t, kind, 80, 0xfffffffe);
	commit(&t, 1, 11);
	commit(&t, 2, 22);
	jt_drop(&t);
	recover(&t, &first);
	assert_int_equal(first.end, 0);
	assert_int_equal(jt_word(t.dev, 2), 22);

	/* Gone on with, and cut off before a commit. */
	resume(&t, &first);
	jt_drop(&t);
	recover(&t, &again);
	assert_int_equal(again.first, first.end);
	assert_int_equal(again.end, first.end);
	assert_int_equal(again.replayed, 0);

	/* And with a commit, of all that the log takes. */
	resume(&t, &again);
	commit(&t, 1, 33);
	jt_drop(&t);
	assert_int_equal(blkdev_zero(t.mem, BLOCK, BLOCK), 0);
	recover(&t, &last);
	assert_int_equal(last.first, first.end);
	assert_int_equal(last.end, first.end + 1);
	assert_int_equal(jt_word(t.dev, 1), 33);
	assert_int_equal(jt_word(t.dev, 2), 22);

	/* To its end: the log is empty. */
	resume(&t, &last);
	commit(&t, 3, 44);
	assert_int_equal(jbd2_stop(t.j), 0);
	assert_false(jbd2_info(t.j)->needs_recovery);
	assert_int_equal(jt_word(t.dev, 3), 44);
	jt_free(&t);
}

/* The transaction may take all of the log but a block. */
static void test_all_of_the_log(void **state)
{
	struct jbd2_recovery r;
	struct jbd2_handle h;
	u64 log;
	u32 n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct jt t = { 0 };

		jt_new(&t, &kinds[i], 80, 5);
		commit(&t, 1, 11);
		jt_drop(&t);
		recover(&t, &r);
		resume(&t, &r);
		log = jbd2_info(t.j)->end - jbd2_info(t.j)->first;
		for (n = (u32)log; jbd2_begin(t.j, n, 0, &h) == -ENOSPC;)
			n--;
		assert_true(n > log - 8);
		for (u32 blk = 1; blk <= n; blk++)
			jt_put(&t, &h, blk, 100 + blk);
		jbd2_end(&h);
		assert_int_equal(jbd2_commit(t.j, h.tid), 0);
		jt_drop(&t);
		recover(&t, &r);
		/* Its blocks may be home already: the log is full. */
		assert_int_equal(r.end, h.tid + 1);
		for (u32 blk = 1; blk <= n; blk++)
			assert_int_equal(jt_word(t.dev, blk), 100 + blk);
		jt_free(&t);
	}
}

static void test_kinds(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		one_kind(&kinds[i]);
}

/* Only what was recovered can be gone on with, and only when it was not broken. */
static void test_refused(void **state)
{
	struct jbd2_recovery r = { .head = 1, .first = 5, .end = 5 };
	struct jt t = { 0 };

	(void)state;
	jt_new(&t, &kinds[0], 80, 5);
	assert_int_equal(jbd2_stop(t.j), 0);
	t.config.resume = &r;
	assert_int_equal(jbd2_start(t.j, &t.config), -EINVAL); /* empty */
	t.config.resume = NULL;
	assert_int_equal(jbd2_start(t.j, &t.config), 0);
	commit(&t, 1, 11);
	jt_drop(&t);
	recover(&t, &r);
	r.bad_commit = true;
	t.config.resume = &r;
	assert_int_equal(bcache_new(1 << 20, &t.cache), 0);
	assert_int_equal(bcache_attach(t.cache, t.dev, BLOCK), 0);
	assert_int_equal(jbd2_open(&t.where, &t.health, &t.j), 0);
	assert_int_equal(jbd2_start(t.j, &t.config), -EINVAL);
	t.config.resume = NULL;
	assert_int_equal(jbd2_start(t.j, &t.config), -EINVAL);
	jt_free(&t);
}

/* A log that is made where another was has a number that none of the other's transactions has. */
static void test_another_log(void **state)
{
	struct jbd2_recovery r;
	struct jbd2 *j;
	struct jt t = { 0 };
	u8 sb[BLOCK] = { 0 };
	u32 next;

	(void)state;
	jt_new(&t, &kinds[0], 80, 41);
	for (u32 i = 0; i < 3; i++)
		commit(&t, i + 1, 11);
	jt_drop(&t);
	jbd2_super_new(sb, BLOCK, 80, (const u8 *)"0123456789abcdef");
	assert_int_equal(blkdev_write(t.mem, (u64)LOG_AT * BLOCK, sb, BLOCK, 0), 0);
	assert_int_equal(jbd2_open(&t.where, NULL, &j), 0);
	assert_int_equal(jbd2_sequence_behind(j, &next), 0);
	assert_int_equal(next, 43 + 2);
	assert_int_equal(jbd2_mark_empty(j, t.dev, next), 0);
	jbd2_close(j);
	jt_start(&t);
	commit(&t, 7, 77);
	jt_drop(&t);
	recover(&t, &r);
	assert_int_equal(r.end - r.first, 1);
	assert_int_equal(jt_word(t.dev, 7), 77);
	jt_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_kinds),
					    cmocka_unit_test(test_all_of_the_log),
					    cmocka_unit_test(test_refused),
					    cmocka_unit_test(test_another_log) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
