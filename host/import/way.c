/* Interface: way.h. */
#include "way.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int way_add(struct way *w, void *dir, size_t end)
{
	if (w->depth == w->room) {
		u32 room = MAX(2 * w->room, 16u);
		struct way_level *more = reallocarray(w->level, room, sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory to copy");
		w->level = more;
		w->room = room;
	}
	w->level[w->depth++] = (struct way_level){ dir, end };
	return 0;
}

void way_back(struct way *w, u32 depth)
{
	while (w->depth > depth)
		w->leave(w, w->level[--w->depth].dir);
}

/* Leaves what is not on the way to the first len bytes of path. */
static void leave_others(struct way *w, const char *path, size_t len)
{
	while (w->depth > 1) {
		size_t at = w->level[w->depth - 1].end;

		if (at <= len && !memcmp(path, w->path, at) && (path[at] == '/' || at == len))
			break;
		way_back(w, w->depth - 1);
	}
}

static int keep_path(struct way *w, const char *path)
{
	size_t bytes = strlen(path) + 1;

	if (bytes > w->path_room) {
		char *more = realloc(w->path, 2 * bytes);

		if (!more)
			return fail(-ENOMEM, "no memory to copy");
		w->path = more;
		w->path_room = 2 * bytes;
	}
	memcpy(w->path, path, bytes);
	return 0;
}

int way_to(struct way *w, const char *path, void *arg, struct name *last)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0, at;
	int err;

	leave_others(w, path, len);
	err = keep_path(w, path);
	at = w->level[w->depth - 1].end;
	while (!err && at < len) {
		size_t from = at ? at + 1 : 0, n = 0;

		while (from + n < len && path[from + n] != '/')
			n++;
		at = from + n;
		err = n > VFS_NAME_MAX ? fail(-ENAMETOOLONG, "a name in its path is too long")
				       : w->down(w, &(struct name){ path + from, (u32)n }, at, arg);
	}
	if (err)
		return err;
	*last = slash ? NAME(slash + 1) : NAME(path);
	return last->len <= VFS_NAME_MAX ? 0 : fail(-ENAMETOOLONG, "its name is too long");
}

void way_fini(struct way *w)
{
	way_back(w, 0);
	free(w->level);
	free(w->path);
}
