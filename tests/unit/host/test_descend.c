/*
 * A tree by chance on memfs: gone through with some files that stay, what is left is those and the directories above them; every file is
 * entered once, parents before what is in them.
 */
#include "descend.h"
#include "fs.h"
#include "lib/scope.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES 4000u

static struct super_block *sb;
static struct {
	u32 parent; /* [0] is the root */
	bool is_dir, stays, holds;
	u32 entered, left, ino;
} file[FILES];
static u32 depth_max, errors;

static void setup_volume(void)
{
	const struct mount_opts opts = { 0 };
	struct blkdev *dev;

	assert_int_equal(dev_mem_new("mem", 64 << 20, 1, &dev), 0);
	assert_int_equal(fs_find("memfs")->mount(&dev, 1, &opts, &sb), 0);
	blkdev_put(dev);
}

/* A tree: wide, or so deep that its upper directories are listed again. */
static void make(u32 deep_percent)
{
	const struct cred cred = { 0 };
	u32 depth[FILES] = { 0 }, last_dir = 0;

	memset(file, 0, sizeof(file));
	depth_max = errors = 0;
	file[0].is_dir = true;
	file[0].ino = (u32)sb->root_ino;
	for (u32 i = 1; i < FILES; i++) {
		u32 parent = (u32)rand() % 100 < deep_percent ? last_dir : (u32)rand() % i;
		struct inode *dir, *inode;
		char text[16];
		struct name name;

		while (!file[parent].is_dir)
			parent = file[parent].parent;
		file[i].parent = parent;
		file[i].is_dir = rand() % 3 == 0;
		file[i].stays = rand() % 200 == 0;
		depth[i] = depth[parent] + 1;
		depth_max = MAX(depth_max, depth[i]);
		snprintf(text, sizeof(text), "f%u", i);
		name = NAME(text);
		assert_int_equal(vfs_iget(sb, file[parent].ino, &dir), 0);
		assert_int_equal(vfs_create(dir, &name, (file[i].is_dir ? S_IFDIR : S_IFREG) | 0700, 0, 0,
					    NULL, &cred, &inode),
				 0);
		file[i].ino = (u32)inode->ino;
		vfs_iput(inode);
		vfs_iput(dir);
		if (file[i].is_dir)
			last_dir = i;
	}
	for (u32 i = FILES; --i;) {
		file[i].holds |= file[i].stays;
		file[file[i].parent].holds |= file[i].holds;
	}
}

static u32 number_of(const struct visit *v)
{
	char text[16] = "";

	assert_in_range(v->name.len, 2, sizeof(text) - 1);
	memcpy(text, v->name.s, v->name.len);
	return (u32)atoi(text + 1);
}

static int enter(void *ctx, const struct visit *v)
{
	u32 i = v->dir ? number_of(v) : 0;

	assert_int_equal(v->inode->ino, file[i].ino);
	assert_int_equal(is_dir(v->inode), file[i].is_dir);
	file[i].entered++;
	assert_true(!i || file[file[i].parent].entered);
	if (v->dir)
		assert_int_equal(v->dir->ino, file[file[i].parent].ino);
	if (file[i].stays && (!file[i].is_dir || !ctx))
		return -EPERM;
	return file[i].is_dir || !ctx ? 0 : vfs_unlink(v->dir, &v->name);
}

static int leave(void *ctx, const struct visit *v)
{
	u32 i = v->dir ? number_of(v) : 0;

	(void)ctx;
	assert_null(v->inode);
	file[i].left++;
	return file[i].stays ? -EPERM : vfs_rmdir(v->dir, &v->name);
}

static void failed(void *ctx, int err, const char *path)
{
	const char *last = strrchr(path, '/');

	(void)ctx;
	assert_int_equal(err, -EPERM);
	assert_true(file[last[1] ? atoi(last + 2) : 0].stays);
	errors++;
}

static void run(bool removes)
{
	const struct visitor v = { enter, removes ? leave : NULL, failed, removes ? &sb : NULL };
	scoped(vfs_iputp) struct inode *root = NULL;

	assert_int_equal(vfs_iget(sb, sb->root_ino, &root), 0);
	descend(&(struct visit){ .inode = root }, "/", &v);
}

static void removed(void **state)
{
	(void)state;
	for (u32 turn = 0; turn < 6; turn++) {
		u32 want = 0;

		setup_volume();
		make(turn % 2 ? 98 : 0);
		print_message("%u levels\n", depth_max);
		/* The root stays. */
		file[0].stays = file[0].holds = true;
		run(true);
		for (u32 i = 1; i < FILES; i++) {
			struct inode *inode;
			int err = vfs_iget(sb, file[i].ino, &inode);

			assert_int_equal(file[i].entered, 1);
			assert_int_equal(err, file[i].holds ? 0 : -ESTALE);
			if (!err)
				vfs_iput(inode);
			/* Of those that stay a directory is asked only when nothing below it did. */
			want += file[i].stays && (!file[i].is_dir || file[i].left);
		}
		assert_int_equal(errors, want);
		assert_int_equal(vfs_unmount(sb), 0);
	}
}

/* What cannot be entered hides what is in it, and nothing else. */
static void looked_at(void **state)
{
	(void)state;
	for (u32 turn = 0; turn < 4; turn++) {
		setup_volume();
		make(turn % 2 ? 98 : 0);
		run(false);
		for (u32 i = 1; i < FILES; i++) {
			bool hidden = false;

			for (u32 up = file[i].parent; up; up = file[up].parent)
				hidden |= file[up].stays;
			assert_int_equal(file[i].entered, !hidden);
		}
		assert_int_equal(vfs_unmount(sb), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(removed), cmocka_unit_test(looked_at) };
	const char *given = getenv("SEED");
	unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)getpid();

	print_message("seed %u\n", seed);
	srand(seed);
	return cmocka_run_group_tests_name("host/descend", tests, NULL, NULL);
}
