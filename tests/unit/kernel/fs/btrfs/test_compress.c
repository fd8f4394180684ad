/*
 * Unpacking extents: what the libraries pack comes back, of every length; what is damaged or hostile is refused or unpacked, within its
 * memory; and the cache of unpacked extents. The seed is printed; SEED=n repeats a run.
 */
#include "btrfs/btrfs.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */

#include "lib/os.h"
#include "lib/trace.h"
#include <errno.h>
#include <lzo/lzo1x.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define SECTOR    4096u
#define MAX_BYTES BTRFS_COMPRESS_MAX

static u64 rnd_state;

static u32 rnd(u32 below)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(rnd_state >> 33) % below;
}

/* Text-like: repeats at some distance, and noise. */
static void make(u8 *p, u32 len)
{
	u32 noise = rnd(4);

	for (u32 i = 0; i < len; i++) {
		u32 back = rnd(300) + 1;

		p[i] = i > 400 && rnd(4) >= noise ? p[i - back] : (u8)(rnd(3) ? 'a' + rnd(6) : rnd(256));
	}
}

/* ---- packing, as the kernel frames it ---- */

static u32 pack_lzo(const u8 *src, u32 len, u8 *out)
{
	static u8 work[LZO1X_1_MEM_COMPRESS];
	u32 at = 4;
	le32 v;

	for (u32 i = 0; i < len; i += SECTOR) {
		u8 seg[SECTOR + SECTOR / 16 + 64 + 3];
		lzo_uint n = sizeof(seg);

		assert_int_equal(lzo1x_1_compress(src + i, MIN(SECTOR, len - i), seg, &n, work), LZO_E_OK);
		v = le32_put((u32)n);
		memcpy(out + at, &v, 4);
		memcpy(out + at + 4, seg, n);
		at += 4 + (u32)n;
		if (SECTOR - at % SECTOR < 4) {
			memset(out + at, 0, SECTOR - at % SECTOR);
			at = ALIGN_UP(at, SECTOR);
		}
	}
	v = le32_put(at);
	memcpy(out, &v, 4);
	return at;
}

static u32 pack(u8 how, const u8 *src, u32 len, u8 *out, u32 room)
{
	uLongf n = room;
	size_t zn;

	switch (how) {
	case BTRFS_COMPRESS_ZLIB:
		assert_int_equal(compress2(out, &n, src, len, (int)rnd(9) + 1), Z_OK);
		return (u32)n;
	case BTRFS_COMPRESS_ZSTD:
		zn = ZSTD_compress(out, room, src, len, (int)rnd(15) + 1);
		assert_false(ZSTD_isError(zn));
		return (u32)zn;
	}
	return pack_lzo(src, len, out);
}

#define ROOM (2 * MAX_BYTES)
static u8 data[MAX_BYTES], raw[ROOM];

/* The copies are exactly as long as they should be: what goes beyond is found by the address sanitizer. */
static int unpack(struct btrfs_unpacked *u, struct btrfs_compressed *what, u8 **out)
{
	struct btrfs_tools *t = btrfs_tools_get(u);
	u8 *src = malloc(what->disk_bytes);
	u32 have;
	int err;

	memcpy(src, raw, what->disk_bytes);
	*out = malloc(what->ram_bytes);
	memset(*out, 0xee, what->ram_bytes);
	err = btrfs_unpack(t, what, SECTOR, src, *out, what->ram_bytes, &have);
	assert_true(err || have == what->ram_bytes);
	free(src);
	btrfs_tools_put(u, t);
	return err;
}

static void there_and_back(void **state)
{
	struct btrfs_unpacked *u;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	for (u32 i = 0; i < 600; i++) {
		struct btrfs_compressed what = { .compression = (u8)(i % 3 + 1), .bytenr = i & 1 ? 4096 : 0 };
		u32 len = rnd(5) ? rnd(rnd(2) ? MAX_BYTES : 5000) + 1 : MAX_BYTES, disk;
		u8 *out;

		make(data, len);
		disk = pack(what.compression, data, len, raw, ROOM);
		/* A regular extent is whole sectors on both sides. */
		what.disk_bytes = what.bytenr ? ALIGN_UP(disk, SECTOR) : disk;
		what.ram_bytes = what.bytenr ? ALIGN_UP(len, SECTOR) : len;
		memset(raw + disk, 0, what.disk_bytes - disk);
		assert_int_equal(unpack(u, &what, &out), 0);
		assert_memory_equal(out, data, len);
		for (u32 k = len; k < what.ram_bytes; k++)
			assert_int_equal(out[k], 0);
		free(out);
	}
	btrfs_unpacked_free(u);
}

