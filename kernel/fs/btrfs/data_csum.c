/*
 * Reading data and checking it. The checksum tree has, for each sector of data by its logical address, a sum; an item of it
 * covers the sectors from its key's offset on. A sector whose sum is another is read from the volume's other copies until one is
 * right. A sector without a sum is an error, unless its file has none at all: so the kernel takes it (fs/btrfs/file-item.c,
 * btrfs_lookup_bio_sums: the sum that is missing counts as zeros).
 */
#include "btrfs.h"

#include "lib/scope.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>

#define RUNS_MAX 128u

/* What is known of one sector. */
enum sector_state { SECTOR_NO_SUM, SECTOR_BAD, SECTOR_GOOD };

struct checker {
	struct btrfs_super *bs;
	const struct btrfs_inode *bi;
	const struct btrfs_run *run;
	u32 sectors;
	u8 *sums;  /* csum_bytes for each sector */
	u8 *state; /* enum sector_state of each */
};

bool btrfs_data_checked(const struct btrfs_inode *bi)
{
	const struct btrfs_super *bs = btrfs_inode_super(bi);

	return !(bi->disk_flags & BTRFS_INODE_NODATASUM) && bs->csum_root && !bs->opts.ignore_data_csums;
}

/* ---- the checksum tree ---- */

/* The part of an item that is about the run. */
static void take_sums(struct checker *c, u64 first, const u8 *sums, u32 count)
{
	u32 per = c->bs->csum_bytes, sector = c->bs->sector_bytes;
	u64 end = MIN(first + (u64)count * sector, c->run->logical + c->run->len_bytes);

	for (u64 at = MAX(first, c->run->logical); at < end; at += sector) {
		u64 to = (at - c->run->logical) / sector;

		memcpy(c->sums + to * per, sums + (at - first) / sector * per, per);
		c->state[to] = SECTOR_BAD;
	}
}

