/*
 * The copies of the superblock, for those who have nothing else: e2fsck -b, and us when the primary is damaged.
 *
 * What copies are needed for is geometry and features, and of these our changes set two: EXT_ATTR with the first attribute,
 * LARGE_FILE with the first long file. e2fsck that works from a copy without EXT_ATTR takes blocks of attributes for damage and
 * clears them; a missing LARGE_FILE it only sets again. The kernel brings neither along; e2fsck does for EXT_ATTR.
 * RECOVER and ORPHAN_PRESENT are states: a copy that had them would say so for ever.
 *
 * They have the volume's names too, which change on a volume that nobody has mounted (relabel.c).
 *
 *   - A copy keeps all else that it says: of its bytes only the features' or the names', and the checksum change. One that is damaged, or of
 *     another volume, is left alone.
 *   - Where the volume has grown, copies of superblock and descriptors are made anew, whole.
 *   - The primary is durable first. Then the copies are written from the last to the first, the first when the others are durable:
 *     so at no moment are all of them half written, and the first one tells of them all. A crash in between leaves copies that lack what
 *     they lacked before; the next mount sees it by the first one.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define MIRRORED_COMPAT    EXT4_COMPAT_EXT_ATTR
#define META_COPIES        2u /* of a descriptor block in a group that it describes */
#define MIRRORED_RO_COMPAT EXT4_RO_COMPAT_LARGE_FILE

/* What the volume has of those. Locks: super_lock. */
static struct ext4_features mirrored(const struct ext4_super *es)
{
	return (struct ext4_features){
		.compat = le32_get(es->disk.feature_compat) & MIRRORED_COMPAT,
		.ro_compat = le32_get(es->disk.feature_ro_compat) & MIRRORED_RO_COMPAT,
	};
}

/* A copy begins its block. False: what is there is none of the volume with this UUID. */
static bool copy_ok(const struct ext4_super *es, const struct ext4_disk_super *d, const u8 *uuid)
{
	return le16_get(d->magic) == EXT4_MAGIC && !memcmp(d->uuid, uuid, sizeof(d->uuid)) &&
	       le32_get(d->log_block_size) == le32_get(es->disk.log_block_size) &&
	       (!es->metadata_csum || le32_get(d->checksum) == ext4_csum_super(d));
}

/* Reads the block that begins with a copy; freed by the caller. Nobody else has it in the cache. */
static int copy_read(struct ext4_super *es, u64 blk, void **block)
{
	*block = os_alloc_aligned(4096, ext4_block_bytes(es));
	if (!*block)
		return fail(-ENOMEM, "no memory for a block");
	return blkdev_read(es->vfs.dev, blk << es->block_bits, *block, ext4_block_bytes(es));
}

/* Does the copy lack them? Then it gets them, in memory. */
static bool complete(const struct ext4_super *es, struct ext4_disk_super *d, const struct ext4_features *want)
{
	u32 compat = le32_get(d->feature_compat) | want->compat,
	    ro_compat = le32_get(d->feature_ro_compat) | want->ro_compat;

	if (!copy_ok(es, d, es->disk.uuid) ||
	    (compat == le32_get(d->feature_compat) && ro_compat == le32_get(d->feature_ro_compat)))
		return false;
	ext4_super_revise(d);
	d->feature_compat = le32_put(compat);
	d->feature_ro_compat = le32_put(ro_compat);
	if (es->metadata_csum)
		d->checksum = le32_put(ext4_csum_super(d));
	return true;
}

void ext4_copies_look(struct ext4_super *es)
{
	u32 tid = es->journal ? jbd2_running(es->journal) : 0;
	scoped(freep) void *block = NULL;
	u64 blk = ext4_super_copy_blk(es, 1);
	struct ext4_features want;

	if (!blk)
		return;
	if (copy_read(es, blk, &block)) {
		err_clear();
		return;
	}
	mutex_guard(&es->super_lock);
	want = mirrored(es);
	if (!es->copies_old && copy_ok(es, block, es->disk.uuid) && ext4_sb_blocks(block) != es->blocks) {
		es->copies_old = true;
		es->copies_tid = tid;
	}
	/* Stale already: then they have a later transaction to wait for. */
	if (!es->copies_stale && complete(es, block, &want)) {
		es->copies_stale = true;
		es->copies_tid = tid;
	}
}

bool ext4_copies_take(struct ext4_super *es, struct ext4_features *want, u32 *tid)
{
	bool stale;

	mutex_guard(&es->super_lock);
	stale = es->copies_stale || es->copies_old;
	*want = mirrored(es);
	want->all = es->copies_old;
	es->copies_stale = es->copies_old = false;
	*tid = es->copies_tid;
	return stale;
}

void ext4_copies_outdated(struct ext4_super *es)
{
	u32 tid = es->journal ? jbd2_running(es->journal) : 0;

	mutex_lock(&es->super_lock);
	es->copies_old = true;
	es->copies_tid = tid;
	mutex_unlock(&es->super_lock);
	health_ring(&es->vfs.health);
}

void ext4_copies_put_off(struct ext4_super *es, const struct ext4_features *want)
{
	mutex_guard(&es->super_lock);
	es->copies_stale = true;
	es->copies_old |= want->all;
}

