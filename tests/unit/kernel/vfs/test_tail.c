/* The tail stage: what it saves, what everybody sees of it, when it is written, and what becomes of it otherwise. */
#include "memmount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BS 4096u

static struct super_block *sb;
static struct blkdev *disk; /* counts and fails */
static struct inode *root;
static struct file *f;

static int setup(void **state)
{
	const struct mount_opts opts = { 0 };
	struct blkdev *mem;

	(void)state;
	assert_int_equal(dev_mem_new("mem", 8u << 20, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &disk), 0);
	blkdev_put(mem);
	assert_int_equal(fs_find("memfs")->mount(&disk, 1, &opts, &sb), 0);
	assert_int_equal(vfs_path(sb, NULL, "/", true, &root), 0);
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT | O_APPEND, 0644, &test_cred, &f), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vfs_close(f);
	vfs_iput(root);
	assert_int_equal(vfs_unmount(sb), 0);
	blkdev_put(disk);
	return 0;
}

static u64 writes(void)
{
	return dev_fault_count(disk, FAULT_WRITE);
}

static u64 free_blocks(void)
{
	struct kstatfs st;

	assert_int_equal(vfs_statfs(sb, &st), 0);
	return st.blocks_free;
}

static void append(const void *p, u64 len)
{
	u64 done;

	assert_int_equal(vfs_file_write(f, p, len, &done), 0);
	assert_int_equal(done, len);
}

static void holds(u64 off, const void *want, u64 len)
{
	static u8 buf[1 << 16];
	u64 done;

	assert_int_equal(vfs_read(f->inode, off, buf, len, &done), 0);
	assert_int_equal(done, len);
	assert_memory_equal(buf, want, len);
}

static void appending_writes_each_block_once(void **state)
{
	static u8 all[100000];
	u64 before = writes();

	(void)state;
	for (u32 i = 0; i < sizeof(all); i++)
		all[i] = (u8)(i * 7 + i / 251);
	for (u32 i = 0; i < 1000; i++)
		append(all + 100 * i, 100);
	assert_int_equal(dev_fault_count(disk, FAULT_READ), 0);
	holds(0, all, 50000);
	holds(50000, all + 50000, 50000);
	assert_int_equal(writes() - before, sizeof(all) / BS);
}

static void everybody_sees_it(void **state)
{
	struct kstat st;
	u64 at;

	(void)state;
	append("hello", 5);
	assert_int_equal(writes(), 0);
	holds(0, "hello", 5);
	vfs_getattr(f->inode, &st);
	assert_int_equal(st.size_bytes, 5);
	assert_int_equal(st.blocks_512, BS / 512);
	assert_int_equal(inode_disk_size(f->inode), 0);
	assert_int_equal(vfs_seek(f->inode, 0, SEEK_DATA, &at), 0);
	assert_int_equal(at, 0);
	assert_int_equal(vfs_seek(f->inode, 0, SEEK_HOLE, &at), 0);
	assert_int_equal(at, 5);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	assert_int_equal(writes(), 1);
	assert_int_equal(inode_disk_size(f->inode), 5);
	vfs_getattr(f->inode, &st);
	assert_int_equal(st.blocks_512, BS / 512);
	/* Times are those of the write, not of what it took to make it last. */
	append(" world", 6);
	vfs_getattr(f->inode, &st);
	usleep(3000);
	assert_int_equal(vfs_sync(sb), 0);
	assert_int_equal(writes(), 2);
	struct timespec64 was = st.mtime;
	vfs_getattr(f->inode, &st);
	assert_memory_equal(&was, &st.mtime, sizeof(was));
	holds(0, "hello world", 11);
}

