/*
 * Private to kernel/fs/ext4 (longer: the table of all its files): what is in memory, and what each file gives to those after it. The files stand
 * here in dependency order: one calls only what is declared above it.
 *
 * Conventions
 *   es, ei     struct ext4_super and struct ext4_inode
 *   lblk       block in a file; pblk (or blk) block on the volume
 *   *_ok       a pure question; the caller reports
 *   h          struct ext4_handle: the change under way
 *
 * How a volume is changed
 *   - Every change of a metadata block: ext4_access, change the bytes, ext4_dirty, within one handle that holds all that must
 *     happen together. Checksums inside a block are set by its bh_ops.seal; an inode's by ext4_inode_write; those of bitmaps and
 *     descriptors, and the superblock's counters, by ext4_precommit.
 *   - Plan, then change: what can fail (reading blocks, reserving space, credits) is done before the first byte is changed.
 *     Should something fail after that all the same, ext4_abort makes sure that nothing half done becomes durable.
 *   - A handle is bounded. What may touch more than a quarter of the journal is cut into steps, each of which leaves the volume
 *     whole, with the inode on the orphan list in between.
 *   - Blocks: reserved (memory only) → taken (in a handle, with what makes them reachable) → freed (in a handle) → free for
 *     others once that handle's transaction is durable.
 *   - Order of locks: dir/inode lock, map lock, handle, ei->tree, a group's lock, es->orphan_lock, buffer.
 */
#ifndef EXT4_H
#define EXT4_H

#include "ondisk.h"

#include "jbd2/jbd2.h"
#include "vfs/vfs.h"

/* The blocks that hold metadata of groups, as sorted, disjoint ranges: no file may claim them. */
struct ext4_zone {
	struct ext4_zone_range {
		u64 start, end;
	} * range;
	_Atomic u32 count; /* of those that can be seen: see ext4_zone_append */
	u32 cap;
};

/* A group's descriptor. */
struct ext4_group {
	u64 block_bitmap, inode_bitmap, inode_table; /* blocks, where such a thing can be; 0: unknown */
	u32 free_clusters, free_inodes, used_dirs, itable_unused;
	u32 block_bitmap_csum, inode_bitmap_csum;
	u16 flags;       /* EXT4_GROUP_* */
	bool bad;        /* no copy of the descriptor is right */
	bool blocks_out; /* [lock] its block bitmap is not to be believed: what it counts as free cannot be had */
	bool inodes_out;  /* [lock] its inode bitmap likewise */
	bool changed;     /* [lock] since ext4_precommit wrote it */
	_Atomic u8 ahead; /* how far the table was read ahead the last time: see raw_inode.c */
};

/* Averages that steer where directories go; see ialloc.c. */
struct ext4_spread {
	_Atomic u32 turn; /* directories so far */
	_Atomic u64 free_inodes, free_clusters, dirs;
};

struct ext4_orphan_file; /* orphan.c */
struct ext4_xattr_cache; /* xattr_edit.c */
struct ext4_value_cache; /* xattr_value_edit.c */
struct ext4_upkeep;      /* upkeep.c */
struct ext4_quotas;      /* quota.c */

struct ext4_dir_filter; /* dir_filter.c */

struct ext4_verity;       /* verity.c: what the descriptor of a verity file says */
struct ext4_verity_cache; /* verity.c: hash blocks that were checked */

struct ext4_group_edit; /* group_edit.c: which groups have changed */
struct ext4_balloc;     /* balloc.c: what is free, reserved, or waits for a commit */

/*
 * A mounted volume. [const] after mount but for what says otherwise. [grow] changes while the volume grows, and may be read at any time: what
 * has a place below it is there before. On a read-write mount a group's counters, flags and sums are
 * [its lock], which is es->group_lock[group]; disk's counters and states are [super_lock].
 */
struct ext4_super {
	struct super_block vfs; /* first */
	struct ext4_disk_super disk;
	const char *variant;                     /* "ext2", "ext3" or "ext4" */
	_Atomic u32 compat, incompat, ro_compat; /* [grow] */
	bool metadata_csum;                      /* every metadata block and inode has a crc32c */
	bool desc_csum;                          /* group descriptors have a checksum of some kind */
	bool filetype;                           /* directory entries tell the type */
	u32 block_bits;                          /* log2 of the bytes of a block */
	u32 cluster_bits;                        /* log2 of the blocks of a cluster */
	_Atomic u64 blocks;                      /* [grow, and the last group's lock] of the volume */
	_Atomic u64 kept_root;                   /* [grow] blocks of these that are the superuser's */
	u64 first_data_blk;                      /* group 0 begins here */
	u64 super_blk;                           /* block of the primary superblock */
	u32 blocks_per_group, clusters_per_group, inodes_per_group;
	_Atomic u32 inodes; /* [grow] of the volume */
	u32 inode_bytes, inodes_per_block, itable_blocks;
	u32 first_ino;                  /* below: reserved */
	_Atomic u32 groups, gdt_blocks; /* [grow] */
	u32 groups_room;                /* what has a member for each group has room for so many */
	u32 desc_bytes, descs_per_block;
	_Atomic u32
		meta_bg_from; /* [grow] the first descriptor block that lies in a group it describes; ~0: none */
	u32 csum_seed;
	u32 hash_seed[4];
	bool hash_unsigned;
	_Atomic u64 overhead_clusters;          /* [grow] not for files, for statfs */
	_Atomic u64 free_clusters, free_inodes; /* of all groups, as far as they can be had: group.c */
	struct ext4_group *group;               /* [groups] */
	struct ext4_zone zone;
	struct ext4_zone journal_zone;        /* blocks of the journal, while the volume is written */
	void (*set_ops)(struct inode *inode); /* ext4_inode_set_ops */
	/* Of a read-write mount; else NULL, 0: */
	struct mutex *group_lock; /* [groups] rank ALLOC; one at a time */
	struct ext4_group_edit *group_edit;
	struct ext4_balloc *balloc;
	struct blkdev *journal_dev;       /* of an external journal, when it was given; else NULL */
	struct jbd2 *journal;             /* NULL: none */
	const struct jbd2_ops *trans_ops; /* what is called before and after a change becomes durable */
	struct ext4_inode *journal_inode; /* what the journal's map lives in */
	struct buffer_head *super_bh;     /* of the block with the primary superblock */
	struct mutex super_lock;          /* rank LEAF: disk's changing members */
	bool super_changed;               /* [super_lock] since ext4_precommit wrote it */
	bool copies_stale;                /* [super_lock] the superblock has features that its copies lack */
	u32 copies_tid;                   /* [super_lock] the transaction in which it got them */
	bool copies_old;                  /* [super_lock] they tell of a volume of another size */
	struct ext4_upkeep *upkeep;       /* upkeep.c */
	struct mutex grow;                /* rank MOUNT: one at a time makes it longer */
	struct ext4_quotas *quotas;       /* quota.c; NULL: the volume keeps none */
	struct mutex orphan_lock; /* rank ALLOC, before a group's: the orphan list and the orphan file */
	struct list orphans;      /* [orphan_lock] inodes of the list, in its order */
	u32 orphan_rest; /* [orphan_lock] what follows the last of them on the volume: at mount only */
	struct ext4_orphan_file *orphan_file; /* NULL: the volume has none */
	struct mutex xattr_lock; /* rank EXTENT: attribute blocks and values that may be shared */
	struct ext4_xattr_cache *xattr_cache; /* [xattr_lock] blocks that could be; NULL: none yet */
	struct ext4_value_cache *value_cache; /* [xattr_lock] values that could be; NULL: none yet */
	struct ext4_verity_cache *_Atomic verity_cache; /* NULL: none yet */
	_Atomic u64 filter_bytes;                       /* of all directories' filters */
	_Atomic u32 next_generation;
	struct ext4_spread spread;
	u16 errors; /* policy: EXT4_ERRORS_* */
	enum ext4_data_mode {
		EXT4_DATA_ORDERED, /* data is on the volume before what says that it is a file's. WRITEBACK asks for less, and gets this */
		EXT4_DATA_JOURNAL, /* data is in the journal */
	} data_mode;
	_Atomic u64 errors_recorded; /* [super_lock to change] of health's corrupt_count, in es->disk */
	bool from_copy;              /* the superblock is a copy's */
	bool half_written;           /* its checksum is wrong, and there is no copy to compare it with */
	bool was_valid;              /* the superblock said that it is clean when it was opened */
	bool discard;                /* tell the device what was freed */
	bool fresh;                  /* [const] mount_opts.fresh */
};

/* An inode in memory. */
struct ext4_inode {
	struct inode vfs;  /* first */
	_Atomic u32 flags; /* [vfs.lock W to change, and tree W for EXTENTS and INLINE_DATA] EXT4_FL_* */
	u32 csum_seed;     /* [const] of everything that belongs to this inode */
	u64 xattr_blk;     /* [vfs.lock W] 0: none */
	u16 xattr_off;     /* [vfs.lock W] of the attributes in the raw inode, 0: none */
	u16 extra_isize;   /* [vfs.lock W] bytes of fields behind the first 128; 0: none */
	_Atomic u32 tid,
		data_tid; /* the last transaction that changed it; that changed where or how long its data is */
	struct list orphan;              /* [orphan_lock] in memory's copy of the orphan list */
	u32 orphan_place;                /* [orphan_lock] in the orphan file, counted from 1; 0: none */
	struct rwlock tree;              /* rank EXTENT: block[] as a map, and the blocks of the map */
	_Atomic bool holes_in_dir;       /* a part of the directory could not be shown */
	_Atomic bool index_bad;          /* the index of the directory was found damaged */
	bool is_value;                   /* [const] it held an attribute's value: its blocks are metadata */
	struct ext4_inode *next_dropped; /* [the handle] */
	struct ext4_verity *_Atomic verity; /* NULL: not read yet */
	struct ext4_dir_filter
		*_Atomic filter; /* [vfs.lock W to change, R to make] of a directory's names; NULL: none */
	u32 room_at;             /* [vfs.lock W] a directory's block where the search for room begins */
	u64 counted_512;         /* [vfs.attr] of its blocks, that the slot says */
	u32 values; /* [vfs.attr] values in other inodes that are counted for its owner; right before he changes */
	s32 values_more;             /* [vfs.attr] of them, that come with the next write of the slot */
	u64 reserved_bytes;          /* [quotas lock] of its owner's quota */
	u8 block[EXT4_IBLOCK_BYTES]; /* [tree] extent root, block map, symlink or inline data; checked */
};

static inline struct ext4_super *ext4_super(struct super_block *sb)
{
	return container_of(sb, struct ext4_super, vfs);
}

static inline struct ext4_inode *ext4_inode(struct inode *inode)
{
	return container_of(inode, struct ext4_inode, vfs);
}

/* Its blocks are mapped by extents, not by pointers. */
static inline bool ext4_has_extents(const struct ext4_inode *ei)
{
	return ei->flags & EXT4_FL_EXTENTS;
}

/* Memory for an inode, zeroed; for one that no icache knows, until ext4_inode_freep. NULL: no memory. */
struct ext4_inode *ext4_inode_alloc(void);
void ext4_inode_free(struct ext4_inode *ei); /* NULL is ignored */
void ext4_inode_freep(struct ext4_inode **ei);
/* An inode with this number for its caller alone, which no icache knows, with its locks. NULL: no memory. */
struct ext4_inode *ext4_inode_private(struct ext4_super *es, u64 ino);
void ext4_inode_privatep(struct ext4_inode **ei);

static inline struct ext4_super *ext4_inode_super(const struct ext4_inode *ei)
{
	return ext4_super(ei->vfs.sb);
}

static inline u64 ext4_size(const struct ext4_inode *ei)
{
	return atomic_load_explicit(&ei->vfs.size_bytes, memory_order_relaxed);
}

/* The volume a cached block belongs to: its device reports to that volume's health. */
static inline struct ext4_super *ext4_bh_super(const struct buffer_head *bh)
{
	return container_of(bh->dev->health, struct ext4_super, vfs.health);
}

static inline bool ext4_has_compat(const struct ext4_super *es, u32 bit)
{
	return es->compat & bit;
}

static inline bool ext4_has_incompat(const struct ext4_super *es, u32 bit)
{
	return es->incompat & bit;
}

static inline bool ext4_has_ro_compat(const struct ext4_super *es, u32 bit)
{
	return es->ro_compat & bit;
}

static inline u32 ext4_block_bytes(const struct ext4_super *es)
{
	return es->vfs.block_bytes;
}
/* Of blocks, in a block: of files that have no extents, and of the resize inode. */
static inline u32 ext4_pointers_per_block(const struct ext4_super *es)
{
	return ext4_block_bytes(es) / (u32)sizeof(le32);
}

/* The first block of a group. */
static inline u64 ext4_group_start(const struct ext4_super *es, u32 group)
{
	return es->first_data_blk + (u64)group * es->blocks_per_group;
}

