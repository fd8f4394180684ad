/*
 * The chunk map: which logical ranges exist, and how each is laid over devices. A chunk is checked against the format when it is added;
 * what is in the map can be computed with.
 */
#include "volume.h"

#include <errno.h>
#include <stdlib.h>

/* Copies, as the profile makes them. */
static const struct profile {
	u64 bit;
	u32 stripes_min, stripes_max; /* 0: any */
	u32 sub_stripes;              /* what RAID10 says; 0: not looked at */
	u32 copies;                   /* mirrors; 0: RAID5, RAID6 */
	u32 parity;
	bool striped;
} profiles[] = {
	{ 0, 1, 1, 0, 1, 0, false },
	{ BTRFS_BG_DUP, 2, 2, 0, 2, 0, false },
	{ BTRFS_BG_RAID0, 1, 0, 0, 1, 0, true },
	{ BTRFS_BG_RAID1, 2, 2, 0, 2, 0, false },
	{ BTRFS_BG_RAID1C3, 3, 3, 0, 3, 0, false },
	{ BTRFS_BG_RAID1C4, 4, 4, 0, 4, 0, false },
	{ BTRFS_BG_RAID10, 2, 0, 2, 2, 0, true },
	/* The field that Q is computed in has 255 powers of 2. */
	{ BTRFS_BG_RAID5, 2, 255, 0, 0, 1, true },
	{ BTRFS_BG_RAID6, 3, 255, 0, 0, 2, true },
};

static const struct profile *profile_of(u64 type)
{
	for (size_t i = 0; i < ARRAY_SIZE(profiles); i++)
		if (profiles[i].bit == (type & BTRFS_BG_PROFILES))
			return &profiles[i];
	return NULL;
}

u32 btrfs_chunk_parity(const struct btrfs_chunk *c)
{
	return profile_of(c->type)->parity;
}

u32 btrfs_chunk_data_stripes(const struct btrfs_chunk *c)
{
	const struct profile *p = profile_of(c->type);

	return p->striped ? (c->num_stripes - p->parity) / MAX(p->copies, 1u) : 1;
}

u64 btrfs_chunk_stripe_bytes(const struct btrfs_chunk *c)
{
	u32 n = btrfs_chunk_data_stripes(c);

	/* Rows of striped chunks are whole. */
	return n == 1 && !profile_of(c->type)->striped
		       ? c->len_bytes
		       : DIV_ROUND_UP(c->len_bytes, (u64)n * BTRFS_STRIPE_BYTES) * BTRFS_STRIPE_BYTES;
}

/* ---- is it a chunk? ---- */

static const char *type_wrong(const struct btrfs_volume *v, u64 type)
{
	if (type & ~(BTRFS_BG_TYPES | BTRFS_BG_PROFILES))
		return "unknown type bits";
	if (!profile_of(type))
		return "several profiles at once";
	if (!(type & BTRFS_BG_TYPES))
		return "it holds nothing";
	if (type & BTRFS_BG_SYSTEM && type & (BTRFS_BG_DATA | BTRFS_BG_METADATA))
		return "system and other content";
	if (type & BTRFS_BG_DATA && type & BTRFS_BG_METADATA && !(v->incompat & BTRFS_INCOMPAT_MIXED_GROUPS))
		return "data and metadata, in a volume that does not mix them";
	return NULL;
}

static const char *item_wrong(const struct btrfs_volume *v, u64 logical, const struct btrfs_disk_chunk *d,
			      u32 len_bytes)
{
	u32 n = len_bytes < sizeof(*d) ? 0 : le16_get(d->num_stripes);
	const struct profile *p;
	const char *wrong;
	u64 len;

	if (!n || len_bytes != sizeof(*d) + n * sizeof(d->stripe[0]))
		return "its size does not fit its number of stripes";
	wrong = type_wrong(v, le64_get(d->type));
	if (wrong)
		return wrong;
	p = profile_of(le64_get(d->type));
	if (n < p->stripes_min || (p->stripes_max && n > p->stripes_max))
		return "a number of stripes that its profile cannot have";
	if (p->sub_stripes && (le16_get(d->sub_stripes) != p->sub_stripes || n % p->sub_stripes))
		return "impossible sub-stripes";
	len = le64_get(d->len_bytes);
	if (!len || len > 1ull << 62 || !IS_ALIGNED(len | logical, (u64)v->sector_bytes))
		return "impossible place or length";
	if (logical > (1ull << 62) - len)
		return "it goes beyond the end of all addresses";
	if (le64_get(d->stripe_bytes) != BTRFS_STRIPE_BYTES)
		return "stripes of unknown length";
	return NULL;
}

/* ---- the map ---- */

