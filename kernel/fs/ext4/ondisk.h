/*
 * The ext2/ext3/ext4 format: every structure as it lies on the disk. Little endian throughout (the journal,
 * kernel/jbd2, is big endian). The only functions here test bits. The format is described in the kernel's
 * Documentation/filesystems/ext4/.
 *
 *   boot 1 KiB │ superblock 1 KiB │ group descriptors │ reserved descriptors │ group 0 …
 *   a group: [superblock copy, descriptors copy] block bitmap, inode bitmap, inode table, data
 *
 * With flex_bg, bitmaps and tables of several groups lie together in the first of them; with meta_bg each
 * descriptor block lies in the groups that it describes (the first, second and last of them).
 */
#ifndef EXT4_ONDISK_H
#define EXT4_ONDISK_H

#include "lib/disk.h"

#define EXT4_SUPER_OFF   1024u /* bytes from the start of the device, for every block size */
#define EXT4_SUPER_BYTES 1024u
#define EXT4_MAGIC       0xef53u

#define EXT4_BLOCK_BITS_MIN         10u
#define EXT4_BLOCK_BITS_MAX         16u
#define EXT4_CLUSTER_BYTES_MAX_BITS 30u

/* Inode numbers with a meaning of their own. */
#define EXT4_INO_BAD       1u
#define EXT4_INO_ROOT      2u
#define EXT4_INO_USR_QUOTA 3u
#define EXT4_INO_GRP_QUOTA 4u
#define EXT4_INO_BOOT      5u
#define EXT4_INO_RESIZE    7u
#define EXT4_INO_JOURNAL   8u
#define EXT4_INO_SPARE \
	10u /* of a journal that is there while a volume is mended: check/log.c. Else it is nobody's */
#define EXT4_FIRST_INO_REV0 11u

/* ---- superblock ---- */

#define EXT4_STATE_VALID     0x0001u /* cleanly unmounted */
#define EXT4_STATE_ERROR     0x0002u
#define EXT4_STATE_ORPHAN    0x0004u
#define EXT4_STATE_FC_REPLAY 0x0020u

#define EXT4_ERR_EFSCORRUPTED \
	5u /* what first_error_errcode and last_error_errcode say: fs/ext4/ext4.h of Linux */

/* default_mount_opts: how data is kept, where a mount does not say */
#define EXT4_DEFM_JMODE           0x60u
#define EXT4_DEFM_JMODE_DATA      0x20u
#define EXT4_DEFM_JMODE_ORDERED   0x40u
#define EXT4_DEFM_JMODE_WRITEBACK 0x60u

#define EXT4_ERRORS_CONTINUE 1u
#define EXT4_ERRORS_RO       2u
#define EXT4_ERRORS_PANIC    3u

#define EXT4_SUPER_SIGNED_HASH   0x0001u
#define EXT4_SUPER_UNSIGNED_HASH 0x0002u
#define EXT4_SUPER_TEST          0x0004u

#define EXT4_CHECKSUM_CRC32C 1u

#define EXT4_COMPAT_DIR_PREALLOC   0x0001u
#define EXT4_COMPAT_IMAGIC_INODES  0x0002u
#define EXT4_COMPAT_HAS_JOURNAL    0x0004u
#define EXT4_COMPAT_EXT_ATTR       0x0008u
#define EXT4_COMPAT_RESIZE_INODE   0x0010u
#define EXT4_COMPAT_DIR_INDEX      0x0020u
#define EXT4_COMPAT_LAZY_BG        0x0040u
#define EXT4_COMPAT_EXCLUDE_INODE  0x0080u
#define EXT4_COMPAT_EXCLUDE_BITMAP 0x0100u
#define EXT4_COMPAT_SPARSE_SUPER2  0x0200u
#define EXT4_COMPAT_FAST_COMMIT    0x0400u
#define EXT4_COMPAT_STABLE_INODES  0x0800u
#define EXT4_COMPAT_ORPHAN_FILE    0x1000u

#define EXT4_INCOMPAT_COMPRESSION 0x00001u
#define EXT4_INCOMPAT_FILETYPE    0x00002u
#define EXT4_INCOMPAT_RECOVER     0x00004u
#define EXT4_INCOMPAT_JOURNAL_DEV 0x00008u
#define EXT4_INCOMPAT_META_BG     0x00010u
#define EXT4_INCOMPAT_EXTENTS     0x00040u
#define EXT4_INCOMPAT_64BIT       0x00080u
#define EXT4_INCOMPAT_MMP         0x00100u
#define EXT4_INCOMPAT_FLEX_BG     0x00200u
#define EXT4_INCOMPAT_EA_INODE    0x00400u
#define EXT4_INCOMPAT_DIRDATA     0x01000u
#define EXT4_INCOMPAT_CSUM_SEED   0x02000u
#define EXT4_INCOMPAT_LARGEDIR    0x04000u
#define EXT4_INCOMPAT_INLINE_DATA 0x08000u
#define EXT4_INCOMPAT_ENCRYPT     0x10000u
#define EXT4_INCOMPAT_CASEFOLD    0x20000u

