/*
 * Headers of tar archives, read. Interface: tar.h.
 *
 * What comes before a file's own header (records of pax, GNU's long names) is read first, whole and bounded. Then it is understood: what
 * cannot be, spoils that file; only where the next header cannot be found any more is the archive itself broken.
 *
 * Bounds: SPECIAL_MAX for each header before a file's own, RANGES_MAX pieces and XATTRS_MAX attributes of a file, PATH_BYTES_MAX of a
 * path. Links, devices and directories have no data, whatever their size says: so GNU tar and Go's archive/tar have it.
 */
#include "tar.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPECIAL_MAX    (8u << 20)
#define RANGES_MAX     (1u << 20)
#define XATTRS_MAX     4096u
#define PATH_BYTES_MAX 65536u

/* GNU's header has other members where ustar has the prefix: the GNU tar manual, "Basic Tar Format". */
#define GNU_ATIME       345u
#define GNU_SPARSE      386u
#define GNU_SPARSES     4u
#define GNU_EXTENDED    482u
#define GNU_REAL_SIZE   483u
#define GNU_MORE        21u /* pieces in a block that follows */
#define GNU_MORE_FOLLOW 504u
#define NUMBER_BYTES    12u
/* Old star's has a shorter prefix, and times behind it. */
#define STAR_PREFIX 131u
#define STAR_ATIME  476u

struct bytes {
	const char *s; /* NULL: nothing */
	u64 len;
};

#define HAS_SIZE      0x01u
#define HAS_UID       0x02u
#define HAS_GID       0x04u
#define HAS_MTIME     0x08u
#define HAS_ATIME     0x10u
#define HAS_REAL_SIZE 0x20u
#define HAS_DEV_MAJOR 0x40u
#define HAS_DEV_MINOR 0x80u

/* What was said before a file's own header. */
struct facts {
	struct bytes path, link, sparse_name;
	u32 has; /* HAS_* */
	u64 size_bytes, uid, gid, real_size_bytes, dev_major, dev_minor;
	struct timespec64 mtime, atime;
	bool sparse, sparse_1_0;
	u64 sparse_major, sparse_minor, sparse_off;
};

/* The headers before a file's own. */
struct special {
	char *records, *name, *link; /* NULL: none */
	u64 records_bytes, name_bytes, link_bytes;
};

static void special_fini(struct special *sp)
{
	free(sp->records);
	free(sp->name);
	free(sp->link);
}

void tar_head_free(struct tar_head *h)
{
	if (!h)
		return;
	item_free(h->it);
	free(h->path);
	free(h->link);
	free(h->range);
	free(h);
}

void tar_reader_fini(struct tar_reader *r)
{
	free(r->global);
	r->global = NULL;
}

/* The first error of a file counts. */
static void spoil(struct tar_head *h, int err)
{
	if (!h->it->err)
		item_spoil(h->it, err);
}

/* ---- numbers ---- */

/* Binary, with the top bit of the first byte set. */
static bool number_256(const u8 *p, u32 len, s64 *out)
{
	u64 v = p[0] & 0x40 ? ~0ull : 0;

	v = v << 6 | (p[0] & 0x3f);
	for (u32 i = 1; i < len; i++) {
		/* What is shifted out must be copies of the sign. */
		if ((s64)v > INT64_MAX >> 8 || (s64)v < INT64_MIN >> 8)
			return false;
		v = v << 8 | p[i];
	}
	*out = (s64)v;
	return true;
}

/* A number of a header: octal digits between blanks and zeros; nothing at all is 0. */
static bool number_of(const char *field, u32 len, s64 *out)
{
	u32 i = 0;
	u64 v = 0;

	if ((u8)field[0] & 0x80)
		return number_256((const u8 *)field, len, out);
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
		if (v >> 60)
			return false;
		v = v << 3 | (u64)(field[i] - '0');
	}
	*out = (s64)v;
	/* Behind a zero anything may be. */
	return i == len || !field[i] || field[i] == ' ';
}

