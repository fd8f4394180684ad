/*
 * werunos fsck: what is wrong with a volume, and mending it. The module finds and mends; here it is said, one line for each thing, or as
 * JSON, asked for, and made into fsck(8)'s exit codes: 0 sound, 1 mended, 4 errors are left, 8 it could not be checked, 16 wrong
 * usage, 32 cancelled.
 */
#include "cmd.h"
#include "mend.h"
#include "undo.h"
#include "number.h"
#include "seen.h"

#include "lib/crc.h"
#include "tool.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FSCK_MENDED      1
#define FSCK_ERRORS_LEFT 4
#define FSCK_FAILED      8
#define FSCK_USAGE       16
#define FSCK_CANCELLED   32

#define BAR_WIDTH 30u

#define OPT_CLEAR_LOG 256

struct fsck {
	struct tool_opts tool;
	struct check_opts check;
	struct check_summary sum;
	enum { MEND_NOTHING, MEND_SAFE, MEND_ASK, MEND_ALL } mends;
	u64 mended;
	struct seen refused; /* answered with no: a later round finds them again */
	const char *undo_file;
	bool dry_run;
	const struct source *src;
	const char *source; /* the volume's name */
	const char *type;
	bool quiet;
	bool bar;     /* progress is shown */
	bool bar_up;  /* a bar stands on the line */
	u32 permille; /* and says this, of this pass */
	u32 pass;
	u64 said; /* records so far */
};

static _Atomic bool stop;

static void on_signal(int sig)
{
	(void)sig;
	atomic_store(&stop, true);
}

/* ---- progress ---- */

static void bar_clear(struct fsck *f)
{
	if (f->bar_up)
		fputs("\r\033[K", stderr);
	f->bar_up = false;
}

static void progress(void *ctx, u32 pass, u32 passes, const char *name, u64 done, u64 all)
{
	struct fsck *f = ctx;
	u32 permille = all ? (u32)(1000.0 * (double)MIN(done, all) / (double)all) : 1000, full;

	if (f->bar_up && f->pass == pass && f->permille == permille)
		return;
	f->bar_up = true;
	f->pass = pass;
	f->permille = permille;
	full = permille * BAR_WIDTH / 1000;
	fprintf(stderr, "\r\033[K%u/%u [", pass, passes);
	for (u32 i = 0; i < BAR_WIDTH; i++)
		fputc(i < full ? '#' : '.', stderr);
	fprintf(stderr, "] %3u%% %s", permille / 10, name);
	fflush(stderr);
}

/* ---- findings ---- */

static const char *const grade_word[CHECK_GRADES] = {
	[CHECK_HINT] = "hint",
	[CHECK_WRONG] = "wrong",
	[CHECK_LOSS] = "loss",
};

static const char *why_left(const struct fsck *f, const struct check_record *r)
{
	if (!r->fix)
		return "nothing here mends it";
	if (f->mends == MEND_NOTHING)
		return "only looked at";
	if (f->mends == MEND_SAFE && !r->safe)
		return "mending it is a decision";
	return "it could not be mended";
}

