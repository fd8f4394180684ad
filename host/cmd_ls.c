/*
 * werunos ls and tree: directories of a volume without mounting it.
 *
 * Owners are those on the disk. Names are escaped (\xNN), so that a volume cannot steer the terminal; --json has
 * them as they are where they are text.
 */
#include "cmd.h"

#include "lib/scope.h"
#include "seen.h"
#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Deeper directories are not entered. */
#define DEPTH_MAX 1000u

/* ---- what ls and tree share ---- */

struct lister {
	struct tool_opts tool;
	bool all, long_form, recursive;
	struct volume v;
	struct seen seen;
	struct text out;
	int err; /* the first error met on the way: the rest is still shown */
};

/* Notes an error about a file and goes on. */
static void note(struct lister *l, int err, const char *path)
{
	struct text t = { 0 };

	text_add_name(&t, path, strlen(path));
	if (!l->err)
		l->err = err;
	if (put_text(&l->out))
		l->err = -EPIPE;
	cli_error(err, text_str(&t));
	err_clear();
	text_free(&t);
}

static bool is_hidden(const struct lister *l, const struct listed *e)
{
	return !l->all && e->name[0] == '.';
}

static char *join(const char *dir, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] == '/' ? "" : "/", name) < 0)
		path = NULL;
	return path;
}

static int child_of(struct inode *dir, const struct listed *e, struct inode **out)
{
	return vfs_lookup(dir, &(struct name){ e->name, e->len }, out);
}

/* ---- ls ---- */

static void add_time(struct text *t, struct timespec64 ts)
{
	time_t sec = (time_t)ts.sec;
	char date[64];
	struct tm tm;

	if (gmtime_r(&sec, &tm) && strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm))
		text_add(t, " %s ", date);
	else
		text_add(t, " %lld ", (long long)ts.sec);
}

static void add_long(struct lister *l, struct inode *inode)
{
	char mode[11], size[32];
	struct kstat k;

	vfs_getattr(inode, &k);
	mode_text(k.mode, mode);
	if (S_ISCHR(k.mode) || S_ISBLK(k.mode))
		snprintf(size, sizeof(size), "%u, %u", k.rdev_major, k.rdev_minor);
	else
		snprintf(size, sizeof(size), "%llu", (unsigned long long)k.size_bytes);
	text_add(&l->out, "%s %3u %5u %5u %12s", mode, k.nlink, k.uid, k.gid, size);
	add_time(&l->out, k.mtime);
}

static void add_row(struct lister *l, struct inode *dir, const struct listed *e, const char *path)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = 0;

	if (l->long_form) {
		err = child_of(dir, e, &inode);
		if (err) {
			scoped(freep) char *full = join(path, e->name);

			note(l, err, full ? full : e->name);
			text_add(&l->out, "?????????? %3s %5s %5s %12s %16s ", "?", "?", "?", "?", "?");
		} else {
			add_long(l, inode);
		}
	}
	text_add_name(&l->out, e->name, e->len);
	if (inode && is_symlink(inode)) {
		text_add(&l->out, " -> ");
		err = add_target(inode, &l->out);
		if (err)
			text_add(&l->out, "?");
	}
	text_add(&l->out, "\n");
	if (l->out.len_bytes > 65536 && !l->err)
		l->err = put_text(&l->out);
}

static void add_json(struct lister *l, struct doc *array, struct inode *dir, const struct listed *e)
{
	struct doc *d = doc_object(array, NULL);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = child_of(dir, e, &inode);

	doc_bytes(d, "name", e->name, e->len);
	if (!err) {
		stat_doc(inode, d);
		return;
	}
	doc_str(d, "error", *err_text() ? err_text() : strerror(-err));
	err_clear();
	if (!l->err)
		l->err = err;
}

static void ls_dir(struct lister *l, struct inode *dir, const char *path, u32 depth);

static void ls_below(struct lister *l, struct inode *dir, const struct listed *e, const char *path, u32 depth)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	scoped(freep) char *full = NULL;

	if (!strcmp(e->name, ".") || !strcmp(e->name, "..") || is_hidden(l, e) || child_of(dir, e, &inode) ||
	    !is_dir(inode))
		return;
	full = join(path, e->name);
	if (full)
		ls_dir(l, inode, full, depth + 1);
}

