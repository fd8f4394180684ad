/*
 * The block layer: devices that stack, requests (bio), and the buffer cache.
 *
 * Devices. A blkdev is an array of bytes with limits. Kinds stack on each other: fault → part → file. A device
 * is referenced: the one above holds a reference on the one below.
 *
 * Requests. A bio names a device, a byte range, memory and an operation. Memory and bio belong to the caller
 * until the bio is done. There are two ways to be told:
 *   foreground: io_submit(batch, bio) any number of times, then io_wait(batch). The thread that submitted is
 *       the thread that waits; it reaps its own completions, so no completion costs a wake-up.
 *   background: bio_submit_background(bio) with bio->done set. done runs on an unknown thread, exactly once,
 *       perhaps before the call returns; it may not submit I/O or sleep, and takes no lock below RANK_SHARD
 *       in the table other than a buffer's own release.
 * Any byte offset and length is legal for a read. A write must be a multiple of dev->sector_bytes at such an
 * offset, else -EINVAL. What is not aligned for the device is bounced. A read or write beyond the end is -EIO.
 *
 * Durability. A write is durable after a later flush of the same device returned 0, or, with BIO_FUA, when it
 * is done. A failed write or flush is never retried.
 *
 * Buffers. The cache holds metadata blocks and nothing else; see "The buffer cache" below.
 *
 * Errors: -EIO (device), -EUCLEAN (verify), -ENOMEM, -EINVAL (misuse), -EROFS (write to a read-only device),
 * -EOPNOTSUPP (discard where there is none).
 */
#ifndef BLOCK_H
#define BLOCK_H

#include "lib/err.h"
#include "lib/list.h"
#include "lib/types.h"
#include <sys/uio.h>

struct blkdev;
struct bio;
struct io_batch;
struct bcache;
struct buffer_head;

/* ---- requests ---- */

enum bio_op { BIO_READ, BIO_WRITE, BIO_FLUSH, BIO_DISCARD, BIO_ZERO };

#define BIO_FUA  0x1u /* write: durable when done */
#define BIO_HEAL 0x2u /* write: only the copy that `copy` names; otherwise all copies */

struct bio {
	struct blkdev *dev;
	u64 off_bytes; /* from the device's start */
	u64 len_bytes; /* the sum of iov; for DISCARD and ZERO the range; FLUSH: 0 */
	const struct iovec *iov;
	u32 iov_count;
	u8 op;                      /* enum bio_op */
	u8 flags;                   /* BIO_FUA, BIO_HEAL */
	u8 copy;                    /* which copy to read (or heal), 0 .. dev->copies - 1 */
	int err;                    /* result, set before done: 0 or -errno; all or nothing */
	void (*done)(struct bio *); /* background only; foreground: the batch's */
	void *private;              /* the submitter's */
	struct io_batch *batch;     /* foreground only */
	struct iovec one;           /* room for the common single segment: see bio_init */
	/* The device's, while it is under way: */
	u64 at_bytes; /* where it starts on the device it has reached; off_bytes stays the submitter's */
	struct list link;
	u64 dev_private[4]; /* of the device that has it now */
};

/* Foreground requests of one thread. Stack allocated. */
struct io_batch {
	_Atomic u32 pending;
	_Atomic(struct bio *) failed; /* the first that failed */
};

/* A request over one segment. */
void bio_init(struct bio *bio, struct blkdev *dev, enum bio_op op, u64 off_bytes, void *buf, u64 len_bytes);

void io_batch_init(struct io_batch *batch);
/* Queues; the device may be told only in io_wait, so that many requests cost one system call. */
void io_submit(struct io_batch *batch, struct bio *bio);
/* Waits for all submitted to the batch. Returns the first error; each bio has its own in bio->err. */
int io_wait(struct io_batch *batch) __must_check;
void bio_submit_background(struct bio *bio);

/* For devices. Each bio that reached submit ends in exactly one bio_complete or bio_pass. */
void bio_complete(struct bio *bio, int err);
/* Hands the bio to the device below, starting at at_bytes there; the one above hears no more of it. */
void bio_pass(struct bio *bio, struct blkdev *lower, u64 at_bytes);
/* Submits a request of the device's own, made by bio_init, on behalf of parent: foreground when that is.
 * child->done is told, under the rules of a background bio, and completes the parent. */
void bio_submit_child(struct bio *parent, struct bio *child);

/* One request, waited for. */
int blkdev_read(struct blkdev *dev, u64 off_bytes, void *buf, u64 len_bytes) __must_check;
int blkdev_write(struct blkdev *dev, u64 off_bytes, const void *buf, u64 len_bytes,
		 u32 bio_flags) __must_check;
