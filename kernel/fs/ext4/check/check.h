/*
 * Private to kernel/fs/ext4/check: finding everything that is wrong with a volume, and mending it. Each kind of finding is one row of the
 * table CK_CODES.
 *
 * Mending. A pass that finds something asks ck_fix and, told so, mends it at once, in the buffer and on the device (ck_put). What follows
 * from that for the rest of this pass and for the next ones is taken into account where it is easy, and else left: who wants a volume mended goes
 * over it again until nothing is left to mend, and the last round only finds. So nothing here has to be right about the order in
 * which things are mended, only two things: what is mended is not found again, and nothing that somebody could still want is thrown
 * away while a name in lost+found, or a copy, would keep it. The device is an overlay in memory (vfs.h, check): nothing is on the volume before
 * all of it was mended and looked at again.
 *
 * The files stand here in dependency order. The passes, each in its file:
 *   log      what was mended onto the volume, as one transaction; spare: the journal that there may be for it
 *   supers   superblock, descriptors, their copies, the journal, what protects against two mounts
 *   inodes   every inode, its map and its attributes: what is in use, and what it claims
 *   dirs     every block of every directory
 *   links    whether everything has a name and is counted by it; then quotas: what its owners use
 *   bitmaps  bitmaps, groups and the superblock's sums against what was found
 *
 * Invariants
 *  1. What lies on the volume is read without verifiers, or past them, and is believed only as far as this code has checked it.
 *  2. A block that was claimed before is not followed a second time, so that no volume makes a walk long: the time is bounded by the
 *     size of the volume.
 *  3. Memory: a bit for each cluster and eight bytes for each inode of groups that are in use, and what directories need.
 *  4. ck->err is the first reason to end; every loop asks ck_goes_on.
 */
#ifndef EXT4_CHECK_H
#define EXT4_CHECK_H

#include "../ext4.h"

#include "lib/text.h"

/*
 * X(name, code, object, grade, sentence, mending, what mends it). What is known besides is added to the sentence. SAFE: mending can lose
 * nothing, and is done without being asked for. ASK: it is a decision. NEVER: it is said only.
 */
