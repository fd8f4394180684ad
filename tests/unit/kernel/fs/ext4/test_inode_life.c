/*
 * Attributes set, what fsync promises, and the end of files of every kind: what is free afterwards is what was free before.
 */
#include "volume.h"

#include <errno.h>
#include <pthread.h>

static const char *const shapes[] = {
	"-t ext4 -O ^has_journal,metadata_csum,64bit",
	"-t ext4 -O has_journal,metadata_csum,64bit -J size=4",
	"-t ext3 -I 128 -b 1024 -J size=4",
};

static struct inode *get(const char *path)
{
	struct inode *inode;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &inode), 0);
	return inode;
}

static void test_setattr(void **state)
{
	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		bool large = s < 2;
		s64 late = large ? 15032385535ll : 2147483647ll;
		struct iattr a = { .valid = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME,
				   .mode = 06754,
				   .uid = 70000,
				   .gid = 5,
				   .atime = { -2147483648ll, 1 },
				   .mtime = { 1ll << 40, 999999999 } };
		struct inode *inode;
		struct kstat st;
		char text[4096];

		vol_make(shapes[s], 16, "echo hello >f; mkdir d; ln -s t l");
		vol_open();
		inode = get("f");
		assert_int_equal(vfs_setattr(inode, &a), 0);
		vfs_iput(inode);
		vfs_shrink(&vol_es->vfs);
		inode = get("f");
		vfs_getattr(inode, &st);
		assert_int_equal(st.mode, S_IFREG | 06754);
		assert_int_equal(st.uid, 70000);
		assert_int_equal(st.gid, 5);
		assert_int_equal(st.atime.sec, -2147483648ll);
		assert_int_equal(st.mtime.sec, late);
		assert_int_equal(st.mtime.nsec, large ? 999999999 : 0);
		vfs_iput(inode);
		vol_close();
		vol_fsck();
		output(text, sizeof(text), "debugfs -R 'stat f' %s/img 2>/dev/null", vol_dir);
		assert_non_null(strstr(text, "Mode:  06754"));
		assert_non_null(strstr(text, "User: 70000"));
		vol_remove();
	}
}

static int set_flags(struct inode *inode, u32 flags)
{
	const struct iattr a = { .valid = ATTR_FLAGS, .flags = flags };

	return vfs_setattr(inode, &a);
}

