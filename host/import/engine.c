/*
 * The copy engine. Interface: import.h.
 *
 * Its threads do all the same: ask the feed for its next item, one at a time, and fetch that item's data. What they do with it depends on
 * the sink. One that takes several files at once is filled by the thread that fetched them, through a buffer that stays in the CPU's
 * cache. Any other is filled by the caller's thread alone, in the feed's order, which makes the result the same each time: the
 * others lay what they fetched on a belt (conveyor.h).
 *
 * Locks: `order` is held while the feed is asked, and by a parallel sink's make; `lock` for the report, and for moments.
 */
#include "import.h"

#include "conveyor.h"
#include "lib/lock.h"
#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX    64u
#define MEMORY_DEFAULT (64ull << 20)
#define BUFFER_BYTES   (512u << 10)
#define PROGRESS_NS    500000000ull

struct run {
	struct feed *f;
	struct sink *k;
	const struct copy_opts *o;
	struct mutex order;           /* rank MOUNT: next, and a parallel sink's make */
	bool at_end;                  /* [order] */
	struct mutex lock;            /* rank LEAF */
	struct cond idle;             /* in_flight fell to 0 */
	u32 in_flight;                /* [lock] files under way in a parallel sink */
	struct werunos_report report; /* [lock] */
	u64 told_ns;                  /* [lock] */
	int err;                      /* [lock] what ended the copy */
	char why[512];                /* [lock] */
	_Atomic bool ended;
	struct mutex telling;  /* rank RING: one call of opts->failed or ->progress at a time */
	struct conveyor *belt; /* NULL: the sink is parallel */
};

/* ---- what happened ---- */

static bool stopped(struct run *r)
{
	return stop_asked(r->o->stop);
}

static bool over(struct run *r)
{
	return atomic_load(&r->ended) || stopped(r);
}

/* The first error is the copy's. */
static void note_err(struct run *r, int err)
{
	mutex_guard(&r->lock);
	if (r->err)
		return;
	r->err = err;
	snprintf(r->why, sizeof(r->why), "%s", err_text());
}

/* Nothing more can come of this copy. */
static void end_with(struct run *r, int err)
{
	note_err(r, err);
	atomic_store(&r->ended, true);
	if (r->belt)
		conveyor_end(r->belt);
}

static void one_failed(struct run *r, const char *path, int err, const char *why)
{
	mutex_lock(&r->lock);
	r->report.failed++;
	mutex_unlock(&r->lock);
	if (!r->o->failed)
		return;
	mutex_guard(&r->telling);
	r->o->failed(r->o->ctx, path, err, why);
}

/* Errors of a sink that the next file would meet as well. */
static bool is_fatal(int err)
{
	switch (err) {
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -EIO:
	case -ENOMEM:
	case -EUCLEAN:
	case -ENODEV:
	case -EPIPE:
	case -ESHUTDOWN:
		return true;
	}
	return false;
}

static void sink_failed(struct run *r, const struct item *it, int err)
{
	if (is_fatal(err))
		end_with(r, err);
	else if (err != -ECANCELED)
		one_failed(r, it->path, err, err_text());
}

static void count(struct run *r, const struct item *it)
{
	struct werunos_report *c = &r->report;

	mutex_guard(&r->lock);
	if (it->kind == ITEM_LINK)
		c->links++;
	else if (it->kind != ITEM_FILE)
		c->others++;
	else if (S_ISREG(it->mode))
		c->files++;
	else if (S_ISDIR(it->mode))
		c->directories++;
	else
		c->others++;
}

static void tell(struct run *r, u64 bytes, bool now)
{
	struct werunos_report c;

	mutex_lock(&r->lock);
	r->report.bytes += bytes;
	if (!r->o->progress || (!now && os_monotonic_ns() - r->told_ns < PROGRESS_NS)) {
		mutex_unlock(&r->lock);
		return;
	}
	r->told_ns = os_monotonic_ns();
	c = r->report;
	mutex_unlock(&r->lock);
	if (r->f->ops->position)
		r->f->ops->position(r->f, &c.position_bytes, &c.position_all);
	mutex_guard(&r->telling);
	r->o->progress(r->o->ctx, &c);
}

/* ---- the next item, as it is wanted ---- */

static u32 mapped(u32 id, const struct werunos_id_map *map, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (id >= map[i].from && id - map[i].from < map[i].count)
			return map[i].to + (id - map[i].from);
	return id;
}