#define CK_CODES(X)                                                                                          \
	X(SUPER_PRIMARY, "super-primary", "superblock", WRONG,                                               \
	  "the first superblock is damaged, a copy was used", SAFE,                                          \
	  "write the first one anew from the copy")                                                          \
	X(SUPER_SUM, "super-checksum", "superblock", WRONG, "wrong checksum", ASK,                           \
	  "compute the checksum anew")                                                                       \
	X(SUPER_FIELD, "super-field", "superblock", WRONG, "a field cannot be right", ASK,                   \
	  "set it to what it can be")                                                                        \
	X(SUPER_FREE_BLOCKS, "super-free-blocks", "superblock", HINT, "the number of free blocks is wrong",  \
	  SAFE, "set the number")                                                                            \
	X(SUPER_FREE_INODES, "super-free-inodes", "superblock", HINT, "the number of free inodes is wrong",  \
	  SAFE, "set the number")                                                                            \
	X(SUPER_STATE, "super-state", "superblock", HINT, "it says that the volume is not sound", SAFE,      \
	  "forget it once all is sound")                                                                     \
	X(SUPER_COPY, "super-copy", "superblock", WRONG, "a copy is damaged or of another volume", SAFE,     \
	  "write the copy anew")                                                                             \
	X(SUPER_COPY_FEATURES, "super-copy-features", "superblock", HINT, "a copy lacks features", SAFE,     \
	  "write the copy anew")                                                                             \
	X(ORPHANS_LEFT, "orphans-left", "superblock", HINT,                                                  \
	  "deleted files wait for the next mount to be freed", SAFE, "free them")                            \
	X(ORPHAN_PRESENT, "orphan-present", "superblock", WRONG,                                             \
	  "it says that there are orphans, but there are none", SAFE, "say that there are none")             \
	X(ORPHAN_BAD, "orphan-bad", "inode", WRONG, "the list of orphans leads to what is none", ASK,        \
	  "empty the list")                                                                                  \
	X(ORPHAN_FILE, "orphan-file", "inode", WRONG, "the orphan file is damaged", ASK,                     \
	  "make the orphan file anew")                                                                       \
	X(JOURNAL, "journal", "superblock", LOSS, "the journal cannot be used", ASK,                         \
	  "make the journal anew, without what it may still hold")                                           \
	X(JOURNAL_INODE, "journal-inode", "inode", WRONG,                                                    \
	  "the journal's inode is damaged, the superblock's copy was used", SAFE,                            \
	  "write it as the copy has it")                                                                     \
	X(JOURNAL_COPY, "journal-copy", "superblock", HINT, "its copy of the journal's inode is old", SAFE,  \
	  "write the copy anew")                                                                             \
	X(JOURNAL_NEEDED, "journal-needed", "superblock", LOSS,                                              \
	  "the latest changes are in a journal that lies elsewhere", ASK, "go on without them")              \
	X(JOURNAL_ERROR, "journal-error", "superblock", HINT, "the journal noted an error", SAFE,            \
	  "forget it once all is sound")                                                                     \
	X(JOURNAL_SPARE, "journal-spare", "superblock", WRONG,                                               \
	  "its journal is one that was there while it was mended, which broke off", SAFE,                    \
	  "name the one that it had before")                                                                 \
	X(JOURNAL_ELSEWHERE, "journal-elsewhere", "superblock", HINT,                                        \
	  "the journal lies elsewhere and was not looked at", NEVER, "")                                     \
	X(MMP, "mmp", "superblock", WRONG, "the block of multiple mount protection is damaged", ASK,         \
	  "make the block anew")                                                                             \
	X(GROUP_DESC, "group-descriptor", "group", LOSS, "the descriptor is damaged", ASK,                   \
	  "write the descriptor anew")                                                                       \
	X(GROUP_COPY, "group-copy", "group", WRONG, "a copy of the descriptor says otherwise", SAFE,         \
	  "write the copy anew")                                                                             \
	X(GROUP_UNUSED, "group-unused", "group", WRONG,                                                      \
	  "what it says of parts that were never used cannot be", SAFE, "count them as used")                \
	X(GROUP_META_TWICE, "group-metadata-overlap", "group", LOSS,                                         \
	  "its bitmaps or its inode table lie on metadata", ASK, "move it to free blocks")                   \
	X(GROUP_FREE_BLOCKS, "group-free-blocks", "group", WRONG, "the number of free blocks is wrong",      \
	  SAFE, "set the number")                                                                            \
	X(GROUP_FREE_INODES, "group-free-inodes", "group", WRONG, "the number of free inodes is wrong",      \
	  SAFE, "set the number")                                                                            \
	X(GROUP_DIRS, "group-directories", "group", WRONG, "the number of directories is wrong", SAFE,       \
	  "set the number")                                                                                  \
	X(GROUP_BEYOND, "group-inodes-beyond", "group", LOSS,                                                \
	  "inodes that are in use lie where it says that none are", SAFE, "look at these too")               \
	X(BLOCK_BITMAP_SUM, "block-bitmap-checksum", "group", WRONG, "wrong checksum of the block bitmap",   \
	  SAFE, "write the bitmap as it has to be")                                                          \
	X(INODE_BITMAP_SUM, "inode-bitmap-checksum", "group", WRONG, "wrong checksum of the inode bitmap",   \
	  SAFE, "write the bitmap as it has to be")                                                          \
	X(BLOCK_BITMAP_LACKS, "block-bitmap-lacks", "group", LOSS, "blocks that are in use count as free",   \
	  SAFE, "count them as used")                                                                        \
	X(BLOCK_BITMAP_MORE, "block-bitmap-more", "group", WRONG, "blocks that nobody uses count as used",   \
	  SAFE, "count them as free")                                                                        \
	X(INODE_BITMAP_LACKS, "inode-bitmap-lacks", "group", LOSS, "inodes that are in use count as free",   \
	  SAFE, "count them as used")                                                                        \
	X(INODE_BITMAP_MORE, "inode-bitmap-more", "group", WRONG, "inodes that are free count as used",      \
	  SAFE, "count them as free")                                                                        \
	X(BITMAP_END, "bitmap-end", "group", WRONG, "the end of a bitmap is not filled up", SAFE,            \
	  "fill it up")                                                                                      \
	X(READ_ERROR, "read-error", "block", LOSS, "cannot be read", NEVER, "")                              \
	X(ROOT, "root", "inode", LOSS, "the root is not a directory", ASK, "make a root directory")          \
	X(INODE_SUM, "inode-checksum", "inode", WRONG, "wrong checksum", ASK,                                \
	  "keep what it says and compute the checksum anew")                                                 \
	X(INODE_MODE, "inode-mode", "inode", LOSS, "unknown type", ASK, "clear the inode")                   \
	X(INODE_IS_DIR, "inode-is-directory", "inode", LOSS,                                                 \
	  "its type is not that of the directory it holds", ASK, "make it a directory")                      \
	X(INODE_DTIME, "inode-dtime", "inode", WRONG, "a time of deletion that cannot be", SAFE, "clear it") \
	X(INODE_RESERVED, "inode-reserved", "inode", WRONG, "a reserved inode is not what it has to be",     \
	  ASK, "make it what it has to be")                                                                  \
	X(INODE_EXTRA, "inode-extra-size", "inode", WRONG, "impossible size of the extra fields", ASK,       \
	  "set the usual size")                                                                              \
	X(INODE_TIME, "inode-time", "inode", WRONG, "a time that cannot be", SAFE,                           \
	  "set it to what it can be")                                                                        \
	X(INODE_FIELD, "inode-field", "inode", WRONG, "a field that must be zero is not", SAFE, "clear it")  \
	X(INODE_FLAGS, "inode-flags", "inode", WRONG, "flags that it cannot have", ASK,                      \
	  "make flags, content and features agree")                                                          \
	X(INODE_SIZE, "inode-size", "inode", WRONG, "the size is not that of its blocks", ASK,               \
	  "set the size to what its blocks say")                                                             \
	X(INODE_BLOCKS, "inode-blocks", "inode", WRONG, "the number of blocks is wrong", SAFE,               \
	  "set the number")                                                                                  \
	X(INODE_SPECIAL, "inode-special", "inode", WRONG,                                                    \
	  "a device, socket or pipe with blocks, size or flags", ASK, "clear them")                          \
	X(SYMLINK, "symlink", "inode", LOSS, "the symbolic link is damaged", ASK, "clear the inode")         \
	X(INLINE_DATA, "inline-data", "inode", LOSS, "the inline data is damaged", ASK,                      \
	  "keep what can be read")                                                                           \
	X(ENCRYPT, "encryption", "inode", LOSS, "encrypted, but without a right encryption context", ASK,    \
	  "clear the flag, or the inode whose context is damaged")                                           \
	X(EXTENT_HEAD, "extent-header", "inode", LOSS, "a node of the extent tree is damaged", ASK,          \
	  "build the tree anew from what can be read")                                                       \
	X(EXTENT_SUM, "extent-checksum", "inode", WRONG, "wrong checksum of a node of the extent tree", ASK, \
	  "keep what it says and compute the checksum anew")                                                 \
	X(EXTENT_ORDER, "extent-order", "inode", LOSS, "an extent is out of order", ASK,                     \
	  "build the tree anew from what can be read")                                                       \
	X(EXTENT_RANGE, "extent-range", "inode", LOSS, "an extent cannot be", ASK, "take it out")            \
	X(EXTENT_INDEX, "extent-index", "inode", WRONG, "an index says another beginning than its node",     \
	  SAFE, "set the beginning")                                                                         \
	X(MAP_BLOCK, "map-block", "inode", LOSS, "a block number is not on the volume", ASK, "take it out")  \
	X(DIR_UNWRITTEN, "directory-unwritten", "inode", LOSS,                                               \
	  "a directory with blocks that were never written", ASK,                                            \
	  "count them as written, where they hold names")                                                    \
	X(BLOCK_TWICE, "block-twice", "inode", LOSS, "claims blocks that something else claims", ASK,        \
	  "give it its own copies")                                                                          \
	X(BLOCK_ASKEW, "block-askew", "inode", WRONG, "clusters of the file are none of the volume", ASK,    \
	  "copy it to clusters of its own")                                                                  \
	X(XATTR_BLOCK, "xattr-block", "inode", LOSS, "the block of attributes is damaged", ASK,              \
	  "keep the attributes that can be read")                                                            \
	X(XATTR_LIST, "xattr-list", "inode", LOSS, "the attributes in the inode are damaged", ASK,           \
	  "keep the attributes that can be read")                                                            \
	X(XATTR_HASH, "xattr-hash", "inode", WRONG, "wrong hash of an attribute", SAFE,                      \
	  "compute the hash anew")                                                                           \
	X(XATTR_REFS, "xattr-refcount", "block", WRONG,                                                      \
	  "the number of inodes that share the attributes is wrong", SAFE, "set the number")                 \
	X(XATTR_INODE, "xattr-inode", "inode", LOSS, "the value of an attribute is not where it should be",  \
	  ASK, "remove the attribute")                                                                       \
	X(XATTR_INODE_REFS, "xattr-inode-refcount", "inode", WRONG,                                          \
	  "the number of attributes that use it is wrong", SAFE, "set the number")                           \
	X(ACL, "acl", "inode", WRONG, "an ACL makes no sense", ASK, "remove the ACL")                        \
	X(RESIZE, "resize-inode", "inode", WRONG, "the room for more descriptors is not described rightly",  \
	  SAFE, "describe it anew")                                                                          \
	X(DIR_BLOCK, "directory-block", "inode", LOSS, "a block of the directory is damaged", ASK,           \
	  "keep the names that can be read")                                                                 \
	X(DIR_SUM, "directory-checksum", "inode", WRONG, "wrong checksum of a block of the directory", ASK,  \
	  "keep the names and compute the checksum anew")                                                    \
	X(DIR_HOLE, "directory-hole", "inode", LOSS, "the directory has a hole", ASK,                        \
	  "fill it with an empty block")                                                                     \
	X(DIR_ROOM, "directory-room", "inode", HINT,                                                         \
	  "there is no room for copies, and the directory has blocks without names", SAFE,                   \
	  "give these blocks back")                                                                          \
	X(DIR_DOT, "directory-dot", "inode", WRONG, "\".\" is missing or wrong", ASK, "write it")            \
	X(DIR_DOTDOT, "directory-dotdot", "inode", WRONG, "\"..\" is missing or wrong", SAFE, "write it")    \
	X(NAME_BAD, "name-bad", "inode", WRONG, "a name that cannot be", ASK, "give it a name that can be")  \
	X(NAME_TWICE, "name-twice", "inode", WRONG, "a name stands there twice", ASK,                        \
	  "give the second another name")                                                                    \
	X(NAME_FREE, "name-of-free-inode", "inode", LOSS, "a name leads to an inode that is not in use",     \
	  ASK, "remove the name")                                                                            \
	X(NAME_NOWHERE, "name-nowhere", "inode", LOSS, "a name leads to an inode that cannot have one", ASK, \
	  "remove the name")                                                                                 \
	X(NAME_TYPE, "name-type", "inode", WRONG, "a name says another type than the inode", SAFE,           \
	  "set the type")                                                                                    \
	X(NAME_CRYPT, "name-encryption", "inode", WRONG,                                                     \
	  "a name in an encrypted directory that is not as it must be", ASK, "remove the name")              \
	X(DIR_TWO_NAMES, "directory-two-names", "inode", WRONG, "a directory has a second name", ASK,        \
	  "remove the second name")                                                                          \
	X(HTREE_ROOT, "htree-root", "inode", WRONG, "the root of the index is damaged", SAFE,                \
	  "build the index anew")                                                                            \
	X(HTREE_NODE, "htree-node", "inode", WRONG, "the index is damaged", SAFE, "build the index anew")    \
	X(HTREE_HASH, "htree-hash", "inode", WRONG, "names stand where the index does not look for them",    \
	  SAFE, "build the index anew")                                                                      \
	X(HTREE_REF, "htree-reference", "inode", WRONG, "the index does not lead to each block once", SAFE,  \
	  "build the index anew")                                                                            \
	X(LOST_FOUND, "lost-found", "inode", WRONG, "lost+found is not a directory", ASK,                    \
	  "make the directory lost+found")                                                                   \
	X(LOST_MISSING, "lost-found-missing", "inode", HINT, "there is no directory lost+found", SAFE,       \
	  "make it")                                                                                         \
	X(UNCONNECTED, "directory-unconnected", "inode", LOSS,                                               \
	  "no way leads from the root to the directory", ASK, "give it a name in lost+found")                \
	X(NO_NAME, "inode-no-name", "inode", LOSS, "in use, but without a name", ASK,                        \
	  "give it a name in lost+found")                                                                    \
	X(LINKS, "links", "inode", WRONG, "the number of links is wrong", SAFE, "set the number")            \
	X(QUOTA_FILE, "quota-file", "inode", WRONG, "the quota file is damaged", ASK,                        \
	  "make it anew, with the limits that can be read")                                                  \
	X(QUOTA_USAGE, "quota-usage", "inode", WRONG, "the quota file says another usage than there is",     \
	  SAFE, "count the usage anew, and keep the limits")

