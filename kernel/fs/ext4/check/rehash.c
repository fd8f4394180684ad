/*
 * A directory written anew: all names that can be read, in as many blocks as they take, with an index where it had one and needs one.
 *
 * Names that stand there twice are one when they mean the same inode; else the later one is given a number. The blocks are those that the
 * directory has, and more where these do not do. Nothing is changed before all of its blocks were read.
 */
#include "check.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <stdio.h>
#include <stdlib.h>

#define LEAF_FILL(bytes) ((bytes) / 8 * 7) /* of an index: room for names to come */
#define NUMBERS_MAX      1000u

struct entry {
	u32 hash;
	u64 at; /* in the pool */
};

struct rehash {
	struct ck *ck;
	struct ck_dir *d;
	u8 *pool; /* records, each as long as it has to be */
	u64 pool_bytes, pool_room;
	struct entry *e;
	u32 n, room;
	struct ck_map seen; /* hash of a name → entry, from 1 */
	u32 parent;         /* that ".." says, where that can be; else 0 */
	bool index;
	u8 version; /* of the hash, as it is stored */
	/* How it will be: */
	u32 *leaf; /* the first entry of each leaf, and n */
	u32 leaves, leaf_room;
	u32 levels, inner[EXT4_DX_LEVELS_MAX]; /* nodes below the root: inner[0] next to it */
};

static struct ext4_disk_dirent *record(const struct rehash *r, u32 i)
{
	return (void *)(r->pool + r->e[i].at);
}

static u32 record_bytes(const struct rehash *r, u32 i)
{
	return ck_name_bytes(r->d, record(r, i)->name_len);
}

/* ---- names ---- */

u64 ck_name_key(const struct ck_dir *d, const char *name, u32 len)
{
	char folded[EXT4_FOLD_MAX];
	u32 n;

	if (d->flags & EXT4_FL_CASEFOLD && !(d->flags & EXT4_FL_ENCRYPT) &&
	    ext4_casefold(name, len, folded, &n))
		return hash_bytes(folded, n, (u64)(uintptr_t)d ^ d->ino) | 1;
	return hash_bytes(name, len, (u64)(uintptr_t)d ^ d->ino) | 1;
}

bool ck_name_same(const struct ck_dir *d, const struct ext4_disk_dirent *a, const struct ext4_disk_dirent *b)
{
	char x[EXT4_FOLD_MAX], y[EXT4_FOLD_MAX];
	u32 nx, ny;

	if (a->name_len == b->name_len && !memcmp(ext4_dirent_name(a), ext4_dirent_name(b), a->name_len))
		return true;
	return d->flags & EXT4_FL_CASEFOLD && !(d->flags & EXT4_FL_ENCRYPT) &&
	       ext4_casefold(ext4_dirent_name(a), a->name_len, x, &nx) &&
	       ext4_casefold(ext4_dirent_name(b), b->name_len, y, &ny) && nx == ny && !memcmp(x, y, nx);
}

/* The entry that has the name; n: none. */
static u32 find(const struct rehash *r, const struct ext4_disk_dirent *de)
{
	u64 at = ck_map_get(&r->seen, ck_name_key(r->d, ext4_dirent_name(de), de->name_len));

	return at && ck_name_same(r->d, record(r, (u32)at - 1), de) ? (u32)at - 1 : r->n;
}

/* Gives it a name that nobody has. False: there is none. */
static bool number(struct rehash *r, struct ext4_disk_dirent *de)
{
	char *name = (char *)(de + 1), end[8];
	u32 old = de->name_len;

	for (u32 i = 0; i < NUMBERS_MAX; i++) {
		u32 len = (u32)snprintf(end, sizeof(end), "~%u", i), at = MIN(old, EXT4_NAME_MAX - len);

		memcpy(name + at, end, len);
		de->name_len = (u8)(at + len);
		if (find(r, de) == r->n)
			return true;
	}
	return false;
}

