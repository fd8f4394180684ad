/*
 * The volume in memory: from superblocks to the subvolume that is shown.
 *
 *     superblock ─► system chunks ─► chunk tree (all chunks, all devices) ─► root tree ─► checksum tree, subvolume
 *
 * Each arrow is a tree that is found by what came before it. Where the root tree or what it must lead to cannot be read,
 * -o usebackuproot goes on with older ones (rescue.c). What a user should know of the volume becomes its notice.
 */
#include "btrfs.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LOGGED_MAX 100000u /* objects of a log that are looked at */

/* ---- the end ---- */

static void btrfs_put_super(struct super_block *sb)
{
	struct btrfs_super *bs = btrfs_super(sb);
	struct blkdev *dev = sb->dev;

	if (dev && dev->cache)
		(void)!bcache_detach(dev, true);
	super_fini(sb);
	btrfs_unpacked_free(bs->unpacked);
	bcache_free(sb->cache);
	btrfs_inos_free(bs->inos);
	btrfs_roots_free(bs);
	mutex_fini(&bs->roots_lock);
	if (dev)
		dev->health = NULL;
	btrfs_volume_free(bs->volume);
	btrfs_opts_free(&bs->opts);
	free(bs);
}

static const struct super_ops btrfs_super_ops = {
	.alloc_inode = btrfs_alloc_inode,
	.free_inode = btrfs_free_inode,
	.read_inode = btrfs_read_inode,
	.statfs = btrfs_statfs,
	.readahead_inodes = btrfs_readahead_inodes,
	.subvolumes = btrfs_subvolumes,
	.put_super = btrfs_put_super,
};

/* ---- superblock, devices, chunks ---- */

static void fill(struct btrfs_super *bs)
{
	const struct btrfs_disk_super *d = &bs->disk;
	bool other_uuid = le64_get(d->incompat) & BTRFS_INCOMPAT_METADATA_UUID;

	bs->node_bytes = le32_get(d->node_bytes);
	bs->sector_bytes = le32_get(d->sector_bytes);
	bs->csum_type = le16_get(d->csum_type);
	bs->csum_bytes = btrfs_csum_bytes(bs->csum_type);
	memcpy(bs->node_fsid, other_uuid ? d->metadata_uuid : d->fsid, sizeof(bs->node_fsid));
	bs->tree_root = (struct btrfs_root){ .bs = bs, .id = BTRFS_TREE_ROOT };
	bs->chunk_root = (struct btrfs_root){
		.bs = bs,
		.id = BTRFS_TREE_CHUNK,
		.bytenr = le64_get(d->chunk_root),
		.generation = le64_get(d->chunk_root_generation),
		.level = d->chunk_root_level,
	};
	bs->vfs.block_bytes = bs->sector_bytes;
	bs->vfs.size_max_bytes = INT64_MAX;
	bs->vfs.rdonly = true;
	bs->vfs.has_xattr = true;
	bs->vfs.xattr_prefix = "btrfs.";
	bs->vfs.has_acl = !bs->opts.noacl;
}

int btrfs_super_mirror(const struct mount_opts *opts, int *mirror)
{
	if (opts->has_sb && opts->sb_block >= BTRFS_SUPER_COUNT)
		return fail(-EINVAL, "a btrfs volume has superblocks 0 to %u", BTRFS_SUPER_COUNT - 1);
	*mirror = opts->has_sb ? (int)opts->sb_block : -1;
	return 0;
}

/* Up to a device of logical addresses that knows its system chunks. */
static int open_volume(struct btrfs_super *bs, struct blkdev **devs, u32 n, const struct mount_opts *opts)
{
	int mirror = -1, err = btrfs_super_mirror(opts, &mirror);

	if (!err)
		err = btrfs_volume_new(devs, n, mirror, &bs->vfs.health, &bs->disk, &bs->volume);
	if (!err)
		err = btrfs_features_check(&bs->disk);
	if (err)
		return err;
	fill(bs);
	bs->vfs.dev = btrfs_volume_dev(bs->volume);
	err = bcache_new(opts->cache_bytes, &bs->vfs.cache);
	if (!err)
		err = btrfs_unpacked_new(bs->vfs.cache, &bs->unpacked);
	return err ? err : bcache_attach(bs->vfs.cache, bs->vfs.dev, bs->node_bytes);
}

