/*
 * A tar archive as a feed. Paths are taken as tar(1) takes them: slashes in front, "." and empty names say nothing; what leads out of
 * the tree is refused.
 *
 * A layer of an OCI image (image-spec, "Image Layer Filesystem Changeset") says by names what is gone: ".wh.NAME" that NAME is,
 * ".wh..wh..opq" that all which lower layers have in its directory is. Other names with ".wh..wh." in front are aufs's own.
 */
#include "tar.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHITEOUT     ".wh."
#define WHITEOUT_LEN 4u
#define OPAQUE       ".wh..wh..opq"
#define AUFS         ".wh..wh."
#define AUFS_LEN     8u

struct feed_tar {
	struct feed feed;
	struct tar_reader r;
	bool layers;
	struct tar_head *h;        /* the last one given out */
	u64 left_bytes, pad_bytes; /* of it, in the archive */
};

static struct feed_tar *to_tar(struct feed *f)
{
	return container_of(f, struct feed_tar, feed);
}

/* ---- paths ---- */

static int leads_out(void)
{
	return fail(-EINVAL, "its path leads out of the tree");
}

/* In place. */
static int path_clean(char *path)
{
	char *to = path;

	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");

		if (n > VFS_NAME_MAX)
			return fail(-ENAMETOOLONG, "a name in its path has more than %u bytes", VFS_NAME_MAX);
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return leads_out();
		if (n && !(n == 1 && p[0] == '.')) {
			if (to != path)
				*to++ = '/';
			memmove(to, p, n);
			to += n;
		}
		p += n;
		p += *p == '/';
	}
	*to = 0;
	return 0;
}

enum layer_name { LAYER_PLAIN, LAYER_WHITEOUT, LAYER_OPAQUE, LAYER_PASS };

/* What a layer says by this path. Of a whiteout it becomes the path of what is gone. */
static int layer_path(char *path, enum layer_name *out)
{
	char *last = strrchr(path, '/');

	*out = LAYER_PLAIN;
	last = last ? last + 1 : path;
	for (const char *p = path; p < last; p = strchr(p, '/') + 1) {
		if (!strncmp(p, AUFS, AUFS_LEN)) {
			*out = LAYER_PASS;
			return 0;
		}
		if (!strncmp(p, WHITEOUT, WHITEOUT_LEN))
			return fail(-EINVAL, "its path goes through something that is gone");
	}
	if (strncmp(last, WHITEOUT, WHITEOUT_LEN) != 0)
		return 0;
	if (!strcmp(last, OPAQUE)) {
		*out = LAYER_OPAQUE;
		/* The directory it is in. */
		last[last == path ? 0 : -1] = 0;
	} else if (!strncmp(last, AUFS, AUFS_LEN)) {
		*out = LAYER_PASS;
	} else {
		*out = LAYER_WHITEOUT;
		if (!last[WHITEOUT_LEN] || !item_path_ok(last + WHITEOUT_LEN))
			return fail(-EINVAL, "a whiteout of nothing that has a name");
		memmove(last, last + WHITEOUT_LEN, strlen(last + WHITEOUT_LEN) + 1);
	}
	return 0;
}

/* ---- items ---- */

static int kind_of(struct feed_tar *f, struct tar_head *h, enum layer_name *layer)
{
	struct item *it = h->it;
	int err = path_clean(h->path);

	*layer = LAYER_PLAIN;
	if (!err && f->layers)
		err = layer_path(h->path, layer);
	if (err)
		return err;
	if (*layer == LAYER_WHITEOUT || *layer == LAYER_OPAQUE) {
		it->kind = *layer == LAYER_WHITEOUT ? ITEM_WHITEOUT : ITEM_OPAQUE;
		return 0;
	}
	if (!*h->path && h->type != '5')
		return fail(-EINVAL, "it has no name, and is no directory");
	if (h->type != '1' && h->type != '2')
		return 0;
	if (!*h->link)
		return fail(-EINVAL, "a link to nothing");
	if (h->type == '1') {
		it->kind = ITEM_LINK;
		err = path_clean(h->link);
		if (err || !*h->link)
			err = fail(-EINVAL, "a hard link to \"%.200s\", which is outside of the tree",
				   h->link);
	}
	it->target = take(h->link);
	return err;
}

/* The path becomes the item's. What is wrong spoils it. */
static int settle(struct feed_tar *f, struct tar_head *h, enum layer_name *layer)
{
	struct item *it = h->it;
	int err = kind_of(f, h, layer);

	/* The reader's sentence, if it had one, is about more. */
	if (err && !it->err)
		item_spoil(it, err);
	free(it->path);
	it->path = take(h->path);
	it->feed_path = it->path;
	return err == -ENOMEM ? err : 0;
}

static int next(struct feed *feed, struct item **out)
{
	struct feed_tar *f = to_tar(feed);
	enum layer_name layer = LAYER_PLAIN;
	int err = 0;

	*out = NULL;
	do {
		if (!err)
			err = tar_skip(f->r.s, f->left_bytes);
		if (!err)
			err = tar_skip(f->r.s, f->pad_bytes);
		tar_head_free(take(f->h));
		f->left_bytes = f->pad_bytes = 0;
		if (!err)
			err = tar_next(&f->r, &f->h);
		if (err || !f->h)
			return err;
		f->left_bytes = f->h->stored_bytes;
		f->pad_bytes = (0 - f->h->stored_bytes) % TAR_BLOCK;
		err = settle(f, f->h, &layer);
	} while (!err && layer == LAYER_PASS);
	if (!err)
		*out = take(f->h->it);
	return err;
}

/* ---- data ---- */

static int move(struct feed_tar *f, u64 off, u64 len, struct outlet *to)
{
	while (len) {
		const u8 *p;
		u64 n, room;
		u8 *buf;
		int err = tar_peek(f->r.s, &p, &n);

		if (!err && !n)
			err = tar_broken(f->r.s, "it is cut off");
		if (err)
			return err;
		buf = to->room(to, len, &room);
		if (!buf)
			return -ECANCELED;
		n = MIN(MIN(n, len), room);
		memcpy(buf, p, n);
		tar_took(f->r.s, n);
		f->left_bytes -= n;
		err = to->put(to, off, n);
		if (err)
			return err;
		off += n;
		len -= n;
	}
	return 0;
}

static int fill(struct feed *feed, const struct item *it, struct outlet *to)
{
	struct feed_tar *f = to_tar(feed);
	int err = 0;

	if (!(it->has & ITEM_MAP))
		return move(f, 0, it->size_bytes, to);
	for (u32 i = 0; !err && i < it->ranges; i++)
		err = move(f, it->range[i].off_bytes, it->range[i].len_bytes, to);
	return err;
}

static void position(struct feed *feed, u64 *done_bytes, u64 *all_bytes)
{
	tar_position(to_tar(feed)->r.s, done_bytes, all_bytes);
}

static void feed_close(struct feed *feed)
{
	struct feed_tar *f = to_tar(feed);

	tar_head_free(f->h);
	tar_reader_fini(&f->r);
	tar_close(f->r.s);
	free(f);
}

static const struct feed_ops feed_ops = {
	.next = next,
	.fill = fill,
	.position = position,
	.close = feed_close,
};

int feed_tar(const char *file, bool layers, const struct select *select, struct feed **out)
{
	struct feed_tar *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return fail(-ENOMEM, "no memory to copy");
	f->feed = (struct feed){ .ops = &feed_ops, .select = select, .serial = true };
	f->layers = layers;
	err = tar_open(file, &f->r.s);
	if (err)
		free(f);
	else
		*out = &f->feed;
	return err;
}
