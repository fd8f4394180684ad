/*
 * The volume in memory: made from a superblock that sb.c believes, and ended.
 *
 *   read-only    opened as it lies; when it needs recovery, opened again through an overlay in memory that has its journal applied
 *   read-write   recovered on the device, opened again, and handed to mount_rw.c; where that is refused, read-only, and
 *                sb->notice says why
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Blocks that no file can have: what the superblock says, or what the layout says. */
static void fill_overhead(struct ext4_super *es)
{
	u64 n = le32_get(es->disk.overhead_clusters);

	if (!n || n > es->blocks >> es->cluster_bits) {
		n = es->first_data_blk;
		for (u32 group = 0; group < es->groups; group++)
			n += ext4_group_base_blocks(es, group) + 2 + es->itable_blocks;
		n >>= es->cluster_bits;
	}
	es->overhead_clusters = MIN(n, es->blocks >> es->cluster_bits);
}

/* What was found while opening. */
static void notices(struct ext4_super *es, u64 super_off, u32 bad, u32 backup)
{
	es->from_copy = super_off != EXT4_SUPER_OFF;
	es->half_written = es->metadata_csum && ext4_csum_super(&es->disk) != le32_get(es->disk.checksum);
	if (super_off != EXT4_SUPER_OFF)
		super_note(&es->vfs, "a copy of the superblock is used, the one in block %llu",
			   (unsigned long long)(super_off >> es->block_bits));
	if (es->half_written)
		super_note(&es->vfs, "the superblock was written by half when it was used last");
	if (backup)
		super_note(&es->vfs, "%u damaged group descriptors were read from a copy", backup);
	if (bad)
		super_note(&es->vfs, "%u group descriptors are damaged, inodes may be missing", bad);
}

static struct inode *ext4_alloc_inode(struct super_block *sb)
{
	struct ext4_inode *ei = ext4_inode_alloc();

	(void)sb;
	return ei ? &ei->vfs : NULL;
}

static void ext4_free_inode(struct inode *inode)
{
	ext4_orphan_forget(ext4_inode(inode));
	ext4_window_drop(ext4_inode(inode));
	ext4_verity_free(ext4_inode(inode)->verity);
	ext4_dir_filter_drop(ext4_inode(inode));
	ext4_inode_free(ext4_inode(inode));
}

static int ext4_statfs(struct super_block *sb, struct kstatfs *out)
{
	struct ext4_super *es = ext4_super(sb);
	const struct ext4_disk_super *d = &es->disk;
	u64 reserved = ext4_kept_root(es) + ext4_kept_meta(es), lo, hi;

	out->type = es->variant;
	out->blocks = es->blocks - (es->overhead_clusters << es->cluster_bits);
	out->inodes = es->inodes;
	out->inodes_free = atomic_load(&es->free_inodes);
	out->blocks_free = atomic_load(&es->free_clusters) << es->cluster_bits;
	out->blocks_avail = out->blocks_free > reserved ? out->blocks_free - reserved : 0;
	memcpy(&lo, d->uuid, sizeof(lo));
	memcpy(&hi, d->uuid + sizeof(lo), sizeof(hi));
	out->fsid = lo ^ hi;
	return 0;
}

static void ext4_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n)
{
	ext4_inode_readahead(ext4_super(sb), inos, n);
}

static void ext4_put_super(struct super_block *sb)
{
	struct ext4_super *es = ext4_super(sb);
	struct blkdev *dev = sb->dev;

	/* The volume is not marked clean then, and the next mount recovers it. */
	if (ext4_write_close(es))
		log_error("%s: not cleanly unmounted: %s", sb->health.name, err_text());
	if (dev->cache)
		(void)!bcache_detach(dev, true);
	bcache_free(sb->cache);
	super_fini(sb);
	dev->health = NULL;
	blkdev_put(dev);
	blkdev_put(es->journal_dev);
	ext4_zone_free(&es->zone);
	ext4_verity_cache_free(es->verity_cache);
	free(es->group);
	free(es);
}