/* The entries of an ACL that name somebody, given other names. The form is linux/posix_acl_xattr.h's. */
static int map_acl(const struct copy_opts *o, struct item_xattr *x)
{
	struct acl *acl;
	u32 len;
	int err = acl_from_xattr(x->value, x->len_bytes, &acl);

	if (err)
		return fail(err, "%s is no ACL", x->name);
	for (u32 i = 0; acl && i < acl->count; i++) {
		struct acl_entry *e = &acl->e[i];

		if (e->tag == ACL_USER)
			e->id = mapped(e->id, o->uid_map, o->uid_maps);
		else if (e->tag == ACL_GROUP)
			e->id = mapped(e->id, o->gid_map, o->gid_maps);
	}
	if (acl)
		err = acl_to_xattr(acl, x->value, x->len_bytes, &len);
	acl_free(acl);
	return err;
}

static int give_owner(const struct copy_opts *o, struct item *it)
{
	int err = 0;

	if (o->has_owner) {
		it->uid = o->uid;
		it->gid = o->gid;
		it->has |= ITEM_OWNER;
	} else {
		it->uid = mapped(it->uid, o->uid_map, o->uid_maps);
		it->gid = mapped(it->gid, o->gid_map, o->gid_maps);
	}
	for (u32 i = 0; i < it->xattrs && !err && (o->uid_maps || o->gid_maps); i++)
		if (!strncmp(it->xattr[i].name, "system.posix_acl_", 17))
			err = map_acl(o, &it->xattr[i]);
	return err;
}

static int go_below(const char *top, char **path)
{
	size_t n = strlen(top), m = strlen(*path);
	char *p = malloc(n + m + 2);

	if (!p)
		return fail(-ENOMEM, "no memory to copy");
	memcpy(p, top, n);
	p[n] = m ? '/' : 0;
	memcpy(p + n + 1, *path, m + 1);
	free(*path);
	*path = p;
	return 0;
}

static int prepare(const struct copy_opts *o, struct item *it)
{
	size_t feed_len = strlen(it->path);
	int err = 0;

	if (!it->err && !item_path_ok(it->path))
		err = fail(-EINVAL, "its path leads out of the tree, or is none");
	else if (!it->err && it->kind == ITEM_LINK && !item_path_ok(it->target))
		err = fail(-EINVAL, "a link to \"%s\", which is outside of the tree", it->target);
	if (!err && !it->err)
		err = give_owner(o, it);
	if (err)
		item_spoil(it, err);
	if (!o->top)
		return 0;
	err = go_below(o->top, &it->path);
	it->feed_path = it->path + strlen(it->path) - feed_len;
	return !err && it->kind == ITEM_LINK ? go_below(o->top, &it->target) : err;
}

static bool is_regular(const struct item *it)
{
	return it->kind == ITEM_FILE && S_ISREG(it->mode);
}

static bool has_data(const struct item *it)
{
	return is_regular(it) && it->size_bytes;
}

/* Where its data are, for a sink that must know. */
static int map_item(struct run *r, struct item *it)
{
	int err;

	if (it->err || !(r->k->keep & SINK_MAP) || !r->f->ops->map || !has_data(it) ||
	    it->data_bytes >= it->size_bytes)
		return 0;
	err = r->f->ops->map(r->f, it);
	if (err && err != -ENOMEM) {
		item_spoil(it, err);
		return 0;
	}
	return err;
}

/* Locks: order. *out NULL: there is none. What is not to be made is told of and passed over. */
static int next_item(struct run *r, struct item **out)
{
	int err = 0;

	*out = NULL;
	while (!err && !r->at_end && !over(r)) {
		struct item *it;

		err = r->f->ops->next(r->f, &it);
		if (err)
			break;
		if (!it) {
			r->at_end = true;
			break;
		}
		if (select_drops(r->f->select, it->path)) {
			item_free(it);
			continue;
		}
		err = prepare(r->o, it);
		if (!err)
			err = map_item(r, it);
		if (!err && !it->err) {
			*out = it;
			return 0;
		}
		if (!err)
			one_failed(r, it->path, it->err, it->why ? it->why : "");
		item_free(it);
	}
	return err;
}

/* ---- a sink that is filled in order ---- */

