/*
 * Documents: a tree of nodes that remembers how each value wants to be read, so that one printer of an on-disk
 * type serves people (text) and programs (JSON).
 *
 * Interface: doc.h. Text is one "key: value" a line, children indented by two blanks, array members led by "- ".
 * JSON is made by jansson from the same tree.
 *
 * Invariants
 *  1. Every node belongs to one root, which frees it; a child pointer is good until then.
 *  2. After an allocation failure the root's oom is set and the tree holds what fitted. The root's `sink` then
 *     stands in for the child that could not be made: what is added to it is dropped.
 *  3. Strings and bytes are copied, and leave through text_add_name or jansson: nothing that came from a volume
 *     reaches a terminal raw.
 */
#include "lib/doc.h"

#include "lib/os.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum doc_kind {
	DOC_OBJECT,
	DOC_ARRAY,
	DOC_U64,
	DOC_S64,
	DOC_HEX,
	DOC_BOOL,
	DOC_BYTES,
	DOC_UUID,
	DOC_TIME,
};

struct doc_root;

struct doc {
	enum doc_kind kind;
	struct doc_root *root;
	char *key;          /* NULL in arrays */
	struct doc *next;   /* sibling */
	struct doc *first;  /* OBJECT, ARRAY */
	struct doc **tailp; /* where the next child goes */
	union {
		u64 u;
		s64 s;
		bool b;
		u8 uuid[16];
		struct timespec64 time;
		struct {
			char *p; /* NUL-terminated, may hold NULs */
			size_t len_bytes;
		} str;
	};
};

struct doc_root {
	struct doc node;
	struct doc sink;
	bool oom;
};

static void node_init(struct doc *d, enum doc_kind kind, struct doc_root *root)
{
	d->kind = kind;
	d->root = root;
	d->tailp = &d->first;
}

struct doc *doc_new(void)
{
	struct doc_root *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	node_init(&r->node, DOC_OBJECT, r);
	node_init(&r->sink, DOC_OBJECT, r);
	return &r->node;
}

static void children_free(struct doc *d)
{
	struct doc *c = d->first;

	while (c) {
		struct doc *next = c->next;

		if (c->kind == DOC_OBJECT || c->kind == DOC_ARRAY)
			children_free(c);
		else if (c->kind == DOC_BYTES)
			free(c->str.p);
		free(c->key);
		free(c);
		c = next;
	}
}

void doc_free(struct doc *root)
{
	if (!root)
		return;
	children_free(root);
	free(root->root);
}

bool doc_oom(const struct doc *d)
{
	return d->root->oom;
}

/* Appends a new node; after a failure it is the sink. */
static struct doc *child(struct doc *d, const char *key, enum doc_kind kind)
{
	struct doc_root *r = d->root;
	struct doc *c;

	if (d == &r->sink)
		return d;
	c = calloc(1, sizeof(*c));
	if (!c)
		goto oom;
	if (d->kind == DOC_OBJECT) {
		c->key = strdup(key);
		if (!c->key)
			goto oom;
	}
	node_init(c, kind, r);
	*d->tailp = c;
	d->tailp = &c->next;
	return c;
oom:
	free(c);
	r->oom = true;
	return &r->sink;
}

void doc_u64(struct doc *d, const char *key, u64 v)
{
	child(d, key, DOC_U64)->u = v;
}

void doc_s64(struct doc *d, const char *key, s64 v)
{
	child(d, key, DOC_S64)->s = v;
}

void doc_hex(struct doc *d, const char *key, u64 v)
{
	child(d, key, DOC_HEX)->u = v;
}

void doc_bool(struct doc *d, const char *key, bool v)
{
	child(d, key, DOC_BOOL)->b = v;
}

void doc_bytes(struct doc *d, const char *key, const void *p, size_t len_bytes)
{
	char *copy = malloc(len_bytes + 1);
	struct doc *c;

	if (!copy) {
		d->root->oom = true;
		return;
	}
	memcpy(copy, p, len_bytes);
	copy[len_bytes] = 0;
	c = child(d, key, DOC_BYTES);
	if (c == &d->root->sink) {
		free(copy);
		return;
	}
	c->str.p = copy;
	c->str.len_bytes = len_bytes;
}

