/* The root tree: which trees there are, and what it says of where subvolumes are. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

static void take_root(struct ck *c, const struct ck_item *it)
{
	struct ck_root *r;

	if (c->roots == c->roots_room) {
		u32 room = c->roots_room * 2 + 32;
		struct ck_root *more = realloc(c->root, room * sizeof(*more));

		if (!more) {
			btrfs_ck_oom(c);
			return;
		}
		c->root = more;
		c->roots_room = room;
	}
	r = &c->root[c->roots++];
	*r = (struct ck_root){ .id = it->key.objectid, .key_offset = it->key.offset };
	memcpy(&r->item, it->data, MIN(it->len, (u32)sizeof(r->item)));
}

static void take_link(struct ck *c, const struct ck_item *it)
{
	const struct btrfs_disk_root_ref *d = it->data;
	bool back = it->key.type == BTRFS_KEY_ROOT_BACKREF;
	u64 child = back ? it->key.objectid : it->key.offset,
	    parent = back ? it->key.offset : it->key.objectid;
	struct ck_link *l = btrfs_ck_add(&c->links, child);
	u64 h;

	if (!l) {
		btrfs_ck_oom(c);
		return;
	}
	h = btrfs_ck_name_hash(c, parent, le64_get(d->dirid), le64_get(d->sequence), d->name,
			       le16_get(d->name_len));
	if (back) {
		l->backrefs++;
		l->backref_sum += h;
	} else {
		l->refs++;
		l->parent = parent;
		l->ref_sum += h;
	}
}

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	(void)ctx;
	switch (it->key.type) {
	case BTRFS_KEY_ROOT_ITEM:
		take_root(c, it);
		break;
	case BTRFS_KEY_ROOT_REF:
	case BTRFS_KEY_ROOT_BACKREF:
		take_link(c, it);
		break;
	case BTRFS_KEY_ORPHAN_ITEM:
		if (it->key.objectid == BTRFS_OBJ_ORPHAN && btrfs_ck_root(c, it->key.offset))
			btrfs_ck_root(c, it->key.offset)->orphan = true;
		break;
	case BTRFS_KEY_TEMPORARY_ITEM:
		if (it->key.objectid == BTRFS_OBJ_BALANCE)
			btrfs_ck_found(c, CK_UNFINISHED, "tree", BTRFS_TREE_ROOT, NULL, "a balance");
		break;
	}
}

static void must_be(struct ck *c, u64 id)
{
	struct text name = { 0 };

	if (btrfs_ck_root(c, id))
		return;
	btrfs_ck_tree_name(c, id, &name);
	btrfs_ck_found(c, CK_TREE, "tree", id, text_str(&name), NULL);
	text_free(&name);
}

void btrfs_ck_roots(struct ck *c)
{
	struct ck_tree t;
	struct ck_walk w = { &t, take_item, NULL, 0, 0, 0 };
	u64 compat_ro = le64_get(c->bs->disk.compat_ro);

	(void)!btrfs_ck_tree_find(c, BTRFS_TREE_ROOT, &t);
	(void)!btrfs_ck_walk(c, &w);
	c->roots_partial = !btrfs_ck_whole(c, &w, "trees that it names");
	c->refs_partial |= c->roots_partial;
	if (c->roots_partial)
		return;
	must_be(c, BTRFS_TREE_EXTENT);
	must_be(c, BTRFS_TREE_DEV);
	must_be(c, BTRFS_TREE_FS);
	must_be(c, BTRFS_TREE_CSUM);
	if (compat_ro & BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID)
		must_be(c, BTRFS_TREE_FREE_SPACE);
	if (compat_ro & BTRFS_COMPAT_RO_BLOCK_GROUP_TREE)
		must_be(c, BTRFS_TREE_BLOCK_GROUP);
}

/* ---- after all subvolumes were walked ---- */

static void check_links(struct ck *c, const struct ck_link *l)
{
	const struct ck_root *r = btrfs_ck_root(c, l->id);
	struct text name = { 0 };

	btrfs_ck_tree_name(c, l->id, &name);
	if (!r)
		btrfs_ck_found(c, CK_ROOT_REF, "subvolume", l->id, NULL, "the subvolume is not there");
	else if (l->refs != 1 || l->backrefs != 1 || l->ref_sum != l->backref_sum)
		btrfs_ck_found(c, CK_ROOT_REF, "subvolume", l->id, text_str(&name),
			       "%u ROOT_REF and %u ROOT_BACKREF", l->refs, l->backrefs);
	else if (!c->refs_partial && l->entry_sum != l->ref_sum)
		btrfs_ck_found(c, CK_ROOT_NAME, "subvolume", l->id, text_str(&name), NULL);
	text_free(&name);
}

void btrfs_ck_subvolumes(struct ck *c)
{
	const struct ck_link *l;

	if (c->roots_partial)
		return;
	for (u64 at = 0; !c->err && (l = btrfs_ck_each(&c->links, &at));)
		check_links(c, l);
	for (u32 i = 0; i < c->roots && !c->err; i++) {
		const struct ck_root *r = &c->root[i];

		if (!btrfs_is_subvol(r->id) || r->id == BTRFS_TREE_FS)
			continue;
		if (!le32_get(r->item.refs) && !r->orphan)
			btrfs_ck_found(c, CK_ROOT_ORPHAN, "subvolume", r->id, NULL, NULL);
		if (le32_get(r->item.refs) && !btrfs_ck_find(&c->links, r->id))
			btrfs_ck_found(c, CK_ROOT_LOST, "subvolume", r->id, NULL, NULL);
	}
}
