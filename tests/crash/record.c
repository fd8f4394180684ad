/*
 * Recording a workload: the stack memory → fault → mount, and the operations. Each operation is noted in the model with
 * the number of records before it began and when it had returned.
 */
#include "crash.h"

#include "ext4/ext4.h"
#include "vfs/vfs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 65536u

/* ---- flushes that get lost ---- */

struct lossy {
	struct blkdev dev;
	struct blkdev *lower;
};

static void lossy_submit(struct blkdev *dev, struct bio *bio)
{
	struct lossy *l = container_of(dev, struct lossy, dev);

	if (bio->op == BIO_FLUSH) {
		bio_complete(bio, 0);
		return;
	}
	bio->flags &= (u8)~BIO_FUA;
	bio_pass(bio, l->lower, bio->at_bytes);
}

static void lossy_release(struct blkdev *dev)
{
	struct lossy *l = container_of(dev, struct lossy, dev);

	blkdev_put(l->lower);
	blkdev_fini(dev);
	free(l);
}

static const struct blkdev_ops lossy_ops = { .kind = "lossy",
					     .submit = lossy_submit,
					     .release = lossy_release };

int lossy_new(struct blkdev *lower, struct blkdev **out)
{
	struct lossy *l = calloc(1, sizeof(*l));
	int err = l ? blkdev_init(&l->dev, &lossy_ops, lower->name, lower->size_bytes) : -ENOMEM;

	if (err)
		return err;
	l->dev.sector_bytes = lower->sector_bytes;
	l->dev.physical_bytes = lower->physical_bytes;
	l->dev.flags = lower->flags;
	l->lower = blkdev_get(lower);
	*out = &l->dev;
	return 0;
}

/* r->fault: what the volume was, recording. */
static int fault_new(struct run *r)
{
	struct blkdev *mem;
	int err = dev_mem_new("memory", r->bytes, SECTOR, &mem);

	if (!err)
		err = blkdev_write(mem, 0, r->before, r->bytes, 0);
	if (!err)
		err = dev_fault_new(mem, true, &r->fault);
	blkdev_put(mem);
	return err;
}

int record_new(struct run *r, bool no_flush, struct blkdev **out)
{
	int err = fault_new(r);

	*out = NULL;
	if (!err && no_flush)
		err = lossy_new(r->fault, out);
	else if (!err)
		*out = blkdev_get(r->fault);
	return err;
}

int mount_whole(struct blkdev *whole, u64 split_bytes, bool no_flush, struct fs **out)
{
	u64 bytes = split_bytes ? split_bytes : whole->size_bytes;
	struct blkdev *volume = NULL, *log = NULL, *lossy = NULL;
	struct mount_opts opts = { 0 };
	int err = dev_part_new(whole, "volume", 0, bytes, &volume);

	if (!err && split_bytes)
		err = dev_part_new(whole, "log", bytes, whole->size_bytes - bytes, &log);
	if (!err && no_flush)
		err = lossy_new(volume, &lossy);
	opts.journal = log;
	if (!err)
		err = fs_vfs_with("ext4", lossy ? lossy : volume, &opts, out);
	blkdev_put(lossy);
	blkdev_put(log);
	blkdev_put(volume);
	return err;
}

/* ---- start and end ---- */

static u64 records(const struct run *r)
{
	return dev_fault_records(r->fault);
}

int run_start(struct run *r, const struct volume *v, u64 seed, bool no_flush)
{
	struct blkdev *mem;
	int err;

	*r = (struct run){ .volume = v, .seed = seed, .bytes = v->bytes + v->log_bytes };
	r->split_bytes = v->log_bytes ? v->bytes : 0;
	model_init(&r->model);
	err = volume_make(v, &r->before);
	if (!err)
		err = dev_mem_new("memory", r->bytes, SECTOR, &mem);
	if (err)
		return err;
	err = blkdev_write(mem, 0, r->before, r->bytes, 0);
	if (!err)
		err = dev_fault_new(mem, true, &r->fault);
	blkdev_put(mem);
	if (err)
		return err;
	err = mount_whole(r->fault, r->split_bytes, no_flush, &r->fs);
	if (err)
		fprintf(stderr, "mount of the new volume: %s\n", err_text());
	else if (v->fold)
		fs_spell_otherwise(r->fs);
	return err;
}

