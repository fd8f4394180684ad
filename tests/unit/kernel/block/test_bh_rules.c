/* The buffer cache: what bh_read promises, who may claim a block, copies and healing, forgetting, the memory limit. */
#include "devtest.h"

#include "lib/trace.h"
#include <unistd.h>

#define BLOCK 4096u

/* A block that verifies: its number, a generation, and the exclusive-or of all words is 0 at the end. */
struct toy {
	u64 blk, gen, fill[500], sum;
};

static _Atomic u32 verified, sealed;

static u64 toy_sum(const void *data)
{
	const u64 *w = data;
	u64 x = 0x5eed;

	for (u32 i = 0; i < offsetof(struct toy, sum) / 8; i++)
		x ^= w[i] + i;
	return x;
}

static int toy_verify(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	const struct toy *t = data;

	verified++;
	if (t->sum != toy_sum(t))
		return corrupt(bh->dev->health, "toy", bh->blk, "bad sum");
	if (t->gen != ctx->v[0])
		return corrupt(bh->dev->health, "toy", bh->blk, "bad generation");
	return 0;
}

static void toy_seal(const struct buffer_head *bh, void *data)
{
	(void)bh;
	sealed++;
	((struct toy *)data)->sum = toy_sum(data);
}

static const struct bh_ops toy_ops = { .name = "toy", .verify = toy_verify, .seal = toy_seal };
static const struct bh_ops other_ops = { .name = "other" };
static const struct bh_ctx gen1 = { { 1 } }, gen2 = { { 2 } };

static void put_toy(struct blkdev *dev, u64 blk, u64 gen)
{
	struct toy t = { .blk = blk, .gen = gen };

	_Static_assert(sizeof(t) <= BLOCK, "a toy fits in a block");
	t.fill[7] = blk * 3;
	t.sum = toy_sum(&t);
	assert_int_equal(blkdev_write(dev, blk * BLOCK, &t, sizeof(t) / 8 * 8, 0), 0);
}

struct fix {
	struct blkdev *dev;
	struct bcache *cache;
	struct health health;
};

static struct blkdev *new_mem(u64 bytes)
{
	struct blkdev *dev;

	assert_int_equal(dev_mem_new("m", bytes, 1, &dev), 0);
	return dev;
}

static void setup_on(struct fix *f, struct blkdev *dev, u64 limit)
{
	f->dev = dev;
	health_init(&f->health, "toy volume");
	dev->health = &f->health;
	assert_int_equal(bcache_new(limit, &f->cache), 0);
	assert_int_equal(bcache_attach(f->cache, dev, BLOCK), 0);
	verified = sealed = 0;
}

static void teardown_of(struct fix *f)
{
	assert_int_equal(bcache_detach(f->dev, true), 0);
	assert_int_equal(bcache_bytes(f->cache), 0);
	bcache_free(f->cache);
	blkdev_put(f->dev);
	health_fini(&f->health);
}

static void hits_and_verdicts(void **state)
{
	struct buffer_head *a, *b;
	struct fix f;
	int verdict;

	(void)state;
	setup_on(&f, new_mem(64 * BLOCK), 0);
	put_toy(f.dev, 5, 1);
	assert_null(bh_find(f.dev, 5));
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen1, &a), 0);
	assert_int_equal(((struct toy *)a->data)->fill[7], 15);
	assert_int_equal(verified, 1);
	/* The same again: no verification. Another expectation: verified, refused, and the first still holds. */
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen1, &b), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(verified, 1);
	bh_put(b);
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen2, &b), -EUCLEAN);
	assert_int_equal(verified, 2);
	assert_int_equal(health_state(&f.health), HEALTH_CORRUPT);
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen1, &b), 0);
	assert_int_equal(verified, 2);
	bh_put(b);
	b = bh_find(f.dev, 5);
	assert_ptr_equal(a, b);
	bh_put(b);
	bh_put(a);
	/* A bad block: no buffer; raw: bytes and verdict, as often as asked. */
	assert_int_equal(bh_read(f.dev, 6, &toy_ops, &gen1, &a), -EUCLEAN);
	assert_null(bh_find(f.dev, 6));
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(bh_read_raw(f.dev, 6, &toy_ops, &gen1, &a, &verdict), 0);
		assert_int_equal(verdict, -EUCLEAN);
		assert_int_equal(((struct toy *)a->data)->sum, 0);
		bh_put(a);
	}
	assert_int_equal(bh_read(f.dev, 6, &toy_ops, &gen1, &a), -EUCLEAN);
	assert_int_equal(bh_read_raw(f.dev, 5, &toy_ops, &gen1, &a, &verdict), 0);
	assert_int_equal(verdict, 0);
	bh_put(a);
	assert_int_equal(bh_read(f.dev, 64, &other_ops, NULL, &a), -EIO);
	assert_int_equal(bh_read(f.dev, UINT64_MAX / BLOCK + 2, &other_ops, NULL, &a), -EIO);
	teardown_of(&f);
}

