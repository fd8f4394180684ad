/*
 * Inodes in groups that go get numbers in groups that stay: one after the other, each in one handle in which the new slot is written, every
 * name that led to the old number leads to the new one, and the old number is free. Of a directory that means its own "." and the ".." of those in it.
 *
 * All directories are read once, for the names of inodes that are to move; their places stay what they are, since nothing else changes.
 *
 * What belongs to an inode has checksums that begin with its number and its generation. The new generation is the one with which they
 * are what they were, so neither nodes of its map nor its blocks, if it is a directory, have to be written.
 */
#include "shorten.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define IN_INODE 0x80000000u /* of place.lblk: a region of a directory in its inode */

/* Items that begin with a number, a u32. Whoever looks for one has them sorted by it. */
struct numbered {
	u8 *item;
	u32 bytes; /* of each */
	u64 count, room;
};

/* Where a number stands. */
struct place {
	u32 ino;       /* the number */
	u32 dir;       /* the directory, by the number that it had at first */
	u32 lblk, off; /* of the record */
};

/* An inode that has moved. */
struct moved {
	u32 from, to, generation; /* the one it had */
};

struct renumber {
	struct ext4_short *s;
	struct numbered place; /* struct place */
	struct numbered moved; /* struct moved, sorted: they move in order */
};

/* ---- lists ---- */

static void *item_at(const struct numbered *l, u64 i)
{
	return l->item + i * l->bytes;
}

/* One more, whose content is nothing yet. NULL: no memory. */
static void *item_add(struct numbered *l)
{
	if (l->count == l->room) {
		u64 room = l->room ? 2 * l->room : 1024;
		u8 *item = realloc(l->item, room * l->bytes);

		if (!item)
			return NULL;
		l->item = item;
		l->room = room;
	}
	return item_at(l, l->count++);
}

