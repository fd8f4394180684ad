/*
 * Every byte of data that has a checksum, from each mirror; of RAID5 and RAID6 the bytes themselves, and where they are wrong what the other stripes
 * make of them. Threads read and sum up pieces, more of them than there are CPUs, so that many reads are on their way; findings are said in order.
 */
#include "check.h"

#include "lib/lock.h"
#include "lib/os.h"
#include "lib/workq.h"
#include <errno.h>
#include <stdlib.h>

#define PIECE_BYTES (512u << 10)
#define PIECES      32u
#define THREADS     8u

struct piece {
	struct work work;
	struct ck *c;
	struct reader *reader;
	u64 from;
	u32 sectors, copies;
	u8 *sums, *buf;
	u16 *bad; /* of each sector, a bit for each copy; by sums and by failing reads */
	bool parity;
	bool done; /* [reader.lock] */
};

/* Pieces go round: the oldest one is finished before its place is used again. */
struct reader {
	struct ck *c;
	struct workq *wq;
	struct mutex lock; /* rank RING */
	struct cond done;  /* a piece is */
	struct piece piece[PIECES];
	u32 oldest, used;
	struct ck_parity *parity;
};

/* ---- in the threads ---- */

static int read_at(struct ck *c, u64 from, u8 *buf, u64 len, u32 copy)
{
	struct io_batch batch;
	struct bio bio;

	bio_init(&bio, c->bs->vfs.dev, BIO_READ, from, buf, len);
	bio.copy = (u8)copy;
	io_batch_init(&batch);
	io_submit(&batch, &bio);
	return io_wait(&batch);
}

static bool is_right(const struct piece *p, u32 i)
{
	u32 sector = p->c->bs->sector_bytes, per = p->c->bs->csum_bytes;
	u8 sum[BTRFS_CSUM_BYTES];

	btrfs_csum(p->c->bs->csum_type, p->buf + (size_t)i * sector, sector, sum);
	return !memcmp(sum, p->sums + (size_t)i * per, per);
}

static void check_copy(struct piece *p, u32 copy)
{
	u32 sector = p->c->bs->sector_bytes;
	bool all = !read_at(p->c, p->from, p->buf, (u64)p->sectors * sector, copy);

	for (u32 i = 0; i < p->sectors; i++)
		if ((!all &&
		     read_at(p->c, p->from + (u64)i * sector, p->buf + (size_t)i * sector, sector, copy)) ||
		    !is_right(p, i))
			p->bad[i] |= (u16)(1u << copy);
}

/* Whether the other stripes make it right: then it is one copy that is wrong. */
static void check_rebuilt(struct piece *p, u32 copies)
{
	u32 sector = p->c->bs->sector_bytes;

	for (u32 i = 0; i < p->sectors; i++)
		for (u32 copy = 1; p->bad[i] == 1 && copy < copies; copy++)
			if (!read_at(p->c, p->from + (u64)i * sector, p->buf + (size_t)i * sector, sector,
				     copy) &&
			    is_right(p, i))
				p->bad[i] |= 1u << 15;
}

static void check_piece(struct work *w)
{
	struct piece *p = container_of(w, struct piece, work);
	const struct btrfs_chunk *chunk = btrfs_chunk_find(p->c->bs->volume, p->from);

	for (u32 copy = 0; copy < p->copies; copy++)
		check_copy(p, copy);
	if (p->parity)
		check_rebuilt(p, chunk->copies);
	err_clear();
	mutex_lock(&p->reader->lock);
	p->done = true;
	cond_signal(&p->reader->done);
	mutex_unlock(&p->reader->lock);
}

/* ---- in order ---- */

static bool can_mend(struct ck *c, const struct piece *p, u32 from, u32 to)
{
	u64 sector = c->bs->sector_bytes;

	for (u32 copy = 0; copy < p->copies; copy++)
		if (p->bad[from] >> copy & 1 &&
		    !btrfs_ck_can_put(c, p->from + from * sector, copy, (to - from) * sector))
			return false;
	return true;
}

