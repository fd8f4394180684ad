/*
 * What the items of the extent tree and of its relatives must look like: extents and their references, block groups, free space,
 * chunks and devices. Readers of files need none of them but chunks, which chunk.c checks again against the devices; printers and
 * sums do.
 *
 * An extent's references stand behind it in one item, sorted: by type, and within a type by falling number (an EXTENT_DATA_REF's is a
 * hash of its members), and as separate items of the same address. Facts: the kernel's fs/btrfs/tree-checker.c and extent-tree.c.
 */
#include "btrfs.h"

#include "lib/crc.h"

struct item {
	const struct btrfs_super *bs;
	struct btrfs_key key, prev; /* prev: all zeros in slot 0 */
	const void *data;
	u32 len;
};

static bool aligned(const struct item *it, u64 v)
{
	return IS_ALIGNED(v, (u64)it->bs->sector_bytes);
}

static bool incompat(const struct item *it, u64 bit)
{
	return le64_get(it->bs->disk.incompat) & bit;
}

/* ---- extents ---- */

/* A running look at the references behind an extent. */
struct refs {
	const u8 *p;
	u32 left;
	u32 last_type;
	u64 last_seq;
	u64 count;
};

static u64 data_ref_hash(const struct btrfs_disk_data_ref *d)
{
	u32 high = crc32c(~0u, &d->root, sizeof(d->root));
	u32 low = crc32c(~0u, &d->objectid, sizeof(d->objectid));

	low = crc32c(low, &d->offset, sizeof(d->offset));
	return (u64)high << 31 ^ low;
}

/* The bytes that a reference of a type takes; 0: no such type. */
static u32 ref_bytes(u8 type)
{
	switch (type) {
	case BTRFS_KEY_TREE_BLOCK_REF:
	case BTRFS_KEY_SHARED_BLOCK_REF:
	case BTRFS_KEY_EXTENT_OWNER_REF:
		return sizeof(struct btrfs_disk_inline_ref);
	case BTRFS_KEY_EXTENT_DATA_REF:
		return 1 + sizeof(struct btrfs_disk_data_ref);
	case BTRFS_KEY_SHARED_DATA_REF:
		return sizeof(struct btrfs_disk_inline_ref) + sizeof(struct btrfs_disk_shared_data_ref);
	}
	return 0;
}

static const char *data_ref_wrong(const struct item *it, const struct btrfs_disk_data_ref *d)
{
	if (!le32_get(d->count))
		return "a reference that counts nothing";
	if (!le64_get(d->root) || !le64_get(d->objectid))
		return "a reference from nowhere";
	return aligned(it, le64_get(d->offset)) ? NULL : "a reference that is not aligned";
}

static const char *inline_ref_wrong(const struct item *it, struct refs *r, bool is_data)
{
	const struct btrfs_disk_inline_ref *d = (const void *)r->p;
	u32 bytes = ref_bytes(r->p[0]);
	const char *bad = NULL;
	u64 seq;

	if (!bytes)
		return "a reference of no known type";
	if (bytes > r->left)
		return "a reference that is cut off";
	seq = le64_get(d->offset);
	switch (d->type) {
	case BTRFS_KEY_TREE_BLOCK_REF:
	case BTRFS_KEY_SHARED_BLOCK_REF:
		if (is_data)
			return "a tree's reference to data";
		r->count++;
		break;
	case BTRFS_KEY_EXTENT_DATA_REF:
		bad = data_ref_wrong(it, (const void *)(r->p + 1));
		seq = data_ref_hash((const void *)(r->p + 1));
		r->count += le32_get(((const struct btrfs_disk_data_ref *)(r->p + 1))->count);
		break;
	case BTRFS_KEY_SHARED_DATA_REF:
		r->count += le32_get(((const struct btrfs_disk_shared_data_ref *)(d + 1))->count);
		break;
	case BTRFS_KEY_EXTENT_OWNER_REF:
		if (!incompat(it, BTRFS_INCOMPAT_SIMPLE_QUOTA) || r->last_type)
			return "an owner where none can be";
		break;
	}
	if (!is_data && (d->type == BTRFS_KEY_EXTENT_DATA_REF || d->type == BTRFS_KEY_SHARED_DATA_REF))
		return "a file's reference to a tree";
	if ((d->type == BTRFS_KEY_SHARED_BLOCK_REF || d->type == BTRFS_KEY_SHARED_DATA_REF) &&
	    !aligned(it, seq))
		return "a reference that is not aligned";
	if (d->type < r->last_type || (d->type == r->last_type && seq > r->last_seq))
		bad = "references that are not in order";
	r->last_type = d->type;
	r->last_seq = seq;
	r->p += bytes;
	r->left -= bytes;
	return bad;
}

