/*
 * The engine between a feed and a sink that are made up: what arrives, in which order, in how much memory, and what becomes of errors
 * and of being stopped, at every position and with threads that are held up at random. Who hangs is ended by the alarm.
 */
#include "import/import.h"

#include "lib/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ITEMS_MAX  4000u
#define HANG_S     300u
#define BELT_ITEMS 2048u /* the conveyor's places */
#define STRIDE     61u   /* of bytes that are looked at */

enum op { NEXT, FILL, MAKE, BEGIN, WRITE, END, OPS };
enum mode { ORDERED, SERIAL, PARALLEL, MODES };
enum fate { NOT_MADE, UNDER_WAY, MADE, GIVEN_UP };

struct world {
	struct feed feed;
	struct sink sink;
	struct copy_opts opts;
	enum mode mode;
	u32 items;
	u64 size[ITEMS_MAX]; /* of a file; 0 and not is_file: a directory or a link */
	enum { FILE_, DIR_, LINK_ } kind[ITEMS_MAX];
	_Atomic int fate[ITEMS_MAX];
	u32 at; /* the next item */
	u64 seed;
	bool delays;
	/* What happens: the nth of `op` fails; the nth call of any sort sets `stop`. 0: never. */
	enum op fail_op;
	u32 fail_nth, stop_nth;
	int fail_err;
	bool sink_refuses; /* begin fails for each second file */
	u32 slow; /* this item's data come only when so many others have been asked for that they find no place; 0: none */
	_Atomic u32 calls[OPS], all_calls;
	volatile int stop;
	/* What was seen. */
	_Atomic u32 in_next, in_sink, in_flight, finished;
	u32 last_order; /* the item that was given to the sink last */
	_Atomic s64 on_the_way, most_on_the_way;
	_Atomic u32 told;
	const char *_Atomic wrong;
};

struct sink_file {
	u32 nr;
	u64 at_bytes;
};

static void oops(struct world *w, const char *what)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&w->wrong, &none, what);
}

static u64 chance(struct world *w)
{
	/* Of no use to anybody but as a source of delays and lengths: threads may get the same. */
	static __thread u64 own;

	if (!own)
		own = w->seed + (u64)(uintptr_t)&own;
	own = own * 6364136223846793005ull + 1442695040888963407ull;
	return own >> 33;
}

static void dawdle(struct world *w)
{
	u64 c = w->delays ? chance(w) % 128 : 127;

	if (c < 2)
		usleep((useconds_t)(chance(w) % 200));
	else if (c < 32)
		sched_yield();
}

/* One more call: 0, or how it fails. */
static int called(struct world *w, enum op op)
{
	u32 n = atomic_fetch_add(&w->calls[op], 1) + 1;

	dawdle(w);
	if (atomic_fetch_add(&w->all_calls, 1) + 1 == w->stop_nth)
		__atomic_store_n(&w->stop, 1, __ATOMIC_RELAXED);
	if (op == w->fail_op && n == w->fail_nth)
		return fail(w->fail_err, "made to fail");
	return 0;
}

static u8 byte_of(u32 nr, u64 off)
{
	return (u8)(nr * 31 + off * 7 + (off >> 12));
}

static u32 nr_of(const struct item *it)
{
	return (u32)strtoul(it->feed_path, NULL, 10);
}

/* ---- the feed ---- */

static int feed_next(struct feed *f, struct item **out)
{
	struct world *w = container_of(f, struct world, feed);
	char path[16];
	u32 nr = w->at;
	int err;

	if (atomic_fetch_add(&w->in_next, 1))
		oops(w, "two ask for the next item");
	err = called(w, NEXT);
	*out = NULL;
	if (!err && nr < w->items) {
		snprintf(path, sizeof(path), "%06u", nr);
		*out = item_new(path);
		(*out)->mode = w->kind[nr] == DIR_ ? S_IFDIR | 0755 : S_IFREG | 0644;
		(*out)->size_bytes = (*out)->data_bytes = w->size[nr];
		if (w->kind[nr] == LINK_) {
			(*out)->kind = ITEM_LINK;
			(*out)->target = strdup("000000");
		}
		w->at++;
	}
	atomic_fetch_sub(&w->in_next, 1);
	return err;
}

