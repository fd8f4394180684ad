/* The one user of xxHash for in-memory tables. */
#include "lib/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

u64 hash_bytes(const void *p, size_t len_bytes, u64 seed)
{
	return XXH3_64bits_withSeed(p, len_bytes, seed);
}
