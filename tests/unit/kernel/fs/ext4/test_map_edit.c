/*
 * Files that are written, promised, punched and cut, against their bytes; how many pieces they are in; what a full volume says; cuts that are
 * larger than the journal; and maps that lie, of which nothing may come but -EUCLEAN. e2fsck judges the volumes that are not damaged on purpose.
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define FILE_BYTES (3u << 20)

static struct super_block *sb;
static u8 *want; /* the file's bytes */
static u64 size;

static struct inode *get(const char *path)
{
	struct inode *inode;

	assert_int_equal(vfs_path(sb, NULL, path, false, &inode), 0);
	return inode;
}

static void open_vol(const char *args, u32 mib, const char *src)
{
	vol_make(args, mib, src);
	vol_open();
	sb = &vol_es->vfs;
}

static void close_vol(void)
{
	vol_close();
	vol_fsck();
	vol_remove();
}

static int count_piece(void *ctx, const struct mapping *m)
{
	*(u32 *)ctx += m->kind == MAP_DATA || m->kind == MAP_UNWRITTEN;
	return 0;
}

static u32 pieces(struct inode *inode)
{
	u32 n = 0;

	assert_int_equal(vfs_extents(inode, 0, ~0ull >> 1, count_piece, &n), 0);
	return n;
}

static int write_all(struct inode *inode, u64 off, const u8 *p, u64 len)
{
	while (len) {
		u64 done;
		int err = vfs_write(inode, off, p, len, 0, &done);

		if (err)
			return err;
		off += done;
		p += done;
		len -= done;
	}
	return 0;
}

/* ---- bytes ---- */

static void change(struct inode *inode)
{
	u64 off = rnd(FILE_BYTES), len = 1 + rnd(rnd(4) ? 9000 : 300000);
	u32 mode = rnd(2) ? FALLOC_FL_KEEP_SIZE : 0;
	int err;

	len = MIN(len, FILE_BYTES - off);
	switch (rnd(10)) {
	case 0:
		assert_int_equal(vfs_truncate(inode, off), 0);
		if (off < size)
			memset(want + off, 0, size - off);
		size = off;
		break;
	case 1:
		err = vfs_fallocate(inode, mode, off, len);
		assert_true(!err || err == -EOPNOTSUPP);
		if (!err && !mode)
			size = MAX(size, off + len);
		break;
	case 2:
		assert_int_equal(vfs_fallocate(inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len),
				 0);
		memset(want + off, 0, len);
		break;
	case 3:
		assert_int_equal(vfs_fsync(inode, false), 0);
		break;
	default:
		off = rnd(3) ? off : MIN(size, off);
		for (u64 i = off; i < off + len; i++)
			want[i] = (u8)rnd(256);
		assert_int_equal(write_all(inode, off, want + off, len), 0);
		size = MAX(size, off + len);
	}
}

static void compare(struct inode *inode)
{
	u8 *got = malloc(FILE_BYTES);
	u64 n;

	assert_non_null(got);
	assert_int_equal(vfs_read(inode, 0, got, FILE_BYTES, &n), 0);
	assert_int_equal(n, size);
	assert_memory_equal(got, want, size);
	free(got);
}

static void bytes_on(const char *args, u32 mib)
{
	struct inode *inode;

	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	size = 0;
	open_vol(args, mib, ": >f");
	for (u32 round = 0; round < 4; round++) {
		inode = get("f");
		for (u32 i = 0; i < 120; i++) {
			change(inode);
			if (i % 20 == 0)
				compare(inode);
		}
		vfs_iput(inode);
		vol_close();
		vol_fsck();
		vol_open();
		sb = &vol_es->vfs;
		inode = get("f");
		compare(inode);
		vfs_iput(inode);
	}
	close_vol();
	free(want);
}

static void bytes_4k(void **state)
{
	(void)state;
	bytes_on("-t ext4 -b 4096 -O has_journal,metadata_csum", 64);
}

static void bytes_1k(void **state)
{
	(void)state;
	bytes_on("-t ext4 -b 1024 -J size=1 -O has_journal,metadata_csum", 32);
}

