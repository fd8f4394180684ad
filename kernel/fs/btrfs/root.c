/*
 * Trees by id, and subvolumes by name and path.
 *
 * A tree is found in the root tree once and stays in memory, in a small hash table, until the unmount. A subvolume's name stands in its
 * parent (directory entry) and in the root tree (ROOT_BACKREF); the latter is believed here, so that paths can be told without reading
 * the parents' directories twice.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

/* Longer paths of subvolumes, and deeper ones, are cut: they can be a circle. */
#define PATH_STEPS_MAX 512u

/* ---- trees ---- */

static void root_fill(struct btrfs_root *r, const void *item, u32 len)
{
	memcpy(&r->item, item, MIN(len, (u32)sizeof(r->item)));
	/* An old kernel that wrote the item did not know what follows generation_v2. */
	if (le64_get(r->item.generation_v2) != le64_get(r->item.generation))
		memset(&r->item.generation_v2, 0,
		       sizeof(r->item) - offsetof(struct btrfs_disk_root, generation_v2));
	r->bytenr = le64_get(r->item.bytenr);
	r->generation = le64_get(r->item.generation);
	r->level = r->item.level;
	/* What the item says of it is always this, or of no account: other trees have no directories. */
	r->dirid = BTRFS_OBJ_FIRST_FREE;
	r->flags = le64_get(r->item.flags);
}

static int root_load(struct btrfs_super *bs, u64 id, struct btrfs_root **out)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	struct btrfs_root *r;
	struct btrfs_key key;
	const void *item;
	u32 len;
	int err = btrfs_seek_last(&bs->tree_root, &BTRFS_KEY(id, BTRFS_KEY_ROOT_ITEM, ~0ull), &p);

	if (err)
		return err;
	key = btrfs_path_key(&p);
	if (key.objectid != id || key.type != BTRFS_KEY_ROOT_ITEM)
		return -ENOENT;
	r = calloc(1, sizeof(*r));
	if (!r)
		return fail(-ENOMEM, "no memory for a tree");
	r->bs = bs;
	r->id = id;
	item = btrfs_path_item(&p, &len);
	root_fill(r, item, len);
	*out = r;
	return 0;
}

int btrfs_root_get(struct btrfs_super *bs, u64 id, const struct btrfs_root **out)
{
	struct btrfs_root **bucket = &bs->roots[id % ARRAY_SIZE(bs->roots)], *r;
	int err = 0;

	if (id == BTRFS_TREE_ROOT || id == BTRFS_TREE_CHUNK) {
		*out = id == BTRFS_TREE_ROOT ? &bs->tree_root : &bs->chunk_root;
		return 0;
	}
	mutex_lock(&bs->roots_lock);
	for (r = *bucket; r && r->id != id; r = r->hash_next)
		;
	if (!r) {
		err = root_load(bs, id, &r);
		if (!err) {
			r->hash_next = *bucket;
			*bucket = r;
		}
	}
	mutex_unlock(&bs->roots_lock);
	if (!err)
		*out = r;
	return err;
}

void btrfs_roots_free(struct btrfs_super *bs)
{
	for (u32 i = 0; i < ARRAY_SIZE(bs->roots); i++)
		while (bs->roots[i]) {
			struct btrfs_root *next = bs->roots[i]->hash_next;

			free(bs->roots[i]);
			bs->roots[i] = next;
		}
}

/* ---- names of subvolumes ---- */

int btrfs_root_parent(struct btrfs_super *bs, u64 id, u64 *parent, u64 *dirid, char *name)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_root_ref *d;
	struct btrfs_key key;
	u32 len;
	int err = btrfs_seek(&bs->tree_root, &BTRFS_KEY(id, BTRFS_KEY_ROOT_BACKREF, 0), &p);

	if (err)
		return err;
	key = btrfs_path_key(&p);
	if (key.objectid != id || key.type != BTRFS_KEY_ROOT_BACKREF)
		return -ENOENT;
	d = btrfs_path_item(&p, &len);
	*parent = key.offset;
	*dirid = le64_get(d->dirid);
	memcpy(name, d->name, le16_get(d->name_len));
	name[le16_get(d->name_len)] = 0;
	return 0;
}

/* What a name means in a directory: an inode of the tree, or another tree. */
static int entry_find(const struct btrfs_root *root, u64 dirid, const char *name, u32 name_len,
		      struct btrfs_key *location)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_dir_item *d;
	const void *item;
	u32 len;
	int err =
		btrfs_find(root, &BTRFS_KEY(dirid, BTRFS_KEY_DIR_ITEM, btrfs_name_hash(name, name_len)), &p);

	if (err)
		return err;
	item = btrfs_path_item(&p, &len);
	d = btrfs_dir_item_find(item, len, name, name_len);
	if (!d)
		return -ENOENT;
	*location = btrfs_key_get(&d->location);
	return 0;
}