static bool decimal(const struct bytes *b, u64 *out)
{
	*out = 0;
	for (u64 i = 0; i < b->len; i++) {
		if (b->s[i] < '0' || b->s[i] > '9' || *out > (INT64_MAX - 9) / 10)
			return false;
		*out = *out * 10 + (u64)(b->s[i] - '0');
	}
	return b->len != 0;
}

/* "-1.25" is 0.75 s after -2. */
static bool time_of(const struct bytes *b, struct timespec64 *out)
{
	bool minus = b->len && b->s[0] == '-';
	const char *dot = memchr(b->s, '.', b->len);
	struct bytes whole = { b->s + minus, (dot ? (u64)(dot - b->s) : b->len) - minus };
	u32 nsec = 0, digit = 100000000;
	u64 sec;

	if (!decimal(&whole, &sec))
		return false;
	for (const char *p = dot ? dot + 1 : b->s + b->len; p < b->s + b->len; p++, digit /= 10) {
		if (*p < '0' || *p > '9')
			return false;
		nsec += digit * (u32)(*p - '0');
	}
	*out = (struct timespec64){ minus ? -(s64)sec : (s64)sec, nsec };
	if (minus && nsec)
		*out = (struct timespec64){ -(s64)sec - 1, 1000000000 - nsec };
	return true;
}

/* ---- attributes ---- */

static int xattr_set(struct item *it, const char *name, const void *value, u64 len)
{
	if (len > VFS_XATTR_MAX)
		return fail(-E2BIG, "its attribute %s has %llu bytes", name, (unsigned long long)len);
	for (u32 i = 0; i < it->xattrs; i++) {
		struct item_xattr *x = &it->xattr[i];
		void *copy;

		if (strcmp(x->name, name) != 0)
			continue;
		copy = malloc(MAX(len, 1ull));
		if (!copy)
			return fail(-ENOMEM, "no memory for attributes");
		memcpy(copy, value, len);
		free(x->value);
		x->value = copy;
		x->len_bytes = (u32)len;
		return 0;
	}
	if (it->xattrs == XATTRS_MAX)
		return fail(-E2BIG, "it has more than %u attributes", XATTRS_MAX);
	return item_add_xattr(it, name, value, (u32)len);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

/* An attribute's name in a keyword: %XX is a byte. */
static int xattr_name(const struct bytes *key, char out[VFS_NAME_MAX + 1])
{
	u32 n = 0;

	for (u64 i = 0; i < key->len; i++) {
		char c = key->s[i];

		if (c == '%' && key->len - i > 2 && hex_digit(key->s[i + 1]) >= 0 &&
		    hex_digit(key->s[i + 2]) >= 0) {
			c = (char)(hex_digit(key->s[i + 1]) << 4 | hex_digit(key->s[i + 2]));
			i += 2;
		}
		if (!c || n == VFS_NAME_MAX)
			return fail(-EINVAL, "an attribute's name is too long, or has a zero byte in it");
		out[n++] = c;
	}
	out[n] = 0;
	return n ? 0 : fail(-EINVAL, "an attribute without a name");
}

static int base64_digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'	      ? 62
	       : c == '/'	      ? 63
				      : -1;
}

static int xattr_base64(struct item *it, const char *name, const struct bytes *v)
{
	scoped(freep) u8 *buf = malloc(v->len + 1);
	u64 n = 0;
	u32 bits = 0, have = 0;

	if (!buf)
		return fail(-ENOMEM, "no memory for attributes");
	for (u64 i = 0; i < v->len && v->s[i] != '='; i++) {
		int d = base64_digit(v->s[i]);

		if (d < 0)
			return fail(-EINVAL, "its attribute %s is not in base 64", name);
		bits = bits << 6 | (u32)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf[n++] = (u8)(bits >> have);
		}
	}
	return xattr_set(it, name, buf, n);
}

static int acl_set(struct item *it, const char *name, const struct bytes *v)
{
	scoped(freep) void *value = NULL;
	u32 len;
	int err = tar_acl_parse(v->s, v->len, &value, &len);

	return err ? err : xattr_set(it, name, value, len);
}

