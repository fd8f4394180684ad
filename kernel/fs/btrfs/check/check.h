/*
 * Finding everything that is wrong with a volume, and mending what is safe without a transaction: what the files of this room share.
 *
 * Every node of every tree is read once from each of its copies (walk.c). What the trees refer to is summed up for each extent and compared
 * with the sum of what the extent tree says of it: a reference counts as a hash of its members, so that two lists of any length are
 * compared by two numbers, and a volume costs 48 bytes for each extent and 40 for each node. So it is with names: those in directories
 * against those that inodes have.
 *
 * Where a damaged tree keeps from looking at something, that is a finding of its own, CK_NOT_CHECKED, and no conclusion is drawn from what
 * is missing.
 *
 * Mending. Written are copies of superblocks, bad copies of tree blocks and of data that have a good one, and parity; no tree is changed. Copies are written
 * when they are met, superblocks when all was looked at: until then `super` is what they are to be. Devices are overlays in memory meanwhile
 * (vfs.h, check). Nothing is mended while a device is missing, nor on a volume with anything that is not known here.
 */
#ifndef BTRFS_CHECK_H
#define BTRFS_CHECK_H

#include "../btrfs.h"

/* ---- report.c: what can be found, X(name, word, grade, sentence) ---- */

#define CK_CODES(X)                                                                                          \
	X(VOLUME, "volume-unreadable", LOSS, "the volume cannot be opened")                                  \
	X(SUPER, "superblock-bad", WRONG, "a superblock is not sound")                                       \
	X(SUPER_DIFFERS, "superblock-differs", WRONG, "the copies of the superblock disagree")               \
	X(SUPER_OLD, "superblock-old", HINT, "a copy of the superblock is of an older commit")               \
	X(SUPER_ABSENT, "superblock-absent", HINT, "there is no superblock where a copy belongs")            \
	X(SUPER_VALUE, "superblock-value", WRONG, "the superblock says what the trees do not")               \
	X(ERROR_FLAG, "error-recorded", HINT, "the volume has recorded an error")                            \
	X(UNFINISHED, "unfinished", HINT, "something that takes long was not finished")                      \
	X(LOG, "log", HINT, "there is a log that the next writer replays")                                   \
	X(DEVICE, "device-missing", LOSS, "a device is missing")                                             \
	X(DEVICE_SHORT, "device-short", LOSS, "a device is shorter than the volume has it")                  \
	X(DEVICE_BEHIND, "device-behind", WRONG, "a device missed commits")                                  \
	X(DEVICE_VALUE, "device-value", WRONG, "a device's item does not say what is on it")                 \
	X(CHUNK, "chunk-bad", LOSS, "a chunk is not sound")                                                  \
	X(CHUNK_EXTENT, "chunk-extent", WRONG, "a stripe of a chunk has no device extent")                   \
	X(DEV_EXTENT, "device-extent", WRONG, "a device extent belongs to no chunk")                         \
	X(DEV_OVERLAP, "device-overlap", LOSS, "device extents overlap")                                     \
	X(SYSTEM_CHUNK, "system-chunk", WRONG, "the superblock's array and the chunk tree disagree")         \
	X(TREE, "tree-missing", LOSS, "a tree is missing")                                                   \
	X(NODE, "node-bad", LOSS, "a tree block is bad in every copy")                                       \
	X(NODE_COPY, "node-copy-bad", WRONG, "a copy of a tree block is bad, another is good")               \
	X(NODE_TWICE, "node-claimed", WRONG, "a tree block is described in two ways")                        \
	X(ITEM, "item-bad", WRONG, "an item is not sound")                                                   \
	X(NOT_CHECKED, "not-checked", HINT, "not looked at, because of what is damaged")                     \
	X(EXTENT_MISSING, "extent-missing", WRONG, "space is in use that the extent tree does not know")     \
	X(EXTENT_UNUSED, "extent-unused", WRONG, "the extent tree has what nothing refers to")               \
	X(EXTENT_REFS, "extent-references", WRONG,                                                           \
	  "the extent tree and the trees disagree on who refers to it")                                      \
	X(EXTENT_COUNT, "extent-count", WRONG, "an extent's count is not the number of its references")      \
	X(EXTENT_OVERLAP, "extent-overlap", LOSS, "two extents overlap")                                     \
	X(EXTENT_REF_ALONE, "reference-alone", WRONG, "a reference to an extent that is not there")          \
	X(EXTENT_LEVEL, "extent-level", WRONG, "the extent tree has a tree block with another level")        \
	X(EXTENT_GENERATION, "extent-generation", WRONG, "the extent tree has a tree block of another time") \
	X(EXTENT_KIND, "extent-kind", WRONG, "an extent lies where its kind does not belong")                \
	X(EXTENT_OUTSIDE, "extent-outside", WRONG, "an extent lies in no block group")                       \
	X(GROUP_MISSING, "group-missing", WRONG, "a chunk has no block group")                               \
	X(GROUP_CHUNK, "group-chunk", WRONG, "a block group is not as its chunk")                            \
	X(GROUP_USED, "group-used", WRONG, "a block group counts its used bytes wrong")                      \
	X(FREE_SPACE, "free-space", WRONG, "the free space tree is not what the extents leave")              \
	X(SPACE_CACHE, "space-cache", WRONG, "the cache of free space is not what the extents leave")        \
	X(FREE_STALE, "free-space-stale", HINT, "the free space tree has a block group that is gone")        \
	X(ROOT_REF, "subvolume-reference", WRONG, "a subvolume's references disagree")                       \
	X(ROOT_NAME, "subvolume-name", WRONG, "a subvolume has no entry where its references say")           \
	X(ROOT_LOST, "subvolume-lost", LOSS, "a subvolume can be reached from nowhere")                      \
	X(ROOT_ORPHAN, "subvolume-orphan", WRONG, "a deleted subvolume has no orphan item")                  \
	X(ROOT_DIR, "subvolume-root", LOSS, "a subvolume has no root directory")                             \
	X(INODE_MISSING, "inode-missing", LOSS, "there are items of an inode that is not there")             \
	X(INODE_FLAGS, "inode-flags", WRONG, "an inode has flags that its type cannot have")                 \
	X(INODE_NBYTES, "inode-bytes", WRONG, "an inode counts its bytes wrong")                             \
	X(INODE_LINKS, "inode-links", WRONG, "an inode counts its links wrong")                              \
	X(INODE_LOST, "inode-lost", LOSS, "an inode can be reached by no name")                              \
	X(INODE_ORPHAN, "inode-orphan", WRONG, "an inode without links has no orphan item")                  \
	X(INODE_LOOP, "directory-loop", LOSS, "directories lie in each other")                               \
	X(DIR_SIZE, "directory-size", WRONG, "a directory's size is not that of its names")                  \
	X(DIR_PAIR, "directory-entries", WRONG, "a directory's two lists of entries disagree")               \
	X(DIR_TWICE, "directory-twice", WRONG, "a directory has a name twice")                               \
	X(ENTRY_LOST, "entry-lost", LOSS, "an entry leads to an inode that is not there")                    \
	X(ENTRY_TYPE, "entry-type", WRONG, "an entry has another type than its inode")                       \
	X(ENTRY_ALONE, "entry-alone", WRONG, "an entry's inode does not know the name")                      \
	X(NAME_ALONE, "name-alone", WRONG, "an inode has a name that its directory does not")                \
	X(FILE_OVERLAP, "file-overlap", LOSS, "two extents of a file overlap")                               \
	X(FILE_HOLE, "file-hole", WRONG, "a file has a hole without an item")                                \
	X(FILE_INLINE, "file-inline", WRONG, "an inline extent is longer than one can be")                   \
	X(FILE_EXTENT, "file-extent", LOSS, "a file's extent is not as the extent tree has it")              \
	X(FILE_RAM, "file-ram-bytes", HINT, "an extent's unpacked length is not its length")                 \
	X(FILE_TYPE, "file-type", WRONG, "an inode has what its type cannot have")                           \
	X(CSUM_MISSING, "csum-missing", LOSS, "data have no checksums")                                      \
	X(CSUM_ODD, "csum-odd", WRONG, "data have checksums that should have none")                          \
	X(CSUM_ALONE, "csum-alone", WRONG, "there are checksums of what is no data")                         \
	X(CSUM_OVERLAP, "csum-overlap", WRONG, "checksums overlap")                                          \
	X(UUID, "uuid", WRONG, "the tree of uuids and the subvolumes disagree")                              \
	X(UUID_MISSING, "uuid-missing", HINT, "a subvolume is not in the tree of uuids")                     \
	X(QUOTA, "quota", WRONG, "a quota group counts wrong")                                               \
	X(QUOTA_STALE, "quota-stale", HINT, "quotas must be counted anew")                                   \
	X(INODE_CACHE, "inode-cache", HINT, "a cache of inode numbers is left, which kernels no longer use") \
	X(DATA, "data-bad", LOSS, "data are wrong in every copy")                                            \
	X(DATA_COPY, "data-copy-bad", WRONG, "a copy of data is wrong, another is good")                     \
	X(PARITY, "parity-bad", WRONG, "parity is not that of the data")
