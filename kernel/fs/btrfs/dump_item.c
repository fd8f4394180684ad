/*
 * Items in words: one printer for each type. Works on what is damaged too, so nothing is taken for granted but the bytes [data, data +
 * len): what does not lie within them is left out, and what makes no sense is shown as it is.
 */
#include "btrfs.h"

#include <stdio.h>

/* One item, and where it is printed. */
struct item {
	const struct btrfs_super *bs;
	struct btrfs_key key;
	const u8 *data;
	u32 len;
};

/* ---- names for numbers ---- */

void btrfs_doc_id(struct doc *out, const char *name, u64 id)
{
	/* Ids of the system count down from the end. */
	if (id >= BTRFS_OBJ_LAST_FREE)
		doc_s64(out, name, (s64)id);
	else
		doc_u64(out, name, id);
}

void btrfs_key_doc(const struct btrfs_key *key, struct doc *out)
{
	static const struct {
		u8 nr;
		const char *name;
	} types[] = {
#define KEY_NAME(name, nr) { (nr), #name },
		BTRFS_KEY_TYPES(KEY_NAME)
#undef KEY_NAME
	};

	btrfs_doc_id(out, "objectid", key->objectid);
	for (u32 i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].nr == key->type) {
			doc_str(out, "type", types[i].name);
			btrfs_doc_id(out, "offset", key->offset);
			return;
		}
	doc_u64(out, "type", key->type);
	btrfs_doc_id(out, "offset", key->offset);
}

static void disk_key_doc(struct doc *out, const char *name, const struct btrfs_disk_key *d)
{
	struct btrfs_key key = btrfs_key_get(d);

	btrfs_key_doc(&key, doc_object(out, name));
}

struct bit_name {
	u64 bit;
	const char *name;
};

/* The bits that have names, and the rest as a number. */
static void bits_doc(struct doc *out, const char *name, const struct bit_name *names, u32 n, u64 bits)
{
	struct doc *a = doc_array(out, name);

	for (u32 i = 0; i < n; i++)
		if (bits & names[i].bit) {
			doc_str(a, NULL, names[i].name);
			bits &= ~names[i].bit;
		}
	if (bits)
		doc_hex(a, NULL, bits);
}

static const char *word_of(const char *const *words, u32 n, u64 v)
{
	return v < n ? words[v] : "?";
}
#define WORD(words, v) word_of(words, ARRAY_SIZE(words), v)

static void use_doc(struct doc *out, u64 type)
{
	doc_hex(out, "flags", type);
	doc_str(out, "use", btrfs_bg_type_name(type));
	doc_str(out, "profile", btrfs_bg_profile_name(type));
}

/* A table of members, for the structure that begins the item. */
#define MEMBERS(out, table, it) doc_members(out, table, ARRAY_SIZE(table), (it)->data, (it)->len)

/* ---- inodes ---- */

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_inode, field, kind)
static const struct doc_member inode_members[] = {
	M(generation, NUMBER),  M(transid, NUMBER),  M(size_bytes, NUMBER), M(nbytes, NUMBER),
	M(block_group, NUMBER), M(nlink, NUMBER),    M(uid, NUMBER),        M(gid, NUMBER),
	M(rdev, HEX),           M(sequence, NUMBER), M(atime, TIME),        M(ctime, TIME),
	M(mtime, TIME),         M(otime, TIME),
};
#undef M

static const struct bit_name inode_flags[] = {
	{ BTRFS_INODE_NODATASUM, "nodatasum" },
	{ BTRFS_INODE_NODATACOW, "nodatacow" },
	{ BTRFS_INODE_READONLY, "readonly" },
	{ BTRFS_INODE_NOCOMPRESS, "nocompress" },
	{ BTRFS_INODE_PREALLOC, "prealloc" },
	{ BTRFS_INODE_SYNC, "sync" },
	{ BTRFS_INODE_IMMUTABLE, "immutable" },
	{ BTRFS_INODE_APPEND, "append" },
	{ BTRFS_INODE_NODUMP, "nodump" },
	{ BTRFS_INODE_NOATIME, "noatime" },
	{ BTRFS_INODE_DIRSYNC, "dirsync" },
	{ BTRFS_INODE_COMPRESS, "compress" },
	{ BTRFS_INODE_ROOT_ITEM_INIT, "root_item_init" },
	{ BTRFS_INODE_RO_VERITY, "verity" },
};