/* What an extent is: data, or a node of a tree, which its key, its flags and the features must agree on. */
static const char *extent_kind_wrong(const struct item *it, u64 flags)
{
	if (flags == BTRFS_EXTENT_FLAG_DATA) {
		if (it->key.type != BTRFS_KEY_EXTENT_ITEM)
			return "data where a tree's node is wanted";
		return NULL;
	}
	if ((flags & ~BTRFS_EXTENT_FLAG_FULL_BACKREF) != BTRFS_EXTENT_FLAG_TREE_BLOCK)
		return "an extent of no known kind";
	if (it->key.type == BTRFS_KEY_EXTENT_ITEM && it->key.offset != it->bs->node_bytes)
		return "a tree's node of a wrong length";
	return NULL;
}

static const char *extent_place_wrong(const struct item *it)
{
	u64 len = it->key.type == BTRFS_KEY_EXTENT_ITEM ? it->key.offset : it->bs->node_bytes, end;
	bool prev_is = it->prev.type == BTRFS_KEY_EXTENT_ITEM || it->prev.type == BTRFS_KEY_METADATA_ITEM;
	u64 prev_len = it->prev.type == BTRFS_KEY_EXTENT_ITEM ? it->prev.offset : it->bs->node_bytes;

	if (it->key.type == BTRFS_KEY_METADATA_ITEM && !incompat(it, BTRFS_INCOMPAT_SKINNY_METADATA))
		return "a METADATA_ITEM without the feature skinny_metadata";
	if (it->key.type == BTRFS_KEY_METADATA_ITEM && it->key.offset >= BTRFS_LEVELS)
		return "a tree's node of too high a level";
	if (!aligned(it, it->key.objectid) || !aligned(it, len))
		return "an extent that is not aligned";
	if (!len || __builtin_add_overflow(it->key.objectid, len, &end))
		return "an extent of an impossible length";
	if (prev_is && it->prev.objectid + prev_len > it->key.objectid)
		return "an extent that overlaps the one before";
	return NULL;
}

static const char *extent_wrong(const struct item *it)
{
	const struct btrfs_disk_extent_item *d = it->data;
	struct refs r = { (const u8 *)(d + 1), it->len - (u32)sizeof(*d), 0, 0, 0 };
	const char *bad = extent_place_wrong(it);
	bool is_data;

	if (bad)
		return bad;
	if (it->len < sizeof(*d))
		return "an extent item of a wrong size";
	if (le64_get(d->generation) > le64_get(it->bs->disk.generation) + 1)
		return "an extent from the future";
	bad = extent_kind_wrong(it, le64_get(d->flags));
	if (bad)
		return bad;
	is_data = le64_get(d->flags) & BTRFS_EXTENT_FLAG_DATA;
	if (!is_data && it->key.type == BTRFS_KEY_EXTENT_ITEM) {
		const struct btrfs_disk_tree_block_info *info = (const void *)r.p;

		if (r.left < sizeof(*info))
			return "an extent item of a wrong size";
		if (info->level >= BTRFS_LEVELS)
			return "a tree's node of too high a level";
		r.p += sizeof(*info);
		r.left -= (u32)sizeof(*info);
	}
	while (r.left) {
		bad = inline_ref_wrong(it, &r, is_data);
		if (bad)
			return bad;
	}
	return r.count > le64_get(d->refs) ? "an extent with more references than it counts" : NULL;
}

/* References that found no room behind their extent. */
static const char *keyed_ref_wrong(const struct item *it)
{
	if (!aligned(it, it->key.objectid))
		return "a reference to what is not aligned";
	if (it->key.type == BTRFS_KEY_TREE_BLOCK_REF)
		return it->len ? "a reference of a wrong size" : NULL;
	if (it->key.type == BTRFS_KEY_EXTENT_DATA_REF) {
		const struct btrfs_disk_data_ref *d = it->data;

		if (!it->len || it->len % sizeof(*d))
			return "a reference of a wrong size";
		for (u32 i = 0; i < it->len / sizeof(*d); i++) {
			const char *bad = data_ref_wrong(it, &d[i]);

			if (bad)
				return bad;
		}
		return NULL;
	}
	if (!aligned(it, it->key.offset))
		return "a reference that is not aligned";
	if (it->key.type == BTRFS_KEY_SHARED_BLOCK_REF)
		return it->len ? "a reference of a wrong size" : NULL;
	return it->len != sizeof(struct btrfs_disk_shared_data_ref) ? "a reference of a wrong size" : NULL;
}

/* ---- block groups, free space ---- */

static const char *group_type_wrong(u64 type)
{
	u64 what = type & BTRFS_BG_TYPES, profile = type & BTRFS_BG_PROFILES;

	if (type & ~(BTRFS_BG_TYPES | BTRFS_BG_PROFILES))
		return "flags that are not known";
	if (profile && !is_pow2(profile))
		return "several profiles at once";
	if (!is_pow2(what) && what != (BTRFS_BG_DATA | BTRFS_BG_METADATA))
		return "a use that cannot be";
	return NULL;
}

static const char *block_group_wrong(const struct item *it)
{
	const struct btrfs_disk_block_group *d = it->data;
	const char *bad;

	if (it->len != sizeof(*d))
		return "a block group of a wrong size";
	if (!it->key.offset)
		return "a block group without a length";
	if (le64_get(d->chunk_objectid) != BTRFS_OBJ_FIRST_CHUNK)
		return "a block group of an impossible chunk";
	if (le64_get(d->used_bytes) > it->key.offset)
		return "a block group that is more than full";
	bad = group_type_wrong(le64_get(d->flags));
	return bad;
}

