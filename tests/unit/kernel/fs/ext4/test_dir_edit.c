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
static void churn(struct dirmodel *m, u64 *seed, u32 ops, u32 grow)
{
	while (ops--) {
		u32 i = rnd(seed, m->n), file = rnd(seed, MODEL_FILES);

		if (!m->is[i] && rnd(seed, 10) < grow)
			model_must(m, MODEL_ADD, i, file);
		else if (m->is[i] && rnd(seed, 10) >= grow)
			model_must(m, MODEL_DEL, i, file);
		else if (m->is[i] && !rnd(seed, 4))
			model_must(m, MODEL_SET, i, file);
		model_check_lookup(m, rnd(seed, m->n));
	}
}

static void random_changes(void **state)
{
	u64 seed = new_seed();

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct rwvol v;
		struct dirmodel m;

		print_message("%s %s\n", kinds[k].args, kinds[k].tune);
		rwvol_make(&v, kinds[k].args, kinds[k].tune, kinds[k].mib, MODEL_FILES);
		rwvol_mount(&v, false);
		model_init(&m, &v, NAMES);
		churn(&m, &seed, OPS, 7);
		model_check(&m, &seed, 20);
		churn(&m, &seed, OPS, 2);
		model_check(&m, &seed, 3);
		churn(&m, &seed, OPS, 9);
		model_check(&m, &seed, 300);
		model_end(&m, &seed);
		rwvol_drop(&v);
	}
}

/* ---- damage ---- */

#define ROUNDS 50u

/* Where the directory's blocks lie. */
static u32 blocks_of(struct dirmodel *m, u64 *off, u32 max)
{
	u32 bytes = m->v->sb->block_bytes, n = (u32)(ext4_size(m->dir) / bytes);

	n = MIN(n, max);
	for (u32 i = 0; i < n; i++) {
		struct ext4_run run;

		assert_int_equal(ext4_map_blocks(m->dir, i, 1, &run), 0);
		off[i] = (run.pblk + i - run.lblk) * bytes;
	}
	return n;
}

/* Bytes of one block change; of those that mean much more often. */
static void spoil(FILE *f, const u64 *off, u32 n, u32 bytes, u64 *seed)
{
	u64 at = off[rnd(seed, 3) ? rnd(seed, n) : 0];
	u32 many = 1 + rnd(seed, 4);

	while (many--) {
		u32 where = rnd(seed, rnd(seed, 2) ? 64 : bytes);

		assert_int_equal(fseek(f, (long)(at + where), SEEK_SET), 0);
		fputc((int)rnd(seed, rnd(seed, 2) ? 4 : 256), f);
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
	u64 seed = new_seed(), off[600];

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(kind); k++) {
		struct rwvol v;
		struct dirmodel m;
		u32 blocks, bytes, refused = 0;

		rwvol_make(&v, kind[k].args, kind[k].tune, kind[k].mib, MODEL_FILES);
		rwvol_mount(&v, false);
		model_init(&m, &v, 8000);
		for (u32 i = 0; i < 6000; i++)
			model_must(&m, MODEL_ADD, i, i % MODEL_FILES);
		blocks = blocks_of(&m, off, ARRAY_SIZE(off));
		bytes = v.sb->block_bytes;
		model_detach(&m);
		rwvol_unmount(&v);
		assert_int_equal(sh("cp %s %s/good", v.img, v.dir), 0);
		for (u32 round = 0; round < ROUNDS; round++) {
			FILE *f;
			u64 pos = 0;

			assert_int_equal(sh("cp %s/good %s", v.dir, v.img), 0);
			f = fopen(v.img, "r+");
			assert_non_null(f);
			for (u32 i = rnd(&seed, 3); i < 3; i++)
				spoil(f, off, blocks, bytes, &seed);
			fclose(f);
			rwvol_mount(&v, false);
			model_attach(&m, &v, "d");
			for (u32 i = 0; i < 100; i++) {
				u32 x = rnd(&seed, m.n);
				enum model_op op = !m.is[x]        ? MODEL_ADD
						   : rnd(&seed, 2) ? MODEL_DEL
								   : MODEL_SET;

				refused += model_change(&m, op, x, i % MODEL_FILES) == -EUCLEAN;
			}
			(void)!vfs_readdir(&m.dir->vfs, 0, ignore, &pos);
			(void)!ext4_dir_is_empty(m.dir);
			model_detach(&m);
			rwvol_unmount(&v);
		}
		print_message("%u of %u changes refused\n", refused, 100 * ROUNDS);
		assert_true(refused > 0);
		free(m.is);
		rwvol_drop(&v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
