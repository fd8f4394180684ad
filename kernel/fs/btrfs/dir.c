/*
 * Directories. A name is found by its hash (DIR_ITEM), where names that share it stand in one item; entries are listed in order of the number
 * that each got when it was made (DIR_INDEX), which is also the position in a listing and is never used again. 0 and 1
 * are "." and ".."; the format begins at 2.
 *
 * An entry may lead to a subvolume. It does so only where the root tree says that the subvolume is there (ROOT_REF): a snapshot has the
 * entries of what was nested in its source, but not the subvolumes; the kernel shows an empty directory then, and so do we.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <dirent.h>
#include <errno.h>

#define POS_FIRST 2u

/* -ENOENT: the subvolume is not at this place. */
static int check_nested(const struct btrfs_inode *dir, u64 id, const struct btrfs_disk_dir_item *d)
{
	struct btrfs_super *bs = btrfs_inode_super(dir);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_root_ref *ref;
	u32 len, name_len = le16_get(d->name_len);
	int err = btrfs_find(&bs->tree_root, &BTRFS_KEY(dir->root->id, BTRFS_KEY_ROOT_REF, id), &p);

	if (err)
		return err;
	ref = btrfs_path_item(&p, &len);
	if (le64_get(ref->dirid) != dir->objectid || le16_get(ref->name_len) != name_len ||
	    memcmp(ref->name, d->name, name_len))
		return -ENOENT;
	return 0;
}

/* The inode that an entry leads to. */
static int entry_ino(const struct btrfs_inode *dir, const struct btrfs_disk_dir_item *d, u64 *ino)
{
	struct btrfs_super *bs = btrfs_inode_super(dir);
	struct btrfs_key to = btrfs_key_get(&d->location);
	struct btrfs_place at = { .root = dir->root->id, .objectid = to.objectid };
	const struct btrfs_root *root;
	int err;

	if (to.type == BTRFS_KEY_ROOT_ITEM) {
		err = check_nested(dir, to.objectid, d);
		if (!err)
			err = btrfs_root_get(bs, to.objectid, &root);
		if (err && err != -ENOENT)
			return err;
		at = err ? (struct btrfs_place){ dir->root->id, dir->objectid, to.objectid }
			 : (struct btrfs_place){ .root = to.objectid, .objectid = root->dirid };
	} else if (to.objectid == BTRFS_OBJ_EMPTY_SUBVOL) {
		at = (struct btrfs_place){ dir->root->id, dir->objectid, BTRFS_OBJ_EMPTY_SUBVOL };
	}
	return btrfs_ino(bs, &at, ino);
}

/* ".." of a directory; of the shown subvolume's root, and of one that nobody names: itself. */
static int parent_ino(const struct btrfs_inode *dir, u64 *ino)
{
	struct btrfs_super *bs = btrfs_inode_super(dir);
	struct btrfs_place at = { .root = dir->root->id, .objectid = dir->objectid };
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	char name[BTRFS_NAME_MAX + 1];
	struct btrfs_key key;
	int err = 0;

	if (btrfs_is_top(dir)) {
		if (dir->root != bs->top)
			err = btrfs_root_parent(bs, dir->root->id, &at.root, &at.objectid, name);
	} else if (!dir->placeholder) {
		err = btrfs_seek(dir->root, &BTRFS_KEY(dir->objectid, BTRFS_KEY_INODE_REF, 0), &p);
		key = btrfs_path_key(&p);
		if (!err && (key.objectid != dir->objectid || key.type != BTRFS_KEY_INODE_REF))
			err = -ENOENT;
		at.objectid = key.offset;
	}
	if (err == -ENOENT)
		*ino = dir->vfs.ino;
	return err ? (err == -ENOENT ? 0 : err) : btrfs_ino(bs, &at, ino);
}

