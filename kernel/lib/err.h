/*
 * Where errors are born. A function that can fail returns 0 or -errno and gives results by its last
 * parameters. The first -errno comes out of one of two functions here; on its way up it is passed on
 * unchanged.
 *
 *   fail(-EIO, "read of %s at %llu", …)    the outside world: a device, the host, the user
 *   corrupt(health, "inode", 12, "…")      on-disk content that cannot be right: -EUCLEAN
 *
 * Both remember their sentence for the thread (err_text), so that a command can say what happened, and log
 * it at debug level; corrupt also records the volume's first error and flips its state word. corrupt takes no
 * lock that can be waited for long and acts on nothing: a worker that holds no lock applies the policy.
 */
#ifndef LIB_ERR_H
#define LIB_ERR_H

#include "lib/lock.h"
#include "lib/types.h"

enum health_state {
	HEALTH_OK,
	HEALTH_CORRUPT,  /* bad content was met; what is good is still served */
	HEALTH_ABORTED,  /* a write or commit failed: no more writes */
	HEALTH_SHUTDOWN, /* nothing is served any more */
};

/* A volume's name, state and first error. Embedded in the super block; handed down to device, cache and journal. */
struct health {
	char name[64];     /* [const] for messages; cut when longer */
	_Atomic u32 state; /* enum health_state, only ever rises */
	_Atomic u64 corrupt_count;
	struct mutex lock; /* rank LEAF */
	char first[256];   /* [lock] the first error's sentence, "" while there is none */
};

void health_init(struct health *h, const char *name);
void health_fini(struct health *h);
/* Raises the state; a lower one is ignored. */
void health_raise(struct health *h, enum health_state state);

static inline enum health_state health_state(const struct health *h)
{
	return (enum health_state)atomic_load_explicit(&h->state, memory_order_acquire);
}

/* Returns err (a negative errno) unchanged. */
int fail(int err, const char *fmt, ...) __printf_like(2, 3) __cold __must_check;
/* `what` and `nr` say where ("inode", 12). Returns -EUCLEAN. h may be NULL: a volume not yet mounted. */
int corrupt(struct health *h, const char *what, u64 nr, const char *fmt, ...)
	__printf_like(4, 5) __cold __must_check;
/* The sentence of the last error born on this thread, "" when there is none. */
const char *err_text(void);
void err_clear(void);
/* "ENOSPC" for -ENOSPC or ENOSPC; "E?" for what has no name. */
const char *err_name(int err);

#endif
