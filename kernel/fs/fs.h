/* The table of file system types. Only fs.c names the modules. */
#ifndef FS_H
#define FS_H

#include "vfs/vfs.h"

/* All types, NULL-terminated. */
const struct fs_type *const *fs_types(void);
/* By name ("ext4"); NULL when there is none. */
const struct fs_type *fs_find(const char *name);
/* The type whose probe scores highest on the device. -ENODEV when nobody recognises it. */
int fs_probe(struct blkdev *dev, const struct fs_type **out, struct fs_probe *info) __must_check;

#endif
