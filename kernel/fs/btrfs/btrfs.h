/*
 * btrfs in memory, and what each file of this module gives to those after it. Private to the module: the rest of the
 * program sees btrfs_fs_type alone.
 *
 * A volume is one logical address space of bytes. `volume` shows it as a block device: chunks say where a logical
 * range lies, in how many copies, on which devices. Nodes of trees are blocks of that device in the buffer cache; data is read from it
 * and checked against the checksum tree. Everything is found by (objectid, type, offset) in a tree.
 *
 * Invariants
 *  1. A node is checked once, when it is read (verify): checksum, identity, level, generation, owner and first key as its parent or root
 *     item says, order and bounds of keys and items, every member of every item. What is wrong with the node condemns the node; what is
 *     wrong with an item condemns the item: a path that comes to stand on it says so (btree.c). Code above checks nothing of that again.
 *  2. No address comes from an unchecked number: the chunk map knows which logical ranges exist.
 *  3. Every walk ends: a path is at most BTRFS_LEVELS nodes, levels fall by one from parent to child, keys rise.
 *  4. Data leaves the module only after its checksum was right, unless the file has none (NODATASUM) or the mount
 *     says rescue=ignoredatacsums.
 */
#ifndef BTRFS_H
#define BTRFS_H

#include "ondisk.h"
#include "vfs/vfs.h"

struct btrfs_super;
struct btrfs_root;
struct btrfs_volume;
struct btrfs_inos;
struct btrfs_unpacked;
struct btrfs_tools;
struct btrfs_slot;

extern const struct fs_type btrfs_fs_type;

struct btrfs_key {
	u64 objectid;
	u8 type; /* BTRFS_KEY_* */
	u64 offset;
};
#define BTRFS_KEY(objectid, type, offset) ((struct btrfs_key){ objectid, type, offset })
#define BTRFS_KEY_LAST                    BTRFS_KEY(~0ull, 0xff, ~0ull)

