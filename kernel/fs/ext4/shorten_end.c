/*
 * The end moves; see shorten.h. What changes besides the superblock: the bitmap of the group that becomes the last, and shorter; what groups
 * that stay had of the tables of those that go, or of descriptors, is free; blocks that are kept for descriptors, and the map that has them. Where
 * there are fewer blocks of descriptors and the volume has an inode that keeps blocks for them, those it needs no more are kept by that.
 */
#include "shorten.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

struct cut {
	struct ext4_short s;      /* of the scratch volume */
	struct ext4_super *after; /* disk, what follows from it, and group */
	struct ext4_zone had;     /* tables before, as whole clusters */
	struct ext4_zone zone;    /* and after */
};

/* ---- nothing is left behind the end ---- */

static u32 bits_set(const u8 *bits, u32 from, u32 end)
{
	u32 n = 0;

	for (u32 i = from; i < end; i++)
		n += bits[i / 8] >> i % 8 & 1;
	return n;
}

static int still_used(const struct ext4_super *es, u32 group, const char *what)
{
	return fail(-EUCLEAN, "%s: %s in group %u are in use, and nobody knows by what: check it first",
		    es->vfs.health.name, what, group);
}

/* But for tables. */
static int check_blocks(const struct cut *c, u32 group)
{
	struct ext4_super *es = c->s.es;
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group),
	    from = MAX(c->s.end, start);
	u32 bits = es->cluster_bits;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = ext4_block_bitmap(es, group, &bh);

	if (!err && bits_set(bh->data, (u32)((from - start) >> bits), (u32)((end - start) >> bits)) !=
			    ext4_zone_count(&c->had, from, end) >> bits)
		err = still_used(es, group, "blocks");
	return err;
}

static int check_inodes(struct ext4_super *es, u32 group)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = ext4_inode_bitmap(es, group, &bh);

	if (!err && bits_set(bh->data, 0, es->inodes_per_group))
		err = still_used(es, group, "inodes");
	return err;
}

static int check_empty(const struct cut *c)
{
	struct ext4_super *es = c->s.es;
	u32 first = (u32)((c->s.end - es->first_data_blk) / es->blocks_per_group);
	int err = 0;

	for (u32 g = first; g < es->groups && !err; g++)
		err = check_blocks(c, g);
	for (u32 g = c->s.groups; g < es->groups && !err; g++)
		err = check_inodes(es, g);
	return err;
}

/* ---- groups that stay ---- */

static int zones(struct cut *c)
{
	const struct ext4_super *a = c->after;
	u32 bits = c->s.es->cluster_bits;
	int err = ext4_zone_clusters(&c->s.es->zone, bits, &c->had);

	for (u32 i = 0; i < c->s.groups && !err; i++) {
		const struct ext4_group *g = &c->s.es->group[i];
		u32 base = ext4_group_base_blocks(a, i);

		if (base)
			err = ext4_zone_add(&c->zone, ext4_group_start(a, i), base);
		if (!err)
			err = ext4_zone_add(&c->zone, g->block_bitmap, 1);
		if (!err)
			err = ext4_zone_add(&c->zone, g->inode_bitmap, 1);
		if (!err)
			err = ext4_zone_add(&c->zone, g->inode_table, a->itable_blocks);
	}
	ext4_zone_seal(&c->zone);
	return err ? err : ext4_zone_round(&c->zone, bits);
}

/* What was a table and is none is free; what is behind the end counts as taken. How many more are free. */
static s32 change_bits(const struct cut *c, u32 group, u8 *bits)
{
	const struct ext4_super *es = c->s.es;
	u64 start = ext4_group_start(es, group);
	u32 clusters = ext4_group_clusters(c->after, group), had = ext4_group_clusters(es, group);
	s32 more = 0;

	for (u32 i = 0; i < clusters; i++) {
		u64 blk = start + ((u64)i << es->cluster_bits);

		if (!ext4_zone_meets(&c->had, blk, 1) || ext4_zone_meets(&c->zone, blk, 1))
			continue;
		bits[i / 8] &= (u8) ~(1u << i % 8);
		more++;
	}
	for (u32 i = clusters; i < had; i++) {
		more -= !(bits[i / 8] >> i % 8 & 1);
		bits[i / 8] |= (u8)(1u << i % 8);
	}
	return more;
}

