/*
 * A tar archive as a sink: ustar headers, and before them what they have no room for, in the form of pax. The same items give the same
 * bytes: names and numbers are those of the items, nothing is this machine's or of now.
 *
 * A header stands before its file's bytes and says how many they are. It is kept back until the first of them is there, so that a file which
 * cannot be read at all leaves nothing. One that breaks off later is filled up with zeros, as tar does, and told of by who copies.
 * Files with holes have GNU's sparse format 1.0: a map, then what is no hole, one piece after the other.
 *
 * Names are written as they are, in UTF-8 or not. Inode flags have no form in tar that others would read: they stay behind.
 */
#include "tar.h"

#include "archive_lib.h"
#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES (1u << 20) /* that are given to the file at once */
#define OCTAL_7     07777777u
#define OCTAL_11    077777777777ull
#define ZEROS_BYTES 65536u

struct sink_tar {
	struct sink sink;
	char *name;
	const struct libarchive *la;
	struct archive *a; /* only for its filter */
	int fd;            /* -1: closed */
	int err;           /* of the first write that failed */
};

/* One is open at a time. */
struct sink_file {
	const struct item *it;
	bool begun; /* the header is written */
	bool sparse;
	u32 range;        /* sparse: in which at_bytes is */
	u64 at_bytes;     /* of the file; what is below it is written */
	u64 stored_bytes; /* that the header said */
};

static const u8 zeros[ZEROS_BYTES];

static struct sink_tar *to_tar(struct sink *k)
{
	return container_of(k, struct sink_tar, sink);
}

/* ---- bytes ---- */

/* libarchive is not told of errors: what it has open it would not give back then. */
static la_ssize_t give(struct archive *a, void *ctx, const void *buf, size_t len)
{
	struct sink_tar *t = ctx;
	const u8 *p = buf;
	size_t left = len;

	(void)a;
	while (!t->err && left) {
		ssize_t n = write(t->fd, p, left);

		if (n < 0 && errno != EINTR)
			t->err = -errno;
		p += n > 0 ? n : 0;
		left -= n > 0 ? (size_t)n : 0;
	}
	return (la_ssize_t)len;
}

static int out_failed(struct sink_tar *t)
{
	const char *why = t->err ? strerror(-t->err) : t->la->archive_error_string(t->a);

	return fail(t->err ? t->err : -ENOMEM, "%s cannot be written: %s", t->name,
		    why ? why : "unknown reason");
}

static int put(struct sink_tar *t, const void *p, u64 len)
{
	while (len) {
		la_ssize_t n = t->la->archive_write_data(t->a, p, len);

		if (n <= 0 || t->err)
			return out_failed(t);
		p = (const u8 *)p + n;
		len -= (u64)n;
	}
	return 0;
}

static int put_zeros(struct sink_tar *t, u64 len)
{
	int err = 0;

	while (!err && len) {
		u64 n = MIN(len, (u64)ZEROS_BYTES);

		err = put(t, zeros, n);
		len -= n;
	}
	return err;
}

static int put_padding(struct sink_tar *t, u64 len)
{
	return put_zeros(t, (0 - len) % TAR_BLOCK);
}

/* ---- headers ---- */

/* What fits; what does not is said by a record. */
static void octal(char *field, u32 digits, u64 v)
{
	for (u32 i = digits; i-- > 0; v >>= 3)
		field[i] = (char)('0' + (v & 7));
}

static void put_sum(struct tar_disk_header *d)
{
	const u8 *p = (const u8 *)d;
	u32 sum = 0;

	memset(d->sum, ' ', sizeof(d->sum));
	for (u32 i = 0; i < sizeof(*d); i++)
		sum += p[i];
	octal(d->sum, 6, sum);
	d->sum[6] = 0;
}

/* Zeros stand for what does not fit. */
static void header_init(struct tar_disk_header *d, char type, const char *name, size_t name_len, u64 size)
{
	*d = (struct tar_disk_header){ .type = { type }, .version = { '0', '0' } };
	memcpy(d->magic, "ustar", sizeof(d->magic));
	memcpy(d->name, name, MIN(name_len, sizeof(d->name)));
	octal(d->mode, 7, 0644);
	octal(d->uid, 7, 0);
	octal(d->gid, 7, 0);
	octal(d->size, 11, size <= OCTAL_11 ? size : 0);
	octal(d->mtime, 11, 0);
}

