/*
 * Inodes, disk to memory: finding the bytes, checking them, and giving each member its meaning.
 *
 *   - ext4_raw_inode_get gives the bytes inside their table block, checksum checked. A table block has no
 *     check of its own, so one bad inode does not hide its neighbours.
 *   - ext4_inode_load fills an inode of any number. What it lets pass can be followed without further checks:
 *     type, size, the root of the map, the xattr block's number, where the inode's own attributes begin.
 *   - A field behind the first 128 bytes exists when extra_isize reaches its end.
 *   - Table blocks are read in aligned windows: who asks for one inode will ask for its neighbours.
 */
#include "ext4.h"

#include "lib/scope.h"
#include "lib/slab.h"
#include <errno.h>
#include <stdlib.h>

#define WINDOW_MIN   16ull /* blocks */
#define WINDOW_STEPS 5u    /* doublings */
#define NSEC_PER_SEC 1000000000u

/* ---- memory ---- */

static struct slab inodes = SLAB_OF(struct ext4_inode);

struct ext4_inode *ext4_inode_alloc(void)
{
	struct ext4_inode *ei = slab_get_zeroed(&inodes);

	if (!ei)
		return NULL;
	rw_init(&ei->tree, RANK_EXTENT);
	list_init(&ei->orphan);
	return ei;
}

void ext4_inode_free(struct ext4_inode *ei)
{
	if (!ei)
		return;
	rw_fini(&ei->tree);
	slab_put(&inodes, ei);
}

void ext4_inode_freep(struct ext4_inode **ei)
{
	ext4_inode_free(*ei);
}

struct ext4_inode *ext4_inode_private(struct ext4_super *es, u64 ino)
{
	struct ext4_inode *ei = ext4_inode_alloc();
	struct inode *inode = &ei->vfs;

	if (!ei)
		return NULL;
	inode->sb = &es->vfs;
	inode->ino = ino;
	atomic_store(&inode->tail_from, ~0ull);
	rw_init(&inode->lock, RANK_INODE);
	rw_init(&inode->map_lock, RANK_MAP);
	mutex_init(&inode->attr, RANK_LEAF);
	mutex_init(&inode->stage_lock, RANK_STAGE);
	return ei;
}

void ext4_inode_privatep(struct ext4_inode **ei)
{
	if (!*ei)
		return;
	rw_fini(&(*ei)->vfs.lock);
	rw_fini(&(*ei)->vfs.map_lock);
	mutex_fini(&(*ei)->vfs.attr);
	mutex_fini(&(*ei)->vfs.stage_lock);
	ext4_inode_free(*ei);
}

/* ---- where ---- */

int ext4_inode_where(const struct ext4_super *es, u64 ino, u64 *blk, u32 *off)
{
	u32 index;

	if (!ino || ino > es->inodes)
		return fail(-ESTALE, "there is no inode %llu", (unsigned long long)ino);
	*blk = es->group[ext4_ino_group(es, ino)].inode_table;
	if (!*blk)
		return fail(-EUCLEAN, "inode %llu lies in group %u, whose descriptor is damaged",
			    (unsigned long long)ino, ext4_ino_group(es, ino));
	index = (u32)((ino - 1) % es->inodes_per_group);
	*blk += index / es->inodes_per_block;
	*off = index % es->inodes_per_block * es->inode_bytes;
	return 0;
}

/*
 * Starts reading the part in use of the table around blk. The window doubles with each miss in the same group: one
 * file costs little, a whole tree few requests. Returns the window's end.
 */
static u64 read_window(struct ext4_super *es, u64 ino, u64 blk)
{
	struct ext4_group *g = &es->group[ext4_ino_group(es, ino)];
	u32 used = es->inodes_per_group - MIN(g->itable_unused, es->inodes_per_group);
	u64 table_end = g->inode_table + DIV_ROUND_UP(used, es->inodes_per_block), start, end;
	u32 step = atomic_load_explicit(&g->ahead, memory_order_relaxed);
	u64 blocks = WINDOW_MIN << step;

	if (step < WINDOW_STEPS)
		atomic_store_explicit(&g->ahead, (u8)(step + 1), memory_order_relaxed);
	start = MAX(g->inode_table, ALIGN_DOWN(blk, blocks));
	end = MIN(table_end, ALIGN_DOWN(blk, blocks) + blocks);
	if (blk < end)
		bh_readahead(es->vfs.dev, start, (u32)(end - start));
	return end;
}

static bool is_cached(struct ext4_super *es, u64 blk)
{
	struct buffer_head *bh = bh_find(es->vfs.dev, blk);

	bh_put(bh);
	return bh;
}

