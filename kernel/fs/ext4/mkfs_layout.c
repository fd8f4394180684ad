/*
 * Options into a superblock: how many blocks, groups and inodes, what is kept for growth, how long the journal is.
 *
 * The numbers settle in rounds: what a group holds depends on how many groups there are, and a last group that is too short for its
 * own tables is cut off, which makes another number of groups.
 *
 * Interface: ext4_mkfs_layout, mkfs.h. Pure: nothing is read or written but the plan.
 */
#include "mkfs.h"

#include "lib/crc.h"
#include <errno.h>
#include <stdlib.h>

#define ORPHAN_BLOCKS_MIN  32u
#define JOURNAL_BLOCKS_MIN 1024u
#define JOURNAL_BLOCKS_MAX 10240000u
#define GROUP_SPARE        50u /* blocks that the last group must have besides its tables */
#define DESC_COUNT_MAX \
	65528u /* that the 16 bits of a descriptor count: of clusters; of inodes a block less than 65536 */
#define INODES_MIN         16u /* those that are reserved, lost+found, the orphan file */
#define EXTRA_ISIZE        32u
#define MOUNT_USER_XATTR   0x4u /* default_mount_opts: fs/ext4/ext4.h of Linux */
#define MOUNT_ACL          0x8u
#define CIPHER_AES_256_XTS 1u /* encrypt_algos */
#define CIPHER_AES_256_CTS 4u

/* The numbers while they settle. */
struct rounds {
	const struct ext4_mkfs_opts *o;
	struct ext4_disk_super *d;
	u32 block, ratio; /* bytes; blocks of a cluster */
	u32 desc_bytes, first_data_blk;
	u64 blocks_asked, blocks, reserved_asked, reserved;
	u32 per_group, inodes_per_group, groups, gdt_blocks, reserved_gdt;
	u32 itable_blocks;
	u32 copies; /* with sparse_super2 */
};

static bool compat(const struct rounds *r, u32 bit)
{
	return le32_get(r->d->feature_compat) & bit;
}

static bool incompat(const struct rounds *r, u32 bit)
{
	return le32_get(r->d->feature_incompat) & bit;
}

static bool ro_compat(const struct rounds *r, u32 bit)
{
	return le32_get(r->d->feature_ro_compat) & bit;
}

static void drop(struct rounds *r, u32 compat_bit)
{
	r->d->feature_compat = le32_put(le32_get(r->d->feature_compat) & ~compat_bit);
}

/* ---- size ---- */

static int size_of(struct rounds *r)
{
	const struct ext4_mkfs_opts *o = r->o;

	r->blocks_asked = o->size_bytes / r->block;
	if (r->blocks_asked >> 32 && incompat(r, EXT4_INCOMPAT_64BIT))
		drop(r, EXT4_COMPAT_RESIZE_INODE);
	else if (r->blocks_asked >> 32)
		return fail(-EINVAL, "%llu blocks of %u bytes: more than 2^32 need the feature 64bit",
			    (unsigned long long)r->blocks_asked, r->block);
	if (r->blocks_asked >> 48)
		return fail(-EINVAL, "%llu blocks are more than a volume can have",
			    (unsigned long long)r->blocks_asked);
	r->blocks = r->blocks_asked & ~(u64)(r->ratio - 1);
	r->reserved_asked = r->blocks_asked * o->reserved_permyriad / 10000;
	r->reserved = r->reserved_asked;
	if (!r->blocks || r->blocks <= r->first_data_blk)
		return fail(-EINVAL, "%llu bytes are too few for a volume with blocks of %u",
			    (unsigned long long)o->size_bytes, r->block);
	return 0;
}

static int group_size(struct rounds *r)
{
	u64 clusters = r->o->blocks_per_group ? r->o->blocks_per_group : 8 * r->block;
	u64 blocks;

	clusters = MIN(clusters, (u64)DESC_COUNT_MAX);
	blocks = clusters * r->ratio;
	if (blocks >> 32)
		return fail(-EINVAL, "clusters of %u blocks make groups of more than 2^32 blocks", r->ratio);
	r->per_group = (u32)blocks;
	return 0;
}