static void what_overlaps(void **state)
{
	u8 want[3 * BS] = { 0 }, x[2 * BS];
	u64 done;

	(void)state;
	memset(x, 'x', sizeof(x));
	/* Behind a hole; in the middle; before; across; far behind. */
	assert_int_equal(vfs_write(f->inode, BS + 10, "abc", 3, 0, &done), 0);
	memcpy(want + BS + 10, "abc", 3);
	holds(0, want, BS + 13);
	assert_int_equal(vfs_write(f->inode, BS + 5, "de", 2, 0, &done), 0);
	memcpy(want + BS + 5, "de", 2);
	assert_int_equal(writes(), 0);
	assert_int_equal(vfs_write(f->inode, 7, "fg", 2, 0, &done), 0);
	memcpy(want + 7, "fg", 2);
	assert_int_equal(writes(), 1);
	assert_int_equal(inode_disk_size(f->inode), 9);
	holds(0, want, BS + 13);
	assert_int_equal(vfs_write(f->inode, BS - 3, x, BS + 6, 0, &done), 0);
	memcpy(want + BS - 3, x, BS + 6);
	holds(0, want, 2 * BS + 3);
	assert_int_equal(inode_disk_size(f->inode), 2 * BS);
	assert_int_equal(vfs_write(f->inode, 5 * BS, x, 1, 0, &done), 0);
	assert_int_equal(inode_disk_size(f->inode), 2 * BS + 3);
	holds(0, want, 3 * BS);
	assert_int_equal(vfs_fallocate(f->inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * BS), 0);
	memset(want, 0, sizeof(want));
	holds(0, want, 3 * BS);
	assert_int_equal(inode_disk_size(f->inode), 5 * BS + 1);
}

static void what_ends_it_unwritten(void **state)
{
	u64 had = free_blocks(), done;
	struct file *g;

	(void)state;
	append("abc", 3);
	assert_int_equal(free_blocks(), had - 1);
	assert_int_equal(vfs_truncate(f->inode, 0), 0);
	assert_int_equal(free_blocks(), had);
	assert_int_equal(atomic_load(&f->inode->size_bytes), 0);
	append("abc", 3);
	assert_int_equal(vfs_truncate(f->inode, 2), 0); /* cut within it: written */
	assert_int_equal(inode_disk_size(f->inode), 2);
	holds(0, "ab", 2);
	assert_int_equal(vfs_write(f->inode, 9 * BS, "z", 1, 0, &done), 0);
	assert_int_equal(vfs_truncate(f->inode, 3 * BS), 0); /* longer than what the volume knew */
	assert_int_equal(inode_disk_size(f->inode), 3 * BS);
	assert_int_equal(free_blocks(), had - 1);
	/* A file that is gone costs no write, whoever holds it. */
	assert_int_equal(vfs_open(sb, NULL, "/g", O_RDWR | O_CREAT, 0644, &test_cred, &g), 0);
	u64 before = writes();
	assert_int_equal(vfs_file_write(g, "abc", 3, &done), 0);
	assert_int_equal(vfs_unlink(root, &NAME("g")), 0);
	vfs_close(g);
	assert_int_equal(free_blocks(), had - 1);
	assert_int_equal(vfs_sync(sb), 0);
	assert_int_equal(writes(), before);
}

/* Space that was accepted is there: a full volume refuses at once, or not at all. */
static void full_volume(void **state)
{
	static u8 big[8 << 20];
	struct file *g;
	u64 done;

	(void)state;
	append("abc", 3);
	assert_int_equal(vfs_open(sb, NULL, "/g", O_RDWR | O_CREAT, 0644, &test_cred, &g), 0);
	assert_int_equal(vfs_file_write(g, big, sizeof(big), &done), 0);
	assert_true(done < sizeof(big));
	assert_int_equal(free_blocks(), 0);
	assert_int_equal(vfs_file_write(g, "x", 1, &done), -ENOSPC);
	assert_int_equal(atomic_load(&g->inode->size_bytes) % BS, 0);
	append("def", 3);
	assert_int_equal(vfs_sync(sb), 0);
	holds(0, "abcdef", 6);
	vfs_close(g);
}

/* What could not be written is said, once, to fsync; the file ends where the volume says. */
static void failing_device(void **state)
{
	(void)state;
	append("abc", 3);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	append("def", 3);
	dev_fault_nth(disk, FAULT_WRITE, 1, -EIO, false);
	assert_int_equal(vfs_sync(sb), -EIO);
	assert_int_equal(atomic_load(&f->inode->size_bytes), 3);
	holds(0, "abc", 3);
	assert_int_equal(vfs_fsync(f->inode, false), -EIO);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	append("ghi", 3);
	holds(0, "abcghi", 6);
}

static struct file *open_again(void)
{
	struct file *g;

	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR, 0, &test_cred, &g), 0);
	return g;
}

static int sync_of(const struct file *g)
{
	return vfs_fsync_opened(g->inode, g->opened, false);
}

/* The end of the file is lost, by somebody who does not say so to those who have it open. */
static void lose_the_end(void)
{
	append("lost", 4);
	dev_fault_nth(disk, FAULT_WRITE, 1, -EIO, false);
	assert_int_equal(vfs_sync(sb), -EIO);
}

