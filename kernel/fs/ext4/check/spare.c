/*
 * The spare journal of a volume that is being mended (log.c): its inode, and its end. What is written here is written without being asked about, while
 * nobody has the volume open.
 *
 * The inode remembers what the superblock says of the journal when the spare one is gone: on the volume, what it said before; in the transaction, what
 * was mended. So a mending that broke off is brought to either.
 */
#include "check.h"

#include "lib/scope.h"

#define SPARE_MARK    0x7073u /* group of its inode */
#define SPARE_JOURNAL 0x1u    /* its owner: there is a journal without it */
#define SPARE_RECOVER 0x2u    /* and that needs recovery */

/* ---- a volume that nobody has open ---- */

int ck_open_still(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
		  struct ext4_super **out)
{
	struct mount_opts opts = *mount;
	int err;

	opts.rdonly = opts.norecovery = true;
	err = ext4_super_open(dev, type, &opts, out);
	if (err || !mount->journal || ext4_sb_has_spare(&(*out)->disk))
		return err;
	err = ext4_journal_use_dev(*out, mount->journal);
	if (err) {
		(void)!vfs_unmount(&(*out)->vfs);
		*out = NULL;
	}
	return err;
}

int ck_still_open(struct ck_still *s, const struct fs_type *type, struct blkdev *dev,
		  const struct mount_opts *mount)
{
	*s = (struct ck_still){ .ck = { .dev = dev } };
	s->ck.opts = &s->opts;
	s->ck.sum = &s->sum;
	return ck_open_still(type, dev, mount, &s->ck.es);
}

int ck_still_close(struct ck_still *s, struct blkdev *dev)
{
	int err = s->ck.err ? s->ck.err : blkdev_flush(dev), end;

	ck_seen_free(&s->ck);
	end = vfs_unmount(&s->ck.es->vfs);
	return err ? err : end;
}

int ck_super_sync(struct ck *ck)
{
	ck_super_put(ck);
	return ck->err ? ck->err : blkdev_flush(ck->dev);
}

/* ---- the spare log's inode ---- */

struct ck_journal ck_journal_of(const struct ext4_disk_super *d)
{
	return (struct ck_journal){ .has = le32_get(d->feature_compat) & EXT4_COMPAT_HAS_JOURNAL,
				    .recover = le32_get(d->feature_incompat) & EXT4_INCOMPAT_RECOVER,
				    .inum = le32_get(d->journal_inum) };
}

void ck_spare_remember(struct ext4_disk_inode *raw, const struct ck_journal *own)
{
	raw->gid_lo = le16_put(SPARE_MARK);
	raw->uid_lo = le16_put((u16)((own->has ? SPARE_JOURNAL : 0) | (own->recover ? SPARE_RECOVER : 0)));
	raw->atime = le32_put(own->inum);
}

static bool is_marked(const struct ck_inode *ci)
{
	return S_ISREG(ci->mode) && le16_get(ci->raw->gid_lo) == SPARE_MARK;
}

/* Without what it remembers: there is a journal if one lies where journals do. */
static struct ck_journal remembered(struct ck *ck, const struct ck_inode *ci)
{
	u32 flags = le16_get(ci->raw->uid_lo);
	struct ck_inode usual;
	scoped(freep) void *raw = NULL;

	if (is_marked(ci))
		return (struct ck_journal){ .has = flags & SPARE_JOURNAL,
					    .recover = flags & SPARE_RECOVER,
					    .inum = le32_get(ci->raw->atime) };
	raw = ck_inode_load(ck, EXT4_INO_JOURNAL, &usual);
	if (raw && S_ISREG(usual.mode))
		return (struct ck_journal){ .has = true, .inum = EXT4_INO_JOURNAL };
	return (struct ck_journal){ .has = false };
}

void ck_journal_set(struct ext4_disk_super *d, const struct ck_journal *own)
{
	u32 compat = le32_get(d->feature_compat) & ~EXT4_COMPAT_HAS_JOURNAL,
	    incompat = le32_get(d->feature_incompat) & ~EXT4_INCOMPAT_RECOVER;

	d->feature_compat = le32_put(compat | (own->has ? EXT4_COMPAT_HAS_JOURNAL : 0));
	d->feature_incompat = le32_put(incompat | (own->recover ? EXT4_INCOMPAT_RECOVER : 0));
	d->journal_inum = le32_put(own->inum);
}

bool ck_spare_left(struct ck *ck)
{
	struct ck_inode ci;
	scoped(freep) void *raw = NULL;

	if (ck->es->from_copy)
		return false;
	if (ext4_sb_has_spare(&ck->es->disk))
		return true;
	raw = ck_inode_load(ck, EXT4_INO_SPARE, &ci);
	return raw && is_marked(&ci);
}

int ck_spare_end(struct ck *ck)
{
	struct ck_inode ci;
	scoped(freep) void *raw = NULL;
	struct ck_journal own;
	int err = 0;

	if (!ck_spare_left(ck))
		return ck->err;
	raw = ck_inode_load(ck, EXT4_INO_SPARE, &ci);
	if (!raw)
		return ck->err;
	if (ext4_sb_has_spare(&ck->es->disk)) {
		own = remembered(ck, &ci);
		ck_journal_set(&ck->es->disk, &own);
		err = ck_super_sync(ck);
	}
	if (err)
		return err;
	ck_reserved_clear(ck, EXT4_INO_SPARE);
	return ck->err ? ck->err : blkdev_flush(ck->dev);
}
