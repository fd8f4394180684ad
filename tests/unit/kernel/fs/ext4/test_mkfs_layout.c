/*
 * Plans of volumes: the numbers that sizes lead to; words; and, for random options, that nothing of a plan lies where something else does, or
 * outside of the volume.
 */
#include "volume.h"

#include "fs/ext4/mkfs.h"
#include <errno.h>

#define KIB 1024ull
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)
#define TIB (KIB * GIB)

static struct ext4_mkfs_plan plan;

static int try_plan(u64 size, const char *features, const char *words)
{
	const struct format_opts in = { .size_bytes = size,
					.features = features,
					.fs_opts = words,
					.seed = 5,
					.now = { 1700000000, 0 },
					.uuid = { 1, 2, 3 } };
	struct ext4_mkfs_opts o;
	int err = ext4_mkfs_parse(&in, 1, &o);

	if (!err)
		err = ext4_mkfs_plan(&o, &plan);
	if (err)
		ext4_mkfs_free(&plan);
	return err;
}

static int done(void **state)
{
	(void)state;
	ext4_mkfs_free(&plan);
	return 0;
}

/* What mke2fs 1.47 makes of these sizes. */
static void test_sizes(void **state)
{
	static const struct {
		u64 size;
		u32 block;
		u64 blocks;
		u32 groups, inodes_per_group, reserved_gdt, journal, orphans;
	} row[] = {
		{ 1 * MIB, 1024, 1024, 1, 128, 7, 0, 0 },
		{ 8 * MIB, 1024, 8192, 1, 2048, 63, 1024, 32 },
		{ 100 * MIB, 1024, 102400, 13, 1968, 256, 4096, 32 },
		{ 512 * MIB, 4096, 131072, 4, 8192, 63, 4096, 32 },
		{ 3 * GIB, 4096, 786432, 24, 8192, 383, 16384, 192 },
		{ 8 * GIB, 4096, 2097152, 64, 8192, 1023, 16384, 512 },
		{ 1 * TIB, 4096, 268435456, 8192, 8192, 1024, 262144, 512 },
		{ 16 * TIB, 4096, 4294967296, 131072, 2048, 0, 262144, 512 },
		{ 64 * TIB, 4096, 17179869184, 524288, 2048, 0, 262144, 512 },
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(row); i++) {
		const struct ext4_disk_super *d;

		if (try_plan(row[i].size, NULL, NULL))
			fail_msg("%llu bytes: %s", (unsigned long long)row[i].size, err_text());
		d = &plan.es->disk;
		assert_int_equal(ext4_block_bytes(plan.es), row[i].block);
		assert_int_equal(ext4_sb_blocks(d), row[i].blocks);
		assert_int_equal(plan.es->groups, row[i].groups);
		assert_int_equal(le32_get(d->inodes_per_group), row[i].inodes_per_group);
		assert_int_equal(le16_get(d->reserved_gdt_blocks), row[i].reserved_gdt);
		assert_int_equal(plan.journal_blocks, row[i].journal);
		assert_int_equal(plan.orphan_blocks, row[i].orphans);
		ext4_mkfs_free(&plan);
	}
}

/* A last group that has no room for its own tables is cut off. */
static void test_cut(void **state)
{
	(void)state;
	assert_int_equal(try_plan(50 * KIB, "none", NULL), -EINVAL);
	assert_int_equal(try_plan(8 * MIB + 40 * KIB, "none", NULL), 0);
	assert_int_equal(ext4_sb_blocks(&plan.es->disk), 8193);
	assert_int_equal(plan.es->groups, 1);
	ext4_mkfs_free(&plan);
	assert_int_equal(try_plan(9 * MIB, "none", NULL), 0);
	assert_int_equal(plan.es->groups, 2);
	ext4_mkfs_free(&plan);
	/* No fewer inodes than there are files. */
	assert_int_equal(try_plan(2 * MIB, NULL, "inodes=1"), 0);
	assert_int_equal(plan.es->inodes, 16);
}

