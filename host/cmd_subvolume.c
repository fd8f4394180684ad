/* werunos subvolume list: the subvolumes and snapshots of a volume. */
#include "cmd.h"

#include "tool.h"
#include <errno.h>
#include <string.h>

static const struct option long_options[] = { TOOL_LONG };
static const u8 no_uuid[16];

static void add_uuid(struct doc *d, const char *key, const u8 uuid[16])
{
	if (memcmp(uuid, no_uuid, sizeof(no_uuid)))
		doc_uuid(d, key, uuid);
}

static int add_object(void *ctx, const struct subvolume *s)
{
	struct doc *d = doc_object(ctx, NULL);

	doc_u64(d, "id", s->id);
	doc_bytes(d, "path", s->path, strlen(s->path));
	if (s->parent)
		doc_u64(d, "parent", s->parent);
	doc_u64(d, "generation", s->generation);
	doc_u64(d, "created_generation", s->created_generation);
	if (s->created.sec)
		doc_time(d, "created", s->created.sec, s->created.nsec);
	add_uuid(d, "uuid", s->uuid);
	add_uuid(d, "parent_uuid", s->parent_uuid);
	add_uuid(d, "received_uuid", s->received_uuid);
	doc_bool(d, "readonly", s->rdonly);
	doc_bool(d, "snapshot", s->snapshot);
	doc_bool(d, "deleted", s->deleted);
	doc_bool(d, "shown", s->shown);
	return 0;
}

/* One row; the flags are letters, since most rows have few. */
static int add_row(void *ctx, const struct subvolume *s)
{
	struct text *t = ctx;

	text_add(t, "%8llu %8llu %8llu  %c%c%c%c  ", (unsigned long long)s->id, (unsigned long long)s->parent,
		 (unsigned long long)s->generation, s->shown ? '*' : '-', s->rdonly ? 'r' : '-',
		 s->snapshot ? 's' : '-', s->deleted ? 'd' : '-');
	text_add_uuid(t, s->uuid);
	text_add(t, "  /");
	text_add_name(t, s->path, strlen(s->path));
	text_add(t, "\n");
	return 0;
}

/* What could be listed is shown also when the rest cannot; nothing where there is nothing of the kind. */
static int list_json(struct volume *v)
{
	struct doc *d = doc_new();
	int err, put_err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	err = vfs_subvolumes(v->sb, add_object, doc_array(d, "subvolumes"));
	put_err = err == -EOPNOTSUPP ? 0 : put_doc(d, true);
	doc_free(d);
	return err ? err : put_err;
}

static int list_table(struct volume *v)
{
	struct text t = { 0 };
	int err, put_err;

	text_add(&t, "      ID   PARENT      GEN  FLAG  %-36s  PATH\n", "UUID");
	err = vfs_subvolumes(v->sb, add_row, &t);
	put_err = err == -EOPNOTSUPP ? 0 : put_text(&t);
	text_free(&t);
	return err ? err : put_err;
}

int cmd_subvolume(int argc, char **argv)
{
	struct tool_opts o;
	struct volume v;
	int opt, code, err;

	if (argc < 2 || strcmp(argv[1], "list") != 0)
		return cli_usage("%s", "\"list\" is what it can do");
	argc--;
	argv++;
	tool_init(&o);
	while ((opt = getopt_long(argc, argv, TOOL_SHORT, long_options, NULL)) != -1)
		if ((code = tool_option(&o, opt, argv)))
			return code;
	if (argc - optind != 1)
		return cli_usage("%s", "an image or device is wanted");
	err = volume_open(&o, argv[optind], &v);
	if (err)
		return cli_error(err, argv[optind]);
	err = o.json ? list_json(&v) : list_table(&v);
	volume_close(&v);
	return err ? cli_error(err, argv[optind]) : 0;
}
