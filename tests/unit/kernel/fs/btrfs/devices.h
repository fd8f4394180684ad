/*
 * Volumes on memory devices: superblocks and chunks as the test lays them out, and content put onto the devices by a layout of the
 * test's own. One volume at a time.
 */
#ifndef TEST_BTRFS_DEVICES_H
#define TEST_BTRFS_DEVICES_H

#include "fs/btrfs/volume.h"
#include "unit/kernel/block/devtest.h"

#define DEVS_MAX   8u
#define CHUNKS_MAX 8u
#define DEV_BYTES  (12ull << 20)
#define STRIPE     65536ull

struct test_chunk {
	u64 logical, len, type;
	u32 n; /* stripes, each on the device of its number, plus `first` */
	u32 first;
	u64 off[DEVS_MAX];
	u8 *model; /* [len] */
};

static struct {
	u32 devs, chunks;
	struct blkdev *dev[DEVS_MAX];
	struct btrfs_disk_super sb; /* what all devices' have in common */
	struct test_chunk chunk[CHUNKS_MAX];
	u64 used; /* of each device */
	struct health health;
	struct btrfs_volume *v;
} tv;

static inline void seal(struct btrfs_disk_super *d)
{
	btrfs_csum(le16_get(d->csum_type), (u8 *)d + BTRFS_CSUM_BYTES, BTRFS_SUPER_BYTES - BTRFS_CSUM_BYTES,
		   d->csum);
}

static inline void dev_item(u32 i, struct btrfs_disk_dev_item *out)
{
	*out = (struct btrfs_disk_dev_item){ .devid = le64_put(i + 1), .total_bytes = le64_put(DEV_BYTES) };
	memset(out->uuid, 0x40 + (int)i, sizeof(out->uuid));
	memcpy(out->fsid, tv.sb.fsid, sizeof(out->fsid));
}

/* A superblock that nothing is wrong with. */
static inline void super_template(struct btrfs_disk_super *d)
{
	memset(d, 0, sizeof(*d));
	memset(d->fsid, 0xf5, sizeof(d->fsid));
	d->bytenr = le64_put(BTRFS_SUPER_OFF(0));
	d->magic = le64_put(BTRFS_MAGIC);
	d->generation = le64_put(7);
	d->root = le64_put(1 << 20);
	d->chunk_root = le64_put(2 << 20);
	d->chunk_root_generation = le64_put(5);
	d->total_bytes = le64_put(DEV_BYTES);
	d->bytes_used = le64_put(1 << 20);
	d->num_devices = le64_put(1);
	d->sector_bytes = le32_put(4096);
	d->node_bytes = d->leaf_bytes = le32_put(16384);
	d->stripe_bytes = le32_put(4096);
	d->flags = le64_put(BTRFS_SUPER_WRITTEN);
	d->incompat = le64_put(BTRFS_INCOMPAT_RAID56 | BTRFS_INCOMPAT_RAID1C34);
}

/* The item of a chunk; its length. */
static inline u32 chunk_item(const struct test_chunk *c, struct btrfs_disk_chunk *out)
{
	*out = (struct btrfs_disk_chunk){
		.len_bytes = le64_put(c->len),
		.owner = le64_put(BTRFS_TREE_EXTENT),
		.stripe_bytes = le64_put(STRIPE),
		.type = le64_put(c->type),
		.io_align = le32_put(STRIPE),
		.io_width = le32_put(STRIPE),
		.sector_bytes = le32_put(4096),
		.num_stripes = le16_put((u16)c->n),
		.sub_stripes = le16_put(c->type & BTRFS_BG_RAID10 ? 2 : 1),
	};
	for (u32 i = 0; i < c->n; i++) {
		struct btrfs_disk_dev_item item;

		dev_item(c->type & BTRFS_BG_DUP ? c->first : c->first + i, &item);
		out->stripe[i].devid = item.devid;
		out->stripe[i].offset_bytes = le64_put(c->off[i]);
		memcpy(out->stripe[i].dev_uuid, item.uuid, sizeof(item.uuid));
	}
	return (u32)(sizeof(*out) + c->n * sizeof(out->stripe[0]));
}