/* Blocks of a group; the last one may be short. */
static inline u32 ext4_group_blocks(const struct ext4_super *es, u32 group)
{
	return (u32)MIN((u64)es->blocks_per_group, es->blocks - ext4_group_start(es, group));
}

/* Its clusters. A volume that is written ends with a whole one. */
static inline u32 ext4_group_clusters(const struct ext4_super *es, u32 group)
{
	return DIV_ROUND_UP(ext4_group_blocks(es, group), 1u << es->cluster_bits);
}

/* How many clusters the blocks [blk, blk + len) lie in; likewise of a file. */
static inline u64 ext4_clusters_of(const struct ext4_super *es, u64 blk, u64 len)
{
	return len ? ((blk + len - 1) >> es->cluster_bits) - (blk >> es->cluster_bits) + 1 : 0;
}

static inline u32 ext4_ino_group(const struct ext4_super *es, u64 ino)
{
	return (u32)((ino - 1) / es->inodes_per_group);
}

/* ---- csum.c: the value each checksum must have; not to be asked where the volume has none ---- */

u32 ext4_csum_super(const struct ext4_disk_super *d);
u16 ext4_csum_group(const struct ext4_super *es, u32 group, const void *desc);
u32 ext4_csum_inode_seed(const struct ext4_super *es, u32 ino, u32 generation);
/* The generation with which inode `to` has the seed that `from` has with this one. */
u32 ext4_csum_generation(const struct ext4_super *es, u32 from, u32 generation, u32 to);
/* raw has es->inode_bytes; the stored sum counts as zeros. `seed` is the inode's. */
u32 ext4_csum_inode(const struct ext4_super *es, u32 seed, const struct ext4_disk_inode *raw);
/* The stored sum. *mask has the bits that are stored. */
u32 ext4_csum_inode_stored(const struct ext4_super *es, const struct ext4_disk_inode *raw, u32 *mask);
/* Stores it. */
void ext4_csum_inode_put(const struct ext4_super *es, u32 seed, struct ext4_disk_inode *raw);
u32 ext4_csum_extent(u32 seed, const void *block, u32 tail_off);
u32 ext4_csum_dir(u32 seed, const void *block, u32 tail_off);
u32 ext4_csum_dx(u32 seed, const void *block, u32 entries_off, u32 count,
		 const struct ext4_disk_dx_tail *tail);
u32 ext4_csum_xattr(const struct ext4_super *es, u64 blk, const void *block);
u32 ext4_csum_bitmap(const struct ext4_super *es, const void *bitmap, u32 bits);
/* `bytes` bytes of places in block blk of the orphan file, whose inode's seed it is. */
u32 ext4_csum_orphan(u32 seed, u64 blk, const void *block, u32 bytes);
/* seed: the volume's. */
u32 ext4_csum_mmp(u32 seed, const struct ext4_disk_mmp *mmp);
/* Of a fast commit: `sum` is that of its records before the tail. */
u32 ext4_csum_fc(u32 sum, const struct ext4_disk_fc_tl *tail);

/* ---- feature.c ---- */

/* The names of all set bits, in order. */
void ext4_feature_doc(const struct ext4_disk_super *d, struct doc *out);
/* -EOPNOTSUPP, with the names, when the volume has what cannot even be read around. */
int ext4_feature_check(const struct ext4_disk_super *d) __must_check;
/* The names of those that keep it from being written. */
void ext4_feature_unwritable(const struct ext4_disk_super *d, struct text *out);
/* -EOPNOTSUPP: what some of its features mean for what is right is not known, so it is not mended; they are named. */
int ext4_feature_mendable(const struct ext4_disk_super *d) __must_check;
/* The names of all set bits. */
void ext4_feature_names(const struct ext4_disk_super *d, struct text *out);
/* "name,^name,…": sets and clears; "none" clears all. -EINVAL: no such name. */
int ext4_feature_edit(struct ext4_disk_super *d, const char *words) __must_check;
/* "ext2", "ext3" or "ext4", after what its features were first of. */
const char *ext4_feature_variant(const struct ext4_disk_super *d);

/* ---- zone.c ---- */

int ext4_zone_add(struct ext4_zone *z, u64 start, u64 len) __must_check;
/* After the last add: sorts and joins. */
void ext4_zone_seal(struct ext4_zone *z);
void ext4_zone_free(struct ext4_zone *z);
/* Instead of add and seal: adds to what is sorted and joined, and leaves it so. */
int ext4_zone_insert(struct ext4_zone *z, u64 start, u64 len) __must_check;
/* The first block at or behind blk that is not in the zone; *end: where the zone goes on behind it, ~0 nowhere. */
u64 ext4_zone_gap(const struct ext4_zone *z, u64 blk, u64 *end);
/* Ranges become those of whole clusters of 1 << bits blocks: who shares one with metadata has none of it. */
int ext4_zone_round(struct ext4_zone *z, u32 bits) __must_check;
/* The same, into another, which has nothing yet. */
int ext4_zone_clusters(const struct ext4_zone *z, u32 bits, struct ext4_zone *out) __must_check;
/* More ranges, sorted and joined, behind all that there are: others may ask meanwhile. False: there is no room, which ext4_zone_room makes. */
bool ext4_zone_append(struct ext4_zone *z, const struct ext4_zone *more);
/* Room for so many ranges more. Nobody asks meanwhile. */
int ext4_zone_room(struct ext4_zone *z, u32 ranges) __must_check;
/* How many of the blocks [start, end) are in it. */
u64 ext4_zone_count(const struct ext4_zone *z, u64 start, u64 end);
bool ext4_zone_meets(const struct ext4_zone *z, u64 start, u64 len);
/* The range may belong to a file: on the volume, and not metadata of a group. */
bool ext4_blocks_ok(const struct ext4_super *es, u64 start, u64 len);
/* To this one: and not the journal's, as far as they are known. */
bool ext4_blocks_ok_for(const struct ext4_super *es, u64 ino, u64 start, u64 len);

/* ---- dirent.c: directory blocks as bytes ---- */

/* A 64 KiB block is longer than 16 bits can tell: lengths are multiples of 4, so the two low bits are free. */
static inline u32 ext4_rec_len(le16 raw, u32 block_bytes)
{
	u32 len = le16_get(raw);

	if (block_bytes < 65536)
		return len;
	if (len == 65535 || len == 0)
		return block_bytes;
	return (len & 65532) | (len & 3) << 16;
}
/* The shortest record for a name of this length. */
static inline u32 ext4_dirent_bytes(u32 name_len)
{
	return ALIGN_UP(EXT4_DIRENT_BYTES + name_len, 4);
}

/* Walks the records of a region: inline, so that its state stays in registers. */
struct ext4_dirent_iter {
	const u8 *base;
	u32 len, block_bytes; /* region; block size of the volume */
	u32 off;              /* of the current record */
	u32 next;             /* of the one after */
};
static inline void ext4_dirent_iter(struct ext4_dirent_iter *it, const void *base, u32 len, u32 block_bytes)
{
	*it = (struct ext4_dirent_iter){ .base = base, .len = len, .block_bytes = block_bytes };
}
/* Why a record of this length does not fit where `left` bytes are left, at least EXT4_DIRENT_MIN. NULL: it fits. */
const char *ext4_dirent_wrong(u32 name_len, u32 rec_len, u32 left);
/* The next record, NULL at the end. Stops, with *bad set to a reason, at one that does not fit. */
static inline const struct ext4_disk_dirent *ext4_dirent_next(struct ext4_dirent_iter *it, const char **bad)
{
	const struct ext4_disk_dirent *de = (const void *)(it->base + it->next);
	u32 left = it->len - it->next, rec_len, rest;

	*bad = NULL;
	if (unlikely(left < EXT4_DIRENT_MIN)) {
		*bad = left ? "there is no room for another entry" : NULL;
		return NULL;
	}
	rec_len = ext4_rec_len(de->rec_len, it->block_bytes);
	rest = left - rec_len;
	/* A rest below zero, and one too small for a record, are beyond `left` in the last comparison. */
	if (unlikely(rec_len < EXT4_DIRENT_MIN || rec_len % 4 || rec_len < ext4_dirent_bytes(de->name_len) ||
		     (rest && rest - EXT4_DIRENT_MIN > left))) {
		*bad = ext4_dirent_wrong(de->name_len, rec_len, left);
		return NULL;
	}
	it->off = it->next;
	it->next += rec_len;
	return de;
}

static inline const char *ext4_dirent_name(const struct ext4_disk_dirent *de)
{
	return (const char *)(de + 1);
}
/* The name is one that a directory may hold: not empty, no slash and no NUL. */
bool ext4_dirent_name_ok(const struct ext4_disk_dirent *de);

/* Offset of the checksum tail, 0 when there is none. */
u32 ext4_dir_tail_off(const void *block, u32 block_bytes);

/* len: at most a block, a multiple of 4. */
le16 ext4_rec_len_put(u32 len);
/* What an entry says of an inode with this mode. */
u8 ext4_dirent_type(const struct ext4_super *es, u32 mode);
/* The bytes of a leaf that records fill: all but the checksum tail. */
static inline u32 ext4_leaf_bytes(const struct ext4_super *es)
{
	return ext4_block_bytes(es) - (es->metadata_csum ? (u32)sizeof(struct ext4_disk_dir_tail) : 0);
}
/* A leaf with "." and "..". */
void ext4_leaf_top(const struct ext4_super *es, void *block, u32 ino, u32 parent);
/* A leaf without entries. */
void ext4_leaf_init(const struct ext4_super *es, void *block);
/* The first record with `need` bytes to spare, of a region or a leaf. *bad: as ext4_dirent_next. */
bool ext4_region_room(const struct ext4_super *es, const void *base, u32 len, u32 need, u32 *off,
		      const char **bad);
bool ext4_leaf_room(const struct ext4_super *es, const void *block, u32 need, u32 *off, const char **bad);
/* Into the room of the record at off. */
void ext4_leaf_add(const struct ext4_super *es, void *block, u32 off, const struct name *name, u32 ino,
		   u8 type);
/* The record at off goes; prev is the one before, or off when there is none. */
void ext4_leaf_del(const struct ext4_super *es, void *block, u32 off, u32 prev);
/* A leaf of these n records of another block, in this order, without gaps. */
void ext4_leaf_pack(const struct ext4_super *es, void *block, const void *from, const u32 *offs, u32 n);

/* The index in a block of a hashed directory. */
struct ext4_dx {
	const struct ext4_disk_dx_entry *entry; /* [count]; entry[0].hash is void */
	u32 count, limit;
	u32 entries_off;
	const struct ext4_disk_dx_info *info; /* root only */
};
/* Entries that an index has room for, when they begin at entries_off. */
u32 ext4_dx_limit(const struct ext4_super *es, u32 entries_off);
/* Does the block look like an index root (lblk 0) or an inner node (others)? Then *dx is safe to search. */
bool ext4_dx_parse(const struct ext4_super *es, const void *block, bool root, struct ext4_dx *dx);

/* ---- extents as they lie ---- */

#define EXT4_LBLK_END (1ull << 32) /* where a file that is mapped by extents ends at the latest */
static inline u64 ext4_extent_len(const struct ext4_disk_extent *e)
{
	u32 len = le16_get(e->len);

	return len > EXT4_EXTENT_INIT_MAX ? len - EXT4_EXTENT_INIT_MAX : len;
}
static inline bool ext4_extent_unwritten(const struct ext4_disk_extent *e)
{
	return le16_get(e->len) > EXT4_EXTENT_INIT_MAX;
}
static inline u64 ext4_extent_start(const struct ext4_disk_extent *e)
{
	return le32_get(e->start_lo) | (u64)le16_get(e->start_hi) << 32;
}
static inline u64 ext4_extent_child(const struct ext4_disk_extent_idx *x)
{
	return le32_get(x->leaf_lo) | (u64)le16_get(x->leaf_hi) << 32;
}

/* ---- verify.c: what each kind of block must look like ---- */

extern const struct bh_ops ext4_gdt_ops;          /* no check: each descriptor is checked by group.c */
extern const struct bh_ops ext4_itable_ops;       /* no check: each inode is checked when it is loaded */
extern const struct bh_ops ext4_block_bitmap_ops; /* ctx: group */
extern const struct bh_ops ext4_inode_bitmap_ops; /* ctx: group */
extern const struct bh_ops ext4_extent_ops;       /* ctx: ext4_ctx_map */
extern const struct bh_ops ext4_indirect_ops;     /* ctx: ext4_ctx_map */
extern const struct bh_ops ext4_dir_ops;          /* ctx: ext4_ctx_dir */
extern const struct bh_ops ext4_xattr_ops;        /* ctx: none, it may be shared */
extern const struct bh_ops ext4_symlink_ops;      /* no check: ctx ext4_ctx_map, depth 0 */

static inline struct bh_ctx ext4_ctx_group(u32 group)
{
	return (struct bh_ctx){ .v = { group } };
}

/* A block of an inode's map, `depth` levels above its leaves. */
static inline struct bh_ctx ext4_ctx_map(const struct ext4_inode *ei, u32 depth)
{
	return (struct bh_ctx){ .v = { ei->vfs.ino, ei->vfs.generation, depth } };
}

