/*
 * Hashed directories that grow: two levels of index and the end of it, names of one hash in many leaves, listings that go on
 * while names come and go.
 */
#include "dirmodel.h"

#define MANY      110000u
#define COLLIDING 40u
#define LONG      230u

static void fill(struct dirmodel *m, u32 from, u32 to)
{
	for (u32 i = from; i < to; i++)
		model_must(m, MODEL_ADD, i, i % MODEL_FILES);
}

static u32 levels(struct dirmodel *m)
{
	struct ext4_dx_path path;
	u32 n;

	assert_true(ext4_dir_is_indexed(m->dir));
	assert_int_equal(ext4_dx_open(m->dir, &path), 0);
	n = path.levels;
	ext4_dx_close(&path);
	return n;
}

static u32 long_name(u32 i, char *out)
{
	u32 n = (u32)sprintf(out, "%x", i);

	memset(out + n, 'x', LONG - n);
	return LONG;
}

/* ---- depth ---- */

static void two_levels(void **state)
{
	struct dirmodel m;

	(void)state;
	rnd_seed();
	model_start(&m, "-t ext4 -b 1024 -O ^has_journal", "", 64, MANY);
	fill(&m, 0, MANY);
	assert_int_equal(levels(&m), 2);
	for (u32 i = 0; i < MANY; i += 3)
		model_must(&m, MODEL_DEL, i, 0);
	for (u32 i = 0; i < MANY; i += 6)
		model_must(&m, MODEL_ADD, i, 1);
	model_check(&m, 500);
	model_end(&m);
}

/* What e2fsck rewrote, every block full, goes on; so does what we made of that, when the kernel goes on. */
static void by_turns(void **state)
{
	struct dirmodel m;
	u32 n = 20000;

	(void)state;
	rnd_seed();
	model_start(&m, "-t ext4 -b 1024", "", 64, 2 * n);
	fill(&m, 0, n);
	for (u32 round = 0; round < 2; round++) {
		model_settle(&m);
		model_detach(&m);
		vol_close();
		run("e2fsck -fyD %s/img >/dev/null 2>&1; test $? -le 1", vol_dir);
		vol_open();
		model_attach(&m, "d");
		for (u32 i = 0; i < n; i++) {
			u32 x = rnd(m.n);

			model_must(&m, m.is[x] ? MODEL_DEL : MODEL_ADD, x, rnd(MODEL_FILES));
		}
		model_check(&m, 100);
	}
	model_settle(&m);
	model_detach(&m);
	vol_close();
	if (vol_kernel_can()) {
		vol_kernel("img", "rw");
		run("cd %s/mnt/d && seq -f kernel-%%g 1 3000 | xargs touch && ls -U | head -n 5000 | xargs "
		    "-d '\\n' rm "
		    "--",
		    vol_dir);
		vol_kernel_end();
		vol_fsck();
	}
	vol_remove();
	free(m.is);
}

/* No more names fit: said so, and what is there stays good; room that a name leaves is room. */
static void full_index(void **state)
{
	struct dirmodel m;
	u32 n, last;
	int err;

	(void)state;
	rnd_seed();
	model_start(&m, "-t ext4 -b 1024 -O ^has_journal", "", 48, 60000);
	m.name_of = long_name;
	for (n = 0; !(err = model_change(&m, MODEL_ADD, n, n % MODEL_FILES)); n++)
		assert_true(n + 1 < m.n);
	assert_int_equal(err, -ENOSPC);
	assert_int_equal(levels(&m), 2);
	model_check_lookup(&m, n);
	last = m.present;
	for (u32 i = 0; i < n; i++)
		model_must(&m, MODEL_SET, i, 2);
	for (u32 i = 0; i < n; i += 2)
		model_must(&m, MODEL_DEL, i, 0);
	for (u32 i = 0; i < n; i += 2)
		err = model_change(&m, MODEL_ADD, i, 3);
	assert_true(m.present > last / 10 * 9);
	m.n = n + 1;
	model_check(&m, 100);
	model_end(&m);
}

