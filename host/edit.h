/* What the commands that change a volume share: one mount for all operands, errors per operand, exit codes. See edit.c. */
#ifndef HOST_EDIT_H
#define HOST_EDIT_H

#include "descend.h"
#include "tool.h"

/* Rows of their long options, and their short ones: -p is the partition of others, and mkdir's own. */
#define EDIT_LONG                                                                                       \
	{ "part", required_argument, NULL, 'P' }, { "offset", required_argument, NULL, 'O' },           \
		{ "cache", required_argument, NULL, 'C' }, { "options", required_argument, NULL, 'o' }, \
		{ "journal", required_argument, NULL, 'E' },                                            \
	{                                                                                               \
		NULL, 0, NULL, 0                                                                        \
	}
#define EDIT_SHORT "o:"

struct edit {
	struct tool_opts tool;
	const char *verb; /* "remove": what cannot be done when something fails */
	struct volume v;
	const char **path; /* of the operands, in the volume */
	u32 count;
	bool failed; /* something, and it was said */
};

void edit_init(struct edit *e, const char *verb);
/* Mounts the volume that all these operands lie on, to be changed (or, rdonly, to be read). False: a line on stderr says why. Ended by edit_close in any case. */
bool edit_open(struct edit *e, char **operand, int count, bool rdonly) __must_check;
/* Makes all durable. The exit code: EXIT_ERROR, when that or anything before has failed. */
int edit_close(struct edit *e) __must_check;
/* False: something could not be written, and nothing is changed any more, which edit_close says. */
bool edit_goes_on(struct edit *e) __must_check;
/* From edit_open to edit_close, and `one` for each operand's path in between, e being the first member of what it knows. */
int edit_run(struct edit *e, char **operand, int count, bool rdonly,
	     void (*one)(struct edit *e, const char *path)) __must_check;
/* "werunos: cannot VERB PATH: …" */
void edit_failed(struct edit *e, int err, const char *path);

/* The file at a path of the volume. A path with a slash at its end names a directory. */
int edit_find(struct edit *e, const char *path, bool follow, struct inode **out) __must_check;
/* The directory that a path's last name stands in, and that name. -EINVAL: the path ends in no name. */
int edit_place(struct edit *e, const char *path, struct inode **dir, struct name *last) __must_check;
/* The place of a file that is to be called `path`, or `last` in it, when it is a directory and may be that. */
int edit_target(struct edit *e, const char *path, const struct name *last, bool into_dir, struct inode **dir,
		struct name *name) __must_check;
/* Who makes new files: the user, with the umask. */
struct cred edit_cred(void);

/* descend, with e as its context and errors said. */
void edit_descend(struct edit *e, const struct visit *start, const char *path,
		  int (*enter)(void *e, const struct visit *v), int (*leave)(void *e, const struct visit *v));

#endif