static int change_group(const struct cut *c, u32 group)
{
	struct ext4_super *es = c->s.es;
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_handle h;
	int err;

	if (end <= c->s.end && ext4_zone_count(&c->had, start, end) == ext4_zone_count(&c->zone, start, end))
		return 0;
	err = ext4_begin(es, EXT4_CREDITS_GROUP, 0, &h);
	if (err)
		return err;
	mutex_lock(&es->group_lock[group]);
	err = ext4_block_bitmap(es, group, &bh);
	if (!err)
		err = ext4_group_change(&h, group);
	if (!err)
		err = ext4_access(&h, bh);
	if (!err) {
		ext4_group_add(es, group, change_bits(c, group, bh->data), 0);
		es->group[group].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
		ext4_dirty(&h, bh);
	}
	mutex_unlock(&es->group_lock[group]);
	return ext4_end(&h, err);
}

/* ---- descriptors ---- */

/* Those of groups that go, where they share a block with one that stays. */
static int clear_descs(struct ext4_handle *h, const struct cut *c)
{
	struct ext4_super *es = c->s.es;
	u32 nth = c->s.groups % es->descs_per_block, at = nth * es->desc_bytes;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	if (!nth)
		return 0;
	err = bh_read(es->vfs.dev, ext4_group_desc_blk(es, c->s.groups / es->descs_per_block, 0),
		      &ext4_gdt_ops, &(struct bh_ctx){ { 0 } }, &bh);
	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	memset((u8 *)bh->data + at, 0, bh->size_bytes - at);
	ext4_dirty(h, bh);
	return 0;
}

static int keep_block(struct ext4_handle *h, const struct cut *c, u32 i)
{
	struct ext4_super *es = c->s.es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk = es->super_blk + 1 + i;
	int err = bh_read(es->vfs.dev, blk, &ext4_gdt_ops, &(struct bh_ctx){ { 0 } }, &bh);

	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	ext4_kept_point(c->after, blk, bh->data);
	ext4_dirty(h, bh);
	return 0;
}

static int keep_inode(struct ext4_handle *h, const struct cut *c)
{
	u64 sectors = ext4_resize_clusters(c->after) << (c->after->cluster_bits + c->after->block_bits - 9);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = ext4_inode_slot(h, EXT4_INO_RESIZE, &bh, &raw);

	if (err)
		return err;
	bh_lock(bh);
	raw->blocks_lo = le32_put((u32)sectors);
	raw->blocks_hi = le16_put((u16)(sectors >> 32));
	ext4_inode_slot_done(h, EXT4_INO_RESIZE, bh, raw);
	return 0;
}

/* The inode that keeps blocks for descriptors. */
static int change_kept(struct ext4_handle *h, const struct cut *c)
{
	struct ext4_super *es = c->s.es;
	u32 first = c->after->gdt_blocks, end = first + le16_get(c->after->disk.reserved_gdt_blocks);
	u32 per = ext4_pointers_per_block(es);
	scoped(bh_putp) struct buffer_head *top = NULL;
	int err;

	if (!ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE) ||
	    (first == es->gdt_blocks && ext4_resize_clusters(c->after) == ext4_resize_clusters(es)))
		return 0;
	err = ext4_kept_top(es, &top);
	if (!err)
		err = ext4_access(h, top);
	if (err)
		return err;
	memset(top->data, 0, top->size_bytes);
	for (u32 i = first; i < end; i++)
		((le32 *)top->data)[i % per] = le32_put((u32)(es->super_blk + 1 + i));
	ext4_dirty(h, top);
	for (u32 i = first; i < end && !err; i++)
		err = keep_block(h, c, i);
	return err ? err : keep_inode(h, c);
}

/* ---- the superblock ---- */

static void change_super(const struct cut *c)
{
	struct ext4_super *es = c->s.es;
	u64 less = (ext4_zone_count(&c->had, 0, ~0ull) - ext4_zone_count(&c->zone, 0, ~0ull)) >>
		   es->cluster_bits;
	struct ext4_disk_super *d = ext4_super_lock(es);
	u64 said = le32_get(d->overhead_clusters);

	*d = c->after->disk;
	if (said)
		d->overhead_clusters = le32_put((u32)(said - MIN(said, less)));
	ext4_super_unlock(es);
}

static int change_rest(const struct cut *c)
{
	struct ext4_super *es = c->s.es;
	struct ext4_handle h;
	int err = ext4_begin(es, EXT4_CREDITS_GROUP, 0, &h);

	if (err)
		return err;
	err = clear_descs(&h, c);
	if (!err)
		err = change_kept(&h, c);
	if (!err) {
		/* The counts of all groups are summed up anew with the first. */
		mutex_lock(&es->group_lock[0]);
		err = ext4_group_change(&h, 0);
		mutex_unlock(&es->group_lock[0]);
	}
	if (!err) {
		ext4_groups_less(es, c->s.groups);
		change_super(c);
	}
	return ext4_end(&h, err);
}

