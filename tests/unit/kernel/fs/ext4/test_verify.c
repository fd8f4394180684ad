/* What may pass as an extent node, as a list of attributes, as an ACL; the zone; times and device numbers. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

static struct ext4_super *volume(void)
{
	static struct ext4_super es;

	if (!es.blocks) {
		es.vfs.block_bytes = 1024;
		es.block_bits = 10;
		es.first_data_blk = 1;
		es.blocks = 1000;
		es.inode_bytes = 256;
		assert_int_equal(ext4_zone_add(&es.zone, 1, 10), 0);
		assert_int_equal(ext4_zone_add(&es.zone, 500, 20), 0);
		ext4_zone_seal(&es.zone);
	}
	return &es;
}

static void zone(void **state)
{
	struct ext4_zone z = { 0 };

	(void)state;
	/* Bitmaps and tables of four groups, as flex_bg lays them: three ranges. */
	for (u32 g = 0; g < 4; g++) {
		assert_int_equal(ext4_zone_add(&z, 100 + g, 1), 0);
		assert_int_equal(ext4_zone_add(&z, 110 + g, 1), 0);
		assert_int_equal(ext4_zone_add(&z, 200 + 50 * g, 50), 0);
	}
	assert_int_equal(z.count, 3);
	assert_int_equal(ext4_zone_add(&z, 50, 55), 0);
	ext4_zone_seal(&z);
	assert_int_equal(z.count, 3);
	assert_true(ext4_zone_meets(&z, 0, 51));
	assert_false(ext4_zone_meets(&z, 0, 50));
	assert_true(ext4_zone_meets(&z, 104, 1));
	assert_false(ext4_zone_meets(&z, 105, 5));
	assert_true(ext4_zone_meets(&z, 105, 6));
	assert_true(ext4_zone_meets(&z, 399, 1));
	assert_false(ext4_zone_meets(&z, 400, 1000));
	ext4_zone_free(&z);
}

static void blocks_ok(void **state)
{
	struct ext4_super *es = volume();

	(void)state;
	assert_true(ext4_blocks_ok(es, 11, 489));
	assert_false(ext4_blocks_ok(es, 11, 490));
	assert_false(ext4_blocks_ok(es, 10, 1));
	assert_false(ext4_blocks_ok(es, 0, 1));
	assert_true(ext4_blocks_ok(es, 999, 1));
	assert_false(ext4_blocks_ok(es, 999, 2));
	assert_false(ext4_blocks_ok(es, 1000, 1));
	assert_false(ext4_blocks_ok(es, 600, ~0ull - 500));
	assert_false(ext4_blocks_ok(es, ~0ull, 1));
	assert_false(ext4_blocks_ok(es, 600, 0));
}

struct root {
	struct ext4_disk_extent_header h;
	struct ext4_disk_extent e[4];
};

static struct root leaf(u32 n)
{
	struct root r = { 0 };

	r.h.magic = le16_put(EXT4_EXTENT_MAGIC);
	r.h.entries = le16_put((u16)n);
	r.h.max = le16_put(4);
	for (u32 i = 0; i < n; i++) {
		r.e[i].lblk = le32_put(i * 10);
		r.e[i].len = le16_put(10);
		r.e[i].start_lo = le32_put(20 + i * 20);
	}
	return r;
}

static void extents(void **state)
{
	struct ext4_super *es = volume();
	struct root r = leaf(4);

	(void)state;
	assert_null(ext4_extent_node_wrong(es, 12, &r, 60, 0));
	assert_non_null(ext4_extent_node_wrong(es, 12, &r, 60, 1));
	/* An index: lblk, low half and high half of the child's block. */
	r.h.depth = le16_put(1);
	for (u32 i = 0; i < 4; i++)
		r.e[i] =
			(struct ext4_disk_extent){ .lblk = le32_put(i * 10), .len = le16_put((u16)(20 + i)) };
	assert_null(ext4_extent_node_wrong(es, 12, &r, 60, 1));
	r.e[1].lblk = le32_put(0);
	assert_non_null(ext4_extent_node_wrong(es, 12, &r, 60, 1));
	r.e[1].lblk = le32_put(10);
	r.e[1].len = le16_put(5); /* the zone */
	assert_non_null(ext4_extent_node_wrong(es, 12, &r, 60, 1));
#define REFUSED(change)                                                     \
	do {                                                                \
		r = leaf(4);                                                \
		change;                                                     \
		assert_non_null(ext4_extent_node_wrong(es, 12, &r, 60, 0)); \
	} while (0)
	REFUSED(r.h.magic = le16_put(1));
	REFUSED(r.h.entries = le16_put(5));
	REFUSED(r.h.max = le16_put(5));
	REFUSED(r.h.max = le16_put(0));
	REFUSED(r.e[2].len = le16_put(0));
	REFUSED(r.e[2].len = le16_put(11));          /* overlaps the next */
	REFUSED(r.e[2].lblk = le32_put(9));          /* not in order */
	REFUSED(r.e[3].lblk = le32_put(UINT32_MAX)); /* beyond the end of all files */
	REFUSED(r.e[0].start_lo = le32_put(0));
	REFUSED(r.e[0].start_lo = le32_put(5));   /* the zone */
	REFUSED(r.e[0].start_lo = le32_put(495)); /* reaches into the zone */
	REFUSED(r.e[0].start_lo = le32_put(995)); /* reaches beyond the volume */
	REFUSED(r.e[0].start_hi = le16_put(1));
#undef REFUSED
	/* 32768 is a long extent in use, 32769 an unwritten one of 1. */
	r = leaf(1);
	r.e[0].len = le16_put(32769);
	assert_null(ext4_extent_node_wrong(es, 12, &r, 60, 0));
	r.e[0].len = le16_put(32768);
	assert_non_null(ext4_extent_node_wrong(es, 12, &r, 60, 0));
}

