/*
 * The format of btrfs: every structure that this module reads, with its size and the offsets that matter, proved at compile
 * time. Facts: the kernel's include/uapi/linux/btrfs_tree.h and Documentation of btrfs-progs ("On-disk format"). All
 * numbers are little endian. Checksums stand in fields of 32 bytes, of which the algorithm uses the first.
 */
#ifndef BTRFS_ONDISK_H
#define BTRFS_ONDISK_H

#include "lib/disk.h"

#define BTRFS_MAGIC       0x4d5f53665248425full /* "_BHRfS_M" */
#define BTRFS_SUPER_BYTES 4096u
#define BTRFS_SUPER_COUNT 3u
/* Where copy n of the superblock lies: 64 KiB, 64 MiB, 256 GiB. */
#define BTRFS_SUPER_OFF(n) ((n) ? 16384ull << (12 * (n)) : 65536ull)

#define BTRFS_CSUM_BYTES    32u
#define BTRFS_LEVELS        8u
#define BTRFS_NODE_MAX      65536u
#define BTRFS_NODE_MIN      4096u
#define BTRFS_STRIPE_BYTES  65536u
#define BTRFS_NAME_MAX      255u
#define BTRFS_COMPRESS_MAX  131072u /* bytes of a compressed extent, on the disk and decompressed */
#define BTRFS_SYS_ARRAY_MAX 2048u
#define BTRFS_BACKUPS       4u

enum btrfs_csum_type {
	BTRFS_CSUM_CRC32C = 0, /* 4 bytes */
	BTRFS_CSUM_XXHASH = 1, /* 8 */
	BTRFS_CSUM_SHA256 = 2, /* 32 */
	BTRFS_CSUM_BLAKE2 = 3, /* 32 */
};

/* superblock flags */
#define BTRFS_SUPER_WRITTEN            0x1ull
#define BTRFS_SUPER_RELOC              0x2ull
#define BTRFS_SUPER_ERROR              0x4ull
#define BTRFS_SUPER_SEEDING            (1ull << 32)
#define BTRFS_SUPER_METADUMP           (1ull << 33)
#define BTRFS_SUPER_METADUMP_V2        (1ull << 34)
#define BTRFS_SUPER_CHANGING_FSID      (1ull << 35)
#define BTRFS_SUPER_CHANGING_FSID_V2   (1ull << 36)
#define BTRFS_SUPER_CHANGING_BG_TREE   (1ull << 38)
#define BTRFS_SUPER_CHANGING_DATA_CSUM (1ull << 39)
#define BTRFS_SUPER_CHANGING_META_CSUM (1ull << 40)

/* features: what is not known among incompat refuses the volume, among compat_ro writing */
#define BTRFS_COMPAT_RO_FREE_SPACE_TREE       0x1ull
#define BTRFS_COMPAT_RO_FREE_SPACE_TREE_VALID 0x2ull
#define BTRFS_COMPAT_RO_VERITY                0x4ull
#define BTRFS_COMPAT_RO_BLOCK_GROUP_TREE      0x8ull

#define BTRFS_INCOMPAT_MIXED_BACKREF    0x1ull
#define BTRFS_INCOMPAT_DEFAULT_SUBVOL   0x2ull
#define BTRFS_INCOMPAT_MIXED_GROUPS     0x4ull
#define BTRFS_INCOMPAT_COMPRESS_LZO     0x8ull
#define BTRFS_INCOMPAT_COMPRESS_ZSTD    0x10ull
#define BTRFS_INCOMPAT_BIG_METADATA     0x20ull
#define BTRFS_INCOMPAT_EXTENDED_IREF    0x40ull
#define BTRFS_INCOMPAT_RAID56           0x80ull
#define BTRFS_INCOMPAT_SKINNY_METADATA  0x100ull
#define BTRFS_INCOMPAT_NO_HOLES         0x200ull
#define BTRFS_INCOMPAT_METADATA_UUID    0x400ull
#define BTRFS_INCOMPAT_RAID1C34         0x800ull
#define BTRFS_INCOMPAT_ZONED            0x1000ull
#define BTRFS_INCOMPAT_EXTENT_TREE_V2   0x2000ull
#define BTRFS_INCOMPAT_RAID_STRIPE_TREE 0x4000ull
#define BTRFS_INCOMPAT_SIMPLE_QUOTA     0x10000ull

