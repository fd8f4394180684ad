/*
 * A new volume with its content. Interface: populate.h.
 *
 * How large it must be is found by trying: the content is looked at without its data, a volume is made that should do, and asked how much
 * room it has; making one takes milliseconds. What was wrong after all (an archive that says less than it holds) shows when it is full: then it
 * is made anew, larger. The least that does (--shrink) is found in the same way, from above.
 */
#include "import/populate.h"

#include "import/oci.h"
#include "lib/scope.h"
#include "volume.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MIB (1ull << 20)
#define SLACK_BYTES \
	(16 * MIB) /* of a volume whose size nobody said: so much, and a sixteenth, is left free */
#define TRIES_MAX       24u
#define SHRINK_NEAR     (256u << 10) /* so near to the least is near enough */
#define DIR_ENTRY_BYTES 32u
#define INODE_BITS_MIN  8u /* of an inode's size in bytes */
#define INODE_BITS_MAX  12u

/* What it is filled from. */
struct content {
	struct oci_image *image; /* NULL: not one */
	const char *path;
	bool is_dir;
	const struct select *select;
};

/* One volume under way. */
struct attempt {
	struct newvol vol;
	struct super_block *sb;
	bool refill;    /* it was filled before */
	u64 free_bytes; /* afterwards */
};

/* ---- content ---- */

static bool is_layout(const char *path)
{
	char name[PATH_MAX];
	struct stat st;

	return snprintf(name, sizeof(name), "%s/oci-layout", path) < (int)sizeof(name) && !stat(name, &st);
}

static int content_open(struct populate *p, struct content *c)
{
	struct stat st;
	bool there = !strcmp(p->from, "-") || !stat(p->from, &st);
	int err = 0;

	*c = (struct content){ .path = p->from, .select = &p->select };
	c->is_dir = strcmp(p->from, "-") != 0 && there && S_ISDIR(st.st_mode);
	if (!there && !strchr(p->from, ':'))
		return fail(-errno, "%s: %s", p->from, strerror(errno));
	if (!there || (c->is_dir && is_layout(p->from)))
		err = oci_open(p->from, p->platform, &c->image);
	else if (p->platform)
		err = fail(-EINVAL, "%s is no image layout, which --platform chooses from", p->from);
	for (u32 i = 0; !err && c->image && i < c->image->layers; i++)
		err = oci_verify(&c->image->layer[i], p->copy.stop);
	return err;
}

static void content_close(struct content *c)
{
	oci_close(c->image);
}

static u32 parts(const struct content *c)
{
	return c->image ? c->image->layers : 1;
}

static int part_open(const struct content *c, u32 i, struct feed **out)
{
	scoped(freep) char *real = NULL;

	if (c->image)
		return feed_tar(c->image->layer[i].path, true, c->select, out);
	if (!c->is_dir)
		return feed_tar(c->path, false, c->select, out);
	real = realpath(c->path, NULL); /* a link to a directory is that directory */
	return real ? feed_host(real, "", c->select, out) : fail(-errno, "%s: %s", c->path, strerror(errno));
}

static int measure(struct populate *p, const struct content *c, struct copy_size *sum)
{
	int err = 0;

	*sum = (struct copy_size){ 0 };
	for (u32 i = 0; !err && i < parts(c); i++) {
		struct copy_size one;
		struct feed *f;

		err = part_open(c, i, &f);
		if (err)
			break;
		err = copy_measure(f, &p->copy, &one);
		f->ops->close(f);
		sum->files += one.files;
		sum->directories += one.directories;
		sum->others += one.others;
		sum->blocks_4k += one.blocks_4k;
		sum->name_bytes += one.name_bytes;
		sum->xattr_bytes += one.xattr_bytes;
	}
	return err;
}

/* The room that it takes, without what a volume takes for itself. */
static u64 bytes_of(const struct copy_size *s)
{
	u64 all = s->files + s->directories + s->others;

	return (s->blocks_4k + 2 * s->directories + s->others / 8) * 4096 + s->name_bytes +
	       all * DIR_ENTRY_BYTES + 2 * s->xattr_bytes;
}

/* ---- one volume ---- */

