/* A set of directories' numbers: a damaged volume may have one in two places, or in itself. */
#ifndef HOST_SEEN_H
#define HOST_SEEN_H

#include "lib/types.h"

/* Zeroed: empty. */
struct seen {
	u64 *ino; /* 0: an empty slot */
	u32 count, cap;
};

bool seen_has(const struct seen *s, u64 ino);
/* 0: it is new; -EEXIST; -ENOMEM. */
int seen_add(struct seen *s, u64 ino) __must_check;
void seen_del(struct seen *s, u64 ino);
void seen_free(struct seen *s);

#endif
