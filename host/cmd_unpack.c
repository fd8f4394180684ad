/*
 * werunos unpack: tar archives, or the layers of a container image, into a volume. Nothing of an image is written before all its layers
 * were compared with their digests.
 */
#include "cmd.h"
#include "import/copy_cli.h"
#include "lib/scope.h"
#include "tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_OCI = COPY_OPT_END, OPT_PLATFORM, OPT_LAYERS };

struct unpack {
	struct tool_opts tool;
	struct copy_cli cli;
	const char *oci, *platform;
	bool layers;
	char **archive;
	u32 archives;
	struct werunos_image *image; /* NULL: archives */
	struct volume volume;
};

/* ---- what to unpack ---- */

/* Of all archives together; 0: of one it is not known. */
static u64 size_of_all(const struct unpack *u)
{
	u64 sum = 0;
	struct stat st;

	for (u32 i = 0; i < u->archives; i++) {
		if (!strcmp(u->archive[i], "-") || stat(u->archive[i], &st) || !S_ISREG(st.st_mode))
			return 0;
		sum += (u64)st.st_size;
	}
	return sum;
}

static void describe(struct unpack *u)
{
	struct doc *d = copy_cli_doc(&u->cli);

	if (!u->image || !d)
		return;
	doc_str(d, "manifest", werunos_image_name(u->image));
	doc_str(d, "platform", werunos_image_platform(u->image));
	doc_u64(d, "layers", werunos_image_layers(u->image));
}

/* ---- one after the other ---- */

static int unpack_one(struct unpack *u, const char *archive)
{
	struct werunos_report r = { 0 };
	int err;

	if (u->image)
		err = werunos_import_image(u->volume.api, u->image, u->volume.path, &u->cli.opts, &r);
	else
		err = werunos_import_tar(u->volume.api, archive, u->layers, u->volume.path, &u->cli.opts, &r);
	return copy_cli_took(&u->cli, &r, err);
}

static int unpack_all(struct unpack *u, const char *operand)
{
	int err = u->oci ? werunos_image_open(u->oci, u->platform, NULL, &u->image) : 0, code = 0;
	u32 n = u->image ? 1 : u->archives;

	/* Before the volume says that it is being written: from then on it is to be closed. */
	if (!err)
		copy_cli_begin(&u->cli);
	if (!err)
		err = volume_open_rw(&u->tool, operand, &u->volume);
	if (err)
		return cli_error(err, operand);
	u->cli.position_all = u->image ? 0 : size_of_all(u);
	describe(u);
	for (u32 i = 0; !err && i < n; i++)
		err = unpack_one(u, u->image ? NULL : u->archive[i]);
	code = volume_close(&u->volume);
	return copy_cli_end(&u->cli, code);
}

/* ---- the command ---- */

static int options(struct unpack *u, int argc, char **argv)
{
	static const struct option longs[] = {
		COPY_LONG,
		{ "oci", required_argument, NULL, OPT_OCI },
		{ "platform", required_argument, NULL, OPT_PLATFORM },
		{ "layers", no_argument, NULL, OPT_LAYERS },
		TOOL_LONG,
	};
	int opt, code = 0;

	while (!code && (opt = getopt_long(argc, argv, TOOL_SHORT, longs, NULL)) != -1) {
		switch (opt) {
		case OPT_OCI:
			u->oci = optarg;
			break;
		case OPT_PLATFORM:
			u->platform = optarg;
			break;
		case OPT_LAYERS:
			u->layers = true;
			break;
		default:
			if (!copy_cli_option(&u->cli, opt, &code))
				code = tool_option(&u->tool, opt, argv);
		}
	}
	if (!code && optind == argc)
		code = cli_usage("an image or device is wanted");
	u->archive = argv + optind + 1;
	u->archives = (u32)MAX(argc - optind - 1, 0);
	if (!code && !u->oci == !u->archives)
		code = cli_usage("%s", u->oci ? "archives, or --oci, not both" : "what shall be unpacked?");
	if (!code && u->platform && !u->oci)
		code = cli_usage("--platform chooses among the images of --oci");
	return code;
}

int cmd_unpack(int argc, char **argv)
{
	struct unpack *u = calloc(1, sizeof(*u));
	int code;

	if (!u)
		return cli_fail("no memory");
	tool_init(&u->tool);
	copy_cli_init(&u->cli);
	code = options(u, argc, argv);
	u->cli.json = u->tool.json;
	if (!code)
		code = unpack_all(u, argv[optind]);
	werunos_image_close(u->image);
	copy_cli_free(&u->cli);
	free(u);
	return code;
}