/* A device of another volume is a seed of this one: nodes may carry its fsid. */
static void note_seed(struct btrfs_super *bs, const struct btrfs_disk_dev_item *d)
{
	if (!memcmp(d->fsid, bs->disk.fsid, sizeof(d->fsid)) ||
	    !memcmp(d->fsid, bs->node_fsid, sizeof(d->fsid)))
		return;
	for (u32 i = 0; i < bs->seeds; i++)
		if (!memcmp(d->fsid, bs->seed_fsid[i], sizeof(d->fsid)))
			return;
	if (bs->seeds < BTRFS_SEEDS_MAX)
		memcpy(bs->seed_fsid[bs->seeds++], d->fsid, sizeof(d->fsid));
}

static int take_chunk_item(struct btrfs_super *bs, const struct btrfs_path *p)
{
	struct btrfs_key key = btrfs_path_key(p);
	u32 len;
	const void *item = btrfs_path_item(p, &len);

	if (key.type == BTRFS_KEY_CHUNK_ITEM)
		return btrfs_volume_chunk(bs->volume, key.offset, item, len);
	if (key.type != BTRFS_KEY_DEV_ITEM)
		return 0;
	note_seed(bs, item);
	return btrfs_volume_device(bs->volume, item);
}

/* Every item of the chunk tree. What is damaged is left out and counted: what lies there cannot be read then. */
static int read_chunk_tree(struct btrfs_super *bs, u32 *bad)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err = btrfs_seek(&bs->chunk_root, &BTRFS_KEY(0, 0, 0), &p);

	*bad = 0;
	if (!p.node[bs->chunk_root.level])
		return err == -ENOENT ? fail(-EUCLEAN, "the chunk tree is empty") : err;
	for (; err != -ENOENT; err = btrfs_next(&p)) {
		if (!err)
			err = take_chunk_item(bs, &p);
		if (err && err != -EUCLEAN && err != -EIO)
			return err;
		if (err) {
			log_msg(*bad ? LOG_LVL_INFO : LOG_LVL_WARN, "%s: left out: %s", bs->vfs.health.name,
				err_text());
			++*bad;
		}
	}
	err_clear();
	return 0;
}

/* For whoever can look for them. */
static void tell_missing(struct btrfs_super *bs, struct fs_missing *out)
{
	for (u32 i = 0; out && i < btrfs_device_count(bs->volume) && out->count < FS_MISSING_MAX; i++) {
		const struct btrfs_device *d = btrfs_device_at(bs->volume, i);

		if (!d->dev)
			memcpy(out->dev_uuid[out->count++], d->uuid, sizeof(d->uuid));
	}
}

/* The chunk tree, or an older one. */
static int open_chunks(struct btrfs_super *bs, const struct mount_opts *opts, bool lenient)
{
	u32 bad, lost;
	int err = read_chunk_tree(bs, &bad), ready_err;
	char why[200];

	for (u32 i = 0; err && bs->opts.usebackuproot && i < BTRFS_BACKUPS; i++) {
		const struct btrfs_disk_backup *b = &bs->disk.backup[i];

		if (!le64_get(b->chunk_root) || b->chunk_root_level >= BTRFS_LEVELS ||
		    le64_get(b->chunk_root) == bs->chunk_root.bytenr)
			continue;
		snprintf(why, sizeof(why), "%s", err_text());
		bs->chunk_root.bytenr = le64_get(b->chunk_root);
		bs->chunk_root.generation = le64_get(b->chunk_root_gen);
		bs->chunk_root.level = b->chunk_root_level;
		err = read_chunk_tree(bs, &bad);
		if (!err)
			super_note(&bs->vfs, "an older chunk tree is used, of generation %llu: %s",
				   (unsigned long long)bs->chunk_root.generation, why);
	}
	tell_missing(bs, opts->missing);
	ready_err = btrfs_volume_ready(bs->volume, bs->opts.degraded || lenient, &lost);
	/* A device that is missing is why, if one is. */
	if (ready_err || (err && !lenient))
		return ready_err ? ready_err : err;
	if (err) {
		super_note(&bs->vfs, "the chunk tree cannot be read: %s", err_text());
		bad = 0;
	}
	if (bad)
		super_note(&bs->vfs, "%u parts of the chunk tree are damaged: what lies there is missing",
			   bad);
	if (lost)
		super_note(&bs->vfs, "%u chunks cannot be read without the devices that are missing", lost);
	return 0;
}

/* ---- trees ---- */

static int choose_subvol(struct btrfs_super *bs, u64 *id)
{
	u64 by_path = 0;
	int err;

	if (bs->opts.subvol) {
		err = btrfs_root_by_path(bs, bs->opts.subvol, &by_path);
		if (err)
			return err;
		if (bs->opts.subvolid && bs->opts.subvolid != by_path)
			return fail(-EINVAL, "subvolume \"%s\" has the id %llu, not %llu", bs->opts.subvol,
				    (unsigned long long)by_path, (unsigned long long)bs->opts.subvolid);
		*id = by_path;
		return 0;
	}
	if (bs->opts.subvolid) {
		*id = bs->opts.subvolid;
		return 0;
	}
	return btrfs_root_default(bs, id);
}