/* What is shown while the volume is mounted is exactly what was done. */
static void judge_live(struct run *r)
{
	struct model *m = &r->model;

	model_begin(m, records(r), "a look at the whole");
	model_sync(m, NULL);
	/* Nothing was synced: at no moment of power loss does this operation count as returned. */
	model_end(m, ~0ull - 1);
	r->wrong = model_judge(m, r->fs, ~0ull - 1);
}

int run_stop(struct run *r)
{
	int err = 0;

	for (u32 i = 0; i < FILE_OPEN; i++)
		w_release(r, i);
	if (!r->wrong)
		judge_live(r);
	model_begin(&r->model, records(r), "unmount");
	if (r->fs)
		err = fs_vfs_end(r->fs);
	r->fs = NULL;
	if (!err)
		model_sync(&r->model, NULL);
	model_end(&r->model, records(r));
	if (err && !r->wrong && asprintf(&r->wrong, "unmount: %s", strerror(-err)) < 0)
		abort();
	return r->wrong ? -EIO : 0;
}

void run_free(struct run *r)
{
	if (r->fs)
		(void)!fs_vfs_end(r->fs);
	blkdev_put(r->fault);
	model_free(&r->model);
	free(r->before);
	free(r->wrong);
	*r = (struct run){ 0 };
}

char *run_mount(struct run *r)
{
	char *wrong = NULL;
	struct fs *fs;
	int err = fault_new(r);

	if (!err)
		err = mount_whole(r->fault, r->split_bytes, false, &fs);
	if (!err)
		err = fs_vfs_end(fs);
	if (err && asprintf(&wrong, "mount to be cut off: %s: %s", strerror(-err), err_text()) < 0)
		abort();
	return wrong;
}

/* ---- operations ---- */

/* The result of the operation begun last: true when it was done. */
static bool done(struct run *r, int err)
{
	struct op *o = &r->model.op[r->model.ops];

	if (err) {
		size_t len = strlen(o->what);

		snprintf(o->what + len, sizeof(o->what) - len, " (%s)", strerror(-err));
		if (!(r->full && (err == -ENOSPC || err == -EDQUOT)) && !r->wrong &&
		    asprintf(&r->wrong, "operation %u, %s: %s", r->model.ops, o->what, err_text()) < 0)
			abort();
	}
	return !err;
}

static bool finish(struct run *r, bool ok)
{
	model_end(&r->model, records(r));
	return ok;
}

#define BEGIN(r, ...)                                              \
	do {                                                       \
		if ((r)->wrong)                                    \
			return false;                              \
		model_begin(&(r)->model, records(r), __VA_ARGS__); \
	} while (0)

/* The operation's files belong to who has the next number. */
static u32 next_id(struct run *r)
{
	u32 id = r->model.files;

	FS_CALL(r->fs, as, id, id, 0);
	return id;
}

static void as_root(struct run *r)
{
	FS_CALL(r->fs, as, 0, 0, 0);
}

/* chattr +j */
static int journalled(struct run *r, struct fs_file *f)
{
	u32 flags;
	int err = FS_CALL(r->fs, get_flags, f, &flags);

	return err ? err : FS_CALL(r->fs, set_flags, f, flags | EXT4_FL_JOURNAL_DATA);
}

bool w_create(struct run *r, const char *path)
{
	struct fs_file f;
	u32 id;
	int err;

	BEGIN(r, "create %s", path);
	id = next_id(r);
	err = fs_open(r->fs, path, O_CREAT | O_EXCL | O_RDWR, 0640, &f);
	as_root(r);
	if (!err && r->volume->some_journalled && id % 2)
		err = journalled(r, &f);
	if (!err)
		fs_close(r->fs, &f);
	if (done(r, err))
		model_create(&r->model, path, S_IFREG | 0640, NULL);
	return finish(r, !err);
}

