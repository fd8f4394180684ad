/*
 * Copies into volumes, out of them and from one to another: who asks says what the copy is called, and here it becomes a feed,
 * a sink, and what lies between. Interface: werunos.h; the engine: import/import.h.
 */
#include "api/copy.h"

#include "api/api.h"
#include "import/oci.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UMASK_ARCHIVE 022u /* of directories that no archive lists */

_Static_assert(WERUNOS_DROP_OWNER == KEEP_OWNER && WERUNOS_DROP_MODE == KEEP_MODE, "one bit means one thing");
_Static_assert(WERUNOS_DROP_TIMES == KEEP_TIMES && WERUNOS_DROP_XATTR == KEEP_XATTR,
	       "one bit means one thing");

struct copy_opts api_copy_opts(const struct werunos_copy_options *o)
{
	if (!o)
		return (struct copy_opts){ 0 };
	return (struct copy_opts){
		.has_owner = o->has_owner,
		.uid = o->uid,
		.gid = o->gid,
		.uid_map = o->uid_map,
		.gid_map = o->gid_map,
		.uid_maps = o->uid_maps,
		.gid_maps = o->gid_maps,
		.threads = o->threads,
		.memory_bytes = o->memory_bytes,
		.stop = o->stop,
		.failed = o->failed,
		.progress = o->progress,
		.ctx = o->ctx,
	};
}

struct select api_select(const struct werunos_copy_options *o)
{
	if (!o)
		return (struct select){ 0 };
	return (struct select){ .exclude = o->exclude,
				.excludes = o->excludes,
				.one_file_system = o->one_file_system,
				.dereference = o->dereference };
}

static u32 keeps(const struct werunos_copy_options *o)
{
	return KEEP_ALL & ~(o ? o->drop : 0);
}

/* ---- where to ---- */

/* A place for a copy: a directory, and what the copy is called in it; "": it is the directory itself. */
struct target {
	struct inode *dir; /* of a volume */
	char *host_dir;    /* or of the host */
	char *name;
};

static void target_fini(struct target *t)
{
	vfs_iput(t->dir);
	free(t->host_dir);
	free(t->name);
}

static int no_parent(int err, const char *path)
{
	return err == -ENOENT ? fail(err, "%s: there is no directory for it", path) : err;
}

static int target_in_volume(struct super_block *sb, const char *path, struct target *out)
{
	struct name last;
	int err;

	*out = (struct target){ 0 };
	if (path_is_dir(path)) {
		err = path_find(sb, path, true, &out->dir);
		if (!err && !is_dir(out->dir))
			err = -ENOTDIR;
		out->name = strdup("");
	} else {
		err = no_parent(path_place(sb, path, &out->dir, &last), path);
		out->name = err ? NULL : strndup(last.s, last.len);
	}
	return err ? err : out->name ? 0 : fail(-ENOMEM, "no memory to copy");
}

static int target_on_host(const char *path, struct target *out)
{
	const char *slash = strrchr(path, '/');
	bool whole = path_is_dir(path);

	*out = (struct target){ 0 };
	out->name = whole ? strdup("") : path_last(path);
	if (whole)
		out->host_dir = strdup(path);
	else
		out->host_dir = slash ? strndup(path, MAX((size_t)(slash - path), (size_t)1)) : strdup(".");
	return out->name && out->host_dir ? 0 : fail(-ENOMEM, "no memory to copy");
}

/* ---- one copy ---- */

/* What is copied, and what a file of that is called in the target. */
struct origin {
	struct feed *f;
	bool is_tree;
	char *name;
};

static void origin_fini(struct origin *o)
{
	if (o->f)
		o->f->ops->close(o->f);
	free(o->name);
}

/* A single file has the target's name, or its own. */
static int origin_name(struct origin *o, const char *path, const struct target *t)
{
	o->name = *t->name ? strdup(t->name) : path_last(path);
	return o->name ? 0 : fail(-ENOMEM, "no memory to copy");
}

static int origin_on_host(const char *path, const struct select *select, const struct target *t,
			  struct origin *out)
{
	struct stat st;
	int err;