static int find_sums(struct checker *c)
{
	const struct btrfs_key key = BTRFS_KEY(BTRFS_OBJ_EXTENT_CSUM, BTRFS_KEY_EXTENT_CSUM, c->run->logical);
	u64 end = c->run->logical + c->run->len_bytes;
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	int err = btrfs_seek_last(c->bs->csum_root, &key, &p);

	if (err == -ENOENT)
		err = btrfs_seek(c->bs->csum_root, &key, &p);
	for (; !err; err = btrfs_next(&p)) {
		struct btrfs_key k = btrfs_path_key(&p);
		const u8 *sums;
		u32 len;

		if (k.objectid > key.objectid || (k.objectid == key.objectid && k.type > key.type))
			break;
		if (k.objectid != key.objectid || k.type != key.type)
			continue;
		if (k.offset >= end)
			break;
		sums = btrfs_path_item(&p, &len);
		take_sums(c, k.offset, sums, len / c->bs->csum_bytes);
		if (k.offset + (u64)(len / c->bs->csum_bytes) * c->bs->sector_bytes >= end)
			break;
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- checking, and other copies ---- */

/* The sums of sectors [from, to) of the run, which were read. The number of those that are bad. */
static u32 check(struct checker *c, u32 from, u32 to)
{
	u32 per = c->bs->csum_bytes, sector = c->bs->sector_bytes, bad = 0;
	u8 sum[BTRFS_CSUM_BYTES];

	for (u32 i = from; i < to; i++) {
		if (c->state[i] != SECTOR_BAD)
			continue;
		btrfs_csum(c->bs->csum_type, c->run->dst + (u64)i * sector, sector, sum);
		if (!memcmp(sum, c->sums + (u64)i * per, per))
			c->state[i] = SECTOR_GOOD;
		else
			bad++;
	}
	return bad;
}

/* Sectors of the run that were read from a copy and are bad still. */
static void blame(struct checker *c, u32 from, u32 to, u32 copy)
{
	for (u32 i = from; i < to; i++)
		if (c->state[i] == SECTOR_BAD) {
			stat_add(STAT_DATA_BAD, 1);
			btrfs_volume_bad_copy(c->bs->volume, c->run->logical + (u64)i * c->bs->sector_bytes,
					      copy);
		}
}

static int read_copy(struct checker *c, u32 from, u32 to, u32 copy)
{
	u32 sector = c->bs->sector_bytes;
	struct io_batch batch;
	struct bio bio;

	bio_init(&bio, c->bs->vfs.dev, BIO_READ, c->run->logical + (u64)from * sector,
		 c->run->dst + (u64)from * sector, (u64)(to - from) * sector);
	bio.copy = (u8)copy;
	io_batch_init(&batch);
	io_submit(&batch, &bio);
	return io_wait(&batch);
}

static int try_copy(struct checker *c, u32 from, u32 to, u32 copy)
{
	int err = read_copy(c, from, to, copy);

	if (!err && check(c, from, to))
		blame(c, from, to, copy);
	return err;
}

/* Bad sectors [from, to), from another copy: all at once, and one by one when that cannot be read. Returns how many stay bad. */
static u32 repair(struct checker *c, u32 from, u32 to, u32 copy)
{
	u32 left = 0;

	if (try_copy(c, from, to, copy) && to - from > 1)
		for (u32 i = from; i < to; i++)
			(void)!try_copy(c, i, i + 1, copy);
	for (u32 i = from; i < to; i++)
		left += c->state[i] == SECTOR_BAD;
	stat_add(STAT_DATA_HEALED, to - from - left);
	return left;
}

static u32 copies_of(const struct checker *c)
{
	const struct btrfs_chunk *chunk = btrfs_chunk_find(c->bs->volume, c->run->logical);

	return chunk ? chunk->copies : 1;
}

/* A run that was read from the first copy, with `read_err`. */
static int check_run(struct checker *c, int read_err)
{
	u32 bad = c->sectors, copies = copies_of(c), tries = copies - 1;

	if (!read_err) {
		bad = check(c, 0, c->sectors);
		if (bad)
			blame(c, 0, c->sectors, 0);
	}
	/* The first copy again at last: its good sectors did not come while they were asked for together with a bad one. */
	if (read_err && copies > 1)
		tries++;
	for (u32 nth = 1; nth <= tries && bad; nth++) {
		bad = 0;
		for (u32 i = 0, end; i < c->sectors; i = end + 1) {
			for (end = i; end < c->sectors && c->state[end] == SECTOR_BAD; end++)
				;
			if (end > i)
				bad += repair(c, i, end, nth % copies);
		}
	}
	for (u32 i = 0; i < c->sectors; i++) {
		const char *why = c->state[i] == SECTOR_NO_SUM ? "has no checksum"
				  : read_err                   ? "cannot be read"
							       : "has a wrong checksum in every copy";

		if (c->state[i] != SECTOR_GOOD)
			return fail(
				-EIO, "subvolume %llu, inode %llu: byte %llu, at logical address %llu, %s",
				(unsigned long long)c->bi->root->id, (unsigned long long)c->bi->objectid,
				(unsigned long long)(c->run->file_bytes + (u64)i * c->bs->sector_bytes),
				(unsigned long long)(c->run->logical + (u64)i * c->bs->sector_bytes), why);
	}
	return 0;
}

/* ---- reading ---- */

static int read_all(const struct btrfs_inode *bi, const struct btrfs_run *run, u32 n, struct bio *bio)
{
	struct io_batch batch;

	io_batch_init(&batch);
	for (u32 i = 0; i < n; i++) {
		bio_init(&bio[i], bi->vfs.sb->dev, BIO_READ, run[i].logical, run[i].dst, run[i].len_bytes);
		io_submit(&batch, &bio[i]);
	}
	return io_wait(&batch);
}

/* Without sums: as good as the device says. */
static int read_plain(const struct btrfs_inode *bi, const struct btrfs_run *run, u32 n, struct bio *bio)
{
	struct checker c = { .bs = btrfs_inode_super(bi), .bi = bi };
	int err = read_all(bi, run, n, bio);

	if (!err)
		return 0;
	err = 0;
	for (u32 i = 0; i < n && !err; i++) {
		c.run = &run[i];
		c.sectors = (u32)(run[i].len_bytes / c.bs->sector_bytes);
		err = bio[i].err;
		for (u32 copy = 1; err && copy < copies_of(&c); copy++)
			err = read_copy(&c, 0, c.sectors, copy);
	}
	return err;
}

int btrfs_data_read(const struct btrfs_inode *bi, const struct btrfs_run *run, u32 n, bool checked)
{
	struct btrfs_super *bs = btrfs_inode_super(bi);
	struct checker c[RUNS_MAX];
	scoped(freep) struct bio *bio = n ? malloc(n * sizeof(*bio)) : NULL;
	scoped(freep) u8 *memory = NULL;
	u64 sectors = 0, at = 0;
	int err = 0;

	if (!n)
		return 0;
	if (!bio || n > RUNS_MAX)
		return fail(-ENOMEM, "no memory to read data");
	if (!checked)
		return read_plain(bi, run, n, bio);
	for (u32 i = 0; i < n; i++)
		sectors += run[i].len_bytes / bs->sector_bytes;
	memory = calloc(sectors, bs->csum_bytes + 1);
	if (!memory)
		return fail(-ENOMEM, "no memory for checksums");
	for (u32 i = 0; i < n && !err; i++) {
		u32 count = (u32)(run[i].len_bytes / bs->sector_bytes);

		c[i] = (struct checker){ .bs = bs, .bi = bi, .run = &run[i], .sectors = count };
		c[i].state = memory + at;
		c[i].sums = memory + sectors + at * bs->csum_bytes;
		err = find_sums(&c[i]);
		at += count;
	}
	if (err)
		return err;
	(void)!read_all(bi, run, n, bio);
	for (u32 i = 0; i < n && !err; i++)
		err = check_run(&c[i], bio[i].err);
	return err;
}
