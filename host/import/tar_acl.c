/*
 * ACLs as tar archives hold them: one line of text, entries with commas between, TAG:NAME:PERMISSIONS[:ID] (star(5), SCHILY.acl.access).
 * Who is named without a number is looked for in this machine's list of users, as tar does.
 */
#include "tar.h"

#include "lib/scope.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 8192u /* as many as an attribute holds */
#define PEOPLE_ROOM 65536u

static const struct {
	const char *name;
	u16 own, named; /* the tags without a name, and with one */
} tags[] = {
	{ "user", ACL_USER_OBJ, ACL_USER },
	{ "group", ACL_GROUP_OBJ, ACL_GROUP },
	{ "mask", ACL_MASK, 0 },
	{ "other", ACL_OTHER, 0 },
};

/* A stretch of the text. */
struct field {
	const char *s;
	size_t len;
};

static bool is_number(const struct field *f, u32 *out)
{
	u64 v = 0;

	for (size_t i = 0; i < f->len; i++) {
		if (f->s[i] < '0' || f->s[i] > '9')
			return false;
		v = v * 10 + (u64)(f->s[i] - '0');
		if (v >= UINT32_MAX)
			return false;
	}
	*out = (u32)v;
	return f->len != 0;
}

/* The number of a user or group by name. */
static int look_up(bool group, const struct field *f, u32 *out)
{
	scoped(freep) char *room = malloc(PEOPLE_ROOM);
	struct passwd pw, *user = NULL;
	struct group gr, *found = NULL;
	char name[256];

	if (!room)
		return fail(-ENOMEM, "no memory for an ACL");
	if (f->len < sizeof(name)) {
		memcpy(name, f->s, f->len);
		name[f->len] = 0;
		if (group && !getgrnam_r(name, &gr, room, PEOPLE_ROOM, &found) && found) {
			*out = found->gr_gid;
			return 0;
		}
		if (!group && !getpwnam_r(name, &pw, room, PEOPLE_ROOM, &user) && user) {
			*out = user->pw_uid;
			return 0;
		}
	}
	return fail(-ENOENT, "its ACL names the %s \"%.*s\" without a number, and nobody here is called so",
		    group ? "group" : "user", (int)MIN(f->len, 64ul), f->s);
}

static bool perm_of(const struct field *f, u16 *out)
{
	*out = 0;
	for (size_t i = 0; i < f->len; i++) {
		switch (f->s[i]) {
		case 'r':
			*out |= 4;
			break;
		case 'w':
			*out |= 2;
			break;
		case 'x':
			*out |= 1;
			break;
		case '-':
			break;
		default:
			return false;
		}
	}
	return f->len != 0;
}

static int bad_entry(const struct field *f)
{
	return fail(-EINVAL, "\"%.*s\" is no entry of an ACL", (int)MIN(f->len, 64ul), f->s);
}

static int entry_parse(const struct field *all, struct acl_entry *e)
{
	struct field part[4] = { { "", 0 }, { "", 0 }, { "", 0 }, { "", 0 } };
	u32 parts = 0, t = 0;

	for (size_t at = 0; at <= all->len && parts < ARRAY_SIZE(part); parts++) {
		const char *s = all->s + at, *colon = memchr(s, ':', all->len - at);

		part[parts] = (struct field){ s, colon ? (size_t)(colon - s) : all->len - at };
		at += part[parts].len + 1;
	}
	/* Some leave out the empty name of those that have none: "other:r-x". */
	if (parts == 2) {
		part[2] = part[1];
		part[1].len = 0;
	}
	while (t < ARRAY_SIZE(tags) && (!part[0].len || part[0].len > strlen(tags[t].name) ||
					(part[0].len > 1 && part[0].len != strlen(tags[t].name)) ||
					memcmp(tags[t].name, part[0].s, part[0].len) != 0))
		t++;
	if (parts < 2 || t == ARRAY_SIZE(tags) || !perm_of(&part[2], &e->perm))
		return bad_entry(all);
	e->tag = part[1].len ? tags[t].named : tags[t].own;
	e->id = UINT32_MAX;
	if (!e->tag)
		return bad_entry(all);
	if (!part[1].len || is_number(&part[3], &e->id) || is_number(&part[1], &e->id))
		return 0;
	return look_up(e->tag == ACL_GROUP, &part[1], &e->id);
}

