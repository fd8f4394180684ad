/* Findings: one table of codes, and what every finding goes through. */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define CK_ROW(name, word, grade, text) { word, CHECK_##grade, text },
static const struct {
	const char *word;
	enum check_grade grade;
	const char *text;
} codes[] = { CK_CODES(CK_ROW) };

#define PASSES      5u
#define PASSES_DATA 6u
/* Findings with a path: of a volume that has more, the first. */
#define PATHS_MAX 10000u

enum mending { MEND_NEVER, MEND_ASK, MEND_SAFE };
#define CK_MEND(name, when, how) [CK_##name] = { MEND_##when, how },
static const struct {
	enum mending mending;
	const char *fix;
} mends[ARRAY_SIZE(codes)] = { CK_MENDS(CK_MEND) };

#define TEXT_BYTES 512u

/* text: room for the sentence. */
static struct check_record record(enum ck_code code, const char *object, u64 nr, const char *name,
				  const char *detail, char text[TEXT_BYTES])
{
	struct check_record r = {
		.code = codes[code].word,
		.object = object,
		.nr = nr,
		.name = name,
		.text = codes[code].text,
		.grade = codes[code].grade,
		.fix = mends[code].fix,
		.safe = mends[code].mending == MEND_SAFE,
	};

	if (detail) {
		snprintf(text, TEXT_BYTES, "%s: %s", codes[code].text, detail);
		r.text = text;
	}
	return r;
}

static void emit(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		 const char *detail)
{
	char text[TEXT_BYTES];
	struct check_record r = record(code, object, nr, name, detail, text);
	int err;

	if (c->err)
		return;
	c->sum->found[r.grade]++;
	err = c->opts->found ? c->opts->found(c->opts->ctx, &r) : 0;
	if (err)
		c->err = err;
}

static bool ask(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		const char *detail)
{
	char text[TEXT_BYTES];
	struct check_record r = record(code, object, nr, name, detail, text);
	int said;

	if (c->err || !c->mends || mends[code].mending == MEND_NEVER)
		return false;
	said = c->opts->mend(c->opts->ctx, &r);
	if (said < 0)
		c->err = said;
	c->sum->mended += said > 0;
	return said > 0;
}

void btrfs_ck_found(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		    const char *detail, ...)
{
	char text[384];
	va_list args;

	if (detail) {
		va_start(args, detail);
		vsnprintf(text, sizeof(text), detail, args);
		va_end(args);
	}
	emit(c, code, object, nr, name, detail ? text : NULL);
}

bool btrfs_ck_fix(struct ck *c, enum ck_code code, const char *object, u64 nr, const char *name,
		  const char *detail, ...)
{
	char text[384];
	va_list args;
	bool mend;

	if (detail) {
		va_start(args, detail);
		vsnprintf(text, sizeof(text), detail, args);
		va_end(args);
	}
	mend = ask(c, code, object, nr, name, detail ? text : NULL);
	if (!mend)
		emit(c, code, object, nr, name, detail ? text : NULL);
	return mend;
}

void btrfs_ck_found_inode(struct ck *c, enum ck_code code, u64 tree, u64 ino, const char *detail, ...)
{
	const struct btrfs_root *root;
	struct text path = { 0 };
	char text[384];
	va_list args;

	if (detail) {
		va_start(args, detail);
		vsnprintf(text, sizeof(text), detail, args);
		va_end(args);
	}
	if (c->paths++ < PATHS_MAX && !btrfs_root_get(c->bs, tree, &root) &&
	    !btrfs_file_path(c->bs, root, ino, &path))
		emit(c, code, "inode", ino, text_str(&path), detail ? text : NULL);
	else
		emit(c, code, "inode", ino, NULL, detail ? text : NULL);
	err_clear();
	text_free(&path);
}

void btrfs_ck_tree_name(struct ck *c, u64 id, struct text *out)
{
	static const struct {
		u64 id;
		const char *name;
	} names[] = {
		{ BTRFS_TREE_ROOT, "root tree" },
		{ BTRFS_TREE_EXTENT, "extent tree" },
		{ BTRFS_TREE_CHUNK, "chunk tree" },
		{ BTRFS_TREE_DEV, "device tree" },
		{ BTRFS_TREE_FS, "top level" },
		{ BTRFS_TREE_CSUM, "checksum tree" },
		{ BTRFS_TREE_QUOTA, "quota tree" },
		{ BTRFS_TREE_UUID, "uuid tree" },
		{ BTRFS_TREE_FREE_SPACE, "free space tree" },
		{ BTRFS_TREE_BLOCK_GROUP, "block group tree" },
		{ BTRFS_TREE_LOG, "log" },
		{ BTRFS_TREE_RELOC, "relocation tree" },
		{ BTRFS_TREE_DATA_RELOC, "tree of relocated data" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].id == id) {
			text_add(out, "%s", names[i].name);
			return;
		}
	if (!btrfs_is_subvol(id) || btrfs_root_path(c->bs, id, out)) {
		text_reset(out);
		text_add(out, "tree %lld", (long long)id);
	}
	err_clear();
}

void btrfs_ck_pass(struct ck *c, const char *name, u64 all)
{
	c->pass++;
	c->pass_name = name;
	c->done = 0;
	c->all = all;
	if (c->opts->progress && !c->err)
		c->opts->progress(c->opts->ctx, c->pass, c->opts->data ? PASSES_DATA : PASSES, name, 0, all);
}

bool btrfs_ck_step(struct ck *c, u64 more)
{
	c->done += more;
	if (!c->err && c->opts->stop && atomic_load_explicit(c->opts->stop, memory_order_relaxed))
		c->err = -ECANCELED;
	if (c->opts->progress && !c->err)
		c->opts->progress(c->opts->ctx, c->pass, c->opts->data ? PASSES_DATA : PASSES, c->pass_name,
				  MIN(c->done, c->all), c->all);
	return !c->err;
}

void btrfs_ck_oom(struct ck *c)
{
	if (!c->err)
		c->err = fail(-ENOMEM, "no memory for what a check keeps");
}
