/* Doing an operation on one side, and printing one for people. */
#include "model/model.h"

#include "lib/hash.h"
#include "lib/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOVE_MAX (1u << 20)

static u8 *buffer(void)
{
	static u8 *b;

	if (!b)
		b = malloc(MOVE_MAX);
	return b;
}

static void fill(u8 *p, u64 len, u32 seed)
{
	u32 x = seed | 1;

	for (u64 i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (u8)(x >> 24);
	}
}

static void run_open(struct side *s, const struct op *o, struct result *r)
{
	struct slot *slot = &s->slot[o->slot];

	if (slot->used)
		fs_close(s->fs, &slot->f);
	r->err = fs_open(s->fs, o->path, o->flags | O_NONBLOCK, o->mode, &slot->f);
	slot->used = !r->err;
}

/* An ACL that grants another user what mode's group bits say, in the form of system.posix_acl_*. */
static u32 acl_value(const struct op *o, u8 *out)
{
	const struct {
		u16 tag, perm;
		u32 id;
	} e[] = { { 1, (u16)(o->mode >> 6 & 7), ~0u },
		  { 2, (u16)(o->mode & 7), 1234 },
		  { 4, (u16)(o->mode >> 3 & 7), ~0u },
		  { 16, (u16)(o->mode >> 3 & 7), ~0u },
		  { 32, (u16)(o->mode & 7), ~0u } };
	const u32 version = 2;

	memcpy(out, &version, 4);
	memcpy(out + 4, e, sizeof(e));
	return 4 + sizeof(e);
}

static void run_xattr(struct side *s, const struct op *o, struct result *r)
{
	static u8 buf[VALUE_MAX];
	u32 len = 0;

	switch (o->kind) {
	case OP_SETXATTR:
		if (!strncmp(o->path2, "system.", 7)) {
			len = acl_value(o, buf);
		} else {
			len = (u32)o->len;
			fill(buf, len, o->data);
		}
		r->err = FS_CALL(s->fs, setxattr, o->path, o->path2, buf, len, o->flags);
		break;
	case OP_GETXATTR:
		r->err = FS_CALL(s->fs, getxattr, o->path, o->path2, buf, sizeof(buf), &len);
		r->value = len;
		r->hash = hash_bytes(buf, len, 1);
		break;
	default:
		r->err = FS_CALL(s->fs, removexattr, o->path, o->path2);
		break;
	}
}

