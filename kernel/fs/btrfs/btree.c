/*
 * Ways through a tree: search, and steps forward and back from where a search stands.
 *
 *   - A path holds the nodes from the root to a leaf. A step within the leaf touches nothing else; a step to another leaf climbs
 *     to the lowest node that has a pointer left, and descends from there.
 *   - Each node is read as its parent describes it: level, generation, first key. That its last key is below the next pointer of
 *     those above is looked at here. So the ranges of siblings are apart, no node is met twice in one walk, and keys rise.
 *   - Where a subtree cannot be read the path ends above it, node[] below is NULL, and the next step goes past it.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

/* Leaves read ahead of a walk: at its first step to another leaf, and later. */
#define AHEAD_FIRST 4u
#define AHEAD_MORE  16u

void btrfs_path_put(struct btrfs_path *p)
{
	for (u32 i = 0; i < BTRFS_LEVELS; i++) {
		bh_put(p->node[i]);
		p->node[i] = NULL;
	}
	p->ahead = 0;
}

void btrfs_path_putp(struct btrfs_path *p)
{
	btrfs_path_put(p);
}

/* ---- within a node ---- */

/* The key of an entry, of a leaf or of a node above. */
static struct btrfs_key entry_key(const void *node, u32 level, u32 slot)
{
	return btrfs_key_get(level ? &btrfs_ptr(node, slot)->key : &btrfs_item(node, slot)->key);
}

