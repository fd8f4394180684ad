/*
 * Values in inodes of their own (ea_inode): set, shared, replaced and removed at random against a model, by us and by the kernel in turns; the
 * inodes go with the files that had them. e2fsck counts the references.
 */
#include "volume.h"

#include <errno.h>
#include <sys/xattr.h>

#define FILES     10u
#define NAMES     12u
#define VALUES    9u /* that are used again and again */
#define VALUE_MAX 65536u

static const u32 value_len[VALUES] = { 1, 60, 800, 1500, 4000, 4096, 9000, 30000, VALUE_MAX };
static u8 *value[VALUES];

/* What file i has as attribute n: a value, or -1. */
static int model[FILES][NAMES];

static const char *const shapes[] = {
	"-t ext4 -O has_journal,extent,metadata_csum,64bit,ea_inode,orphan_file -I 256 -b 4096 -J size=4",
	"-t ext4 -O has_journal,extent,metadata_csum,ea_inode,^orphan_file -I 256 -b 1024 -g 2048 -J size=1",
	"-t ext4 -O ^has_journal,extent,^metadata_csum,uninit_bg,ea_inode -I 128 -b 1024",
	"-t ext4 -O has_journal,extent,metadata_csum,ea_inode,inline_data -I 1024 -b 2048 -J size=2",
	"-t ext4 -O has_journal,^extent,^64bit,^metadata_csum,ea_inode -I 256 -b 1024 -J size=1",
};

static void make_values(void)
{
	for (u32 i = 0; i < VALUES; i++) {
		value[i] = malloc(value_len[i]);
		for (u32 k = 0; k < value_len[i]; k++)
			value[i][k] = (u8)rnd(256);
	}
}

static void free_values(void)
{
	for (u32 i = 0; i < VALUES; i++)
		free(value[i]);
}

static const char *name_of(u32 n)
{
	static char s[200];

	snprintf(s, sizeof(s), "%s%u-%.*s", n % 2 ? "user." : "trusted.", n, (int)(n * n % 90),
		 "a name that takes some of the room that the entries of attributes have, and then a little "
		 "more of it");
	return s;
}

static const char *path_of(u32 i, bool kernel)
{
	static char s[128];

	snprintf(s, sizeof(s), kernel ? "%s/mnt/f%u" : "%.0sf%u", vol_dir, i);
	return s;
}

static struct inode *file_of(u32 i)
{
	struct inode *inode;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, path_of(i, false), false, &inode), 0);
	return inode;
}

static int set(u32 i, u32 n, u32 v, bool kernel)
{
	struct inode *inode;
	int err;

	if (kernel)
		return setxattr(path_of(i, true), name_of(n), value[v], value_len[v], 0) ? -errno : 0;
	inode = file_of(i);
	err = vfs_setxattr(inode, name_of(n), value[v], value_len[v], 0);
	vfs_iput(inode);
	return err;
}

static int removed(u32 i, u32 n, bool kernel)
{
	struct inode *inode;
	int err;

	if (kernel)
		return removexattr(path_of(i, true), name_of(n)) ? -errno : 0;
	inode = file_of(i);
	err = vfs_removexattr(inode, name_of(n));
	vfs_iput(inode);
	return err;
}

static void gone(const char *path)
{
	struct inode *dir;
	struct name last;

	assert_int_equal(vfs_path_parent(&vol_es->vfs, NULL, path, &dir, &last), 0);
	assert_int_equal(vfs_unlink(dir, &last), 0);
	vfs_iput(dir);
}

/* The file goes, with all that it has, and comes again. */
static void renew(u32 i, bool kernel)
{
	static const struct cred root = { 0 };
	struct inode *dir, *inode;
	struct name last;

	for (u32 n = 0; n < NAMES; n++)
		model[i][n] = -1;
	if (kernel) {
		assert_int_equal(unlink(path_of(i, true)), 0);
		run("echo >%s", path_of(i, true));
		return;
	}
	gone(path_of(i, false));
	assert_int_equal(vfs_path_parent(&vol_es->vfs, NULL, path_of(i, false), &dir, &last), 0);
	assert_int_equal(vfs_create(dir, &last, S_IFREG | 0644, 0, 0, NULL, &root, &inode), 0);
	vfs_iput(dir);
	vfs_iput(inode);
}

static void step(bool kernel)
{
	u32 i = rnd(FILES), n = rnd(NAMES), v = rnd(VALUES), what = rnd(40);
	int err;

	if (!what) {
		renew(i, kernel);
	} else if (what < 12) {
		err = removed(i, n, kernel);
		assert_int_equal(err, model[i][n] < 0 ? -ENODATA : 0);
		model[i][n] = -1;
	} else {
		err = set(i, n, v, kernel);
		if (err != -ENOSPC)
			assert_int_equal(err, 0);
		if (!err)
			model[i][n] = (int)v;
	}
}

static void assert_all(bool kernel)
{
	u8 *buf = malloc(VALUE_MAX);

	for (u32 i = 0; i < FILES; i++)
		for (u32 n = 0; n < NAMES; n++) {
			ssize_t got;
			u32 len = 0;

			if (kernel) {
				got = getxattr(path_of(i, true), name_of(n), buf, VALUE_MAX);
				got = got < 0 ? -errno : got;
			} else {
				struct inode *inode = file_of(i);

				got = vfs_getxattr(inode, name_of(n), buf, VALUE_MAX, &len);
				got = got ? got : (ssize_t)len;
				vfs_iput(inode);
			}
			if (model[i][n] < 0) {
				assert_int_equal(got, -ENODATA);
				continue;
			}
			assert_int_equal(got, value_len[model[i][n]]);
			assert_memory_equal(buf, value[model[i][n]], (size_t)got);
		}
	free(buf);
}

