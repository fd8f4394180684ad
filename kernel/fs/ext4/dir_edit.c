/*
 * Directories that change: a name goes in, goes, or comes to mean another inode.
 *
 *   - Who calls knows what is there: names that are added are not, names that are taken or changed are.
 *   - A directory that was found damaged is not changed: -EUCLEAN.
 *   - A plain directory is filled from ei->room_at on: where the last name found room, or one went since. So a directory
 *     that grows is not looked through for each name; what is left before is looked for when the disk is full.
 *   - A directory of one block that is full becomes hashed where the volume has dir_index. A longer one never does.
 *   - Blocks are not given back while the directory lives.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

/* Whether the directory may be changed at all. */
static int check_change(const struct ext4_inode *dir)
{
	struct ext4_super *es = ext4_inode_super(dir);
	unsigned long long ino = dir->vfs.ino;

	if (dir->flags & EXT4_FL_CASEFOLD && !ext4_dir_folds(dir))
		return fail(-EUCLEAN, "directory %llu is not to regard case, which the volume does not know",
			    ino);
	if (atomic_load_explicit(&dir->holes_in_dir, memory_order_relaxed) ||
	    atomic_load_explicit(&dir->index_bad, memory_order_relaxed) ||
	    (dir->flags & EXT4_FL_INDEX && !ext4_dir_is_indexed(dir) && es->metadata_csum))
		return fail(-EUCLEAN, "directory %llu is damaged: it is not changed before it is repaired",
			    ino);
	return 0;
}

/* The blocks of the index read as room for names, and are that from now on. */
static void index_drop(struct ext4_inode *dir)
{
	dir->flags &= ~EXT4_FL_INDEX;
	mutex_lock(&dir->vfs.attr);
	dir->vfs.flags &= ~EXT4_FL_INDEX;
	mutex_unlock(&dir->vfs.attr);
}

/* ---- plain directories ---- */

/* A block from `lblk` on with room, joined. -ENOENT: there is none. */
static int linear_room(struct ext4_handle *h, struct ext4_inode *dir, u64 lblk, u32 need,
		       struct buffer_head **bh, u32 *off)
{
	u64 blocks = ext4_size(dir) >> h->es->block_bits;
	const char *bad;

	for (; lblk < blocks; lblk++) {
		int err = ext4_dir_block(dir, lblk, true, bh);

		if (err == -ENOENT)
			continue;
		if (err)
			return err;
		if (ext4_leaf_room(h->es, (*bh)->data, need, off, &bad)) {
			dir->room_at = (u32)lblk;
			return ext4_access(h, *bh);
		}
		bh_put(take(*bh));
		if (bad)
			return corrupt(&h->es->vfs.health, "directory", dir->vfs.ino, "%s", bad);
	}
	return -ENOENT;
}

static int linear_grow(struct ext4_handle *h, struct ext4_inode *dir, u32 need, struct buffer_head **bh,
		       u32 *off)
{
	int err = ext4_dir_append(h, dir, bh);

	*off = 0;
	if (!err)
		dir->room_at = (u32)(ext4_size(dir) >> h->es->block_bits) - 1;
	else if (err == -ENOSPC && linear_room(h, dir, 0, need, bh, off) == 0)
		err = 0;
	return err;
}

static bool may_become_hashed(const struct ext4_handle *h, const struct ext4_inode *dir)
{
	return ext4_has_compat(h->es, EXT4_COMPAT_DIR_INDEX) && ext4_size(dir) >> h->es->block_bits == 1 &&
	       h->es->disk.def_hash_version <= EXT4_HASH_TEA;
}

static int linear_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u32 ino,
		      u8 type)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 need = ext4_dirent_bytes(name->len), off;
	int err = linear_room(h, dir, dir->room_at, need, &bh, &off);

	if (err == -ENOENT && may_become_hashed(h, dir)) {
		ext4_dir_filter_make(dir);
		err = ext4_htree_make(h, dir);
		return err ? err : ext4_htree_add(h, dir, name, ino, type);
	}
	if (err == -ENOENT)
		err = linear_grow(h, dir, need, &bh, &off);
	if (err)
		return err;
	ext4_leaf_add(h->es, bh->data, off, name, ino, type);
	ext4_dirty(h, bh);
	return 0;
}

/* ---- all ---- */