static void test_words(void **state)
{
	static const char *const bad[] = {
		"speed=1",
		"inodes",
		"inodes=",
		"inodes=x",
		"inodes=0",
		"inodes=4294967296",
		"=1",
		"inode_size=100",
		"flex_bg_size=3",
		"reserved=51",
		"reserved=1.234",
		"reserved=.",
		"usage=x",
		"hash_seed=1234",
		"variant=ext5",
		"inode_ratio=1",
		"stride=65536",
		"num_backup_sb=3",
		"hash_seed=zz345678-1234-1234-1234-123456789abc",
		"hash_seed=12345678-1234-1234-1234-123456789abcd",
		"resize=1",
		"journal_size=18446744073709551616",
		"cluster_size=65536",
		"blocks_per_group=260",
	};
	static const char *const features[] = { "speed",      "^",           "quota",
						"mmp",        "inline_data", "needs_recovery",
						"^extent",    "meta_bg",     "^sparse_super",
						"journal_dev" };

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		int err = try_plan(64 * MIB, NULL, bad[i]);

		if (err != -EINVAL)
			fail_msg("%s: %d", bad[i], err);
		assert_true(*err_text());
	}
	for (u32 i = 0; i < ARRAY_SIZE(features); i++)
		assert_int_equal(try_plan(64 * MIB, features[i], NULL), -EINVAL);
	assert_int_equal(try_plan(64 * MIB, ",extents,,^orphan_file,", ",inodes=2K,,reserved=0.25,"), 0);
	assert_int_equal(plan.es->inodes, 2048);
	assert_int_equal(le32_get(plan.es->disk.r_blocks_count_lo), 65536 * 25 / 10000);
	assert_int_equal(plan.orphan_blocks, 0);
	ext4_mkfs_free(&plan);
	assert_int_equal(try_plan(64 * MIB, NULL, "hash_seed=00112233-4455-6677-8899-AABBccddeeff"), 0);
	assert_memory_equal(plan.es->disk.hash_seed,
			    "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16);
}

/* Defaults go with what they depend on; what was asked for does not. */
static void test_features(void **state)
{
	(void)state;
	assert_int_equal(try_plan(64 * MIB, "^has_journal,^metadata_csum", NULL), 0);
	assert_false(ext4_has_compat(plan.es, EXT4_COMPAT_ORPHAN_FILE));
	assert_false(ext4_has_incompat(plan.es, EXT4_INCOMPAT_CSUM_SEED));
	ext4_mkfs_free(&plan);
	assert_int_equal(try_plan(64 * MIB, "orphan_file", "variant=ext2"), -EINVAL);
	assert_int_equal(try_plan(64 * MIB, "uninit_bg", NULL), 0);
	assert_false(ext4_has_ro_compat(plan.es, EXT4_RO_COMPAT_GDT_CSUM));
	ext4_mkfs_free(&plan);
	/* Where a journal does not fit there is none. */
	assert_int_equal(try_plan(1 * MIB, NULL, NULL), 0);
	assert_false(ext4_has_compat(plan.es, EXT4_COMPAT_HAS_JOURNAL));
	assert_int_equal(le32_get(plan.es->disk.journal_inum), 0);
}

/* ---- nothing lies on anything ---- */

static struct ext4_zone seen;
static u64 seen_blocks;

static void claim(u64 start, u64 len)
{
	assert_true(start >= plan.es->first_data_blk && start + len <= plan.es->blocks);
	if (ext4_zone_meets(&seen, start, len))
		fail_msg("blocks %llu+%llu are there twice", (unsigned long long)start,
			 (unsigned long long)len);
	assert_int_equal(ext4_zone_insert(&seen, start, len), 0);
	seen_blocks += len;
}

static void claim_file(const struct ext4_mkfs_file *f)
{
	u32 lblk = 0;

	for (u32 i = 0; i < f->runs; i++) {
		assert_int_equal(f->run[i].lblk, lblk);
		claim(f->run[i].pblk, f->run[i].len);
		lblk += f->run[i].len;
	}
	assert_int_equal(lblk, f->blocks);
	for (u32 i = 0; i < f->nodes; i++)
		claim(f->node[i].blk, 1);
	assert_true(f->clusters << plan.es->cluster_bits >= f->blocks + f->nodes);
}