static void *produce(void *arg)
{
	struct run *r = arg;

	for (;;) {
		struct belt_slot *slot = NULL;
		struct belt_outlet to;
		struct item *it;
		bool data, broken;
		int err;

		mutex_lock(&r->order);
		err = next_item(r, &it);
		/* What lies on the belt by now is made all the same. */
		r->at_end |= err != 0;
		data = it && has_data(it);
		if (it)
			slot = conveyor_put(r->belt, it, data);
		else
			conveyor_close(r->belt);
		/* Of a serial feed the data are fetched before anybody asks for the next item: it has one producer. */
		mutex_unlock(&r->order);
		if (err)
			note_err(r, err);
		if (!slot)
			return NULL;
		if (!data)
			continue;
		conveyor_outlet(r->belt, slot, &to);
		err = r->f->ops->fill(r->f, it, &to.outlet);
		broken = err && err != -ECANCELED && r->f->serial;
		if (broken)
			note_err(r, err);
		conveyor_filled(r->belt, &to, broken ? -ECANCELED : err);
		if (broken) {
			conveyor_close(r->belt);
			return NULL;
		}
	}
}

/* What lies on the belt of one regular file goes to the sink. */
static void consume_file(struct run *r, struct belt_slot *slot, const struct item *it)
{
	struct sink_file *sf;
	const char *why = "";
	u8 *buf;
	u64 off, len;
	int err = r->k->ops->begin(r->k, it, &sf), bad = 0;

	if (err) {
		sink_failed(r, it, err);
		return;
	}
	while (!err && has_data(it) && !stopped(r) &&
	       conveyor_data(r->belt, slot, &off, &buf, &len, &bad, &why)) {
		err = r->k->ops->write(r->k, sf, off, buf, len);
		if (!err)
			tell(r, len, false);
	}
	if (!err && !bad && over(r))
		bad = -ECANCELED;
	if (err)
		sink_failed(r, it, err);
	else if (bad && bad != -ECANCELED)
		one_failed(r, it->path, bad, why);
	if (err || bad) {
		(void)!r->k->ops->end(r->k, sf, it, err ? err : bad);
		return;
	}
	err = r->k->ops->end(r->k, sf, it, 0);
	if (err)
		sink_failed(r, it, err);
	else
		count(r, it);
}

static void consume(struct run *r)
{
	struct belt_slot *slot;

	while (!over(r) && (slot = conveyor_take(r->belt))) {
		const struct item *it = conveyor_item(slot);

		if (is_regular(it)) {
			consume_file(r, slot, it);
		} else {
			int err = r->k->ops->make(r->k, it);

			if (err)
				sink_failed(r, it, err);
			else
				count(r, it);
		}
		tell(r, 0, false);
		conveyor_drop(r->belt, slot);
	}
	conveyor_end(r->belt);
}

/* ---- a sink that takes several files at once ---- */

struct direct {
	struct outlet outlet;
	struct run *r;
	u8 *buf;
	struct sink_file *sf;
	int err; /* the sink's */
};

static u8 *direct_room(struct outlet *o, u64 want_bytes, u64 *room_bytes)
{
	struct direct *d = container_of(o, struct direct, outlet);

	*room_bytes = MIN(want_bytes, (u64)BUFFER_BYTES);
	return over(d->r) ? NULL : d->buf;
}

static int direct_put(struct outlet *o, u64 off_bytes, u64 len_bytes)
{
	struct direct *d = container_of(o, struct direct, outlet);

	d->err = d->r->k->ops->write(d->r->k, d->sf, off_bytes, d->buf, len_bytes);
	if (d->err)
		return -ECANCELED;
	tell(d->r, len_bytes, false);
	return 0;
}

/* After begin. */
static void direct_file(struct run *r, struct direct *d, const struct item *it)
{
	int err = 0;

	d->err = 0;
	if (has_data(it)) {
		err = r->f->ops->fill(r->f, it, &d->outlet);
		if (d->err)
			sink_failed(r, it, d->err);
		else if (err && err != -ECANCELED)
			one_failed(r, it->path, err, err_text());
	}
	if (err) {
		(void)!r->k->ops->end(r->k, d->sf, it, err);
		return;
	}
	err = r->k->ops->end(r->k, d->sf, it, 0);
	if (err)
		sink_failed(r, it, err);
	else
		count(r, it);
}

/* Locks: order. No file is under way any more. */
static void wait_idle(struct run *r)
{
	mutex_guard(&r->lock);
	while (r->in_flight)
		cond_wait(&r->idle, &r->lock);
}

static void in_flight(struct run *r, bool more)
{
	mutex_guard(&r->lock);
	if (more)
		r->in_flight++;
	else if (!--r->in_flight)
		cond_broadcast(&r->idle);
}

