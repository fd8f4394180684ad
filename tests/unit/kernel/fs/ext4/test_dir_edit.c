/* Names that come, go and change their meaning in directories of every kind, against a set that knows what is there. */
#include "dirmodel.h"

#define NAMES 1500u
#define OPS   6000u

static const struct kind {
	const char *args, *tune;
	u32 mib;
} kinds[] = {
	{ "-t ext4 -b 1024 -O ^has_journal", "", 16 },
	{ "-t ext4 -b 2048 -O ^has_journal,^metadata_csum", "", 16 },
	{ "-t ext4 -b 4096 -O ^has_journal,metadata_csum_seed", "", 32 },
	{ "-t ext4 -b 1024 -O ^has_journal,^dir_index", "", 16 },
	{ "-t ext2 -b 1024 -O ^dir_index,^filetype", "", 16 },
	{ "-t ext2 -b 1024 -O dir_index", "-E hash_alg=tea", 16 },
	{ "-t ext4 -b 1024", "", 24 },
	{ "-t ext4 -b 1024 -O ^has_journal,^filetype", "-E hash_alg=legacy", 16 },
};

/* Adds, deletes and changes by chance; `grow` of 10 changes of names that are not there add them. */
static void churn(struct dirmodel *m, u32 ops, u32 grow)
{
	while (ops--) {
		u32 i = rnd(m->n), file = rnd(MODEL_FILES);

		if (!m->is[i] && rnd(10) < grow)
			model_must(m, MODEL_ADD, i, file);
		else if (m->is[i] && rnd(10) >= grow)
			model_must(m, MODEL_DEL, i, file);
		else if (m->is[i] && !rnd(4))
			model_must(m, MODEL_SET, i, file);
		model_check_lookup(m, rnd(m->n));
	}
}

static void random_changes(void **state)
{
	(void)state;
	rnd_seed();
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct dirmodel m;

		model_start(&m, kinds[k].args, kinds[k].tune, kinds[k].mib, NAMES);
		churn(&m, OPS, 7);
		model_check(&m, 20);
		churn(&m, OPS, 2);
		model_check(&m, 3);
		churn(&m, OPS, 9);
		model_check(&m, 300);
		model_end(&m);
	}
}

/* ---- damage ---- */

#define ROUNDS 50u

/* Where the directory's blocks lie. */
static u32 blocks_of(struct dirmodel *m, u64 *off, u32 max)
{
	u32 bytes = ext4_block_bytes(vol_es), n = (u32)(ext4_size(m->dir) / bytes);

	n = MIN(n, max);
	for (u32 i = 0; i < n; i++) {
		struct ext4_run run;

		assert_int_equal(ext4_map_blocks(m->dir, i, 1, &run), 0);
		off[i] = (run.pblk + i - run.lblk) * bytes;
	}
	return n;
}

/* Bytes of one block change; of those that mean much more often. */
static void spoil(FILE *f, const u64 *off, u32 n, u32 bytes)
{
	u64 at = off[rnd(3) ? rnd(n) : 0];
	u32 many = 1 + rnd(4);

	while (many--) {
		u32 where = rnd(rnd(2) ? 64 : bytes);

		assert_int_equal(fseek(f, (long)(at + where), SEEK_SET), 0);
		fputc((int)rnd(rnd(2) ? 4 : 256), f);
	}
	assert_int_equal(fflush(f), 0);
}

static int ignore(void *ctx, const struct dirent_out *de)
{
	u64 *pos = ctx;

	assert_true(de->next_pos > *pos);
	*pos = de->next_pos;
	return 0;
}

/* Changes of a directory that is not what it should be end, with or without an error, and touch nothing but it. */
static void damaged(void **state)
{
	static const struct kind kind[] = {
		{ "-t ext4 -b 1024 -O ^has_journal,^metadata_csum", "", 16 },
		{ "-t ext4 -b 1024 -O ^has_journal,^metadata_csum,^dir_index", "", 16 },
		{ "-t ext4 -b 1024 -O ^has_journal", "", 16 },
	};
	u64 off[600];

	(void)state;
	rnd_seed();
	for (size_t k = 0; k < ARRAY_SIZE(kind); k++) {
		struct dirmodel m;
		u32 blocks, bytes, refused = 0;

		model_start(&m, kind[k].args, kind[k].tune, kind[k].mib, 8000);
		for (u32 i = 0; i < 6000; i++)
			model_must(&m, MODEL_ADD, i, i % MODEL_FILES);
		blocks = blocks_of(&m, off, ARRAY_SIZE(off));
		bytes = ext4_block_bytes(vol_es);
		model_detach(&m);
		vol_close();
		run("cp %s/img %s/good", vol_dir, vol_dir);
		for (u32 round = 0; round < ROUNDS; round++) {
			char path[128];
			FILE *f;
			u64 pos = 0;

			run("cp %s/good %s/img", vol_dir, vol_dir);
			snprintf(path, sizeof(path), "%s/img", vol_dir);
			f = fopen(path, "r+");
			assert_non_null(f);
			for (u32 i = rnd(3); i < 3; i++)
				spoil(f, off, blocks, bytes);
			fclose(f);
			vol_open();
			model_attach(&m, "d");
			for (u32 i = 0; i < 100; i++) {
				u32 x = rnd(m.n);
				enum model_op op = !m.is[x] ? MODEL_ADD : rnd(2) ? MODEL_DEL : MODEL_SET;

				refused += model_change(&m, op, x, i % MODEL_FILES) == -EUCLEAN;
			}
			(void)!vfs_readdir(&m.dir->vfs, 0, ignore, &pos);
			(void)!ext4_dir_is_empty(m.dir);
			model_detach(&m);
			vol_close();
		}
		print_message("%u of %u changes refused\n", refused, 100 * ROUNDS);
		assert_true(refused > 0);
		free(m.is);
		vol_remove();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(random_changes, vol_clean),
		cmocka_unit_test_teardown(damaged, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
