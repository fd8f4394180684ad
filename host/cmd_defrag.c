/*
 * werunos defrag: files that lie in many pieces are put into fewer. A volume that is mounted by us is asked for through the mount, file by
 * file and part by part; else it is opened for this process alone. What is counted, said and skipped is the same.
 */
#include "cmd.h"

#include "edit.h"
#include "fuse/fuse.h"
#include "lib/scope.h"
#include "seen.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRESS_NS 200000000u

/* A file under way, offline or in a mount. */
struct subject {
	const char *path;
	struct inode *inode; /* NULL: fd */
	int fd;
	u32 block_bytes;
	struct fragments before, after;
	u64 moved_bytes;
	char why[448]; /* it is left as it is; "": it is not */
};

/* What a number of files have. */
struct sums {
	u64 files, blocks_bytes, pieces, best;
};

struct defrag {
	struct edit e; /* first */
	bool check, verbose, bar;
	struct doc *out;  /* what is said in the end */
	struct doc *list; /* in it, of the files; NULL: nobody asked for that */
	struct seen seen; /* files with several names */
	struct sums before, after;
	u64 improved, left, skipped, moved_bytes;
	u64 shown_ns;
};

/* ---- saying ---- */

/* 0: it could not be better; 50: one break that need not be for each MiB; towards 100 with more of them. */
static u32 score(u64 pieces, u64 best, u64 bytes)
{
	u64 mib = MAX(bytes >> 20, 1ull), more = pieces - MIN(best, pieces);

	return (u32)(100 * more / (more + mib));
}

static void bar_clear(struct defrag *d)
{
	if (d->shown_ns)
		fputs("\r\033[K", stderr);
	d->shown_ns = 0;
}

static void progress(struct defrag *d, const struct subject *f)
{
	u64 now = os_monotonic_ns();

	if (!d->bar || now - d->shown_ns < PROGRESS_NS)
		return;
	d->shown_ns = now;
	fprintf(stderr, "\r\033[K%llu files looked at, %llu MiB moved", (unsigned long long)d->before.files,
		(unsigned long long)((d->moved_bytes + f->moved_bytes) >> 20));
	fflush(stderr);
}

static void failed(struct defrag *d, int err, const char *path)
{
	bar_clear(d);
	edit_failed(&d->e, err, path);
}

static void list_file(struct doc *list, const struct subject *f)
{
	struct doc *o = doc_object(list, NULL);
	u64 bytes = f->before.blocks * f->block_bytes;

	doc_bytes(o, "path", f->path, strlen(f->path));
	if (f->why[0]) {
		doc_str(o, "skipped", f->why);
		return;
	}
	doc_u64(o, "bytes", bytes);
	doc_u64(o, "fragments_before", f->before.pieces);
	doc_u64(o, "fragments_after", f->after.pieces);
	doc_u64(o, "fragments_best", f->before.best);
	doc_u64(o, "score_before", score(f->before.pieces, f->before.best, bytes));
	doc_u64(o, "score_after", score(f->after.pieces, f->after.best, bytes));
	doc_u64(o, "moved_bytes", f->moved_bytes);
}

static void print_file(struct defrag *d, const struct subject *f)
{
	u64 bytes = f->before.blocks * f->block_bytes;
	struct text t = { 0 };

	bar_clear(d);
	text_add_name(&t, f->path, strlen(f->path));
	if (f->why[0])
		text_add(&t, ": skipped: %s\n", f->why);
	else if (d->check)
		text_add(&t, ": %llu fragments, score %u\n", (unsigned long long)f->before.pieces,
			 score(f->before.pieces, f->before.best, bytes));
	else
		text_add(&t, ": fragments %llu -> %llu, score %u -> %u\n",
			 (unsigned long long)f->before.pieces, (unsigned long long)f->after.pieces,
			 score(f->before.pieces, f->before.best, bytes),
			 score(f->after.pieces, f->after.best, bytes));
	if (put_text(&t))
		d->e.failed = true;
	text_free(&t);
}

static void add(struct sums *s, const struct fragments *f, u32 block_bytes)
{
	s->files++;
	s->blocks_bytes += f->blocks * block_bytes;
	s->pieces += f->pieces;
	s->best += f->best;
}

