/*
 * The journal by itself, without a file system: a volume of blocks that handles change several at a time, free, and use for
 * data that no log knows. After a crash the blocks are those after one operation between the last that a commit made sure and
 * the last that had begun; what is data then has its data.
 *
 * A block is free (any content will do), the journal's, or data. Freed blocks are used again once the transaction that freed
 * them is durable: that is what committed() says.
 */
#include "crash.h"

#include "jbd2/jbd2.h"
#include "lib/crc.h"
#include "lib/disk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK  1024u
#define BLOCKS 150u
#define LOG    300u
#define OPS    500u

enum owner { FREE, META, DATA };

struct cell {
	u8 owner;
	u32 op; /* whose content it has */
};

struct step {
	u64 start, end; /* records */
	u32 sure;       /* this and all before are durable when it has returned */
	struct cell cell[BLOCKS];
};

struct log_run {
	const char *kind;
	u32 incompat, compat;
	bool no_flush, no_forget, no_gate; /* what is switched off */
	struct blkdev *fault, *dev;        /* dev: what is mounted */
	struct bcache *cache;
	struct health health;
	struct jbd2 *j;
	u32 ops;
	struct step *step;  /* [1 .. ops] */
	bool waits[BLOCKS]; /* freed, in the transaction freed_in, which is not durable */
	u32 freed_in[BLOCKS];
	u32 last_tid;
};

static const struct {
	const char *name;
	u32 compat, incompat;
} kinds[] = {
	{ "plain", 0, 0 },
	{ "v1", JBD2_COMPAT_CHECKSUM, 0 },
	{ "v2-64", 0, JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_64BIT },
	{ "v3-64", 0, JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_64BIT },
};

static void content(u32 blk, const struct cell *c, u8 *out)
{
	pattern(blk * 4 + c->owner, c->op, 0, out, BLOCK);
	/* Some begin like a block of the log. */
	if (c->op % 7 == 0)
		memcpy(out, "\xc0\x3b\x39\x98", 4);
}

static void put32(u8 *p, u32 v)
{
	be32 x = be32_put(v);

	memcpy(p, &x, 4);
}

static void make_image(const struct log_run *l, u8 *image)
{
	u8 *sb = image + BLOCKS * BLOCK;

	memset(image, STAMP, BLOCKS * BLOCK);
	memset(sb, 0, LOG * BLOCK);
	put32(sb, 0xc03b3998);
	put32(sb + 4, 4);
	put32(sb + 0xc, BLOCK);
	put32(sb + 0x10, LOG);
	put32(sb + 0x14, 1);
	put32(sb + 0x18, 0xfffffff0); /* the number wraps */
	put32(sb + 0x24, l->compat);
	put32(sb + 0x28, l->incompat);
	put32(sb + 0x40, 1);
	if (l->incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3)) {
		sb[0x50] = 4;
		put32(sb + 0xfc, crc32c(~0u, sb, 1024));
	}
}

/* jbd2_ops.committed: the gate. */
static void committed(void *priv, u32 tid)
{
	struct log_run *l = priv;

	for (u32 i = 0; i < BLOCKS; i++)
		if (l->freed_in[i] == tid)
			l->waits[i] = false;
}

static const struct jbd2_ops ops = { .committed = committed };

static struct jbd2_where where_of(struct blkdev *dev)
{
	return (struct jbd2_where){ .dev = dev, .block_bytes = BLOCK, .blocks = LOG, .first_blk = BLOCKS };
}

static int start(struct log_run *l, struct blkdev *dev)
{
	struct jbd2_where where = where_of(dev);
	struct jbd2_config config = { .target = dev, .ops = &ops, .priv = l };
	int err = bcache_new(1 << 20, &l->cache);

	if (!err)
		err = bcache_attach(l->cache, dev, BLOCK);
	dev->health = &l->health;
	if (!err)
		err = jbd2_open(&where, &l->health, &l->j);
	return err ? err : jbd2_start(l->j, &config);
}

/* ---- operations ---- */

static struct step *begin(struct log_run *l)
{
	struct step *s = &l->step[++l->ops];

	*s = s[-1];
	s->start = dev_fault_records(l->fault);
	s->end = ~0ull;
	s->sure = 0;
	return s;
}