enum ck_code {
#define CK_NAME(name, ...) CK_##name,
	CK_CODES(CK_NAME)
#undef CK_NAME
		CK_COUNT
};

/* What is known of an inode. */
#define CK_USED   0x01u
#define CK_BAD    0x02u /* its map cannot be followed */
#define CK_CRYPT  0x04u
#define CK_EA     0x08u /* holds the value of an attribute */
#define CK_PARENT 0x10u /* a directory to which a name leads */
#define CK_WANTED 0x20u /* somebody wants to know its name */
#define CK_ORPHAN 0x40u
#define CK_UNSURE 0x80u /* it says that it has no links, and nothing else says that it was deleted */
struct ck_ino {
	u32 found; /* names that lead there */
	u16 links; /* that it says */
	u8 kind;   /* the type bits of its mode */
	u8 flags;  /* CK_* */
};

/* A bit for each cluster. */
struct ck_bits {
	u8 **group; /* [groups] NULL: none is set */
};

/* Numbers to numbers; keys are not 0. */
struct ck_map {
	u64 *key, *val;
	u32 count, cap; /* cap: a power of two */
};

/* Blocks of directories, in order of directory and lblk. */
struct ck_dirblk {
	u64 pblk;
	u32 lblk;
};
struct ck_dir {
	u32 ino, generation, flags; /* EXT4_FL_* */
	u32 dotdot;                 /* what ".." says; 0: nothing */
	u32 parent;                 /* the directory in which its name was found; 0: none */
	u32 first, count;           /* of its blocks */
	u64 size_bytes;
	bool partial; /* something is wrong with its map: not all of its blocks are known */
	bool holes;   /* some of the blocks that are not there never were */
};