/* Security labels, as Red Hat's tar has them: without the zero that ends them on a disk. */
static int selinux_set(struct item *it, const struct bytes *v)
{
	scoped(freep) char *copy = malloc(v->len + 1);

	if (!copy)
		return fail(-ENOMEM, "no memory for attributes");
	memcpy(copy, v->s, v->len);
	copy[v->len] = 0;
	return xattr_set(it, "security.selinux", copy, v->len + 1);
}

static bool begins(const struct bytes *b, const char *with, struct bytes *rest)
{
	size_t n = strlen(with);

	if (b->len < n || memcmp(b->s, with, n) != 0)
		return false;
	*rest = (struct bytes){ b->s + n, b->len - n };
	return true;
}

static bool is(const struct bytes *b, const char *what)
{
	return b->len == strlen(what) && !memcmp(b->s, what, b->len);
}

/* *known: it was one of these. */
static int record_xattr(struct item *it, const struct bytes *key, const struct bytes *v, bool *known)
{
	char name[VFS_NAME_MAX + 1];
	struct bytes rest;
	bool base64 = begins(key, "LIBARCHIVE.xattr.", &rest);
	int err;

	*known = true;
	if (is(key, "SCHILY.acl.access"))
		return acl_set(it, "system.posix_acl_access", v);
	if (is(key, "SCHILY.acl.default"))
		return acl_set(it, "system.posix_acl_default", v);
	if (is(key, "RHT.security.selinux"))
		return selinux_set(it, v);
	*known = base64 || begins(key, "SCHILY.xattr.", &rest);
	if (!*known)
		return 0;
	err = xattr_name(&rest, name);
	if (err)
		return err;
	return base64 ? xattr_base64(it, name, v) : xattr_set(it, name, v->s, v->len);
}

/* ---- holes ---- */

