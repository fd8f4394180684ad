/* New volumes, empty or with their content. Interface: werunos.h. */
#include "api/api.h"
#include "api/copy.h"
#include "import/populate.h"
#include "lib/scope.h"
#include "newvol.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct werunos_facts {
	struct doc *doc;
	struct text text;
};

static int facts_new(struct werunos_facts **out)
{
	struct werunos_facts *f = calloc(1, sizeof(*f));

	if (f)
		f->doc = doc_new();
	if (!f || !f->doc) {
		werunos_facts_free(f);
		return fail(-ENOMEM, "no memory for the output");
	}
	*out = f;
	return 0;
}

void werunos_facts_free(struct werunos_facts *f)
{
	if (!f)
		return;
	doc_free(f->doc);
	text_free(&f->text);
	free(f);
}

const char *werunos_facts_text(struct werunos_facts *f, bool json)
{
	text_reset(&f->text);
	if (json)
		doc_to_json(f->doc, &f->text);
	else
		doc_to_text(f->doc, &f->text);
	return doc_oom(f->doc) || f->text.oom ? NULL : text_str(&f->text);
}

/* What is made of the options. */
struct job {
	const struct werunos_make_options *o;
	const struct fs_type *type;
	struct format_opts format;
	struct newvol_opts place;
	char *words; /* the variant's, and the caller's */
};

/* What the same call has every time, for chance that comes from it. */
static int chance(struct job *j, const char *type)
{
	const struct werunos_make_options *o = j->o;
	char numbers[96];
	const char *words[] = { type, o->words ? o->words : "", o->features ? o->features : "",
				o->label ? o->label : "", numbers };

	snprintf(numbers, sizeof(numbers), "%llu %u %u %u", (unsigned long long)o->size_bytes, o->block_bytes,
		 o->root_uid, o->root_gid);
	return newvol_chance(&j->format, o->has_uuid, words, ARRAY_SIZE(words));
}

static int prepare(struct job *j, const char *type)
{
	const struct werunos_make_options *o = j->o;
	const char *variant, *words = o->words ? o->words : "";
	int err = newvol_type(type, &j->type, &variant);

	if (err)
		return err;
	if (asprintf(&j->words, "%s%s%s", variant, *variant && *words ? "," : "", words) < 0) {
		j->words = NULL;
		return fail(-ENOMEM, "no memory for options");
	}
	j->place = (struct newvol_opts){ .part = o->part,
					 .size_bytes = o->size_bytes,
					 .force = o->force,
					 .keep = o->keep,
					 .dry = o->dry_run };
	j->format = (struct format_opts){
		.block_bytes = o->block_bytes,
		.label = o->label,
		.root_uid = o->root_uid,
		.root_gid = o->root_gid,
		.features = o->features ? o->features : "",
		.fs_opts = j->words,
	};
	memcpy(j->format.uuid, o->uuid, sizeof(j->format.uuid));
	return chance(j, type);
}

static int make_empty(const struct job *j, const char *spec, struct werunos_facts *facts)
{
	struct newvol v;
	int err;

	if (j->o->platform || j->o->shrink)
		return fail(-EINVAL, "%s is for volumes that are made --from something",
			    j->o->shrink ? "--shrink" : "--platform");
	err = newvol_open(spec, j->type, &j->place, &v);
	if (err)
		return err;
	if (facts) {
		doc_str(facts->doc, "source", v.src.name);
		doc_str(facts->doc, "type", j->type->name);
		if (j->place.dry)
			doc_bool(facts->doc, "dry_run", true);
	}
	return newvol_close(&v, newvol_format(&v, &j->format, facts ? facts->doc : NULL));
}

static int make_full(const struct job *j, const char *spec, struct werunos_facts *facts)
{
	const struct mount_script script = { j->format.now, j->format.seed };
	struct werunos_report report = { 0 };
	struct populate p = {
		.from = j->o->from,
		.platform = j->o->platform,
		.shrink = j->o->shrink,
		.place = j->place,
		.format = j->format,
		.type = j->type,
		.script = newvol_is_scripted() ? &script : NULL,
		.copy = api_copy_opts(j->o->copy),
		.select = api_select(j->o->copy),
		.report = j->o->report ? j->o->report : &report,
	};
	int err;

	if (j->place.dry)
		return fail(-EINVAL, "--dry-run makes nothing that could be filled");
	err = populate_run(&p, spec);
	if (facts && (!err || err == -ECANCELED))
		populate_describe(spec, j->place.part, facts->doc);
	return err;
}

int werunos_make(const char *type, const char *spec, const struct werunos_make_options *o,
		 struct werunos_facts **facts)
{
	static const struct werunos_make_options defaults;
	struct job j = { .o = o ? o : &defaults };
	struct werunos_facts *f = NULL;
	int err;

	api_begin();
	if (j.o->report)
		*j.o->report = (struct werunos_report){ 0 };
	err = prepare(&j, type);
	if (!err && facts)
		err = facts_new(&f);
	if (!err)
		err = j.o->from ? make_full(&j, spec, f) : make_empty(&j, spec, f);
	free(j.words);
	if (f && (!err || err == -ECANCELED))
		*facts = f;
	else
		werunos_facts_free(f);
	return api_end(err);
}