static int say_json(struct fsck *f, const struct check_record *r, bool mended)
{
	struct doc *d = doc_new();
	struct text t = { 0 };
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	doc_str(d, "code", r->code);
	doc_str(d, "grade", grade_word[r->grade]);
	doc_str(d, "object", r->object);
	doc_u64(d, "nr", r->nr);
	if (r->name)
		doc_bytes(d, "name", r->name, strlen(r->name));
	doc_bytes(d, "text", r->text, strlen(r->text));
	doc_bool(d, "repaired", mended);
	if (!mended)
		doc_str(d, "why", why_left(f, r));
	text_add(&t, "%s", f->said++ ? ",\n" : "\n");
	doc_to_json(d, &t);
	doc_free(d);
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int say_text(const struct check_record *r, const char *end)
{
	struct text t = { 0 };
	int err;

	text_add(&t, "%s", r->object);
	if (strcmp(r->object, "superblock") || r->nr)
		text_add(&t, " %llu", (unsigned long long)r->nr);
	if (r->name) {
		text_add(&t, " (");
		text_add_name(&t, r->name, strlen(r->name));
		text_add(&t, ")");
	}
	text_add(&t, ": ");
	text_add_name(&t, r->text, strlen(r->text));
	text_add(&t, " [%s]%s\n", r->code, end);
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int found(void *ctx, const struct check_record *r)
{
	struct fsck *f = ctx;

	bar_clear(f);
	if (f->tool.json)
		return say_json(f, r, false);
	return f->quiet ? 0 : say_text(r, "");
}

static u64 refusal_key(const struct check_record *r)
{
	u32 sum = crc32c(~0u, r->code, strlen(r->code));

	return ((u64)crc32c(sum, r->text, strlen(r->text)) << 32 | (u32)r->nr) + 1;
}

static int refuse(struct fsck *f, const struct check_record *r)
{
	int err = seen_add(&f->refused, refusal_key(r));

	return err == -ENOMEM ? fail(err, "no memory for the answers") : 0;
}

/* 1: mend it, 0: leave it; -ECANCELED. "a" answers all that follows. */
static int ask(struct fsck *f, const struct check_record *r)
{
	char line[16];
	int err = 0;

	if (seen_has(&f->refused, refusal_key(r)))
		return 0;
	err = say_text(r, "");

	while (!err) {
		printf("  %s? (y, n, a: yes to all, q: end without mending) ", r->fix);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin) || line[0] == 'q')
			return fail(-ECANCELED, "ended by request");
		if (line[0] == 'a')
			f->mends = MEND_ALL;
		if (line[0] == 'a' || line[0] == 'y')
			return 1;
		if (line[0] == 'n')
			return refuse(f, r);
	}
	return err;
}

static int mend(void *ctx, const struct check_record *r)
{
	struct fsck *f = ctx;
	int err = 0;

	if (f->mends == MEND_SAFE && !r->safe)
		return 0;
	bar_clear(f);
	if (f->mends == MEND_ASK)
		return ask(f, r);
	if (f->tool.json)
		err = say_json(f, r, true);
	else if (!f->quiet)
		err = say_text(r, f->dry_run ? " would be mended" : " mended");
	return err ? err : 1;
}

/* ---- the end ---- */

static u64 errors_of(const struct check_summary *s)
{
	return s->found[CHECK_WRONG] + s->found[CHECK_LOSS];
}