/* The subvolume that is shown: it has a root directory. */
static int open_top(struct btrfs_super *bs)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	u64 id;
	int err = choose_subvol(bs, &id);

	if (err)
		return err;
	err = btrfs_is_subvol(id) ? btrfs_root_get(bs, id, &bs->top) : -ENOENT;
	if (!err && !le32_get(bs->top->item.refs))
		err = -ENOENT;
	if (err == -ENOENT)
		return fail(-ENOENT, "there is no subvolume of the id %llu", (unsigned long long)id);
	if (err)
		return err;
	err = btrfs_find(bs->top, &BTRFS_KEY(bs->top->dirid, BTRFS_KEY_INODE_ITEM, 0), &p);
	if (err == -ENOENT)
		err = corrupt(&bs->vfs.health, "subvolume", id, "it has no root directory");
	return err;
}

static int open_csums(struct btrfs_super *bs)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err = btrfs_root_get(bs, BTRFS_TREE_CSUM, &bs->csum_root);

	if (err == -ENOENT)
		err = corrupt(&bs->vfs.health, "tree", BTRFS_TREE_CSUM, "there is no checksum tree");
	if (!err)
		err = btrfs_seek(bs->csum_root, &BTRFS_KEY(0, 0, 0), &p);
	if (!err || err == -ENOENT || (err != -ENOMEM && p.node[bs->csum_root ? bs->csum_root->level : 0]))
		return 0;
	bs->csum_root = NULL;
	if (!bs->opts.ignore_bad_roots && !bs->opts.ignore_data_csums)
		return err;
	super_note(&bs->vfs, "data is not checked, the checksum tree cannot be read: %s", err_text());
	return 0;
}

/* One root tree, and what it must lead to. *csums: it is the checksum tree that cannot be read. */
static int try_root(struct btrfs_super *bs, const struct btrfs_old_root *at, bool lenient, bool *csums)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err;

	*csums = false;
	btrfs_roots_free(bs);
	bs->csum_root = bs->top = NULL;
	bs->generation = bs->tree_root.generation = at->generation;
	bs->tree_root.bytenr = at->bytenr;
	bs->tree_root.level = at->level;
	err = btrfs_seek(&bs->tree_root, &BTRFS_KEY(0, 0, 0), &p);
	if (err == -ENOENT)
		return corrupt(&bs->vfs.health, "tree", BTRFS_TREE_ROOT, "the root tree is empty");
	/* A damaged item in it hides one tree. */
	if (err && !p.node[at->level])
		return err;
	if (lenient)
		return 0;
	err = open_csums(bs);
	*csums = err;
	return err ? err : open_top(bs);
}

static bool is_damage(int err)
{
	return err == -EUCLEAN || err == -EIO;
}

/* The generation that was asked for. */
static int open_generation(struct btrfs_super *bs, struct blkdev **devs, u32 n, bool lenient)
{
	u64 generation = bs->opts.generation;
	struct btrfs_old_roots old;
	bool csums;
	int err = btrfs_old_roots(bs, devs, n, generation, &old);

	if (!err && !old.count)
		err = fail(-ENOENT, "no root tree of generation %llu is to be found",
			   (unsigned long long)generation);
	if (err)
		return err;
	err = try_root(bs, &old.at[0], lenient, &csums);
	if (!err && generation != le64_get(bs->disk.generation))
		super_note(&bs->vfs, "shown as of generation %llu (the newest is %llu), found by %s",
			   (unsigned long long)generation, (unsigned long long)le64_get(bs->disk.generation),
			   old.at[0].from);
	return err;
}