/* object ids: of trees */
#define BTRFS_TREE_ROOT        1ull
#define BTRFS_TREE_EXTENT      2ull
#define BTRFS_TREE_CHUNK       3ull
#define BTRFS_TREE_DEV         4ull
#define BTRFS_TREE_FS          5ull /* the top-level subvolume */
#define BTRFS_TREE_ROOT_DIR    6ull /* in the root tree: the directory that names the default subvolume */
#define BTRFS_TREE_CSUM        7ull
#define BTRFS_TREE_QUOTA       8ull
#define BTRFS_TREE_UUID        9ull
#define BTRFS_TREE_FREE_SPACE  10ull
#define BTRFS_TREE_BLOCK_GROUP 11ull
#define BTRFS_TREE_RAID_STRIPE 12ull
#define BTRFS_TREE_REMAP       13ull
#define BTRFS_TREE_LOG         ((u64)-6)
#define BTRFS_TREE_LOG_FIXUP   ((u64)-7)
#define BTRFS_TREE_RELOC       ((u64)-8)
#define BTRFS_TREE_DATA_RELOC  ((u64)-9)
/* and of other things */
#define BTRFS_OBJ_DEV_STATS   0ull
#define BTRFS_OBJ_BALANCE     ((u64)-4)
#define BTRFS_OBJ_ORPHAN      ((u64)-5)
#define BTRFS_OBJ_EXTENT_CSUM ((u64)-10)
#define BTRFS_OBJ_FREE_SPACE  ((u64)-11)
#define BTRFS_OBJ_FREE_INO    ((u64)-12)
#define BTRFS_OBJ_MULTIPLE    ((u64)-255)
#define BTRFS_OBJ_FIRST_FREE  256ull /* a subvolume's root directory; the first subvolume's id */
#define BTRFS_OBJ_LAST_FREE   ((u64)-256)
#define BTRFS_OBJ_FIRST_CHUNK 256ull
#define BTRFS_OBJ_DEV_ITEMS   1ull
#define BTRFS_OBJ_BTREE_INODE 1ull
#define BTRFS_OBJ_EMPTY_SUBVOL \
	2ull /* location of the directory entry of a subvolume that is not in this snapshot */

/* key types, X(name, number) */
#define BTRFS_KEY_TYPES(X)           \
	X(INODE_ITEM, 1)             \
	X(INODE_REF, 12)             \
	X(INODE_EXTREF, 13)          \
	X(XATTR_ITEM, 24)            \
	X(VERITY_DESC_ITEM, 36)      \
	X(VERITY_MERKLE_ITEM, 37)    \
	X(ORPHAN_ITEM, 48)           \
	X(DIR_LOG_ITEM, 60)          \
	X(DIR_LOG_INDEX, 72)         \
	X(DIR_ITEM, 84)              \
	X(DIR_INDEX, 96)             \
	X(EXTENT_DATA, 108)          \
	X(EXTENT_CSUM, 128)          \
	X(ROOT_ITEM, 132)            \
	X(ROOT_BACKREF, 144)         \
	X(ROOT_REF, 156)             \
	X(EXTENT_ITEM, 168)          \
	X(METADATA_ITEM, 169)        \
	X(EXTENT_OWNER_REF, 172)     \
	X(TREE_BLOCK_REF, 176)       \
	X(EXTENT_DATA_REF, 178)      \
	X(SHARED_BLOCK_REF, 182)     \
	X(SHARED_DATA_REF, 184)      \
	X(BLOCK_GROUP_ITEM, 192)     \
	X(FREE_SPACE_INFO, 198)      \
	X(FREE_SPACE_EXTENT, 199)    \
	X(FREE_SPACE_BITMAP, 200)    \
	X(DEV_EXTENT, 204)           \
	X(DEV_ITEM, 216)             \
	X(CHUNK_ITEM, 228)           \
	X(RAID_STRIPE, 230)          \
	X(QGROUP_STATUS, 240)        \
	X(QGROUP_INFO, 242)          \
	X(QGROUP_LIMIT, 244)         \
	X(QGROUP_RELATION, 246)      \
	X(TEMPORARY_ITEM, 248)       \
	X(PERSISTENT_ITEM, 249)      \
	X(DEV_REPLACE, 250)          \
	X(UUID_SUBVOL, 251)          \
	X(UUID_RECEIVED_SUBVOL, 252) \
	X(STRING_ITEM, 253)
