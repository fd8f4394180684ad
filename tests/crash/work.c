/* The workloads. Each is a few hundred operations at random, of one kind mostly, with an fsync or sync now and then. */
#include "crash.h"

#include <stdio.h>
#include <string.h>

#define KIB 1024ull

/* One in n. */
static bool once_in(u64 *seed, u32 n)
{
	return rnd_below(seed, n) == 0;
}

static void sync_sometimes(struct run *r, u64 *seed, const char *path)
{
	if (once_in(seed, 6) && model_find(&r->model, path) && !S_ISLNK(model_at(&r->model, path)->mode))
		w_fsync(r, path);
	else if (once_in(seed, 40))
		w_sync(r);
}

static bool is_there(struct run *r, const char *path)
{
	return model_find(&r->model, path) != NULL;
}

static void names(struct run *r, u64 *seed)
{
	char a[64], b[64];

	for (u32 i = 0; i < 3; i++) {
		snprintf(a, sizeof(a), "d%u", i);
		w_mkdir(r, a);
	}
	for (u32 i = 0; i < 160; i++) {
		snprintf(a, sizeof(a), "d%u/n%u", rnd_below(seed, 3), rnd_below(seed, 12));
		snprintf(b, sizeof(b), "d%u/n%u", rnd_below(seed, 3), rnd_below(seed, 12));
		if (!is_there(r, a)) {
			if (once_in(seed, 6))
				w_symlink(r, a, once_in(seed, 2) ? 20 : 200);
			else if (w_create(r, a) && once_in(seed, 2))
				w_append(r, a, 1 + rnd_below(seed, 3000));
		} else if (once_in(seed, 3)) {
			w_unlink(r, a);
		} else if (!is_there(r, b) && once_in(seed, 3)) {
			w_link(r, a, b);
		} else if (is_there(r, b) && once_in(seed, 4)) {
			w_rename(r, a, b, true);
		} else {
			w_rename(r, a, b, false);
		}
		sync_sometimes(r, seed, once_in(seed, 2) ? a : b);
	}
}

static void append(struct run *r, u64 *seed)
{
	static const u32 sizes[] = { 1, 100, 512, 1000, 1024, 4096, 5000, 40000 };
	char path[64];

	for (u32 i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "log%u", rnd_below(seed, 4));
		if (!is_there(r, path))
			w_create(r, path);
		w_append(r, path, sizes[rnd_below(seed, ARRAY_SIZE(sizes))]);
		if (once_in(seed, 3))
			w_fsync(r, path);
	}
}

static void overwrite(struct run *r, u64 *seed)
{
	char path[64];

	for (u32 i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		w_create(r, path);
		w_append(r, path, 60 * KIB);
	}
	w_sync(r);
	for (u32 i = 0; i < 120; i++) {
		snprintf(path, sizeof(path), "f%u", rnd_below(seed, 4));
		w_write(r, path, rnd_below(seed, 70000), 1 + rnd_below(seed, once_in(seed, 3) ? 20000 : 700));
		sync_sometimes(r, seed, path);
	}
}

static void truncates(struct run *r, u64 *seed)
{
	char path[64];

	for (u32 i = 0; i < 110; i++) {
		snprintf(path, sizeof(path), "t%u", rnd_below(seed, 4));
		if (!is_there(r, path))
			w_create(r, path);
		switch (rnd_below(seed, 4)) {
		case 0:
			w_truncate(r, path, rnd_below(seed, 100000));
			break;
		case 1:
			w_truncate(r, path, once_in(seed, 2) ? 0 : 1024ull * rnd_below(seed, 60));
			break;
		default:
			w_write(r, path, rnd_below(seed, 60000), 1 + rnd_below(seed, 30000));
		}
		sync_sometimes(r, seed, path);
	}
}