static void ls_dir(struct lister *l, struct inode *dir, const char *path, u32 depth)
{
	scoped(listing_free) struct listing list = { 0 };
	int err;

	if (l->recursive) {
		if (depth > DEPTH_MAX || seen_add(&l->seen, dir->ino)) {
			note(l, fail(-ELOOP, "%s: too deep, or met before", path), path);
			return;
		}
		text_add(&l->out, depth ? "\n" : "");
		text_add_name(&l->out, path, strlen(path));
		text_add(&l->out, ":\n");
	}
	err = listing_read(dir, l->all, &list);
	for (u32 i = 0; i < list.count; i++)
		if (!is_hidden(l, &list.e[i]))
			add_row(l, dir, &list.e[i], path);
	if (err)
		note(l, err, path);
	for (u32 i = 0; l->recursive && i < list.count; i++)
		ls_below(l, dir, &list.e[i], path, depth);
}

static void ls_json(struct lister *l, struct inode *dir, const char *path)
{
	scoped(listing_free) struct listing list = { 0 };
	struct doc *d = doc_new(), *a;
	int err;

	if (!d) {
		l->err = -ENOMEM;
		return;
	}
	doc_str(d, "path", path);
	a = doc_array(d, "entries");
	err = listing_read(dir, l->all, &list);
	for (u32 i = 0; i < list.count; i++)
		if (!is_hidden(l, &list.e[i]))
			add_json(l, a, dir, &list.e[i]);
	if (err)
		note(l, err, path);
	err = put_doc(d, true);
	if (err && !l->err)
		l->err = err;
	doc_free(d);
}

/* A path that is no directory: itself, in the form of its directory's rows. */
static void ls_file(struct lister *l, struct inode *inode, const char *path)
{
	if (l->long_form)
		add_long(l, inode);
	text_add_name(&l->out, path, strlen(path));
	text_add(&l->out, "\n");
}

static int ls_operand(struct lister *l, const char *operand)
{
	struct inode *inode;
	int err = volume_open(&l->tool, operand, &l->v);

	if (err)
		return cli_error(err, operand);
	err = vfs_path(l->v.sb, NULL, l->v.path, !l->long_form, &inode);
	if (err) {
		note(l, err, operand);
	} else {
		if (!is_dir(inode))
			ls_file(l, inode, l->v.path);
		else if (l->tool.json)
			ls_json(l, inode, l->v.path);
		else
			ls_dir(l, inode, l->v.path, 0);
		vfs_iput(inode);
	}
	err = put_text(&l->out);
	if (err && !l->err)
		l->err = cli_error(err, operand);
	seen_free(&l->seen);
	volume_close(&l->v);
	return l->err ? EXIT_ERROR : 0;
}

static const struct option ls_options[] = { TOOL_LONG };

static int run_operands(struct lister *l, int argc, char **argv, int (*fn)(struct lister *, const char *))
{
	int code = 0;

	if (optind == argc)
		return cli_usage("%s", "an image or device is wanted");
	for (int i = optind; i < argc; i++) {
		l->err = 0;
		code |= fn(l, argv[i]);
	}
	text_free(&l->out);
	return code;
}

int cmd_ls(int argc, char **argv)
{
	struct lister l = { 0 };
	int opt, code;

	tool_init(&l.tool);
	while ((opt = getopt_long(argc, argv, "alR" TOOL_SHORT, ls_options, NULL)) != -1) {
		if (opt == 'a')
			l.all = true;
		else if (opt == 'l')
			l.long_form = true;
		else if (opt == 'R')
			l.recursive = true;
		else if ((code = tool_option(&l.tool, opt, argv)))
			return code;
	}
	if (l.tool.json && l.recursive)
		return cli_usage("%s", "--json and -R exclude each other: see tree --json");
	return run_operands(&l, argc, argv, ls_operand);
}

/* ---- tree ---- */

