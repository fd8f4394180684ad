/*
 * Directories as they have to be after mending, piece by piece: names that can still be read in what is damaged, blocks with their
 * checksums, where the blocks lie.
 */
#include "check.h"

#include "lib/scope.h"
#include <stdlib.h>

#define PLACES (65536 / 4) /* where a record may begin, in the largest block */

void *ck_inode_load(struct ck *ck, u64 ino, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	u64 blk;
	u32 off;

	if (ext4_inode_where(es, ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return NULL;
	raw = malloc(es->inode_bytes);
	if (!raw) {
		ck_no_memory(ck);
		return NULL;
	}
	memcpy(raw, (const u8 *)bh->data + off, es->inode_bytes);
	*ci = (struct ck_inode){ .ino = ino,
				 .raw = raw,
				 .mode = le16_get(raw->mode),
				 .flags = le32_get(raw->flags),
				 .size_bytes = le32_get(raw->size_lo),
				 .is_dir = S_ISDIR(le16_get(raw->mode)) };
	if (es->metadata_csum)
		ci->seed = ext4_csum_inode_seed(es, (u32)ino, le32_get(raw->generation));
	return raw;
}

void ck_dir_put(struct ck *ck, const struct ck_dir *d, u32 lblk, struct buffer_head *bh)
{
	if (ck->es->metadata_csum)
		ext4_dir_seal(ck->es, ext4_csum_inode_seed(ck->es, d->ino, d->generation), bh->data, !lblk);
	ck_put(ck, bh);
}

/* ---- names in what is damaged ---- */

bool ck_stores_hash(const struct ck_dir *d)
{
	return d->flags & EXT4_FL_CASEFOLD && d->flags & EXT4_FL_ENCRYPT;
}

u32 ck_name_bytes(const struct ck_dir *d, u32 name_len)
{
	return ext4_dirent_bytes(name_len) +
	       (ck_stores_hash(d) ? (u32)sizeof(struct ext4_disk_dirent_hash) : 0);
}

struct region {
	struct ck *ck;
	const struct ck_dir *d;
	const u8 *base;
	u32 len;
};

/* Where the record at off ends; 0: there cannot be one. */
static u32 record_end(const struct region *r, u32 off)
{
	struct ext4_dirent_iter it;
	const char *bad;

	ext4_dirent_iter(&it, r->base, r->len, ext4_block_bytes(r->ck->es));
	it.next = off;
	return ext4_dirent_next(&it, &bad) ? it.next : 0;
}

/* What stands at off, whatever length it says, is a name of something that is in use. expected: one has to stand there. */
static bool is_name(const struct region *r, u32 off, bool expected)
{
	const struct ext4_disk_dirent *de = (const void *)(r->base + off);
	const struct ck_ino *in;

	if (!de->name_len || ext4_dirent_bytes(de->name_len) > r->len - off ||
	    (!(r->d->flags & EXT4_FL_ENCRYPT) && !ext4_dirent_name_ok(de)))
		return false;
	in = ck_ino(r->ck, le32_get(de->inode));
	return in && in->flags & CK_USED &&
	       (expected || de->file_type == ext4_dirent_type(r->ck->es, (u32)in->kind << 12));
}

/* The record at off ends where another begins, but its name is said to be longer: then *name_len is how long it can be. */
static bool is_cut_name(const struct region *r, u32 off, const bool *chain, u8 *name_len)
{
	const struct ext4_disk_dirent *de = (const void *)(r->base + off);
	u32 rec_len = ext4_rec_len(de->rec_len, ext4_block_bytes(r->ck->es)), len;

	if (rec_len % 4 || rec_len < EXT4_DIRENT_MIN || rec_len > r->len - off ||
	    !chain[(off + rec_len) / 4] || ck_stores_hash(r->d))
		return false;
	len = MIN(rec_len - EXT4_DIRENT_BYTES, (u32)de->name_len);
	while (len && !ext4_dirent_name(de)[len - 1])
		len--;
	*name_len = (u8)len;
	return len && ck_ino(r->ck, le32_get(de->inode)) && !memchr(ext4_dirent_name(de), 0, len);
}

u32 ck_dir_names(struct ck *ck, const struct ck_dir *d, void *base, u32 len, u32 *off)
{
	const struct region r = { ck, d, base, len };
	/* From here on records follow each other up to the end. */
	bool chain[PLACES + 1];
	bool expected = true;
	u32 n = 0;

	chain[len / 4] = true;
	for (u32 at = len / 4; at--;) {
		u32 end = len - at * 4 < EXT4_DIRENT_MIN ? 0 : record_end(&r, at * 4);

		chain[at] = end && chain[end / 4];
	}
	for (u32 at = 0; at + EXT4_DIRENT_MIN <= len;) {
		struct ext4_disk_dirent *de = (void *)((u8 *)base + at);
		u32 end = record_end(&r, at);

		if (!end && is_cut_name(&r, at, chain, &de->name_len))
			end = at + ext4_rec_len(de->rec_len, ext4_block_bytes(ck->es));
		/* Behind "." stands "..", and nothing that was removed: what it hides was not. */
		if (end && !at && de->name_len == 1 && *ext4_dirent_name(de) == '.')
			end = EXT4_DIRENT_MIN;
		if (end) {
			if (le32_get(de->inode) && de->name_len)
				off[n++] = at;
			at = end;
			expected = true;
			continue;
		}
		if (is_name(&r, at, expected)) {
			off[n++] = at;
			at += ext4_dirent_bytes(de->name_len);
		} else {
			at += 4;
		}
		while (at + EXT4_DIRENT_MIN <= len && !chain[at / 4] &&
		       !(record_end(&r, at) && is_name(&r, at, false)))
			at += 4;
		expected = false;
	}
	return n;
}

void ck_record_put(const struct ck_dir *d, void *to, u32 rec_len, const struct ext4_disk_dirent *from)
{
	struct ext4_disk_dirent *de = to;

	memset(to, 0, MIN(rec_len, ck_name_bytes(d, from->name_len)));
	memcpy(de, from, sizeof(*de) + from->name_len);
	if (ck_stores_hash(d))
		memcpy((u8 *)to + ext4_dirent_bytes(from->name_len),
		       (const u8 *)from + ext4_dirent_bytes(from->name_len),
		       sizeof(struct ext4_disk_dirent_hash));
	de->rec_len = ext4_rec_len_put(rec_len);
}

bool ck_region_repack(struct ck *ck, const struct ck_dir *d, void *base, u32 len)
{
	scoped(freep) u32 *off = calloc(len / EXT4_DIRENT_MIN + 1, sizeof(*off));
	scoped(freep) u8 *copy = malloc(len + sizeof(struct ext4_disk_dirent_hash));
	u32 n, at = 0;

	if (!off || !copy) {
		ck_no_memory(ck);
		return false;
	}
	memcpy(copy, base, len);
	memset(copy + len, 0, sizeof(struct ext4_disk_dirent_hash));
	n = ck_dir_names(ck, d, copy, len, off);
	memset(base, 0, len);
	((struct ext4_disk_dirent *)base)->rec_len = ext4_rec_len_put(len);
	for (u32 i = 0; i < n; i++) {
		const struct ext4_disk_dirent *de = (const void *)(copy + off[i]);
		u32 bytes = ck_name_bytes(d, de->name_len);

		if (bytes > len - at)
			break;
		ck_record_put(d, (u8 *)base + at, i + 1 < n ? bytes : len - at, de);
		at += bytes;
	}
	return true;
}

/* The entry ".." in the directory's first block; *bh holds it. NULL: it does not stand where it has to. */
static struct ext4_disk_dirent *find_dotdot(struct ck *ck, const struct ck_dir *d, struct buffer_head **bh)
{
	struct ext4_disk_dirent *de;
	u32 rec_len;

	if (!d->count || ck->blk[d->first].lblk || !ck_read(ck, ck->blk[d->first].pblk, bh))
		return NULL;
	de = (*bh)->data;
	rec_len = ext4_rec_len(de->rec_len, (*bh)->size_bytes);
	if (rec_len % 4 || rec_len < EXT4_DIRENT_MIN || rec_len > (*bh)->size_bytes - EXT4_DIRENT_MIN)
		return NULL;
	de = (void *)((u8 *)(*bh)->data + rec_len);
	return de->name_len == 2 && !memcmp(ext4_dirent_name(de), "..", 2) ? de : NULL;
}

u32 ck_get_dotdot(struct ck *ck, const struct ck_dir *d)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_dirent *de;
	struct ck_inode ci;

	if (d->flags & EXT4_FL_INLINE_DATA) {
		scoped(freep) void *raw = ck_inode_load(ck, d->ino, &ci);

		return raw ? le32_get(*(const le32 *)ci.raw->block) : 0;
	}
	de = find_dotdot(ck, d, &bh);
	return de ? le32_get(de->inode) : 0;
}

bool ck_set_dotdot(struct ck *ck, const struct ck_dir *d, u32 ino)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_dirent *de;
	struct ck_inode ci;

	if (d->flags & EXT4_FL_INLINE_DATA) {
		scoped(freep) void *raw = ck_inode_load(ck, d->ino, &ci);

		if (!raw)
			return false;
		*(le32 *)ci.raw->block = le32_put(ino);
		ck_inode_put(ck, &ci);
		return true;
	}
	de = find_dotdot(ck, d, &bh);
	if (!de)
		return false;
	de->inode = le32_put(ino);
	de->file_type = ext4_dirent_type(ck->es, S_IFDIR);
	ck_dir_put(ck, d, 0, bh);
	return true;
}

