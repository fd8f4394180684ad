/* werunos mkfs: a new volume. Options are named as mke2fs names them; what they mean is the module's to say. */
#include "cmd.h"

#include "newvol.h"
#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond any of the letters. */
enum { OPT_JSON = 256, OPT_NO_DISCARD };

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "force", no_argument, NULL, 'F' },
	{ "dry-run", no_argument, NULL, 'n' },
	{ "part", required_argument, NULL, 'p' },
	{ "label", required_argument, NULL, 'L' },
	{ "uuid", required_argument, NULL, 'U' },
	{ "features", required_argument, NULL, 'O' },
	{ "no-discard", no_argument, NULL, OPT_NO_DISCARD },
	{ NULL, 0, NULL, 0 },
};

/* Letters that are words of the module. */
static const struct {
	char letter;
	const char *word;
} letters[] = {
	{ 'C', "cluster_size" }, { 'G', "flex_bg_size" }, { 'g', "blocks_per_group" }, { 'I', "inode_size" },
	{ 'i', "inode_ratio" },  { 'm', "reserved" },     { 'N', "inodes" },           { 'T', "usage" },
};

struct mkfs {
	struct newvol_opts place;
	struct format_opts format;
	struct text words, features;
	bool json, has_uuid;
};

static void add_word(struct text *t, const char *name, const char *value, size_t len)
{
	text_add(t, "%s%s%s", t->len_bytes ? "," : "", name, *name ? "=" : "");
	text_add_bytes(t, value, len);
}

/* "UID:GID" */
static bool owner(const char *s, size_t len, u32 *uid, u32 *gid)
{
	char buf[32], *colon;
	u64 u, g;

	if (len >= sizeof(buf))
		return false;
	memcpy(buf, s, len);
	buf[len] = 0;
	colon = strchr(buf, ':');
	if (!colon)
		return false;
	*colon = 0;
	if (!cli_number(buf, UINT32_MAX, &u) || !cli_number(colon + 1, UINT32_MAX, &g))
		return false;
	*uid = (u32)u;
	*gid = (u32)g;
	return true;
}

/* -E: what is about more than the module; the rest is the module's. */
static int extended(struct mkfs *m, const char *s)
{
	static const char root_owner[] = "root_owner=";

	while (*s) {
		size_t len = strcspn(s, ","), n = sizeof(root_owner) - 1;

		if (len >= n && !memcmp(s, root_owner, n)) {
			if (!owner(s + n, len - n, &m->format.root_uid, &m->format.root_gid))
				return cli_usage("-E %.*s: two numbers are wanted, UID:GID", (int)len, s);
		} else if (len == 9 && !memcmp(s, "nodiscard", len)) {
			m->place.keep = true;
		} else if (len && !(len == 7 && !memcmp(s, "discard", len))) {
			add_word(&m->words, "", s, len);
		}
		s += len + (s[len] == ',');
	}
	return 0;
}

static int journal(struct mkfs *m, const char *s)
{
	if (strncmp(s, "size=", 5) || strchr(s, ','))
		return cli_usage("-J %s: size=MEBIBYTES is all that is known", s);
	add_word(&m->words, "journal_size", s + 5, strlen(s + 5));
	return 0;
}

static int number_option(struct mkfs *m, int opt)
{
	u64 v;

	if (opt == 'b') {
		if (!cli_size(optarg, &v) || !v || v > UINT32_MAX)
			return cli_usage("-b %s: a number of bytes is wanted", optarg);
		m->format.block_bytes = (u32)v;
		return 0;
	}
	if (!cli_number(optarg, 1024, &v) || !v)
		return cli_usage("partition: \"%s\" is not a number that can be", optarg);
	m->place.part = (u32)v;
	return 0;
}

static int option(struct mkfs *m, int opt, char **argv)
{
	switch (opt) {
	case 'b':
	case 'p':
		return number_option(m, opt);
	case 'E':
		return extended(m, optarg);
	case 'F':
		m->place.force = true;
		return 0;
	case 'J':
		return journal(m, optarg);
	case 'L':
		m->format.label = optarg;
		return 0;
	case 'n':
		m->place.dry = true;
		return 0;
	case 'O':
		add_word(&m->features, "", optarg, strlen(optarg));
		return 0;
	case 'U':
		m->has_uuid = cli_uuid(optarg, m->format.uuid);
		return m->has_uuid ? 0 : cli_usage("-U %s: not a UUID", optarg);
	case OPT_JSON:
		m->json = true;
		return 0;
	case OPT_NO_DISCARD:
		m->place.keep = true;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
		if (letters[i].letter == opt) {
			add_word(&m->words, letters[i].word, optarg, strlen(optarg));
			return 0;
		}
	return cli_usage("%s: not an option, or its value is missing", argv[optind - 1]);
}

/* Options; 0, or the exit code. */
static int parse(int argc, char **argv, struct mkfs *m)
{
	int opt, code;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "b:C:E:FG:g:I:i:J:L:m:N:nO:p:T:U:", long_options, NULL)) !=
	       -1) {
		code = option(m, opt, argv);
		if (code)
			return code;
	}
	if (argc - optind < 2 || argc - optind > 3)
		return cli_usage("%s", "a type, an image or device, and perhaps a size are wanted");
	if (argc - optind == 3 && (!cli_size(argv[optind + 2], &m->place.size_bytes) || !m->place.size_bytes))
		return cli_usage("size: \"%s\" is not a number of bytes", argv[optind + 2]);
	return 0;
}

/* What the same command has every time, for chance that comes from it. */
static int chance(struct mkfs *m, const char *type)
{
	char numbers[96];
	const char *words[] = { type, text_str(&m->words), text_str(&m->features),
				m->format.label ? m->format.label : "", numbers };

	snprintf(numbers, sizeof(numbers), "%llu %u %u %u", (unsigned long long)m->place.size_bytes,
		 m->format.block_bytes, m->format.root_uid, m->format.root_gid);
	return newvol_chance(&m->format, m->has_uuid, words, ARRAY_SIZE(words));
}

static int make(struct mkfs *m, const char *type_name, const char *spec, struct doc *d)
{
	const struct fs_type *type;
	const char *variant;
	struct text words = { 0 };
	struct newvol v;
	int err = newvol_type(type_name, &type, &variant);

	if (!err)
		err = chance(m, type_name);
	if (!err)
		err = newvol_open(spec, type, &m->place, &v);
	if (err)
		return err;
	add_word(&words, "", variant, strlen(variant));
	add_word(&words, "", text_str(&m->words), m->words.len_bytes);
	m->format.fs_opts = text_str(&words);
	m->format.features = text_str(&m->features);
	doc_str(d, "source", v.src.name);
	doc_str(d, "type", type->name);
	if (m->place.dry)
		doc_bool(d, "dry_run", true);
	err = words.oom || m->features.oom ? fail(-ENOMEM, "no memory for options")
					   : newvol_format(&v, &m->format, d);
	text_free(&words);
	return newvol_close(&v, err);
}

int cmd_mkfs(int argc, char **argv)
{
	struct mkfs m = { 0 };
	struct doc *d = doc_new();
	int code = parse(argc, argv, &m), err;

	if (!code) {
		err = d ? make(&m, argv[optind], argv[optind + 1], d)
			: fail(-ENOMEM, "no memory for the output");
		if (!err)
			err = put_doc(d, m.json);
		code = err ? cli_error(err, argv[optind + 1]) : 0;
	}
	doc_free(d);
	text_free(&m.words);
	text_free(&m.features);
	return code;
}