void ext4_names_copy(struct ext4_disk_super *to, const struct ext4_disk_super *from)
{
	u32 seeded = le32_get(from->feature_incompat) & EXT4_INCOMPAT_CSUM_SEED;

	memcpy(to->volume_name, from->volume_name, sizeof(to->volume_name));
	memcpy(to->uuid, from->uuid, sizeof(to->uuid));
	to->feature_incompat = le32_put(le32_get(to->feature_incompat) | seeded);
	to->checksum_seed = from->checksum_seed;
}

/* What a copy is to get. */
struct change {
	const struct ext4_features *want;
	const u8 *old_uuid; /* the names, of those that have this one; NULL: no names */
};

/* Does the copy have other names? Then it gets the volume's, in memory. */
static bool name(const struct ext4_super *es, struct ext4_disk_super *d, const u8 *old_uuid)
{
	if (!copy_ok(es, d, old_uuid))
		return false;
	ext4_names_copy(d, &es->disk);
	if (es->metadata_csum)
		d->checksum = le32_put(ext4_csum_super(d));
	return true;
}

static int copy_write(struct ext4_super *es, u64 blk, const struct change *c)
{
	scoped(freep) void *block = NULL;
	int err = copy_read(es, blk, &block);

	if (err || !(c->old_uuid ? name(es, block, c->old_uuid) : complete(es, block, c->want)))
		return err;
	return blkdev_write(es->vfs.dev, blk << es->block_bits, block, ext4_block_bytes(es), 0);
}

/* ---- all of a copy ---- */

int ext4_copy_make(struct ext4_super *es, u32 group)
{
	scoped(freep) u8 *block = os_alloc_aligned(4096, ext4_block_bytes(es));
	struct ext4_disk_super *d = (void *)block;

	if (!block)
		return fail(-ENOMEM, "no memory for a block");
	memset(block, 0, ext4_block_bytes(es));
	mutex_lock(&es->super_lock);
	*d = es->disk;
	mutex_unlock(&es->super_lock);
	d->block_group_nr = le16_put((u16)group);
	/* States are the volume's alone; who has to use a copy has something to check. */
	d->state = le16_put(0);
	d->feature_incompat = le32_put(le32_get(d->feature_incompat) & ~EXT4_INCOMPAT_RECOVER);
	d->feature_ro_compat = le32_put(le32_get(d->feature_ro_compat) & ~EXT4_RO_COMPAT_ORPHAN_PRESENT);
	if (es->metadata_csum)
		d->checksum = le32_put(ext4_csum_super(d));
	return blkdev_write(es->vfs.dev, ext4_group_start(es, group) << es->block_bits, block,
			    ext4_block_bytes(es), 0);
}

/* Descriptor block i of that copy. */
static int desc_copy(struct ext4_super *es, u32 i, u32 copy)
{
	const struct bh_ctx ctx = { { 0 } };
	u64 blk = ext4_group_desc_blk(es, i, copy);
	scoped(freep) void *block = os_alloc_aligned(4096, ext4_block_bytes(es));
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	if (!blk)
		return 0;
	if (!block)
		return fail(-ENOMEM, "no memory for a block");
	err = bh_read(es->vfs.dev, ext4_group_desc_blk(es, i, 0), &ext4_gdt_ops, &ctx, &bh);
	if (err)
		return err;
	bh_lock(bh);
	memcpy(block, bh->data, bh->size_bytes);
	bh_unlock(bh);
	return blkdev_write(es->vfs.dev, blk << es->block_bits, block, ext4_block_bytes(es), 0);
}

/* The descriptors that have this copy, then the superblock; either may have one more copy than the other. */
static int copy_rewrite(struct ext4_super *es, u32 copy)
{
	u64 blk = ext4_super_copy_blk(es, copy);
	int err = 0;

	for (u32 i = 0; i < es->gdt_blocks && !err; i++)
		err = desc_copy(es, i, copy);
	if (!err && blk)
		err = ext4_copy_make(es, (u32)((blk - es->first_data_blk) / es->blocks_per_group));
	return err;
}

/* From the last to the first. */
static void copies_write(struct ext4_super *es, const struct change *c)
{
	u32 last = 0;

	while (ext4_super_copy_blk(es, last + 1))
		last++;
	if (c->want && c->want->all)
		last = MAX(last, META_COPIES);
	for (u32 copy = last; copy && health_state(&es->vfs.health) < HEALTH_ABORTED; copy--) {
		int err = c->want && c->want->all ? copy_rewrite(es, copy)
						  : copy_write(es, ext4_super_copy_blk(es, copy), c);

		if (err)
			log_warn("%s: copy %u of the superblock lacks %s: %s", es->vfs.health.name, copy,
				 c->old_uuid ? "the new names" : "features that the volume has", err_text());
		/* What else it would have made durable may be lost, and nobody else is told. */
		err = copy <= 2 ? blkdev_flush(es->vfs.dev) : 0;
		if (err)
			(void)!ext4_abort(es, err);
	}
}

void ext4_copies_write(struct ext4_super *es, const struct ext4_features *want)
{
	/* What they are to tell is home when no growth is under way. */
	if (want->all)
		mutex_lock(&es->grow);
	copies_write(es, &(struct change){ .want = want });
	if (want->all)
		mutex_unlock(&es->grow);
}

void ext4_copies_rename(struct ext4_super *es, const u8 *old_uuid)
{
	copies_write(es, &(struct change){ .old_uuid = old_uuid });
}