static void inode_members_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_inode *d = (const void *)it->data;
	char mode[16];

	if (it->len < sizeof(*d))
		return;
	snprintf(mode, sizeof(mode), "%06o", le32_get(d->mode));
	doc_str(out, "mode", mode);
	bits_doc(out, "flags", inode_flags, ARRAY_SIZE(inode_flags), le64_get(d->flags));
	MEMBERS(out, inode_members, it);
}

/* A list of names; `head` bytes before each, whose last two are its length. */
static void names_doc(const struct item *it, struct doc *out, u32 head)
{
	struct doc *a = doc_array(out, "names");

	for (u32 at = 0; it->len - at >= head;) {
		const u8 *p = it->data + at;
		u32 len = p[head - 2] | (u32)p[head - 1] << 8;
		struct doc *o = doc_object(a, NULL);

		if (head == sizeof(struct btrfs_disk_inode_extref)) {
			doc_u64(o, "parent", le64_get(((const struct btrfs_disk_inode_extref *)p)->parent));
			doc_u64(o, "index", le64_get(((const struct btrfs_disk_inode_extref *)p)->index));
		} else {
			doc_u64(o, "index", le64_get(((const struct btrfs_disk_inode_ref *)p)->index));
		}
		at += head;
		doc_bytes(o, "name", it->data + at, MIN(len, it->len - at));
		at += MIN(len, it->len - at);
	}
}

static void inode_ref_doc(const struct item *it, struct doc *out)
{
	names_doc(it, out, sizeof(struct btrfs_disk_inode_ref));
}

static void inode_extref_doc(const struct item *it, struct doc *out)
{
	names_doc(it, out, sizeof(struct btrfs_disk_inode_extref));
}

static void dir_doc(const struct item *it, struct doc *out)
{
	static const char *const types[] = { "unknown",          "file",         "directory",
					     "character device", "block device", "fifo",
					     "socket",           "symlink",      "attribute" };
	const struct btrfs_disk_dir_item *d;
	struct doc *a = doc_array(out, "entries");

	for (u32 at = 0; it->len - at >= sizeof(*d);) {
		struct doc *o = doc_object(a, NULL);
		u32 len;

		d = (const void *)(it->data + at);
		at += (u32)sizeof(*d);
		len = MIN((u32)le16_get(d->name_len), it->len - at);
		doc_bytes(o, "name", it->data + at, len);
		at += len;
		doc_str(o, "kind", WORD(types, d->type & ~BTRFS_FT_ENCRYPTED));
		doc_u64(o, "transid", le64_get(d->transid));
		if (it->key.type != BTRFS_KEY_XATTR_ITEM)
			disk_key_doc(o, "location", &d->location);
		len = MIN((u32)le16_get(d->data_len), it->len - at);
		if (len)
			doc_bytes(o, "data", it->data + at, len);
		at += len;
	}
}

/* ---- trees ---- */

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_root, field, kind)
static const struct doc_member root_members[] = {
	M(generation, NUMBER),  M(root_dirid, NUMBER),    M(bytenr, NUMBER),     M(level, NUMBER),
	M(refs, NUMBER),        M(byte_limit, NUMBER),    M(bytes_used, NUMBER), M(last_snapshot, NUMBER),
	M(drop_level, NUMBER),  M(generation_v2, NUMBER), M(uuid, UUID),         M(parent_uuid, UUID),
	M(received_uuid, UUID), M(ctransid, NUMBER),      M(otransid, NUMBER),   M(stransid, NUMBER),
	M(rtransid, NUMBER),    M(ctime, TIME),           M(otime, TIME),        M(stime, TIME),
	M(rtime, TIME),
};
#undef M

