/* What an inode is, by what it holds: its type and its flags may be what is damaged. */
#include "check.h"

#include "lib/scope.h"

bool ck_has_extent_head(const struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_disk_extent_header *h = (const void *)ci->raw->block;

	return le16_get(h->depth) <= EXT4_EXTENT_DEPTH_MAX &&
	       !ext4_extent_head_wrong(ck->es, h, EXT4_IBLOCK_BYTES, le16_get(h->depth));
}

bool ck_has_extent_root(const struct ck *ck, const struct ck_inode *ci)
{
	return ext4_has_incompat(ck->es, EXT4_INCOMPAT_EXTENTS) && ck_has_extent_head(ck, ci);
}

/* The first block of its map, whatever type the inode says. 0: none that can be. */
static u64 first_block(const struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_disk_extent_header *h = (const void *)ci->raw->block;
	const le32 *ptr = (const void *)ci->raw->block;
	u64 blk = le32_get(ptr[0]);

	if (ck_has_extent_root(ck, ci)) {
		if (le16_get(h->depth) || !le16_get(h->entries))
			return 0;
		blk = ext4_extent_start((const void *)(h + 1));
	}
	/* What lies there tells more than whether it could: where metadata are may be what is in doubt. */
	return blk >= ck->es->first_data_blk && blk < ck->es->blocks ? blk : 0;
}

/* Inline data that begins as a directory's: its parent, and an entry. Devices have none. */
static bool holds_inline_dir(struct ck *ck, const struct ck_inode *ci)
{
	const u8 *value, *p = ci->raw->block;
	const struct ext4_disk_dirent *de = (const void *)(p + sizeof(le32));
	u32 parent = le32_get(*(const le32 *)p), first = le32_get(de->inode);
	s64 more = ck_inline_more(ck, ci, &value);

	return more >= 0 && !(more % 4) && ext4_ino_public(ck->es, parent) &&
	       (!first || (first != EXT4_INO_ROOT && ext4_ino_public(ck->es, first))) &&
	       le16_get(de->rec_len) >= ext4_dirent_bytes(1) &&
	       le16_get(de->rec_len) <= EXT4_IBLOCK_BYTES - sizeof(le32);
}

bool ck_holds_dir(struct ck *ck, const struct ck_inode *ci)
{
	u32 bytes = ext4_block_bytes(ck->es), first, second;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk = first_block(ck, ci);
	const struct ext4_disk_dirent *de;

	if (ci->flags & EXT4_FL_INLINE_DATA)
		return ext4_has_incompat(ck->es, EXT4_INCOMPAT_INLINE_DATA) && holds_inline_dir(ck, ci);
	if (!blk || !ck_read(ck, blk, &bh))
		return false;
	de = bh->data;
	first = ext4_rec_len(de->rec_len, bytes);
	if (le32_get(de->inode) != ci->ino || de->name_len != 1 || ext4_dirent_name(de)[0] != '.' ||
	    first < ext4_dirent_bytes(1) || first % 4 || first > bytes - ext4_dirent_bytes(2))
		return false;
	de = (const void *)((const u8 *)bh->data + first);
	second = ext4_rec_len(de->rec_len, bytes);
	return de->name_len == 2 && !memcmp(ext4_dirent_name(de), "..", 2) && second <= bytes - first &&
	       second >= ext4_dirent_bytes(2) && !(second % 4);
}
