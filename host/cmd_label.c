/* werunos label and uuid: what a volume is called, and calling it something else. */
#include "cmd.h"

#include "edit.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct naming {
	bool uuid; /* it is the UUID that is asked for */
	const char *new;
	struct werunos_names names; /* new, understood */
	u8 bytes[16];
};

/* 0, or the exit code. */
static int new_name(struct naming *n)
{
	if (!n->uuid)
		n->names.label = n->new;
	else if (!strcmp(n->new, "random"))
		n->names.uuid_random = true;
	else if (cli_uuid(n->new, n->bytes))
		n->names.uuid = n->bytes;
	else
		return cli_usage("\"%s\" is no UUID: random, or 32 hexadecimal digits like "
				 "01234567-89ab-4cde-8f01-23456789abcd are wanted",
				 n->new);
	return 0;
}

static int show_json(const struct naming *n, const struct werunos_identity *id)
{
	struct doc *d = doc_new();
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	if (n->uuid)
		doc_uuid(d, "uuid", id->uuid);
	else
		doc_bytes(d, "label", id->label, strlen(id->label));
	err = put_doc(d, true);
	doc_free(d);
	return err;
}

static int show(const struct naming *n, const char *spec, const struct werunos_open_options *wo, bool json)
{
	struct werunos_identity id;
	struct text t = { 0 };
	int err = werunos_identify(spec, wo, &id);

	if (err)
		return err;
	if (json)
		return show_json(n, &id);
	if (n->uuid)
		text_add_uuid(&t, id.uuid);
	else
		text_add_name(&t, id.label, strlen(id.label));
	text_add(&t, "\n");
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int change(const struct naming *n, const char *spec, const struct werunos_open_options *wo)
{
	char notice[1024];
	int err = werunos_relabel(spec, wo, &n->names, notice, sizeof(notice));

	if (!err && *notice)
		fprintf(stderr, "werunos: %s: %s\n", spec, notice);
	return err;
}

static int run(const struct naming *n, const struct tool_opts *o, const char *operand)
{
	const struct werunos_open_options wo = tool_open_options(o, n->new);
	scoped(freep) char *spec = NULL;
	const char *path;
	int err = operand_split(operand, &spec, &path);

	if (!err)
		err = n->new ? change(n, spec, &wo) : show(n, spec, &wo, o->json);
	return err ? cli_error(err, operand) : 0;
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
