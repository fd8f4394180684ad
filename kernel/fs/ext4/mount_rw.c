/*
 * From read-only to read-write, and back.
 *
 *   opened as it lies ─ ext4_write_recover ─► opened again ─ ext4_write_open ─► written ─ ext4_write_close ─► clean
 *
 * Invariants
 *  1. With a journal the superblock says RECOVER before the first block is written, and stops saying so only after all
 *     is home and flushed; without one it stops being valid instead. Either is durable before anything else is.
 *  2. A volume that was not valid, or had errors, when it was opened is never called clean by us: only a check can do that.
 *  3. After an abort nothing is marked: the next mount recovers.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define COMMIT_S_MAX    300u
#define BATCH_COMMIT_MS 300000u /* what fills a quarter of the log is committed before */

/* ---- may it be written? ---- */

u32 ext4_groups_bad(const struct ext4_super *es)
{
	u32 bad = 0;

	for (u32 i = 0; i < es->groups; i++)
		bad += es->group[i].bad;
	return bad;
}

bool ext4_write_refused(const struct ext4_super *es, struct text *why)
{
	struct text names = { 0 };
	/* The journal may have them whole. */
	u32 bad = ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER) ? 0 : ext4_groups_bad(es);

	ext4_feature_unwritable(&es->disk, &names);
	if (names.len_bytes)
		text_add(why, "not written yet by this program: volumes with %s", text_str(&names));
	else if (es->cluster_bits && !ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS))
		text_add(why, "it has bigalloc without extent: check it first");
	else if (es->blocks & ((1u << es->cluster_bits) - 1))
		text_add(why, "its last cluster is not a whole one");
	else if (ext4_has_incompat(es, EXT4_INCOMPAT_CASEFOLD) &&
		 le16_get(es->disk.encoding) != EXT4_ENCODING_UTF8_12_1)
		text_add(why, "not written yet by this program: volumes with encoding %u of names",
			 le16_get(es->disk.encoding));
	else if (es->vfs.dev->sector_bytes > ext4_block_bytes(es))
		text_add(why, "the device's sectors of %u bytes are longer than the volume's blocks",
			 es->vfs.dev->sector_bytes);
	else if (bad)
		text_add(why, "%u group descriptors are damaged: check it first", bad);
	else if (es->from_copy || es->half_written)
		text_add(why, "its superblock is damaged: check it first");
	else if (ext4_sb_has_spare(&es->disk))
		text_add(why, "a check that mended it was broken off: check it again");
	else if (ext4_has_compat(es, EXT4_COMPAT_HAS_JOURNAL) && !ext4_journal_is_here(es))
		text_add(why, "its journal is on another device (--journal names it)");
	text_free(&names);
	return why->len_bytes;
}

/* ---- options ---- */

struct options {
	u32 commit_ms;
	u16 errors; /* 0: what the superblock says */
	u32 data;   /* EXT4_DEFM_JMODE_*; 0: what the superblock says */
	bool discard;
	bool no_limits; /* quotas are counted, and not enforced */
};

static bool word_is(const char *word, size_t len, const char *s)
{
	return strlen(s) == len && !memcmp(word, s, len);
}

static bool option_one(const char *w, size_t len, struct options *o)
{
	static const char *const errors[] = { "errors=continue", "errors=remount-ro", "errors=panic" };
	static const struct {
		const char *word;
		u32 mode;
	} data[] = { { "data=journal", EXT4_DEFM_JMODE_DATA },
		     { "data=ordered", EXT4_DEFM_JMODE_ORDERED },
		     { "data=writeback", EXT4_DEFM_JMODE_WRITEBACK } };

	for (u32 i = 0; i < ARRAY_SIZE(errors); i++)
		if (word_is(w, len, errors[i])) {
			o->errors = (u16)(i + EXT4_ERRORS_CONTINUE);
			return true;
		}
	for (u32 i = 0; i < ARRAY_SIZE(data); i++)
		if (word_is(w, len, data[i].word)) {
			o->data = data[i].mode;
			return true;
		}
	if (word_is(w, len, "discard") || word_is(w, len, "nodiscard")) {
		o->discard = *w == 'd';
		return true;
	}
	if (word_is(w, len, "noquota") || word_is(w, len, "quota")) {
		o->no_limits = *w == 'n';
		return true;
	}
	if (len > 7 && !memcmp(w, "commit=", 7)) {
		char *end;
		unsigned long s = strtoul(w + 7, &end, 10);

		o->commit_ms = (u32)s * 1000;
		return end == w + len && s <= COMMIT_S_MAX;
	}
	return false;
}

