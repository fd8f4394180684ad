/* Memory in units, made when first written: what dev_mem and dev_snap keep their bytes in. */
#ifndef BLOCK_SPARSE_H
#define BLOCK_SPARSE_H

#include "lib/types.h"

struct sparse_leaf;

struct sparse {
	u32 unit_bytes; /* [const] a power of two */
	u64 leaves;     /* [const] */
	_Atomic(struct sparse_leaf *)
		*leaf;     /* leaf and unit pointers only go from NULL to set, but in sparse_drop */
	_Atomic u64 units; /* held */
};

int sparse_init(struct sparse *s, u32 unit_bytes, u64 size_bytes) __must_check;
void sparse_fini(struct sparse *s);
/* The unit's memory, NULL when it was never made. Safe beside sparse_make. */
void *sparse_get(struct sparse *s, u64 unit);
/* The same, made when absent: zeroed, or a copy of `from` (unit_bytes). NULL: no memory. Two makers at once get one unit,
 * with the content of one of them. */
void *sparse_make(struct sparse *s, u64 unit, const void *from);
/* The first unit at or after this one that was made, ~0: none. */
u64 sparse_next(struct sparse *s, u64 unit);
/* Gives back a unit. Nobody else may be looking. */
void sparse_drop(struct sparse *s, u64 unit);

#endif