static inline struct btrfs_key btrfs_key_get(const struct btrfs_disk_key *d)
{
	return BTRFS_KEY(le64_get(d->objectid), d->type, le64_get(d->offset));
}
static inline int btrfs_key_cmp(const struct btrfs_key *a, const struct btrfs_key *b)
{
	if (a->objectid != b->objectid)
		return a->objectid < b->objectid ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* ---- csum.c ---- */

/* Bytes that a type's checksum takes; 0: no such type. */
u32 btrfs_csum_bytes(u32 type);
const char *btrfs_csum_name(u32 type);
/* The checksum as it is stored, in the first bytes of out; the rest of out is zeroed. `type` is a known one. */
void btrfs_csum(u32 type, const void *p, size_t len_bytes, u8 out[BTRFS_CSUM_BYTES]);
/* crc32c as names are hashed: DIR_ITEM and XATTR_ITEM offsets. */
u64 btrfs_name_hash(const void *name, u32 len);
/* INODE_EXTREF offsets. */
u64 btrfs_extref_hash(u64 parent, const void *name, u32 len);

/* ---- feature.c ---- */

/* -EOPNOTSUPP with the names of the incompatible features that this module cannot read; else 0. */
int btrfs_features_check(const struct btrfs_disk_super *d) __must_check;
/* -EOPNOTSUPP: by the superblock's flags a tool has left the volume between two states, or they are not known; else 0. */
int btrfs_flags_check(const struct btrfs_disk_super *d) __must_check;
/* The bits of features that are not known here and forbid only writing. */
u64 btrfs_unknown_compat_ro(const struct btrfs_disk_super *d);
/* Names of known bits, and 0x… for the rest, into an array. which: 0 compat, 1 compat_ro, 2 incompat. */
void btrfs_features_doc(int which, u64 bits, struct doc *array);

/* ---- sb.c: superblocks ---- */

/*
 * The superblock of one device that can be believed: magic, checksum, its own address, sizes in bounds. mirror 0 to 2: that
 * copy alone; -1: of those that are good, and of the first one's volume, the one with the highest generation, the first when equal.
 * -ENODEV: the first has not the magic; -EUCLEAN: why the first was not good, nor another.
 */
int btrfs_sb_read(struct blkdev *dev, int mirror, struct btrfs_disk_super *out, u32 *which) __must_check;
/* Everything but magic and address; the sentence goes to err_text. h may be NULL. */
int btrfs_sb_check(struct health *h, const struct btrfs_disk_super *d) __must_check;

/* ---- chunk.c: the chunk map ---- */

struct btrfs_stripe {
	u32 dev; /* index into the volume's devices */
	u64 off_bytes;
};
struct btrfs_chunk {
	u64 logical, len_bytes;
	u64 type; /* BTRFS_BG_* */
	u32 num_stripes, sub_stripes;
	u32 copies; /* ways to read a byte: mirrors, or for RAID5 and RAID6 the stripe itself and rebuilds (2, 3) */
	struct btrfs_stripe stripe[];
};

/* ---- volume.c: the logical address space as a block device ---- */

struct btrfs_device {
	u64 devid;
	u8 uuid[16];
	struct blkdev *dev; /* NULL: missing */
	u64 size_bytes;     /* as its item says */
	u64 generation;     /* as its superblock says; a missing one's and a seed's: 0 */
	bool seed;
	bool listed;             /* an item or a chunk of the volume names it */
	_Atomic u64 csum_errors; /* since the mount: data that was not what its checksum says */
};

/*
 * From devices, the first of which says by its fsid which volume it is. Those of other volumes may be its seeds: a device item names them then.
 * An older copy of a device (lower generation) is left out; two alike are -EEXIST. *super is the newest superblock, or the copy `mirror` of the
 * first device (see btrfs_sb_read). The system chunks of its array are in the map afterwards. Takes its own references.
 * `health` is where corruption is recorded, and outlives the volume.
 */
int btrfs_volume_new(struct blkdev **devs, u32 n, int mirror, struct health *health,
		     struct btrfs_disk_super *super, struct btrfs_volume **out) __must_check;
/* Gives back the volume, and its device. NULL is ignored. */
void btrfs_volume_free(struct btrfs_volume *v);
/* Bytes are logical addresses; size: the end of the last chunk. Borrowed. */
struct blkdev *btrfs_volume_dev(struct btrfs_volume *v);
/* A device item: of a device that is there (its size), or a missing one, which is added so that chunks can name it. */
int btrfs_volume_device(struct btrfs_volume *v, const struct btrfs_disk_dev_item *item) __must_check;
/* A chunk item at a logical address, `len_bytes` of item: checked against the format, the devices and the chunks that are known; in the map
 * afterwards. The same chunk twice is fine, another that overlaps is -EUCLEAN. Nobody reads meanwhile. */
int btrfs_volume_chunk(struct btrfs_volume *v, u64 logical, const struct btrfs_disk_chunk *item,
		       u32 len_bytes) __must_check;
/* All chunks are in. degraded: chunks that can be read without the missing devices are enough; else missing devices, and those of other volumes, are -ENXIO, named. Not even
 * then: a chunk that cannot be read at all is said in *lost (a count); reading it is -EIO. */
int btrfs_volume_ready(struct btrfs_volume *v, bool degraded, u32 *lost) __must_check;
/* The chunk that holds a logical address; NULL: none. Borrowed, const after btrfs_volume_ready. */
const struct btrfs_chunk *btrfs_chunk_find(const struct btrfs_volume *v, u64 logical);
/* In order of address; NULL at the end. */
const struct btrfs_chunk *btrfs_chunk_at(const struct btrfs_volume *v, u32 index);
u32 btrfs_device_count(const struct btrfs_volume *v);
struct btrfs_device *btrfs_device_at(struct btrfs_volume *v, u32 index);
/* Where copy `copy` of a logical address lies, and how many bytes go on there. -EIO: on a missing device, or only to be rebuilt. For printers. */
int btrfs_volume_where(struct btrfs_volume *v, u64 logical, u32 copy, u64 *devid, u64 *off_bytes,
		       u64 *len_bytes) __must_check;
/* Who has a role in the row of RAID5 or RAID6 that an address lies in: data stripes 0 …, P, Q. */
struct btrfs_member {
	const struct btrfs_device *device;
	u64 off_bytes; /* of its BTRFS_STRIPE_BYTES of the row */
};
/* -ENOENT: there is no such role. -EIO: its device is missing, missed commits or is too short. */
int btrfs_volume_member(struct btrfs_volume *v, u64 logical, u32 role, struct btrfs_member *out) __must_check;
/* Whose fault a bad checksum at a logical address was: counted at the device of that copy, and said when it is the first, and at the end. */
void btrfs_volume_bad_copy(struct btrfs_volume *v, u64 logical, u32 copy);

/* ---- verify_item.c, verify_extent.c, verify.c: what nodes and items must look like ---- */

/* Why a leaf's item cannot be right, in words; NULL: it is. The leaf is sound as a node; slot < nritems. */
const char *btrfs_item_wrong(const struct btrfs_super *bs, const void *leaf, u32 slot);
/* The same of an item of the extent tree. */
const char *btrfs_extent_item_wrong(const struct btrfs_super *bs, const void *leaf, u32 slot);
/* Can this be a name in a directory? Not "." and "..", no '/', no NUL. */
bool btrfs_name_ok(const void *name, u32 len);
/* A subvolume: the top level, or one that a user made. */
static inline bool btrfs_is_subvol(u64 tree)
{
	return tree == BTRFS_TREE_FS || (tree >= BTRFS_OBJ_FIRST_FREE && tree < 1ull << 48);
}
extern const struct bh_ops btrfs_node_ops;
struct btrfs_expect;
/* What the cache is told of a node that is wanted. */
void btrfs_node_ctx(const struct btrfs_expect *want, struct bh_ctx *out);

/* ---- node.c: nodes ---- */

/* What a reader knows of the node it wants. */
struct btrfs_expect {
	u64 owner; /* the tree that it belongs to; 0: any. Subvolumes share nodes, so there it is "a subvolume" */
	u32 level;
	u64 generation; /* 0: any */
	bool has_key;
	struct btrfs_key first; /* with has_key */
};
/* The node at a logical address, referenced. */
int btrfs_node_read(struct btrfs_super *bs, u64 bytenr, const struct btrfs_expect *want,
		    struct buffer_head **out) __must_check;
/* As it lies, with the verdict, 0 or -EUCLEAN with its sentence in err_text; the return value is only about reading. For printers. */
int btrfs_node_read_raw(struct btrfs_super *bs, u64 bytenr, const struct btrfs_expect *want,
			struct buffer_head **out, int *verdict) __must_check;
/* The nodes that the n pointers from a slot on name will be read soon. */
void btrfs_node_ahead(struct btrfs_super *bs, const void *node, u32 slot, u32 n);

static inline const struct btrfs_disk_header *btrfs_header(const void *node)
{
	return node;
}
static inline u32 btrfs_nritems(const void *node)
{
	return le32_get(btrfs_header(node)->nritems);
}
/* Of verified nodes; slot < nritems. */
static inline const struct btrfs_disk_item *btrfs_item(const void *leaf, u32 slot)
{
	return (const struct btrfs_disk_item *)((const u8 *)leaf + sizeof(struct btrfs_disk_header)) + slot;
}
static inline const struct btrfs_disk_ptr *btrfs_ptr(const void *node, u32 slot)
{
	return (const struct btrfs_disk_ptr *)((const u8 *)node + sizeof(struct btrfs_disk_header)) + slot;
}
/* An item's bytes. */
static inline const void *btrfs_item_data(const void *leaf, u32 slot)
{
	return (const u8 *)leaf + sizeof(struct btrfs_disk_header) +
	       le32_get(btrfs_item(leaf, slot)->offset_bytes);
}
static inline u32 btrfs_item_len(const void *leaf, u32 slot)
{
	return le32_get(btrfs_item(leaf, slot)->len_bytes);
}

/* ---- btree.c: ways through a tree ---- */

/*
 * Where a search stands: the nodes from the root (highest level) to a leaf, each referenced. Zeroed is empty.
 *
 * -EUCLEAN and -EIO of the functions below are about one item or one subtree that cannot be read. The path stands on it then:
 * it gives no item, and btrfs_next and btrfs_prev go on beyond it. Who lists may go on and fail in the end; who looks for one thing
 * returns the error.
 */
struct btrfs_path {
	const struct btrfs_root *root;
	struct buffer_head *node[BTRFS_LEVELS]; /* [level] */
	u32 slot[BTRFS_LEVELS];
	u32 ahead; /* leaves of node[1] before this slot are read, or asked for */
};
void btrfs_path_put(struct btrfs_path *p);
void btrfs_path_putp(struct btrfs_path *p); /* for scoped() */

/* To the first item at or after key. -ENOENT: there is none. The path may be in use: it is given back first, also on error. */
int btrfs_seek(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p) __must_check;
/* To the last item at or before key. -ENOENT: there is none. */
int btrfs_seek_last(const struct btrfs_root *root, const struct btrfs_key *key,
		    struct btrfs_path *p) __must_check;
/* To exactly this item; else -ENOENT. */
int btrfs_find(const struct btrfs_root *root, const struct btrfs_key *key, struct btrfs_path *p) __must_check;
/* To the next, the previous item; leaves that a walk will come to are read ahead. -ENOENT at the end. */
int btrfs_next(struct btrfs_path *p) __must_check;
int btrfs_prev(struct btrfs_path *p) __must_check;
/* The leaf with the first item at or after key, and `leaves` - 1 behind it, will be wanted soon: a hint. Reads the nodes above them. */
void btrfs_ahead(const struct btrfs_root *root, const struct btrfs_key *key, u32 leaves);
struct btrfs_key btrfs_path_key(const struct btrfs_path *p);
/* The item's bytes: valid while the path stays. */
const void *btrfs_path_item(const struct btrfs_path *p, u32 *len_bytes);

/* ---- dir_item.c ---- */

/* The entry with that name in an item of one or more; NULL: none. */
const struct btrfs_disk_dir_item *btrfs_dir_item_find(const void *item, u32 len_bytes, const void *name,
						      u32 name_len);

/* ---- root.c: trees ---- */

struct btrfs_root {
	struct btrfs_super *bs; /* [const] */
	u64 id;                 /* [const] */
	u64 bytenr;             /* [const] */
	u64 generation;         /* [const] */
	u32 level;              /* [const] */
	/* Of subvolumes: */
	u64 dirid;                    /* [const] the root directory */
	u64 flags;                    /* [const] BTRFS_ROOT_* */
	struct btrfs_disk_root item;  /* [const] as it stands in the root tree, zeros behind a short one */
	struct btrfs_root *hash_next; /* [bs->roots_lock] */
};

/* The tree with this id: the root tree, the chunk tree, or what the root tree has a ROOT_ITEM of. Borrowed: lives as long as the mount.
 * -ENOENT: none. Several threads may ask. */
int btrfs_root_get(struct btrfs_super *bs, u64 id, const struct btrfs_root **out) __must_check;
void btrfs_roots_free(struct btrfs_super *bs);
/* Where a subvolume is named: its parent tree, directory, name (NUL-terminated, 256 bytes of room). -ENOENT: the top level, or unnamed. */
int btrfs_root_parent(struct btrfs_super *bs, u64 id, u64 *parent, u64 *dirid, char *name) __must_check;
/* What `-o subvol=PATH` means: a path from the top level. */
int btrfs_root_by_path(struct btrfs_super *bs, const char *path, u64 *id) __must_check;
/* The default subvolume (BTRFS_TREE_FS when none is set). */
int btrfs_root_default(struct btrfs_super *bs, u64 *id) __must_check;
/* Path from the top level, "" for it; what cannot be followed is "?". */
int btrfs_root_path(struct btrfs_super *bs, u64 id, struct text *out) __must_check;
/* The same of an inode, by the first of its names. */
int btrfs_file_path(struct btrfs_super *bs, const struct btrfs_root *root, u64 ino,
		    struct text *out) __must_check;

/* ---- the volume in memory: super.c ---- */

/* -o, see btrfs(5) and options.c. */
struct btrfs_opts {
	bool degraded, usebackuproot, norecovery, noacl;
	bool ignore_bad_roots, ignore_data_csums, ignore_meta_csums, ignore_super_flags; /* rescue= */
	u64 subvolid;   /* 0: by subvol, or the default */
	char *subvol;   /* owned; NULL: none */
	u64 generation; /* 0: the newest */
};
int btrfs_opts_parse(const char *fs_opts, struct btrfs_opts *out) __must_check;
void btrfs_opts_free(struct btrfs_opts *o);

#define BTRFS_SEEDS_MAX 16u

struct btrfs_super {
	struct super_block vfs; /* vfs.dev is the volume's device, in blocks of node_bytes in the cache */
	struct btrfs_volume *volume;       /* [const] */
	struct btrfs_disk_super disk;      /* [const] */
	struct btrfs_opts opts;            /* [const] */
	u32 node_bytes, sector_bytes;      /* [const] */
	u32 csum_type, csum_bytes;         /* [const] */
	u64 generation;                    /* [const] of the root tree */
	u8 node_fsid[16];                  /* [const] what nodes carry */
	u8 seed_fsid[BTRFS_SEEDS_MAX][16]; /* [const] or, made before the volume sprouted, its seed's */
	u32 seeds;                         /* [const] */
	bool ahead_ok;                     /* [const] nodes may be read ahead */
	_Atomic bool bad_items; /* a leaf with a bad item was read: items are looked at before use */
	struct btrfs_root tree_root, chunk_root; /* [const] */
	const struct btrfs_root *csum_root;      /* [const] NULL: cannot be read, and rescue says so */
	const struct btrfs_root *top;            /* [const] the subvolume that is shown */
	struct mutex roots_lock;                 /* rank ALLOC */
	struct btrfs_root *roots[64];            /* [roots_lock] found so far, by id */
	struct btrfs_unpacked *unpacked;         /* [const] decompressed extents, a few: compress.c */
	struct btrfs_inos *inos;                 /* [const] inode numbers that are given out: ino.c */
};

static inline struct btrfs_super *btrfs_super(const struct super_block *sb)
{
	return container_of(sb, struct btrfs_super, vfs);
}

/* ---- usage.c: how full the volume is ---- */

#define BTRFS_USAGES_MAX 16u
/* The chunks of one type and profile. */
struct btrfs_usage {
	u64 type;                    /* BTRFS_BG_* */
	u64 total_bytes, used_bytes; /* logical: one copy */
	u32 unknown;                 /* chunks whose block group cannot be read: not in used_bytes */
};
/* Of all chunks. What cannot be read is counted as such: no errors but -ENOMEM. */
int btrfs_usage_read(struct btrfs_super *bs, struct btrfs_usage out[BTRFS_USAGES_MAX], u32 *n) __must_check;
/* super_ops.statfs */
int btrfs_statfs(struct super_block *sb, struct kstatfs *out) __must_check;
/* "data", "RAID1": what a chunk holds, and how. */
const char *btrfs_bg_type_name(u64 type);
const char *btrfs_bg_profile_name(u64 type);

/* ---- ino.c: numbers of inodes ---- */

/* What an inode number means. */
struct btrfs_place {
	u64 root, objectid;
	u64 absent; /* not 0: the empty directory where this subvolume would be, in directory objectid of a snapshot without it */
};

/*
 * A mount shows one space of inode numbers. Inode `objectid` of the shown top subvolume keeps its number; of another subvolume `root` it is
 * objectid + (root << 40). Where that does not fit (objectid at or above 2^40, root at or above 2^23), and for absent
 * subvolumes, a table gives numbers with the top bit set, in order of first use: stable while mounted.
 */
int btrfs_ino(struct btrfs_super *bs, const struct btrfs_place *at, u64 *ino) __must_check;
/* -ESTALE: never given. */
int btrfs_ino_split(struct btrfs_super *bs, u64 ino, struct btrfs_place *at) __must_check;
int btrfs_inos_new(struct btrfs_inos **out) __must_check;
void btrfs_inos_free(struct btrfs_inos *inos);

/* ---- inodes in memory ---- */

struct btrfs_inode {
	struct inode vfs;              /* first */
	const struct btrfs_root *root; /* [const] */
	u64 objectid;                  /* [const] of a placeholder: the directory's that has its name */
	u64 disk_flags;                /* [const] BTRFS_INODE_* */
	bool placeholder; /* [const] the empty directory where a snapshot does not contain a subvolume */
};
static inline struct btrfs_inode *btrfs_inode(const struct inode *inode)
{
	return container_of(inode, struct btrfs_inode, vfs);
}
static inline struct btrfs_super *btrfs_inode_super(const struct btrfs_inode *bi)
{
	return btrfs_super(bi->vfs.sb);
}
/* The root directory of a subvolume. */
static inline bool btrfs_is_top(const struct btrfs_inode *bi)
{
	return bi->objectid == bi->root->dirid && !bi->placeholder;
}

/* ---- compress_zlib.c, compress_lzo.c, compress_zstd.c: one extent each ----
 * The first room_bytes of what src_bytes hold; *done: how many those were. -EIO: damaged. *ctx is NULL at first, then the function's,
 * for one thread at a time, until it is freed. */

int btrfs_zlib_unpack(void **ctx, const void *src, u32 src_bytes, void *dst, u32 room_bytes,
		      u32 *done) __must_check;
void btrfs_zlib_free(void *ctx);
int btrfs_lzo_unpack(u32 sector_bytes, const void *src, u32 src_bytes, void *dst, u32 room_bytes,
		     u32 *done) __must_check;
int btrfs_zstd_unpack(void **ctx, const void *src, u32 src_bytes, void *dst, u32 room_bytes,
		      u32 *done) __must_check;
void btrfs_zstd_free(void *ctx);

/* ---- compress.c: unpacking, and what was unpacked lately ---- */

/* A compressed extent. */
struct btrfs_compressed {
	u64 bytenr;                /* 0: inline */
	u32 disk_bytes, ram_bytes; /* compressed, unpacked; at most BTRFS_COMPRESS_MAX */
	u8 compression;            /* a known one, not NONE */
	bool checked;              /* its checksums are looked at */
};

/* cache: whose memory may be used as far as it does not need it itself; borrowed until free. NULL: none. */
int btrfs_unpacked_new(struct bcache *cache, struct btrfs_unpacked **out) __must_check;
void btrfs_unpacked_free(struct btrfs_unpacked *u); /* NULL is ignored */

/* Tools for unpacking, lent to one thread. NULL: no memory. */
struct btrfs_tools *btrfs_tools_get(struct btrfs_unpacked *u);
void btrfs_tools_put(struct btrfs_unpacked *u, struct btrfs_tools *t); /* NULL is ignored */
/* Memory that comes with them, page-aligned, for anything; NULL: none. Asking again may move it, its content is lost. */
u8 *btrfs_tools_scratch(struct btrfs_tools *t, u32 bytes);
/*
 * The first bytes of an extent from its disk_bytes at src: at least want_bytes, at most its ram_bytes, for which dst has room. What it
 * does not hold is zeros, where the kernel takes it so; else -EIO.
 */
int btrfs_unpack(struct btrfs_tools *t, const struct btrfs_compressed *what, u32 sector_bytes,
		 const void *src, void *dst, u32 want_bytes, u32 *have_bytes) __must_check;

enum btrfs_unpacked_verdict {
	BTRFS_UNPACKED_READY, /* *out has it: read, then put */
	BTRFS_UNPACKED_FILL,  /* *out is for it: unpack it there, say so by _filled, then put */
	BTRFS_UNPACKED_BUSY,  /* somebody else is filling it; only without `wait` */
	BTRFS_UNPACKED_NONE,  /* it is not here; with `fill`: and there is no room for it */
};
/*
 * The slot of an extent of which the first *want_bytes are wanted; with `fill`, one for it, and *want_bytes becomes what is best
 * unpacked there. Who holds a slot that he has to fill does not wait for another.
 */
enum btrfs_unpacked_verdict btrfs_unpacked_get(struct btrfs_unpacked *u, const struct btrfs_compressed *what,
					       u32 *want_bytes, bool fill, bool wait,
					       struct btrfs_slot **out);
u8 *btrfs_unpacked_bytes(struct btrfs_slot *s);
void btrfs_unpacked_filled(struct btrfs_unpacked *u, struct btrfs_slot *s, u32 have_bytes, int err);
void btrfs_unpacked_put(struct btrfs_unpacked *u, struct btrfs_slot *s);

/* ---- data_csum.c: data that was checked ---- */

/* Whole sectors of a file's data. */
struct btrfs_run {
	u64 logical, len_bytes;
	u8 *dst;
	u64 file_bytes; /* where in the file it belongs, for who reads the error */
};
/* The file's data have checksums, and they count. */
bool btrfs_data_checked(const struct btrfs_inode *bi);
/*
 * Reads n runs at once. Where checked: every sector has the sum that the checksum tree has for it, in one of its copies; a sector
 * without a sum is an error, as for the kernel. -EIO names subvolume, inode and byte.
 */
int btrfs_data_read(const struct btrfs_inode *bi, const struct btrfs_run *run, u32 n,
		    bool checked) __must_check;

/* ---- file_extent.c: what a file consists of ---- */

/* A piece of a file: an extent's, or a hole. */
struct btrfs_extent {
	u64 off_bytes, len_bytes; /* in the file */
	enum { BTRFS_FILE_HOLE, BTRFS_FILE_INLINE, BTRFS_FILE_REG, BTRFS_FILE_PREALLOC } kind;
	u8 compression;
	u64 bytenr, disk_bytes; /* REG, PREALLOC */
	u64 offset_bytes,
		ram_bytes; /* REG, PREALLOC: of this piece in the unpacked extent, and all of that; INLINE: ram_bytes */
	const void *data; /* INLINE: disk_bytes of them, while the cursor stays */
};
/* Where a walk through a file's extents stands. Zeroed but for bi it is at its start. */
struct btrfs_extents {
	const struct btrfs_inode *bi;
	struct btrfs_path p;
	struct btrfs_extent e; /* the piece */
	bool pending;          /* e is a hole, and the path stands on the extent behind it */
};
void btrfs_extents_put(struct btrfs_extents *c); /* for scoped() too */
/* To the piece that has off_bytes; the last hole goes on to the end of all. */
int btrfs_extents_seek(struct btrfs_extents *c, u64 off_bytes) __must_check;
/* To the next piece; there is one, e is not the last hole. */
int btrfs_extents_next(struct btrfs_extents *c) __must_check;

/* ---- map.c ---- */

/* inode_ops */
int btrfs_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out) __must_check;
int btrfs_decode(struct inode *inode, const struct mapping *m, u64 off_bytes, void *dst, u64 len_bytes,
		 u64 room_bytes, u64 *done) __must_check;