/* The file is done. */
static void count(struct defrag *d, const struct subject *f)
{
	if (f->why[0]) {
		d->skipped++;
	} else {
		add(&d->before, &f->before, f->block_bytes);
		add(&d->after, &f->after, f->block_bytes);
		d->moved_bytes += f->moved_bytes;
		d->improved += f->after.pieces < f->before.pieces;
		d->left += f->after.pieces > f->after.best;
	}
	if (d->list)
		list_file(d->list, f);
	else if (d->verbose)
		print_file(d, f);
	progress(d, f);
}

static int show(struct defrag *d)
{
	struct doc *o = d->out;

	bar_clear(d);
	doc_u64(o, "files", d->before.files);
	doc_u64(o, "skipped", d->skipped);
	doc_u64(o, "bytes", d->before.blocks_bytes);
	doc_u64(o, "fragments_before", d->before.pieces);
	if (!d->check)
		doc_u64(o, "fragments_after", d->after.pieces);
	doc_u64(o, "fragments_best", d->after.best);
	doc_u64(o, "score_before", score(d->before.pieces, d->before.best, d->before.blocks_bytes));
	if (!d->check) {
		doc_u64(o, "score_after", score(d->after.pieces, d->after.best, d->after.blocks_bytes));
		doc_u64(o, "improved", d->improved);
	}
	doc_u64(o, "fragmented", d->left);
	if (!d->check)
		doc_u64(o, "moved_bytes", d->moved_bytes);
	return put_doc(o, d->e.tool.json);
}

/* ---- one file ---- */

static int ask(struct subject *f, unsigned long cmd, struct server_defrag *s)
{
	if (ioctl(f->fd, cmd, s) < 0)
		return errno == ENOTTY ? fail(-ENOTTY, "not on a mount of werunos that can do that") : -errno;
	return s->err ? fail(s->err, "%.*s", (int)sizeof(s->why), s->why) : 0;
}

/* How it lies; f->why: why it stays so. */
static int look(struct subject *f, struct fragments *out)
{
	struct server_defrag s = { 0 };
	int err;

	if (f->inode) {
		const char *why = vfs_defrag_refused(f->inode);

		snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
		f->block_bytes = f->inode->sb->block_bytes;
		return why ? 0 : vfs_fragments(f->inode, out);
	}
	err = ask(f, SERVER_IOC_FRAGMENTS, &s);
	snprintf(f->why, sizeof(f->why), "%.*s", (int)sizeof(s.why), err ? "" : s.why);
	f->block_bytes = s.block_bytes;
	*out = (struct fragments){ s.blocks, s.pieces, s.best };
	return err;
}

/* One part of it. */
static int move(struct subject *f, u64 *pos_bytes)
{
	struct server_defrag s = { .pos_bytes = *pos_bytes };
	u64 moved = 0;
	int err;

	if (f->inode) {
		err = vfs_defrag(f->inode, pos_bytes, &moved);
	} else {
		err = ask(f, SERVER_IOC_DEFRAG, &s);
		*pos_bytes = s.pos_bytes;
		moved = s.moved_bytes;
	}
	f->moved_bytes += moved;
	return err;
}

static void do_file(struct defrag *d, struct subject *f)
{
	u64 pos = 0;
	int err = look(f, &f->before), look_err;

	f->after = f->before;
	if (err) {
		failed(d, err, f->path);
		return;
	}
	if (!f->why[0] && !d->check && f->before.pieces > f->before.best) {
		while (!err && pos != ~0ull) {
			err = move(f, &pos);
			progress(d, f);
		}
		if (err)
			failed(d, err, f->path);
		look_err = look(f, &f->after);
		if (look_err && !err)
			failed(d, look_err, f->path);
	}
	count(d, f);
}

/* A file that has several names is one. True: it was met before. */
static bool met(struct defrag *d, u64 ino, u64 links)
{
	return links > 1 && seen_add(&d->seen, ino) == -EEXIST;
}

/* ---- offline ---- */

