/* What back ends share: opening a tree by its name, and operations made of the table's. */
#include "support/fsapi.h"

#include "lib/hash.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOLUME_BYTES (128ull << 20)

struct fs *fs_by_name(const char *spec)
{
	struct fs *fs = NULL;
	char type[32];
	const char *image;
	int err = -EINVAL;

	if (!strncmp(spec, "fold:", 5)) {
		fs = fs_by_name(spec + 5);
		if (fs)
			fs_spell_otherwise(fs);
		return fs;
	}
	if (!strncmp(spec, "dir:", 4)) {
		err = fs_dir_new(spec + 4, &fs);
	} else if (!strncmp(spec, "vfs:", 4)) {
		image = strchr(spec + 4, ':');
		snprintf(type, sizeof(type), "%.*s", image ? (int)(image - spec - 4) : 31, spec + 4);
		err = fs_vfs_new(type, image ? image + 1 : NULL, VOLUME_BYTES, &fs);
	}
	if (err) {
		fprintf(stderr, "%s: %s\n", spec, strerror(-err));
		return NULL;
	}
	return fs;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	fs->ops->free(fs);
	free(fs);
}

int fs_write_all(struct fs *fs, struct fs_file *f, u64 off, const void *buf, u64 len)
{
	const char *p = buf;

	while (len) {
		u64 done;
		int err = FS_CALL(fs, pwrite, f, off, p, len, &done);

		if (err)
			return err;
		if (!done)
			return -EIO;
		off += done;
		p += done;
		len -= done;
	}
	return 0;
}

int fs_read_all(struct fs *fs, struct fs_file *f, u64 off, void *buf, u64 len, u64 *done)
{
	char *p = buf;

	*done = 0;
	while (*done < len) {
		u64 n;
		int err = FS_CALL(fs, pread, f, off + *done, p + *done, len - *done, &n);

		if (err)
			return err;
		if (!n)
			break;
		*done += n;
	}
	return 0;
}

int fs_put(struct fs *fs, const char *path, const void *buf, u64 len)
{
	struct fs_file f;
	int err = fs_open(fs, path, O_CREAT | O_TRUNC | O_WRONLY, 0644, &f);

	if (err)
		return err;
	err = fs_write_all(fs, &f, 0, buf, len);
	fs_close(fs, &f);
	return err;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct fs_dirent *)a)->name, ((const struct fs_dirent *)b)->name);
}

/* Where a directory does not tell. */
static u8 type_of(struct fs *fs, const char *dir, const char *name)
{
	struct fs_stat st = { 0 };
	char *path;
	int err;

	if (asprintf(&path, "%s%s%s", dir, *dir ? "/" : "", name) < 0)
		abort();
	err = FS_CALL(fs, stat, path, false, &st);
	free(path);
	return err ? DT_UNKNOWN : IFTODT(st.mode);
}

int fs_list(struct fs *fs, const char *path, struct fs_dirent **out, u32 *n)
{
	struct fs_dirent *list = NULL;
	u32 cap = 0, got;
	u64 pos = 0;
	struct fs_file f;
	int err = fs_open(fs, path, O_RDONLY | O_DIRECTORY, 0, &f);

	*out = NULL;
	*n = 0;
	if (err)
		return err;
	do {
		if (*n + 64 > cap) {
			cap = cap * 2 + 64;
			list = realloc(list, cap * sizeof(*list));
			if (!list)
				abort();
		}
		err = FS_CALL(fs, readdir, &f, pos, list + *n, 64, &got);
		if (err)
			break;
		if (got)
			pos = list[*n + got - 1].next_pos;
		for (u32 i = *n, end = *n + got; i < end; i++)
			if (strcmp(list[i].name, ".") && strcmp(list[i].name, ".."))
				list[(*n)++] = list[i];
	} while (got);
	fs_close(fs, &f);
	if (err) {
		free(list);
		return err;
	}
	qsort(list, *n, sizeof(*list), by_name);
	for (u32 i = 0; i < *n; i++)
		if (list[i].type == DT_UNKNOWN)
			list[i].type = type_of(fs, path, list[i].name);
	*out = list;
	return 0;
}

int fs_clear(struct fs *fs, const char *path)
{
	struct fs_dirent *list;
	u32 n;
	int err = fs_list(fs, path, &list, &n);

	for (u32 i = 0; !err && i < n; i++) {
		char *sub;

		if (!strcmp(list[i].name, "lost+found"))
			continue;
		if (asprintf(&sub, "%s%s%s", path, *path ? "/" : "", list[i].name) < 0)
			abort();
		if (list[i].type == DT_DIR) {
			err = fs_clear(fs, sub);
			if (!err)
				err = FS_CALL(fs, rmdir, sub);
		} else {
			err = FS_CALL(fs, unlink, sub);
		}
		free(sub);
	}
	free(list);
	return err;
}

int fs_hash(struct fs *fs, const char *path, u64 *out)
{
	enum { CHUNK = 1 << 17 };
	char *buf = malloc(CHUNK);
	struct fs_file f;
	u64 off = 0, done;
	int err;

	if (!buf)
		return -ENOMEM;
	err = fs_open(fs, path, O_RDONLY | O_NOFOLLOW, 0, &f);
	if (err) {
		free(buf);
		return err;
	}
	*out = 0;
	do {
		err = fs_read_all(fs, &f, off, buf, CHUNK, &done);
		*out = hash_bytes(buf, done, *out);
		off += done;
	} while (!err && done == CHUNK);
	fs_close(fs, &f);
	free(buf);
	return err;
}
