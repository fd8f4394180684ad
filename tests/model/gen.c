/*
 * The next operation: a mix as programs make it, on names that mostly exist. Everything follows from the seed, so no
 * expression draws two random numbers whose order the language leaves open.
 */
#include "model/model.h"

#include "lib/hash.h"
#include <stdio.h>
#include <string.h>

static const u32 weight[OP_COUNT] = {
	[OP_OPEN] = 130,     [OP_CLOSE] = 60,   [OP_PREAD] = 40,    [OP_PWRITE] = 170,  [OP_FTRUNCATE] = 40,
	[OP_FALLOCATE] = 45, [OP_SEEK] = 30,    [OP_COPY] = 25,     [OP_FSYNC] = 8,     [OP_FLINK] = 10,
	[OP_MKDIR] = 40,     [OP_RMDIR] = 20,   [OP_UNLINK] = 45,   [OP_RENAME] = 70,   [OP_LINK] = 25,
	[OP_SYMLINK] = 15,   [OP_READLINK] = 5, [OP_MKNOD] = 15,    [OP_TRUNCATE] = 20, [OP_CHMOD] = 20,
	[OP_CHOWN] = 15,     [OP_UTIMENS] = 20, [OP_SETXATTR] = 40, [OP_GETXATTR] = 10, [OP_REMOVEXATTR] = 15,
	[OP_LISTXATTR] = 10, [OP_STAT] = 20,    [OP_LIST] = 25,     [OP_FORGET] = 4,
};

u64 gen_random(struct gen *g)
{
	g->random += 0x9e3779b97f4a7c15ull;
	return hash_u64(g->random);
}

static u64 below(struct gen *g, u64 n)
{
	return gen_random(g) % n;
}

static bool chance(struct gen *g, u32 percent)
{
	return below(g, 100) < percent;
}

void gen_init(struct gen *g, u64 seed, const struct fs *oracle, bool tmpfs)
{
	memset(g, 0, sizeof(*g));
	g->random = seed * 0x2545f4914f6cdd1dull;
	g->uid = oracle->uid;
	g->gid = oracle->gid;
	g->root = !g->uid;
	g->tmpfs = tmpfs;
	g->exact_seek = seed % 2;
}

/* Permission bits. Who is not root keeps his own, so that he can go on. */
static u32 some_mode(struct gen *g, u32 limit)
{
	return (u32)below(g, limit) | (g->root ? 0 : 0700);
}

/* A directory that exists, or mostly does. "" is the root. */
static const char *some_dir(struct gen *g)
{
	for (u32 tries = 0; g->known && tries < 8; tries++) {
		const struct known *k = &g->names[below(g, g->known)];

		if (k->dir)
			return k->path;
	}
	return "";
}

static void new_path(struct gen *g, char *out)
{
	static const char *const odd[] = { " ", "\xff\xfe", "\xc3\xa4\xc3\xb6", "-rf", "a\nb", "..." };
	const char *dir = some_dir(g);
	char name[80];
	int len;

	if (chance(g, 4)) {
		snprintf(name, sizeof(name), "%s", odd[below(g, ARRAY_SIZE(odd))]);
	} else if (chance(g, 8)) {
		len = (int)below(g, 60);
		snprintf(name, sizeof(name), "%.*s%llu", len,
			 "a_long_name_that_takes_more_room_in_its_directory_block_0123456789",
			 (unsigned long long)below(g, 20));
	} else {
		snprintf(name, sizeof(name), "n%llu", (unsigned long long)below(g, 40));
	}
	if (strlen(dir) + strlen(name) + 2 > PATH_LEN)
		dir = "";
	snprintf(out, PATH_LEN, "%.*s%s%s", (int)(PATH_LEN - 90), dir, *dir ? "/" : "", name);
}

static void some_path_of(struct gen *g, bool dir, char *out)
{
	for (u32 tries = 0; g->known && tries < 8; tries++) {
		const struct known *k = &g->names[below(g, g->known)];

		if (k->dir == dir) {
			snprintf(out, PATH_LEN, "%s", k->path);
			return;
		}
	}
	new_path(g, out);
}

/* A name that exists, or now and then one that does not, or leads through something that is no directory. */
static void some_path(struct gen *g, char *out)
{
	if (!g->known || chance(g, 6)) {
		new_path(g, out);
		return;
	}
	snprintf(out, PATH_LEN, "%s", g->names[below(g, g->known)].path);
	if (chance(g, 1) && strlen(out) + 3 < PATH_LEN)
		strcat(out, "/x");
}