#define EXT4_RO_COMPAT_SPARSE_SUPER   0x00001u
#define EXT4_RO_COMPAT_LARGE_FILE     0x00002u
#define EXT4_RO_COMPAT_BTREE_DIR      0x00004u
#define EXT4_RO_COMPAT_HUGE_FILE      0x00008u
#define EXT4_RO_COMPAT_GDT_CSUM       0x00010u
#define EXT4_RO_COMPAT_DIR_NLINK      0x00020u
#define EXT4_RO_COMPAT_EXTRA_ISIZE    0x00040u
#define EXT4_RO_COMPAT_HAS_SNAPSHOT   0x00080u
#define EXT4_RO_COMPAT_QUOTA          0x00100u
#define EXT4_RO_COMPAT_BIGALLOC       0x00200u
#define EXT4_RO_COMPAT_METADATA_CSUM  0x00400u
#define EXT4_RO_COMPAT_REPLICA        0x00800u
#define EXT4_RO_COMPAT_READONLY       0x01000u
#define EXT4_RO_COMPAT_PROJECT        0x02000u
#define EXT4_RO_COMPAT_SHARED_BLOCKS  0x04000u
#define EXT4_RO_COMPAT_VERITY         0x08000u
#define EXT4_RO_COMPAT_ORPHAN_PRESENT 0x10000u