static inline struct bh_ctx ext4_ctx_dir(const struct ext4_inode *ei, u32 lblk)
{
	return (struct bh_ctx){ .v = { ei->vfs.ino, ei->vfs.generation, lblk == 0 } };
}

/*
 * What is wrong, as a sentence, or NULL. An extent of inode `ino`, where the one before ended at *next, which becomes its own end; the
 * header of a node of `bytes` bytes, `depth` levels above the leaves; that and all its entries.
 */
const char *ext4_extent_wrong(const struct ext4_super *es, u64 ino, const struct ext4_disk_extent *e,
			      u64 *next);
const char *ext4_extent_head_wrong(const struct ext4_super *es, const void *node, u32 bytes, u32 depth);
const char *ext4_extent_node_wrong(const struct ext4_super *es, u64 ino, const void *node, u32 bytes,
				   u32 depth);
/* The node's checksum is right, or it has none. seed: the inode's. */
bool ext4_extent_sum_ok(const struct ext4_super *es, u32 seed, const void *node, u32 bytes);
/* A block of a directory whose seed it is; first: block 0. A block of attributes. NULL, or what is wrong. */
const char *ext4_dir_block_wrong(const struct ext4_super *es, u32 seed, const void *data, bool first);
const char *ext4_xattr_block_wrong(const struct ext4_super *es, u64 blk, const void *data);
/* Sets the checksum of a directory block, which has a place for one. Only with metadata_csum. */
void ext4_dir_seal(const struct ext4_super *es, u32 seed, void *data, bool first);
/* A list of attributes. Value offsets count from `base`; names and values lie before base + bytes. NULL, or what is wrong. */
const char *ext4_xattr_list_wrong(const struct ext4_super *es, const u8 *base, u32 first, u32 bytes);

/* ---- group.c ---- */

/* Does the group hold a copy of the superblock? */
bool ext4_group_has_super(const struct ext4_super *es, u32 group);
/* Blocks at a group's start for superblock, descriptors and room for more descriptors. */
u32 ext4_group_base_blocks(const struct ext4_super *es, u32 group);
/* Block of superblock copy 1, 2, …; 0: there is no such copy. */
u64 ext4_super_copy_blk(const struct ext4_super *es, u32 copy);
/* Block of descriptor block i, as copy 0 (the primary), 1, …; 0: there is no such copy. */
u64 ext4_group_desc_blk(const struct ext4_super *es, u32 i, u32 copy);
/* Clusters that the inode with the blocks kept for descriptors takes: those blocks, their copies, and the block of its map. */
u64 ext4_resize_clusters(const struct ext4_super *es);
/* Decodes the descriptor of `group`. */
void ext4_group_decode(const struct ext4_super *es, const void *desc, struct ext4_group *g);
/* And back, its checksum set. What a descriptor has besides stays as it is. */
void ext4_group_encode(const struct ext4_super *es, u32 group, const struct ext4_group *g, void *desc);
/* NULL, or what is wrong with it. */
const char *ext4_group_wrong(const struct ext4_super *es, u32 group, const void *desc,
			     const struct ext4_group *g);
/* The group has so many more that are free. Locks: the group's, for these two. */
void ext4_group_add(struct ext4_super *es, u32 group, s32 clusters, s32 inodes);
/* What it counts as free, blocks or inodes, cannot be had. */
void ext4_group_take_out(struct ext4_super *es, u32 group, bool blocks);
/* All of it can be had, after both could not. */
void ext4_group_take_in(struct ext4_super *es, u32 group);
/* Fills es->group and es->zone. *bad counts groups without a usable descriptor, *backup those taken from a copy. */
int ext4_group_load(struct ext4_super *es, u32 *bad, u32 *backup) __must_check;

/* ---- raw_inode.c: inodes, disk to memory ---- */

/* Where an inode lies. -ESTALE: no such number. -EUCLEAN: its group has no usable descriptor. */
int ext4_inode_where(const struct ext4_super *es, u64 ino, u64 *blk, u32 *off) __must_check;
/* The inode's bytes, es->inode_bytes of them inside *bh, checksum checked. */
int ext4_raw_inode_get(struct ext4_super *es, u64 ino, struct buffer_head **bh,
		       const struct ext4_disk_inode **raw) __must_check;
/* Fills ei from its number: members of struct inode, and its own. Any number, reserved ones too. */
int ext4_inode_load(struct ext4_inode *ei) __must_check;
/* The same of an inode that may have no link any more. */
int ext4_inode_load_orphan(struct ext4_inode *ei) __must_check;
/* An inode loaded as by these two, for its caller alone, until ext4_inode_privatep. */
int ext4_inode_open(struct ext4_super *es, u64 ino, struct ext4_inode **out) __must_check;
int ext4_inode_open_orphan(struct ext4_super *es, u64 ino, struct ext4_inode **out) __must_check;
/* Blocks that the longest file can have, mapped by extents or by pointers. */
u64 ext4_file_blocks_max(const struct ext4_super *es, bool extents);
/* The number may stand in a directory. */
bool ext4_ino_public(const struct ext4_super *es, u64 ino);
/* A time field and its extension; `raw` says which fields there are. */
struct timespec64 ext4_inode_time(const struct ext4_super *es, const struct ext4_disk_inode *raw,
				  const le32 *sec, const le32 *extra);
/* The inode's checksum is right; or it has none, because it was never used. Only with metadata_csum. */
bool ext4_inode_sum_ok(const struct ext4_super *es, u64 ino, const struct ext4_disk_inode *raw);
/* What it says that it takes, in 512 bytes. */
u64 ext4_inode_blocks_512(const struct ext4_super *es, const struct ext4_disk_inode *raw);
/* The same of an inode in memory, as its slot will say it: not what stat shows for a file whose data lie in the inode. Locks: attr. */
u64 ext4_inode_disk_512(const struct ext4_inode *ei);
/* i_block as a device number. */
void ext4_inode_rdev(const u8 *block, u32 *major, u32 *minor);
bool ext4_inode_is_fast_symlink(const struct ext4_inode *ei);
/* Starts reading the table blocks of these inodes. */
void ext4_inode_readahead(struct ext4_super *es, const u64 *inos, u32 n);

/* ---- extents.c, indirect.c, map.c: where file blocks lie ---- */

/* One run of a file: [lblk, lblk + len), all of one kind. */
struct ext4_run {
	u64 lblk, len; /* in blocks; a hole may be longer than any file */
	u64 pblk;      /* 0: a hole */
	bool unwritten;
	bool last; /* only hole follows */
};

