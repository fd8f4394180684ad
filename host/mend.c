/*
 * Mending. Interface: mend.h.
 *
 *   look ─► settle ─► base ─► overlay ─► round, round, … ─► look again ─► write out
 *
 * A round (fs_type.check with check_opts.mend) mends what it finds and may leave what the next one finds. All of it happens in overlays in
 * memory, so that nothing is written before the result was looked at as a whole. Then it goes to the devices by way of a log, as one transaction
 * (fs_type.write_mended), where one can take it; else unit by unit. What the log itself needs is mended and written before, unit by unit. Where the
 * overlays would take too much memory they are written out in between, by way of the log as well.
 *
 * Unit by unit the first superblock comes last: until then it says, since settle, that the volume has to be checked.
 *
 * With an undo file the old content of a unit is in it, durably, before the unit is written to. What settle is going to write is known from trying
 * it on an overlay; what it writes besides waits until it is recorded (undo_dev.c).
 */
#include "mend.h"
#include "undo.h"

#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS_MAX 20u
#define OUT_BYTES  (1u << 20) /* written at once */
/* What the overlays may hold before they are written out in between, if the caller does not say what the cache may. */
#define OVERLAY_BYTES     (128ull << 20)
#define OVERLAY_MIN_BYTES (256ull << 10)

struct job {
	struct mending *m;
	const struct fs_type *type;
	struct blkdev **devs, **snap; /* of the volume, and what lies over them */
	u32 n;
	const struct mount_opts *mount;
	struct blkdev *journal; /* over the device that a journal has to itself; NULL: none has */
	struct undo *undo;
	u64 limit_units;
	bool full;  /* the overlays hold as much as they may: the rest waits for the next round */
	bool wrote; /* the devices were written to, perhaps */
};

/* ---- overlays ---- */

static void overlays_put(struct job *j, struct blkdev **snap)
{
	if (snap == j->snap) {
		blkdev_put(j->journal);
		j->journal = NULL;
	}
	for (u32 i = 0; i < j->n; i++) {
		blkdev_put(snap[i]);
		snap[i] = NULL;
	}
}

static int overlays_new(struct job *j, struct blkdev **snap)
{
	int err = snap == j->snap && j->mount->journal ? dev_snap_new(j->mount->journal, &j->journal) : 0;

	for (u32 i = 0; i < j->n && !err; i++)
		err = dev_snap_new(j->devs[i], &snap[i]);
	return err;
}

/* ---- writing out ---- */

/* The units from `from` on that lie one behind the other: where they begin, and how many bytes. False: there are none. */
static bool next_run(struct blkdev *snap, u64 from, u64 *at, u64 *len)
{
	u64 end;

	*at = dev_snap_next(snap, from);
	if (*at >= snap->size_bytes)
		return false;
	end = *at;
	while (end - *at < OUT_BYTES && end < snap->size_bytes && dev_snap_next(snap, end) == end)
		end += DEV_SNAP_UNIT_BYTES;
	*len = MIN(end, snap->size_bytes) - *at;
	return true;
}

static int write_range(struct blkdev *snap, struct blkdev *dev, u64 at, u64 len, u8 *buf)
{
	int err = len ? blkdev_read(snap, at, buf, len) : 0;

	return err || !len ? err : blkdev_write(dev, at, buf, len, 0);
}

static void progress(void *ctx, u32 pass, u32 passes, const char *name, u64 done, u64 all)
{
	const struct check_opts *o = ((struct job *)ctx)->m->check;

	if (o->progress)
		o->progress(o->ctx, pass, passes, name, done, all);
}

/* What of the device the first superblock takes, in sectors. */
static void super_range(const struct job *j, u32 i, u64 *at, u64 *end)
{
	u64 sector = j->devs[i]->sector_bytes;

	*at = ALIGN_DOWN(j->type->super_bytes, sector);
	*end = MIN(ALIGN_UP(j->type->super_bytes + j->type->super_len_bytes, sector), j->devs[i]->size_bytes);
}

