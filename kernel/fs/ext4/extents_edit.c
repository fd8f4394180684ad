/*
 * Extent trees that change.
 *
 *   insert   into the leaf that is responsible, joined with a neighbour where it continues one; full nodes are split, and when all are
 *            full, the root's entries move into a block of their own
 *   convert  unwritten becomes written: at the edge of a written neighbour by moving the border, else by splitting
 *   remap    an extent's blocks lie elsewhere: like convert, it goes over to a neighbour that it continues there, else is split off
 *
 * How they get smaller: extents_cut.c.
 *
 * Invariants
 *  1. Nothing is changed before all of it is read and joined, and the blocks for new nodes are there. What is done then cannot fail.
 *  2. An index entry's key is the first key of the node it leads to; no node but the root is empty.
 *  3. A tree that only grows at its end has full nodes: the node that is split there gives nothing away. Elsewhere a split halves.
 *  4. Depth counts from the leaves, so nodes keep theirs, and what they were verified as, when the root moves.
 *  5. Trees come from disks: a path has at most EXT4_EXTENT_DEPTH_MAX steps, each node's number of entries was checked when it was read,
 *     and its number of places is believed only where it is not more than there is room for.
 */
#include "extent_path.h"

#include <errno.h>

/* ---- new blocks ---- */

void ext4_fresh_done(struct ext4_fresh *f)
{
	for (u32 i = 0; i < f->count; i++)
		bh_put(f->b[i].bh);
	f->count = 0;
}

int ext4_fresh_undo(struct ext4_handle *h, struct ext4_fresh *f)
{
	int err = 0;

	for (u32 i = 0; i < f->count && !err; i++)
		err = ext4_blocks_free(h, f->b[i].blk, 1, f->b[i].bh);
	return err ? ext4_abort(h->es, err) : 0;
}

int ext4_fresh_get(struct ext4_handle *h, struct ext4_inode *ei, u64 goal, u32 count, u32 first_depth,
		   const struct bh_ops *ops, struct ext4_fresh *out)
{
	int err = 0;

	*out = (struct ext4_fresh){ 0 };
	for (u32 i = 0; i < count && !err; i++) {
		err = ext4_block_new(h, goal, &out->b[i].blk);
		out->count += !err;
	}
	for (u32 i = 0; i < count && !err; i++) {
		const struct bh_ctx ctx = ext4_ctx_map(ei, first_depth + i);

		err = bh_get_new(h->es->vfs.dev, out->b[i].blk, ops, &ctx, &out->b[i].bh);
		if (!err)
			err = ext4_access(h, out->b[i].bh);
	}
	if (err)
		(void)!ext4_fresh_undo(h, out);
	return err;
}

int ext4_cut_free(struct ext4_handle *h, struct ext4_cut *c, u64 blk, u32 len, bool metadata)
{
	int err = ext4_blocks_free(h, blk, len, metadata);

	if (err != -EUCLEAN)
		return err;
	c->bad++;
	return 0;
}

/* ---- paths ---- */

void ext4_path_put(struct path *p)
{
	for (u32 i = 0; i <= p->depth; i++)
		bh_put(p->level[i].bh);
}

int ext4_path_bad(const struct ext4_inode *ei, const char *what)
{
	return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino, "its extent tree: %s", what);
}

static int descend(struct path *p, u64 lblk, u32 k)
{
	struct node *n = &p->level[k];
	u32 count = entries(n), before = ext4_extent_up_to(entry(n, 0), count, lblk);
	const struct bh_ctx ctx = ext4_ctx_map(p->ei, p->depth - k - 1);
	int err;

	if (!count)
		return ext4_path_bad(p->ei, "an index node is empty");
	/* What lies before everything is the first child's, whose key falls when something comes there. */
	n->at = before ? before - 1 : 0;
	if (before)
		p->lo = MAX(p->lo, key(n, n->at));
	if (n->at + 1 < count)
		p->hi = MIN(p->hi, key(n, n->at + 1));
	err = bh_read(p->ei->vfs.sb->dev, child_of(n, n->at), &ext4_extent_ops, &ctx, &p->level[k + 1].bh);
	if (!err)
		p->level[k + 1].hdr = p->level[k + 1].bh->data;
	return err;
}

/* Whatever it returns, ended by path_put. */
int ext4_path_find(struct ext4_inode *ei, u64 lblk, struct path *p)
{
	*p = (struct path){ .ei = ei, .hi = EXT4_LBLK_END };
	p->level[0].hdr = (void *)ei->block;
	p->depth = le16_get(p->level[0].hdr->depth);
	if (p->depth > EXT4_EXTENT_DEPTH_MAX) {
		p->depth = 0;
		return ext4_path_bad(ei, "too deep");
	}
	for (u32 k = 0; k < p->depth; k++) {
		int err = descend(p, lblk, k);

		if (err)
			return err;
	}
	leaf_of(p)->at = ext4_extent_up_to(entry(leaf_of(p), 0), entries(leaf_of(p)), lblk);
	return 0;
}