#define BTRFS_KEY_ENUM(name, nr) BTRFS_KEY_##name = (nr),
enum btrfs_key_type { BTRFS_KEY_TYPES(BTRFS_KEY_ENUM) };

struct btrfs_disk_key {
	le64 objectid; /* 0x00 */
	u8 type;       /* 0x08 */
	le64 offset;   /* 0x09 */
};
DISK_SIZE(struct btrfs_disk_key, 17);

struct btrfs_disk_time {
	le64 sec; /* 0x0 signed */
	le32 nsec;
};
DISK_SIZE(struct btrfs_disk_time, 12);

/* ---- superblock, devices, chunks ---- */

struct btrfs_disk_dev_item {
	le64 devid;        /* 0x00 */
	le64 total_bytes;  /* 0x08 */
	le64 bytes_used;   /* 0x10 */
	le32 io_align;     /* 0x18 */
	le32 io_width;     /* 0x1c */
	le32 sector_bytes; /* 0x20 */
	le64 type;         /* 0x24 */
	le64 generation;   /* 0x2c */
	le64 start_offset; /* 0x34 */
	le32 dev_group;    /* 0x3c */
	u8 seek_speed;     /* 0x40 */
	u8 bandwidth;      /* 0x41 */
	u8 uuid[16];       /* 0x42 */
	u8 fsid[16];       /* 0x52 of the volume that the device belongs to: a seed's own */
};
DISK_SIZE(struct btrfs_disk_dev_item, 98);

struct btrfs_disk_backup {
	le64 tree_root, tree_root_gen;                           /* 0x00 */
	le64 chunk_root, chunk_root_gen;                         /* 0x10 */
	le64 extent_root, extent_root_gen;                       /* 0x20 */
	le64 fs_root, fs_root_gen;                               /* 0x30 */
	le64 dev_root, dev_root_gen;                             /* 0x40 */
	le64 csum_root, csum_root_gen;                           /* 0x50 */
	le64 total_bytes;                                        /* 0x60 */
	le64 bytes_used;                                         /* 0x68 */
	le64 num_devices;                                        /* 0x70 */
	le64 unused_64[4];                                       /* 0x78 */
	u8 tree_root_level, chunk_root_level, extent_root_level; /* 0x98 */
	u8 fs_root_level, dev_root_level, csum_root_level;
	u8 unused_8[10];
};
DISK_SIZE(struct btrfs_disk_backup, 168);

