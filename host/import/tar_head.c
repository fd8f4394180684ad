/*
 * Headers of tar archives, read. Interface: tar.h.
 *
 * What comes before a file's own header (records of pax, GNU's long names) is read first, whole and bounded. Then it is understood: what
 * cannot be, spoils that file; only where the next header cannot be found any more is the archive itself broken.
 *
 * Bounds: SPECIAL_MAX for each header before a file's own, PATH_BYTES_MAX for a path; tar_records.c has those of pieces and attributes. Links, devices and directories have no data, whatever their size says: so GNU tar and Go's archive/tar have it.
 */
#include "tar_read.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPECIAL_MAX    (8u << 20)
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
	free(h);
}

void tar_reader_fini(struct tar_reader *r)
{
	free(r->global);
	r->global = NULL;
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

/* ---- holes ---- */

/* The sum of pieces is what is stored, and they lie in order in the file. Empty ones go. */
static int ranges_check(struct tar_head *h)
{
	struct item *it = h->it;
	u64 at = 0, sum = 0;
	u32 kept = 0;

	for (u32 i = 0; i < it->ranges; i++) {
		struct item_range *x = &it->range[i];

		if (x->off_bytes < at || x->off_bytes > it->size_bytes ||
		    x->len_bytes > it->size_bytes - x->off_bytes)
			return tar_bad_map();
		at = x->off_bytes + x->len_bytes;
		sum += x->len_bytes;
		if (x->len_bytes)
			it->range[kept++] = *x;
	}
	it->ranges = kept;
	return sum == h->stored_bytes ? 0 : tar_bad_map();
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
		if (c == '\n' && tar_decimal(&num, out))
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
			bad = item_add_range(h->it, off, len);
	}
	pad = MIN((0 - (h->stored_bytes - left)) % TAR_BLOCK, left);
	if (!err)
		err = tar_skip(r->s, pad);
	h->stored_bytes = left - pad;
	if (bad == -ENOMEM)
		return bad;
	if (bad)
		tar_spoil(h, bad);
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
			*bad = tar_bad_map();
		else
			*bad = item_add_range(h->it, (u64)off, (u64)len);
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
		bad = tar_bad_map();
	if (bad)
		tar_spoil(h, bad);
	else
		h->it->size_bytes = (u64)size;
	h->it->has |= ITEM_MAP;
	return err;
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
		tar_spoil(h, fail(len > PATH_BYTES_MAX ? -ENAMETOOLONG : -EINVAL,
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
		tar_spoil(h, fail(-EINVAL, "a number in its header is none, or is too large"));
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
			tar_spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form of which only star knows"));
		break;
	case 'M':
		h->type = '0';
		tar_spoil(h, fail(-EOPNOTSUPP, "the rest of a file whose beginning is in another archive"));
		break;
	default:
		h->type = '0';
		tar_spoil(h, fail(-EOPNOTSUPP, "an entry of type %u, which is not known", (u8)type));
	}
}

/* After names: regular files whose name ends in a slash are directories of old archives. */
static void settle_type(struct tar_head *h)
{
	struct item *it = h->it;
	static const u32 modes[] = { S_IFREG, S_IFREG, S_IFLNK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFIFO };
	size_t n = strlen(h->path);

	if (h->type == '0' && n && h->path[n - 1] == '/')
		h->type = '5';
	/* Some write the group's own permissions in the header's mode, where the mask belongs. */
	for (u32 i = 0; i < it->xattrs; i++)
		if (!strcmp(it->xattr[i].name, "system.posix_acl_access"))
			it->mode = tar_acl_mode(it->xattr[i].value, it->xattr[i].len_bytes, it->mode);
	it->mode |= modes[h->type - '0'];
	if (h->type != '0')
		it->size_bytes = 0;
	it->data_bytes = h->type == '0' ? h->stored_bytes : 0;
}

static int sparse(struct tar_reader *r, struct tar_head *h, const u8 *block, const struct facts *f)
{
	const struct tar_disk_header *d = (const void *)block;
	int err = 0;

	if (d->type[0] == 'S' && is_gnu(d)) {
		err = read_gnu_sparse(r, h, block);
	} else if (f->sparse) {
		h->it->has |= ITEM_MAP;
		if (!(f->has & HAS_REAL_SIZE) || (f->sparse_major && !f->sparse_1_0))
			tar_spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form that is not known"));
		else
			h->it->size_bytes = f->real_size_bytes;
		if (f->sparse_1_0)
			err = read_map(r, h);
	} else if (f->has & HAS_REAL_SIZE && f->real_size_bytes != h->stored_bytes) {
		tar_spoil(h, fail(-EOPNOTSUPP, "a sparse file in a form of which only star knows"));
	}
	if (!err && h->it->has & ITEM_MAP && !h->it->err && ranges_check(h))
		tar_spoil(h, tar_bad_map());
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
	err = tar_records(r, r->global, r->global_bytes, h, &f);
	if (!err)
		err = tar_records(r, sp->records, sp->records_bytes, h, &f);
	if (err)
		return err;
	if (!number_of(d->size, sizeof(d->size), &size) || size < 0)
		return tar_broken(r->s, "a file whose size is no number");
	h->stored_bytes = h->it->size_bytes = f.has & HAS_SIZE ? f.size_bytes : (u64)size;
	type_of(h, d);
	numbers(h, block, &f);
	err = names(h, block, &f, sp);
	if (!err && h->type == '0')
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