static int visit(void *ctx, const struct walk_entry *e)
{
	struct defrag *d = ctx;
	struct subject f = { .path = e->path, .inode = e->inode, .fd = -1 };

	if (e->err)
		failed(d, e->err, e->path);
	else if (is_reg(e->inode) && !met(d, e->inode->ino, e->inode->nlink))
		do_file(d, &f);
	return edit_goes_on(&d->e) ? 0 : 1;
}

static void one_path(struct edit *e, const char *path)
{
	scoped(vfs_iputp) struct inode *start = NULL;
	struct defrag *d = (struct defrag *)e;
	struct subject f = { .path = path, .fd = -1 };
	int err = edit_find(e, path, false, &start);

	if (!err && is_dir(start)) {
		err = vfs_walk(start, visit, d);
	} else if (!err) {
		f.inode = start;
		do_file(d, &f);
	}
	if (err < 0)
		failed(d, err, path);
}

/* ---- through a mount ---- */

static void one_mounted(struct defrag *d, const char *path)
{
	struct subject f = { .path = path, .fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) };

	if (f.fd < 0 && (errno == ENOKEY || errno == EPERM)) {
		snprintf(f.why, sizeof(f.why), "%s", strerror(errno));
		count(d, &f);
	} else if (f.fd < 0) {
		failed(d, -errno, path);
	} else {
		do_file(d, &f);
		close(f.fd);
	}
}

/* The server, which answers for any directory of the mount, can do it. */
static bool is_ours(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), err = 0;
	u32 pid;

	if (fd < 0)
		cli_fail("%s: %s", path, strerror(errno));
	else if (ioctl(fd, SERVER_IOC_PID, &pid) < 0)
		err = errno == ENOTTY ? cli_fail("%s is not on a mount of werunos", path)
				      : cli_fail("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return fd >= 0 && !err;
}

static void walk_mounted(struct defrag *d, char *path)
{
	char *paths[] = { path, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	FTSENT *e;

	if (!fts) {
		failed(d, -errno, path);
		return;
	}
	while ((e = fts_read(fts))) {
		if (e->fts_info == FTS_F && S_ISREG(e->fts_statp->st_mode)) {
			if (!met(d, e->fts_statp->st_ino, e->fts_statp->st_nlink))
				one_mounted(d, e->fts_path);
		} else if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS) {
			failed(d, -e->fts_errno, e->fts_path);
		}
	}
	fts_close(fts);
}

/* ---- the command ---- */

static int run_mounted(struct defrag *d, char **operand, int count)
{
	for (int i = 0; i < count; i++) {
		if (is_ours(operand[i]))
			walk_mounted(d, operand[i]);
		else
			d->e.failed = true;
	}
	return d->e.failed ? EXIT_ERROR : 0;
}

static int run(struct defrag *d, char **operand, int count)
{
	struct stat st;
	int code, err;

	d->out = doc_new();
	if (!d->out)
		return cli_error(fail(-ENOMEM, "no memory for the output"), operand[0]);
	if (d->e.tool.json && d->verbose)
		d->list = doc_array(d->out, "list");
	if (!stat(operand[0], &st) && S_ISDIR(st.st_mode))
		code = run_mounted(d, operand, count);
	else
		code = edit_run(&d->e, operand, count, d->check, one_path);
	err = show(d);
	doc_free(d->out);
	seen_free(&d->seen);
	return err ? cli_error(err, operand[0]) : code;
}

int cmd_defrag(int argc, char **argv)
{
	static const struct option options[] = { { "check", no_argument, NULL, 'c' },
						 { "verbose", no_argument, NULL, 'v' },
						 { "json", no_argument, NULL, 'J' },
						 EDIT_LONG };
	struct defrag d = { .bar = isatty(STDERR_FILENO) };
	int opt, code;

	edit_init(&d.e, "defragment");
	while ((opt = getopt_long(argc, argv, "cvp:" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'c')
			d.check = true;
		else if (opt == 'v')
			d.verbose = true;
		else if ((code = tool_option(&d.e.tool, opt, argv)))
			return code;
	}
	if (argc == optind)
		return cli_usage("%s", "an image or a device is wanted, or a directory of a mount");
	return run(&d, argv + optind, argc - optind);
}