struct btrfs_disk_super {
	u8 csum[BTRFS_CSUM_BYTES];           /* 0x000 of everything behind it */
	u8 fsid[16];                         /* 0x020 */
	le64 bytenr;                         /* 0x030 where this copy lies on its device */
	le64 flags;                          /* 0x038 */
	le64 magic;                          /* 0x040 */
	le64 generation;                     /* 0x048 */
	le64 root;                           /* 0x050 logical address of the root tree */
	le64 chunk_root;                     /* 0x058 */
	le64 log_root;                       /* 0x060 0: no log */
	le64 log_root_transid;               /* 0x068 unused */
	le64 total_bytes;                    /* 0x070 */
	le64 bytes_used;                     /* 0x078 */
	le64 root_dir_objectid;              /* 0x080 */
	le64 num_devices;                    /* 0x088 */
	le32 sector_bytes;                   /* 0x090 */
	le32 node_bytes;                     /* 0x094 */
	le32 leaf_bytes;                     /* 0x098 unused: the same */
	le32 stripe_bytes;                   /* 0x09c */
	le32 sys_array_bytes;                /* 0x0a0 */
	le64 chunk_root_generation;          /* 0x0a4 */
	le64 compat;                         /* 0x0ac */
	le64 compat_ro;                      /* 0x0b4 */
	le64 incompat;                       /* 0x0bc */
	le16 csum_type;                      /* 0x0c4 */
	u8 root_level;                       /* 0x0c6 */
	u8 chunk_root_level;                 /* 0x0c7 */
	u8 log_root_level;                   /* 0x0c8 */
	struct btrfs_disk_dev_item dev_item; /* 0x0c9 of the device that this copy lies on */
	u8 label[256];                       /* 0x12b */
	le64 cache_generation;               /* 0x22b */
	le64 uuid_tree_generation;           /* 0x233 */
	u8 metadata_uuid[16];                /* 0x23b with METADATA_UUID: what nodes carry as fsid */
	le64 nr_global_roots;                /* 0x24b */
	u8 reserved[216];                    /* 0x253 */
	u8 sys_array[BTRFS_SYS_ARRAY_MAX];   /* 0x32b key and chunk item, one after the other */
	struct btrfs_disk_backup backup[BTRFS_BACKUPS]; /* 0xb2b */
	u8 padding[565];                                /* 0xdcb */
};
DISK_SIZE(struct btrfs_disk_super, BTRFS_SUPER_BYTES);
DISK_FIELD(struct btrfs_disk_super, csum_type, 0xc4);
DISK_FIELD(struct btrfs_disk_super, dev_item, 0xc9);
DISK_FIELD(struct btrfs_disk_super, label, 0x12b);
DISK_FIELD(struct btrfs_disk_super, metadata_uuid, 0x23b);
DISK_FIELD(struct btrfs_disk_super, sys_array, 0x32b);
DISK_FIELD(struct btrfs_disk_super, backup, 0xb2b);

/* what a block group holds, and how: types of chunks and block groups */
#define BTRFS_BG_DATA     0x1ull
#define BTRFS_BG_SYSTEM   0x2ull
#define BTRFS_BG_METADATA 0x4ull
#define BTRFS_BG_RAID0    0x8ull
#define BTRFS_BG_RAID1    0x10ull
#define BTRFS_BG_DUP      0x20ull
#define BTRFS_BG_RAID10   0x40ull
#define BTRFS_BG_RAID5    0x80ull
#define BTRFS_BG_RAID6    0x100ull
#define BTRFS_BG_RAID1C3  0x200ull
#define BTRFS_BG_RAID1C4  0x400ull
#define BTRFS_BG_TYPES    0x7ull
#define BTRFS_BG_PROFILES 0x7f8ull /* at most one of them; none: SINGLE */

struct btrfs_disk_stripe {
	le64 devid; /* 0x00 */
	le64 offset_bytes;
	u8 dev_uuid[16];
};
DISK_SIZE(struct btrfs_disk_stripe, 32);

/* Key: (FIRST_CHUNK, CHUNK_ITEM, logical address). */
struct btrfs_disk_chunk {
	le64 len_bytes;                    /* 0x00 */
	le64 owner;                        /* 0x08 the extent tree */
	le64 stripe_bytes;                 /* 0x10 */
	le64 type;                         /* 0x18 */
	le32 io_align;                     /* 0x20 */
	le32 io_width;                     /* 0x24 */
	le32 sector_bytes;                 /* 0x28 */
	le16 num_stripes;                  /* 0x2c */
	le16 sub_stripes;                  /* 0x2e RAID10: copies of each */
	struct btrfs_disk_stripe stripe[]; /* 0x30 */
};
DISK_SIZE(struct btrfs_disk_chunk, 48);

struct btrfs_disk_block_group {
	le64 used_bytes; /* 0x00 */
	le64 chunk_objectid;
	le64 flags;
};
DISK_SIZE(struct btrfs_disk_block_group, 24);

/* Key: (devid, DEV_EXTENT, offset on the device). */
struct btrfs_disk_dev_extent {
	le64 chunk_tree;     /* 0x00 */
	le64 chunk_objectid; /* 0x08 */
	le64 chunk_offset;   /* 0x10 logical address of the chunk */
	le64 len_bytes;      /* 0x18 */
	u8 chunk_tree_uuid[16];
};
DISK_SIZE(struct btrfs_disk_dev_extent, 48);

/* ---- nodes ---- */