int blkdev_flush(struct blkdev *dev) __must_check;
int blkdev_discard(struct blkdev *dev, u64 off_bytes, u64 len_bytes) __must_check;
/* The range reads as zeros afterwards. Works on every writable device (falls back to writing zeros). */
int blkdev_zero(struct blkdev *dev, u64 off_bytes, u64 len_bytes) __must_check;
/* A reader will want this range soon. Costs no wait; does nothing where there is no BLKDEV_HINTS. */
void blkdev_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes);

/* ---- devices ---- */

#define BLKDEV_RDONLY  0x1u /* writes are -EROFS */
#define BLKDEV_DISCARD 0x2u
#define BLKDEV_HINTS   0x4u /* a cache below keeps what blkdev_will_need names (a buffered file) */
#define BLKDEV_DIRECT  0x8u /* no cache below: reading ahead is the reader's work */

struct blkdev_ops {
	const char *kind;
	/* Starts the request of len_bytes at bio->at_bytes, checked against size, limits and RDONLY by the caller.
	 * Ends in bio_complete, perhaps at once. In a foreground bio the device may use the calling thread's ring.
	 * DISCARD and ZERO may end in -EOPNOTSUPP. */
	void (*submit)(struct blkdev *dev, struct bio *bio);
	/* NULL: no hints. */
	void (*will_need)(struct blkdev *dev, u64 off_bytes, u64 len_bytes);
	/* Becomes at least so long, where that is in its power, and says in size_bytes how long it is. NULL: it is as long as it is. */
	int (*grow)(struct blkdev *dev, u64 size_bytes);
	/* What grow made longer last, if it did, is as long as before. NULL: it never does. */
	void (*cut_back)(struct blkdev *dev);
	/* The last reference went: gives back everything, the reference below included. */
	void (*release)(struct blkdev *dev);
};

/* Embedded at the start of each kind's own struct. */
struct blkdev {
	const struct blkdev_ops *ops; /* [const] */
	char *name;                   /* [const] as a person would type it */
	_Atomic u64 size_bytes;       /* changed by blkdev_grow and blkdev_cut_back alone */
	u32 sector_bytes;             /* [const] smallest write unit; 1: any. A power of two */
	u32 physical_bytes; /* [const] what the device writes at once without reading; a power of two */
	u32 flags;          /* [const] BLKDEV_* */
	u32 copies;         /* [const] copies of each range a reader may ask for, >= 1 */
	_Atomic u32 refs;
	struct health *health; /* [const after mount] where corruption is recorded; may be NULL */
	struct bcache *cache;  /* [const while attached] */
	u32 cache_block_bytes; /* [const while attached] 0: no cache */
	u32 cache_slot;        /* [const while attached] distinguishes devices in the cache's key */
};

/* For constructors: sets every member, refs 1. Copies `name`. */
int blkdev_init(struct blkdev *dev, const struct blkdev_ops *ops, const char *name,
		u64 size_bytes) __must_check;
/* It has at least so many bytes when this returns 0: a regular file is made longer, a device may have become so. 0: it only looks. -ENOSPC. */
int blkdev_grow(struct blkdev *dev, u64 size_bytes) __must_check;
/* Takes the last blkdev_grow back, whose caller needs none of it; err_text stays. One call of either at a time. */
void blkdev_cut_back(struct blkdev *dev);
/* For release: frees what blkdev_init allocated. */
void blkdev_fini(struct blkdev *dev);
struct blkdev *blkdev_get(struct blkdev *dev);
void blkdev_put(struct blkdev *dev); /* NULL is ignored */
void blkdev_putp(struct blkdev **dev);

#define DEV_WRITE    0x1u /* open for writing */
#define DEV_DIRECT   0x2u /* O_DIRECT, where the file can; block devices always try */
#define DEV_BUFFERED 0x4u /* never O_DIRECT */
#define DEV_NO_RING  0x8u /* do not use io_uring */

/* Each returns a device referenced once. Those that stack take their own reference on `lower`. */

/* A regular file or block device. Takes no lock on it: that is the host's. -ENOTBLK: neither of the two. */
int dev_file_open(const char *path, u32 flags, struct blkdev **out) __must_check;
/* The same on an open descriptor, which the device owns from then on, also on error. */
int dev_file_fd(int fd, const char *name, u32 flags, struct blkdev **out) __must_check;
/* Sparse memory, zeros at first. */
int dev_mem_new(const char *name, u64 size_bytes, u32 sector_bytes, struct blkdev **out) __must_check;
/* A window. -ERANGE when it does not lie within lower. */
int dev_part_new(struct blkdev *lower, const char *name, u64 off_bytes, u64 len_bytes,
		 struct blkdev **out) __must_check;