/* The names of ino in the region go. */
static bool drop_in(const struct ck *ck, void *base, u32 len, u32 ino)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;
	bool any = false;

	ext4_dirent_iter(&it, base, len, ext4_block_bytes(ck->es));
	while ((de = ext4_dirent_next(&it, &bad)))
		if (le32_get(de->inode) == ino &&
		    !ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len)) {
			((struct ext4_disk_dirent *)((u8 *)base + it.off))->inode = le32_put(0);
			any = true;
		}
	return any;
}

bool ck_drop_name(struct ck *ck, const struct ck_dir *d, u32 ino)
{
	struct ck_inode ci;
	bool any = false;

	if (d->flags & EXT4_FL_INLINE_DATA) {
		scoped(freep) void *raw = ck_inode_load(ck, d->ino, &ci);
		const u8 *more;
		s64 len;

		if (!raw)
			return false;
		any = drop_in(ck, ci.raw->block + CK_INLINE_PARENT, EXT4_IBLOCK_BYTES - CK_INLINE_PARENT,
			      ino);
		len = ck_inline_more(ck, &ci, &more);
		if (len > 0)
			any |= drop_in(ck, (u8 *)ci.raw + (more - (const u8 *)ci.raw), (u32)len, ino);
		if (any)
			ck_inode_put(ck, &ci);
	}
	for (u32 i = 0; i < d->count && ck_goes_on(ck); i++) {
		const struct ck_dirblk *b = &ck->blk[d->first + i];
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (ck_read(ck, b->pblk, &bh) && drop_in(ck, bh->data, bh->size_bytes, ino)) {
			ck_dir_put(ck, d, b->lblk, bh);
			any = true;
		}
	}
	return any;
}

