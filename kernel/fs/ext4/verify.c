/*
 * What each kind of metadata block must look like: the bh_ops of ext4. A block passes once, when it is read;
 * from then on its members are believed.
 *
 *   - A verifier checks the checksum first: its failure is the one sentence that explains all others.
 *   - Then every member that a reader follows: lengths, order, block numbers (on the volume, and not metadata of
 *     a group). Numbers of inodes are checked where they are used, so that one bad entry hides no good one.
 *   - What the block cannot know itself comes as ctx: see the table in ext4.h.
 *
 * Not here: group descriptors and inodes, several to a block, which are checked one by one.
 */
#include "ext4.h"

#include <errno.h>

static int wrong(const struct buffer_head *bh, u64 ino, const char *what)
{
	if (ino)
		return corrupt(bh->dev->health, "block", bh->blk, "inode %llu: %s", (unsigned long long)ino,
			       what);
	return corrupt(bh->dev->health, "block", bh->blk, "%s", what);
}

/* ---- bitmaps ---- */

static int verify_bitmap(const struct buffer_head *bh, const void *data, u32 group, u32 bits, u32 want,
			 const char *kind)
{
	struct ext4_super *es = ext4_bh_super(bh);
	u32 mask = es->desc_bytes >= EXT4_DESC_BYTES_64BIT ? ~0u : 0xffff;

	if (es->metadata_csum && (ext4_csum_bitmap(es, data, bits) & mask) != want)
		return corrupt(bh->dev->health, kind, group, "wrong checksum of block %llu",
			       (unsigned long long)bh->blk);
	return 0;
}

static int verify_block_bitmap(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct ext4_super *es = ext4_bh_super(bh);
	u32 group = (u32)ctx->v[0];

	return verify_bitmap(bh, data, group, es->clusters_per_group, es->group[group].block_bitmap_csum,
			     "block bitmap of group");
}

static int verify_inode_bitmap(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct ext4_super *es = ext4_bh_super(bh);
	u32 group = (u32)ctx->v[0];

	return verify_bitmap(bh, data, group, es->inodes_per_group, es->group[group].inode_bitmap_csum,
			     "inode bitmap of group");
}

/* ---- maps of files ---- */

const char *ext4_extent_wrong(const struct ext4_super *es, u64 ino, const struct ext4_disk_extent *e,
			      u64 *next)
{
	u64 lblk = le32_get(e->lblk), len = ext4_extent_len(e);

	if (!len)
		return "an extent is empty";
	if (lblk < *next)
		return "extents overlap or are not in order";
	*next = lblk + len;
	if (*next > EXT4_LBLK_END)
		return "an extent goes beyond the longest file";
	return ext4_blocks_ok_for(es, ino, ext4_extent_start(e), len)
		       ? NULL
		       : "an extent claims blocks that are not on the volume or not for files";
}

static const char *leaf_wrong(const struct ext4_super *es, u64 ino, const struct ext4_disk_extent *e, u32 n)
{
	const char *bad = NULL;
	u64 next = 0;

	for (u32 i = 0; i < n && !bad; i++)
		bad = ext4_extent_wrong(es, ino, &e[i], &next);
	return bad;
}

static const char *index_wrong(const struct ext4_super *es, u64 ino, const struct ext4_disk_extent_idx *x,
			       u32 n)
{
	for (u32 i = 0; i < n; i++) {
		if (i && le32_get(x[i].lblk) <= le32_get(x[i - 1].lblk))
			return "index entries are not in order";
		if (!ext4_blocks_ok_for(es, ino, ext4_extent_child(&x[i]), 1))
			return "an index entry points to what is not a block for files";
	}
	return NULL;
}

const char *ext4_extent_head_wrong(const struct ext4_super *es, const void *node, u32 bytes, u32 depth)
{
	const struct ext4_disk_extent_header *h = node;
	u32 n = le16_get(h->entries), max = le16_get(h->max), room;

	if (le16_get(h->magic) != EXT4_EXTENT_MAGIC)
		return "not an extent node";
	if (le16_get(h->depth) != depth)
		return "wrong depth";
	room = bytes - sizeof(*h);
	if (es->metadata_csum && bytes > EXT4_IBLOCK_BYTES)
		room -= sizeof(struct ext4_disk_extent_tail);
	if (!max || max > room / sizeof(struct ext4_disk_extent))
		return "impossible number of places";
	return n > max || (!n && depth) ? "impossible number of entries" : NULL;
}

const char *ext4_extent_node_wrong(const struct ext4_super *es, u64 ino, const void *node, u32 bytes,
				   u32 depth)
{
	const struct ext4_disk_extent_header *h = node;
	const char *bad = ext4_extent_head_wrong(es, node, bytes, depth);
	u32 n = le16_get(h->entries);

	if (bad)
		return bad;
	return depth ? index_wrong(es, ino, (const void *)(h + 1), n)
		     : leaf_wrong(es, ino, (const void *)(h + 1), n);
}

