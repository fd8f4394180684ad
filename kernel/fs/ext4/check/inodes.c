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

static void check_fields(struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_disk_inode *raw = ci->raw;
	const struct ext4_super *es = ck->es;
	u32 extra = extra_of(ck, raw);

	if (es->inode_bytes > EXT4_INODE_BYTES_OLD &&
	    (extra % 4 || extra > es->inode_bytes - EXT4_INODE_BYTES_OLD || (extra && extra < 4)))
		ck_say(ck, CK_INODE_EXTRA, ci->ino, "%u", extra);
	else if (time_wrong(ck, raw, raw->atime, &raw->atime_extra) ||
		 time_wrong(ck, raw, raw->ctime, &raw->ctime_extra) ||
		 time_wrong(ck, raw, raw->mtime, &raw->mtime_extra))
		ck_say(ck, CK_INODE_TIME, ci->ino, "%s", "");
	if (le32_get(raw->obso_faddr))
		ck_say(ck, CK_INODE_FIELD, ci->ino, "%s", "faddr");
	if (!ext4_has_ro_compat(es, EXT4_RO_COMPAT_HUGE_FILE) && le16_get(raw->blocks_hi))
		ck_say(ck, CK_INODE_FIELD, ci->ino, "%s", "the high half of blocks");
	if (!ext4_has_incompat(es, EXT4_INCOMPAT_64BIT) && le16_get(raw->file_acl_hi))
		ck_say(ck, CK_INODE_FIELD, ci->ino, "%s", "the high half of file_acl");
	if (!ext4_has_compat(es, EXT4_COMPAT_EXT_ATTR) && le32_get(raw->file_acl_lo))
		ck_say(ck, CK_INODE_FIELD, ci->ino, "%s", "file_acl, where the volume has no attributes");
	if (ci->is_dir && !ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR) && le32_get(raw->size_hi))
		ck_say(ck, CK_INODE_FIELD, ci->ino, "%s", "the high half of size");
}

static void check_flags(struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	const struct {
		u32 flag;
		bool wrong;
		const char *what;
	} rule[] = {
		{ EXT4_FL_EXTENTS, !ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS),
		  "extents, which the volume does not have" },
		{ EXT4_FL_INLINE_DATA, !ext4_has_incompat(es, EXT4_INCOMPAT_INLINE_DATA),
		  "inline data, which the volume does not have" },
		{ EXT4_FL_INLINE_DATA, ci->flags & EXT4_FL_EXTENTS, "both inline data and extents" },
		{ EXT4_FL_INLINE_DATA, !S_ISDIR(ci->mode) && !S_ISREG(ci->mode) && !S_ISLNK(ci->mode),
		  "inline data, but it has no content" },
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

	for (u32 i = 0; i < ARRAY_SIZE(rule); i++)
		if (ci->flags & rule[i].flag && rule[i].wrong)
			ck_say(ck, CK_INODE_FLAGS, ci->ino, "%s", rule[i].what);
}

/* ---- content ---- */

static bool has_extent_root(const struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_disk_extent_header *h = (const void *)ci->raw->block;

	return ext4_has_incompat(ck->es, EXT4_INCOMPAT_EXTENTS) &&
	       le16_get(h->depth) <= EXT4_EXTENT_DEPTH_MAX &&
	       !ext4_extent_head_wrong(ck->es, h, EXT4_IBLOCK_BYTES, le16_get(h->depth));
}

static void check_special(struct ck *ck, const struct ck_inode *ci)
{
	const u8 *p = ci->raw->block;
	u32 used = S_ISCHR(ci->mode) || S_ISBLK(ci->mode) ? 2 * sizeof(le32) : 0;

	if (ci->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND | EXT4_FL_INDEX | EXT4_FL_EXTENTS))
		ck_say(ck, CK_INODE_SPECIAL, ci->ino, "%s", "flags");
	if (ci->size_bytes)
		ck_say(ck, CK_INODE_SPECIAL, ci->ino, "%s", "its size is not 0");
	for (u32 i = used; i < EXT4_IBLOCK_BYTES; i++)
		if (p[i]) {
			ck_say(ck, CK_INODE_SPECIAL, ci->ino, "%s", "something where others have a map");
			break;
		}
}

