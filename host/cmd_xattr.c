/* werunos setfattr and getfattr: extended attributes, with values written as setfattr(1) and getfattr(1) have them. */
#include "cmd.h"

#include "edit.h"
#include "lib/scope.h"
#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct xattr {
	struct edit e;
	bool no_follow;
	const char *name;
	void *value; /* setfattr: NULL removes */
	u32 len_bytes;
	bool dump; /* getfattr: values too */
	bool all;  /* getfattr: no names were asked for by hand */
	regex_t pattern;
	struct text out;
	struct doc *doc, *files; /* --json */
};

/* ---- values as text ---- */

static int digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower(c) - 'a' + 10 : -1;
}

/* 0x…, two digits for each byte. */
static bool from_hex(const char *s, u8 *out, u32 *len)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (digit(s[i]) < 0)
			return false;
	for (size_t i = 0; i + 1 < n; i += 2)
		out[i / 2] = (u8)(digit(s[i]) << 4 | digit(s[i + 1]));
	*len = (u32)(n / 2);
	return n % 2 == 0;
}

static int sextet(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* 0s…, in base64. */
static bool from_base64(const char *s, u8 *out, u32 *len)
{
	u32 bits = 0, have = 0, n = 0;

	for (; sextet(*s) >= 0; s++) {
		bits = (bits << 6 | (u32)sextet(*s)) & 0xffffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (u8)(bits >> have);
		}
	}
	*len = n;
	return !s[strspn(s, "=")] && have < 6;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Text, perhaps in quotes; \" \\ and \NNN are bytes. */
static bool from_text(const char *s, u8 *out, u32 *len)
{
	size_t n = strlen(s), at = 0;
	u32 done = 0;

	if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
		at++;
		n--;
	}
	while (at < n) {
		if (s[at] == '\\' && n - at > 1 && (s[at + 1] == '\\' || s[at + 1] == '"')) {
			out[done++] = (u8)s[at + 1];
			at += 2;
		} else if (s[at] == '\\' && n - at > 3 && is_octal(s[at + 1]) && is_octal(s[at + 2]) &&
			   is_octal(s[at + 3])) {
			out[done++] =
				(u8)((s[at + 1] - '0') << 6 | (s[at + 2] - '0') << 3 | (s[at + 3] - '0'));
			at += 4;
		} else {
			out[done++] = (u8)s[at++];
		}
	}
	*len = done;
	return true;
}

/* out has room for strlen(s) bytes. */
static bool from_words(const char *s, u8 *out, u32 *len)
{
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		return from_hex(s + 2, out, len);
	if (s[0] == '0' && (s[1] == 's' || s[1] == 'S'))
		return from_base64(s + 2, out, len);
	return from_text(s, out, len);
}

/* Text in quotes; what is no text in hex. */
static void add_value(struct text *t, const u8 *p, u32 len)
{
	bool text = true;

	for (u32 i = 0; i < len; i++)
		text &= p[i] >= ' ' && p[i] < 0x7f;
	text_add(t, text ? "\"" : "0x");
	for (u32 i = 0; i < len; i++) {
		if (!text)
			text_add(t, "%02x", p[i]);
		else
			text_add(t, p[i] == '"' || p[i] == '\\' ? "\\%c" : "%c", p[i]);
	}
	if (text)
		text_add(t, "\"");
}

/* ---- setfattr ---- */

static void set_one(struct edit *e, const char *path)
{
	struct xattr *x = container_of(e, struct xattr, e);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = edit_find(e, path, !x->no_follow, &inode);

	if (!err)
		err = x->value ? vfs_setxattr(inode, x->name, x->value, x->len_bytes, 0)
			       : vfs_removexattr(inode, x->name);
	if (err == -ENODATA)
		err = fail(err, "it has no attribute %s", x->name);
	if (err)
		edit_failed(e, err, path);
}

/* -n sets, -x removes: one of the two. 0, or the exit code. */
static int set_words(struct xattr *x, const char *set, const char *removed, const char *value)
{
	x->name = set ? set : removed;
	if (!set == !removed)
		return cli_usage("%s", "-n NAME or -x NAME is wanted");
	if (removed)
		return value ? cli_usage("%s", "-x takes no value") : 0;
	x->value = malloc(value ? strlen(value) + 1 : 1);
	if (!x->value)
		return cli_fail("no memory for a value");
	if (value && !from_words(value, x->value, &x->len_bytes))
		return cli_usage("\"%s\" is no value: 0x is followed by pairs of digits, 0s by base64",
				 value);
	return 0;
}