/* What can be mended, X(name, mending, what mends it). SAFE: it can lose nothing, and is done without being asked for. ASK: it is a decision. */
#define CK_MENDS(X)                                                               \
	X(SUPER, SAFE, "write it anew from the newest one")                       \
	X(SUPER_DIFFERS, ASK, "write the copy anew")                              \
	X(SUPER_OLD, SAFE, "write the copy anew")                                 \
	X(SUPER_ABSENT, SAFE, "write the copy anew")                              \
	X(SUPER_VALUE, ASK, "set it to what the trees say")                       \
	X(ERROR_FLAG, SAFE, "forget it, since all is sound")                      \
	X(SPACE_CACHE, SAFE, "have it made anew by the next writer")              \
	X(LOG, ASK, "drop it, and with it what was synced after the last commit") \
	X(NODE_COPY, SAFE, "write it anew from the good copy")                    \
	X(DATA_COPY, SAFE, "write it anew from the good copy")                    \
	X(PARITY, SAFE, "write it anew from the data")
#define CK_ENUM(name, word, grade, text) CK_##name,
enum ck_code { CK_CODES(CK_ENUM) };

/* ---- table.c: records by number ---- */

/* Records of rec_bytes, a multiple of 8, the first member of which is their key, a u64 that is not 0. Zeroed but for rec_bytes it is empty. */
struct ck_table {
	u8 *slot;
	u32 rec_bytes;
	u64 slots, count;
};
/* NULL: it is not there. The pointer is good until the next add. */
void *btrfs_ck_find(const struct ck_table *t, u64 key);
/* The record, new and zeroed when there was none. NULL: no memory. */
void *btrfs_ck_add(struct ck_table *t, u64 key);
/* One after the other: *at is 0 at first. NULL: no more. */
void *btrfs_ck_each(const struct ck_table *t, u64 *at);
void btrfs_ck_table_free(struct ck_table *t);

