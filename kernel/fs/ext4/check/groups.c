/*
 * What groups have of their own, as it has to be after mending: descriptors and bitmaps onto the device, clusters and inodes that nobody has.
 *
 * What is given out is claimed at once (ck->used, CK_USED), which is where the pass over the bitmaps finds it.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>

/* ---- onto the device ---- */

void ck_group_put(struct ck *ck, u32 group)
{
	const struct ext4_super *es = ck->es;
	u64 blk = ext4_group_desc_blk(es, group / es->descs_per_block, 0);
	scoped(bh_putp) struct buffer_head *bh = NULL;

	if (!blk || !ck_read(ck, blk, &bh))
		return;
	ext4_group_encode(es, group, &es->group[group],
			  (u8 *)bh->data + (size_t)(group % es->descs_per_block) * es->desc_bytes);
	ck_put(ck, bh);
}

void ck_bitmap_put(struct ck *ck, u32 group, bool blocks, const u8 *bits)
{
	const struct ext4_super *es = ck->es;
	struct ext4_group *g = &es->group[group];
	u32 n = blocks ? DIV_ROUND_UP(ext4_group_blocks(es, group), 1u << es->cluster_bits)
		       : es->inodes_per_group,
	    summed = blocks ? es->clusters_per_group : n, sum;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u8 *p;

	if (!ck_read(ck, blocks ? g->block_bitmap : g->inode_bitmap, &bh))
		return;
	p = bh->data;
	memset(p, 0xff, bh->size_bytes);
	memcpy(p, bits, n / 8);
	for (u32 i = n & ~7u; i < n; i++)
		if (!(bits[i / 8] >> i % 8 & 1))
			p[i / 8] &= (u8) ~(1u << i % 8);
	ck_put(ck, bh);
	sum = ext4_csum_bitmap(es, p, summed);
	if (es->metadata_csum && blocks)
		g->block_bitmap_csum = sum;
	else if (es->metadata_csum)
		g->inode_bitmap_csum = sum;
	g->flags &= (u16) ~(blocks ? EXT4_GROUP_BLOCK_UNINIT : EXT4_GROUP_INODE_UNINIT);
	ck_group_put(ck, group);
}

/* ---- clusters ---- */

/* The group's bitmap as it lies on the volume; NULL: it has none that was written, or it cannot be read. */
static const u8 *bitmap_there(struct ck *ck, u32 group, struct buffer_head **bh)
{
	const struct ext4_group *g = &ck->es->group[group];

	bh_put(take(*bh));
	if (g->bad || !g->block_bitmap || g->flags & EXT4_GROUP_BLOCK_UNINIT ||
	    !ck_read(ck, g->block_bitmap, bh))
		return NULL;
	return (*bh)->data;
}

/* The first of n free clusters in a row in [from, end). unclaimed: bitmaps, too, must say that they are free. */
static bool find_free(struct ck *ck, u64 from, u64 end, u64 n, bool unclaimed, u64 *first)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ck->es->clusters_per_group;
	const u8 *there = NULL;
	u64 run = 0, group = ~0ull;

	for (u64 at = from; at < end;) {
		const u8 *bits = ck->used.group[at / per];
		u32 nth = (u32)(at % per);

		if (unclaimed && at / per != group) {
			group = at / per;
			there = bitmap_there(ck, (u32)group, &bh);
		}
		if (!(nth % 8) && end - at >= 8 &&
		    ((bits && bits[nth / 8] == 0xff) || (there && there[nth / 8] == 0xff))) {
			run = 0;
			at += 8;
			continue;
		}
		run = ck_is_used(ck, at) || (there && there[nth / 8] >> nth % 8 & 1) ? 0 : run + 1;
		at++;
		if (run == n) {
			*first = at - n;
			return true;
		}
	}
	return false;
}

/*
 * What is not known to be used may be all the same, in what could not be followed; the bitmaps tell, as far as they are right. So blocks that these
 * call used are taken last.
 */
static bool find_best(struct ck *ck, u64 from, u64 end, u64 n, u64 *first)
{
	return find_free(ck, from, end, n, true, first) || find_free(ck, from, end, n, false, first);
}

