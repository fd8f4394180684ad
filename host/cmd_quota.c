/*
 * werunos quota: what users, groups and projects use of a volume, what they may use, and setting that. One that is mounted by us is asked through
 * the mount; ids are those on the disk all the same.
 */
#include "cmd.h"

#include "fuse/fuse.h"
#include "lib/scope.h"
#include "number.h"
#include "tool.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_FIRST 1000 /* in the order of QUOTA_SET_* */
#define LIMITS      6

static const struct option long_options[] = {
	{ "user", no_argument, NULL, 'u' },
	{ "group", no_argument, NULL, 'g' },
	{ "project", no_argument, NULL, 'P' },
	{ "set", required_argument, NULL, 's' },
	{ "space-soft", required_argument, NULL, LIMIT_FIRST },
	{ "space-hard", required_argument, NULL, LIMIT_FIRST + 1 },
	{ "inodes-soft", required_argument, NULL, LIMIT_FIRST + 2 },
	{ "inodes-hard", required_argument, NULL, LIMIT_FIRST + 3 },
	{ "space-grace", required_argument, NULL, LIMIT_FIRST + 4 },
	{ "inodes-grace", required_argument, NULL, LIMIT_FIRST + 5 },
	TOOL_LONG,
};
static const char *const kind_name[QUOTA_KINDS] = { "user", "group", "project" };

/* The volume, or the mount of it. */
struct asked {
	struct volume v;
	int fd; /* of a directory of the mount; -1: none */
	const char *dir;
};

/* ---- through a mount ---- */

static int mounted_failed(const struct asked *a, int err)
{
	return err == -ENOTTY ? fail(err, "%s is not a mount of werunos, and no image", a->dir)
			      : fail(err, "%s: %s", a->dir, strerror(-err));
}

static int ask_mounted(const struct asked *a, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
		       void *ctx)
{
	scoped(freep) struct server_quota *s = calloc(1, sizeof(*s));
	int err = 0;

	if (!s)
		return fail(-ENOMEM, "no memory for quotas");
	s->kind = kind;
	do {
		s->count = s->more = 0;
		if (ioctl(a->fd, SERVER_IOC_QUOTA, s) < 0)
			return mounted_failed(a, -errno);
		*grace = s->grace;
		for (u32 i = 0; i < MIN(s->count, SERVER_QUOTAS) && !err; i++) {
			err = emit(ctx, &s->quota[i]);
			s->first = s->quota[i].id + 1;
		}
	} while (!err && s->more && s->count);
	return err || !s->err ? err : fail(s->err, "%.*s", (int)sizeof(s->why), s->why);
}

static int set_mounted(const struct asked *a, enum quota_kind kind, const struct quota_set *set)
{
	struct server_set_quota s = { .kind = kind, .set = *set };

	if (ioctl(a->fd, SERVER_IOC_SET_QUOTA, &s) < 0)
		return mounted_failed(a, -errno);
	return s.err ? fail(s.err, "%.*s", (int)sizeof(s.why), s.why) : 0;
}

/* ---- the report ---- */

/* An array of the document, made when there is something for it. */
struct kind_array {
	struct doc *to, *array;
	const char *key;
};

static int add_object(void *ctx, const struct quota *q)
{
	struct kind_array *l = ctx;
	struct doc *d;

	if (!l->array)
		l->array = doc_array(l->to, l->key);
	d = doc_object(l->array, NULL);
	doc_u64(d, "id", q->id);
	doc_u64(d, "space_bytes", q->space_bytes);
	doc_u64(d, "space_soft_bytes", q->space_soft_kib << 10);
	doc_u64(d, "space_hard_bytes", q->space_hard_kib << 10);
	doc_u64(d, "space_until", q->space_until_sec);
	doc_u64(d, "inodes", q->inodes);
	doc_u64(d, "inodes_soft", q->inodes_soft);
	doc_u64(d, "inodes_hard", q->inodes_hard);
	doc_u64(d, "inodes_until", q->inodes_until_sec);
	return 0;
}

/* Used, both limits, and until when more than the soft one is allowed. */
static void add_columns(struct text *t, u64 used, u64 soft, u64 hard, bool over, u64 until_sec)
{
	time_t sec = (time_t)until_sec;
	char date[32] = "";
	struct tm tm;

	if (!over || !until_sec || !gmtime_r(&sec, &tm) || !strftime(date, sizeof(date), "%F %R", &tm))
		date[0] = 0;
	text_add(t, " %c %12llu %12llu %12llu %-16s", over ? '+' : '-', (unsigned long long)used,
		 (unsigned long long)soft, (unsigned long long)hard, date);
}

