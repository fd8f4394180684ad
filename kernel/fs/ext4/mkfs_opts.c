/*
 * What a new volume is to be: words into numbers and features.
 *
 * Defaults are those of mke2fs 1.47 with the mke2fs.conf that comes with it: by the size of the volume a usage type, by that the size of
 * blocks and how many inodes there are; features by the variant. What was given goes before them.
 */
#include "mkfs.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define MIB 1048576ull

#define BASE_FEATURES "sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr"

static const struct {
	const char *name, *features;
} variants[] = {
	{ "ext4",
	  BASE_FEATURES ",has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,"
			"dir_nlink,extra_isize,orphan_file" },
	{ "ext3", BASE_FEATURES ",has_journal" },
	{ "ext2", BASE_FEATURES },
};

static const struct usage {
	const char *name;
	u64 below_bytes; /* volumes smaller than this have it, and no smaller one; 0: only when it is asked for */
	u32 block_bytes, inode_ratio;
} usages[] = {
	{ "floppy", 3 * MIB, 1024, 8192 },        { "small", 512 * MIB, 1024, 4096 },
	{ "default", 4 * MIB *MIB, 4096, 16384 }, { "big", 16 * MIB *MIB, 4096, 32768 },
	{ "huge", ~0ull, 4096, 65536 },           { "news", 0, 4096, 4096 },
	{ "largefile", 0, 4096, 1048576 },        { "largefile4", 0, 4096, 4194304 },
};

/* What can be made. Each of the others needs something on the volume that nobody here writes. */
#define MADE_COMPAT                                                                                          \
	(EXT4_COMPAT_HAS_JOURNAL | EXT4_COMPAT_EXT_ATTR | EXT4_COMPAT_RESIZE_INODE | EXT4_COMPAT_DIR_INDEX | \
	 EXT4_COMPAT_SPARSE_SUPER2 | EXT4_COMPAT_STABLE_INODES | EXT4_COMPAT_ORPHAN_FILE)
#define MADE_INCOMPAT                                                                                        \
	(EXT4_INCOMPAT_FILETYPE | EXT4_INCOMPAT_META_BG | EXT4_INCOMPAT_EXTENTS | EXT4_INCOMPAT_64BIT |      \
	 EXT4_INCOMPAT_FLEX_BG | EXT4_INCOMPAT_EA_INODE | EXT4_INCOMPAT_CSUM_SEED | EXT4_INCOMPAT_LARGEDIR | \
	 EXT4_INCOMPAT_ENCRYPT | EXT4_INCOMPAT_CASEFOLD)
#define MADE_RO_COMPAT                                                                        \
	(EXT4_RO_COMPAT_SPARSE_SUPER | EXT4_RO_COMPAT_LARGE_FILE | EXT4_RO_COMPAT_HUGE_FILE | \
	 EXT4_RO_COMPAT_GDT_CSUM | EXT4_RO_COMPAT_DIR_NLINK | EXT4_RO_COMPAT_EXTRA_ISIZE |    \
	 EXT4_RO_COMPAT_BIGALLOC | EXT4_RO_COMPAT_METADATA_CSUM | EXT4_RO_COMPAT_PROJECT |    \
	 EXT4_RO_COMPAT_VERITY)

/* ---- words ---- */

/* What the words say that is no number of the options. */
struct said {
	const char *variant;
	const struct usage *usage;
	bool seed;
};

static const struct number {
	const char *name;
	size_t off, bytes;
	u64 min, max;
	bool pow2;
} numbers[] = {
#define N(name, field, min, max, pow2)                                                                     \
	{                                                                                                  \
		name, offsetof(struct ext4_mkfs_opts, field), sizeof(((struct ext4_mkfs_opts *)0)->field), \
			min, max, pow2                                                                     \
	}
	N("block_size", block_bytes, 1024, 65536, true),
	N("cluster_size", cluster_bytes, 2048, 512 * MIB, true),
	N("inode_size", inode_bytes, EXT4_INODE_BYTES_OLD, 65536, true),
	N("inode_ratio", inode_ratio, 1024, 64 * MIB, false),
	N("inodes", inodes, 1, UINT32_MAX, false),
	N("blocks_per_group", blocks_per_group, 256, 65528, false),
	N("flex_bg_size", groups_per_flex, 1, 1u << 31, true),
	N("journal_size", journal_mib, 1, 10240000, false),
	N("orphan_file_size", orphan_file_bytes, 1024, 1 << 30, false),
	N("num_backup_sb", copies, 0, 2, false),
	N("resize", grow_blocks, 1, UINT32_MAX, false),
	N("stride", stride, 0, UINT16_MAX, false),
	N("stripe_width", stripe_width, 0, UINT32_MAX, false),
	N("stripe-width", stripe_width, 0, UINT32_MAX, false),
	N("lazy_itable_init", lazy_itable, 0, 1, false),
#undef N
};