static u32 digits_of(u64 v)
{
	u32 n = 1;

	while (v >= 10) {
		v /= 10;
		n++;
	}
	return n;
}

/* "LENGTH KEY=VALUE\n", where LENGTH is that of all of it. */
static void record(struct text *t, const char *key, const char *sub, const void *value, u64 len)
{
	u64 rest = strlen(key) + strlen(sub) + len + 3, all = rest + digits_of(rest);

	if (digits_of(all) != digits_of(rest))
		all = rest + digits_of(all);
	text_add(t, "%llu %s%s=", (unsigned long long)all, key, sub);
	text_add_bytes(t, value, len);
	text_add_bytes(t, "\n", 1);
}

static void record_number(struct text *t, const char *key, u64 v)
{
	char s[24];

	snprintf(s, sizeof(s), "%llu", (unsigned long long)v);
	record(t, key, "", s, strlen(s));
}

/* Seconds with a fraction; before 1970 too. */
static void record_time(struct text *t, const char *key, const struct timespec64 *ts)
{
	bool minus = ts->sec < 0;
	u64 sec = minus ? 0 - (u64)ts->sec : (u64)ts->sec;
	u32 nsec = ts->nsec;
	char s[48];
	int n;

	if (minus && nsec) {
		sec--;
		nsec = 1000000000 - nsec;
	}
	n = snprintf(s, sizeof(s), "%s%llu", minus ? "-" : "", (unsigned long long)sec);
	if (nsec)
		n += snprintf(s + n, sizeof(s) - (size_t)n, ".%09u", nsec);
	while (nsec && s[n - 1] == '0')
		s[--n] = 0;
	record(t, key, "", s, (u64)n);
}

/* An attribute's name in a keyword: as GNU tar has it, for what would end it. */
static void record_xattr(struct text *t, const struct item_xattr *x)
{
	struct text name = { 0 };

	for (const char *p = x->name; *p; p++) {
		if (*p == '%' || *p == '=')
			text_add(&name, "%%%02X", (u8)*p);
		else
			text_add_bytes(&name, p, 1);
	}
	record(t, "SCHILY.xattr.", text_str(&name), x->value, x->len_bytes);
	t->oom |= name.oom;
	text_free(&name);
}

static int record_acl(struct text *t, const struct item_xattr *x)
{
	bool is_default = !strcmp(x->name, "system.posix_acl_default");
	struct text acl = { 0 };
	int err = tar_acl_text(x->value, x->len_bytes, &acl);

	if (!err && acl.len_bytes)
		record(t, is_default ? "SCHILY.acl.default" : "SCHILY.acl.access", "", text_str(&acl),
		       acl.len_bytes);
	t->oom |= acl.oom;
	text_free(&acl);
	return err;
}

static int record_xattrs(struct text *t, const struct item *it)
{
	int err = 0;

	for (u32 i = 0; !err && i < it->xattrs; i++) {
		const struct item_xattr *x = &it->xattr[i];

		if (!strncmp(x->name, "system.posix_acl_", 17))
			err = record_acl(t, x);
		else
			record_xattr(t, x);
	}
	return err;
}

static bool time_fits(const struct timespec64 *ts)
{
	return !ts->nsec && ts->sec >= 0 && (u64)ts->sec <= OCTAL_11;
}

static char type_of(const struct item *it)
{
	if (it->kind == ITEM_LINK)
		return '1';
	switch (it->mode & S_IFMT) {
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFDIR:
		return '5';
	case S_IFIFO:
		return '6';
	case S_IFREG:
		return '0';
	}
	return 0;
}

/* What the header has no room for, in the order of their kinds. */
static int records(const struct item *it, const char *path, u64 stored, bool sparse, struct text *t)
{
	bool device = S_ISCHR(it->mode) || S_ISBLK(it->mode);

	if (sparse) {
		record_number(t, "GNU.sparse.major", 1);
		record_number(t, "GNU.sparse.minor", 0);
		record(t, "GNU.sparse.name", "", path, strlen(path));
		record_number(t, "GNU.sparse.realsize", it->size_bytes);
	} else if (strlen(path) > sizeof(((struct tar_disk_header *)0)->name)) {
		record(t, "path", "", path, strlen(path));
	}
	if (it->target && strlen(it->target) > sizeof(((struct tar_disk_header *)0)->link))
		record(t, "linkpath", "", it->target, strlen(it->target));
	if (stored > OCTAL_11)
		record_number(t, "size", stored);
	if (it->uid > OCTAL_7)
		record_number(t, "uid", it->uid);
	if (it->gid > OCTAL_7)
		record_number(t, "gid", it->gid);
	if (it->has & ITEM_MTIME && !time_fits(&it->mtime))
		record_time(t, "mtime", &it->mtime);
	if (it->has & ITEM_ATIME)
		record_time(t, "atime", &it->atime);
	if (device && it->rdev_major > OCTAL_7)
		record_number(t, "SCHILY.devmajor", it->rdev_major);
	if (device && it->rdev_minor > OCTAL_7)
		record_number(t, "SCHILY.devminor", it->rdev_minor);
	return it->kind == ITEM_LINK ? 0 : record_xattrs(t, it);
}

