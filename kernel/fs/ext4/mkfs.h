/*
 * Private to the making of volumes: words → options → plan → device.
 *
 *   mkfs_opts.c     words into options, and which features a volume gets
 *   mkfs_layout.c   options into a superblock whose numbers are checked: sizes, counts, what is kept for growth
 *   mkfs_place.c    where tables, directories, journal and the other files lie
 *   mkfs.c          the plan onto the device
 *
 * What mke2fs 1.47 makes from the same options is made here too, block for block; a volume is made whole or, when its options make
 * none, refused before anything is written. The facts are in mke2fs(8), mke2fs.conf(5) and the kernel's
 * Documentation/filesystems/ext4/.
 */
#ifndef EXT4_MKFS_H
#define EXT4_MKFS_H

#include "ext4.h"

/* Numbers that nobody gave are 0, unless said otherwise. */
struct ext4_mkfs_opts {
	u64 size_bytes;
	u32 sector_bytes; /* of the device: blocks are no smaller */
	u32 block_bytes, cluster_bytes, inode_bytes;
	u32 blocks_per_group;   /* clusters with bigalloc */
	u32 groups_per_flex;    /* a power of two */
	u64 files;              /* that there must be inodes for, where their number is not given */
	u64 inode_ratio;        /* bytes of the volume for each inode */
	u32 inodes;             /* at least so many */
	u32 reserved_permyriad; /* of the blocks, for the superuser: 500 unless given */
	u32 journal_mib;        /* 0: by the size of the volume */
	u32 orphan_file_bytes;  /* 0: by the size of the volume */
	u32 copies;      /* of the superblock, with sparse_super2: at most 2, which is what nobody gave */
	u64 grow_blocks; /* descriptors are kept for so many; 0: for 1024 times the size */
	u32 stride, stripe_width; /* blocks */
	bool lazy_itable;         /* tables that were never used need not be zeros: true unless given */
	bool zeroed;              /* the device reads as zeros */
	char label[16];
	u8 uuid[16], hash_seed[16];
	u32 root_uid, root_gid;
	struct timespec64 now;
	struct ext4_disk_super features; /* nothing but these */
};

/* A run of a file's blocks. */
struct ext4_mkfs_run {
	u64 pblk;
	u32 lblk, len;
};

/* A block of a file's map, as it is written. */
struct ext4_mkfs_node {
	u64 blk;
	u8 *data;
};

/* A file of the new volume. */
struct ext4_mkfs_file {
	u32 ino, blocks; /* 0 blocks: there is no such file */
	u64 clusters;    /* that it has, those of its map included */
	struct ext4_mkfs_run *run;
	u32 runs, runs_room;
	struct ext4_mkfs_node *node;
	u32 nodes, nodes_room;
	u8 block[EXT4_IBLOCK_BYTES];
};

struct ext4_mkfs_plan {
	struct ext4_mkfs_opts opts;
	struct ext4_super *es; /* disk, what follows from it, and group; nothing else of it is there */
	struct ext4_zone used; /* blocks */
	struct ext4_mkfs_file root, lost_found, journal, orphans;
	u64 resize_blk; /* of the resize inode's map; 0: none */
	u32 journal_blocks, orphan_blocks;
	u32 last_ino; /* all up to this one are used */
	u64 used_clusters;
};

/* *out is good when this returns 0; -EINVAL: these words make no sense, or name what cannot be made. */
int ext4_mkfs_parse(const struct format_opts *in, u32 sector_bytes, struct ext4_mkfs_opts *out) __must_check;
/* plan->es with all of its superblock that does not depend on where things lie. -EINVAL: no volume can be so. */
int ext4_mkfs_layout(struct ext4_mkfs_plan *plan) __must_check;
/* All the rest of the plan, the superblock's counts included. -ENOSPC, as -EINVAL: it does not fit. */
int ext4_mkfs_place(struct ext4_mkfs_plan *plan) __must_check;
/* The size of a journal, or an orphan file, that nobody gave one. 0: the volume is too small for a journal. */
u32 ext4_mkfs_journal_blocks(u64 blocks);
u32 ext4_mkfs_orphan_blocks(u64 blocks);
/* Of a volume that is to have the groups of plan->es: the tables of those from `first` on, in blocks that plan->used does not have. Blocks, not clusters. */
int ext4_mkfs_place_more(struct ext4_mkfs_plan *plan, u32 first) __must_check;
/*
 * Parts of ext4_mkfs_place, for a volume that is there. Where its tables lay when it was made with this superblock: plan->es->group, plan->used; both
 * are empty before. And blocks that plan->used does not have for the journal or the orphan file, whose ino and blocks are given.
 */
int ext4_mkfs_place_tables(struct ext4_mkfs_plan *plan) __must_check;
int ext4_mkfs_place_log(struct ext4_mkfs_plan *plan, struct ext4_mkfs_file *file) __must_check;
/* A plan, both of the above; ended by ext4_mkfs_free, also on error. */
int ext4_mkfs_plan(const struct ext4_mkfs_opts *opts, struct ext4_mkfs_plan *out) __must_check;
void ext4_mkfs_free(struct ext4_mkfs_plan *plan);
/* The plan onto the device, which is flushed. */
int ext4_mkfs_write(struct ext4_mkfs_plan *plan, struct blkdev *dev) __must_check;

/* fs_type.format */
int ext4_format(struct blkdev *dev, const struct format_opts *opts, struct doc *out);

#endif
