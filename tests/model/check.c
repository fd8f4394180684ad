/*
 * Comparing the sides. After each operation: its results; what stat shows of the files and directories it touched,
 * and whether it moved their times; the bytes around what it wrote. From time to time: the whole tree.
 *
 * Not compared, since file systems may differ: sizes and blocks of directories, numbers of inodes, times to the
 * nanosecond when the clock gave them, atime unless it was just set, holes after operations that may leave
 * unwritten blocks.
 */
#include "model/model.h"

#include "lib/err.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 6000u

static void add_view(struct touched *t, const char *path, size_t len, int slot)
{
	struct view *v = &t->view[t->n];

	for (u32 i = 0; i < t->n; i++)
		if (slot < 0 && t->view[i].slot < 0 && strlen(t->view[i].path) == len &&
		    !memcmp(t->view[i].path, path, len))
			return;
	v->slot = slot;
	snprintf(v->path, sizeof(v->path), "%.*s", (int)len, path);
	t->n++;
}

static void add_path(struct touched *t, const char *path)
{
	const char *slash = strrchr(path, '/');

	add_view(t, path, strlen(path), -1);
	add_view(t, path, slash ? (size_t)(slash - path) : 0, -1);
}

static void look(struct side sides[2], struct touched *t)
{
	for (u32 i = 0; i < t->n; i++)
		for (u32 s = 0; s < 2; s++) {
			struct view *v = &t->view[i];
			struct fs *fs = sides[s].fs;

			if (v->slot < 0)
				v->err[s] = FS_CALL(fs, stat, v->path, false, &v->st[s]);
			else if (!sides[s].slot[v->slot].used)
				v->err[s] = -EBADF;
			else
				v->err[s] = FS_CALL(fs, fstat, &sides[s].slot[v->slot].f, &v->st[s]);
		}
}

void touched_before(struct side sides[2], const struct op *op, struct touched *t)
{
	bool names = op->kind == OP_RENAME || op->kind == OP_LINK;

	memset(t, 0, sizeof(*t));
	if (op->kind == OP_OPEN || (op->kind >= OP_CLOSE && op->kind <= OP_FLINK))
		add_view(t, "", 0, (int)op->slot);
	if (op->kind == OP_COPY)
		add_view(t, "", 0, (int)op->slot2);
	if (*op->path)
		add_path(t, op->path);
	if (names)
		add_path(t, op->path2);
	look(sides, t);
}

