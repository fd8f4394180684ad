/*
 * Every inode: what it is, whether its members can be, its map and its attributes. Tables are read in large pieces, the next one asked for
 * while one is looked at.
 *
 * What pass 1 of e2fsck complains of is complained of here too; what it calls sound is sound here (e2fsck/pass1.c of e2fsprogs 1.47).
 */
#include "check.h"

#include "lib/scope.h"
#include <stdlib.h>

#define PIECE_BYTES (1u << 20)
#define EPOCH_MASK  3u

static bool is_type(u32 mode)
{
	return ext4_dirent_type(&(struct ext4_super){ .filetype = true }, mode);
}

/* ---- members ---- */

static u32 extra_of(const struct ck *ck, const struct ext4_disk_inode *raw)
{
	return ck->es->inode_bytes > EXT4_INODE_BYTES_OLD ? le16_get(raw->extra_isize) : 0;
}

/* A date before 1970 that says that it is one of after 2310: kernels of old wrote these. */
static bool time_wrong(const struct ck *ck, const struct ext4_disk_inode *raw, le32 sec, const le32 *extra)
{
	size_t end = (size_t)((const u8 *)extra - (const u8 *)raw) + sizeof(*extra);

	return end <= EXT4_INODE_BYTES_OLD + extra_of(ck, raw) && (s32)le32_get(sec) < 0 &&
	       (le32_get(*extra) & EPOCH_MASK) == EPOCH_MASK;
}

/* Where attributes begin behind the members, that is where these end; else as usual. */
static u32 usual_extra(const struct ck *ck, const struct ck_inode *ci)
{
	u32 room = ck->es->inode_bytes - EXT4_INODE_BYTES_OLD, want = le16_get(ck->es->disk.want_extra_isize);

	for (u32 at = 4; at + sizeof(le32) <= room; at += 4)
		if (le32_get(*(const le32 *)((const u8 *)ci->raw + EXT4_INODE_BYTES_OLD + at)) ==
		    EXT4_XATTR_MAGIC)
			return at;
	if (want < 4 || want > room || want % 4)
		want = (u32)sizeof(struct ext4_disk_inode) - EXT4_INODE_BYTES_OLD;
	return MIN(want, room);
}

static bool extra_wrong(const struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	u32 extra = extra_of(ck, ci->raw);

	return es->inode_bytes > EXT4_INODE_BYTES_OLD &&
	       (extra % 4 || extra > es->inode_bytes - EXT4_INODE_BYTES_OLD || (extra && extra < 4));
}

static void check_extra(struct ck *ck, struct ck_inode *ci)
{
	struct ext4_disk_inode *raw = ci->raw;
	const struct {
		le32 *sec, *extra;
	} time[] = { { &raw->atime, &raw->atime_extra },
		     { &raw->ctime, &raw->ctime_extra },
		     { &raw->mtime, &raw->mtime_extra } };
	/* The attribute that goes with inline data lies behind extra fields. */
	bool none = ck->es->inode_bytes > EXT4_INODE_BYTES_OLD && !extra_of(ck, raw) &&
		    ci->flags & EXT4_FL_INLINE_DATA,
	     bad = false;

	if (none || extra_wrong(ck, ci)) {
		if (!ck_fix(ck, CK_INODE_EXTRA, ci->ino, "%u", extra_of(ck, raw)))
			return;
		raw->extra_isize = le16_put((u16)usual_extra(ck, ci));
		ci->changed = true;
	}
	for (u32 i = 0; i < ARRAY_SIZE(time); i++)
		bad |= time_wrong(ck, raw, *time[i].sec, time[i].extra);
	if (!bad || !ck_fix(ck, CK_INODE_TIME, ci->ino, "%s", ""))
		return;
	for (u32 i = 0; i < ARRAY_SIZE(time); i++)
		if (time_wrong(ck, raw, *time[i].sec, time[i].extra))
			*time[i].extra = le32_put(le32_get(*time[i].extra) & ~EPOCH_MASK);
	ci->changed = true;
}

static void check_fields(struct ck *ck, struct ck_inode *ci)
{
	struct ext4_disk_inode *raw = ci->raw;
	const struct ext4_super *es = ck->es;
	const struct {
		bool must_be_zero;
		void *at;
		u32 bytes;
		const char *name;
	} field[] = {
		{ true, &raw->obso_faddr, sizeof(raw->obso_faddr), "faddr" },
		{ !ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE), &raw->blocks_hi, sizeof(raw->blocks_hi),
		  "the high half of blocks" },
		{ !ext4_has_incompat(es, EXT4_INCOMPAT_64BIT), &raw->file_acl_hi, sizeof(raw->file_acl_hi),
		  "the high half of file_acl" },
		{ !ext4_has_compat(es, EXT4_COMPAT_EXT_ATTR), &raw->file_acl_lo, sizeof(raw->file_acl_lo),
		  "file_acl, where the volume has no attributes" },
		{ S_ISLNK(ci->mode) || (ci->is_dir && !ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR)),
		  &raw->size_hi, sizeof(raw->size_hi), "the high half of size" },
	};
	static const u8 zeros[sizeof(le32)];

	check_extra(ck, ci);
	for (u32 i = 0; i < ARRAY_SIZE(field); i++) {
		if (!field[i].must_be_zero || !memcmp(field[i].at, zeros, field[i].bytes) ||
		    !ck_fix(ck, CK_INODE_FIELD, ci->ino, "%s", field[i].name))
			continue;
		memset(field[i].at, 0, field[i].bytes);
		ci->changed = true;
	}
}

