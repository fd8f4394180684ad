/*
 * Groups and the allocator, against a model that knows of each block what it is: reserved, taken, waiting or free. At the end of a run
 * everything is given back, and e2fsck finds the volume as mke2fs made it: bitmaps, counts, sums.
 */
#include "volume.h"

#include "fs/ext4/balloc.h"

#include <errno.h>
#include <pthread.h>

static struct ext4_super *es;
static struct ext4_inode *file[8]; /* their numbers and sizes are all that counts */

static void hold_back(void *priv, u32 tid)
{
	(void)priv;
	(void)tid;
}

static const struct jbd2_ops plain_ops = { ext4_precommit, ext4_committed };
static const struct jbd2_ops gated_ops = { ext4_precommit, hold_back };

static void open_volume(const struct jbd2_ops *ops)
{
	vol_open_parts(VOL_SPACE, ops);
	es = vol_es;
	for (u32 i = 0; i < ARRAY_SIZE(file); i++) {
		file[i] = ext4_inode_alloc();
		assert_non_null(file[i]);
		file[i]->vfs.sb = &es->vfs;
		file[i]->vfs.ino = 100 + i;
		atomic_store(&file[i]->vfs.tail_from, ~0ull);
	}
}

static void close_volume(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(file); i++)
		ext4_inode_free(file[i]);
	vol_close_parts();
}

static int take_blocks(u64 blk, u32 len)
{
	struct ext4_handle h;

	assert_int_equal(ext4_begin(es, 2 * EXT4_CREDITS_GROUP, 0, &h), 0);
	return ext4_end(&h, ext4_blocks_take(&h, blk, len));
}

static int free_blocks(u64 blk, u32 len, u32 tid, bool metadata)
{
	struct ext4_handle h;

	assert_int_equal(ext4_begin(es, 2 * EXT4_CREDITS_GROUP, len, &h), 0);
	h.jh.tid = tid;
	return ext4_end(&h, ext4_blocks_free(&h, blk, len, metadata));
}

static u64 free_in_groups(void)
{
	u64 n = 0;

	for (u32 i = 0; i < es->groups; i++)
		n += es->group[i].free_clusters;
	return n;
}

static const char *const shapes[] = {
	"-t ext4 -O ^has_journal,metadata_csum,64bit -b 4096",
	"-t ext4 -O ^has_journal,metadata_csum,^64bit -b 1024 -g 2048",
	"-t ext4 -O ^has_journal,^metadata_csum,uninit_bg,flex_bg -b 2048 -g 4096",
	"-t ext4 -O ^has_journal,metadata_csum,^flex_bg,meta_bg,^resize_inode -b 1024",
	"-t ext2 -b 1024 -g 1024",
};

/* ---- random ---- */

enum state { FREE, RESERVED, TAKEN, WAITING };

static u8 *model;

static void become(u64 blk, u32 len, enum state from, enum state to)
{
	for (u32 i = 0; i < len; i++) {
		assert_int_equal(model[blk + i], from);
		model[blk + i] = to;
	}
}

struct run {
	u64 blk;
	u32 len, tid;
	enum state state;
};

#define RUNS 64u

static void step(struct run *r, u32 tid)
{
	u32 want, flags;
	u64 goal;
	int err;

	switch (r->state) {
	case FREE:
		want = 1 + rnd(rnd(4) ? 20 : 3000);
		goal = rnd(8) ? es->first_data_blk + rnd((u32)(es->blocks - es->first_data_blk)) : 0;
		flags = rnd(2) ? EXT4_RESERVE_META : 0;
		err = ext4_blocks_reserve(es, goal, want, flags, &r->blk, &r->len);
		if (err) {
			assert_int_equal(err, -ENOSPC);
			return;
		}
		assert_in_range(r->len, 1, want);
		assert_true(ext4_blocks_ok(es, r->blk, r->len));
		become(r->blk, r->len, FREE, RESERVED);
		r->state = RESERVED;
		break;
	case RESERVED:
		if (rnd(4)) {
			assert_int_equal(take_blocks(r->blk, r->len), 0);
			become(r->blk, r->len, RESERVED, TAKEN);
			r->state = TAKEN;
		} else {
			ext4_blocks_unreserve(es, r->blk, r->len);
			become(r->blk, r->len, RESERVED, FREE);
			r->state = FREE;
		}
		break;
	case TAKEN:
		want = 1 + rnd(r->len);
		assert_int_equal(free_blocks(r->blk, want, tid, rnd(2)), 0);
		become(r->blk, want, TAKEN, FREE);
		for (u32 i = 0; i < want; i++)
			model[r->blk + i] = WAITING;
		/* What waits is found again by its number in the model of transactions. */
		r->blk += want;
		r->len -= want;
		if (!r->len)
			r->state = FREE;
		break;
	case WAITING:
		break;
	}
}

