/* The logical address space: every profile, each copy, devices that are missing, short, twins, or fail. */
#include "devices.h"

#include <unistd.h>

#define GAP (1ull << 20)

static const struct profile {
	u64 type;
	u32 devs, tolerates;
} profiles[] = {
	{ 0, 1, 0 },
	{ BTRFS_BG_DUP, 1, 0 },
	{ BTRFS_BG_RAID0, 1, 0 },
	{ BTRFS_BG_RAID0, 3, 0 },
	{ BTRFS_BG_RAID1, 2, 1 },
	{ BTRFS_BG_RAID1C3, 3, 2 },
	{ BTRFS_BG_RAID1C4, 4, 3 },
	{ BTRFS_BG_RAID10, 2, 1 },
	{ BTRFS_BG_RAID10, 4, 1 },
	{ BTRFS_BG_RAID5, 2, 1 },
	{ BTRFS_BG_RAID5, 3, 1 },
	{ BTRFS_BG_RAID5, 5, 1 },
	{ BTRFS_BG_RAID6, 3, 2 },
	{ BTRFS_BG_RAID6, 4, 2 },
	{ BTRFS_BG_RAID6, 5, 2 },
};

/* Two chunks of the profile side by side, and one more behind a gap. */
static void make(const struct profile *p, u64 *seed)
{
	u64 at = 5 << 20;

	devices_new(p->devs);
	for (u32 i = 0; i < 3; i++) {
		u64 what = i == 0 ? BTRFS_BG_SYSTEM : i == 1 ? BTRFS_BG_METADATA : BTRFS_BG_DATA;
		struct test_chunk *c =
			add_chunk(at, p->type | what, p->type == BTRFS_BG_DUP ? 2 : p->devs, 0, 3 + 2 * i);

		put_content(c, seed);
		at += c->len + (i ? GAP : 0);
	}
	put_supers();
}

/* What copy `copy` of a byte should be with devices missing; false: there is no such copy. Mirrors only. */
static bool expected(u64 logical, u32 missing, u32 copy, u8 *out)
{
	for (u32 i = 0; i < tv.chunks; i++) {
		const struct test_chunk *c = &tv.chunk[i];
		u64 off = logical - c->logical;
		u32 m = mirrors(c), first = (u32)(off / STRIPE % data_stripes(c)) * m;

		if (logical < c->logical || off >= c->len)
			continue;
		for (u32 k = 0; k < m; k++) {
			u32 dev = c->type & BTRFS_BG_DUP ? 0 : m == 1 || data_stripes(c) > 1 ? first + k : k;

			if (missing >> dev & 1 || copy--)
				continue;
			*out = mirror_byte(c->model[off], k);
			return true;
		}
	}
	return false;
}

struct piece {
	struct bio bio;
	struct iovec iov[8];
	u8 *buf;
	_Atomic u32 *left;
};

static void piece_done(struct bio *bio)
{
	_Atomic u32 *left = ((struct piece *)bio->private)->left;

	if (atomic_fetch_sub(left, 1) == 1)
		os_wake_all(left);
}

/* A range of random place and shape, mostly in chunks, sometimes across chunks or in nothing. */
static void shape(struct piece *p, u32 copy, u64 *seed)
{
	const struct test_chunk *c = &tv.chunk[rnd(seed) % tv.chunks];
	u64 off = rnd(seed) % c->len, len = 1 + rnd(seed) % (rnd(seed) % 4 ? 9000 : 6 * STRIPE), at = 0;
	u32 n = 1 + (u32)(rnd(seed) % 7);

	if (rnd(seed) % 3 == 0)
		off = ALIGN_DOWN(off, STRIPE);
	if (rnd(seed) % 8)
		len = MIN(len, c->len - off);
	p->buf = malloc(len);
	memset(p->buf, 0xa5, len);
	bio_init(&p->bio, btrfs_volume_dev(tv.v), BIO_READ, c->logical + off, p->buf, len);
	p->bio.copy = (u8)copy;
	for (u32 i = 0; i < n; i++) {
		u64 now = i == n - 1 ? len - at : rnd(seed) % 3 ? rnd(seed) % (len - at + 1) : 0;

		p->iov[i] = (struct iovec){ p->buf + at, now };
		at += now;
	}
	p->bio.iov = p->iov;
	p->bio.iov_count = n;
}

