/*
 * Chunks and devices: the chunk tree says where each stripe of each chunk lies, the device tree what lies where on each device. Both
 * are brought into the order of devices and compared; sums of them are in device items and in the superblock.
 */
#include "../volume.h"
#include "check.h"

#include <errno.h>
#include <stdlib.h>

/* A piece of a device, by a chunk or by a device extent. */
struct piece {
	u64 devid, off_bytes, len_bytes, logical;
};
struct pieces {
	struct piece *at;
	u32 count, room;
};

struct state {
	struct pieces stripes, extents;
	struct ck_ranges system; /* chunks for which the superblock's array is there */
	u64 devices, total_bytes;
	struct device { /* items of devices */
		u64 devid, bytes_used;
	} * device;
};

static void add(struct ck *c, struct pieces *p, u64 devid, u64 off, u64 len, u64 logical)
{
	if (p->count == p->room) {
		u32 room = p->room * 2 + 64;
		struct piece *more = realloc(p->at, room * sizeof(*more));

		if (!more) {
			btrfs_ck_oom(c);
			return;
		}
		p->at = more;
		p->room = room;
	}
	p->at[p->count++] = (struct piece){ devid, off, len, logical };
}

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->devid != y->devid)
		return x->devid < y->devid ? -1 : 1;
	return x->off_bytes < y->off_bytes ? -1 : x->off_bytes > y->off_bytes;
}

/* ---- the chunk tree ---- */

static void take_chunk(struct ck *c, struct state *s, const struct ck_item *it)
{
	const struct btrfs_disk_chunk *d = it->data;
	const struct btrfs_chunk *chunk;

	if (btrfs_volume_chunk(c->bs->volume, it->key.offset, d, it->len)) {
		btrfs_ck_found(c, CK_CHUNK, "chunk", it->key.offset, NULL, "%s", err_text());
		err_clear();
		return;
	}
	chunk = btrfs_chunk_find(c->bs->volume, it->key.offset);
	for (u32 i = 0; i < le16_get(d->num_stripes); i++)
		add(c, &s->stripes, le64_get(d->stripe[i].devid), le64_get(d->stripe[i].offset_bytes),
		    btrfs_chunk_stripe_bytes(chunk), it->key.offset);
	if (le64_get(d->type) & BTRFS_BG_SYSTEM &&
	    btrfs_ck_range_add(&s->system, it->key.offset, it->key.offset + 1))
		btrfs_ck_oom(c);
}

static void take_device(struct ck *c, struct state *s, const struct ck_item *it)
{
	const struct btrfs_disk_dev_item *d = it->data, *own = &c->bs->disk.dev_item;
	struct device *more = realloc(s->device, (s->devices + 1) * sizeof(*more));

	if (!more) {
		btrfs_ck_oom(c);
		return;
	}
	s->device = more;
	more[s->devices++] = (struct device){ le64_get(d->devid), le64_get(d->bytes_used) };
	s->total_bytes += le64_get(d->total_bytes);
	if (le64_get(own->devid) != le64_get(d->devid))
		return;
	if (memcmp(own->uuid, d->uuid, sizeof(d->uuid)))
		btrfs_ck_found(c, CK_DEVICE_VALUE, "device", it->key.offset, NULL,
			       "its uuid in the superblock is another");
	if (le64_get(own->total_bytes) != le64_get(d->total_bytes))
		btrfs_ck_found(c, CK_DEVICE_VALUE, "device", it->key.offset, NULL,
			       "its size is %llu, in the superblock %llu",
			       (unsigned long long)le64_get(d->total_bytes),
			       (unsigned long long)le64_get(own->total_bytes));
}

static void take_chunk_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	if (it->key.type == BTRFS_KEY_CHUNK_ITEM)
		take_chunk(c, ctx, it);
	else if (it->key.type == BTRFS_KEY_DEV_ITEM)
		take_device(c, ctx, it);
}

/* Each chunk of the superblock's array is in the tree, and each system chunk of the tree in the array. */
static void check_array(struct ck *c, struct state *s)
{
	const struct btrfs_disk_super *d = &c->bs->disk;
	struct ck_ranges array = { 0 };
	u32 at = 0;

	while (at < le32_get(d->sys_array_bytes)) {
		const struct btrfs_disk_key *key = (const void *)(d->sys_array + at);
		const struct btrfs_disk_chunk *chunk = (const void *)(key + 1);
		u64 logical = le64_get(key->offset);

		at += (u32)(sizeof(*key) + sizeof(*chunk) +
			    le16_get(chunk->num_stripes) * sizeof(chunk->stripe[0]));
		if (!btrfs_ck_range_covered(&s->system, logical, logical + 1))
			btrfs_ck_found(c, CK_SYSTEM_CHUNK, "chunk", logical, NULL,
				       "it is in the array and not in the tree");
		if (btrfs_ck_range_add(&array, logical, logical + 1))
			btrfs_ck_oom(c);
	}
	btrfs_ck_range_sort(&array);
	for (u64 i = 0; i < s->system.count; i++)
		if (!btrfs_ck_range_covered(&array, s->system.at[i].from, s->system.at[i].from + 1))
			btrfs_ck_found(c, CK_SYSTEM_CHUNK, "chunk", s->system.at[i].from, NULL,
				       "it is in the tree and not in the array");
	btrfs_ck_ranges_free(&array);
}

