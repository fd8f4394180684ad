/*
 * Every block of every directory: its form, its names, and where they lead. Directories are gone through in the order in which they
 * begin on the disk, those that come next are asked for ahead.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define AHEAD          64u /* directories */
#define CRYPT_NAME_MIN 16u

/* A directory that is being gone through. */
struct scan {
	struct ck *ck;
	struct ck_dir *d;
	struct ck_map names;  /* hash of a name → which block, and where in it, from 1 */
	struct ck_leaf *leaf; /* [d->count] of a hashed directory; NULL: it is none, or its root is damaged */
	u32 version;          /* of its hash */
	u32 i;                /* the block under way */
	u32 nth;              /* the entry in it */
	u32 last;             /* where its last entry begins */
	u32 named;            /* the last block with a name, from 1 */
	bool is_inline;
	bool changed; /* the block */
	bool rebuild; /* the directory is to be written anew */
	bool unread;  /* not all of it could be read */
};

/* The entry, which is to be mended in its block. */
static struct ext4_disk_dirent *edit(struct scan *s, const struct ext4_disk_dirent *de)
{
	s->changed = true;
	return (struct ext4_disk_dirent *)de;
}

/* The name goes; its record is free. */
static void drop(struct scan *s, const struct ext4_disk_dirent *de)
{
	edit(s, de)->inode = le32_put(0);
}

/* ---- names ---- */

static bool same_name(struct scan *s, u64 where, const struct ext4_disk_dirent *de)
{
	u32 i = (u32)(where >> 16), off = (u32)where & 0xffff, bytes = ext4_block_bytes(s->ck->es);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_dirent *other;

	if (!ck_read(s->ck, s->ck->blk[s->d->first + i].pblk, &bh))
		return false;
	other = (const void *)((const u8 *)bh->data + off);
	return off + sizeof(*other) + other->name_len <= bytes && le32_get(other->inode) &&
	       ck_name_same(s->d, other, de);
}

/* It stands there before. True: it is gone. */
static bool second_name(struct scan *s, const struct ext4_disk_dirent *de)
{
	if (!ck_fix(s->ck, CK_NAME_TWICE, s->d->ino, "\"%.*s\"", (int)de->name_len, ext4_dirent_name(de)))
		return false;
	if (s->is_inline) {
		drop(s, de);
		return true;
	}
	s->rebuild = true;
	return false;
}

/* False: it was not, and is gone. */
static bool check_unique(struct scan *s, const struct ext4_disk_dirent *de, u32 off)
{
	u64 *at = ck_map_at(s->ck, &s->names, ck_name_key(s->d, ext4_dirent_name(de), de->name_len));

	if (!at)
		return true;
	if (*at && (s->is_inline || same_name(s, *at - 1, de)))
		return !second_name(s, de);
	if (!*at)
		*at = ((u64)s->i << 16 | off) + 1;
	return true;
}

/* False: it is gone. */
static bool check_crypt(struct scan *s, const struct ext4_disk_dirent *de, const struct ck_ino *in)
{
	u32 kind = (u32)in->kind << 12;
	bool mend = false;

	if (de->name_len < CRYPT_NAME_MIN)
		mend = ck_fix(s->ck, CK_NAME_CRYPT, s->d->ino, "shorter than %u bytes, inode %u",
			      CRYPT_NAME_MIN, le32_get(de->inode));
	else if ((kind == S_IFREG || kind == S_IFDIR || kind == S_IFLNK) && !(in->flags & CK_CRYPT))
		mend = ck_fix(s->ck, CK_NAME_CRYPT, s->d->ino, "inode %u is not encrypted",
			      le32_get(de->inode));
	else if (in->flags & CK_CRYPT && ck_policy(s->ck, s->d->ino) &&
		 ck_policy(s->ck, s->d->ino) != ck_policy(s->ck, le32_get(de->inode)))
		mend = ck_fix(s->ck, CK_NAME_CRYPT, s->d->ino, "inode %u has another encryption policy",
			      le32_get(de->inode));
	if (mend)
		drop(s, de);
	return !mend;
}

static void check_type(struct scan *s, const struct ext4_disk_dirent *de, const struct ck_ino *in)
{
	u8 want = ext4_dirent_type(s->ck->es, (u32)in->kind << 12);

	if (in->kind && de->file_type != want &&
	    ck_fix(s->ck, CK_NAME_TYPE, s->d->ino, "\"%.*s\" says %u, inode %u is %u", (int)de->name_len,
		   ext4_dirent_name(de), de->file_type, le32_get(de->inode), want))
		edit(s, de)->file_type = want;
}

