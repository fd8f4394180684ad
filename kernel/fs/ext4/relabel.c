/*
 * New names for a volume: its label, its UUID. Both stand in the superblock, and one write of it changes them, so a crash leaves the old
 * ones or the new ones.
 *
 * But the UUID is also what sums start from: with metadata_csum the crc32c of all metadata, with uninit_bg the crc16 of descriptors. To
 * make them anew in one transaction would not do: who mounts the volume after a crash checks the descriptors, the journal's inode and its
 * extents against the superblock before he can replay anything, and home all these go in several writes. So what sums start from stays:
 *
 *   - A UUID that we choose is one of those with the same crc as the old one. Then the crc32c of the superblock, of which it is a part,
 *     stays the same too: with metadata_csum nothing changes but 16 bytes of one sector.
 *   - A UUID that was given comes together with metadata_csum_seed: checksum_seed says from then on what sums start from. Linux 4.4 and
 *     e2fsprogs 1.43 know that feature.
 *   - uninit_bg has no such way: there a given UUID is refused.
 *
 * The journal's sums start from its own UUID, which stays.
 */
#include "ext4.h"

#include "lib/crc.h"
#include <errno.h>

/* ---- a UUID by chance ---- */

#define CRC16_WAYS 65536u

/* Its last four bytes: whatever the others are, they can make the crc32c what it is to be. */
static void fit_crc32c(u8 *uuid, u32 want)
{
	u32 last = crc32c(~0u, uuid, 12) ^ crc32c_before_zeros(want, 4);

	for (u32 i = 0; i < 4; i++)
		uuid[12 + i] = (u8)(last >> (8 * i));
}

/* Its last two bytes: each of the ways to choose them makes another crc16. */
static void fit_crc16(u8 *uuid, u16 want)
{
	const u16 before = crc16(0xffff, uuid, 14);

	for (u32 last = 0; last < CRC16_WAYS; last++) {
		uuid[14] = (u8)last;
		uuid[15] = (u8)(last >> 8);
		if (crc16(before, uuid + 14, 2) == want)
			return;
	}
}

/* RFC 4122, version 4; one with the same crc as the old one where sums start from that. */
static void choose_uuid(const struct ext4_super *es, u8 *uuid)
{
	const u8 *old = es->disk.uuid;

	do {
		os_random(uuid, sizeof(es->disk.uuid));
		uuid[6] = (u8)((uuid[6] & 0x0f) | 0x40);
		uuid[8] = (u8)((uuid[8] & 0x3f) | 0x80);
		if (es->metadata_csum)
			fit_crc32c(uuid, crc32c(~0u, old, sizeof(es->disk.uuid)));
		else if (es->desc_csum)
			fit_crc16(uuid, crc16(0xffff, old, sizeof(es->disk.uuid)));
	} while (!memcmp(uuid, old, sizeof(es->disk.uuid)));
}

/* ---- may it be? ---- */

static int check_label(const struct ext4_super *es, const char *label)
{
	return strlen(label) <= sizeof(es->disk.volume_name)
		       ? 0
		       : fail(-EINVAL, "the label has %zu bytes: an ext4 volume has room for %zu",
			      strlen(label), sizeof(es->disk.volume_name));
}

/* What else knows the volume by its UUID. */
static int check_uuid_free(const struct ext4_super *es)
{
	const char *name = es->vfs.health.name;

	if (ext4_has_compat(es, EXT4_COMPAT_STABLE_INODES))
		return fail(-EOPNOTSUPP,
			    "%s has stable_inodes: the keys of its encrypted files are made from its UUID, "
			    "which has to stay",
			    name);
	if (ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL) && !ext4_journal_is_inside(es))
		return fail(-EOPNOTSUPP, "%s has its journal on another device, which knows it by its UUID",
			    name);
	return 0;
}

static int check_uuid(const struct ext4_super *es, const u8 *uuid)
{
	const size_t len = sizeof(es->disk.uuid);

	if (es->desc_csum && !es->metadata_csum &&
	    crc16(0xffff, uuid, len) != crc16(0xffff, es->disk.uuid, len))
		return fail(-EOPNOTSUPP,
			    "%s has uninit_bg: all its group descriptors would have to change with the UUID, "
			    "which "
			    "no crash may interrupt (\"random\" finds a UUID that fits them)",
			    es->vfs.health.name);
	return 0;
}

/* ---- the change ---- */

