/*
 * Finding a superblock that can be believed: its magic, checksum and geometry are right. Every number that an
 * address is computed from is bounded here, so that no computation after it can overflow or leave the device.
 *
 * When the primary is damaged the copies are tried, at the places where mke2fs puts them.
 */
#include "ext4.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUPS_MAX (1u << 31)

bool ext4_sb_has_spare(const struct ext4_disk_super *d)
{
	return le32_get(d->feature_compat) & EXT4_COMPAT_HAS_JOURNAL &&
	       le32_get(d->journal_inum) == EXT4_INO_SPARE;
}

/* ---- is it a superblock? ---- */

u64 ext4_sb_blocks(const struct ext4_disk_super *d)
{
	u64 n = le32_get(d->blocks_count_lo);

	return le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT
		       ? n | (u64)le32_get(d->blocks_count_hi) << 32
		       : n;
}

u32 ext4_sb_inode_bytes(const struct ext4_disk_super *d)
{
	return le32_get(d->rev_level) ? le16_get(d->inode_size) : EXT4_INODE_BYTES_OLD;
}

u32 ext4_sb_desc_bytes(const struct ext4_disk_super *d)
{
	return le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT ? le16_get(d->desc_size)
								   : EXT4_DESC_BYTES_MIN;
}

u32 ext4_sb_cluster_bits(const struct ext4_disk_super *d)
{
	bool bigalloc = le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_BIGALLOC;

	return bigalloc ? le32_get(d->log_cluster_size) - le32_get(d->log_block_size) : 0;
}

u32 ext4_sb_first_ino(const struct ext4_disk_super *d)
{
	return le32_get(d->rev_level) ? le32_get(d->first_ino) : EXT4_FIRST_INO_REV0;
}

/* Sizes that are given by themselves. */
static const char *sizes_wrong(const struct ext4_disk_super *d)
{
	u32 bits = le32_get(d->log_block_size), cluster = le32_get(d->log_cluster_size), block;

	if (bits > EXT4_BLOCK_BITS_MAX - EXT4_BLOCK_BITS_MIN)
		return "impossible block size";
	block = 1024u << bits;
	if (le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_BIGALLOC &&
	    (cluster < bits || cluster > EXT4_CLUSTER_BYTES_MAX_BITS - EXT4_BLOCK_BITS_MIN))
		return "impossible cluster size";
	if (ext4_sb_inode_bytes(d) < EXT4_INODE_BYTES_OLD || ext4_sb_inode_bytes(d) > block ||
	    !is_pow2(ext4_sb_inode_bytes(d)))
		return "impossible inode size";
	if (!is_pow2(ext4_sb_desc_bytes(d)) || ext4_sb_desc_bytes(d) > EXT4_DESC_BYTES_MAX ||
	    (le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT &&
	     ext4_sb_desc_bytes(d) < EXT4_DESC_BYTES_64BIT))
		return "impossible size of group descriptors";
	if (le16_get(d->reserved_gdt_blocks) > block / 4)
		return "too many reserved descriptor blocks";
	return NULL;
}

/* Sizes of a group. sizes_wrong said no. */
static const char *group_wrong(const struct ext4_disk_super *d)
{
	u32 block = 1024u << le32_get(d->log_block_size), bits = block * 8, ratio = ext4_sb_cluster_bits(d);
	u32 per_group = le32_get(d->blocks_per_group), inodes = le32_get(d->inodes_per_group);
	u32 per_block = block / ext4_sb_inode_bytes(d);
	u64 clusters = ratio ? le32_get(d->clusters_per_group) : per_group;

	if (!per_group || !clusters || clusters > bits || clusters << ratio != per_group)
		return "impossible number of blocks in a group";
	if (inodes < per_block || inodes > bits)
		return "impossible number of inodes in a group";
	return NULL;
}

/* How the volume is divided. group_wrong said no. */
static const char *layout_wrong(const struct ext4_disk_super *d)
{
	u32 block = 1024u << le32_get(d->log_block_size), per_group = le32_get(d->blocks_per_group);
	u64 blocks = ext4_sb_blocks(d), first = le32_get(d->first_data_block), groups;
	u32 first_ino = ext4_sb_first_ino(d);

	if (first != (block == 1024 && !ext4_sb_cluster_bits(d)))
		return "impossible first block";
	if (blocks <= first + 1 || blocks >> 48)
		return "impossible number of blocks";
	groups = DIV_ROUND_UP(blocks - first, per_group);
	if (groups >= GROUPS_MAX)
		return "too many groups";
	if (groups * le32_get(d->inodes_per_group) != le32_get(d->inodes_count))
		return "the number of inodes is not that of all groups";
	if (first_ino < EXT4_FIRST_INO_REV0 || first_ino > le32_get(d->inodes_count))
		return "impossible number of reserved inodes";
	return NULL;
}

