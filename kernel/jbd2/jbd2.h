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
 * Errors: -EUCLEAN (the log is broken, by corrupt()), -EOPNOTSUPP (features that we do not know), -EIO, -ENOMEM.
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

/* The fast-commit area's block `index`, below fc_count, into buf (block_bytes). */
int jbd2_fc_read(struct jbd2 *journal, u64 index, void *buf) __must_check;

#endif
