/*
 * The free space cache v1: for each block group a file of the root tree with what is free in it. A writer believes one that is of the superblock's
 * cache_generation, has right checksums and adds up; all others are made anew, and nothing is wrong with that. So only what would be believed is
 * compared with what the extents leave. One that is wrong is mended by another cache_generation: then none is believed.
 *
 * The file, in pages of 4 KiB: a crc32c of each page and the generation; entries, none across a page's end; then one page for each entry that is a
 * bitmap. Ranges around superblocks are never free there. Facts: the kernel's fs/btrfs/free-space-cache.c.
 */
#include "../volume.h"
#include "check.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define PAGE_BYTES      4096u
#define CACHE_MAX_BYTES (16u << 20)

enum { ENTRY_EXTENT = 1, ENTRY_BITMAP = 2 };

struct cache {
	const struct ck_group *group;
	u64 generation, entries, bitmaps;
	u8 *data; /* of the file */
	u32 pages;
	u64 *bitmap; /* where each begins */
	u32 count;
	u64 bytes; /* free, by all entries */
	struct ck_ranges free;
};

/* ---- reading the file ---- */

static int read_extent(struct ck *c, struct cache *s, const struct btrfs_path *p)
{
	u64 off = btrfs_path_key(p).offset, all = (u64)s->pages * PAGE_BYTES, len;
	const struct btrfs_disk_file_extent *d;
	u32 bytes;

	d = btrfs_path_item(p, &bytes);
	if (bytes != sizeof(*d) || d->kind != BTRFS_EXTENT_REG || d->compression || !le64_get(d->disk_bytenr))
		return -ENOENT;
	len = le64_get(d->num_bytes);
	if (off >= all || !IS_ALIGNED(off, (u64)PAGE_BYTES))
		return -ENOENT;
	return blkdev_read(c->bs->vfs.dev, le64_get(d->disk_bytenr) + le64_get(d->offset_bytes),
			   s->data + off, MIN(len, all - off));
}

/* Whatever keeps from it: nobody else would believe the file then. */
static bool read_file(struct ck *c, struct cache *s, u64 ino)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_inode *d;
	u64 size;
	u32 len;
	int err = btrfs_find(&c->bs->tree_root, &BTRFS_KEY(ino, BTRFS_KEY_INODE_ITEM, 0), &p);

	if (err)
		return false;
	d = btrfs_path_item(&p, &len);
	size = le64_get(d->size_bytes);
	if (le64_get(d->generation) != s->generation || !size || size > CACHE_MAX_BYTES)
		return false;
	s->pages = (u32)DIV_ROUND_UP(size, (u64)PAGE_BYTES);
	s->data = calloc(s->pages, PAGE_BYTES);
	s->bitmap = calloc(s->pages, sizeof(*s->bitmap));
	if (!s->data || !s->bitmap) {
		btrfs_ck_oom(c);
		return false;
	}
	err = btrfs_seek(&c->bs->tree_root, &BTRFS_KEY(ino, BTRFS_KEY_EXTENT_DATA, 0), &p);
	for (; !err; err = btrfs_next(&p)) {
		if (btrfs_path_key(&p).objectid != ino || btrfs_path_key(&p).type != BTRFS_KEY_EXTENT_DATA)
			return true;
		err = read_extent(c, s, &p);
		if (err)
			return false;
	}
	return err == -ENOENT;
}

/* ---- what it says ---- */

static bool page_right(const struct cache *s, u32 page)
{
	u32 skip = page ? 0 : s->pages * (u32)sizeof(le32);
	const u8 *at = s->data + (size_t)page * PAGE_BYTES;

	return le32_get(((const le32 *)s->data)[page]) == ~crc32c(~0u, at + skip, PAGE_BYTES - skip);
}

static bool take_entry(struct ck *c, struct cache *s, u64 off, u64 bytes, u8 type)
{
	s->bytes += bytes;
	if (type == ENTRY_BITMAP && s->count < s->pages) {
		s->bitmap[s->count++] = off;
		return true;
	}
	if (type != ENTRY_EXTENT || !bytes || off + bytes < off)
		return false;
	if (btrfs_ck_range_add(&s->free, off, off + bytes))
		btrfs_ck_oom(c);
	return true;
}

static void take_bitmap(struct ck *c, struct cache *s, u64 start, const u8 *bits)
{
	for (u32 i = 0; i < PAGE_BYTES * 8; i++) {
		u64 at = start + (u64)i * PAGE_BYTES;

		if (bits[i / 8] >> (i % 8) & 1 && btrfs_ck_range_add(&s->free, at, at + PAGE_BYTES))
			btrfs_ck_oom(c);
	}
}

