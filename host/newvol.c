/*
 * A place for a new volume. Interface: newvol.h.
 *
 *   open      the place is there, nobody uses it, and nothing is on it that should stay
 *   format    dry first, so that nothing is lost to options that make no volume; then what was there goes; then for earnest
 *   close     a file that was made for a volume that came to nothing goes too
 *
 * What was there goes whole from a file, which then is as sparse as a new one. Of a block device signatures are cleared, all that libblkid knows,
 * and the device is told that it may forget the rest.
 */
#include "newvol.h"

#include "fs.h"
#include "number.h"
#include "probe.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELD_BYTES (128u << 10) /* superblocks of all types lie in it */
#define SIZE_UNIT  4096u        /* a volume that takes all there is ends with a page */
#define MARK_BYTES 4096u        /* of what is held, what is written last: the mark and zeros until then */

/* ---- types ---- */

static const struct {
	const char *name, *type, *words;
} variants[] = {
	{ "ext2", "ext4", "variant=ext2" },
	{ "ext3", "ext4", "variant=ext3" },
};

int newvol_type(const char *name, const struct fs_type **type, const char **words)
{
	const char *of = name;

	*words = "";
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		if (!strcmp(name, variants[i].name)) {
			of = variants[i].type;
			*words = variants[i].words;
		}
	*type = fs_find(of);
	if (!*type)
		return fail(-EOPNOTSUPP, "there is no file system \"%s\": ext4, ext3 and ext2 can be made",
			    name);
	if (!(*type)->format)
		return fail(-EOPNOTSUPP, "%s volumes cannot be made yet, only ext4, ext3 and ext2", name);
	return 0;
}

/* ---- is the place free? ---- */

static bool is_whole_file(const struct newvol *v)
{
	struct stat st;

	return v->src.fd >= 0 && !fstat(v->src.fd, &st) && S_ISREG(st.st_mode) && !v->src.off_bytes &&
	       v->src.len_bytes == (u64)st.st_size;
}

/* "an XFS file system", without what to do to read it. */
static void add_volume(struct text *t, const struct volume_id *v)
{
	char buf[128];
	const char *says = volume_says(v, buf, sizeof(buf));

	text_add_bytes(t, says, strcspn(says, ":"));
	if (v->label[0]) {
		text_add(t, " labelled \"");
		text_add_name(t, v->label, strlen(v->label));
		text_add(t, "\"");
	}
}

static bool is_zero(const u8 *p, u64 n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

bool newvol_is_unfinished(struct blkdev *dev)
{
	const u64 mark = sizeof(NEWVOL_MARK) - 1;
	u8 buf[MARK_BYTES];

	if (dev->size_bytes < sizeof(buf) || blkdev_read(dev, 0, buf, sizeof(buf))) {
		err_clear();
		return false;
	}
	return !memcmp(buf, NEWVOL_MARK, mark) && is_zero(buf + mark, sizeof(buf) - mark);
}

/* What is in a file and no type knows is somebody's all the same: a new file is zeros. */
static int look_at_bytes(const struct newvol *v, struct text *t)
{
	u64 n = MIN(v->src.len_bytes, (u64)HELD_BYTES);
	u8 *buf = malloc(n);
	int err = buf ? blkdev_read(v->src.dev, 0, buf, n) : fail(-ENOMEM, "no memory for a file's start");

	if (!err && !is_zero(buf, n))
		text_add(t, "data that is no file system");
	free(buf);
	return err;
}

/* Says in *t what is there, if anything is known. */
static int look(const struct newvol *v, struct text *t)
{
	const struct source *s = &v->src;
	const struct fs_type *type;
	struct volume_id id;
	struct fs_probe info = { 0 };
	struct ptable table = { .type = "" };
	int err;

	/* Though there are copies of its superblock. */
	if (newvol_is_unfinished(s->dev))
		return 0;
	err = probe_volume(s->fd, s->off_bytes, s->len_bytes, &id);
	if (!err && id.type[0])
		add_volume(t, &id);
	if (!err && !t->len_bytes && !s->off_bytes)
		err = probe_ptable(s->fd, s->len_bytes, 0, &table);
	if (!err && table.type[0])
		text_add(t, "a partition table with %u partitions", table.count);
	ptable_free(&table);
	if (err || t->len_bytes)
		return err;
	/* Perhaps damaged, so that nobody else knows it. */
	err = fs_probe(s->dev, &type, &info);
	if (!err)
		text_add(t, "what was a file system (%s)", type->name);
	err_clear();
	if (err == -ENODEV)
		err = is_whole_file(v) ? look_at_bytes(v, t) : 0;
	return err;
}

static int refuse_content(const struct newvol *v)
{
	struct text t = { 0 };
	int err = look(v, &t);

	if (!err && t.len_bytes)
		err = fail(-EEXIST, "%s holds %s: --force makes the new volume in its place", v->src.name,
			   text_str(&t));
	text_free(&t);
	return err;
}

/* ---- sizes and files ---- */

static int set_size(int fd, const char *path, u64 size)
{
	if (!ftruncate(fd, (off_t)size))
		return 0;
	if (errno == EFBIG || errno == EINVAL)
		return fail(-EFBIG, "the file system of %s cannot hold a file of %llu bytes", path,
			    (unsigned long long)size);
	return fail(-errno, "%s cannot be made %llu bytes long: %s", path, (unsigned long long)size,
		    strerror(errno));
}

static int no_size(const char *path, bool empty, const struct fs_type *type)
{
	return fail(empty ? -ENODATA : -ENOENT, "%s %s: say how large it is to be (werunos mkfs %s %s 1G)",
		    path, empty ? "is empty" : "does not exist", type->name, path);
}

/* A file that is not there, or is empty, gets its size. On error it is as it was. */
static int make_file(const char *path, struct newvol *v)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | (v->was_empty ? 0 : O_CREAT | O_EXCL), 0666), err;

	if (fd < 0)
		return fail(-errno, "%s cannot be made: %s", path, strerror(errno));
	v->made = strdup(path);
	err = v->made ? set_size(fd, path, v->size_bytes) : fail(-ENOMEM, "no memory for a name");
	close(fd);
	return err;
}

