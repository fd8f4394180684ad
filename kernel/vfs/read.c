/*
 * Moving bytes of a file into memory, as its mappings say: what vfs_read does where nothing is staged, and what fills a
 * stage ahead of it. Requests to devices go in batches.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define READ_BIOS 32u

struct reader {
	struct io_batch batch;
	struct bio bio[READ_BIOS];
	u32 count;
};

/* A request that failed, from the other copies of its range. */
static int read_other_copy(struct bio *bio)
{
	int err = bio->err;

	for (u32 copy = 1; err && copy < bio->dev->copies; copy++) {
		struct io_batch batch;
		struct bio again;

		bio_init(&again, bio->dev, BIO_READ, bio->off_bytes, bio->one.iov_base, bio->len_bytes);
		again.copy = (u8)copy;
		io_batch_init(&batch);
		io_submit(&batch, &again);
		err = io_wait(&batch);
	}
	return err;
}

static int reader_wait(struct reader *r)
{
	int err = r->count ? io_wait(&r->batch) : 0;

	if (err) {
		err = 0;
		for (u32 i = 0; i < r->count && !err; i++)
			err = read_other_copy(&r->bio[i]);
	}
	r->count = 0;
	io_batch_init(&r->batch);
	return err;
}

/*
 * [pos, end) of a read, of which m covers the beginning; `room` bytes of memory at dst. *done: how far it got, at least to
 * the end of m.
 */
static int read_mapped(struct inode *inode, struct reader *r, const struct mapping *m, u64 pos, u64 end,
		       u8 *dst, u64 room, u64 *done)
{
	u64 at = pos - m->off_bytes, n = MIN(m->off_bytes + m->len_bytes, end) - pos, whole;
	int err = 0;

	*done = n;
	switch (m->kind) {
	case MAP_HOLE:
	case MAP_UNWRITTEN:
		memset(dst, 0, n);
		return 0;
	case MAP_INLINE:
		memcpy(dst, (const u8 *)m->inline_data + at, n);
		return 0;
	case MAP_ENCODED:
		/* The module may wait for others: so nothing of ours is under way. */
		err = reader_wait(r);
		return err ? err : inode->ops->decode(inode, m, pos, dst, end - pos, room, done);
	case MAP_DATA:
		break;
	}
	if (r->count == READ_BIOS)
		err = reader_wait(r);
	if (err)
		return err;
	/* The rest of the last block comes along where there is room: a direct device then needs no bounce. */
	whole = MIN(ALIGN_UP(n, (u64)inode->sb->block_bytes), MIN(room, m->len_bytes - at));
	bio_init(&r->bio[r->count], m->dev, BIO_READ, m->dev_off_bytes + at, dst, MAX(n, whole));
	io_submit(&r->batch, &r->bio[r->count++]);
	return 0;
}

int read_range(struct inode *inode, u64 off_bytes, u8 *buf, u64 len_bytes, u64 room_bytes)
{
	u64 pos = off_bytes, end = off_bytes + len_bytes;
	struct reader r; /* too large to be cleared for each read */
	int err = 0, io_err;

	r.count = 0;
	io_batch_init(&r.batch);
	while (!err && pos < end) {
		u64 at = pos - off_bytes, n = 0;
		struct mapping m;

		err = map_at(inode, pos, end - pos, &m);
		if (err)
			break;
		err = read_mapped(inode, &r, &m, pos, end, buf + at, room_bytes - at, &n);
		map_done(&m);
		pos += n;
	}
	io_err = reader_wait(&r);
	return err ? err : io_err;
}