static void all_who_have_it_open_hear(void **state)
{
	struct file *g = open_again(), *late, *closed = open_again();

	(void)state;
	lose_the_end();
	vfs_close(closed);
	late = open_again();
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(sync_of(i ? f : g), -EIO);
		assert_int_equal(sync_of(i ? f : g), 0);
	}
	assert_int_equal(sync_of(late), 0);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	/* Each loss anew. */
	lose_the_end();
	assert_int_equal(vfs_fsync(f->inode, false), -EIO);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	assert_int_equal(sync_of(late), -EIO);
	assert_int_equal(sync_of(g), -EIO);
	assert_int_equal(sync_of(f), -EIO);
	assert_int_equal(sync_of(late), 0);
	/* His own fsync may be what finds out. */
	append("lost", 4);
	dev_fault_nth(disk, FAULT_WRITE, 1, -EIO, false);
	assert_int_equal(sync_of(g), -EIO);
	assert_int_equal(sync_of(g), 0);
	assert_int_equal(sync_of(f), -EIO);
	assert_int_equal(sync_of(f), 0);
	/* If it was nobody who could have known, the next who comes. */
	vfs_close(late);
	vfs_close(g);
	lose_the_end();
	g = open_again();
	assert_int_equal(sync_of(g), -EIO);
	assert_int_equal(sync_of(g), 0);
	assert_int_equal(sync_of(f), -EIO);
	vfs_close(g);
}

/* Programs that replace a file, or empty and rewrite it, do not always fsync. */
static void replacing_is_safe(void **state)
{
	u64 before, done;
	struct file *g;

	(void)state;
	assert_int_equal(vfs_open(sb, NULL, "/g", O_RDWR | O_CREAT, 0644, &test_cred, &g), 0);
	assert_int_equal(vfs_file_write(g, "new", 3, &done), 0);
	before = writes();
	assert_int_equal(vfs_rename(root, &NAME("g"), root, &NAME("f"), 0), 0);
	assert_int_equal(writes(), before + 1);
	assert_int_equal(inode_disk_size(g->inode), 3);
	vfs_close(g);
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_TRUNC, 0, NULL, &g), 0);
	assert_int_equal(vfs_file_write(g, "newer", 5, &done), 0);
	assert_int_equal(inode_disk_size(g->inode), 0);
	struct inode *inode = vfs_igrab(g->inode);
	vfs_close(g);
	assert_int_equal(inode_disk_size(inode), 5);
	vfs_iput(inode);
}

static void many_files(void **state)
{
	enum { FILES = 1200 };
	char name[16];
	u64 done;

	(void)state;
	for (u32 i = 0; i < FILES; i++) {
		struct file *g;

		snprintf(name, sizeof(name), "/n%u", i);
		assert_int_equal(vfs_open(sb, NULL, name, O_RDWR | O_CREAT, 0644, &test_cred, &g), 0);
		assert_int_equal(vfs_file_write(g, name, strlen(name), &done), 0);
		vfs_close(g);
	}
	assert_in_range(writes(), FILES - 1024, FILES - 1000);
	vfs_shrink(sb);
	for (u32 i = 0; i < FILES; i++) {
		char back[16];
		struct file *g;

		snprintf(name, sizeof(name), "/n%u", i);
		assert_int_equal(vfs_open(sb, NULL, name, O_RDONLY, 0, NULL, &g), 0);
		assert_int_equal(vfs_file_read(g, back, sizeof(back), &done), 0);
		assert_int_equal(done, strlen(name));
		assert_memory_equal(back, name, done);
		vfs_close(g);
	}
}

static void old_ones_are_written(void **state)
{
	(void)state;
	append("abc", 3);
	for (u32 i = 0; i < 90 && !writes(); i++)
		usleep(100000);
	assert_int_equal(writes(), 1);
	holds(0, "abc", 3);
}

/* ---- all at once ---- */

static _Atomic bool stop;
static _Atomic u64 written;

static u8 byte_at(u64 off)
{
	return (u8)(off * 31 + off / 4096);
}

static void *writer(void *arg)
{
	u8 buf[700];

	(void)arg;
	for (u64 at = 0; at < 600000;) {
		u64 n = at % 613 + 1, done;

		for (u64 i = 0; i < n; i++)
			buf[i] = byte_at(at + i);
		assert_int_equal(vfs_write(f->inode, 0, buf, n, WRITE_APPEND, &done), 0);
		at += done;
		atomic_store(&written, at);
	}
	stop = true;
	return NULL;
}