static void root_doc(const struct item *it, struct doc *out)
{
	static const struct bit_name flags[] = { { BTRFS_ROOT_RDONLY, "readonly" },
						 { BTRFS_ROOT_DEAD, "dead" } };
	const struct btrfs_disk_root *d = (const void *)it->data;

	MEMBERS(out, root_members, it);
	if (it->len < BTRFS_ROOT_ITEM_V1_BYTES)
		return;
	bits_doc(out, "flags", flags, ARRAY_SIZE(flags), le64_get(d->flags));
	if (le64_get(d->drop_progress.objectid))
		disk_key_doc(out, "drop_progress", &d->drop_progress);
}

static void root_ref_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_root_ref *d = (const void *)it->data;

	if (it->len < sizeof(*d))
		return;
	doc_u64(out, "dirid", le64_get(d->dirid));
	doc_u64(out, "sequence", le64_get(d->sequence));
	doc_bytes(out, "name", d->name, MIN((u32)le16_get(d->name_len), it->len - (u32)sizeof(*d)));
}

/* ---- data ---- */

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_file_extent, field, kind)
static const struct doc_member extent_members[] = {
	M(generation, NUMBER),  M(ram_bytes, NUMBER),  M(encryption, NUMBER),   M(other_encoding, NUMBER),
	M(disk_bytenr, NUMBER), M(disk_bytes, NUMBER), M(offset_bytes, NUMBER), M(num_bytes, NUMBER),
};
#undef M

static void file_extent_doc(const struct item *it, struct doc *out)
{
	static const char *const kinds[] = { "inline", "regular", "preallocated" };
	static const char *const ways[] = { "none", "zlib", "lzo", "zstd" };
	const struct btrfs_disk_file_extent *d = (const void *)it->data;
	u32 head = it->len;

	if (it->len < BTRFS_FILE_EXTENT_HEAD_BYTES)
		return;
	doc_str(out, "kind", WORD(kinds, d->kind));
	doc_str(out, "compression", WORD(ways, d->compression));
	if (d->kind == BTRFS_EXTENT_INLINE) {
		head = BTRFS_FILE_EXTENT_HEAD_BYTES;
		doc_u64(out, "inline_bytes", it->len - head);
	}
	doc_members(out, extent_members, ARRAY_SIZE(extent_members), d, head);
}

static void csum_doc(const struct item *it, struct doc *out)
{
	u32 per = it->bs->csum_bytes;

	doc_u64(out, "sums", it->len / per);
	doc_u64(out, "from", it->key.offset);
	doc_u64(out, "to", it->key.offset + (u64)(it->len / per) * it->bs->sector_bytes);
	doc_hexdump(doc_array(out, "bytes"), it->data, it->len);
}

/* ---- the extent tree ---- */

static void data_ref_doc(const struct btrfs_disk_data_ref *d, struct doc *out)
{
	btrfs_doc_id(out, "root", le64_get(d->root));
	btrfs_doc_id(out, "inode", le64_get(d->objectid));
	btrfs_doc_id(out, "file_offset", le64_get(d->offset));
	doc_u64(out, "count", le32_get(d->count));
}

/* The reference at p, of `left` bytes at most; its length, 0 where it makes no sense. */
static u32 inline_ref_doc(const u8 *p, u32 left, struct doc *array)
{
	const struct btrfs_disk_inline_ref *d = (const void *)p;
	struct doc *o = doc_object(array, NULL);
	u32 len = sizeof(*d);

	if (p[0] == BTRFS_KEY_EXTENT_DATA_REF)
		len = 1 + sizeof(struct btrfs_disk_data_ref);
	else if (p[0] == BTRFS_KEY_SHARED_DATA_REF)
		len += (u32)sizeof(struct btrfs_disk_shared_data_ref);
	if (len > left) {
		doc_str(o, "error", "cut off");
		return 0;
	}
	switch (d->type) {
	case BTRFS_KEY_TREE_BLOCK_REF:
		btrfs_doc_id(o, "tree", le64_get(d->offset));
		return len;
	case BTRFS_KEY_SHARED_BLOCK_REF:
		doc_u64(o, "shared_by_block", le64_get(d->offset));
		return len;
	case BTRFS_KEY_EXTENT_OWNER_REF:
		btrfs_doc_id(o, "owner", le64_get(d->offset));
		return len;
	case BTRFS_KEY_EXTENT_DATA_REF:
		data_ref_doc((const void *)(p + 1), o);
		return len;
	case BTRFS_KEY_SHARED_DATA_REF:
		doc_u64(o, "shared_by_block", le64_get(d->offset));
		doc_u64(o, "count", le32_get(((const struct btrfs_disk_shared_data_ref *)(d + 1))->count));
		return len;
	}
	doc_u64(o, "unknown_type", d->type);
	return 0;
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_extent_item, field, kind)
static const struct doc_member extent_item_members[] = { M(refs, NUMBER), M(generation, NUMBER) };
#undef M

