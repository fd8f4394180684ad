/*
 * What keeps a volume whole, switched off piece by piece: the crash suite must find each of these out. Linked in front of the
 * product's own functions (see the Makefile); CRASH_TOOTH says which, nothing else does anything.
 *
 *   revoke  freed metadata is not revoked: its old images are replayed over what the blocks became
 *   orphan  what must be finished after a crash is not noted
 *   usage   one in twenty inodes that change does not bring along the usage of its owner
 *   inodes, space  one in ten askings of a quota is not made
 *   gate    freed blocks are given out again before their freeing is durable
 */
#include "ext4/ext4.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

int __real_jbd2_forget(struct jbd2_handle *h, u64 blk);
int __wrap_jbd2_forget(struct jbd2_handle *h, u64 blk);
int __real_ext4_orphan_add(struct ext4_handle *h, struct ext4_inode *ei);
int __wrap_ext4_orphan_add(struct ext4_handle *h, struct ext4_inode *ei);
int __real_ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata);
int __wrap_ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata);

void __real_ext4_quota_apply(struct ext4_handle *h, const struct ext4_quota_change *q);
void __wrap_ext4_quota_apply(struct ext4_handle *h, const struct ext4_quota_change *q);

int __real_ext4_quota_hold(struct ext4_super *es, const struct ext4_use *more);
int __wrap_ext4_quota_hold(struct ext4_super *es, const struct ext4_use *more);
int __real_ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *clusters);
int __wrap_ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *clusters);

static bool off(const char *name)
{
	const char *tooth = getenv("CRASH_TOOTH");

	return tooth && !strcmp(tooth, name);
}

int __wrap_jbd2_forget(struct jbd2_handle *h, u64 blk)
{
	return off("revoke") ? 0 : __real_jbd2_forget(h, blk);
}

int __wrap_ext4_orphan_add(struct ext4_handle *h, struct ext4_inode *ei)
{
	return off("orphan") ? 0 : __real_ext4_orphan_add(h, ei);
}

int __wrap_ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata)
{
	int err = __real_ext4_blocks_free(h, blk, len, metadata);

	if (!err && off("gate"))
		ext4_committed(h->es, h->jh.tid);
	return err;
}

/* One in n times. */
static bool off_once_in(const char *name, unsigned n)
{
	static _Atomic unsigned count;

	return off(name) && atomic_fetch_add(&count, 1) % n == 0;
}

void __wrap_ext4_quota_apply(struct ext4_handle *h, const struct ext4_quota_change *q)
{
	if (!off_once_in("usage", 20))
		__real_ext4_quota_apply(h, q);
}

int __wrap_ext4_quota_hold(struct ext4_super *es, const struct ext4_use *more)
{
	return off_once_in("inodes", 10) ? 0 : __real_ext4_quota_hold(es, more);
}

int __wrap_ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *clusters)
{
	return off_once_in("space", 10) ? 0 : __real_ext4_quota_reserve(ei, least, clusters);
}