/* The first with this number or a higher one. */
static u64 item_find(const struct numbered *l, u64 number)
{
	u64 lo = 0, hi = l->count;

	while (lo < hi) {
		u64 mid = lo + (hi - lo) / 2;

		if (*(const u32 *)item_at(l, mid) < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int by_number(const void *a, const void *b)
{
	const u32 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* ---- names of what is to move ---- */

static bool moves(const struct renumber *n, u64 ino)
{
	return ino && ino <= n->s->es->inodes && ext4_ino_group(n->s->es, ino) >= n->s->groups;
}

static int note(struct renumber *n, u32 ino, u64 dir, u32 lblk, u32 off)
{
	struct place *p;

	if (!moves(n, ino))
		return 0;
	p = item_add(&n->place);
	if (!p)
		return fail(-ENOMEM, "no memory for names of inodes that are to move");
	*p = (struct place){ ino, (u32)dir, lblk, off };
	return 0;
}

static int note_records(struct renumber *n, struct ext4_inode *dir, const void *base, u32 len, u32 lblk)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad = NULL;
	int err = 0;

	ext4_dirent_iter(&it, base, len, ext4_block_bytes(n->s->es));
	while (!err && (de = ext4_dirent_next(&it, &bad)))
		err = note(n, le32_get(de->inode), dir->vfs.ino, lblk, it.off);
	if (!err && bad)
		err = corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino, "%s", bad);
	return err;
}

static int note_inline(struct renumber *n, struct ext4_inode *dir)
{
	struct ext4_inline_dir d;
	int err = ext4_inline_dir_get(dir, &d);

	if (err)
		return err;
	err = note(n, (u32)d.parent, dir->vfs.ino, IN_INODE | EXT4_INLINE_PARENT, 0);
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && !err; i++)
		if (d.region[i].len)
			err = note_records(n, dir, d.region[i].p, d.region[i].len, IN_INODE | i);
	ext4_inline_put(&d.in);
	return err;
}

static int note_blocks(struct renumber *n, struct ext4_inode *dir)
{
	u64 end = ext4_size(dir) >> n->s->es->block_bits;
	int err = 0;

	for (u64 lblk = 0; lblk < end && !err; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		err = ext4_dir_block(dir, lblk, true, &bh);
		if (!err)
			err = note_records(n, dir, bh->data, bh->size_bytes, (u32)lblk);
		else if (err == -ENOENT)
			err = 0;
	}
	return err;
}

static int note_names(void *ctx, u64 ino)
{
	struct renumber *n = ctx;
	struct ext4_super *es = n->s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *dir = NULL;
	int err;

	if (ino < es->first_ino && ino != EXT4_INO_ROOT)
		return 0;
	dir = ext4_inode_private(es, ino);
	err = dir ? ext4_inode_load(dir) : fail(-ENOMEM, "no memory for an inode");
	if (err == -ESTALE)
		return corrupt(&es->vfs.health, "inode", ino,
			       "taken, but not in use: check the volume first");
	if (err || !is_dir(&dir->vfs))
		return err;
	return dir->flags & EXT4_FL_INLINE_DATA ? note_inline(n, dir) : note_blocks(n, dir);
}

/* ---- who has moved ---- */

static const struct moved *find_moved(const struct renumber *n, u32 from)
{
	u64 i = item_find(&n->moved, from);
	const struct moved *m = i < n->moved.count ? item_at(&n->moved, i) : NULL;

	return m && m->from == from ? m : NULL;
}

static int note_moved(struct renumber *n, u32 from, u32 to, u32 generation)
{
	struct moved *m = item_add(&n->moved);

	if (!m)
		return fail(-ENOMEM, "no memory for inodes that move");
	*m = (struct moved){ from, to, generation };
	return 0;
}

/* By the number that it had at first. */
static int load_dir(struct renumber *n, u32 ino, struct ext4_inode **out)
{
	const struct moved *m = find_moved(n, ino);
	scoped(ext4_inode_privatep) struct ext4_inode *ei = ext4_inode_private(n->s->es, m ? m->to : ino);
	int err = ei ? ext4_inode_load(ei) : fail(-ENOMEM, "no memory for an inode");

	*out = err ? NULL : take(ei);
	return err;
}

/* ---- one inode ---- */

struct change {
	struct renumber *n;
	struct ext4_handle h;
	u32 from, to;
	u32 mode;
};

static int rename_in_block(struct change *c, const struct place *p, struct ext4_inode *dir)
{
	const struct moved *m = find_moved(c->n, p->dir);
	/* The block is known in the cache as what it was first read as. */
	const struct bh_ctx ctx = { .v = { p->dir, m ? m->generation : dir->vfs.generation, p->lblk == 0 } };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_dirent *de;
	struct ext4_run run;
	int err;

	rw_read_lock(&dir->tree);
	err = ext4_map_blocks(dir, p->lblk, 1, &run);
	rw_read_unlock(&dir->tree);
	if (!err)
		err = bh_read(dir->vfs.sb->dev, run.pblk + (p->lblk - run.lblk), &ext4_dir_ops, &ctx, &bh);
	if (!err)
		err = ext4_access(&c->h, bh);
	if (err)
		return err;
	de = (void *)((u8 *)bh->data + p->off);
	bh_lock(bh);
	de->inode = le32_put(c->to);
	bh_unlock(bh);
	ext4_dirty(&c->h, bh);
	return 0;
}

static int rename_in_inode(struct change *c, const struct place *p, struct ext4_inode *dir)
{
	const struct ext4_place at = { .off = p->off, .prev = p->off, .lblk = p->lblk & ~IN_INODE };

	return ext4_inline_dir_change(&c->h, dir, &at, c->to, ext4_dirent_type(c->n->s->es, c->mode));
}

static int rename_place(struct change *c, const struct place *p)
{
	struct place own = *p;
	scoped(ext4_inode_privatep) struct ext4_inode *dir = NULL;
	int err = load_dir(c->n, own.dir, &dir);

	if (err)
		return err;
	return own.lblk & IN_INODE ? rename_in_inode(c, &own, dir) : rename_in_block(c, &own, dir);
}

/* The new slot is what the old one was, which is nothing any more. */
static int move_slot(struct change *c, u32 *generation)
{
	struct ext4_super *es = c->h.es;
	scoped(bh_putp) struct buffer_head *old_bh = NULL;
	scoped(bh_putp) struct buffer_head *new_bh = NULL;
	scoped(freep) struct ext4_disk_inode *copy = malloc(es->inode_bytes);
	struct ext4_disk_inode *old, *new;
	int err = copy ? ext4_inode_slot(&c->h, c->from, &old_bh, &old) : -ENOMEM;

	if (!err)
		err = ext4_inode_slot(&c->h, c->to, &new_bh, &new);
	if (err)
		return err;
	bh_lock(old_bh);
	memcpy(copy, old, es->inode_bytes);
	memset(old, 0, es->inode_bytes);
	ext4_inode_slot_done(&c->h, c->from, old_bh, old);
	*generation = le32_get(copy->generation);
	if (es->metadata_csum)
		copy->generation = le32_put(ext4_csum_generation(es, c->from, *generation, c->to));
	bh_lock(new_bh);
	memcpy(new, copy, es->inode_bytes);
	ext4_inode_slot_done(&c->h, c->to, new_bh, new);
	return 0;
}

/* All that changes with the number. What fails then is the end of this mount. */
static int move_in_handle(struct change *c, const struct place *p, u64 count)
{
	bool dir = S_ISDIR(c->mode);
	u32 generation;
	int err = move_slot(c, &generation);

	if (!err)
		err = note_moved(c->n, c->from, c->to, generation);
	for (u64 i = 0; i < count && !err; i++)
		err = rename_place(c, &p[i]);
	return err ? err : ext4_ino_free(&c->h, c->from, dir);
}

/* Blocks that change: those of the names, at most one for each. */
static u64 credits(u64 names)
{
	return names + 2 * EXT4_CREDITS_INODE + 3 * EXT4_CREDITS_GROUP + 2;
}

static int check_inode(const struct ext4_inode *ei, u64 names)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	u32 links = ei->vfs.nlink;
	bool right = is_dir(&ei->vfs) ? names >= 1 : names == links;

	if (ei->flags & EXT4_FL_EA_INODE)
		return fail(-EOPNOTSUPP,
			    "%s: inode %llu holds an attribute's value, and cannot get another number",
			    es->vfs.health.name, (unsigned long long)ei->vfs.ino);
	return right ? 0
		     : corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			       "%llu names, %u links: check the volume first", (unsigned long long)names,
			       links);
}

