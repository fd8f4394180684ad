/*
 * Unpacking extents, and the cache of those that were unpacked last. A reader who wants a whole extent has it unpacked to where
 * he wants it; one who wants a part has it unpacked into a slot of the cache, so that those who read the rest in small
 * pieces do not unpack it again.
 *
 *     empty ── btrfs_unpacked_get ──► FILLING (its getter's) ── filled ──► READY ── slot needed, nobody uses it ──► empty
 *                                        └── filled with an error ──► empty
 *
 * Who reads here and there needs each extent once: where unpacking can stop (LZO's segments), a slot gets its extent's first bytes up to
 * those that are wanted, and the rest when somebody wants more of it. READY, with too few bytes and nobody using it, is FILLING again.
 *
 * Invariants
 *  1. A slot's key changes only while nobody uses it; its bytes only while it is FILLING, by its getter.
 *  2. Who waits for a slot fills none: it is asked for first, before anything else is held (`wait`).
 *  3. At most SLOTS extents of BTRFS_COMPRESS_MAX are held.
 *  4. What unpacking needs is lent to one thread at a time.
 */
#include "btrfs.h"

#include "lib/os.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 64u
#define TOOLS 16u
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
	u64 used_at;                 /* [lock] */
	u8 *buf; /* BTRFS_COMPRESS_MAX; [its getter while FILLING], then const while there are users */
};

struct btrfs_unpacked {
	struct mutex lock; /* rank LRU */
	struct cond filled;
	u64 clock; /* [lock] */
	struct btrfs_slot slot[SLOTS];
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

int btrfs_unpacked_new(struct btrfs_unpacked **out)
{
	struct btrfs_unpacked *u = calloc(1, sizeof(*u));

	if (!u)
		return fail(-ENOMEM, "no memory for the cache of unpacked data");
	mutex_init(&u->lock, RANK_LRU);
	cond_init(&u->filled);
	*out = u;
	return 0;
}

void btrfs_unpacked_free(struct btrfs_unpacked *u)
{
	if (!u)
		return;
	for (u32 i = 0; i < SLOTS; i++)
		free(u->slot[i].buf);
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

/* Locks: lock. The slot that has or will have the extent, else the one that was idle for longest; NULL: all are in use. */
static struct btrfs_slot *slot_find(struct btrfs_unpacked *u, const struct btrfs_compressed *what)
{
	struct btrfs_slot *idle = NULL;

	for (u32 i = 0; i < SLOTS; i++) {
		struct btrfs_slot *s = &u->slot[i];

		if (s->state != SLOT_EMPTY && same(&s->key, what))
			return s;
		if (!s->users && (!idle || s->used_at < idle->used_at))
			idle = s;
	}
	return idle;
}

enum btrfs_unpacked_verdict btrfs_unpacked_get(struct btrfs_unpacked *u, const struct btrfs_compressed *what,
					       u32 *want_bytes, bool fill, bool wait, struct btrfs_slot **out)
{
	struct btrfs_slot *s;
	bool known;

	*out = NULL;
	mutex_guard(&u->lock);
	while ((s = slot_find(u, what)) && s->state == SLOT_FILLING) {
		if (!wait)
			return BTRFS_UNPACKED_BUSY;
		cond_wait(&u->filled, &u->lock);
	}
	known = s && s->state == SLOT_READY && same(&s->key, what);
	if (known && s->have_bytes >= *want_bytes) {
		stat_add(STAT_UNPACKED_HITS, 1);
	} else {
		if (s && fill && !s->buf)
			s->buf = os_alloc_aligned(4096, BTRFS_COMPRESS_MAX);
		if (!s || s->users || !fill || !s->buf)
			return BTRFS_UNPACKED_NONE;
		if (known)
			*want_bytes = what->ram_bytes;
		s->key = *what;
		s->state = SLOT_FILLING;
	}
	s->used_at = ++u->clock;
	s->users++;
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
	s->state = err ? SLOT_EMPTY : SLOT_READY;
	s->have_bytes = have_bytes;
	cond_broadcast(&u->filled);
}

void btrfs_unpacked_put(struct btrfs_unpacked *u, struct btrfs_slot *s)
{
	mutex_guard(&u->lock);
	s->users--;
}
