/*
 * werunos rm, rmdir, mkdir, mv, ln: names of a volume that is not mounted. They do what the commands of these names of GNU do to a mount, and
 * ask nothing.
 */
#include "cmd.h"

#include "edit.h"
#include "lib/scope.h"
#include "mode.h"
#include "seen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rm ---- */

struct rm {
	struct edit e;
	bool recursive, force, dirs;
};

static int rm_enter(void *ctx, const struct visit *v)
{
	(void)ctx;
	return is_dir(v->inode) ? 0 : vfs_unlink(v->dir, &v->name);
}

static int rm_leave(void *ctx, const struct visit *v)
{
	(void)ctx;
	return vfs_rmdir(v->dir, &v->name);
}

static int rm_inode(struct rm *r, const struct visit *at, const char *path)
{
	if (!is_dir(at->inode))
		return path[strlen(path) - 1] == '/' ? -ENOTDIR : vfs_unlink(at->dir, &at->name);
	if (r->recursive) {
		edit_descend(&r->e, at, path, rm_enter, rm_leave);
		return 0;
	}
	return r->dirs ? vfs_rmdir(at->dir, &at->name)
		       : fail(-EISDIR, "it is a directory (-r removes it, with all that is in it)");
}

static void rm_one(struct edit *e, const char *path)
{
	struct rm *r = container_of(e, struct rm, e);
	scoped(vfs_iputp) struct inode *dir = NULL;
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct name name;
	int err = edit_place(e, path, &dir, &name);

	if (!err)
		err = vfs_lookup(dir, &name, &inode);
	if (!err)
		err = rm_inode(r, &(struct visit){ dir, name, inode }, path);
	if (err && !(r->force && (err == -ENOENT || err == -ENOTDIR)))
		edit_failed(e, err, path);
}

int cmd_rm(int argc, char **argv)
{
	static const struct option options[] = { { "recursive", no_argument, NULL, 'r' },
						 { "force", no_argument, NULL, 'f' },
						 { "dir", no_argument, NULL, 'd' },
						 EDIT_LONG };
	struct rm r = { 0 };
	int opt, code;

	edit_init(&r.e, "remove");
	while ((opt = getopt_long(argc, argv, "rRfd" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'r' || opt == 'R')
			r.recursive = true;
		else if (opt == 'f')
			r.force = true;
		else if (opt == 'd')
			r.dirs = true;
		else if ((code = tool_option(&r.e.tool, opt, argv)))
			return code;
	}
	if (optind == argc)
		return r.force ? 0 : cli_usage("%s", "a file is wanted: IMAGE:/PATH");
	return edit_run(&r.e, argv + optind, argc - optind, false, rm_one);
}

/* ---- rmdir ---- */

static void rmdir_one(struct edit *e, const char *path)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct name name;
	int err = edit_place(e, path, &dir, &name);

	if (!err)
		err = vfs_rmdir(dir, &name);
	if (err)
		edit_failed(e, err, path);
}

int cmd_rmdir(int argc, char **argv)
{
	static const struct option options[] = { EDIT_LONG };
	struct edit e;
	int opt, code;

	edit_init(&e, "remove");
	while ((opt = getopt_long(argc, argv, EDIT_SHORT, options, NULL)) != -1)
		if ((code = tool_option(&e.tool, opt, argv)))
			return code;
	if (optind == argc)
		return cli_usage("%s", "a directory is wanted: IMAGE:/PATH");
	return edit_run(&e, argv + optind, argc - optind, false, rmdir_one);
}

/* ---- mkdir ---- */

struct mkdir {
	struct edit e;
	bool parents;
	const char *mode; /* NULL: as the umask has it */
};

