/*
 * File data of the memory file system: a bitmap of device blocks, and per file a sorted array of chunks, each the
 * addresses of 512 blocks. Shows the life of a block: alloc takes it from the bitmap, commit puts it into the
 * file, abort or unmap gives it back.
 */
#include "memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BITS 64u

/* ---- the bitmap ---- */

/* A run of at most `want` free blocks, taken; as soon as one is found it is as long as it happens to be. */
static int blocks_take(struct memfs *fs, u64 want, u64 *first, u64 *count)
{
	u64 at, n;

	mutex_lock(&fs->alloc);
	if (!fs->blocks_free) {
		mutex_unlock(&fs->alloc);
		return -ENOSPC;
	}
	at = fs->next_block;
	for (;;) {
		if (at >= fs->blocks)
			at = 0;
		if (!(fs->bitmap[at / BITS] >> at % BITS & 1))
			break;
		at += fs->bitmap[at / BITS] == ~0ull && at % BITS == 0 ? BITS : 1;
	}
	for (n = 0; n < want && at + n < fs->blocks && !(fs->bitmap[(at + n) / BITS] >> (at + n) % BITS & 1);
	     n++)
		fs->bitmap[(at + n) / BITS] |= 1ull << (at + n) % BITS;
	fs->blocks_free -= n;
	fs->next_block = at + n;
	mutex_unlock(&fs->alloc);
	*first = at;
	*count = n;
	return 0;
}

static void blocks_give(struct memfs *fs, u64 first, u64 count)
{
	mutex_lock(&fs->alloc);
	for (u64 i = first; i < first + count; i++)
		fs->bitmap[i / BITS] &= ~(1ull << i % BITS);
	fs->blocks_free += count;
	mutex_unlock(&fs->alloc);
	/* Gives the memory back; a device that will not keeps it until the block is used again. */
	if (blkdev_discard(fs->sb.dev, first * MEMFS_BLOCK, count * MEMFS_BLOCK))
		return;
}

/* ---- the block map of a file; locks: tree ---- */