static int add_row(void *ctx, const struct quota *q)
{
	struct text *t = ctx;
	u64 kib = (q->space_bytes >> 10) + !!(q->space_bytes & 1023);

	text_add(t, "%10u", q->id);
	add_columns(t, kib, q->space_soft_kib, q->space_hard_kib,
		    q->space_soft_kib && kib > q->space_soft_kib, q->space_until_sec);
	add_columns(t, q->inodes, q->inodes_soft, q->inodes_hard,
		    q->inodes_soft && q->inodes > q->inodes_soft, q->inodes_until_sec);
	text_add(t, "\n");
	return 0;
}

static int ask(struct asked *a, enum quota_kind kind, struct quota_grace *grace, quota_fn emit, void *ctx)
{
	return a->fd < 0 ? vfs_quota(a->v.sb, kind, grace, emit, ctx)
			 : ask_mounted(a, kind, grace, emit, ctx);
}

static void add_grace(struct text *t, u32 sec)
{
	if (sec && sec % 86400 == 0)
		text_add(t, "%u d", sec / 86400);
	else
		text_add(t, "%u s", sec);
}

static int document_kind(struct asked *a, enum quota_kind kind, struct doc *d, struct doc *graces)
{
	struct kind_array l = { .to = d, .key = kind_name[kind] };
	struct quota_grace grace;
	int err = ask(a, kind, &grace, add_object, &l);
	struct doc *of_kind;

	if (err && !l.array)
		return err;
	of_kind = doc_object(graces, kind_name[kind]);
	doc_u64(of_kind, "space_s", grace.space_sec);
	doc_u64(of_kind, "inodes_s", grace.inodes_sec);
	return err;
}

static int text_kind(struct asked *a, enum quota_kind kind, struct text *t)
{
	struct text rows = { 0 };
	struct quota_grace grace;
	int err = ask(a, kind, &grace, add_row, &rows);

	if (!err || rows.len_bytes) {
		text_add(t, "%s: above soft limits for ", kind_name[kind]);
		add_grace(t, grace.space_sec);
		text_add(t, " of space, ");
		add_grace(t, grace.inodes_sec);
		text_add(t, " of inodes\n");
		text_add(t, "%10s   %12s %12s %12s %-16s   %12s %12s %12s %s\n%s", kind_name[kind], "KiB",
			 "soft", "hard", "until", "inodes", "soft", "hard", "until", text_str(&rows));
	}
	text_free(&rows);
	return err;
}

/* kinds: bits; 0: all that are counted. What can be read is shown also when the rest cannot. */
static int show(struct asked *a, u32 kinds, bool json)
{
	struct doc *d = json ? doc_new() : NULL, *graces = d ? doc_object(d, "grace") : NULL;
	struct text t = { 0 };
	u32 shown = 0;
	int err = json && !d ? fail(-ENOMEM, "no memory for the output") : 0, put_err;

	for (u32 kind = 0; kind < QUOTA_KINDS && !err; kind++) {
		if (kinds && !(kinds & 1u << kind))
			continue;
		err = d ? document_kind(a, kind, d, graces) : text_kind(a, kind, &t);
		if (err == -EOPNOTSUPP && !kinds && (shown || kind + 1 < QUOTA_KINDS)) {
			err_clear();
			err = 0;
		} else {
			shown++;
		}
	}
	put_err = err == -EOPNOTSUPP ? 0 : d ? put_doc(d, true) : put_text(&t);
	doc_free(d);
	text_free(&t);
	return err ? err : put_err;
}

/* ---- limits ---- */

struct setting {
	bool asked;
	enum quota_kind kind;
	bool has_id;
	struct quota_set set;
};

/* user:NAME, or, for times, user. 0, or the exit code. */
static int whom(const char *word, struct setting *s)
{
	const char *colon = strchr(word, ':');
	size_t len = colon ? (size_t)(colon - word) : strlen(word);
	u64 number;
	u32 login;

	s->asked = true;
	s->kind = QUOTA_USER;
	while (s->kind < QUOTA_KINDS &&
	       (strlen(kind_name[s->kind]) != len || memcmp(kind_name[s->kind], word, len) != 0))
		s->kind++;
	if (s->kind == QUOTA_KINDS)
		return cli_usage("--set %s: user, group or project is wanted, and with a colon which", word);
	s->has_id = colon;
	if (!colon)
		return 0;
	if (s->kind == QUOTA_PROJECT && number_parse(colon + 1, UINT32_MAX - 1, &number))
		s->set.id = (u32)number;
	else if (s->kind == QUOTA_PROJECT)
		return cli_usage("\"%s\" is no number of a project", colon + 1);
	else if (!tool_id(colon + 1, s->kind == QUOTA_GROUP, &s->set.id, &login))
		return cli_usage("there is no %s \"%s\" on this machine: a number is taken as it is",
				 kind_name[s->kind], colon + 1);
	return 0;
}

