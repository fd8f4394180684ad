/*
 * The primary superblock as a block that changes. es->disk, guarded by es->super_lock, is what counts; the block in the cache is made
 * from it when a transaction is locked, or at once before the first and after the last one. Its copies are written by
 * who changes what they are needed for (features, geometry), not with counters.
 */
#include "ext4.h"

#include <errno.h>

static u32 offset_in_block(const struct ext4_super *es)
{
	return EXT4_SUPER_OFF - ((u32)es->super_blk << es->block_bits);
}

static void seal_super(const struct buffer_head *bh, void *data)
{
	struct ext4_super *es = ext4_bh_super(bh);
	struct ext4_disk_super *d = (void *)((u8 *)data + offset_in_block(es));

	if (es->metadata_csum)
		d->checksum = le32_put(ext4_csum_super(d));
}

static const struct bh_ops super_ops = { .name = "superblock", .seal = seal_super };

int ext4_super_hold(struct ext4_super *es)
{
	return bh_read(es->vfs.dev, es->super_blk, &super_ops, NULL, &es->super_bh);
}

void ext4_super_release(struct ext4_super *es)
{
	bh_put(es->super_bh);
	es->super_bh = NULL;
}

int ext4_super_change(struct ext4_handle *h)
{
	struct ext4_super *es = h->es;
	int err = ext4_access(h, es->super_bh);

	if (err)
		return err;
	mutex_lock(&es->super_lock);
	es->super_changed = true;
	mutex_unlock(&es->super_lock);
	ext4_dirty(h, es->super_bh);
	return 0;
}

void ext4_errors_record(struct ext4_super *es)
{
	static const char who[] = "werunos";
	u64 count = atomic_load(&es->vfs.health.corrupt_count),
	    before = atomic_exchange(&es->errors_recorded, count), now = (u64)os_now().sec;
	struct ext4_disk_super *d = &es->disk;

	if (count == before)
		return;
	mutex_lock(&es->super_lock);
	d->state = le16_put(le16_get(d->state) | EXT4_STATE_ERROR);
	if (!le32_get(d->error_count)) {
		d->first_error_time = le32_put((u32)now);
		d->first_error_time_hi = (u8)(now >> 32);
		memcpy(d->first_error_func, who, sizeof(who));
	}
	d->error_count = le32_put(le32_get(d->error_count) + (u32)(count - before));
	d->last_error_time = le32_put((u32)now);
	d->last_error_time_hi = (u8)(now >> 32);
	memcpy(d->last_error_func, who, sizeof(who));
	es->super_changed = true;
	mutex_unlock(&es->super_lock);
}

void ext4_super_fill(struct ext4_super *es)
{
	mutex_lock(&es->super_lock);
	if (es->super_changed)
		memcpy((u8 *)es->super_bh->data + offset_in_block(es), &es->disk, sizeof(es->disk));
	es->super_changed = false;
	mutex_unlock(&es->super_lock);
}

int ext4_super_write(struct ext4_super *es)
{
	int err;

	mutex_lock(&es->super_lock);
	es->super_changed = true;
	mutex_unlock(&es->super_lock);
	bh_lock(es->super_bh);
	ext4_super_fill(es);
	bh_dirty(es->super_bh);
	bh_unlock(es->super_bh);
	err = bh_write(es->super_bh);
	return err ? err : blkdev_flush(es->vfs.dev);
}
