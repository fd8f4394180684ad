/* The one user of xxHash for in-memory tables, and the key of those of numbers. */
#include "lib/hash.h"

#include "lib/os.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

u64 hash_key;

/* Before main, so that no table is there without it. */
__attribute__((constructor)) static void choose_key(void)
{
	os_random(&hash_key, sizeof(hash_key));
}

u64 hash_bytes(const void *p, size_t len_bytes, u64 seed)
{
	return XXH3_64bits_withSeed(p, len_bytes, seed);
}