/* ---- inodes ---- */

/* What the files that are said to come need, with those that the volume has of its own: reserved ones, lost+found, the orphan file. */
static u64 inodes_needed(const struct rounds *r)
{
	return r->o->inodes || !r->o->files ? 0 : r->o->files + EXT4_FIRST_INO_REV0 + 1;
}

static int inodes_wanted(struct rounds *r, u64 *out)
{
	const struct ext4_mkfs_opts *o = r->o;
	u64 n = o->inodes ? o->inodes : MAX(r->blocks_asked * r->block / o->inode_ratio, inodes_needed(r));

	if (n > UINT32_MAX && !incompat(r, EXT4_INCOMPAT_64BIT))
		return fail(
			-EINVAL,
			"%llu inodes are more than a volume can have: more bytes for each (-i) make fewer",
			(unsigned long long)n);
	n = MIN(n, (u64)UINT32_MAX);
	if (n * o->inode_bytes >= r->blocks_asked * r->block)
		return fail(-EINVAL,
			    "%llu inodes of %u bytes do not fit into the volume: more bytes for each (-i) "
			    "make fewer",
			    (unsigned long long)n, o->inode_bytes);
	*out = MAX(n, (u64)EXT4_FIRST_INO_REV0 + 1);
	return 0;
}

/* A whole number of blocks of the table, and of bytes of the bitmap. */
static void inodes_round(struct rounds *r, u32 inodes)
{
	u32 per_block = r->block / r->o->inode_bytes;

	inodes = DIV_ROUND_UP(inodes, per_block) * per_block;
	r->inodes_per_group = ALIGN_DOWN(MAX(inodes, 8u), 8u);
	r->itable_blocks = DIV_ROUND_UP(r->inodes_per_group, per_block);
}

/* 0; -EAGAIN: groups were made smaller, so that there are more. */
static int inodes_per_group(struct rounds *r, u64 inodes)
{
	u32 per_block = r->block / r->o->inode_bytes;
	u64 n = DIV_ROUND_UP(inodes, (u64)r->groups);

	if (n > 8ull * r->block) {
		if (ro_compat(r, EXT4_RO_COMPAT_BIGALLOC) || r->per_group < 256)
			return fail(-EINVAL, "%llu inodes are too many for %u groups",
				    (unsigned long long)inodes, r->groups);
		r->per_group -= 8;
		r->blocks = r->blocks_asked;
		return -EAGAIN;
	}
	n = MIN(n, (u64)65536 - per_block);
	do
		inodes_round(r, (u32)n--);
	while ((u64)r->inodes_per_group * r->groups > UINT32_MAX && n);
	if ((u64)r->inodes_per_group * r->groups < inodes_needed(r) &&
	    r->inodes_per_group + 8 <= MIN(8 * r->block, 65536 - per_block))
		inodes_round(r, r->inodes_per_group + 8);
	if ((u64)r->inodes_per_group * r->groups < INODES_MIN)
		inodes_round(r, INODES_MIN);
	return 0;
}

/* ---- descriptors ---- */

/* Descriptor blocks that are kept for growth. */
static int gdt_reserve(struct rounds *r)
{
	u32 per_block = r->block / r->desc_bytes, max = r->block / (u32)sizeof(le32);
	u64 grown = UINT32_MAX, groups;

	r->reserved_gdt = 0;
	if (!compat(r, EXT4_COMPAT_RESIZE_INODE))
		return 0;
	if (r->o->grow_blocks && r->o->grow_blocks <= r->blocks_asked)
		return fail(-EINVAL, "resize=%llu: not more than the volume has, %llu blocks",
			    (unsigned long long)r->o->grow_blocks, (unsigned long long)r->blocks_asked);
	if (r->o->grow_blocks)
		groups = DIV_ROUND_UP(r->o->grow_blocks, (u64)r->per_group);
	else {
		if (r->blocks < grown / 1024)
			grown = r->blocks * 1024;
		groups = DIV_ROUND_UP(grown - r->first_data_blk, (u64)r->per_group);
	}
	groups = DIV_ROUND_UP(groups, (u64)per_block);
	if (groups > r->gdt_blocks)
		r->reserved_gdt = (u32)MIN(groups - r->gdt_blocks, (u64)max);
	return 0;
}

