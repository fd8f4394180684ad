/* Inodes as they have to be after mending: members that belong together, and onto the device. */
#include "check.h"

#include "lib/scope.h"

#define BLOCKS_512_MAX 0xffffffffffffull

void ck_inode_put(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk;
	u32 off;

	ci->changed = false;
	if (es->metadata_csum && (le16_get(ci->raw->mode) || ci->ino < es->first_ino))
		ext4_csum_inode_put(es, ext4_csum_inode_seed(es, (u32)ci->ino, le32_get(ci->raw->generation)),
				    ci->raw);
	if (ext4_inode_where(es, ci->ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return;
	memcpy((u8 *)bh->data + off, ci->raw, es->inode_bytes);
	ck_put(ck, bh);
}

void ck_inode_forget(struct ck *ck, struct ck_inode *ci)
{
	struct ck_ino *in = ck_ino(ck, ci->ino);

	memset(ci->raw, 0, ck->es->inode_bytes);
	ci->changed = ck->stale = true;
	if (in)
		*in = (struct ck_ino){ .flags = in->flags & CK_ORPHAN };
}

void ck_inode_set_flags(struct ck_inode *ci, u32 clear, u32 set)
{
	ci->flags = (ci->flags & ~clear) | set;
	ci->raw->flags = le32_put(ci->flags);
	ci->changed = true;
}

void ck_inode_set_size(struct ck_inode *ci, u64 size_bytes)
{
	ci->size_bytes = size_bytes;
	ci->raw->size_lo = le32_put((u32)size_bytes);
	ci->raw->size_hi = le32_put((u32)(size_bytes >> 32));
	ci->changed = true;
}

void ck_inode_set_blocks(const struct ck *ck, struct ck_inode *ci, u64 blocks_512)
{
	const struct ext4_super *es = ck->es;
	bool huge = blocks_512 > BLOCKS_512_MAX;

	if (huge)
		blocks_512 >>= es->block_bits - 9;
	ck_inode_set_flags(ci, EXT4_FL_HUGE_FILE, huge ? EXT4_FL_HUGE_FILE : 0);
	ci->raw->blocks_lo = le32_put((u32)blocks_512);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE))
		ci->raw->blocks_hi = le16_put((u16)(blocks_512 >> 32));
}

void ck_not_mended(struct ck *ck, enum ck_code code, u64 nr, const char *why)
{
	ck->sum->mended -= ck->sum->mended > 0;
	ck_say(ck, code, nr, "%s", why);
}

void ck_feature_set(struct ck *ck, u32 incompat, u32 ro_compat)
{
	struct ext4_disk_super *d = &ck->es->disk;

	d->feature_incompat = le32_put(le32_get(d->feature_incompat) | incompat);
	d->feature_ro_compat = le32_put(le32_get(d->feature_ro_compat) | ro_compat);
	ck_super_put(ck);
}