int btrfs_lookup(struct inode *inode, const struct name *name, u64 *ino)
{
	const struct btrfs_inode *dir = btrfs_inode(inode);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_dir_item *d;
	const void *item;
	u32 len;
	int err;

	if (name->len == 1 && name->s[0] == '.') {
		*ino = inode->ino;
		return 0;
	}
	if (name->len == 2 && name->s[0] == '.' && name->s[1] == '.')
		return parent_ino(dir, ino);
	if (dir->placeholder)
		return -ENOENT;
	err = btrfs_find(dir->root,
			 &BTRFS_KEY(dir->objectid, BTRFS_KEY_DIR_ITEM, btrfs_name_hash(name->s, name->len)),
			 &p);
	if (err)
		return err;
	item = btrfs_path_item(&p, &len);
	d = btrfs_dir_item_find(item, len, name->s, name->len);
	return d ? entry_ino(dir, d, ino) : -ENOENT;
}

/* ---- listing ---- */

static u8 entry_type(const struct btrfs_disk_dir_item *d)
{
	static const u8 type[] = { DT_UNKNOWN, DT_REG, DT_DIR, DT_CHR, DT_BLK, DT_FIFO, DT_SOCK, DT_LNK };
	u32 t = d->type & ~BTRFS_FT_ENCRYPTED;

	return t < ARRAY_SIZE(type) ? type[t] : DT_UNKNOWN;
}

static int emit_dots(const struct btrfs_inode *dir, u64 pos, dirent_fn emit, void *ctx)
{
	struct dirent_out out = { .name = NAME("."), .ino = dir->vfs.ino, .next_pos = 1, .type = DT_DIR };
	int err = pos < 1 ? emit(ctx, &out) : 0;

	if (err || pos >= POS_FIRST)
		return err;
	out.name = NAME("..");
	out.next_pos = POS_FIRST;
	/* That the parent cannot be found hides nothing. */
	if (parent_ino(dir, &out.ino))
		out.ino = dir->vfs.ino;
	return emit(ctx, &out);
}

/* The entry that the path stands on. */
static int emit_entry(const struct btrfs_inode *dir, const struct btrfs_path *p, dirent_fn emit, void *ctx,
		      bool *left_out)
{
	u64 index = btrfs_path_key(p).offset;
	const struct btrfs_disk_dir_item *d;
	struct dirent_out out;
	u32 len;

	d = btrfs_path_item(p, &len);
	out = (struct dirent_out){ .name = { (const char *)d->name, le16_get(d->name_len) },
				   .next_pos = index + 1,
				   .type = entry_type(d) };
	if (index >= INT64_MAX || entry_ino(dir, d, &out.ino)) {
		*left_out = true;
		return 0;
	}
	return emit(ctx, &out);
}

int btrfs_readdir(struct inode *inode, u64 pos, dirent_fn emit, void *ctx)
{
	const struct btrfs_inode *dir = btrfs_inode(inode);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	bool left_out = false;
	int err = emit_dots(dir, pos, emit, ctx);

	if (err || dir->placeholder)
		return MIN(err, 0);
	err = btrfs_seek(dir->root, &BTRFS_KEY(dir->objectid, BTRFS_KEY_DIR_INDEX, MAX(pos, (u64)POS_FIRST)),
			 &p);
	for (; err != -ENOENT; err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);

		if (key.objectid > dir->objectid ||
		    (key.objectid == dir->objectid && key.type > BTRFS_KEY_DIR_INDEX))
			break;
		if (err == -EUCLEAN || err == -EIO) {
			left_out = true;
			continue;
		}
		if (err)
			return err;
		err = emit_entry(dir, &p, emit, ctx, &left_out);
		if (err)
			return MIN(err, 0);
	}
	if (left_out)
		return fail(-EUCLEAN,
			    "directory %llu of subvolume %llu is damaged: some of its entries are not shown",
			    (unsigned long long)dir->objectid, (unsigned long long)dir->root->id);
	return 0;
}
