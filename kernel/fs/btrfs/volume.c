/*
 * The logical address space of a volume as a block device that stands on its devices.
 *
 * A read that lies within one stripe of one device is handed on as it is. Another one becomes children, as few as there are runs of bytes
 * on devices; what cannot be read directly (RAID5, RAID6) is made from the other stripes of its row when all of them have arrived. Nothing
 * is retried here: who does not like what it got asks for the next copy.
 */
#include "volume.h"

#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>

#define LOGICAL_END (1ull << 62)

/* ---- reading ---- */

struct run { /* a piece, and where it belongs */
	struct btrfs_piece p;
	const struct btrfs_chunk *c;
	u64 at; /* in the request */
	bool used;
};

struct rebuild {
	u64 at; /* in the request */
	u32 len_bytes, sources;
	u8 *factor; /* [sources] */
	u8 **src;   /* [sources] len_bytes of each */
	u8 *out;
};

struct request {
	struct bio *parent;
	_Atomic u32 left; /* children under way, and one while they are made */
	_Atomic int err;
	u32 runs, children, iovs, rebuilds;
	struct run *run;
	struct bio *child;
	struct iovec *iov;
	struct rebuild *rebuild;
};

static struct btrfs_volume *to_volume(struct blkdev *dev)
{
	return container_of(dev, struct btrfs_volume, dev);
}

static bool is_there(const struct btrfs_volume *v, const struct btrfs_chunk *c, u32 stripe)
{
	return v->device[c->stripe[stripe].dev]->dev != NULL;
}

static enum btrfs_there state(const void *ctx, const struct btrfs_chunk *c, u32 stripe)
{
	const struct btrfs_volume *v = ctx;
	const struct btrfs_device *d = v->device[c->stripe[stripe].dev];

	return !d->dev                                     ? BTRFS_MISSING
	       : !d->seed && d->generation < v->generation ? BTRFS_BEHIND
							   : BTRFS_THERE;
}

static void iov_write(const struct iovec *iov, u64 at, const u8 *from, u64 len)
{
	for (; at >= iov->iov_len; iov++)
		at -= iov->iov_len;
	for (; len; iov++, at = 0) {
		u64 now = MIN(len, (u64)iov->iov_len - at);

		memcpy((u8 *)iov->iov_base + at, from, now);
		from += now;
		len -= now;
	}
}

static void request_free(struct request *r)
{
	for (u32 i = 0; i < r->rebuilds; i++) {
		for (u32 k = 0; r->rebuild[i].src && k < r->rebuild[i].sources; k++)
			free(r->rebuild[i].src[k]);
		free(r->rebuild[i].src);
		free(r->rebuild[i].factor);
		free(r->rebuild[i].out);
	}
	free(r->run);
	free(r->child);
	free(r->iov);
	free(r->rebuild);
	free(r);
}

static void one_less(struct request *r)
{
	struct bio *parent = r->parent;
	int err;

	if (atomic_fetch_sub(&r->left, 1) > 1)
		return;
	err = atomic_load(&r->err);
	for (u32 i = 0; i < r->rebuilds && !err; i++) {
		struct rebuild *b = &r->rebuild[i];

		btrfs_raid56_combine(b->sources, b->factor, b->src, b->out, b->len_bytes);
		iov_write(parent->iov, b->at, b->out, b->len_bytes);
	}
	request_free(r);
	bio_complete(parent, err);
}

static void child_done(struct bio *child)
{
	struct request *r = child->private;
	int none = 0;

	if (child->err)
		atomic_compare_exchange_strong(&r->err, &none, child->err);
	one_less(r);
}

/* Cuts the request into pieces. run NULL: only counts them. */
static int cut(struct btrfs_volume *v, const struct bio *bio, struct run *run, u32 *count)
{
	u64 done = 0;

	*count = 0;
	while (done < bio->len_bytes) {
		u64 logical = bio->at_bytes + done;
		const struct btrfs_chunk *c = btrfs_chunk_find(v, logical);
		struct btrfs_piece p;
		int err = c ? btrfs_piece_find(c, logical, bio->len_bytes - done, bio->copy, state, v, &p)
			    : -EIO;

		if (err)
			return err;
		if (run)
			run[*count] = (struct run){ .p = p, .c = c, .at = done };
		(*count)++;
		done += p.len_bytes;
	}
	return 0;
}

