/*
 * A directory of the host as a sink. Nothing outside of it is touched: every directory is opened from the one above it by one name, which
 * must not be a symbolic link, and everything in it is made through that.
 *
 *   make, begin (in order): the way to the item ─► its directory, held
 *   write, end (by any thread): the file, in the directory that is held
 *   directory: held by the way, by files under way in it, by directories in it; when nobody holds it, it gets its mode and times
 *
 * So what is open is bounded by the depth and the files under way.
 */
#include "way.h"

#include "lib/lock.h"
#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DIR_MODE 0755u

/* What is set once nothing changes any more. */
struct attrs {
	u32 valid; /* KEEP_* of those that are known */
	u32 mode, uid, gid;
	struct timespec times[2];
	void *acl; /* the default ACL; NULL: none */
	u32 acl_bytes;
};

struct host_dir {
	int fd;
	_Atomic u32 refs;
	struct host_dir *up; /* held */
	struct attrs attrs;
};

struct sink_host {
	struct sink sink;
	bool root; /* this process may do everything */
	u32 umask;
	struct way way;    /* of host_dirs */
	struct mutex lock; /* rank LEAF */
	int late_err;      /* [lock] the first that met a directory when it was left */
	char late_why[256];
};

struct sink_file {
	struct host_dir *dir; /* held */
	int fd;               /* -1: not made yet */
	char *name;
	char temp[40]; /* the name it has meanwhile; "": its own */
};

static struct sink_host *to_host(struct sink *k)
{
	return container_of(k, struct sink_host, sink);
}

static int no(const char *what)
{
	return fail(-errno, "%s: %s", what, strerror(errno));
}