static int range_add(struct tar_head *h, u64 off, u64 len)
{
	if (h->ranges == RANGES_MAX)
		return fail(-E2BIG, "a sparse file of more than %u pieces", RANGES_MAX);
	if (is_pow2(h->ranges) || !h->ranges) {
		u32 room = h->ranges ? 2 * h->ranges : 1;
		struct tar_range *more = realloc(h->range, room * sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory for a sparse file");
		h->range = more;
	}
	h->range[h->ranges++] = (struct tar_range){ off, len };
	return 0;
}

static int bad_map(void)
{
	return fail(-EINVAL, "where its holes are said to be, they cannot be");
}

/* "OFFSET,LENGTH,OFFSET,…": GNU's sparse format 0.1. */
static int record_map(struct tar_head *h, const struct bytes *v)
{
	u64 off = 0, n;
	bool has_off = false;
	int err = 0;

	h->ranges = 0;
	for (u64 at = 0; !err && at < v->len;) {
		const char *comma = memchr(v->s + at, ',', v->len - at);
		struct bytes num = { v->s + at, comma ? (u64)(comma - v->s) - at : v->len - at };

		if (!decimal(&num, &n))
			return bad_map();
		if (has_off)
			err = range_add(h, off, n);
		off = n;
		has_off = !has_off;
		at += num.len + 1;
	}
	return !err && has_off ? bad_map() : err;
}

/* *known: it was one of these. The GNU tar manual, "Storing Sparse Files". */
static int record_sparse(struct tar_head *h, struct facts *f, const struct bytes *key, const struct bytes *v,
			 bool *known)
{
	struct bytes rest;
	u64 n;

	*known = begins(key, "GNU.sparse.", &rest);
	if (!*known)
		return 0;
	f->sparse = true;
	if (is(&rest, "name")) {
		f->sparse_name = *v;
		return 0;
	}
	if (is(&rest, "map"))
		return record_map(h, v);
	if (!decimal(v, &n))
		return bad_map();
	if (is(&rest, "size") || is(&rest, "realsize")) {
		f->real_size_bytes = n;
		f->has |= HAS_REAL_SIZE;
	} else if (is(&rest, "major")) {
		f->sparse_major = n;
	} else if (is(&rest, "minor")) {
		f->sparse_minor = n;
	} else if (is(&rest, "numblocks")) {
		h->ranges = 0;
	} else if (is(&rest, "offset")) {
		f->sparse_off = n;
	} else if (is(&rest, "numbytes")) {
		return range_add(h, f->sparse_off, n);
	}
	f->sparse_1_0 = f->sparse_major == 1 && !f->sparse_minor;
	return 0;
}

/* The sum of pieces is what is stored, and they lie in order in the file. Empty ones go. */
static int ranges_check(struct tar_head *h)
{
	u64 at = 0, sum = 0;
	u32 kept = 0;

	for (u32 i = 0; i < h->ranges; i++) {
		struct tar_range *x = &h->range[i];

		if (x->off_bytes < at || x->off_bytes > h->it->size_bytes ||
		    x->len_bytes > h->it->size_bytes - x->off_bytes)
			return bad_map();
		at = x->off_bytes + x->len_bytes;
		sum += x->len_bytes;
		if (x->len_bytes)
			h->range[kept++] = *x;
	}
	h->ranges = kept;
	return sum == h->stored_bytes ? 0 : bad_map();
}

/* A line with a number before the bytes of a file (format 1.0); *left: of what is stored. */
static int map_line(struct tar_reader *r, u64 *left, u64 *out)
{
	char digits[20];
	struct bytes num = { digits, 0 };

	while (*left) {
		char c;
		int err = tar_read(r->s, &c, 1);

		if (err)
			return err;
		--*left;
		if (c == '\n' && decimal(&num, out))
			return 0;
		if (num.len == sizeof(digits))
			break;
		digits[num.len++] = c;
	}
	return tar_broken(r->s, "a sparse file without a map of its holes");
}

static int read_map(struct tar_reader *r, struct tar_head *h)
{
	u64 left = h->stored_bytes, count, off, len, pad;
	int err = map_line(r, &left, &count), bad = 0;

	for (u64 i = 0; !err && !bad && i < count; i++) {
		err = map_line(r, &left, &off);
		if (!err)
			err = map_line(r, &left, &len);
		if (!err)
			bad = range_add(h, off, len);
	}
	pad = MIN((0 - (h->stored_bytes - left)) % TAR_BLOCK, left);
	if (!err)
		err = tar_skip(r->s, pad);
	h->stored_bytes = left - pad;
	if (bad == -ENOMEM)
		return bad;
	if (bad)
		spoil(h, bad);
	return err;
}

/* Pieces in a header, or in a block that follows it; one without an offset ends them. What is wrong with them is *bad. */
static int gnu_pieces(struct tar_head *h, const u8 *p, u32 count, int *bad)
{
	for (u32 i = 0; i < count && !*bad; i++, p += 2 * NUMBER_BYTES) {
		s64 off, len;

		if (!p[0])
			return 0;
		if (!number_of((const char *)p, NUMBER_BYTES, &off) ||
		    !number_of((const char *)p + NUMBER_BYTES, NUMBER_BYTES, &len) || off < 0 || len < 0)
			*bad = bad_map();
		else
			*bad = range_add(h, (u64)off, (u64)len);
	}
	return *bad == -ENOMEM ? *bad : 0;
}

/* GNU's own sparse files, type 'S'. */
static int read_gnu_sparse(struct tar_reader *r, struct tar_head *h, const u8 *block)
{
	u8 more[TAR_BLOCK];
	bool follow = block[GNU_EXTENDED];
	int bad = 0, err = gnu_pieces(h, block + GNU_SPARSE, GNU_SPARSES, &bad);
	s64 size;

	while (!err && follow) {
		err = tar_read(r->s, more, sizeof(more));
		if (!err)
			err = gnu_pieces(h, more, GNU_MORE, &bad);
		follow = more[GNU_MORE_FOLLOW];
	}
	if (!bad && (!number_of((const char *)block + GNU_REAL_SIZE, NUMBER_BYTES, &size) || size < 0))
		bad = bad_map();
	if (bad)
		spoil(h, bad);
	else
		h->it->size_bytes = (u64)size;
	h->sparse = true;
	return err;
}

/* ---- records of pax ---- */

static int bad_value(const struct bytes *key)
{
	return fail(-EINVAL, "its %.*s cannot be understood", (int)MIN(key->len, 64ull), key->s);
}

static int record_number(struct facts *f, const struct bytes *key, const struct bytes *v, bool *known)
{
	const struct {
		const char *key;
		u32 bit;
		u64 *to;
	} numbers[] = {
		{ "size", HAS_SIZE, &f->size_bytes },
		{ "uid", HAS_UID, &f->uid },
		{ "gid", HAS_GID, &f->gid },
		{ "SCHILY.realsize", HAS_REAL_SIZE, &f->real_size_bytes },
		{ "SCHILY.devmajor", HAS_DEV_MAJOR, &f->dev_major },
		{ "SCHILY.devminor", HAS_DEV_MINOR, &f->dev_minor },
	};
	const struct {
		const char *key;
		u32 bit;
		struct timespec64 *to;
	} times[] = { { "mtime", HAS_MTIME, &f->mtime }, { "atime", HAS_ATIME, &f->atime } };

	*known = true;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (!is(key, numbers[i].key))
			continue;
		f->has = v->len ? f->has | numbers[i].bit : f->has & ~numbers[i].bit;
		return !v->len || decimal(v, numbers[i].to) ? 0 : bad_value(key);
	}
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		if (!is(key, times[i].key))
			continue;
		f->has = v->len ? f->has | times[i].bit : f->has & ~times[i].bit;
		return !v->len || time_of(v, times[i].to) ? 0 : bad_value(key);
	}
	*known = false;
	return 0;
}

