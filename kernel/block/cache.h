/* What the files of the buffer cache share. Lowest first: bh_lru bh_write bh readahead bcache. */
#ifndef BLOCK_CACHE_H
#define BLOCK_CACHE_H

#include "block/block.h"

#include "lib/os.h"
#include "lib/slab.h"

/* buffer_head.state: flags, and the number of pins above them */
#define BH_UPTODATE 0x01u /* data is what the device has, or newer */
#define BH_CHECKED  0x02u /* data passed (ops, ctx) */
#define BH_DIRTY    0x04u /* on the shard's dirty list */
#define BH_SEALED   0x08u /* fit for the disk as it is */
#define BH_GONE     0x10u /* unhashed: freed with its last reference */
#define BH_IDLE     0x20u /* on the shard's LRU */
#define BH_SHOWN    0x40u /* somebody got the bytes without a check that passed */
#define BH_PIN_ONE  0x100u

#define CACHE_SHARDS  32u
#define CACHE_DEVICES 16u
#define CACHE_SIZES   8u /* 512 bytes to 64 KiB */

struct cache_shard {
	struct mutex lock;           /* rank SHARD */
	struct buffer_head **bucket; /* [lock] */
	u32 hashed;                  /* [lock] buffers in them */
	struct list lru;             /* [lock] idle buffers, oldest first */
	struct list dirty;           /* [lock] */
};

struct bcache {
	u64 limit_bytes;   /* [const] */
	u32 buckets;       /* [const] per shard, a power of two */
	_Atomic u64 bytes; /* of all buffers */
	_Atomic u64 dirty_bytes;
	_Atomic u32 next_victim; /* the shard to evict from next */
	struct cache_shard shard[CACHE_SHARDS];
	struct slab blocks[CACHE_SIZES]; /* memory for blocks of each size */
	struct slab heads;
	struct mutex lock;                    /* rank LRU; for the members below */
	struct blkdev *device[CACHE_DEVICES]; /* [lock] by cache_slot */
	_Atomic int write_err[CACHE_DEVICES]; /* the first failed write of the device */
	struct cond wake;
	struct cond idle;
	bool wb_running, wb_stop; /* [lock] */
	u32 wb_rounds;            /* [lock] under way */
	u32 wb_holds;             /* [lock] while not 0 no round starts */
	u32 aheads;               /* [lock] background reads under way */
	_Atomic bool wb_started;
	pthread_t wb_thread; /* [lock] */
};

/* ---- bh_lru.c ---- */

/* The buffer of the block, referenced; made, without content, when absent and `create`. *out NULL: absent. With
 * `hit`: whether it is up to date and passed (ops, ctx). */
int cache_grab(struct blkdev *dev, u64 blk, bool create, const struct bh_ops *ops, const struct bh_ctx *ctx,
	       bool *hit, struct buffer_head **out) __must_check;
struct cache_shard *cache_shard_of(const struct buffer_head *bh);
/* Takes the buffer out of the hash. Locks: the buffer. */
void cache_unhash(struct buffer_head *bh);
/* Frees the device's buffers that nobody holds, dirty or not. Returns how many are held, and one of them, referenced. */
u32 cache_drop_idle(struct bcache *cache, const struct blkdev *dev, struct buffer_head **busy) __must_check;
/* Remembers what the content passed. Locks: the buffer. */
void cache_set_checked(struct buffer_head *bh, const struct bh_ops *ops, const struct bh_ctx *ctx);
/* Makes the content void if nobody but the holder of the lock can be looking at it. Locks: the buffer. */
bool cache_take_back(struct buffer_head *bh) __must_check;

static inline u32 bh_state(const struct buffer_head *bh)
{
	return atomic_load_explicit(&bh->state, memory_order_acquire);
}
static inline bool bh_in_use(const struct buffer_head *bh) /* by more than readers */
{
	return (bh_state(bh) & (BH_DIRTY | ~(BH_PIN_ONE - 1))) || bh->owner;
}

/* The lock without the debug bookkeeping: for a background read, which another thread ends. */
bool bh_trylock_raw(struct buffer_head *bh) __must_check;
void bh_unlock_raw(struct buffer_head *bh);

/* ---- bh_write.c ---- */

/* For one who needs memory while most of it is dirty: writes some that nobody has locked. */
void cache_reclaim(struct bcache *cache);
/* Keeps rounds of writeback from holding buffers, until released. */
void cache_quiesce(struct bcache *cache);
void cache_resume(struct bcache *cache);
/* Ends the writeback thread. */
void cache_stop_writeback(struct bcache *cache);

#endif