/* The first entry at or after key; nritems: there is none. */
static u32 first_at(const void *node, u32 level, const struct btrfs_key *key, bool *exact)
{
	u32 lo = 0, hi = btrfs_nritems(node);

	*exact = false;
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;
		struct btrfs_key k = entry_key(node, level, mid);
		int cmp = btrfs_key_cmp(&k, key);

		if (!cmp) {
			*exact = true;
			return mid;
		}
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* ---- between nodes ---- */

static u32 path_count(const struct btrfs_path *p, u32 level)
{
	return btrfs_nritems(p->node[level]->data);
}

/* The keys of node[level] end before the next pointer of the lowest node above that has one. */
static int check_range(struct btrfs_path *p, u32 level)
{
	const void *node = p->node[level]->data;
	struct btrfs_key last = entry_key(node, level, btrfs_nritems(node) - 1), bound;

	for (u32 up = level + 1; up <= p->root->level; up++) {
		if (p->slot[up] + 1 >= path_count(p, up))
			continue;
		bound = entry_key(p->node[up]->data, up, p->slot[up] + 1);
		if (btrfs_key_cmp(&last, &bound) < 0)
			return 0;
		return corrupt(&p->root->bs->vfs.health, "tree block",
			       p->node[level]->blk * p->root->bs->node_bytes,
			       "its keys go beyond what its parent says");
	}
	return 0;
}

/* node[level] is what the pointer above it names. */
static int read_child(struct btrfs_path *p, u32 level)
{
	const struct btrfs_disk_ptr *ptr = btrfs_ptr(p->node[level + 1]->data, p->slot[level + 1]);
	const struct btrfs_expect want = {
		.owner = p->root->id,
		.level = level,
		.generation = le64_get(ptr->generation),
		.has_key = true,
		.first = btrfs_key_get(&ptr->key),
	};
	int err = btrfs_node_read(p->root->bs, le64_get(ptr->bytenr), &want, &p->node[level]);

	if (err) {
		p->node[level] = NULL;
		return err;
	}
	err = check_range(p, level);
	if (err) {
		bh_put(p->node[level]);
		p->node[level] = NULL;
	}
	return err;
}

static int read_root(struct btrfs_path *p)
{
	const struct btrfs_root *root = p->root;
	const struct btrfs_expect want = {
		.owner = root->id,
		.level = root->level,
		.generation = root->generation,
	};
	int err = btrfs_node_read(root->bs, root->bytenr, &want, &p->node[root->level]);

	if (err)
		p->node[root->level] = NULL;
	return err;
}

/* Down to `to`, by key. slot[0] is the first item at or after it, or the leaf's end. */
static int descend(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p, u32 to,
		   bool *exact)
{
	u32 level = root->level;
	int err;

	btrfs_path_put(p);
	p->root = root;
	err = read_root(p);
	while (!err) {
		u32 slot = first_at(p->node[level]->data, level, key, exact);

		p->slot[level] = level && !*exact && slot ? slot - 1 : slot;
		if (level <= to)
			break;
		err = read_child(p, --level);
	}
	return err;
}

/* The item that the path stands on can be used. */
static int check_item(const struct btrfs_path *p)
{
	struct btrfs_super *bs = p->root->bs;
	struct btrfs_key key;
	const char *bad;

	if (likely(!atomic_load_explicit(&bs->bad_items, memory_order_relaxed)))
		return 0;
	bad = btrfs_item_wrong(bs, p->node[0]->data, p->slot[0]);
	if (!bad)
		return 0;
	key = btrfs_path_key(p);
	return corrupt(&bs->vfs.health, "tree", p->root->id, "item (%lld %u %llu): %s",
		       (long long)key.objectid, key.type, (unsigned long long)key.offset, bad);
}

static void read_ahead(struct btrfs_path *p, u32 climbed)
{
	struct btrfs_super *bs = p->root->bs;
	u32 next = p->slot[1] + 1, end = next + (p->ahead ? AHEAD_MORE : AHEAD_FIRST);

	if (climbed > 1)
		btrfs_node_ahead(bs, p->node[2]->data, p->slot[2] + 1, 1);
	if (p->ahead && next + AHEAD_MORE / 2 < p->ahead)
		return;
	next = MAX(next, p->ahead);
	btrfs_node_ahead(bs, p->node[1]->data, next, end - next);
	p->ahead = end;
}

/* To another leaf: the first item of the next, the last item of the previous. */
static int step_leaf(struct btrfs_path *p, bool forward)
{
	u32 top = 0, level;
	int err = 0;

	for (level = 1; level <= p->root->level && !top; level++)
		if (p->node[level] &&
		    (forward ? p->slot[level] + 1 < path_count(p, level) : p->slot[level] > 0))
			top = level;
	if (!top)
		return -ENOENT;
	for (level = 0; level < top; level++) {
		bh_put(p->node[level]);
		p->node[level] = NULL;
	}
	p->slot[top] += forward ? 1 : -1u;
	if (top > 1)
		p->ahead = 0;
	for (level = top; level > 0 && !err; level--) {
		if (forward && level == 1)
			read_ahead(p, top);
		err = read_child(p, level - 1);
		if (!err)
			p->slot[level - 1] = forward ? 0 : path_count(p, level - 1) - 1;
	}
	return err;
}

/* ---- searches ---- */

int btrfs_seek(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p)
{
	bool exact;
	int err = descend(root, key, p, 0, &exact);

	if (!err && p->slot[0] >= path_count(p, 0)) {
		err = step_leaf(p, true);
		if (err == -ENOENT)
			btrfs_path_put(p);
	}
	return err ? err : check_item(p);
}

int btrfs_seek_last(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p)
{
	bool exact;
	int err = descend(root, key, p, 0, &exact);

	if (err)
		return err;
	/* Where the leaf begins behind the key there is no leaf before it. */
	if (!exact && !p->slot[0]) {
		btrfs_path_put(p);
		return -ENOENT;
	}
	if (!exact)
		p->slot[0]--;
	return check_item(p);
}

int btrfs_find(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p)
{
	bool exact;
	int err = descend(root, key, p, 0, &exact);

	if (err)
		return err;
	if (exact)
		return check_item(p);
	btrfs_path_put(p);
	return -ENOENT;
}

int btrfs_next(struct btrfs_path *p)
{
	int err = 0;

	if (p->node[0] && p->slot[0] + 1 < path_count(p, 0))
		p->slot[0]++;
	else
		err = step_leaf(p, true);
	return err ? err : check_item(p);
}

int btrfs_prev(struct btrfs_path *p)
{
	int err = 0;

	if (p->node[0] && p->slot[0])
		p->slot[0]--;
	else
		err = step_leaf(p, false);
	return err ? err : check_item(p);
}

void btrfs_ahead(const struct btrfs_root *root, const struct btrfs_key *key, u32 leaves)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	bool exact;

	if (!root->level) {
		if (root->bs->ahead_ok)
			bh_readahead(root->bs->vfs.dev, root->bytenr / root->bs->node_bytes, 1);
		return;
	}
	if (descend(root, key, &p, 1, &exact))
		err_clear();
	else
		btrfs_node_ahead(root->bs, p.node[1]->data, p.slot[1], leaves);
}

/* ---- what a path stands on ---- */

struct btrfs_key btrfs_path_key(const struct btrfs_path *p)
{
	for (u32 level = 0; level <= p->root->level; level++)
		if (p->node[level])
			return entry_key(p->node[level]->data, level, p->slot[level]);
	return BTRFS_KEY(0, 0, 0);
}

const void *btrfs_path_item(const struct btrfs_path *p, u32 *len_bytes)
{
	*len_bytes = btrfs_item_len(p->node[0]->data, p->slot[0]);
	return btrfs_item_data(p->node[0]->data, p->slot[0]);
}