/* Entries of either kind are 12 bytes and begin with their block: how many begin at or before lblk. */
u32 ext4_extent_up_to(const struct ext4_disk_extent *e, u32 n, u64 lblk);
/* The run that lblk lies in. At least `want` blocks from lblk are looked at where that costs nothing much. */
int ext4_extent_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;
int ext4_indirect_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;
int ext4_map_blocks(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;

/* ---- cluster.c: where a cluster is more than one block, a file's blocks that lie in one cluster share it ---- */

/* The place of lblk, a hole, in a cluster that the file has; 0: the file has none there. -EUCLEAN: its map makes no sense there. Locks: tree R, for both. */
int ext4_cluster_find(struct ext4_inode *ei, u64 lblk, u64 *pblk) __must_check;
/*
 * Of the blocks [lblk, lblk + len), all of one kind and in one piece, those whose clusters have no other blocks of the file: [*from, *to), none
 * where both are the same.
 */
int ext4_cluster_own(struct ext4_inode *ei, u64 lblk, u64 len, u64 *from, u64 *to) __must_check;
/* -EUCLEAN, recorded: lblk is where its cluster's other blocks are not, or at another place of it. */
int ext4_cluster_askew(const struct ext4_inode *ei, u64 lblk) __must_check;

/* ---- verity.c: content checked by a hash tree ---- */

/* inode_ops, of verity files. -EOPNOTSUPP: an algorithm or a version that is not known; -EIO: bytes that are not the file's. */
int ext4_verity_unit(struct inode *inode, u32 *unit_bytes) __must_check;
int ext4_verity_check(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes) __must_check;
int ext4_verity_digest(struct inode *inode, struct file_digest *out) __must_check;
/* The descriptor as it lies, and where; it is checked no further than that it can be one. */
int ext4_verity_read(struct ext4_inode *ei, struct ext4_disk_verity *out, u64 *off_bytes) __must_check;
/* What an inode or the volume keeps. NULL is ignored. */
void ext4_verity_free(struct ext4_verity *v);
void ext4_verity_cache_free(struct ext4_verity_cache *c);

/* ---- xattr_list.c: lists of attributes, in an inode or in a block ---- */

struct ext4_xattr_list {
	struct buffer_head *bh; /* keeps it in place */
	const u8 *base;         /* value offsets count from here */
	u32 first;              /* offset of the first entry */
	u32 bytes;
};
/* The inode's own list, checked. -ENODATA: it has none. */
int ext4_xattr_ibody(struct ext4_inode *ei, struct ext4_xattr_list *out) __must_check;
/* The list in the inode's xattr block, checked. -ENODATA: it has none. */
int ext4_xattr_block(struct ext4_inode *ei, struct ext4_xattr_list *out) __must_check;
void ext4_xattr_list_put(struct ext4_xattr_list *l);
/* NULL at the end; `prev` NULL: the first. */
const struct ext4_disk_xattr_entry *ext4_xattr_next(const struct ext4_xattr_list *l,
						    const struct ext4_disk_xattr_entry *prev);
const struct ext4_disk_xattr_entry *ext4_xattr_find(const struct ext4_xattr_list *l, u32 index,
						    const char *name, u32 name_len);
static inline const char *ext4_xattr_entry_name(const struct ext4_disk_xattr_entry *e)
{
	return (const char *)(e + 1);
}
/* A value that lies in the list itself. */
static inline const u8 *ext4_xattr_value(const struct ext4_xattr_list *l,
					 const struct ext4_disk_xattr_entry *e)
{
	return l->base + le16_get(e->value_offs);
}

/* ---- inline.c: data inside the inode ---- */

/* The two pieces of inline data: i_block, then the value of system.data. */
struct ext4_inline {
	struct ext4_xattr_list list; /* keeps piece 1 in place */
	struct {
		const u8 *p;
		u32 len;
	} piece[2];
};
int ext4_inline_get(struct ext4_inode *ei, struct ext4_inline *out) __must_check;
void ext4_inline_put(struct ext4_inline *in);

/* ---- map.c ---- */

/* The file's data goes through the journal. */
static inline bool ext4_jdata(const struct ext4_inode *ei)
{
	const struct ext4_super *es = ext4_inode_super(ei);

	return es->journal && is_reg(&ei->vfs) &&
	       (es->data_mode == EXT4_DATA_JOURNAL || ei->flags & EXT4_FL_JOURNAL_DATA);
}
/* inode_ops.map */
int ext4_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
/* Content of an inode that is not cached elsewhere: slow symlinks, attribute values, system files. Holes are zeros. */
int ext4_read_content(struct ext4_inode *ei, u64 off_bytes, void *buf, u64 len_bytes) __must_check;

/* ---- quota_file.c: usage and limits, per user, group and project ---- */

/* What a file says. */
struct ext4_quota_list {
	struct quota *quota; /* by id */
	u32 count, room;
	u32 space_grace_sec, inodes_grace_sec;
	u32 flags;
	bool is_one;     /* the file begins as a quota file of this kind */
	const char *bad; /* what is wrong with the file: there may be more than what is here; NULL: nothing */
};
/* Where the file's bytes come from. */
struct ext4_quota_source {
	int (*read)(void *ctx, u64 off_bytes, void *buf, u64 len_bytes);
	void *ctx;
	u64 size_bytes;
	u64 blocks_max; /* that it can have, in EXT4_QUOTA_BLOCK */
};
/* "user", "group", "project". */
const char *ext4_quota_name(enum quota_kind kind);
/* Its file, as the superblock names it; 0: there is none. */
u32 ext4_quota_inum(const struct ext4_disk_super *d, enum quota_kind kind);
/* Whom the inode counts for. */
u32 ext4_quota_id(const struct ext4_super *es, const struct ext4_disk_inode *raw, enum quota_kind kind);
/* How such a file begins. */
u32 ext4_quota_magic(enum quota_kind kind);
/* A place of a leaf, which may be free. */
bool ext4_quota_is_free(const struct ext4_disk_quota *d);
struct quota ext4_quota_decode(const struct ext4_disk_quota *d);
struct ext4_disk_quota ext4_quota_encode(const struct quota *q);
/* A damaged file is no error: see out->bad. Ended by ext4_quota_list_free in any case. */
int ext4_quota_parse(const struct ext4_quota_source *src, enum quota_kind kind,
		     struct ext4_quota_list *out) __must_check;
/* The same of the file, whose inode was loaded. */
int ext4_quota_load(struct ext4_inode *ei, enum quota_kind kind, struct ext4_quota_list *out) __must_check;
/* Room for one more at the end. */
int ext4_quota_list_add(struct ext4_quota_list *l, const struct quota *q) __must_check;
void ext4_quota_list_free(struct ext4_quota_list *l);
/* The bytes of a file that says this, freed by the caller. */
int ext4_quota_pack(const struct ext4_quota_list *l, enum quota_kind kind, u8 **bytes,
		    u64 *len_bytes) __must_check;

/* ---- hash.c ---- */

struct ext4_hash {
	u32 hash, minor;
};
/* The version that a superblock or an index root says, as the volume means it: unsigned where it says so. */
u32 ext4_hash_version(const struct ext4_super *es, u32 version);
/* version: EXT4_HASH_*. -EOPNOTSUPP: no such hash. */
int ext4_name_hash(const struct ext4_super *es, u32 version, const char *name, u32 len,
		   struct ext4_hash *out) __must_check;

static inline u32 ext4_xattr_mix(u32 hash, u32 shift, u32 word)
{
	return hash << shift ^ hash >> (32 - shift) ^ word;
}
/* What an attribute's entry says of its name and value: that of the value's words, the last one filled up with zeros; where the value lies in an
 * inode, that of the one word that is its hash. is_signed: as kernels of old counted bytes of names. */
u32 ext4_xattr_hash(const char *name, u32 name_len, const void *value, u32 bytes, bool is_signed);

/* ---- casefold.c ---- */

#define EXT4_FOLD_MAX 1024u

/* The name as it is compared and hashed where case does not matter. False: it is not UTF-8 and means only itself. */
bool ext4_casefold(const char *name, u32 len, char folded[EXT4_FOLD_MAX], u32 *folded_len);
/* ext4_casefold of the name gives just this. */
bool ext4_casefold_is(const char *name, u32 len, const char *folded, u32 folded_len);
/* In this directory case does not matter, and what its names are is known. */
bool ext4_dir_folds(const struct ext4_inode *dir);
/* ext4_name_hash of a name in this directory. */
int ext4_dir_hash(const struct ext4_inode *dir, u32 version, const char *name, u32 len,
		  struct ext4_hash *out) __must_check;
/* The volume is strict, and the directory may have no such name. */
bool ext4_dir_name_refused(const struct ext4_inode *dir, const struct name *name);

/* ---- nokey.c ---- */

#define EXT4_NOKEY_DIGEST 32u

/* An encrypted name as it is shown, taken apart. */
struct ext4_nokey {
	struct ext4_hash hash; /* in its directory, 0 where that has none */
	u32 len;
	u8 bytes[EXT4_NAME_MAX]; /* all of it, or its beginning when there is a digest */
	bool has_digest;
	u8 digest[EXT4_NOKEY_DIGEST]; /* of the rest */
};
/* How the encrypted name is shown; its length. */
u32 ext4_nokey_name(const struct ext4_hash *hash, const char *name, u32 len, char out[EXT4_NAME_MAX]);
/* False: no encrypted name is shown so. */
bool ext4_nokey_parse(const struct name *name, struct ext4_nokey *out);
bool ext4_nokey_is(const struct ext4_nokey *want, const char *name, u32 len);

/* ---- dirblock.c ---- */

/* Block lblk of a directory, verified. -ENOENT: a hole. `ahead`: the blocks behind it will be wanted too. */
int ext4_dir_block(struct ext4_inode *dir, u64 lblk, bool ahead, struct buffer_head **out) __must_check;
/* A name that is looked for. */
struct ext4_want {
	struct name name;
	enum { EXT4_WANT_BYTES, EXT4_WANT_FOLDED, EXT4_WANT_NOKEY } kind;
	union {
		struct {
			char s[EXT4_FOLD_MAX];
			u32 len;
		} folded; /* FOLDED: the name without regard to case, or else exactly the name */
		struct ext4_nokey nokey; /* NOKEY: an encrypted name, nothing else */
	};
	u64 end; /* of the bytes that are compared, the last eight; zeros in front when they are fewer. 0: NOKEY */
};
/* False: the directory cannot hold such a name. */
bool ext4_want(struct ext4_inode *dir, const struct name *name, struct ext4_want *want);
/* Where a name stands. */
struct ext4_place {
	u64 ino;                /* that it means */
	struct buffer_head *bh; /* referenced; NULL: the directory lies in its inode */
	u32 off;                /* of its record in the block */
	u32 prev;               /* of the record before; off: there is none */
	u64 lblk; /* the block in the directory, when it was found without an index; or one of these: */
#define EXT4_INLINE_SECOND 1u /* the second region; off and prev count from its start; 0: the first */
#define EXT4_INLINE_PARENT 2u
};
static inline void ext4_place_put(struct ext4_place *at)
{
	bh_put(at->bh);
}
/* Looks through records. 1: found, *at is set but for bh. 0: not there. -EUCLEAN: found, but it leads nowhere; or a record is broken. */
int ext4_dirent_search(struct ext4_inode *dir, const void *base, u32 len, const struct ext4_want *want,
		       struct ext4_place *at) __must_check;
/* ext4_dirent_search in a block, whose reference goes into *at when the name is there. */
int ext4_dir_search_block(struct ext4_inode *dir, struct buffer_head *bh, const struct ext4_want *want,
			  struct ext4_place *at) __must_check;
static inline bool ext4_is_dot_or_dotdot(const char *s, u32 len)
{
	return len && s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.'));
}

/* Records that lie in the inode: region i begins at position at[i]. */
struct ext4_inline_dir {
	struct ext4_inline in;
	struct {
		const u8 *p;
		u32 len, at;
	} region[2];
	u64 parent;
};
/* Ended by ext4_inline_put(&out->in). */
int ext4_inline_dir_get(struct ext4_inode *dir, struct ext4_inline_dir *out) __must_check;

/* ---- htree.c ---- */

#define EXT4_DX_LEVELS_MAX 3u
#define EXT4_DX_LBLK_MASK  0x0fffffffu /* of an entry: its block; the rest is kept for other use */

/* A way through the index, from the root to a leaf. */
struct ext4_dx_path {
	struct ext4_inode *dir;
	struct ext4_dx_frame {
		struct buffer_head *bh;
		struct ext4_dx dx;
		u32 at; /* entry that was followed */
	} frame[EXT4_DX_LEVELS_MAX];
	u32 levels;  /* of index blocks, 1 to EXT4_DX_LEVELS_MAX */
	u32 version; /* of the hash */
};
/* The directory has an index, and the volume allows it. */
bool ext4_dir_is_indexed(const struct ext4_inode *dir);
u32 ext4_dx_levels_max(const struct ext4_super *es);
/* For all of these: -EUCLEAN: the index is not usable. */
/* The root. Whatever it returns, ended by ext4_dx_close. */
int ext4_dx_open(struct ext4_inode *dir, struct ext4_dx_path *path) __must_check;
void ext4_dx_close(struct ext4_dx_path *path);
/* To the first leaf where names of this hash may stand. */
int ext4_dx_seek(struct ext4_dx_path *path, u32 hash) __must_check;
/* 1: there is a leaf behind this one, whose names begin at *hash; bit 0 of it: the last hash of this one goes on there. */
int ext4_dx_peek(const struct ext4_dx_path *path, u32 *hash) __must_check;
/* To that leaf. */
int ext4_dx_next(struct ext4_dx_path *path) __must_check;
/* The lowest hash that names in the leaf may have. */
u32 ext4_dx_low(const struct ext4_dx_path *path);
/* The leaf's block in the directory. */
u32 ext4_dx_lblk(const struct ext4_dx_path *path);
int ext4_dx_leaf(struct ext4_dx_path *path, struct buffer_head **out) __must_check;
/* The index makes no sense: said once; from then on the directory is looked through as if it had none. */
int ext4_dx_bad(struct ext4_inode *dir, const char *what) __must_check;
/* Lookup through the index. 1: found. 0: not there. */
int ext4_htree_search(struct ext4_inode *dir, const struct ext4_want *want,
		      struct ext4_place *at) __must_check;

/* ---- dir_filter.c: names that a directory does not have. Locks: dir R ---- */

/* The name is not there. False: it may be. */
bool ext4_dir_filter_excludes(struct ext4_inode *dir, const struct ext4_want *want);
/* Of a directory that has none and no index, when it is worth it; looks through it. */
void ext4_dir_filter_make(struct ext4_inode *dir);
/* A name came. Locks: dir W. */
void ext4_dir_filter_put(struct ext4_inode *dir, const struct name *name);
/* Locks: dir W, or nobody else has the inode. */
void ext4_dir_filter_drop(struct ext4_inode *dir);

/* ---- xattr_value.c: values of attributes in inodes of their own ---- */

/* The hash that such an inode has of its content. */
u32 ext4_value_hash(const struct ext4_super *es, const void *value, u32 len);
/* How many attributes have their value in such an inode. 0: it is its owner's alone. */
u64 ext4_value_refs(const struct ext4_disk_inode *raw);
/* The inode's value is this owner's alone: volumes of old noted him instead of a hash and a count. */
bool ext4_value_is_owned(const struct ext4_inode *ei, const struct ext4_inode *owner);
/* The number may be a value's: it is none that the volume needs itself. */
bool ext4_value_ino_ok(const struct ext4_super *es, u32 ino);
/* The value of `len` bytes in inode `ino`; only if its hash is right. Not ext4_read_content: it may be in the cache alone. */
int ext4_value_read(struct ext4_inode *owner, u32 ino, void *value, u32 len) __must_check;

/* ---- xattr.c, acl.c ---- */

/* The index that stands for the name's beginning; *rest is what follows. 0: none. */
u32 ext4_xattr_index(const char *name, const char **rest);
int ext4_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len);
int ext4_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx);
/* By index and rest of the name. *value is freed by the caller. -ENODATA. */
int ext4_xattr_load(struct ext4_inode *ei, u32 index, const char *name, u32 name_len, u8 **value,
		    u32 *len) __must_check;
int ext4_get_acl(struct inode *inode, bool is_default, struct acl **out);
u32 ext4_acl_entry_bytes(const struct ext4_disk_acl_entry *e);
/* The on-disk form. */
int ext4_acl_decode(const void *p, u32 len, struct acl **out) __must_check;

/* ---- namei.c ---- */

/* 1: found; ended by ext4_place_put. 0: not there. */
int ext4_dir_find(struct ext4_inode *dir, const struct name *name, struct ext4_place *at) __must_check;
int ext4_lookup(struct inode *dir, const struct name *name, u64 *ino);

/* ---- readdir.c ---- */

int ext4_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx);

/* ---- inode.c ---- */

int ext4_read_inode(struct inode *inode);
/* The operations that fit its type and flags. Those who stand below call it as es->set_ops. */
void ext4_inode_set_ops(struct inode *inode);

/* ======== writing ======== */

/* ---- trans.c: changes ---- */

/* A change under way; a thread has at most one. */
struct ext4_handle {
	struct ext4_super *es;
	struct jbd2_handle jh;
	/* Without a journal: what was joined, pinned and referenced until the end. */
	struct buffer_head **joined;
	u32 joined_count, joined_room;
	struct ext4_inode *dropped; /* inodes that lost what kept them: freed behind its end */
};

/*
 * What one step costs, in blocks joined. The superblock and a group's descriptor block are joined with its bitmap.
 */
#define EXT4_CREDITS_INODE  1u /* its table block */
#define EXT4_CREDITS_GROUP  3u /* a bitmap, its descriptor block, the superblock */
#define EXT4_CREDITS_ORPHAN 3u /* superblock, the neighbour in the list, or a block of the orphan file */
/* An extent or pointer goes in: at most the path, and a split on every level with its new block's group. */
#define EXT4_CREDITS_INSERT (2 * EXT4_EXTENT_DEPTH_MAX + EXT4_EXTENT_DEPTH_MAX * EXT4_CREDITS_GROUP)
/* A name goes in: leaf, index blocks, a split on each of them with its new block, and its place in the map. */
#define EXT4_CREDITS_DIR_ADD (8u + 4 * EXT4_CREDITS_GROUP + EXT4_CREDITS_INSERT)
#define EXT4_CREDITS_DIR_DEL 2u
#define EXT4_CREDITS_XATTR   (3u + 2 * EXT4_CREDITS_GROUP)

