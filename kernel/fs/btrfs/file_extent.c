/*
 * What a file consists of: its EXTENT_DATA items in order, and holes where there is none (no_holes), or one that says so. What items
 * look like was checked when they were read; here only those in different leaves are seen to not overlap.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

#define NO_END (~0ull)

void btrfs_extents_put(struct btrfs_extents *c)
{
	btrfs_path_put(&c->p);
}

static u64 end_of(const struct btrfs_extent *e)
{
	return e->off_bytes + e->len_bytes;
}

static int overlap(const struct btrfs_extents *c, u64 off_bytes)
{
	return corrupt(&c->bi->vfs.sb->health, "inode", c->bi->vfs.ino, "two extents for byte %llu",
		       (unsigned long long)off_bytes);
}

/* The path stands on an extent of the file. */
static bool at_extent(const struct btrfs_extents *c)
{
	struct btrfs_key k = btrfs_path_key(&c->p);

	return k.objectid == c->bi->objectid && k.type == BTRFS_KEY_EXTENT_DATA;
}

static void set_hole(struct btrfs_extents *c, u64 from, u64 to)
{
	c->e = (struct btrfs_extent){ .off_bytes = from, .len_bytes = to - from, .kind = BTRFS_FILE_HOLE };
	c->pending = to != NO_END;
}

/* e is the extent that the path stands on. */
static void set_extent(struct btrfs_extents *c)
{
	u32 len;
	const struct btrfs_disk_file_extent *d = btrfs_path_item(&c->p, &len);
	struct btrfs_extent *e = &c->e;

	*e = (struct btrfs_extent){ .off_bytes = btrfs_path_key(&c->p).offset,
				    .compression = d->compression,
				    .ram_bytes = le64_get(d->ram_bytes) };
	c->pending = false;
	if (d->kind == BTRFS_EXTENT_INLINE) {
		e->kind = BTRFS_FILE_INLINE;
		e->len_bytes = e->ram_bytes;
		e->disk_bytes = len - BTRFS_FILE_EXTENT_HEAD_BYTES;
		e->data = (const u8 *)d + BTRFS_FILE_EXTENT_HEAD_BYTES;
		return;
	}
	e->len_bytes = le64_get(d->num_bytes);
	e->bytenr = le64_get(d->disk_bytenr);
	e->disk_bytes = le64_get(d->disk_bytes);
	e->offset_bytes = le64_get(d->offset_bytes);
	e->kind = !e->bytenr                         ? BTRFS_FILE_HOLE
		  : d->kind == BTRFS_EXTENT_PREALLOC ? BTRFS_FILE_PREALLOC
						     : BTRFS_FILE_REG;
}

/*
 * That e does not reach over the next extent, where it is the last item of its leaf: verifying leaves did not compare the two. A next
 * one that cannot be read is no matter here.
 */
static int check_next_leaf(const struct btrfs_extents *c)
{
	const struct btrfs_key key = BTRFS_KEY(c->bi->objectid, BTRFS_KEY_EXTENT_DATA, c->e.off_bytes + 1);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	struct btrfs_key k;

	if (c->p.slot[0] + 1 < btrfs_nritems(c->p.node[0]->data) || btrfs_seek(c->bi->root, &key, &p))
		return 0;
	k = btrfs_path_key(&p);
	return k.objectid == key.objectid && k.type == key.type && k.offset < end_of(&c->e)
		       ? overlap(c, k.offset)
		       : 0;
}

/* The piece that begins at `from`, where the move of the path to the extent behind it ended in err. */
static int set_following(struct btrfs_extents *c, u64 from, int err)
{
	u64 off_bytes;

	if (err && err != -ENOENT)
		return err;
	if (err || !at_extent(c)) {
		set_hole(c, from, NO_END);
		return 0;
	}
	off_bytes = btrfs_path_key(&c->p).offset;
	if (off_bytes < from)
		return overlap(c, off_bytes);
	if (off_bytes > from) {
		set_hole(c, from, off_bytes);
		return 0;
	}
	set_extent(c);
	/* An inline extent may be empty. */
	return c->e.len_bytes ? check_next_leaf(c) : set_following(c, from, btrfs_next(&c->p));
}

int btrfs_extents_next(struct btrfs_extents *c)
{
	return set_following(c, end_of(&c->e), c->pending ? 0 : btrfs_next(&c->p));
}

int btrfs_extents_seek(struct btrfs_extents *c, u64 off_bytes)
{
	const struct btrfs_key key = BTRFS_KEY(c->bi->objectid, BTRFS_KEY_EXTENT_DATA, off_bytes);
	int err = btrfs_seek_last(c->bi->root, &key, &c->p);

	if (err == -ENOENT)
		return set_following(c, 0, btrfs_seek(c->bi->root, &key, &c->p));
	if (err)
		return err;
	if (!at_extent(c))
		return set_following(c, 0, btrfs_next(&c->p));
	set_extent(c);
	if (end_of(&c->e) > off_bytes)
		return check_next_leaf(c);
	return set_following(c, end_of(&c->e), btrfs_next(&c->p));
}
