/*
 * From a name to a stack of devices: the only place in host that knows the kinds of device there are.
 *
 * Interface: open.h.
 *
 * A file or device is locked while it is open: shared for reading, exclusive for writing, by a lock that belongs
 * to the open file and ends with it, on no more of it than the partition that was named; a block device is also held O_EXCL for writing, which keeps the kernel off
 * it. What the kernel already does with it, busy.c finds out.
 */
#include "open.h"

#include "busy.h"
#include "lib/log.h"
#include "number.h"
#include "probe.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

/* What mkfs and udev do to a new device takes a moment: who finds it held tries again. */
#define HELD_TRIES 10
#define HELD_NS    100000000l

/* ---- names ---- */

/* The position of "#pN" at the end, and N; NULL when there is none. */
static const char *part_suffix(const char *spec, u32 *nr)
{
	const char *hash = strrchr(spec, '#');
	u64 n;

	if (!hash || hash[1] != 'p' || !number_parse(hash + 2, 1024, &n) || !n)
		return NULL;
	*nr = (u32)n;
	return hash;
}

bool source_is_memory(const char *spec)
{
	return !strncmp(spec, "mem:", 4) || !strncmp(spec, "memfs:", 6);
}

char *source_path(const char *spec, u32 *part)
{
	const char *hash;

	*part = 0;
	if (access(spec, F_OK) == 0)
		return strdup(spec);
	hash = part_suffix(spec, part);
	return hash ? strndup(spec, (size_t)(hash - spec)) : strdup(spec);
}

int operand_split(const char *operand, char **spec, const char **path)
{
	*path = "/";
	for (const char *colon = strstr(operand, ":/"); colon; colon = strstr(colon + 1, ":/")) {
		char *head = strndup(operand, (size_t)(colon - operand)), *file;
		bool found;
		u32 part;

		file = head ? source_path(head, &part) : NULL;
		found = file && (source_is_memory(head) || access(file, F_OK) == 0);
		free(file);
		if (found) {
			*spec = head;
			*path = colon + 1;
			return 0;
		}
		free(head);
	}
	*spec = strdup(operand);
	return *spec ? 0 : fail(-ENOMEM, "no memory for a name");
}

bool source_same(const char *a, const char *b)
{
	u32 part_a, part_b;
	char *path_a = source_path(a, &part_a), *path_b = source_path(b, &part_b);
	struct stat x, y;
	bool same = path_a && path_b && part_a == part_b;

	if (same && strcmp(a, b) != 0)
		same = !stat(path_a, &x) && !stat(path_b, &y) &&
		       (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode)
				? x.st_rdev == y.st_rdev
				: x.st_dev == y.st_dev && x.st_ino == y.st_ino);
	free(path_a);
	free(path_b);
	return same;
}

/* ---- files and devices ---- */

/* What else would help, for those who can do with reading. */
static const char *or_read(const struct source_opts *opts)
{
	return opts->must_write ? "" : ", or add --ro";
}

static int open_error(const char *path, int err, bool write, const char *or_else)
{
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		return fail(-err, "%s does not exist", path);
	case EACCES:
	case EPERM:
		return fail(-err, "no permission to %s %s: ask its owner, or be root",
			    write ? "write to" : "read", path);
	case EBUSY:
		return fail(-err, "%s is in use by the kernel or another program: end that first%s", path,
			    or_else);
	case EROFS:
		return fail(-err, "%s cannot be written to%s", path, or_else);
	case ENXIO:
	case ENOMEDIUM:
		return fail(-err, "%s has no medium, or no driver", path);
	default:
		return fail(-err, "%s cannot be opened: %s", path, strerror(err));
	}
}

static int check_kind(const char *path, const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return fail(-EISDIR, "%s is a directory: name an image or a device", path);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return fail(-ENOTBLK, "%s is neither a file nor a block device", path);
	if (S_ISREG(st->st_mode) && !st->st_size)
		return fail(-ENODATA, "%s is empty", path);
	return 0;
}

/* *fd or -errno, unlogged: the caller may have another try. */
static int open_once(const char *path, const struct stat *st, bool write)
{
	int flags = O_CLOEXEC | O_NOCTTY | (write ? O_RDWR : O_RDONLY);
	int fd = -1;

	if (write && S_ISBLK(st->st_mode))
		flags |= O_EXCL;
	for (int i = 0; i < HELD_TRIES; i++) {
		fd = open(path, flags);
		if (fd >= 0 || errno != EBUSY)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = HELD_NS }, NULL);
	}
	return fd < 0 ? -errno : fd;
}

static bool may_fall_back(int err)
{
	return err == -EACCES || err == -EPERM || err == -EROFS;
}