/* A sector is read anew from a copy that is right, and written where it is not. */
static void mend_sector(struct ck *c, const struct piece *p, u32 i)
{
	u64 sector = c->bs->sector_bytes, at = p->from + i * sector;
	u32 ways = p->parity ? btrfs_chunk_find(c->bs->volume, at)->copies : p->copies, copy = 0;
	u8 *buf = p->buf + i * sector;

	while (copy < ways && (p->bad[i] >> copy & 1 || read_at(c, at, buf, sector, copy) || !is_right(p, i)))
		copy++;
	for (u32 k = 0; copy < ways && k < p->copies; k++)
		if (p->bad[i] >> k & 1)
			btrfs_ck_put(c, at, k, buf, sector);
}

/* Sectors that are bad in the same copies. */
static void settle(struct ck *c, const struct piece *p, u32 from, u32 to)
{
	u16 bad = p->bad[from];
	bool lost = bad == (1u << p->copies) - 1;
	u64 at = p->from + (u64)from * c->bs->sector_bytes;
	unsigned long long bytes = (u64)(to - from) * c->bs->sector_bytes;
	struct text t = { 0 };

	for (u32 copy = 0; copy < p->copies; copy++)
		if (bad >> copy & 1)
			text_add(&t, "%s%u", t.len_bytes ? ", " : "", copy + 1);
	if (lost || !can_mend(c, p, from, to))
		btrfs_ck_found(c, lost ? CK_DATA : CK_DATA_COPY, "byte", at, NULL,
			       "%llu bytes from there on, copy %s of %u", bytes, text_str(&t), p->copies);
	else if (btrfs_ck_fix(c, CK_DATA_COPY, "byte", at, NULL, "%llu bytes from there on, copy %s of %u",
			      bytes, text_str(&t), p->copies))
		for (u32 i = from; i < to; i++)
			mend_sector(c, p, i);
	err_clear();
	text_free(&t);
}

static void finish_oldest(struct reader *r)
{
	struct piece *p = &r->piece[r->oldest];
	struct ck *c = r->c;

	mutex_lock(&r->lock);
	while (!p->done)
		cond_wait(&r->done, &r->lock);
	mutex_unlock(&r->lock);
	for (u32 i = 0, end; i < p->sectors && !c->err; i = end) {
		for (end = i + 1; end < p->sectors && p->bad[end] == p->bad[i]; end++)
			;
		if (p->parity)
			btrfs_ck_parity_seen(r->parity, p->from + (u64)i * c->bs->sector_bytes, end - i,
					     !p->bad[i]);
		if (p->bad[i])
			settle(c, p, i, end);
	}
	r->oldest = (r->oldest + 1) % PIECES;
	r->used--;
	(void)btrfs_ck_step(c, (u64)p->sectors * c->bs->sector_bytes);
}

static u32 mirrors(struct ck *c, u64 at)
{
	u64 devid, off, len;
	u32 n = 0;

	while (n < 4 && !btrfs_volume_where(c->bs->volume, at, n, &devid, &off, &len))
		n++;
	return MAX(n, 1u);
}

/* The sums of one item: sectors from an address on. */
static void take_sums(struct reader *r, u64 from, const u8 *sums, u32 sectors)
{
	struct ck *c = r->c;
	u32 sector = c->bs->sector_bytes, per = c->bs->csum_bytes;

	while (sectors && !c->err) {
		const struct btrfs_chunk *chunk = btrfs_chunk_find(c->bs->volume, from);
		u32 now = MIN(sectors, PIECE_BYTES / sector);
		struct piece *p;

		/* That there is no data is said elsewhere. */
		if (!chunk)
			return;
		now = (u32)MIN((u64)now, (chunk->logical + chunk->len_bytes - from) / sector);
		if (!now)
			return;
		if (r->used == PIECES)
			finish_oldest(r);
		p = &r->piece[(r->oldest + r->used++) % PIECES];
		p->done = false;
		p->from = from;
		p->sectors = now;
		p->parity = chunk->type & (BTRFS_BG_RAID5 | BTRFS_BG_RAID6);
		p->copies = mirrors(c, from);
		memcpy(p->sums, sums, (size_t)now * per);
		memset(p->bad, 0, now * sizeof(*p->bad));
		workq_queue(r->wq, &p->work);
		from += (u64)now * sector;
		sums += (size_t)now * per;
		sectors -= now;
	}
}