void doc_str(struct doc *d, const char *key, const char *v)
{
	doc_bytes(d, key, v, strlen(v));
}

void doc_uuid(struct doc *d, const char *key, const u8 uuid[16])
{
	memcpy(child(d, key, DOC_UUID)->uuid, uuid, 16);
}

void doc_time(struct doc *d, const char *key, s64 sec, u32 nsec)
{
	child(d, key, DOC_TIME)->time = (struct timespec64){ .sec = sec, .nsec = nsec };
}

struct doc *doc_object(struct doc *d, const char *key)
{
	return child(d, key, DOC_OBJECT);
}

struct doc *doc_array(struct doc *d, const char *key)
{
	return child(d, key, DOC_ARRAY);
}

/* ---- structures of the disk ---- */

void doc_hexdump(struct doc *array, const void *bytes, size_t len_bytes)
{
	const u8 *p = bytes;

	for (size_t at = 0; at < len_bytes; at += 16) {
		struct text t = { 0 };

		text_add(&t, "%05zx ", at);
		for (size_t i = at; i < at + 16; i++)
			text_add(&t, i < len_bytes ? " %02x" : "   ", p[i < len_bytes ? i : 0]);
		text_add(&t, "  ");
		for (size_t i = at; i < MIN(at + 16, len_bytes); i++)
			text_add(&t, "%c", p[i] >= 0x20 && p[i] < 0x7f ? p[i] : '.');
		doc_str(array, NULL, text_str(&t));
		text_free(&t);
	}
}

static u64 le_number(const u8 *p, u32 len)
{
	u64 v = 0;

	while (len)
		v = v << 8 | p[--len];
	return v;
}

void doc_members(struct doc *out, const struct doc_member *m, u32 n, const void *base, u32 bytes)
{
	for (u32 i = 0; i < n; i++) {
		const u8 *p = (const u8 *)base + m[i].off;

		if (m[i].off + m[i].len > bytes)
			continue;
		switch (m[i].kind) {
		case MEMBER_NUMBER:
			doc_u64(out, m[i].name, le_number(p, m[i].len));
			break;
		case MEMBER_HEX:
			doc_hex(out, m[i].name, le_number(p, m[i].len));
			break;
		case MEMBER_TIME:
			doc_time(out, m[i].name, (s64)le_number(p, MIN(m[i].len, (u16)8)),
				 m[i].len > 8 ? (u32)le_number(p + 8, 4) : 0);
			break;
		case MEMBER_TEXT:
			doc_bytes(out, m[i].name, p, strnlen((const char *)p, m[i].len));
			break;
		case MEMBER_UUID:
			doc_uuid(out, m[i].name, p);
			break;
		}
	}
}

/* ---- text ---- */