struct branch {
	const struct branch *up;
	bool last; /* of its directory */
};

static void add_lines(struct text *t, const struct branch *b, bool leaf)
{
	if (!b)
		return;
	add_lines(t, b->up, false);
	text_add(t, leaf ? b->last ? "└── " : "├── " : b->last ? "    " : "│   ");
}

static void tree_dir(struct lister *l, struct inode *dir, const struct branch *at, struct doc *d, u32 depth);

static void tree_entry(struct lister *l, struct inode *dir, const struct listed *e, const struct branch *at,
		       struct doc *d, u32 depth)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = child_of(dir, e, &inode);

	if (d) {
		doc_bytes(d, "name", e->name, e->len);
		if (!err)
			doc_str(d, "type", mode_kind(inode->mode));
		else
			doc_str(d, "error", strerror(-err));
	} else {
		add_lines(&l->out, at, true);
		text_add_name(&l->out, e->name, e->len);
		if (err)
			text_add(&l->out, " [%s]", strerror(-err));
		if (!err && is_symlink(inode)) {
			text_add(&l->out, " -> ");
			if (add_target(inode, &l->out))
				text_add(&l->out, "?");
		}
		text_add(&l->out, "\n");
	}
	if (err && !l->err)
		l->err = err;
	if (!err && is_dir(inode))
		tree_dir(l, inode, at, d, depth + 1);
}

static void tree_dir(struct lister *l, struct inode *dir, const struct branch *at, struct doc *d, u32 depth)
{
	scoped(listing_free) struct listing list = { 0 };
	struct doc *a = d ? doc_array(d, "entries") : NULL;
	u32 left = 0;
	int err;

	if (depth > DEPTH_MAX || seen_add(&l->seen, dir->ino)) {
		note(l, fail(-ELOOP, "directory %llu: too deep, or met before", (unsigned long long)dir->ino),
		     "");
		return;
	}
	err = listing_read(dir, false, &list);
	if (err)
		note(l, err, "");
	for (u32 i = 0; i < list.count; i++)
		left += !is_hidden(l, &list.e[i]);
	for (u32 i = 0; i < list.count; i++) {
		struct branch b = { .up = at };

		if (is_hidden(l, &list.e[i]))
			continue;
		b.last = --left == 0;
		tree_entry(l, dir, &list.e[i], &b, a ? doc_object(a, NULL) : NULL, depth);
	}
	if (!d && l->out.len_bytes > 65536 && put_text(&l->out))
		l->err = -EPIPE;
}

static int tree_operand(struct lister *l, const char *operand)
{
	struct inode *inode = NULL;
	struct doc *d = NULL;
	int err = volume_open(&l->tool, operand, &l->v);

	if (err)
		return cli_error(err, operand);
	err = vfs_path(l->v.sb, NULL, l->v.path, true, &inode);
	if (!err && !is_dir(inode))
		err = fail(-ENOTDIR, "%s is not a directory", operand);
	if (!err && l->tool.json && !(d = doc_new()))
		err = fail(-ENOMEM, "no memory for the output");
	if (!err) {
		if (d)
			doc_str(d, "path", l->v.path);
		else
			text_add_name(&l->out, l->v.path, strlen(l->v.path));
		text_add(&l->out, d ? "" : "\n");
		tree_dir(l, inode, NULL, d, 0);
		err = d ? put_doc(d, true) : put_text(&l->out);
	}
	vfs_iput(inode);
	doc_free(d);
	seen_free(&l->seen);
	volume_close(&l->v);
	if (err)
		return cli_error(err, operand);
	return l->err ? EXIT_ERROR : 0;
}

int cmd_tree(int argc, char **argv)
{
	struct lister l = { 0 };
	int opt, code;

	tool_init(&l.tool);
	while ((opt = getopt_long(argc, argv, "a" TOOL_SHORT, ls_options, NULL)) != -1) {
		if (opt == 'a')
			l.all = true;
		else if ((code = tool_option(&l.tool, opt, argv)))
			return code;
	}
	return run_operands(&l, argc, argv, tree_operand);
}