/* 48 reads at once, foreground or background. */
static void read_batch(struct piece *p, u32 n, bool background)
{
	struct io_batch batch;
	_Atomic u32 left = n;
	u32 now;

	io_batch_init(&batch);
	for (u32 i = 0; i < n; i++) {
		p[i].left = &left;
		p[i].bio.done = piece_done;
		p[i].bio.private = &p[i];
		if (background)
			bio_submit_background(&p[i].bio);
		else
			io_submit(&batch, &p[i].bio);
	}
	if (!background)
		(void)!io_wait(&batch);
	while (background && (now = left))
		os_wait(&left, now, 0);
}

/* How a copy that there is not is refused: of this range, or of any. */
static int no_copy(u32 copy)
{
	return copy < btrfs_volume_dev(tv.v)->copies ? -EIO : -EINVAL;
}

static bool is_parity(const struct profile *p)
{
	return p->type & (BTRFS_BG_RAID5 | BTRFS_BG_RAID6);
}

static void check_piece(const struct profile *prof, const struct piece *p, u32 missing, u32 missing_count)
{
	bool readable = true;
	u8 want = 0;

	for (u64 i = 0; i < p->bio.len_bytes && readable; i++) {
		u64 logical = p->bio.off_bytes + i;

		/* Of parity every byte can be had in at least 1 + tolerated - missing ways, and all are the same. */
		readable = expected(logical, is_parity(prof) ? 0 : missing, is_parity(prof) ? 0 : p->bio.copy,
				    &want);
		if (readable && !p->bio.err)
			assert_int_equal(p->buf[i], want);
	}
	if (!readable || !is_parity(prof) || missing_count + p->bio.copy <= prof->tolerates)
		assert_int_equal(p->bio.err, readable ? 0 : no_copy(p->bio.copy));
}

static void read_all(const struct profile *p, u32 missing, u64 *seed)
{
	struct piece piece[24];
	u32 missing_count = (u32)__builtin_popcount(missing);

	for (u32 copy = 0; copy < 4; copy++)
		for (u32 round = 0; round < 2; round++) {
			for (u32 i = 0; i < ARRAY_SIZE(piece); i++)
				shape(&piece[i], copy, seed);
			read_batch(piece, ARRAY_SIZE(piece), round);
			for (u32 i = 0; i < ARRAY_SIZE(piece); i++) {
				check_piece(p, &piece[i], missing, missing_count);
				free(piece[i].buf);
			}
		}
}

static void profile(const struct profile *p, u64 *seed)
{
	u32 lost;

	print_message("type 0x%llx on %u devices\n", (unsigned long long)p->type, p->devs);
	make(p, seed);
	/* All but one device may be missing: what cannot be read is said so. */
	for (u32 missing = 0; missing < (1u << p->devs) - 1; missing++) {
		u32 count = (u32)__builtin_popcount(missing);
		bool whole = count <= p->tolerates;

		if (count > p->tolerates + 1)
			continue;
		/* RAID10 loses one of each pair. */
		if (p->type & BTRFS_BG_RAID10)
			whole = !(missing & missing >> 1 & 0x55);
		if (missing) {
			assert_int_equal(try_open(missing, false, &lost), -ENXIO);
			assert_non_null(strstr(err_text(), "--device"));
		}
		assert_int_equal(try_open(missing, true, &lost), 0);
		assert_int_equal(lost, whole ? 0 : tv.chunks);
		if (whole || !is_parity(p))
			read_all(p, missing, seed);
		volume_close();
	}
	devices_free();
}

static void all_profiles(void **state)
{
	u64 seed = new_seed();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(profiles); i++)
		profile(&profiles[i], &seed);
}

