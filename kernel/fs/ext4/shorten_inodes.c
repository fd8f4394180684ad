/*
 * Inodes in groups that go get numbers in groups that stay: one after the other, each in one handle in which the new slot is written, every
 * name that led to the old number leads to the new one, and the old number is free. Of a directory that means its own "." and the ".." of those in it;
 * an attribute's value has no names, but entries in lists of attributes.
 *
 * All directories and lists are read once, for what leads to inodes that are to move; their places stay what they are, since nothing else changes.
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

/* A list of attributes, some of which have their value in the inode. */
struct holder {
	u32 ino; /* of the value */
	u32 dir; /* the list is in this inode, by the number that it had at first. 0: in a block */
	u64 blk;
};

/* An inode that has moved. */
struct moved {
	u32 from, to, generation; /* the one it had */
};

struct renumber {
	struct ext4_short *s;
	struct numbered place;  /* struct place */
	struct numbered holder; /* struct holder */
	struct numbered moved;  /* struct moved, sorted: they move in order */
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

static int by_place(const void *a, const void *b)
{
	const struct holder *x = a, *y = b;
	int by = by_number(a, b);

	if (!by)
		by = x->blk < y->blk ? -1 : x->blk > y->blk;
	return by ? by : x->dir < y->dir ? -1 : x->dir > y->dir;
}

/* Sorted, each once. */
static void sort_holders(struct numbered *l)
{
	u64 kept = 0;

	if (l->count)
		qsort(l->item, l->count, l->bytes, by_place);
	for (u64 i = 0; i < l->count; i++)
		if (!kept || by_place(item_at(l, kept - 1), item_at(l, i)))
			memmove(item_at(l, kept++), item_at(l, i), l->bytes);
	l->count = kept;
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

static int note_holder(struct renumber *n, u32 ino, const struct ext4_inode *owner, u64 blk)
{
	struct holder *l;

	if (!moves(n, ino))
		return 0;
	l = item_add(&n->holder);
	if (!l)
		return fail(-ENOMEM, "no memory for attributes of inodes that are to move");
	*l = (struct holder){ ino, blk ? 0 : (u32)owner->vfs.ino, blk };
	return 0;
}

static int note_list(struct renumber *n, const struct ext4_inode *owner, const struct ext4_xattr_list *l,
		     u64 blk)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	int err = 0;

	while (!err && (e = ext4_xattr_next(l, e)))
		err = note_holder(n, le32_get(e->value_inum), owner, blk);
	return err;
}

/* Inodes that share a block note it each. */
static int note_values(struct renumber *n, struct ext4_inode *owner)
{
	struct ext4_xattr_list l;
	int err = ext4_xattr_ibody(owner, &l);

	if (!err) {
		err = note_list(n, owner, &l, 0);
		ext4_xattr_list_put(&l);
	}
	if (err && err != -ENODATA)
		return err;
	err = ext4_xattr_block(owner, &l);
	if (!err) {
		err = note_list(n, owner, &l, owner->xattr_blk);
		ext4_xattr_list_put(&l);
	}
	return err == -ENODATA ? 0 : err;
}

static int note_names(void *ctx, u64 ino)
{
	struct renumber *n = ctx;
	struct ext4_super *es = n->s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *dir = NULL;
	int err;

	if (ino < es->first_ino && ino != EXT4_INO_ROOT)
		return 0;
	err = ext4_inode_open(es, ino, &dir);
	if (err == -ESTALE)
		return corrupt(&es->vfs.health, "inode", ino,
			       "taken, but not in use: check the volume first");
	if (!err && ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE))
		err = note_values(n, dir);
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

	return ext4_inode_open(n->s->es, m ? m->to : ino, out);
}

/* ---- a name ---- */

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

/* ---- the lists that an attribute's value is in ---- */

/* *ino: the inode that it is in, by the number it has now; 0: it is in a block. */
static int list_get(struct renumber *n, const struct holder *at, u64 *ino, struct ext4_xattr_list *l)
{
	const struct bh_ctx ctx = { { 0 } };
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	int err;

	*ino = 0;
	if (at->blk) {
		*l = (struct ext4_xattr_list){ .first = sizeof(struct ext4_disk_xattr_header) };
		err = bh_read(n->s->es->vfs.dev, at->blk, &ext4_xattr_ops, &ctx, &l->bh);
		l->base = err ? NULL : l->bh->data;
		return err;
	}
	err = load_dir(n, at->dir, &ei);
	if (err)
		return err;
	*ino = ei->vfs.ino;
	err = ext4_xattr_ibody(ei, l);
	return err == -ENODATA ? corrupt(&ei->vfs.sb->health, "inode", *ino, "its attributes are gone") : err;
}

/* How many entries have their value in `from`; they get `to`, unless that is 0: then the caller holds nothing, else the buffer's lock. */
static u64 list_change(const struct ext4_xattr_list *l, u32 from, u32 to)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	u64 count = 0;

	while ((e = ext4_xattr_next(l, e))) {
		if (le32_get(e->value_inum) != from)
			continue;
		count++;
		if (to)
			((struct ext4_disk_xattr_entry *)(uintptr_t)e)->value_inum = le32_put(to);
	}
	return count;
}

static int change_list(struct change *c, const struct holder *at)
{
	struct ext4_disk_inode *raw;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_xattr_list l;
	u64 ino;
	int err = list_get(c->n, at, &ino, &l);

	if (err)
		return err;
	err = ino ? ext4_inode_slot(&c->h, ino, &bh, &raw) : ext4_access(&c->h, l.bh);
	if (!err) {
		bh_lock(l.bh);
		list_change(&l, c->from, c->to);
		if (ino) {
			ext4_inode_slot_done(&c->h, ino, bh, raw);
		} else {
			bh_unlock(l.bh);
			ext4_dirty(&c->h, l.bh);
		}
	}
	ext4_xattr_list_put(&l);
	return err;
}

