/*
 * The host's trees as a feed. Everything is asked by path; a path longer than the kernel takes is begun from a directory that is opened
 * for it.
 */
#include "tree.h"

#include "lib/scope.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_BYTES 65536u
#define STEP_BYTES  2048u /* of a long path at once */

struct feed_host {
	struct tree tree;
	char *top;
	dev_t dev; /* the top's */
	char *name;
	bool is_file;                                            /* the top is one */
	char xattr_names[XATTR_BYTES], xattr_value[XATTR_BYTES]; /* [next] */
};

/* A directory that was entered, with those above it. */
struct host_dir {
	char *path; /* from the top */
	dev_t dev;
	ino_t ino;
	struct host_dir *up;
};

static struct feed_host *to_host(struct tree *t)
{
	return container_of(t, struct feed_host, tree);
}

/* ---- paths of any length ---- */

struct host_path {
	char buf[PATH_MAX];
	int fd; /* that buf begins from; -1: none */
};

static void host_path_done(struct host_path *p)
{
	if (p->fd >= 0)
		close(p->fd);
}

/* Opens the directory that the first `len` bytes of path (from the top) lead to. */
static int open_steps(const struct feed_host *h, const char *path, size_t len)
{
	int fd = open(h->top, O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t at = 0; fd >= 0 && at < len;) {
		char step[STEP_BYTES + 256];
		size_t n = MIN(len - at, (size_t)STEP_BYTES);
		int next;

		while (at + n < len && path[at + n] != '/')
			n++;
		memcpy(step, path + at, n);
		step[n] = 0;
		next = openat(fd, step, O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
		at += n + 1;
	}
	return fd;
}

/* What the kernel takes for the top's `path`. */
static int host_path(const struct feed_host *h, const char *path, struct host_path *out)
{
	const char *last;
	int n = snprintf(out->buf, sizeof(out->buf), *path ? "%s/%s" : "%s", h->top, path);

	out->fd = -1;
	if (n < (int)sizeof(out->buf))
		return 0;
	last = strrchr(path, '/');
	out->fd = last ? open_steps(h, path, (size_t)(last - path)) : -1;
	if (out->fd < 0)
		return fail(last ? -errno : -ENAMETOOLONG, "its path cannot be followed: %s",
			    strerror(last ? errno : ENAMETOOLONG));
	snprintf(out->buf, sizeof(out->buf), "/proc/self/fd/%d/%s", out->fd, last + 1);
	return 0;
}

/* ---- items ---- */

static int no(const char *what)
{
	return fail(-errno, "%s: %s", what, strerror(errno));
}

static int add_target(const struct host_path *p, u64 size, struct item *it)
{
	size_t room = MAX(size, 255ul) + 2;
	ssize_t n;

	it->target = malloc(room);
	if (!it->target)
		return fail(-ENOMEM, "no memory for a link");
	n = readlink(p->buf, it->target, room - 1);
	if (n < 0)
		return no("the link cannot be read");
	it->target[n] = 0;
	return 0;
}

static ssize_t list_xattrs(const struct feed_host *h, const struct host_path *p, char *buf)
{
	bool follow = h->tree.feed.select && h->tree.feed.select->dereference;

	return follow ? listxattr(p->buf, buf, XATTR_BYTES) : llistxattr(p->buf, buf, XATTR_BYTES);
}

static int add_xattrs(struct feed_host *h, const struct host_path *p, struct item *it)
{
	bool follow = h->tree.feed.select && h->tree.feed.select->dereference;
	ssize_t len = list_xattrs(h, p, h->xattr_names);
	int err = 0;

	if (len < 0)
		return errno == ENOTSUP || errno == ENOSYS ? 0 : no("its attributes cannot be listed");
	for (const char *name = h->xattr_names; !err && name < h->xattr_names + len;
	     name += strlen(name) + 1) {
		ssize_t n = follow ? getxattr(p->buf, name, h->xattr_value, XATTR_BYTES)
				   : lgetxattr(p->buf, name, h->xattr_value, XATTR_BYTES);

		if (n >= 0)
			err = item_add_xattr(it, name, h->xattr_value, (u32)n);
		else if (errno != ENODATA && errno != ENOTSUP)
			err = fail(-errno, "its attribute %s cannot be read: %s", name, strerror(errno));
	}
	return err;
}

static void from_stat(const struct stat *st, struct item *it)
{
	it->mode = st->st_mode;
	it->uid = st->st_uid;
	it->gid = st->st_gid;
	it->rdev_major = major(st->st_rdev);
	it->rdev_minor = minor(st->st_rdev);
	it->atime = (struct timespec64){ st->st_atim.tv_sec, (u32)st->st_atim.tv_nsec };
	it->mtime = (struct timespec64){ st->st_mtim.tv_sec, (u32)st->st_mtim.tv_nsec };
	it->has = ITEM_OWNER | ITEM_ATIME | ITEM_MTIME;
	if (S_ISREG(st->st_mode)) {
		it->size_bytes = (u64)st->st_size;
		it->data_bytes = MIN((u64)st->st_blocks * 512, it->size_bytes);
	}
}

static int as_link(struct tree *t, const struct stat *st, struct item *it, bool *is_link)
{
	const char *first;
	int err = tree_seen(t, st->st_dev, st->st_ino, it->path, &first);

	*is_link = !err && first;
	if (!*is_link)
		return err;
	it->kind = ITEM_LINK;
	it->target = strdup(first);
	return it->target ? 0 : fail(-ENOMEM, "no memory for hard links");
}

static int inspect(struct feed_host *h, const struct host_path *p, struct stat *st, struct item *it)
{
	const struct select *sel = h->tree.feed.select;
	bool is_link = false;
	int err = 0;

	if (sel && sel->dereference ? stat(p->buf, st) : lstat(p->buf, st))
		return no("it cannot be looked at");
	from_stat(st, it);
	if (S_ISREG(st->st_mode) && sel && sel->dst_ino == st->st_ino && sel->dst_dev == st->st_dev)
		return fail(-EINVAL, "it is what is copied to: --exclude leaves it out");
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1 && !(sel && sel->dereference))
		err = as_link(&h->tree, st, it, &is_link);
	if (err || is_link)
		return err;
	if (S_ISLNK(st->st_mode))
		err = add_target(p, (u64)st->st_size, it);
	return err ? err : add_xattrs(h, p, it);
}

