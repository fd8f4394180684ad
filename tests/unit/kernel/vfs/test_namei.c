/* Names from several threads at once: what POSIX promises per call holds, counts come out right, nothing deadlocks. */
#include "memmount.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct super_block *sb;

static struct inode *root_inode(void)
{
	struct inode *root;

	assert_int_equal(vfs_path(sb, NULL, "/", true, &root), 0);
	return root;
}

static struct inode *make(struct inode *dir, const char *name, u32 mode)
{
	struct inode *inode;

	assert_int_equal(vfs_create(dir, &NAME(name), mode, 0, 0, NULL, &test_cred, &inode), 0);
	return inode;
}

static void loops_are_refused(void **state)
{
	struct inode *root, *a, *b, *c, *d;

	(void)state;
	sb = mount_mem(1 << 20);
	root = root_inode();
	a = make(root, "a", S_IFDIR | 0755);
	b = make(a, "b", S_IFDIR | 0755);
	c = make(b, "c", S_IFDIR | 0755);
	d = make(root, "d", S_IFDIR | 0755);
	assert_int_equal(vfs_rename(root, &NAME("a"), c, &NAME("x"), 0), -EINVAL);
	assert_int_equal(vfs_rename(root, &NAME("a"), a, &NAME("x"), 0), -EINVAL);
	assert_int_equal(vfs_rename(b, &NAME("c"), root, &NAME("a"), 0), -ENOTEMPTY);
	assert_int_equal(vfs_rename(b, &NAME("c"), a, &NAME("b"), 0), -ENOTEMPTY);
	assert_int_equal(vfs_rename(b, &NAME("c"), root, &NAME("a"), 2), -EINVAL);
	assert_int_equal(vfs_rename(a, &NAME("b"), d, &NAME("b"), 0), 0);
	assert_int_equal(vfs_rename(root, &NAME("a"), c, &NAME("x"), 0), 0);
	assert_int_equal(root->nlink, 3);
	assert_int_equal(vfs_rmdir(d, &NAME("b")), -ENOTEMPTY);
	vfs_iput(a);
	vfs_iput(b);
	vfs_iput(c);
	vfs_iput(d);
	vfs_iput(root);
	assert_int_equal(vfs_unmount(sb), 0);
}

static struct inode *watched;
static u32 evictions;
static const struct super_ops *real_ops;

static int evict_looks(struct inode *inode)
{
	evictions++;
	assert_true(rw_read_trylock(&watched->lock));
	rw_read_unlock(&watched->lock);
	return real_ops->evict_inode(inode);
}

/* Freeing a large file takes its time: the directory that lost it is open to others meanwhile. */
static void freeing_holds_no_directory(void **state)
{
	struct super_ops ops;

	(void)state;
	sb = mount_mem(1 << 20);
	real_ops = sb->ops;
	ops = *real_ops;
	ops.evict_inode = evict_looks;
	watched = root_inode();
	evictions = 0;
	vfs_iput(make(watched, "f", S_IFREG | 0644));
	vfs_iput(make(watched, "g", S_IFREG | 0644));
	vfs_iput(make(watched, "h", S_IFREG | 0644));
	vfs_iput(make(watched, "d", S_IFDIR | 0755));
	sb->ops = &ops;
	assert_int_equal(vfs_unlink(watched, &NAME("f")), 0);
	assert_int_equal(vfs_rmdir(watched, &NAME("d")), 0);
	assert_int_equal(vfs_rename(watched, &NAME("g"), watched, &NAME("h"), 0), 0);
	assert_int_equal(evictions, 3);
	sb->ops = real_ops;
	vfs_iput(watched);
	assert_int_equal(vfs_unmount(sb), 0);
}

#define THREADS 4
#define DIRS    6
#define ROUNDS  4000

static struct inode *dirs[DIRS];

