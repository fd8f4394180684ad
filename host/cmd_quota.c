/* werunos quota: what users, groups and projects use of a volume, and what they may use. */
#include "cmd.h"

#include "tool.h"
#include <errno.h>
#include <stdio.h>
#include <time.h>

static const struct option long_options[] = {
	{ "user", no_argument, NULL, 'u' },
	{ "group", no_argument, NULL, 'g' },
	{ "project", no_argument, NULL, 'P' },
	TOOL_LONG,
};
static const char *const kind_name[QUOTA_KINDS] = { "user", "group", "project" };

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

static int one_kind(struct volume *v, enum quota_kind kind, struct doc *d, struct text *t)
{
	struct kind_array l = { .to = d, .key = kind_name[kind] };
	struct text rows = { 0 };
	struct quota_grace grace;
	int err;

	if (d)
		return vfs_quota(v->sb, kind, &grace, add_object, &l);
	err = vfs_quota(v->sb, kind, &grace, add_row, &rows);
	if (!err || rows.len_bytes)
		text_add(t, "%10s   %12s %12s %12s %-16s   %12s %12s %12s %s\n%s", kind_name[kind], "KiB",
			 "soft", "hard", "until", "inodes", "soft", "hard", "until", text_str(&rows));
	text_free(&rows);
	return err;
}

/* kinds: bits; 0: all that are counted. What can be read is shown also when the rest cannot. */
static int show(struct volume *v, u32 kinds, bool json)
{
	struct doc *d = json ? doc_new() : NULL;
	struct text t = { 0 };
	u32 shown = 0;
	int err = json && !d ? fail(-ENOMEM, "no memory for the output") : 0, put_err;

	for (u32 kind = 0; kind < QUOTA_KINDS && !err; kind++) {
		if (kinds && !(kinds & 1u << kind))
			continue;
		err = one_kind(v, kind, d, &t);
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

int cmd_quota(int argc, char **argv)
{
	struct tool_opts o;
	struct volume v;
	u32 kinds = 0;
	int opt, code, err;

	tool_init(&o);
	while ((opt = getopt_long(argc, argv, TOOL_SHORT, long_options, NULL)) != -1) {
		if (opt == 'u' || opt == 'g' || opt == 'P')
			kinds |= 1u << (opt == 'u' ? QUOTA_USER : opt == 'g' ? QUOTA_GROUP : QUOTA_PROJECT);
		else if ((code = tool_option(&o, opt, argv)))
			return code;
	}
	if (argc - optind != 1)
		return cli_usage("%s", "an image or device is wanted");
	err = volume_open(&o, argv[optind], &v);
	if (err)
		return cli_error(err, argv[optind]);
	err = show(&v, kinds, o.json);
	volume_close(&v);
	return err ? cli_error(err, argv[optind]) : 0;
}
