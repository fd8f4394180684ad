/* The belt by itself, in one thread: its memory, and what becomes of data that nobody wants, or that there is no memory for. */
#include "import/conveyor.h"

#include "lib/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB (1ull << 20)

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define OWN_MALLOC false
#else
#define OWN_MALLOC true
#endif

static struct item *file(u64 size)
{
	struct item *it = item_new("file");

	it->mode = S_IFREG;
	it->size_bytes = it->data_bytes = size;
	return it;
}

static void put_bytes(struct belt_outlet *o, u64 off, u64 len)
{
	u64 n;
	u8 *p = o->outlet.room(&o->outlet, len, &n);

	assert_non_null(p);
	assert_true(n >= 1 && n <= len);
	memset(p, (int)off, n);
	assert_int_equal(o->outlet.put(&o->outlet, off, n), 0);
}

static u64 drain(struct conveyor *c, struct belt_slot *slot, int *err)
{
	u64 off, len, sum = 0;
	const char *why;
	u8 *buf;

	while (conveyor_data(c, slot, &off, &buf, &len, err, &why)) {
		assert_int_equal(buf[len - 1], (u8)off);
		sum += len;
	}
	assert_true(!*err || *why);
	return sum;
}

static u64 in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* Chunks that were kept for a large file give way to those of small ones. */
static void what_is_kept_counts(void **state)
{
	struct belt_outlet o;
	struct conveyor *c;
	struct belt_slot *slot;
	u64 before = in_use();
	int err;

	(void)state;
	if (!OWN_MALLOC) {
		print_message("another malloc\n");
		skip();
	}
	assert_int_equal(conveyor_new(16 * MIB, &c), 0);
	slot = conveyor_put(c, file(15 * MIB), true);
	conveyor_outlet(c, slot, &o);
	for (u64 i = 0; i < 15; i++)
		put_bytes(&o, i, MIB);
	conveyor_filled(c, &o, 0);
	assert_ptr_equal(conveyor_take(c), slot);
	assert_int_equal(drain(c, slot, &err), 15 * MIB);
	assert_int_equal(err, 0);
	conveyor_drop(c, slot);
	for (u64 i = 0; i < 250; i++) {
		slot = conveyor_put(c, file(60000), true);
		conveyor_outlet(c, slot, &o);
		put_bytes(&o, 0, 60000);
		conveyor_filled(c, &o, 0);
		assert_true(in_use() - before < 17 * MIB);
	}
	conveyor_free(c);
	assert_true(in_use() - before < MIB);
}

/* That is an error of the file, and not as if nobody had wanted it. */
static void no_memory(void **state)
{
	struct rlimit old, tight = { .rlim_cur = 4096 }; /* 0 would be none, for Valgrind */
	struct belt_outlet o;
	struct conveyor *c;
	struct belt_slot *slot;
	u64 n, put = 0;
	int err;
	u8 *p;

	(void)state;
	if (!OWN_MALLOC) {
		print_message("another malloc\n");
		skip();
	}
	assert_int_equal(conveyor_new(64 * MIB, &c), 0);
	slot = conveyor_put(c, file(64 * MIB), true);
	conveyor_outlet(c, slot, &o);
	assert_int_equal(getrlimit(RLIMIT_DATA, &old), 0);
	tight.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_DATA, &tight), 0);
	/* What the heap still has is given out first. */
	while (put < 60 && (p = o.outlet.room(&o.outlet, MIB, &n))) {
		p[n - 1] = (u8)put;
		assert_int_equal(o.outlet.put(&o.outlet, put++, n), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_DATA, &old), 0);
	conveyor_filled(c, &o, -ECANCELED);
	assert_ptr_equal(conveyor_take(c), slot);
	assert_int_equal(drain(c, slot, &err), put * MIB);
	assert_int_equal(err, -ENOMEM);
	conveyor_drop(c, slot);
	/* It was given back: all of the room is there. */
	slot = conveyor_put(c, file(64 * MIB), true);
	conveyor_outlet(c, slot, &o);
	for (u64 i = 0; i < 63; i++)
		put_bytes(&o, i, MIB);
	conveyor_free(c);
}

static void nobody_wants_it(void **state)
{
	struct belt_outlet early, late;
	struct belt_slot *a, *b;
	struct conveyor *c;
	u64 n;

	(void)state;
	assert_int_equal(conveyor_new(0, &c), 0);
	a = conveyor_put(c, file(MIB), true);
	conveyor_outlet(c, a, &early);
	put_bytes(&early, 0, MIB);
	assert_non_null(early.outlet.room(&early.outlet, MIB, &n));
	assert_ptr_equal(conveyor_take(c), a);
	conveyor_drop(c, a);
	assert_int_equal(early.outlet.put(&early.outlet, 0, n), -ECANCELED);
	assert_null(early.outlet.room(&early.outlet, MIB, &n));
	conveyor_filled(c, &early, -ECANCELED);
	/* The same at the end of all. */
	b = conveyor_put(c, file(MIB), true);
	assert_ptr_not_equal(a, b);
	conveyor_outlet(c, b, &late);
	assert_non_null(late.outlet.room(&late.outlet, MIB, &n));
	conveyor_end(c);
	assert_null(conveyor_take(c));
	assert_int_equal(late.outlet.put(&late.outlet, 0, n), -ECANCELED);
	conveyor_filled(c, &late, -ECANCELED);
	assert_null(conveyor_put(c, file(1), true));
	conveyor_free(c);
}

/* Items count as well: one larger than all of the room goes alone. */
static void an_item_beyond_the_limit(void **state)
{
	struct item *it = file(0);
	struct belt_slot *slot;
	struct conveyor *c;

	(void)state;
	assert_int_equal(conveyor_new(4 * MIB, &c), 0);
	for (u64 i = 0; i < 400000; i++)
		assert_int_equal(item_add_range(it, 2 * i, 1), 0);
	assert_true(item_bytes(it) > 4 * MIB);
	slot = conveyor_put(c, it, false);
	conveyor_close(c);
	assert_ptr_equal(conveyor_take(c), slot);
	assert_ptr_equal(conveyor_item(slot), it);
	conveyor_drop(c, slot);
	assert_null(conveyor_take(c));
	conveyor_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_kept_counts),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(nobody_wants_it),
		cmocka_unit_test(an_item_beyond_the_limit),
	};

	alarm(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
