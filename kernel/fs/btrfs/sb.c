/*
 * Superblocks that can be believed. Each device has up to three copies, each of which says where it lies; the newest sound
 * one counts. A copy may have outlived its volume: where the first one has not even its magic, another file system may lie there
 * now, and nobody is shown the old one who did not ask for it. Every number that an address or a size is computed from is bounded here.
 */
#include "btrfs.h"

#include <errno.h>
#include <stdlib.h>

static const char *sizes_wrong(const struct btrfs_disk_super *d)
{
	u32 sector = le32_get(d->sector_bytes), node = le32_get(d->node_bytes);

	if (!is_pow2(sector) || sector < 4096 || sector > BTRFS_NODE_MAX)
		return "impossible sector size";
	if (!is_pow2(node) || node < sector || node < BTRFS_NODE_MIN || node > BTRFS_NODE_MAX)
		return "impossible node size";
	if (le32_get(d->leaf_bytes) != node)
		return "leaves and nodes of different sizes";
	if (le32_get(d->sys_array_bytes) > BTRFS_SYS_ARRAY_MAX)
		return "the array of system chunks is too long";
	if (le32_get(d->sys_array_bytes) < sizeof(struct btrfs_disk_key) + sizeof(struct btrfs_disk_chunk))
		return "no system chunk in its array";
	return NULL;
}

static const char *roots_wrong(const struct btrfs_disk_super *d)
{
	u32 sector = le32_get(d->sector_bytes);

	if (d->root_level >= BTRFS_LEVELS || d->chunk_root_level >= BTRFS_LEVELS ||
	    d->log_root_level >= BTRFS_LEVELS)
		return "a tree of impossible height";
	if (!IS_ALIGNED(le64_get(d->root), sector) || !IS_ALIGNED(le64_get(d->chunk_root), sector) ||
	    !IS_ALIGNED(le64_get(d->log_root), sector))
		return "a tree root that no node can begin at";
	if (!le64_get(d->root) || !le64_get(d->chunk_root))
		return "no root tree or no chunk tree";
	if (le64_get(d->chunk_root_generation) > le64_get(d->generation))
		return "a chunk tree of the future";
	return NULL;
}

static const char *counts_wrong(const struct btrfs_disk_super *d)
{
	const u8 *node_fsid =
		le64_get(d->incompat) & BTRFS_INCOMPAT_METADATA_UUID ? d->metadata_uuid : d->fsid;
	u64 total = le64_get(d->total_bytes);

	if (!le64_get(d->num_devices) || le64_get(d->num_devices) > (1u << 31))
		return "impossible number of devices";
	if (!total || total > 1ull << 62 || le64_get(d->bytes_used) < 6ull * le32_get(d->node_bytes))
		return "impossible size";
	if (!le64_get(d->dev_item.total_bytes))
		return "a device without size";
	if (memcmp(node_fsid, d->dev_item.fsid, sizeof(d->fsid)))
		return "its device belongs to another volume";
	if (le64_get(d->flags) & (BTRFS_SUPER_CHANGING_FSID | BTRFS_SUPER_CHANGING_FSID_V2))
		return "a change of its fsid was not finished: run btrfstune again";
	return NULL;
}

int btrfs_sb_check(struct health *h, const struct btrfs_disk_super *d)
{
	const char *wrong = NULL;
	u8 csum[BTRFS_CSUM_BYTES];
	u32 bytes = btrfs_csum_bytes(le16_get(d->csum_type));

	if (!bytes)
		return fail(-EOPNOTSUPP, "the volume has checksums of type %u, which werunos does not know",
			    le16_get(d->csum_type));
	btrfs_csum(le16_get(d->csum_type), (const u8 *)d + BTRFS_CSUM_BYTES,
		   BTRFS_SUPER_BYTES - BTRFS_CSUM_BYTES, csum);
	if (memcmp(csum, d->csum, bytes))
		wrong = "wrong checksum";
	if (!wrong)
		wrong = sizes_wrong(d);
	if (!wrong)
		wrong = roots_wrong(d);
	if (!wrong)
		wrong = counts_wrong(d);
	return wrong ? corrupt(h, "superblock", le64_get(d->bytenr), "%s", wrong) : 0;
}

/* 1: no superblock lies there. */
static int read_copy(struct blkdev *dev, u32 copy, struct btrfs_disk_super *d)
{
	u64 off = BTRFS_SUPER_OFF(copy);
	int err;

	if (dev->size_bytes < BTRFS_SUPER_BYTES || off > dev->size_bytes - BTRFS_SUPER_BYTES)
		return 1;
	err = blkdev_read(dev, off, d, sizeof(*d));
	if (err)
		return err;
	if (le64_get(d->magic) != BTRFS_MAGIC || le64_get(d->bytenr) != off)
		return 1;
	return btrfs_sb_check(dev->health, d);
}

/* The newest sound copy that is of the same volume as the first, or, when that is damaged, any. */
static int best_copy(struct blkdev *dev, struct btrfs_disk_super *d, struct btrfs_disk_super *out, u32 *which)
{
	int first = read_copy(dev, 0, out);
	bool found = !first;

	if (first > 0 && !read_copy(dev, 1, d))
		return fail(-ENODEV,
			    "%s holds no superblock of btrfs but a copy of one: --sb 1 shows what is left",
			    dev->name);
	if (first > 0)
		return fail(-ENODEV, "%s holds no superblock of btrfs", dev->name);
	*which = 0;
	for (u32 copy = 1; copy < BTRFS_SUPER_COUNT; copy++) {
		if (read_copy(dev, copy, d) ||
		    (found && (memcmp(d->fsid, out->fsid, sizeof(d->fsid)) ||
			       le64_get(d->generation) <= le64_get(out->generation))))
			continue;
		*out = *d;
		*which = copy;
		found = true;
	}
	return found ? 0 : first;
}

int btrfs_sb_read(struct blkdev *dev, int mirror, struct btrfs_disk_super *out, u32 *which)
{
	struct btrfs_disk_super *d;
	int err;

	if (mirror >= 0) {
		*which = (u32)mirror;
		err = read_copy(dev, *which, out);
		return err > 0 ? fail(-ENODEV, "%s holds no superblock of btrfs there", dev->name) : err;
	}
	d = malloc(sizeof(*d));
	if (!d)
		return fail(-ENOMEM, "no memory for a superblock");
	err = best_copy(dev, d, out, which);
	free(d);
	return err;
}
