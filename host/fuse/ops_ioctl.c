/*
 * IOCTL: inode flags, digests of verity files, FITRIM, shutdown, and what `werunos umount`, `resize` and `defrag` ask of a server. The kernel passes exactly the
 * bytes that a command's number announces; so a shutdown's argument, whose number says "read", never arrives: it is
 * always as if the power went.
 */
#include "adapter.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ext4's and XFS's number, since then everybody's. */
#define IOC_SHUTDOWN _IOR('X', 125, u32)

/* ---- inode flags ---- */

/* FS_IOC_FSGETXATTR speaks of the same flags in other bits. */
static const struct {
	u32 flag, xflag;
} flag_names[] = {
	{ INO_SYNC, FS_XFLAG_SYNC },       { INO_IMMUTABLE, FS_XFLAG_IMMUTABLE },
	{ INO_APPEND, FS_XFLAG_APPEND },   { INO_NODUMP, FS_XFLAG_NODUMP },
	{ INO_NOATIME, FS_XFLAG_NOATIME }, { INO_PROJINHERIT, FS_XFLAG_PROJINHERIT },
};

static void reply_fsxattr(fuse_req_t req, const struct kstat *k)
{
	struct fsxattr x = { .fsx_projid = k->project };

	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (k->flags & flag_names[i].flag)
			x.fsx_xflags |= flag_names[i].xflag;
	fuse_reply_ioctl(req, 0, &x, sizeof(x));
}

static int set_fsxattr(struct inode *inode, const struct kstat *k, const void *in, size_t size)
{
	struct iattr attr = { .valid = ATTR_FLAGS | ATTR_PROJECT, .flags = k->flags };
	struct fsxattr x;

	if (size < sizeof(x))
		return -EINVAL;
	memcpy(&x, in, sizeof(x));
	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++) {
		attr.flags &= ~flag_names[i].flag;
		if (x.fsx_xflags & flag_names[i].xflag)
			attr.flags |= flag_names[i].flag;
	}
	attr.project = x.fsx_projid;
	return vfs_setattr(inode, &attr);
}

static int set_flags(struct inode *inode, const void *in, size_t size)
{
	struct iattr attr = { .valid = ATTR_FLAGS };

	if (size < sizeof(attr.flags))
		return -EINVAL;
	memcpy(&attr.flags, in, sizeof(attr.flags));
	return vfs_setattr(inode, &attr);
}

/* Root, who mounted, and the owner; which flags an owner may change is the kernel's to check. */
static bool may_set_flags(fuse_req_t req, const struct kstat *k)
{
	u32 uid = fuse_req_ctx(req)->uid;

	return may_all(uid) || uid == id_show(&req_adapter(req)->opts.ids.uid, k->uid);
}

/* ---- digests ---- */

/*
 * FS_IOC_MEASURE_VERITY: its number announces only the fixed part, behind which its caller has as much room as that part says; kernels that know
 * the command give us all of it, older ones no more than the fixed part.
 */
static int reply_digest(fuse_req_t req, struct inode *inode, const void *in, size_t in_size, size_t out_size)
{
	union {
		struct fsverity_digest head;
		u8 bytes[sizeof(struct fsverity_digest) + DIGEST_MAX_BYTES];
	} out = { .bytes = { 0 } };
	struct file_digest digest;
	size_t len;
	int err;

	if (in_size < sizeof(out.head))
		return -EINVAL;
	memcpy(&out.head, in, sizeof(out.head));
	err = vfs_digest(inode, &digest);
	if (err)
		return err;
	len = sizeof(out.head) + digest.len_bytes;
	if (out.head.digest_size < digest.len_bytes || out_size < len)
		return -EOVERFLOW;
	out.head.digest_algorithm = digest.algorithm;
	out.head.digest_size = digest.len_bytes;
	memcpy(out.head.digest, digest.bytes, digest.len_bytes);
	fuse_reply_ioctl(req, 0, &out, len);
	return 0;
}

/* ---- the volume ---- */