static const char *geometry_wrong(const struct ext4_disk_super *d)
{
	const char *bad = sizes_wrong(d);

	if (!bad)
		bad = group_wrong(d);
	return bad ? bad : layout_wrong(d);
}

static int super_check(struct blkdev *dev, const struct ext4_disk_super *d)
{
	const char *bad = NULL;
	u64 blocks = ext4_sb_blocks(d);
	int err;

	if (le16_get(d->magic) != EXT4_MAGIC)
		return fail(-EINVAL, "%s: no ext2, ext3 or ext4 superblock", dev->name);
	if (le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM) {
		if (d->checksum_type != EXT4_CHECKSUM_CRC32C)
			bad = "unknown kind of checksums";
		else if (ext4_csum_super(d) != le32_get(d->checksum))
			bad = "wrong checksum";
	}
	if (bad)
		return fail(-EUCLEAN, "%s: the superblock is damaged: %s", dev->name, bad);
	err = ext4_feature_check(d);
	if (err)
		return err;
	bad = geometry_wrong(d);
	if (bad)
		return fail(-EUCLEAN, "%s: the superblock is damaged: %s", dev->name, bad);
	if (blocks > dev->size_bytes >> (EXT4_BLOCK_BITS_MIN + le32_get(d->log_block_size)))
		return fail(-EUCLEAN,
			    "%s: the volume has %llu blocks of %u bytes, more than fit: it is cut off",
			    dev->name, (unsigned long long)blocks, 1024u << le32_get(d->log_block_size));
	return 0;
}

/* ---- finding one ---- */

static int super_at(struct blkdev *dev, u64 off, struct ext4_disk_super *out)
{
	int err;

	if (off > dev->size_bytes || dev->size_bytes - off < sizeof(*out))
		return fail(-EINVAL, "%s: too small for an ext4 volume", dev->name);
	err = blkdev_read(dev, off, out, sizeof(*out));
	return err ? err : super_check(dev, out);
}

/* A copy in block `blk`, if blocks have 1 << bits bytes. */
static int copy_at(struct blkdev *dev, u64 blk, u32 bits, struct ext4_disk_super *out)
{
	int err;

	if (blk > dev->size_bytes >> bits)
		return -EINVAL;
	err = super_at(dev, blk << bits, out);
	if (!err && le32_get(out->log_block_size) + EXT4_BLOCK_BITS_MIN != bits)
		return -EINVAL;
	return err;
}

int ext4_sb_copy(struct blkdev *dev, u32 nth, struct ext4_disk_super *out, u64 *off)
{
	static const u32 group[] = { 1, 3, 5, 7, 9, 25 };

	for (u32 bits = EXT4_BLOCK_BITS_MIN; bits <= EXT4_BLOCK_BITS_MAX; bits++)
		for (u32 i = 0; i < ARRAY_SIZE(group); i++) {
			u64 blk = ((u64)group[i] << (bits + 3)) + (bits == EXT4_BLOCK_BITS_MIN);

			if (!copy_at(dev, blk, bits, out) && !nth--) {
				*off = blk << bits;
				return 0;
			}
		}
	return -EINVAL;
}

int ext4_sb_copy_behind(struct blkdev *dev, const struct ext4_disk_super *damaged, u32 nth,
			struct ext4_disk_super *out, u64 *off)
{
	const u32 group[] = {
		1, 3, 5, 7, le32_get(damaged->backup_bgs[0]), le32_get(damaged->backup_bgs[1])
	};
	u32 bits = EXT4_BLOCK_BITS_MIN + le32_get(damaged->log_block_size);

	if (le16_get(damaged->magic) != EXT4_MAGIC ||
	    le32_get(damaged->log_block_size) > EXT4_BLOCK_BITS_MAX || bits > EXT4_BLOCK_BITS_MAX)
		return -EINVAL;
	for (u32 i = 0; i < ARRAY_SIZE(group); i++) {
		u64 blk = le32_get(damaged->first_data_block) +
			  (u64)group[i] * le32_get(damaged->blocks_per_group);

		if (group[i] && !copy_at(dev, blk, bits, out) && !nth--) {
			*off = blk << bits;
			return 0;
		}
	}
	return -EINVAL;
}