static void *reader(void *arg)
{
	static _Thread_local u8 buf[20000];
	u64 at = 0, done;

	(void)arg;
	while (!stop) {
		u64 sure = atomic_load(&written);

		at = at + 20000 < sure ? at + 7001 : 0;
		assert_int_equal(vfs_read(f->inode, at, buf, sizeof(buf), &done), 0);
		assert_true(at + done >= MIN(sure, at + sizeof(buf)));
		for (u64 i = 0; i < done; i++)
			assert_int_equal(buf[i], byte_at(at + i));
	}
	return NULL;
}

static void *syncer(void *arg)
{
	(void)arg;
	while (!stop) {
		u64 sure = atomic_load(&written);

		assert_int_equal(rand() % 2 ? vfs_sync(sb) : vfs_fsync(f->inode, true), 0);
		assert_true(inode_disk_size(f->inode) >= sure);
		usleep(rand() % 500);
	}
	return NULL;
}

static void threads(void **state)
{
	void *(*const run[])(void *) = { writer, reader, reader, syncer, syncer };
	pthread_t t[ARRAY_SIZE(run)];

	(void)state;
	stop = false;
	written = 0;
	for (u32 i = 0; i < ARRAY_SIZE(run); i++)
		assert_int_equal(pthread_create(&t[i], NULL, run[i], NULL), 0);
	for (u32 i = 0; i < ARRAY_SIZE(run); i++)
		pthread_join(t[i], NULL);
}

/* ---- times of access ---- */

static void times_of_access(void **state)
{
	struct iattr a = { .valid = ATTR_ATIME | ATTR_MTIME, .atime = { 1000, 0 }, .mtime = { 2000, 0 } };
	struct timespec64 old;
	struct kstat st;

	(void)state;
	assert_int_equal(vfs_setattr(f->inode, &a), 0);
	vfs_accessed(f->inode);
	vfs_getattr(f->inode, &st);
	assert_true(st.atime.sec > 2000);
	old = st.atime;
	usleep(2000);
	vfs_accessed(f->inode); /* newer than the last change already */
	vfs_getattr(f->inode, &st);
	assert_memory_equal(&old, &st.atime, sizeof(old));
	a = (struct iattr){ .valid = ATTR_FLAGS, .flags = INO_NOATIME };
	assert_int_equal(vfs_setattr(f->inode, &a), 0);
	vfs_accessed(f->inode);
	vfs_getattr(f->inode, &st);
	assert_memory_equal(&old, &st.atime, sizeof(old));
}

static int no_size(struct inode *inode, u64 size_bytes)
{
	(void)inode;
	(void)size_bytes;
	return -EIO;
}

/* A file is never without its tail and as long as it was before. */
static void cut_that_fails(void **state)
{
	const struct inode_ops *was = f->inode->ops;
	struct inode_ops ops = *was;
	char bytes[BS + 100];
	u64 free;

	(void)state;
	memset(bytes, 'a', sizeof(bytes));
	append(bytes, sizeof(bytes));
	ops.set_size = no_size;
	f->inode->ops = &ops;
	assert_int_equal(vfs_truncate(f->inode, 10), -EIO);
	assert_int_equal(vfs_truncate(f->inode, BS), -EIO);
	f->inode->ops = was;
	assert_int_equal(f->inode->size_bytes, sizeof(bytes));
	holds(0, bytes, sizeof(bytes));
	assert_int_equal(vfs_fsync(f->inode, false), 0);
	assert_int_equal(inode_disk_size(f->inode), sizeof(bytes));
	/* Once more, and it goes. */
	free = free_blocks();
	append(bytes, BS);
	assert_int_equal(inode_disk_size(f->inode), 2 * BS);
	assert_int_equal(vfs_truncate(f->inode, BS), 0);
	assert_int_equal(f->inode->size_bytes, BS);
	assert_int_equal(inode_disk_size(f->inode), BS);
	assert_int_equal(free_blocks(), free + 1);
	holds(0, bytes, BS);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(appending_writes_each_block_once),
		TEST(everybody_sees_it),
		TEST(what_overlaps),
		TEST(what_ends_it_unwritten),
		TEST(full_volume),
		TEST(failing_device),
		TEST(all_who_have_it_open_hear),
		TEST(cut_that_fails),
		TEST(replacing_is_safe),
		TEST(many_files),
		TEST(old_ones_are_written),
		TEST(threads),
		TEST(times_of_access),
	};

	return cmocka_run_group_tests_name("vfs/tail", tests, NULL, NULL);
}