static void extent_doc(const struct item *it, struct doc *out)
{
	static const struct bit_name flags[] = { { BTRFS_EXTENT_FLAG_DATA, "data" },
						 { BTRFS_EXTENT_FLAG_TREE_BLOCK, "tree block" },
						 { BTRFS_EXTENT_FLAG_FULL_BACKREF, "full backref" } };
	const struct btrfs_disk_extent_item *d = (const void *)it->data;
	u32 at = sizeof(*d), len = 1;
	struct doc *a;

	MEMBERS(out, extent_item_members, it);
	if (it->len < sizeof(*d))
		return;
	bits_doc(out, "flags", flags, ARRAY_SIZE(flags), le64_get(d->flags));
	if (it->key.type == BTRFS_KEY_EXTENT_ITEM && le64_get(d->flags) & BTRFS_EXTENT_FLAG_TREE_BLOCK &&
	    it->len - at >= sizeof(struct btrfs_disk_tree_block_info)) {
		const struct btrfs_disk_tree_block_info *info = (const void *)(it->data + at);

		disk_key_doc(out, "first_key", &info->key);
		doc_u64(out, "level", info->level);
		at += (u32)sizeof(*info);
	}
	a = doc_array(out, "references");
	for (; at < it->len && len; at += len)
		len = inline_ref_doc(it->data + at, it->len - at, a);
}

static void data_refs_doc(const struct item *it, struct doc *out)
{
	struct doc *a = doc_array(out, "references");

	for (u32 at = 0; it->len - at >= sizeof(struct btrfs_disk_data_ref);
	     at += (u32)sizeof(struct btrfs_disk_data_ref))
		data_ref_doc((const void *)(it->data + at), doc_object(a, NULL));
}

static void shared_data_ref_doc(const struct item *it, struct doc *out)
{
	if (it->len >= sizeof(struct btrfs_disk_shared_data_ref))
		doc_u64(out, "count", le32_get(((const struct btrfs_disk_shared_data_ref *)it->data)->count));
}

/* ---- block groups, chunks, devices ---- */

static void block_group_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_block_group *d = (const void *)it->data;

	if (it->len < sizeof(*d))
		return;
	doc_u64(out, "used_bytes", le64_get(d->used_bytes));
	doc_u64(out, "chunk_objectid", le64_get(d->chunk_objectid));
	use_doc(out, le64_get(d->flags));
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_chunk, field, kind)
static const struct doc_member chunk_members[] = {
	M(len_bytes, NUMBER), M(owner, NUMBER),        M(stripe_bytes, NUMBER), M(io_align, NUMBER),
	M(io_width, NUMBER),  M(sector_bytes, NUMBER), M(num_stripes, NUMBER),  M(sub_stripes, NUMBER),
};
#undef M

static void chunk_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_chunk *d = (const void *)it->data;
	struct doc *a;

	MEMBERS(out, chunk_members, it);
	if (it->len < sizeof(*d))
		return;
	use_doc(out, le64_get(d->type));
	a = doc_array(out, "stripes");
	for (u32 i = 0; i < (it->len - sizeof(*d)) / sizeof(d->stripe[0]) && i < le16_get(d->num_stripes);
	     i++) {
		struct doc *o = doc_object(a, NULL);

		doc_u64(o, "devid", le64_get(d->stripe[i].devid));
		doc_u64(o, "at_byte", le64_get(d->stripe[i].offset_bytes));
		doc_uuid(o, "device", d->stripe[i].dev_uuid);
	}
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_dev_item, field, kind)
static const struct doc_member device_members[] = {
	M(devid, NUMBER),        M(total_bytes, NUMBER),  M(bytes_used, NUMBER), M(io_align, NUMBER),
	M(io_width, NUMBER),     M(sector_bytes, NUMBER), M(type, HEX),          M(generation, NUMBER),
	M(start_offset, NUMBER), M(dev_group, NUMBER),    M(seek_speed, NUMBER), M(bandwidth, NUMBER),
	M(uuid, UUID),           M(fsid, UUID),
};
#undef M

