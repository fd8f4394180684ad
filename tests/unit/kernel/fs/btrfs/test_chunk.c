/* The chunk map: which items are chunks, and what may lie beside what. */
#include "devices.h"

union item {
	struct btrfs_disk_chunk d;
	u8 room[sizeof(struct btrfs_disk_chunk) + 256 * sizeof(struct btrfs_disk_stripe)];
};

static void open_empty(u32 devs)
{
	struct btrfs_disk_super super;

	devices_new(devs);
	add_chunk(1 << 20, BTRFS_BG_SYSTEM, 1, 0, 2);
	put_supers();
	assert_int_equal(btrfs_volume_new(tv.dev, devs, -1, &tv.health, &super, &tv.v), 0);
}

static u32 a_chunk(u64 logical, u64 len, u64 type, u32 n, union item *out)
{
	const struct test_chunk c = { .logical = logical,
				      .len = len,
				      .type = type,
				      .n = n,
				      .off = { 1 << 20, 1 << 20, 1 << 20, 1 << 20 } };

	return chunk_item(&c, &out->d);
}

static int add(u64 logical, u64 len, u64 type, u32 n)
{
	union item item;
	u32 bytes = a_chunk(logical, len, type, n, &item);

	return btrfs_volume_chunk(tv.v, logical, &item.d, bytes);
}

static const struct wrong {
	const char *what;
	u64 logical, len, type;
	u32 n;
} wrongs[] = {
	{ "no content", 8 << 20, STRIPE, BTRFS_BG_RAID1, 2 },
	{ "two profiles", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1 | BTRFS_BG_RAID0, 2 },
	{ "unknown bit", 8 << 20, STRIPE, BTRFS_BG_DATA | 1ull << 11, 1 },
	{ "mixed", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_METADATA, 1 },
	{ "system and data", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_SYSTEM, 1 },
	{ "no length", 8 << 20, 0, BTRFS_BG_DATA, 1 },
	{ "odd length", 8 << 20, 4095, BTRFS_BG_DATA, 1 },
	{ "odd place", 8193, STRIPE, BTRFS_BG_DATA, 1 },
	{ "end of all", ~0ull - STRIPE + 1, STRIPE, BTRFS_BG_DATA, 1 },
	{ "beyond all", (1ull << 62) - 4096, STRIPE, BTRFS_BG_DATA, 1 },
	{ "endless", 8 << 20, 1ull << 63, BTRFS_BG_DATA, 1 },
	{ "beyond its device", 8 << 20, DEV_BYTES, BTRFS_BG_DATA, 1 },
	{ "a row beyond its device", 8 << 20, (DEV_BYTES - (1 << 20)) * 2 + 4096,
	  BTRFS_BG_DATA | BTRFS_BG_RAID0, 2 },
	{ "single, of two", 8 << 20, STRIPE, BTRFS_BG_DATA, 2 },
	{ "one mirror", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1, 1 },
	{ "three mirrors", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1, 3 },
	{ "two of three mirrors", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1C3, 2 },
	{ "three of four mirrors", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1C4, 3 },
	{ "half a pair", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID10, 3 },
	{ "parity alone", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID5, 1 },
	{ "two parities alone", 8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID6, 2 },
	{ "over the system's", (1 << 20) + 4096, STRIPE, BTRFS_BG_DATA, 1 },
	{ "around the system's", 0, 4 << 20, BTRFS_BG_DATA, 1 },
	{ "into the system's", (1 << 20) - 4096, 8192, BTRFS_BG_DATA, 1 },
};

static void refused(void **state)
{
	(void)state;
	open_empty(4);
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		const struct wrong *w = &wrongs[i];

		if (add(w->logical, w->len, w->type, w->n) != -EUCLEAN)
			fail_msg("%s: taken", w->what);
		assert_true(strlen(err_text()) > 20);
		assert_null(btrfs_chunk_at(tv.v, 1));
	}
	/* The same but for what was wrong. */
	assert_int_equal(add(8 << 20, STRIPE, BTRFS_BG_DATA, 1), 0);
	assert_int_equal(add(9 << 20, DEV_BYTES - (1 << 20), BTRFS_BG_DATA, 1), 0);
	devices_free();
}