static int summary_text(const struct fsck *f)
{
	const struct check_summary *s = &f->sum;
	struct text t = { 0 };
	int err;

	text_add_name(&t, f->source, strlen(f->source));
	text_add(&t, ": %s, %s\n", f->type, s->state);
	if (s->skipped) {
		text_add(&t, "Not looked at any further: it says that it is sound (-f looks all the same)\n");
	} else {
		text_add(&t, "  block size   %u\n", s->block_bytes);
		text_add(&t, "  inodes       %llu\n", (unsigned long long)s->inodes);
		text_add(&t, "  directories  %llu\n", (unsigned long long)s->directories);
		text_add(&t, "  extents      %llu\n", (unsigned long long)s->extents);
		text_add(&t, "  blocks       %llu of %llu\n", (unsigned long long)s->blocks_used,
			 (unsigned long long)s->blocks);
		if (f->mended)
			text_add(&t, "%s: %llu\n", f->dry_run ? "Would be mended" : "Mended",
				 (unsigned long long)f->mended);
		if (errors_of(s))
			text_add(&t, "Problems %s: %llu, by %llu of them content is lost or in doubt\n",
				 f->mends ? "left" : "found", (unsigned long long)errors_of(s),
				 (unsigned long long)s->found[CHECK_LOSS]);
		else
			text_add(&t, "No problems %s: filesystem is healthy\n", f->mended ? "left" : "found");
		if (s->found[CHECK_HINT])
			text_add(&t, "Hints: %llu\n", (unsigned long long)s->found[CHECK_HINT]);
	}
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int summary_json(const struct fsck *f)
{
	const struct check_summary *s = &f->sum;
	struct doc *d = doc_new();
	struct text t = { 0 };
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	doc_bytes(d, "source", f->source, strlen(f->source));
	doc_str(d, "type", f->type);
	doc_str(d, "state", s->state);
	doc_bool(d, "skipped", s->skipped);
	doc_bool(d, "sound", !errors_of(s));
	doc_u64(d, "repaired", f->mended);
	for (u32 i = 0; i < CHECK_GRADES; i++)
		doc_u64(d, grade_word[i], s->found[i]);
	doc_u64(d, "block_bytes", s->block_bytes);
	doc_u64(d, "inodes", s->inodes);
	doc_u64(d, "directories", s->directories);
	doc_u64(d, "links", s->links);
	doc_u64(d, "extents", s->extents);
	doc_u64(d, "blocks", s->blocks);
	doc_u64(d, "blocks_used", s->blocks_used);
	text_add(&t, "%s],\n\"summary\": ", f->said ? "\n" : "");
	doc_to_json(d, &t);
	text_add(&t, "}\n");
	doc_free(d);
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int run_check(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		     const struct mount_opts *opts)
{
	struct fsck *f = ctx;

	struct mending m = { .check = &f->check, .dry_run = f->dry_run, .undo_file = f->undo_file };
	const char *name[UNDO_DEVICES_MAX];
	int err;

	if (n > UNDO_DEVICES_MAX)
		return fail(-E2BIG, "%u devices are too many", n);
	name[0] = f->src->name;
	for (u32 i = 1; i < n; i++)
		name[i] = f->src->more[i - 1].name;
	m.name = name;
	memset(&f->sum, 0, sizeof(f->sum));
	if (f->mends == MEND_NOTHING)
		return type->check(devs, n, opts, &f->check, &f->sum);
	err = mend_volume(&m, type, devs, n, opts);
	f->sum = m.after;
	f->mended = m.mended;
	return err;
}

static void run_undo(void *ctx)
{
	(void)ctx;
}

static int check(struct fsck *f, struct volume *v, const struct fs_type *type)
{
	const struct source_run r = { .run = run_check, .undo = run_undo, .ctx = f };
	static const char json_head[] = "{\"found\": [";
	int err = 0;

	if (!type->check)
		return fail(-EOPNOTSUPP, "%s: a %s volume cannot be checked yet", v->src.name, type->name);
	f->src = &v->src;
	f->source = v->src.name;
	f->type = type->name;
	if (f->tool.json)
		err = put_bytes(json_head, sizeof(json_head) - 1);
	if (!err)
		err = source_run(&v->src, type, &f->tool.mount, &r);
	bar_clear(f);
	if (err && f->tool.json) {
		static const char json_end[] = "]}\n";

		(void)!put_bytes(json_end, sizeof(json_end) - 1);
	}
	if (err)
		return err;
	if (f->tool.json)
		return summary_json(f);
	return f->quiet ? 0 : summary_text(f);
}

static int run_on(struct fsck *f, const char *operand)
{
	bool write = f->mends != MEND_NOTHING && !f->dry_run;
	const struct fs_type *type;
	struct volume v;
	int err = volume_source(&f->tool, operand, write, &v);

	if (err)
		return err;
	err = source_probe(&v.src, &f->tool.mount, &type);
	if (!err)
		err = check(f, &v, type);
	volume_close(&v);
	return err;
}

static int run(struct fsck *f, const char *operand)
{
	const struct sigaction act = { .sa_handler = on_signal };
	int err;

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	err = run_on(f, operand);
	seen_free(&f->refused);
	if (err == -ECANCELED)
		return FSCK_CANCELLED;
	if (err) {
		cli_error(err, operand);
		return FSCK_FAILED;
	}
	if (errors_of(&f->sum))
		return FSCK_ERRORS_LEFT;
	return f->mended ? FSCK_MENDED : 0;
}

/* ---- options ---- */

static int option(struct fsck *f, int opt, char **argv)
{
	u64 v;

	switch (opt) {
	case 'n':
		return 0;
	case 'f':
		f->check.force = true;
		return 0;
	case 'd':
		f->check.data = true;
		return 0;
	case OPT_CLEAR_LOG:
		f->check.clear_log = true;
		return 0;
	case 'q':
		f->quiet = true;
		return 0;
	case 'y':
		f->mends = MEND_ALL;
		return 0;
	case 'x':
		f->mends = MAX(f->mends, MEND_ASK);
		return 0;
	case 'a':
		f->mends = MEND_SAFE;
		return 0;
	case 'D':
		f->check.rebuild_dirs = true;
		return 0;
	case 'u':
		f->undo_file = optarg;
		return 0;
	case 'r':
		f->dry_run = true;
		return 0;
	case 'p':
		/* "-p IMAGE" is fsck(8)'s way to ask for what is safe. */
		if (!number_parse(optarg, UINT64_MAX, &v)) {
			f->mends = MEND_SAFE;
			optind--;
			return 0;
		}
		break;
	case 'b':
		f->tool.mount.has_sb = true;
		if (number_parse(optarg, UINT64_MAX, &f->tool.mount.sb_block))
			return 0;
		cli_usage("superblock: \"%s\" is not a number that can be", optarg);
		return FSCK_USAGE;
	case 'B':
		if (size_parse(optarg, &v) && v <= UINT32_MAX && is_pow2(v)) {
			f->tool.mount.sb_block_bytes = (u32)v;
			return 0;
		}
		cli_usage("block size: \"%s\" is none", optarg);
		return FSCK_USAGE;
	}
	return tool_option(&f->tool, opt, argv) ? FSCK_USAGE : 0;
}

/* What fits together. 0, or the exit code. */
static int mending_options(struct fsck *f)
{
	if (f->mends == MEND_NOTHING && (f->undo_file || f->check.rebuild_dirs || f->check.clear_log))
		cli_usage("%s", "with -n, which is the default, nothing is written: -y, -p or --fix is "
				"wanted as well");
	else if (f->mends == MEND_ASK && (f->tool.json || f->quiet || !isatty(STDIN_FILENO)))
		cli_usage(
			"%s",
			"--fix asks before each repair and needs a terminal for it: -y answers all with yes");
	else if (f->tool.journal && f->undo_file)
		cli_usage("%s",
			  "--undo keeps what was on the volume, not what was on the device of its journal: "
			  "leave one of the two away, and copy both before");
	else if (f->dry_run && f->undo_file)
		cli_usage("%s", "--dry-run writes nothing that could be undone");
	else {
		if (f->dry_run && f->mends == MEND_NOTHING)
			f->mends = MEND_ALL;
		if (f->mends != MEND_NOTHING)
			f->check.mend = mend;
		f->check.force |= f->mends > MEND_SAFE || f->check.rebuild_dirs;
		return 0;
	}
	return FSCK_USAGE;
}

int cmd_fsck(int argc, char **argv)
{
	static const struct option options[] = { { "no-change", no_argument, NULL, 'n' },
						 { "force", no_argument, NULL, 'f' },
						 { "check-data", no_argument, NULL, 'd' },
						 { "clear-log", no_argument, NULL, OPT_CLEAR_LOG },
						 { "quiet", no_argument, NULL, 'q' },
						 { "fix", no_argument, NULL, 'x' },
						 { "yes", no_argument, NULL, 'y' },
						 { "preen", no_argument, NULL, 'a' },
						 { "rebuild-directories", no_argument, NULL, 'D' },
						 { "undo", required_argument, NULL, 'u' },
						 { "dry-run", no_argument, NULL, 'r' },
						 { "superblock", required_argument, NULL, 'b' },
						 { "block-size", required_argument, NULL, 'B' },
						 TOOL_LONG };
	static struct fsck f;
	int opt, code;

	f = (struct fsck){ .check = { .found = found, .ctx = &f, .stop = &stop } };
	tool_init(&f.tool);
	while ((opt = getopt_long(argc, argv, "nfyaDb:B:q" TOOL_SHORT, options, NULL)) != -1)
		if ((code = option(&f, opt, argv)))
			return code;
	if (argc - optind != 1) {
		cli_usage("%s", "an image or device is wanted");
		return FSCK_USAGE;
	}
	if (f.tool.mount.sb_block_bytes && !f.tool.mount.has_sb) {
		cli_usage("%s", "-B says how large the blocks are that -b counts");
		return FSCK_USAGE;
	}
	code = mending_options(&f);
	if (code)
		return code;
	f.check.cache_bytes = f.tool.mount.cache_bytes;
	f.bar = !f.quiet && !f.tool.json && isatty(STDERR_FILENO);
	if (f.bar)
		f.check.progress = progress;
	return run(&f, argv[optind]);
}
