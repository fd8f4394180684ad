/* What the files of kernel/vfs share. Order, lowest first: dcache acl map read stage touch tail lazy inode writer super data attr xattr defrag namei path file walk. */
#ifndef VFS_INTERNAL_H
#define VFS_INTERNAL_H

#include "vfs/vfs.h"
#include <errno.h>

/* ---- dcache.c: remembered names. Coherent because entries are added under the directory's lock (R or W)
 * and changed under W, and because the key holds the directory's generation. ---- */

int dcache_new(u32 entries_max, struct dcache **out) __must_check;
void dcache_free(struct dcache *dc);
/* True when the answer is known; *ino 0: no such name. */
bool dcache_lookup(struct dcache *dc, const struct inode *dir, const struct name *name, u64 *ino);
/* Remembers; ino 0: there is no such name. An older answer is replaced. Forgetting is allowed at any time. */
void dcache_set(struct dcache *dc, const struct inode *dir, const struct name *name, u64 ino);
void dcache_forget(struct dcache *dc, const struct inode *dir, const struct name *name);
void dcache_clear(struct dcache *dc);

/* ---- read.c ---- */

/* Reads [off, off + len), below the file's size, from the volume; buf has room_bytes >= len, of which the rest may be
 * overwritten. Locks: map_lock, or as decode. */
int read_range(struct inode *inode, u64 off_bytes, u8 *buf, u64 len_bytes, u64 room_bytes) __must_check;

/* ---- stage.c: the read stage of a file. Locks: map_lock R, for drop W or the last reference. ---- */

/* A reader is at [off, off + len): learns whether it is sequential, and reads ahead if so. */
void stage_advance(struct inode *inode, u64 off_bytes, u64 len_bytes);
/* Copies what the stage has from `off` on; returns the bytes copied. 0: nothing there that is good, and in *gap how much of
 * len the caller has to read himself before he asks again. */
u64 stage_take(struct inode *inode, u64 off_bytes, void *dst, u64 len_bytes, u64 *gap);
/* Forgets everything at or after off, waiting for what is in flight. */
void stage_drop(struct inode *inode);
/* Ends the threads, frees the spare buffers. No stage is left. */
void stage_fini(struct super_block *sb);

/* ---- tail.c: the tail stage. Locks, unless told otherwise: inode->lock W, no map_lock ---- */

struct tail {
	u64 off_bytes;    /* [const] of the block in the file */
	struct mapping m; /* [const] where it will be: alloc's */
	u8 *block;        /* [lock W and map_lock W to change] */
};

/* The block at off_bytes, filled up to `end`, where the file will end, becomes the tail; there is none. Consumes block. */
int tail_begin(struct inode *inode, u64 off_bytes, u8 *block, u64 end) __must_check;
/* Bytes that lie in the tail's block. A block that is full is flushed. */
int tail_put(struct inode *inode, u64 off_bytes, const u8 *src, u64 len_bytes) __must_check;
/* What is staged becomes part of the file on the volume. */
int tail_flush(struct inode *inode) __must_check;
/* The file ends where the volume says. Locks: or none, when nobody else sees the inode. */
void tail_drop(struct inode *inode);
/* The file ends before its tail since set_size. Locks: lock W, map_lock W. */
void tail_cut(struct inode *inode);

/* Bytes on their way: the file, which has no tail, is shown with m's up to `end`. Ended by m's commit, or by not_arrived. Locks: lock W, map_lock R. */
void tail_on_its_way(struct inode *inode, struct mapping *m, u64 end);
/* m's commit is done, or failed with err: then the file ends where the volume says, and fsync will say why. Locks: lock W, map_lock R. */
void tail_arrived(struct inode *inode, int err);
/* Waits until what was on its way below `end` when called has arrived. Locks: none of lock's rank or later. */
static inline void tail_await(struct inode *inode, u64 end)
{
	if (inode->tail || end <= atomic_load(&inode->tail_from))
		return;
	rw_read_lock(&inode->lock);
	rw_read_unlock(&inode->lock);
}

/* ---- lazy.c, writer.c: what is written later ---- */

enum lazy_kind { LAZY_TAIL, LAZY_TIME };

/* An open file whose fsync said that something had failed. */
struct told {
	u64 opened, failed_at; /* moments */
};
#define TOLD_MAX   256u  /* where two open files have one place, one of them may hear the same twice */
#define FAILED_MAX 4096u /* inodes that stay in memory for those who are to hear */