static void punch(struct run *r, u64 *seed)
{
	bool extents = strstr(r->volume->args, "extent");
	char path[64];

	for (u32 i = 0; i < 110; i++) {
		u64 off = rnd_below(seed, 100000), len = 1 + rnd_below(seed, 30000);

		snprintf(path, sizeof(path), "p%u", rnd_below(seed, 3));
		if (!is_there(r, path))
			w_create(r, path);
		switch (rnd_below(seed, 6)) {
		case 0:
		case 1:
			w_punch(r, path, off, len);
			break;
		case 2:
			if (extents)
				w_zero(r, path, off, len);
			break;
		case 3:
			if (extents)
				w_prealloc(r, path, off, len, once_in(seed, 2));
			break;
		default:
			w_write(r, path, off, len);
		}
		sync_sometimes(r, seed, path);
	}
}

static void dirs(struct run *r, u64 *seed)
{
	char path[256];

	w_mkdir(r, "big");
	for (u32 i = 0; i < 240; i++) {
		/* Long names: leaves fill up and split. */
		snprintf(path, sizeof(path), "big/%0*u", 20 + (int)rnd_below(seed, 2) * 100, i);
		if (once_in(seed, 12))
			w_mkdir(r, path);
		else
			w_create(r, path);
		if (once_in(seed, 25))
			w_fsync(r, "big");
	}
	w_sync(r);
	for (u32 i = 0; i < 320 && r->model.entries > 1; i++) {
		const char *p = w_some_path(r, seed);
		char gone[PATH_LEN];

		snprintf(gone, sizeof(gone), "%s", p);
		if (!strcmp(gone, "big"))
			continue;
		if (S_ISDIR(model_at(&r->model, gone)->mode))
			w_rmdir(r, gone);
		else
			w_unlink(r, gone);
		if (once_in(seed, 25))
			w_fsync(r, "big");
	}
	if (r->model.entries == 1)
		w_rmdir(r, "big");
}

/* Files of many extents come and go: what was their metadata becomes others' data, and the reverse. */
static void big_unlink(struct run *r, u64 *seed)
{
	for (u32 round = 0; round < 6; round++) {
		char path[64];

		for (u32 f = 0; f < 2; f++) {
			snprintf(path, sizeof(path), "big%u", f);
			if (!is_there(r, path))
				w_create(r, path);
			for (u32 i = 0; i < 24; i++)
				w_write(r, path, 8192ull * rnd_below(seed, 64), 1 + rnd_below(seed, 4096));
		}
		w_fsync(r, "big0");
		snprintf(path, sizeof(path), "big%u", rnd_below(seed, 2));
		if (once_in(seed, 3))
			w_truncate(r, path, 0);
		else
			w_unlink(r, path);
		if (once_in(seed, 2))
			w_sync(r);
		snprintf(path, sizeof(path), "eat%u", round);
		w_create(r, path);
		w_append(r, path, 300 * KIB);
		w_fsync(r, path);
		snprintf(path, sizeof(path), "dir%u", round);
		w_mkdir(r, path);
		if (round > 1) {
			snprintf(path, sizeof(path), "eat%u", round - 2);
			w_unlink(r, path);
			snprintf(path, sizeof(path), "dir%u", round - 2);
			w_rmdir(r, path);
		}
	}
}

static void xattrs(struct run *r, u64 *seed)
{
	bool outside = strstr(r->volume->args, "ea_inode");
	u32 most = outside ? 20000 : !strcmp(r->volume->name, "4k") ? 3000 : 500;
	char path[64], name[32];

	for (u32 i = 0; i < 120; i++) {
		struct mfile *f;
		u32 n;

		snprintf(path, sizeof(path), "x%u", rnd_below(seed, 5));
		if (!is_there(r, path))
			w_create(r, path);
		f = model_at(&r->model, path);
		n = f->xattrs;
		if (n && (n > 3 || once_in(seed, 3))) {
			snprintf(name, sizeof(name), "%s", f->xattr[rnd_below(seed, n)].name);
			w_removexattr(r, path, name);
		} else if (once_in(seed, 12)) {
			w_unlink(r, path);
		} else {
			/* At most one large value, which needs the block outside of the inode; or values in inodes. */
			bool large = once_in(seed, 2);

			snprintf(name, sizeof(name), "user.%s",
				 large              ? "large"
				 : once_in(seed, 2) ? "a"
						    : "b");
			w_setxattr(r, path, name,
				   large ? 100 + rnd_below(seed, most - 100) : rnd_below(seed, 30));
		}
		if (once_in(seed, 8) && is_there(r, path))
			w_chmod(r, path, 0600 + rnd_below(seed, 64));
		sync_sometimes(r, seed, path);
	}
}

