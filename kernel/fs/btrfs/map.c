/*
 * Where a file's bytes lie, and making those that are checked or unpacked on their way.
 *
 * A call of decode goes through the extents of its range and notes for each what has to be read (runs of sectors) and what is done
 * with it afterwards; reads all of that at once; then unpacks and copies. What is whole sectors is read, and a compressed extent that is wanted
 * whole is unpacked, straight to its destination.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include "lib/trace.h"
#include <errno.h>

#define PARTS_MAX 32u
/* Of one call: what it makes, and what it reads of compressed extents. */
#define STEP_BYTES (1ull << 20)

/* A compressed extent of the range. */
struct part {
	u8 *dst;
	u64 n, at;        /* wanted: n bytes from `at` on of the unpacked extent */
	u32 unpack_bytes; /* so many from its start are unpacked */
	struct btrfs_compressed key;
	struct btrfs_slot *slot; /* of the cache; NULL: none */
	bool fill;               /* the slot is to be filled */
	bool whole;              /* without a slot: to be unpacked straight to dst */
	u32 compressed,
		unpacked; /* where in the scratch: what is read; without a slot and not whole, what it unpacks to */
};

/* A sector of which only a piece is wanted: read into the scratch. */
struct edge {
	u8 *dst;
	u32 n, from;
};

#define EDGES_MAX 2u /* extents begin and end with sectors: only the range's ends cut one */
#define RUNS_MAX  (PARTS_MAX + EDGES_MAX)

struct decoder {
	struct btrfs_inode *bi;
	struct btrfs_super *bs;
	u64 off_bytes, end; /* the range */
	u8 *dst, *room_end; /* where it goes, and how far memory goes there */
	bool checked, filling;
	struct part part[PARTS_MAX];
	struct edge edge[EDGES_MAX];
	struct btrfs_run run[RUNS_MAX]; /* dst NULL: the scratch, at run_scratch */
	u32 run_scratch[RUNS_MAX];
	u32 parts, edges, runs, scratch_bytes;
};

/* ---- map ---- */

static bool is_slow_sum(const struct btrfs_super *bs)
{
	return bs->csum_type == BTRFS_CSUM_SHA256 || bs->csum_type == BTRFS_CSUM_BLAKE2;
}

static void map_inline(const struct btrfs_extents *c, struct mapping *out)
{
	out->bh = bh_get(c->p.node[0]);
	out->inline_data = c->e.data;
	out->kind = c->e.compression == BTRFS_COMPRESS_NONE ? MAP_INLINE : MAP_ENCODED;
}

static void map_regular(const struct btrfs_inode *bi, const struct btrfs_extent *e, struct mapping *out)
{
	bool compressed = e->compression != BTRFS_COMPRESS_NONE, checked = btrfs_data_checked(bi);

	out->dev = bi->vfs.sb->dev;
	out->dev_off_bytes = e->bytenr + (compressed ? 0 : e->offset_bytes);
	out->dev_len_bytes = compressed ? e->disk_bytes : e->len_bytes;
	out->kind = compressed || checked ? MAP_ENCODED : MAP_DATA;
	if (compressed || (checked && is_slow_sum(btrfs_inode_super(bi))))
		out->flags |= MAP_COSTLY;
	if (!compressed)
		out->flags |= MAP_PLAIN;
}

/* The mapping says all of the extent, so that decode need not search again: see extent_of. */
static void map_extent(const struct btrfs_extents *c, struct mapping *out)
{
	const struct btrfs_extent *e = &c->e;

	out->off_bytes = e->off_bytes;
	out->len_bytes = e->len_bytes;
	out->kind = MAP_HOLE;
	out->fs_private[0] = e->bytenr;
	out->fs_private[1] = e->disk_bytes;
	out->fs_private[2] = e->offset_bytes;
	out->fs_private[3] = (u64)e->compression << 32 | MIN(e->ram_bytes, (u64)BTRFS_COMPRESS_MAX);
	switch (e->kind) {
	case BTRFS_FILE_HOLE:
		if (!e->bytenr && e->off_bytes + e->len_bytes == ~0ull)
			out->flags |= MAP_LAST;
		break;
	case BTRFS_FILE_INLINE:
		map_inline(c, out);
		break;
	case BTRFS_FILE_REG:
		map_regular(c->bi, e, out);
		break;
	case BTRFS_FILE_PREALLOC:
		out->kind = MAP_UNWRITTEN;
		out->dev = c->bi->vfs.sb->dev;
		out->dev_off_bytes = e->bytenr + e->offset_bytes;
		break;
	}
}