static bool is_fast_symlink(const struct ck *ck, const struct ck_inode *ci)
{
	u64 xattr =
		le32_get(ci->raw->file_acl_lo) ? 1ull << (ck->es->cluster_bits + ck->es->block_bits - 9) : 0;

	return S_ISLNK(ci->mode) && ci->size_bytes < EXT4_IBLOCK_BYTES &&
	       !(ci->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_EXTENTS)) &&
	       (ext4_has_incompat(ck->es, EXT4_INCOMPAT_EA_INODE) ||
		ext4_inode_blocks_512(ck->es, ci->raw) <= xattr);
}

static void check_symlink(struct ck *ck, struct ck_inode *ci)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const char *bad = NULL, *text = (const char *)ci->raw->block;
	u64 room = EXT4_IBLOCK_BYTES;

	if (ci->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_ENCRYPT))
		return;
	if (!is_fast_symlink(ck, ci)) {
		const struct ext4_disk_extent *e = (const void *)(ci->raw->block + 12);
		u64 blk = ci->flags & EXT4_FL_EXTENTS ? ext4_extent_start(e)
						      : le32_get(*(const le32 *)ci->raw->block);

		if (ci->bad)
			return;
		if (ci->last_lblk) {
			ck_say(ck, CK_SYMLINK, ci->ino, "%s", "not one block");
			return;
		}
		if (!ck_read(ck, blk, &bh))
			return;
		text = bh->data;
		room = bh->size_bytes;
	}
	if (!ci->size_bytes)
		bad = "it is empty";
	else if (ci->size_bytes >= room)
		bad = "it is too long";
	else if (strnlen(text, room) != ci->size_bytes)
		bad = "its length is not that of its text";
	if (ci->flags & (EXT4_FL_IMMUTABLE | EXT4_FL_APPEND))
		bad = "flags that it cannot have";
	if (bad)
		ck_say(ck, CK_SYMLINK, ci->ino, "%s", bad);
}

static void check_inline(struct ck *ck, const struct ck_inode *ci)
{
	const u8 *value;
	s64 more = ck_inline_more(ck, ci, &value);
	u64 room = EXT4_IBLOCK_BYTES + (u64)MAX(more, (s64)0);

	if (more < 0 && ci->size_bytes > EXT4_IBLOCK_BYTES)
		ck_say(ck, CK_INLINE_DATA, ci->ino, "%s", "a part of it is missing");
	else if (ci->is_dir ? ci->size_bytes != room : ci->size_bytes > room)
		ck_say(ck, CK_INLINE_DATA, ci->ino, "size %llu, there is room for %llu",
		       (unsigned long long)ci->size_bytes, (unsigned long long)room);
}

static void check_size(struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	u64 blocks = DIV_ROUND_UP(ci->size_bytes, (u64)ext4_block_bytes(es)), end = (u64)(ci->last_lblk + 1);
	bool bad = false;

	if (ci->is_dir)
		bad = blocks > end || ci->size_bytes % ext4_block_bytes(es) ||
		      end - blocks > es->disk.prealloc_dir_blocks;
	else if (S_ISREG(ci->mode))
		bad = (ci->last_written >= 0 && !(ci->flags & EXT4_FL_VERITY) &&
		       ci->size_bytes < (u64)ci->last_written << es->block_bits) ||
		      blocks > ext4_file_blocks_max(es, ci->flags & EXT4_FL_EXTENTS);
	if (bad)
		ck_say(ck, CK_INODE_SIZE, ci->ino, "size %llu, its blocks end at %llu",
		       (unsigned long long)ci->size_bytes, (unsigned long long)(end << es->block_bits));
	if (S_ISREG(ci->mode) && ci->size_bytes >> 31 && !ext4_has_ro_compat(es, EXT4_RO_COMPAT_LARGE_FILE))
		ck_say(ck, CK_INODE_SIZE, ci->ino, "%s", "longer than files are where large_file is not set");
}