int ck_alloc(struct ck *ck, u64 goal, u64 n, u64 *first)
{
	u64 all = ck_cluster(ck, ck->es->blocks - 1) + 1;

	goal = goal < all ? goal : 0;
	/* What was not there once, is not there later: nothing is given back. */
	if (!n || (ck->too_many && n >= ck->too_many) ||
	    (!find_free(ck, goal, all, n, true, first) && !find_best(ck, 0, all, n, first))) {
		ck->too_many = n;
		return fail(-ENOSPC, "%s: no %llu free blocks in a row", ck->es->vfs.health.name,
			    (unsigned long long)n << ck->es->cluster_bits);
	}
	(void)ck_claim(ck, *first, n);
	return ck->err;
}

int ck_alloc_within(struct ck *ck, u64 from, u64 end, u64 n, u64 *first)
{
	if (!find_best(ck, from, end, n, first))
		return fail(-ENOSPC, "%s: no %llu free blocks in a row where they are needed",
			    ck->es->vfs.health.name, (unsigned long long)n << ck->es->cluster_bits);
	(void)ck_claim(ck, *first, n);
	return ck->err;
}

/* ---- inodes ---- */

u32 ck_slots_ready(const struct ext4_super *es, u32 group)
{
	const struct ext4_group *g = &es->group[group];

	if (g->bad || !es->desc_csum)
		return es->inodes_per_group;
	if (g->flags & EXT4_GROUP_INODE_UNINIT)
		return 0;
	return es->inodes_per_group - MIN(g->itable_unused, es->inodes_per_group);
}

bool ck_ino_hidden(struct ck *ck, u64 ino)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	u64 blk;
	u32 off;

	if ((ino - 1) % es->inodes_per_group < ck_slots_ready(es, ext4_ino_group(es, ino)) ||
	    ext4_inode_where(es, ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return false;
	raw = (const void *)((const u8 *)bh->data + off);
	return le16_get(raw->mode) && le16_get(raw->links_count) &&
	       (!es->metadata_csum || ext4_inode_sum_ok(es, ino, raw));
}

/* The slot behind those that are in order becomes one of them. */
static void ready_one(struct ck *ck, u32 group, u32 slot)
{
	const struct ext4_super *es = ck->es;
	struct ext4_group *g = &es->group[group];
	scoped(bh_putp) struct buffer_head *bh = NULL;

	if (!(slot % es->inodes_per_block)) {
		if (!ck_read(ck, g->inode_table + slot / es->inodes_per_block, &bh))
			return;
		memset(bh->data, 0, bh->size_bytes);
		ck_put(ck, bh);
	}
	g->itable_unused = es->inodes_per_group - slot - 1;
	if (g->flags & EXT4_GROUP_INODE_UNINIT)
		ck_bitmap_put(ck, group, false, NULL);
	else
		ck_group_put(ck, group);
}

/* A free slot of the group's. */
static bool find_slot(const struct ck *ck, u32 group, u32 *slot)
{
	const struct ext4_super *es = ck->es;
	const struct ext4_group *g = &es->group[group];
	u64 first = (u64)group * es->inodes_per_group + 1;

	if (g->bad || !g->inode_table || !g->inode_bitmap)
		return false;
	for (u32 i = first < es->first_ino ? es->first_ino - (u32)first : 0; i < es->inodes_per_group; i++) {
		const struct ck_ino *in = ck_ino(ck, first + i);

		if (!in || !(in->flags & CK_USED)) {
			*slot = i;
			return true;
		}
	}
	return false;
}

int ck_alloc_ino(struct ck *ck, u32 goal_group, bool is_dir, u64 *ino)
{
	const struct ext4_super *es = ck->es;
	struct ck_ino *in;

	for (u32 i = 0; i < es->groups; i++) {
		u32 group = (u32)(((u64)goal_group + i) % es->groups), slot;

		if (!find_slot(ck, group, &slot))
			continue;
		if (slot >= ck_slots_ready(es, group))
			ready_one(ck, group, slot);
		*ino = (u64)group * es->inodes_per_group + slot + 1;
		in = ck_ino_make(ck, *ino);
		if (in)
			*in = (struct ck_ino){ .flags = CK_USED, .kind = (is_dir ? S_IFDIR : S_IFREG) >> 12 };
		return ck->err;
	}
	return fail(-ENOSPC, "%s: no free inode", es->vfs.health.name);
}
