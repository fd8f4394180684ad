/* Bitmaps, groups and the superblock's sums, against what was found. */
#include "check.h"

#include "lib/scope.h"
#include <stdlib.h>

/* What a bitmap differs in. */
struct diff {
	u32 lacks, more; /* bits */
	u32 first_lacks, first_more;
};

static bool bit(const u8 *p, u32 i)
{
	return p[i / 8] >> i % 8 & 1;
}

static struct diff compare(const u8 *have, const u8 *want, u32 bits)
{
	struct diff d = { 0 };

	for (u32 i = 0; i < bits; i++) {
		if (!(i % 64) && bits - i >= 64 && !memcmp(have + i / 8, want + i / 8, 8)) {
			i += 63;
			continue;
		}
		if (bit(have, i) == bit(want, i))
			continue;
		if (bit(want, i)) {
			if (!d.lacks++)
				d.first_lacks = i;
		} else if (!d.more++) {
			d.first_more = i;
		}
	}
	return d;
}

static u32 count_set(const u8 *p, u32 bits)
{
	u32 n = 0, i = 0;

	for (; bits - i >= 64; i += 64) {
		le64 word;

		memcpy(&word, p + i / 8, sizeof(word));
		n += (u32)__builtin_popcountll(le64_get(word));
	}
	for (; i < bits; i++)
		n += bit(p, i);
	return n;
}

/* From `bits` to the block's end all is set. */
static bool end_is_set(const u8 *p, u32 bits, u32 bytes)
{
	for (u32 i = bits; i < bytes * 8; i++) {
		if (!(i % 8) && p[i / 8] == 0xff) {
			i += 7;
			continue;
		}
		if (!bit(p, i))
			return false;
	}
	return true;
}

struct totals {
	u64 free_clusters, free_inodes;
};

/* What is mended of a bitmap. */
enum { LACKS = 0x1u, MORE = 0x2u, REST = 0x4u };

/* The bitmap with that mended: in place of `want`. */
static void put_bitmap(struct ck *ck, u32 g, bool blocks, const u8 *have, u8 *want, u32 mend)
{
	u32 bits = blocks ? ck->es->clusters_per_group : ck->es->inodes_per_group;

	for (u32 i = 0; i < DIV_ROUND_UP(bits, 8u); i++) {
		u8 set = want[i] & (u8)~have[i], cleared = have[i] & (u8)~want[i];

		want[i] = (u8)((have[i] | (mend & LACKS ? set : 0)) & ~(mend & MORE ? cleared : 0));
	}
	ck_bitmap_put(ck, g, blocks, want);
}

/* The bitmap against the bits that were found. What is mended of it. */
static u32 check_block_bits(struct ck *ck, u32 g, const u8 *have, const u8 *want, u32 bits)
{
	const struct ext4_super *es = ck->es;
	const struct ext4_group *grp = &es->group[g];
	u32 mask = es->desc_bytes >= EXT4_DESC_BYTES_64BIT ? ~0u : 0xffff, mend = 0;
	struct diff d = compare(have, want, bits);
	u64 start = ext4_group_start(es, g);

	if (d.lacks && ck_fix(ck, CK_BLOCK_BITMAP_LACKS, g, "%u, the first is block %llu", d.lacks,
			      (unsigned long long)(start + ((u64)d.first_lacks << es->cluster_bits))))
		mend |= LACKS;
	if (d.more && ck_fix(ck, CK_BLOCK_BITMAP_MORE, g, "%u, the first is block %llu", d.more,
			     (unsigned long long)(start + ((u64)d.first_more << es->cluster_bits))))
		mend |= MORE;
	if (!end_is_set(have, bits, ext4_block_bytes(es)) &&
	    ck_fix(ck, CK_BITMAP_END, g, "%s", "that of blocks"))
		mend |= REST;
	if (es->metadata_csum &&
	    (ext4_csum_bitmap(es, have, es->clusters_per_group) & mask) != grp->block_bitmap_csum &&
	    ck_fix(ck, CK_BLOCK_BITMAP_SUM, g, "%s", ""))
		mend |= REST;
	return mend;
}

