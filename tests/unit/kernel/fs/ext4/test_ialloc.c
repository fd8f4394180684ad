/*
 * Inode numbers: given out and given back at random against a model, spread, exhausted; on tables that hold rubbish where they were never
 * written. e2fsck judges.
 */
#include "volume.h"

#include <errno.h>

#define ALIVE_MAX 600u

static const char *const shapes[] = {
	"-t ext4 -O ^has_journal,metadata_csum,64bit -I 256 -g 8192 -b 1024 -N 8192",
	"-t ext4 -O has_journal,metadata_csum,64bit,flex_bg -I 256 -N 16384",
	"-t ext4 -O ^has_journal,^metadata_csum,uninit_bg,^flex_bg -I 128 -b 1024 -N 16384",
	"-t ext4 -O has_journal,^metadata_csum,uninit_bg -I 512 -b 2048",
	"-t ext2 -b 1024 -N 8192",
};

static struct inode *root(void)
{
	struct inode *inode;

	assert_int_equal(vfs_iget(&vol_es->vfs, EXT4_INO_ROOT, &inode), 0);
	return inode;
}

static u64 free_inodes(void)
{
	struct kstatfs st = { 0 };

	assert_int_equal(vfs_statfs(&vol_es->vfs, &st), 0);
	return st.inodes_free;
}

/* A nameless inode. */
static int make(struct inode *dir, u32 mode, struct ext4_inode **out)
{
	const struct new_inode what = { .mode = mode, .uid = 7 };
	struct ext4_handle h;
	int err;

	rw_write_lock(&dir->lock);
	assert_int_equal(ext4_begin(vol_es, EXT4_CREDITS_NEW_INODE, 2, &h), 0);
	err = ext4_inode_create(&h, ext4_inode(dir), &what, out);
	if (!err)
		inode_ready(&(*out)->vfs, 0);
	err = ext4_end(&h, err);
	rw_write_unlock(&dir->lock);
	return err;
}

static void test_random(void **state)
{
	(void)state;
	rnd_seed();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		struct ext4_inode *alive[ALIVE_MAX];
		struct inode *dir;
		u64 before;
		u32 n = 0;

		vol_make(shapes[s], 64, NULL);
		vol_open();
		dir = root();
		before = free_inodes();
		for (u32 i = 0; i < 4000; i++) {
			if (n < ALIVE_MAX && rnd(100) < (i / 1000 % 2 ? 40u : 60u)) {
				struct ext4_inode *ei;

				assert_int_equal(make(dir, (rnd(4) ? S_IFIFO : S_IFSOCK) | 0600, &ei), 0);
				assert_in_range(ei->vfs.ino, vol_es->first_ino, vol_es->inodes);
				for (u32 k = 0; k < n; k++)
					assert_int_not_equal(alive[k]->vfs.ino, ei->vfs.ino);
				alive[n++] = ei;
			} else if (n) {
				u32 k = rnd(n);

				vfs_iput(&alive[k]->vfs);
				alive[k] = alive[--n];
			}
			if (i % 500 == 0)
				assert_int_equal(free_inodes(), before - n);
		}
		while (n)
			vfs_iput(&alive[--n]->vfs);
		assert_int_equal(free_inodes(), before);
		vfs_iput(dir);
		vol_close();
		vol_fsck();
		vol_remove();
	}
}

/* Every number is given out once; then there is none; then all come back. */
static void test_exhausted(void **state)
{
	struct inode *dir;
	struct ext4_inode **all;
	u64 n, want;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum -b 1024 -N 2048", 32, NULL);
	vol_open();
	dir = root();
	want = free_inodes();
	all = calloc(want + 1, sizeof(*all));
	for (n = 0; n < want; n++)
		assert_int_equal(make(dir, S_IFIFO, &all[n]), 0);
	assert_int_equal(make(dir, S_IFIFO, &all[n]), -ENOSPC);
	assert_int_equal(make(dir, S_IFDIR, &all[n]), -ENOSPC);
	assert_int_equal(free_inodes(), 0);
	while (n)
		vfs_iput(&all[--n]->vfs);
	free(all);
	vfs_iput(dir);
	vol_close();
	vol_fsck();
}