static int options_parse(const char *s, struct options *o)
{
	*o = (struct options){ 0 };
	while (s && *s) {
		size_t len = strcspn(s, ",");

		if (len && !option_one(s, len, o))
			return fail(-EINVAL, "option \"%.*s\" is not known to ext4", (int)len, s);
		s += len + (s[len] == ',');
	}
	return 0;
}

int ext4_options_check(const char *fs_opts)
{
	struct options o;

	return options_parse(fs_opts, &o);
}

/* ---- recovery, on the device ---- */

/* A number that no transaction in the log has, finished or not. */
static int log_next(struct ext4_super *es, struct jbd2 *journal, u32 *next)
{
	struct jbd2_recovery r = { 0 };
	struct blkdev *scratch;
	int err = dev_snap_new(es->vfs.dev, &scratch);

	if (err)
		return err;
	err = jbd2_recover(journal, scratch, &r);
	blkdev_put(scratch);
	/* One is left out, lest what an unfinished transaction left in the log be taken for ours. */
	*next = r.end + 1;
	return err;
}

static int log_discard(struct ext4_super *es)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct jbd2 *journal;
	u32 next;
	int err = ei ? ext4_journal_open(es, ei, &journal) : fail(-ENOMEM, "no memory for an inode");

	if (err)
		return err;
	if (jbd2_info(journal)->needs_recovery) {
		err = log_next(es, journal, &next);
		if (!err)
			err = jbd2_mark_empty(journal, es->vfs.dev, next);
	}
	jbd2_close(journal);
	return err;
}

int ext4_write_recover(struct ext4_super *es, struct ext4_replay *replay, bool *again)
{
	*again = false;
	*replay = (struct ext4_replay){ 0 };
	if (!ext4_journal_is_here(es))
		return 0;
	/* What a volume that was unmounted cleanly has in its log is void. */
	if (!ext4_has_incompat(es, EXT4_INCOMPAT_RECOVER))
		return log_discard(es);
	*again = true;
	return ext4_journal_replay(es, es->vfs.dev, true, replay);
}

/* ---- opening ---- */

static const struct jbd2_ops trans_ops = { .precommit = ext4_precommit, .committed = ext4_committed };

static int journal_start(struct ext4_super *es, const struct options *o)
{
	const struct jbd2_config config = {
		.target = es->vfs.dev,
		.ops = es->trans_ops,
		.priv = es,
		.commit_ms = o->commit_ms,
		.incompat_want = (ext4_has_incompat(es, EXT4_INCOMPAT_64BIT) ? JBD2_INCOMPAT_64BIT : 0) |
				 (es->metadata_csum ? JBD2_INCOMPAT_CSUM_V3 : 0),
	};
	int err;

	es->journal_inode = ext4_inode_alloc();
	if (!es->journal_inode)
		return fail(-ENOMEM, "no memory for an inode");
	err = ext4_journal_open(es, es->journal_inode, &es->journal);
	if (err) {
		es->journal = NULL;
		return err;
	}
	/* A former abort is remembered where a check looks for it. */
	if (jbd2_info(es->journal)->err)
		es->disk.state = le16_put(le16_get(es->disk.state) | EXT4_STATE_ERROR);
	return jbd2_start(es->journal, &config);
}

