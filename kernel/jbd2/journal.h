/*
 * The inside of the journal: what its files share. Lowest first: csum journal revoke, then either recovery, or
 * transaction commit checkpoint writer.
 *
 * Locks: a buffer's lock, then j->lock or j->super_lock. The committer (one at a time: j->commit_busy) and who makes room
 * (j->checkpoint_lock) hold their office over I/O, and none of the locks but super_lock.
 */
#ifndef JBD2_JOURNAL_H
#define JBD2_JOURNAL_H

#include "jbd2/jbd2.h"
#include "ondisk.h"

/* The log's blocks [lblk, lblk + len) lie in the device's from blk on. */
struct log_run {
	u64 lblk, blk, len;
};

struct revoke_table;

/* A transaction, from its first handle until its blocks are home. */
struct trans {
	u32 tid;              /* [const] */
	u32 max_blocks;       /* [const] of the log, that it may take */
	bool locked;          /* [lock] no handle may join */
	u32 handles;          /* [lock] open */
	u32 joined, credits;  /* [lock] buffers that it has, and that open handles may still join */
	u32 revoked, revokes; /* [lock] the same of blocks forgotten */
	u64 born_ns;          /* [const] */
	bool ripe;         /* [lock] nearly full: the thread commits it before somebody must wait for that */
	struct list heads; /* [lock] by link[tid & 1]: what it has, until it is durable */
	struct list homeless;        /* [lock] by cp_link: what is durable in the log and may not be home */
	struct revoke_table *revoke; /* [lock] NULL: nothing was forgotten */
	u64 log_first, log_blocks;   /* [const once frozen] its place in the log */
	struct list link;            /* [lock] of j->durable */
};

/* What the journal knows of a buffer: bh->owner. Lives while one of the three transactions is set. */
struct jhead {
	struct buffer_head *bh; /* [buffer] referenced; NULL: the head is free */
	struct trans *run;      /* [buffer] the running one has it; pinned */
	struct trans *commit;   /* [buffer] the one that is being committed has it; pinned */
	struct trans *home;     /* [buffer] the last durable one with its image, unless that is home */
	_Atomic bool dirty;     /* changed in run */
	bool forgotten;         /* [buffer] in run, and not joined again */
	bool commit_logged, commit_forgotten; /* [buffer] what these two were when commit was frozen */
	struct list link[2];                  /* [lock] of run and commit: trans.heads */
	struct list cp_link;                  /* [lock] of home: trans.homeless; free: of j->heads_free */
};

struct jhead_slab;

struct jbd2 {
	struct jbd2_where where;       /* [const] the device is referenced */
	struct jbd2_info info;         /* [const; start, sequence, err: super_lock] */
	struct health *health;         /* [const] may be NULL */
	u32 seed;                      /* [const] of checksums v2 and v3 */
	struct mutex super_lock;       /* rank JOURNAL; held over the superblock's write */
	struct jbd2_disk_super *super; /* [super_lock] the log's first block */
	struct log_run *runs; /* [const once started] where the whole log lies; NULL: ask where.map */
	u32 runs_count;
	u64 fc_void; /* [const once started] the log's block where fast commits were, and may be again when it is empty; 0: none */