/* Digits, and K, M, G or T for powers of 1024. */
static bool parse_number(const char *s, size_t len, u64 *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	if (!len || !isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*out = strtoull(s, &end, 10);
	if (errno)
		return false;
	if (end == s + len)
		return true;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (!unit || end + 1 != s + len || *out >> (54 - 10 * (unit - units)))
		return false;
	*out <<= 10 * (unit - units + 1);
	return true;
}

static int number_set(struct ext4_mkfs_opts *o, const struct number *n, const char *s, size_t len)
{
	u8 *field = (u8 *)o + n->off;
	u64 v;

	if (!parse_number(s, len, &v) || v < n->min || v > n->max)
		return fail(-EINVAL, "%s=%.*s: a number from %llu to %llu is wanted", n->name, (int)len, s,
			    (unsigned long long)n->min, (unsigned long long)n->max);
	if (n->pow2 && !is_pow2(v))
		return fail(-EINVAL, "%s=%.*s: not a power of two", n->name, (int)len, s);
	/* The fields are of these sizes. */
	if (n->bytes == sizeof(bool))
		*(bool *)field = v;
	else if (n->bytes == sizeof(u32))
		*(u32 *)(void *)field = (u32)v;
	else
		*(u64 *)(void *)field = v;
	return 0;
}

/* "5" or "0.25": hundredths of a percent. */
static int reserved_set(struct ext4_mkfs_opts *o, const char *s, size_t len)
{
	u32 v = 0, places = 0;
	bool point = false, good = len && isdigit((unsigned char)*s);

	for (size_t i = 0; i < len && good; i++) {
		if (s[i] == '.' && !point) {
			point = true;
			continue;
		}
		good = isdigit((unsigned char)s[i]) && places < 2 && v <= 5000;
		v = v * 10 + (u32)(s[i] - '0');
		places += point;
	}
	for (; places < 2 && good; places++)
		v *= 10;
	if (!good || v > 5000)
		return fail(-EINVAL, "reserved=%.*s: a percentage from 0 to 50 is wanted", (int)len, s);
	o->reserved_permyriad = v;
	return 0;
}

static int seed_set(struct ext4_mkfs_opts *o, const char *s, size_t len)
{
	u32 digits = 0;

	for (size_t i = 0; i < len; i++) {
		int c = tolower((unsigned char)s[i]);

		if (c == '-')
			continue;
		if (!isxdigit(c) || digits == 32) {
			digits = 0;
			break;
		}
		o->hash_seed[digits / 2] =
			(u8)(o->hash_seed[digits / 2] << 4 | (isdigit(c) ? c - '0' : c - 'a' + 10));
		digits++;
	}
	return digits == 32 ? 0 : fail(-EINVAL, "hash_seed=%.*s: a UUID is wanted", (int)len, s);
}

static int usage_set(struct said *said, const char *s, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(usages); i++)
		if (strlen(usages[i].name) == len && !memcmp(usages[i].name, s, len)) {
			said->usage = &usages[i];
			return 0;
		}
	return fail(-EINVAL,
		    "usage=%.*s: none of floppy, small, default, big, huge, news, largefile, largefile4",
		    (int)len, s);
}

static int variant_set(struct said *said, const char *s, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		if (strlen(variants[i].name) == len && !memcmp(variants[i].name, s, len)) {
			said->variant = variants[i].features;
			return 0;
		}
	return fail(-EINVAL, "variant=%.*s: none of ext2, ext3, ext4", (int)len, s);
}

static int word(const char *s, size_t len, struct ext4_mkfs_opts *o, struct said *said)
{
	const char *eq = memchr(s, '=', len), *value = eq ? eq + 1 : s + len;
	size_t name = eq ? (size_t)(eq - s) : len, rest = (size_t)(s + len - value);

#define IS(n) (name == strlen(n) && !memcmp(s, n, name))
	if (IS("hash_seed")) {
		said->seed = true;
		return seed_set(o, value, rest);
	}
	if (IS("reserved"))
		return reserved_set(o, value, rest);
	if (IS("usage"))
		return usage_set(said, value, rest);
	if (IS("variant"))
		return variant_set(said, value, rest);
#undef IS
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (name == strlen(numbers[i].name) && !memcmp(s, numbers[i].name, name))
			return number_set(o, &numbers[i], value, rest);
	return fail(-EINVAL, "there is no option \"%.*s\" for a new ext4 volume", (int)name, s);
}

static int words(const char *s, struct ext4_mkfs_opts *o, struct said *said)
{
	int err = 0;

	while (s && *s && !err) {
		size_t len = strcspn(s, ",");

		if (len)
			err = word(s, len, o, said);
		s += len + (s[len] == ',');
	}
	return err;
}