static void bytes_pointers(void **state)
{
	(void)state;
	bytes_on("-t ext3 -b 1024 -O has_journal", 32);
}

static void bytes_nojournal(void **state)
{
	(void)state;
	bytes_on("-t ext2 -b 4096", 32);
}

static void bytes_clusters(void **state)
{
	(void)state;
	bytes_on("-t ext4 -b 4096 -C 65536 -O has_journal,metadata_csum,bigalloc", 64);
}

static void bytes_8k(void **state)
{
	(void)state;
	bytes_on("-t ext4 -b 8192 -O has_journal,metadata_csum -J size=8", 64);
	bytes_on("-t ext4 -b 8192 -C 131072 -O ^has_journal,metadata_csum,bigalloc", 64);
}

static void bytes_64k(void **state)
{
	(void)state;
	bytes_on("-t ext4 -b 65536 -O has_journal,metadata_csum -J size=64", 256);
}

/* ---- out of the inode ---- */

static const u32 small[] = { 0, 1, 59, 60, 61, 100, 152 };

/* A file of n bytes, after one change. True: its bytes were in the inode before. */
static bool unpack_one(const char *kind, u32 n)
{
	struct inode *inode;
	char name[32];
	bool was_packed;
	u64 done;

	snprintf(name, sizeof(name), "%s%u", kind, n);
	inode = get(name);
	was_packed = atomic_load(&inode->is_packed);
	size = n;
	memset(want, 0, FILE_BYTES);
	memset(want, 'a', n);
	compare(inode);
	switch (kind[0]) {
	case 'w':
		assert_int_equal(vfs_write(inode, n / 2, (const u8 *)"12345", 5, 0, &done), 0);
		memcpy(want + n / 2, "12345", 5);
		size = MAX(n, n / 2 + 5);
		break;
	case 'l':
		assert_int_equal(vfs_truncate(inode, 20000), 0);
		size = 20000;
		break;
	case 's':
		assert_int_equal(vfs_truncate(inode, n / 2), 0);
		memset(want + n / 2, 0, n);
		size = n / 2;
		break;
	case 'f':
		assert_int_equal(vfs_fallocate(inode, 0, 0, 10000), 0);
		size = 10000;
		break;
	}
	compare(inode);
	assert_false(atomic_load(&inode->is_packed));
	vfs_iput(inode);
	return was_packed;
}

static void out_of_inode(void **state)
{
	static const char *const kinds[] = { "w", "l", "s", "f" };
	u32 found = 0;

	(void)state;
	want = calloc(1, FILE_BYTES);
	assert_non_null(want);
	open_vol("-t ext4 -b 4096 -I 256 -O has_journal,metadata_csum,inline_data", 32,
		 "for k in w l s f; do for n in 0 1 59 60 61 100 152; do head -c $n /dev/zero | tr '\\0' a "
		 ">$k$n; "
		 "done; done");
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++)
		for (u32 i = 0; i < ARRAY_SIZE(small); i++)
			found += unpack_one(kinds[k], small[i]);
	assert_true(found >= 16);
	close_vol();
	free(want);
}

/* ---- pieces ---- */

/* Two files that grow in turns are in a few pieces each; one that is written alone, in one. */
static void few_pieces(void **state)
{
	u8 *p = calloc(1, 128 << 10);
	struct inode *a, *b, *c;
	u64 done;

	(void)state;
	assert_non_null(p);
	open_vol("-t ext4 -b 4096 -O has_journal", 256, ": >a; : >b; : >c");
	a = get("a");
	b = get("b");
	c = get("c");
	for (u32 i = 0; i < 64; i++)
		assert_int_equal(vfs_write(a, i * (128ull << 10), p, 128 << 10, 0, &done), 0);
	assert_int_equal(pieces(a), 1);
	for (u32 i = 0; i < 64; i++) {
		assert_int_equal(vfs_write(b, i * (128ull << 10), p, 128 << 10, 0, &done), 0);
		assert_int_equal(vfs_write(c, i * (128ull << 10), p, 128 << 10, 0, &done), 0);
	}
	assert_true(pieces(b) <= 8 && pieces(c) <= 8);
	/* In order, over unwritten blocks. */
	assert_int_equal(vfs_truncate(a, 0), 0);
	assert_int_equal(vfs_fallocate(a, 0, 0, 4 << 20), 0);
	for (u32 i = 0; i < 1024; i++)
		assert_int_equal(vfs_write(a, i * 4096ull, p, 4096, 0, &done), 0);
	assert_true(pieces(a) <= 2);
	vfs_iput(a);
	vfs_iput(b);
	vfs_iput(c);
	free(p);
	close_vol();
}