/* All but the first superblock. */
static int write_units(struct job *j, u32 i, u8 *buf)
{
	struct blkdev *snap = j->snap[i], *dev = j->devs[i];
	u64 at = 0, len, super, end;
	int err = 0;

	super_range(j, i, &super, &end);
	for (u64 from = 0; !err && next_run(snap, from, &at, &len); from = at + len) {
		u64 before = super >= at && super < at + len ? super - at : len;
		u64 behind = MIN(before + (end - super), len);

		err = write_range(snap, dev, at, before, buf);
		if (!err)
			err = write_range(snap, dev, at + behind, len - behind, buf);
		progress(j, i + 1, j->n, "writing what was mended", at + len, dev->size_bytes);
	}
	return err;
}

static int write_super(struct job *j, u32 i, u8 *buf)
{
	struct blkdev *snap = j->snap[i];
	u64 at, end, unit;

	super_range(j, i, &at, &end);
	unit = ALIGN_DOWN(at, (u64)DEV_SNAP_UNIT_BYTES);
	return dev_snap_next(snap, unit) == unit ? write_range(snap, j->devs[i], at, end - at, buf) : 0;
}

static int flush_all(const struct job *j)
{
	int err = 0;

	for (u32 i = 0; i < j->n && !err; i++)
		err = blkdev_flush(j->devs[i]);
	return err;
}

/* What the log is going to be written for it, too, is known from trying it on overlays that are thrown away. */
static int save_for_writing(struct job *j, bool by_log)
{
	struct blkdev **trial = calloc(j->n, sizeof(*trial));
	bool logged;
	int err = trial ? undo_save(j->undo, j->snap, j->devs, j->n) : fail(-ENOMEM, "no memory for mending");

	if (!err && by_log) {
		err = overlays_new(j, trial);
		if (!err)
			err = j->type->write_mended(trial, j->snap, j->n, j->mount, &logged);
		if (!err)
			err = undo_save(j->undo, trial, j->devs, j->n);
		overlays_put(j, trial);
	}
	free(trial);
	return err;
}

static int write_all_units(struct job *j)
{
	u8 *buf = os_alloc_aligned(4096, OUT_BYTES);
	int err = buf ? 0 : fail(-ENOMEM, "no memory for mending");

	for (u32 i = 0; i < j->n && !err; i++)
		err = write_units(j, i, buf);
	if (!err)
		err = flush_all(j);
	for (u32 i = 0; i < j->n && !err; i++)
		err = write_super(j, i, buf);
	if (!err)
		err = flush_all(j);
	free(buf);
	return err;
}

/* What rounds wrote to a journal on a device of its own: after the volume, whose log it may have been. */
static int write_journal(struct job *j)
{
	u8 *buf = j->journal ? os_alloc_aligned(4096, OUT_BYTES) : NULL;
	u64 at = 0, len;
	int err = !j->journal || buf ? 0 : fail(-ENOMEM, "no memory for mending");

	for (u64 from = 0; buf && !err && next_run(j->journal, from, &at, &len); from = at + len)
		err = write_range(j->journal, j->mount->journal, at, len, buf);
	if (buf && !err)
		err = blkdev_flush(j->mount->journal);
	free(buf);
	return err;
}

/* by_log: if one can take it. */
static int write_out(struct job *j, bool by_log)
{
	bool logged = false;
	int err = 0;

	by_log &= j->type->write_mended != NULL;
	if (j->undo)
		err = save_for_writing(j, by_log);
	j->wrote |= !err;
	if (!err && by_log)
		err = j->type->write_mended(j->devs, j->snap, j->n, j->mount, &logged);
	if (!err && !logged)
		err = write_all_units(j);
	return err ? err : write_journal(j);
}

/* ---- rounds ---- */

