/*
 * Superblocks: every copy on every device, and what they say of the devices. A commit writes all copies, the fsync of a log the first
 * alone; a crash between two of them leaves one of an older generation, which is as good as it was.
 */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What may differ between two copies of one commit. */
static void blank(struct btrfs_disk_super *d)
{
	memset(d->csum, 0, sizeof(d->csum));
	d->bytenr = d->log_root = d->log_root_transid = le64_put(0);
	d->log_root_level = 0;
}

/* Of one device. The copy is written anew when that was agreed to, and not said then. */
static void say(struct ck *c, enum ck_code code, u32 dev, u32 copy, const char *detail, ...)
	__printf_like(5, 6);
static void say(struct ck *c, enum ck_code code, u32 dev, u32 copy, const char *detail, ...)
{
	const char *name = c->devs[dev]->name;
	char text[384];
	va_list args;

	va_start(args, detail);
	vsnprintf(text, sizeof(text), detail, args);
	va_end(args);
	if (!c->super_ok || !btrfs_ck_super_device(c, dev))
		btrfs_ck_found(c, code, "superblock", copy, name, "%s", text);
	else if (btrfs_ck_fix(c, code, "superblock", copy, name, "%s", text))
		c->super_put[dev] |= (u8)(1u << copy);
}

static void compare(struct ck *c, u32 dev, u32 copy, struct btrfs_disk_super *first,
		    struct btrfs_disk_super *d)
{
	u64 generation = le64_get(d->generation), newest = le64_get(first->generation);

	if (memcmp(d->fsid, first->fsid, sizeof(d->fsid))) {
		say(c, CK_SUPER_DIFFERS, dev, copy, "copy %u is of another volume", copy);
		return;
	}
	if (generation != newest) {
		/* Whichever it is, the older one. */
		say(c, CK_SUPER_OLD, dev, generation < newest ? copy : 0,
		    "copy %u is of generation %llu, the first of %llu", copy, (unsigned long long)generation,
		    (unsigned long long)newest);
		return;
	}
	blank(d);
	if (memcmp(d, first, sizeof(*d)))
		say(c, CK_SUPER_DIFFERS, dev, copy,
		    "copy %u says something else than the first, of the same generation", copy);
}

/* Devices differ in their own items alone. */
static bool like_the_volume(const struct ck *c, const struct btrfs_disk_super *first,
			    struct btrfs_disk_super *d)
{
	*d = c->bs->disk;
	blank(d);
	d->dev_item = first->dev_item;
	return le64_get(d->generation) != le64_get(first->generation) || !memcmp(d, first, sizeof(*d));
}

static void check_device(struct ck *c, u32 i, struct btrfs_disk_super *first, struct btrfs_disk_super *d)
{
	struct blkdev *dev = c->devs[i];
	u32 which;
	bool have_first = !btrfs_sb_read(dev, 0, first, &which);
	u64 total = have_first ? le64_get(first->dev_item.total_bytes) : dev->size_bytes;

	if (have_first)
		blank(first);
	else
		say(c, CK_SUPER, i, 0, "the first: %s", err_text());
	if (have_first && btrfs_ck_super_device(c, i) && !like_the_volume(c, first, d))
		say(c, CK_SUPER_DIFFERS, i, 0, "the first says something else than another device's");
	for (u32 copy = 1; copy < BTRFS_SUPER_COUNT; copy++) {
		int err;

		if (BTRFS_SUPER_OFF(copy) + BTRFS_SUPER_BYTES > MIN(total, dev->size_bytes))
			break;
		err = btrfs_sb_read(dev, (int)copy, d, &which);
		if (err == -ENODEV)
			say(c, CK_SUPER_ABSENT, i, copy, "copy %u", copy);
		else if (err)
			say(c, CK_SUPER, i, copy, "copy %u: %s", copy, err_text());
		else if (have_first)
			compare(c, i, copy, first, d);
	}
	err_clear();
}

static void check_state(struct ck *c)
{
	u64 unknown = btrfs_unknown_compat_ro(&c->bs->disk);

	if (btrfs_flags_check(&c->bs->disk))
		btrfs_ck_found(c, CK_SUPER_VALUE, "superblock", 0, NULL, "%s", err_text());
	if (unknown)
		btrfs_ck_found(c, CK_NOT_CHECKED, "superblock", 0, NULL,
			       "features that are not known here: 0x%llx", (unsigned long long)unknown);
	if (le64_get(c->bs->disk.flags) & BTRFS_SUPER_CHANGING_BG_TREE)
		btrfs_ck_found(c, CK_UNFINISHED, "superblock", 0, NULL,
			       "the move of block groups to a tree of their own");
	err_clear();
}

void btrfs_ck_error_flag(struct ck *c)
{
	bool sound = !c->sum->found[CHECK_WRONG] && !c->sum->found[CHECK_LOSS];
	u64 flags = le64_get(c->super.flags);

	if (!(flags & BTRFS_SUPER_ERROR))
		return;
	if (!sound || !c->super_ok) {
		btrfs_ck_found(c, CK_ERROR_FLAG, "superblock", 0, NULL, NULL);
	} else if (btrfs_ck_fix(c, CK_ERROR_FLAG, "superblock", 0, NULL, NULL)) {
		c->super.flags = le64_put(flags & ~BTRFS_SUPER_ERROR);
		c->super_changed = true;
	}
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
		check_device(c, i, &d[0], &d[1]);
	free(d);
	check_state(c);
	check_devices(c);
}
