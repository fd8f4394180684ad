/*
 * P and Q of RAID5 and RAID6, row by row. A column is what lies in one sector of each stripe of a row. The kernel computes parity for the
 * columns that it writes to, from all that lies in them, and for no others; so a column is compared when data with a right checksum lie in it,
 * and none with a wrong one: those are mended first.
 *
 * Parity is written anew when all that is in use in its column has right checksums: otherwise it may be what is right.
 */
#include "check.h"

#include "../volume.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define STRIPE ((u64)BTRFS_STRIPE_BYTES)

struct ck_parity {
	struct ck *c;
	u64 row; /* address of its first byte; ~0: there was none yet */
	u32 data, stripes;
	u32 right, wrong; /* columns, a bit for each; */
	u8 *buf;          /* of each stripe, and one that is computed */
	u32 room;         /* stripes */
};

struct ck_parity *btrfs_ck_parity_new(struct ck *c)
{
	struct ck_parity *p = calloc(1, sizeof(*p));

	if (p) {
		p->c = c;
		p->row = ~0ull;
	}
	return p;
}

void btrfs_ck_parity_free(struct ck_parity *p)
{
	if (!p)
		return;
	free(p->buf);
	free(p);
}

static u8 *stripe(const struct ck_parity *p, u32 nr)
{
	return p->buf + nr * STRIPE;
}

static bool make_room(struct ck_parity *p)
{
	if (p->stripes < p->room)
		return true;
	free(p->buf);
	p->room = p->stripes + 1;
	p->buf = os_alloc_aligned(4096, p->room * STRIPE);
	if (p->buf)
		return true;
	p->room = 0;
	btrfs_ck_oom(p->c);
	return false;
}

/* False: not all of its devices have it. */
static bool read_row(struct ck_parity *p)
{
	struct bio *bio = calloc(p->stripes, sizeof(*bio));
	struct io_batch batch;
	u32 there = 0;
	bool good;

	if (!bio) {
		btrfs_ck_oom(p->c);
		return false;
	}
	io_batch_init(&batch);
	while (there < p->stripes) {
		struct btrfs_member m;

		if (btrfs_volume_member(p->c->bs->volume, p->row, there, &m))
			break;
		bio_init(&bio[there], m.device->dev, BIO_READ, m.off_bytes, stripe(p, there), STRIPE);
		io_submit(&batch, &bio[there++]);
	}
	good = !io_wait(&batch) && there == p->stripes;
	free(bio);
	err_clear();
	return good;
}

/* What is in use in the column, and has no checksum. */
static bool has_unproven(struct ck *c, u64 from, u64 to)
{
	u64 i = btrfs_ck_extent_from(c, from);

	if (i && (i == c->extents || c->extent[i].bytenr > from))
		i--;
	for (; i < c->extents && c->extent[i].bytenr < to; i++)
		if (c->extent[i].bytenr + (u64)c->extent[i].sectors * c->bs->sector_bytes > from)
			return btrfs_ck_range_covered(&c->csums, from, to) < to - from;
	return false;
}

static bool can_mend(const struct ck_parity *p, const struct btrfs_member *m, u32 column)
{
	struct ck *c = p->c;
	u64 sector = c->bs->sector_bytes;
	bool can = !m->device->seed && !c->extents_partial && !c->csums_partial;

	for (u32 i = 0; i < p->data && can; i++) {
		u64 from = p->row + i * STRIPE + column * sector;

		can = !has_unproven(c, from, from + sector);
	}
	return can;
}

/* Columns [from, to) are wrong, on one device. */
static void settle(struct ck_parity *p, u32 role, u32 from, u32 to)
{
	struct ck *c = p->c;
	u64 sector = c->bs->sector_bytes;
	struct btrfs_member m;
	bool can = true;

	if (btrfs_volume_member(c->bs->volume, p->row, role, &m))
		return;
	for (u32 i = from; i < to; i++)
		can &= can_mend(p, &m, i);
	if (!can)
		btrfs_ck_found(c, CK_PARITY, "byte", p->row, NULL,
			       "%llu bytes of %s, at byte %llu of device %llu",
			       (unsigned long long)((to - from) * sector), role == p->data ? "P" : "Q",
			       (unsigned long long)(m.off_bytes + from * sector),
			       (unsigned long long)m.device->devid);
	else if (btrfs_ck_fix(c, CK_PARITY, "byte", p->row, NULL,
			      "%llu bytes of %s, at byte %llu of device %llu",
			      (unsigned long long)((to - from) * sector), role == p->data ? "P" : "Q",
			      (unsigned long long)(m.off_bytes + from * sector),
			      (unsigned long long)m.device->devid))
		c->err = blkdev_write(m.device->dev, m.off_bytes + from * sector,
				      stripe(p, p->stripes) + from * sector, (to - from) * sector, 0);
}

static bool is_wrong(const struct ck_parity *p, u32 role, u32 column)
{
	u64 sector = p->c->bs->sector_bytes;

	return (p->right & ~p->wrong) >> column & 1 &&
	       memcmp(stripe(p, role) + column * sector, stripe(p, p->stripes) + column * sector, sector) !=
		       0;
}

static void compare(struct ck_parity *p, u32 role)
{
	u32 columns = (u32)(STRIPE / p->c->bs->sector_bytes);
	u8 *data[256];

	for (u32 i = 0; i < p->data; i++)
		data[i] = stripe(p, i);
	btrfs_raid56_parity(p->data, role > p->data, data, stripe(p, p->stripes), (u32)STRIPE);
	for (u32 i = 0, end; i < columns && !p->c->err; i = end) {
		end = i + 1;
		if (!is_wrong(p, role, i))
			continue;
		while (end < columns && is_wrong(p, role, end))
			end++;
		settle(p, role, i, end);
	}
}

void btrfs_ck_parity_end(struct ck_parity *p)
{
	if (p->right & ~p->wrong && !p->c->err && make_room(p) && read_row(p))
		for (u32 role = p->data; role < p->stripes; role++)
			compare(p, role);
	p->right = p->wrong = 0;
}

void btrfs_ck_parity_seen(struct ck_parity *p, u64 from, u32 sectors, bool right)
{
	const struct btrfs_chunk *chunk = btrfs_chunk_find(p->c->bs->volume, from);
	u64 sector = p->c->bs->sector_bytes, bytes = btrfs_chunk_data_stripes(chunk) * STRIPE;

	for (u32 i = 0; i < sectors; i++) {
		u64 at = from + i * sector, row = at - (at - chunk->logical) % bytes;
		u32 bit = 1u << ((at - chunk->logical) % STRIPE / sector);

		if (row != p->row) {
			btrfs_ck_parity_end(p);
			p->row = row;
			p->data = btrfs_chunk_data_stripes(chunk);
			p->stripes = chunk->num_stripes;
		}
		*(right ? &p->right : &p->wrong) |= bit;
	}
}