/* An empty value takes back what was said before. Keywords that nobody knows say nothing, as POSIX has it. */
static int record(struct tar_head *h, struct facts *f, const struct bytes *key, const struct bytes *v)
{
	struct bytes *name = is(key, "path") ? &f->path : is(key, "linkpath") ? &f->link : NULL;
	bool known;
	int err;

	if (name) {
		*name = v->len ? *v : (struct bytes){ 0 };
		return 0;
	}
	err = record_number(f, key, v, &known);
	if (!known)
		err = record_sparse(h, f, key, v, &known);
	if (!known)
		err = record_xattr(h->it, key, v, &known);
	return err;
}

/* "LENGTH KEY=VALUE\n", the length that of all of it. The values stay where they are. */
static int records(struct tar_reader *r, const char *s, u64 len, struct tar_head *h, struct facts *f)
{
	while (len) {
		const char *blank = memchr(s, ' ', MIN(len, 12ull)), *equals;
		struct bytes num = { s, blank ? (u64)(blank - s) : 0 }, key, value;
		u64 n;
		int err;

		/* Some writers fill up with zeros. */
		if (!*s)
			return 0;
		if (!blank || !decimal(&num, &n) || n > len || n < num.len + 3 || s[n - 1] != '\n')
			return tar_broken(r->s, "an extended header that is none");
		key.s = blank + 1;
		equals = memchr(key.s, '=', (size_t)(s + n - key.s));
		if (!equals || equals == key.s)
			return tar_broken(r->s, "an extended header that is none");
		key.len = (u64)(equals - key.s);
		value = (struct bytes){ equals + 1, (u64)(s + n - 1 - (equals + 1)) };
		err = record(h, f, &key, &value);
		if (err == -ENOMEM)
			return err;
		if (err)
			spoil(h, err);
		s += n;
		len -= n;
	}
	return 0;
}

/* ---- a file's own header ---- */

static bool sum_ok(const u8 *block)
{
	const struct tar_disk_header *d = (const void *)block;
	s64 plain = 0, with_sign = 0, said;

	for (u32 i = 0; i < TAR_BLOCK; i++) {
		bool own = i >= offsetof(struct tar_disk_header, sum) &&
			   i < offsetof(struct tar_disk_header, sum) + sizeof(d->sum);

		/* Some old writers added up signed bytes. */
		plain += own ? ' ' : block[i];
		with_sign += own ? ' ' : (s8)block[i];
	}
	return number_of(d->sum, sizeof(d->sum), &said) && (said == plain || said == with_sign);
}