/* A writable overlay in memory: lower is never written. */
int dev_snap_new(struct blkdev *lower, struct blkdev **out) __must_check;

/* The range's true content, as far as lower and overlay know it: number of 4 KiB units the overlay holds. */
u64 dev_snap_units(struct blkdev *snap);
/* The first byte at or after off_bytes where the overlay has something, in units of DEV_SNAP_UNIT_BYTES; ~0: none. */
#define DEV_SNAP_UNIT_BYTES 4096u
u64 dev_snap_next(struct blkdev *snap, u64 off_bytes);

/*
 * What is written to the first held_bytes (a multiple of the sector) stays in memory, zeros at first; below it says `mark`, durably, when this
 * returns. let_go makes all that was written durable, and then what was held as well: once, when nobody writes any more.
 */
int dev_hold_new(struct blkdev *lower, u64 held_bytes, const char *mark, struct blkdev **out) __must_check;
int dev_hold_let_go(struct blkdev *hold) __must_check;

/* ---- fault: records, and fails on request (tests, `--fault` of debug builds) ---- */

enum fault_op { FAULT_READ, FAULT_WRITE, FAULT_FLUSH, FAULT_DISCARD, FAULT_OP_COUNT };

struct fault_record {
	enum fault_op op;
	u32 flags; /* BIO_FUA */
	u64 off_bytes, len_bytes;
	const void *data; /* what a WRITE wrote; NULL otherwise */
	u64 covers;       /* FLUSH: the records that had ended when it was submitted, and are durable by it */
};

/* Passes everything on to lower. With `record`, keeps every write, flush and discard in order of completion. */
int dev_fault_new(struct blkdev *lower, bool record, struct blkdev **out) __must_check;
/* The nth request of the kind from now (1: the next) fails with err; `sticky`: and every later one. 0: none. */
void dev_fault_nth(struct blkdev *fault, enum fault_op op, u64 nth, int err, bool sticky);
/* Requests of the kind so far. */
u64 dev_fault_count(struct blkdev *fault, enum fault_op op);
/* Records so far, and one of them (borrowed until the device goes). */
u64 dev_fault_records(struct blkdev *fault);
int dev_fault_record(struct blkdev *fault, u64 index, struct fault_record *out) __must_check;

/* ---- the buffer cache ---- */

/*
 * A buffer is one block of a device, in memory at most once. It is found by (device, block); the block size is
 * the device's cache_block_bytes. Life:
 *
 *     absent ──bh_read / bh_get_new──► held (refs > 0) ◄──► idle (refs 0, on the LRU) ──eviction──► absent
 *
 * Rules
 *  1. bh_read returns the buffer referenced, with its content verified by `ops` under `ctx`. Only a pointer
 *     got that way may be followed without checks. bh_put gives the reference back.
 *  2. The buffer remembers which (ops, ctx) it passed. A read with others verifies again when it is clean, and
 *     is -EUCLEAN ("claimed by two owners") when it is dirty, pinned or owned.
 *  3. Content is changed only between bh_lock and bh_unlock, by a thread that also holds whatever orders its
 *     readers (inode lock, group lock); then bh_dirty. The lock is held by the cache while the block is read
 *     or written, and by seal.
 *  4. A pinned buffer is not written home and not evicted. A dirty one is not evicted before it was written.
 *  5. seal(bh, data) makes `data` (the block, or a copy of it bound for the log) fit for the disk: checksum. It writes only
 *     inside its own block. It runs before the write home unless bh_sealed says the bytes were sealed already.
 *  6. Bytes held are at most the limit, plus what is referenced, dirty or pinned at that moment.
 */

/* What the block cannot know itself. Unused members are 0. ext4: inode and generation, or group. btrfs: owner,
 * level, generation, first key. */
struct bh_ctx {
	u64 v[5];
};

struct bh_ops {
	const char *name; /* "extent node" */
	/* Checks checksum, magic and every member of data. 0 or -EUCLEAN through corrupt(). Called with the buffer locked. NULL: any content is good. */
	int (*verify)(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx);
	/* NULL: nothing to do. */
	void (*seal)(const struct buffer_head *bh, void *data);
};

struct buffer_head {
	struct blkdev *dev; /* [const while hashed] */
	u64 blk;            /* [const while hashed] in units of dev->cache_block_bytes */
	void *data;         /* [const while hashed] see rule 3 for the bytes */
	u32 size_bytes;     /* [const while hashed] */
	_Atomic u32 refs;
	_Atomic u32 state; /* BH_*: bh.c's business; look through the functions below */
	_Atomic u32 lock;
	const struct bh_ops *ops;      /* [buffer lock] what it passed; NULL: unverified */
	struct bh_ctx ctx;             /* [buffer lock] */
	void *owner;                   /* [its owner's] the journal's head, opaque here; NULL: nobody's */
	u64 dirty_since_ns;            /* [shard] */
	struct buffer_head *hash_next; /* [shard] */
	struct list lru;               /* [shard] */
	struct list dirty;             /* [shard] */
};

