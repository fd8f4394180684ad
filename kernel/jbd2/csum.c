/*
 * Checksums v2 and v3: crc32c, started from the journal's UUID, over each block of the log with the sum's own
 * field taken as 0. (v1, one crc32 over a whole transaction, is the scan's and the commit's: recovery.c, commit.c.)
 */
#include "journal.h"

#include "lib/crc.h"

/* crc32c of the block, its 4 bytes at `at` taken as 0. */
static u32 csum_around(u32 seed, const void *block, u64 bytes, u64 at)
{
	static const be32 zero;
	u32 crc = crc32c(seed, block, at);

	crc = crc32c(crc, &zero, sizeof(zero));
	return crc32c(crc, (const u8 *)block + at + sizeof(zero), bytes - at - sizeof(zero));
}

u32 jbd2_super_csum(const struct jbd2_disk_super *sb)
{
	return csum_around(~0u, sb, sizeof(*sb), offsetof(struct jbd2_disk_super, checksum));
}

bool jbd2_tail_good(const struct jbd2 *j, const void *block)
{
	u64 at = j->info.block_bytes - sizeof(struct jbd2_disk_tail);
	const struct jbd2_disk_tail *tail = (const void *)((const u8 *)block + at);

	return !jbd2_csums(j) ||
	       be32_get(tail->checksum) == csum_around(j->seed, block, j->info.block_bytes, at);
}

void jbd2_tail_set(const struct jbd2 *j, void *block)
{
	u64 at = j->info.block_bytes - sizeof(struct jbd2_disk_tail);
	struct jbd2_disk_tail *tail = (void *)((u8 *)block + at);

	if (jbd2_csums(j))
		tail->checksum = be32_put(csum_around(j->seed, block, j->info.block_bytes, at));
}

void jbd2_commit_set(const struct jbd2 *j, void *block)
{
	struct jbd2_disk_commit *c = block;

	if (jbd2_csums(j))
		c->checksum[0] = be32_put(csum_around(j->seed, block, j->info.block_bytes,
						      offsetof(struct jbd2_disk_commit, checksum)));
}

bool jbd2_commit_good(const struct jbd2 *j, const void *block)
{
	const struct jbd2_disk_commit *c = block;
	u64 at = offsetof(struct jbd2_disk_commit, checksum);
	u32 crc;

	if (!jbd2_csums(j))
		return true;
	if (be32_get(c->checksum[0]) == csum_around(j->seed, block, j->info.block_bytes, at))
		return true;
	crc = csum_around(j->seed, block, sizeof(*c), at);
	for (u64 i = sizeof(*c); i < j->info.block_bytes; i++)
		crc = crc32c(crc, "", 1);
	return be32_get(c->checksum[0]) == crc;
}

static u32 tag_csum(const struct jbd2 *j, u32 sequence, const void *block)
{
	be32 seq = be32_put(sequence);

	return crc32c(crc32c(j->seed, &seq, sizeof(seq)), block, j->info.block_bytes);
}

bool jbd2_tag_good(const struct jbd2 *j, const void *tag, u32 sequence, const void *block)
{
	u32 crc;

	if (!jbd2_csums(j))
		return true;
	crc = tag_csum(j, sequence, block);
	if (jbd2_has(j, JBD2_INCOMPAT_CSUM_V3))
		return be32_get(((const struct jbd2_disk_tag3 *)tag)->checksum) == crc;
	return be16_get(((const struct jbd2_disk_tag *)tag)->checksum) == (u16)crc;
}

void jbd2_tag_set(const struct jbd2 *j, void *tag, u32 sequence, const void *block)
{
	if (jbd2_has(j, JBD2_INCOMPAT_CSUM_V3))
		((struct jbd2_disk_tag3 *)tag)->checksum = be32_put(tag_csum(j, sequence, block));
	else if (jbd2_csums(j))
		((struct jbd2_disk_tag *)tag)->checksum = be16_put((u16)tag_csum(j, sequence, block));
}