/* A piece of a map that is built anew. */
struct ck_run {
	u64 pblk;
	u32 lblk, len; /* blocks */
	bool unwritten;
};

/* What an id uses. */
struct ck_usage {
	u64 bytes, inodes;
	u32 id;
	bool listed; /* the quota file has it */
};
struct ck_quota {
	struct ck_map of; /* id, from 1 → index of usage, from 1 */
	struct ck_usage *usage;
	u32 count, room;
};

/* A finding about an inode that waits for the inode's name. */
struct ck_wait {
	enum ck_code code;
	u64 nr;
	char *text;
};

struct ck {
	struct ext4_super *es;
	struct blkdev *dev;
	const struct check_opts *opts;
	struct check_summary *sum;
	int err;
	bool again;     /* inodes are gone through once more, for those with blocks that are claimed twice */
	bool any_twice; /* or askew */
	char journal_why[300]; /* the journal cannot be applied; "": it can */
	bool replayed;         /* the journal, in memory */
	bool asked_copy;       /* the superblock is the copy that was asked for */
	bool stale;            /* what was mended makes what is known wrong: the round ends with this pass */
	bool names_known;
	u32 looked; /* blocks in which names were looked for */
	u32 pass;
	bool (*path)(struct ck *ck, u64 ino, struct text *out); /* how names are found: path.c */
	struct ck_bits used, twice;
	/* For mending: */
	bool rest;               /* what comes after is left to the next round */
	bool finish_orphans;     /* after the round */
	bool no_room;            /* for copies of blocks that are claimed twice */
	u32 own;                 /* CK_OWN_* that are to be made in free blocks */
	bool tables_known;       /* where they are at least: they were looked for */
	u8 *move;                /* [groups] CK_MOVE_* that are to get free blocks; NULL: none */
	struct ext4_group *made; /* [groups] where their tables were at first; NULL: not known yet */
	u64 journal_blocks;      /* that the journal had; 0: not known */
	u64 resize_blk;          /* the map of the resize inode has a block; 0: none */
	u64 too_many;            /* clusters in a row that were not found; 0: all were */
	struct ck_ino **ino;     /* [groups][inodes_per_group] NULL: none in use */
	struct ck_dir *dir;
	u32 dirs, dir_room;
	struct ck_dirblk *blk;
	u32 blks, blk_room;
	struct ck_map dir_of; /* inode → index of dir, from 1 */
	struct ck_map parent; /* inode that is wanted → a directory with its name */
	struct ck_map xattr;  /* block of attributes → inodes that have it */
	struct ck_map policy; /* encrypted inode → its policy, where that is another than `usual` */
	u64 usual;            /* policy: that of the first encrypted inode; 0: none yet */
	struct ck_map moved;  /* block of attributes that is claimed twice → where it is now */
	struct ck_map ea;     /* inode with a value → attributes that have it */
	struct ck_quota quota[QUOTA_KINDS];
	struct ck_wait *wait;
	u32 waits, wait_room;
	/* While the map of one inode is mended: */
	struct ck_run *run;
	u32 runs, run_room;
	u64 *node; /* blocks of its tree that are its own */
	u32 nodes, node_room;
	struct ck_bits kept; /* of those that are claimed twice: they stay with who claimed them */
	u64 *fresh;          /* of these, what the inode under way got */
	u32 freshes, fresh_room;
	bool names_mended; /* something was mended in directories */
	u32 lost;          /* lost+found, once something was put there; else 0 */
	u32 lost_at;       /* its block in which the search for room begins */
};

