/*
 * What the extended headers of pax say of a file. Interface: tar_read.h.
 */
#include "tar_read.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XATTRS_MAX 4096u

void tar_spoil(struct tar_head *h, int err)
{
	if (!h->it->err)
		item_spoil(h->it, err);
}

/* ---- numbers ---- */

bool tar_decimal(const struct bytes *b, u64 *out)
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

	if (!tar_decimal(&whole, &sec))
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
	       : c == '+'             ? 62
	       : c == '/'             ? 63
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

int tar_bad_map(void)
{
	return fail(-EINVAL, "where its holes are said to be, they cannot be");
}

/* "OFFSET,LENGTH,OFFSET,…": GNU's sparse format 0.1. */
static int record_map(struct tar_head *h, const struct bytes *v)
{
	u64 off = 0, n;
	bool has_off = false;
	int err = 0;

	h->it->ranges = 0;
	for (u64 at = 0; !err && at < v->len;) {
		const char *comma = memchr(v->s + at, ',', v->len - at);
		struct bytes num = { v->s + at, comma ? (u64)(comma - v->s) - at : v->len - at };

		if (!tar_decimal(&num, &n))
			return tar_bad_map();
		if (has_off)
			err = item_add_range(h->it, off, n);
		off = n;
		has_off = !has_off;
		at += num.len + 1;
	}
	return !err && has_off ? tar_bad_map() : err;
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
	if (!tar_decimal(v, &n))
		return tar_bad_map();
	if (is(&rest, "size") || is(&rest, "realsize")) {
		f->real_size_bytes = n;
		f->has |= HAS_REAL_SIZE;
	} else if (is(&rest, "major")) {
		f->sparse_major = n;
	} else if (is(&rest, "minor")) {
		f->sparse_minor = n;
	} else if (is(&rest, "numblocks")) {
		h->it->ranges = 0;
	} else if (is(&rest, "offset")) {
		f->sparse_off = n;
	} else if (is(&rest, "numbytes")) {
		return item_add_range(h->it, f->sparse_off, n);
	}
	f->sparse_1_0 = f->sparse_major == 1 && !f->sparse_minor;
	return 0;
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
		return !v->len || tar_decimal(v, numbers[i].to) ? 0 : bad_value(key);
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

int tar_records(struct tar_reader *r, const char *s, u64 len_bytes, struct tar_head *h, struct facts *f)
{
	while (len_bytes) {
		const char *blank = memchr(s, ' ', MIN(len_bytes, 12ull)), *equals;
		struct bytes num = { s, blank ? (u64)(blank - s) : 0 }, key, value;
		u64 n;
		int err;

		/* Some writers fill up with zeros. */
		if (!*s)
			return 0;
		if (!blank || !tar_decimal(&num, &n) || n > len_bytes || n < num.len + 3 || s[n - 1] != '\n')
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
			tar_spoil(h, err);
		s += n;
		len_bytes -= n;
	}
	return 0;
}