struct ext4_disk_super {
	le32 inodes_count;         /* 0x000 */
	le32 blocks_count_lo;      /* 0x004 */
	le32 r_blocks_count_lo;    /* 0x008 for the super-user only */
	le32 free_blocks_count_lo; /* 0x00c blocks, also where space is had in clusters */
	le32 free_inodes_count;    /* 0x010 */
	le32 first_data_block;     /* 0x014 1 with 1 KiB blocks, else 0 */
	le32 log_block_size;       /* 0x018 block = 1024 << n */
	le32 log_cluster_size;     /* 0x01c cluster = 1024 << n */
	le32 blocks_per_group;     /* 0x020 */
	le32 clusters_per_group;   /* 0x024 */
	le32 inodes_per_group;     /* 0x028 */
	le32 mtime;                /* 0x02c last mount */
	le32 wtime;                /* 0x030 last write */
	le16 mnt_count;            /* 0x034 mounts since the last check */
	le16 max_mnt_count;        /* 0x036 */
	le16 magic;                /* 0x038 */
	le16 state;                /* 0x03a EXT4_STATE_* */
	le16 errors;               /* 0x03c policy: 1 go on, 2 read-only, 3 panic */
	le16 minor_rev_level;      /* 0x03e */
	le32 lastcheck;            /* 0x040 */
	le32 checkinterval;        /* 0x044 seconds */
	le32 creator_os;           /* 0x048 0 Linux, 1 Hurd, … */
	le32 rev_level;            /* 0x04c 0: what follows is void */
	le16 def_resuid;           /* 0x050 */
	le16 def_resgid;           /* 0x052 */
	le32 first_ino;            /* 0x054 first inode that is not reserved */
	le16 inode_size;           /* 0x058 */
	le16 block_group_nr;       /* 0x05a group of this copy */
	le32 feature_compat;       /* 0x05c */
	le32 feature_incompat;     /* 0x060 */
	le32 feature_ro_compat;    /* 0x064 */
	u8 uuid[16];               /* 0x068 */
	u8 volume_name[16];        /* 0x078 */
	u8 last_mounted[64];       /* 0x088 */
	le32 algorithm_bitmap;     /* 0x0c8 */
	u8 prealloc_blocks;        /* 0x0cc */
	u8 prealloc_dir_blocks;    /* 0x0cd */
	le16 reserved_gdt_blocks;  /* 0x0ce */
	u8 journal_uuid[16];       /* 0x0d0 of an external journal */
	le32 journal_inum;         /* 0x0e0 */
	le32 journal_dev;          /* 0x0e4 */
	le32 last_orphan;          /* 0x0e8 head of the list of orphan inodes */
	le32 hash_seed[4];         /* 0x0ec */
	u8 def_hash_version;       /* 0x0fc */
	u8 jnl_backup_type;        /* 0x0fd */
	le16 desc_size;            /* 0x0fe with 64bit */
	le32 default_mount_opts;   /* 0x100 */
	le32 first_meta_bg;        /* 0x104 */
	le32 mkfs_time;            /* 0x108 */
	le32 jnl_blocks[17];       /* 0x10c backup of the journal inode's map and size */
	le32 blocks_count_hi;      /* 0x150 */
	le32 r_blocks_count_hi;    /* 0x154 */
	le32 free_blocks_count_hi; /* 0x158 */
	le16 min_extra_isize;      /* 0x15c */
	le16 want_extra_isize;     /* 0x15e */
	le32 flags;                /* 0x160 EXT4_SUPER_* */
	le16 raid_stride;          /* 0x164 */
	le16 mmp_update_interval;  /* 0x166 seconds */
	le64 mmp_block;            /* 0x168 */
	le32 raid_stripe_width;    /* 0x170 */
	u8 log_groups_per_flex;    /* 0x174 */
	u8 checksum_type;          /* 0x175 */
	u8 encryption_level;       /* 0x176 */
	u8 reserved_pad;           /* 0x177 */
	le64 kbytes_written;       /* 0x178 */
	le32 snapshot_inum;        /* 0x180 */
	le32 snapshot_id;          /* 0x184 */
	le64 snapshot_r_blocks;    /* 0x188 */
	le32 snapshot_list;        /* 0x190 */
	le32 error_count;          /* 0x194 */
	le32 first_error_time;     /* 0x198 */
	le32 first_error_ino;      /* 0x19c */
	le64 first_error_block;    /* 0x1a0 */
	u8 first_error_func[32];   /* 0x1a8 */
	le32 first_error_line;     /* 0x1c8 */
	le32 last_error_time;      /* 0x1cc */
	le32 last_error_ino;       /* 0x1d0 */
	le32 last_error_line;      /* 0x1d4 */
	le64 last_error_block;     /* 0x1d8 */
	u8 last_error_func[32];    /* 0x1e0 */
	u8 mount_opts[64];         /* 0x200 */
	le32 usr_quota_inum;       /* 0x240 */
	le32 grp_quota_inum;       /* 0x244 */
	le32 overhead_clusters;    /* 0x248 0: not computed */
	le32 backup_bgs[2];        /* 0x24c groups of the copies, with sparse_super2 */
	u8 encrypt_algos[4];       /* 0x254 */
	u8 encrypt_pw_salt[16];    /* 0x258 */
	le32 lpf_ino;              /* 0x268 */
	le32 prj_quota_inum;       /* 0x26c */
	le32 checksum_seed;        /* 0x270 with metadata_csum_seed */
	u8 wtime_hi;               /* 0x274 */
	u8 mtime_hi;               /* 0x275 */
	u8 mkfs_time_hi;           /* 0x276 */
	u8 lastcheck_hi;           /* 0x277 */
	u8 first_error_time_hi;    /* 0x278 */
	u8 last_error_time_hi;     /* 0x279 */
	u8 first_error_errcode;    /* 0x27a */
	u8 last_error_errcode;     /* 0x27b */
	le16 encoding;             /* 0x27c with casefold: 1 is UTF-8 12.1 */
	le16 encoding_flags;       /* 0x27e EXT4_ENCODING_STRICT */
	le32 orphan_file_inum;     /* 0x280 */
	le16 def_resuid_hi;        /* 0x284 */
	le16 def_resgid_hi;        /* 0x286 */
	u8 reserved[372];          /* 0x288 */
	le32 checksum;             /* 0x3fc crc32c of all before */
};
DISK_SIZE(struct ext4_disk_super, EXT4_SUPER_BYTES);
DISK_FIELD(struct ext4_disk_super, magic, 0x38);
DISK_FIELD(struct ext4_disk_super, feature_compat, 0x5c);
DISK_FIELD(struct ext4_disk_super, journal_inum, 0xe0);
DISK_FIELD(struct ext4_disk_super, desc_size, 0xfe);
DISK_FIELD(struct ext4_disk_super, blocks_count_hi, 0x150);
DISK_FIELD(struct ext4_disk_super, mmp_block, 0x168);
DISK_FIELD(struct ext4_disk_super, error_count, 0x194);
DISK_FIELD(struct ext4_disk_super, mount_opts, 0x200);
DISK_FIELD(struct ext4_disk_super, checksum_seed, 0x270);
DISK_FIELD(struct ext4_disk_super, orphan_file_inum, 0x280);
DISK_FIELD(struct ext4_disk_super, checksum, 0x3fc);

#define EXT4_ENCODING_UTF8_12_1 1u
#define EXT4_ENCODING_STRICT    0x1u

/* ---- group descriptor ---- */

