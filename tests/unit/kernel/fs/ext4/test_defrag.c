/*
 * Files in many pieces are put into fewer: their bytes, holes and promised blocks stay, the space they take too; what writes them meanwhile loses
 * nothing; without room, or on a volume that lies, nothing gets worse; and a power cut at any write leaves the file whole. e2fsck judges.
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define FILE_BYTES (4u << 20)

static struct super_block *sb;
static u8 *want; /* the file's bytes */

static struct inode *get(const char *path)
{
	struct inode *inode;

	assert_int_equal(vfs_path(sb, NULL, path, false, &inode), 0);
	return inode;
}

static void mount_vol(const char *fs_opts)
{
	vol_dev_open();
	vol_mount_dev(false, fs_opts);
	sb = &vol_es->vfs;
}

static void write_all(struct inode *inode, u64 off, const u8 *p, u64 len)
{
	while (len) {
		u64 done;

		assert_int_equal(vfs_write(inode, off, p, len, 0, &done), 0);
		off += done;
		p += done;
		len -= done;
	}
}

/* The block behind the file's, which ends at `end`, is somebody's. 0: it was. */
static u64 hold_behind(struct inode *inode, u64 end)
{
	u64 last = end / sb->block_bytes - 1, blk;
	struct ext4_run run;
	u32 len;

	assert_int_equal(ext4_map_blocks(ext4_inode(inode), last, 1, &run), 0);
	last = run.pblk + (last - run.lblk);
	if (!run.pblk || last + 1 == vol_es->blocks ||
	    ext4_blocks_reserve(vol_es, last + 1, 1, EXT4_RESERVE_META, &blk, &len))
		return 0;
	if (blk == last + 1)
		return blk;
	ext4_blocks_unreserve(vol_es, blk, len);
	return 0;
}

/* In turns with another file, and with what others have meanwhile, so that each piece is one on the volume too. */
static void scatter(struct inode *a, struct inode *b)
{
	u32 bs = sb->block_bytes, helds = 0;
	u64 *held = calloc(FILE_BYTES / bs, sizeof(*held));

	assert_non_null(held);
	for (u64 at = 0; at < FILE_BYTES;) {
		u64 n = MIN((1 + rnd(6)) * (u64)bs, FILE_BYTES - at);
		u32 kind = rnd(10);

		if (kind == 0 && !vfs_fallocate(a, 0, at, n)) {
			memset(want + at, 0, n);
		} else if (kind == 1 && at + n < FILE_BYTES) {
			memset(want + at, 0, n);
		} else {
			for (u64 i = at; i < at + n; i++)
				want[i] = (u8)rnd(256);
			write_all(a, at, want + at, n);
		}
		vfs_closed(a);
		held[helds++] = hold_behind(a, at + n);
		write_all(b, at, want + at, bs);
		vfs_closed(b);
		at += n;
	}
	while (helds--)
		if (held[helds])
			ext4_blocks_unreserve(vol_es, held[helds], 1);
	free(held);
}

static void compare(struct inode *inode)
{
	u8 *got = malloc(FILE_BYTES);
	u64 n;

	assert_non_null(got);
	assert_int_equal(vfs_read(inode, 0, got, FILE_BYTES, &n), 0);
	assert_int_equal(n, FILE_BYTES);
	assert_memory_equal(got, want, FILE_BYTES);
	free(got);
}

static u64 pieces(struct inode *inode)
{
	struct fragments f;

	assert_int_equal(vfs_fragments(inode, &f), 0);
	return f.pieces;
}

/* It was in n pieces. */
static void assert_few(struct inode *inode, u64 n)
{
	struct fragments f;

	assert_int_equal(vfs_fragments(inode, &f), 0);
	if (f.pieces > MAX(n / 20, 3 * f.best))
		fail_msg("%llu pieces of %llu are left", (unsigned long long)f.pieces, (unsigned long long)n);
}

/* What each block is. */
struct kinds {
	u8 *kind;
	u32 block_bytes;
};

static int note_kind(void *ctx, const struct mapping *m)
{
	struct kinds *k = ctx;

	for (u64 at = m->off_bytes; at < MIN(m->off_bytes + m->len_bytes, (u64)FILE_BYTES);
	     at += k->block_bytes)
		k->kind[at / k->block_bytes] = m->kind == MAP_INLINE ? MAP_DATA : (u8)m->kind;
	return 0;
}

static u8 *kinds_of(struct inode *inode)
{
	struct kinds k = { calloc(1, FILE_BYTES / 512), sb->block_bytes };

	assert_non_null(k.kind);
	assert_int_equal(vfs_extents(inode, 0, FILE_BYTES, note_kind, &k), 0);
	return k.kind;
}