/* It is one of the directories it lies in. */
static bool is_above(const struct host_dir *d, const struct stat *st)
{
	for (; d; d = d->up)
		if (d->dev == st->st_dev && d->ino == st->st_ino)
			return true;
	return false;
}

static int look(struct tree *t, void *dir, const char *name, const char *path, struct item **out, void **into)
{
	struct feed_host *h = to_host(t);
	const struct select *sel = t->feed.select;
	scoped(host_path_done) struct host_path p = { .fd = -1 };
	struct item *it = item_new(path);
	struct host_dir *d;
	struct stat st;
	int err;

	(void)name;
	*out = it;
	if (!it)
		return fail(-ENOMEM, "no memory for a tree");
	err = host_path(h, path, &p);
	if (!err)
		err = inspect(h, &p, &st, it);
	if (!err && S_ISDIR(st.st_mode) && sel && sel->dereference && is_above(dir, &st))
		err = fail(-ELOOP, "a link to a directory that it lies in");
	if (err) {
		item_spoil(it, err);
		return err == -ENOMEM ? err : 0;
	}
	if (!S_ISDIR(st.st_mode)) {
		h->is_file |= !dir;
		return 0;
	}
	if (!dir)
		h->dev = st.st_dev;
	if (sel && sel->one_file_system && st.st_dev != h->dev)
		return 0;
	d = malloc(sizeof(*d));
	if (!d)
		return fail(-ENOMEM, "no memory for a tree");
	*d = (struct host_dir){ strdup(path), st.st_dev, st.st_ino, dir };
	*into = d;
	return d->path ? 0 : fail(-ENOMEM, "no memory for a tree");
}

static int list(struct tree *t, void *dir, struct tree_names *to)
{
	const struct host_dir *d = dir;
	scoped(host_path_done) struct host_path p = { .fd = -1 };
	int err = host_path(to_host(t), d->path, &p);
	struct dirent *de;
	DIR *dp;

	if (err)
		return err;
	dp = opendir(p.buf);
	if (!dp)
		return no("the directory cannot be listed");
	while (!err && (errno = 0, de = readdir(dp)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			err = tree_add(to, de->d_name, strlen(de->d_name));
	if (!err && errno)
		err = no("the directory cannot be listed");
	closedir(dp);
	return err;
}

static void leave(struct tree *t, void *dir)
{
	struct host_dir *d = dir;

	(void)t;
	free(d->path);
	free(d);
}

static const struct tree_ops tree_ops = { look, list, leave };

/* ---- data ---- */

static int changed(void)
{
	return fail(-EIO, "the file became shorter while it was read");
}

/* [at, end) of the file. */
static int move(int fd, u64 at, u64 end, struct outlet *to)
{
	while (at < end) {
		u64 room;
		u8 *buf = to->room(to, end - at, &room);
		ssize_t n;
		int err;

		if (!buf)
			return -ECANCELED;
		do
			n = pread(fd, buf, room, (off_t)at);
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return n ? no("it cannot be read") : changed();
		err = to->put(to, at, (u64)n);
		if (err)
			return err;
		at += (u64)n;
	}
	return 0;
}

/* The first data at or behind `at`; len 0: there are none. A file system that does not know about holes has none. */
static struct item_range data_behind(int fd, u64 at, u64 size)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO)
		return (struct item_range){ size, 0 };
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return (struct item_range){ at, size - at };
	if ((u64)data >= size)
		return (struct item_range){ size, 0 };
	return (struct item_range){ (u64)data, MIN((u64)hole, size) - (u64)data };
}