bool ext4_extent_sum_ok(const struct ext4_super *es, u32 seed, const void *node, u32 bytes)
{
	const struct ext4_disk_extent_header *h = node;
	const struct ext4_disk_extent_tail *t;
	u32 tail;

	/* The place of the checksum depends on a member that it covers. */
	tail = sizeof(*h) + le16_get(h->max) * (u32)sizeof(struct ext4_disk_extent);
	if (!es->metadata_csum || tail + sizeof(*t) > bytes)
		return true;
	t = (const void *)((const u8 *)node + tail);
	return ext4_csum_extent(seed, node, tail) == le32_get(t->checksum);
}

static int verify_extent(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct ext4_super *es = ext4_bh_super(bh);
	u32 seed = es->metadata_csum ? ext4_csum_inode_seed(es, (u32)ctx->v[0], (u32)ctx->v[1]) : 0;
	const char *bad;

	if (!ext4_extent_sum_ok(es, seed, data, bh->size_bytes))
		return wrong(bh, ctx->v[0], "wrong checksum of an extent node");
	bad = ext4_extent_node_wrong(es, ctx->v[0], data, bh->size_bytes, (u32)ctx->v[2]);
	return bad ? wrong(bh, ctx->v[0], bad) : 0;
}

static void seal_extent(const struct buffer_head *bh, void *data)
{
	const struct ext4_disk_extent_header *h = data;
	u32 tail = sizeof(*h) + le16_get(h->max) * (u32)sizeof(struct ext4_disk_extent);
	struct ext4_disk_extent_tail *t = (void *)((u8 *)data + tail);

	if (!ext4_bh_super(bh)->metadata_csum || tail + sizeof(*t) > bh->size_bytes)
		return;
	t->checksum = le32_put(ext4_csum_extent(
		ext4_csum_inode_seed(ext4_bh_super(bh), (u32)bh->ctx.v[0], (u32)bh->ctx.v[1]), data, tail));
}

static int verify_indirect(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct ext4_super *es = ext4_bh_super(bh);
	const le32 *ptr = data;

	for (u32 i = 0; i < bh->size_bytes / sizeof(*ptr); i++)
		if (le32_get(ptr[i]) && !ext4_blocks_ok_for(es, ctx->v[0], le32_get(ptr[i]), 1))
			return wrong(bh, ctx->v[0],
				     "an indirect block points to what is not a block for files");
	return 0;
}

/* ---- directories ---- */

static const char *dx_wrong(const struct ext4_super *es, const void *data, u32 seed, const struct ext4_dx *dx)
{
	const struct ext4_disk_dx_tail *t = (const void *)(dx->entry + dx->limit);

	if (es->metadata_csum &&
	    ext4_csum_dx(seed, data, dx->entries_off, dx->count, t) != le32_get(t->checksum))
		return "wrong checksum of a directory index";
	for (u32 i = 2; i < dx->count; i++)
		if (le32_get(dx->entry[i].hash) < le32_get(dx->entry[i - 1].hash))
			return "a directory index is not in order";
	return NULL;
}

const char *ext4_dir_block_wrong(const struct ext4_super *es, u32 seed, const void *data, bool first)
{
	u32 bytes = ext4_block_bytes(es), tail;
	struct ext4_dirent_iter it;
	struct ext4_dx dx;
	const char *bad;

	/* The shape of an index is first: its checksum lies where a leaf's tail was, and may look like one. */
	if (ext4_dx_parse(es, data, first, &dx))
		return dx_wrong(es, data, seed, &dx);
	if (es->metadata_csum) {
		const struct ext4_disk_dir_tail *t;

		tail = ext4_dir_tail_off(data, bytes);
		if (!tail)
			return "a directory block has no checksum";
		t = (const void *)((const u8 *)data + tail);
		if (ext4_csum_dir(seed, data, tail) != le32_get(t->checksum))
			return "wrong checksum of a directory block";
	}
	ext4_dirent_iter(&it, data, bytes, bytes);
	while (ext4_dirent_next(&it, &bad))
		;
	return bad;
}

static int verify_dir(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	struct ext4_super *es = ext4_bh_super(bh);
	u32 seed = ext4_csum_inode_seed(es, (u32)ctx->v[0], (u32)ctx->v[1]);
	const char *bad = ext4_dir_block_wrong(es, seed, data, ctx->v[2]);

	return bad ? wrong(bh, ctx->v[0], bad) : 0;
}

void ext4_dir_seal(const struct ext4_super *es, u32 seed, void *data, bool first)
{
	u32 tail = ext4_dir_tail_off(data, ext4_block_bytes(es));
	struct ext4_dx dx;

	if (ext4_dx_parse(es, data, first, &dx)) {
		struct ext4_disk_dx_tail *t =
			(void *)((u8 *)data + dx.entries_off + dx.limit * sizeof(*dx.entry));

		t->checksum = le32_put(ext4_csum_dx(seed, data, dx.entries_off, dx.count, t));
	} else if (tail) {
		struct ext4_disk_dir_tail *t = (void *)((u8 *)data + tail);

		t->checksum = le32_put(ext4_csum_dir(seed, data, tail));
	}
}