static int ino_compare(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

void ext4_inode_readahead(struct ext4_super *es, const u64 *inos, u32 n)
{
	u64 sorted[256], blk, end = 0;
	u32 off;

	if (es->vfs.readahead_off)
		return;
	for (u32 done = 0, m; done < n; done += m) {
		m = MIN((u32)ARRAY_SIZE(sorted), n - done);
		memcpy(sorted, inos + done, m * sizeof(*sorted));
		qsort(sorted, m, sizeof(*sorted), ino_compare);
		for (u32 i = 0; i < m; i++) {
			if (sorted[i] - 1 >= es->inodes || ext4_inode_where(es, sorted[i], &blk, &off))
				continue;
			if (blk >= end && !is_cached(es, blk))
				end = read_window(es, sorted[i], blk);
		}
	}
}

/* ---- the bytes ---- */

static bool is_zero(const void *p, u32 len)
{
	const u8 *b = p;

	return !b[0] && !memcmp(b, b + 1, len - 1);
}

bool ext4_inode_sum_ok(const struct ext4_super *es, u64 ino, const struct ext4_disk_inode *raw)
{
	u32 seed = ext4_csum_inode_seed(es, (u32)ino, le32_get(raw->generation)), mask;
	u32 sum = ext4_csum_inode_stored(es, raw, &mask);

	/* An inode that was never used may be zeros, its sum included. */
	return (ext4_csum_inode(es, seed, raw) & mask) == sum || is_zero(raw, es->inode_bytes);
}

int ext4_raw_inode_get(struct ext4_super *es, u64 ino, struct buffer_head **bh,
		       const struct ext4_disk_inode **raw)
{
	const struct bh_ctx ctx = { { 0 } };
	bool ok;
	u32 off;
	u64 blk;
	int err = ext4_inode_where(es, ino, &blk, &off);

	if (err)
		return err;
	if (!es->vfs.readahead_off && !is_cached(es, blk))
		read_window(es, ino, blk);
	err = bh_read(es->vfs.dev, blk, &ext4_itable_ops, &ctx, bh);
	if (err)
		return err;
	*raw = (const void *)((const u8 *)(*bh)->data + off);
	if (!es->metadata_csum)
		return 0;
	/* The bytes and their sum change under this lock. */
	bh_lock(*bh);
	ok = ext4_inode_sum_ok(es, ino, *raw);
	bh_unlock(*bh);
	if (!ok) {
		err = corrupt(&es->vfs.health, "inode", ino, "wrong checksum");
		bh_put(take(*bh));
	}
	return err;
}

/* ---- members ---- */

static u32 extra_isize(const struct ext4_super *es, const struct ext4_disk_inode *raw)
{
	return es->inode_bytes > EXT4_INODE_BYTES_OLD ? le16_get(raw->extra_isize) : 0;
}

/* The 4-byte field lies within what extra_isize declares. */
static bool has_field(const struct ext4_super *es, const struct ext4_disk_inode *raw, const le32 *field)
{
	size_t end = (size_t)((const u8 *)field - (const u8 *)raw) + sizeof(*field);

	return end <= EXT4_INODE_BYTES_OLD + extra_isize(es, raw);
}

/* Seconds are signed; two bits of the extension move them on by 2^32 each. */
struct timespec64 ext4_inode_time(const struct ext4_super *es, const struct ext4_disk_inode *raw,
				  const le32 *sec, const le32 *extra)
{
	struct timespec64 t = { 0 };
	u32 x;

	if (!has_field(es, raw, sec))
		return t;
	t.sec = (s32)le32_get(*sec);
	if (!has_field(es, raw, extra))
		return t;
	x = le32_get(*extra);
	t.sec += (s64)(x & 3) << 32;
	t.nsec = x >> 2 < NSEC_PER_SEC ? x >> 2 : 0;
	return t;
}

static void load_times(struct ext4_super *es, struct inode *inode, const struct ext4_disk_inode *raw)
{
	inode->atime = ext4_inode_time(es, raw, &raw->atime, &raw->atime_extra);
	inode->mtime = ext4_inode_time(es, raw, &raw->mtime, &raw->mtime_extra);
	inode->ctime = ext4_inode_time(es, raw, &raw->ctime, &raw->ctime_extra);
	inode->btime = ext4_inode_time(es, raw, &raw->crtime, &raw->crtime_extra);
}

/* The old encoding has 8 + 8 bits in the first word, the new one 12 + 20 bits in the second. */
void ext4_inode_rdev(const u8 *block, u32 *major, u32 *minor)
{
	const le32 *w = (const void *)block;
	u32 dev = le32_get(w[0]);

	if (dev) {
		*major = dev >> 8 & 0xff;
		*minor = dev & 0xff;
		return;
	}
	dev = le32_get(w[1]);
	*major = dev >> 8 & 0xfff;
	*minor = (dev & 0xff) | (dev >> 12 & 0xfff00);
}

u64 ext4_inode_blocks_512(const struct ext4_super *es, const struct ext4_disk_inode *raw)
{
	u64 n = le32_get(raw->blocks_lo);

	if (!ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE))
		return n;
	n |= (u64)le16_get(raw->blocks_hi) << 32;
	return le32_get(raw->flags) & EXT4_FL_HUGE_FILE ? n << (es->block_bits - 9) : n;
}