/* It says inline data, but what it holds is a map of extents. */
static bool is_map_not_inline(struct ck *ck, const struct ck_inode *ci)
{
	const u8 *value;

	return ci->flags & EXT4_FL_INLINE_DATA && ck_has_extent_root(ck, ci) &&
	       ck_inline_more(ck, ci, &value) < 0;
}

/* Of an inode that says both: which one it is not. */
static u32 not_inline_or_not_extents(struct ck *ck, const struct ck_inode *ci)
{
	const u8 *value;

	if (ck_has_extent_root(ck, ci))
		return EXT4_FL_INLINE_DATA;
	return ck_inline_more(ck, ci, &value) >= 0 || ci->size_bytes <= EXT4_IBLOCK_BYTES
		       ? EXT4_FL_EXTENTS
		       : EXT4_FL_INLINE_DATA;
}

static void check_flags(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	bool content = S_ISDIR(ci->mode) || S_ISREG(ci->mode) || S_ISLNK(ci->mode),
	     both = ci->flags & EXT4_FL_INLINE_DATA && ci->flags & EXT4_FL_EXTENTS && content;
	const u8 *value;
	const struct {
		u32 flag;
		bool wrong;
		const char *what;
	} rule[] = {
		{ EXT4_FL_EXTENTS, !ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS),
		  "extents, which the volume does not have" },
		{ EXT4_FL_INLINE_DATA, !ext4_has_incompat(es, EXT4_INCOMPAT_INLINE_DATA),
		  "inline data, which the volume does not have" },
		{ both ? not_inline_or_not_extents(ck, ci) : 0, both, "both inline data and extents" },
		{ EXT4_FL_INLINE_DATA, !both && content && is_map_not_inline(ck, ci),
		  "inline data, but it has a map of extents" },
		{ EXT4_FL_INLINE_DATA, !content, "inline data, but it has no content" },
		{ EXT4_FL_INDEX, !ext4_has_compat(es, EXT4_COMPAT_DIR_INDEX),
		  "a hashed directory, which the volume does not have" },
		{ EXT4_FL_INDEX, !ci->is_dir, "a hashed directory, but it is none" },
		{ EXT4_FL_CASEFOLD, !ext4_has_incompat(es, EXT4_INCOMPAT_CASEFOLD),
		  "casefold, which the volume does not have" },
		{ EXT4_FL_CASEFOLD, !ci->is_dir, "casefold, but it is no directory" },
		{ EXT4_FL_IMAGIC, !ext4_has_compat(es, EXT4_COMPAT_IMAGIC_INODES), "imagic" },
		{ EXT4_FL_ENCRYPT, !ext4_has_incompat(es, EXT4_INCOMPAT_ENCRYPT),
		  "encryption, which the volume does not have" },
		{ EXT4_FL_VERITY, !ext4_has_ro_compat(es, EXT4_RO_COMPAT_VERITY),
		  "verity, which the volume does not have" },
		{ EXT4_FL_HUGE_FILE, !ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE),
		  "huge file, which the volume does not have" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rule); i++) {
		if (!(ci->flags & rule[i].flag) || !rule[i].wrong ||
		    !ck_fix(ck, CK_INODE_FLAGS, ci->ino, "%s", rule[i].what))
			continue;
		/* Where the content is what the flag says, it is the volume's feature that was lost. */
		if (i == 0 && ck_has_extent_head(ck, ci))
			ck_feature_set(ck, EXT4_INCOMPAT_EXTENTS, 0);
		else if (i == 1 && content && ck_inline_more(ck, ci, &value) >= 0)
			ck_feature_set(ck, EXT4_INCOMPAT_INLINE_DATA, 0);
		else
			ck_inode_set_flags(ci, rule[i].flag, 0);
	}
}

/* ---- content ---- */

