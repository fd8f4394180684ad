/* werunos export: a volume, or a part of it, to a tar archive or a directory of the host. */
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

static int export_all(struct export *e, const char *operand)
{
	scoped(freep) char *dir = NULL;
	struct werunos_report r = { 0 };
	int err = volume_open(&e->tool, operand, &e->volume), code;

	if (err)
		return cli_error(err, operand);
	copy_cli_begin(&e->cli);
	e->cli.opts.follow = true;
	if (!e->to_dir) {
		err = werunos_export_tar(e->volume.api, e->volume.path, e->out, &e->cli.opts, &r);
	} else {
		/* Only root may give files away. */
		e->cli.opts.drop = geteuid() ? WERUNOS_DROP_OWNER : 0;
		err = asprintf(&dir, "%s/", e->out) < 0
			      ? fail(-ENOMEM, "no memory to copy")
			      : werunos_export_tree(e->volume.api, e->volume.path, dir, &e->cli.opts, &r);
	}
	copy_cli_took(&e->cli, &r, err);
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
