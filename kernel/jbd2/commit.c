/*
 * Making a transaction durable.
 *
 *     lock       no handle may begin; those that are open end
 *     precommit  the user brings up to date what is kept elsewhere
 *     freeze     each buffer is sealed in place and copied; from here on the next transaction may run
 *     write      revoke blocks, descriptors and images go to the log in one piece; flush; then the commit block
 *     durable    buffers may go home, forgotten ones are dropped, committed() is told
 *
 * Whoever needs a transaction durable commits it himself: the way of an fsync has no other thread in it. One commits at a
 * time; the others wait, and find their work done if their transaction was the same.
 *
 * The image of a transaction, as it is laid out in memory and in the log:
 *
 *     revoke block …, (descriptor, image × tags) …           and then, after the flush, the commit block
 *
 * Invariants
 *  1. The commit block is written when all before it, the volume's device included, was flushed.
 *  2. The superblock says that the log is not empty before the first commit block is written.
 *  3. A transaction takes as many blocks of the log as jbd2_cost says for what it has, or fewer.
 *  4. committed() is called in order, after the forgotten buffers are gone, and before those who wait go on.
 */
#include "journal.h"

#include "lib/crc.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct jhead *head_at(const struct trans *t, struct list *l)
{
	return container_of(l - (t->tid & 1), struct jhead, link[0]);
}

/* ---- lock and precommit ---- */

/* The running transaction when all its handles have ended; NULL: there is none, or the journal is aborted. */
static struct trans *lock_running(struct jbd2 *j)
{
	struct trans *t;

	mutex_guard(&j->lock);
	t = j->running;
	if (!t || atomic_load(&j->err))
		return NULL;
	t->locked = true;
	while (t->handles)
		cond_wait(&j->quiet, &j->lock);
	return atomic_load(&j->err) ? NULL : t;
}

static int precommit(struct jbd2 *j, struct trans *t)
{
	struct jbd2_handle h = { .journal = j, .tid = t->tid };
	const struct jbd2_ops *ops = j->config.ops;
	u64 spent;
	int err;

	if (!ops || !ops->precommit)
		return 0;
	mutex_lock(&j->lock);
	spent = jbd2_cost(j, t->joined, t->revoked);
	/* One block less, for the descriptor that the new ones may need. */
	if (t->max_blocks > spent + 1)
		t->credits = h.credits = t->max_blocks - (u32)spent - 1;
	while (h.credits && jbd2_cost(j, (u64)t->joined + h.credits, t->revoked) > t->max_blocks)
		t->credits = --h.credits;
	mutex_unlock(&j->lock);
	err = ops->precommit(j->config.priv, &h);
	mutex_lock(&j->lock);
	t->credits = 0;
	mutex_unlock(&j->lock);
	return err;
}

/* ---- freeze ---- */

/* Where image i lies in the transaction, behind `revoke_blocks` blocks. */
static u64 image_at(const struct jbd2 *j, u64 revoke_blocks, u64 i)
{
	return revoke_blocks + i / jbd2_tags(j) + 1 + i;
}

static int reserve_image(struct jbd2 *j, u64 blocks)
{
	if (blocks <= j->image_blocks)
		return 0;
	/* Not for each that is a little longer. */
	blocks += blocks / 2;
	free(j->image);
	j->image_blocks = 0;
	j->image = os_alloc_aligned(4096, blocks * j->info.block_bytes);
	if (!j->image)
		return fail(-ENOMEM, "no memory for a transaction of %llu blocks",
			    (unsigned long long)blocks);
	j->image_blocks = blocks;
	return 0;
}

struct frozen {
	u64 images, revokes; /* of the transaction */
	u64 revoke_blocks;
	u64 blocks; /* in front of the commit block */
};

/* Seals the buffer and copies it, or lets go of it when it was not changed. Returns whether it goes to the log. */
static bool freeze_one(struct trans *t, struct jhead *head, void *copy)
{
	struct buffer_head *bh = head->bh;
	bool log;

	bh_lock(bh);
	/* What was joined in vain is logged all the same if an older transaction waits for it to go home: else one that is joined
	 * again and again would hold that one for ever. */
	log = !head->forgotten && (atomic_load_explicit(&head->dirty, memory_order_relaxed) || head->home);
	if (log) {
		if (bh->ops && bh->ops->seal)
			bh->ops->seal(bh, bh->data);
		memcpy(copy, bh->data, bh->size_bytes);
	}
	head->commit = t;
	head->commit_logged = log;
	head->commit_forgotten = head->forgotten;
	head->run = NULL;
	bh_unlock(bh);
	return log;
}

