/*
 * Listing directories, whether their entries are in the inode, in plain blocks or hashed.
 *
 * Positions. What a position means shows in it:
 *   - by hash (bit 62 set): entries in order of the hash of their names. It stays good whatever happens to other
 *     entries, splits of blocks included. This is the order of hashed directories on a volume that is written to,
 *     and of those of one block, which may become hashed.
 *   - by place: a byte offset, in the directory or in the inode's data. Names stay where they are in plain blocks, so
 *     it is as good there; when the record that it meant has become part of another one, the listing goes on at
 *     the next. On a read-only volume all directories are listed so, because it reads them in order.
 *
 * A position by hash is the hash, of the minor hash as much as fits, and a number among entries that agree in both:
 * in order of the checksum of their names. Only if one of those goes just when the listing stands between them, the
 * next one is left out.
 *
 * What is damaged hides as little as possible: a bad block, record or name is left out, the rest is listed, and
 * then the listing ends in an error, so that nobody takes it for complete.
 */
#include "ext4.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

struct lister {
	struct ext4_inode *dir;
	dirent_fn emit;
	void *ctx;
	u64 pos;     /* entries before it were listed */
	bool at_top; /* "." and ".." belong here */
	bool hashed; /* encrypted names are shown with the directory's hash */
	u32 hash_version;
};

static void left_out(struct lister *l)
{
	atomic_store_explicit(&l->dir->holes_in_dir, true, memory_order_relaxed);
}

static u8 entry_type(const struct ext4_super *es, const struct ext4_disk_dirent *de)
{
	static const u8 type[] = { DT_UNKNOWN, DT_REG, DT_DIR, DT_CHR, DT_BLK, DT_FIFO, DT_SOCK, DT_LNK };

	return es->filetype && de->file_type < ARRAY_SIZE(type) ? type[de->file_type] : DT_UNKNOWN;
}

/* Encrypted names carry the hash that the kernel would find them by. */
static void hash_choose(struct lister *l)
{
	struct ext4_super *es = ext4_inode_super(l->dir);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 version = es->disk.def_hash_version;
	struct ext4_dx dx;

	if (!(l->dir->flags & EXT4_FL_ENCRYPT) || !ext4_has_compat(es, EXT4_COMPAT_DIR_INDEX))
		return;
	l->hashed = ext4_size(l->dir) >> es->block_bits == 1 || l->dir->flags & EXT4_FL_INLINE_DATA;
	if (l->dir->flags & EXT4_FL_INDEX && !ext4_dir_block(l->dir, 0, false, &bh) &&
	    ext4_dx_parse(es, bh->data, true, &dx)) {
		version = dx.info->hash_version;
		l->hashed = true;
	}
	l->hash_version = ext4_hash_version(es, version);
}

static void show_nokey(struct lister *l, const struct ext4_disk_dirent *de, u32 rec_len, char *shown,
		       struct name *name)
{
	u32 hash_at = ext4_dirent_bytes(de->name_len);
	struct ext4_hash h = { 0 };

	if (l->hashed && l->dir->flags & EXT4_FL_CASEFOLD) {
		const struct ext4_disk_dirent_hash *dh = (const void *)((const u8 *)de + hash_at);

		if (rec_len >= hash_at + sizeof(*dh))
			h = (struct ext4_hash){ le32_get(dh->hash), le32_get(dh->minor_hash) };
	} else if (l->hashed) {
		(void)!ext4_name_hash(ext4_inode_super(l->dir), l->hash_version, name->s, name->len, &h);
	}
	name->len = ext4_nokey_name(&h, name->s, name->len, shown);
	name->s = shown;
}

