/*
 * Handles and what they join: which buffers, and which blocks that were forgotten, are part of the running transaction.
 *
 *  - jbd2_access, jbd2_dirty, jbd2_forget    what a handle does
 *  - jbd2_extend, jbd2_end                   its life but for the beginning: writer.c
 *  - jbd2_abort                              nothing more becomes durable
 *
 * A buffer's head (bh->owner) says which of at most three transactions have it:
 *
 *     run      it was joined by a handle of the running one: pinned
 *     commit   its image is being written to the log: pinned
 *     home     its image is durable in the log and not known to be home: dirty, written by whoever comes first
 *
 *     none ─jbd2_access─► run ─frozen─► commit ─durable─► home ─swept when clean─► none
 *
 * and it may be several at once: home in 5, committed in 6, changed in 7. Durable in 6 means that 5 need not care for it any
 * more.
 *
 * Invariants
 *  1. head->run, commit and home change under the buffer's lock; the lists that show them under j->lock.
 *  2. While a handle is open j->running is its transaction. So an open handle reads it without a lock.
 *  3. joined + credits and revoked + revokes never need more of the log than t->max_blocks, which was free when the
 *     transaction began: a commit always finds its room.
 *  4. Heads are memory that lives as long as the journal is started.
 */
#include "journal.h"

#include "lib/log.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define SLAB_HEADS 128u

struct jhead_slab {
	struct jhead_slab *next;
	struct jhead head[SLAB_HEADS];
};

/* ---- what it costs ---- */

u32 jbd2_tags(const struct jbd2 *j)
{
	/* The first tag is followed by the UUID. */
	u32 room = j->info.block_bytes - (u32)sizeof(struct jbd2_disk_header) - jbd2_tail_bytes(j) -
		   JBD2_UUID_BYTES;

	return room / jbd2_tag_bytes(j);
}

u32 jbd2_revokes(const struct jbd2 *j)
{
	u32 room = j->info.block_bytes - (u32)sizeof(struct jbd2_disk_revoke) - jbd2_tail_bytes(j);

	return room / jbd2_revoke_bytes(j);
}

u64 jbd2_cost(const struct jbd2 *j, u64 images, u64 revokes)
{
	return DIV_ROUND_UP(images, (u64)jbd2_tags(j)) + images +
	       DIV_ROUND_UP(revokes, (u64)jbd2_revokes(j)) + 1;
}

void jbd2_nudge(struct jbd2 *j)
{
	lock_assert_held(&j->lock);
	cond_signal(&j->wake);
}

bool jbd2_grant(struct jbd2 *j, struct jbd2_handle *h, u32 credits, u32 revokes)
{
	struct trans *t = j->running;
	u64 cost =
		jbd2_cost(j, (u64)t->joined + t->credits + credits, (u64)t->revoked + t->revokes + revokes);

	lock_assert_held(&j->lock);
	if (cost > t->max_blocks)
		return false;
	if (!t->ripe && jbd2_cost(j, t->joined, t->revoked) > t->max_blocks / 2) {
		t->ripe = true;
		jbd2_nudge(j);
	}
	t->credits += credits;
	t->revokes += revokes;
	h->credits += credits;
	h->revokes += revokes;
	return true;
}

/* ---- memory ---- */

struct trans *jbd2_trans_new(u32 tid)
{
	struct trans *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->tid = tid;
	t->born_ns = os_monotonic_ns();
	list_init(&t->heads);
	list_init(&t->homeless);
	list_init(&t->link);
	return t;
}

void jbd2_trans_free(struct trans *t)
{
	if (!t)
		return;
	revoke_free(t->revoke);
	free(t);
}

/* Locks: j->lock. */
static struct jhead *head_new(struct jbd2 *j)
{
	struct jhead_slab *slab;
	struct jhead *head;
	struct list *l = list_pop(&j->heads_free);