static void ext4_shutdown(struct super_block *sb)
{
	struct ext4_super *es = ext4_super(sb);

	if (es->journal)
		jbd2_abort(es->journal, -ESHUTDOWN);
}

static const struct super_ops ext4_super_ops = {
	.alloc_inode = ext4_alloc_inode,
	.free_inode = ext4_free_inode,
	.read_inode = ext4_read_inode,
	.evict_inode = ext4_evict_inode,
	.sync = ext4_sync,
	.statfs = ext4_statfs,
	.readahead_inodes = ext4_readahead_inodes,
	.quota = ext4_quota,
	.set_quota = ext4_set_quota,
	.trim = ext4_trim,
	.grow = ext4_grow,
	.shutdown = ext4_shutdown,
	.put_super = ext4_put_super,
};

/* Everything but multiple mount protection and the journal. `name` is what messages call the volume. */
static int open_as_it_lies(struct blkdev *dev, const char *name, const struct fs_type *type,
			   const struct mount_opts *opts, struct ext4_super **out)
{
	struct ext4_super *es = calloc(1, sizeof(*es));
	u32 bad, backup;
	u64 off;
	int err = es ? ext4_sb_read(dev, opts, &es->disk, &off) : -ENOMEM;

	if (!err)
		err = super_init(&es->vfs, type, &ext4_super_ops, name, opts);
	if (err) {
		free(es);
		return err;
	}
	es->vfs.dev = blkdev_get(dev);
	dev->health = &es->vfs.health;
	es->set_ops = ext4_inode_set_ops;
	ext4_sb_fill(es);
	es->vfs.rdonly = true;
	es->vfs.has_acl = es->vfs.has_xattr = true;
	es->vfs.folds_case = ext4_has_incompat(es, EXT4_INCOMPAT_CASEFOLD);
	err = bcache_new(opts->cache_bytes, &es->vfs.cache);
	if (!err)
		err = bcache_attach(es->vfs.cache, dev, es->vfs.block_bytes);
	if (!err)
		err = ext4_group_load(es, &bad, &backup);
	if (err) {
		ext4_put_super(&es->vfs);
		return err;
	}
	fill_overhead(es);
	notices(es, off, bad, backup);
	*out = es;
	return 0;
}

static void note_replay(struct ext4_super *es, const struct ext4_replay *r)
{
	super_note(
		&es->vfs,
		"not cleanly unmounted: %u transactions of its journal are applied in memory, the volume is "
		"unchanged",
		r->transactions);
	if (r->stopped)
		super_note(&es->vfs, "an error stopped who wrote it: check the volume");
	if (r->bad_commit)
		super_note(&es->vfs, "the journal ends in a damaged transaction: check the volume");
}

/* On success *dev is an overlay over what it was, which has fast commits applied. */
static int with_fast_commits(struct blkdev **dev, const struct fs_type *type, const struct mount_opts *opts,
			     struct ext4_fc_log *fast_commits)
{
	struct ext4_super *es;
	struct blkdev *snap;
	int err = dev_snap_new(*dev, &snap);

	if (err)
		return err;
	err = open_as_it_lies(snap, (*dev)->name, type, opts, &es);
	if (!err) {
		err = ext4_write_fast_commits(es, fast_commits);
		ext4_put_super(&es->vfs);
	}
	if (err) {
		blkdev_put(snap);
		return err;
	}
	blkdev_put(*dev);
	*dev = snap;
	return 0;
}

/* Opens again what *esp is, seen through an overlay to which the journal was applied. *esp is ended in any case. */
static int open_recovered(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
			  struct ext4_super **esp)
{
	struct ext4_super *es = *esp;
	struct ext4_replay replay = { 0 };
	struct blkdev *snap;
	char why[200] = "";
	int err = dev_snap_new(dev, &snap);

