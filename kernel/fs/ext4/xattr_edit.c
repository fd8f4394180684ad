/*
 * Attributes that change. An attribute lies in the inode's own list when it fits there, else in the inode's block, else, where the volume
 * has ea_inode, its value lies in an inode of its own and its entry in one of the two; else there is no room for it. A change takes both lists apart, makes the new ones beside them, and when all that can fail is done, lays
 * them over the old ones.
 *
 *   inode:  │ fields │ magic, entries →        ← values │
 *   block:  │ header, entries in order →       ← values │   shared by up to 1024 inodes whose lists are the same
 *
 * Invariants
 *  1. A block that others share is never changed but for its count: who changes its list gets a copy, or joins another block that says the
 *     same. A cache in memory, by hash, knows blocks that could be joined; what it says is compared before it is believed. A block that
 *     leads to values in other inodes is not joined: there the values are what is shared. Each of them counts the block once.
 *  2. Counts, the cache and the blocks of an inode change under es->xattr_lock; the content of a block with one owner under that
 *     inode's lock too, so readers need that one alone.
 *  3. The data of an inline file (system.data) stays in the inode.
 *  4. Entries in a block are in order of index, length and bytes of the name, with their hashes; the kernel searches so. Entries in an
 *     inode have hash 0. Bytes of names count as unsigned, as the kernel does now; sums that it once made with signed ones
 *     are never compared here.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#define CACHE_SLOTS      1024u
#define BLOCK_HASH_SHIFT 16
#define VALUE_PAD        4u
#define SHED_STEP        4u    /* values in a handle */
#define KEPT_MAX         1024u /* as the kernel does, of a block: for entries whose values lie elsewhere */
#define INUM_NEW         UINT32_MAX

/* One attribute, wherever its bytes are. */
struct attr {
	u8 index, name_len;
	const char *name;
	const u8 *
		value; /* void where there is an inum, but for one that is INUM_NEW: it is to be put into an inode */
	u32 len, inum, hash;
};

/* Attributes of one place. */
struct attrs {
	struct attr *a; /* room for one more than it began with */
	u32 n;
	u32 room;       /* bytes for entries, the end mark and values; 0: there is no such place */
	u32 values_max; /* bytes of values, so that entries have room too */
	bool changed;
};

/* A change: the lists keep the bytes in place that the attributes point to. */
struct edit {
	struct ext4_xattr_list body_list, block_list;
	struct attrs body, block;
	struct attr *outside; /* in one of the two, with INUM_NEW; NULL: none */
	struct {
		u32 inum, len;
		bool in_block;
	} gone[SHED_STEP]; /* values in other inodes that are not led to any more */
	u32 gone_count;
	bool was_shared; /* the block that the inode had goes on with its other owners */
};

struct ext4_xattr_cache {
	struct {
		u32 hash; /* 0: none */
		u64 blk;
	} slot[CACHE_SLOTS];
};

/* ---- lists, taken apart ---- */

static int gather(const struct ext4_xattr_list *l, struct attrs *out)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	u32 n = 0;

	while (l->bh && (e = ext4_xattr_next(l, e)))
		n++;
	out->a = calloc(n + 1, sizeof(*out->a));
	if (!out->a)
		return fail(-ENOMEM, "no memory for attributes");
	while (l->bh && (e = ext4_xattr_next(l, e)))
		out->a[out->n++] = (struct attr){ .index = e->name_index,
						  .name_len = e->name_len,
						  .name = ext4_xattr_entry_name(e),
						  .value = ext4_xattr_value(l, e),
						  .len = le32_get(e->value_size),
						  .inum = le32_get(e->value_inum),
						  .hash = le32_get(e->hash) };
	return 0;
}

static void edit_end(struct edit *e)
{
	ext4_xattr_list_put(&e->body_list);
	ext4_xattr_list_put(&e->block_list);
	free(e->body.a);
	free(e->block.a);
}

/* Where the inode's own list begins; 0: the inode has no room for one. */
static u32 body_off(const struct ext4_super *es, const struct ext4_inode *ei)
{
	u32 off = EXT4_INODE_BYTES_OLD + ei->extra_isize;

	return ei->extra_isize && off + sizeof(struct ext4_disk_xattr_ibody) <= es->inode_bytes ? off : 0;
}

static bool has_values_outside(const struct ext4_super *es)
{
	return ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE);
}