/* The end of a path, as long as a name of a header may be. */
static const char *tail_of(const char *path, size_t room)
{
	size_t n = strlen(path);

	return n > room ? path + (n - room) : path;
}

/* A header of its own for the records. */
static int put_records(struct sink_tar *t, const char *path, const struct text *r)
{
	struct tar_disk_header d;
	char name[100];
	int n, err;

	n = snprintf(name, sizeof(name), "PaxHeaders/%s", tail_of(path, 80));
	header_init(&d, 'x', name, (size_t)n, r->len_bytes);
	put_sum(&d);
	err = put(t, &d, sizeof(d));
	if (!err)
		err = put(t, text_str(r), r->len_bytes);
	return err ? err : put_padding(t, r->len_bytes);
}

/* How the archive calls it: directories with a slash. */
static int path_of(const struct item *it, struct text *path)
{
	bool dir = it->kind == ITEM_FILE && S_ISDIR(it->mode);

	text_add(path, "%s%s", *it->path ? it->path : ".", dir ? "/" : "");
	return path->oom ? fail(-ENOMEM, "no memory for a path") : 0;
}

/* stored: bytes that will follow. */
static int put_header(struct sink_tar *t, const struct item *it, u64 stored, bool sparse)
{
	struct text path = { 0 }, r = { 0 };
	struct tar_disk_header d;
	const char *name;
	int err = path_of(it, &path);

	if (!err)
		err = records(it, text_str(&path), stored, sparse, &r);
	if (!err && r.oom)
		err = fail(-ENOMEM, "no memory for a header");
	if (!err && r.len_bytes)
		err = put_records(t, text_str(&path), &r);
	name = path.len_bytes > sizeof(d.name) ? tail_of(text_str(&path), sizeof(d.name) - 1)
					       : text_str(&path);
	header_init(&d, type_of(it), name, strlen(name), stored);
	octal(d.mode, 7, it->mode & 07777);
	octal(d.uid, 7, it->uid <= OCTAL_7 ? it->uid : 0);
	octal(d.gid, 7, it->gid <= OCTAL_7 ? it->gid : 0);
	if (it->has & ITEM_MTIME && it->mtime.sec >= 0 && (u64)it->mtime.sec <= OCTAL_11)
		octal(d.mtime, 11, (u64)it->mtime.sec);
	if (it->target)
		memcpy(d.link, it->target, MIN(strlen(it->target), sizeof(d.link)));
	if (S_ISCHR(it->mode) || S_ISBLK(it->mode)) {
		octal(d.dev_major, 7, it->rdev_major <= OCTAL_7 ? it->rdev_major : 0);
		octal(d.dev_minor, 7, it->rdev_minor <= OCTAL_7 ? it->rdev_minor : 0);
	}
	put_sum(&d);
	if (!err)
		err = put(t, &d, sizeof(d));
	text_free(&path);
	text_free(&r);
	return err;
}

static int sink_make(struct sink *k, const struct item *it)
{
	if (it->kind == ITEM_WHITEOUT || it->kind == ITEM_OPAQUE)
		return fail(-EOPNOTSUPP, "tar has no form for what a layer takes away");
	if (!type_of(it))
		return fail(-EOPNOTSUPP, "a %s, for which tar has no form",
			    S_ISSOCK(it->mode) ? "socket" : "file of no known type");
	return put_header(to_tar(k), it, 0, false);
}

/* ---- regular files ---- */

static u64 sum_of(const struct item *it)
{
	u64 sum = 0;

	for (u32 i = 0; i < it->ranges; i++)
		sum += it->range[i].len_bytes;
	return sum;
}