/* Chunks of different profiles side by side, a stripe on any device: one read goes through all of them. */
static void across(void **state)
{
	static const u64 types[] = { 0, BTRFS_BG_RAID0, BTRFS_BG_RAID6, BTRFS_BG_RAID10, BTRFS_BG_RAID5 };
	static const u32 stripes[] = { 1, 4, 4, 4, 3 };
	u64 seed = new_seed(), at = 1 << 20, total = 0;
	u8 *want, *got;
	u32 lost;

	(void)state;
	devices_new(4);
	for (u32 i = 0; i < 5; i++) {
		struct test_chunk *c =
			add_chunk(at, types[i] | (i ? BTRFS_BG_DATA : BTRFS_BG_SYSTEM), stripes[i], 0, 3);

		put_content(c, &seed);
		at += c->len;
		total += c->len;
	}
	put_supers();
	want = malloc(total);
	got = malloc(total);
	at = 0;
	for (u32 i = 0; i < 5; i++) {
		memcpy(want + at, tv.chunk[i].model, tv.chunk[i].len);
		at += tv.chunk[i].len;
	}
	assert_int_equal(try_open(0, false, &lost), 0);
	for (u32 i = 0; i < 200; i++) {
		u64 off = rnd(&seed) % total, len = 1 + rnd(&seed) % (total - off);

		if (!i)
			off = 0, len = total;
		assert_int_equal(blkdev_read(btrfs_volume_dev(tv.v), (1 << 20) + off, got, len), 0);
		assert_memory_equal(got, want + off, len);
	}
	assert_int_equal(btrfs_volume_dev(tv.v)->size_bytes, (1 << 20) + total);
	free(want);
	free(got);
	devices_free();
}

/* Rubbish on a device: some other copy is right, whichever stripe of a row it is that is rubbish, and two of RAID6. */
static void rubbish(void **state)
{
	u64 seed = new_seed();
	u32 lost;

	(void)state;
	for (u32 both = 0; both < 2; both++)
		for (u32 a = 0; a < 5; a++)
			for (u32 b = a; b < (both ? 5 : a + 1); b++) {
				const struct profile p = { both ? BTRFS_BG_RAID6 : BTRFS_BG_RAID5, 5, 0 };
				const struct test_chunk *c;
				u8 buf[512];

				make(&p, &seed);
				c = &tv.chunk[2];
				for (u32 k = 0; k < 2; k++) {
					u8 *noise = malloc(c->len);

					fill(noise, c->len, &seed);
					assert_int_equal(blkdev_write(tv.dev[k ? b : a], c->off[k ? b : a],
								      noise, 7 * STRIPE, 0),
							 0);
					free(noise);
				}
				assert_int_equal(try_open(0, false, &lost), 0);
				for (u64 off = 1000; off < c->len; off += STRIPE) {
					u32 copy = 0;

					for (; copy < btrfs_volume_dev(tv.v)->copies; copy++) {
						struct io_batch batch;
						struct bio bio;

						bio_init(&bio, btrfs_volume_dev(tv.v), BIO_READ,
							 c->logical + off, buf, sizeof(buf));
						bio.copy = (u8)copy;
						io_batch_init(&batch);
						io_submit(&batch, &bio);
						if (!io_wait(&batch) &&
						    !memcmp(buf, c->model + off, sizeof(buf)))
							break;
					}
					assert_true(copy < btrfs_volume_dev(tv.v)->copies);
				}
				devices_free();
			}
}

/* Where a byte lies, as printers say it: the device has it there. */
static void where(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID10, 4, 1 };
	u64 seed = new_seed();
	u32 lost;

	(void)state;
	make(&p, &seed);
	assert_int_equal(try_open(0, false, &lost), 0);
	for (u32 i = 0; i < tv.chunks; i++)
		for (u64 off = 0; off < tv.chunk[i].len; off += 32768 + 100)
			for (u32 copy = 0; copy < 2; copy++) {
				u64 devid, dev_off, len;
				u8 byte, want;

				assert_int_equal(btrfs_volume_where(tv.v, tv.chunk[i].logical + off, copy,
								    &devid, &dev_off, &len),
						 0);
				assert_true(len && len <= STRIPE);
				assert_int_equal(blkdev_read(tv.dev[devid - 1], dev_off, &byte, 1), 0);
				assert_true(expected(tv.chunk[i].logical + off, 0, copy, &want));
				assert_int_equal(byte, want);
			}
	devices_free();
}