static int edit_begin(struct ext4_inode *ei, struct edit *e)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u32 off = body_off(es, ei);
	int err = ext4_xattr_ibody(ei, &e->body_list);

	if (err && err != -ENODATA)
		return err;
	err = ext4_xattr_block(ei, &e->block_list);
	if (err && err != -ENODATA)
		return err;
	err = gather(&e->body_list, &e->body);
	if (!err)
		err = gather(&e->block_list, &e->block);
	if (off)
		e->body.room = es->inode_bytes - off - (u32)sizeof(struct ext4_disk_xattr_ibody);
	e->block.room = ext4_block_bytes(es) - (u32)sizeof(struct ext4_disk_xattr_header);
	e->body.values_max = e->block.values_max = UINT32_MAX;
	if (has_values_outside(es))
		e->block.values_max = ext4_block_bytes(es) - MIN(ext4_block_bytes(es) / 8, KEPT_MAX);
	return err;
}

/* In the order of a block. */
static int compare(const struct attr *a, const struct attr *b)
{
	if (a->index != b->index)
		return a->index < b->index ? -1 : 1;
	if (a->name_len != b->name_len)
		return a->name_len < b->name_len ? -1 : 1;
	return memcmp(a->name, b->name, a->name_len);
}

static struct attr *find(const struct attrs *l, const struct attr *want)
{
	for (u32 i = 0; i < l->n; i++)
		if (!compare(&l->a[i], want))
			return &l->a[i];
	return NULL;
}

static u32 entry_bytes(const struct attr *a)
{
	return ALIGN_UP((u32)sizeof(struct ext4_disk_xattr_entry) + a->name_len, VALUE_PAD);
}

static u32 value_bytes(const struct attr *a)
{
	return a->inum ? 0 : ALIGN_UP(a->len, VALUE_PAD);
}

static bool fits(const struct attrs *l, const struct attr *without, const struct attr *with)
{
	u64 entries = sizeof(le32) + entry_bytes(with), values = value_bytes(with);

	for (u32 i = 0; i < l->n; i++) {
		if (&l->a[i] == without)
			continue;
		entries += entry_bytes(&l->a[i]);
		values += value_bytes(&l->a[i]);
	}
	return entries + values <= l->room && (!value_bytes(with) || values <= l->values_max);
}

static void drop(struct edit *e, struct attrs *l, struct attr *a)
{
	if (!a)
		return;
	if (a->inum) {
		e->gone[e->gone_count].inum = a->inum;
		e->gone[e->gone_count].len = a->len;
		e->gone[e->gone_count++].in_block = l == &e->block;
	}
	memmove(a, a + 1, (size_t)(l->a + l->n - (a + 1)) * sizeof(*a));
	l->n--;
	l->changed = true;
}

static struct attr *insert(struct attrs *l, const struct attr *a)
{
	u32 at = 0;

	while (at < l->n && compare(&l->a[at], a) < 0)
		at++;
	memmove(&l->a[at + 1], &l->a[at], (l->n - at) * sizeof(*a));
	l->a[at] = *a;
	l->n++;
	l->changed = true;
	return &l->a[at];
}

/* The list that has room, when those go. *want gets INUM_NEW where only the entry has. NULL: none. */
static struct attrs *place_for(struct edit *e, const struct attr *in_body, const struct attr *in_block,
			       struct attr *want, bool outside_allowed)
{
	for (u32 outside = 0; outside <= outside_allowed; outside++) {
		want->inum = outside ? INUM_NEW : 0;
		if (fits(&e->body, in_body, want))
			return &e->body;
		if (want->index != EXT4_XATTR_SYSTEM && fits(&e->block, in_block, want))
			return &e->block;
	}
	return NULL;
}

/* What the lists will be. 1: nothing changes. */
static int plan(const struct ext4_super *es, struct edit *e, struct attr *want, u32 flags)
{
	struct attr *in_body = find(&e->body, want), *in_block = find(&e->block, want),
		    *old = in_body ? in_body : in_block;
	struct attrs *to = NULL;

	if (!old && (!want->value || flags & XATTR_REPLACE))
		return -ENODATA;
	if (old && flags & XATTR_CREATE)
		return -EEXIST;
	if (old && want->value && !old->inum && old->len == want->len &&
	    !memcmp(old->value, want->value, want->len))
		return 1;
	if (want->value) {
		to = place_for(e, in_body, in_block, want,
			       has_values_outside(es) && want->len && want->index != EXT4_XATTR_SYSTEM);
		if (!to)
			return -ENOSPC;
	}
	drop(e, &e->body, in_body);
	drop(e, &e->block, in_block);
	if (to)
		old = insert(to, want);
	if (to && want->inum)
		e->outside = old;
	return 0;
}