static void committed(u32 tid)
{
	ext4_committed(es, tid);
	for (u64 i = 0; i < es->blocks; i++)
		if (model[i] == WAITING)
			model[i] = FREE;
}

static void random_run(const char *args)
{
	struct run run[RUNS] = { { 0 } };
	u64 before, avail;
	u32 tid = UINT32_MAX - 3;

	vol_make(args, 24, NULL);
	open_volume(&gated_ops);
	before = free_in_groups();
	avail = (u64)atomic_load(&es->balloc->avail);
	assert_int_equal(before, avail);
	es->balloc->loaded_max = 2;
	model = calloc(es->blocks, 1);
	for (u32 i = 0; i < 6000; i++) {
		step(&run[rnd(RUNS)], tid);
		if (!rnd(200))
			committed(tid++);
	}
	for (u32 i = 0; i < RUNS; i++) {
		if (run[i].state == RESERVED)
			ext4_blocks_unreserve(es, run[i].blk, run[i].len);
		else if (run[i].state == TAKEN)
			assert_int_equal(free_blocks(run[i].blk, run[i].len, tid, false), 0);
	}
	assert_int_equal(free_in_groups(), before);
	committed(tid);
	assert_false(ext4_blocks_pending(es));
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	assert_int_equal(health_state(&es->vfs.health), HEALTH_OK);
	free(model);
	close_volume();
	vol_fsck();
	vol_remove();
}

static void test_random(void **state)
{
	(void)state;
	rnd_seed();
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++)
		random_run(shapes[i]);
}

/* ---- many at once ---- */

#define THREADS 4u

static _Atomic u8 *owner;

static void *worker(void *arg)
{
	u64 r = (uintptr_t)arg * 7919 + 1;
	u8 me = (u8)(uintptr_t)arg;
	struct {
		u64 blk;
		u32 len;
	} had[16] = { { 0, 0 } };

	for (u32 i = 0; i < 3000; i++) {
		u32 k = i % 16;
		u64 goal;

		r = r * 6364136223846793005ull + 1442695040888963407ull;
		goal = (r >> 33) % es->blocks;
		if (had[k].len) {
			for (u32 j = 0; j < had[k].len; j++)
				assert_int_equal(atomic_exchange(&owner[had[k].blk + j], 0), me);
			if (r >> 20 & 1) {
				assert_int_equal(take_blocks(had[k].blk, had[k].len), 0);
				assert_int_equal(free_blocks(had[k].blk, had[k].len, 0, false), 0);
			} else {
				ext4_blocks_unreserve(es, had[k].blk, had[k].len);
			}
			had[k].len = 0;
		} else if (!ext4_blocks_reserve(es, goal, 1 + (u32)(r >> 40) % 300, 0, &had[k].blk,
						&had[k].len)) {
			for (u32 j = 0; j < had[k].len; j++)
				assert_int_equal(atomic_exchange(&owner[had[k].blk + j], me), 0);
		}
	}
	for (u32 k = 0; k < 16; k++)
		if (had[k].len) {
			for (u32 j = 0; j < had[k].len; j++)
				atomic_store(&owner[had[k].blk + j], 0);
			ext4_blocks_unreserve(es, had[k].blk, had[k].len);
		}
	return NULL;
}