/* map_extent's inverse, for MAP_ENCODED. */
static struct btrfs_extent extent_of(const struct mapping *m)
{
	return (struct btrfs_extent){
		.kind = m->inline_data ? BTRFS_FILE_INLINE : BTRFS_FILE_REG,
		.off_bytes = m->off_bytes,
		.len_bytes = m->len_bytes,
		.bytenr = m->fs_private[0],
		.disk_bytes = m->fs_private[1],
		.offset_bytes = m->fs_private[2],
		.compression = (u8)(m->fs_private[3] >> 32),
		.ram_bytes = (u32)m->fs_private[3],
		.data = m->inline_data,
	};
}

int btrfs_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out)
{
	scoped(btrfs_extents_put) struct btrfs_extents c = { .bi = btrfs_inode(inode) };
	int err = btrfs_extents_seek(&c, off_bytes);

	(void)len_bytes;
	if (err)
		return err;
	trace(TRACE_MAP, inode->ino, off_bytes);
	map_extent(&c, out);
	return 0;
}

/* ---- decode: what has to be read ---- */

static u32 take_scratch(struct decoder *d, u32 bytes)
{
	u32 at = d->scratch_bytes;

	d->scratch_bytes += ALIGN_UP(bytes, 4096u);
	return at;
}

/* dst NULL: into the scratch; returns where there. */
static u32 add_run(struct decoder *d, u64 logical, u64 len_bytes, u8 *dst, u64 file_bytes)
{
	u32 i = d->runs++;

	d->run[i] = (struct btrfs_run){
		.logical = logical, .len_bytes = len_bytes, .dst = dst, .file_bytes = file_bytes
	};
	if (!dst)
		d->run_scratch[i] = take_scratch(d, (u32)len_bytes);
	return d->run_scratch[i];
}

static u8 *dst_of(const struct decoder *d, u64 pos)
{
	return d->dst + (pos - d->off_bytes);
}

/* [pos, pos + n) lies within one sector. */
static void add_edge(struct decoder *d, const struct btrfs_extent *e, u64 pos, u64 n)
{
	u64 start = ALIGN_DOWN(pos, (u64)d->bs->sector_bytes);
	struct edge *g = &d->edge[d->edges++];

	g->dst = dst_of(d, pos);
	g->n = (u32)n;
	g->from = (u32)(pos - start) + add_run(d, e->bytenr + e->offset_bytes + (start - e->off_bytes),
					       d->bs->sector_bytes, NULL, start);
}

/* [pos, to) of an extent that is not compressed. */
static void plan_plain(struct decoder *d, const struct btrfs_extent *e, u64 pos, u64 to)
{
	u64 sector = d->bs->sector_bytes, start = ALIGN_UP(pos, sector), end = ALIGN_UP(to, sector);

	if (pos < start) {
		add_edge(d, e, pos, MIN(start, to) - pos);
		pos = start;
	}
	if (pos >= to)
		return;
	if (to < end && (u64)(d->room_end - dst_of(d, pos)) < end - pos) {
		end = ALIGN_DOWN(to, sector);
		add_edge(d, e, end, to - end);
	}
	if (pos < end)
		add_run(d, e->bytenr + e->offset_bytes + (pos - e->off_bytes), end - pos, dst_of(d, pos),
			pos);
}