/* ---- lists, put together ---- */

/* Entries from `first` on, values from the end; all between is zeros. They fit. hashed: returns the hash of all. */
static u32 lay_out(const struct attrs *l, u8 *base, u32 first, u32 bytes, bool hashed)
{
	u32 at = first, end = bytes, sum = 0;
	bool shareable = hashed;

	memset(base + first, 0, bytes - first);
	for (u32 i = 0; i < l->n; i++) {
		const struct attr *a = &l->a[i];
		struct ext4_disk_xattr_entry e = { .name_len = a->name_len,
						   .name_index = a->index,
						   .value_inum = le32_put(a->inum),
						   .value_size = le32_put(a->len) };

		if (value_bytes(a)) {
			end -= value_bytes(a);
			memcpy(base + end, a->value, a->len);
			e.value_offs = le16_put((u16)end);
		}
		if (a->inum)
			e.hash = le32_put(a->hash);
		if (hashed) {
			u32 hash = a->inum ? a->hash
					   : ext4_xattr_hash(a->name, a->name_len, base + end, value_bytes(a),
							     false);

			e.hash = le32_put(hash);
			shareable = shareable && hash;
			sum = ext4_xattr_mix(sum, BLOCK_HASH_SHIFT, hash);
		}
		memcpy(base + at, &e, sizeof(e));
		memcpy(base + at + sizeof(e), a->name, a->name_len);
		at += entry_bytes(a);
	}
	return shareable ? sum : 0;
}

/* The block as it will be, with one owner. The caller frees it. */
static u8 *block_image(const struct ext4_super *es, const struct attrs *l)
{
	struct ext4_disk_xattr_header *head = malloc(ext4_block_bytes(es));
	u32 hash;

	if (!head)
		return NULL;
	hash = lay_out(l, (u8 *)head, sizeof(*head), ext4_block_bytes(es), true);
	*head = (struct ext4_disk_xattr_header){ .magic = le32_put(EXT4_XATTR_MAGIC),
						 .refcount = le32_put(1),
						 .blocks = le32_put(1),
						 .hash = le32_put(hash) };
	return (u8 *)head;
}

/* ---- blocks that may be shared. Locks for all of these: es->xattr_lock ---- */

static u32 hash_of(const void *block)
{
	return le32_get(((const struct ext4_disk_xattr_header *)block)->hash);
}

static u32 refs_of(const void *block)
{
	return le32_get(((const struct ext4_disk_xattr_header *)block)->refcount);
}

static void cache_add(struct ext4_super *es, u32 hash, u64 blk)
{
	if (!hash)
		return;
	if (!es->xattr_cache)
		es->xattr_cache = calloc(1, sizeof(*es->xattr_cache));
	if (!es->xattr_cache)
		return;
	es->xattr_cache->slot[hash % CACHE_SLOTS].hash = hash;
	es->xattr_cache->slot[hash % CACHE_SLOTS].blk = blk;
}

static void cache_drop(struct ext4_super *es, u32 hash, u64 blk)
{
	if (es->xattr_cache && es->xattr_cache->slot[hash % CACHE_SLOTS].blk == blk)
		es->xattr_cache->slot[hash % CACHE_SLOTS].hash = 0;
}

void ext4_xattr_cache_free(struct ext4_super *es)
{
	ext4_value_cache_free(es);
	free(es->xattr_cache);
	es->xattr_cache = NULL;
}

/* A block that says the same and can have one more owner; NULL: none is known. */
static struct buffer_head *twin_of(struct ext4_super *es, const u8 *image)
{
	const u32 head = sizeof(struct ext4_disk_xattr_header);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = { { 0 } };
	u32 hash = hash_of(image);

	if (!hash || !es->xattr_cache || es->xattr_cache->slot[hash % CACHE_SLOTS].hash != hash)
		return NULL;
	if (bh_read(es->vfs.dev, es->xattr_cache->slot[hash % CACHE_SLOTS].blk, &ext4_xattr_ops, &ctx, &bh))
		return NULL;
	if (refs_of(bh->data) >= EXT4_XATTR_REFCOUNT_MAX ||
	    memcmp((const u8 *)bh->data + head, image + head, bh->size_bytes - head))
		return NULL;
	return take(bh);
}