/* The whole file, or of it the partition or window that was chosen: others may use the rest. */
static int lock_file(const struct source *s, const char *path, u64 size, const char *or_else)
{
	bool write = !s->rdonly, whole = !s->off_bytes && s->len_bytes == size;
	struct flock lk = { .l_type = write ? F_WRLCK : F_RDLCK,
			    .l_whence = SEEK_SET,
			    .l_start = (off_t)s->off_bytes,
			    .l_len = whole ? 0 : (off_t)s->len_bytes };

	if (!fcntl(s->fd, F_OFD_SETLK, &lk))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return fail(-EBUSY, "%s is in use by another program%s: end that first%s", path,
			    write ? "" : ", which writes to it", write ? or_else : "");
	/* Some network file systems have no locks. */
	log_warn("%s cannot be locked: %s", path, strerror(errno));
	return 0;
}

/* st is what was opened. */
static int open_file(const char *path, const struct source_opts *opts, struct source *out, struct stat *st)
{
	bool write = opts->write;
	int fd, err;

	if (stat(path, st) < 0)
		return open_error(path, errno, false, "");
	err = check_kind(path, st);
	if (err)
		return err;
	fd = open_once(path, st, write);
	if (fd < 0 && write && !opts->must_write && may_fall_back(fd)) {
		write = false;
		fd = open_once(path, st, false);
	}
	if (fd < 0)
		return open_error(path, -fd, write, or_read(opts));
	out->fd = fd;
	out->rdonly = !write;
	if (fstat(fd, st) < 0)
		return open_error(path, errno, write, or_read(opts));
	return S_ISREG(st->st_mode) ? busy_image(path, st, write, or_read(opts)) : 0;
}

static int file_size(const struct source *s, const struct stat *st, u64 *size, u32 *sector)
{
	int logical = 0;

	*size = (u64)st->st_size;
	*sector = 0;
	if (!S_ISBLK(st->st_mode))
		return 0;
	if (ioctl(s->fd, BLKGETSIZE64, size) < 0 || ioctl(s->fd, BLKSSZGET, &logical) < 0)
		return fail(-errno, "%s does not tell its size: %s", s->name, strerror(errno));
	if (!*size)
		return fail(-ENOMEDIUM, "%s has no medium", s->name);
	*sector = (u32)logical;
	return 0;
}

/* ---- partitions ---- */

static int choose_part(struct source *s, const char *path, const struct ptable *t, u32 nr, u64 size)
{
	const struct part *p = ptable_find(t, nr);
	struct text have = { 0 };
	int err = 0;

	if (!t->type[0]) {
		err = fail(-ENXIO, "%s has no partition table: leave the partition number away", path);
	} else if (!p) {
		ptable_numbers(t, &have);
		err = fail(-ENXIO, "%s has no partition %u: it has %s", path, nr,
			   have.len_bytes ? text_str(&have) : "none");
	} else if (p->extended) {
		err = fail(-ENXIO, "partition %u of %s only holds other partitions: choose one of those", nr,
			   path);
	} else if (p->off_bytes > size || p->len_bytes > size - p->off_bytes) {
		err = fail(-ERANGE,
			   "partition %u goes beyond the end of %s: the image is truncated, copy it again",
			   nr, path);
	} else {
		s->off_bytes = p->off_bytes;
		s->len_bytes = p->len_bytes;
	}
	text_free(&have);
	return err;
}

/* Sets the window that was asked for. */
static int choose_window(struct source *s, const char *path, const struct source_opts *opts, u32 part,
			 u64 size, u32 sector)
{
	struct ptable t;
	int err;

	s->len_bytes = size;
	if (opts->has_offset) {
		if (opts->offset_bytes >= size)
			return fail(-ERANGE, "offset %llu is beyond the end of %s, which has %llu bytes",
				    (unsigned long long)opts->offset_bytes, path, (unsigned long long)size);
		s->off_bytes = opts->offset_bytes;
		s->len_bytes = size - opts->offset_bytes;
		return 0;
	}
	if (!part)
		return 0;
	err = probe_ptable(s->fd, size, sector, &t);
	if (err)
		return err;
	err = choose_part(s, path, &t, part, size);
	ptable_free(&t);
	return err;
}

/* ---- sources ---- */

static int open_memory(const char *spec, struct source *out)
{
	const char *size = strchr(spec, ':') + 1;
	u64 bytes;

	if (!size_parse(size, &bytes) || bytes < 65536)
		return fail(-EINVAL, "%s: a size like 64M is wanted after the colon", spec);
	if (!strncmp(spec, "memfs:", 6))
		out->fs = "memfs";
	out->name = strdup(spec);
	if (!out->name)
		return fail(-ENOMEM, "no memory for a name");
	out->len_bytes = bytes;
	return dev_mem_new(spec, bytes, 1, &out->dev);
}

