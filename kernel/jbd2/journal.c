/*
 * A log on its device: opening it, where its blocks lie, reading and writing them, and its superblock.
 *
 * The superblock's block is kept as it was read, so that what we do not know of stays as it is. Each write of it is
 * made durable by the caller's flush, or by FUA when it must be before anything else happens.
 */
#include "journal.h"

#include "lib/crc.h"
#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INCOMPAT_KNOWN                                                                                     \
	(JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_ASYNC_COMMIT | JBD2_INCOMPAT_CSUM_V2 | \
	 JBD2_INCOMPAT_CSUM_V3 | JBD2_INCOMPAT_FAST_COMMIT)

#define SCAN_BYTES     (1u << 20)
#define LOG_BLOCKS_MIN 1024u /* beside a fast-commit area */

/* Finds the piece of the device that holds the log's blocks from lblk on, at most *count of them. */
static int piece(struct jbd2 *j, u64 lblk, u64 *blk, u64 *count)
{
	const struct jbd2_where *w = &j->where;
	u64 last = w->dev->size_bytes / w->block_bytes, n = *count;
	int err;

	if (w->map) {
		err = w->map(w->priv, lblk, blk, &n);
		if (err)
			return err;
		/* A hole in the log's file. */
		n = *blk ? MIN(n, *count) : 0;
	} else {
		*blk = w->first_blk + lblk;
	}
	if (!n || *blk >= last || n > last - *blk)
		return corrupt(j->health, "journal block", lblk, "does not lie on the device");
	*count = n;
	return 0;
}

/* The same from the map that jbd2_map_all made. */
static int mapped(struct jbd2 *j, u64 lblk, u64 *blk, u64 *count)
{
	u32 lo = 0, hi = j->runs_count;

	if (!hi)
		return piece(j, lblk, blk, count);
	while (hi - lo > 1) {
		u32 mid = lo + (hi - lo) / 2;

		if (j->runs[mid].lblk <= lblk)
			lo = mid;
		else
			hi = mid;
	}
	*blk = j->runs[lo].blk + (lblk - j->runs[lo].lblk);
	*count = MIN(*count, j->runs[lo].lblk + j->runs[lo].len - lblk);
	return 0;
}

int jbd2_map_all(struct jbd2 *j)
{
	u64 blocks = j->info.blocks;
	u32 room = 0;

	for (u64 lblk = 0; lblk < blocks;) {
		struct log_run run = { .lblk = lblk, .len = blocks - lblk };
		struct log_run *last = j->runs_count ? &j->runs[j->runs_count - 1] : NULL;
		int err = piece(j, lblk, &run.blk, &run.len);

		if (err)
			return err;
		lblk += run.len;
		if (last && last->blk + last->len == run.blk) {
			last->len += run.len;
			continue;
		}
		if (j->runs_count == room) {
			struct log_run *more;

			room = room ? 2 * room : 16;
			more = realloc(j->runs, room * sizeof(*more));
			if (!more)
				return fail(-ENOMEM, "no memory for a journal's map");
			j->runs = more;
		}
		j->runs[j->runs_count++] = run;
	}
	return 0;
}

void jbd2_map_drop(struct jbd2 *j)
{
	free(j->runs);
	j->runs = NULL;
	j->runs_count = 0;
}

int jbd2_write(struct jbd2 *j, u64 lblk, u64 n, const void *buf, u32 bio_flags)
{
	u64 bytes = j->where.block_bytes;

	while (n) {
		u64 blk, now = lblk < j->info.end ? MIN(n, j->info.end - lblk) : n;
		int err = mapped(j, lblk, &blk, &now);

		if (!err)
			err = blkdev_write(j->where.dev, blk * bytes, buf, now * bytes, bio_flags);
		if (err)
			return err;
		buf = (const u8 *)buf + now * bytes;
		lblk += now;
		n -= now;
		if (lblk == j->info.end)
			lblk = j->info.first;
	}
	return 0;
}

int jbd2_read(struct jbd2 *j, u64 lblk, u64 n, void *buf)
{
	u64 bytes = j->where.block_bytes;

	while (n) {
		u64 blk, now = n;
		int err = piece(j, lblk, &blk, &now);

		if (!err)
			err = blkdev_read(j->where.dev, blk * bytes, buf, now * bytes);
		if (err)
			return err;
		buf = (u8 *)buf + now * bytes;
		lblk += now;
		n -= now;
	}
	return 0;
}

static int bad(const struct jbd2 *j, const char *what)
{
	return corrupt(j->health, "journal block", 0, "%s", what);
}

