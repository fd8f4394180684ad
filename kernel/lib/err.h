/*
 * Where errors are born. A function that can fail returns 0 or -errno and gives results by its last
 * parameters. The first -errno comes out of one of two functions here; on its way up it is passed on
 * unchanged.
 *
 *   fail(-EIO, "read of %s at %llu", …)    the outside world: a device, the host, the user
 *   corrupt(health, "inode", 12, "…")      on-disk content that cannot be right: -EUCLEAN
 *
 * Both remember their sentence for the thread (err_text), so that a command can say what happened, and log
 * it at debug level; corrupt also records the volume's first and last error, flips its state word and rings its bell. corrupt takes
 * no lock that can be waited for long and acts on nothing: who waits for the bell, holding no lock, does.
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

/* What corrupt was told, and which line told it. */
struct health_error {
	s64 time_sec; /* wall clock */
	char what[24];
	u64 nr;
	const char *file, *func; /* without directories; live as long as the program */
	u32 line;
};

/* A volume's name, state and errors. Embedded in the super block; handed down to device, cache and journal. */
struct health {
	char name[64];             /* [const] for messages; cut when longer */
	_Atomic u32 state;         /* enum health_state, only ever rises */
	_Atomic u64 corrupt_count; /* [lock to change] */
	_Atomic u32 bell;          /* changes with every error: for os_wait */
	struct mutex lock;         /* rank LEAF */
	char first[256];           /* [lock] the first error's sentence, "" while there is none */
	struct health_error first_error, last_error; /* [lock] void while there is none */
};

void health_init(struct health *h, const char *name);
void health_fini(struct health *h);
/* Raises the state; a lower one is ignored. */
void health_raise(struct health *h, enum health_state state);

/* Wakes who waits for the bell, also without an error. */
void health_ring(struct health *h);
/* How many errors there were so far; the first and the last of them, when there was one. */
u64 health_errors(struct health *h, struct health_error *first, struct health_error *latest);

static inline enum health_state health_state(const struct health *h)
{
	return (enum health_state)atomic_load_explicit(&h->state, memory_order_acquire);
}

/* Returns err (a negative errno) unchanged. */
int fail(int err, const char *fmt, ...) __printf_like(2, 3) __cold __must_check;
/* (struct health *h, const char *what, u64 nr, const char *fmt, ...) `what` and `nr` say where ("inode", 12). Returns -EUCLEAN. h may
 * be NULL: a volume not yet mounted. */
#define corrupt(...) corrupt_at(__FILE_NAME__, __func__, __LINE__, __VA_ARGS__)
int corrupt_at(const char *file, const char *func, u32 line, struct health *h, const char *what, u64 nr,
	       const char *fmt, ...) __printf_like(7, 8) __cold __must_check;
/* The sentence of the last error born on this thread, "" when there is none. */
const char *err_text(void);
void err_clear(void);
/* "ENOSPC" for -ENOSPC or ENOSPC; "E?" for what has no name. */
const char *err_name(int err);

#endif
