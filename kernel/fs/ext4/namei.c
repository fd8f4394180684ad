/*
 * Names: where one stands, in directories of all kinds: in the inode, in plain blocks, or hashed.
 *
 *   - What is damaged hides as little as possible: without a usable index all blocks are looked through. A lookup
 *     that does not find its name is an error, not "no such name", when a block could not be looked at.
 *   - "." and ".." stand in block 0 and in no index.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

static int inline_find(struct ext4_inode *dir, const struct ext4_want *want, struct ext4_place *at)
{
	struct ext4_inline_dir d;
	int err = ext4_inline_dir_get(dir, &d), found = 0;

	if (err)
		return err;
	if (ext4_is_dot_or_dotdot(want->name.s, want->name.len)) {
		*at = (struct ext4_place){ .ino = want->name.len == 1 ? dir->vfs.ino : d.parent,
					   .lblk = EXT4_INLINE_PARENT };
		found = 1;
	}
	for (u32 i = 0; i < ARRAY_SIZE(d.region) && found <= 0; i++) {
		found = ext4_dirent_search(dir, d.region[i].p, d.region[i].len, want, at);
		if (found > 0)
			at->lblk = i;
		else if (found < 0)
			err = found;
	}
	ext4_inline_put(&d.in);
	return found > 0 ? 1 : err;
}

/* All blocks, or the first `blocks` of them. */
static int linear_find(struct ext4_inode *dir, u64 blocks, const struct ext4_want *want,
		       struct ext4_place *at)
{
	int bad = 0;

	blocks = MIN(blocks, DIV_ROUND_UP(ext4_size(dir), (u64)dir->vfs.sb->block_bytes));
	for (u64 lblk = 0; lblk < blocks; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		int err = ext4_dir_block(dir, lblk, true, &bh);

		if (!err)
			err = ext4_dir_search_block(dir, bh, want, at);
		if (err > 0) {
			at->lblk = lblk;
			return err;
		}
		if (err && err != -ENOENT)
			bad = err;
	}
	return bad;
}

int ext4_dir_find(struct ext4_inode *dir, const struct name *name, struct ext4_place *at)
{
	struct ext4_want want;
	int found = -EUCLEAN;

	*at = (struct ext4_place){ 0 };
	/* One that was removed while somebody has it open has not even "." any more. */
	if (!ext4_size(dir) || !ext4_want(dir, name, &want))
		return 0;
	if (dir->flags & EXT4_FL_INLINE_DATA)
		return inline_find(dir, &want, at);
	if (ext4_is_dot_or_dotdot(name->s, name->len))
		return linear_find(dir, 1, &want, at);
	if (ext4_dir_filter_excludes(dir, &want))
		return 0;
	if (ext4_dir_is_indexed(dir) && !atomic_load_explicit(&dir->index_bad, memory_order_relaxed))
		found = ext4_htree_search(dir, &want, at);
	if (found != -EUCLEAN)
		return found;
	found = linear_find(dir, UINT64_MAX, &want, at);
	if (!found && !ext4_dir_is_indexed(dir))
		ext4_dir_filter_make(dir);
	return found;
}

int ext4_lookup(struct inode *dir, const struct name *name, u64 *ino)
{
	scoped(ext4_place_put) struct ext4_place at = { 0 };
	int found;

	if (name->len > EXT4_NAME_MAX)
		return -ENAMETOOLONG;
	found = ext4_dir_find(ext4_inode(dir), name, &at);
	if (found < 0)
		return found;
	*ino = at.ino;
	return found ? 0 : -ENOENT;
}
