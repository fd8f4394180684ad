/*
 * The journal: a log of whole blocks beside a volume, which makes a group of changes happen together or not at
 * all. Knows no inode and no dentry: its user says where the log's blocks lie.
 *
 *   log:   │ superblock │ transaction │ transaction │ … │ (wraps) │ fast-commit area │
 *   transaction:  (descriptor, blocks …) … (revoke block) …  commit
 *
 * Recovery. A volume that was not unmounted cleanly is as its log's committed transactions leave it; until they
 * are replayed nothing read from it may be trusted. Replay writes to a device of the caller's choice: the volume
 * itself, or a dev_snap over it when the volume must not be changed.
 *
 *   jbd2_open ──► jbd2_info: does it need recovery? ──► jbd2_recover ──► jbd2_close
 *
 * Writing. A handle is one change that must happen whole: it joins the running transaction, says which buffers it
 * changes, and ends. Many handles make a transaction; committing it writes its blocks to the log, then one commit
 * block that makes them count. Home they go later, by the cache's writeback or by a checkpoint, which makes room in
 * the log.
 *
 *   jbd2_begin ─► { jbd2_access ─► change bh->data ─► jbd2_dirty } … jbd2_forget … ─► jbd2_end
 *
 *   running ── locked: no new handle, open ones end ── precommit() ── frozen: sealed and copied ──► committing ──►
 *   durable: committed() ── its blocks go home ──► checkpointed: its room in the log is free
 *
 *  1. Between jbd2_access and jbd2_end the buffer is pinned: nobody writes it home, so its bytes may be changed
 *     without its lock. What orders changers and readers of the bytes is the caller's lock above them.
 *  2. A transaction is frozen while no handle is open: every buffer is sealed in place and copied. The copy goes to the
 *     log, and the next transaction may change the buffer at once. No reader and no writer waits for log I/O.
 *  3. The buffer is unpinned, dirty and sealed once its transaction is durable, unless a later one has it.
 *  4. A block freed as metadata is forgotten: its image is revoked, its buffer is dropped unwritten when the transaction is
 *     durable, and only after that committed() says that the block may be used again.
 *  5. The order on the devices: blocks of the log, flush (of the volume's device too), commit block with FUA. So what was
 *     written to the volume before the commit, file data above all, is durable with it.
 *  6. The log's tail moves only after the blocks of what it leaves behind were written home and flushed. Sequence
 *     numbers go on for ever; an empty log keeps the next one.
 *  7. The first failed write or flush aborts the journal: nothing more is committed, health says ABORTED, the log's
 *     superblock gets the errno if it can be written.
 *
 * Errors: -EUCLEAN (the log is broken, by corrupt()), -EOPNOTSUPP (features that we do not know), -EIO, -ENOMEM; when
 * writing also -EROFS (aborted) and -ENOSPC (the handle can never fit into this log).
 */
#ifndef JBD2_H
#define JBD2_H

#include "block/block.h"

struct jbd2;

/* Where a log lies. Copied by jbd2_open; what it points to must outlive the journal. */
struct jbd2_where {
	struct blkdev *dev;
	u32 block_bytes; /* of the volume; the log must have the same */
	u64 blocks;      /* room that the log may take: of its file, or of its device */
	/*
	 * The device's block that holds the log's block lblk, and how many follow it in order, at least 1, as far as
	 * that is known. NULL: the log lies in one piece from first_blk on.
	 */
	int (*map)(void *priv, u64 lblk, u64 *blk, u64 *count);
	void *priv;
	u64 first_blk;
};

#define JBD2_COMPAT_CHECKSUM       0x01u
#define JBD2_INCOMPAT_REVOKE       0x01u
#define JBD2_INCOMPAT_64BIT        0x02u
#define JBD2_INCOMPAT_ASYNC_COMMIT 0x04u
#define JBD2_INCOMPAT_CSUM_V2      0x08u
#define JBD2_INCOMPAT_CSUM_V3      0x10u
#define JBD2_INCOMPAT_FAST_COMMIT  0x20u

/* What the log's superblock says, checked. */
struct jbd2_info {
	u32 block_bytes;
	u64 blocks;     /* the log's length, superblock and fast-commit area included */
	u64 first, end; /* transactions lie in the blocks [first, end) */
	u64 start;      /* the oldest transaction that is not checkpointed; 0: the log is empty */
	u32 sequence;   /* that transaction's number */
	u32 compat, incompat;
	u32 users; /* volumes that it says it is shared by; 0: as good as 1 */
	u8 uuid[16];
	u64 fc_first; /* the fast-commit area, in blocks of the log */
	u64 fc_count; /* 0: none */
	s32 err;      /* the error that the volume was aborted with, 0: none */
	bool needs_recovery;
};