/* ---- a full volume ---- */

static void full(void **state)
{
	u8 *p = calloc(1, 1 << 20);
	struct inode *a, *b;
	u64 at = 0, done;
	int err;

	(void)state;
	assert_non_null(p);
	open_vol("-t ext4 -b 1024 -m 0 -O has_journal,metadata_csum", 24, ": >a; : >b");
	a = get("a");
	b = get("b");
	while (!(err = vfs_write(a, at, p, 1 << 20, 0, &done)))
		at += done;
	assert_int_equal(err, -ENOSPC);
	assert_true(at > 12 << 20);
	assert_int_equal(vfs_write(b, 0, p, 8192, 0, &done), -ENOSPC);
	/* What is overwritten needs nothing. */
	assert_int_equal(vfs_write(a, 4096, p, 65536, 0, &done), 0);
	/* A hole in the middle of an extent needs a piece more, from what is kept for that. */
	for (u32 i = 0; i < 200; i++)
		assert_int_equal(vfs_fallocate(a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       (3 + i * 8) * 1024ull, 1024),
				 0);
	/* What was given back can be used at once. */
	assert_int_equal(vfs_write(b, 0, p, 64 << 10, 0, &done), 0);
	assert_int_equal(vfs_truncate(a, 1 << 20), 0);
	assert_int_equal(write_all(b, 64 << 10, p, 1 << 20), 0);
	assert_int_equal(vfs_fallocate(b, FALLOC_FL_KEEP_SIZE, 0, 100 << 20), -ENOSPC);
	assert_int_equal(vfs_truncate(b, 0), 0);
	assert_int_equal(write_all(b, 0, p, 1 << 20), 0);
	vfs_iput(a);
	vfs_iput(b);
	free(p);
	close_vol();
}

/* ---- large cuts ---- */

/* A file of thousands of pieces on a volume with the smallest journal: the cut takes many transactions. */
static void cut_on(const char *args)
{
	struct inode *f;
	u8 block[1024];
	u64 done;

	memset(block, 1, sizeof(block));
	open_vol(args, 64, ": >f; : >g");
	f = get("f");
	for (u32 i = 0; i < 6000; i++)
		assert_int_equal(vfs_write(f, (u64)(i * 7919 % 6000) * 3072, block, sizeof(block), 0, &done),
				 0);
	assert_int_equal(pieces(f), 6000);
	assert_int_equal(vfs_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000000, 5000000), 0);
	assert_int_equal(vfs_truncate(f, 10000), 0);
	assert_true(pieces(f) <= 4);
	assert_true(f->blocks_512 <= 16);
	vfs_iput(f);
	close_vol();
}

static void cut_extents(void **state)
{
	(void)state;
	cut_on("-t ext4 -b 1024 -J size=1 -O has_journal,metadata_csum");
}

static void cut_pointers(void **state)
{
	(void)state;
	cut_on("-t ext3 -b 1024 -J size=1 -O has_journal");
}

static void cut_nojournal(void **state)
{
	(void)state;
	cut_on("-t ext4 -b 1024 -O ^has_journal");
}

/* ---- maps that lie ---- */

static void patch(u64 blk, u32 off, const void *p, u32 len)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/img", vol_dir);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, len, (off_t)(blk * 1024 + off)), len);
	close(fd);
}

/* A file with every other of so many blocks. */
static void make_comb(const char *args, u32 blocks, u8 root[EXT4_IBLOCK_BYTES])
{
	struct inode *f;
	u8 block[1024];
	u64 done;

	memset(block, 1, sizeof(block));
	open_vol(args, 32, ": >f");
	f = get("f");
	for (u32 i = 0; i < blocks; i += 2)
		assert_int_equal(vfs_write(f, i * 1024ull, block, sizeof(block), 0, &done), 0);
	memcpy(root, ext4_inode(f)->block, EXT4_IBLOCK_BYTES);
	vfs_iput(f);
	vol_close();
}

