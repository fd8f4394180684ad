/*
 * Every node of a tree. One that is met first is read from each of its copies; what it refers to is counted then, and not again when another
 * tree, a snapshot, leads to it as well.
 *
 *   - Children of one node are read together, leaves in batches.
 *   - Two parents of one node must describe it alike: generation, level, first key.
 *   - Levels fall by one and keys stay between the two pointers around them, so a walk meets no node twice and ends. How often nodes
 *     that are shared are walked again is bounded (VISITS); their references count all the same.
 *
 * How references name who refers (back references of the format): a node with FULL_BACKREF by its address, else by the tree that made it; a tree's
 * root by its tree. Facts: the kernel's fs/btrfs/extent-tree.c, and "mixed back references" of the format's documentation.
 */
#include "check.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define BATCH_BYTES (1u << 20)
#define COPIES_MAX  4u
/* Of nodes that were met before, for each that there is, and in any case. */
#define VISITS     256u
#define VISITS_MIN 1000000u

/* A node that is wanted, and what was read of it. */
struct want {
	u64 bytenr;
	struct btrfs_expect e;
	struct btrfs_key end; /* its keys are below */
	bool first;
	u32 copies;
	const u8 *good; /* NULL: it cannot be used */
	struct buffer_head *bh;
};

struct frame {
	u8 *node;
	bool first, full;
	struct btrfs_key end;
	u32 slot;
};

/* ---- reading ---- */

static u8 *copy_buf(const struct ck *c, u32 i, u32 copy)
{
	return c->buf + ((size_t)i * COPIES_MAX + copy) * c->bs->node_bytes;
}

static void node_report(struct ck *c, enum ck_code code, u64 bytenr, const struct ck_tree *t, const char *why)
{
	struct text name = { 0 };

	btrfs_ck_tree_name(c, t->id, &name);
	btrfs_ck_found(c, code, "block", bytenr, text_str(&name), "%s", why);
	text_free(&name);
}

/* How many mirrors are there; of parity only the bytes themselves. */
static u32 copies_of(const struct ck *c, u64 bytenr)
{
	u64 devid, off, len;
	u32 n = 0;

	while (n < COPIES_MAX && !btrfs_volume_where(c->bs->volume, bytenr, n, &devid, &off, &len))
		n++;
	return MAX(n, 1u);
}

static void read_first(struct ck *c, struct want *w, u32 n)
{
	struct io_batch batch;

	io_batch_init(&batch);
	for (u32 i = 0; i < n; i++) {
		if (!w[i].first)
			continue;
		w[i].copies = copies_of(c, w[i].bytenr);
		for (u32 k = 0; k < w[i].copies; k++) {
			struct bio *bio = &c->bio[i * COPIES_MAX + k];

			bio_init(bio, c->bs->vfs.dev, BIO_READ, w[i].bytenr, copy_buf(c, i, k),
				 c->bs->node_bytes);
			bio->copy = (u8)k;
			io_submit(&batch, bio);
		}
	}
	(void)!io_wait(&batch);
	err_clear();
}

/* By the verifier of nodes; its sentence is in err_text. */
static int verify(struct ck *c, const struct want *w, const void *data)
{
	struct buffer_head bh = {
		.dev = c->bs->vfs.dev,
		.blk = w->bytenr / c->bs->node_bytes,
		.size_bytes = c->bs->node_bytes,
		.data = (void *)data,
	};
	struct bh_ctx ctx;

	btrfs_node_ctx(&w->e, &ctx);
	return btrfs_node_ops.verify(&bh, data, &ctx);
}

/* Its last key is below what its parents say. */
static int check_end(const struct want *w, const void *node)
{
	u32 n = btrfs_nritems(node);
	struct btrfs_key last;

	if (!n)
		return 0;
	last = btrfs_key_get(w->e.level ? &btrfs_ptr(node, n - 1)->key : &btrfs_item(node, n - 1)->key);
	return btrfs_key_cmp(&last, &w->end) < 0 || !btrfs_key_cmp(&w->end, &BTRFS_KEY_LAST)
		       ? 0
		       : fail(-EUCLEAN, "its keys go beyond what its parent says");
}

/* Which copies are not good, a bit for each. */
struct bad {
	u32 wrong;
	u32 other; /* sound, and not the same as the one that is used */
	struct text why;
};