	/* From jbd2_start to jbd2_stop: */
	bool started;              /* [const] */
	struct jbd2_config config; /* [const] */
	u32 usual_blocks;          /* [const] of the log, that a transaction may take */
	u32 most_blocks;           /* [const] of a long handle */
	u32 credits_max;           /* [const] */
	struct mutex lock;         /* rank JOURNAL */
	struct cond unlocked;      /* a transaction was frozen: begin may go on */
	struct cond quiet;         /* the last handle of a locked transaction ended */
	struct cond done;          /* a commit is over */
	struct cond wake;          /* the thread has to look */
	u32 max_blocks;            /* [lock] that the next transaction may take */
	u32 next_tid;              /* [lock] its number */
	struct trans *running;     /* [lock] NULL: none */
	struct trans *committing;  /* [lock] frozen and not yet durable */
	struct list durable;       /* [lock] oldest first: those that hold room in the log */
	u64 head;                  /* [lock] the log's next free block */
	u64 tail;                  /* [lock] its oldest in use */
	u64 free;                  /* [lock] blocks from head to tail */
	_Atomic u32 durable_tid;   /* the last durable transaction */
	u32 done_tid;              /* [lock] the last of which committed() has been told */
	bool commit_busy;          /* [lock] somebody commits */
	u32 idle_rounds;           /* [thread] since a transaction ran */
	bool log_open;             /* [committer] the log on the disk is not marked empty */
	bool stopping;             /* [lock] */
	bool thread_runs;
	pthread_t thread;
	_Atomic int err;              /* of the abort */
	struct mutex checkpoint_lock; /* rank CHECKPOINT */
	u8 *image;                    /* [committer] of a transaction in the log */
	u64 image_blocks;
	u64 commit_sec;           /* [committer] of the last commit */
	struct list heads_free;   /* [lock] */
	struct jhead_slab *slabs; /* [lock] */
	struct jbd2_stats stats;  /* [lock] */
};

static inline bool jbd2_has(const struct jbd2 *j, u32 incompat)
{
	return j->info.incompat & incompat;
}

