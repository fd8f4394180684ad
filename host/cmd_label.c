/* werunos label and uuid: what a volume is called, and calling it something else. */
#include "cmd.h"

#include "edit.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

struct naming {
	bool uuid; /* it is the UUID that is asked for */
	const char *new;
	struct relabel what; /* new, understood */
	u8 bytes[16];
};

/* 0, or the exit code. */
static int new_name(struct naming *n)
{
	if (!n->uuid)
		n->what.label = n->new;
	else if (!strcmp(n->new, "random"))
		n->what.uuid_random = true;
	else if (!uuid_parse(n->new, n->bytes))
		n->what.uuid = n->bytes;
	else
		return cli_usage("\"%s\" is no UUID: random, or 32 hexadecimal digits like "
				 "01234567-89ab-4cde-8f01-23456789abcd are wanted",
				 n->new);
	return 0;
}

static int run_relabel(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		       const struct mount_opts *opts)
{
	const struct naming *a = ctx;

	return type->relabel(devs, n, opts, &a->what);
}

static int show(const struct naming *n, const struct fs_type *type, struct source *src, bool json)
{
	struct fs_probe info = { 0 };
	struct doc *d = NULL;
	struct text t = { 0 };
	int err = type->probe(src->dev, &info);

	if (!err && json) {
		d = doc_new();
		if (!d)
			err = fail(-ENOMEM, "no memory for the output");
		else if (n->uuid)
			doc_uuid(d, "uuid", info.uuid);
		else
			doc_bytes(d, "label", info.label, strlen(info.label));
		if (!err)
			err = put_doc(d, true);
		doc_free(d);
	} else if (!err) {
		if (n->uuid)
			text_add_uuid(&t, info.uuid);
		else
			text_add_name(&t, info.label, strlen(info.label));
		text_add(&t, "\n");
		err = put_text(&t);
		text_free(&t);
	}
	return err;
}

static int change(struct naming *n, const struct tool_opts *o, const struct fs_type *type, struct source *src)
{
	const struct source_run r = { .run = run_relabel, .ctx = n };
	struct text notice = { 0 };
	int err;

	if (!type->relabel)
		return fail(-EOPNOTSUPP, "%s: cannot change a %s volume yet", src->name, type->name);
	n->what.notice = &notice;
	err = source_run(src, type, &o->mount, &r);
	if (!err && notice.len_bytes)
		fprintf(stderr, "werunos: %s: %s\n", src->name, text_str(&notice));
	text_free(&notice);
	return err;
}

static int run(struct naming *n, const struct tool_opts *o, const char *operand)
{
	const struct fs_type *type;
	struct volume v;
	int err = n->new ? volume_source_rw(o, operand, &v) : volume_source(o, operand, &v);

	if (err)
		return cli_error(err, operand);
	err = source_probe(&v.src, &o->mount, &type);
	if (!err && !type->probe)
		err = fail(-EOPNOTSUPP, "%s: a %s volume has no names", v.src.name, type->name);
	if (!err)
		err = n->new ? change(n, o, type, &v.src) : show(n, type, &v.src, o->json);
	if (err)
		cli_error(err, operand);
	return volume_close(&v) || err ? EXIT_ERROR : 0;
}

static int name_command(struct naming *n, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'J' }, EDIT_LONG };
	struct tool_opts o;
	int opt, code;

	tool_init(&o);
	while ((opt = getopt_long(argc, argv, "p:" EDIT_SHORT, options, NULL)) != -1)
		if ((code = tool_option(&o, opt, argv)))
			return code;
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("%s", "an image or device is wanted, and perhaps its new name");
	n->new = argc - optind == 2 ? argv[optind + 1] : NULL;
	code = n->new ? new_name(n) : 0;
	return code ? code : run(n, &o, argv[optind]);
}

int cmd_label(int argc, char **argv)
{
	return name_command(&(struct naming){ .uuid = false }, argc, argv);
}

int cmd_uuid(int argc, char **argv)
{
	return name_command(&(struct naming){ .uuid = true }, argc, argv);
}