/* The place of the chunk `index`, or where it would be. */
static u32 chunk_at(const struct memfs_inode *mi, u64 index)
{
	u32 lo = 0, hi = mi->chunks;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (mi->chunk[mid]->index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct memfs_chunk *chunk_get(struct memfs_inode *mi, u64 index)
{
	u32 at = chunk_at(mi, index);
	struct memfs_chunk *c;

	if (at < mi->chunks && mi->chunk[at]->index == index)
		return mi->chunk[at];
	if (mi->chunks == mi->chunks_room) {
		u32 room = mi->chunks_room ? mi->chunks_room * 2 : 4;
		struct memfs_chunk **p = realloc(mi->chunk, room * sizeof(*p));

		if (!p)
			return NULL;
		mi->chunk = p;
		mi->chunks_room = room;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->index = index;
	memmove(mi->chunk + at + 1, mi->chunk + at, (mi->chunks - at) * sizeof(mi->chunk[0]));
	mi->chunk[at] = c;
	mi->chunks++;
	return c;
}

static u32 block_at(const struct memfs_inode *mi, u64 lblk)
{
	u32 at = chunk_at(mi, lblk / MEMFS_CHUNK);

	if (at == mi->chunks || mi->chunk[at]->index != lblk / MEMFS_CHUNK)
		return 0;
	return mi->chunk[at]->block[lblk % MEMFS_CHUNK];
}

static void block_set(struct memfs_inode *mi, struct memfs_chunk *c, u64 lblk, u32 value)
{
	u32 *b = &c->block[lblk % MEMFS_CHUNK];

	c->used += (value != 0) - (*b != 0);
	mutex_lock(&mi->vfs.attr);
	mi->vfs.blocks_512 += (u64)((value != 0) - (*b != 0)) * (MEMFS_BLOCK / 512);
	mutex_unlock(&mi->vfs.attr);
	*b = value;
}

/* Blocks from lblk on, at most max, that continue each other: all holes, or one run on the device. */
static u64 run_length(const struct memfs_inode *mi, u64 lblk, u64 max)
{
	u32 first = block_at(mi, lblk);
	u64 n = 1;

	if (!first) {
		u32 at = chunk_at(mi, lblk / MEMFS_CHUNK);

		if (at == mi->chunks)
			return max;
		/* Whole chunks that are absent are skipped at once. */
		if (mi->chunk[at]->index != lblk / MEMFS_CHUNK)
			return MIN(max, mi->chunk[at]->index * MEMFS_CHUNK - lblk);
	}
	for (; n < max && (lblk + n) % MEMFS_CHUNK; n++)
		if (block_at(mi, lblk + n) != (first ? first + (u32)n : 0))
			break;
	return n;
}

/* ---- operations ---- */

int memfs_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out)
{
	struct memfs_inode *mi = memfs_i(inode);
	u64 lblk = off_bytes / MEMFS_BLOCK,
	    n = DIV_ROUND_UP(off_bytes % MEMFS_BLOCK + len_bytes, (u64)MEMFS_BLOCK);
	u32 b;

	mutex_lock(&mi->tree);
	b = block_at(mi, lblk);
	n = run_length(mi, lblk, MAX(n, (u64)1));
	mutex_unlock(&mi->tree);
	*out = (struct mapping){ .kind = !b                    ? MAP_HOLE
					 : b & MEMFS_UNWRITTEN ? MAP_UNWRITTEN
							       : MAP_DATA,
				 .off_bytes = lblk * MEMFS_BLOCK,
				 .len_bytes = n * MEMFS_BLOCK };
	if (b) {
		out->dev = inode->sb->dev;
		out->dev_off_bytes = ((b & MEMFS_BLOCK_MASK) - 1ull) * MEMFS_BLOCK;
	}
	return 0;
}

int memfs_alloc(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out)
{
	struct memfs *fs = memfs_of(inode->sb);
	u64 first;
	int err = memfs_map(inode, off_bytes, len_bytes, out);

	if (err || out->kind == MAP_DATA)
		return err;
	if (out->kind == MAP_UNWRITTEN) { /* its blocks are there: commit marks them written */
		out->kind = MAP_DATA;
		return 0;
	}
	err = blocks_take(fs, MIN(out->len_bytes, len_bytes) / MEMFS_BLOCK, &first, &out->len_bytes);
	if (err)
		return err;
	out->kind = MAP_DATA;
	out->flags = MAP_NEW;
	out->off_bytes = off_bytes;
	out->len_bytes *= MEMFS_BLOCK;
	out->dev = inode->sb->dev;
	out->dev_off_bytes = first * MEMFS_BLOCK;
	return 0;
}

/* Puts `count` device blocks from `first` on into the file, or, on error, as many as memory allows: *done. */
static int insert(struct memfs_inode *mi, u64 lblk, u64 first, u64 count, u32 flag, u64 *done)
{
	int err = 0;

	mutex_lock(&mi->tree);
	for (*done = 0; *done < count; (*done)++) {
		struct memfs_chunk *c = chunk_get(mi, (lblk + *done) / MEMFS_CHUNK);

		if (!c) {
			err = -ENOMEM;
			break;
		}
		block_set(mi, c, lblk + *done, (u32)(first + *done + 1) | flag);
	}
	mutex_unlock(&mi->tree);
	return err;
}

int memfs_commit(struct inode *inode, const struct mapping *m, u64 size_bytes)
{
	u64 done, count = m->len_bytes / MEMFS_BLOCK, first = m->dev_off_bytes / MEMFS_BLOCK;
	int err = insert(memfs_i(inode), m->off_bytes / MEMFS_BLOCK, first, count, 0, &done);

	if (err) {
		if (m->flags & MAP_NEW)
			blocks_give(memfs_of(inode->sb), first + done, count - done);
		return err;
	}
	inode_grow(inode, size_bytes);
	if (!(m->flags & MAP_LATE))
		inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	return 0;
}

void memfs_abort(struct inode *inode, const struct mapping *m)
{
	if (m->flags & MAP_NEW)
		blocks_give(memfs_of(inode->sb), m->dev_off_bytes / MEMFS_BLOCK, m->len_bytes / MEMFS_BLOCK);
}

/* Takes [from, to) of one chunk out of the file. Locks: tree. */
static void chunk_clear(struct memfs_inode *mi, struct memfs_chunk *c, u64 from, u64 to)
{
	for (u64 lblk = from; lblk < to && c->used; lblk++) {
		u32 b = c->block[lblk % MEMFS_CHUNK];

		if (!b)
			continue;
		block_set(mi, c, lblk, 0);
		blocks_give(memfs_of(mi->vfs.sb), (b & MEMFS_BLOCK_MASK) - 1, 1);
	}
}

int memfs_unmap(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	struct memfs_inode *mi = memfs_i(inode);
	u64 from = off_bytes / MEMFS_BLOCK;
	u64 to = len_bytes > ~0ull - off_bytes ? ~0ull : (off_bytes + len_bytes) / MEMFS_BLOCK;
	u32 at;

	mutex_lock(&mi->tree);
	at = chunk_at(mi, from / MEMFS_CHUNK);
	while (at < mi->chunks && mi->chunk[at]->index * MEMFS_CHUNK < to) {
		struct memfs_chunk *c = mi->chunk[at];
		u64 first = c->index * MEMFS_CHUNK;

		chunk_clear(mi, c, MAX(from, first), MIN(to, first + MEMFS_CHUNK));
		if (c->used) {
			at++;
			continue;
		}
		free(c);
		mi->chunks--;
		memmove(mi->chunk + at, mi->chunk + at + 1, (mi->chunks - at) * sizeof(mi->chunk[0]));
	}
	mutex_unlock(&mi->tree);
	inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	return 0;
}

int memfs_prealloc(struct inode *inode, u64 off_bytes, u64 len_bytes)
{
	struct memfs_inode *mi = memfs_i(inode);
	u64 lblk = off_bytes / MEMFS_BLOCK, end = lblk + len_bytes / MEMFS_BLOCK;
	int err = 0;

	while (!err && lblk < end) {
		u64 n, first, count, done;
		u32 b;

		mutex_lock(&mi->tree);
		b = block_at(mi, lblk);
		n = run_length(mi, lblk, end - lblk);
		mutex_unlock(&mi->tree);
		if (!b) {
			err = blocks_take(memfs_of(inode->sb), n, &first, &count);
			if (err)
				break;
			err = insert(mi, lblk, first, count, MEMFS_UNWRITTEN, &done);
			if (err)
				blocks_give(memfs_of(inode->sb), first + done, count - done);
			n = count;
		}
		lblk += n;
	}
	inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	return err;
}

int memfs_set_size(struct inode *inode, u64 size_bytes)
{
	inode_set_size(inode, size_bytes);
	inode_touch(inode, ATTR_MTIME | ATTR_CTIME);
	return 0;
}
