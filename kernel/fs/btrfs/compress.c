/*
 * Unpacking extents, and the cache of those that were unpacked last. A reader who wants a whole extent has it unpacked to where
 * he wants it; one who wants a part has it unpacked into a slot of the cache, so that those who read the rest in small
 * pieces do not unpack it again.
 *
 *     EMPTY ── btrfs_unpacked_get ──► FILLING (its getter's) ── filled ──► READY ── slot needed, nobody uses it ──► EMPTY
 *                                        └── filled with an error ──► EMPTY
 *
 * Who reads here and there needs each extent once: where unpacking can stop (LZO's segments), a slot gets its extent's first bytes up to
 * those that are wanted, and the rest when somebody wants more of it. READY, with too few bytes and nobody using it, is FILLING again.
 *
 * Invariants
 *  1. A slot's key changes only while nobody uses it; its bytes only while it is FILLING, by its getter.
 *  2. Who waits for a slot fills none: it is asked for first, before anything else is held (`wait`).
 *  3. There are SLOTS_LEAST slots of BTRFS_COMPRESS_MAX at most, and more as far as the volume's buffer cache leaves its memory unused: they count as
 *     bytes of it, three quarters of its limit at most. When it is full, no slot is added, and each fill frees one, down to a quarter.
 *  4. What unpacking needs is lent to one thread at a time.
 */
#include "btrfs.h"

#include "lib/os.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_LEAST 64u
#define BUCKETS     1024u /* a power of two */
#define TOOLS       16u
/* A longer scratch is not kept. */
#define SCRATCH_KEPT (1u << 20)

/* What is of use from one extent to the next. */
struct btrfs_tools {
	void *zlib, *zstd; /* the libraries' */
	u8 *scratch;
	u32 scratch_bytes;
};

enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_READY };

struct btrfs_slot {
	struct btrfs_compressed key; /* [lock] */
	enum slot_state state;       /* [lock] */
	u32 users;                   /* [lock] */
	u32 have_bytes;              /* [lock] READY: the first of the extent */
	struct btrfs_slot *next;     /* [lock] of its bucket, unless EMPTY */
	struct list idle;            /* [lock] in btrfs_unpacked.idle while nobody uses it */
	u8 *buf; /* BTRFS_COMPRESS_MAX; [its getter while FILLING], then const while there are users */
};

struct btrfs_unpacked {
	struct bcache *cache; /* [const] NULL: SLOTS_LEAST is all */
	struct mutex lock;    /* rank LRU */
	struct cond filled;
	struct btrfs_slot *bucket[BUCKETS]; /* [lock] */
	struct list idle;                   /* [lock] longest idle first */
	u32 slots;                          /* [lock] */
	_Atomic(struct btrfs_tools *) spare[TOOLS];
};

/* ---- unpacking ---- */

static void tools_free(struct btrfs_tools *t)
{
	if (!t)
		return;
	btrfs_zlib_free(t->zlib);
	btrfs_zstd_free(t->zstd);
	free(t->scratch);
	free(t);
}

struct btrfs_tools *btrfs_tools_get(struct btrfs_unpacked *u)
{
	struct btrfs_tools *t = NULL;

	for (u32 i = 0; i < TOOLS && !t; i++)
		if (atomic_load(&u->spare[i]))
			t = atomic_exchange(&u->spare[i], NULL);
	return t ? t : calloc(1, sizeof(*t));
}

void btrfs_tools_put(struct btrfs_unpacked *u, struct btrfs_tools *t)
{
	bool keep = t && t->scratch_bytes <= SCRATCH_KEPT;

	for (u32 i = 0; i < TOOLS && keep; i++) {
		struct btrfs_tools *none = NULL;

		if (atomic_compare_exchange_strong(&u->spare[i], &none, t))
			return;
	}
	tools_free(t);
}

u8 *btrfs_tools_scratch(struct btrfs_tools *t, u32 bytes)
{
	if (bytes > t->scratch_bytes) {
		free(t->scratch);
		t->scratch = os_alloc_aligned(4096, bytes);
		t->scratch_bytes = t->scratch ? bytes : 0;
	}
	return t->scratch;
}