/* ---- report.c ---- */

/* A finding that is said only. fmt: what is known besides, "" nothing. */
void ck_say(struct ck *ck, enum ck_code code, u64 nr, const char *fmt, ...) __printf_like(4, 5);
/* A finding that the caller can mend as its row says. True: it is to do so, now. */
bool ck_fix(struct ck *ck, enum ck_code code, u64 nr, const char *fmt, ...) __printf_like(4, 5) __must_check;
/* Findings are mended, perhaps. */
static inline bool ck_mends(const struct ck *ck)
{
	return ck->opts->mend;
}
/* What waited for names is said now. */
void ck_names_known(struct ck *ck);
bool ck_goes_on(struct ck *ck);
/* Memory is short. */
void ck_no_memory(struct ck *ck);
void ck_progress(struct ck *ck, const char *name, u64 done, u64 all);
/* *p has room for one more of `size` bytes. False: no memory. */
bool ck_room(struct ck *ck, void *p, u32 count, u32 *room, size_t size) __must_check;

/* ---- seen.c ---- */

int ck_seen_new(struct ck *ck) __must_check;
void ck_seen_free(struct ck *ck);
/* Claims clusters [from, from + n), counted from the first data block: those that were claimed before are twice. Returns how many were. */
u64 ck_claim(struct ck *ck, u64 from, u64 n);
/* How many of the clusters are claimed twice. */
u64 ck_twice(const struct ck *ck, u64 from, u64 n);
bool ck_is_used(const struct ck *ck, u64 cluster);
static inline u64 ck_cluster(const struct ck *ck, u64 blk)
{
	return (blk - ck->es->first_data_blk) >> ck->es->cluster_bits;
}
/* What is known of an inode; NULL: nothing, or there is no such number. */
static inline struct ck_ino *ck_ino(const struct ck *ck, u64 ino)
{
	const struct ext4_super *es = ck->es;
	struct ck_ino *g = ino && ino <= es->inodes ? ck->ino[ext4_ino_group(es, ino)] : NULL;

	return g ? &g[(ino - 1) % es->inodes_per_group] : NULL;
}
/* The same, made when it is not there yet. NULL: no memory. */
struct ck_ino *ck_ino_make(struct ck *ck, u64 ino);
u64 *ck_map_at(struct ck *ck, struct ck_map *m, u64 key); /* made as 0; NULL: no memory */
u64 ck_map_get(const struct ck_map *m, u64 key);          /* 0: not there */
struct ck_dir *ck_dir_of(const struct ck *ck, u64 ino);   /* NULL: none */
/* The block's bytes, without any check. False: it cannot be read, which was said. */
bool ck_read(struct ck *ck, u64 blk, struct buffer_head **out) __must_check;
/* Writes the block as its buffer has it, which the caller changed while mending. Checksums inside are the caller's. */
void ck_put(struct ck *ck, struct buffer_head *bh);

/* ---- groups.c ---- */

/* How many inodes at the group's start may be in use, as its descriptor has it. */
u32 ck_slots_ready(const struct ext4_super *es, u32 group);
/* The inode is behind those, but looks as if it were in use. */
bool ck_ino_hidden(struct ck *ck, u64 ino);

/*
 * n clusters in a row that nobody has, from `goal` on where there are any, claimed; counted as ck_claim does. What is used has to be known: after
 * the pass over the inodes. -ENOSPC: there are none.
 */
int ck_alloc(struct ck *ck, u64 goal, u64 n, u64 *first) __must_check;
/* The same in [from, end). */
int ck_alloc_within(struct ck *ck, u64 from, u64 end, u64 n, u64 *first) __must_check;
/*
 * The number of a free inode, from `goal_group` on, which is CK_USED now. Its slot holds what was there; the caller writes all of it. After the pass
 * over the inodes. -ENOSPC: there is none.
 */
int ck_alloc_ino(struct ck *ck, u32 goal_group, bool is_dir, u64 *ino) __must_check;
/* The first of a group's descriptors, as es->group has it. */
void ck_group_put(struct ck *ck, u32 group);
/* The bitmap of the group's blocks, or inodes: `bits` (NULL: none is set), its end filled up; its sum, its descriptor; it is no longer said to be unwritten. */
void ck_bitmap_put(struct ck *ck, u32 group, bool blocks, const u8 *bits);

/* ---- mend_super.c ---- */

/* es->disk, to where the first superblock is. */
void ck_super_put(struct ck *ck);
/* The first superblock's checksum, as it lies there, is right; or it cannot be read, which was said. */
bool ck_super_sum_ok(struct ck *ck);
/*
 * Sizes, or features of layout, that never change are others in the copies, where mkfs puts these: in two of them, or in one, and what follows from the first superblock's
 * makes no sense. *copy: one of them.
 */
bool ck_super_sizes_differ(struct ck *ck, struct ext4_disk_super *copy);
void ck_super_take_sizes(struct ck *ck, const struct ext4_disk_super *copy);
void ck_super_copy_put(struct ck *ck, u64 blk);
void ck_super_reserved(struct ck *ck, u64 blocks);
void ck_super_counts(struct ck *ck, u64 free_blocks, u64 free_inodes);
/* The end of a round of mending: a volume in which nothing was found is called sound. */
void ck_super_end(struct ck *ck);

/* ---- mend_groups.c ---- */

#define CK_MOVE_ITABLE 0x1u
#define CK_MOVE_BLOCKS 0x2u
#define CK_MOVE_INODES 0x4u

