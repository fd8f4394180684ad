/*
 * A regular file or block device of the host. Linux only.
 *
 * What a file can do is found out once, and decides how its requests are carried out:
 *
 *     kind of file                   read                                 write
 *     memory (tmpfs, ramfs)          small: inline; large: deferred       inline
 *     buffered, NOWAIT known         inline with NOWAIT, the rest: ring   inline
 *     buffered, NOWAIT unknown       deferred                             inline
 *     O_DIRECT                       ring                                 ring
 *
 * "Deferred": by the submitter when it waits, with help from the pool when there are many (io_pool.c). Where
 * there is no ring, "deferred" takes its place. In the background, what is inline or deferred goes to the pool,
 * as do flush, discard and zero, which are inline in the foreground.
 *
 * A host with a page cache begins to write to its disk seconds later, unless it is told to: then who writes much and flushes it waits for the
 * copying, and after that for the disk. So after each WRITE_OUT_BYTES of long writes it is told to begin, by a thread of the pool.
 * (1 GiB + fsync, disk: 0.88 s without, 0.54 with.) Nothing becomes durable by that: flushes are what they were.
 *
 * O_DIRECT wants offsets and lengths in sectors and memory in mem_align: what is not so goes through a bounce buffer.
 *
 * Invariants
 * 1. dev_private: [0] xfer_ops, [1] the device, [2] bytes done, [3] the bounce buffer or 0.
 * 2. A request that failed is never repeated; one that came back short goes on where it stopped.
 */
#include "block/block.h"

#include "io_pool.h"
#include "iov.h"
#include "lib/log.h"
#include "lib/os.h"
#include "lib/trace.h"
#include "uring.h"
#include "xfer.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define INLINE_BYTES (128u << 10) /* from memory: below, a hand-over costs more than the copy */
#define BOUNCE_BYTES (1u << 20)
#define BOUNCE_ALIGN 4096u

#define LONG_BYTES      (128u << 10) /* a write that is part of much */
#define WRITE_OUT_BYTES (16u << 20)

struct dev_file {
	struct blkdev dev;
	int fd;
	u32 mem_align;               /* [const] of memory; 1 unless direct */
	bool block_device;           /* [const] */
	bool memory;                 /* [const] no device behind it: a read is a copy */
	bool nowait;                 /* [const] RWF_NOWAIT is known */
	bool direct;                 /* [const] */
	bool ring;                   /* [const] may be used */
	_Atomic u64 unwritten_bytes; /* of long writes since the host was last told */
	_Atomic u32 telling;         /* `told` is under way; a futex word */
	struct bio told;
	u64 short_bytes; /* [grow] how long it was before the last grow made it longer; 0: that did not */
};

static struct dev_file *bio_file(const struct bio *bio)
{
	return (struct dev_file *)(uintptr_t)bio->dev_private[1];
}

static u8 *bio_bounce(const struct bio *bio)
{
	return (u8 *)(uintptr_t)bio->dev_private[3];
}

static void file_complete(struct bio *bio, int err)
{
	free(bio_bounce(bio));
	bio_complete(bio, err);
}

/* ---- transfers ---- */

/* The piece that the bounce buffer takes next: rounded out to sectors. */
static void bounce_piece(const struct bio *bio, u64 *start, u64 *len)
{
	u64 sector = bio_file(bio)->dev.sector_bytes, at = bio->at_bytes + bio->dev_private[2];
	u64 end = ALIGN_UP(bio->at_bytes + bio->len_bytes, sector);

	*start = ALIGN_DOWN(at, sector);
	*len = MIN(end - *start, (u64)BOUNCE_BYTES);
}