static void test_parallel(void **state)
{
	pthread_t thread[THREADS];
	u64 avail;

	(void)state;
	vol_make(shapes[1], 16, NULL);
	open_volume(&plain_ops);
	avail = (u64)atomic_load(&es->balloc->avail);
	es->balloc->loaded_max = 2;
	owner = calloc(es->blocks, 1);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, worker, (void *)(i + 1)), 0);
	for (u32 i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	free((void *)owner);
	close_volume();
	vol_fsck();
	vol_remove();
}

/* ---- full ---- */

static u64 fill(u32 flags, struct run *list, u32 *n)
{
	u64 sum = 0;

	while (!ext4_blocks_reserve(es, 0, 500, flags, &list[*n].blk, &list[*n].len)) {
		assert_int_equal(take_blocks(list[*n].blk, list[*n].len), 0);
		sum += list[(*n)++].len;
	}
	return sum;
}

static void test_full(void **state)
{
	struct run *list;
	u64 all, root;
	u32 n = 0;
	bool tried = false;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum -b 1024 -m 10", 16, NULL);
	open_volume(&gated_ops);
	list = calloc(es->blocks, sizeof(*list));
	all = free_in_groups();
	root = es->balloc->kept_root;
	assert_true(root > 0 && es->balloc->kept_meta > 0);
	vfs_set_privileged(false);
	assert_int_equal(fill(0, list, &n), all - root - es->balloc->kept_meta);
	assert_int_equal(ext4_blocks_promise(es, 1, 0), -ENOSPC);
	vfs_set_privileged(true);
	assert_int_equal(ext4_blocks_avail(es), root);
	assert_int_equal(fill(0, list, &n), root);
	assert_int_equal(ext4_blocks_avail(es), 0);
	assert_int_equal(ext4_blocks_promise(es, 5, EXT4_RESERVE_META), 0);
	assert_int_equal(fill(EXT4_RESERVE_META, list, &n), es->balloc->kept_meta - 5);
	ext4_blocks_unpromise(es, 5);
	assert_int_equal(fill(EXT4_RESERVE_META, list, &n), 5);
	assert_int_equal(free_in_groups(), 0);
	assert_false(ext4_retry(es, -ENOSPC, &tried));
	/* What was freed is not to be had before its transaction is durable. */
	assert_int_equal(free_blocks(list[0].blk, list[0].len, 7, false), 0);
	assert_true(ext4_blocks_pending(es));
	assert_int_equal(fill(EXT4_RESERVE_META, list, &n), 0);
	ext4_committed(es, 6);
	assert_int_equal(fill(EXT4_RESERVE_META, list, &n), 0);
	ext4_committed(es, 7);
	list[0].len = 0;
	fill(EXT4_RESERVE_META, list, &n);
	assert_int_equal(free_in_groups(), 0);
	for (u32 i = 0; i < n; i++)
		if (list[i].len)
			assert_int_equal(free_blocks(list[i].blk, list[i].len, 8, false), 0);
	ext4_committed(es, 8);
	free(list);
	assert_int_equal(free_in_groups(), all);
	close_volume();
	vol_fsck();
	vol_remove();
}

/* ---- damage ---- */

static void test_misuse(void **state)
{
	u64 blk, avail;
	u32 len;

	(void)state;
	vol_make(shapes[1], 16, NULL);
	open_volume(&plain_ops);
	avail = (u64)atomic_load(&es->balloc->avail);
	assert_int_equal(ext4_blocks_reserve(es, 0, 10, 0, &blk, &len), 0);
	assert_int_equal(len, 10);
	assert_int_equal(take_blocks(blk, 11), -EUCLEAN);
	assert_int_equal(free_blocks(blk, 10, 0, false), -EUCLEAN);
	assert_int_equal(take_blocks(blk, 10), 0);
	assert_int_equal(take_blocks(blk, 1), -EUCLEAN);
	assert_int_equal(free_blocks(blk, 11, 0, false), -EUCLEAN);
	assert_int_equal(free_blocks(es->group[1].inode_table, 1, 0, false), -EUCLEAN);
	assert_int_equal(free_blocks(es->blocks - 1, 2, 0, false), -EUCLEAN);
	assert_int_equal(free_blocks(blk, 10, 0, true), 0);
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	assert_int_equal(health_state(&es->vfs.health), HEALTH_CORRUPT);
	close_volume();
	vol_fsck();
	vol_remove();
}