static bool is_gnu(const struct tar_disk_header *d)
{
	return !memcmp(d->magic, "ustar  ", 8);
}

static bool is_old_star(const u8 *block)
{
	return !block[345 + STAR_PREFIX - 1] && block[STAR_ATIME] >= '0' && block[STAR_ATIME] <= '7' &&
	       block[STAR_ATIME + 11] == ' ' && block[STAR_ATIME + 23] == ' ';
}

static char *copied(const char *a, size_t a_len, const char *b, size_t b_len)
{
	char *s = malloc(a_len + b_len + 2);

	if (!s)
		return NULL;
	memcpy(s, a, a_len);
	if (a_len)
		s[a_len++] = '/';
	memcpy(s + a_len, b, b_len);
	s[a_len + b_len] = 0;
	return s;
}

/* The first of these that there is; else what the header itself has. */
static int name_of(struct tar_head *h, const struct bytes *said, const struct bytes *gnu, const char *prefix,
		   size_t prefix_len, const char *name, size_t name_len, char **out)
{
	const struct bytes *b = said->s ? said : gnu->s ? gnu : NULL;
	u64 len = b ? b->len : 0;

	/* GNU's long names end in a zero. */
	if (b == gnu && len)
		len = strnlen(b->s, len);
	if (b && (len > PATH_BYTES_MAX || memchr(b->s, 0, len))) {
		spoil(h, fail(len > PATH_BYTES_MAX ? -ENAMETOOLONG : -EINVAL,
			      "a path or link of it is too long, or has a zero byte in it"));
		len = MIN(strnlen(b->s, len), 255ul);
	}
	*out = b ? copied("", 0, b->s, len) : copied(prefix, prefix_len, name, name_len);
	return *out ? 0 : fail(-ENOMEM, "no memory for a path");
}

static int names(struct tar_head *h, const u8 *block, const struct facts *f, const struct special *sp)
{
	const struct tar_disk_header *d = (const void *)block;
	const struct bytes *path = f->sparse_name.s ? &f->sparse_name : &f->path;
	struct bytes long_name = { sp->name, sp->name_bytes }, long_link = { sp->link, sp->link_bytes };
	size_t prefix = is_old_star(block) ? STAR_PREFIX : sizeof(d->prefix);
	bool has_prefix = !memcmp(d->magic, "ustar", 6); /* its zero too: GNU's has a blank there */
	int err = name_of(h, path, &long_name, d->prefix, has_prefix ? strnlen(d->prefix, prefix) : 0,
			  d->name, strnlen(d->name, sizeof(d->name)), &h->path);

	if (!err && (h->type == '1' || h->type == '2'))
		err = name_of(h, &f->link, &long_link, "", 0, d->link, strnlen(d->link, sizeof(d->link)),
			      &h->link);
	return err;
}

static bool small(u64 v, u64 max, u32 *out)
{
	*out = (u32)v;
	return v <= max;
}

