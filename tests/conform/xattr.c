/* Extended attributes: set, replace, list, sizes, and who may carry which. */
#include "conform/conform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names of a path, sorted and joined by spaces; those of other makers (security.selinux) left out. */
static void expect_list(struct t *t, const char *path, const char *want)
{
	char buf[65536], got[65536] = "";
	const char *names[256];
	u32 len, n = 0;

	OK(listxattr, path, buf, sizeof(buf), &len);
	for (u32 i = 0; i < len; i += (u32)strlen(buf + i) + 1)
		if (strncmp(buf + i, "security.selinux", 16))
			names[n++] = buf + i;
	for (u32 i = 0; i < n; i++)
		for (u32 k = i + 1; k < n; k++)
			if (strcmp(names[i], names[k]) > 0) {
				const char *swap = names[i];

				names[i] = names[k];
				names[k] = swap;
			}
	for (u32 i = 0; i < n; i++) {
		strcat(got, i ? " " : "");
		strcat(got, names[i]);
	}
	if (strcmp(got, want))
		FAIL("%s has \"%s\", expected \"%s\"", path, got, want);
}

static void create_and_replace(struct t *t)
{
	char buf[64];
	u32 len;

	TOUCH("f");
	ERR(-ENODATA, getxattr, "f", "user.a", buf, sizeof(buf), &len);
	ERR(-ENODATA, setxattr, "f", "user.a", "1", 1, XATTR_REPLACE);
	OK_OR_SKIP(setxattr, "f", "user.a", "one", 3, XATTR_CREATE);
	ERR(-EEXIST, setxattr, "f", "user.a", "two", 3, XATTR_CREATE);
	OK(setxattr, "f", "user.a", "three", 5, XATTR_REPLACE);
	OK(getxattr, "f", "user.a", buf, sizeof(buf), &len);
	EQ(5, len);
	TRUE(!memcmp(buf, "three", 5));
	OK(setxattr, "f", "user.a", "", 0, 0);
	OK(getxattr, "f", "user.a", buf, sizeof(buf), &len);
	EQ(0, len);
	OK(setxattr, "f", "user.b", "b", 1, 0);
	expect_list(t, "f", "user.a user.b");
	OK(removexattr, "f", "user.a");
	ERR(-ENODATA, removexattr, "f", "user.a");
	expect_list(t, "f", "user.b");
	OK(removexattr, "f", "user.b");
	expect_list(t, "f", "");
}

static void sizes(struct t *t)
{
	char buf[16];
	u32 len;

	TOUCH("f");
	OK_OR_SKIP(setxattr, "f", "user.name", "0123456789", 10, 0);
	OK(getxattr, "f", "user.name", NULL, 0, &len);
	EQ(10, len);
	ERR(-ERANGE, getxattr, "f", "user.name", buf, 9, &len);
	OK(getxattr, "f", "user.name", buf, 10, &len);
	OK(listxattr, "f", NULL, 0, &len);
	TRUE(len >= 10);
	ERR(-ERANGE, listxattr, "f", buf, 5, &len);
}

static void names(struct t *t)
{
	char name[300];
	char buf[8];
	u32 len;

	TOUCH("f");
	memset(name, 'n', sizeof(name));
	memcpy(name, "user.", 5);
	name[255] = 0;
	OK_OR_SKIP(setxattr, "f", name, "x", 1, 0);
	OK(getxattr, "f", name, buf, 8, &len);
	name[255] = 'n';
	name[256] = 0;
	ERR(-ERANGE, setxattr, "f", name, "x", 1, 0);
	ERR(-EOPNOTSUPP, setxattr, "f", "unknown.name", "x", 1, 0);
	ERR(-EOPNOTSUPP, getxattr, "f", "unknown.name", buf, 8, &len);
	ERR(-ENOENT, setxattr, "none", "user.a", "x", 1, 0);
}

