/*
 * Lookup through the index of a hashed directory.
 *
 *   block 0 (root) ──► inner nodes, 0 to 2 levels ──► leaves of ordinary records
 *
 *   - Each index block is an array sorted by hash: entry i leads to names with hashes from its own up to the
 *     next one's. Entry 0 has no hash: it leads to everything before entry 1.
 *   - Names of one hash may fill more than one leaf. Then the following entry has the same hash with bit 0 set,
 *     and the search goes on there.
 *   - An index that makes no sense is -EUCLEAN, and the caller looks through all blocks instead.
 *
 * Positions of readdir do not come from here: on a read-only volume a block's number is as stable as its hash.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

#define LEVELS_MAX 3u /* root and inner nodes */
#define LBLK_MASK  0x0fffffffu

/* One index block on the way down. */
struct frame {
	struct buffer_head *bh;
	struct ext4_dx dx;
	u32 at; /* entry that was followed */
};

struct search {
	struct ext4_inode *dir;
	struct frame frame[LEVELS_MAX];
	u32 levels; /* frames in use once the way is complete */
	u32 hash;
};

static void search_end(struct search *s)
{
	for (u32 i = 0; i < LEVELS_MAX; i++)
		bh_put(s->frame[i].bh);
}

/* Said once; from then on the directory is searched as if it had none. */
static int bad_index(struct search *s, const char *what)
{
	atomic_store_explicit(&s->dir->index_bad, true, memory_order_relaxed);
	return corrupt(&s->dir->vfs.sb->health, "directory", s->dir->vfs.ino, "its index is damaged: %s",
		       what);
}

static int block_get(struct search *s, u32 lblk, struct buffer_head **out)
{
	int err;

	if ((u64)lblk << ext4_inode_super(s->dir)->block_bits >= ext4_size(s->dir))
		return bad_index(s, "it leads beyond the directory");
	err = ext4_dir_block(s->dir, lblk, false, out);
	return err == -ENOENT ? bad_index(s, "it leads to a hole") : err;
}

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

static u32 entry_lblk(const struct frame *f)
{
	return le32_get(f->dx.entry[f->at].lblk) & LBLK_MASK;
}

/* Reads the index block of `level` that the level above leads to. */
static int enter(struct search *s, u32 level)
{
	struct frame *f = &s->frame[level];
	struct buffer_head *bh;
	int err = block_get(s, level ? entry_lblk(f - 1) : 0, &bh);

	if (err)
		return err;
	bh_put(f->bh);
	f->bh = bh;
	f->at = 0;
	if (!ext4_dx_parse(ext4_inode_super(s->dir), bh->data, !level, &f->dx))
		return bad_index(s, level ? "a block is not an inner node" : "there is no root");
	return 0;
}

/* The hash of the name, by the root's choice of function. */
static int hash_of(struct search *s, const struct ext4_dx *root, const struct ext4_want *want)
{
	struct ext4_super *es = ext4_inode_super(s->dir);
	u32 levels = ext4_has_incompat(es, EXT4_INCOMPAT_LARGEDIR) ? LEVELS_MAX : LEVELS_MAX - 1;
	u32 version = ext4_hash_version(es, root->info->hash_version);
	struct ext4_hash h;
	int err = 0;

	if (root->info->unused_flags & 1)
		return bad_index(s, "unknown flags");
	if (root->info->indirect_levels >= levels)
		return bad_index(s, "too many levels");
	if (want->kind == EXT4_WANT_NOKEY)
		h = want->nokey.hash;
	else if (want->kind == EXT4_WANT_FOLDED)
		err = ext4_name_hash(es, version, want->folded.s, want->folded.len, &h);
	else
		err = ext4_name_hash(es, version, want->name.s, want->name.len, &h);
	if (err)
		return bad_index(s, "unknown hash");
	s->hash = h.hash;
	s->levels = root->info->indirect_levels + 1;
	return 0;
}

/* Down to the index block above the leaf. */
static int descend(struct search *s, const struct ext4_want *want)
{
	int err = enter(s, 0);

	if (!err)
		err = hash_of(s, &s->frame[0].dx, want);
	for (u32 level = 0; !err && level < s->levels; level++) {
		if (level)
			err = enter(s, level);
		if (!err)
			s->frame[level].at = entry_up_to(&s->frame[level].dx, s->hash);
	}
	return err;
}

/* On to the next leaf if names of our hash go on there. 1: yes. */
static int next_leaf(struct search *s)
{
	u32 level = s->levels - 1;
	int err = 0;

	while (s->frame[level].at + 1 >= s->frame[level].dx.count) {
		if (!level)
			return 0;
		level--;
	}
	s->frame[level].at++;
	if ((le32_get(s->frame[level].dx.entry[s->frame[level].at].hash) & ~1u) != s->hash)
		return 0;
	while (!err && ++level < s->levels)
		err = enter(s, level);
	return err ? err : 1;
}

int ext4_htree_search(struct ext4_inode *dir, const struct ext4_want *want, u64 *ino)
{
	scoped(search_end) struct search s = { .dir = dir };
	u64 leaves = ext4_size(dir) >> ext4_inode_super(dir)->block_bits;
	int err = descend(&s, want);

	if (err)
		return err;
	do {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (!leaves--)
			return bad_index(&s, "it leads to more leaves than there are");
		err = block_get(&s, entry_lblk(&s.frame[s.levels - 1]), &bh);
		if (!err)
			err = ext4_dirent_search(dir, bh->data, bh->size_bytes, want, ino);
		if (err)
			return err;
		err = next_leaf(&s);
	} while (err > 0);
	return err;
}