static void *shuffle(void *arg)
{
	u64 s = (uintptr_t)arg * 7919 + 1;

	for (int i = 0; i < ROUNDS; i++) {
		struct inode *d1, *d2, *got;
		char n1[16], n2[16];
		int err;

		s = s * 6364136223846793005ull + 1442695040888963407ull;
		d1 = dirs[(s >> 33) % DIRS];
		d2 = dirs[(s >> 37) % DIRS];
		snprintf(n1, sizeof(n1), "%u", (u32)(s >> 40) % 8);
		snprintf(n2, sizeof(n2), "%u", (u32)(s >> 44) % 8);
		switch ((s >> 50) % 7) {
		case 0:
			err = vfs_create(d1, &NAME(n1), S_IFREG | 0644, 0, 0, NULL, &test_cred, &got);
			break;
		case 1:
			err = vfs_create(d1, &NAME(n1), S_IFDIR | 0755, 0, 0, NULL, &test_cred, &got);
			break;
		case 2:
			err = vfs_rename(d1, &NAME(n1), d2, &NAME(n2), 0);
			break;
		case 3:
			err = vfs_rename(d1, &NAME(n1), d2, &NAME(n2), 2);
			break;
		case 4:
			err = vfs_unlink(d1, &NAME(n1));
			break;
		case 5:
			err = vfs_rmdir(d1, &NAME(n1));
			break;
		default:
			err = vfs_lookup(d1, &NAME(n1), &got);
			if (!err && !is_dir(got) && vfs_link(got, d2, &NAME(n2)) == -EUCLEAN)
				err = -EUCLEAN;
		}
		if (err == -EUCLEAN || err == -EIO)
			return (void *)1;
		if (!err && ((s >> 50) % 7 < 2 || (s >> 50) % 7 == 6))
			vfs_iput(got);
	}
	return NULL;
}

struct count {
	u32 subdirs, names;
};

static int count_links(void *ctx, const struct walk_entry *e)
{
	u32 *seen = ctx;

	assert_int_equal(e->err, 0);
	if (!is_dir(e->inode))
		seen[e->inode->ino % 65536]++;
	return 0;
}

static int check_links(void *ctx, const struct walk_entry *e)
{
	u32 *seen = ctx;

	if (!is_dir(e->inode))
		assert_int_equal(e->inode->nlink, seen[e->inode->ino % 65536]);
	return 0;
}

static void many_threads(void **state)
{
	u32 *seen = calloc(65536, sizeof(*seen));
	pthread_t t[THREADS];
	struct inode *root;

	(void)state;
	assert_non_null(seen);
	sb = mount_mem(256u << 20);
	root = root_inode();
	/* Two deep, so that one is the other's ancestor. */
	for (u32 i = 0; i < DIRS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "dir%u", i);
		dirs[i] = make(i % 2 ? dirs[i - 1] : root, name, S_IFDIR | 0755);
	}
	for (u32 i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, shuffle, (void *)(uintptr_t)i), 0);
	for (u32 i = 0; i < THREADS; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(vfs_walk(root, count_links, seen), 0);
	assert_int_equal(vfs_walk(root, check_links, seen), 0);
	for (u32 i = 0; i < DIRS; i++)
		vfs_iput(dirs[i]);
	vfs_iput(root);
	assert_int_equal(vfs_unmount(sb), 0);
	free(seen);
}

static void symlink_limits(void **state)
{
	struct inode *root, *got;
	struct name target = NAME("b");

	(void)state;
	sb = mount_mem(1 << 20);
	root = root_inode();
	assert_int_equal(vfs_create(root, &NAME("a"), S_IFLNK | 0777, 0, 0, &target, &test_cred, &got), 0);
	vfs_iput(got);
	target = NAME("a");
	assert_int_equal(vfs_create(root, &NAME("b"), S_IFLNK | 0777, 0, 0, &target, &test_cred, &got), 0);
	vfs_iput(got);
	assert_int_equal(vfs_path(sb, NULL, "/a", true, &got), -ELOOP);
	assert_int_equal(vfs_path(sb, NULL, "/a", false, &got), 0);
	vfs_iput(got);
	assert_int_equal(vfs_path(sb, NULL, "/../..", true, &got), 0);
	assert_ptr_equal(got, root);
	vfs_iput(got);
	assert_int_equal(vfs_path(sb, NULL, "/nothing/x", true, &got), -ENOENT);
	vfs_iput(root);
	assert_int_equal(vfs_unmount(sb), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(loops_are_refused),
					    cmocka_unit_test(freeing_holds_no_directory),
					    cmocka_unit_test(symlink_limits),
					    cmocka_unit_test(many_threads) };

	return cmocka_run_group_tests_name("vfs/namei", tests, NULL, NULL);
}
