/*
 * The checksums of ext4, each as a function of the bytes it covers.
 *
 *   - All but gdt_csum are crc32c, without final inversion. What belongs to the volume starts from the volume's
 *     seed; what belongs to an inode (the inode, its extent nodes, its directory blocks) from the inode's seed,
 *     which is the volume's seed continued over the inode's number and generation.
 *   - The superblock is the exception: it starts from ~0.
 *   - The place of the sum itself counts as zeros, or lies behind what is covered.
 *
 * Nothing here compares: the caller does, and knows how many bits are stored.
 */
#include "ext4.h"

#include "lib/crc.h"

static const u8 zeros[4];

u32 ext4_csum_super(const struct ext4_disk_super *d)
{
	return crc32c(~0u, d, offsetof(struct ext4_disk_super, checksum));
}

/* crc16 continues from the volume's UUID, crc32c from its seed. */
u16 ext4_csum_group(const struct ext4_super *es, u32 group, const void *desc)
{
	const u8 *p = desc;
	const u32 at = offsetof(struct ext4_disk_group, checksum), rest = at + sizeof(le16);
	le32 nr = le32_put(group);
	u16 c16;
	u32 c;

	if (es->metadata_csum) {
		c = crc32c(es->csum_seed, &nr, sizeof(nr));
		c = crc32c(c, p, at);
		c = crc32c(c, zeros, sizeof(le16));
		return (u16)crc32c(c, p + rest, es->desc_bytes - rest);
	}
	c16 = crc16(0xffff, es->disk.uuid, sizeof(es->disk.uuid));
	c16 = crc16(c16, &nr, sizeof(nr));
	c16 = crc16(c16, p, at);
	return crc16(c16, p + rest, es->desc_bytes - rest);
}

u32 ext4_csum_inode_seed(const struct ext4_super *es, u32 ino, u32 generation)
{
	le32 nr = le32_put(ino), gen = le32_put(generation);

	return crc32c(crc32c(es->csum_seed, &nr, sizeof(nr)), &gen, sizeof(gen));
}

/* Four bytes are mixed with the sum before anything becomes of them: what makes them equal once makes them equal for good. */
u32 ext4_csum_generation(const struct ext4_super *es, u32 from, u32 generation, u32 to)
{
	le32 a = le32_put(from), b = le32_put(to);

	return generation ^ crc32c(es->csum_seed, &a, sizeof(a)) ^ crc32c(es->csum_seed, &b, sizeof(b));
}

/* The high half is stored when the inode's fields reach it. */
static bool inode_has_csum_hi(const struct ext4_super *es, const struct ext4_disk_inode *raw)
{
	return es->inode_bytes > EXT4_INODE_BYTES_OLD &&
	       EXT4_INODE_BYTES_OLD + le16_get(raw->extra_isize) >=
		       offsetof(struct ext4_disk_inode, checksum_hi) + sizeof(le16);
}

u32 ext4_csum_inode(const struct ext4_super *es, u32 seed, const struct ext4_disk_inode *raw)
{
	const u8 *p = (const u8 *)raw;
	const u32 lo = offsetof(struct ext4_disk_inode, checksum_lo),
		  hi = offsetof(struct ext4_disk_inode, checksum_hi);
	u32 at = lo + sizeof(le16), c;

	c = crc32c(seed, p, lo);
	c = crc32c(c, zeros, sizeof(le16));
	if (inode_has_csum_hi(es, raw)) {
		c = crc32c(c, p + at, hi - at);
		c = crc32c(c, zeros, sizeof(le16));
		at = hi + sizeof(le16);
	}
	return crc32c(c, p + at, es->inode_bytes - at);
}

u32 ext4_csum_inode_stored(const struct ext4_super *es, const struct ext4_disk_inode *raw, u32 *mask)
{
	u32 sum = le16_get(raw->checksum_lo);

	*mask = 0xffff;
	if (inode_has_csum_hi(es, raw)) {
		sum |= (u32)le16_get(raw->checksum_hi) << 16;
		*mask = ~0u;
	}
	return sum;
}

void ext4_csum_inode_put(const struct ext4_super *es, u32 seed, struct ext4_disk_inode *raw)
{
	u32 sum = ext4_csum_inode(es, seed, raw);

	raw->checksum_lo = le16_put((u16)sum);
	if (inode_has_csum_hi(es, raw))
		raw->checksum_hi = le16_put((u16)(sum >> 16));
}

u32 ext4_csum_extent(u32 seed, const void *block, u32 tail_off)
{
	return crc32c(seed, block, tail_off);
}

u32 ext4_csum_dir(u32 seed, const void *block, u32 tail_off)
{
	return crc32c(seed, block, tail_off);
}

/* Entries that are not in use are not covered; the tail's first word is. */
u32 ext4_csum_dx(u32 seed, const void *block, u32 entries_off, u32 count,
		 const struct ext4_disk_dx_tail *tail)
{
	u32 c = crc32c(seed, block, entries_off + count * sizeof(struct ext4_disk_dx_entry));

	c = crc32c(c, tail, offsetof(struct ext4_disk_dx_tail, checksum));
	return crc32c(c, zeros, sizeof(le32));
}

/* Shared by inodes, so it starts from the volume's seed and names its own block. */
u32 ext4_csum_xattr(const struct ext4_super *es, u64 blk, const void *block)
{
	const u8 *p = block;
	const u32 at = offsetof(struct ext4_disk_xattr_header, checksum), rest = at + sizeof(le32);
	le64 nr = le64_put(blk);
	u32 c = crc32c(es->csum_seed, &nr, sizeof(nr));

	c = crc32c(c, p, at);
	c = crc32c(c, zeros, sizeof(le32));
	return crc32c(c, p + rest, ext4_block_bytes(es) - rest);
}

/* The bits in use, not the block. */
u32 ext4_csum_bitmap(const struct ext4_super *es, const void *bitmap, u32 bits)
{
	return crc32c(es->csum_seed, bitmap, bits / 8);
}

u32 ext4_csum_orphan(u32 seed, u64 blk, const void *block, u32 bytes)
{
	le64 nr = le64_put(blk);

	return crc32c(crc32c(seed, &nr, sizeof(nr)), block, bytes);
}

u32 ext4_csum_mmp(u32 seed, const struct ext4_disk_mmp *mmp)
{
	return crc32c(seed, mmp, offsetof(struct ext4_disk_mmp, checksum));
}

u32 ext4_csum_fc(u32 sum, const struct ext4_disk_fc_tl *tail)
{
	return crc32c(sum, tail, sizeof(*tail) + offsetof(struct ext4_disk_fc_tail, crc));
}
