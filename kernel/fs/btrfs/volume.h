/* Inside the volume: what chunk, raid and volume share. */
#ifndef BTRFS_VOLUME_H
#define BTRFS_VOLUME_H

#include "btrfs.h"

struct btrfs_volume {
	struct blkdev dev;            /* the logical address space */
	struct health *health;        /* [const] */
	struct btrfs_device **device; /* [const after ready] */
	u32 device_count;
	struct btrfs_chunk **chunk; /* [const after ready] by address, without overlap */
	u32 chunk_count;
	u32 sector_bytes; /* [const] */
	u64 incompat;     /* [const] of the superblock */
	u64 generation;   /* [const] of the superblock */
	u8 fsid[16];      /* [const] */
	u8 dev_fsid[16];  /* [const] what its device items carry: seeds' carry their own */
	/* Devices of other volumes that were given too: seeds, once a device item names them. */
	struct btrfs_stray {
		struct blkdev *dev;
		u8 fsid[16], uuid[16];
		u64 devid;
	} * stray;
	u32 stray_count;
};

/* ---- device.c ---- */

/* More than a chunk can name in any node. */
#define BTRFS_DEVICES_MAX 4096u
/* One more device of the volume; dev NULL: missing. Takes its own reference. -EUCLEAN: there cannot be so many. */
int btrfs_device_add(struct btrfs_volume *v, u64 devid, const u8 *uuid, struct blkdev *dev,
		     struct btrfs_device **out) __must_check;

/* ---- chunk.c ---- */

/* How many stripes of it hold data in each row, and how many parity. */
u32 btrfs_chunk_data_stripes(const struct btrfs_chunk *c);
u32 btrfs_chunk_parity(const struct btrfs_chunk *c);
/* Bytes that the chunk takes on each of its stripes. */
u64 btrfs_chunk_stripe_bytes(const struct btrfs_chunk *c);

/* ---- raid.c: where bytes lie; pure functions ---- */

#define BTRFS_NO_STRIPE (~0u)

/* A run of logical bytes that stays within one stripe, read in one way. */
struct btrfs_piece {
	u64 len_bytes; /* at most what was asked for */
	u64 in_stripe; /* bytes from each stripe's start on its device */
	u32 stripe;    /* whose bytes they are */
	/* Of RAID5 and RAID6, when they must be made from the others: */
	bool rebuild;
	u32 row;   /* which turns the roles of stripes */
	u32 data;  /* the role: the nth data stripe */
	u32 other; /* role that is not to be trusted either; BTRFS_NO_STRIPE: none */
};
enum btrfs_there {
	BTRFS_MISSING,
	BTRFS_BEHIND, /* can be read, but its device missed commits: what no checksum covers may be old */
	BTRFS_THERE,
};
/* `copy` as bio.copy counts. `state(ctx, stripe)` tells which stripes can be read. -EIO: no such copy, or not enough is there. */
int btrfs_piece_find(const struct btrfs_chunk *c, u64 logical, u64 len_bytes, u32 copy,
		     enum btrfs_there (*state)(const void *ctx, const struct btrfs_chunk *c, u32 stripe),
		     const void *ctx, struct btrfs_piece *out) __must_check;
/* The stripe that has a role in a row: data stripes are 0 …, then P, then Q. */
u32 btrfs_stripe_of_role(const struct btrfs_chunk *c, u32 row, u32 role);

/* ---- raid56.c: making what is missing ---- */

/*
 * What each readable role contributes to the bytes of role `data`: a factor in GF(2^8), polynomial 0x11d; 0: it is not needed. `bad[role]`: cannot be
 * used (data itself is). factor has room for data + parity roles. -EIO: too many are bad.
 */
int btrfs_raid56_factors(u32 data_stripes, u32 parity, u32 data, const bool *bad, u8 *factor) __must_check;
/* out = the sum of factor[i] times src[i], i < n. */
void btrfs_raid56_combine(u32 n, const u8 *factor, u8 *const *src, u8 *out, u32 len_bytes);
/* What P, or Q, of a row is to be; at most 255 data stripes. */
void btrfs_raid56_parity(u32 data_stripes, bool q, u8 *const *data, u8 *out, u32 len_bytes);

#endif
