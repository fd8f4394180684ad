/* werunos stat and cat: one file of a volume, its attributes or its content. */
#include "cmd.h"

#include "lib/scope.h"
#include "tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES (1u << 20)

static const struct option long_options[] = { { "extents", no_argument, NULL, 'x' }, TOOL_LONG };

/* ---- stat ---- */

/* A value may be anything: what is no text is shown escaped. */
static void doc_xattr(struct inode *inode, const char *name, char *value, struct doc *out)
{
	u32 len;
	int err = vfs_getxattr(inode, name, value, VFS_XATTR_MAX, &len);

	if (err)
		doc_str(out, name, strerror(-err));
	else
		doc_bytes(out, name, value, len);
}

static int doc_xattrs(struct inode *inode, struct doc *out)
{
	scoped(freep) char *names = malloc(VFS_XATTR_MAX);
	scoped(freep) char *value = malloc(VFS_XATTR_MAX);
	struct doc *d;
	u32 len;
	int err;

	if (!names || !value)
		return fail(-ENOMEM, "no memory for attributes");
	err = vfs_listxattr(inode, names, VFS_XATTR_MAX, &len);
	if (err == -EOPNOTSUPP || (!err && !len))
		return 0;
	if (err)
		return err;
	d = doc_object(out, "attributes");
	for (const char *n = names; n < names + len; n += strlen(n) + 1)
		doc_xattr(inode, n, value, d);
	return 0;
}

static int doc_extent(void *ctx, const struct mapping *m)
{
	static const char *const kinds[] = {
		[MAP_HOLE] = "hole",     [MAP_DATA] = "data",       [MAP_UNWRITTEN] = "unwritten",
		[MAP_INLINE] = "inline", [MAP_ENCODED] = "encoded",
	};
	struct doc *d = doc_object(ctx, NULL);
	enum map_kind kind = m->kind == MAP_ENCODED && m->flags & MAP_PLAIN ? MAP_DATA : m->kind;

	doc_str(d, "kind", kinds[kind]);
	doc_u64(d, "offset", m->off_bytes);
	doc_u64(d, "length", m->len_bytes);
	if (m->dev)
		doc_u64(d, "device_offset", m->dev_off_bytes);
	if (m->dev && kind == MAP_ENCODED)
		doc_u64(d, "device_length", m->dev_len_bytes);
	return 0;
}

static int stat_operand(const struct tool_opts *o, bool extents, const char *operand)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct doc *d = doc_new();
	struct volume v;
	int err = d ? volume_open(o, operand, &v) : fail(-ENOMEM, "no memory for the output");

	if (err) {
		doc_free(d);
		return cli_error(err, operand);
	}
	err = vfs_path(v.sb, NULL, v.path, false, &inode);
	if (!err) {
		doc_bytes(d, "path", v.path, strlen(v.path));
		stat_doc(inode, d);
		err = doc_xattrs(inode, d);
	}
	if (!err && extents && is_reg(inode))
		err = vfs_extents(inode, 0, inode->size_bytes, doc_extent, doc_array(d, "extents"));
	if (!err)
		err = put_doc(d, o->json);
	if (err)
		cli_error(err, operand);
	doc_free(d);
	vfs_iput(take(inode));
	volume_close(&v);
	return err ? EXIT_ERROR : 0;
}

/* ---- cat ---- */

/* To a terminal: controls escaped, lines and tabs kept. */
static int put_shown(const char *p, size_t len)
{
	struct text t = { 0 };
	int err;

	while (len) {
		size_t n = 0;

		while (n < len && p[n] != '\n' && p[n] != '\t' && p[n] != '\\')
			n++;
		text_add_name(&t, p, n);
		if (n < len)
			text_add_bytes(&t, p + n++, 1);
		p += n;
		len -= n;
	}
	err = put_text(&t);
	text_free(&t);
	return err;
}

static int copy_out(struct inode *inode, bool shown)
{
	scoped(freep) char *buf = os_alloc_aligned(4096, CHUNK_BYTES);
	u64 off = 0, done;
	int err;

	if (!buf)
		return fail(-ENOMEM, "no memory for a buffer");
	do {
		err = vfs_read(inode, off, buf, CHUNK_BYTES, &done);
		if (!err && done)
			err = shown ? put_shown(buf, done) : put_bytes(buf, done);
		off += done;
	} while (!err && done);
	return err;
}

static int cat_operand(const struct tool_opts *o, const char *operand)
{
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct volume v;
	int err = volume_open(o, operand, &v);

	if (err)
		return cli_error(err, operand);
	err = vfs_path(v.sb, NULL, v.path, true, &inode);
	if (!err && is_dir(inode))
		err = fail(-EISDIR, "%s is a directory", operand);
	else if (!err && !is_reg(inode))
		err = fail(-EINVAL, "%s is a %s: it has no content", operand, mode_kind(inode->mode));
	if (!err)
		err = copy_out(inode, isatty(STDOUT_FILENO));
	if (err)
		cli_error(err, operand);
	vfs_iput(take(inode));
	volume_close(&v);
	return err ? EXIT_ERROR : 0;
}

/* ---- command lines ---- */

int cmd_stat(int argc, char **argv)
{
	bool extents = false;
	struct tool_opts o;
	int opt, code = 0;

	tool_init(&o);
	while ((opt = getopt_long(argc, argv, TOOL_SHORT, long_options, NULL)) != -1) {
		if (opt == 'x')
			extents = true;
		else if ((code = tool_option(&o, opt, argv)))
			return code;
	}
	if (optind == argc)
		return cli_usage("%s", "IMAGE:/PATH is wanted");
	for (int i = optind; i < argc; i++)
		code |= stat_operand(&o, extents, argv[i]);
	return code;
}

int cmd_cat(int argc, char **argv)
{
	struct tool_opts o;
	int opt, code = 0;

	tool_init(&o);
	while ((opt = getopt_long(argc, argv, TOOL_SHORT, long_options + 1, NULL)) != -1)
		if ((code = tool_option(&o, opt, argv)))
			return code;
	if (optind == argc)
		return cli_usage("%s", "IMAGE:/PATH is wanted");
	for (int i = optind; i < argc; i++)
		code |= cat_operand(&o, argv[i]);
	return code;
}