static int feed_fill(struct feed *f, const struct item *it, struct outlet *to)
{
	struct world *w = container_of(f, struct world, feed);
	u32 nr = nr_of(it);
	u64 off = 0, n;

	if (w->mode == SERIAL && nr != w->at - 1)
		oops(w, "a serial feed is asked for data of an earlier item");
	for (u32 ms = 0; w->slow && nr == w->slow && ms < 10000 && atomic_load(&w->calls[NEXT]) < BELT_ITEMS;
	     ms++)
		usleep(1000);
	if (w->slow && nr == w->slow)
		usleep(50000);
	while (off < it->size_bytes) {
		s64 now;
		u8 *p = to->room(to, it->size_bytes - off, &n);

		if (!p)
			return -ECANCELED;
		for (u64 i = 0; i < n; i += STRIDE)
			p[i] = byte_of(nr, off + i);
		now = atomic_fetch_add(&w->on_the_way, (s64)n) + (s64)n;
		if (now > atomic_load(&w->most_on_the_way))
			atomic_store(&w->most_on_the_way, now);
		dawdle(w);
		if (to->put(to, off, n))
			return -ECANCELED;
		off += n;
		/* In the middle of it, or at its end. */
		if (off >= it->size_bytes / 2 && off - n < it->size_bytes / 2) {
			int err = called(w, FILL);

			if (err)
				return err;
		}
	}
	return 0;
}

static const struct feed_ops feed_ops = { .next = feed_next, .fill = feed_fill };

/* ---- the sink ---- */

static void enter(struct world *w, bool alone)
{
	u32 n = atomic_fetch_add(&w->in_sink, 1);

	if (n && alone && w->mode != PARALLEL)
		oops(w, "two are in a sink that takes one");
	if (atomic_load(&w->finished))
		oops(w, "a call after finish");
}

static void leave(struct world *w)
{
	atomic_fetch_sub(&w->in_sink, 1);
}

/* Locks, of a parallel sink: the engine's. last_order has no other. */
static void in_order(struct world *w, u32 nr)
{
	if (nr + 1 <= w->last_order)
		oops(w, "not in the feed's order");
	w->last_order = nr + 1;
}

static int sink_make(struct sink *k, const struct item *it)
{
	struct world *w = container_of(k, struct world, sink);
	u32 nr = nr_of(it);
	int err;

	enter(w, true);
	in_order(w, nr);
	if (it->kind == ITEM_LINK && atomic_load(&w->in_flight))
		oops(w, "a link is made while files are under way");
	err = called(w, MAKE);
	if (!err)
		atomic_store(&w->fate[nr], MADE);
	leave(w);
	return err;
}

static int sink_begin(struct sink *k, const struct item *it, struct sink_file **out)
{
	struct world *w = container_of(k, struct world, sink);
	u32 nr = nr_of(it);
	int err;

	enter(w, true);
	in_order(w, nr);
	err = called(w, BEGIN);
	if (!err && w->sink_refuses && nr % 2)
		err = fail(-EACCES, "refused");
	if (!err) {
		*out = calloc(1, sizeof(**out));
		(*out)->nr = nr;
		atomic_fetch_add(&w->in_flight, 1);
		atomic_store(&w->fate[nr], UNDER_WAY);
	}
	leave(w);
	return err;
}

static int sink_write(struct sink *k, struct sink_file *sf, u64 off, void *buf, u64 len)
{
	struct world *w = container_of(k, struct world, sink);
	u8 *p = buf;
	int err;

	enter(w, true);
	if (off != sf->at_bytes || !len)
		oops(w, "bytes do not follow each other");
	for (u64 i = 0; i < len; i += STRIDE)
		if (p[i] != byte_of(sf->nr, off + i))
			oops(w, "wrong bytes");
	memset(p + len, 0xee, ALIGN_UP(len, SINK_PAD_BYTES) - len);
	sf->at_bytes += len;
	atomic_fetch_sub(&w->on_the_way, (s64)len);
	err = called(w, WRITE);
	leave(w);
	return err;
}

static int sink_end(struct sink *k, struct sink_file *sf, const struct item *it, int err)
{
	struct world *w = container_of(k, struct world, sink);

	enter(w, true);
	if (sf->nr != nr_of(it))
		oops(w, "another item at the end of a file");
	if (!err && sf->at_bytes != it->size_bytes)
		oops(w, "a file ends too soon");
	err = err ? err : called(w, END);
	atomic_store(&w->fate[sf->nr], err ? GIVEN_UP : MADE);
	atomic_fetch_sub(&w->in_flight, 1);
	free(sf);
	leave(w);
	return err;
}