/* What an item says of itself that is not in the table above. */
static void malformed(void **state)
{
	union item item;
	u32 bytes;

	(void)state;
	open_empty(4);
	for (u32 len = 0; len < 300; len++) {
		bytes = a_chunk(8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID1, 2, &item);
		if (len != bytes)
			assert_int_equal(btrfs_volume_chunk(tv.v, 8 << 20, &item.d, len), -EUCLEAN);
	}
	bytes = a_chunk(8 << 20, STRIPE, BTRFS_BG_DATA | BTRFS_BG_RAID10, 4, &item);
	item.d.sub_stripes = le16_put(1);
	assert_int_equal(btrfs_volume_chunk(tv.v, 8 << 20, &item.d, bytes), -EUCLEAN);
	bytes = a_chunk(8 << 20, STRIPE, BTRFS_BG_DATA, 1, &item);
	item.d.stripe_bytes = le64_put(32768);
	assert_int_equal(btrfs_volume_chunk(tv.v, 8 << 20, &item.d, bytes), -EUCLEAN);
	bytes = a_chunk(8 << 20, STRIPE, BTRFS_BG_DATA, 1, &item);
	for (u32 i = 0; i < 3; i++) {
		static const u64 offs[] = { ~0ull, DEV_BYTES - STRIPE + 4096, 4097 };

		item.d.stripe[0].offset_bytes = le64_put(offs[i]);
		assert_int_equal(btrfs_volume_chunk(tv.v, 8 << 20, &item.d, bytes), -EUCLEAN);
	}
	item.d.stripe[0].offset_bytes = le64_put(DEV_BYTES - STRIPE);
	assert_int_equal(btrfs_volume_chunk(tv.v, 8 << 20, &item.d, bytes), 0);
	devices_free();
}

/* Wide rows of parity: 255 stripes are the most that can be computed with. RAID0 has no such bound. */
static void widest(void **state)
{
	static const struct {
		u64 type;
		u32 n;
		bool ok;
	} c[] = {
		{ BTRFS_BG_RAID5, 255, true },  { BTRFS_BG_RAID5, 256, false }, { BTRFS_BG_RAID6, 255, true },
		{ BTRFS_BG_RAID6, 256, false }, { BTRFS_BG_RAID0, 256, true },
	};
	union item item;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		u8 buf[4096];

		open_empty(1);
		a_chunk(16 << 20, STRIPE * 250, BTRFS_BG_DATA | c[i].type, 1, &item);
		item.d.num_stripes = le16_put((u16)c[i].n);
		for (u32 k = 1; k < c[i].n; k++)
			item.d.stripe[k] = item.d.stripe[0];
		assert_int_equal(
			btrfs_volume_chunk(tv.v, 16 << 20, &item.d,
					   (u32)(sizeof(item.d) + c[i].n * sizeof(item.d.stripe[0]))),
			c[i].ok ? 0 : -EUCLEAN);
		if (c[i].ok) {
			u32 lost;

			assert_int_equal(btrfs_volume_ready(tv.v, false, &lost), 0);
			for (u32 copy = 0; copy < btrfs_volume_dev(tv.v)->copies; copy++) {
				struct io_batch batch;
				struct bio bio;

				bio_init(&bio, btrfs_volume_dev(tv.v), BIO_READ, (16 << 20) + 240 * STRIPE,
					 buf, sizeof(buf));
				bio.copy = (u8)copy;
				io_batch_init(&batch);
				io_submit(&batch, &bio);
				assert_int_equal(io_wait(&batch),
						 copy && c[i].type == BTRFS_BG_RAID0 ? -EIO : 0);
			}
		}
		devices_free();
	}
}

/* Found by any address within, and by no other. */
static void find(void **state)
{
	u64 seed = new_seed();

	(void)state;
	open_empty(2);
	for (u32 i = 0; i < 500; i++) {
		/* In no order; some of them twice. */
		u64 nr = 2 + rnd(&seed) % 400;

		assert_int_equal(add(nr << 20, 512 << 10, BTRFS_BG_DATA, 1), 0);
		assert_non_null(btrfs_chunk_find(tv.v, nr << 20));
	}
	for (u32 i = 1; btrfs_chunk_at(tv.v, i); i++)
		assert_true(btrfs_chunk_at(tv.v, i - 1)->logical < btrfs_chunk_at(tv.v, i)->logical);
	for (u32 i = 0; i < 2000; i++) {
		u64 at = rnd(&seed) % (410 << 20);
		const struct btrfs_chunk *c = btrfs_chunk_find(tv.v, at), *same = NULL;

		for (u32 k = 0; btrfs_chunk_at(tv.v, k); k++)
			if (btrfs_chunk_at(tv.v, k)->logical <= at &&
			    at - btrfs_chunk_at(tv.v, k)->logical < btrfs_chunk_at(tv.v, k)->len_bytes)
				same = btrfs_chunk_at(tv.v, k);
		assert_ptr_equal(c, same);
	}
	assert_null(btrfs_chunk_find(tv.v, ~0ull));
	devices_free();
}

/* Names of devices without end do not take memory or time without end. */
static void devices_without_end(void **state)
{
	union item item;
	u32 i, bytes = a_chunk(16 << 20, STRIPE, BTRFS_BG_DATA, 1, &item);
	int err = 0;

	(void)state;
	open_empty(1);
	for (i = 0; !err && i < 100000; i++) {
		u64 logical = (16ull << 20) + i * STRIPE;

		item.d.stripe[0].devid = le64_put(i + 2);
		err = btrfs_volume_chunk(tv.v, logical, &item.d, bytes);
	}
	assert_int_equal(err, -EUCLEAN);
	assert_true(i > 1000 && i < 10000);
	devices_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused), cmocka_unit_test(malformed),           cmocka_unit_test(widest),
		cmocka_unit_test(find),    cmocka_unit_test(devices_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
