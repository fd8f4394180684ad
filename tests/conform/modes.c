/* Modes and owners: what is stored, what is inherited, and which changes take set-id bits away. */
#include "conform/conform.h"

#include <string.h>

static void need_root(struct t *t)
{
	if (t->fs->uid)
		SKIP("changing owners needs root");
}

static void chmod_all(struct t *t)
{
	TOUCH("f");
	OK(mkdir, "d", 0755);
	for (u32 m = 0; m <= 07777; m += 13) {
		OK(chmod, "f", m);
		EQ(S_IFREG | m, STAT("f").mode);
		OK(chmod, "d", m);
		EQ(S_IFDIR | m, STAT("d").mode);
	}
	OK(chmod, "d", 0755);
}

static void at_creation(struct t *t)
{
	t_close(t, OPEN("f", O_CREAT | O_WRONLY, 06751));
	EQ(S_IFREG | 06751, STAT("f").mode);
	OK(mkdir, "d", 01777);
	EQ(S_IFDIR | 01777, STAT("d").mode);
	OK(mknod, "p", S_IFIFO | 0123, 0, 0);
	EQ(S_IFIFO | 0123, STAT("p").mode);
	t_as(t, t->fs->uid, t->fs->gid, 027);
	t_close(t, OPEN("g", O_CREAT | O_WRONLY, 0777));
	EQ(S_IFREG | 0750, STAT("g").mode);
	OK(mkdir, "e", 0777);
	EQ(S_IFDIR | 0750, STAT("e").mode);
	OK(symlink, "x", "l");
	EQ(S_IFLNK | 0777, STAT("l").mode);
}

static void owners(struct t *t)
{
	need_root(t);
	TOUCH("f");
	OK(symlink, "f", "l");
	OK(chown, "f", 1234, 5678);
	EQ(1234, STAT("f").uid);
	EQ(5678, STAT("f").gid);
	OK(chown, "f", ~0u, 99999);
	EQ(1234, STAT("f").uid);
	EQ(99999, STAT("f").gid);
	OK(chown, "f", 4000000000u, ~0u);
	EQ(4000000000u, STAT("f").uid);
	OK(chown, "l", 77, 88);
	EQ(77, STAT("l").uid);
	EQ(4000000000u, STAT("f").uid);
	OK(mkdir, "pub", 0777);
	t_as(t, 1000, 1001, 0);
	TOUCH("pub/f");
	OK(mkdir, "pub/d", 0755);
	t_as(t, 0, 0, 0);
	EQ(1000, STAT("pub/f").uid);
	EQ(1001, STAT("pub/f").gid);
	EQ(1000, STAT("pub/d").uid);
}

static void setgid_directory(struct t *t)
{
	need_root(t);
	OK(mkdir, "d", 0777);
	OK(chown, "d", 5, 4321);
	OK(chmod, "d", 02777);
	TOUCH("d/f");
	OK(mkdir, "d/sub", 0755);
	OK(symlink, "x", "d/l");
	OK(mknod, "d/p", S_IFIFO | 0644, 0, 0);
	EQ(4321, STAT("d/f").gid);
	EQ(S_IFREG | 0644, STAT("d/f").mode);
	EQ(4321, STAT("d/sub").gid);
	EQ(S_IFDIR | 02755, STAT("d/sub").mode);
	EQ(4321, STAT("d/l").gid);
	EQ(4321, STAT("d/p").gid);
	EQ(0, STAT("d/f").uid);
}

static void chown_clears(struct t *t)
{
	need_root(t);
	TOUCH("f");
	OK(chmod, "f", 06755);
	OK(chown, "f", 1, 1);
	EQ(0755, STAT("f").mode & 07777);
	/* Set-gid without group execution once meant locking: it stays. */
	OK(chmod, "f", 06745);
	OK(chown, "f", 2, 2);
	EQ(02745, STAT("f").mode & 07777);
	OK(mkdir, "d", 0755);
	OK(chmod, "d", 06755);
	OK(chown, "d", 1, 1);
	EQ(06755, STAT("d").mode & 07777);
}

static void write_clears(struct t *t)
{
	struct fs_file *f;
	u64 done;

	need_root(t);
	OK(mkdir, "pub", 0777);
	t_as(t, 1000, 1000, 0);
	FILL("pub/f", 100);
	OK(chmod, "pub/f", 06777);
	EQ(06777, STAT("pub/f").mode & 07777);
	f = OPEN("pub/f", O_RDWR, 0);
	OK(pwrite, f, 0, "x", 1, &done);
	EQ(0777, STAT("pub/f").mode & 07777);
	OK(chmod, "pub/f", 06777);
	OK(ftruncate, f, 50);
	EQ(0777, STAT("pub/f").mode & 07777);
	/* Not when root writes. */
	t_as(t, 0, 0, 0);
	OK(chmod, "pub/f", 06777);
	f = OPEN("pub/f", O_RDWR, 0);
	OK(pwrite, f, 0, "x", 1, &done);
	EQ(06777, STAT("pub/f").mode & 07777);
}