/* ---- a superblock that was written by half ---- */

/* Numbers that stay as long as nobody resizes or tunes the volume: they are the same in every copy. */
bool ext4_sb_same_volume(const struct ext4_disk_super *a, const struct ext4_disk_super *b)
{
	const u32 compat = EXT4_COMPAT_EXT_ATTR, incompat = EXT4_INCOMPAT_RECOVER,
		  ro_compat = EXT4_RO_COMPAT_LARGE_FILE | EXT4_RO_COMPAT_ORPHAN_PRESENT;

#define SAME(field) (!memcmp(&a->field, &b->field, sizeof(a->field)))
	return SAME(inodes_count) && SAME(blocks_count_lo) && SAME(blocks_count_hi) &&
	       SAME(first_data_block) && SAME(log_block_size) && SAME(log_cluster_size) &&
	       SAME(blocks_per_group) && SAME(clusters_per_group) && SAME(inodes_per_group) &&
	       SAME(rev_level) && SAME(first_ino) && SAME(inode_size) && SAME(uuid) && SAME(journal_uuid) &&
	       SAME(journal_inum) && SAME(hash_seed) && SAME(desc_size) && SAME(first_meta_bg) &&
	       SAME(log_groups_per_flex) && SAME(checksum_type) && SAME(checksum_seed) &&
	       SAME(orphan_file_inum) &&
	       !((le32_get(a->feature_compat) ^ le32_get(b->feature_compat)) & ~compat) &&
	       !((le32_get(a->feature_incompat) ^ le32_get(b->feature_incompat)) & ~incompat) &&
	       !((le32_get(a->feature_ro_compat) ^ le32_get(b->feature_ro_compat)) & ~ro_compat);
#undef SAME
}

/*
 * A volume that grew says so first, and its copies later; and applying a journal may bring back, for a moment, what it said before. So other sizes, and
 * another place of descriptors, are no sign of damage.
 */
static void grow_to(struct ext4_disk_super *copy, const struct ext4_disk_super *d)
{
	const u32 compat = EXT4_COMPAT_RESIZE_INODE, incompat = EXT4_INCOMPAT_META_BG;

	if (ext4_sb_blocks(d) < ext4_sb_blocks(copy) &&
	    !(le32_get(d->feature_incompat) & EXT4_INCOMPAT_RECOVER))
		return;
	copy->inodes_count = d->inodes_count;
	copy->blocks_count_lo = d->blocks_count_lo;
	copy->blocks_count_hi = d->blocks_count_hi;
	copy->first_meta_bg = d->first_meta_bg;
	copy->feature_compat =
		le32_put((le32_get(copy->feature_compat) & ~compat) | (le32_get(d->feature_compat) & compat));
	copy->feature_incompat = le32_put((le32_get(copy->feature_incompat) & ~incompat) |
					  (le32_get(d->feature_incompat) & incompat));
}

/* While a volume is mended its journal may be another one, of which copies say nothing; and what its second sector says is brought by that. */
static void take_spare(struct ext4_disk_super *copy, const struct ext4_disk_super *d)
{
	if (le32_get(d->feature_incompat) & EXT4_INCOMPAT_RECOVER)
		copy->orphan_file_inum = d->orphan_file_inum;
	if (!ext4_sb_has_spare(d))
		return;
	copy->journal_inum = d->journal_inum;
	copy->feature_compat = le32_put(le32_get(copy->feature_compat) | EXT4_COMPAT_HAS_JOURNAL);
}