static void file_next(struct bio *bio, struct xfer *x)
{
	u64 done = bio->dev_private[2], within, len;
	const struct iovec *iov;

	x->fd = bio_file(bio)->fd;
	x->write = bio->op == BIO_WRITE;
	x->rw_flags = x->write && bio->flags & BIO_FUA ? RWF_DSYNC : 0;
	x->iov = &x->one;
	x->iov_count = 1;
	if (bio_bounce(bio)) {
		bounce_piece(bio, &x->off_bytes, &len);
		if (x->write)
			iov_copy(bio->iov, done, bio_bounce(bio), len, false);
		x->one = (struct iovec){ .iov_base = bio_bounce(bio), .iov_len = len };
		return;
	}
	x->off_bytes = bio->at_bytes + done;
	iov = iov_seek(bio->iov, done, &within);
	if (within || iov->iov_len > INT_MAX) {
		/* A ring takes lengths of 32 bits. */
		x->one = (struct iovec){ .iov_base = (u8 *)iov->iov_base + within,
					 .iov_len = MIN(iov->iov_len - within, (size_t)1 << 30) };
		return;
	}
	x->iov = iov;
	x->iov_count = MIN(bio->iov_count - (u32)(iov - bio->iov), (u32)IOV_MAX);
}

/* How far a transfer of res bytes brought the bio. */
static u64 advance(struct bio *bio, u64 res)
{
	u64 done = bio->dev_private[2], start, len, skip;

	if (!bio_bounce(bio))
		return res;
	bounce_piece(bio, &start, &len);
	skip = bio->at_bytes + done - start;
	if (res <= skip)
		return 0;
	res = MIN(res - skip, bio->len_bytes - done);
	if (bio->op == BIO_READ)
		iov_copy(bio->iov, done, bio_bounce(bio) + skip, res, true);
	return res;
}

static void tell_host(struct bio *told)
{
	struct dev_file *f = container_of(told, struct dev_file, told);

	/* Waits for nothing and hears of no error: flushes do. */
	(void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	stat_add(STAT_DEV_WRITE_OUTS, 1);
	atomic_store(&f->telling, 0);
	os_wake_all(&f->telling);
}

static const struct xfer_ops told_xfer = { .blocking = tell_host };

/* Some more was written. */
static void count_long(struct dev_file *f, u64 len_bytes)
{
	u32 no = 0;

	if (f->direct || f->memory || len_bytes < LONG_BYTES ||
	    atomic_fetch_add(&f->unwritten_bytes, len_bytes) + len_bytes < WRITE_OUT_BYTES ||
	    !atomic_compare_exchange_strong(&f->telling, &no, 1))
		return;
	atomic_store(&f->unwritten_bytes, 0);
	bio_init(&f->told, &f->dev, BIO_FLUSH, 0, NULL, 0);
	xfer_init(&f->told, &told_xfer);
	io_pool_queue(&f->told);
}

static bool file_ended(struct bio *bio, s64 res)
{
	u64 moved;

	if (res < 0) {
		file_complete(bio, (int)res);
		return false;
	}
	/* Nothing more to be read: the file is shorter than it was. */
	moved = advance(bio, (u64)res);
	if (!moved) {
		file_complete(bio, -EIO);
		return false;
	}
	bio->dev_private[2] += moved;
	if (bio->dev_private[2] < bio->len_bytes)
		return true;
	if (bio->op == BIO_WRITE)
		count_long(bio_file(bio), bio->len_bytes);
	file_complete(bio, 0);
	return false;
}

static int file_discard(const struct dev_file *f, u64 off, u64 len)
{
	u64 sector = f->dev.sector_bytes, range[2] = { ALIGN_UP(off, sector), 0 };
	u64 end = ALIGN_DOWN(off + len, sector);

	if (end <= range[0])
		return 0;
	range[1] = end - range[0];
	if (f->block_device)
		return ioctl(f->fd, BLKDISCARD, range) ? -errno : 0;
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) ? -errno
												    : 0;
}

static int file_zero(const struct dev_file *f, u64 off, u64 len)
{
	off_t data;

	if (!f->block_device) {
		/* Holes stay holes: a sparse image does not grow because somebody cleared it. */
		data = lseek(f->fd, (off_t)off, SEEK_DATA);
		if ((data < 0 && errno == ENXIO) || (data >= 0 && (u64)data >= off + len))
			return 0;
	}
	if (!fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len))
		return 0;
	if (errno != EOPNOTSUPP || f->block_device)
		return -errno;
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) ? -errno
												    : 0;
}

