/* What the files of this layer tell each other about requests, beyond block.h. */
#ifndef BLOCK_STACK_H
#define BLOCK_STACK_H

#include "block/block.h"

/* In bio->flags: made by a device; only its parent is counted, and its done is always told. */
#define BIO_CHILD 0x80u

#endif