/* The descriptor anew: as es->group has it from a copy, or with what can be known. */
void ck_desc_mend(struct ck *ck, u32 group);
/* The group has no part that was never used; also where its descriptor could not say it. */
void ck_group_all_used(struct ck *ck, u32 group);
void ck_desc_all_used(struct ck *ck, u32 group, struct ext4_disk_group *desc);
/* Inode tables lie on each other: true: one is where it was at first, as its inodes show, and not where the descriptor said. Looks once. */
bool ck_tables_found(struct ck *ck);
/* block: the first one of the group's table. Where the table is not there at all, though nothing else lies there, that is said and mended. */
void ck_table_check(struct ck *ck, u32 group, const void *block);
/* That of the group gets another place, after the pass over the inodes. */
void ck_move(struct ck *ck, u32 group, u8 what);
void ck_groups_move(struct ck *ck);

/* ---- mend_own.c ---- */

#define CK_OWN_JOURNAL      0x01u
#define CK_OWN_ORPHANS      0x02u
#define CK_OWN_MMP          0x04u
#define CK_OWN_RESIZE       0x08u
#define CK_OWN_ORPHANS_HERE 0x10u /* where they are, if nobody else is there */
#define CK_OWN_MMP_HERE     0x20u

/* A log without transactions in the blocks that the journal's inode has. */
int ck_log_anew(struct ck *ck) __must_check;
/* The journal without transactions, in the blocks that it has; where that cannot be, elsewhere. */
void ck_journal_empty(struct ck *ck);
/* The same, once all of it was applied that can be. */
void ck_journal_salvage(struct ck *ck, struct jbd2 *journal);
/* The error that it notes is the superblock's now. */
void ck_journal_forgive(struct ck *ck, struct jbd2 *journal);
/* The volume needs no recovery. */
void ck_journal_done(struct ck *ck);
/* It is looked for in the inode in which journals are: what the superblock named is none. */
void ck_journal_usual(struct ck *ck);
/* Its inode as the superblock has it. */
void ck_journal_inode(struct ck *ck, const struct ext4_inode *copy);
/* Another journal, elsewhere. */
void ck_journal_give_up(struct ck *ck);
void ck_orphan_list_empty(struct ck *ck);
/* The superblock no longer says that there may be any in the file. */
void ck_orphans_done(struct ck *ck);
/* The orphan file without orphans, in its blocks or elsewhere. */
void ck_orphan_file_empty(struct ck *ck);
/* The block against two mounts, where the superblock says. */
void ck_mmp_put(struct ck *ck);
/* A reserved inode that is nothing. */
void ck_reserved_clear(struct ck *ck, u32 ino);
/* The inode, one of the volume's own, as `raw` has it, all else in its slot gone. */
void ck_own_put(struct ck *ck, u32 ino, const struct ext4_disk_inode *raw);
/* What is used is known: n free blocks for the inode, their map written. *raw: it as a file of these. */
int ck_file_place(struct ck *ck, u32 ino, u32 n, struct ext4_disk_inode *raw) __must_check;
/* After the pass over the inodes: the inode, one of the volume's own, becomes a file of n free blocks, whose content is what is there. */
int ck_file_make(struct ck *ck, u32 ino, u32 n) __must_check;
/* After the pass over the inodes: what is to be made in free blocks. */
void ck_own_make(struct ck *ck);

/* ---- spare.c ---- */

/* A volume that nobody has open, for what is written without being asked about. */
struct ck_still {
	struct check_opts opts;
	struct check_summary sum;
	struct ck ck;
};
/* As it lies: the journal is not applied, nobody is looked for. */
int ck_open_still(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
		  struct ext4_super **out) __must_check;
int ck_still_open(struct ck_still *s, const struct fs_type *type, struct blkdev *dev,
		  const struct mount_opts *mount) __must_check;
/* All is durable. */
int ck_still_close(struct ck_still *s, struct blkdev *dev) __must_check;
/* The superblock as es->disk has it, durably. */
int ck_super_sync(struct ck *ck) __must_check;
/* What a superblock says of the journal. */
struct ck_journal {
	bool has, recover;
	u32 inum;
};
struct ck_journal ck_journal_of(const struct ext4_disk_super *d);
void ck_journal_set(struct ext4_disk_super *d, const struct ck_journal *journal);
/* The inode of a spare journal: what is to be said when that ends. */
void ck_spare_remember(struct ext4_disk_inode *raw, const struct ck_journal *own);
/* Something is left of a spare journal: the superblock names it, or its inode is there. */
bool ck_spare_left(struct ck *ck);
/* Nothing is any more, and the superblock says of the journal what it said before, or what was mended, as far as the spare one was applied. */
int ck_spare_end(struct ck *ck) __must_check;

/* ---- settle.c ---- */

/*
 * What a mount does first: the journal is applied to the device, fast commits included, and orphans are finished. With `orphans` also where there is
 * nothing but these. The volume is opened by nobody. -EUCLEAN, -EIO and others: it is damaged; -EBUSY.
 */
int ck_mount_once(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
		  bool orphans) __must_check;
/* Orphans are finished, or, where that cannot be, forgotten. */
int ck_finish_orphans(const struct fs_type *type, struct blkdev *dev,
		      const struct mount_opts *mount) __must_check;

/* ---- path.c ---- */

/* After all directories: what waited for names is said. */
void ck_find_names(struct ck *ck);
/* The inode's path. False: it is not known. */
bool ck_path(struct ck *ck, u64 ino, struct text *out);

/* ---- mend_inode.c ---- */