bool w_mkdir(struct run *r, const char *path)
{
	int err;

	BEGIN(r, "mkdir %s", path);
	next_id(r);
	err = FS_CALL(r->fs, mkdir, path, 0750);
	as_root(r);
	if (done(r, err))
		model_create(&r->model, path, S_IFDIR | 0750, NULL);
	return finish(r, !err);
}

bool w_symlink(struct run *r, const char *path, u32 len)
{
	char target[1024];
	int err;

	BEGIN(r, "symlink %s, %u bytes", path, len);
	for (u32 i = 0; i < len; i++)
		target[i] = (char)('a' + (i + r->model.ops) % 26);
	target[len] = 0;
	next_id(r);
	err = FS_CALL(r->fs, symlink, target, path);
	as_root(r);
	if (done(r, err))
		model_create(&r->model, path, S_IFLNK | 0777, target);
	return finish(r, !err);
}

bool w_link(struct run *r, const char *from, const char *to)
{
	int err;

	BEGIN(r, "link %s %s", from, to);
	err = FS_CALL(r->fs, link, from, to);
	if (done(r, err))
		model_link(&r->model, to, model_at(&r->model, from));
	return finish(r, !err);
}

bool w_unlink(struct run *r, const char *path)
{
	int err;

	BEGIN(r, "unlink %s", path);
	err = FS_CALL(r->fs, unlink, path);
	if (done(r, err))
		model_unlink(&r->model, path);
	return finish(r, !err);
}

bool w_rmdir(struct run *r, const char *path)
{
	int err;

	BEGIN(r, "rmdir %s", path);
	err = FS_CALL(r->fs, rmdir, path);
	if (done(r, err))
		model_unlink(&r->model, path);
	return finish(r, !err);
}

bool w_rename(struct run *r, const char *from, const char *to, bool exchange)
{
	int err;

	BEGIN(r, "%s %s %s", exchange ? "exchange" : "rename", from, to);
	err = FS_CALL(r->fs, rename, from, to, exchange ? 2u : 0u);
	if (done(r, err))
		model_rename(&r->model, from, to, exchange);
	return finish(r, !err);
}

static bool write_to(struct run *r, struct fs_file *f, u32 id, u64 off, u64 len)
{
	u8 *buf = malloc(len);
	u64 at = 0, now;
	int err = 0;

	pattern(id, r->model.ops, off, buf, len);
	while (!err && at < len) {
		err = FS_CALL(r->fs, pwrite, f, off + at, buf + at, len - at, &now);
		at += err ? 0 : now;
	}
	free(buf);
	if (at)
		model_write(&r->model, model_file(&r->model, id), off, at);
	return done(r, err);
}

/* Opens the file that the operation begun last is about. */
static bool open_it(struct run *r, const char *path, struct fs_file *f, u32 *id)
{
	*id = model_at(&r->model, path)->id;
	return done(r, fs_open(r->fs, path, O_RDWR, 0, f));
}

bool w_write(struct run *r, const char *path, u64 off, u64 len)
{
	struct fs_file f;
	bool ok;
	u32 id;

	BEGIN(r, "write %s, %llu bytes at %llu", path, (unsigned long long)len, (unsigned long long)off);
	ok = open_it(r, path, &f, &id);
	if (ok) {
		ok = write_to(r, &f, id, off, len);
		fs_close(r->fs, &f);
	}
	return finish(r, ok);
}

bool w_append(struct run *r, const char *path, u64 len)
{
	return w_write(r, path, model_at(&r->model, path)->size, len);
}

bool w_truncate(struct run *r, const char *path, u64 size)
{
	int err;

	BEGIN(r, "truncate %s to %llu", path, (unsigned long long)size);
	err = FS_CALL(r->fs, truncate, path, size);
	if (done(r, err))
		model_size(&r->model, model_at(&r->model, path), size);
	return finish(r, !err);
}