int btrfs_unpack(struct btrfs_tools *t, const struct btrfs_compressed *what, u32 sector_bytes,
		 const void *src, void *dst, u32 want_bytes, u32 *have_bytes)
{
	u32 room = what->ram_bytes, done = 0;
	int err = -EIO;

	switch (what->compression) {
	case BTRFS_COMPRESS_ZLIB:
		err = btrfs_zlib_unpack(&t->zlib, src, what->disk_bytes, dst, room, &done);
		break;
	case BTRFS_COMPRESS_LZO:
		room = MIN(ALIGN_UP(want_bytes, sector_bytes), room);
		err = btrfs_lzo_unpack(sector_bytes, src, what->disk_bytes, dst, room, &done);
		break;
	case BTRFS_COMPRESS_ZSTD:
		err = btrfs_zstd_unpack(&t->zstd, src, what->disk_bytes, dst, room, &done);
		break;
	}
	if (err)
		return err;
	stat_add(STAT_UNPACKED, 1);
	/* Behind what a regular extent holds are zeros (linux/btrfs.h, unencoded_len); an inline one holds all. */
	if (done < room && !what->bytenr)
		return fail(-EIO, "compressed data hold %u bytes, not %u", done, what->ram_bytes);
	memset((u8 *)dst + done, 0, room - done);
	*have_bytes = room;
	return 0;
}

/* ---- the cache ---- */

int btrfs_unpacked_new(struct bcache *cache, struct btrfs_unpacked **out)
{
	struct btrfs_unpacked *u = calloc(1, sizeof(*u));

	if (!u)
		return fail(-ENOMEM, "no memory for the cache of unpacked data");
	u->cache = cache;
	mutex_init(&u->lock, RANK_LRU);
	cond_init(&u->filled);
	list_init(&u->idle);
	*out = u;
	return 0;
}

static struct btrfs_slot **bucket_of(struct btrfs_unpacked *u, const struct btrfs_compressed *what)
{
	return &u->bucket[what->bytenr / 4096 % BUCKETS];
}

/* Locks: lock. It has no extent any more. */
static void slot_empty(struct btrfs_unpacked *u, struct btrfs_slot *s)
{
	struct btrfs_slot **at = bucket_of(u, &s->key);

	if (s->state == SLOT_EMPTY)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->state = SLOT_EMPTY;
}

/* Locks: lock. Of a slot that nobody uses, and that is not in the list. */
static void slot_free(struct btrfs_unpacked *u, struct btrfs_slot *s)
{
	slot_empty(u, s);
	if (--u->slots >= SLOTS_LEAST)
		bcache_charge(u->cache, -(s64)BTRFS_COMPRESS_MAX);
	free(s->buf);
	free(s);
}

void btrfs_unpacked_free(struct btrfs_unpacked *u)
{
	if (!u)
		return;
	for (struct list *l; (l = list_pop(&u->idle));)
		slot_free(u, list_entry(l, struct btrfs_slot, idle));
	for (u32 i = 0; i < TOOLS; i++)
		tools_free(u->spare[i]);
	cond_fini(&u->filled);
	mutex_fini(&u->lock);
	free(u);
}

static bool same(const struct btrfs_compressed *a, const struct btrfs_compressed *b)
{
	return a->bytenr == b->bytenr && a->disk_bytes == b->disk_bytes && a->ram_bytes == b->ram_bytes &&
	       a->compression == b->compression && a->checked == b->checked;
}

/* Locks: lock. The slot that has or will have the extent; NULL: none. */
static struct btrfs_slot *slot_find(struct btrfs_unpacked *u, const struct btrfs_compressed *what)
{
	struct btrfs_slot *s = *bucket_of(u, what);

	while (s && !same(&s->key, what))
		s = s->next;
	return s;
}