/* Everything that changes a map. It may fail; what is left is not looked at. */
enum shows { SHOWS, IS_BELIEVED, MAY_SHOW };

static void try_all(enum shows shows)
{
	u8 block[3072] = { 2 };
	struct inode *f;
	u64 done;
	int err;

	vol_open();
	sb = &vol_es->vfs;
	f = get("f");
	for (u32 i = 0; i < 1200; i += 20) {
		err = vfs_write(f, i * 1024ull, block, sizeof(block), 0, &done);
		assert_true(!err || err == -EUCLEAN || err == -EROFS);
		err = vfs_fallocate(f, FALLOC_FL_KEEP_SIZE, i * 1024ull, 20000);
		assert_true(!err || err == -EUCLEAN || err == -EROFS || err == -EOPNOTSUPP);
		err = vfs_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (i + 10) * 1024ull, 2048);
		assert_true(!err || err == -EUCLEAN || err == -EROFS);
	}
	err = vfs_truncate(f, 700 * 1024);
	assert_true(!err || err == -EUCLEAN || err == -EROFS);
	err = vfs_truncate(f, 0);
	assert_true(!err || err == -EUCLEAN || err == -EROFS);
	vfs_iput(f);
	if (shows != MAY_SHOW)
		assert_int_equal(health_state(&sb->health) == HEALTH_OK, shows);
	err = vfs_unmount(sb);
	assert_true(!err || err == -EUCLEAN || err == -EROFS || err == -EIO);
	vol_es = NULL;
	vol_dev_close();
	vol_remove();
}

#define NO_SUMS "-t ext4 -b 1024 -O has_journal,^metadata_csum"

/* Entry i of the root, as block number. */
static u64 child(const u8 *root, u32 i)
{
	const struct ext4_disk_extent_header *h = (const void *)root;

	assert_true(le16_get(h->depth) == 1 && le16_get(h->entries) > i);
	return ext4_extent_child((const struct ext4_disk_extent_idx *)(h + 1) + i);
}

static void lying_extents(void **state)
{
	u8 root[EXT4_IBLOCK_BYTES], junk[1024];

	(void)state;
	/* The leaf's first extent reaches over the others. */
	make_comb(NO_SUMS, 480, root);
	patch(child(root, 1), 12 + 4, &(le16){ { 0x00, 0x10 } }, 2);
	try_all(SHOWS);
	/* Its last one claims what is free, and lies in the next leaf's range. */
	make_comb(NO_SUMS, 480, root);
	patch(child(root, 0), 12 + 82 * 12 + 4, &(le16){ { 0x00, 0x08 } }, 2);
	try_all(SHOWS);
	/* Two extents have the same blocks. */
	make_comb(NO_SUMS, 480, root);
	patch(child(root, 2), 12 + 5 * 12 + 8, &(le32){ { 0x00, 0x10, 0, 0 } }, 4);
	patch(child(root, 2), 12 + 6 * 12 + 8, &(le32){ { 0x00, 0x10, 0, 0 } }, 4);
	try_all(SHOWS);
	/* A node that says it has room for one, and has one. */
	make_comb(NO_SUMS, 480, root);
	patch(child(root, 1), 2, &(le16){ { 1, 0 } }, 2);
	patch(child(root, 1), 4, &(le16){ { 1, 0 } }, 2);
	try_all(IS_BELIEVED);
	/* An empty leaf below the root. */
	make_comb(NO_SUMS, 480, root);
	patch(child(root, 1), 2, &(le16){ { 0, 0 } }, 2);
	try_all(IS_BELIEVED);
	/* No node at all. */
	make_comb(NO_SUMS, 480, root);
	memset(junk, 0, sizeof(junk));
	patch(child(root, 1), 0, junk, sizeof(junk));
	try_all(SHOWS);
}