/* An inline extent has all that it says; what a regular one has not is zeros, and what it has beyond is not seen. */
static void short_of_data(void **state)
{
	struct btrfs_unpacked *u;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	for (u8 how = BTRFS_COMPRESS_ZLIB; how <= BTRFS_COMPRESS_ZSTD; how++) {
		struct btrfs_compressed what = { .compression = how };
		u8 *out;

		make(data, 3 * SECTOR);
		what.disk_bytes = pack(how, data, 3 * SECTOR, raw, ROOM);
		what.ram_bytes = 3 * SECTOR + 1;
		assert_int_equal(unpack(u, &what, &out), -EIO);
		free(out);
		memset(raw + what.disk_bytes, 0, SECTOR);
		what.disk_bytes = ALIGN_UP(what.disk_bytes, SECTOR);
		what.bytenr = 4096;
		what.ram_bytes = 5 * SECTOR;
		assert_int_equal(unpack(u, &what, &out), 0);
		assert_memory_equal(out, data, 3 * SECTOR);
		for (u32 k = 3 * SECTOR; k < what.ram_bytes; k++)
			assert_int_equal(out[k], 0);
		free(out);
		/* Of a longer one the first part counts, wherever that ends. */
		for (what.ram_bytes = 1; what.ram_bytes < 3 * SECTOR; what.ram_bytes += rnd(200) + 1) {
			assert_int_equal(unpack(u, &what, &out), 0);
			assert_memory_equal(out, data, what.ram_bytes);
			free(out);
		}
	}
	btrfs_unpacked_free(u);
}

/* Cut off and changed in random places, and noise from the start. */
static void hostile(void **state)
{
	struct btrfs_unpacked *u;
	u32 good = 0;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	for (u32 i = 0; i < 6000; i++) {
		struct btrfs_compressed what = { .compression = (u8)(i % 3 + 1), .bytenr = i & 4 ? 4096 : 0 };
		u32 len = rnd(20000) + 1;
		u8 *out;

		make(data, len);
		what.disk_bytes = pack(what.compression, data, len, raw, ROOM);
		for (u32 changes = rnd(4); changes; changes--)
			raw[rnd(3) ? rnd(what.disk_bytes) : rnd(MIN(what.disk_bytes, 12u))] = (u8)rnd(256);
		if (!rnd(20))
			for (u32 k = 0; k < what.disk_bytes; k++)
				raw[k] = (u8)rnd(256);
		if (!rnd(4))
			what.disk_bytes = rnd(what.disk_bytes) + 1;
		what.ram_bytes = rnd(3) ? len : rnd(MAX_BYTES) + 1;
		good += unpack(u, &what, &out) == 0;
		free(out);
	}
	assert_true(good > 100 && good < 5000);
	btrfs_unpacked_free(u);
}

/* ---- the cache ---- */

static enum btrfs_unpacked_verdict get(struct btrfs_unpacked *u, const struct btrfs_compressed *what,
				       bool fill, bool wait, struct btrfs_slot **out)
{
	u32 want = what->ram_bytes;

	return btrfs_unpacked_get(u, what, &want, fill, wait, out);
}

static void cache_rules(void **state)
{
	struct btrfs_compressed a = { .bytenr = 1 << 20, .disk_bytes = SECTOR, .ram_bytes = MAX_BYTES };
	struct btrfs_compressed b;
	struct btrfs_slot *s, *t, *held[200];
	struct btrfs_unpacked *u;
	u32 n = 0;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	assert_int_equal(get(u, &a, false, true, &s), BTRFS_UNPACKED_NONE);
	assert_int_equal(get(u, &a, true, true, &s), BTRFS_UNPACKED_FILL);
	assert_int_equal(get(u, &a, true, false, &t), BTRFS_UNPACKED_BUSY);
	memset(btrfs_unpacked_bytes(s), 7, MAX_BYTES);
	btrfs_unpacked_filled(u, s, MAX_BYTES, 0);
	assert_int_equal(get(u, &a, false, false, &t), BTRFS_UNPACKED_READY);
	assert_ptr_equal(s, t);
	btrfs_unpacked_put(u, s);
	btrfs_unpacked_put(u, t);
	/* The same place read in another way is another extent. */
	b = a;
	b.checked = true;
	assert_int_equal(get(u, &b, true, true, &s), BTRFS_UNPACKED_FILL);
	btrfs_unpacked_filled(u, s, 0, -EIO);
	btrfs_unpacked_put(u, s);
	assert_int_equal(get(u, &b, false, true, &s), BTRFS_UNPACKED_NONE);
	/* Bounded: when all are in use, there is none. */
	for (; n < ARRAY_SIZE(held); n++) {
		b.bytenr += SECTOR;
		if (get(u, &b, true, true, &held[n]) != BTRFS_UNPACKED_FILL)
			break;
		btrfs_unpacked_filled(u, held[n], MAX_BYTES, 0);
	}
	assert_int_equal(n, 64);
	while (n--)
		btrfs_unpacked_put(u, held[n]);
	btrfs_unpacked_free(u);
}