u64 ext4_inode_disk_512(const struct ext4_inode *ei)
{
	u64 n = ei->vfs.blocks_512, shown = DIV_ROUND_UP(ext4_size(ei), 512);

	if (ei->flags & EXT4_FL_INLINE_DATA && atomic_load(&ei->vfs.is_packed))
		return n > shown ? n - shown : 0;
	return n;
}

static void load_plain(struct ext4_super *es, struct ext4_inode *ei, const struct ext4_disk_inode *raw)
{
	struct inode *inode = &ei->vfs;
	u64 size = le32_get(raw->size_lo);

	inode->generation = le32_get(raw->generation);
	inode->mode = le16_get(raw->mode);
	inode->nlink = le16_get(raw->links_count);
	inode->uid = le16_get(raw->uid_lo) | (u32)le16_get(raw->uid_hi) << 16;
	inode->gid = le16_get(raw->gid_lo) | (u32)le16_get(raw->gid_hi) << 16;
	if (is_reg(inode) || ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR))
		size |= (u64)le32_get(raw->size_hi) << 32;
	atomic_store_explicit(&inode->size_bytes, size, memory_order_relaxed);
	inode->blocks_512 = ei->counted_512 = ext4_inode_blocks_512(es, raw);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_PROJECT) && has_field(es, raw, &raw->projid))
		inode->project = le32_get(raw->projid);
	load_times(es, inode, raw);
	ei->flags = le32_get(raw->flags);
	inode->flags = ei->flags & EXT4_FL_USER_VISIBLE;
	if (is_reg(inode))
		inode->flags &= ~EXT4_FL_PROJINHERIT;
	ei->csum_seed = ext4_csum_inode_seed(es, (u32)inode->ino, inode->generation);
	ei->xattr_blk = le32_get(raw->file_acl_lo);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		ei->xattr_blk |= (u64)le16_get(raw->file_acl_hi) << 32;
	memcpy(ei->block, raw->block, sizeof(ei->block));
}

/* ---- what an inode must be ---- */

u64 ext4_file_blocks_max(const struct ext4_super *es, bool extents)
{
	u64 p = ext4_pointers_per_block(es), n = EXT4_NDIR + p + p * p + p * p * p;

	return extents ? UINT32_MAX : MIN(n, (u64)UINT32_MAX);
}

bool ext4_inode_is_fast_symlink(const struct ext4_inode *ei)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	u64 xattr_512 = ei->xattr_blk ? 1ull << (es->cluster_bits + es->block_bits - 9) : 0;

	/* One without length is about to be freed: what it has are blocks. */
	if (!is_symlink(&ei->vfs) || ei->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_EXTENTS) || !ext4_size(ei) ||
	    ext4_size(ei) >= EXT4_IBLOCK_BYTES)
		return false;
	/* Where values are counted among the blocks the size alone tells. */
	return ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE) || ei->vfs.blocks_512 <= xattr_512;
}

static const char *type_wrong(const struct ext4_super *es, const struct ext4_inode *ei)
{
	u64 size = ext4_size(ei);

	switch (ei->vfs.mode & S_IFMT) {
	case S_IFREG:
		return size > ext4_file_blocks_max(es, ext4_has_extents(ei)) << es->block_bits
			       ? "it is longer than a file can be"
			       : NULL;
	case S_IFDIR:
		/* Directories have no holes: who trusts a longer one walks for hours. */
		return size > es->blocks << es->block_bits ? "a directory longer than the volume" : NULL;
	case S_IFLNK:
		if ((!size && ei->vfs.nlink) || size > VFS_PATH_MAX)
			return "impossible length of a symbolic link";
		return NULL;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return NULL;
	default:
		return "unknown type";
	}
}

static const char *pointers_wrong(const struct ext4_super *es, const struct ext4_inode *ei)
{
	const le32 *ptr = (const void *)ei->block;

	for (u32 i = 0; i < EXT4_IBLOCK_BYTES / sizeof(*ptr); i++)
		if (le32_get(ptr[i]) && !ext4_blocks_ok_for(es, ei->vfs.ino, le32_get(ptr[i]), 1))
			return "a block pointer is not one for files";
	return NULL;
}