	if (!l) {
		slab = calloc(1, sizeof(*slab));
		if (!slab)
			return NULL;
		slab->next = j->slabs;
		j->slabs = slab;
		for (u32 i = 0; i < SLAB_HEADS; i++)
			list_add_tail(&j->heads_free, &slab->head[i].cp_link);
		l = list_pop(&j->heads_free);
	}
	head = list_entry(l, struct jhead, cp_link);
	list_init(&head->link[0]);
	list_init(&head->link[1]);
	return head;
}

void jbd2_head_free(struct jbd2 *j, struct jhead *head)
{
	struct buffer_head *bh = head->bh;

	lock_assert_held(bh);
	bh->owner = NULL;
	head->bh = NULL;
	mutex_lock(&j->lock);
	list_add(&j->heads_free, &head->cp_link);
	mutex_unlock(&j->lock);
	bh_put(bh);
}

/* Locks: the buffer. */
static void let_go(struct jbd2 *j, struct jhead *head)
{
	struct buffer_head *bh = head->bh;
	bool lost = head->commit || (head->run && atomic_load(&head->dirty));

	if (head->run)
		bh_unpin(bh);
	if (head->commit)
		bh_unpin(bh);
	if (lost)
		bh_void(bh);
	jbd2_head_free(j, head);
}

void jbd2_heads_free(struct jbd2 *j)
{
	struct jhead_slab *next;

	for (struct jhead_slab *slab = j->slabs; slab; slab = slab->next) {
		for (u32 i = 0; i < SLAB_HEADS; i++) {
			struct buffer_head *bh = slab->head[i].bh;

			if (!bh)
				continue;
			bh_get(bh);
			bh_lock(bh);
			let_go(j, &slab->head[i]);
			bh_unlock(bh);
			bh_put(bh);
		}
	}
	for (; j->slabs; j->slabs = next) {
		next = j->slabs->next;
		free(j->slabs);
	}
}

/* ---- what a handle does ---- */

int jbd2_usable(const struct jbd2 *j)
{
	int err = atomic_load(&j->err);

	return err ? fail(-EROFS, "the journal was aborted (%s)", err_name(err)) : 0;
}

/* More than the handle asked for. It was wrong, but breaking off in the middle of a change would be worse. Locks: j->lock. */
static bool overdraw(struct jbd2 *j, struct jbd2_handle *h, u32 credits, u32 revokes)
{
	if (!j->stats.overdrawn++)
		log_warn("%s: a change needs more of the journal than it asked for", j->where.dev->name);
	return jbd2_grant(j, h, credits, revokes);
}

/* Locks: the buffer. */
static int join(struct jbd2_handle *h, struct trans *t, struct buffer_head *bh)
{
	struct jbd2 *j = h->journal;
	struct jhead *head = bh->owner;
	bool room;

	if (bh->dev != j->config.target)
		return fail(-EINVAL, "a block of %s in the journal of %s", bh->dev->name,
			    j->config.target->name);
	mutex_lock(&j->lock);
	room = h->credits || overdraw(j, h, 1, 0);
	if (room && !head)
		head = head_new(j);
	if (room && head) {
		list_add_tail(&t->heads, &head->link[t->tid & 1]);
		t->joined++;
		t->credits--;
		if (t->revoke)
			revoke_cancel(t->revoke, bh->blk);
	}
	mutex_unlock(&j->lock);
	if (!room)
		return fail(-ENOSPC, "a change joins more blocks than it said, and than there is room for");
	if (!head)
		return fail(-ENOMEM, "no memory for a change");
	h->credits--;
	if (!bh->owner) {
		head->bh = bh_get(bh);
		bh->owner = head;
	}
	head->run = t;
	atomic_store_explicit(&head->dirty, false, memory_order_relaxed);
	head->forgotten = false;
	bh_pin(bh);
	return 0;
}

int jbd2_access(struct jbd2_handle *h, struct buffer_head *bh)
{
	struct jbd2 *j = h->journal;
	struct trans *t = j->running;
	struct jhead *head;
	int err = jbd2_usable(j);

	if (err)
		return err;
	bh_lock(bh); /* a write home under way ends first */
	head = bh->owner;
	if (bh_is_gone(bh)) {
		err = -ESTALE;
	} else if (!head || head->run != t) {
		err = join(h, t, bh);
	} else if (head->forgotten) {
		head->forgotten = false;
		mutex_lock(&j->lock);
		revoke_cancel(t->revoke, bh->blk);
		mutex_unlock(&j->lock);
	}
	bh_unlock(bh);
	return err;
}