/* All of it. */
static int gather(struct inode *inode)
{
	u64 pos = 0, moved;
	int err = 0;

	for (u32 i = 0; pos != ~0ull && !err; i++) {
		assert_true(i < 10000);
		err = vfs_defrag(inode, &pos, &moved);
	}
	return err;
}

static void gather_on(const char *args, u32 mib, const char *fs_opts, bool deep)
{
	struct inode *a, *b;
	struct kstat before, after;
	u8 *kinds, *now;
	u64 n;

	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	vol_make(args, mib, ": >a; : >b");
	/* mke2fs leaves out of its quota files what it copied. */
	if (strstr(args, "quota"))
		(void)!try_run("e2fsck -fy %s/img >/dev/null 2>&1", vol_dir);
	mount_vol(fs_opts);
	a = get("a");
	b = get("b");
	scatter(a, b);
	n = pieces(a);
	assert_true(n > 150);
	if (deep)
		assert_true(le16_get(((struct ext4_disk_extent_header *)ext4_inode(a)->block)->depth) >= 2);
	vfs_getattr(a, &before);
	kinds = kinds_of(a);
	compare(a);
	assert_int_equal(gather(a), 0);
	compare(a);
	now = kinds_of(a);
	assert_memory_equal(now, kinds, FILE_BYTES / sb->block_bytes);
	vfs_getattr(a, &after);
	/* But for some nodes of the map, where what is unwritten and what is not take turns. */
	assert_true(after.blocks_512 <= before.blocks_512 + 6 * MAX(sb->unit_bytes, sb->block_bytes) / 512);
	assert_few(a, n);
	assert_int_equal(after.mtime.sec, before.mtime.sec);
	assert_int_equal(after.mtime.nsec, before.mtime.nsec);
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	vol_fsck();
	mount_vol(fs_opts);
	a = get("a");
	compare(a);
	assert_few(a, n);
	vfs_iput(a);
	vol_close();
	vol_remove();
	free(kinds);
	free(now);
	free(want);
}

static void extents_4k(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 4096 -O has_journal,metadata_csum", 64, NULL, false);
}

static void extents_1k(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 1024 -J size=1 -O has_journal,metadata_csum", 32, NULL, true);
}

static void pointers(void **state)
{
	(void)state;
	gather_on("-t ext3 -b 1024 -O has_journal", 32, NULL, false);
}

static void no_journal(void **state)
{
	(void)state;
	gather_on("-t ext2 -b 4096", 32, NULL, false);
	gather_on("-t ext4 -b 1024 -O ^has_journal,metadata_csum", 32, NULL, false);
}

static void clusters(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 1024 -C 4096 -O has_journal,metadata_csum,bigalloc", 64, NULL, false);
}

static void data_in_journal(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 4096 -J size=8 -O has_journal,metadata_csum", 64, "data=journal", false);
}

static void quota(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 1024 -O has_journal,metadata_csum,quota,project -E "
		  "quotatype=usrquota:grpquota:prjquota",
		  48, NULL, false);
}

static void small_groups(void **state)
{
	(void)state;
	gather_on("-t ext4 -b 1024 -g 1024 -O has_journal,metadata_csum,^resize_inode", 48, NULL, false);
}

/* ---- others write ---- */

#define WRITES 1500u

static void *writer(void *arg)
{
	struct inode *inode = arg;
	u64 state = rnd_state;

	for (u32 i = 0; i < WRITES; i++) {
		u64 off, len;

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		off = (state >> 33) % FILE_BYTES;
		len = MIN(1 + (state >> 20) % 20000, FILE_BYTES - off);
		if (state >> 60 == 0 && len > 4096) {
			memset(want + off, 0, len);
			assert_int_equal(
				vfs_fallocate(inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len),
				0);
			continue;
		}
		memset(want + off, (u8)i, len);
		write_all(inode, off, want + off, len);
	}
	return NULL;
}

static void busy_on(const char *args, u32 mib, const char *fs_opts)
{
	struct inode *a, *b;
	pthread_t thread;

	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	vol_make(args, mib, ": >a; : >b");
	mount_vol(fs_opts);
	a = get("a");
	b = get("b");
	scatter(a, b);
	assert_int_equal(pthread_create(&thread, NULL, writer, a), 0);
	for (u32 i = 0; i < 20; i++)
		assert_int_equal(gather(a), 0);
	pthread_join(thread, NULL);
	compare(a);
	assert_int_equal(gather(a), 0);
	compare(a);
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	vol_fsck();
	mount_vol(fs_opts);
	a = get("a");
	compare(a);
	vfs_iput(a);
	vol_close();
	vol_remove();
	free(want);
}

