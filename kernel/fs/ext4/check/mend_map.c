/*
 * Maps as they have to be after mending: trees built anew of extents, blocks that are claimed twice copied.
 *
 *   - A tree is built of what was read of the old one, in the old one's blocks. It has no gaps, so these are enough as long as nothing was added.
 *   - Of blocks that are claimed twice the first inode that is gone through keeps them, unless they are metadata of groups. The
 *     others get copies.
 */
#include "check.h"

#include "lib/scope.h"
#include <stdlib.h>

#define ROOT_MAX \
	((EXT4_IBLOCK_BYTES - sizeof(struct ext4_disk_extent_header)) / sizeof(struct ext4_disk_extent))
#define WRITTEN_MAX EXT4_EXTENT_INIT_MAX

/* ---- what the map will be ---- */

static u32 len_max(bool unwritten)
{
	return unwritten ? WRITTEN_MAX - 1 : WRITTEN_MAX;
}

void ck_run_add(struct ck *ck, u64 lblk, u64 pblk, u64 len, bool unwritten)
{
	struct ck_run *last = ck->runs ? &ck->run[ck->runs - 1] : NULL;

	if (last && last->lblk + (u64)last->len == lblk && last->pblk + last->len == pblk &&
	    last->unwritten == unwritten && last->len + len <= len_max(unwritten)) {
		last->len += (u32)len;
		return;
	}
	if (ck_room(ck, &ck->run, ck->runs, &ck->run_room, sizeof(*ck->run)))
		ck->run[ck->runs++] = (struct ck_run){ pblk, (u32)lblk, (u32)len, unwritten };
}

static int run_compare(const void *a, const void *b)
{
	const struct ck_run *x = a, *y = b;

	if (x->lblk != y->lblk)
		return x->lblk < y->lblk ? -1 : 1;
	return x->pblk < y->pblk ? -1 : x->pblk > y->pblk;
}

/*
 * In order, and each block of the file once: what an earlier run has, a later one loses. A directory has no holes: its runs
 * follow each other, as far as clusters allow that.
 */
static void straighten(struct ck *ck, const struct ck_inode *ci)
{
	u32 n = 0, mask = (1u << ck->es->cluster_bits) - 1;
	u64 end = 0;

	if (ck->runs)
		qsort(ck->run, ck->runs, sizeof(*ck->run), run_compare);
	for (u32 i = 0; i < ck->runs; i++) {
		struct ck_run r = ck->run[i];
		u64 cut = end > r.lblk ? end - r.lblk : 0;

		if (cut >= r.len)
			continue;
		r.lblk += (u32)cut;
		r.pblk += cut;
		r.len -= (u32)cut;
		if (ci->is_dir && ci->rebuild && r.lblk > end)
			r.lblk = (u32)(end + ((u32)(r.lblk - end) & mask));
		end = (u64)r.lblk + r.len;
		ck->run[n++] = r;
	}
	ck->runs = n;
}

/* ---- the tree ---- */

static u32 node_max(const struct ck *ck)
{
	return (u32)((ext4_block_bytes(ck->es) - sizeof(struct ext4_disk_extent_header)) /
		     sizeof(struct ext4_disk_extent));
}

void ck_extent_seal(const struct ck *ck, const struct ck_inode *ci, void *node)
{
	const struct ext4_disk_extent_header *h = node;
	u32 tail = (u32)sizeof(*h) + le16_get(h->max) * (u32)sizeof(struct ext4_disk_extent);
	struct ext4_disk_extent_tail *t = (void *)((u8 *)node + tail);

	if (ck->es->metadata_csum && tail + sizeof(*t) <= ext4_block_bytes(ck->es))
		t->checksum = le32_put(ext4_csum_extent(ci->seed, node, tail));
}

/* Entries [at, at + n) of a level: runs for depth 0, else the nodes below, each an index in ck->node with its first block in `key`. */
static void fill(struct ck *ck, void *node, u32 bytes, u32 depth, const u32 *key, u32 first, u32 at, u32 n)
{
	struct ext4_disk_extent_header *h = node;
	u32 max = (u32)((bytes - sizeof(*h)) / sizeof(struct ext4_disk_extent));

	memset(node, 0, bytes);
	*h = (struct ext4_disk_extent_header){ .magic = le16_put(EXT4_EXTENT_MAGIC),
					       .entries = le16_put((u16)n),
					       .max = le16_put((u16)max),
					       .depth = le16_put((u16)depth) };
	for (u32 i = 0; i < n; i++) {
		struct ext4_disk_extent_idx *x = (struct ext4_disk_extent_idx *)(h + 1) + i;
		struct ext4_disk_extent *e = (struct ext4_disk_extent *)(h + 1) + i;

		if (depth) {
			u64 blk = ck->node[first + at + i];

			*x = (struct ext4_disk_extent_idx){ .lblk = le32_put(key[at + i]),
							    .leaf_lo = le32_put((u32)blk),
							    .leaf_hi = le16_put((u16)(blk >> 32)) };
		} else {
			const struct ck_run *r = &ck->run[at + i];

			*e = (struct ext4_disk_extent){
				.lblk = le32_put(r->lblk),
				.len = le16_put((u16)(r->len + (r->unwritten ? WRITTEN_MAX : 0))),
				.start_hi = le16_put((u16)(r->pblk >> 32)),
				.start_lo = le32_put((u32)r->pblk)
			};
		}
	}
}

