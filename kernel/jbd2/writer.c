/*
 * The journal as one who writes has it: starting and stopping, beginning a handle, and the thread that commits what nobody asked
 * for.
 *
 *  - jbd2_start, jbd2_stop, jbd2_flush, jbd2_close
 *  - jbd2_begin, jbd2_begin_long, jbd2_restart
 *
 * A transaction begins when the log has room for the largest there may be, so that neither its handles nor its commit have to
 * look again.
 *
 * After an abort buffers that a transaction has stay pinned, so that reading goes on with what is in memory; when the
 * journal is stopped they are void, unwritten.
 */
#include "journal.h"

#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define COMMIT_MS_DEFAULT 5000u
#define IDLE_MS           1000u
#define IDLE_ROUNDS       3u /* after which memory is given back */
#define TRANSACTION_MIN   8u /* blocks of the log */
#define PINNED_MS         20u
#define PINNED_TRIES      3000u

/* ---- handles ---- */

/* Locks: j->lock. */
static bool has_room(const struct jbd2 *j)
{
	return j->free > j->max_blocks;
}

/* Who has a buffer pinned and sends it home himself gets time for that, a minute in all. Locks: checkpoint_lock, which is given up meanwhile. */
static int wait_for_pinned(struct jbd2 *j, u32 *tries)
{
	int err = 0;

	if (++*tries > PINNED_TRIES) {
		err = fail(-EIO, "the log cannot be emptied");
		jbd2_abort(j, err);
		return err;
	}
	mutex_unlock(&j->checkpoint_lock);
	mutex_lock(&j->lock);
	(void)cond_wait_ms(&j->done, &j->lock, PINNED_MS);
	mutex_unlock(&j->lock);
	mutex_lock(&j->checkpoint_lock);
	return 0;
}

/* Returns when a transaction runs or the log has room for one. */
static int make_room(struct jbd2 *j)
{
	u32 tries = 0;
	int err = 0;
	bool room;

	mutex_lock(&j->checkpoint_lock);
	for (u32 round = 0; !err; round++) {
		mutex_lock(&j->lock);
		room = j->running || has_room(j);
		mutex_unlock(&j->lock);
		if (room)
			break;
		err = jbd2_checkpoint(j, round);
		if (err == -EBUSY)
			err = wait_for_pinned(j, &tries);
	}
	mutex_unlock(&j->checkpoint_lock);
	return err;
}

/* Locks: j->lock. */
static int begin_transaction(struct jbd2 *j)
{
	struct trans *t = jbd2_trans_new(j->next_tid);

	if (!t)
		return fail(-ENOMEM, "no memory for a transaction");
	t->max_blocks = j->max_blocks;
	j->next_tid++;
	j->running = t;
	return 0;
}

/* What a handle waits for. */
enum obstacle { NONE, NO_ROOM, FULL, ERROR };

/* Joins the running transaction, or begins one. full: the transaction that must be committed first. */
static enum obstacle join_running(struct jbd2 *j, u32 credits, u32 revokes, struct jbd2_handle *h, u32 *full,
				  int *err)
{
	mutex_guard(&j->lock);
	for (;;) {
		*err = jbd2_usable(j);
		if (!*err && jbd2_cost(j, credits, revokes) > j->max_blocks)
			*err = fail(-ENOSPC, "a change of %u blocks does not fit into the journal", credits);
		if (*err)
			return ERROR;
		if (!j->running && !has_room(j))
			return NO_ROOM;
		if (!j->running) {
			*err = begin_transaction(j);
			if (*err)
				return ERROR;
		}
		if (!j->running->locked)
			break;
		cond_wait(&j->unlocked, &j->lock);
	}
	*full = j->running->tid;
	if (!jbd2_grant(j, h, credits, revokes))
		return FULL;
	j->running->handles++;
	h->tid = j->running->tid;
	return NONE;
}

int jbd2_begin(struct jbd2 *j, u32 credits, u32 revokes, struct jbd2_handle *h)
{
	int err = 0;
	u32 full;

	*h = (struct jbd2_handle){ .journal = j };
	/* Before it waits, so that an inversion is seen. */
	lock_note_acquire(j, RANK_HANDLE, false);
	lock_note_release(j);
	while (!err) {
		switch (join_running(j, credits, revokes, h, &full, &err)) {
		case NO_ROOM:
			err = make_room(j);
			break;
		case FULL:
			err = jbd2_commit(j, full);
			break;
		case ERROR:
			break;
		case NONE:
			lock_note_acquire(j, RANK_HANDLE, false);
			return 0;
		}
	}
	return err;
}

