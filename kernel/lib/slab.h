/*
 * Objects of one size, cut from large chunks: what a volume has tens of thousands of (inodes, buffers and their blocks). malloc hands out fresh
 * memory a page at a time, and the first touch of each page is a fault: on a virtual machine whose host takes back what is free, these faults
 * cost more than reading the objects. Chunks double in size up to the size of a huge page, and are then huge pages where the host has them.
 *
 * Memory that was put back is for the next objects of the slab. When none is left, all of it goes back to the host.
 */
#ifndef LIB_SLAB_H
#define LIB_SLAB_H

#include "lib/lock.h"

struct slab {
	struct mutex lock; /* rank LEAF */
	u32 obj_bytes;     /* [const] */
	u64 used;          /* [lock] objects */
	void *free;        /* [lock] chained through their first word */
	u8 *fresh, *end;   /* [lock] of the last chunk: nobody had it yet */
	void **chunk;      /* [lock] */
	u32 chunks, room;  /* [lock] */
};

/* For objects of a type, process-wide. */
#define SLAB_OF(type)                                                          \
	{                                                                      \
		.lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_LEAF }, \
		.obj_bytes = ALIGN_UP((u32)sizeof(type), 64u)                  \
	}

/* obj_bytes: 64 or a multiple. Objects whose size is a power of two lie at multiples of it, up to 4096. */
void slab_init(struct slab *s, u32 obj_bytes);
/* All objects were put back, or nobody has them any more. */
void slab_fini(struct slab *s);
/* Not cleared. NULL: no memory. */
void *slab_get(struct slab *s);
void *slab_get_zeroed(struct slab *s);
void slab_put(struct slab *s, void *obj);

#endif