/* Whose files are, and what they lead to. */
static void owners(struct run *r, u64 *seed)
{
	bool outside = strstr(r->volume->args, "ea_inode"), projects = strstr(r->volume->args, "project");
	char path[64];

	for (u32 i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "w%u", i);
		w_mkdir(r, path);
		if (projects && i)
			w_project(r, path, 500 + i, true);
	}
	for (u32 i = 0; i < 160; i++) {
		u32 what = rnd_below(seed, 10);

		snprintf(path, sizeof(path), "w%u/f%u", rnd_below(seed, 3), rnd_below(seed, 5));
		if (!is_there(r, path) && once_in(seed, 5))
			w_symlink(r, path, 20 + rnd_below(seed, 400));
		else if (!is_there(r, path))
			w_create(r, path);
		else if (what < 3)
			w_chgrp(r, path, 2000 + rnd_below(seed, 30));
		else if (S_ISLNK(model_at(&r->model, path)->mode))
			w_unlink(r, path);
		else if (what == 3)
			w_setxattr(r, path, "user.large", 100 + rnd_below(seed, outside ? 20000 : 400));
		else if (what == 4 && projects)
			w_project(r, path, 500 + rnd_below(seed, 6), false);
		else if (what < 7)
			w_write(r, path, rnd_below(seed, 90000), 1 + rnd_below(seed, 20000));
		else if (what == 7)
			w_truncate(r, path, rnd_below(seed, 60000));
		else if (what == 8)
			w_hold(r, rnd_below(seed, FILE_OPEN), path);
		else
			w_unlink(r, path);
		sync_sometimes(r, seed, path);
	}
}

static void orphans(struct run *r, u64 *seed)
{
	char path[64];

	for (u32 i = 0; i < 90; i++) {
		u32 slot = rnd_below(seed, FILE_OPEN);

		snprintf(path, sizeof(path), "o%u", i);
		w_create(r, path);
		w_append(r, path, 1 + rnd_below(seed, 50000));
		w_hold(r, slot, path);
		if (!once_in(seed, 4))
			w_unlink(r, path);
		if (once_in(seed, 3))
			w_held_write(r, slot, rnd_below(seed, 60000), 1 + rnd_below(seed, 9000));
		if (once_in(seed, 3))
			w_held_truncate(r, slot, rnd_below(seed, 60000));
		if (once_in(seed, 4))
			w_release(r, rnd_below(seed, FILE_OPEN));
		if (once_in(seed, 6))
			w_sync(r);
	}
}

static void enospc(struct run *r, u64 *seed)
{
	char path[64];

	r->full = true;
	for (u32 round = 0; round < 5; round++) {
		for (u32 i = 0; i < 30; i++) {
			snprintf(path, sizeof(path), "e%u", rnd_below(seed, 20));
			if (!is_there(r, path) && !w_create(r, path))
				break;
			if (!w_append(r, path, (200 + rnd_below(seed, 1000)) * KIB))
				break;
			sync_sometimes(r, seed, path);
		}
		/* Delete, then write at once. */
		for (u32 i = 0; i < 4; i++) {
			const char *p = w_some_file(r, seed);

			if (!p)
				break;
			snprintf(path, sizeof(path), "%s", p);
			w_unlink(r, path);
			snprintf(path, sizeof(path), "again%u-%u", round, i);
			if (w_create(r, path))
				w_append(r, path, 100 * KIB);
		}
		if (once_in(seed, 2))
			w_sync(r);
	}
}