static void seal_dir(const struct buffer_head *bh, void *data)
{
	struct ext4_super *es = ext4_bh_super(bh);

	if (es->metadata_csum)
		ext4_dir_seal(es, ext4_csum_inode_seed(es, (u32)bh->ctx.v[0], (u32)bh->ctx.v[1]), data,
			      bh->ctx.v[2]);
}

/* ---- extended attributes ---- */

/* Notes the bytes [off, off + len) as taken, in units of 4. False: some were taken already. */
static bool take_value(u64 *taken, u32 off, u32 len)
{
	for (u32 i = off / 4; i < DIV_ROUND_UP(off + len, 4); i++) {
		if (taken[i / 64] >> i % 64 & 1)
			return false;
		taken[i / 64] |= 1ull << i % 64;
	}
	return true;
}

static const char *xattr_value_wrong(const struct ext4_super *es, const struct ext4_disk_xattr_entry *e,
				     u32 names_end, u32 bytes, u64 *taken)
{
	u32 off = le16_get(e->value_offs), size = le32_get(e->value_size);

	if (le32_get(e->value_inum)) {
		if (!ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE))
			return "an attribute's value is in an inode, which the volume does not allow";
		return size > EXT4_XATTR_VALUE_MAX ? "an attribute is too large" : NULL;
	}
	if (!size)
		return NULL;
	if (size > bytes || off < names_end || off > bytes - size)
		return "an attribute's value lies outside its room";
	return take_value(taken, off, size) ? NULL : "two attributes share the bytes of a value";
}

const char *ext4_xattr_list_wrong(const struct ext4_super *es, const u8 *base, u32 first, u32 bytes)
{
	u64 taken[65536 / 4 / 64] = { 0 };
	const struct ext4_disk_xattr_entry *e;
	u32 off = first, step;
	const char *bad;

	for (;;) {
		if (off > bytes || bytes - off < sizeof(le32))
			return "the list of attributes has no end";
		e = (const void *)(base + off);
		if (!memcmp(e, &(le32){ { 0 } }, sizeof(le32)))
			break;
		step = ALIGN_UP((u32)sizeof(*e) + (bytes - off < sizeof(*e) ? 0 : e->name_len), 4u);
		if (bytes - off < step)
			return "an attribute goes beyond its list";
		if (memchr(e + 1, 0, e->name_len))
			return "an attribute's name contains a zero byte";
		off += step;
	}
	off += sizeof(le32);
	for (u32 at = first; at + sizeof(le32) < off; at += ALIGN_UP((u32)sizeof(*e) + e->name_len, 4u)) {
		e = (const void *)(base + at);
		bad = xattr_value_wrong(es, e, off, bytes, taken);
		if (bad)
			return bad;
	}
	return NULL;
}

const char *ext4_xattr_block_wrong(const struct ext4_super *es, u64 blk, const void *data)
{
	const struct ext4_disk_xattr_header *h = data;

	if (le32_get(h->magic) != EXT4_XATTR_MAGIC)
		return "not a block of extended attributes";
	if (es->metadata_csum && ext4_csum_xattr(es, blk, data) != le32_get(h->checksum))
		return "wrong checksum of extended attributes";
	if (le32_get(h->blocks) != 1)
		return "extended attributes claim more than one block";
	return ext4_xattr_list_wrong(es, data, sizeof(*h), ext4_block_bytes(es));
}

static int verify_xattr(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	const char *bad = ext4_xattr_block_wrong(ext4_bh_super(bh), bh->blk, data);

	(void)ctx;
	return bad ? wrong(bh, 0, bad) : 0;
}

static void seal_xattr(const struct buffer_head *bh, void *data)
{
	const struct ext4_super *es = ext4_bh_super(bh);
	struct ext4_disk_xattr_header *h = data;

	if (es->metadata_csum)
		h->checksum = le32_put(ext4_csum_xattr(es, bh->blk, data));
}

const struct bh_ops ext4_gdt_ops = { .name = "group descriptors" };
const struct bh_ops ext4_itable_ops = { .name = "inode table" };
const struct bh_ops ext4_block_bitmap_ops = { .name = "block bitmap", .verify = verify_block_bitmap };
const struct bh_ops ext4_inode_bitmap_ops = { .name = "inode bitmap", .verify = verify_inode_bitmap };
const struct bh_ops ext4_extent_ops = { .name = "extent node", .verify = verify_extent, .seal = seal_extent };
const struct bh_ops ext4_indirect_ops = { .name = "indirect block", .verify = verify_indirect };
const struct bh_ops ext4_dir_ops = { .name = "directory block", .verify = verify_dir, .seal = seal_dir };
const struct bh_ops ext4_xattr_ops = { .name = "extended attributes",
				       .verify = verify_xattr,
				       .seal = seal_xattr };
const struct bh_ops ext4_symlink_ops = { .name = "symbolic link" };