static void file_blocking(struct bio *bio)
{
	const struct dev_file *f = bio_file(bio);
	int err = 0;

	switch (bio->op) {
	case BIO_FLUSH:
		if (!(f->dev.flags & BLKDEV_RDONLY) && fdatasync(f->fd))
			err = -errno;
		break;
	case BIO_DISCARD:
		err = file_discard(f, bio->at_bytes, bio->len_bytes);
		break;
	case BIO_ZERO:
		err = file_zero(f, bio->at_bytes, bio->len_bytes);
		break;
	}
	/* Some devices say it in other words. */
	if (err == -ENOTTY || err == -ENOSYS || (err == -EINVAL && bio->op != BIO_FLUSH))
		err = -EOPNOTSUPP;
	file_complete(bio, err);
}

static const struct xfer_ops file_xfer = {
	.next = file_next,
	.ended = file_ended,
	.blocking = file_blocking,
};

/* ---- submit: which way a request takes ---- */

static bool needs_bounce(const struct dev_file *f, const struct bio *bio)
{
	u64 mix = bio->at_bytes | bio->len_bytes, mem = 0;

	for (u32 i = 0; i < bio->iov_count; i++) {
		mix |= bio->iov[i].iov_len;
		mem |= (uintptr_t)bio->iov[i].iov_base;
	}
	return !IS_ALIGNED(mix, (u64)f->dev.sector_bytes) || !IS_ALIGNED(mem, (u64)f->mem_align);
}

static int add_bounce(struct bio *bio)
{
	u64 start, len;
	void *p;

	bounce_piece(bio, &start, &len);
	p = os_alloc_aligned(BOUNCE_ALIGN, len);
	bio->dev_private[3] = (uintptr_t)p;
	return p ? 0 : -ENOMEM;
}

/* What the page cache holds. True: that was all, and the bio is complete. */
static bool read_cached(struct bio *bio)
{
	struct xfer x;
	s64 res;

	do {
		file_next(bio, &x);
		x.rw_flags = RWF_NOWAIT;
		res = xfer_one(&x);
		if (res == -EAGAIN || res == -EOPNOTSUPP)
			return false;
	} while (file_ended(bio, res));
	return true;
}

static void to_ring(const struct dev_file *f, struct bio *bio)
{
	if (f->ring && (bio->batch ? uring_queue(bio) : uring_queue_background(bio)))
		return;
	if (bio->batch)
		io_pool_defer(bio);
	else
		io_pool_queue(bio);
}

static void submit_buffered(const struct dev_file *f, struct bio *bio)
{
	if (bio->op == BIO_READ && f->nowait) {
		if (!read_cached(bio))
			to_ring(f, bio);
	} else if (!bio->batch) {
		io_pool_queue(bio);
	} else if (bio->op == BIO_READ && !(f->memory && bio->len_bytes <= INLINE_BYTES)) {
		io_pool_defer(bio);
	} else {
		xfer_run(bio);
	}
}

static void file_submit(struct blkdev *dev, struct bio *bio)
{
	struct dev_file *f = container_of(dev, struct dev_file, dev);
	int err;

	xfer_init(bio, &file_xfer);
	bio->dev_private[1] = (uintptr_t)f;
	bio->dev_private[2] = 0;
	bio->dev_private[3] = 0;
	if (bio->op != BIO_READ && bio->op != BIO_WRITE) {
		if (bio->batch)
			file_blocking(bio);
		else
			io_pool_queue(bio);
		return;
	}
	if (!f->direct) {
		submit_buffered(f, bio);
		return;
	}
	err = needs_bounce(f, bio) ? add_bounce(bio) : 0;
	if (err)
		file_complete(bio, err);
	else
		to_ring(f, bio);
}

