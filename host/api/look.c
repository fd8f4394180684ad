/* What is in a volume: attributes, directories, trees. Interface: werunos.h. */
#include "api/api.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_NAMES 256u

static struct werunos_time time_of(struct timespec64 t)
{
	return (struct werunos_time){ t.sec, t.nsec };
}

void api_stat_of(struct inode *inode, struct werunos_stat *out)
{
	struct kstat k;

	vfs_getattr(inode, &k);
	*out = (struct werunos_stat){
		.ino = k.ino,
		.generation = k.generation,
		.mode = k.mode,
		.links = k.nlink,
		.uid = k.uid,
		.gid = k.gid,
		.rdev_major = k.rdev_major,
		.rdev_minor = k.rdev_minor,
		.block_bytes = k.block_bytes,
		.flags = k.flags,
		.project = k.project,
		.size_bytes = k.size_bytes,
		.blocks_512 = k.blocks_512,
		.accessed = time_of(k.atime),
		.modified = time_of(k.mtime),
		.changed = time_of(k.ctime),
		.created = time_of(k.btime),
		.has_created = k.has_btime,
	};
}

int werunos_stat(struct werunos_volume *v, const char *path, uint32_t flags, struct werunos_stat *out)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err;

	api_begin();
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	if (!err)
		api_stat_of(inode, out);
	return api_end(err);
}

int werunos_readlink(struct werunos_volume *v, const char *path, char *buf, size_t size_bytes)
{
	scoped(freep) char *target = malloc(VFS_PATH_MAX);
	scoped(vfs_iputp) struct inode *inode = NULL;
	u32 len;
	int err;

	api_begin();
	err = target ? path_find(v->sb, path, false, &inode) : fail(-ENOMEM, "no memory for a link");
	if (!err)
		err = vfs_readlink(inode, target, VFS_PATH_MAX, &len);
	if (!err && len >= size_bytes)
		err = -ERANGE;
	if (!err) {
		memcpy(buf, target, len);
		buf[len] = 0;
	}
	return api_end(err);
}

/* ---- directories ---- */

/* Names of a directory, until there are enough of them: told of once its lock is free. */
struct batch {
	u64 next_pos;
	u32 count;
	struct {
		char name[VFS_NAME_MAX + 1];
		u8 len, type;
		u64 ino;
	} e[BATCH_NAMES];
};

static int batch_add(void *ctx, const struct dirent_out *de)
{
	struct batch *b = ctx;
	const struct name *n = &de->name;

	if (b->count == BATCH_NAMES)
		return 1;
	b->next_pos = de->next_pos;
	if (n->s[0] == '.' && (n->len == 1 || (n->len == 2 && n->s[1] == '.')))
		return 0;
	if (n->len > VFS_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(b->e[b->count].name, n->s, n->len);
	b->e[b->count].name[n->len] = 0;
	b->e[b->count].len = (u8)n->len;
	b->e[b->count].type = de->type;
	b->e[b->count++].ino = de->ino;
	return 0;
}

static int batch_tell(const struct batch *b, werunos_entry_fn fn, void *ctx)
{
	int stop = 0;

	for (u32 i = 0; i < b->count && !stop; i++)
		stop = fn(ctx,
			  &(struct werunos_entry){ b->e[i].name, b->e[i].len, b->e[i].ino, b->e[i].type });
	return stop;
}

int werunos_readdir(struct werunos_volume *v, const char *path, werunos_entry_fn fn, void *ctx)
{
	scoped(freep) struct batch *b = calloc(1, sizeof(*b));
	scoped(vfs_iputp) struct inode *dir = NULL;
	int err, stop = 0;

	api_begin();
	err = b ? path_find(v->sb, path, true, &dir) : fail(-ENOMEM, "no memory for a listing");
	if (!err && !is_dir(dir))
		err = -ENOTDIR;
	for (bool more = true; !err && !stop && more;) {
		b->count = 0;
		err = vfs_readdir(dir, b->next_pos, batch_add, b);
		more = b->count == BATCH_NAMES;
		stop = batch_tell(b, fn, ctx);
	}
	return api_end(stop ? stop : err);
}

/* ---- trees ---- */

struct walk {
	werunos_visit_fn fn;
	void *ctx;
};

static int walk_one(void *ctx, const struct walk_entry *e)
{
	const struct walk *w = ctx;
	struct werunos_stat st;
	struct werunos_visit visit = { .path = e->path, .depth = e->depth, .err = e->err };

	if (e->inode) {
		api_stat_of(e->inode, &st);
		visit.stat = &st;
	}
	visit.why = !e->err ? "" : *err_text() ? err_text() : strerror(-e->err);
	return w->fn(w->ctx, &visit);
}

int werunos_walk(struct werunos_volume *v, const char *path, werunos_visit_fn fn, void *ctx)
{
	scoped(vfs_iputp) struct inode *start = NULL;
	struct walk w = { fn, ctx };
	int err;

	api_begin();
	err = path_find(v->sb, path, false, &start);
	return api_end(err ? err : vfs_walk(start, walk_one, &w));
}

/* ---- extended attributes ---- */

int werunos_getxattr(struct werunos_volume *v, const char *path, uint32_t flags, const char *name, void *buf,
		     size_t size_bytes, size_t *len_bytes)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	u32 len = 0;
	int err;

	api_begin();
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	if (!err)
		err = vfs_getxattr(inode, name, buf, (u32)MIN(size_bytes, (size_t)UINT32_MAX), &len);
	*len_bytes = len;
	return api_end(err);
}

int werunos_listxattr(struct werunos_volume *v, const char *path, uint32_t flags, char *buf,
		      size_t size_bytes, size_t *len_bytes)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	u32 len = 0;
	int err;

	api_begin();
	err = path_find(v->sb, path, !(flags & WERUNOS_NOFOLLOW), &inode);
	if (!err)
		err = vfs_listxattr(inode, buf, (u32)MIN(size_bytes, (size_t)UINT32_MAX), &len);
	*len_bytes = len;
	return api_end(err);
}
