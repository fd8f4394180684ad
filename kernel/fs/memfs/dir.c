/*
 * The entries of a directory, found by hash and listed by position. A position is a number that only rises, so
 * a reader who goes on later misses nothing that stayed and meets nothing twice.
 */
#include "memfs.h"

#include "lib/hash.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Positions 0 and 1 are "." and ".."; entries follow. */
#define FIRST_POS 2u

static struct memfs_entry **find(struct memfs_dir *d, const struct name *name, u64 hash)
{
	struct memfs_entry **p = &d->bucket[hash & (d->buckets - 1)];

	while (*p && ((*p)->hash != hash || (*p)->len != name->len || memcmp((*p)->name, name->s, name->len)))
		p = &(*p)->hash_next;
	return p;
}

struct memfs_entry *memfs_dir_find(struct memfs_inode *dir, const struct name *name)
{
	struct memfs_dir *d = &dir->dir;

	return d->buckets ? *find(d, name, hash_bytes(name->s, name->len, 0)) : NULL;
}

static int grow_buckets(struct memfs_dir *d)
{
	u32 n = d->buckets ? d->buckets * 4 : 16;
	struct memfs_entry **b = calloc(n, sizeof(struct memfs_entry *));

	if (!b)
		return -ENOMEM;
	for (u32 i = 0; i < d->slots; i++)
		if (d->slot[i]) {
			struct memfs_entry **p = &b[d->slot[i]->hash & (n - 1)];

			d->slot[i]->hash_next = *p;
			*p = d->slot[i];
		}
	free(d->bucket);
	d->bucket = b;
	d->buckets = n;
	return 0;
}

static void compact(struct memfs_dir *d)
{
	u32 to = 0;

	for (u32 i = 0; i < d->slots; i++)
		if (d->slot[i]) {
			d->slot[to] = d->slot[i];
			d->slot_pos[to++] = d->slot_pos[i];
		}
	d->slots = to;
}

int memfs_dir_reserve(struct memfs_inode *dir)
{
	struct memfs_dir *d = &dir->dir;
	u32 room = d->slots_room ? d->slots_room * 2 : 8;
	struct memfs_entry **slot;
	u64 *pos;

	if (d->live >= d->buckets && grow_buckets(d))
		return -ENOMEM;
	if (d->slots < d->slots_room)
		return 0;
	if (d->live < d->slots / 2) {
		compact(d);
		return 0;
	}
	slot = realloc(d->slot, room * sizeof(struct memfs_entry *));
	if (!slot)
		return -ENOMEM;
	d->slot = slot;
	pos = realloc(d->slot_pos, room * sizeof(*pos));
	if (!pos)
		return -ENOMEM;
	d->slot_pos = pos;
	d->slots_room = room;
	return 0;
}

int memfs_dir_add(struct memfs_inode *dir, const struct name *name, u64 ino, u8 type)
{
	struct memfs_dir *d = &dir->dir;
	struct memfs_entry *e, **p;
	int err = memfs_dir_reserve(dir);

	if (err)
		return err;
	e = malloc(sizeof(*e) + name->len);
	if (!e)
		return -ENOMEM;
	if (!d->next_pos)
		d->next_pos = FIRST_POS;
	*e = (struct memfs_entry){ .pos = d->next_pos++,
				   .ino = ino,
				   .hash = hash_bytes(name->s, name->len, 0),
				   .len = name->len,
				   .type = type };
	memcpy(e->name, name->s, name->len);
	p = find(d, name, e->hash);
	e->hash_next = *p;
	*p = e;
	d->slot_pos[d->slots] = e->pos;
	d->slot[d->slots++] = e;
	d->live++;
	return 0;
}

/* The first slot whose position is not below pos. */
static u32 slot_from(const struct memfs_dir *d, u64 pos)
{
	u32 lo = 0, hi = d->slots;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (d->slot_pos[mid] < pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void memfs_dir_remove(struct memfs_inode *dir, struct memfs_entry *e)
{
	struct memfs_dir *d = &dir->dir;
	struct memfs_entry **p = &d->bucket[e->hash & (d->buckets - 1)];

	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	d->slot[slot_from(d, e->pos)] = NULL;
	d->live--;
	free(e);
}

void memfs_dir_free(struct memfs_inode *dir)
{
	for (u32 i = 0; i < dir->dir.slots; i++)
		free(dir->dir.slot[i]);
	free(dir->dir.slot);
	free(dir->dir.slot_pos);
	free(dir->dir.bucket);
}

int memfs_readdir(struct inode *inode, u64 pos, dirent_fn emit, void *ctx)
{
	struct memfs_dir *d = &memfs_i(inode)->dir;
	int stop = 0;

	for (; pos < FIRST_POS && !stop; pos++) {
		const struct dirent_out dot = { .name = { "..", (u32)pos + 1 },
						.ino = pos ? d->parent : inode->ino,
						.next_pos = pos + 1,
						.type = DT_DIR };

		stop = emit(ctx, &dot);
	}
	for (u32 i = slot_from(d, pos); i < d->slots && !stop; i++) {
		const struct memfs_entry *e = d->slot[i];

		if (e)
			stop = emit(ctx, &(struct dirent_out){ .name = { e->name, e->len },
							       .ino = e->ino,
							       .next_pos = e->pos + 1,
							       .type = e->type });
	}
	return stop < 0 ? stop : 0;
}
