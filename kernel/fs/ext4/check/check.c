/* Checking a volume: the passes, one after the other. */
#include "check.h"

static bool is_sound(const struct ck *ck)
{
	const struct ext4_disk_super *d = &ck->es->disk;

	return !ck->replayed && !ck->es->from_copy && !ck->es->half_written &&
	       le16_get(d->state) == EXT4_STATE_VALID && !le32_get(d->error_count) &&
	       !le32_get(d->last_orphan) && !ext4_has_incompat(ck->es, EXT4_INCOMPAT_RECOVER) &&
	       !ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_ORPHAN_PRESENT);
}

static int run(struct ck *ck)
{
	static void (*const pass[])(struct ck *) = { ck_supers, ck_inodes, ck_dirs, ck_links, ck_bitmaps };

	ck->sum->block_bytes = ext4_block_bytes(ck->es);
	ck->sum->blocks = ck->es->blocks;
	if (!ck->opts->force && !ck->opts->data && !ck->asked_copy && !ck->sum->found[CHECK_LOSS] &&
	    is_sound(ck)) {
		ck->sum->skipped = true;
		return 0;
	}
	for (u32 i = 0; i < ARRAY_SIZE(pass) && ck_goes_on(ck) && !ck->rest; i++) {
		ck->pass = i + 1;
		pass[i](ck);
		if (pass[i] == ck_inodes && !ck->rest)
			ck_own_make(ck);
		if (pass[i] == ck_links) {
			ck_find_names(ck);
			ck_quotas(ck);
		}
		if (ck->stale || ck->opts->base)
			break;
	}
	/* There is more to mend. */
	if (ck->opts->base && ck->sum->mended) {
		ck->es->disk.state = le16_put(le16_get(ck->es->disk.state) & (u16)~EXT4_STATE_VALID);
		ck_super_put(ck);
	}
	return ck->err;
}

int ext4_check(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
	       const struct check_opts *opts, struct check_summary *out)
{
	struct ck ck = { .opts = opts, .sum = out, .path = ck_path, .asked_copy = mount->has_sb };
	int err;

	*out = (struct check_summary){ 0 };
	err = ck_open(&ck, type, dev, mount);
	if (!err)
		err = run(&ck);
	ck_seen_free(&ck);
	if (ck.es) {
		int end = vfs_unmount(&ck.es->vfs);

		err = err ? err : end;
	}
	if (!err && ck.finish_orphans)
		err = ck_finish_orphans(type, dev, mount);
	return err;
}
