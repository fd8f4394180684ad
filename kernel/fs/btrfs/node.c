/*
 * Nodes by logical address. A node is one block of the cache, so its address must be a multiple of its size; volumes where that
 * is not so (old btrfs-convert made them) are told apart from damage.
 */
#include "btrfs.h"

#include <errno.h>

/* Where the node lies in the cache. */
static int node_block(struct btrfs_super *bs, u64 bytenr, u64 *blk)
{
	if (!bytenr || !IS_ALIGNED(bytenr, (u64)bs->sector_bytes))
		return corrupt(&bs->vfs.health, "tree block", bytenr, "no tree block can be there");
	if (!IS_ALIGNED(bytenr, (u64)bs->node_bytes))
		return fail(-EOPNOTSUPP,
			    "%s: tree block %llu does not lie at a multiple of its size, as btrfs-convert "
			    "once made them: a balance of the metadata by the kernel moves it",
			    bs->vfs.health.name, (unsigned long long)bytenr);
	*blk = bytenr / bs->node_bytes;
	return 0;
}

/* Why a node could not be read, when that is because there is no such place. */
static int explain(struct btrfs_super *bs, u64 bytenr, int err)
{
	if (err == -EIO && !btrfs_chunk_find(bs->volume, bytenr))
		return corrupt(&bs->vfs.health, "tree block", bytenr, "it lies in no chunk");
	return err;
}

int btrfs_node_read(struct btrfs_super *bs, u64 bytenr, const struct btrfs_expect *want,
		    struct buffer_head **out)
{
	struct bh_ctx ctx;
	u64 blk;
	int err = node_block(bs, bytenr, &blk);

	if (err)
		return err;
	btrfs_node_ctx(want, &ctx);
	err = bh_read(bs->vfs.dev, blk, &btrfs_node_ops, &ctx, out);
	return err ? explain(bs, bytenr, err) : 0;
}

int btrfs_node_read_raw(struct btrfs_super *bs, u64 bytenr, const struct btrfs_expect *want,
			struct buffer_head **out, int *verdict)
{
	struct bh_ctx ctx;
	u64 blk;
	int err = node_block(bs, bytenr, &blk);

	if (err)
		return err;
	btrfs_node_ctx(want, &ctx);
	err = bh_read_raw(bs->vfs.dev, blk, &btrfs_node_ops, &ctx, out, verdict);
	return err ? explain(bs, bytenr, err) : 0;
}

/* Neighbours on the volume become one request. */
void btrfs_node_ahead(struct btrfs_super *bs, const void *node, u32 slot, u32 n)
{
	u64 first = 0;
	u32 run = 0;

	if (!bs->ahead_ok)
		return;
	for (u32 end = MIN(slot + n, btrfs_nritems(node)); slot < end; slot++) {
		u64 bytenr = le64_get(btrfs_ptr(node, slot)->bytenr);

		if (!IS_ALIGNED(bytenr, (u64)bs->node_bytes))
			continue;
		if (run && bytenr / bs->node_bytes == first + run) {
			run++;
			continue;
		}
		if (run)
			bh_readahead(bs->vfs.dev, first, run);
		first = bytenr / bs->node_bytes;
		run = 1;
	}
	if (run)
		bh_readahead(bs->vfs.dev, first, run);
}
