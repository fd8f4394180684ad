/*
 * A document: a tree of named values, filled by the one printer of each on-disk type and shown as text or as
 * JSON. jansson stands behind it. After an allocation failure the document stays valid and incomplete; doc_oom says so.
 */
#ifndef LIB_DOC_H
#define LIB_DOC_H

#include "lib/text.h"
#include "lib/types.h"

struct doc; /* an object or an array; children are owned by the root */

struct doc *doc_new(void);
void doc_free(struct doc *root);
bool doc_oom(const struct doc *d);

/* In an object `key` names the value; in an array it is NULL. */
void doc_u64(struct doc *d, const char *key, u64 v);
void doc_s64(struct doc *d, const char *key, s64 v);
/* A number that people read in base 16: text shows 0x…, JSON the number. */
void doc_hex(struct doc *d, const char *key, u64 v);
void doc_bool(struct doc *d, const char *key, bool v);
void doc_str(struct doc *d, const char *key, const char *v);
/* Bytes that may not be text (a name, a label): what is not UTF-8 is shown as \xNN. */
void doc_bytes(struct doc *d, const char *key, const void *p, size_t len_bytes);
void doc_uuid(struct doc *d, const char *key, const u8 uuid[16]);
/* Seconds since 1970 and nanoseconds: text shows a date in UTC, JSON {"sec":…,"nsec":…}. */
void doc_time(struct doc *d, const char *key, s64 sec, u32 nsec);
/* The bytes themselves, sixteen to a line, into an array. */
void doc_hexdump(struct doc *array, const void *p, size_t len_bytes);

enum member_kind {
	MEMBER_NUMBER,
	MEMBER_HEX,
	MEMBER_TIME, /* seconds; in 12 bytes, seconds and nanoseconds */
	MEMBER_TEXT, /* up to the first zero */
	MEMBER_UUID,
};
/* A member of an on-disk structure of little-endian numbers, as its printer sees it. */
struct doc_member {
	const char *name;
	u16 off, len;
	enum member_kind kind;
};
#define DOC_MEMBER(type, field, kind)                                                    \
	{                                                                                \
#field, offsetof(type, field), sizeof(((type *)0)->field), MEMBER_##kind \
	}
/* Those that lie within the structure's `bytes`. */
void doc_members(struct doc *out, const struct doc_member *m, u32 n, const void *base, u32 bytes);

/* A new child, borrowed; never NULL (after a failure: a child that swallows everything). */
struct doc *doc_object(struct doc *d, const char *key);
struct doc *doc_array(struct doc *d, const char *key);

void doc_to_text(const struct doc *d, struct text *t);
void doc_to_json(const struct doc *d, struct text *t);

#endif