/* Of the transactions that begin from now on. */
static void set_max(struct jbd2 *j, u64 blocks)
{
	mutex_guard(&j->lock);
	j->max_blocks = (u32)MAX(MIN(blocks, (u64)j->most_blocks), (u64)j->usual_blocks);
}

int jbd2_begin_long(struct jbd2 *j, u32 credits, u32 revokes, struct jbd2_handle *h)
{
	u64 cost = jbd2_cost(j, credits, revokes);
	int err;

	set_max(j, cost);
	err = jbd2_begin(j, credits, revokes, h);
	set_max(j, 0);
	return err;
}

int jbd2_restart(struct jbd2_handle *h, u32 credits, u32 revokes)
{
	struct jbd2 *j = h->journal;

	jbd2_end(h);
	return jbd2_begin(j, credits, revokes, h);
}

u32 jbd2_running(struct jbd2 *j)
{
	mutex_guard(&j->lock);
	return j->running ? j->running->tid : j->next_tid;
}

bool jbd2_is_running(struct jbd2 *j, u32 tid)
{
	mutex_guard(&j->lock);
	return j->running && j->running->tid == tid;
}

u32 jbd2_credits_max(const struct jbd2 *j)
{
	return j->credits_max;
}

void jbd2_stats(struct jbd2 *j, struct jbd2_stats *out)
{
	mutex_guard(&j->lock);
	*out = j->stats;
	out->log_bytes_free = j->free * j->info.block_bytes;
}

/* ---- the thread ---- */

/* The transaction that is old enough, else how long to wait. Locks: j->lock. */
static bool is_due(struct jbd2 *j, u32 *tid, u32 *wait_ms)
{
	u64 age, now = os_monotonic_ns();

	*wait_ms = MIN(j->config.commit_ms, IDLE_MS);
	if (!j->running || j->running->locked || atomic_load(&j->err))
		return false;
	age = (now - MIN(j->running->born_ns, now)) / 1000000;
	*tid = j->running->tid;
	if (age >= j->config.commit_ms || j->running->ripe)
		return true;
	*wait_ms = (u32)MIN((u64)IDLE_MS, j->config.commit_ms - age);
	return false;
}

static void look_at_log(struct jbd2 *j, bool half_used)
{
	if (!mutex_trylock(&j->checkpoint_lock))
		return;
	if (!half_used)
		jbd2_sweep(j);
	else if (jbd2_checkpoint(j, false))
		err_clear();
	mutex_unlock(&j->checkpoint_lock);
}

static void *work(void *arg)
{
	struct jbd2 *j = arg;

	mutex_lock(&j->lock);
	while (!j->stopping) {
		u32 tid, wait_ms;
		bool half;

		if (is_due(j, &tid, &wait_ms)) {
			mutex_unlock(&j->lock);
			if (jbd2_commit(j, tid))
				err_clear();
			mutex_lock(&j->lock);
			continue;
		}
		half = j->free < (j->info.end - j->info.first) / 2;
		j->idle_rounds = j->running ? 0 : j->idle_rounds + 1;
		mutex_unlock(&j->lock);
		look_at_log(j, half && !atomic_load(&j->err));
		if (j->idle_rounds == IDLE_ROUNDS)
			jbd2_image_drop(j);
		mutex_lock(&j->lock);
		if (!j->stopping)
			(void)cond_wait_ms(&j->wake, &j->lock, wait_ms);
	}
	mutex_unlock(&j->lock);
	return NULL;
}

/* ---- start ---- */

static int check_config(struct jbd2 *j, const struct jbd2_config *config)
{
	const struct jbd2_recovery *r = config->resume;

	if (j->started || !j->info.start != !r)
		return fail(-EINVAL, "the journal is not empty");
	if (r && (r->head < j->info.first || r->head >= j->info.end || r->bad_commit))
		return fail(-EINVAL, "the journal cannot be gone on with");
	if (!config->target->cache || config->target->cache_block_bytes != j->info.block_bytes)
		return fail(-EINVAL, "%s has no cache for blocks of %u bytes", config->target->name,
			    j->info.block_bytes);
	return 0;
}

/* How large a transaction may be. */
static int set_limits(struct jbd2 *j)
{
	u64 ring = j->info.end - j->info.first;
	/* What has the log to itself may take all of it, which is never full. */
	u64 log = j->config.resume || j->config.alone ? ring - 1 : ring / 4;
	u64 cache = bcache_limit_bytes(j->config.target->cache) / 2 / j->info.block_bytes;
	u32 max = (u32)MIN(log, cache), most = max;

	if (max < TRANSACTION_MIN)
		return fail(-EINVAL, "a log of %llu blocks is too short to be written",
			    (unsigned long long)j->info.blocks);
	j->usual_blocks = j->max_blocks = max;
	/* Beside such a transaction one of the usual ones has room. */
	j->most_blocks = MAX((u32)MIN(ring - ring / 4, cache), max);
	while (jbd2_cost(j, most, most) > max)
		most--;
	j->credits_max = most;
	return 0;
}