static void set_refs(struct ext4_handle *h, struct buffer_head *bh, u32 refs)
{
	bh_lock(bh);
	((struct ext4_disk_xattr_header *)bh->data)->refcount = le32_put(refs);
	bh_unlock(bh);
	ext4_dirty(h, bh);
}

static int share(struct ext4_handle *h, struct buffer_head *twin)
{
	int err = ext4_access(h, twin);

	if (!err)
		set_refs(h, twin, refs_of(twin->data) + 1);
	return err;
}

static void fill(struct ext4_handle *h, struct buffer_head *bh, const u8 *image, bool joinable)
{
	bh_lock(bh);
	memcpy(bh->data, image, bh->size_bytes);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	if (joinable)
		cache_add(h->es, hash_of(image), bh->blk);
}

static int make(struct ext4_handle *h, struct ext4_inode *ei, const u8 *image, bool joinable, u64 *blk)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct bh_ctx ctx = { { 0 } };
	u64 goal = ext4_group_start(es, ext4_ino_group(es, ei->vfs.ino));
	u32 len;
	int err = ext4_blocks_reserve(es, goal, 1, 0, blk, &len);

	if (err)
		return err;
	err = bh_get_new(es->vfs.dev, *blk, &ext4_xattr_ops, &ctx, &bh);
	if (!err)
		err = ext4_access(h, bh);
	if (!err)
		err = ext4_blocks_take(h, *blk, 1);
	if (err)
		ext4_blocks_unreserve(es, *blk, 1);
	else
		fill(h, bh, image, joinable);
	return err;
}

/* One owner less. */
static int release(struct ext4_handle *h, struct buffer_head *bh)
{
	u32 refs = refs_of(bh->data);
	int err;

	if (refs > 1) {
		err = ext4_access(h, bh);
		if (!err)
			set_refs(h, bh, refs - 1);
		return err;
	}
	cache_drop(h->es, hash_of(bh->data), bh->blk);
	return ext4_blocks_free(h, bh->blk, 1, true);
}

static u32 count_inums(const struct attrs *l)
{
	u32 n = 0;

	for (u32 i = 0; i < l->n; i++)
		n += l->a[i].inum != 0;
	return n;
}

/* A block that was shared is left to its other owners: the values that both lead to count one more list. */
static int share_values(struct ext4_handle *h, struct ext4_inode *ei, const struct edit *e)
{
	int err = 0;

	for (u32 i = 0; i < e->block.n && !err; i++) {
		const struct attr *a = &e->block.a[i];

		if (a->inum && a != e->outside)
			err = ext4_value_share(h, ei, a->inum);
	}
	return err;
}

/* Another block, or none, takes the place of `old`. */
static int move_on(struct ext4_handle *h, struct ext4_inode *ei, struct edit *e, struct buffer_head *twin,
		   const u8 *image)
{
	struct buffer_head *old = e->block_list.bh;
	u64 blk = 0;
	int err = e->was_shared ? ext4_extend(h, count_inums(&e->block) * EXT4_CREDITS_INODE, 0) : 0;

	if (!err && twin) {
		err = share(h, twin);
		blk = twin->blk;
	} else if (!err && image) {
		err = make(h, ei, image, !count_inums(&e->block), &blk);
	}
	if (err)
		return err;
	if (e->was_shared)
		err = share_values(h, ei, e);
	if (!err && old)
		err = release(h, old);
	/* A damaged bitmap keeps the block: it is lost to the volume, and recorded. */
	if (err && (err != -EUCLEAN || e->was_shared))
		return ext4_abort(h->es, err);
	ei->xattr_blk = blk;
	ext4_inode_add_clusters(ei, (s64)(blk != 0) - (old != NULL));
	return 0;
}

/* As share_values, of the list as it lies. *inums: how many. */
static int share_all(struct ext4_handle *h, struct ext4_inode *ei, const struct ext4_xattr_list *l,
		     bool shared, u32 *inums)
{
	int err = 0;

	*inums = 0;
	for (const struct ext4_disk_xattr_entry *e = NULL; !err && (e = ext4_xattr_next(l, e));) {
		u32 ino = le32_get(e->value_inum);

		*inums += ino != 0;
		if (!ino || !shared)
			continue;
		err = ext4_extend(h, EXT4_CREDITS_INODE, 0);
		if (!err)
			err = ext4_value_share(h, ei, ino);
	}
	return err;
}

