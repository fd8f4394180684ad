/* What the extent tree has, in memory, by address; and what references and names count in sums. */
#include "check.h"

#include "lib/hash.h"
#include <stdlib.h>

u64 btrfs_ck_extent_from(const struct ck *c, u64 bytenr)
{
	u64 lo = 0, hi = c->extents;

	while (lo < hi) {
		u64 mid = lo + (hi - lo) / 2;

		if (c->extent[mid].bytenr < bytenr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct ck_extent *btrfs_ck_extent(const struct ck *c, u64 bytenr)
{
	u64 i = btrfs_ck_extent_from(c, bytenr);

	return i < c->extents && c->extent[i].bytenr == bytenr ? &c->extent[i] : NULL;
}

struct ck_extent *btrfs_ck_extent_add(struct ck *c, u64 bytenr)
{
	struct ck_extent *more;

	if (c->extents == c->extents_room) {
		u64 room = c->extents_room + c->extents_room / 2 + 1024;

		more = realloc(c->extent, room * sizeof(*more));
		if (!more) {
			btrfs_ck_oom(c);
			return NULL;
		}
		c->extent = more;
		c->extents_room = room;
	}
	c->extent[c->extents] = (struct ck_extent){ .bytenr = bytenr };
	return &c->extent[c->extents++];
}

u64 btrfs_ck_ref(const struct ck *c, u8 type, u64 a, u64 b, u64 d)
{
	u64 h = hash_u64(c->ref_seed + type);

	h = hash_u64(h + a);
	h = hash_u64(h + b);
	return hash_u64(h + d);
}

u64 btrfs_ck_name_hash(const struct ck *c, u64 who, u64 dir, u64 index, const void *name, u32 len)
{
	return btrfs_ck_ref(c, 0, who, dir, index) +
	       hash_bytes(name, len, c->ref_seed + hash_u64(who + dir * 3 + index * 7));
}

struct ck_group *btrfs_ck_group(const struct ck *c, u64 bytenr)
{
	u32 lo = 0, hi = c->groups;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (c->group[mid].start + c->group[mid].len_bytes > bytenr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < c->groups && c->group[lo].start <= bytenr ? &c->group[lo] : NULL;
}