static u64 some_size(struct gen *g)
{
	u64 n = 1ull << below(g, 19);

	n += below(g, n);
	switch (below(g, 6)) {
	case 0:
		return n & ~4095ull;
	case 1:
		return (n & ~4095ull) + 4095;
	case 2:
		return (n & ~4095ull) + 1;
	default:
		return n;
	}
}

/* Mostly within what a file of this size holds, or just behind. */
static u64 some_offset(struct gen *g, u64 size)
{
	u64 off;

	if (size && chance(g, 60)) {
		off = below(g, size + 2);
		return chance(g, 25) ? off & ~4095ull : off;
	}
	if (chance(g, 25))
		return 0;
	off = some_size(g);
	return chance(g, 2) ? off + (1ull << (30 + below(g, 8))) : off;
}

static void gen_open(struct gen *g, struct op *o)
{
	static const int access[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	static const struct {
		u32 percent;
		int flag;
	} more[] = { { 70, O_CREAT }, { 10, O_EXCL },    { 12, O_APPEND },
		     { 8, O_TRUNC },  { 5, O_NOFOLLOW }, { 2, O_DIRECTORY } };

	o->flags = access[below(g, ARRAY_SIZE(access))];
	o->mode = some_mode(g, 01000);
	if (chance(g, 10)) {
		snprintf(o->path, PATH_LEN, "%s", some_dir(g));
		o->flags =
			(o->flags == O_RDONLY ? O_RDWR : o->flags) | O_TMPFILE | (chance(g, 20) ? O_EXCL : 0);
		return;
	}
	if (chance(g, 50))
		new_path(g, o->path);
	else
		some_path(g, o->path);
	for (u32 i = 0; i < ARRAY_SIZE(more); i++)
		o->flags |= chance(g, more[i].percent) ? more[i].flag : 0;
	/* What these three mean together changed between kernels. */
	if (o->flags & O_CREAT)
		o->flags &= ~O_DIRECTORY;
	if (!(o->flags & O_CREAT))
		o->flags &= ~O_EXCL;
	if ((o->flags & O_ACCMODE) == O_RDONLY)
		o->flags &= ~O_TRUNC;
}

static void gen_falloc(struct gen *g, struct op *o)
{
	static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };

	o->flags = modes[below(g, g->exact_seek ? 2 : g->tmpfs ? 4 : ARRAY_SIZE(modes))];
	o->off = some_offset(g, g->slot[o->slot].size);
	o->len = some_size(g);
}

static void gen_rename(struct gen *g, struct op *o)
{
	static const u32 flags[] = { 0, 0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT };

	o->flags = (int)flags[below(g, g->root ? 8 : 7)];
	some_path(g, o->path);
	if (chance(g, o->flags == RENAME_EXCHANGE ? 90 : 45))
		some_path(g, o->path2);
	else
		new_path(g, o->path2);
}

static void gen_mknod(struct gen *g, struct op *o)
{
	static const u32 types[] = { S_IFIFO, S_IFSOCK, S_IFREG, S_IFCHR, S_IFBLK };
	u32 type = types[below(g, g->root ? 5 : 3)];

	o->mode = type | some_mode(g, 01000);
	if (type == S_IFCHR || type == S_IFBLK) {
		o->a = (u32)below(g, 4096);
		o->b = (u32)below(g, 1 << 20);
	}
	new_path(g, o->path);
}

static void gen_xattr(struct gen *g, struct op *o)
{
	static const char *const space[] = { "user", "user", "user", "trusted", "security" };

	const char *prefix = space[below(g, g->root ? 5 : 3)];

	some_path(g, o->path);
	snprintf(o->path2, PATH_LEN, "%s.x%llu", prefix, (unsigned long long)below(g, 5));
	o->len = chance(g, 10) ? 0 : below(g, 180);
	if (g->value_max && chance(g, 25))
		o->len = below(g, g->value_max + 1);
	o->flags = chance(g, 70) ? 0 : chance(g, 50) ? XATTR_CREATE : XATTR_REPLACE;
	/* A minimal default ACL, so that what is created below is judged too. */
	if (o->kind == OP_SETXATTR && chance(g, 15)) {
		snprintf(o->path, PATH_LEN, "%s", some_dir(g));
		strcpy(o->path2, chance(g, 50) ? "system.posix_acl_default" : "system.posix_acl_access");
		o->mode = some_mode(g, 01000);
		o->flags = 0;
	} else if (chance(g, 5)) {
		strcpy(o->path2, chance(g, 50) ? "system.posix_acl_default" : "system.posix_acl_access");
	}
	/* The kernel lets flags decide nothing about an ACL; an ACL needs a form. */
	if (o->kind == OP_SETXATTR && o->path2[1] == 'y' && !o->mode)
		o->mode = 0750;
}

