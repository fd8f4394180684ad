/*
 * Inodes of one subvolume, and their names. A name stands in three places: with its inode (INODE_REF, INODE_EXTREF), and twice in its directory
 * (DIR_ITEM by hash, DIR_INDEX by number). The directory's two lists are compared where the directory is read (files.c); here are its
 * numbered entries against what inodes say: the sum of both is the same. Only where it is not, the tree is walked once more to say which
 * name it is.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

struct ck_inode *btrfs_ck_inode(struct ck *c, struct ck_names *n, u64 ino)
{
	struct ck_inode *i = btrfs_ck_add(&n->inodes, ino);

	if (!i)
		btrfs_ck_oom(c);
	return i;
}

/* ---- each name of an item ---- */

struct one_name {
	u64 dir, index;
	const u8 *name;
	u32 len;
};

/* The next name of an INODE_REF or INODE_EXTREF, the form of which was looked at. */
static bool next_name(const struct ck_item *it, u32 *at, struct one_name *out)
{
	const u8 *p = (const u8 *)it->data + *at;
	const struct btrfs_disk_inode_ref *r = (const void *)p;
	const struct btrfs_disk_inode_extref *x = (const void *)p;

	if (*at >= it->len)
		return false;
	if (it->key.type == BTRFS_KEY_INODE_REF)
		*out = (struct one_name){ it->key.offset, le64_get(r->index), r->name,
					  le16_get(r->name_len) };
	else
		*out = (struct one_name){ le64_get(x->parent), le64_get(x->index), x->name,
					  le16_get(x->name_len) };
	*at = (u32)(out->name + out->len - (const u8 *)it->data);
	return true;
}

void btrfs_ck_name(struct ck *c, struct ck_names *n, const struct ck_item *it)
{
	u64 ino = it->key.objectid;
	struct one_name name;
	struct ck_inode *i;
	struct ck_dir *d;

	/* The root directory's. */
	if (it->key.type == BTRFS_KEY_INODE_REF && it->key.objectid == it->key.offset)
		return;
	i = btrfs_ck_inode(c, n, ino);
	for (u32 at = 0; i && next_name(it, &at, &name);) {
		i->names++;
		i->names_sum += btrfs_ck_name_hash(c, ino, name.dir, name.index, name.name, name.len);
		if (i->type != BTRFS_FT_DIR)
			continue;
		d = btrfs_ck_add(&n->dirs, ino);
		if (!d) {
			btrfs_ck_oom(c);
			return;
		}
		d->parent = name.dir;
	}
}

void btrfs_ck_index(struct ck *c, struct ck_names *n, const struct ck_item *it)
{
	const struct btrfs_disk_dir_item *d = it->data;
	struct btrfs_key to = btrfs_key_get(&d->location);
	u32 type = d->type & ~BTRFS_FT_ENCRYPTED, len = le16_get(d->name_len);
	struct ck_inode *i;
	struct ck_link *l;

	if (to.type == BTRFS_KEY_ROOT_ITEM) {
		l = btrfs_ck_find(&c->links, to.objectid);
		/* In a snapshot the entry stays, and leads nowhere. */
		if (l && l->parent == n->tree->id)
			l->entry_sum += btrfs_ck_name_hash(c, n->tree->id, it->key.objectid, it->key.offset,
							   d->name, len);
		return;
	}
	if (to.objectid == BTRFS_OBJ_EMPTY_SUBVOL)
		return;
	i = btrfs_ck_inode(c, n, to.objectid);
	if (!i)
		return;
	i->entry = true;
	i->entry_types |= (u16)(1u << (type & 15));
	i->names_sum -= btrfs_ck_name_hash(c, to.objectid, it->key.objectid, it->key.offset, d->name, len);
}

/* ---- all names that do not fit ---- */

/* In the bytes of an item with names: is this one there? */
static bool has_name(const struct ck_item *it, const struct one_name *want)
{
	struct one_name name;

	for (u32 at = 0; next_name(it, &at, &name);)
		if (name.dir == want->dir && name.index == want->index && name.len == want->len &&
		    !memcmp(name.name, want->name, want->len))
			return true;
	return false;
}

static bool inode_has(const struct btrfs_root *root, u64 ino, const struct one_name *want)
{
	const struct btrfs_key keys[] = {
		BTRFS_KEY(ino, BTRFS_KEY_INODE_REF, want->dir),
		BTRFS_KEY(ino, BTRFS_KEY_INODE_EXTREF, btrfs_extref_hash(want->dir, want->name, want->len)),
	};
	bool found = false;

	for (u32 i = 0; i < ARRAY_SIZE(keys) && !found; i++) {
		struct btrfs_path p = { 0 };

		if (!btrfs_find(root, &keys[i], &p)) {
			struct ck_item it = { .key = keys[i] };

			it.data = btrfs_path_item(&p, &it.len);
			found = has_name(&it, want);
		}
		btrfs_path_put(&p);
	}
	err_clear();
	return found;
}