/* Of the copies that were read, the first that is good is used. */
static void judge(struct ck *c, struct want *w, u32 i, struct bad *bad)
{
	for (u32 k = 0; k < w->copies; k++) {
		const u8 *data = copy_buf(c, i, k);
		int err = c->bio[i * COPIES_MAX + k].err;

		if (!err && w->good && !memcmp(data, w->good, c->bs->node_bytes))
			continue;
		err = err ? fail(-EIO, "copy %u cannot be read", k + 1) : verify(c, w, data);
		if (!err)
			err = check_end(w, data);
		if (!err && !w->good) {
			w->good = data;
			continue;
		}
		/* Else one of them is of another commit that said the same of itself. */
		if (err)
			bad->wrong |= 1u << k;
		else
			bad->other |= 1u << k;
		text_add(&bad->why, "%scopy %u: %s", bad->why.len_bytes ? "; " : "", k + 1,
			 err ? err_text() : "it is not the same as copy 1");
	}
	err_clear();
}

static bool can_mend(const struct ck *c, const struct want *w, const struct bad *bad)
{
	bool can = w->good && bad->wrong && !bad->other;

	for (u32 k = 0; can && k < w->copies; k++)
		can = !(bad->wrong >> k & 1) || btrfs_ck_can_put(c, w->bytenr, k, c->bs->node_bytes);
	return can;
}

/* Bad copies are said, or written anew. */
static void settle(struct ck *c, const struct want *w, const struct ck_tree *t, const struct bad *bad)
{
	struct text name = { 0 };

	if (!w->good || !can_mend(c, w, bad)) {
		node_report(c, w->good ? CK_NODE_COPY : CK_NODE, w->bytenr, t, text_str(&bad->why));
		return;
	}
	btrfs_ck_tree_name(c, t->id, &name);
	if (btrfs_ck_fix(c, CK_NODE_COPY, "block", w->bytenr, text_str(&name), "%s", text_str(&bad->why)))
		for (u32 k = 0; k < w->copies; k++)
			if (bad->wrong >> k & 1)
				btrfs_ck_put(c, w->bytenr, k, w->good, c->bs->node_bytes);
	text_free(&name);
}

/* What stripes and parity of the others make of it. */
static void judge_rebuilt(struct ck *c, struct want *w, u32 i)
{
	const struct btrfs_chunk *chunk = btrfs_chunk_find(c->bs->volume, w->bytenr);

	for (u32 k = w->copies; chunk && k < chunk->copies && !w->good; k++) {
		struct bio *bio = &c->bio[i * COPIES_MAX];
		struct io_batch batch;

		bio_init(bio, c->bs->vfs.dev, BIO_READ, w->bytenr, copy_buf(c, i, 0), c->bs->node_bytes);
		bio->copy = (u8)k;
		io_batch_init(&batch);
		io_submit(&batch, bio);
		if (!io_wait(&batch) && !verify(c, w, copy_buf(c, i, 0)) && !check_end(w, copy_buf(c, i, 0)))
			w->good = copy_buf(c, i, 0);
	}
	err_clear();
}

static void read_again(struct ck *c, struct want *w)
{
	int err = btrfs_node_read(c->bs, w->bytenr, &w->e, &w->bh);

	if (!err)
		err = check_end(w, w->bh->data);
	w->good = err ? NULL : w->bh->data;
	err_clear();
}

/* ---- what is known of a node ---- */

static u32 key_hash(const struct btrfs_expect *e)
{
	u64 h = hash_number(hash_number(hash_number(e->first.objectid) + e->first.type) + e->first.offset);

	return e->has_key ? (u32)h | 1 : 0;
}

/* Takes down that the node is wanted. False: it cannot be had. */
static bool note(struct ck *c, struct want *w, const struct ck_tree *t)
{
	struct ck_node *n = btrfs_ck_add(&c->nodes, w->bytenr ? w->bytenr : ~0ull);

	if (!n) {
		btrfs_ck_oom(c);
		return false;
	}
	if (n->state == CK_NEW) {
		w->first = true;
		n->state = CK_WANTED;
		n->generation = w->e.generation;
		n->level = (u8)w->e.level;
		n->first_hash = key_hash(&w->e);
		if (!w->bytenr || !IS_ALIGNED(w->bytenr, (u64)c->bs->node_bytes) ||
		    !btrfs_chunk_find(c->bs->volume, w->bytenr)) {
			n->state = CK_BAD;
			node_report(c, CK_NODE, w->bytenr, t, "no tree block can be there");
			return false;
		}
		return true;
	}
	if (n->state == CK_BAD)
		return false;
	if (n->generation == w->e.generation && n->level == w->e.level &&
	    (!n->first_hash || !w->e.has_key || n->first_hash == key_hash(&w->e)))
		return n->state == CK_GOOD;
	node_report(c, CK_NODE_TWICE, w->bytenr, t,
		    "its parents differ in what generation, level or first key it has");
	return false;
}