static void read_all(struct reader *r)
{
	struct ck *c = r->c;
	const struct btrfs_root *root;
	struct btrfs_path p = { 0 };
	int err = btrfs_root_get(c->bs, BTRFS_TREE_CSUM, &root);

	if (!err)
		err = btrfs_seek(root, &BTRFS_KEY(0, 0, 0), &p);
	/* What cannot be read of the tree was said before. */
	for (; err != -ENOENT && err != -ENOMEM && p.root && !c->err; err = btrfs_next(&p)) {
		const u8 *sums;
		u32 len;

		if (err || btrfs_path_key(&p).type != BTRFS_KEY_EXTENT_CSUM)
			continue;
		sums = btrfs_path_item(&p, &len);
		take_sums(r, btrfs_path_key(&p).offset, sums, len / c->bs->csum_bytes);
	}
	if (err == -ENOMEM)
		btrfs_ck_oom(c);
	while (r->used)
		finish_oldest(r);
	btrfs_ck_parity_end(r->parity);
	btrfs_path_put(&p);
	err_clear();
}

static void reader_free(struct reader *r)
{
	if (!r)
		return;
	workq_free(r->wq);
	for (u32 i = 0; i < PIECES; i++) {
		free(r->piece[i].sums);
		free(r->piece[i].buf);
		free(r->piece[i].bad);
	}
	btrfs_ck_parity_free(r->parity);
	cond_fini(&r->done);
	mutex_fini(&r->lock);
	free(r);
}

/* NULL: no memory. */
static struct reader *reader_new(struct ck *c)
{
	struct reader *r = calloc(1, sizeof(*r));
	u32 sectors = PIECE_BYTES / c->bs->sector_bytes;
	bool good;

	if (!r)
		return NULL;
	r->c = c;
	mutex_init(&r->lock, RANK_RING);
	cond_init(&r->done);
	r->parity = btrfs_ck_parity_new(c);
	good = r->parity && !workq_new("check", THREADS, &r->wq);
	for (u32 i = 0; i < PIECES; i++) {
		struct piece *p = &r->piece[i];

		*p = (struct piece){ .work = { .fn = check_piece }, .c = c, .reader = r };
		p->sums = malloc((size_t)sectors * c->bs->csum_bytes);
		p->buf = os_alloc_aligned(4096, PIECE_BYTES);
		p->bad = malloc(sectors * sizeof(*p->bad));
		good &= p->sums && p->buf && p->bad;
	}
	if (good)
		return r;
	reader_free(r);
	return NULL;
}

void btrfs_ck_data(struct ck *c)
{
	struct reader *r;
	u64 all = 0;

	for (u64 i = 0; i < c->csums.count; i++)
		all += c->csums.at[i].to - c->csums.at[i].from;
	btrfs_ck_pass(c, "data", all);
	if (le64_get(c->bs->disk.flags) & (BTRFS_SUPER_METADUMP | BTRFS_SUPER_METADUMP_V2)) {
		btrfs_ck_found(c, CK_NOT_CHECKED, "superblock", 0, NULL,
			       "data, of which a dump of metadata has none");
		return;
	}
	r = reader_new(c);
	if (r)
		read_all(r);
	else
		btrfs_ck_oom(c);
	reader_free(r);
}