/* Locks: none of rank HANDLE or below. On error nothing is open. */
int ext4_begin(struct ext4_super *es, u32 credits, u32 revokes, struct ext4_handle *h) __must_check;
/* The same of a change that is larger than what fits usually: jbd2_begin_long. */
int ext4_begin_long(struct ext4_super *es, u32 credits, struct ext4_handle *h) __must_check;
/* ext4_begin also where errors=remount-ro forbids changes: for what tells of the errors. */
int ext4_begin_anyway(struct ext4_super *es, u32 credits, u32 revokes, struct ext4_handle *h) __must_check;
/* Returns err, or that the journal is aborted. */
int ext4_end(struct ext4_handle *h, int err) __must_check;
/* -ENOSPC: no room in this transaction; bring the volume into a whole state, drop locks of rank EXTENT and below, ext4_restart. */
int ext4_extend(struct ext4_handle *h, u32 credits, u32 revokes) __must_check;
/* On error the handle is closed. */
int ext4_restart(struct ext4_handle *h, u32 credits, u32 revokes) __must_check;
int ext4_access(struct ext4_handle *h, struct buffer_head *bh) __must_check;
void ext4_dirty(struct ext4_handle *h, struct buffer_head *bh);
/* A metadata block was freed. */
int ext4_forget(struct ext4_handle *h, u64 blk) __must_check;
/* A change failed half way: the journal aborts, the volume is read-only from now on. Returns err. */
int ext4_abort(struct ext4_super *es, int err) __must_check;
/* What was written is on the device. When that fails, nobody can tell later what of it is lost, and a next flush says that all is well: so the
 * volume is read-only from then on. -EROFS: it is. */
int ext4_flush(struct ext4_super *es) __must_check;
/* After ext4_end with -ENOSPC: true, once, when space or inodes that were freed have become usable by a commit; with -EDQUOT: when somebody may have
 * given back some. *tried is false at first. Locks: none of rank HANDLE or below. */
bool ext4_retry(struct ext4_super *es, int err, bool *tried);

/* ---- super_edit.c: the superblock that changes. es->disk is what counts; its block is made from it ---- */

/* Reads and holds the primary superblock's block: es->super_bh. The volume's superblock may be a copy: it is repaired by the first write. */
int ext4_super_hold(struct ext4_super *es) __must_check;
void ext4_super_release(struct ext4_super *es);
/* To the device at once, past the cache, with what else is in its sector there. */
int ext4_super_put(struct blkdev *dev, const struct ext4_disk_super *d) __must_check;
/* es->disk will change in this handle: joins the block (1 credit); ext4_precommit brings it along. */
int ext4_super_join(struct ext4_handle *h) __must_check;
/* es->disk, to be changed, until the unlock. */
struct ext4_disk_super *ext4_super_lock(struct ext4_super *es);
void ext4_super_unlock(struct ext4_super *es);
/* The volume has all of these features by now. */
bool ext4_super_has(struct ext4_super *es, u32 compat, u32 ro_compat);
/* Only revision 1 has features, and members that say what revision 0 means anyway. */
void ext4_super_revise(struct ext4_disk_super *d);
/* It gets them, and its copies will: super_copy.c. Joins the block. */
int ext4_super_set(struct ext4_handle *h, u32 compat, u32 ro_compat) __must_check;
/* health has seen errors that es->disk does not tell. */
bool ext4_errors_new(const struct ext4_super *es);
/* They go into es->disk, whose block was joined. */
void ext4_errors_record(struct ext4_super *es);
/* For ext4_precommit: they become part of the transaction. Where that fails they wait for the next one. */
void ext4_errors_commit(struct ext4_super *es, struct jbd2_handle *jh);
/* Before a journal was applied the superblock was `before`: of errors it may tell more, since the kernel records them at once. */
void ext4_errors_keep(struct ext4_super *es, const struct ext4_disk_super *before);
/* es->disk into the block when it changed: who changed it has joined that. For ext4_precommit. */
void ext4_super_fill(struct ext4_super *es);
/* Outside of all handles, before the first and after the last: writes es->disk now, and flushes. Without a journal at any time: what a change
 * under way holds stays dirty. */
int ext4_super_write(struct ext4_super *es) __must_check;

/* ---- super_copy.c: the copies of the superblock ---- */

/* Features of the superblock that its copies must have too. */
struct ext4_features {
	u32 compat, ro_compat;
	bool all; /* the volume grew: copies of all that has any are written anew */
};
/* Do the copies lack some? Then es->copies_stale says so. Before the first ext4_copies_take. */
void ext4_copies_look(struct ext4_super *es);
/* True: they may lack these, which are durable in the superblock once transaction *tid is. Asked for by one at a time, who then writes them. */
bool ext4_copies_take(struct ext4_super *es, struct ext4_features *want, u32 *tid);
/* The volume is of another size, durably. They are written anew. */
void ext4_copies_outdated(struct ext4_super *es);
/* Not now. */
void ext4_copies_put_off(struct ext4_super *es, const struct ext4_features *want);
/* The superblock as it is now becomes the copy in this group, which has the place for one. */
int ext4_copy_make(struct ext4_super *es, u32 group) __must_check;
/* The copies get them. What fails is logged. */
void ext4_copies_write(struct ext4_super *es, const struct ext4_features *want);
/* What names the volume: label, UUID, and what metadata's sums start from when that is not the UUID. */
void ext4_names_copy(struct ext4_disk_super *to, const struct ext4_disk_super *from);
/* The copies that have this UUID get the names of es->disk. What fails is logged. */
void ext4_copies_rename(struct ext4_super *es, const u8 *old_uuid);

/* ---- upkeep.c: what nobody waits for ---- */

int ext4_upkeep_start(struct ext4_super *es) __must_check;
/* No handle is begun by it any more. NULL: nothing to do. */
void ext4_upkeep_stop(struct ext4_super *es);

/* ---- quota.c: usage, brought along with every inode that changes ---- */

#define EXT4_CREDITS_QUOTA 3u /* records of one owner */
/* What every handle has besides: an owner's, and another's. */
static inline u32 ext4_quota_credits(const struct ext4_super *es)
{
	return es->quotas ? 2 * EXT4_CREDITS_QUOTA : 0;
}
/* Whom an inode counts for. */
struct ext4_owner {
	u32 id[QUOTA_KINDS];
};
struct ext4_use {
	struct ext4_owner owner;
	u64 bytes, inodes;
};
struct ext4_dquot; /* quota.c: what is known of one id */
/* A slot's part of the usage, changing: was → is. */
struct ext4_quota_change {
	struct ext4_use was, is;
	bool joined; /* the records of these two owners were */
	struct ext4_owner joined_was, joined_is;
	struct {
		struct ext4_dquot *dq; /* NULL: not kept */
		struct buffer_head *bh;
	} from[QUOTA_KINDS], to[QUOTA_KINDS];
};
/* A file of the volume that is written. */
struct ext4_quota_file {
	struct ext4_inode *ei; /* NULL: the volume has none of this kind */
	enum quota_kind kind;
	_Atomic u32 space_grace_sec, inodes_grace_sec; /* [edit to change] */
	_Atomic bool broken;                           /* it is damaged: nothing is counted there any more */
	struct ext4_dquot **slot;                      /* [quotas lock] by id */
	u32 slots, count;                              /* [quotas lock] slots: a power of two */
};
struct ext4_quotas {
	struct mutex lock; /* rank LEAF */
	struct mutex edit; /* rank MAP: who gives a new id its record */
	struct cond freed; /* with lock: */
	u32 frees;         /* [lock] of inodes, so far */
	bool enforce;      /* [const] limits are */
	struct ext4_quota_file file[QUOTA_KINDS];
};
extern const struct bh_ops
	ext4_quota_ops; /* no check: each record is read by its id. ctx: ext4_ctx_map, depth 0 */

/* es->quotas, where the volume keeps quotas. -EUCLEAN: a file is damaged. */
int ext4_quota_open(struct ext4_super *es, bool enforce) __must_check;
void ext4_quota_close(struct ext4_super *es);
/* Block nr of the file, and where it begins in its buffer. */
int ext4_quota_block(struct ext4_super *es, struct ext4_quota_file *f, u32 nr, struct buffer_head **bh,
		     u32 *off_bytes) __must_check;
/* The file is damaged: it is said once. */
void ext4_quota_broken(struct ext4_super *es, struct ext4_quota_file *f, const char *what);
/* 1: the id has a record, or nothing is counted there; 0: it has none yet. */
int ext4_quota_has(struct ext4_super *es, enum quota_kind kind, u32 id) __must_check;
struct ext4_owner ext4_owner(const struct ext4_inode *ei);
/* So much more of the owner's counts as had until it is given back. -EDQUOT: it is too much, and he is not the superuser. */
int ext4_quota_hold(struct ext4_super *es, const struct ext4_use *more) __must_check;
void ext4_quota_release(struct ext4_super *es, const struct ext4_use *more);
/* For a moment, for somebody who is giving back an inode: a name that goes is answered before the file is gone. */
void ext4_quota_wait(struct ext4_super *es);
/* May the inode, which may be one that is not counted, have so much more? -EDQUOT. */
int ext4_quota_check(struct ext4_inode *ei, u64 clusters, u64 inodes) __must_check;
/* How many more clusters the inode may have; and they count as had, until they are given back. -EDQUOT: not even `least`. */
int ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *clusters) __must_check;
void ext4_quota_unreserve(struct ext4_inode *ei, u64 clusters);
/* The inode, which leads to so many values, is to become another owner's, who has records and room for it. What was reserved for it goes along
 * with it at the end, when it did. Locks: vfs.lock W. */
struct ext4_quota_move {
	struct ext4_owner old;
	struct ext4_use held; /* what the other's quota has to have room for, of ids that change */
	bool begun;
};
int ext4_quota_move_begin(struct ext4_inode *ei, const struct ext4_owner *to, u32 values,
			  struct ext4_quota_move *m) __must_check;
void ext4_quota_move_end(struct ext4_inode *ei, struct ext4_quota_move *m);
/* What the inode, which is one for files, was just loaded and leads to so many values, counts for; also where nothing is counted yet. */
struct ext4_use ext4_quota_use(struct ext4_inode *ei, u32 values);
/* Of q->was and q->is: is there something to count? What counts for nobody on one side gets the other's owner. */
bool ext4_quota_differs(struct ext4_quota_change *q);
/* The lists of the inode led to so many values, now to so many. It is counted when the inode is written. */
void ext4_quota_values(struct ext4_inode *ei, u32 before, u32 after);
/*
 * The slot `raw` is about to say what ei has. False: what that changes is to be joined by ext4_quota_join first. fresh: the slot was nobody's. Ended
 * by ext4_quota_change_end. Locks: the slot's buffer, attr.
 */
bool ext4_quota_settle(struct ext4_inode *ei, const struct ext4_disk_inode *raw, bool fresh,
		       struct ext4_quota_change *q);
/* Locks: none of rank BUFFER or below. */
int ext4_quota_join(struct ext4_handle *h, struct ext4_quota_change *q) __must_check;
/* It is counted. Locks: none of rank BUFFER. */
void ext4_quota_apply(struct ext4_handle *h, const struct ext4_quota_change *q);
void ext4_quota_change_end(struct ext4_quota_change *q);
/* What is reserved of the id's quota, in memory. */
u64 ext4_quota_reserved(struct ext4_super *es, enum quota_kind kind, u32 id);
/* The limits of the id, which has a record: 1 credit of ext4_quota_credits. */
int ext4_quota_limit(struct ext4_handle *h, enum quota_kind kind, const struct quota_set *set) __must_check;
/* The inode is in use no more. Its slot, written, says what goes. */
int ext4_quota_gone(struct ext4_handle *h, const struct ext4_inode *ei) __must_check;

/* ---- group_edit.c: groups that change ---- */

/* Makes es->group_lock and counters ready. */
int ext4_groups_open(struct ext4_super *es) __must_check;
void ext4_groups_close(struct ext4_super *es);
/* Locks for groups up to `end`, which nobody else knows yet. Locks: grow. */
int ext4_groups_more(struct ext4_super *es, u32 end) __must_check;
/* The groups from `end` on are no more: what they count as free is not the volume's. Nobody else has it. */
void ext4_groups_less(struct ext4_super *es, u32 end);
/* The group's bitmap, verified; or made, when it was never written: who changes it, after ext4_group_change, drops its UNINIT flag. Locks: the group's. */
int ext4_block_bitmap(struct ext4_super *es, u32 group, struct buffer_head **out) __must_check;
int ext4_inode_bitmap(struct ext4_super *es, u32 group, struct buffer_head **out) __must_check;
/* Joins the group's descriptor block and the superblock: to be called before the group's members change in this handle. Locks: the group's. */
int ext4_group_change(struct ext4_handle *h, u32 group) __must_check;
/* jbd2_ops.precommit, and at each ext4_end without a journal: bitmap sums, descriptors, the superblock's counters. */
int ext4_precommit(void *es, struct jbd2_handle *jh);

/*
 * ---- mballoc.c, balloc.c: blocks ----
 *
 * Space is had in clusters. Who asks speaks of blocks, and means the clusters that they lie in: those of [blk, blk + len) are taken, given back and
 * freed whole.
 */

int ext4_balloc_open(struct ext4_super *es) __must_check;
void ext4_balloc_close(struct ext4_super *es);
/* Blocks that only the superuser may have; and those that are kept so that data once accepted always finds its metadata. Whole clusters. */
u64 ext4_kept_root(const struct ext4_super *es);
u64 ext4_kept_meta(const struct ext4_super *es);
#define EXT4_RESERVE_META 0x1u /* metadata: may use what is kept back for it */
/*
 * Reserves 1 to `want` blocks in one piece, in memory, at `goal` if that is free, else near it, the longest piece that is not far.
 * It begins where in a cluster the goal does. -ENOSPC. Not part of any handle. Locks: none of rank ALLOC.
 */
