/*
 * Makes every ext4 checksum valid for a program linked with it: the linker sends the calls of the sums here
 * (--wrap, see the Makefile), and here each answers what the volume has stored. That is what re-sealing every
 * block after a mutation would come to, so a fuzzer's input is judged by the parsers and not by its checksum.
 */
#include "ext4/ext4.h"
#include "jbd2/journal.h"

u32 __wrap_ext4_csum_super(const struct ext4_disk_super *d);
u16 __wrap_ext4_csum_group(const struct ext4_super *es, u32 group, const void *desc);
u32 __wrap_ext4_csum_inode(const struct ext4_super *es, u32 seed, const struct ext4_disk_inode *raw);
u32 __wrap_ext4_csum_extent(u32 seed, const void *block, u32 tail_off);
u32 __wrap_ext4_csum_dir(u32 seed, const void *block, u32 tail_off);
u32 __wrap_ext4_csum_dx(u32 seed, const void *block, u32 entries_off, u32 count,
			const struct ext4_disk_dx_tail *tail);
u32 __wrap_ext4_csum_xattr(const struct ext4_super *es, u64 blk, const void *block);
u32 __wrap_ext4_csum_mmp(u32 seed, const struct ext4_disk_mmp *mmp);
u32 __wrap_ext4_csum_fc(u32 sum, const struct ext4_disk_fc_tl *tail);
u32 __wrap_jbd2_super_csum(const struct jbd2_disk_super *sb);
bool __wrap_jbd2_tail_good(const struct jbd2 *j, const void *block);
bool __wrap_jbd2_commit_good(const struct jbd2 *j, const void *block);
bool __wrap_jbd2_tag_good(const struct jbd2 *j, const void *tag, u32 sequence, const void *block);

u32 __wrap_ext4_csum_super(const struct ext4_disk_super *d)
{
	return le32_get(d->checksum);
}

u16 __wrap_ext4_csum_group(const struct ext4_super *es, u32 group, const void *desc)
{
	(void)es, (void)group;
	return le16_get(((const struct ext4_disk_group *)desc)->checksum);
}

u32 __wrap_ext4_csum_inode(const struct ext4_super *es, u32 seed, const struct ext4_disk_inode *raw)
{
	u32 mask;

	(void)seed;
	return ext4_csum_inode_stored(es, raw, &mask);
}

u32 __wrap_ext4_csum_extent(u32 seed, const void *block, u32 tail_off)
{
	(void)seed;
	return le32_get(*(const le32 *)((const u8 *)block + tail_off));
}

u32 __wrap_ext4_csum_dir(u32 seed, const void *block, u32 tail_off)
{
	(void)seed;
	/* The tail is a directory record of 8 bytes, then the sum. */
	return le32_get(*(const le32 *)((const u8 *)block + tail_off + 8));
}

u32 __wrap_ext4_csum_dx(u32 seed, const void *block, u32 entries_off, u32 count,
			const struct ext4_disk_dx_tail *tail)
{
	(void)seed, (void)block, (void)entries_off, (void)count;
	return le32_get(tail->checksum);
}

u32 __wrap_ext4_csum_xattr(const struct ext4_super *es, u64 blk, const void *block)
{
	(void)es, (void)blk;
	return le32_get(((const struct ext4_disk_xattr_header *)block)->checksum);
}

u32 __wrap_ext4_csum_mmp(u32 seed, const struct ext4_disk_mmp *mmp)
{
	(void)seed;
	return le32_get(mmp->checksum);
}

u32 __wrap_ext4_csum_fc(u32 sum, const struct ext4_disk_fc_tl *tail)
{
	(void)sum;
	return le32_get(((const struct ext4_disk_fc_tail *)(tail + 1))->crc);
}

u32 __wrap_jbd2_super_csum(const struct jbd2_disk_super *sb)
{
	return be32_get(sb->checksum);
}

bool __wrap_jbd2_tail_good(const struct jbd2 *j, const void *block)
{
	(void)j, (void)block;
	return true;
}

bool __wrap_jbd2_commit_good(const struct jbd2 *j, const void *block)
{
	(void)j, (void)block;
	return true;
}

bool __wrap_jbd2_tag_good(const struct jbd2 *j, const void *tag, u32 sequence, const void *block)
{
	(void)j, (void)tag, (void)sequence, (void)block;
	return true;
}