static void turn(bool kernel, u32 steps)
{
	if (kernel)
		vol_kernel("img", "rw");
	else
		vol_open();
	assert_all(kernel);
	for (u32 i = 0; i < steps; i++)
		step(kernel);
	assert_all(kernel);
	if (kernel) {
		vol_kernel_end();
		/* The kernel (6.18) counts a value too high when an attribute finds no room. */
		run("e2fsck -fy %s/img >%s/log 2>&1; test $? -le 1 && ! grep -v 'ref count is' %s/log | grep "
		    "'Fix?'",
		    vol_dir, vol_dir, vol_dir);
	} else {
		vol_close();
	}
	vol_fsck();
}

static void test_random(void **state)
{
	(void)state;
	rnd_seed();
	make_values();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		memset(model, 0xff, sizeof(model));
		vol_make(shapes[s], 32, "for i in $(seq 0 9); do echo $i >f$i; done");
		for (u32 round = 0; round < 6; round++)
			turn(round % 2 && vol_kernel_can() && !strstr(shapes[s], "inline"), 400);
		vol_remove();
	}
	free_values();
}

static u64 free_blocks(void)
{
	struct kstatfs st = { 0 };

	assert_int_equal(vfs_statfs(&vol_es->vfs, &st), 0);
	return st.blocks_free;
}

/* One value on every file takes its blocks once, and each file counts them; the last one to go gives them back. */
static void test_shared(void **state)
{
	u64 before, blocks = VALUE_MAX / 4096;

	(void)state;
	make_values();
	vol_make(shapes[0], 32, "for i in $(seq 0 9); do echo $i >f$i; done");
	vol_open();
	before = free_blocks();
	for (u32 i = 0; i < FILES; i++)
		assert_int_equal(set(i, 1, VALUES - 1, false), 0);
	assert_int_equal(free_blocks(), before - blocks);
	for (u32 i = 0; i < FILES; i++) {
		struct inode *inode = file_of(i);

		assert_int_equal(inode->blocks_512, 8 + 8 * blocks);
		vfs_iput(inode);
		assert_int_equal(removed(i, 1, false), 0);
		inode = file_of(i);
		assert_int_equal(inode->blocks_512, 8);
		vfs_iput(inode);
	}
	assert_int_equal(vfs_sync(&vol_es->vfs), 0);
	assert_int_equal(free_blocks(), before);
	vol_close();
	vol_fsck();
	free_values();
}

/* An inode with more values than one handle lets go. */
static void test_many(void **state)
{
	struct inode *inode;
	char name[40];
	u64 before;
	u32 n = 0;
	int err;

	(void)state;
	make_values();
	vol_make("-t ext4 -O has_journal,metadata_csum,ea_inode -I 1024 -b 4096 -J size=4 -N 1024", 64,
		 "echo >f0");
	vol_open();
	before = free_blocks();
	inode = file_of(0);
	do {
		snprintf(name, sizeof(name), "user.%u", n);
		memcpy(value[6], &n, sizeof(n));
		err = vfs_setxattr(inode, name, value[6], value_len[6], 0);
	} while (!err && ++n);
	assert_int_equal(err, -ENOSPC);
	assert_true(n > 150);
	vfs_iput(inode);
	gone("f0");
	assert_int_equal(vfs_sync(&vol_es->vfs), 0);
	assert_int_equal(free_blocks(), before + 1);
	vol_close();
	vol_fsck();
	free_values();
}

/* All but some 300 KiB. */
static void fill_up(void)
{
	static u8 zeros[65536];
	struct inode *inode;
	u64 done, at = 0;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "fill", false, &inode), 0);
	while (!vfs_write(inode, at, zeros, sizeof(zeros), 0, &done) && done)
		at += done;
	vfs_iput(inode);
	gone("room");
	assert_int_equal(vfs_sync(&vol_es->vfs), 0);
}

/* A full disk: who gets no room for a value is told so, and keeps what he had. */
static void test_full(void **state)
{
	(void)state;
	make_values();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		u32 got = 0;

		memset(model, 0xff, sizeof(model));
		vol_make(shapes[s], 16,
			 "for i in $(seq 0 9); do echo $i >f$i; done; : >fill; head -c 300000 /dev/urandom "
			 ">room");
		vol_open();
		fill_up();
		for (u32 k = 0; k < 600; k++) {
			u32 i = rnd(FILES), n = rnd(NAMES), v = 3 + rnd(VALUES - 3);
			int err;

			if (k % 3 == 0) {
				assert_int_equal(removed(i, n, false), model[i][n] == -1 ? -ENODATA : 0);
				model[i][n] = -1;
			}
			value[v][0]++;
			for (u32 f = 0; f < FILES; f++)
				for (u32 a = 0; a < NAMES; a++)
					if (model[f][a] == (int)v)
						model[f][a] = -2; /* it has the value as it was */
			err = set(i, n, v, false);
			if (!err)
				model[i][n] = (int)v;
			else
				assert_int_equal(err, -ENOSPC);
			got += !err;
		}
		assert_in_range(got, 20, 590);
		for (u32 f = 0; f < FILES; f++)
			for (u32 a = 0; a < NAMES; a++)
				if (model[f][a] == -2) {
					assert_int_equal(removed(f, a, false), 0);
					model[f][a] = -1;
				}
		assert_all(false);
		vol_close();
		vol_fsck();
		vol_remove();
	}
	free_values();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random, vol_clean),
		cmocka_unit_test_teardown(test_shared, vol_clean),
		cmocka_unit_test_teardown(test_many, vol_clean),
		cmocka_unit_test_teardown(test_full, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