int ext4_blocks_reserve(struct ext4_super *es, u64 goal, u32 want, u32 flags, u64 *blk,
			u32 *len) __must_check;
/*
 * For file data at lblk, which is a hole, as are its cluster and those of `want` blocks: 1 to `want` blocks in one piece, from the inode's window when it goes on there, else near goal. An
 * appending writer gets a window, blocks reserved behind what he asked for, so that files written at the same time stay in one
 * piece each. Locks: vfs.lock W.
 */
int ext4_data_reserve(struct ext4_inode *ei, u64 lblk, u64 goal, u32 want, u64 *blk, u32 *len) __must_check;
/* The window is given back. */
void ext4_window_drop(struct ext4_inode *ei);
/* Gives back what was reserved and not taken. */
void ext4_blocks_unreserve(struct ext4_super *es, u64 blk, u32 len);
/* Reserved blocks become taken, on the volume too. At most EXT4_CREDITS_GROUP for each group they lie in; a reserved piece lies in one. */
int ext4_blocks_take(struct ext4_handle *h, u64 blk, u32 len) __must_check;
/* Blocks of a file, and all in their clusters, become free, for others when the handle's transaction is durable. metadata: each of the blocks is
 * forgotten too (costs revokes). */
int ext4_blocks_free(struct ext4_handle *h, u64 blk, u32 len, bool metadata) __must_check;
/* Their bitmaps are read, so that what frees the blocks next does not find that one cannot be, and leave them taken. -EIO, -EUCLEAN. */
int ext4_blocks_look(struct ext4_super *es, u64 blk, u32 len) __must_check;
/* One block of metadata near goal: reserve and take. */
int ext4_block_new(struct ext4_handle *h, u64 goal, u64 *blk) __must_check;
/* Blocks that can be had: free, without what is reserved, kept back, or waiting for a commit. */
u64 ext4_blocks_avail(struct ext4_super *es);
/*
 * Counts n blocks, in clusters of their own, as had without choosing any: for those of the map that something accepted now may need later. -ENOSPC. Given back
 * right before they are really taken.
 */
int ext4_blocks_promise(struct ext4_super *es, u32 n, u32 flags) __must_check;
void ext4_blocks_unpromise(struct ext4_super *es, u32 n);
/* Some were freed and wait for a commit. */
bool ext4_blocks_pending(struct ext4_super *es);
/* The last group was shorter: its blocks from `from` on, so many, were no one's. They are free on the volume with this handle, and can be had after
 * ext4_blocks_unreserve. EXT4_CREDITS_GROUP. blocks: what the volume has from now on. */
int ext4_blocks_append(struct ext4_handle *h, u32 group, u32 from, u32 len, u64 blocks) __must_check;
/* A group that was just made, and was taken out before anybody knew it: what it counts as free can be had from now on. */
void ext4_blocks_open_group(struct ext4_super *es, u32 group);
/*
 * Nothing is taken at or behind block `blocks` any more, and what is freed there stays free for nobody; nothing is kept for metadata. Before anything was
 * reserved. -EUCLEAN: the bitmap of the group that the limit lies in is damaged.
 */
int ext4_blocks_limit(struct ext4_super *es, u64 blocks) __must_check;
/* What is kept back, after the volume's size. */
void ext4_balloc_resized(struct ext4_super *es);
/* super_ops.trim */
int ext4_trim(struct super_block *sb, u64 off_bytes, u64 len_bytes, u64 min_bytes, u64 *trimmed_bytes);
/* jbd2_ops.committed */
void ext4_committed(void *es, u32 tid);

/* ---- inode_edit.c: inodes, memory to disk ---- */

/* Writes the inode's members and i_block into its table block. Locks: none of rank BUFFER; what guards the members is held. */
int ext4_inode_write(struct ext4_handle *h, struct ext4_inode *ei) __must_check;
/* The same over the whole slot, for an inode whose number was just taken. */
int ext4_inode_write_new(struct ext4_handle *h, struct ext4_inode *ei) __must_check;
/* Adds clusters (or, negative, takes them away) to what the inode counts. In memory. */
void ext4_inode_add_clusters(struct ext4_inode *ei, s64 clusters);
/* The slot of any inode, joined. Its bytes change under the buffer's lock, which ext4_inode_slot_done, setting the checksum, gives up. */
int ext4_inode_slot(struct ext4_handle *h, u64 ino, struct buffer_head **bh,
		    struct ext4_disk_inode **raw) __must_check;
void ext4_inode_slot_done(struct ext4_handle *h, u64 ino, struct buffer_head *bh,
			  struct ext4_disk_inode *raw);
/* Time of deletion, or the next in the orphan list. */
int ext4_inode_set_dtime(struct ext4_handle *h, u64 ino, u32 dtime) __must_check;
/* Into a time field and its extension, NULL where there is none; what it cannot hold is clamped. */
void ext4_time_put(struct timespec64 t, le32 *sec, le32 *extra);
/* To what the inode's fields can hold. */
void ext4_time_clamp(const struct ext4_inode *ei, struct timespec64 *t);
/* Those of the flags that an inode of this type can have. */
u32 ext4_flags_of_type(u32 mode, u32 flags);
/* Bytes of fields behind the first 128, for new inodes. */
u16 ext4_extra_isize_new(const struct ext4_super *es);
/* A number that tells a new inode from those that had its number before. */
u32 ext4_generation_new(struct ext4_super *es);
/* i_block of a file without blocks, and of a device. */
void ext4_extent_root_init(u8 *block);
void ext4_rdev_put(u32 major, u32 minor, u8 *block);

/* ---- orphan.c: inodes to be finished after a crash ---- */

#define EXT4_ORPHAN_BLOCKS_MAX 512u /* of the orphan file */

/* What is on the list or in the file already stays; what is on neither is no error. EXT4_CREDITS_ORPHAN and EXT4_CREDITS_INODE. */
int ext4_orphan_add(struct ext4_handle *h, struct ext4_inode *ei) __must_check;
int ext4_orphan_del(struct ext4_handle *h, struct ext4_inode *ei) __must_check;
/* It is in one of the two. */
bool ext4_orphan_noted(struct ext4_inode *ei);
/* There are inodes to be finished. */
bool ext4_orphan_any(struct ext4_super *es);
/* The inode goes from memory; on the volume it stays an orphan. */
void ext4_orphan_forget(struct ext4_inode *ei);
/* Before the superblock is marked as in use, with the journal open; and before it is marked as clean. Each sets ORPHAN_PRESENT in es->disk. */
int ext4_orphan_open(struct ext4_super *es) __must_check;
void ext4_orphan_close(struct ext4_super *es);
/* A block of a new orphan file, whose inode's seed it is: all places are free. */
void ext4_orphan_block_init(const struct ext4_super *es, u32 seed, u64 blk, void *block);
/* At mount: the head of the list; the places of the file, and the number in each, 0: none; the list is made empty. */
u32 ext4_orphan_head(struct ext4_super *es);
u32 ext4_orphan_places(const struct ext4_super *es);
int ext4_orphan_at(struct ext4_super *es, u32 place, u32 *ino) __must_check;
int ext4_orphan_give_up(struct ext4_handle *h) __must_check;
int ext4_orphan_clear(struct ext4_handle *h, u32 place) __must_check;
/* The inode was found there: in the file (place + 1), or (0) at the head of the list, with `rest` behind it. */
void ext4_orphan_found(struct ext4_inode *ei, u32 place, u32 rest);

/*
 * ---- extents_edit.c, extents_cut.c, indirect_edit.c: one kind of map that changes ----
 *
 * For all of these: Locks: tree W. The inode's block count is brought along, the inode is not written. On error nothing was changed, or
 * ext4_abort was called. Each leaves the map whole.
 */

/* New blocks of a map, zeros, joined. */
struct ext4_fresh {
	u32 count;
	struct {
		u64 blk;
		struct buffer_head *bh;
	} b[EXT4_EXTENT_DEPTH_MAX + 1];
};
/* b[i] is one `first_depth` + i levels above the leaves. Ended by ext4_fresh_done, when it failed too. */
int ext4_fresh_get(struct ext4_handle *h, struct ext4_inode *ei, u64 goal, u32 count, u32 first_depth,
		   const struct bh_ops *ops, struct ext4_fresh *out) __must_check;
void ext4_fresh_done(struct ext4_fresh *f);
/* They are not used after all. */
int ext4_fresh_undo(struct ext4_handle *h, struct ext4_fresh *f);

#define EXT4_EXTENT_UNWRITTEN_MAX (EXT4_EXTENT_INIT_MAX - 1)
/* What one step of a cut costs: the path, blocks of data in so many pieces, blocks of the map. Revokes: the step's `max` if metadata, and: */
#define EXT4_CUT_PIECES 8u
#define EXT4_CREDITS_CUT \
	(EXT4_EXTENT_DEPTH_MAX + (EXT4_CUT_PIECES + EXT4_EXTENT_DEPTH_MAX) * EXT4_CREDITS_GROUP)
#define EXT4_REVOKES_CUT EXT4_EXTENT_DEPTH_MAX
/* What a step of a cut is to do: free what is mapped in [from, *to), from the end, at most `max` blocks. It sets *to to where it came. */
struct ext4_cut {
	u64 from, to;
	u32 max;
	bool metadata; /* the blocks are the volume's own: directories, symlinks */
	u32 bad; /* pieces so far that could not be freed, since they were not in use or nobody's to have */
};
#define EXT4_CUT_BAD_MAX 64u /* a map with more of them is left as it is */

/* Blocks that a map gives up. Those whose bitmap says otherwise are reported, counted, and stay as they are: a file with a bad map can be
 * deleted. */
int ext4_cut_free(struct ext4_handle *h, struct ext4_cut *c, u64 blk, u32 len, bool metadata) __must_check;

/* A hole becomes mapped. EXT4_CREDITS_INSERT; at most EXT4_EXTENT_INIT_MAX blocks, or EXT4_EXTENT_UNWRITTEN_MAX. */
int ext4_extent_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk,
		       bool unwritten) __must_check;
/* How many blocks of the map an insert at lblk would need now, or one that splits what is there. Locks: tree R. */
int ext4_extent_need(struct ext4_inode *ei, u64 lblk, u32 *blocks) __must_check;
/* What is allocated in the range counts as written. Up to two inserts, and their credits; may fail half way, with more pieces than before. */
int ext4_extent_convert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u64 len) __must_check;
/* No extent goes across lblk. As an insert. */
int ext4_extent_split(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk) __must_check;
/* After ext4_extent_split at c->to. */
int ext4_extent_cut(struct ext4_handle *h, struct ext4_inode *ei, struct ext4_cut *c) __must_check;
/* One node at most goes from the way to lblk, into its neighbour; else *lblk is where the next leaf begins. EXT4_CREDITS_CUT, EXT4_REVOKES_CUT. */
int ext4_extent_pack(struct ext4_handle *h, struct ext4_inode *ei, u64 *lblk) __must_check;
/* A tree whose blocks are not needed any more gives them back. EXT4_CREDITS_CUT. */
int ext4_extent_shrink(struct ext4_handle *h, struct ext4_inode *ei) __must_check;

/*
 * The blocks [lblk, lblk + len), mapped by one extent, lie at pblk from now on; where they lay is the caller's. Up to two inserts. On error it may
 * be in more pieces than before.
 */
int ext4_extent_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk) __must_check;

/* How many blocks from lblk on have their pointers in the same block: what an insert may have. */
u32 ext4_indirect_piece(const struct ext4_inode *ei, u64 lblk);
int ext4_indirect_need(struct ext4_inode *ei, u64 lblk, u32 *blocks) __must_check;
int ext4_indirect_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len,
			 u64 pblk) __must_check;
int ext4_indirect_cut(struct ext4_handle *h, struct ext4_inode *ei, struct ext4_cut *c) __must_check;
/* As ext4_extent_remap, of one run, whose pointers are in one block. 1 credit. */
int ext4_indirect_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len,
			u64 pblk) __must_check;

/* ---- ialloc.c ---- */

/* A free number, taken on the volume: for directories spread out, for files near their directory. 4 credits and EXT4_CREDITS_GROUP. */
int ext4_ino_take(struct ext4_handle *h, struct ext4_inode *dir, u32 mode, u64 *ino) __must_check;
/* The number is free again. The inode has no blocks any more and was written with its deletion time. The caller begins no handle afterwards
 * before the inode is gone from memory. */
int ext4_ino_free(struct ext4_handle *h, u64 ino, bool is_dir) __must_check;
/* This very number, which is free, is taken. EXT4_CREDITS_GROUP and 1 credit. */
int ext4_ino_claim(struct ext4_handle *h, u64 ino, bool is_dir) __must_check;
/* No number is taken in groups from this one on. */
void ext4_inos_limit(struct ext4_super *es, u32 group);
/* The bitmap says that the number is taken. */
int ext4_ino_is_taken(struct ext4_super *es, u64 ino, bool *taken) __must_check;