/* Features, and the checksum that they promise. */
static int check_features(struct jbd2 *j, const struct jbd2_disk_super *sb)
{
	struct jbd2_info *i = &j->info;
	u32 both = JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3;

	if (be32_get(sb->h.type) == JBD2_SUPER_V1)
		return 0;
	i->compat = be32_get(sb->compat);
	i->incompat = be32_get(sb->incompat);
	if (i->incompat & ~INCOMPAT_KNOWN || be32_get(sb->ro_compat))
		return fail(-EOPNOTSUPP,
			    "the journal has features that are not known: incompat 0x%x, ro_compat 0x%x",
			    i->incompat & ~INCOMPAT_KNOWN, be32_get(sb->ro_compat));
	if ((i->incompat & both) == both)
		return bad(j, "checksum v2 and v3 exclude each other");
	if (!(i->incompat & both))
		return 0;
	if (i->compat & JBD2_COMPAT_CHECKSUM)
		return bad(j, "checksum v1 and later ones exclude each other");
	if (sb->checksum_type != JBD2_CSUM_TYPE_CRC32C)
		return fail(-EOPNOTSUPP, "the journal has checksums of type %u, which is not known",
			    sb->checksum_type);
	if (be32_get(sb->checksum) != jbd2_super_csum(sb))
		return bad(j, "the superblock's checksum is wrong");
	return 0;
}

/* The log's extent, and what of it is for fast commits. */
static int check_extent(struct jbd2 *j, const struct jbd2_disk_super *sb)
{
	struct jbd2_info *i = &j->info;
	u64 fc = be32_get(sb->fc_blocks);

	if (be32_get(sb->block_bytes) != j->where.block_bytes)
		return corrupt(j->health, "journal block", 0, "blocks of %u bytes on a volume with %u",
			       be32_get(sb->block_bytes), j->where.block_bytes);
	i->blocks = be32_get(sb->blocks);
	if (i->blocks > j->where.blocks)
		return corrupt(j->health, "journal block", 0, "a log of %llu blocks has room for %llu",
			       (unsigned long long)i->blocks, (unsigned long long)j->where.blocks);
	i->first = be32_get(sb->first);
	i->end = i->blocks;
	if (jbd2_has(j, JBD2_INCOMPAT_FAST_COMMIT)) {
		fc = fc ? fc : JBD2_FC_BLOCKS_DEFAULT;
		if (i->blocks < LOG_BLOCKS_MIN || fc > i->blocks - LOG_BLOCKS_MIN)
			return bad(j, "the fast-commit area leaves no room for the log");
		/* The block between log and area is nobody's. */
		i->end = i->blocks - fc;
		i->fc_first = i->end + 1;
		i->fc_count = fc - 1;
	}
	if (!i->first || i->first >= i->end)
		return bad(j, "the log begins where it cannot");
	i->start = be32_get(sb->start);
	if (i->start && (i->start < i->first || i->start >= i->end))
		return bad(j, "the oldest transaction begins outside of the log");
	return 0;
}

static int read_super(struct jbd2 *j)
{
	struct jbd2_disk_super *sb = os_alloc_aligned(4096, j->where.block_bytes);
	int err;

	if (!sb)
		return fail(-ENOMEM, "no memory for a journal");
	j->super = sb;
	err = jbd2_read(j, 0, 1, sb);
	if (err)
		return err;
	if (be32_get(sb->h.magic) != JBD2_MAGIC ||
	    (be32_get(sb->h.type) != JBD2_SUPER_V1 && be32_get(sb->h.type) != JBD2_SUPER_V2))
		return bad(j, "no journal superblock");
	err = check_features(j, sb);
	if (!err)
		err = check_extent(j, sb);
	j->info.block_bytes = j->where.block_bytes;
	j->info.sequence = be32_get(sb->sequence);
	j->info.err = (s32)be32_get(sb->err);
	j->info.users = be32_get(sb->h.type) == JBD2_SUPER_V2 ? be32_get(sb->users) : 1;
	j->info.needs_recovery = j->info.start;
	memcpy(j->info.uuid, sb->uuid, sizeof(sb->uuid));
	j->seed = crc32c(~0u, sb->uuid, sizeof(sb->uuid));
	return err;
}

void jbd2_features_set(struct jbd2 *j, u32 incompat, bool fast_commits)
{
	struct jbd2_disk_super *sb = j->super;
	struct jbd2_info *i = &j->info;

	mutex_guard(&j->super_lock);
	if (be32_get(sb->h.type) == JBD2_SUPER_V1) {
		/* What lies behind the members of the first version means nothing there. */
		memset(&sb->compat, 0, j->where.block_bytes - offsetof(struct jbd2_disk_super, compat));
		sb->h.type = be32_put(JBD2_SUPER_V2);
		sb->users = be32_put(1);
		memset(i->uuid, 0, sizeof(i->uuid));
		j->seed = crc32c(~0u, sb->uuid, sizeof(sb->uuid));
	}
	if (incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3)) {
		i->incompat &= ~(JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3);
		i->compat &= ~JBD2_COMPAT_CHECKSUM;
		sb->checksum_type = JBD2_CSUM_TYPE_CRC32C;
	}
	i->incompat |= incompat;
	/* Nobody makes fast commits here: all of the log is ours, as it is for whoever reads a superblock without the feature. (e2fsck
	 * 1.47.0 does not read past the end of a log that has it.) */
	if (i->fc_count)
		j->fc_void = i->fc_first;
	if (!fast_commits) {
		i->incompat &= ~JBD2_INCOMPAT_FAST_COMMIT;
		i->end = i->blocks;
		i->fc_first = i->fc_count = 0;
	}
	sb->compat = be32_put(i->compat);
	sb->incompat = be32_put(i->incompat);
}

