/*
 * Orphans, both ways: those that a kernel left are finished by us, those that we leave by e2fsck and by the kernel; through the list and
 * through the orphan file; and lists that lead nowhere.
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define IOC_SHUTDOWN   0x8004587du /* _IOR('X', 125, __u32) */
#define SHUTDOWN_FLUSH 1u

static const char *const shapes[] = {
	"-t ext4 -O has_journal,metadata_csum,64bit,orphan_file -b 4096 -J size=16",
	"-t ext4 -O has_journal,metadata_csum,64bit,^orphan_file -J size=4",
	"-t ext4 -O has_journal,^metadata_csum,^64bit,orphan_file -b 1024 -J size=4",
	"-t ext3 -I 128 -b 1024 -J size=4",
	/* From here on: without a journal, which is where a list can be left by a journal that was taken away. */
	"-t ext4 -O ^has_journal,metadata_csum,64bit -b 1024",
};
#define JOURNALLED 4u

static const char filling[] =
	"mkdir d; ln -s $(printf 'x%.0s' $(seq 200)) slow; ln -s short fast; mkfifo fifo;"
	" head -c 3000000 /dev/zero | tr '\\0' b >big; echo small >small; truncate -s 1G hole; "
	"head -c 5000 /dev/urandom >kept";
static const char *const names[] = { "slow", "fast", "fifo", "big", "small", "hole" };

/* Free blocks and inodes as the volume says, with the log applied. */
static void count_free(char *out, size_t size)
{
	output(out, size, "dumpe2fs -h %s/img 2>/dev/null | grep -E '^Free (blocks|inodes)'", vol_dir);
}

static void assert_no_orphans(void)
{
	char text[4096];

	output(text, sizeof(text), "dumpe2fs -h %s/img 2>/dev/null", vol_dir);
	assert_null(strstr(text, "First orphan"));
	assert_null(strstr(text, "orphan_present"));
	assert_null(strstr(text, "needs_recovery"));
}

/* A kernel that stops with names gone and files open. */
static void kernel_crash(void)
{
	u32 flag = SHUTDOWN_FLUSH;
	int fd[ARRAY_SIZE(names)], dir, top;
	char path[160];

	vol_kernel("img", "rw");
	snprintf(path, sizeof(path), "%s/mnt", vol_dir);
	top = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(top >= 0);
	for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
		fd[i] = openat(top, names[i], O_PATH | O_NOFOLLOW);
		assert_true(fd[i] >= 0);
		assert_int_equal(unlinkat(top, names[i], 0), 0);
	}
	dir = openat(top, "d", O_RDONLY);
	assert_int_equal(unlinkat(top, "d", AT_REMOVEDIR), 0);
	assert_int_equal(syncfs(top), 0);
	assert_int_equal(ioctl(top, IOC_SHUTDOWN, &flag), 0);
	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		close(fd[i]);
	close(dir);
	close(top);
	vol_kernel_end();
}

static void test_of_kernel(void **state)
{
	char before[256], after[256];

	(void)state;
	if (!vol_kernel_can()) {
		print_message("no loop devices\n");
		skip();
	}
	for (u32 s = 0; s < JOURNALLED; s++) {
		/* What is left when all is done properly. */
		vol_make(shapes[s], 64, filling);
		vol_kernel("img", "rw");
		run("cd %s/mnt && rm -r d slow fast fifo big small hole", vol_dir);
		vol_kernel_end();
		count_free(before, sizeof(before));
		vol_remove();
		vol_make(shapes[s], 64, filling);
		kernel_crash();
		vol_open();
		vol_close();
		vol_fsck();
		count_free(after, sizeof(after));
		assert_string_equal(before, after);
		assert_no_orphans();
		vol_remove();
	}
}

static void test_of_ours(void **state)
{
	char before[256], after[256];

	(void)state;
	for (u32 s = 0; s < JOURNALLED; s++) {
		struct inode *held[ARRAY_SIZE(names) + 1], *root;

		vol_make(shapes[s], 64, filling);
		vol_open();
		assert_int_equal(vfs_iget(&vol_es->vfs, EXT4_INO_ROOT, &root), 0);
		for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
			assert_int_equal(vfs_path(&vol_es->vfs, NULL, names[i], false, &held[i]), 0);
			assert_int_equal(vfs_unlink(root, &NAME(names[i])), 0);
		}
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, "d", false, &held[ARRAY_SIZE(names)]), 0);
		assert_int_equal(vfs_rmdir(root, &NAME("d")), 0);
		vfs_iput(root);
		assert_int_equal(vfs_sync(&vol_es->vfs), 0);
		run("cp %s/img %s/cut; cp %s/img %s/cut2", vol_dir, vol_dir, vol_dir, vol_dir);
		for (u32 i = 0; i <= ARRAY_SIZE(names); i++)
			vfs_iput(held[i]);
		vol_close();
		vol_fsck();
		assert_no_orphans();
		count_free(before, sizeof(before));
		/*
		 * What the volume was when the power went. e2fsck 1.47.0 frees the inodes and leaves their numbers in the orphan file, after a
		 * crash of the kernel too: a second run clears them.
		 */
		run("cd %s && e2fsck -p cut >log; test $? -le 1 || { cat log; false; }", vol_dir);
		run("cd %s && e2fsck -fy cut >log; test $? -le 1 || { cat log; false; }", vol_dir);
		run("mv %s/cut %s/img", vol_dir, vol_dir);
		vol_fsck();
		count_free(after, sizeof(after));
		assert_string_equal(before, after);
		if (vol_kernel_can()) {
			vol_kernel("cut2", "rw");
			vol_kernel_end();
			run("mv %s/cut2 %s/img", vol_dir, vol_dir);
			vol_fsck();
			count_free(after, sizeof(after));
			assert_string_equal(before, after);
		}
		vol_remove();
	}
}

