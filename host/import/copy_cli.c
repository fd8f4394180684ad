/* What the copying commands share. Interface: copy_cli.h. */
#include "import/copy_cli.h"

#include "cmd.h"
#include "import/import.h"
#include "lib/scope.h"
#include "tool.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FAILURES_MAX 1000u /* that are listed in the JSON report; all are told of on stderr */
#define ID_MAX       (UINT32_MAX - 1)

/* ---- options ---- */

void copy_cli_init(struct copy_cli *c)
{
	*c = (struct copy_cli){ .opts.ctx = c };
	mutex_init(&c->lock, RANK_LEAF);
}

/* The number in s[0..len). */
static bool number(const char *s, size_t len, u64 max, u32 *out)
{
	char digits[24];
	u64 v;

	if (!len || len >= sizeof(digits))
		return false;
	memcpy(digits, s, len);
	digits[len] = 0;
	if (!number_parse(digits, max, &v))
		return false;
	*out = (u32)v;
	return true;
}

static int owner_option(struct copy_cli *c, const char *s)
{
	size_t n = strcspn(s, ":");

	if (!number(s, n, ID_MAX, &c->opts.uid))
		return cli_usage("owner \"%s\": UID or UID:GID is wanted, in numbers", s);
	c->opts.gid = c->opts.uid;
	if (s[n] && !number(s + n + 1, strlen(s + n + 1), ID_MAX, &c->opts.gid))
		return cli_usage("owner \"%s\": UID or UID:GID is wanted, in numbers", s);
	c->opts.has_owner = true;
	return 0;
}

static bool map_parse(const char *s, struct werunos_id_map *out)
{
	size_t eq = strcspn(s, "="), to, n;

	if (!s[eq] || !number(s, eq, ID_MAX, &out->from))
		return false;
	s += eq + 1;
	to = strcspn(s, "+");
	out->count = 1;
	if (!number(s, to, ID_MAX, &out->to))
		return false;
	n = strlen(s);
	if (s[to] && (!number(s + to + 1, n - to - 1, UINT32_MAX, &out->count) || !out->count))
		return false;
	/* The last of the range is an id too. */
	return out->count - 1 <= ID_MAX - MAX(out->from, out->to);
}

static int map_option(struct copy_cli *c, const char *s)
{
	bool uid = !strncmp(s, "uid:", 4);
	struct werunos_id_map **map = uid ? &c->uid_map : &c->gid_map, *more, m;
	u32 *count = uid ? &c->opts.uid_maps : &c->opts.gid_maps;

	if ((!uid && strncmp(s, "gid:", 4) != 0) || !map_parse(s + 4, &m))
		return cli_usage("map \"%s\": uid:FROM=TO[+COUNT] or gid:FROM=TO[+COUNT] is wanted", s);
	more = realloc(*map, (*count + 1) * sizeof(*more));
	if (!more)
		return cli_fail("no memory for options");
	more[(*count)++] = m;
	*map = more;
	c->opts.uid_map = c->uid_map;
	c->opts.gid_map = c->gid_map;
	return 0;
}

static int exclude_option(struct copy_cli *c, const char *s)
{
	const char **more = realloc(c->exclude, (c->opts.excludes + 1) * sizeof(*more));

	if (!more)
		return cli_fail("no memory for options");
	/* From the top: a slash in front says no more. */
	while (*s == '/')
		s++;
	more[c->opts.excludes++] = s;
	c->exclude = more;
	c->opts.exclude = more;
	return 0;
}

static int threads_option(struct copy_cli *c, const char *s)
{
	u64 n;

	if (!number_parse(s, 1024, &n) || !n)
		return cli_usage("threads: \"%s\" is not a number that can be", s);
	c->opts.threads = (u32)n;
	return 0;
}

