/*
 * The copies of the superblock, for those who have nothing else: e2fsck -b, and us when the primary is damaged.
 *
 * What copies are needed for is geometry and features, and of these our changes set two: EXT_ATTR with the first attribute,
 * LARGE_FILE with the first long file. e2fsck that works from a copy without EXT_ATTR takes blocks of attributes for damage and
 * clears them; a missing LARGE_FILE it only sets again. The kernel brings neither along; e2fsck does for EXT_ATTR.
 * RECOVER and ORPHAN_PRESENT are states: a copy that had them would say so for ever.
 *
 *   - A copy keeps all else that it says: of its bytes only the features' and the checksum change. One that is damaged, or of another
 *     volume, is left alone.
 *   - The primary is durable first. Then the copies are written from the last to the first, the first when the others are durable:
 *     so at no moment are all of them half written, and the first one tells of them all. A crash in between leaves copies that lack what
 *     they lacked before; the next mount sees it by the first one.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/scope.h"

#define MIRRORED_COMPAT    EXT4_COMPAT_EXT_ATTR
#define MIRRORED_RO_COMPAT EXT4_RO_COMPAT_LARGE_FILE

/* What the volume has of those. Locks: super_lock. */
static struct ext4_features mirrored(const struct ext4_super *es)
{
	return (struct ext4_features){
		le32_get(es->disk.feature_compat) & MIRRORED_COMPAT,
		le32_get(es->disk.feature_ro_compat) & MIRRORED_RO_COMPAT,
	};
}

/* A copy begins its block. False: what is there is none of this volume's. */
static bool copy_ok(const struct ext4_super *es, const struct ext4_disk_super *d)
{
	return le16_get(d->magic) == EXT4_MAGIC && !memcmp(d->uuid, es->disk.uuid, sizeof(d->uuid)) &&
	       le32_get(d->log_block_size) == le32_get(es->disk.log_block_size) &&
	       (!es->metadata_csum || le32_get(d->checksum) == ext4_csum_super(d));
}

static int copy_read(struct ext4_super *es, u64 blk, struct buffer_head **out)
{
	const struct bh_ctx ctx = { { 0 } };

	return bh_read(es->vfs.dev, blk, NULL, &ctx, out);
}

/* Does the copy lack them? With `write` it gets them, and is written. Locks: the buffer. */
static bool lacks(const struct ext4_super *es, struct buffer_head *bh, const struct ext4_features *want,
		  bool write)
{
	struct ext4_disk_super *d = bh->data;
	u32 compat = le32_get(d->feature_compat) | want->compat,
	    ro_compat = le32_get(d->feature_ro_compat) | want->ro_compat;

	if (!copy_ok(es, d) ||
	    (compat == le32_get(d->feature_compat) && ro_compat == le32_get(d->feature_ro_compat)))
		return false;
	if (write) {
		d->feature_compat = le32_put(compat);
		d->feature_ro_compat = le32_put(ro_compat);
		if (es->metadata_csum)
			d->checksum = le32_put(ext4_csum_super(d));
		bh_dirty(bh);
	}
	return true;
}

void ext4_copies_look(struct ext4_super *es)
{
	u32 tid = es->journal ? jbd2_running(es->journal) : 0;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk = ext4_super_copy_blk(es, 1);
	struct ext4_features want;
	bool lack;

	if (!blk || copy_read(es, blk, &bh)) {
		err_clear();
		return;
	}
	mutex_lock(&es->super_lock);
	want = mirrored(es);
	mutex_unlock(&es->super_lock);
	bh_lock(bh);
	lack = lacks(es, bh, &want, false);
	bh_unlock(bh);
	mutex_lock(&es->super_lock);
	/* Else they have a later transaction to wait for. */
	if (lack && !es->copies_stale) {
		es->copies_stale = true;
		es->copies_tid = tid;
	}
	mutex_unlock(&es->super_lock);
}

bool ext4_copies_take(struct ext4_super *es, struct ext4_features *want, u32 *tid)
{
	bool stale;

	mutex_guard(&es->super_lock);
	stale = es->copies_stale;
	es->copies_stale = false;
	*want = mirrored(es);
	*tid = es->copies_tid;
	return stale;
}

void ext4_copies_put_off(struct ext4_super *es)
{
	mutex_guard(&es->super_lock);
	es->copies_stale = true;
}

static int copy_write(struct ext4_super *es, u64 blk, const struct ext4_features *want)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	bool lack;
	int err = copy_read(es, blk, &bh);

	if (err)
		return err;
	bh_lock(bh);
	lack = lacks(es, bh, want, true);
	bh_unlock(bh);
	return lack ? bh_write(bh) : 0;
}

void ext4_copies_write(struct ext4_super *es, const struct ext4_features *want)
{
	u32 last = 0;

	while (ext4_super_copy_blk(es, last + 1))
		last++;
	for (u32 copy = last; copy && health_state(&es->vfs.health) < HEALTH_ABORTED; copy--) {
		int err = copy_write(es, ext4_super_copy_blk(es, copy), want),
		    flush = copy <= 2 ? blkdev_flush(es->vfs.dev) : 0;

		if (err || flush)
			log_warn("%s: copy %u of the superblock lacks features that the volume has: %s",
				 es->vfs.health.name, copy, err_text());
	}
}
