/*
 * The directories that lead to the item a sink is at. They stay open, for the next item is mostly beside or below it: what two paths
 * have in common is gone through once. One thread.
 */
#ifndef IMPORT_WAY_H
#define IMPORT_WAY_H

#include "import.h"

struct way_level {
	void *dir;  /* the sink's */
	size_t end; /* its path is the first so many bytes of `path` */
};

struct way {
	/* Opens the directory `name` of the last level, and adds it (way_add); its path is the first `end` bytes of `path`. */
	int (*down)(struct way *w, const struct name *name, size_t end, void *arg);
	void (*leave)(struct way *w, void *dir);
	struct way_level *level; /* [0] is the top */
	u32 depth, room;
	char *path; /* of the last item */
	size_t path_room;
};

/* -ENOMEM: dir is not taken. */
int way_add(struct way *w, void *dir, size_t end) __must_check;
/* Makes `path` the way, but for its last name, which goes to *last. What `down` returned; -ENAMETOOLONG. */
int way_to(struct way *w, const char *path, void *arg, struct name *last) __must_check;
/* Leaves all directories below the first `depth`. */
void way_back(struct way *w, u32 depth);
void way_fini(struct way *w);

static inline void *way_dir(const struct way *w)
{
	return w->level[w->depth - 1].dir;
}

#endif
