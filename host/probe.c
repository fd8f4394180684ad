/* Probing through libblkid. Interface: probe.h. */
#include "probe.h"

#include "lib/err.h"
#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * libblkid reads as it likes, and a descriptor of a device may be one for whole sectors only (O_DIRECT), which a copy of it would be as well:
 * so it gets one of its own.
 */
static int own_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL), own;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = flags < 0 ? -1 : open(path, (flags & O_ACCMODE) | O_CLOEXEC);
	/* Where there is no /proc. */
	return own < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : own;
}

/* libblkid takes 0 for "to the end". On error errno says why. */
static blkid_probe probe_new(int fd, u64 off_bytes, u64 len_bytes)
{
	int own = own_fd(fd);
	blkid_probe pr = own < 0 ? NULL : blkid_new_probe();

	if (pr && blkid_probe_set_device(pr, own, (blkid_loff_t)off_bytes, (blkid_loff_t)len_bytes)) {
		blkid_free_probe(pr);
		pr = NULL;
	}
	if (!pr && own >= 0)
		close(own);
	return pr;
}

static void probe_end(blkid_probe pr)
{
	int own = blkid_probe_get_fd(pr);

	blkid_free_probe(pr);
	close(own);
}

static void copy_value(blkid_probe pr, const char *key, char *out, size_t size)
{
	const char *v;

	if (blkid_probe_lookup_value(pr, key, &v, NULL))
		v = "";
	snprintf(out, size, "%s", v);
}

int probe_volume(int fd, u64 off_bytes, u64 len_bytes, struct volume_id *out)
{
	blkid_probe pr;
	int found;

	memset(out, 0, sizeof(*out));
	if (!len_bytes)
		return 0;
	pr = probe_new(fd, off_bytes, len_bytes);
	if (!pr)
		return fail(-EIO, "the disk cannot be examined");
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_LABEL |
						      BLKID_SUBLKS_UUID);
	/* Signatures of several kinds at once: the first found is still better than none. */
	found = blkid_do_safeprobe(pr);
	if (found)
		found = blkid_do_probe(pr);
	if (!found) {
		copy_value(pr, "TYPE", out->type, sizeof(out->type));
		copy_value(pr, "USAGE", out->usage, sizeof(out->usage));
		copy_value(pr, "LABEL", out->label, sizeof(out->label));
		copy_value(pr, "UUID", out->uuid, sizeof(out->uuid));
	}
	probe_end(pr);
	return found < 0 ? fail(-EIO, "the disk cannot be examined") : 0;
}