/* A name leads to a directory. Of two, that one stays to which ".." leads back. */
static void found_dir(struct scan *s, const struct ext4_disk_dirent *de, struct ck_ino *in)
{
	struct ck *ck = s->ck;
	u32 ino = le32_get(de->inode);
	struct ck_dir *to = ck_dir_of(ck, ino);

	if (in->flags & CK_PARENT && ck_fix(ck, CK_DIR_TWO_NAMES, ino, "\"%.*s\" in directory %u",
					    (int)de->name_len, ext4_dirent_name(de), s->d->ino)) {
		if (!to || to->parent == s->d->ino || ck_get_dotdot(ck, to) != s->d->ino ||
		    !ck_drop_name(ck, ck_dir_of(ck, to->parent), ino)) {
			drop(s, de);
			return;
		}
		to->parent = 0;
	}
	in->flags |= CK_PARENT;
	if (to && !to->parent)
		to->parent = s->d->ino;
}

static void check_hidden(struct ck *ck, u32 ino)
{
	u32 group = ext4_ino_group(ck->es, ino);

	if (!ck_fix(ck, CK_GROUP_UNUSED, group, "a name leads to inode %u", ino))
		return;
	ck_group_all_used(ck, group);
	ck->rest = true;
}

static void check_target(struct scan *s, const struct ext4_disk_dirent *de)
{
	struct ck *ck = s->ck;
	u32 ino = le32_get(de->inode);
	struct ck_ino *in = ck_ino(ck, ino);

	if (ino == EXT4_INO_ROOT || !ext4_ino_public(ck->es, ino)) {
		if (ck_fix(ck, CK_NAME_NOWHERE, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len,
			   ext4_dirent_name(de), ino))
			drop(s, de);
		return;
	}
	if (!in || !(in->flags & CK_USED)) {
		/* Inodes that were not looked at are, in the next round. */
		if (ck->rest)
			return;
		if (ck_ino_hidden(ck, ino)) {
			check_hidden(ck, ino);
			return;
		}
		if (ck_fix(ck, CK_NAME_FREE, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len,
			   ext4_dirent_name(de), ino))
			drop(s, de);
		return;
	}
	if (s->d->ino == EXT4_INO_ROOT && ck_is_lost_found(de) && in->kind != S_IFDIR >> 12 &&
	    ck_fix(ck, CK_LOST_FOUND, ino, "%s", "")) {
		drop(s, de);
		return;
	}
	in->found++;
	check_type(s, de, in);
	if (s->d->flags & EXT4_FL_ENCRYPT && !check_crypt(s, de, in))
		return;
	if (in->kind == S_IFDIR >> 12)
		found_dir(s, de, in);
}

/* What a name cannot have becomes "."; of those that only the first two entries may have, and of none, the entry goes. */
static void mend_name(struct scan *s, const struct ext4_disk_dirent *de)
{
	char *name = (char *)(edit(s, de) + 1);

	if (!de->name_len || ext4_is_dot_or_dotdot(name, de->name_len)) {
		drop(s, de);
		return;
	}
	for (u32 i = 0; i < de->name_len; i++)
		if (!name[i] || name[i] == '/')
			name[i] = '.';
	if (ext4_is_dot_or_dotdot(name, de->name_len))
		name[0] = '_';
	/* An index looks for it elsewhere now. */
	s->rebuild |= !s->is_inline && s->d->flags & EXT4_FL_INDEX;
}

static void check_name(struct scan *s, const struct ext4_disk_dirent *de, u32 off, u32 rec_len)
{
	const char *name = ext4_dirent_name(de);
	bool crypt = s->d->flags & EXT4_FL_ENCRYPT;
	u32 hash;

	if (ext4_is_dot_or_dotdot(name, de->name_len) || !de->name_len ||
	    (!crypt && !ext4_dirent_name_ok(de))) {
		if (ck_fix(s->ck, CK_NAME_BAD, s->d->ino, "\"%.*s\", inode %u", (int)de->name_len, name,
			   le32_get(de->inode)))
			mend_name(s, de);
		return;
	}
	if (!check_unique(s, de, off))
		return;
	check_target(s, de);
	if (s->leaf && ck_name_hash(s->ck, s->d, s->version, de, rec_len, &hash)) {
		struct ck_leaf *l = &s->leaf[s->i];

		l->low = MIN(l->low, hash);
		l->high = MAX(l->high, hash);
	}
}

