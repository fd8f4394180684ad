/*
 * Quota files: a tree whose nodes have a place for each value of a byte of an id, the highest byte first; below the fourth node stands the leaf
 * where the id's record is, among others of any ids. Nodes, leaves and the head are blocks of 1 KiB.
 *
 * A file is read as a whole, by the tree, as who looks up one id goes; and it is made as a whole.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define BADS_MAX   1000u   /* ways that lead nowhere; a file with more is not read any further */
#define GRACE_SECS 604800u /* a week, as the kernel has it where nobody said otherwise */

const char *ext4_quota_name(enum quota_kind kind)
{
	static const char *const name[] = { "user", "group", "project" };

	return name[kind];
}

u32 ext4_quota_inum(const struct ext4_disk_super *d, enum quota_kind kind)
{
	const le32 *const inum[] = { &d->usr_quota_inum, &d->grp_quota_inum, &d->prj_quota_inum };

	return le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_QUOTA ? le32_get(*inum[kind]) : 0;
}

u32 ext4_quota_id(const struct ext4_super *es, const struct ext4_disk_inode *raw, enum quota_kind kind)
{
	u32 fields = es->inode_bytes > EXT4_INODE_BYTES_OLD
			     ? EXT4_INODE_BYTES_OLD + le16_get(raw->extra_isize)
			     : EXT4_INODE_BYTES_OLD;

	switch (kind) {
	case QUOTA_USER:
		return le16_get(raw->uid_lo) | (u32)le16_get(raw->uid_hi) << 16;
	case QUOTA_GROUP:
		return le16_get(raw->gid_lo) | (u32)le16_get(raw->gid_hi) << 16;
	default:
		return fields <= es->inode_bytes && fields >= sizeof(*raw) ? le32_get(raw->projid) : 0;
	}
}

u32 ext4_quota_magic(enum quota_kind kind)
{
	static const u32 magic[] = { EXT4_QUOTA_MAGIC_USER, EXT4_QUOTA_MAGIC_GROUP,
				     EXT4_QUOTA_MAGIC_PROJECT };

	return magic[kind];
}

/* ---- lists ---- */

int ext4_quota_list_add(struct ext4_quota_list *l, const struct quota *q)
{
	if (l->count == l->room) {
		u32 want = l->room ? l->room + l->room / 2 : 64;
		struct quota *more = want > l->room ? reallocarray(l->quota, want, sizeof(*more)) : NULL;

		if (!more)
			return fail(-ENOMEM, "no memory for quota records");
		l->quota = more;
		l->room = want;
	}
	l->quota[l->count++] = *q;
	return 0;
}

void ext4_quota_list_free(struct ext4_quota_list *l)
{
	free(l->quota);
	*l = (struct ext4_quota_list){ 0 };
}

/* ---- records ---- */

bool ext4_quota_is_free(const struct ext4_disk_quota *d)
{
	static const struct ext4_disk_quota zero;

	return !memcmp(d, &zero, sizeof(zero));
}

struct quota ext4_quota_decode(const struct ext4_disk_quota *d)
{
	struct ext4_disk_quota rest = *d;
	struct quota q = { .id = le32_get(d->id),
			   .space_bytes = le64_get(d->space_bytes),
			   .space_soft_kib = le64_get(d->space_soft_kib),
			   .space_hard_kib = le64_get(d->space_hard_kib),
			   .space_until_sec = le64_get(d->space_until_sec),
			   .inodes = le64_get(d->inodes),
			   .inodes_soft = le64_get(d->inodes_soft),
			   .inodes_hard = le64_get(d->inodes_hard),
			   .inodes_until_sec = le64_get(d->inodes_until_sec) };

	rest.inodes_until_sec = le64_put(0);
	if (q.inodes_until_sec == 1 && ext4_quota_is_free(&rest))
		q.inodes_until_sec = 0;
	return q;
}

struct ext4_disk_quota ext4_quota_encode(const struct quota *q)
{
	struct ext4_disk_quota d = { .id = le32_put(q->id),
				     .space_bytes = le64_put(q->space_bytes),
				     .space_soft_kib = le64_put(q->space_soft_kib),
				     .space_hard_kib = le64_put(q->space_hard_kib),
				     .space_until_sec = le64_put(q->space_until_sec),
				     .inodes = le64_put(q->inodes),
				     .inodes_soft = le64_put(q->inodes_soft),
				     .inodes_hard = le64_put(q->inodes_hard),
				     .inodes_until_sec = le64_put(q->inodes_until_sec) };

	if (ext4_quota_is_free(&d))
		d.inodes_until_sec = le64_put(1);
	return d;
}

/* ---- reading ---- */