static void two_owners(void **state)
{
	struct buffer_head *a, *b;
	struct fix f;
	int verdict;

	(void)state;
	setup_on(&f, new_mem(64 * BLOCK), 0);
	put_toy(f.dev, 5, 1);
	/* Clean: whoever is satisfied may have it. */
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen1, &a), 0);
	assert_int_equal(bh_read(f.dev, 5, &other_ops, &gen2, &b), 0);
	bh_put(b);
	assert_int_equal(bh_read(f.dev, 5, &toy_ops, &gen1, &b), 0);
	bh_put(b);
	/* Dirty, pinned or owned: it is the first's. */
	bh_lock(a);
	bh_pin(a);
	bh_unlock(a);
	assert_int_equal(bh_read(f.dev, 5, &other_ops, &gen2, &b), -EUCLEAN);
	bh_lock(a);
	bh_unpin(a);
	a->owner = &f;
	bh_unlock(a);
	assert_int_equal(bh_get_new(f.dev, 5, &other_ops, &gen2, &b), -EUCLEAN);
	bh_lock(a);
	a->owner = NULL;
	bh_dirty(a);
	bh_unlock(a);
	assert_int_equal(bh_read(f.dev, 5, &other_ops, &gen2, &b), -EUCLEAN);
	assert_int_equal(bh_read_raw(f.dev, 5, &other_ops, &gen2, &b, &verdict), 0);
	assert_int_equal(verdict, -EUCLEAN);
	bh_put(b);
	assert_int_equal(bh_write(a), 0);
	bh_put(a);
	assert_int_equal(bh_get_new(f.dev, 5, &other_ops, &gen2, &a), 0);
	assert_int_equal(((struct toy *)a->data)->gen, 0);
	bh_put(a);
	teardown_of(&f);
}

static void seal_and_write(void **state)
{
	struct buffer_head *a;
	struct fix f;
	struct toy t;

	(void)state;
	setup_on(&f, new_mem(64 * BLOCK), 0);
	assert_int_equal(bh_get_new(f.dev, 9, &toy_ops, &gen1, &a), 0);
	bh_lock(a);
	((struct toy *)a->data)->gen = 1;
	bh_dirty(a);
	bh_pin(a);
	bh_unlock(a);
	assert_true(bh_is_dirty(a) && bh_is_pinned(a));
	/* Pinned: stays. */
	assert_int_equal(bh_write(a), 0);
	assert_int_equal(bcache_sync(f.dev), 0);
	assert_int_equal(blkdev_read(f.dev, 9 * BLOCK, &t, sizeof(t)), 0);
	assert_int_equal(t.gen, 0);
	bh_lock(a);
	bh_unpin(a);
	bh_unlock(a);
	assert_int_equal(bcache_sync(f.dev), 0);
	assert_false(bh_is_dirty(a));
	assert_int_equal(sealed, 1);
	assert_int_equal(blkdev_read(f.dev, 9 * BLOCK, &t, sizeof(t)), 0);
	assert_int_equal(t.gen, 1);
	assert_int_equal(t.sum, toy_sum(&t));
	/* Sealed elsewhere: not again; cleaned: not written. */
	bh_lock(a);
	bh_dirty(a);
	bh_sealed(a);
	bh_unlock(a);
	assert_int_equal(bh_write(a), 0);
	assert_int_equal(sealed, 1);
	bh_lock(a);
	((struct toy *)a->data)->gen = 7;
	bh_dirty(a);
	bh_clean(a);
	bh_unlock(a);
	assert_int_equal(bcache_sync(f.dev), 0);
	assert_int_equal(blkdev_read(f.dev, 9 * BLOCK, &t, sizeof(t)), 0);
	assert_int_equal(t.gen, 1);
	bh_put(a);
	teardown_of(&f);
}