/* Into es->disk. */
static void set_names(struct ext4_super *es, const struct relabel *what, const u8 *uuid)
{
	struct ext4_disk_super *d = ext4_super_lock(es);

	if (what->label) {
		memset(d->volume_name, 0, sizeof(d->volume_name));
		memcpy(d->volume_name, what->label, strlen(what->label));
	}
	if (uuid)
		memcpy(d->uuid, uuid, sizeof(d->uuid));
	if (es->metadata_csum && !ext4_has_incompat(es, EXT4_INCOMPAT_CSUM_SEED) &&
	    es->csum_seed != crc32c(~0u, d->uuid, sizeof(d->uuid))) {
		d->feature_incompat = le32_put(le32_get(d->feature_incompat) | EXT4_INCOMPAT_CSUM_SEED);
		d->checksum_seed = le32_put(es->csum_seed);
		if (what->notice)
			text_add(what->notice,
				 "it has the feature metadata_csum_seed from now on, which Linux 4.4 and "
				 "later read, and GRUB of before 2021 does not");
	}
	ext4_super_unlock(es);
}

/* On a volume that needs no recovery and is opened as it lies. */
static int rename_volume(struct ext4_super *es, const struct relabel *what)
{
	u8 chosen[sizeof(es->disk.uuid)], old[sizeof(es->disk.uuid)];
	const u8 *uuid = what->uuid_random ? chosen : what->uuid;
	int err = what->label ? check_label(es, what->label) : 0;

	if (!err && uuid)
		err = check_uuid_free(es);
	if (!err && what->uuid_random)
		choose_uuid(es, chosen);
	if (!err && uuid)
		err = check_uuid(es, uuid);
	if (err)
		return err;
	memcpy(old, es->disk.uuid, sizeof(old));
	mutex_init(&es->super_lock, RANK_LEAF);
	err = ext4_super_hold(es);
	if (!err) {
		set_names(es, what, uuid);
		err = ext4_super_write(es);
	}
	if (!err)
		ext4_copies_rename(es, old);
	ext4_super_release(es);
	mutex_fini(&es->super_lock);
	return err;
}

/* What a volume is of that is opened for its superblock only. */
static const struct fs_type opened = { .name = "ext4" };

/* Opens the volume as it lies. *recover: its journal must be replayed first. */
static int open_lying(struct blkdev *dev, const struct mount_opts *opts, struct ext4_super **out,
		      bool *recover)
{
	struct mount_opts as_it_lies = *opts;
	struct text why = { 0 };
	int err;

	as_it_lies.norecovery = true;
	err = ext4_super_open(dev, &opened, &as_it_lies, out);
	if (err)
		return err;
	if (ext4_write_refused(*out, &why)) {
		err = fail(-EOPNOTSUPP, "%s cannot be changed: %s", dev->name, text_str(&why));
		vfs_unmount(&(*out)->vfs);
	} else {
		*recover = ext4_has_incompat(*out, EXT4_INCOMPAT_RECOVER);
	}
	text_free(&why);
	return err;
}

/* As a mount and an unmount do it. */
static int recover_volume(struct blkdev *dev, const struct mount_opts *opts)
{
	struct mount_opts write = *opts;
	struct ext4_super *es;
	int err;

	write.rdonly = false;
	err = ext4_super_open(dev, &opened, &write, &es);
	if (err)
		return err;
	if (es->vfs.rdonly)
		err = fail(-EROFS, "%s cannot be changed: %s", dev->name, es->vfs.notice);
	vfs_unmount(&es->vfs);
	return err;
}

/* On a volume that nobody else has. */
static int relabel(struct blkdev *dev, const struct mount_opts *opts, const struct relabel *what)
{
	struct ext4_super *es;
	bool recover;
	int err = open_lying(dev, opts, &es, &recover);

	if (!err && recover) {
		vfs_unmount(&es->vfs);
		err = recover_volume(dev, opts);
		if (!err)
			err = open_lying(dev, opts, &es, &recover);
		if (!err && recover) {
			vfs_unmount(&es->vfs);
			err = fail(-EIO, "%s: its journal could not be emptied", dev->name);
		}
	}
	if (err)
		return err;
	err = rename_volume(es, what);
	vfs_unmount(&es->vfs);
	return err;
}

int ext4_relabel(struct blkdev **devs, u32 n, const struct mount_opts *opts, const struct relabel *what)
{
	const struct fs_claim claim = { 0 };
	struct mount_opts claimed = *opts;
	struct blkdev *ours = NULL;
	int err = ext4_one_device(n);

	if (!err && !opts->claimed)
		err = ext4_claim(devs[0], &opened, &claim, &ours);
	if (err == -EUCLEAN)
		err = 0;
	claimed.claimed |= ours != NULL;
	if (!err)
		err = relabel(ours ? ours : devs[0], &claimed, what);
	blkdev_put(ours);
	return err;
}
