/*
 * Hashed directories that grow: a leaf that is full is split by hash, an index block that is full is split in the
 * middle, a root that is full gets a level below it.
 *
 *   - Every step leaves the directory whole: first the index gets room, level by level, then the leaf is split, then
 *     the name goes in. A disk that gets full in between leaves an index with more room than it needs.
 *   - Within a step all that can fail comes first: blocks are read, joined and made before a byte is changed.
 *   - A leaf holds hashes from its index entry's up to the next one's. Names of one hash that a split parts are
 *     found by bit 0 of the second leaf's entry; a split avoids that where it can.
 *   - Leaves and index blocks are never joined again: what was deleted leaves room in its own leaf only.
 *   - Index entries and counts are changed in place, in blocks that were verified and hold no more than their limit.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

/* The entries of the index at `at` of the way, to be changed. */
static struct ext4_disk_dx_entry *entries(const struct ext4_dx_frame *f)
{
	return (void *)((u8 *)f->bh->data + f->dx.entries_off);
}

static void set_count(void *entry0, u32 count, u32 limit)
{
	struct ext4_disk_dx_countlimit *cl = entry0;

	cl->count = le16_put((u16)count);
	cl->limit = le16_put((u16)limit);
}

/* Behind the entry that was followed; there is room. */
static void insert_entry(struct ext4_dx_frame *f, u32 hash, u32 lblk)
{
	struct ext4_disk_dx_entry *e = entries(f), *at = e + f->at + 1;

	memmove(at + 1, at, (f->dx.count - f->at - 1) * sizeof(*at));
	*at = (struct ext4_disk_dx_entry){ le32_put(hash), le32_put(lblk) };
	set_count(e, ++f->dx.count, f->dx.limit);
}

/* A block becomes an inner node of these entries; the first one's hash is dropped. */
static void node_init(const struct ext4_super *es, void *block, const struct ext4_disk_dx_entry *from, u32 n)
{
	struct ext4_disk_dirent *de = block;
	struct ext4_disk_dx_entry *e = (void *)((u8 *)block + EXT4_DX_NODE_ENTRIES);

	memset(block, 0, ext4_block_bytes(es));
	de->rec_len = ext4_rec_len_put(ext4_block_bytes(es));
	memcpy(e, from, n * sizeof(*e));
	set_count(e, n, ext4_dx_limit(es, EXT4_DX_NODE_ENTRIES));
}

static u32 last_lblk(const struct ext4_inode *dir)
{
	return (u32)(ext4_size(dir) >> ext4_inode_super(dir)->block_bits) - 1;
}

/* ---- the index gets room ---- */

/* The upper half of the node at `level` goes to a new one, for which the level above has room. */
static int split_node(struct ext4_handle *h, struct ext4_dx_path *path, u32 level)
{
	struct ext4_dx_frame *f = &path->frame[level], *above = f - 1;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 keep = f->dx.count / 2;
	int err = ext4_access(h, f->bh);

	if (!err)
		err = ext4_access(h, above->bh);
	if (!err)
		err = ext4_dir_append(h, path->dir, &bh);
	if (err)
		return err;
	node_init(h->es, bh->data, entries(f) + keep, f->dx.count - keep);
	insert_entry(above, le32_get(entries(f)[keep].hash), last_lblk(path->dir));
	set_count(entries(f), keep, f->dx.limit);
	ext4_dirty(h, bh);
	ext4_dirty(h, f->bh);
	ext4_dirty(h, above->bh);
	return 0;
}

/* The entries of the root go to a new node, the only one below it. */
static int add_level(struct ext4_handle *h, struct ext4_dx_path *path)
{
	struct ext4_dx_frame *root = &path->frame[0];
	struct ext4_disk_dx_info *info = (void *)((u8 *)root->bh->data + EXT4_DX_INFO_OFF);
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err;

	if (path->levels == ext4_dx_levels_max(h->es))
		return fail(-ENOSPC, "the index of directory %llu is full",
			    (unsigned long long)path->dir->vfs.ino);
	err = ext4_access(h, root->bh);
	if (!err)
		err = ext4_dir_append(h, path->dir, &bh);
	if (err)
		return err;
	node_init(h->es, bh->data, entries(root), root->dx.count);
	entries(root)[0].lblk = le32_put(last_lblk(path->dir));
	set_count(entries(root), 1, root->dx.limit);
	info->indirect_levels++;
	ext4_dirty(h, bh);
	ext4_dirty(h, root->bh);
	return 0;
}

static bool frame_full(const struct ext4_dx_frame *f)
{
	return f->dx.count == f->dx.limit;
}

/* One more entry fits into the index block above the leaf of this hash. The way leads there again. */
static int make_index_room(struct ext4_handle *h, struct ext4_dx_path *path, u32 hash)
{
	u32 level = path->levels - 1;
	int err = 0;

	while (!err && frame_full(&path->frame[level])) {
		struct ext4_inode *dir = path->dir;

		while (level && frame_full(&path->frame[level]))
			level--;
		err = frame_full(&path->frame[level]) ? add_level(h, path) : split_node(h, path, level + 1);
		ext4_dx_close(path);
		if (!err)
			err = ext4_dx_open(dir, path);
		if (!err)
			err = ext4_dx_seek(path, hash);
		level = path->levels - 1;
	}
	return err;
}