static void check_block_count(struct ck *ck, const struct ck_inode *ci)
{
	u64 want = ci->clusters << (ck->es->cluster_bits + ck->es->block_bits - 9),
	    says = ext4_inode_blocks_512(ck->es, ci->raw);

	if (want != says && !ci->bad)
		ck_say(ck, CK_INODE_BLOCKS, ci->ino, "%llu, there are %llu", (unsigned long long)says,
		       (unsigned long long)want);
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
					       .partial = ci->bad };
	*at = ck->dirs;
	ck->sum->directories++;
}

/* ---- the inode that has the room for more descriptors: lib/ext2fs/res_gdt.c of e2fsprogs ---- */

/* True: the block points to those in the copies, or it cannot be read, which was said. */
static bool resize_block_ok(struct ck *ck, u64 gdt_blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ext4_block_bytes(ck->es) / (u32)sizeof(le32);
	const le32 *ptr;

	if (!ck_read(ck, gdt_blk, &bh))
		return true;
	ptr = bh->data;
	for (u32 copy = 1, i = 0; i < per; copy++, i++) {
		u64 super = ext4_super_copy_blk(ck->es, copy);
		u64 want = super ? super + gdt_blk - ck->es->super_blk : 0;

		if (le32_get(ptr[i]) != (u32)want && (super || le32_get(ptr[i])))
			return false;
		if (!super)
			return true;
	}
	return true;
}

static const char *resize_inode_wrong(const struct ck *ck, const struct ck_inode *ci, u64 dind)
{
	const struct ext4_super *es = ck->es;
	const le32 *root = (const void *)ci->raw->block;

	for (u32 i = 0; i < EXT4_NDIR + 3; i++)
		if ((i != EXT4_NDIR + 1) == !!le32_get(root[i]))
			return "its pointers";
	if (!S_ISREG(ci->mode) || ci->flags & EXT4_FL_EXTENTS)
		return "not a file of pointers";
	if (!ext4_blocks_ok(es, dind, 1))
		return "its map lies where none can";
	if (ext4_inode_blocks_512(es, ci->raw) != ck_resize_clusters(es)
							  << (es->cluster_bits + es->block_bits - 9))
		return "its number of blocks";
	return NULL;
}

static void check_resize(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ext4_block_bytes(es) / (u32)sizeof(le32), reserved = le16_get(es->disk.reserved_gdt_blocks);
	u64 dind = le32_get(((const le32 *)(const void *)ci->raw->block)[EXT4_NDIR + 1]);
	const char *bad = resize_inode_wrong(ck, ci, dind);
	const le32 *ptr;

	if (!dind && !reserved)
		return;
	if (ext4_blocks_ok(es, dind, 1) && ck_take(ck, ci, dind))
		ck->resize_blk = dind;
	if (ck->again)
		return;
	if (!bad && ck->resize_blk && !ck_read(ck, dind, &bh))
		return;
	ptr = bh ? bh->data : NULL;
	for (u32 i = 0; ptr && i < reserved && ck_goes_on(ck) && !bad; i++) {
		u64 blk = es->super_blk + 1 + es->gdt_blocks + i;

		if (le32_get(ptr[(es->gdt_blocks + i) % per]) != blk)
			bad = "not all blocks that are kept";
		else if (!resize_block_ok(ck, blk))
			bad = "those of a copy";
	}
	if (bad && ck_fix(ck, CK_RESIZE, ci->ino, "%s", bad))
		ck->own |= CK_OWN_RESIZE;
}

/* ---- one inode ---- */

