/*
 * The primary superblock as a block that changes. es->disk, guarded by es->super_lock, is what counts; the block in the cache is made
 * from it when a transaction is locked, or at once before the first and after the last one. Its copies have what they are needed
 * for, features and geometry, and are none of this file's business: super_copy.c.
 *
 * Errors. What corrupt() has recorded in health and es->disk does not tell yet becomes part of every transaction that is committed; so
 * that there is one, upkeep.c begins it.
 */
#include "ext4.h"

#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>

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

int ext4_super_put(struct blkdev *dev, const struct ext4_disk_super *d)
{
	u64 unit = MAX((u64)dev->sector_bytes, sizeof(*d)), at = ALIGN_DOWN((u64)EXT4_SUPER_OFF, unit);
	scoped(freep) u8 *sector = os_alloc_aligned(4096, ALIGN_UP(unit, 4096ull));
	int err = sector ? blkdev_read(dev, at, sector, unit) : fail(-ENOMEM, "no memory for a superblock");

	if (err)
		return err;
	memcpy(sector + (EXT4_SUPER_OFF - at), d, sizeof(*d));
	return blkdev_write(dev, at, sector, unit, 0);
}

/* ---- changes ---- */

int ext4_super_join(struct ext4_handle *h)
{
	struct ext4_super *es = h->es;
	int err = ext4_access(h, es->super_bh);

	if (err)
		return err;
	ext4_dirty(h, es->super_bh);
	return 0;
}

struct ext4_disk_super *ext4_super_lock(struct ext4_super *es)
{
	mutex_lock(&es->super_lock);
	es->super_changed = true;
	return &es->disk;
}

void ext4_super_unlock(struct ext4_super *es)
{
	mutex_unlock(&es->super_lock);
}

bool ext4_super_has(struct ext4_super *es, u32 compat, u32 ro_compat)
{
	mutex_guard(&es->super_lock);
	return !(compat & ~le32_get(es->disk.feature_compat)) &&
	       !(ro_compat & ~le32_get(es->disk.feature_ro_compat));
}

void ext4_super_revise(struct ext4_disk_super *d)
{
	if (le32_get(d->rev_level))
		return;
	d->rev_level = le32_put(1);
	d->first_ino = le32_put(EXT4_FIRST_INO_REV0);
	d->inode_size = le16_put(EXT4_INODE_BYTES_OLD);
}

int ext4_super_set(struct ext4_handle *h, u32 compat, u32 ro_compat)
{
	struct ext4_super *es = h->es;
	struct ext4_disk_super *d;
	int err = ext4_super_join(h);

	if (err)
		return err;
	d = ext4_super_lock(es);
	d->feature_compat = le32_put(le32_get(d->feature_compat) | compat);
	d->feature_ro_compat = le32_put(le32_get(d->feature_ro_compat) | ro_compat);
	ext4_super_revise(d);
	es->copies_stale = true;
	es->copies_tid = h->jh.tid;
	ext4_super_unlock(es);
	health_ring(&es->vfs.health);
	return 0;
}

/* ---- errors ---- */

/* Members of the superblock that tell of one error. */
struct error_members {
	le32 *time, *ino, *line;
	le64 *block;
	u8 *time_hi, *func, *errcode;
};

/* As the kernel and e2fsck show it. func is 32 bytes. */
static void tell(const struct health_error *e, const struct error_members *m)
{
	bool is_inode = !strcmp(e->what, "inode") || !strcmp(e->what, "directory");
	char who[sizeof(((struct ext4_disk_super *)0)->last_error_func)] = "";

	snprintf(who, sizeof(who), "werunos:%s:%s", e->file, e->func);
	memcpy(m->func, who, sizeof(who));
	*m->time = le32_put((u32)e->time_sec);
	*m->time_hi = (u8)((u64)e->time_sec >> 32);
	*m->ino = le32_put(is_inode ? (u32)e->nr : 0);
	*m->block = le64_put(!strcmp(e->what, "block") ? e->nr : 0);
	*m->line = le32_put(e->line);
	*m->errcode = EXT4_ERR_EFSCORRUPTED;
}

