/*
 * What is written: bad copies from good ones, and superblocks.
 *
 * Superblocks are written when all was looked at, from the newest one, with what was found wrong in it set right; each device keeps its own
 * item. A log is named by the first copy alone, as the kernel does it: who goes by another copy would replay what a later sync has replaced. Where a first
 * copy is written anew, a log that any device's first copy names, a bad one's too, is kept when its root is there: a log's generation
 * is one above the volume's, so nothing else passes for it.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALL_COPIES ((1u << BTRFS_SUPER_COUNT) - 1)

/* ---- copies of tree blocks and data ---- */

/* Where it lies, of a device that can be written. False: it does not. */
static bool place(const struct ck *c, u64 logical, u32 copy, struct blkdev **dev, u64 *off, u64 *len)
{
	u64 devid;

	if (btrfs_volume_where(c->bs->volume, logical, copy, &devid, off, len))
		return false;
	for (u32 i = 0; i < btrfs_device_count(c->bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(c->bs->volume, i);

		if (d->devid != devid || !d->dev || d->seed)
			continue;
		*dev = d->dev;
		return *off < d->dev->size_bytes && *len;
	}
	return false;
}

bool btrfs_ck_can_put(const struct ck *c, u64 logical, u32 copy, u64 len_bytes)
{
	while (len_bytes) {
		struct blkdev *dev;
		u64 off, len;

		if (!place(c, logical, copy, &dev, &off, &len))
			return false;
		len = MIN(len, len_bytes);
		if (len > dev->size_bytes - off)
			return false;
		logical += len;
		len_bytes -= len;
	}
	return true;
}

void btrfs_ck_put(struct ck *c, u64 logical, u32 copy, const void *from, u64 len_bytes)
{
	struct blkdev *dev;
	u64 off, len;

	for (const u8 *at = from; len_bytes && !c->err; at += len) {
		if (!place(c, logical, copy, &dev, &off, &len)) {
			c->err = fail(-EIO, "byte %llu of the volume cannot be written",
				      (unsigned long long)logical);
			return;
		}
		len = MIN(len, len_bytes);
		c->err = blkdev_write(dev, off, at, len, 0);
		logical += len;
		len_bytes -= len;
	}
}

/* ---- the superblock and its trees ---- */

static bool is_root(struct ck *c, u64 bytenr, u64 owner, u64 generation, u32 level)
{
	const struct btrfs_expect e = { .owner = owner, .generation = generation, .level = level };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = btrfs_node_read(c->bs, bytenr, &e, &bh);

	err_clear();
	return !err;
}

/* What the superblock says of one tree: where its root is, of which generation, how high. */
struct pointer {
	const char *name;
	u64 owner, bytenr, generation;
	u8 *level;       /* in c->super */
	le64 *generates; /* … NULL: the generation follows from another */
	bool chunks;
};

/* A root's block that passes in all but its level says that itself. */
static bool other_level(struct ck *c, const struct pointer *p)
{
	for (u8 level = 0; level < BTRFS_LEVELS; level++) {
		if (!is_root(c, p->bytenr, p->owner, p->generation, level))
			continue;
		if (btrfs_ck_fix(c, CK_SUPER_VALUE, "superblock", 0, NULL, "the %s has level %u, its root %u",
				 p->name, *p->level, level)) {
			*p->level = level;
			c->super_changed = true;
		}
		return true;
	}
	return false;
}

/* … in all but its generation, of which one of the superblock's own backups says that it is right. */
static bool other_generation(struct ck *c, const struct pointer *p)
{
	for (u32 i = 0; p->generates && i < BTRFS_BACKUPS; i++) {
		const struct btrfs_disk_backup *b = &c->super.backup[i];
		u64 bytenr = le64_get(p->chunks ? b->chunk_root : b->tree_root);
		u64 generation = le64_get(p->chunks ? b->chunk_root_gen : b->tree_root_gen);

		if (bytenr != p->bytenr || !generation || generation == p->generation ||
		    !is_root(c, p->bytenr, p->owner, generation, *p->level))
			continue;
		if (btrfs_ck_fix(c, CK_SUPER_VALUE, "superblock", 0, NULL,
				 "the generation of the %s is %llu, its root and a backup say %llu", p->name,
				 (unsigned long long)p->generation, (unsigned long long)generation)) {
			*p->generates = le64_put(generation);
			c->super_changed = true;
		}
		return true;
	}
	return false;
}

/* False: the tree's root cannot be had by it. */
static bool prove(struct ck *c, const struct pointer *p)
{
	return is_root(c, p->bytenr, p->owner, p->generation, *p->level) || other_level(c, p) ||
	       other_generation(c, p);
}

/* Another sound copy is newer than the one that is used: who named that one wants to look, not to go back to it. */
static bool is_newest(struct ck *c)
{
	struct btrfs_disk_super *d = malloc(sizeof(*d));
	bool newest = d;
	u32 which;

	for (u32 i = 0; newest && i < c->dev_count; i++)
		for (int copy = 0; copy < (int)BTRFS_SUPER_COUNT; copy++)
			newest &= btrfs_sb_read(c->devs[i], copy, d, &which) ||
				  memcmp(d->fsid, c->super.fsid, sizeof(d->fsid)) ||
				  le64_get(d->generation) <= le64_get(c->super.generation);
	err_clear();
	if (!d)
		btrfs_ck_oom(c);
	free(d);
	return newest;
}

/* Nothing is missing or unknown, and the volume is looked at as it stands in its newest superblock. */
static bool can_mend(const struct ck *c)
{
	const struct btrfs_opts *o = &c->bs->opts;
	u64 flags = le64_get(c->super.flags);
	bool can = !o->usebackuproot && !o->generation && !o->ignore_bad_roots && !o->ignore_data_csums &&
		   !o->ignore_meta_csums && !o->ignore_super_flags;

	can &= !btrfs_flags_check(&c->super) && !btrfs_unknown_compat_ro(&c->super);
	can &= !(flags & (BTRFS_SUPER_METADUMP | BTRFS_SUPER_METADUMP_V2 | BTRFS_SUPER_CHANGING_BG_TREE));
	for (u32 i = 0; i < btrfs_device_count(c->bs->volume); i++)
		can &= btrfs_device_at(c->bs->volume, i)->dev != NULL;
	err_clear();
	return can;
}

void btrfs_ck_mend_init(struct ck *c)
{
	struct btrfs_disk_super *d = &c->super;
	struct pointer chunks, root, log;

	*d = c->bs->disk;
	c->mends = c->opts->mend && can_mend(c);
	c->super_put = calloc(c->dev_count, 1);
	if (!c->super_put) {
		btrfs_ck_oom(c);
		return;
	}
	chunks = (struct pointer){ .name = "chunk tree",
				   .owner = BTRFS_TREE_CHUNK,
				   .bytenr = le64_get(d->chunk_root),
				   .generation = le64_get(d->chunk_root_generation),
				   .level = &d->chunk_root_level,
				   .generates = &d->chunk_root_generation,
				   .chunks = true };
	root = (struct pointer){ .name = "root tree",
				 .owner = BTRFS_TREE_ROOT,
				 .bytenr = le64_get(d->root),
				 .generation = le64_get(d->generation),
				 .level = &d->root_level,
				 .generates = &d->generation };
	log = (struct pointer){ .name = "log",
				.owner = BTRFS_TREE_LOG,
				.bytenr = le64_get(d->log_root),
				.generation = le64_get(d->generation) + 1,
				.level = &d->log_root_level };
	c->super_ok = is_newest(c) && prove(c, &chunks) && prove(c, &root);
	if (log.bytenr && c->super_ok)
		(void)prove(c, &log);
}

const struct btrfs_device *btrfs_ck_super_device(const struct ck *c, u32 dev)
{
	for (u32 i = 0; i < btrfs_device_count(c->bs->volume); i++) {
		const struct btrfs_device *d = btrfs_device_at(c->bs->volume, i);

		if (d->dev == c->devs[dev])
			return d->seed || !d->listed || d->generation != le64_get(c->bs->disk.generation)
				       ? NULL
				       : d;
	}
	return NULL;
}

void btrfs_ck_super_value(struct ck *c, le64 *field, u64 right, bool proven, const char *detail, ...)
{
	char text[384];
	va_list args;

	va_start(args, detail);
	vsnprintf(text, sizeof(text), detail, args);
	va_end(args);
	if (!proven || !c->super_ok) {
		btrfs_ck_found(c, CK_SUPER_VALUE, "superblock", 0, NULL, "%s", text);
	} else if (btrfs_ck_fix(c, CK_SUPER_VALUE, "superblock", 0, NULL, "%s", text)) {
		*field = le64_put(right);
		c->super_changed = true;
	}
}

/* ---- writing superblocks ---- */

/* A log that a first copy names, whatever else is wrong with it. */
static void keep_log(struct ck *c, struct btrfs_disk_super *d)
{
	for (u32 i = 0; i < c->dev_count; i++) {
		if (blkdev_read(c->devs[i], BTRFS_SUPER_OFF(0), d, sizeof(*d)) ||
		    memcmp(d->fsid, c->super.fsid, sizeof(d->fsid)) ||
		    le64_get(d->generation) != le64_get(c->super.generation) || !le64_get(d->log_root) ||
		    d->log_root_level >= BTRFS_LEVELS ||
		    !is_root(c, le64_get(d->log_root), BTRFS_TREE_LOG, le64_get(d->generation) + 1,
			     d->log_root_level))
			continue;
		c->super.log_root = d->log_root;
		c->super.log_root_level = d->log_root_level;
		return;
	}
	err_clear();
}

/* What the device's own copies say of it, into d: any sound one of the volume's last commit. */
static bool own_copy(struct ck *c, struct blkdev *dev, const struct btrfs_device *of,
		     struct btrfs_disk_super *d)
{
	bool found = false;
	u32 which;

	for (int copy = 0; !found && copy < (int)BTRFS_SUPER_COUNT; copy++)
		found = !btrfs_sb_read(dev, copy, d, &which) &&
			!memcmp(d->fsid, c->bs->disk.fsid, sizeof(d->fsid)) &&
			le64_get(d->generation) == of->generation && le64_get(d->dev_item.devid) == of->devid;
	err_clear();
	return found;
}

static void put_copies(struct ck *c, struct blkdev *dev, const struct btrfs_device *of, u32 copies,
		       struct btrfs_disk_super *d)
{
	struct btrfs_disk_dev_item own = d->dev_item;

	for (u32 copy = 0; copy < BTRFS_SUPER_COUNT && !c->err; copy++) {
		u64 off = BTRFS_SUPER_OFF(copy);

		if (!(copies >> copy & 1) || off + sizeof(*d) > MIN(of->size_bytes, dev->size_bytes))
			continue;
		*d = c->super;
		d->dev_item = own;
		d->bytenr = le64_put(off);
		if (copy) {
			d->log_root = le64_put(0);
			d->log_root_level = 0;
		}
		btrfs_csum(c->bs->csum_type, (const u8 *)d + BTRFS_CSUM_BYTES, sizeof(*d) - BTRFS_CSUM_BYTES,
			   d->csum);
		c->err = blkdev_write(dev, off, d, sizeof(*d), 0);
	}
}

void btrfs_ck_mend_end(struct ck *c)
{
	struct btrfs_disk_super *d;
	bool log = false;

	for (u32 i = 0; i < c->dev_count; i++)
		log |= c->super_put[i] & 1;
	d = malloc(sizeof(*d));
	if (!d) {
		btrfs_ck_oom(c);
		return;
	}
	if (log && !le64_get(c->super.log_root) && !c->log_dropped)
		keep_log(c, d);
	for (u32 i = 0; i < c->dev_count && !c->err; i++) {
		const struct btrfs_device *of = btrfs_ck_super_device(c, i);
		u32 copies = c->super_changed ? ALL_COPIES : c->super_put[i];

		if (of && copies && own_copy(c, c->devs[i], of, d))
			put_copies(c, c->devs[i], of, copies, d);
	}
	free(d);
}
