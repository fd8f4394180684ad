/*
 * The features of a volume: their names, and which of them this driver understands.
 *
 *   compat      may be there without being understood
 *   ro_compat   must be understood to write; reading is safe
 *   incompat    must be understood to read
 *
 * A volume with an incompat bit that is not in the table below, or there as NO, is refused by name; with an incompat or ro_compat
 * bit that is not there as WRITE it is shown read-only.
 */
#include "ext4.h"

#include <errno.h>

enum feature_set { EXT4_COMPAT, EXT4_INCOMPAT, EXT4_RO_COMPAT };

enum support {
	NO,    /* not understood: an incompat of this kind cannot even be read around */
	READ,  /* read, or of no concern to a reader; not written */
	WRITE, /* read and written */
};

struct feature {
	enum feature_set set;
	u32 bit;
	enum support support;
	const char *name;
};

static const struct feature features[] = {
	{ EXT4_COMPAT, EXT4_COMPAT_DIR_PREALLOC, WRITE, "dir_prealloc" },
	{ EXT4_COMPAT, EXT4_COMPAT_IMAGIC_INODES, WRITE, "imagic_inodes" },
	{ EXT4_COMPAT, EXT4_COMPAT_HAS_JOURNAL, WRITE, "has_journal" },
	{ EXT4_COMPAT, EXT4_COMPAT_EXT_ATTR, WRITE, "ext_attr" },
	{ EXT4_COMPAT, EXT4_COMPAT_RESIZE_INODE, WRITE, "resize_inode" },
	{ EXT4_COMPAT, EXT4_COMPAT_DIR_INDEX, WRITE, "dir_index" },
	{ EXT4_COMPAT, EXT4_COMPAT_LAZY_BG, WRITE, "lazy_bg" },
	{ EXT4_COMPAT, EXT4_COMPAT_EXCLUDE_INODE, WRITE, "exclude_inode" },
	{ EXT4_COMPAT, EXT4_COMPAT_EXCLUDE_BITMAP, WRITE, "exclude_bitmap" },
	{ EXT4_COMPAT, EXT4_COMPAT_SPARSE_SUPER2, WRITE, "sparse_super2" },
	{ EXT4_COMPAT, EXT4_COMPAT_FAST_COMMIT, WRITE, "fast_commit" },
	{ EXT4_COMPAT, EXT4_COMPAT_STABLE_INODES, WRITE, "stable_inodes" },
	{ EXT4_COMPAT, EXT4_COMPAT_ORPHAN_FILE, WRITE, "orphan_file" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_COMPRESSION, NO, "compression" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_FILETYPE, WRITE, "filetype" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_RECOVER, WRITE, "needs_recovery" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_JOURNAL_DEV, NO, "journal_dev" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_META_BG, WRITE, "meta_bg" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_EXTENTS, WRITE, "extent" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_64BIT, WRITE, "64bit" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_MMP, WRITE, "mmp" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_FLEX_BG, WRITE, "flex_bg" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_EA_INODE, WRITE, "ea_inode" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_DIRDATA, NO, "dirdata" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_CSUM_SEED, WRITE, "metadata_csum_seed" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_LARGEDIR, WRITE, "large_dir" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_INLINE_DATA, WRITE, "inline_data" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_ENCRYPT, WRITE, "encrypt" },
	{ EXT4_INCOMPAT, EXT4_INCOMPAT_CASEFOLD, WRITE, "casefold" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_SPARSE_SUPER, WRITE, "sparse_super" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_LARGE_FILE, WRITE, "large_file" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_BTREE_DIR, WRITE, "btree_dir" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_HUGE_FILE, WRITE, "huge_file" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_GDT_CSUM, WRITE, "uninit_bg" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_DIR_NLINK, WRITE, "dir_nlink" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_EXTRA_ISIZE, WRITE, "extra_isize" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_HAS_SNAPSHOT, READ, "has_snapshot" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_QUOTA, WRITE, "quota" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_BIGALLOC, WRITE, "bigalloc" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_METADATA_CSUM, WRITE, "metadata_csum" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_REPLICA, READ, "replica" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_READONLY, READ, "read-only" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_PROJECT, WRITE, "project" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_SHARED_BLOCKS, READ, "shared_blocks" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_VERITY, WRITE, "verity" },
	{ EXT4_RO_COMPAT, EXT4_RO_COMPAT_ORPHAN_PRESENT, WRITE, "orphan_present" },
};

/* What an ext2 or an ext3 may have; anything else makes it an ext4. */
#define EXT3_INCOMPAT  (EXT4_INCOMPAT_FILETYPE | EXT4_INCOMPAT_RECOVER | EXT4_INCOMPAT_META_BG)
#define EXT3_RO_COMPAT (EXT4_RO_COMPAT_SPARSE_SUPER | EXT4_RO_COMPAT_LARGE_FILE | EXT4_RO_COMPAT_BTREE_DIR)

static const struct feature *feature_find(enum feature_set set, u32 bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].set == set && features[i].bit == bit)
			return &features[i];
	return NULL;
}

static u32 feature_bits(const struct ext4_disk_super *d, enum feature_set set)
{
	switch (set) {
	case EXT4_COMPAT:
		return le32_get(d->feature_compat);
	case EXT4_INCOMPAT:
		return le32_get(d->feature_incompat);
	case EXT4_RO_COMPAT:
		return le32_get(d->feature_ro_compat);
	}
	return 0;
}