/* The index of the first chunk that ends behind the address. */
static u32 search(const struct btrfs_volume *v, u64 logical)
{
	u32 from = 0, to = v->chunk_count;

	while (from < to) {
		u32 mid = from + (to - from) / 2;
		const struct btrfs_chunk *c = v->chunk[mid];

		if (c->logical + c->len_bytes > logical)
			to = mid;
		else
			from = mid + 1;
	}
	return from;
}

const struct btrfs_chunk *btrfs_chunk_find(const struct btrfs_volume *v, u64 logical)
{
	u32 i = search(v, logical);

	return i < v->chunk_count && v->chunk[i]->logical <= logical ? v->chunk[i] : NULL;
}

const struct btrfs_chunk *btrfs_chunk_at(const struct btrfs_volume *v, u32 index)
{
	return index < v->chunk_count ? v->chunk[index] : NULL;
}

static bool same_chunk(const struct btrfs_chunk *a, const struct btrfs_chunk *b)
{
	return a->logical == b->logical && a->len_bytes == b->len_bytes && a->type == b->type &&
	       a->num_stripes == b->num_stripes &&
	       !memcmp(a->stripe, b->stripe, a->num_stripes * sizeof(a->stripe[0]));
}

static int insert(struct btrfs_volume *v, struct btrfs_chunk *c)
{
	u32 i = search(v, c->logical);
	struct btrfs_chunk **more;

	if (i < v->chunk_count && v->chunk[i]->logical < c->logical + c->len_bytes) {
		if (!same_chunk(v->chunk[i], c))
			return corrupt(v->health, "chunk", c->logical, "it overlaps another, at %llu",
				       (unsigned long long)v->chunk[i]->logical);
		free(c);
		return 0;
	}
	more = realloc(v->chunk, (v->chunk_count + 1ul) * sizeof(*more));
	if (!more)
		return fail(-ENOMEM, "no memory for the chunk map");
	v->chunk = more;
	memmove(&more[i + 1], &more[i], (v->chunk_count - i) * sizeof(*more));
	more[i] = c;
	v->chunk_count++;
	return 0;
}

/* The device of a stripe; one that nobody gave is added as missing, since system chunks come before the device items. */
static int stripe_device(struct btrfs_volume *v, const struct btrfs_disk_stripe *s, u32 *index)
{
	struct btrfs_disk_dev_item item = { .devid = s->devid };
	int err;

	for (u32 i = 0; i < v->device_count; i++)
		if (v->device[i]->devid == le64_get(s->devid) &&
		    !memcmp(v->device[i]->uuid, s->dev_uuid, sizeof(s->dev_uuid))) {
			*index = i;
			v->device[i]->listed = true;
			return 0;
		}
	memcpy(item.uuid, s->dev_uuid, sizeof(item.uuid));
	memcpy(item.fsid, v->dev_fsid, sizeof(item.fsid));
	*index = v->device_count;
	err = btrfs_volume_device(v, &item);
	return err;
}

static int fill(struct btrfs_volume *v, u64 logical, const struct btrfs_disk_chunk *d, struct btrfs_chunk *c)
{
	u64 bytes;

	c->logical = logical;
	c->len_bytes = le64_get(d->len_bytes);
	c->type = le64_get(d->type);
	c->num_stripes = le16_get(d->num_stripes);
	c->sub_stripes = MAX(profile_of(c->type)->sub_stripes, 1u);
	c->copies = profile_of(c->type)->copies;
	/* Directly; by P; RAID6: without P, without each of the other data stripes. */
	if (!c->copies)
		c->copies = btrfs_chunk_parity(c) == 2 ? c->num_stripes : 2;
	bytes = btrfs_chunk_stripe_bytes(c);
	for (u32 i = 0; i < c->num_stripes; i++) {
		u64 off = le64_get(d->stripe[i].offset_bytes), size;
		int err = stripe_device(v, &d->stripe[i], &c->stripe[i].dev);

		if (err)
			return err;
		size = v->device[c->stripe[i].dev]->size_bytes;
		if (off > 1ull << 62 || !IS_ALIGNED(off, (u64)v->sector_bytes) ||
		    (size && (off > size || bytes > size - off)))
			return corrupt(v->health, "chunk", logical, "stripe %u does not lie on its device",
				       i);
		c->stripe[i].off_bytes = off;
	}
	return 0;
}

int btrfs_volume_chunk(struct btrfs_volume *v, u64 logical, const struct btrfs_disk_chunk *item,
		       u32 len_bytes)
{
	const char *wrong = item_wrong(v, logical, item, len_bytes);
	struct btrfs_chunk *c;
	int err;

	if (wrong)
		return corrupt(v->health, "chunk", logical, "%s", wrong);
	c = calloc(1, sizeof(*c) + le16_get(item->num_stripes) * sizeof(c->stripe[0]));
	if (!c)
		return fail(-ENOMEM, "no memory for the chunk map");
	err = fill(v, logical, item, c);
	if (!err)
		err = insert(v, c);
	if (err)
		free(c);
	return err;
}