int cmd_setfattr(int argc, char **argv)
{
	static const struct option options[] = { { "name", required_argument, NULL, 'n' },
						 { "value", required_argument, NULL, 'v' },
						 { "remove", required_argument, NULL, 'x' },
						 { "no-dereference", no_argument, NULL, 'h' },
						 EDIT_LONG };
	const char *set = NULL, *removed = NULL, *value = NULL;
	struct xattr x = { 0 };
	int opt, code;

	edit_init(&x.e, "set attribute of");
	while ((opt = getopt_long(argc, argv, "n:v:x:h" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'n')
			set = optarg;
		else if (opt == 'v')
			value = optarg;
		else if (opt == 'x')
			removed = optarg;
		else if (opt == 'h')
			x.no_follow = true;
		else if ((code = tool_option(&x.e.tool, opt, argv)))
			return code;
	}
	code = optind == argc ? cli_usage("%s", "a file is wanted: IMAGE:/PATH")
			      : set_words(&x, set, removed, value);
	if (!code)
		code = edit_run(&x.e, argv + optind, argc - optind, false, set_one);
	free(x.value);
	return code;
}

/* ---- getfattr ---- */

static int show_value(struct xattr *x, struct inode *inode, const char *name, u8 *buf, struct doc *d)
{
	u32 len = 0;
	int err = vfs_getxattr(inode, name, buf, VFS_XATTR_MAX, &len);

	if (err == -ENODATA)
		return fail(err, "it has no attribute %s", name);
	if (err)
		return err;
	if (d) {
		doc_bytes(d, name, buf, len);
		return 0;
	}
	text_add_name(&x->out, name, strlen(name));
	if (x->dump || !x->all) {
		text_add(&x->out, "=");
		add_value(&x->out, buf, len);
	}
	text_add(&x->out, "\n");
	return 0;
}

static int show_all(struct xattr *x, struct inode *inode, struct doc *d)
{
	scoped(freep) char *names = malloc(VFS_XATTR_MAX);
	scoped(freep) u8 *buf = malloc(VFS_XATTR_MAX);
	u32 len = 0;
	int err;

	if (!names || !buf)
		return fail(-ENOMEM, "no memory for attributes");
	if (!x->all)
		return show_value(x, inode, x->name, buf, d);
	err = vfs_listxattr(inode, names, VFS_XATTR_MAX, &len);
	for (const char *n = names; !err && n < names + len; n += strlen(n) + 1)
		if (!regexec(&x->pattern, n, 0, NULL, 0))
			err = show_value(x, inode, n, buf, d);
	return err;
}

/* "# file: PATH", the attributes, an empty line; nothing where there are none. */
static void get_one(struct edit *e, const char *path)
{
	struct xattr *x = container_of(e, struct xattr, e);
	scoped(vfs_iputp) struct inode *inode = NULL;
	struct doc *d = NULL;
	size_t head;
	int err = edit_find(e, path, !x->no_follow, &inode);

	if (x->files && !err) {
		struct doc *file = doc_object(x->files, NULL);

		doc_bytes(file, "path", path, strlen(path));
		d = doc_object(file, "attributes");
	}
	text_add(&x->out, "# file: ");
	text_add_name(&x->out, path, strlen(path));
	text_add(&x->out, "\n");
	head = x->out.len_bytes;
	if (!err)
		err = show_all(x, inode, d);
	if (x->out.len_bytes == head)
		text_reset(&x->out);
	else
		text_add(&x->out, "\n");
	if (!err && !x->files)
		err = put_text(&x->out);
	text_reset(&x->out);
	if (err)
		edit_failed(e, err, path);
}

static int get_run(struct xattr *x, char **operand, int count)
{
	int code, err = 0;

	if (x->e.tool.json) {
		x->doc = doc_new();
		x->files = x->doc ? doc_array(x->doc, "files") : NULL;
		if (!x->doc)
			return cli_fail("no memory for the output");
	}
	code = edit_run(&x->e, operand, count, true, get_one);
	if (x->doc)
		err = put_doc(x->doc, true);
	doc_free(x->doc);
	text_free(&x->out);
	return err ? cli_error(err, operand[0]) : code;
}

int cmd_getfattr(int argc, char **argv)
{
	static const struct option options[] = { { "dump", no_argument, NULL, 'd' },
						 { "name", required_argument, NULL, 'n' },
						 { "match", required_argument, NULL, 'm' },
						 { "no-dereference", no_argument, NULL, 'h' },
						 TOOL_LONG };
	const char *pattern = "^user\\.";
	struct xattr x = { .all = true };
	int opt, code;

	edit_init(&x.e, "get attributes of");
	while ((opt = getopt_long(argc, argv, "dn:m:h" TOOL_SHORT, options, NULL)) != -1) {
		if (opt == 'd')
			x.dump = true;
		else if (opt == 'n')
			x.name = optarg;
		else if (opt == 'm')
			pattern = strcmp(optarg, "-") != 0 ? optarg : "";
		else if (opt == 'h')
			x.no_follow = true;
		else if ((code = tool_option(&x.e.tool, opt, argv)))
			return code;
	}
	x.all = !x.name;
	if (optind == argc)
		return cli_usage("%s", "a file is wanted: IMAGE:/PATH");
	if (regcomp(&x.pattern, pattern, REG_EXTENDED | REG_NOSUB))
		return cli_usage("\"%s\" is no regular expression", pattern);
	code = get_run(&x, argv + optind, argc - optind);
	regfree(&x.pattern);
	return code;
}
