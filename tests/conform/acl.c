/* POSIX ACLs: their form, what they do to the mode, and how they are inherited (acl(5)). */
#include "conform/conform.h"

#include <linux/posix_acl_xattr.h>
#include <string.h>

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

struct entry {
	u16 tag, perm;
	u32 id;
};
#define NOBODY 0xffffffffu
enum { UOBJ = 1, USER = 2, GOBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

static u32 acl_bytes(const struct entry *e, u32 n, u8 *out)
{
	u32 version = 2;

	memcpy(out, &version, 4);
	memcpy(out + 4, e, n * sizeof(*e));
	return 4 + n * (u32)sizeof(*e);
}

static int set(struct t *t, const char *path, const char *which, const struct entry *e, u32 n)
{
	u8 buf[512];
	u32 len = acl_bytes(e, n, buf);

	return CALL(setxattr, path, which, buf, len, 0);
}

static void expect(struct t *t, const char *path, const char *which, const struct entry *e, u32 n)
{
	u8 want[512], got[512];
	u32 len = acl_bytes(e, n, want), got_len;

	OK(getxattr, path, which, got, sizeof(got), &got_len);
	EQ(len, got_len);
	for (u32 i = 0; i < n; i++) {
		const struct entry *g = (const struct entry *)(got + 4) + i;

		EQ(e[i].tag, g->tag);
		EQ(e[i].perm, g->perm);
		EQ(e[i].id, g->id);
	}
}

static void need_acl(struct t *t)
{
	static const struct entry e[] = { { UOBJ, 6, NOBODY }, { GOBJ, 4, NOBODY }, { OTHER, 4, NOBODY } };

	TOUCH("probe");
	if (set(t, "probe", ACCESS, e, 3) == -EOPNOTSUPP)
		SKIP("no ACLs here");
	OK(unlink, "probe");
}

static const struct entry full[] = { { UOBJ, 7, NOBODY }, { USER, 6, 1234 },   { GOBJ, 5, NOBODY },
				     { GROUP, 4, 5678 },  { MASK, 6, NOBODY }, { OTHER, 1, NOBODY } };

static void access_acl(struct t *t)
{
	char list[256];
	u32 len;

	need_acl(t);
	TOUCH("f");
	DO(set(t, "f", ACCESS, full, 6));
	expect(t, "f", ACCESS, full, 6);
	/* The group bits of the mode are the mask. */
	EQ(S_IFREG | 0761, STAT("f").mode);
	OK(listxattr, "f", list, sizeof(list), &len);
	EQ(strlen(ACCESS) + 1, len);
	TRUE(!strcmp(list, ACCESS));
	CALL(forget);
	expect(t, "f", ACCESS, full, 6);
	OK(removexattr, "f", ACCESS);
	OK(listxattr, "f", list, sizeof(list), &len);
	EQ(0, len);
}

static void chmod_changes_mask(struct t *t)
{
	struct entry e[6];

	need_acl(t);
	TOUCH("f");
	DO(set(t, "f", ACCESS, full, 6));
	OK(chmod, "f", 0640);
	memcpy(e, full, sizeof(e));
	e[0].perm = 6;
	e[4].perm = 4;
	e[5].perm = 0;
	expect(t, "f", ACCESS, e, 6);
	EQ(0640, STAT("f").mode & 07777);
}

static void what_mode_can_say(struct t *t)
{
	static const struct entry e[] = { { UOBJ, 7, NOBODY }, { GOBJ, 4, NOBODY }, { OTHER, 0, NOBODY } };
	u8 buf[64];
	u32 len;

	need_acl(t);
	TOUCH("f");
	DO(set(t, "f", ACCESS, e, 3));
	EQ(0740, STAT("f").mode & 07777);
	ERR(-ENODATA, getxattr, "f", ACCESS, buf, sizeof(buf), &len);
}

static void inherited(struct t *t)
{
	static const struct entry e[] = { { UOBJ, 7, NOBODY },
					  { USER, 7, 1234 },
					  { GOBJ, 5, NOBODY },
					  { MASK, 7, NOBODY },
					  { OTHER, 5, NOBODY } };
	struct entry want[5];
	u8 buf[64];
	u32 len;

	need_acl(t);
	OK(mkdir, "d", 0777);
	DO(set(t, "d", DEFAULT, e, 5));
	EQ(0777, STAT("d").mode & 07777);
	/* The umask does not count where there is a default ACL. */
	t_as(t, t->fs->uid, t->fs->gid, 077);
	OK(mkdir, "d/sub", 0775);
	t_close(t, OPEN("d/f", O_CREAT | O_WRONLY, 0640));
	OK(mknod, "d/p", S_IFIFO | 0666, 0, 0);
	OK(symlink, "x", "d/l");
	t_as(t, t->fs->uid, t->fs->gid, 0);
	expect(t, "d/sub", DEFAULT, e, 5);
	memcpy(want, e, sizeof(e));
	want[3].perm = 7;
	want[4].perm = 5;
	expect(t, "d/sub", ACCESS, want, 5);
	EQ(0775, STAT("d/sub").mode & 07777);
	want[0].perm = 6;
	want[3].perm = 4;
	want[4].perm = 0;
	expect(t, "d/f", ACCESS, want, 5);
	EQ(0640, STAT("d/f").mode & 07777);
	want[3].perm = 6;
	want[4].perm = 4;
	expect(t, "d/p", ACCESS, want, 5);
	ERR(-EOPNOTSUPP, getxattr, "d/l", ACCESS, buf, sizeof(buf), &len);
	ERR(-ENODATA, getxattr, "d/f", DEFAULT, buf, sizeof(buf), &len);
	OK(mkdir, "d/sub/sub", 0700);
	expect(t, "d/sub/sub", DEFAULT, e, 5);
}

static void inherited_as_mode(struct t *t)
{
	static const struct entry e[] = { { UOBJ, 7, NOBODY }, { GOBJ, 5, NOBODY }, { OTHER, 0, NOBODY } };
	u8 buf[64];
	u32 len;

	need_acl(t);
	OK(mkdir, "d", 0777);
	DO(set(t, "d", DEFAULT, e, 3));
	t_close(t, OPEN("d/f", O_CREAT | O_WRONLY, 0666));
	EQ(0640, STAT("d/f").mode & 07777);
	ERR(-ENODATA, getxattr, "d/f", ACCESS, buf, sizeof(buf), &len);
	OK(removexattr, "d", DEFAULT);
	ERR(-ENODATA, getxattr, "d", DEFAULT, buf, sizeof(buf), &len);
	t_close(t, OPEN("d/g", O_CREAT | O_WRONLY, 0666));
	EQ(0666, STAT("d/g").mode & 07777);
}

static void refused(struct t *t)
{
	static const struct entry no_mask[] = {
		{ UOBJ, 7, NOBODY }, { USER, 7, 1 }, { GOBJ, 5, NOBODY }, { OTHER, 5, NOBODY }
	};
	static const struct entry twice[] = {
		{ UOBJ, 7, NOBODY }, { USER, 7, 1 },      { USER, 5, 1 },
		{ GOBJ, 5, NOBODY }, { MASK, 5, NOBODY }, { OTHER, 5, NOBODY }
	};
	static const struct entry unordered[] = { { OTHER, 5, NOBODY },
						  { GOBJ, 5, NOBODY },
						  { UOBJ, 7, NOBODY } };
	static const struct entry bad_perm[] = { { UOBJ, 15, NOBODY },
						 { GOBJ, 5, NOBODY },
						 { OTHER, 5, NOBODY } };
	static const struct entry no_other[] = { { UOBJ, 7, NOBODY }, { GOBJ, 5, NOBODY } };

	need_acl(t);
	TOUCH("f");
	EQ((u32)-EINVAL, (u32)set(t, "f", ACCESS, no_mask, 4));
	EQ((u32)-EINVAL, (u32)set(t, "f", ACCESS, unordered, 3));
	EQ((u32)-EINVAL, (u32)set(t, "f", ACCESS, bad_perm, 3));
	EQ((u32)-EINVAL, (u32)set(t, "f", ACCESS, no_other, 2));
	ERR(-EINVAL, setxattr, "f", ACCESS, "abc", 3, 0);
	EQ((u32)-EACCES, (u32)set(t, "f", DEFAULT, full, 6));
	(void)twice; /* the kernel accepts the same user twice */
	EQ(0644, STAT("f").mode & 07777);
}

const struct conform_test conform_acl[] = {
	{ "acl: access ACL and mode", access_acl },
	{ "acl: chmod changes the mask", chmod_changes_mask },
	{ "acl: what the mode can say is the mode", what_mode_can_say },
	{ "acl: inherited", inherited },
	{ "acl: inherited as plain mode", inherited_as_mode },
	{ "acl: refused", refused },
	{ NULL, NULL },
};