/* With large_dir there is a third level of index, for us and for the kernel in turns. */
static void three_levels(void **state)
{
	struct dirmodel m;
	u32 n = 42000;

	(void)state;
	rnd_seed();
	model_start(&m, "-t ext4 -b 1024 -O large_dir,metadata_csum -J size=4", "", 64, n + 2000);
	m.name_of = long_name;
	fill(&m, 0, n);
	assert_int_equal(levels(&m), 3);
	for (u32 i = 0; i < n; i += 10)
		model_must(&m, MODEL_DEL, i, 0);
	for (u32 i = 0; i < n; i += 20)
		model_must(&m, MODEL_ADD, i, 1);
	model_check(&m, 500);
	model_settle(&m);
	model_detach(&m);
	vol_close();
	vol_fsck();
	if (vol_kernel_can()) {
		vol_kernel("img", "rw");
		run("cd %s/mnt/d && test $(ls -U | wc -l) = %u && seq -f kernel-%%0200g 1 3000 | xargs touch "
		    "&& "
		    "seq -f kernel-%%0200g 1 3000 | xargs rm --",
		    vol_dir, m.present);
		vol_kernel_end();
		vol_fsck();
	}
	vol_open();
	model_attach(&m, "d");
	for (u32 i = n; i < m.n; i++)
		model_must(&m, MODEL_ADD, i, 2);
	model_check(&m, 100);
	model_end(&m);
}

/* ---- names of one hash ---- */

#define LEGACY_FACTOR 7152373u
#define TAIL          8u

/* The legacy hash under way. */
struct legacy {
	u32 h0, h1;
};

static void legacy_step(struct legacy *l, char c)
{
	u32 h = l->h1 + (l->h0 ^ (u32)c * LEGACY_FACTOR);

	l->h1 = l->h0;
	l->h0 = h & 0x80000000 ? h - 0x7fffffff : h;
}

/* The last character that makes the hash `want`, if there is one: a step can be undone, since its factor is odd. */
static char last_char(struct legacy l, u32 want, u32 inverse)
{
	for (u32 carry = 0; carry < 2; carry++) {
		u32 c = ((want + carry * 0x7fffffff - l.h1) ^ l.h0) * inverse;
		struct legacy end = l;

		if (!c || c > 127 || c == '/')
			continue;
		legacy_step(&end, (char)c);
		if (end.h0 == want)
			return (char)c;
	}
	return 0;
}

static char colliding[COLLIDING][LONG];

static u32 colliding_name(u32 i, char *out)
{
	if (i >= COLLIDING)
		return model_name(i, out);
	memcpy(out, colliding[i], LONG);
	return LONG;
}

/* Long names that all have one legacy hash. */
static void make_colliding(void)
{
	struct legacy at[TAIL] = { { 0x12a3fe2d, 0x37abe8f9 } }; /* before each character of the end */
	char end[TAIL] = { 0 };
	u32 inverse = 1, found = 0, from = 0;

	if (colliding[0][0])
		return;
	for (int i = 0; i < 5; i++)
		inverse *= 2 - LEGACY_FACTOR * inverse;
	memset(colliding, 'c', sizeof(colliding));
	memset(end, 'a', TAIL - 1);
	for (u32 i = 0; i < LONG - TAIL; i++)
		legacy_step(&at[0], 'c');
	while (found < COLLIDING) {
		for (u32 i = from; i < TAIL - 1; i++) {
			at[i + 1] = at[i];
			legacy_step(&at[i + 1], end[i]);
		}
		end[TAIL - 1] = last_char(at[TAIL - 1], 0x12345678, inverse);
		if (end[TAIL - 1])
			memcpy(colliding[found++] + LONG - TAIL, end, TAIL);
		for (from = TAIL - 2; end[from] == 'z'; from--)
			end[from] = 'a';
		end[from]++;
	}
}

