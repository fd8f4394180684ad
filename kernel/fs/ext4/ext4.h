/*
 * Private to kernel/fs/ext4: what is in memory, and what each file gives to those after it. The files stand
 * here in dependency order: one calls only what is declared above it.
 *
 * Conventions
 *   es, ei     struct ext4_super and struct ext4_inode
 *   lblk       block in a file; pblk (or blk) block on the volume
 *   *_ok       a pure question; the caller reports
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
	u32 count, cap;
};

/* A group's descriptor. */
struct ext4_group {
	u64 block_bitmap, inode_bitmap, inode_table; /* blocks, where such a thing can be; 0: unknown */
	u32 free_clusters, free_inodes, used_dirs, itable_unused;
	u32 block_bitmap_csum, inode_bitmap_csum;
	u16 flags;        /* EXT4_GROUP_* */
	bool bad;         /* no copy of the descriptor is right */
	_Atomic u8 ahead; /* how far the table was read ahead the last time: see raw_inode.c */
};

/* A mounted volume. Everything is [const] after mount. */
struct ext4_super {
	struct super_block vfs; /* first */
	struct ext4_disk_super disk;
	const char *variant; /* "ext2", "ext3" or "ext4" */
	u32 compat, incompat, ro_compat;
	bool metadata_csum; /* every metadata block and inode has a crc32c */
	bool desc_csum;     /* group descriptors have a checksum of some kind */
	bool filetype;      /* directory entries tell the type */
	u32 block_bits;     /* log2 of the bytes of a block */
	u32 cluster_bits;   /* log2 of the blocks of a cluster */
	u64 blocks;         /* of the volume */
	u64 first_data_blk; /* group 0 begins here */
	u64 super_blk;      /* block of the primary superblock */
	u32 blocks_per_group, clusters_per_group, inodes_per_group;
	u32 inodes; /* of the volume */
	u32 inode_bytes, inodes_per_block, itable_blocks;
	u32 first_ino; /* below: reserved */
	u32 groups, desc_bytes, descs_per_block, gdt_blocks;
	u32 csum_seed;
	u32 hash_seed[4];
	bool hash_unsigned;
	u64 overhead_clusters;    /* not for files, for statfs */
	struct ext4_group *group; /* [groups] */
	struct ext4_zone zone;
};

/* An inode in memory. */
struct ext4_inode {
	struct inode vfs;            /* first */
	u32 flags;                   /* [const] EXT4_FL_* */
	u32 csum_seed;               /* [const] of everything that belongs to this inode */
	u64 xattr_blk;               /* [const] 0: none */
	u16 xattr_off;               /* [const] of the attributes in the raw inode, 0: none */
	_Atomic bool holes_in_dir;   /* a part of the directory could not be shown */
	_Atomic bool index_bad;      /* the index of the directory was found damaged */
	u8 block[EXT4_IBLOCK_BYTES]; /* [const] extent root, block map, symlink or inline data; checked */
};

static inline struct ext4_super *ext4_super(struct super_block *sb)
{
	return container_of(sb, struct ext4_super, vfs);
}

static inline struct ext4_inode *ext4_inode(struct inode *inode)
{
	return container_of(inode, struct ext4_inode, vfs);
}

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

static inline u32 ext4_ino_group(const struct ext4_super *es, u64 ino)
{
	return (u32)((ino - 1) / es->inodes_per_group);
}

/* ---- csum.c: the value each checksum must have; not to be asked where the volume has none ---- */

u32 ext4_csum_super(const struct ext4_disk_super *d);
u16 ext4_csum_group(const struct ext4_super *es, u32 group, const void *desc);
u32 ext4_csum_inode_seed(const struct ext4_super *es, u32 ino, u32 generation);
/* raw has es->inode_bytes; the stored sum counts as zeros. `seed` is the inode's. */
u32 ext4_csum_inode(const struct ext4_super *es, u32 seed, const struct ext4_disk_inode *raw);
/* The stored sum. *mask has the bits that are stored. */
u32 ext4_csum_inode_stored(const struct ext4_super *es, const struct ext4_disk_inode *raw, u32 *mask);
u32 ext4_csum_extent(u32 seed, const void *block, u32 tail_off);
u32 ext4_csum_dir(u32 seed, const void *block, u32 tail_off);
u32 ext4_csum_dx(u32 seed, const void *block, u32 entries_off, u32 count,
		 const struct ext4_disk_dx_tail *tail);