static inline u32 data_stripes(const struct test_chunk *c)
{
	return c->type & BTRFS_BG_RAID0    ? c->n
	       : c->type & BTRFS_BG_RAID10 ? c->n / 2
	       : c->type & BTRFS_BG_RAID5  ? c->n - 1
	       : c->type & BTRFS_BG_RAID6  ? c->n - 2
					   : 1;
}

static inline u32 mirrors(const struct test_chunk *c)
{
	return c->type & (BTRFS_BG_RAID0 | BTRFS_BG_RAID5 | BTRFS_BG_RAID6) ? 1
	       : c->type & BTRFS_BG_RAID10                                  ? 2
									    : c->n;
}

/* `rows` rows of stripes over n devices from `first` on. */
static inline struct test_chunk *add_chunk(u64 logical, u64 type, u32 n, u32 first, u32 rows)
{
	struct test_chunk *c = &tv.chunk[tv.chunks++];

	assert_true(tv.chunks <= CHUNKS_MAX && n <= DEVS_MAX);
	*c = (struct test_chunk){ .logical = logical, .type = type, .n = n, .first = first };
	c->len = STRIPE * rows * data_stripes(c);
	for (u32 i = 0; i < n; i++) {
		/* Nowhere at the same place on two devices. */
		c->off[i] = (1 << 20) + tv.used + 4096 * i;
		if (type & BTRFS_BG_DUP)
			tv.used += STRIPE * rows;
	}
	tv.used += STRIPE * (rows + 1);
	assert_true((1 << 20) + tv.used <= DEV_BYTES);
	c->model = malloc(c->len);
	return c;
}

/* What copy `mirror` of a byte holds: the copies of mirrors differ, so that each can be told. */
static inline u8 mirror_byte(u8 byte, u32 mirror)
{
	return (u8)(byte ^ (0x11 * mirror));
}

static inline void put(struct test_chunk *c, u32 stripe, u64 row, const u8 *bytes, u32 mirror)
{
	u32 dev = c->type & BTRFS_BG_DUP ? c->first : c->first + stripe;
	u8 buf[STRIPE];

	for (u64 i = 0; i < STRIPE; i++)
		buf[i] = mirror_byte(bytes[i], mirror);
	assert_int_equal(blkdev_write(tv.dev[dev], c->off[stripe] + row * STRIPE, buf, STRIPE, 0), 0);
}

static inline u8 times_2(u8 x)
{
	return (u8)(x << 1 ^ (x & 0x80 ? 0x1d : 0));
}

/* A row of RAID5 or RAID6: data, then P, then Q; each row begins one device further. */
static inline void put_parity_row(struct test_chunk *c, u64 row, const u8 *bytes)
{
	u32 data = data_stripes(c);
	u8 p[STRIPE] = { 0 }, q[STRIPE] = { 0 };

	for (u32 d = data; d-- > 0;)
		for (u64 i = 0; i < STRIPE; i++) {
			p[i] ^= bytes[d * STRIPE + i];
			q[i] = times_2(q[i]) ^ bytes[d * STRIPE + i];
		}
	for (u32 d = 0; d < data; d++)
		put(c, (u32)((row + d) % c->n), row, bytes + d * STRIPE, 0);
	put(c, (u32)((row + data) % c->n), row, p, 0);
	if (c->type & BTRFS_BG_RAID6)
		put(c, (u32)((row + data + 1) % c->n), row, q, 0);
}