static void gen_utimens(struct gen *g, struct op *o)
{
	for (u32 i = 0; i < 2; i++) {
		o->t[i].tv_sec =
			(time_t)(chance(g, 50) ? below(g, 1000000000) : 3000000000u + below(g, 5000000000u));
		o->t[i].tv_nsec = (long)below(g, 1000000000);
		if (chance(g, 15))
			o->t[i].tv_nsec = UTIME_OMIT;
	}
	some_path(g, o->path);
}

static void gen_data(struct gen *g, struct op *o)
{
	o->off = some_offset(g, g->slot[o->slot].size);
	o->len = some_size(g);
	o->len = chance(g, 3) ? 0 : o->len >> below(g, 4);
	switch (o->kind) {
	case OP_FTRUNCATE:
	case OP_TRUNCATE:
		if (chance(g, 10))
			o->off = 0;
		break;
	case OP_SEEK:
		o->flags = chance(g, 50) ? SEEK_HOLE : SEEK_DATA;
		break;
	case OP_COPY:
		o->off2 = some_offset(g, g->slot[o->slot2].size);
		break;
	case OP_FSYNC:
		o->flags = chance(g, 50);
		break;
	default:
		break;
	}
}

/* Operations that need a path and little else. */
static void gen_path(struct gen *g, struct op *o)
{
	switch (o->kind) {
	case OP_MKDIR:
		o->mode = some_mode(g, 01000);
		new_path(g, o->path);
		break;
	case OP_LINK:
		some_path(g, o->path);
		new_path(g, o->path2);
		break;
	case OP_SYMLINK:
		new_path(g, o->path);
		some_path(g, o->path2);
		break;
	case OP_FLINK:
		new_path(g, o->path);
		break;
	case OP_LIST:
		snprintf(o->path, PATH_LEN, "%s", some_dir(g));
		break;
	case OP_UNLINK:
	case OP_RMDIR:
		if (chance(g, 85))
			some_path_of(g, o->kind == OP_RMDIR, o->path);
		else
			some_path(g, o->path);
		break;
	default:
		some_path(g, o->path);
		break;
	}
}

static void gen_chmod(struct gen *g, struct op *o)
{
	/* In a sticky directory the kernel protects links and files of others (sysctl fs.protected_*). */
	o->mode = some_mode(g, 010000) & ~01000u;
	if (o->mode & 06000)
		some_path_of(g, true, o->path);
	else
		some_path(g, o->path);
}

static void gen_chown(struct gen *g, struct op *o)
{
	o->a = chance(g, 30) ? ~0u : g->root ? (u32)below(g, 70000) : g->uid;
	o->b = chance(g, 30) && o->a != ~0u ? ~0u : g->root ? (u32)below(g, 70000) : g->gid;
	some_path(g, o->path);
}

static void gen_truncate(struct gen *g, struct op *o)
{
	gen_data(g, o);
	some_path(g, o->path);
}

static void (*const generate[OP_COUNT])(struct gen *g, struct op *o) = {
	[OP_OPEN] = gen_open,         [OP_CLOSE] = gen_data,     [OP_PREAD] = gen_data,
	[OP_PWRITE] = gen_data,       [OP_FTRUNCATE] = gen_data, [OP_FALLOCATE] = gen_falloc,
	[OP_SEEK] = gen_data,         [OP_COPY] = gen_data,      [OP_FSYNC] = gen_data,
	[OP_FLINK] = gen_path,        [OP_MKDIR] = gen_path,     [OP_RMDIR] = gen_path,
	[OP_UNLINK] = gen_path,       [OP_RENAME] = gen_rename,  [OP_LINK] = gen_path,
	[OP_SYMLINK] = gen_path,      [OP_READLINK] = gen_path,  [OP_MKNOD] = gen_mknod,
	[OP_TRUNCATE] = gen_truncate, [OP_CHMOD] = gen_chmod,    [OP_CHOWN] = gen_chown,
	[OP_UTIMENS] = gen_utimens,   [OP_SETXATTR] = gen_xattr, [OP_GETXATTR] = gen_xattr,
	[OP_REMOVEXATTR] = gen_xattr, [OP_LISTXATTR] = gen_path, [OP_STAT] = gen_path,
	[OP_LIST] = gen_path,         [OP_FORGET] = gen_data,
};

/* An open file, nearly always; for OPEN any slot. */
static u32 some_slot(struct gen *g, enum op_kind kind, bool to_write)
{
	u32 s = (u32)below(g, SLOTS);

	for (u32 tries = 0; kind != OP_OPEN && tries < 12 && !chance(g, 3); tries++) {
		u32 access = (u32)g->slot[s].flags & O_ACCMODE;

		if (g->slot[s].open && (access == O_RDWR || access == (to_write ? O_WRONLY : O_RDONLY)))
			break;
		s = (u32)below(g, SLOTS);
	}
	return s;
}