static void busy(void **state)
{
	(void)state;
	busy_on("-t ext4 -b 4096 -O has_journal,metadata_csum", 64, NULL);
	busy_on("-t ext4 -b 1024 -C 4096 -O has_journal,metadata_csum,bigalloc", 64, NULL);
	busy_on("-t ext4 -b 1024 -J size=4 -O has_journal,metadata_csum", 64, "data=journal");
}

/* ---- no better place ---- */

static void no_room(void **state)
{
	struct inode *a, *b;
	u64 n, at = 0, done, moved, pos = 0;
	struct kstatfs before, after;

	(void)state;
	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	vol_make("-t ext4 -b 1024 -m 0 -O has_journal,metadata_csum", 24, ": >a; : >b; : >c");
	mount_vol(NULL);
	a = get("a");
	b = get("b");
	scatter(a, b);
	vfs_iput(b);
	b = get("c");
	while (!vfs_write(b, at, want, FILE_BYTES, 0, &done))
		at += done;
	n = pieces(a);
	/* A few blocks here and there. */
	for (u32 i = 0; i < 40; i++)
		assert_int_equal(
			vfs_fallocate(b, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * 65536ull, 1024), 0);
	assert_int_equal(vfs_sync(sb), 0);
	assert_int_equal(vfs_statfs(sb, &before), 0);
	assert_int_equal(gather(a), 0);
	compare(a);
	assert_true(pieces(a) <= n);
	assert_int_equal(vfs_sync(sb), 0);
	assert_int_equal(vfs_statfs(sb, &after), 0);
	assert_true(after.blocks_free >= before.blocks_free);
	/* Enough for a part of it: that is used. */
	assert_int_equal(vfs_fallocate(b, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 << 20, 256 << 10), 0);
	assert_int_equal(gather(a), 0);
	compare(a);
	assert_true(pieces(a) < n - n / 20);
	/* What is as good as can be is left alone. */
	assert_int_equal(vfs_truncate(b, 0), 0);
	assert_int_equal(gather(a), 0);
	assert_true(pieces(a) <= 3);
	n = pieces(a);
	assert_int_equal(vfs_defrag(a, &pos, &moved), 0);
	assert_int_equal(vfs_fragments(a, &(struct fragments){ 0 }), 0);
	assert_true(pieces(a) <= n && (n > 1 || !moved));
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	vol_fsck();
	vol_remove();
	free(want);
}

/* Without a journal it flushes itself, before and after what leads to other places: where that fails, whose bytes it has lost is told. */
static void test_flushes_that_fail(void **state)
{
	(void)state;
	for (u64 nth = 1; nth <= 2; nth++) {
		struct inode *a, *b;
		u64 done;

		want = calloc(1, FILE_BYTES);
		assert_non_null(want);
		vol_make("-t ext4 -b 1024 -O ^has_journal", 32, ": >a; : >b");
		vol_dev_fault(false);
		vol_mount_dev(false, NULL);
		sb = &vol_es->vfs;
		a = get("a");
		b = get("b");
		scatter(a, b);
		assert_int_equal(vfs_sync(sb), 0);
		assert_int_equal(vfs_write(b, 0, "over what is there", 18, 0, &done), 0);
		dev_fault_nth(vol_dev, FAULT_FLUSH, nth, -EIO, false);
		assert_int_equal(gather(a), -EIO);
		assert_int_equal(vfs_fsync(b, true), -EROFS);
		assert_int_equal(vfs_sync(sb), -EROFS);
		vfs_iput(a);
		vfs_iput(b);
		assert_int_equal(vfs_unmount(sb), -EROFS);
		vol_es = NULL;
		vol_dev_close();
		free(want);
		vol_remove();
	}
}

static void refused(void **state)
{
	struct iattr attr = { .valid = ATTR_FLAGS, .flags = INO_IMMUTABLE };
	struct inode *f;
	struct kstat k;
	u64 pos = 0, moved;

	(void)state;
	vol_make("-t ext4 -b 4096 -I 256 -O has_journal,inline_data", 32,
		 "echo small >inline; mkdir dir; head -c 100000 /dev/urandom >f; head -c 65536 /dev/zero "
		 ">swap; "
		 "printf SWAPSPACE2 | dd of=swap bs=1 seek=4086 conv=notrunc 2>/dev/null");
	mount_vol(NULL);
	f = get("dir");
	assert_non_null(vfs_defrag_refused(f));
	assert_int_equal(vfs_defrag(f, &pos, &moved), -EISDIR);
	vfs_iput(f);
	f = get("inline");
	assert_string_equal(vfs_defrag_refused(f), "lies in its inode");
	assert_int_equal(vfs_defrag(f, &pos, &moved), -EPERM);
	vfs_iput(f);
	f = get("swap");
	assert_non_null(strstr(vfs_defrag_refused(f), "swap"));
	vfs_iput(f);
	f = get("f");
	assert_null(vfs_defrag_refused(f));
	vfs_getattr(f, &k);
	attr.flags |= k.flags;
	assert_int_equal(vfs_setattr(f, &attr), 0);
	assert_non_null(strstr(vfs_defrag_refused(f), "immutable"));
	assert_int_equal(vfs_defrag(f, &pos, &moved), -EPERM);
	vfs_iput(f);
	vol_close();
	vol_fsck();
	vol_remove();
}

