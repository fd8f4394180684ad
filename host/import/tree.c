/* See tree.h. */
#include "tree.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 65536u

/* Names behind one another, and where each begins. */
struct tree_names {
	char *buf;
	size_t len, room;
	size_t *at;
	u32 count, at_room;
};

struct tree_frame {
	void *dir;
	char *path; /* of the directory */
	struct tree_names names;
	u32 next;
};

struct tree_link {
	struct tree_link *more;
	u64 dev, ino;
	char path[];
};

/* ---- names ---- */

int tree_add(struct tree_names *n, const char *name, size_t len)
{
	if (n->len + len + 1 > n->room) {
		size_t room = MAX(2 * n->room, n->len + len + 1 + 4096);
		char *buf = realloc(n->buf, room);

		if (!buf)
			return fail(-ENOMEM, "no memory for a directory's names");
		n->buf = buf;
		n->room = room;
	}
	if (n->count == n->at_room) {
		u32 room = MAX(2 * n->at_room, 64u);
		size_t *at = realloc(n->at, room * sizeof(*at));

		if (!at)
			return fail(-ENOMEM, "no memory for a directory's names");
		n->at = at;
		n->at_room = room;
	}
	n->at[n->count++] = n->len;
	memcpy(n->buf + n->len, name, len);
	n->buf[n->len + len] = 0;
	n->len += len + 1;
	return 0;
}

static int by_bytes(const void *a, const void *b, void *buf)
{
	return strcmp((char *)buf + *(const size_t *)a, (char *)buf + *(const size_t *)b);
}

static void names_free(struct tree_names *n)
{
	free(n->buf);
	free(n->at);
}

/* ---- files with several names ---- */

static u32 link_hash(const struct tree *t, u64 dev, u64 ino)
{
	return (u32)(((ino ^ dev << 40) * 0x9e3779b97f4a7c15ull) >> 32) & (t->link_room - 1);
}

static int links_grow(struct tree *t)
{
	u32 old_room = t->link_room;
	struct tree_link **old = t->link,
			 **more = calloc(MAX(2 * old_room, 256u), sizeof(struct tree_link *));

	if (!more)
		return fail(-ENOMEM, "no memory for hard links");
	t->link = more;
	t->link_room = MAX(2 * old_room, 256u);
	for (u32 i = 0; i < old_room; i++) {
		for (struct tree_link *l = old[i], *next; l; l = next) {
			u32 h = link_hash(t, l->dev, l->ino);

			next = l->more;
			l->more = more[h];
			more[h] = l;
		}
	}
	free(old);
	return 0;
}

int tree_seen(struct tree *t, u64 dev, u64 ino, const char *path, const char **first)
{
	struct tree_link *l;
	size_t n = strlen(path);
	u32 h;
	int err;

	*first = NULL;
	if (t->links >= t->link_room && (err = links_grow(t)))
		return err;
	h = link_hash(t, dev, ino);
	for (l = t->link[h]; l; l = l->more) {
		if (l->dev == dev && l->ino == ino) {
			*first = l->path;
			return 0;
		}
	}
	l = malloc(sizeof(*l) + n + 1);
	if (!l)
		return fail(-ENOMEM, "no memory for hard links");
	*l = (struct tree_link){ .more = t->link[h], .dev = dev, .ino = ino };
	memcpy(l->path, path, n + 1);
	t->link[h] = l;
	t->links++;
	return 0;
}

/* ---- the walk ---- */

static void leave(struct tree *t)
{
	struct tree_frame *fr = &t->frame[--t->depth];

	t->ops->leave(t, fr->dir);
	names_free(&fr->names);
	free(fr->path);
}

static int unlisted(struct tree *t, const char *path, int err)
{
	t->unlisted = item_new(path);
	if (!t->unlisted)
		return fail(-ENOMEM, "no memory for a tree");
	item_spoil(t->unlisted, err);
	return 0;
}

static int more_room(struct tree *t)
{
	u32 room = MAX(2 * t->room, 16u);
	struct tree_frame *more = realloc(t->frame, room * sizeof(*more));

	if (!more)
		return fail(-ENOMEM, "no memory for a tree");
	t->frame = more;
	t->room = room;
	return 0;
}

/* Takes dir over. What cannot be listed is told of by an item of its own. */
static int enter(struct tree *t, const char *path, void *dir)
{
	struct tree_frame *fr;
	int err = t->depth == t->room ? more_room(t) : 0;

	if (err || t->depth == DEPTH_MAX) {
		t->ops->leave(t, dir);
		return err ? err
			   : unlisted(t, path, fail(-ELOOP, "directories deeper than %u levels", DEPTH_MAX));
	}
	fr = &t->frame[t->depth++];
	*fr = (struct tree_frame){ .dir = dir, .path = strdup(path) };
	if (!fr->path)
		return fail(-ENOMEM, "no memory for a tree");
	err = t->ops->list(t, dir, &fr->names);
	if (fr->names.count)
		qsort_r(fr->names.at, fr->names.count, sizeof(fr->names.at[0]), by_bytes, fr->names.buf);
	return err && err != -ENOMEM ? unlisted(t, path, err) : err;
}

static char *below(const char *path, const char *name)
{
	size_t n = strlen(path), m = strlen(name);
	char *p = malloc(n + m + 2);

	if (!p)
		return NULL;
	memcpy(p, path, n);
	if (n)
		p[n++] = '/';
	memcpy(p + n, name, m + 1);
	return p;
}

static int begin(struct tree *t, struct item **out)
{
	void *into = NULL;
	int err = t->ops->look(t, NULL, "", "", out, &into);

	t->begun = true;
	if (err)
		return err;
	if (into)
		return enter(t, "", into);
	free((*out)->path);
	(*out)->feed_path = (*out)->path = strdup(t->name);
	return (*out)->path ? 0 : fail(-ENOMEM, "no memory for a tree");
}

int tree_next(struct feed *f, struct item **out)
{
	struct tree *t = (struct tree *)f;

	*out = NULL;
	if (!t->begun)
		return begin(t, out);
	if (t->unlisted) {
		*out = take(t->unlisted);
		return 0;
	}
	while (t->depth) {
		struct tree_frame *fr = &t->frame[t->depth - 1];
		scoped(freep) char *path = NULL;
		const char *name;
		void *into = NULL;
		int err;

		if (fr->next == fr->names.count) {
			leave(t);
			continue;
		}
		name = fr->names.buf + fr->names.at[fr->next++];
		path = below(fr->path, name);
		if (!path)
			return fail(-ENOMEM, "no memory for a tree");
		if (select_drops(t->feed.select, path))
			continue;
		err = t->ops->look(t, fr->dir, name, path, out, &into);
		if (!err && into)
			err = enter(t, path, into);
		if (err) {
			item_free(*out);
			*out = NULL;
		}
		return err;
	}
	return 0;
}

void tree_fini(struct tree *t)
{
	while (t->depth)
		leave(t);
	free(t->frame);
	item_free(t->unlisted);
	for (u32 i = 0; i < t->link_room; i++) {
		for (struct tree_link *l = t->link[i], *next; l; l = next) {
			next = l->more;
			free(l);
		}
	}
	free(t->link);
}
