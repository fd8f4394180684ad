/*
 * Threads that read, read many, read ahead, change, write, forget and sync the same few blocks in a cache that is
 * too small for them, on a file with O_DIRECT. No change may be lost, no block may be seen half.
 */
#include "devtest.h"

#include "lib/lock.h"
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define BLOCK   4096u
#define BLOCKS  512u
#define THREADS 4u
#define ROUNDS  1500u

/* The count stands at both ends. The first 8 bytes are the sum that seal sets. */
struct counted {
	u64 sum, blk, count;
	u8 fill[BLOCK - 32];
	u64 count_again;
};
_Static_assert(sizeof(struct counted) == BLOCK, "fills a block");

static struct {
	struct blkdev *dev;
	pthread_mutex_t order[BLOCKS]; /* who changes a block holds it, as an inode lock would be held */
	u64 count[BLOCKS];             /* [order] */
	u64 seed;
} all;

static int verify(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	const struct counted *c = data;

	if (c->blk != bh->blk || ctx->v[0] != bh->blk || c->count != c->count_again ||
	    c->sum != (c->blk ^ c->count * 31))
		return corrupt(NULL, "block", bh->blk, "torn");
	return 0;
}

static void seal(const struct buffer_head *bh, void *data)
{
	struct counted *c = data;

	(void)bh;
	c->sum = c->blk ^ c->count * 31;
}

static const struct bh_ops ops = { .name = "counted", .verify = verify, .seal = seal };

/* The buffer lock is what orders these readers against the writers. A new block is zeros for a moment. */
static const char *look(struct buffer_head *bh, u64 blk)
{
	const struct counted *c = bh->data;
	const char *bad;

	bh_lock(bh);
	bad = (c->blk == blk || !c->blk) && c->count == c->count_again ? NULL : "another block's bytes";
	bh_unlock(bh);
	return bad;
}

static const char *change(u64 blk, bool fresh)
{
	struct bh_ctx ctx = { { blk } };
	struct buffer_head *bh;
	const char *bad = NULL;
	struct counted *c;

	pthread_mutex_lock(&all.order[blk]);
	if (fresh ? bh_get_new(all.dev, blk, &ops, &ctx, &bh) : bh_read(all.dev, blk, &ops, &ctx, &bh)) {
		pthread_mutex_unlock(&all.order[blk]);
		return "cannot read to change";
	}
	bh_lock(bh);
	c = bh->data;
	if (!fresh && c->count != all.count[blk])
		bad = "a change was lost";
	c->blk = blk;
	c->count = c->count_again = ++all.count[blk];
	bh_dirty(bh);
	bh_unlock(bh);
	bh_put(bh);
	pthread_mutex_unlock(&all.order[blk]);
	return bad;
}

/* Writes the block, then drops it: the next reader finds it on the device. */
static const char *write_and_forget(u64 blk)
{
	struct bh_ctx ctx = { { blk } };
	struct buffer_head *bh;
	const char *bad = NULL;

	pthread_mutex_lock(&all.order[blk]);
	if (bh_read(all.dev, blk, &ops, &ctx, &bh)) {
		bad = "cannot read to forget";
	} else {
		if (bh_write(bh))
			bad = "cannot write";
		bh_forget(all.dev, blk);
		bh_put(bh);
	}
	pthread_mutex_unlock(&all.order[blk]);
	return bad;
}

static const char *read_many(u64 *seed)
{
	struct buffer_head *out[24];
	struct bh_ctx ctxs[24] = { 0 };
	const char *bad = NULL;
	u64 blks[24], from = rnd(seed) % (BLOCKS - 24);

	for (u32 i = 0; i < 24; i++) {
		blks[i] = rnd(seed) % 4 ? from + 23 - i : rnd(seed) % BLOCKS;
		ctxs[i].v[0] = blks[i];
	}
	if (bh_read_many(all.dev, blks, 24, &ops, ctxs, out))
		return "cannot read many";
	for (u32 i = 0; i < 24; i++) {
		if (!bad)
			bad = look(out[i], blks[i]);
		bh_put(out[i]);
	}
	return bad;
}

static const char *read_one(u64 blk)
{
	struct bh_ctx ctx = { { blk } };
	struct buffer_head *bh;
	const char *bad;

	if (bh_read(all.dev, blk, &ops, &ctx, &bh))
		return "cannot read";
	bad = look(bh, blk);
	bh_put(bh);
	return bad;
}

static void *run(void *arg)
{
	u64 seed = all.seed + (u64)(uintptr_t)arg * 7919;
	const char *bad = NULL;

	for (u32 i = 0; i < ROUNDS && !bad; i++) {
		u64 blk = rnd(&seed) % BLOCKS;

		switch (rnd(&seed) % 16) {
		case 0:
			bad = read_many(&seed);
			break;
		case 1:
			bh_readahead(all.dev, blk, 40);
			break;
		case 2:
			bad = write_and_forget(blk);
			break;
		case 3:
			bad = change(blk, true);
			break;
		case 4:
			if (i % 50 == 0 && bcache_sync(all.dev))
				bad = "cannot sync";
			break;
		case 5:
		case 6:
		case 7:
			bad = change(blk, false);
			break;
		default:
			bad = read_one(blk);
		}
	}
	return (void *)(uintptr_t)bad;
}

static void format(void)
{
	struct counted *c = calloc(1, sizeof(*c));

	for (u64 blk = 0; blk < BLOCKS; blk++) {
		pthread_mutex_init(&all.order[blk], NULL);
		all.count[blk] = 0;
		c->blk = c->sum = blk;
		assert_int_equal(blkdev_write(all.dev, blk * BLOCK, c, BLOCK, 0), 0);
	}
	free(c);
}

static void check_device(void)
{
	struct counted *c = malloc(sizeof(*c));

	for (u64 blk = 0; blk < BLOCKS; blk++) {
		assert_int_equal(blkdev_read(all.dev, blk * BLOCK, c, BLOCK), 0);
		assert_int_equal(c->blk, blk);
		assert_int_equal(c->count, all.count[blk]);
		assert_int_equal(c->sum, c->blk ^ c->count * 31);
	}
	free(c);
}

static void everything_at_once(void **state)
{
	u32 flags = *(u32 *)*state;
	char path[] = "/var/tmp/werunos-test-XXXXXX";
	int fd = mkstemp(path);
	struct bcache *cache;
	pthread_t t[THREADS];

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, BLOCKS * BLOCK), 0);
	all.seed = new_seed();
	assert_int_equal(dev_file_fd(fd, "f", DEV_WRITE | flags, &all.dev), 0);
	format();
	/* Room for an eighth of the blocks. */
	assert_int_equal(bcache_new(BLOCKS / 8 * BLOCK, &cache), 0);
	assert_int_equal(bcache_attach(cache, all.dev, BLOCK), 0);
	for (u32 i = 0; i < THREADS; i++)
		assert_int_equal(os_thread(&t[i], "stress", run, (void *)(uintptr_t)(i + 1)), 0);
	for (u32 i = 0; i < THREADS; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		if (bad)
			fail_msg("%s", (const char *)bad);
	}
	assert_int_equal(bcache_detach(all.dev, false), 0);
	assert_int_equal(bcache_bytes(cache), 0);
	check_device();
	bcache_free(cache);
	blkdev_put(all.dev);
}

int main(void)
{
	static u32 direct = DEV_DIRECT, no_ring = DEV_DIRECT | DEV_NO_RING, buffered = 0;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(everything_at_once, &direct),
		cmocka_unit_test_prestate(everything_at_once, &no_ring),
		cmocka_unit_test_prestate(everything_at_once, &buffered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
