/*
 * What the superblock says: all of it, member by member, for `dump superblock`; what a person asks first, for `info`, which needs
 * no more than one good superblock and says what else can be read.
 */
#include "btrfs.h"

#include <errno.h>
#include <stdio.h>

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_super, field, kind)
static const struct doc_member super_members[] = {
	M(fsid, UUID),
	M(metadata_uuid, UUID),
	M(label, TEXT),
	M(bytenr, NUMBER),
	M(flags, HEX),
	M(generation, NUMBER),
	M(root, NUMBER),
	M(root_level, NUMBER),
	M(chunk_root, NUMBER),
	M(chunk_root_generation, NUMBER),
	M(chunk_root_level, NUMBER),
	M(log_root, NUMBER),
	M(log_root_level, NUMBER),
	M(log_root_transid, NUMBER),
	M(total_bytes, NUMBER),
	M(bytes_used, NUMBER),
	M(root_dir_objectid, NUMBER),
	M(num_devices, NUMBER),
	M(sector_bytes, NUMBER),
	M(node_bytes, NUMBER),
	M(leaf_bytes, NUMBER),
	M(stripe_bytes, NUMBER),
	M(sys_array_bytes, NUMBER),
	M(cache_generation, NUMBER),
	M(uuid_tree_generation, NUMBER),
	M(nr_global_roots, NUMBER),
};
#undef M

#define M(field, kind) DOC_MEMBER(struct btrfs_disk_backup, field, kind)
static const struct doc_member backup_members[] = {
	M(tree_root, NUMBER),   M(tree_root_gen, NUMBER),   M(tree_root_level, NUMBER),
	M(chunk_root, NUMBER),  M(chunk_root_gen, NUMBER),  M(chunk_root_level, NUMBER),
	M(extent_root, NUMBER), M(extent_root_gen, NUMBER), M(extent_root_level, NUMBER),
	M(fs_root, NUMBER),     M(fs_root_gen, NUMBER),     M(fs_root_level, NUMBER),
	M(dev_root, NUMBER),    M(dev_root_gen, NUMBER),    M(dev_root_level, NUMBER),
	M(csum_root, NUMBER),   M(csum_root_gen, NUMBER),   M(csum_root_level, NUMBER),
	M(total_bytes, NUMBER), M(bytes_used, NUMBER),      M(num_devices, NUMBER),
};
#undef M

void btrfs_backups_doc(const struct btrfs_disk_super *d, struct doc *array)
{
	for (u32 i = 0; i < BTRFS_BACKUPS; i++)
		if (le64_get(d->backup[i].tree_root))
			doc_members(doc_object(array, NULL), backup_members, ARRAY_SIZE(backup_members),
				    &d->backup[i], sizeof(d->backup[i]));
}

static void features_doc(const struct btrfs_disk_super *d, struct doc *out)
{
	btrfs_features_doc(0, le64_get(d->compat), doc_array(out, "compat"));
	btrfs_features_doc(1, le64_get(d->compat_ro), doc_array(out, "compat_ro"));
	btrfs_features_doc(2, le64_get(d->incompat), doc_array(out, "incompat"));
}

static const char *csum_name(const struct btrfs_disk_super *d)
{
	u32 type = le16_get(d->csum_type);

	return btrfs_csum_bytes(type) ? btrfs_csum_name(type) : "unknown";
}

static const char *csum_verdict(const struct btrfs_disk_super *d)
{
	u32 type = le16_get(d->csum_type), bytes = btrfs_csum_bytes(type);
	u8 sum[BTRFS_CSUM_BYTES];

	if (!bytes)
		return "of no known kind";
	btrfs_csum(type, (const u8 *)d + sizeof(d->csum), sizeof(*d) - sizeof(d->csum), sum);
	return memcmp(sum, d->csum, bytes) ? "wrong" : "right";
}

/* Chunks as they stand in the superblock; what is cut off is left out. */
static void sys_array_doc(const struct btrfs_super *bs, const struct btrfs_disk_super *d, struct doc *array)
{
	u32 end = MIN(le32_get(d->sys_array_bytes), BTRFS_SYS_ARRAY_MAX), at = 0;
	const u32 least = sizeof(struct btrfs_disk_key) + sizeof(struct btrfs_disk_chunk);

	while (end - at >= least) {
		struct btrfs_key key = btrfs_key_get((const void *)(d->sys_array + at));
		const struct btrfs_disk_chunk *c =
			(const void *)(d->sys_array + at + sizeof(struct btrfs_disk_key));
		u32 len = sizeof(*c) + le16_get(c->num_stripes) * (u32)sizeof(c->stripe[0]);
		struct doc *o = doc_object(array, NULL);

		at += (u32)sizeof(struct btrfs_disk_key);
		len = MIN(len, end - at);
		btrfs_key_doc(&key, o);
		btrfs_item_doc(bs, &key, c, len, doc_object(o, "item"));
		at += len;
	}
}

