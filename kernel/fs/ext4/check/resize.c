/* The inode that has the room for more descriptors: lib/ext2fs/res_gdt.c of e2fsprogs. */
#include "check.h"

#include "lib/scope.h"

/* True: the block points to those in the copies, or it cannot be read, which was said. */
static bool resize_block_ok(struct ck *ck, u64 gdt_blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ext4_pointers_per_block(ck->es);
	const le32 *ptr;
	bool more = true;

	if (!ck_read(ck, gdt_blk, &bh))
		return true;
	ptr = bh->data;
	for (u32 i = 0; i < per; i++) {
		u64 super = more ? ext4_super_copy_blk(ck->es, i + 1) : 0;

		more = super;

		if (le32_get(ptr[i]) != (u32)(super ? super - ck->es->first_data_blk + gdt_blk : 0))
			return false;
	}
	return true;
}

static const char *resize_inode_wrong(const struct ck *ck, const struct ck_inode *ci, u64 dind)
{
	const struct ext4_super *es = ck->es;
	const le32 *root = (const void *)ci->raw->block;

	for (u32 i = 0; i < EXT4_NDIR + 3; i++)
		if ((i != EXT4_NDIR + 1) == !!le32_get(root[i]))
			return "its pointers";
	if (!S_ISREG(ci->mode) || ci->flags & EXT4_FL_EXTENTS)
		return "not a file of pointers";
	if (!ext4_blocks_ok(es, dind, 1))
		return "its map lies where none can";
	if (ext4_inode_blocks_512(es, ci->raw) != ext4_resize_clusters(es)
							  << (es->cluster_bits + es->block_bits - 9))
		return "its number of blocks";
	return NULL;
}

/* What the i-th pointer of the map has to be: a block that is kept; 0: nothing. */
static u64 map_pointer(const struct ck *ck, u32 i)
{
	const struct ext4_super *es = ck->es;
	u32 per = ext4_pointers_per_block(es), nth = (i + per - es->gdt_blocks % per) % per;

	return nth < le16_get(es->disk.reserved_gdt_blocks) ? es->super_blk + 1 + es->gdt_blocks + nth : 0;
}

/* The block is the map, if perhaps a damaged one: a part of it is right. Else it is somebody else's. */
static bool is_map(struct ck *ck, u64 blk)
{
	u32 per = ext4_pointers_per_block(ck->es);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const le32 *ptr;

	if (!ext4_blocks_ok(ck->es, blk, 1))
		return false;
	if (!le16_get(ck->es->disk.reserved_gdt_blocks) || !ck_read(ck, blk, &bh))
		return true;
	ptr = bh->data;
	for (u32 i = 0; i < per; i++)
		if (map_pointer(ck, i) && le32_get(ptr[i]) == map_pointer(ck, i))
			return true;
	return false;
}

void ck_resize(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ext4_pointers_per_block(es);
	u64 dind = le32_get(((const le32 *)(const void *)ci->raw->block)[EXT4_NDIR + 1]);
	const char *bad = resize_inode_wrong(ck, ci, dind);

	if (!dind && !le16_get(es->disk.reserved_gdt_blocks))
		return;
	if (is_map(ck, dind) && ck_take(ck, ci, dind))
		ck->resize_blk = dind;
	if (ck->again || (!bad && !ck_read(ck, dind, &bh)))
		return;
	for (u32 i = 0; bh && i < per && ck_goes_on(ck) && !bad; i++) {
		u64 blk = map_pointer(ck, i);

		if (le32_get(((const le32 *)bh->data)[i]) != blk)
			bad = "not the blocks that are kept";
		else if (blk && !resize_block_ok(ck, blk))
			bad = "those of a copy";
	}
	if (bad && ck_fix(ck, CK_RESIZE, ci->ino, "%s", bad))
		ck->own |= CK_OWN_RESIZE;
}
