/* Volumes: opened, closed, what they are and are called. Interface: werunos.h. */
#include "api/api.h"

#include "fs.h"
#include "lib/scope.h"
#include "volume.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct source_opts api_source_opts(const struct werunos_open_options *o, bool write)
{
	struct source_opts so = { .write = write, .must_write = write };

	if (o) {
		so.part = o->part;
		so.has_offset = o->has_offset;
		so.offset_bytes = o->offset_bytes;
		so.device = (char *const *)o->device;
		so.device_count = o->devices;
		so.journal = o->journal;
	}
	return so;
}

struct mount_opts api_mount_opts(const struct werunos_open_options *o)
{
	struct mount_opts mo = { .rdonly = true };

	if (o) {
		mo.norecovery = o->no_recovery;
		mo.has_sb = o->has_superblock;
		mo.sb_block = o->superblock;
		mo.cache_bytes = o->cache_bytes;
		mo.fs_opts = o->fs_options;
	}
	return mo;
}

/* ---- open and close ---- */

static int mount_rw(struct werunos_volume *v, struct mount_opts *mo)
{
	const struct fs_type *type;
	int err;

	if (mo->norecovery || mo->has_sb)
		return fail(-EINVAL, "a volume is changed as its journal and its first superblock have it: "
				     "--norecovery and --sb are for reading");
	mo->rdonly = false;
	mo->batch = true;
	err = source_probe(&v->src, mo, &type);
	if (!err && type->rdonly)
		err = fail(-EOPNOTSUPP, "%s: cannot change a %s volume yet", v->src.name, type->name);
	if (!err)
		err = source_mount(&v->src, mo, &v->sb);
	if (!err && v->sb->rdonly)
		err = fail(-EROFS, "%s cannot be changed: %s", v->src.name,
			   v->sb->notice[0] ? v->sb->notice : "it is shown read-only");
	return err;
}

/* Everything goes but what was said of it. */
static int discard(struct werunos_volume *v, int err)
{
	char why[512];

	snprintf(why, sizeof(why), "%s", err_text());
	if (v->sb)
		(void)!vfs_unmount(v->sb);
	source_close(&v->src);
	free(v);
	return *why ? fail(err, "%s", why) : err;
}

int werunos_open(const char *spec, const struct werunos_open_options *o, struct werunos_volume **out)
{
	const struct source_opts so = api_source_opts(o, o && o->write);
	struct mount_opts mo = api_mount_opts(o);
	struct werunos_volume *v = calloc(1, sizeof(*v));
	int err;

	api_begin();
	if (!v)
		return api_end(fail(-ENOMEM, "no memory for a volume"));
	v->src.fd = -1;
	v->cred = (struct cred){ geteuid(), getegid(), 0 };
	if (o && o->has_owner)
		v->cred = (struct cred){ o->uid, o->gid, 0 };
	err = source_open(spec, &so, &v->src);
	if (!err)
		err = so.write ? mount_rw(v, &mo) : source_mount(&v->src, &mo, &v->sb);
	if (err)
		return api_end(discard(v, err));
	err_clear();
	*out = v;
	return 0;
}

int werunos_close(struct werunos_volume *v)
{
	int err;

	if (!v)
		return 0;
	api_begin();
	if (atomic_load(&v->files))
		return api_end(fail(-EBUSY, "%s: %u files are open", v->src.name, atomic_load(&v->files)));
	err = vfs_unmount(v->sb);
	if (err && !*err_text())
		err = fail(err, "%s: %s", v->src.name, strerror(-err));
	source_close(&v->src);
	free(v);
	return api_end(err);
}

int werunos_sync(struct werunos_volume *v)
{
	api_begin();
	return api_end(vfs_sync(v->sb));
}

/* ---- facts ---- */

int werunos_info(struct werunos_volume *v, struct werunos_info *out)
{
	struct fs_probe probe = { 0 };
	struct kstatfs st;
	int err;

	api_begin();
	err = vfs_statfs(v->sb, &st);
	if (!err && v->sb->type->probe)
		err = v->sb->type->probe(v->src.dev, &probe);
	if (err)
		return api_end(err);
	*out = (struct werunos_info){
		.type = v->sb->type->name,
		.name = v->src.name,
		.notice = v->sb->notice,
		.read_only = v->sb->rdonly,
		.block_bytes = st.block_bytes,
		.name_max = st.name_max,
		.file_max_bytes = v->sb->size_max_bytes,
		.blocks = st.blocks,
		.blocks_free = st.blocks_free,
		.blocks_avail = st.blocks_avail,
		.inodes = st.inodes,
		.inodes_free = st.inodes_free,
	};
	memcpy(out->label, probe.label, sizeof(out->label));
	memcpy(out->uuid, probe.uuid, sizeof(out->uuid));
	return 0;
}

/* ---- names ---- */

/* A source and the type that lies there, one that has names. Closed by source_close, also after an error. */
static int open_named(const char *spec, const struct werunos_open_options *o, bool write, struct source *src,
		      const struct fs_type **type)
{
	const struct source_opts so = api_source_opts(o, write);
	const struct mount_opts mo = api_mount_opts(o);
	int err = source_open(spec, &so, src);

	if (!err)
		err = source_probe(src, &mo, type);
	if (!err && !(*type)->probe)
		err = fail(-EOPNOTSUPP, "%s: a %s volume has no names", src->name, (*type)->name);
	return err;
}

int werunos_identify(const char *spec, const struct werunos_open_options *o, struct werunos_identity *out)
{
	struct fs_probe probe = { 0 };
	const struct fs_type *type;
	struct source src;
	int err;

	api_begin();
	err = open_named(spec, o, false, &src, &type);
	if (!err)
		err = type->probe(src.dev, &probe);
	if (!err) {
		*out = (struct werunos_identity){ .size_bytes = probe.size_bytes };
		snprintf(out->type, sizeof(out->type), "%s", type->name);
		memcpy(out->label, probe.label, sizeof(out->label));
		memcpy(out->uuid, probe.uuid, sizeof(out->uuid));
	}
	source_close(&src);
	return api_end(err);
}

static int run_relabel(void *ctx, const struct fs_type *type, struct blkdev **devs, u32 n,
		       const struct mount_opts *opts)
{
	return type->relabel(devs, n, opts, ctx);
}

int werunos_relabel(const char *spec, const struct werunos_open_options *o, const struct werunos_names *names,
		    char *notice, size_t notice_bytes)
{
	struct text said = { 0 };
	struct relabel what = { names->label, names->uuid, names->uuid_random, &said };
	const struct source_run r = { .run = run_relabel, .ctx = &what };
	const struct mount_opts mo = api_mount_opts(o);
	const struct fs_type *type;
	struct source src;
	int err;

	api_begin();
	err = open_named(spec, o, true, &src, &type);
	if (!err && !type->relabel)
		err = fail(-EOPNOTSUPP, "%s: cannot change a %s volume yet", src.name, type->name);
	if (!err)
		err = source_run(&src, type, &mo, &r);
	if (!err && notice)
		snprintf(notice, notice_bytes, "%s", text_str(&said));
	text_free(&said);
	source_close(&src);
	return api_end(err);
}
