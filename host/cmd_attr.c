/*
 * werunos chmod, chown, touch, truncate, setfattr, getfattr: attributes of a volume's files. They do what the commands of these names do to a
 * mount. A symbolic link that an operand names is followed, within the volume; those met below a directory (-R) are not.
 */
#include "cmd.h"

#include "edit.h"
#include "lib/scope.h"
#include "mode.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- chmod ---- */

struct chmod {
	struct edit e;
	bool recursive;
	const char *words;
	u32 umask;
};

static int chmod_inode(struct chmod *c, struct inode *inode)
{
	struct iattr attr = { .valid = ATTR_MODE };

	if (!mode_change(c->words, inode->mode, is_dir(inode), c->umask, &attr.mode))
		return fail(-EINVAL, "\"%s\" is no mode", c->words);
	return vfs_setattr(inode, &attr);
}

static int chmod_enter(void *ctx, const struct visit *v)
{
	struct chmod *c = container_of((struct edit *)ctx, struct chmod, e);

	return is_symlink(v->inode) ? 0 : chmod_inode(c, v->inode);
}

static void chmod_one(struct edit *e, const char *path)
{
	struct chmod *c = container_of(e, struct chmod, e);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = edit_find(e, path, true, &inode);

	if (!err && c->recursive)
		edit_descend(e, &(struct visit){ .inode = inode }, path, chmod_enter, NULL);
	else if (!err)
		err = chmod_inode(c, inode);
	if (err)
		edit_failed(e, err, path);
}