/* The bitmaps of groups are damaged behind the allocator's back: in group 1 its inode table is free, in group 2 one block too many. */
static void test_damaged_groups(void **state)
{
	static u8 block[1024];
	struct run list[64];
	u64 sum = 0, want;
	u32 n = 0;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,^metadata_csum,^uninit_bg,^flex_bg -b 1024 -g 1024", 8, NULL);
	open_volume(&plain_ops);
	assert_true(es->groups < ARRAY_SIZE(list));
	for (u32 i = 1; i <= 2; i++) {
		u64 off = es->group[i].block_bitmap * 1024;
		u32 bit = (u32)(es->group[i].inode_table - ext4_group_start(es, i));

		assert_int_equal(blkdev_read(vol_dev, off, block, sizeof(block)), 0);
		if (i == 1) {
			block[bit / 8] &= (u8) ~(1u << bit % 8);
			block[1000 / 8] |= 1u << 1000 % 8;
		} else {
			block[1000 / 8] |= 1u << 1000 % 8;
		}
		assert_int_equal(blkdev_write(vol_dev, off, block, sizeof(block), 0), 0);
	}
	want = free_in_groups() - es->group[1].free_clusters - es->group[2].free_clusters;
	while (!ext4_blocks_reserve(es, 0, 1024, EXT4_RESERVE_META, &list[n].blk, &list[n].len)) {
		assert_false(list[n].blk >= ext4_group_start(es, 1) && list[n].blk < ext4_group_start(es, 3));
		sum += list[n++].len;
	}
	assert_int_equal(sum, want);
	assert_int_equal(health_state(&es->vfs.health), HEALTH_CORRUPT);
	while (n--)
		ext4_blocks_unreserve(es, list[n].blk, list[n].len);
	/* A file that has blocks there can still be deleted. */
	assert_int_equal(free_blocks(ext4_group_start(es, 1) + 900, 3, 0, false), 0);
	close_volume();
	vol_remove();
}

static u64 statfs_free(void)
{
	struct kstatfs st = { 0 };

	assert_int_equal(vfs_statfs(&es->vfs, &st), 0);
	return st.blocks_free;
}

/* A bitmap whose sum is wrong: its group is out of use, and what it counts as free is not free. */
static void test_wrong_sum(void **state)
{
	static u8 block[1024];
	u64 before, blk, errors, off;
	u32 len;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum,^flex_bg -b 1024 -g 1024", 8, NULL);
	vol_dev_fault(false);
	open_volume(&plain_ops);
	es->group[2].flags &= (u16)~EXT4_GROUP_BLOCK_UNINIT;
	off = es->group[2].block_bitmap * 1024;
	assert_int_equal(blkdev_read(vol_dev, off, block, sizeof(block)), 0);
	block[100] ^= 0x10;
	assert_int_equal(blkdev_write(vol_dev, off, block, sizeof(block), 0), 0);
	before = statfs_free();
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(ext4_blocks_reserve(es, ext4_group_start(es, 2) + 900, 4, 0, &blk, &len), 0);
		assert_false(blk >= ext4_group_start(es, 2) && blk < ext4_group_start(es, 3));
		ext4_blocks_unreserve(es, blk, len);
		if (!i)
			errors = atomic_load(&es->vfs.health.corrupt_count);
		assert_int_equal(atomic_load(&es->vfs.health.corrupt_count), errors);
	}
	assert_int_not_equal(errors, 0);
	assert_int_equal(statfs_free(), before - es->group[2].free_clusters);
	close_volume();
	vol_remove();
}

/* Every group that rests is asked for again. */
static void rest_is_over(void)
{
	for (u32 i = 0; i < es->groups; i++)
		if (atomic_load(&es->balloc->space[i].rest_until_s))
			atomic_store(&es->balloc->space[i].rest_until_s,
				     (u32)(os_monotonic_ns() / 1000000000u) - 10);
}

static bool in_group(u64 blk, u32 group)
{
	return blk >= ext4_group_start(es, group) && blk < ext4_group_start(es, group + 1);
}