/* Pointers that lead to their own block, or many to one. */
static void lying_pointers(void **state)
{
	u8 root[EXT4_IBLOCK_BYTES];
	le32 all[256];
	const le32 *ptr = (const void *)root;

	(void)state;
	for (u32 kind = 0; kind < 4; kind++) {
		make_comb("-t ext3 -b 1024 -O has_journal", 1200, root);
		for (u32 i = 0; i < ARRAY_SIZE(all); i++)
			all[i] = ptr[12 + kind % 2];
		patch(le32_get(ptr[12 + kind / 2]), 0, all, sizeof(all));
		try_all(SHOWS);
	}
}

/* Anything, anywhere in a block of the map. */
static void random_lies(void **state)
{
	(void)state;
	for (u32 round = 0; round < 12; round++) {
		u8 root[EXT4_IBLOCK_BYTES], junk[8];
		bool extents = round % 2;
		u64 blk;

		make_comb(extents ? NO_SUMS : "-t ext3 -b 1024 -O has_journal", extents ? 480 : 1200, root);
		blk = extents ? child(root, rnd(3)) : le32_get(((const le32 *)root)[12 + rnd(2)]);
		for (u32 i = 0; i < 1 + round % 8; i++) {
			u32 len = 1 + rnd(sizeof(junk));

			for (u32 k = 0; k < len; k++)
				junk[k] = (u8)rnd(256) & (u8) - (int)rnd(2);
			patch(blk, rnd(2) ? rnd(64) : rnd(1024 - sizeof(junk)), junk, len);
		}
		try_all(MAY_SHOW);
	}
}

/* ---- long blocks ---- */

static struct inode *open_long(const char *args, u32 mib, const char *src, u32 sector_bytes,
			       const char *fs_opts)
{
	vol_make(args, mib, src);
	vol_dev_fault(true);
	vol_dev->sector_bytes = MAX(vol_dev->sector_bytes, sector_bytes);
	vol_mount_dev(false, fs_opts);
	sb = &vol_es->vfs;
	return get("f");
}

/* What is in the file, and after the volume was put away and looked at. */
static void close_long(struct inode *inode, const u8 *bytes, u64 n)
{
	u8 *now = malloc(n + 1);
	u64 done;

	assert_non_null(now);
	for (u32 again = 0; again < 2; again++) {
		assert_int_equal(vfs_read(inode, 0, now, n + 1, &done), 0);
		assert_int_equal(done, n);
		assert_memory_equal(now, bytes, n);
		vfs_iput(inode);
		vol_close();
		vol_fsck();
		if (!again) {
			vol_open_rdonly();
			sb = &vol_es->vfs;
			inode = get("f");
		}
	}
	vol_remove();
	free(now);
}

/* What a write of [off, off + len) brings to the device, in one piece. */
static u64 written(struct inode *inode, u8 *shadow, u64 off, u64 len)
{
	u64 from = dev_fault_records(vol_dev), done;
	struct fault_record r;

	for (u64 i = 0; i < len; i++)
		shadow[off + i] = (u8)rnd(256);
	assert_int_equal(vfs_write(inode, off, shadow + off, len, 0, &done), 0);
	assert_int_equal(done, len);
	do
		assert_int_equal(dev_fault_record(vol_dev, from++, &r), 0);
	while (r.op != FAULT_WRITE);
	return r.len_bytes;
}

