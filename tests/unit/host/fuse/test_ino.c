/* The table of nodes: numbers, counts against a model, memory, files without names, wrong generations, threads. */
#include "fuse/ino.h"
#include "../../kernel/vfs/memmount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A table whose inodes are only numbers: nothing that reads them may be called. */
static struct super_block numbers = { .root_ino = 2 };

static void remember(struct nodes *t, u64 ino)
{
	struct inode inode = { .ino = ino, .nlink = 1, .generation = 7 };

	mutex_init(&inode.attr, RANK_LEAF);

	assert_int_equal(node_remember(t, &inode), 0);
	mutex_fini(&inode.attr);
}

static void root_changes_places(void **state)
{
	struct nodes *t;

	(void)state;
	assert_int_equal(nodes_new(&numbers, &t), 0);
	assert_int_equal(node_id(t, 2), 1);
	assert_int_equal(node_id(t, 1), 2);
	for (u64 i = 3; i < 100; i++)
		assert_int_equal(node_id(t, i), i);
	for (u64 i = 0; i < 100; i++)
		assert_int_equal(node_id(t, node_id(t, i)), i);
	remember(t, 2);
	assert_int_equal(nodes_count(t), 0);
	remember(t, 1);
	assert_int_equal(nodes_count(t), 1);
	node_forget(t, 2, 1);
	assert_int_equal(nodes_count(t), 0);
	nodes_free(t);
}

static void counts_follow_a_model(void **state)
{
	enum { INOS = 3000, STEPS = 200000 };
	static u32 model[INOS];
	const char *env = getenv("SEED");
	unsigned seed = env ? (unsigned)atoi(env) : (unsigned)os_monotonic_ns();
	u64 alive = 0;
	struct nodes *t;

	(void)state;
	printf("# seed %u\n", seed);
	srandom(seed);
	assert_int_equal(nodes_new(&numbers, &t), 0);
	for (u32 i = 0; i < STEPS; i++) {
		/* Waves, so that the table grows and shrinks. */
		bool grow = random() % 100 < (i / 20000 % 2 ? 20 : 70);
		u32 k = 3 + (u32)random() % (INOS - 3);

		if (grow) {
			alive += !model[k]++;
			remember(t, (u64)k << 20);
		} else if (model[k]) {
			u32 n = 1 + (u32)random() % model[k];

			node_forget(t, (u64)k << 20, n);
			model[k] -= n;
			alive -= !model[k];
		}
		if (i % 1000 == 0)
			assert_int_equal(nodes_count(t), alive);
	}
	for (u32 k = 0; k < INOS; k++) {
		if (!model[k])
			continue;
		node_forget(t, (u64)k << 20, model[k] - 1);
		assert_int_equal(nodes_count(t), alive);
		node_forget(t, (u64)k << 20, 1);
		assert_int_equal(nodes_count(t), --alive);
		node_forget(t, (u64)k << 20, 1);
	}
	nodes_free(t);
}

static void a_million_fit(void **state)
{
	struct nodes *t;

	(void)state;
	assert_int_equal(nodes_new(&numbers, &t), 0);
	for (u64 i = 0; i < 1000000; i++) {
		remember(t, 11 + i);
		/* One shard's old array beside the new one while it grows: less than a sixteenth more. */
		if (i % 997 == 0 && i > 100000)
			assert_true(nodes_bytes(t) <= i * 29);
	}
	assert_int_equal(nodes_count(t), 1000000);
	assert_true(nodes_bytes(t) <= 27u << 20);
	for (u64 i = 0; i < 1000000; i++)
		node_forget(t, 11 + i, 1);
	assert_int_equal(nodes_count(t), 0);
	assert_true(nodes_bytes(t) < 150000);
	nodes_free(t);
}

static void forgetting_too_much_is_forgetting(void **state)
{
	struct nodes *t;

	(void)state;
	assert_int_equal(nodes_new(&numbers, &t), 0);
	remember(t, 5);
	node_forget(t, 5, UINT64_MAX);
	assert_int_equal(nodes_count(t), 0);
	node_forget(t, 5, 1);
	assert_int_equal(nodes_count(t), 0);
	nodes_free(t);
}

/* ---- with real inodes ---- */

static struct inode *make(struct super_block *sb, const char *name)
{
	struct inode *root, *inode;

	assert_int_equal(vfs_iget(sb, sb->root_ino, &root), 0);
	assert_int_equal(vfs_create(root, &NAME(name), S_IFREG | 0644, 0, 0, NULL, &test_cred, &inode), 0);
	vfs_iput(root);
	return inode;
}

static void unlink_name(struct super_block *sb, const char *name)
{
	struct inode *root;

	assert_int_equal(vfs_iget(sb, sb->root_ino, &root), 0);
	assert_int_equal(vfs_unlink(root, &NAME(name)), 0);
	vfs_iput(root);
}

