/*
 * What a node must look like, so that code above can follow it: the bh_ops of trees.
 *
 *   - The checksum is looked at first: that it is wrong explains everything else. rescue=ignoremetacsums leaves out this alone.
 *   - Then identity and place in the tree, as far as the reader knows them (bh_ctx, from struct btrfs_expect): a copy that
 *     missed a write is sound in itself, but its generation is not what the parent says, and another copy is read.
 *   - Then order of keys, bounds of items, and each item.
 *
 * What is wrong with the node condemns the node. A bad item condemns itself alone, unlike in the kernel: the leaf passes,
 * bs->bad_items is set, and from then on every path looks at the item that it comes to stand on. Pointers to children are looked at
 * when they are followed, for the same reason.
 *
 * The volume is found through the device's health, which is embedded in the super block.
 */
#include "btrfs.h"

#include <errno.h>

static int wrong(const struct buffer_head *bh, const char *what)
{
	return corrupt(bh->dev->health, "tree block", bh->blk * bh->size_bytes, "%s", what);
}

static bool csum_ok(const struct btrfs_super *bs, const struct btrfs_disk_header *h)
{
	u8 sum[BTRFS_CSUM_BYTES];

	btrfs_csum(bs->csum_type, (const u8 *)h + sizeof(h->csum), bs->node_bytes - sizeof(h->csum), sum);
	return !memcmp(sum, h->csum, bs->csum_bytes);
}

/* Nodes that were made before the volume sprouted carry its seed's fsid. */
static bool fsid_ok(const struct btrfs_super *bs, const u8 fsid[16])
{
	if (!memcmp(fsid, bs->node_fsid, 16))
		return true;
	for (u32 i = 0; i < bs->seeds; i++)
		if (!memcmp(fsid, bs->seed_fsid[i], 16))
			return true;
	return false;
}

/* Subvolumes share nodes, so that a node's owner is whichever of them made it. */
static bool owner_ok(u64 want, u64 owner)
{
	if (!want || want == BTRFS_TREE_RELOC)
		return true;
	return btrfs_is_subvol(want) ? btrfs_is_subvol(owner) : owner == want;
}

static int verify_identity(const struct btrfs_super *bs, const struct buffer_head *bh,
			   const struct btrfs_disk_header *h, const struct btrfs_expect *want)
{
	u64 bytenr = bh->blk * bh->size_bytes, generation = le64_get(h->generation);

	if (!bs->opts.ignore_meta_csums && !csum_ok(bs, h))
		return wrong(bh, "wrong checksum");
	if (le64_get(h->bytenr) != bytenr)
		return corrupt(bh->dev->health, "tree block", bytenr, "it says that it is block %llu",
			       (unsigned long long)le64_get(h->bytenr));
	if (!fsid_ok(bs, h->fsid))
		return wrong(bh, "it is of another volume");
	if (h->level >= BTRFS_LEVELS || h->level != want->level)
		return corrupt(bh->dev->health, "tree block", bytenr, "its level is %u, not %u", h->level,
			       want->level);
	if (want->generation && generation != want->generation)
		return corrupt(bh->dev->health, "tree block", bytenr, "its generation is %llu, not %llu",
			       (unsigned long long)generation, (unsigned long long)want->generation);
	if (generation > le64_get(bs->disk.generation) + 1)
		return corrupt(bh->dev->health, "tree block", bytenr,
			       "its generation is %llu, and the volume's %llu",
			       (unsigned long long)generation,
			       (unsigned long long)le64_get(bs->disk.generation));
	if (!owner_ok(want->owner, le64_get(h->owner)))
		return corrupt(bh->dev->health, "tree block", bytenr, "it is of tree %lld, not of %lld",
			       (long long)le64_get(h->owner), (long long)want->owner);
	return 0;
}

