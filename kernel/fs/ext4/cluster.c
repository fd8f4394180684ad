/*
 * Where space is had in clusters of several blocks (bigalloc), the blocks of a file that lie in one cluster of the file lie in one
 * of the volume, each in the same place of it. Which of them are mapped is the map's business; the cluster is the file's as long as one is.
 *
 *   - A hole is filled from the file's own cluster where there is one: ext4_cluster_find.
 *   - A cluster is taken with the first of its blocks and freed with the last: ext4_cluster_own.
 *
 * Where a cluster is a block, nothing is looked for.
 */
#include "ext4.h"

#include <errno.h>

/* The first mapped block in [from, end). *pblk 0: there is none. */
static int first_mapped(struct ext4_inode *ei, u64 from, u64 end, u64 *lblk, u64 *pblk)
{
	struct ext4_run run;

	*pblk = 0;
	for (*lblk = from; *lblk < end; *lblk = run.lblk + run.len) {
		int err = ext4_map_blocks(ei, *lblk, end - *lblk, &run);

		if (err)
			return err;
		if (run.pblk) {
			*pblk = run.pblk + (*lblk - run.lblk);
			return 0;
		}
	}
	return 0;
}

int ext4_cluster_askew(const struct ext4_inode *ei, u64 lblk)
{
	return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
		       "its block %llu does not lie in a cluster as its neighbours do",
		       (unsigned long long)lblk);
}

int ext4_cluster_find(struct ext4_inode *ei, u64 lblk, u64 *pblk)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 mask = (1ull << es->cluster_bits) - 1, near;
	int err;

	*pblk = 0;
	if (!mask)
		return 0;
	err = first_mapped(ei, lblk & ~mask, (lblk | mask) + 1, &near, pblk);
	if (err || !*pblk)
		return err;
	if ((near ^ *pblk) & mask)
		return ext4_cluster_askew(ei, near);
	*pblk += lblk - near;
	return ext4_blocks_ok_for(es, ei->vfs.ino, *pblk, 1) ? 0 : ext4_cluster_askew(ei, lblk);
}

int ext4_cluster_own(struct ext4_inode *ei, u64 lblk, u64 len, u64 *from, u64 *to)
{
	u64 mask = (1ull << ext4_inode_super(ei)->cluster_bits) - 1, first = lblk & ~mask,
	    end = (lblk + len + mask) & ~mask, near, left = 0, right = 0;
	int err = 0;

	*from = lblk;
	*to = lblk + len;
	if (first < *from)
		err = first_mapped(ei, first, *from, &near, &left);
	if (!err && *to < end)
		err = first_mapped(ei, *to, end, &near, &right);
	if (left)
		*from = first + mask + 1;
	if (right)
		*to = end - mask - 1;
	if (*from > *to)
		*from = *to;
	return err;
}
