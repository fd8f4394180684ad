/* A device's content, in a file. */
#ifndef SUPPORT_COPY_OUT_H
#define SUPPORT_COPY_OUT_H

#include "block/block.h"

/* Writes all of dev to the file `path`. 0, or not. */
int copy_out(struct blkdev *dev, const char *path);

#endif
