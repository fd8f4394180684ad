/*
 * Attributes set and removed at random against a model, on every place that they can have, alone and in shared blocks; then e2fsck and the kernel
 * say what is there.
 */
#include "volume.h"

#include <errno.h>
#include <sys/xattr.h>

#define FILES     12u
#define NAMES     40u
#define VALUE_MAX 3000u

/* What an inode should have. */
struct model {
	struct {
		bool there;
		u32 len;
		u8 value[VALUE_MAX];
	} attr[NAMES];
};

static struct model *model; /* [FILES] */
static struct inode *file[FILES];

static const struct shape {
	const char *args;
	u32 mib;
} shapes[] = {
	{ "-t ext4 -O ^has_journal,metadata_csum,64bit -I 256", 16 },
	{ "-t ext4 -O has_journal,metadata_csum,64bit -I 256 -b 1024", 16 },
	{ "-t ext4 -O ^has_journal,metadata_csum,^64bit -I 1024 -b 1024", 16 },
	{ "-t ext4 -O ^has_journal,^metadata_csum,uninit_bg -I 128 -b 4096", 16 },
	{ "-t ext2 -I 128 -b 1024 -O ^ext_attr", 16 },
	{ "-t ext4 -O ^has_journal,metadata_csum,inline_data -I 512", 16 },
};

static const char *name_of(u32 n)
{
	static const char *const prefix[] = { "user.", "trusted.", "security." };
	static char s[300];
	u32 len = (u32)snprintf(s, sizeof(s), "%s%u", prefix[n % 3], n * 7919);

	/* Lengths up to the longest. */
	for (u32 i = 0; i < n * n % 200 && len < 254; i++)
		s[len++] = (char)('a' + (n + i) % 26);
	s[len] = 0;
	return s;
}

static void open_files(void)
{
	for (u32 i = 0; i < FILES; i++) {
		char path[16];

		snprintf(path, sizeof(path), "f%u", i);
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &file[i]), 0);
	}
}

static void close_files(void)
{
	for (u32 i = 0; i < FILES; i++)
		vfs_iput(file[i]);
}

static void assert_file(u32 i)
{
	u8 buf[VALUE_MAX];
	u32 len;

	for (u32 n = 0; n < NAMES; n++) {
		int err = vfs_getxattr(file[i], name_of(n), buf, sizeof(buf), &len);

		if (!model[i].attr[n].there) {
			assert_int_equal(err, -ENODATA);
			continue;
		}
		assert_int_equal(err, 0);
		assert_int_equal(len, model[i].attr[n].len);
		assert_memory_equal(buf, model[i].attr[n].value, len);
	}
}

static void step(void)
{
	u32 i = rnd(FILES), n = rnd(NAMES), len = rnd(3) ? rnd(40) : rnd(rnd(4) ? 400 : VALUE_MAX),
	    flags = rnd(8)   ? 0
		    : rnd(2) ? XATTR_CREATE
			     : XATTR_REPLACE;
	bool there = model[i].attr[n].there;
	u8 value[VALUE_MAX];
	int err;

	if (!rnd(3)) {
		err = vfs_removexattr(file[i], name_of(n));
		assert_int_equal(err, there ? 0 : -ENODATA);
		model[i].attr[n].there = false;
		return;
	}
	for (u32 k = 0; k < len; k++)
		value[k] = (u8)rnd(256);
	err = vfs_setxattr(file[i], name_of(n), value, len, flags);
	if (there && flags == XATTR_CREATE) {
		assert_int_equal(err, -EEXIST);
	} else if (!there && flags == XATTR_REPLACE) {
		assert_int_equal(err, -ENODATA);
	} else if (err != -ENOSPC) {
		assert_int_equal(err, 0);
		model[i].attr[n].there = true;
		model[i].attr[n].len = len;
		memcpy(model[i].attr[n].value, value, len);
	}
}

/* What lies in the inode beside its attributes stays. */
static void assert_content(u32 i)
{
	char buf[200], want[200];
	u64 done;

	snprintf(want, sizeof(want), "%0120u\n", i);
	assert_int_equal(vfs_read(file[i], 0, buf, sizeof(buf), &done), 0);
	assert_int_equal(done, strlen(want));
	assert_memory_equal(buf, want, done);
}

