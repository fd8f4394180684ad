/* werunos mkfs: a new volume. Options are named as mke2fs names them; what they mean is the module's to say. */
#include "cmd.h"

#include "import/copy_cli.h"
#include "import/populate.h"
#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond any of the letters. */
enum { OPT_JSON = COPY_OPT_END, OPT_NO_DISCARD, OPT_FROM, OPT_PLATFORM, OPT_SHRINK, OPT_DEREFERENCE };

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "force", no_argument, NULL, 'F' },
	{ "dry-run", no_argument, NULL, 'n' },
	{ "part", required_argument, NULL, 'p' },
	{ "label", required_argument, NULL, 'L' },
	{ "uuid", required_argument, NULL, 'U' },
	{ "features", required_argument, NULL, 'O' },
	{ "no-discard", no_argument, NULL, OPT_NO_DISCARD },
	{ "from", required_argument, NULL, OPT_FROM },
	{ "platform", required_argument, NULL, OPT_PLATFORM },
	{ "shrink", no_argument, NULL, OPT_SHRINK },
	{ "one-file-system", no_argument, NULL, 'x' },
	{ "dereference", no_argument, NULL, OPT_DEREFERENCE },
	COPY_LONG,
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
	struct werunos_make_options make;
	struct text words, features;
	bool json;
	const char *type, *spec;
	struct copy_cli cli;
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
	if (!number_parse(buf, UINT32_MAX, &u) || !number_parse(colon + 1, UINT32_MAX, &g))
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
			if (!owner(s + n, len - n, &m->make.root_uid, &m->make.root_gid))
				return cli_usage("-E %.*s: two numbers are wanted, UID:GID", (int)len, s);
		} else if (len == 9 && !memcmp(s, "nodiscard", len)) {
			m->make.keep = true;
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
		if (!size_parse(optarg, &v) || !v || v > UINT32_MAX)
			return cli_usage("-b %s: a number of bytes is wanted", optarg);
		m->make.block_bytes = (u32)v;
		return 0;
	}
	if (!number_parse(optarg, 1024, &v) || !v)
		return cli_usage("partition: \"%s\" is not a number that can be", optarg);
	m->make.part = (u32)v;
	return 0;
}

static int option(struct mkfs *m, int opt, char **argv)
{
	int code;

	switch (opt) {
	case 'b':
	case 'p':
		return number_option(m, opt);
	case 'E':
		return extended(m, optarg);
	case 'F':
		m->make.force = true;
		return 0;
	case 'J':
		return journal(m, optarg);
	case 'L':
		m->make.label = optarg;
		return 0;
	case 'n':
		m->make.dry_run = true;
		return 0;
	case 'O':
		add_word(&m->features, "", optarg, strlen(optarg));
		return 0;
	case 'U':
		m->make.has_uuid = cli_uuid(optarg, m->make.uuid);
		return m->make.has_uuid ? 0 : cli_usage("-U %s: not a UUID", optarg);
	case OPT_JSON:
		m->json = true;
		return 0;
	case OPT_NO_DISCARD:
		m->make.keep = true;
		return 0;
	case OPT_FROM:
		m->make.from = optarg;
		return 0;
	case OPT_PLATFORM:
		m->make.platform = optarg;
		return 0;
	case OPT_SHRINK:
		m->make.shrink = true;
		return 0;
	case OPT_DEREFERENCE:
		m->cli.opts.dereference = true;
		return 0;
	case 'x':
		m->cli.opts.one_file_system = true;
		return 0;
	case 't':
		m->type = optarg;
		return 0;
	}
	if (copy_cli_option(&m->cli, opt, &code))
		return code;
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
	while ((opt = getopt_long(argc, argv, "b:C:E:FG:g:I:i:J:L:m:N:nO:p:T:t:U:x", long_options, NULL)) !=
	       -1) {
		code = option(m, opt, argv);
		if (code)
			return code;
	}
	if (!m->type && optind < argc)
		m->type = argv[optind++];
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("%s", "a type, an image or device, and perhaps a size are wanted");
	m->spec = argv[optind++];
	if (optind < argc && (!size_parse(argv[optind], &m->make.size_bytes) || !m->make.size_bytes))
		return cli_usage("size: \"%s\" is not a number of bytes", argv[optind]);
	if (!m->make.from && (m->make.platform || m->make.shrink))
		return cli_usage("%s is for volumes that are made --from something",
				 m->make.shrink ? "--shrink" : "--platform");
	if (m->make.from && m->make.dry_run)
		return cli_usage("--dry-run makes nothing that could be filled");
	return 0;
}

/* An empty volume. */
static int make_empty(struct mkfs *m)
{
	struct werunos_facts *facts = NULL;
	const char *text;
	int err = werunos_make(m->type, m->spec, &m->make, &facts);

	if (!err) {
		text = werunos_facts_text(facts, m->json);
		err = text ? put_bytes(text, strlen(text)) : fail(-ENOMEM, "no memory for the output");
	}
	werunos_facts_free(facts);
	return err ? cli_error(err, m->spec) : 0;
}

static int make_full(struct mkfs *m)
{
	struct werunos_report r = { 0 };
	int err;

	m->make.copy = &m->cli.opts;
	m->make.report = &r;
	m->cli.json = m->json;
	copy_cli_begin(&m->cli);
	err = werunos_make(m->type, m->spec, &m->make, NULL);
	copy_cli_took(&m->cli, &r, err);
	if ((!err || err == -ECANCELED) && copy_cli_doc(&m->cli))
		populate_describe(m->spec, m->make.part, doc_object(copy_cli_doc(&m->cli), "volume"));
	return copy_cli_end(&m->cli, 0);
}

static int run(struct mkfs *m)
{
	m->make.words = text_str(&m->words);
	m->make.features = text_str(&m->features);
	if (m->words.oom || m->features.oom)
		return cli_fail("no memory for options");
	return m->make.from ? make_full(m) : make_empty(m);
}

int cmd_mkfs(int argc, char **argv)
{
	struct mkfs *m = calloc(1, sizeof(*m));
	int code;

	if (!m)
		return cli_fail("no memory");
	copy_cli_init(&m->cli);
	code = parse(argc, argv, m);
	if (!code)
		code = run(m);
	text_free(&m->words);
	text_free(&m->features);
	copy_cli_free(&m->cli);
	free(m);
	return code;
}
