/*
 * Extent trees: which blocks hold a range of a file. Reading only.
 *
 *   root in the inode ──► index nodes ──► leaves: (lblk, pblk, len), unwritten or not
 *
 *   - The root was checked when the inode was loaded, the others when they were read: order within a node,
 *     block numbers, depth. Depth falls by one with each step, so no tree makes a walk endless.
 *   - Between nodes only the parent's word counts: a child holds [its key, the next key). What a leaf says
 *     about blocks outside that range is corruption.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

#define LBLK_END (1ull << 32)

static u64 extent_len(const struct ext4_disk_extent *e)
{
	u32 len = le16_get(e->len);

	return len > EXT4_EXTENT_INIT_MAX ? len - EXT4_EXTENT_INIT_MAX : len;
}

static bool extent_unwritten(const struct ext4_disk_extent *e)
{
	return le16_get(e->len) > EXT4_EXTENT_INIT_MAX;
}

static u64 extent_start(const struct ext4_disk_extent *e)
{
	return le32_get(e->start_lo) | (u64)le16_get(e->start_hi) << 32;
}

/* Entries of either kind are 12 bytes and begin with their block: how many begin at or before lblk. */
static u32 entries_up_to(const struct ext4_disk_extent *e, u32 n, u64 lblk)
{
	u32 lo = 0, hi = n;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (le32_get(e[mid].lblk) <= lblk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The run in a leaf that is responsible for [lo, hi). */
static int leaf_map(struct ext4_inode *ei, const struct ext4_disk_extent_header *h, u64 lo, u64 hi, u64 lblk,
		    u64 want, struct ext4_run *out)
{
	const struct ext4_disk_extent *e = (const void *)(h + 1);
	u32 n = le16_get(h->entries), i = entries_up_to(e, n, lblk);
	u64 start = lo, end = lo;

	if (i) {
		start = le32_get(e[i - 1].lblk);
		end = start + extent_len(&e[i - 1]);
	}
	if (lblk < end) {
		*out = (struct ext4_run){ .lblk = start,
					  .len = end - start,
					  .pblk = extent_start(&e[i - 1]),
					  .unwritten = extent_unwritten(&e[i - 1]) };
		while (i < n && end < lblk + want && le32_get(e[i].lblk) == end &&
		       extent_start(&e[i]) == out->pblk + out->len &&
		       extent_unwritten(&e[i]) == out->unwritten) {
			out->len += extent_len(&e[i]);
			end = out->lblk + out->len;
			i++;
		}
		if (start < lo || end > hi)
			return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
				       "an extent lies outside the range of its leaf");
		out->last = i == n && hi == LBLK_END;
		return 0;
	}
	start = MAX(lo, end);
	end = i < n ? MIN(hi, (u64)le32_get(e[i].lblk)) : hi;
	*out = (struct ext4_run){ .lblk = start, .len = end - start, .last = i == n && hi == LBLK_END };
	return 0;
}

int ext4_extent_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out)
{
	const struct ext4_disk_extent_header *h = (const void *)ei->block;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 lo = 0, hi = LBLK_END;

	if (lblk >= LBLK_END) {
		*out = (struct ext4_run){ .lblk = LBLK_END, .len = UINT64_MAX - LBLK_END, .last = true };
		return 0;
	}
	for (u32 depth = le16_get(h->depth); depth; depth--) {
		const struct ext4_disk_extent_idx *x = (const void *)(h + 1);
		struct bh_ctx ctx = ext4_ctx_map(ei, depth - 1);
		struct buffer_head *child;
		u32 n = le16_get(h->entries), i = entries_up_to((const void *)x, n, lblk);
		int err;

		if (i < n)
			hi = MIN(hi, (u64)le32_get(x[i].lblk));
		if (!i) {
			*out = (struct ext4_run){ .lblk = lo, .len = hi - lo };
			return 0;
		}
		lo = MAX(lo, (u64)le32_get(x[i - 1].lblk));
		err = bh_read(ei->vfs.sb->dev,
			      le32_get(x[i - 1].leaf_lo) | (u64)le16_get(x[i - 1].leaf_hi) << 32,
			      &ext4_extent_ops, &ctx, &child);
		if (err)
			return err;
		bh_put(bh);
		bh = child;
		h = bh->data;
	}
	return leaf_map(ei, h, lo, hi, lblk, want, out);
}
