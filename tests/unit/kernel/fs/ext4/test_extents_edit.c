/*
 * Extent trees that change: random inserts, conversions and cuts against an array; shapes that splits, growth and shrinking must give; and
 * what fails changes nothing. e2fsck judges every volume.
 */
#include "mapmodel.h"

static const u64 far_apart[SEGS] = { 0, 5000, 1ull << 31, (1ull << 32) - 1 - SEG };

static void open_file(const char *args, u32 mib)
{
	vol_make(args, mib, ": >f");
	vol_open();
	model_open("f", far_apart);
}

static void close_file(void)
{
	model_close();
	vol_close();
	vol_fsck();
	vol_remove();
}

static u32 depth(void)
{
	return le16_get(((const struct ext4_disk_extent_header *)model.ei->block)->depth);
}

static void random_changes(const char *args, u32 mib, u32 steps)
{
	u32 nodes, deepest = 0;

	open_file(args, mib);
	for (u32 i = 0; i < steps; i++) {
		/* It fills, and is emptied, in turns. */
		model_step(i / 512 % 2 ? 60 : 10);
		deepest = MAX(deepest, depth());
		if (i % 64 == 0)
			model_check(&nodes);
	}
	model_check(&nodes);
	assert_true(deepest >= 2 || vol_es->block_bits > 10);
	model_cut(0, EXT4_LBLK_END);
	model_check(&nodes);
	assert_int_equal(model.mapped + nodes + depth(), 0);
	for (u32 i = 0; i < steps / 4; i++)
		model_step(10);
	model_check(&nodes);
	close_file();
}

static void changes_1k(void **state)
{
	(void)state;
	random_changes("-t ext4 -b 1024 -O ^has_journal,^metadata_csum", 24, 3000);
}

static void changes_1k_csum(void **state)
{
	(void)state;
	random_changes("-t ext4 -b 1024 -O ^has_journal,metadata_csum,64bit", 24, 3000);
}

static void changes_4k_journal(void **state)
{
	(void)state;
	random_changes("-t ext4 -b 4096 -O has_journal,metadata_csum", 64, 3000);
}

static void changes_1k_journal(void **state)
{
	(void)state;
	random_changes("-t ext4 -b 1024 -J size=8 -O has_journal,metadata_csum", 40, 3000);
}

/* Every other block, in order: leaves are full, and an index node too. Then from the end to the start: as many again, half full. */
static void one_by_one(void **state)
{
	u32 nodes, up;

	(void)state;
	open_file("-t ext4 -b 1024 -O ^has_journal,metadata_csum", 24);
	for (u32 i = 0; i < PLACES; i += 2)
		model_insert(i, 1, false);
	model_check(&nodes);
	assert_int_equal(nodes, DIV_ROUND_UP(PLACES / 2, 83) + 1);
	assert_int_equal(depth(), 2);
	up = nodes;
	model_cut(0, EXT4_LBLK_END);
	model_check(&nodes);
	assert_int_equal(nodes, 0);
	for (u32 i = PLACES; i; i -= 2)
		model_insert(i - 2, 1, false);
	model_check(&nodes);
	assert_true(nodes <= 2 * up + 2);
	/* Back to one extent, in the root. */
	model_cut(1, EXT4_LBLK_END);
	model_check(&nodes);
	assert_int_equal(depth(), 0);
	assert_int_equal(nodes, 0);
	close_file();
}

/* An unwritten extent that is written from its start, its end, and in the middle. */
static void borders(void **state)
{
	const struct ext4_disk_extent_header *root;
	u32 nodes;

	(void)state;
	open_file("-t ext4 -b 4096 -O ^has_journal", 32);
	root = (const void *)model.ei->block;
	/* In one piece. */
	for (model_insert(0, 64, true); same(0, 64) < 64; model_insert(0, 64, true))
		model_cut(0, EXT4_LBLK_END);
	model_convert(0, 1);
	for (u32 i = 1; i < 8; i++)
		model_convert(i, 1);
	assert_int_equal(le16_get(root->entries), 2);
	model_convert(63, 1);
	for (u32 i = 62; i > 55; i--)
		model_convert(i, 1);
	assert_int_equal(le16_get(root->entries), 3);
	model_convert(30, 1);
	model_check(&nodes);
	assert_int_equal(depth(), 1); /* five are more than the root holds */
	assert_int_equal(nodes, 1);
	for (u32 i = 8; i < 56; i++)
		if (model.at[i].unwritten)
			model_convert(i, 1);
	model_check(&nodes);
	model_cut(64, EXT4_LBLK_END);
	model_check(&nodes);
	assert_int_equal(nodes, 0);
	assert_int_equal(le16_get(root->entries), 1);
	close_file();
}

