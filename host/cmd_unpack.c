/*
 * werunos unpack: tar archives, or the layers of a container image, into a volume. Nothing of an image is written before all its layers
 * were compared with their digests.
 */
#include "cmd.h"
#include "import/copy_cli.h"
#include "import/oci.h"
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
	struct oci_image *image; /* NULL: archives */
	struct volume volume;
	struct inode *top;
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

static int open_image(struct unpack *u)
{
	int err = oci_open(u->oci, u->platform, &u->image);

	for (u32 i = 0; !err && i < u->image->layers; i++)
		err = oci_verify(&u->image->layer[i], NULL);
	return err;
}

/* ---- where to ---- */

static int find_top(struct unpack *u)
{
	int err = vfs_path(u->volume.sb, NULL, u->volume.path, true, &u->top);

	if (!err && !is_dir(u->top))
		err = -ENOTDIR;
	return err ? fail(err, "%s: %s", u->volume.path, strerror(-err)) : 0;
}

/* ---- one after the other ---- */

static int unpack_one(struct unpack *u, const char *archive)
{
	bool layers = u->layers || u->image;
	/* Of directories that no archive lists. */
	struct cred cred = { u->cli.opts.has_owner ? u->cli.opts.uid : 0,
			     u->cli.opts.has_owner ? u->cli.opts.gid : 0, 022 };
	struct feed *f;
	struct sink *k;
	int err = feed_tar(archive, layers, &u->cli.select, &f);

	if (err)
		return copy_cli_failed(&u->cli, err);
	err = sink_volume(u->top, KEEP_ALL | (layers ? SINK_LAYER : 0), &cred, &k);
	if (err) {
		copy_cli_failed(&u->cli, err);
	} else {
		err = copy_cli_run(&u->cli, f, k);
		k->ops->close(k);
	}
	f->ops->close(f);
	return err;
}

static void describe(struct unpack *u)
{
	struct doc *d = copy_cli_doc(&u->cli);

	if (!u->image || !d)
		return;
	doc_str(d, "manifest", u->image->name);
	doc_str(d, "platform", u->image->platform);
	doc_u64(d, "layers", u->image->layers);
}

static int unpack_all(struct unpack *u, const char *operand)
{
	int err = u->oci ? open_image(u) : 0, code = 0;
	u32 n = u->image ? u->image->layers : u->archives;

	if (!err)
		err = volume_open_rw(&u->tool, operand, &u->volume);
	if (err)
		return cli_error(err, operand);
	u->cli.position_all = u->image ? u->image->bytes : size_of_all(u);
	copy_cli_begin(&u->cli);
	describe(u);
	err = find_top(u);
	if (err)
		copy_cli_failed(&u->cli, err);
	for (u32 i = 0; !err && i < n; i++)
		err = unpack_one(u, u->image ? u->image->layer[i].path : u->archive[i]);
	vfs_iput(u->top);
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
	oci_close(u->image);
	copy_cli_free(&u->cli);
	free(u);
	return code;
}
