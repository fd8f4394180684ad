/*
 * Directory blocks as bytes: records, names, the checksum tail, the index. Pure functions over memory that may
 * hold anything; they read and write nothing outside the region they are given.
 *
 *   - A region is a chain of records. Each tells where the next begins; the last one ends with the region.
 *   - What kind of block it is shows in its content alone. Leaf: records. Index root: "." and a ".." that
 *     covers the rest of the block, with the index hidden behind the two. Inner node: one unused record that
 *     covers the block, with the index hidden in it. Read as records, an index is an empty leaf.
 *   - A record may be longer than its name needs, and the rest is free; so is all of a record without an inode.
 *     A name that goes leaves its room to the record before it.
 */
#include "ext4.h"

le16 ext4_rec_len_put(u32 len)
{
	return le16_put(len == 65536 ? 65535 : (u16)len);
}

u8 ext4_dirent_type(const struct ext4_super *es, u32 mode)
{
	/* Indexed by the four bits of a mode that tell the type. */
	static const u8 type[16] = { [S_IFREG >> 12] = 1, [S_IFDIR >> 12] = 2, [S_IFCHR >> 12] = 3,
				     [S_IFBLK >> 12] = 4, [S_IFIFO >> 12] = 5, [S_IFSOCK >> 12] = 6,
				     [S_IFLNK >> 12] = 7 };

	return es->filetype ? type[(mode & S_IFMT) >> 12] : 0;
}

const char *ext4_dirent_wrong(u32 name_len, u32 rec_len, u32 left)
{
	if (rec_len < EXT4_DIRENT_MIN)
		return "an entry is shorter than 12 bytes";
	if (rec_len % 4)
		return "an entry's length is not a multiple of 4";
	if (rec_len < ext4_dirent_bytes(name_len))
		return "an entry is too short for its name";
	if (rec_len > left)
		return "an entry goes beyond its block";
	if (left - rec_len && left - rec_len < EXT4_DIRENT_MIN)
		return "an entry ends too near to the end of its block";
	return NULL;
}

bool ext4_dirent_name_ok(const struct ext4_disk_dirent *de)
{
	const char *s = ext4_dirent_name(de);

	return de->name_len && !memchr(s, '/', de->name_len) && !memchr(s, 0, de->name_len);
}

u32 ext4_dir_tail_off(const void *block, u32 block_bytes)
{
	u32 off = block_bytes - sizeof(struct ext4_disk_dir_tail);
	const struct ext4_disk_dir_tail *t = (const void *)((const u8 *)block + off);

	if (le32_get(t->zero1) || le16_get(t->rec_len) != sizeof(*t) || t->zero2 ||
	    t->reserved_ft != EXT4_FT_DIR_CSUM)
		return 0;
	return off;
}

/* ---- leaves that change ---- */

static void record_put(struct ext4_disk_dirent *de, u32 rec_len, u32 ino, u8 type, const struct name *name)
{
	de->inode = le32_put(ino);
	de->rec_len = ext4_rec_len_put(rec_len);
	de->name_len = (u8)name->len;
	de->file_type = type;
	if (name->len)
		memcpy(de + 1, name->s, name->len);
}

void ext4_leaf_init(const struct ext4_super *es, void *block)
{
	static const struct name none;
	u32 bytes = ext4_leaf_bytes(es), block_bytes = ext4_block_bytes(es);

	memset(block, 0, block_bytes);
	record_put(block, bytes, 0, 0, &none);
	if (bytes < block_bytes) {
		struct ext4_disk_dir_tail *t = (void *)((u8 *)block + bytes);

		t->rec_len = le16_put(sizeof(*t));
		t->reserved_ft = EXT4_FT_DIR_CSUM;
	}
}

/* What of a record is taken. */
static u32 used_bytes(const struct ext4_disk_dirent *de)
{
	return le32_get(de->inode) ? ext4_dirent_bytes(de->name_len) : 0;
}

bool ext4_region_room(const struct ext4_super *es, const void *base, u32 len, u32 need, u32 *off,
		      const char **bad)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;

	ext4_dirent_iter(&it, base, len, ext4_block_bytes(es));
	while ((de = ext4_dirent_next(&it, bad))) {
		if (it.next - it.off - used_bytes(de) < need)
			continue;
		*off = it.off;
		return true;
	}
	return false;
}

bool ext4_leaf_room(const struct ext4_super *es, const void *block, u32 need, u32 *off, const char **bad)
{
	return ext4_region_room(es, block, ext4_leaf_bytes(es), need, off, bad);
}

