/*
 * Blocks of directories: getting them, and looking for a name in one.
 *
 *   - A hole in a directory is not an error here: it holds no names.
 *   - A number that cannot stand in a directory (reserved, beyond the last inode) is corruption when it is
 *     what was looked for, and hides nothing else.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

#define AHEAD_MIN 16ull /* blocks */
#define AHEAD_MAX 256ull

/* Starts reading what follows in the directory, however it is scattered; the further in, the more. */
static void read_ahead(struct ext4_inode *dir, u64 lblk)
{
	u64 end = MIN(lblk + MIN(MAX(lblk, AHEAD_MIN), AHEAD_MAX),
		      DIV_ROUND_UP(ext4_size(dir), (u64)dir->vfs.sb->block_bytes));
	struct ext4_run run;

	while (lblk < end && !ext4_map_blocks(dir, lblk, end - lblk, &run)) {
		u64 n = MIN(run.lblk + run.len, end) - lblk;

		if (run.pblk && !run.unwritten)
			bh_readahead(dir->vfs.sb->dev, run.pblk + lblk - run.lblk, (u32)n);
		lblk += n;
	}
}

int ext4_dir_block(struct ext4_inode *dir, u64 lblk, bool ahead, struct buffer_head **out)
{
	struct blkdev *dev = dir->vfs.sb->dev;
	struct bh_ctx ctx = ext4_ctx_dir(dir, lblk);
	struct ext4_run run;
	int err = ext4_map_blocks(dir, lblk, 1, &run);
	u64 blk;

	if (err)
		return err;
	if (!run.pblk || run.unwritten)
		return -ENOENT;
	blk = run.pblk + lblk - run.lblk;
	if (ahead && !dir->vfs.sb->readahead_off) {
		struct buffer_head *bh = bh_find(dev, blk);

		if (!bh)
			read_ahead(dir, lblk);
		bh_put(bh);
	}
	return bh_read(dev, blk, &ext4_dir_ops, &ctx, out);
}

/* The last bytes of a name, as want->end has them. */
static u64 end_of(const char *s, u32 len)
{
	u32 bytes = MIN(len, (u32)sizeof(u64));
	le64 end = { 0 };

	memcpy(end.b + sizeof(end) - bytes, s + len - bytes, bytes);
	return le64_get(end);
}

bool ext4_want(struct ext4_inode *dir, const struct name *name, struct ext4_want *want)
{
	if (!name->len)
		return false;
	want->name = *name;
	want->kind = EXT4_WANT_BYTES;
	want->end = end_of(name->s, name->len);
	if (ext4_is_dot_or_dotdot(name->s, name->len))
		return true;
	if (dir->flags & EXT4_FL_ENCRYPT) {
		want->kind = EXT4_WANT_NOKEY;
		want->end = 0;
		return ext4_nokey_parse(name, &want->nokey);
	}
	if (ext4_dir_folds(dir) && ext4_casefold(name->s, name->len, want->folded.s, &want->folded.len)) {
		want->kind = EXT4_WANT_FOLDED;
		want->end = end_of(want->folded.s, want->folded.len);
	}
	return true;
}

/* The same of a record's name: what is in front of a short one are other bytes of the record. */
static inline u64 record_end(const struct ext4_disk_dirent *de)
{
	u64 end = le64_get(*(const le64 *)((const u8 *)ext4_dirent_name(de) + de->name_len - sizeof(end)));

	return de->name_len < sizeof(end) ? end & ~(~0ull >> 8 * de->name_len) : end;
}

#define EACH_BYTE(x) (0x0101010101010101ull * (x))

/* Eight bytes of ASCII at a time. */
static inline u64 lower8(u64 s)
{
	u64 from_a = s + EACH_BYTE(0x80 - 'A'), beyond_z = s + EACH_BYTE(0x7f - 'Z');

	return s | (from_a & ~beyond_z & EACH_BYTE(0x80)) >> 2;
}

/* Names of one length often differ at their end only, so that is looked at first. */
static inline bool is_wanted(const struct ext4_want *want, const struct ext4_disk_dirent *de)
{
	const char *s = ext4_dirent_name(de);
	u64 end;

	if (want->kind == EXT4_WANT_BYTES)
		return de->name_len == want->name.len && record_end(de) == want->end &&
		       !memcmp(s, want->name.s, want->name.len);
	if (want->kind == EXT4_WANT_NOKEY)
		return ext4_nokey_is(&want->nokey, s, de->name_len);
	end = record_end(de);
	/* ASCII at the end of a name is at the end of its folded form. */
	if (!(end & EACH_BYTE(0x80)) && lower8(end) != want->end)
		return false;
	return ext4_casefold_is(s, de->name_len, want->folded.s, want->folded.len);
}

int ext4_dirent_search(struct ext4_inode *dir, const void *base, u32 len, const struct ext4_want *want,
		       struct ext4_place *at)
{
	struct ext4_super *es = ext4_inode_super(dir);
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;
	u32 prev = 0;

	*at = (struct ext4_place){ 0 };
	ext4_dirent_iter(&it, base, len, ext4_block_bytes(es));
	for (; (de = ext4_dirent_next(&it, &bad)); prev = it.off) {
		if (!is_wanted(want, de) || !le32_get(de->inode))
			continue;
		*at = (struct ext4_place){ .ino = le32_get(de->inode), .off = it.off, .prev = prev };
		if (ext4_ino_public(es, at->ino))
			return 1;
		return corrupt(&es->vfs.health, "directory", dir->vfs.ino,
			       "an entry leads to inode %llu, which no name may have",
			       (unsigned long long)at->ino);
	}
	return bad ? corrupt(&es->vfs.health, "directory", dir->vfs.ino, "%s", bad) : 0;
}

int ext4_dir_search_block(struct ext4_inode *dir, struct buffer_head *bh, const struct ext4_want *want,
			  struct ext4_place *at)
{
	int found = ext4_dirent_search(dir, bh->data, bh->size_bytes, want, at);

	if (found > 0)
		at->bh = bh_get(bh);
	return found;
}

#define INLINE_PARENT_BYTES 4u

int ext4_inline_dir_get(struct ext4_inode *dir, struct ext4_inline_dir *d)
{
	int err = ext4_inline_get(dir, &d->in);

	if (err)
		return err;
	if (d->in.piece[0].len <= INLINE_PARENT_BYTES) {
		ext4_inline_put(&d->in);
		return corrupt(&dir->vfs.sb->health, "directory", dir->vfs.ino,
			       "too short for an inline one");
	}
	d->parent = le32_get(*(const le32 *)d->in.piece[0].p);
	d->region[0].p = d->in.piece[0].p + INLINE_PARENT_BYTES;
	d->region[0].len = d->in.piece[0].len - INLINE_PARENT_BYTES;
	d->region[0].at = INLINE_PARENT_BYTES;
	d->region[1].p = d->in.piece[1].p;
	d->region[1].len = d->in.piece[1].len;
	d->region[1].at = d->in.piece[0].len;
	return 0;
}
