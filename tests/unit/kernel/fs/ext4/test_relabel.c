/*
 * New labels and UUIDs: dumpe2fs reads them from the superblock and from each copy, e2fsck finds nothing, the kernel mounts; what sums start
 * from stays; after a crash at any write the volume has the old names or the new ones, and nothing is to be mended.
 */
#include "volume.h"

#include "lib/crc.h"
#include <errno.h>
#include <string.h>

#define MIB 16u

static const struct shape {
	const char *args;
	u32 block_bytes;
	bool sums, seeded, uninit;
} shapes[] = {
	{ "-t ext2 -O none,filetype,sparse_super -b 1024 -g 1024", 1024, false, false, false },
	{ "-t ext3 -O none,filetype,sparse_super,has_journal -b 4096 -g 2048", 4096, false, false, false },
	{ "-t ext4 -O "
	  "none,filetype,sparse_super,has_journal,extent,64bit,flex_bg,dir_index,ext_attr,metadata_csum "
	  "-b 1024 -g 1024",
	  1024, true, false, false },
	{ "-t ext4 -O "
	  "none,filetype,sparse_super,has_journal,extent,64bit,dir_index,metadata_csum,orphan_file -b 4096 "
	  "-g 1024",
	  4096, true, false, false },
	{ "-t ext4 -O "
	  "none,filetype,sparse_super,has_journal,extent,meta_bg,metadata_csum,metadata_csum_seed -b 1024 -g "
	  "1024",
	  1024, true, true, false },
	{ "-t ext4 -O none,filetype,extent,metadata_csum -b 2048 -g 1024", 2048, true, false, false },
	{ "-t ext4 -O none,filetype,sparse_super,has_journal,extent,flex_bg,uninit_bg -b 1024 -g 1024", 1024,
	  false, false, true },
};

static const u8 given[16] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88,
			      0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01 };

static void make(const struct shape *s)
{
	vol_make(s->args, MIB,
		 "mkdir d && for i in $(seq 300); do echo $i >d/a-long-name-of-a-file-$i; done");
	run("tune2fs -L first %s/img >/dev/null", vol_dir);
}

static int relabel(const struct relabel *what)
{
	const struct mount_opts opts = { .rdonly = true };
	int err;

	vol_dev_open();
	err = ext4_fs_type.relabel(&vol_dev, 1, &opts, what);
	vol_dev_close();
	return err;
}

static void read_super(struct ext4_disk_super *d)
{
	vol_dev_open();
	assert_int_equal(blkdev_read(vol_dev, EXT4_SUPER_OFF, d, sizeof(*d)), 0);
	vol_dev_close();
}

/* The superblock and each of its copies say so. */
static void assert_named(const struct shape *s, const char *label, const u8 *uuid, bool seeded)
{
	struct text want = { 0 };
	char copies[4096], *p = copies;

	text_add_uuid(&want, uuid);
	output(copies, sizeof(copies),
	       "echo %u; dumpe2fs %s/img 2>/dev/null | grep -o 'Backup superblock at [0-9]*' | grep -o "
	       "'[0-9]*$'",
	       EXT4_SUPER_OFF / s->block_bytes, vol_dir);
	for (char *end;; p = end) {
		u64 blk = strtoull(p, &end, 10);
		char text[8192], line[64];

		if (end == p)
			break;
		/* dumpe2fs takes block 0 for "no copy asked for". */
		if (blk)
			output(text, sizeof(text),
			       "dumpe2fs -o superblock=%llu -o blocksize=%u -h %s/img 2>&1",
			       (unsigned long long)blk, s->block_bytes, vol_dir);
		else
			output(text, sizeof(text), "dumpe2fs -h %s/img 2>&1", vol_dir);
		snprintf(line, sizeof(line), "Filesystem volume name:   %s\n", *label ? label : "<none>");
		assert_non_null(strstr(text, line));
		snprintf(line, sizeof(line), "Filesystem UUID:          %s\n", text_str(&want));
		assert_non_null(strstr(text, line));
		assert_int_equal(strstr(text, "metadata_csum_seed") != NULL, seeded);
	}
	text_free(&want);
}

static void assert_kernel_mounts(void)
{
	if (!vol_kernel_can())
		return;
	vol_kernel("img", "rw");
	run("test $(ls %s/mnt/d | wc -l) = 300 && test $(cat %s/mnt/d/a-long-name-of-a-file-7) = 7 && touch "
	    "%s/mnt/new",
	    vol_dir, vol_dir, vol_dir);
	vol_kernel_end();
	vol_fsck();
}

static void test_random(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		const struct relabel what = { .uuid_random = true };
		struct ext4_disk_super before, after;

		make(&shapes[i]);
		read_super(&before);
		assert_int_equal(relabel(&what), 0);
		read_super(&after);
		assert_memory_not_equal(before.uuid, after.uuid, sizeof(after.uuid));
		assert_int_equal(after.uuid[6] >> 4, 4);
		assert_int_equal(after.uuid[8] >> 6, 2);
		assert_named(&shapes[i], "first", after.uuid, shapes[i].seeded);
		/* Nothing else has changed, so that no torn write can matter. */
		memcpy(before.uuid, after.uuid, sizeof(after.uuid));
		assert_memory_equal(&before, &after, sizeof(after));
		vol_fsck();
		assert_kernel_mounts();
		vol_remove();
	}
}

