/*
 * What an item must look like: every member that a reader follows, of every type that is known. A pure function of leaf and slot, so
 * that the verdict at use (btree.c) and in print (dump.c) is the one that was given when the leaf was read (verify.c).
 *
 * Of types that are not known nothing is asked: their bounds were checked with the node. Facts: "On-disk format" of btrfs-progs'
 * documentation, and what the kernel refuses (fs/btrfs/tree-checker.c).
 *
 * Not here: the items of the extent tree and of its relatives (verify_extent.c).
 */
#include "btrfs.h"

#include <sys/stat.h>

struct item {
	const struct btrfs_super *bs;
	const void *leaf;
	u32 slot;
	struct btrfs_key key;
	const void *data;
	u32 len;
};

/* What was written by a transaction that was not committed says one more than the superblock. */
static bool generation_ok(const struct item *it, le64 generation)
{
	return le64_get(generation) <= le64_get(it->bs->disk.generation) + 1;
}

static bool aligned(const struct item *it, u64 v)
{
	return IS_ALIGNED(v, (u64)it->bs->sector_bytes);
}

/* The item before is one of the same object: its inode, or what follows the inode. Only subvolumes are so, not their logs. */
static bool has_inode(const struct item *it)
{
	return !it->slot || !btrfs_is_subvol(le64_get(btrfs_header(it->leaf)->owner)) ||
	       le64_get(btrfs_item(it->leaf, it->slot - 1)->key.objectid) == it->key.objectid;
}

/* The item before, when it is of this type and object. */
static const void *previous(const struct item *it, u32 *len)
{
	const struct btrfs_disk_item *prev = it->slot ? btrfs_item(it->leaf, it->slot - 1) : NULL;

	if (!prev || prev->key.type != it->key.type || le64_get(prev->key.objectid) != it->key.objectid)
		return NULL;
	*len = btrfs_item_len(it->leaf, it->slot - 1);
	return btrfs_item_data(it->leaf, it->slot - 1);
}

static u64 previous_offset(const struct item *it)
{
	return le64_get(btrfs_item(it->leaf, it->slot - 1)->key.offset);
}

/* ---- inodes ---- */

#define INODE_FLAGS                                                                                      \
	(BTRFS_INODE_NODATASUM | BTRFS_INODE_NODATACOW | BTRFS_INODE_READONLY | BTRFS_INODE_NOCOMPRESS | \
	 BTRFS_INODE_PREALLOC | BTRFS_INODE_SYNC | BTRFS_INODE_IMMUTABLE | BTRFS_INODE_APPEND |          \
	 BTRFS_INODE_NODUMP | BTRFS_INODE_NOATIME | BTRFS_INODE_DIRSYNC | BTRFS_INODE_COMPRESS |         \
	 BTRFS_INODE_ROOT_ITEM_INIT | BTRFS_INODE_RO_VERITY)

static bool ino_ok(u64 objectid)
{
	return (objectid >= BTRFS_OBJ_FIRST_FREE && objectid <= BTRFS_OBJ_LAST_FREE) ||
	       objectid == BTRFS_TREE_ROOT_DIR || objectid == BTRFS_OBJ_FREE_INO;
}

static const char *inode_wrong(const struct item *it)
{
	const struct btrfs_disk_inode *d = it->data;
	u32 mode;

	if (!ino_ok(it->key.objectid))
		return "an inode of an impossible number";
	if (it->key.offset)
		return "an inode with an offset";
	if (it->len != sizeof(*d))
		return "an inode of a wrong size";
	if (!generation_ok(it, d->generation) || !generation_ok(it, d->transid))
		return "an inode from the future";
	mode = le32_get(d->mode);
	if (mode & ~(u32)(S_IFMT | 07777))
		return "an inode with unknown bits of mode";
	switch (mode & S_IFMT) {
	case S_IFDIR:
		if (le32_get(d->nlink) > 1)
			return "a directory with several links";
		break;
	case S_IFREG:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	default:
		return "an inode of no known type";
	}
	if (le64_get(d->flags) & ~INODE_FLAGS)
		return "an inode with unknown flags";
	if (le64_get(d->size_bytes) > INT64_MAX)
		return "an inode of an impossible size";
	return NULL;
}

/* ---- names ---- */

bool btrfs_name_ok(const void *name, u32 len)
{
	const char *s = name;

	if (!len || len > BTRFS_NAME_MAX || memchr(s, '/', len) || memchr(s, 0, len))
		return false;
	return s[0] != '.' || (len > 1 && (s[1] != '.' || len > 2));
}

/* A subvolume's root directory calls itself "..". */
static bool is_top_name(const struct item *it, const void *name, u32 len)
{
	return it->key.objectid == it->key.offset && len == 2 && !memcmp(name, "..", 2);
}

