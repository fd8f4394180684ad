/*
 * Values of attributes in inodes of their own: made, shared, counted, given up.
 *
 *   get ─┬─ one with these bytes is known ─► counts one more
 *        └─ a new one: blocks reserved ─ number ─ blocks taken, filled through the journal ─ counts 1
 *   put ─── counts one less ─ none left ─► a file without a name, on the orphan list; freed behind the end of the handle
 *
 * Invariants
 *  1. The content of such an inode never changes. Its blocks are metadata, as the kernel has them: what is freed is revoked.
 *  2. On the orphan list it is an ordinary file, without the flag: the kernel takes an orphan with the flag for damage.
 *  3. Its owners count it each, as an inode and its clusters; as a file without a name it is counted for the last of them alone.
 *  4. A value that the cache knows counts at least 1: it leaves the cache in the handle that takes the last count away.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define CACHE_SLOTS  1024u
#define VALUE_GROUPS 4u /* that one spreads over, when nothing better is known */

struct ext4_value_cache {
	struct {
		u32 hash, ino; /* ino 0: none */
	} slot[CACHE_SLOTS];
};

/* The blocks of a new value, in pieces. */
struct pieces {
	u32 n, promised;
	struct {
		u64 blk;
		u32 len;
	} p[];
};

static u32 blocks_of(const struct ext4_super *es, u32 len)
{
	return DIV_ROUND_UP(len, ext4_block_bytes(es));
}

u32 ext4_value_clusters(const struct ext4_super *es, u32 len)
{
	return DIV_ROUND_UP(blocks_of(es, len), 1u << es->cluster_bits);
}

u32 ext4_value_credits(const struct ext4_super *es, u32 len)
{
	return blocks_of(es, len) + VALUE_GROUPS * (EXT4_CREDITS_GROUP - 1) + EXT4_CREDITS_INSERT +
	       EXT4_CREDITS_GROUP + 2 * EXT4_CREDITS_INODE;
}

/* ---- known values ---- */

static void cache_add(struct ext4_super *es, u32 hash, u32 ino)
{
	if (!es->value_cache)
		es->value_cache = calloc(1, sizeof(*es->value_cache));
	if (!es->value_cache)
		return;
	es->value_cache->slot[hash % CACHE_SLOTS].hash = hash;
	es->value_cache->slot[hash % CACHE_SLOTS].ino = ino;
}

static void cache_drop(struct ext4_super *es, u32 hash, u32 ino)
{
	if (es->value_cache && es->value_cache->slot[hash % CACHE_SLOTS].ino == ino)
		es->value_cache->slot[hash % CACHE_SLOTS].ino = 0;
}

void ext4_value_cache_free(struct ext4_super *es)
{
	free(es->value_cache);
	es->value_cache = NULL;
}

/* 0: no inode with these bytes is known. */
static u32 twin_of(struct ext4_inode *owner, u32 hash, const void *value, u32 len)
{
	struct ext4_super *es = ext4_inode_super(owner);
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	scoped(freep) void *bytes = NULL;
	u32 ino;

	if (!es->value_cache || es->value_cache->slot[hash % CACHE_SLOTS].hash != hash)
		return 0;
	ino = es->value_cache->slot[hash % CACHE_SLOTS].ino;
	if (!ino || ext4_inode_open(es, ino, &ei) || ext4_size(ei) != len)
		return 0;
	bytes = malloc(len);
	if (!bytes || ext4_value_read(owner, ino, bytes, len) || memcmp(bytes, value, len))
		return 0;
	return ino;
}

/* ---- counts ---- */

static void refs_put(struct ext4_disk_inode *raw, u64 refs)
{
	raw->ctime = le32_put((u32)(refs >> 32));
	raw->version = le32_put((u32)refs);
}

/* As ext4_value_is_owned. */
static bool is_owned(const struct ext4_disk_inode *raw, const struct ext4_inode *owner)
{
	return le32_get(raw->mtime) == (u32)owner->vfs.ino &&
	       le32_get(raw->generation) == owner->vfs.generation;
}

/* The slot of the inode, joined, which holds a value. */
static int slot_of(struct ext4_handle *h, struct ext4_inode *owner, u32 ino, struct buffer_head **bh,
		   struct ext4_disk_inode **raw)
{
	int err = ext4_value_ino_ok(h->es, ino) ? ext4_inode_slot(h, ino, bh, raw) : -ESTALE;