/* Nothing is there, and nothing is to be. */
static int dry_place(const char *path, struct newvol *v)
{
	v->src.name = strdup(path);
	v->zeroed = true;
	return v->src.name ? dev_mem_new(path, v->size_bytes, 1, &v->src.dev)
			   : fail(-ENOMEM, "no memory for a name");
}

/* *fresh: the place has no content that could be lost. */
static int make_place(const char *path, u32 part, const struct fs_type *type, struct newvol *v, bool *fresh)
{
	struct stat st;
	bool there = !stat(path, &st);

	*fresh = false;
	/* A device that is not there is not to become a file. */
	if (!there && !strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9))
		return fail(-ENOENT, "%s does not exist", path);
	if (part || (there && (!S_ISREG(st.st_mode) || st.st_size)) || (!there && errno != ENOENT))
		return 0;
	if (!v->size_bytes)
		return no_size(path, there, type);
	*fresh = true;
	v->was_empty = there;
	return v->dry ? dry_place(path, v) : make_file(path, v);
}

static int choose_size(struct newvol *v)
{
	u64 room = v->src.len_bytes;

	v->file_bytes = v->size_bytes ? v->size_bytes : room;
	if (!v->size_bytes)
		v->size_bytes = ALIGN_DOWN(room, (u64)SIZE_UNIT);
	else if (v->size_bytes > room && !is_whole_file(v))
		return fail(-ENOSPC, "%s has %llu bytes, not %llu", v->src.name, (unsigned long long)room,
			    (unsigned long long)v->size_bytes);
	return 0;
}

int newvol_open(const char *spec, const struct fs_type *type, const struct newvol_opts *opts,
		struct newvol *out)
{
	struct source_opts so = { .write = !opts->dry, .must_write = !opts->dry };
	char *path;
	bool fresh;
	int err;

	*out = (struct newvol){
		.src.fd = -1, .type = type, .dry = opts->dry, .size_bytes = opts->size_bytes
	};
	out->keep = opts->keep;
	out->unfinished = opts->unfinished;
	if (source_is_memory(spec))
		return fail(-EINVAL, "%s would be gone when this command ends: name a file or a device",
			    spec);
	path = source_path(spec, &so.part);
	if (!path)
		return fail(-ENOMEM, "no memory for a name");
	so.part = opts->part ? opts->part : so.part;
	err = make_place(path, so.part, type, out, &fresh);
	if (!err && !out->src.dev)
		err = source_open(path, &so, &out->src);
	free(path);
	if (!err)
		err = fresh ? 0 : choose_size(out);
	if (!err && !fresh && !opts->force)
		err = refuse_content(out);
	return err ? newvol_close(out, err) : 0;
}

/* ---- what was there goes ---- */