static u32 put_attr(u8 *b, u32 off, const char *name, u32 value_off, u32 size)
{
	struct ext4_disk_xattr_entry *e = (void *)(b + off);

	*e = (struct ext4_disk_xattr_entry){ .name_len = (u8)strlen(name), .name_index = EXT4_XATTR_USER };
	e->value_offs = le16_put((u16)value_off);
	e->value_size = le32_put(size);
	memcpy(e + 1, name, strlen(name));
	return off + ALIGN_UP((u32)sizeof(*e) + (u32)strlen(name), 4u);
}

static void xattr_lists(void **state)
{
	struct ext4_super *es = volume();
	u8 b[100] = { 0 };
	u32 off;

	(void)state;
	assert_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	off = put_attr(b, 0, "one", 90, 10);
	put_attr(b, off, "two", 80, 8);
	assert_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	put_attr(b, off, "two", 84, 8); /* shares bytes with the first */
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	put_attr(b, off, "two", 80, 100);
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	put_attr(b, off, "two", 40, 8); /* in the names */
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	put_attr(b, off, "two", 65535, 1);
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	put_attr(b, off, "two", 80, 8);
	((struct ext4_disk_xattr_entry *)b)->value_inum = le32_put(12);
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
	memset(b, 1, sizeof(b)); /* no end */
	assert_non_null(ext4_xattr_list_wrong(es, b, 0, sizeof(b)));
}

static void lists_survive(void **state)
{
	unsigned int seed = 424242;

	(void)state;
	print_message("seed %u\n", seed);
	for (u32 round = 0; round < 20000; round++) {
		u32 len = 4 + (u32)rand_r(&seed) % 200;
		u8 *b = malloc(len);

		for (u32 i = 0; i < len; i++)
			b[i] = (u8)(rand_r(&seed) & (i & 1 ? 0x07 : 0x1c));
		(void)ext4_xattr_list_wrong(volume(), b, 0, len);
		free(b);
	}
}

static void acls(void **state)
{
	static const u8 disk[] = { 1, 0, 0, 0, 1, 0, 6,    0, 2, 0, 4,    0, 0xe8, 3,
				   0, 0, 4, 0, 4, 0, 0x10, 0, 4, 0, 0x20, 0, 4,    0 };
	struct acl *acl = NULL;

	(void)state;
	assert_int_equal(ext4_acl_decode(disk, sizeof(disk), &acl), 0);
	assert_int_equal(acl->count, 5);
	assert_int_equal(acl->e[1].tag, ACL_USER);
	assert_int_equal(acl->e[1].id, 1000);
	assert_int_equal(acl->e[4].perm, 4);
	acl_free(acl);
	for (u32 len = 0; len < sizeof(disk); len++)
		assert_int_equal(ext4_acl_decode(disk, len, &acl), -EINVAL);
}

static void times(void **state)
{
	struct ext4_super *es = volume();
	static const struct {
		u32 sec, extra;
		s64 want_sec;
		u32 want_nsec;
	} c[] = {
		{ 0, 0, 0, 0 },
		{ 0x7fffffff, 0, 0x7fffffff, 0 },
		{ 0x80000000, 0, -0x80000000ll, 0 },
		{ 0xffffffff, 999999999u << 2, -1, 999999999 },
		{ 0x80000000, 1, 0x80000000ll, 0 },
		{ 0, 1, 0x100000000ll, 0 },
		{ 0x7fffffff, 3, 0x37fffffffll, 0 },
		{ 5, 0xfffffffc, 5, 0 }, /* more than a second's nanoseconds */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		struct ext4_disk_inode raw = { .extra_isize = le16_put(32) };
		struct timespec64 t;

		raw.mtime = le32_put(c[i].sec);
		raw.mtime_extra = le32_put(c[i].extra);
		t = ext4_inode_time(es, &raw, &raw.mtime, &raw.mtime_extra);
		assert_int_equal(t.sec, c[i].want_sec);
		assert_int_equal(t.nsec, c[i].want_nsec);
		/* A field that extra_isize does not reach is not there. */
		raw.extra_isize = le16_put(4);
		t = ext4_inode_time(es, &raw, &raw.mtime, &raw.mtime_extra);
		assert_int_equal(t.sec, (s32)c[i].sec);
		assert_int_equal(t.nsec, 0);
		t = ext4_inode_time(es, &raw, &raw.crtime, &raw.crtime_extra);
		assert_int_equal(t.sec, 0);
	}
}

static void devices(void **state)
{
	u8 b[EXT4_IBLOCK_BYTES] = { 0x03, 0x08 };
	u32 major, minor;

	(void)state;
	ext4_inode_rdev(b, &major, &minor);
	assert_int_equal(major, 8);
	assert_int_equal(minor, 3);
	memcpy(b, (u8[8]){ 0, 0, 0, 0, 0x34, 0xbc, 0x1a, 0x12 }, 8);
	ext4_inode_rdev(b, &major, &minor);
	assert_int_equal(major, 0xabc);
	assert_int_equal(minor, 0x12134);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zone),        cmocka_unit_test(blocks_ok),     cmocka_unit_test(extents),
		cmocka_unit_test(xattr_lists), cmocka_unit_test(lists_survive), cmocka_unit_test(acls),
		cmocka_unit_test(times),       cmocka_unit_test(devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