static int too_many_names(const struct ext4_super *es, u64 ino, u64 names)
{
	return fail(
		-EOPNOTSUPP,
		"%s: inode %llu has %llu names or directories in it, more than its journal can change at "
		"once: "
		"as long as it is there it can have %llu bytes at the least",
		es->vfs.health.name, (unsigned long long)ino, (unsigned long long)names,
		(unsigned long long)(ext4_group_start(es, ext4_ino_group(es, ino) + 1) << es->block_bits));
}

static int move_inode(struct renumber *n, u64 ino, const struct place *p, u64 count)
{
	struct ext4_super *es = n->s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = ext4_inode_private(es, ino), *dir = NULL;
	struct change c = { .n = n, .from = (u32)ino };
	u64 to;
	int err = ei ? ext4_inode_load(ei) : fail(-ENOMEM, "no memory for an inode");

	if (!err)
		err = check_inode(ei, count);
	if (!err)
		err = load_dir(n, count ? p[0].dir : (u32)ino, &dir);
	if (!err && es->journal && credits(count) > jbd2_credits_max(es->journal))
		err = too_many_names(es, ino, count);
	if (!err)
		err = ext4_begin(es, (u32)credits(count), 0, &c.h);
	if (err)
		return err;
	c.mode = ei->vfs.mode;
	err = ext4_ino_take(&c.h, dir, c.mode, &to);
	if (err)
		return ext4_end(&c.h, err);
	c.to = (u32)to;
	err = move_in_handle(&c, p, count);
	return ext4_end(&c.h, err ? ext4_abort(es, err) : 0);
}

static int move_one(void *ctx, u64 ino)
{
	struct renumber *n = ctx;
	u64 first = item_find(&n->place, ino), end = item_find(&n->place, ino + 1);
	struct shorten *what = n->s->what;
	int err = move_inode(n, ino, item_at(&n->place, first), end - first);

	if (!err && what->progress)
		err = what->progress(what->ctx, "inodes", n->moved.count, n->s->inodes);
	return err;
}

int ext4_short_inodes(struct ext4_short *s)
{
	struct renumber n = { .s = s,
			      .place.bytes = sizeof(struct place),
			      .moved.bytes = sizeof(struct moved) };
	int err = s->inodes ? ext4_short_each(s->es, 0, s->es->groups, note_names, &n) : 0;

	if (n.place.count)
		qsort(n.place.item, n.place.count, n.place.bytes, by_number);
	if (!err && s->inodes)
		err = ext4_short_each(s->es, s->groups, s->es->groups, move_one, &n);
	free(n.place.item);
	free(n.moved.item);
	return err;
}
