/*
 * The other devices of a volume that has several: image files in the directory of the first, or the machine's other block devices.
 * Interface: beside.h.
 *
 * Each is looked at by the file system's own probe, without a lock; what belongs is then opened and locked as the first one was. Of copies of one
 * device the one of the first device's generation counts, else the newest: so a set of images and an older set of copies beside it do not get
 * mixed up.
 */
#include "beside.h"

#include "lib/scope.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LISTED_MAX 100000u /* names of a directory that are considered */
#define OPENED_MAX 256u    /* files that are looked into */

struct names {
	char **name;
	u32 count, room;
};

/* A device that belongs, and a copy of it that is as good. */
struct found {
	char *path, *twin;
	struct fs_probe p;
	dev_t dev;
	ino_t ino;
};

struct search {
	struct source *s;
	const struct fs_type *type;
	const struct fs_probe *first;
	const struct fs_missing *wanted; /* NULL: all of the first one's volume */
	bool block;
	struct found *found;
	u32 count;
};

/* ---- names ---- */

static int names_add(struct names *n, const char *name)
{
	if (n->count == n->room) {
		u32 room = n->room ? n->room * 2 : 64;
		char **more = realloc(n->name, room * sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory for names");
		n->name = more;
		n->room = room;
	}
	n->name[n->count] = strdup(name);
	return n->name[n->count++] ? 0 : fail(-ENOMEM, "no memory for names");
}

static void names_free(struct names *n)
{
	for (u32 i = 0; i < n->count; i++)
		free(n->name[i]);
	free(n->name);
}

static size_t common(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

/* Names that begin like the first one's come first. */
static int likely_first(const void *a, const void *b, void *like)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t nx = common(x, like), ny = common(y, like);

	return nx != ny ? (nx > ny ? -1 : 1) : strverscmp(x, y);
}

static int list(const char *dir, const char *like, struct names *out)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int err = 0;

	while (d && !err && out->count < LISTED_MAX && (de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			err = names_add(out, de->d_name);
	if (d)
		closedir(d);
	if (!err && out->count)
		qsort_r(out->name, out->count, sizeof(*out->name), likely_first, (void *)(uintptr_t)like);
	return err;
}

/* ---- is it one? ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return S_ISBLK(a->st_mode) ? a->st_rdev == b->st_rdev
				   : a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool is_open(const struct source *s, const struct stat *st)
{
	struct stat own;

	if (s->fd >= 0 && !fstat(s->fd, &own) && same_file(&own, st))
		return true;
	for (u32 i = 0; i < s->more_count; i++)
		if (is_open(&s->more[i], st))
			return true;
	return false;
}

/* Something stands on it (device mapper): what is shown above is the device. */
static bool has_holder(const char *sys_name)
{
	char dir[PATH_MAX];
	struct dirent *de;
	bool found = false;
	DIR *d;

	snprintf(dir, sizeof(dir), "/sys/class/block/%s/holders", sys_name);
	d = opendir(dir);
	while (d && !found && (de = readdir(d)))
		found = de->d_name[0] != '.';
	if (d)
		closedir(d);
	return found;
}

static bool may_be(const struct search *q, const char *path, struct stat *st)
{
	if (stat(path, st) < 0 || is_open(q->s, st))
		return false;
	return q->block ? S_ISBLK(st->st_mode) : S_ISREG(st->st_mode) && st->st_size;
}

static bool belongs(const struct search *q, const char *path, struct fs_probe *p)
{
	struct blkdev *dev;
	int err = dev_file_open(path, DEV_BUFFERED | DEV_NO_RING, &dev);

	*p = (struct fs_probe){ 0 };
	if (!err) {
		err = q->type->probe(dev, p);
		blkdev_put(dev);
	}
	err_clear();
	if (err || !p->score)
		return false;
	if (!q->wanted)
		return !memcmp(p->uuid, q->first->uuid, sizeof(p->uuid)) &&
		       memcmp(p->dev_uuid, q->first->dev_uuid, sizeof(p->dev_uuid));
	for (u32 i = 0; i < q->wanted->count; i++)
		if (!memcmp(p->dev_uuid, q->wanted->dev_uuid[i], sizeof(p->dev_uuid)))
			return true;
	return false;
}

/* ---- the best of each ---- */

static u64 rank(const struct search *q, const struct fs_probe *p)
{
	return p->generation == q->first->generation ? UINT64_MAX : p->generation;
}

static int take_in(struct search *q, const char *path, const struct stat *st, const struct fs_probe *p)
{
	char *copy = strdup(path), **to;
	struct found *f = NULL, *more;

	for (u32 i = 0; i < q->count && !f; i++)
		if (!memcmp(q->found[i].p.dev_uuid, p->dev_uuid, sizeof(p->dev_uuid)))
			f = &q->found[i];
	if (!f && copy) {
		more = realloc(q->found, (q->count + 1ul) * sizeof(*more));
		if (more) {
			q->found = more;
			more[q->count++] = (struct found){ copy, NULL, *p, st->st_dev, st->st_ino };
			return 0;
		}
	}
	if (!f || !copy) {
		free(copy);
		return fail(-ENOMEM, "no memory for devices");
	}
	to = rank(q, p) > rank(q, &f->p) ? &f->path : &f->twin;
	if (rank(q, p) < rank(q, &f->p) || (f->dev == st->st_dev && f->ino == st->st_ino)) {
		free(copy);
		return 0;
	}
	free(*to);
	*to = copy;
	if (to == &f->path) {
		free(f->twin);
		*f = (struct found){ copy, NULL, *p, st->st_dev, st->st_ino };
	}
	return 0;
}

static int look(struct search *q)
{
	char *slash = strrchr(q->s->name, '/'), path[PATH_MAX];
	struct names names = { 0 };
	u32 opened = 0;
	int err;

	if (!slash)
		return 0;
	snprintf(path, sizeof(path), "%.*s/", (int)(slash - q->s->name), q->s->name);
	err = list(q->block ? "/sys/class/block" : path, slash + 1, &names);
	for (u32 i = 0; i < names.count && !err && opened < OPENED_MAX; i++) {
		struct fs_probe p;
		struct stat st;

		if (q->block && has_holder(names.name[i]))
			continue;
		snprintf(path, sizeof(path), "%.*s/%s", q->block ? 4 : (int)(slash - q->s->name),
			 q->block ? "/dev" : q->s->name, names.name[i]);
		for (char *c = path; q->block && *c; c++)
			if (*c == '!') /* how /sys writes a slash */
				*c = '/';
		if (!may_be(q, path, &st))
			continue;
		opened++;
		if (belongs(q, path, &p))
			err = take_in(q, path, &st, &p);
	}
	names_free(&names);
	return err;
}

int beside_open(struct source *s, const struct fs_type *type, const struct fs_probe *first,
		const struct fs_missing *wanted, u32 *found)
{
	struct search q = { .s = s, .type = type, .first = first, .wanted = wanted };
	struct stat st;
	int err = 0;

	*found = 0;
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return 0;
	q.block = S_ISBLK(st.st_mode);
	err = look(&q);
	for (u32 i = 0; i < q.count && !err; i++) {
		if (q.found[i].twin)
			err = fail(-EEXIST,
				   "%s and %s are copies of one device of the volume: name all its devices "
				   "with --device",
				   q.found[i].path, q.found[i].twin);
		else
			err = source_add(s, q.found[i].path);
	}
	if (!err)
		*found = q.count;
	for (u32 i = 0; i < q.count; i++) {
		free(q.found[i].path);
		free(q.found[i].twin);
	}
	free(q.found);
	return err;
}