static void check_plan(void)
{
	const struct ext4_super *es = plan.es;
	u64 free_clusters = 0, free_inodes = 0, dirs = 0, used;

	seen_blocks = 0;
	for (u32 i = 0; i < es->groups; i++) {
		const struct ext4_group *g = &es->group[i];
		u32 base = ext4_group_base_blocks(es, i);

		if (base)
			claim(ext4_group_start(es, i), base);
		claim(g->block_bitmap, 1);
		claim(g->inode_bitmap, 1);
		claim(g->inode_table, es->itable_blocks);
		free_clusters += g->free_clusters;
		free_inodes += g->free_inodes;
		dirs += g->used_dirs;
	}
	claim_file(&plan.root);
	claim_file(&plan.lost_found);
	claim_file(&plan.journal);
	claim_file(&plan.orphans);
	if (plan.resize_blk)
		claim(plan.resize_blk, 1);
	used = ((es->blocks - es->first_data_blk) >> es->cluster_bits) - free_clusters;
	assert_true(used << es->cluster_bits >= seen_blocks);
	if (!es->cluster_bits)
		assert_int_equal(used, seen_blocks);
	assert_int_equal(es->inodes - free_inodes, plan.last_ino);
	assert_int_equal(dirs, 2);
	assert_int_equal(le32_get(es->disk.free_inodes_count), free_inodes);
	ext4_zone_free(&seen);
}

static void random_features(char *out, size_t size)
{
	static const char *const on[] = { "",
					  ",^flex_bg",
					  ",^sparse_super,^resize_inode",
					  ",^has_journal",
					  ",^extent,^64bit",
					  ",^resize_inode,meta_bg",
					  ",^metadata_csum",
					  ",bigalloc",
					  ",^resize_inode,^sparse_super,sparse_super2",
					  ",^64bit",
					  ",^metadata_csum,uninit_bg" };

	snprintf(out, size, "%s%s", on[rnd(ARRAY_SIZE(on))] + 0, rnd(3) ? "" : on[rnd(ARRAY_SIZE(on))]);
}

static void test_random(void **state)
{
	u32 made = 0;

	(void)state;
	rnd_seed();
	for (u32 i = 0; i < 1500; i++) {
		u64 size = (u64)(1 + rnd(4096)) << (8 + rnd(19));
		char features[200], words[200];
		size_t n;
		int err;

		random_features(features, sizeof(features));
		n = (size_t)snprintf(words, sizeof(words), "block_size=%u", 1024u << rnd(rnd(3) ? 3 : 7));
		if (rnd(2))
			n += (size_t)snprintf(words + n, sizeof(words) - n, ",inode_ratio=%u",
					      1024u << rnd(9));
		if (rnd(2))
			n += (size_t)snprintf(words + n, sizeof(words) - n, ",inode_size=%u", 128u << rnd(4));
		if (!rnd(3) && !strstr(features, "^flex_bg"))
			n += (size_t)snprintf(words + n, sizeof(words) - n, ",flex_bg_size=%u",
					      1u << rnd(10));
		if (!rnd(4))
			n += (size_t)snprintf(words + n, sizeof(words) - n, ",blocks_per_group=%u",
					      256 + 8 * rnd(900));
		if (!rnd(6) && !strstr(features, "^has_journal"))
			snprintf(words + n, sizeof(words) - n, ",journal_size=%u", 1 + rnd(600));
		err = try_plan(size, features, words);
		if (err && err != -EINVAL && err != -ENOSPC)
			fail_msg("%llu %s %s: %d", (unsigned long long)size, features, words, err);
		print_message("%s", err || i % 100 ? "" : ".");
		if (!err) {
			check_plan();
			made++;
		}
		ext4_mkfs_free(&plan);
	}
	print_message("\n%u plans\n", made);
	assert_true(made > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_sizes, done),  cmocka_unit_test_teardown(test_cut, done),
		cmocka_unit_test_teardown(test_words, done),  cmocka_unit_test_teardown(test_features, done),
		cmocka_unit_test_teardown(test_random, done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