static int by_tag(const void *a, const void *b)
{
	const struct acl_entry *x = a, *y = b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_between(char c)
{
	return c == ',' || c == '\n' || c == ' ' || c == '\t' || !c;
}

static int entries_parse(const char *text, u64 len, struct acl *acl)
{
	acl->count = 0;
	for (u64 at = 0; at < len;) {
		struct field f = { text + at, 0 };
		int err;

		if (is_between(text[at])) {
			at++;
			continue;
		}
		while (at < len && !is_between(text[at]))
			at++;
		f.len = (size_t)(text + at - f.s);
		/* What tools say of an entry beside it. */
		if (f.s[0] == '#')
			continue;
		if (acl->count == ENTRIES_MAX)
			return fail(-E2BIG, "its ACL has more than %u entries", ENTRIES_MAX);
		err = entry_parse(&f, &acl->e[acl->count++]);
		if (err)
			return err;
	}
	if (acl->count)
		qsort(acl->e, acl->count, sizeof(acl->e[0]), by_tag);
	return acl_check(acl) ? fail(-EINVAL, "its ACL lacks entries, or has one twice") : 0;
}

int tar_acl_parse(const char *text, u64 len_bytes, void **value, u32 *value_bytes)
{
	scoped(acl_freep) struct acl *acl = acl_new(ENTRIES_MAX);
	int err;

	*value = NULL;
	if (!acl)
		return fail(-ENOMEM, "no memory for an ACL");
	err = entries_parse(text, len_bytes, acl);
	if (err)
		return err;
	err = acl_to_xattr(acl, NULL, 0, value_bytes);
	*value = err ? NULL : malloc(*value_bytes);
	if (!*value)
		return err ? err : fail(-ENOMEM, "no memory for an ACL");
	return acl_to_xattr(acl, *value, *value_bytes, value_bytes);
}

u32 tar_acl_mode(const void *value, u32 len_bytes, u32 mode)
{
	scoped(acl_freep) struct acl *acl = NULL;
	bool mask = false;

	if (acl_from_xattr(value, len_bytes, &acl))
		return mode;
	for (u32 i = 0; acl && i < acl->count; i++) {
		const struct acl_entry *e = &acl->e[i];

		if (e->tag == ACL_USER_OBJ)
			mode = (mode & ~0700u) | (u32)e->perm << 6;
		else if (e->tag == ACL_OTHER)
			mode = (mode & ~07u) | e->perm;
		else if (e->tag == ACL_MASK || (e->tag == ACL_GROUP_OBJ && !mask))
			mode = (mode & ~070u) | (u32)e->perm << 3;
		mask |= e->tag == ACL_MASK;
	}
	return mode;
}

int tar_acl_text(const void *value, u32 len_bytes, struct text *out)
{
	scoped(acl_freep) struct acl *acl = NULL;
	int err = acl_from_xattr(value, len_bytes, &acl);

	if (err)
		return fail(err, "its ACL is none");
	for (u32 i = 0; acl && i < acl->count; i++) {
		const struct acl_entry *e = &acl->e[i];
		u32 t = 0;

		while (tags[t].own != e->tag && tags[t].named != e->tag)
			t++;
		text_add(out, "%s%s:", i ? "," : "", tags[t].name);
		if (e->tag == tags[t].named)
			text_add(out, "%u", e->id);
		text_add(out, ":%c%c%c", e->perm & 4 ? 'r' : '-', e->perm & 2 ? 'w' : '-',
			 e->perm & 1 ? 'x' : '-');
	}
	return 0;
}