#define BTRFS_HEADER_WRITTEN    0x1ull
#define BTRFS_HEADER_RELOC      0x2ull
#define BTRFS_HEADER_FLAGS      ((1ull << 56) - 1)
#define BTRFS_BACKREF_REV_SHIFT 56
#define BTRFS_BACKREF_REV_MIXED 1u

struct btrfs_disk_header {
	u8 csum[BTRFS_CSUM_BYTES]; /* 0x00 of everything behind it, to the node's end */
	u8 fsid[16];               /* 0x20 or metadata_uuid */
	le64 bytenr;               /* 0x30 its own logical address */
	le64 flags;                /* 0x38 the top byte is the revision of back references */
	u8 chunk_tree_uuid[16];    /* 0x40 */
	le64 generation;           /* 0x50 */
	le64 owner;                /* 0x58 tree that made it */
	le32 nritems;              /* 0x60 */
	u8 level;                  /* 0x64 0: leaf */
};
DISK_SIZE(struct btrfs_disk_header, 101);

/* Leaf: items from the front, their data from the end; offset counts from behind the header. */
struct btrfs_disk_item {
	struct btrfs_disk_key key;
	le32 offset_bytes; /* 0x11 */
	le32 len_bytes;
};
DISK_SIZE(struct btrfs_disk_item, 25);

struct btrfs_disk_ptr {
	struct btrfs_disk_key key;
	le64 bytenr; /* 0x11 */
	le64 generation;
};
DISK_SIZE(struct btrfs_disk_ptr, 33);

/* ---- inodes, names ---- */

#define BTRFS_INODE_NODATASUM      0x1ull
#define BTRFS_INODE_NODATACOW      0x2ull
#define BTRFS_INODE_READONLY       0x4ull
#define BTRFS_INODE_NOCOMPRESS     0x8ull
#define BTRFS_INODE_PREALLOC       0x10ull
#define BTRFS_INODE_SYNC           0x20ull
#define BTRFS_INODE_IMMUTABLE      0x40ull
#define BTRFS_INODE_APPEND         0x80ull
#define BTRFS_INODE_NODUMP         0x100ull
#define BTRFS_INODE_NOATIME        0x200ull
#define BTRFS_INODE_DIRSYNC        0x400ull
#define BTRFS_INODE_COMPRESS       0x800ull
#define BTRFS_INODE_ROOT_ITEM_INIT 0x80000000ull
#define BTRFS_INODE_RO_VERITY      (1ull << 32)

struct btrfs_disk_inode {
	le64 generation;                                   /* 0x00 */
	le64 transid;                                      /* 0x08 */
	le64 size_bytes;                                   /* 0x10 */
	le64 nbytes;                                       /* 0x18 */
	le64 block_group;                                  /* 0x20 */
	le32 nlink;                                        /* 0x28 */
	le32 uid;                                          /* 0x2c */
	le32 gid;                                          /* 0x30 */
	le32 mode;                                         /* 0x34 */
	le64 rdev;                                         /* 0x38 minor in 20 bits, major above */
	le64 flags;                                        /* 0x40 */
	le64 sequence;                                     /* 0x48 */
	le64 reserved[4];                                  /* 0x50 */
	struct btrfs_disk_time atime, ctime, mtime, otime; /* 0x70 */
};
DISK_SIZE(struct btrfs_disk_inode, 160);
DISK_FIELD(struct btrfs_disk_inode, atime, 0x70);

/* Key: (inode, INODE_REF, parent): as many of these, each with its name, as the inode has names in that directory. */
struct btrfs_disk_inode_ref {
	le64 index; /* 0x00 */
	le16 name_len;
	u8 name[];
};
DISK_SIZE(struct btrfs_disk_inode_ref, 10);

/* Key: (inode, INODE_EXTREF, crc32c(parent, name)). */
struct btrfs_disk_inode_extref {
	le64 parent; /* 0x00 */
	le64 index;
	le16 name_len;
	u8 name[];
};
DISK_SIZE(struct btrfs_disk_inode_extref, 18);