static void check_special(struct ck *ck, struct ck_inode *ci)
{
	const u32 flags = EXT4_FL_IMMUTABLE | EXT4_FL_APPEND | EXT4_FL_INDEX | EXT4_FL_EXTENTS;
	u32 used = S_ISCHR(ci->mode) || S_ISBLK(ci->mode) ? 2 * sizeof(le32) : 0;
	u8 *p = ci->raw->block;

	if (ci->flags & flags && ck_fix(ck, CK_INODE_SPECIAL, ci->ino, "%s", "flags"))
		ck_inode_set_flags(ci, flags, 0);
	if ((ci->size_bytes || le32_get(ci->raw->size_hi)) &&
	    ck_fix(ck, CK_INODE_SPECIAL, ci->ino, "%s", "its size is not 0"))
		ck_inode_set_size(ci, 0);
	for (u32 i = used; i < EXT4_IBLOCK_BYTES; i++) {
		if (!p[i])
			continue;
		if (ck_fix(ck, CK_INODE_SPECIAL, ci->ino, "%s", "something where others have a map")) {
			memset(p + used, 0, EXT4_IBLOCK_BYTES - used);
			ci->changed = true;
		}
		break;
	}
}

/* By its blocks, or, as e2fsck has it, by its length, when that is the text's. */
static bool is_fast_symlink(const struct ck *ck, const struct ck_inode *ci)
{
	u64 xattr =
		le32_get(ci->raw->file_acl_lo) ? 1ull << (ck->es->cluster_bits + ck->es->block_bits - 9) : 0;

	return S_ISLNK(ci->mode) && ci->size_bytes < EXT4_IBLOCK_BYTES &&
	       !(ci->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_EXTENTS)) &&
	       ((ext4_has_incompat(ck->es, EXT4_INCOMPAT_EA_INODE) && ci->size_bytes) ||
		ext4_inode_blocks_512(ck->es, ci->raw) <= xattr ||
		(ci->size_bytes &&
		 strnlen((const char *)ci->raw->block, EXT4_IBLOCK_BYTES) == ci->size_bytes));
}

/* Its text, and the room for it; NULL: there is none. */
static const char *symlink_text(struct ck *ck, const struct ck_inode *ci, struct buffer_head **bh, u64 *room)
{
	const struct ext4_disk_extent *e = (const void *)(ci->raw->block + 12);
	u64 blk =
		ci->flags & EXT4_FL_EXTENTS ? ext4_extent_start(e) : le32_get(*(const le32 *)ci->raw->block);

	if (is_fast_symlink(ck, ci)) {
		*room = EXT4_IBLOCK_BYTES;
		return (const char *)ci->raw->block;
	}
	if (!ck_read(ck, blk, bh))
		return NULL;
	*room = (*bh)->size_bytes;
	return (*bh)->data;
}

/* A text that is short stands in the inode. Its block is free in the next round. */
static void make_fast(struct ck *ck, struct ck_inode *ci, const char *text, u64 len)
{
	memset(ci->raw->block, 0, EXT4_IBLOCK_BYTES);
	memcpy(ci->raw->block, text, len);
	ck_inode_set_flags(ci, EXT4_FL_EXTENTS, 0);
	ck_inode_set_blocks(ck, ci,
			    ext4_inode_blocks_512(ck->es, ci->raw) -
				    (1ull << (ck->es->cluster_bits + ck->es->block_bits - 9)));
	ck->stale = true;
}

static void check_symlink(struct ck *ck, struct ck_inode *ci)
{
	const u32 flags = EXT4_FL_IMMUTABLE | EXT4_FL_APPEND;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const char *bad = NULL, *text;
	u64 room, len;

	if (ci->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_ENCRYPT))
		return;
	if (!is_fast_symlink(ck, ci)) {
		if (ci->bad)
			return;
		if (ci->last_lblk) {
			if (ck_fix(ck, CK_SYMLINK, ci->ino, "%s", "not one block"))
				ck_inode_forget(ck, ci);
			return;
		}
	}
	text = symlink_text(ck, ci, &bh, &room);
	if (!text)
		return;
	len = strnlen(text, room);
	if (!ci->size_bytes)
		bad = "it is empty";
	else if (ci->size_bytes >= room)
		bad = "it is too long";
	else if (len != ci->size_bytes)
		bad = "its length is not that of its text";
	else if (bh && len < EXT4_IBLOCK_BYTES)
		bad = "it is short, but has a block";
	if (ci->flags & flags)
		bad = "flags that it cannot have";
	if (!bad || !ck_fix(ck, CK_SYMLINK, ci->ino, "%s", bad))
		return;
	if (!len || len >= room) {
		ck_inode_forget(ck, ci);
		return;
	}
	ck_inode_set_flags(ci, flags, 0);
	ck_inode_set_size(ci, len);
	if (bh && len < EXT4_IBLOCK_BYTES)
		make_fast(ck, ci, text, len);
}