void ck_inline_drop(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_disk_xattr_entry *e = NULL, *data;
	u64 drop[CK_XATTR_WORDS] = { 0 };
	struct ext4_xattr_list l;

	ck_inode_set_flags(ci, EXT4_FL_INLINE_DATA, 0);
	memset(ci->raw->block, 0, EXT4_IBLOCK_BYTES);
	if (!ck_ibody(ck, ci, &l) || ext4_xattr_list_wrong(ck->es, l.base, 0, l.bytes))
		return;
	data = ext4_xattr_find(&l, EXT4_XATTR_SYSTEM, "data", 4);
	for (u32 i = 0; data && (e = ext4_xattr_next(&l, e)); i++)
		if (e == data)
			drop[i / 64] |= 1ull << i % 64;
	(void)ck_xattr_pack(ck, (u8 *)ci->raw + (l.base - (const u8 *)ci->raw), 0, l.bytes, drop);
}

/* ---- where the blocks lie ---- */

/* A block for lblk; prev, next: of the directory's blocks around it, NULL none. 0: the disk is full. */
static u64 new_block(struct ck *ck, u32 lblk, const struct ck_dirblk *prev, const struct ck_dirblk *next)
{
	const struct ext4_super *es = ck->es;
	u32 bits = es->cluster_bits;
	u64 cluster;

	if (bits && prev && prev->lblk >> bits == lblk >> bits)
		return prev->pblk + (lblk - prev->lblk);
	if (bits && next && next->lblk >> bits == lblk >> bits)
		return next->pblk - (next->lblk - lblk);
	if (ck_alloc(ck, prev ? ck_cluster(ck, prev->pblk) + 1 : 0, 1, &cluster))
		return 0;
	return es->first_data_blk + (cluster << bits) + (lblk & ((1u << bits) - 1));
}

