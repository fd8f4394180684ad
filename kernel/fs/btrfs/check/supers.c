/*
 * Superblocks: every copy on every device, and what they say of the devices. A commit writes all copies, the fsync of a log the first
 * alone; a crash between two of them leaves one of an older generation, which is as good as it was.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

/* What may differ between two copies of one commit. */
static void blank(struct btrfs_disk_super *d)
{
	memset(d->csum, 0, sizeof(d->csum));
	d->bytenr = d->log_root = d->log_root_transid = le64_put(0);
	d->log_root_level = 0;
}

static void compare(struct ck *c, const struct blkdev *dev, u32 copy, struct btrfs_disk_super *first,
		    struct btrfs_disk_super *d)
{
	u64 generation = le64_get(d->generation), newest = le64_get(first->generation);

	if (memcmp(d->fsid, first->fsid, sizeof(d->fsid))) {
		btrfs_ck_found(c, CK_SUPER_DIFFERS, "superblock", copy, dev->name,
			       "copy %u is of another volume", copy);
		return;
	}
	if (generation != newest) {
		btrfs_ck_found(c, CK_SUPER_OLD, "superblock", copy, dev->name,
			       "copy %u is of generation %llu, the first of %llu", copy,
			       (unsigned long long)generation, (unsigned long long)newest);
		return;
	}
	blank(d);
	if (memcmp(d, first, sizeof(*d)))
		btrfs_ck_found(c, CK_SUPER_DIFFERS, "superblock", copy, dev->name,
			       "copy %u says something else than the first, of the same generation", copy);
}

static void check_device(struct ck *c, struct blkdev *dev, struct btrfs_disk_super *first,
			 struct btrfs_disk_super *d)
{
	u32 which;
	bool have_first = !btrfs_sb_read(dev, 0, first, &which);
	u64 total = have_first ? le64_get(first->dev_item.total_bytes) : dev->size_bytes;

	if (have_first)
		blank(first);
	else
		btrfs_ck_found(c, CK_SUPER, "superblock", 0, dev->name, "the first: %s", err_text());
	for (u32 copy = 1; copy < BTRFS_SUPER_COUNT; copy++) {
		int err;

		if (BTRFS_SUPER_OFF(copy) + BTRFS_SUPER_BYTES > MIN(total, dev->size_bytes))
			break;
		err = btrfs_sb_read(dev, (int)copy, d, &which);
		if (err == -ENODEV)
			btrfs_ck_found(c, CK_SUPER_ABSENT, "superblock", copy, dev->name, "copy %u", copy);
		else if (err)
			btrfs_ck_found(c, CK_SUPER, "superblock", copy, dev->name, "copy %u: %s", copy,
				       err_text());
		else if (have_first)
			compare(c, dev, copy, first, d);
	}
	err_clear();
}

static void check_state(struct ck *c)
{
	const u64 known = BTRFS_COMPAT_RO_FREE_SPACE_TREE | BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID |
			  BTRFS_COMPAT_RO_VERITY | BTRFS_COMPAT_RO_BLOCK_GROUP_TREE;
	u64 flags = le64_get(c->bs->disk.flags), compat_ro = le64_get(c->bs->disk.compat_ro);

	if (flags & BTRFS_SUPER_ERROR)
		btrfs_ck_found(c, CK_ERROR_FLAG, "superblock", 0, NULL, NULL);
	if (btrfs_flags_check(&c->bs->disk))
		btrfs_ck_found(c, CK_SUPER_VALUE, "superblock", 0, NULL, "%s", err_text());
	if (compat_ro & ~known)
		btrfs_ck_found(c, CK_NOT_CHECKED, "superblock", 0, NULL,
			       "features that are not known here: 0x%llx",
			       (unsigned long long)(compat_ro & ~known));
	if (flags & (BTRFS_SUPER_CHANGING_BG_TREE))
		btrfs_ck_found(c, CK_UNFINISHED, "superblock", 0, NULL,
			       "the move of block groups to a tree of their own");
	err_clear();
}

static void check_devices(struct ck *c)
{
	u64 generation = le64_get(c->bs->disk.generation);

	for (u32 i = 0; i < btrfs_device_count(c->bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(c->bs->volume, i);

		if (!d->dev)
			btrfs_ck_found(c, CK_DEVICE, "device", d->devid, NULL, NULL);
		else if (d->dev->size_bytes < d->size_bytes)
			btrfs_ck_found(c, CK_DEVICE_SHORT, "device", d->devid, d->dev->name,
				       "%llu of %llu bytes", (unsigned long long)d->dev->size_bytes,
				       (unsigned long long)d->size_bytes);
		else if (!d->seed && d->generation < generation)
			btrfs_ck_found(c, CK_DEVICE_BEHIND, "device", d->devid, d->dev->name,
				       "its generation is %llu, the volume's %llu",
				       (unsigned long long)d->generation, (unsigned long long)generation);
	}
}

void btrfs_ck_supers(struct ck *c)
{
	struct btrfs_disk_super *d = malloc(2 * sizeof(*d));

	if (!d) {
		btrfs_ck_oom(c);
		return;
	}
	for (u32 i = 0; i < c->dev_count; i++)
		check_device(c, c->devs[i], &d[0], &d[1]);
	free(d);
	check_state(c);
	check_devices(c);
}