u32 ext4_csum_xattr(const struct ext4_super *es, u64 blk, const void *block);
u32 ext4_csum_bitmap(const struct ext4_super *es, const void *bitmap, u32 bits);
u32 ext4_csum_mmp(const struct ext4_super *es, const struct ext4_disk_mmp *mmp);

/* ---- feature.c ---- */

/* The names of all set bits, in order. */
void ext4_feature_doc(const struct ext4_disk_super *d, struct doc *out);
/* -EOPNOTSUPP, with the names, when the volume has what cannot even be read around. */
int ext4_feature_check(const struct ext4_disk_super *d) __must_check;
/* "ext2", "ext3" or "ext4", after what its features were first of. */
const char *ext4_feature_variant(const struct ext4_disk_super *d);

/* ---- zone.c ---- */

int ext4_zone_add(struct ext4_zone *z, u64 start, u64 len) __must_check;
/* After the last add: sorts and joins. */
void ext4_zone_seal(struct ext4_zone *z);
void ext4_zone_free(struct ext4_zone *z);
bool ext4_zone_meets(const struct ext4_zone *z, u64 start, u64 len);
/* The range may belong to a file: on the volume, and not metadata of a group. */
bool ext4_blocks_ok(const struct ext4_super *es, u64 start, u64 len);

/* ---- dirent.c: directory blocks as bytes ---- */

u32 ext4_rec_len(le16 raw, u32 block_bytes);
/* The shortest record for a name of this length. */
static inline u32 ext4_dirent_bytes(u32 name_len)
{
	return ALIGN_UP(EXT4_DIRENT_BYTES + name_len, 4);
}

/* Walks the records of a region. */
struct ext4_dirent_iter {
	const u8 *base;
	u32 len, block_bytes; /* region; block size of the volume */
	u32 off;              /* of the current record */
	u32 next;             /* of the one after */
};
void ext4_dirent_iter(struct ext4_dirent_iter *it, const void *base, u32 len, u32 block_bytes);
/* The next record, NULL at the end. Stops, with *bad set to a reason, at one that does not fit. */
const struct ext4_disk_dirent *ext4_dirent_next(struct ext4_dirent_iter *it, const char **bad);

static inline const char *ext4_dirent_name(const struct ext4_disk_dirent *de)
{
	return (const char *)(de + 1);
}
/* The name is one that a directory may hold: not empty, no slash and no NUL. */
bool ext4_dirent_name_ok(const struct ext4_disk_dirent *de);

/* Offset of the checksum tail, 0 when there is none. */
u32 ext4_dir_tail_off(const void *block, u32 block_bytes);

/* The index in a block of a hashed directory. */
struct ext4_dx {
	const struct ext4_disk_dx_entry *entry; /* [count]; entry[0].hash is void */
	u32 count, limit;
	u32 entries_off;
	const struct ext4_disk_dx_info *info; /* root only */
};
/* Does the block look like an index root (lblk 0) or an inner node (others)? Then *dx is safe to search. */
bool ext4_dx_parse(const struct ext4_super *es, const void *block, bool root, struct ext4_dx *dx);

/* ---- verify.c: what each kind of block must look like ---- */

extern const struct bh_ops ext4_gdt_ops;          /* no check: each descriptor is checked by group.c */
extern const struct bh_ops ext4_itable_ops;       /* no check: each inode is checked when it is loaded */
extern const struct bh_ops ext4_block_bitmap_ops; /* ctx: group */
extern const struct bh_ops ext4_inode_bitmap_ops; /* ctx: group */
extern const struct bh_ops ext4_extent_ops;       /* ctx: ext4_ctx_map */
extern const struct bh_ops ext4_indirect_ops;     /* ctx: ext4_ctx_map */
extern const struct bh_ops ext4_dir_ops;          /* ctx: ext4_ctx_dir */
extern const struct bh_ops ext4_xattr_ops;        /* ctx: none, it may be shared */

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

