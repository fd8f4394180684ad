/*
 * The FUSE adapter as the rest of host sees it: shows a mounted volume at a directory of this machine.
 *
 *   adapter_new → adapter_attach (the mount exists; requests wait) → adapter_serve (answers until unmounted)
 *   → adapter_free, then vfs_unmount.
 *
 * No thread is started before adapter_serve.
 */
#ifndef HOST_FUSE_H
#define HOST_FUSE_H

#include "fuse/idmap.h"
#include "vfs/vfs.h"
#include <sys/ioctl.h>

struct adapter;

struct adapter_opts {
	const char *source;     /* shown as the mount's source: an absolute path */
	const char *dir;        /* absolute path of the mount point */
	unsigned long ms_flags; /* MS_* of mount(2) */
	bool rdonly;            /* the mount is read-only */
	bool allow_other;       /* users other than the mounter may look */
	bool allow_root;        /* of those only root */
	bool noopen;            /* the kernel need not tell of opens; always so on read-only mounts */
	bool writeback;         /* the kernel may keep writes for a while */
	u32 threads;            /* 0: by the machine */
	struct idmap ids;
};

/* Borrows sb, and the strings of opts, until adapter_free. */
int adapter_new(struct super_block *sb, const struct adapter_opts *opts, struct adapter **out) __must_check;
/* Mounts. The sentence of an error says what to do. */
int adapter_attach(struct adapter *a) __must_check;
/*
 * Serves requests until the volume is unmounted: by umount, fusermount3 -u, or because SIGINT, SIGTERM or SIGHUP
 * came. When files are in use at a signal, all that is written becomes durable and the mount leaves the directory, but
 * is served until the last file is closed; a second signal makes durable what came since and ends it. `ready` (may be NULL) is called once, when the kernel has taken up the mount. SIGUSR1 writes counters and
 * trace to the log. The caller has no other thread that would take these signals.
 */
int adapter_serve(struct adapter *a, void (*ready)(void *ctx), void *ctx) __must_check;
/* Unmounts what is still mounted. NULL is ignored. */
void adapter_free(struct adapter *a);

/* Unmounts any FUSE mount, as root or by fusermount3. lazy: it leaves the directory at once, and ends when it is not in use any
 * more. -EBUSY: in use. What is not mounted is no error. */
int fuse_mount_end(const char *dir, bool lazy) __must_check;

/* Commands to a server, through any directory of its mount, for root and the mounter: its process, and "make all durable". */
#define SERVER_IOC_PID  _IOR('w', 0x71, u32)
#define SERVER_IOC_SYNC _IO('w', 0x72)
/* "Make the volume longer": see super_ops.grow. An error comes in the answer, with its sentence. */
struct server_grow {
	u64 size_bytes;
	u64 before_bytes, after_bytes;
	s32 err;
	char why[484];
};
#define SERVER_IOC_GROW _IOWR('w', 0x73, struct server_grow)
/* "What is used": by ids from `first` on, as many as there is place for; more: there are others behind them. */
#define SERVER_QUOTAS 96u
struct server_quota {
	u32 kind, first;
	u32 count, more;
	struct quota_grace grace;
	struct quota quota[SERVER_QUOTAS];
	s32 err;
	char why[484];
};
#define SERVER_IOC_QUOTA _IOWR('w', 0x74, struct server_quota)
/* "So much may be used." */
struct server_set_quota {
	u32 kind;
	struct quota_set set;
	s32 err;
	char why[484];
};
#define SERVER_IOC_SET_QUOTA _IOWR('w', 0x75, struct server_set_quota)
/* About the file itself: how it lies (vfs_fragments, and in `why` vfs_defrag_refused); "put a part of it into fewer pieces": see vfs_defrag. */
struct server_defrag {
	u64 pos_bytes, moved_bytes;
	u64 blocks, pieces, best;
	u32 block_bytes;
	s32 err;
	char why[448];
};
#define SERVER_IOC_FRAGMENTS _IOWR('w', 0x76, struct server_defrag)
#define SERVER_IOC_DEFRAG    _IOWR('w', 0x77, struct server_defrag)

#endif