/* Locks: super_lock. */
static int put_super(struct jbd2 *j, u32 bio_flags)
{
	struct jbd2_disk_super *sb = j->super;

	if (jbd2_csums(j))
		sb->checksum = be32_put(jbd2_super_csum(sb));
	return jbd2_write(j, 0, 1, sb, bio_flags);
}

int jbd2_super_write(struct jbd2 *j, u64 start, u32 sequence, u32 bio_flags)
{
	struct jbd2_disk_super *sb = j->super;

	mutex_guard(&j->super_lock);
	sb->start = be32_put((u32)start);
	sb->sequence = be32_put(sequence);
	sb->head = be32_put(0);
	j->info.start = start;
	j->info.sequence = sequence;
	j->info.needs_recovery = start;
	return put_super(j, bio_flags);
}

int jbd2_super_error(struct jbd2 *j, int err)
{
	mutex_guard(&j->super_lock);
	j->info.err = err;
	j->super->err = be32_put((u32)err);
	return put_super(j, BIO_FUA);
}

int jbd2_mark_empty(struct jbd2 *j, struct blkdev *target, u32 next)
{
	int err = j->started ? fail(-EINVAL, "the journal is in use") : blkdev_flush(target);

	return err ? err : jbd2_super_write(j, 0, next, BIO_FUA);
}

int jbd2_error_told(struct jbd2 *j)
{
	return j->info.err ? jbd2_super_error(j, 0) : 0;
}

int jbd2_open(const struct jbd2_where *where, struct health *health, struct jbd2 **out)
{
	struct jbd2 *j;
	int err;

	if (!is_pow2(where->block_bytes) || where->block_bytes < 1024 || where->block_bytes > 65536)
		return fail(-EINVAL, "a journal with blocks of %u bytes", where->block_bytes);
	j = calloc(1, sizeof(*j));
	if (!j)
		return fail(-ENOMEM, "no memory for a journal");
	j->where = *where;
	j->health = health;
	mutex_init(&j->super_lock, RANK_JOURNAL);
	blkdev_get(where->dev);
	err = where->blocks ? read_super(j) : bad(j, "the log has no blocks");
	if (err) {
		jbd2_free(j);
		return err;
	}
	*out = j;
	return 0;
}

void jbd2_free(struct jbd2 *j)
{
	jbd2_map_drop(j);
	mutex_fini(&j->super_lock);
	blkdev_put(j->where.dev);
	free(j->super);
	free(j);
}

const struct jbd2_info *jbd2_info(const struct jbd2 *j)
{
	return &j->info;
}

int jbd2_fc_read(struct jbd2 *j, u64 index, void *buf)
{
	if (index >= j->info.fc_count)
		return fail(-EINVAL, "the fast-commit area has no block %llu", (unsigned long long)index);
	return jbd2_read(j, j->info.fc_first + index, 1, buf);
}

int jbd2_sequence_behind(struct jbd2 *j, u32 *next)
{
	u32 most = 0, batch = MAX(SCAN_BYTES / j->info.block_bytes, 1u);
	u8 *buf = malloc((size_t)batch * j->info.block_bytes);
	int err = buf ? 0 : fail(-ENOMEM, "no memory for reading a journal");

	for (u64 at = 1; at < j->info.blocks && !err; at += batch) {
		u32 n = (u32)MIN((u64)batch, j->info.blocks - at);

		err = jbd2_read(j, at, n, buf);
		for (u32 i = 0; i < n && !err; i++) {
			const struct jbd2_disk_header *h =
				(const void *)(buf + (size_t)i * j->info.block_bytes);

			if (be32_get(h->magic) == JBD2_MAGIC)
				most = MAX(most, be32_get(h->sequence));
		}
	}
	free(buf);
	/* Two on: the last one may have been unfinished. Numbers that wrap around are met again after 2^32 transactions only. */
	*next = most < UINT32_MAX - 2 ? most + 2 : 1;
	return err;
}

void jbd2_super_new(void *super, u32 block_bytes, u32 blocks, const u8 uuid[16])
{
	struct jbd2_disk_super *d = super;

	_Static_assert(sizeof(*d) == JBD2_SUPER_BYTES, "as the header says");
	memset(d, 0, sizeof(*d));
	d->h.magic = be32_put(JBD2_MAGIC);
	d->h.type = be32_put(JBD2_SUPER_V2);
	d->block_bytes = be32_put(block_bytes);
	d->blocks = be32_put(blocks);
	d->first = be32_put(1);
	d->sequence = be32_put(1);
	d->users = be32_put(1);
	memcpy(d->uuid, uuid, sizeof(d->uuid));
}

bool jbd2_super_is_likely(const void *super, u32 block_bytes)
{
	const struct jbd2_disk_super *d = super;
	u32 type = be32_get(d->h.type);

	return be32_get(d->h.magic) == JBD2_MAGIC ||
	       ((type == JBD2_SUPER_V1 || type == JBD2_SUPER_V2) && be32_get(d->block_bytes) == block_bytes);
}