static int sink_finish(struct sink *k)
{
	struct world *w = container_of(k, struct world, sink);

	if (atomic_load(&w->in_sink) || atomic_load(&w->in_flight))
		oops(w, "finish while something is under way");
	atomic_fetch_add(&w->finished, 1);
	return 0;
}

static const struct sink_ops sink_ops = {
	.make = sink_make, .begin = sink_begin, .write = sink_write, .end = sink_end, .finish = sink_finish
};

/* ---- runs ---- */

static void one_failed(void *ctx, const char *path, int err, const char *why)
{
	struct world *w = ctx;

	if (!err || !*why || !*path)
		oops(w, "told of a failure without saying what it is");
	atomic_fetch_add(&w->told, 1);
}

static u64 seed_of_run(void)
{
	const char *s = getenv("SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : os_monotonic_ns();

	print_message("SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* All files of one size, a directory first and a link each tenth. */
static struct world *world_new(enum mode mode, u32 threads, u32 items, u64 size)
{
	struct world *w = calloc(1, sizeof(*w));

	alarm(HANG_S);
	w->feed.ops = &feed_ops;
	w->feed.serial = mode == SERIAL;
	w->sink.ops = &sink_ops;
	w->sink.parallel = mode == PARALLEL;
	w->mode = mode;
	w->items = items;
	for (u32 i = 0; i < items; i++) {
		w->kind[i] = !i ? DIR_ : i % 10 ? FILE_ : LINK_;
		w->size[i] = w->kind[i] == FILE_ ? size : 0;
	}
	w->opts.threads = threads;
	w->opts.memory_bytes = 4 << 20;
	w->opts.stop = &w->stop;
	w->opts.failed = one_failed;
	w->opts.ctx = w;
	return w;
}

static u32 made(const struct world *w)
{
	u32 n = 0;

	for (u32 i = 0; i < w->items; i++)
		n += w->fate[i] == MADE;
	return n;
}

/* What holds for every run. */
static int run(struct world *w, struct werunos_report *r)
{
	int err = copy_run(&w->feed, &w->sink, &w->opts, r);

	alarm(0);
	assert_string_equal(w->wrong ? w->wrong : "", "");
	assert_int_equal(w->finished, 1);
	assert_int_equal(w->in_flight, 0);
	for (u32 i = 0; i < w->items; i++)
		assert_int_not_equal(w->fate[i], UNDER_WAY);
	assert_int_equal(r->files + r->directories + r->links + r->others, made(w));
	assert_int_equal(r->failed, w->told);
	assert_int_equal(r->stopped, !!w->stop);
	return err;
}

static void everything_arrives(void **state)
{
	static const u64 sizes[] = { 0, 1, 4095, 65536, 65537, 3 << 20 };
	struct werunos_report r;

	(void)state;
	for (u32 mode = 0; mode < MODES; mode++)
		for (u32 threads = 1; threads <= 8; threads *= 2)
			for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
				u32 items = sizes[i] > 1 << 20 ? 15 : 300;
				struct world *w = world_new(mode, threads, items, sizes[i]);

				assert_int_equal(run(w, &r), 0);
				assert_int_equal(made(w), items);
				assert_int_equal(r.bytes, r.files * sizes[i]);
				assert_int_equal(r.failed, 0);
				free(w);
			}
}

/* More items than the belt has places, of all sizes. */
static void random_worlds(void **state)
{
	u64 seed = seed_of_run();
	struct werunos_report r;

	(void)state;
	srand((u32)seed);
	for (u32 turn = 0; turn < 25; turn++) {
		u32 items = turn % 8 ? 1 + (u32)rand() % 300 : ITEMS_MAX;
		struct world *w = world_new((u32)rand() % MODES, 1 + (u32)rand() % 9, items, 0);

		w->seed = seed + turn;
		w->delays = true;
		w->sink_refuses = rand() % 3 == 0;
		for (u32 i = 0; i < items; i++)
			if (w->kind[i] == FILE_)
				w->size[i] = (u64)rand() % (rand() % 16  ? 3000
							    : rand() % 8 ? 200000
									 : 6000000);
		assert_int_equal(run(w, &r), 0);
		assert_int_equal(made(w) + r.failed, items);
		assert_true(w->sink_refuses || !r.failed);
		free(w);
	}
}

static void memory_is_bounded(void **state)
{
	struct werunos_report r;

	(void)state;
	for (u32 mode = 0; mode < MODES; mode++) {
		struct world *w = world_new(mode, 4, 600, 60000);

		w->delays = true;
		w->size[1] = 100 << 20;
		w->size[599] = 30 << 20;
		assert_int_equal(run(w, &r), 0);
		assert_int_equal(made(w), 600);
		/* A chunk in each hand. */
		assert_true(w->most_on_the_way <= (s64)w->opts.memory_bytes + 6 * (1 << 20));
		free(w);
	}
}

/* The nth call of a sort fails, for one file or for all. */
static void fails(enum mode mode, u32 threads, enum op op, u32 nth, int fail_err, u64 seed, bool *reached)
{
	struct world *w = world_new(mode, threads, 41, 9000);
	bool ends = op == NEXT || (op == FILL && mode == SERIAL) || (op > FILL && fail_err == -ENOSPC);
	struct werunos_report r;
	int err;

	w->seed = seed;
	w->delays = true;
	w->fail_op = op;
	w->fail_nth = nth;
	w->fail_err = fail_err;
	err = run(w, &r);
	*reached = w->calls[op] >= nth;
	assert_int_equal(err, *reached && ends ? fail_err : 0);
	if (err)
		assert_string_equal(err_text(), "made to fail");
	assert_int_equal(r.failed, *reached && !ends);
	if (!ends)
		assert_int_equal(made(w), 41 - *reached);
	/* In order: all that came before is there, and nothing that comes after. */
	for (u32 i = 1; i < 41 && mode != PARALLEL && ends; i++)
		assert_true(w->fate[i] != MADE || w->fate[i - 1] == MADE);
	if (*reached && op == NEXT && mode != PARALLEL)
		assert_int_equal(made(w), nth - 1);
	free(w);
}

static void every_call_fails(void **state)
{
	u64 seed = seed_of_run();

	(void)state;
	for (u32 mode = 0; mode < MODES; mode++)
		for (u32 threads = 1; threads <= 4; threads += 3)
			for (u32 op = 0; op < OPS; op++)
				for (u32 fatal = 0; fatal < 2; fatal++) {
					bool reached = true;
					u32 nth = 1;

					for (; reached; nth += nth < 12 ? 1 : 5)
						fails(mode, threads, op, nth, fatal ? -ENOSPC : -EACCES,
						      seed + nth, &reached);
					assert_true(nth > 5);
				}
}

/* What is there when it is stopped is whole, and in order it is the first so many. */
static void stopped_anywhere(void **state)
{
	u64 seed = seed_of_run();
	struct werunos_report r;

	(void)state;
	for (u32 mode = 0; mode < MODES; mode++)
		for (u32 threads = 1; threads <= 4; threads += 3)
			for (u32 nth = 1, stopped = 1; stopped; nth += nth < 50 ? 1 : 3) {
				struct world *w = world_new(mode, threads, 22, nth % 3 ? 3000 : 1200000);

				w->seed = seed + nth;
				w->delays = true;
				w->stop_nth = nth;
				stopped = run(w, &r) == -ECANCELED;
				assert_int_equal(stopped, w->stop);
				assert_int_equal(r.failed, 0);
				for (u32 i = 1; i < 22 && mode != PARALLEL; i++)
					assert_true(w->fate[i] != MADE || w->fate[i - 1] == MADE);
				assert_true(stopped || made(w) == 22);
				free(w);
			}
}

/* A sink that takes no second file, each of which is longer than what may be on its way. */
static void dropped_early(void **state)
{
	u64 seed = seed_of_run();
	struct werunos_report r;

	(void)state;
	for (u32 mode = 0; mode < MODES; mode++)
		for (u32 threads = 1; threads <= 8; threads *= 2) {
			struct world *w = world_new(mode, threads, 40, 7 << 20);

			w->seed = seed;
			w->delays = true;
			w->sink_refuses = true;
			assert_int_equal(run(w, &r), 0);
			assert_int_equal(r.failed, 20);
			assert_int_equal(made(w), 20);
			free(w);
		}
}

/* Nobody wants it, but its place is taken until its data have come: who needs that place waits, and is told. */
static void a_place_that_is_taken(void **state)
{
	struct werunos_report r;
	struct world *w = world_new(ORDERED, 4, ITEMS_MAX, 0);

	(void)state;
	w->sink_refuses = true;
	w->slow = 1;
	w->size[1] = 3000;
	assert_int_equal(run(w, &r), 0);
	assert_int_equal(made(w) + r.failed, ITEMS_MAX);
	free(w);
}

/* ---- what is wanted of an item ---- */

struct listed {
	struct sink sink;
	char text[1000];
};

static int list_make(struct sink *k, const struct item *it)
{
	struct listed *l = container_of(k, struct listed, sink);
	size_t n = strlen(l->text);

	snprintf(l->text + n, sizeof(l->text) - n, "%s %u:%u %s\n", it->path, it->uid, it->gid,
		 it->target ? it->target : "");
	return 0;
}

static int list_finish(struct sink *k)
{
	(void)k;
	return 0;
}

struct few {
	struct feed feed;
	u32 at;
};

static int few_next(struct feed *f, struct item **out)
{
	static const struct {
		const char *path, *target;
		u32 uid, gid;
	} item[] = {
		{ "", NULL, 0, 0 },
		{ "a", NULL, 1000, 100 },
		{ "a/b", "a", 1009, 109 },
		{ "../up", NULL, 0, 0 },
		{ "a//b", NULL, 0, 0 },
		{ "link", "../up", 0, 0 },
		{ "leave", NULL, 1010, 4294967294 },
		{ "leave/too", NULL, 0, 0 },
		{ "a/.", NULL, 0, 0 },
		{ "z", NULL, 1, 1 },
	};
	struct few *few = container_of(f, struct few, feed);
	u32 i = few->at++;

	*out = NULL;
	if (i >= ARRAY_SIZE(item))
		return 0;
	*out = item_new(item[i].path);
	(*out)->mode = S_IFDIR;
	(*out)->uid = item[i].uid;
	(*out)->gid = item[i].gid;
	(*out)->has = ITEM_OWNER;
	if (item[i].target) {
		(*out)->kind = ITEM_LINK;
		(*out)->target = strdup(item[i].target);
	}
	return 0;
}

static void count_failed(void *ctx, const char *path, int err, const char *why)
{
	(void)path, (void)err, (void)why;
	++*(u32 *)ctx;
}

static void paths_and_owners(void **state)
{
	static const struct feed_ops ops = { .next = few_next };
	static const struct sink_ops list_ops = { .make = list_make, .finish = list_finish };
	static const struct werunos_id_map uids = { 1000, 5000, 10 }, gids = { 109, 9, 1 };
	static const char *const exclude[] = { "leave" };
	const struct select select = { .exclude = exclude, .excludes = 1 };
	u32 failed = 0;
	struct copy_opts opts = { .uid_map = &uids,
				  .uid_maps = 1,
				  .gid_map = &gids,
				  .gid_maps = 1,
				  .failed = count_failed,
				  .ctx = &failed };
	struct few few = { .feed = { .ops = &ops, .select = &select } };
	struct listed l = { .sink = { .ops = &list_ops } };
	struct werunos_report r;

	(void)state;
	assert_int_equal(copy_run(&few.feed, &l.sink, &opts, &r), 0);
	assert_string_equal(l.text, " 0:0 \na 5000:100 \na/b 5009:9 a\nz 1:1 \n");
	assert_int_equal(failed, 4);
	few.at = 0;
	l.text[0] = 0;
	opts = (struct copy_opts){ .top = "t/op", .has_owner = true, .uid = 7, .gid = 8 };
	assert_int_equal(copy_run(&few.feed, &l.sink, &opts, &r), 0);
	assert_string_equal(l.text, "t/op 7:8 \nt/op/a 7:8 \nt/op/a/b 7:8 t/op/a\nt/op/z 7:8 \n");
	assert_int_equal(r.failed, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives),    cmocka_unit_test(random_worlds),
		cmocka_unit_test(memory_is_bounded),     cmocka_unit_test(every_call_fails),
		cmocka_unit_test(stopped_anywhere),      cmocka_unit_test(dropped_early),
		cmocka_unit_test(a_place_that_is_taken), cmocka_unit_test(paths_and_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