/* A device that fails: the request does, and another copy helps. */
static void errors(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	struct blkdev *fault, *good;
	u64 seed = new_seed();
	u8 buf[8192];
	u32 lost;

	(void)state;
	make(&p, &seed);
	good = tv.dev[0];
	assert_int_equal(dev_fault_new(good, false, &fault), 0);
	tv.dev[0] = fault;
	assert_int_equal(try_open(0, false, &lost), 0);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, true);
	for (u32 copy = 0; copy < 3; copy++) {
		struct io_batch batch;
		struct bio bio;

		bio_init(&bio, btrfs_volume_dev(tv.v), BIO_READ, tv.chunk[0].logical + 777, buf, sizeof(buf));
		bio.copy = (u8)copy;
		io_batch_init(&batch);
		io_submit(&batch, &bio);
		assert_int_equal(io_wait(&batch), copy == 1 ? 0 : no_copy(copy));
		for (u32 i = 0; i < sizeof(buf) && copy == 1; i++)
			assert_int_equal(buf[i], mirror_byte(tv.chunk[0].model[777 + i], 1));
	}
	volume_close();
	tv.dev[0] = good;
	blkdev_put(fault);
	devices_free();
}

/* An error in the middle of what a request became: it fails once, and nothing is left over. */
static void errors_in_rows(void **state)
{
	u64 seed = new_seed();
	u32 failed = 0;

	(void)state;
	for (u32 missing = 0; missing < 2; missing++)
		for (u32 nth = 1; nth < 12; nth++) {
			static const struct profile p = { BTRFS_BG_RAID5, 4, 1 };
			struct blkdev *fault, *good;
			const struct test_chunk *c;
			u8 *buf;
			u32 lost;
			int err;

			make(&p, &seed);
			c = &tv.chunk[2];
			buf = malloc(c->len);
			good = tv.dev[1];
			assert_int_equal(dev_fault_new(good, false, &fault), 0);
			tv.dev[1] = fault;
			assert_int_equal(try_open(missing, true, &lost), 0);
			dev_fault_nth(fault, FAULT_READ, nth, -EIO, false);
			err = blkdev_read(btrfs_volume_dev(tv.v), c->logical + 5, buf, c->len - 5);
			if (err)
				assert_int_equal(err, -EIO);
			else
				assert_memory_equal(buf, c->model + 5, c->len - 5);
			failed += err != 0;
			dev_fault_nth(fault, FAULT_READ, 0, 0, false);
			assert_int_equal(blkdev_read(btrfs_volume_dev(tv.v), c->logical, buf, c->len), 0);
			assert_memory_equal(buf, c->model, c->len);
			free(buf);
			volume_close();
			tv.dev[1] = good;
			blkdev_put(fault);
			devices_free();
		}
	assert_true(failed > 5 && failed < 22);
}

/* A copy of an image that was cut off: what lies on it is served, the rest from the other copy. */
static void short_device(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	u64 seed = new_seed(), cut;
	struct blkdev *whole, *window;
	u32 lost;
	u8 *buf;

	(void)state;
	make(&p, &seed);
	whole = tv.dev[0];
	cut = tv.chunk[1].off[0] + 3 * STRIPE;
	assert_int_equal(dev_part_new(whole, "short", 0, cut, &window), 0);
	tv.dev[0] = window;
	assert_int_equal(try_open(0, false, &lost), 0);
	buf = malloc(tv.chunk[1].len);
	for (u32 copy = 0; copy < 2; copy++)
		for (u64 len = 2 * STRIPE; len <= 4 * STRIPE; len += STRIPE) {
			struct io_batch batch;
			struct bio bio;

			bio_init(&bio, btrfs_volume_dev(tv.v), BIO_READ, tv.chunk[1].logical, buf, len);
			bio.copy = (u8)copy;
			io_batch_init(&batch);
			io_submit(&batch, &bio);
			assert_int_equal(io_wait(&batch), !copy && len > 3 * STRIPE ? -EIO : 0);
		}
	free(buf);
	volume_close();
	tv.dev[0] = whole;
	blkdev_put(window);
	devices_free();
}

