/* Mending a volume: rounds on an overlay, and what they changed written to the devices in an order that a crash does not spoil. */
#ifndef HOST_MEND_H
#define HOST_MEND_H

#include "vfs/vfs.h"

struct mending {
	/* `mend` says what is mended, `found` is told what is left, once, at the end. */
	const struct check_opts *check;
	bool dry_run;            /* nothing is written */
	const char *undo_file;   /* what is overwritten goes there before; NULL: nowhere */
	const char *const *name; /* of the devices, for the undo file */
	/* Results: */
	u64 mended;
	struct check_summary before,
		after; /* as found at first, and at the end; with before.skipped there was no more */
};

/*
 * Nobody else uses the devices, and they can be written unless m->dry_run. 0: whatever could be mended and was agreed to is, durably. An error
 * before anything was written leaves the volume as it was; after that it says that it has to be checked, and mending it again goes on.
 */
int mend_volume(struct mending *m, const struct fs_type *type, struct blkdev **devs, u32 n,
		const struct mount_opts *mount) __must_check;

#endif