/* As check_opts.mend. */
static int mend_one(void *ctx, const struct check_record *r)
{
	struct job *j = ctx;
	u64 units = 0;
	int said;

	for (u32 i = 0; i < j->n; i++)
		units += dev_snap_units(j->snap[i]);
	j->full |= units > j->limit_units && !j->m->dry_run;
	if (j->full)
		return 0;
	said = j->m->check->mend(j->m->check->ctx, r);
	j->m->mended += said > 0;
	return said;
}

/* Those that end because the overlays are full have no more to do than what the devices hold. */
static u64 rounds_max(const struct job *j)
{
	u64 units = 0;

	for (u32 i = 0; i < j->n; i++)
		units += j->devs[i]->size_bytes / DEV_SNAP_UNIT_BYTES;
	return ROUNDS_MAX + units / j->limit_units;
}

/* A look at what the overlays show. */
static int check_shown(const struct job *j, const struct check_opts *opts, struct check_summary *sum)
{
	struct mount_opts mount = *j->mount;

	mount.journal = j->journal;
	return j->type->check(j->snap, j->n, &mount, opts, sum);
}

/* What `m` asks for, as a round of mending has it. */
static struct check_opts round_opts(struct job *j)
{
	struct check_opts opts = *j->m->check;

	opts.force = true;
	opts.found = NULL;
	opts.mend = mend_one;
	opts.progress = progress;
	opts.ctx = j;
	return opts;
}

/* What a log needs is mended and on the devices. */
static int base_rounds(struct job *j)
{
	struct check_opts opts = round_opts(j);
	struct check_summary sum = { .mended = 1 };
	u64 mended = j->m->mended;
	int err = 0;

	opts.base = true;
	opts.rebuild_dirs = false;
	for (u32 round = 0; !err && sum.mended && round < ROUNDS_MAX; round++)
		err = check_shown(j, &opts, &sum);
	if (err || j->m->mended == mended)
		return err;
	err = write_out(j, false);
	overlays_put(j, j->snap);
	return err ? err : overlays_new(j, j->snap);
}

static int rounds(struct job *j)
{
	struct check_opts opts = round_opts(j);
	struct check_summary sum = { .mended = 1 };
	int err = 0;

	for (u64 round = 0; !err && (sum.mended || j->full) && round < rounds_max(j); round++) {
		opts.rebuild_dirs &= !round;
		if (j->full) {
			err = write_out(j, true);
			overlays_put(j, j->snap);
			j->full = false;
			if (!err)
				err = overlays_new(j, j->snap);
		}
		if (!err)
			err = check_shown(j, &opts, &sum);
	}
	if (err)
		return err;
	opts = *j->m->check;
	opts.force = true;
	opts.rebuild_dirs = false;
	opts.mend = NULL;
	return check_shown(j, &opts, &j->m->after);
}

/* ---- the volume, before rounds ---- */

/* On overlays that are thrown away: to know what it will write. */
static int save_for_settle(struct job *j)
{
	int err = overlays_new(j, j->snap);

	if (!err)
		err = j->type->settle(j->snap, j->n, j->mount);
	if (!err)
		err = undo_save(j->undo, j->snap, j->devs, j->n);
	overlays_put(j, j->snap);
	return err;
}

static int settle(struct job *j)
{
	int err = 0;

	if (!j->type->settle)
		return overlays_new(j, j->snap);
	if (!j->m->dry_run) {
		if (j->undo)
			err = save_for_settle(j);
		j->wrote |= !err;
		if (!err)
			err = j->type->settle(j->devs, j->n, j->mount);
	}
	if (!err)
		err = overlays_new(j, j->snap);
	if (!err && j->m->dry_run) {
		struct mount_opts mount = *j->mount;

		mount.journal = j->journal;
		err = j->type->settle(j->snap, j->n, &mount);
	}
	return err;
}