/* The nodes down to level `to` will change. */
int ext4_path_join(struct ext4_handle *h, struct path *p, u32 to)
{
	int err = 0;

	for (u32 k = 1; k <= to && !err; k++)
		err = ext4_access(h, p->level[k].bh);
	return err;
}

/* The first key of the node at level k has changed, or may have. */
void ext4_path_fix_keys(struct ext4_handle *h, struct path *p, u32 k)
{
	for (; k; k--) {
		struct node *up = &p->level[k - 1];

		entry(up, up->at)->lblk = entry(&p->level[k], 0)->lblk;
		changed(h, up);
		if (up->at)
			break;
	}
}

/* ---- an entry more ---- */

/* Where blocks for nodes would best lie: with the nodes there are, else with the data. */
static u64 node_goal(struct path *p, u64 pblk)
{
	return p->depth ? leaf_of(p)->bh->blk : pblk;
}

/* The levels from the leaf up whose nodes are full. */
static u32 full_levels(const struct path *p)
{
	u32 n = 0;

	while (n <= p->depth && entries(&p->level[p->depth - n]) >= places(&p->level[p->depth - n]))
		n++;
	return n;
}

/* The blocks that an entry more in the leaf needs, and all that will change, joined. */
static int plan(struct ext4_handle *h, struct path *p, u64 pblk, struct ext4_fresh *f)
{
	u32 full = full_levels(p);
	int err;

	*f = (struct ext4_fresh){ 0 };
	if (full > EXT4_EXTENT_DEPTH_MAX)
		return fail(-EFBIG, "inode %llu: its extent tree cannot get deeper",
			    (unsigned long long)p->ei->vfs.ino);
	err = ext4_path_join(h, p, p->depth);
	return err ? err : ext4_fresh_get(h, p->ei, node_goal(p, pblk), full, 0, &ext4_extent_ops, f);
}

/* The root's entries move into a block of their own. */
static void grow(struct ext4_handle *h, struct path *p, struct ext4_fresh *f)
{
	struct node *root = &p->level[0], *n = &p->level[1];
	u32 i = p->depth, count = entries(root);
	struct ext4_disk_extent x;

	memmove(n, root, (p->depth + 1) * sizeof(*root));
	n->bh = bh_get(f->b[i].bh);
	n->hdr = n->bh->data;
	node_init(ext4_inode_super(p->ei), n->hdr, p->depth);
	memcpy(entry(n, 0), entry(root, 0), count * sizeof(x));
	set_entries(n, count);
	changed(h, n);
	x = make_index(key(root, 0), f->b[i].blk);
	memset(entry(root, 0), 0, EXT4_IBLOCK_BYTES - sizeof(*root->hdr));
	*entry(root, 0) = x;
	set_entries(root, 1);
	p->depth++;
	root->hdr->depth = le16_put((u16)p->depth);
	root->at = 0;
}

/* *e goes into a full node at `at`: half of it, or nothing, moves into block i of f. *e becomes what leads there. */
static void split(struct ext4_handle *h, struct path *p, struct node *n, struct ext4_fresh *f, u32 i, u32 at,
		  struct ext4_disk_extent *e)
{
	u32 count = entries(n), keep = at == count ? count : count / 2;
	struct node right = { .bh = f->b[i].bh, .hdr = f->b[i].bh->data };

	node_init(ext4_inode_super(p->ei), right.hdr, i);
	memcpy(entry(&right, 0), entry(n, keep), (count - keep) * sizeof(*e));
	set_entries(&right, count - keep);
	memset(entry(n, keep), 0, (count - keep) * sizeof(*e));
	set_entries(n, keep);
	if (at > keep || at == count)
		entry_insert(&right, at - keep, e);
	else
		entry_insert(n, at, e);
	changed(h, n);
	changed(h, &right);
	*e = make_index(key(&right, 0), f->b[i].blk);
}

/* After plan: the entry goes into the leaf. */
static void put(struct ext4_handle *h, struct path *p, struct ext4_fresh *f, u32 at,
		struct ext4_disk_extent e)
{
	u64 lblk = le32_get(e.lblk);
	u32 k;

	if (f->count == p->depth + 1)
		grow(h, p, f);
	/* Now, while the path is what it was. */
	for (k = 0; k < p->depth; k++) {
		struct node *n = &p->level[k];

		if (key(n, n->at) <= lblk)
			continue;
		entry(n, n->at)->lblk = e.lblk;
		changed(h, n);
	}
	for (u32 i = 0; entries(&p->level[k]) >= places(&p->level[k]); i++) {
		split(h, p, &p->level[k], f, i, at, &e);
		k--;
		at = p->level[k].at + 1;
	}
	entry_insert(&p->level[k], at, &e);
	changed(h, &p->level[k]);
	ext4_inode_add_clusters(p->ei, f->count);
}