static int freeze(struct jbd2 *j, struct trans *t, struct frozen *f)
{
	u64 bytes = j->info.block_bytes, pos = 0, blk;
	int err;

	*f = (struct frozen){ 0 };
	while (t->revoke && revoke_next(t->revoke, &pos, &blk))
		f->revokes++;
	f->revoke_blocks = DIV_ROUND_UP(f->revokes, (u64)jbd2_revokes(j));
	err = reserve_image(j, f->revoke_blocks + jbd2_cost(j, t->joined, 0));
	if (err)
		return err;
	list_for_each(l, &t->heads)
	{
		u64 at = image_at(j, f->revoke_blocks, f->images);

		if (freeze_one(t, head_at(t, l), j->image + at * bytes))
			f->images++;
	}
	f->blocks = jbd2_cost(j, f->images, f->revokes) - 1;
	t->log_blocks = f->blocks + 1;
	mutex_lock(&j->lock);
	t->log_first = j->head;
	j->head += t->log_blocks;
	if (j->head >= j->info.end)
		j->head -= j->info.end - j->info.first;
	j->free -= t->log_blocks;
	j->committing = t;
	j->running = NULL;
	j->stats.blocks_logged += f->images;
	j->stats.blocks_revoked += f->revokes;
	cond_broadcast(&j->unlocked);
	mutex_unlock(&j->lock);
	return 0;
}

/* ---- write ---- */

static void *control_block(struct jbd2 *j, u64 at, u32 type, u32 tid)
{
	struct jbd2_disk_header *h = (void *)(j->image + at * j->info.block_bytes);

	memset(h, 0, j->info.block_bytes);
	h->magic = be32_put(JBD2_MAGIC);
	h->type = be32_put(type);
	h->sequence = be32_put(tid);
	return h;
}

static void make_revokes(struct jbd2 *j, struct trans *t, const struct frozen *f)
{
	u32 each = jbd2_revoke_bytes(j);
	u64 pos = 0, blk;

	for (u64 at = 0; at < f->revoke_blocks; at++) {
		struct jbd2_disk_revoke *r = control_block(j, at, JBD2_REVOKE, t->tid);
		u8 *p = (u8 *)(r + 1);
		u32 n = 0;

		while (n < jbd2_revokes(j) && revoke_next(t->revoke, &pos, &blk)) {
			if (each == sizeof(be64))
				*(be64 *)p = be64_put(blk);
			else
				*(be32 *)p = be32_put((u32)blk);
			p += each;
			n++;
		}
		r->bytes = be32_put((u32)sizeof(*r) + n * each);
		jbd2_tail_set(j, r);
	}
}

/* One tag, and the escape in the image that it stands for. */
static void make_tag(struct jbd2 *j, struct trans *t, u8 *tag, u64 blk, u32 flags, u8 *image)
{
	static const be32 zero;
	be32 magic = be32_put(JBD2_MAGIC);

	if (!memcmp(image, &magic, sizeof(magic))) {
		memcpy(image, &zero, sizeof(zero));
		flags |= JBD2_TAG_ESCAPE;
	}
	if (jbd2_has(j, JBD2_INCOMPAT_CSUM_V3)) {
		struct jbd2_disk_tag3 *t3 = (void *)tag;

		t3->blk = be32_put((u32)blk);
		t3->flags = be32_put(flags);
		t3->blk_high = be32_put(jbd2_has(j, JBD2_INCOMPAT_64BIT) ? (u32)(blk >> 32) : 0);
	} else {
		struct jbd2_disk_tag *t2 = (void *)tag;

		t2->blk = be32_put((u32)blk);
		t2->flags = be16_put((u16)flags);
		if (jbd2_has(j, JBD2_INCOMPAT_64BIT))
			t2->blk_high = be32_put((u32)(blk >> 32));
	}
	jbd2_tag_set(j, tag, t->tid, image);
}

static void make_descriptors(struct jbd2 *j, struct trans *t, const struct frozen *f)
{
	u32 tags = jbd2_tags(j), bytes = j->info.block_bytes;
	u8 *desc = NULL, *tag = NULL;
	u64 i = 0;

	list_for_each(l, &t->heads)
	{
		struct jhead *head = head_at(t, l);
		u64 at = image_at(j, f->revoke_blocks, i);
		u32 flags = i % tags ? JBD2_TAG_SAME_UUID : 0;
		bool last = i == f->images - 1 || i % tags == tags - 1;

		if (!head->commit_logged)
			continue;
		if (!flags) {
			desc = control_block(j, at - 1, JBD2_DESCRIPTOR, t->tid);
			tag = desc + sizeof(struct jbd2_disk_header);
		}
		make_tag(j, t, tag, head->bh->blk, flags | (last ? JBD2_TAG_LAST : 0), j->image + at * bytes);
		tag += jbd2_tag_bytes(j);
		if (!flags) {
			memcpy(tag, j->info.uuid, JBD2_UUID_BYTES);
			tag += JBD2_UUID_BYTES;
		}
		if (last)
			jbd2_tail_set(j, desc);
		i++;
	}
}