/* Of a volume without copies: something that the superblock leads to has a right checksum: the first descriptor, or one of the inodes that every volume has. */
static bool is_borne_out(struct blkdev *dev, const struct ext4_disk_super *d)
{
	static const u32 ino[] = { EXT4_INO_ROOT, EXT4_INO_RESIZE, EXT4_INO_JOURNAL, EXT4_FIRST_INO_REV0 };
	scoped(freep) struct ext4_super *es = calloc(1, sizeof(*es));
	scoped(freep) u8 *block = malloc(1u << EXT4_BLOCK_BITS_MAX);
	struct ext4_group g;
	u64 bytes, table;

	if (!es || !block)
		return false;
	es->disk = *d;
	ext4_sb_fill(es);
	bytes = ext4_block_bytes(es);
	if (!es->metadata_csum || ext4_super_copy_blk(es, 1) ||
	    blkdev_read(dev, ext4_group_desc_blk(es, 0, 0) * bytes, block, bytes))
		return false;
	ext4_group_decode(es, block, &g);
	if (ext4_csum_group(es, 0, block) == le16_get(((struct ext4_disk_group *)(void *)block)->checksum))
		return true;
	table = g.inode_table * bytes;
	if (es->blocks <= g.inode_table || es->inodes < EXT4_FIRST_INO_REV0)
		return false;
	for (u32 i = 0; i < ARRAY_SIZE(ino); i++)
		if (!blkdev_read(dev, table + (u64)(ino[i] - 1) * es->inode_bytes, block, es->inode_bytes) &&
		    le16_get(((struct ext4_disk_inode *)(void *)block)->mode) &&
		    ext4_inode_sum_ok(es, ino[i], (void *)block))
			return true;
	return false;
}

/*
 * A device with sectors of 512 bytes may have written one half of the superblock when the power went. All that changes while a volume
 * is in use is in the first half, but for the checksum and what is no news of an error (its code, and the high byte of its time): so a superblock of which only that is wrong, and which says of the volume what
 * a good copy says, is whole, as it was before that write or after it. Its checksum is set in memory; the next write mends it. Where there are no copies,
 * on a volume of one group, less is known: there the checksum stays wrong, and the volume is read, and checked, but not written.
 */
static bool half_written(struct blkdev *dev, struct ext4_disk_super *out)
{
	const u64 group[] = { 1, 3, 5, 7, le32_get(out->backup_bgs[0]), le32_get(out->backup_bgs[1]) };
	struct ext4_disk_super mended = *out, *d = &mended, copy;

	d->checksum = le32_put(ext4_csum_super(d));
	if (super_check(dev, d))
		return false;
	for (u32 i = 0; i < ARRAY_SIZE(group); i++) {
		u64 blk = le32_get(d->first_data_block) + group[i] * le32_get(d->blocks_per_group);

		if (!group[i] || blk >= ext4_sb_blocks(d) ||
		    copy_at(dev, blk, EXT4_BLOCK_BITS_MIN + le32_get(d->log_block_size), &copy))
			continue;
		grow_to(&copy, d);
		take_spare(&copy, d);
		if (ext4_sb_same_volume(d, &copy)) {
			*out = mended;
			return true;
		}
	}
	return is_borne_out(dev, d);
}

int ext4_sb_read(struct blkdev *dev, const struct mount_opts *opts, struct ext4_disk_super *out, u64 *off)
{
	struct ext4_disk_super copy;
	char why[256];
	int err;

	memset(out, 0, sizeof(*out));
	if (opts->sb_block) {
		for (u32 bits = EXT4_BLOCK_BITS_MIN; bits <= EXT4_BLOCK_BITS_MAX; bits++) {
			*off = opts->sb_block << bits;
			if (opts->sb_block_bytes && opts->sb_block_bytes != 1u << bits)
				continue;
			if (!copy_at(dev, opts->sb_block, bits, out))
				return 0;
		}
		return fail(-EINVAL, "%s: no superblock in block %llu", dev->name,
			    (unsigned long long)opts->sb_block);
	}
	*off = EXT4_SUPER_OFF;
	err = super_at(dev, *off, out);
	if (!err || err == -EOPNOTSUPP)
		return err;
	snprintf(why, sizeof(why), "%s", err_text());
	if (half_written(dev, out))
		return 0;
	if (ext4_sb_copy(dev, 0, &copy, off) && ext4_sb_copy_behind(dev, out, 0, &copy, off))
		return fail(err, "%s", why);
	*out = copy;
	return 0;
}

/* Of two numbers that must agree, the one that mkfs cannot have made becomes what the other says. */
static bool set_inodes(struct ext4_disk_super *d, u64 groups)
{
	u32 per_group = le32_get(d->inodes_per_group), all = le32_get(d->inodes_count),
	    per_block = (1024u << le32_get(d->log_block_size)) / ext4_sb_inode_bytes(d);

	if ((per_group % per_block || per_group % 8) && groups <= all && all % groups == 0)
		d->inodes_per_group = le32_put(all / (u32)groups);
	else if (groups <= UINT32_MAX / per_group)
		d->inodes_count = le32_put((u32)groups * per_group);
	else
		return false;
	return true;
}

