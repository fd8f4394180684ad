/* Threads that do blocking I/O: where there is no ring, and for what a ring cannot do. One pool for the process. */
#ifndef BLOCK_IO_POOL_H
#define BLOCK_IO_POOL_H

#include "block/block.h"

/* Counted; the pool exists while somebody holds it. */
int io_pool_get(void) __must_check;
void io_pool_put(void);

/* The bio's transfers (xfer.h) are carried out by the pool. */
void io_pool_queue(struct bio *bio);
/* The same for a foreground bio, which waits until its submitter waits: a lone one is then done by the submitter
 * itself, of several the pool takes what it gets to first. */
void io_pool_defer(struct bio *bio);
/* The submitter's part of that. False: nothing is left that it could do. */
bool io_pool_help(struct io_batch *batch) __must_check;

#endif