/* ---- the records ---- */

enum ck_state { CK_NEW, CK_WANTED, CK_GOOD, CK_BAD };

/* A tree block that is referred to. */
struct ck_node {
	u64 bytenr;
	u64 refs_sum; /* of the references that were met */
	u64 generation;
	u32 refs, first_hash; /* first_hash: of its first key; 0: a tree's root */
	u32 root;             /* index of the last subvolume that had it, from 1 on */
	u8 level, state;
	bool counted; /* the extent tree must have it: not a log's */
	bool shared;  /* several subvolumes have it */
};

#define CK_EXTENT_DATA    0x1u
#define CK_EXTENT_FULL    0x2u  /* its references to others name it, not a tree */
#define CK_EXTENT_WRITTEN 0x4u  /* a file has it as data, not as preallocated */
#define CK_EXTENT_SUMMED  0x8u  /* where a file has it preallocated, there are checksums */
#define CK_EXTENT_SHARED  0x10u /* several subvolumes have it */
#define CK_EXTENT_INFO    0x20u /* its level is known */

/* An item of the extent tree. */
struct ck_extent {
	u64 bytenr;
	u64 back_sum, refs_sum; /* as the extent tree says, as was met (data only) */
	u32 sectors;
	u32 count; /* references that the item counts */
	u32 back, refs;
	u32 generation; /* its low half */
	u32 root;       /* as in ck_node */
	u8 flags, level;
};