/* One that cannot be read: others serve meanwhile, it is no damage, and later the group serves again. */
static void test_unreadable(void **state)
{
	u64 before, blk, goal, reads;
	u32 len;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,^metadata_csum,^uninit_bg,^flex_bg -b 1024 -g 1024", 8, NULL);
	vol_dev_fault(false);
	open_volume(&plain_ops);
	before = statfs_free();
	goal = ext4_group_start(es, 2) + 900;
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, false);
	assert_int_equal(ext4_blocks_reserve(es, goal, 4, 0, &blk, &len), 0);
	assert_false(in_group(blk, 2));
	ext4_blocks_unreserve(es, blk, len);
	/* It has a rest. */
	reads = dev_fault_count(vol_dev, FAULT_READ);
	assert_int_equal(ext4_blocks_reserve(es, goal, 4, 0, &blk, &len), 0);
	assert_false(in_group(blk, 2));
	assert_int_equal(dev_fault_count(vol_dev, FAULT_READ), reads);
	ext4_blocks_unreserve(es, blk, len);
	rest_is_over();
	assert_int_equal(ext4_blocks_reserve(es, goal, 4, 0, &blk, &len), 0);
	assert_int_equal(blk, goal);
	ext4_blocks_unreserve(es, blk, len);
	assert_int_equal(statfs_free(), before);
	assert_int_equal(atomic_load(&es->vfs.health.corrupt_count), 0);
	close_volume();
	vol_fsck();
	/* When none can be read the volume is not full. */
	vol_dev_fault(false);
	open_volume(&plain_ops);
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, true);
	assert_int_equal(ext4_blocks_reserve(es, goal, 4, 0, &blk, &len), -EIO);
	assert_int_equal(atomic_load(&es->vfs.health.corrupt_count), 0);
	/* Blocks that are freed there are lost until a check. */
	assert_int_equal(free_blocks(ext4_group_start(es, 1) + 900, 1, 0, true), 0);
	assert_int_equal(atomic_load(&es->vfs.health.corrupt_count), 1);
	dev_fault_nth(vol_dev, FAULT_READ, 0, 0, false);
	close_volume();
	vol_remove();
}

/* ---- windows ---- */

struct writer {
	struct ext4_inode *ei;
	u64 lblk, next;
	u32 pieces; /* runs that the file has */
	u32 n;
	struct run run[512];
};

static void append(struct writer *w, u32 want)
{
	while (want) {
		struct run *r = &w->run[w->n++];
		u32 len;

		assert_true(w->n <= ARRAY_SIZE(w->run));
		assert_int_equal(ext4_data_reserve(w->ei, w->lblk, w->next, want, &r->blk, &len), 0);
		assert_in_range(len, 1, want);
		r->len = len;
		assert_int_equal(take_blocks(r->blk, len), 0);
		w->pieces += r->blk != w->next || !w->lblk;
		w->lblk += len;
		w->next = r->blk + len;
		want -= len;
		atomic_store(&w->ei->vfs.size_bytes, w->lblk << es->block_bits);
	}
}

static void undo(struct writer *w)
{
	ext4_window_drop(w->ei);
	for (u32 i = 0; i < w->n; i++)
		assert_int_equal(free_blocks(w->run[i].blk, w->run[i].len, 0, false), 0);
}

