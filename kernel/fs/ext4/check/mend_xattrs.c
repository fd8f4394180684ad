/* Lists of attributes, put together anew of what can be read of them. */
#include "check.h"

#include <stdlib.h>

#define BLOCK_HASH_SHIFT 16

/* Entries from `first` on that lie within the list; the end of the last one. */
static u32 names_end(const u8 *base, u32 first, u32 bytes)
{
	u32 at = first;

	while (at + sizeof(struct ext4_disk_xattr_entry) <= bytes) {
		const struct ext4_disk_xattr_entry *e = (const void *)(base + at);
		u32 step = ALIGN_UP((u32)sizeof(*e) + e->name_len, 4u);

		if (!memcmp(e, &(le32){ { 0 } }, sizeof(le32)) || step > bytes - at ||
		    memchr(e + 1, 0, e->name_len))
			break;
		at += step;
	}
	return at;
}

/* The value can be there, and there is room for it behind the names, between `at` and `end`. */
static bool value_fits(const struct ck *ck, const struct ext4_disk_xattr_entry *e, u32 names, u32 bytes,
		       u32 at, u32 end)
{
	u32 off = le16_get(e->value_offs), size = le32_get(e->value_size);
	u32 room = ALIGN_UP((u32)sizeof(*e) + e->name_len, 4u) + (u32)sizeof(le32);

	if (!e->name_index)
		return false;
	if (le32_get(e->value_inum))
		return ext4_has_incompat(ck->es, EXT4_INCOMPAT_EA_INODE) && size <= EXT4_XATTR_VALUE_MAX &&
		       room <= end - at;
	if (size && (size > bytes || off < names || off > bytes - size))
		return false;
	return (u64)room + ALIGN_UP(size, 4u) <= end - at;
}

u32 ck_xattr_pack(struct ck *ck, u8 *base, u32 first, u32 bytes, const u64 *drop)
{
	u32 at = first, end = bytes, names, n = 0, i = 0, step;
	u8 *old = malloc(bytes);

	if (!old) {
		ck_no_memory(ck);
		return 0;
	}
	memcpy(old, base, bytes);
	names = names_end(old, first, bytes);
	memset(base + first, 0, bytes - first);
	for (u32 from = first; from < names; from += step, i++) {
		struct ext4_disk_xattr_entry e;
		u32 size;

		memcpy(&e, old + from, sizeof(e));
		size = le32_get(e.value_inum) ? 0 : le32_get(e.value_size);
		step = ALIGN_UP((u32)sizeof(e) + e.name_len, 4u);
		if ((drop && drop[i / 64] >> i % 64 & 1) || !value_fits(ck, &e, names, bytes, at, end))
			continue;
		end -= ALIGN_UP(size, 4u);
		if (size)
			memcpy(base + end, old + le16_get(e.value_offs), size);
		e.value_offs = le16_put(size ? (u16)end : 0);
		memcpy(base + at, &e, sizeof(e));
		memcpy(base + at + sizeof(e), old + from + sizeof(e), e.name_len);
		at += step;
		n++;
	}
	free(old);
	return n;
}

bool ck_inline_attr_add(struct ck *ck, struct ck_inode *ci)
{
	static const char name[] = { 'd', 'a', 't', 'a' };
	const struct ext4_disk_xattr_entry e = { .name_len = sizeof(name), .name_index = EXT4_XATTR_SYSTEM };
	u32 off = EXT4_INODE_BYTES_OLD + le16_get(ci->raw->extra_isize), bytes, end;
	struct ext4_disk_xattr_ibody *x = (void *)((u8 *)ci->raw + off);
	u8 *base = (u8 *)(x + 1);

	if (off % 4 || off + sizeof(*x) + sizeof(e) + sizeof(name) + sizeof(le32) > ck->es->inode_bytes)
		return false;
	bytes = ck->es->inode_bytes - off - (u32)sizeof(*x);
	if (le32_get(x->magic) != EXT4_XATTR_MAGIC)
		memset(base, 0, bytes);
	x->magic = le32_put(EXT4_XATTR_MAGIC);
	(void)ck_xattr_pack(ck, base, 0, bytes, NULL);
	end = names_end(base, 0, bytes);
	/* Behind the names there are zeros, and then values. */
	for (u32 i = 0; i < sizeof(e) + sizeof(name) + sizeof(le32); i++)
		if (end + i >= bytes || base[end + i])
			return false;
	memcpy(base + end, &e, sizeof(e));
	memcpy(base + end + sizeof(e), name, sizeof(name));
	return true;
}

/* Of all entries' hashes; 0 when one has none. */
static u32 block_hash(const struct ck *ck, const void *block)
{
	struct ext4_xattr_list l = { .base = block,
				     .first = sizeof(struct ext4_disk_xattr_header),
				     .bytes = ext4_block_bytes(ck->es) };
	const struct ext4_disk_xattr_entry *e = NULL;
	u32 sum = 0;

	if (ext4_xattr_list_wrong(ck->es, l.base, l.first, l.bytes))
		return 0;
	while ((e = ext4_xattr_next(&l, e))) {
		if (!le32_get(e->hash))
			return 0;
		sum = ext4_xattr_mix(sum, BLOCK_HASH_SHIFT, le32_get(e->hash));
	}
	return sum;
}

void ck_xattr_put(struct ck *ck, struct buffer_head *bh)
{
	struct ext4_disk_xattr_header *h = bh->data;

	if (le32_get(h->magic) == EXT4_XATTR_MAGIC) {
		h->hash = le32_put(block_hash(ck, h));
		if (ck->es->metadata_csum)
			h->checksum = le32_put(ext4_csum_xattr(ck->es, bh->blk, h));
	}
	ck_put(ck, bh);
}

void ck_xattr_set_block(const struct ck *ck, struct ck_inode *ci, u64 blk)
{
	ci->raw->file_acl_lo = le32_put((u32)blk);
	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_64BIT))
		ci->raw->file_acl_hi = le16_put((u16)(blk >> 32));
	ci->changed = true;
}
