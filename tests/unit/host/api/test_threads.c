/* Two threads with a volume each, and two with one volume: nobody meets, and errors are the thread's own. */
#include "api/werunos.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES 200

static char dir[64];

struct worker {
	struct werunos_volume *v;
	const char *name; /* of its directory */
	int failed_line;  /* 0: all went well. Asserting is for the main thread */
};

#define EXPECT(cond)                               \
	do {                                       \
		if (!(cond)) {                     \
			w->failed_line = __LINE__; \
			return NULL;               \
		}                                  \
	} while (0)

static void *work(void *arg)
{
	struct worker *w = arg;
	struct werunos_stat st;
	char path[64], text[64];

	snprintf(path, sizeof(path), "/%s", w->name);
	EXPECT(!werunos_mkdir(w->v, path, 0755));
	for (int i = 0; i < FILES; i++) {
		struct werunos_file *f;
		size_t n;

		snprintf(path, sizeof(path), "/%s/%d", w->name, i);
		EXPECT(!werunos_file_open(w->v, path, O_CREAT | O_RDWR, 0600, &f));
		EXPECT(!werunos_file_write(f, 0, path, strlen(path), NULL));
		EXPECT(!werunos_file_read(f, 0, text, sizeof(text), &n));
		EXPECT(n == strlen(path) && !memcmp(text, path, n));
		werunos_file_close(f);
		snprintf(path, sizeof(path), "/nonexistent/%s-%d", w->name, i);
		EXPECT(werunos_identify(path, NULL, &(struct werunos_identity){ 0 }) == -ENOENT);
		EXPECT(strstr(werunos_error_text(), path));
		EXPECT(werunos_stat(w->v, "/nothing", 0, &st) == -ENOENT);
		EXPECT(!strcmp(werunos_error_text(), strerror(ENOENT)));
	}
	EXPECT(!werunos_sync(w->v));
	return NULL;
}

static void run(struct worker *a, struct worker *b)
{
	pthread_t t[2];

	assert_int_equal(pthread_create(&t[0], NULL, work, a), 0);
	assert_int_equal(pthread_create(&t[1], NULL, work, b), 0);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	assert_int_equal(a->failed_line, 0);
	assert_int_equal(b->failed_line, 0);
}

static struct werunos_volume *volume(const char *name)
{
	const struct werunos_make_options make = { .size_bytes = 32 << 20 };
	const struct werunos_open_options write = { .write = true };
	struct werunos_volume *v;
	char image[96];

	snprintf(image, sizeof(image), "%s/%s", dir, name);
	assert_int_equal(werunos_make("ext4", image, &make, NULL), 0);
	assert_int_equal(werunos_open(image, &write, &v), 0);
	return v;
}

static void two_volumes(void **state)
{
	struct worker a = { volume("a"), "a", 0 }, b = { volume("b"), "b", 0 };
	struct werunos_stat st;

	(void)state;
	run(&a, &b);
	assert_int_equal(werunos_stat(a.v, "/b", 0, &st), -ENOENT);
	assert_int_equal(werunos_stat(b.v, "/b", 0, &st), 0);
	assert_int_equal(werunos_close(a.v), 0);
	assert_int_equal(werunos_close(b.v), 0);
}

static void one_volume(void **state)
{
	struct worker a = { volume("both"), "a", 0 }, b = { a.v, "b", 0 };

	(void)state;
	run(&a, &b);
	assert_int_equal(werunos_close(a.v), 0);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/werunos-threads.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(two_volumes), cmocka_unit_test(one_volume) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