/* Where descriptors would take most of each group that has them, they are spread. */
static void gdt_spread(struct rounds *r)
{
	if (r->reserved_gdt + r->gdt_blocks <= (u64)r->per_group * 3 / 4)
		return;
	r->d->feature_incompat = le32_put(le32_get(r->d->feature_incompat) | EXT4_INCOMPAT_META_BG);
	drop(r, EXT4_COMPAT_RESIZE_INODE);
	r->reserved_gdt = 0;
}

/* ---- rounds ---- */

static bool last_has_copy(const struct rounds *r)
{
	struct ext4_super es = { .compat = le32_get(r->d->feature_compat),
				 .ro_compat = le32_get(r->d->feature_ro_compat) };

	if (compat(r, EXT4_COMPAT_SPARSE_SUPER2))
		return r->groups == 2 ? r->copies >= 1 : r->copies >= 2;
	return ext4_group_has_super(&es, r->groups - 1);
}

/* 0; -EAGAIN: the last group is too short for its tables, and gone. */
static int last_group(struct rounds *r)
{
	u32 tables = 2 + r->itable_blocks, rest = (u32)((r->blocks - r->first_data_blk) % r->per_group);
	u32 base = 1 + (incompat(r, EXT4_INCOMPAT_META_BG) ? 1 : r->gdt_blocks) + r->reserved_gdt;

	if ((u64)tables + base > r->per_group)
		return fail(-EINVAL,
			    "a group of %u blocks is too small for its tables: more bytes for each inode "
			    "(-i) make "
			    "them shorter",
			    r->per_group);
	if (last_has_copy(r))
		tables += 1 + r->gdt_blocks + r->reserved_gdt;
	if (!rest || rest >= tables + GROUP_SPARE)
		return 0;
	if (r->groups == 1)
		return fail(-EINVAL, "%llu blocks of %u bytes are too few for a volume's tables",
			    (unsigned long long)r->blocks, r->block);
	r->blocks -= rest;
	r->reserved = r->reserved_asked * r->blocks / r->blocks_asked;
	return -EAGAIN;
}

static int round_one(struct rounds *r, u64 inodes)
{
	u64 groups = DIV_ROUND_UP(r->blocks - r->first_data_blk, (u64)r->per_group);
	int err;

	if (groups > 1u << 31)
		return fail(-EINVAL, "%llu groups are more than a volume can have",
			    (unsigned long long)groups);
	r->groups = (u32)groups;
	r->gdt_blocks = DIV_ROUND_UP(r->groups, r->block / r->desc_bytes);
	err = inodes_per_group(r, inodes);
	if (!err)
		err = gdt_reserve(r);
	if (err)
		return err;
	gdt_spread(r);
	return last_group(r);
}

/* ---- the superblock ---- */

