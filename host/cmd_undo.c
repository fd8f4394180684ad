/* werunos undo: a volume as it was before werunos fsck mended it. */
#include "cmd.h"
#include "undo.h"

#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct undoing {
	struct undo_plan plan;
	const char *file;
	bool force;
};

/* The devices of the file, or those that were named instead: the first of them opened with the others as its further ones. */
static int open_devices(const struct undoing *u, char **operand, u32 count, struct source *out)
{
	struct source_opts so = { .write = true, .must_write = true };
	int err;

	if (count && count != u->plan.devices)
		return fail(-EINVAL, "%s is about %u devices, %u were named", u->file, u->plan.devices,
			    count);
	err = source_open(count ? operand[0] : u->plan.name[0], &so, out);
	for (u32 i = 1; i < u->plan.devices && !err; i++)
		err = source_add(out, count ? operand[i] : u->plan.name[i]);
	return err;
}

static int right_sizes(const struct undoing *u, struct blkdev **devs, const struct source *src)
{
	for (u32 i = 0; i < u->plan.devices; i++)
		if (devs[i]->size_bytes != u->plan.size_bytes[i])
			return fail(-EINVAL, "%s has not the size of what %s is about: it is another one",
				    i ? src->more[i - 1].name : src->name, u->file);
	return 0;
}

static int put_back(const struct undoing *u, const struct source *src)
{
	struct blkdev *devs[UNDO_DEVICES_MAX];
	u64 changed = 0;
	int err;

	devs[0] = src->dev;
	for (u32 i = 1; i < u->plan.devices; i++)
		devs[i] = src->more[i - 1].dev;
	err = right_sizes(u, devs, src);
	if (!err && u->plan.finished && !u->force)
		err = undo_changed(&u->plan, devs, &changed);
	if (!err && changed)
		err = fail(-ESTALE,
			   "%s: %llu of %llu blocks are not as fsck left them: it was written to since, or "
			   "is another one "
			   "(--force puts back all the same)",
			   src->name, (unsigned long long)changed, (unsigned long long)u->plan.units);
	if (!err && !u->plan.finished)
		fprintf(stderr,
			"werunos undo: %s: the mending was broken off; what it had written is undone\n",
			u->file);
	return err ? err : undo_apply(&u->plan, devs);
}

static int run(struct undoing *u, char **operand, u32 count)
{
	struct source src = { .fd = -1 };
	int err = undo_read(u->file, &u->plan);

	if (err)
		return err;
	err = open_devices(u, operand, count, &src);
	if (!err)
		err = put_back(u, &src);
	if (!err)
		printf("%s: %llu blocks put back\n", src.name, (unsigned long long)u->plan.units);
	source_close(&src);
	undo_forget(&u->plan);
	return err;
}

int cmd_undo(int argc, char **argv)
{
	static const struct option options[] = { { "force", no_argument, NULL, 'f' }, { NULL, 0, NULL, 0 } };
	struct undoing u = { .plan.fd = -1 };
	int opt, err;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		if (opt == '?')
			return cli_usage("%s: not an option", argv[optind - 1]);
		u.force = true;
	}
	if (optind == argc)
		return cli_usage("%s",
				 "an undo file is wanted, and perhaps the image or device that it is about");
	u.file = argv[optind];
	err = run(&u, argv + optind + 1, (u32)(argc - optind - 1));
	return err ? cli_error(err, u.file) : 0;
}