/* Blocks for a tree of n runs. *depth: how many levels they are. */
static u32 nodes_for(const struct ck *ck, u32 n, u32 *depth)
{
	u32 all = 0;

	for (*depth = 0; n > ROOT_MAX; ++*depth) {
		n = DIV_ROUND_UP(n, node_max(ck));
		all += n;
	}
	return all;
}

static bool enough_nodes(struct ck *ck, u32 n)
{
	while (ck->nodes < n) {
		u64 cluster;

		if (ck_alloc(ck, ck->runs ? ck_cluster(ck, ck->run[0].pblk) : 0, 1, &cluster) ||
		    !ck_room(ck, &ck->node, ck->nodes, &ck->node_room, sizeof(*ck->node)))
			return false;
		ck->node[ck->nodes++] = ck->es->first_data_blk + (cluster << ck->es->cluster_bits);
	}
	return true;
}

bool ck_tree_build(struct ck *ck, struct ck_inode *ci)
{
	u32 per = node_max(ck), depth, first = 0, below = 0, n, *key;
	bool ok = true;

	straighten(ck, ci);
	if (!enough_nodes(ck, nodes_for(ck, ck->runs, &depth)))
		return false;
	key = malloc((ck->runs + 1ul) * sizeof(*key));
	if (!key) {
		ck_no_memory(ck);
		return false;
	}
	n = ck->runs;
	for (u32 level = 0; level < depth && ok; level++) {
		u32 count = DIV_ROUND_UP(n, per);

		for (u32 i = 0; i < count && ok; i++) {
			scoped(bh_putp) struct buffer_head *bh = NULL;
			u32 at = i * per, lblk = level ? key[at] : ck->run[at].lblk;

			ok = ck_read(ck, ck->node[first + i], &bh);
			if (!ok)
				break;
			fill(ck, bh->data, bh->size_bytes, level, key, below, at, MIN(per, n - at));
			ck_extent_seal(ck, ci, bh->data);
			ck_put(ck, bh);
			key[i] = lblk;
		}
		below = first;
		first += count;
		n = count;
	}
	if (ok)
		fill(ck, ci->raw->block, EXT4_IBLOCK_BYTES, depth, key, below, 0, n);
	free(key);
	ck_inode_set_flags(ci, 0, EXT4_FL_EXTENTS);
	return ok;
}

/* ---- headers that are damaged ---- */

static bool is_node(struct ck *ck, u64 blk, u32 *depth)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_extent_header *h;

	if (!ext4_blocks_ok(ck->es, blk, 1) || !ck_read(ck, blk, &bh))
		return false;
	h = bh->data;
	*depth = le16_get(h->depth);
	return *depth < EXT4_EXTENT_DEPTH_MAX && !ext4_extent_head_wrong(ck->es, h, bh->size_bytes, *depth);
}

/* How many of the entries at `e`, `max` at most, can be extents of a file of `blocks` blocks. */
static u32 extents_there(const struct ck *ck, u64 ino, const struct ext4_disk_extent *e, u32 max, u64 blocks)
{
	u64 next = 0;
	u32 n = 0;

	while (n < max && le32_get(e[n].lblk) < blocks && !ext4_extent_wrong(ck->es, ino, &e[n], &next))
		n++;
	return n;
}

/* The same for indexes of nodes `depth` - 1 above the leaves. */
static u32 indexes_there(struct ck *ck, const struct ext4_disk_extent_idx *x, u32 max, u32 depth)
{
	u32 n = 0, below;

	while (n < max && (!n || le32_get(x[n].lblk) > le32_get(x[n - 1].lblk)) &&
	       is_node(ck, ext4_extent_child(&x[n]), &below) && below + 1 == depth)
		n++;
	return n;
}