struct jbd2_recovery {
	u32 first, end; /* the transactions [first, end) are applied; equal: none */
	u64 replayed;   /* blocks written */
	u64 revoked;    /* blocks not written, because they were freed later */
	u64 head;       /* the log's block where the next transaction would go */
	/* The log goes on with a transaction whose checksum is wrong: it was not applied, and what was lost is
	 * unknown. The volume is to be checked. */
	bool bad_commit;
	/* A fast-commit area exists. What it holds after transaction `end` - 1, if anything, is the file system's to
	 * read: jbd2_fc_read, expecting transaction number `end`. */
	bool has_fast_commits;
};

/* Reads and checks the log's superblock; reads nothing else. health may be NULL. */
int jbd2_open(const struct jbd2_where *where, struct health *health, struct jbd2 **out) __must_check;
/* NULL is ignored. */
void jbd2_close(struct jbd2 *journal);
const struct jbd2_info *jbd2_info(const struct jbd2 *journal);

/*
 * Applies what is committed and not checkpointed to target, whose blocks are the volume's. Stops where the kernel
 * stops: at the first block that does not belong to the next transaction, or at a commit whose checksum is wrong.
 * A block whose checksum is wrong, or that cannot be read or written, is left out, the rest is applied, and the
 * error is returned at the end. The log itself is not touched: on a device that is kept, flush target and then
 * mark the log empty. *out is filled on error too, as far as it came.
 */
int jbd2_recover(struct jbd2 *journal, struct blkdev *target, struct jbd2_recovery *out) __must_check;

/* After recovery, on a device that is kept: flushes target, then writes the log's superblock as empty, with `next` as the
 * next transaction's number (jbd2_recovery.end, or later). */
int jbd2_mark_empty(struct jbd2 *journal, struct blkdev *target, u32 next) __must_check;
/* The error that the log's superblock records (jbd2_info) is remembered elsewhere, durably: it is recorded no more. */
int jbd2_error_told(struct jbd2 *journal) __must_check;

/* The fast-commit area's block `index`, below fc_count, into buf (block_bytes). */
int jbd2_fc_read(struct jbd2 *journal, u64 index, void *buf) __must_check;

/* ---- making a log ---- */

#define JBD2_SUPER_BYTES 1024u
/* The start of the first block of a new, empty log of so many blocks. Behind it the log need not be zeros, but may not hold transactions
 * of another log with the same numbers: zero it where it is not. */
void jbd2_super_new(void *super, u32 block_bytes, u32 blocks, const u8 uuid[16]);
/* What a block begins with may be damaged, but was the superblock of a log. */
bool jbd2_super_is_likely(const void *super, u32 block_bytes);
/* A number that no transaction has of which anything is left in the log: reads all of it. For a log that is made where others were. */
int jbd2_sequence_behind(struct jbd2 *journal, u32 *next) __must_check;

/* ---- writing ---- */

struct jbd2_handle;

struct jbd2_ops {
	/* The transaction is locked, no handle is open, nothing is frozen. Brings up to date what is kept elsewhere (bitmap sums,
	 * descriptors, counters) in buffers that handles of this transaction have joined: their bytes may be changed, and
	 * jbd2_access and jbd2_dirty be called with h, whose credits are those that the handles left unused. An
	 * error aborts the journal. Locks: none held above ALLOC. */
	int (*precommit)(void *priv, struct jbd2_handle *h);
	/* Transaction tid is durable: what was freed in it may be used again. In order of tid. Locks: none held; may not begin a
	 * handle. */
	void (*committed)(void *priv, u32 tid);
};

struct jbd2_config {
	struct blkdev *target;      /* the volume, whose blocks are in its buffer cache. Borrowed */
	const struct jbd2_ops *ops; /* NULL members: nothing to do */
	void *priv;
	u32 commit_ms; /* age at which a transaction is committed without being asked; 0: 5000 */
	/* Features to switch on, since the log is empty: JBD2_INCOMPAT_64BIT, one of the two checksums (which switches the other kinds
	 * off). REVOKE is always on, and 64BIT on a volume that needs it; FAST_COMMIT goes off. */
	u32 incompat_want;
	/*
	 * Or the log is not empty, but was recovered to target, with this result: it is gone on with. Until the first commit the log says
	 * what it said, so that fast commits behind it still count; after it they do not. That commit may take all of the log.
	 */
	const struct jbd2_recovery *resume;
	bool alone; /* there will be one transaction, which may take all of the log */
};