/* Those that can be had are read and judged. */
static void fetch(struct ck *c, struct want *w, u32 n, const struct ck_walk *walk)
{
	read_first(c, w, n);
	for (u32 i = 0; i < n; i++) {
		struct bad bad = { 0 };
		struct ck_node *node;

		if (w[i].first) {
			judge(c, &w[i], i, &bad);
			if (!w[i].good)
				judge_rebuilt(c, &w[i], i);
			if (bad.wrong || bad.other)
				settle(c, &w[i], walk->tree, &bad);
			text_free(&bad.why);
			node = btrfs_ck_find(&c->nodes, w[i].bytenr);
			node->state = w[i].good ? CK_GOOD : CK_BAD;
		} else {
			c->node_visits++;
			read_again(c, &w[i]);
		}
	}
}

/* ---- references ---- */

static void ref_node(struct ck *c, u64 bytenr, u64 ref, bool counted)
{
	struct ck_node *n = btrfs_ck_add(&c->nodes, bytenr ? bytenr : ~0ull);

	if (!n) {
		btrfs_ck_oom(c);
		return;
	}
	n->counted |= counted;
	n->refs_sum += ref;
	n->refs++;
}

static bool is_full(const struct ck *c, u64 bytenr)
{
	const struct ck_extent *e = btrfs_ck_extent(c, bytenr);

	return e && e->flags & CK_EXTENT_FULL;
}

/* Of a subvolume that is being dropped: this child is gone already. */
static bool is_dropped(const struct ck_tree *t, const void *node, u32 level, u32 slot)
{
	struct btrfs_key key = btrfs_key_get(&btrfs_ptr(node, slot)->key);

	if (!t->drop_level || level < t->drop_level)
		return false;
	if (level == t->drop_level)
		return btrfs_key_cmp(&key, &t->drop) < 0;
	if (slot + 1 >= btrfs_nritems(node))
		return false;
	key = btrfs_key_get(&btrfs_ptr(node, slot + 1)->key);
	return btrfs_key_cmp(&key, &t->drop) <= 0;
}

static void ref_children(struct ck *c, const struct ck_tree *t, const void *node, const struct want *at)
{
	u64 ref = is_full(c, at->bytenr) ? btrfs_ck_ref(c, BTRFS_KEY_SHARED_BLOCK_REF, at->bytenr, 0, 0)
					 : btrfs_ck_ref(c, BTRFS_KEY_TREE_BLOCK_REF,
							le64_get(btrfs_header(node)->owner), 0, 0);

	for (u32 i = 0; i < btrfs_nritems(node); i++)
		if (!is_dropped(t, node, at->e.level, i))
			ref_node(c, le64_get(btrfs_ptr(node, i)->bytenr), ref, true);
}

static void ref_root(struct ck *c, const struct ck_tree *t)
{
	u64 ref = t->id == BTRFS_TREE_RELOC ? btrfs_ck_ref(c, BTRFS_KEY_SHARED_BLOCK_REF, t->bytenr, 0, 0)
					    : btrfs_ck_ref(c, BTRFS_KEY_TREE_BLOCK_REF, t->id, 0, 0);

	ref_node(c, t->bytenr, ref, true);
}

static void ref_stray(struct ck *c, u64 bytenr, u64 len_bytes)
{
	struct ck_stray *s = btrfs_ck_add(&c->strays, bytenr);

	if (s)
		s->len_bytes = MAX(s->len_bytes, len_bytes);
	else
		btrfs_ck_oom(c);
}