/* What leads to it is as much as it counts. */
static int check_value(struct renumber *n, u64 ino, const struct holder *at, u64 holders)
{
	struct ext4_super *es = n->s->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	u64 found = 0, refs;
	int err = ext4_raw_inode_get(es, ino, &bh, &raw);

	for (u64 i = 0; i < holders && !err; i++) {
		struct ext4_xattr_list l;
		u64 in;

		err = list_get(n, &at[i], &in, &l);
		if (!err) {
			found += list_change(&l, (u32)ino, 0);
			ext4_xattr_list_put(&l);
		}
	}
	if (err)
		return err;
	refs = ext4_value_refs(raw);
	return found == refs ? 0
			     : corrupt(&es->vfs.health, "inode", ino,
				       "%llu attributes have their value in it, it counts %llu: check the "
				       "volume first",
				       (unsigned long long)found, (unsigned long long)refs);
}

/* ---- one inode ---- */

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

/* What leads to an inode. */
struct leads {
	const struct place *place;
	u64 places;
	const struct holder *holder;
	u64 holders;
};

/* All that changes with the number. What fails then is the end of this mount. */
static int move_in_handle(struct change *c, const struct leads *l)
{
	bool dir = S_ISDIR(c->mode);
	u32 generation;
	int err = move_slot(c, &generation);

	if (!err)
		err = note_moved(c->n, c->from, c->to, generation);
	for (u64 i = 0; i < l->places && !err; i++)
		err = rename_place(c, &l->place[i]);
	for (u64 i = 0; i < l->holders && !err; i++)
		err = change_list(c, &l->holder[i]);
	return err ? err : ext4_ino_free(&c->h, c->from, dir);
}

/* Blocks that change: those of what leads to it, at most one for each. */
static u64 credits(const struct leads *l)
{
	return l->places + l->holders + 2 * EXT4_CREDITS_INODE + 3 * EXT4_CREDITS_GROUP + 2;
}

static int check_names(const struct ext4_inode *ei, u64 names)
{
	u32 links = ei->vfs.nlink;
	bool right = is_dir(&ei->vfs) ? names >= 1 : names == links;

	return right ? 0
		     : corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino,
			       "%llu names, %u links: check the volume first", (unsigned long long)names,
			       links);
}

static int too_many(const struct ext4_super *es, u64 ino, u64 leads)
{
	return fail(
		-EOPNOTSUPP,
		"%s: inode %llu has %llu names, directories in it or attributes, more than its journal can "
		"change at "
		"once: "
		"as long as it is there it can have %llu bytes at the least",
		es->vfs.health.name, (unsigned long long)ino, (unsigned long long)leads,
		(unsigned long long)(ext4_group_start(es, ext4_ino_group(es, ino) + 1) << es->block_bits));
}

static int move_inode(struct renumber *n, u64 ino, const struct leads *l)
{
	struct ext4_super *es = n->s->es;
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL, *dir = NULL;
	struct change c = { .n = n, .from = (u32)ino };
	u64 to;
	int err = ext4_inode_open(es, ino, &ei);

	if (!err)
		err = ei->flags & EXT4_FL_EA_INODE ? check_value(n, ino, l->holder, l->holders)
						   : check_names(ei, l->places);
	if (!err)
		err = load_dir(n, l->places ? l->place[0].dir : (u32)ino, &dir);
	if (!err && es->journal && credits(l) > jbd2_credits_max(es->journal))
		err = too_many(es, ino, l->places + l->holders);
	if (!err)
		err = ext4_begin(es, (u32)credits(l), 0, &c.h);
	if (err)
		return err;
	c.mode = ei->vfs.mode;
	err = ext4_ino_take(&c.h, dir, c.mode, &to);
	if (err)
		return ext4_end(&c.h, err);
	c.to = (u32)to;
	err = move_in_handle(&c, l);
	return ext4_end(&c.h, err ? ext4_abort(es, err) : 0);
}

static int move_one(void *ctx, u64 ino)
{
	struct renumber *n = ctx;
	u64 place = item_find(&n->place, ino), holder = item_find(&n->holder, ino);
	const struct leads l = { item_at(&n->place, place), item_find(&n->place, ino + 1) - place,
				 item_at(&n->holder, holder), item_find(&n->holder, ino + 1) - holder };
	struct shorten *what = n->s->what;
	int err = move_inode(n, ino, &l);

	if (!err && what->progress)
		err = what->progress(what->ctx, "inodes", n->moved.count, n->s->inodes);
	return err;
}

int ext4_short_inodes(struct ext4_short *s)
{
	struct renumber n = { .s = s,
			      .place.bytes = sizeof(struct place),
			      .holder.bytes = sizeof(struct holder),
			      .moved.bytes = sizeof(struct moved) };
	int err = s->inodes ? ext4_short_each(s->es, 0, s->es->groups, note_names, &n) : 0;

	if (n.place.count)
		qsort(n.place.item, n.place.count, n.place.bytes, by_number);
	sort_holders(&n.holder);
	if (!err && s->inodes)
		err = ext4_short_each(s->es, s->groups, s->es->groups, move_one, &n);
	free(n.place.item);
	free(n.holder.item);
	free(n.moved.item);
	return err;
}
