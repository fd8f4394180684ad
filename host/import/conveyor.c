/* See conveyor.h. All of it is under one lock, which is held for moments; data are written and read outside it. */
#include "conveyor.h"

#include "lib/lock.h"
#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 2048u
/* Who found the belt empty, or full, sleeps until so many items more are there, or taken. */
#define ENOUGH_SLOTS 64u
#define ENOUGH_BYTES (1u << 20)
/* Chunks of this length are kept for the next; shorter ones are made to measure. */
#define CHUNK_BYTES (1u << 20)
#define SMALL_BYTES (64u << 10)

struct chunk {
	struct chunk *next;
	u64 off_bytes;
	u32 len_bytes, room_bytes;
	u8 *data;
};

struct belt_slot {
	struct item *item;
	u64 item_bytes; /* its memory */
	struct chunk *first, *last, *taken;
	bool filled;  /* no chunk follows */
	bool dropped; /* the consumer is through with it */
	int err;
	char *why;
};

struct conveyor {
	struct mutex lock;      /* rank LEAF: everything below */
	struct cond room, work; /* for producers; for the consumer */
	u64 put, take;          /* slots so far */
	u64 filled;             /* of those that lie there: how many need no more data */
	u64 bytes, limit_bytes; /* of data and items */
	u64 since_bytes;        /* put since the consumer went to sleep */
	u32 producers_waiting;
	bool consumer_waiting, closed, ended;
	struct chunk *spare;
	u64 spare_bytes; /* beside `bytes`, and within the limit with them */
	struct belt_slot slot[SLOTS];
};

/* ---- chunks ---- */

static void chunk_free(struct chunk *k)
{
	if (k)
		free(k->data);
	free(k);
}

/* Locks: lock. */
static void chunk_release(struct conveyor *c, struct chunk *k)
{
	c->bytes -= k->room_bytes;
	if (k->room_bytes == CHUNK_BYTES) {
		k->next = c->spare;
		c->spare = k;
		c->spare_bytes += CHUNK_BYTES;
	} else {
		chunk_free(k);
	}
}

/* Locks: lock. The caller checks that there is one. */
static struct chunk *spare_take(struct conveyor *c)
{
	struct chunk *k = c->spare;

	c->spare = k->next;
	c->spare_bytes -= CHUNK_BYTES;
	return k;
}

/* Locks: lock. What is in use now is more: what is kept for later makes room for it. */
static void add_bytes(struct conveyor *c, u64 bytes)
{
	c->bytes += bytes;
	while (c->spare && c->bytes + c->spare_bytes > c->limit_bytes)
		chunk_free(spare_take(c));
}

static struct chunk *chunk_new(u32 room)
{
	struct chunk *k = calloc(1, sizeof(*k));

	if (k)
		k->data = os_alloc_aligned(4096, room);
	if (k && !k->data) {
		free(k);
		k = NULL;
	}
	if (k)
		k->room_bytes = room;
	return k;
}

/* ---- making and ending ---- */

int conveyor_new(u64 memory_bytes, struct conveyor **out)
{
	struct conveyor *c = calloc(1, sizeof(*c));

	if (!c)
		return fail(-ENOMEM, "no memory to copy");
	mutex_init(&c->lock, RANK_LEAF);
	cond_init(&c->room);
	cond_init(&c->work);
	c->limit_bytes = MAX(memory_bytes, (u64)4 * CHUNK_BYTES);
	*out = c;
	return 0;
}

static void slot_clear(struct conveyor *c, struct belt_slot *s)
{
	for (struct chunk *k = s->first, *next; k; k = next) {
		next = k->next;
		chunk_release(c, k);
	}
	if (s->taken)
		chunk_release(c, s->taken);
	c->bytes -= s->item_bytes;
	item_free(s->item);
	free(s->why);
	*s = (struct belt_slot){ 0 };
}

void conveyor_free(struct conveyor *c)
{
	if (!c)
		return;
	for (u32 i = 0; i < SLOTS; i++)
		slot_clear(c, &c->slot[i]);
	while (c->spare)
		chunk_free(spare_take(c));
	cond_fini(&c->room);
	cond_fini(&c->work);
	mutex_fini(&c->lock);
	free(c);
}

void conveyor_end(struct conveyor *c)
{
	mutex_guard(&c->lock);
	c->ended = true;
	cond_broadcast(&c->room);
	cond_broadcast(&c->work);
}

/* ---- producers ---- */

static struct belt_slot *slot_at(struct conveyor *c, u64 at)
{
	return &c->slot[at % SLOTS];
}

/* Locks: lock. The consumer finds something to do. */
static bool head_ready(struct conveyor *c)
{
	const struct belt_slot *s = slot_at(c, c->take);

	return c->put == c->take ? c->closed : s->first || s->filled;
}

/* Locks: lock. There is enough to do, or nobody will bring more before it is done. */
static void tell_consumer(struct conveyor *c)
{
	bool enough = c->filled >= ENOUGH_SLOTS || c->since_bytes >= ENOUGH_BYTES || c->producers_waiting;

	if (c->consumer_waiting && head_ready(c) && (enough || c->closed)) {
		c->consumer_waiting = false;
		cond_signal(&c->work);
	}
}

/* Locks: lock. */
static void producer_waits(struct conveyor *c)
{
	c->producers_waiting++;
	tell_consumer(c);
	cond_wait(&c->room, &c->lock);
	c->producers_waiting--;
}

struct belt_slot *conveyor_put(struct conveyor *c, struct item *it, bool more)
{
	u64 bytes = item_bytes(it);
	struct belt_slot *s;