/* ---- inserting ---- */

/* e, which belongs at the leaf's `at`, is joined with a neighbour there. 1: done. 0: none does. */
static int insert_merged(struct ext4_handle *h, struct path *p, const struct ext4_disk_extent *e)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at;
	bool left = at && continues(entry(leaf, at - 1), e);
	int err;

	if (!left && (at == entries(leaf) || !continues(e, entry(leaf, at))))
		return 0;
	err = ext4_path_join(h, p, p->depth);
	if (err)
		return err;
	if (left) {
		*entry(leaf, at - 1) = both(entry(leaf, at - 1), e);
		merge(leaf, at - 1);
	} else {
		*entry(leaf, at) = both(e, entry(leaf, at));
		if (!at)
			ext4_path_fix_keys(h, p, p->depth);
	}
	changed(h, leaf);
	return 1;
}

static int insert(struct ext4_handle *h, struct path *p, const struct ext4_disk_extent *e)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at;
	struct ext4_fresh f;
	int err;

	if ((at && end_of(entry(leaf, at - 1)) > le32_get(e->lblk)) || end_of(e) > p->hi ||
	    (at < entries(leaf) && key(leaf, at) < end_of(e)))
		return ext4_path_bad(p->ei, "blocks are there where a hole was to be filled");
	err = insert_merged(h, p, e);
	if (err)
		return err < 0 ? err : 0;
	err = plan(h, p, ext4_extent_start(e), &f);
	if (!err)
		put(h, p, &f, at, *e);
	ext4_fresh_done(&f);
	return err;
}

int ext4_extent_need(struct ext4_inode *ei, u64 lblk, u32 *blocks)
{
	struct path p;
	int err = ext4_path_find(ei, lblk, &p);

	*blocks = err ? 0 : full_levels(&p);
	ext4_path_put(&p);
	return err;
}

int ext4_extent_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk,
		       bool unwritten)
{
	struct ext4_disk_extent e;
	struct path p;
	u64 from, to;
	int err;

	if (!len || len > (unwritten ? EXT4_EXTENT_UNWRITTEN_MAX : EXT4_EXTENT_INIT_MAX) ||
	    lblk + len > EXT4_LBLK_END)
		return fail(-EFBIG, "inode %llu: %u blocks from block %llu on are more than can be mapped",
			    (unsigned long long)ei->vfs.ino, len, (unsigned long long)lblk);
	e = make_extent(lblk, len, pblk, unwritten);
	err = ext4_cluster_own(ei, lblk, len, &from, &to);
	if (err)
		return err;
	err = ext4_path_find(ei, lblk, &p);
	if (!err)
		err = insert(h, &p, &e);
	ext4_path_put(&p);
	if (!err)
		ext4_inode_add_clusters(ei, (s64)ext4_clusters_of(h->es, from, to - from));
	return err;
}

/* ---- splitting and converting ---- */

/* The path leads to an extent that begins before lblk and ends behind it. */
static int split_extent(struct ext4_handle *h, struct path *p, u64 lblk)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at;
	struct ext4_disk_extent *e = entry(leaf, at - 1), rest = part(e, lblk, end_of(e));
	struct ext4_fresh f;
	int err = plan(h, p, ext4_extent_start(e), &f);

	if (!err) {
		*e = part(e, le32_get(e->lblk), lblk);
		put(h, p, &f, at, rest);
	}
	ext4_fresh_done(&f);
	return err;
}

int ext4_extent_split(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk)
{
	const struct ext4_disk_extent *e;
	struct path p;
	int err;

	if (lblk >= EXT4_LBLK_END)
		return 0;
	err = ext4_path_find(ei, lblk, &p);
	if (!err && leaf_of(&p)->at) {
		e = entry(leaf_of(&p), leaf_of(&p)->at - 1);
		if (le32_get(e->lblk) < lblk && end_of(e) > lblk)
			err = split_extent(h, &p, lblk);
	}
	ext4_path_put(&p);
	return err;
}

/*
 * The end or the beginning of an unwritten extent, [lblk, to), goes over to the written neighbour that it continues. 1: done.
 */
