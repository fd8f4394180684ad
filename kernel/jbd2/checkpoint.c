/*
 * Making room in the log: what is durable there goes home, and the tail moves.
 *
 * A buffer is home when it is clean: the cache writes it back by itself, or we do. A buffer that a younger transaction has
 * is pinned; it moves on to that one when it is durable, so the older one is rid of it.
 *
 * Invariants
 *  1. The tail moves over a transaction when none of its buffers is left on it; then the volume's device is flushed, then the
 *     superblock is written, durably, and only then its room is used again.
 *  2. The first error of the cache is looked at after the buffers were seen clean: a failed write never moves the tail.
 *  3. Transactions leave j->durable here alone, the oldest first.
 */
#include "journal.h"

#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define PICK_LOCKED 128u  /* buffers picked while the lock is held */
#define BATCH       4096u /* written in block order */
#define ROUNDS_MAX  8u

/* ---- what is home ---- */

/* Takes the buffer off its transaction if it is home. After a failed write nobody knows which are: all stay, and so stay in memory for
 * those who read. */
static void settle(struct jbd2 *j, struct buffer_head *bh)
{
	struct jhead *head;

	bh_lock(bh);
	head = bh->owner;
	if (head && head->home && !bh_is_dirty(bh) && !bcache_error(bh->dev)) {
		mutex_lock(&j->lock);
		list_del(&head->cp_link);
		mutex_unlock(&j->lock);
		head->home = NULL;
		if (!head->run && !head->commit)
			jbd2_head_free(j, head);
	}
	bh_unlock(bh);
}

/* References to buffers of t, which it moves to `seen`: the clean ones, or all. Returns how many, at most `max`. */
static u32 pick(struct jbd2 *j, struct trans *t, bool clean, struct list *seen, struct buffer_head **out,
		u32 max)
{
	u32 n = 0;

	mutex_guard(&j->lock);
	for (u32 i = 0; i < max; i++) {
		struct list *l = list_pop(&t->homeless);
		struct buffer_head *bh;

		if (!l)
			break;
		bh = list_entry(l, struct jhead, cp_link)->bh;
		list_add_tail(seen, l);
		if (!clean || !bh_is_dirty(bh))
			out[n++] = bh_get(bh);
	}
	return n;
}

static bool all_seen(struct jbd2 *j, struct trans *t)
{
	mutex_guard(&j->lock);
	return list_empty(&t->homeless);
}

static void give_back(struct jbd2 *j, struct trans *t, struct list *seen)
{
	mutex_guard(&j->lock);
	list_splice_tail(&t->homeless, seen);
}

static void settle_and_put(struct jbd2 *j, struct buffer_head **bh, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		settle(j, bh[i]);
		bh_put(bh[i]);
	}
}

/* The durable transaction behind t (NULL: the first), up to `last`; NULL: no more. */
static struct trans *next_durable(struct jbd2 *j, struct trans *t, u32 last)
{
	struct list *l;

	mutex_guard(&j->lock);
	l = t ? t->link.next : j->durable.next;
	if (l == &j->durable)
		return NULL;
	t = list_entry(l, struct trans, link);
	return tid_gt(t->tid, last) ? NULL : t;
}

void jbd2_sweep(struct jbd2 *j)
{
	struct buffer_head *bh[PICK_LOCKED];
	u32 last = atomic_load(&j->durable_tid);

	lock_assert_held(&j->checkpoint_lock);
	for (struct trans *t = NULL; (t = next_durable(j, t, last));) {
		struct list seen = LIST_INIT(seen);

		while (!all_seen(j, t))
			settle_and_put(j, bh, pick(j, t, true, &seen, bh, PICK_LOCKED));
		give_back(j, t, &seen);
	}
}