/* `limit_bytes` 0: an eighth of the machine's memory, at most 256 MiB and at least 16 MiB. Starts no thread until something is dirty. */
int bcache_new(u64 limit_bytes, struct bcache **out) __must_check;
/* Every device must be detached. NULL is ignored. */
void bcache_free(struct bcache *cache);
/* The device's metadata is cached here from now on, in blocks of block_bytes (a power of two, 512 to 65536).
 * Attached already: with another size or cache, the old buffers are written and dropped. */
int bcache_attach(struct bcache *cache, struct blkdev *dev, u32 block_bytes) __must_check;
/* Writes what is dirty (unless `discard`) and drops all buffers of the device. None may be referenced: debug builds print the holders and abort. */
int bcache_detach(struct blkdev *dev, bool discard) __must_check; /* nothing to do without a cache */
u64 bcache_bytes(const struct bcache *cache);
u64 bcache_limit_bytes(const struct bcache *cache);
/* Memory of others that counts as the cache's: buffers go for it. A negative number takes that back. */
void bcache_charge(struct bcache *cache, s64 bytes);

int bh_read(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
	    struct buffer_head **out) __must_check;
/* bh_read of n blocks, all misses in one batch. On error nothing is referenced. ctx: one for each. */
int bh_read_many(struct blkdev *dev, const u64 *blks, u32 n, const struct bh_ops *ops,
		 const struct bh_ctx *ctxs, struct buffer_head **out) __must_check;
/* Bytes and verdict: *verdict is what verify said. The return value is only about reading. */
int bh_read_raw(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
		struct buffer_head **out, int *verdict) __must_check;
/* The block as zeros, without reading: for a block that is written whole. Taken as verified under (ops, ctx). -EUCLEAN when the cached block is dirty or owned under others. */
int bh_get_new(struct blkdev *dev, u64 blk, const struct bh_ops *ops, const struct bh_ctx *ctx,
	       struct buffer_head **out) __must_check;
/* The buffer if it is in memory and up to date, referenced; else NULL. Verifies nothing. */
struct buffer_head *bh_find(struct blkdev *dev, u64 blk);
/* Starts reading n blocks from blk on in the background, those not cached; verified when somebody reads them. Never fails. */
void bh_readahead(struct blkdev *dev, u64 blk, u32 n);

struct buffer_head *bh_get(struct buffer_head *bh);
void bh_put(struct buffer_head *bh); /* NULL is ignored */
void bh_putp(struct buffer_head **bh);

void bh_lock(struct buffer_head *bh);
bool bh_trylock(struct buffer_head *bh) __must_check;
void bh_unlock(struct buffer_head *bh);

/* The following need the buffer's lock. */
void bh_dirty(struct buffer_head *bh); /* to be written home; not sealed any more */
void bh_clean(
	struct buffer_head *bh); /* forget that it was dirty: the block is free, or was written elsewhere */
void bh_sealed(struct buffer_head *bh); /* the bytes are fit for the disk as they are */
void bh_pin(struct buffer_head *bh);    /* counted */
void bh_unpin(struct buffer_head *bh);
bool bh_is_dirty(const struct buffer_head *bh);
bool bh_is_pinned(const struct buffer_head *bh);

/* bh_forget of a buffer in hand: clean, out of the table, freed with its last reference. Needs the buffer's lock. */
void bh_void(struct buffer_head *bh);
/* It was voided or forgotten: who looks for the block now gets another buffer, and this one is never written. Stays so while its lock is held. */
bool bh_is_gone(const struct buffer_head *bh);

/* Takes the buffer's lock. Seals and writes the buffer now, if it is dirty and not pinned. */
int bh_write(struct buffer_head *bh) __must_check;
/* bh_write of n referenced buffers, which it sorts: in block order, neighbours in one request. Errors: bcache_error. */
void bh_write_many(struct buffer_head **bh, u32 n);
/* The block's content is void: drops the buffer without writing, now or at its last put; a write under way is waited for. A later read goes to the device. */
void bh_forget(struct blkdev *dev, u64 blk);
/* Writes all dirty, unpinned buffers of the device in block order; the first error. No flush. */
int bcache_sync(struct blkdev *dev) __must_check;
/* The first error of a buffer's write, 0: none. It is set before the buffer becomes clean: so who finds buffers clean, and then no
 * error here, knows that they were written. */
int bcache_error(const struct blkdev *dev) __must_check;

#endif
