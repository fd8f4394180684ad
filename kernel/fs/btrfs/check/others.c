/* Trees that only help: of uuids, and of quotas. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

/* ---- uuids ---- */

struct uuids {
	u64 sum; /* of subvolumes that have their entry */
};

static void take_uuid(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct uuids *u = ctx;
	le64 half[2] = { le64_put(it->key.objectid), le64_put(it->key.offset) };
	bool received = it->key.type == BTRFS_KEY_UUID_RECEIVED_SUBVOL;

	if (!received && it->key.type != BTRFS_KEY_UUID_SUBVOL)
		return;
	for (u32 at = 0; at < it->len; at += (u32)sizeof(le64)) {
		u64 id = le64_get(*(const le64 *)((const u8 *)it->data + at));
		const struct ck_root *r = btrfs_ck_root(c, id);

		if (!r || memcmp(received ? r->item.received_uuid : r->item.uuid, half, sizeof(half)))
			btrfs_ck_found(c, CK_UUID, "subvolume", id, NULL,
				       r ? "it has another" : "it is not there");
		else if (!received)
			u->sum += btrfs_ck_ref(c, it->key.type, id, 0, 0);
	}
}

void btrfs_ck_uuids(struct ck *c)
{
	static const u8 none[16];
	struct uuids u = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, take_uuid, &u, 0, 0, 0 };

	if (!btrfs_ck_tree_find(c, BTRFS_TREE_UUID, &t))
		return;
	(void)!btrfs_ck_walk(c, &w);
	/* Else the next writer makes it anew. */
	if (!btrfs_ck_whole(c, &w, "uuids of subvolumes") ||
	    le64_get(c->bs->disk.uuid_tree_generation) != le64_get(c->bs->disk.generation))
		return;
	for (u32 i = 0; i < c->roots; i++) {
		const struct ck_root *r = &c->root[i];

		if (btrfs_is_subvol(r->id) && le32_get(r->item.refs) &&
		    memcmp(r->item.uuid, none, sizeof(none)))
			u.sum -= btrfs_ck_ref(c, BTRFS_KEY_UUID_SUBVOL, r->id, 0, 0);
	}
	if (u.sum)
		btrfs_ck_found(c, CK_UUID_MISSING, "tree", BTRFS_TREE_UUID, NULL, NULL);
}

/* ---- quotas ---- */

#define QUOTA_ON           0x1ull
#define QUOTA_RESCAN       0x2ull
#define QUOTA_INCONSISTENT 0x4ull
#define QUOTA_SIMPLE       0x8ull

struct quotas {
	bool count; /* it must be right now */
};

/* The counts of a single subvolume's group; those of groups above are sums that sharing makes more than sums. */
static void take_group(struct ck *c, const struct ck_item *it)
{
	const struct btrfs_disk_qgroup_info *d = it->data;
	const struct ck_root *r = btrfs_ck_root(c, it->key.offset);
	struct text name = { 0 };

	if (it->key.offset >> 48 || !r)
		return;
	if (le64_get(d->referenced) == r->referenced && le64_get(d->exclusive) == r->exclusive)
		return;
	btrfs_ck_tree_name(c, r->id, &name);
	btrfs_ck_found(c, CK_QUOTA, "subvolume", r->id, text_str(&name),
		       "%llu bytes, %llu of its own; there are %llu and %llu",
		       (unsigned long long)le64_get(d->referenced),
		       (unsigned long long)le64_get(d->exclusive), (unsigned long long)r->referenced,
		       (unsigned long long)r->exclusive);
	text_free(&name);
}

static void take_quota(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct quotas *q = ctx;
	const struct btrfs_disk_qgroup_status *d = it->data;
	u64 flags;

	if (it->key.type == BTRFS_KEY_QGROUP_INFO && q->count)
		take_group(c, it);
	if (it->key.type != BTRFS_KEY_QGROUP_STATUS)
		return;
	flags = le64_get(d->flags);
	if (!(flags & QUOTA_ON) || flags & QUOTA_SIMPLE)
		return;
	if (flags & (QUOTA_RESCAN | QUOTA_INCONSISTENT) ||
	    le64_get(d->generation) != le64_get(c->bs->disk.generation))
		btrfs_ck_found(c, CK_QUOTA_STALE, "tree", BTRFS_TREE_QUOTA, NULL, NULL);
	else
		q->count = true;
}

/* Not while a subvolume is being dropped: its share is taken back when all of it is. */
static bool can_count(const struct ck *c)
{
	for (u32 i = 0; i < c->roots; i++)
		if (c->root[i].partial || (btrfs_is_subvol(c->root[i].id) && !le32_get(c->root[i].item.refs)))
			return false;
	return !c->refs_partial && !c->extents_partial;
}

/* What only one subvolume has. */
static void sum_up(struct ck *c)
{
	const struct ck_node *n;

	for (u64 at = 0; (n = btrfs_ck_each(&c->nodes, &at));)
		if (n->root && !n->shared)
			c->root[n->root - 1].exclusive += c->bs->node_bytes;
	for (u64 i = 0; i < c->extents; i++)
		if (c->extent[i].root && !(c->extent[i].flags & CK_EXTENT_SHARED))
			c->root[c->extent[i].root - 1].exclusive +=
				(u64)c->extent[i].sectors * c->bs->sector_bytes;
}

void btrfs_ck_quotas(struct ck *c)
{
	struct quotas q = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, can_count(c) ? take_quota : NULL, &q, 0, 0, 0 };

	if (!btrfs_ck_tree_find(c, BTRFS_TREE_QUOTA, &t))
		return;
	sum_up(c);
	(void)!btrfs_ck_walk(c, &w);
	(void)btrfs_ck_whole(c, &w, "quotas");
}

/* ---- the rest ---- */

static bool has_pass(const struct ck *c, u64 id)
{
	switch (id) {
	case BTRFS_TREE_EXTENT:
	case BTRFS_TREE_DEV:
	case BTRFS_TREE_CSUM:
	case BTRFS_TREE_UUID:
	case BTRFS_TREE_QUOTA:
	case BTRFS_TREE_FREE_SPACE:
	case BTRFS_TREE_RELOC:
	case BTRFS_TREE_DATA_RELOC:
		return true;
	case BTRFS_TREE_BLOCK_GROUP:
		return le64_get(c->bs->disk.compat_ro) & BTRFS_COMPAT_RO_BLOCK_GROUP_TREE;
	}
	return btrfs_is_subvol(id);
}

void btrfs_ck_others(struct ck *c)
{
	for (u32 i = 0; i < c->roots && !c->err; i++) {
		struct ck_tree t;
		struct ck_walk w = { &t, NULL, NULL, 0, 0, 0 };

		if (has_pass(c, c->root[i].id))
			continue;
		btrfs_ck_tree_of(c, i, &t);
		(void)!btrfs_ck_walk(c, &w);
		(void)btrfs_ck_whole(c, &w, "what it holds");
	}
}