int btrfs_readlink(struct inode *inode, char *buf, u32 size, u32 *len) __must_check;

/* ---- dir.c: directories ---- */

/* inode_ops */
int btrfs_lookup(struct inode *dir, const struct name *name, u64 *ino) __must_check;
int btrfs_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx) __must_check;

/* ---- xattr.c ---- */

/* inode_ops */
int btrfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len) __must_check;
int btrfs_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx) __must_check;
int btrfs_get_acl(struct inode *inode, bool is_default, struct acl **out) __must_check;

/* ---- subvol.c ---- */

/* super_ops */
int btrfs_subvolumes(struct super_block *sb, subvolume_fn emit, void *ctx) __must_check;

/* ---- ioctl.c ---- */

/* inode_ops */
int btrfs_ioctl(struct inode *inode, u32 cmd, bool privileged, const void *in, u32 in_bytes, void *out,
		u32 *out_bytes) __must_check;

/* ---- inode.c ---- */

/* super_ops */
struct inode *btrfs_alloc_inode(struct super_block *sb);
void btrfs_free_inode(struct inode *inode);
int btrfs_read_inode(struct inode *inode) __must_check;
void btrfs_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n);

/* super_ops */
struct inode *btrfs_alloc_inode(struct super_block *sb);
void btrfs_free_inode(struct inode *inode);
int btrfs_read_inode(struct inode *inode) __must_check;

