/*
 * libwerunos by example: a volume's directory is listed, a file of it is shown, a tree of the host is copied into it.
 *
 *     cc treecat.c $(pkg-config --cflags --libs werunos) -o treecat
 *     treecat IMAGE ls /PATH
 *     treecat IMAGE cat /PATH
 *     treecat IMAGE put HOST-TREE /PATH
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <werunos.h>

static volatile sig_atomic_t stop;

static void on_signal(int nr)
{
	(void)nr;
	stop = 1;
}

static int complain(const char *what)
{
	fprintf(stderr, "treecat: %s: %s\n", what, werunos_error_text());
	return 1;
}

/* ---- ls ---- */

static int show_entry(void *ctx, const struct werunos_entry *e)
{
	(void)ctx;
	printf("%s%s\n", e->name, e->type == DT_DIR ? "/" : "");
	return 0;
}

static int ls(struct werunos_volume *v, const char *path)
{
	return werunos_readdir(v, path, show_entry, NULL) ? complain(path) : 0;
}

/* ---- cat ---- */

static int cat(struct werunos_volume *v, const char *path)
{
	struct werunos_file *f;
	uint64_t pos = 0;
	char buf[65536];
	size_t n;
	int err = werunos_file_open(v, path, O_RDONLY, 0, &f);

	if (err)
		return complain(path);
	do {
		err = werunos_file_read(f, pos, buf, sizeof(buf), &n);
		if (!err && fwrite(buf, 1, n, stdout) != n)
			break;
		pos += n;
	} while (!err && n == sizeof(buf));
	if (err)
		complain(path);
	werunos_file_close(f);
	return err ? 1 : 0;
}

/* ---- put ---- */

static void tell_failed(void *ctx, const char *path, int err, const char *why)
{
	(void)ctx;
	fprintf(stderr, "treecat: %s: %s\n", path, *why ? why : strerror(-err));
}

static int put(struct werunos_volume *v, const char *tree, const char *path)
{
	struct werunos_copy_options options = { .stop = &stop, .failed = tell_failed };
	struct werunos_report report;
	int err;

	signal(SIGINT, on_signal);
	err = werunos_import_tree(v, tree, path, &options, &report);
	if (err)
		return complain(path);
	printf("%llu files, %llu directories, %llu bytes\n", (unsigned long long)report.files,
	       (unsigned long long)report.directories, (unsigned long long)report.bytes);
	return report.failed ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct werunos_open_options options = { 0 };
	struct werunos_volume *v;
	struct werunos_info info;
	int code;

	if (argc < 4 || argc != (strcmp(argv[2], "put") ? 4 : 5)) {
		fprintf(stderr, "usage: treecat IMAGE ls|cat /PATH, or treecat IMAGE put HOST-TREE /PATH\n");
		return 64;
	}
	options.write = !strcmp(argv[2], "put");
	if (werunos_open(argv[1], &options, &v) || werunos_info(v, &info))
		return complain(argv[1]);
	if (*info.notice)
		fprintf(stderr, "treecat: %s: %s\n", info.name, info.notice);
	if (options.write)
		code = put(v, argv[3], argv[4]);
	else
		code = !strcmp(argv[2], "ls") ? ls(v, argv[3]) : cat(v, argv[3]);
	/* Only now all is durable. */
	if (werunos_close(v))
		code = complain(argv[1]);
	return code;
}