/* want: the bits that were found. */
static void check_blocks(struct ck *ck, u32 g, u8 *want, struct totals *t)
{
	const struct ext4_super *es = ck->es;
	struct ext4_group *grp = &es->group[g];
	u32 bits = DIV_ROUND_UP(ext4_group_blocks(es, g), 1u << es->cluster_bits),
	    used = count_set(want, bits), mend;
	scoped(bh_putp) struct buffer_head *bh = NULL;

	t->free_clusters += bits - used;
	if (grp->bad)
		return;
	if (grp->free_clusters != bits - used &&
	    ck_fix(ck, CK_GROUP_FREE_BLOCKS, g, "%u, there are %u", grp->free_clusters, bits - used)) {
		grp->free_clusters = bits - used;
		ck_group_put(ck, g);
	}
	if (grp->flags & EXT4_GROUP_BLOCK_UNINIT) {
		u64 start = ext4_group_start(es, g);
		u32 meta = (u32)ext4_zone_count(&es->zone, start, start + ext4_group_blocks(es, g));

		if (!es->cluster_bits && used > meta &&
		    ck_fix(ck, CK_BLOCK_BITMAP_LACKS, g, "%u, it is said to be unwritten", used - meta))
			ck_bitmap_put(ck, g, true, want);
		return;
	}
	if (!ck_read(ck, grp->block_bitmap, &bh))
		return;
	mend = check_block_bits(ck, g, bh->data, want, bits);
	if (mend)
		put_bitmap(ck, g, true, bh->data, want, mend);
}

/* The bits of inodes that are in use, and how many of them are directories. */
static u32 found_inodes(const struct ck *ck, u32 g, u8 *want)
{
	const struct ext4_super *es = ck->es;
	u32 dirs = 0;

	memset(want, 0, ext4_block_bytes(es));
	/* Reserved inodes are in the first groups. */
	if (!ck->ino[g] && (u64)g * es->inodes_per_group + 1 >= es->first_ino)
		return 0;
	for (u32 i = 0; i < es->inodes_per_group; i++) {
		const struct ck_ino *in = ck->ino[g] ? &ck->ino[g][i] : NULL;
		bool used = (u64)g * es->inodes_per_group + i + 1 < es->first_ino;

		if (in && in->flags & CK_USED) {
			used = true;
			dirs += in->kind == S_IFDIR >> 12;
		}
		if (used)
			want[i / 8] |= (u8)(1u << i % 8);
	}
	return dirs;
}

static u32 check_inode_bits(struct ck *ck, u32 g, const u8 *have, const u8 *want)
{
	const struct ext4_super *es = ck->es;
	u32 mask = es->desc_bytes >= EXT4_DESC_BYTES_64BIT ? ~0u : 0xffff, bits = es->inodes_per_group,
	    mend = 0;
	struct diff d = compare(have, want, bits);

	if (d.lacks && ck_fix(ck, CK_INODE_BITMAP_LACKS, g, "%u, the first is inode %llu", d.lacks,
			      (unsigned long long)g * bits + d.first_lacks + 1))
		mend |= LACKS;
	if (d.more && ck_fix(ck, CK_INODE_BITMAP_MORE, g, "%u, the first is inode %llu", d.more,
			     (unsigned long long)g * bits + d.first_more + 1))
		mend |= MORE;
	if (!end_is_set(have, bits, ext4_block_bytes(es)) &&
	    ck_fix(ck, CK_BITMAP_END, g, "%s", "that of inodes"))
		mend |= REST;
	if (es->metadata_csum &&
	    (ext4_csum_bitmap(es, have, bits) & mask) != es->group[g].inode_bitmap_csum &&
	    ck_fix(ck, CK_INODE_BITMAP_SUM, g, "%s", ""))
		mend |= REST;
	return mend;
}

