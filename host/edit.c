/*
 * What the commands that change a volume share. Interface: edit.h.
 *
 * All operands of a command lie on one volume, which is mounted once, and unmounted before the command returns: then everything is
 * durable. What fails for one operand is said in one line, and the others are done. Paths are the volume's own: symbolic links in them lead
 * from its root, never out of it.
 */
#include "edit.h"

#include "cmd.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_MAX 2048u /* of a path in an error */

void edit_init(struct edit *e, const char *verb)
{
	*e = (struct edit){ .verb = verb, .v.src.fd = -1 };
	tool_init(&e->tool);
}

/* Each operand's path; all of the first one's source. */
static int take_paths(struct edit *e, char **operand, int count)
{
	scoped(freep) char *first = NULL;
	int err = 0;

	e->path = calloc((size_t)count, sizeof(*e->path));
	if (!e->path)
		return fail(-ENOMEM, "no memory for paths");
	for (int i = 0; i < count && !err; i++) {
		scoped(freep) char *spec = NULL;

		err = operand_split(operand[i], &spec, &e->path[i]);
		if (!err && i && !source_same(first, spec))
			err = fail(-EXDEV, "%s and %s are not on one volume%s", operand[0], operand[i],
				   !strcmp(e->verb, "move") ? ": werunos cp copies from one to another" : "");
		if (!i)
			first = take(spec);
	}
	e->count = (u32)count;
	return err;
}

bool edit_open(struct edit *e, char **operand, int count, bool rdonly)
{
	int err = take_paths(e, operand, count);

	if (!err)
		err = rdonly ? volume_open(&e->tool, operand[0], &e->v)
			     : volume_open_rw(&e->tool, operand[0], &e->v);
	if (err)
		cli_error(err, operand[0]);
	e->failed = err;
	return !err;
}

bool edit_goes_on(struct edit *e)
{
	bool aborted = health_state(&e->v.sb->health) >= HEALTH_ABORTED;

	e->failed |= aborted;
	return !aborted;
}

int edit_close(struct edit *e)
{
	bool failed = volume_close(&e->v) || e->failed;

	free(e->path);
	e->path = NULL;
	return failed ? EXIT_ERROR : 0;
}

int edit_run(struct edit *e, char **operand, int count, bool rdonly,
	     void (*one)(struct edit *e, const char *path))
{
	if (edit_open(e, operand, count, rdonly))
		for (u32 i = 0; i < e->count && edit_goes_on(e); i++) {
			one(e, e->path[i]);
			err_clear();
		}
	return edit_close(e);
}

void edit_failed(struct edit *e, int err, const char *path)
{
	size_t len = strlen(path);
	struct text t = { 0 };

	if (len > SHOWN_MAX) {
		text_add(&t, "…");
		path += len - SHOWN_MAX;
	}
	text_add_name(&t, path, strlen(path));
	cli_fail("cannot %s %s: %s", e->verb, text_str(&t), *err_text() ? err_text() : strerror(-err));
	err_clear();
	text_free(&t);
	e->failed = true;
}

/* ---- paths ---- */

int edit_find(struct edit *e, const char *path, bool follow, struct inode **out)
{
	return path_find(e->v.sb, path, follow, out);
}

int edit_place(struct edit *e, const char *path, struct inode **dir, struct name *last)
{
	return path_place(e->v.sb, path, dir, last);
}

int edit_target(struct edit *e, const char *path, const struct name *last, bool into_dir, struct inode **dir,
		struct name *name)
{
	struct inode *there;

	if (into_dir && !vfs_path(e->v.sb, NULL, path, true, &there)) {
		if (is_dir(there)) {
			*dir = there;
			*name = *last;
			return 0;
		}
		vfs_iput(there);
	}
	err_clear();
	return edit_place(e, path, dir, name);
}

struct cred edit_cred(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return (struct cred){ geteuid(), getegid(), mask };
}

/* ---- trees ---- */

static void tree_failed(void *ctx, int err, const char *path)
{
	edit_failed(ctx, err, path);
}

void edit_descend(struct edit *e, const struct visit *start, const char *path,
		  int (*enter)(void *e, const struct visit *v), int (*leave)(void *e, const struct visit *v))
{
	const struct visitor visitor = { enter, leave, tree_failed, e };

	descend(start, path, &visitor);
}
