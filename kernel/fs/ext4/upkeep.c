/*
 * What nobody waits for and no change brings along by itself: a thread of each volume that is written, which holds no lock when it begins.
 *
 *   - Errors that were met become part of a transaction, also when nothing else changes and where errors=remount-ro forbids
 *     other changes. They are durable with its commit, at the age at which any other change is; without a journal, written at once.
 *   - Features that the superblock got go to its copies, once they are durable in itself.
 *
 * It sleeps until the bell of health rings, and after it did something for a moment longer, so that a hail of errors costs little.
 */
#include "ext4.h"

#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>

#define PAUSE_MS 1000u

struct ext4_upkeep {
	struct ext4_super *es;
	pthread_t thread;
	_Atomic u32 stop;
};

/* Without a journal. What a flush would have made durable besides may be lost when it fails, and nobody else is told. */
static int write_now(struct ext4_super *es)
{
	int err = ext4_super_write(es);

	return err ? ext4_abort(es, err) : 0;
}

/* True: some were told. */
static bool tell_errors(struct ext4_super *es)
{
	struct ext4_handle h;
	int err;

	if (!ext4_errors_new(es))
		return false;
	err = ext4_begin_anyway(es, 1, 0, &h);
	if (!err) {
		err = ext4_super_join(&h);
		if (!err)
			ext4_errors_record(es);
		err = ext4_end(&h, err);
	}
	if (!err && !es->journal)
		err = write_now(es);
	/* They wait for the next transaction, or are lost with the volume's last one. */
	if (err)
		err_clear();
	return !err;
}

/* The superblock in its place, or in the log, has what es->disk has. */
static int make_durable(struct ext4_super *es, u32 tid)
{
	bool dirty;
	int err;

	if (es->journal)
		return jbd2_commit(es->journal, tid);
	if (health_state(&es->vfs.health) >= HEALTH_ABORTED)
		return -EROFS;
	err = write_now(es);
	bh_lock(es->super_bh);
	dirty = bh_is_dirty(es->super_bh);
	bh_unlock(es->super_bh);
	/* A change under way may hold it. */
	return !err && dirty ? -EAGAIN : err;
}

/* True: they were stale. */
static bool tell_copies(struct ext4_super *es)
{
	struct ext4_features want;
	u32 tid;
	int err;

	if (!ext4_copies_take(es, &want, &tid))
		return false;
	err = make_durable(es, tid);
	if (!err)
		ext4_copies_write(es, &want);
	else if (err == -EAGAIN)
		ext4_copies_put_off(es, &want);
	return true;
}

static void *work(void *arg)
{
	struct ext4_upkeep *u = arg;
	struct health *health = &u->es->vfs.health;

	ext4_copies_look(u->es);
	while (!atomic_load(&u->stop)) {
		u32 bell = atomic_load(&health->bell);
		bool errors = tell_errors(u->es), copies = tell_copies(u->es);

		if (errors || copies)
			os_wait(&u->stop, 0, PAUSE_MS);
		else
			os_wait(&health->bell, bell, 0);
	}
	return NULL;
}

int ext4_upkeep_start(struct ext4_super *es)
{
	struct ext4_upkeep *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return fail(-ENOMEM, "no memory for a thread");
	u->es = es;
	err = os_thread(&u->thread, "ext4-upkeep", work, u);
	if (err) {
		free(u);
		return err;
	}
	es->upkeep = u;
	return 0;
}

void ext4_upkeep_stop(struct ext4_super *es)
{
	struct ext4_upkeep *u = es->upkeep;

	if (!u)
		return;
	atomic_store(&u->stop, 1);
	os_wake_all(&u->stop);
	health_ring(&es->vfs.health);
	pthread_join(u->thread, NULL);
	free(u);
	es->upkeep = NULL;
}