static void test_windows(void **state)
{
	static struct writer a, b, c;
	u64 avail, blk;
	u32 len;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum -b 4096 -N 16", 512, NULL);
	open_volume(&plain_ops);
	avail = (u64)atomic_load(&es->balloc->avail);
	/* Alone: one run as far as the groups go. */
	a = (struct writer){ .ei = file[0], .next = ext4_group_start(es, 1) };
	for (u32 i = 0; i < 256; i++)
		append(&a, 32);
	assert_int_equal(a.pieces, 1);
	undo(&a);
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	/* Two in turn: 32 MiB each in few runs. */
	a = (struct writer){ .ei = file[0], .next = ext4_group_start(es, 1) };
	b = (struct writer){ .ei = file[1], .next = ext4_group_start(es, 1) };
	for (u32 i = 0; i < 256; i++) {
		append(&a, 32);
		append(&b, 32);
	}
	print_message("two writers: %u and %u runs\n", a.pieces, b.pieces);
	assert_in_range(a.pieces, 1, 12);
	assert_in_range(b.pieces, 1, 12);
	/* Small files take what they need, close together. */
	c = (struct writer){ .ei = file[2], .next = ext4_group_start(es, 0) };
	append(&c, 3);
	append(&c, 1);
	assert_int_equal(c.pieces, 1);
	ext4_window_drop(c.ei);
	assert_int_equal(ext4_data_reserve(file[3], 0, c.next, 1, &blk, &len), 0);
	assert_int_equal(blk, c.next);
	ext4_window_drop(file[3]);
	ext4_blocks_unreserve(es, blk, len);
	/* A write elsewhere takes no window away. */
	assert_int_equal(ext4_data_reserve(a.ei, 1, 0, 1, &blk, &len), 0);
	ext4_blocks_unreserve(es, blk, len);
	append(&a, 32);
	undo(&a);
	undo(&b);
	undo(&c);
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	close_volume();
	vol_fsck();
	vol_remove();
}

/* Nobody is refused while a window holds blocks. */
static void test_windows_give_way(void **state)
{
	static struct writer a;
	struct run list[64];
	u64 sum = 0, avail;
	u32 n = 0;

	(void)state;
	vol_make(shapes[0], 24, NULL);
	open_volume(&plain_ops);
	avail = ext4_blocks_avail(es);
	a = (struct writer){ .ei = file[0] };
	append(&a, 20);
	append(&a, 20);
	assert_true(ext4_blocks_avail(es) < avail - 40);
	while (!ext4_blocks_reserve(es, 0, 4096, 0, &list[n].blk, &list[n].len))
		sum += list[n++].len;
	assert_int_equal(sum, avail - 40);
	while (n--)
		ext4_blocks_unreserve(es, list[n].blk, list[n].len);
	undo(&a);
	close_volume();
	vol_fsck();
	vol_remove();
}

/* All that is free, none of what is reserved or too short. */
static void test_trim(void **state)
{
	u64 bytes = 0, blk, bs, avail;
	u32 len;

	(void)state;
	vol_make(shapes[1], 16, NULL);
	open_volume(&plain_ops);
	bs = ext4_block_bytes(es);
	avail = (u64)atomic_load(&es->balloc->avail);
	assert_int_equal(ext4_trim(&es->vfs, 0, ~0ull, 0, &bytes), 0);
	assert_int_equal(bytes, avail * bs);
	bytes = 0;
	assert_int_equal(ext4_blocks_reserve(es, 3000, 10, 0, &blk, &len), 0);
	assert_int_equal(ext4_trim(&es->vfs, (blk - 1) * bs, 12 * bs, 0, &bytes), 0);
	assert_in_range(bytes, 0, 2 * bs);
	bytes = 0;
	assert_int_equal(ext4_trim(&es->vfs, (blk + 10) * bs, 5 * bs, 5 * bs, &bytes), 0);
	assert_int_equal(bytes, 5 * bs);
	bytes = 0;
	assert_int_equal(ext4_trim(&es->vfs, (blk + 10) * bs, 5 * bs, 6 * bs, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(ext4_trim(&es->vfs, ~0ull, ~0ull, ~0ull, &bytes), 0);
	assert_int_equal(bytes, 0);
	ext4_blocks_unreserve(es, blk, len);
	assert_int_equal(atomic_load(&es->balloc->avail), avail);
	close_volume();
	vol_fsck();
	vol_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random, vol_clean),
		cmocka_unit_test_teardown(test_parallel, vol_clean),
		cmocka_unit_test_teardown(test_full, vol_clean),
		cmocka_unit_test_teardown(test_misuse, vol_clean),
		cmocka_unit_test_teardown(test_damaged_groups, vol_clean),
		cmocka_unit_test_teardown(test_wrong_sum, vol_clean),
		cmocka_unit_test_teardown(test_unreadable, vol_clean),
		cmocka_unit_test_teardown(test_windows, vol_clean),
		cmocka_unit_test_teardown(test_windows_give_way, vol_clean),
		cmocka_unit_test_teardown(test_trim, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