static void forget(void **state)
{
	struct buffer_head *a, *b;
	struct fix f;

	(void)state;
	setup_on(&f, new_mem(64 * BLOCK), 0);
	put_toy(f.dev, 3, 1);
	bh_forget(f.dev, 3);
	assert_int_equal(bh_read(f.dev, 3, &toy_ops, &gen1, &a), 0);
	bh_lock(a);
	((struct toy *)a->data)->gen = 9;
	bh_dirty(a);
	bh_unlock(a);
	bh_forget(f.dev, 3);
	assert_null(bh_find(f.dev, 3));
	/* The one we hold is void: dirtying it writes nothing. */
	bh_lock(a);
	bh_dirty(a);
	bh_unlock(a);
	assert_false(bh_is_dirty(a));
	assert_int_equal(bcache_sync(f.dev), 0);
	assert_int_equal(bh_read(f.dev, 3, &toy_ops, &gen1, &b), 0);
	assert_ptr_not_equal(a, b);
	assert_int_equal(((struct toy *)b->data)->gen, 1);
	bh_put(a);
	bh_put(b);
	teardown_of(&f);
}

static void many(void **state)
{
	struct buffer_head *out[600];
	struct bh_ctx ctxs[600];
	struct fix f;
	u64 blks[600], reads;

	(void)state;
	setup_on(&f, new_mem(1024 * BLOCK), 0);
	for (u64 blk = 0; blk < 1000; blk++)
		put_toy(f.dev, blk, 1);
	/* Neighbours, gaps, the same twice, some cached. */
	for (u32 i = 0; i < 600; i++) {
		blks[i] = i < 500 ? 999 - i : (i * 7) % 900;
		ctxs[i] = gen1;
	}
	reads = stat_get(STAT_DEV_READS);
	assert_int_equal(bh_read_many(f.dev, blks, 600, &toy_ops, ctxs, out), 0);
	print_message("600 blocks in %llu requests\n",
		      (unsigned long long)(stat_get(STAT_DEV_READS) - reads));
	assert_true(stat_get(STAT_DEV_READS) - reads < 100);
	for (u32 i = 0; i < 600; i++) {
		assert_int_equal(out[i]->blk, blks[i]);
		assert_int_equal(((struct toy *)out[i]->data)->blk, blks[i]);
		bh_put(out[i]);
	}
	reads = stat_get(STAT_DEV_READS);
	assert_int_equal(bh_read_many(f.dev, blks, 600, &toy_ops, ctxs, out), 0);
	assert_int_equal(stat_get(STAT_DEV_READS), reads);
	for (u32 i = 0; i < 600; i++)
		bh_put(out[i]);
	/* One bad among them: none. */
	blks[3] = 1010;
	assert_int_equal(bh_read_many(f.dev, blks, 600, &toy_ops, ctxs, out), -EUCLEAN);
	blks[3] = 5000;
	assert_int_equal(bh_read_many(f.dev, blks, 600, &toy_ops, ctxs, out), -EIO);
	assert_int_equal(bh_read_many(f.dev, blks, 0, &toy_ops, ctxs, out), 0);
	teardown_of(&f);
}

