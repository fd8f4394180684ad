/*
 * The trees of files. Items come inode by inode, so that what one inode's items say of each other needs no memory: size of a directory, its two
 * lists of entries, bytes, holes, extents and their checksums. What goes from inode to inode is in names.c.
 *
 * What a sound file has: nbytes is the inline bytes and the length of every extent that is not a hole; without NO_HOLES, each hole up to its
 * size has an item; data have checksums, unless the inode says NODATASUM, and for preallocated extents there are none (unless another
 * file, a snapshot's, has written them since). Facts: btrfs-progs' documentation, the kernel's fs/btrfs/inode.c and file.c.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct files {
	struct ck_names names;
	struct ck_root *root;
};
/* The inode whose items are read. */
struct ck_file {
	struct files *s;
	u64 ino; /* 0: none */
	bool here;
	u32 mode;
	u64 size_bytes, nbytes, flags;
	u64 found_bytes; /* as nbytes counts */
	u64 end;         /* of the extents so far */
	u64 gap;         /* where the first hole without an item begins; ~0: there is none */
	u64 item_sum, index_sum, names_bytes;
	u64 missing_at, odd_at; /* data without, data with checksums */
	bool missing, odd;
	bool bare; /* compressed data are without */
	bool entries, extents;
};

static u8 type_of(u32 mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return BTRFS_FT_REG;
	case S_IFDIR:
		return BTRFS_FT_DIR;
	case S_IFCHR:
		return BTRFS_FT_CHR;
	case S_IFBLK:
		return BTRFS_FT_BLK;
	case S_IFIFO:
		return BTRFS_FT_FIFO;
	case S_IFSOCK:
		return BTRFS_FT_SOCK;
	case S_IFLNK:
		return BTRFS_FT_SYMLINK;
	}
	return BTRFS_FT_UNKNOWN;
}

/* ---- the end of an inode ---- */

static bool no_holes(const struct ck *c)
{
	return le64_get(c->bs->disk.incompat) & BTRFS_INCOMPAT_NO_HOLES;
}

static void end_directory(struct ck *c, const struct ck_file *f)
{
	u64 tree = f->s->names.tree->id;

	if (f->item_sum != f->index_sum)
		btrfs_ck_found_inode(c, CK_DIR_PAIR, tree, f->ino, NULL);
	if (f->size_bytes != f->names_bytes)
		btrfs_ck_found_inode(c, CK_DIR_SIZE, tree, f->ino, "%llu, its names have %llu",
				     (unsigned long long)f->size_bytes, (unsigned long long)f->names_bytes);
	if (f->extents)
		btrfs_ck_found_inode(c, CK_FILE_TYPE, tree, f->ino, "a directory with data");
}

static void end_data(struct ck *c, const struct ck_file *f)
{
	u64 tree = f->s->names.tree->id;
	bool nodatasum = f->flags & BTRFS_INODE_NODATASUM;

	if (f->found_bytes != f->nbytes)
		btrfs_ck_found_inode(c, CK_INODE_NBYTES, tree, f->ino, "%llu, its extents have %llu",
				     (unsigned long long)f->nbytes, (unsigned long long)f->found_bytes);
	if (!no_holes(c) && MIN(f->gap, f->end) < f->size_bytes)
		btrfs_ck_found_inode(c, CK_FILE_HOLE, tree, f->ino, "at byte %llu of %llu",
				     (unsigned long long)MIN(f->gap, f->end),
				     (unsigned long long)f->size_bytes);
	/* What is compressed has them in any case: so the kernel reads it. */
	if (f->missing && (!nodatasum || f->bare))
		btrfs_ck_found_inode(c, CK_CSUM_MISSING, tree, f->ino, "at byte %llu",
				     (unsigned long long)f->missing_at);
	if (f->odd && nodatasum)
		btrfs_ck_found_inode(c, CK_CSUM_ODD, tree, f->ino, "at byte %llu",
				     (unsigned long long)f->odd_at);
}

static void end_inode(struct ck *c, struct ck_file *f)
{
	u64 tree = f->s->names.tree->id;

	if (!f->ino || !f->here)
		return;
	if (S_ISDIR(f->mode))
		end_directory(c, f);
	else if (f->entries)
		btrfs_ck_found_inode(c, CK_FILE_TYPE, tree, f->ino, "entries in what is no directory");
	if (S_ISREG(f->mode) || S_ISLNK(f->mode))
		end_data(c, f);
	else if (f->extents && !S_ISDIR(f->mode))
		btrfs_ck_found_inode(c, CK_FILE_TYPE, tree, f->ino, "a special file with data");
	if (S_ISLNK(f->mode) && f->flags & (BTRFS_INODE_IMMUTABLE | BTRFS_INODE_APPEND))
		btrfs_ck_found_inode(c, CK_INODE_FLAGS, tree, f->ino, "a symbolic link");
}

/* ---- items ---- */

