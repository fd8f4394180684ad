/*
 * Directories inside their inode that change. A name that goes, or comes to mean another inode, is changed where it stands. One that comes goes
 * where a region has room; the second region comes with the first name that needs it, as large as it can be. When both are full the
 * directory moves to a block, and stays there.
 *
 *   - The parent is a number at the beginning of i_block; "." has no record.
 *   - The second region lies in the inode's table block, whose lock guards the bytes of all inodes in it.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define PARENT_BYTES 4u
#define DATA_NAME    "data"

/* ---- in place ---- */

static void change_record(const struct ext4_super *es, u8 *base, const struct ext4_place *at, u32 ino,
			  u8 type)
{
	struct ext4_disk_dirent *de = (void *)(base + at->off);

	if (!ino) {
		ext4_leaf_del(es, base, at->off, at->prev);
		return;
	}
	de->inode = le32_put(ino);
	de->file_type = type;
}

/* The second region of a directory in its inode, as it lies in the slot. */
struct slot {
	struct buffer_head *bh; /* locked */
	struct ext4_disk_inode *raw;
	u8 *region;
};

/* Ended by slot_done, in which the slot gets its checksum. */
static int slot_open(struct ext4_handle *h, struct ext4_inode *dir, struct slot *s)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_inline_dir d;
	int err = ext4_inode_slot(h, dir->vfs.ino, &bh, &s->raw);

	if (!err)
		err = ext4_inline_dir_get(dir, &d);
	if (err)
		return err;
	s->region = (u8 *)bh->data + (d.region[1].p - (const u8 *)bh->data);
	ext4_inline_put(&d.in);
	s->bh = take(bh);
	bh_lock(s->bh);
	return 0;
}

static void slot_done(struct ext4_handle *h, struct ext4_inode *dir, struct slot *s)
{
	ext4_inode_slot_done(h, dir->vfs.ino, s->bh, s->raw);
	bh_put(s->bh);
}

static int change_in_slot(struct ext4_handle *h, struct ext4_inode *dir, const struct ext4_place *at, u32 ino,
			  u8 type)
{
	struct slot s;
	int err = slot_open(h, dir, &s);

	if (err)
		return err;
	change_record(h->es, s.region, at, ino, type);
	slot_done(h, dir, &s);
	return 0;
}

int ext4_inline_dir_change(struct ext4_handle *h, struct ext4_inode *dir, const struct ext4_place *at,
			   u32 ino, u8 type)
{
	const le32 parent = le32_put(ino);

	if (at->lblk == EXT4_INLINE_SECOND)
		return change_in_slot(h, dir, at, ino, type);
	rw_write_lock(&dir->tree);
	if (at->lblk == EXT4_INLINE_PARENT)
		memcpy(dir->block, &parent, PARENT_BYTES);
	else
		change_record(h->es, dir->block + PARENT_BYTES, at, ino, type);
	rw_write_unlock(&dir->tree);
	return ext4_inode_write(h, dir);
}

/* ---- a name comes ---- */

/* A region that has room, and where; -1: none. What of it is changed then is found anew, under its lock. */
static int find_room(struct ext4_inode *dir, u32 need, u32 *off)
{
	struct ext4_super *es = ext4_inode_super(dir);
	int err, region = -1;
	const char *bad = NULL;
	struct ext4_inline_dir d;

	err = ext4_inline_dir_get(dir, &d);
	if (err)
		return err;
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && region < 0 && !bad; i++)
		if (d.region[i].len && ext4_region_room(es, d.region[i].p, d.region[i].len, need, off, &bad))
			region = (int)i;
	ext4_inline_put(&d.in);
	if (bad && region < 0)
		return corrupt(&es->vfs.health, "directory", dir->vfs.ino, "%s", bad);
	return region < 0 ? -ENOSPC : region;
}

/* The second region, empty, where there is none yet. 0: there is one, or it would not be large enough. */
static int make_second(struct ext4_handle *h, struct ext4_inode *dir, u32 need)
{
	scoped(freep) struct ext4_disk_dirent *de = NULL;
	u32 bytes;
	int err;

	if (ext4_size(dir) > EXT4_IBLOCK_BYTES)
		return 0;
	err = ext4_xattr_room(dir, EXT4_XATTR_SYSTEM, DATA_NAME, sizeof(DATA_NAME) - 1, &bytes);
	if (err || bytes < need)
		return err;
	de = calloc(1, bytes);
	if (!de)
		return fail(-ENOMEM, "no memory for a directory");
	de->rec_len = ext4_rec_len_put(bytes);
	err = ext4_xattr_set(h, dir, EXT4_XATTR_SYSTEM, DATA_NAME, sizeof(DATA_NAME) - 1, de, bytes, 0);
	if (err)
		return err == -ENOSPC ? 0 : err;
	atomic_store_explicit(&dir->vfs.size_bytes, EXT4_IBLOCK_BYTES + bytes, memory_order_relaxed);
	return 1;
}