#define EXT4_GROUP_INODE_UNINIT 0x1u /* the inode bitmap is not written yet */
#define EXT4_GROUP_BLOCK_UNINIT 0x2u /* nor the block bitmap */
#define EXT4_GROUP_INODE_ZEROED 0x4u /* the unused tail of the inode table is zeros */

#define EXT4_DESC_BYTES_MIN   32u
#define EXT4_DESC_BYTES_64BIT 64u
#define EXT4_DESC_BYTES_MAX   1024u

struct ext4_disk_group {
	le32 block_bitmap_lo;      /* 0x00 */
	le32 inode_bitmap_lo;      /* 0x04 */
	le32 inode_table_lo;       /* 0x08 */
	le16 free_blocks_count_lo; /* 0x0c clusters with bigalloc */
	le16 free_inodes_count_lo; /* 0x0e */
	le16 used_dirs_count_lo;   /* 0x10 */
	le16 flags;                /* 0x12 EXT4_GROUP_* */
	le32 exclude_bitmap_lo;    /* 0x14 */
	le16 block_bitmap_csum_lo; /* 0x18 */
	le16 inode_bitmap_csum_lo; /* 0x1a */
	le16 itable_unused_lo;     /* 0x1c inodes at the table's end that were never used */
	le16 checksum;             /* 0x1e crc16 or the low half of crc32c */
	/* Only where desc_size says so: */
	le32 block_bitmap_hi;      /* 0x20 */
	le32 inode_bitmap_hi;      /* 0x24 */
	le32 inode_table_hi;       /* 0x28 */
	le16 free_blocks_count_hi; /* 0x2c */
	le16 free_inodes_count_hi; /* 0x2e */
	le16 used_dirs_count_hi;   /* 0x30 */
	le16 itable_unused_hi;     /* 0x32 */
	le32 exclude_bitmap_hi;    /* 0x34 */
	le16 block_bitmap_csum_hi; /* 0x38 */
	le16 inode_bitmap_csum_hi; /* 0x3a */
	le32 reserved;             /* 0x3c */
};
DISK_SIZE(struct ext4_disk_group, 64);
DISK_FIELD(struct ext4_disk_group, checksum, 0x1e);
DISK_FIELD(struct ext4_disk_group, block_bitmap_hi, 0x20);
DISK_FIELD(struct ext4_disk_group, inode_bitmap_csum_hi, 0x3a);

/* ---- inode ---- */

#define EXT4_INODE_BYTES_OLD 128u
#define EXT4_IBLOCK_BYTES    60u
#define EXT4_NDIR            12u

#define EXT4_FL_SECRM        0x00000001u
#define EXT4_FL_UNRM         0x00000002u
#define EXT4_FL_COMPR        0x00000004u
#define EXT4_FL_SYNC         0x00000008u
#define EXT4_FL_IMMUTABLE    0x00000010u
#define EXT4_FL_APPEND       0x00000020u
#define EXT4_FL_NODUMP       0x00000040u
#define EXT4_FL_NOATIME      0x00000080u
#define EXT4_FL_NOCOMPR      0x00000400u
#define EXT4_FL_ENCRYPT      0x00000800u
#define EXT4_FL_INDEX        0x00001000u /* a hashed directory */
#define EXT4_FL_IMAGIC       0x00002000u
#define EXT4_FL_JOURNAL_DATA 0x00004000u
#define EXT4_FL_NOTAIL       0x00008000u
#define EXT4_FL_DIRSYNC      0x00010000u
#define EXT4_FL_TOPDIR       0x00020000u
#define EXT4_FL_HUGE_FILE    0x00040000u /* blocks counts file system blocks */
#define EXT4_FL_EXTENTS      0x00080000u
#define EXT4_FL_VERITY       0x00100000u
#define EXT4_FL_EA_INODE     0x00200000u /* holds the value of an extended attribute */
#define EXT4_FL_DAX          0x02000000u
#define EXT4_FL_INLINE_DATA  0x10000000u
#define EXT4_FL_PROJINHERIT  0x20000000u
#define EXT4_FL_CASEFOLD     0x40000000u
/* What FS_IOC_SETFLAGS may change, but for what is said where it is used. */
#define EXT4_FL_USER_MODIFIABLE 0x604bc0ffu
/* What FS_IOC_GETFLAGS shows. */
#define EXT4_FL_USER_VISIBLE 0x725bdfffu

/*
 * What describes a verity file, behind its hash tree (linux/fsverity.h, Documentation/filesystems/fsverity.rst and
 * ext4/verity.rst).
 */
