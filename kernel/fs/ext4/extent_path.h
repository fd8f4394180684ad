/*
 * Between extents_edit.c and extents_cut.c: the nodes of an extent tree, as they lie, and the way to a leaf.
 */
#ifndef EXTENT_PATH_H
#define EXTENT_PATH_H

#include "ext4.h"

struct node {
	struct buffer_head *bh; /* NULL: the root, in the inode */
	struct ext4_disk_extent_header *hdr;
	u32 at; /* in an index: the entry that was followed; in the leaf: how many begin at or before the block */
};

/* The way to the leaf that is responsible for a block, and for all of [lo, hi). */
struct path {
	struct ext4_inode *ei;
	u32 depth; /* of the root */
	u64 lo, hi;
	struct node level[EXT4_EXTENT_DEPTH_MAX + 1]; /* the root, …, the leaf */
};

static inline u32 entries(const struct node *n)
{
	return le16_get(n->hdr->entries);
}

static inline u32 places(const struct node *n)
{
	return le16_get(n->hdr->max);
}

/* Entries of both kinds are of one size and begin with their key. */
static inline struct ext4_disk_extent *entry(const struct node *n, u32 i)
{
	return (struct ext4_disk_extent *)(n->hdr + 1) + i;
}

static inline u64 key(const struct node *n, u32 i)
{
	return le32_get(entry(n, i)->lblk);
}

static inline u64 end_of(const struct ext4_disk_extent *e)
{
	return le32_get(e->lblk) + ext4_extent_len(e);
}

static inline struct node *leaf_of(struct path *p)
{
	return &p->level[p->depth];
}

/* Its bytes were changed. The root is written with the inode. */
static inline void changed(struct ext4_handle *h, const struct node *n)
{
	if (n->bh)
		ext4_dirty(h, n->bh);
}

static inline u32 block_places(const struct ext4_super *es)
{
	u32 bytes = ext4_block_bytes(es) - (u32)sizeof(struct ext4_disk_extent_header);

	if (es->metadata_csum)
		bytes -= (u32)sizeof(struct ext4_disk_extent_tail);
	return bytes / (u32)sizeof(struct ext4_disk_extent);
}

static inline void node_init(const struct ext4_super *es, struct ext4_disk_extent_header *hdr, u32 depth)
{
	*hdr = (struct ext4_disk_extent_header){ .magic = le16_put(EXT4_EXTENT_MAGIC),
						 .max = le16_put((u16)block_places(es)),
						 .depth = le16_put((u16)depth) };
}

static inline void set_entries(struct node *n, u32 count)
{
	n->hdr->entries = le16_put((u16)count);
}

/* There is room. */
static inline void entry_insert(struct node *n, u32 at, const struct ext4_disk_extent *e)
{
	u32 count = entries(n);

	memmove(entry(n, at + 1), entry(n, at), (count - at) * sizeof(*e));
	*entry(n, at) = *e;
	set_entries(n, count + 1);
}

static inline void entry_remove(struct node *n, u32 at)
{
	u32 count = entries(n) - 1;

	memmove(entry(n, at), entry(n, at + 1), (count - at) * sizeof(struct ext4_disk_extent));
	memset(entry(n, count), 0, sizeof(struct ext4_disk_extent));
	set_entries(n, count);
}

static inline struct ext4_disk_extent make_extent(u64 lblk, u64 len, u64 pblk, bool unwritten)
{
	return (struct ext4_disk_extent){ .lblk = le32_put((u32)lblk),
					  .len = le16_put(
						  (u16)(unwritten ? len + EXT4_EXTENT_INIT_MAX : len)),
					  .start_hi = le16_put((u16)(pblk >> 32)),
					  .start_lo = le32_put((u32)pblk) };
}

static inline struct ext4_disk_extent make_index(u64 lblk, u64 blk)
{
	struct ext4_disk_extent e;
	struct ext4_disk_extent_idx x = { .lblk = le32_put((u32)lblk),
					  .leaf_lo = le32_put((u32)blk),
					  .leaf_hi = le16_put((u16)(blk >> 32)) };

	memcpy(&e, &x, sizeof(e));
	return e;
}

static inline u64 child_of(const struct node *n, u32 i)
{
	return ext4_extent_child((const struct ext4_disk_extent_idx *)entry(n, i));
}

/* The part [from, end) of an extent. */
static inline struct ext4_disk_extent part(const struct ext4_disk_extent *e, u64 from, u64 end)
{
	return make_extent(from, end - from, ext4_extent_start(e) + (from - le32_get(e->lblk)),
			   ext4_extent_unwritten(e));
}

/* b goes on where a ends, and one extent can be both. */
static inline bool continues(const struct ext4_disk_extent *a, const struct ext4_disk_extent *b)
{
	bool unwritten = ext4_extent_unwritten(a);
	u64 len = ext4_extent_len(a);

	return unwritten == ext4_extent_unwritten(b) && end_of(a) == le32_get(b->lblk) &&
	       ext4_extent_start(a) + len == ext4_extent_start(b) &&
	       len + ext4_extent_len(b) <= (unwritten ? EXT4_EXTENT_UNWRITTEN_MAX : EXT4_EXTENT_INIT_MAX);
}

static inline struct ext4_disk_extent both(const struct ext4_disk_extent *a, const struct ext4_disk_extent *b)
{
	return make_extent(le32_get(a->lblk), ext4_extent_len(a) + ext4_extent_len(b), ext4_extent_start(a),
			   ext4_extent_unwritten(a));
}

/* The leaf is joined. Entry i takes in the one behind it if that continues it. */
static inline void merge(struct node *leaf, u32 i)
{
	struct ext4_disk_extent *e = entry(leaf, i);

	if (i + 1 >= entries(leaf) || !continues(e, e + 1))
		return;
	*e = both(e, e + 1);
	entry_remove(leaf, i + 1);
}

/* ---- extents_edit.c ---- */

int ext4_path_bad(const struct ext4_inode *ei, const char *what);
/* Whatever it returns, ended by ext4_path_put. */
int ext4_path_find(struct ext4_inode *ei, u64 lblk, struct path *p) __must_check;
void ext4_path_put(struct path *p);
/* The nodes down to level `to` will change. */
int ext4_path_join(struct ext4_handle *h, struct path *p, u32 to) __must_check;
/* The first key of the node at level k has changed, or may have. */
void ext4_path_fix_keys(struct ext4_handle *h, struct path *p, u32 k);

#endif
