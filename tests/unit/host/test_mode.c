/* chmod's words against what GNU chmod makes of them; what is no mode. */
#include "mode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void words(void **state)
{
	static const struct {
		const char *words;
		u32 old;
		bool is_dir;
		u32 umask, want;
	} t[] = {
		{ "644", 04755, false, 0, 0644 },        { "0", 0777, false, 0, 0 },
		{ "7777", 0, false, 0, 07777 },          { "755", 06777, true, 022, 06755 },
		{ "00755", 06777, true, 022, 0755 },     { "2755", 04777, true, 0, 06755 },
		{ "u+x", 0644, false, 077, 0744 },       { "+x", 0644, false, 0111, 0644 },
		{ "+x", 0644, false, 022, 0755 },        { "a+x", 0644, false, 0777, 0755 },
		{ "go-rwx", 0777, false, 0, 0700 },      { "u=rw,go=r", 0777, false, 0, 0644 },
		{ "=", 04777, false, 022, 0 },           { "=", 04777, true, 022, 04000 },
		{ "g=u", 0640, false, 0, 0660 },         { "o=g-w", 0660, false, 0, 0664 },
		{ "u+s,g+s,+t", 0755, false, 0, 07755 }, { "u-s", 06755, true, 0, 02755 },
		{ "u=rwx", 06755, true, 0, 06755 },      { "a+X", 0644, false, 0, 0644 },
		{ "a+X", 0645, false, 0, 0755 },         { "a+X", 0644, true, 0, 0755 },
		{ "u+r-w+x", 0200, false, 0, 0500 },     { "ug+", 0640, false, 0, 0640 },
		{ "o+s", 0644, false, 0, 0644 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		u32 got = 1;

		assert_true(mode_change(t[i].words, t[i].old, t[i].is_dir, t[i].umask, &got));
		if (got != t[i].want)
			fail_msg("%s of %04o: %04o, not %04o", t[i].words, t[i].old, got, t[i].want);
	}
}

static void no_words(void **state)
{
	static const char *const bad[] = {
		"",    "8",   "77777",   "19",   "u",   "rwx",   "u+rwx,", ",u+x",
		"z+x", "u+q", "u+x g-x", "644x", "u*x", "0x1ff", "-1",     "u+ug"
	};
	u32 got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (mode_change(bad[i], 0644, false, 0, &got))
			fail_msg("\"%s\" is taken for a mode: %04o", bad[i], got);
}

/* Words by chance, and what chmod(1) makes of a file and of a directory. */
static void as_chmod(void **state)
{
	static const char *const ops[] = { "+", "-", "=" };
	static const char *const perms[] = { "",  "r", "w", "x",   "X",    "s",  "t",  "rw", "rwx",
					     "u", "g", "o", "rxs", "rwxt", "wX", "st", "xX" };
	char dir[] = "/tmp/test_mode.XXXXXX", path[64], cmd[256];
	unsigned seed = (unsigned)getpid();
	const char *given = getenv("SEED");

	(void)state;
	if (given)
		seed = (unsigned)strtoul(given, NULL, 0);
	print_message("seed %u\n", seed);
	srand(seed);
	assert_non_null(mkdtemp(dir));
	for (u32 i = 0; i < 300; i++) {
		char what[64] = "";
		u32 old = (u32)rand() & 07777, mask = (u32)rand() & 0777, got;
		bool is_dir = rand() % 2;
		struct stat st;

		for (int c = rand() % 3; c >= 0; c--) {
			for (int w = rand() % 3; w > 0; w--)
				strncat(what, &"u\0g\0o\0a"[2 * (rand() % 4)], 1);
			for (int o = rand() % 2; o >= 0; o--) {
				strcat(what, ops[rand() % 3]);
				strcat(what, perms[(size_t)rand() % ARRAY_SIZE(perms)]);
			}
			strcat(what, c ? "," : "");
		}
		snprintf(path, sizeof(path), "%s/x%u", dir, i);
		if (is_dir)
			assert_int_equal(mkdir(path, 0700), 0);
		else
			assert_int_equal(mknod(path, S_IFREG | 0600, 0), 0);
		assert_int_equal(chmod(path, old), 0);
		snprintf(cmd, sizeof(cmd), "umask %04o; chmod -- '%s' %s 2>/dev/null", mask, what, path);
		/* Fails also for bits that it left as they are because of the umask. */
		(void)!system(cmd);
		assert_int_equal(stat(path, &st), 0);
		assert_true(mode_change(what, old, is_dir, mask, &got));
		if (got != (st.st_mode & 07777))
			fail_msg("%s of %s %04o, umask %04o: %04o, chmod has %04o", what,
				 is_dir ? "directory" : "file", old, mask, got, st.st_mode & 07777);
	}
	snprintf(cmd, sizeof(cmd), "chmod -R u+rwx %s; rm -rf %s", dir, dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(words), cmocka_unit_test(no_words),
					    cmocka_unit_test(as_chmod) };

	return cmocka_run_group_tests_name("host/mode", tests, NULL, NULL);
}