int ext4_xattr_block_move(struct ext4_handle *h, struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *twin = NULL;
	scoped(freep) u8 *image = NULL;
	struct ext4_xattr_list l;
	bool shared;
	u64 blk = 0;
	u32 inums;
	int err;

	mutex_guard(&es->xattr_lock);
	err = ext4_xattr_block(ei, &l);
	if (err)
		return err;
	image = malloc(l.bytes);
	if (!image)
		err = fail(-ENOMEM, "no memory for attributes");
	shared = refs_of(l.bh->data) > 1;
	if (!err)
		err = share_all(h, ei, &l, false, &inums);
	if (!err) {
		memcpy(image, l.bh->data, l.bytes);
		((struct ext4_disk_xattr_header *)(void *)image)->refcount = le32_put(1);
		twin = inums ? NULL : twin_of(es, image);
		blk = twin ? twin->blk : 0;
		err = twin ? share(h, twin) : make(h, ei, image, !inums, &blk);
	}
	if (!err) {
		err = shared ? share_all(h, ei, &l, true, &inums) : 0;
		if (!err)
			err = release(h, l.bh);
		err = err ? ext4_abort(es, err) : 0;
	}
	ext4_xattr_list_put(&l);
	if (!err)
		ei->xattr_blk = blk;
	return err;
}

/* The inode's block becomes one with this content; image NULL: the inode has none any more. */
static int replace(struct ext4_handle *h, struct ext4_inode *ei, struct edit *e, const u8 *image)
{
	struct ext4_super *es = h->es;
	scoped(bh_putp) struct buffer_head *twin = NULL;
	struct buffer_head *old = e->block_list.bh;
	int err;

	e->was_shared = old && refs_of(old->data) > 1;
	if (image && !count_inums(&e->block))
		twin = twin_of(es, image);
	if (twin && twin == old)
		return 0;
	if (twin || !image || !old || e->was_shared)
		return move_on(h, ei, e, twin, image);
	cache_drop(es, hash_of(old->data), old->blk);
	err = ext4_access(h, old);
	if (!err)
		fill(h, old, image, !count_inums(&e->block));
	return err;
}

/* ---- the inode's own list ---- */

static void put_body(struct ext4_handle *h, struct ext4_inode *ei, const struct edit *e,
		     struct buffer_head *bh, struct ext4_disk_inode *raw, u8 *image)
{
	u32 off = body_off(h->es, ei), bytes = h->es->inode_bytes - off;
	u32 head = sizeof(struct ext4_disk_xattr_ibody);

	memset(image, 0, head);
	lay_out(&e->body, image + head, 0, bytes - head, false);
	if (e->body.n)
		memcpy(image, &(le32[]){ le32_put(EXT4_XATTR_MAGIC) }, sizeof(le32));
	bh_lock(bh);
	memcpy((u8 *)raw + off, image, bytes);
	ext4_inode_slot_done(h, ei->vfs.ino, bh, raw);
	ei->xattr_off = e->body.n ? (u16)off : 0;
}

/* Values that nothing here leads to any more. What they do not count right is recorded, and lost to the volume. */
static int put_values(struct ext4_handle *h, struct ext4_inode *ei, const struct edit *e)
{
	int err = 0;

	for (u32 i = 0; i < e->gone_count && (!err || err == -EUCLEAN); i++) {
		if (!e->gone[i].in_block || !e->was_shared)
			err = ext4_value_put(h, ei, e->gone[i].inum);
		ext4_inode_add_clusters(ei, -(s64)ext4_value_clusters(h->es, e->gone[i].len));
	}
	return err && err != -EUCLEAN ? ext4_abort(h->es, err) : 0;
}

/* Each that the inode leads to is one more inode of its owner's. */
static void count_values(struct ext4_inode *ei, const struct edit *e)
{
	u32 now = count_inums(&e->body) + count_inums(&e->block);

	if (e->outside || e->gone_count)
		ext4_quota_values(ei, now + e->gone_count - (e->outside != NULL), now);
}

/* The value gets its inode. */
static int put_outside(struct ext4_handle *h, struct ext4_inode *ei, struct attr *a)
{
	le32 hash = le32_put(ext4_value_hash(h->es, a->value, a->len));
	u32 inum;
	int err = ext4_value_get(h, ei, a->value, a->len, &inum);

	if (err)
		return err;
	a->inum = inum;
	a->hash = ext4_xattr_hash(a->name, a->name_len, &hash, sizeof(hash), false);
	ext4_inode_add_clusters(ei, ext4_value_clusters(h->es, a->len));
	return 0;
}