static void test_given(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct text notice = { 0 };
		const struct relabel what = { .label = "0123456789abcdef", .uuid = given, .notice = &notice };
		struct ext4_disk_super before, after;
		int err;

		make(&shapes[i]);
		read_super(&before);
		err = relabel(&what);
		read_super(&after);
		assert_int_equal(err, shapes[i].uninit ? -EOPNOTSUPP : 0);
		if (err) {
			assert_non_null(strstr(err_text(), "uninit_bg"));
			assert_memory_equal(&before, &after, sizeof(after));
		} else {
			assert_named(&shapes[i], what.label, given, shapes[i].sums);
			assert_int_equal(strstr(text_str(&notice), "metadata_csum_seed") != NULL,
					 shapes[i].sums && !shapes[i].seeded);
		}
		vol_fsck();
		assert_kernel_mounts();
		text_free(&notice);
		vol_remove();
	}
}

static void test_label(void **state)
{
	const struct relabel none = { .label = "" }, longer = { .label = "0123456789abcdefg" };
	struct ext4_disk_super before, after;

	(void)state;
	make(&shapes[2]);
	read_super(&before);
	assert_int_equal(relabel(&longer), -EINVAL);
	read_super(&after);
	assert_memory_equal(&before, &after, sizeof(after));
	assert_int_equal(relabel(&none), 0);
	assert_named(&shapes[2], "", before.uuid, false);
	vol_fsck();
	vol_remove();
}

static void test_refused(void **state)
{
	const struct relabel uuid = { .uuid_random = true }, label = { .label = "second" };
	struct ext4_disk_super d;

	(void)state;
	make(&shapes[3]);
	run("debugfs -w -R 'feature stable_inodes' %s/img >/dev/null 2>&1", vol_dir);
	assert_int_equal(relabel(&uuid), -EOPNOTSUPP);
	assert_non_null(strstr(err_text(), "stable_inodes"));
	assert_int_equal(relabel(&label), 0);
	vol_fsck();
	vol_remove();

	/* Of a volume that has only a copy left nothing is changed. */
	vol_make("-t ext4 -O none,filetype,sparse_super,has_journal,extent,metadata_csum -b 1024", MIB, NULL);
	run("dd if=/dev/zero of=%s/img bs=1024 seek=1 count=1 conv=notrunc status=none", vol_dir);
	assert_int_equal(relabel(&label), -EOPNOTSUPP);
	assert_non_null(strstr(err_text(), "superblock is damaged"));
	read_super(&d);
	assert_int_equal(le16_get(d.magic), 0);
	vol_remove();
}

/* ---- the power goes ---- */

static void change(void)
{
	struct inode *root, *inode;
	const struct cred cred = { 0 };

	assert_int_equal(vfs_iget(&vol_es->vfs, EXT4_INO_ROOT, &root), 0);
	for (u32 i = 0; i < 40; i++) {
		char name[16];
		struct name n;

		snprintf(name, sizeof(name), "new%u", i);
		n = NAME(name);
		assert_int_equal(vfs_create(root, &n, S_IFDIR | 0755, 0, 0, NULL, &cred, &inode), 0);
		vfs_iput(inode);
	}
	vfs_iput(root);
	assert_int_equal(vfs_sync(&vol_es->vfs), 0);
}

/* The image as it was when the power went after that, before anything was home. */
static void leave_dirty(void)
{
	vol_open();
	change();
	run("cp %s/img %s/dirty", vol_dir, vol_dir);
	vol_close();
	run("mv %s/dirty %s/img", vol_dir, vol_dir);
}

static void crash_run(const struct shape *s, const u8 *uuid, bool dirty)
{
	const struct relabel what = { .label = "second", .uuid = uuid, .uuid_random = !uuid };
	struct ext4_disk_super before, after, d;
	u32 seen[2] = { 0 };
	struct vol_cuts cuts;

	make(s);
	if (dirty)
		leave_dirty();
	read_super(&before);
	assert_int_equal(!(le32_get(before.feature_incompat) & EXT4_INCOMPAT_RECOVER), !dirty);
	vol_cuts_begin(&cuts);
	assert_int_equal(relabel(&what), 0);
	read_super(&after);
	while (vol_cuts_next(&cuts)) {
		bool renamed;

		if (dirty) {
			vol_open();
			vol_close();
		}
		vol_fsck();
		read_super(&d);
		renamed = !memcmp(d.uuid, after.uuid, sizeof(d.uuid));
		assert_memory_equal(d.uuid, renamed ? after.uuid : before.uuid, sizeof(d.uuid));
		assert_string_equal((const char *)d.volume_name, renamed ? "second" : "first");
		seen[renamed]++;
		if (!dirty)
			assert_kernel_mounts();
	}
	assert_true(seen[1]);
	assert_true(!dirty || seen[0]);
	vol_remove();
}

static void test_crash(void **state)
{
	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		crash_run(&shapes[i], NULL, false);
		if (!shapes[i].uninit)
			crash_run(&shapes[i], given, false);
	}
	crash_run(&shapes[2], NULL, true);
	crash_run(&shapes[2], given, true);
	crash_run(&shapes[6], NULL, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random, vol_clean),
		cmocka_unit_test_teardown(test_given, vol_clean),
		cmocka_unit_test_teardown(test_label, vol_clean),
		cmocka_unit_test_teardown(test_refused, vol_clean),
		cmocka_unit_test_teardown(test_crash, vol_clean),
	};

	return cmocka_run_group_tests_name("fs/ext4/relabel", tests, NULL, NULL);
}