/* ---- rescue.c: older root trees ---- */

struct btrfs_old_root {
	u64 bytenr, generation;
	u32 level;
	const char *from; /* "a backup in the superblock" */
};
struct btrfs_old_roots {
	u64 generation; /* only of this one; 0: of any */
	u32 count;
	struct btrfs_old_root at[16]; /* the newest first */
};
/*
 * The root trees that the superblock knows, the current one included. Of one generation: where the superblock does not know it, its
 * copies are asked, and then all metadata is searched, which reads it all.
 */
int btrfs_old_roots(struct btrfs_super *bs, struct blkdev **devs, u32 n, u64 generation,
		    struct btrfs_old_roots *out) __must_check;

/* ---- super.c ---- */

/*
 * Opens a volume for a mount; ended by vfs_unmount. For printers (`lenient`): missing devices are no error, nor are trees that cannot
 * be read, and no subvolume is chosen (bs->top is NULL).
 */
int btrfs_super_open(struct blkdev **devs, u32 n, const struct fs_type *type, const struct mount_opts *opts,
		     bool lenient, struct btrfs_super **out) __must_check;
/* The log tree's root, when the superblock names one. -ENOENT: none. */
int btrfs_log_root(struct btrfs_super *bs, struct btrfs_root *out) __must_check;
/* A subvolume's log, as a ROOT_ITEM of the log tree has it. */
void btrfs_log_tree(const struct btrfs_disk_root *item, struct btrfs_super *bs, struct btrfs_root *out);