static int open_trees(struct btrfs_super *bs, struct blkdev **devs, u32 n, bool lenient)
{
	const struct btrfs_old_root newest = { le64_get(bs->disk.root), le64_get(bs->disk.generation),
					       bs->disk.root_level, "the superblock" };
	struct btrfs_old_roots old;
	char why[200];
	bool csums;
	int err;

	if (bs->opts.generation)
		return open_generation(bs, devs, n, lenient);
	err = try_root(bs, &newest, lenient, &csums);
	if (!is_damage(err))
		return err;
	snprintf(why, sizeof(why), "%s", err_text());
	if (!bs->opts.usebackuproot) {
		if (!lenient)
			return fail(err, "%s (-o usebackuproot tries older trees%s)", why,
				    csums ? ", -o rescue=ignorebadroots shows data unchecked" : "");
		super_note(&bs->vfs, "the root tree cannot be read: %s", why);
		return 0;
	}
	log_warn("%s: generation %llu cannot be used: %s", bs->vfs.health.name,
		 (unsigned long long)newest.generation, why);
	err = btrfs_old_roots(bs, devs, n, 0, &old);
	if (err)
		return err;
	for (u32 i = 0; i < old.count; i++) {
		if (old.at[i].bytenr == newest.bytenr)
			continue;
		err = try_root(bs, &old.at[i], lenient, &csums);
		if (!err) {
			super_note(&bs->vfs, "generation %llu of %llu is shown, what came later is damaged",
				   (unsigned long long)old.at[i].generation,
				   (unsigned long long)newest.generation);
			return 0;
		}
		if (!is_damage(err))
			return err;
		log_warn("%s: generation %llu cannot be used: %s", bs->vfs.health.name,
			 (unsigned long long)old.at[i].generation, err_text());
	}
	return fail(-EUCLEAN, "%s (nor can an older tree be used)", why);
}

/* ---- what a user should know ---- */

int btrfs_log_root(struct btrfs_super *bs, struct btrfs_root *out)
{
	if (!le64_get(bs->disk.log_root))
		return -ENOENT;
	*out = (struct btrfs_root){
		.bs = bs,
		.id = BTRFS_TREE_LOG,
		.bytenr = le64_get(bs->disk.log_root),
		.generation = le64_get(bs->disk.generation) + 1,
		.level = bs->disk.log_root_level,
	};
	return 0;
}

void btrfs_log_tree(const struct btrfs_disk_root *item, struct btrfs_super *bs, struct btrfs_root *out)
{
	*out = (struct btrfs_root){
		.bs = bs,
		.id = BTRFS_TREE_LOG,
		.bytenr = le64_get(item->bytenr),
		.generation = le64_get(item->generation),
		.level = item->level,
		.dirid = le64_get(item->root_dirid),
	};
}

/* Inodes in one subvolume's log. *left is counted down. */
static u32 count_inodes(const struct btrfs_root *log, u32 *left)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	u64 next = 0;
	u32 n = 0;

	/* From inode to inode, past what belongs to each. */
	while (*left && --*left && !btrfs_seek(log, &BTRFS_KEY(next, 0, 0), &p)) {
		struct btrfs_key key = btrfs_path_key(&p);

		n += key.type == BTRFS_KEY_INODE_ITEM;
		if (key.objectid == ~0ull)
			break;
		next = key.objectid + 1;
	}
	err_clear();
	return n;
}

static void note_log(struct btrfs_super *bs)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	struct btrfs_root root, log;
	u32 inodes = 0, left = LOGGED_MAX, len;
	int err;

	if (btrfs_log_root(bs, &root))
		return;
	err = btrfs_seek(&root, &BTRFS_KEY(BTRFS_TREE_LOG, BTRFS_KEY_ROOT_ITEM, 0), &p);
	for (; !err && left; err = btrfs_next(&p)) {
		if (btrfs_path_key(&p).type != BTRFS_KEY_ROOT_ITEM)
			break;
		btrfs_log_tree(btrfs_path_item(&p, &len), bs, &log);
		inodes += count_inodes(&log, &left);
	}
	if (err && err != -ENOENT)
		super_note(&bs->vfs, "shown as of its last commit; its log, generation %llu, is damaged: %s",
			   (unsigned long long)root.generation, err_text());
	else
		super_note(&bs->vfs,
			   "shown as of its last commit: what was synced later, %u inodes in a log of "
			   "generation %llu, is missing",
			   inodes, (unsigned long long)root.generation);
	err_clear();
}