static int open_beneath(int dir, const char *path, u64 flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* ---- attributes ---- */

static u32 mode_of(const struct sink_host *h, const struct item *it)
{
	return h->sink.keep & KEEP_MODE ? it->mode & 07777 : it->mode & 0777 & ~h->umask;
}

static struct attrs attrs_of(const struct sink_host *h, const struct item *it)
{
	struct attrs a = { .valid = KEEP_MODE, .mode = mode_of(h, it), .uid = it->uid, .gid = it->gid };

	a.valid |= it->has & ITEM_OWNER ? h->sink.keep & KEEP_OWNER : 0;
	a.valid |= it->has & (ITEM_MTIME | ITEM_ATIME) ? h->sink.keep & KEEP_TIMES : 0;
	a.times[0] = it->has & ITEM_ATIME ? (struct timespec){ it->atime.sec, it->atime.nsec }
					  : (struct timespec){ 0, UTIME_OMIT };
	a.times[1] = it->has & ITEM_MTIME ? (struct timespec){ it->mtime.sec, it->mtime.nsec }
					  : (struct timespec){ 0, UTIME_OMIT };
	return a;
}

/* Goes first: it takes set-id bits and capabilities away. Where it cannot be, nobody gets our id by the mode. */
static int set_owner(const struct sink_host *h, int fd, struct attrs *a)
{
	if (!(a->valid & KEEP_OWNER) || !fchown(fd, a->uid, a->gid))
		return 0;
	if (h->root || errno != EPERM)
		return no("its owner cannot be set");
	a->mode &= ~(u32)(S_ISUID | S_ISGID);
	return 0;
}

/* The rest. */
static int set_attrs(int fd, const struct attrs *a)
{
	int err = 0;

	if (a && a->valid & KEEP_MODE && fchmod(fd, a->mode))
		err = no("its mode cannot be set");
	if (!err && a->acl && fsetxattr(fd, "system.posix_acl_default", a->acl, a->acl_bytes, 0))
		err = no("its default ACL cannot be set");
	if (a->valid & KEEP_TIMES && futimens(fd, a->times) && !err)
		err = no("its times cannot be set");
	return err;
}

/* One that only the superuser sets, and we are not. */
static bool beyond_us(const struct sink_host *h, const char *name)
{
	return !h->root && (!strncmp(name, "security.", 9) || !strncmp(name, "trusted.", 8));
}

/* fd or, where there is none (symbolic links), a path of /proc. due: gets the default ACL. */
static int set_xattrs(const struct sink_host *h, int fd, const char *path, const struct item *it,
		      struct attrs *due)
{
	int err = 0;

	for (u32 i = 0; h->sink.keep & KEEP_XATTR && i < it->xattrs; i++) {
		const struct item_xattr *x = &it->xattr[i];

		if (due && !strcmp(x->name, "system.posix_acl_default")) {
			due->acl = malloc(x->len_bytes);
			if (!due->acl)
				return fail(-ENOMEM, "no memory to copy");
			memcpy(due->acl, x->value, x->len_bytes);
			due->acl_bytes = x->len_bytes;
			continue;
		}
		if (path ? lsetxattr(path, x->name, x->value, x->len_bytes, 0)
			 : fsetxattr(fd, x->name, x->value, x->len_bytes, 0)) {
			if (beyond_us(h, x->name))
				continue;
			err = errno == ENOSPC ? fail(-E2BIG, "its attribute %s does not fit", x->name)
					      : fail(-errno, "its attribute %s cannot be set: %s", x->name,
						     strerror(errno));
		}
	}
	return err;
}

/* ---- directories ---- */

static struct host_dir *dir_get(struct host_dir *d)
{
	atomic_fetch_add(&d->refs, 1);
	return d;
}

static void dir_put(struct sink_host *h, struct host_dir *d)
{
	while (d && atomic_fetch_sub(&d->refs, 1) == 1) {
		struct host_dir *up = d->up;
		int err = set_owner(h, d->fd, &d->attrs);

		if (!err)
			err = set_attrs(d->fd, &d->attrs);

		if (err) {
			mutex_guard(&h->lock);
			if (!h->late_err)
				snprintf(h->late_why, sizeof(h->late_why), "%s", err_text());
			h->late_err = h->late_err ? h->late_err : err;
		}
		close(d->fd);
		free(d->attrs.acl);
		free(d);
		d = up;
	}
}

static struct host_dir *last_dir(const struct sink_host *h)
{
	return way_dir(&h->way);
}

static void way_leave(struct way *w, void *dir)
{
	dir_put(container_of(w, struct sink_host, way), dir);
}

/* Takes fd over. */
static int add_dir(struct sink_host *h, int fd, size_t end)
{
	struct host_dir *d = calloc(1, sizeof(*d));
	int err = d ? way_add(&h->way, d, end) : fail(-ENOMEM, "no memory to copy");

	if (err) {
		free(d);
		close(fd);
		return err;
	}
	d->fd = fd;
	d->refs = 1;
	d->up = h->way.depth > 1 ? dir_get(h->way.level[h->way.depth - 2].dir) : NULL;
	return 0;
}

static int way_down(struct way *w, const struct name *name, size_t end, void *arg)
{
	struct sink_host *h = container_of(w, struct sink_host, way);
	int dir = last_dir(h)->fd, fd;
	char s[VFS_NAME_MAX + 1];

	(void)arg;
	memcpy(s, name->s, name->len);
	s[name->len] = 0;
	if (mkdirat(dir, s, DIR_MODE) && errno != EEXIST)
		return no("a directory in its path cannot be made");
	fd = open_beneath(dir, s, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return fail(-errno, "\"%.*s\", which is in its way, is no directory that can be used: %s",
			    (int)end, w->path, strerror(errno));
	return add_dir(h, fd, end);
}

/* Makes the item's path the way; its last name, NUL-terminated. */
static int way_of(struct sink_host *h, const struct item *it, const char **name)
{
	struct name last = NAME("");
	int err = way_to(&h->way, it->path, NULL, &last);

	*name = last.s;
	return err;
}

/* ---- all but regular files ---- */

/* The name, of a file that is no directory, goes. */
static int take_away(int dir, const char *name)
{
	if (!unlinkat(dir, name, 0))
		return 0;
	if (errno == EISDIR || errno == EPERM)
		return fail(-EISDIR, "there is a directory of that name");
	return no("what has its name cannot be taken away");
}

static int make_dir(struct sink_host *h, const struct item *it)
{
	const char *name;
	struct host_dir *d;
	int err = way_of(h, it, &name), fd;

	if (err)
		return err;
	if (*it->path) {
		int dir = last_dir(h)->fd;

		if (mkdirat(dir, name, 0700) && errno != EEXIST)
			return no("the directory cannot be made");
		fd = open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
			err = take_away(dir, name);
			if (!err && mkdirat(dir, name, 0700))
				err = no("the directory cannot be made");
			fd = err ? -1 : open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		}
		if (err || fd < 0)
			return err ? err : no("the directory cannot be opened");
		err = add_dir(h, fd, strlen(it->path));
		if (err)
			return err;
	}
	d = last_dir(h);
	free(d->attrs.acl);
	d->attrs = attrs_of(h, it);
	return set_xattrs(h, d->fd, NULL, it, &d->attrs);
}

/* A directory of what was made before. */
static int open_made(const struct sink_host *h, const char *path, const char **last)
{
	int fd = fcntl(((struct host_dir *)h->way.level[0].dir)->fd, F_DUPFD_CLOEXEC, 0);
	char name[VFS_NAME_MAX + 1];

	for (const char *slash; fd >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
		int next = -1;

		if ((size_t)(slash - path) < sizeof(name)) {
			memcpy(name, path, (size_t)(slash - path));
			name[slash - path] = 0;
			next = open_beneath(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
		}
		close(fd);
		fd = next;
	}
	*last = path;
	return fd;
}

static int make_link(struct sink_host *h, const struct item *it)
{
	const char *name, *old;
	int err = way_of(h, it, &name), from, dir;
	struct stat a, b;

	if (err)
		return err;
	dir = last_dir(h)->fd;
	from = open_made(h, it->target, &old);
	if (from < 0)
		return fail(-errno, "a link to \"%s\": %s", it->target, strerror(errno));
	if (linkat(from, old, dir, name, 0)) {
		if (errno != EEXIST)
			err = fail(-errno, "a link to \"%s\": %s", it->target, strerror(errno));
		else if (fstatat(from, old, &a, AT_SYMLINK_NOFOLLOW) ||
			 fstatat(dir, name, &b, AT_SYMLINK_NOFOLLOW) || a.st_ino != b.st_ino ||
			 a.st_dev != b.st_dev)
			err = take_away(dir, name);
		else
			goto out;
		if (!err && linkat(from, old, dir, name, 0))
			err = fail(-errno, "a link to \"%s\": %s", it->target, strerror(errno));
	}
out:
	close(from);
	return err;
}

static int make_node(int dir, const char *name, const struct item *it)
{
	if (S_ISLNK(it->mode))
		return symlinkat(it->target ? it->target : "", dir, name);
	return mknodat(dir, name, (it->mode & S_IFMT) | 0600, makedev(it->rdev_major, it->rdev_minor));
}

/* Symlinks, devices, fifos, sockets: by name, for they are not to be opened. */
static int make_special(struct sink_host *h, const struct item *it)
{
	struct attrs a = attrs_of(h, it);
	char proc[64 + VFS_NAME_MAX];
	const char *name;
	int err = way_of(h, it, &name), dir, one;

	if (err)
		return err;
	dir = last_dir(h)->fd;
	if (make_node(dir, name, it)) {
		err = errno == EEXIST ? take_away(dir, name) : no("it cannot be made");
		if (!err && make_node(dir, name, it))
			err = no("it cannot be made");
	}
	if (err)
		return err;
	if (a.valid & KEEP_OWNER && fchownat(dir, name, a.uid, a.gid, AT_SYMLINK_NOFOLLOW) &&
	    (h->root || errno != EPERM))
		err = no("its owner cannot be set");
	if (!err && !S_ISLNK(it->mode) && fchmodat(dir, name, a.mode, 0))
		err = no("its mode cannot be set");
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dir, name);
	one = set_xattrs(h, -1, proc, it, NULL);
	if (a.valid & KEEP_TIMES && utimensat(dir, name, a.times, AT_SYMLINK_NOFOLLOW) && !err)
		err = no("its times cannot be set");
	return err ? err : one;
}

static int sink_make(struct sink *k, const struct item *it)
{
	struct sink_host *h = to_host(k);

	if (it->kind == ITEM_LINK)
		return make_link(h, it);
	if (it->kind != ITEM_FILE)
		return fail(-EOPNOTSUPP, "layers are for volumes");
	return S_ISDIR(it->mode) ? make_dir(h, it) : make_special(h, it);
}

/* ---- regular files ---- */

static int sink_begin(struct sink *k, const struct item *it, struct sink_file **out)
{
	struct sink_host *h = to_host(k);
	struct sink_file *sf = calloc(1, sizeof(*sf));
	const char *name = "";
	int err = sf ? way_of(h, it, &name) : fail(-ENOMEM, "no memory to copy");

	if (!err) {
		sf->fd = -1;
		sf->name = strdup(name);
		err = sf->name ? 0 : fail(-ENOMEM, "no memory to copy");
	}
	if (err) {
		free(sf);
		return err;
	}
	sf->dir = dir_get(last_dir(h));
	*out = sf;
	return 0;
}

/* Makes the file; when its name is taken, under another for the time being. */
static int open_file(struct sink_file *sf)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct stat st;

	if (sf->fd >= 0)
		return 0;
	sf->fd = openat(sf->dir->fd, sf->name, flags, 0600);
	if (sf->fd >= 0)
		return 0;
	if (errno != EEXIST)
		return no("it cannot be made");
	if (!fstatat(sf->dir->fd, sf->name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		return fail(-EISDIR, "there is a directory of that name");
	do {
		u32 chance;

		os_random(&chance, sizeof(chance));
		snprintf(sf->temp, sizeof(sf->temp), ".werunos-copy-%08x", chance);
		sf->fd = openat(sf->dir->fd, sf->temp, flags, 0600);
	} while (sf->fd < 0 && errno == EEXIST);
	if (sf->fd >= 0)
		return 0;
	sf->temp[0] = 0;
	return no("it cannot be made");
}

static int sink_write(struct sink *k, struct sink_file *sf, u64 off_bytes, void *buf, u64 len_bytes)
{
	const u8 *p = buf;
	int err = open_file(sf);

	(void)k;
	while (!err && len_bytes) {
		ssize_t n = pwrite(sf->fd, p, len_bytes, (off_t)off_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return no("it cannot be written");
		p += n;
		off_bytes += (u64)n;
		len_bytes -= (u64)n;
	}
	return err;
}

static int settle(struct sink_host *h, struct sink_file *sf, const struct item *it)
{
	struct attrs a = attrs_of(h, it);
	int err = open_file(sf), one;
	struct stat st;

	/* A hole at its end. */
	if (!err && it->data_bytes < it->size_bytes && !fstat(sf->fd, &st) &&
	    (u64)st.st_size < it->size_bytes && ftruncate(sf->fd, (off_t)it->size_bytes))
		err = no("it cannot be made so long");
	if (err)
		return err;
	err = set_owner(h, sf->fd, &a);
	one = set_xattrs(h, sf->fd, NULL, it, NULL);
	err = err ? err : one;
	one = set_attrs(sf->fd, &a);
	if (sf->temp[0] && renameat(sf->dir->fd, sf->temp, sf->dir->fd, sf->name))
		return no("it cannot take the place of what has its name");
	sf->temp[0] = 0;
	return err ? err : one;
}

static int sink_end(struct sink *k, struct sink_file *sf, const struct item *it, int err)
{
	struct sink_host *h = to_host(k);
	bool broken = err;

	if (!err)
		err = settle(h, sf, it);
	broken |= sf->temp[0] != 0;
	if (sf->fd >= 0 && close(sf->fd) && !err)
		err = no("it cannot be written");
	if (broken && sf->fd >= 0)
		unlinkat(sf->dir->fd, sf->temp[0] ? sf->temp : sf->name, 0);
	dir_put(h, sf->dir);
	free(sf->name);
	free(sf);
	return err;
}

/* ---- the end ---- */

static int sink_finish(struct sink *k)
{
	struct sink_host *h = to_host(k);

	way_back(&h->way, 0);
	return h->late_err ? fail(h->late_err, "a directory: %s", h->late_why) : 0;
}

static void sink_close(struct sink *k)
{
	struct sink_host *h = to_host(k);

	way_fini(&h->way);
	mutex_fini(&h->lock);
	free(h);
}

static const struct sink_ops sink_ops = {
	.make = sink_make,
	.begin = sink_begin,
	.write = sink_write,
	.end = sink_end,
	.finish = sink_finish,
	.close = sink_close,
};

int sink_host(const char *dir, u32 keep, u32 umask, struct sink **out)
{
	struct sink_host *h = calloc(1, sizeof(*h));
	int fd, err;

	if (!h)
		return fail(-ENOMEM, "no memory to copy");
	h->sink = (struct sink){ .ops = &sink_ops, .parallel = true, .keep = keep };
	h->way = (struct way){ .down = way_down, .leave = way_leave };
	mutex_init(&h->lock, RANK_LEAF);
	h->root = !geteuid();
	h->umask = umask;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = fd < 0 ? fail(-errno, "%s: %s", dir, strerror(errno)) : add_dir(h, fd, 0);
	if (err)
		sink_close(&h->sink);
	else
		*out = &h->sink;
	return err;
}