/* A change under way. On the caller's stack; a thread has at most one. */
struct jbd2_handle {
	struct jbd2 *journal;
	u32 tid;     /* of the transaction that it is part of */
	u32 credits; /* blocks that it may still join */
	u32 revokes; /* blocks that it may still forget */
};

/* The log is empty and the volume may be written: from here on handles may begin. Writes nothing. */
int jbd2_start(struct jbd2 *journal, const struct jbd2_config *config) __must_check;
/* Commits, writes everything home, flushes, marks the log empty: then the volume needs no recovery. No handle is open and
 * none begins. On error (or when aborted before) the log stays as it is, and buffers whose changes never became durable are void,
 * unwritten; jbd2_close of a journal that was not stopped does that, too. Afterwards as after jbd2_open. */
int jbd2_stop(struct jbd2 *journal) __must_check;
/* The largest number of credits and of blocks to forget that one handle may ask for. */
u32 jbd2_credits_max(const struct jbd2 *journal);

/*
 * credits: buffers that the handle will join at most, those that its transaction has already included. Waits while the
 * transaction is being locked, or for a commit or a checkpoint when there is no room; so the caller holds no lock of rank
 * HANDLE or below. On error nothing is open.
 */
int jbd2_begin(struct jbd2 *journal, u32 credits, u32 revokes, struct jbd2_handle *h) __must_check;
/* Its transaction may take three quarters of the log, where that is more than they usually may. For what is rare, and one at a time: until it has begun others
 * wait for as much room. */
int jbd2_begin_long(struct jbd2 *journal, u32 credits, u32 revokes, struct jbd2_handle *h) __must_check;
/* Ends the handle; what it did is part of its transaction. */
void jbd2_end(struct jbd2_handle *h);
/* More of both, in the same transaction. -ENOSPC: the transaction has no room: end what must stay whole, then
 * jbd2_restart. */
int jbd2_extend(struct jbd2_handle *h, u32 credits, u32 revokes) __must_check;
/* Ends the handle and begins it anew, perhaps in a later transaction. Locks of rank HANDLE or below are not held. On
 * error the handle is closed. */
int jbd2_restart(struct jbd2_handle *h, u32 credits, u32 revokes) __must_check;

/* The buffer will be changed: joins the transaction and is pinned, after a write home under way has ended. Costs one credit when
 * the transaction does not have it yet; one credit too few is granted, as long as there is room, and counted as overdrawn. Cancels an earlier forget of the block in the same transaction.
 * -ESTALE, and nothing is joined: the transaction in which the block was forgotten has become durable since the buffer was looked up, and took it away. Who
 * has the block for himself looks it up again. */
int jbd2_access(struct jbd2_handle *h, struct buffer_head *bh) __must_check;
/* It was changed. The buffer is one that jbd2_access joined. */
void jbd2_dirty(struct jbd2_handle *h, struct buffer_head *bh);
/* The block of the target is free, and was metadata: see 4. Costs one of `revokes`. Nobody but he who
 * forgot it, in what stayed his all the time, may join it again before committed(). */
int jbd2_forget(struct jbd2_handle *h, u64 blk) __must_check;

/* The running transaction's number: what a change made now will be part of. */
u32 jbd2_running(struct jbd2 *journal);
/* Has the transaction begun, and its commit not? Then the devices' caches are flushed before it is durable: what is written now
 * will be durable with it. */
bool jbd2_is_running(struct jbd2 *journal, u32 tid);
/* Is the transaction durable? */
bool jbd2_is_durable(struct jbd2 *journal, u32 tid);
/* Returns when transaction tid is durable; commits it if it runs. Shared with others who wait. Locks: none of rank HANDLE or
 * below. -EROFS: aborted. */
int jbd2_commit(struct jbd2 *journal, u32 tid) __must_check;
/* All that has ended is durable, and (checkpoint) home; the log is empty then, unless somebody went on meanwhile. */
int jbd2_flush(struct jbd2 *journal, bool checkpoint) __must_check;
/* Something went wrong half way through a change: nothing of the running transaction may become durable. -ESHUTDOWN: nothing went wrong,
 * and the log does not say so. */
void jbd2_abort(struct jbd2 *journal, int err);
/* 0, or the errno of the abort. */
int jbd2_error(const struct jbd2 *journal);

struct jbd2_stats {
	u64 commits, blocks_logged, blocks_revoked, checkpoints;
	u64 overdrawn; /* times that a handle needed more than it had asked for */
	u64 log_bytes_free;
};
void jbd2_stats(struct jbd2 *journal, struct jbd2_stats *out);

#endif
