/*
 * werunos cp: files and trees between the host and volumes, or from one volume to another, without mounting. What an operand names is a
 * place in a volume when it has the form IMAGE:/PATH, IMAGE is there, and no file of the host is called like the whole.
 */
#include "cmd.h"
#include "import/copy_cli.h"
#include "lib/scope.h"
#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_ONE_FILE_SYSTEM = COPY_OPT_END };

struct cp {
	struct tool_opts tool;
	struct copy_cli cli;
	bool archive;
	const char *dst;
	bool dst_is_volume;
	struct volume volume; /* of dst */
	struct inode *dir;    /* of the volume: what is copied to, or where its last name will be */
	char *host_dir;
	char *name; /* what the copy is called in there; NULL: as its source */
};

static bool is_volume(const char *operand)
{
	const char *path;
	char *spec;
	struct stat st;
	bool split;

	if (!lstat(operand, &st) || operand_split(operand, &spec, &path))
		return false;
	split = strcmp(spec, operand) != 0;
	free(spec);
	return split;
}

/* The last name of a path; "" when it has none ("/", "..", "."). */
static char *last_name(const char *path)
{
	size_t end = strlen(path), from;
	char *name;

	while (end && path[end - 1] == '/')
		end--;
	for (from = end; from && path[from - 1] != '/';)
		from--;
	name = strndup(path + from, end - from);
	if (name && (!strcmp(name, ".") || !strcmp(name, "..")))
		*name = 0;
	return name;
}

/* ---- where to ---- */

static int find_in_volume(struct cp *c)
{
	struct super_block *sb = c->volume.sb;
	struct name last;
	int err = vfs_path(sb, NULL, c->volume.path, true, &c->dir);

	if (!err && is_dir(c->dir))
		return 0;
	if (!err) {
		vfs_iput(c->dir);
		c->dir = NULL;
	} else if (err != -ENOENT) {
		return err;
	}
	err = vfs_path_parent(sb, NULL, c->volume.path, &c->dir, &last);
	if (err)
		return err == -ENOENT ? fail(err, "there is no directory for it: werunos mkdir -p makes one")
				      : err;
	err_clear();
	c->name = strndup(last.s, last.len);
	return c->name ? 0 : fail(-ENOMEM, "no memory to copy");
}