/* Reference counts are back, bytes stay within the limit, what is dirty survives. */
static void limit(void **state)
{
	enum { BLOCKS = 4096 };
	struct buffer_head *a, *held;
	struct fix f;

	(void)state;
	setup_on(&f, new_mem((u64)BLOCKS * BLOCK), 1u << 20);
	for (u64 blk = 0; blk < BLOCKS; blk++)
		put_toy(f.dev, blk, 1);
	assert_int_equal(bh_read(f.dev, 0, &toy_ops, &gen1, &held), 0);
	assert_int_equal(bh_get_new(f.dev, 1, &toy_ops, &gen1, &a), 0);
	bh_lock(a);
	((struct toy *)a->data)->gen = 1;
	((struct toy *)a->data)->fill[9] = 99;
	bh_dirty(a);
	bh_pin(a);
	bh_unlock(a);
	bh_put(a);
	for (u64 i = 0; i < 3 * BLOCKS; i++) {
		assert_int_equal(bh_read(f.dev, i * 17 % BLOCKS, &toy_ops, &gen1, &a), 0);
		bh_put(a);
		assert_true(bcache_bytes(f.cache) <= (1u << 20) + 2 * (BLOCK + 512));
	}
	a = bh_find(f.dev, 1);
	assert_non_null(a);
	assert_int_equal(((struct toy *)a->data)->fill[9], 99);
	bh_lock(a);
	bh_unpin(a);
	bh_clean(a);
	bh_unlock(a);
	bh_put(a);
	assert_ptr_equal(bh_find(f.dev, 0), held);
	bh_put(held);
	bh_put(held);
	teardown_of(&f);
}

/* All is dirty, five times the limit: the cache writes, and stays bounded. */
/* Buffers of the caller's choice: written together, but not the pinned one; the error is there once they are clean. */
static void write_many(void **state)
{
	struct blkdev *mem = new_mem(64 * BLOCK), *dev;
	struct buffer_head *bh[20], *list[20];
	struct fix f;

	(void)state;
	assert_int_equal(dev_fault_new(mem, true, &dev), 0);
	setup_on(&f, dev, 1 << 20);
	for (u32 i = 0; i < 20; i++) {
		assert_int_equal(bh_get_new(dev, 30 - i, &other_ops, NULL, &bh[i]), 0);
		bh_lock(bh[i]);
		bh_dirty(bh[i]);
		if (i == 7)
			bh_pin(bh[i]);
		bh_unlock(bh[i]);
	}
	memcpy(list, bh, sizeof(list));
	bh_write_many(list, 20);
	for (u32 i = 0; i < 20; i++)
		assert_int_equal(bh_is_dirty(bh[i]), i == 7);
	/* On either side of the pinned one. */
	assert_int_equal(dev_fault_records(dev), 2);
	bh_lock(bh[7]);
	bh_unpin(bh[7]);
	bh_unlock(bh[7]);
	assert_int_equal(bcache_error(dev), 0);
	dev_fault_nth(dev, FAULT_WRITE, 1, -EIO, false);
	memcpy(list, bh, sizeof(list));
	bh_write_many(list, 20);
	assert_false(bh_is_dirty(bh[7]));
	assert_int_equal(bcache_error(dev), -EIO);
	/* A void buffer is nobody's: the next one reads anew. */
	bh_lock(bh[3]);
	bh_dirty(bh[3]);
	bh_void(bh[3]);
	assert_false(bh_is_dirty(bh[3]));
	bh_unlock(bh[3]);
	assert_null(bh_find(dev, 27));
	for (u32 i = 0; i < 20; i++)
		bh_put(bh[i]);
	teardown_of(&f);
	blkdev_put(mem);
}

