/*
 * The superblock and its copies, mended: onto the device, and the marks of a volume that is sound.
 *
 * es->disk is what the volume is to say of itself; who changes it calls ck_super_put.
 */
#include "check.h"

#include "lib/scope.h"

void ck_super_put(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_super *d = &es->disk;
	u64 now = (u64)super_now(&es->vfs).sec;

	es->compat = le32_get(d->feature_compat);
	es->incompat = le32_get(d->feature_incompat);
	es->ro_compat = le32_get(d->feature_ro_compat);
	d->block_group_nr = le16_put(0);
	d->wtime = le32_put((u32)now);
	d->wtime_hi = (u8)(now >> 32);
	if (ext4_has_ro_compat(es, EXT4_RO_COMPAT_METADATA_CSUM))
		d->checksum = le32_put(ext4_csum_super(d));
	if (!ck_read(ck, es->super_blk, &bh))
		return;
	memcpy((u8 *)bh->data + EXT4_SUPER_OFF % bh->size_bytes, d, sizeof(*d));
	ck_put(ck, bh);
}

bool ck_super_sum_ok(struct ck *ck)
{
	struct ext4_disk_super d;

	if (blkdev_read(ck->dev, EXT4_SUPER_OFF, &d, sizeof(d))) {
		ck_say(ck, CK_READ_ERROR, ck->es->super_blk, "%s", "");
		return true;
	}
	return !ck->es->metadata_csum || ext4_csum_super(&d) == le32_get(d.checksum);
}

/* ---- sizes ---- */

#define SIZES(X)              \
	X(first_data_block)   \
	X(log_block_size)     \
	X(log_cluster_size)   \
	X(blocks_per_group)   \
	X(clusters_per_group) \
	X(inodes_per_group)   \
	X(rev_level)          \
	X(first_ino)          \
	X(inode_size)         \
	X(desc_size)          \
	X(first_meta_bg)

/* Features by which metadata lie where they do, and have checksums: they change for a volume as a whole or never. */
#define LAYOUT_COMPAT   EXT4_COMPAT_SPARSE_SUPER2
#define LAYOUT_INCOMPAT (EXT4_INCOMPAT_META_BG | EXT4_INCOMPAT_64BIT | EXT4_INCOMPAT_FLEX_BG)
#define LAYOUT_RO_COMPAT                                                                        \
	(EXT4_RO_COMPAT_SPARSE_SUPER | EXT4_RO_COMPAT_GDT_CSUM | EXT4_RO_COMPAT_METADATA_CSUM | \
	 EXT4_RO_COMPAT_BIGALLOC)

static le32 take_bits(le32 to, le32 from, u32 mask)
{
	return le32_put((le32_get(to) & ~mask) | (le32_get(from) & mask));
}

static void take_layout(struct ext4_disk_super *to, const struct ext4_disk_super *from)
{
	to->feature_compat = take_bits(to->feature_compat, from->feature_compat, LAYOUT_COMPAT);
	to->feature_incompat = take_bits(to->feature_incompat, from->feature_incompat, LAYOUT_INCOMPAT);
	to->feature_ro_compat = take_bits(to->feature_ro_compat, from->feature_ro_compat, LAYOUT_RO_COMPAT);
}

static bool same_sizes(const struct ext4_disk_super *a, const struct ext4_disk_super *b)
{
	struct ext4_disk_super c = *a;
	bool same;

	take_layout(&c, b);
	same = !memcmp(&c, a, sizeof(c));

#define SAME(field) same = same && !memcmp(&a->field, &b->field, sizeof(a->field));
	SIZES(SAME)
#undef SAME
	return same;
}

/* With these sizes descriptors can be, and the root is a directory. */
static bool sizes_plausible(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	u64 blk;
	u32 off;

	for (u32 i = 0; i < es->groups; i++)
		if (es->group[i].bad)
			return false;
	if (ext4_inode_where(es, EXT4_INO_ROOT, &blk, &off) || !ck_read(ck, blk, &bh))
		return false;
	raw = (const void *)((const u8 *)bh->data + off);
	return S_ISDIR(le16_get(raw->mode));
}

/*
 * The nth copy where mkfs puts them; where there is none at all, by what the first superblock says of groups: of their blocks, or of their clusters,
 * which are blocks.
 */
