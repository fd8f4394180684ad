/* Inside the adapter: what session, transport, requests and replies share. */
#ifndef HOST_FUSE_ADAPTER_H
#define HOST_FUSE_ADAPTER_H

#include "fuse/fuse.h"
#include "ino.h"
#include "lib/scope.h"
#include <fuse_lowlevel.h>

/* What the kernel may ask for or send in one request, at most. */
#define REQUEST_MAX (1u << 20)
/* We are the only writer of the volume: what the kernel knows stays true. */
#define TIMEOUT_SEC 86400.0

struct worker;

/* How requests come in. A worker's request lies in its buf, ready for libfuse's parser. */
struct transport {
	const char *name;
	/* > 0: a request is there; -EAGAIN: none now; 0: the mount is gone; else -errno. */
	int (*receive)(struct worker *w);
	/* A request is waiting. */
	bool (*pending)(struct adapter *a);
	/* Sleeps until a request may be there. */
	void (*sleep)(struct adapter *a);
};
extern const struct transport transport_dev;

struct adapter {
	struct super_block *sb;      /* [const] */
	struct adapter_opts opts;    /* [const] */
	const struct transport *way; /* [const] */
	struct fuse_session *se;     /* [const] */
	struct nodes *nodes;         /* [const] */
	bool noopen, noopendir;      /* [const after INIT] the kernel tells of no opens */
	bool dont_mask;              /* [const after INIT] we apply the umask */
	bool killpriv;               /* [const after INIT] the kernel leaves clearing set-id bits to us */
	_Atomic bool has_labels;     /* some file has a security label: see ops_xattr.c */
	int fd;                 /* [const while attached] of the mount; the session's from attach on; -1 */
	int ended_fd;           /* [const] eventfd: the session has ended */
	int ready_fd;           /* [const] eventfd: the kernel has taken up the mount */
	struct worker *workers; /* [const while serving] */
	u32 worker_count;       /* [const] */
	/* Who waits how: see session.c. */
	bool can_spin; /* [const] there is a CPU to spin on */
	_Atomic bool ended;
	bool detached;            /* [the controlling thread] unmounted while in use */
	_Atomic bool broken;      /* the descriptor failed: the mount may still be there */
	_Atomic u32 watching;     /* 1: a worker watches the device */
	_Atomic u32 calls;        /* futex word of the idle: how often one was called */
	_Atomic u32 sleepers;     /* idle workers, the deputy not counted */
	_Atomic u32 deputy;       /* 1: a worker is deputy */
	_Atomic u32 deputy_calls; /* its futex word */
	_Atomic u32 deputy_out;   /* 1: its clock does not run */
	_Atomic u32 deputy_leave; /* 1: it is called to serve */
	struct near *near;        /* [const while serving] NULL: not to be had here */
	_Atomic u64 received;     /* requests so far */
	_Atomic u32 serving;      /* workers with a request */
};

/* One thread that serves requests. */
struct worker {
	struct adapter *a;
	pthread_t thread;
	void *recv_mem;      /* owns what buf.mem points into */
	struct fuse_buf buf; /* the request, laid out so that WRITE's payload starts on a page */
	void *out;           /* REQUEST_MAX bytes, page-aligned: replies with content */
	void *names;         /* REQUEST_MAX bytes: a directory's entries on their way to out */
	pid_t tid;           /* [const once it runs] */
	_Atomic u32 taken;   /* requests */
	u32 luck;            /* how often a request came soon after the last, lately */
	int cpu;             /* bound to it by near_sit; -1: not bound */
};

/* calls.c */
void rouse_deputy(struct adapter *a);
/* Calls one worker that has nothing to do. */
void call_one(struct adapter *a);
/*
 * For a request that met a full volume: true when it should be tried once more. The kernel says only later, by FORGET,
 * that a file removed before is out of use, and its space comes back then; so the requests under way are let finish
 * first, for a moment at most.
 */
bool settled(struct adapter *a, int err) __must_check;

