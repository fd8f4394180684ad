/*
 * werunos export: a volume, or a part of it, to a tar archive or a directory of the host. An archive that was not completed is taken
 * away again: it would look like one.
 */
#include "cmd.h"
#include "import/copy_cli.h"
#include "lib/scope.h"
#include "tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPT_OPTIONS = COPY_OPT_END };

struct export
{
	struct tool_opts tool;
	struct copy_cli cli;
	const char *out;
	bool to_dir;
	struct volume volume;
};

static bool ends_in(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n > m && !strcmp(s + n - m, with);
}

/* What OUT is: "-", an archive by its name, a directory that is there. */
static int judge_out(struct export *e)
{
	static const char *const endings[] = { ".tar",  ".tar.gz", ".tgz", ".tar.zst",
					       ".tzst", ".tar.xz", ".txz" };
	struct stat st;
	bool tar = !strcmp(e->out, "-");

	e->to_dir = !tar && !stat(e->out, &st) && S_ISDIR(st.st_mode);
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		tar |= ends_in(e->out, endings[i]);
	if (!tar && !e->to_dir)
		return cli_usage(
			"%s: no directory, and no name of an archive (.tar, .tar.gz, .tar.zst, .tar.xz)",
			e->out);
	e->cli.stdout_taken = !strcmp(e->out, "-");
	if (e->cli.stdout_taken && isatty(STDOUT_FILENO))
		return cli_usage("an archive is nothing for a terminal: -o OUT.tar, or a pipe");
	return 0;
}

static int open_sink(struct export *e, struct sink **out)
{
	/* Only root may give files away. */
	u32 keep = geteuid() ? KEEP_ALL & ~KEEP_OWNER : KEEP_ALL;

	return e->to_dir ? sink_host(e->out, keep, out) : sink_tar(e->out, out);
}

/* What a path without a directory is called by. */
static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Not what is no file: /dev/null, a pipe. */
static void take_away(const char *out)
{
	struct stat st;

	if (!lstat(out, &st) && S_ISREG(st.st_mode))
		unlink(out);
}

static int run(struct export *e, struct inode *top)
{
	struct feed *f;
	struct sink *k;
	int err = feed_volume(top, last_name(e->volume.path), &e->cli.select, &f);

	if (err)
		return copy_cli_failed(&e->cli, err);
	err = open_sink(e, &k);
	if (err) {
		copy_cli_failed(&e->cli, err);
	} else {
		err = copy_cli_run(&e->cli, f, k);
		k->ops->close(k);
		if (err && !e->to_dir && !e->cli.stdout_taken)
			take_away(e->out);
	}
	f->ops->close(f);
	return err;
}

static int export_all(struct export *e, const char *operand)
{
	struct inode *top = NULL;
	int err = volume_open(&e->tool, operand, &e->volume), code;

	if (err)
		return cli_error(err, operand);
	copy_cli_begin(&e->cli);
	err = vfs_path(e->volume.sb, NULL, e->volume.path, true, &top);
	if (err)
		copy_cli_failed(&e->cli, fail(err, "%s: %s", operand, strerror(-err)));
	else
		err = run(e, top);
	vfs_iput(top);
	code = volume_close(&e->volume);
	return copy_cli_end(&e->cli, code);
}

static int options(struct export *e, int argc, char **argv)
{
	/* -o is where to; what other commands call so has its long name. */
	static const struct option longs[] = {
		COPY_LONG,
		{ "output", required_argument, NULL, 'o' },
		{ "options", required_argument, NULL, OPT_OPTIONS },
		TOOL_LONG,
	};
	int opt, code = 0;

	e->out = "-";
	while (!code && (opt = getopt_long(argc, argv, TOOL_SHORT, longs, NULL)) != -1) {
		if (opt == 'o')
			e->out = optarg;
		else if (!copy_cli_option(&e->cli, opt, &code))
			code = tool_option(&e->tool, opt == OPT_OPTIONS ? 'o' : opt, argv);
	}
	if (!code && optind + 1 != argc)
		code = cli_usage("one image or device is wanted");
	return code ? code : judge_out(e);
}

int cmd_export(int argc, char **argv)
{
	struct export *e = calloc(1, sizeof(*e));
	int code;

	if (!e)
		return cli_fail("no memory");
	tool_init(&e->tool);
	copy_cli_init(&e->cli);
	code = options(e, argc, argv);
	e->cli.json = e->tool.json;
	if (!code)
		code = export_all(e, argv[optind]);
	copy_cli_free(&e->cli);
	free(e);
	return code;
}