static int read_copy(u64 logical, u64 len, u32 copy, u8 *buf)
{
	struct io_batch batch;
	struct bio bio;

	bio_init(&bio, btrfs_volume_dev(tv.v), BIO_READ, logical, buf, len);
	bio.copy = (u8)copy;
	io_batch_init(&batch);
	io_submit(&batch, &bio);
	return io_wait(&batch);
}

/* The same of striped profiles, whose pieces on one device are one request: it does not run over the end into what lies behind. */
static void short_device_of_stripes(void **state)
{
	static const struct profile p[] = { { BTRFS_BG_RAID0, 2, 0 },
					    { BTRFS_BG_RAID10, 4, 1 },
					    { BTRFS_BG_RAID5, 3, 1 } };
	u64 seed = new_seed();
	u32 lost;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(p); i++) {
		const struct test_chunk *c;
		struct blkdev *whole, *window;
		u64 row;
		u8 *buf;

		make(&p[i], &seed);
		c = &tv.chunk[2];
		row = STRIPE * data_stripes(c);
		buf = malloc(c->len);
		whole = tv.dev[0];
		assert_int_equal(dev_part_new(whole, "short", 0, c->off[0] + 3 * STRIPE, &window), 0);
		tv.dev[0] = window;
		assert_int_equal(try_open(0, false, &lost), 0);
		assert_int_equal(read_copy(c->logical, 3 * row, 0, buf), 0);
		assert_memory_equal(buf, c->model, 3 * row);
		assert_int_equal(read_copy(c->logical, c->len, 0, buf), -EIO);
		/* Made from the others, the first stripe of the short one among them, or not. */
		if (p[i].type == BTRFS_BG_RAID5) {
			assert_int_equal(read_copy(c->logical + STRIPE, 100, 1, buf), 0);
			assert_memory_equal(buf, c->model + STRIPE, 100);
			assert_int_equal(read_copy(c->logical + 3 * row + STRIPE, 100, 1, buf), -EIO);
		}
		free(buf);
		volume_close();
		tv.dev[0] = whole;
		blkdev_put(window);
		devices_free();
	}
}

/* An older copy of a device is left out; of two alike one must be named. */
static void twins(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	u64 seed = new_seed();
	struct btrfs_disk_super super;
	struct btrfs_volume *v;
	struct blkdev *all[4], *old;
	u8 *copy = malloc(DEV_BYTES);

	(void)state;
	make(&p, &seed);
	assert_int_equal(blkdev_read(tv.dev[1], 0, copy, DEV_BYTES), 0);
	assert_int_equal(dev_mem_new("old", DEV_BYTES, 512, &old), 0);
	assert_int_equal(blkdev_write(old, 0, copy, DEV_BYTES, 0), 0);
	all[0] = tv.dev[0];
	all[1] = old;
	all[2] = tv.dev[1];
	all[3] = tv.dev[1];
	assert_int_equal(btrfs_volume_new(all, 3, -1, &tv.health, &super, &v), -EEXIST);
	/* The same device twice is one device. */
	assert_int_equal(btrfs_volume_new(all + 2, 2, -1, &tv.health, &super, &v), 0);
	btrfs_volume_free(v);
	tv.sb.generation = le64_put(9);
	put_supers();
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(btrfs_volume_new(all, 3, -1, &tv.health, &super, &v), 0);
		assert_int_equal(le64_get(super.generation), 9);
		assert_int_equal(btrfs_device_count(v), 2);
		assert_ptr_equal(btrfs_device_at(v, 1)->dev, tv.dev[1]);
		btrfs_volume_free(v);
		all[1] = tv.dev[1];
		all[2] = old;
	}
	assert_int_equal(old->refs, 1);
	blkdev_put(old);
	free(copy);
	devices_free();
}

