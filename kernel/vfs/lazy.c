/*
 * What files owe the volume: the tail stage's blocks, and times of access. Both are right in memory, so nobody waits
 * for them to be written; they are written when they are old, when there are many, and when somebody wants them durable.
 * Here are the two queues of inodes that owe something, each in the order in which they came; writer.c writes. And here is kept what could not
 * be written, for those who have the file open: each is told once, by his fsync.
 *
 * Invariants
 *  1. An inode on a queue has its I_LAZY bit, stays in memory without a reference, and is on no LRU.
 *  2. It leaves the queue before it is written, referenced before it leaves; what comes meanwhile queues it anew.
 *     Nobody but the last holder of an unlinked inode takes it off unwritten.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

int lazy_new(struct super_block *sb, void *(*run)(void *lazies))
{
	struct lazies *z = calloc(1, sizeof(*z));

	if (!z)
		return -ENOMEM;
	z->sb = sb;
	z->run = run;
	mutex_init(&z->lock, RANK_STAGE);
	cond_init(&z->wake);
	for (u32 k = 0; k < LAZY_KINDS; k++)
		list_init(&z->queue[k]);
	sb->lazies = z;
	return 0;
}

static u32 lazy_bit(enum lazy_kind kind)
{
	return kind == LAZY_TIME ? I_LAZY_TIME : I_LAZY_TAIL;
}

void lazy_unqueue(struct lazies *z, struct inode *inode, enum lazy_kind kind)
{
	if (!(atomic_fetch_and(&inode->state, ~lazy_bit(kind)) & lazy_bit(kind)))
		return;
	list_del(&inode->lazy[kind]);
	z->count[kind]--;
}

void lazy_forget(struct inode *inode)
{
	struct lazies *z = inode->sb->lazies;

	mutex_lock(&z->lock);
	for (u32 k = 0; k < LAZY_KINDS; k++)
		lazy_unqueue(z, inode, k);
	mutex_unlock(&z->lock);
}

void lazy_add(struct inode *inode, enum lazy_kind kind)
{
	struct lazies *z = inode->sb->lazies;

	if (atomic_load(&inode->state) & lazy_bit(kind))
		return;
	mutex_lock(&z->lock);
	if (!(atomic_fetch_or(&inode->state, lazy_bit(kind)) & lazy_bit(kind))) {
		inode->lazy_since_ns[kind] = os_monotonic_ns();
		list_add_tail(&z->queue[kind], &inode->lazy[kind]);
		z->count[kind]++;
	}
	if (!z->started) {
		/* Without a thread it is still written, by whoever comes too many or wants it durable. */
		z->running = !os_thread(&z->thread, "lazy-writer", z->run, z);
		z->started = true;
	}
	/* With something queued its clock runs: to be woken for each would cost more than the rest. */
	if (z->sleeps && lazy_has_clock(z))
		cond_broadcast(&z->wake);
	mutex_unlock(&z->lock);
}

u64 vfs_moment(struct super_block *sb)
{
	return atomic_fetch_add(&sb->moment, 1) + 1;
}

void lazy_failed(struct inode *inode, int err)
{
	struct lazies *z = inode->sb->lazies;

	mutex_lock(&z->lock);
	inode->failed_err = err;
	inode->failed_heard = false;
	atomic_store(&inode->failed_at, vfs_moment(inode->sb));
	if (z->failed_count < FAILED_MAX && !(atomic_fetch_or(&inode->state, I_FAILED) & I_FAILED))
		z->failed_count++;
	mutex_unlock(&z->lock);
}

int lazy_error(struct inode *inode, u64 opened)
{
	struct lazies *z = inode->sb->lazies;
	struct told *told = &z->told[opened % TOLD_MAX];
	u64 failed_at, heard_at;
	int err = 0;

	if (!atomic_load(&inode->failed_at))
		return 0;
	mutex_lock(&z->lock);
	failed_at = atomic_load(&inode->failed_at);
	heard_at = told->opened == opened ? told->failed_at : opened;
	if (!inode->failed_heard || (opened && heard_at < failed_at)) {
		err = inode->failed_err;
		inode->failed_heard = true;
		if (opened)
			*told = (struct told){ opened, failed_at };
	}
	mutex_unlock(&z->lock);
	return err;
}

void lazy_stop(struct super_block *sb)
{
	struct lazies *z = sb->lazies;
	bool running;

	mutex_lock(&z->lock);
	running = z->running;
	z->started = z->stop = true;
	z->running = false;
	cond_broadcast(&z->wake);
	mutex_unlock(&z->lock);
	if (running)
		pthread_join(z->thread, NULL);
}

void lazy_free(struct super_block *sb)
{
	if (!sb->lazies)
		return;
	lazy_stop(sb);
	cond_fini(&sb->lazies->wake);
	mutex_fini(&sb->lazies->lock);
	free(sb->lazies);
	sb->lazies = NULL;
}