/* With -m the umask does not matter; bits beyond permissions are set afterwards. */
static int mkdir_make(struct inode *dir, const struct name *name, const char *mode, u32 mode_or)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct cred cred = edit_cred();
	struct iattr attr = { .valid = ATTR_MODE };
	u32 want = 0777;
	int err;

	if (mode && !mode_change(mode, 0777, true, cred.umask, &want))
		return fail(-EINVAL, "\"%s\" is no mode", mode);
	cred.umask = mode ? 0 : cred.umask & ~mode_or;
	err = vfs_create(dir, name, S_IFDIR | (want & 0777), 0, 0, NULL, &cred, &inode);
	if (err || !(want & ~0777u))
		return err;
	attr.mode = (inode->mode & 07777) | want;
	return vfs_setattr(inode, &attr);
}

/* mkdir -p: all directories on the way. */
static int mkdir_parents(struct mkdir *m, const char *path)
{
	scoped(freep) char *copy = strdup(path);
	int err = copy ? 0 : fail(-ENOMEM, "no memory for a path");

	for (char *at = copy; !err && *at;) {
		scoped(vfs_iputp) struct inode *dir = NULL;
		scoped(vfs_iputp) struct inode *there = NULL;
		char *end = at + strspn(at, "/"), kept;
		struct name name;
		bool last;

		end += strcspn(end, "/");
		last = !end[strspn(end, "/")];
		kept = *end;
		*end = 0;
		err = copy[strspn(copy, "/")] ? vfs_path(m->e.v.sb, NULL, copy, true, &there) : 0;
		if (!err && there && !is_dir(there))
			err = last ? -EEXIST : -ENOTDIR;
		if (err == -ENOENT)
			err = edit_place(&m->e, copy, &dir, &name);
		if (!err && dir)
			err = last ? mkdir_make(dir, &name, m->mode, 0)
				   : mkdir_make(dir, &name, NULL, S_IWUSR | S_IXUSR);
		*end = kept;
		at = end;
	}
	return err;
}

static int mkdir_plain(struct mkdir *m, const char *path)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct name name;
	int err = edit_place(&m->e, path, &dir, &name);

	return err ? err : mkdir_make(dir, &name, m->mode, 0);
}

static void mkdir_one(struct edit *e, const char *path)
{
	struct mkdir *m = container_of(e, struct mkdir, e);
	int err = m->parents ? mkdir_parents(m, path) : mkdir_plain(m, path);

	if (err)
		edit_failed(e, err, path);
}

int cmd_mkdir(int argc, char **argv)
{
	static const struct option options[] = { { "parents", no_argument, NULL, 'p' },
						 { "mode", required_argument, NULL, 'm' },
						 EDIT_LONG };
	struct mkdir m = { 0 };
	int opt, code;
	u32 mode;

	edit_init(&m.e, "make directory");
	while ((opt = getopt_long(argc, argv, "pm:" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'p')
			m.parents = true;
		else if (opt == 'm')
			m.mode = optarg;
		else if ((code = tool_option(&m.e.tool, opt, argv)))
			return code;
	}
	if (m.mode && !mode_change(m.mode, 0, true, 0, &mode))
		return cli_usage("\"%s\" is no mode", m.mode);
	if (optind == argc)
		return cli_usage("%s", "a directory is wanted: IMAGE:/PATH");
	return edit_run(&m.e, argv + optind, argc - optind, false, mkdir_one);
}

/* ---- what mv and ln share ---- */

/* A command whose last operand says where. */
struct into {
	struct edit e;
	bool keep;        /* what is there */
	bool force;       /* ln: what is there goes */
	bool no_dir;      /* the last operand is the new name itself */
	bool no_follow;   /* likewise when it is a symbolic link */
	bool symbolic;    /* ln -s */
	struct seen made; /* mv: files that have got their new names by this command */
};

/* The last name in a path, without slashes. */
static struct name last_name(const char *path)
{
	size_t end = strlen(path), at;

	while (end && path[end - 1] == '/')
		end--;
	for (at = end; at && path[at - 1] != '/';)
		at--;
	return (struct name){ path + at, (u32)(end - at) };
}

/* With several sources, or with one that is to go into a directory, the last operand must be one. */
static int into_check(struct into *c, const char *to, u32 sources)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	int err;

	if (sources < 2)
		return 0;
	err = edit_find(&c->e, to, true, &dir);
	if (!err && !is_dir(dir))
		err = -ENOTDIR;
	return err;
}

