/*
 * Filters of names: nothing that is there is said not to be, most of what is not there is known without looking, memory has a bound and comes
 * back. Names in every spelling are test_casefold's.
 */
#include "dirmodel.h"

#include <pthread.h>

#define NAMES 3000u

static const struct kind {
	const char *args;
	bool hashed;
} kinds[] = {
	{ "-t ext4 -b 1024 -O ^has_journal,^dir_index", false },
	{ "-t ext4 -b 4096 -O ^has_journal,^dir_index", false },
	{ "-t ext4 -b 65536 -O ^has_journal,^dir_index", false },
	{ "-t ext4 -b 16384 -O ^has_journal", true },
};

static const struct cred root = { 0 };

static bool is_excluded(struct dirmodel *m, u32 i)
{
	struct ext4_want want;
	char buf[256];
	struct name name = model_name_of(m, i, buf);

	assert_true(ext4_want(m->dir, &name, &want));
	return ext4_dir_filter_excludes(m->dir, &want);
}

/* Of what is not there nine tenths at least. */
static void check_filter(struct dirmodel *m)
{
	u32 absent = 0, excluded = 0;

	for (u32 i = 0; i < m->n; i++) {
		bool is = is_excluded(m, i);

		if (m->is[i] && is)
			fail_msg("name %u is there, and said not to be", i);
		absent += !m->is[i];
		excluded += is;
	}
	assert_true(excluded >= absent - absent / 10);
}

static void churn(struct dirmodel *m, u32 ops, u32 grow)
{
	while (ops--) {
		u32 i = rnd(m->n);

		if (!m->is[i] && rnd(10) < grow)
			model_must(m, MODEL_ADD, i, rnd(MODEL_FILES));
		else if (m->is[i] && rnd(10) >= grow)
			model_must(m, MODEL_DEL, i, 0);
		model_check_lookup(m, rnd(m->n));
	}
}

static void follows(void **state)
{
	(void)state;
	rnd_seed();
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct dirmodel m;

		model_start(&m, kinds[k].args, "", 64, NAMES);
		for (u32 i = 0; i < 100; i++)
			model_must(&m, MODEL_ADD, i, 0);
		for (u32 i = 0; i < m.n; i++)
			model_check_lookup(&m, i);
		assert_null(m.dir->filter); /* so few are not worth it */
		for (u32 i = 100; i < NAMES / 2; i++) {
			model_must(&m, MODEL_ADD, i, 0);
			model_check_lookup(&m, m.n - 1);
		}
		assert_int_equal(ext4_dir_is_indexed(m.dir), kinds[k].hashed);
		assert_non_null(m.dir->filter);
		check_filter(&m);
		churn(&m, 3000, 8);
		churn(&m, 3000, 3);
		model_check(&m, 100);
		/* One that is made anew has only what is there. */
		ext4_dir_filter_drop(m.dir);
		assert_int_equal(vol_es->filter_bytes, 0);
		for (u32 i = 0; i < m.n && !kinds[k].hashed; i++)
			model_check_lookup(&m, i);
		assert_int_equal(!m.dir->filter, kinds[k].hashed);
		if (!kinds[k].hashed)
			check_filter(&m);
		model_end(&m);
	}
}

/* Names come and go until a filter of them all would be too large: it goes, and one of what is there comes. */
static void is_bounded(void **state)
{
	struct dirmodel m;
	u64 most = 0, bytes;
	u32 drops = 0;

	(void)state;
	model_start(&m, kinds[0].args, "", 32, NAMES);
	for (u32 i = 0; i < NAMES / 2; i++)
		model_must(&m, MODEL_ADD, i, 0);
	model_check_lookup(&m, NAMES - 1);
	assert_non_null(m.dir->filter);
	for (u32 i = 0; i < 9000000 && !drops; i++) {
		char s[16];
		const struct name name = { s, (u32)sprintf(s, "gone%u", i) };

		ext4_dir_filter_put(m.dir, &name);
		bytes = vol_es->filter_bytes;
		most = MAX(most, bytes);
		drops += !bytes;
	}
	assert_int_equal(drops, 1);
	assert_true(most > 8 << 20 && most <= 16 << 20);
	model_check_lookup(&m, NAMES - 1);
	assert_in_range(vol_es->filter_bytes, 1, 10000);
	check_filter(&m);
	model_end(&m);
}

/* A directory whose blocks cannot all be read has none. */
static void needs_all_blocks(void **state)
{
	struct dirmodel m;
	struct ext4_run run;
	struct ext4_disk_dirent *first;
	struct buffer_head *bh;
	struct bh_ctx ctx;
	le16 len;

	(void)state;
	model_start(&m, kinds[1].args, "", 32, NAMES);
	for (u32 i = 0; i < NAMES / 2; i++)
		model_must(&m, MODEL_ADD, i, 0);
	ctx = ext4_ctx_dir(m.dir, 2);
	assert_int_equal(ext4_map_blocks(m.dir, 2, 1, &run), 0);
	assert_int_equal(bh_read(vol_dev, run.pblk + 2 - run.lblk, &ext4_dir_ops, &ctx, &bh), 0);
	first = bh->data;
	len = first->rec_len;
	first->rec_len = le16_put(6);
	ext4_dir_filter_make(m.dir);
	assert_null(m.dir->filter);
	first->rec_len = len;
	bh_put(bh);
	model_detach(&m);
	free(m.is);
	vol_close();
	vol_remove();
}

/* ---- those who look beside one who changes ---- */

#define LOOKERS 3u
#define MADE    4000u

static struct {
	struct inode *dir;
	_Atomic u32 made;
} beside;

static struct name made_name(u32 i, char buf[32])
{
	return (struct name){ buf, (u32)sprintf(buf, "made-%u", i) };
}

static void *look(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	u32 made;

	while ((made = beside.made) < MADE) {
		struct inode *inode = NULL;
		char buf[32];
		u32 i = (u32)rand_r(&seed) % MADE;
		struct name name = made_name(i, buf);
		int err = vfs_lookup(beside.dir, &name, &inode);

		if (i < made && err)
			return arg;
		if (!err)
			vfs_iput(inode);
	}
	return NULL;
}

static void beside_changes(void **state)
{
	pthread_t thread[LOOKERS];
	void *failed;

	(void)state;
	vol_make("-t ext4 -b 1024 -O ^dir_index -N 8192", 32, "mkdir d");
	vol_open();
	beside.made = 0;
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "d", false, &beside.dir), 0);
	beside.dir->iflags |= I_NO_DCACHE; /* who asks is answered by the module */
	for (u32 i = 0; i < LOOKERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, look, (void *)(uintptr_t)(i + 1)), 0);
	for (u32 i = 0; i < MADE; i++) {
		struct inode *inode;
		char buf[32];
		struct name name = made_name(i, buf);

		assert_int_equal(vfs_create(beside.dir, &name, S_IFREG | 0644, 0, 0, NULL, &root, &inode), 0);
		vfs_iput(inode);
		beside.made = i + 1;
	}
	for (u32 i = 0; i < LOOKERS; i++) {
		assert_int_equal(pthread_join(thread[i], &failed), 0);
		assert_null(failed);
	}
	assert_non_null(ext4_inode(beside.dir)->filter);
	vfs_iput(beside.dir);
	vol_close();
	vol_fsck();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(follows, vol_clean),
		cmocka_unit_test_teardown(is_bounded, vol_clean),
		cmocka_unit_test_teardown(needs_all_blocks, vol_clean),
		cmocka_unit_test_teardown(beside_changes, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