/* An inode that is being checked. */
struct ck_inode {
	u64 ino;
	struct ext4_disk_inode *raw; /* es->inode_bytes, a copy */
	bool changed;                /* raw is to be written: ck_inode_put */
	u32 mode, flags, seed;
	u64 size_bytes;
	bool is_dir;
	u64 clusters;     /* claimed, data and map */
	u64 values;       /* of attributes, in inodes of their own */
	u64 last_cluster; /* of the data */
	s64 last_lblk;    /* mapped; -1: none */
	s64 last_written; /* mapped and written */
	u64 next_lblk;    /* for directories: up to here there is no hole */
	u64 twice, first_twice;
	bool bad;           /* something is wrong with the map */
	bool holes;         /* of a directory */
	bool unwritten;     /* some blocks of a directory */
	bool crypt_attr;    /* it has an encryption context */
	bool crypt_context; /* and that can be right */
	bool rebuild;       /* its tree is to be built anew, from ck->run */
	bool unread;        /* a part of its tree was not gone into, but is not to be lost */
	/* ck->again: */
	bool clone;   /* what is not its own is copied, now */
	bool realign; /* all of it is copied, to where clusters of the file are clusters of the volume */
	bool no_room; /* for copies */
	u64 foreign;  /* clusters that stay with somebody else */
	u64 copy_of, copy_at; /* the cluster that was copied last, and where to */
	bool askew;           /* a cluster of the file is none of the volume */
};
/* Seals what is in ci->raw, and writes it. */
void ck_inode_put(struct ck *ck, struct ck_inode *ci);
/* The inode is in use no more, its content forgotten. */
void ck_inode_forget(struct ck *ck, struct ck_inode *ci);
void ck_inode_set_flags(struct ck_inode *ci, u32 clear, u32 set);
void ck_inode_set_size(struct ck_inode *ci, u64 size_bytes);
void ck_inode_set_blocks(const struct ck *ck, struct ck_inode *ci, u64 blocks_512);
/* The volume has these features from now on. */
void ck_feature_set(struct ck *ck, u32 incompat, u32 ro_compat);
/* Something that was to be mended could not be: why is said. */
void ck_not_mended(struct ck *ck, enum ck_code code, u64 nr, const char *why);

/* ---- holds.c ---- */

/* It begins as the root of a tree of extents; and the volume has such. */
bool ck_has_extent_head(const struct ck *ck, const struct ck_inode *ci);
bool ck_has_extent_root(const struct ck *ck, const struct ck_inode *ci);
/* What it holds begins as a directory's first block does, and says that it is this inode's. */
bool ck_holds_dir(struct ck *ck, const struct ck_inode *ci);

/* ---- mend_map.c ---- */

/* Adds to ck->run what the inode's tree will have. */
void ck_run_add(struct ck *ck, u64 lblk, u64 pblk, u64 len, bool unwritten);
/*
 * The header of a node of `bytes` bytes, `depth` levels above the leaves (EXT4_EXTENT_DEPTH_MAX + 1: any), is damaged: makes it what
 * the entries behind it say, in memory. False: they say nothing.
 */
bool ck_head_save(struct ck *ck, const struct ck_inode *ci, struct ext4_disk_extent_header *h, u32 bytes,
		  u32 depth);
/* Sets the checksum of a node of the inode's tree. */
void ck_extent_seal(const struct ck *ck, const struct ck_inode *ci, void *node);
/* Builds the inode's tree anew of ck->run, in ck->node and where these are too few in free blocks. False: there are none. */
bool ck_tree_build(struct ck *ck, struct ck_inode *ci);
/* A copy of the block, in a cluster of the inode's own, as the lblk-th of the file. 0: there is no room, which ci->no_room says from now on. */
u64 ck_copy(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 blk);
/* Of n clusters, those that are claimed twice: they stay with who asks first. How many stay with somebody else. */
u64 ck_keep(struct ck *ck, u64 from, u64 n);
/* What stayed with the inode under way since ck->freshes was 0, is asked for once more. */
void ck_keep_again(struct ck *ck);

/* ---- mend_root.c ---- */

/* After all inodes: a root directory with nothing in it; its block is the last of ck->blk. False: there is no room. */
bool ck_root_make(struct ck *ck);

/* ---- map.c ---- */

/* Goes through the inode's map, and claims what it maps to. */
void ck_map_walk(struct ck *ck, struct ck_inode *ci);
/* Claims one block of the inode's. False: somebody had it. */
bool ck_take(struct ck *ck, struct ck_inode *ci, u64 blk);

/* ---- resize.c ---- */

/* The resize inode: it leads to the blocks that are kept for descriptors. */
void ck_resize(struct ck *ck, struct ck_inode *ci);

/* ---- mend_xattrs.c ---- */

#define CK_XATTR_WORDS (65536 / 16 / 64) /* a bit for each entry that a list may have */

/*
 * The list of attributes in [base + first, base + bytes) is put together anew, of those entries that can be read, without those whose bits are set in
 * `drop` (NULL: none). Returns how many are left.
 */
u32 ck_xattr_pack(struct ck *ck, u8 *base, u32 first, u32 bytes, const u64 *drop);
/* The inode has inline data, but not the attribute that goes with it: it gets an empty one, in memory. False: there is no room. */
bool ck_inline_attr_add(struct ck *ck, struct ck_inode *ci);
/* The block of attributes is sealed, and written. */
void ck_xattr_put(struct ck *ck, struct buffer_head *bh);
void ck_xattr_set_block(const struct ck *ck, struct ck_inode *ci, u64 blk);

/* ---- xattrs.c ---- */

/* The inode's attributes. Adds what they take to ci->clusters. */
void ck_xattrs(struct ck *ck, struct ck_inode *ci, u64 xattr_blk);
/* The list of attributes in the inode. False: it has none. */
bool ck_ibody(const struct ck *ck, const struct ck_inode *ci, struct ext4_xattr_list *l);
/* The value of the attribute system.data: its length, -1: there is none. */
s64 ck_inline_more(struct ck *ck, const struct ck_inode *ci, const u8 **value);
/* Of an encrypted inode: 0 when it is one of which nothing is known. */
u64 ck_policy(const struct ck *ck, u64 ino);
/* After all inodes: reference counts. */
void ck_xattrs_end(struct ck *ck);