static u64 inodes_free(struct super_block *sb)
{
	struct kstatfs st;

	assert_int_equal(vfs_statfs(sb, &st), 0);
	return st.inodes_free;
}

static void nameless_stays_until_forgotten(void **state)
{
	struct super_block *sb = mount_mem(1 << 20);
	struct inode *inode, *again;
	struct nodes *t;
	u64 free_before, id;

	(void)state;
	assert_int_equal(nodes_new(sb, &t), 0);
	free_before = inodes_free(sb);
	inode = make(sb, "a");
	id = node_id(t, inode->ino);
	assert_int_equal(node_remember(t, inode), 0);
	assert_int_equal(node_remember(t, inode), 0);
	unlink_name(sb, "a");
	node_unlinked(t, inode);
	vfs_iput(inode);
	vfs_shrink(sb);
	assert_int_equal(node_inode(t, id, &again), 0);
	assert_int_equal(again->nlink, 0);
	vfs_iput(again);
	node_forget(t, id, 1);
	assert_int_equal(inodes_free(sb), free_before - 1);
	node_forget(t, id, 1);
	assert_int_equal(inodes_free(sb), free_before);
	assert_int_equal(node_inode(t, id, &again), -ESTALE);
	nodes_free(t);
	assert_int_equal(vfs_unmount(sb), 0);
}

static void remembered_after_the_last_name_went(void **state)
{
	struct super_block *sb = mount_mem(1 << 20);
	struct inode *inode = make(sb, "a"), *again;
	struct nodes *t;
	u64 id;

	(void)state;
	assert_int_equal(nodes_new(sb, &t), 0);
	id = node_id(t, inode->ino);
	unlink_name(sb, "a");
	node_unlinked(t, inode);
	assert_int_equal(node_remember(t, inode), 0);
	vfs_iput(inode);
	assert_int_equal(node_inode(t, id, &again), 0);
	vfs_iput(again);
	/* The end of the mount gives it back too. */
	nodes_free(t);
	assert_int_equal(vfs_unmount(sb), 0);
}

static void another_generation_is_stale(void **state)
{
	struct super_block *sb = mount_mem(1 << 20);
	struct inode *inode = make(sb, "a"), *again, other;
	struct nodes *t;

	(void)state;
	assert_int_equal(nodes_new(sb, &t), 0);
	memset(&other, 0, sizeof(other));
	other.ino = inode->ino;
	other.generation = inode->generation + 1;
	other.nlink = 1;
	mutex_init(&other.attr, RANK_LEAF);
	assert_int_equal(node_inode(t, node_id(t, inode->ino), &again), -ESTALE);
	assert_int_equal(node_remember(t, &other), 0);
	assert_int_equal(node_inode(t, node_id(t, inode->ino), &again), -ESTALE);
	assert_int_equal(node_remember(t, inode), 0);
	assert_int_equal(node_inode(t, node_id(t, inode->ino), &again), 0);
	vfs_iput(again);
	assert_int_equal(node_inode(t, 1, &again), 0);
	assert_int_equal(again->ino, sb->root_ino);
	vfs_iput(again);
	vfs_iput(inode);
	nodes_free(t);
	assert_int_equal(vfs_unmount(sb), 0);
}

/* ---- threads ---- */

enum { THREADS = 4, SHARED = 500 };

static void *hammer(void *arg)
{
	struct nodes *t = arg;

	for (u32 round = 0; round < 20; round++) {
		for (u64 i = 0; i < SHARED; i++)
			remember(t, 10 + i);
		for (u64 i = 0; i < SHARED; i++)
			node_forget(t, 10 + i, 1);
	}
	for (u64 i = 0; i < SHARED; i++)
		remember(t, 10 + i);
	return NULL;
}

static void threads_count_together(void **state)
{
	pthread_t th[THREADS];
	struct nodes *t;

	(void)state;
	assert_int_equal(nodes_new(&numbers, &t), 0);
	for (u32 i = 0; i < THREADS; i++)
		assert_int_equal(os_thread(&th[i], "hammer", hammer, t), 0);
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	assert_int_equal(nodes_count(t), SHARED);
	for (u64 i = 0; i < SHARED; i++)
		node_forget(t, 10 + i, THREADS - 1);
	assert_int_equal(nodes_count(t), SHARED);
	for (u64 i = 0; i < SHARED; i++)
		node_forget(t, 10 + i, 1);
	assert_int_equal(nodes_count(t), 0);
	nodes_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(root_changes_places),
		cmocka_unit_test(counts_follow_a_model),
		cmocka_unit_test(a_million_fit),
		cmocka_unit_test(forgetting_too_much_is_forgetting),
		cmocka_unit_test(nameless_stays_until_forgotten),
		cmocka_unit_test(remembered_after_the_last_name_went),
		cmocka_unit_test(another_generation_is_stale),
		cmocka_unit_test(threads_count_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