bool ck_head_save(struct ck *ck, const struct ck_inode *ci, struct ext4_disk_extent_header *h, u32 bytes,
		  u32 depth)
{
	u32 max = (u32)((bytes - sizeof(*h)) / sizeof(struct ext4_disk_extent)), n, right;
	static const struct ext4_disk_extent_header none;
	bool any = depth > EXT4_EXTENT_DEPTH_MAX;

	if (any && !is_node(ck, ext4_extent_child((const void *)(h + 1)), &depth))
		depth = 0;
	else if (any)
		depth++;
	n = le16_get(h->entries);
	/* Most of it has to be there, or nothing at all: bytes of something else are neither. */
	right = (le16_get(h->magic) == EXT4_EXTENT_MAGIC) + (le16_get(h->max) == max) +
		(le16_get(h->depth) == depth) + (n && n <= max);
	if (right < 2 && memcmp(h, &none, sizeof(*h)))
		return false;
	max = le16_get(h->magic) == EXT4_EXTENT_MAGIC && n && n <= max ? n : max;
	n = depth ? indexes_there(ck, (const void *)(h + 1), max, depth)
		  : extents_there(ck, ci->ino, (const void *)(h + 1), max,
				  DIV_ROUND_UP(ci->size_bytes, (u64)ext4_block_bytes(ck->es)));
	if (!n)
		return false;
	*h = (struct ext4_disk_extent_header){ .magic = le16_put(EXT4_EXTENT_MAGIC),
					       .entries = le16_put((u16)n),
					       .max = le16_put((u16)((bytes - sizeof(*h)) /
								     sizeof(struct ext4_disk_extent))),
					       .depth = le16_put((u16)depth) };
	return true;
}

/* ---- copies ---- */

u64 ck_copy(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 blk)
{
	scoped(bh_putp) struct buffer_head *from = NULL, *to = NULL;
	u32 bits = ck->es->cluster_bits;
	u64 mask = (1ull << bits) - 1, cluster = ci->realign ? lblk >> bits : ck_cluster(ck, blk), copy,
	    nth = (ci->realign ? lblk : blk - ck->es->first_data_blk) & mask,
	    goal = ci->copy_at ? ci->copy_at + 1 : ck_cluster(ck, blk);

	if (cluster != ci->copy_of) {
		if (ci->no_room || ck_alloc(ck, goal, 1, &ci->copy_at)) {
			ci->no_room = true;
			ci->copy_of = ~0ull;
			return 0;
		}
		ci->copy_of = cluster;
	}
	copy = ck->es->first_data_blk + (ci->copy_at << bits) + nth;
	if (!ck_read(ck, copy, &to))
		return copy;
	if (ck_read(ck, blk, &from))
		memcpy(to->data, from->data, to->size_bytes);
	else
		memset(to->data, 0, to->size_bytes);
	ck_put(ck, to);
	ck->stale = true;
	return copy;
}

static u8 *kept_bits(struct ck *ck, u32 group)
{
	if (!ck->kept.group)
		ck->kept.group = calloc(ck->es->groups, sizeof(*ck->kept.group));
	if (ck->kept.group && !ck->kept.group[group])
		ck->kept.group[group] = calloc(1, DIV_ROUND_UP(ck->es->clusters_per_group, 8u));
	if (!ck->kept.group || !ck->kept.group[group]) {
		ck_no_memory(ck);
		return NULL;
	}
	return ck->kept.group[group];
}

u64 ck_keep(struct ck *ck, u64 from, u64 n)
{
	const struct ext4_super *es = ck->es;
	u64 foreign = 0;

	for (u64 c = from; c < from + n && ck_goes_on(ck); c++) {
		u32 nth = (u32)(c % es->clusters_per_group);
		u8 *bits;

		if (!ck_twice(ck, c, 1))
			continue;
		bits = kept_bits(ck, (u32)(c / es->clusters_per_group));
		if (!bits)
			break;
		if (bits[nth / 8] >> nth % 8 & 1 ||
		    ext4_zone_meets(&es->zone, es->first_data_blk + (c << es->cluster_bits),
				    1ull << es->cluster_bits)) {
			foreign++;
			continue;
		}
		bits[nth / 8] |= (u8)(1u << nth % 8);
		if (ck_room(ck, &ck->fresh, ck->freshes, &ck->fresh_room, sizeof(*ck->fresh)))
			ck->fresh[ck->freshes++] = c;
	}
	return foreign;
}

void ck_keep_again(struct ck *ck)
{
	for (u32 i = 0; i < ck->freshes; i++) {
		u32 per = ck->es->clusters_per_group, nth = (u32)(ck->fresh[i] % per);
		u8 *bits = kept_bits(ck, (u32)(ck->fresh[i] / per));

		if (bits)
			bits[nth / 8] &= (u8) ~(1u << nth % 8);
	}
	ck->freshes = 0;
}
