/* The words of mount -o. Interface: mountopts.h. One table says what each word does; words with values follow it. */
#include "mountopts.h"

#include "block/block.h"
#include "lib/err.h"
#include "number.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define MS_UNSAFE (MS_NOSUID | MS_NODEV)
/* What mount(8) implies when it lets users mount. */
#define MS_USER (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct {
	const char *word;
	unsigned long set, clear;
} flag_words[] = {
	{ "suid", 0, MS_NOSUID },           { "nosuid", MS_NOSUID, 0 },    { "dev", 0, MS_NODEV },
	{ "nodev", MS_NODEV, 0 },           { "exec", 0, MS_NOEXEC },      { "noexec", MS_NOEXEC, 0 },
	{ "async", 0, MS_SYNCHRONOUS },     { "sync", MS_SYNCHRONOUS, 0 }, { "dirsync", MS_DIRSYNC, 0 },
	{ "atime", 0, MS_NOATIME },         { "noatime", MS_NOATIME, 0 },  { "diratime", 0, MS_NODIRATIME },
	{ "nodiratime", MS_NODIRATIME, 0 }, { "user", MS_USER, 0 },        { "users", MS_USER, 0 },
	{ "owner", MS_UNSAFE, 0 },          { "group", MS_UNSAFE, 0 },
};

/* Words that change nothing here: they speak to mount(8), or ask for what is so anyway. */
static const char *const idle_words[] = {
	"defaults",
	"auto",
	"noauto",
	"nofail",
	"fail",
	"_netdev",
	"nouser",
	"silent",
	"loud",
	"loop",
	"mand",
	"nomand",
	"iversion",
	"noiversion",
	"noowner",
	"nogroup",
	"default_permissions",
};
static const char *const idle_prefixes[] = { "x-", "X-", "comment=", "user=", "uhelper=", "helper=" };

void mount_args_init(struct mount_args *m)
{
	*m = (struct mount_args){ .ms_flags = MS_UNSAFE };
}

void mount_args_fini(struct mount_args *m)
{
	text_free(&m->fs_opts);
	free(m->journal);
	for (u32 i = 0; i < m->device_count; i++)
		free(m->device[i]);
	free(m->device);
}

static bool is_in(const char *word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, list[i]))
			return true;
	return false;
}

static bool flag_word(struct mount_args *m, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(flag_words); i++) {
		if (strcmp(word, flag_words[i].word))
			continue;
		m->ms_flags = (m->ms_flags & ~flag_words[i].clear) | flag_words[i].set;
		return true;
	}
	return false;
}

static bool bool_word(struct mount_args *m, const char *word)
{
	if (!strcmp(word, "ro"))
		m->rdonly = !(m->readwrite = false);
	else if (!strcmp(word, "rw"))
		m->readwrite = !(m->rdonly = false);
	else if (!strcmp(word, "norecovery") || !strcmp(word, "noload") || !strcmp(word, "nologreplay"))
		m->norecovery = true;
	else if (!strcmp(word, "strictatime"))
		m->strictatime = true;
	else if (!strcmp(word, "relatime") || !strcmp(word, "norelatime") || !strcmp(word, "nostrictatime"))
		m->strictatime = false;
	else if (!strcmp(word, "lazytime"))
		m->lazytime = true;
	else if (!strcmp(word, "nolazytime"))
		m->lazytime = false;
	else if (!strcmp(word, "noopen"))
		m->noopen = true;
	else if (!strcmp(word, "writeback"))
		m->writeback = true;
	else if (!strcmp(word, "direct"))
		m->dev_flags = DEV_DIRECT;
	else if (!strcmp(word, "buffered"))
		m->dev_flags = DEV_BUFFERED;
	else if (!strcmp(word, "allow_other"))
		m->allow_other = true;
	else if (!strcmp(word, "allow_root"))
		m->allow_other = m->allow_root = true;
	else
		return false;
	return true;
}

static int bad_value(const char *word, const char *value, const char *want)
{
	return fail(-EINVAL, "option %s=%s: %s is wanted", word, value, want);
}

static int mask_word(const char *word, const char *value, u32 *mask)
{
	char *end;
	unsigned long v = strtoul(value, &end, 8);

	if (!*value || *end || v > 0777)
		return bad_value(word, value, "an octal mask up to 777");
	*mask = (u32)v;
	return 0;
}

static int id_word(const char *word, const char *value, bool *has, u32 *id)
{
	u64 v;

	if (!number_parse(value, UINT32_MAX - 1, &v))
		return bad_value(word, value, "a number");
	*has = true;
	*id = (u32)v;
	return 0;
}

static int number_word(const char *word, const char *value, u64 max, u64 *out)
{
	return number_parse(value, max, out) ? 0 : bad_value(word, value, "a number");
}

static int size_word(const char *word, const char *value, u64 *out)
{
	return size_parse(value, out) ? 0 : bad_value(word, value, "a size like 64M");
}

int mount_args_device(struct mount_args *m, const char *spec)
{
	char **more = realloc(m->device, (m->device_count + 1ul) * sizeof(*more)), *copy = strdup(spec);

	if (more)
		m->device = more;
	if (!more || !copy) {
		free(copy);
		return fail(-ENOMEM, "no memory for options");
	}
	more[m->device_count++] = copy;
	return 0;
}