#define ROOM      1152u
#define ROOM_PART 128u

/* A thousand pieces behind each other, each in a place of its own, get to where there is room for many in a row: one node is enough then. */
static void gathered(void **state)
{
	u32 nodes, filled = 0, extents = 1, room;
	u64 at, goal;

	(void)state;
	open_file("-t ext4 -b 1024 -O ^has_journal,metadata_csum", 24);
	/* Where they are to go none of them is before, by chance. */
	assert_int_equal(ext4_blocks_reserve(vol_es, 12000, ROOM, 0, &goal, &room), 0);
	assert_int_equal(room, ROOM);
	/* The odd ones in order, then what lies between them: no piece goes on where the one before it ends. */
	for (u32 first = 0; first < 2; first++)
		for (u32 i = first; i < SEG; i += 2)
			if (!model.at[i].pblk)
				model_insert(i, 1, false);
	model_check(&nodes);
	assert_true(nodes > 5);
	for (at = goal; at < goal + ROOM; at += ROOM_PART)
		ext4_blocks_unreserve(vol_es, at, ROOM_PART - 1);
	for (u32 i = 0; i < SEG; i += filled) {
		filled = model_remap(i, SEG, goal);
		goal = model.at[i].pblk + filled;
	}
	for (at = 0; at < SEG;) {
		struct ext4_handle h;

		begin(&h);
		assert_int_equal(ext4_extent_pack(&h, model.ei, &at), 0);
		assert_int_equal(ext4_extent_shrink(&h, model.ei), 0);
		end(&h);
	}
	model_check(&nodes);
	for (u32 i = 1; i < SEG; i++)
		extents += model.at[i].pblk != model.at[i - 1].pblk + 1;
	assert_int_equal(extents, DIV_ROUND_UP(SEG, ROOM_PART - 1));
	assert_int_equal(depth(), 1);
	assert_int_equal(nodes, 1);
	close_file();
}

/* What is mapped cannot be mapped again; nothing was changed. */
static void refused(void **state)
{
	struct ext4_handle h;
	u32 nodes;

	(void)state;
	open_file("-t ext4 -b 1024 -O ^has_journal", 24);
	model_insert(10, 4, false);
	begin(&h);
	assert_int_equal(ext4_extent_insert(&h, model.ei, 9, 2, 5000, false), -EUCLEAN);
	assert_int_equal(ext4_extent_insert(&h, model.ei, 11, 1, 5000, false), -EUCLEAN);
	assert_int_equal(ext4_extent_insert(&h, model.ei, 20, EXT4_EXTENT_INIT_MAX + 1, 5000, false), -EFBIG);
	assert_int_equal(ext4_extent_insert(&h, model.ei, EXT4_LBLK_END - 1, 2, 5000, false), -EFBIG);
	assert_int_equal(ext4_extent_convert(&h, model.ei, 9, 1), -EUCLEAN);
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
		cmocka_unit_test_teardown(changes_1k_csum, vol_clean),
		cmocka_unit_test_teardown(changes_4k_journal, vol_clean),
		cmocka_unit_test_teardown(changes_1k_journal, vol_clean),
		cmocka_unit_test_teardown(one_by_one, vol_clean),
		cmocka_unit_test_teardown(borders, vol_clean),
		cmocka_unit_test_teardown(gathered, vol_clean),
		cmocka_unit_test_teardown(refused, vol_clean),
	};

	rnd_seed();
	return cmocka_run_group_tests_name("ext4 extents_edit", tests, NULL, NULL);
}
