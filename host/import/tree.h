/*
 * Walking a tree for a feed: directories before what is in them, names in the order of their bytes, so that the same tree gives the same
 * items in the same order. What a directory is, its walker knows.
 */
#ifndef IMPORT_TREE_H
#define IMPORT_TREE_H

#include "import.h"

struct tree;
struct tree_names;

struct tree_ops {
	/*
	 * The item of `name` in dir ("" and NULL: the top), whose path is `path`. *into: the directory to go into, if it is one. What is wrong with
	 * it alone spoils it.
	 */
	int (*look)(struct tree *t, void *dir, const char *name, const char *path, struct item **out,
		    void **into);
	/* Every name in dir but "." and "..": tree_add. */
	int (*list)(struct tree *t, void *dir, struct tree_names *to);
	void (*leave)(struct tree *t, void *dir);
};

/* Embedded at the start of a walker. Zeroed but for feed and ops; ended by tree_fini. */
struct tree {
	struct feed feed;
	const struct tree_ops *ops;
	const char *name; /* the path of a top that is no directory */
	struct tree_frame *frame;
	u32 depth, room;
	bool begun;
	struct item *unlisted;   /* what is to be said of the last directory */
	struct tree_link **link; /* hash of what has several names */
	u32 links, link_room;
};

int tree_add(struct tree_names *to, const char *name, size_t len) __must_check;
/* feed_ops.next. */
int tree_next(struct feed *f, struct item **out) __must_check;
/* A file with several names: the path under which it was met first (borrowed), or NULL when this is that one. -ENOMEM. */
int tree_seen(struct tree *t, u64 dev, u64 ino, const char *path, const char **first) __must_check;
void tree_fini(struct tree *t);

#endif