static void copy_clears(struct t *t)
{
	struct fs_file *from, *to;
	u64 done;

	need_root(t);
	FILL("from", 100);
	TOUCH("to");
	OK(chown, "to", 1000, 1000);
	OK(chmod, "to", 06777);
	from = OPEN("from", O_RDONLY, 0);
	to = OPEN("to", O_RDWR, 0);
	t_as(t, 1000, 1000, 0);
	OK_OR_SKIP(copy_range, from, 0, to, 0, 50, &done);
	EQ(0777, STAT("to").mode & 07777);
	OK(chmod, "to", 06777);
	OK_OR_SKIP(fallocate, to, FALLOC_FL_KEEP_SIZE, 0, 5000);
	EQ(0777, STAT("to").mode & 07777);
}

static void write_clears_capability(struct t *t)
{
	/* cap_net_raw, effective and permitted, in the form of linux/capability.h, revision 2 */
	static const u8 cap[20] = { 1, 0, 0, 2, 0, 0x20 };
	struct fs_file *f;
	u8 buf[32];
	u64 done;
	u32 len;

	need_root(t);
	TOUCH("f");
	OK_OR_SKIP(setxattr, "f", "security.capability", cap, sizeof(cap), 0);
	OK(getxattr, "f", "security.capability", buf, sizeof(buf), &len);
	EQ(20, len);
	OK(chown, "f", 1000, 1000);
	ERR(-ENODATA, getxattr, "f", "security.capability", buf, sizeof(buf), &len);
	OK(setxattr, "f", "security.capability", cap, sizeof(cap), 0);
	t_as(t, 1000, 1000, 0);
	f = OPEN("f", O_WRONLY, 0);
	OK(pwrite, f, 0, "x", 1, &done);
	t_as(t, 0, 0, 0);
	ERR(-ENODATA, getxattr, "f", "security.capability", buf, sizeof(buf), &len);
}

static void devices(struct t *t)
{
	static const u32 rdev[][2] = {
		{ 1, 3 }, { 8, 255 }, { 255, 256 }, { 259, 70000 }, { 4095, 1048575 }
	};

	need_root(t);
	for (u32 i = 0; i < ARRAY_SIZE(rdev); i++) {
		int err = CALL(mknod, "c", S_IFCHR | 0600, rdev[i][0], rdev[i][1]);

		if (err == -EPERM)
			SKIP("no device nodes here");
		DO(err);
		OK(mknod, "b", S_IFBLK | 0600, rdev[i][0], rdev[i][1]);
		CALL(forget);
		EQ(S_IFCHR | 0600, STAT("c").mode);
		EQ(rdev[i][0], STAT("c").rdev_major);
		EQ(rdev[i][1], STAT("c").rdev_minor);
		EQ(S_IFBLK | 0600, STAT("b").mode);
		EQ(rdev[i][0], STAT("b").rdev_major);
		EQ(rdev[i][1], STAT("b").rdev_minor);
		OK(unlink, "c");
		OK(unlink, "b");
	}
	TOUCH("f");
	EQ(0, STAT("f").rdev_major);
}

/* Only where the kernel stands in front: in process the caller has every right. */
static void permissions(struct t *t)
{
	struct fs_file f;

	need_root(t);
	if (strcmp(t->fs->ops->kind, "dir"))
		return;
	OK(mkdir, "d", 0755);
	TOUCH("d/f");
	OK(chmod, "d/f", 0640);
	OK(mkdir, "sticky", 01777);
	TOUCH("sticky/f");
	t_as(t, 1000, 1000, 0);
	ERR(-EACCES, open, "d/f", O_RDONLY, 0, &f);
	ERR(-EACCES, mkdir, "d/x", 0755);
	ERR(-EPERM, chmod, "d/f", 0777);
	ERR(-EPERM, chown, "d/f", 1000, 1000);
	ERR(-EPERM, unlink, "sticky/f");
	ERR(-EACCES, unlink, "d/f");
	t_as(t, 1000, 0, 0);
	t_close(t, OPEN("d/f", O_RDONLY, 0));
	ERR(-EACCES, open, "d/f", O_WRONLY, 0, &f);
}

const struct conform_test conform_modes[] = {
	{ "modes: chmod", chmod_all },
	{ "modes: at creation, and umask", at_creation },
	{ "modes: owners", owners },
	{ "modes: set-gid directories", setgid_directory },
	{ "modes: chown clears set-id", chown_clears },
	{ "modes: writing and truncating clear set-id", write_clears },
	{ "modes: copying and allocating clear set-id", copy_clears },
	{ "modes: writing clears capabilities", write_clears_capability },
	{ "modes: device numbers", devices },
	{ "modes: permissions", permissions },
	{ NULL, NULL },
};