static void values(struct t *t)
{
	static const u32 lengths[] = { 1, 3, 4, 60, 100, 255, 256, 1000, 2000 };
	u8 v[2100], buf[2000];
	u32 len, room, many;
	char name[32];

	TOUCH("f");
	/* Attributes of a file may have to fit into a block. */
	room = MIN(STAT("f").block_bytes, 4096u);
	many = room / 100 & ~1u;
	for (u32 i = 0; i < sizeof(v); i++)
		v[i] = t_byte(i);
	for (u32 i = 0; i < ARRAY_SIZE(lengths) && lengths[i] <= room / 2; i++) {
		OK_OR_SKIP(setxattr, "f", "user.grows", v, lengths[i], 0);
		OK(getxattr, "f", "user.grows", buf, sizeof(buf), &len);
		EQ(lengths[i], len);
		TRUE(!memcmp(v, buf, len));
	}
	for (u32 i = ARRAY_SIZE(lengths); i-- > 0;) {
		if (lengths[i] > room / 2)
			continue;
		OK(setxattr, "f", "user.grows", v + i, lengths[i], XATTR_REPLACE);
		OK(getxattr, "f", "user.grows", buf, sizeof(buf), &len);
		EQ(lengths[i], len);
		TRUE(!memcmp(v + i, buf, len));
	}
	OK(removexattr, "f", "user.grows");
	for (u32 i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.many%u", i);
		OK(setxattr, "f", name, v + i, i, 0);
	}
	for (u32 i = 0; i < many; i += 2) {
		snprintf(name, sizeof(name), "user.many%u", i);
		OK(removexattr, "f", name);
	}
	for (u32 i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.many%u", i);
		EQ((u32)(i % 2 ? 0 : -ENODATA), (u32)CALL(getxattr, "f", name, buf, sizeof(buf), &len));
		if (i % 2)
			TRUE(len == i && !memcmp(buf, v + i, i));
	}
	CALL(forget);
	snprintf(name, sizeof(name), "user.many%u", many - 1);
	OK(getxattr, "f", name, buf, sizeof(buf), &len);
	EQ(many - 1, len);
}

static void too_large(struct t *t)
{
	u8 *v = calloc(1, 70000);
	int err, err2;

	TOUCH("f");
	err = CALL(setxattr, "f", "user.big", v, 65537, 0);
	err2 = CALL(setxattr, "f", "user.big", v, 65536, 0);
	free(v);
	if (err == -EOPNOTSUPP)
		SKIP("no user attributes here");
	EQ((u32)-E2BIG, (u32)err);
	/* What the file system can hold is its own affair; it says so with one of these. */
	TRUE(!err2 || err2 == -ENOSPC || err2 == -E2BIG || err2 == -ERANGE);
	expect_list(t, "f", err2 ? "" : "user.big");
}

static void by_type(struct t *t)
{
	char buf[16];
	u32 len;

	OK(mkdir, "d", 0755);
	OK(symlink, "none", "l");
	OK(mknod, "p", S_IFIFO | 0644, 0, 0);
	OK_OR_SKIP(setxattr, "d", "user.a", "x", 1, 0);
	expect_list(t, "d", "user.a");
	ERR(-EPERM, setxattr, "l", "user.a", "x", 1, 0);
	ERR(-EPERM, setxattr, "p", "user.a", "x", 1, 0);
	ERR(-ENODATA, getxattr, "p", "user.a", buf, sizeof(buf), &len);
	if (t->fs->uid)
		SKIP("trusted attributes need root");
	OK(setxattr, "l", "trusted.a", "x", 1, 0);
	OK(setxattr, "p", "trusted.a", "x", 1, 0);
	OK(getxattr, "l", "trusted.a", buf, sizeof(buf), &len);
	expect_list(t, "l", "trusted.a");
	OK(setxattr, "d", "security.test", "x", 1, 0);
	expect_list(t, "d", "security.test user.a");
}

static void follow_the_file(struct t *t)
{
	char buf[16];
	u32 len;
	struct timespec before, after;

	TOUCH("f");
	before = STAT("f").ctime;
	usleep(before.tv_nsec ? 20000 : 1010000);
	OK_OR_SKIP(setxattr, "f", "user.a", "x", 1, 0);
	after = STAT("f").ctime;
	TRUE(after.tv_sec > before.tv_sec || after.tv_nsec > before.tv_nsec);
	OK(link, "f", "g");
	OK(rename, "f", "h", 0);
	OK(getxattr, "g", "user.a", buf, sizeof(buf), &len);
	OK(getxattr, "h", "user.a", buf, sizeof(buf), &len);
	OK(unlink, "h");
	OK(unlink, "g");
	TOUCH("f");
	expect_list(t, "f", "");
}

const struct conform_test conform_xattr[] = {
	{ "xattr: create and replace", create_and_replace },
	{ "xattr: ERANGE and sizes", sizes },
	{ "xattr: names", names },
	{ "xattr: values of every length, many of them", values },
	{ "xattr: too large", too_large },
	{ "xattr: by type of file", by_type },
	{ "xattr: belong to the inode", follow_the_file },
	{ NULL, NULL },
};