static void take_inode(struct ck *c, struct ck_file *f, const struct ck_item *it)
{
	const struct btrfs_disk_inode *d = it->data;
	struct ck_inode *i = btrfs_ck_inode(c, &f->s->names, it->key.objectid);

	if (!i)
		return;
	i->here = f->here = true;
	f->mode = le32_get(d->mode);
	f->size_bytes = le64_get(d->size_bytes);
	f->nbytes = le64_get(d->nbytes);
	f->flags = le64_get(d->flags);
	i->type = type_of(f->mode);
	i->nlink = le32_get(d->nlink);
	c->sum->inodes++;
	c->sum->directories += S_ISDIR(f->mode);
	c->sum->links += i->nlink;
}

/* Entries of one hash: each counts, and none is there twice. */
static void take_entries(struct ck *c, struct ck_file *f, const struct ck_item *it)
{
	const u8 *p = it->data, *end = p + it->len;

	f->entries = true;
	while (p < end) {
		const struct btrfs_disk_dir_item *d = (const void *)p;
		u32 len = le16_get(d->name_len);
		u64 h = btrfs_ck_name_hash(c, le64_get(d->location.objectid),
					   d->location.type + ((u64)d->type << 8), 0, d->name, len);

		f->names_bytes += len;
		if (it->key.type == BTRFS_KEY_DIR_INDEX)
			f->index_sum += h;
		else
			f->item_sum += h;
		if (it->key.type == BTRFS_KEY_DIR_ITEM &&
		    btrfs_dir_item_find(it->data, it->len, d->name, len) != d)
			btrfs_ck_found_inode(c, CK_DIR_TWICE, f->s->names.tree->id, it->key.objectid, NULL);
		p += sizeof(*d) + len + le16_get(d->data_len);
	}
}

/* Quotas: what a subvolume refers to, and who else does. */
static void take_use(struct ck *c, const struct ck_file *f, struct ck_extent *e)
{
	u32 root = f->s->names.tree->root;

	if (e->root == root)
		return;
	f->s->root->referenced += (u64)e->sectors * c->bs->sector_bytes;
	if (e->root)
		e->flags |= CK_EXTENT_SHARED;
	e->root = root;
}

static void take_csums(struct ck *c, struct ck_file *f, const struct ck_item *it,
		       const struct btrfs_disk_file_extent *d, struct ck_extent *e)
{
	u64 from = le64_get(d->disk_bytenr), len = le64_get(d->disk_bytes), have;
	bool compressed = d->compression != BTRFS_COMPRESS_NONE;

	if (!compressed) {
		from += le64_get(d->offset_bytes);
		len = le64_get(d->num_bytes);
	}
	have = btrfs_ck_range_covered(&c->csums, from, from + len);
	if (d->kind == BTRFS_EXTENT_PREALLOC) {
		if (have)
			e->flags |= CK_EXTENT_SUMMED;
		return;
	}
	if (have && !f->odd) {
		f->odd = true;
		f->odd_at = it->key.offset;
	}
	if (have < len && (!f->missing || (compressed && !f->bare))) {
		f->missing = true;
		f->bare = compressed;
		f->missing_at = it->key.offset;
	}
}

static void take_extent(struct ck *c, struct ck_file *f, const struct ck_item *it)
{
	const struct btrfs_disk_file_extent *d = it->data;
	u64 bytenr = le64_get(d->disk_bytenr), tree = f->s->names.tree->id;
	struct ck_extent *e = bytenr ? btrfs_ck_extent(c, bytenr) : NULL;

	f->end = MAX(f->end, it->key.offset + le64_get(d->num_bytes));
	if (!bytenr)
		return;
	f->found_bytes += le64_get(d->num_bytes);
	/* That it is not there at all is said with the references. */
	if (!e || !(e->flags & CK_EXTENT_DATA))
		return;
	take_use(c, f, e);
	if ((u64)e->sectors * c->bs->sector_bytes != le64_get(d->disk_bytes))
		btrfs_ck_found_inode(c, CK_FILE_EXTENT, tree, it->key.objectid,
				     "at byte %llu: %llu bytes long, there %llu",
				     (unsigned long long)it->key.offset,
				     (unsigned long long)le64_get(d->disk_bytes),
				     (unsigned long long)e->sectors * c->bs->sector_bytes);
	if (d->compression == BTRFS_COMPRESS_NONE && le64_get(d->ram_bytes) != le64_get(d->disk_bytes))
		btrfs_ck_found_inode(c, CK_FILE_RAM, tree, it->key.objectid, "at byte %llu",
				     (unsigned long long)it->key.offset);
	if (!c->csums_partial && tree != BTRFS_TREE_DATA_RELOC)
		take_csums(c, f, it, d, e);
}