/* Items in order, their bytes from the end without overlap or gap. */
static int verify_leaf(const struct btrfs_super *bs, const struct buffer_head *bh, const void *leaf, u32 n)
{
	u32 room = bs->node_bytes - (u32)sizeof(struct btrfs_disk_header);
	struct btrfs_key prev, key;
	u64 expected_end = room;

	for (u32 i = 0; i < n; i++) {
		const struct btrfs_disk_item *item = btrfs_item(leaf, i);
		u64 off = le32_get(item->offset_bytes);

		key = btrfs_key_get(&item->key);
		if (i && btrfs_key_cmp(&prev, &key) >= 0)
			return wrong(bh, "its items are not in order");
		if (off + le32_get(item->len_bytes) != expected_end)
			return wrong(bh, "the bytes of its items overlap, or leave a gap");
		if (off < (i + 1) * sizeof(*item))
			return wrong(bh, "the bytes of an item lie over its items");
		expected_end = off;
		prev = key;
	}
	return 0;
}

static int verify_pointers(const struct buffer_head *bh, const void *node, u32 n)
{
	struct btrfs_key prev, key;

	for (u32 i = 0; i < n; i++) {
		key = btrfs_key_get(&btrfs_ptr(node, i)->key);
		if (i && btrfs_key_cmp(&prev, &key) >= 0)
			return wrong(bh, "its pointers are not in order");
		prev = key;
	}
	return 0;
}

/* Says of each bad item what is wrong with it. */
static void judge_items(struct btrfs_super *bs, const struct buffer_head *bh, const void *leaf, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		const char *bad = btrfs_item_wrong(bs, leaf, i);
		struct btrfs_key key;

		if (!bad)
			continue;
		key = btrfs_key_get(&btrfs_item(leaf, i)->key);
		(void)!corrupt(bh->dev->health, "tree block", bh->blk * bh->size_bytes,
			       "item %u (%lld %u %llu): %s", i, (long long)key.objectid, key.type,
			       (unsigned long long)key.offset, bad);
		err_clear();
		atomic_store(&bs->bad_items, true);
	}
}

static void expect_from_ctx(const struct bh_ctx *ctx, struct btrfs_expect *want)
{
	want->owner = ctx->v[0];
	want->generation = ctx->v[1];
	want->level = (u32)ctx->v[4] & 0xff;
	want->has_key = ctx->v[4] >> 16 & 1;
	want->first = BTRFS_KEY(ctx->v[2], (u8)(ctx->v[4] >> 8), ctx->v[3]);
}

void btrfs_node_ctx(const struct btrfs_expect *want, struct bh_ctx *out)
{
	out->v[0] = btrfs_is_subvol(want->owner) ? BTRFS_TREE_FS : want->owner;
	out->v[1] = want->generation;
	out->v[2] = want->has_key ? want->first.objectid : 0;
	out->v[3] = want->has_key ? want->first.offset : 0;
	out->v[4] = want->level | (want->has_key ? (u64)want->first.type << 8 | 1u << 16 : 0);
}

static int verify_node(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct btrfs_super *bs = btrfs_super(container_of(bh->dev->health, struct super_block, health));
	u32 n = btrfs_nritems(data), each, room = bs->node_bytes - (u32)sizeof(struct btrfs_disk_header);
	struct btrfs_expect want;
	struct btrfs_key first;
	int err;

	expect_from_ctx(ctx, &want);
	err = verify_identity(bs, bh, data, &want);
	if (err)
		return err;
	each = want.level ? sizeof(struct btrfs_disk_ptr) : sizeof(struct btrfs_disk_item);
	if (n > room / each)
		return wrong(bh, "it has more entries than there is room for");
	if (!n && (want.level || want.has_key))
		return wrong(bh, "it is empty");
	err = want.level ? verify_pointers(bh, data, n) : verify_leaf(bs, bh, data, n);
	if (err || !n)
		return err;
	first = btrfs_key_get(want.level ? &btrfs_ptr(data, 0)->key : &btrfs_item(data, 0)->key);
	if (want.has_key && btrfs_key_cmp(&first, &want.first))
		return wrong(bh, "its first key is not what its parent says");
	if (!want.level)
		judge_items(bs, bh, data, n);
	return 0;
}

const struct bh_ops btrfs_node_ops = { .name = "tree block", .verify = verify_node };