static void dirty_limit(void **state)
{
	enum { BLOCKS = 1280 };
	struct buffer_head *a;
	struct fix f;
	u64 max = 0;
	struct toy t;

	(void)state;
	setup_on(&f, new_mem((u64)BLOCKS * BLOCK), 1u << 20);
	for (u64 blk = 0; blk < BLOCKS; blk++) {
		assert_int_equal(bh_get_new(f.dev, blk, &toy_ops, &gen1, &a), 0);
		bh_lock(a);
		((struct toy *)a->data)->gen = 1;
		((struct toy *)a->data)->blk = blk;
		bh_dirty(a);
		bh_unlock(a);
		bh_put(a);
		max = MAX(max, bcache_bytes(f.cache));
	}
	print_message("at most %llu bytes\n", (unsigned long long)max);
	assert_true(max <= (1u << 20) * 2);
	assert_int_equal(bcache_sync(f.dev), 0);
	for (u64 blk = 0; blk < BLOCKS; blk++) {
		assert_int_equal(blkdev_read(f.dev, blk * BLOCK, &t, sizeof(t)), 0);
		assert_int_equal(t.blk, blk);
		assert_int_equal(t.sum, toy_sum(&t));
	}
	teardown_of(&f);
}

static void sizes(void **state)
{
	struct buffer_head *a, *b;
	struct fix f;

	(void)state;
	setup_on(&f, new_mem(1u << 20), 0);
	for (u32 bytes = 512; bytes <= 65536; bytes *= 2) {
		assert_int_equal(bcache_attach(f.cache, f.dev, bytes), 0);
		assert_int_equal(bh_get_new(f.dev, 1, &other_ops, NULL, &a), 0);
		assert_int_equal(a->size_bytes, bytes);
		assert_true(IS_ALIGNED((uintptr_t)a->data, MIN(bytes, 4096u)));
		bh_lock(a);
		memset(a->data, (int)ilog2(bytes), bytes);
		bh_dirty(a);
		bh_unlock(a);
		bh_put(a);
	}
	/* Each change of size wrote what was dirty. */
	assert_int_equal(bcache_attach(f.cache, f.dev, 512), 0);
	for (u32 bytes = 512; bytes <= 65536; bytes *= 2) {
		assert_int_equal(bh_read(f.dev, bytes / 512, &other_ops, NULL, &b), 0);
		assert_int_equal(*(u8 *)b->data, ilog2(bytes));
		bh_put(b);
	}
	assert_int_equal(bcache_attach(f.cache, f.dev, 1000), -EINVAL);
	/* Without a cache there is nothing to write and nothing to drop. */
	assert_int_equal(bcache_detach(f.dev, false), 0);
	assert_int_equal(bcache_sync(f.dev), 0);
	teardown_of(&f);
}

/* ---- a device of two copies ---- */

struct twin {
	struct blkdev dev;
	struct blkdev *copy[2];
};

struct twin_write {
	struct bio bio[2];
	struct bio *parent;
	_Atomic u32 left;
};

static void twin_read_done(struct bio *child)
{
	bio_complete(child->private, child->err);
	free(child);
}

static void twin_write_done(struct bio *child)
{
	struct twin_write *w = child->private;

	if (atomic_fetch_sub(&w->left, 1) > 1)
		return;
	bio_complete(w->parent, w->bio[0].err ? w->bio[0].err : w->bio[1].err);
	free(w);
}

static void twin_submit(struct blkdev *dev, struct bio *bio)
{
	struct twin *t = container_of(dev, struct twin, dev);
	struct twin_write *w;
	struct bio *child;

	if (bio->op == BIO_READ || bio->flags & BIO_HEAL) {
		child = calloc(1, sizeof(*child));
		bio_init(child, t->copy[bio->copy], bio->op, bio->at_bytes, NULL, bio->len_bytes);
		child->iov = bio->iov;
		child->iov_count = bio->iov_count;
		child->done = twin_read_done;
		child->private = bio;
		bio_submit_child(bio, child);
		return;
	}
	w = calloc(1, sizeof(*w));
	w->parent = bio;
	w->left = 2;
	for (u32 i = 0; i < 2; i++) {
		bio_init(&w->bio[i], t->copy[i], bio->op, bio->at_bytes, NULL, bio->len_bytes);
		w->bio[i].iov = bio->iov;
		w->bio[i].iov_count = bio->iov_count;
		w->bio[i].done = twin_write_done;
		w->bio[i].private = w;
	}
	for (u32 i = 0; i < 2; i++)
		bio_submit_child(bio, &w->bio[i]);
}

