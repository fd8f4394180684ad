/* werunos info, dump: what the modules' printers say of a superblock and of single objects. */
#include "cmd.h"

#include "fs.h"
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

int cmd_info(int argc, char **argv)
{
	const struct fs_type *type;
	struct tool_opts o;
	struct volume v;
	struct doc *d;
	int first = parse(argc, argv, &o, 1, 1), err;

	if (first < 0)
		return -first;
	err = volume_source(&o, argv[first], &v);
	if (err)
		return cli_error(err, argv[first]);
	d = doc_new();
	err = d ? source_probe(&v.src, &o.mount, &type) : fail(-ENOMEM, "no memory for the output");
	if (!err && !type->info)
		err = fail(-EOPNOTSUPP, "%s has nothing to say of itself", type->name);
	if (!err) {
		doc_str(d, "source", v.src.name);
		doc_str(d, "type", type->name);
		doc_u64(d, "device_bytes", v.src.dev->size_bytes);
		err = type->info(&v.src.dev, 1, &o.mount, d);
	}
	if (!err)
		err = put_doc(d, o.json);
	doc_free(d);
	volume_close(&v);
	return err ? cli_error(err, argv[first]) : 0;
}

int cmd_dump(int argc, char **argv)
{
	const struct fs_type *type;
	struct tool_opts o;
	struct volume v;
	struct doc *d;
	int first = parse(argc, argv, &o, 1, 16), err;

	if (first < 0)
		return -first;
	err = volume_source(&o, argv[first], &v);
	if (err)
		return cli_error(err, argv[first]);
	d = doc_new();
	err = d ? source_probe(&v.src, &o.mount, &type) : fail(-ENOMEM, "no memory for the output");
	if (!err && !type->dump)
		err = fail(-EOPNOTSUPP, "%s has nothing to show", type->name);
	if (!err)
		err = type->dump(&v.src.dev, 1, &o.mount, (u32)(argc - first - 1),
				 (const char *const *)argv + first + 1, d);
	if (!err)
		err = put_doc(d, o.json);
	doc_free(d);
	volume_close(&v);
	return err ? cli_error(err, argv[first]) : 0;
}
