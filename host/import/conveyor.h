/*
 * The belt between those who read a feed and the one who fills a sink in the feed's order.
 *
 *   producers: conveyor_put (in order) ─► fill through conveyor_outlet ─► conveyor_filled
 *   consumer:  conveyor_take ─► conveyor_data … ─► conveyor_drop
 *
 * Many items lie on it, with the first of their data. Data are bounded in bytes; the item that the consumer waits for may always
 * go on, so that what lies behind it cannot starve it. Who waits is not woken for each item but when there is enough
 * to do again: waking costs more than a small file.
 */
#ifndef IMPORT_CONVEYOR_H
#define IMPORT_CONVEYOR_H

#include "import.h"

struct conveyor;
struct belt_slot;

int conveyor_new(u64 memory_bytes, struct conveyor **out) __must_check;
/* Nobody uses it any more. NULL is ignored. */
void conveyor_free(struct conveyor *c);

/* Lays an item on the belt, which owns it then; waits for room. more: conveyor_filled will follow, perhaps data before. One caller at a time. NULL: ended. */
struct belt_slot *conveyor_put(struct conveyor *c, struct item *it, bool more) __must_check;
/* No item follows. */
void conveyor_close(struct conveyor *c);

struct belt_outlet {
	struct outlet outlet;
	struct conveyor *c;
	struct belt_slot *slot;
	struct chunk *chunk;
	bool no_memory; /* that is why there was no room */
};
/* Where the data of an item on the belt are put, by one thread. */
void conveyor_outlet(struct conveyor *c, struct belt_slot *slot, struct belt_outlet *out);
/* All data of the item are there; err: they could not be had, err_text says why. */
void conveyor_filled(struct conveyor *c, struct belt_outlet *o, int err);

/* The next item; NULL: there is none any more. It stays the belt's. */
struct belt_slot *conveyor_take(struct conveyor *c) __must_check;
struct item *conveyor_item(struct belt_slot *slot);
/* The item's next bytes. False: no more; then *err and *why (borrowed) say whether that was all. */
bool conveyor_data(struct conveyor *c, struct belt_slot *slot, u64 *off_bytes, u8 **buf, u64 *len_bytes,
		   int *err, const char **why) __must_check;
/* The taken item is done with; data that were not asked for are dropped, also those that come later. */
void conveyor_drop(struct conveyor *c, struct belt_slot *slot);
/* Everybody gives up: producers get NULL and -ECANCELED, the consumer nothing more. */
void conveyor_end(struct conveyor *c);

#endif