/* Locks: order. True: the item's data are to be moved, and it is counted as under way. */
static bool direct_begin(struct run *r, struct direct *d, const struct item *it)
{
	int err;

	if (is_regular(it)) {
		err = r->k->ops->begin(r->k, it, &d->sf);
		if (!err) {
			in_flight(r, true);
			return true;
		}
	} else {
		/* A directory has nothing under way in it; other kinds may name what is. */
		if (it->kind != ITEM_FILE)
			wait_idle(r);
		err = r->k->ops->make(r->k, it);
	}
	if (err)
		sink_failed(r, it, err);
	else
		count(r, it);
	return false;
}

static void *copy_direct(void *arg)
{
	struct run *r = arg;
	struct direct d = { .outlet = { direct_room, direct_put },
			    .r = r,
			    .buf = os_alloc_aligned(4096, BUFFER_BYTES) };

	if (!d.buf)
		end_with(r, fail(-ENOMEM, "no memory to copy"));
	while (d.buf) {
		struct item *it;
		bool begun;
		int err;

		mutex_lock(&r->order);
		err = next_item(r, &it);
		begun = it && direct_begin(r, &d, it);
		mutex_unlock(&r->order);
		if (err)
			end_with(r, err);
		if (!it)
			break;
		if (begun) {
			direct_file(r, &d, it);
			in_flight(r, false);
		}
		tell(r, 0, false);
		item_free(it);
	}
	free(d.buf);
	return NULL;
}

/* ---- all of it ---- */

/* Runs fn on n further threads, and own on this one. */
static void with_threads(struct run *r, u32 n, void *(*fn)(void *), void (*own)(struct run *))
{
	pthread_t thread[THREADS_MAX];
	u32 started = 0;

	while (started < n && !os_thread(&thread[started], "copy", fn, r))
		started++;
	if (!started && r->belt)
		end_with(r, fail(-EAGAIN, "no thread can be started"));
	own(r);
	for (u32 i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
}

static void own_direct(struct run *r)
{
	copy_direct(r);
}

int copy_run(struct feed *f, struct sink *k, const struct copy_opts *opts, struct werunos_report *report)
{
	struct run r = { .f = f, .k = k, .o = opts, .told_ns = os_monotonic_ns() };
	u32 threads = MIN(opts->threads ? opts->threads : os_cpus(), THREADS_MAX);
	int err = 0, end;

	mutex_init(&r.order, RANK_MOUNT);
	mutex_init(&r.lock, RANK_LEAF);
	mutex_init(&r.telling, RANK_RING);
	cond_init(&r.idle);
	if (k->parallel && !f->serial) {
		with_threads(&r, threads - 1, copy_direct, own_direct);
	} else {
		err = conveyor_new(opts->memory_bytes ? opts->memory_bytes : MEMORY_DEFAULT, &r.belt);
		if (!err)
			with_threads(&r, f->serial ? 1 : MAX(threads - 1, 1u), produce, consume);
	}
	end = k->ops->finish(k);
	tell(&r, 0, true);
	conveyor_free(r.belt);
	if (!err && r.err)
		err = fail(r.err, "%s", r.why);
	if (!err)
		err = end;
	r.report.stopped = stopped(&r);
	if (f->ops->position)
		f->ops->position(f, &r.report.position_bytes, &r.report.position_all);
	*report = r.report;
	cond_fini(&r.idle);
	mutex_fini(&r.telling);
	mutex_fini(&r.lock);
	mutex_fini(&r.order);
	return !err && r.report.stopped ? -ECANCELED : err;
}

int copy_measure(struct feed *f, const struct copy_opts *opts, struct copy_size *out)
{
	*out = (struct copy_size){ 0 };
	for (;;) {
		struct item *it;
		int err = f->ops->next(f, &it);
		const char *last;

		if (err || !it)
			return err;
		if (stop_asked(opts->stop)) {
			item_free(it);
			return -ECANCELED;
		}
		if (it->err || select_drops(f->select, it->path)) {
			item_free(it);
			continue;
		}
		last = strrchr(it->path, '/');
		out->name_bytes += strlen(last ? last + 1 : it->path);
		for (u32 i = 0; i < it->xattrs; i++)
			out->xattr_bytes += strlen(it->xattr[i].name) + it->xattr[i].len_bytes;
		if (is_regular(it)) {
			out->files++;
			out->bytes += it->data_bytes;
			out->blocks_4k += it->data_bytes / 4096 + !!(it->data_bytes % 4096);
		} else if (it->kind == ITEM_FILE && S_ISDIR(it->mode)) {
			out->directories++;
		} else if (it->kind == ITEM_FILE) {
			out->others++;
		}
		item_free(it);
	}
}
