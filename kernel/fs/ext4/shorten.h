/*
 * Private to the making shorter of volumes, offline. What lies behind the new end goes before it first, with changes of the mounted volume,
 * each whole; then the end moves in one.
 *
 *   shorten_open.c      the volume, opened for a part of it
 *   shorten_plan.c      how short it can be, and what has to move
 *   shorten_inodes.c    inodes get numbers in groups that stay
 *   shorten_blocks.c    blocks of files, of their maps and of attributes go before the end
 *   shorten_log.c       the journal does
 *   shorten_pointers.c  where it is mapped by pointers
 *   shorten_end.c       the end moves
 *   shorten.c           all of it
 *
 * Invariants
 *  1. Whatever is written last before a crash, the volume is whole after its journal was applied, as long as before or as long as it is to be, and
 *     all that it had is there. It can be gone on with by beginning again.
 *  2. Only shorten_log.c, shorten_pointers.c and shorten_end.c change anything otherwise than by handles of a volume that is mounted for this.
 *  3. Nothing is changed before it is known that all fits, as far as counts tell; what turns out not to fit leaves the volume as long as it was.
 *  4. The end does not move while a block or an inode behind it is in use, whatever it may belong to.
 */
#ifndef EXT4_SHORTEN_H
#define EXT4_SHORTEN_H

#include "ext4.h"

/* ---- shorten_open.c ---- */

/* A volume that was closed cleanly, to be read as it lies. -EIO: it was not. */
int ext4_short_open(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		    struct ext4_super **out) __must_check;
/* To be changed. -EROFS: it cannot be, err_text says why. */
int ext4_short_open_written(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
			    struct ext4_super **out) __must_check;
/* The first error counts, and what was said of it. */
void ext4_short_close(struct ext4_super *es, int *err);

/* ---- shorten_plan.c ---- */

struct ext4_short {
	struct ext4_super *es; /* the volume, as it is open now */
	u64 unit_bytes;        /* its length is a multiple of this */
	u64 end;               /* it will have so many blocks */
	u32 groups;            /* and groups */
	u64 blocks, inodes;    /* that have to move */
	bool log;              /* the journal is among them */
	u64 least;             /* blocks that it must have */
	u64 least_now;         /* as long as tables are where they are that are not needed then */
	u32 groups_now;        /* the groups of that */
	bool more;             /* `end` is not as far as it is to go */
	struct shorten *what;
};
/*
 * The next step to `want` blocks at most; 0: to as few as possible. *s: what that takes; s->end is the volume's, when there is none. -ENOSPC: it
 * needs more, or -EOPNOTSUPP: it cannot have other places for something, and err_text names the least size.
 */
int ext4_short_plan(struct ext4_super *es, u64 want, struct ext4_short *s) __must_check;
/* Of the journal's inode, the last block that it has, of its map too; 0: there is none on the volume. */
int ext4_short_log_last(struct ext4_super *es, u64 *last) __must_check;
/* fn for each inode that the bitmaps of the groups [first, end) have as taken, until it fails. */
int ext4_short_each(struct ext4_super *es, u32 first, u32 end, int (*fn)(void *ctx, u64 ino),
		    void *ctx) __must_check;
/* *after gets disk, and what follows from it, of the volume at its new length, counts of what is free left out. */
void ext4_short_after(const struct ext4_short *s, struct ext4_super *after);

/* ---- shorten_inodes.c ---- */

int ext4_short_inodes(struct ext4_short *s) __must_check;

/* ---- shorten_blocks.c ---- */

/* Of all inodes but the journal's. Quotas were not looked at before since the volume was opened. */
int ext4_short_blocks(struct ext4_short *s) __must_check;

/* ---- shorten_pointers.c: what is different where the journal is mapped by pointers ---- */

/* Blocks of pointers that a file without holes has. */
u64 ext4_short_pointers_nodes(const struct ext4_super *es, u64 blocks);
/* *last: at least the last of those blocks of the journal. */
int ext4_short_pointers_last(struct ext4_inode *ei, u64 *last) __must_check;
int ext4_short_pointers_prepare(struct ext4_inode *ei) __must_check;
/* Of the journal that is prepared, the log's length. */
u64 ext4_short_pointers_log(const struct ext4_inode *ei);
/* Writes the blocks of the new map; root: what the inode is to have. */
int ext4_short_pointers_map(struct ext4_inode *ei, u8 root[EXT4_IBLOCK_BYTES]) __must_check;
/* The file has so many blocks at most. */
int ext4_short_pointers_cut(struct ext4_inode *ei, u64 blocks) __must_check;

/*
 * ---- shorten_log.c ----
 *
 * The journal's inode gets the new blocks behind its end, as promised ones, beside those it has: prepare, on the volume while it is mounted. When it
 * is closed, and the log empty, a new map is written into two of them, with old and new blocks in each other's place, and one sector, the inode's,
 * says that it is the map: move. Then what is behind the end is given up: tidy, on the volume mounted again. So each of its states is a file that
 * has all the blocks that are taken for it, and is a log in its first part.
 */
int ext4_short_log_prepare(struct ext4_short *s) __must_check;
/* On a volume that is open to be read as it lies. */
int ext4_short_log_move(struct ext4_super *es) __must_check;
int ext4_short_log_tidy(struct ext4_super *es) __must_check;

/* ---- shorten_end.c ---- */

/*
 * On a device whose volume is closed, and has nothing behind s->end. The new state is made in an overlay, and is one transaction of the journal;
 * before any of it goes home the superblock does, with the mark that the journal is to be applied: who mounts the volume looks at the
 * superblock before he applies a journal, and does not look again. Before that the mark is not there, and a journal without it is void.
 */
int ext4_short_end(const struct fs_type *type, struct blkdev *dev, const struct mount_opts *opts,
		   const struct ext4_short *s) __must_check;

#endif