/* An entry that may be shown. */
static bool entry_ok(const struct lister *l, const struct ext4_disk_dirent *de, u32 off)
{
	const char *s = ext4_dirent_name(de);

	if (!ext4_ino_public(ext4_inode_super(l->dir), le32_get(de->inode)))
		return false;
	if (ext4_is_dot_or_dotdot(s, de->name_len))
		return l->at_top && off <= EXT4_DIRENT_MIN;
	return l->dir->flags & EXT4_FL_ENCRYPT ? de->name_len : ext4_dirent_name_ok(de);
}

/* A region of records that begins at position `at`. 0: went on to its end. */
static int list_region(struct lister *l, const void *p, u32 len, u64 at)
{
	struct ext4_super *es = ext4_inode_super(l->dir);
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	char shown[EXT4_NAME_MAX];
	const char *bad;

	ext4_dirent_iter(&it, p, len, ext4_block_bytes(es));
	while ((de = ext4_dirent_next(&it, &bad))) {
		struct dirent_out out = { .name = { ext4_dirent_name(de), de->name_len },
					  .ino = le32_get(de->inode),
					  .next_pos = at + it.next,
					  .type = entry_type(es, de) };
		int err;

		if (at + it.off < l->pos || !out.ino)
			continue;
		if (!entry_ok(l, de, it.off)) {
			left_out(l);
			continue;
		}
		if (l->dir->flags & EXT4_FL_ENCRYPT && !ext4_is_dot_or_dotdot(out.name.s, out.name.len))
			show_nokey(l, de, it.next - it.off, shown, &out.name);
		err = l->emit(l->ctx, &out);
		if (err)
			return err;
	}
	if (bad)
		left_out(l);
	return 0;
}

static int list_blocks(struct lister *l)
{
	u32 bits = ext4_inode_super(l->dir)->block_bits;
	u64 blocks = DIV_ROUND_UP(ext4_size(l->dir), (u64)l->dir->vfs.sb->block_bytes);

	for (u64 lblk = l->pos >> bits; lblk < blocks; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		int err = ext4_dir_block(l->dir, lblk, true, &bh);

		l->at_top = lblk == 0;
		if (!err)
			err = list_region(l, bh->data, bh->size_bytes, lblk << bits);
		else if (err == -EUCLEAN)
			left_out(l);
		if (err && err != -EUCLEAN && err != -ENOENT)
			return err;
	}
	return 0;
}

/* "." and ".." of an inline directory, at positions that no record has. */
static int list_inline_top(struct lister *l, u64 parent)
{
	const struct dirent_out top[] = { { NAME("."), l->dir->vfs.ino, 1, DT_DIR },
					  { NAME(".."), parent, 2, DT_DIR } };
	int err = 0;

	for (u32 i = 0; i < ARRAY_SIZE(top) && !err; i++)
		if (l->pos <= i)
			err = l->emit(l->ctx, &top[i]);
	return err;
}

static int list_inline(struct lister *l)
{
	struct ext4_inline_dir d;
	int err = ext4_inline_dir_get(l->dir, &d);

	if (err)
		return err;
	err = list_inline_top(l, d.parent);
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && !err; i++)
		err = list_region(l, d.region[i].p, d.region[i].len, d.region[i].at);
	ext4_inline_put(&d.in);
	return err;
}

/* ---- by hash ---- */

#define POS_BY_HASH  (1ull << 62)
#define ORDINAL_MASK 15ull /* the low bits of a position: which one among entries of the same key */
#define ITEMS_MIN    1024u
#define AHEAD_LEAVES 32u

/* An entry, by what it is sorted by, and where it stands. */
struct item {
	u64 key; /* its position, with ordinal 0 */
	u32 tie;
	u32 lblk, off; /* of an inline directory: the region */
};

/* The entries of some leaves that are next in order. */
struct batch {
	struct item *item;
	u32 count, room;
	u64 end;       /* keys from here on do not belong to it */
	u32 low, high; /* hashes that the leaf being read may hold, both included */
};

