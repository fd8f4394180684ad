/*
 * Block maps of ext2 and ext3 that change: random inserts and cuts over all levels of pointers against an array; what is empty goes.
 * e2fsck judges every volume.
 */
#include "mapmodel.h"

static void random_changes(const char *args, u32 mib, const u64 *seg, u32 steps)
{
	u32 nodes;

	vol_make(args, mib, ": >f");
	vol_open();
	model_open("f", seg);
	for (u32 i = 0; i < steps; i++) {
		model_step(i / 512 % 2 ? 80 : 20);
		if (i % 64 == 0)
			model_check(&nodes);
	}
	model_check(&nodes);
	model_cut(0, EXT4_LBLK_END);
	model_check(&nodes);
	assert_int_equal(model.mapped, 0);
	assert_int_equal(model.ei->vfs.blocks_512, 0);
	for (u32 i = 0; i < ARRAY_SIZE(model.ei->block); i++)
		assert_int_equal(model.ei->block[i], 0);
	for (u32 i = 0; i < steps / 4; i++)
		model_step(20);
	model_check(&nodes);
	model_close();
	vol_close();
	vol_fsck();
	vol_remove();
}

/* The borders between levels lie within segments. */
static void changes_1k(void **state)
{
	static const u64 seg[SEGS] = { 0, 65804 - 500, 65804 + 65536 - 500, 16000000 };

	(void)state;
	random_changes("-t ext2 -b 1024", 24, seg, 3000);
}

static void changes_4k(void **state)
{
	static const u64 seg[SEGS] = { 0, 1036 - 10 + SEG, 1049612 - 500, 500000000 };

	(void)state;
	random_changes("-t ext3 -b 4096", 64, seg, 2000);
}

static void refused(void **state)
{
	static const u64 seg[SEGS] = { 0, 65804 - 500, 65804 + 65536 - 500, 16000000 };
	struct ext4_handle h;
	u32 nodes;

	(void)state;
	vol_make("-t ext2 -b 1024", 24, ": >f");
	vol_open();
	model_open("f", seg);
	model_insert(2, 4, false);
	model_insert(20, 4, false);
	begin(&h);
	assert_int_equal(ext4_indirect_insert(&h, model.ei, 1, 2, 5000), -EUCLEAN);
	assert_int_equal(ext4_indirect_insert(&h, model.ei, 20, 1, 5000), -EUCLEAN);
	assert_int_equal(ext4_indirect_insert(&h, model.ei, 11, 2, 5000), -EFBIG);
	assert_int_equal(ext4_indirect_insert(&h, model.ei, 1ull << 32, 1, 5000), -EFBIG);
	assert_int_equal(ext4_indirect_insert(&h, model.ei, 100, 1, 1ull << 32), -ENOSPC);
	end(&h);
	model_check(&nodes);
	model_close();
	vol_close();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(changes_1k, vol_clean),
		cmocka_unit_test_teardown(changes_4k, vol_clean),
		cmocka_unit_test_teardown(refused, vol_clean),
	};

	rnd_seed();
	return cmocka_run_group_tests_name("ext4 indirect_edit", tests, NULL, NULL);
}
