/* The words of -o: what each changes, lists of rescue words, and words that are refused by name. */
#include "craft.h"

#include <errno.h>

static struct btrfs_opts o;

static void parse(const char *words)
{
	int err = btrfs_opts_parse(words, &o);

	if (err)
		fail_msg("%s: %s", words, err_text());
}

/* The words change nothing but what is expected. */
static void means(const char *words, struct btrfs_opts expected)
{
	parse(words);
	assert_memory_equal(&o, &expected, sizeof(o));
	btrfs_opts_free(&o);
}

static void words(void **state)
{
	const struct btrfs_opts nothing = { 0 }, all = {
		.usebackuproot = true,
		.norecovery = true,
		.ignore_bad_roots = true,
		.ignore_data_csums = true,
		.ignore_meta_csums = true,
		.ignore_super_flags = true,
	};

	(void)state;
	means(NULL, nothing);
	means("", nothing);
	means(",,", nothing);
	means("degraded", (struct btrfs_opts){ .degraded = true });
	means("usebackuproot", (struct btrfs_opts){ .usebackuproot = true });
	means("norecovery", (struct btrfs_opts){ .norecovery = true });
	means("nologreplay", (struct btrfs_opts){ .norecovery = true });
	means("noacl", (struct btrfs_opts){ .noacl = true });
	means("noacl,acl", nothing);
	means("subvolid=300", (struct btrfs_opts){ .subvolid = 300 });
	means("subvolid=0", (struct btrfs_opts){ .subvolid = BTRFS_TREE_FS });
	means("subvolid=0x101", (struct btrfs_opts){ .subvolid = 257 });
	means("generation=7", (struct btrfs_opts){ .generation = 7 });
	means("rescue=usebackuproot", (struct btrfs_opts){ .usebackuproot = true });
	means("rescue=ignorebadroots:idatacsums",
	      (struct btrfs_opts){ .ignore_bad_roots = true, .ignore_data_csums = true });
	means("rescue=ibadroots,ignoredatacsums",
	      (struct btrfs_opts){ .ignore_bad_roots = true, .ignore_data_csums = true });
	means("rescue=imetacsums:isuperflags:nologreplay", (struct btrfs_opts){ .ignore_meta_csums = true,
										.ignore_super_flags = true,
										.norecovery = true });
	means("rescue=all", all);
	means("ssd,nossd,discard,discard=async,space_cache=v2,compress=zstd:15,compress-force=lzo,commit=5,"
	      "thread_pool=8,autodefrag,max_inline=0,flushoncommit,user_subvol_rm_allowed,fatal_errors=bug",
	      nothing);
}

static void paths(void **state)
{
	(void)state;
	parse("subvol=a,degraded,subvol=/b c/d=e");
	assert_string_equal(o.subvol, "/b c/d=e");
	assert_true(o.degraded);
	btrfs_opts_free(&o);
	assert_null(o.subvol);
}

static void refused(void **state)
{
	static const char *const bad[] = {
		"bogus",          "bogus=1",
		"degraded=1",     "rescue=bogus",
		"rescue=",        "rescue=all:none",
		"rescue",         "subvolid=x",
		"subvolid=",      "subvolid=-1",
		"subvolid=5x",    "generation=1.",
		"subvolid",       "all",
		"subvol=x,bogus", "subvolid=99999999999999999999",
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		err_clear();
		if (btrfs_opts_parse(bad[i], &o) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
		assert_true(err_text()[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(paths),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