static u64 key_of(u32 version, const struct ext4_hash *h, u32 sum)
{
	bool legacy = version == EXT4_HASH_LEGACY || version == EXT4_HASH_LEGACY_UNSIGNED;
	u64 minor = legacy ? sum : h->minor;

	return POS_BY_HASH | (u64)(h->hash >> 1) << 31 | ((minor >> 1) & ~ORDINAL_MASK);
}

static u32 hash_of_pos(u64 pos)
{
	return (u32)((pos & ~POS_BY_HASH) >> 31) << 1;
}

static int by_key(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->tie > y->tie) - (x->tie < y->tie);
}

/* Keeps the first half. */
static void batch_cut(struct lister *l, struct batch *b)
{
	u32 keep = b->room / 2;

	qsort(b->item, b->count, sizeof(*b->item), by_key);
	b->count = keep;
	while (keep && b->item[keep - 1].key == b->item[b->count].key)
		keep--;
	if (!keep) {
		/* More names that agree in all bits than chance can make. */
		left_out(l);
		b->end = b->item[0].key + ORDINAL_MASK + 1;
		return;
	}
	b->end = b->item[keep].key;
	b->count = keep;
}

static void batch_add(struct lister *l, struct batch *b, const struct ext4_disk_dirent *de, u32 lblk, u32 off)
{
	u32 sum = crc32c(~0u, ext4_dirent_name(de), de->name_len);
	struct ext4_hash h;
	u64 key;

	if (ext4_dir_hash(l->dir, l->hash_version, ext4_dirent_name(de), de->name_len, &h) ||
	    h.hash < b->low || h.hash > b->high) {
		/* A lookup does not find it; by place it is shown, from the next time on. */
		(void)!ext4_dx_bad(l->dir, "a name stands where its hash does not lead");
		left_out(l);
		return;
	}
	key = key_of(l->hash_version, &h, sum);
	if (key < (l->pos & ~ORDINAL_MASK) || key >= b->end)
		return;
	b->item[b->count++] = (struct item){ key, sum, lblk, off };
	if (b->count == b->room)
		batch_cut(l, b);
}

static void batch_region(struct lister *l, struct batch *b, const void *p, u32 len, u32 lblk)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;

	ext4_dirent_iter(&it, p, len, ext4_block_bytes(ext4_inode_super(l->dir)));
	while ((de = ext4_dirent_next(&it, &bad))) {
		if (!le32_get(de->inode))
			continue;
		if (!entry_ok(l, de, it.off))
			left_out(l);
		else if (!ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len))
			batch_add(l, b, de, lblk, it.off);
	}
	if (bad)
		left_out(l);
}

static int batch_block(struct lister *l, struct batch *b, u32 lblk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = ext4_dir_block(l->dir, lblk, false, &bh);

	l->at_top = lblk == 0;
	if (!err)
		batch_region(l, b, bh->data, bh->size_bytes, lblk);
	else if (err == -EUCLEAN || err == -ENOENT)
		left_out(l);
	return err == -EUCLEAN || err == -ENOENT ? 0 : err;
}

static int emit_item(struct lister *l, const struct item *e, const void *base, u64 pos)
{
	const struct ext4_disk_dirent *de = (const void *)((const u8 *)base + e->off);
	const struct dirent_out out = { .name = { ext4_dirent_name(de), de->name_len },
					.ino = le32_get(de->inode),
					.next_pos = pos + 1,
					.type = entry_type(ext4_inode_super(l->dir), de) };
	int err = l->emit(l->ctx, &out);

	if (!err)
		l->pos = out.next_pos;
	return err;
}

