/*
 * Every block of every directory: its form, its names, and where they lead. Directories are gone through in the order in which they
 * begin on the disk, those that come next are asked for ahead.
 */
#include "check.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define AHEAD          64u /* directories */
#define CRYPT_NAME_MIN 16u
#define INLINE_PARENT  4u

/* A directory that is being gone through. */
struct scan {
	struct ck *ck;
	struct ck_dir *d;
	struct ck_map names;  /* hash of a name → which block, and where in it, from 1 */
	struct ck_leaf *leaf; /* [d->count] of a hashed directory; NULL: it is none, or its root is damaged */
	u32 version;          /* of its hash */
	u32 i;                /* the block under way */
	u32 nth;              /* the entry in it */
	bool is_inline;
};

/* ---- names ---- */

static bool same_name(struct scan *s, u64 where, const struct ext4_disk_dirent *de)
{
	u32 i = (u32)(where >> 16), off = (u32)where & 0xffff, bytes = ext4_block_bytes(s->ck->es);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_dirent *other;

	if (!ck_read(s->ck, s->ck->blk[s->d->first + i].pblk, &bh))
		return false;
	other = (const void *)((const u8 *)bh->data + off);
	return off + sizeof(*other) + de->name_len <= bytes && other->name_len == de->name_len &&
	       !memcmp(ext4_dirent_name(other), ext4_dirent_name(de), de->name_len);
}

static void check_unique(struct scan *s, const struct ext4_disk_dirent *de, u32 off)
{
	u64 key = hash_bytes(ext4_dirent_name(de), de->name_len, (u64)(uintptr_t)s ^ s->d->ino) | 1, *at;

	at = ck_map_at(s->ck, &s->names, key);
	if (!at)
		return;
	if (!*at)
		*at = ((u64)s->i << 16 | off) + 1;
	else if (s->is_inline || same_name(s, *at - 1, de))
		ck_say(s->ck, CK_NAME_TWICE, s->d->ino, "\"%.*s\"", (int)de->name_len, ext4_dirent_name(de));
}

static void check_crypt(struct scan *s, const struct ext4_disk_dirent *de, const struct ck_ino *in)
{
	u32 kind = (u32)in->kind << 12;

	if (de->name_len < CRYPT_NAME_MIN)
		ck_say(s->ck, CK_NAME_CRYPT, s->d->ino, "shorter than %u bytes, inode %u", CRYPT_NAME_MIN,
		       le32_get(de->inode));
	else if ((kind == S_IFREG || kind == S_IFDIR || kind == S_IFLNK) && !(in->flags & CK_CRYPT))
		ck_say(s->ck, CK_NAME_CRYPT, s->d->ino, "inode %u is not encrypted", le32_get(de->inode));
}

static void check_type(struct scan *s, const struct ext4_disk_dirent *de, const struct ck_ino *in)
{
	u8 want = ext4_dirent_type(s->ck->es, (u32)in->kind << 12);

	if (in->kind && de->file_type != want)
		ck_say(s->ck, CK_NAME_TYPE, s->d->ino, "\"%.*s\" says %u, inode %u is %u", (int)de->name_len,
		       ext4_dirent_name(de), de->file_type, le32_get(de->inode), want);
}

/* A name leads to a directory. */
static void found_dir(struct scan *s, const struct ext4_disk_dirent *de, struct ck_ino *in)
{
	struct ck_dir *to = ck_dir_of(s->ck, le32_get(de->inode));

	if (in->flags & CK_PARENT)
		ck_say(s->ck, CK_DIR_TWO_NAMES, le32_get(de->inode), "\"%.*s\" in directory %u",
		       (int)de->name_len, ext4_dirent_name(de), s->d->ino);
	in->flags |= CK_PARENT;
	if (to && !to->parent)
		to->parent = s->d->ino;
}