/* A block that the owner has, or BLOCKS. Free ones only if they may be used. */
static u32 some(struct log_run *l, u64 *seed, enum owner owner)
{
	for (u32 i = 0; i < 40; i++) {
		u32 blk = rnd_below(seed, BLOCKS);

		if (l->step[l->ops].cell[blk].owner == owner &&
		    (owner != FREE || l->no_gate || !l->waits[blk]))
			return blk;
	}
	return BLOCKS;
}

static int change(struct log_run *l, struct jbd2_handle *h, u32 blk)
{
	struct cell *c = &l->step[l->ops].cell[blk];
	struct buffer_head *bh;
	int err;

	if (blk == BLOCKS)
		return 0;
	err = c->owner == META ? bh_read(l->dev, blk, NULL, NULL, &bh)
			       : bh_get_new(l->dev, blk, NULL, NULL, &bh);
	if (err)
		return err;
	err = jbd2_access(h, bh);
	if (!err) {
		*c = (struct cell){ META, l->ops };
		content(blk, c, bh->data);
		jbd2_dirty(h, bh);
	}
	bh_put(bh);
	return err;
}

static int let_go(struct log_run *l, struct jbd2_handle *h, u32 blk)
{
	struct cell *c = &l->step[l->ops].cell[blk];
	int err = 0;

	if (blk == BLOCKS)
		return 0;
	if (c->owner == META && l->no_forget)
		bh_forget(l->dev, blk);
	else if (c->owner == META)
		err = jbd2_forget(h, blk);
	c->owner = FREE;
	l->waits[blk] = true;
	l->freed_in[blk] = h->tid;
	return err;
}

/* Bytes that no log knows, written before the operation that makes them count. */
static int put_data(struct log_run *l, u32 blk)
{
	struct cell c = { DATA, l->ops };
	u8 bytes[BLOCK];

	if (blk == BLOCKS)
		return 0;
	l->step[l->ops].cell[blk] = c;
	content(blk, &c, bytes);
	return blkdev_write(l->dev, (u64)blk * BLOCK, bytes, BLOCK, 0);
}

static int one_op(struct log_run *l, u64 *seed)
{
	u32 what = rnd_below(seed, 12), n = 1 + rnd_below(seed, 6);
	struct step *s = begin(l);
	struct jbd2_handle h;
	int err;

	if (what == 0) {
		s->sure = l->ops;
		return jbd2_commit(l->j, l->last_tid);
	}
	if (what == 1 && rnd_below(seed, 4) == 0) {
		s->sure = l->ops;
		return jbd2_flush(l->j, true);
	}
	err = what < 4 ? put_data(l, some(l, seed, FREE)) : 0;
	if (!err)
		err = jbd2_begin(l->j, 10, 3, &h);
	if (err)
		return err;
	for (u32 i = 0; i < n && !err; i++)
		err = change(l, &h, some(l, seed, rnd_below(seed, 4) ? META : FREE));
	if (!err && what > 7)
		err = let_go(l, &h, some(l, seed, META));
	if (!err && what > 9)
		err = let_go(l, &h, some(l, seed, DATA));
	l->last_tid = h.tid;
	jbd2_end(&h);
	return err;
}

/* ---- the judge ---- */

static bool state_is(const struct step *s, const u8 *image)
{
	u8 want[BLOCK];

	for (u32 i = 0; i < BLOCKS; i++) {
		if (s->cell[i].owner == FREE)
			continue;
		content(i, &s->cell[i], want);
		if (memcmp(want, image + i * BLOCK, BLOCK))
			return false;
	}
	return true;
}