static bool fallocate_at(struct run *r, const char *path, int mode, u64 off, u64 len)
{
	struct fs_file f;
	bool ok;
	u32 id;

	ok = open_it(r, path, &f, &id);
	if (ok) {
		struct mfile *m = model_file(&r->model, id);

		ok = done(r, FS_CALL(r->fs, fallocate, &f, mode, off, len));
		fs_close(r->fs, &f);
		if (ok && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
			model_zero(&r->model, m, off, len);
		if (ok && !(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size)
			model_size(&r->model, m, off + len);
		if (ok)
			m->touched = r->model.ops;
	}
	return finish(r, ok);
}

bool w_punch(struct run *r, const char *path, u64 off, u64 len)
{
	BEGIN(r, "punch %s, %llu bytes at %llu", path, (unsigned long long)len, (unsigned long long)off);
	return fallocate_at(r, path, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}

bool w_zero(struct run *r, const char *path, u64 off, u64 len)
{
	BEGIN(r, "zero %s, %llu bytes at %llu", path, (unsigned long long)len, (unsigned long long)off);
	return fallocate_at(r, path, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len);
}

bool w_prealloc(struct run *r, const char *path, u64 off, u64 len, bool keep_size)
{
	BEGIN(r, "prealloc %s, %llu bytes at %llu%s", path, (unsigned long long)len, (unsigned long long)off,
	      keep_size ? ", size kept" : "");
	return fallocate_at(r, path, keep_size ? FALLOC_FL_KEEP_SIZE : 0, off, len);
}

bool w_chmod(struct run *r, const char *path, u32 mode)
{
	struct mfile *f;
	int err;

	BEGIN(r, "chmod %s %o", path, mode);
	err = FS_CALL(r->fs, chmod, path, mode);
	if (done(r, err)) {
		f = model_at(&r->model, path);
		f->mode = (f->mode & S_IFMT) | mode;
		f->touched = r->model.ops;
	}
	return finish(r, !err);
}

bool w_chgrp(struct run *r, const char *path, u32 gid)
{
	struct mfile *f;
	int err;

	BEGIN(r, "chgrp %s %u", path, gid);
	err = FS_CALL(r->fs, chown, path, ~0u, gid);
	if (done(r, err)) {
		f = model_at(&r->model, path);
		f->gid = gid;
		f->touched = r->model.ops;
	}
	return finish(r, !err);
}

bool w_project(struct run *r, const char *path, u32 project, bool inherits)
{
	struct iattr a = { .valid = ATTR_PROJECT, .project = project };
	struct fs_file f;
	int err;

	BEGIN(r, "project of %s %u%s", path, project, inherits ? ", and of what is made there" : "");
	err = fs_open(r->fs, path, inherits ? O_RDONLY | O_DIRECTORY : O_RDWR, 0, &f);
	if (!err && inherits) {
		a.valid |= ATTR_FLAGS;
		a.flags = ((struct file *)f.in)->inode->flags | INO_PROJINHERIT;
	}
	if (!err) {
		err = vfs_setattr(((struct file *)f.in)->inode, &a);
		fs_close(r->fs, &f);
	}
	if (done(r, err))
		model_at(&r->model, path)->touched = r->model.ops;
	return finish(r, !err);
}

bool w_setxattr(struct run *r, const char *path, const char *name, u32 len)
{
	struct mfile *f = model_at(&r->model, path);
	u8 value[65536];
	int err;

	BEGIN(r, "setxattr %s %s, %u bytes", path, name, len);
	pattern(f->id, r->model.ops, 0, value, len);
	err = FS_CALL(r->fs, setxattr, path, name, value, len, 0);
	if (done(r, err))
		model_xattr(&r->model, f, name, len);
	return finish(r, !err);
}

bool w_removexattr(struct run *r, const char *path, const char *name)
{
	int err;

	BEGIN(r, "removexattr %s %s", path, name);
	err = FS_CALL(r->fs, removexattr, path, name);
	if (done(r, err))
		model_xattr(&r->model, model_at(&r->model, path), name, ~0u);
	return finish(r, !err);
}

bool w_fsync(struct run *r, const char *path)
{
	struct fs_file f;
	int err, flags = S_ISDIR(model_at(&r->model, path)->mode) ? O_RDONLY | O_DIRECTORY : O_RDWR;

	BEGIN(r, "fsync %s", path);
	err = fs_open(r->fs, path, flags, 0, &f);
	if (!err) {
		err = FS_CALL(r->fs, fsync, &f, false);
		fs_close(r->fs, &f);
	}
	if (done(r, err))
		model_sync(&r->model, model_at(&r->model, path));
	return finish(r, !err);
}

bool w_sync(struct run *r)
{
	int err;

	BEGIN(r, "sync");
	err = FS_CALL(r->fs, sync);
	if (done(r, err))
		model_sync(&r->model, NULL);
	return finish(r, !err);
}

bool w_grow(struct run *r, u32 part)
{
	u64 bytes = r->volume->bytes, from = r->volume->made_bytes ? r->volume->made_bytes : bytes;
	struct grown grown;
	int err;

	BEGIN(r, "grow %u/16", part);
	err = vfs_grow(fs_vfs_sb(r->fs), from + (bytes - from) / 16 * part, &grown);
	if (done(r, err) && part == 16 && grown.after_bytes + (512u << 10) < bytes)
		r->wrong = say("grown to %llu bytes of %llu", (unsigned long long)grown.after_bytes,
			       (unsigned long long)bytes);
	return finish(r, !err);
}

bool w_defrag(struct run *r, const char *path)
{
	struct fs_file f;
	u64 moved;
	bool ok;

	BEGIN(r, "defragment %s", path);
	ok = done(r, fs_open(r->fs, path, O_RDONLY, 0, &f));
	if (ok) {
		ok = done(r, FS_CALL(r->fs, defrag, &f, &moved));
		r->moved_bytes += moved;
		fs_close(r->fs, &f);
	}
	return finish(r, ok);
}

/* ---- files held open ---- */

bool w_hold(struct run *r, u32 slot, const char *path)
{
	w_release(r, slot);
	BEGIN(r, "open %s", path);
	if (!open_it(r, path, &r->held[slot], &r->held_id[slot]))
		r->held_id[slot] = 0;
	return finish(r, r->held_id[slot] != 0);
}

bool w_held_write(struct run *r, u32 slot, u64 off, u64 len)
{
	BEGIN(r, "write to held file %u, %llu bytes at %llu", slot, (unsigned long long)len,
	      (unsigned long long)off);
	return finish(r, r->held_id[slot] && write_to(r, &r->held[slot], r->held_id[slot], off, len));
}

bool w_held_truncate(struct run *r, u32 slot, u64 size)
{
	bool ok;

	BEGIN(r, "truncate held file %u to %llu", slot, (unsigned long long)size);
	ok = r->held_id[slot] && done(r, FS_CALL(r->fs, ftruncate, &r->held[slot], size));
	if (ok)
		model_size(&r->model, model_file(&r->model, r->held_id[slot]), size);
	return finish(r, ok);
}

bool w_release(struct run *r, u32 slot)
{
	if (!r->held_id[slot])
		return false;
	model_begin(&r->model, records(r), "close held file %u", slot);
	fs_close(r->fs, &r->held[slot]);
	r->held_id[slot] = 0;
	return finish(r, true);
}

/* ---- choosing ---- */

const char *w_some_path(struct run *r, u64 *seed)
{
	return r->model.entries ? r->model.entry[rnd_below(seed, r->model.entries)].path : NULL;
}

const char *w_some_file(struct run *r, u64 *seed)
{
	for (u32 i = 0; i < 20 && r->model.entries; i++) {
		const struct entry *e = &r->model.entry[rnd_below(seed, r->model.entries)];

		if (S_ISREG(r->model.file[e->id].mode))
			return e->path;
	}
	return NULL;
}