/* ---- features ---- */

static bool has(const struct ext4_disk_super *d, u32 compat, u32 incompat, u32 ro_compat)
{
	return le32_get(d->feature_compat) & compat || le32_get(d->feature_incompat) & incompat ||
	       le32_get(d->feature_ro_compat) & ro_compat;
}

static void clear(struct ext4_disk_super *d, u32 compat, u32 incompat, u32 ro_compat)
{
	d->feature_compat = le32_put(le32_get(d->feature_compat) & ~compat);
	d->feature_incompat = le32_put(le32_get(d->feature_incompat) & ~incompat);
	d->feature_ro_compat = le32_put(le32_get(d->feature_ro_compat) & ~ro_compat);
}

/* Those that nobody here makes, by name. */
static int features_made(const struct ext4_disk_super *d)
{
	struct ext4_disk_super not_made = *d;
	struct text names = { 0 };
	int err = 0;

	clear(&not_made, MADE_COMPAT, MADE_INCOMPAT, MADE_RO_COMPAT);
	ext4_feature_names(&not_made, &names);
	if (names.len_bytes)
		err = fail(-EINVAL, "volumes with these features cannot be made: %s", text_str(&names));
	text_free(&names);
	return err;
}

/* What cannot be together, or is nothing without another. */
static int features_fit(const struct ext4_disk_super *d)
{
	bool extents = has(d, 0, EXT4_INCOMPAT_EXTENTS, 0);

	if (has(d, 0, EXT4_INCOMPAT_64BIT, 0) && !extents)
		return fail(-EINVAL, "64bit needs extent: switch both off, or neither");
	if (has(d, 0, 0, EXT4_RO_COMPAT_BIGALLOC) && !extents)
		return fail(-EINVAL, "bigalloc needs extent");
	if (has(d, 0, 0, EXT4_RO_COMPAT_VERITY) && !extents)
		return fail(-EINVAL, "verity needs extent");
	if (has(d, 0, EXT4_INCOMPAT_META_BG, 0) && has(d, EXT4_COMPAT_RESIZE_INODE, 0, 0))
		return fail(-EINVAL, "meta_bg and resize_inode exclude each other: switch one of them off");
	if (has(d, EXT4_COMPAT_RESIZE_INODE, 0, 0) && !has(d, 0, 0, EXT4_RO_COMPAT_SPARSE_SUPER))
		return fail(-EINVAL, "resize_inode needs sparse_super: switch both off, or neither");
	if (has(d, 0, EXT4_INCOMPAT_CSUM_SEED, 0) && !has(d, 0, 0, EXT4_RO_COMPAT_METADATA_CSUM))
		return fail(-EINVAL, "metadata_csum_seed needs metadata_csum");
	if (has(d, EXT4_COMPAT_ORPHAN_FILE, 0, 0) && !has(d, EXT4_COMPAT_HAS_JOURNAL, 0, 0))
		return fail(-EINVAL, "orphan_file needs has_journal");
	return 0;
}

static int features(const struct format_opts *in, const char *variant, struct ext4_disk_super *d)
{
	int err = ext4_feature_edit(d, variant);
	bool orphans, seed;

	if (err)
		return err;
	orphans = has(d, EXT4_COMPAT_ORPHAN_FILE, 0, 0);
	seed = has(d, 0, EXT4_INCOMPAT_CSUM_SEED, 0);
	err = ext4_feature_edit(d, in->features);
	if (err)
		return err;
	/* Defaults go with what they depend on. */
	if (orphans && !has(d, EXT4_COMPAT_HAS_JOURNAL, 0, 0))
		clear(d, EXT4_COMPAT_ORPHAN_FILE, 0, 0);
	if (seed && !has(d, 0, 0, EXT4_RO_COMPAT_METADATA_CSUM))
		clear(d, 0, EXT4_INCOMPAT_CSUM_SEED, 0);
	/* The stronger of the two sums. */
	if (has(d, 0, 0, EXT4_RO_COMPAT_METADATA_CSUM))
		clear(d, 0, 0, EXT4_RO_COMPAT_GDT_CSUM);
	err = features_made(d);
	return err ? err : features_fit(d);
}

/* ---- all of it ---- */

/* Chance of a seed, as a UUID. */
static void chance(u64 seed, u8 out[16])
{
	for (u32 i = 0; i < 16; i += 8) {
		u64 z = seed += 0x9e3779b97f4a7c15ull;
		le64 v;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ z >> 27) * 0x94d049bb133111ebull;
		v = le64_put(z ^ z >> 31);
		memcpy(out + i, &v, sizeof(v));
	}
	out[6] = (u8)((out[6] & 0x0f) | 0x40);
	out[8] = (u8)((out[8] & 0x3f) | 0x80);
}