/* The owner's quota has room for what comes, beside what goes. */
static int check_quota(struct ext4_inode *ei, const struct edit *e)
{
	u64 clusters = !e->block_list.bh && e->block.n;

	if (e->outside)
		clusters += ext4_value_clusters(ext4_inode_super(ei), e->outside->len);
	return ext4_quota_check(ei, clusters, e->outside != NULL);
}

/* The block's list, of which no value is to be put outside any more. */
static int change_block(struct ext4_handle *h, struct ext4_inode *ei, struct edit *e)
{
	scoped(freep) u8 *image = NULL;

	if (e->block.n) {
		image = block_image(h->es, &e->block);
		if (!image)
			return fail(-ENOMEM, "no memory for attributes");
	}
	return replace(h, ei, e, image);
}

static int apply(struct ext4_handle *h, struct ext4_inode *ei, struct edit *e)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	scoped(freep) u8 *body = NULL;
	struct ext4_disk_inode *raw;
	int err = 0;

	if (e->body.changed) {
		body = malloc(h->es->inode_bytes);
		err = body ? ext4_inode_slot(h, ei->vfs.ino, &bh, &raw)
			   : fail(-ENOMEM, "no memory for attributes");
	}
	mutex_guard(&h->es->xattr_lock);
	if (!err && e->outside)
		err = put_outside(h, ei, e->outside);
	if (err)
		return err;
	if (e->block.changed)
		err = change_block(h, ei, e);
	if (err && e->outside) {
		int undo = ext4_value_put(h, ei, e->outside->inum);

		ext4_inode_add_clusters(ei, -(s64)ext4_value_clusters(h->es, e->outside->len));
		return undo ? ext4_abort(h->es, err) : err;
	}
	if (!err && e->body.changed)
		put_body(h, ei, e, bh, raw, body);
	if (err)
		return err;
	count_values(ei, e);
	return put_values(h, ei, e);
}

/* The volume says that it has attributes. */
static int note_feature(struct ext4_handle *h)
{
	if (ext4_has_compat(h->es, EXT4_COMPAT_EXT_ATTR) || ext4_super_has(h->es, EXT4_COMPAT_EXT_ATTR, 0))
		return 0;
	return ext4_super_set(h, EXT4_COMPAT_EXT_ATTR, 0);
}

/* ---- outside ---- */

u32 ext4_xattr_credits(const struct ext4_super *es, u32 len)
{
	if (!has_values_outside(es))
		return EXT4_CREDITS_XATTR;
	return EXT4_CREDITS_XATTR + ext4_value_credits(es, len) + EXT4_CREDITS_VALUE_PUT;
}

int ext4_xattr_set(struct ext4_handle *h, struct ext4_inode *ei, u32 index, const char *name, u32 name_len,
		   const void *value, u32 len, u32 flags)
{
	scoped(edit_end) struct edit e = { 0 };
	struct attr want = {
		.index = (u8)index, .name_len = (u8)name_len, .name = name, .value = value, .len = len
	};
	int err;

	if (name_len > UINT8_MAX)
		return -ERANGE;
	if (len > EXT4_XATTR_VALUE_MAX)
		return -E2BIG;
	err = edit_begin(ei, &e);
	if (!err)
		err = plan(h->es, &e, &want, flags);
	if (err)
		return err > 0 ? 0 : err;
	err = check_quota(ei, &e);
	if (!err)
		err = note_feature(h);
	if (!err)
		err = apply(h, ei, &e);
	if (err)
		return err;
	inode_touch(&ei->vfs, ATTR_CTIME);
	err = ext4_inode_write(h, ei);
	return err ? ext4_abort(h->es, err) : 0;
}

int ext4_xattr_room(struct ext4_inode *ei, u32 index, const char *name, u32 name_len, u32 *bytes)
{
	const struct attr want = { .index = (u8)index, .name_len = (u8)name_len, .name = name };
	scoped(edit_end) struct edit e = { 0 };
	u32 need = (u32)sizeof(le32) + entry_bytes(&want);
	int err = edit_begin(ei, &e);

	for (u32 i = 0; i < e.body.n; i++)
		if (compare(&e.body.a[i], &want))
			need += entry_bytes(&e.body.a[i]) + value_bytes(&e.body.a[i]);
	*bytes = !err && e.body.room > need ? ALIGN_DOWN(e.body.room - need, VALUE_PAD) : 0;
	return err;
}

