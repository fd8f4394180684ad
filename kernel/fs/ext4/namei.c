/*
 * Names: lookup and listing of directories, whether their entries are in the inode, in plain blocks or hashed.
 *
 * Listing goes through the blocks in order, also of a hashed directory: index blocks read as empty ones. A
 * position is a byte offset in the directory, which is stable as long as nothing is written; a volume that is
 * written to needs positions by hash for hashed directories, since a block that splits moves its entries.
 * Positions in inline directories are offsets in the inode's data.
 *
 * What is damaged hides as little as possible: a bad block, record or name is left out, the rest is listed, and
 * then the listing ends in an error, so that nobody takes it for complete. A lookup that does not find its name
 * is an error, not "no such name", when a block could not be looked at.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <dirent.h>
#include <errno.h>

static u8 entry_type(const struct ext4_super *es, const struct ext4_disk_dirent *de)
{
	static const u8 type[] = { DT_UNKNOWN, DT_REG, DT_DIR, DT_CHR, DT_BLK, DT_FIFO, DT_SOCK, DT_LNK };

	return es->filetype && de->file_type < ARRAY_SIZE(type) ? type[de->file_type] : DT_UNKNOWN;
}

/* ---- inline directories ---- */

#define INLINE_PARENT_BYTES 4u

/* Their pieces as regions of records; region i begins at position at[i]. */
struct inline_dir {
	struct ext4_inline in;
	struct {
		const u8 *p;
		u32 len, at;
	} region[2];
	u64 parent;
};

static int inline_dir_get(struct ext4_inode *dir, struct inline_dir *d)
{
	int err = ext4_inline_get(dir, &d->in);

	if (err)
		return err;
	if (d->in.piece[0].len <= INLINE_PARENT_BYTES) {
		ext4_inline_put(&d->in);
		return corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino,
			       "too short for an inline one");
	}
	d->parent = le32_get(*(const le32 *)d->in.piece[0].p);
	d->region[0].p = d->in.piece[0].p + INLINE_PARENT_BYTES;
	d->region[0].len = d->in.piece[0].len - INLINE_PARENT_BYTES;
	d->region[0].at = INLINE_PARENT_BYTES;
	d->region[1].p = d->in.piece[1].p;
	d->region[1].len = d->in.piece[1].len;
	d->region[1].at = d->in.piece[0].len;
	return 0;
}

static int inline_lookup(struct ext4_inode *dir, const struct ext4_want *want, u64 *ino)
{
	struct inline_dir d;
	int err = inline_dir_get(dir, &d), found = 0;

	if (err)
		return err;
	if (ext4_is_dot_or_dotdot(want->name.s, want->name.len)) {
		*ino = want->name.len == 1 ? dir->vfs.ino : d.parent;
		found = 1;
	}
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && found <= 0; i++) {
		found = ext4_dirent_search(dir, d.region[i].p, d.region[i].len, want, ino);
		if (found < 0)
			err = found;
	}
	ext4_inline_put(&d.in);
	return found > 0 ? 1 : err;
}

/* ---- lookup ---- */

/* All blocks, or the first `blocks` of them. 1: found. */
static int linear_lookup(struct ext4_inode *dir, u64 blocks, const struct ext4_want *want, u64 *ino)
{
	int bad = 0;

	blocks = MIN(blocks, DIV_ROUND_UP(ext4_size(dir), (u64)dir->vfs.sb->block_bytes));
	for (u64 lblk = 0; lblk < blocks; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		int err = ext4_dir_block(dir, lblk, true, &bh);

		if (!err)
			err = ext4_dirent_search(dir, bh->data, bh->size_bytes, want, ino);
		if (err > 0)
			return err;
		if (err && err != -ENOENT)
			bad = err;
	}
	return bad;
}

static bool use_index(const struct ext4_inode *dir)
{
	return dir->flags & EXT4_FL_INDEX && ext4_has_compat(ext4_inode_super(dir), EXT4_COMPAT_DIR_INDEX) &&
	       !atomic_load_explicit(&dir->index_bad, memory_order_relaxed);
}

int ext4_lookup(struct inode *inode, const struct name *name, u64 *ino)
{
	struct ext4_inode *dir = ext4_inode(inode);
	struct ext4_want want;
	int found;

	if (name->len > EXT4_NAME_MAX)
		return -ENAMETOOLONG;
	if (!ext4_want(dir, name, &want))
		return -ENOENT;
	if (dir->flags & EXT4_FL_INLINE_DATA) {
		found = inline_lookup(dir, &want, ino);
	} else if (ext4_is_dot_or_dotdot(name->s, name->len)) {
		found = linear_lookup(dir, 1, &want, ino); /* they stand in block 0 and in no index */
	} else {
		found = use_index(dir) ? ext4_htree_search(dir, &want, ino) : -EUCLEAN;
		if (found == -EUCLEAN)
			found = linear_lookup(dir, UINT64_MAX, &want, ino);
	}
	if (found < 0)
		return found;
	return found ? 0 : -ENOENT;
}

/* ---- listing ---- */

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
	struct inline_dir d;
	int err = inline_dir_get(l->dir, &d);

	if (err)
		return err;
	err = list_inline_top(l, d.parent);
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && !err; i++)
		err = list_region(l, d.region[i].p, d.region[i].len, d.region[i].at);
	ext4_inline_put(&d.in);
	return err;
}

int ext4_readdir(struct inode *inode, u64 pos, dirent_fn emit, void *ctx)
{
	struct lister l = { .dir = ext4_inode(inode), .emit = emit, .ctx = ctx, .pos = pos };
	int err;

	hash_choose(&l);
	err = l.dir->flags & EXT4_FL_INLINE_DATA ? list_inline(&l) : list_blocks(&l);
	if (err)
		return err > 0 ? 0 : err;
	if (l.dir->holes_in_dir)
		return fail(-EUCLEAN, "directory %llu is damaged: some of its entries are not shown",
			    (unsigned long long)inode->ino);
	return 0;
}