static inline void put_content(struct test_chunk *c, u64 *seed)
{
	u64 row_bytes = STRIPE * data_stripes(c);

	fill(c->model, c->len, seed);
	for (u64 row = 0; row < c->len / row_bytes; row++) {
		const u8 *bytes = c->model + row * row_bytes;

		if (c->type & (BTRFS_BG_RAID5 | BTRFS_BG_RAID6))
			put_parity_row(c, row, bytes);
		else
			for (u32 d = 0; d < data_stripes(c); d++)
				for (u32 m = 0; m < mirrors(c); m++)
					put(c, d * mirrors(c) + m, row, bytes + d * STRIPE, m);
	}
}

/* Devices without content. */
static inline void devices_new(u32 n)
{
	char name[16];

	memset(&tv, 0, sizeof(tv));
	health_init(&tv.health, "test");
	super_template(&tv.sb);
	tv.devs = n;
	tv.sb.num_devices = le64_put(n);
	for (u32 i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "dev%u", i + 1);
		assert_int_equal(dev_mem_new(name, DEV_BYTES, 512, &tv.dev[i]), 0);
	}
}

static inline void put_super(u32 i)
{
	struct btrfs_disk_super d = tv.sb;

	dev_item(i, &d.dev_item);
	seal(&d);
	assert_int_equal(blkdev_write(tv.dev[i], BTRFS_SUPER_OFF(0), &d, sizeof(d), 0), 0);
}

/* The chunks whose type says SYSTEM, into the superblock's array. */
static inline void put_supers(void)
{
	u32 at = 0;

	for (u32 i = 0; i < tv.chunks; i++) {
		struct btrfs_disk_key *key = (void *)(tv.sb.sys_array + at);

		if (!(tv.chunk[i].type & BTRFS_BG_SYSTEM))
			continue;
		*key = (struct btrfs_disk_key){ le64_put(BTRFS_OBJ_FIRST_CHUNK), BTRFS_KEY_CHUNK_ITEM,
						le64_put(tv.chunk[i].logical) };
		at += (u32)sizeof(*key) + chunk_item(&tv.chunk[i], (void *)(key + 1));
	}
	tv.sb.sys_array_bytes = le32_put(at);
	for (u32 i = 0; i < tv.devs; i++)
		put_super(i);
}

/* The volume without the devices whose bit is set in `missing`; as far as btrfs_volume_ready. */
static inline int try_open(u32 missing, bool degraded, u32 *lost)
{
	struct btrfs_disk_super super;
	struct blkdev *have[DEVS_MAX];
	u8 item[sizeof(struct btrfs_disk_chunk) + DEVS_MAX * sizeof(struct btrfs_disk_stripe)];
	u32 n = 0;
	int err;

	for (u32 i = tv.devs; i-- > 0;)
		if (!(missing >> i & 1))
			have[n++] = tv.dev[i];
	err = btrfs_volume_new(have, n, -1, &tv.health, &super, &tv.v);
	if (err)
		return err;
	for (u32 i = 0; i < tv.devs && !err; i++) {
		struct btrfs_disk_dev_item d;

		dev_item(i, &d);
		err = btrfs_volume_device(tv.v, &d);
	}
	for (u32 i = 0; i < tv.chunks && !err; i++) {
		u32 len = chunk_item(&tv.chunk[i], (void *)item);

		err = btrfs_volume_chunk(tv.v, tv.chunk[i].logical, (void *)item, len);
	}
	if (!err)
		err = btrfs_volume_ready(tv.v, degraded, lost);
	if (err) {
		btrfs_volume_free(tv.v);
		tv.v = NULL;
	}
	return err;
}

static inline void volume_close(void)
{
	btrfs_volume_free(tv.v);
	tv.v = NULL;
}

static inline void devices_free(void)
{
	volume_close();
	for (u32 i = 0; i < tv.devs; i++) {
		assert_int_equal(tv.dev[i]->refs, 1);
		blkdev_put(tv.dev[i]);
	}
	for (u32 i = 0; i < tv.chunks; i++)
		free(tv.chunk[i].model);
	health_fini(&tv.health);
	tv.devs = tv.chunks = 0;
}

#endif
