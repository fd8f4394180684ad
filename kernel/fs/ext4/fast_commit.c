/*
 * Fast commits, read. After its last full transaction the kernel may have made changes durable by a few records in an
 * area of their own at the journal's end. They count as long as that transaction is the last one, which is what the number in
 * them says: the one of the transaction that would come next.
 *
 * Interface
 * - ext4_fc_load: the records of all whole fast commits, checked in form. What they mean is fast_commit_apply.c's.
 *
 * Invariants
 * 1. A record counts only if a tail with the right number and checksum stands behind it, and behind every one before it.
 * 2. The first thing that is wrong is the end: that is how a crash while the area was written looks.
 * 3. Each record's length fits its tag, so its value may be read as that tag's structure.
 */
#include "ext4.h"

#include "lib/crc.h"
#include <errno.h>
#include <stdlib.h>

/* What an area can hold at most that is read at all: 2^32 - 1 bytes of offsets. */
#define BYTES_MAX (1u << 30)

struct fc_scan {
	struct ext4_super *es;
	struct ext4_fc_log *log;
	u32 tid;
	u32 crc;   /* since the last tail */
	u32 count; /* records, those of the fast commit in hand included */
	bool ended;
};

static bool len_fits(const struct ext4_super *es, u16 tag, u32 len)
{
	switch (tag) {
	case EXT4_FC_TAG_ADD_RANGE:
		return len == sizeof(struct ext4_disk_fc_add_range);
	case EXT4_FC_TAG_DEL_RANGE:
		return len == sizeof(struct ext4_disk_fc_del_range);
	case EXT4_FC_TAG_CREAT:
	case EXT4_FC_TAG_LINK:
	case EXT4_FC_TAG_UNLINK:
		return len > sizeof(struct ext4_disk_fc_name) &&
		       len <= sizeof(struct ext4_disk_fc_name) + EXT4_NAME_MAX;
	case EXT4_FC_TAG_INODE:
		return len >= sizeof(struct ext4_disk_fc_inode) + EXT4_INODE_BYTES_OLD &&
		       len <= sizeof(struct ext4_disk_fc_inode) + es->inode_bytes;
	case EXT4_FC_TAG_PAD:
		return true;
	case EXT4_FC_TAG_TAIL:
		return len >= sizeof(struct ext4_disk_fc_tail);
	case EXT4_FC_TAG_HEAD:
		return len == sizeof(struct ext4_disk_fc_head);
	default:
		return false;
	}
}

static int keep(struct fc_scan *s, u16 tag, u16 len, u32 at)
{
	struct ext4_fc_log *log = s->log;

	if (s->count == log->room) {
		u32 room = log->room ? 2 * log->room : 64;
		struct ext4_fc_record *more = realloc(log->record, room * sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory for fast commits");
		log->record = more;
		log->room = room;
	}
	log->record[s->count++] =
		(struct ext4_fc_record){ .tag = tag, .len = len, .at = at, .commit = log->commits };
	return 0;
}

/* A fast commit ends: it counts, or it and all that follows do not. */
static void on_tail(struct fc_scan *s, const struct ext4_disk_fc_tl *tl)
{
	const struct ext4_disk_fc_tail *tail = (const void *)(tl + 1);

	if (le32_get(tail->tid) != s->tid || le32_get(tail->crc) != ext4_csum_fc(s->crc, tl)) {
		s->ended = true;
		return;
	}
	s->log->count = s->count;
	s->log->commits++;
	s->crc = 0;
}

static int on_head(struct fc_scan *s, const struct ext4_disk_fc_head *head)
{
	if (le32_get(head->tid) != s->tid)
		s->ended = true;
	else if (le32_get(head->features))
		return fail(-EOPNOTSUPP, "the journal's fast commits have features that are not known: 0x%x",
			    le32_get(head->features));
	return 0;
}

/* One record, which lies within its block. */
static int on_record(struct fc_scan *s, const struct ext4_disk_fc_tl *tl, u32 at)
{
	u16 tag = le16_get(tl->tag), len = le16_get(tl->len);
	int err = 0;

	if (tag == EXT4_FC_TAG_TAIL) {
		on_tail(s, tl);
		return 0;
	}
	if (tag == EXT4_FC_TAG_HEAD)
		err = on_head(s, (const void *)(tl + 1));
	else if (tag != EXT4_FC_TAG_PAD)
		err = keep(s, tag, len, at + (u32)sizeof(*tl));
	s->crc = crc32c(s->crc, tl, sizeof(*tl) + len);
	return err;
}

/* The block that begins at `at`. */
static int scan_block(struct fc_scan *s, u32 at)
{
	u32 end = at + ext4_block_bytes(s->es);
	int err = 0;

	while (!err && !s->ended && end - at >= sizeof(struct ext4_disk_fc_tl)) {
		const struct ext4_disk_fc_tl *tl = (const void *)(s->log->bytes + at);
		u32 len = le16_get(tl->len);

		if (len > end - at - sizeof(*tl) || !len_fits(s->es, le16_get(tl->tag), len))
			s->ended = true;
		else
			err = on_record(s, tl, at);
		at += (u32)sizeof(*tl) + len;
	}
	return err;
}

static int scan(struct fc_scan *s, struct jbd2 *journal)
{
	u64 blocks = jbd2_info(journal)->fc_count;
	u32 bytes = ext4_block_bytes(s->es);

	blocks = MIN(blocks, (u64)(BYTES_MAX / bytes));
	for (u64 i = 0; i < blocks && !s->ended; i++) {
		u8 *more = realloc(s->log->bytes, (i + 1) * bytes);
		int err;

		if (!more)
			return fail(-ENOMEM, "no memory for fast commits");
		s->log->bytes = more;
		err = jbd2_fc_read(journal, i, more + i * bytes);
		if (err)
			return err;
		if (!i && le16_get(((const struct ext4_disk_fc_tl *)more)->tag) != EXT4_FC_TAG_HEAD)
			return 0;
		err = scan_block(s, (u32)i * bytes);
		if (err)
			return err;
	}
	return 0;
}

int ext4_fc_load(struct ext4_super *es, struct jbd2 *journal, u32 tid, struct ext4_fc_log *out)
{
	struct fc_scan s = { .es = es, .log = out, .tid = tid };
	int err;

	*out = (struct ext4_fc_log){ 0 };
	err = scan(&s, journal);
	if (err)
		ext4_fc_free(out);
	return err;
}

void ext4_fc_free(struct ext4_fc_log *log)
{
	free(log->record);
	free(log->bytes);
	*log = (struct ext4_fc_log){ 0 };
}