void gen_next(struct gen *g, struct op *out)
{
	u32 sum = 0, pick, kind;

	memset(out, 0, sizeof(*out));
	for (kind = 0; kind < OP_COUNT; kind++)
		sum += weight[kind];
	pick = (u32)below(g, sum);
	for (kind = 0; pick >= weight[kind]; kind++)
		pick -= weight[kind];
	/* Not ever more files. */
	if (g->known > 220 && chance(g, 40))
		kind = chance(g, 70) ? OP_UNLINK : OP_RMDIR;
	if (g->exact_seek && kind == OP_COPY)
		kind = OP_SEEK;
	out->kind = kind;
	out->slot = some_slot(g, kind, kind != OP_PREAD && kind != OP_SEEK && kind != OP_COPY);
	out->slot2 = some_slot(g, kind, true);
	out->data = (u32)gen_random(g);
	generate[kind](g, out);
}

/* ---- what exists ---- */

static void add(struct gen *g, const char *path, bool dir)
{
	if (g->known == ARRAY_SIZE(g->names))
		return;
	snprintf(g->names[g->known].path, PATH_LEN, "%s", path);
	g->names[g->known++].dir = dir;
}

/* True when `path` is `top` or below it; *rest is what follows. */
static bool below_or_at(const char *path, const char *top, const char **rest)
{
	size_t n = strlen(top);

	*rest = path + n;
	return !strncmp(path, top, n) && (!path[n] || path[n] == '/');
}

static void forget_path(struct gen *g, const char *top)
{
	const char *rest;

	for (u32 i = 0; i < g->known;) {
		if (below_or_at(g->names[i].path, top, &rest))
			g->names[i] = g->names[--g->known];
		else
			i++;
	}
}

static void move(struct gen *g, const char *from, const char *to, bool both_ways)
{
	char path[2 * PATH_LEN];
	const char *rest;

	for (u32 i = 0; i < g->known;) {
		struct known *k = &g->names[i];

		if (below_or_at(k->path, from, &rest))
			snprintf(path, sizeof(path), "%s%s", to, rest);
		else if (both_ways && below_or_at(k->path, to, &rest))
			snprintf(path, sizeof(path), "%s%s", from, rest);
		else
			path[0] = 0;
		if (strlen(path) >= PATH_LEN) {
			g->names[i] = g->names[--g->known];
			continue;
		}
		if (path[0])
			memcpy(k->path, path, strlen(path) + 1);
		i++;
	}
}

static void learn_slot(struct gen *g, const struct op *op, const struct result *r)
{
	u64 end = op->off + op->len;

	switch (op->kind) {
	case OP_OPEN:
		g->slot[op->slot].open = !r->err;
		g->slot[op->slot].flags = op->flags;
		g->slot[op->slot].size = 0;
		break;
	case OP_CLOSE:
		g->slot[op->slot].open = false;
		break;
	case OP_FTRUNCATE:
		if (!r->err)
			g->slot[op->slot].size = op->off;
		break;
	case OP_PREAD:
	case OP_PWRITE:
	case OP_FALLOCATE:
		if (op->kind == OP_PREAD)
			end = op->off + r->value;
		if (!r->err && !(op->kind == OP_FALLOCATE && op->flags & FALLOC_FL_KEEP_SIZE))
			g->slot[op->slot].size = MAX(g->slot[op->slot].size, end);
		break;
	case OP_COPY:
		if (!r->err)
			g->slot[op->slot2].size = MAX(g->slot[op->slot2].size, op->off2 + r->value);
		break;
	default:
		break;
	}
}

void gen_learn(struct gen *g, const struct op *op, const struct result *r)
{
	learn_slot(g, op, r);
	if (r->err)
		return;
	switch (op->kind) {
	case OP_OPEN:
		if (op->flags & O_CREAT && (op->flags & O_TMPFILE) != O_TMPFILE) {
			forget_path(g, op->path);
			add(g, op->path, false);
		}
		break;
	case OP_MKDIR:
	case OP_MKNOD:
	case OP_SYMLINK:
	case OP_FLINK:
		add(g, op->path, op->kind == OP_MKDIR);
		break;
	case OP_LINK:
		add(g, op->path2, false);
		break;
	case OP_UNLINK:
	case OP_RMDIR:
		forget_path(g, op->path);
		break;
	case OP_RENAME:
		if (!strcmp(op->path, op->path2))
			break;
		if (op->flags != RENAME_EXCHANGE)
			forget_path(g, op->path2);
		move(g, op->path, op->path2, op->flags == RENAME_EXCHANGE);
		break;
	default:
		break;
	}
}