#define EXT4_VERITY_VERSION   1u
#define EXT4_VERITY_SHA256    1u
#define EXT4_VERITY_SHA512    2u
#define EXT4_VERITY_SALT_MAX  32u
#define EXT4_VERITY_BITS_MIN  10u
#define EXT4_VERITY_BITS_MAX  16u
#define EXT4_VERITY_DESC_MAX  16384u /* signature included */
#define EXT4_VERITY_ALIGN     65536u /* the tree begins at the next multiple behind the file */
#define EXT4_VERITY_LEVEL_MAX 8u
struct ext4_disk_verity {
	u8 version;        /* 0x00 */
	u8 hash_algorithm; /* 0x01 EXT4_VERITY_SHA* */
	u8 log_blocksize;  /* 0x02 of the pieces that are hashed, of data and tree alike */
	u8 salt_size;      /* 0x03 */
	le32 sig_size;     /* 0x04 of the signature that follows; counts as 0 in the file's digest */
	le64 data_size;    /* 0x08 */
	u8 root_hash[64];  /* 0x10 of the tree's top; of the only piece; zeros for an empty file */
	u8 salt[EXT4_VERITY_SALT_MAX]; /* 0x50 */
	u8 reserved[144];              /* 0x70 zeros */
};
DISK_SIZE(struct ext4_disk_verity, 256);
DISK_FIELD(struct ext4_disk_verity, data_size, 0x08);
DISK_FIELD(struct ext4_disk_verity, salt, 0x50);

struct ext4_disk_inode {
	le16 mode;                   /* 0x00 type and permissions */
	le16 uid_lo;                 /* 0x02 */
	le32 size_lo;                /* 0x04 */
	le32 atime;                  /* 0x08 signed seconds; of an EA inode: the value's hash */
	le32 ctime;                  /* 0x0c of an EA inode: reference count, high half */
	le32 mtime;                  /* 0x10 of an EA inode of old: its owner */
	le32 dtime;                  /* 0x14 deletion time, or the next orphan */
	le16 gid_lo;                 /* 0x18 */
	le16 links_count;            /* 0x1a */
	le32 blocks_lo;              /* 0x1c in 512 bytes, or blocks with HUGE_FILE */
	le32 flags;                  /* 0x20 EXT4_FL_* */
	le32 version;                /* 0x24 of an EA inode: reference count, low half */
	u8 block[EXT4_IBLOCK_BYTES]; /* 0x28 extent root, block map, symlink, device or inline data */
	le32 generation;             /* 0x64 */
	le32 file_acl_lo;            /* 0x68 xattr block */
	le32 size_hi;                /* 0x6c */
	le32 obso_faddr;             /* 0x70 */
	le16 blocks_hi;              /* 0x74 */
	le16 file_acl_hi;            /* 0x76 */
	le16 uid_hi;                 /* 0x78 */
	le16 gid_hi;                 /* 0x7a */
	le16 checksum_lo;            /* 0x7c */
	le16 reserved;               /* 0x7e */
	/* Each of the following exists when extra_isize reaches its end. */
	le16 extra_isize;  /* 0x80 bytes from here on that are fields */
	le16 checksum_hi;  /* 0x82 */
	le32 ctime_extra;  /* 0x84 nanoseconds << 2 | epoch */
	le32 mtime_extra;  /* 0x88 */
	le32 atime_extra;  /* 0x8c */
	le32 crtime;       /* 0x90 creation */
	le32 crtime_extra; /* 0x94 */
	le32 version_hi;   /* 0x98 */
	le32 projid;       /* 0x9c */
};
DISK_SIZE(struct ext4_disk_inode, 160);
DISK_FIELD(struct ext4_disk_inode, block, 0x28);
DISK_FIELD(struct ext4_disk_inode, generation, 0x64);
DISK_FIELD(struct ext4_disk_inode, checksum_lo, 0x7c);
DISK_FIELD(struct ext4_disk_inode, extra_isize, EXT4_INODE_BYTES_OLD);
DISK_FIELD(struct ext4_disk_inode, projid, 0x9c);

/* ---- extent tree ---- */

#define EXT4_EXTENT_MAGIC     0xf30au
#define EXT4_EXTENT_DEPTH_MAX 5u
#define EXT4_EXTENT_INIT_MAX  32768u /* a longer `len` means unwritten, and is len - 32768 blocks */

struct ext4_disk_extent_header {
	le16 magic;      /* 0x0 */
	le16 entries;    /* 0x2 */
	le16 max;        /* 0x4 */
	le16 depth;      /* 0x6 0: a leaf */
	le32 generation; /* 0x8 not used */
};
DISK_SIZE(struct ext4_disk_extent_header, 12);

