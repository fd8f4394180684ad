/* io_uring: each thread's own ring for its foreground bios, and one shared ring for the background. */
#ifndef BLOCK_URING_H
#define BLOCK_URING_H

#include "block/block.h"

/* Counted; the shared ring and its reaper end with the last holder. */
void uring_get(void);
void uring_put(void);

/* The bio's transfers (xfer.h) go through the calling thread's ring, from the next uring_reap on. False: this
 * thread has no ring and cannot have one. */
bool uring_queue(struct bio *bio) __must_check;
/* The same through the shared ring, at once. */
bool uring_queue_background(struct bio *bio) __must_check;
/* Tells the kernel what this thread has queued, waits for at least one completion and handles what has come. False:
 * this thread has nothing under way. */
bool uring_reap(void) __must_check;

#endif