/* The superblock of a volume that is being written. */
static int mark_open(struct ext4_super *es)
{
	struct ext4_disk_super *d = &es->disk;
	u64 now = (u64)super_now(&es->vfs).sec;
	u16 state = le16_get(d->state);
	int err;

	es->was_valid = state & EXT4_STATE_VALID;
	if (es->journal)
		d->feature_incompat = le32_put(le32_get(d->feature_incompat) | EXT4_INCOMPAT_RECOVER);
	else
		d->state = le16_put(state & (u16)~EXT4_STATE_VALID);
	es->incompat = le32_get(d->feature_incompat);
	d->mnt_count = le16_put((u16)(le16_get(d->mnt_count) + 1));
	d->mtime = d->wtime = le32_put((u32)now);
	d->mtime_hi = d->wtime_hi = (u8)(now >> 32);
	ext4_errors_record(es);
	err = ext4_super_write(es);
	return err || !es->journal ? err : jbd2_error_told(es->journal);
}

/* Undoes what ext4_write_open did in memory. */
static void write_free(struct ext4_super *es)
{
	es->vfs.rdonly = true;
	jbd2_close(es->journal);
	es->journal = NULL;
	ext4_inode_free(es->journal_inode);
	es->journal_inode = NULL;
	ext4_quota_close(es);
	ext4_balloc_close(es);
	ext4_groups_close(es);
	ext4_super_release(es);
	ext4_xattr_cache_free(es);
	mutex_fini(&es->grow);
	mutex_fini(&es->super_lock);
	mutex_fini(&es->orphan_lock);
	mutex_fini(&es->xattr_lock);
	es->trans_ops = NULL;
}

/* Everything in memory that changing takes, but a journal. */
static int set_up(struct ext4_super *es)
{
	int err;

	es->trans_ops = &trans_ops;
	mutex_init(&es->grow, RANK_MOUNT);
	mutex_init(&es->super_lock, RANK_LEAF);
	mutex_init(&es->orphan_lock, RANK_ALLOC);
	mutex_init(&es->xattr_lock, RANK_EXTENT);
	if (es->vfs.scripted)
		es->next_generation = (u32)es->vfs.script.seed;
	else
		os_random(&es->next_generation, sizeof(es->next_generation));
	err = ext4_super_hold(es);
	if (!err)
		err = ext4_groups_open(es);
	if (!err)
		err = ext4_balloc_open(es);
	return err;
}

/* Where file data goes. */
static int set_data_mode(struct ext4_super *es, const struct options *o)
{
	u32 mode = o->data ? o->data : le32_get(es->disk.default_mount_opts) & EXT4_DEFM_JMODE;

	es->data_mode = mode == EXT4_DEFM_JMODE_DATA ? EXT4_DATA_JOURNAL : EXT4_DATA_ORDERED;
	return !o->data || ext4_journal_is_here(es)
		       ? 0
		       : fail(-EINVAL, "%s has no journal, so there is no data= to choose",
			      es->vfs.health.name);
}

int ext4_write_open(struct ext4_super *es, const struct mount_opts *opts, u32 *orphans)
{
	struct options o;
	int err = options_parse(opts->fs_opts, &o);

	*orphans = 0;
	if (!err)
		err = set_data_mode(es, &o);
	if (err)
		return err;
	es->errors = o.errors ? o.errors : le16_get(es->disk.errors);
	es->discard = o.discard;
	es->fresh = opts->fresh;
	if (opts->batch && !o.commit_ms)
		o.commit_ms = BATCH_COMMIT_MS;
	err = set_up(es);
	if (!err && ext4_journal_is_here(es) && !es->fresh)
		err = journal_start(es, &o);
	if (!err)
		err = ext4_quota_open(es, !o.no_limits);
	if (!err)
		err = ext4_orphan_open(es);
	if (!err)
		err = mark_open(es);
	if (err) {
		write_free(es);
		return err;
	}
	es->vfs.rdonly = false;
	err = ext4_orphan_cleanup(es, orphans);
	/* What could not be dealt with stays on the list, for a check. */
	if (!err)
		err = ext4_upkeep_start(es);
	if (err && ext4_write_close(es))
		log_debug("%s: closed with an error too", es->vfs.health.name);
	return err;
}