/* The copy that was asked for is the superblock, whatever the other devices have. */
static void asked_copy(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	u64 seed = new_seed();
	struct btrfs_disk_super super, copy;
	struct blkdev *big, *both[2];
	struct btrfs_volume *v;

	(void)state;
	make(&p, &seed);
	assert_int_equal(dev_mem_new("big", 65 << 20, 512, &big), 0);
	copy = tv.sb;
	dev_item(0, &copy.dev_item);
	copy.bytenr = le64_put(BTRFS_SUPER_OFF(1));
	copy.generation = le64_put(6);
	seal(&copy);
	assert_int_equal(blkdev_write(big, BTRFS_SUPER_OFF(1), &copy, sizeof(copy), 0), 0);
	both[0] = big;
	both[1] = tv.dev[1];
	assert_int_equal(btrfs_volume_new(both, 2, -1, &tv.health, &super, &v), -ENODEV);
	assert_int_equal(btrfs_volume_new(both, 2, 1, &tv.health, &super, &v), 0);
	assert_int_equal(le64_get(super.generation), 6);
	assert_int_equal(btrfs_device_count(v), 2);
	btrfs_volume_free(v);
	blkdev_put(big);
	devices_free();
}

/* The device that is to replace another belongs to the volume, and is not read. */
static void replacement(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	u64 seed = new_seed();
	struct btrfs_disk_super super, d;
	struct blkdev *all[3], *target;
	struct btrfs_volume *v;

	(void)state;
	make(&p, &seed);
	d = tv.sb;
	dev_item(0, &d.dev_item);
	d.dev_item.devid = le64_put(0);
	memset(d.dev_item.uuid, 0x77, sizeof(d.dev_item.uuid));
	seal(&d);
	assert_int_equal(dev_mem_new("target", DEV_BYTES, 512, &target), 0);
	assert_int_equal(blkdev_write(target, BTRFS_SUPER_OFF(0), &d, sizeof(d), 0), 0);
	for (u32 at = 0; at < 3; at++) {
		memcpy(all, tv.dev, 2 * sizeof(all[0]));
		all[2] = all[at];
		all[at] = target;
		assert_int_equal(btrfs_volume_new(all, 3, -1, &tv.health, &super, &v), 0);
		assert_int_equal(btrfs_device_count(v), 2);
		for (u32 i = 0; i < 2; i++)
			assert_ptr_not_equal(btrfs_device_at(v, i)->dev, target);
		btrfs_volume_free(v);
	}
	assert_int_equal(target->refs, 1);
	blkdev_put(target);
	devices_free();
}

/* Of two mirrors the one is read first whose device missed nothing. */
static void behind(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID1, 2, 1 };
	u64 seed = new_seed();
	u32 lost;
	u8 byte;

	(void)state;
	make(&p, &seed);
	for (u32 old = 0; old < 2; old++) {
		tv.sb.generation = le64_put(7);
		put_super(old);
		tv.sb.generation = le64_put(9);
		put_super(!old);
		for (u32 missing = 0; missing < 3; missing++) {
			u32 first = missing ? missing == 1 : !old;

			assert_int_equal(try_open(missing, missing, &lost), 0);
			assert_int_equal(blkdev_read(btrfs_volume_dev(tv.v), tv.chunk[2].logical, &byte, 1),
					 0);
			assert_int_equal(byte, mirror_byte(tv.chunk[2].model[0], first));
			volume_close();
		}
	}
	devices_free();
}

static bool all_as_modelled(void)
{
	bool same = true;

	for (u32 i = 0; i < tv.chunks; i++) {
		u8 *got = malloc(tv.chunk[i].len);

		assert_int_equal(
			blkdev_read(btrfs_volume_dev(tv.v), tv.chunk[i].logical, got, tv.chunk[i].len), 0);
		same = same && !memcmp(got, tv.chunk[i].model, tv.chunk[i].len);
		free(got);
	}
	return same;
}