/* ---- "." and ".." ---- */

/* de: where it stands; NULL: in the inode, to which the caller sees. */
static void found_dot(struct scan *s, bool up, u32 ino, const struct ext4_disk_dirent *de)
{
	struct ck_ino *in = ck_ino(s->ck, ino);
	u8 type = ext4_dirent_type(s->ck->es, S_IFDIR);

	if (up)
		s->d->dotdot = ino;
	if (!in || !(in->flags & CK_USED) || in->kind != S_IFDIR >> 12) {
		/* Where it should lead is known when all names are. */
		if (ck_fix(s->ck, up ? CK_DIR_DOTDOT : CK_DIR_DOT, s->d->ino, "inode %u", ino)) {
			s->changed = true;
			if (de)
				edit(s, de)->inode = le32_put(EXT4_INO_ROOT);
		}
		return;
	}
	in->found++;
	if (de && de->file_type != type &&
	    ck_fix(s->ck, CK_NAME_TYPE, s->d->ino, "\"%s\" says %u", up ? ".." : ".", de->file_type))
		edit(s, de)->file_type = type;
}

/* The first two entries of a directory. */
static void check_dot(struct scan *s, const struct ext4_disk_dirent *de, u32 rec_len)
{
	bool up = s->nth == 1, named;
	u32 len = up ? 2 : 1, ino = le32_get(de->inode);
	const char *name = ext4_dirent_name(de);

	named = de->name_len == len && !memcmp(name, "..", len) && !name[len];
	if (named && ino && (up || (ino == s->d->ino && rec_len <= 2 * EXT4_DIRENT_MIN))) {
		found_dot(s, up, ino, de);
		return;
	}
	if (ck_fix(s->ck, up ? CK_DIR_DOTDOT : CK_DIR_DOT, s->d->ino, "inode %u", ino)) {
		if (named && rec_len <= 2 * EXT4_DIRENT_MIN)
			edit(s, de)->inode = le32_put(up ? EXT4_INO_ROOT : s->d->ino);
		else
			s->rebuild = true;
		return;
	}
	if (ino && de->name_len && !ext4_is_dot_or_dotdot(name, de->name_len))
		check_target(s, de);
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
		s->last = it.off;
		if (dots && s->nth < 2) {
			check_dot(s, de, it.next - it.off);
		} else if (le32_get(de->inode)) {
			s->named = s->i + 1;
			check_name(s, de, it.off, it.next - it.off);
		}
	}
	return bad;
}

/* A checksum is wrong. */
static void mend_sum(struct scan *s, const struct buffer_head *bh, bool first)
{
	struct ext4_dx dx;

	/* An index is not to be believed then, and a leaf may lack the place for one. */
	if (ext4_dx_parse(s->ck->es, bh->data, first, &dx) || !ext4_dir_tail_off(bh->data, bh->size_bytes))
		s->rebuild = true;
	else
		s->changed = true;
}

/* A checksum that is no entry of its own, in a leaf or where there is no index: kernels do not look for that, e2fsck does. */
static bool is_sum_covered(const struct scan *s, const struct buffer_head *bh, bool first)
{
	struct ext4_dx dx;

	if (!s->ck->es->metadata_csum || s->last == ext4_leaf_bytes(s->ck->es))
		return false;
	if (ext4_dx_parse(s->ck->es, bh->data, first, &dx))
		return !(s->d->flags & EXT4_FL_INDEX);
	return ext4_dir_tail_off(bh->data, bh->size_bytes);
}

static void check_block(struct scan *s)
{
	struct ck *ck = s->ck;
	const struct ck_dirblk *b = &ck->blk[s->d->first + s->i];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 seed = ck->es->metadata_csum ? ext4_csum_inode_seed(ck->es, s->d->ino, s->d->generation) : 0;
	const char *bad, *wrong;
	struct ext4_dx dx;

	if (!ck_read(ck, b->pblk, &bh)) {
		s->unread = true;
		return;
	}
	s->changed = false;
	if (!s->i && s->d->flags & EXT4_FL_INDEX &&
	    ck_htree_root(ck, s->d, bh->data, &s->version, &s->rebuild))
		s->leaf = calloc(s->d->count, sizeof(*s->leaf));
	if (s->leaf)
		s->leaf[s->i] = (struct ck_leaf){ .low = ~0u,
						  .is_index = ext4_dx_parse(ck->es, bh->data, !s->i, &dx) };
	wrong = ext4_dir_block_wrong(ck->es, seed, bh->data, !b->lblk);
	bad = check_records(s, bh->data, bh->size_bytes, !s->i && !b->lblk);
	if (!bad && is_sum_covered(s, bh, !b->lblk))
		bad = "an entry goes over the checksum";
	if (bad)
		s->rebuild |= ck_fix(ck, CK_DIR_BLOCK, s->d->ino, "block %u: %s", b->lblk, bad);
	else if (wrong && ck_fix(ck, CK_DIR_SUM, s->d->ino, "block %u: %s", b->lblk, wrong))
		mend_sum(s, bh, !b->lblk);
	if (s->changed)
		ck_dir_put(ck, s->d, b->lblk, bh);
}

