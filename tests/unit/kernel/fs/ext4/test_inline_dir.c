/*
 * Directories inside their inode that grow: names come and go at random, in the first region, in the second, which comes when it is needed, and
 * in the block that follows; subdirectories move in and out. e2fsck, and the kernel, which lists them, agree.
 */
#include "volume.h"

#include <errno.h>

#define DIRS  6u
#define NAMES 40u

static const struct cred root = { 0 };

static const char *const shapes[] = {
	"-t ext4 -O inline_data,metadata_csum -I 256 -b 4096",
	"-t ext4 -O inline_data,^has_journal,metadata_csum -I 512 -b 1024",
	"-t ext4 -O inline_data,casefold,ea_inode,large_dir -I 1024 -b 1024",
	"-t ext4 -O inline_data,^metadata_csum,uninit_bg,^has_journal -I 256 -b 2048",
};

static bool model[DIRS][NAMES]; /* name 0 is a subdirectory */
static bool used[2], left;      /* regions that had names; a directory became a block */

static struct inode *dir_of(u32 i)
{
	char path[16];
	struct inode *dir;

	snprintf(path, sizeof(path), "d%u", i);
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &dir), 0);
	return dir;
}

static struct name name_of(u32 n, char buf[64])
{
	return (struct name){ buf, (u32)snprintf(buf, 64, "%.*s%u", (int)(n * 3 % 20), "abcdefghijklmnopqrst",
						 n) };
}

static void look(const struct inode *dir)
{
	const struct ext4_inode *ei = container_of(dir, const struct ext4_inode, vfs);

	if (!(ei->flags & EXT4_FL_INLINE_DATA))
		left = true;
	else
		used[ext4_size(ei) > EXT4_IBLOCK_BYTES] = true;
}

static void step(u32 most)
{
	u32 i = rnd(DIRS), n = rnd(most), k = rnd(DIRS);
	struct inode *dir = dir_of(i), *other = dir_of(k), *inode;
	char buf[64];
	struct name name = name_of(n, buf);
	int err;

	if (model[i][n] && rnd(3)) {
		err = n ? vfs_unlink(dir, &name) : vfs_rmdir(dir, &name);
		assert_int_equal(err, 0);
		model[i][n] = false;
	} else if (model[i][n]) {
		err = vfs_rename(dir, &name, other, &name, 0);
		assert_int_equal(err, 0);
		model[i][n] = false;
		model[k][n] = true;
	} else {
		err = vfs_create(dir, &name, n ? S_IFREG | 0644 : S_IFDIR | 0755, 0, 0, NULL, &root, &inode);
		assert_int_equal(err, 0);
		model[i][n] = true;
		vfs_iput(inode);
	}
	look(dir);
	look(other);
	vfs_iput(dir);
	vfs_iput(other);
}

static int count_one(void *ctx, const struct dirent_out *e)
{
	u32 *n = ctx;

	(void)e;
	++*n;
	return 0;
}

static void assert_all(void)
{
	for (u32 i = 0; i < DIRS; i++) {
		struct inode *dir = dir_of(i), *inode;
		u32 want = 2, listed = 0;
		char buf[64];

		for (u32 n = 0; n < NAMES; n++) {
			struct name name = name_of(n, buf);
			int err = vfs_lookup(dir, &name, &inode);

			assert_int_equal(err, model[i][n] ? 0 : -ENOENT);
			want += model[i][n];
			if (!err)
				vfs_iput(inode);
		}
		assert_int_equal(vfs_readdir(dir, 0, count_one, &listed), 0);
		assert_int_equal(listed, want);
		assert_int_equal(dir->nlink, 2 + model[i][0]);
		vfs_iput(dir);
	}
}

static void assert_kernel(const char *args)
{
	if (!vol_kernel_can() || strstr(args, "casefold"))
		return;
	vol_kernel("img", "ro");
	for (u32 i = 0; i < DIRS; i++) {
		u32 want = 0;

		for (u32 n = 0; n < NAMES; n++)
			want += model[i][n];
		run("test $(ls %s/mnt/d%u | wc -l) = %u && test $(stat -c %%i %s/mnt/d%u/..) = 2", vol_dir, i,
		    want, vol_dir, i);
	}
	vol_kernel_end();
}

static void grows(void **state)
{
	(void)state;
	rnd_seed();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		memset(model, 0, sizeof(model));
		left = used[0] = used[1] = false;
		vol_make(shapes[s], 16, "mkdir d0 d1 d2 d3 d4 d5");
		/* More and more names, so that each kind of place is used for a while. */
		for (u32 most = 4; most <= NAMES; most += 4) {
			vol_open();
			assert_all();
			for (u32 i = 0; i < 120; i++)
				step(most);
			assert_all();
			vol_close();
			vol_fsck();
			assert_kernel(shapes[s]);
		}
		assert_true(used[0]);
		assert_true(used[1]);
		assert_true(left || strstr(shapes[s], "1024 -b"));
		vol_remove();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(grows, vol_clean) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