static void set_up(struct jbd2 *j)
{
	mutex_init(&j->lock, RANK_JOURNAL);
	mutex_init(&j->checkpoint_lock, RANK_CHECKPOINT);
	cond_init(&j->unlocked);
	cond_init(&j->quiet);
	cond_init(&j->done);
	cond_init(&j->wake);
	list_init(&j->durable);
	list_init(&j->heads_free);
	j->next_tid = j->info.sequence ? j->info.sequence : 1;
	j->done_tid = j->next_tid - 1;
	atomic_store(&j->durable_tid, j->done_tid);
	j->head = j->tail = j->info.first;
	j->free = j->info.end - j->info.first;
	j->log_open = j->stopping = j->commit_busy = false;
	atomic_store(&j->err, 0);
	j->stats = (struct jbd2_stats){ 0 };
	j->started = true;
}

static void tear_down(struct jbd2 *j)
{
	jbd2_heads_free(j);
	jbd2_map_drop(j);
	free(j->image);
	j->image = NULL;
	j->image_blocks = 0;
	j->started = false;
	cond_fini(&j->wake);
	cond_fini(&j->done);
	cond_fini(&j->quiet);
	cond_fini(&j->unlocked);
	mutex_fini(&j->checkpoint_lock);
	mutex_fini(&j->lock);
}

/* What was recovered is home and flushed; then the log begins where the next transaction will be. */
static int resume(struct jbd2 *j)
{
	const struct jbd2_recovery *r = j->config.resume;
	int err = blkdev_flush(j->config.target);

	j->next_tid = r->end;
	j->done_tid = r->end - 1;
	atomic_store(&j->durable_tid, j->done_tid);
	j->head = j->tail = r->head;
	if (!err)
		err = jbd2_super_write(j, r->head, r->end, BIO_FUA);
	j->log_open = true;
	j->config.resume = NULL;
	return err;
}

int jbd2_start(struct jbd2 *j, const struct jbd2_config *config)
{
	u32 want = config->incompat_want | JBD2_INCOMPAT_REVOKE;
	int err = check_config(j, config);

	if (err)
		return err;
	j->config = *config;
	if (!j->config.commit_ms)
		j->config.commit_ms = COMMIT_MS_DEFAULT;
	if (config->target->size_bytes / j->info.block_bytes > UINT32_MAX)
		want |= JBD2_INCOMPAT_64BIT;
	jbd2_features_set(j, want, config->resume);
	err = set_limits(j);
	if (!err)
		err = jbd2_map_all(j);
	if (err)
		return err;
	set_up(j);
	if (config->resume)
		err = resume(j);
	if (err) {
		tear_down(j);
		return err;
	}
	err = os_thread(&j->thread, "jbd2", work, j);
	if (err)
		tear_down(j);
	return err;
}

/* ---- stop ---- */

int jbd2_flush(struct jbd2 *j, bool checkpoint)
{
	bool empty = !checkpoint;
	u32 tries = 0;
	int err = jbd2_commit_all(j);

	if (err || !checkpoint)
		return err;
	mutex_lock(&j->checkpoint_lock);
	for (u32 round = 0; !err && !empty && round < 2; round++) {
		err = jbd2_checkpoint(j, true);
		while (err == -EBUSY) {
			err = wait_for_pinned(j, &tries);
			if (!err)
				err = jbd2_checkpoint(j, true);
		}
		if (!err)
			err = jbd2_close_log(j, &empty);
	}
	mutex_unlock(&j->checkpoint_lock);
	return err;
}

static void stop_thread(struct jbd2 *j)
{
	mutex_lock(&j->lock);
	j->stopping = true;
	cond_broadcast(&j->wake);
	mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
}

/* Ends everything in memory; writes nothing. */
static void let_go(struct jbd2 *j)
{
	struct list *l;

	stop_thread(j);
	tear_down(j);
	jbd2_trans_free(j->running);
	jbd2_trans_free(j->committing);
	j->running = j->committing = NULL;
	while ((l = list_pop(&j->durable)))
		jbd2_trans_free(list_entry(l, struct trans, link));
}

int jbd2_stop(struct jbd2 *j)
{
	int err;

	if (!j->started)
		return 0;
	err = jbd2_flush(j, true);
	let_go(j);
	return err;
}

void jbd2_close(struct jbd2 *j)
{
	if (!j)
		return;
	if (j->started)
		let_go(j);
	jbd2_free(j);
}