	if (err && err != -ESTALE)
		return err;
	if (!err && le32_get((*raw)->flags) & EXT4_FL_EA_INODE && S_ISREG(le16_get((*raw)->mode)) &&
	    le16_get((*raw)->links_count) && (ext4_value_refs(*raw) || is_owned(*raw, owner)))
		return 0;
	return corrupt(&h->es->vfs.health, "inode", owner->vfs.ino,
		       "inode %u, of an attribute, counts no references", ino);
}

int ext4_value_share(struct ext4_handle *h, struct ext4_inode *owner, u32 ino)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = slot_of(h, owner, ino, &bh, &raw);

	if (err)
		return err;
	if (is_owned(raw, owner) || ext4_value_refs(raw) >= UINT32_MAX)
		return fail(-EMLINK, "inode %u holds a value that cannot be shared", ino);
	bh_lock(bh);
	refs_put(raw, ext4_value_refs(raw) + 1);
	ext4_inode_slot_done(h, ino, bh, raw);
	return 0;
}

/* ---- a new one ---- */

static void unreserve(struct ext4_super *es, struct pieces *p)
{
	for (u32 i = 0; i < p->n; i++)
		ext4_blocks_unreserve(es, p->p[i].blk, p->p[i].len);
	ext4_blocks_unpromise(es, p->promised);
}

/* The caller frees *out. */
static int reserve(struct ext4_inode *owner, u32 blocks, struct pieces **out)
{
	struct ext4_super *es = ext4_inode_super(owner);
	u64 goal = ext4_group_start(es, ext4_ino_group(es, owner->vfs.ino));
	struct pieces *p = malloc(sizeof(*p) + blocks * sizeof(p->p[0]));
	int err = p ? ext4_blocks_promise(es, 1, EXT4_RESERVE_META)
		    : fail(-ENOMEM, "no memory for an attribute");

	if (err) {
		free(p);
		return err;
	}
	*p = (struct pieces){ .promised = 1 };
	while (blocks && !err) {
		err = ext4_blocks_reserve(es, goal, blocks, 0, &p->p[p->n].blk, &p->p[p->n].len);
		if (err)
			break;
		blocks -= p->p[p->n].len;
		goal = p->p[p->n].blk + p->p[p->n].len;
		goal = goal < es->blocks ? goal : 0;
		p->n++;
	}
	if (err) {
		unreserve(es, p);
		free(p);
		return err;
	}
	*out = p;
	return 0;
}

static int fill_block(struct ext4_handle *h, struct ext4_inode *ei, u64 blk, const u8 *bytes, u32 len)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);
	int err = bh_get_new(h->es->vfs.dev, blk, &ext4_symlink_ops, &ctx, &bh);

	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	bh_lock(bh);
	memcpy(bh->data, bytes, len);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	return 0;
}

static int insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 blk)
{
	u32 n;
	int err = 0;

	if (ext4_has_extents(ei))
		return ext4_extent_insert(h, ei, lblk, len, blk, false);
	for (u32 at = 0; at < len && !err; at += n) {
		n = MIN(ext4_indirect_piece(ei, lblk + at), len - at);
		err = ext4_indirect_insert(h, ei, lblk + at, n, blk + at);
	}
	return err;
}

static int fill(struct ext4_handle *h, struct ext4_inode *ei, const struct pieces *p, const u8 *value,
		u32 len)
{
	u32 bs = ext4_block_bytes(h->es), lblk = 0;
	int err = 0;

	rw_write_lock_nested(&ei->tree);
	for (u32 i = 0; i < p->n && !err; i++) {
		err = insert(h, ei, lblk, p->p[i].len, p->p[i].blk);
		if (!err)
			err = ext4_blocks_take(h, p->p[i].blk, p->p[i].len);
		for (u32 k = 0; k < p->p[i].len && !err; k++, lblk++)
			err = fill_block(h, ei, p->p[i].blk + k, value + (size_t)lblk * bs,
					 MIN(bs, len - lblk * bs));
	}
	rw_write_unlock(&ei->tree);
	return err;
}

/* Times that are none: see xattr_value.c. It is the owner's, as far as that matters. */
static void describe(struct ext4_inode *ei, const struct ext4_inode *owner, u32 hash, u32 len)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct inode *inode = &ei->vfs;

	inode->mode = S_IFREG | 0600;
	inode->nlink = 1;
	inode->uid = owner->vfs.uid;
	inode->gid = owner->vfs.gid;
	inode->generation = ext4_generation_new(es);
	inode->atime = (struct timespec64){ .sec = (s32)hash };
	inode->mtime = inode->btime = super_now(&es->vfs);
	inode_set_size(inode, len);
	ei->flags = EXT4_FL_EA_INODE;
	ei->extra_isize = ext4_extra_isize_new(es);
	ei->csum_seed = ext4_csum_inode_seed(es, (u32)inode->ino, inode->generation);
	if (!ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		return;
	ei->flags |= EXT4_FL_EXTENTS;
	ext4_extent_root_init(ei->block);
}

