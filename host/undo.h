/*
 * Undo files: what lay where a mending wrote, so that it can be put back.
 *
 * A header, then records, appended: each the old content of some units of one device. It is on the disk before the first of these units is
 * written to. When all is done a trailer follows, with a checksum of what was written to each unit: so it is seen later whether the
 * volume is still as the mending left it. All integers are little-endian, and everything has a CRC-32C.
 */
#ifndef HOST_UNDO_H
#define HOST_UNDO_H

#include "vfs/vfs.h"

#define UNDO_DEVICES_MAX 256u

struct undo;

/* Makes the file anew: -EEXIST when there is one. name[i]: the absolute path of devs[i], with #pN perhaps. */
int undo_create(const char *file, const char *const *name, struct blkdev **devs, u32 n,
		struct undo **out) __must_check;
/* Records, durably, what lies on the devices where the overlays have something, as far as it was not recorded before. */
int undo_save(struct undo *u, struct blkdev **snap, struct blkdev **devs, u32 n) __must_check;
/* The same for a range of devs[device], which is going to be written to. Whoever calls, and when. After it failed once it always does. */
int undo_keep(struct undo *u, struct blkdev *dev, u32 device, u64 off_bytes, u64 len_bytes) __must_check;
/* devs[device]; each write to it waits until what it meets is recorded. Released before the undo is closed. */
int undo_dev_new(struct undo *u, struct blkdev *lower, u32 device, struct blkdev **out) __must_check;
/* Nothing will be written any more: the trailer. */
int undo_finish(struct undo *u, struct blkdev **devs) __must_check;
void undo_close(struct undo *u); /* NULL is ignored */

/* What a file holds, all of it checked. Ended by undo_forget. */
struct undo_plan {
	u32 devices;
	char *name[UNDO_DEVICES_MAX];
	u64 size_bytes[UNDO_DEVICES_MAX];
	u64 units;
	bool finished; /* the mending came to its end */
	struct undo_unit *unit;
	int fd;
};
int undo_read(const char *file, struct undo_plan *out) __must_check;
/* How many units are neither as the mending left them nor as they were before it. Only of a finished one. */
int undo_changed(const struct undo_plan *p, struct blkdev **devs, u64 *units) __must_check;
/* Puts back all units, durably. Broken off, it can be done again. */
int undo_apply(const struct undo_plan *p, struct blkdev **devs) __must_check;
void undo_forget(struct undo_plan *p);

#endif