bool copy_cli_option(struct copy_cli *c, int opt, int *code)
{
	*code = 0;
	switch (opt) {
	case COPY_OPT_OWNER:
		*code = owner_option(c, optarg);
		return true;
	case COPY_OPT_MAP:
		*code = map_option(c, optarg);
		return true;
	case COPY_OPT_EXCLUDE:
		*code = exclude_option(c, optarg);
		return true;
	case COPY_OPT_QUIET:
		c->quiet = true;
		return true;
	case COPY_OPT_THREADS:
		*code = threads_option(c, optarg);
		return true;
	}
	return false;
}

/* ---- signals ---- */

static volatile int stop;
static _Atomic int stop_signal;

static void on_signal(int nr)
{
	atomic_store(&stop_signal, nr);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

static void catch_signals(void)
{
	static const int nr[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART }, old;

	for (size_t i = 0; i < ARRAY_SIZE(nr); i++)
		/* What nohup has switched off stays off. */
		if (!sigaction(nr[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(nr[i], &sa, NULL);
}

bool copy_cli_stopped(const struct copy_cli *c)
{
	(void)c;
	return stop_asked(&stop);
}

/* ---- the line on the terminal ---- */

static void add_time(struct text *t, u64 sec)
{
	if (sec >= 3600)
		text_add(t, "%llu:%02llu:%02llu", (unsigned long long)(sec / 3600),
			 (unsigned long long)(sec / 60 % 60), (unsigned long long)(sec % 60));
	else
		text_add(t, "%llu:%02llu", (unsigned long long)(sec / 60), (unsigned long long)(sec % 60));
}

/* "1234 files, 1.5 GiB, 230 MiB/s, 42 %, 0:12 left" */
static void progress_text(const struct werunos_report *r, u64 ns, struct text *t)
{
	double sec = (double)ns / 1e9;

	text_add(t, "%llu files, ", (unsigned long long)r->files);
	text_add_size(t, r->bytes);
	if (ns) {
		text_add(t, ", ");
		text_add_size(t, (u64)((double)r->bytes / sec));
		text_add(t, "/s");
	}
	if (r->position_all && r->position_bytes && r->position_bytes <= r->position_all) {
		double part = (double)r->position_bytes / (double)r->position_all;

		text_add(t, ", %.0f %%, ", 100 * part);
		add_time(t, (u64)(sec / part - sec + 0.5));
		text_add(t, " left");
	}
}

/* Locks: lock. */
static void line_clear(struct copy_cli *c)
{
	if (c->line)
		fputs("\r\033[K", stderr);
	c->line = false;
}

/* What all runs together have done: r is the report of the one that is under way. */
static struct werunos_report sum(const struct copy_cli *c, const struct werunos_report *r)
{
	struct werunos_report s = c->report;

	report_add(&s, r);
	if (c->position_all)
		s.position_all = c->position_all;
	return s;
}

static void progress(void *ctx, const struct werunos_report *r)
{
	struct copy_cli *c = ctx;
	struct werunos_report all = sum(c, r);
	struct text t = { 0 };

	progress_text(&all, os_monotonic_ns() - c->since_ns, &t);
	mutex_guard(&c->lock);
	fprintf(stderr, "\r\033[K%s", text_str(&t));
	fflush(stderr);
	c->line = true;
	text_free(&t);
}

/* Sentences hold names from archives and volumes: nothing of them may steer a terminal. */
static void tell(const char *path, const char *why)
{
	struct text t = { 0 };

	if (path) {
		text_add_name(&t, *path ? path : "/", *path ? strlen(path) : 1);
		text_add(&t, ": ");
	}
	text_add_name(&t, why, strlen(why));
	cli_fail("%s", text_str(&t));
	text_free(&t);
}

static void failed(void *ctx, const char *path, int err, const char *why)
{
	struct copy_cli *c = ctx;

	why = *why ? why : strerror(-err);
	mutex_guard(&c->lock);
	line_clear(c);
	tell(path, why);
	if (c->failures && c->failures_told++ < FAILURES_MAX) {
		struct doc *d = doc_object(c->failures, NULL);

		doc_bytes(d, "path", path, strlen(path));
		doc_str(d, "error", err_name(err));
		doc_bytes(d, "why", why, strlen(why));
	}
}

/* ---- runs ---- */

int copy_cli_failed(struct copy_cli *c, int err)
{
	if (!c->err) {
		c->err = err;
		snprintf(c->why, sizeof(c->why), "%s", err_text());
	}
	return err;
}

/* A deep tree has many directories of the host open at once. */
static void more_files(void)
{
	struct rlimit l;

	if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &l);
	}
}

void copy_cli_begin(struct copy_cli *c)
{
	c->on_terminal = !c->quiet && !c->json && isatty(STDERR_FILENO);
	c->opts.stop = &stop;
	c->opts.failed = failed;
	c->opts.progress = c->on_terminal ? progress : NULL;
	c->since_ns = os_monotonic_ns();
	c->doc = doc_new();
	c->failures = c->doc ? doc_array(c->doc, "failures") : NULL;
	if (!c->doc)
		copy_cli_failed(c, fail(-ENOMEM, "no memory for the report"));
	more_files();
	catch_signals();
}

int copy_cli_took(struct copy_cli *c, const struct werunos_report *r, int err)
{
	mutex_lock(&c->lock);
	line_clear(c);
	c->report = sum(c, r);
	mutex_unlock(&c->lock);
	if (err && err != -ECANCELED)
		copy_cli_failed(c, err);
	return err;
}

struct doc *copy_cli_doc(struct copy_cli *c)
{
	return c->doc;
}

/* ---- the end ---- */

static void summary_text(const struct copy_cli *c, u64 ns, struct text *t)
{
	const struct werunos_report *r = &c->report;

	text_add(t, "%llu files, %llu directories, %llu links, %llu others, ", (unsigned long long)r->files,
		 (unsigned long long)r->directories, (unsigned long long)r->links,
		 (unsigned long long)r->others);
	text_add_size(t, r->bytes);
	text_add(t, " in %.1f s", (double)ns / 1e9);
	if (r->failed)
		text_add(t, "; %llu not copied", (unsigned long long)r->failed);
	text_add(t, "\n");
}

static void summary_doc(const struct copy_cli *c, u64 ns, struct doc *d)
{
	const struct werunos_report *r = &c->report;

	doc_u64(d, "files", r->files);
	doc_u64(d, "directories", r->directories);
	doc_u64(d, "links", r->links);
	doc_u64(d, "others", r->others);
	doc_u64(d, "bytes", r->bytes);
	doc_u64(d, "failed", r->failed);
	doc_bool(d, "stopped", r->stopped || copy_cli_stopped(c));
	doc_u64(d, "milliseconds", ns / 1000000);
	if (c->err)
		doc_bytes(d, "error", c->why, strlen(c->why));
}

static int report(struct copy_cli *c)
{
	u64 ns = os_monotonic_ns() - c->since_ns;
	struct text t = { 0 };
	int err;

	if (c->json && c->doc) {
		summary_doc(c, ns, c->doc);
		doc_to_json(c->doc, &t);
	} else if (!c->quiet && !c->err) {
		summary_text(c, ns, &t);
	}
	if (c->stdout_taken) {
		fputs(text_str(&t), stderr);
		err = 0;
	} else {
		err = put_text(&t);
	}
	text_free(&t);
	return err;
}

int copy_cli_end(struct copy_cli *c, int close_code)
{
	int err = report(c), code = close_code;

	if (c->err) {
		tell(NULL, *c->why ? c->why : strerror(-c->err));
		code = EXIT_ERROR;
	} else if (err) {
		code = cli_error(err, "the report");
	}
	if (c->report.failed && !code)
		code = EXIT_ERROR;
	if (copy_cli_stopped(c)) {
		cli_fail("stopped: what was complete by then stays, the rest is left out");
		code = 128 + atomic_load(&stop_signal);
	}
	return code;
}

void copy_cli_free(struct copy_cli *c)
{
	free(c->exclude);
	free(c->uid_map);
	free(c->gid_map);
	if (c->doc)
		doc_free(c->doc);
	mutex_fini(&c->lock);
}