static void check_inline(struct scan *s)
{
	struct ck *ck = s->ck;
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(ck, s->d->ino, &ci);
	const char *bad;
	const u8 *value;
	u8 *head, *more = NULL;
	s64 len;

	s->is_inline = true;
	if (!raw)
		return;
	head = ci.raw->block + CK_INLINE_PARENT;
	found_dot(s, false, s->d->ino, NULL);
	found_dot(s, true, le32_get(*(const le32 *)ci.raw->block), NULL);
	if (s->changed)
		*(le32 *)ci.raw->block = le32_put(EXT4_INO_ROOT);
	bad = check_records(s, head, EXT4_IBLOCK_BYTES - CK_INLINE_PARENT, false);
	len = ck_inline_more(ck, &ci, &value);
	s->i = 1;
	if (len > 0)
		more = (u8 *)raw + (value - (const u8 *)raw);
	if (!bad && more)
		bad = check_records(s, more, (u32)len, false);
	if (bad && ck_fix(ck, CK_DIR_BLOCK, s->d->ino, "inline: %s", bad)) {
		s->changed = true;
		(void)ck_region_repack(ck, s->d, head, EXT4_IBLOCK_BYTES - CK_INLINE_PARENT);
		if (more && len >= EXT4_DIRENT_MIN)
			(void)ck_region_repack(ck, s->d, more, (u32)len & ~3u);
	}
	if (s->changed)
		ck_inode_put(ck, &ci);
}

/* ---- directories ---- */

static void check_blocks(struct scan *s)
{
	struct ck *ck = s->ck;
	struct ck_dir *d = s->d;
	bool whole = d->count && !d->partial && !d->holes && d->count == d->size_bytes >> ck->es->block_bits;

	for (s->i = 0; s->i < d->count && ck_goes_on(ck); s->i++)
		check_block(s);
	if (whole && s->leaf && !s->rebuild && !ck->err)
		s->rebuild = ck_htree(ck, d, s->leaf);
	if (whole || ck->err)
		return;
	if (d->partial)
		ck_say(ck, CK_DIR_HOLE, d->ino, "%s",
		       d->count ? "not all of its blocks are there" : "it has no block");
	else
		s->rebuild |= ck_fix(ck, CK_DIR_HOLE, d->ino, "%s",
				     d->count ? "not all of its blocks are there" : "it has no block");
}

/* Blocks that it does not need are wanted elsewhere: lost+found has some from the beginning. */
static bool gives_room(struct scan *s)
{
	const struct ck_dir *d = s->d;

	return s->ck->no_room && !s->is_inline && !s->rebuild && !s->unread && !d->partial &&
	       !(d->flags & EXT4_FL_INDEX) && d->count > MAX(s->named, 1u) &&
	       ck_fix(s->ck, CK_DIR_ROOM, d->ino, "%u of %u", d->count - MAX(s->named, 1u), d->count);
}

static void check_dir(struct ck *ck, struct ck_dir *d)
{
	struct scan s = { .ck = ck, .d = d };

	if (d->flags & EXT4_FL_INLINE_DATA)
		check_inline(&s);
	else
		check_blocks(&s);
	if (ck->opts->rebuild_dirs && ck_mends(ck) && !s.is_inline && !s.rebuild && d->count) {
		/* What its map gives up is found by the next round. */
		s.rebuild = true;
		ck->sum->mended++;
	}
	s.rebuild |= gives_room(&s);
	/* What could not be read, or is to be found where the map is damaged, would be lost. */
	if (s.rebuild && !d->partial && !s.unread && !ck->err && !ck_dir_rebuild(ck, d))
		ck_not_mended(ck, CK_DIR_BLOCK, d->ino, "it cannot be written anew");
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
	u64 mended = ck->sum->mended;
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
	ck->names_mended = ck->sum->mended != mended;
	free(order);
}