/* Lists what was gathered. `in`: the records lie in the inode. */
static int batch_emit(struct lister *l, struct batch *b, const struct ext4_inline_dir *in)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 lblk = 0, ordinal = 0;

	qsort(b->item, b->count, sizeof(*b->item), by_key);
	for (u32 i = 0; i < b->count; i++) {
		const struct item *e = &b->item[i];
		u64 pos;
		int err = 0;

		ordinal = i && b->item[i - 1].key == e->key ? ordinal + 1 : 0;
		pos = e->key + MIN((u64)ordinal, ORDINAL_MASK);
		if (pos < l->pos)
			continue;
		if (!in && (!bh || lblk != e->lblk)) {
			bh_put(take(bh));
			lblk = e->lblk;
			err = ext4_dir_block(l->dir, lblk, false, &bh);
		}
		if (!err)
			err = emit_item(l, e, in ? in->region[e->lblk].p : bh->data, pos);
		if (err)
			return err;
	}
	b->count = 0;
	return 0;
}

/* Starts reading the leaves that follow, when this one has to be read. */
static void leaves_ahead(struct lister *l, const struct ext4_dx_path *path)
{
	const struct ext4_dx_frame *f = &path->frame[path->levels - 1];
	struct blkdev *dev = l->dir->vfs.sb->dev;
	struct ext4_run run;

	if (l->dir->vfs.sb->readahead_off)
		return;
	for (u32 i = f->at; i < MIN(f->dx.count, f->at + AHEAD_LEAVES); i++) {
		u64 lblk = le32_get(f->dx.entry[i].lblk);
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (ext4_map_blocks(l->dir, lblk, 1, &run) || !run.pblk || run.unwritten)
			return;
		if (i == f->at && (bh = bh_find(dev, run.pblk + lblk - run.lblk)))
			return;
		bh_readahead(dev, run.pblk + lblk - run.lblk, 1);
	}
}

/* The leaf of the way, and those behind it where its last hash goes on. *leaves: how many may still be read. */
static int batch_leaves(struct lister *l, struct ext4_dx_path *path, struct batch *b, u64 *leaves)
{
	u32 next = 0;
	bool goes_on;
	int err;

	b->end = UINT64_MAX;
	do {
		bool more = ext4_dx_peek(path, &next) > 0;

		if (!(*leaves)--)
			return ext4_dx_bad(l->dir, "it leads to more leaves than there are");
		goes_on = more && next & 1;
		b->low = ext4_dx_low(path);
		b->high = !more ? UINT32_MAX : goes_on ? next & ~1u : next - 1;
		leaves_ahead(l, path);
		err = batch_block(l, b, ext4_dx_lblk(path));
		if (!err && goes_on)
			err = ext4_dx_next(path);
	} while (!err && goes_on);
	return err;
}

/* "." and "..", which have no hash. */
static int list_top(struct lister *l)
{
	static const struct name name[] = { { ".", 1 }, { "..", 2 } };
	int err = 0;

	for (u32 i = 0; i < ARRAY_SIZE(name) && !err; i++) {
		struct dirent_out out = { name[i], l->dir->vfs.ino, i ? POS_BY_HASH : 1, DT_DIR };
		scoped(ext4_place_put) struct ext4_place at = { 0 };
		int found = 1;

		if (l->pos > i)
			continue;
		if (i) {
			found = ext4_dir_find(l->dir, &name[i], &at);
			out.ino = at.ino;
		}
		if (found > 0)
			err = l->emit(l->ctx, &out);
		else
			left_out(l);
		if (!err)
			l->pos = out.next_pos;
	}
	return err;
}

static int list_index(struct lister *l, struct batch *b)
{
	scoped(ext4_dx_close) struct ext4_dx_path path;
	u64 leaves = ext4_size(l->dir) >> ext4_inode_super(l->dir)->block_bits;
	int err = ext4_dx_open(l->dir, &path);
	u32 next;

	if (err)
		return err;
	l->hash_version = path.version;
	err = ext4_dx_seek(&path, hash_of_pos(l->pos));
	if (!err)
		err = list_top(l);
	while (!err) {
		err = batch_leaves(l, &path, b, &leaves);
		if (!err)
			err = batch_emit(l, b, NULL);
		if (err)
			break;
		if (b->end != UINT64_MAX) {
			l->pos = b->end;
			leaves = ext4_size(l->dir) >> ext4_inode_super(l->dir)->block_bits;
			err = ext4_dx_seek(&path, hash_of_pos(l->pos));
		} else {
			if (!ext4_dx_peek(&path, &next))
				break;
			err = ext4_dx_next(&path);
		}
	}
	return err;
}