/* For ext4_write_scratch. */
static int change(struct ext4_super *es, void *ctx)
{
	struct cut *c = ctx;
	int err;

	c->s.es = es;
	ext4_short_after(&c->s, c->after);
	err = zones(c);
	if (!err)
		err = check_empty(c);
	for (u32 g = 0; g < c->s.groups && !err; g++)
		err = change_group(c, g);
	return err ? err : change_rest(c);
}

/* ---- from the overlay to the device ---- */

static void seal(struct ext4_disk_super *d)
{
	if (le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM)
		d->checksum = le32_put(ext4_csum_super(d));
}

static int put_super(struct blkdev *dev, const struct ext4_disk_super *d)
{
	int err = ext4_super_put(dev, d);

	return err ? err : blkdev_flush(dev);
}

/* All that the overlay has, but the superblock. */
static int copy_overlay(struct blkdev *dev, struct blkdev *overlay)
{
	scoped(freep) u8 *piece = malloc(DEV_SNAP_UNIT_BYTES);
	int err = piece ? 0 : fail(-ENOMEM, "no memory for blocks");

	for (u64 off = 0, len; !err && (off = dev_snap_next(overlay, off)) != ~0ull;
	     off += DEV_SNAP_UNIT_BYTES) {
		off = ALIGN_DOWN(off, (u64)DEV_SNAP_UNIT_BYTES);
		len = MIN((u64)DEV_SNAP_UNIT_BYTES, overlay->size_bytes - off);
		err = blkdev_read(overlay, off, piece, len);
		if (!err && !off)
			err = blkdev_read(dev, EXT4_SUPER_OFF, piece + EXT4_SUPER_OFF,
					  sizeof(struct ext4_disk_super));
		if (!err)
			err = blkdev_write(dev, off, piece, len, 0);
	}
	return err ? err : blkdev_flush(dev);
}

/* Without a journal: in between, and after a crash then, the volume says that it has to be checked. */
static int write_plain(struct ext4_super *es, struct blkdev *overlay, struct ext4_disk_super d)
{
	struct ext4_disk_super before = es->disk;
	int err;

	before.state = le16_put(le16_get(before.state) & (u16)~EXT4_STATE_VALID);
	d.state = before.state;
	seal(&before);
	seal(&d);
	err = put_super(es->vfs.dev, &before);
	if (!err)
		err = copy_overlay(es->vfs.dev, overlay);
	return err ? err : put_super(es->vfs.dev, &d);
}

/* The mark stays until copies say the same as the superblock: of one that was written by half they are what tells that it is right. */
static int write_end(struct ext4_super *es, struct blkdev *overlay)
{
	struct ext4_disk_super d;
	int err = blkdev_read(overlay, EXT4_SUPER_OFF, &d, sizeof(d));

	if (err)
		return err;
	if (!ext4_journal_is_here(es)) {
		err = write_plain(es, overlay, d);
		return err ? err : put_super(es->vfs.dev, &d);
	}
	d.feature_incompat = le32_put(le32_get(d.feature_incompat) | EXT4_INCOMPAT_RECOVER);
	seal(&d);
	err = blkdev_write(overlay, EXT4_SUPER_OFF, &d, sizeof(d), 0);
	return err ? err : ext4_write_overlay(es, overlay, NULL, NULL, &d);
}

int ext4_short_end(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		   const struct ext4_short *s)
{
	struct cut c = { .s = *s, .after = calloc(1, sizeof(struct ext4_super)) };
	struct blkdev *overlay = NULL;
	struct ext4_super *es;
	int err = c.after ? dev_snap_new(dev, &overlay) : fail(-ENOMEM, "no memory for a volume");

	if (!err)
		err = ext4_short_open(type, overlay, opts, &es);
	if (!err) {
		err = ext4_write_scratch(es, change, &c);
		ext4_short_close(es, &err);
	}
	if (!err)
		err = ext4_short_open(type, dev, opts, &es);
	if (!err) {
		err = write_end(es, overlay);
		ext4_short_close(es, &err);
	}
	blkdev_put(overlay);
	ext4_zone_free(&c.had);
	ext4_zone_free(&c.zone);
	free(c.after);
	return err;
}