static char *judge(struct log_run *l, struct judge *j, u64 cut)
{
	struct jbd2_recovery rec;
	struct jbd2_where where;
	struct blkdev *dev;
	struct jbd2 *log;
	u32 first = 0, last = 0;
	char *wrong = NULL;
	int err = dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev);

	if (err)
		return strdup("the image cannot be opened");
	where = where_of(dev);
	err = jbd2_open(&where, NULL, &log);
	if (!err) {
		err = jbd2_recover(log, dev, &rec);
		jbd2_close(log);
	}
	blkdev_put(dev);
	if (err && asprintf(&wrong, "recovery: %s: %s", strerror(-err), err_text()) < 0)
		abort();
	for (u32 i = 1; i <= l->ops; i++) {
		if (l->step[i].start <= cut)
			last = i;
		if (l->step[i].end <= cut && l->step[i].sure)
			first = l->step[i].sure;
	}
	for (u32 k = last + 1; !wrong && k-- > first;)
		if (state_is(&l->step[k], j->image))
			return NULL;
	if (!wrong &&
	    asprintf(&wrong,
		     "the blocks are those of no moment between operation %u, which was made sure, and %u",
		     first, last) < 0)
		abort();
	return wrong;
}

/* state_judge */
static char *judge_state(void *ctx, struct replay *p, struct judge *j, const struct state *s)
{
	(void)p;
	return judge(ctx, j, s->cut);
}

static char *judge_all(struct log_run *l, const u8 *before, const struct states *states, u64 *judged)
{
	struct run r = { .fault = l->fault,
			 .before = (u8 *)(uintptr_t)before,
			 .bytes = (BLOCKS + LOG) * BLOCK };
	struct replay p;
	struct judge j;
	char *wrong;

	if (judge_init(&j, r.bytes) || replay_init(&p, &r))
		return strdup("no memory for images");
	wrong = states_judge(states, &p, &j, judge_state, l, judged);
	replay_free(&p);
	judge_free(&j);
	return wrong;
}

static int record(struct log_run *l, const u8 *image, u64 seed)
{
	struct blkdev *mem;
	int err = dev_mem_new("memory", (BLOCKS + LOG) * BLOCK, SECTOR, &mem);

	if (!err)
		err = blkdev_write(mem, 0, image, (BLOCKS + LOG) * BLOCK, 0);
	if (!err)
		err = dev_fault_new(mem, true, &l->fault);
	if (!err)
		err = l->no_flush ? lossy_new(l->fault, &l->dev) : 0;
	if (!err && !l->no_flush)
		l->dev = blkdev_get(l->fault);
	if (!err)
		err = start(l, l->dev);
	blkdev_put(mem);
	for (u32 i = 0; i < OPS && !err; i++) {
		err = one_op(l, &seed);
		l->step[l->ops].end = dev_fault_records(l->fault);
	}
	if (!err) {
		begin(l)->sure = l->ops;
		err = jbd2_stop(l->j);
		l->step[l->ops].end = dev_fault_records(l->fault);
	}
	return err;
}

bool log_suite(const char *tooth, const struct states *states, u32 *tests)
{
	u64 seed = states->seed;
	u8 *image = malloc((BLOCKS + LOG) * BLOCK);
	bool good = true;

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct log_run l = { .kind = kinds[i].name,
				     .compat = kinds[i].compat,
				     .incompat = kinds[i].incompat };
		char *wrong = NULL;
		u64 judged = 0;
		int err;
		bool ok;

		l.no_forget = !strcmp(tooth, "revoke");
		l.no_flush = !strcmp(tooth, "flush");
		l.no_gate = !strcmp(tooth, "gate");
		l.step = calloc(OPS + 3, sizeof(*l.step));
		health_init(&l.health, "log");
		make_image(&l, image);
		err = record(&l, image, (seed * 7919 + i) | 1);
		if (err && asprintf(&wrong, "operation %u: %s: %s", l.ops, strerror(-err), err_text()) < 0)
			abort();
		if (!err)
			wrong = judge_all(&l, image, states, &judged);
		ok = !wrong == !tooth[0];
		good &= ok;
		printf("%sok %u - crash/log-%s%s%s seed %llu: %u operations, %llu states\n", ok ? "" : "not ",
		       ++*tests, l.kind, tooth[0] ? " without " : "", tooth, (unsigned long long)seed, l.ops,
		       (unsigned long long)judged);
		if (wrong)
			printf("# %s\n", wrong);
		free(wrong);
		jbd2_close(l.j);
		(void)!bcache_detach(l.dev, true);
		bcache_free(l.cache);
		blkdev_put(l.dev);
		blkdev_put(l.fault);
		health_fini(&l.health);
		free(l.step);
	}
	free(image);
	return good;
}