static const char *free_space_wrong(const struct item *it)
{
	u64 bits = it->key.offset / it->bs->sector_bytes, end;

	if (!aligned(it, it->key.objectid) || !aligned(it, it->key.offset) || !it->key.offset)
		return "free space that is not aligned";
	if (__builtin_add_overflow(it->key.objectid, it->key.offset, &end))
		return "free space beyond all addresses";
	if (it->key.type == BTRFS_KEY_FREE_SPACE_INFO)
		return it->len != sizeof(struct btrfs_disk_free_space_info) ? "free space of a wrong size"
									    : NULL;
	if (it->key.type == BTRFS_KEY_FREE_SPACE_EXTENT)
		return it->len ? "free space of a wrong size" : NULL;
	if (it->len > BTRFS_FREE_SPACE_BITMAP_BYTES || it->len != DIV_ROUND_UP(bits, 8))
		return "a bitmap of a wrong size";
	return NULL;
}

/* ---- chunks, devices ---- */

static const char *chunk_wrong(const struct item *it)
{
	const struct btrfs_disk_chunk *d = it->data;
	u64 end;

	if (it->key.objectid != BTRFS_OBJ_FIRST_CHUNK)
		return "a chunk of an impossible object";
	if (it->len < sizeof(*d) || !le16_get(d->num_stripes) ||
	    it->len != sizeof(*d) + le16_get(d->num_stripes) * sizeof(struct btrfs_disk_stripe))
		return "a chunk of a wrong size";
	if (!aligned(it, it->key.offset) || !aligned(it, le64_get(d->len_bytes)))
		return "a chunk that is not aligned";
	if (!le64_get(d->len_bytes) || __builtin_add_overflow(it->key.offset, le64_get(d->len_bytes), &end))
		return "a chunk of an impossible length";
	return group_type_wrong(le64_get(d->type));
}

static const char *device_wrong(const struct item *it)
{
	const struct btrfs_disk_dev_item *d = it->data;

	if (it->key.objectid != BTRFS_OBJ_DEV_ITEMS)
		return "a device of an impossible object";
	if (it->len != sizeof(*d))
		return "a device of a wrong size";
	if (le64_get(d->devid) != it->key.offset)
		return "a device of another number";
	if (le64_get(d->bytes_used) > le64_get(d->total_bytes))
		return "a device that is more than full";
	return NULL;
}

static const char *dev_extent_wrong(const struct item *it)
{
	const struct btrfs_disk_dev_extent *d = it->data;
	u64 end;

	if (it->len != sizeof(*d))
		return "a device extent of a wrong size";
	if (le64_get(d->chunk_tree) != BTRFS_TREE_CHUNK ||
	    le64_get(d->chunk_objectid) != BTRFS_OBJ_FIRST_CHUNK)
		return "a device extent of no chunk";
	if (!aligned(it, it->key.offset) || !aligned(it, le64_get(d->chunk_offset)) ||
	    !aligned(it, le64_get(d->len_bytes)))
		return "a device extent that is not aligned";
	if (!le64_get(d->len_bytes) || __builtin_add_overflow(it->key.offset, le64_get(d->len_bytes), &end))
		return "a device extent of an impossible length";
	return NULL;
}

const char *btrfs_extent_item_wrong(const struct btrfs_super *bs, const void *leaf, u32 slot)
{
	struct item it = {
		.bs = bs,
		.key = btrfs_key_get(&btrfs_item(leaf, slot)->key),
		.data = btrfs_item_data(leaf, slot),
		.len = btrfs_item_len(leaf, slot),
	};

	if (slot)
		it.prev = btrfs_key_get(&btrfs_item(leaf, slot - 1)->key);
	switch (it.key.type) {
	case BTRFS_KEY_EXTENT_ITEM:
	case BTRFS_KEY_METADATA_ITEM:
		return extent_wrong(&it);
	case BTRFS_KEY_TREE_BLOCK_REF:
	case BTRFS_KEY_EXTENT_DATA_REF:
	case BTRFS_KEY_SHARED_BLOCK_REF:
	case BTRFS_KEY_SHARED_DATA_REF:
		return keyed_ref_wrong(&it);
	case BTRFS_KEY_BLOCK_GROUP_ITEM:
		return block_group_wrong(&it);
	case BTRFS_KEY_FREE_SPACE_INFO:
	case BTRFS_KEY_FREE_SPACE_EXTENT:
	case BTRFS_KEY_FREE_SPACE_BITMAP:
		return free_space_wrong(&it);
	case BTRFS_KEY_CHUNK_ITEM:
		return chunk_wrong(&it);
	case BTRFS_KEY_DEV_ITEM:
		return device_wrong(&it);
	case BTRFS_KEY_DEV_EXTENT:
		return dev_extent_wrong(&it);
	}
	return NULL;
}