static void ref_data(struct ck *c, const void *leaf, u64 bytenr, const struct btrfs_key *key,
		     const struct btrfs_disk_file_extent *d)
{
	u64 at = le64_get(d->disk_bytenr), owner = le64_get(btrfs_header(leaf)->owner);
	struct ck_extent *e;

	if (!at)
		return;
	e = btrfs_ck_extent(c, at);
	if (!e || !(e->flags & CK_EXTENT_DATA)) {
		ref_stray(c, at, le64_get(d->disk_bytes));
		return;
	}
	e->refs++;
	e->refs_sum += is_full(c, bytenr) ? btrfs_ck_ref(c, BTRFS_KEY_SHARED_DATA_REF, bytenr, 0, 0)
					  : btrfs_ck_ref(c, BTRFS_KEY_EXTENT_DATA_REF, owner, key->objectid,
							 key->offset - le64_get(d->offset_bytes));
	if (d->kind == BTRFS_EXTENT_REG)
		e->flags |= CK_EXTENT_WRITTEN;
}

/* ---- leaves ---- */

static void take_leaf(struct ck *c, struct ck_walk *w, const struct want *at)
{
	const struct ck_tree *t = w->tree;
	bool full = is_full(c, at->bytenr), bad = !at->first || atomic_load(&c->bs->bad_items);

	for (u32 i = 0; i < btrfs_nritems(at->good) && !c->err; i++) {
		struct ck_item it = {
			.key = btrfs_key_get(&btrfs_item(at->good, i)->key),
			.data = btrfs_item_data(at->good, i),
			.len = btrfs_item_len(at->good, i),
			.leaf = at->good,
			.first = at->first,
			.full = full,
		};
		const char *why = bad ? btrfs_item_wrong(c->bs, at->good, i) : NULL;

		if (why) {
			struct text name = { 0 };

			w->bad_items++;
			btrfs_ck_tree_name(c, t->id, &name);
			if (at->first)
				btrfs_ck_found(c, CK_ITEM, "block", at->bytenr, text_str(&name),
					       "item %u (%lld %u %llu): %s", i, (long long)it.key.objectid,
					       it.key.type, (unsigned long long)it.key.offset, why);
			text_free(&name);
			continue;
		}
		if (at->first && !t->log && it.key.type == BTRFS_KEY_EXTENT_DATA &&
		    it.len == sizeof(struct btrfs_disk_file_extent))
			ref_data(c, at->good, at->bytenr, &it.key, it.data);
		if (w->item)
			w->item(c, w->ctx, &it);
	}
}

/* ---- the walk ---- */

static bool too_many_visits(const struct ck *c)
{
	return c->node_visits > VISITS_MIN + VISITS * c->nodes.count;
}

/* A node that was met before: is it wanted once more, for its items? */
static bool again(const struct ck *c, struct ck_walk *w)
{
	if (!w->item)
		return false;
	w->skipped += too_many_visits(c);
	return !too_many_visits(c);
}

/* The next children of a frame that are there, at most n, noted. */
static u32 gather(struct ck *c, struct ck_walk *w, struct frame *f, u32 level, struct want *want, u32 n)
{
	u32 got = 0, all = btrfs_nritems(f->node);

	while (got < n && f->slot < all && !c->err) {
		u32 slot = f->slot++;
		const struct btrfs_disk_ptr *p = btrfs_ptr(f->node, slot);

		if (is_dropped(w->tree, f->node, level, slot))
			continue;
		want[got] = (struct want){
			.bytenr = le64_get(p->bytenr),
			.e = { .owner = w->tree->id,
			       .level = level - 1,
			       .generation = le64_get(p->generation),
			       .has_key = true,
			       .first = btrfs_key_get(&p->key) },
			.end = slot + 1 < all ? btrfs_key_get(&btrfs_ptr(f->node, slot + 1)->key) : f->end,
		};
		if (!note(c, &want[got], w->tree))
			w->missing++;
		else if (want[got].first || again(c, w))
			got++;
	}
	return got;
}

/* For quotas: which subvolume has the node, and whether another does. */
static void use_node(struct ck *c, const struct ck_tree *t, u64 bytenr)
{
	struct ck_node *n = btrfs_ck_find(&c->nodes, bytenr);

	n->shared |= n->root && n->root != t->root;
	n->root = t->root;
	c->root[t->root - 1].referenced += c->bs->node_bytes;
}

/* What was fetched counts: its references, and for a node above leaves a frame; leaves are taken. */
static void enter(struct ck *c, struct ck_walk *w, struct frame *frame, struct want *want)
{
	u32 level = want->e.level;

	if (!want->good) {
		w->missing++;
	} else if (!level) {
		take_leaf(c, w, want);
	} else {
		struct frame *f = &frame[level];

		memcpy(f->node, want->good, c->bs->node_bytes);
		f->slot = 0;
		f->first = want->first;
		f->end = want->end;
		if (want->first && !w->tree->log)
			ref_children(c, w->tree, f->node, want);
	}
	if (want->good && w->tree->root && w->item)
		use_node(c, w->tree, want->bytenr);
	bh_put(take(want->bh));
}

