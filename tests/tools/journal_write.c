/*
 * journal_write IMAGE BLOCK_BYTES SEED WANT CHANGES OUT < COUNT journal blocks, in order, COUNT blocks to change
 *
 * Changes the given blocks of the image through its journal, in CHANGES random transactions of which the last are in the log only, then
 * stops as if the power had gone. Some blocks are freed meanwhile and written past the journal. WANT: features of the journal to switch
 * on. OUT gets what the blocks must be after recovery, one behind the other.
 */
#include "jbd2/jbd2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOUCH_MAX 60u

struct blocks {
	u64 *blk;
	u64 count;
};

struct writer {
	struct blkdev *dev;
	struct jbd2 *j;
	struct blocks log, home;
	u8 **is;     /* what each block of home is */
	bool *freed; /* since the last commit */
	bool *data;  /* written past the journal: freed, and durably so */
	u32 bytes;
	u64 seed;
};

static int map(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	const struct blocks *m = priv;

	*blk = m->blk[lblk];
	for (*count = 1; lblk + *count < m->count && m->blk[lblk + *count] == *blk + *count;)
		++*count;
	return 0;
}

static u64 rnd(struct writer *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static int read_blocks(struct blocks *b)
{
	unsigned long long n;

	if (scanf("%llu", &n) != 1)
		return -1;
	b->blk = calloc(n, sizeof(*b->blk));
	for (b->count = 0; b->blk && b->count < n; b->count++) {
		unsigned long long blk;

		if (scanf("%llu", &blk) != 1)
			return -1;
		b->blk[b->count] = blk;
	}
	return b->blk ? 0 : -1;
}

/* New content of block i; now and then it looks like one of the log's own. */
static void fill(struct writer *w, u64 i)
{
	u64 word = rnd(w);

	for (u32 at = 0; at < w->bytes; at += 8)
		memcpy(w->is[i] + at, &word, 8);
	if (rnd(w) % 4 == 0)
		memcpy(w->is[i], "\xc0\x3b\x39\x98\0\0\0\2", 8);
}

static int put(struct writer *w, struct jbd2_handle *h, u64 i)
{
	struct buffer_head *bh;
	int err = bh_get_new(w->dev, w->home.blk[i], NULL, NULL, &bh);

	if (err)
		return err;
	err = jbd2_access(h, bh);
	if (!err) {
		fill(w, i);
		memcpy(bh->data, w->is[i], w->bytes);
		jbd2_dirty(h, bh);
	}
	w->data[i] = w->freed[i] = false;
	bh_put(bh);
	return err;
}

static int change(struct writer *w, u32 *tid)
{
	u32 n = 1 + (u32)(rnd(w) % TOUCH_MAX);
	struct jbd2_handle h;
	int err = jbd2_begin(w->j, n, n, &h);

	if (err)
		return err;
	for (; n && !err; n--) {
		u64 i = rnd(w) % w->home.count;

		if (rnd(w) % 5 || w->data[i]) {
			err = w->freed[i] ? 0 : put(w, &h, i);
			continue;
		}
		err = jbd2_forget(&h, w->home.blk[i]);
		w->freed[i] = true;
	}
	*tid = h.tid;
	jbd2_end(&h);
	return err;
}

/* What was freed is durably free now: all of it becomes data. */
static int use_freed(struct writer *w)
{
	for (u64 i = 0; i < w->home.count; i++) {
		int err;

		if (!w->freed[i])
			continue;
		fill(w, i);
		err = blkdev_write(w->dev, w->home.blk[i] * w->bytes, w->is[i], w->bytes, 0);
		if (err)
			return err;
		w->freed[i] = false;
		w->data[i] = true;
	}
	return 0;
}

static int run(struct writer *w, u32 changes)
{
	int err = 0;

	for (u32 c = 0; c < changes && !err; c++) {
		u32 tid;

		err = change(w, &tid);
		/* The last one always, so that all is durable in the end. */
		if (!err && (rnd(w) % 2 || c == changes - 1)) {
			err = jbd2_commit(w->j, tid);
			if (!err)
				err = use_freed(w);
		}
		if (!err && c == changes / 2)
			err = jbd2_flush(w->j, true);
	}
	return err ? err : blkdev_flush(w->dev);
}

static int open_all(struct writer *w, const char *image, u32 want, struct bcache **cache)
{
	struct jbd2_where where = { .block_bytes = w->bytes, .map = map, .priv = &w->log };
	struct jbd2_config config = { .incompat_want = want };
	int err = dev_file_open(image, DEV_WRITE, &w->dev);

	if (!err)
		err = bcache_new(0, cache);
	if (!err)
		err = bcache_attach(*cache, w->dev, w->bytes);
	where.dev = config.target = w->dev;
	where.blocks = w->log.count;
	if (!err)
		err = jbd2_open(&where, NULL, &w->j);
	return err ? err : jbd2_start(w->j, &config);
}

static int read_home(struct writer *w)
{
	int err = 0;

	w->is = calloc(w->home.count, sizeof(*w->is));
	w->freed = calloc(w->home.count, sizeof(bool));
	w->data = calloc(w->home.count, sizeof(bool));
	if (!w->is || !w->freed || !w->data)
		return -1;
	for (u64 i = 0; i < w->home.count && !err; i++) {
		w->is[i] = malloc(w->bytes);
		err = w->is[i] ? blkdev_read(w->dev, w->home.blk[i] * w->bytes, w->is[i], w->bytes) : -1;
	}
	return err;
}

static int save(struct writer *w, const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return -1;
	for (u64 i = 0; i < w->home.count; i++)
		fwrite(w->is[i], 1, w->bytes, f);
	return fclose(f);
}

int main(int argc, char **argv)
{
	struct writer w = { 0 };
	struct bcache *cache = NULL;
	struct jbd2_stats st;
	int err;

	if (argc != 7 || read_blocks(&w.log) || read_blocks(&w.home)) {
		fprintf(stderr, "usage: journal_write IMAGE BLOCK_BYTES SEED WANT CHANGES OUT < BLOCKS\n");
		return 64;
	}
	w.bytes = (u32)strtoul(argv[2], NULL, 0);
	w.seed = strtoull(argv[3], NULL, 0) | 1;
	err = open_all(&w, argv[1], (u32)strtoul(argv[4], NULL, 0), &cache);
	if (!err)
		err = read_home(&w);
	if (!err)
		err = run(&w, (u32)strtoul(argv[5], NULL, 0));
	if (!err)
		err = save(&w, argv[6]);
	if (err) {
		fprintf(stderr, "%d %s\n", err, err_text());
		return 1;
	}
	jbd2_stats(w.j, &st);
	printf("commits=%llu logged=%llu revoked=%llu checkpoints=%llu start=%llu compat=%u incompat=%u\n",
	       (unsigned long long)st.commits, (unsigned long long)st.blocks_logged,
	       (unsigned long long)st.blocks_revoked, (unsigned long long)st.checkpoints,
	       (unsigned long long)jbd2_info(w.j)->start, jbd2_info(w.j)->compat, jbd2_info(w.j)->incompat);
	jbd2_close(w.j);
	err = bcache_detach(w.dev, true);
	bcache_free(cache);
	blkdev_put(w.dev);
	return err ? 1 : 0;
}