static void file_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	struct dev_file *f = container_of(dev, struct dev_file, dev);

	/* A hint: nobody misses it when it fails. */
	(void)posix_fadvise(f->fd, (off_t)off_bytes, (off_t)len_bytes, POSIX_FADV_WILLNEED);
}

static void file_cut_back(struct blkdev *dev)
{
	struct dev_file *f = container_of(dev, struct dev_file, dev);

	if (!f->short_bytes)
		return;
	if (ftruncate(f->fd, (off_t)f->short_bytes))
		log_warn("%s cannot be cut to %llu bytes again: %s", dev->name,
			 (unsigned long long)f->short_bytes, strerror(errno));
	else
		dev->size_bytes = MIN((u64)dev->size_bytes, f->short_bytes);
	f->short_bytes = 0;
}

static int file_grow(struct blkdev *dev, u64 size_bytes)
{
	struct dev_file *f = container_of(dev, struct dev_file, dev);
	struct stat st;
	u64 size;

	if (fstat(f->fd, &st))
		return fail(-errno, "%s: %s", dev->name, strerror(errno));
	size = (u64)st.st_size;
	if (f->block_device && ioctl(f->fd, BLKGETSIZE64, &size))
		return fail(-errno, "%s: cannot find its size: %s", dev->name, strerror(errno));
	f->short_bytes = 0;
	if (!f->block_device && size < size_bytes) {
		if (ftruncate(f->fd, (off_t)size_bytes))
			return fail(-errno, "%s cannot be made longer: %s", dev->name, strerror(errno));
		f->short_bytes = size;
		if (fsync(f->fd)) {
			int err = fail(-errno, "%s cannot be made longer: %s", dev->name, strerror(errno));

			file_cut_back(dev);
			return err;
		}
		size = size_bytes;
	}
	dev->size_bytes = MAX((u64)dev->size_bytes, size);
	return 0;
}

static void file_release(struct blkdev *dev)
{
	struct dev_file *f = container_of(dev, struct dev_file, dev);

	while (atomic_load(&f->telling))
		os_wait(&f->telling, 1, 0);
	uring_put();
	io_pool_put();
	close(f->fd);
	blkdev_fini(dev);
	free(f);
}

static const struct blkdev_ops file_ops = {
	.kind = "file",
	.submit = file_submit,
	.will_need = file_will_need,
	.grow = file_grow,
	.cut_back = file_cut_back,
	.release = file_release,
};

/* ---- opening ---- */

static int find_size(struct dev_file *f, const char *name, const struct stat *st, u64 *out)
{
	unsigned physical = 0;
	int logical = 0;

	f->block_device = S_ISBLK(st->st_mode);
	f->dev.physical_bytes = 4096;
	*out = (u64)st->st_size;
	if (!f->block_device)
		return 0;
	if (ioctl(f->fd, BLKGETSIZE64, out) || ioctl(f->fd, BLKSSZGET, &logical))
		return fail(-errno, "%s: cannot find its size: %s", name, strerror(errno));
	if (logical < 1 || !is_pow2((u64)logical))
		return fail(-EINVAL, "%s: a sector of %d bytes", name, logical);
	f->dev.sector_bytes = (u32)logical;
	if (!ioctl(f->fd, BLKPBSZGET, &physical) && is_pow2(physical))
		f->dev.physical_bytes = physical;
	return 0;
}

/* The smallest read that the file takes with O_DIRECT, 0 when it takes none. */
static u32 probe_sector(int fd)
{
	void *p = os_alloc_aligned(BOUNCE_ALIGN, 4096);
	u32 found = 0;

	for (u32 try = 512; p && try <= 4096 && !found; try *= 2)
		if (pread(fd, p, try, 0) >= 0)
			found = try;
	free(p);
	return found;
}