enum btrfs_file_type {
	BTRFS_FT_UNKNOWN,
	BTRFS_FT_REG,
	BTRFS_FT_DIR,
	BTRFS_FT_CHR,
	BTRFS_FT_BLK,
	BTRFS_FT_FIFO,
	BTRFS_FT_SOCK,
	BTRFS_FT_SYMLINK,
	BTRFS_FT_XATTR,
};
#define BTRFS_FT_ENCRYPTED 0x80u

/*
 * Keys: (directory, DIR_ITEM, crc32c of the name), one or more in an item; (directory, DIR_INDEX, sequence); (inode, XATTR_ITEM,
 * crc32c of the name). location: an INODE_ITEM of this tree, or a ROOT_ITEM. Behind it name, then data (attributes).
 */
struct btrfs_disk_dir_item {
	struct btrfs_disk_key location; /* 0x00 */
	le64 transid;                   /* 0x11 */
	le16 data_len;                  /* 0x19 */
	le16 name_len;                  /* 0x1b */
	u8 type;                        /* 0x1d enum btrfs_file_type */
	u8 name[];
};
DISK_SIZE(struct btrfs_disk_dir_item, 30);

/* ---- subvolumes ---- */

#define BTRFS_ROOT_RDONLY 0x1ull
#define BTRFS_ROOT_DEAD   (1ull << 48)

#define BTRFS_ROOT_ITEM_V1_BYTES 239u
/* Key: (tree, ROOT_ITEM, 0 or the transaction of a snapshot). */
struct btrfs_disk_root {
	struct btrfs_disk_inode inode;       /* 0x000 */
	le64 generation;                     /* 0x0a0 */
	le64 root_dirid;                     /* 0x0a8 */
	le64 bytenr;                         /* 0x0b0 */
	le64 byte_limit;                     /* 0x0b8 */
	le64 bytes_used;                     /* 0x0c0 */
	le64 last_snapshot;                  /* 0x0c8 */
	le64 flags;                          /* 0x0d0 */
	le32 refs;                           /* 0x0d8 */
	struct btrfs_disk_key drop_progress; /* 0x0dc */
	u8 drop_level;                       /* 0x0ed */
	u8 level;                            /* 0x0ee */
	le64 generation_v2;                  /* 0x0ef what follows counts only when this equals generation */
	u8 uuid[16];                         /* 0x0f7 */
	u8 parent_uuid[16];                  /* 0x107 */
	u8 received_uuid[16];                /* 0x117 */
	le64 ctransid, otransid, stransid, rtransid;       /* 0x127 */
	struct btrfs_disk_time ctime, otime, stime, rtime; /* 0x147 */
	le64 reserved[8];                                  /* 0x177 */
};
DISK_SIZE(struct btrfs_disk_root, 439);
DISK_FIELD(struct btrfs_disk_root, generation_v2, BTRFS_ROOT_ITEM_V1_BYTES);

/* Keys: (parent tree, ROOT_REF, tree), (tree, ROOT_BACKREF, parent tree). */
struct btrfs_disk_root_ref {
	le64 dirid; /* 0x00 */
	le64 sequence;
	le16 name_len;
	u8 name[];
};
DISK_SIZE(struct btrfs_disk_root_ref, 18);

/* ---- data ---- */

enum btrfs_extent_kind { BTRFS_EXTENT_INLINE, BTRFS_EXTENT_REG, BTRFS_EXTENT_PREALLOC };
enum btrfs_compression { BTRFS_COMPRESS_NONE, BTRFS_COMPRESS_ZLIB, BTRFS_COMPRESS_LZO, BTRFS_COMPRESS_ZSTD };

#define BTRFS_FILE_EXTENT_HEAD_BYTES 21u /* of an inline extent: its data follow */
/* Key: (inode, EXTENT_DATA, offset in the file). */
struct btrfs_disk_file_extent {
	le64 generation;     /* 0x00 */
	le64 ram_bytes;      /* 0x08 unpacked length of the whole extent */
	u8 compression;      /* 0x10 */
	u8 encryption;       /* 0x11 */
	le16 other_encoding; /* 0x12 */
	u8 kind;             /* 0x14 enum btrfs_extent_kind */
	le64 disk_bytenr;    /* 0x15 0: hole */
	le64 disk_bytes;     /* 0x1d */
	le64 offset_bytes;   /* 0x25 into the unpacked extent */
	le64 num_bytes;      /* 0x2d */
};
DISK_SIZE(struct btrfs_disk_file_extent, 53);

