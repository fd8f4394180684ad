/*
 * The journal's format: big endian throughout. Described in the kernel's
 * Documentation/filesystems/ext4/journal.rst.
 */
#ifndef JBD2_ONDISK_H
#define JBD2_ONDISK_H

#include "lib/disk.h"

#define JBD2_MAGIC      0xc03b3998u
#define JBD2_UUID_BYTES 16u

#define JBD2_DESCRIPTOR 1u
#define JBD2_COMMIT     2u
#define JBD2_SUPER_V1   3u /* without features */
#define JBD2_SUPER_V2   4u
#define JBD2_REVOKE     5u

/* At the start of every block of the log that is not the image of another. */
struct jbd2_disk_header {
	be32 magic;    /* 0x0 */
	be32 type;     /* 0x4 */
	be32 sequence; /* 0x8 the transaction's number */
};
DISK_SIZE(struct jbd2_disk_header, 12);

#define JBD2_CSUM_TYPE_CRC32  1u
#define JBD2_CSUM_TYPE_CRC32C 4u

/* The log's first block. */
struct jbd2_disk_super {
	struct jbd2_disk_header h; /* 0x000 */
	be32 block_bytes;          /* 0x00c */
	be32 blocks;               /* 0x010 length of the log */
	be32 first;                /* 0x014 first block of transactions */
	be32 sequence;             /* 0x018 of the oldest transaction in the log */
	be32 start;                /* 0x01c its first block; 0: the log is empty */
	be32 err;                  /* 0x020 why it was aborted, a negative errno */
	be32 compat;               /* 0x024 from here on: V2 */
	be32 incompat;             /* 0x028 */
	be32 ro_compat;            /* 0x02c */
	u8 uuid[16];               /* 0x030 */
	be32 users;                /* 0x040 volumes that share it */
	be32 super_copy;           /* 0x044 */
	be32 transaction_max;      /* 0x048 */
	be32 data_max;             /* 0x04c */
	u8 checksum_type;          /* 0x050 */
	u8 pad1[3];
	be32 fc_blocks; /* 0x054 at the end of the log; 0: the default */
	be32 head;      /* 0x058 end of the log when it was left empty */
	u8 pad2[160];
	be32 checksum;       /* 0x0fc crc32c of the structure with this field 0 */
	u8 user_ids[16][48]; /* 0x100 */
};
DISK_SIZE(struct jbd2_disk_super, 1024);
DISK_FIELD(struct jbd2_disk_super, err, 0x20);
DISK_FIELD(struct jbd2_disk_super, uuid, 0x30);
DISK_FIELD(struct jbd2_disk_super, fc_blocks, 0x54);
DISK_FIELD(struct jbd2_disk_super, checksum, 0xfc);

#define JBD2_FC_BLOCKS_DEFAULT 256u

/*
 * A descriptor block: header, tags, and with checksums v2 and v3 a tail in its last 4 bytes. A tag stands for one
 * of the blocks that follow in the log, in order. It takes, of the structures below,
 *
 *     8 bytes without 64-bit block numbers, 12 with them;
 *     10 and 14 with checksum v2, by an old mistake that became the format;
 *     16 with checksum v3;
 *
 * and 16 more for a UUID, unless it says JBD2_TAG_SAME_UUID.
 */
#define JBD2_TAG_ESCAPE    1u /* the block begins with the magic; in the log these bytes are 0 */
#define JBD2_TAG_SAME_UUID 2u
#define JBD2_TAG_DELETED   4u
#define JBD2_TAG_LAST      8u

struct jbd2_disk_tag {
	be32 blk;      /* 0x0 */
	be16 checksum; /* 0x4 v2: the low half of crc32c(sequence, block as in the log) */
	be16 flags;    /* 0x6 */
	be32 blk_high; /* 0x8 with 64-bit block numbers */
};
DISK_SIZE(struct jbd2_disk_tag, 12);

struct jbd2_disk_tag3 {
	be32 blk;      /* 0x0 */
	be32 flags;    /* 0x4 */
	be32 blk_high; /* 0x8 */
	be32 checksum; /* 0xc the whole crc32c */
};
DISK_SIZE(struct jbd2_disk_tag3, 16);

/* The last bytes of descriptor and revoke blocks with checksum v2 and v3: crc32c of the block with this field 0. */
struct jbd2_disk_tail {
	be32 checksum;
};
DISK_SIZE(struct jbd2_disk_tail, 4);

/* A revoke block: header, then block numbers, of 8 bytes with 64-bit block numbers and else 4. */
struct jbd2_disk_revoke {
	struct jbd2_disk_header h;
	be32 bytes; /* 0xc used in the block, this structure included */
};
DISK_SIZE(struct jbd2_disk_revoke, 16);

struct jbd2_disk_commit {
	struct jbd2_disk_header h;
	u8 checksum_type;  /* 0x0c v1 only */
	u8 checksum_bytes; /* 0x0d v1 only */
	u8 pad[2];
	be32 checksum
		[8]; /* 0x10 v1: crc32 of descriptors and blocks; v2, v3: crc32c of this block with [0] being 0 */
	be64 sec;  /* 0x30 when it was committed */
	be32 nsec; /* 0x38 */
};
DISK_SIZE(struct jbd2_disk_commit, 60);

#endif