static void check_inline(struct ck *ck, struct ck_inode *ci)
{
	const u8 *value;
	s64 more = ck_inline_more(ck, ci, &value);
	u64 room = EXT4_IBLOCK_BYTES + (u64)MAX(more, (s64)0);
	bool mend = false;

	if (more < 0)
		mend = ck_fix(ck, CK_INLINE_DATA, ci->ino, "%s", "its attribute is missing");
	else if (ci->is_dir ? ci->size_bytes != room : ci->size_bytes > room)
		mend = ck_fix(ck, CK_INLINE_DATA, ci->ino, "size %llu, there is room for %llu",
			      (unsigned long long)ci->size_bytes, (unsigned long long)room);
	if (!mend)
		return;
	if (more >= 0 || ck_inline_attr_add(ck, ci)) {
		ck_inode_set_size(ci, more >= 0 || ci->is_dir ? room : MIN(ci->size_bytes, room));
		return;
	}
	/* There is no room for what it needs. */
	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_EXTENTS)) {
		ext4_extent_root_init(ci->raw->block);
		ck_inode_set_flags(ci, EXT4_FL_INLINE_DATA, EXT4_FL_EXTENTS);
	} else {
		memset(ci->raw->block, 0, EXT4_IBLOCK_BYTES);
		ck_inode_set_flags(ci, EXT4_FL_INLINE_DATA, 0);
	}
	ck_inode_set_size(ci, 0);
}

static void check_size(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	u64 blocks = DIV_ROUND_UP(ci->size_bytes, (u64)ext4_block_bytes(es)), end = (u64)(ci->last_lblk + 1);
	bool bad = false, large_file = false;

	/* That a directory has no block at all is told by who goes through its blocks. */
	if (ci->is_dir)
		end = MAX(end, 1ull);
	if (ci->is_dir)
		bad = blocks > end || ci->size_bytes % ext4_block_bytes(es) ||
		      end - blocks > es->disk.prealloc_dir_blocks;
	else if (S_ISREG(ci->mode))
		bad = (ci->last_written >= 0 && !(ci->flags & EXT4_FL_VERITY) &&
		       ci->size_bytes < (u64)ci->last_written << es->block_bits) ||
		      blocks > ext4_file_blocks_max(es, ci->flags & EXT4_FL_EXTENTS);
	if (bad && ck_fix(ck, CK_INODE_SIZE, ci->ino, "size %llu, its blocks end at %llu",
			  (unsigned long long)ci->size_bytes, (unsigned long long)(end << es->block_bits)))
		ck_inode_set_size(ci, (ci->is_dir ? end : (u64)(ci->last_written + 1)) << es->block_bits);
	if (S_ISREG(ci->mode) && ci->size_bytes >> 31 && !ext4_has_ro_compat(es, EXT4_RO_COMPAT_LARGE_FILE))
		large_file = ck_fix(ck, CK_INODE_SIZE, ci->ino, "%s",
				    "longer than files are where large_file is not set");
	if (large_file)
		ck_feature_set(ck, 0, EXT4_RO_COMPAT_LARGE_FILE);
}

static void check_block_count(struct ck *ck, struct ck_inode *ci)
{
	u64 want = ci->clusters << (ck->es->cluster_bits + ck->es->block_bits - 9),
	    says = ext4_inode_blocks_512(ck->es, ci->raw);

	if (want != says && !ci->bad && !ci->rebuild &&
	    ck_fix(ck, CK_INODE_BLOCKS, ci->ino, "%llu, there are %llu", (unsigned long long)says,
		   (unsigned long long)want))
		ck_inode_set_blocks(ck, ci, want);
}

static void remember_dir(struct ck *ck, const struct ck_inode *ci, u32 first)
{
	u64 *at;

	if (!ck_room(ck, &ck->dir, ck->dirs, &ck->dir_room, sizeof(*ck->dir)))
		return;
	at = ck_map_at(ck, &ck->dir_of, ci->ino);
	if (!at)
		return;
	ck->dir[ck->dirs++] = (struct ck_dir){ .ino = (u32)ci->ino,
					       .generation = le32_get(ci->raw->generation),
					       .flags = ci->flags,
					       .first = first,
					       .count = ck->blks - first,
					       .size_bytes = ci->size_bytes,
					       .partial = ci->bad || ci->rebuild || ci->unwritten,
					       .holes = ci->holes };
	*at = ck->dirs;
	ck->sum->directories++;
}

/* ---- one inode ---- */

static void check_content(struct ck *ck, struct ck_inode *ci)
{
	u32 first = ck->blks;

	if (ci->flags & EXT4_FL_INLINE_DATA) {
		if (!ck->again)
			check_inline(ck, ci);
	} else if (S_ISREG(ci->mode) || ci->is_dir || (S_ISLNK(ci->mode) && !is_fast_symlink(ck, ci))) {
		if (!(ci->flags & EXT4_FL_EXTENTS) && ck_has_extent_root(ck, ci) && !ck->again &&
		    ck_fix(ck, CK_INODE_FLAGS, ci->ino, "%s",
			   "a map of extents, but the flag says that it is none"))
			ck_inode_set_flags(ci, 0, EXT4_FL_EXTENTS);
		ck_map_walk(ck, ci);
		if (!ck->again && !ci->bad && !ci->rebuild)
			check_size(ck, ci);
	} else if (!S_ISLNK(ci->mode) && !ck->again) {
		check_special(ck, ci);
	}
	if (ck->again)
		return;
	if (ci->is_dir)
		remember_dir(ck, ci, first);
	if (S_ISLNK(ci->mode))
		check_symlink(ck, ci);
	if (le16_get(ci->raw->mode)) {
		check_block_count(ck, ci);
		ck_quota_count(ck, ci);
	}
}