/* Of a block that the file has, only pages that change are written; what is a hole, was promised, or ends the file is written whole. */
static void parts_of_blocks(void **state)
{
	enum { BLOCK = 65536, SIZE = 3 * BLOCK + 5000 };
	u8 *shadow = calloc(1, SIZE);
	struct inode *inode =
		open_long("-t ext4 -b 65536 -O ^has_journal", 16, "head -c 65536 /dev/urandom >f", 1, NULL);
	u64 done;

	(void)state;
	assert_int_equal(vfs_read(inode, 0, shadow, BLOCK, &done), 0);
	assert_int_equal(vfs_truncate(inode, SIZE), 0);
	assert_int_equal(vfs_fallocate(inode, 0, 2 * BLOCK, BLOCK), 0);
	assert_int_equal(written(inode, shadow, 8192, 4096), 4096);
	assert_int_equal(written(inode, shadow, 5000, 1), 4096);
	assert_int_equal(written(inode, shadow, 12287, 2), 8192);
	assert_int_equal(written(inode, shadow, BLOCK - 1, 1), 4096);
	assert_int_equal(written(inode, shadow, BLOCK + 8192, 4096), BLOCK);
	assert_int_equal(written(inode, shadow, BLOCK + 20000, 4096), 8192);
	assert_int_equal(written(inode, shadow, 2 * BLOCK + 8192, 4096), BLOCK);
	assert_int_equal(written(inode, shadow, 3 * BLOCK + 100, 4096), BLOCK);
	assert_int_equal(written(inode, shadow, 3 * BLOCK + 200, 10), BLOCK);
	close_long(inode, shadow, SIZE);
	free(shadow);
}

/* A device's sector is not divided. */
static void parts_of_sectors(void **state)
{
	enum { SIZE = 2 * 65536 };
	u8 *shadow = calloc(1, SIZE);
	struct inode *inode =
		open_long("-t ext4 -b 65536 -O ^has_journal", 16, "printf %131072s >f", 16384, NULL);

	(void)state;
	memset(shadow, ' ', SIZE);
	assert_int_equal(written(inode, shadow, 8192, 4096), 16384);
	assert_int_equal(written(inode, shadow, 65536 + 16383, 2), 32768);
	close_long(inode, shadow, SIZE);
	free(shadow);
}

/* What alloc says of the block at off. Nothing comes of it. */
static u32 said(struct inode *inode, u64 off)
{
	struct mapping m = { 0 };
	u32 flags;

	rw_write_lock(&inode->lock);
	rw_read_lock(&inode->map_lock);
	assert_int_equal(inode->ops->alloc(inode, off, sb->block_bytes, &m), 0);
	flags = m.flags;
	inode->ops->abort(inode, &m);
	map_done(&m);
	rw_read_unlock(&inode->map_lock);
	rw_write_unlock(&inode->lock);
	return flags;
}

/* Bytes that are not written stay only where the file has them on the device. */
static void who_keeps(void **state)
{
	static const struct {
		const char *args, *fs_opts;
		u32 hole, promised,
			there; /* what is said of a block of the kind; promised ~0: there is none such */
	} kind[] = {
		{ "-t ext4 -b 8192 -O ^has_journal", NULL, MAP_NEW, 0, MAP_KEPT },
		{ "-t ext4 -b 8192 -O has_journal -J size=8", "data=ordered", MAP_NEW, 0, MAP_KEPT },
		{ "-t ext4 -b 8192 -O has_journal -J size=8", "data=journal", MAP_NEW, 0, 0 },
		{ "-t ext2 -b 8192", NULL, MAP_NEW, ~0u, MAP_KEPT },
		/* The hole is in a cluster that the file has. */
		{ "-t ext4 -b 8192 -C 131072 -O bigalloc,^has_journal", NULL, 0, 0, MAP_KEPT },
	};
	u8 *bytes = calloc(1, 24576);
	u64 done;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(kind); i++) {
		struct inode *inode = open_long(kind[i].args, 64, "printf %8192s >f", 1, kind[i].fs_opts);

		memset(bytes, ' ', 8192);
		assert_int_equal(vfs_truncate(inode, 24576), 0);
		assert_int_equal(vfs_fallocate(inode, 0, 16384, 8192),
				 kind[i].promised == ~0u ? -EOPNOTSUPP : 0);
		assert_int_equal(said(inode, 0), kind[i].there);
		assert_int_equal(said(inode, 8192), kind[i].hole);
		if (kind[i].promised != ~0u)
			assert_int_equal(said(inode, 16384), kind[i].promised);
		dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, false);
		assert_int_equal(vfs_write(inode, 10, "x", 1, 0, &done), -EIO);
		close_long(inode, bytes, 24576);
	}
	free(bytes);
}