static void check_content(struct ck *ck, struct ck_inode *ci)
{
	u32 first = ck->blks;

	if (ci->flags & EXT4_FL_INLINE_DATA) {
		if (!ck->again)
			check_inline(ck, ci);
	} else if (S_ISREG(ci->mode) || ci->is_dir || (S_ISLNK(ci->mode) && !is_fast_symlink(ck, ci))) {
		if (!(ci->flags & EXT4_FL_EXTENTS) && has_extent_root(ck, ci) && !ck->again)
			ck_say(ck, CK_INODE_FLAGS, ci->ino, "%s",
			       "a map of extents, but the flag says that it is none");
		ck_map_walk(ck, ci);
		if (!ck->again && !ci->bad)
			check_size(ck, ci);
	} else if (!S_ISLNK(ci->mode) && !ck->again) {
		check_special(ck, ci);
	}
	if (ck->again)
		return;
	if (S_ISLNK(ci->mode))
		check_symlink(ck, ci);
	if (ci->is_dir)
		remember_dir(ck, ci, first);
	check_block_count(ck, ci);
}

/* Below first_ino, and not the root. True: there is nothing more to it. */
static bool check_reserved(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	bool journal = ci->ino == EXT4_INO_JOURNAL, resize = ci->ino == EXT4_INO_RESIZE;

	if (ci->ino == EXT4_INO_BAD) {
		ck_map_walk(ck, ci);
		return true;
	}
	if (resize && ext4_has_compat(es, EXT4_COMPAT_RESIZE_INODE)) {
		check_resize(ck, ci);
		return true;
	}
	if (!ci->mode && !le16_get(ci->raw->links_count))
		return true;
	if (!ck->again && (!S_ISREG(ci->mode) || resize || (journal && !ext4_journal_is_inside(es))))
		ck_say(ck, CK_INODE_RESERVED, ci->ino, "%s", "");
	return !S_ISREG(ci->mode);
}

/* It is in use: mode, links or a place in the list of orphans say so. */
static void check_used(struct ck *ck, struct ck_inode *ci, struct ck_ino *in)
{
	const struct ext4_super *es = ck->es;
	u32 kind = ci->mode & S_IFMT;
	u64 xattr = le32_get(ci->raw->file_acl_lo);

	if (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT))
		xattr |= (u64)le16_get(ci->raw->file_acl_hi) << 32;
	in->flags |= CK_USED | (ci->flags & EXT4_FL_ENCRYPT ? CK_CRYPT : 0) |
		     (ci->flags & EXT4_FL_EA_INODE ? CK_EA : 0);
	in->links = le16_get(ci->raw->links_count);
	in->kind = (u8)(kind >> 12);
	if (!ck->again) {
		ck->sum->inodes++;
		check_fields(ck, ci);
		check_flags(ck, ci);
		if (le32_get(ci->raw->dtime) && !(in->flags & CK_ORPHAN))
			ck_say(ck, CK_INODE_DTIME, ci->ino, "%s", "it is in use");
	}
	if (ci->ino < es->first_ino && ci->ino != EXT4_INO_ROOT && check_reserved(ck, ci))
		return;
	if (!ck->again && !ext4_dirent_type(&(struct ext4_super){ .filetype = true }, ci->mode)) {
		ck_say(ck, CK_INODE_MODE, ci->ino, "mode %o", ci->mode);
		return;
	}
	ck_xattrs(ck, ci, xattr);
	check_content(ck, ci);
	if (!ck->again && ci->flags & EXT4_FL_ENCRYPT && !ci->crypt_context)
		ck_say(ck, CK_ENCRYPT, ci->ino, "%s", "");
}