static int child_init(struct request *r, const struct btrfs_device *d, u64 off, void *buf, u64 len)
{
	struct bio *child = &r->child[r->children];

	if (!d->dev || off > d->dev->size_bytes || len > d->dev->size_bytes - off)
		return -EIO;
	bio_init(child, d->dev, BIO_READ, off, buf, len);
	child->done = child_done;
	child->private = r;
	r->children++;
	return 0;
}

static u64 run_off(const struct run *run)
{
	return run->c->stripe[run->p.stripe].off_bytes + run->p.in_stripe;
}

/* The part of the parent's memory that belongs to a run, appended to the child's. */
static void add_iov(struct request *r, struct bio *child, const struct run *run)
{
	const struct iovec *iov = r->parent->iov;
	u64 at = run->at, len = run->p.len_bytes;

	for (; at >= iov->iov_len; iov++)
		at -= iov->iov_len;
	for (; len; iov++, at = 0) {
		u64 now = MIN(len, (u64)iov->iov_len - at);

		r->iov[r->iovs++] = (struct iovec){ (u8 *)iov->iov_base + at, now };
		child->iov_count++;
		len -= now;
	}
}

/* One child for this run and all later ones that go on where it ends on its device. */
static int direct(struct btrfs_volume *v, struct request *r, struct run *first)
{
	u32 dev = first->c->stripe[first->p.stripe].dev;
	u64 off = run_off(first), end = off;
	struct bio *child = &r->child[r->children];
	int err = child_init(r, v->device[dev], off, NULL, first->p.len_bytes);

	if (err)
		return err;
	child->iov = &r->iov[r->iovs];
	for (struct run *run = first; run < r->run + r->runs; run++) {
		if (run->used || run->p.rebuild || run->c->stripe[run->p.stripe].dev != dev ||
		    run_off(run) != end)
			continue;
		run->used = true;
		add_iov(r, child, run);
		end += run->p.len_bytes;
	}
	child->len_bytes = end - off;
	return end <= v->device[dev]->dev->size_bytes ? 0 : -EIO;
}

/* What is made of which stripes: of those that are behind only where it cannot be done without. */
static int factors(struct btrfs_volume *v, const struct run *run, u8 *factor)
{
	const struct btrfs_chunk *c = run->c;
	u32 data = btrfs_chunk_data_stripes(c), n = c->num_stripes;
	bool bad[256];
	int err = -EIO;

	for (enum btrfs_there least = BTRFS_THERE; err && least != BTRFS_MISSING; least--) {
		for (u32 role = 0; role < n; role++)
			bad[role] = role == run->p.data || role == run->p.other ||
				    state(v, c, btrfs_stripe_of_role(c, run->p.row, role)) < least;
		err = btrfs_raid56_factors(data, n - data, run->p.data, bad, factor);
	}
	return err;
}

static int rebuild(struct btrfs_volume *v, struct request *r, const struct run *run)
{
	const struct btrfs_chunk *c = run->c;
	u32 n = c->num_stripes;
	struct rebuild *b = &r->rebuild[r->rebuilds++];
	u8 factor[256];
	int err = factors(v, run, factor);

	if (err)
		return err;
	*b = (struct rebuild){ .at = run->at, .len_bytes = (u32)run->p.len_bytes };
	b->factor = malloc(n);
	b->src = calloc(n, sizeof(*b->src));
	b->out = malloc(b->len_bytes);
	if (!b->factor || !b->src || !b->out)
		return -ENOMEM;
	for (u32 role = 0; role < n && !err; role++) {
		const struct btrfs_stripe *s = &c->stripe[btrfs_stripe_of_role(c, run->p.row, role)];

		if (!factor[role])
			continue;
		b->factor[b->sources] = factor[role];
		b->src[b->sources] = malloc(b->len_bytes);
		if (!b->src[b->sources++])
			return -ENOMEM;
		err = child_init(r, v->device[s->dev], s->off_bytes + run->p.in_stripe,
				 b->src[b->sources - 1], b->len_bytes);
	}
	return err;
}

