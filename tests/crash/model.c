/* What was done, and what may be found. crash.h says what is legal. */
#include "crash.h"

#include "lib/hash.h"
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pattern(u32 id, u32 op, u64 off, void *buf, u64 len)
{
	u8 *p = buf;

	for (u64 i = 0; i < len; i++) {
		u64 at = off + i, word = hash_u64(((u64)id << 48) ^ ((u64)op << 28) ^ (at / 8));

		p[i] = (u8)(word >> (at % 8 * 8));
	}
}

/* Makes room for one more in an array of n. */
#define GROW(array, n)                                                                           \
	do {                                                                                     \
		if (!((n) & ((n)-1)))                                                            \
			(array) = realloc((array), ((n) ? 2 * (u64)(n) : 1) * sizeof(*(array))); \
		if (!(array))                                                                    \
			abort();                                                                 \
	} while (0)

static char *copy_of(const char *s)
{
	char *c = strdup(s);

	if (!c)
		abort();
	return c;
}

/* ---- the tree as text: one line for each name ---- */

struct lines {
	char **line;
	u32 count;
};

static void add_line(struct lines *l, char *line)
{
	GROW(l->line, l->count);
	l->line[l->count++] = line;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted and joined; the lines go. */
static char *join(struct lines *l)
{
	size_t bytes = 1;
	char *out, *p;

	if (l->count)
		qsort(l->line, l->count, sizeof(*l->line), by_text);
	for (u32 i = 0; i < l->count; i++)
		bytes += strlen(l->line[i]) + 1;
	p = out = malloc(bytes);
	for (u32 i = 0; i < l->count; i++) {
		p = stpcpy(stpcpy(p, l->line[i]), "\n");
		free(l->line[i]);
	}
	*p = 0;
	free(l->line);
	*l = (struct lines){ 0 };
	return out;
}

static u32 sum_of(const void *p, u64 len)
{
	const u8 *b = p;
	u64 h = len;

	for (u64 i = 0; i < len; i++)
		h = hash_u64(h ^ b[i]);
	return (u32)h;
}

static char *line_of(const char *path, u32 mode, u32 id, u32 gid, u32 nlink, const char *target,
		     const char *xattrs)
{
	char *s;

	if (asprintf(&s, "%s\t%o id=%u gid=%u links=%u%s%s%s%s", path, mode, id, gid, nlink,
		     target[0] ? " -> " : "", target, xattrs[0] ? " " : "", xattrs) < 0)
		abort();
	return s;
}

static char *xattrs_of(const struct mfile *f)
{
	struct lines l = { 0 };
	char *s;

	for (u32 i = 0; i < f->xattrs; i++) {
		const struct xattr *x = &f->xattr[i];
		u8 value[65536];

		pattern(f->id, x->op, 0, value, x->len);
		if (asprintf(&s, "%s=%u:%08x", x->name, x->len, sum_of(value, x->len)) < 0)
			abort();
		add_line(&l, s);
	}
	s = join(&l);
	for (char *p = s; *p; p++)
		*p = *p == '\n' ? ' ' : *p;
	return s;
}

static u32 dirs_in(const struct model *m, const char *path)
{
	size_t len = strlen(path);
	u32 n = 0;

	for (u32 i = 0; i < m->entries; i++) {
		const char *p = m->entry[i].path;

		n += !strncmp(p, path, len) && p[len] == '/' && !strchr(p + len + 1, '/') &&
		     S_ISDIR(m->file[m->entry[i].id].mode);
	}
	return n;
}

static char *names_of_model(const struct model *m)
{
	struct lines l = { 0 };

	for (u32 i = 0; i < m->entries; i++) {
		const struct mfile *f = &m->file[m->entry[i].id];
		char *x = xattrs_of(f);
		u32 nlink = S_ISDIR(f->mode) ? 2 + dirs_in(m, m->entry[i].path) : f->nlink;

		add_line(&l, line_of(m->entry[i].path, f->mode, f->id, f->gid, nlink,
				     f->target ? f->target : "", x));
		free(x);
	}
	return join(&l);
}

/* ---- operations ---- */

void model_init(struct model *m)
{
	*m = (struct model){ 0 };
	GROW(m->file, m->files);
	m->file[m->files++] = (struct mfile){ .mode = S_IFDIR };
	GROW(m->op, m->ops);
	m->op[0] = (struct op){ .names = copy_of("") };
}

void model_free(struct model *m)
{
	for (u32 i = 0; i < m->files; i++) {
		free(m->file[i].target);
		free(m->file[i].event);
		free(m->file[i].span);
		free(m->file[i].synced);
	}
	for (u32 i = 0; i < m->entries; i++)
		free(m->entry[i].path);
	for (u32 i = 0; m->op && i <= m->ops; i++)
		if (!i || m->op[i].names != m->op[i - 1].names)
			free((char *)(uintptr_t)m->op[i].names);
	free(m->file);
	free(m->entry);
	free(m->op);
	*m = (struct model){ 0 };
}

u32 model_begin(struct model *m, u64 records, const char *fmt, ...)
{
	struct op *o;
	va_list ap;

	m->ops++;
	m->op = realloc(m->op, (m->ops + 1) * sizeof(*m->op));
	if (!m->op)
		abort();
	o = &m->op[m->ops];
	*o = (struct op){ .start = records, .end = ~0ull, .names = o[-1].names };
	va_start(ap, fmt);
	vsnprintf(o->what, sizeof(o->what), fmt, ap);
	va_end(ap);
	return m->ops;
}

void model_end(struct model *m, u64 records)
{
	struct op *o = &m->op[m->ops];
	char *names = names_of_model(m);

	o->end = records;
	if (!strcmp(names, o->names))
		free(names);
	else
		o->names = names;
}

struct mfile *model_file(struct model *m, u32 id)
{
	return &m->file[id];
}

struct entry *model_find(struct model *m, const char *path)
{
	for (u32 i = 0; i < m->entries; i++)
		if (!strcmp(m->entry[i].path, path))
			return &m->entry[i];
	return NULL;
}

struct mfile *model_at(struct model *m, const char *path)
{
	struct entry *e = model_find(m, path);

	return e ? &m->file[e->id] : &m->file[0];
}

static void touch(struct model *m, struct mfile *f)
{
	f->touched = m->ops;
}

static void touch_parent(struct model *m, const char *path)
{
	char dir[PATH_LEN];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	touch(m, slash ? model_at(m, dir) : &m->file[0]);
}

static void add_event(struct model *m, struct mfile *f, bool data, u64 off, u64 end)
{
	GROW(f->event, f->events);
	f->event[f->events++] = (struct event){ .op = m->ops, .data = data, .off = off, .end = end };
}

static void add_span(struct model *m, struct mfile *f, u64 lo, u64 hi, u64 size)
{
	GROW(f->span, f->spans);
	f->span[f->spans++] = (struct span){ .op = m->ops, .lo = lo, .hi = hi, .size = size };
	f->size = size;
}

static void add_entry(struct model *m, const char *path, u32 id)
{
	GROW(m->entry, m->entries);
	m->entry[m->entries++] = (struct entry){ .path = copy_of(path), .id = id };
}

static void del_entry(struct model *m, struct entry *e)
{
	free(e->path);
	*e = m->entry[--m->entries];
	/* GROW doubles at powers of two: the array is made again when it fills up once more. */
}

struct mfile *model_create(struct model *m, const char *path, u32 mode, const char *target)
{
	struct mfile *f;
	u32 id = m->files;

	GROW(m->file, m->files);
	f = &m->file[m->files++];
	*f = (struct mfile){
		.id = id, .gid = id, .mode = mode, .nlink = 1, .target = target ? copy_of(target) : NULL
	};
	add_event(m, f, false, 0, ~0ull);
	add_span(m, f, 0, 0, 0);
	add_entry(m, path, id);
	touch(m, f);
	touch_parent(m, path);
	return &m->file[id];
}

void model_link(struct model *m, const char *path, struct mfile *f)
{
	f->nlink++;
	touch(m, f);
	add_entry(m, path, f->id);
	touch_parent(m, path);
}

void model_unlink(struct model *m, const char *path)
{
	struct entry *e = model_find(m, path);
	struct mfile *f = &m->file[e->id];

	f->nlink--;
	touch(m, f);
	touch_parent(m, path);
	del_entry(m, e);
}

/* What lies below a directory that moves moves too. */
static void move_below(struct model *m, const char *from, const char *to)
{
	size_t len = strlen(from);
	char path[2 * PATH_LEN];

	for (u32 i = 0; i < m->entries; i++) {
		char *p = m->entry[i].path;

		if (strncmp(p, from, len) || p[len] != '/')
			continue;
		snprintf(path, sizeof(path), "%s%s", to, p + len);
		free(p);
		m->entry[i].path = copy_of(path);
	}
}

void model_rename(struct model *m, const char *from, const char *to, bool exchange)
{
	struct entry *e = model_find(m, from), *v = model_find(m, to);
	u32 id = e->id, other = v ? v->id : 0;

	if (v && other == id)
		return; /* two names of one file, or one name: nothing happens */
	touch(m, &m->file[id]);
	touch_parent(m, from);
	touch_parent(m, to);
	if (exchange) {
		touch(m, &m->file[other]);
		e->id = other;
		v->id = id;
		move_below(m, from, "\001");
		move_below(m, to, from);
		move_below(m, "\001", to);
		return;
	}
	if (v)
		model_unlink(m, to);
	e = model_find(m, from);
	free(e->path);
	e->path = copy_of(to);
	move_below(m, from, to);
}

void model_write(struct model *m, struct mfile *f, u64 off, u64 len)
{
	u64 size = MAX(f->size, off + len);

	/* Bytes written over bytes need no transaction: an fsync then makes sure no name that changed before. */
	if (size != f->size)
		touch(m, f);
	add_event(m, f, true, off, off + len);
	if (size != f->size)
		add_span(m, f, f->size, size, size);
}

void model_size(struct model *m, struct mfile *f, u64 size)
{
	touch(m, f);
	if (size < f->size)
		add_event(m, f, false, size, ~0ull);
	if (size != f->size)
		add_span(m, f, size, size, size);
}

void model_zero(struct model *m, struct mfile *f, u64 off, u64 len)
{
	touch(m, f);
	add_event(m, f, false, off, off + len);
}

void model_xattr(struct model *m, struct mfile *f, const char *name, u32 len)
{
	u32 i = 0;

	touch(m, f);
	while (i < f->xattrs && strcmp(f->xattr[i].name, name))
		i++;
	if (len == ~0u) {
		f->xattr[i] = f->xattr[--f->xattrs];
		return;
	}
	if (i == f->xattrs)
		f->xattrs++;
	f->xattr[i] = (struct xattr){ .op = m->ops, .len = len };
	snprintf(f->xattr[i].name, sizeof(f->xattr[i].name), "%s", name);
}

void model_sync(struct model *m, struct mfile *f)
{
	m->op[m->ops].sure = f ? f->touched : m->ops;
	for (u32 i = 0; i < m->files; i++) {
		struct mfile *g = &m->file[i];

		if (f && g != f)
			continue;
		GROW(g->synced, g->syncs);
		g->synced[g->syncs++] = m->ops;
	}
}

/* ---- what fs shows ---- */

static void read_xattrs(struct fs *fs, const char *path, char *out, size_t bytes)
{
	char names[4096];
	u8 value[65536];
	struct lines l = { 0 };
	u32 len, n;
	char *s;

	out[0] = 0;
	if (FS_CALL(fs, listxattr, path, names, sizeof(names), &len))
		return;
	for (u32 at = 0; at < len; at += (u32)strlen(names + at) + 1) {
		int err = FS_CALL(fs, getxattr, path, names + at, value, sizeof(value), &n);

		if (asprintf(&s, "%s=%u:%08x", names + at, err ? (u32)-err : n, err ? 0 : sum_of(value, n)) <
		    0)
			abort();
		add_line(&l, s);
	}
	s = join(&l);
	snprintf(out, bytes, "%s", s);
	for (char *p = out; *p; p++)
		*p = *p == '\n' ? ' ' : *p;
	free(s);
}

struct seen {
	struct lines lines;
	char *wrong;
	struct model *m;
	u64 cut;
	u32 last; /* the last operation that had begun */
};

char *say(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	return s;
}

/* ---- sizes and bytes ---- */

/* The last sync of the file that had returned, NO_OP: none. */
static u32 synced_at(const struct seen *s, const struct mfile *f)
{
	for (u32 i = f->syncs; i--;)
		if (s->m->op[f->synced[i]].end <= s->cut)
			return f->synced[i];
	return NO_OP;
}

static bool size_legal(const struct seen *s, const struct mfile *f, u64 size)
{
	u32 sync = synced_at(s, f);
	u64 base = 0;

	for (u32 i = 0; i < f->spans; i++) {
		const struct span *p = &f->span[i];

		if (p->op <= sync)
			base = p->size;
		else if (p->op <= s->last && size >= p->lo && size <= p->hi)
			return true;
	}
	return size == base;
}

static bool covers(const struct event *e, u64 at)
{
	return e->off <= at && at < e->end;
}

static bool event_byte_is(const struct mfile *f, const struct event *e, u64 at, u8 byte)
{
	u8 want = 0;

	if (e->data)
		pattern(f->id, e->op, at, &want, 1);
	return want == byte;
}

/* The bytes [from, to), to which the same events happened. */
static char *bytes_legal(const struct seen *s, const struct mfile *f, const u8 *buf, u64 from, u64 to)
{
	u32 sync = synced_at(s, f), base = 0;
	const struct event *may[256];
	u32 n = 0;

	for (u32 i = 0; i < f->events; i++)
		if (f->event[i].op <= sync && covers(&f->event[i], from))
			base = i;
	may[n++] = &f->event[base];
	for (u32 i = 0; i < f->events && n < ARRAY_SIZE(may); i++)
		if (f->event[i].op > sync && f->event[i].op <= s->last && i != base &&
		    covers(&f->event[i], from))
			may[n++] = &f->event[i];
	for (u64 at = from; at < to; at++) {
		u32 i = 0;

		while (i < n && !event_byte_is(f, may[i], at, buf[at]))
			i++;
		if (i == n)
			return say("byte %llu is 0x%02x, which none of %u legal writes put there (the last "
				   "sync of the file is operation %u, the youngest legal write operation %u)",
				   (unsigned long long)at, buf[at], n, sync, may[n - 1]->op);
	}
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static char *content_legal(const struct seen *s, const struct mfile *f, const u8 *buf, u64 size)
{
	u64 *edge = malloc((2 * (u64)f->events + 2) * sizeof(*edge));
	char *wrong = NULL;
	u32 n = 0;

	edge[n++] = 0;
	edge[n++] = size;
	for (u32 i = 0; i < f->events; i++) {
		edge[n++] = MIN(f->event[i].off, size);
		edge[n++] = MIN(f->event[i].end, size);
	}
	qsort(edge, n, sizeof(*edge), by_number);
	for (u32 i = 0; !wrong && i + 1 < n; i++)
		if (edge[i] < edge[i + 1])
			wrong = bytes_legal(s, f, buf, edge[i], edge[i + 1]);
	free(edge);
	return wrong;
}

static char *file_legal(const struct seen *s, struct fs *fs, const char *path, const struct fs_stat *st)
{
	const struct mfile *f;
	struct fs_file in;
	u64 done = 0;
	char *wrong = NULL;
	u8 *buf;
	int err;

	if (st->uid >= s->m->files)
		return say("%s: owner %u is no file's number", path, st->uid);
	f = &s->m->file[st->uid];
	if (!size_legal(s, f, st->size))
		return say("%s: size %llu, which it never had since operation %u", path,
			   (unsigned long long)st->size, synced_at(s, f));
	buf = malloc(st->size + 1);
	err = fs_open(fs, path, O_RDONLY, 0, &in);
	if (!err) {
		err = fs_read_all(fs, &in, 0, buf, st->size, &done);
		fs_close(fs, &in);
	}
	if (err || done != st->size)
		wrong = say("%s: reading: %s, %llu of %llu bytes", path, strerror(-err),
			    (unsigned long long)done, (unsigned long long)st->size);
	else
		wrong = content_legal(s, f, buf, st->size);
	free(buf);
	if (wrong && !err) {
		char *more =
			say("%s (id %u, size %llu): %s", path, f->id, (unsigned long long)st->size, wrong);

		free(wrong);
		wrong = more;
	}
	return wrong;
}

/* ---- the tree ---- */

static void see_one(struct seen *s, struct fs *fs, const char *path)
{
	char target[PATH_MAX] = "", xattrs[8192];
	struct fs_stat st;
	int err = FS_CALL(fs, stat, path, false, &st);

	if (!err && S_ISLNK(st.mode))
		err = FS_CALL(fs, readlink, path, target);
	if (err) {
		s->wrong = say("%s: %s", path, strerror(-err));
		return;
	}
	if (S_ISREG(st.mode))
		s->wrong = file_legal(s, fs, path, &st);
	if (S_ISLNK(st.mode))
		xattrs[0] = 0;
	else
		read_xattrs(fs, path, xattrs, sizeof(xattrs));
	add_line(&s->lines, line_of(path, st.mode, st.uid, st.gid, st.nlink, target, xattrs));
}

static void see_dir(struct seen *s, struct fs *fs, const char *dir)
{
	struct fs_dirent *e = NULL;
	u32 n = 0;
	int err = fs_list(fs, dir, &e, &n);

	if (err)
		s->wrong = say("listing %s: %s", dir, strerror(-err));
	for (u32 i = 0; i < n && !s->wrong; i++) {
		char path[PATH_LEN + NAME_MAX + 2];

		if (!dir[0] && !strcmp(e[i].name, "lost+found"))
			continue;
		snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", e[i].name);
		see_one(s, fs, path);
		if (e[i].type == DT_DIR && !s->wrong)
			see_dir(s, fs, path);
	}
	free(e);
}

/* The first line in which the two differ. */
static char *difference(const char *want, const char *got)
{
	while (*want && *got) {
		size_t a = strcspn(want, "\n"), b = strcspn(got, "\n");

		if (a != b || memcmp(want, got, a))
			return say("expected \"%.*s\", found \"%.*s\"", (int)a, want, (int)b, got);
		want += a + 1;
		got += b + 1;
	}
	return say("expected \"%.*s\", found \"%.*s\"", (int)strcspn(want, "\n"), want,
		   (int)strcspn(got, "\n"), got);
}

static char *names_legal(const struct seen *s, const char *names)
{
	const struct model *m = s->m;
	char *diff, *wrong;
	u32 first = 0;

	for (u32 i = 1; i <= s->last; i++)
		if (m->op[i].end <= s->cut && m->op[i].sure > first)
			first = m->op[i].sure;
	for (u32 k = s->last + 1; k-- > first;)
		if (!strcmp(m->op[k].names, names))
			return NULL;
	for (u32 k = 0; k < first; k++)
		if (!strcmp(m->op[k].names, names))
			return say("the names are those after operation %u (%s), but operation %u (%s) was "
				   "made sure",
				   k, m->op[k].what, first, m->op[first].what);
	diff = difference(m->op[first].names, names);
	wrong = say("the names are of no moment between operation %u (%s) and %u (%s); against the first: %s",
		    first, m->op[first].what, s->last, m->op[s->last].what, diff);
	free(diff);
	return wrong;
}

char *model_judge(struct model *m, struct fs *fs, u64 cut)
{
	struct seen s = { .m = m, .cut = cut };
	char *names;

	for (u32 i = 1; i <= m->ops; i++)
		if (m->op[i].start <= cut)
			s.last = i;
	see_dir(&s, fs, "");
	names = join(&s.lines);
	if (!s.wrong)
		s.wrong = names_legal(&s, names);
	free(names);
	return s.wrong;
}