int cmd_chmod(int argc, char **argv)
{
	static const struct option options[] = { { "recursive", no_argument, NULL, 'R' }, EDIT_LONG };
	struct chmod c = { .umask = edit_cred().umask };
	int opt, code;
	u32 mode;

	edit_init(&c.e, "change mode of");
	while ((opt = getopt_long(argc, argv, "+R" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'R')
			c.recursive = true;
		else if ((code = tool_option(&c.e.tool, opt, argv)))
			return code;
	}
	if (argc - optind < 2)
		return cli_usage("%s", "a mode and a file are wanted: MODE IMAGE:/PATH");
	c.words = argv[optind++];
	if (!mode_change(c.words, 0, false, 0, &mode))
		return cli_usage("\"%s\" is no mode", c.words);
	return edit_run(&c.e, argv + optind, argc - optind, false, chmod_one);
}

/* ---- chown ---- */

struct chown {
	struct edit e;
	bool recursive, no_follow;
	struct iattr attr;
};

static int chown_inode(const struct chown *c, struct inode *inode)
{
	struct iattr attr = c->attr;

	/* As chown(2), also for root. */
	if (is_reg(inode))
		attr.valid |= ATTR_KILL_PRIV;
	return vfs_setattr(inode, &attr);
}

static int chown_enter(void *ctx, const struct visit *v)
{
	return chown_inode(container_of((struct edit *)ctx, struct chown, e), v->inode);
}

static void chown_one(struct edit *e, const char *path)
{
	struct chown *c = container_of(e, struct chown, e);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = edit_find(e, path, !c->no_follow && !c->recursive, &inode);

	if (!err && c->recursive)
		edit_descend(e, &(struct visit){ .inode = inode }, path, chown_enter, NULL);
	else if (!err)
		err = chown_inode(c, inode);
	if (err)
		edit_failed(e, err, path);
}

/* USER, USER:GROUP, :GROUP, or USER: (with his own group). 0, or the exit code. */
static int owner_words(char *s, struct iattr *attr)
{
	char *colon = strchr(s, ':');
	u32 login = UINT32_MAX;

	if (colon)
		*colon++ = 0;
	if (*s && !tool_id(s, false, &attr->uid, &login))
		return cli_usage("there is no user \"%s\" on this machine: a number is taken as it is", s);
	attr->valid = *s ? ATTR_UID : 0;
	if (!colon || (!*colon && !*s))
		return 0;
	attr->gid = login;
	if (*colon && !tool_id(colon, true, &attr->gid, &login))
		return cli_usage("there is no group \"%s\" on this machine: a number is taken as it is",
				 colon);
	if (attr->gid == UINT32_MAX)
		return cli_usage("\"%s:\": the group of a number is not known", s);
	attr->valid |= ATTR_GID;
	return 0;
}

int cmd_chown(int argc, char **argv)
{
	static const struct option options[] = { { "recursive", no_argument, NULL, 'R' },
						 { "no-dereference", no_argument, NULL, 'h' },
						 EDIT_LONG };
	struct chown c = { 0 };
	int opt, code;

	edit_init(&c.e, "change owner of");
	while ((opt = getopt_long(argc, argv, "+Rh" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'R')
			c.recursive = true;
		else if (opt == 'h')
			c.no_follow = true;
		else if ((code = tool_option(&c.e.tool, opt, argv)))
			return code;
	}
	if (argc - optind < 2)
		return cli_usage("%s", "an owner and a file are wanted: UID:GID IMAGE:/PATH");
	code = owner_words(argv[optind++], &c.attr);
	return code ? code : edit_run(&c.e, argv + optind, argc - optind, false, chown_one);
}

/* ---- touch, truncate ---- */

struct touch {
	struct edit e;
	bool no_create;
	u32 times;      /* touch: ATTR_ATIME, ATTR_MTIME */
	char sign;      /* truncate: '+', '-', or 0 */
	u64 size_bytes; /* truncate */
};

/* The file, made when there is none. *out NULL: there is none, and is to be none. */
static int find_or_make(struct touch *t, const char *path, struct inode **out)
{
	const struct cred cred = edit_cred();
	struct file *f;
	int err = edit_find(&t->e, path, true, out);

	*out = err ? NULL : *out;
	if (err != -ENOENT)
		return err;
	if (t->no_create)
		return 0;
	err = vfs_open(t->e.v.sb, NULL, path, O_CREAT | O_WRONLY, 0666, &cred, &f);
	if (err)
		return err;
	*out = vfs_igrab(f->inode);
	vfs_close(f);
	return 0;
}

static void touch_one(struct edit *e, const char *path)
{
	struct touch *t = container_of(e, struct touch, e);
	struct iattr attr = { .valid = t->times, .atime = os_now() };
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = find_or_make(t, path, &inode);

	attr.mtime = attr.atime;
	if (!err && inode)
		err = vfs_setattr(inode, &attr);
	if (err)
		edit_failed(e, err, path);
}

int cmd_touch(int argc, char **argv)
{
	static const struct option options[] = { { "no-create", no_argument, NULL, 'c' }, EDIT_LONG };
	struct touch t = { 0 };
	int opt, code;

	edit_init(&t.e, "touch");
	while ((opt = getopt_long(argc, argv, "acm" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 'a' || opt == 'm')
			t.times |= opt == 'a' ? ATTR_ATIME : ATTR_MTIME;
		else if (opt == 'c')
			t.no_create = true;
		else if ((code = tool_option(&t.e.tool, opt, argv)))
			return code;
	}
	if (!t.times)
		t.times = ATTR_ATIME | ATTR_MTIME;
	if (optind == argc)
		return cli_usage("%s", "a file is wanted: IMAGE:/PATH");
	return edit_run(&t.e, argv + optind, argc - optind, false, touch_one);
}

static int truncate_size(const struct touch *t, u64 now, u64 *size)
{
	*size = t->size_bytes;
	if (t->sign == '+' && __builtin_add_overflow(now, t->size_bytes, size))
		return -EFBIG;
	if (t->sign == '-')
		*size = now - MIN(now, t->size_bytes);
	return 0;
}

static void truncate_one(struct edit *e, const char *path)
{
	struct touch *t = container_of(e, struct touch, e);
	scoped(vfs_iputp) struct inode *inode = NULL;
	int err = find_or_make(t, path, &inode);
	u64 size = 0;

	if (!err && inode)
		err = vfs_may_open(inode, O_WRONLY);
	if (!err && inode && !is_reg(inode))
		err = fail(-EINVAL, "it is no regular file");
	if (!err && inode)
		err = truncate_size(t, inode->size_bytes, &size);
	if (!err && inode)
		err = vfs_truncate(inode, size);
	if (err)
		edit_failed(e, err, path);
}

int cmd_truncate(int argc, char **argv)
{
	static const struct option options[] = { { "no-create", no_argument, NULL, 'c' },
						 { "size", required_argument, NULL, 's' },
						 EDIT_LONG };
	struct touch t = { 0 };
	const char *size = NULL;
	int opt, code;

	edit_init(&t.e, "truncate");
	while ((opt = getopt_long(argc, argv, "cs:" EDIT_SHORT, options, NULL)) != -1) {
		if (opt == 's')
			size = optarg;
		else if (opt == 'c')
			t.no_create = true;
		else if ((code = tool_option(&t.e.tool, opt, argv)))
			return code;
	}
	if (!size || optind == argc)
		return cli_usage("%s", "a size and a file are wanted: -s SIZE IMAGE:/PATH");
	if (*size == '+' || *size == '-')
		t.sign = *size;
	if (!size_parse(size + (t.sign != 0), &t.size_bytes))
		return cli_usage("\"%s\" is no size", size);
	return edit_run(&t.e, argv + optind, argc - optind, false, truncate_one);
}