struct walk {
	const struct ext4_quota_source *src;
	struct ext4_quota_list *out;
	u32 blocks;
	u8 *nodes, *leaves; /* bits: blocks that were seen as such */
	u64 records;        /* in the leaves that were seen */
	u32 bads;
	u32 leaf_blk; /* of leaf; 0: none */
	struct ext4_disk_quota_leaf leaf;
};

static void set_bad(struct walk *w, const char *what)
{
	w->bads++;
	if (!w->out->bad)
		w->out->bad = what;
}

/* The bit was set before. */
static bool seen(u8 *bits, u32 nr)
{
	u8 mask = (u8)(1u << nr % 8);
	bool was = bits[nr / 8] & mask;

	bits[nr / 8] |= mask;
	return was;
}

static bool get_block(struct walk *w, u32 blk, void *buf)
{
	if (blk < EXT4_QUOTA_ROOT || blk >= w->blocks) {
		set_bad(w, "the tree leads out of the file");
		return false;
	}
	if (w->src->read(w->src->ctx, (u64)blk * EXT4_QUOTA_BLOCK, buf, EXT4_QUOTA_BLOCK)) {
		err_clear();
		set_bad(w, "a block cannot be read");
		return false;
	}
	return true;
}

static void count_leaf(struct walk *w)
{
	u32 used = 0;

	for (u32 i = 0; i < EXT4_QUOTA_PER_LEAF; i++)
		used += !ext4_quota_is_free(&w->leaf.place[i]);
	w->records += used;
	if (used != le16_get(w->leaf.count))
		set_bad(w, "a leaf has another number of records than it says");
}

/* The record of the id, which is to be in leaf blk. */
static int take_record(struct walk *w, u32 blk, u32 id)
{
	if (blk != w->leaf_blk) {
		w->leaf_blk = 0;
		if (!get_block(w, blk, &w->leaf))
			return 0;
		w->leaf_blk = blk;
		if (!seen(w->leaves, blk))
			count_leaf(w);
	}
	for (u32 i = 0; i < EXT4_QUOTA_PER_LEAF; i++) {
		const struct ext4_disk_quota *d = &w->leaf.place[i];
		struct quota q;

		if (le32_get(d->id) != id || ext4_quota_is_free(d))
			continue;
		q = ext4_quota_decode(d);
		return ext4_quota_list_add(w->out, &q);
	}
	set_bad(w, "a record is not where the tree says");
	return 0;
}

/* `id`: the bytes above this node. Recursion: EXT4_QUOTA_DEPTH. */
static int walk_node(struct walk *w, u32 blk, u32 depth, u32 id)
{
	struct ext4_disk_quota_node node;
	int err = 0;

	if (!get_block(w, blk, &node))
		return 0;
	if (seen(w->nodes, blk)) {
		set_bad(w, "the tree leads to a block twice");
		return 0;
	}
	for (u32 i = 0; i < EXT4_QUOTA_FANOUT && !err && w->bads < BADS_MAX; i++) {
		u32 child = le32_get(node.child[i]), below = id << 8 | i;

		if (!child)
			continue;
		err = depth ? walk_node(w, child, depth - 1, below) : take_record(w, child, below);
	}
	return err;
}

/* False: the file is none. */
static bool read_head(struct walk *w, enum quota_kind kind)
{
	struct ext4_disk_quota_head h;
	struct ext4_quota_list *out = w->out;
	u64 room = MIN(w->src->size_bytes / EXT4_QUOTA_BLOCK, w->src->blocks_max);
	u32 blocks;

	if (w->src->size_bytes < EXT4_QUOTA_BLOCK || w->src->read(w->src->ctx, 0, &h, sizeof(h))) {
		err_clear();
		set_bad(w, "its head cannot be read");
		return false;
	}
	if (le32_get(h.magic) != ext4_quota_magic(kind)) {
		set_bad(w, "no quota file");
		return false;
	}
	out->is_one = true;
	if (le32_get(h.version) != EXT4_QUOTA_VERSION) {
		set_bad(w, "a version that is not known");
		return false;
	}
	out->space_grace_sec = le32_get(h.space_grace_sec);
	out->inodes_grace_sec = le32_get(h.inodes_grace_sec);
	out->flags = le32_get(h.flags);
	blocks = le32_get(h.blocks);
	if (blocks > room)
		set_bad(w, "it says that it has more blocks than it has");
	else if (blocks <= EXT4_QUOTA_ROOT)
		set_bad(w, "it has no tree");
	else if (le32_get(h.free_block) >= blocks || le32_get(h.free_leaf) >= blocks)
		set_bad(w, "what is free in it is said to be outside of it");
	w->blocks = (u32)MIN((u64)blocks, room);
	return w->blocks > EXT4_QUOTA_ROOT;
}

