/*
 * Mending. Interface: mend.h.
 *
 *   look ─► settle ─► overlay ─► round, round, … ─► look again ─► write out
 *
 * A round (fs_type.check with check_opts.mend) mends what it finds and may leave what the next one finds. All of it happens in overlays in
 * memory, so that nothing is written before the result was looked at as a whole. Then the units of the overlays go to the devices, the one
 * with the first superblock last: until then it says, since settle, that the volume has to be checked.
 */
#include "mend.h"

#include "lib/os.h"
#include <errno.h>
#include <stdlib.h>

#define ROUNDS_MAX 20u
#define OUT_BYTES  (1u << 20) /* written at once */

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

/* All but the unit at `super`. */
static int write_units(struct blkdev *snap, struct blkdev *dev, u64 super, u8 *buf)
{
	u64 at = 0, len;
	int err = 0;

	for (u64 from = 0; !err && next_run(snap, from, &at, &len); from = at + len) {
		u64 before = super >= at && super < at + len ? super - at : len;
		u64 behind = MIN(before + DEV_SNAP_UNIT_BYTES, len);

		err = write_range(snap, dev, at, before, buf);
		if (!err)
			err = write_range(snap, dev, at + behind, len - behind, buf);
	}
	return err;
}

static int write_super(struct blkdev *snap, struct blkdev *dev, u64 super, u8 *buf)
{
	if (dev_snap_next(snap, super) != super)
		return 0;
	return write_range(snap, dev, super, MIN((u64)DEV_SNAP_UNIT_BYTES, dev->size_bytes - super), buf);
}

static int flush_all(struct blkdev **devs, u32 n)
{
	int err = 0;

	for (u32 i = 0; i < n && !err; i++)
		err = blkdev_flush(devs[i]);
	return err;
}

static int write_out(const struct fs_type *type, struct blkdev **snap, struct blkdev **devs, u32 n)
{
	u64 super = ALIGN_DOWN(type->super_bytes, (u64)DEV_SNAP_UNIT_BYTES);
	u8 *buf = os_alloc_aligned(4096, OUT_BYTES);
	int err = buf ? 0 : fail(-ENOMEM, "no memory for mending");

	for (u32 i = 0; i < n && !err; i++)
		err = write_units(snap[i], devs[i], super, buf);
	if (!err)
		err = flush_all(devs, n);
	for (u32 i = 0; i < n && !err; i++)
		err = write_super(snap[i], devs[i], super, buf);
	if (!err)
		err = flush_all(devs, n);
	free(buf);
	return err;
}

/* ---- rounds ---- */

static void put_all(struct blkdev **devs, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (devs[i])
			blkdev_put(devs[i]);
}

static int rounds(struct mending *m, const struct fs_type *type, struct blkdev **snap, u32 n,
		  const struct mount_opts *mount)
{
	struct check_opts opts = *m->check;
	struct check_summary sum = { .mended = 1 };
	int err = 0;

	opts.force = true;
	opts.found = NULL;
	for (u32 round = 0; !err && sum.mended && round < ROUNDS_MAX; round++) {
		err = type->check(snap, n, mount, &opts, &sum);
		m->mended += sum.mended;
	}
	if (err)
		return err;
	opts.mend = NULL;
	opts.found = m->check->found;
	return type->check(snap, n, mount, &opts, &m->after);
}

static int on_overlays(struct mending *m, const struct fs_type *type, struct blkdev **devs, u32 n,
		       const struct mount_opts *mount)
{
	struct blkdev **snap = calloc(n, sizeof(*snap));
	int err = snap ? 0 : fail(-ENOMEM, "no memory for mending");

	if (!err && !m->dry_run && type->settle)
		err = type->settle(devs, n, mount);
	for (u32 i = 0; i < n && !err; i++)
		err = dev_snap_new(devs[i], &snap[i]);
	if (!err && m->dry_run && type->settle)
		err = type->settle(snap, n, mount);
	if (!err)
		err = rounds(m, type, snap, n, mount);
	if (!err && !m->dry_run)
		err = write_out(type, snap, devs, n);
	if (snap)
		put_all(snap, n);
	free(snap);
	return err;
}

int mend_volume(struct mending *m, const struct fs_type *type, struct blkdev **devs, u32 n,
		const struct mount_opts *mount)
{
	struct check_opts look = *m->check;
	int err;

	m->mended = 0;
	look.mend = NULL;
	look.found = NULL;
	err = type->check(devs, n, mount, &look, &m->before);
	if (err)
		return err;
	m->after = m->before;
	if (m->before.skipped)
		return 0;
	for (u32 i = 0; i < CHECK_GRADES; i++)
		if (m->before.found[i])
			return on_overlays(m, type, devs, n, mount);
	return m->before.replayed ? on_overlays(m, type, devs, n, mount) : 0;
}
