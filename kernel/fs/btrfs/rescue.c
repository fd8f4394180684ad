/*
 * Older root trees: where they may be. The superblock keeps the last four; its copies, when one of them was not written, more; and
 * nothing is overwritten before its space is needed, so that a root tree can still lie in the metadata chunks where nothing points
 * to it any more.
 */
#include "btrfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SCAN_BYTES (1u << 20)

static void add(struct btrfs_old_roots *r, u64 bytenr, u64 generation, u32 level, const char *from)
{
	if (!bytenr || level >= BTRFS_LEVELS || (r->generation && generation != r->generation))
		return;
	for (u32 i = 0; i < r->count; i++)
		if (r->at[i].bytenr == bytenr && r->at[i].generation == generation)
			return;
	if (r->count < ARRAY_SIZE(r->at))
		r->at[r->count++] = (struct btrfs_old_root){ bytenr, generation, level, from };
}

static void add_super(struct btrfs_old_roots *r, const struct btrfs_disk_super *d, const char *self,
		      const char *backup)
{
	add(r, le64_get(d->root), le64_get(d->generation), d->root_level, self);
	for (u32 i = 0; i < BTRFS_BACKUPS; i++)
		add(r, le64_get(d->backup[i].tree_root), le64_get(d->backup[i].tree_root_gen),
		    d->backup[i].tree_root_level, backup);
}

/* Of the same volume: what its copies say that were left behind. */
static void add_copies(struct btrfs_old_roots *r, const struct btrfs_super *bs, struct blkdev **devs, u32 n)
{
	struct btrfs_disk_super d;
	u32 which;

	for (u32 i = 0; i < n; i++)
		for (u32 copy = 0; copy < BTRFS_SUPER_COUNT; copy++)
			if (btrfs_sb_read(devs[i], (int)copy, &d, &which))
				err_clear();
			else if (!memcmp(d.fsid, bs->disk.fsid, sizeof(d.fsid)))
				add_super(r, &d, "a superblock's copy", "a superblock copy's backup");
}

/* A node of the root tree of this generation? */
static bool is_root_node(const struct btrfs_super *bs, const struct btrfs_disk_header *h, u64 bytenr,
			 u64 generation)
{
	u8 sum[BTRFS_CSUM_BYTES];

	if (le64_get(h->bytenr) != bytenr || le64_get(h->generation) != generation ||
	    le64_get(h->owner) != BTRFS_TREE_ROOT || h->level >= BTRFS_LEVELS || !le32_get(h->nritems) ||
	    memcmp(h->fsid, bs->node_fsid, sizeof(h->fsid)))
		return false;
	btrfs_csum(bs->csum_type, (const u8 *)h + sizeof(h->csum), bs->node_bytes - sizeof(h->csum), sum);
	return !memcmp(sum, h->csum, bs->csum_bytes);
}

/* The highest node there is of the generation: its root, if all of it was written. */
static void scan_piece(const struct btrfs_super *bs, u64 generation, const u8 *buf, u64 logical, u64 len,
		       struct btrfs_old_root *best)
{
	for (u64 at = 0; at + bs->node_bytes <= len; at += bs->node_bytes) {
		const struct btrfs_disk_header *h = (const void *)(buf + at);

		if (is_root_node(bs, h, logical + at, generation) &&
		    (!best->bytenr || h->level > best->level))
			*best = (struct btrfs_old_root){ logical + at, generation, h->level,
							 "a search of the metadata" };
	}
}

/* What cannot be read is zeros. */
static void read_piece(struct btrfs_super *bs, u64 logical, u8 *buf, u64 len)
{
	if (!blkdev_read(bs->vfs.dev, logical, buf, len))
		return;
	for (u64 at = 0; at < len; at += bs->node_bytes) {
		u64 now = MIN((u64)bs->node_bytes, len - at);

		if (blkdev_read(bs->vfs.dev, logical + at, buf + at, now))
			memset(buf + at, 0, now);
	}
	err_clear();
}

static int scan(struct btrfs_super *bs, struct btrfs_old_roots *r)
{
	struct btrfs_old_root best = { 0 };
	const struct btrfs_chunk *c;
	u8 *buf = malloc(SCAN_BYTES);
	u64 left = 0;

	if (!buf)
		return fail(-ENOMEM, "no memory for a search");
	/* Chunks may claim more than there is. */
	for (u32 i = 0; i < btrfs_device_count(bs->volume); i++)
		if (btrfs_device_at(bs->volume, i)->dev)
			left += btrfs_device_at(bs->volume, i)->dev->size_bytes;
	for (u32 i = 0; (c = btrfs_chunk_at(bs->volume, i)); i++) {
		u64 end = c->logical + c->len_bytes;

		if (!(c->type & BTRFS_BG_METADATA))
			continue;
		for (u64 at = ALIGN_UP(c->logical, (u64)bs->node_bytes); at < end && left; at += SCAN_BYTES) {
			u64 len = MIN((u64)SCAN_BYTES, end - at);

			left -= MIN(left, len);
			read_piece(bs, at, buf, len);
			scan_piece(bs, r->generation, buf, at, len, &best);
		}
	}
	free(buf);
	add(r, best.bytenr, best.generation, best.level, best.from);
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct btrfs_old_root *x = a, *y = b;

	return x->generation > y->generation ? -1 : x->generation < y->generation;
}

int btrfs_old_roots(struct btrfs_super *bs, struct blkdev **devs, u32 n, u64 generation,
		    struct btrfs_old_roots *out)
{
	int err = 0;

	*out = (struct btrfs_old_roots){ .generation = generation };
	add_super(out, &bs->disk, "the superblock", "a backup in the superblock");
	if (generation && !out->count)
		add_copies(out, bs, devs, n);
	if (generation && !out->count)
		err = scan(bs, out);
	qsort(out->at, out->count, sizeof(out->at[0]), newest_first);
	return err;
}