/* The names of an inode in one directory. */
static const char *inode_ref_wrong(const struct item *it)
{
	u32 at = 0;

	if (!has_inode(it))
		return "a name of an inode that is not there";
	if (!it->len)
		return "a list of names without a name";
	while (at < it->len) {
		const struct btrfs_disk_inode_ref *r = (const void *)((const u8 *)it->data + at);
		u32 len;

		if (it->len - at < sizeof(*r))
			return "a name that is cut off";
		len = le16_get(r->name_len);
		at += (u32)sizeof(*r);
		if (len > it->len - at)
			return "a name that is cut off";
		if (!btrfs_name_ok(r->name, len) && !is_top_name(it, r->name, len))
			return "a name that cannot be";
		at += len;
	}
	return NULL;
}

static const char *inode_extref_wrong(const struct item *it)
{
	u32 at = 0;

	if (!has_inode(it))
		return "a name of an inode that is not there";
	if (!it->len)
		return "a list of names without a name";
	while (at < it->len) {
		const struct btrfs_disk_inode_extref *r = (const void *)((const u8 *)it->data + at);
		u32 len;

		if (it->len - at < sizeof(*r))
			return "a name that is cut off";
		len = le16_get(r->name_len);
		at += (u32)sizeof(*r);
		if (len > it->len - at)
			return "a name that is cut off";
		if (!btrfs_name_ok(r->name, len))
			return "a name that cannot be";
		if (!ino_ok(le64_get(r->parent)))
			return "a name in a directory of an impossible number";
		if (btrfs_extref_hash(le64_get(r->parent), r->name, len) != it->key.offset)
			return "a name whose hash is another";
		at += len;
	}
	return NULL;
}

/* Where a directory entry leads. */
static bool location_ok(const struct btrfs_disk_key *d)
{
	struct btrfs_key k = btrfs_key_get(d);

	if (k.type == BTRFS_KEY_ROOT_ITEM)
		return btrfs_is_subvol(k.objectid);
	return k.type == BTRFS_KEY_INODE_ITEM && !k.offset &&
	       (ino_ok(k.objectid) || k.objectid == BTRFS_OBJ_EMPTY_SUBVOL);
}

/* One entry, with `room` bytes from it to the item's end. */
static const char *dir_entry_wrong(const struct item *it, const struct btrfs_disk_dir_item *d, u32 room)
{
	bool xattr = it->key.type == BTRFS_KEY_XATTR_ITEM;
	u32 name_len, data_len, type;

	if (room < sizeof(*d))
		return "an entry that is cut off";
	name_len = le16_get(d->name_len);
	data_len = le16_get(d->data_len);
	type = d->type & ~BTRFS_FT_ENCRYPTED;
	if (name_len + data_len > room - sizeof(*d))
		return "an entry that is cut off";
	if (type > BTRFS_FT_XATTR || xattr != (type == BTRFS_FT_XATTR))
		return "an entry of a type that cannot be here";
	if (xattr) {
		if (!name_len || name_len > BTRFS_NAME_MAX || memchr(d->name, 0, name_len))
			return "an attribute whose name cannot be";
	} else {
		if (!btrfs_name_ok(d->name, name_len))
			return "an entry whose name cannot be";
		if (data_len)
			return "an entry with data";
		if (!location_ok(&d->location))
			return "an entry that leads nowhere";
	}
	if (it->key.type != BTRFS_KEY_DIR_INDEX && btrfs_name_hash(d->name, name_len) != it->key.offset)
		return "an entry whose hash is another";
	return NULL;
}

/* The root tree names the default subvolume "default" in a directory of its own: that is an entry as any other. */
static const char *dir_wrong(const struct item *it)
{
	u32 at = 0, count = 0;

	if (!has_inode(it))
		return "an entry of an inode that is not there";
	if (!it->len)
		return "an item for entries without an entry";
	for (; at < it->len; count++) {
		const struct btrfs_disk_dir_item *d = (const void *)((const u8 *)it->data + at);
		const char *bad = dir_entry_wrong(it, d, it->len - at);

		if (bad)
			return bad;
		at += (u32)sizeof(*d) + le16_get(d->name_len) + le16_get(d->data_len);
	}
	return it->key.type == BTRFS_KEY_DIR_INDEX && count > 1 ? "several entries at one place" : NULL;
}

/* ---- data ---- */

/* Where an extent item ends in its file; it is known to have the length for it. */
static u64 file_extent_end(const struct btrfs_disk_file_extent *d, u32 len, u64 off, u32 sector)
{
	if (d->kind == BTRFS_EXTENT_INLINE)
		return off + ALIGN_UP((u64)len - BTRFS_FILE_EXTENT_HEAD_BYTES, (u64)sector);
	return off + le64_get(d->num_bytes);
}