/* ---- a leaf is split ---- */

/* The records of a leaf by hash, and its bytes as they were. */
struct sorted {
	struct record {
		u32 hash, off, bytes;
	} * rec;
	u32 *off;
	u8 *copy;
	u32 n, bytes; /* records; what they take */
};

static int by_hash(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->off > y->off) - (x->off < y->off);
}

/* *mem: to be freed, after use. */
static int sort_leaf(struct ext4_dx_path *path, const struct buffer_head *bh, struct sorted *s, void **mem)
{
	struct ext4_super *es = ext4_inode_super(path->dir);
	u32 max = bh->size_bytes / EXT4_DIRENT_MIN;
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;

	*mem = malloc(max * (sizeof(*s->rec) + sizeof(*s->off)) + bh->size_bytes);
	if (!*mem)
		return fail(-ENOMEM, "no memory to split a directory block");
	*s = (struct sorted){ .rec = *mem };
	s->off = (u32 *)(s->rec + max);
	s->copy = (u8 *)(s->off + max);
	memcpy(s->copy, bh->data, bh->size_bytes);
	ext4_dirent_iter(&it, s->copy, ext4_leaf_bytes(es), bh->size_bytes);
	while ((de = ext4_dirent_next(&it, &bad))) {
		struct ext4_hash hash;

		if (!le32_get(de->inode))
			continue;
		if (ext4_dir_hash(path->dir, path->version, ext4_dirent_name(de), de->name_len, &hash))
			return ext4_dx_bad(path->dir, "unknown hash");
		s->rec[s->n++] = (struct record){ hash.hash, it.off, ext4_dirent_bytes(de->name_len) };
		s->bytes += s->rec[s->n - 1].bytes;
	}
	if (bad)
		return ext4_dx_bad(path->dir, bad);
	qsort(s->rec, s->n, sizeof(*s->rec), by_hash);
	for (u32 i = 0; i < s->n; i++)
		s->off[i] = s->rec[i].off;
	return 0;
}

/* How many records stay: halves of about the same bytes, no hash parted if a record of `need` more then fits. */
static u32 split_at(const struct sorted *s, u32 need, u32 room)
{
	u32 best = 0, best_cost = UINT32_MAX, left = 0;

	for (u32 i = 1; i < s->n; i++) {
		u32 cost, more, less;

		left += s->rec[i - 1].bytes;
		more = MAX(left, s->bytes - left);
		less = s->bytes - more;
		cost = more - less;
		if (s->rec[i].hash == s->rec[i - 1].hash)
			cost += room;
		if (more + need > room)
			cost += 2 * room;
		if (cost < best_cost) {
			best_cost = cost;
			best = i;
		}
	}
	return best;
}

/* Splits the leaf, for whose second half the index has room. *bh becomes the half where the hash belongs. */
static int split_leaf(struct ext4_handle *h, struct ext4_dx_path *path, u32 hash, u32 need,
		      struct buffer_head **bh)
{
	struct ext4_dx_frame *f = &path->frame[path->levels - 1];
	scoped(bh_putp) struct buffer_head *half = NULL;
	scoped(freep) void *mem = NULL;
	struct sorted s;
	u32 keep, low;
	int err = sort_leaf(path, *bh, &s, &mem);

	if (!err && s.n < 2)
		err = ext4_dx_bad(path->dir, "a leaf with one name is full");
	if (!err)
		err = ext4_access(h, f->bh);
	if (!err)
		err = ext4_dir_append(h, path->dir, &half);
	if (err)
		return err;
	keep = split_at(&s, need, ext4_leaf_bytes(h->es));
	low = s.rec[keep].hash;
	ext4_leaf_pack(h->es, half->data, s.copy, s.off + keep, s.n - keep);
	ext4_leaf_pack(h->es, (*bh)->data, s.copy, s.off, keep);
	insert_entry(f, low | (low == s.rec[keep - 1].hash), last_lblk(path->dir));
	ext4_dirty(h, half);
	ext4_dirty(h, *bh);
	ext4_dirty(h, f->bh);
	if (hash >= low) {
		bh_put(*bh);
		*bh = take(half);
	}
	return 0;
}

/* Closes the gaps of a leaf that has room in small pieces only. */
static int pack_leaf(struct ext4_dx_path *path, struct buffer_head *bh, u32 need, bool *fits)
{
	struct ext4_super *es = ext4_inode_super(path->dir);
	scoped(freep) void *mem = NULL;
	struct sorted s;
	int err = sort_leaf(path, bh, &s, &mem);

	*fits = !err && s.bytes + need <= ext4_leaf_bytes(es) / 4 * 3;
	if (*fits)
		ext4_leaf_pack(es, bh->data, s.copy, s.off, s.n);
	return err;
}

/* ---- a name goes in ---- */

