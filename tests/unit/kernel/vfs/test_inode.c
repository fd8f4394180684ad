/* The inode cache on a toy module: one read per inode, bounded idleness, failed reads, eviction when the last user goes. */
#include "vfs/vfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#undef fail /* ours, in lib/err.h */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic u32 alive, reads, evicted;
static _Atomic bool fail_reads;

static struct inode *toy_alloc(struct super_block *sb)
{
	(void)sb;
	alive++;
	return calloc(1, sizeof(struct inode));
}

static void toy_free(struct inode *inode)
{
	alive--;
	free(inode);
}

static int toy_read(struct inode *inode)
{
	static const struct inode_ops none = { 0 };

	reads++;
	usleep(100);
	if (fail_reads)
		return -EIO;
	inode->ops = &none;
	inode->mode = S_IFREG | 0644;
	inode->nlink = 1;
	return 0;
}

static int toy_evict(struct inode *inode)
{
	(void)inode;
	evicted++;
	return 0;
}

static void toy_put(struct super_block *sb)
{
	super_fini(sb);
}

static const struct super_ops toy_ops = { .alloc_inode = toy_alloc,
					  .free_inode = toy_free,
					  .read_inode = toy_read,
					  .evict_inode = toy_evict,
					  .put_super = toy_put };
static const struct fs_type toy_type = { .name = "toy" };
static struct super_block sb;

static int setup(void **state)
{
	(void)state;
	sb = (struct super_block){ 0 };
	reads = evicted = 0;
	return super_init(&sb, &toy_type, &toy_ops, "toy", &(struct mount_opts){ 0 });
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(vfs_unmount(&sb), 0);
	assert_int_equal(alive, 0);
	return 0;
}

static void *get_all(void *arg)
{
	(void)arg;
	for (u64 ino = 1; ino <= 200; ino++) {
		struct inode *inode;

		if (vfs_iget(&sb, ino, &inode))
			return (void *)1;
		vfs_iput(inode);
	}
	return NULL;
}

static void one_read_each(void **state)
{
	pthread_t t[4];
	void *bad;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, get_all, NULL), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(reads, 200);
}

static void idle_ones_are_bounded(void **state)
{
	(void)state;
	for (u64 ino = 1; ino <= 12000; ino++) {
		struct inode *inode;

		assert_int_equal(vfs_iget(&sb, ino, &inode), 0);
		vfs_iput(inode);
	}
	assert_in_range(alive, 4096, 8192);
	vfs_shrink(&sb);
	assert_int_equal(alive, 0);
}

static void failed_read_leaves_nothing(void **state)
{
	struct inode *inode;

	(void)state;
	fail_reads = true;
	assert_int_equal(vfs_iget(&sb, 5, &inode), -EIO);
	assert_int_equal(alive, 0);
	fail_reads = false;
	assert_int_equal(vfs_iget(&sb, 5, &inode), 0);
	vfs_iput(inode);
}

static void unlinked_goes_with_its_last_user(void **state)
{
	struct inode *inode;

	(void)state;
	assert_int_equal(vfs_iget(&sb, 5, &inode), 0);
	vfs_igrab(inode);
	inode->nlink = 0;
	vfs_iput(inode);
	assert_int_equal(evicted, 0);
	vfs_iput(inode);
	assert_int_equal(evicted, 1);
	assert_int_equal(alive, 0);
}

static void number_in_use_is_refused(void **state)
{
	struct inode *inode, *other;

	(void)state;
	assert_int_equal(vfs_iget(&sb, 5, &inode), 0);
	assert_int_equal(inode_new(&sb, 5, &other), -EUCLEAN);
	vfs_iput(inode);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(one_read_each), T(idle_ones_are_bounded),
					    T(failed_read_leaves_nothing),
					    T(unlinked_goes_with_its_last_user),
					    T(number_in_use_is_refused) };

	return cmocka_run_group_tests_name("vfs/inode", tests, NULL, NULL);
}
