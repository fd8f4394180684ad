/*
 * Inodes, memory to disk: every member that raw_inode.c reads is written back into the inode's slot of its table block, within the
 * caller's handle.
 *
 *   - ext4_inode_write changes an inode that lies there; ext4_inode_write_new overwrites the whole slot, whatever was in it.
 *   - ext4_inode_set_dtime changes that one field of any inode: it is also the link of the orphan list, so it is not a member of
 *     struct ext4_inode and ext4_inode_write leaves it alone.
 *
 * Invariants
 *  1. Fields that this program does not know, and those behind extra_isize, keep their bytes.
 *  2. The bytes of a slot change under the lock of their buffer, checksum included, and ext4_raw_inode_get compares under the same
 *     lock: who reads an inode's attributes while its times change sees no wrong sum. Slots of a block are independent.
 *  3. What a field cannot hold is clamped (times) or refused (-EFBIG: blocks), never cut.
 */
#include "ext4.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>

#define LINKS_MAX         65000u
#define EXTRA_ISIZE_KNOWN ((u32)sizeof(struct ext4_disk_inode) - EXT4_INODE_BYTES_OLD)
#define TIME_MIN          ((s64)INT32_MIN)
#define TIME_MAX          ((s64)INT32_MAX)
#define TIME_MAX_EXTRA    (TIME_MIN + (1ll << 34) - 1)
#define SIZE_SMALL_MAX    0x7fffffffull
#define BLOCKS_512_MAX    0xffffffffffffull

/* ---- one field ---- */

static bool fits(const struct ext4_inode *ei, size_t end)
{
	return end <= EXT4_INODE_BYTES_OLD + ei->extra_isize;
}
#define FITS(ei, field) \
	fits(ei, offsetof(struct ext4_disk_inode, field) + sizeof(((struct ext4_disk_inode *)0)->field))

void ext4_time_put(struct timespec64 t, le32 *sec, le32 *extra)
{
	s64 s = MIN(MAX(t.sec, TIME_MIN), extra ? TIME_MAX_EXTRA : TIME_MAX);

	*sec = le32_put((u32)s);
	if (extra)
		*extra = le32_put(t.nsec << 2 | (u32)((s - (s32)s) >> 32 & 3));
}

void ext4_time_clamp(const struct ext4_inode *ei, struct timespec64 *t)
{
	t->sec = MIN(MAX(t->sec, TIME_MIN), FITS(ei, ctime_extra) ? TIME_MAX_EXTRA : TIME_MAX);
}

/* Locks: attr. */
static void put_times(const struct ext4_inode *ei, struct ext4_disk_inode *raw)
{
	const struct inode *inode = &ei->vfs;

	ext4_time_put(inode->atime, &raw->atime, FITS(ei, atime_extra) ? &raw->atime_extra : NULL);
	ext4_time_put(inode->mtime, &raw->mtime, FITS(ei, mtime_extra) ? &raw->mtime_extra : NULL);
	ext4_time_put(inode->ctime, &raw->ctime, FITS(ei, ctime_extra) ? &raw->ctime_extra : NULL);
	if (FITS(ei, crtime))
		ext4_time_put(inode->btime, &raw->crtime, FITS(ei, crtime_extra) ? &raw->crtime_extra : NULL);
}

u16 ext4_extra_isize_new(const struct ext4_super *es)
{
	u32 room = es->inode_bytes - EXT4_INODE_BYTES_OLD, n = EXTRA_ISIZE_KNOWN;

	if (!room)
		return 0;
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_EXTRA_ISIZE)) {
		n = MAX(n, (u32)le16_get(es->disk.want_extra_isize));
		n = MAX(n, (u32)le16_get(es->disk.min_extra_isize));
	}
	return (u16)(n > room || n % 4 ? EXTRA_ISIZE_KNOWN : n);
}

u32 ext4_generation_new(struct ext4_super *es)
{
	return (u32)hash_u64(atomic_fetch_add(&es->next_generation, 1));
}

void ext4_extent_root_init(u8 *block)
{
	const struct ext4_disk_extent_header head = {
		.magic = le16_put(EXT4_EXTENT_MAGIC),
		.max = le16_put((EXT4_IBLOCK_BYTES - sizeof(head)) / sizeof(struct ext4_disk_extent)),
	};

	memset(block, 0, EXT4_IBLOCK_BYTES);
	memcpy(block, &head, sizeof(head));
}