	if (!err) {
		err = ext4_journal_replay(es, snap, false, &replay);
		if (err) {
			snprintf(why, sizeof(why), "%s", err_text());
			blkdev_put(snap);
			err = fail(err, "%s (-o norecovery shows the volume without its journal)", why);
		}
	}
	ext4_put_super(&es->vfs);
	if (err)
		return err;
	if (replay.fast_commits.count && with_fast_commits(&snap, type, opts, &replay.fast_commits))
		snprintf(why, sizeof(why), "the very latest changes, its fast commits, are missing: %s",
			 err_text());
	err = open_as_it_lies(snap, dev->name, type, opts, esp);
	blkdev_put(snap);
	if (!err) {
		note_replay(*esp, &replay);
		if (why[0])
			super_note(&(*esp)->vfs, "%s", why);
	}
	ext4_fc_free(&replay.fast_commits);
	return err;
}

static int use_journal_dev(struct ext4_super *es, const struct mount_opts *opts)
{
	return opts->journal ? ext4_journal_use_dev(es, opts->journal) : 0;
}

static int open_read_only(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
			  struct ext4_super **esp)
{
	if (!ext4_has_incompat(*esp, EXT4_INCOMPAT_RECOVER))
		return 0;
	if (ext4_journal_is_here(*esp))
		return open_recovered(dev, type, opts, esp);
	super_note(&(*esp)->vfs,
		   "not cleanly unmounted, and its journal is elsewhere: the latest changes are missing "
		   "(--journal names its device)");
	return 0;
}

/* Opens again what *esp is. *esp is ended in any case. */
static int reopen(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
		  struct ext4_super **esp)
{
	int err;

	ext4_put_super(&(*esp)->vfs);
	err = open_as_it_lies(dev, dev->name, type, opts, esp);
	if (err)
		return err;
	err = use_journal_dev(*esp, opts);
	if (err)
		ext4_put_super(&(*esp)->vfs);
	return err;
}

static void note_written(struct ext4_super *es, const struct ext4_replay *r, u32 orphans)
{
	if (r->transactions)
		log_info("%s: %u transactions of its journal were applied", es->vfs.health.name,
			 r->transactions);
	if (orphans)
		log_info("%s: %u files that were deleted while open are gone now", es->vfs.health.name,
			 orphans);
	if (!ext4_journal_is_here(es))
		super_note(&es->vfs, "it has no journal: after a crash it must be checked (werunos fsck)");
	if (!es->was_valid)
		super_note(&es->vfs, "it was not cleanly unmounted: it should be checked (werunos fsck)");
	if (le16_get(es->disk.state) & EXT4_STATE_ERROR)
		super_note(&es->vfs, "it has recorded errors: it should be checked (werunos fsck)");
}

/*
 * The journal's transactions were applied to the device, and its fast commits are to be kept: they are applied to an overlay, and what
 * that makes of the volume becomes one more transaction. So a crash at any moment leaves them as they were, or applied. *esp is opened
 * again; NULL: that failed.
 */
static int keep_fast_commits(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
			     struct ext4_super **esp, struct ext4_replay *replay)
{
	struct blkdev *overlay = blkdev_get(dev);
	int err = with_fast_commits(&overlay, type, opts, &replay->fast_commits);

	if (err) {
		blkdev_put(overlay);
		return err;
	}
	err = reopen(dev, type, opts, esp);
	if (err)
		*esp = NULL;
	else
		err = ext4_write_overlay(*esp, overlay, NULL, &replay->log, NULL);
	blkdev_put(overlay);
	return err;
}

/* *esp is opened as it lies. On error it is ended. */
static int open_written(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
			struct ext4_super **esp)
{
	const struct ext4_disk_super before = (*esp)->disk;
	struct ext4_replay replay = { 0 };
	u32 orphans;
	bool again;
	char why[200];
	int err = ext4_write_recover(*esp, &replay, &again);