/* Turns O_DIRECT on where it means something; else the file stays as it was. `fl`: its flags. */
static int try_direct(struct dev_file *f, const char *name, int fl)
{
	u32 sector = f->dev.sector_bytes, mem = 0;
	struct statx stx = { 0 };

	if (f->memory || fcntl(f->fd, F_SETFL, fl | O_DIRECT))
		return 0;
	f->direct = true;
#ifdef STATX_DIOALIGN
	if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) && stx.stx_mask & STATX_DIOALIGN) {
		mem = stx.stx_dio_mem_align;
		f->direct = mem && stx.stx_dio_offset_align;
		sector = MAX(sector, stx.stx_dio_offset_align);
	}
#endif
	if (f->direct && !mem && !f->block_device)
		sector = probe_sector(f->fd);
	if (!is_pow2(sector) || sector > BOUNCE_ALIGN)
		f->direct = false;
	if (!f->direct)
		return fcntl(f->fd, F_SETFL, fl) ? fail(-errno, "%s: %s", name, strerror(errno)) : 0;
	f->dev.sector_bytes = sector;
	f->mem_align = is_pow2(mem) ? mem : sector;
	return 0;
}

static bool probe_nowait(int fd)
{
	u8 byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

/* Finds out what the file can do. */
static int probe(struct dev_file *f, const char *name, u32 flags, u64 *size)
{
	int fl = fcntl(f->fd, F_GETFL), err, ro = 0;
	struct statfs sfs;
	struct stat st;

	if (fl < 0 || fstat(f->fd, &st))
		return fail(-errno, "%s: %s", name, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail(-ENOTBLK, "%s: neither a file nor a block device", name);
	if (flags & DEV_WRITE && (fl & O_ACCMODE) == O_RDONLY)
		return fail(-EBADF, "%s: not open for writing", name);
	/* A ring would take O_NONBLOCK for an order not to wait. */
	fl &= ~(O_NONBLOCK | O_DIRECT | O_APPEND);
	if (fcntl(f->fd, F_SETFL, fl))
		return fail(-errno, "%s: %s", name, strerror(errno));
	err = find_size(f, name, &st, size);
	if (err)
		return err;
	f->mem_align = 1;
	f->memory = !f->block_device && !fstatfs(f->fd, &sfs) &&
		    (sfs.f_type == TMPFS_MAGIC || sfs.f_type == RAMFS_MAGIC);
	f->nowait = !f->memory && probe_nowait(f->fd);
	if (!(flags & DEV_BUFFERED) && (f->block_device || flags & DEV_DIRECT))
		err = try_direct(f, name, fl);
	f->ring = !(flags & DEV_NO_RING) && !getenv("WERUNOS_NO_RING");
	if (!(flags & DEV_WRITE) || (f->block_device && !ioctl(f->fd, BLKROGET, &ro) && ro))
		f->dev.flags |= BLKDEV_RDONLY;
	else
		f->dev.flags |= BLKDEV_DISCARD;
	if (f->direct)
		f->dev.flags |= BLKDEV_DIRECT;
	else if (!f->memory)
		f->dev.flags |= BLKDEV_HINTS;
	return err;
}

int dev_file_fd(int fd, const char *name, u32 flags, struct blkdev **out)
{
	struct dev_file *f = calloc(1, sizeof(*f));
	u64 size;
	int err;

	if (!f) {
		close(fd);
		return fail(-ENOMEM, "no memory for a device");
	}
	err = blkdev_init(&f->dev, &file_ops, name, 0);
	if (err)
		goto free_file;
	f->fd = fd;
	err = probe(f, name, flags, &size);
	if (!err)
		err = io_pool_get();
	if (err)
		goto fini_dev;
	uring_get();
	f->dev.size_bytes = size;
	*out = &f->dev;
	return 0;
fini_dev:
	blkdev_fini(&f->dev);
free_file:
	free(f);
	close(fd);
	return err;
}

int dev_file_open(const char *path, u32 flags, struct blkdev **out)
{
	/* O_NONBLOCK: a fifo must not hold us up; it is turned off again. */
	int fd = open(path, (flags & DEV_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fail(errno == EISDIR ? -ENOTBLK : -errno, "%s: %s", path, strerror(errno));
	return dev_file_fd(fd, path, flags, out);
}