/* Writes home what is not pinned of the transactions up to `last`. */
static int write_home(struct jbd2 *j, u32 last)
{
	struct buffer_head **bh = malloc(BATCH * sizeof(struct buffer_head *));
	u32 n = 0;

	if (!bh)
		return fail(-ENOMEM, "no memory for a checkpoint");
	for (struct trans *t = NULL; (t = next_durable(j, t, last));) {
		struct list seen = LIST_INIT(seen);

		while (!all_seen(j, t)) {
			n += pick(j, t, false, &seen, bh + n, MIN(BATCH - n, PICK_LOCKED));
			if (n < BATCH)
				continue;
			bh_write_many(bh, n);
			settle_and_put(j, bh, n);
			n = 0;
		}
		give_back(j, t, &seen);
	}
	bh_write_many(bh, n);
	settle_and_put(j, bh, n);
	free(bh);
	return 0;
}

/* ---- the tail ---- */

/* Takes the oldest transactions that need the log no more off j->durable. False: there are none. */
static bool take_done(struct jbd2 *j, struct list *done, u64 *tail, u32 *tid)
{
	struct trans *t;

	mutex_guard(&j->lock);
	while (!list_empty(&j->durable)) {
		t = list_entry(j->durable.next, struct trans, link);
		if (!list_empty(&t->homeless))
			break;
		list_del(&t->link);
		list_add_tail(done, &t->link);
	}
	t = list_empty(&j->durable) ? j->committing : list_entry(j->durable.next, struct trans, link);
	*tail = t ? t->log_first : j->head;
	*tid = t ? t->tid : j->running ? j->running->tid : j->next_tid;
	return !list_empty(done);
}

static int move_tail(struct jbd2 *j)
{
	struct list done = LIST_INIT(done), *l;
	u64 tail, ring = j->info.end - j->info.first;
	u32 tid;
	int err;

	if (!take_done(j, &done, &tail, &tid))
		return 0;
	err = blkdev_flush(j->config.target);
	if (!err)
		err = bcache_error(j->config.target);
	if (!err)
		err = jbd2_usable(j);
	if (!err)
		err = jbd2_super_write(j, tail, tid, BIO_FUA);
	if (!err) {
		mutex_lock(&j->lock);
		j->tail = tail;
		/* The log is never full: the same place means that it is empty. */
		j->free = ring - (j->head + ring - tail) % ring;
		j->stats.checkpoints++;
		mutex_unlock(&j->lock);
	}
	while ((l = list_pop(&done)))
		jbd2_trans_free(list_entry(l, struct trans, link));
	return err;
}

static bool left(struct jbd2 *j, u32 last)
{
	return next_durable(j, NULL, last);
}

int jbd2_checkpoint(struct jbd2 *j, bool all)
{
	u32 last = atomic_load(&j->durable_tid);
	int err = jbd2_usable(j);

	lock_assert_held(&j->checkpoint_lock);
	for (u32 round = 0; !err && left(j, last); round++) {
		err = write_home(j, last);
		if (!err)
			err = bcache_error(j->config.target);
		if (!err)
			err = move_tail(j);
		if (err || !all || !left(j, last))
			break;
		if (round == ROUNDS_MAX)
			return -EBUSY;
		err = jbd2_commit_all(j);
	}
	if (err && err != -ENOMEM)
		jbd2_abort(j, err);
	return err;
}

/* Where fast commits will be when somebody makes them again, nothing of ours must look like one. */
static int void_fast_commits(struct jbd2 *j)
{
	u8 *block;
	int err;

	if (!j->fc_void)
		return 0;
	block = calloc(1, j->info.block_bytes);
	if (!block)
		return fail(-ENOMEM, "no memory for a block");
	err = jbd2_write(j, j->fc_void, 1, block, 0);
	free(block);
	return err;
}

int jbd2_close_log(struct jbd2 *j, bool *empty)
{
	u32 tid;
	int err = jbd2_usable(j);

	lock_assert_held(&j->checkpoint_lock);
	if (err)
		return err;
	jbd2_commit_enter(j);
	mutex_lock(&j->lock);
	*empty = list_empty(&j->durable);
	tid = j->running ? j->running->tid : j->next_tid;
	mutex_unlock(&j->lock);
	if (*empty && j->log_open) {
		err = void_fast_commits(j);
		if (!err)
			err = jbd2_super_write(j, 0, tid, BIO_FUA);
		j->log_open = err;
	}
	jbd2_commit_leave(j);
	if (err)
		jbd2_abort(j, err);
	return err;
}
