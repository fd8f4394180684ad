/* werunos info, dump: what the modules' printers say of a superblock and of single objects. */
#include "cmd.h"

#include "tool.h"
#include <errno.h>

static const struct option long_options[] = { TOOL_LONG };

/* Options, then at least `operands` of them; returns the index of the first, or minus the exit code. */
static int parse(int argc, char **argv, struct tool_opts *o, int operands_min, int operands_max)
{
	int opt, code;

	tool_init(o);
	while ((opt = getopt_long(argc, argv, "+" TOOL_SHORT, long_options, NULL)) != -1) {
		code = tool_option(o, opt, argv);
		if (code)
			return -code;
	}
	if (argc - optind < operands_min || argc - optind > operands_max)
		return -cli_usage("%s", "an image or device is wanted");
	return optind;
}

/* A command that shows what a printer of the module's says. */
struct printing {
	const char *source;
	u32 words; /* dump's */
	const char *const *word;
	struct doc *d; /* after a run that went well */
};

static void drop(void *ctx)
{
	struct printing *p = ctx;

	doc_free(p->d);
	p->d = NULL;
}

static int run_info(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		    const struct mount_opts *opts)
{
	struct printing *p = ctx;
	int err;

	if (!type->info)
		return fail(-EOPNOTSUPP, "%s has nothing to say of itself", type->name);
	p->d = doc_new();
	if (!p->d)
		return fail(-ENOMEM, "no memory for the output");
	doc_str(p->d, "source", p->source);
	doc_str(p->d, "type", type->name);
	doc_u64(p->d, "device_bytes", devs[0]->size_bytes);
	err = type->info(devs, n, opts, p->d);
	if (err)
		drop(p);
	return err;
}

static int run_dump(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		    const struct mount_opts *opts)
{
	struct printing *p = ctx;
	int err;

	if (!type->dump)
		return fail(-EOPNOTSUPP, "%s has nothing to show", type->name);
	p->d = doc_new();
	if (!p->d)
		return fail(-ENOMEM, "no memory for the output");
	err = type->dump(devs, n, opts, p->words, p->word, p->d);
	if (err)
		drop(p);
	return err;
}

static int print(const struct tool_opts *o, char **operand, u32 count,
		 int (*run)(void *, const struct fs_type *, struct blkdev **, u32, const struct mount_opts *))
{
	struct printing p = { .words = count - 1, .word = (const char *const *)operand + 1 };
	const struct source_run r = { run, drop, &p };
	const struct fs_type *type;
	struct volume v;
	int err = volume_source(o, operand[0], false, &v);

	if (err)
		return cli_error(err, operand[0]);
	p.source = v.src.name;
	err = source_probe(&v.src, &o->mount, &type);
	if (!err)
		err = source_run(&v.src, type, &o->mount, &r);
	if (!err)
		err = put_doc(p.d, o->json);
	doc_free(p.d);
	volume_close(&v);
	return err ? cli_error(err, operand[0]) : 0;
}

int cmd_info(int argc, char **argv)
{
	struct tool_opts o;
	int first = parse(argc, argv, &o, 1, 1);

	return first < 0 ? -first : print(&o, argv + first, 1, run_info);
}

int cmd_dump(int argc, char **argv)
{
	struct tool_opts o;
	int first = parse(argc, argv, &o, 1, 16);

	return first < 0 ? -first : print(&o, argv + first, (u32)(argc - first), run_dump);
}
