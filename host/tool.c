/* Options, volumes, listings and output of the commands that need no mount. Interface: tool.h. */
#include "tool.h"

#include "cmd.h"
#include "lib/scope.h"
#include "number.h"
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- options ---- */

void tool_init(struct tool_opts *o)
{
	*o = (struct tool_opts){ .mount.rdonly = true };
	opterr = 0;
}

static int bad_number(const char *what)
{
	return cli_usage("%s: \"%s\" is not a number that can be", what, optarg);
}

/* One more word for the module, or a list of them. */
static int fs_words(struct tool_opts *o, const char *name, const char *words)
{
	size_t len = strlen(o->fs_opts), room = sizeof(o->fs_opts) - len;
	int n = snprintf(o->fs_opts + len, room, "%s%s%s", len ? "," : "", name, words);

	if (n < 0 || (size_t)n >= room)
		return cli_usage("%s", "more options than there is room for");
	o->mount.fs_opts = o->fs_opts;
	return 0;
}

int tool_option(struct tool_opts *o, int opt, char **argv)
{
	u64 v;

	switch (opt) {
	case 'V':
		if (o->device_count == TOOL_DEVICES_MAX)
			return cli_usage("more than %u devices", TOOL_DEVICES_MAX);
		o->device[o->device_count++] = optarg;
		return 0;
	case 'J':
		o->json = true;
		return 0;
	case 'E':
		o->journal = optarg;
		return 0;
	case 'N':
		o->mount.norecovery = true;
		return 0;
	case 'p':
	case 'P':
		if (!number_parse(optarg, 1024, &v) || !v)
			return bad_number("partition");
		o->part = (u32)v;
		return 0;
	case 'O':
		o->has_offset = true;
		return size_parse(optarg, &o->offset_bytes) ? 0 : bad_number("offset");
	case 'S':
		o->mount.has_sb = true;
		return number_parse(optarg, UINT64_MAX, &o->mount.sb_block) ? 0 : bad_number("superblock");
	case 'o':
		return fs_words(o, "", optarg);
	case 'G':
		return fs_words(o, "generation=", optarg);
	case 'C':
		return size_parse(optarg, &o->mount.cache_bytes) ? 0 : bad_number("cache");
	}
	return cli_usage("%s: not an option, or its value is missing", argv[optind - 1]);
}

/* ---- volumes ---- */

struct werunos_open_options tool_open_options(const struct tool_opts *o, bool write)
{
	return (struct werunos_open_options){
		.write = write,
		.part = o->part,
		.has_offset = o->has_offset,
		.offset_bytes = o->offset_bytes,
		.device = (const char *const *)o->device,
		.devices = o->device_count,
		.journal = o->journal,
		.cache_bytes = o->mount.cache_bytes,
		.fs_options = o->mount.fs_opts,
		.no_recovery = o->mount.norecovery,
		.has_superblock = o->mount.has_sb,
		.superblock = o->mount.sb_block,
	};
}

int volume_source(const struct tool_opts *o, const char *operand, bool write, struct volume *out)
{
	const struct werunos_open_options wo = tool_open_options(o, write);
	const struct source_opts so = api_source_opts(&wo, write);
	int err;

	*out = (struct volume){ .src.fd = -1 };
	err = operand_split(operand, &out->spec, &out->path);
	if (!err)
		err = source_open(out->spec, &so, &out->src);
	if (err)
		volume_close(out);
	return err;
}

static int open_api(const struct tool_opts *o, const char *operand, bool write, struct volume *out)
{
	const struct werunos_open_options wo = tool_open_options(o, write);
	int err;

	*out = (struct volume){ .src.fd = -1 };
	err = operand_split(operand, &out->spec, &out->path);
	if (!err)
		err = werunos_open(out->spec, &wo, &out->api);
	if (err) {
		volume_close(out);
		return err;
	}
	out->sb = out->api->sb;
	if (out->sb->notice[0])
		fprintf(stderr, "werunos: %s: %s\n", out->api->src.name, out->sb->notice);
	return 0;
}