/* ---- fast commits ---- */

int ext4_write_scratch(struct ext4_super *es, int (*change)(struct ext4_super *es, void *ctx), void *ctx)
{
	int err = set_up(es);

	if (!err) {
		es->vfs.rdonly = false;
		err = change(es, ctx);
	}
	/* What was met after the last handle. */
	if (!err && ext4_errors_new(es)) {
		ext4_errors_record(es);
		ext4_super_fill(es);
	}
	if (!err)
		err = bcache_sync(es->vfs.dev);
	if (!err && health_state(&es->vfs.health) >= HEALTH_ABORTED)
		err = fail(-EIO, "%s: the volume cannot be changed", es->vfs.health.name);
	write_free(es);
	return err;
}

static int apply_fast_commits(struct ext4_super *es, void *fast_commits)
{
	return ext4_fc_apply(es, fast_commits);
}

int ext4_write_fast_commits(struct ext4_super *es, struct ext4_fc_log *fast_commits)
{
	return ext4_write_scratch(es, apply_fast_commits, fast_commits);
}

/* Blocks in which an overlay differs. */
struct taken {
	u32 count;
	struct jbd2_handle *h;   /* in it; NULL: they are counted */
	struct buffer_head **bh; /* referenced, and not to go home; NULL: they may */
};

static int take_block(struct ext4_super *es, u64 blk, const void *bytes, struct taken *t)
{
	const struct bh_ctx ctx = { { 0 } };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = bh_read(es->vfs.dev, blk, NULL, &ctx, &bh);

	if (err || !memcmp(bh->data, bytes, bh->size_bytes))
		return err;
	t->count++;
	if (!t->h)
		return 0;
	err = jbd2_access(t->h, bh);
	if (err)
		return err;
	memcpy(bh->data, bytes, bh->size_bytes);
	jbd2_dirty(t->h, bh);
	if (!t->bh)
		return 0;
	bh_lock(bh);
	bh_pin(bh);
	bh_unlock(bh);
	t->bh[t->count - 1] = take(bh);
	return 0;
}

/* They may go home. */
static void let_go(struct taken *t)
{
	for (u32 i = 0; t->bh && i < t->count; i++) {
		bh_lock(t->bh[i]);
		bh_unpin(t->bh[i]);
		bh_unlock(t->bh[i]);
		bh_put(t->bh[i]);
	}
	free(t->bh);
	t->bh = NULL;
}

/* Every block that one of the overlays has and in which it differs. */
static int take_blocks(struct ext4_super *es, struct blkdev *overlay, struct blkdev *top, struct taken *t)
{
	u32 bytes = ext4_block_bytes(es), span = MAX(bytes, DEV_SNAP_UNIT_BYTES);
	struct blkdev *from = top ? top : overlay;
	scoped(freep) u8 *piece = malloc(span);
	int err = piece ? 0 : fail(-ENOMEM, "no memory for blocks");

	t->count = 0;
	for (u64 off = 0; !err; off += span) {
		u64 len;

		off = MIN(dev_snap_next(overlay, off), top ? dev_snap_next(top, off) : ~0ull);
		if (off == ~0ull)
			break;
		off = ALIGN_DOWN(off, (u64)span);
		len = MIN((u64)span, from->size_bytes - off);
		err = blkdev_read(from, off, piece, len);
		for (u64 at = 0; !err && at + bytes <= len; at += bytes)
			err = take_block(es, (off + at) >> es->block_bits, piece + at, t);
	}
	return err;
}

int ext4_overlay_blocks(struct ext4_super *es, struct blkdev *overlay, u32 *count)
{
	struct taken t = { .h = NULL };
	int err = take_blocks(es, overlay, NULL, &t);

	*count = t.count;
	return err;
}

