/*
 * Directory blocks as bytes: records, names, the checksum tail, the index. Pure functions over memory that may
 * hold anything; they read nothing outside the region they are given.
 *
 *   - A region is a chain of records. Each tells where the next begins; the last one ends with the region.
 *   - What kind of block it is shows in its content alone. Leaf: records. Index root: "." and a ".." that
 *     covers the rest of the block, with the index hidden behind the two. Inner node: one unused record that
 *     covers the block, with the index hidden in it. Read as records, an index is an empty leaf.
 */
#include "ext4.h"

/* A 64 KiB block is longer than 16 bits can tell: lengths are multiples of 4, so the two low bits are free. */
u32 ext4_rec_len(le16 raw, u32 block_bytes)
{
	u32 len = le16_get(raw);

	if (block_bytes < 65536)
		return len;
	if (len == 65535 || len == 0)
		return block_bytes;
	return (len & 65532) | (len & 3) << 16;
}

void ext4_dirent_iter(struct ext4_dirent_iter *it, const void *base, u32 len, u32 block_bytes)
{
	*it = (struct ext4_dirent_iter){ .base = base, .len = len, .block_bytes = block_bytes };
}

static const char *dirent_wrong(const struct ext4_dirent_iter *it, const struct ext4_disk_dirent *de,
				u32 rec_len)
{
	u32 left = it->len - it->next;

	if (rec_len < EXT4_DIRENT_MIN)
		return "an entry is shorter than 12 bytes";
	if (rec_len % 4)
		return "an entry's length is not a multiple of 4";
	if (rec_len < ext4_dirent_bytes(de->name_len))
		return "an entry is too short for its name";
	if (rec_len > left)
		return "an entry goes beyond its block";
	if (left - rec_len && left - rec_len < EXT4_DIRENT_MIN)
		return "an entry ends too near to the end of its block";
	return NULL;
}

const struct ext4_disk_dirent *ext4_dirent_next(struct ext4_dirent_iter *it, const char **bad)
{
	const struct ext4_disk_dirent *de;
	u32 rec_len;

	*bad = NULL;
	if (it->next == it->len)
		return NULL;
	if (it->len - it->next < EXT4_DIRENT_MIN) {
		*bad = "there is no room for another entry";
		return NULL;
	}
	de = (const struct ext4_disk_dirent *)(it->base + it->next);
	rec_len = ext4_rec_len(de->rec_len, it->block_bytes);
	*bad = dirent_wrong(it, de, rec_len);
	if (*bad)
		return NULL;
	it->off = it->next;
	it->next += rec_len;
	return de;
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
	room = bytes - dx->entries_off;
	if (es->metadata_csum)
		room -= sizeof(struct ext4_disk_dx_tail);
	room /= sizeof(struct ext4_disk_dx_entry);
	/* Where entries carry their hash, inner nodes do without the last place. */
	return dx->limit <= room && dx->limit + 1 >= room && dx->count && dx->count <= dx->limit;
}