static int attempt_end(struct attempt *a, int err)
{
	char why[512];
	int end;

	snprintf(why, sizeof(why), "%s", err_text());
	end = a->sb ? vfs_unmount(a->sb) : 0;
	a->sb = NULL;
	/* Unmounting what cannot be written says less than what came before, but for a signal. */
	if (!err || (end && err == -ECANCELED))
		err = end;
	else if (end && *why)
		(void)!fail(err, "%s", why);
	/* Broken off by a signal, what is complete counts. */
	if (!err || err == -ECANCELED) {
		end = newvol_finish(&a->vol);
		err = end ? end : err;
	}
	if (err == -ECANCELED) {
		(void)newvol_close(&a->vol, 0);
		return err;
	}
	return newvol_close(&a->vol, err);
}

static int attempt_begin(struct populate *p, const char *spec, u64 size, bool again, struct attempt *a)
{
	struct mount_opts mo = { .fresh = true, .script = p->script };
	struct newvol_opts place = p->place;
	int err;

	*a = (struct attempt){ .vol.src.fd = -1 };
	place.size_bytes = size;
	place.unfinished = true;
	place.force |= again;
	err = newvol_open(spec, p->type, &place, &a->vol);
	select_dst(&p->select, a->vol.src.fd);
	if (!err)
		err = newvol_format(&a->vol, &p->format, NULL);
	if (!err)
		err = p->type->mount(&a->vol.dev, 1, &mo, &a->sb);
	if (!err && a->sb->rdonly)
		err = fail(-EOPNOTSUPP, "volumes with these features can be made, but not filled yet: %s",
			   a->sb->notice);
	return err ? attempt_end(a, err) : 0;
}

static int room(struct attempt *a, u64 *free_bytes)
{
	struct kstatfs st;
	int err = vfs_statfs(a->sb, &st);

	*free_bytes = err ? 0 : st.blocks_free * st.block_bytes;
	return err;
}

static int fill(struct populate *p, const struct content *c, struct attempt *a)
{
	/* Of directories that no archive lists. */
	const struct cred cred = { p->format.root_uid, p->format.root_gid, 022 };
	u32 keep = KEEP_ALL | (c->image ? SINK_LAYER : 0) | (p->script ? SINK_NO_ATIME : 0);
	struct copy_opts opts = p->copy;
	struct series series;
	struct inode *top;
	int err = vfs_iget(a->sb, a->sb->root_ino, &top);

	/* What fails again is not told of again. */
	if (a->refill)
		opts.failed = NULL;
	series_init(&series, &opts, c->image ? c->image->bytes : 0);
	for (u32 i = 0; !err && i < parts(c); i++) {
		struct feed *f;
		struct sink *k;

		err = stop_asked(opts.stop) ? -ECANCELED : part_open(c, i, &f);
		if (err)
			break;
		err = sink_volume(top, keep, &cred, &k);
		if (!err) {
			err = series_run(&series, f, k);
			k->ops->close(k);
		}
		f->ops->close(f);
	}
	vfs_iput(top);
	*p->report = series.all;
	if (!err)
		err = room(a, &a->free_bytes);
	return err;
}

/* ---- sizes ---- */

/*
 * attempt_begin. That a volume cannot be is said of options, but also of one that is too small for its table of inodes: then it is made
 * larger, by the inodes in the sizes that they have.
 */
static int begin_larger(struct populate *p, const char *spec, u64 *size, bool again, struct attempt *a)
{
	int err = attempt_begin(p, spec, *size, again, a);

	for (u32 bits = INODE_BITS_MIN; err == -EINVAL && p->format.files && bits <= INODE_BITS_MAX; bits++) {
		*size = ALIGN_UP(*size + (p->format.files << bits), MIB);
		err = attempt_begin(p, spec, *size, again, a);
	}
	return err;
}

/* The first size at which the volume has room for it, by its own word. */
static int find_size(struct populate *p, const char *spec, const struct copy_size *content, u64 *size,
		     bool *again)
{
	u64 want = bytes_of(content), ask = want + want / 16 + SLACK_BYTES, have;
	int err = 0;

	*size = ALIGN_UP(ask + ask / 32, MIB);
	for (u32 i = 0; !err && i < TRIES_MAX; i++) {
		struct attempt a;

		err = begin_larger(p, spec, size, *again, &a);
		if (err)
			break;
		*again = true;
		err = room(&a, &have);
		if (!err && have < ask)
			*size = ALIGN_UP(*size + (ask - have) + (ask - have) / 32, MIB);
		vfs_unmount(take(a.sb));
		(void)newvol_close(&a.vol, err ? err : -ECANCELED);
		if (!err && have >= ask)
			return 0;
	}
	return err ? err : fail(-EFBIG, "no size was found at which there is room for its content");
}