/* The same, as the kernel sees it. */
static void assert_kernel(void)
{
	if (!vol_kernel_can())
		return;
	vol_kernel("img", "ro");
	for (u32 i = 0; i < FILES; i++) {
		char path[128];
		u8 buf[VALUE_MAX];

		snprintf(path, sizeof(path), "%s/mnt/f%u", vol_dir, i);
		for (u32 n = 0; n < NAMES; n++) {
			ssize_t len = getxattr(path, name_of(n), buf, sizeof(buf));

			if (!model[i].attr[n].there) {
				assert_int_equal(len, -1);
				continue;
			}
			assert_int_equal(len, model[i].attr[n].len);
			assert_memory_equal(buf, model[i].attr[n].value, (size_t)len);
		}
	}
	vol_kernel_end();
}

static void test_random(void **state)
{
	(void)state;
	rnd_seed();
	model = calloc(FILES, sizeof(*model));
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		memset(model, 0, FILES * sizeof(*model));
		vol_make(shapes[s].args, shapes[s].mib,
			 "for i in $(seq 0 11); do printf '%0120d\\n' $i >f$i; done");
		for (u32 round = 0; round < 3; round++) {
			vol_open();
			open_files();
			for (u32 i = 0; i < 1500; i++) {
				step();
				if (i % 100 == 0)
					assert_file(rnd(FILES));
			}
			for (u32 i = 0; i < FILES; i++) {
				assert_file(i);
				assert_content(i);
			}
			close_files();
			vol_close();
			vol_fsck();
			assert_kernel();
		}
		vol_remove();
	}
	free(model);
}

static u32 refs_of_block(u64 blk)
{
	struct ext4_disk_xattr_header head;
	u64 off = blk << vol_es->block_bits;
	struct buffer_head *bh = bh_find(vol_dev, blk);

	if (bh)
		memcpy(&head, bh->data, sizeof(head));
	else
		assert_int_equal(blkdev_read(vol_dev, off, &head, sizeof(head)), 0);
	bh_put(bh);
	return le32_get(head.refcount);
}

/* The same list on every file: one block, counted; a change of one makes a copy; back again, shared again. */
static void test_shared(void **state)
{
	u64 blk, free_before;
	struct kstatfs st = { 0 };

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum -I 128 -b 1024", 16,
		 "for i in $(seq 0 11); do echo $i >f$i; done");
	vol_open();
	open_files();
	assert_int_equal(vfs_statfs(&vol_es->vfs, &st), 0);
	free_before = st.blocks_free;
	for (u32 i = 0; i < FILES; i++) {
		assert_int_equal(vfs_setxattr(file[i], "user.one", "1", 1, 0), 0);
		assert_int_equal(vfs_setxattr(file[i], "user.two", "22", 2, 0), 0);
		assert_int_equal(file[i]->blocks_512, 4);
	}
	blk = ext4_inode(file[0])->xattr_blk;
	for (u32 i = 0; i < FILES; i++)
		assert_int_equal(ext4_inode(file[i])->xattr_blk, blk);
	assert_int_equal(refs_of_block(blk), FILES);
	memset(&st, 0, sizeof(st));
	assert_int_equal(vfs_statfs(&vol_es->vfs, &st), 0);
	assert_int_equal(st.blocks_free, free_before - 1);
	assert_int_equal(vfs_setxattr(file[3], "user.two", "other", 5, 0), 0);
	assert_int_not_equal(ext4_inode(file[3])->xattr_blk, blk);
	assert_int_equal(refs_of_block(blk), FILES - 1);
	assert_int_equal(vfs_setxattr(file[3], "user.two", "22", 2, 0), 0);
	assert_int_equal(ext4_inode(file[3])->xattr_blk, blk);
	for (u32 i = 0; i < FILES; i += 2) {
		assert_int_equal(vfs_removexattr(file[i], "user.one"), 0);
		assert_int_equal(vfs_removexattr(file[i], "user.two"), 0);
		assert_int_equal(ext4_inode(file[i])->xattr_blk, 0);
		assert_int_equal(file[i]->blocks_512, 2);
	}
	assert_int_equal(refs_of_block(blk), FILES / 2);
	close_files();
	vol_close();
	vol_fsck();
}

