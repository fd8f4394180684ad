/*
 * The volume: finding a superblock that can be believed, making a super_block of it, and ending it.
 *
 *   - A superblock is believed when its magic, checksum and geometry are right: every number that an address is
 *     computed from is bounded here, so that no computation after it can overflow or leave the device.
 *   - When the primary is damaged the copies are tried, at the places where mke2fs puts them.
 *   - Volumes are always mounted read-only; who asked for more is told so in sb->notice.
 */
#include "ext4.h"

#include "lib/crc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUPS_MAX            (1u << 31)
#define RESERVED_CLUSTERS_MAX 4096u

/* ---- is it a superblock? ---- */

static u64 blocks_count(const struct ext4_disk_super *d)
{
	u64 n = le32_get(d->blocks_count_lo);

	return le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT
		       ? n | (u64)le32_get(d->blocks_count_hi) << 32
		       : n;
}

static u32 inode_bytes(const struct ext4_disk_super *d)
{
	return le32_get(d->rev_level) ? le16_get(d->inode_size) : EXT4_INODE_BYTES_OLD;
}

static u32 desc_bytes(const struct ext4_disk_super *d)
{
	return le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT ? le16_get(d->desc_size)
								   : EXT4_DESC_BYTES_MIN;
}

static u32 cluster_bits(const struct ext4_disk_super *d)
{
	bool bigalloc = le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_BIGALLOC;

	return bigalloc ? le32_get(d->log_cluster_size) - le32_get(d->log_block_size) : 0;
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
	if (inode_bytes(d) < EXT4_INODE_BYTES_OLD || inode_bytes(d) > block || !is_pow2(inode_bytes(d)))
		return "impossible inode size";
	if (!is_pow2(desc_bytes(d)) || desc_bytes(d) > EXT4_DESC_BYTES_MAX ||
	    (le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT && desc_bytes(d) < EXT4_DESC_BYTES_64BIT))
		return "impossible size of group descriptors";
	if (le16_get(d->reserved_gdt_blocks) > block / 4)
		return "too many reserved descriptor blocks";
	return NULL;
}

