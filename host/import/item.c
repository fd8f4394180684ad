/* Items of a copy, and what is not wanted of them. Interface: import.h. */
#include "import.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RANGES_MAX (1u << 20)

/* ---- items ---- */

struct item *item_new(const char *path)
{
	struct item *it = calloc(1, sizeof(*it));

	if (it && !(it->path = strdup(path))) {
		free(it);
		it = NULL;
	}
	if (it)
		it->feed_path = it->path;
	return it;
}

void item_free(struct item *it)
{
	if (!it)
		return;
	for (u32 i = 0; i < it->xattrs; i++) {
		free(it->xattr[i].name);
		free(it->xattr[i].value);
	}
	free(it->xattr);
	free(it->range);
	free(it->path);
	free(it->target);
	free(it->why);
	free(it->priv);
	free(it);
}

int item_add_xattr(struct item *it, const char *name, const void *value, u32 len_bytes)
{
	struct item_xattr *more = realloc(it->xattr, (it->xattrs + 1ul) * sizeof(*more)), *x;

	if (!more)
		return fail(-ENOMEM, "no memory for attributes");
	it->xattr = more;
	x = &more[it->xattrs];
	*x = (struct item_xattr){ strdup(name), malloc(MAX(len_bytes, 1u)), len_bytes };
	if (!x->name || !x->value) {
		free(x->name);
		free(x->value);
		return fail(-ENOMEM, "no memory for attributes");
	}
	memcpy(x->value, value, len_bytes);
	it->xattrs++;
	return 0;
}

int item_add_range(struct item *it, u64 off_bytes, u64 len_bytes)
{
	if (it->ranges == RANGES_MAX)
		return fail(-E2BIG, "a file with more than %u holes", RANGES_MAX);
	if (!it->ranges || is_pow2(it->ranges)) {
		struct item_range *more = realloc(it->range, MAX(2 * it->ranges, 1u) * sizeof(*more));

		if (!more)
			return fail(-ENOMEM, "no memory for a file with holes");
		it->range = more;
	}
	it->range[it->ranges++] = (struct item_range){ off_bytes, len_bytes };
	return 0;
}

u64 item_bytes(const struct item *it)
{
	u64 n = sizeof(*it) + strlen(it->path) + (it->target ? strlen(it->target) : 0) +
		it->ranges * sizeof(it->range[0]) + it->xattrs * sizeof(it->xattr[0]);

	for (u32 i = 0; i < it->xattrs; i++)
		n += strlen(it->xattr[i].name) + it->xattr[i].len_bytes;
	return n;
}

void item_spoil(struct item *it, int err)
{
	it->err = err;
	free(it->why);
	it->why = strdup(err_text());
}

bool item_path_ok(const char *path)
{
	if (!*path)
		return true;
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

/* ---- what is not wanted ---- */

static bool one_drops(const char *pattern, const char *path)
{
	const char *last = strrchr(path, '/');

	if (strchr(pattern, '/'))
		return !fnmatch(pattern, path, FNM_PATHNAME);
	return !fnmatch(pattern, last ? last + 1 : path, 0);
}

void select_dst(struct select *s, int fd)
{
	struct stat st;
	bool file = !fstat(fd, &st) && S_ISREG(st.st_mode);

	s->dst_dev = file ? st.st_dev : 0;
	s->dst_ino = file ? st.st_ino : 0;
}

bool select_drops(const struct select *s, const char *path)
{
	char part[VFS_PATH_MAX];

	if (!s || !s->excludes || !*path)
		return false;
	/* Each directory on the way, then the path itself. */
	for (const char *end = path; end; end = *end ? end + 1 : NULL) {
		end = strchrnul(end, '/');
		if ((size_t)(end - path) >= sizeof(part))
			return false;
		memcpy(part, path, (size_t)(end - path));
		part[end - path] = 0;
		for (u32 i = 0; i < s->excludes; i++)
			if (one_drops(s->exclude[i], part))
				return true;
	}
	return false;
}