int ext4_quota_parse(const struct ext4_quota_source *src, enum quota_kind kind, struct ext4_quota_list *out)
{
	struct walk w = { .src = src, .out = out };
	int err = 0;

	*out = (struct ext4_quota_list){ .space_grace_sec = GRACE_SECS, .inodes_grace_sec = GRACE_SECS };
	if (!read_head(&w, kind))
		return 0;
	w.nodes = calloc(w.blocks / 8 + 1, 1);
	w.leaves = calloc(w.blocks / 8 + 1, 1);
	err = w.nodes && w.leaves ? walk_node(&w, EXT4_QUOTA_ROOT, EXT4_QUOTA_DEPTH - 1, 0)
				  : fail(-ENOMEM, "no memory for a quota file");
	if (!err && !out->bad && w.records != out->count)
		set_bad(&w, "records to which the tree does not lead");
	free(w.nodes);
	free(w.leaves);
	return err;
}

static int read_file(void *ctx, u64 off_bytes, void *buf, u64 len_bytes)
{
	return ext4_read_content(ctx, off_bytes, buf, len_bytes);
}

int ext4_quota_load(struct ext4_inode *ei, enum quota_kind kind, struct ext4_quota_list *out)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_quota_source src = { .read = read_file,
					 .ctx = ei,
					 .size_bytes = ext4_size(ei),
					 .blocks_max = es->blocks << es->block_bits >> 10 };

	return ext4_quota_parse(&src, kind, out);
}

/* ---- making ---- */

struct pack {
	u8 *bytes;
	u32 blocks, room;
};

static void *block_at(const struct pack *p, u32 blk)
{
	return p->bytes + (size_t)blk * EXT4_QUOTA_BLOCK;
}

/* One more, of zeros; 0: no memory. */
static u32 new_block(struct pack *p)
{
	if (p->blocks == p->room) {
		u32 want = p->room ? p->room + p->room / 2 : 16;
		u8 *more = want > p->room ? reallocarray(p->bytes, want, EXT4_QUOTA_BLOCK) : NULL;

		if (!more)
			return 0;
		p->bytes = more;
		p->room = want;
	}
	memset(block_at(p, p->blocks), 0, EXT4_QUOTA_BLOCK);
	return p->blocks++;
}

/* The tree leads from id to leaf. False: no memory. */
static bool lead(struct pack *p, u32 id, u32 leaf)
{
	u32 at = EXT4_QUOTA_ROOT;

	for (u32 depth = EXT4_QUOTA_DEPTH - 1;; depth--) {
		u32 i = id >> 8 * depth & 0xff, child;
		struct ext4_disk_quota_node *node = block_at(p, at);

		if (!depth) {
			node->child[i] = le32_put(leaf);
			return true;
		}
		child = le32_get(node->child[i]);
		if (!child) {
			child = new_block(p);
			if (!child)
				return false;
			node = block_at(p, at);
			node->child[i] = le32_put(child);
		}
		at = child;
	}
}

static bool pack_all(struct pack *p, const struct ext4_quota_list *l)
{
	u32 leaf = 0;

	for (u32 i = 0; i < l->count; i++) {
		struct ext4_disk_quota_leaf *to;
		u32 place = i % EXT4_QUOTA_PER_LEAF;

		if (!place)
			leaf = new_block(p);
		if (!leaf)
			return false;
		to = block_at(p, leaf);
		to->place[place] = ext4_quota_encode(&l->quota[i]);
		to->count = le16_put((u16)(place + 1));
		if (!lead(p, l->quota[i].id, leaf))
			return false;
	}
	if (l->count % EXT4_QUOTA_PER_LEAF)
		((struct ext4_disk_quota_head *)p->bytes)->free_leaf = le32_put(leaf);
	return true;
}

int ext4_quota_pack(const struct ext4_quota_list *l, enum quota_kind kind, u8 **bytes, u64 *len_bytes)
{
	struct pack p = { 0 };
	struct ext4_disk_quota_head *h;

	(void)new_block(&p);
	if (!p.blocks || !new_block(&p) || !pack_all(&p, l)) {
		free(p.bytes);
		return fail(-ENOMEM, "no memory for a quota file");
	}
	h = block_at(&p, 0);
	h->magic = le32_put(ext4_quota_magic(kind));
	h->version = le32_put(EXT4_QUOTA_VERSION);
	h->space_grace_sec = le32_put(l->space_grace_sec);
	h->inodes_grace_sec = le32_put(l->inodes_grace_sec);
	h->flags = le32_put(l->flags);
	h->blocks = le32_put(p.blocks);
	*bytes = p.bytes;
	*len_bytes = (u64)p.blocks * EXT4_QUOTA_BLOCK;
	return 0;
}