static void put_counts(const struct rounds *r)
{
	const struct ext4_mkfs_opts *o = r->o;
	struct ext4_disk_super *d = r->d;

	d->inodes_count = le32_put(r->inodes_per_group * r->groups);
	d->blocks_count_lo = le32_put((u32)r->blocks);
	d->r_blocks_count_lo = le32_put((u32)r->reserved);
	d->blocks_count_hi = le32_put((u32)(r->blocks >> 32));
	d->r_blocks_count_hi = le32_put((u32)(r->reserved >> 32));
	d->first_data_block = le32_put(r->first_data_blk);
	d->log_block_size = le32_put(ilog2(r->block) - EXT4_BLOCK_BITS_MIN);
	d->log_cluster_size = le32_put(ilog2(r->block) - EXT4_BLOCK_BITS_MIN + ilog2(r->ratio));
	d->blocks_per_group = le32_put(r->per_group);
	d->clusters_per_group = le32_put(r->per_group / r->ratio);
	d->inodes_per_group = le32_put(r->inodes_per_group);
	d->first_ino = le32_put(EXT4_FIRST_INO_REV0);
	d->inode_size = le16_put((u16)o->inode_bytes);
	if (o->inode_bytes > EXT4_INODE_BYTES_OLD)
		d->min_extra_isize = d->want_extra_isize = le16_put(EXTRA_ISIZE);
	d->reserved_gdt_blocks = le16_put((u16)r->reserved_gdt);
	if (incompat(r, EXT4_INCOMPAT_64BIT))
		d->desc_size = le16_put((u16)r->desc_bytes);
	if (o->groups_per_flex)
		d->log_groups_per_flex = (u8)ilog2(o->groups_per_flex);
	d->raid_stride = le16_put((u16)o->stride);
	d->raid_stripe_width = le32_put(o->stripe_width);
	if (compat(r, EXT4_COMPAT_SPARSE_SUPER2) && r->copies && r->groups > 1)
		d->backup_bgs[0] = le32_put(1);
	if (compat(r, EXT4_COMPAT_SPARSE_SUPER2) && r->copies > 1 && r->groups > 2)
		d->backup_bgs[1] = le32_put(r->groups - 1);
}

static void put_times(struct ext4_disk_super *d, const struct timespec64 *now)
{
	u64 sec = (u64)now->sec;

	d->mkfs_time = d->lastcheck = d->wtime = le32_put((u32)sec);
	d->mkfs_time_hi = d->lastcheck_hi = d->wtime_hi = (u8)(sec >> 32);
}

static void put_names(const struct rounds *r)
{
	const struct ext4_mkfs_opts *o = r->o;
	struct ext4_disk_super *d = r->d;

	memcpy(d->uuid, o->uuid, sizeof(d->uuid));
	memcpy(d->hash_seed, o->hash_seed, sizeof(o->hash_seed));
	memcpy(d->volume_name, o->label, sizeof(d->volume_name));
	d->def_hash_version = EXT4_HASH_HALF_MD4;
	d->flags = le32_put(EXT4_SUPER_SIGNED_HASH);
	if (ro_compat(r, EXT4_RO_COMPAT_METADATA_CSUM))
		d->checksum_type = EXT4_CHECKSUM_CRC32C;
	if (incompat(r, EXT4_INCOMPAT_CSUM_SEED))
		d->checksum_seed = le32_put(crc32c(~0u, d->uuid, sizeof(d->uuid)));
	if (incompat(r, EXT4_INCOMPAT_ENCRYPT)) {
		d->encrypt_algos[0] = CIPHER_AES_256_XTS;
		d->encrypt_algos[1] = CIPHER_AES_256_CTS;
	}
	if (incompat(r, EXT4_INCOMPAT_CASEFOLD))
		d->encoding = le16_put(EXT4_ENCODING_UTF8_12_1);
}

/* The map of the resize inode is in its double pointer, which reaches far behind the end of the volume. */
static void put_large_file(const struct rounds *r)
{
	u64 per = r->block / sizeof(le32);

	if (compat(r, EXT4_COMPAT_RESIZE_INODE) && (per * per + per + EXT4_NDIR) * r->block >> 32)
		r->d->feature_ro_compat =
			le32_put(le32_get(r->d->feature_ro_compat) | EXT4_RO_COMPAT_LARGE_FILE);
}

static void put_rest(const struct rounds *r)
{
	struct ext4_disk_super *d = r->d;

	d->magic = le16_put(EXT4_MAGIC);
	d->state = le16_put(EXT4_STATE_VALID);
	d->errors = le16_put(EXT4_ERRORS_CONTINUE);
	d->max_mnt_count = le16_put(0xffff);
	d->rev_level = le32_put(1);
	d->default_mount_opts = le32_put(MOUNT_USER_XATTR | MOUNT_ACL);
	put_large_file(r);
	put_counts(r);
	put_names(r);
	put_times(d, &r->o->now);
}

/* ---- journal and orphan file ---- */

