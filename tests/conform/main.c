/*
 * conform TREE [PATTERN]: runs the suite on a tree of files and reports one line per test.
 *
 * TREE is "vfs:TYPE" (a fresh volume in this process), "vfs:TYPE:IMAGE" or "dir:PATH" (see support/fsapi.h);
 * PATTERN selects tests by name (shell wildcards). `conform --faults` lists the faults that FS_FAULT can plant.
 */
#include "conform/conform.h"

#include "lib/err.h"
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORK "conform.d"

void t_end(struct t *t, int result, const char *file, int line, const char *fmt, ...)
{
	va_list ap;
	int n = 0;

	t->result = result;
	if (result == T_FAILED)
		n = snprintf(t->why, sizeof(t->why), "%s:%d: ", file, line);
	va_start(ap, fmt);
	vsnprintf(t->why + n, sizeof(t->why) - (size_t)n, fmt, ap);
	va_end(ap);
	longjmp(t->end, 1);
}

void t_want(struct t *t, const char *file, int line, const char *expr, int want, int got)
{
	if (want != got)
		t_end(t, T_FAILED, file, line, "%s is %s, expected %s", expr, got ? err_name(got) : "0",
		      want ? err_name(want) : "0");
}

void t_eq(struct t *t, const char *file, int line, const char *expr, u64 want, u64 got)
{
	if (want != got)
		t_end(t, T_FAILED, file, line, "%s is %llu (%#llx), expected %llu (%#llx)", expr,
		      (unsigned long long)got, (unsigned long long)got, (unsigned long long)want,
		      (unsigned long long)want);
}

void t_optional(struct t *t, const char *file, int line, const char *op, int err)
{
	if (err == -EOPNOTSUPP || err == -ENOSYS || err == -ENOTTY)
		t_end(t, T_SKIPPED, file, line, "%s is not supported here", op);
	t_want(t, file, line, op, 0, err);
}

struct fs_file *t_open(struct t *t, const char *file, int line, const char *path, int flags, u32 mode)
{
	struct fs_file *f = &t->open[t->opens];

	if (t->opens == ARRAY_SIZE(t->open))
		t_end(t, T_FAILED, file, line, "too many open files for a test");
	t_want(t, file, line, "open", 0, fs_open(t->fs, path, flags, mode, f));
	t->opens++;
	return f;
}

void t_close(struct t *t, struct fs_file *f)
{
	fs_close(t->fs, f);
	f->flags = -1;
}

struct fs_stat t_stat(struct t *t, const char *file, int line, const char *path)
{
	struct fs_stat st;

	t_want(t, file, line, path, 0, t->fs->ops->stat(t->fs, path, false, &st));
	return st;
}

u8 t_byte(u64 off)
{
	return (u8)(1 + (off * 2654435761u >> 13) % 255);
}

int t_fill(struct t *t, const char *path, u64 n)
{
	u8 *buf = malloc(n + 1);
	int err;

	for (u64 i = 0; i < n; i++)
		buf[i] = t_byte(i);
	err = fs_put(t->fs, path, buf, n);
	free(buf);
	return err;
}

static void expect(struct t *t, const char *path, u64 off, u64 len, bool pattern)
{
	static u8 buf[1 << 16];
	struct fs_file *f = OPEN(path, O_RDONLY, 0);

	while (len) {
		u64 n = MIN(len, sizeof(buf)), done;

		DO(fs_read_all(t->fs, f, off, buf, n, &done));
		if (done != n)
			FAIL("%s ends at %llu", path, (unsigned long long)(off + done));
		for (u64 i = 0; i < n; i++)
			if (buf[i] != (pattern ? t_byte(off + i) : 0))
				FAIL("%s: byte %llu is %#x, expected %#x", path,
				     (unsigned long long)(off + i), buf[i], pattern ? t_byte(off + i) : 0);
		off += n;
		len -= n;
	}
	t_close(t, f);
	t->opens--;
}