	*out = (struct origin){ 0 };
	if (select->dereference ? stat(path, &st) : lstat(path, &st))
		return fail(-errno, "%s: %s", path, strerror(errno));
	out->is_tree = S_ISDIR(st.st_mode);
	err = origin_name(out, path, t);
	return err ? err : feed_host(path, out->name, select, &out->f);
}

/* top: the inode at path, and stays referenced. */
static int origin_in_volume(struct inode *top, const char *path, const struct select *select,
			    const struct target *t, struct origin *out)
{
	int err;

	*out = (struct origin){ .is_tree = is_dir(top) };
	err = origin_name(out, path, t);
	return err ? err : feed_volume(top, out->name, select, &out->f);
}

static int source_inode(struct super_block *sb, const char *path, const struct werunos_copy_options *o,
			struct inode **out)
{
	int err = path_find(sb, path, o && o->follow, out);

	return err && !*err_text() ? fail(err, "%s: %s", path, strerror(-err)) : err;
}

static int run(const struct origin *from, struct sink *k, const struct target *t,
	       const struct werunos_copy_options *o, struct werunos_report *report)
{
	struct copy_opts opts = api_copy_opts(o);
	struct werunos_report r = { 0 };
	int err;

	/* A tree's own items lie below its name. */
	opts.top = from->is_tree && *t->name ? t->name : NULL;
	err = copy_run(from->f, k, &opts, &r);
	k->ops->close(k);
	if (report)
		*report = r;
	return err;
}

static void begin(struct werunos_report *report)
{
	api_begin();
	if (report)
		*report = (struct werunos_report){ 0 };
}

static int into_volume(const struct werunos_volume *v, const struct origin *from, const struct target *t,
		       const struct werunos_copy_options *o, struct werunos_report *report)
{
	const struct cred cred = { v->cred.uid, v->cred.gid, o ? o->umask : 0 };
	struct sink *k;
	int err = sink_volume(t->dir, keeps(o), &cred, &k);

	return err ? err : run(from, k, t, o, report);
}

/* ---- trees ---- */

int werunos_import_tree(struct werunos_volume *v, const char *host_path, const char *path,
			const struct werunos_copy_options *o, struct werunos_report *report)
{
	struct select select = api_select(o);
	struct origin from = { 0 };
	struct target to;
	int err;

	select_dst(&select, v->src.fd);
	begin(report);
	err = target_in_volume(v->sb, path, &to);
	if (!err)
		err = origin_on_host(host_path, &select, &to, &from);
	if (!err)
		err = into_volume(v, &from, &to, o, report);
	origin_fini(&from);
	target_fini(&to);
	return api_end(err);
}

int werunos_export_tree(struct werunos_volume *v, const char *path, const char *host_path,
			const struct werunos_copy_options *o, struct werunos_report *report)
{
	scoped(vfs_iputp) struct inode *top = NULL;
	const struct select select = api_select(o);
	struct origin from = { 0 };
	struct target to;
	struct sink *k;
	int err;

	begin(report);
	err = target_on_host(host_path, &to);
	if (!err)
		err = source_inode(v->sb, path, o, &top);
	if (!err)
		err = origin_in_volume(top, path, &select, &to, &from);
	if (!err)
		err = sink_host(to.host_dir, keeps(o), o ? o->umask : 0, &k);
	if (!err)
		err = run(&from, k, &to, o, report);
	origin_fini(&from);
	target_fini(&to);
	return api_end(err);
}

int werunos_copy(struct werunos_volume *from_volume, const char *path, struct werunos_volume *to_volume,
		 const char *to_path, const struct werunos_copy_options *o, struct werunos_report *report)
{
	scoped(vfs_iputp) struct inode *top = NULL;
	const struct select select = api_select(o);
	struct origin from = { 0 };
	struct target to;
	int err;

	begin(report);
	err = target_in_volume(to_volume->sb, to_path, &to);
	if (!err)
		err = source_inode(from_volume->sb, path, o, &top);
	if (!err)
		err = origin_in_volume(top, path, &select, &to, &from);
	if (!err)
		err = into_volume(to_volume, &from, &to, o, report);
	origin_fini(&from);
	target_fini(&to);
	return api_end(err);
}

/* ---- archives ---- */

/* Not what is no file: /dev/null, a pipe. */
static void take_away(const char *file)
{
	struct stat st;

	if (strcmp(file, "-") != 0 && !lstat(file, &st) && S_ISREG(st.st_mode))
		unlink(file);
}