/* The device over the open file: a window of it when one was asked for. */
static int make_device(struct source *s, u64 size)
{
	int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3), err;
	struct blkdev *whole;

	if (fd < 0)
		return fail(-errno, "%s: %s", s->name, strerror(errno));
	err = dev_file_fd(fd, s->name, s->dev_flags | (s->rdonly ? 0 : DEV_WRITE), &whole);
	if (err)
		return err;
	if (s->off_bytes || s->len_bytes != size) {
		err = dev_part_new(whole, s->name, s->off_bytes, s->len_bytes, &s->dev);
		blkdev_put(whole);
	} else {
		s->dev = whole;
	}
	return err;
}

static int open_path(const char *path, u32 part, const struct source_opts *opts, struct source *s)
{
	char *real = realpath(path, NULL);
	struct stat st;
	u64 size;
	u32 sector;
	int err;

	if (asprintf(&s->name, part ? "%s#p%u" : "%s", real ? real : path, part) < 0)
		s->name = NULL;
	free(real);
	if (!s->name)
		return fail(-ENOMEM, "no memory for a name");
	err = open_file(path, opts, s, &st);
	if (!err)
		err = file_size(s, &st, &size, &sector);
	if (!err)
		err = choose_window(s, path, opts, part, size, sector);
	if (!err)
		err = lock_file(s, path, size, or_read(opts));
	if (!err && S_ISBLK(st.st_mode))
		err = busy_device(path, st.st_rdev, s->off_bytes, s->len_bytes, !s->rdonly, or_read(opts));
	return err ? err : make_device(s, size);
}

/* One device. */
static int open_one(const char *spec, const struct source_opts *opts, struct source *out)
{
	char *path;
	u32 part;
	int err;

	*out = (struct source){ .fd = -1, .dev_flags = opts->dev_flags };
	if (source_is_memory(spec)) {
		err = open_memory(spec, out);
	} else {
		path = source_path(spec, &part);
		if (!path)
			return fail(-ENOMEM, "no memory for a name");
		err = open_path(path, opts->part ? opts->part : part, opts, out);
		free(path);
	}
	return err;
}

/* Where the first one could not be opened for writing the others need not be. */
static int open_beside(const struct source *s, const char *spec, struct source *out)
{
	const struct source_opts opts = { .write = !s->rdonly,
					  .must_write = !s->rdonly,
					  .dev_flags = s->dev_flags };
	int err = open_one(spec, &opts, out);

	if (err)
		source_close(out);
	return err;
}

int source_add(struct source *s, const char *spec)
{
	struct source *more = realloc(s->more, (s->more_count + 1ul) * sizeof(*more));
	int err;

	if (!more)
		return fail(-ENOMEM, "no memory for a device");
	s->more = more;
	err = open_beside(s, spec, &more[s->more_count]);
	s->more_count += !err;
	return err;
}

static int add_journal(struct source *s, const char *spec)
{
	s->journal = calloc(1, sizeof(*s->journal));
	if (!s->journal)
		return fail(-ENOMEM, "no memory for a device");
	return open_beside(s, spec, s->journal);
}

static bool same_place(const struct source *a, const struct source *b)
{
	struct stat x, y;

	if (a->fd < 0 || b->fd < 0 || fstat(a->fd, &x) || fstat(b->fd, &y) || a->off_bytes != b->off_bytes)
		return false;
	return S_ISBLK(x.st_mode) ? S_ISBLK(y.st_mode) && x.st_rdev == y.st_rdev
				  : x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What was named before is one device all the same. */
static void drop_repeated(struct source *s)
{
	struct source *last = s->more_count ? &s->more[s->more_count - 1] : NULL;
	bool again = last && same_place(s, last);

	for (u32 i = 0; last && i + 1 < s->more_count && !again; i++)
		again = same_place(&s->more[i], last);
	if (again) {
		source_close(last);
		s->more_count--;
	}
}

int source_open(const char *spec, const struct source_opts *opts, struct source *out)
{
	int err = open_one(spec, opts, out);

	for (u32 i = 0; !err && i < opts->device_count; i++) {
		err = source_add(out, opts->device[i]);
		if (!err)
			drop_repeated(out);
	}
	if (!err && opts->journal)
		err = add_journal(out, opts->journal);
	out->named = opts->device_count > 0;
	if (err)
		source_close(out);
	return err;
}

void source_close(struct source *s)
{
	for (u32 i = 0; i < s->more_count; i++)
		source_close(&s->more[i]);
	free(s->more);
	if (s->journal)
		source_close(s->journal);
	free(s->journal);
	blkdev_put(s->dev);
	if (s->fd >= 0)
		close(s->fd);
	free(s->name);
	*s = (struct source){ .fd = -1 };
}
