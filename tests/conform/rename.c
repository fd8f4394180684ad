/* rename: every pair of types, the three flags, what moves along, and what must be refused. */
#include "conform/conform.h"

#include <string.h>

#define XCHG  RENAME_EXCHANGE
#define NOREP RENAME_NOREPLACE

/* Makes the same set of objects below a and b. */
static void make_set(struct t *t)
{
	static const char *const side[] = { "a", "b" };
	char p[32];

	for (int i = 0; i < 2; i++) {
#define IN(name) (strcpy(p, side[i]), strcat(p, "/" name), p)
		OK(mkdir, side[i], 0755);
		FILL(IN("file"), (u64)(100 + i));
		OK(mkdir, IN("dir"), 0755);
		OK(mkdir, IN("full"), 0755);
		TOUCH(IN("full/x"));
		OK(symlink, "target", IN("link"));
		OK(mknod, IN("fifo"), S_IFIFO | 0644, 0, 0);
#undef IN
	}
}

static const char *const kinds[] = { "file", "dir", "full", "link", "fifo" };

static int expected(const char *from, const char *to)
{
	bool from_dir = !strcmp(from, "dir") || !strcmp(from, "full");

	if (!strcmp(to, "full"))
		return from_dir ? -ENOTEMPTY : -EISDIR;
	if (!strcmp(to, "dir"))
		return from_dir ? 0 : -EISDIR;
	return from_dir ? -ENOTDIR : 0;
}

static void over_each_type(struct t *t)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(kinds); j++) {
			char from[32] = "a/", to[32] = "b/";
			struct fs_stat moved, other, st;
			int want = expected(kinds[i], kinds[j]);

			make_set(t);
			strcat(from, kinds[i]);
			strcat(to, kinds[j]);
			moved = STAT(from);
			other = STAT(to);
			EQ((u32)want, (u32)CALL(rename, from, to, 0));
			if (want) {
				EQ(moved.ino, STAT(from).ino);
				EQ(other.ino, STAT(to).ino);
			} else {
				ERR(-ENOENT, stat, from, false, &st);
				EQ(moved.ino, STAT(to).ino);
				EQ(moved.mode, STAT(to).mode);
				EQ(moved.size, STAT(to).size);
			}
			DO(fs_clear(t->fs, ""));
		}
	}
}

static void exchange(struct t *t)
{
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(kinds); j++) {
			char from[32] = "a/", to[32] = "b/";
			struct fs_stat x, y;

			make_set(t);
			strcat(from, kinds[i]);
			strcat(to, kinds[j]);
			x = STAT(from);
			y = STAT(to);
			OK_OR_SKIP(rename, from, to, XCHG);
			EQ(y.ino, STAT(from).ino);
			EQ(x.ino, STAT(to).ino);
			EQ(y.mode, STAT(from).mode);
			EQ(x.mode, STAT(to).mode);
			EQ(x.nlink, STAT(to).nlink);
			DO(fs_clear(t->fs, ""));
		}
	}
	TOUCH("f");
	ERR(-ENOENT, rename, "f", "none", XCHG);
	ERR(-ENOENT, rename, "none", "f", XCHG);
	ERR(-EINVAL, rename, "f", "f", XCHG | NOREP);
	OK(mkdir, "p", 0755);
	OK(mkdir, "p/q", 0755);
	ERR(-EINVAL, rename, "p", "p/q", XCHG);
	ERR(-EINVAL, rename, "p/q", "p", XCHG);
	OK(rename, "p/q", "f", XCHG);
	EQ(S_IFREG, STAT("p/q").mode & S_IFMT);
	EQ(2, STAT("p").nlink);
	EQ(2, STAT("f").nlink);
}

static void noreplace(struct t *t)
{
	TOUCH("f");
	TOUCH("g");
	OK(mkdir, "d", 0755);
	OK(symlink, "none", "l");
	OK_OR_SKIP(rename, "f", "f2", NOREP);
	ERR(-EEXIST, rename, "f2", "g", NOREP);
	ERR(-EEXIST, rename, "f2", "f2", NOREP);
	ERR(-EEXIST, rename, "f2", "d", NOREP);
	ERR(-EEXIST, rename, "f2", "l", NOREP);
	ERR(-EEXIST, rename, "d", "g", NOREP);
	OK(rename, "d", "e", NOREP);
	OK(rename, "l", "l2", NOREP);
	ERR(-ENOENT, rename, "none", "n2", NOREP);
	t_expect_names(t, "", "e f2 g l2");
}