static void add(struct rehash *r, const struct ext4_disk_dirent *from, u32 room)
{
	struct ck *ck = r->ck;
	u8 mem[EXT4_DIRENT_BYTES + 256 + sizeof(struct ext4_disk_dirent_hash)] = { 0 };
	struct ext4_disk_dirent *de = (void *)mem;
	u32 bytes, other;
	u64 *seen;

	memcpy(mem, from, MIN(room, ck_name_bytes(r->d, from->name_len)));
	other = find(r, de);
	if (other < r->n) {
		if (le32_get(record(r, other)->inode) == le32_get(de->inode) ||
		    r->d->flags & EXT4_FL_ENCRYPT || !number(r, de))
			return;
	}
	bytes = ck_name_bytes(r->d, de->name_len);
	while (r->pool_room - r->pool_bytes < bytes) {
		u64 more = r->pool_room ? r->pool_room * 2 : 65536;
		u8 *p = realloc(r->pool, more);

		if (!p) {
			ck_no_memory(ck);
			return;
		}
		r->pool = p;
		r->pool_room = more;
	}
	if (!ck_room(ck, &r->e, r->n, &r->room, sizeof(*r->e)))
		return;
	ck_record_put(r->d, r->pool + r->pool_bytes, bytes, de);
	r->e[r->n] = (struct entry){ .at = r->pool_bytes };
	r->pool_bytes += bytes;
	seen = ck_map_at(ck, &r->seen, ck_name_key(r->d, ext4_dirent_name(de), de->name_len));
	if (seen && !*seen)
		*seen = r->n + 1;
	r->n++;
}

static void found_parent(struct rehash *r, u32 ino)
{
	const struct ck_ino *in = ck_ino(r->ck, ino);

	if (!r->parent && in && in->flags & CK_USED && in->kind == S_IFDIR >> 12)
		r->parent = ino;
}

static bool collect_region(struct rehash *r, const void *region, u32 len, bool first)
{
	scoped(freep) u32 *off = calloc(len / EXT4_DIRENT_MIN + 1, sizeof(*off));
	scoped(freep) u8 *base = malloc(len);
	u32 n;

	if (!off || !base) {
		ck_no_memory(r->ck);
		return false;
	}
	memcpy(base, region, len);
	n = ck_dir_names(r->ck, r->d, base, len, off);
	for (u32 i = 0; i < n; i++) {
		const struct ext4_disk_dirent *de = (const void *)(base + off[i]);

		if (!ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len))
			add(r, de, len - off[i]);
		else if (first && de->name_len == 2)
			found_parent(r, le32_get(de->inode));
	}
	return !r->ck->err;
}

static bool collect_inline(struct rehash *r)
{
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(r->ck, r->d->ino, &ci);
	const u8 *more;
	s64 len;

	if (!raw)
		return false;
	found_parent(r, le32_get(*(const le32 *)ci.raw->block));
	len = ck_inline_more(r->ck, &ci, &more);
	return collect_region(r, ci.raw->block + CK_INLINE_PARENT, EXT4_IBLOCK_BYTES - CK_INLINE_PARENT,
			      false) &&
	       (len <= 0 || collect_region(r, more, (u32)len & ~3u, false));
}

static bool collect(struct rehash *r)
{
	struct ck *ck = r->ck;

	if (r->d->flags & EXT4_FL_INLINE_DATA)
		return collect_inline(r);

	for (u32 i = 0; i < r->d->count; i++) {
		const struct ck_dirblk *b = &ck->blk[r->d->first + i];
		scoped(bh_putp) struct buffer_head *bh = NULL;
		struct ext4_dx dx;

		if (!ck_read(ck, b->pblk, &bh))
			return false;
		if (ext4_dx_parse(ck->es, bh->data, !b->lblk, &dx)) {
			if (dx.info)
				found_parent(r, le32_get(((const struct ext4_disk_dirent *)((u8 *)bh->data +
											    EXT4_DIRENT_MIN))
								 ->inode));
			if (dx.info && !ck_stores_hash(r->d) && dx.info->hash_version <= EXT4_HASH_TEA)
				r->version = dx.info->hash_version;
		} else if (!collect_region(r, bh->data, bh->size_bytes, !b->lblk)) {
			return false;
		}
	}
	return true;
}

/* ---- how it will be ---- */