/* Seconds; or with s, m, h, d or w. */
static bool time_parse(const char *s, u32 *sec)
{
	static const char letter[] = "smhdw";
	static const u32 times[] = { 1, 60, 3600, 86400, 604800 };
	size_t len = strlen(s);
	const char *unit = len ? strchr(letter, s[len - 1]) : NULL;
	char digits[24];
	u64 n;

	if (!len || len >= sizeof(digits))
		return false;
	snprintf(digits, sizeof(digits), "%.*s", (int)(unit ? len - 1 : len), s);
	if (!number_parse(digits, UINT32_MAX, &n))
		return false;
	n *= unit ? times[unit - letter] : 1;
	*sec = (u32)n;
	return n <= INT32_MAX;
}

/* 0, or the exit code. */
static int limit(int opt, const char *word, struct setting *s)
{
	struct quota_set *set = &s->set;
	u64 bytes;

	set->valid |= 1u << (opt - LIMIT_FIRST);
	switch (1u << (opt - LIMIT_FIRST)) {
	case QUOTA_SET_SPACE_SOFT:
	case QUOTA_SET_SPACE_HARD:
		if (!size_parse(word, &bytes) || bytes > UINT64_MAX - 1023)
			return cli_usage(
				"\"%s\" is no size: a number of bytes, or with K, M, G or T, is wanted",
				word);
		*(opt == LIMIT_FIRST ? &set->space_soft_kib : &set->space_hard_kib) =
			DIV_ROUND_UP(bytes, 1024ull);
		return 0;
	case QUOTA_SET_INODES_SOFT:
	case QUOTA_SET_INODES_HARD:
		if (!number_parse(word, UINT64_MAX,
				  opt == LIMIT_FIRST + 2 ? &set->inodes_soft : &set->inodes_hard))
			return cli_usage("\"%s\" is no number of inodes", word);
		return 0;
	default:
		if (!time_parse(word,
				opt == LIMIT_FIRST + 4 ? &set->space_grace_sec : &set->inodes_grace_sec))
			return cli_usage("\"%s\" is no time: seconds, or with m, h, d or w, are wanted",
					 word);
		return 0;
	}
}

/* 0, or the exit code. */
static int check_words(const struct setting *s, u32 kinds)
{
	const u32 grace = QUOTA_SET_SPACE_GRACE | QUOTA_SET_INODES_GRACE;

	if (!s->asked)
		return s->set.valid ? cli_usage("%s", "limits are --set for a user, a group or a project")
				    : 0;
	if (kinds)
		return cli_usage(
			"%s",
			"--set says whose limits they are: --user, --group and --project do not go with it");
	if (!s->set.valid)
		return cli_usage(
			"%s",
			"--set wants limits: --space-soft, --space-hard, --inodes-soft, --inodes-hard, or "
			"--space-grace and --inodes-grace");
	if (s->has_id == !!(s->set.valid & grace) || (s->set.valid & grace && s->set.valid & ~grace))
		return cli_usage("%s",
				 "limits are set for one id (user:NAME), times for all of a kind (user)");
	return 0;
}

static int open_volume(const struct tool_opts *o, const char *operand, bool write, struct asked *a)
{
	struct stat st;

	a->fd = -1;
	a->dir = operand;
	if (stat(operand, &st) || !S_ISDIR(st.st_mode))
		return write ? volume_open_rw(o, operand, &a->v) : volume_open(o, operand, &a->v);
	a->fd = open(operand, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return a->fd < 0 ? mounted_failed(a, -errno) : 0;
}

/* The exit code. */
static int end(struct asked *a, int err, const char *operand)
{
	int code = err ? cli_error(err, operand) : 0;

	if (a->fd >= 0)
		close(a->fd);
	else if (volume_close(&a->v) && !code)
		code = EXIT_ERROR;
	return code;
}

int cmd_quota(int argc, char **argv)
{
	struct setting s = { .asked = false };
	struct tool_opts o;
	struct asked a;
	u32 kinds = 0;
	int opt, code = 0, err;

	tool_init(&o);
	while (!code && (opt = getopt_long(argc, argv, TOOL_SHORT, long_options, NULL)) != -1) {
		if (opt == 'u' || opt == 'g' || opt == 'P')
			kinds |= 1u << (opt == 'u' ? QUOTA_USER : opt == 'g' ? QUOTA_GROUP : QUOTA_PROJECT);
		else if (opt == 's')
			code = whom(optarg, &s);
		else if (opt >= LIMIT_FIRST && opt < LIMIT_FIRST + LIMITS)
			code = limit(opt, optarg, &s);
		else
			code = tool_option(&o, opt, argv);
	}
	if (!code)
		code = check_words(&s, kinds);
	if (!code && argc - optind != 1)
		code = cli_usage("%s", "an image, a device or a mount is wanted");
	if (code)
		return code;
	err = open_volume(&o, argv[optind], s.asked, &a);
	if (err)
		return cli_error(err, argv[optind]);
	if (!s.asked)
		err = show(&a, kinds, o.json);
	else
		err = a.fd < 0 ? vfs_set_quota(a.v.sb, s.kind, &s.set) : set_mounted(&a, s.kind, &s.set);
	return end(&a, err, argv[optind]);
}