/* A tree's ROOT_ITEM. */
struct ck_root {
	u64 id, key_offset;
	struct btrfs_disk_root item;
	bool orphan;               /* it has an orphan item */
	bool partial;              /* not all of its tree could be read */
	u64 referenced, exclusive; /* bytes */
};

/* Where a subvolume is said to be: sums of its ROOT_REFs, its ROOT_BACKREFs, and of the entries that lead to it in the tree of a ROOT_REF. */
struct ck_link {
	u64 id, parent;
	u64 ref_sum, backref_sum, entry_sum;
	u32 refs, backrefs;
};

/* Sorted ranges without overlap. */
struct ck_range {
	u64 from, to;
};
struct ck_ranges {
	struct ck_range *at;
	u64 count, room;
};

struct ck {
	struct btrfs_super *bs;
	struct blkdev **devs;
	u32 dev_count;
	const struct check_opts *opts;
	struct check_summary *sum;
	int err; /* what ends the check */
	u32 pass;
	const char *pass_name;
	u64 done, all; /* of the pass */
	u64 ref_seed;

	struct ck_table nodes;
	struct ck_extent *extent; /* by address */
	u64 extents, extents_room;
	struct ck_table strays; /* struct ck_stray */
	struct ck_table links;  /* struct ck_link */
	struct ck_root *root;
	u32 roots, roots_room;
	struct ck_ranges csums;
	struct ck_group *group; /* block groups, by address */
	u32 groups, groups_room;

	bool mends;    /* findings may be mended */
	bool super_ok; /* the superblock that was used is the newest, and its trees are there */
	struct btrfs_disk_super super; /* as it is to be */
	bool super_changed;            /* … and is not anywhere yet */
	bool log_dropped;              /* as it was asked for */
	u8 *super_put;                 /* of each of devs, a bit for each copy that is to be written */

	bool roots_partial;   /* the root tree could not be read everywhere */
	bool extents_partial; /* the extent tree … */
	bool refs_partial;    /* some tree …: references are missing */
	bool csums_partial;
	bool groups_partial;
	u64 node_visits;
	u32 paths; /* that were looked for */

	u8 *buf; /* of the walk, for one batch of nodes */
	u32 batch;
	struct bio *bio;
	u8 *frame; /* BTRFS_LEVELS nodes */
};

/* Data that files refer to and the extent tree has not. */
struct ck_stray {
	u64 bytenr;
	u64 len_bytes;
};

struct ck_group {
	u64 start, len_bytes, used_bytes, flags;
	u64 counted_bytes; /* by the extents in it */
};

/* One finding. name may be NULL; detail is said behind the code's sentence, NULL: nothing. */
void btrfs_ck_found(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		    const char *detail, ...) __printf_like(6, 7);
/* One that the caller can mend as CK_MENDS says. True: it is to do so, now, and it was not said. */
bool btrfs_ck_fix(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		  const char *detail, ...) __printf_like(6, 7) __must_check;
/* A finding of an inode, with its path. */
void btrfs_ck_found_inode(struct ck *c, enum ck_code code, u64 tree, u64 ino, const char *detail, ...)
	__printf_like(5, 6);
/* "extent tree"; of subvolumes their path, of others a number. */
void btrfs_ck_tree_name(struct ck *c, u64 id, struct text *out);
/* One more pass begins. */
void btrfs_ck_pass(struct ck *c, const char *name, u64 all);
/* `more` of it are done. False: the check ends. */
bool btrfs_ck_step(struct ck *c, u64 more);
/* Ends the check for want of memory. */
void btrfs_ck_oom(struct ck *c);