static void map_text(const struct item *it, struct text *out)
{
	const struct item_range *last = it->ranges ? &it->range[it->ranges - 1] : NULL;
	bool hole_at_end = !last || last->off_bytes + last->len_bytes < it->size_bytes;

	/* A hole at the end is an empty piece, so that those who go by the map alone make the file as long as it is. */
	text_add(out, "%u\n", it->ranges + hole_at_end);
	for (u32 i = 0; i < it->ranges; i++)
		text_add(out, "%llu\n%llu\n", (unsigned long long)it->range[i].off_bytes,
			 (unsigned long long)it->range[i].len_bytes);
	if (hole_at_end)
		text_add(out, "%llu\n0\n", (unsigned long long)it->size_bytes);
}

/* The header, and the map of a sparse file. */
static int file_begin(struct sink_tar *t, struct sink_file *sf)
{
	const struct item *it = sf->it;
	struct text map = { 0 };
	u64 map_bytes;
	int err;

	sf->begun = true;
	if (!sf->sparse) {
		sf->stored_bytes = it->size_bytes;
		return put_header(t, it, it->size_bytes, false);
	}
	map_text(it, &map);
	map_bytes = ALIGN_UP((u64)map.len_bytes, TAR_BLOCK);
	sf->stored_bytes = map_bytes + sum_of(it);
	err = map.oom ? fail(-ENOMEM, "no memory for a file with holes")
		      : put_header(t, it, sf->stored_bytes, true);
	if (!err)
		err = put(t, text_str(&map), map.len_bytes);
	if (!err)
		err = put_padding(t, map.len_bytes);
	text_free(&map);
	return err;
}

static int sink_begin(struct sink *k, const struct item *it, struct sink_file **out)
{
	struct sink_file *sf = calloc(1, sizeof(*sf));

	(void)k;
	if (!sf)
		return fail(-ENOMEM, "no memory to copy");
	sf->it = it;
	sf->sparse = it->has & ITEM_MAP && it->size_bytes - sum_of(it) >= TAR_BLOCK;
	*out = sf;
	return 0;
}

static int changed(void)
{
	return fail(-ESTALE, "the file changed while it was read");
}

/* Up to `to`: zeros where nothing was given, in what is no hole. */
static int fill_up(struct sink_tar *t, struct sink_file *sf, u64 to)
{
	const struct item *it = sf->it;
	int err = 0;

	if (!sf->sparse) {
		err = put_zeros(t, to - sf->at_bytes);
		sf->at_bytes = to;
		return err;
	}
	while (!err && sf->at_bytes < to) {
		const struct item_range *r = &it->range[sf->range];
		u64 end;

		if (sf->range == it->ranges || r->off_bytes >= to)
			break;
		end = MIN(r->off_bytes + r->len_bytes, to);
		err = put_zeros(t, end - MAX(sf->at_bytes, r->off_bytes));
		sf->at_bytes = end;
		sf->range += end == r->off_bytes + r->len_bytes;
	}
	sf->at_bytes = MAX(sf->at_bytes, to);
	return err;
}

/* Bytes from at_bytes on; of a sparse file all in one piece. */
static int put_data(struct sink_tar *t, struct sink_file *sf, const void *buf, u64 len)
{
	const struct item *it = sf->it;
	int err;

	if (len > it->size_bytes - sf->at_bytes)
		return changed();
	if (sf->sparse) {
		const struct item_range *r = &it->range[sf->range];

		if (sf->range == it->ranges || sf->at_bytes < r->off_bytes ||
		    len > r->off_bytes + r->len_bytes - sf->at_bytes)
			return changed();
		sf->range += sf->at_bytes + len == r->off_bytes + r->len_bytes;
	}
	err = put(t, buf, len);
	sf->at_bytes += len;
	return err;
}

static int sink_write(struct sink *k, struct sink_file *sf, u64 off_bytes, void *buf, u64 len_bytes)
{
	struct sink_tar *t = to_tar(k);
	int err = sf->begun ? 0 : file_begin(t, sf);

	if (!err && off_bytes > sf->it->size_bytes)
		err = changed();
	if (!err)
		err = fill_up(t, sf, off_bytes);
	return err ? err : put_data(t, sf, buf, len_bytes);
}

static int sink_end(struct sink *k, struct sink_file *sf, const struct item *it, int err)
{
	struct sink_tar *t = to_tar(k);

	if (!err && !sf->begun)
		err = file_begin(t, sf);
	if (sf->begun) {
		int end = fill_up(t, sf, it->size_bytes);

		if (!end)
			end = put_padding(t, sf->stored_bytes);
		err = err ? err : end;
	}
	free(sf);
	return err;
}

