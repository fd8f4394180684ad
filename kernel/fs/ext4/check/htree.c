/* The index of a hashed directory, against what its leaves hold. */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>

#define LBLK_MASK 0x0fffffffu

bool ck_name_hash(struct ck *ck, const struct ck_dir *d, u32 version, const struct ext4_disk_dirent *de,
		  u32 rec_len, u32 *hash)
{
	const char *name = ext4_dirent_name(de), *s = name;
	char folded[EXT4_FOLD_MAX];
	u32 len = de->name_len;
	struct ext4_hash h;

	if (d->flags & EXT4_FL_CASEFOLD && d->flags & EXT4_FL_ENCRYPT) {
		const struct ext4_disk_dirent_hash *stored = (const void *)(name + ALIGN_UP(len, 4u));

		if (rec_len < sizeof(*de) + ALIGN_UP(len, 4u) + sizeof(*stored))
			return false;
		*hash = le32_get(stored->hash) & ~1u;
		return true;
	}
	if (d->flags & EXT4_FL_CASEFOLD && ext4_casefold(name, len, folded, &len))
		s = folded;
	else
		len = de->name_len;
	if (ext4_name_hash(ck->es, version, s, len, &h))
		return false;
	*hash = h.hash;
	return true;
}

bool ck_htree_root(struct ck *ck, const struct ck_dir *d, const void *block, u32 *version, bool *rebuild)
{
	const char *bad = NULL;
	struct ext4_dx dx;

	if (!ext4_dx_parse(ck->es, block, true, &dx)) {
		*rebuild |= ck_fix(ck, CK_HTREE_ROOT, d->ino, "%s", "the first block is none");
		return false;
	}
	*version = ext4_hash_version(ck->es, dx.info->hash_version);
	if (dx.info->unused_flags & 1)
		bad = "unknown flags";
	else if (dx.info->indirect_levels >= ext4_dx_levels_max(ck->es))
		bad = "too many levels";
	else if (ck_stores_hash(d) ? dx.info->hash_version != EXT4_HASH_SIPHASH
				   : dx.info->hash_version > EXT4_HASH_TEA)
		bad = "an unknown hash";
	if (bad)
		*rebuild |= ck_fix(ck, CK_HTREE_ROOT, d->ino, "%s", bad);
	return !bad;
}

/* Where names have their hash behind them, nodes do without the last place. */
u32 ck_dx_limit(const struct ck *ck, const struct ck_dir *d, u32 entries_off)
{
	return ext4_dx_limit(ck->es, entries_off) -
	       (entries_off == EXT4_DX_NODE_ENTRIES && ck_stores_hash(d));
}

struct frame {
	struct buffer_head *bh;
	struct ext4_dx dx;
	u32 i;
	u32 low, high; /* of the hashes that it is responsible for; high is the next one's, with its bit 0 */
};

/* The block that an entry leads to; NULL: none that can be. */
static struct ck_leaf *lead(struct ck *ck, const struct ck_dir *d, struct ck_leaf *leaf, u32 lblk,
			    bool want_index, bool *rebuild)
{
	if (!lblk || lblk >= d->count) {
		*rebuild |= ck_fix(ck, CK_HTREE_NODE, d->ino,
				   "it leads to block %u, which the directory does not have", lblk);
		return NULL;
	}
	if (leaf[lblk].is_led_to) {
		*rebuild |= ck_fix(ck, CK_HTREE_REF, d->ino, "twice to block %u", lblk);
		return NULL;
	}
	leaf[lblk].is_led_to = true;
	if (leaf[lblk].is_index != want_index) {
		*rebuild |=
			ck_fix(ck, CK_HTREE_NODE, d->ino, "block %u is %s", lblk,
			       want_index ? "a leaf, but should be a node" : "a node, but should be a leaf");
		return NULL;
	}
	return &leaf[lblk];
}

static bool check_leaf(struct ck *ck, const struct ck_dir *d, const struct ck_leaf *l, u32 lblk, u32 low,
		       u32 high)
{
	u32 last = high & 1 ? high & ~1u : high - 1;

	if (l->low > l->high || (l->low >= (low & ~1u) && (!high || l->high <= last)))
		return false;
	return ck_fix(ck, CK_HTREE_HASH, d->ino, "block %u", lblk);
}

static bool open_node(struct ck *ck, const struct ck_dir *d, u32 lblk, struct frame *f, bool *rebuild)
{
	if (!ck_read(ck, ck->blk[d->first + lblk].pblk, &f->bh))
		return false;
	if (ext4_dx_parse(ck->es, f->bh->data, !lblk, &f->dx)) {
		if (f->dx.limit != ck_dx_limit(ck, d, f->dx.entries_off))
			*rebuild |= ck_fix(ck, CK_HTREE_NODE, d->ino, "block %u has %u places", lblk,
					   f->dx.limit);
		return true;
	}
	bh_put(take(f->bh));
	return false;
}

bool ck_htree(struct ck *ck, const struct ck_dir *d, struct ck_leaf *leaf)
{
	struct frame frame[EXT4_DX_LEVELS_MAX] = { { 0 } };
	u32 level = 0, levels;
	bool rebuild = false;

	if (!open_node(ck, d, 0, &frame[0], &rebuild))
		return false;
	levels = frame[0].dx.info->indirect_levels + 1u;
	leaf[0].is_led_to = true;
	for (;;) {
		struct frame *f = &frame[level];
		u32 i = f->i++, lblk, low, high;
		struct ck_leaf *to;

		if (i == f->dx.count || !ck_goes_on(ck)) {
			bh_put(take(f->bh));
			if (!level)
				break;
			level--;
			continue;
		}
		lblk = le32_get(f->dx.entry[i].lblk) & LBLK_MASK;
		low = i ? le32_get(f->dx.entry[i].hash) : f->low;
		high = i + 1 < f->dx.count ? le32_get(f->dx.entry[i + 1].hash) : f->high;
		to = lead(ck, d, leaf, lblk, level + 1 < levels, &rebuild);
		if (low < f->low || (i && !low) || (f->high && low >= f->high + (f->high & 1)))
			rebuild |= ck_fix(ck, CK_HTREE_NODE, d->ino,
					  "hashes out of order in a node at level %u", level);
		if (!to)
			continue;
		if (level + 1 == levels) {
			rebuild |= check_leaf(ck, d, to, lblk, low, high);
			continue;
		}
		frame[level + 1] = (struct frame){ .low = low, .high = high };
		if (open_node(ck, d, lblk, &frame[level + 1], &rebuild))
			level++;
	}
	for (u32 i = 0; i < d->count && ck_goes_on(ck); i++)
		if (!leaf[i].is_led_to) {
			rebuild |= ck_fix(ck, CK_HTREE_REF, d->ino, "not to block %u", i);
			break;
		}
	return rebuild;
}