/* ---- mend.c: what is written ---- */

/* Whether a copy, as bio.copy counts, lies on devices that can be written, byte by byte and not by parity. */
bool btrfs_ck_can_put(const struct ck *c, u64 logical, u32 copy, u64 len_bytes);
/* Writes it there; btrfs_ck_can_put was asked. What fails ends the check. */
void btrfs_ck_put(struct ck *c, u64 logical, u32 copy, const void *from, u64 len_bytes);
/* Before anything else: sets mends, super and super_ok, and finds what is wrong with how the superblock points to trees. */
void btrfs_ck_mend_init(struct ck *c);
/* The volume's device that one of devs is, when its superblocks may be written; NULL: it is a seed, or missed commits. */
const struct btrfs_device *btrfs_ck_super_device(const struct ck *c, u32 dev);
/* SUPER_VALUE: a member of `super` should be `right`. proven: there is no doubt about that. */
void btrfs_ck_super_value(struct ck *c, le64 *field, u64 right, bool proven, const char *detail, ...)
	__printf_like(5, 6);
/* After everything else: superblocks that were to be written are. */
void btrfs_ck_mend_end(struct ck *c);

/* ---- ranges.c ---- */

/* At or behind the last one, with which it is joined when they touch. */
int btrfs_ck_range_add(struct ck_ranges *r, u64 from, u64 to) __must_check;
/* How many bytes of [from, to) are in a range. */
u64 btrfs_ck_range_covered(const struct ck_ranges *r, u64 from, u64 to);
/* Puts ranges that were added in any order in order, and joins them. */
void btrfs_ck_range_sort(struct ck_ranges *r);
/* The first place where two differ; ~0: they are the same. */
u64 btrfs_ck_range_differ(const struct ck_ranges *a, const struct ck_ranges *b);
void btrfs_ck_ranges_free(struct ck_ranges *r);

/* ---- extent_store.c ---- */

/* NULL: the extent tree has nothing that begins there. */
struct ck_extent *btrfs_ck_extent(const struct ck *c, u64 bytenr);
/* The first extent that begins at or behind an address, as an index. */
u64 btrfs_ck_extent_from(const struct ck *c, u64 bytenr);
/* One behind the last. NULL: no memory (the check ends). */
struct ck_extent *btrfs_ck_extent_add(struct ck *c, u64 bytenr);
/* The block group that an address lies in; NULL: none. Borrowed. */
struct ck_group *btrfs_ck_group(const struct ck *c, u64 bytenr);
/* What one reference counts in a sum: a reference's type and members. */
u64 btrfs_ck_ref(const struct ck *c, u8 type, u64 a, u64 b, u64 d);
/* The same of a name: who has it (a subvolume's tree, or an inode), in which directory, with which number. */
u64 btrfs_ck_name_hash(const struct ck *c, u64 who, u64 dir, u64 index, const void *name, u32 len);

/* ---- walk.c ---- */

