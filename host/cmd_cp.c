/*
 * werunos cp: files and trees between the host and volumes, or from one volume to another, without mounting. What an operand names is a
 * place in a volume when it has the form IMAGE:/PATH, IMAGE is there, and no file of the host is called like the whole.
 */
#include "cmd.h"
#include "edit.h"
#include "import/copy_cli.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_ONE_FILE_SYSTEM = COPY_OPT_END };

struct cp {
	struct tool_opts tool;
	struct copy_cli cli;
	bool archive;
	const char *dst;
	bool dst_is_volume;
	struct volume volume; /* of dst */
	char *into;           /* where to: a path of the volume or of the host */
	bool into_dir;        /* it is there, and a directory: copies go into it */
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

/* ---- where to ---- */

static int find_in_volume(struct cp *c)
{
	scoped(vfs_iputp) struct inode *there = NULL;
	scoped(vfs_iputp) struct inode *dir = NULL;
	struct super_block *sb = c->volume.sb;
	struct name last;
	int err = vfs_path(sb, NULL, c->volume.path, true, &there);

	c->into_dir = !err && is_dir(there);
	if (c->into_dir || (err && err != -ENOENT))
		return err;
	err = vfs_path_parent(sb, NULL, c->volume.path, &dir, &last);
	if (err)
		return err == -ENOENT ? fail(err, "there is no directory for it: werunos mkdir -p makes one")
				      : err;
	err_clear();
	return 0;
}

static int find_on_host(struct cp *c)
{
	scoped(freep) char *name = path_last(c->dst);
	struct stat st;

	c->into_dir = !stat(c->dst, &st) && S_ISDIR(st.st_mode);
	if (c->into_dir)
		return 0;
	return name && *name ? 0 : fail(-ENOENT, "there is no such directory");
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
		name[i] = err ? NULL : path_last(path);
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

	if (!err && !c->into_dir && sources > 1)
		err = fail(-ENOTDIR, "not a directory, which it must be for several sources");
	if (!err)
		err = check_names(src, sources);
	if (err)
		return err;
	c->into = strdup(c->dst_is_volume ? c->volume.path : c->dst);
	if (!c->into)
		return fail(-ENOMEM, "no memory to copy");
	/* What is to be made has no slash at its end. */
	for (size_t n = strlen(c->into); !c->into_dir && n > 1 && c->into[n - 1] == '/';)
		c->into[--n] = 0;
	return 0;
}

/* Where a source goes: into the directory, by its own name; what has none ("/", "..") goes there as a whole. To be freed. */
static char *target(const struct cp *c, const char *source)
{
	scoped(freep) char *own = path_last(source);
	char *path = NULL;

	if (own &&
	    (!c->into_dir ? asprintf(&path, "%s", c->into) : asprintf(&path, "%s/%s", c->into, own)) < 0)
		path = NULL;
	return path;
}

/* ---- one source ---- */

static int copy_host(struct cp *c, const char *source)
{
	scoped(freep) char *to = target(c, source);
	struct werunos_report r = { 0 };
	int err = to ? werunos_import_tree(c->volume.api, source, to, &c->cli.opts, &r)
		     : fail(-ENOMEM, "no memory to copy");

	return copy_cli_took(&c->cli, &r, err);
}

static int copy_volume(struct cp *c, const char *operand)
{
	scoped(freep) char *to = NULL;
	struct werunos_report r = { 0 };
	struct volume v;
	int err = volume_open(&c->tool, operand, &v);

	if (err)
		return copy_cli_failed(&c->cli, err);
	to = target(c, v.path);
	if (!to)
		err = fail(-ENOMEM, "no memory to copy");
	else if (c->dst_is_volume)
		err = werunos_copy(v.api, v.path, c->volume.api, to, &c->cli.opts, &r);
	else
		err = werunos_export_tree(v.api, v.path, to, &c->cli.opts, &r);
	copy_cli_took(&c->cli, &r, err);
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
			c->cli.opts.dereference = true;
			break;
		case 'x':
			c->cli.opts.one_file_system = true;
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

	c->cli.opts.drop = c->archive ? 0 : WERUNOS_DROP_ALL;
	c->cli.opts.umask = edit_cred().umask;
	/* Before the volume says that it is being written: from then on it is to be closed. */
	copy_cli_begin(&c->cli);
	if (c->dst_is_volume)
		err = volume_open_rw(&c->tool, c->dst, &c->volume);
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
	free(c->into);
	free(c);
	return code;
}