/*
 * ---- xattr_value_edit.c: values in inodes of their own come and go ----
 *
 * Such an inode counts the lists that lead to it: a block of attributes counts once, however many inodes share it. When none is left it
 * becomes a file without a name, and is freed as one behind the end of the handle. Locks: es->xattr_lock, for all of these.
 */
#define EXT4_CREDITS_VALUE_PUT (EXT4_CREDITS_ORPHAN + 2 * EXT4_CREDITS_INODE)
/* What making one with a value of `len` bytes costs, as long as its blocks lie in no more than a few groups. */
u32 ext4_value_credits(const struct ext4_super *es, u32 len);
/* The clusters of a volume that its owner counts for it. */
u32 ext4_value_clusters(const struct ext4_super *es, u32 len);
/* An inode with this value, counted once more: one that is known, or a new one. On error nothing was changed, or ext4_abort was called. */
int ext4_value_get(struct ext4_handle *h, struct ext4_inode *owner, const void *value, u32 len,
		   u32 *ino) __must_check;
/* Counted once more. 1 credit. */
int ext4_value_share(struct ext4_handle *h, struct ext4_inode *owner, u32 ino) __must_check;
/* Counted once less. EXT4_CREDITS_VALUE_PUT. -EUCLEAN: it is none, or counts none; recorded, and left to a check. */
int ext4_value_put(struct ext4_handle *h, struct ext4_inode *owner, u32 ino) __must_check;
void ext4_value_cache_free(struct ext4_super *es);

/* ---- xattr_edit.c, acl_edit.c ---- */

/* What ext4_xattr_set costs for a value of `len` bytes: EXT4_CREDITS_XATTR at least. */
u32 ext4_xattr_credits(const struct ext4_super *es, u32 len);
/* value NULL removes. flags: XATTR_CREATE, XATTR_REPLACE. ext4_xattr_credits, 1 revoke. The inode is written. Locks: vfs.lock W, and map_lock W
 * when the inode has inline data; or nobody else knows the inode. */
int ext4_xattr_set(struct ext4_handle *h, struct ext4_inode *ei, u32 index, const char *name, u32 name_len,
		   const void *value, u32 len, u32 flags) __must_check;
/* The longest value that this attribute could have in the inode itself; 0: not even its name fits. */
int ext4_xattr_room(struct ext4_inode *ei, u32 index, const char *name, u32 name_len,
		    u32 *bytes) __must_check;
/* Values in inodes of their own go, in as many handles as that takes. Not within a handle. */
int ext4_xattr_shed(struct ext4_inode *ei) __must_check;
/* How many attributes have values in inodes of their own. Locks: vfs.lock. */
int ext4_xattr_values(struct ext4_inode *ei, u32 *count) __must_check;
/* All attributes outside of the inode go, before it is freed. 1 revoke. The inode is not written. */
enum ext4_xattr_drop {
	EXT4_DROP_NEW,    /* of a new inode, with its few values: EXT4_CREDITS_VALUE_PUT each */
	EXT4_DROP_SHED,   /* values were shed before; -EAGAIN: nothing was done, there are others */
	EXT4_DROP_ANYWAY, /* what cannot be shed is lost to the volume */
};
int ext4_xattr_drop(struct ext4_handle *h, struct ext4_inode *ei, enum ext4_xattr_drop how) __must_check;
/* The inode's block of attributes becomes another one that says the same, shared with whose blocks did before. EXT4_CREDITS_XATTR, 1 revoke. The inode
 * is not written. Locks: nobody else knows the inode. */
int ext4_xattr_block_move(struct ext4_handle *h, struct ext4_inode *ei) __must_check;
void ext4_xattr_cache_free(struct ext4_super *es);
int ext4_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags);
/* What an ACL (NULL: none) of a new inode costs beside EXT4_CREDITS_NEW_INODE. */
u32 ext4_acl_credits(const struct ext4_super *es, const struct acl *acl);
int ext4_set_acl(struct inode *inode, bool is_default, const struct acl *acl, u32 mode);
/* The on-disk form; *value is freed by the caller. */
int ext4_acl_encode(const struct acl *acl, u8 **value, u32 *len) __must_check;

/* ---- inline_edit.c ---- */

/* The content of an inode with inline data, freed by the caller; the inode has an empty map, without the attribute and the flag, and is written.
 * EXT4_CREDITS_XATTR. Locks: lock W and map_lock W. */
int ext4_inline_take_out(struct ext4_handle *h, struct ext4_inode *ei, u8 **data, u32 *len) __must_check;

/* ---- jdata.c: file data through the journal ---- */

/* How many blocks one change may write: they are joined, each a credit. */
u32 ext4_jdata_blocks_max(const struct ext4_super *es);
/* Where the bytes of a change wait for their handle. */
int ext4_jdata_stage(u64 len_bytes, struct blkdev **out) __must_check;
/* They become the content of the file's blocks from blk on. What fails aborts. */
int ext4_jdata_put(struct ext4_handle *h, struct ext4_inode *ei, u64 blk, u32 blocks,
		   struct blkdev *from) __must_check;
/* Before the file's data goes to the volume directly again: what it has in journal and cache is home. Locks: vfs.lock W, map_lock W; no handle. */
int ext4_jdata_end(struct ext4_inode *ei) __must_check;

/* ---- map_edit.c: maps that change ---- */

/* Ends a change of the inode's map: the inode is written, whatever failed on the way. Returns err, or that this failed. */
int ext4_map_end(struct ext4_handle *h, struct ext4_inode *ei, int err) __must_check;
/* Where the file's block lblk would best lie; in its cluster where lblk lies in one of the file. Locks: takes tree R. */
u64 ext4_goal(struct ext4_inode *ei, u64 lblk);

/* The range, a hole, becomes mapped to pblk. Locks: tree W. The inode's block count is brought along, the inode is not written. */
int ext4_map_insert(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u32 len, u64 pblk,
		    bool unwritten) __must_check;
/* A block of metadata at lblk, a hole, for directories and symlinks: new, mapped, and its buffer of zeros, joined. Locks: takes tree W. */
int ext4_map_new_block(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, const struct bh_ops *ops,
		       const struct bh_ctx *ctx, struct buffer_head **out) __must_check;
/* The extent, or the run of pointers in one block, that lblk is in. Locks: takes tree R. */
int ext4_map_piece(struct ext4_inode *ei, u64 lblk, struct ext4_run *out) __must_check;
/* Frees every block at or after lblk, in as many handles as it takes, each leaving the inode whole and written. Locks:
 * map_lock W, or nobody else knows the inode. Not within a handle. */
int ext4_map_cut(struct ext4_inode *ei, u64 lblk) __must_check;
/* inode_ops */
int ext4_unpack(struct inode *inode);
int ext4_alloc(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
int ext4_commit(struct inode *inode, const struct mapping *m, u64 size_bytes);
void ext4_abort_alloc(struct inode *inode, const struct mapping *m);
int ext4_unmap(struct inode *inode, u64 off_bytes, u64 len_bytes);
int ext4_prealloc(struct inode *inode, u64 off_bytes, u64 len_bytes);
int ext4_set_size(struct inode *inode, u64 size_bytes);

/*
 * ---- move.c: blocks of a file that go to other places ----
 *
 * Reserved blocks of one piece are filled with what the file has, and then become the file's in place of those it had, which are freed: what is
 * read of it is the same at any time, also after a crash. Unwritten stays unwritten, holes stay holes, the number of its blocks stays. Between
 * copy and swap nobody may change the file.
 */

#define EXT4_MOVE_PIECES 256u
struct ext4_move {
	struct ext4_inode *ei; /* a regular file whose data is in blocks */
	u64 lblk, end;         /* blocks of the file, from and to a cluster: what has not been moved yet */
	u64 blk; /* the first of `len` that are reserved, in one piece and one group, and begin with a cluster: where */
	u32 len; /* what is mapped in [lblk, end) goes to next. What is left of it is the caller's */
	/* move.c's: */
	bool swapped; /* some was; the first of it: */
	u64 first;
	u32 pieces; /* copied, and not swapped yet */
	struct ext4_moved {
		u64 lblk, from, to;
		u32 len;
		u32 mixed; /* a cluster of which not all is of one kind: how many pieces */
	} piece[EXT4_MOVE_PIECES];
	u32 left_count; /* without a journal: what the file had, and is not free before the map is durable */
	struct ext4_left {
		u64 blk;
		u32 len;
	} left[EXT4_MOVE_PIECES];
	u8 *buf;
	u64 buf_blk;
	u32 buf_len; /* at buf, to be written to buf_blk, in blocks */
};
/*
 * Copies what comes next, at most EXT4_MOVE_BYTES, and takes lblk, blk and len on. m->pieces 0: nothing is mapped any more before `end`, or len is
 * 0. Locks: lock W. Not within a handle.
 */
#define EXT4_MOVE_BYTES (4u << 20)
int ext4_move_copy(struct ext4_move *m) __must_check;
/* What was copied becomes the file's. On error some of it has, what has not is reserved no more, and the file is whole. Locks: lock W, map_lock W. */
int ext4_move_swap(struct ext4_move *m) __must_check;
/* Also after an error: what was copied and not swapped is given up. The map's blocks that are not needed any more go. Locks: lock W. Not within a handle. */
int ext4_move_end(struct ext4_move *m) __must_check;
/*
 * The map of a cluster of the file leads to another, which begins at pblk: whatever in it is mapped, so many runs. Locks: tree W. An error after which not
 * all of it is where it was ends the mount.
 */
u32 ext4_cluster_remap_credits(const struct ext4_inode *ei, u32 runs);
int ext4_cluster_remap(struct ext4_handle *h, struct ext4_inode *ei, u64 lblk, u64 pblk) __must_check;

/* ---- defrag.c: files in fewer pieces ---- */

/* inode_ops.fragments */
int ext4_fragments(struct inode *inode, struct fragments *out);
extern const struct defrag_ops ext4_defrag_ops;

/* ---- quota_edit.c ---- */

/* Each of the owner's ids has a record, in handles of their own. Locks: none of rank MAP or below. */
int ext4_quota_attach(struct ext4_super *es, const struct ext4_owner *owner) __must_check;
/* super_ops.quota, set_quota */
int ext4_quota(struct super_block *sb, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
	       void *ctx);
int ext4_set_quota(struct super_block *sb, enum quota_kind kind, const struct quota_set *set);

/* ---- quota_recount.c: usage of inodes that change while nobody counts ---- */

struct ext4_recount {
	u32 *ino; /* sorted once ext4_recount_begin was called */
	u32 count, room;
	struct ext4_use *was; /* what each counted for */
};
/* One that may change, or be there twice. For a volume without quotas nothing is noted. */
int ext4_recount_add(struct ext4_super *es, struct ext4_recount *r, u32 ino) __must_check;
/* Before the first of them changes. */
int ext4_recount_begin(struct ext4_super *es, struct ext4_recount *r) __must_check;
/* They have changed: quota files say so, whatever limits there are. Opens es->quotas. What cannot be counted is an error of the volume, for a check to
 * set right, and no other is returned than -ENOMEM. */
int ext4_recount_end(struct ext4_super *es, struct ext4_recount *r) __must_check;
void ext4_recount_free(struct ext4_recount *r);

/* ---- inode_create.c ---- */

/* A new inode: number, members, symlink target, ACLs; written, nlink 0, not on the orphan list, in memory and referenced. The caller gives it a name,
 * its links (ext4_inode_write again), and calls inode_ready. On error nothing is left. 2 revokes. Its credits: */
#define EXT4_REVOKES_NEW_INODE 2u
#define EXT4_CREDITS_NEW_INODE (4u + 2 * EXT4_CREDITS_GROUP + 2 * EXT4_CREDITS_XATTR + EXT4_CREDITS_INSERT)
int ext4_inode_create(struct ext4_handle *h, struct ext4_inode *dir, const struct new_inode *what,
		      struct ext4_inode **out) __must_check;

/* ---- dir_grow.c ---- */

/* A new last block of the directory, as a leaf without entries. The caller writes the inode. */
int ext4_dir_append(struct ext4_handle *h, struct ext4_inode *dir, struct buffer_head **out) __must_check;
/* The first block of a new directory: "." and "..". Costs as a map insert with a new block. */
int ext4_dir_init(struct ext4_handle *h, struct ext4_inode *dir, u64 parent) __must_check;

/* ---- htree_edit.c ---- */

/* The directory's one block, a leaf, becomes the root of an index with one leaf. */
int ext4_htree_make(struct ext4_handle *h, struct ext4_inode *dir) __must_check;
int ext4_htree_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u32 ino,
		   u8 type) __must_check;

/* ---- inline_dir.c ---- */

/* What stands there means another inode; ino 0: it goes. */
int ext4_inline_dir_change(struct ext4_handle *h, struct ext4_inode *dir, const struct ext4_place *at,
			   u32 ino, u8 type) __must_check;
