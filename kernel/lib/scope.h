/*
 * Release at scope exit. `scoped(bh_putp) struct buffer_head *bh = NULL;` calls bh_putp(&bh) when bh leaves
 * scope; `take(bh)` hands the value over and leaves NULL behind. A function uses these or goto, never both.
 */
#ifndef LIB_SCOPE_H
#define LIB_SCOPE_H

#include <stdlib.h>

#define scoped(release) __attribute__((cleanup(release)))

#define take(ptr)                           \
	({                                  \
		__auto_type _taken = (ptr); \
		(ptr) = NULL;               \
		_taken;                     \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}

#endif