static int find_on_host(struct cp *c)
{
	struct stat st;
	char *slash;

	c->host_dir = strdup(c->dst);
	if (!c->host_dir)
		return fail(-ENOMEM, "no memory to copy");
	if (!stat(c->dst, &st) && S_ISDIR(st.st_mode))
		return 0;
	c->name = last_name(c->dst);
	if (!c->name || !*c->name)
		return fail(-ENOENT, "there is no such directory");
	slash = strrchr(c->host_dir, '/');
	while (slash && slash > c->host_dir && !slash[1]) { /* "new/" */
		*slash = 0;
		slash = strrchr(c->host_dir, '/');
	}
	if (!slash)
		strcpy(c->host_dir, ".");
	else
		slash[slash == c->host_dir] = 0;
	return 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of two sources with one name the second would take the first one's place. */
static int check_names(char **src, u32 n)
{
	char **name = calloc(n, sizeof(*name));
	int err = name ? 0 : fail(-ENOMEM, "no memory to copy");

	for (u32 i = 0; !err && i < n; i++) {
		const char *path = src[i];
		scoped(freep) char *spec = NULL;

		if (is_volume(src[i]))
			err = operand_split(src[i], &spec, &path);
		name[i] = err ? NULL : last_name(path);
		if (!err && !name[i])
			err = fail(-ENOMEM, "no memory to copy");
	}
	if (!err)
		qsort(name, n, sizeof(*name), by_bytes);
	for (u32 i = 1; !err && i < n; i++)
		if (*name[i] && !strcmp(name[i - 1], name[i]))
			err = fail(-EEXIST, "two sources are called \"%s\": copy them one at a time",
				   name[i]);
	for (u32 i = 0; name && i < n; i++)
		free(name[i]);
	free(name);
	return err;
}

/* Where everything goes. */
static int find_dst(struct cp *c, char **src, u32 sources)
{
	int err = c->dst_is_volume ? find_in_volume(c) : find_on_host(c);

	if (!err && c->name && sources > 1)
		err = fail(-ENOTDIR, "not a directory, which it must be for several sources");
	return err ? err : check_names(src, sources);
}

static u32 keeps(const struct cp *c)
{
	return c->archive ? KEEP_ALL : 0;
}

static int open_sink(struct cp *c, struct sink **out)
{
	struct cred cred = { geteuid(), getegid(), umask(0) };

	umask(cred.umask);
	return c->dst_is_volume ? sink_volume(c->dir, keeps(c), &cred, out)
				: sink_host(c->host_dir, keeps(c), out);
}

/* ---- one source ---- */

static int run(struct cp *c, struct feed *f, bool tree, const char *name)
{
	struct sink *k;
	int err = open_sink(c, &k);

	if (err)
		return copy_cli_failed(&c->cli, err);
	/* A tree's own items lie below its name. */
	c->cli.opts.top = tree && *name ? name : NULL;
	err = copy_cli_run(&c->cli, f, k);
	k->ops->close(k);
	return err;
}

static int copy_host(struct cp *c, const char *path)
{
	scoped(freep) char *own = last_name(path);
	const char *name = c->name ? c->name : own;
	struct feed *f;
	struct stat st;
	int err;

	if (!own)
		return copy_cli_failed(&c->cli, fail(-ENOMEM, "no memory to copy"));
	if (c->cli.select.dereference ? stat(path, &st) : lstat(path, &st))
		return copy_cli_failed(&c->cli, fail(-errno, "%s: %s", path, strerror(errno)));
	err = feed_host(path, name, &c->cli.select, &f);
	if (err)
		return copy_cli_failed(&c->cli, err);
	err = run(c, f, S_ISDIR(st.st_mode), name);
	f->ops->close(f);
	return err;
}

static int copy_volume(struct cp *c, const char *operand)
{
	scoped(freep) char *own = NULL;
	struct inode *top = NULL;
	struct volume v;
	struct feed *f;
	const char *name;
	int err = volume_open(&c->tool, operand, &v);

	if (err)
		return copy_cli_failed(&c->cli, err);
	own = last_name(v.path);
	name = c->name ? c->name : own ? own : "";
	err = vfs_path(v.sb, NULL, v.path, false, &top);
	if (err)
		err = fail(err, "%s: %s", operand, strerror(-err));
	if (!err)
		err = feed_volume(top, name, &c->cli.select, &f);
	if (err) {
		copy_cli_failed(&c->cli, err);
	} else {
		err = run(c, f, is_dir(top), name);
		f->ops->close(f);
	}
	vfs_iput(top);
	volume_close(&v);
	return err;
}

/* ---- the command ---- */

static int options(struct cp *c, int argc, char **argv)
{
	static const struct option longs[] = {
		COPY_LONG,
		{ "archive", no_argument, NULL, 'a' },
		{ "dereference", no_argument, NULL, 'L' },
		{ "one-file-system", no_argument, NULL, 'x' },
		TOOL_LONG,
	};
	int opt, code = 0;

	while (!code && (opt = getopt_long(argc, argv, "aLxrRdq" TOOL_SHORT, longs, NULL)) != -1) {
		switch (opt) {
		case 'a':
			c->archive = true;
			break;
		case 'L':
			c->cli.select.dereference = true;
			break;
		case 'x':
			c->cli.select.one_file_system = true;
			break;
		case 'r':
		case 'R':
			break; /* it always goes into directories */
		default:
			if (!copy_cli_option(&c->cli, opt, &code))
				code = tool_option(&c->tool, opt, argv);
		}
	}
	return code;
}

static int copy_all(struct cp *c, char **src, u32 n)
{
	int err = 0, close_code = 0;
	char why[256];

	if (c->dst_is_volume)
		err = volume_open_rw(&c->tool, c->dst, &c->volume);
	if (c->dst_is_volume)
		select_dst(&c->cli.select, c->volume.src.fd);
	copy_cli_begin(&c->cli);
	if (!err) {
		err = find_dst(c, src, n);
		if (err) {
			snprintf(why, sizeof(why), "%s", *err_text() ? err_text() : strerror(-err));
			err = fail(err, "%s: %s", c->dst, why);
		}
	}
	if (err)
		copy_cli_failed(&c->cli, err);
	for (u32 i = 0; !err && i < n && !copy_cli_stopped(&c->cli); i++) {
		err = is_volume(src[i]) ? copy_volume(c, src[i]) : copy_host(c, src[i]);
		/* What one source lacks says nothing of the next. */
		if (err == -ENOENT)
			err = 0;
	}
	vfs_iput(c->dir);
	if (c->volume.sb)
		close_code = volume_close(&c->volume);
	return copy_cli_end(&c->cli, close_code);
}

int cmd_cp(int argc, char **argv)
{
	struct cp *c = calloc(1, sizeof(*c));
	bool volumes = false;
	u32 n;
	int code;

	if (!c)
		return cli_fail("no memory");
	tool_init(&c->tool);
	copy_cli_init(&c->cli);
	code = options(c, argc, argv);
	n = (u32)(argc - optind);
	if (!code && n < 2)
		code = cli_usage("%s", n ? "what to copy, and where to?" : "what shall be copied?");
	if (!code) {
		c->dst = argv[argc - 1];
		c->dst_is_volume = is_volume(c->dst);
		c->cli.json = c->tool.json;
		for (int i = optind; i < argc; i++)
			volumes |= is_volume(argv[i]);
		code = volumes ? copy_all(c, argv + optind, n - 1)
			       : cli_usage("neither side is IMAGE:/PATH: cp(1) copies on the host");
	}
	copy_cli_free(&c->cli);
	free(c->host_dir);
	free(c->name);
	free(c);
	return code;
}