static bool is_master(fuse_req_t req)
{
	return may_all(fuse_req_ctx(req)->uid);
}

static int trim(struct super_block *sb, const void *in, size_t size, struct fstrim_range *r)
{
	u64 bytes = 0;
	int err;

	if (size < sizeof(*r))
		return -EINVAL;
	memcpy(r, in, sizeof(*r));
	err = vfs_trim(sb, r->start, r->len, r->minlen, &bytes);
	r->len = bytes;
	return err;
}

/* The sentence that goes with an error. */
static void server_why(char *why, size_t room, int err)
{
	snprintf(why, room, "%s", !err ? "" : *err_text() ? err_text() : strerror(-err));
}

static int grow(fuse_req_t req, struct super_block *sb, const void *in, size_t size)
{
	struct server_grow g;
	struct grown grown;

	if (size < sizeof(g))
		return -EINVAL;
	memcpy(&g, in, sizeof(g));
	g.err = vfs_grow(sb, g.size_bytes, &grown);
	g.before_bytes = grown.before_bytes;
	g.after_bytes = grown.after_bytes;
	server_why(g.why, sizeof(g.why), g.err);
	fuse_reply_ioctl(req, 0, &g, sizeof(g));
	return 0;
}

/* 1: there is no place for more. */
static int add_quota(void *ctx, const struct quota *q)
{
	struct server_quota *s = ctx;

	if (q->id < s->first)
		return 0;
	if (s->count == SERVER_QUOTAS) {
		s->more = 1;
		return 1;
	}
	s->quota[s->count++] = *q;
	return 0;
}

static int quota(fuse_req_t req, struct super_block *sb, const void *in, size_t size)
{
	struct server_quota *s = size < sizeof(*s) ? NULL : calloc(1, sizeof(*s));

	if (!s)
		return size < sizeof(*s) ? -EINVAL : -ENOMEM;
	memcpy(s, in, offsetof(struct server_quota, count));
	s->err = s->kind < QUOTA_KINDS ? vfs_quota(sb, s->kind, &s->grace, add_quota, s) : -EINVAL;
	s->err = MIN(s->err, 0);
	server_why(s->why, sizeof(s->why), s->err);
	fuse_reply_ioctl(req, 0, s, sizeof(*s));
	free(s);
	return 0;
}

static int set_quota(fuse_req_t req, struct super_block *sb, const void *in, size_t size)
{
	struct server_set_quota s;

	if (size < sizeof(s))
		return -EINVAL;
	memcpy(&s, in, sizeof(s));
	s.err = s.kind < QUOTA_KINDS ? vfs_set_quota(sb, s.kind, &s.set) : -EINVAL;
	if (!s.err)
		s.err = vfs_sync(sb);
	server_why(s.why, sizeof(s.why), s.err);
	fuse_reply_ioctl(req, 0, &s, sizeof(s));
	return 0;
}

/* How the file lies, or fewer pieces. */
static int defrag(fuse_req_t req, struct inode *inode, unsigned int cmd, const void *in, size_t size)
{
	struct server_defrag d;
	struct fragments f = { 0 };
	const char *refused;

	if (size < sizeof(d))
		return -EINVAL;
	if (!is_master(req))
		return -EPERM;
	memcpy(&d, in, sizeof(d));
	refused = vfs_defrag_refused(inode);
	if (cmd == SERVER_IOC_DEFRAG)
		d.err = refused ? fail(-EPERM, "%s", refused)
				: vfs_defrag(inode, &d.pos_bytes, &d.moved_bytes);
	else
		d.err = refused ? 0 : vfs_fragments(inode, &f);
	d.block_bytes = inode->sb->block_bytes;
	d.blocks = f.blocks;
	d.pieces = f.pieces;
	d.best = f.best;
	server_why(d.why, sizeof(d.why), d.err);
	if (!d.err && refused)
		snprintf(d.why, sizeof(d.why), "%s", refused);
	fuse_reply_ioctl(req, 0, &d, sizeof(d));
	return 0;
}