/* The same of a compressed one. False: somebody else is unpacking it, and nothing of it was planned. */
static bool plan_packed(struct decoder *d, const struct btrfs_extent *e, u64 pos, u64 to)
{
	struct part *p = &d->part[d->parts];
	u64 room = (u64)(d->room_end - dst_of(d, pos));
	enum btrfs_unpacked_verdict verdict;

	*p = (struct part){
		.dst = dst_of(d, pos),
		.n = to - pos,
		.at = e->offset_bytes + (pos - e->off_bytes),
		.key = { .bytenr = e->bytenr,
			 .disk_bytes = (u32)e->disk_bytes,
			 .ram_bytes = (u32)e->ram_bytes,
			 .compression = e->compression,
			 .checked = d->checked },
	};
	/* What is unpacked behind the end of the range is in nobody's way. */
	p->whole = !p->at && (p->n == e->ram_bytes || (to == d->end && e->ram_bytes <= room));
	p->unpack_bytes = p->whole ? p->key.ram_bytes : (u32)(p->at + p->n);
	verdict = btrfs_unpacked_get(d->bs->unpacked, &p->key, &p->unpack_bytes, !p->whole, !d->filling,
				     &p->slot);
	if (verdict == BTRFS_UNPACKED_BUSY)
		return false;
	d->parts++;
	if (verdict == BTRFS_UNPACKED_READY)
		return true;
	p->fill = verdict == BTRFS_UNPACKED_FILL;
	d->filling |= p->fill;
	p->compressed = add_run(d, e->bytenr, e->disk_bytes, NULL, e->off_bytes);
	if (!p->fill && !p->whole)
		p->unpacked = take_scratch(d, p->key.ram_bytes);
	return true;
}

/* Returns where the plan for the range ends. */
static int plan(struct decoder *d, const struct mapping *m, u64 *planned)
{
	scoped(btrfs_extents_put) struct btrfs_extents c = { .bi = d->bi };
	struct btrfs_extent e = extent_of(m);
	u64 pos = d->off_bytes;
	int err = 0;

	for (;;) {
		u64 to = MIN(e.off_bytes + e.len_bytes, d->end);

		if (e.kind == BTRFS_FILE_INLINE)
			err = corrupt(&d->bs->vfs.health, "inode", d->bi->vfs.ino,
				      "an inline extent behind others");
		else if (e.kind != BTRFS_FILE_REG)
			memset(dst_of(d, pos), 0, to - pos);
		else if (e.compression == BTRFS_COMPRESS_NONE)
			plan_plain(d, &e, pos, to);
		else if (!plan_packed(d, &e, pos, to))
			break;
		if (err)
			break;
		pos = to;
		if (pos == d->end || d->parts == PARTS_MAX || d->runs >= PARTS_MAX - EDGES_MAX ||
		    d->scratch_bytes >= STEP_BYTES)
			break;
		err = c.p.root ? btrfs_extents_next(&c) : btrfs_extents_seek(&c, pos);
		if (err)
			break;
		e = c.e;
	}
	*planned = pos;
	/* Who asks for what cannot be found out will ask for it again, and first. */
	return pos > d->off_bytes ? 0 : err;
}

/* ---- decode: what becomes of it ---- */

static int finish_part(struct decoder *d, struct btrfs_tools *t, u8 *scratch, struct part *p)
{
	u8 *bytes = p->slot ? btrfs_unpacked_bytes(p->slot) : p->whole ? p->dst : scratch + p->unpacked;
	u32 have = 0;
	int err = 0;

	if (!p->slot || p->fill)
		err = btrfs_unpack(t, &p->key, d->bs->sector_bytes, scratch + p->compressed, bytes,
				   p->unpack_bytes, &have);
	if (p->fill) {
		btrfs_unpacked_filled(d->bs->unpacked, p->slot, have, err);
		p->fill = false;
	}
	if (!err && bytes != p->dst)
		memcpy(p->dst, bytes + p->at, p->n);
	if (err != -EIO)
		return err;
	return fail(-EIO, "subvolume %llu, inode %llu: the extent at logical address %llu cannot be unpacked",
		    (unsigned long long)d->bi->root->id, (unsigned long long)d->bi->objectid,
		    (unsigned long long)p->key.bytenr);
}

