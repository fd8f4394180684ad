/*
 * Going through a tree of files that changes on the way.
 *
 * A level is a directory's number and how far it has been listed, which stays good while entries go. Names are listed some at a time; of levels
 * far up even those are forgotten, and listed again from there when the way comes back. The path, in one buffer, keeps the names of all
 * levels. So 100,000 levels take a few MiB, and no stack.
 */
#include "descend.h"

#include "lib/scope.h"
#include "lib/text.h"
#include "seen.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX   256u     /* names listed at a time */
#define BATCHES_MAX 64u      /* levels that keep theirs while the way is below them */
#define LEVELS_MAX  1000000u /* no tree that somebody made is so deep */

struct listed_name {
	u32 at, len; /* in the batch's text */
	u64 next_pos;
};

struct batch {
	struct text text;
	struct listed_name *name;
	u32 count, at;
	bool full; /* there may be more behind it */
};

struct level {
	u64 ino;
	u64 pos;            /* what is listed next begins here */
	size_t parent_len;  /* of the path to the directory that it is in */
	size_t name_at;     /* in the path */
	struct batch batch; /* name NULL: not listed */
	bool failed;        /* something in it */
};

struct descent {
	const struct visitor *v;
	struct super_block *sb;
	struct text path;
	struct level *level;
	u32 levels, room;
	struct seen seen;  /* the directories that were entered and are there still */
	struct inode *dir; /* of the lowest level, referenced; NULL: not read yet */
};

/* ---- listing ---- */

static void batch_free(struct batch *b)
{
	text_free(&b->text);
	free(b->name);
	*b = (struct batch){ 0 };
}

static int batch_add(void *ctx, const struct dirent_out *de)
{
	struct batch *b = ctx;
	const struct name *n = &de->name;

	if (n->s[0] == '.' && (n->len == 1 || (n->len == 2 && n->s[1] == '.')))
		return 0;
	if (b->count == BATCH_MAX) {
		b->full = true;
		return 1;
	}
	b->name[b->count++] = (struct listed_name){ (u32)b->text.len_bytes, n->len, de->next_pos };
	text_add_bytes(&b->text, n->s, n->len);
	return b->text.oom ? fail(-ENOMEM, "no memory for names") : 0;
}

/* ---- errors ---- */

static void tell(struct descent *d, int err)
{
	d->v->failed(d->v->ctx, err, text_str(&d->path));
	err_clear();
}

/* Of something in the lowest level. */
static void failed(struct descent *d, int err)
{
	tell(d, err);
	if (d->levels)
		d->level[d->levels - 1].failed = true;
}

/* ---- levels ---- */

static void path_cut(struct descent *d, size_t len)
{
	d->path.len_bytes = len;
	if (d->path.buf)
		d->path.buf[len] = 0;
}

/* Room for one more. */
static int grow(struct descent *d)
{
	u32 room = d->room ? 2 * d->room : 16;
	struct level *more;

	if (d->levels == LEVELS_MAX)
		return fail(-ELOOP, "it lies more than %u levels deep", LEVELS_MAX);
	if (d->levels < d->room)
		return 0;
	more = realloc(d->level, room * sizeof(*more));
	if (!more)
		return fail(-ENOMEM, "no memory for %u levels", room);
	d->level = more;
	d->room = room;
	return 0;
}

/* Goes into a directory, whose path is d->path. */
static int push(struct descent *d, struct inode *dir, size_t parent_len, size_t name_at)
{
	int err = grow(d);

	if (!err)
		err = seen_add(&d->seen, dir->ino);
	if (err)
		return err == -EEXIST ? fail(-ELOOP, "this directory has another place in the tree") : err;
	if (d->levels >= BATCHES_MAX)
		batch_free(&d->level[d->levels - 1].batch);
	vfs_iput(take(d->dir));
	d->dir = vfs_igrab(dir);
	d->level[d->levels++] =
		(struct level){ .ino = dir->ino, .parent_len = parent_len, .name_at = name_at };
	return 0;
}