static const char *inline_wrong(const struct item *it)
{
	const struct btrfs_disk_file_extent *d = it->data;
	u32 len = it->len - BTRFS_FILE_EXTENT_HEAD_BYTES;

	if (it->key.offset)
		return "an inline extent that is not at the file's start";
	if (d->compression == BTRFS_COMPRESS_NONE && le64_get(d->ram_bytes) != len)
		return "an inline extent of a wrong length";
	if (d->compression != BTRFS_COMPRESS_NONE && le64_get(d->ram_bytes) > BTRFS_COMPRESS_MAX)
		return "an inline extent that would unpack to too much";
	return NULL;
}

static const char *extent_wrong(const struct item *it)
{
	const struct btrfs_disk_file_extent *d = it->data;
	u64 ram = le64_get(d->ram_bytes), bytes = le64_get(d->disk_bytes), end, num = le64_get(d->num_bytes),
	    off = le64_get(d->offset_bytes);

	if (it->len != sizeof(*d))
		return "an extent of a wrong size";
	if (!aligned(it, ram) || !aligned(it, le64_get(d->disk_bytenr)) || !aligned(it, bytes) ||
	    !aligned(it, off) || !aligned(it, num))
		return "an extent that is not aligned";
	if (!num || __builtin_add_overflow(it->key.offset, num, &end) || end > INT64_MAX)
		return "an extent of an impossible length";
	if (!le64_get(d->disk_bytenr))
		return NULL;
	if (__builtin_add_overflow(off, num, &end))
		return "an extent that shows more than it has";
	if (d->compression == BTRFS_COMPRESS_NONE)
		return end > bytes ? "an extent that shows more than it has" : NULL;
	if (d->kind == BTRFS_EXTENT_PREALLOC)
		return "a preallocated extent that is compressed";
	if (!bytes || bytes > BTRFS_COMPRESS_MAX || ram > BTRFS_COMPRESS_MAX)
		return "a compressed extent of an impossible length";
	return end > ram ? "an extent that shows more than it has" : NULL;
}

static const char *file_extent_wrong(const struct item *it)
{
	const struct btrfs_disk_file_extent *d = it->data, *prev;
	const char *bad;
	u32 len;

	if (!has_inode(it))
		return "data of an inode that is not there";
	if (!aligned(it, it->key.offset))
		return "an extent that is not aligned";
	if (it->len < BTRFS_FILE_EXTENT_HEAD_BYTES)
		return "an extent of a wrong size";
	if (d->kind > BTRFS_EXTENT_PREALLOC)
		return "an extent of no known kind";
	if (d->compression > BTRFS_COMPRESS_ZSTD)
		return "an extent compressed in no known way";
	if (d->encryption || le16_get(d->other_encoding))
		return "an extent that is encrypted or encoded";
	bad = d->kind == BTRFS_EXTENT_INLINE ? inline_wrong(it) : extent_wrong(it);
	if (bad)
		return bad;
	prev = previous(it, &len);
	if (!prev || len < BTRFS_FILE_EXTENT_HEAD_BYTES ||
	    (prev->kind != BTRFS_EXTENT_INLINE && len != sizeof(*prev)))
		return NULL;
	return file_extent_end(prev, len, previous_offset(it), it->bs->sector_bytes) > it->key.offset
		       ? "an extent that overlaps the one before"
		       : NULL;
}

static const char *csum_wrong(const struct item *it)
{
	u32 per = it->bs->csum_bytes, len;
	u64 end;

	if (it->key.objectid != BTRFS_OBJ_EXTENT_CSUM)
		return "checksums of an impossible object";
	if (!aligned(it, it->key.offset))
		return "checksums of what is not aligned";
	if (!it->len || it->len % per)
		return "checksums that are cut off";
	if (__builtin_add_overflow(it->key.offset, (u64)(it->len / per) * it->bs->sector_bytes, &end))
		return "checksums beyond all addresses";
	if (previous(it, &len) &&
	    previous_offset(it) + (u64)(len / per) * it->bs->sector_bytes > it->key.offset)
		return "checksums that overlap those before";
	return NULL;
}

/* ---- trees ---- */

static const char *root_wrong(const struct item *it)
{
	const struct btrfs_disk_root *d = it->data;

	if (!it->key.objectid || (it->key.objectid == BTRFS_TREE_RELOC && !it->key.offset))
		return "a tree of an impossible number";
	if (it->len != sizeof(*d) && it->len != BTRFS_ROOT_ITEM_V1_BYTES)
		return "a tree's item of a wrong size";
	if (!generation_ok(it, d->generation) || !generation_ok(it, d->last_snapshot))
		return "a tree from the future";
	if (it->len == sizeof(*d) && !generation_ok(it, d->generation_v2))
		return "a tree from the future";
	if (!aligned(it, le64_get(d->bytenr)))
		return "a tree whose root is not aligned";
	if (d->level >= BTRFS_LEVELS || d->drop_level >= BTRFS_LEVELS)
		return "a tree of too many levels";
	if (le64_get(d->drop_progress.objectid) && !d->drop_level)
		return "a tree that is being dropped below its leaves";
	if (le64_get(d->flags) & ~(BTRFS_ROOT_RDONLY | BTRFS_ROOT_DEAD))
		return "a tree with unknown flags";
	return NULL;
}