static void text_add_feature(struct text *t, enum feature_set set, u32 bit)
{
	static const char *const prefix[] = { "compat", "incompat", "ro_compat" };
	const struct feature *f = feature_find(set, bit);

	if (t->len_bytes)
		text_add(t, " ");
	if (f)
		text_add(t, "%s", f->name);
	else
		text_add(t, "%s-0x%x", prefix[set], bit);
}

void ext4_feature_doc(const struct ext4_disk_super *d, struct doc *out)
{
	for (int set = EXT4_COMPAT; set <= EXT4_RO_COMPAT; set++) {
		for (u32 bit = 1; bit; bit <<= 1) {
			struct text t = { 0 };

			if (!(feature_bits(d, set) & bit))
				continue;
			text_add_feature(&t, set, bit);
			doc_str(out, NULL, text_str(&t));
			text_free(&t);
		}
	}
}

int ext4_feature_check(const struct ext4_disk_super *d)
{
	u32 bits = le32_get(d->feature_incompat), refused = 0;
	struct text t = { 0 };
	int err = 0;

	for (u32 bit = 1; bit; bit <<= 1) {
		const struct feature *f = feature_find(EXT4_INCOMPAT, bit);

		if ((bits & bit) && (!f || f->support == NO)) {
			text_add_feature(&t, EXT4_INCOMPAT, bit);
			refused |= bit;
		}
	}
	if (refused & EXT4_INCOMPAT_JOURNAL_DEV)
		err = fail(-EOPNOTSUPP, "this is an ext4 journal device, not a file system; "
					"mount the volume that it belongs to");
	else if (refused)
		err = fail(-EOPNOTSUPP, "the volume uses features that this program cannot read: %s",
			   text_str(&t));
	text_free(&t);
	return err;
}

void ext4_feature_unwritable(const struct ext4_disk_super *d, struct text *out)
{
	static const enum feature_set sets[] = { EXT4_INCOMPAT, EXT4_RO_COMPAT };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		for (u32 bit = 1; bit; bit <<= 1) {
			const struct feature *f = feature_find(sets[i], bit);

			if (feature_bits(d, sets[i]) & bit && (!f || f->support != WRITE))
				text_add_feature(out, sets[i], bit);
		}
}

int ext4_feature_mendable(const struct ext4_disk_super *d)
{
	/* They let blocks be used in ways that a check would take for damage. */
	static const u32 own_ways[] = {
		[EXT4_COMPAT] = EXT4_COMPAT_EXCLUDE_INODE | EXT4_COMPAT_EXCLUDE_BITMAP,
		[EXT4_INCOMPAT] = 0,
		[EXT4_RO_COMPAT] =
			EXT4_RO_COMPAT_HAS_SNAPSHOT | EXT4_RO_COMPAT_REPLICA | EXT4_RO_COMPAT_SHARED_BLOCKS,
	};
	struct text t = { 0 };
	int err = 0;

	for (int set = EXT4_COMPAT; set <= EXT4_RO_COMPAT; set++)
		for (u32 bit = 1; bit; bit <<= 1)
			if (feature_bits(d, set) & bit && (own_ways[set] & bit || !feature_find(set, bit)))
				text_add_feature(&t, set, bit);
	if (t.len_bytes || t.oom)
		err = fail(-EOPNOTSUPP,
			   "the volume uses features that are not known well enough to mend it: %s",
			   text_str(&t));
	text_free(&t);
	return err;
}

void ext4_feature_names(const struct ext4_disk_super *d, struct text *out)
{
	for (int set = EXT4_COMPAT; set <= EXT4_RO_COMPAT; set++)
		for (u32 bit = 1; bit; bit <<= 1)
			if (feature_bits(d, set) & bit)
				text_add_feature(out, set, bit);
}

static const struct feature *feature_named(const char *name, size_t len)
{
	/* As mke2fs is used to be told. */
	if (len == 7 && !memcmp(name, "extents", len))
		len--;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (strlen(features[i].name) == len && !memcmp(features[i].name, name, len))
			return &features[i];
	return NULL;
}

static int feature_edit_one(struct ext4_disk_super *d, const char *word, size_t len)
{
	le32 *field[] = { &d->feature_compat, &d->feature_incompat, &d->feature_ro_compat };
	bool off = *word == '^';
	const struct feature *f;

	if (len == 4 && !memcmp(word, "none", len)) {
		for (size_t i = 0; i < ARRAY_SIZE(field); i++)
			*field[i] = le32_put(0);
		return 0;
	}
	f = feature_named(word + off, len - off);
	if (!f)
		return fail(-EINVAL, "ext4 has no feature \"%.*s\"", (int)(len - off), word + off);
	if (off)
		*field[f->set] = le32_put(le32_get(*field[f->set]) & ~f->bit);
	else
		*field[f->set] = le32_put(le32_get(*field[f->set]) | f->bit);
	return 0;
}

int ext4_feature_edit(struct ext4_disk_super *d, const char *words)
{
	int err = 0;

	while (words && *words && !err) {
		size_t len = strcspn(words, ",");

		if (len)
			err = feature_edit_one(d, words, len);
		words += len + (words[len] == ',');
	}
	return err;
}

const char *ext4_feature_variant(const struct ext4_disk_super *d)
{
	if (le32_get(d->feature_incompat) & ~EXT3_INCOMPAT ||
	    le32_get(d->feature_ro_compat) & ~EXT3_RO_COMPAT)
		return "ext4";
	return le32_get(d->feature_compat) & EXT4_COMPAT_HAS_JOURNAL ? "ext3" : "ext2";
}