static bool is_auto(struct populate *p, const char *spec)
{
	struct stat st;
	scoped(freep) char *path = NULL;
	u32 part;

	if (p->place.size_bytes || p->place.part)
		return false;
	path = source_path(spec, &part);
	return path && !part && (stat(path, &st) || S_ISREG(st.st_mode));
}

/* It is not the volume that is full, but what it lies on: a larger one would be no help. */
static bool is_host_full(const struct attempt *a)
{
	struct statfs st;

	return !fstatfs(a->vol.src.fd, &st) && (u64)st.f_bavail * (u64)st.f_bsize < MIB;
}

/* again: what is there is ours. refill: it was filled before. */
static int make_and_fill(struct populate *p, const struct content *c, const char *spec, u64 size, bool again,
			 bool refill, u64 *free_bytes)
{
	struct attempt a;
	int err = attempt_begin(p, spec, size, again, &a);

	if (err)
		return err;
	a.refill = refill;
	err = fill(p, c, &a);
	/* With the sentence that there is. */
	if (err == -ENOSPC && is_host_full(&a))
		err = -EIO;
	*free_bytes = a.free_bytes;
	return attempt_end(&a, err);
}

/* Makes it smaller for as long as it does. `size` does, with so much left. */
static int shrink(struct populate *p, const struct content *c, const char *spec, u64 size, u64 free_bytes)
{
	u64 least = 0;     /* does not do */
	bool there = true; /* what was made last is of `size`, and has free_bytes left */
	int err = 0;

	for (u32 i = 0; i < TRIES_MAX && !stop_asked(p->copy.stop); i++) {
		/* A smaller volume takes less for itself: more than was free goes. */
		u64 next = there && free_bytes < size ? size - free_bytes : 0;

		if (next <= least)
			next = least + (size - least) / 2;
		next = ALIGN_DOWN(next, 4096ull);
		if (next <= least || next + SHRINK_NEAR >= size)
			break;
		err = make_and_fill(p, c, spec, next, true, true, &free_bytes);
		there = !err;
		if (!err) {
			size = next;
		} else if (err == -ENOSPC || err == -EINVAL) {
			least = next;
		} else {
			return err;
		}
	}
	/* Stopped meanwhile, it is a volume all the same. */
	return there ? 0 : make_and_fill(p, c, spec, size, true, true, &free_bytes);
}

/* ---- all of it ---- */

static int with_own_size(struct populate *p, const struct content *c, const char *spec)
{
	struct copy_size content;
	u64 size = 0, free_bytes = 0;
	bool again = false;
	int err;

	if (!strcmp(c->path, "-"))
		return fail(
			-EINVAL,
			"how much comes from standard input nobody knows: say how large the volume is to be");
	err = measure(p, c, &content);
	p->format.files = content.files + content.directories + content.others;
	if (!err)
		err = find_size(p, spec, &content, &size, &again);
	if (!err)
		err = make_and_fill(p, c, spec, size, true, false, &free_bytes);
	for (u32 i = 0; err == -ENOSPC && i < TRIES_MAX; i++) {
		size = ALIGN_UP(size + size / 4, MIB);
		err = make_and_fill(p, c, spec, size, true, true, &free_bytes);
	}
	return err || !p->shrink ? err : shrink(p, c, spec, size, free_bytes);
}

void populate_describe(const char *spec, u32 part, struct doc *out)
{
	const struct source_opts so = { .part = part };
	const struct mount_opts mo = { .rdonly = true };
	const struct fs_type *type;
	struct source src;
	int err = source_open(spec, &so, &src);

	if (!err)
		err = source_probe(&src, &mo, &type);
	if (!err) {
		doc_str(out, "source", src.name);
		doc_str(out, "type", type->name);
	}
	if (!err && type->info)
		err = type->info(&src.dev, 1, &mo, out);
	if (err)
		err_clear();
	source_close(&src);
}

int populate_run(struct populate *p, const char *spec)
{
	struct content c;
	u64 free_bytes = 0;
	int err = content_open(p, &c);

	if (!err && p->shrink && !is_auto(p, spec))
		err = fail(-EINVAL, "--shrink is for files, and without a size");
	else if (!err && is_auto(p, spec))
		err = with_own_size(p, &c, spec);
	else if (!err)
		err = make_and_fill(p, &c, spec, p->place.size_bytes, false, false, &free_bytes);
	content_close(&c);
	return err;
}