/* False: it is not believed. */
static bool parse(struct ck *c, struct cache *s)
{
	size_t at = s->pages * sizeof(le32);
	u32 page = 0;

	if (at + sizeof(le64) > PAGE_BYTES || le64_get(*(const le64 *)(s->data + at)) != s->generation ||
	    !page_right(s, 0))
		return false;
	at += sizeof(le64);
	for (u64 i = 0; i < s->entries; i++) {
		const struct btrfs_disk_free_space_entry *e;

		if (at % PAGE_BYTES + sizeof(*e) > PAGE_BYTES) {
			at = ALIGN_UP(at, PAGE_BYTES);
			if (++page >= s->pages || !page_right(s, page))
				return false;
		}
		e = (const void *)(s->data + at);
		if (!take_entry(c, s, le64_get(e->off_bytes), le64_get(e->len_bytes), e->type))
			return false;
		at += sizeof(*e);
	}
	if (s->count != s->bitmaps || (u64)page + 1 + s->count > s->pages)
		return false;
	for (u32 i = 0; i < s->count; i++) {
		if (!page_right(s, ++page))
			return false;
		take_bitmap(c, s, s->bitmap[i], s->data + (size_t)page * PAGE_BYTES);
	}
	btrfs_ck_range_sort(&s->free);
	return true;
}

/* ---- what it should say ---- */

/* Takes [from, to) out. */
static int cut_out(struct ck_ranges *r, u64 from, u64 to)
{
	struct ck_ranges left = { 0 };
	int err = 0;

	for (u64 i = 0; i < r->count && !err; i++) {
		const struct ck_range *x = &r->at[i];

		if (x->from < MIN(from, x->to))
			err = btrfs_ck_range_add(&left, x->from, MIN(from, x->to));
		if (!err && MAX(to, x->from) < x->to)
			err = btrfs_ck_range_add(&left, MAX(to, x->from), x->to);
	}
	btrfs_ck_ranges_free(r);
	*r = left;
	return err;
}

/* Without what is kept free around superblocks. False: that is not simple, in a chunk of stripes. */
static bool want(struct ck *c, const struct ck_group *g, struct ck_ranges *out)
{
	const struct btrfs_chunk *chunk = btrfs_chunk_find(c->bs->volume, g->start);
	int err = btrfs_ck_gaps(c, g->start, g->len_bytes, out);

	if (!chunk)
		return false;
	if (!err && g->start < BTRFS_SUPER_OFF(0))
		err = cut_out(out, 0, BTRFS_SUPER_OFF(0));
	for (u32 i = 0; i < chunk->num_stripes * BTRFS_SUPER_COUNT && !err; i++) {
		u64 first = chunk->stripe[i / BTRFS_SUPER_COUNT].off_bytes;
		u64 at = BTRFS_SUPER_OFF(i % BTRFS_SUPER_COUNT);

		if (at + BTRFS_STRIPE_BYTES <= first || at >= first + btrfs_chunk_stripe_bytes(chunk))
			continue;
		if (at < first ||
		    chunk->type & (BTRFS_BG_RAID0 | BTRFS_BG_RAID10 | BTRFS_BG_RAID5 | BTRFS_BG_RAID6))
			return false;
		at = chunk->logical + ALIGN_DOWN(at - first, (u64)BTRFS_STRIPE_BYTES);
		err = cut_out(out, at, at + BTRFS_STRIPE_BYTES);
	}
	if (err)
		btrfs_ck_oom(c);
	return !err;
}

static void say(struct ck *c, const struct ck_group *g, u64 at)
{
	const char *fmt = "from byte %llu on";

	if (!c->super_ok) {
		btrfs_ck_found(c, CK_SPACE_CACHE, "group", g->start, NULL, fmt, (unsigned long long)at);
	} else if (btrfs_ck_fix(c, CK_SPACE_CACHE, "group", g->start, NULL, fmt, (unsigned long long)at)) {
		c->super.cache_generation = le64_put(le64_get(c->super.generation) - 1);
		c->super_changed = true;
	}
}

static void check_cache(struct ck *c, struct cache *s, u64 ino)
{
	struct ck_ranges left = { 0 };
	u64 all = 0, at = ~0ull;

	if (read_file(c, s, ino) && parse(c, s) && want(c, s->group, &left)) {
		for (u64 i = 0; i < left.count; i++)
			all += left.at[i].to - left.at[i].from;
		/* Else it is not believed. */
		if (all == s->bytes)
			at = btrfs_ck_range_differ(&left, &s->free);
	}
	if (at != ~0ull)
		say(c, s->group, at);
	err_clear();
	btrfs_ck_ranges_free(&left);
	btrfs_ck_ranges_free(&s->free);
	free(s->data);
	free(s->bitmap);
}

void btrfs_ck_space_cache(struct ck *c)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_super *d = &c->bs->disk;

	if (c->extents_partial || c->groups_partial || c->bs->sector_bytes != PAGE_BYTES ||
	    le64_get(d->cache_generation) != le64_get(d->generation) ||
	    le64_get(d->compat_ro) & BTRFS_COMPAT_RO_FREE_SPACE_TREE)
		return;
	for (u32 i = 0; i < c->groups && !c->err; i++) {
		const struct btrfs_disk_free_space_header *h;
		struct cache s = { .group = &c->group[i] };
		u32 len;

		if (btrfs_find(&c->bs->tree_root, &BTRFS_KEY(BTRFS_OBJ_FREE_SPACE, 0, s.group->start), &p))
			continue;
		h = btrfs_path_item(&p, &len);
		if (len != sizeof(*h))
			continue;
		s.generation = le64_get(h->generation);
		s.entries = le64_get(h->num_entries);
		s.bitmaps = le64_get(h->num_bitmaps);
		check_cache(c, &s, le64_get(h->location.objectid));
	}
	err_clear();
}