/* A reserved inode that is in use on this volume. */
static bool is_needed(const struct ck *ck, u64 ino)
{
	const struct ext4_super *es = ck->es;

	if (ino == EXT4_INO_JOURNAL)
		return ext4_journal_is_inside(es);
	return ext4_has_ro_compat(es, EXT4_RO_COMPAT_QUOTA) &&
	       (ino == le32_get(es->disk.usr_quota_inum) || ino == le32_get(es->disk.grp_quota_inum));
}

/* It may be a file. That of boot loaders is nobody's business. */
static bool may_be_used(const struct ck *ck, u64 ino)
{
	return ino == EXT4_INO_BOOT || is_needed(ck, ino);
}

/* Of one that is in use by nobody. */
static bool holds_something(const struct ck_inode *ci)
{
	static const u8 zeros[EXT4_IBLOCK_BYTES];

	return ci->size_bytes || le32_get(ci->raw->size_hi) || le32_get(ci->raw->blocks_lo) ||
	       le16_get(ci->raw->blocks_hi) || le32_get(ci->raw->file_acl_lo) ||
	       memcmp(ci->raw->block, zeros, sizeof(zeros)) != 0;
}

/* The list of bad blocks is a map and nothing else. */
static void check_bad_list(struct ck *ck, struct ck_inode *ci)
{
	struct ext4_disk_inode *raw = ci->raw, was = *raw;

	if (!(ci->mode | le16_get(raw->uid_lo) | le16_get(raw->gid_lo) | le16_get(raw->links_count) |
	      le32_get(raw->file_acl_lo) | (ci->flags & EXT4_FL_INLINE_DATA)) ||
	    !ck_fix(ck, CK_INODE_RESERVED, ci->ino, "%s", "more than a list of blocks"))
		return;
	memset(raw, 0, EXT4_INODE_BYTES_OLD);
	memcpy(raw->block, was.block, sizeof(raw->block));
	raw->size_lo = was.size_lo;
	raw->blocks_lo = was.blocks_lo;
	raw->generation = was.generation;
	ck_inode_set_flags(ci, ~EXT4_FL_EXTENTS, 0);
}

/* Below first_ino, and not the root. True: there is nothing more to it. */
static bool check_reserved(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	bool resize = ci->ino == EXT4_INO_RESIZE;

	if (ci->ino == EXT4_INO_BAD) {
		if (!ck->again)
			check_bad_list(ck, ci);
		ck_map_walk(ck, ci);
		return true;
	}
	if (resize && ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE)) {
		ck_resize(ck, ci);
		return true;
	}
	if (!ci->mode && !le16_get(ci->raw->links_count)) {
		if (!ck->again && holds_something(ci) &&
		    ck_fix(ck, CK_INODE_RESERVED, ci->ino, "%s", "not empty"))
			ck_inode_forget(ck, ci);
		return true;
	}
	if (!ck->again && (!S_ISREG(ci->mode) || !may_be_used(ck, ci->ino)) &&
	    ck_fix(ck, CK_INODE_RESERVED, ci->ino, "%s", "")) {
		if (!is_needed(ck, ci->ino)) {
			ck_inode_forget(ck, ci);
			return true;
		}
		ci->mode = S_IFREG | 0600;
		ci->raw->mode = le16_put((u16)ci->mode);
		ci->raw->links_count = le16_put(1);
		ci->changed = true;
		ci->is_dir = false;
	}
	return !S_ISREG(ci->mode);
}

/* The pointers in the inode are on the volume, where there are any. */
static bool has_pointers(const struct ck *ck, const struct ck_inode *ci)
{
	const le32 *ptr = (const void *)ci->raw->block;

	for (u32 i = 0; i < EXT4_NDIR + 3; i++)
		if (le32_get(ptr[i]) && !ext4_blocks_ok(ck->es, le32_get(ptr[i]), 1))
			return false;
	return true;
}

