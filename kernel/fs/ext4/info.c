/*
 * What the superblock says: all of it, member by member, for `dump superblock`; what a person asks first, for
 * `info`.
 */
#include "ext4.h"

#include <errno.h>
#include <stdio.h>

#define M(field, kind) DOC_MEMBER(struct ext4_disk_super, field, kind)
static const struct doc_member super_members[] = {
	M(inodes_count, NUMBER),
	M(blocks_count_lo, NUMBER),
	M(blocks_count_hi, NUMBER),
	M(r_blocks_count_lo, NUMBER),
	M(r_blocks_count_hi, NUMBER),
	M(free_blocks_count_lo, NUMBER),
	M(free_blocks_count_hi, NUMBER),
	M(free_inodes_count, NUMBER),
	M(first_data_block, NUMBER),
	M(log_block_size, NUMBER),
	M(log_cluster_size, NUMBER),
	M(blocks_per_group, NUMBER),
	M(clusters_per_group, NUMBER),
	M(inodes_per_group, NUMBER),
	M(mtime, TIME),
	M(wtime, TIME),
	M(mnt_count, NUMBER),
	M(max_mnt_count, NUMBER),
	M(magic, HEX),
	M(state, HEX),
	M(errors, NUMBER),
	M(minor_rev_level, NUMBER),
	M(lastcheck, TIME),
	M(checkinterval, NUMBER),
	M(creator_os, NUMBER),
	M(rev_level, NUMBER),
	M(def_resuid, NUMBER),
	M(def_resgid, NUMBER),
	M(first_ino, NUMBER),
	M(inode_size, NUMBER),
	M(block_group_nr, NUMBER),
	M(feature_compat, HEX),
	M(feature_incompat, HEX),
	M(feature_ro_compat, HEX),
	M(uuid, UUID),
	M(volume_name, TEXT),
	M(last_mounted, TEXT),
	M(algorithm_bitmap, HEX),
	M(prealloc_blocks, NUMBER),
	M(prealloc_dir_blocks, NUMBER),
	M(reserved_gdt_blocks, NUMBER),
	M(journal_uuid, UUID),
	M(journal_inum, NUMBER),
	M(journal_dev, HEX),
	M(last_orphan, NUMBER),
	M(hash_seed, UUID),
	M(def_hash_version, NUMBER),
	M(jnl_backup_type, NUMBER),
	M(desc_size, NUMBER),
	M(default_mount_opts, HEX),
	M(first_meta_bg, NUMBER),
	M(mkfs_time, TIME),
	M(min_extra_isize, NUMBER),
	M(want_extra_isize, NUMBER),
	M(flags, HEX),
	M(raid_stride, NUMBER),
	M(mmp_update_interval, NUMBER),
	M(mmp_block, NUMBER),
	M(raid_stripe_width, NUMBER),
	M(log_groups_per_flex, NUMBER),
	M(checksum_type, NUMBER),
	M(encryption_level, NUMBER),
	M(kbytes_written, NUMBER),
	M(snapshot_inum, NUMBER),
	M(snapshot_id, NUMBER),
	M(snapshot_r_blocks, NUMBER),
	M(snapshot_list, NUMBER),
	M(error_count, NUMBER),
	M(first_error_time, TIME),
	M(first_error_ino, NUMBER),
	M(first_error_block, NUMBER),
	M(first_error_func, TEXT),
	M(first_error_line, NUMBER),
	M(first_error_errcode, NUMBER),
	M(last_error_time, TIME),
	M(last_error_ino, NUMBER),
	M(last_error_block, NUMBER),
	M(last_error_func, TEXT),
	M(last_error_line, NUMBER),
	M(last_error_errcode, NUMBER),
	M(mount_opts, TEXT),
	M(usr_quota_inum, NUMBER),
	M(grp_quota_inum, NUMBER),
	M(prj_quota_inum, NUMBER),
	M(overhead_clusters, NUMBER),
	M(backup_bgs[0], NUMBER),
	M(backup_bgs[1], NUMBER),
	M(lpf_ino, NUMBER),
	M(checksum_seed, HEX),
	M(encoding, NUMBER),
	M(encoding_flags, HEX),
	M(orphan_file_inum, NUMBER),
	M(checksum, HEX),
};
#undef M

