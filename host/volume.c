/*
 * From a source to the volume that lies there. Interface: volume.h.
 *
 * Which devices a volume consists of only its module knows, and only as far as it can read it. So the first device's probe says whether to look
 * for others of the same volume; and where the module then says that a device is missing (a seed, which is a volume of its own), that one is
 * looked for and the module asked again.
 */
#include "volume.h"

#include "beside.h"
#include "fs.h"
#include "newvol.h"
#include "probe.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MAX    8 /* a seed may have a seed */
#define COPIES_TRIED 2 /* that are named by a number of their own: btrfs's */

/* The type that can read the superblock copy that was named. */
static const struct fs_type *type_by_copy(const struct source *s, const struct mount_opts *opts)
{
	const struct fs_type *found = NULL;
	struct blkdev *dev = s->dev;

	for (const struct fs_type *const *t = fs_types(); !found && *t; t++) {
		struct doc *d = (*t)->info ? doc_new() : NULL;

		if (d && !(*t)->info(&dev, 1, opts, d))
			found = *t;
		doc_free(d);
	}
	return found;
}

/* Nothing begins there: perhaps something did once, of which a copy is left. */
static int nothing(const struct source *s)
{
	struct mount_opts opts = { .rdonly = true, .has_sb = true };

	for (opts.sb_block = 1; opts.sb_block <= COPIES_TRIED; opts.sb_block++) {
		const struct fs_type *type = type_by_copy(s, &opts);

		if (type)
			return fail(-ENODEV,
				    "%s holds no file system that is known, but copy %llu of a superblock of "
				    "%s: --sb "
				    "%llu shows what is left",
				    s->name, (unsigned long long)opts.sb_block, type->name,
				    (unsigned long long)opts.sb_block);
	}
	return fail(-ENODEV, "%s holds no file system that is known", s->name);
}

/* Nobody of ours knows it: says what it is instead. */
static int foreign(const struct source *s)
{
	struct volume_id v = { .type = "" };
	struct ptable t = { .type = "" };
	struct text have = { 0 };
	char buf[128];
	int err;

	if (s->fd < 0)
		return fail(-ENODEV, "%s holds no file system", s->name);
	err = probe_volume(s->fd, s->off_bytes, s->len_bytes, &v);
	if (!err && !v.type[0] && !s->off_bytes)
		err = probe_ptable(s->fd, s->len_bytes, 0, &t);
	ptable_numbers(&t, &have);
	if (err)
		;
	else if (v.type[0])
		err = fail(-ENODEV, "%s holds %s; werunos reads ext2, ext3, ext4 and btrfs", s->name,
			   volume_says(&v, buf, sizeof(buf)));
	else if (t.type[0] && have.len_bytes)
		err = fail(-ENODEV, "%s is a disk with partitions: choose one with -p (it has %s)", s->name,
			   text_str(&have));
	else
		err = nothing(s);
	text_free(&have);
	ptable_free(&t);
	return err;
}

int source_probe(struct source *s, const struct mount_opts *opts, const struct fs_type **out)
{
	struct fs_probe info;
	u32 found;
	int err;

	if (s->fs) {
		*out = fs_find(s->fs);
		return *out ? 0 : fail(-ENODEV, "there is no file system %s", s->fs);
	}
	/* Copies of its superblock may be there already. */
	if (!opts->has_sb && newvol_is_unfinished(s->dev))
		return fail(
			-ENODEV,
			"%s is an unfinished image: what was making it (werunos mkfs --from) was broken off; "
			"make it anew",
			s->name);
	err = fs_probe(s->dev, out, &info);
	if (err == -ENODEV && opts->has_sb) {
		*out = type_by_copy(s, opts);
		if (*out)
			return 0;
	}
	if (err)
		return err == -ENODEV ? foreign(s) : err;
	if (info.devices < 2 || s->named || s->more_count)
		return 0;
	return beside_open(s, *out, &info, NULL, &found);
}

static int run_once(const struct source *s, const struct fs_type *type, const struct mount_opts *opts,
		    const struct source_run *r)
{
	struct blkdev **devs = calloc(s->more_count + 1ul, sizeof(*devs));
	int err;

	if (!devs)
		return fail(-ENOMEM, "no memory for devices");
	devs[0] = s->dev;
	for (u32 i = 0; i < s->more_count; i++)
		devs[1 + i] = s->more[i].dev;
	err = r->run(r->ctx, type, devs, 1 + s->more_count, opts);
	free(devs);
	return err;
}

/* What is missing, opened. The error of the run that missed it stays the one that is spoken of. */
static int find_missing(struct source *s, const struct fs_type *type, const struct fs_missing *missing,
			u32 *found)
{
	char why[512];
	struct fs_probe info = { 0 };
	int err;

	*found = 0;
	if (!missing->count || s->named || !type->probe)
		return 0;
	snprintf(why, sizeof(why), "%s", err_text());
	err = type->probe(s->dev, &info);
	if (!err)
		err = beside_open(s, type, &info, missing, found);
	if (!err && !*found && why[0])
		(void)!fail(-ENXIO, "%s", why);
	return err;
}

int source_run(struct source *s, const struct fs_type *type, const struct mount_opts *opts,
	       const struct source_run *r)
{
	for (u32 again = 0;; again++) {
		struct fs_missing missing = { 0 };
		struct mount_opts mo = *opts;
		u32 found;
		int err, find_err;

		mo.missing = &missing;
		mo.journal = s->journal ? s->journal->dev : NULL;
		err = run_once(s, type, &mo, r);
		find_err = again < AGAIN_MAX ? find_missing(s, type, &missing, &found) : 0;
		if (again == AGAIN_MAX || (!find_err && !found))
			return err;
		if (!err)
			r->undo(r->ctx);
		if (find_err)
			return find_err;
	}
}

static int mount_run(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		     const struct mount_opts *opts)
{
	return type->mount(devs, n, opts, ctx);
}

static void mount_undo(void *ctx)
{
	struct super_block **sb = ctx;

	(void)!vfs_unmount(*sb);
	*sb = NULL;
}

int source_mount(struct source *s, const struct mount_opts *opts, struct super_block **out)
{
	const struct source_run r = { mount_run, mount_undo, out };
	const struct fs_type *type;
	int err = source_probe(s, opts, &type);

	return err ? err : source_run(s, type, opts, &r);
}