static int write_new(struct ext4_handle *h, struct ext4_inode *ei)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = ext4_inode_write_new(h, ei);

	if (!err)
		err = ext4_inode_slot(h, ei->vfs.ino, &bh, &raw);
	if (err)
		return err;
	bh_lock(bh);
	refs_put(raw, 1);
	ext4_inode_slot_done(h, ei->vfs.ino, bh, raw);
	return 0;
}

/* The bitmaps that the pieces lie in may be more than was thought. */
static int extend(struct ext4_handle *h, const struct pieces *p)
{
	u32 groups = MIN(p->n, h->es->groups);

	return groups > VALUE_GROUPS ? ext4_extend(h, groups * (EXT4_CREDITS_GROUP - 1), 0) : 0;
}

static int make(struct ext4_handle *h, struct ext4_inode *owner, u32 hash, const void *value, u32 len,
		u32 *out)
{
	struct ext4_super *es = h->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = ext4_inode_private(es, 0);
	scoped(freep) struct pieces *p = NULL;
	int err = ei ? reserve(owner, blocks_of(es, len), &p) : fail(-ENOMEM, "no memory for an attribute");

	if (err)
		return err;
	err = extend(h, p);
	if (!err)
		err = ext4_ino_take(h, owner, S_IFREG, &ei->vfs.ino);
	if (err) {
		unreserve(es, p);
		return err;
	}
	ext4_blocks_unpromise(es, p->promised);
	describe(ei, owner, hash, len);
	err = fill(h, ei, p, value, len);
	if (!err)
		err = write_new(h, ei);
	if (err)
		return ext4_abort(es, err);
	*out = (u32)ei->vfs.ino;
	cache_add(es, hash, *out);
	return 0;
}

int ext4_value_get(struct ext4_handle *h, struct ext4_inode *owner, const void *value, u32 len, u32 *ino)
{
	u32 hash = ext4_value_hash(h->es, value, len);

	*ino = twin_of(owner, hash, value, len);
	if (*ino && !ext4_value_share(h, owner, *ino))
		return 0;
	return make(h, owner, hash, value, len, ino);
}

/* ---- the end ---- */

/* In memory, as a file whose last name went. */
static int open_unnamed(struct ext4_super *es, const struct ext4_inode *owner, u32 ino,
			struct ext4_inode **out)
{
	struct inode *inode;
	int err = inode_new(&es->vfs, ino, &inode);

	if (err)
		return err;
	*out = ext4_inode(inode);
	err = ext4_inode_load(*out);
	if (err) {
		inode_ready(inode, err);
		vfs_iput(inode);
		return err;
	}
	cache_drop(es, (u32)inode->atime.sec, ino);
	inode->ctime = inode_now(inode);
	inode->nlink = 0;
	inode->uid = owner->vfs.uid;
	inode->gid = owner->vfs.gid;
	inode->project = owner->vfs.project;
	(*out)->flags &= ~EXT4_FL_EA_INODE;
	(*out)->is_value = true;
	es->set_ops(inode);
	return 0;
}

static int drop(struct ext4_handle *h, const struct ext4_inode *owner, u32 ino)
{
	struct ext4_inode *ei;
	int err = open_unnamed(h->es, owner, ino, &ei);

	if (err)
		return err;
	err = ext4_orphan_add(h, ei);
	if (!err)
		err = ext4_inode_write(h, ei);
	inode_ready(&ei->vfs, 0);
	ei->next_dropped = h->dropped;
	h->dropped = ei;
	return err ? ext4_abort(h->es, err) : 0;
}

int ext4_value_put(struct ext4_handle *h, struct ext4_inode *owner, u32 ino)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	int err = slot_of(h, owner, ino, &bh, &raw);

	if (err)
		return err;
	if (is_owned(raw, owner) || ext4_value_refs(raw) == 1)
		return drop(h, owner, ino);
	bh_lock(bh);
	refs_put(raw, ext4_value_refs(raw) - 1);
	ext4_inode_slot_done(h, ino, bh, raw);
	return 0;
}