static int clear_file(struct newvol *v)
{
	struct source *s = &v->src;
	int fd, err = v->made ? 0 : set_size(s->fd, s->name, 0);

	if (!err && !v->made)
		err = set_size(s->fd, s->name, v->file_bytes);
	if (err)
		return err;
	v->zeroed = true;
	fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return fail(-errno, "%s: %s", s->name, strerror(errno));
	return dev_file_fd(fd, s->name, DEV_WRITE | DEV_BUFFERED, &v->dev);
}

static int clear_window(struct newvol *v)
{
	struct source *s = &v->src;
	struct stat st;
	int err = 0;

	if (fstat(s->fd, &st))
		return fail(-errno, "%s: %s", s->name, strerror(errno));
	v->dev = blkdev_get(s->dev);
	if (S_ISREG(st.st_mode))
		v->zeroed = !fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)s->off_bytes,
				       (off_t)s->len_bytes);
	else if (!v->keep && v->dev->flags & BLKDEV_DISCARD && blkdev_discard(v->dev, 0, s->len_bytes))
		err_clear();
	if (!v->zeroed)
		err = probe_wipe(s->fd, s->off_bytes, s->len_bytes);
	if (!err && !v->zeroed && fdatasync(s->fd))
		err = fail(-errno, "%s cannot be written: %s", s->name, strerror(errno));
	return err;
}

/* Whether there can be such a volume, on a device that is like the place but for its content. */
static int try_dry(const struct newvol *v, struct format_opts *fo, struct doc *out)
{
	struct blkdev *like;
	int err = dev_mem_new(v->src.name, v->size_bytes, v->src.dev->sector_bytes, &like);

	if (err)
		return err;
	fo->dry = true;
	err = v->type->format(like, fo, out);
	fo->dry = false;
	blkdev_put(like);
	return err;
}

/* What a volume is known by is written last. */
static int hold_back(struct newvol *v)
{
	struct blkdev *hold;
	int err = dev_hold_new(v->dev, HELD_BYTES, NEWVOL_MARK, &hold);

	if (err)
		return err;
	blkdev_put(v->dev);
	v->dev = hold;
	return 0;
}

int newvol_format(struct newvol *v, const struct format_opts *opts, struct doc *out)
{
	struct format_opts fo = *opts;
	int err = 0;

	fo.size_bytes = v->size_bytes;
	fo.zeroed = v->zeroed;
	if (v->dry || !v->made)
		err = try_dry(v, &fo, v->dry ? out : NULL);
	if (err || v->dry)
		return err;
	err = is_whole_file(v) ? clear_file(v) : clear_window(v);
	if (!err && v->unfinished)
		err = hold_back(v);
	fo.zeroed = v->zeroed;
	return err ? err : v->type->format(v->dev, &fo, out);
}

int newvol_finish(struct newvol *v)
{
	return v->unfinished ? dev_hold_let_go(v->dev) : 0;
}

int newvol_close(struct newvol *v, int err)
{
	blkdev_put(v->dev);
	source_close(&v->src);
	/* What cannot be undone stays as an empty place. */
	if (err && v->made && v->was_empty)
		(void)!truncate(v->made, 0);
	else if (err && v->made)
		unlink(v->made);
	free(v->made);
	*v = (struct newvol){ .src.fd = -1 };
	return err;
}

/* ---- chance ---- */

/* FNV-1a, and a finish that spreads it: the same words, the same chance. */
static u64 mix(u64 h, const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ ((const u8 *)p)[i]) * 0x100000001b3ull;
	return h;
}

static void uuid_of(u64 seed, u8 uuid[16])
{
	for (u32 i = 0; i < 16; i++) {
		seed = mix(seed, &i, sizeof(i));
		uuid[i] = (u8)(seed >> 32);
	}
	uuid[6] = (u8)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (u8)((uuid[8] & 0x3f) | 0x80);
}

bool newvol_is_scripted(void)
{
	return getenv("SOURCE_DATE_EPOCH");
}

int newvol_chance(struct format_opts *opts, bool has_uuid, const char *const *words, u32 count)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	u64 sec;

	if (epoch && !number_parse(epoch, INT64_MAX, &sec))
		return fail(-EINVAL, "SOURCE_DATE_EPOCH is \"%s\": not a number of seconds", epoch);
	if (epoch) {
		opts->now = (struct timespec64){ (s64)sec, 0 };
		opts->seed = mix(0xcbf29ce484222325ull, epoch, strlen(epoch));
		for (u32 i = 0; i < count; i++)
			opts->seed = mix(opts->seed, words[i], strlen(words[i]) + 1);
	} else {
		opts->now = os_now();
		os_random(&opts->seed, sizeof(opts->seed));
	}
	if (!has_uuid)
		uuid_of(opts->seed, opts->uuid);
	return 0;
}
