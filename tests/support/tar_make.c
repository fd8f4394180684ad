/* See tar_make.h. */
#include "support/tar_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 4096u /* of a file */

void make_bytes(struct tar_make *m, const void *p, size_t len)
{
	if (m->len + len > m->room) {
		m->room = 2 * (m->len + len);
		m->buf = realloc(m->buf, m->room);
		if (!m->buf)
			abort();
	}
	if (p && len)
		memcpy(m->buf + m->len, p, len);
	else if (len)
		memset(m->buf + m->len, 0, len);
	m->len += len;
}

void make_pad(struct tar_make *m)
{
	make_bytes(m, NULL, (0 - m->len) % TAR_BLOCK);
}

void make_sum(struct tar_disk_header *d)
{
	u32 sum = 0;

	memset(d->sum, ' ', sizeof(d->sum));
	for (u32 i = 0; i < sizeof(*d); i++)
		sum += ((u8 *)d)[i];
	snprintf(d->sum, sizeof(d->sum), "%06o", sum);
}

struct tar_disk_header *make_head(struct tar_make *m, char type, const char *name, u64 size)
{
	struct tar_disk_header d = { .mode = "0000644",
				     .uid = "0000001",
				     .gid = "0000002",
				     .mtime = "00000000003",
				     .type = { type },
				     .magic = "ustar",
				     .version = { '0', '0' } };

	memcpy(d.name, name, MIN(strlen(name), sizeof(d.name)));
	snprintf(d.size, sizeof(d.size), "%011llo", (unsigned long long)size);
	make_sum(&d);
	make_bytes(m, &d, sizeof(d));
	return (struct tar_disk_header *)(m->buf + m->len - sizeof(d));
}

void make_file(struct tar_make *m, char type, const char *name, const void *body, size_t len)
{
	make_head(m, type, name, len);
	make_bytes(m, body, len);
	make_pad(m);
}

size_t make_record(char *out, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, all = rest + 1;
	char digits[24];

	while (rest + (size_t)snprintf(digits, sizeof(digits), "%zu", all) != all)
		all++;
	rest = (size_t)sprintf(out, "%s %s=", digits, key);
	memcpy(out + rest, value, len);
	out[rest + len] = '\n';
	return all;
}

void make_pax(struct tar_make *m, char type, const char *key, const char *value)
{
	char *buf = malloc(strlen(key) + strlen(value) + 32);

	if (!buf)
		abort();
	make_file(m, type, "pax", buf, make_record(buf, key, value, strlen(value)));
	free(buf);
}

void make_end(struct tar_make *m)
{
	make_bytes(m, NULL, 2 * TAR_BLOCK);
}

void make_write(const struct tar_make *m, const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f || (m->len && fwrite(m->buf, 1, m->len, f) != m->len) || fclose(f))
		abort();
}

void make_free(struct tar_make *m)
{
	free(m->buf);
	*m = (struct tar_make){ 0 };
}

/* ---- reading ---- */

struct show {
	struct outlet outlet;
	u8 buf[100]; /* odd, so that pieces are cut */
	char data[SHOWN_BYTES + 1];
	u64 at;
	bool overlap;
};

static u8 *show_room(struct outlet *o, u64 want_bytes, u64 *room_bytes)
{
	struct show *s = (struct show *)o;

	*room_bytes = MIN(want_bytes, (u64)sizeof(s->buf));
	return s->buf;
}

static int show_put(struct outlet *o, u64 off_bytes, u64 len_bytes)
{
	struct show *s = (struct show *)o;

	s->overlap |= off_bytes < s->at || !len_bytes;
	s->at = off_bytes + len_bytes;
	if (s->at <= SHOWN_BYTES)
		memcpy(s->data + off_bytes, s->buf, len_bytes);
	return 0;
}

static void add_meta(const struct item *it, struct text *out)
{
	static const char types[] = "?pc?d?b?f?l?s???";

	text_add(out, "%c ",
		 it->kind == ITEM_LINK       ? 'h'
		 : it->kind == ITEM_WHITEOUT ? 'w'
		 : it->kind == ITEM_OPAQUE   ? 'o'
					     : types[it->mode >> 12 & 15]);
	text_add_name(out, it->path, strlen(it->path));
	if (it->kind == ITEM_WHITEOUT || it->kind == ITEM_OPAQUE)
		return;
	text_add(out, " %04o %u:%u %llu @%lld", it->mode & 07777, it->uid, it->gid,
		 (unsigned long long)it->size_bytes, (long long)it->mtime.sec);
	if (it->mtime.nsec)
		text_add(out, ".%09u", it->mtime.nsec);
	if (it->has & ITEM_ATIME)
		text_add(out, " a%lld.%09u", (long long)it->atime.sec, it->atime.nsec);
	if (it->rdev_major || it->rdev_minor)
		text_add(out, " %u,%u", it->rdev_major, it->rdev_minor);
	if (it->target) {
		text_add(out, " <");
		text_add_name(out, it->target, strlen(it->target));
		text_add(out, ">");
	}
	for (u32 i = 0; i < it->xattrs; i++) {
		text_add(out, " {");
		text_add_name(out, it->xattr[i].name, strlen(it->xattr[i].name));
		text_add(out, "=");
		text_add_name(out, it->xattr[i].value, it->xattr[i].len_bytes);
		text_add(out, "}");
	}
}

static int add_data(struct feed *f, const struct item *it, struct text *out)
{
	struct show s = { .outlet = { show_room, show_put } };
	u64 shown = MIN(it->size_bytes, (u64)SHOWN_BYTES);
	int err;

	memset(s.data, '.', shown);
	err = f->ops->fill(f, it, &s.outlet);
	text_add(out, " [");
	text_add_name(out, s.data, shown);
	text_add(out, "]%s", s.overlap || s.at > it->size_bytes ? MAKE_BAD_DATA : "");
	return err;
}

int make_read(const char *path, bool layers, struct text *out)
{
	struct feed *f;
	int err = feed_tar(path, layers, NULL, &f);

	if (err)
		return err;
	for (;;) {
		struct item *it;

		err = f->ops->next(f, &it);
		if (err || !it)
			break;
		if (it->err) {
			text_add(out, "! ");
			text_add_name(out, it->path, strlen(it->path));
			text_add(out, ": ");
			text_add_name(out, it->why ? it->why : "", it->why ? strlen(it->why) : 0);
		} else {
			add_meta(it, out);
			if (it->kind == ITEM_FILE && S_ISREG(it->mode) && it->size_bytes)
				err = add_data(f, it, out);
		}
		text_add(out, "\n");
		item_free(it);
		if (err)
			break;
	}
	f->ops->close(f);
	return err;
}