/* Which superblock the options name, as btrfs_sb_read takes it. */
int btrfs_super_mirror(const struct mount_opts *opts, int *mirror) __must_check;

/* ---- dump_item.c, info.c, dump.c: printers ---- */

/* An item's members; `data` need not have been checked. */
void btrfs_item_doc(const struct btrfs_super *bs, const struct btrfs_key *key, const void *data,
		    u32 len_bytes, struct doc *out);
void btrfs_key_doc(const struct btrfs_key *key, struct doc *out);
/* An object id: those of the system are negative. */
void btrfs_doc_id(struct doc *out, const char *name, u64 id);
void btrfs_super_doc(const struct btrfs_disk_super *d, struct doc *out);
void btrfs_backups_doc(const struct btrfs_disk_super *d, struct doc *array);
void btrfs_devices_doc(struct btrfs_super *bs, struct doc *array);

/* ---- check/ ---- */

/* fs_type */
int btrfs_check(struct blkdev **devs, u32 n, const struct mount_opts *mount, const struct check_opts *opts,
		struct check_summary *out) __must_check;

/* fs_type */
int btrfs_info(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct doc *out) __must_check;
int btrfs_dump(struct blkdev **devs, u32 n, const struct mount_opts *opts, u32 words, const char *const *word,
	       struct doc *out) __must_check;

#endif
