/* Who else uses a source: mounts of this machine and loop devices. See busy.c. or_else: what may be done instead of ending that, where both only reading would do. */
#ifndef HOST_BUSY_H
#define HOST_BUSY_H

#include "lib/types.h"
#include <sys/stat.h>

/* or_else: what ends a sentence about a use that only reads: another way than to end it, "" none. */
/* An image file. -EBUSY with a sentence when a loop device on it would see, or make, changes behind our back. */
int busy_image(const char *path, const struct stat *st, bool write, const char *or_else) __must_check;
/* The part [off, off + len) of a block device. -EBUSY when it is mounted, unless both only read. */
int busy_device(const char *path, dev_t rdev, u64 off_bytes, u64 len_bytes, bool write,
		const char *or_else) __must_check;

#endif