int werunos_export_tar(struct werunos_volume *v, const char *path, const char *file,
		       const struct werunos_copy_options *o, struct werunos_report *report)
{
	scoped(vfs_iputp) struct inode *top = NULL;
	const struct select select = api_select(o);
	struct target to = { .name = (char[]){ "" } };
	struct origin from = { 0 };
	struct sink *k;
	int err;

	begin(report);
	if (keeps(o) != KEEP_ALL)
		return api_end(fail(-EINVAL, "an archive holds all that there is of a file"));
	err = source_inode(v->sb, path, o, &top);
	if (!err)
		err = origin_in_volume(top, path, &select, &to, &from);
	if (!err)
		err = sink_tar(file, &k);
	if (!err) {
		err = run(&from, k, &to, o, report);
		if (err)
			take_away(file);
	}
	origin_fini(&from);
	return api_end(err);
}

/* The directory that archives go to. */
static int archive_top(struct werunos_volume *v, const char *path, struct inode **out)
{
	int err = path_find(v->sb, path, true, out);

	if (!err && !is_dir(*out))
		err = -ENOTDIR;
	return err ? fail(err, "%s: %s", path, strerror(-err)) : 0;
}

static int unpack(struct inode *top, const char *file, bool layer, const struct werunos_copy_options *o,
		  struct series *series)
{
	const struct cred cred = { o && o->has_owner ? o->uid : 0, o && o->has_owner ? o->gid : 0,
				   UMASK_ARCHIVE };
	const struct select select = api_select(o);
	struct feed *f;
	struct sink *k;
	int err = feed_tar(file, layer, &select, &f);

	if (err)
		return err;
	err = sink_volume(top, keeps(o) | (layer ? SINK_LAYER : 0), &cred, &k);
	if (!err) {
		err = series_run(series, f, k);
		k->ops->close(k);
	}
	f->ops->close(f);
	return err;
}

int werunos_import_tar(struct werunos_volume *v, const char *file, bool layer, const char *path,
		       const struct werunos_copy_options *o, struct werunos_report *report)
{
	const struct copy_opts opts = api_copy_opts(o);
	scoped(vfs_iputp) struct inode *top = NULL;
	struct series series;
	int err;

	begin(report);
	series_init(&series, &opts, 0);
	err = archive_top(v, path, &top);
	if (!err)
		err = unpack(top, file, layer, o, &series);
	if (report)
		*report = series.all;
	return api_end(err);
}

/* ---- container images ---- */

struct werunos_image {
	struct oci_image *image;
};

int werunos_image_open(const char *spec, const char *platform, const volatile int *stop,
		       struct werunos_image **out)
{
	struct werunos_image *i = calloc(1, sizeof(*i));
	int err;

	api_begin();
	err = i ? oci_open(spec, platform, &i->image) : fail(-ENOMEM, "no memory for an image");
	for (u32 n = 0; !err && n < i->image->layers; n++)
		err = oci_verify(&i->image->layer[n], stop);
	if (err) {
		werunos_image_close(i);
		return api_end(err);
	}
	*out = i;
	return 0;
}

void werunos_image_close(struct werunos_image *i)
{
	if (i)
		oci_close(i->image);
	free(i);
}

const char *werunos_image_name(const struct werunos_image *i)
{
	return i->image->name;
}

const char *werunos_image_platform(const struct werunos_image *i)
{
	return i->image->platform;
}

uint32_t werunos_image_layers(const struct werunos_image *i)
{
	return i->image->layers;
}

int werunos_import_image(struct werunos_volume *v, const struct werunos_image *i, const char *path,
			 const struct werunos_copy_options *o, struct werunos_report *report)
{
	const struct copy_opts opts = api_copy_opts(o);
	scoped(vfs_iputp) struct inode *top = NULL;
	struct series series;
	int err;

	begin(report);
	series_init(&series, &opts, i->image->bytes);
	err = archive_top(v, path, &top);
	for (u32 n = 0; !err && n < i->image->layers; n++)
		err = stop_asked(opts.stop) ? -ECANCELED
					    : unpack(top, i->image->layer[n].path, true, o, &series);
	if (report)
		*report = series.all;
	return api_end(err);
}
