/* A growable string. Every printer of the house appends to one. */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include "lib/types.h"

/* Zero-initialised is empty. After an allocation failure `oom` is set and further text is dropped. */
struct text {
	char *buf; /* NUL-terminated once anything was added */
	size_t len_bytes, cap_bytes;
	bool oom;
};

void text_add(struct text *t, const char *fmt, ...) __printf_like(2, 3);
void text_add_bytes(struct text *t, const void *p, size_t len_bytes);
/* Adds a name that came from a volume, with everything unprintable as \xNN, so that it cannot steer a terminal. */
void text_add_name(struct text *t, const char *name, size_t len_bytes);
void text_add_uuid(struct text *t, const u8 uuid[16]);
/* Adds a size in the largest binary unit that keeps it readable: 1536 is "1.5 KiB". */
void text_add_size(struct text *t, u64 bytes);
/* The text so far, "" when empty. Borrowed: valid until the next change. */
const char *text_str(const struct text *t);
void text_reset(struct text *t);
void text_free(struct text *t);

#endif
