/* Hashes for in-memory tables only; nothing on disk depends on them. */
#ifndef LIB_HASH_H
#define LIB_HASH_H

#include "lib/types.h"

static inline u64 hash_u64(u64 x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* [const] Nobody outside this process knows it. */
extern u64 hash_key;

/* Of a number that an image may have chosen, and cannot aim at one place of a table so. */
static inline u64 hash_number(u64 x)
{
	return hash_u64(x ^ hash_key);
}

/* Keyed by `seed`, so that names chosen by an image cannot aim at one chain. */
u64 hash_bytes(const void *p, size_t len_bytes, u64 seed);

#endif
