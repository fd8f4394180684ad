/*
 * Usage of inodes that change while nobody counts: what they count for is looked up before and after, and quota files get the difference.
 *
 *   ext4_recount_add … ─ ext4_recount_begin ─ they change, es->quotas NULL ─ ext4_recount_end
 *
 * So what it takes follows the inodes that change, not the volume. An inode without links counts as long as its number is taken. What cannot be told of one is said, and
 * left to a check.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

static bool is_counted(const struct ext4_super *es)
{
	return ext4_has_ro_compat(es, EXT4_RO_COMPAT_QUOTA);
}

int ext4_recount_add(struct ext4_super *es, struct ext4_recount *r, u32 ino)
{
	u32 room = r->room ? 2 * r->room : 64, *more;

	if (!is_counted(es))
		return 0;
	if (r->count == r->room) {
		more = realloc(r->ino, room * sizeof(*more));
		if (!more)
			return fail(-ENOMEM, "no memory for usage");
		r->ino = more;
		r->room = room;
	}
	r->ino[r->count++] = ino;
	return 0;
}

void ext4_recount_free(struct ext4_recount *r)
{
	free(r->ino);
	free(r->was);
	*r = (struct ext4_recount){ 0 };
}

/* ---- what an inode counts for ---- */

static int load(struct ext4_super *es, u32 ino, struct ext4_use *u)
{
	scoped(ext4_inode_privatep) struct ext4_inode *ei = NULL;
	u32 values;
	int err = ext4_inode_open_orphan(es, ino, &ei);

	if (!err)
		err = ext4_xattr_values(ei, &values);
	if (!err)
		*u = ext4_quota_use(ei, values);
	/* It was never used. */
	return err == -ESTALE ? 0 : err;
}

static int look(struct ext4_super *es, u32 ino, struct ext4_use *u)
{
	bool taken = false;
	int err = 0;

	*u = (struct ext4_use){ .bytes = 0 };
	if (!ext4_ino_public(es, ino))
		return 0;
	err = ext4_ino_is_taken(es, ino, &taken);
	if (!err && taken)
		err = load(es, ino, u);
	if (!err || err == -ENOMEM)
		return err;
	(void)!corrupt(&es->vfs.health, "inode", ino, "what it counts for cannot be told");
	return 0;
}

static int by_number(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

int ext4_recount_begin(struct ext4_super *es, struct ext4_recount *r)
{
	u32 n = 0;
	int err = 0;

	if (!r->count)
		return 0;
	qsort(r->ino, r->count, sizeof(*r->ino), by_number);
	for (u32 i = 0; i < r->count; i++)
		if (!n || r->ino[n - 1] != r->ino[i])
			r->ino[n++] = r->ino[i];
	r->count = n;
	r->was = calloc(n, sizeof(*r->was));
	if (!r->was)
		return fail(-ENOMEM, "no memory for usage");
	for (u32 i = 0; i < n && !err; i++)
		err = look(es, r->ino[i], &r->was[i]);
	return err;
}

/* ---- the difference ---- */

static int count(struct ext4_super *es, const struct ext4_use *was, const struct ext4_use *is)
{
	scoped(ext4_quota_change_end) struct ext4_quota_change q = { .was = *was, .is = *is };
	struct ext4_handle h;
	int err;

	if (!ext4_quota_differs(&q))
		return 0;
	err = ext4_quota_attach(es, &q.is.owner);
	if (!err)
		err = ext4_begin(es, 0, 0, &h);
	if (err)
		return err;
	err = ext4_quota_join(&h, &q);
	if (!err)
		ext4_quota_apply(&h, &q);
	return ext4_end(&h, err);
}

int ext4_recount_end(struct ext4_super *es, struct ext4_recount *r)
{
	struct ext4_use is;
	int err = r->count ? ext4_quota_open(es, false) : 0;

	for (u32 i = 0; i < r->count && !err; i++) {
		err = look(es, r->ino[i], &is);
		if (!err)
			err = count(es, &r->was[i], &is);
	}
	if (!err || err == -ENOMEM)
		return err;
	(void)!corrupt(&es->vfs.health, "quota", 0, "usage after a crash cannot be counted");
	return 0;
}