/* v1: the sum of descriptors and images. */
static u32 sum_v1(const struct jbd2 *j, const struct frozen *f)
{
	u64 bytes = j->info.block_bytes;

	return crc32_be(~0u, j->image + f->revoke_blocks * bytes, (f->blocks - f->revoke_blocks) * bytes);
}

static int write_commit(struct jbd2 *j, struct trans *t, u32 crc)
{
	u64 at = t->log_first + t->log_blocks - 1;
	struct jbd2_disk_commit *c = control_block(j, 0, JBD2_COMMIT, t->tid);
	struct timespec64 now = os_now();

	/* Recovery takes what is older than its predecessor for what a former round of the log left. */
	if ((u64)now.sec < j->commit_sec)
		now = (struct timespec64){ (s64)j->commit_sec, 0 };
	j->commit_sec = (u64)now.sec;
	c->sec = be64_put((u64)now.sec);
	c->nsec = be32_put(now.nsec);
	if (j->info.compat & JBD2_COMPAT_CHECKSUM) {
		c->checksum_type = JBD2_CSUM_TYPE_CRC32;
		c->checksum_bytes = sizeof(be32);
		c->checksum[0] = be32_put(crc);
	}
	jbd2_commit_set(j, c);
	if (at >= j->info.end)
		at -= j->info.end - j->info.first;
	return jbd2_write(j, at, 1, c, BIO_FUA);
}

static int open_log(struct jbd2 *j, const struct trans *t)
{
	int err;

	if (j->log_open)
		return 0;
	err = jbd2_super_write(j, t->log_first, t->tid, 0);
	j->log_open = !err;
	return err;
}

static int write_log(struct jbd2 *j, struct trans *t, const struct frozen *f)
{
	u32 crc = 0;
	int err;

	make_revokes(j, t, f);
	make_descriptors(j, t, f);
	if (j->info.compat & JBD2_COMPAT_CHECKSUM)
		crc = sum_v1(j, f);
	err = open_log(j, t);
	if (!err && f->blocks)
		err = jbd2_write(j, t->log_first, f->blocks, j->image, 0);
	if (!err && j->config.target != j->where.dev)
		err = blkdev_flush(j->config.target);
	if (!err)
		err = blkdev_flush(j->where.dev);
	if (!err)
		err = bcache_error(j->config.target);
	if (!err)
		err = jbd2_usable(j);
	if (!err)
		err = write_commit(j, t, crc);
	return err;
}

/* ---- durable ---- */

/* The buffer's content is void, unless the next transaction has it already. Locks: the buffer. */
static void drop(struct jbd2 *j, struct jhead *head)
{
	if (head->home) {
		mutex_lock(&j->lock);
		list_del(&head->cp_link);
		mutex_unlock(&j->lock);
		head->home = NULL;
	}
	if (head->run)
		return;
	bh_void(head->bh);
	jbd2_head_free(j, head);
}

static void drop_forgotten(struct jbd2 *j, struct trans *t)
{
	u64 pos = 0, blk;

	while (t->revoke && revoke_next(t->revoke, &pos, &blk)) {
		struct buffer_head *bh = bh_find(j->config.target, blk);

		if (!bh)
			continue;
		bh_lock(bh); /* a write home under way ends first */
		if (bh->owner)
			drop(j, bh->owner);
		else
			bh_void(bh);
		bh_unlock(bh);
		bh_put(bh);
	}
}

/* The transaction does not need the buffer pinned any more. Locks: the buffer. */
static void release(struct jbd2 *j, struct trans *t, struct jhead *head)
{
	struct buffer_head *bh = head->bh;

	head->commit = NULL;
	bh_unpin(bh);
	if (head->commit_logged) {
		bool was = bh_is_pinned(bh);

		mutex_lock(&j->lock);
		if (head->home)
			list_del(&head->cp_link);
		list_add_tail(&t->homeless, &head->cp_link);
		mutex_unlock(&j->lock);
		head->home = t;
		/* Changed since by the next transaction, the bytes are sealed again when that is frozen. */
		bh_dirty(bh);
		if (!was)
			bh_sealed(bh);
	}
	if (!head->home && !head->run)
		jbd2_head_free(j, head);
}

