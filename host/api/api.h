/* What the files behind werunos.h share, with the commands that need more of an open volume than werunos.h gives. */
#ifndef API_API_H
#define API_API_H

#include "api/werunos.h"
#include "open.h"

struct werunos_volume {
	struct source src;
	struct super_block *sb;
	struct cred cred;  /* [const] who makes new files; the umask is 0 */
	_Atomic u32 files; /* that are open */
};

/* ---- result.c ---- */

/* First in every public function that can fail: errors of before are no longer spoken of. */
void api_begin(void);
/* Last in it: what werunos_error_text says belongs to this. Returns err. */
int api_end(int err);

/* ---- volume.c ---- */

/* Where options say that a source is; write: wanted. */
struct source_opts api_source_opts(const struct werunos_open_options *o, bool write);
/* What they say of how it is looked at; all of it when o is NULL. */
struct mount_opts api_mount_opts(const struct werunos_open_options *o);

/* ---- path.c ---- */

/* The file at a path. A path with a slash at its end names a directory. */
int path_find(struct super_block *sb, const char *path, bool follow, struct inode **out) __must_check;
/* The directory that a path's last name stands in, and that name, which points into the path. -EINVAL: the path ends in no name. */
int path_place(struct super_block *sb, const char *path, struct inode **dir, struct name *last) __must_check;
/* The last name of a path, slashes at its end left out; "" when it has none ("/", "..", "."). To be freed; NULL: no memory. */
char *path_last(const char *path);
/* It ends in a slash, "." or "..", or is "": so it is that directory. */
bool path_is_dir(const char *path);

/* ---- look.c ---- */

void api_stat_of(struct inode *inode, struct werunos_stat *out);

#endif
