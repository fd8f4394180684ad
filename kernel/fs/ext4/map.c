/*
 * Where the bytes of a file are: the answer to the one question the data path asks.
 *
 *   - A pure function of (inode, offset, length): nothing is remembered between calls.
 *   - Behind the last block of the file there is a hole, whatever the volume holds there (preallocation, the
 *     hash tree of a verity file).
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

int ext4_map_blocks(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out)
{
	if (ext4_has_extents(ei))
		return ext4_extent_map(ei, lblk, want, out);
	return ext4_indirect_map(ei, lblk, want, out);
}

static void map_hole(struct mapping *m, u64 from)
{
	*m = (struct mapping){
		.kind = MAP_HOLE, .flags = MAP_LAST, .off_bytes = from, .len_bytes = UINT64_MAX - from
	};
}

static int map_inline(struct ext4_inode *ei, u64 off_bytes, struct mapping *m)
{
	struct ext4_inline in;
	u64 at = 0;
	int err = ext4_inline_get(ei, &in);

	if (err)
		return err;
	for (u32 i = 0; i < ARRAY_SIZE(in.piece); i++) {
		if (off_bytes < at + in.piece[i].len) {
			*m = (struct mapping){ .kind = MAP_INLINE,
					       .off_bytes = at,
					       .len_bytes = in.piece[i].len,
					       .inline_data = in.piece[i].p };
			if (i == 1)
				m->bh = take(in.list.bh);
			break;
		}
		at += in.piece[i].len;
	}
	if (!m->inline_data)
		map_hole(m, at);
	ext4_inline_put(&in);
	return 0;
}

#define LOOK_MAX 256u /* blocks */

/* Of a file whose data goes through the journal the newest bytes may be in the cache: either lblk's block, or that and those behind it are
 * not. */
static void look_in_cache(struct inode *inode, u64 lblk, u64 end, u32 bits, const struct ext4_run *run,
			  struct mapping *m)
{
	u64 blk = run->pblk + (lblk - run->lblk),
	    most = MIN(MIN(run->lblk + run->len, end) - lblk, (u64)LOOK_MAX), n;
	struct buffer_head *bh = NULL;

	for (n = 0; n < most && !bh; n++)
		bh = bh_find(inode->sb->dev, blk + n);
	if (bh)
		n--;
	m->off_bytes = lblk << bits;
	m->dev_off_bytes = blk << bits;
	m->len_bytes = MAX(n, (u64)1) << bits;
	if (lblk + MAX(n, (u64)1) < MIN(run->lblk + run->len, end))
		m->flags &= ~MAP_LAST;
	if (bh && !n) {
		m->kind = MAP_INLINE;
		m->dev = NULL;
		m->inline_data = bh->data;
		m->bh = bh;
	} else {
		bh_put(bh);
	}
}

/* Locks: tree R. */
static void map_run(struct inode *inode, u64 lblk, u64 end, const struct ext4_run *run, struct mapping *m)
{
	struct ext4_inode *ei = ext4_inode(inode);
	u32 bits = ext4_inode_super(ei)->block_bits;

	m->off_bytes = run->lblk << bits;
	m->len_bytes = MIN(run->len, end - run->lblk) << bits;
	if (run->last || run->lblk + run->len >= end)
		m->flags = MAP_LAST;
	if (!run->pblk)
		return;
	m->kind = run->unwritten ? MAP_UNWRITTEN : MAP_DATA;
	m->dev = inode->sb->dev;
	m->dev_off_bytes = run->pblk << bits;
	if (!run->unwritten && ext4_jdata(ei))
		look_in_cache(inode, lblk, end, bits, run, m);
}

int ext4_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out)
{
	struct ext4_inode *ei = ext4_inode(inode);
	u32 bits = ext4_inode_super(ei)->block_bits;
	u64 end = ALIGN_UP(ext4_size(ei), (u64)inode->sb->block_bytes), lblk = off_bytes >> bits;
	struct ext4_run run;
	int err;

	if (ei->flags & EXT4_FL_ENCRYPT)
		return fail(-ENOKEY, "inode %llu is encrypted", (unsigned long long)inode->ino);
	*out = (struct mapping){ .kind = MAP_HOLE };
	if (ei->flags & EXT4_FL_INLINE_DATA)
		return map_inline(ei, off_bytes, out);
	if (off_bytes >= end) {
		map_hole(out, end);
		return 0;
	}
	len_bytes = MIN(len_bytes, end - off_bytes);
	rw_read_lock(&ei->tree);
	err = ext4_map_blocks(ei, lblk, ((off_bytes + len_bytes - 1) >> bits) - lblk + 1, &run);
	if (!err)
		map_run(inode, lblk, end >> bits, &run, out);
	rw_read_unlock(&ei->tree);
	return err;
}

int ext4_read_content(struct ext4_inode *ei, u64 off_bytes, void *buf, u64 len_bytes)
{
	u8 *dst = buf;

	while (len_bytes) {
		scoped(map_done) struct mapping m = { 0 };
		int err = ext4_map(&ei->vfs, off_bytes, len_bytes, &m);
		u64 at, n;

		if (err)
			return err;
		at = off_bytes - m.off_bytes;
		n = MIN(len_bytes, m.len_bytes - at);
		if (m.kind == MAP_DATA)
			err = blkdev_read(m.dev, m.dev_off_bytes + at, dst, n);
		else if (m.kind == MAP_INLINE)
			memcpy(dst, (const u8 *)m.inline_data + at, n);
		else
			memset(dst, 0, n);
		if (err)
			return err;
		dst += n;
		off_bytes += n;
		len_bytes -= n;
	}
	return 0;
}