static int work(struct job *j)
{
	int err = settle(j);

	if (!err && j->type->write_mended && !j->m->dry_run)
		err = base_rounds(j);
	if (!err)
		err = rounds(j);
	if (!err && !j->m->dry_run)
		err = write_out(j, true);
	overlays_put(j, j->snap);
	return err;
}

/* As save_for_settle. */
static int save_for_claim(struct job *j)
{
	const struct fs_claim how = { .trial = true };
	struct blkdev *ours = NULL;
	int err = overlays_new(j, j->snap);

	if (!err)
		err = j->type->claim(j->snap[0], &how, &ours);
	if (err == -EUCLEAN)
		err = 0;
	blkdev_put(ours);
	if (!err)
		err = undo_save(j->undo, j->snap, j->devs, j->n);
	overlays_put(j, j->snap);
	return err;
}

/* work(), and no other machine has the volume meanwhile. Types that know of such have volumes of one device. */
static int claimed_work(struct job *j)
{
	const struct mount_opts *mount = j->mount;
	struct mount_opts claimed = *mount;
	struct blkdev *ours = NULL, **devs = j->devs;
	const struct fs_claim how = { .still = j->m->before.still };
	bool claims = j->type->claim && !j->m->dry_run;
	int err = claims && j->undo ? save_for_claim(j) : 0;

	if (!err && claims)
		err = j->type->claim(devs[0], &how, &ours);
	if (err && err != -EUCLEAN)
		return err;
	/* Who looked at it before knows enough for what is written nowhere. */
	claimed.claimed = !err;
	j->mount = &claimed;
	if (ours)
		j->devs = &ours;
	err = work(j);
	j->mount = mount;
	j->devs = devs;
	blkdev_put(ours);
	return err;
}

/* On devices that record what is written over. */
static int recorded_work(struct job *j)
{
	struct blkdev **devs = j->devs, **kept = calloc(j->n, sizeof(*kept));
	int err = kept ? 0 : fail(-ENOMEM, "no memory for mending");

	for (u32 i = 0; i < j->n && !err; i++)
		err = undo_dev_new(j->undo, devs[i], i, &kept[i]);
	if (!err) {
		j->devs = kept;
		err = claimed_work(j);
		j->devs = devs;
	}
	for (u32 i = 0; kept && i < j->n; i++)
		blkdev_put(kept[i]);
	free(kept);
	return err;
}

static int undoable_work(struct job *j)
{
	const struct mending *m = j->m;
	int err;

	if (!m->undo_file || m->dry_run)
		return claimed_work(j);
	err = undo_create(m->undo_file, m->name, j->devs, j->n, &j->undo);
	if (err)
		return err;
	err = recorded_work(j);
	if (!err)
		err = undo_finish(j->undo, j->devs);
	if (err && !j->wrote)
		unlink(m->undo_file);
	undo_close(j->undo);
	return err;
}

int mend_volume(struct mending *m, const struct fs_type *type, struct blkdev **devs, u32 n,
		const struct mount_opts *mount)
{
	struct job j = { .m = m, .type = type, .devs = devs, .n = n, .mount = mount };
	struct check_opts look = *m->check;
	u64 found = 0;
	int err;

	m->mended = 0;
	j.limit_units =
		MAX(m->check->cache_bytes ? m->check->cache_bytes : OVERLAY_BYTES, OVERLAY_MIN_BYTES) /
		DEV_SNAP_UNIT_BYTES;
	look.mend = NULL;
	look.found = NULL;
	look.rebuild_dirs = false;
	err = type->check(devs, n, mount, &look, &m->before);
	m->after = m->before;
	for (u32 i = 0; i < CHECK_GRADES; i++)
		found += m->before.found[i];
	if (err || m->before.skipped || (!found && !m->before.replayed && !m->check->rebuild_dirs))
		return err;
	j.snap = calloc(n, sizeof(*j.snap));
	if (!j.snap)
		return fail(-ENOMEM, "no memory for mending");
	err = undoable_work(&j);
	free(j.snap);
	return err;
}