static void finish(struct jbd2 *j, struct trans *t)
{
	struct bcache *cache = j->config.target->cache;

	atomic_store(&j->durable_tid, t->tid);
	for (;;) {
		struct buffer_head *bh;
		struct jhead *head;
		struct list *l;

		mutex_lock(&j->lock);
		l = list_pop(&t->heads);
		mutex_unlock(&j->lock);
		if (!l)
			break;
		head = head_at(t, l);
		bh = bh_get(head->bh);
		bh_lock(bh);
		if (head->commit_forgotten) {
			head->commit = NULL;
			bh_unpin(bh);
			drop(j, head);
		} else {
			release(j, t, head);
		}
		bh_unlock(bh);
		bh_put(bh);
	}
	drop_forgotten(j, t);
	if (j->config.ops && j->config.ops->committed)
		j->config.ops->committed(j->config.priv, t->tid);
	revoke_free(t->revoke);
	t->revoke = NULL;
	mutex_lock(&j->lock);
	/* From here on it is the checkpoint's, and may be gone. */
	j->done_tid = t->tid;
	list_add_tail(&j->durable, &t->link);
	j->committing = NULL;
	j->stats.commits++;
	if (j->free < (j->info.end - j->info.first) / 2 || bcache_bytes(cache) > bcache_limit_bytes(cache))
		jbd2_nudge(j);
	mutex_unlock(&j->lock);
}

/* ---- who commits ---- */

void jbd2_commit_enter(struct jbd2 *j)
{
	lock_note_acquire(&j->commit_busy, RANK_HANDLE, false);
	mutex_lock(&j->lock);
	while (j->commit_busy)
		cond_wait(&j->done, &j->lock);
	j->commit_busy = true;
	mutex_unlock(&j->lock);
}

void jbd2_commit_leave(struct jbd2 *j)
{
	mutex_lock(&j->lock);
	j->commit_busy = false;
	cond_broadcast(&j->done);
	mutex_unlock(&j->lock);
	lock_note_release(&j->commit_busy);
}

void jbd2_image_drop(struct jbd2 *j)
{
	bool busy;

	mutex_lock(&j->lock);
	busy = j->commit_busy;
	if (!busy)
		j->commit_busy = true;
	mutex_unlock(&j->lock);
	if (busy)
		return;
	free(j->image);
	j->image = NULL;
	j->image_blocks = 0;
	mutex_lock(&j->lock);
	j->commit_busy = false;
	cond_broadcast(&j->done);
	mutex_unlock(&j->lock);
}

/* Locks: the office of the committer. */
static int commit_running(struct jbd2 *j)
{
	struct trans *t = lock_running(j);
	struct frozen f;
	int err;

	if (!t)
		return jbd2_usable(j);
	err = precommit(j, t);
	if (!err)
		err = freeze(j, t, &f);
	if (!err)
		err = write_log(j, t, &f);
	if (err)
		jbd2_abort(j, err);
	else
		finish(j, t);
	return err;
}

/* Waits until tid is done or nobody commits. True: the caller is the committer now. */
static bool enter_for(struct jbd2 *j, u32 tid, int *err)
{
	mutex_guard(&j->lock);
	*err = 0;
	while (tid_gt(tid, j->done_tid)) {
		*err = jbd2_usable(j);
		if (*err)
			return false;
		if (!j->commit_busy) {
			/* It has not begun: nothing was done in it. */
			if (!j->running || tid_gt(tid, j->running->tid))
				return false;
			j->commit_busy = true;
			return true;
		}
		cond_wait(&j->done, &j->lock);
	}
	return false;
}

int jbd2_commit(struct jbd2 *j, u32 tid)
{
	int err;

	if (!j->started)
		return 0;
	lock_note_acquire(&j->commit_busy, RANK_HANDLE, false);
	while (enter_for(j, tid, &err)) {
		err = commit_running(j);
		mutex_lock(&j->lock);
		j->commit_busy = false;
		cond_broadcast(&j->done);
		mutex_unlock(&j->lock);
		if (err)
			break;
	}
	lock_note_release(&j->commit_busy);
	return err ? jbd2_usable(j) : 0;
}

int jbd2_commit_all(struct jbd2 *j)
{
	u32 tid;

	mutex_lock(&j->lock);
	tid = j->running ? j->running->tid : j->next_tid - 1;
	mutex_unlock(&j->lock);
	return jbd2_commit(j, tid);
}

bool jbd2_is_durable(struct jbd2 *j, u32 tid)
{
	return !tid_gt(tid, atomic_load(&j->durable_tid));
}