bool ext4_sb_count_inodes(struct blkdev *dev, struct ext4_disk_super *out)
{
	bool sums;
	u64 groups;

	if (blkdev_read(dev, EXT4_SUPER_OFF, out, sizeof(*out)) || le16_get(out->magic) != EXT4_MAGIC)
		return false;
	sums = le32_get(out->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM;
	if ((sums && ext4_csum_super(out) != le32_get(out->checksum)) || sizes_wrong(out) || group_wrong(out))
		return false;
	groups = DIV_ROUND_UP(ext4_sb_blocks(out) - le32_get(out->first_data_block),
			      le32_get(out->blocks_per_group));
	if (!groups || !set_inodes(out, groups))
		return false;
	if (sums)
		out->checksum = le32_put(ext4_csum_super(out));
	return !super_check(dev, out);
}

/* ---- its numbers in memory ---- */

static void fill_features(struct ext4_super *es)
{
	const struct ext4_disk_super *d = &es->disk;

	es->variant = ext4_feature_variant(d);
	es->compat = le32_get(d->feature_compat);
	es->incompat = le32_get(d->feature_incompat);
	es->ro_compat = le32_get(d->feature_ro_compat);
	es->metadata_csum = ext4_has_ro_compat(es, EXT4_RO_COMPAT_METADATA_CSUM);
	es->desc_csum = es->metadata_csum || ext4_has_ro_compat(es, EXT4_RO_COMPAT_GDT_CSUM);
	es->filetype = ext4_has_incompat(es, EXT4_INCOMPAT_FILETYPE);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_CSUM_SEED))
		es->csum_seed = le32_get(d->checksum_seed);
	else
		es->csum_seed = crc32c(~0u, d->uuid, sizeof(d->uuid));
	for (u32 i = 0; i < ARRAY_SIZE(es->hash_seed); i++)
		es->hash_seed[i] = le32_get(d->hash_seed[i]);
	es->hash_unsigned = le32_get(d->flags) & EXT4_SUPER_UNSIGNED_HASH;
}

static void fill_geometry(struct ext4_super *es)
{
	const struct ext4_disk_super *d = &es->disk;
	u32 block;

	es->block_bits = EXT4_BLOCK_BITS_MIN + le32_get(d->log_block_size);
	es->cluster_bits = ext4_sb_cluster_bits(d);
	block = 1u << es->block_bits;
	es->blocks = ext4_sb_blocks(d);
	es->kept_root = le32_get(d->r_blocks_count_lo);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		es->kept_root |= (u64)le32_get(d->r_blocks_count_hi) << 32;
	es->first_data_blk = le32_get(d->first_data_block);
	es->super_blk = EXT4_SUPER_OFF >> es->block_bits;
	es->blocks_per_group = le32_get(d->blocks_per_group);
	es->clusters_per_group = es->blocks_per_group >> es->cluster_bits;
	es->inodes_per_group = le32_get(d->inodes_per_group);
	es->inodes = le32_get(d->inodes_count);
	es->inode_bytes = ext4_sb_inode_bytes(d);
	es->inodes_per_block = block / es->inode_bytes;
	es->itable_blocks = DIV_ROUND_UP(es->inodes_per_group, es->inodes_per_block);
	es->first_ino = ext4_sb_first_ino(d);
	es->groups = (u32)DIV_ROUND_UP(es->blocks - es->first_data_blk, es->blocks_per_group);
	es->desc_bytes = ext4_sb_desc_bytes(d);
	es->descs_per_block = block / es->desc_bytes;
	es->gdt_blocks = DIV_ROUND_UP(es->groups, es->descs_per_block);
	es->meta_bg_from = ext4_has_incompat(es, EXT4_INCOMPAT_META_BG) ? le32_get(d->first_meta_bg) : ~0u;
	es->vfs.root_ino = EXT4_INO_ROOT;
	es->vfs.block_bytes = block;
	es->vfs.unit_bytes = block << es->cluster_bits;
	es->vfs.size_max_bytes = ext4_file_blocks_max(es, ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
				 << es->block_bits;
	es->vfs.time_gran_ns = es->inode_bytes > EXT4_INODE_BYTES_OLD ? 1 : 1000000000u;
}

void ext4_sb_fill(struct ext4_super *es)
{
	fill_features(es);
	fill_geometry(es);
}

int ext4_one_device(u32 n)
{
	return n == 1 ? 0 : fail(-EINVAL, "an ext4 volume is on one device, not on %u", n);
}