int btrfs_root_default(struct btrfs_super *bs, u64 *id)
{
	static const char word[] = "default";
	struct btrfs_key location;
	int err = entry_find(&bs->tree_root, le64_get(bs->disk.root_dir_objectid), word, sizeof(word) - 1,
			     &location);

	if (err && err != -ENOENT)
		return err;
	*id = err ? BTRFS_TREE_FS : location.objectid;
	return 0;
}

static int no_subvol(const char *path)
{
	return fail(-ENOENT, "there is no subvolume \"%s\"", path);
}

int btrfs_root_by_path(struct btrfs_super *bs, const char *path, u64 *id)
{
	const struct btrfs_root *root;
	struct btrfs_key at;
	const char *s = path;
	int err = btrfs_root_get(bs, BTRFS_TREE_FS, &root);

	if (err)
		return err == -ENOENT ? fail(-ENOENT, "the volume has no top level") : err;
	at = BTRFS_KEY(root->dirid, BTRFS_KEY_ROOT_ITEM, 0);
	*id = BTRFS_TREE_FS;
	while (*(s += strspn(s, "/"))) {
		u32 len = (u32)strcspn(s, "/");

		err = len > BTRFS_NAME_MAX ? -ENOENT : entry_find(root, at.objectid, s, len, &at);
		if (!err && at.type == BTRFS_KEY_ROOT_ITEM) {
			*id = at.objectid;
			err = btrfs_root_get(bs, *id, &root);
			if (!err)
				at = BTRFS_KEY(root->dirid, BTRFS_KEY_ROOT_ITEM, 0);
		}
		if (err)
			return err == -ENOENT ? no_subvol(path) : err;
		s += len;
	}
	if (at.type != BTRFS_KEY_ROOT_ITEM)
		return fail(-EINVAL, "\"%s\" is not a subvolume", path);
	return 0;
}

/* ---- paths of subvolumes ---- */

/* One more name in front of `out`. */
static void prepend(struct text *out, const char *name, size_t len)
{
	struct text t = { 0 };

	text_add_bytes(&t, name, len);
	if (out->len_bytes) {
		text_add(&t, "/");
		text_add_bytes(&t, text_str(out), out->len_bytes);
	}
	text_free(out);
	*out = t;
}

/* The names from a subvolume's root directory to one of its directories. steps is counted down. */
static int prepend_dirs(const struct btrfs_root *root, u64 dirid, struct text *out, u32 *steps)
{
	while (dirid != root->dirid) {
		scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
		const struct btrfs_disk_inode_ref *d;
		struct btrfs_key key;
		u32 len;
		int err;

		if (!*steps || !--*steps)
			return -ELOOP;
		err = btrfs_seek(root, &BTRFS_KEY(dirid, BTRFS_KEY_INODE_REF, 0), &p);
		if (err)
			return err;
		key = btrfs_path_key(&p);
		if (key.objectid != dirid || key.type != BTRFS_KEY_INODE_REF)
			return -ENOENT;
		d = btrfs_path_item(&p, &len);
		prepend(out, (const char *)d->name, le16_get(d->name_len));
		dirid = key.offset;
	}
	return 0;
}

/* What stands in `out`, a path from a subvolume's root directory, becomes one from the top level. */
static int prepend_subvols(struct btrfs_super *bs, u64 id, struct text *out, u32 *steps)
{
	char name[BTRFS_NAME_MAX + 1];
	u64 parent, dirid;
	int err = 0;

	while (id != BTRFS_TREE_FS && !err) {
		const struct btrfs_root *root;

		err = *steps && --*steps ? btrfs_root_parent(bs, id, &parent, &dirid, name) : -ELOOP;
		if (!err)
			prepend(out, name, strlen(name));
		if (!err)
			err = btrfs_root_get(bs, parent, &root);
		if (!err)
			err = prepend_dirs(root, dirid, out, steps);
		id = parent;
	}
	return err;
}

static int path_end(struct text *out, int err)
{
	if (err == -ENOMEM || out->oom)
		return fail(-ENOMEM, "no memory for a path");
	if (err) {
		err_clear();
		prepend(out, "?", 1);
	}
	return 0;
}

int btrfs_root_path(struct btrfs_super *bs, u64 id, struct text *out)
{
	u32 steps = PATH_STEPS_MAX;

	text_reset(out);
	return path_end(out, prepend_subvols(bs, id, out, &steps));
}

int btrfs_file_path(struct btrfs_super *bs, const struct btrfs_root *root, u64 ino, struct text *out)
{
	u32 steps = PATH_STEPS_MAX;
	int err;

	text_reset(out);
	err = prepend_dirs(root, ino, out, &steps);
	if (!err)
		err = prepend_subvols(bs, root->id, out, &steps);
	return path_end(out, err);
}
