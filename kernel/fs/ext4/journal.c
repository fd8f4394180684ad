/*
 * The volume's journal: where its blocks lie, and applying it.
 *
 * The journal is a file whose inode the superblock names. Should that inode be damaged, the superblock has a copy of
 * its map. Or it is a device of its own, which begins like a volume: a superblock, with a feature that says so and the UUID by
 * which the volume knows it; the journal's own superblock is the block behind that one, and blocks are counted from the device's
 * start. What is replayed goes to a device of the caller's choice.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define SUPER_WORDS_MAP \
	15u /* words of the superblock's copy that are i_block; then size, high half and low half */
#define BACKUP_BLOCKS 1u /* jnl_backup_type */

/* The inode as the superblock remembers it. */
static int inode_from_copy(struct ext4_super *es, struct ext4_inode *ei)
{
	const struct ext4_disk_super *d = &es->disk;
	const struct ext4_disk_extent_header *h = (const void *)ei->block;
	u64 size = le32_get(d->jnl_blocks[16]) | (u64)le32_get(d->jnl_blocks[15]) << 32;
	const char *bad = NULL;

	if (d->jnl_backup_type != BACKUP_BLOCKS || !size)
		return -EUCLEAN;
	memcpy(ei->block, d->jnl_blocks, SUPER_WORDS_MAP * sizeof(le32));
	ei->flags = le16_get(h->magic) == EXT4_EXTENT_MAGIC ? EXT4_FL_EXTENTS : 0;
	ei->vfs.mode = S_IFREG;
	ei->vfs.generation = 0;
	atomic_store(&ei->vfs.size_bytes, size);
	if (ei->flags && le16_get(h->depth) > EXT4_EXTENT_DEPTH_MAX)
		return -EUCLEAN;
	if (ei->flags)
		bad = ext4_extent_node_wrong(es, ei->vfs.ino, ei->block, EXT4_IBLOCK_BYTES,
					     le16_get(h->depth));
	return bad || size >> es->block_bits > es->blocks ? -EUCLEAN : 0;
}

void ext4_journal_backup(struct ext4_disk_super *d, const u8 *block, u64 size_bytes)
{
	d->jnl_backup_type = BACKUP_BLOCKS;
	memcpy(d->jnl_blocks, block, SUPER_WORDS_MAP * sizeof(le32));
	d->jnl_blocks[SUPER_WORDS_MAP] = le32_put((u32)(size_bytes >> 32));
	d->jnl_blocks[SUPER_WORDS_MAP + 1] = le32_put((u32)size_bytes);
}

int ext4_journal_inode(struct ext4_super *es, struct ext4_inode *ei)
{
	ei->vfs.sb = &es->vfs;
	ei->vfs.ino = le32_get(es->disk.journal_inum);
	return ext4_inode_load(ei);
}

static int inode_get(struct ext4_super *es, struct ext4_inode *ei)
{
	int err = ext4_journal_inode(es, ei);

	if (!err && !is_reg(&ei->vfs))
		err = corrupt(&es->vfs.health, "inode", ei->vfs.ino, "the journal is not a file");
	if (err && (err == -EUCLEAN || err == -ESTALE) && !inode_from_copy(es, ei))
		err = 0;
	return err;
}

/* jbd2_where.map */
static int journal_map(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	struct ext4_inode *ei = priv;
	struct ext4_run run;
	int err = ext4_map_blocks(ei, lblk, 1024, &run);

	if (err)
		return err;
	if (!run.pblk)
		return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			       "the journal has a hole at block %llu", (unsigned long long)lblk);
	*blk = run.pblk + lblk - run.lblk;
	*count = run.len - (lblk - run.lblk);
	return 0;
}

bool ext4_journal_is_inside(const struct ext4_super *es)
{
	return ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL) && le32_get(es->disk.journal_inum);
}

bool ext4_journal_is_here(const struct ext4_super *es)
{
	return ext4_journal_is_inside(es) || es->journal_dev;
}