bool ext4_errors_new(const struct ext4_super *es)
{
	return atomic_load(&es->vfs.health.corrupt_count) != atomic_load(&es->errors_recorded);
}

void ext4_errors_record(struct ext4_super *es)
{
	struct health_error first, last;
	u64 count = health_errors(&es->vfs.health, &first, &last), recorded;
	struct ext4_disk_super *d;

	if (!ext4_errors_new(es))
		return;
	d = ext4_super_lock(es);
	recorded = atomic_load(&es->errors_recorded);
	/* Somebody else may have asked health later than we. */
	if (count > recorded) {
		if (!le32_get(d->error_count))
			tell(&first, &(struct error_members){ &d->first_error_time, &d->first_error_ino,
							      &d->first_error_line, &d->first_error_block,
							      &d->first_error_time_hi, d->first_error_func,
							      &d->first_error_errcode });
		tell(&last,
		     &(struct error_members){ &d->last_error_time, &d->last_error_ino, &d->last_error_line,
					      &d->last_error_block, &d->last_error_time_hi,
					      d->last_error_func, &d->last_error_errcode });
		d->error_count = le32_put(le32_get(d->error_count) + (u32)(count - recorded));
		d->state = le16_put(le16_get(d->state) | EXT4_STATE_ERROR);
		atomic_store(&es->errors_recorded, count);
	}
	ext4_super_unlock(es);
}

void ext4_errors_commit(struct ext4_super *es, struct jbd2_handle *jh)
{
	if (!ext4_errors_new(es))
		return;
	/* Every handle has set a credit aside for this. */
	if (es->journal && (!jh->credits || jbd2_access(jh, es->super_bh))) {
		err_clear();
		return;
	}
	ext4_errors_record(es);
	if (es->journal)
		jbd2_dirty(jh, es->super_bh);
}

void ext4_errors_keep(struct ext4_super *es, const struct ext4_disk_super *before)
{
	const size_t from = offsetof(struct ext4_disk_super, error_count),
		     end = offsetof(struct ext4_disk_super, mount_opts);
	struct ext4_disk_super *d = &es->disk;

	d->state = le16_put(le16_get(d->state) | (le16_get(before->state) & EXT4_STATE_ERROR));
	if (le32_get(before->error_count) <= le32_get(d->error_count))
		return;
	memcpy((u8 *)d + from, (const u8 *)before + from, end - from);
	d->first_error_time_hi = before->first_error_time_hi;
	d->last_error_time_hi = before->last_error_time_hi;
	d->first_error_errcode = before->first_error_errcode;
	d->last_error_errcode = before->last_error_errcode;
}

/* ---- to the disk ---- */

/* Locks: the buffer. False: es->disk did not change. */
static bool fill(struct ext4_super *es)
{
	mutex_guard(&es->super_lock);
	if (!es->super_changed)
		return false;
	memcpy((u8 *)es->super_bh->data + offset_in_block(es), &es->disk, sizeof(es->disk));
	es->super_changed = false;
	return true;
}

void ext4_super_fill(struct ext4_super *es)
{
	bh_lock(es->super_bh);
	/* A transaction has the block already; without a journal it may be nobody's just now. */
	if (fill(es) && !es->journal)
		bh_dirty(es->super_bh);
	bh_unlock(es->super_bh);
}

int ext4_super_write(struct ext4_super *es)
{
	int err;

	(void)ext4_super_lock(es);
	ext4_super_unlock(es);
	bh_lock(es->super_bh);
	if (fill(es))
		bh_dirty(es->super_bh);
	bh_unlock(es->super_bh);
	err = bh_write(es->super_bh);
	return err ? err : blkdev_flush(es->vfs.dev);
}