static bool dir_has(const struct btrfs_root *root, u64 ino, const struct one_name *want)
{
	struct btrfs_path p = { 0 };
	bool found = false;

	if (!btrfs_find(root, &BTRFS_KEY(want->dir, BTRFS_KEY_DIR_INDEX, want->index), &p)) {
		u32 len;
		const struct btrfs_disk_dir_item *d = btrfs_path_item(&p, &len);

		found = le64_get(d->location.objectid) == ino && le16_get(d->name_len) == want->len &&
			!memcmp(d->name, want->name, want->len);
	}
	btrfs_path_put(&p);
	err_clear();
	return found;
}

struct second {
	struct ck_names *n;
	const struct btrfs_root *root;
};

static bool is_suspect(const struct second *s, u64 ino)
{
	const struct ck_inode *i = btrfs_ck_find(&s->n->inodes, ino);

	return i && i->names_sum && i->here;
}

static void second_look(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct second *s = ctx;
	struct text t = { 0 };
	struct one_name name;

	if (it->key.type == BTRFS_KEY_DIR_INDEX) {
		const struct btrfs_disk_dir_item *d = it->data;
		u64 to = le64_get(d->location.objectid);

		name = (struct one_name){ it->key.objectid, it->key.offset, d->name, le16_get(d->name_len) };
		if (d->location.type != BTRFS_KEY_INODE_ITEM || !is_suspect(s, to) ||
		    inode_has(s->root, to, &name))
			return;
		text_add_name(&t, (const char *)name.name, name.len);
		btrfs_ck_found_inode(c, CK_ENTRY_ALONE, s->n->tree->id, it->key.objectid,
				     "\"%s\", number %llu, of inode %llu", text_str(&t),
				     (unsigned long long)name.index, (unsigned long long)to);
	} else if (it->key.type == BTRFS_KEY_INODE_REF || it->key.type == BTRFS_KEY_INODE_EXTREF) {
		if (!is_suspect(s, it->key.objectid) ||
		    (it->key.type == BTRFS_KEY_INODE_REF && it->key.objectid == it->key.offset))
			return;
		for (u32 at = 0; next_name(it, &at, &name);) {
			if (dir_has(s->root, it->key.objectid, &name))
				continue;
			text_reset(&t);
			text_add_name(&t, (const char *)name.name, name.len);
			btrfs_ck_found_inode(c, CK_NAME_ALONE, s->n->tree->id, it->key.objectid,
					     "\"%s\", number %llu, in directory %llu", text_str(&t),
					     (unsigned long long)name.index, (unsigned long long)name.dir);
		}
	}
	text_free(&t);
}

static void look_again(struct ck *c, struct ck_names *n)
{
	struct second s = { .n = n };
	struct ck_walk w = { n->tree, second_look, &s, 0, 0, 0 };

	if (btrfs_root_get(c->bs, n->tree->id, &s.root)) {
		err_clear();
		return;
	}
	(void)!btrfs_ck_walk(c, &w);
}

/* ---- the end ---- */

/* From every directory up to the root. */
static void check_loops(struct ck *c, struct ck_names *n)
{
	struct ck_dir *d;
	u64 walk = 0;

	for (u64 at = 0; !c->err && (d = btrfs_ck_each(&n->dirs, &at));) {
		struct ck_dir *up = d;
		bool good;

		walk++;
		while (up && !up->seen) {
			up->seen = walk;
			up = btrfs_ck_find(&n->dirs, up->parent);
		}
		good = !up || up->seen != walk;
		if (!good)
			btrfs_ck_found_inode(c, CK_INODE_LOOP, n->tree->id, up->ino, NULL);
	}
}

static void check_inode(struct ck *c, struct ck_names *n, const struct ck_inode *i)
{
	u64 tree = n->tree->id;

	if (!i->here) {
		btrfs_ck_found_inode(c, i->entry ? CK_ENTRY_LOST : CK_INODE_MISSING, tree, i->ino,
				     i->orphan ? "it has an orphan item" : NULL);
		return;
	}
	if (i->entry_types & ~(1u << i->type))
		btrfs_ck_found_inode(c, CK_ENTRY_TYPE, tree, i->ino, NULL);
	if (i->names_sum)
		n->suspects = true;
	if (i->ino == BTRFS_OBJ_FIRST_FREE)
		return;
	if (!i->nlink && !i->names && !i->entry) {
		if (!i->orphan)
			btrfs_ck_found_inode(c, CK_INODE_ORPHAN, tree, i->ino, NULL);
	} else if (!i->names && !i->entry) {
		btrfs_ck_found_inode(c, CK_INODE_LOST, tree, i->ino, NULL);
	} else if (i->nlink != i->names) {
		btrfs_ck_found_inode(c, CK_INODE_LINKS, tree, i->ino, "%u, it has %u names", i->nlink,
				     i->names);
	}
}

void btrfs_ck_names_end(struct ck *c, struct ck_names *n)
{
	const struct ck_inode *i;

	for (u64 at = 0; !c->err && (i = btrfs_ck_each(&n->inodes, &at));)
		check_inode(c, n, i);
	if (!c->err)
		check_loops(c, n);
	if (n->suspects && !c->err)
		look_again(c, n);
}

void btrfs_ck_names_free(struct ck_names *n)
{
	btrfs_ck_table_free(&n->inodes);
	btrfs_ck_table_free(&n->dirs);
}
