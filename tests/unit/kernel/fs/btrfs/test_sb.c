/* Superblocks: which copy counts, and every member that can be wrong. */
#include "devices.h"

#define BIG (65ull << 20) /* has two copies */

static struct blkdev *big;

static void begin(void)
{
	devices_new(1);
	add_chunk(1 << 20, BTRFS_BG_SYSTEM, 1, 0, 2);
	put_supers();
	dev_item(0, &tv.sb.dev_item);
	assert_int_equal(dev_mem_new("big", BIG, 1, &big), 0);
}

static void end(void)
{
	blkdev_put(big);
	devices_free();
}

/* Copy n of a superblock like tv.sb, sealed. */
static void write_copy(u32 n, const struct btrfs_disk_super *like, u64 generation)
{
	struct btrfs_disk_super d = *like;

	d.bytenr = le64_put(BTRFS_SUPER_OFF(n));
	d.generation = le64_put(generation);
	seal(&d);
	assert_int_equal(blkdev_write(big, BTRFS_SUPER_OFF(n), &d, sizeof(d), 0), 0);
}

static void wipe(u32 n, u32 from, u32 len)
{
	static const u8 zeros[BTRFS_SUPER_BYTES];

	assert_int_equal(blkdev_write(big, BTRFS_SUPER_OFF(n) + from, zeros, len, 0), 0);
}

static int read_sb(int mirror, u64 *generation, u32 *which)
{
	struct btrfs_disk_super d = { 0 };
	int err = btrfs_sb_read(big, mirror, &d, which);

	*generation = le64_get(d.generation);
	return err;
}

static void copies(void **state)
{
	struct btrfs_disk_super other;
	u64 generation;
	u32 which;

	(void)state;
	begin();
	assert_int_equal(BTRFS_SUPER_OFF(0), 64 << 10);
	assert_int_equal(BTRFS_SUPER_OFF(1), 64 << 20);
	assert_int_equal(BTRFS_SUPER_OFF(2), 256ull << 30);
	assert_int_equal(read_sb(-1, &generation, &which), -ENODEV);
	write_copy(0, &tv.sb, 7);
	write_copy(1, &tv.sb, 7);
	assert_int_equal(read_sb(-1, &generation, &which), 0);
	assert_int_equal(which, 0);
	/* The newer one counts, unless it is of another volume, whose end it survived. */
	write_copy(1, &tv.sb, 9);
	assert_int_equal(read_sb(-1, &generation, &which), 0);
	assert_true(which == 1 && generation == 9);
	other = tv.sb;
	other.fsid[3] ^= 1;
	other.dev_item.fsid[3] ^= 1;
	write_copy(1, &other, 100);
	assert_int_equal(read_sb(-1, &generation, &which), 0);
	assert_true(which == 0 && generation == 7);
	assert_int_equal(read_sb(1, &generation, &which), 0);
	assert_int_equal(generation, 100);
	/* The first is damaged. */
	write_copy(1, &tv.sb, 6);
	wipe(0, 0x50, 8);
	assert_int_equal(read_sb(0, &generation, &which), -EUCLEAN);
	assert_int_equal(read_sb(-1, &generation, &which), 0);
	assert_true(which == 1 && generation == 6);
	/* Or overwritten: then something else may lie there now, and who wants the copy must say so. */
	wipe(0, 0, BTRFS_SUPER_BYTES);
	assert_int_equal(read_sb(-1, &generation, &which), -ENODEV);
	assert_non_null(strstr(err_text(), "--sb 1"));
	assert_int_equal(read_sb(1, &generation, &which), 0);
	assert_int_equal(read_sb(2, &generation, &which), -ENODEV);
	end();
}

/* A copy that says it lies elsewhere is none; a device too short for one has none. */
static void misplaced(void **state)
{
	struct blkdev *window;
	u64 generation;
	u32 which;

	(void)state;
	begin();
	write_copy(0, &tv.sb, 7);
	for (u64 len = 1; len < 80000; len += 4095) {
		struct btrfs_disk_super d;
		int err;

		assert_int_equal(dev_part_new(big, "part", 0, len, &window), 0);
		err = btrfs_sb_read(window, -1, &d, &which);
		assert_int_equal(err, len >= 65536 + 4096 ? 0 : -ENODEV);
		blkdev_put(window);
	}
	{
		struct btrfs_disk_super d = tv.sb;

		d.bytenr = le64_put(BTRFS_SUPER_OFF(1));
		seal(&d);
		assert_int_equal(blkdev_write(big, BTRFS_SUPER_OFF(0), &d, sizeof(d), 0), 0);
	}
	assert_int_equal(read_sb(-1, &generation, &which), -ENODEV);
	end();
}

static void unreadable(void **state)
{
	struct btrfs_disk_super d;
	struct blkdev *fault;
	u32 which;

	(void)state;
	begin();
	write_copy(0, &tv.sb, 7);
	write_copy(1, &tv.sb, 7);
	assert_int_equal(dev_fault_new(big, false, &fault), 0);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, false);
	assert_int_equal(btrfs_sb_read(fault, -1, &d, &which), 0);
	assert_int_equal(which, 1);
	dev_fault_nth(fault, FAULT_READ, 1, -EIO, true);
	assert_int_equal(btrfs_sb_read(fault, -1, &d, &which), -EIO);
	blkdev_put(fault);
	end();
}

#define SET(member, value)                                   \
	static void set_##member(struct btrfs_disk_super *d) \
	{                                                    \
		d->member = (value);                         \
	}