/* Another type than that of a file with content, or the root: may be a directory that lost its type. False: there is nothing more to it. */
static bool check_type(struct ck *ck, struct ck_inode *ci, struct ck_ino *in)
{
	bool known = is_type(ci->mode), content = S_ISREG(ci->mode) || S_ISLNK(ci->mode) || ci->is_dir;

	if (!ci->is_dir && (!content || ci->ino == EXT4_INO_ROOT) && ck_holds_dir(ck, ci) &&
	    ck_fix(ck, CK_INODE_IS_DIR, ci->ino, "mode %o", ci->mode)) {
		ci->mode = S_IFDIR | (ci->mode & 07777);
		ci->raw->mode = le16_put((u16)ci->mode);
		ci->is_dir = ci->changed = true;
		in->kind = S_IFDIR >> 12;
		return true;
	}
	if (known)
		return true;
	if (ck_fix(ck, CK_INODE_MODE, ci->ino, "mode %o", ci->mode))
		ck_inode_forget(ck, ci);
	return false;
}

/* It is in use: mode, links or a place in the list of orphans say so. */
static void check_used(struct ck *ck, struct ck_inode *ci, struct ck_ino *in)
{
	const struct ext4_super *es = ck->es;
	u64 xattr;

	in->flags |= CK_USED | (ci->flags & EXT4_FL_ENCRYPT ? CK_CRYPT : 0) |
		     (ci->flags & EXT4_FL_EA_INODE ? CK_EA : 0);
	in->links = le16_get(ci->raw->links_count);
	in->kind = (u8)((ci->mode & S_IFMT) >> 12);
	if (!ck->again) {
		ck->sum->inodes++;
		if ((ci->ino >= es->first_ino || ci->ino == EXT4_INO_ROOT) && !check_type(ck, ci, in))
			return;
		check_fields(ck, ci);
		check_flags(ck, ci);
		if (le32_get(ci->raw->dtime) && !(in->flags & CK_ORPHAN) &&
		    ck_fix(ck, CK_INODE_DTIME, ci->ino, "%s", "it is in use")) {
			ci->raw->dtime = le32_put(0);
			ci->changed = true;
		}
	}
	if (ci->ino < es->first_ino && ci->ino != EXT4_INO_ROOT && check_reserved(ck, ci))
		return;
	xattr = le32_get(ci->raw->file_acl_lo);
	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		xattr |= (u64)le16_get(ci->raw->file_acl_hi) << 32;
	ck_xattrs(ck, ci, xattr);
	if (!ck->again && ci->flags & EXT4_FL_ENCRYPT && !ci->crypt_context &&
	    ck_fix(ck, CK_ENCRYPT, ci->ino, "%s", ci->crypt_attr ? "it is damaged" : "it has none")) {
		if (ci->crypt_attr) {
			ck_inode_forget(ck, ci);
			return;
		}
		ck_inode_set_flags(ci, EXT4_FL_ENCRYPT, 0);
		in->flags &= (u8)~CK_CRYPT;
	}
	check_content(ck, ci);
}

