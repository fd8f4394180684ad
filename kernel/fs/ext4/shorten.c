/*
 * A volume becomes shorter: openings one after the other, each of which leaves it closed and clean.
 *
 *   what a crash left is finished ─► inodes ─► blocks, and the journal is prepared ─► (the journal moves, is tidied) ─► the end ─► copies
 *
 * The volume is opened anew where what is in memory would not be what is on the volume any more: inodes that got other numbers, records of quotas in
 * blocks that moved, where the journal is.
 */
#include "shorten.h"

#include <errno.h>

/* Each frees tables, so that the next can go further: the first ones by most. */
#define STEPS_MAX   16u
#define WIDER_PART  64u
#define WIDER_BYTES (256u << 10)
#define WIDER_UNITS 4u

/* ---- the parts, each on the volume open for it ---- */

static int finish(struct ext4_super *es, struct ext4_short *s)
{
	(void)s;
	return ext4_short_log_tidy(es);
}

static int limit(struct ext4_super *es, struct ext4_short *s)
{
	s->es = es;
	ext4_inos_limit(es, s->groups);
	return ext4_blocks_limit(es, s->end);
}

static int inodes(struct ext4_super *es, struct ext4_short *s)
{
	int err = limit(es, s);

	return err ? err : ext4_short_inodes(s);
}

static int blocks(struct ext4_super *es, struct ext4_short *s)
{
	int err = limit(es, s);

	if (!err)
		err = ext4_short_blocks(s);
	return err || !s->log ? err : ext4_short_log_prepare(s);
}

static int copies(struct ext4_super *es, struct ext4_short *s)
{
	const struct ext4_features all = { .all = true };

	(void)s;
	ext4_copies_write(es, &all);
	return ext4_flush(es);
}

static int with(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		int (*part)(struct ext4_super *es, struct ext4_short *s), struct ext4_short *s)
{
	struct ext4_super *es;
	int err = ext4_short_open_written(type, dev, opts, &es);

	if (err)
		return err;
	err = part(es, s);
	ext4_short_close(es, &err);
	return err;
}

static int move_log(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		    struct ext4_short *s)
{
	struct ext4_super *es;
	int err = ext4_short_open(type, dev, opts, &es);

	if (err)
		return err;
	err = ext4_short_log_move(es);
	ext4_short_close(es, &err);
	return err ? err : with(type, dev, opts, finish, s);
}

/* ---- all of it ---- */

static int plan(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		struct ext4_short *s)
{
	struct shorten *what = s->what;
	struct mount_opts read = *opts;
	struct ext4_super *es;
	u32 bits;
	int err;

	read.rdonly = true;
	read.norecovery = false;
	err = ext4_super_open(dev, type, &read, &es);
	if (err)
		return err;
	bits = es->block_bits;
	what->before_bytes = es->blocks << bits;
	err = ext4_short_plan(es, what->size_bytes ? MAX(what->size_bytes >> bits, 1ull) : 0, s);
	what->least_bytes = s->least << bits;
	what->after_bytes = err ? what->before_bytes : MIN(s->end, (u64)es->blocks) << bits;
	what->blocks_moved = s->blocks;
	what->inodes_moved = s->inodes;
	what->log_moved = s->log;
	ext4_short_close(es, &err);
	return err;
}

static int length(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts, u64 *bytes)
{
	struct ext4_super *es;
	int err = ext4_short_open(type, dev, opts, &es);

	if (err)
		return err;
	*bytes = es->blocks << es->block_bits;
	ext4_short_close(es, &err);
	return err;
}

/* One step of the way. */
static int step(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		struct ext4_short *s)
{
	int err = s->inodes ? with(type, dev, opts, inodes, s) : 0;

	if (!err)
		err = with(type, dev, opts, blocks, s);
	if (!err && s->log)
		err = move_log(type, dev, opts, s);
	if (!err)
		err = ext4_short_end(type, dev, opts, s);
	return err ? err : with(type, dev, opts, copies, s);
}

static void add_up(struct shorten *sum, const struct shorten *one, u32 steps)
{
	sum->before_bytes = steps ? sum->before_bytes : one->before_bytes;
	sum->least_bytes = one->least_bytes;
	sum->blocks_moved += one->blocks_moved;
	sum->inodes_moved += one->inodes_moved;
	sum->log_moved |= one->log_moved;
}

/* One step by what is planned; *want: what to plan for next. 1: that is all. */
static int go(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
	      const struct shorten *one, struct ext4_short *s, u64 *want)
{
	bool least = !*want;
	int err;

	if (one->after_bytes == one->before_bytes)
		return 1;
	err = step(type, dev, opts, s);
	if (err != -ENOSPC)
		return err ? err : !s->more;
	if (!least)
		return fail(err,
			    "%s: what lies behind the new end does not fit before it after all: choose a "
			    "larger size",
			    dev->name);
	/* It was an estimate. */
	*want = one->after_bytes +
		MAX(one->after_bytes / WIDER_PART, MAX((u64)WIDER_BYTES, WIDER_UNITS * s->unit_bytes));
	return 0;
}

static int shorten(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		   struct shorten *what)
{
	struct ext4_short s = { .more = true };
	u64 want = what->size_bytes;
	int err = what->plan_only ? 0 : with(type, dev, opts, finish, &s), done = 0;

	for (u32 steps = 0; !err && !done && steps < STEPS_MAX; steps++) {
		struct shorten one = *what;

		one.size_bytes = want;
		s.what = &one;
		err = plan(type, dev, opts, &s);
		add_up(what, &one, steps);
		what->after_bytes = one.before_bytes;
		if (err)
			break;
		if (what->plan_only) {
			what->after_bytes = s.more ? MAX(one.least_bytes, want) : one.after_bytes;
			break;
		}
		done = go(type, dev, opts, &one, &s, &want);
		err = MIN(done, 0);
		if (!err)
			err = length(type, dev, opts, &what->after_bytes);
	}
	if (!err && !what->plan_only && what->size_bytes && what->after_bytes > what->size_bytes)
		err = fail(-ENOSPC,
			   "%s: it has %llu bytes now, and nothing more can be moved: choose a larger size",
			   dev->name, (unsigned long long)what->after_bytes);
	return err;
}

int ext4_shorten(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		 struct shorten *what)
{
	const struct fs_claim claim = { 0 };
	struct mount_opts claimed = *opts;
	struct blkdev *ours = NULL;
	int err = opts->claimed || what->plan_only ? 0 : ext4_claim(dev, type, &claim, &ours);

	claimed.claimed |= ours != NULL;
	if (!err)
		err = shorten(type, ours ? ours : dev, &claimed, what);
	blkdev_put(ours);
	return err;
}