/* ---- volumes that lie ---- */

/* Blocks of the file are free, a bitmap says: that is found, the file stays what it is, and nobody's blocks are given away. */
static void lies(void **state)
{
	struct inode *a, *b;

	(void)state;
	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	vol_make("-t ext4 -b 1024 -O has_journal,^metadata_csum,^uninit_bg", 32, ": >a; : >b");
	mount_vol(NULL);
	a = get("a");
	b = get("b");
	scatter(a, b);
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	run("cd %s && for i in 0 500 1000; do b=$(debugfs -R \"bmap a $i\" img 2>/dev/null); b=${b%% *}; "
	    "test $b -eq 0 || "
	    "debugfs -wR \"freeb $b\" img 2>/dev/null; done",
	    vol_dir);
	mount_vol(NULL);
	a = get("a");
	assert_int_equal(gather(a), -EUCLEAN);
	compare(a);
	/* And then nothing more is moved. */
	assert_int_equal(gather(a), -EUCLEAN);
	vfs_iput(a);
	assert_int_equal(vfs_unmount(sb), 0);
	vol_es = NULL;
	vol_dev_close();
	vol_remove();
	free(want);
}

/* ---- the power cut ---- */

/* every: judge so many of the states; mend: what a crash leaves needs e2fsck first. */
static void cut_on(const char *args, u32 every, bool mend)
{
	struct inode *a, *b;
	struct vol_cuts cuts;
	u32 states = 0;
	u8 *other;

	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	vol_make(args, 24, ": >a; : >b; : >c");
	mount_vol(NULL);
	a = get("a");
	b = get("b");
	scatter(a, b);
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	vol_cuts_begin(&cuts);
	mount_vol(NULL);
	a = get("a");
	assert_int_equal(gather(a), 0);
	/* What was given up is used again by others, who would be seen in the file. */
	b = get("c");
	if (!mend)
		assert_int_equal(vfs_fsync(a, false), 0);
	other = malloc(FILE_BYTES);
	assert_non_null(other);
	memset(other, 0xee, FILE_BYTES);
	for (u64 at = 0, done; !vfs_write(b, at, other, FILE_BYTES, 0, &done); at += done)
		;
	free(other);
	vfs_iput(a);
	vfs_iput(b);
	vol_close();
	while (vol_cuts_next(&cuts)) {
		if (states++ % every)
			continue;
		if (mend)
			run("e2fsck -fy %s/img >/dev/null 2>&1; test $? -le 1", vol_dir);
		mount_vol(NULL);
		a = get("a");
		compare(a);
		vfs_iput(a);
		vol_close();
		if (states % 8 == 1)
			vol_fsck();
	}
	assert_true(states > 10);
	vol_remove();
	free(want);
}

static void cut_at_every_write(void **state)
{
	(void)state;
	cut_on("-t ext4 -b 4096 -J size=4 -O has_journal,metadata_csum", 1, false);
}

/* No journal orders what is written: but what the file had is there as long as its map may lead there. */
static void cut_without_journal(void **state)
{
	(void)state;
	cut_on("-t ext2 -b 4096", 3, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(extents_4k, vol_clean),
		cmocka_unit_test_teardown(extents_1k, vol_clean),
		cmocka_unit_test_teardown(pointers, vol_clean),
		cmocka_unit_test_teardown(no_journal, vol_clean),
		cmocka_unit_test_teardown(clusters, vol_clean),
		cmocka_unit_test_teardown(data_in_journal, vol_clean),
		cmocka_unit_test_teardown(quota, vol_clean),
		cmocka_unit_test_teardown(small_groups, vol_clean),
		cmocka_unit_test_teardown(busy, vol_clean),
		cmocka_unit_test_teardown(no_room, vol_clean),
		cmocka_unit_test_teardown(test_flushes_that_fail, vol_clean),
		cmocka_unit_test_teardown(refused, vol_clean),
		cmocka_unit_test_teardown(lies, vol_clean),
		cmocka_unit_test_teardown(cut_at_every_write, vol_clean),
		cmocka_unit_test_teardown(cut_without_journal, vol_clean),
	};

	rnd_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