/* One block, or the inode. */
static int list_one(struct lister *l, struct batch *b)
{
	struct ext4_super *es = ext4_inode_super(l->dir);
	struct ext4_inline_dir d;
	int err;

	l->hash_version = ext4_hash_version(es, es->disk.def_hash_version);
	if (l->hash_version > EXT4_HASH_TEA_UNSIGNED)
		l->hash_version = EXT4_HASH_HALF_MD4;
	b->high = UINT32_MAX;
	b->end = UINT64_MAX;
	err = list_top(l);
	if (err)
		return err;
	if (!(l->dir->flags & EXT4_FL_INLINE_DATA)) {
		err = batch_block(l, b, 0);
		return err ? err : batch_emit(l, b, NULL);
	}
	err = ext4_inline_dir_get(l->dir, &d);
	if (err)
		return err;
	for (u32 i = 0; i < ARRAY_SIZE(d.region); i++)
		batch_region(l, b, d.region[i].p, d.region[i].len, i);
	err = batch_emit(l, b, &d);
	ext4_inline_put(&d.in);
	return err;
}

static bool is_by_hash(const struct ext4_inode *dir)
{
	struct ext4_super *es = ext4_inode_super(dir);

	if (es->vfs.rdonly || !ext4_has_compat(es, EXT4_COMPAT_DIR_INDEX) || dir->flags & EXT4_FL_ENCRYPT ||
	    atomic_load_explicit(&dir->index_bad, memory_order_relaxed))
		return false;
	return dir->flags & (EXT4_FL_INDEX | EXT4_FL_INLINE_DATA) || ext4_size(dir) >> es->block_bits == 1;
}

static int list_by_hash(struct lister *l)
{
	u32 room = MAX(ITEMS_MIN, 2 * ext4_block_bytes(ext4_inode_super(l->dir)) / EXT4_DIRENT_MIN);
	scoped(freep) struct item *item = malloc(room * sizeof(*item));
	struct batch b = { .item = item, .room = room };

	if (!item)
		return fail(-ENOMEM, "no memory to list a directory");
	return ext4_dir_is_indexed(l->dir) ? list_index(l, &b) : list_one(l, &b);
}

/* ---- both ---- */

static int list_by_place(struct lister *l)
{
	hash_choose(l);
	return l->dir->flags & EXT4_FL_INLINE_DATA ? list_inline(l) : list_blocks(l);
}

int ext4_readdir(struct inode *inode, u64 pos, dirent_fn emit, void *ctx)
{
	struct lister l = { .dir = ext4_inode(inode), .emit = emit, .ctx = ctx, .pos = pos };
	int err;

	if (!ext4_size(l.dir))
		return 0;
	if ((pos <= 1 || pos & POS_BY_HASH) && is_by_hash(l.dir)) {
		err = list_by_hash(&l);
		/* The index is of no use from the start: the blocks still have the names. */
		if (err == -EUCLEAN && !(l.pos & POS_BY_HASH))
			err = list_by_place(&l);
	} else if (pos & POS_BY_HASH && l.dir->index_bad) {
		err = fail(-EUCLEAN, "the index of directory %llu is damaged: list it from the start",
			   (unsigned long long)inode->ino);
	} else {
		err = list_by_place(&l);
	}
	if (err)
		return err > 0 ? 0 : err;
	if (l.dir->holes_in_dir)
		return fail(-EUCLEAN, "directory %llu is damaged: some of its entries are not shown",
			    (unsigned long long)inode->ino);
	return 0;
}