static void device_doc(const struct item *it, struct doc *out)
{
	MEMBERS(out, device_members, it);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_dev_extent, field, kind)
static const struct doc_member dev_extent_members[] = {
	M(chunk_tree, NUMBER), M(chunk_objectid, NUMBER), M(chunk_offset, NUMBER),
	M(len_bytes, NUMBER),  M(chunk_tree_uuid, UUID),
};
#undef M

static void dev_extent_doc(const struct item *it, struct doc *out)
{
	MEMBERS(out, dev_extent_members, it);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_dev_replace, field, kind)
static const struct doc_member replace_members[] = {
	M(src_devid, NUMBER),    M(cursor_left, NUMBER),
	M(cursor_right, NUMBER), M(cont_reading_mode, NUMBER),
	M(time_started, TIME),   M(time_stopped, TIME),
	M(write_errors, NUMBER), M(uncorrectable_read_errors, NUMBER),
};
#undef M

static void replace_doc(const struct item *it, struct doc *out)
{
	static const char *const states[] = { "never started", "started", "finished", "canceled",
					      "suspended" };
	const struct btrfs_disk_dev_replace *d = (const void *)it->data;

	if (it->len >= sizeof(*d))
		doc_str(out, "state", WORD(states, le64_get(d->state)));
	MEMBERS(out, replace_members, it);
}

/* Errors counted for a device; other persistent items are not known. */
static void persistent_doc(const struct item *it, struct doc *out)
{
	static const char *const counters[] = { "write_errors", "read_errors", "flush_errors",
						"corruption_errors", "generation_errors" };
	const le64 *v = (const void *)it->data;

	if (it->key.objectid != BTRFS_OBJ_DEV_STATS) {
		doc_hexdump(doc_array(out, "bytes"), it->data, it->len);
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(counters) && i < it->len / sizeof(*v); i++)
		doc_u64(out, counters[i], le64_get(v[i]));
}

/* ---- free space ---- */

static void free_info_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_free_space_info *d = (const void *)it->data;

	if (it->len < sizeof(*d))
		return;
	doc_u64(out, "extent_count", le32_get(d->extent_count));
	doc_bool(out, "bitmaps", le32_get(d->flags) & 1);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_free_space_header, field, kind)
static const struct doc_member free_header_members[] = { M(generation, NUMBER), M(num_entries, NUMBER),
							 M(num_bitmaps, NUMBER) };
#undef M

static void free_header_doc(const struct item *it, struct doc *out)
{
	const struct btrfs_disk_free_space_header *d = (const void *)it->data;

	if (it->len >= sizeof(*d))
		disk_key_doc(out, "location", &d->location);
	MEMBERS(out, free_header_members, it);
}

/* ---- quota, verity, uuids ---- */

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_qgroup_status, field, kind)
static const struct doc_member qgroup_status_members[] = {
	M(version, NUMBER), M(generation, NUMBER),        M(flags, HEX),
	M(rescan, NUMBER),  M(enable_generation, NUMBER),
};
#undef M

static void qgroup_status_doc(const struct item *it, struct doc *out)
{
	MEMBERS(out, qgroup_status_members, it);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_qgroup_info, field, kind)
static const struct doc_member qgroup_info_members[] = {
	M(generation, NUMBER), M(referenced, NUMBER),           M(referenced_compressed, NUMBER),
	M(exclusive, NUMBER),  M(exclusive_compressed, NUMBER),
};
#undef M

static void qgroup_info_doc(const struct item *it, struct doc *out)
{
	MEMBERS(out, qgroup_info_members, it);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_qgroup_limit, field, kind)
static const struct doc_member qgroup_limit_members[] = {
	M(flags, HEX),
	M(max_referenced, NUMBER),
	M(max_exclusive, NUMBER),
	M(reserved_referenced, NUMBER),
	M(reserved_exclusive, NUMBER),
};
#undef M