/* ---- mend_dir.c: directories that change ---- */

#define CK_INLINE_PARENT 4u /* bytes of "..", before the names of a directory that lies in its inode */

/* A copy of the inode, to be changed and put back; ci->raw is what is returned, and freed by the caller. NULL: it cannot be had. */
void *ck_inode_load(struct ck *ck, u64 ino, struct ck_inode *ci);
/* A block of the directory, which was changed: its checksum, onto the device. */
void ck_dir_put(struct ck *ck, const struct ck_dir *d, u32 lblk, struct buffer_head *bh);
/* Names there have a hash behind them: encrypted, and without regard to case. */
bool ck_stores_hash(const struct ck_dir *d);
/* The shortest record for a name of this length. */
u32 ck_name_bytes(const struct ck_dir *d, u32 name_len);
/*
 * Where names stand that can be read in what may be damaged: len bytes, a multiple of 4; off has room for len / EXT4_DIRENT_MIN + 1. How many. The
 * length of a name is set right where its record is too short for it.
 */
u32 ck_dir_names(struct ck *ck, const struct ck_dir *d, void *base, u32 len, u32 *off);
/* A record of the name `from`, whose ck_name_bytes can be read. */
void ck_record_put(const struct ck_dir *d, void *to, u32 rec_len, const struct ext4_disk_dirent *from);
/* len bytes become a chain of records, of the names that can be read. */
bool ck_region_repack(struct ck *ck, const struct ck_dir *d, void *base, u32 len);
/* What ".." says; 0: it is not there. */
u32 ck_get_dotdot(struct ck *ck, const struct ck_dir *d);
/* For these: false: it could not be done. ".." becomes ino. */
bool ck_set_dotdot(struct ck *ck, const struct ck_dir *d, u32 ino);
/* All names of ino in the directory go. */
bool ck_drop_name(struct ck *ck, const struct ck_dir *d, u32 ino);
/* The directory lies in its inode no more. The caller gives it blocks, and puts it. */
void ck_inline_drop(struct ck *ck, struct ck_inode *ci);
/* The directory has the blocks 0 to count - 1, those that it had and free ones; holes are filled. The caller writes the new ones, and puts ci. */
bool ck_dir_set_blocks(struct ck *ck, struct ck_dir *d, struct ck_inode *ci, u32 count);

/* ---- quotas.c ---- */

/* An inode that is in use, all of which was looked at. */
void ck_quota_count(struct ck *ck, const struct ck_inode *ci);
/* After all of them. */
void ck_quotas(struct ck *ck);

/* ---- the passes ---- */

/* Opens the volume, its journal applied in memory. */
int ck_open(struct ck *ck, const struct fs_type *type, struct blkdev *dev,
	    const struct mount_opts *mount) __must_check;
void ck_supers(struct ck *ck);
void ck_inodes(struct ck *ck);
/* What the blocks of a hashed directory hold. */
struct ck_leaf {
	u32 low, high;  /* hashes of its names; low > high: it has none */
	bool is_index;  /* it has the shape of a root, or of an inner node */
	bool is_led_to; /* by the index */
};
/* The hash of a name in this directory; version: as its root has it. False: there is none. */
bool ck_name_hash(struct ck *ck, const struct ck_dir *d, u32 version, const struct ext4_disk_dirent *de,
		  u32 rec_len, u32 *hash);
/* The root of the index; *version is that of its hash. False: it is damaged, which was said; *rebuild: or is to be mended. */
bool ck_htree_root(struct ck *ck, const struct ck_dir *d, const void *block, u32 *version, bool *rebuild);
/* How many entries an index has room for, when they begin at entries_off. */
u32 ck_dx_limit(const struct ck *ck, const struct ck_dir *d, u32 entries_off);
/* The index leads to each of the d->count leaves once, and to those names that it should. True: it is to be built anew. */
bool ck_htree(struct ck *ck, const struct ck_dir *d, struct ck_leaf *leaf);

/* ---- rehash.c ---- */

/* Names that are one in this directory have one key. */
u64 ck_name_key(const struct ck_dir *d, const char *name, u32 len);
bool ck_name_same(const struct ck_dir *d, const struct ext4_disk_dirent *a, const struct ext4_disk_dirent *b);
/* The directory, all of whose blocks are known, is written anew. False: it could not be. */
bool ck_dir_rebuild(struct ck *ck, struct ck_dir *d);

/* ---- lost.c ---- */

#define CK_LOST_NAME "lost+found"
static inline bool ck_is_lost_found(const struct ext4_disk_dirent *de)
{
	return de->name_len == sizeof(CK_LOST_NAME) - 1 &&
	       !memcmp(ext4_dirent_name(de), CK_LOST_NAME, sizeof(CK_LOST_NAME) - 1);
}
/* Nothing in the root is called so. */
bool ck_lost_missing(struct ck *ck);
/* The directory; made when there is none that can be used. NULL: it cannot be had. */
struct ck_dir *ck_lost_found(struct ck *ck);
/* ino gets a name there; links follow. ck->dir may move. */
bool ck_connect(struct ck *ck, u64 ino);
/* ".." of the directory becomes parent; links follow. */
bool ck_move_dotdot(struct ck *ck, struct ck_dir *d, u32 parent);
/* After the last one. */
void ck_lost_end(struct ck *ck);

void ck_dirs(struct ck *ck);
void ck_links(struct ck *ck);
void ck_bitmaps(struct ck *ck);

#endif
