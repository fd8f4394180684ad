/* Reading ahead on a device without a cache below: the right bytes, also when they change under the reader. */
#include "memmount.h"

#include "lib/trace.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES (6u << 20)
#define PIECE      (64u << 10)

static struct super_block *sb;
static struct file *f;

static void fill(u8 *buf, u64 off, u64 len, u8 version)
{
	for (u64 i = 0; i < len; i++)
		buf[i] = (u8)((off + i) / 4096 * 31 + version);
}

static int setup(void **state)
{
	static u8 buf[1 << 20];
	u64 done;

	(void)state;
	sb = mount_mem(64u << 20);
	sb->dev->flags |= BLKDEV_DIRECT;
	sb->dev->flags &= ~BLKDEV_HINTS;
	assert_int_equal(vfs_open(sb, NULL, "/f", O_RDWR | O_CREAT, 0644, &test_cred, &f), 0);
	for (u64 off = 0; off < FILE_BYTES; off += sizeof(buf)) {
		fill(buf, off, sizeof(buf), 0);
		assert_int_equal(vfs_write(f->inode, off, buf, sizeof(buf), 0, &done), 0);
	}
	return 0;
}

/* The same file, as if its bytes had to be made: those of odd mappings in the same call as the one before. */
static struct inode_ops encoded_ops;
static const struct inode_ops *plain_ops;
static _Atomic u32 decodes, spoilt;
static bool plain;
#define MAPPING_BYTES 24576u

static int encoded_map(struct inode *inode, u64 off, u64 len, struct mapping *out)
{
	int err = plain_ops->map(inode, off, len, out);
	u64 start = off - off % MAPPING_BYTES, end = start + MAPPING_BYTES;

	if (err || out->kind != MAP_DATA)
		return err;
	start = MAX(start, out->off_bytes);
	out->len_bytes = MIN(out->off_bytes + out->len_bytes, end) - start;
	out->dev_off_bytes += start - out->off_bytes;
	out->dev_len_bytes = out->len_bytes;
	out->off_bytes = start;
	out->kind = MAP_ENCODED;
	out->flags |= MAP_COSTLY;
	if (plain)
		out->flags |= MAP_PLAIN;
	if (plain)
		out->dev_len_bytes = sb->dev->size_bytes;
	return 0;
}

static int encoded_decode(struct inode *inode, const struct mapping *m, u64 off, void *dst, u64 len, u64 room,
			  u64 *done)
{
	struct mapping next = *m;
	int err = 0;

	atomic_fetch_add(&decodes, 1);
	assert_true(m->kind == MAP_ENCODED && room >= len);
	if (off <= spoilt && spoilt < off + len)
		return -EIO;
	for (*done = 0; *done < len && !err;) {
		u64 at = off + *done, n;

		err = encoded_map(inode, at, len - *done, &next);
		n = MIN(next.off_bytes + next.len_bytes - at, len - *done);
		if (err || (*done && (at / MAPPING_BYTES) % 2 == 0))
			break;
		err = blkdev_read(next.dev, next.dev_off_bytes + (at - next.off_bytes), (u8 *)dst + *done, n);
		*done += n;
	}
	memset((u8 *)dst + *done, 0xee, room - *done);
	return err;
}

static int setup_encoded(void **state)
{
	setup(state);
	sb->dev->flags &= ~BLKDEV_DIRECT;
	plain_ops = f->inode->ops;
	encoded_ops = *plain_ops;
	encoded_ops.map = encoded_map;
	encoded_ops.decode = encoded_decode;
	f->inode->ops = &encoded_ops;
	decodes = 0;
	spoilt = ~0u;
	plain = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vfs_close(f);
	return vfs_unmount(sb);
}

static void sequential(void **state)
{
	u8 *got = malloc(PIECE), *want = malloc(PIECE);
	u64 done, hits = stat_get(STAT_STAGE_HITS);

	(void)state;
	for (u64 off = 0; off < FILE_BYTES; off += PIECE) {
		assert_int_equal(vfs_read(f->inode, off, got, PIECE, &done), 0);
		assert_int_equal(done, PIECE);
		fill(want, off, PIECE, 0);
		assert_memory_equal(got, want, PIECE);
		assert_true(atomic_load(&sb->stage_bytes) <= 4u << 20);
	}
	assert_true(stat_get(STAT_STAGE_HITS) - hits > FILE_BYTES / PIECE / 2);
	free(got);
	free(want);
}

/* What is bad in a piece that was decoded ahead fails those who ask for it, and nobody else. */
static void bad_spot(void **state)
{
	static u8 buf[PIECE], want[PIECE];
	u64 done;

	(void)state;
	spoilt = 3u * PIECE + 100;
	for (u64 off = 0; off < FILE_BYTES; off += PIECE) {
		int err = vfs_read(f->inode, off, buf, PIECE, &done);

		fill(want, off, PIECE, 0);
		assert_int_equal(err, off == 3u * PIECE ? -EIO : 0);
		if (!err)
			assert_memory_equal(buf, want, PIECE);
	}
}

/* Reads of odd sizes, forth and back, with pieces in every state. */
static void jumping(void **state)
{
	static u8 buf[200000], want[200000];
	u64 at = 0, seed = 7, done;

	(void)state;
	for (u32 i = 0; i < 2000; i++) {
		u64 len;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		len = (seed >> 33) % sizeof(buf) + 1;
		if ((seed >> 20) % 16 == 0 || at >= FILE_BYTES)
			at = (seed >> 25) % FILE_BYTES;
		assert_int_equal(vfs_read(f->inode, at, buf, len, &done), 0);
		assert_int_equal(done, MIN(len, FILE_BYTES - at));
		for (u64 k = 0; k < done; k++)
			want[k] = (u8)((at + k) / 4096 * 31);
		assert_memory_equal(buf, want, done);
		at += done;
	}
	assert_true(decodes > 100);
}