/* ---- extent tree ---- */

#define BTRFS_EXTENT_FLAG_DATA         0x1ull
#define BTRFS_EXTENT_FLAG_TREE_BLOCK   0x2ull
#define BTRFS_EXTENT_FLAG_FULL_BACKREF (1ull << 8)

struct btrfs_disk_extent_item {
	le64 refs; /* 0x00 */
	le64 generation;
	le64 flags;
};
DISK_SIZE(struct btrfs_disk_extent_item, 24);

struct btrfs_disk_tree_block_info {
	struct btrfs_disk_key key;
	u8 level;
};
DISK_SIZE(struct btrfs_disk_tree_block_info, 18);

struct btrfs_disk_inline_ref {
	u8 type;
	le64 offset; /* root or parent; EXTENT_DATA_REF: the structure below begins here */
};
DISK_SIZE(struct btrfs_disk_inline_ref, 9);

struct btrfs_disk_data_ref {
	le64 root; /* 0x00 */
	le64 objectid;
	le64 offset;
	le32 count;
};
DISK_SIZE(struct btrfs_disk_data_ref, 28);

struct btrfs_disk_shared_data_ref {
	le32 count;
};
DISK_SIZE(struct btrfs_disk_shared_data_ref, 4);

/* ---- free space, quota, others ---- */

#define BTRFS_FREE_SPACE_BITMAP_BYTES 256u
struct btrfs_disk_free_space_info {
	le32 extent_count;
	le32 flags; /* 1: bitmaps */
};
DISK_SIZE(struct btrfs_disk_free_space_info, 8);

struct btrfs_disk_free_space_header {
	struct btrfs_disk_key location; /* 0x00 */
	le64 generation;
	le64 num_entries;
	le64 num_bitmaps;
};
DISK_SIZE(struct btrfs_disk_free_space_header, 41);

/* In the file that the header names. */
struct btrfs_disk_free_space_entry {
	le64 off_bytes; /* 0x00 logical */
	le64 len_bytes; /* 0x08 free; of a bitmap, in all of it */
	u8 type;        /* 0x10 1: an extent, 2: a bitmap */
};
DISK_SIZE(struct btrfs_disk_free_space_entry, 17);

struct btrfs_disk_qgroup_status {
	le64 version; /* 0x00 */
	le64 generation;
	le64 flags;
	le64 rescan;
	le64 enable_generation; /* 0x20 with simple quotas only */
};
DISK_SIZE(struct btrfs_disk_qgroup_status, 40);

struct btrfs_disk_qgroup_info {
	le64 generation; /* 0x00 */
	le64 referenced, referenced_compressed;
	le64 exclusive, exclusive_compressed;
};
DISK_SIZE(struct btrfs_disk_qgroup_info, 40);

struct btrfs_disk_qgroup_limit {
	le64 flags; /* 0x00 */
	le64 max_referenced, max_exclusive;
	le64 reserved_referenced, reserved_exclusive;
};
DISK_SIZE(struct btrfs_disk_qgroup_limit, 40);

enum btrfs_replace_state {
	BTRFS_REPLACE_NEVER,
	BTRFS_REPLACE_STARTED,
	BTRFS_REPLACE_FINISHED,
	BTRFS_REPLACE_CANCELED,
	BTRFS_REPLACE_SUSPENDED,
};
/* Key: (0, DEV_REPLACE, 0) of the device tree. */
struct btrfs_disk_dev_replace {
	le64 src_devid; /* 0x00 */
	le64 cursor_left, cursor_right;
	le64 cont_reading_mode;
	le64 state;
	le64 time_started, time_stopped;
	le64 write_errors, uncorrectable_read_errors;
};
DISK_SIZE(struct btrfs_disk_dev_replace, 72);

struct btrfs_disk_verity_desc {
	le64 size_bytes; /* 0x00 of the descriptor in the items that follow */
	le64 reserved[2];
	u8 encryption;
};
DISK_SIZE(struct btrfs_disk_verity_desc, 25);

#endif