static void take_inline(struct ck *c, struct ck_file *f, const struct ck_item *it)
{
	const struct btrfs_disk_file_extent *d = it->data;
	u64 ram = le64_get(d->ram_bytes), sector = c->bs->sector_bytes;
	u64 room = c->bs->node_bytes - sizeof(struct btrfs_disk_header) - sizeof(struct btrfs_disk_item) -
		   BTRFS_FILE_EXTENT_HEAD_BYTES;

	f->found_bytes += ram;
	f->end = MAX(f->end, it->key.offset + ALIGN_UP(ram, sector));
	if (ram > (d->compression == BTRFS_COMPRESS_NONE ? MIN(sector - 1, room) : sector))
		btrfs_ck_found_inode(c, CK_FILE_INLINE, f->s->names.tree->id, it->key.objectid, "%llu bytes",
				     (unsigned long long)ram);
}

static void take_data(struct ck *c, struct ck_file *f, const struct ck_item *it)
{
	const struct btrfs_disk_file_extent *d = it->data;

	if (f->extents && f->end > it->key.offset)
		btrfs_ck_found_inode(c, CK_FILE_OVERLAP, f->s->names.tree->id, it->key.objectid,
				     "at byte %llu", (unsigned long long)it->key.offset);
	if (f->end < it->key.offset && f->gap == ~0ull)
		f->gap = f->end;
	f->extents = true;
	if (d->kind == BTRFS_EXTENT_INLINE)
		take_inline(c, f, it);
	else
		take_extent(c, f, it);
}

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct ck_file *f = ctx;
	u64 ino = it->key.objectid;
	struct ck_inode *i;

	if (it->key.type == BTRFS_KEY_ORPHAN_ITEM && ino == BTRFS_OBJ_ORPHAN) {
		i = btrfs_ck_inode(c, &f->s->names, it->key.offset);
		if (i)
			i->orphan = true;
		return;
	}
	if (ino == BTRFS_OBJ_FREE_INO && it->key.type == BTRFS_KEY_INODE_ITEM)
		btrfs_ck_found(c, CK_INODE_CACHE, "subvolume", f->s->names.tree->id, NULL, NULL);
	if (ino < BTRFS_OBJ_FIRST_FREE || ino > BTRFS_OBJ_LAST_FREE)
		return;
	if (ino != f->ino) {
		end_inode(c, f);
		*f = (struct ck_file){ .s = f->s, .ino = ino, .gap = ~0ull };
		/* What has items is an inode, or should be. */
		(void)btrfs_ck_inode(c, &f->s->names, ino);
	}
	switch (it->key.type) {
	case BTRFS_KEY_INODE_ITEM:
		take_inode(c, f, it);
		break;
	case BTRFS_KEY_INODE_REF:
	case BTRFS_KEY_INODE_EXTREF:
		btrfs_ck_name(c, &f->s->names, it);
		break;
	case BTRFS_KEY_DIR_INDEX:
		btrfs_ck_index(c, &f->s->names, it);
		take_entries(c, f, it);
		break;
	case BTRFS_KEY_DIR_ITEM:
		take_entries(c, f, it);
		break;
	case BTRFS_KEY_EXTENT_DATA:
		take_data(c, f, it);
		break;
	}
}

/* ---- subvolumes ---- */

static void check_top(struct ck *c, const struct ck_names *n)
{
	const struct ck_inode *top = btrfs_ck_find(&n->inodes, BTRFS_OBJ_FIRST_FREE);

	if (!top || !top->here || top->type != BTRFS_FT_DIR)
		btrfs_ck_found(c, CK_ROOT_DIR, "subvolume", n->tree->id, NULL, NULL);
}

/* A deleted one is only walked: its inodes go with it. So are trees of a relocation. */
static void check_tree(struct ck *c, u32 index)
{
	struct ck_tree t;
	struct files s = { .names = { .tree = &t }, .root = &c->root[index] };
	struct ck_file f = { .s = &s };
	struct ck_walk w = { &t, take_item, &f, 0, 0, 0 };
	bool alive = btrfs_is_subvol(s.root->id) && le32_get(s.root->item.refs);

	btrfs_ck_tree_of(c, index, &t);
	s.names.inodes.rec_bytes = sizeof(struct ck_inode);
	s.names.dirs.rec_bytes = sizeof(struct ck_dir);
	if (!alive)
		w.item = NULL;
	(void)!btrfs_ck_walk(c, &w);
	end_inode(c, &f);
	s.root->partial = !btrfs_ck_whole(c, &w, "inodes against names");
	if (alive && !s.root->partial && !c->err) {
		check_top(c, &s.names);
		btrfs_ck_names_end(c, &s.names);
	}
	btrfs_ck_names_free(&s.names);
}

void btrfs_ck_files(struct ck *c)
{
	for (u32 i = 0; i < c->roots && !c->err; i++) {
		u64 id = c->root[i].id;

		if (btrfs_is_subvol(id) || id == BTRFS_TREE_RELOC || id == BTRFS_TREE_DATA_RELOC)
			check_tree(c, i);
	}
}