static void test_flags(void **state)
{
	struct iattr project = { .valid = ATTR_PROJECT, .project = 5 };
	struct inode *f, *d, *l;
	char text[4096];

	(void)state;
	vol_make(shapes[0], 16, "echo hello >f; mkdir d; ln -s t l");
	vol_open();
	f = get("f");
	d = get("d");
	l = get("l");
	assert_int_equal(f->flags, EXT4_FL_EXTENTS);
	assert_int_equal(set_flags(f, EXT4_FL_EXTENTS | INO_NODUMP | INO_APPEND), 0);
	assert_int_equal(f->flags, EXT4_FL_EXTENTS | INO_NODUMP | INO_APPEND);
	assert_int_equal(set_flags(f, INO_NODUMP), -EOPNOTSUPP);
	assert_int_equal(set_flags(f, EXT4_FL_EXTENTS | EXT4_FL_DIRSYNC), -EOPNOTSUPP);
	assert_int_equal(set_flags(f, EXT4_FL_EXTENTS | INO_CASEFOLD), -EOPNOTSUPP);
	/* Shown, but not to be set. */
	assert_int_equal(set_flags(f, EXT4_FL_EXTENTS | EXT4_FL_INDEX | INO_NOATIME), 0);
	assert_int_equal(f->flags, EXT4_FL_EXTENTS | INO_NOATIME);
	assert_int_equal(set_flags(d, EXT4_FL_EXTENTS | EXT4_FL_DIRSYNC | EXT4_FL_TOPDIR), 0);
	assert_int_equal(set_flags(l, INO_NODUMP), 0);
	assert_int_equal(set_flags(l, INO_SYNC), -EOPNOTSUPP);
	assert_int_equal(vfs_setattr(f, &project), -EOPNOTSUPP);
	project.project = 0;
	assert_int_equal(vfs_setattr(f, &project), 0);
	vfs_iput(f);
	vfs_iput(d);
	vfs_iput(l);
	vol_close();
	vol_fsck();
	output(text, sizeof(text), "debugfs -R 'stat f' %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(text, "Flags: 0x80080"));
	output(text, sizeof(text), "debugfs -R 'stat d' %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(text, "Flags: 0xb0000"));
}

/* What is fsynced is there when the power goes. */
static void test_fsync(void **state)
{
	static const char data[] = "what must not be lost";

	(void)state;
	for (u32 s = 1; s < ARRAY_SIZE(shapes); s++) {
		const struct cred cred = { .umask = 022 };
		struct inode *root, *inode;
		char text[4096];
		u64 done;

		vol_make(shapes[s], 32, NULL);
		vol_open();
		root = get("/");
		/* A file without data: that it exists is what there is to be durable. */
		assert_int_equal(vfs_create(root, &NAME("empty"), S_IFREG | 0644, 0, 0, NULL, &cred, &inode),
				 0);
		assert_int_equal(vfs_fsync(inode, true), 0);
		vfs_iput(inode);
		run("cp %s/img %s/cut0", vol_dir, vol_dir);
		assert_int_equal(vfs_create(root, &NAME("f"), S_IFREG | 0644, 0, 0, NULL, &cred, &inode), 0);
		assert_int_equal(vfs_write(inode, 0, data, sizeof(data) - 1, 0, &done), 0);
		assert_int_equal(vfs_fsync(inode, true), 0);
		run("cp %s/img %s/cut", vol_dir, vol_dir);
		/* Over the same block, and an inode that was away in between. */
		vfs_iput(inode);
		vfs_shrink(&vol_es->vfs);
		inode = get("f");
		assert_int_equal(vfs_write(inode, 5, "MUST", 4, 0, &done), 0);
		assert_int_equal(vfs_fsync(inode, false), 0);
		run("cp %s/img %s/cut2", vol_dir, vol_dir);
		vfs_iput(inode);
		vfs_iput(root);
		vol_close();
		vol_fsck();
		run("cd %s && e2fsck -p cut >log; e2fsck -p cut2 >log; e2fsck -fn cut >log && e2fsck -fn "
		    "cut2 >log",
		    vol_dir);
		run("cd %s && e2fsck -p cut0 >log; debugfs -R 'stat empty' cut0 2>/dev/null | grep -q "
		    "regular",
		    vol_dir);
		output(text, sizeof(text), "debugfs -R 'cat f' %s/cut 2>/dev/null", vol_dir);
		assert_string_equal(text, data);
		output(text, sizeof(text), "debugfs -R 'cat f' %s/cut2 2>/dev/null", vol_dir);
		assert_string_equal(text, "what MUST not be lost");
		vol_remove();
	}
}

/* Somebody who makes a file durable at the moment at which the last bytes of an answered write have arrived. */
struct beside {
	struct inode *inode;
	bool data_only;
	_Atomic bool looks, over;
	pthread_t thread;
};

static void *sync_beside(void *arg)
{
	struct beside *b = arg;

	atomic_store(&b->looks, true);
	while (atomic_load(&b->inode->tail_from) == ~0ull && !b->over)
		;
	while (atomic_load(&b->inode->tail_from) != ~0ull)
		;
	assert_int_equal(vfs_fsync(b->inode, b->data_only), 0);
	return NULL;
}

static void give_nobody(struct write_answer *answer, u64 done)
{
	(void)answer;
	(void)done;
}

static void test_fsync_beside(void **state)
{
	const struct cred cred = { .umask = 022 };
	static u8 piece[256 << 10];
	struct inode *root;
	struct beside b;
	u32 given = 0;
	u64 done;

	(void)state;
	vol_make(shapes[1], 64, NULL);
	vol_open();
	root = get("/");
	assert_int_equal(vfs_create(root, &NAME("f"), S_IFREG | 0644, 0, 0, NULL, &cred, &b.inode), 0);
	for (u32 i = 0; i < 100; i++) {
		struct write_answer answer = { .give = give_nobody };
		u32 tid;

		assert_int_equal(vfs_sync(&vol_es->vfs), 0);
		tid = jbd2_running(vol_es->journal);
		b.data_only = i % 2;
		b.looks = b.over = false;
		assert_int_equal(pthread_create(&b.thread, NULL, sync_beside, &b), 0);
		while (!b.looks)
			;
		assert_int_equal(vfs_write_answered(b.inode, (u64)i * sizeof(piece), piece, sizeof(piece), 0,
						    &answer, &done),
				 0);
		b.over = true;
		given += answer.given;
		pthread_join(b.thread, NULL);
		assert_true(jbd2_is_durable(vol_es->journal, tid));
	}
	assert_true(given > 50);
	vfs_iput(b.inode);
	vfs_iput(root);
	vol_close();
	vol_fsck();
	vol_remove();
}

/* Whose bytes a flush has lost that failed for another is told so. */
static void test_flush_that_fails(void **state)
{
	(void)state;
	for (u32 s = 0; s < 2; s++) {
		struct inode *f, *g;
		u64 done;

		vol_make(shapes[s], 32, "head -c 8192 /dev/zero >f; cp f g");
		vol_dev_fault(false);
		vol_mount_dev(false, NULL);
		f = get("f");
		g = get("g");
		for (u32 i = 0; i < 2; i++) {
			assert_int_equal(vfs_write(f, 0, "over what is there", 18, 0, &done), 0);
			assert_int_equal(vfs_write(g, 0, "over what is there", 18, 0, &done), 0);
			assert_int_equal(vfs_sync(&vol_es->vfs), 0);
		}
		dev_fault_nth(vol_dev, FAULT_FLUSH, 1, -EIO, false);
		assert_int_equal(vfs_fsync(f, true), -EIO);
		assert_int_equal(vfs_fsync(g, true), -EROFS);
		assert_int_equal(vfs_sync(&vol_es->vfs), -EROFS);
		assert_int_equal(vfs_write(g, 0, "x", 1, 0, &done), -EROFS);
		vfs_iput(f);
		vfs_iput(g);
		assert_int_equal(vfs_unmount(&vol_es->vfs), -EROFS);
		vol_es = NULL;
		vol_dev_close();
		run("cd %s && { e2fsck -p img >log 2>&1; e2fsck -fn img >log 2>&1; }", vol_dir);
		vol_remove();
	}
}

/* Of a file whose end could not be written those who have it open hear, though its inode has left memory in between. */
static void test_heard_later(void **state)
{
	struct inode *f;
	u64 opened, done;

	(void)state;
	vol_make(shapes[1], 32, "head -c 8192 /dev/zero >f");
	vol_dev_fault(false);
	vol_mount_dev(false, NULL);
	f = get("f");
	opened = vfs_moment(f->sb);
	assert_int_equal(vfs_write(f, 8192, "more", 4, 0, &done), 0);
	vfs_iput(f);
	dev_fault_nth(vol_dev, FAULT_WRITE, 1, -EIO, false);
	assert_int_equal(vfs_sync(&vol_es->vfs), -EIO);
	vfs_shrink(&vol_es->vfs);
	f = get("f");
	assert_int_equal(vfs_fsync_opened(f, opened, true), -EIO);
	assert_int_equal(vfs_fsync_opened(f, opened, true), 0);
	vfs_iput(f);
	vol_close();
	vol_fsck();
	vol_remove();
}

static void test_end(void **state)
{
	static const char *const names[] = { "big", "comb", "small", "slow", "fast", "fifo", "attr" };

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		char before[256], after[256];
		struct inode *root;

		vol_make(shapes[s], 64, NULL);
		output(before, sizeof(before),
		       "dumpe2fs -h %s/img 2>/dev/null | grep -E '^Free (blocks|inodes)'", vol_dir);
		vol_remove();
		vol_make(shapes[s], 64,
			 "head -c 9000000 /dev/urandom >big; echo small >small; mkfifo fifo; ln -s fast "
			 "fast; "
			 "ln -s $(printf 'x%.0s' $(seq 200)) slow; echo >attr; "
			 "for i in $(seq 1 2 400); do echo $i | dd of=comb bs=4096 seek=$i status=none; "
			 "done");
		run("cd %s && head -c 900 /dev/zero | tr '\\0' v >v && debugfs -w -R 'ea_set -f v attr "
		    "user.v' img 2>/dev/null",
		    vol_dir);
		vol_open();
		root = get("/");
		for (u32 i = 0; i < ARRAY_SIZE(names); i++)
			assert_int_equal(vfs_unlink(root, &NAME(names[i])), 0);
		vfs_iput(root);
		vol_close();
		vol_fsck();
		output(after, sizeof(after),
		       "dumpe2fs -h %s/img 2>/dev/null | grep -E '^Free (blocks|inodes)'", vol_dir);
		assert_string_equal(before, after);
		vol_remove();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_setattr, vol_clean),
		cmocka_unit_test_teardown(test_flags, vol_clean),
		cmocka_unit_test_teardown(test_fsync, vol_clean),
		cmocka_unit_test_teardown(test_fsync_beside, vol_clean),
		cmocka_unit_test_teardown(test_flush_that_fails, vol_clean),
		cmocka_unit_test_teardown(test_heard_later, vol_clean),
		cmocka_unit_test_teardown(test_end, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