/* Fills a slot for each of n extents from bytenr on, and leaves them idle. How many could be had. */
static u32 fill_many(struct btrfs_unpacked *u, u64 bytenr, u32 n)
{
	struct btrfs_compressed a = { .disk_bytes = SECTOR, .ram_bytes = MAX_BYTES };
	struct btrfs_slot *s;
	u32 got = 0;

	for (u32 i = 0; i < n; i++) {
		a.bytenr = bytenr + (u64)i * SECTOR;
		if (get(u, &a, true, true, &s) != BTRFS_UNPACKED_FILL)
			continue;
		btrfs_unpacked_filled(u, s, MAX_BYTES, 0);
		btrfs_unpacked_put(u, s);
		got++;
	}
	return got;
}

/* How many of them are there. */
static u32 count_ready(struct btrfs_unpacked *u, u64 bytenr, u32 n)
{
	struct btrfs_compressed a = { .disk_bytes = SECTOR, .ram_bytes = MAX_BYTES };
	struct btrfs_slot *s;
	u32 ready = 0;

	for (u32 i = 0; i < n; i++) {
		a.bytenr = bytenr + (u64)i * SECTOR;
		if (get(u, &a, false, true, &s) != BTRFS_UNPACKED_READY)
			continue;
		btrfs_unpacked_put(u, s);
		ready++;
	}
	return ready;
}

/* What the buffer cache does not need holds more of them, the last ones; when it needs it, that becomes less. */
static void cache_borrows(void **state)
{
	const u64 limit = 64ull << 20, per = MAX_BYTES;
	struct btrfs_unpacked *u;
	struct bcache *cache;
	u32 most = (u32)(limit / 4 * 3 / per), least = (u32)(limit / 4 / per);

	(void)state;
	assert_int_equal(bcache_new(limit, &cache), 0);
	assert_int_equal(btrfs_unpacked_new(cache, &u), 0);
	assert_int_equal(fill_many(u, 1 << 20, 1000), 1000);
	assert_int_equal(count_ready(u, 1 << 20, 1000), most);
	assert_int_equal(count_ready(u, (1 << 20) + (1000 - most) * SECTOR, most), most);
	assert_int_equal(bcache_bytes(cache), (most - 64) * per);
	/* As if it were full of buffers. */
	bcache_charge(cache, (s64)(limit - bcache_bytes(cache)));
	assert_int_equal(fill_many(u, 1 << 30, 50), 50);
	assert_true(count_ready(u, 1 << 30, 50) == 50 && bcache_bytes(cache) <= limit);
	bcache_charge(cache, 48 << 20);
	assert_int_equal(fill_many(u, 1 << 20, 1000), 1000);
	assert_int_equal(count_ready(u, 1 << 20, 1000), least);
	btrfs_unpacked_free(u);
	bcache_free(cache);
}

/* A slot that has an extent's first bytes serves who wants those, and gets the rest when more is wanted and nobody reads it. */
static void cache_parts(void **state)
{
	struct btrfs_compressed a = { .bytenr = 1 << 20, .disk_bytes = SECTOR, .ram_bytes = MAX_BYTES };
	struct btrfs_slot *s, *t;
	struct btrfs_unpacked *u;
	u32 want = 5000;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	assert_int_equal(btrfs_unpacked_get(u, &a, &want, true, true, &s), BTRFS_UNPACKED_FILL);
	assert_int_equal(want, 5000);
	btrfs_unpacked_filled(u, s, 2 * SECTOR, 0);
	want = 2 * SECTOR;
	assert_int_equal(btrfs_unpacked_get(u, &a, &want, true, true, &t), BTRFS_UNPACKED_READY);
	btrfs_unpacked_put(u, t);
	want = 2 * SECTOR + 1;
	assert_int_equal(btrfs_unpacked_get(u, &a, &want, true, true, &t), BTRFS_UNPACKED_NONE);
	btrfs_unpacked_put(u, s);
	assert_int_equal(btrfs_unpacked_get(u, &a, &want, true, true, &t), BTRFS_UNPACKED_FILL);
	assert_int_equal(want, MAX_BYTES);
	btrfs_unpacked_filled(u, t, MAX_BYTES, 0);
	btrfs_unpacked_put(u, t);
	assert_int_equal(get(u, &a, false, true, &t), BTRFS_UNPACKED_READY);
	btrfs_unpacked_put(u, t);
	btrfs_unpacked_free(u);
}