/* What the request needs at the most, then its children, none of them submitted. */
static int make(struct btrfs_volume *v, struct request *r)
{
	u32 children = 0, rebuilds = 0;
	int err = 0;

	r->run = calloc(r->runs, sizeof(*r->run));
	if (!r->run)
		return -ENOMEM;
	err = cut(v, r->parent, r->run, &r->runs);
	for (u32 i = 0; i < r->runs; i++) {
		children += r->run[i].p.rebuild ? r->run[i].c->num_stripes : 1;
		rebuilds += r->run[i].p.rebuild;
	}
	r->child = calloc(children, sizeof(*r->child));
	r->iov = malloc((r->parent->iov_count + r->runs) * sizeof(*r->iov));
	r->rebuild = calloc(MAX(rebuilds, 1u), sizeof(*r->rebuild));
	if (!err && (!r->child || !r->iov || !r->rebuild))
		err = -ENOMEM;
	for (u32 i = 0; i < r->runs && !err; i++)
		if (!r->run[i].used)
			err = r->run[i].p.rebuild ? rebuild(v, r, &r->run[i]) : direct(v, r, &r->run[i]);
	return err;
}

static void read_cut(struct btrfs_volume *v, struct bio *bio, u32 runs)
{
	struct request *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;
	u32 n;

	if (r) {
		r->parent = bio;
		r->runs = runs;
		atomic_init(&r->left, 1);
		err = make(v, r);
	}
	if (err) {
		if (r)
			request_free(r);
		bio_complete(bio, err);
		return;
	}
	n = r->children;
	atomic_fetch_add(&r->left, n);
	for (u32 i = 0; i < n; i++)
		bio_submit_child(bio, &r->child[i]);
	one_less(r);
}

static void volume_submit(struct blkdev *dev, struct bio *bio)
{
	struct btrfs_volume *v = to_volume(dev);
	const struct btrfs_device *d;
	struct run only;
	u32 runs;
	int err;

	if (bio->op != BIO_READ) {
		bio_complete(bio, bio->op == BIO_FLUSH ? 0 : -EROFS);
		return;
	}
	err = cut(v, bio, NULL, &runs);
	if (err) {
		bio_complete(bio, err);
		return;
	}
	if (runs > 1) {
		read_cut(v, bio, runs);
		return;
	}
	(void)!cut(v, bio, &only, &runs);
	d = v->device[only.c->stripe[only.p.stripe].dev];
	if (only.p.rebuild)
		read_cut(v, bio, runs);
	else if (run_off(&only) > d->dev->size_bytes || bio->len_bytes > d->dev->size_bytes - run_off(&only))
		bio_complete(bio, -EIO);
	else
		bio_pass(bio, d->dev, run_off(&only));
}

static void volume_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	struct btrfs_volume *v = to_volume(dev);

	while (len_bytes) {
		const struct btrfs_chunk *c = btrfs_chunk_find(v, off_bytes);
		struct btrfs_piece p;

		if (!c || btrfs_piece_find(c, off_bytes, len_bytes, 0, state, v, &p) || p.rebuild)
			return;
		blkdev_will_need(v->device[c->stripe[p.stripe].dev]->dev,
				 c->stripe[p.stripe].off_bytes + p.in_stripe, p.len_bytes);
		off_bytes += p.len_bytes;
		len_bytes -= p.len_bytes;
	}
}