/* Sizes of a group. sizes_wrong said no. */
static const char *group_wrong(const struct ext4_disk_super *d)
{
	u32 block = 1024u << le32_get(d->log_block_size), bits = block * 8, ratio = cluster_bits(d);
	u32 per_group = le32_get(d->blocks_per_group), inodes = le32_get(d->inodes_per_group);
	u32 per_block = block / inode_bytes(d);
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
	u64 blocks = blocks_count(d), first = le32_get(d->first_data_block), groups;
	u32 first_ino = le32_get(d->rev_level) ? le32_get(d->first_ino) : EXT4_FIRST_INO_REV0;

	if (first != (block == 1024 && !cluster_bits(d)))
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
	u64 blocks = blocks_count(d);
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

/* Where mke2fs puts the first copies when nobody asked for other groups. */
static int copy_search(struct blkdev *dev, struct ext4_disk_super *out, u64 *off)
{
	static const u32 group[] = { 1, 3, 5, 7, 9, 25 };

	for (u32 bits = EXT4_BLOCK_BITS_MIN; bits <= EXT4_BLOCK_BITS_MAX; bits++)
		for (u32 i = 0; i < ARRAY_SIZE(group); i++) {
			u64 blk = ((u64)group[i] << (bits + 3)) + (bits == EXT4_BLOCK_BITS_MIN);

			if (!copy_at(dev, blk, bits, out)) {
				*off = blk << bits;
				return 0;
			}
		}
	return -EINVAL;
}

int ext4_super_read(struct blkdev *dev, const struct mount_opts *opts, struct ext4_disk_super *out, u64 *off)
{
	struct ext4_disk_super copy;
	char why[256];
	int err;

	memset(out, 0, sizeof(*out));
	if (opts->sb_block) {
		for (u32 bits = EXT4_BLOCK_BITS_MIN; bits <= EXT4_BLOCK_BITS_MAX; bits++) {
			*off = opts->sb_block << bits;
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
	if (copy_search(dev, &copy, off))
		return fail(err, "%s", why);
	*out = copy;
	return 0;
}

static int ext4_probe(struct blkdev *dev, struct fs_probe *info)
{
	struct ext4_disk_super d = { 0 };
	struct mount_opts opts = { 0 };
	u64 off = EXT4_SUPER_OFF;
	int err = ext4_super_read(dev, &opts, &d, &off);

	if (err && le16_get(d.magic) != EXT4_MAGIC)
		return err == -EIO ? err : 0;
	info->score = err ? 50 : off == EXT4_SUPER_OFF ? 100 : 30;
	memcpy(info->uuid, d.uuid, sizeof(info->uuid));
	memcpy(info->label, d.volume_name, sizeof(d.volume_name));
	info->label[sizeof(d.volume_name)] = 0;
	if (!err)
		info->size_bytes = blocks_count(&d) << (EXT4_BLOCK_BITS_MIN + le32_get(d.log_block_size));
	return 0;
}

/* ---- mounting ---- */

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

/* In-memory geometry; super_check bounded every number. */
static void fill_geometry(struct ext4_super *es)
{
	const struct ext4_disk_super *d = &es->disk;
	u32 block;

	es->block_bits = EXT4_BLOCK_BITS_MIN + le32_get(d->log_block_size);
	es->cluster_bits = cluster_bits(d);
	block = 1u << es->block_bits;
	es->blocks = blocks_count(d);
	es->first_data_blk = le32_get(d->first_data_block);
	es->super_blk = EXT4_SUPER_OFF >> es->block_bits;
	es->blocks_per_group = le32_get(d->blocks_per_group);
	es->clusters_per_group = es->blocks_per_group >> es->cluster_bits;
	es->inodes_per_group = le32_get(d->inodes_per_group);
	es->inodes = le32_get(d->inodes_count);
	es->inode_bytes = inode_bytes(d);
	es->inodes_per_block = block / es->inode_bytes;
	es->itable_blocks = DIV_ROUND_UP(es->inodes_per_group, es->inodes_per_block);
	es->first_ino = le32_get(d->rev_level) ? le32_get(d->first_ino) : EXT4_FIRST_INO_REV0;
	es->groups = (u32)DIV_ROUND_UP(es->blocks - es->first_data_blk, es->blocks_per_group);
	es->desc_bytes = desc_bytes(d);
	es->descs_per_block = block / es->desc_bytes;
	es->gdt_blocks = DIV_ROUND_UP(es->groups, es->descs_per_block);
	es->vfs.root_ino = EXT4_INO_ROOT;
	es->vfs.block_bytes = block;
	es->vfs.size_max_bytes = ext4_file_blocks_max(es, ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
				 << es->block_bits;
	es->vfs.time_gran_ns = es->inode_bytes > EXT4_INODE_BYTES_OLD ? 1 : 1000000000u;
	es->vfs.rdonly = true;
	es->vfs.has_acl = es->vfs.has_xattr = true;
}

/* Blocks that no file can have: what the superblock says, or what the layout says. */
static void fill_overhead(struct ext4_super *es)
{
	u64 n = le32_get(es->disk.overhead_clusters);

	if (!n || n > es->blocks >> es->cluster_bits) {
		n = es->first_data_blk;
		for (u32 group = 0; group < es->groups; group++)
			n += ext4_group_base_blocks(es, group) + 2 + es->itable_blocks;
		n >>= es->cluster_bits;
	}
	es->overhead_clusters = MIN(n, es->blocks >> es->cluster_bits);
}

static void note(struct ext4_super *es, const char *sentence)
{
	char *s = es->vfs.notice;
	size_t len = strlen(s);

	snprintf(s + len, sizeof(es->vfs.notice) - len, "%s%s", len ? "; " : "", sentence);
}

static void notices(struct ext4_super *es, const struct mount_opts *opts, u64 super_off, u32 bad, u32 backup)
{
	char s[128];

	if (!opts->rdonly)
		note(es, "shown read-only: this program does not write to ext4 yet");
	if (ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER) && !opts->norecovery)
		note(es, "the volume was not unmounted cleanly: the latest changes are in its journal and "
			 "not shown");
	if (super_off != EXT4_SUPER_OFF) {
		snprintf(s, sizeof(s), "a copy of the superblock is used, the one in block %llu",
			 (unsigned long long)(super_off >> es->block_bits));
		note(es, s);
	}
	if (backup) {
		snprintf(s, sizeof(s), "%u damaged group descriptors were read from a copy", backup);
		note(es, s);
	}
	if (bad) {
		snprintf(s, sizeof(s), "%u group descriptors are damaged, inodes may be missing", bad);
		note(es, s);
	}
}

static struct inode *ext4_alloc_inode(struct super_block *sb)
{
	struct ext4_inode *ei = calloc(1, sizeof(*ei));

	(void)sb;
	return ei ? &ei->vfs : NULL;
}

static void ext4_free_inode(struct inode *inode)
{
	free(ext4_inode(inode));
}

static int ext4_statfs(struct super_block *sb, struct kstatfs *out)
{
	struct ext4_super *es = ext4_super(sb);
	const struct ext4_disk_super *d = &es->disk;
	u64 reserved = le32_get(d->r_blocks_count_lo), lo, hi;

	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		reserved |= (u64)le32_get(d->r_blocks_count_hi) << 32;
	/* Room that is kept so that data once accepted always finds its metadata. */
	if (ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		reserved += MIN((es->blocks >> es->cluster_bits) / 50, (u64)RESERVED_CLUSTERS_MAX)
			    << es->cluster_bits;
	out->type = es->variant;
	out->blocks = es->blocks - (es->overhead_clusters << es->cluster_bits);
	out->inodes = es->inodes;
	for (u32 i = 0; i < es->groups; i++) {
		out->blocks_free += MIN(es->group[i].free_clusters, es->clusters_per_group);
		out->inodes_free += MIN(es->group[i].free_inodes, es->inodes_per_group);
	}
	out->blocks_free <<= es->cluster_bits;
	out->blocks_avail = out->blocks_free > reserved ? out->blocks_free - reserved : 0;
	memcpy(&lo, d->uuid, sizeof(lo));
	memcpy(&hi, d->uuid + sizeof(lo), sizeof(hi));
	out->fsid = lo ^ hi;
	return 0;
}

static void ext4_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n)
{
	ext4_inode_readahead(ext4_super(sb), inos, n);
}

static void ext4_put_super(struct super_block *sb)
{
	struct ext4_super *es = ext4_super(sb);
	struct blkdev *dev = sb->dev;

	if (dev->cache)
		(void)!bcache_detach(dev, true);
	bcache_free(sb->cache);
	super_fini(sb);
	dev->health = NULL;
	blkdev_put(dev);
	ext4_zone_free(&es->zone);
	free(es->group);
	free(es);
}

static const struct super_ops ext4_super_ops = {
	.alloc_inode = ext4_alloc_inode,
	.free_inode = ext4_free_inode,
	.read_inode = ext4_read_inode,
	.statfs = ext4_statfs,
	.readahead_inodes = ext4_readahead_inodes,
	.put_super = ext4_put_super,
};

int ext4_super_open(struct blkdev *dev, const struct mount_opts *opts, struct ext4_super **out)
{
	struct ext4_super *es = calloc(1, sizeof(*es));
	u32 bad, backup;
	u64 off;
	int err = es ? ext4_super_read(dev, opts, &es->disk, &off) : -ENOMEM;

	if (!err)
		err = super_init(&es->vfs, &ext4_fs_type, &ext4_super_ops, dev->name, opts);
	if (err) {
		free(es);
		return err;
	}
	es->vfs.dev = blkdev_get(dev);
	dev->health = &es->vfs.health;
	fill_features(es);
	fill_geometry(es);
	err = bcache_new(opts->cache_bytes, &es->vfs.cache);
	if (!err)
		err = bcache_attach(es->vfs.cache, dev, es->vfs.block_bytes);
	if (!err)
		err = ext4_group_load(es, &bad, &backup);
	if (!err && !opts->norecovery)
		err = ext4_mmp_check(es);
	if (err) {
		ext4_put_super(&es->vfs);
		return err;
	}
	fill_overhead(es);
	notices(es, opts, off, bad, backup);
	*out = es;
	return 0;
}

static int ext4_mount(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct super_block **out)
{
	struct ext4_super *es;
	struct inode *root;
	int err;

	if (n != 1)
		return fail(-EINVAL, "an ext4 volume is on one device, not on %u", n);
	err = ext4_super_open(devs[0], opts, &es);
	if (err)
		return err;
	err = vfs_iget(&es->vfs, EXT4_INO_ROOT, &root);
	if (!err) {
		if (!is_dir(root))
			err = corrupt(&es->vfs.health, "inode", EXT4_INO_ROOT, "the root is not a directory");
		vfs_iput(root);
	}
	if (err) {
		vfs_unmount(&es->vfs);
		return err;
	}
	*out = &es->vfs;
	return 0;
}

const struct fs_type ext4_fs_type = {
	.name = "ext4",
	.probe = ext4_probe,
	.mount = ext4_mount,
	.info = ext4_info,
	.dump = ext4_dump,
};