struct ck_tree {
	u64 id, bytenr, generation;
	u32 level;
	bool log;              /* the extent tree does not know its nodes */
	struct btrfs_key drop; /* with drop_level: what lies before it is dropped already */
	u32 drop_level;
	u32 root; /* of subvolumes: index in ck.root, from 1 on */
};
struct ck_item {
	struct btrfs_key key;
	const void *data;
	u32 len;
	const void *leaf;
	bool first; /* the leaf was not met before, in another tree */
	bool full;  /* references from it name it */
};
struct ck_walk {
	const struct ck_tree *tree;
	/* Each sound item in order; NULL: none is wanted. */
	void (*item)(struct ck *c, void *ctx, const struct ck_item *it);
	void *ctx;
	/* Afterwards: */
	u32 missing;   /* subtrees that could not be read */
	u32 bad_items; /* items that are not sound */
	u32 skipped;   /* nodes that are shared by so many trees that they were not walked again */
};
/* Every node of a tree, from all copies when it is met first; references are counted. False: the check ends. */
bool btrfs_ck_walk(struct ck *c, struct ck_walk *w);
/* The tree of a root item. */
void btrfs_ck_tree_of(const struct ck *c, u32 root, struct ck_tree *out);
/* A tree that there is one of. False: there is no root item of it that can be used. */
bool btrfs_ck_tree_find(struct ck *c, u64 id, struct ck_tree *out);
/* The first root item of a tree, once the root tree was walked; NULL: there is none. */
struct ck_root *btrfs_ck_root(const struct ck *c, u64 id);
int btrfs_ck_walk_init(struct ck *c) __must_check;
/* What keeps from reading a tree whole becomes a finding: what was not looked at. */
bool btrfs_ck_whole(struct ck *c, const struct ck_walk *w, const char *what);

/* ---- the passes, each in its file ---- */

void btrfs_ck_supers(struct ck *c);
/* Last: that an error was recorded is forgotten when nothing is wrong. */
void btrfs_ck_error_flag(struct ck *c);
void btrfs_ck_devices(struct ck *c);
void btrfs_ck_roots(struct ck *c);
void btrfs_ck_extents(struct ck *c);
/* After every tree was walked. */
void btrfs_ck_references(struct ck *c);
void btrfs_ck_groups(struct ck *c);
void btrfs_ck_free_space(struct ck *c);
/* What extents leave of a piece of the volume. */
int btrfs_ck_gaps(struct ck *c, u64 start, u64 len_bytes, struct ck_ranges *out) __must_check;
void btrfs_ck_space_cache(struct ck *c);
void btrfs_ck_csums(struct ck *c);
void btrfs_ck_csums_alone(struct ck *c);
void btrfs_ck_files(struct ck *c);
void btrfs_ck_subvolumes(struct ck *c);
void btrfs_ck_uuids(struct ck *c);
void btrfs_ck_quotas(struct ck *c);
/* All trees that no other pass walks. */
void btrfs_ck_others(struct ck *c);
void btrfs_ck_log(struct ck *c);
void btrfs_ck_data(struct ck *c);

/* ---- parity.c: P and Q of the rows that checked data lie in ---- */

struct ck_parity;
/* NULL: no memory. */
struct ck_parity *btrfs_ck_parity_new(struct ck *c) __must_check;
void btrfs_ck_parity_free(struct ck_parity *p);
/* Sectors of a chunk with parity have right checksums or wrong ones. In order of address. */
void btrfs_ck_parity_seen(struct ck_parity *p, u64 from, u32 sectors, bool right);
/* There are no more. */
void btrfs_ck_parity_end(struct ck_parity *p);

/* ---- names.c: inodes of one subvolume, and their names ---- */

struct ck_inode {
	u64 ino;
	u64 names_sum; /* of names that it has, less those that directories have for it: 0 */
	u32 nlink, names;
	u16 entry_types; /* a bit for each type that entries give it */
	u8 type;         /* enum btrfs_file_type of its mode */
	bool here;       /* it has an item */
	bool orphan, entry;
};
struct ck_dir {
	u64 ino;
	u64 parent;
	u64 seen; /* the walk up that came by; ~0: it leads to the root */
};
struct ck_names {
	const struct ck_tree *tree;
	struct ck_table inodes, dirs;
	bool suspects; /* some inode's names disagree */
};
struct ck_inode *btrfs_ck_inode(struct ck *c, struct ck_names *n, u64 ino);
/* INODE_REF and INODE_EXTREF; DIR_INDEX. */
void btrfs_ck_name(struct ck *c, struct ck_names *n, const struct ck_item *it);
void btrfs_ck_index(struct ck *c, struct ck_names *n, const struct ck_item *it);
/* All of the tree was seen. */
void btrfs_ck_names_end(struct ck *c, struct ck_names *n);
void btrfs_ck_names_free(struct ck_names *n);

#endif