static void note_devices(struct btrfs_super *bs)
{
	for (u32 i = 0; i < btrfs_device_count(bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(bs->volume, i);

		if (!d->dev)
			super_note(&bs->vfs, "device %llu is missing", (unsigned long long)d->devid);
		else if (!d->listed)
			super_note(&bs->vfs, "%s is not used: the volume has no device %llu of its uuid",
				   d->dev->name, (unsigned long long)d->devid);
		else if (d->dev->size_bytes < d->size_bytes)
			super_note(&bs->vfs,
				   "device %llu, %s, is %llu bytes too short: what lay there is missing",
				   (unsigned long long)d->devid, d->dev->name,
				   (unsigned long long)(d->size_bytes - d->dev->size_bytes));
		else if (!d->seed && d->generation < le64_get(bs->disk.generation))
			super_note(&bs->vfs,
				   "device %llu, %s, missed the last %llu commits: it should be scrubbed",
				   (unsigned long long)d->devid, d->dev->name,
				   (unsigned long long)(le64_get(bs->disk.generation) - d->generation));
	}
}

/* A balance, or the replacement of a device, was under way: the volume is whole, and the kernel goes on with it. */
static void note_unfinished(struct btrfs_super *bs)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_root *dev_root;
	const struct btrfs_disk_dev_replace *d;
	u64 state;
	u32 len;

	if (!btrfs_find(&bs->tree_root, &BTRFS_KEY(BTRFS_OBJ_BALANCE, BTRFS_KEY_TEMPORARY_ITEM, 0), &p))
		super_note(&bs->vfs, "a balance is not finished");
	if (!btrfs_root_get(bs, BTRFS_TREE_DEV, &dev_root) &&
	    !btrfs_find(dev_root, &BTRFS_KEY(0, BTRFS_KEY_DEV_REPLACE, 0), &p)) {
		d = btrfs_path_item(&p, &len);
		state = le64_get(d->state);
		if (state == BTRFS_REPLACE_STARTED || state == BTRFS_REPLACE_SUSPENDED)
			super_note(&bs->vfs, "the replacement of device %llu is not finished",
				   (unsigned long long)le64_get(d->src_devid));
	}
	err_clear();
}

static void notices(struct btrfs_super *bs)
{
	u64 flags = le64_get(bs->disk.flags), unknown = btrfs_unknown_compat_ro(&bs->disk);

	if (le64_get(bs->disk.bytenr) != BTRFS_SUPER_OFF(0))
		super_note(&bs->vfs, "a copy of the superblock is used, the one at byte %llu",
			   (unsigned long long)le64_get(bs->disk.bytenr));
	note_log(bs);
	note_devices(bs);
	note_unfinished(bs);
	if (flags & BTRFS_SUPER_ERROR)
		super_note(&bs->vfs, "it has recorded an error: it should be checked (btrfs check)");
	if (flags & (BTRFS_SUPER_METADUMP | BTRFS_SUPER_METADUMP_V2))
		super_note(&bs->vfs, "a dump of metadata: what files contain is not in it");
	if (unknown)
		super_note(&bs->vfs, "it has features for writers that are not known here: 0x%llx",
			   (unsigned long long)unknown);
}

/* ---- the beginning ---- */

/* Where a device is cut off, that is what is wrong, and not whatever was read there first. */
static int explain(struct btrfs_super *bs, int err)
{
	char why[200];

	snprintf(why, sizeof(why), "%s", err_text());
	for (u32 i = 0; is_damage(err) && bs->volume && i < btrfs_device_count(bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(bs->volume, i);

		if (d->dev && d->dev->size_bytes < d->size_bytes)
			return fail(err, "%s is cut off, it has %llu of %llu bytes: %s", d->dev->name,
				    (unsigned long long)d->dev->size_bytes, (unsigned long long)d->size_bytes,
				    why);
	}
	return err;
}

int btrfs_super_open(struct blkdev **devs, u32 n, const struct fs_type *type, const struct mount_opts *opts,
		     bool lenient, struct btrfs_super **out)
{
	struct btrfs_super *bs = calloc(1, sizeof(*bs));
	int err = bs ? btrfs_opts_parse(opts->fs_opts, &bs->opts) : fail(-ENOMEM, "no memory for a volume");

	if (!err)
		err = super_init(&bs->vfs, type, &btrfs_super_ops, devs[0]->name, opts);
	if (err) {
		if (bs)
			btrfs_opts_free(&bs->opts);
		free(bs);
		return err;
	}
	mutex_init(&bs->roots_lock, RANK_ALLOC);
	bs->opts.norecovery |= opts->norecovery;
	err = btrfs_inos_new(&bs->inos);
	if (!err)
		err = open_volume(bs, devs, n, opts);
	if (!err && !lenient && !bs->opts.ignore_super_flags)
		err = btrfs_flags_check(&bs->disk);
	if (!err)
		err = open_chunks(bs, opts, lenient);
	if (!err) {
		bs->ahead_ok = !opts->readahead_off;
		err = open_trees(bs, devs, n, lenient);
	}
	if (err) {
		err = explain(bs, err);
		btrfs_put_super(&bs->vfs);
		return err;
	}
	if (bs->top)
		bs->vfs.root_ino = bs->top->dirid;
	if (!lenient && !opts->rdonly)
		super_note(&bs->vfs, "shown read-only: btrfs is not written yet");
	if (!lenient)
		notices(bs);
	*out = bs;
	return 0;
}
