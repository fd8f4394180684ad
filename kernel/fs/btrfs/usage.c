/*
 * How full the volume is: block groups summed up by what they hold and how, and what `df` shows, reckoned as the kernel does it.
 *
 * `df` speaks of space as if the volume were one device: raw sizes are divided by the copies that the data profile makes. What is
 * available is what is free in data chunks, and what new data chunks could still be made of.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

static const struct {
	u64 bit;
	const char *name;
	u32 copies;      /* of each byte */
	u32 devices_min; /* that a chunk lies on */
	u32 devices_max; /* 0: all */
	u32 per_device;  /* stripes on each */
} profiles[] = {
	{ 0, "single", 1, 1, 1, 1 },
	{ BTRFS_BG_DUP, "DUP", 2, 1, 1, 2 },
	{ BTRFS_BG_RAID0, "RAID0", 1, 1, 0, 1 },
	{ BTRFS_BG_RAID1, "RAID1", 2, 2, 2, 1 },
	{ BTRFS_BG_RAID1C3, "RAID1C3", 3, 3, 3, 1 },
	{ BTRFS_BG_RAID1C4, "RAID1C4", 4, 4, 4, 1 },
	{ BTRFS_BG_RAID10, "RAID10", 2, 2, 4, 1 },
	{ BTRFS_BG_RAID5, "RAID5", 1, 2, 1, 1 },
	{ BTRFS_BG_RAID6, "RAID6", 1, 3, 1, 1 },
};

static u32 profile_of(u64 type)
{
	for (u32 i = 0; i < ARRAY_SIZE(profiles); i++)
		if (profiles[i].bit == (type & BTRFS_BG_PROFILES))
			return i;
	return 0;
}

const char *btrfs_bg_profile_name(u64 type)
{
	return profiles[profile_of(type)].name;
}

const char *btrfs_bg_type_name(u64 type)
{
	switch (type & BTRFS_BG_TYPES) {
	case BTRFS_BG_DATA:
		return "data";
	case BTRFS_BG_SYSTEM:
		return "system";
	case BTRFS_BG_METADATA:
		return "metadata";
	case BTRFS_BG_DATA | BTRFS_BG_METADATA:
		return "data and metadata";
	}
	return "nothing";
}

/* ---- block groups ---- */

/* Bytes in use in a chunk. False: that cannot be read. */
static bool group_used(const struct btrfs_root *root, const struct btrfs_chunk *c, u64 *used)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_block_group *d;
	u32 len;

	if (!root || btrfs_find(root, &BTRFS_KEY(c->logical, BTRFS_KEY_BLOCK_GROUP_ITEM, c->len_bytes), &p)) {
		err_clear();
		return false;
	}
	d = btrfs_path_item(&p, &len);
	*used = le64_get(d->used_bytes);
	return true;
}

int btrfs_usage_read(struct btrfs_super *bs, struct btrfs_usage out[BTRFS_USAGES_MAX], u32 *n)
{
	u64 tree = le64_get(bs->disk.compat_ro) & BTRFS_COMPAT_RO_BLOCK_GROUP_TREE ? BTRFS_TREE_BLOCK_GROUP
										   : BTRFS_TREE_EXTENT;
	const struct btrfs_root *root = NULL;
	const struct btrfs_chunk *c;
	int err = btrfs_root_get(bs, tree, &root);

	if (err == -ENOMEM)
		return err;
	if (err)
		root = NULL;
	*n = 0;
	for (u32 i = 0; (c = btrfs_chunk_at(bs->volume, i)); i++) {
		u64 used = 0;
		u32 k;

		for (k = 0; k < *n && out[k].type != c->type; k++)
			;
		if (k == BTRFS_USAGES_MAX)
			continue;
		if (k == *n)
			out[(*n)++] = (struct btrfs_usage){ .type = c->type };
		out[k].unknown += !group_used(root, c, &used);
		out[k].total_bytes += c->len_bytes;
		out[k].used_bytes += used;
	}
	return 0;
}

/* ---- df ---- */

struct devices {
	u64 *free_bytes; /* of each device that is there, most first */
	u32 n;
};

static int most_first(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x > y ? -1 : x < y;
}

static bool device_is_here(struct btrfs_super *bs, u64 devid)
{
	for (u32 i = 0; i < btrfs_device_count(bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(bs->volume, i);

		if (d->devid == devid)
			return d->dev && !d->seed;
	}
	return false;
}

/* What is in no chunk yet, device by device. The first MiB of each is never used. */
static int devices_free(struct btrfs_super *bs, u64 least, struct devices *out)
{
	const u64 kept = 1u << 20;
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err = btrfs_seek(&bs->chunk_root, &BTRFS_KEY(BTRFS_OBJ_DEV_ITEMS, BTRFS_KEY_DEV_ITEM, 0), &p);

	out->free_bytes = calloc(btrfs_device_count(bs->volume) + 1, sizeof(u64));
	if (!out->free_bytes)
		return fail(-ENOMEM, "no memory for a list of devices");
	for (; err != -ENOENT; err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);
		const struct btrfs_disk_dev_item *d;
		u64 bytes;
		u32 len;

		if (key.objectid != BTRFS_OBJ_DEV_ITEMS || key.type != BTRFS_KEY_DEV_ITEM)
			break;
		if (err)
			continue;
		d = btrfs_path_item(&p, &len);
		bytes = le64_get(d->total_bytes) - le64_get(d->bytes_used);
		bytes = ALIGN_DOWN(bytes, (u64)BTRFS_STRIPE_BYTES);
		if (device_is_here(bs, le64_get(d->devid)) && bytes > kept + least &&
		    out->n < btrfs_device_count(bs->volume))
			out->free_bytes[out->n++] = bytes - kept;
	}
	err_clear();
	qsort(out->free_bytes, out->n, sizeof(u64), most_first);
	return 0;
}