static void qgroup_limit_doc(const struct item *it, struct doc *out)
{
	MEMBERS(out, qgroup_limit_members, it);
}

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_verity_desc, field, kind)
static const struct doc_member verity_members[] = { M(size_bytes, NUMBER), M(encryption, NUMBER) };
#undef M

static void verity_doc(const struct item *it, struct doc *out)
{
	if (it->key.offset)
		doc_hexdump(doc_array(out, "bytes"), it->data, it->len);
	else
		MEMBERS(out, verity_members, it);
}

/* Numbers in a row: the subvolumes of a UUID; the ends of what a log has of a directory. */
static void numbers_doc(const struct item *it, struct doc *out)
{
	struct doc *a = doc_array(out, "numbers");

	for (u32 i = 0; i < it->len / sizeof(le64); i++)
		doc_u64(a, NULL, le64_get(((const le64 *)it->data)[i]));
}

/* ---- any ---- */

static const struct {
	u8 type;
	void (*doc)(const struct item *it, struct doc *out);
} printers[] = {
	{ BTRFS_KEY_INODE_ITEM, inode_members_doc },
	{ BTRFS_KEY_INODE_REF, inode_ref_doc },
	{ BTRFS_KEY_INODE_EXTREF, inode_extref_doc },
	{ BTRFS_KEY_XATTR_ITEM, dir_doc },
	{ BTRFS_KEY_VERITY_DESC_ITEM, verity_doc },
	{ BTRFS_KEY_DIR_LOG_ITEM, numbers_doc },
	{ BTRFS_KEY_DIR_LOG_INDEX, numbers_doc },
	{ BTRFS_KEY_DIR_ITEM, dir_doc },
	{ BTRFS_KEY_DIR_INDEX, dir_doc },
	{ BTRFS_KEY_EXTENT_DATA, file_extent_doc },
	{ BTRFS_KEY_EXTENT_CSUM, csum_doc },
	{ BTRFS_KEY_ROOT_ITEM, root_doc },
	{ BTRFS_KEY_ROOT_BACKREF, root_ref_doc },
	{ BTRFS_KEY_ROOT_REF, root_ref_doc },
	{ BTRFS_KEY_EXTENT_ITEM, extent_doc },
	{ BTRFS_KEY_METADATA_ITEM, extent_doc },
	{ BTRFS_KEY_EXTENT_DATA_REF, data_refs_doc },
	{ BTRFS_KEY_SHARED_DATA_REF, shared_data_ref_doc },
	{ BTRFS_KEY_BLOCK_GROUP_ITEM, block_group_doc },
	{ BTRFS_KEY_FREE_SPACE_INFO, free_info_doc },
	{ BTRFS_KEY_DEV_EXTENT, dev_extent_doc },
	{ BTRFS_KEY_DEV_ITEM, device_doc },
	{ BTRFS_KEY_CHUNK_ITEM, chunk_doc },
	{ BTRFS_KEY_QGROUP_STATUS, qgroup_status_doc },
	{ BTRFS_KEY_QGROUP_INFO, qgroup_info_doc },
	{ BTRFS_KEY_QGROUP_LIMIT, qgroup_limit_doc },
	{ BTRFS_KEY_PERSISTENT_ITEM, persistent_doc },
	{ BTRFS_KEY_DEV_REPLACE, replace_doc },
	{ BTRFS_KEY_UUID_SUBVOL, numbers_doc },
	{ BTRFS_KEY_UUID_RECEIVED_SUBVOL, numbers_doc },
};

void btrfs_item_doc(const struct btrfs_super *bs, const struct btrfs_key *key, const void *data,
		    u32 len_bytes, struct doc *out)
{
	const struct item it = { bs, *key, data, len_bytes };

	if (key->objectid == BTRFS_OBJ_FREE_SPACE && !key->type) {
		free_header_doc(&it, out);
		return;
	}
	for (u32 i = 0; i < ARRAY_SIZE(printers); i++)
		if (printers[i].type == key->type) {
			printers[i].doc(&it, out);
			return;
		}
	if (len_bytes)
		doc_hexdump(doc_array(out, "bytes"), data, len_bytes);
}