static const char *map_wrong(const struct ext4_super *es, const struct ext4_inode *ei)
{
	const struct ext4_disk_extent_header *h = (const void *)ei->block;
	u32 depth = le16_get(h->depth);

	if (ei->flags & EXT4_FL_INLINE_DATA) {
		if (!ext4_has_incompat(es, EXT4_INCOMPAT_INLINE_DATA))
			return "inline data, which the volume does not allow";
		return ext4_has_extents(ei) ? "both inline data and extents" : NULL;
	}
	if (!is_reg(&ei->vfs) && !is_dir(&ei->vfs) && !is_symlink(&ei->vfs))
		return NULL;
	if (ext4_inode_is_fast_symlink(ei))
		return NULL;
	if (!ext4_has_extents(ei))
		return pointers_wrong(es, ei);
	if (depth > EXT4_EXTENT_DEPTH_MAX)
		return "its extent tree is too deep";
	return ext4_extent_node_wrong(es, ei->vfs.ino, ei->block, EXT4_IBLOCK_BYTES, depth);
}

static const char *inode_wrong(struct ext4_super *es, struct ext4_inode *ei,
			       const struct ext4_disk_inode *raw)
{
	u32 extra = extra_isize(es, raw), end = EXT4_INODE_BYTES_OLD + extra;
	const char *bad;

	if (end > es->inode_bytes || extra % 4)
		return "impossible size of the extra fields";
	load_plain(es, ei, raw);
	bad = type_wrong(es, ei);
	if (bad)
		return bad;
	if (ei->xattr_blk && !ext4_blocks_ok_for(es, ei->vfs.ino, ei->xattr_blk, 1))
		return "its attribute block is not one for files";
	ei->extra_isize = (u16)extra;
	ei->xattr_off = 0;
	if (extra && end + sizeof(struct ext4_disk_xattr_ibody) <= es->inode_bytes) {
		const struct ext4_disk_xattr_ibody *x = (const void *)((const u8 *)raw + end);

		if (le32_get(x->magic) == EXT4_XATTR_MAGIC)
			ei->xattr_off = (u16)end;
	}
	if (S_ISCHR(ei->vfs.mode) || S_ISBLK(ei->vfs.mode))
		ext4_inode_rdev(ei->block, &ei->vfs.rdev_major, &ei->vfs.rdev_minor);
	return map_wrong(es, ei);
}

static int load(struct ext4_inode *ei, bool orphan)
{
	struct ext4_super *es = ext4_inode_super(ei);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	const char *bad;
	int err = ext4_raw_inode_get(es, ei->vfs.ino, &bh, &raw);

	if (err)
		return err;
	if ((!orphan && !le16_get(raw->links_count)) || !le16_get(raw->mode))
		return fail(-ESTALE, "inode %llu is not in use", (unsigned long long)ei->vfs.ino);
	bad = inode_wrong(es, ei, raw);
	return bad ? corrupt(&es->vfs.health, "inode", ei->vfs.ino, "%s", bad) : 0;
}

int ext4_inode_load(struct ext4_inode *ei)
{
	return load(ei, false);
}

int ext4_inode_load_orphan(struct ext4_inode *ei)
{
	return load(ei, true);
}

static int open_private(struct ext4_super *es, u64 ino, bool orphan, struct ext4_inode **out)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = ext4_inode_private(es, ino);
	int err = ei ? load(ei, orphan) : fail(-ENOMEM, "no memory for an inode");

	*out = err ? NULL : take(ei);
	return err;
}

int ext4_inode_open(struct ext4_super *es, u64 ino, struct ext4_inode **out)
{
	return open_private(es, ino, false, out);
}

int ext4_inode_open_orphan(struct ext4_super *es, u64 ino, struct ext4_inode **out)
{
	return open_private(es, ino, true, out);
}

bool ext4_ino_public(const struct ext4_super *es, u64 ino)
{
	const struct ext4_disk_super *d = &es->disk;

	if (ino == EXT4_INO_ROOT)
		return true;
	if (ino < es->first_ino || ino > es->inodes)
		return false;
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_QUOTA) &&
	    (ino == le32_get(d->usr_quota_inum) || ino == le32_get(d->grp_quota_inum) ||
	     ino == le32_get(d->prj_quota_inum)))
		return false;
	return !ext4_has_compat(es, EXT4_COMPAT_ORPHAN_FILE) || ino != le32_get(d->orphan_file_inum);
}
