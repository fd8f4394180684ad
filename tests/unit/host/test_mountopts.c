/* The words of mount -o: every usual one is taken, values are checked, later words win, owners come out right. */
#include "mountopts.h"

#include "lib/err.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

static struct mount_args m;

static int setup(void **state)
{
	(void)state;
	mount_args_init(&m);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mount_args_fini(&m);
	return 0;
}

static void usual_words_are_taken(void **state)
{
	(void)state;
	assert_int_equal(mount_args_add(&m,
					"defaults,rw,nodev,nosuid,noexec,noatime,relatime,sync,dirsync,user,"
					"users,noauto,nofail,_netdev,x-systemd.automount,comment=hello,"
					"x-gvfs-show,default_permissions,,auto,nouser,lazytime"),
			 0);
	assert_true(m.readwrite);
	assert_int_equal(m.ms_flags,
			 MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME | MS_SYNCHRONOUS | MS_DIRSYNC);
	assert_string_equal(text_str(&m.fs_opts), "");
}

static void later_words_win(void **state)
{
	(void)state;
	assert_int_equal(m.ms_flags, MS_NODEV | MS_NOSUID);
	assert_int_equal(mount_args_add(&m, "ro,rw,sync,async,users,exec,dev,suid"), 0);
	assert_false(m.rdonly);
	assert_true(m.readwrite);
	assert_int_equal(m.ms_flags, 0);
	assert_int_equal(mount_args_add(&m, "ro"), 0);
	assert_true(m.rdonly);
	assert_false(m.readwrite);
}

static void values(void **state)
{
	(void)state;
	assert_int_equal(
		mount_args_add(&m,
			       "uid=5,gid=6,umask=027,dmask=022,sb=32768,cache=64M,offset=1M,part=3,"
			       "norecovery,noopen,writeback,allow_root,errors=remount-ro,acl,"
			       "rescue=ignorebadroots:nologreplay,ignoredatacsums,generation=9,subvol=/a b,"
			       "threads=2,journal_path=/dev/x,device=/dev/y,device=z#p2"),
		0);
	assert_true(m.has_uid && m.has_gid && m.has_offset);
	assert_int_equal(m.uid, 5);
	assert_int_equal(m.gid, 6);
	assert_int_equal(m.ids.fmask, 027);
	assert_int_equal(m.ids.dmask, 022);
	assert_true(m.has_sb);
	assert_int_equal(m.sb_block, 32768);
	assert_int_equal(m.cache_bytes, 64 << 20);
	assert_int_equal(m.offset_bytes, 1 << 20);
	assert_int_equal(m.part, 3);
	assert_int_equal(m.threads, 2);
	assert_true(m.norecovery && m.noopen && m.writeback && m.allow_root && m.allow_other);
	assert_string_equal(text_str(&m.fs_opts), "errors=remount-ro,acl,rescue=ignorebadroots:nologreplay,"
						  "ignoredatacsums,generation=9,subvol=/a b");
	assert_string_equal(m.journal, "/dev/x");
	assert_int_equal(m.device_count, 2);
	assert_string_equal(m.device[0], "/dev/y");
	assert_string_equal(m.device[1], "z#p2");
	assert_int_equal(mount_args_add(&m, "journal=other"), 0);
	assert_string_equal(m.journal, "other");
}

static void wrong_words_are_named(void **state)
{
	static const char *const bad[] = {
		"uid=x",
		"uid=",
		"uid=-1",
		"uid=4294967295",
		"umask=9",
		"umask=1777",
		"cache=lots",
		"offset=1X",
		"part=99999",
		"sb=1.5",
		"cache=99999999999T",
		"map=what",
		"map=uid:1",
		"map=uid:=1",
		"map=gid:1=x",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char word[16] = "";

		memccpy(word, bad[i], '=', sizeof(word) - 1);
		word[strcspn(word, "=")] = 0;
		assert_int_equal(mount_args_add(&m, bad[i]), -EINVAL);
		assert_non_null(strstr(err_text(), word));
	}
}

static void maps(void **state)
{
	struct idmap ids;
	u32 disk;

	(void)state;
	/* Root sees what is there; another user owns what the root directory's owner owns. */
	mount_args_ids(&m, 500, 501, 0, 0, &ids);
	assert_false(id_is_mapped(&ids.uid) || id_is_mapped(&ids.gid));
	mount_args_ids(&m, 500, 501, 1000, 1001, &ids);
	assert_int_equal(id_show(&ids.uid, 500), 1000);
	assert_int_equal(id_show(&ids.gid, 501), 1001);
	assert_int_equal(id_show(&ids.uid, 1000), 1000);
	assert_int_equal(id_show(&ids.gid, 1000), 1001);
	assert_int_equal(id_show(&ids.uid, 0), 1000);
	assert_int_equal(id_show(&ids.uid, 33), ID_OVERFLOW);
	assert_true(id_store(&ids.uid, 1000, &disk));
	assert_int_equal(disk, 500);
	assert_true(id_change(&ids.uid, 0, 1000, &disk));
	assert_int_equal(disk, 0);
	assert_false(id_store(&ids.uid, 0, &disk));
	mount_args_ids(&m, ID_OVERFLOW, ID_OVERFLOW, 7, 7, &ids);
	assert_int_equal(id_show(&ids.uid, 1000), 7);

	assert_int_equal(mount_args_add(&m, "map=uid:1=2"), 0);
	assert_int_equal(mount_args_map(&m, "gid:3=4"), 0);
	assert_int_equal(mount_args_map(&m, "uid:1=5"), -EEXIST);
	mount_args_ids(&m, 500, 501, 1000, 1001, &ids);
	assert_int_equal(id_show(&ids.uid, 1), 2);
	assert_int_equal(id_show(&ids.gid, 3), 4);
	assert_int_equal(id_show(&ids.uid, 500), ID_OVERFLOW);
	assert_int_equal(mount_args_map(&m, "none"), 0);
	mount_args_ids(&m, 500, 501, 1000, 1001, &ids);
	assert_false(id_is_mapped(&ids.uid) || id_is_mapped(&ids.gid));
}

static void squash(void **state)
{
	struct idmap ids;
	u32 disk;

	(void)state;
	assert_int_equal(mount_args_add(&m, "uid=7"), 0);
	mount_args_ids(&m, 0, 0, 0, 0, &ids);
	assert_int_equal(id_show(&ids.uid, 0), 7);
	assert_int_equal(id_show(&ids.uid, 1234), 7);
	assert_true(id_store(&ids.uid, 7, &disk));
	assert_int_equal(disk, 0);
	assert_false(id_is_mapped(&ids.gid));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(usual_words_are_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(later_words_win, setup, teardown),
		cmocka_unit_test_setup_teardown(values, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_words_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(maps, setup, teardown),
		cmocka_unit_test_setup_teardown(squash, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