	if (!err && replay.fast_commits.count)
		err = keep_fast_commits(dev, type, opts, esp, &replay);
	ext4_fc_free(&replay.fast_commits);
	if (err && !*esp)
		return err;
	if (err) {
		/* What can be read is shown. */
		snprintf(why, sizeof(why), "shown read-only, its journal could not be applied: %s",
			 err_text());
		err = again ? reopen(dev, type, opts, esp) : 0;
		if (!err)
			err = open_read_only(dev, type, opts, esp);
		if (!err)
			super_note(&(*esp)->vfs, "%s", why);
		return err;
	}
	if (again)
		err = reopen(dev, type, opts, esp);
	if (err)
		return err;
	if (again && ext4_groups_bad(*esp)) {
		super_note(&(*esp)->vfs, "shown read-only: %u group descriptors are damaged: check it first",
			   ext4_groups_bad(*esp));
		return 0;
	}
	ext4_errors_keep(*esp, &before);
	if (replay.bad_commit)
		(void)!corrupt(&(*esp)->vfs.health, "journal", 0, "it ends in a damaged transaction");
	err = ext4_write_open(*esp, opts, &orphans);
	if (err)
		ext4_put_super(&(*esp)->vfs);
	else
		note_written(*esp, &replay, orphans);
	return err;
}

/* As open_written, but no other machine writes the volume meanwhile. */
static int open_protected(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
			  struct ext4_super **esp)
{
	struct blkdev *ours = NULL;
	int err = opts->claimed ? 0 : ext4_mmp_take(*esp, NULL, &ours);

	if (err) {
		ext4_put_super(&(*esp)->vfs);
		return err;
	}
	if (!ours)
		return open_written(dev, type, opts, esp);
	err = reopen(ours, type, opts, esp);
	if (!err)
		err = open_written(ours, type, opts, esp);
	if (!err && !(*esp)->vfs.rdonly)
		ext4_mmp_watch(*esp, true);
	blkdev_put(ours);
	return err;
}

int ext4_claim(struct blkdev *dev, const struct fs_type *type, const struct fs_claim *check,
	       struct blkdev **out)
{
	const struct mount_opts opts = { .rdonly = true };
	struct ext4_super *es;
	int err;

	*out = NULL;
	err = open_as_it_lies(dev, dev->name, type, &opts, &es);
	if (err)
		return err == -ENOMEM ? err : -EUCLEAN;
	err = ext4_mmp_take(es, check, out);
	ext4_put_super(&es->vfs);
	if (err != -EUCLEAN)
		return err;
	/* Then there is nothing that another machine would look at. */
	err_clear();
	return 0;
}

int ext4_super_open(struct blkdev *dev, const struct fs_type *type, const struct mount_opts *opts,
		    struct ext4_super **out)
{
	struct ext4_super *es = NULL;
	struct text why = { 0 };
	bool refused, reads;
	u64 still;
	int err = ext4_options_check(opts->fs_opts);

	if (!err)
		err = open_as_it_lies(dev, dev->name, type, opts, &es);
	*out = es;
	if (err || opts->norecovery)
		return err;
	err = use_journal_dev(es, opts);
	refused = !err && !opts->rdonly && ext4_write_refused(es, &why);
	reads = opts->rdonly || refused || dev->flags & BLKDEV_RDONLY;
	if (!err && reads && !opts->claimed)
		err = ext4_mmp_check(es, &still);
	if (err)
		ext4_put_super(&es->vfs);
	else if (reads)
		err = open_read_only(dev, type, opts, &es);
	else
		err = open_protected(dev, type, opts, &es);
	if (!err && refused) {
		super_note(&es->vfs, "shown read-only");
		super_note(&es->vfs, "%s", text_str(&why));
	}
	text_free(&why);
	*out = err ? NULL : es;
	return err;
}