u32 ext4_mkfs_journal_blocks(u64 blocks)
{
	static const struct {
		u64 below;
		u32 blocks;
	} sizes[] = {
		{ 2048, 0 },           { 32768, 1024 },       { 256 << 10, 4096 },    { 512 << 10, 8192 },
		{ 4096 << 10, 16384 }, { 8192 << 10, 32768 }, { 16384 << 10, 65536 }, { 32768 << 10, 131072 },
		{ ~0ull, 262144 },
	};
	u32 i = 0;

	while (blocks >= sizes[i].below)
		i++;
	return sizes[i].blocks;
}

static int journal_size(const struct rounds *r, struct ext4_mkfs_plan *plan)
{
	u64 n = ext4_mkfs_journal_blocks(r->blocks);

	plan->journal_blocks = 0;
	if (!compat(r, EXT4_COMPAT_HAS_JOURNAL))
		return 0;
	if (r->o->journal_mib) {
		n = ((u64)r->o->journal_mib << 20) / r->block;
		if (n < JOURNAL_BLOCKS_MIN || n > JOURNAL_BLOCKS_MAX)
			return fail(-EINVAL,
				    "a journal of %u MiB: from %u to %u blocks of %u bytes are possible",
				    r->o->journal_mib, JOURNAL_BLOCKS_MIN, JOURNAL_BLOCKS_MAX, r->block);
		if (n > r->blocks / 2)
			return fail(-EINVAL, "a journal of %u MiB is more than half of the volume",
				    r->o->journal_mib);
	}
	plan->journal_blocks = (u32)n;
	return 0;
}

u32 ext4_mkfs_orphan_blocks(u64 blocks)
{
	return (u32)MIN(MAX(blocks / 4096, (u64)ORPHAN_BLOCKS_MIN), (u64)EXT4_ORPHAN_BLOCKS_MAX);
}

static u32 orphan_size(const struct rounds *r)
{
	u32 n = ext4_mkfs_orphan_blocks(r->blocks);

	if (r->o->orphan_file_bytes)
		n = DIV_ROUND_UP(r->o->orphan_file_bytes, r->block);
	return ALIGN_UP(n, r->ratio);
}

/* Whoever has no journal has no orphan file, and none has one who is too small. */
static int log_files(struct rounds *r, struct ext4_mkfs_plan *plan)
{
	struct ext4_disk_super *d = r->d;
	int err = journal_size(r, plan);

	if (err)
		return err;
	if (!plan->journal_blocks)
		drop(r, EXT4_COMPAT_HAS_JOURNAL | EXT4_COMPAT_ORPHAN_FILE);
	plan->orphan_blocks = compat(r, EXT4_COMPAT_ORPHAN_FILE) ? orphan_size(r) : 0;
	if (plan->journal_blocks) {
		d->journal_inum = le32_put(EXT4_INO_JOURNAL);
	}
	return 0;
}

int ext4_mkfs_layout(struct ext4_mkfs_plan *plan)
{
	const struct ext4_mkfs_opts *o = &plan->opts;
	struct rounds r = { .o = o, .d = &plan->es->disk, .block = o->block_bytes };
	u64 inodes = 0;
	int err;

	*r.d = o->features;
	r.ratio = o->cluster_bytes ? o->cluster_bytes / o->block_bytes : 1;
	r.desc_bytes = incompat(&r, EXT4_INCOMPAT_64BIT) ? EXT4_DESC_BYTES_64BIT : EXT4_DESC_BYTES_MIN;
	r.first_data_blk = r.block * r.ratio == EXT4_SUPER_OFF;
	r.copies = o->copies;
	err = size_of(&r);
	if (!err)
		err = group_size(&r);
	if (!err)
		err = inodes_wanted(&r, &inodes);
	if (err)
		return err;
	do
		err = round_one(&r, inodes);
	while (err == -EAGAIN);
	if (err)
		return err;
	put_rest(&r);
	err = log_files(&r, plan);
	if (!err)
		ext4_sb_fill(plan->es);
	return err;
}
