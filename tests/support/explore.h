/* What every fuzz target and the tests of hostile volumes do with a volume. */
#ifndef TEST_EXPLORE_H
#define TEST_EXPLORE_H

#include "block/block.h"

/* 0, or why the volume could not be mounted or walked to the end. dumps: run the printers too. */
int explore(struct blkdev *dev, bool dumps);

#endif