static const struct usage *usage_of(u64 size_bytes)
{
	const struct usage *u = usages;

	while (size_bytes >= u->below_bytes)
		u++;
	return u;
}

/* What was not given. */
static void defaults(struct ext4_mkfs_opts *o, const struct usage *u)
{
	u32 cluster;

	if (!o->block_bytes)
		o->block_bytes = MAX(u->block_bytes, o->sector_bytes);
	if (!has(&o->features, 0, 0, EXT4_RO_COMPAT_BIGALLOC))
		cluster = o->block_bytes;
	else
		cluster = o->cluster_bytes ? o->cluster_bytes : o->block_bytes * 16;
	if (!o->inode_ratio)
		o->inode_ratio = MAX(u->inode_ratio, MAX(o->block_bytes, cluster));
	if (!o->inode_bytes)
		o->inode_bytes = 256;
	if (has(&o->features, 0, EXT4_INCOMPAT_FLEX_BG, 0) && !o->groups_per_flex)
		o->groups_per_flex = 16;
	if (has(&o->features, 0, 0, EXT4_RO_COMPAT_BIGALLOC))
		o->cluster_bytes = cluster;
}

static int check(const struct ext4_mkfs_opts *o)
{
	bool bigalloc = has(&o->features, 0, 0, EXT4_RO_COMPAT_BIGALLOC);

	if (o->block_bytes < o->sector_bytes)
		return fail(-EINVAL, "blocks of %u bytes are shorter than the device's sectors of %u",
			    o->block_bytes, o->sector_bytes);
	if (o->inode_bytes > o->block_bytes)
		return fail(-EINVAL, "inodes of %u bytes are longer than blocks of %u", o->inode_bytes,
			    o->block_bytes);
	if (o->cluster_bytes && !bigalloc)
		return fail(-EINVAL, "a cluster size needs the feature bigalloc");
	if (bigalloc && o->cluster_bytes < o->block_bytes)
		return fail(-EINVAL, "clusters of %u bytes are shorter than blocks of %u", o->cluster_bytes,
			    o->block_bytes);
	if (o->groups_per_flex && !has(&o->features, 0, EXT4_INCOMPAT_FLEX_BG, 0))
		return fail(-EINVAL, "a flex_bg size needs the feature flex_bg");
	if (o->blocks_per_group % 8 || o->blocks_per_group > 8 * o->block_bytes)
		return fail(-EINVAL, "%u blocks in a group: a multiple of 8, at most %u, is wanted",
			    o->blocks_per_group, 8 * o->block_bytes);
	if (o->journal_mib && !has(&o->features, EXT4_COMPAT_HAS_JOURNAL, 0, 0))
		return fail(-EINVAL, "a journal size needs the feature has_journal");
	if (has(&o->features, 0, 0, EXT4_RO_COMPAT_PROJECT) && o->inode_bytes == EXT4_INODE_BYTES_OLD)
		return fail(-EINVAL, "inodes of %u bytes are too short for the feature project",
			    o->inode_bytes);
	return 0;
}

int ext4_mkfs_parse(const struct format_opts *in, u32 sector_bytes, struct ext4_mkfs_opts *out)
{
	struct said said = { .variant = variants[0].features };
	size_t len = in->label ? strlen(in->label) : 0;
	int err;

	*out = (struct ext4_mkfs_opts){
		.size_bytes = in->size_bytes,
		.sector_bytes = sector_bytes,
		.block_bytes = in->block_bytes,
		.files = in->files,
		.reserved_permyriad = 500,
		.copies = 2,
		.lazy_itable = true,
		.zeroed = in->zeroed,
		.root_uid = in->root_uid,
		.root_gid = in->root_gid,
		.now = in->now,
	};
	if (len > sizeof(out->label))
		return fail(-EINVAL, "the label \"%s\" is longer than %zu bytes", in->label,
			    sizeof(out->label));
	memcpy(out->label, in->label ? in->label : "", len);
	memcpy(out->uuid, in->uuid, sizeof(out->uuid));
	if (in->block_bytes && (!is_pow2(in->block_bytes) || in->block_bytes < 1024 ||
				in->block_bytes > 1u << EXT4_BLOCK_BITS_MAX))
		return fail(-EINVAL, "blocks of %u bytes: a power of two from 1024 to 65536 is wanted",
			    in->block_bytes);
	err = words(in->fs_opts, out, &said);
	if (!err)
		err = features(in, said.variant, &out->features);
	if (err)
		return err;
	if (!said.seed)
		chance(in->seed, out->hash_seed);
	defaults(out, said.usage ? said.usage : usage_of(in->size_bytes));
	return check(out);
}