static int read_and_finish(struct decoder *d, struct btrfs_tools *t)
{
	u8 *scratch = d->scratch_bytes ? btrfs_tools_scratch(t, d->scratch_bytes) : NULL;
	int err;

	if (d->scratch_bytes && !scratch)
		return fail(-ENOMEM, "no memory to read compressed data");
	for (u32 i = 0; i < d->runs; i++)
		if (!d->run[i].dst)
			d->run[i].dst = scratch + d->run_scratch[i];
	err = btrfs_data_read(d->bi, d->run, d->runs, d->checked);
	for (u32 i = 0; i < d->edges && !err; i++)
		memcpy(d->edge[i].dst, scratch + d->edge[i].from, d->edge[i].n);
	for (u32 i = 0; i < d->parts && !err; i++)
		err = finish_part(d, t, scratch, &d->part[i]);
	return err;
}

/* Of an inline extent, which is alone at its file's start. */
static int decode_inline(struct decoder *d, struct btrfs_tools *t, const struct mapping *m)
{
	const struct btrfs_extent e = extent_of(m);
	const struct btrfs_compressed key = { .disk_bytes = (u32)e.disk_bytes,
					      .ram_bytes = (u32)e.ram_bytes,
					      .compression = e.compression };
	u8 *scratch = btrfs_tools_scratch(t, MAX(key.ram_bytes, 1u));
	u32 have;
	int err = scratch ? btrfs_unpack(t, &key, d->bs->sector_bytes, e.data, scratch, key.ram_bytes, &have)
			  : -ENOMEM;

	if (err)
		return fail(err,
			    "subvolume %llu, inode %llu: its data, which are in the tree, cannot be unpacked",
			    (unsigned long long)d->bi->root->id, (unsigned long long)d->bi->objectid);
	if (!err)
		memcpy(d->dst, scratch + d->off_bytes, d->end - d->off_bytes);
	return err;
}

int btrfs_decode(struct inode *inode, const struct mapping *m, u64 off_bytes, void *dst, u64 len_bytes,
		 u64 room_bytes, u64 *done)
{
	struct decoder d = { .bi = btrfs_inode(inode), .bs = btrfs_super(inode->sb), .dst = dst };
	struct btrfs_tools *t;
	int err = 0;

	d.off_bytes = off_bytes;
	d.end = off_bytes + MIN(len_bytes, STEP_BYTES);
	d.room_end = d.dst + room_bytes;
	d.checked = btrfs_data_checked(d.bi);
	t = btrfs_tools_get(d.bs->unpacked);
	if (!t)
		return fail(-ENOMEM, "no memory to read compressed data");
	if (m->inline_data) {
		d.end = MIN(d.end, m->off_bytes + m->len_bytes);
		err = decode_inline(&d, t, m);
		*done = d.end - off_bytes;
	} else {
		u64 planned;

		err = plan(&d, m, &planned);
		if (!err)
			err = read_and_finish(&d, t);
		*done = planned - off_bytes;
	}
	for (u32 i = 0; i < d.parts; i++) {
		if (d.part[i].fill)
			btrfs_unpacked_filled(d.bs->unpacked, d.part[i].slot, 0, err);
		if (d.part[i].slot)
			btrfs_unpacked_put(d.bs->unpacked, d.part[i].slot);
	}
	btrfs_tools_put(d.bs->unpacked, t);
	return err;
}

/* ---- symbolic links ---- */

int btrfs_readlink(struct inode *inode, char *buf, u32 size, u32 *len)
{
	u64 n = MIN(atomic_load(&inode->size_bytes), (u64)size), done = 0;
	struct mapping m = { 0 };
	int err = btrfs_map(inode, 0, n, &m);

	*len = (u32)n;
	if (!err && (!m.inline_data || m.len_bytes < n))
		err = corrupt(&inode->sb->health, "inode", inode->ino, "a symbolic link without its target");
	else if (!err && m.kind == MAP_INLINE)
		memcpy(buf, m.inline_data, n);
	else if (!err)
		err = btrfs_decode(inode, &m, 0, buf, n, n, &done);
	map_done(&m);
	return err;
}