struct lazies {
	struct super_block *sb; /* [const] */
	void *(*run)(void *);   /* [const] the thread's */
	struct mutex lock;      /* rank STAGE */
	struct cond wake;
	struct list queue[LAZY_KINDS]; /* [lock] oldest first */
	u32 count[LAZY_KINDS];         /* [lock] */
	u32 phase, busy[2];            /* [lock] how many are being written, taken in either phase */
	bool waiting;                  /* [lock] somebody waits for the other phase to end */
	bool sleeps;                 /* [lock] the thread waits without a clock: there is nothing to write */
	bool started, running, stop; /* [lock] */
	pthread_t thread;            /* [lock] */
	struct told told[TOLD_MAX];  /* [lock] by opened */
	u32 failed_count;            /* [lock] inodes with I_FAILED */
};

/* Something is queued that the thread writes by the clock. Locks: lock. */
static inline bool lazy_has_clock(const struct lazies *z)
{
	return z->count[LAZY_TAIL] || (z->count[LAZY_TIME] && !z->sb->lazytime);
}
int lazy_new(struct super_block *sb, void *(*run)(void *lazies)) __must_check;
/* Ends the thread; none is started any more. */
void lazy_stop(struct super_block *sb);
/* What was written later could not be: for the fsyncs of those who have the file open. Locks: none of rank STAGE or below. */
void lazy_failed(struct inode *inode, int err);
/* What of that who has the file open since this moment did not hear yet; 0: he is nobody in particular, and hears what nobody did. */
int lazy_error(struct inode *inode, u64 opened);
/* The queues are empty. */
void lazy_free(struct super_block *sb);
/* The inode owes something. Locks: a reference, and none of rank STAGE. */
void lazy_add(struct inode *inode, enum lazy_kind kind);
/* Locks: z->lock. */
void lazy_unqueue(struct lazies *z, struct inode *inode, enum lazy_kind kind);
/* For who evicts it: it owes nothing any more. */
void lazy_forget(struct inode *inode);

/* The thread. */
void *lazy_run(void *lazies);
/* Writes what the inode owes. Locks: none. */
int lazy_write_inode(struct inode *inode) __must_check;
/* Writes what all owed at the time of the call; the first error. */
int lazy_write_all(struct super_block *sb) __must_check;
/* When too many owe something, the oldest are written. Locks: none. */
void lazy_limit(struct super_block *sb);

/* ---- inode.c ---- */

int icache_new(u32 idle_max, struct icache **out) __must_check;
/* Every inode must be idle. */
void icache_free(struct icache *ic);
void icache_shrink(struct super_block *sb);
/* Inodes with references: none are left at unmount. */
u32 icache_held(struct super_block *sb);

/* Takes a reference on an inode in memory. False: it is being evicted. */
bool icache_grab(struct inode *inode) __must_check;

/* inode->state */
#define I_NEW       0x1u   /* being read or created: wait */
#define I_BAD       0x2u   /* the read failed */
#define I_FREEING   0x4u   /* being evicted: wait, then look again */
#define I_LINKABLE  0x8u   /* made by O_TMPFILE: may get its first name */
#define I_LAZY_TAIL 0x10u  /* [lazies] on that queue */
#define I_LAZY_TIME 0x20u  /* [lazies] on that queue */
#define I_ATIME     0x40u  /* the time of access is newer than on the volume */
#define I_CUT       0x80u  /* truncated to nothing since it was last closed */
#define I_FAILED    0x100u /* stays in memory, for those who are to hear of what failed */

/* ---- touch.c: what a change does to the rest of the inode ---- */

/* Set-id bits and security.capability go. Locks: inode->lock W. */
int inode_kill_priv(struct inode *inode) __must_check;

/* ---- acl.c ---- */

/* For a new file: the ACL loses what `mode` does not ask for, the mode what the ACL does not grant. True: the mode says it all. */
bool acl_cut_by_mode(struct acl *acl, u32 *mode);

/* ---- map.c ---- */

/* inode_ops.map with its answer checked: a mapping that covers off. Locks: map_lock. */
int map_at(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *m) __must_check;

/* ---- data.c ---- */

/* Zeros within one block, when something is mapped there that is not zeros already. Locks: lock W, map_lock W. */
int data_zero_partial(struct inode *inode, u64 off_bytes, u64 len_bytes) __must_check;

/* ---- namei.c ---- */

/* Looks up under a lock the caller holds on dir. 0 with *ino 0: no such name. */
int namei_find(struct inode *dir, const struct name *name, u64 *ino) __must_check;
int namei_check_name(const struct super_block *sb, const struct name *name) __must_check;

static inline int vfs_check_writable(const struct super_block *sb)
{
	return sb->rdonly || health_state(&sb->health) >= HEALTH_ABORTED ? -EROFS : 0;
}

#endif
