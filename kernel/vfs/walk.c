/*
 * Every file below a directory, for the tools. A directory is listed whole, then its entries are visited in
 * order of inode number, which is the order of the inode tables on the disk. Directories are kept as numbers,
 * not as open inodes. Each is entered once: a broken volume may have a directory in two places, or in itself, and
 * following every path would take for ever.
 */
#include "internal.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include "lib/text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Deeper than any path can name twice over; keeps the recursion's stack bounded. */
#define DEPTH_MAX 8192u

struct entry {
	u64 ino;
	char *name;
};

struct listing {
	struct entry *e;
	u32 count, room;
};

struct walker {
	int (*fn)(void *ctx, const struct walk_entry *e);
	void *ctx;
	struct text path;
	u64 *seen; /* numbers of the directories entered; 0: an empty slot */
	u32 seen_count, seen_room;
	u32 depth;
};

static void listing_free(struct listing *l)
{
	for (u32 i = 0; i < l->count; i++)
		free(l->e[i].name);
	free(l->e);
}

static int listing_add(void *ctx, const struct dirent_out *de)
{
	struct listing *l = ctx;
	const struct name *n = &de->name;
	char *copy;

	if (n->s[0] == '.' && (n->len == 1 || (n->len == 2 && n->s[1] == '.')))
		return 0;
	if (l->count == l->room) {
		u32 room = l->room ? l->room * 2 : 64;
		struct entry *e = realloc(l->e, room * sizeof(*e));

		if (!e)
			return -ENOMEM;
		l->e = e;
		l->room = room;
	}
	copy = strndup(n->s, n->len);
	if (!copy)
		return -ENOMEM;
	l->e[l->count++] = (struct entry){ .ino = de->ino, .name = copy };
	return 0;
}

static int by_ino(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int visit(struct walker *w, struct inode *inode, struct inode *parent);

/* Room for another number in the table of directories entered, which is at most half full. */
static int seen_grow(struct walker *w)
{
	u32 room = w->seen_room ? w->seen_room * 2 : 64;
	u64 *old = w->seen, *seen = calloc(room, sizeof(*seen));

	if (!seen)
		return -ENOMEM;
	for (u32 i = 0; i < w->seen_room; i++)
		if (old[i]) {
			u64 at = hash_number(old[i]);

			while (seen[at & (room - 1)])
				at++;
			seen[at & (room - 1)] = old[i];
		}
	free(old);
	w->seen = seen;
	w->seen_room = room;
	return 0;
}

static int enter(struct walker *w, struct inode *dir)
{
	u64 at = hash_number(dir->ino);

	if (w->depth == DEPTH_MAX)
		return fail(-ELOOP, "directory %llu lies more than %u levels deep",
			    (unsigned long long)dir->ino, DEPTH_MAX);
	if (w->seen_count * 2 >= w->seen_room && seen_grow(w))
		return -ENOMEM;
	for (; w->seen[at & (w->seen_room - 1)]; at++)
		if (w->seen[at & (w->seen_room - 1)] == dir->ino)
			return corrupt(&dir->sb->health, "directory", dir->ino,
				       "has more than one place in the tree");
	w->seen[at & (w->seen_room - 1)] = dir->ino;
	w->seen_count++;
	w->depth++;
	return 0;
}

static int visit_children(struct walker *w, struct inode *dir)
{
	scoped(listing_free) struct listing l = { 0 };
	size_t len = w->path.len_bytes;
	/* What was listed before an error is visited all the same; the error comes last. */
	int list_err = vfs_readdir(dir, 0, listing_add, &l), err = 0;

	if (l.count)
		qsort(l.e, l.count, sizeof(l.e[0]), by_ino);
	for (u32 i = 0; i < l.count && !err; i++) {
		struct name name = NAME(l.e[i].name);
		struct inode *child;

		text_add(&w->path, "%s%s", len ? "/" : "", l.e[i].name);
		if (w->path.oom)
			return -ENOMEM;
		err = vfs_lookup(dir, &name, &child);
		if (!err) {
			err = visit(w, child, dir);
			vfs_iput(child);
		} else {
			/* The visitor decides whether a name that leads nowhere ends the walk. */
			struct walk_entry e = {
				.path = w->path.buf, .parent = dir, .depth = w->depth, .err = err
			};

			err = w->fn(w->ctx, &e);
		}
		w->path.len_bytes = len;
		w->path.buf[len] = 0;
	}
	return err ? err : list_err;
}

static int visit(struct walker *w, struct inode *inode, struct inode *parent)
{
	struct walk_entry e = {
		.path = text_str(&w->path), .inode = inode, .parent = parent, .depth = w->depth
	};
	int err = w->fn(w->ctx, &e);

	if (err || !is_dir(inode))
		return err;
	err = enter(w, inode);
	if (!err) {
		err = visit_children(w, inode);
		w->depth--;
	}
	if (err < 0) {
		e.path = text_str(&w->path);
		e.err = err;
		err = w->fn(w->ctx, &e);
	}
	return err;
}

int vfs_walk(struct inode *start, int (*fn)(void *ctx, const struct walk_entry *e), void *ctx)
{
	struct walker w = { .fn = fn, .ctx = ctx };
	int err = visit(&w, start, NULL);

	text_free(&w.path);
	free(w.seen);
	return err;
}
