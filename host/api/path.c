/* Paths of a volume, and of the host, as they are typed. Interface: api.h. */
#include "api/api.h"

#include <errno.h>
#include <string.h>

static bool ends_in_slash(const char *path)
{
	return *path && path[strlen(path) - 1] == '/';
}

static bool is_dots(const char *s, size_t len)
{
	return (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.');
}

int path_find(struct super_block *sb, const char *path, bool follow, struct inode **out)
{
	int err = vfs_path(sb, NULL, path, follow, out);

	if (!err && ends_in_slash(path) && !is_dir(*out)) {
		vfs_iputp(out);
		*out = NULL;
		err = -ENOTDIR;
	}
	return err;
}

int path_place(struct super_block *sb, const char *path, struct inode **dir, struct name *last)
{
	int err = vfs_path_parent(sb, NULL, path, dir, last);

	if (err == -EINVAL)
		return fail(err, "it is the volume's root directory");
	if (!err && is_dots(last->s, last->len)) {
		vfs_iputp(dir);
		*dir = NULL;
		err = fail(-EINVAL, "it ends in no name of its own");
	}
	return err;
}

/* Where the last name is in a path. */
static const char *last_of(const char *path, size_t *len)
{
	size_t end = strlen(path), from;

	while (end && path[end - 1] == '/')
		end--;
	for (from = end; from && path[from - 1] != '/';)
		from--;
	*len = is_dots(path + from, end - from) ? 0 : end - from;
	return path + from;
}

char *path_last(const char *path)
{
	size_t len;
	const char *last = last_of(path, &len);

	return strndup(last, len);
}

bool path_is_dir(const char *path)
{
	size_t len;

	last_of(path, &len);
	return !len || ends_in_slash(path);
}
