/*
 * The words of -o, as btrfs(5) has them: those that change what is shown, those that speak of writing and so change nothing, and
 * those that are not known, which are refused by name. rescue= takes several words with colons between them; each is a word
 * of its own too.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define FLAG(field) offsetof(struct btrfs_opts, field)

static const struct {
	const char *word;
	size_t flag;
	bool on;
} flags[] = {
	{ "degraded", FLAG(degraded), true },
	{ "usebackuproot", FLAG(usebackuproot), true },
	{ "recovery", FLAG(usebackuproot), true },
	{ "norecovery", FLAG(norecovery), true },
	{ "nologreplay", FLAG(norecovery), true },
	{ "acl", FLAG(noacl), false },
	{ "noacl", FLAG(noacl), true },
};

static const struct {
	const char *word;
	size_t flag;
} rescues[] = {
	{ "usebackuproot", FLAG(usebackuproot) },         { "nologreplay", FLAG(norecovery) },
	{ "ignorebadroots", FLAG(ignore_bad_roots) },     { "ibadroots", FLAG(ignore_bad_roots) },
	{ "ignoredatacsums", FLAG(ignore_data_csums) },   { "idatacsums", FLAG(ignore_data_csums) },
	{ "ignoremetacsums", FLAG(ignore_meta_csums) },   { "imetacsums", FLAG(ignore_meta_csums) },
	{ "ignoresuperflags", FLAG(ignore_super_flags) }, { "isuperflags", FLAG(ignore_super_flags) },
};

/* Words about writing, with a value or without. */
static const char *const idle[] = {
	"alloc_start",
	"autodefrag",
	"noautodefrag",
	"barrier",
	"nobarrier",
	"check_int",
	"check_int_data",
	"check_int_print_mask",
	"clear_cache",
	"commit",
	"compress",
	"compress-force",
	"datacow",
	"nodatacow",
	"datasum",
	"nodatasum",
	"discard",
	"nodiscard",
	"enospc_debug",
	"noenospc_debug",
	"fatal_errors",
	"flushoncommit",
	"noflushoncommit",
	"fragment",
	"inode_cache",
	"noinode_cache",
	"logreplay",
	"max_inline",
	"metadata_ratio",
	"ref_verify",
	"rescan_uuid_tree",
	"skip_balance",
	"space_cache",
	"nospace_cache",
	"ssd",
	"nossd",
	"ssd_spread",
	"nossd_spread",
	"subvolrootid",
	"thread_pool",
	"treelog",
	"notreelog",
	"user_subvol_rm_allowed",
	"nouser_subvol_rm_allowed",
};

static void set(struct btrfs_opts *o, size_t flag, bool on)
{
	*(bool *)((char *)o + flag) = on;
}

static bool rescue_word(struct btrfs_opts *o, const char *word)
{
	bool all = !strcmp(word, "all"), known = all;

	for (size_t i = 0; i < ARRAY_SIZE(rescues); i++)
		if (all || !strcmp(word, rescues[i].word)) {
			set(o, rescues[i].flag, true);
			known = true;
		}
	return known;
}

static int rescue(struct btrfs_opts *o, char *list)
{
	char *word;

	while ((word = strsep(&list, ":")))
		if (!rescue_word(o, word))
			return fail(-EINVAL,
				    "option rescue=%s is not known: usebackuproot, nologreplay, "
				    "ignorebadroots, ignoredatacsums, ignoremetacsums, ignoresuperflags "
				    "and all are",
				    word);
	return 0;
}

static int number(const char *word, const char *value, u64 *out)
{
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 0);
	if (*end || end == value || errno || *value == '-')
		return fail(-EINVAL, "option %s=%s: a number is wanted", word, value);
	return 0;
}

/* A word with a value. -ENOENT: not one of these. */
static int value_word(struct btrfs_opts *o, const char *word, char *value)
{
	int err;

	if (!strcmp(word, "rescue"))
		return rescue(o, value);
	if (!strcmp(word, "generation"))
		return number(word, value, &o->generation);
	if (!strcmp(word, "subvolid")) {
		err = number(word, value, &o->subvolid);
		/* The top level goes by 0 too. */
		if (!err && !o->subvolid)
			o->subvolid = BTRFS_TREE_FS;
		return err;
	}
	if (strcmp(word, "subvol"))
		return -ENOENT;
	free(o->subvol);
	o->subvol = strdup(value);
	return o->subvol ? 0 : fail(-ENOMEM, "no memory for options");
}

static int one_word(struct btrfs_opts *o, char *word)
{
	char *eq = strchr(word, '=');
	int err = -ENOENT;

	if (eq) {
		*eq = 0;
		err = value_word(o, word, eq + 1);
	}
	if (err != -ENOENT)
		return err;
	for (size_t i = 0; !eq && i < ARRAY_SIZE(flags); i++)
		if (!strcmp(word, flags[i].word)) {
			set(o, flags[i].flag, flags[i].on);
			return 0;
		}
	if (!eq && strcmp(word, "all") && rescue_word(o, word))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		if (!strcmp(word, idle[i]))
			return 0;
	return fail(-EINVAL, "option \"%s%s%s\" is not known to btrfs", word, eq ? "=" : "",
		    eq ? eq + 1 : "");
}

int btrfs_opts_parse(const char *fs_opts, struct btrfs_opts *out)
{
	scoped(freep) char *copy = strdup(fs_opts ? fs_opts : "");
	char *rest = copy, *word;
	int err = copy ? 0 : fail(-ENOMEM, "no memory for options");

	*out = (struct btrfs_opts){ 0 };
	while (!err && (word = strsep(&rest, ",")))
		if (*word)
			err = one_word(out, word);
	if (err)
		btrfs_opts_free(out);
	return err;
}

void btrfs_opts_free(struct btrfs_opts *o)
{
	free(o->subvol);
	o->subvol = NULL;
}