/* The superblock at the start of a journal device. */
static int outside_super(struct ext4_super *es, struct blkdev *dev, struct ext4_disk_super *d)
{
	int err = blkdev_read(dev, EXT4_SUPER_OFF, d, sizeof(*d));

	if (err)
		return err;
	if (le16_get(d->magic) != EXT4_MAGIC || !(le32_get(d->feature_incompat) & EXT4_INCOMPAT_JOURNAL_DEV))
		return fail(-EINVAL, "%s is no journal device", dev->name);
	if (memcmp(d->uuid, es->disk.journal_uuid, sizeof(d->uuid)))
		return fail(-EINVAL, "%s is the journal of another volume", dev->name);
	if (le32_get(d->log_block_size) + EXT4_BLOCK_BITS_MIN != es->block_bits)
		return fail(-EINVAL, "%s has blocks of another size than the volume", dev->name);
	if (le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM &&
	    le32_get(d->checksum) != ext4_csum_super(d))
		return corrupt(&es->vfs.health, "journal device", 0, "the superblock's checksum is wrong");
	return 0;
}

int ext4_journal_use_dev(struct ext4_super *es, struct blkdev *dev)
{
	struct ext4_disk_super d;
	int err;

	if (!ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL))
		return fail(-EINVAL, "%s has no journal", es->vfs.health.name);
	if (ext4_journal_is_inside(es))
		return fail(-EINVAL, "%s has its journal inside", es->vfs.health.name);
	err = outside_super(es, dev, &d);
	if (!err)
		es->journal_dev = blkdev_get(dev);
	return err;
}

/* jbd2_where.map: the log's superblock lies behind the device's, all else where its number says. */
static int outside_map(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	struct ext4_super *es = priv;

	*blk = lblk ? lblk : es->super_blk + 1;
	*count = lblk ? UINT32_MAX : 1;
	return 0;
}

static int open_outside(struct ext4_super *es, struct jbd2 **out)
{
	struct jbd2_where where = {
		.dev = es->journal_dev, .block_bytes = ext4_block_bytes(es), .map = outside_map, .priv = es
	};
	struct ext4_disk_super d;
	int err = outside_super(es, es->journal_dev, &d);

	if (err)
		return err;
	where.blocks = ext4_sb_blocks(&d);
	return jbd2_open(&where, &es->vfs.health, out);
}

int ext4_journal_open(struct ext4_super *es, struct ext4_inode *ei, struct jbd2 **out)
{
	struct jbd2_where where = {
		.dev = es->vfs.dev, .block_bytes = ext4_block_bytes(es), .map = journal_map, .priv = ei
	};
	int err;

	if (es->journal_dev)
		return open_outside(es, out);
	err = inode_get(es, ei);
	if (err)
		return err;
	where.blocks = ext4_size(ei) >> es->block_bits;
	return jbd2_open(&where, &es->vfs.health, out);
}

int ext4_journal_replay(struct ext4_super *es, struct blkdev *target, bool empty, struct ext4_replay *out)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct jbd2_recovery *r = &out->log;
	struct jbd2 *journal;
	int err;

	*out = (struct ext4_replay){ 0 };
	if (!ei)
		return fail(-ENOMEM, "no memory for an inode");
	err = ext4_journal_open(es, ei, &journal);
	if (err)
		return err;
	out->stopped = jbd2_info(journal)->err;
	/* Of an empty log, too, it says where the numbers of transactions go on. */
	err = jbd2_recover(journal, target, r);
	if (!err && jbd2_info(journal)->needs_recovery && r->has_fast_commits)
		err = ext4_fc_load(es, journal, r->end, &out->fast_commits);
	out->transactions = r->end - r->first;
	/* One is left out, lest what an unfinished transaction left in the log be taken for a later one. */
	out->next = r->end + 1;
	out->bad_commit = r->bad_commit;
	if (!err && empty && !out->fast_commits.count)
		err = jbd2_mark_empty(journal, target, out->next);
	jbd2_close(journal);
	return err;
}
