/*
 * The conformance suite: what POSIX and Linux promise of a file system, written once against fsapi.
 *
 * A test is a function that works in an empty directory of its own, which is the root of every path it uses.
 * A check that fails prints file, line and what was expected, and ends the test. Files opened with OPEN are
 * closed and everything the test made is removed afterwards; the caller's ids are root's again.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include "support/fsapi.h"

#include <setjmp.h>

struct t {
	struct fs *fs;
	jmp_buf end;
	enum { T_PASSED, T_FAILED, T_SKIPPED } result;
	char why[512];
	struct fs_file open[64];
	u32 opens;
};

struct conform_test {
	const char *name;
	void (*fn)(struct t *t);
};

/* One array per source, ended by a NULL name. */
extern const struct conform_test conform_acl[], conform_data[], conform_dirs[], conform_falloc[],
	conform_limits[], conform_links[], conform_modes[], conform_names[], conform_rename[],
	conform_times[], conform_xattr[];

void t_end(struct t *t, int result, const char *file, int line, const char *fmt, ...) __printf_like(5, 6)
	__attribute__((noreturn));
void t_want(struct t *t, const char *file, int line, const char *expr, int want, int got);
void t_eq(struct t *t, const char *file, int line, const char *expr, u64 want, u64 got);
struct fs_file *t_open(struct t *t, const char *file, int line, const char *path, int flags, u32 mode);
struct fs_stat t_stat(struct t *t, const char *file, int line, const char *path);

/* CALL(op, arguments): the table's operation on the tree under test. */
#define CALL(op, ...) t->fs->ops->op(t->fs, ##__VA_ARGS__)
#define OK(op, ...)   t_want(t, __FILE__, __LINE__, #op "(" #__VA_ARGS__ ")", 0, CALL(op, ##__VA_ARGS__))
#define ERR(err, op, ...) \
	t_want(t, __FILE__, __LINE__, #op "(" #__VA_ARGS__ ")", err, CALL(op, ##__VA_ARGS__))
#define DO(expr)      t_want(t, __FILE__, __LINE__, #expr, 0, expr)
#define EQ(want, got) t_eq(t, __FILE__, __LINE__, #got, (u64)(want), (u64)(got))
#define TRUE(cond)                                                                     \
	do {                                                                           \
		if (!(cond))                                                           \
			t_end(t, T_FAILED, __FILE__, __LINE__, "not true: %s", #cond); \
	} while (0)
#define FAIL(...)               t_end(t, T_FAILED, __FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...)               t_end(t, T_SKIPPED, __FILE__, __LINE__, __VA_ARGS__)
#define OPEN(path, flags, mode) t_open(t, __FILE__, __LINE__, path, flags, mode)
#define STAT(path)              t_stat(t, __FILE__, __LINE__, path)
/* Creates an empty file, or one with n bytes of pattern. */
#define TOUCH(path)   DO(fs_put(t->fs, path, "", 0))
#define FILL(path, n) DO(t_fill(t, path, n))
/* -EOPNOTSUPP and the like end the test as skipped, since the call is optional. */
#define OK_OR_SKIP(op, ...) t_optional(t, __FILE__, __LINE__, #op, CALL(op, ##__VA_ARGS__))

void t_optional(struct t *t, const char *file, int line, const char *op, int err);
void t_close(struct t *t, struct fs_file *f);
/* The byte that stands at `off` of a file made by t_fill. */
u8 t_byte(u64 off);
int t_fill(struct t *t, const char *path, u64 n);
/* Fails unless [off, off + len) of the file reads as pattern (t_byte), or as zeros. */
void t_expect_pattern(struct t *t, const char *path, u64 off, u64 len);
void t_expect_zeros(struct t *t, const char *path, u64 off, u64 len);
void t_expect_content(struct t *t, const char *path, const char *text);
/* The directory holds these names and no other; a list of them with spaces between. */
void t_expect_names(struct t *t, const char *dir, const char *names);
/* The following calls are this user's, or the test is skipped. */
void t_as(struct t *t, u32 uid, u32 gid, u32 umask);

#endif