/* A name that is not there, where the inode has room for it; for the second region it may get what it needs. 1: added. 0: no room. */
int ext4_inline_dir_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u32 ino,
			u8 type) __must_check;
/* To a block. Costs as a map insert, and EXT4_CREDITS_GROUP. */
int ext4_inline_dir_move(struct ext4_handle *h, struct ext4_inode *dir) __must_check;

/* ---- dir_edit.c ---- */

/* Adds a name that is not there. May grow the directory. -ENOSPC: full disk, or the index cannot grow. EXT4_CREDITS_DIR_ADD. Times and links
 * are the caller's; the directory's size and flags are in memory, and the caller writes the inode. Locks: dir W, for all of these. */
int ext4_dir_add(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u64 ino,
		 u32 mode) __must_check;
/* The block where the name stands is joined: what fails when a name changes fails now. */
int ext4_dir_join(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name) __must_check;
int ext4_dir_del(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name) __must_check;
/* The name, which is there, means another inode; ".." too. */
int ext4_dir_set(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name, u64 ino,
		 u32 mode) __must_check;
/* 1: nothing but "." and "..", 0: more. */
int ext4_dir_is_empty(struct ext4_inode *dir) __must_check;

/* ---- namei_edit.c ---- */

int ext4_create(struct inode *dir, const struct name *name, const struct new_inode *what, struct inode **out);
int ext4_link(struct inode *dir, const struct name *name, struct inode *inode);
int ext4_unlink(struct inode *dir, const struct name *name, struct inode *inode);
int ext4_rename(struct inode *dir, const struct name *name, struct inode *inode, struct inode *new_dir,
		const struct name *new_name, struct inode *victim, bool exchange,
		const struct new_inode *whiteout);

/* ---- inode_life.c ---- */

int ext4_setattr(struct inode *inode, const struct iattr *attr);
int ext4_evict_inode(struct inode *inode);
int ext4_fsync(struct inode *inode, bool data_only);
/* At mount, after replay and ext4_orphan_open: truncates and frees what a crash left behind. *count: how many. */
int ext4_orphan_cleanup(struct ext4_super *es, u32 *count) __must_check;

/* ---- mmp.c: multiple mount protection ---- */

/* NULL, or what is wrong with the block. csum: it has a checksum, of this seed. */
const char *ext4_mmp_wrong(u32 seed, bool csum, const struct ext4_disk_mmp *m);
/* For who only reads. -EBUSY, naming machine, device and time, when another machine has the volume mounted. May wait for some seconds: *still. */
int ext4_mmp_check(struct ext4_super *es, u64 *still) __must_check;
/*
 * The volume becomes ours: -EBUSY as above. *out: a device over es's, through which it is to be written; the volume is ours as
 * long as the device is there. Should another take it all the same, writes fail from then on. NULL: it has no such protection. check: it is
 * checked; NULL: it is mounted. -EUCLEAN: its protection is damaged.
 */
int ext4_mmp_take(struct ext4_super *es, const struct fs_claim *check, struct blkdev **out) __must_check;
/* es, which lies on such a device, is aborted when the volume is lost; until `watch` is false. Nothing to do on another device. */
void ext4_mmp_watch(struct ext4_super *es, bool watch);

/* ---- fast_commit.c: what the journal's fast-commit area holds ---- */

struct ext4_fc_record {
	u16 tag;    /* EXT4_FC_TAG_*: none of HEAD, PAD, TAIL */
	u16 len;    /* fits the tag: value is the struct ext4_disk_fc_* of it, whole */
	u32 at;     /* offset of value in bytes */
	u32 commit; /* which of the fast commits, from 0 */
};
/* Records in the order in which they are to be applied. */
struct ext4_fc_log {
	u8 *bytes;
	struct ext4_fc_record *record;
	u32 count, room; /* of records */
	u32 commits;     /* whole fast commits */
};
static inline const void *ext4_fc_value(const struct ext4_fc_log *log, u32 i)
{
	return log->bytes + log->record[i].at;
}
/*
 * Reads the fast commits that follow the full transaction tid - 1: those that are whole and stand before the first one that is
 * not. *out is empty if there are none. -EOPNOTSUPP: they have features that are not known.
 */
int ext4_fc_load(struct ext4_super *es, struct jbd2 *journal, u32 tid, struct ext4_fc_log *out) __must_check;
void ext4_fc_free(struct ext4_fc_log *log);

/* ---- fast_commit_apply.c ---- */

/* Changes the volume, which was opened for that without a journal and is nobody else's, as the records say. */
int ext4_fc_apply(struct ext4_super *es, const struct ext4_fc_log *log) __must_check;

/* ---- journal.c ---- */

struct ext4_replay {
	u32 transactions;                /* applied */
	bool bad_commit;                 /* the log ends in a damaged one */
	bool stopped;                    /* it says that an error stopped who wrote it */
	struct ext4_fc_log fast_commits; /* changes after them, not applied yet. Freed by ext4_fc_free */
	struct jbd2_recovery log;        /* what the journal says of it */
	u32 next;                        /* the number of the next transaction */
};
/* The volume has a journal, on itself. */
bool ext4_journal_is_inside(const struct ext4_super *es);
/* It has one, and that can be read: it is inside, or its device was given. */
bool ext4_journal_is_here(const struct ext4_super *es);
/* dev is to be where the volume's journal lies: checks that it does, and keeps it. -EINVAL: it does not. */
int ext4_journal_use_dev(struct ext4_super *es, struct blkdev *dev) __must_check;
/* The superblock's copy of the journal inode's map and size. */
void ext4_journal_backup(struct ext4_disk_super *d, const u8 *block, u64 size_bytes);
/* Into ei its inode, without what the superblock remembers of it. */
int ext4_journal_inode(struct ext4_super *es, struct ext4_inode *ei) __must_check;
/* ei is memory for its inode, which is used when the journal is inside, and must outlive the journal. */
int ext4_journal_open(struct ext4_super *es, struct ext4_inode *ei, struct jbd2 **out) __must_check;
/*
 * Applies the journal's transactions to target, a device with the volume's blocks. empty: then marks the log as empty, unless it has fast
 * commits, which are to be applied before. *out is good on error too.
 */
int ext4_journal_replay(struct ext4_super *es, struct blkdev *target, bool empty,
			struct ext4_replay *out) __must_check;

/* ---- mount_rw.c: from read-only to read-write, and back ---- */

/* Groups without a usable descriptor. */
u32 ext4_groups_bad(const struct ext4_super *es);
/* Why the volume is not to be written, in a sentence that names it. False: it may be written. */
bool ext4_write_refused(const struct ext4_super *es, struct text *why);
/*
 * On a volume just opened: applies its journal to the device, whose caches are void afterwards: open it again. *replay says
 * what was done; *again: whether it must be opened again.
 */
int ext4_write_recover(struct ext4_super *es, struct ext4_replay *replay, bool *again) __must_check;
/* Journal, allocator, marks in the superblock, orphans. On error the volume is as it was, but for orphans dealt with. */
int ext4_write_open(struct ext4_super *es, const struct mount_opts *opts, u32 *orphans) __must_check;
/* All is durable and home, and the volume is marked clean. Does nothing on a read-only mount. */
int ext4_write_close(struct ext4_super *es) __must_check;
/* On a volume just opened on a device that is thrown away, or kept as a whole: `change` is called, with the volume to be written without a journal.
 * And with what applies fast commits. */
int ext4_write_scratch(struct ext4_super *es, int (*change)(struct ext4_super *es, void *ctx),
		       void *ctx) __must_check;
int ext4_write_fast_commits(struct ext4_super *es, struct ext4_fc_log *fast_commits) __must_check;
/*
 * On a volume just opened to whose device a journal's transactions were applied: what is another in `overlay`, an overlay over its
 * device, and in `top`, one over that (NULL: none), becomes one more transaction of the journal, then goes home, and the log is empty. log: what
 * was applied; NULL: the log is empty. first: NULL, or what the superblock becomes when the transaction is durable, and before anything of it goes
 * home. -ENOSPC: it does not fit, and nothing was written.
 */
int ext4_write_overlay(struct ext4_super *es, struct blkdev *overlay, struct blkdev *top,
		       const struct jbd2_recovery *log, const struct ext4_disk_super *first) __must_check;
/* How many blocks that would be, without `top`. */
int ext4_overlay_blocks(struct ext4_super *es, struct blkdev *overlay, u32 *count) __must_check;
/* super_ops.sync */
int ext4_sync(struct super_block *sb);
/* 0, or -EINVAL naming the option that is none of ours. */
int ext4_options_check(const char *fs_opts) __must_check;

/* ---- sb.c ---- */

/* Its journal is the one that a volume has only while it is mended. */
bool ext4_sb_has_spare(const struct ext4_disk_super *d);
/* The first copy of the superblock that can be believed; its place. A half-written one of a volume that has no copies keeps its wrong checksum. On error *out has what was read last, or zeros. */
int ext4_sb_read(struct blkdev *dev, const struct mount_opts *opts, struct ext4_disk_super *out,
		 u64 *off_bytes) __must_check;
/* The nth good copy, from 0 on, of those where mke2fs puts the first when nobody asks for other groups. -EINVAL: there is none. */
int ext4_sb_copy(struct blkdev *dev, u32 nth, struct ext4_disk_super *out, u64 *off_bytes) __must_check;
/* The same of those that are where another superblock, damaged perhaps, says that groups begin. */
int ext4_sb_copy_behind(struct blkdev *dev, const struct ext4_disk_super *damaged, u32 nth,
			struct ext4_disk_super *out, u64 *off_bytes) __must_check;
/*
 * The first superblock is right but for the number of all inodes, or of those of a group, which do not agree: *out is it as it has to be. False: it
 * is not to be known.
 */
bool ext4_sb_count_inodes(struct blkdev *dev, struct ext4_disk_super *out) __must_check;
/* They are of one volume, and say the same of all that stays as it is while a volume is in use. */
bool ext4_sb_same_volume(const struct ext4_disk_super *a, const struct ext4_disk_super *b);
/* -EINVAL for another number of devices than one. */
int ext4_one_device(u32 n) __must_check;
/* Numbers whose fields depend on revision and features. */
u64 ext4_sb_blocks(const struct ext4_disk_super *d);
u32 ext4_sb_inode_bytes(const struct ext4_disk_super *d);
u32 ext4_sb_desc_bytes(const struct ext4_disk_super *d);
u32 ext4_sb_cluster_bits(const struct ext4_disk_super *d);
u32 ext4_sb_first_ino(const struct ext4_disk_super *d);
/* Features and geometry in memory, after es->disk, whose numbers are right. */
void ext4_sb_fill(struct ext4_super *es);

/* ---- grow.c: a volume that becomes longer ---- */

/* super_ops.grow */
int ext4_grow(struct super_block *sb, u64 size_bytes, struct grown *out);
/* Of the inode that keeps blocks for descriptors: the block of its map, whose pointers are what they should be. */
int ext4_kept_top(struct ext4_super *es, struct buffer_head **out) __must_check;
/* The content of block `blk`, which is kept: it points to those in the copies of the volume that `after` is. */
void ext4_kept_point(const struct ext4_super *after, u64 blk, le32 *ptr);

/* ---- shorten.c, and its parts: a volume that becomes shorter ---- */

/* fs_type.shorten */
int ext4_shorten(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		 struct shorten *what);

/* ---- super.c ---- */

/* Everything of mount but the root directory. Ended by vfs_unmount. On error *out is NULL. */
int ext4_super_open(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
		    struct ext4_super **out) __must_check;
/* fs_type.claim */
int ext4_claim(struct blkdev *dev, const struct fs_type *type, const struct fs_claim *check,
	       struct blkdev **out) __must_check;

/* ---- relabel.c ---- */

/* fs_type.relabel */
int ext4_relabel(struct blkdev **devs, u32 n, const struct mount_opts *opts, const struct relabel *what);

/* ---- info.c ---- */

void ext4_super_doc(const struct ext4_disk_super *d, struct doc *out);
/* What a person asks first, of a superblock that can be believed. */
void ext4_super_brief(const struct ext4_disk_super *d, struct doc *out);
/* fs_type.info */
int ext4_info(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct doc *out);

/* ---- dump.c ---- */

/* fs_type.dump */
int ext4_dump(struct blkdev **devs, u32 n, const struct mount_opts *opts, u32 words, const char *const *word,
	      struct doc *out);

/* ---- check/: what is wrong with a volume ---- */

/* fs_type.check */
int ext4_check(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount,
	       const struct check_opts *opts, struct check_summary *out);
/* fs_type.settle */
int ext4_settle(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *mount);
/* fs_type.write_mended */
int ext4_write_mended(const struct fs_type *type, struct blkdev *dev, struct blkdev *overlay,
		      const struct mount_opts *mount, bool *done) __must_check;

/* ---- ext4.c: all that is seen outside ---- */

extern const struct fs_type ext4_fs_type;

#endif
