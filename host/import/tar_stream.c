/*
 * The bytes of an archive, unpacked. Interface: tar.h. zlib unpacks gzip itself, because it compares the checksum at the end, which
 * libarchive's filter passes over; all other filters are libarchive's, those that run no other program.
 */
#include "tar.h"

#include "archive_lib.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define IN_BYTES  (256u << 10)
#define OUT_BYTES (256u << 10)

struct tar_stream {
	char *name;
	int fd;
	u64 all_bytes;
	_Atomic u64 in_bytes;
	u8 *in; /* what was read of the file: [in_at, in_len) is to be unpacked */
	u32 in_at, in_len;
	int in_err;
	const u8 *p; /* unpacked, not yet taken */
	u64 len_bytes;
	u64 at_bytes; /* where in what is unpacked p lies */
	bool at_end;
	const struct libarchive *la;
	struct archive *a; /* NULL: gzip */
	z_stream z;
	bool z_open, member_end;
	u8 *out;
};

int tar_broken(const struct tar_stream *s, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return fail(-EBADMSG, "%s is a broken archive, at byte %llu: %s", s->name,
		    (unsigned long long)s->at_bytes, why);
}

/* More of the file; none: in_len is 0. */
static int refill(struct tar_stream *s)
{
	ssize_t n;

	do
		n = read(s->fd, s->in, IN_BYTES);
	while (n < 0 && errno == EINTR);
	s->in_at = 0;
	s->in_len = n > 0 ? (u32)n : 0;
	if (n < 0)
		return fail(-errno, "%s cannot be read: %s", s->name, strerror(errno));
	atomic_fetch_add(&s->in_bytes, (u64)n);
	return 0;
}

/* ---- libarchive's filters ---- */

static la_ssize_t give(struct archive *a, void *ctx, const void **buf)
{
	struct tar_stream *s = ctx;
	u32 n;

	if (s->in_at == s->in_len)
		s->in_err = refill(s);
	if (s->in_err) {
		s->la->archive_set_error(a, -s->in_err, "%s", "cannot be read");
		return -1;
	}
	*buf = s->in + s->in_at;
	n = s->in_len - s->in_at;
	s->in_at = s->in_len;
	return n;
}

/* What libarchive has to say; a read error of ours comes first. */
static int filter_failed(struct tar_stream *s)
{
	const char *why = s->la->archive_error_string(s->a);

	if (s->in_err)
		return s->in_err;
	if (s->la->archive_errno(s->a) == ENOMEM)
		return fail(-ENOMEM, "no memory to unpack %s", s->name);
	return tar_broken(s, "%s", why ? why : "it cannot be unpacked");
}

static int filter_open(struct tar_stream *s)
{
	struct archive_entry *e;
	struct archive *a;
	int err = libarchive(&s->la);

	if (err)
		return err;
	a = s->a = s->la->archive_read_new();
	if (!a)
		return fail(-ENOMEM, "no memory to unpack %s", s->name);
	/* One that this libarchive was built without is not found, and the header is then no tar's. */
	s->la->archive_read_support_filter_bzip2(a);
	s->la->archive_read_support_filter_compress(a);
	s->la->archive_read_support_filter_lz4(a);
	s->la->archive_read_support_filter_lzma(a);
	s->la->archive_read_support_filter_xz(a);
	s->la->archive_read_support_filter_zstd(a);
	if (s->la->archive_read_support_format_raw(a) != ARCHIVE_OK ||
	    s->la->archive_read_open(a, s, NULL, give, NULL) != ARCHIVE_OK ||
	    s->la->archive_read_next_header(a, &e) != ARCHIVE_OK)
		return filter_failed(s);
	return 0;
}

static int filter_more(struct tar_stream *s)
{
	const void *p;
	size_t n = 0;
	la_int64_t off;

	while (!n) {
		int r = s->la->archive_read_data_block(s->a, &p, &n, &off);

		if (r == ARCHIVE_EOF) {
			s->at_end = true;
			return 0;
		}
		if (r != ARCHIVE_OK)
			return filter_failed(s);
	}
	s->p = p;
	s->len_bytes = n;
	return 0;
}

/* ---- gzip ---- */

static int gzip_open(struct tar_stream *s)
{
	s->out = malloc(OUT_BYTES);
	if (!s->out || inflateInit2(&s->z, 15 + 16) != Z_OK)
		return fail(-ENOMEM, "no memory to unpack %s", s->name);
	s->z_open = true;
	return 0;
}

/* Behind a member: the next one, or padding, which ends it. */
static int gzip_next_member(struct tar_stream *s)
{
	s->member_end = false;
	if (!s->in[s->in_at])
		s->at_end = true;
	else if (inflateReset(&s->z) != Z_OK)
		return fail(-ENOMEM, "no memory to unpack %s", s->name);
	return 0;
}