/* Numbers of the header, and what was said instead of them. */
static void numbers(struct tar_head *h, const u8 *block, const struct facts *f)
{
	const struct tar_disk_header *d = (const void *)block;
	struct item *it = h->it;
	s64 mode, uid = 0, gid = 0, major = 0, minor = 0, mtime, atime = 0;
	bool device = h->type == '3' || h->type == '4', fine;

	fine = number_of(d->mode, sizeof(d->mode), &mode) && number_of(d->mtime, sizeof(d->mtime), &mtime);
	fine &= f->has & HAS_UID || number_of(d->uid, sizeof(d->uid), &uid);
	fine &= f->has & HAS_GID || number_of(d->gid, sizeof(d->gid), &gid);
	if (device) {
		fine &= number_of(d->dev_major, sizeof(d->dev_major), &major);
		fine &= number_of(d->dev_minor, sizeof(d->dev_minor), &minor);
	}
	if (is_gnu(d))
		fine &= number_of((const char *)block + GNU_ATIME, NUMBER_BYTES, &atime);
	fine = fine && small(f->has & HAS_UID ? f->uid : (u64)uid, UINT32_MAX - 1, &it->uid) &&
	       small(f->has & HAS_GID ? f->gid : (u64)gid, UINT32_MAX - 1, &it->gid) &&
	       small(f->has & HAS_DEV_MAJOR ? f->dev_major : (u64)major, UINT32_MAX, &it->rdev_major) &&
	       small(f->has & HAS_DEV_MINOR ? f->dev_minor : (u64)minor, UINT32_MAX, &it->rdev_minor);
	if (!fine) {
		spoil(h, fail(-EINVAL, "a number in its header is none, or is too large"));
		return;
	}
	it->mode = (u32)mode & 07777;
	it->mtime = f->has & HAS_MTIME ? f->mtime : (struct timespec64){ mtime, 0 };
	it->has = ITEM_OWNER | ITEM_MTIME;
	if (f->has & HAS_ATIME || atime > 0) {
		it->atime = f->has & HAS_ATIME ? f->atime : (struct timespec64){ atime, 0 };
		it->has |= ITEM_ATIME;
	}
}

/* What it is, and whether bytes follow. */
static void type_of(struct tar_head *h, const struct tar_disk_header *d)
{
	char type = d->type[0];

	h->type = type ? type : '0';
	switch (h->type) {
	case '0':
	case '7':
		h->type = '0';
		break;
	case 'D':
		h->type = '5';
		break;
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
		h->stored_bytes = 0;
		break;
	case 'S':
		h->type = '0';
		if (!is_gnu(d))
			spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form of which only star knows"));
		break;
	case 'M':
		h->type = '0';
		spoil(h, fail(-EOPNOTSUPP, "the rest of a file whose beginning is in another archive"));
		break;
	default:
		h->type = '0';
		spoil(h, fail(-EOPNOTSUPP, "an entry of type \\x%02x, which is not known", (u8)type));
	}
}

/* After names: regular files whose name ends in a slash are directories of old archives. */
static void settle_type(struct tar_head *h)
{
	static const u32 modes[] = { S_IFREG, S_IFREG, S_IFLNK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFIFO };
	size_t n = strlen(h->path);

	if (h->type == '0' && n && h->path[n - 1] == '/')
		h->type = '5';
	h->it->mode |= modes[h->type - '0'];
	if (h->type != '0')
		h->it->size_bytes = 0;
	h->it->data_bytes = h->type == '0' ? h->stored_bytes : 0;
}

static int sparse(struct tar_reader *r, struct tar_head *h, const u8 *block, const struct facts *f)
{
	const struct tar_disk_header *d = (const void *)block;
	int err = 0;

	if (d->type[0] == 'S' && is_gnu(d)) {
		err = read_gnu_sparse(r, h, block);
	} else if (f->sparse) {
		h->sparse = true;
		if (!(f->has & HAS_REAL_SIZE) || (f->sparse_major && !f->sparse_1_0))
			spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form that is not known"));
		else
			h->it->size_bytes = f->real_size_bytes;
		if (f->sparse_1_0)
			err = read_map(r, h);
	} else if (f->has & HAS_REAL_SIZE && f->real_size_bytes != h->stored_bytes) {
		spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form of which only star knows"));
	}
	if (!err && h->sparse && !h->it->err && ranges_check(h))
		spoil(h, bad_map());
	return err;
}

static int head_new(struct tar_reader *r, const u8 *block, const struct special *sp, struct tar_head **out)
{
	const struct tar_disk_header *d = (const void *)block;
	struct tar_head *h = *out = calloc(1, sizeof(*h));
	struct facts f = { 0 };
	s64 size;
	int err;

	if (!h || !(h->it = item_new("")))
		return fail(-ENOMEM, "no memory for a file of an archive");
	err = records(r, r->global, r->global_bytes, h, &f);
	if (!err)
		err = records(r, sp->records, sp->records_bytes, h, &f);
	if (err)
		return err;
	if (!number_of(d->size, sizeof(d->size), &size) || size < 0)
		return tar_broken(r->s, "a file whose size is no number");
	h->stored_bytes = h->it->size_bytes = f.has & HAS_SIZE ? f.size_bytes : (u64)size;
	type_of(h, d);
	numbers(h, block, &f);
	err = names(h, block, &f, sp);
	if (!err)
		err = sparse(r, h, block, &f);
	if (!err)
		settle_type(h);
	return err;
}