static void whiteout(struct t *t)
{
	FILL("f", 10);
	TOUCH("g");
	OK(mkdir, "d", 0755);
	OK_OR_SKIP(rename, "f", "g", RENAME_WHITEOUT);
	EQ(S_IFCHR, STAT("f").mode & S_IFMT);
	EQ(0, STAT("f").rdev_major);
	EQ(0, STAT("f").rdev_minor);
	EQ(1, STAT("f").nlink);
	EQ(10, STAT("g").size);
	OK(rename, "g", "d/h", RENAME_WHITEOUT | NOREP);
	EQ(S_IFCHR, STAT("g").mode & S_IFMT);
	t_expect_names(t, "d", "h");
	OK(unlink, "f");
	OK(unlink, "g");
	ERR(-EINVAL, rename, "d", "f", RENAME_WHITEOUT | XCHG);
}

static void into_itself(struct t *t)
{
	OK(mkdir, "a", 0755);
	OK(mkdir, "a/b", 0755);
	OK(mkdir, "a/b/c", 0755);
	ERR(-EINVAL, rename, "a", "a/x", 0);
	ERR(-EINVAL, rename, "a", "a/b", 0);
	ERR(-EINVAL, rename, "a", "a/b/x", 0);
	ERR(-EINVAL, rename, "a", "a/b/c", 0);
	ERR(-EINVAL, rename, "a/b", "a/b/c/x", 0);
	ERR(-ENOTEMPTY, rename, "a/b/c", "a", 0);
	ERR(-ENOTEMPTY, rename, "a/b/c", "a/b", 0);
	OK(rename, "a/b", "a/b", 0);
	t_expect_names(t, "a/b", "c");
}

static void directory_moves(struct t *t)
{
	u64 inner;

	OK(mkdir, "a", 0755);
	OK(mkdir, "b", 0755);
	OK(mkdir, "a/d", 0755);
	OK(mkdir, "a/d/e", 0755);
	FILL("a/d/e/f", 5);
	inner = STAT("a/d").ino;
	EQ(3, STAT("a").nlink);
	OK(rename, "a/d", "b/d2", 0);
	EQ(2, STAT("a").nlink);
	EQ(3, STAT("b").nlink);
	EQ(inner, STAT("b/d2").ino);
	EQ(STAT("b").ino, STAT("b/d2/..").ino);
	t_expect_pattern(t, "b/d2/e/f", 0, 5);
	/* Over an empty directory, which goes. */
	OK(mkdir, "a/d", 0755);
	OK(rename, "b/d2", "a/d", 0);
	EQ(3, STAT("a").nlink);
	EQ(2, STAT("b").nlink);
	EQ(inner, STAT("a/d").ino);
	t_expect_names(t, "b", "");
}

static void same_file(struct t *t)
{
	FILL("a", 10);
	OK(link, "a", "b");
	/* Two names of one file: nothing happens. */
	OK(rename, "a", "b", 0);
	t_expect_names(t, "", "a b");
	EQ(2, STAT("a").nlink);
	OK(rename, "a", "a", 0);
	t_expect_pattern(t, "b", 0, 10);
}

static void over_open_file(struct t *t)
{
	struct fs_file *f;
	struct fs_stat st;
	u8 buf[20];
	u64 done;

	FILL("old", 20);
	FILL("new", 10);
	f = OPEN("old", O_RDWR, 0);
	OK(rename, "new", "old", 0);
	EQ(10, STAT("old").size);
	OK(fstat, f, &st);
	EQ(0, st.nlink);
	EQ(20, st.size);
	OK(pread, f, 0, buf, 20, &done);
	EQ(20, done);
	EQ(t_byte(19), buf[19]);
	OK(pwrite, f, 5, "hello", 5, &done);
	OK(pread, f, 5, buf, 5, &done);
	TRUE(!memcmp(buf, "hello", 5));
	t_expect_pattern(t, "old", 0, 10);
}

static void linked_victim(struct t *t)
{
	FILL("a", 10);
	FILL("b", 20);
	OK(link, "b", "c");
	OK(rename, "a", "b", 0);
	EQ(1, STAT("c").nlink);
	EQ(20, STAT("c").size);
	EQ(10, STAT("b").size);
}

static void back_and_forth(struct t *t)
{
	u64 ino;

	FILL("x", 3);
	ino = STAT("x").ino;
	for (int i = 0; i < 100; i++) {
		OK(rename, "x", "a rather long name which needs another place in its directory block", 0);
		OK(rename, "a rather long name which needs another place in its directory block", "x", 0);
	}
	EQ(ino, STAT("x").ino);
	t_expect_names(t, "", "x");
}

const struct conform_test conform_rename[] = {
	{ "rename: over each type", over_each_type },
	{ "rename: EXCHANGE", exchange },
	{ "rename: NOREPLACE", noreplace },
	{ "rename: WHITEOUT", whiteout },
	{ "rename: a directory into itself", into_itself },
	{ "rename: a directory moves", directory_moves },
	{ "rename: two names of one file", same_file },
	{ "rename: over an open file", over_open_file },
	{ "rename: over one of two links", linked_victim },
	{ "rename: many times", back_and_forth },
	{ NULL, NULL },
};