/* The leaf of the hash; no index block, which read as records would have room. */
static int get_leaf(struct ext4_dx_path *path, u32 hash, struct buffer_head **bh)
{
	struct ext4_dx dx;
	int err = ext4_dx_seek(path, hash);

	if (!err)
		err = ext4_dx_leaf(path, bh);
	if (!err && ext4_dx_parse(ext4_inode_super(path->dir), (*bh)->data, !ext4_dx_lblk(path), &dx))
		err = ext4_dx_bad(path->dir, "an index block stands in the place of a leaf");
	return err;
}

/* `need` bytes at *off of *bh, the leaf of the hash, which is joined. */
static int make_leaf_room(struct ext4_handle *h, struct ext4_dx_path *path, u32 hash, u32 need,
			  struct buffer_head **bh, u32 *off)
{
	const char *bad;
	bool fits;
	int err = ext4_access(h, *bh);

	if (err || ext4_leaf_room(h->es, (*bh)->data, need, off, &bad))
		return err;
	if (bad)
		return ext4_dx_bad(path->dir, bad);
	err = pack_leaf(path, *bh, need, &fits);
	if (!err && !fits) {
		err = make_index_room(h, path, hash);
		if (!err)
			err = split_leaf(h, path, hash, need, bh);
	}
	if (!err && !ext4_leaf_room(h->es, (*bh)->data, need, off, &bad))
		err = ext4_dx_bad(path->dir, "a leaf that was split has no room");
	return err;
}

int ext4_htree_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u32 ino, u8 type)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	scoped(ext4_dx_close) struct ext4_dx_path path;
	struct ext4_hash hash = { 0 };
	u32 off;
	int err = ext4_dx_open(dir, &path);

	if (!err && ext4_dir_hash(dir, path.version, name->s, name->len, &hash))
		err = ext4_dx_bad(dir, "unknown hash");
	if (!err)
		err = get_leaf(&path, hash.hash, &bh);
	if (!err)
		err = make_leaf_room(h, &path, hash.hash, ext4_dirent_bytes(name->len), &bh, &off);
	if (err)
		return err;
	ext4_leaf_add(h->es, bh->data, off, name, ino, type);
	ext4_dirty(h, bh);
	return 0;
}

/* ---- the first index ---- */

/* The records of block 0 behind "." and "..", which must be its first two. */
static int children(struct ext4_inode *dir, const struct buffer_head *bh, u32 *off, u32 *n)
{
	const u32 top_end = 2 * EXT4_DIRENT_MIN;
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;
	u32 tops = 0;

	*n = 0;
	ext4_dirent_iter(&it, bh->data, ext4_leaf_bytes(ext4_inode_super(dir)), bh->size_bytes);
	while ((de = ext4_dirent_next(&it, &bad))) {
		if (ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len) &&
		    it.off == tops * EXT4_DIRENT_MIN)
			tops++;
		else if (it.off >= top_end && le32_get(de->inode))
			off[(*n)++] = it.off;
	}
	if (!bad && tops != 2)
		bad = "\".\" and \"..\" are not where they belong";
	return bad ? corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino, "%s", bad) : 0;
}

static void root_init(const struct ext4_super *es, void *block)
{
	struct ext4_disk_dirent *dotdot = (void *)((u8 *)block + EXT4_DIRENT_MIN);
	struct ext4_disk_dx_info *info = (void *)((u8 *)block + EXT4_DX_INFO_OFF);
	struct ext4_disk_dx_entry *e = (void *)((u8 *)block + EXT4_DX_ROOT_ENTRIES);

	memset(info, 0, ext4_block_bytes(es) - EXT4_DX_INFO_OFF);
	dotdot->rec_len = ext4_rec_len_put(ext4_block_bytes(es) - EXT4_DIRENT_MIN);
	info->hash_version = es->disk.def_hash_version;
	info->info_length = sizeof(*info);
	e->lblk = le32_put(1);
	set_count(e, 1, ext4_dx_limit(es, EXT4_DX_ROOT_ENTRIES));
}

int ext4_htree_make(struct ext4_handle *h, struct ext4_inode *dir)
{
	scoped(bh_putp) struct buffer_head *root = NULL;
	scoped(bh_putp) struct buffer_head *leaf = NULL;
	scoped(freep) u32 *off = NULL;
	u32 n;
	int err = ext4_dir_block(dir, 0, false, &root);

	if (err)
		return err;
	off = malloc(root->size_bytes / EXT4_DIRENT_MIN * sizeof(*off));
	if (!off)
		return fail(-ENOMEM, "no memory to index a directory");
	err = children(dir, root, off, &n);
	if (!err)
		err = ext4_access(h, root);
	if (!err)
		err = ext4_dir_append(h, dir, &leaf);
	if (err)
		return err;
	ext4_leaf_pack(h->es, leaf->data, root->data, off, n);
	root_init(h->es, root->data);
	ext4_dirty(h, leaf);
	ext4_dirty(h, root);
	dir->flags |= EXT4_FL_INDEX;
	mutex_lock(&dir->vfs.attr);
	dir->vfs.flags |= EXT4_FL_INDEX & EXT4_FL_USER_VISIBLE;
	mutex_unlock(&dir->vfs.attr);
	return 0;
}
