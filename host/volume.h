/* From a source to the volume that lies there: its type, its other devices, its mount. See volume.c. */
#ifndef HOST_VOLUME_H
#define HOST_VOLUME_H

#include "open.h"

/*
 * The type that lies there; with opts->has_sb the first superblock may be gone. Where the volume has other devices, and none was
 * named, they are looked for and opened. -ENODEV with a sentence that names what lies there instead.
 */
int source_probe(struct source *s, const struct mount_opts *opts, const struct fs_type **out) __must_check;
/*
 * What a module does with all devices of a volume, once more each time when it says that some are missing (opts->missing) and they are
 * found. undo: of a run that went well.
 */
struct source_run {
	int (*run)(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		   const struct mount_opts *opts);
	void (*undo)(void *ctx);
	void *ctx;
};
int source_run(struct source *s, const struct fs_type *type, const struct mount_opts *opts,
	       const struct source_run *r) __must_check;
int source_mount(struct source *s, const struct mount_opts *opts, struct super_block **out) __must_check;

#endif
