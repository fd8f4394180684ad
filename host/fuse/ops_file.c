/* Requests about content: open, read, write, sync, holes, ranges. */
#include "adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

void ll_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	const struct fuse_open_in *in = req_body();
	struct adapter *a = req_adapter(req);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	if (a->noopen) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	if (!err)
		err = vfs_may_open(inode, (u32)fi->flags);
	if (!err && (fi->flags & O_TRUNC)) {
		struct iattr attr = { .valid = ATTR_SIZE };

		if (in->open_flags & FUSE_OPEN_KILL_SUIDGID)
			attr.valid |= ATTR_KILL_PRIV;
		err = vfs_setattr(inode, &attr);
	}
	if (err) {
		reply_err(req, err);
		return;
	}
	/* What the kernel writes back from its cache does not say that it was appended. */
	if (a->opts.writeback && inode->flags & INO_APPEND)
		fi->direct_io = 1;
	fi->keep_cache = 1;
	fi->noflush = 1;
	fi->fh = vfs_moment(a->sb);
	fuse_reply_open(req, fi);
}

/* There is no state of an open file but when that was. */
void ll_release(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;

	/* Nobody waits for the reply. */
	if ((fi->flags & O_ACCMODE) != O_RDONLY && !req_inode(req, nodeid, &inode))
		vfs_closed(inode);
	reply_err(req, 0);
}

void ll_flush(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
	(void)nodeid;
	(void)fi;
	reply_never(req);
}

void ll_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t off, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	void *out = this_worker->out;
	u64 done = 0;
	int err = req_inode(req, nodeid, &inode);

	if (!err)
		err = vfs_read(inode, (u64)off, out, MIN(size, (size_t)REQUEST_MAX), &done);
	if (err) {
		reply_err(req, err);
		return;
	}
	/* Before the reply: the kernel asks for the time of access anew after each read. */
	if (!(fi->flags & O_NOATIME))
		vfs_accessed(inode);
	fuse_reply_buf(req, out, done);
}

/* A write that is answered before the device has it. */
struct reply_ahead {
	struct write_answer answer;
	fuse_req_t req;
};

static void give_answer(struct write_answer *answer, u64 done)
{
	struct reply_ahead *r = container_of(answer, struct reply_ahead, answer);
	struct adapter *a = req_adapter(r->req);

	/* This worker is not back soon, and the client goes on at once. */
	if (!atomic_load(&a->watching))
		call_one(a);
	fuse_reply_write(r->req, done);
}

void ll_write(fuse_req_t req, fuse_ino_t nodeid, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = req_body();
	u32 flags = in->write_flags & FUSE_WRITE_KILL_SUIDGID ? WRITE_KILL_PRIV : 0;
	bool appends = fi->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
	struct reply_ahead ahead = { .answer.give = give_answer, .req = req };
	/* Who wants the device to have it is answered by the device. */
	struct write_answer *answer = fi->flags & (O_DIRECT | O_DSYNC) ? NULL : &ahead.answer;
	scoped(vfs_iputp) struct inode *inode = NULL;
	u64 done = 0;
	int err = req_inode(req, nodeid, &inode);

	/* An append-only file takes nothing else. Others: the kernel has placed the bytes where it believes the end. */
	if (!err && appends && inode->flags & INO_APPEND)
		flags |= WRITE_APPEND;
	if (!err)
		err = vfs_write_answered(inode, (u64)off, buf, size, flags, answer, &done);
	/* The request is no more. */
	if (ahead.answer.given)
		return;
	if (settled(req_adapter(req), err))
		err = vfs_write(inode, (u64)off, buf, size, flags, &done);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}

void ll_fsync(fuse_req_t req, fuse_ino_t nodeid, int datasync, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = req_inode(req, nodeid, &inode);

	reply_err(req, err ? err : vfs_fsync_opened(inode, fi->fh, datasync));
}

void ll_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = req_inode(req, nodeid, &inode);

	(void)fi;
	if (!err)
		err = vfs_fallocate(inode, (u32)mode, (u64)off, (u64)len);
	if (settled(req_adapter(req), err))
		err = vfs_fallocate(inode, (u32)mode, (u64)off, (u64)len);
	reply_err(req, err);
}

void ll_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t off, int whence, struct fuse_file_info *fi)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	u64 at = 0;
	int err;

	(void)fi;
	/* The kernel asks without sending us first what it has not written back: data would be taken for a hole. */
	if (req_adapter(req)->opts.writeback) {
		reply_never(req);
		return;
	}
	err = req_inode(req, nodeid, &inode);
	if (!err)
		err = vfs_seek(inode, (u64)off, whence, &at);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, (off_t)at);
}

void ll_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len, int flags)
{
	scoped(vfs_iputp) struct inode *from = NULL, *to = NULL;
	u64 done = 0;
	int err = req_inode(req, in, &from);

	(void)in_fi;
	(void)out_fi;
	(void)flags;
	if (!err)
		err = req_inode(req, out, &to);
	if (!err)
		err = vfs_copy_range(from, (u64)in_off, to, (u64)out_off, len, &done);
	if (settled(req_adapter(req), err))
		err = vfs_copy_range(from, (u64)in_off, to, (u64)out_off, len, &done);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}