void ext4_rdev_put(u32 major, u32 minor, u8 *block)
{
	le32 *w = (void *)block;

	memset(block, 0, EXT4_IBLOCK_BYTES);
	if (major < 256 && minor < 256)
		w[0] = le32_put(major << 8 | minor);
	else
		w[1] = le32_put((minor & 0xff) | major << 8 | (minor & 0xfff00) << 12);
}

u32 ext4_flags_of_type(u32 mode, u32 flags)
{
	if (S_ISDIR(mode))
		return flags;
	if (S_ISREG(mode))
		return flags & ~(EXT4_FL_DIRSYNC | EXT4_FL_TOPDIR | EXT4_FL_CASEFOLD | EXT4_FL_PROJINHERIT);
	return flags & (EXT4_FL_NODUMP | EXT4_FL_NOATIME);
}

/* Locks: attr. */
static void put_blocks(const struct ext4_super *es, struct ext4_inode *ei, struct ext4_disk_inode *raw)
{
	u64 n = ext4_inode_disk_512(ei);
	u32 flags = ei->flags & ~EXT4_FL_HUGE_FILE;

	if (n > BLOCKS_512_MAX) {
		flags |= EXT4_FL_HUGE_FILE;
		n >>= es->block_bits - 9;
	}
	/* Readers look at other bits without a lock. */
	if (flags != ei->flags)
		ei->flags = flags;
	raw->blocks_lo = le32_put((u32)n);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE))
		raw->blocks_hi = le16_put((u16)(n >> 32));
}

static void put_version(const struct ext4_inode *ei, struct ext4_disk_inode *raw)
{
	u64 v = le32_get(raw->version);

	/* Where an attribute's value is, it is part of the number of references. */
	if (ei->flags & EXT4_FL_EA_INODE)
		return;
	if (FITS(ei, version_hi))
		v |= (u64)le32_get(raw->version_hi) << 32;
	v++;
	raw->version = le32_put((u32)v);
	if (FITS(ei, version_hi))
		raw->version_hi = le32_put((u32)(v >> 32));
}

static void put_size(const struct ext4_super *es, const struct ext4_inode *ei, struct ext4_disk_inode *raw)
{
	u64 size = inode_disk_size(&ei->vfs);

	raw->size_lo = le32_put((u32)size);
	if (is_reg(&ei->vfs) || ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR))
		raw->size_hi = le32_put((u32)(size >> 32));
}

/* A directory with more subdirectories than can be counted says 1. */
static u16 disk_links(const struct ext4_inode *ei)
{
	u32 n = ei->vfs.nlink;

	return (u16)(is_dir(&ei->vfs) && n > LINKS_MAX ? 1 : n);
}

/* Locks: attr. */
static void encode(const struct ext4_super *es, struct ext4_inode *ei, struct ext4_disk_inode *raw)
{
	const struct inode *inode = &ei->vfs;

	raw->mode = le16_put((u16)inode->mode);
	raw->uid_lo = le16_put((u16)inode->uid);
	raw->uid_hi = le16_put((u16)(inode->uid >> 16));
	raw->gid_lo = le16_put((u16)inode->gid);
	raw->gid_hi = le16_put((u16)(inode->gid >> 16));
	raw->links_count = le16_put(disk_links(ei));
	put_size(es, ei, raw);
	put_times(ei, raw);
	put_blocks(es, ei, raw);
	put_version(ei, raw);
	raw->flags = le32_put(ei->flags);
	raw->generation = le32_put(inode->generation);
	raw->file_acl_lo = le32_put((u32)ei->xattr_blk);
	raw->file_acl_hi = le16_put((u16)(ei->xattr_blk >> 32));
	memcpy(raw->block, ei->block, sizeof(raw->block));
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		raw->extra_isize = le16_put(ei->extra_isize);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_PROJECT) && FITS(ei, projid))
		raw->projid = le32_put(inode->project);
}

/* ---- the slot ---- */

int ext4_inode_slot(struct ext4_handle *h, u64 ino, struct buffer_head **bh, struct ext4_disk_inode **raw)
{
	const struct bh_ctx ctx = { { 0 } };
	u32 off;
	u64 blk;
	int err = ext4_inode_where(h->es, ino, &blk, &off);

	if (err)
		return err;
	err = bh_read(h->es->vfs.dev, blk, &ext4_itable_ops, &ctx, bh);
	if (err)
		return err;
	err = ext4_access(h, *bh);
	if (err)
		bh_put(take(*bh));
	else
		*raw = (void *)((u8 *)(*bh)->data + off);
	return err;
}