/* Adds a word to r->text, as far as there is room. */
static void say(struct result *r, const char *word)
{
	size_t n = strlen(r->text);

	snprintf(r->text + n, sizeof(r->text) - n, "%s ", word);
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void run_listxattr(struct side *s, const struct op *o, struct result *r)
{
	char buf[4096];
	char *names[128];
	u32 len = 0, n = 0;

	r->err = FS_CALL(s->fs, listxattr, o->path, buf, sizeof(buf), &len);
	if (r->err)
		return;
	for (u32 i = 0; i < len && n < ARRAY_SIZE(names); i += (u32)strlen(buf + i) + 1)
		names[n++] = buf + i;
	qsort(names, n, sizeof(names[0]), by_string);
	for (u32 i = 0; i < n; i++) {
		r->hash = hash_bytes(names[i], strlen(names[i]), r->hash);
		say(r, names[i]);
	}
}

static void run_list(struct side *s, const struct op *o, struct result *r)
{
	struct fs_dirent *list;
	u32 n;

	r->err = fs_list(s->fs, o->path, &list, &n);
	if (r->err)
		return;
	for (u32 i = 0; i < n; i++) {
		if (!strcmp(list[i].name, "lost+found"))
			continue;
		r->value++;
		r->hash = hash_bytes(list[i].name, strlen(list[i].name), r->hash + list[i].type);
		say(r, list[i].name);
	}
	free(list);
}

static void run_slot(struct side *s, const struct op *o, struct result *r)
{
	struct slot *slot = &s->slot[o->slot], *other = &s->slot[o->slot2];
	struct fs *fs = s->fs;
	u8 *buf = buffer();
	u64 len = MIN(o->len, (u64)MOVE_MAX);

	if (!slot->used || (o->kind == OP_COPY && !other->used)) {
		r->err = -EBADF;
		return;
	}
	switch (o->kind) {
	case OP_CLOSE:
		fs_close(fs, &slot->f);
		slot->used = false;
		break;
	case OP_PREAD:
		r->err = fs_read_all(fs, &slot->f, o->off, buf, len, &r->value);
		r->hash = hash_bytes(buf, r->value, 1);
		break;
	case OP_PWRITE:
		fill(buf, len, o->data);
		r->err = fs_write_all(fs, &slot->f, o->off, buf, len);
		break;
	case OP_FTRUNCATE:
		r->err = FS_CALL(fs, ftruncate, &slot->f, o->off);
		break;
	case OP_FALLOCATE:
		r->err = FS_CALL(fs, fallocate, &slot->f, o->flags, o->off, o->len);
		break;
	case OP_SEEK:
		r->err = FS_CALL(fs, seek, &slot->f, o->off, o->flags, &r->value);
		break;
	case OP_COPY:
		/* How much one call moves is its own affair. */
		for (u64 done = 1; !r->err && done && r->value < len; r->value += done)
			r->err = FS_CALL(fs, copy_range, &slot->f, o->off + r->value, &other->f,
					 o->off2 + r->value, len - r->value, &done);
		break;
	case OP_FSYNC:
		r->err = FS_CALL(fs, fsync, &slot->f, o->flags);
		break;
	default:
		r->err = FS_CALL(fs, flink, &slot->f, o->path);
		break;
	}
}

void op_run(struct side *s, const struct op *o, struct result *r)
{
	struct fs *fs = s->fs;
	char link[PATH_MAX];

	memset(r, 0, sizeof(*r));
	switch (o->kind) {
	case OP_OPEN:
		run_open(s, o, r);
		break;
	case OP_MKDIR:
		r->err = FS_CALL(fs, mkdir, o->path, o->mode);
		break;
	case OP_RMDIR:
		r->err = FS_CALL(fs, rmdir, o->path);
		break;
	case OP_UNLINK:
		r->err = FS_CALL(fs, unlink, o->path);
		break;
	case OP_RENAME:
		r->err = FS_CALL(fs, rename, o->path, o->path2, (u32)o->flags);
		break;
	case OP_LINK:
		r->err = FS_CALL(fs, link, o->path, o->path2);
		break;
	case OP_SYMLINK:
		r->err = FS_CALL(fs, symlink, o->path2, o->path);
		break;
	case OP_READLINK:
		r->err = FS_CALL(fs, readlink, o->path, link);
		if (!r->err)
			snprintf(r->text, sizeof(r->text), "%.200s", link);
		break;
	case OP_MKNOD:
		r->err = FS_CALL(fs, mknod, o->path, o->mode, o->a, o->b);
		break;
	case OP_TRUNCATE:
		r->err = FS_CALL(fs, truncate, o->path, o->off);
		break;
	case OP_CHMOD:
		r->err = FS_CALL(fs, chmod, o->path, o->mode);
		break;
	case OP_CHOWN:
		r->err = FS_CALL(fs, chown, o->path, o->a, o->b);
		break;
	case OP_UTIMENS:
		r->err = FS_CALL(fs, utimens, o->path, o->t);
		break;
	case OP_SETXATTR:
	case OP_GETXATTR:
	case OP_REMOVEXATTR:
		run_xattr(s, o, r);
		break;
	case OP_LISTXATTR:
		run_listxattr(s, o, r);
		break;
	case OP_STAT:
		r->err = FS_CALL(fs, stat, o->path, true, &r->st);
		break;
	case OP_LIST:
		run_list(s, o, r);
		break;
	case OP_FORGET:
		FS_CALL(fs, forget);
		break;
	default:
		run_slot(s, o, r);
		break;
	}
}

void side_close_all(struct side *s)
{
	for (u32 i = 0; i < SLOTS; i++)
		if (s->slot[i].used)
			fs_close(s->fs, &s->slot[i].f);
	memset(s->slot, 0, sizeof(s->slot));
}

void op_print(const struct op *o, char *out, size_t size)
{
	static const char *const name[OP_COUNT] = {
		[OP_OPEN] = "open",
		[OP_CLOSE] = "close",
		[OP_PREAD] = "pread",
		[OP_PWRITE] = "pwrite",
		[OP_FTRUNCATE] = "ftruncate",
		[OP_FALLOCATE] = "fallocate",
		[OP_SEEK] = "seek",
		[OP_COPY] = "copy",
		[OP_FSYNC] = "fsync",
		[OP_FLINK] = "flink",
		[OP_MKDIR] = "mkdir",
		[OP_RMDIR] = "rmdir",
		[OP_UNLINK] = "unlink",
		[OP_RENAME] = "rename",
		[OP_LINK] = "link",
		[OP_SYMLINK] = "symlink",
		[OP_READLINK] = "readlink",
		[OP_MKNOD] = "mknod",
		[OP_TRUNCATE] = "truncate",
		[OP_CHMOD] = "chmod",
		[OP_CHOWN] = "chown",
		[OP_UTIMENS] = "utimens",
		[OP_SETXATTR] = "setxattr",
		[OP_GETXATTR] = "getxattr",
		[OP_REMOVEXATTR] = "removexattr",
		[OP_LISTXATTR] = "listxattr",
		[OP_STAT] = "stat",
		[OP_LIST] = "list",
		[OP_FORGET] = "forget",
	};
	struct text t = { 0 };
	bool slot = o->kind == OP_OPEN || (o->kind >= OP_CLOSE && o->kind <= OP_FLINK);

	text_add(&t, "%s", name[o->kind]);
	if (slot)
		text_add(&t, " fd%u", o->slot);
	if (o->kind == OP_COPY)
		text_add(&t, " to fd%u", o->slot2);
	if (*o->path) {
		text_add(&t, " \"");
		text_add_name(&t, o->path, strlen(o->path));
		text_add(&t, "\"");
	}
	if (*o->path2) {
		text_add(&t, " \"");
		text_add_name(&t, o->path2, strlen(o->path2));
		text_add(&t, "\"");
	}
	if (o->flags)
		text_add(&t, " flags %#x", (u32)o->flags);
	if (o->mode)
		text_add(&t, " mode %#o", o->mode);
	if (o->kind == OP_CHOWN || (o->kind == OP_MKNOD && o->a))
		text_add(&t, " %d:%d", (int)o->a, (int)o->b);
	if (o->off || o->len)
		text_add(&t, " off %llu len %llu", (unsigned long long)o->off, (unsigned long long)o->len);
	if (o->off2)
		text_add(&t, " off2 %llu", (unsigned long long)o->off2);
	if (o->kind == OP_UTIMENS)
		text_add(&t, " %lld.%09ld %lld.%09ld", (long long)o->t[0].tv_sec, o->t[0].tv_nsec,
			 (long long)o->t[1].tv_sec, o->t[1].tv_nsec);
	snprintf(out, size, "%s", text_str(&t));
	text_free(&t);
}