/* The directory of the lowest level, and its next names. 1: there are none. */
static int list(struct descent *d)
{
	struct level *l = &d->level[d->levels - 1];
	struct batch *b = &l->batch;
	int err = d->dir ? 0 : vfs_iget(d->sb, l->ino, &d->dir);

	if (err || (b->name && b->at < b->count))
		return err;
	if (b->name && !b->full)
		return 1;
	batch_free(b);
	b->name = malloc(BATCH_MAX * sizeof(*b->name));
	if (!b->name)
		return fail(-ENOMEM, "no memory for names");
	err = vfs_readdir(d->dir, l->pos, batch_add, b);
	/* What was listed before an error is visited all the same. */
	if (err)
		failed(d, err);
	return b->count ? 0 : 1;
}

/* ---- visits ---- */

/* The next name of the lowest level. */
static void visit(struct descent *d)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct level *l = &d->level[d->levels - 1];
	const struct listed_name *n = &l->batch.name[l->batch.at++];
	const size_t len = d->path.len_bytes;
	struct visit v = { .dir = d->dir };
	int err;

	l->pos = n->next_pos;
	if (len && d->path.buf[len - 1] != '/')
		text_add_bytes(&d->path, "/", 1);
	v.name = (struct name){ NULL, n->len };
	text_add_bytes(&d->path, l->batch.text.buf + n->at, n->len);
	if (d->path.oom) {
		d->path.oom = false;
		path_cut(d, len);
		failed(d, fail(-ENOMEM, "no memory for a path"));
		return;
	}
	v.name.s = d->path.buf + d->path.len_bytes - n->len;
	err = vfs_lookup(d->dir, &v.name, &inode);
	v.inode = inode;
	if (!err)
		err = d->v->enter(d->v->ctx, &v);
	if (!err && is_dir(inode)) {
		err = push(d, inode, len, d->path.len_bytes - n->len);
		if (!err)
			return;
	}
	if (err)
		failed(d, err);
	path_cut(d, len);
}

/* The lowest level is done; the first of them all is start's. */
static void pop(struct descent *d, const struct visit *start)
{
	struct level done = d->level[--d->levels];
	struct visit v = *start;
	int err = 0;

	batch_free(&done.batch);
	vfs_iput(take(d->dir));
	v.inode = NULL;
	if (d->levels) {
		err = vfs_iget(d->sb, d->level[d->levels - 1].ino, &d->dir);
		v.dir = d->dir;
		v.name = (struct name){ d->path.buf + done.name_at, (u32)(d->path.len_bytes - done.name_at) };
	}
	if (!err && d->v->leave && !done.failed) {
		err = d->v->leave(d->v->ctx, &v);
		if (!err)
			seen_del(&d->seen, done.ino);
	}
	if (err)
		failed(d, err);
	else if (done.failed && d->levels)
		d->level[d->levels - 1].failed = true;
	path_cut(d, done.parent_len);
}

void descend(const struct visit *start, const char *path, const struct visitor *v)
{
	struct descent d = { .v = v, .sb = start->inode->sb };
	int err;

	text_add_bytes(&d.path, path, strlen(path));
	err = d.path.oom ? fail(-ENOMEM, "no memory for a path") : v->enter(v->ctx, start);
	if (!err && is_dir(start->inode))
		err = push(&d, start->inode, 0, 0);
	if (err)
		tell(&d, err);
	/* When nothing can be changed any more there is no end to what would be said. */
	while (d.levels && health_state(&d.sb->health) < HEALTH_ABORTED) {
		err = list(&d);
		if (!err) {
			visit(&d);
			continue;
		}
		if (err < 0)
			failed(&d, err);
		pop(&d, start);
	}
	while (d.levels)
		batch_free(&d.level[--d.levels].batch);
	vfs_iput(d.dir);
	free(d.level);
	seen_free(&d.seen);
	text_free(&d.path);
}