static void seal(const struct ext4_super *es, u64 ino, struct ext4_disk_inode *raw)
{
	if (es->metadata_csum)
		ext4_csum_inode_put(es, ext4_csum_inode_seed(es, (u32)ino, le32_get(raw->generation)), raw);
}

/* A file this long needs the feature: it is set with the first one. */
static int large_file(struct ext4_handle *h, const struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	int err;

	if (!is_reg(&ei->vfs) || inode_disk_size(&ei->vfs) <= SIZE_SMALL_MAX ||
	    ext4_has_ro_compat(es, EXT4_RO_COMPAT_LARGE_FILE) ||
	    ext4_super_has(es, 0, EXT4_RO_COMPAT_LARGE_FILE))
		return 0;
	err = ext4_extend(h, 1, 0);
	return err ? err : ext4_super_set(h, 0, EXT4_RO_COMPAT_LARGE_FILE);
}

/* The slot's buffer and ei's members are locked, and what is to be counted for them is joined. On error neither is locked. */
static int lock_slot(struct ext4_handle *h, struct ext4_inode *ei, struct buffer_head *bh,
		     const struct ext4_disk_inode *raw, bool fresh, struct ext4_quota_change *quota)
{
	bool settled = !h->es->quotas;
	int err;

	for (;;) {
		bh_lock(bh);
		mutex_lock(&ei->vfs.attr);
		if (settled || ext4_quota_settle(ei, raw, fresh, quota))
			return 0;
		mutex_unlock(&ei->vfs.attr);
		bh_unlock(bh);
		err = ext4_quota_join(h, quota);
		if (err)
			return err;
	}
}

static int write_slot(struct ext4_handle *h, struct ext4_inode *ei, bool fresh)
{
	scoped(ext4_quota_change_end) struct ext4_quota_change quota = { 0 };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_super *es = h->es;
	struct ext4_disk_inode *raw;
	int err;

	if (ext4_inode_disk_512(ei) > UINT32_MAX && !ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE))
		return fail(-EFBIG, "inode %llu has more blocks than this volume can count",
			    (unsigned long long)ei->vfs.ino);
	err = large_file(h, ei);
	if (!err)
		err = ext4_inode_slot(h, ei->vfs.ino, &bh, &raw);
	if (!err)
		err = lock_slot(h, ei, bh, raw, fresh, &quota);
	if (err)
		return err;
	if (fresh)
		memset(raw, 0, es->inode_bytes);
	encode(es, ei, raw);
	mutex_unlock(&ei->vfs.attr);
	seal(es, ei->vfs.ino, raw);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	ext4_quota_apply(h, &quota);
	atomic_store(&ei->tid, h->jh.tid);
	if (fresh)
		atomic_store(&ei->data_tid, h->jh.tid);
	return 0;
}

int ext4_inode_write(struct ext4_handle *h, struct ext4_inode *ei)
{
	return write_slot(h, ei, false);
}

int ext4_inode_write_new(struct ext4_handle *h, struct ext4_inode *ei)
{
	return write_slot(h, ei, true);
}

void ext4_inode_slot_done(struct ext4_handle *h, u64 ino, struct buffer_head *bh, struct ext4_disk_inode *raw)
{
	seal(h->es, ino, raw);
	bh_unlock(bh);
	ext4_dirty(h, bh);
}

int ext4_inode_set_dtime(struct ext4_handle *h, u64 ino, u32 dtime)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = ext4_inode_slot(h, ino, &bh, &raw);

	if (err)
		return err;
	bh_lock(bh);
	raw->dtime = le32_put(dtime);
	ext4_inode_slot_done(h, ino, bh, raw);
	return 0;
}

void ext4_inode_add_clusters(struct ext4_inode *ei, s64 clusters)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	s64 sectors = clusters * (s64)(1ull << (es->cluster_bits + es->block_bits - 9));
	struct inode *inode = &ei->vfs;

	mutex_lock(&inode->attr);
	/* A damaged volume may have counted too few. */
	if (sectors < 0 && inode->blocks_512 < (u64)-sectors)
		inode->blocks_512 = 0;
	else
		inode->blocks_512 += (u64)sectors;
	mutex_unlock(&inode->attr);
}