/* Commands that only root and the mounter may give. 1: it is none of these. */
static int volume_ioctl(fuse_req_t req, unsigned int cmd, const void *in, size_t size)
{
	struct adapter *a = req_adapter(req);
	struct fstrim_range range;
	u32 pid = (u32)getpid();
	int err;

	if (cmd != FITRIM && cmd != IOC_SHUTDOWN && cmd != SERVER_IOC_PID && cmd != SERVER_IOC_SYNC &&
	    cmd != SERVER_IOC_GROW && cmd != SERVER_IOC_QUOTA && cmd != SERVER_IOC_SET_QUOTA)
		return 1;
	if (!is_master(req))
		return -EPERM;
	switch (cmd) {
	case FITRIM:
		err = trim(a->sb, in, size, &range);
		if (!err)
			fuse_reply_ioctl(req, 0, &range, sizeof(range));
		return err;
	case SERVER_IOC_GROW:
		return grow(req, a->sb, in, size);
	case SERVER_IOC_QUOTA:
		return quota(req, a->sb, in, size);
	case SERVER_IOC_SET_QUOTA:
		return set_quota(req, a->sb, in, size);
	case SERVER_IOC_PID:
		fuse_reply_ioctl(req, 0, &pid, sizeof(pid));
		return 0;
	case SERVER_IOC_SYNC:
		err = vfs_sync(a->sb);
		break;
	default:
		vfs_shutdown(a->sb);
		err = 0;
	}
	if (!err)
		fuse_reply_ioctl(req, 0, NULL, 0);
	return err;
}

/* What only the file system knows. */
static int module_ioctl(fuse_req_t req, struct inode *inode, unsigned int cmd, const void *in, size_t size,
			size_t out_size)
{
	u32 out_bytes = (u32)MIN(out_size, (size_t)REQUEST_MAX);
	int err = vfs_ioctl(inode, cmd, is_master(req), in, (u32)size, this_worker->out, &out_bytes);

	if (!err)
		fuse_reply_ioctl(req, 0, this_worker->out, out_bytes);
	return err;
}

/* Commands about one file. */
static int inode_ioctl(fuse_req_t req, struct inode *inode, unsigned int cmd, const void *in, size_t size,
		       size_t out_size)
{
	struct kstat k;
	int err;

	vfs_getattr(inode, &k);
	if ((cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR) && !may_set_flags(req, &k))
		return -EPERM;
	switch (cmd) {
	case FS_IOC_GETFLAGS:
		fuse_reply_ioctl(req, 0, &k.flags, sizeof(k.flags));
		return 0;
	case FS_IOC_FSGETXATTR:
		reply_fsxattr(req, &k);
		return 0;
	case FS_IOC_MEASURE_VERITY:
		return reply_digest(req, inode, in, size, out_size);
	case SERVER_IOC_FRAGMENTS:
	case SERVER_IOC_DEFRAG:
		return defrag(req, inode, cmd, in, size);
	case FS_IOC_SETFLAGS:
		err = set_flags(inode, in, size);
		break;
	case FS_IOC_FSSETXATTR:
		err = set_fsxattr(inode, &k, in, size);
		break;
	default:
		return module_ioctl(req, inode, cmd, in, size, out_size);
	}
	if (!err)
		fuse_reply_ioctl(req, 0, NULL, 0);
	return err;
}

void ll_ioctl(fuse_req_t req, fuse_ino_t nodeid, unsigned int cmd, void *arg, struct fuse_file_info *fi,
	      unsigned int flags, const void *in_buf, size_t in_size, size_t out_size)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = volume_ioctl(req, cmd, in_buf, in_size);

	(void)arg;
	(void)fi;
	(void)flags;
	if (err > 0) {
		err = req_inode(req, nodeid, &inode);
		if (!err)
			err = inode_ioctl(req, inode, cmd, in_buf, in_size, out_size);
	}
	if (err)
		reply_err(req, err);
}