int btrfs_volume_where(struct btrfs_volume *v, u64 logical, u32 copy, u64 *devid, u64 *off_bytes,
		       u64 *len_bytes)
{
	const struct btrfs_chunk *c = btrfs_chunk_find(v, logical);
	struct btrfs_piece p;
	int err = c ? btrfs_piece_find(c, logical, LOGICAL_END, copy, state, v, &p) : -EIO;

	if (err || p.rebuild)
		return -EIO;
	*devid = v->device[c->stripe[p.stripe].dev]->devid;
	*off_bytes = c->stripe[p.stripe].off_bytes + p.in_stripe;
	*len_bytes = p.len_bytes;
	return 0;
}

int btrfs_volume_member(struct btrfs_volume *v, u64 logical, u32 role, struct btrfs_member *out)
{
	const struct btrfs_chunk *c = btrfs_chunk_find(v, logical);
	u64 nr;
	u32 stripe;

	if (!c || !btrfs_chunk_parity(c) || role >= c->num_stripes)
		return -ENOENT;
	nr = (logical - c->logical) / BTRFS_STRIPE_BYTES / btrfs_chunk_data_stripes(c);
	stripe = btrfs_stripe_of_role(c, (u32)(nr % c->num_stripes), role);
	out->device = v->device[c->stripe[stripe].dev];
	out->off_bytes = c->stripe[stripe].off_bytes + nr * BTRFS_STRIPE_BYTES;
	if (state(v, c, stripe) != BTRFS_THERE || out->off_bytes > out->device->dev->size_bytes ||
	    out->device->dev->size_bytes - out->off_bytes < BTRFS_STRIPE_BYTES)
		return -EIO;
	return 0;
}

void btrfs_volume_bad_copy(struct btrfs_volume *v, u64 logical, u32 copy)
{
	const struct btrfs_chunk *c = btrfs_chunk_find(v, logical);
	struct btrfs_device *d;
	struct btrfs_piece p;

	/* What was made from several devices is the fault of any. */
	if (!c || btrfs_piece_find(c, logical, 1, copy, state, v, &p) || p.rebuild)
		return;
	d = v->device[c->stripe[p.stripe].dev];
	if (!atomic_fetch_add(&d->csum_errors, 1))
		log_warn("%s: device %llu, %s: wrong checksum of what lies at byte %llu there; another copy "
			 "is read, "
			 "where there is one",
			 v->health->name, (unsigned long long)d->devid, d->dev->name,
			 (unsigned long long)(c->stripe[p.stripe].off_bytes + p.in_stripe));
}

/* ---- opening ---- */

static void volume_release(struct blkdev *dev)
{
	struct btrfs_volume *v = to_volume(dev);

	for (u32 i = 0; i < v->device_count; i++) {
		struct btrfs_device *d = v->device[i];
		u64 wrong = atomic_load(&d->csum_errors);

		if (wrong > 1)
			log_warn("%s: device %llu, %s: %llu wrong checksums in all", dev->name,
				 (unsigned long long)d->devid, d->dev->name, (unsigned long long)wrong);
		blkdev_put(d->dev);
		free(d);
	}
	for (u32 i = 0; i < v->stray_count; i++)
		blkdev_put(v->stray[i].dev);
	for (u32 i = 0; i < v->chunk_count; i++)
		free(v->chunk[i]);
	free(v->device);
	free(v->stray);
	free(v->chunk);
	blkdev_fini(dev);
	free(v);
}

static const struct blkdev_ops volume_ops = {
	.kind = "btrfs",
	.submit = volume_submit,
	.will_need = volume_will_need,
	.release = volume_release,
};

static int add_stray(struct btrfs_volume *v, struct blkdev *dev, const struct btrfs_disk_super *d)
{
	struct btrfs_stray *more = realloc(v->stray, (v->stray_count + 1ul) * sizeof(*more));

	if (!more)
		return fail(-ENOMEM, "no memory for a device");
	v->stray = more;
	more[v->stray_count] =
		(struct btrfs_stray){ .dev = blkdev_get(dev), .devid = le64_get(d->dev_item.devid) };
	memcpy(more[v->stray_count].fsid, d->fsid, sizeof(d->fsid));
	memcpy(more[v->stray_count].uuid, d->dev_item.uuid, sizeof(d->dev_item.uuid));
	v->stray_count++;
	return 0;
}