/* A word with a value. -ENOENT: not one of these. */
static int value_word(struct mount_args *m, const char *word, const char *value)
{
	u64 v;
	int err;

	if (!strcmp(word, "journal") || !strcmp(word, "journal_path")) {
		free(m->journal);
		m->journal = strdup(value);
		return m->journal ? 0 : fail(-ENOMEM, "no memory for options");
	}
	if (!strcmp(word, "device"))
		return mount_args_device(m, value);
	if (!strcmp(word, "uid"))
		return id_word(word, value, &m->has_uid, &m->uid);
	if (!strcmp(word, "gid"))
		return id_word(word, value, &m->has_gid, &m->gid);
	if (!strcmp(word, "fmask"))
		return mask_word(word, value, &m->ids.fmask);
	if (!strcmp(word, "dmask"))
		return mask_word(word, value, &m->ids.dmask);
	if (!strcmp(word, "umask")) {
		err = mask_word(word, value, &m->ids.fmask);
		m->ids.dmask = m->ids.fmask;
		return err;
	}
	if (!strcmp(word, "map"))
		return mount_args_map(m, value);
	if (!strcmp(word, "sb")) {
		m->has_sb = true;
		return number_word(word, value, UINT64_MAX, &m->sb_block);
	}
	if (!strcmp(word, "cache"))
		return size_word(word, value, &m->cache_bytes);
	if (!strcmp(word, "offset")) {
		m->has_offset = true;
		return size_word(word, value, &m->offset_bytes);
	}
	if (strcmp(word, "part") && strcmp(word, "threads"))
		return -ENOENT;
	err = number_word(word, value, 1024, &v);
	if (!err && *word == 'p')
		m->part = (u32)v;
	else if (!err)
		m->threads = (u32)v;
	return err;
}

static int one_word(struct mount_args *m, char *word)
{
	char *eq = strchr(word, '=');
	int err;

	if (!*word || flag_word(m, word) || bool_word(m, word) ||
	    is_in(word, idle_words, ARRAY_SIZE(idle_words)))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(idle_prefixes); i++)
		if (!strncmp(word, idle_prefixes[i], strlen(idle_prefixes[i])))
			return 0;
	if (eq) {
		*eq = 0;
		err = value_word(m, word, eq + 1);
		if (err != -ENOENT)
			return err;
	}
	/* Which words are its own, the volume's module knows, and refuses others by name. */
	text_add(&m->fs_opts, "%s%s%s%s", m->fs_opts.len_bytes ? "," : "", word, eq ? "=" : "",
		 eq ? eq + 1 : "");
	return m->fs_opts.oom ? fail(-ENOMEM, "no memory for options") : 0;
}

int mount_args_add(struct mount_args *m, const char *list)
{
	char *copy = strdup(list), *rest = copy, *word;
	int err = copy ? 0 : fail(-ENOMEM, "no memory for options");

	while (!err && (word = strsep(&rest, ",")))
		err = one_word(m, word);
	free(copy);
	return err;
}

int mount_args_map(struct mount_args *m, const char *s)
{
	struct id_side *side = !strncmp(s, "uid:", 4)   ? &m->ids.uid
			       : !strncmp(s, "gid:", 4) ? &m->ids.gid
							: NULL;
	char disk[16];
	const char *eq;
	u64 d, h;

	if (!strcmp(s, "none")) {
		m->map_none = true;
		return 0;
	}
	eq = strchr(s, '=');
	if (side && eq && (size_t)(eq - s - 4) < sizeof(disk)) {
		memcpy(disk, s + 4, (size_t)(eq - s - 4));
		disk[eq - s - 4] = 0;
		if (number_parse(disk, UINT32_MAX - 1, &d) && number_parse(eq + 1, UINT32_MAX - 1, &h))
			return id_pair_add(side, (u32)d, (u32)h);
	}
	return fail(-EINVAL, "map \"%s\": none, uid:DISK=HOST or gid:DISK=HOST is wanted", s);
}

/* The first ordinary user of most machines. */
#define USUAL_OWNER 1000u

/* Whoever the volume probably belongs to is shown as the one who mounts it; new files belong to `owner`. */
static void side_default(struct id_side *s, u32 owner, u32 me)
{
	if (owner == ID_OVERFLOW)
		owner = USUAL_OWNER;
	s->pair[s->count++] = (struct id_pair){ owner, me };
	id_also(s, me, me);
	id_also(s, USUAL_OWNER, me);
	id_also(s, 0, me);
}

static void side_squash(struct id_side *s, u32 owner, u32 shown)
{
	*s = (struct id_side){ .squash = true, .shown = shown };
	s->pair[s->count++] = (struct id_pair){ owner, shown };
}

void mount_args_ids(const struct mount_args *m, u32 root_uid, u32 root_gid, u32 my_uid, u32 my_gid,
		    struct idmap *out)
{
	bool asked = m->has_uid || m->has_gid || id_is_mapped(&m->ids.uid) || id_is_mapped(&m->ids.gid);

	*out = m->ids;
	if (m->map_none)
		out->uid = out->gid = (struct id_side){ 0 };
	else if (my_uid && !asked) {
		side_default(&out->uid, root_uid, my_uid);
		side_default(&out->gid, root_gid, my_gid);
	}
	if (m->has_uid)
		side_squash(&out->uid, root_uid, m->uid);
	if (m->has_gid)
		side_squash(&out->gid, root_gid, m->gid);
}
