/*
 * Inodes change while nobody counts, as fast commits change them: owners in their slots, blocks, numbers that come and go. Afterwards e2fsck finds usage
 * exact; or a quota file is damaged, and then the changes are kept and the volume says so.
 */
#include "volume.h"

#define FILES 300u

#define ALL "-E quotatype=usrquota:grpquota:prjquota"

static u32 ino[FILES]; /* of the files, by number */

static void make(const char *args)
{
	char list[8192], *at = list;

	vol_make(args, 48, "for i in $(seq 300); do head -c $((i * 100)) /dev/zero >f$i; done");
	/* mke2fs leaves out of its quota files what it copied. */
	(void)!try_run("e2fsck -fy %s/img >/dev/null 2>&1", vol_dir);
	vol_fsck();
	output(list, sizeof(list), "debugfs -R 'ls -p /' %s/img 2>/dev/null | grep '/f[0-9]*/' | cut -d/ -f2",
	       vol_dir);
	for (u32 i = 0; i < FILES; i++)
		ino[i] = (u32)strtoul(at, &at, 10);
	assert_true(ino[FILES - 1]);
}

static void add(struct ext4_super *es, struct ext4_recount *r, u32 nr)
{
	assert_int_equal(ext4_recount_add(es, r, nr), 0);
}

/* Behind everybody's back. */
static void set_owner(struct ext4_super *es, u32 nr, u32 id)
{
	struct ext4_disk_inode *raw;
	struct ext4_handle h;
	struct buffer_head *bh;

	assert_int_equal(ext4_begin(es, EXT4_CREDITS_INODE, 0, &h), 0);
	assert_int_equal(ext4_inode_slot(&h, nr, &bh, &raw), 0);
	bh_lock(bh);
	raw->uid_lo = raw->gid_lo = le16_put((u16)id);
	raw->uid_hi = raw->gid_hi = le16_put((u16)(id >> 16));
	raw->projid = le32_put(id);
	ext4_inode_slot_done(&h, nr, bh, raw);
	assert_int_equal(ext4_end(&h, 0), 0);
	bh_put(bh);
}

static void empty(struct ext4_super *es, u32 nr)
{
	struct ext4_inode *ei = ext4_inode_private(es, nr);
	struct ext4_handle h;

	assert_int_equal(ext4_inode_load(ei), 0);
	es->set_ops(&ei->vfs);
	inode_set_size(&ei->vfs, 0);
	assert_int_equal(ext4_map_cut(ei, 0), 0);
	assert_int_equal(ext4_begin(es, EXT4_CREDITS_INODE, 0, &h), 0);
	assert_int_equal(ext4_end(&h, ext4_inode_write(&h, ei)), 0);
	ext4_inode_privatep(&ei);
}

static int change(struct ext4_super *es, void *ctx)
{
	const u32 others[] = { 1, 3, 4, 7, 8, es->inodes, es->inodes + 1, UINT32_MAX };
	struct ext4_recount r = { 0 };
	bool damaged = *(const bool *)ctx;

	for (u32 i = 0; i < FILES; i++)
		add(es, &r, ino[i]);
	/* What counts for nobody, is nobody's, or is named again. */
	for (u32 i = 0; i < ARRAY_SIZE(others); i++)
		add(es, &r, others[i]);
	for (u32 i = 0; i < FILES; i += 3)
		add(es, &r, ino[i]);
	add(es, &r, es->inodes - 1);
	assert_int_equal(ext4_recount_begin(es, &r), 0);
	for (u32 i = 0; i < FILES; i++) {
		if (i % 2)
			set_owner(es, ino[i], i % 5 ? 100000 * i : 4000000000u);
		if (i % 3 == 0)
			empty(es, ino[i]);
	}
	set_owner(es, 4, 7);
	assert_null(es->quotas);
	assert_int_equal(ext4_recount_end(es, &r), 0);
	assert_int_equal(ext4_errors_new(es), damaged);
	ext4_recount_free(&r);
	return 0;
}

static void recount(bool damaged)
{
	vol_open_rdonly();
	assert_int_equal(ext4_write_scratch(vol_es, change, &damaged), 0);
	vol_close();
}

static void exact_on(const char *args)
{
	make(args);
	recount(false);
	vol_fsck();
}

static void users(void **state)
{
	(void)state;
	exact_on("-t ext4 -b 1024 -O quota");
}

static void projects(void **state)
{
	(void)state;
	exact_on("-t ext4 -b 4096 -O quota,project " ALL);
}

static void clusters(void **state)
{
	(void)state;
	exact_on("-t ext4 -b 1024 -C 8192 -O quota,project,bigalloc,ea_inode " ALL);
}

static void without(void **state)
{
	struct ext4_recount r = { 0 };

	(void)state;
	vol_make("-t ext4 -b 1024", 8, NULL);
	vol_open_rdonly();
	add(vol_es, &r, EXT4_INO_ROOT);
	assert_int_equal(r.count, 0);
	assert_int_equal(ext4_recount_begin(vol_es, &r), 0);
	assert_int_equal(ext4_recount_end(vol_es, &r), 0);
	assert_null(vol_es->quotas);
	ext4_recount_free(&r);
	vol_close();
}

static void damaged(void **state)
{
	char said[4096];

	(void)state;
	make("-t ext4 -b 1024 -O quota");
	/* The group's file is not one any more. */
	run("debugfs -w -R 'zap -f <4> 0' %s/img >/dev/null 2>&1", vol_dir);
	recount(true);
	output(said, sizeof(said), "dumpe2fs -h %s/img 2>/dev/null", vol_dir);
	assert_non_null(strstr(said, "clean with errors"));
	output(said, sizeof(said), "debugfs -R 'stat <%u>' %s/img 2>/dev/null", ino[1], vol_dir);
	assert_non_null(strstr(said, "User: 100000"));
	(void)!try_run("e2fsck -fy %s/img >/dev/null 2>&1; e2fsck -fy %s/img >/dev/null 2>&1", vol_dir,
		       vol_dir);
	vol_fsck();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(users, vol_clean),
		cmocka_unit_test_teardown(projects, vol_clean),
		cmocka_unit_test_teardown(clusters, vol_clean),
		cmocka_unit_test_teardown(without, vol_clean),
		cmocka_unit_test_teardown(damaged, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