/* ---- one header after the other ---- */

static bool is_zero(const u8 *block)
{
	return !block[0] && !memcmp(block, block + 1, TAR_BLOCK - 1);
}

/* The body of a header that stands before a file's own, added to what there is of it. */
static int read_special(struct tar_reader *r, const struct tar_disk_header *d, char **buf, u64 *len)
{
	s64 size;
	char *more;
	int err;

	if (!number_of(d->size, sizeof(d->size), &size) || size < 0)
		return tar_broken(r->s, "an extended header whose size is no number");
	if ((u64)size > SPECIAL_MAX - *len)
		return tar_broken(r->s, "an extended header of %llu bytes, more than there is room for",
				  (unsigned long long)size);
	more = realloc(*buf, *len + (u64)size + 1);
	if (!more)
		return fail(-ENOMEM, "no memory for an extended header");
	*buf = more;
	err = tar_read(r->s, more + *len, (u64)size);
	*len += (u64)size;
	more[*len] = 0;
	return err ? err : tar_skip(r->s, (0 - (u64)size) % TAR_BLOCK);
}

/* *own: it is a file's own header. */
static int one_header(struct tar_reader *r, const u8 *block, struct special *sp, bool *own)
{
	const struct tar_disk_header *d = (const void *)block;
	s64 size;

	*own = false;
	switch (d->type[0]) {
	case 'x':
	case 'X':
		sp->records_bytes = 0;
		return read_special(r, d, &sp->records, &sp->records_bytes);
	case 'g':
		return read_special(r, d, &r->global, &r->global_bytes);
	case 'L':
		sp->name_bytes = 0;
		return read_special(r, d, &sp->name, &sp->name_bytes);
	case 'K':
		sp->link_bytes = 0;
		return read_special(r, d, &sp->link, &sp->link_bytes);
	case 'V':
		if (!number_of(d->size, sizeof(d->size), &size) || size < 0)
			return tar_broken(r->s, "a label whose size is no number");
		return tar_skip(r->s, ALIGN_UP((u64)size, TAR_BLOCK));
	}
	*own = true;
	return 0;
}

/* Two blocks of zeros, or the end of all. What follows is read to its end, so that what protects it is compared. */
static int read_end(struct tar_reader *r)
{
	u8 block[TAR_BLOCK];
	const u8 *p;
	u64 n;
	int err = tar_peek(r->s, &p, &n);

	if (err || !n)
		return err;
	err = tar_read(r->s, block, sizeof(block));
	if (err)
		return err;
	if (!is_zero(block))
		return tar_broken(r->s, "a single block of zeros between its headers");
	while (!(err = tar_peek(r->s, &p, &n)) && n)
		tar_took(r->s, n);
	return err;
}

int tar_next(struct tar_reader *r, struct tar_head **out)
{
	scoped(special_fini) struct special sp = { 0 };
	u8 block[TAR_BLOCK];
	bool own = false;
	int err = 0;

	*out = NULL;
	while (!err && !own) {
		const u8 *p;
		u64 n;

		err = tar_peek(r->s, &p, &n);
		if (err || !n)
			return err;
		err = tar_read(r->s, block, sizeof(block));
		if (!err && is_zero(block))
			return read_end(r);
		if (!err && !sum_ok(block))
			err = tar_broken(r->s, "where a header should be, there is none");
		if (!err)
			err = one_header(r, block, &sp, &own);
	}
	if (!err)
		err = head_new(r, block, &sp, out);
	if (err) {
		tar_head_free(*out);
		*out = NULL;
	}
	return err;
}