int volume_open(const struct tool_opts *o, const char *operand, struct volume *out)
{
	return open_api(o, operand, false, out);
}

int volume_open_rw(const struct tool_opts *o, const char *operand, struct volume *out)
{
	return open_api(o, operand, true, out);
}

int volume_close(struct volume *v)
{
	char why[512];
	int err, code;

	snprintf(why, sizeof(why), "%s", err_text());
	err = v->api ? werunos_close(v->api) : 0;
	code = err ? cli_error(err, v->spec) : 0;
	/* What went wrong before is still to be told. */
	if (*why)
		(void)!fail(-EIO, "%s", why);
	v->api = NULL;
	v->sb = NULL;
	source_close(&v->src);
	free(v->spec);
	v->spec = NULL;
	return code;
}

/* ---- listings ---- */

struct listing_ctx {
	struct listing *l;
	bool dots;
};

static int listing_add(void *ctx, const struct dirent_out *de)
{
	struct listing_ctx *c = ctx;
	struct listing *l = c->l;
	const struct name *n = &de->name;
	char *copy;

	if (!c->dots && n->s[0] == '.' && (n->len == 1 || (n->len == 2 && n->s[1] == '.')))
		return 0;
	if (l->count == l->room) {
		u32 room = l->room ? l->room * 2 : 64;
		struct listed *e = realloc(l->e, room * sizeof(*e));

		if (!e)
			return fail(-ENOMEM, "no memory for a listing");
		l->e = e;
		l->room = room;
	}
	copy = malloc(n->len + 1);
	if (!copy)
		return fail(-ENOMEM, "no memory for a listing");
	memcpy(copy, n->s, n->len);
	copy[n->len] = 0;
	l->e[l->count++] = (struct listed){ .name = copy, .len = n->len, .type = de->type, .ino = de->ino };
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

int listing_read(struct inode *dir, bool dots, struct listing *out)
{
	struct listing_ctx ctx = { out, dots };
	int err;

	*out = (struct listing){ 0 };
	err = vfs_readdir(dir, 0, listing_add, &ctx);
	if (out->count)
		qsort(out->e, out->count, sizeof(out->e[0]), by_name);
	return err;
}

void listing_free(struct listing *l)
{
	for (u32 i = 0; i < l->count; i++)
		free(l->e[i].name);
	free(l->e);
	*l = (struct listing){ 0 };
}

/* ---- words for attributes ---- */

void mode_text(u32 mode, char out[11])
{
	static const char rwx[] = "rwxrwxrwx";
	static const struct {
		u32 bit;
		u8 at;
		char with_x, without;
	} special[] = { { S_ISUID, 3, 's', 'S' }, { S_ISGID, 6, 's', 'S' }, { S_ISVTX, 9, 't', 'T' } };

	out[0] = S_ISDIR(mode)    ? 'd'
		 : S_ISLNK(mode)  ? 'l'
		 : S_ISCHR(mode)  ? 'c'
		 : S_ISBLK(mode)  ? 'b'
		 : S_ISFIFO(mode) ? 'p'
		 : S_ISSOCK(mode) ? 's'
		 : S_ISREG(mode)  ? '-'
				  : '?';
	for (int i = 0; i < 9; i++)
		out[i + 1] = mode & (0400u >> i) ? rwx[i] : '-';
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if (mode & special[i].bit)
			out[special[i].at] =
				out[special[i].at] == 'x' ? special[i].with_x : special[i].without;
	out[10] = 0;
}

const char *mode_kind(u32 mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "regular file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symbolic link";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	}
	return "of no known type";
}

int add_target(struct inode *link, struct text *t)
{
	scoped(freep) char *buf = malloc(VFS_PATH_MAX);
	u32 len;
	int err;

	if (!buf)
		return fail(-ENOMEM, "no memory for a link");
	err = vfs_readlink(link, buf, VFS_PATH_MAX, &len);
	if (!err)
		text_add_name(t, buf, len);
	return err;
}

