/*
 * Fuzz target for tar archives: the input is one, behind a byte whose lowest bit says whether it is a layer. Where a block says of itself that it is
 * a header, its sum is made right. With FUZZ_WRITE_SEEDS=DIR the program writes seeds and ends.
 */
#include "import/tar.h"
#include "lib/log.h"
#include "support/tar_make.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void seed(const char *dir, const char *name, struct tar_make *m)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	make_end(m);
	make_write(m, path);
	make_free(m);
}

static void write_seeds(const char *dir)
{
	static const char *const records[][2] = {
		{ "SCHILY.acl.access", "user::rwx,user:who:r-x:1234,group::r--,mask::rwx,other::r--" },
		{ "SCHILY.xattr.user.x", "y" },
		{ "LIBARCHIVE.xattr.user.x", "aGVsbG8=" },
		{ "GNU.sparse.map", "0,1,7,1" },
		{ "mtime", "-1.25" },
		{ "path", "a/long/path" },
		{ "linkpath", "a/long/path" },
		{ "size", "2" },
	};
	static const char types[] = "0123456xgLKVDSM";
	struct tar_make m = { 0 };
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		make_bytes(&m, "\0", 1);
		make_pax(&m, 'x', records[i][0], records[i][1]);
		make_file(&m, '0', "dir/.wh.name", "ab", 2);
		snprintf(name, sizeof(name), "record-%zu", i);
		seed(dir, name, &m);
	}
	for (size_t i = 0; types[i]; i++) {
		make_bytes(&m, "\1", 1);
		make_file(&m, types[i], "dir/.wh..wh..opq", "name", 5);
		make_file(&m, '0', "after", "x", 1);
		snprintf(name, sizeof(name), "type-%c", types[i]);
		seed(dir, name, &m);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *seeds = getenv("FUZZ_WRITE_SEEDS");

	(void)argc, (void)argv;
	log_set_level(LOG_LVL_ERROR);
	if (seeds) {
		write_seeds(seeds);
		exit(0);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct tar_make m = { 0 };
	struct text out = { 0 };
	char path[64];
	int fd;

	if (size < 2)
		return -1;
	make_bytes(&m, data + 1, size - 1);
	for (size_t at = 0; at + TAR_BLOCK <= m.len; at += TAR_BLOCK)
		if (!memcmp(m.buf + at + offsetof(struct tar_disk_header, magic), "ustar", 5))
			make_sum((struct tar_disk_header *)(m.buf + at));
	fd = memfd_create("tar", 0);
	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	make_write(&m, path);
	if (make_read(path, data[0] & 1, &out))
		err_clear();
	/* What an outlet gets lies within the file and in order. */
	if (strstr(text_str(&out), MAKE_BAD_DATA))
		abort();
	text_free(&out);
	make_free(&m);
	close(fd);
	return 0;
}
