/* A set of numbers, none of which is 0, as a table with linear probing: at most three quarters full, closed up where one goes. */
#include "seen.h"

#include "lib/err.h"
#include "lib/hash.h"
#include <errno.h>
#include <stdlib.h>

#define CAP_MIN 64u

static u32 home_of(const struct seen *s, u64 ino)
{
	return (u32)hash_u64(ino) & (s->cap - 1);
}

/* Where it is, or would be. There is a free slot. */
static u32 slot_of(const struct seen *s, u64 ino)
{
	u32 k = home_of(s, ino);

	while (s->ino[k] && s->ino[k] != ino)
		k = (k + 1) & (s->cap - 1);
	return k;
}

bool seen_has(const struct seen *s, u64 ino)
{
	return s->cap && s->ino[slot_of(s, ino)];
}

static int grow(struct seen *s)
{
	struct seen big = { .count = s->count, .cap = s->cap ? s->cap * 2 : CAP_MIN };

	big.ino = big.cap ? calloc(big.cap, sizeof(*big.ino)) : NULL;
	if (!big.ino)
		return fail(-ENOMEM, "no memory for a list of %u directories", s->count);
	for (u32 k = 0; k < s->cap; k++)
		if (s->ino[k])
			big.ino[slot_of(&big, s->ino[k])] = s->ino[k];
	free(s->ino);
	*s = big;
	return 0;
}

int seen_add(struct seen *s, u64 ino)
{
	u32 k;

	if ((s->count + 1ull) * 4 > s->cap * 3ull) {
		int err = grow(s);

		if (err)
			return err;
	}
	k = slot_of(s, ino);
	if (s->ino[k])
		return -EEXIST;
	s->ino[k] = ino;
	s->count++;
	return 0;
}

void seen_del(struct seen *s, u64 ino)
{
	u32 hole = s->cap ? slot_of(s, ino) : 0;

	if (!s->cap || !s->ino[hole])
		return;
	s->count--;
	/* Those behind it that would not be found any more move up. */
	for (u32 k = (hole + 1) & (s->cap - 1); s->ino[k]; k = (k + 1) & (s->cap - 1)) {
		u32 from_home = (k - home_of(s, s->ino[k])) & (s->cap - 1);

		if (from_home < ((k - hole) & (s->cap - 1)))
			continue;
		s->ino[hole] = s->ino[k];
		hole = k;
	}
	s->ino[hole] = 0;
}

void seen_free(struct seen *s)
{
	free(s->ino);
	*s = (struct seen){ 0 };
}