void jbd2_dirty(struct jbd2_handle *h, struct buffer_head *bh)
{
	struct jhead *head = bh->owner;

	if (likely(head && head->run == h->journal->running))
		atomic_store_explicit(&head->dirty, true, memory_order_relaxed);
	else
		jbd2_abort(h->journal, -EINVAL);
}

/* Locks: j->lock. */
static int revoke(struct jbd2_handle *h, struct trans *t, u64 blk)
{
	int err = t->revoke ? 0 : revoke_new(&t->revoke);

	if (!err && revoke_test(t->revoke, blk, t->tid))
		return 0;
	if (!err && !h->revokes && !overdraw(h->journal, h, 0, 1))
		err = fail(-ENOSPC, "a change forgets more blocks than it said, and than there is room for");
	if (!err)
		err = revoke_note(t->revoke, blk);
	if (err)
		return err;
	revoke_set(t->revoke, blk, t->tid);
	t->revoked++;
	t->revokes--;
	h->revokes--;
	return 0;
}

int jbd2_forget(struct jbd2_handle *h, u64 blk)
{
	struct jbd2 *j = h->journal;
	struct trans *t = j->running;
	struct buffer_head *bh;
	struct jhead *head;
	int err = jbd2_usable(j);

	if (err)
		return err;
	if (blk >= j->config.target->size_bytes / j->info.block_bytes)
		return corrupt(j->health, "block", blk, "freed, and beyond the end");
	mutex_lock(&j->lock);
	err = revoke(h, t, blk);
	mutex_unlock(&j->lock);
	if (err)
		return err;
	/* An older image may still go home: until this is durable the block is what it was. */
	bh = bh_find(j->config.target, blk);
	if (!bh)
		return 0;
	bh_lock(bh);
	head = bh->owner;
	if (head && head->run == t)
		head->forgotten = true;
	bh_unlock(bh);
	bh_put(bh);
	return 0;
}

int jbd2_extend(struct jbd2_handle *h, u32 credits, u32 revokes)
{
	struct jbd2 *j = h->journal;
	int err = jbd2_usable(j);
	bool granted;

	if (err)
		return err;
	mutex_lock(&j->lock);
	granted = !j->running->locked && jbd2_grant(j, h, credits, revokes);
	mutex_unlock(&j->lock);
	return granted ? 0 : fail(-ENOSPC, "the transaction has no room for %u more blocks", credits);
}

void jbd2_end(struct jbd2_handle *h)
{
	struct jbd2 *j = h->journal;
	struct trans *t;

	mutex_lock(&j->lock);
	t = j->running;
	t->credits -= h->credits;
	t->revokes -= h->revokes;
	if (!--t->handles && t->locked)
		cond_signal(&j->quiet);
	mutex_unlock(&j->lock);
	lock_note_release(j);
}

/* ---- the end ---- */

void jbd2_abort(struct jbd2 *j, int err)
{
	int none = 0;

	if (!err)
		return;
	if (j->health)
		health_raise(j->health, HEALTH_ABORTED);
	if (!atomic_compare_exchange_strong(&j->err, &none, err))
		return;
	log_error("%s: the journal is aborted: %s%s%s", j->where.dev->name, err_name(err),
		  *err_text() ? ": " : "", err_text());
	mutex_lock(&j->lock);
	cond_broadcast(&j->unlocked);
	cond_broadcast(&j->quiet);
	cond_broadcast(&j->done);
	cond_broadcast(&j->wake);
	mutex_unlock(&j->lock);
	/* Stopped as if the power had gone: nothing is wrong with the volume. */
	if (err != -ESHUTDOWN && jbd2_super_error(j, err))
		err_clear();
}

int jbd2_error(const struct jbd2 *j)
{
	return atomic_load(&j->err);
}