/* An extent node of `bytes` bytes, `depth` levels above the leaves. NULL, or what is wrong. */
const char *ext4_extent_node_wrong(const struct ext4_super *es, const void *node, u32 bytes, u32 depth);
/* A list of attributes. Value offsets count from `base`; names and values lie before base + bytes. NULL, or what is wrong. */
const char *ext4_xattr_list_wrong(const struct ext4_super *es, const u8 *base, u32 first, u32 bytes);

/* ---- group.c ---- */

/* Does the group hold a copy of the superblock? */
bool ext4_group_has_super(const struct ext4_super *es, u32 group);
/* Blocks at a group's start for superblock, descriptors and room for more descriptors. */
u32 ext4_group_base_blocks(const struct ext4_super *es, u32 group);
/* Block of descriptor block i, as copy 0 (the primary), 1, …; 0: there is no such copy. */
u64 ext4_group_desc_blk(const struct ext4_super *es, u32 i, u32 copy);
/* Decodes the descriptor of `group`. */
void ext4_group_decode(const struct ext4_super *es, const void *desc, struct ext4_group *g);
/* NULL, or what is wrong with it. */
const char *ext4_group_wrong(const struct ext4_super *es, u32 group, const void *desc,
			     const struct ext4_group *g);
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
/* Blocks that the longest file can have, mapped by extents or by pointers. */
u64 ext4_file_blocks_max(const struct ext4_super *es, bool extents);
/* The number may stand in a directory. */
bool ext4_ino_public(const struct ext4_super *es, u64 ino);
/* A time field and its extension; `raw` says which fields there are. */
struct timespec64 ext4_inode_time(const struct ext4_super *es, const struct ext4_disk_inode *raw,
				  const le32 *sec, const le32 *extra);
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

/* The run that lblk lies in. At least `want` blocks from lblk are looked at where that costs nothing much. */
int ext4_extent_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;
int ext4_indirect_map(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;
int ext4_map_blocks(struct ext4_inode *ei, u64 lblk, u64 want, struct ext4_run *out) __must_check;

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

/* inode_ops.map */
int ext4_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
/* Content of an inode that is not cached elsewhere: slow symlinks, attribute values, system files. Holes are zeros. */
int ext4_read_content(struct ext4_inode *ei, u64 off_bytes, void *buf, u64 len_bytes) __must_check;

/* ---- hash.c ---- */

struct ext4_hash {
	u32 hash, minor;
};
/* The version that a superblock or an index root says, as the volume means it: unsigned where it says so. */
u32 ext4_hash_version(const struct ext4_super *es, u32 version);
/* version: EXT4_HASH_*. -EOPNOTSUPP: no such hash. */
int ext4_name_hash(const struct ext4_super *es, u32 version, const char *name, u32 len,
		   struct ext4_hash *out) __must_check;

/* ---- casefold.c ---- */

#define EXT4_FOLD_MAX 1024u

/* The name as it is compared and hashed where case does not matter. False: it is not UTF-8 and means only itself. */
bool ext4_casefold(const char *name, u32 len, char folded[EXT4_FOLD_MAX], u32 *folded_len);

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
};
/* False: the directory cannot hold such a name. */
bool ext4_want(struct ext4_inode *dir, const struct name *name, struct ext4_want *want);
/* Looks through records. 1: found, *ino is set. 0: not there. -EUCLEAN: found, but it leads nowhere; or a record is broken. */
int ext4_dirent_search(struct ext4_inode *dir, const void *base, u32 len, const struct ext4_want *want,
		       u64 *ino) __must_check;
static inline bool ext4_is_dot_or_dotdot(const char *s, u32 len)
{
	return len && s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.'));
}

/* ---- htree.c ---- */

