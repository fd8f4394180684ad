/*
 * Changes: a handle holds all that must happen together. With a journal it is the journal's handle, and everything here hands
 * over to it. Without one, a handle pins what it joins until its end, so that no block goes home half changed; more than
 * that is not promised: a crash needs e2fsck.
 */
#include "ext4.h"

#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>

#define JOINED_ROOM 16u

static int not_allowed(struct ext4_super *es)
{
	if (es->errors >= EXT4_ERRORS_RO && health_state(&es->vfs.health) >= HEALTH_CORRUPT)
		return fail(-EROFS,
			    "%s has errors, and is not written because of errors=remount-ro: check it "
			    "(werunos fsck)",
			    es->vfs.health.name);
	return 0;
}

static int start(struct ext4_handle *h, u32 credits, u32 revokes, bool is_long)
{
	struct ext4_super *es = h->es;
	/* One more, here and in ext4_restart, for errors that the superblock is to tell; and the quotas'. */
	u32 all = credits + 1 + ext4_quota_credits(es);

	if (es->vfs.rdonly || health_state(&es->vfs.health) >= HEALTH_ABORTED)
		return fail(-EROFS, "%s is read-only", es->vfs.health.name);
	if (es->journal)
		return (is_long ? jbd2_begin_long : jbd2_begin)(es->journal, all, revokes, &h->jh);
	lock_note_acquire(h, RANK_HANDLE, false);
	return 0;
}

int ext4_begin(struct ext4_super *es, u32 credits, u32 revokes, struct ext4_handle *h)
{
	int err = not_allowed(es);

	*h = (struct ext4_handle){ .es = es };
	return err ? err : start(h, credits, revokes, false);
}

int ext4_begin_long(struct ext4_super *es, u32 credits, struct ext4_handle *h)
{
	int err = not_allowed(es);

	*h = (struct ext4_handle){ .es = es };
	return err ? err : start(h, credits, 0, true);
}

int ext4_begin_anyway(struct ext4_super *es, u32 credits, u32 revokes, struct ext4_handle *h)
{
	*h = (struct ext4_handle){ .es = es };
	return start(h, credits, revokes, false);
}

/* Without a journal: the end of the handle is the end of its transaction. */
static int finish(struct ext4_handle *h)
{
	struct ext4_super *es = h->es;
	int err = es->trans_ops->precommit(es, &h->jh);

	for (u32 i = 0; i < h->joined_count; i++) {
		bh_lock(h->joined[i]);
		bh_unpin(h->joined[i]);
		bh_unlock(h->joined[i]);
		bh_put(h->joined[i]);
	}
	free(h->joined);
	lock_note_release(h);
	es->trans_ops->committed(es, 0);
	return err;
}

int ext4_end(struct ext4_handle *h, int err)
{
	int end = 0;

	if (h->es->journal)
		jbd2_end(&h->jh);
	else
		end = finish(h);
	for (struct ext4_inode *ei; (ei = h->dropped);) {
		h->dropped = ei->next_dropped;
		vfs_iput(&ei->vfs);
	}
	return err ? err : end;
}

int ext4_extend(struct ext4_handle *h, u32 credits, u32 revokes)
{
	return h->es->journal ? jbd2_extend(&h->jh, credits, revokes) : 0;
}

int ext4_restart(struct ext4_handle *h, u32 credits, u32 revokes)
{
	struct ext4_super *es = h->es;
	int err;

	if (es->journal)
		return jbd2_restart(&h->jh, credits + 1 + ext4_quota_credits(es), revokes);
	err = ext4_end(h, 0);
	return err ? err : ext4_begin(es, credits, revokes, h);
}

/* Without a journal: remembers the buffer until the handle's end. */
static int join(struct ext4_handle *h, struct buffer_head *bh)
{
	for (u32 i = h->joined_count; i--;)
		if (h->joined[i] == bh)
			return 0;
	if (h->joined_count == h->joined_room) {
		u32 room = h->joined_room ? 2 * h->joined_room : JOINED_ROOM;
		struct buffer_head **more = realloc(h->joined, room * sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory for a change");
		h->joined = more;
		h->joined_room = room;
	}
	bh_lock(bh); /* a write home under way ends first */
	bh_pin(bh);
	bh_unlock(bh);
	h->joined[h->joined_count++] = bh_get(bh);
	return 0;
}

int ext4_access(struct ext4_handle *h, struct buffer_head *bh)
{
	int err = h->es->journal ? jbd2_access(&h->jh, bh) : join(h, bh);

	return err != -ESTALE ? err
			      : corrupt(&h->es->vfs.health, "block", bh->blk,
					"was given up, and belongs to somebody else as well");
}

void ext4_dirty(struct ext4_handle *h, struct buffer_head *bh)
{
	if (h->es->journal) {
		jbd2_dirty(&h->jh, bh);
		return;
	}
	bh_lock(bh);
	bh_dirty(bh);
	bh_unlock(bh);
}

int ext4_forget(struct ext4_handle *h, u64 blk)
{
	if (h->es->journal)
		return jbd2_forget(&h->jh, blk);
	bh_forget(h->es->vfs.dev, blk);
	return 0;
}

int ext4_abort(struct ext4_super *es, int err)
{
	log_error("%s: a change failed half way (%s): the volume is read-only from now on",
		  es->vfs.health.name, err_name(err));
	if (es->journal)
		jbd2_abort(es->journal, err);
	health_raise(&es->vfs.health, HEALTH_ABORTED);
	return err;
}

int ext4_flush(struct ext4_super *es)
{
	int err = blkdev_flush(es->vfs.dev);

	if (err)
		return ext4_abort(es, err);
	return health_state(&es->vfs.health) >= HEALTH_ABORTED
		       ? fail(-EROFS, "%s is not written any more", es->vfs.health.name)
		       : 0;
}
