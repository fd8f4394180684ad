/* The other devices of a volume, beside its first: see beside.c. */
#ifndef HOST_BESIDE_H
#define HOST_BESIDE_H

#include "open.h"

/*
 * Opens what belongs to the volume: devices with this uuid of a volume, or (wanted not NULL) these devices, whatever volume they say. *found: how
 * many. -EEXIST: two of them are copies of each other, and one must be named.
 */
int beside_open(struct source *s, const struct fs_type *type, const struct fs_probe *first,
		const struct fs_missing *wanted, u32 *found) __must_check;

#endif
