/* Going through a tree of files that changes on the way, without recursion. See descend.c. */
#ifndef HOST_DESCEND_H
#define HOST_DESCEND_H

#include "vfs/vfs.h"

/* A name, and the directory that it stands in (NULL: it is the volume's root). Borrowed. */
struct visit {
	struct inode *dir;
	struct name name;
	struct inode *inode; /* NULL in leave */
};

struct visitor {
	/* A file of any type; a directory before what is in it, which is not visited when this fails. */
	int (*enter)(void *ctx, const struct visit *v);
	/* A directory after all that is in it, nobody holding it: takes it away. Not asked of one in which something failed. NULL: they stay. */
	int (*leave)(void *ctx, const struct visit *v);
	/* Something failed, with err_text; the rest goes on. */
	void (*failed)(void *ctx, int err, const char *path);
	void *ctx;
};

/*
 * From start on, whose name is at *v (v->inode is it), down; `path` is what it is called in errors. Symbolic links are not followed. A directory is entered once,
 * though a damaged volume has it in several places. Ends when the volume
 * cannot be written any more. Memory: for each level its name and some bytes.
 */
void descend(const struct visit *start, const char *path, const struct visitor *v);

#endif
