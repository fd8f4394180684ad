/* Findings on their way to who asked, each a row of the table; those about inodes wait until names are known. */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WAITS_MAX 20000u
#define PASSES    5u

enum mending { MEND_NEVER, MEND_ASK, MEND_SAFE };
struct row {
	const char *code, *object, *sentence, *fix;
	enum check_grade grade;
	enum mending mending;
};
static const struct row rows[CK_COUNT] = {
#define CK_ROW(name, word, what, how, text, when, mend) \
	[CK_##name] = { .code = word,                   \
			.object = what,                 \
			.sentence = text,               \
			.fix = mend,                    \
			.grade = CHECK_##how,           \
			.mending = MEND_##when },
	CK_CODES(CK_ROW)
#undef CK_ROW
};

bool ck_goes_on(struct ck *ck)
{
	if (!ck->err && ck->opts->stop && atomic_load_explicit(ck->opts->stop, memory_order_relaxed))
		ck->err = -ECANCELED;
	return !ck->err;
}

void ck_no_memory(struct ck *ck)
{
	if (!ck->err)
		ck->err = fail(-ENOMEM, "no memory for checking %s", ck->es->vfs.health.name);
}

bool ck_room(struct ck *ck, void *p, u32 count, u32 *room, size_t size)
{
	void **array = p, *more;
	u32 want;

	if (count < *room)
		return true;
	want = *room ? *room + *room / 2 : 256;
	more = want > *room ? reallocarray(*array, want, size) : NULL;
	if (!more) {
		ck_no_memory(ck);
		return false;
	}
	*array = more;
	*room = want;
	return true;
}

void ck_progress(struct ck *ck, const char *name, u64 done, u64 all)
{
	if (ck->opts->progress)
		ck->opts->progress(ck->opts->ctx, ck->pass, PASSES, name, done, all);
}

/* To who asked, with the object's path where it is known: to be told, or (mend) to be asked. What that returned. */
static int pass_on(struct ck *ck, enum ck_code code, u64 nr, const char *text,
		   int (*to)(void *ctx, const struct check_record *r))
{
	const struct row *row = &rows[code];
	struct text path = { 0 };
	struct check_record r = { .code = row->code,
				  .object = row->object,
				  .nr = nr,
				  .text = text,
				  .grade = row->grade,
				  .fix = row->mending == MEND_NEVER ? NULL : row->fix,
				  .safe = row->mending == MEND_SAFE };
	int said;

	if (ck->names_known && !strcmp(row->object, "inode") && ck->path(ck, nr, &path))
		r.name = text_str(&path);
	said = to ? to(ck->opts->ctx, &r) : 0;
	text_free(&path);
	return said;
}

static void emit(struct ck *ck, enum ck_code code, u64 nr, const char *text)
{
	int err = pass_on(ck, code, nr, text, ck->opts->found);

	ck->sum->found[rows[code].grade]++;
	if (err && !ck->err)
		ck->err = err;
}

static bool ask(struct ck *ck, enum ck_code code, u64 nr, const char *text)
{
	int said = pass_on(ck, code, nr, text, ck->opts->mend);

	if (said < 0 && !ck->err)
		ck->err = said;
	ck->sum->mended += said > 0;
	return said > 0;
}

static void wait_for_name(struct ck *ck, enum ck_code code, u64 nr, struct text *text)
{
	struct ck_ino *in = ck_ino(ck, nr);

	if (ck->waits == WAITS_MAX || text->oom ||
	    !ck_room(ck, &ck->wait, ck->waits, &ck->wait_room, sizeof(*ck->wait))) {
		emit(ck, code, nr, text_str(text));
		return;
	}
	if (in)
		in->flags |= CK_WANTED;
	ck->wait[ck->waits++] = (struct ck_wait){ code, nr, text->buf };
	*text = (struct text){ 0 };
}

static bool say(struct ck *ck, enum ck_code code, u64 nr, bool can_mend, const char *fmt, va_list ap)
{
	struct text t = { 0 };
	char more[512];
	bool mend = false;

	if (ck->err)
		return false;
	vsnprintf(more, sizeof(more), fmt, ap);
	text_add(&t, "%s%s%s", rows[code].sentence, more[0] ? ": " : "", more);
	if (can_mend && ck_mends(ck) && rows[code].mending != MEND_NEVER)
		mend = ask(ck, code, nr, text_str(&t));
	if (!mend && !ck->names_known && !strcmp(rows[code].object, "inode"))
		wait_for_name(ck, code, nr, &t);
	else if (!mend)
		emit(ck, code, nr, text_str(&t));
	text_free(&t);
	return mend;
}

void ck_say(struct ck *ck, enum ck_code code, u64 nr, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)say(ck, code, nr, false, fmt, ap);
	va_end(ap);
}

bool ck_fix(struct ck *ck, enum ck_code code, u64 nr, const char *fmt, ...)
{
	va_list ap;
	bool mend;

	va_start(ap, fmt);
	mend = say(ck, code, nr, true, fmt, ap);
	va_end(ap);
	return mend;
}

void ck_names_known(struct ck *ck)
{
	ck->names_known = true;
	for (u32 i = 0; i < ck->waits; i++) {
		if (!ck->err)
			emit(ck, ck->wait[i].code, ck->wait[i].nr, ck->wait[i].text);
		free(ck->wait[i].text);
	}
	free(ck->wait);
	ck->wait = NULL;
	ck->waits = ck->wait_room = 0;
}