void ext4_leaf_add(const struct ext4_super *es, void *block, u32 off, const struct name *name, u32 ino,
		   u8 type)
{
	u32 block_bytes = ext4_block_bytes(es);
	struct ext4_disk_dirent *de = (void *)((u8 *)block + off);
	u32 len = ext4_rec_len(de->rec_len, block_bytes), used = used_bytes(de);

	if (used) {
		de->rec_len = ext4_rec_len_put(used);
		de = (void *)((u8 *)de + used);
	}
	record_put(de, len - used, ino, type, name);
}

void ext4_leaf_top(const struct ext4_super *es, void *block, u32 ino, u32 parent)
{
	static const struct name dot = { ".", 1 }, dotdot = { "..", 2 };
	u8 type = ext4_dirent_type(es, S_IFDIR);

	ext4_leaf_init(es, block);
	ext4_leaf_add(es, block, 0, &dot, ino, type);
	ext4_leaf_add(es, block, 0, &dotdot, parent, type);
}

void ext4_leaf_del(const struct ext4_super *es, void *block, u32 off, u32 prev)
{
	u32 block_bytes = ext4_block_bytes(es);
	struct ext4_disk_dirent *de = (void *)((u8 *)block + off), *before = (void *)((u8 *)block + prev);
	u32 len = ext4_rec_len(de->rec_len, block_bytes);

	memset(de, 0, len);
	if (before != de)
		len += ext4_rec_len(before->rec_len, block_bytes);
	before->rec_len = ext4_rec_len_put(len);
}

void ext4_leaf_pack(const struct ext4_super *es, void *block, const void *from, const u32 *offs, u32 n)
{
	u32 at = 0, end = ext4_leaf_bytes(es);
	const u8 *src = from;

	ext4_leaf_init(es, block);
	for (u32 i = 0; i < n; i++) {
		const struct ext4_disk_dirent *de = (const void *)(src + offs[i]);
		const struct name name = { ext4_dirent_name(de), de->name_len };
		u32 len = ext4_dirent_bytes(name.len);

		record_put((void *)((u8 *)block + at), i + 1 < n ? len : end - at, le32_get(de->inode),
			   de->file_type, &name);
		at += len;
	}
}

/* ---- the index ---- */

static bool dx_root_shape(const u8 *p, u32 bytes)
{
	const struct ext4_disk_dirent *dot = (const void *)p, *dotdot = (const void *)(p + EXT4_DIRENT_MIN);
	const struct ext4_disk_dx_info *info = (const void *)(p + EXT4_DX_INFO_OFF);

	return ext4_rec_len(dot->rec_len, bytes) == EXT4_DIRENT_MIN && dot->name_len == 1 &&
	       ext4_rec_len(dotdot->rec_len, bytes) == bytes - EXT4_DIRENT_MIN && dotdot->name_len == 2 &&
	       !memcmp(ext4_dirent_name(dot), ".", 1) && !memcmp(ext4_dirent_name(dotdot), "..", 2) &&
	       !le32_get(info->reserved_zero) && info->info_length == sizeof(*info);
}

static bool dx_node_shape(const u8 *p, u32 bytes)
{
	const struct ext4_disk_dirent *de = (const void *)p;

	return !le32_get(de->inode) && ext4_rec_len(de->rec_len, bytes) == bytes && !de->name_len;
}

u32 ext4_dx_limit(const struct ext4_super *es, u32 entries_off)
{
	u32 room = ext4_block_bytes(es) - entries_off;

	if (es->metadata_csum)
		room -= sizeof(struct ext4_disk_dx_tail);
	return room / sizeof(struct ext4_disk_dx_entry);
}

bool ext4_dx_parse(const struct ext4_super *es, const void *block, bool root, struct ext4_dx *dx)
{
	const struct ext4_disk_dx_countlimit *cl;
	u32 bytes = ext4_block_bytes(es), room;
	const u8 *p = block;

	if (!(root ? dx_root_shape(p, bytes) : dx_node_shape(p, bytes)))
		return false;
	dx->entries_off = root ? EXT4_DX_ROOT_ENTRIES : EXT4_DX_NODE_ENTRIES;
	dx->info = root ? (const void *)(p + EXT4_DX_INFO_OFF) : NULL;
	dx->entry = (const void *)(p + dx->entries_off);
	cl = (const void *)dx->entry;
	dx->limit = le16_get(cl->limit);
	dx->count = le16_get(cl->count);
	room = ext4_dx_limit(es, dx->entries_off);
	/* Where entries carry their hash, inner nodes do without the last place. */
	return dx->limit <= room && dx->limit + 1 >= room && dx->count && dx->count <= dx->limit;
}