/* Buffers go round: reading a file again needs no other memory than the first time. */
static void buffers_are_reused(void **state)
{
	static u8 buf[PIECE];
	u32 spare = 0, same = 0;
	void *before[ARRAY_SIZE(sb->stage_spare)];
	u64 done;

	(void)state;
	for (u64 off = 0; off < FILE_BYTES; off += PIECE)
		assert_int_equal(vfs_read(f->inode, off, buf, PIECE, &done), 0);
	for (u32 i = 0; i < ARRAY_SIZE(before); i++) {
		before[i] = atomic_load(&sb->stage_spare[i]);
		spare += before[i] != NULL;
	}
	assert_true(spare >= 2);
	for (u64 off = 0; off < FILE_BYTES; off += PIECE)
		assert_int_equal(vfs_read(f->inode, off, buf, PIECE, &done), 0);
	for (u32 i = 0; i < ARRAY_SIZE(before); i++)
		for (u32 j = 0; j < ARRAY_SIZE(before); j++)
			same += before[i] && atomic_load(&sb->stage_spare[j]) == before[i];
	assert_int_equal(same, spare);
	assert_int_equal(atomic_load(&sb->stage_bytes), 0);
}

static void change_ahead_is_seen(void **state)
{
	static u8 buf[PIECE];
	u64 done;

	(void)state;
	for (u64 off = 0; off < 1 << 20; off += PIECE)
		assert_int_equal(vfs_read(f->inode, off, buf, PIECE, &done), 0);
	fill(buf, 1 << 20, PIECE, 99);
	assert_int_equal(vfs_write(f->inode, 1 << 20, buf, PIECE, 0, &done), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(vfs_read(f->inode, 1 << 20, buf, PIECE, &done), 0);
	for (u64 i = 0; i < PIECE; i++)
		assert_int_equal(buf[i], (u8)(((1 << 20) + i) / 4096 * 31 + 99));
	assert_int_equal(vfs_truncate(f->inode, (1 << 20) + 10), 0);
	assert_int_equal(vfs_read(f->inode, 1 << 20, buf, PIECE, &done), 0);
	assert_int_equal(done, 10);
}

static _Atomic u32 version_done;
static _Atomic bool stop;

static void *reader(void *arg)
{
	u8 *buf = malloc(PIECE);
	void *bad = NULL;

	(void)arg;
	while (!stop && !bad)
		for (u64 off = 0; off < FILE_BYTES && !bad; off += PIECE) {
			u32 before = version_done;
			u64 done;

			if (vfs_read(f->inode, off, buf, PIECE, &done) || done != PIECE)
				bad = (void *)1;
			/* Each block is of a version at least as new as the last one finished before the read. */
			for (u64 i = 0; i < PIECE && !bad; i += 4096)
				if ((u8)(buf[i] - (u8)((off + i) / 4096 * 31)) < (u8)before)
					bad = (void *)2;
		}
	free(buf);
	return bad;
}

static void never_older_than_written(void **state)
{
	u8 *buf = malloc(FILE_BYTES);
	pthread_t t[2];
	void *bad;

	(void)state;
	stop = false;
	version_done = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, NULL), 0);
	for (u32 v = 1; v <= 8; v++) {
		u64 done;

		fill(buf, 0, FILE_BYTES, (u8)v);
		assert_int_equal(vfs_write(f->inode, 0, buf, FILE_BYTES, 0, &done), 0);
		assert_int_equal(done, FILE_BYTES);
		version_done = v;
	}
	stop = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	free(buf);
}

static _Atomic u64 hints, longest_hint;

static void note_hint(struct blkdev *dev, u64 off, u64 len)
{
	(void)dev;
	(void)off;
	hints++;
	longest_hint = MAX(longest_hint, len);
}

/* Bytes that are only checked lie where they are read: of a long extent no more is asked for than is staged. */
static void hints_are_short(void **state)
{
	const struct blkdev_ops *before = sb->dev->ops;
	struct blkdev_ops hinting = *before;
	static u8 buf[PIECE];
	u64 done;

	(void)state;
	plain = true;
	hinting.will_need = note_hint;
	sb->dev->ops = &hinting;
	sb->dev->flags |= BLKDEV_HINTS;
	for (u64 off = 0; off < FILE_BYTES; off += PIECE)
		assert_int_equal(vfs_read(f->inode, off, buf, PIECE, &done), 0);
	sb->dev->ops = before;
	assert_true(hints > 0);
	assert_true(longest_hint <= MAPPING_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sequential, setup, teardown),
		cmocka_unit_test_setup_teardown(buffers_are_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(change_ahead_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(never_older_than_written, setup, teardown),
		cmocka_unit_test_setup_teardown(sequential, setup_encoded, teardown),
		cmocka_unit_test_setup_teardown(bad_spot, setup_encoded, teardown),
		cmocka_unit_test_setup_teardown(jumping, setup_encoded, teardown),
		cmocka_unit_test_setup_teardown(never_older_than_written, setup_encoded, teardown),
		cmocka_unit_test_setup_teardown(hints_are_short, setup_encoded, teardown),
	};

	return cmocka_run_group_tests_name("vfs/stage", tests, NULL, NULL);
}
