/*
 * werunos resize: a volume becomes longer or shorter, and its image with it.
 *
 * Longer: one that is mounted by us is asked for through the mount; else the volume is opened for this process alone, and once more each time when
 * it cannot go all the way in one go. Shorter: it may not be mounted, and its image is cut when all else is done.
 */
#include "cmd.h"

#include "edit.h"
#include "fuse/fuse.h"
#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_MAX_BYTES 65536u /* less than that behind the volume is no other thing */

struct resize {
	struct tool_opts tool;
	u64 size_bytes; /* 0: as long as the device */
	u64 before_bytes, after_bytes;
	bool minimum, dry_run;
	struct shorten cut;
	bool bar, bar_up; /* progress is shown; there is a line of it */
	u32 permille;
};

/* ---- shorter ---- */

static int progress(void *ctx, const char *what, u64 done, u64 all)
{
	struct resize *r = ctx;
	u32 permille = all ? (u32)(1000.0 * (double)MIN(done, all) / (double)all) : 1000;

	if (r->bar_up && r->permille == permille)
		return 0;
	r->bar_up = true;
	r->permille = permille;
	fprintf(stderr, "\r\033[Kmoving %s: %llu of %llu (%u%%)", what, (unsigned long long)done,
		(unsigned long long)MAX(done, all), permille / 10);
	fflush(stderr);
	return 0;
}

static int run_shorten(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		       const struct mount_opts *opts)
{
	struct resize *r = ctx;
	int err = type->shorten(devs, n, opts, &r->cut);

	if (r->bar_up)
		fputs("\r\033[K", stderr);
	return err;
}

/* A file that is an image of the volume and nothing else ends where it does. */
static int cut_file(const struct resize *r, const struct source *s)
{
	struct stat st;

	if (s->fd < 0 || fstat(s->fd, &st) || !S_ISREG(st.st_mode) || s->off_bytes ||
	    s->len_bytes != (u64)st.st_size || s->len_bytes - r->cut.before_bytes >= TAIL_MAX_BYTES)
		return 0;
	return ftruncate(s->fd, (off_t)r->cut.after_bytes) < 0
		       ? fail(-errno, "the volume is shorter, but %s cannot be cut: %s", s->name,
			      strerror(errno))
		       : 0;
}

/* How long the volume says that it is. */
static int volume_bytes(struct source *s, const struct mount_opts *opts, const struct fs_type **type,
			u64 *bytes)
{
	struct fs_probe info = { 0 };
	int err = source_probe(s, opts, type);

	if (!err && (*type)->probe)
		err = (*type)->probe(s->dev, &info);
	*bytes = info.size_bytes;
	return err;
}

static int shorten(struct resize *r, struct source *s, const struct fs_type *type)
{
	const struct source_run run = { .run = run_shorten, .ctx = r };
	int err;

	if (!type->shorten)
		return fail(-EOPNOTSUPP, "%s: a %s volume cannot be made shorter yet", s->name, type->name);
	r->cut.size_bytes = r->minimum ? 0 : r->size_bytes;
	r->cut.plan_only = r->dry_run;
	r->cut.progress = r->bar ? progress : NULL;
	r->cut.ctx = r;
	err = source_run(s, type, &r->tool.mount, &run);
	if (!err && !r->dry_run && r->cut.after_bytes < r->cut.before_bytes)
		err = cut_file(r, s);
	r->before_bytes = r->cut.before_bytes;
	r->after_bytes = r->cut.after_bytes;
	return err;
}

/* *done: it was to become shorter. The exit code. */
static int shorten_image(struct resize *r, const char *operand, bool *done)
{
	const struct fs_type *type;
	struct volume v;
	u64 bytes;
	int err = volume_source(&r->tool, operand, !r->dry_run, &v);

	if (err)
		return cli_error(err, operand);
	err = volume_bytes(&v.src, &r->tool.mount, &type, &bytes);
	*done = r->minimum || (r->size_bytes && r->size_bytes < bytes);
	if (!err && *done)
		err = shorten(r, &v.src, type);
	else if (!err && r->dry_run)
		err = fail(-EINVAL,
			   "%s: a rehearsal (--dry-run) tells what moves when a volume becomes shorter: "
			   "its size now is %llu",
			   operand, (unsigned long long)bytes);
	if (err)
		cli_error(err, operand);
	return volume_close(&v) || err ? EXIT_ERROR : 0;
}