	mutex_guard(&c->lock);
	s = slot_at(c, c->put);
	while (!c->ended && (c->put - c->take == SLOTS || s->item ||
			     (c->put != c->take && c->bytes + bytes > c->limit_bytes)))
		producer_waits(c);
	if (c->ended) {
		item_free(it);
		return NULL;
	}
	c->put++;
	add_bytes(c, bytes);
	*s = (struct belt_slot){ .item = it, .item_bytes = bytes, .filled = !more };
	c->filled += !more;
	tell_consumer(c);
	return s;
}

void conveyor_close(struct conveyor *c)
{
	mutex_guard(&c->lock);
	c->closed = true;
	tell_consumer(c);
}

/* Locks: lock. The consumer waits for this one: what lies behind it may not starve it. */
static bool may_exceed(struct conveyor *c, const struct belt_slot *s)
{
	return s == slot_at(c, c->take) && !s->first;
}

static u8 *belt_room(struct outlet *o, u64 want_bytes, u64 *room_bytes)
{
	struct belt_outlet *bo = container_of(o, struct belt_outlet, outlet);
	u32 room = want_bytes <= SMALL_BYTES ? ALIGN_UP((u32)MAX(want_bytes, 1ull), 4096u) : CHUNK_BYTES;
	struct conveyor *c = bo->c;

	if (!bo->chunk) {
		mutex_guard(&c->lock);
		while (!c->ended && !bo->slot->dropped && c->bytes + room > c->limit_bytes &&
		       !may_exceed(c, bo->slot))
			producer_waits(c);
		if (c->ended || bo->slot->dropped)
			return NULL;
		if (room == CHUNK_BYTES && c->spare)
			bo->chunk = spare_take(c);
		add_bytes(c, room);
	}
	if (!bo->chunk)
		bo->chunk = chunk_new(room);
	if (!bo->chunk) {
		mutex_guard(&c->lock);
		c->bytes -= room;
		bo->no_memory = true;
		return NULL;
	}
	*room_bytes = MIN(want_bytes, (u64)bo->chunk->room_bytes);
	return bo->chunk->data;
}

static int belt_put(struct outlet *o, u64 off_bytes, u64 len_bytes)
{
	struct belt_outlet *bo = container_of(o, struct belt_outlet, outlet);
	struct belt_slot *s = bo->slot;
	struct conveyor *c = bo->c;
	struct chunk *k = bo->chunk;

	k->next = NULL;
	k->off_bytes = off_bytes;
	k->len_bytes = (u32)len_bytes;
	bo->chunk = NULL;
	mutex_guard(&c->lock);
	if (c->ended || s->dropped) {
		chunk_release(c, k);
		return -ECANCELED;
	}
	if (s->last)
		s->last->next = k;
	else
		s->first = k;
	s->last = k;
	c->since_bytes += len_bytes;
	tell_consumer(c);
	return 0;
}

void conveyor_outlet(struct conveyor *c, struct belt_slot *slot, struct belt_outlet *out)
{
	*out = (struct belt_outlet){ .outlet = { belt_room, belt_put }, .c = c, .slot = slot };
}

void conveyor_filled(struct conveyor *c, struct belt_outlet *o, int err)
{
	struct belt_slot *s = o->slot;

	if (err && o->no_memory)
		err = fail(-ENOMEM, "no memory to copy");
	mutex_guard(&c->lock);
	if (o->chunk)
		chunk_release(c, o->chunk);
	s->err = err;
	s->why = err ? strdup(err_text()) : NULL;
	s->filled = true;
	if (s->dropped) { /* the consumer did not wait for it */
		slot_clear(c, s);
		cond_broadcast(&c->room);
		return;
	}
	c->filled++;
	tell_consumer(c);
}

/* ---- the consumer ---- */

/* Locks: lock. Sleeps until there is enough to do. */
static void consumer_waits(struct conveyor *c)
{
	c->consumer_waiting = true;
	c->since_bytes = 0;
	tell_consumer(c);
	while (c->consumer_waiting && !c->ended)
		cond_wait(&c->work, &c->lock);
	c->consumer_waiting = false;
}

/* Locks: lock. Wakes producers when they find enough room, or when the consumer waits for one of them. */
static void tell_producers(struct conveyor *c)
{
	bool room =
		c->put - c->take <= SLOTS - ENOUGH_SLOTS && c->bytes <= c->limit_bytes - c->limit_bytes / 4;

	if (c->producers_waiting && (room || !head_ready(c)))
		cond_broadcast(&c->room);
}

struct belt_slot *conveyor_take(struct conveyor *c)
{
	mutex_guard(&c->lock);
	while (!c->ended && c->put == c->take && !c->closed)
		consumer_waits(c);
	return c->ended || c->put == c->take ? NULL : slot_at(c, c->take);
}

struct item *conveyor_item(struct belt_slot *slot)
{
	return slot->item;
}

bool conveyor_data(struct conveyor *c, struct belt_slot *s, u64 *off_bytes, u8 **buf, u64 *len_bytes,
		   int *err, const char **why)
{
	mutex_guard(&c->lock);
	if (s->taken) {
		chunk_release(c, take(s->taken));
		tell_producers(c);
	}
	while (!c->ended && !s->first && !s->filled)
		consumer_waits(c);
	*err = c->ended ? -ECANCELED : s->err;
	*why = s->why ? s->why : "";
	if (c->ended || !s->first)
		return false;
	s->taken = s->first;
	s->first = s->first->next;
	if (!s->first)
		s->last = NULL;
	*off_bytes = s->taken->off_bytes;
	*buf = s->taken->data;
	*len_bytes = s->taken->len_bytes;
	return true;
}

void conveyor_drop(struct conveyor *c, struct belt_slot *s)
{
	mutex_guard(&c->lock);
	c->take++;
	if (s->filled) {
		c->filled--;
		slot_clear(c, s);
	} else {
		s->dropped = true;
	}
	tell_producers(c);
}