/* Checksums v2 or v3: descriptors, revoke blocks, tags and commits have their own. */
static inline bool jbd2_csums(const struct jbd2 *j)
{
	return jbd2_has(j, JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
}

static inline bool tid_gt(u32 a, u32 b)
{
	return (s32)(a - b) > 0;
}

/* What descriptors and revoke blocks keep free at their end. */
static inline u32 jbd2_tail_bytes(const struct jbd2 *j)
{
	return jbd2_csums(j) ? sizeof(struct jbd2_disk_tail) : 0;
}

static inline u32 jbd2_tag_bytes(const struct jbd2 *j)
{
	if (jbd2_has(j, JBD2_INCOMPAT_CSUM_V3))
		return sizeof(struct jbd2_disk_tag3);
	return 8 + (jbd2_has(j, JBD2_INCOMPAT_64BIT) ? 4 : 0) + (jbd2_has(j, JBD2_INCOMPAT_CSUM_V2) ? 2 : 0);
}

/* Of a block number in a revoke block. */
static inline u32 jbd2_revoke_bytes(const struct jbd2 *j)
{
	return jbd2_has(j, JBD2_INCOMPAT_64BIT) ? sizeof(be64) : sizeof(be32);
}

/* ---- csum.c. *_good: true when the sum is right, or the journal keeps none of the kind ---- */

u32 jbd2_super_csum(const struct jbd2_disk_super *sb);
/* A descriptor or revoke block. */
bool jbd2_tail_good(const struct jbd2 *j, const void *block);
void jbd2_tail_set(const struct jbd2 *j, void *block);
/* A commit block, v2 and v3. The kernel takes one of which only the structure arrived, the rest being 0, too. */
bool jbd2_commit_good(const struct jbd2 *j, const void *block);
void jbd2_commit_set(const struct jbd2 *j, void *block);
/* The image of a block, as it lies in the log. */
bool jbd2_tag_good(const struct jbd2 *j, const void *tag, u32 sequence, const void *block);
void jbd2_tag_set(const struct jbd2 *j, void *tag, u32 sequence, const void *block);

/* ---- journal.c ---- */

/* Reads n blocks of the log, from lblk on; they lie within it. */
int jbd2_read(struct jbd2 *j, u64 lblk, u64 n, void *buf) __must_check;
/* Writes n blocks of the log from lblk on; goes on at its first block when it comes to its end. */
int jbd2_write(struct jbd2 *j, u64 lblk, u64 n, const void *buf, u32 bio_flags) __must_check;
/* Looks up where all of the log lies, so that nobody is asked later. */
int jbd2_map_all(struct jbd2 *j) __must_check;
void jbd2_map_drop(struct jbd2 *j);
/* Switches features on, and fast commits off unless they are to stay, in memory: the log is empty, and the next write of the superblock
 * brings them. */
void jbd2_features_set(struct jbd2 *j, u32 incompat, bool fast_commits);
/* start 0: the log is empty, and `sequence` the next transaction. */
int jbd2_super_write(struct jbd2 *j, u64 start, u32 sequence, u32 bio_flags) __must_check;
/* Notes why the journal was aborted. */
int jbd2_super_error(struct jbd2 *j, int err) __must_check;
void jbd2_free(struct jbd2 *j);

/* ---- revoke.c ---- */

/* Blocks, and the last transaction that revoked each. */

int revoke_new(struct revoke_table **out) __must_check;
/* NULL is ignored. */
void revoke_free(struct revoke_table *t);
/* blk will be asked for: the log has an image of it, or it is to be revoked. */
int revoke_note(struct revoke_table *t, u64 blk) __must_check;
/* blk was revoked in the transaction. Nothing happens if it was not noted. */
void revoke_set(struct revoke_table *t, u64 blk, u32 sequence);
/* Whether an image of blk in the transaction is void: revoked in it or later. */
bool revoke_test(const struct revoke_table *t, u64 blk, u32 sequence);
/* Not revoked any more. */
void revoke_cancel(struct revoke_table *t, u64 blk);
/* The revoked ones, in any order; *pos is 0 at first. False: no more. */
bool revoke_next(const struct revoke_table *t, u64 *pos, u64 *blk);

/* ---- transaction.c: handles, and what they join ---- */

/* Blocks of the log that a transaction of so many images and revoked blocks takes. */
u64 jbd2_cost(const struct jbd2 *j, u64 images, u64 revokes);
/* Images behind one descriptor; block numbers in one revoke block. */
u32 jbd2_tags(const struct jbd2 *j);
u32 jbd2_revokes(const struct jbd2 *j);
/* NULL: no memory. */
struct trans *jbd2_trans_new(u32 tid);
void jbd2_trans_free(struct trans *t);
/* The buffer is no transaction's any more: gives back head and reference. Locks: the buffer. */
void jbd2_head_free(struct jbd2 *j, struct jhead *head);
/* At the end: lets go of all buffers. Those that hold what never became durable are void. */
void jbd2_heads_free(struct jbd2 *j);
/* -EROFS when aborted. */
int jbd2_usable(const struct jbd2 *j) __must_check;
/* The thread is wanted: a transaction is ripe, half of the log is used, or the cache is full of what may be home. Locks: j->lock. */
void jbd2_nudge(struct jbd2 *j);
/* Adds to an open handle what the running transaction still has room for. Locks: j->lock. */
bool jbd2_grant(struct jbd2 *j, struct jbd2_handle *h, u32 credits, u32 revokes) __must_check;

/* ---- commit.c ---- */

/* The memory for the image of a transaction goes, if nobody commits. */
void jbd2_image_drop(struct jbd2 *j);
/* Waits for the office of the committer, which is given back with jbd2_commit_leave. */
void jbd2_commit_enter(struct jbd2 *j);
void jbd2_commit_leave(struct jbd2 *j);
/* Everything that has ended is durable. */
int jbd2_commit_all(struct jbd2 *j) __must_check;

/* ---- checkpoint.c. Locks: checkpoint_lock ---- */

/* Forgets what has gone home by itself. */
void jbd2_sweep(struct jbd2 *j);
/* Writes home what is durable and moves the tail. `all`: what is held by a younger transaction too, which is committed for it; then
 * nothing of what was durable at the call is left in the log. -EBUSY, which is no abort: somebody keeps a buffer pinned, to send it home himself. */
int jbd2_checkpoint(struct jbd2 *j, bool all) __must_check;
/* When nothing is left in the log: marks it empty. *empty: it is. */
int jbd2_close_log(struct jbd2 *j, bool *empty) __must_check;

#endif