/* ck->blk has, from *first on, the `count` blocks that the directory will have. */
static bool choose_blocks(struct ck *ck, const struct ck_dir *d, u32 count, u32 *first)
{
	u32 have = 0;

	*first = ck->blks;
	for (u32 i = 0; i < count; i++) {
		const struct ck_dirblk *prev, *next;
		struct ck_dirblk b = { .lblk = i };

		if (!ck_room(ck, &ck->blk, ck->blks, &ck->blk_room, sizeof(*ck->blk)))
			return false;
		next = have < d->count ? &ck->blk[d->first + have] : NULL;
		prev = i ? &ck->blk[ck->blks - 1] : NULL;
		if (next && next->lblk == i) {
			b.pblk = next->pblk;
			have++;
		} else {
			b.pblk = new_block(ck, i, prev, next);
		}
		if (!b.pblk)
			return false;
		ck->blk[ck->blks++] = b;
	}
	return true;
}

/* A block of pointers to the blocks from *at on, `levels` above them. 0: the disk is full. */
static u64 pointer_block(struct ck *ck, u32 levels, u32 *at, u32 end)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 per = ext4_pointers_per_block(ck->es);
	u64 cluster, blk, to;
	le32 *ptr;

	if (ck_alloc(ck, ck_cluster(ck, ck->blk[*at].pblk), 1, &cluster))
		return 0;
	blk = ck->es->first_data_blk + (cluster << ck->es->cluster_bits);
	if (!ck_read(ck, blk, &bh))
		return 0;
	ck->nodes++;
	ptr = bh->data;
	memset(ptr, 0, bh->size_bytes);
	for (u32 i = 0; i < per && *at < end; i++) {
		to = levels > 1 ? pointer_block(ck, levels - 1, at, end) : ck->blk[(*at)++].pblk;
		if (!to)
			return 0;
		ptr[i] = le32_put((u32)to);
	}
	ck_put(ck, bh);
	return blk;
}

static bool pointers_build(struct ck *ck, struct ck_inode *ci, u32 first, u32 count)
{
	le32 *ptr = (void *)ci->raw->block;
	u32 at = first, end = first + count;

	memset(ptr, 0, EXT4_IBLOCK_BYTES);
	for (u32 i = 0; i < EXT4_NDIR && at < end; i++)
		ptr[i] = le32_put((u32)ck->blk[at++].pblk);
	for (u32 levels = 1; levels <= 3 && at < end; levels++) {
		u64 blk = pointer_block(ck, levels, &at, end);

		if (!blk)
			return false;
		ptr[EXT4_NDIR + levels - 1] = le32_put((u32)blk);
	}
	return at == end;
}

bool ck_dir_set_blocks(struct ck *ck, struct ck_dir *d, struct ck_inode *ci, u32 count)
{
	const struct ext4_super *es = ck->es;
	u64 clusters = DIV_ROUND_UP(count, 1u << es->cluster_bits);
	u32 first;
	bool ok;

	if (!choose_blocks(ck, d, count, &first))
		return false;
	ck->runs = ck->nodes = 0;
	if (ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS)) {
		for (u32 i = 0; i < count; i++)
			ck_run_add(ck, i, ck->blk[first + i].pblk, 1, false);
		ok = ck_tree_build(ck, ci);
	} else {
		ok = pointers_build(ck, ci, first, count);
	}
	if (!ok || ck->err)
		return false;
	clusters += ck->nodes + (le32_get(ci->raw->file_acl_lo) || le16_get(ci->raw->file_acl_hi));
	ck_inode_set_blocks(ck, ci, clusters << (es->cluster_bits + es->block_bits - 9));
	ck_inode_set_size(ci, (u64)count << es->block_bits);
	d->first = first;
	d->count = count;
	d->size_bytes = (u64)count << es->block_bits;
	return true;
}
