/* Finding what is wrong with a volume, and mending it: the passes, in their order. */
#include "check.h"

#include "lib/os.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_damage(int err)
{
	return err == -EUCLEAN || err == -EIO;
}

/* What cannot be had without it is asked for, before anything is said. */
static int need_devices(struct ck *c)
{
	if (c->bs->opts.degraded)
		return 0;
	for (u32 i = 0; i < btrfs_device_count(c->bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(c->bs->volume, i);

		if (!d->dev)
			return fail(-ENXIO,
				    "device %llu of the volume is missing: name it with --device, or check "
				    "what is there with -o degraded",
				    (unsigned long long)d->devid);
	}
	return 0;
}

static void run(struct ck *c)
{
	u64 nodes = le64_get(c->bs->disk.bytes_used) / c->bs->node_bytes;

	btrfs_ck_pass(c, "superblocks", 0);
	btrfs_ck_mend_init(c);
	btrfs_ck_supers(c);
	btrfs_ck_pass(c, "extents", nodes);
	/* First of all trees: references of the others are counted by what it says of their nodes. */
	btrfs_ck_extents(c);
	btrfs_ck_roots(c);
	btrfs_ck_devices(c);
	btrfs_ck_csums(c);
	btrfs_ck_free_space(c);
	btrfs_ck_space_cache(c);
	btrfs_ck_uuids(c);
	btrfs_ck_pass(c, "files", nodes);
	btrfs_ck_files(c);
	btrfs_ck_quotas(c);
	btrfs_ck_others(c);
	btrfs_ck_log(c);
	btrfs_ck_pass(c, "references", c->extents);
	btrfs_ck_subvolumes(c);
	btrfs_ck_references(c);
	btrfs_ck_pass(c, "space", 0);
	btrfs_ck_groups(c);
	btrfs_ck_csums_alone(c);
	if (c->opts->data && !c->err)
		btrfs_ck_data(c);
	btrfs_ck_error_flag(c);
	if (c->mends && !c->err)
		btrfs_ck_mend_end(c);
}

static void finish(struct ck *c)
{
	struct check_summary *s = c->sum;
	const struct btrfs_disk_super *d = &c->bs->disk;

	s->extents = c->extents;
	s->block_bytes = c->bs->sector_bytes;
	s->blocks = le64_get(d->total_bytes) / c->bs->sector_bytes;
	s->blocks_used = le64_get(d->bytes_used) / c->bs->sector_bytes;
	snprintf(s->state, sizeof(s->state), "generation %llu%s", (unsigned long long)le64_get(d->generation),
		 le64_get(d->log_root) ? ", with a log" : "");
}

static void free_all(struct ck *c)
{
	btrfs_ck_table_free(&c->nodes);
	btrfs_ck_table_free(&c->strays);
	btrfs_ck_table_free(&c->links);
	btrfs_ck_ranges_free(&c->csums);
	free(c->extent);
	free(c->root);
	free(c->group);
	free(c->buf);
	free(c->bio);
	free(c->frame);
	free(c->super_put);
}

/* A volume that cannot even be opened is a finding, when damage is why. */
static int not_opened(struct ck *c, int err)
{
	if (!is_damage(err))
		return err;
	snprintf(c->sum->state, sizeof(c->sum->state), "damaged");
	btrfs_ck_found(c, CK_VOLUME, "superblock", 0, NULL, "%s", err_text());
	err_clear();
	return c->err;
}

int btrfs_check(struct blkdev **devs, u32 n, const struct mount_opts *mount, const struct check_opts *opts,
		struct check_summary *out)
{
	struct ck c = { .devs = devs, .dev_count = n, .opts = opts, .sum = out };
	static const struct fs_type opened = { .name = "btrfs", .rdonly = true };
	struct mount_opts mo = *mount;
	int err;

	if (mount->journal)
		return fail(-EINVAL, "a btrfs volume has no journal: leave --journal away");
	mo.rdonly = true;
	mo.cache_bytes = opts->cache_bytes ? opts->cache_bytes : mount->cache_bytes;
	*out = (struct check_summary){ 0 };
	err = btrfs_super_open(devs, n, &opened, &mo, true, &c.bs);
	if (err)
		return not_opened(&c, err);
	os_random(&c.ref_seed, sizeof(c.ref_seed));
	err = need_devices(&c);
	if (!err)
		err = btrfs_ck_walk_init(&c);
	if (!err) {
		run(&c);
		finish(&c);
		err = c.err;
	}
	free_all(&c);
	vfs_unmount(&c.bs->vfs);
	return err;
}