void t_expect_pattern(struct t *t, const char *path, u64 off, u64 len)
{
	expect(t, path, off, len, true);
}

void t_expect_zeros(struct t *t, const char *path, u64 off, u64 len)
{
	expect(t, path, off, len, false);
}

void t_expect_content(struct t *t, const char *path, const char *text)
{
	char buf[4096];
	struct fs_file *f = OPEN(path, O_RDONLY, 0);
	u64 done;

	DO(fs_read_all(t->fs, f, 0, buf, sizeof(buf) - 1, &done));
	buf[done] = 0;
	if (strcmp(buf, text))
		FAIL("%s holds \"%s\", expected \"%s\"", path, buf, text);
	t_close(t, f);
	t->opens--;
}

void t_expect_names(struct t *t, const char *dir, const char *names)
{
	struct fs_dirent *list;
	char got[4096] = "";
	u32 n;

	DO(fs_list(t->fs, dir, &list, &n));
	for (u32 i = 0; i < n; i++) {
		if (i)
			strncat(got, " ", sizeof(got) - strlen(got) - 1);
		strncat(got, list[i].name, sizeof(got) - strlen(got) - 1);
	}
	free(list);
	if (strcmp(got, names))
		FAIL("\"%s\" holds \"%s\", expected \"%s\"", dir, got, names);
}

void t_as(struct t *t, u32 uid, u32 gid, u32 umask)
{
	int err = CALL(as, uid, gid, umask);

	if (err)
		SKIP("acting as another user needs root");
}

static int run(struct fs *fs, const struct conform_test *test)
{
	static struct t t;
	int err;

	t = (struct t){ .fs = fs };
	err = fs->ops->mkdir(fs, WORK, 0777);
	if (!err)
		err = fs->ops->enter(fs, WORK);
	if (err) {
		printf("# cannot make a working directory: %s\nnot ok - %s\n", strerror(-err), test->name);
		return T_FAILED;
	}
	if (!setjmp(t.end))
		test->fn(&t);
	fs->ops->as(fs, fs->uid, fs->gid, 0);
	for (u32 i = 0; i < t.opens; i++)
		if (t.open[i].flags != -1)
			fs_close(fs, &t.open[i]);
	err = fs_clear(fs, "");
	if (!err)
		err = fs->ops->enter(fs, NULL);
	if (!err)
		err = fs->ops->rmdir(fs, WORK);
	if (err && t.result != T_FAILED) {
		t.result = T_FAILED;
		snprintf(t.why, sizeof(t.why), "cannot be cleaned up: %s", err_name(err));
	}
	if (t.result == T_FAILED)
		printf("# %s\nnot ok - %s\n", t.why, test->name);
	else if (t.result == T_SKIPPED)
		printf("ok - %s # SKIP %s\n", test->name, t.why);
	else
		printf("ok - %s\n", test->name);
	fflush(stdout);
	return t.result;
}

int main(int argc, char **argv)
{
	static const struct conform_test *const rooms[] = { conform_names, conform_dirs,   conform_rename,
							    conform_links, conform_data,   conform_falloc,
							    conform_xattr, conform_acl,    conform_times,
							    conform_modes, conform_limits, NULL };
	u32 failed = 0;
	struct fs *fs;

	if (argc == 2 && !strcmp(argv[1], "--faults")) {
		for (const char *const *f = fs_faults(); *f; f++)
			puts(*f);
		return 0;
	}
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: conform vfs:TYPE[:IMAGE]|dir:PATH [PATTERN]\n");
		return 64;
	}
	signal(SIGXFSZ, SIG_IGN);
	fs = fs_by_name(argv[1]);
	if (!fs || fs_plant_env_fault(fs))
		return 1;
	for (u32 r = 0; rooms[r]; r++)
		for (const struct conform_test *test = rooms[r]; test->name; test++)
			if (argc < 3 || !fnmatch(argv[2], test->name, 0))
				failed += run(fs, test) == T_FAILED;
	fs_free(fs);
	return failed ? 1 : 0;
}