static int move_data(int fd, const struct item *it, struct outlet *to)
{
	struct item_range r = { 0 };
	struct stat st;
	int err = 0;

	do {
		r = data_behind(fd, r.off_bytes + r.len_bytes, it->size_bytes);
		err = move(fd, r.off_bytes, r.off_bytes + r.len_bytes, to);
	} while (!err && r.len_bytes && r.off_bytes + r.len_bytes < it->size_bytes);
	/* Behind its end nothing is a hole. */
	if (!err && (fstat(fd, &st) || (u64)st.st_size < it->size_bytes))
		err = changed();
	return err;
}

static int open_file(struct feed_host *h, const struct item *it, int *fd)
{
	int nofollow = h->tree.feed.select && h->tree.feed.select->dereference ? 0 : O_NOFOLLOW;
	scoped(host_path_done) struct host_path p = { .fd = -1 };
	int err = host_path(h, h->is_file ? "" : it->feed_path, &p);

	if (err)
		return err;
	/* It may have become a fifo by now, for whose writer nobody is to wait. */
	*fd = open(p.buf, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOATIME | nofollow);
	if (*fd < 0 && errno == EPERM)
		*fd = open(p.buf, O_RDONLY | O_CLOEXEC | O_NONBLOCK | nofollow);
	return *fd < 0 ? no("it cannot be opened") : 0;
}

static int fill(struct feed *f, const struct item *it, struct outlet *to)
{
	int fd, err = open_file(container_of(f, struct feed_host, tree.feed), it, &fd);

	if (err)
		return err;
	err = it->data_bytes < it->size_bytes ? move_data(fd, it, to) : move(fd, 0, it->size_bytes, to);
	close(fd);
	return err;
}

static int map(struct feed *f, struct item *it)
{
	struct item_range r = { 0 };
	int fd, err = open_file(container_of(f, struct feed_host, tree.feed), it, &fd);

	if (err)
		return err;
	do {
		r = data_behind(fd, r.off_bytes + r.len_bytes, it->size_bytes);
		if (r.len_bytes)
			err = item_add_range(it, r.off_bytes, r.len_bytes);
	} while (!err && r.len_bytes && r.off_bytes + r.len_bytes < it->size_bytes);
	close(fd);
	if (!err)
		it->has |= ITEM_MAP;
	return err == -E2BIG ? 0 : err;
}

static void feed_close(struct feed *f)
{
	struct feed_host *h = container_of(f, struct feed_host, tree.feed);

	tree_fini(&h->tree);
	free(h->top);
	free(h->name);
	free(h);
}

static const struct feed_ops feed_ops = { .next = tree_next, .fill = fill, .map = map, .close = feed_close };

int feed_host(const char *path, const char *name, const struct select *select, struct feed **out)
{
	struct feed_host *h = calloc(1, sizeof(*h));
	struct stat st;
	size_t n;

	if (!h)
		return fail(-ENOMEM, "no memory to copy");
	h->tree = (struct tree){ .feed = { .ops = &feed_ops, .select = select }, .ops = &tree_ops };
	h->top = strdup(path);
	for (n = h->top ? strlen(h->top) : 0; n > 1 && h->top[n - 1] == '/';)
		h->top[--n] = 0;
	if (!h->top || lstat(path, &st)) {
		int err = fail(h->top ? -errno : -ENOMEM, "%s: %s", path, strerror(h->top ? errno : ENOMEM));

		feed_close(&h->tree.feed);
		return err;
	}
	h->name = strdup(name);
	if (!h->name) {
		feed_close(&h->tree.feed);
		return fail(-ENOMEM, "no memory to copy");
	}
	h->tree.name = h->name;
	*out = &h->tree.feed;
	return 0;
}