/* LZO stops behind the sector that was wanted last, and what it gives is what all of it begins with. */
static void first_bytes(void **state)
{
	struct btrfs_compressed what = { .compression = BTRFS_COMPRESS_LZO,
					 .bytenr = SECTOR,
					 .ram_bytes = MAX_BYTES };
	struct btrfs_unpacked *u;
	struct btrfs_tools *t;
	u8 *all, *some = malloc(MAX_BYTES);
	u32 have, disk;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &u), 0);
	make(data, MAX_BYTES);
	disk = pack(what.compression, data, MAX_BYTES, raw, ROOM);
	what.disk_bytes = ALIGN_UP(disk, SECTOR);
	memset(raw + disk, 0, what.disk_bytes - disk);
	assert_int_equal(unpack(u, &what, &all), 0);
	t = btrfs_tools_get(u);
	for (u32 want = 1; want <= what.ram_bytes; want += 1777) {
		memset(some, 0xee, MAX_BYTES);
		assert_int_equal(btrfs_unpack(t, &what, SECTOR, raw, some, want, &have), 0);
		assert_int_equal(have, MIN(ALIGN_UP(want, SECTOR), MAX_BYTES));
		assert_memory_equal(some, all, have);
		assert_true(have == MAX_BYTES || some[have] == 0xee);
	}
	btrfs_tools_put(u, t);
	btrfs_unpacked_free(u);
	free(all);
	free(some);
}

/* Many readers of few extents: each sees the right bytes, and no extent is filled by two at once. */
struct crowd {
	struct btrfs_unpacked *u;
	_Atomic u32 filling[100], fills;
};

static void *crowd_run(void *arg)
{
	struct crowd *c = arg;
	u64 seed = (u64)(uintptr_t)&seed;

	for (u32 i = 0; i < 4000; i++) {
		struct btrfs_compressed what = { .disk_bytes = SECTOR, .ram_bytes = 2 * SECTOR };
		u32 want = i % 3 ? SECTOR : 2 * SECTOR, which;
		struct btrfs_slot *s;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		which = (u32)(seed >> 40) % 100;
		what.bytenr = (which + 1) * SECTOR;
		switch (btrfs_unpacked_get(c->u, &what, &want, true, true, &s)) {
		case BTRFS_UNPACKED_FILL:
			if (atomic_fetch_add(&c->filling[which], 1))
				return c;
			memset(btrfs_unpacked_bytes(s), (int)which, want);
			atomic_fetch_sub(&c->filling[which], 1);
			atomic_fetch_add(&c->fills, 1);
			btrfs_unpacked_filled(c->u, s, want, i % 16 ? 0 : -EIO);
			btrfs_unpacked_put(c->u, s);
			break;
		case BTRFS_UNPACKED_READY:
			if (btrfs_unpacked_bytes(s)[i % want] != which)
				return c;
			btrfs_unpacked_put(c->u, s);
			break;
		case BTRFS_UNPACKED_NONE: /* others read its first sector just now */
			if (want == SECTOR)
				return c;
			break;
		default:
			return c;
		}
	}
	return NULL;
}

static void cache_crowd(void **state)
{
	struct crowd *c = calloc(1, sizeof(*c));
	pthread_t t[4];
	void *bad;

	(void)state;
	assert_int_equal(btrfs_unpacked_new(NULL, &c->u), 0);
	for (u32 i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, crowd_run, c), 0);
	for (u32 i = 0; i < ARRAY_SIZE(t); i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_true(c->fills > 100);
	btrfs_unpacked_free(c->u);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back), cmocka_unit_test(short_of_data),
		cmocka_unit_test(hostile),        cmocka_unit_test(cache_rules),
		cmocka_unit_test(cache_borrows),  cmocka_unit_test(cache_parts),
		cmocka_unit_test(first_bytes),    cmocka_unit_test(cache_crowd),
	};
	const char *seed = getenv("SEED");

	rnd_state = seed ? strtoull(seed, NULL, 0) : os_monotonic_ns() % 1000000;
	printf("# SEED=%llu\n", (unsigned long long)rnd_state);
	return cmocka_run_group_tests_name("btrfs/compress", tests, NULL, NULL);
}