/* Four to a leaf: a chain of leaves of one hash, with other names before and after it. */
static void one_hash(void **state)
{
	struct ext4_hash h, first;
	struct dirmodel m;

	(void)state;
	rnd_seed();
	make_colliding();
	model_start(&m, "-t ext4 -b 1024 -O ^has_journal", "-E hash_alg=legacy", 16, 1000);
	m.name_of = colliding_name;
	for (u32 i = 0; i < COLLIDING; i++) {
		assert_int_equal(ext4_name_hash(vol_es, EXT4_HASH_LEGACY, colliding[i], LONG, &h), 0);
		if (!i)
			first = h;
		assert_int_equal(h.hash, first.hash);
	}
	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < m.n; i++)
			if (!m.is[i])
				model_must(&m, MODEL_ADD, i, round);
		model_check(&m, 7);
		for (u32 i = 0; i < 600; i++) {
			u32 x = rnd(rnd(2) ? COLLIDING : m.n);

			model_must(&m, m.is[x] ? MODEL_DEL : MODEL_ADD, x, 1);
			model_check_lookup(&m, rnd(COLLIDING));
		}
		model_check(&m, 1);
	}
	model_end(&m);
}

/* ---- listings that go on ---- */

/*
 * Between the calls of a listing names come and go, leaves are split. What is there all the time (even numbers) is
 * listed once.
 */
static void listing_under_change(void **state)
{
	static const char *const args[] = { "-t ext4 -b 1024 -O ^has_journal",
					    "-t ext4 -b 1024 -O ^has_journal,^dir_index" };
	(void)state;
	rnd_seed();
	for (u32 k = 0; k < 2 * ARRAY_SIZE(args); k++) {
		struct dirmodel m;
		struct model_listing l;
		u32 there, n = k % 2 ? 3000 : 60;

		/* From one block on, which becomes hashed meanwhile; and from many. */
		model_start(&m, args[k / 2], k % 2 ? "-E hash_alg=legacy" : "", 16, 2 * n);
		there = k % 2 ? n : 12;
		for (u32 i = 0; i < there; i++)
			model_must(&m, MODEL_ADD, 2 * i, 0);
		listing_init(&l, &m);
		while (listing_go_on(&l, 1 + rnd(10)))
			for (u32 i = 0; i < 20; i++) {
				u32 x = 2 * rnd(n) + 1;

				/* A name that comes anew is another entry. */
				l.seen[x] = 0;
				model_must(&m, m.is[x] ? MODEL_DEL : MODEL_ADD, x, 1);
			}
		assert_int_equal(l.tops, 2);
		for (u32 i = 0; i < there; i++)
			if (l.seen[2 * i] != 1)
				fail_msg("name %u is left out", 2 * i);
		listing_fini(&l);
		model_check(&m, 10);
		model_end(&m);
	}
}

/* As rm -rf does: what a call lists is removed before the next one. */
static void listing_removes(void **state)
{
	(void)state;
	rnd_seed();
	make_colliding();
	for (u32 k = 0; k < 4; k++) {
		struct dirmodel m;
		struct model_listing l;

		model_start(&m,
			    k & 1 ? "-t ext4 -b 1024 -O ^has_journal,^dir_index"
				  : "-t ext4 -b 1024 -O ^has_journal",
			    "-E hash_alg=legacy", 16, 2000);
		m.name_of = k & 2 ? colliding_name : NULL;
		fill(&m, 0, m.n);
		listing_init(&l, &m);
		while (listing_go_on(&l, 1 + rnd(30)))
			for (u32 i = 0; i < m.n; i++)
				if (m.is[i] && l.seen[i])
					model_must(&m, MODEL_DEL, i, 0);
		assert_int_equal(m.present, 0);
		assert_int_equal(ext4_dir_is_empty(m.dir), 1);
		listing_fini(&l);
		model_end(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(two_levels, vol_clean),
		cmocka_unit_test_teardown(by_turns, vol_clean),
		cmocka_unit_test_teardown(full_index, vol_clean),
		cmocka_unit_test_teardown(three_levels, vol_clean),
		cmocka_unit_test_teardown(one_hash, vol_clean),
		cmocka_unit_test_teardown(listing_under_change, vol_clean),
		cmocka_unit_test_teardown(listing_removes, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