static int gzip_more(struct tar_stream *s)
{
	int r, err;

	s->z.next_out = s->out;
	s->z.avail_out = OUT_BYTES;
	while (s->z.avail_out == OUT_BYTES && !s->at_end) {
		err = s->in_at == s->in_len ? refill(s) : 0;
		if (err)
			return err;
		if (!s->in_len && !s->member_end)
			return tar_broken(s, "it is cut off");
		if (!s->in_len)
			s->at_end = true;
		else if (s->member_end)
			err = gzip_next_member(s);
		if (err || s->at_end)
			break;
		s->z.next_in = s->in + s->in_at;
		s->z.avail_in = s->in_len - s->in_at;
		r = inflate(&s->z, Z_NO_FLUSH);
		s->in_at = s->in_len - s->z.avail_in;
		s->member_end = r == Z_STREAM_END;
		if (r == Z_MEM_ERROR)
			return fail(-ENOMEM, "no memory to unpack %s", s->name);
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
			return tar_broken(s, "its gzip stream is damaged%s%s", s->z.msg ? ": " : "",
					  s->z.msg ? s->z.msg : "");
	}
	s->p = s->out;
	s->len_bytes = OUT_BYTES - s->z.avail_out;
	return err;
}

/* ---- all of them ---- */

static int open_file(struct tar_stream *s, const char *file)
{
	struct stat st;

	if (!strcmp(file, "-"))
		s->fd = STDIN_FILENO;
	else
		s->fd = open(file, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st))
		return fail(-errno, "%s cannot be opened: %s", s->name, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fail(-EISDIR, "%s is a directory and no archive", s->name);
	if (S_ISREG(st.st_mode)) {
		s->all_bytes = (u64)st.st_size;
		posix_fadvise(s->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	}
	return 0;
}

int tar_open(const char *file, struct tar_stream **out)
{
	struct tar_stream *s = calloc(1, sizeof(*s));
	int err = 0;

	if (!s)
		return fail(-ENOMEM, "no memory to unpack %s", file);
	s->fd = -1;
	s->name = strdup(strcmp(file, "-") != 0 ? file : "standard input");
	s->in = malloc(IN_BYTES);
	if (!s->name || !s->in)
		err = fail(-ENOMEM, "no memory to unpack %s", file);
	if (!err)
		err = open_file(s, file);
	if (!err)
		err = refill(s);
	if (!err && !s->in_len)
		err = fail(-EBADMSG, "%s is empty, and no archive", s->name);
	if (!err)
		err = s->in_len > 2 && s->in[0] == 0x1f && s->in[1] == 0x8b ? gzip_open(s) : filter_open(s);
	if (err)
		tar_close(s);
	else
		*out = s;
	return err;
}

void tar_close(struct tar_stream *s)
{
	if (s->a)
		s->la->archive_read_free(s->a);
	if (s->z_open)
		inflateEnd(&s->z);
	if (s->fd > STDIN_FILENO)
		close(s->fd);
	free(s->out);
	free(s->in);
	free(s->name);
	free(s);
}

int tar_peek(struct tar_stream *s, const u8 **p, u64 *len_bytes)
{
	int err = 0;

	if (!s->len_bytes && !s->at_end)
		err = s->a ? filter_more(s) : gzip_more(s);
	*p = s->p;
	*len_bytes = err ? 0 : s->len_bytes;
	return err;
}

void tar_took(struct tar_stream *s, u64 len_bytes)
{
	s->p += len_bytes;
	s->len_bytes -= len_bytes;
	s->at_bytes += len_bytes;
}

/* buf NULL: they are passed over. */
static int get(struct tar_stream *s, u8 *buf, u64 len_bytes)
{
	while (len_bytes) {
		const u8 *p;
		u64 n;
		int err = tar_peek(s, &p, &n);

		if (!err && !n)
			err = tar_broken(s, "it is cut off");
		if (err)
			return err;
		n = MIN(n, len_bytes);
		if (buf) {
			memcpy(buf, p, n);
			buf += n;
		}
		tar_took(s, n);
		len_bytes -= n;
	}
	return 0;
}

int tar_read(struct tar_stream *s, void *buf, u64 len_bytes)
{
	return get(s, buf, len_bytes);
}

int tar_skip(struct tar_stream *s, u64 len_bytes)
{
	return get(s, NULL, len_bytes);
}

void tar_position(struct tar_stream *s, u64 *done_bytes, u64 *all_bytes)
{
	*done_bytes = atomic_load(&s->in_bytes);
	*all_bytes = s->all_bytes;
}