static bool all_zero(const struct ext4_disk_inode *raw, u32 bytes)
{
	const u8 *p = (const u8 *)raw;

	return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

static void check_inode(struct ck *ck, u64 ino, const struct ext4_disk_inode *raw)
{
	const struct ext4_super *es = ck->es;
	struct ck_inode ci = { .ino = ino,
			       .raw = raw,
			       .mode = le16_get(raw->mode),
			       .flags = le32_get(raw->flags),
			       .size_bytes = le32_get(raw->size_lo) };
	struct ck_ino *in = ck_ino(ck, ino);
	bool reserved = ino < es->first_ino;

	if (!reserved && all_zero(raw, es->inode_bytes))
		return;
	if (!ck->again && es->metadata_csum && !ext4_inode_sum_ok(es, ino, raw))
		ck_say(ck, CK_INODE_SUM, ino, "%s", "");
	if (!reserved && !le16_get(raw->links_count) && !(in && in->flags & CK_ORPHAN)) {
		if (!ck->again && ci.mode && !le32_get(raw->dtime))
			ck_say(ck, CK_INODE_DTIME, ino, "%s", "deleted, but without one");
		return;
	}
	ci.is_dir = S_ISDIR(ci.mode);
	if (S_ISREG(ci.mode) || ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR))
		ci.size_bytes |= (u64)le32_get(raw->size_hi) << 32;
	if (es->metadata_csum)
		ci.seed = ext4_csum_inode_seed(es, (u32)ino, le32_get(raw->generation));
	in = ck_ino_make(ck, ino);
	if (!in)
		return;
	check_used(ck, &ci, in);
	if (ck->again && ci.twice)
		ck_say(ck, CK_BLOCK_TWICE, ino, "%llu clusters, the first with block %llu",
		       (unsigned long long)ci.twice, (unsigned long long)ci.first_twice);
}

/* ---- all of them ---- */

/* How many inodes at the group's start may be in use, as its descriptor has it. */
static u32 used_inodes(const struct ext4_super *es, u32 group)
{
	const struct ext4_group *g = &es->group[group];

	if (g->bad || !es->desc_csum)
		return es->inodes_per_group;
	if (g->flags & EXT4_GROUP_INODE_UNINIT)
		return 0;
	return es->inodes_per_group - MIN(g->itable_unused, es->inodes_per_group);
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
	for (u32 i = 0; i < count && ck_goes_on(ck); i++)
		check_inode(ck, ino + i, (const void *)(buf + (size_t)i * es->inode_bytes));
}

static void group(struct ck *ck, u32 g, u8 *buf)
{
	const struct ext4_super *es = ck->es;
	u64 table = es->group[g].inode_table, first = (u64)g * es->inodes_per_group + 1;
	u32 used = used_inodes(es, g), blocks = DIV_ROUND_UP(used, es->inodes_per_block);
	u32 step = MAX(PIECE_BYTES >> es->block_bits, 1u);

	if (!table)
		return;
	for (u32 at = 0; at < blocks && ck_goes_on(ck); at += step) {
		u32 n = MIN(step, blocks - at), done = at * es->inodes_per_block;

		if (at + n < blocks)
			blkdev_will_need(ck->dev, (table + at + n) << es->block_bits,
					 (u64)MIN(step, blocks - at - n) << es->block_bits);
		else if (g + 1 < es->groups && used_inodes(es, g + 1) && es->group[g + 1].inode_table)
			blkdev_will_need(
				ck->dev, es->group[g + 1].inode_table << es->block_bits,
				MIN((u64)used_inodes(es, g + 1) * es->inode_bytes, (u64)PIECE_BYTES));
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
	for (u32 g = 0; g < ck->es->groups && ck_goes_on(ck); g++) {
		ck_progress(ck, name, g, ck->es->groups);
		group(ck, g, buf);
	}
	free(buf);
}

void ck_inodes(struct ck *ck)
{
	const struct ck_ino *root;

	all_groups(ck, "inodes and blocks");
	ck_xattrs_end(ck);
	root = ck_ino(ck, EXT4_INO_ROOT);
	if (!ck->err && (!root || root->kind != S_IFDIR >> 12))
		ck_say(ck, CK_ROOT, EXT4_INO_ROOT, "%s", "");
	if (!ck->any_twice || ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_SHARED_BLOCKS))
		return;
	ck->again = true;
	all_groups(ck, "blocks claimed twice");
	ck->again = false;
}