/* Durable in the log, and then the superblock, before anything of it goes home. */
static int commit_under(struct ext4_super *es, struct jbd2 *journal, u32 tid,
			const struct ext4_disk_super *first)
{
	int err = jbd2_commit(journal, tid);

	if (!err)
		err = ext4_super_put(es->vfs.dev, first);
	return err ? err : blkdev_flush(es->vfs.dev);
}

static int write_taken(struct ext4_super *es, struct jbd2 *journal, struct blkdev *overlay,
		       struct blkdev *top, const struct ext4_disk_super *first)
{
	struct taken t = { .h = NULL };
	struct jbd2_handle h;
	int err = take_blocks(es, overlay, top, &t);

	if (!err)
		err = jbd2_begin(journal, t.count, 0, &h);
	if (err == -ENOSPC)
		err = fail(err, "the %u blocks that are to change do not fit into its journal", t.count);
	if (err)
		return err;
	t.h = &h;
	if (first) {
		t.bh = calloc(t.count + 1, sizeof(struct buffer_head *));
		err = t.bh ? 0 : fail(-ENOMEM, "no memory for blocks that change");
	}
	if (!err)
		err = take_blocks(es, overlay, top, &t);
	if (err)
		jbd2_abort(journal, err);
	jbd2_end(&h);
	if (!err && first)
		err = commit_under(es, journal, h.tid, first);
	if (err && first)
		jbd2_abort(journal, err);
	let_go(&t);
	return err ? err : jbd2_stop(journal);
}

int ext4_write_overlay(struct ext4_super *es, struct blkdev *overlay, struct blkdev *top,
		       const struct jbd2_recovery *log, const struct ext4_disk_super *first)
{
	const struct jbd2_ops none = { 0 };
	struct jbd2_config config = { .target = es->vfs.dev, .ops = &none, .resume = log, .alone = true };
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct jbd2 *journal;
	int err;

	if (!ei)
		return fail(-ENOMEM, "no memory for an inode");
	err = ext4_journal_open(es, ei, &journal);
	if (err)
		return err;
	err = jbd2_start(journal, &config);
	if (!err)
		err = write_taken(es, journal, overlay, top, first);
	jbd2_close(journal);
	return err;
}

/* ---- closing ---- */

int ext4_sync(struct super_block *sb)
{
	struct ext4_super *es = ext4_super(sb);
	int err = es->journal ? jbd2_flush(es->journal, false) : bcache_sync(sb->dev);
	int flush = ext4_flush(es);

	return err ? err : flush;
}

/* The superblock of a volume that is written no more. */
static int mark_closed(struct ext4_super *es)
{
	struct ext4_disk_super *d = &es->disk;
	u64 now = (u64)super_now(&es->vfs).sec;

	ext4_orphan_close(es);
	ext4_errors_record(es);
	d->feature_incompat = le32_put(le32_get(d->feature_incompat) & ~EXT4_INCOMPAT_RECOVER);
	es->incompat = le32_get(d->feature_incompat);
	if (es->was_valid)
		d->state = le16_put(le16_get(d->state) | EXT4_STATE_VALID);
	d->wtime = le32_put((u32)now);
	d->wtime_hi = (u8)(now >> 32);
	return ext4_super_write(es);
}

int ext4_write_close(struct ext4_super *es)
{
	struct ext4_features want;
	u32 tid;
	int err;

	if (es->vfs.rdonly)
		return 0;
	ext4_mmp_watch(es, false);
	ext4_upkeep_stop(es);
	err = es->journal ? jbd2_stop(es->journal) : ext4_sync(&es->vfs);
	if (!err && health_state(&es->vfs.health) >= HEALTH_ABORTED)
		err = fail(-EIO, "%s: not marked clean, since writing failed before", es->vfs.health.name);
	if (!err)
		err = mark_closed(es);
	if (!err && ext4_copies_take(es, &want, &tid))
		ext4_copies_write(es, &want);
	write_free(es);
	return err;
}