void btrfs_super_doc(const struct btrfs_disk_super *d, struct doc *out)
{
	/* The printers of items ask for sizes. */
	const struct btrfs_super bs = { .disk = *d, .csum_bytes = 1, .sector_bytes = 1 };
	const struct btrfs_key device = { BTRFS_OBJ_DEV_ITEMS, BTRFS_KEY_DEV_ITEM,
					  le64_get(d->dev_item.devid) };

	doc_members(out, super_members, ARRAY_SIZE(super_members), d, sizeof(*d));
	doc_str(out, "checksums", csum_name(d));
	doc_str(out, "checksum_is", csum_verdict(d));
	features_doc(d, doc_object(out, "features"));
	btrfs_item_doc(&bs, &device, &d->dev_item, sizeof(d->dev_item), doc_object(out, "device"));
	sys_array_doc(&bs, d, doc_array(out, "system_chunks"));
	btrfs_backups_doc(d, doc_array(out, "backups"));
}

/* ---- info ---- */

void btrfs_devices_doc(struct btrfs_super *bs, struct doc *array)
{
	for (u32 i = 0; i < btrfs_device_count(bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(bs->volume, i);
		struct doc *o = doc_object(array, NULL);

		doc_u64(o, "devid", d->devid);
		doc_uuid(o, "uuid", d->uuid);
		doc_u64(o, "size_bytes", d->size_bytes);
		if (d->dev)
			doc_str(o, "name", d->dev->name);
		else
			doc_bool(o, "missing", true);
		if (d->seed)
			doc_bool(o, "seed", true);
		if (!d->listed)
			doc_bool(o, "unused", true);
	}
}

static void usage_doc(struct btrfs_super *bs, struct doc *array)
{
	struct btrfs_usage usage[BTRFS_USAGES_MAX];
	u32 n;

	if (btrfs_usage_read(bs, usage, &n)) {
		err_clear();
		return;
	}
	for (u32 i = 0; i < n; i++) {
		struct doc *o = doc_object(array, NULL);

		doc_str(o, "use", btrfs_bg_type_name(usage[i].type));
		doc_str(o, "profile", btrfs_bg_profile_name(usage[i].type));
		doc_u64(o, "total_bytes", usage[i].total_bytes);
		doc_u64(o, "used_bytes", usage[i].used_bytes);
		if (usage[i].unknown)
			doc_u64(o, "unknown_chunks", usage[i].unknown);
	}
}

static void super_info(const struct btrfs_disk_super *d, u32 copy, struct doc *out)
{
	size_t label = strnlen((const char *)d->label, sizeof(d->label));

	if (label)
		doc_bytes(out, "label", d->label, label);
	doc_uuid(out, "uuid", d->fsid);
	if (le64_get(d->incompat) & BTRFS_INCOMPAT_METADATA_UUID)
		doc_uuid(out, "metadata_uuid", d->metadata_uuid);
	if (le64_get(d->flags) & BTRFS_SUPER_ERROR)
		doc_str(out, "state", "an error was recorded: check it");
	else
		doc_str(out, "state",
			le64_get(d->log_root) ? "not cleanly unmounted: there is a log" : "clean");
	doc_u64(out, "generation", le64_get(d->generation));
	doc_u64(out, "size_bytes", le64_get(d->total_bytes));
	doc_u64(out, "used_bytes", le64_get(d->bytes_used));
	doc_u64(out, "sector_bytes", le32_get(d->sector_bytes));
	doc_u64(out, "node_bytes", le32_get(d->node_bytes));
	doc_str(out, "checksums", csum_name(d));
	features_doc(d, doc_object(out, "features"));
	doc_u64(out, "device_count", le64_get(d->num_devices));
	if (copy)
		doc_u64(out, "superblock_copy", copy);
}

int btrfs_info(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct doc *out)
{
	static const struct fs_type opened = { .name = "btrfs" };
	struct btrfs_disk_super d;
	struct btrfs_super *bs;
	u32 copy = 0;
	int mirror = -1, err = btrfs_super_mirror(opts, &mirror);

	if (!err)
		err = btrfs_sb_read(devs[0], mirror, &d, &copy);

	if (err)
		return err;
	super_info(&d, copy, out);
	err = btrfs_features_check(&d);
	if (!err)
		err = btrfs_super_open(devs, n, &opened, opts, true, &bs);
	if (err) {
		doc_str(out, "refused", err_text());
		err_clear();
		return 0;
	}
	btrfs_devices_doc(bs, doc_array(out, "devices"));
	usage_doc(bs, doc_array(out, "usage"));
	if (bs->vfs.notice[0])
		doc_str(out, "notice", bs->vfs.notice);
	vfs_unmount(&bs->vfs);
	return 0;
}