static bool all_zero(const struct ext4_disk_inode *raw, u32 bytes)
{
	const u8 *p = (const u8 *)raw;

	return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

/* With a wrong checksum: it is bytes of something else. */
static bool is_garbage(const struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	const u32 known = EXT4_FL_USER_VISIBLE | EXT4_FL_IMAGIC | EXT4_FL_HUGE_FILE | EXT4_FL_EA_INODE;
	u32 doubts = 0;

	doubts += !is_type(ci->mode);
	doubts += extra_wrong(ck, ci);
	doubts += !!(ci->flags & ~known);
	doubts += !!le32_get(ci->raw->obso_faddr);
	doubts += ext4_inode_blocks_512(es, ci->raw) >> (es->block_bits - 9) > es->blocks;
	doubts += ci->flags & EXT4_FL_EXTENTS && !ck_has_extent_root(ck, ci);
	return doubts > 1 && ci->ino >= es->first_ino;
}

/* True: there is nothing more to the inode. */
static bool check_sum(struct ck *ck, struct ck_inode *ci)
{
	if (ck->again || !ck->es->metadata_csum || ext4_inode_sum_ok(ck->es, ci->ino, ci->raw) ||
	    !ck_fix(ck, CK_INODE_SUM, ci->ino, "%s", ""))
		return false;
	ci->changed = true;
	if (!is_garbage(ck, ci))
		return false;
	ck_inode_forget(ck, ci);
	return true;
}

/*
 * It has no links but for the number all that an inode in use has: whether it is deleted its names will tell. A directory that was removed has no size.
 */
static bool may_have_names(struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	const struct ck_ino *in = ck_ino(ck, ci->ino);
	const struct ext4_group *g = &es->group[ext4_ino_group(es, ci->ino)];
	u32 nth = (u32)((ci->ino - 1) % es->inodes_per_group);
	scoped(bh_putp) struct buffer_head *bh = NULL;

	if (ck->again)
		return in && in->flags & CK_UNSURE;
	if (le32_get(ci->raw->dtime) || !is_type(ci->mode) || (ci->is_dir && !ci->size_bytes) ||
	    extra_wrong(ck, ci))
		return false;
	if (!(ci->flags & EXT4_FL_INLINE_DATA) && (S_ISREG(ci->mode) || ci->is_dir) &&
	    !(ci->flags & EXT4_FL_EXTENTS ? ck_has_extent_root(ck, ci) : has_pointers(ck, ci)))
		return false;
	return g->inode_bitmap && !(g->flags & EXT4_GROUP_INODE_UNINIT) &&
	       ck_read(ck, g->inode_bitmap, &bh) && ((const u8 *)bh->data)[nth / 8] >> nth % 8 & 1;
}

/* In no directory, as far as the inode knows. */
static void check_deleted(struct ck *ck, struct ck_inode *ci)
{
	u32 dtime = le32_get(ci->raw->dtime);

	if (ck->again || !ci->mode || dtime > ck->es->inodes ||
	    !ck_fix(ck, CK_INODE_DTIME, ci->ino, "%s",
		    dtime ? "deleted, but it is an inode's number, as of those in the list of orphans"
			  : "deleted, but without one"))
		return;
	ci->raw->dtime = le32_put((u32)super_now(&ck->es->vfs).sec);
	ci->changed = true;
}

/* Blocks that are claimed twice were counted. */
static void check_twice(struct ck *ck, const struct ck_inode *ci, struct ck_ino *in)
{
	struct ck_inode own = { .ino = ci->ino,
				.raw = ci->raw,
				.mode = ci->mode,
				.flags = ci->flags,
				.size_bytes = ci->size_bytes,
				.is_dir = ci->is_dir,
				.seed = ci->seed,
				.clone = true,
				.realign = ci->askew && !ci->bad };

	bool mend = false;

	/* What stays with it is said of the others. */
	if (ci->askew && !ci->bad)
		mend = ck_fix(ck, CK_BLOCK_ASKEW, ci->ino, "%s", "");
	else if (ci->twice && (!ck_mends(ck) || ci->foreign))
		mend = ck_fix(ck, CK_BLOCK_TWICE, ci->ino, "%llu clusters, the first with block %llu",
			      (unsigned long long)ci->twice, (unsigned long long)ci->first_twice);
	if (!mend)
		return;
	ck_keep_again(ck);
	check_used(ck, &own, in);
	if (own.changed)
		ck_inode_put(ck, &own);
	ck->no_room |= own.no_room;
	if (own.no_room)
		ck_not_mended(ck, ci->askew ? CK_BLOCK_ASKEW : CK_BLOCK_TWICE, ci->ino,
			      "there is no room for copies");
}

static void check_inode(struct ck *ck, u64 ino, struct ext4_disk_inode *raw)
{
	const struct ext4_super *es = ck->es;
	struct ck_inode ci = { .ino = ino,
			       .raw = raw,
			       .mode = le16_get(raw->mode),
			       .flags = le32_get(raw->flags),
			       .size_bytes = le32_get(raw->size_lo) };
	struct ck_ino *in = ck_ino(ck, ino);
	bool reserved = ino < es->first_ino, unsure;

	if (!reserved && all_zero(raw, es->inode_bytes))
		return;
	if (check_sum(ck, &ci)) {
		ck_inode_put(ck, &ci);
		return;
	}
	ci.is_dir = S_ISDIR(ci.mode);
	if (S_ISREG(ci.mode) || ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR))
		ci.size_bytes |= (u64)le32_get(raw->size_hi) << 32;
	if (es->metadata_csum)
		ci.seed = ext4_csum_inode_seed(es, (u32)ino, le32_get(raw->generation));
	unsure = !reserved && !le16_get(raw->links_count) && !(in && in->flags & CK_ORPHAN);
	if (unsure && !may_have_names(ck, &ci)) {
		check_deleted(ck, &ci);
	} else {
		in = ck_ino_make(ck, ino);
		ck->freshes = 0;
		if (in) {
			in->flags |= unsure ? CK_UNSURE : 0;
			check_used(ck, &ci, in);
		}
		if (in && ck->again && (ci.twice || ci.askew))
			check_twice(ck, &ci, in);
	}
	if (ci.changed)
		ck_inode_put(ck, &ci);
}

/* ---- all of them ---- */