static void time_to_text(const struct timespec64 *ts, struct text *t)
{
	time_t sec = (time_t)ts->sec;
	struct tm tm;

	if (!gmtime_r(&sec, &tm)) {
		text_add(t, "%lld seconds", (long long)ts->sec);
		return;
	}
	text_add(t, "%04lld-%02d-%02d %02d:%02d:%02d", 1900 + (long long)tm.tm_year, tm.tm_mon + 1,
		 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (ts->nsec)
		text_add(t, ".%09u", ts->nsec);
	text_add(t, " UTC");
}

static void scalar_to_text(const struct doc *d, struct text *t)
{
	switch (d->kind) {
	case DOC_U64:
		text_add(t, "%llu", (unsigned long long)d->u);
		break;
	case DOC_S64:
		text_add(t, "%lld", (long long)d->s);
		break;
	case DOC_HEX:
		text_add(t, "0x%llx", (unsigned long long)d->u);
		break;
	case DOC_BOOL:
		text_add(t, d->b ? "yes" : "no");
		break;
	case DOC_BYTES:
		text_add_name(t, d->str.p, d->str.len_bytes);
		break;
	case DOC_UUID:
		text_add_uuid(t, d->uuid);
		break;
	case DOC_TIME:
		time_to_text(&d->time, t);
		break;
	case DOC_OBJECT:
	case DOC_ARRAY:
		break;
	}
}

/* The children of d, each at `indent`; the blanks before an array's member end in "- ", and so do those before
 * the first line when `bullet`. */
static void children_to_text(const struct doc *d, u32 indent, bool bullet, struct text *t)
{
	for (const struct doc *c = d->first; c; c = c->next) {
		bool member = d->kind == DOC_ARRAY;
		bool parent = c->kind == DOC_OBJECT || c->kind == DOC_ARRAY;

		if (member && c->kind == DOC_OBJECT && c->first) {
			children_to_text(c, indent, true, t);
			continue;
		}
		if (member || bullet)
			text_add(t, "%*s- ", (int)indent - 2, "");
		else
			text_add(t, "%*s", (int)indent, "");
		bullet = false;
		if (!member)
			text_add(t, "%s:%s", c->key, parent && c->first ? "" : " ");
		if (parent)
			text_add(t, c->first ? "\n" : "none\n");
		else
			scalar_to_text(c, t);
		if (!parent)
			text_add(t, "\n");
		else
			children_to_text(c, c->kind == DOC_ARRAY ? indent + 4 : indent + 2, false, t);
	}
}

void doc_to_text(const struct doc *d, struct text *t)
{
	children_to_text(d, d->kind == DOC_ARRAY ? 2 : 0, false, t);
}

/* ---- JSON ---- */

static json_t *bytes_to_json(const struct doc *d)
{
	json_t *j = json_stringn(d->str.p, d->str.len_bytes);
	struct text t = { 0 };

	if (j)
		return j;
	text_add_name(&t, d->str.p, d->str.len_bytes);
	j = json_string(text_str(&t));
	text_free(&t);
	return j;
}

static json_t *uuid_to_json(const struct doc *d)
{
	struct text t = { 0 };
	json_t *j;

	text_add_uuid(&t, d->uuid);
	j = json_string(text_str(&t));
	text_free(&t);
	return j;
}

/* jansson's integers end at 2^63 - 1; what is beyond is shown in decimal as a string. */
static json_t *u64_to_json(u64 v)
{
	char digits[24];

	if (v <= INT64_MAX)
		return json_integer((json_int_t)v);
	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)v);
	return json_string(digits);
}

/* NULL: out of memory. */
static json_t *to_json(const struct doc *d)
{
	json_t *j = NULL;

	switch (d->kind) {
	case DOC_U64:
	case DOC_HEX:
		return u64_to_json(d->u);
	case DOC_S64:
		return json_integer(d->s);
	case DOC_BOOL:
		return json_boolean(d->b);
	case DOC_BYTES:
		return bytes_to_json(d);
	case DOC_UUID:
		return uuid_to_json(d);
	case DOC_TIME:
		return json_pack("{s:I,s:i}", "sec", (json_int_t)d->time.sec, "nsec", (int)d->time.nsec);
	case DOC_OBJECT:
	case DOC_ARRAY:
		break;
	}
	j = d->kind == DOC_OBJECT ? json_object() : json_array();
	for (const struct doc *c = d->first; j && c; c = c->next) {
		json_t *v = to_json(c);
		int bad = d->kind == DOC_OBJECT ? json_object_set_new_nocheck(j, c->key, v)
						: json_array_append_new(j, v);

		if (bad) {
			json_decref(j);
			j = NULL;
		}
	}
	return j;
}

static int dump_to_text(const char *buf, size_t len, void *t)
{
	text_add_bytes(t, buf, len);
	return 0;
}

void doc_to_json(const struct doc *d, struct text *t)
{
	json_t *j = to_json(d);

	if (!j || json_dump_callback(j, dump_to_text, t, JSON_INDENT(2)))
		t->oom = true;
	json_decref(j);
	text_add(t, "\n");
}