/* A block has at most 1024 owners. */
static void test_share_limit(void **state)
{
	u64 first = 0;
	u32 same = 0, other = 0;

	(void)state;
	vol_make("-t ext4 -O ^has_journal,metadata_csum -I 128 -b 1024 -N 2048", 32,
		 "for i in $(seq 0 1100); do echo >g$i; done");
	vol_open();
	for (u32 i = 0; i <= 1100; i++) {
		struct inode *inode;
		char path[16];

		snprintf(path, sizeof(path), "g%u", i);
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &inode), 0);
		assert_int_equal(vfs_setxattr(inode, "user.name", "value", 5, 0), 0);
		if (!first)
			first = ext4_inode(inode)->xattr_blk;
		if (ext4_inode(inode)->xattr_blk == first)
			same++;
		else
			other++;
		vfs_iput(inode);
	}
	assert_int_equal(same, EXT4_XATTR_REFCOUNT_MAX);
	assert_int_equal(other, 1101 - EXT4_XATTR_REFCOUNT_MAX);
	vol_close();
	vol_fsck();
}

/* A full disk: who gets no block is told so and keeps what he had. */
static void test_full(void **state)
{
	static const char *const args[] = {
		"-t ext4 -O ^has_journal,metadata_csum -I 128 -b 1024 -N 2048",
		"-t ext4 -O has_journal,metadata_csum -I 128 -b 1024 -N 2048 -J size=1"
	};

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(args); s++) {
		u8 v[900], buf[900];
		struct inode *inode;
		u32 got = 0, len;
		u64 done, at = 0;

		vol_make(args[s], 12, "for i in $(seq 0 1100); do echo >g$i; done; : >fill");
		vol_open();
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, "fill", false, &inode), 0);
		memset(v, 'f', sizeof(v));
		while (!vfs_write(inode, at, v, sizeof(v), 0, &done) && done)
			at += done;
		vfs_iput(inode);
		for (u32 i = 0; i <= 1100; i++) {
			char path[16];
			int err;

			snprintf(path, sizeof(path), "g%u", i);
			assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &inode), 0);
			memset(v, (int)i, sizeof(v));
			snprintf((char *)v, sizeof(v), "%u", i);
			err = vfs_setxattr(inode, "user.large", v, sizeof(v), 0);
			if (err) {
				assert_int_equal(err, -ENOSPC);
				assert_int_equal(vfs_getxattr(inode, "user.large", buf, sizeof(buf), &len),
						 -ENODATA);
			} else {
				assert_int_equal(vfs_getxattr(inode, "user.large", buf, sizeof(buf), &len),
						 0);
				assert_memory_equal(v, buf, sizeof(v));
				got++;
			}
			vfs_iput(inode);
		}
		assert_true(got < 1101);
		vol_close();
		vol_fsck();
		vol_remove();
	}
}

/* An ACL in the system's form, and the mode that goes with it. */
static void test_acl(void **state)
{
	static const u8 acl[] = {
		2,  0, 0, 0,                         /* version */
		1,  0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* user::rwx */
		2,  0, 5, 0, 0x39, 5,    0,    0,    /* user:1337:r-x */
		4,  0, 4, 0, 0xff, 0xff, 0xff, 0xff, /* group::r-- */
		16, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* mask::r-x */
		32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, /* other::--- */
	};
	struct inode *inode;
	char text[4096];
	u8 buf[256];
	u32 len;

	(void)state;
	vol_make(shapes[0].args, 16, "echo hello >f0; mkdir d");
	vol_open();
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "f0", false, &inode), 0);
	assert_int_equal(vfs_setxattr(inode, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
	assert_int_equal(inode->mode & 07777, 0750);
	assert_int_equal(vfs_getxattr(inode, "system.posix_acl_access", buf, sizeof(buf), &len), 0);
	assert_int_equal(len, sizeof(acl));
	assert_memory_equal(buf, acl, len);
	vfs_iput(inode);
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, "d", false, &inode), 0);
	assert_int_equal(vfs_setxattr(inode, "system.posix_acl_default", acl, sizeof(acl), 0), 0);
	vfs_iput(inode);
	vol_close();
	vol_fsck();
	if (!vol_kernel_can())
		return;
	vol_kernel("img", "ro");
	output(text, sizeof(text), "getfacl -cn %s/mnt/f0 %s/mnt/d 2>/dev/null", vol_dir, vol_dir);
	assert_non_null(strstr(text, "user:1337:r-x\ngroup::r--\nmask::r-x\nother::---"));
	assert_non_null(strstr(text, "default:user:1337:r-x"));
	vol_kernel_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random, vol_clean),
		cmocka_unit_test_teardown(test_shared, vol_clean),
		cmocka_unit_test_teardown(test_share_limit, vol_clean),
		cmocka_unit_test_teardown(test_full, vol_clean),
		cmocka_unit_test_teardown(test_acl, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
