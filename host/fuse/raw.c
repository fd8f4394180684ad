/*
 * Requests that this libfuse has no operation for, answered from their bytes: O_TMPFILE, SYNCFS, and STATX, by which
 * the kernel asks for the time of creation. Everything else goes through libfuse.
 */
#include "adapter.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of protocol 7.39, which <linux/fuse.h> may be too old for. */
#define OP_STATX 52u

struct statx_in {
	u32 getattr_flags, reserved;
	u64 fh;
	u32 sx_flags, sx_mask;
};

struct statx_time {
	s64 sec;
	u32 nsec;
	s32 reserved;
};

struct statx_out {
	u64 attr_valid;
	u32 attr_valid_nsec, flags;
	u64 spare[2];
	u32 mask, blksize;
	u64 attributes;
	u32 nlink, uid, gid;
	u16 mode, spare_mode;
	u64 ino, size, blocks, attributes_mask;
	struct statx_time atime, btime, ctime, mtime;
	u32 rdev_major, rdev_minor, dev_major, dev_minor;
	u64 spare_end[14];
};
_Static_assert(sizeof(struct statx_out) == 288, "STATX's answer has its size in the protocol");

static int reply(struct adapter *a, const struct fuse_in_header *h, int err, const void *body, size_t len)
{
	struct fuse_out_header out = { .unique = h->unique, .error = err == -ENOSYS ? -EOPNOTSUPP : err };
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)body, err ? 0 : len } };

	out.len = (u32)(sizeof(out) + iov[1].iov_len);
	return writev(a->fd, iov, 2) < 0 ? -errno : 0;
}

/* ---- STATX ---- */

static struct statx_time to_time(struct timespec64 t)
{
	return (struct statx_time){ .sec = t.sec, .nsec = t.nsec };
}

static void on_statx(struct adapter *a, const struct fuse_in_header *h)
{
	const struct idmap *ids = &a->opts.ids;
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct statx_out out = { .attr_valid = (u64)TIMEOUT_SEC };
	int err = node_inode(a->nodes, h->nodeid, &inode);
	struct kstat k;

	if (!err) {
		vfs_getattr(inode, &k);
		out.mask = STATX_BASIC_STATS | (k.has_btime ? STATX_BTIME : 0);
		out.blksize = k.block_bytes;
		out.nlink = k.nlink;
		out.uid = id_show(&ids->uid, k.uid);
		out.gid = id_show(&ids->gid, k.gid);
		out.mode = (u16)mode_show(ids, k.mode);
		out.ino = k.ino;
		out.size = k.size_bytes;
		out.blocks = k.blocks_512;
		out.atime = to_time(k.atime);
		out.btime = to_time(k.btime);
		out.ctime = to_time(k.ctime);
		out.mtime = to_time(k.mtime);
		out.rdev_major = k.rdev_major;
		out.rdev_minor = k.rdev_minor;
	}
	reply(a, h, err, &out, sizeof(out));
}

/* ---- TMPFILE ---- */

static void attr_fill(const struct stat *st, struct fuse_attr *out)
{
	*out = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (u64)st->st_size,
		.blocks = (u64)st->st_blocks,
		.atime = (u64)st->st_atim.tv_sec,
		.mtime = (u64)st->st_mtim.tv_sec,
		.ctime = (u64)st->st_ctim.tv_sec,
		.atimensec = (u32)st->st_atim.tv_nsec,
		.mtimensec = (u32)st->st_mtim.tv_nsec,
		.ctimensec = (u32)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (u32)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (u32)st->st_rdev,
		.blksize = (u32)st->st_blksize,
	};
}

static int make_nameless(struct adapter *a, const struct fuse_in_header *h, struct inode **out)
{
	const struct fuse_create_in *in = (const void *)(h + 1);
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct cred cred;
	int err = node_inode(a->nodes, h->nodeid, &dir);

	if (!err)
		err = make_cred(a, h->uid, h->gid, in->umask, &cred);
	if (!err)
		err = vfs_create(dir, NULL, S_IFREG | (in->mode & 07777), 0, 0, NULL, &cred, out);
	if (settled(a, err))
		err = vfs_create(dir, NULL, S_IFREG | (in->mode & 07777), 0, 0, NULL, &cred, out);
	return err;
}

static void on_tmpfile(struct adapter *a, const struct fuse_in_header *h)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = { .open = { .open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH } };
	struct fuse_entry_param e;
	int err = make_nameless(a, h, &inode);

	if (!err)
		err = node_remember(a->nodes, inode);
	if (err) {
		reply(a, h, err, NULL, 0);
		return;
	}
	entry_fill(a, inode, inode, &e);
	out.entry.nodeid = e.ino;
	out.entry.generation = e.generation;
	out.entry.entry_valid = out.entry.attr_valid = (u64)TIMEOUT_SEC;
	attr_fill(&e.attr, &out.entry.attr);
	if (reply(a, h, 0, &out, sizeof(out)))
		node_forget(a->nodes, e.ino, 1);
}

bool raw_request(struct worker *w)
{
	const struct fuse_in_header *h = w->buf.mem;
	struct adapter *a = w->a;
	size_t need = h->opcode == OP_STATX       ? sizeof(struct statx_in)
		      : h->opcode == FUSE_TMPFILE ? sizeof(struct fuse_create_in)
		      : h->opcode == FUSE_SYNCFS  ? sizeof(u64)
						  : 0;

	if (!need || w->buf.size < sizeof(*h) + need)
		return false;
	if (a->opts.allow_root && h->uid && h->uid != getuid())
		reply(a, h, -EACCES, NULL, 0);
	else if (h->opcode == OP_STATX)
		on_statx(a, h);
	else if (h->opcode == FUSE_SYNCFS)
		reply(a, h, vfs_sync(a->sb), NULL, 0);
	else
		on_tmpfile(a, h);
	return true;
}