/* ---- the archive ---- */

static int close_out(struct sink_tar *t)
{
	int fd = t->fd;

	t->fd = -1;
	return fd > STDOUT_FILENO ? close(fd) : 0;
}

static int sink_finish(struct sink *k)
{
	struct sink_tar *t = to_tar(k);
	int err = put_zeros(t, 2 * TAR_BLOCK);

	if (t->la->archive_write_close(t->a) != ARCHIVE_OK || t->err)
		err = err ? err : out_failed(t);
	if (close_out(t) && !err)
		err = fail(-errno, "%s cannot be written: %s", t->name, strerror(errno));
	return err;
}

static void sink_close(struct sink *k)
{
	struct sink_tar *t = to_tar(k);

	/* What was not finished goes nowhere any more. */
	t->err = t->err ? t->err : -ECANCELED;
	if (t->a)
		t->la->archive_write_free(t->a);
	close_out(t);
	free(t->name);
	free(t);
}

static const struct sink_ops sink_ops = {
	.make = sink_make,
	.begin = sink_begin,
	.write = sink_write,
	.end = sink_end,
	.finish = sink_finish,
	.close = sink_close,
};

static bool ends_in(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n > m && !strcmp(s + n - m, with);
}

/* By the file's name. The number of threads does not show in what they make. */
static int add_filter(struct sink_tar *t, const char *file)
{
	char threads[16];
	int r = ARCHIVE_OK;

	snprintf(threads, sizeof(threads), "%u", MAX(os_cpus(), 2u));
	if (ends_in(file, ".gz") || ends_in(file, ".tgz")) {
		r = t->la->archive_write_add_filter_gzip(t->a);
		if (r == ARCHIVE_OK)
			r = t->la->archive_write_set_filter_option(t->a, "gzip", "timestamp", NULL);
	} else if (ends_in(file, ".zst") || ends_in(file, ".tzst")) {
		r = t->la->archive_write_add_filter_zstd(t->a);
		if (r == ARCHIVE_OK)
			r = t->la->archive_write_set_filter_option(t->a, "zstd", "threads", threads);
	} else if (ends_in(file, ".xz") || ends_in(file, ".txz")) {
		r = t->la->archive_write_add_filter_xz(t->a);
		if (r == ARCHIVE_OK)
			r = t->la->archive_write_set_filter_option(t->a, "xz", "threads", threads);
	}
	return r == ARCHIVE_OK ? 0 : fail(-EOPNOTSUPP, "%s: this libarchive cannot pack so", file);
}

static int open_archive(struct sink_tar *t, const char *file)
{
	bool std = !strcmp(file, "-");
	struct archive_entry *e;
	int err = libarchive(&t->la);

	if (err)
		return err;
	t->a = t->la->archive_write_new();
	e = t->a ? t->la->archive_entry_new() : NULL;
	if (!e)
		return fail(-ENOMEM, "no memory to pack %s", file);
	t->la->archive_entry_set_filetype(e, AE_IFREG);
	err = t->la->archive_write_set_format_raw(t->a) == ARCHIVE_OK ? add_filter(t, file) : out_failed(t);
	t->la->archive_write_set_bytes_per_block(t->a, BLOCK_BYTES);
	t->la->archive_write_set_bytes_in_last_block(t->a, 1);
	t->fd = std ? STDOUT_FILENO : -1;
	if (!err && !std) {
		t->fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (t->fd < 0)
			err = fail(-errno, "%s cannot be made: %s", file, strerror(errno));
	}
	if (!err && (t->la->archive_write_open(t->a, t, NULL, give, NULL) != ARCHIVE_OK ||
		     t->la->archive_write_header(t->a, e) != ARCHIVE_OK))
		err = out_failed(t);
	t->la->archive_entry_free(e);
	return err;
}

int sink_tar(const char *file, struct sink **out)
{
	struct sink_tar *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return fail(-ENOMEM, "no memory to copy");
	t->sink = (struct sink){ .ops = &sink_ops, .keep = KEEP_ALL | SINK_MAP };
	t->fd = -1;
	t->name = strdup(strcmp(file, "-") != 0 ? file : "standard output");
	err = t->name ? open_archive(t, file) : fail(-ENOMEM, "no memory to copy");
	if (err)
		sink_close(&t->sink);
	else
		*out = &t->sink;
	return err;
}