static int move_border(struct ext4_handle *h, struct path *p, u64 lblk, u64 to)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at - 1;
	struct ext4_disk_extent *e = entry(leaf, at), now = part(e, lblk, to);
	bool first = le32_get(e->lblk) == lblk, left, right;
	int err;

	now.len = le16_put((u16)(to - lblk));
	left = first && at && continues(e - 1, &now);
	right = !first && to == end_of(e) && at + 1 < entries(leaf) && continues(&now, e + 1);
	if (!left && !right)
		return 0;
	err = ext4_path_join(h, p, p->depth);
	if (err)
		return err;
	if (left) {
		e[-1] = both(e - 1, &now);
		*e = part(e, to, end_of(e));
	} else {
		e[1] = both(&now, e + 1);
		*e = part(e, le32_get(e->lblk), lblk);
	}
	changed(h, leaf);
	return 1;
}

/* The whole extent counts as written. */
static int flip(struct ext4_handle *h, struct path *p)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at - 1;
	struct ext4_disk_extent *e = entry(leaf, at);
	int err = ext4_path_join(h, p, p->depth);

	if (err)
		return err;
	e->len = le16_put((u16)ext4_extent_len(e));
	merge(leaf, at);
	if (at)
		merge(leaf, at - 1);
	changed(h, leaf);
	return 0;
}

/* One step: something before `end` is converted, *lblk moves on, or an extent was split. */
static int convert_step(struct ext4_handle *h, struct path *p, u64 *lblk, u64 end)
{
	struct node *leaf = leaf_of(p);
	const struct ext4_disk_extent *e = leaf->at ? entry(leaf, leaf->at - 1) : NULL;
	u64 start, to;
	int err;

	if (!e || end_of(e) <= *lblk)
		return ext4_path_bad(p->ei, "nothing is there where data was written");
	start = le32_get(e->lblk);
	to = MIN(end, end_of(e));
	if (!ext4_extent_unwritten(e)) {
		*lblk = to;
		return 0;
	}
	if (start < *lblk || to < end_of(e)) {
		err = move_border(h, p, *lblk, to);
		if (err) {
			*lblk = to;
			return err < 0 ? err : 0;
		}
		return split_extent(h, p, start < *lblk ? *lblk : to);
	}
	err = flip(h, p);
	*lblk = to;
	return err;
}

int ext4_extent_convert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u64 len)
{
	u64 end = lblk + len;
	int err = 0;

	while (lblk < end && !err) {
		struct path p;

		err = ext4_path_find(ei, lblk, &p);
		if (!err)
			err = convert_step(h, &p, &lblk, end);
		ext4_path_put(&p);
	}
	return err;
}

/* ---- moving ---- */

/* The beginning of an extent, [lblk, to), which lies at pblk now, goes over to the neighbour that it continues there. 1: done. */
static int remap_to_left(struct ext4_handle *h, struct path *p, u64 lblk, u64 to, u64 pblk)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at - 1;
	struct ext4_disk_extent *e = entry(leaf, at),
				now = make_extent(lblk, to - lblk, pblk, ext4_extent_unwritten(e));
	int err;

	if (le32_get(e->lblk) != lblk || !at || !continues(e - 1, &now))
		return 0;
	err = ext4_path_join(h, p, p->depth);
	if (err)
		return err;
	e[-1] = both(e - 1, &now);
	if (to < end_of(e)) {
		*e = part(e, to, end_of(e));
	} else {
		entry_remove(leaf, at);
		merge(leaf, at - 1);
	}
	changed(h, leaf);
	return 1;
}

static int remap_whole(struct ext4_handle *h, struct path *p, u64 pblk)
{
	struct node *leaf = leaf_of(p);
	u32 at = leaf->at - 1;
	struct ext4_disk_extent *e = entry(leaf, at);
	int err = ext4_path_join(h, p, p->depth);

	if (err)
		return err;
	*e = make_extent(le32_get(e->lblk), ext4_extent_len(e), pblk, ext4_extent_unwritten(e));
	merge(leaf, at);
	if (at)
		merge(leaf, at - 1);
	changed(h, leaf);
	return 1;
}

/* 1: done. 0: the extent was split, to be looked for anew. */
static int remap_step(struct ext4_handle *h, struct path *p, u64 lblk, u64 end, u64 pblk)
{
	struct node *leaf = leaf_of(p);
	const struct ext4_disk_extent *e = leaf->at ? entry(leaf, leaf->at - 1) : NULL;
	int done;

	if (!e || end_of(e) < end)
		return ext4_path_bad(p->ei, "no extent has the blocks that are to move");
	done = remap_to_left(h, p, lblk, end, pblk);
	if (done)
		return done;
	if (le32_get(e->lblk) < lblk)
		return split_extent(h, p, lblk);
	return end < end_of(e) ? split_extent(h, p, end) : remap_whole(h, p, pblk);
}

int ext4_extent_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk)
{
	int done = 0;

	while (!done) {
		struct path p;

		done = ext4_path_find(ei, lblk, &p);
		if (!done)
			done = remap_step(h, &p, lblk, lblk + len, pblk);
		ext4_path_put(&p);
	}
	return MIN(done, 0);
}
