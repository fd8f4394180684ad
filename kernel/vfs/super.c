/* The life of a mounted volume: its caches are made here, and end here when no inode is referenced any more. */
#include "internal.h"

#include "lib/log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Idle inodes and names kept. An idle inode of ext4 is some 700 bytes, a name about 100: 6 MiB and 3 MiB. */
#define IDLE_INODES_MAX 8192u
#define NAMES_MAX       32768u

int super_init(struct super_block *sb, const struct fs_type *type, const struct super_ops *ops,
	       const char *name, const struct mount_opts *opts)
{
	int err;

	sb->type = type;
	sb->ops = ops;
	sb->rdonly = opts->rdonly;
	sb->readahead_off = opts->readahead_off;
	sb->atime = opts->atime;
	sb->nodiratime = opts->nodiratime;
	sb->lazytime = opts->lazytime;
	sb->scripted = opts->script;
	if (opts->script)
		sb->script = *opts->script;
	sb->name_max = VFS_NAME_MAX;
	sb->time_gran_ns = 1;
	health_init(&sb->health, name);
	mutex_init(&sb->rename, RANK_RENAME);
	err = icache_new(IDLE_INODES_MAX, &sb->icache);
	if (!err)
		err = dcache_new(NAMES_MAX, &sb->dcache);
	if (!err)
		err = lazy_new(sb, lazy_run);
	if (err)
		super_fini(sb);
	return err;
}

void super_fini(struct super_block *sb)
{
	lazy_free(sb);
	if (sb->icache) {
		icache_shrink(sb);
		icache_free(sb->icache);
		sb->icache = NULL;
	}
	stage_fini(sb);
	dcache_free(sb->dcache);
	sb->dcache = NULL;
	mutex_fini(&sb->rename);
	health_fini(&sb->health);
}

void super_note(struct super_block *sb, const char *fmt, ...)
{
	size_t len = strlen(sb->notice), room = sizeof(sb->notice) - len;
	char s[sizeof(sb->notice)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s, sizeof(s), fmt, ap);
	va_end(ap);
	if (strlen(s) + 2 < room)
		snprintf(sb->notice + len, room, "%s%s", len ? "; " : "", s);
	else
		log_warn("%s: %s", sb->health.name, s);
}

int vfs_sync(struct super_block *sb)
{
	int err, sync_err = 0;

	if (sb->rdonly)
		return 0;
	err = lazy_write_all(sb);
	if (sb->ops->sync)
		sync_err = sb->ops->sync(sb);
	return err ? err : sync_err;
}

int vfs_unmount(struct super_block *sb)
{
	u32 held;
	int err;

	lazy_stop(sb);
	err = vfs_sync(sb);
	icache_shrink(sb);
	held = icache_held(sb);
	if (held)
		log_error("%s: %u inodes still referenced at unmount", sb->health.name, held);
	sb->ops->put_super(sb);
	return err;
}

int vfs_statfs(struct super_block *sb, struct kstatfs *out)
{
	memset(out, 0, sizeof(*out));
	out->type = sb->type->name;
	out->block_bytes = sb->block_bytes;
	out->name_max = sb->name_max;
	return sb->ops->statfs(sb, out);
}

int vfs_trim(struct super_block *sb, u64 off_bytes, u64 len_bytes, u64 min_bytes, u64 *trimmed_bytes)
{
	int err = vfs_check_writable(sb);

	*trimmed_bytes = 0;
	if (err)
		return err;
	return sb->ops->trim ? sb->ops->trim(sb, off_bytes, len_bytes, min_bytes, trimmed_bytes)
			     : -EOPNOTSUPP;
}

int vfs_grow(struct super_block *sb, u64 size_bytes, struct grown *out)
{
	int err = vfs_check_writable(sb);

	*out = (struct grown){ 0 };
	if (err)
		return err;
	return sb->ops->grow ? sb->ops->grow(sb, size_bytes, out)
			     : fail(-EOPNOTSUPP, "%s volumes cannot be made longer", sb->type->name);
}

int vfs_subvolumes(struct super_block *sb, subvolume_fn emit, void *ctx)
{
	return sb->ops->subvolumes ? sb->ops->subvolumes(sb, emit, ctx)
				   : fail(-EOPNOTSUPP, "%s has no subvolumes", sb->type->name);
}

int vfs_quota(struct super_block *sb, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
	      void *ctx)
{
	*grace = (struct quota_grace){ 0 };
	return sb->ops->quota ? sb->ops->quota(sb, kind, grace, emit, ctx)
			      : fail(-EOPNOTSUPP, "%s has no quota", sb->type->name);
}

int vfs_set_quota(struct super_block *sb, enum quota_kind kind, const struct quota_set *set)
{
	int err = vfs_check_writable(sb);

	if (err)
		return err;
	return sb->ops->set_quota ? sb->ops->set_quota(sb, kind, set)
				  : fail(-EOPNOTSUPP, "%s has no quota", sb->type->name);
}

void vfs_shutdown(struct super_block *sb)
{
	if (sb->rdonly)
		return;
	health_raise(&sb->health, HEALTH_ABORTED);
	if (sb->ops->shutdown)
		sb->ops->shutdown(sb);
	log_warn("%s: shut down, nothing is written any more", sb->health.name);
}

void vfs_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n)
{
	if (sb->ops->readahead_inodes)
		sb->ops->readahead_inodes(sb, inos, n);
}

void vfs_shrink(struct super_block *sb)
{
	icache_shrink(sb);
	dcache_clear(sb->dcache);
}