bool btrfs_ck_walk(struct ck *c, struct ck_walk *w)
{
	const struct ck_tree *t = w->tree;
	struct frame frame[BTRFS_LEVELS] = { 0 };
	struct want want[64] = { 0 };
	u32 level = t->level + 1;

	w->missing = w->bad_items = w->skipped = 0;
	for (u32 i = 0; i < BTRFS_LEVELS; i++)
		frame[i].node = c->frame + (size_t)i * c->bs->node_bytes;
	if (!t->log)
		ref_root(c, t);
	want[0] = (struct want){
		.bytenr = t->bytenr,
		.e = { .owner = t->id, .level = t->level, .generation = t->generation },
		.end = BTRFS_KEY_LAST,
	};
	if (c->err || !note(c, &want[0], t)) {
		w->missing++;
		return !c->err;
	}
	if (!want[0].first && !again(c, w))
		return true;
	/* Each round takes children of the lowest frame; the root stands for those of a frame above it. */
	for (u32 n = 1; !c->err;) {
		fetch(c, want, n, w);
		for (u32 i = 0; i < n; i++)
			enter(c, w, frame, &want[i]);
		if (!btrfs_ck_step(c, n))
			break;
		if (n && want[0].good && want[0].e.level)
			level = want[0].e.level;
		while (level <= t->level && frame[level].slot >= btrfs_nritems(frame[level].node))
			level++;
		if (level > t->level)
			break;
		n = gather(c, w, &frame[level], level, want, level == 1 ? c->batch : 1);
	}
	return !c->err;
}

/* ---- trees ---- */

void btrfs_ck_tree_of(const struct ck *c, u32 root, struct ck_tree *out)
{
	const struct ck_root *r = &c->root[root];

	*out = (struct ck_tree){
		.id = r->id,
		.bytenr = le64_get(r->item.bytenr),
		.generation = le64_get(r->item.generation),
		.level = r->item.level,
		.drop = btrfs_key_get(&r->item.drop_progress),
		.root = root + 1,
	};
	if (out->drop.objectid)
		out->drop_level = r->item.drop_level;
}

bool btrfs_ck_tree_find(struct ck *c, u64 id, struct ck_tree *out)
{
	const struct btrfs_root *r;

	if (btrfs_root_get(c->bs, id, &r)) {
		err_clear();
		return false;
	}
	*out = (struct ck_tree){
		.id = id, .bytenr = r->bytenr, .generation = r->generation, .level = r->level
	};
	return true;
}

struct ck_root *btrfs_ck_root(const struct ck *c, u64 id)
{
	u32 lo = 0, hi = c->roots;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (c->root[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->roots && c->root[lo].id == id ? &c->root[lo] : NULL;
}

int btrfs_ck_walk_init(struct ck *c)
{
	c->nodes.rec_bytes = sizeof(struct ck_node);
	c->strays.rec_bytes = sizeof(struct ck_stray);
	c->links.rec_bytes = sizeof(struct ck_link);
	c->batch = MAX(MIN(BATCH_BYTES / c->bs->node_bytes / COPIES_MAX, 64u), 1u);
	c->buf = malloc((size_t)c->batch * COPIES_MAX * c->bs->node_bytes);
	c->bio = calloc((size_t)c->batch * COPIES_MAX, sizeof(*c->bio));
	c->frame = malloc((size_t)BTRFS_LEVELS * c->bs->node_bytes);
	return c->buf && c->bio && c->frame ? 0 : fail(-ENOMEM, "no memory for nodes");
}

bool btrfs_ck_whole(struct ck *c, const struct ck_walk *w, const char *what)
{
	struct text name = { 0 };

	if (w->missing && !w->tree->log)
		c->refs_partial = true;
	if (!w->missing && !w->bad_items && !w->skipped)
		return true;
	btrfs_ck_tree_name(c, w->tree->id, &name);
	if (!c->err)
		btrfs_ck_found(
			c, CK_NOT_CHECKED, "tree", w->tree->id, text_str(&name),
			"%u parts and %u items of it cannot be used, %u are shared by too many trees: %s",
			w->missing, w->bad_items, w->skipped, what);
	text_free(&name);
	return false;
}