/* A device of this volume. Of twins (a device and its older copy) the newer one is taken. */
static int add_member(struct btrfs_volume *v, struct blkdev *dev, const struct btrfs_disk_super *d)
{
	u64 generation = le64_get(d->generation);
	struct btrfs_device *m = NULL;
	int err;

	/* What is to replace another device, and does not hold all of it yet. */
	if (!le64_get(d->dev_item.devid))
		return 0;
	for (u32 i = 0; i < v->device_count && !m; i++)
		if (v->device[i]->devid == le64_get(d->dev_item.devid))
			m = v->device[i];
	if (!m) {
		err = btrfs_device_add(v, le64_get(d->dev_item.devid), d->dev_item.uuid, dev, &m);
		if (err)
			return err;
	} else if (generation == m->generation && m->dev != dev) {
		return fail(-EEXIST, "%s and %s are the same device of the volume: name one of them",
			    m->dev->name, dev->name);
	} else if (generation <= m->generation) {
		return 0;
	} else {
		blkdev_put(m->dev);
		m->dev = blkdev_get(dev);
		memcpy(m->uuid, d->dev_item.uuid, sizeof(m->uuid));
	}
	m->size_bytes = le64_get(d->dev_item.total_bytes);
	m->generation = generation;
	return 0;
}

/*
 * Reads all superblocks; the first device says which volume it is. The newest superblock of it counts, or, where a copy was asked for, the
 * first device's; of other devices, which may be too short to have that copy, any will do then.
 */
static int gather(struct btrfs_volume *v, struct blkdev **devs, u32 n, int mirror,
		  struct btrfs_disk_super *super)
{
	struct btrfs_disk_super *d = malloc(sizeof(*d));
	int err = d ? 0 : fail(-ENOMEM, "no memory for superblocks");
	u32 which;

	for (u32 i = 0; i < n && !err; i++) {
		err = btrfs_sb_read(devs[i], mirror, d, &which);
		if (err && i && mirror >= 0)
			err = btrfs_sb_read(devs[i], -1, d, &which);
		if (err)
			break;
		if (!i) {
			memcpy(v->fsid, d->fsid, sizeof(v->fsid));
			*super = *d;
		}
		if (memcmp(d->fsid, v->fsid, sizeof(v->fsid))) {
			err = add_stray(v, devs[i], d);
			continue;
		}
		err = add_member(v, devs[i], d);
		if (mirror < 0 && le64_get(d->generation) > le64_get(super->generation))
			*super = *d;
	}
	free(d);
	return err;
}

static int system_chunks(struct btrfs_volume *v, const struct btrfs_disk_super *super)
{
	u32 at = 0, len = le32_get(super->sys_array_bytes);

	while (at < len) {
		const struct btrfs_disk_key *key = (const void *)(super->sys_array + at);
		const struct btrfs_disk_chunk *c = (const void *)(key + 1);
		u32 bytes;
		int err;

		if (len - at < sizeof(*key) + sizeof(*c) || key->type != BTRFS_KEY_CHUNK_ITEM)
			return corrupt(v->health, "superblock", le64_get(super->bytenr),
				       "its array of system chunks makes no sense");
		bytes = (u32)(sizeof(*c) + le16_get(c->num_stripes) * sizeof(c->stripe[0]));
		if (bytes > len - at - sizeof(*key) || !(le64_get(c->type) & BTRFS_BG_SYSTEM))
			return corrupt(v->health, "superblock", le64_get(super->bytenr),
				       "its array of system chunks holds what is none");
		err = btrfs_volume_chunk(v, le64_get(key->offset), c, bytes);
		if (err)
			return err;
		at += (u32)sizeof(*key) + bytes;
	}
	return 0;
}