/* Where a source called `last` goes. */
static int into_target(struct into *c, const char *to, const struct name *last, struct inode **dir,
		       struct name *name)
{
	scoped(vfs_iputp) struct inode *link = NULL;
	bool into_dir = !c->no_dir;

	if (into_dir && c->no_follow && !vfs_path(c->e.v.sb, NULL, to, false, &link) && is_symlink(link))
		into_dir = false;
	err_clear();
	return edit_target(&c->e, to, last, into_dir, dir, name);
}

/* Runs `one` for each source. */
static int into_run(struct into *c, int argc, char **argv,
		    void (*one)(struct into *, const char *, const char *))
{
	int n = argc - optind, first;

	if (n < 2)
		return cli_usage("%s", "a source and a target are wanted");
	if (c->no_dir && n > 2)
		return cli_usage("%s", "-T takes one source and one target");
	/* What a symbolic link says is text, not a file. */
	first = c->symbolic ? argc - 1 : optind;
	if (edit_open(&c->e, argv + first, argc - first, false)) {
		const char *to = c->e.path[c->e.count - 1];
		int err = into_check(c, to, (u32)n - 1);

		if (err)
			edit_failed(&c->e, err, to);
		for (int i = 0; !err && i < n - 1 && edit_goes_on(&c->e); i++) {
			one(c, c->symbolic ? argv[optind + i] : c->e.path[i], to);
			err_clear();
		}
	}
	seen_free(&c->made);
	return edit_close(&c->e);
}

/* ---- mv ---- */

/* What is at the new name, if anything; -EEXIST: that stays, and nothing is to be said. */
static int mv_check(struct into *c, struct inode *from, struct inode *to)
{
	if (!to)
		return 0;
	if (c->keep)
		return -EEXIST;
	if (to == from)
		return fail(-EINVAL, "it has that name already");
	if (seen_has(&c->made, to->ino))
		return fail(-EEXIST, "its new name was given to another file just now");
	if (is_dir(to) && !is_dir(from))
		return fail(-EISDIR, "its new name is a directory's");
	if (is_dir(from) && !is_dir(to))
		return fail(-ENOTDIR, "it is a directory, and its new name a file's");
	return 0;
}

static int mv_rename(struct into *c, const char *from, const char *to)
{
	scoped(vfs_iputp) struct inode *dir = NULL;
	scoped(vfs_iputp) struct inode *new_dir = NULL;
	scoped(vfs_iputp) struct inode *inode = NULL;
	scoped(vfs_iputp) struct inode *there = NULL;
	struct name name, new_name;
	int err = edit_place(&c->e, from, &dir, &name);

	if (!err)
		err = vfs_lookup(dir, &name, &inode);
	if (!err && from[strlen(from) - 1] == '/' && !is_dir(inode))
		err = -ENOTDIR;
	if (!err)
		err = into_target(c, to, &name, &new_dir, &new_name);
	if (err)
		return err;
	err = vfs_lookup(new_dir, &new_name, &there);
	if (err == -ENOENT)
		err = to[strlen(to) - 1] == '/' && !is_dir(inode) && new_name.s >= to &&
				      new_name.s < to + strlen(to)
			      ? -ENOTDIR
			      : 0;
	if (!err)
		err = mv_check(c, inode, there);
	if (err)
		return err;
	err = vfs_rename(dir, &name, new_dir, &new_name, c->keep ? RENAME_NOREPLACE : 0);
	if (err == -EINVAL && !*err_text())
		err = fail(err, "it would lie in itself");
	if (!err && !seen_has(&c->made, inode->ino))
		err = seen_add(&c->made, inode->ino);
	return err;
}

static void mv_one(struct into *c, const char *from, const char *to)
{
	int err = mv_rename(c, from, to);

	if (err && !(err == -EEXIST && c->keep && !*err_text()))
		edit_failed(&c->e, err, from);
}