static void doc_link(struct inode *link, struct doc *out)
{
	scoped(freep) char *buf = malloc(VFS_PATH_MAX);
	u32 len;

	if (buf && !vfs_readlink(link, buf, VFS_PATH_MAX, &len))
		doc_bytes(out, "target", buf, len);
	else
		doc_str(out, "target_error", err_text());
}

/* By what the file's content is checked. */
static void doc_digest(struct inode *inode, struct doc *out)
{
	struct file_digest digest;
	struct text t = { 0 };
	int err = vfs_digest(inode, &digest);

	if (err == -ENODATA)
		return;
	if (err) {
		doc_str(out, "verity", err_text());
		return;
	}
	text_add(&t, "%s:", digest.name);
	for (u32 i = 0; i < digest.len_bytes; i++)
		text_add(&t, "%02x", digest.bytes[i]);
	doc_str(out, "verity", text_str(&t));
	text_free(&t);
}

void stat_doc(struct inode *inode, struct doc *out)
{
	char mode[11], octal[8];
	struct kstat k;

	vfs_getattr(inode, &k);
	mode_text(k.mode, mode);
	snprintf(octal, sizeof(octal), "%04o", k.mode & 07777);
	doc_str(out, "type", mode_kind(k.mode));
	if (S_ISLNK(k.mode))
		doc_link(inode, out);
	doc_u64(out, "inode", k.ino);
	doc_u64(out, "generation", k.generation);
	doc_str(out, "mode", mode);
	doc_str(out, "permissions", octal);
	doc_u64(out, "links", k.nlink);
	doc_u64(out, "uid", k.uid);
	doc_u64(out, "gid", k.gid);
	if (S_ISCHR(k.mode) || S_ISBLK(k.mode)) {
		doc_u64(out, "major", k.rdev_major);
		doc_u64(out, "minor", k.rdev_minor);
	}
	doc_u64(out, "size", k.size_bytes);
	doc_u64(out, "blocks_512", k.blocks_512);
	doc_hex(out, "flags", k.flags);
	doc_digest(inode, out);
	doc_u64(out, "project", k.project);
	doc_time(out, "accessed", k.atime.sec, k.atime.nsec);
	doc_time(out, "modified", k.mtime.sec, k.mtime.nsec);
	doc_time(out, "changed", k.ctime.sec, k.ctime.nsec);
	if (k.has_btime)
		doc_time(out, "created", k.btime.sec, k.btime.nsec);
}

/* ---- output ---- */

int put_bytes(const void *p, size_t len_bytes)
{
	const char *s = p;

	while (len_bytes) {
		ssize_t n = write(STDOUT_FILENO, s, len_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(-errno, "the output cannot be written: %s", strerror(errno));
		s += n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

int put_text(struct text *t)
{
	int err = t->oom ? fail(-ENOMEM, "no memory for the output") : put_bytes(text_str(t), t->len_bytes);

	text_reset(t);
	return err;
}

int put_doc(const struct doc *d, bool json)
{
	struct text t = { 0 };
	int err;

	if (json)
		doc_to_json(d, &t);
	else
		doc_to_text(d, &t);
	err = doc_oom(d) ? fail(-ENOMEM, "no memory for the output") : put_text(&t);
	text_free(&t);
	return err;
}

bool tool_id(const char *s, bool group, u32 *id, u32 *login_group)
{
	const struct passwd *pw;
	const struct group *gr;
	u64 v;

	if (number_parse(s, UINT32_MAX - 1, &v)) {
		*id = (u32)v;
		return true;
	}
	if (group) {
		gr = getgrnam(s);
		if (gr)
			*id = gr->gr_gid;
		return gr;
	}
	pw = getpwnam(s);
	if (pw) {
		*id = pw->pw_uid;
		*login_group = pw->pw_gid;
	}
	return pw;
}