static void check_target(struct scan *s, const struct ext4_disk_dirent *de)
{
	struct ck *ck = s->ck;
	u32 ino = le32_get(de->inode);
	struct ck_ino *in = ck_ino(ck, ino);

	if (ino == EXT4_INO_ROOT || !ext4_ino_public(ck->es, ino)) {
		ck_say(ck, CK_NAME_NOWHERE, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len,
		       ext4_dirent_name(de), ino);
		return;
	}
	if (!in || !(in->flags & CK_USED)) {
		ck_say(ck, CK_NAME_FREE, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len,
		       ext4_dirent_name(de), ino);
		return;
	}
	in->found++;
	check_type(s, de, in);
	if (s->d->flags & EXT4_FL_ENCRYPT)
		check_crypt(s, de, in);
	if (in->kind == S_IFDIR >> 12)
		found_dir(s, de, in);
}

static void check_name(struct scan *s, const struct ext4_disk_dirent *de, u32 off, u32 rec_len)
{
	const char *name = ext4_dirent_name(de);
	bool crypt = s->d->flags & EXT4_FL_ENCRYPT;
	u32 hash;

	if (ext4_is_dot_or_dotdot(name, de->name_len) || !de->name_len ||
	    (!crypt && !ext4_dirent_name_ok(de))) {
		ck_say(s->ck, CK_NAME_BAD, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len, name,
		       le32_get(de->inode));
		return;
	}
	check_unique(s, de, off);
	check_target(s, de);
	if (s->leaf && ck_name_hash(s->ck, s->d, s->version, de, rec_len, &hash)) {
		struct ck_leaf *l = &s->leaf[s->i];

		l->low = MIN(l->low, hash);
		l->high = MAX(l->high, hash);
	}
}

/* ---- "." and ".." ---- */

static void found_dot(struct scan *s, bool up, u32 ino, u8 type)
{
	struct ck_ino *in = ck_ino(s->ck, ino);

	if (up)
		s->d->dotdot = ino;
	if (!in || !(in->flags & CK_USED) || in->kind != S_IFDIR >> 12) {
		ck_say(s->ck, up ? CK_DIR_DOTDOT : CK_DIR_DOT, s->d->ino, "inode %u", ino);
		return;
	}
	in->found++;
	if (type != ext4_dirent_type(s->ck->es, S_IFDIR))
		ck_say(s->ck, CK_NAME_TYPE, s->d->ino, "\"%s\" says %u", up ? ".." : ".", type);
}

/* The first two entries of a directory. */
static void check_dot(struct scan *s, const struct ext4_disk_dirent *de, u32 rec_len)
{
	bool up = s->nth == 1;
	u32 len = up ? 2 : 1, ino = le32_get(de->inode);

	if (de->name_len != len || memcmp(ext4_dirent_name(de), "..", len) || !ino ||
	    (!up && (ino != s->d->ino || rec_len < EXT4_DIRENT_MIN))) {
		ck_say(s->ck, up ? CK_DIR_DOTDOT : CK_DIR_DOT, s->d->ino, "inode %u", ino);
		if (ino && de->name_len && !ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len))
			check_target(s, de);
		return;
	}
	found_dot(s, up, ino, de->file_type);
}

/* ---- blocks ---- */

/* NULL, or why not all records could be looked at. */
static const char *check_records(struct scan *s, const void *base, u32 len, bool dots)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad = NULL;

	ext4_dirent_iter(&it, base, len, ext4_block_bytes(s->ck->es));
	for (s->nth = 0; ck_goes_on(s->ck) && (de = ext4_dirent_next(&it, &bad)); s->nth++) {
		if (dots && s->nth < 2)
			check_dot(s, de, it.next - it.off);
		else if (le32_get(de->inode))
			check_name(s, de, it.off, it.next - it.off);
	}
	return bad;
}