int btrfs_volume_new(struct blkdev **devs, u32 n, int mirror, struct health *health,
		     struct btrfs_disk_super *super, struct btrfs_volume **out)
{
	struct btrfs_volume *v = calloc(1, sizeof(*v));
	int err = v ? blkdev_init(&v->dev, &volume_ops, devs[0]->name, LOGICAL_END) : -ENOMEM;

	if (err) {
		free(v);
		return err == -ENOMEM ? fail(err, "no memory for a volume") : err;
	}
	v->health = v->dev.health = health;
	v->dev.flags = BLKDEV_RDONLY;
	err = gather(v, devs, n, mirror, super);
	if (!err) {
		v->sector_bytes = le32_get(super->sector_bytes);
		v->incompat = le64_get(super->incompat);
		v->generation = le64_get(super->generation);
		memcpy(v->dev_fsid, super->dev_item.fsid, sizeof(v->dev_fsid));
		v->dev.physical_bytes = v->sector_bytes;
		err = system_chunks(v, super);
	}
	for (u32 i = 0; i < v->chunk_count; i++)
		v->dev.copies = MAX(v->dev.copies, v->chunk[i]->copies);
	if (err)
		btrfs_volume_free(v);
	else
		*out = v;
	return err;
}

void btrfs_volume_free(struct btrfs_volume *v)
{
	if (v)
		blkdev_put(&v->dev);
}

struct blkdev *btrfs_volume_dev(struct btrfs_volume *v)
{
	return &v->dev;
}

/* Some byte of it cannot be had with the devices that are there. */
static bool is_lost(const struct btrfs_volume *v, const struct btrfs_chunk *c)
{
	u32 missing = 0, data = btrfs_chunk_data_stripes(c), per = c->num_stripes / data;

	for (u32 i = 0; i < c->num_stripes; i++)
		missing += !is_there(v, c, i);
	if (btrfs_chunk_parity(c))
		return missing > btrfs_chunk_parity(c);
	for (u32 first = 0; first < c->num_stripes; first += per) {
		missing = 0;
		for (u32 i = first; i < first + per; i++)
			missing += !is_there(v, c, i);
		if (missing == per)
			return true;
	}
	return false;
}

/* A device that was given and that nothing in the volume speaks of; NULL: there is none. */
static const struct btrfs_stray *stranger(const struct btrfs_volume *v)
{
	for (u32 i = 0; i < v->stray_count; i++) {
		u32 k = 0;

		while (k < v->device_count && v->device[k]->dev != v->stray[i].dev)
			k++;
		if (k == v->device_count)
			return &v->stray[i];
	}
	return NULL;
}

int btrfs_volume_ready(struct btrfs_volume *v, bool degraded, u32 *lost)
{
	u32 flags = BLKDEV_HINTS, all = 0;
	const struct btrfs_chunk *last;

	*lost = 0;
	if (!degraded && stranger(v))
		return fail(-ENXIO, "%s is a device of another volume than %s", stranger(v)->dev->name,
			    v->dev.name);
	for (u32 i = 0; i < v->device_count; i++) {
		const struct btrfs_device *d = v->device[i];
		struct text t = { 0 };
		int err;

		if (d->dev) {
			flags &= d->dev->flags & BLKDEV_HINTS ? flags : ~BLKDEV_HINTS;
			all |= d->dev->flags & BLKDEV_DIRECT;
			continue;
		}
		if (degraded)
			continue;
		text_add_uuid(&t, d->uuid);
		err = fail(-ENXIO,
			   "device %llu of the volume (%s) is missing: name it with --device, or show what "
			   "is there "
			   "with -o degraded",
			   (unsigned long long)d->devid, text_str(&t));
		text_free(&t);
		return err;
	}
	v->dev.flags |= flags | all;
	for (u32 i = 0; i < v->chunk_count; i++) {
		v->dev.copies = MAX(v->dev.copies, v->chunk[i]->copies);
		*lost += is_lost(v, v->chunk[i]);
	}
	last = btrfs_chunk_at(v, v->chunk_count - 1);
	v->dev.size_bytes = last->logical + last->len_bytes;
	return 0;
}
