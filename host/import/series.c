/* Several copies, one after the other, that are one to who asked for them. Interface: import.h. */
#include "import.h"

void report_add(struct werunos_report *sum, const struct werunos_report *r)
{
	sum->files += r->files;
	sum->directories += r->directories;
	sum->links += r->links;
	sum->others += r->others;
	sum->bytes += r->bytes;
	sum->failed += r->failed;
	sum->position_bytes += r->position_bytes;
	sum->position_all += r->position_all;
	sum->stopped |= r->stopped;
}

static void series_add(const struct series *s, struct werunos_report *sum, const struct werunos_report *r)
{
	report_add(sum, r);
	if (s->position_all)
		sum->position_all = s->position_all;
}

static void failed(void *ctx, const char *path, int err, const char *why)
{
	const struct series *s = ctx;

	s->asked->failed(s->asked->ctx, path, err, why);
}

static void progress(void *ctx, const struct werunos_report *r)
{
	const struct series *s = ctx;
	struct werunos_report all = s->all;

	series_add(s, &all, r);
	s->asked->progress(s->asked->ctx, &all);
}

void series_init(struct series *s, const struct copy_opts *opts, u64 position_all)
{
	*s = (struct series){ .asked = opts, .opts = *opts, .position_all = position_all };
	s->opts.failed = opts->failed ? failed : NULL;
	s->opts.progress = opts->progress ? progress : NULL;
	s->opts.ctx = s;
}

int series_run(struct series *s, struct feed *f, struct sink *k)
{
	struct werunos_report r = { 0 };
	int err = copy_run(f, k, &s->opts, &r);

	series_add(s, &s->all, &r);
	return err;
}