struct ext4_disk_extent {
	le32 lblk;     /* 0x0 first block in the file */
	le16 len;      /* 0x4 */
	le16 start_hi; /* 0x6 */
	le32 start_lo; /* 0x8 */
};
DISK_SIZE(struct ext4_disk_extent, 12);

struct ext4_disk_extent_idx {
	le32 lblk;    /* 0x0 everything below is from this block on */
	le32 leaf_lo; /* 0x4 */
	le16 leaf_hi; /* 0x8 */
	le16 unused;  /* 0xa */
};
DISK_SIZE(struct ext4_disk_extent_idx, 12);

/* Behind the last possible entry of a node outside the inode, with metadata_csum. */
struct ext4_disk_extent_tail {
	le32 checksum;
};
DISK_SIZE(struct ext4_disk_extent_tail, 4);

/* ---- directories ---- */

#define EXT4_NAME_MAX     255u
#define EXT4_DIRENT_BYTES 8u  /* before the name */
#define EXT4_DIRENT_MIN   12u /* the shortest rec_len */

#define EXT4_FT_DIR_CSUM 0xdeu

/* An entry; `name_len` bytes of name follow. */
struct ext4_disk_dirent {
	le32 inode;   /* 0x0 0: unused */
	le16 rec_len; /* 0x4 to the next entry; the last one reaches the end */
	u8 name_len;  /* 0x6 */
	u8 file_type; /* 0x7 with filetype; else the high byte of name_len, always 0 */
};
DISK_SIZE(struct ext4_disk_dirent, EXT4_DIRENT_BYTES);

/* The last 12 bytes of a leaf with metadata_csum: looks like an unused entry. */
struct ext4_disk_dir_tail {
	le32 zero1;     /* 0x0 */
	le16 rec_len;   /* 0x4 12 */
	u8 zero2;       /* 0x6 */
	u8 reserved_ft; /* 0x7 EXT4_FT_DIR_CSUM */
	le32 checksum;  /* 0x8 */
};
DISK_SIZE(struct ext4_disk_dir_tail, 12);

/* Behind the name of an entry in a directory both casefolded and encrypted. */
struct ext4_disk_dirent_hash {
	le32 hash;
	le32 minor_hash;
};
DISK_SIZE(struct ext4_disk_dirent_hash, 8);

#define EXT4_HASH_LEGACY            0u
#define EXT4_HASH_HALF_MD4          1u
#define EXT4_HASH_TEA               2u
#define EXT4_HASH_LEGACY_UNSIGNED   3u
#define EXT4_HASH_HALF_MD4_UNSIGNED 4u
#define EXT4_HASH_TEA_UNSIGNED      5u
#define EXT4_HASH_SIPHASH           6u

#define EXT4_DX_ROOT_ENTRIES 32u /* offset of the index entries in block 0 */
#define EXT4_DX_NODE_ENTRIES 8u  /* and in an inner node */
#define EXT4_DX_INFO_OFF     24u

/* Behind "." (12 bytes) and ".." (the rest of the block) in block 0 of a hashed directory. */
struct ext4_disk_dx_info {
	le32 reserved_zero; /* 0x0 */
	u8 hash_version;    /* 0x4 EXT4_HASH_* */
	u8 info_length;     /* 0x5 8 */
	u8 indirect_levels; /* 0x6 levels of nodes between root and leaves */
	u8 unused_flags;    /* 0x7 */
};
DISK_SIZE(struct ext4_disk_dx_info, 8);

/* Entry 0 has a countlimit in the place of its hash. */
struct ext4_disk_dx_entry {
	le32 hash; /* 0x0 of the first name; bit 0: the hash before goes on here */
	le32 lblk; /* 0x4 block in the directory */
};
DISK_SIZE(struct ext4_disk_dx_entry, 8);

struct ext4_disk_dx_countlimit {
	le16 limit; /* 0x0 entries that fit */
	le16 count; /* 0x2 entries in use, this one counted */
};
DISK_SIZE(struct ext4_disk_dx_countlimit, 4);

/* Behind entry `limit`, with metadata_csum. */
struct ext4_disk_dx_tail {
	le32 reserved;
	le32 checksum;
};
DISK_SIZE(struct ext4_disk_dx_tail, 8);

/* ---- extended attributes ---- */

#define EXT4_XATTR_MAGIC        0xea020000u
#define EXT4_XATTR_REFCOUNT_MAX 1024u
#define EXT4_XATTR_VALUE_MAX    (1u << 24)

