/* The table of file system types: the only place that names the modules. A new module is one line here. */
#include "fs.h"

#include <errno.h>
#include <string.h>

/* All that a module shows of itself. */
extern const struct fs_type ext4_fs_type;
extern const struct fs_type memfs_fs_type;

static const struct fs_type *const types[] = {
	&ext4_fs_type,
	&memfs_fs_type,
	NULL,
};

const struct fs_type *const *fs_types(void)
{
	return types;
}

const struct fs_type *fs_find(const char *name)
{
	for (const struct fs_type *const *t = types; *t; t++)
		if (!strcmp((*t)->name, name))
			return *t;
	return NULL;
}

int fs_probe(struct blkdev *dev, const struct fs_type **out, struct fs_probe *info)
{
	const struct fs_type *best = NULL;

	for (const struct fs_type *const *t = types; *t; t++) {
		struct fs_probe p = { 0 };
		int err;

		if (!(*t)->probe)
			continue;
		err = (*t)->probe(dev, &p);
		if (err)
			return err;
		if (p.score > (best ? info->score : 0)) {
			best = *t;
			*info = p;
		}
	}
	if (!best)
		return fail(-ENODEV, "%s holds no file system that is supported", dev->name);
	*out = best;
	return 0;
}