SET(node_bytes, le32_put(2048))
SET(leaf_bytes, le32_put(4096))
SET(sector_bytes, le32_put(1024))
SET(sys_array_bytes, le32_put(2049))
SET(root_level, 8)
SET(chunk_root_level, 255)
SET(log_root_level, 8)
SET(root, le64_put(4097))
SET(chunk_root, le64_put(0))
SET(log_root, le64_put(123))
SET(chunk_root_generation, le64_put(8))
SET(num_devices, le64_put(0))
SET(total_bytes, le64_put(0))
SET(bytes_used, le64_put(0))

static void set_big_node(struct btrfs_disk_super *d)
{
	d->node_bytes = d->leaf_bytes = le32_put(131072);
}

static void set_sector_above_node(struct btrfs_disk_super *d)
{
	d->sector_bytes = le32_put(32768);
}

static void set_short_array(struct btrfs_disk_super *d)
{
	d->sys_array_bytes = le32_put(64);
}

static void set_other_device(struct btrfs_disk_super *d)
{
	d->dev_item.fsid[15] ^= 1;
}

static void set_no_device_size(struct btrfs_disk_super *d)
{
	d->dev_item.total_bytes = le64_put(0);
}

static void set_changing(struct btrfs_disk_super *d)
{
	d->flags = le64_put(BTRFS_SUPER_CHANGING_FSID_V2);
}

static void members(void **state)
{
	static void (*const wrong[])(struct btrfs_disk_super *) = {
		set_node_bytes,        set_leaf_bytes,       set_sector_bytes,   set_sys_array_bytes,
		set_root_level,        set_chunk_root_level, set_log_root_level, set_root,
		set_chunk_root,        set_log_root,         set_num_devices,    set_chunk_root_generation,
		set_total_bytes,       set_bytes_used,       set_big_node,       set_short_array,
		set_sector_above_node, set_other_device,     set_no_device_size, set_changing,
	};
	struct btrfs_disk_super d;

	(void)state;
	begin();
	d = tv.sb;
	seal(&d);
	assert_int_equal(btrfs_sb_check(NULL, &d), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		d = tv.sb;
		wrong[i](&d);
		seal(&d);
		if (btrfs_sb_check(&tv.health, &d) != -EUCLEAN)
			fail_msg("the %zuth is taken", i);
		assert_true(strlen(err_text()) > 20);
	}
	d = tv.sb;
	d.csum_type = le16_put(4);
	assert_int_equal(btrfs_sb_check(NULL, &d), -EOPNOTSUPP);
	end();
}

/* Each bit of it counts. */
static void sums(void **state)
{
	(void)state;
	begin();
	for (u32 type = 0; type < 4; type++) {
		struct btrfs_disk_super d = tv.sb;
		u32 bytes = btrfs_csum_bytes(type);

		d.csum_type = le16_put((u16)type);
		seal(&d);
		assert_int_equal(btrfs_sb_check(NULL, &d), 0);
		for (u32 at = 0; at < sizeof(d); at += at < bytes ? 1 : 97) {
			if (at >= bytes && at < BTRFS_CSUM_BYTES)
				continue;
			((u8 *)&d)[at] ^= 4;
			assert_int_equal(btrfs_sb_check(NULL, &d),
					 at == offsetof(struct btrfs_disk_super, csum_type) ? -EOPNOTSUPP
											    : -EUCLEAN);
			((u8 *)&d)[at] ^= 4;
		}
	}
	end();
}

/* What is not known is refused by name or number. */
static void features(void **state)
{
	struct btrfs_disk_super d;

	(void)state;
	begin();
	d = tv.sb;
	assert_int_equal(btrfs_features_check(&d), 0);
	d.incompat = le64_put(BTRFS_INCOMPAT_ZONED | BTRFS_INCOMPAT_RAID_STRIPE_TREE |
			      BTRFS_INCOMPAT_EXTENT_TREE_V2 | 1ull << 40 | BTRFS_INCOMPAT_NO_HOLES);
	assert_int_equal(btrfs_features_check(&d), -EOPNOTSUPP);
	assert_non_null(strstr(err_text(), "zoned, extent-tree-v2, raid-stripe-tree, 0x10000000000"));
	assert_null(strstr(err_text(), "no-holes"));
	end();
}

/* What a tool left half done, or a newer one did, is not damage; who asks for it may read it. */
static void flags(void **state)
{
	static const u64 fine = BTRFS_SUPER_WRITTEN | BTRFS_SUPER_SEEDING | BTRFS_SUPER_METADUMP_V2;
	struct btrfs_disk_super d;

	(void)state;
	begin();
	d = tv.sb;
	for (u32 bit = 0; bit < 64; bit++) {
		static const u64 known = fine | BTRFS_SUPER_RELOC | BTRFS_SUPER_ERROR | BTRFS_SUPER_METADUMP |
					 BTRFS_SUPER_CHANGING_BG_TREE;
		bool csums = bit == 39 || bit == 40;

		d.flags = le64_put(fine | 1ull << bit);
		seal(&d);
		assert_int_equal(btrfs_flags_check(&d), known >> bit & 1 ? 0 : -EOPNOTSUPP);
		if (!(known >> bit & 1))
			assert_true(!strstr(err_text(), "btrfstune --csum") == !csums);
		assert_int_equal(btrfs_sb_check(&tv.health, &d), bit == 35 || bit == 36 ? -EUCLEAN : 0);
	}
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies),  cmocka_unit_test(misplaced), cmocka_unit_test(unreadable),
		cmocka_unit_test(members), cmocka_unit_test(sums),      cmocka_unit_test(features),
		cmocka_unit_test(flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
