/*
 * File data that goes through the journal: data=journal, and files with the attribute +j.
 *
 *   alloc ─► the bytes go to memory (ext4_jdata_stage) ─► commit: in the handle that puts the blocks into the map they become buffers of
 *   the journal (ext4_jdata_put), like any metadata
 *
 * So until they are home the newest bytes of such a file are in the buffer cache, and ext4_map says so block by block. Blocks that such a
 * file gives up are forgotten, as those of directories are: no older image of them is replayed over what comes next.
 */
#include "ext4.h"

#include <errno.h>

#define BLOCKS_MAX 256u /* of one change */

static const struct bh_ops jdata_ops = { .name = "file data" };

u32 ext4_jdata_blocks_max(const struct ext4_super *es)
{
	return MAX(1u, MIN(BLOCKS_MAX, jbd2_credits_max(es->journal) / 2));
}

int ext4_jdata_stage(u64 len_bytes, struct blkdev **out)
{
	return dev_mem_new("file data for the journal", len_bytes, 1, out);
}

/* The block's buffer, whose bytes are about to be replaced. */
static int get_block(struct ext4_handle *h, struct ext4_inode *ei, u64 blk, struct buffer_head **out)
{
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);

	*out = bh_find(h->es->vfs.dev, blk);
	/* What is there already is not cleared under those who read it. */
	if (*out && (*out)->ops == &jdata_ops)
		return 0;
	bh_put(*out);
	return bh_get_new(h->es->vfs.dev, blk, &jdata_ops, &ctx, out);
}

/* One block, from `from` at off_bytes. */
static int put_block(struct ext4_handle *h, struct ext4_inode *ei, u64 blk, struct blkdev *from,
		     u64 off_bytes)
{
	struct buffer_head *bh;
	int err;

	do {
		err = get_block(h, ei, blk, &bh);
		if (err)
			return err;
		/* -ESTALE: a hole was there, in a cluster of the file's, and is durable just now. */
		err = jbd2_access(&h->jh, bh);
		if (!err) {
			err = blkdev_read(from, off_bytes, bh->data, bh->size_bytes);
			ext4_dirty(h, bh);
		}
		bh_put(bh);
	} while (err == -ESTALE);
	return err;
}

int ext4_jdata_put(struct ext4_handle *h, struct ext4_inode *ei, u64 blk, u32 blocks, struct blkdev *from)
{
	int err = 0;

	for (u32 i = 0; i < blocks && !err; i++)
		err = put_block(h, ei, blk + i, from, (u64)i << h->es->block_bits);
	return err ? ext4_abort(h->es, err) : 0;
}

int ext4_jdata_end(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 end = ALIGN_UP(ext4_size(ei), (u64)ext4_block_bytes(es)) >> es->block_bits;
	int err = jbd2_flush(es->journal, true);

	for (u64 lblk = 0; lblk < end && !err;) {
		struct ext4_run run;

		rw_read_lock(&ei->tree);
		err = ext4_map_blocks(ei, lblk, end - lblk, &run);
		rw_read_unlock(&ei->tree);
		for (u64 i = 0; !err && run.pblk && i < run.len; i++)
			bh_forget(es->vfs.dev, run.pblk + i);
		lblk = run.lblk + run.len;
	}
	return err;
}