/* Directories at the top go to all groups; files stay with their directory. */
static void test_spread(void **state)
{
	u32 least = UINT32_MAX, most = 0;
	struct ext4_handle h;
	struct inode *dir;
	u64 ino;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum,^flex_bg -b 1024", 64, NULL);
	vol_open();
	dir = root();
	assert_int_equal(vol_es->groups, 8);
	rw_write_lock(&dir->lock);
	for (u32 i = 0; i < 64; i++) {
		assert_int_equal(ext4_begin(vol_es, 16, 0, &h), 0);
		assert_int_equal(ext4_ino_take(&h, ext4_inode(dir), S_IFDIR, &ino), 0);
		assert_int_equal(ext4_end(&h, 0), 0);
	}
	for (u32 i = 0; i < vol_es->groups; i++) {
		least = MIN(least, vol_es->group[i].used_dirs);
		most = MAX(most, vol_es->group[i].used_dirs);
	}
	assert_true(most - least <= 2);
	for (u32 i = 0; i < 64; i++) {
		assert_int_equal(ext4_begin(vol_es, 16, 0, &h), 0);
		assert_int_equal(ext4_ino_take(&h, ext4_inode(dir), S_IFREG, &ino), 0);
		assert_int_equal(ext4_ino_group(vol_es, ino), 0);
		assert_int_equal(ext4_end(&h, 0), 0);
	}
	rw_write_unlock(&dir->lock);
	vfs_iput(dir);
	vol_close();
}

#define THREADS 4u

static void *worker(void *arg)
{
	struct ext4_inode *alive[40];
	u64 state = (uintptr_t)arg;
	u32 n = 0;

	for (u32 i = 0; i < 400; i++) {
		const struct new_inode what = { .mode = S_IFIFO | 0600 };
		struct ext4_handle h;
		struct inode *dir;
		char path[16];
		int err;

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		if (n == ARRAY_SIZE(alive) || (n && state >> 63)) {
			vfs_iput(&alive[--n]->vfs);
			continue;
		}
		snprintf(path, sizeof(path), "d%u", (u32)(state >> 40) % 3);
		if (vfs_path(&vol_es->vfs, NULL, path, false, &dir))
			return "no directory";
		err = ext4_begin(vol_es, EXT4_CREDITS_NEW_INODE, 2, &h);
		if (err)
			return "no handle";
		err = ext4_inode_create(&h, ext4_inode(dir), &what, &alive[n]);
		if (!err)
			inode_ready(&alive[n]->vfs, 0);
		err = ext4_end(&h, err);
		vfs_iput(dir);
		if (err)
			return "no inode";
		n++;
		/* The same few lists everywhere: blocks are shared, left and copied. */
		if (vfs_setxattr(&alive[n - 1]->vfs, "trusted.list", &"abc"[i % 3], 1, 0))
			return "no attribute";
		if (vfs_setxattr(&alive[state % n]->vfs, "trusted.list", &"abc"[state % 3], 1, 0))
			return "no other attribute";
	}
	while (n)
		vfs_iput(&alive[--n]->vfs);
	return NULL;
}

/* Several at once, in the same directories, with attributes in the same blocks. */
static void test_parallel(void **state)
{
	static const char *const args[] = {
		"-t ext4 -O ^has_journal,metadata_csum -b 1024 -I 128",
		"-t ext4 -O has_journal,metadata_csum -I 256",
	};

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(args); s++) {
		pthread_t thread[THREADS];

		vol_make(args[s], 64, "mkdir d0 d1 d2");
		vol_open();
		for (u32 i = 0; i < THREADS; i++)
			assert_int_equal(os_thread(&thread[i], "worker", worker, (void *)(uintptr_t)(i + 1)),
					 0);
		for (u32 i = 0; i < THREADS; i++) {
			void *wrong;

			pthread_join(thread[i], &wrong);
			if (wrong)
				print_message("thread %u: %s\n", i, (const char *)wrong);
			assert_null(wrong);
		}
		vol_close();
		vol_fsck();
		vol_remove();
	}
}

/* What the bitmap says already is not done again. */
static void test_free_twice(void **state)
{
	struct ext4_handle h;
	struct inode *dir;
	u64 ino;

	(void)state;
	vol_make(shapes[0], 64, NULL);
	vol_open();
	dir = root();
	assert_int_equal(ext4_begin(vol_es, 16, 0, &h), 0);
	assert_int_equal(ext4_ino_take(&h, ext4_inode(dir), S_IFREG, &ino), 0);
	assert_int_equal(ext4_ino_free(&h, ino, false), 0);
	assert_int_equal(ext4_ino_free(&h, ino, false), -EUCLEAN);
	assert_int_equal(ext4_end(&h, 0), 0);
	vfs_iput(dir);
	vol_close();
}