int probe_wipe(int fd, u64 off_bytes, u64 len_bytes)
{
	blkid_probe pr = probe_new(fd, off_bytes, len_bytes);
	int err = 0, found = 1;

	if (!pr)
		return fail(-EIO, "the disk cannot be examined");
	blkid_probe_enable_superblocks(pr, 1);
	blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(pr, 1);
	blkid_probe_set_partitions_flags(pr, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
	while (!err && (found = blkid_do_probe(pr)) == 0)
		if (blkid_do_wipe(pr, 0))
			err = fail(-EIO, "what was there before cannot be cleared");
	probe_end(pr);
	return !err && found < 0 ? fail(-EIO, "the disk cannot be examined") : err;
}

/* ---- partition tables ---- */

static const struct {
	const char *id, *name;
} part_kinds[] = {
	{ "0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux data" },
	{ "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system" },
	{ "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap" },
	{ "e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM" },
	{ "a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID" },
	{ "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)" },
	{ "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home" },
	{ "bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux boot" },
	{ "21686148-6449-6e6f-744e-656564454649", "BIOS boot" },
	{ "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft data" },
	{ "e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved" },
	{ "0x5", "extended" },
	{ "0xf", "extended" },
	{ "0x85", "extended" },
	{ "0x7", "NTFS or exFAT" },
	{ "0xb", "FAT32" },
	{ "0xc", "FAT32" },
	{ "0x82", "Linux swap" },
	{ "0x83", "Linux" },
	{ "0x8e", "Linux LVM" },
	{ "0xee", "GPT guard" },
	{ "0xef", "EFI system" },
	{ "0xfd", "Linux RAID" },
};

static void part_kind(blkid_partition p, char *out, size_t size)
{
	const char *id = blkid_partition_get_type_string(p);
	char hex[8];

	if (!id) {
		snprintf(hex, sizeof(hex), "0x%x", (unsigned)blkid_partition_get_type(p) & 0xff);
		id = hex;
	}
	for (size_t i = 0; i < ARRAY_SIZE(part_kinds); i++)
		if (!strcasecmp(id, part_kinds[i].id))
			id = part_kinds[i].name;
	snprintf(out, size, "%s", id);
}

static void part_fill(blkid_partition p, struct part *out)
{
	const char *name = blkid_partition_get_name(p);

	out->nr = (u32)blkid_partition_get_partno(p);
	out->off_bytes = (u64)blkid_partition_get_start(p) * 512;
	out->len_bytes = (u64)blkid_partition_get_size(p) * 512;
	out->extended = blkid_partition_is_extended(p);
	part_kind(p, out->kind, sizeof(out->kind));
	snprintf(out->name, sizeof(out->name), "%s", name ? name : "");
}

static int ptable_take(blkid_probe pr, struct ptable *out)
{
	blkid_partlist list = blkid_probe_get_partitions(pr);
	blkid_parttable table = list ? blkid_partlist_get_table(list) : NULL;
	int count = list ? blkid_partlist_numof_partitions(list) : 0;

	if (!table)
		return 0;
	out->part = calloc((size_t)MAX(count, 1), sizeof(*out->part));
	if (!out->part)
		return fail(-ENOMEM, "no memory for %d partitions", count);
	snprintf(out->type, sizeof(out->type), "%s", blkid_parttable_get_type(table));
	for (int i = 0; i < count; i++)
		part_fill(blkid_partlist_get_partition(list, i), &out->part[out->count++]);
	return 0;
}

static int ptable_try(int fd, u64 size_bytes, u32 sector_bytes, struct ptable *out)
{
	blkid_probe pr = probe_new(fd, 0, size_bytes);
	int err = 0;

	memset(out, 0, sizeof(*out));
	if (!pr)
		return fail(-EIO, "the disk cannot be examined");
	if (sector_bytes)
		blkid_probe_set_sectorsize(pr, sector_bytes);
	blkid_probe_enable_superblocks(pr, 0);
	blkid_probe_enable_partitions(pr, 1);
	if (blkid_do_fullprobe(pr) == 0)
		err = ptable_take(pr, out);
	probe_end(pr);
	return err;
}

/* An image of a disk with 4096-byte sectors shows, read with 512, only the guard that protects its GPT. */
static bool is_only_guard(const struct ptable *t)
{
	return !t->type[0] || (t->count == 1 && !strcmp(t->part[0].kind, "GPT guard"));
}

int probe_ptable(int fd, u64 size_bytes, u32 sector_bytes, struct ptable *out)
{
	struct ptable big;
	int err = ptable_try(fd, size_bytes, sector_bytes, out);

	if (err || sector_bytes || !is_only_guard(out))
		return err;
	err = ptable_try(fd, size_bytes, 4096, &big);
	if (!err && !is_only_guard(&big)) {
		ptable_free(out);
		*out = big;
	} else {
		ptable_free(&big);
	}
	return err;
}

void ptable_free(struct ptable *t)
{
	free(t->part);
	t->part = NULL;
	t->count = 0;
}

const struct part *ptable_find(const struct ptable *t, u32 nr)
{
	for (u32 i = 0; i < t->count; i++)
		if (t->part[i].nr == nr)
			return &t->part[i];
	return NULL;
}

void ptable_numbers(const struct ptable *t, struct text *out)
{
	for (u32 i = 0; i < t->count; i++)
		if (!t->part[i].extended)
			text_add(out, "%s%u", out->len_bytes ? ", " : "", t->part[i].nr);
}

/* ---- names for people ---- */

static const struct {
	const char *type, *says;
} says[] = {
	{ "crypto_LUKS", "a LUKS volume: open it with cryptsetup first" },
	{ "BitLocker", "a BitLocker volume: open it with cryptsetup first" },
	{ "LVM2_member", "part of an LVM volume group: activate it with vgchange first" },
	{ "linux_raid_member", "part of a RAID array: assemble it with mdadm first" },
	{ "swap", "swap space" },
	{ "swsuspend", "a hibernation image" },
	{ "iso9660", "an ISO 9660 image" },
	{ "zfs_member", "part of a ZFS pool" },
	{ "vfat", "a FAT file system" },
	{ "ntfs", "an NTFS file system" },
	{ "jbd", "an ext4 journal, kept apart from its file system" },
};

const char *volume_says(const struct volume_id *v, char *buf, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(says); i++)
		if (!strcmp(v->type, says[i].type))
			return says[i].says;
	snprintf(buf, size, "%s %s%s", strchr("aeiouxAEIOUX", v->type[0]) ? "an" : "a", v->type,
		 strcmp(v->usage, "filesystem") ? " volume" : " file system");
	return buf;
}