static void check_block(struct scan *s)
{
	struct ck *ck = s->ck;
	const struct ck_dirblk *b = &ck->blk[s->d->first + s->i];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 seed = ck->es->metadata_csum ? ext4_csum_inode_seed(ck->es, s->d->ino, s->d->generation) : 0;
	const char *bad;
	struct ext4_dx dx;

	if (!ck_read(ck, b->pblk, &bh))
		return;
	if (!s->i && s->d->flags & EXT4_FL_INDEX && ck_htree_root(ck, s->d, bh->data, &s->version))
		s->leaf = calloc(s->d->count, sizeof(*s->leaf));
	if (s->leaf)
		s->leaf[s->i] = (struct ck_leaf){ .low = ~0u,
						  .is_index = ext4_dx_parse(ck->es, bh->data, !s->i, &dx) };
	bad = check_records(s, bh->data, bh->size_bytes, !s->i && !b->lblk);
	if (bad) {
		ck_say(ck, CK_DIR_BLOCK, s->d->ino, "block %u: %s", b->lblk, bad);
		return;
	}
	bad = ext4_dir_block_wrong(ck->es, seed, bh->data, !b->lblk);
	if (bad)
		ck_say(ck, CK_DIR_SUM, s->d->ino, "block %u: %s", b->lblk, bad);
}

static void check_inline(struct scan *s)
{
	struct ck *ck = s->ck;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ck_inode ci = { .ino = s->d->ino };
	const char *bad;
	const u8 *more;
	u64 blk;
	u32 off;
	s64 len;

	s->is_inline = true;
	if (ext4_inode_where(ck->es, s->d->ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return;
	ci.raw = (void *)((u8 *)bh->data + off);
	found_dot(s, false, s->d->ino, ext4_dirent_type(ck->es, S_IFDIR));
	found_dot(s, true, le32_get(*(const le32 *)ci.raw->block), ext4_dirent_type(ck->es, S_IFDIR));
	bad = check_records(s, ci.raw->block + INLINE_PARENT, EXT4_IBLOCK_BYTES - INLINE_PARENT, false);
	len = ck_inline_more(ck, &ci, &more);
	s->i = 1;
	if (!bad && len > 0)
		bad = check_records(s, more, (u32)len, false);
	if (bad)
		ck_say(ck, CK_DIR_BLOCK, s->d->ino, "inline: %s", bad);
}

/* ---- directories ---- */

static void check_dir(struct ck *ck, struct ck_dir *d)
{
	struct scan s = { .ck = ck, .d = d };
	bool whole = !d->partial && d->count == d->size_bytes >> ck->es->block_bits;

	if (d->flags & EXT4_FL_INLINE_DATA) {
		check_inline(&s);
	} else if (!d->count) {
		ck_say(ck, CK_DIR_HOLE, d->ino, "%s", "it has no block");
	} else {
		for (s.i = 0; s.i < d->count && ck_goes_on(ck); s.i++)
			check_block(&s);
		if (!whole && !ck->err)
			ck_say(ck, CK_DIR_HOLE, d->ino, "%s", "not all of its blocks are there");
		else if (s.leaf && !ck->err)
			ck_htree(ck, d, s.leaf);
	}
	free(s.leaf);
	free(s.names.key);
	free(s.names.val);
}

static void ahead(struct ck *ck, const struct ck_dir *d)
{
	for (u32 i = 0, n; i < d->count; i += n) {
		const struct ck_dirblk *b = &ck->blk[d->first + i];

		for (n = 1; i + n < d->count && b[n].pblk == b->pblk + n;)
			n++;
		bh_readahead(ck->dev, b->pblk, n);
	}
}

struct order {
	u64 at;
	u32 dir;
};

static int by_place(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

void ck_dirs(struct ck *ck)
{
	struct order *order = calloc(ck->dirs + 1ul, sizeof(*order));
	u32 asked = 0;

	if (!order) {
		ck_no_memory(ck);
		return;
	}
	for (u32 i = 0; i < ck->dirs; i++)
		order[i] = (struct order){ ck->dir[i].count ? ck->blk[ck->dir[i].first].pblk : 0, i };
	qsort(order, ck->dirs, sizeof(*order), by_place);
	for (u32 i = 0; i < ck->dirs && ck_goes_on(ck); i++) {
		ck_progress(ck, "directories", i, ck->dirs);
		if (asked < i + AHEAD / 2)
			for (asked = MAX(asked, i); asked < MIN(ck->dirs, i + AHEAD); asked++)
				ahead(ck, &ck->dir[order[asked].dir]);
		check_dir(ck, &ck->dir[order[i].dir]);
	}
	free(order);
}