/* A bitmap that is wrong does not cost a file. */
static void test_wrong_bitmap(void **state)
{
	struct ext4_inode *ei;
	struct inode *dir, *inode;
	char buf[16];
	u64 done;

	(void)state;
	for (u32 s = 0; s < 2; s++) {
		vol_make(shapes[s], 64, "echo kept >kept");
		run("cd %s && debugfs -w -R 'freei kept' img 2>/dev/null", vol_dir);
		vol_open();
		dir = root();
		for (u32 i = 0; i < 10; i++) {
			assert_int_equal(make(dir, S_IFIFO, &ei), 0);
			vfs_iput(&ei->vfs);
		}
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, "kept", false, &inode), 0);
		assert_int_equal(vfs_read(inode, 0, buf, sizeof(buf), &done), 0);
		assert_int_equal(done, 5);
		assert_memory_equal(buf, "kept\n", 5);
		assert_int_not_equal(atomic_load(&vol_es->vfs.health.corrupt_count), 0);
		vfs_iput(inode);
		vfs_iput(dir);
		vol_close();
		run("cd %s && e2fsck -fy img >log; test $? -le 1 && debugfs -R 'cat kept' img 2>/dev/null | "
		    "grep -q kept",
		    vol_dir);
		vol_remove();
	}
}

static void make_some(struct inode *dir, u32 n)
{
	struct ext4_inode *ei;

	while (n--) {
		assert_int_equal(make(dir, S_IFIFO, &ei), 0);
		vfs_iput(&ei->vfs);
	}
}

/* A bitmap whose sum is wrong puts its group out of use, once; one that cannot be read is tried again. */
static void test_group_out(void **state)
{
	static u8 block[1024];
	u64 before, errors, off;
	struct ext4_inode *ei;
	struct inode *dir;

	(void)state;
	vol_make(shapes[0], 64, NULL);
	vol_dev_fault(false);
	vol_open();
	dir = root();
	before = free_inodes();
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, false);
	make_some(dir, 3);
	assert_int_equal(atomic_load(&vol_es->vfs.health.corrupt_count), 0);
	vfs_iput(dir);
	vfs_shrink(&vol_es->vfs);
	assert_int_equal(free_inodes(), before);
	vol_close();
	vol_fsck();

	vol_dev_fault(false);
	vol_open();
	off = vol_es->group[0].inode_bitmap * 1024;
	assert_int_equal(blkdev_read(vol_dev, off, block, sizeof(block)), 0);
	block[100] ^= 1;
	assert_int_equal(blkdev_write(vol_dev, off, block, sizeof(block), 0), 0);
	before = free_inodes();
	dir = root();
	make_some(dir, 1);
	errors = atomic_load(&vol_es->vfs.health.corrupt_count);
	assert_int_not_equal(errors, 0);
	vfs_shrink(&vol_es->vfs);
	assert_int_equal(free_inodes(), before - vol_es->group[0].free_inodes);
	make_some(dir, 3);
	assert_int_equal(atomic_load(&vol_es->vfs.health.corrupt_count), errors);
	vfs_iput(dir);
	vol_close();
	vol_remove();
	/* No group is left that can be asked: that is no full volume. */
	vol_make(shapes[4], 64, NULL);
	vol_dev_fault(false);
	vol_open();
	dir = root();
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, true);
	assert_int_equal(make(dir, S_IFIFO, &ei), -EIO);
	assert_non_null(strstr(err_text(), "no free inode but in groups"));
	dev_fault_nth(vol_dev, FAULT_READ, 0, 0, false);
	vfs_iput(dir);
	vol_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random, vol_clean),
		cmocka_unit_test_teardown(test_exhausted, vol_clean),
		cmocka_unit_test_teardown(test_spread, vol_clean),
		cmocka_unit_test_teardown(test_parallel, vol_clean),
		cmocka_unit_test_teardown(test_free_twice, vol_clean),
		cmocka_unit_test_teardown(test_wrong_bitmap, vol_clean),
		cmocka_unit_test_teardown(test_group_out, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