/* A file with links, longer than it says, is cut. */
static void test_truncate(void **state)
{
	char text[4096];

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		vol_make(shapes[s], 64, filling);
		run("cd %s; debugfs -w -R 'set_inode_field big size 5000' img 2>/dev/null; "
		    "n=$(debugfs -R 'stat big' img 2>/dev/null | sed -n 's/Inode: \\([0-9]*\\).*/\\1/p'); "
		    "debugfs -w -R \"set_super_value last_orphan $n\" img 2>/dev/null",
		    vol_dir);
		vol_open();
		vol_close();
		vol_fsck();
		assert_no_orphans();
		output(text, sizeof(text), "debugfs -R 'stat big' %s/img 2>/dev/null", vol_dir);
		assert_non_null(strstr(text, s == 0 ? "Blockcount: 16" : "Blockcount: 10"));
		vol_remove();
	}
}

/* None of these may be freed, nor keep us for long. $a, $b: two files. */
static void test_hostile(void **state)
{
	static const char *const lists[] = {
		"ssv last_orphan 2",
		"ssv last_orphan 8",
		"ssv last_orphan 99999999",
		"ssv last_orphan 200",
		"ssv last_orphan $a\nset_inode_field <$a> dtime $a",
		"ssv last_orphan $a\nset_inode_field <$a> dtime $b\nset_inode_field <$b> dtime $a",
		"ssv last_orphan $a\nset_inode_field <$a> dtime 2",
		"ssv last_orphan $a\nset_inode_field <$a> links_count 0\nset_inode_field <$a> dtime $a",
	};

	(void)state;
	for (u32 s = 0; s < 2; s++)
		for (u32 i = 0; i < ARRAY_SIZE(lists); i++) {
			struct inode *inode;

			vol_make(shapes[s], 40, filling);
			run("cd %s; a=$(debugfs -R 'stat big' img 2>/dev/null | sed -n 's/Inode: "
			    "\\([0-9]*\\).*/\\1/p'); "
			    "b=$(debugfs -R 'stat small' img 2>/dev/null | sed -n 's/Inode: "
			    "\\([0-9]*\\).*/\\1/p'); "
			    "echo \"%s\" >cmd; debugfs -w -f cmd img >/dev/null 2>&1",
			    vol_dir, lists[i]);
			vol_open();
			assert_int_equal(ext4_orphan_head(vol_es), 0);
			assert_int_equal(vfs_path(&vol_es->vfs, NULL, "kept", false, &inode), 0);
			vfs_iput(inode);
			vol_close();
			vol_remove();
		}
}

#define THREADS 4u

/* Files that come and go, open when they lose their name, some without ever having had one. */
static void *worker(void *arg)
{
	const struct cred cred = { .umask = 022 };
	struct inode *root, *held[8] = { NULL };
	u32 id = (u32)(uintptr_t)arg;
	u8 data[3000];
	u64 done;

	memset(data, (int)id, sizeof(data));
	if (vfs_iget(&vol_es->vfs, EXT4_INO_ROOT, &root))
		return "no root";
	for (u32 i = 0; i < 150; i++) {
		u32 k = (i * 7 + id) % ARRAY_SIZE(held);
		char path[32];
		struct name name;

		snprintf(path, sizeof(path), "t%u-%u", id, i);
		name = NAME(path);
		vfs_iput(held[k]);
		held[k] = NULL;
		if (vfs_create(root, i % 3 ? &name : NULL, S_IFREG | 0600, 0, 0, NULL, &cred, &held[k]))
			return "not created";
		if (vfs_write(held[k], (u64)(i % 5) * 100000, data, sizeof(data), 0, &done))
			return "not written";
		if (i % 4 == 1 && vfs_truncate(held[k], 10))
			return "not cut";
		if (i % 3 && vfs_unlink(root, &name))
			return "not unlinked";
	}
	for (u32 k = 0; k < ARRAY_SIZE(held); k++)
		vfs_iput(held[k]);
	vfs_iput(root);
	return NULL;
}

static void test_parallel(void **state)
{
	(void)state;
	for (u32 s = 0; s < 2; s++) {
		char before[256], after[256];
		pthread_t thread[THREADS];

		vol_make(shapes[s], 64, filling);
		count_free(before, sizeof(before));
		vol_open();
		for (u32 i = 0; i < THREADS; i++)
			assert_int_equal(os_thread(&thread[i], "worker", worker, (void *)(uintptr_t)(i + 1)),
					 0);
		for (u32 i = 0; i < THREADS; i++) {
			void *wrong;

			if (i == THREADS / 2)
				assert_int_equal(vfs_sync(&vol_es->vfs), 0);
			pthread_join(thread[i], &wrong);
			if (wrong)
				print_message("thread %u: %s\n", i, (const char *)wrong);
			assert_null(wrong);
		}
		vol_close();
		vol_fsck();
		assert_no_orphans();
		count_free(after, sizeof(after));
		assert_string_equal(before, after);
		vol_remove();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_of_kernel, vol_clean),
		cmocka_unit_test_teardown(test_of_ours, vol_clean),
		cmocka_unit_test_teardown(test_truncate, vol_clean),
		cmocka_unit_test_teardown(test_parallel, vol_clean),
		cmocka_unit_test_teardown(test_hostile, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
