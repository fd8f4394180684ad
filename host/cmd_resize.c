/*
 * werunos resize: a volume becomes longer, and its image with it. One that is mounted by us is asked for through the mount; else the volume is
 * opened for this process alone, and once more each time when it cannot go all the way in one go.
 */
#include "cmd.h"

#include "edit.h"
#include "fuse/fuse.h"
#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct resize {
	struct tool_opts tool;
	u64 size_bytes; /* 0: as long as the device */
	u64 before_bytes, after_bytes;
};

/* One opening of the volume. *bytes: how long it is then. The exit code. */
static int grow_once(struct resize *r, const char *operand, u64 *bytes)
{
	struct grown grown;
	struct volume v;
	int err = volume_open_rw(&r->tool, operand, &v), closed;

	if (err)
		return cli_error(err, operand);
	err = vfs_grow(v.sb, r->size_bytes, &grown);
	if (!r->before_bytes)
		r->before_bytes = grown.before_bytes;
	*bytes = grown.after_bytes;
	if (err)
		cli_error(err, operand);
	closed = volume_close(&v);
	return err || closed ? EXIT_ERROR : 0;
}

/* The exit code. */
static int grow_image(struct resize *r, const char *operand)
{
	u64 bytes = 0, last;
	int code;

	do {
		last = bytes;
		code = grow_once(r, operand, &bytes);
	} while (!code && bytes != last && bytes < r->size_bytes);
	r->after_bytes = bytes;
	return code;
}

static int grow_mounted(struct resize *r, const char *dir)
{
	struct server_grow g = { .size_bytes = r->size_bytes };
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return cli_fail("%s: %s", dir, strerror(errno));
	if (ioctl(fd, SERVER_IOC_GROW, &g) < 0)
		err = errno == ENOTTY ? cli_fail("%s is not a mount of werunos, and no image", dir)
				      : cli_fail("%s: %s", dir, strerror(errno));
	else if (g.err)
		err = cli_fail("%.*s", (int)sizeof(g.why), g.why);
	close(fd);
	r->before_bytes = g.before_bytes;
	r->after_bytes = g.after_bytes;
	return err;
}

static int show(const struct resize *r)
{
	struct doc *d = doc_new();
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	doc_u64(d, "before_bytes", r->before_bytes);
	doc_u64(d, "after_bytes", r->after_bytes);
	err = put_doc(d, r->tool.json);
	doc_free(d);
	return err;
}

int cmd_resize(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'J' }, EDIT_LONG };
	struct resize r = { .size_bytes = 0 };
	struct stat st;
	int opt, code, err;

	tool_init(&r.tool);
	while ((opt = getopt_long(argc, argv, "p:" EDIT_SHORT, options, NULL)) != -1)
		if ((code = tool_option(&r.tool, opt, argv)))
			return code;
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("%s", "an image, a device or a mount is wanted, and perhaps its new size");
	if (argc - optind == 2 && (!size_parse(argv[optind + 1], &r.size_bytes) || !r.size_bytes))
		return cli_usage("\"%s\" is no size: a number of bytes, or with K, M, G or T, is wanted",
				 argv[optind + 1]);
	code = !stat(argv[optind], &st) && S_ISDIR(st.st_mode) ? grow_mounted(&r, argv[optind])
							       : grow_image(&r, argv[optind]);
	if (code)
		return code;
	err = show(&r);
	return err ? cli_error(err, argv[optind]) : 0;
}