/* Locks: lock. One more slot may be had. */
static bool may_grow(const struct btrfs_unpacked *u)
{
	u64 limit = u->cache ? bcache_limit_bytes(u->cache) : 0;

	if (u->slots < SLOTS_LEAST)
		return true;
	return u->cache && (u->slots + 1ull) * BTRFS_COMPRESS_MAX <= limit / 4 * 3 &&
	       bcache_bytes(u->cache) + BTRFS_COMPRESS_MAX <= limit;
}

/* Locks: lock. The cache is full, and has a right to some of it. */
static bool must_shrink(const struct btrfs_unpacked *u)
{
	u64 limit = u->cache ? bcache_limit_bytes(u->cache) : 0;

	return u->slots > SLOTS_LEAST && u->slots * (u64)BTRFS_COMPRESS_MAX > limit / 4 &&
	       bcache_bytes(u->cache) + BTRFS_COMPRESS_MAX > limit;
}

/* Locks: lock. */
static struct btrfs_slot *slot_new(struct btrfs_unpacked *u)
{
	struct btrfs_slot *s = calloc(1, sizeof(*s));

	if (s)
		s->buf = os_alloc_aligned(4096, BTRFS_COMPRESS_MAX);
	if (!s || !s->buf) {
		free(s);
		return NULL;
	}
	list_init(&s->idle);
	if (u->slots++ >= SLOTS_LEAST)
		bcache_charge(u->cache, BTRFS_COMPRESS_MAX);
	return s;
}

/* Locks: lock. An empty slot, in no list; NULL: all are in use. */
static struct btrfs_slot *slot_take(struct btrfs_unpacked *u)
{
	struct btrfs_slot *s = may_grow(u) ? slot_new(u) : NULL;
	struct list *l;

	if (s)
		return s;
	if (must_shrink(u) && (l = list_pop(&u->idle)))
		slot_free(u, list_entry(l, struct btrfs_slot, idle));
	l = list_pop(&u->idle);
	if (!l)
		return NULL;
	s = list_entry(l, struct btrfs_slot, idle);
	slot_empty(u, s);
	return s;
}

enum btrfs_unpacked_verdict btrfs_unpacked_get(struct btrfs_unpacked *u, const struct btrfs_compressed *what,
					       u32 *want_bytes, bool fill, bool wait, struct btrfs_slot **out)
{
	struct btrfs_slot *s;

	*out = NULL;
	mutex_guard(&u->lock);
	while ((s = slot_find(u, what)) && s->state == SLOT_FILLING) {
		if (!wait)
			return BTRFS_UNPACKED_BUSY;
		cond_wait(&u->filled, &u->lock);
	}
	if (s && s->have_bytes >= *want_bytes) {
		stat_add(STAT_UNPACKED_HITS, 1);
	} else if (!fill || (s && s->users)) {
		return BTRFS_UNPACKED_NONE;
	} else if (s) {
		*want_bytes = what->ram_bytes;
		s->state = SLOT_FILLING;
	} else {
		s = slot_take(u);
		if (!s)
			return BTRFS_UNPACKED_NONE;
		s->key = *what;
		s->state = SLOT_FILLING;
		s->next = *bucket_of(u, what);
		*bucket_of(u, what) = s;
	}
	if (!s->users++)
		list_del(&s->idle);
	*out = s;
	return s->state == SLOT_READY ? BTRFS_UNPACKED_READY : BTRFS_UNPACKED_FILL;
}

u8 *btrfs_unpacked_bytes(struct btrfs_slot *s)
{
	return s->buf;
}

void btrfs_unpacked_filled(struct btrfs_unpacked *u, struct btrfs_slot *s, u32 have_bytes, int err)
{
	mutex_guard(&u->lock);
	if (err)
		slot_empty(u, s);
	else
		s->state = SLOT_READY;
	s->have_bytes = have_bytes;
	cond_broadcast(&u->filled);
}

void btrfs_unpacked_put(struct btrfs_unpacked *u, struct btrfs_slot *s)
{
	mutex_guard(&u->lock);
	if (--s->users)
		return;
	if (s->state == SLOT_EMPTY)
		list_add(&u->idle, &s->idle);
	else
		list_add_tail(&u->idle, &s->idle);
}