/* Lookup through the index. 1: found. 0: not there. -EUCLEAN: the index is not usable. */
int ext4_htree_search(struct ext4_inode *dir, const struct ext4_want *want, u64 *ino) __must_check;

/* ---- xattr.c, acl.c ---- */

int ext4_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len);
int ext4_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx);
/* By index and rest of the name. *value is freed by the caller. -ENODATA. */
int ext4_xattr_load(struct ext4_inode *ei, u32 index, const char *name, u32 name_len, u8 **value,
		    u32 *len) __must_check;
int ext4_get_acl(struct inode *inode, bool is_default, struct acl **out);
/* The on-disk form. */
int ext4_acl_decode(const void *p, u32 len, struct acl **out) __must_check;

/* ---- namei.c ---- */

int ext4_lookup(struct inode *dir, const struct name *name, u64 *ino);
int ext4_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx);

/* ---- inode.c ---- */

int ext4_read_inode(struct inode *inode);

/* ---- mmp.c ---- */

/* -EBUSY, naming the node, when another machine has the volume mounted. May wait for some seconds. */
int ext4_mmp_check(struct ext4_super *es) __must_check;

/* ---- journal.c ---- */

struct ext4_replay {
	u32 transactions;  /* applied */
	bool bad_commit;   /* the log ends in a damaged one */
	bool fast_commits; /* there are changes after them, which were not applied */
};
/* The volume has a journal, on itself. */
bool ext4_journal_is_inside(const struct ext4_super *es);
/* ei is memory for its inode, and must outlive the journal. */
int ext4_journal_open(struct ext4_super *es, struct ext4_inode *ei, struct jbd2 **out) __must_check;
/* Applies the journal to target, a device with the volume's blocks. */
int ext4_journal_replay(struct ext4_super *es, struct blkdev *target, struct ext4_replay *out) __must_check;

/* ---- sb.c ---- */

/* The first copy of the superblock that can be believed; its place. On error *out has what was read last, or zeros. */
int ext4_sb_read(struct blkdev *dev, const struct mount_opts *opts, struct ext4_disk_super *out,
		 u64 *off_bytes) __must_check;
/* Numbers whose fields depend on revision and features. */
u64 ext4_sb_blocks(const struct ext4_disk_super *d);
u32 ext4_sb_inode_bytes(const struct ext4_disk_super *d);
u32 ext4_sb_desc_bytes(const struct ext4_disk_super *d);
u32 ext4_sb_cluster_bits(const struct ext4_disk_super *d);
u32 ext4_sb_first_ino(const struct ext4_disk_super *d);

/* ---- super.c ---- */

/* Everything of mount but the root directory. Ended by vfs_unmount. */
int ext4_super_open(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
		    struct ext4_super **out) __must_check;

/* ---- info.c ---- */

enum ext4_member_kind {
	EXT4_MEMBER_NUMBER,
	EXT4_MEMBER_HEX,
	EXT4_MEMBER_TIME, /* seconds */
	EXT4_MEMBER_TEXT,
	EXT4_MEMBER_UUID,
};
/* A member of an on-disk structure, as its printer sees it. */
struct ext4_member {
	const char *name;
	u16 off, len;
	enum ext4_member_kind kind;
};
#define EXT4_MEMBER(type, field, kind)                                                        \
	{                                                                                     \
#field, offsetof(type, field), sizeof(((type *)0)->field), EXT4_MEMBER_##kind \
	}
/* Those that lie within `bytes`. */
void ext4_members_doc(const struct ext4_member *m, u32 n, const void *base, u32 bytes, struct doc *out);
void ext4_super_doc(const struct ext4_disk_super *d, struct doc *out);
/* fs_type.info */
int ext4_info(struct blkdev *dev, const struct mount_opts *opts, struct doc *out);

/* ---- dump.c ---- */

/* fs_type.dump */
int ext4_dump(struct blkdev *dev, const struct mount_opts *opts, u32 words, const char *const *word,
	      struct doc *out);

/* ---- ext4.c: all that is seen outside ---- */

extern const struct fs_type ext4_fs_type;

#endif