int ext4_xattr_values(struct ext4_inode *ei, u32 *count)
{
	scoped(edit_end) struct edit e = { 0 };
	int err = has_values_outside(ext4_inode_super(ei)) ? edit_begin(ei, &e) : 0;

	*count = count_inums(&e.body) + count_inums(&e.block);
	return err;
}

static void shed_from(struct edit *e, struct attrs *l)
{
	for (u32 i = l->n; i-- && e->gone_count < SHED_STEP;)
		if (l->a[i].inum)
			drop(e, l, &l->a[i]);
}

/* Some of the values in inodes of their own go. *more: there may be others. */
static int shed_some(struct ext4_handle *h, struct ext4_inode *ei, bool *more)
{
	scoped(edit_end) struct edit e = { 0 };
	int err = edit_begin(ei, &e);

	*more = false;
	if (err)
		return err == -EUCLEAN ? 0 : err;
	shed_from(&e, &e.body);
	if (e.block_list.bh && refs_of(e.block_list.bh->data) <= 1)
		shed_from(&e, &e.block);
	*more = e.gone_count == SHED_STEP;
	return e.gone_count ? apply(h, ei, &e) : 0;
}

int ext4_xattr_shed(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);
	bool more = has_values_outside(es);
	int err = 0;

	while (more && !err) {
		struct ext4_handle h;

		err = ext4_begin(es,
				 EXT4_CREDITS_XATTR + EXT4_CREDITS_INODE + SHED_STEP * EXT4_CREDITS_VALUE_PUT,
				 1, &h);
		if (err)
			return err;
		err = shed_some(&h, ei, &more);
		if (!err)
			err = ext4_inode_write(&h, ei);
		err = ext4_end(&h, err);
	}
	return err;
}

static u32 values_in(const struct ext4_xattr_list *l)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	u32 n = 0;

	while ((e = ext4_xattr_next(l, e)))
		n += le32_get(e->value_inum) != 0;
	return n;
}

/* The inode's block is given up. Others may have done so since the values were shed. */
static int give_up(struct ext4_handle *h, struct ext4_inode *ei, const struct ext4_xattr_list *l,
		   enum ext4_xattr_drop how)
{
	u32 values = values_in(l);
	int err;

	mutex_guard(&h->es->xattr_lock);
	if (values && refs_of(l->bh->data) <= 1 && how == EXT4_DROP_SHED)
		return -EAGAIN;
	err = release(h, l->bh);
	if (!err && values)
		ext4_quota_values(ei, values, 0);
	return err;
}

int ext4_xattr_drop(struct ext4_handle *h, struct ext4_inode *ei, enum ext4_xattr_drop how)
{
	scoped(ext4_xattr_list_put) struct ext4_xattr_list l = { 0 };
	bool more;
	int err = how == EXT4_DROP_NEW && has_values_outside(h->es) ? shed_some(h, ei, &more) : 0;

	if (!err)
		err = ext4_xattr_block(ei, &l);
	if (!err)
		err = give_up(h, ei, &l, how);
	/* A block that is none, or a bitmap that is damaged, is recorded and left to e2fsck: the inode can go all the same. */
	if (err && err != -ENODATA && err != -EUCLEAN)
		return err;
	if (ei->xattr_blk)
		ext4_inode_add_clusters(ei, -1);
	ei->xattr_blk = 0;
	return 0;
}

int ext4_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	/* Data in the inode moves with the attributes: its readers hold the map lock alone. */
	bool inline_data = ei->flags & EXT4_FL_INLINE_DATA, tried = false;
	struct ext4_handle h;
	const char *rest;
	u32 index = ext4_xattr_index(name, &rest);
	int err;

	if (!index)
		return -EOPNOTSUPP;
	do {
		if (inline_data)
			rw_write_lock(&inode->map_lock);
		err = ext4_begin(es, ext4_xattr_credits(es, len), 1, &h);
		if (!err) {
			err = ext4_xattr_set(&h, ei, index, rest, (u32)strlen(rest), value, len, flags);
			err = ext4_end(&h, err);
		}
		if (inline_data)
			rw_write_unlock(&inode->map_lock);
	} while (ext4_retry(es, err, &tried));
	return err;
}
