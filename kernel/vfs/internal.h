/* What the files of kernel/vfs share. Order, lowest first: dcache acl map stage inode super touch data attr xattr namei path file walk. */
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

/* ---- stage.c: the read stage of a file. Locks: map_lock R, for drop W or the last reference. ---- */

/* A reader is at [off, off + len): learns whether it is sequential, and reads ahead if so. */
void stage_advance(struct inode *inode, u64 off_bytes, u64 len_bytes);
/* Copies what the stage has from `off` on; returns the bytes copied, 0 when it has nothing there. *err: a staged read failed. */
u64 stage_take(struct inode *inode, u64 off_bytes, void *dst, u64 len_bytes, int *err);
/* Forgets everything at or after off, waiting for what is in flight. */
void stage_drop(struct inode *inode);
/* Frees the spare buffers. No stage is left. */
void stage_fini(struct super_block *sb);

/* ---- inode.c ---- */

int icache_new(u32 idle_max, struct icache **out) __must_check;
/* Every inode must be idle. */
void icache_free(struct icache *ic);
void icache_shrink(struct super_block *sb);
/* Inodes with references: none are left at unmount. */
u32 icache_held(struct super_block *sb);

/* inode->state */
#define I_NEW      0x1u /* being read or created: wait */
#define I_BAD      0x2u /* the read failed */
#define I_FREEING  0x4u /* being evicted: wait, then look again */
#define I_LINKABLE 0x8u /* made by O_TMPFILE: may get its first name */

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