static void check_totals(struct ck *c, const struct state *s)
{
	const struct btrfs_disk_super *d = &c->bs->disk;

	if (s->devices != le64_get(d->num_devices))
		btrfs_ck_super_value(
			c, &c->super.num_devices, s->devices, true, "it counts %llu devices, there are %llu",
			(unsigned long long)le64_get(d->num_devices), (unsigned long long)s->devices);
	if (s->total_bytes != le64_get(d->total_bytes))
		btrfs_ck_super_value(c, &c->super.total_bytes, s->total_bytes, true,
				     "the volume has %llu bytes, its devices %llu",
				     (unsigned long long)le64_get(d->total_bytes),
				     (unsigned long long)s->total_bytes);
}

/* ---- the device tree ---- */

static void take_dev_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct state *s = ctx;
	const struct btrfs_disk_dev_extent *d = it->data;

	if (it->key.type == BTRFS_KEY_DEV_EXTENT)
		add(c, &s->extents, it->key.objectid, it->key.offset, le64_get(d->len_bytes),
		    le64_get(d->chunk_offset));
}

static bool same(const struct piece *a, const struct piece *b)
{
	return a->len_bytes == b->len_bytes && a->logical == b->logical;
}

static void compare(struct ck *c, const struct state *s, bool chunks, bool extents)
{
	u32 i = 0, k = 0;

	while (!c->err && (i < s->stripes.count || k < s->extents.count)) {
		const struct piece *a = i < s->stripes.count ? &s->stripes.at[i] : NULL;
		const struct piece *b = k < s->extents.count ? &s->extents.at[k] : NULL;
		int cmp = !a ? 1 : !b ? -1 : by_place(a, b);

		i += cmp <= 0;
		k += cmp >= 0;
		if (!cmp && same(a, b))
			continue;
		if (cmp <= 0 && extents)
			btrfs_ck_found(c, CK_CHUNK_EXTENT, "chunk", a->logical, NULL,
				       "byte %llu of device %llu", (unsigned long long)a->off_bytes,
				       (unsigned long long)a->devid);
		if (cmp >= 0 && chunks)
			btrfs_ck_found(c, CK_DEV_EXTENT, "device", b->devid, NULL,
				       "byte %llu, for chunk %llu", (unsigned long long)b->off_bytes,
				       (unsigned long long)b->logical);
	}
}

static void check_extents(struct ck *c, const struct state *s)
{
	for (u32 i = 1; i < s->extents.count; i++) {
		const struct piece *a = &s->extents.at[i - 1], *b = &s->extents.at[i];

		if (a->devid == b->devid && a->off_bytes + a->len_bytes > b->off_bytes)
			btrfs_ck_found(c, CK_DEV_OVERLAP, "device", b->devid, NULL, "byte %llu",
				       (unsigned long long)b->off_bytes);
	}
	/* Both are in the order of devices. */
	for (u64 i = 0, k = 0; i < s->devices; i++) {
		u64 bytes = 0;

		for (; k < s->extents.count && s->extents.at[k].devid <= s->device[i].devid; k++)
			if (s->extents.at[k].devid == s->device[i].devid)
				bytes += s->extents.at[k].len_bytes;
		if (bytes != s->device[i].bytes_used)
			btrfs_ck_found(c, CK_DEVICE_VALUE, "device", s->device[i].devid, NULL,
				       "it counts %llu bytes in use, its extents have %llu",
				       (unsigned long long)s->device[i].bytes_used,
				       (unsigned long long)bytes);
	}
}

void btrfs_ck_devices(struct ck *c)
{
	struct ck_tree t;
	struct state s = { 0 };
	struct ck_walk w = { &t, take_chunk_item, &s, 0, 0, 0 };
	bool chunks, extents = false;

	(void)!btrfs_ck_tree_find(c, BTRFS_TREE_CHUNK, &t);
	(void)!btrfs_ck_walk(c, &w);
	chunks = btrfs_ck_whole(c, &w, "chunks against devices");
	if (chunks) {
		check_array(c, &s);
		check_totals(c, &s);
	}
	if (btrfs_ck_tree_find(c, BTRFS_TREE_DEV, &t)) {
		w.item = take_dev_item;
		(void)!btrfs_ck_walk(c, &w);
		extents = btrfs_ck_whole(c, &w, "devices against chunks");
	}
	if (s.stripes.count)
		qsort(s.stripes.at, s.stripes.count, sizeof(*s.stripes.at), by_place);
	if (extents || chunks)
		compare(c, &s, chunks, extents);
	if (extents)
		check_extents(c, &s);
	free(s.stripes.at);
	free(s.extents.at);
	free(s.device);
	btrfs_ck_ranges_free(&s.system);
}