static bool nth_copy(struct ck *ck, u32 nth, struct ext4_disk_super *out)
{
	struct ext4_disk_super first = ck->es->disk;
	u64 off;

	if (!ext4_sb_copy(ck->dev, 0, out, &off))
		return !ext4_sb_copy(ck->dev, nth, out, &off);
	if (ext4_sb_copy_behind(ck->dev, &first, 0, out, &off))
		first.blocks_per_group = first.clusters_per_group;
	return !ext4_sb_copy_behind(ck->dev, &first, nth, out, &off);
}

bool ck_super_sizes_differ(struct ck *ck, struct ext4_disk_super *copy)
{
	const struct ext4_disk_super *d = &ck->es->disk;
	struct ext4_disk_super other;
	u32 found = 0;

	for (u32 nth = 0; found < 2 && nth_copy(ck, nth, &other); nth++) {
		if (memcmp(other.uuid, d->uuid, sizeof(d->uuid)) != 0)
			continue;
		if (same_sizes(d, &other) || (found && !same_sizes(copy, &other)))
			return false;
		*copy = other;
		found++;
	}
	return found == 2 || (found && !sizes_plausible(ck));
}

void ck_super_take_sizes(struct ck *ck, const struct ext4_disk_super *copy)
{
	struct ext4_disk_super *d = &ck->es->disk;

#define TAKE(field) d->field = copy->field;
	SIZES(TAKE)
#undef TAKE
	take_layout(d, copy);
	ck_super_put(ck);
	ck->rest = true;
}

void ck_super_copy_put(struct ck *ck, u64 blk)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_super d = es->disk;

	/* Who has to use a copy has something to check; and states are the first one's. */
	d.state = le16_put(0);
	d.block_group_nr = le16_put((u16)((blk - es->first_data_blk) / es->blocks_per_group));
	d.feature_incompat = le32_put(es->incompat & ~EXT4_INCOMPAT_RECOVER);
	d.feature_ro_compat = le32_put(es->ro_compat & ~EXT4_RO_COMPAT_ORPHAN_PRESENT);
	d.last_orphan = le32_put(0);
	if (es->metadata_csum)
		d.checksum = le32_put(ext4_csum_super(&d));
	if (!ck_read(ck, blk, &bh))
		return;
	memcpy(bh->data, &d, sizeof(d));
	ck_put(ck, bh);
}

void ck_super_reserved(struct ck *ck, u64 blocks)
{
	struct ext4_disk_super *d = &ck->es->disk;

	d->r_blocks_count_lo = le32_put((u32)blocks);
	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_64BIT))
		d->r_blocks_count_hi = le32_put((u32)(blocks >> 32));
	ck_super_put(ck);
}

void ck_super_counts(struct ck *ck, u64 free_blocks, u64 free_inodes)
{
	struct ext4_disk_super *d = &ck->es->disk;

	d->free_blocks_count_lo = le32_put((u32)free_blocks);
	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_64BIT))
		d->free_blocks_count_hi = le32_put((u32)(free_blocks >> 32));
	d->free_inodes_count = le32_put((u32)free_inodes);
	ck_super_put(ck);
}

/* Errors that were noted are forgotten. */
static void forget_errors(struct ext4_disk_super *d)
{
	const size_t from = offsetof(struct ext4_disk_super, error_count),
		     end = offsetof(struct ext4_disk_super, mount_opts);

	memset((u8 *)d + from, 0, end - from);
	d->first_error_time_hi = d->last_error_time_hi = 0;
	d->first_error_errcode = d->last_error_errcode = 0;
}

void ck_super_end(struct ck *ck)
{
	const struct check_summary *s = ck->sum;
	struct ext4_disk_super *d = &ck->es->disk;
	bool sound = !ck->err && !s->mended && !s->found[CHECK_WRONG] && !s->found[CHECK_LOSS];
	u64 now = (u64)super_now(&ck->es->vfs).sec;

	if (le16_get(d->state) & EXT4_STATE_ERROR) {
		u32 errors = le32_get(d->error_count);

		if (!sound)
			ck_say(ck, CK_SUPER_STATE, 0, "%u errors", errors);
		else
			sound = ck_fix(ck, CK_SUPER_STATE, 0, "%u errors", errors);
	}
	if (!sound)
		return;
	d->state = le16_put((le16_get(d->state) | EXT4_STATE_VALID) & (u16)~EXT4_STATE_ERROR);
	forget_errors(d);
	d->mnt_count = le16_put(0);
	d->lastcheck = le32_put((u32)now);
	d->lastcheck_hi = (u8)(now >> 32);
	ck_super_put(ck);
}