static const char *root_ref_wrong(const struct item *it)
{
	const struct btrfs_disk_root_ref *d = it->data;

	if (it->len < sizeof(*d) || it->len - sizeof(*d) != le16_get(d->name_len))
		return "a subvolume's name of a wrong size";
	if (!btrfs_name_ok(d->name, le16_get(d->name_len)))
		return "a subvolume's name that cannot be";
	if (!btrfs_is_subvol(it->key.objectid) || !btrfs_is_subvol(it->key.offset))
		return "a name of what is no subvolume";
	return NULL;
}

/* ---- quota and others ---- */

static const char *qgroup_status_wrong(const struct item *it)
{
	const struct btrfs_disk_qgroup_status *d = it->data;

	if (it->len != sizeof(*d) && it->len != offsetof(struct btrfs_disk_qgroup_status, enable_generation))
		return "the state of quotas in a wrong size";
	return !generation_ok(it, d->generation) ? "the state of quotas from the future" : NULL;
}

/* Descriptors: the item at 0 says how long that is whose pieces follow it. */
static const char *verity_wrong(const struct item *it)
{
	const struct btrfs_disk_verity_desc *d = it->data;

	if (it->key.offset)
		return NULL;
	if (it->len != sizeof(*d))
		return "a verity item of a wrong size";
	return d->encryption ? "a verity descriptor that is encrypted" : NULL;
}

/* Types of which only the size is asked. */
static const struct {
	u8 type;
	u32 len;
} sizes[] = {
	{ BTRFS_KEY_ORPHAN_ITEM, 0 },
	{ BTRFS_KEY_DIR_LOG_ITEM, 8 },
	{ BTRFS_KEY_DIR_LOG_INDEX, 8 },
	{ BTRFS_KEY_QGROUP_INFO, sizeof(struct btrfs_disk_qgroup_info) },
	{ BTRFS_KEY_QGROUP_LIMIT, sizeof(struct btrfs_disk_qgroup_limit) },
	{ BTRFS_KEY_QGROUP_RELATION, 0 },
	{ BTRFS_KEY_DEV_REPLACE, sizeof(struct btrfs_disk_dev_replace) },
};

static const char *other_wrong(const struct item *it)
{
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++)
		if (it->key.type == sizes[i].type && it->len != sizes[i].len)
			return "an item of a wrong size";
	if ((it->key.type == BTRFS_KEY_UUID_SUBVOL || it->key.type == BTRFS_KEY_UUID_RECEIVED_SUBVOL) &&
	    (!it->len || it->len % sizeof(le64)))
		return "a list of subvolumes that is cut off";
	return NULL;
}

const char *btrfs_item_wrong(const struct btrfs_super *bs, const void *leaf, u32 slot)
{
	const struct item it = {
		.bs = bs,
		.leaf = leaf,
		.slot = slot,
		.key = btrfs_key_get(&btrfs_item(leaf, slot)->key),
		.data = btrfs_item_data(leaf, slot),
		.len = btrfs_item_len(leaf, slot),
	};

	switch (it.key.type) {
	case BTRFS_KEY_INODE_ITEM:
		return inode_wrong(&it);
	case BTRFS_KEY_INODE_REF:
		return inode_ref_wrong(&it);
	case BTRFS_KEY_INODE_EXTREF:
		return inode_extref_wrong(&it);
	case BTRFS_KEY_XATTR_ITEM:
	case BTRFS_KEY_DIR_ITEM:
	case BTRFS_KEY_DIR_INDEX:
		return dir_wrong(&it);
	case BTRFS_KEY_EXTENT_DATA:
		return file_extent_wrong(&it);
	case BTRFS_KEY_EXTENT_CSUM:
		return csum_wrong(&it);
	case BTRFS_KEY_ROOT_ITEM:
		return root_wrong(&it);
	case BTRFS_KEY_ROOT_REF:
	case BTRFS_KEY_ROOT_BACKREF:
		return root_ref_wrong(&it);
	case BTRFS_KEY_QGROUP_STATUS:
		return qgroup_status_wrong(&it);
	case BTRFS_KEY_VERITY_DESC_ITEM:
		return verity_wrong(&it);
	case BTRFS_KEY_EXTENT_ITEM ... BTRFS_KEY_RAID_STRIPE:
		return btrfs_extent_item_wrong(bs, leaf, slot);
	}
	return other_wrong(&it);
}
