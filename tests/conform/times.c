/* Times: set exactly, and moved by exactly the operations that should move them. */
#include "conform/conform.h"

#include <stdlib.h>
#include <string.h>

static const struct timespec old[2] = { { 1000000000, 111111111 }, { 1100000000, 222222222 } };

static bool same(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Old volumes keep whole seconds of 32 bits. */
static bool whole_seconds(struct t *t)
{
	const struct timespec v[2] = { { 1, 1 }, { 1, 1 } };
	struct timespec got;

	TOUCH("probe");
	OK(utimens, "probe", v);
	got = STAT("probe").mtime;
	OK(unlink, "probe");
	return !got.tv_nsec;
}

/* The time as it is kept. */
static struct timespec kept(bool whole, struct timespec v)
{
	return whole ? (struct timespec){ MIN(v.tv_sec, (s64)INT32_MAX), 0 } : v;
}

static void exact(struct t *t)
{
	bool whole = whole_seconds(t);
	static const s64 sec[] = { 0, 1, 1234567890, 0x7fffffff, 0x80000000ll, 0x100000000ll, 0x17fffffffll };
	static const long nsec[] = { 0, 1, 999999999, 123456789 };
	struct timespec v[2];
	struct fs_stat st;

	TOUCH("f");
	for (u32 i = 0; i < ARRAY_SIZE(sec); i++) {
		for (u32 k = 0; k < ARRAY_SIZE(nsec); k++) {
			v[0] = (struct timespec){ sec[i], nsec[k] };
			v[1] = (struct timespec){ sec[(i + 1) % 7], nsec[(k + 1) % 4] };
			OK(utimens, "f", v);
			st = STAT("f");
			EQ(kept(whole, v[0]).tv_sec, st.atime.tv_sec);
			EQ(kept(whole, v[0]).tv_nsec, st.atime.tv_nsec);
			EQ(kept(whole, v[1]).tv_sec, st.mtime.tv_sec);
			EQ(kept(whole, v[1]).tv_nsec, st.mtime.tv_nsec);
		}
	}
	v[0] = v[1] = (struct timespec){ -1, 500000000 };
	OK(utimens, "f", v);
	TRUE(same(kept(whole, v[0]), STAT("f").mtime));
	v[0] = v[1] = (struct timespec){ -2147483647ll, 7 };
	OK(utimens, "f", v);
	TRUE(same(kept(whole, v[0]), STAT("f").atime));
	v[0].tv_nsec = 1000000000;
	ERR(-EINVAL, utimens, "f", v);
	CALL(forget);
	TRUE(same(kept(whole, v[1]), STAT("f").mtime));
}

static void now_and_omit(struct t *t)
{
	struct timespec v[2] = { { 0, UTIME_OMIT }, { 5, 5 } };
	bool whole = whole_seconds(t);
	struct fs_stat st;

	TOUCH("f");
	OK(utimens, "f", old);
	OK(utimens, "f", v);
	st = STAT("f");
	TRUE(same(st.atime, kept(whole, old[0])));
	EQ(5, st.mtime.tv_sec);
	v[0].tv_nsec = UTIME_NOW;
	v[1].tv_nsec = UTIME_OMIT;
	OK(utimens, "f", v);
	st = STAT("f");
	TRUE(st.atime.tv_sec > 1700000000);
	EQ(5, st.mtime.tv_sec);
	OK(symlink, "f", "l");
	OK(utimens, "l", old);
	TRUE(same(STAT("l").mtime, kept(whole, old[1])));
	EQ(5, STAT("f").mtime.tv_sec);
	OK(mkdir, "d", 0755);
	OK(utimens, "d", old);
	TRUE(same(STAT("d").mtime, kept(whole, old[1])));
}

/* Which of the times of `path` move when the operation runs: bit 0 mtime, bit 1 ctime. */
static struct fs_stat before;

static void set_old(struct t *t, const char *path)
{
	OK(utimens, path, old);
	before = STAT(path);
	/* Longer than the kernel's clock tick, or than the grain of the times. */
	usleep(before.ctime.tv_nsec ? 12000 : 1010000);
}

static u32 moved(struct t *t, const char *path)
{
	struct fs_stat st = STAT(path);

	return (same(st.mtime, before.mtime) ? 0 : 1) | (same(st.ctime, before.ctime) ? 0 : 2);
}

#define MTIME 1
#define CTIME 2
#define BOTH  3
#define MOVES(which, path, ...)            \
	do {                               \
		set_old(t, path);          \
		OK(__VA_ARGS__);           \
		EQ(which, moved(t, path)); \
	} while (0)

static void of_files(struct t *t)
{
	struct fs_file *f = OPEN("f", O_CREAT | O_RDWR, 0644);
	u64 done;
	u8 buf[8];

	MOVES(BOTH, "f", pwrite, f, 0, "data", 4, &done);
	MOVES(0, "f", pread, f, 0, buf, 4, &done);
	MOVES(BOTH, "f", ftruncate, f, 2);
	MOVES(BOTH, "f", ftruncate, f, 2);
	MOVES(BOTH, "f", ftruncate, f, 100);
	MOVES(CTIME, "f", chmod, "f", 0600);
	MOVES(CTIME, "f", chown, "f", t->fs->uid, t->fs->gid);
	MOVES(CTIME, "f", link, "f", "g");
	MOVES(CTIME, "f", rename, "g", "h", 0);
	MOVES(CTIME, "f", unlink, "h");
	MOVES(CTIME, "f", utimens, "f", old);
	set_old(t, "f");
	t_close(t, OPEN("f", O_WRONLY | O_TRUNC, 0));
	EQ(BOTH, moved(t, "f"));
	set_old(t, "f");
	t_close(t, OPEN("f", O_RDWR | O_CREAT, 0644));
	EQ(0, moved(t, "f"));
}

static void of_directories(struct t *t)
{
	OK(mkdir, "d", 0755);
	OK(mkdir, "e", 0755);
	TOUCH("f");
	MOVES(BOTH, "d", mkdir, "d/sub", 0755);
	MOVES(BOTH, "d", mknod, "d/n", S_IFREG | 0644, 0, 0);
	MOVES(BOTH, "d", symlink, "x", "d/l");
	MOVES(BOTH, "d", link, "f", "d/f");
	MOVES(BOTH, "d", rename, "d/f", "d/g", 0);
	MOVES(BOTH, "d", rename, "d/g", "e/g", 0);
	MOVES(BOTH, "d", rename, "e/g", "d/g", 0);
	MOVES(BOTH, "e", rename, "d/g", "e/h", 0);
	MOVES(BOTH, "d", unlink, "d/n");
	MOVES(BOTH, "d", rmdir, "d/sub");
	MOVES(CTIME, "d", chmod, "d", 0700);
	set_old(t, "d");
	ERR(-EEXIST, mkdir, "d/l", 0755);
	ERR(-ENOENT, unlink, "d/none");
	EQ(0, moved(t, "d"));
}

static void of_new_files(struct t *t)
{
	struct timespec now;
	struct fs_stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	OK(mknod, "p", S_IFIFO | 0644, 0, 0);
	st = STAT("p");
	TRUE(llabs((s64)st.mtime.tv_sec - now.tv_sec) <= 2);
	TRUE(same(st.mtime, st.ctime) && same(st.mtime, st.atime));
}

const struct conform_test conform_times[] = {
	{ "times: exact to the nanosecond, 1901 to 2174", exact },
	{ "times: UTIME_NOW, UTIME_OMIT, symlinks, directories", now_and_omit },
	{ "times: moved by operations on files", of_files },
	{ "times: moved by operations in directories", of_directories },
	{ "times: of new files", of_new_files },
	{ NULL, NULL },
};