static void twin_release(struct blkdev *dev)
{
	struct twin *t = container_of(dev, struct twin, dev);

	blkdev_put(t->copy[0]);
	blkdev_put(t->copy[1]);
	blkdev_fini(dev);
	free(t);
}

static const struct blkdev_ops twin_ops = { .kind = "twin", .submit = twin_submit, .release = twin_release };

static struct twin *new_twin(u64 bytes)
{
	struct twin *t = calloc(1, sizeof(*t));

	assert_int_equal(blkdev_init(&t->dev, &twin_ops, "twin", bytes), 0);
	t->dev.copies = 2;
	t->copy[0] = new_mem(bytes);
	t->copy[1] = new_mem(bytes);
	return t;
}

static void copies(void **state)
{
	struct twin *t = new_twin(64 * BLOCK);
	struct buffer_head *a, *b, *out[4];
	struct bh_ctx ctxs[4] = { gen1, gen1, gen1, gen2 };
	u64 blks[4] = { 1, 2, 3, 4 }, healed = stat_get(STAT_BH_HEALED);
	struct toy x;
	struct fix f;
	int verdict;

	(void)state;
	setup_on(&f, &t->dev, 0);
	/* 1: first copy bad. 2: both good. 3: second copy bad. 4: the first copy is old (a lost write). */
	for (u64 blk = 1; blk < 5; blk++)
		put_toy(f.dev, blk, 1);
	assert_int_equal(blkdev_write(t->copy[0], 1 * BLOCK + 100, "bad", 3, 0), 0);
	assert_int_equal(blkdev_write(t->copy[1], 3 * BLOCK + 100, "bad", 3, 0), 0);
	put_toy(t->copy[1], 4, 2);
	assert_int_equal(bh_read_many(f.dev, blks, 4, &toy_ops, ctxs, out), 0);
	for (u32 i = 0; i < 4; i++)
		bh_put(out[i]);
	assert_int_equal(stat_get(STAT_BH_HEALED) - healed, 2);
	assert_int_equal(blkdev_read(t->copy[0], 1 * BLOCK, &x, sizeof(x)), 0);
	assert_int_equal(x.sum, toy_sum(&x));
	assert_int_equal(blkdev_read(t->copy[0], 4 * BLOCK, &x, sizeof(x)), 0);
	assert_int_equal(x.gen, 2);
	/* In memory is what satisfied gen1; who wants gen2 gets the other copy, once nobody holds the first. */
	put_toy(t->copy[0], 7, 1);
	put_toy(t->copy[1], 7, 2);
	assert_int_equal(bh_read(f.dev, 7, &toy_ops, &gen1, &a), 0);
	assert_int_equal(bh_read(f.dev, 7, &toy_ops, &gen2, &b), -EUCLEAN);
	bh_put(a);
	assert_int_equal(bh_read(f.dev, 7, &toy_ops, &gen2, &b), 0);
	bh_put(b);
	/* Read-only: served, not healed. None good: refused. */
	put_toy(t->copy[1], 8, 1);
	f.dev->flags |= BLKDEV_RDONLY;
	healed = stat_get(STAT_BH_HEALED);
	assert_int_equal(bh_read(f.dev, 8, &toy_ops, &gen1, &a), 0);
	bh_put(a);
	assert_int_equal(stat_get(STAT_BH_HEALED), healed);
	f.dev->flags &= ~BLKDEV_RDONLY;
	assert_int_equal(bh_read(f.dev, 9, &toy_ops, &gen1, &a), -EUCLEAN);
	assert_int_equal(bh_read_raw(f.dev, 9, &toy_ops, &gen1, &a, &verdict), 0);
	assert_int_equal(verdict, -EUCLEAN);
	bh_put(a);
	teardown_of(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hits_and_verdicts),
		cmocka_unit_test(two_owners),
		cmocka_unit_test(seal_and_write),
		cmocka_unit_test(forget),
		cmocka_unit_test(many),
		cmocka_unit_test(limit),
		cmocka_unit_test(write_many),
		cmocka_unit_test(dirty_limit),
		cmocka_unit_test(sizes),
		cmocka_unit_test(copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