/*
 * What lies on the devices of parity that missed commits is not used, as long as the others do; where they do not, it is, rather than nothing.
 * Its content is rubbish here, so that its use shows.
 */
static void behind_parity(void **state)
{
	u64 seed = new_seed();
	u8 *junk = malloc(DEV_BYTES);
	u32 lost;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(profiles); i++) {
		const struct profile *p = &profiles[i];

		for (u32 old = 1; is_parity(p) && old < (1u << p->devs) - 1; old++) {
			make(p, &seed);
			fill(junk, tv.used, &seed);
			tv.sb.generation = le64_put(9);
			for (u32 k = 0; k < p->devs; k++)
				if (old >> k & 1)
					assert_int_equal(blkdev_write(tv.dev[k], 1 << 20, junk, tv.used, 0),
							 0);
				else
					put_super(k);
			/* With one of the others away too. */
			for (u32 k = 0; k <= p->devs; k++) {
				u32 away = k < p->devs ? 1u << k : 0,
				    bad = (u32)__builtin_popcount(old | away);

				if ((old | away) == (1u << p->devs) - 1)
					continue;
				assert_int_equal(try_open(away, true, &lost), 0);
				assert_int_equal(lost, 0);
				assert_int_equal(all_as_modelled(), bad <= p->tolerates);
				volume_close();
			}
			devices_free();
		}
	}
	free(junk);
}

/* A volume that sprouted from a seed: the seed's device has another fsid, and is known by its device item. */
static void seed_device(void **state)
{
	u64 seed = new_seed();
	struct btrfs_disk_super super, sprout;
	struct btrfs_disk_dev_item item;
	struct btrfs_volume *v;
	struct blkdev *two[2];
	struct test_chunk *c;
	u8 chunk[sizeof(struct btrfs_disk_chunk) + 8 * sizeof(struct btrfs_disk_stripe)], buf[4096];
	u32 len, lost;

	(void)state;
	devices_new(2);
	add_chunk(1 << 20, BTRFS_BG_SYSTEM, 1, 1, 2);
	c = add_chunk(8 << 20, BTRFS_BG_DATA, 1, 0, 2);
	put_content(c, &seed);
	put_supers();
	sprout = tv.sb;
	memset(sprout.fsid, 0x77, sizeof(sprout.fsid));
	dev_item(1, &sprout.dev_item);
	memset(sprout.dev_item.fsid, 0x77, sizeof(sprout.fsid));
	seal(&sprout);
	assert_int_equal(blkdev_write(tv.dev[1], BTRFS_SUPER_OFF(0), &sprout, sizeof(sprout), 0), 0);
	len = chunk_item(c, (void *)chunk);
	for (u32 with = 0; with < 2; with++) {
		two[0] = tv.dev[1];
		two[1] = tv.dev[0];
		assert_int_equal(btrfs_volume_new(two, 1 + with, -1, &tv.health, &super, &v), 0);
		assert_int_equal(super.fsid[0], 0x77);
		dev_item(0, &item);
		assert_int_equal(btrfs_volume_device(v, &item), 0);
		assert_int_equal(btrfs_volume_device(v, &sprout.dev_item), 0);
		assert_int_equal(btrfs_volume_chunk(v, c->logical, (void *)chunk, len), 0);
		assert_int_equal(btrfs_volume_ready(v, false, &lost), with ? 0 : -ENXIO);
		assert_int_equal(btrfs_device_count(v), 2);
		assert_false(btrfs_device_at(v, 0)->seed);
		assert_true(btrfs_device_at(v, 1)->seed);
		if (with) {
			assert_int_equal(blkdev_read(btrfs_volume_dev(v), c->logical + 99, buf, sizeof(buf)),
					 0);
			assert_memory_equal(buf, c->model + 99, sizeof(buf));
		}
		btrfs_volume_free(v);
	}
	devices_free();
}