/* near.c: workers beside a lone client. */
/* Before the first worker starts, and after the last has ended. */
void near_start(struct adapter *a);
void near_stop(struct adapter *a);
bool near_is_on(const struct adapter *a);
/* A request has come in, and is not answered yet. slow: its answer may take long. */
void near_request(struct worker *w, bool slow);
/* writev of a reply, beside the client if that is where the worker sits. */
ssize_t near_reply(struct worker *w, int fd, const struct iovec *iov, int count);
/* The worker sits down where that is best. */
void near_sit(struct worker *w);
/* The worker is about to sleep, because it has nothing to do. */
void near_rest(struct worker *w);
/* The same, and it watches. */
void near_watch(struct worker *w);
/* The deputy's clock has ticked. */
void near_tick(struct adapter *a);
/* The worker's thread is about to end: no other touches it afterwards. */
void near_leave(struct worker *w);

/* worker.c */
int worker_init(struct worker *w, struct adapter *a) __must_check;
/* After a failed worker_init too. */
void worker_fini(struct worker *w);
/* The worker of this thread. */
extern _Thread_local struct worker *this_worker;
/* The body of the request as the kernel sent it: some of its flags are unknown to libfuse. */
const void *req_body(void);

/* attach.c: a mounted FUSE descriptor. */
int attach(const struct adapter_opts *opts, int *fd) __must_check;
/* Lets the kernel read far ahead on the mount at dir, where we may (root). Asks the mount: while it is served. */
void mount_read_ahead(const char *dir);

extern const struct fuse_lowlevel_ops adapter_ops; /* ops.c */

/* reply.c: every reply goes out here, except plain data. */
/* The one place where our errors become FUSE's. */
void reply_err(fuse_req_t req, int err);
/* "Do not ask this again": the kernel does without from now on. */
void reply_never(fuse_req_t req);
void reply_attr(fuse_req_t req, struct inode *inode);
/* Counts the lookup. fi: a reply to CREATE. Borrows inode. */
void reply_entry(fuse_req_t req, struct inode *dir, struct inode *inode, struct fuse_file_info *fi);
void reply_no_entry(fuse_req_t req, struct inode *dir);
void stat_fill(const struct adapter *a, struct inode *inode, struct stat *out);
/* Without counting. */
void entry_fill(const struct adapter *a, struct inode *dir, struct inode *inode,
		struct fuse_entry_param *out);

/* Whoever made the mount, and root, may do what only the superuser may. */
bool may_all(u32 uid);
/* Names in `dir` have changed: durable before the reply, where the mount or the directory asks for it. */
int sync_names(const struct adapter *a, struct inode *dir) __must_check;

/* raw.c: answers the request if libfuse could not. */
bool raw_request(struct worker *w);

/* Who makes a new file, in ids of the volume. umask is heeded where the kernel leaves it to us. */
int make_cred(const struct adapter *a, u32 uid, u32 gid, u32 umask, struct cred *out) __must_check;

/* ops_dir.c */
void ll_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t pos, struct fuse_file_info *fi);
void ll_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t pos, struct fuse_file_info *fi);

/* ops_file.c */
void ll_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ll_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ll_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi);
void ll_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off, struct fuse_file_info *fi);
void ll_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void ll_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi);
void ll_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);
void ll_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t off, int whence, struct fuse_file_info *fi);
void ll_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags);

/* ops_ioctl.c */
void ll_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi,
	      unsigned int flags, const void *in_buf, size_t in_size, size_t out_size);

/* ops_xattr.c */
/* Looks at the root directory, once. */
void labels_find(struct adapter *a);
void ll_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size);
void ll_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size,
		 int flags);
void ll_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size);
void ll_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name);

/* The adapter of a request, and the inode a nodeid names (referenced). */
static inline struct adapter *req_adapter(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
static inline int req_inode(fuse_req_t req, fuse_ino_t nodeid, struct inode **out)
{
	return node_inode(req_adapter(req)->nodes, nodeid, out);
}
#endif
