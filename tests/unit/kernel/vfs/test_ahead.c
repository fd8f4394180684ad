/* Writes that are answered before the device has them: when, who waits, and what becomes of one that fails. */
#include "memmount.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BS    4096u
#define PIECE (256u << 10)

static struct super_block *sb;
static struct blkdev *disk; /* counts and fails */
static struct file *f;
static u8 piece[PIECE];

static int setup(void **state)
{
	const struct mount_opts opts = { 0 };
	struct blkdev *mem;

	(void)state;
	assert_int_equal(dev_mem_new("mem", 8u << 20, 512, &mem), 0);
	assert_int_equal(dev_fault_new(mem, false, &disk), 0);
	blkdev_put(mem);
	assert_int_equal(fs_find("memfs")->mount(&disk, 1, &opts, &sb), 0);
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
	for (u32 i = 0; i < PIECE; i++)
		piece[i] = (u8)(i * 7 + i / 251 + 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vfs_close(f);
	assert_int_equal(vfs_unmount(sb), 0);
	blkdev_put(disk);
	return 0;
}

static u64 free_blocks(void)
{
	struct kstatfs st;

	assert_int_equal(vfs_statfs(sb, &st), 0);
	return st.blocks_free;
}

static u64 size(void)
{
	struct kstat st;

	vfs_getattr(f->inode, &st);
	return st.size_bytes;
}

/* ---- an answer, and somebody who goes by it ---- */

enum what { NOTHING, READS, SEEKS, SYNCS, SYNCS_ALL, CUTS };

struct answered {
	struct write_answer answer;
	enum what what;
	u64 writes, size, done; /* at the moment of the answer */
	pthread_t thread;
	int err; /* of what was done then */
};

static void *go_on(void *arg)
{
	struct answered *a = arg;
	static u8 buf[PIECE];
	u64 n = 0;

	switch (a->what) {
	case NOTHING:
		break;
	case READS:
		a->err = vfs_read(f->inode, a->size - PIECE, buf, PIECE, &n);
		assert_int_equal(n, PIECE);
		assert_memory_equal(buf, piece, PIECE);
		break;
	case SEEKS:
		a->err = vfs_seek(f->inode, a->size - PIECE, SEEK_HOLE, &n);
		assert_int_equal(n, a->size);
		break;
	case SYNCS:
		a->err = vfs_fsync(f->inode, true);
		break;
	case SYNCS_ALL:
		a->err = vfs_sync(sb);
		break;
	case CUTS:
		a->err = vfs_truncate(f->inode, 10);
		break;
	}
	/* Not before the device had it. */
	assert_true(dev_fault_count(disk, FAULT_WRITE) > a->writes);
	return NULL;
}

static void give(struct write_answer *answer, u64 done)
{
	struct answered *a = container_of(answer, struct answered, answer);

	a->done = done;
	a->size = size();
	a->writes = dev_fault_count(disk, FAULT_WRITE);
	if (a->what == NOTHING)
		return;
	assert_int_equal(pthread_create(&a->thread, NULL, go_on, a), 0);
	usleep(20000); /* it comes as far as it can */
}

static int put(struct answered *a, u64 off, u64 len, u32 flags)
{
	u64 done, before = dev_fault_count(disk, FAULT_WRITE);
	int err;

	a->answer = (struct write_answer){ .give = give };
	err = vfs_write_answered(f->inode, off, piece, len, flags, &a->answer, &done);
	if (a->answer.given) {
		assert_int_equal(err, 0);
		assert_int_equal(a->done, len);
		assert_int_equal(a->writes, before);
	}
	if (a->answer.given && a->what != NOTHING)
		pthread_join(a->thread, NULL);
	return err;
}

static void before_the_device(void **state)
{
	struct answered a = { 0 };
	static u8 buf[PIECE];
	u64 done;

	(void)state;
	for (u64 at = 0; at < 4 * PIECE; at += PIECE) {
		assert_int_equal(put(&a, at, PIECE, 0), 0);
		assert_true(a.answer.given);
		assert_int_equal(a.size, at + PIECE);
	}
	for (u64 at = 0; at < 4 * PIECE; at += PIECE) {
		assert_int_equal(vfs_read(f->inode, at, buf, PIECE, &done), 0);
		assert_int_equal(done, PIECE);
		assert_memory_equal(buf, piece, PIECE);
	}
	/* Behind a hole, too. */
	assert_int_equal(put(&a, 5 * PIECE, PIECE, WRITE_KILL_PRIV), 0);
	assert_true(a.answer.given);
	assert_int_equal(vfs_read(f->inode, 4 * PIECE, buf, PIECE, &done), 0);
	assert_true(done == PIECE && !buf[0] && !memcmp(buf, buf + 1, PIECE - 1));
	assert_int_equal(inode_disk_size(f->inode), 6 * PIECE);
}

static void append_plain(u64 size_bytes)
{
	u64 done;

	assert_int_equal(vfs_write(f->inode, size(), piece, size_bytes - size(), 0, &done), 0);
	assert_int_equal(size(), size_bytes);
}

static void not_at_all(void **state)
{
	struct answered a = { 0 };

	(void)state;
	assert_int_equal(put(&a, 0, 64 << 10, 0), 0); /* too little */
	assert_false(a.answer.given);
	append_plain(PIECE);
	assert_int_equal(put(&a, 0, PIECE, 0), 0); /* over what is there */
	assert_false(a.answer.given);
	assert_int_equal(put(&a, PIECE, PIECE, WRITE_SYNC), 0);
	assert_false(a.answer.given);
	assert_int_equal(put(&a, 2 * PIECE, PIECE - 100, 0), 0); /* its end is another step */
	assert_false(a.answer.given);
	assert_int_equal(put(&a, 3 * PIECE - 100, PIECE, 0), 0);
	assert_false(a.answer.given);
}

static void no_room(void **state)
{
	struct answered a = { 0 };
	u64 at = 0;
	int err;

	(void)state;
	while (!(err = put(&a, at, PIECE, 0)) && a.answer.given)
		at += PIECE;
	/* What finds room only in part is short, and its writer is told so. */
	assert_false(a.answer.given);
	assert_int_equal(put(&a, size(), PIECE, 0), -ENOSPC);
	assert_false(a.answer.given);
	assert_true(size() >= at);
	assert_int_equal(vfs_fsync(f->inode, false), 0);
}

static void others_wait(void **state)
{
	struct answered a = { 0 };
	u64 at = 0;

	(void)state;
	for (u32 what = READS; what <= CUTS; what++, at += PIECE) {
		a.what = what;
		assert_int_equal(put(&a, at, PIECE, 0), 0);
		assert_true(a.answer.given);
		assert_int_equal(a.err, 0);
	}
	assert_int_equal(size(), 10);
}

static void failing_device(void **state)
{
	static const enum what all[] = { NOTHING, SYNCS, SYNCS_ALL };
	struct answered a = { 0 }, plain = { 0 };
	u64 free;

	(void)state;
	assert_int_equal(put(&a, 0, PIECE, 0), 0);
	free = free_blocks();
	for (u32 i = 0; i < ARRAY_SIZE(all); i++) {
		a.what = all[i];
		a.err = 0;
		dev_fault_nth(disk, FAULT_WRITE, 1, -EIO, false);
		assert_int_equal(put(&a, PIECE, PIECE, 0), 0);
		assert_true(a.answer.given);
		assert_int_equal(size(), PIECE);
		assert_int_equal(free_blocks(), free);
		/* Once to the next write, and once to the first that wants it durable. */
		assert_int_equal(put(&plain, 0, 100, 0), -EIO);
		assert_int_equal(put(&plain, 0, 100, 0), 0);
		if (all[i] == SYNCS)
			assert_int_equal(a.err, -EIO);
		else
			assert_int_equal(vfs_fsync(f->inode, false), -EIO);
		assert_int_equal(vfs_fsync(f->inode, false), 0);
	}
	a.what = NOTHING;
	assert_int_equal(put(&a, PIECE, PIECE, 0), 0);
	assert_int_equal(size(), 2 * PIECE);
}

/* Who looks at the moment at which the bytes are not on their way any more is told that they are lost. */
static _Atomic bool looks, over;

static void *sync_at_once(void *arg)
{
	int *err = arg;

	looks = true;
	while (atomic_load(&f->inode->tail_from) == ~0ull && !over)
		;
	while (atomic_load(&f->inode->tail_from) != ~0ull)
		;
	*err = vfs_fsync(f->inode, true);
	return NULL;
}

static void failing_beside(void **state)
{
	struct answered a = { 0 };
	pthread_t t;
	int err;

	(void)state;
	for (u32 i = 0; i < 400; i++) {
		looks = over = false;
		dev_fault_nth(disk, FAULT_WRITE, 1, -EIO, false);
		assert_int_equal(pthread_create(&t, NULL, sync_at_once, &err), 0);
		while (!looks)
			;
		assert_int_equal(put(&a, 0, PIECE, 0), 0);
		assert_true(a.answer.given);
		over = true;
		pthread_join(t, NULL);
		assert_int_equal(err, -EIO);
		assert_int_equal(put(&a, 0, 100, 0), -EIO);
	}
}

/* Somebody appends with answers, others read what was answered. */
static _Atomic u64 sure;
static atomic_bool stop;

static void give_out(struct write_answer *answer, u64 done)
{
	(void)answer;
	atomic_fetch_add(&sure, done);
}

static void *writer(void *arg)
{
	u64 done;

	(void)arg;
	for (u32 i = 0; i < 300; i++) {
		struct write_answer answer = { .give = give_out };

		if (atomic_load(&sure) >= 20 * PIECE) {
			atomic_store(&sure, 0);
			assert_int_equal(vfs_truncate(f->inode, 0), 0);
		}
		assert_int_equal(
			vfs_write_answered(f->inode, atomic_load(&sure), piece, PIECE, 0, &answer, &done), 0);
		assert_true(answer.given);
	}
	stop = true;
	return NULL;
}

static void *reader(void *arg)
{
	static _Thread_local u8 buf[PIECE];
	u64 done;

	(void)arg;
	while (!stop) {
		u64 at = atomic_load(&sure);

		at = at ? (u64)rand() % (at / PIECE) * PIECE : 0;
		assert_int_equal(vfs_read(f->inode, at, buf, PIECE, &done), 0);
		/* Cut meanwhile, or whole: never bytes of another time. */
		assert_true(!done || done == PIECE);
		assert_memory_equal(buf, piece, done);
	}
	return NULL;
}

static void *syncer(void *arg)
{
	(void)arg;
	while (!stop) {
		assert_int_equal(rand() % 2 ? vfs_sync(sb) : vfs_fsync(f->inode, true), 0);
		usleep((u32)rand() % 500);
	}
	return NULL;
}

static void threads(void **state)
{
	void *(*const run[])(void *) = { writer, reader, reader, syncer };
	pthread_t t[ARRAY_SIZE(run)];

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(run); i++)
		assert_int_equal(pthread_create(&t[i], NULL, run[i], NULL), 0);
	for (u32 i = 0; i < ARRAY_SIZE(run); i++)
		pthread_join(t[i], NULL);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(before_the_device), TEST(not_at_all),     TEST(no_room), TEST(others_wait),
		TEST(failing_device),    TEST(failing_beside), TEST(threads),
	};

	return cmocka_run_group_tests_name("vfs/ahead", tests, NULL, NULL);
}