/* The bitmap knows of inodes behind those that the descriptor says to be in order: then it is the descriptor that is wrong. */
static void check_unused(struct ck *ck, u32 group)
{
	const struct ext4_super *es = ck->es;
	struct ext4_group *g = &es->group[group];
	u32 used = ck_slots_ready(es, group), top = es->inodes_per_group,
	    mask = es->desc_bytes >= EXT4_DESC_BYTES_64BIT ? ~0u : 0xffff;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const u8 *bits;

	/* Where nothing is in use the bitmap may never have been written; but the root is in use. */
	if (used == top || !g->inode_bitmap || (group && g->flags & EXT4_GROUP_INODE_UNINIT) ||
	    !ck_read(ck, g->inode_bitmap, &bh))
		return;
	bits = bh->data;
	if (es->metadata_csum ? (ext4_csum_bitmap(es, bits, top) & mask) != g->inode_bitmap_csum
			      : !(g->flags & EXT4_GROUP_INODE_ZEROED))
		return;
	while (top && !(bits[(top - 1) / 8] >> (top - 1) % 8 & 1))
		top--;
	if (top <= used ||
	    !ck_fix(ck, CK_GROUP_BEYOND, group, "from %u on, the bitmap has the first %u", used, top))
		return;
	g->itable_unused = es->inodes_per_group - top;
	g->flags &= (u16)~EXT4_GROUP_INODE_UNINIT;
	ck_group_put(ck, group);
}

/* n blocks of the group's table from `at` on, whose first inode is ino. */
static void piece(struct ck *ck, u64 at, u32 n, u64 ino, u32 used, u8 *buf)
{
	const struct ext4_super *es = ck->es;
	u32 bits = es->block_bits, count = MIN(n * es->inodes_per_block, used);

	if (blkdev_read(ck->dev, at << bits, buf, (u64)n << bits)) {
		for (u32 i = 0; i < n; i++) {
			struct buffer_head *bh;

			memset(buf + ((u64)i << bits), 0, 1u << bits);
			if (ck_read(ck, at + i, &bh))
				memcpy(buf + ((u64)i << bits), bh->data, 1u << bits);
			bh_put(bh);
		}
	}
	if (!ck->again && (ino - 1) % es->inodes_per_group == 0)
		ck_table_check(ck, ext4_ino_group(es, ino), buf);
	for (u32 i = 0; i < count && ck_goes_on(ck) && !ck->rest; i++)
		check_inode(ck, ino + i, (void *)(buf + (size_t)i * es->inode_bytes));
}

static void group(struct ck *ck, u32 g, u8 *buf)
{
	const struct ext4_super *es = ck->es;
	u64 table = es->group[g].inode_table, first = (u64)g * es->inodes_per_group + 1;
	u32 step = MAX(PIECE_BYTES >> es->block_bits, 1u), used, blocks;

	if (!table)
		return;
	if (!ck->again)
		check_unused(ck, g);
	used = ck_slots_ready(es, g);
	blocks = DIV_ROUND_UP(used, es->inodes_per_block);
	for (u32 at = 0; at < blocks && ck_goes_on(ck) && !ck->rest; at += step) {
		u32 n = MIN(step, blocks - at), done = at * es->inodes_per_block;

		if (at + n < blocks)
			blkdev_will_need(ck->dev, (table + at + n) << es->block_bits,
					 (u64)MIN(step, blocks - at - n) << es->block_bits);
		else if (g + 1 < es->groups && ck_slots_ready(es, g + 1) && es->group[g + 1].inode_table)
			blkdev_will_need(
				ck->dev, es->group[g + 1].inode_table << es->block_bits,
				MIN((u64)ck_slots_ready(es, g + 1) * es->inode_bytes, (u64)PIECE_BYTES));
		piece(ck, table + at, n, first + done, used - done, buf);
	}
}

static void all_groups(struct ck *ck, const char *name)
{
	u8 *buf = malloc(MAX(PIECE_BYTES, 1u << ck->es->block_bits));

	if (!buf) {
		ck_no_memory(ck);
		return;
	}
	for (u32 g = 0; g < ck->es->groups && ck_goes_on(ck) && !ck->rest; g++) {
		ck_progress(ck, name, g, ck->es->groups);
		group(ck, g, buf);
	}
	free(buf);
}

static void make_root(struct ck *ck)
{
	struct ext4_disk_inode raw = { .generation = le32_put(0) };
	struct ck_inode ci = { .ino = EXT4_INO_ROOT, .raw = &raw, .size_bytes = ext4_block_bytes(ck->es) };
	u32 first = ck->blks;

	if (ck_root_make(ck))
		remember_dir(ck, &ci, first);
	else
		ck_not_mended(ck, CK_ROOT, EXT4_INO_ROOT, "there is no room for it");
}

void ck_inodes(struct ck *ck)
{
	const struct ck_ino *root;

	all_groups(ck, "inodes and blocks");
	/* Inodes that are not where they were looked for would be missed. */
	if (ck->rest)
		return;
	ck_xattrs_end(ck);
	if (ck->any_twice && !ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_SHARED_BLOCKS)) {
		ck->again = true;
		all_groups(ck, "blocks claimed twice");
		ck->again = false;
	}
	root = ck_ino(ck, EXT4_INO_ROOT);
	if (!ck->err && (!root || root->kind != S_IFDIR >> 12) &&
	    ck_fix(ck, CK_ROOT, EXT4_INO_ROOT, "%s", ""))
		make_root(ck);
}