/* What data chunks of a profile can still be made of: each takes from as many devices as it needs, beginning with the emptiest. */
static int unallocated(struct btrfs_super *bs, u32 profile, u64 *bytes)
{
	const u64 least = (u64)profiles[profile].per_device * BTRFS_STRIPE_BYTES;
	struct devices d = { 0 };
	u32 stripes;
	int err = devices_free(bs, least, &d);

	*bytes = 0;
	if (err)
		return err;
	stripes = profiles[profile].devices_max ? profiles[profile].devices_max : d.n;
	while (d.n && d.n >= profiles[profile].devices_min) {
		u64 take_bytes = d.free_bytes[d.n - 1];

		stripes = MIN(stripes, d.n);
		if (take_bytes >= least) {
			*bytes += take_bytes * stripes;
			for (u32 i = d.n - stripes; i < d.n; i++)
				d.free_bytes[i] -= take_bytes;
		}
		d.n--;
	}
	free(d.free_bytes);
	return 0;
}

static u64 tree_bytes(struct btrfs_super *bs, u64 id, u32 *trees)
{
	const struct btrfs_root *root;

	if (btrfs_root_get(bs, id, &root)) {
		err_clear();
		return 0;
	}
	++*trees;
	return le64_get(root->item.bytes_used);
}

/* What the kernel keeps back of the metadata space, so that deleting is always possible. */
static u64 reserve_bytes(struct btrfs_super *bs)
{
	const u64 per_item = (u64)bs->node_bytes * BTRFS_LEVELS * 2, unlink_items = 6, most = 512u << 20;
	u64 compat_ro = le64_get(bs->disk.compat_ro), bytes = 0, least;
	u32 trees = 1; /* the root tree */

	bytes += tree_bytes(bs, BTRFS_TREE_EXTENT, &trees);
	bytes += tree_bytes(bs, BTRFS_TREE_CSUM, &trees);
	if (compat_ro & BTRFS_COMPAT_RO_FREE_SPACE_TREE)
		bytes += tree_bytes(bs, BTRFS_TREE_FREE_SPACE, &trees);
	if (compat_ro & BTRFS_COMPAT_RO_BLOCK_GROUP_TREE)
		bytes += tree_bytes(bs, BTRFS_TREE_BLOCK_GROUP, &trees);
	least = (trees + unlink_items) * per_item;
	least += unlink_items * per_item * (compat_ro & BTRFS_COMPAT_RO_FREE_SPACE_TREE ? 2 : 1);
	return MIN(MAX(bytes, least), most);
}

static u64 fsid_of(struct btrfs_super *bs)
{
	be32 part[4];
	u32 a, b;

	memcpy(part, bs->disk.fsid, sizeof(part));
	a = be32_get(part[0]) ^ be32_get(part[2]) ^ (u32)(bs->top->id >> 32);
	b = be32_get(part[1]) ^ be32_get(part[3]) ^ (u32)bs->top->id;
	return a | (u64)b << 32;
}

int btrfs_statfs(struct super_block *sb, struct kstatfs *out)
{
	struct btrfs_super *bs = btrfs_super(sb);
	struct btrfs_usage usage[BTRFS_USAGES_MAX];
	u64 data_free = 0, used = 0, more, reserve = reserve_bytes(bs);
	u64 sector = bs->sector_bytes;
	u32 n, profile = 0;
	int err = btrfs_usage_read(bs, usage, &n);

	if (err)
		return err;
	for (u32 i = 0; i < n; i++) {
		const struct btrfs_usage *u = &usage[i];
		u64 free_bytes = u->total_bytes - MIN(u->used_bytes, u->total_bytes);
		u64 copies = profiles[profile_of(u->type)].copies;

		/* The kernel takes the space on the devices. */
		if (u->type & BTRFS_BG_DATA) {
			data_free += free_bytes * copies;
			profile = MAX(profile, profile_of(u->type));
		}
		used += u->used_bytes * copies;
	}
	err = unallocated(bs, profile, &more);
	if (err)
		return err;
	out->blocks = le64_get(bs->disk.total_bytes) / profiles[profile].copies / sector;
	out->blocks_free = used / profiles[profile].copies / sector;
	out->blocks_free = out->blocks - MIN(out->blocks_free, out->blocks);
	out->blocks_free -= MIN(reserve / sector, out->blocks_free);
	out->blocks_avail = (data_free / profiles[profile].copies + more / profiles[profile].copies) / sector;
	out->fsid = fsid_of(bs);
	return 0;
}
