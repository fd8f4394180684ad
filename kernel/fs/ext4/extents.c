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

u32 ext4_extent_up_to(const struct ext4_disk_extent *e, u32 n, u64 lblk)
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
	u32 n = le16_get(h->entries), i = ext4_extent_up_to(e, n, lblk);
	u64 start = lo, end = lo;

	if (i) {
		start = le32_get(e[i - 1].lblk);
		end = start + ext4_extent_len(&e[i - 1]);
	}
	if (lblk < end) {
		*out = (struct ext4_run){ .lblk = start,
					  .len = end - start,
					  .pblk = ext4_extent_start(&e[i - 1]),
					  .unwritten = ext4_extent_unwritten(&e[i - 1]) };
		while (i < n && end < lblk + want && le32_get(e[i].lblk) == end &&
		       ext4_extent_start(&e[i]) == out->pblk + out->len &&
		       ext4_extent_unwritten(&e[i]) == out->unwritten) {
			out->len += ext4_extent_len(&e[i]);
			end = out->lblk + out->len;
			i++;
		}
		if (start < lo || end > hi)
			return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
				       "an extent lies outside the range of its leaf");
		out->last = i == n && hi == EXT4_LBLK_END;
		return 0;
	}
	start = MAX(lo, end);
	end = i < n ? MIN(hi, (u64)le32_get(e[i].lblk)) : hi;
	*out = (struct ext4_run){ .lblk = start, .len = end - start, .last = i == n && hi == EXT4_LBLK_END };
	return 0;
}

int ext4_extent_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out)
{
	const struct ext4_disk_extent_header *h = (const void *)ei->block;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 lo = 0, hi = EXT4_LBLK_END;

	if (lblk >= EXT4_LBLK_END) {
		*out = (struct ext4_run){ .lblk = EXT4_LBLK_END,
					  .len = UINT64_MAX - EXT4_LBLK_END,
					  .last = true };
		return 0;
	}
	for (u32 depth = le16_get(h->depth); depth; depth--) {
		const struct ext4_disk_extent_idx *x = (const void *)(h + 1);
		struct bh_ctx ctx = ext4_ctx_map(ei, depth - 1);
		struct buffer_head *child;
		u32 n = le16_get(h->entries), i = ext4_extent_up_to((const void *)x, n, lblk);
		int err;

		if (i < n)
			hi = MIN(hi, (u64)le32_get(x[i].lblk));
		if (!i) {
			*out = (struct ext4_run){ .lblk = lo, .len = hi - lo };
			return 0;
		}
		lo = MAX(lo, (u64)le32_get(x[i - 1].lblk));
		err = bh_read(ei->vfs.sb->dev, ext4_extent_child(&x[i - 1]), &ext4_extent_ops, &ctx, &child);
		if (err)
			return err;
		bh_put(bh);
		bh = child;
		h = bh->data;
	}
	return leaf_map(ei, h, lo, hi, lblk, want, out);
}