/* ---- longer ---- */

/* One opening of the volume. *bytes: how long it is then. The exit code. */
static int grow_once(struct resize *r, const char *operand, u64 *bytes)
{
	struct grown grown;
	struct volume v;
	int err = volume_open_rw(&r->tool, operand, &v), closed;

	if (err)
		return cli_error(err, operand);
	err = vfs_grow(v.sb, r->size_bytes, &grown);
	if (!r->before_bytes)
		r->before_bytes = grown.before_bytes;
	*bytes = grown.after_bytes;
	if (err)
		cli_error(err, operand);
	closed = volume_close(&v);
	return err || closed ? EXIT_ERROR : 0;
}

/* The exit code. */
static int grow_image(struct resize *r, const char *operand)
{
	u64 bytes = 0, last;
	int code;

	do {
		last = bytes;
		code = grow_once(r, operand, &bytes);
	} while (!code && bytes != last && bytes < r->size_bytes);
	r->after_bytes = bytes;
	return code;
}

static int grow_mounted(struct resize *r, const char *dir)
{
	struct server_grow g = { .size_bytes = r->size_bytes };
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return cli_fail("%s: %s", dir, strerror(errno));
	if (ioctl(fd, SERVER_IOC_GROW, &g) < 0)
		err = errno == ENOTTY ? cli_fail("%s is not a mount of werunos, and no image", dir)
				      : cli_fail("%s: %s", dir, strerror(errno));
	else if (g.err)
		err = cli_fail("%.*s", (int)sizeof(g.why), g.why);
	close(fd);
	r->before_bytes = g.before_bytes;
	r->after_bytes = g.after_bytes;
	return err;
}

static int show(const struct resize *r)
{
	struct doc *d = doc_new();
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	doc_u64(d, "before_bytes", r->before_bytes);
	doc_u64(d, "after_bytes", r->after_bytes);
	if (r->cut.before_bytes) {
		doc_u64(d, "least_bytes", r->cut.least_bytes);
		doc_u64(d, "blocks_moved", r->cut.blocks_moved);
		doc_u64(d, "inodes_moved", r->cut.inodes_moved);
		doc_bool(d, "journal_moved", r->cut.log_moved);
	}
	err = put_doc(d, r->tool.json);
	doc_free(d);
	return err;
}

/* The exit code. */
static int run(struct resize *r, const char *operand)
{
	bool done = false;
	struct stat st;
	int code;

	if (!stat(operand, &st) && S_ISDIR(st.st_mode))
		return r->minimum || r->dry_run
			       ? cli_fail("%s is mounted: a volume becomes shorter only while it is not",
					  operand)
			       : grow_mounted(r, operand);
	if (r->minimum || r->size_bytes) {
		code = shorten_image(r, operand, &done);
		if (code || done)
			return code;
	}
	return grow_image(r, operand);
}

int cmd_resize(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'J' },
						 { "minimum", no_argument, NULL, 'm' },
						 { "dry-run", no_argument, NULL, 'n' },
						 EDIT_LONG };
	struct resize r = { .bar = isatty(STDERR_FILENO) };
	int opt, code, err;

	tool_init(&r.tool);
	while ((opt = getopt_long(argc, argv, "np:" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'm')
			r.minimum = true;
		else if (opt == 'n')
			r.dry_run = true;
		else if ((code = tool_option(&r.tool, opt, argv)))
			return code;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("%s", "an image, a device or a mount is wanted, and perhaps its new size");
	if (argc - optind == 2 && (!size_parse(argv[optind + 1], &r.size_bytes) || !r.size_bytes))
		return cli_usage("\"%s\" is no size: a number of bytes, or with K, M, G or T, is wanted",
				 argv[optind + 1]);
	if (r.minimum ? r.size_bytes != 0 : r.dry_run && !r.size_bytes)
		return cli_usage("%s", r.minimum ? "--minimum and a size exclude each other"
						 : "--dry-run wants a size, or --minimum");
	code = run(&r, argv[optind]);
	if (code)
		return code;
	err = show(&r);
	return err ? cli_error(err, argv[optind]) : 0;
}