static int by_hash(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static void hash_all(struct rehash *r)
{
	u32 version = ext4_hash_version(r->ck->es, r->version);

	for (u32 i = 0; i < r->n; i++)
		if (!ck_name_hash(r->ck, r->d, version, record(r, i), record_bytes(r, i), &r->e[i].hash))
			r->e[i].hash = 0;
	if (r->n)
		qsort(r->e, r->n, sizeof(*r->e), by_hash);
}

/* Which entries go into which leaf, of `fill` bytes; the first has `top` bytes less. */
static bool plan_leaves(struct rehash *r, u32 fill, u32 top)
{
	u32 left = 0;

	r->leaves = 0;
	for (u32 i = 0; i <= r->n; i++) {
		u32 bytes = i < r->n ? record_bytes(r, i) : 0;

		if (i && i < r->n && bytes <= left) {
			left -= bytes;
			continue;
		}
		if (!ck_room(r->ck, &r->leaf, r->leaves, &r->leaf_room, sizeof(*r->leaf)))
			return false;
		r->leaf[r->leaves++] = i;
		left = fill - (i ? 0 : top) - bytes;
	}
	/* The last one is the end. Without a name there is one leaf all the same. */
	r->leaves--;
	if (!r->n) {
		if (!ck_room(r->ck, &r->leaf, 1, &r->leaf_room, sizeof(*r->leaf)))
			return false;
		r->leaf[1] = 0;
		r->leaves = 1;
	}
	return true;
}

/* False: the index would need more levels than there may be. */
static bool plan_index(struct rehash *r)
{
	const struct ext4_super *es = r->ck->es;
	u32 root = ext4_dx_limit(es, EXT4_DX_ROOT_ENTRIES),
	    node = ck_dx_limit(r->ck, r->d, EXT4_DX_NODE_ENTRIES);
	u32 need = r->leaves, up[EXT4_DX_LEVELS_MAX];

	for (r->levels = 0; need > root; r->levels++) {
		if (r->levels + 1 >= ext4_dx_levels_max(es))
			return false;
		need = DIV_ROUND_UP(need, node);
		up[r->levels] = need;
	}
	for (u32 i = 0; i < r->levels; i++)
		r->inner[i] = up[r->levels - 1 - i];
	return true;
}

static u32 tops_bytes(void)
{
	return 2 * EXT4_DIRENT_MIN;
}

static bool plan(struct rehash *r)
{
	const struct ck *ck = r->ck;
	const struct ext4_super *es = ck->es;
	u32 bytes = ext4_leaf_bytes(es);

	r->index = false;
	if (!plan_leaves(r, bytes, tops_bytes()))
		return false;
	if (r->leaves == 1 || !ext4_has_compat(es, EXT4_COMPAT_DIR_INDEX) ||
	    !(r->d->flags & EXT4_FL_INDEX || ck->opts->rebuild_dirs))
		return true;
	hash_all(r);
	if (!plan_leaves(r, LEAF_FILL(bytes), 0))
		return false;
	r->index = plan_index(r);
	return r->index || plan_leaves(r, bytes, tops_bytes());
}

/* ---- onto the device ---- */

static struct buffer_head *open_block(struct rehash *r, u32 lblk)
{
	struct buffer_head *bh = NULL;

	return ck_read(r->ck, r->ck->blk[r->d->first + lblk].pblk, &bh) ? bh : NULL;
}

static bool write_leaf(struct rehash *r, u32 lblk, u32 leaf, bool top)
{
	const struct ext4_super *es = r->ck->es;
	scoped(bh_putp) struct buffer_head *bh = open_block(r, lblk);
	u32 from = r->leaf[leaf], to = r->leaf[leaf + 1], at = 0, end = ext4_leaf_bytes(es);
	struct ext4_disk_dirent *last;

	if (!bh)
		return false;
	if (top)
		ext4_leaf_top(es, bh->data, r->d->ino, r->parent);
	else
		ext4_leaf_init(es, bh->data);
	if (top) {
		last = (void *)((u8 *)bh->data + EXT4_DIRENT_MIN);
		at = tops_bytes();
		if (from < to)
			last->rec_len = ext4_rec_len_put(EXT4_DIRENT_MIN);
	}
	for (u32 i = from; i < to; i++) {
		u32 bytes = record_bytes(r, i);

		ck_record_put(r->d, (u8 *)bh->data + at, i + 1 < to ? bytes : end - at, record(r, i));
		at += bytes;
	}
	ck_dir_put(r->ck, r->d, lblk, bh);
	return true;
}

/* Of the leaf: its first hash, with bit 0 where the leaf before has it too. */
static u32 leaf_hash(const struct rehash *r, u32 leaf)
{
	u32 at = r->leaf[leaf], hash = r->e[at].hash;

	return leaf && r->e[at - 1].hash == hash ? hash | 1 : hash;
}

/* How many leaves are below a node that is `height` nodes above a leaf. */
static u64 span(const struct rehash *r, u32 height)
{
	u64 n = 1;

	while (height--)
		n *= ck_dx_limit(r->ck, r->d, EXT4_DX_NODE_ENTRIES);
	return n;
}

/* Entries of the node number `nth` of its level, which leads to blocks from `lblk` on, each with `each` leaves; `all` of them. */
static void put_entries(const struct rehash *r, void *block, u32 entries_off, u32 first, u32 count, u64 each,
			u32 lblk)
{
	struct ext4_disk_dx_entry *e = (void *)((u8 *)block + entries_off);
	const struct ext4_disk_dx_countlimit cl = {
		.limit = le16_put((u16)ck_dx_limit(r->ck, r->d, entries_off)), .count = le16_put((u16)count)
	};

	for (u32 i = 0; i < count; i++)
		e[i] = (struct ext4_disk_dx_entry){ le32_put(leaf_hash(r, (u32)((first + i) * each))),
						    le32_put(lblk + first + i) };
	memcpy(e, &cl, sizeof(cl));
}

static bool write_root(struct rehash *r)
{
	const struct ext4_super *es = r->ck->es;
	scoped(bh_putp) struct buffer_head *bh = open_block(r, 0);
	struct ext4_disk_dirent *dotdot;
	struct ext4_disk_dx_info *info;

	if (!bh)
		return false;
	ext4_leaf_top(es, bh->data, r->d->ino, r->parent);
	dotdot = (void *)((u8 *)bh->data + EXT4_DIRENT_MIN);
	dotdot->rec_len = ext4_rec_len_put(ext4_block_bytes(es) - EXT4_DIRENT_MIN);
	info = (void *)((u8 *)bh->data + EXT4_DX_INFO_OFF);
	memset(info, 0, ext4_block_bytes(es) - EXT4_DX_INFO_OFF);
	*info = (struct ext4_disk_dx_info){ .hash_version = r->version,
					    .info_length = sizeof(*info),
					    .indirect_levels = (u8)r->levels };
	put_entries(r, bh->data, EXT4_DX_ROOT_ENTRIES, 0, r->levels ? r->inner[0] : r->leaves,
		    span(r, r->levels), 1);
	ck_dir_put(r->ck, r->d, 0, bh);
	return true;
}

static bool write_node(struct rehash *r, u32 lblk, u32 first, u32 count, u64 each, u32 below)
{
	scoped(bh_putp) struct buffer_head *bh = open_block(r, lblk);
	struct ext4_disk_dirent *de;

	if (!bh)
		return false;
	memset(bh->data, 0, bh->size_bytes);
	de = bh->data;
	de->rec_len = ext4_rec_len_put(bh->size_bytes);
	put_entries(r, bh->data, EXT4_DX_NODE_ENTRIES, first, count, each, below);
	ck_dir_put(r->ck, r->d, lblk, bh);
	return true;
}

/* The root, the nodes level by level, the leaves. */
static bool write_index(struct rehash *r)
{
	u32 node = ck_dx_limit(r->ck, r->d, EXT4_DX_NODE_ENTRIES), lblk = 1;

	if (!write_root(r))
		return false;
	for (u32 level = 0; level < r->levels; level++) {
		u32 below = lblk + r->inner[level];
		u32 all = level + 1 < r->levels ? r->inner[level + 1] : r->leaves;

		for (u32 i = 0; i < r->inner[level]; i++)
			if (!write_node(r, lblk + i, i * node, MIN(node, all - i * node),
					span(r, r->levels - level - 1), below))
				return false;
		lblk = below;
	}
	for (u32 i = 0; i < r->leaves; i++)
		if (!write_leaf(r, lblk + i, i, false))
			return false;
	return true;
}

static bool write_all(struct rehash *r)
{
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(r->ck, r->d->ino, &ci);
	u32 blocks = r->leaves + r->index;

	if (!raw)
		return false;
	for (u32 i = 0; r->index && i < r->levels; i++)
		blocks += r->inner[i];
	if (r->d->flags & EXT4_FL_INLINE_DATA)
		ck_inline_drop(r->ck, &ci);
	if (!ck_dir_set_blocks(r->ck, r->d, &ci, blocks))
		return false;
	ck_inode_set_flags(&ci, EXT4_FL_INDEX, r->index ? EXT4_FL_INDEX : 0);
	r->d->flags = ci.flags;
	ck_inode_put(r->ck, &ci);
	if (r->index)
		return write_index(r);
	for (u32 i = 0; i < r->leaves; i++)
		if (!write_leaf(r, i, i, !i))
			return false;
	return true;
}

bool ck_dir_rebuild(struct ck *ck, struct ck_dir *d)
{
	struct rehash r = { .ck = ck,
			    .d = d,
			    .version =
				    ck_stores_hash(d) ? EXT4_HASH_SIPHASH : ck->es->disk.def_hash_version };
	bool ok;

	if (!ck_stores_hash(d) && r.version > EXT4_HASH_TEA)
		r.version = EXT4_HASH_HALF_MD4;
	ok = collect(&r);
	if (!r.parent)
		r.parent = d->parent ? d->parent : EXT4_INO_ROOT;
	ok = ok && plan(&r) && write_all(&r);
	free(r.pool);
	free(r.e);
	free(r.leaf);
	free(r.seen.key);
	free(r.seen.val);
	return ok;
}
