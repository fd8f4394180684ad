/* Nodes of btrfs made by hand, in memory. */
#ifndef TEST_CRAFT_H
#define TEST_CRAFT_H

#include "fs/btrfs/btrfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

#define CRAFT_GENERATION 100u

/* As much of a volume as verifiers ask for. */
static inline void craft_super(struct btrfs_super *bs, u32 node_bytes)
{
	memset(bs, 0, sizeof(*bs));
	health_init(&bs->vfs.health, "crafted");
	bs->node_bytes = node_bytes;
	bs->sector_bytes = 4096;
	bs->csum_type = BTRFS_CSUM_CRC32C;
	bs->csum_bytes = 4;
	bs->disk.generation = le64_put(CRAFT_GENERATION);
	bs->disk.incompat = le64_put(BTRFS_INCOMPAT_SKINNY_METADATA);
	memset(bs->node_fsid, 0x5a, sizeof(bs->node_fsid));
}

static inline void craft_seal(const struct btrfs_super *bs, void *node)
{
	struct btrfs_disk_header *h = node;

	btrfs_csum(bs->csum_type, (u8 *)node + sizeof(h->csum), bs->node_bytes - sizeof(h->csum), h->csum);
}

/* An empty node. */
static inline void craft_node(const struct btrfs_super *bs, void *node, u64 bytenr, u64 owner, u32 level)
{
	struct btrfs_disk_header *h = node;

	memset(node, 0, bs->node_bytes);
	memcpy(h->fsid, bs->node_fsid, sizeof(h->fsid));
	h->bytenr = le64_put(bytenr);
	h->flags = le64_put(BTRFS_HEADER_WRITTEN | (u64)BTRFS_BACKREF_REV_MIXED << BTRFS_BACKREF_REV_SHIFT);
	h->generation = le64_put(CRAFT_GENERATION);
	h->owner = le64_put(owner);
	h->level = (u8)level;
}

static inline struct btrfs_disk_key craft_key(struct btrfs_key k)
{
	return (struct btrfs_disk_key){ le64_put(k.objectid), k.type, le64_put(k.offset) };
}

static inline u32 craft_room(const struct btrfs_super *bs, const void *leaf)
{
	u32 n = btrfs_nritems(leaf), end = bs->node_bytes - (u32)sizeof(struct btrfs_disk_header);

	if (n)
		end = le32_get(btrfs_item(leaf, n - 1)->offset_bytes);
	return end - n * (u32)sizeof(struct btrfs_disk_item);
}

/* One more item at the leaf's end; where its bytes lie, zeros unless `data` has them. */
static inline void *craft_item(const struct btrfs_super *bs, void *leaf, struct btrfs_key key,
			       const void *data, u32 len)
{
	struct btrfs_disk_header *h = leaf;
	u32 n = btrfs_nritems(leaf), end = bs->node_bytes - (u32)sizeof(*h);
	struct btrfs_disk_item *item = (struct btrfs_disk_item *)(h + 1) + n;
	u8 *at;

	assert_true(craft_room(bs, leaf) >= len + sizeof(*item));
	if (n)
		end = le32_get(btrfs_item(leaf, n - 1)->offset_bytes);
	item->key = craft_key(key);
	item->offset_bytes = le32_put(end - len);
	item->len_bytes = le32_put(len);
	h->nritems = le32_put(n + 1);
	at = (u8 *)(h + 1) + end - len;
	if (data)
		memcpy(at, data, len);
	return at;
}

static inline void craft_ptr(void *node, struct btrfs_key key, u64 bytenr)
{
	struct btrfs_disk_header *h = node;
	u32 n = btrfs_nritems(node);

	((struct btrfs_disk_ptr *)(h + 1))[n] = (struct btrfs_disk_ptr){
		.key = craft_key(key),
		.bytenr = le64_put(bytenr),
		.generation = le64_put(CRAFT_GENERATION),
	};
	h->nritems = le32_put(n + 1);
}

#endif
