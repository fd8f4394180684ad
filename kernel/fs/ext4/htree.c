/*
 * The index of a hashed directory: ways through it, and lookup.
 *
 *   block 0 (root) ──► inner nodes, 0 to 2 levels ──► leaves of ordinary records
 *
 *   - Each index block is an array sorted by hash: entry i leads to names with hashes from its own up to the
 *     next one's. Entry 0 has no hash: it leads to everything before entry 1.
 *   - Names of one hash may fill more than one leaf. Then the following entry has the same hash with bit 0 set,
 *     and the search goes on there.
 *   - An index that makes no sense is -EUCLEAN; a lookup then looks through all blocks instead, a change is
 *     refused.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

bool ext4_dir_is_indexed(const struct ext4_inode *dir)
{
	return dir->flags & EXT4_FL_INDEX && ext4_has_compat(ext4_inode_super(dir), EXT4_COMPAT_DIR_INDEX);
}

u32 ext4_dx_levels_max(const struct ext4_super *es)
{
	return ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR) ? EXT4_DX_LEVELS_MAX : EXT4_DX_LEVELS_MAX - 1;
}

int ext4_dx_bad(struct ext4_inode *dir, const char *what)
{
	atomic_store_explicit(&dir->index_bad, true, memory_order_relaxed);
	return corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino, "its index is damaged: %s", what);
}

static int block_get(struct ext4_inode *dir, u32 lblk, struct buffer_head **out)
{
	int err;

	if ((u64)lblk << ext4_inode_super(dir)->block_bits >= ext4_size(dir))
		return ext4_dx_bad(dir, "it leads beyond the directory");
	err = ext4_dir_block(dir, lblk, false, out);
	return err == -ENOENT ? ext4_dx_bad(dir, "it leads to a hole") : err;
}

/* The last entry whose hash is not above. */
static u32 entry_up_to(const struct ext4_dx *dx, u32 hash)
{
	u32 lo = 1, hi = dx->count;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (le32_get(dx->entry[mid].hash) <= hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

static u32 entry_lblk(const struct ext4_dx_frame *f)
{
	return le32_get(f->dx.entry[f->at].lblk) & EXT4_DX_LBLK_MASK;
}

/* Reads the index block of `level` that the level above leads to. */
static int enter(struct ext4_dx_path *path, u32 level)
{
	struct ext4_dx_frame *f = &path->frame[level];
	struct buffer_head *bh;
	int err = block_get(path->dir, level ? entry_lblk(f - 1) : 0, &bh);

	if (err)
		return err;
	bh_put(f->bh);
	f->bh = bh;
	f->at = 0;
	if (!ext4_dx_parse(ext4_inode_super(path->dir), bh->data, !level, &f->dx))
		return ext4_dx_bad(path->dir, level ? "a block is not an inner node" : "there is no root");
	return 0;
}

int ext4_dx_open(struct ext4_inode *dir, struct ext4_dx_path *path)
{
	struct ext4_super *es = ext4_inode_super(dir);
	const struct ext4_disk_dx_info *info;
	int err;

	*path = (struct ext4_dx_path){ .dir = dir };
	err = enter(path, 0);
	if (err)
		return err;
	info = path->frame[0].dx.info;
	if (info->unused_flags & 1)
		return ext4_dx_bad(dir, "unknown flags");
	if (info->indirect_levels >= ext4_dx_levels_max(es))
		return ext4_dx_bad(dir, "too many levels");
	path->version = ext4_hash_version(es, info->hash_version);
	path->levels = info->indirect_levels + 1;
	return 0;
}

void ext4_dx_close(struct ext4_dx_path *path)
{
	for (u32 i = 0; i < EXT4_DX_LEVELS_MAX; i++)
		bh_put(take(path->frame[i].bh));
}

int ext4_dx_seek(struct ext4_dx_path *path, u32 hash)
{
	for (u32 level = 0; level < path->levels; level++) {
		int err = level ? enter(path, level) : 0;

		if (err)
			return err;
		path->frame[level].at = entry_up_to(&path->frame[level].dx, hash);
	}
	return 0;
}

/* The lowest level where there is something behind the way. */
static bool level_with_more(const struct ext4_dx_path *path, u32 *level)
{
	for (*level = path->levels; (*level)--;)
		if (path->frame[*level].at + 1 < path->frame[*level].dx.count)
			return true;
	return false;
}

int ext4_dx_peek(const struct ext4_dx_path *path, u32 *hash)
{
	u32 level;

	if (!level_with_more(path, &level))
		return 0;
	*hash = le32_get(path->frame[level].dx.entry[path->frame[level].at + 1].hash);
	return 1;
}

int ext4_dx_next(struct ext4_dx_path *path)
{
	u32 level;
	int err = 0;

	if (!level_with_more(path, &level))
		return ext4_dx_bad(path->dir, "it has no next leaf");
	path->frame[level].at++;
	while (!err && ++level < path->levels)
		err = enter(path, level);
	return err;
}

u32 ext4_dx_low(const struct ext4_dx_path *path)
{
	for (u32 level = path->levels; level--;) {
		const struct ext4_dx_frame *f = &path->frame[level];

		if (f->at)
			return le32_get(f->dx.entry[f->at].hash) & ~1u;
	}
	return 0;
}

u32 ext4_dx_lblk(const struct ext4_dx_path *path)
{
	return entry_lblk(&path->frame[path->levels - 1]);
}

int ext4_dx_leaf(struct ext4_dx_path *path, struct buffer_head **out)
{
	return block_get(path->dir, ext4_dx_lblk(path), out);
}

/* ---- lookup ---- */

/* By the root's choice of function. */
static int hash_of(const struct ext4_dx_path *path, const struct ext4_want *want, u32 *hash)
{
	struct ext4_super *es = ext4_inode_super(path->dir);
	struct ext4_hash h;
	int err = 0;

	if (want->kind == EXT4_WANT_NOKEY)
		h = want->nokey.hash;
	else if (want->kind == EXT4_WANT_FOLDED)
		err = ext4_name_hash(es, path->version, want->folded.s, want->folded.len, &h);
	else
		err = ext4_name_hash(es, path->version, want->name.s, want->name.len, &h);
	if (err)
		return ext4_dx_bad(path->dir, "unknown hash");
	*hash = h.hash;
	return 0;
}

int ext4_htree_search(struct ext4_inode *dir, const struct ext4_want *want, struct ext4_place *at)
{
	scoped(ext4_dx_close) struct ext4_dx_path path;
	u64 leaves = ext4_size(dir) >> ext4_inode_super(dir)->block_bits;
	u32 hash = 0, next;
	int err = ext4_dx_open(dir, &path);

	if (!err)
		err = hash_of(&path, want, &hash);
	if (!err)
		err = ext4_dx_seek(&path, hash);
	while (!err) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (!leaves--)
			return ext4_dx_bad(dir, "it leads to more leaves than there are");
		err = ext4_dx_leaf(&path, &bh);
		if (!err)
			err = ext4_dir_search_block(dir, bh, want, at);
		if (err)
			return err;
		if (!ext4_dx_peek(&path, &next) || (next & ~1u) != hash)
			return 0;
		err = ext4_dx_next(&path);
	}
	return err;
}
