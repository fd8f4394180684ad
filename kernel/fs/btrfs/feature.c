/*
 * The features of a volume: their names, and which of them this driver reads. compat may be there without being understood; compat_ro must be
 * understood to write; incompat must be understood to read. Flags of the superblock: what a tool began and did not finish.
 */
#include "btrfs.h"

#include <errno.h>
#include <stdio.h>

enum feature_set { COMPAT, COMPAT_RO, INCOMPAT };

static const struct feature {
	enum feature_set set;
	u64 bit;
	bool read; /* incompat: this driver can */
	const char *name;
} features[] = {
	{ COMPAT_RO, BTRFS_COMPAT_RO_FREE_SPACE_TREE, true, "free-space-tree" },
	{ COMPAT_RO, BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID, true, "free-space-tree-valid" },
	{ COMPAT_RO, BTRFS_COMPAT_RO_VERITY, true, "verity" },
	{ COMPAT_RO, BTRFS_COMPAT_RO_BLOCK_GROUP_TREE, true, "block-group-tree" },
	{ INCOMPAT, BTRFS_INCOMPAT_MIXED_BACKREF, true, "mixed-backref" },
	{ INCOMPAT, BTRFS_INCOMPAT_DEFAULT_SUBVOL, true, "default-subvol" },
	{ INCOMPAT, BTRFS_INCOMPAT_MIXED_GROUPS, true, "mixed-bg" },
	{ INCOMPAT, BTRFS_INCOMPAT_COMPRESS_LZO, true, "compress-lzo" },
	{ INCOMPAT, BTRFS_INCOMPAT_COMPRESS_ZSTD, true, "compress-zstd" },
	{ INCOMPAT, BTRFS_INCOMPAT_BIG_METADATA, true, "big-metadata" },
	{ INCOMPAT, BTRFS_INCOMPAT_EXTENDED_IREF, true, "extref" },
	{ INCOMPAT, BTRFS_INCOMPAT_RAID56, true, "raid56" },
	{ INCOMPAT, BTRFS_INCOMPAT_SKINNY_METADATA, true, "skinny-metadata" },
	{ INCOMPAT, BTRFS_INCOMPAT_NO_HOLES, true, "no-holes" },
	{ INCOMPAT, BTRFS_INCOMPAT_METADATA_UUID, true, "metadata-uuid" },
	{ INCOMPAT, BTRFS_INCOMPAT_RAID1C34, true, "raid1c34" },
	{ INCOMPAT, BTRFS_INCOMPAT_ZONED, false, "zoned" },
	{ INCOMPAT, BTRFS_INCOMPAT_EXTENT_TREE_V2, false, "extent-tree-v2" },
	{ INCOMPAT, BTRFS_INCOMPAT_RAID_STRIPE_TREE, false, "raid-stripe-tree" },
	{ INCOMPAT, BTRFS_INCOMPAT_SIMPLE_QUOTA, true, "simple-quota" },
};

static void add_names(struct text *t, enum feature_set set, u64 bits)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].set == set && bits & features[i].bit) {
			text_add(t, "%s%s", t->len_bytes ? ", " : "", features[i].name);
			bits &= ~features[i].bit;
		}
	if (bits)
		text_add(t, "%s0x%llx", t->len_bytes ? ", " : "", (unsigned long long)bits);
}

int btrfs_features_check(const struct btrfs_disk_super *d)
{
	u64 bits = le64_get(d->incompat);
	struct text t = { 0 };
	int err;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].set == INCOMPAT && features[i].read)
			bits &= ~features[i].bit;
	if (!bits)
		return 0;
	add_names(&t, INCOMPAT, bits);
	err = fail(-EOPNOTSUPP, "the volume has features that werunos cannot read: %s", text_str(&t));
	text_free(&t);
	return err;
}

int btrfs_flags_check(const struct btrfs_disk_super *d)
{
	u64 changing = BTRFS_SUPER_CHANGING_DATA_CSUM | BTRFS_SUPER_CHANGING_META_CSUM;
	u64 flags = le64_get(d->flags);

	if (flags & changing)
		return fail(
			-EOPNOTSUPP,
			"a change of the volume's checksums was not finished: run btrfstune --csum again, or "
			"show what can be read with -o rescue=all");
	flags &= ~(BTRFS_SUPER_WRITTEN | BTRFS_SUPER_RELOC | BTRFS_SUPER_ERROR | BTRFS_SUPER_SEEDING |
		   BTRFS_SUPER_METADUMP | BTRFS_SUPER_METADUMP_V2 | BTRFS_SUPER_CHANGING_BG_TREE);
	return flags ? fail(-EOPNOTSUPP,
			    "the superblock has flags that werunos does not know, 0x%llx: show what can be "
			    "read "
			    "with -o rescue=ignoresuperflags",
			    (unsigned long long)flags)
		     : 0;
}

u64 btrfs_unknown_compat_ro(const struct btrfs_disk_super *d)
{
	return le64_get(d->compat_ro) &
	       ~(BTRFS_COMPAT_RO_FREE_SPACE_TREE | BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID |
		 BTRFS_COMPAT_RO_VERITY | BTRFS_COMPAT_RO_BLOCK_GROUP_TREE);
}

void btrfs_features_doc(int which, u64 bits, struct doc *array)
{
	char rest[32];

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].set == (enum feature_set)which && bits & features[i].bit) {
			doc_str(array, NULL, features[i].name);
			bits &= ~features[i].bit;
		}
	if (bits) {
		snprintf(rest, sizeof(rest), "0x%llx", (unsigned long long)bits);
		doc_str(array, NULL, rest);
	}
}