int cmd_mv(int argc, char **argv)
{
	static const struct option options[] = { { "no-clobber", no_argument, NULL, 'n' },
						 { "force", no_argument, NULL, 'f' },
						 { "no-target-directory", no_argument, NULL, 'T' },
						 EDIT_LONG };
	struct into c = { 0 };
	int opt, code;

	edit_init(&c.e, "move");
	while ((opt = getopt_long(argc, argv, "nfT" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'n' || opt == 'f')
			c.keep = opt == 'n';
		else if (opt == 'T')
			c.no_dir = true;
		else if ((code = tool_option(&c.e.tool, opt, argv)))
			return code;
	}
	return into_run(&c, argc, argv, mv_one);
}

/* ---- ln ---- */

/* A name, new or at a place that another file gives up at that moment. */
static int ln_make(struct inode *inode, const char *target, struct inode *dir, const struct name *name)
{
	scoped(vfs_iputp) struct inode *made = NULL;
	const struct name text = target ? NAME(target) : (struct name){ 0 };
	const struct cred cred = edit_cred();

	return target ? vfs_create(dir, name, S_IFLNK | 0777, 0, 0, &text, &cred, &made)
		      : vfs_link(inode, dir, name);
}

/* The file has another name first, so that at no moment there is none. */
static int ln_replace(struct inode *inode, const char *target, struct inode *dir, const struct name *name)
{
	char temp[32];
	struct name other;
	u64 chance;
	int err;

	os_random(&chance, sizeof(chance));
	snprintf(temp, sizeof(temp), ".werunos-%016llx", (unsigned long long)chance);
	other = NAME(temp);
	err = ln_make(inode, target, dir, &other);
	if (err)
		return err;
	err = vfs_rename(dir, &other, dir, name, 0);
	if (err && vfs_unlink(dir, &other))
		return fail(err, "it is called %s now", temp);
	return err;
}

static int ln_link(struct into *c, const char *from, const char *to)
{
	const char *target = c->symbolic ? from : NULL;
	const struct name last = last_name(from);
	scoped(vfs_iputp) struct inode *inode = NULL;
	scoped(vfs_iputp) struct inode *dir = NULL;
	scoped(vfs_iputp) struct inode *there = NULL;
	struct name name;
	int err = target ? 0 : edit_find(&c->e, from, false, &inode);

	if (!err && inode && is_dir(inode))
		err = fail(-EPERM, "it is a directory, which has one name only");
	if (!err)
		err = into_target(c, to, &last, &dir, &name);
	if (err)
		return err;
	if (!c->force || vfs_lookup(dir, &name, &there))
		return ln_make(inode, target, dir, &name);
	if (there == inode)
		return fail(-EEXIST, "it has that name already");
	return is_dir(there) ? fail(-EISDIR, "the new name is a directory's")
			     : ln_replace(inode, target, dir, &name);
}

static void ln_one(struct into *c, const char *from, const char *to)
{
	int err = ln_link(c, from, to);

	if (err)
		edit_failed(&c->e, err, from);
}

int cmd_ln(int argc, char **argv)
{
	static const struct option options[] = { { "symbolic", no_argument, NULL, 's' },
						 { "force", no_argument, NULL, 'f' },
						 { "no-dereference", no_argument, NULL, 'n' },
						 { "no-target-directory", no_argument, NULL, 'T' },
						 EDIT_LONG };
	struct into c = { 0 };
	int opt, code;

	edit_init(&c.e, "link");
	while ((opt = getopt_long(argc, argv, "sfnT" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 's')
			c.symbolic = true;
		else if (opt == 'f')
			c.force = true;
		else if (opt == 'n')
			c.no_follow = true;
		else if (opt == 'T')
			c.no_dir = true;
		else if ((code = tool_option(&c.e.tool, opt, argv)))
			return code;
	}
	return into_run(&c, argc, argv, ln_one);
}