/* With METADATA_UUID devices carry that, and are no seeds. */
static void metadata_uuid(void **state)
{
	u64 seed = new_seed();
	struct btrfs_disk_super super, d;
	struct btrfs_volume *v;

	(void)state;
	devices_new(1);
	add_chunk(1 << 20, BTRFS_BG_SYSTEM, 1, 0, 2);
	put_content(&tv.chunk[0], &seed);
	put_supers();
	d = tv.sb;
	dev_item(0, &d.dev_item);
	memcpy(d.metadata_uuid, d.fsid, sizeof(d.fsid));
	d.incompat = le64_put(le64_get(d.incompat) | BTRFS_INCOMPAT_METADATA_UUID);
	memset(d.fsid, 0x31, sizeof(d.fsid));
	seal(&d);
	assert_int_equal(blkdev_write(tv.dev[0], BTRFS_SUPER_OFF(0), &d, sizeof(d), 0), 0);
	assert_int_equal(btrfs_volume_new(tv.dev, 1, -1, &tv.health, &super, &v), 0);
	assert_int_equal(btrfs_volume_device(v, &d.dev_item), 0);
	assert_false(btrfs_device_at(v, 0)->seed);
	/* A seed of such a volume is one all the same. */
	d.dev_item.devid = le64_put(2);
	memset(d.dev_item.fsid, 0x99, sizeof(d.fsid));
	assert_int_equal(btrfs_volume_device(v, &d.dev_item), 0);
	assert_true(btrfs_device_at(v, 1)->seed);
	btrfs_volume_free(v);
	devices_free();
}

/* Whatever the superblock says: an answer, and what is opened can be read everywhere. */
static void hostile(void **state)
{
	static const struct profile p = { BTRFS_BG_RAID6, 4, 2 };
	u64 seed = new_seed();
	u32 opened = 0, rounds = 3000;
	u8 *buf = malloc(3 * STRIPE);

	(void)state;
	make(&p, &seed);
	for (u32 round = 0; round < rounds; round++) {
		struct btrfs_disk_super super = tv.sb;
		struct btrfs_volume *v;
		u32 lost;

		dev_item(0, &super.dev_item);
		for (u64 i = 1 + rnd(&seed) % 4; i; i--) {
			u8 *at = (u8 *)&super + (rnd(&seed) % 3 ? offsetof(struct btrfs_disk_super, sys_array)
								: BTRFS_CSUM_BYTES);

			at += rnd(&seed) % 300;
			*at = rnd(&seed) % 2 ? (u8)rnd(&seed) : (u8)(*at ^ 1u << rnd(&seed) % 8);
		}
		seal(&super);
		assert_int_equal(blkdev_write(tv.dev[0], BTRFS_SUPER_OFF(0), &super, sizeof(super), 0), 0);
		if (btrfs_volume_new(tv.dev, tv.devs, -1, &tv.health, &super, &v))
			continue;
		if (!btrfs_volume_ready(v, true, &lost))
			for (u32 i = 0; btrfs_chunk_at(v, i); i++) {
				const struct btrfs_chunk *c = btrfs_chunk_at(v, i);
				u64 len = MIN(c->len_bytes, 3 * STRIPE);

				opened++;
				(void)!blkdev_read(btrfs_volume_dev(v), c->logical, buf, len);
				(void)!blkdev_read(btrfs_volume_dev(v), c->logical + c->len_bytes - len, buf,
						   len);
				blkdev_will_need(btrfs_volume_dev(v), c->logical, 1 << 20);
			}
		btrfs_volume_free(v);
	}
	print_message("%u of %u could be opened\n", opened, rounds);
	assert_true(opened && opened < rounds);
	free(buf);
	devices_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_profiles), cmocka_unit_test(across),
		cmocka_unit_test(rubbish),      cmocka_unit_test(where),
		cmocka_unit_test(errors),       cmocka_unit_test(errors_in_rows),
		cmocka_unit_test(short_device), cmocka_unit_test(twins),
		cmocka_unit_test(seed_device),  cmocka_unit_test(behind),
		cmocka_unit_test(replacement),  cmocka_unit_test(behind_parity),
		cmocka_unit_test(asked_copy),   cmocka_unit_test(metadata_uuid),
		cmocka_unit_test(hostile),      cmocka_unit_test(short_device_of_stripes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