static int add_in_slot(struct ext4_handle *h, struct ext4_inode *dir, u32 off, const struct name *name,
		       u32 ino, u8 type)
{
	struct slot s;
	int err = slot_open(h, dir, &s);

	if (err)
		return err;
	ext4_leaf_add(h->es, s.region, off, name, ino, type);
	slot_done(h, dir, &s);
	return 0;
}

int ext4_inline_dir_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u32 ino,
			u8 type)
{
	u32 need = ext4_dirent_bytes(name->len), off = 0;
	int err = 0, region = find_room(dir, need, &off);

	if (region == -ENOSPC) {
		region = make_second(h, dir, need);
		if (region <= 0)
			return region;
		off = 0;
	}
	if (region < 0)
		return region;
	if (region) {
		err = add_in_slot(h, dir, off, name, ino, type);
	} else {
		rw_write_lock(&dir->tree);
		ext4_leaf_add(h->es, dir->block + PARENT_BYTES, off, name, ino, type);
		rw_write_unlock(&dir->tree);
	}
	if (!err)
		err = ext4_inode_write(h, dir);
	return err ? ext4_abort(h->es, err) : 1;
}

/* ---- to a block ---- */

/* The records of a region go into the leaf. */
static const char *move_region(const struct ext4_super *es, const u8 *p, u32 len, void *leaf)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad, *full;
	u32 off;

	ext4_dirent_iter(&it, p, len, ext4_block_bytes(es));
	while ((de = ext4_dirent_next(&it, &bad))) {
		const struct name name = { ext4_dirent_name(de), de->name_len };

		if (!le32_get(de->inode))
			continue;
		if (!ext4_leaf_room(es, leaf, ext4_dirent_bytes(name.len), &off, &full))
			return "more names than a block has room for";
		ext4_leaf_add(es, leaf, off, &name, le32_get(de->inode), de->file_type);
	}
	return bad;
}

/* The directory as a leaf. */
static int make_leaf(struct ext4_inode *dir, void *leaf)
{
	struct ext4_super *es = ext4_inode_super(dir);
	const char *bad = NULL;
	struct ext4_inline_dir d;
	int err = ext4_inline_dir_get(dir, &d);

	if (err)
		return err;
	ext4_leaf_top(es, leaf, (u32)dir->vfs.ino, (u32)d.parent);
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && !bad; i++)
		bad = move_region(es, d.region[i].p, d.region[i].len, leaf);
	ext4_inline_put(&d.in);
	return bad ? corrupt(&es->vfs.health, "directory", dir->vfs.ino, "%s", bad) : 0;
}

/* The reserved block becomes the directory's. The inode's own bytes are gone by then. */
static int put_leaf(struct ext4_handle *h, struct ext4_inode *dir, u64 blk, const void *leaf)
{
	const struct bh_ctx ctx = ext4_ctx_dir(dir, 0);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = ext4_blocks_take(h, blk, 1);

	if (!err) {
		rw_write_lock(&dir->tree);
		err = ext4_map_insert(h, dir, 0, 1, blk, false);
		rw_write_unlock(&dir->tree);
	}
	if (!err)
		err = bh_get_new(dir->vfs.sb->dev, blk, &ext4_dir_ops, &ctx, &bh);
	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	memcpy(bh->data, leaf, bh->size_bytes);
	ext4_dirty(h, bh);
	atomic_store_explicit(&dir->vfs.size_bytes, bh->size_bytes, memory_order_relaxed);
	return ext4_inode_write(h, dir);
}

int ext4_inline_dir_move(struct ext4_handle *h, struct ext4_inode *dir)
{
	scoped(freep) void *leaf = malloc(ext4_block_bytes(h->es));
	scoped(freep) u8 *data = NULL;
	u32 len;
	u64 blk;
	int err = leaf ? make_leaf(dir, leaf) : fail(-ENOMEM, "no memory for a directory block");

	if (!err)
		err = ext4_blocks_reserve(h->es, ext4_goal(dir, 0), 1, EXT4_RESERVE_META, &blk, &len);
	if (err)
		return err;
	err = ext4_inline_take_out(h, dir, &data, &len);
	if (err) {
		ext4_blocks_unreserve(h->es, blk, 1);
		return err;
	}
	err = put_leaf(h, dir, blk, leaf);
	return err ? ext4_abort(h->es, err) : 0;
}