void ext4_super_doc(const struct ext4_disk_super *d, struct doc *out)
{
	doc_members(out, super_members, ARRAY_SIZE(super_members), d, sizeof(*d));
	ext4_feature_doc(d, doc_array(out, "features"));
	if (le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM)
		doc_str(out, "checksum_is", ext4_csum_super(d) == le32_get(d->checksum) ? "right" : "wrong");
}

/* Low and high half of a count of the superblock. */
static u64 count(const struct ext4_disk_super *d, le32 lo, le32 hi)
{
	bool wide = le32_get(d->feature_incompat) & EXT4_INCOMPAT_64BIT;

	return le32_get(lo) | (wide ? (u64)le32_get(hi) << 32 : 0);
}

static void state_doc(const struct ext4_disk_super *d, struct doc *out)
{
	u32 state = le16_get(d->state);

	if (state & EXT4_STATE_ERROR)
		doc_str(out, "state", "errors were found: check it");
	else if (le32_get(d->feature_incompat) & EXT4_INCOMPAT_RECOVER)
		doc_str(out, "state", "not cleanly unmounted: the journal is to be applied");
	else
		doc_str(out, "state", state & EXT4_STATE_VALID ? "clean" : "not cleanly unmounted");
	if (le32_get(d->error_count))
		doc_u64(out, "errors_recorded", le32_get(d->error_count));
}

static s64 wide_time(le32 lo, u8 hi)
{
	return (s64)(le32_get(lo) | (u64)hi << 32);
}

/* A label, a path: bytes up to the first zero. */
static void text_doc(struct doc *out, const char *key, const u8 *p, u32 len)
{
	len = (u32)strnlen((const char *)p, len);
	if (len)
		doc_bytes(out, key, p, len);
}

/* refused: why it cannot be read, NULL if it can. */
static void brief(const struct ext4_disk_super *d, const char *refused, struct doc *out)
{
	u32 block = 1024u << (le32_get(d->log_block_size) & 15);

	doc_str(out, "variant", ext4_feature_variant(d));
	text_doc(out, "label", d->volume_name, sizeof(d->volume_name));
	doc_uuid(out, "uuid", d->uuid);
	state_doc(d, out);
	doc_u64(out, "block_bytes", block);
	doc_u64(out, "blocks", count(d, d->blocks_count_lo, d->blocks_count_hi));
	doc_u64(out, "blocks_free", count(d, d->free_blocks_count_lo, d->free_blocks_count_hi));
	doc_u64(out, "blocks_reserved", count(d, d->r_blocks_count_lo, d->r_blocks_count_hi));
	doc_u64(out, "size_bytes", count(d, d->blocks_count_lo, d->blocks_count_hi) * block);
	doc_u64(out, "inodes", le32_get(d->inodes_count));
	doc_u64(out, "inodes_free", le32_get(d->free_inodes_count));
	doc_u64(out, "inode_bytes", ext4_sb_inode_bytes(d));
	ext4_feature_doc(d, doc_array(out, "features"));
	if (refused)
		doc_str(out, "refused", refused);
	doc_time(out, "created", wide_time(d->mkfs_time, d->mkfs_time_hi), 0);
	doc_time(out, "last_mount", wide_time(d->mtime, d->mtime_hi), 0);
	doc_time(out, "last_write", wide_time(d->wtime, d->wtime_hi), 0);
	doc_time(out, "last_check", wide_time(d->lastcheck, d->lastcheck_hi), 0);
	text_doc(out, "last_mounted_on", d->last_mounted, sizeof(d->last_mounted));
	doc_u64(out, "mounts_since_check", le16_get(d->mnt_count));
}

void ext4_super_brief(const struct ext4_disk_super *d, struct doc *out)
{
	brief(d, NULL, out);
}

int ext4_info(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct doc *out)
{
	struct ext4_disk_super d;
	u64 off;
	int err = ext4_one_device(n);

	if (err)
		return err;
	err = ext4_sb_read(devs[0], opts, &d, &off);
	if (err && (err != -EOPNOTSUPP || le16_get(d.magic) != EXT4_MAGIC))
		return err;
	brief(&d, err ? err_text() : NULL, out);
	if (off != EXT4_SUPER_OFF)
		doc_u64(out, "superblock_copy_at_byte", off);
	return 0;
}