#define EXT4_XATTR_USER        1u
#define EXT4_XATTR_ACL_ACCESS  2u
#define EXT4_XATTR_ACL_DEFAULT 3u
#define EXT4_XATTR_TRUSTED     4u
#define EXT4_XATTR_LUSTRE      5u
#define EXT4_XATTR_SECURITY    6u
#define EXT4_XATTR_SYSTEM      7u
#define EXT4_XATTR_RICHACL     8u
#define EXT4_XATTR_ENCRYPTION  9u
#define EXT4_XATTR_HURD        10u

/* At the start of an xattr block. Entries follow; values fill it from the end. */
struct ext4_disk_xattr_header {
	le32 magic;    /* 0x00 */
	le32 refcount; /* 0x04 inodes that share the block */
	le32 blocks;   /* 0x08 1 */
	le32 hash;     /* 0x0c of all entries */
	le32 checksum; /* 0x10 with metadata_csum */
	le32 reserved[3];
};
DISK_SIZE(struct ext4_disk_xattr_header, 32);

/* In an inode, behind its fields. Entries follow; value offsets count from the first of them. */
struct ext4_disk_xattr_ibody {
	le32 magic;
};
DISK_SIZE(struct ext4_disk_xattr_ibody, 4);

/* `name_len` bytes of name follow, padded to 4. Four zero bytes in its place end the list. */
struct ext4_disk_xattr_entry {
	u8 name_len;     /* 0x0 */
	u8 name_index;   /* 0x1 EXT4_XATTR_*: the name's beginning */
	le16 value_offs; /* 0x2 */
	le32 value_inum; /* 0x4 inode that holds the value, 0: it is here */
	le32 value_size; /* 0x8 */
	le32 hash;       /* 0xc of name and value */
};
DISK_SIZE(struct ext4_disk_xattr_entry, 16);

/* ---- access control lists, as the value of an attribute ---- */

#define EXT4_ACL_VERSION 1u

struct ext4_disk_acl_header {
	le32 version;
};
DISK_SIZE(struct ext4_disk_acl_header, 4);

struct ext4_disk_acl_entry {
	le16 tag;
	le16 perm;
	le32 id; /* only with the tags USER and GROUP */
};
DISK_SIZE(struct ext4_disk_acl_entry, 8);
#define EXT4_ACL_ENTRY_SHORT 4u

/* ---- multiple mount protection ---- */

#define EXT4_MMP_MAGIC     0x004d4d50u
#define EXT4_MMP_SEQ_MAX   0xe24d4d4fu /* of those that machines count up */
#define EXT4_MMP_SEQ_CLEAN 0xff4d4d50u
#define EXT4_MMP_SEQ_FSCK  0xe24d4d50u

struct ext4_disk_mmp {
	le32 magic;          /* 0x000 */
	le32 seq;            /* 0x004 changes as long as somebody has the volume mounted */
	le64 time;           /* 0x008 of the last update */
	u8 nodename[64];     /* 0x010 */
	u8 bdevname[32];     /* 0x050 */
	le16 check_interval; /* 0x070 seconds */
	le16 pad1;           /* 0x072 */
	le32 pad2[226];      /* 0x074 */
	le32 checksum;       /* 0x3fc */
};
DISK_SIZE(struct ext4_disk_mmp, 1024);
DISK_FIELD(struct ext4_disk_mmp, check_interval, 0x70);
DISK_FIELD(struct ext4_disk_mmp, checksum, 0x3fc);

/*
 * ---- fast commits: records in their area of the journal, little endian ----
 *
 * A record is tag, length, value; it lies within one block, and what it leaves of a block that the next does not fit into is
 * a record PAD, or less than 4 bytes. A fast commit ends in a TAIL, which takes the rest of its block; the first one after a full
 * transaction begins with a HEAD. The kernel's fs/ext4/fast_commit.h defines them.
 */
#define EXT4_FC_TAG_ADD_RANGE 0x0001u
#define EXT4_FC_TAG_DEL_RANGE 0x0002u
#define EXT4_FC_TAG_CREAT     0x0003u
#define EXT4_FC_TAG_LINK      0x0004u
#define EXT4_FC_TAG_UNLINK    0x0005u
#define EXT4_FC_TAG_INODE     0x0006u
#define EXT4_FC_TAG_PAD       0x0007u
#define EXT4_FC_TAG_TAIL      0x0008u
#define EXT4_FC_TAG_HEAD      0x0009u

struct ext4_disk_fc_tl {
	le16 tag; /* 0x0 EXT4_FC_TAG_* */
	le16 len; /* 0x2 of the value, which follows */
};
DISK_SIZE(struct ext4_disk_fc_tl, 4);

struct ext4_disk_fc_head {
	le32 features; /* 0x0 none is known */
	le32 tid;      /* 0x4 the full transaction that would come next */
};
DISK_SIZE(struct ext4_disk_fc_head, 8);