static void mixed(struct run *r, u64 *seed)
{
	char a[64], b[64];

	w_mkdir(r, "a");
	w_mkdir(r, "b");
	for (u32 i = 0; i < 220; i++) {
		u32 what = rnd_below(seed, 14);

		snprintf(a, sizeof(a), "%c/m%u", 'a' + (char)rnd_below(seed, 2), rnd_below(seed, 16));
		snprintf(b, sizeof(b), "%c/m%u", 'a' + (char)rnd_below(seed, 2), rnd_below(seed, 16));
		if (!is_there(r, a))
			w_create(r, a);
		else if (what < 5)
			w_write(r, a, rnd_below(seed, 40000), 1 + rnd_below(seed, 20000));
		else if (what == 5)
			w_truncate(r, a, rnd_below(seed, 40000));
		else if (what == 6)
			w_punch(r, a, rnd_below(seed, 40000), 1 + rnd_below(seed, 20000));
		else if (what == 7)
			w_setxattr(r, a, "user.note", rnd_below(seed, 300));
		else if (what == 8)
			w_rename(r, a, b, false);
		else if (what == 9 && !is_there(r, b))
			w_link(r, a, b);
		else if (what == 10)
			w_hold(r, rnd_below(seed, FILE_OPEN), a);
		else if (what == 11)
			w_append(r, a, 1 + rnd_below(seed, 9000));
		else
			w_unlink(r, a);
		sync_sometimes(r, seed, a);
	}
}

static void grows(struct run *r, u64 *seed)
{
	char path[64];

	for (u32 part = 0, n = 0; part <= 16; part += 1 + rnd_below(seed, 4)) {
		for (u32 i = rnd_below(seed, 12); i; i--, n++) {
			snprintf(path, sizeof(path), "g%u", n);
			if (rnd_below(seed, 3)) {
				w_create(r, path);
				w_write(r, path, 0, 1 + rnd_below(seed, 60000));
			} else {
				w_mkdir(r, path);
			}
			sync_sometimes(r, seed, path);
		}
		w_grow(r, part);
	}
	w_grow(r, 16);
	w_create(r, "last");
	w_write(r, "last", 0, 400000);
	w_fsync(r, "last");
}

/* Files that grow in turns, so that they lie in pieces, are put into one; what they had becomes others'. */
static void defrags(struct run *r, u64 *seed)
{
	bool extents = strstr(r->volume->args, "extent");
	char path[64];

	for (u32 round = 0; round < 5; round++) {
		for (u32 i = 0; i < 40; i++) {
			snprintf(path, sizeof(path), "f%u", rnd_below(seed, 3));
			if (!is_there(r, path))
				w_create(r, path);
			if (extents && once_in(seed, 8))
				w_prealloc(r, path, rnd_below(seed, 300000), 1 + rnd_below(seed, 20000),
					   false);
			else if (once_in(seed, 8))
				w_punch(r, path, rnd_below(seed, 300000), 1 + rnd_below(seed, 20000));
			else if (once_in(seed, 3))
				w_write(r, path, rnd_below(seed, 300000), 1 + rnd_below(seed, 12000));
			else
				w_append(r, path, 1 + rnd_below(seed, 12000));
			sync_sometimes(r, seed, path);
		}
		for (u32 i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "f%u", i);
			if (!is_there(r, path))
				continue;
			w_defrag(r, path);
			if (once_in(seed, 2))
				w_write(r, path, rnd_below(seed, 300000), 1 + rnd_below(seed, 12000));
			sync_sometimes(r, seed, path);
		}
		snprintf(path, sizeof(path), "eat%u", round);
		w_create(r, path);
		w_append(r, path, 300 * KIB);
		w_fsync(r, path);
		snprintf(path, sizeof(path), "%s%u", once_in(seed, 2) ? "f" : "eat", rnd_below(seed, 3));
		if (is_there(r, path))
			w_unlink(r, path);
	}
	if (!r->wrong && r->moved_bytes < 1 << 20)
		r->wrong = say("hardly anything was moved");
}

static const struct work table[] = {
	{ "names", names },           { "append", append },  { "overwrite", overwrite },
	{ "truncate", truncates },    { "punch", punch },    { "dirs", dirs },
	{ "big-unlink", big_unlink }, { "xattrs", xattrs },  { "orphans", orphans },
	{ "enospc", enospc },         { "mixed", mixed },    { "grow", grows },
	{ "owners", owners },         { "defrag", defrags }, { NULL, NULL },
};

const struct work *works(void)
{
	return table;
}

const struct work *work_find(const char *name)
{
	for (const struct work *w = table; w->name; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}