static void check_inodes(struct ck *ck, u32 g, u8 *want, struct totals *t)
{
	const struct ext4_super *es = ck->es;
	struct ext4_group *grp = &es->group[g];
	u32 bits = es->inodes_per_group, dirs = found_inodes(ck, g, want), used = count_set(want, bits), mend;
	scoped(bh_putp) struct buffer_head *bh = NULL;

	t->free_inodes += bits - used;
	if (grp->bad)
		return;
	if (grp->free_inodes != bits - used &&
	    ck_fix(ck, CK_GROUP_FREE_INODES, g, "%u, there are %u", grp->free_inodes, bits - used)) {
		grp->free_inodes = bits - used;
		ck_group_put(ck, g);
	}
	if (grp->used_dirs != dirs &&
	    ck_fix(ck, CK_GROUP_DIRS, g, "%u, there are %u", grp->used_dirs, dirs)) {
		grp->used_dirs = dirs;
		ck_group_put(ck, g);
	}
	if (grp->flags & EXT4_GROUP_INODE_UNINIT) {
		if (used && ck_fix(ck, CK_INODE_BITMAP_LACKS, g, "%u, it is said to be unwritten", used))
			ck_bitmap_put(ck, g, false, want);
		return;
	}
	if (!ck_read(ck, grp->inode_bitmap, &bh))
		return;
	mend = check_inode_bits(ck, g, bh->data, want);
	if (mend)
		put_bitmap(ck, g, false, bh->data, want, mend);
}

static void check_totals(struct ck *ck, const struct totals *t)
{
	const struct ext4_disk_super *d = &ck->es->disk;
	u64 says = le32_get(d->free_blocks_count_lo), have = t->free_clusters << ck->es->cluster_bits;
	bool mend = false;

	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_64BIT))
		says |= (u64)le32_get(d->free_blocks_count_hi) << 32;
	/* The kernel writes these now and then only. */
	if (!ck_mends(ck) && (ck->replayed || !(le16_get(d->state) & EXT4_STATE_VALID)))
		return;
	if (says != have)
		mend = ck_fix(ck, CK_SUPER_FREE_BLOCKS, 0, "%llu, there are %llu", (unsigned long long)says,
			      (unsigned long long)have);
	if (le32_get(d->free_inodes_count) != t->free_inodes)
		mend |= ck_fix(ck, CK_SUPER_FREE_INODES, 0, "%u, there are %llu",
			       le32_get(d->free_inodes_count), (unsigned long long)t->free_inodes);
	if (mend)
		ck_super_counts(ck, have, t->free_inodes);
}

static void ahead(struct ck *ck, u32 g)
{
	const struct ext4_group *grp = &ck->es->group[g];

	if (!(grp->flags & EXT4_GROUP_BLOCK_UNINIT) && grp->block_bitmap)
		bh_readahead(ck->dev, grp->block_bitmap, 1);
	if (!(grp->flags & EXT4_GROUP_INODE_UNINIT) && grp->inode_bitmap)
		bh_readahead(ck->dev, grp->inode_bitmap, 1);
}

void ck_bitmaps(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	u8 *want = calloc(1, ext4_block_bytes(es));
	struct totals t = { 0 };

	if (!want) {
		ck_no_memory(ck);
		return;
	}
	for (u32 g = 0; g < es->groups && ck_goes_on(ck); g++) {
		ck_progress(ck, "bitmaps and counts", g, es->groups);
		if (!(g % 16))
			for (u32 k = g; k < MIN(g + 16, es->groups); k++)
				ahead(ck, k);
		memset(want, 0, ext4_block_bytes(es));
		if (ck->used.group[g])
			memcpy(want, ck->used.group[g], DIV_ROUND_UP(es->clusters_per_group, 8u));
		check_blocks(ck, g, want, &t);
		check_inodes(ck, g, want, &t);
	}
	if (!ck->err)
		check_totals(ck, &t);
	if (ck_mends(ck))
		ck_super_end(ck);
	ck->sum->blocks_used = es->blocks - MIN(t.free_clusters << es->cluster_bits, es->blocks);
	free(want);
}