int ext4_dir_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u64 ino, u32 mode)
{
	u8 type = ext4_dirent_type(h->es, mode);
	int err = check_change(dir);

	if (err)
		return err;
	if (ext4_dir_name_refused(dir, name))
		return fail(-EINVAL, "directory %llu has no names that are not UTF-8",
			    (unsigned long long)dir->vfs.ino);
	if (dir->flags & EXT4_FL_INLINE_DATA) {
		err = ext4_inline_dir_add(h, dir, name, (u32)ino, type);
		if (!err)
			err = ext4_inline_dir_move(h, dir);
	}
	if (err)
		return MIN(err, 0);
	if (dir->flags & EXT4_FL_INDEX && !ext4_dir_is_indexed(dir))
		index_drop(dir);
	err = ext4_dir_is_indexed(dir) ? ext4_htree_add(h, dir, name, (u32)ino, type)
				       : linear_add(h, dir, name, (u32)ino, type);
	if (!err)
		ext4_dir_filter_put(dir, name);
	return err;
}

/* The record of a name that must be there, its block, if it is in one, joined. */
static int find(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, struct ext4_place *at)
{
	int found, err = check_change(dir);

	if (err)
		return err;
	found = ext4_dir_find(dir, name, at);
	if (!found)
		return corrupt(&h->es->vfs.health, "directory", dir->vfs.ino, "the name \"%.*s\" is gone",
			       (int)name->len, name->s);
	if (found < 0)
		return found;
	err = check_change(dir);
	return err || !at->bh ? err : ext4_access(h, at->bh);
}

int ext4_dir_join(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name)
{
	scoped(ext4_place_put) struct ext4_place at = { 0 };

	return find(h, dir, name, &at);
}

int ext4_dir_del(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name)
{
	scoped(ext4_place_put) struct ext4_place at = { 0 };
	int err = find(h, dir, name, &at);

	if (err)
		return err;
	if (!at.bh)
		return ext4_inline_dir_change(h, dir, &at, 0, 0);
	ext4_leaf_del(h->es, at.bh->data, at.off, at.prev);
	ext4_dirty(h, at.bh);
	dir->room_at = (u32)MIN((u64)dir->room_at, at.lblk);
	return 0;
}

int ext4_dir_set(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u64 ino, u32 mode)
{
	scoped(ext4_place_put) struct ext4_place at = { 0 };
	struct ext4_disk_dirent *de;
	int err = find(h, dir, name, &at);

	if (err)
		return err;
	if (!at.bh)
		return ext4_inline_dir_change(h, dir, &at, (u32)ino, ext4_dirent_type(h->es, mode));
	de = (void *)((u8 *)at.bh->data + at.off);
	de->inode = le32_put((u32)ino);
	de->file_type = ext4_dirent_type(h->es, mode);
	ext4_dirty(h, at.bh);
	return 0;
}

/* 1: no name but "." and ".." in these records. */
static int region_is_empty(struct ext4_inode *dir, const void *p, u32 len, u64 lblk)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;

	ext4_dirent_iter(&it, p, len, ext4_block_bytes(ext4_inode_super(dir)));
	while ((de = ext4_dirent_next(&it, &bad)))
		if (le32_get(de->inode) &&
		    (lblk || !ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len)))
			return 0;
	return bad ? corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino, "%s", bad) : 1;
}

int ext4_dir_is_empty(struct ext4_inode *dir)
{
	u64 blocks = ext4_size(dir) >> ext4_inode_super(dir)->block_bits;
	struct ext4_inline_dir d;
	int empty = 1;

	if (dir->flags & EXT4_FL_INLINE_DATA) {
		int err = ext4_inline_dir_get(dir, &d);

		if (err)
			return err;
		for (u32 i = 0; i < ARRAY_SIZE(d.region) && empty > 0; i++)
			empty = region_is_empty(dir, d.region[i].p, d.region[i].len, 1);
		ext4_inline_put(&d.in);
		return empty;
	}
	for (u64 lblk = 0; lblk < blocks && empty > 0; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		int err = ext4_dir_block(dir, lblk, true, &bh);

		if (!err)
			empty = region_is_empty(dir, bh->data, bh->size_bytes, lblk);
		else if (err != -ENOENT)
			return err;
	}
	return empty;
}
