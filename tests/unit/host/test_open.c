/* Sources: what names mean, what is refused, who may open beside whom. */
#include "open.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#undef fail

static char dir[64], image[96];

static int setup(void **state)
{
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/werunos-open.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	chmod(dir, 0755);
	snprintf(image, sizeof(image), "%s/image", dir);
	fd = open(image, O_CREAT | O_RDWR, 0644);
	return fd < 0 || ftruncate(fd, 1 << 20) || close(fd) ? -1 : 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static int try_open(const char *spec, bool write, bool must)
{
	const struct source_opts o = { .write = write, .must_write = must };
	struct source s;
	int err = source_open(spec, &o, &s);

	if (!err)
		source_close(&s);
	return err;
}

static void split_is(const char *operand, const char *spec, const char *path)
{
	const char *got_path;
	char *got;

	assert_int_equal(operand_split(operand, &got, &got_path), 0);
	assert_string_equal(got, spec);
	assert_string_equal(got_path, path);
	free(got);
}

static void operands_are_split_where_a_file_is(void **state)
{
	char odd[128], operand[160];
	int fd;

	(void)state;
	snprintf(operand, sizeof(operand), "%s:/a/b", image);
	split_is(operand, image, "/a/b");
	snprintf(operand, sizeof(operand), "%s#p2:/a:/b", image);
	snprintf(odd, sizeof(odd), "%s#p2", image);
	split_is(operand, odd, "/a:/b");
	split_is(image, image, "/");
	split_is("memfs:1M:/x", "memfs:1M", "/x");
	split_is("/none:/x", "/none:/x", "/");
	/* A directory whose name ends in a colon. */
	snprintf(odd, sizeof(odd), "%s/odd:", dir);
	assert_int_equal(mkdir(odd, 0755), 0);
	snprintf(odd, sizeof(odd), "%s/odd:/image", dir);
	fd = open(odd, O_CREAT | O_RDWR, 0644);
	assert_true(fd >= 0);
	close(fd);
	snprintf(operand, sizeof(operand), "%s:/a", odd);
	split_is(operand, odd, "/a");
}

static void what_is_no_source_is_refused(void **state)
{
	char empty[128];

	(void)state;
	snprintf(empty, sizeof(empty), "%s/empty", dir);
	close(open(empty, O_CREAT | O_RDWR, 0644));
	assert_int_equal(try_open(empty, false, false), -ENODATA);
	assert_int_equal(try_open(dir, false, false), -EISDIR);
	assert_int_equal(try_open("/dev/null", false, false), -ENOTBLK);
	assert_int_equal(try_open("/none", false, false), -ENOENT);
	assert_int_equal(try_open("mem:x", false, false), -EINVAL);
	assert_int_equal(try_open("mem:1M", true, true), 0);
}

static void windows(void **state)
{
	struct source_opts o = { .has_offset = true, .offset_bytes = 65536 };
	struct source s;

	(void)state;
	assert_int_equal(source_open(image, &o, &s), 0);
	assert_int_equal(s.dev->size_bytes, (1 << 20) - 65536);
	assert_true(s.rdonly);
	source_close(&s);
	o.offset_bytes = 1 << 20;
	assert_int_equal(source_open(image, &o, &s), -ERANGE);
	o = (struct source_opts){ .part = 1 };
	assert_int_equal(source_open(image, &o, &s), -ENXIO);
}

static void readers_share_and_writers_do_not(void **state)
{
	const struct source_opts read = { .write = false }, write = { .write = true };
	struct source a, b;

	(void)state;
	assert_int_equal(source_open(image, &read, &a), 0);
	assert_int_equal(source_open(image, &read, &b), 0);
	source_close(&b);
	assert_int_equal(source_open(image, &write, &b), -EBUSY);
	source_close(&a);
	assert_int_equal(source_open(image, &write, &a), 0);
	assert_false(a.rdonly);
	assert_int_equal(source_open(image, &read, &b), -EBUSY);
	assert_int_equal(source_open(image, &write, &b), -EBUSY);
	source_close(&a);
	assert_int_equal(try_open(image, true, true), 0);
}

static void without_permission_it_is_read_only(void **state)
{
	const struct source_opts write = { .write = true };
	struct source s;

	(void)state;
	assert_int_equal(chmod(image, 0444), 0);
	if (!geteuid())
		assert_int_equal(seteuid(65534), 0);
	assert_int_equal(source_open(image, &write, &s), 0);
	assert_true(s.rdonly);
	assert_true(s.dev->flags & BLKDEV_RDONLY);
	source_close(&s);
	assert_int_equal(try_open(image, true, true), -EACCES);
	if (!getuid())
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(image, 0644), 0);
}

/* A loop device over the image, while fn looks. */
static bool with_loop(const char *option, void (*fn)(void))
{
	char command[160], loop[64] = "";
	FILE *f;

	snprintf(command, sizeof(command), "losetup -f --show %s '%s' 2>/dev/null", option, image);
	f = popen(command, "r");
	if (!f || !fgets(loop, sizeof(loop), f))
		loop[0] = 0;
	if (f)
		pclose(f);
	loop[strcspn(loop, "\n")] = 0;
	if (!loop[0])
		return false;
	fn();
	snprintf(command, sizeof(command), "losetup -d %s", loop);
	assert_int_equal(system(command), 0);
	return true;
}

static void beside_a_writing_loop(void)
{
	assert_int_equal(try_open(image, true, true), -EBUSY);
	assert_int_equal(try_open(image, false, false), -EBUSY);
}

static void beside_a_reading_loop(void)
{
	assert_int_equal(try_open(image, true, true), -EBUSY);
	assert_int_equal(try_open(image, false, false), 0);
}

static void loop_devices_count(void **state)
{
	(void)state;
	if (geteuid() || !with_loop("", beside_a_writing_loop) || !with_loop("-r", beside_a_reading_loop)) {
		print_message("no loop devices here\n");
		skip();
	}
	assert_int_equal(try_open(image, true, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operands_are_split_where_a_file_is),
		cmocka_unit_test(what_is_no_source_is_refused),
		cmocka_unit_test(windows),
		cmocka_unit_test(readers_share_and_writers_do_not),
		cmocka_unit_test(without_permission_it_is_read_only),
		cmocka_unit_test(loop_devices_count),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