struct ext4_disk_fc_tail {
	le32 tid; /* 0x0 as in the head */
	le32 crc; /* 0x4 crc32c from 0 of all since the last tail, tags and lengths included, up to here */
};
DISK_SIZE(struct ext4_disk_fc_tail, 8);

struct ext4_disk_fc_add_range {
	le32 ino;                   /* 0x0 */
	struct ext4_disk_extent ex; /* 0x4 */
};
DISK_SIZE(struct ext4_disk_fc_add_range, 16);

struct ext4_disk_fc_del_range {
	le32 ino;  /* 0x0 */
	le32 lblk; /* 0x4 */
	le32 len;  /* 0x8 */
};
DISK_SIZE(struct ext4_disk_fc_del_range, 12);

/* CREAT, LINK, UNLINK; the name takes the rest of the value. */
struct ext4_disk_fc_name {
	le32 parent; /* 0x0 */
	le32 ino;    /* 0x4 */
};
DISK_SIZE(struct ext4_disk_fc_name, 8);

/* INODE; the raw inode takes the rest of the value: without what lies behind its extra fields, unless it has inline data. */
struct ext4_disk_fc_inode {
	le32 ino; /* 0x0 */
};
DISK_SIZE(struct ext4_disk_fc_inode, 4);

/* ---- orphan file ---- */

#define EXT4_ORPHAN_MAGIC 0x0b10ca04u

/* At the end of each block of the orphan file; inode numbers stand before it. */
struct ext4_disk_orphan_tail {
	le32 magic;
	le32 checksum;
};
DISK_SIZE(struct ext4_disk_orphan_tail, 8);

/* ---- quota files (include/linux/dqblk_v2.h, fs/quota/quotaio_v2.h and quota_tree.h of the kernel) ---- */

#define EXT4_QUOTA_MAGIC_USER    0xd9c01f11u
#define EXT4_QUOTA_MAGIC_GROUP   0xd9c01927u
#define EXT4_QUOTA_MAGIC_PROJECT 0xd9c03f14u
#define EXT4_QUOTA_VERSION       1u
#define EXT4_QUOTA_BLOCK         1024u /* of the file, whatever those of the volume are */
#define EXT4_QUOTA_ROOT          1u    /* the block where the tree begins */
#define EXT4_QUOTA_DEPTH         4u    /* nodes on the way to a leaf, one for each byte of an id */
#define EXT4_QUOTA_FANOUT        256u
#define EXT4_QUOTA_PER_LEAF      14u

/* Block 0. */
struct ext4_disk_quota_head {
	le32 magic;            /* 0x00 */
	le32 version;          /* 0x04 */
	le32 space_grace_sec;  /* 0x08 */
	le32 inodes_grace_sec; /* 0x0c */
	le32 flags;            /* 0x10 */
	le32 blocks;           /* 0x14 of the file, in EXT4_QUOTA_BLOCK */
	le32 free_block;       /* 0x18 the first of the blocks that nothing uses; 0: none */
	le32 free_leaf;        /* 0x1c the first of the leaves with room; 0: none */
};
DISK_SIZE(struct ext4_disk_quota_head, 32);

/* A node of the tree: where those below it are; 0: nothing. */
struct ext4_disk_quota_node {
	le32 child[EXT4_QUOTA_FANOUT];
};
DISK_SIZE(struct ext4_disk_quota_node, EXT4_QUOTA_BLOCK);

/* All zeros: a free place. What would be all zeros has inodes_until_sec 1. */
struct ext4_disk_quota {
	le32 id;               /* 0x00 */
	le32 pad;              /* 0x04 */
	le64 inodes_hard;      /* 0x08 */
	le64 inodes_soft;      /* 0x10 */
	le64 inodes;           /* 0x18 */
	le64 space_hard_kib;   /* 0x20 */
	le64 space_soft_kib;   /* 0x28 */
	le64 space_bytes;      /* 0x30 */
	le64 space_until_sec;  /* 0x38 */
	le64 inodes_until_sec; /* 0x40 */
};
DISK_SIZE(struct ext4_disk_quota, 72);
DISK_FIELD(struct ext4_disk_quota, space_bytes, 0x30);

struct ext4_disk_quota_leaf {
	le32 next_free, prev_free; /* 0x00 of the leaves with room */
	le16 count;                /* 0x08 of places in use */
	le16 pad1;                 /* 0x0a */
	le32 pad2;                 /* 0x0c */
	struct ext4_disk_quota place[EXT4_QUOTA_PER_LEAF];
};
DISK_SIZE(struct ext4_disk_quota_leaf, EXT4_QUOTA_BLOCK);

#endif