/* A time that nobody's clock gave. */
static bool was_set(struct timespec t)
{
	time_t now = time(NULL);

	return t.tv_sec < now - 86400 || t.tv_sec > now + 86400;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

#define DIFFER(...)                               \
	do {                                      \
		snprintf(why, size, __VA_ARGS__); \
		return false;                     \
	} while (0)
#define SAME(what, o, t)                                                                                    \
	do {                                                                                                \
		if ((u64)(o) != (u64)(t))                                                                   \
			DIFFER("%s of %s: oracle %#llx, target %#llx", what, path, (unsigned long long)(o), \
			       (unsigned long long)(t));                                                    \
	} while (0)

static bool same_stat(const char *path, const struct fs_stat *o, const struct fs_stat *t, bool times,
		      char *why, size_t size)
{
	SAME("mode", o->mode, t->mode);
	SAME("nlink", o->nlink, t->nlink);
	SAME("uid", o->uid, t->uid);
	SAME("gid", o->gid, t->gid);
	SAME("rdev_major", o->rdev_major, t->rdev_major);
	SAME("rdev_minor", o->rdev_minor, t->rdev_minor);
	if (!S_ISDIR(o->mode))
		SAME("size", o->size, t->size);
	if (times && (was_set(o->mtime) || was_set(t->mtime))) {
		SAME("mtime seconds", o->mtime.tv_sec, t->mtime.tv_sec);
		SAME("mtime nanoseconds", o->mtime.tv_nsec, t->mtime.tv_nsec);
	}
	SAME("whether ctime is the clock's", !was_set(o->ctime), !was_set(t->ctime));
	return true;
}

static bool same_bytes(struct side sides[2], struct fs_file *f[2], u64 off, u64 len, const char *path,
		       char *why, size_t size)
{
	static u8 buf[2][1 << 16];

	while (len) {
		u64 n = MIN(len, sizeof(buf[0])), done[2];

		for (u32 s = 0; s < 2; s++) {
			int err = fs_read_all(sides[s].fs, f[s], off, buf[s], n, &done[s]);

			if (err)
				DIFFER("reading %s at %llu: %s", path, (unsigned long long)off,
				       err_name(err));
		}
		SAME("bytes read", done[0], done[1]);
		for (u64 i = 0; i < done[0]; i++)
			if (buf[0][i] != buf[1][i])
				DIFFER("byte %llu of %s: oracle %#x, target %#x",
				       (unsigned long long)(off + i), path, buf[0][i], buf[1][i]);
		if (done[0] < n)
			break;
		off += n;
		len -= n;
	}
	return true;
}

static bool check_window(struct side sides[2], const struct op *op, const struct result *r, char *why,
			 size_t size)
{
	u32 slot = op->kind == OP_COPY ? op->slot2 : op->slot;
	struct fs_file *f[2] = { &sides[0].slot[slot].f, &sides[1].slot[slot].f };
	u64 at = op->kind == OP_COPY ? op->off2 : op->off, from = at > WINDOW ? at - WINDOW : 0;
	u64 len = op->kind == OP_FTRUNCATE ? 0 : op->kind == OP_COPY ? r->value : op->len;
	char path[16];

	if (op->kind != OP_PWRITE && op->kind != OP_FTRUNCATE && op->kind != OP_FALLOCATE &&
	    op->kind != OP_COPY)
		return true;
	if (!sides[0].slot[slot].used || (f[0]->flags & O_ACCMODE) != O_RDWR)
		return true;
	snprintf(path, sizeof(path), "fd%u", slot);
	return same_bytes(sides, f, from, at - from + len + WINDOW, path, why, size);
}

static bool check_times(const struct op *op, const struct view *was, const struct view *is, char *why,
			size_t size)
{
	const char *what = *is->path ? is->path : is->slot < 0 ? "the root" : "the open file";
	bool m[2], c[2];

	for (u32 s = 0; s < 2; s++) {
		/* Where times are whole seconds, what moves and what does not is a matter of luck. */
		if (!is->st[s].ctime.tv_nsec && !was->st[s].ctime.tv_nsec)
			return true;
		m[s] = !same_time(was->st[s].mtime, is->st[s].mtime);
		c[s] = !same_time(was->st[s].ctime, is->st[s].ctime);
	}
	if (m[0] != m[1])
		DIFFER("mtime of %s: %s moved it, %s did not", what, m[0] ? "oracle" : "target",
		       m[0] ? "target" : "oracle");
	/* Setting an attribute to what it is may be nothing or a change. */
	if (c[0] != c[1] && (c[0] || op->kind != OP_SETXATTR))
		DIFFER("ctime of %s: %s moved it, %s did not", what, c[0] ? "oracle" : "target",
		       c[0] ? "target" : "oracle");
	if (op->kind == OP_UTIMENS && !strcmp(is->path, op->path) && op->t[0].tv_nsec != UTIME_OMIT &&
	    !same_time(is->st[0].atime, is->st[1].atime))
		DIFFER("atime of %s", what);
	return true;
}

bool check_step(struct side sides[2], const struct op *op, const struct result r[2], struct touched *t,
		const struct rules *rules, char *why, size_t size)
{
	static struct touched before;
	const char *path = "the operation";

	/* Where holes may differ, so may the answer that there is no more data. */
	if (op->kind == OP_SEEK && !rules->exact_seek && (!r[0].err || r[0].err == -ENXIO) &&
	    (!r[1].err || r[1].err == -ENXIO))
		return true;
	if (r[0].err != r[1].err)
		DIFFER("result: oracle %s, target %s", r[0].err ? err_name(r[0].err) : "0",
		       r[1].err ? err_name(r[1].err) : "0");
	if (!r[0].err)
		SAME("value", r[0].value, r[1].value);
	if (strcmp(r[0].text, r[1].text))
		DIFFER("result: oracle \"%s\", target \"%s\"", r[0].text, r[1].text);
	SAME("content", r[0].hash, r[1].hash);
	before = *t;
	look(sides, t);
	for (u32 i = 0; i < t->n; i++) {
		struct view *v = &t->view[i], *was = &before.view[i];

		path = *v->path ? v->path : v->slot < 0 ? "the root" : "the open file";
		if (v->err[0] != v->err[1])
			DIFFER("stat of %s: oracle %s, target %s", path,
			       v->err[0] ? err_name(v->err[0]) : "0", v->err[1] ? err_name(v->err[1]) : "0");
		if (v->err[0])
			continue;
		if (!same_stat(path, &v->st[0], &v->st[1], rules->times, why, size))
			return false;
		/* The slot held another file before, perhaps of the same number. */
		if (op->kind == OP_OPEN && v->slot >= 0)
			continue;
		if (rules->times && !was->err[0] && !was->err[1] && was->st[0].ino == v->st[0].ino &&
		    was->st[1].ino == v->st[1].ino && !check_times(op, was, v, why, size))
			return false;
	}
	return r[0].err || check_window(sides, op, &r[0], why, size);
}

/* ---- the whole tree ---- */

static bool same_xattrs(struct side sides[2], const char *path, char *why, size_t size)
{
	struct op list = { .kind = OP_LISTXATTR }, get = { .kind = OP_GETXATTR };
	struct result r[2];
	char names[256];

	snprintf(list.path, PATH_LEN, "%s", path);
	snprintf(get.path, PATH_LEN, "%s", path);
	for (u32 s = 0; s < 2; s++)
		op_run(&sides[s], &list, &r[s]);
	if (r[0].err != r[1].err || strcmp(r[0].text, r[1].text))
		DIFFER("attributes of %s: oracle \"%s\" (%s), target \"%s\" (%s)", path, r[0].text,
		       err_name(r[0].err), r[1].text, err_name(r[1].err));
	strcpy(names, r[0].text);
	for (char *n = strtok(names, " "); n; n = strtok(NULL, " ")) {
		snprintf(get.path2, PATH_LEN, "%s", n);
		for (u32 s = 0; s < 2; s++)
			op_run(&sides[s], &get, &r[s]);
		SAME("an attribute's length", r[0].value, r[1].value);
		SAME("an attribute's value", r[0].hash, r[1].hash);
	}
	return true;
}

static bool same_content(struct side sides[2], const char *path, u64 file_size, char *why, size_t size)
{
	struct fs_file f[2], *p[2] = { &f[0], &f[1] };
	u64 off = 0;
	bool ok = true;
	int err = fs_open(sides[0].fs, path, O_RDONLY, 0, &f[0]);

	if (err)
		DIFFER("opening %s: %s", path, err_name(err));
	err = fs_open(sides[1].fs, path, O_RDONLY, 0, &f[1]);
	if (err) {
		fs_close(sides[0].fs, &f[0]);
		DIFFER("opening %s: oracle 0, target %s", path, err_name(err));
	}
	/* Of a huge sparse file what the oracle has as data, with its surroundings, and what the target has. */
	while (ok && off < file_size) {
		u64 data[2] = { off, off }, from, len;

		if (file_size > 8 << 20) {
			for (u32 s = 0; s < 2; s++)
				if (FS_CALL(sides[s].fs, seek, &f[s], off, SEEK_DATA, &data[s]))
					data[s] = file_size - 1;
		}
		from = MIN(data[0], data[1]);
		len = MIN(file_size - from, 1ull << 20);
		ok = same_bytes(sides, p, from, len, path, why, size);
		off = from + len;
	}
	for (u32 s = 0; s < 2; s++)
		fs_close(sides[s].fs, &f[s]);
	return ok;
}

static bool same_file(struct side sides[2], const char *path, bool times, char *why, size_t size)
{
	struct fs_stat st[2];

	for (u32 s = 0; s < 2; s++) {
		int err = FS_CALL(sides[s].fs, stat, path, false, &st[s]);

		if (err)
			DIFFER("stat of %s on side %u: %s", path, s, err_name(err));
	}
	if (!same_stat(path, &st[0], &st[1], times, why, size))
		return false;
	if (!same_xattrs(sides, path, why, size))
		return false;
	if (S_ISREG(st[0].mode))
		return same_content(sides, path, st[0].size, why, size);
	if (S_ISLNK(st[0].mode)) {
		char link[2][PATH_MAX] = { "" };

		for (u32 s = 0; s < 2; s++)
			(void)FS_CALL(sides[s].fs, readlink, path, link[s]);
		if (strcmp(link[0], link[1]))
			DIFFER("target of %s: oracle %.80s, target %.80s", path, link[0], link[1]);
	}
	return true;
}

static bool same_dir(struct side sides[2], const char *dir, bool times, char *why, size_t size)
{
	struct fs_dirent *list[2];
	u32 n[2];
	bool ok = true;

	for (u32 s = 0; s < 2; s++) {
		int err = fs_list(sides[s].fs, dir, &list[s], &n[s]);

		if (err) {
			if (s)
				free(list[0]);
			DIFFER("listing \"%s\" on side %u: %s", dir, s, err_name(err));
		}
	}
	for (u32 i = 0; ok && i < n[0]; i++) {
		char path[PATH_LEN + NAME_MAX + 2];

		if (i >= n[1] || strcmp(list[0][i].name, list[1][i].name)) {
			snprintf(why, size, "directory \"%s\": oracle has %s, target %s", dir,
				 list[0][i].name, i < n[1] ? list[1][i].name : "ends");
			ok = false;
			break;
		}
		snprintf(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "", list[0][i].name);
		ok = strlen(path) >= PATH_LEN || same_file(sides, path, times, why, size);
		if (ok && list[0][i].type == DT_DIR && strlen(path) < PATH_LEN)
			ok = same_dir(sides, path, times, why, size);
	}
	if (ok && n[0] != n[1]) {
		snprintf(why, size, "directory \"%s\": oracle has %u names, target %u", dir, n[0], n[1]);
		ok = false;
	}
	free(list[0]);
	free(list[1]);
	return ok;
}

bool check_tree(struct side sides[2], const struct rules *rules, char *why, size_t size)
{
	return same_dir(sides, "", rules->times, why, size);
}