/* What a volume holds behind the end of a file in its last block does not come to light, whichever part of the block is written. */
static void junk_behind_end(void **state)
{
	enum { BLOCK = 65536, END = 10000, SIZE = 2 * BLOCK };
	u8 *shadow = calloc(1, SIZE), *junk = malloc(BLOCK);
	struct inode *inode;
	struct mapping m;

	(void)state;
	for (u32 how = 0; how < 3; how++) {
		inode = open_long("-t ext4 -b 65536 -O ^has_journal", 16, "printf %10000s >f", 1, NULL);
		memset(shadow, ' ', END);
		memset(shadow + END, 0, SIZE - END);
		memset(junk, 'j', BLOCK);
		rw_read_lock(&inode->map_lock);
		assert_int_equal(inode->ops->map(inode, 0, BLOCK, &m), 0);
		rw_read_unlock(&inode->map_lock);
		assert_int_equal(
			blkdev_write(vol_dev, m.dev_off_bytes + END / 512 * 512 + 512, junk, BLOCK / 2, 0),
			0);
		map_done(&m);
		if (how == 0)
			assert_int_equal(written(inode, shadow, 100, 100), BLOCK);
		if (how == 1)
			assert_int_equal(written(inode, shadow, SIZE - BLOCK, BLOCK), BLOCK);
		assert_int_equal(vfs_truncate(inode, SIZE), 0);
		assert_int_equal(written(inode, shadow, 40000, 100), 4096);
		close_long(inode, shadow, SIZE);
	}
	free(shadow);
	free(junk);
}

/* A part that cannot be read or written leaves the rest of its block as it was. */
static void parts_that_fail(void **state)
{
	enum { SIZE = 2 * 65536 };
	u8 *shadow = malloc(SIZE), byte = 1;
	struct inode *inode = open_long("-t ext4 -b 65536 -C 131072 -O bigalloc,^has_journal", 64,
					"head -c 131072 /dev/urandom >f", 1, NULL);
	u64 done;

	(void)state;
	assert_int_equal(vfs_read(inode, 0, shadow, SIZE, &done), 0);
	dev_fault_nth(vol_dev, FAULT_READ, 1, -EIO, false);
	assert_int_equal(vfs_write(inode, 70000, &byte, 1, 0, &done), -EIO);
	assert_int_equal(done, 0);
	dev_fault_nth(vol_dev, FAULT_WRITE, 1, -EIO, false);
	assert_int_equal(vfs_write(inode, 70000, &byte, 1, 0, &done), -EIO);
	assert_int_equal(done, 0);
	assert_int_equal(written(inode, shadow, 65536, 8192), 8192);
	close_long(inode, shadow, SIZE);
	free(shadow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(bytes_4k, vol_clean),
		cmocka_unit_test_teardown(bytes_1k, vol_clean),
		cmocka_unit_test_teardown(bytes_pointers, vol_clean),
		cmocka_unit_test_teardown(bytes_nojournal, vol_clean),
		cmocka_unit_test_teardown(bytes_clusters, vol_clean),
		cmocka_unit_test_teardown(bytes_8k, vol_clean),
		cmocka_unit_test_teardown(bytes_64k, vol_clean),
		cmocka_unit_test_teardown(parts_of_blocks, vol_clean),
		cmocka_unit_test_teardown(parts_of_sectors, vol_clean),
		cmocka_unit_test_teardown(who_keeps, vol_clean),
		cmocka_unit_test_teardown(junk_behind_end, vol_clean),
		cmocka_unit_test_teardown(parts_that_fail, vol_clean),
		cmocka_unit_test_teardown(out_of_inode, vol_clean),
		cmocka_unit_test_teardown(few_pieces, vol_clean),
		cmocka_unit_test_teardown(full, vol_clean),
		cmocka_unit_test_teardown(cut_extents, vol_clean),
		cmocka_unit_test_teardown(cut_pointers, vol_clean),
		cmocka_unit_test_teardown(cut_nojournal, vol_clean),
		cmocka_unit_test_teardown(lying_extents, vol_clean),
		cmocka_unit_test_teardown(lying_pointers, vol_clean),
		cmocka_unit_test_teardown(random_lies, vol_clean),
	};

	rnd_seed();
	return cmocka_run_group_tests_name("ext4 map_edit", tests, NULL, NULL);
}
