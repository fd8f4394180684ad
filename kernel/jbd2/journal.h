/* The inside of the journal: what its files share. Lowest first: csum journal revoke recovery. */
#ifndef JBD2_JOURNAL_H
#define JBD2_JOURNAL_H

#include "jbd2/jbd2.h"
#include "ondisk.h"

struct jbd2 {
	struct jbd2_where where; /* [const] the device is referenced */
	struct jbd2_info info;   /* [const] */
	struct health *health;   /* [const] may be NULL */
	u32 seed;                /* [const] of checksums v2 and v3 */
};

static inline bool jbd2_has(const struct jbd2 *j, u32 incompat)
{
	return j->info.incompat & incompat;
}

/* Checksums v2 or v3: descriptors, revoke blocks, tags and commits have their own. */
static inline bool jbd2_csums(const struct jbd2 *j)
{
	return jbd2_has(j, JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
}

static inline bool tid_gt(u32 a, u32 b)
{
	return (s32)(a - b) > 0;
}

/* ---- csum.c: true when the sum is right, or the journal keeps none of the kind ---- */

u32 jbd2_super_csum(const struct jbd2_disk_super *sb);
/* A descriptor or revoke block. */
bool jbd2_tail_good(const struct jbd2 *j, const void *block);
/* A commit block, v2 and v3. The kernel takes one of which only the structure arrived, the rest being 0, too. */
bool jbd2_commit_good(const struct jbd2 *j, const void *block);
/* The image of a block, as it lies in the log. */
bool jbd2_tag_good(const struct jbd2 *j, const void *tag, u32 sequence, const void *block);

/* ---- journal.c ---- */

/* Reads n blocks of the log, from lblk on; they lie within it. */
int jbd2_read(struct jbd2 *j, u64 lblk, u64 n, void *buf) __must_check;

/* ---- revoke.c ---- */

/* The blocks that the log has images of, and the last transaction that revoked each. */
struct revoke_table;

int revoke_new(struct revoke_table **out) __must_check;
/* NULL is ignored. */
void revoke_free(struct revoke_table *t);
/* The log has an image of blk. */
int revoke_note(struct revoke_table *t, u64 blk) __must_check;
/* blk was revoked in the transaction. Nothing happens if no image of it was noted. */
void revoke_set(struct revoke_table *t, u64 blk, u32 sequence);
/* Whether an image of blk in the transaction is void: revoked in it or later. */
bool revoke_test(const struct revoke_table *t, u64 blk, u32 sequence);

#endif
