/*
 * werunos mount, and mount.werunos as mount(8) calls it.
 *
 * With --daemon the process forks first, while it has one thread and no volume: the child does everything, says
 * its errors to the stderr it shares with the parent, and tells the parent over a pipe how it went. The parent
 * ends when the mount is there, or has failed, with the child's exit code.
 */
#include "cmd.h"

#include "fuse/fuse.h"
#include "lib/log.h"
#include "lib/scope.h"
#include "lib/trace.h"
#include "mountopts.h"
#include "volume.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount_cmd {
	struct mount_args args;
	const char *spec;
	const char *dir_arg;
	char *dir; /* absolute */
	const char *log;
	bool daemon, debug, stats;
	int ready_fd; /* of a daemon: where the parent listens; -1 */
};

/* ---- the volume and its mount ---- */

static int check_dir(struct mount_cmd *c)
{
	const char *dir = c->dir_arg;
	struct statvfs fs;
	struct stat st;

	/* statvfs, because a dead server's mount may still have its directory's attributes cached. */
	if (stat(dir, &st) < 0 || statvfs(dir, &fs) < 0) {
		if (errno == ENOENT)
			return fail(-ENOENT, "mount point %s does not exist: make it with mkdir", dir);
		if (errno == ENOTCONN)
			return fail(-ENOTCONN, "%s is a mount whose server died: run fusermount3 -u %s", dir,
				    dir);
		return fail(-errno, "mount point %s: %s", dir, strerror(errno));
	}
	if (!S_ISDIR(st.st_mode))
		return fail(-ENOTDIR, "mount point %s is not a directory", dir);
	c->dir = realpath(dir, NULL);
	return c->dir ? 0 : fail(-errno, "mount point %s: %s", dir, strerror(errno));
}

/* An image below its own mount point would be hidden by it, and wait for itself. */
static int check_not_below(const struct mount_cmd *c, const struct source *s)
{
	size_t len = strlen(c->dir);

	int err = 0;

	if (s->fd >= 0 && !strncmp(s->name, c->dir, len) && (s->name[len] == '/' || len == 1))
		return fail(-ELOOP, "%s lies below the mount point %s: choose another directory", s->name,
			    c->dir);
	for (u32 i = 0; i < s->more_count && !err; i++)
		err = check_not_below(c, &s->more[i]);
	return err || !s->journal ? err : check_not_below(c, s->journal);
}

static int open_source(const struct mount_cmd *c, bool write, struct source *src)
{
	const struct mount_args *m = &c->args;
	const struct source_opts so = {
		.write = write,
		.must_write = m->readwrite,
		.part = m->part,
		.has_offset = m->has_offset,
		.offset_bytes = m->offset_bytes,
		.dev_flags = m->dev_flags,
		.device = m->device,
		.device_count = m->device_count,
		.journal = m->journal,
	};

	return source_open(c->spec, &so, src);
}

/* Opens for reading first: only who will write needs the source for himself. */
static int open_volume(const struct mount_cmd *c, struct source *src, struct super_block **sb)
{
	const struct mount_args *m = &c->args;
	struct mount_opts mo = {
		.rdonly = m->rdonly,
		.norecovery = m->norecovery,
		.atime = m->ms_flags & MS_NOATIME ? ATIME_NEVER
			 : m->strictatime         ? ATIME_STRICT
						  : ATIME_RELATIVE,
		.nodiratime = m->ms_flags & MS_NODIRATIME,
		.lazytime = m->lazytime,
		.has_sb = m->has_sb,
		.sb_block = m->sb_block,
		.cache_bytes = m->cache_bytes,
		.fs_opts = m->fs_opts.len_bytes ? text_str(&m->fs_opts) : NULL,
	};
	const struct fs_type *type;
	int err = open_source(c, false, src);

	if (err)
		return err;
	err = check_not_below(c, src);
	if (!err)
		err = source_probe(src, &mo, &type);
	if (!err && !m->rdonly && !type->rdonly && src->fd >= 0) {
		source_close(src);
		err = open_source(c, true, src);
		mo.rdonly = src->rdonly;
	}
	if (!err)
		err = source_mount(src, &mo, sb);
	if (!err && m->readwrite && (*sb)->rdonly) {
		err = fail(-EROFS, "%s can only be mounted with -o ro: %s", src->name,
			   (*sb)->notice[0] ? (*sb)->notice : "other options ask for that");
		(void)!vfs_unmount(*sb);
	}
	return err;
}

static int make_adapter(const struct mount_cmd *c, const struct source *src, struct super_block *sb,
			struct adapter **out)
{
	const struct mount_args *m = &c->args;
	struct adapter_opts o = {
		.source = src->name,
		.dir = c->dir,
		.ms_flags = m->ms_flags,
		.rdonly = sb->rdonly,
		/* What root mounts is for everybody, as any mount of root's: permissions are checked. */
		.allow_other = m->allow_other || geteuid() == 0,
		.allow_root = m->allow_root,
		.noopen = m->noopen,
		.writeback = m->writeback,
		.threads = m->threads,
	};
	scoped(vfs_iputp) struct inode *root = NULL;
	struct kstat st;
	int err = vfs_iget(sb, sb->root_ino, &root);

	if (err)
		return err;
	vfs_getattr(root, &st);
	mount_args_ids(m, st.uid, st.gid, getuid(), getgid(), &o.ids);
	return adapter_new(sb, &o, out);
}

/* The kernel has taken up the mount: a daemon lets its parent go, and its terminal. */
static void mount_ready(void *ctx)
{
	struct mount_cmd *c = ctx;
	const char ok = 0;
	int null;

	if (c->ready_fd < 0)
		return;
	if (!c->log && log_open("syslog"))
		err_clear();
	if (chdir("/"))
		log_warn("the working directory stays in use");
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	if (write(c->ready_fd, &ok, 1) != 1)
		log_warn("the parent is gone");
	close(c->ready_fd);
	c->ready_fd = -1;
}

static void end_stats(const struct mount_cmd *c)
{
	struct text t = { 0 };

	if (!c->stats)
		return;
	stats_to_text(&t);
	if (c->log || c->daemon)
		log_warn("counters at the end:\n%s", text_str(&t));
	else
		fputs(text_str(&t), stderr);
	text_free(&t);
}

/* Serves until unmounted. 0 or -errno. */
static int serve_volume(struct mount_cmd *c)
{
	struct super_block *sb = NULL;
	struct adapter *a = NULL;
	struct source src;
	int err = open_volume(c, &src, &sb), end_err;

	if (err)
		goto close;
	if (sb->notice[0])
		fprintf(stderr, "werunos: %s: %s\n", src.name, sb->notice);
	err = make_adapter(c, &src, sb, &a);
	if (!err)
		err = adapter_attach(a);
	if (!err)
		err = adapter_serve(a, mount_ready, c);
	adapter_free(a);
	end_err = vfs_unmount(sb);
	if (!err)
		err = end_err;
	end_stats(c);
close:
	source_close(&src);
	return err;
}

static int run(struct mount_cmd *c)
{
	int err = 0;

	signal(SIGPIPE, SIG_IGN);
	if (c->debug)
		log_set_level(LOG_LVL_DEBUG);
	if (c->log)
		err = log_open(c->log);
	if (!err)
		err = check_dir(c);
	if (err)
		return cli_error(err, c->dir_arg);
	/* Root's server may be what frees memory by writing: it must not wait for itself. Others may not ask. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	err = serve_volume(c);
	free(c->dir);
	return err ? cli_error(err, c->spec) : 0;
}

/* ---- daemon ---- */

/* The parent: waits for the child's word, one byte with its exit code. */
static int await(int fd, pid_t pid)
{
	unsigned char code;
	ssize_t n;

	do
		n = read(fd, &code, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1 && !code)
		return 0;
	waitpid(pid, NULL, 0);
	return n == 1 ? code : cli_fail("the server ended before the mount was ready");
}

static int run_daemon(struct mount_cmd *c)
{
	unsigned char code;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return cli_fail("no pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return cli_fail("cannot fork: %s", strerror(errno));
	if (pid) {
		close(fds[1]);
		return await(fds[0], pid);
	}
	close(fds[0]);
	setsid();
	c->ready_fd = fds[1];
	code = (unsigned char)run(c);
	if (c->ready_fd >= 0 && write(c->ready_fd, &code, 1) != 1)
		code = EXIT_ERROR;
	return code;
}

/* A daemon outlives its directory: what it opens later (the log) must not depend on it. */
static char *absolute_log(const char *log)
{
	char cwd[PATH_MAX], *out = NULL;

	if (!log || log[0] == '/' || !strcmp(log, "syslog") || !getcwd(cwd, sizeof(cwd)))
		return log ? strdup(log) : NULL;
	return asprintf(&out, "%s/%s", cwd, log) < 0 ? NULL : out;
}

static int start(struct mount_cmd *c)
{
	char *log = absolute_log(c->log);
	int code;

	c->log = log;
	code = c->daemon ? run_daemon(c) : run(c);
	free(log);
	mount_args_fini(&c->args);
	return code;
}

/* ---- command lines ---- */

enum {
	OPT_OFFSET = 256,
	OPT_RO,
	OPT_SB,
	OPT_MAP,
	OPT_DAEMON,
	OPT_CACHE,
	OPT_GENERATION,
	OPT_JOURNAL,
	OPT_DEBUG,
	OPT_LOG,
	OPT_STATS,
	OPT_THREADS,
	OPT_DIRECT,
	OPT_BUFFERED,
	OPT_DEVICE,
};

static const struct option long_options[] = {
	{ "part", required_argument, NULL, 'p' },
	{ "offset", required_argument, NULL, OPT_OFFSET },
	{ "ro", no_argument, NULL, OPT_RO },
	{ "options", required_argument, NULL, 'o' },
	{ "sb", required_argument, NULL, OPT_SB },
	{ "map", required_argument, NULL, OPT_MAP },
	{ "daemon", no_argument, NULL, OPT_DAEMON },
	{ "cache", required_argument, NULL, OPT_CACHE },
	{ "generation", required_argument, NULL, OPT_GENERATION },
	{ "journal", required_argument, NULL, OPT_JOURNAL },
	{ "debug", no_argument, NULL, OPT_DEBUG },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "direct", no_argument, NULL, OPT_DIRECT },
	{ "buffered", no_argument, NULL, OPT_BUFFERED },
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ NULL, 0, NULL, 0 },
};

/* Options that are words of -o by another name. */
static int as_word(struct mount_cmd *c, const char *word, const char *value)
{
	scoped(freep) char *list = NULL;

	if (asprintf(&list, "%s=%s", word, value) < 0) {
		list = NULL;
		return fail(-ENOMEM, "no memory for options");
	}
	if (strchr(value, ','))
		return fail(-EINVAL, "option %s: a single value is wanted", word);
	return mount_args_add(&c->args, list);
}

static int take_option(struct mount_cmd *c, int opt)
{
	switch (opt) {
	case 'o':
		return mount_args_add(&c->args, optarg);
	case 'r':
	case OPT_RO:
		return mount_args_add(&c->args, "ro");
	case OPT_DIRECT:
		return mount_args_add(&c->args, "direct");
	case OPT_BUFFERED:
		return mount_args_add(&c->args, "buffered");
	case 'p':
		return as_word(c, "part", optarg);
	case OPT_OFFSET:
		return as_word(c, "offset", optarg);
	case OPT_SB:
		return as_word(c, "sb", optarg);
	case OPT_DEVICE:
		return mount_args_device(&c->args, optarg);
	case OPT_MAP:
		return mount_args_map(&c->args, optarg);
	case OPT_CACHE:
		return as_word(c, "cache", optarg);
	case OPT_GENERATION:
		return as_word(c, "generation", optarg);
	case OPT_JOURNAL:
		return as_word(c, "journal", optarg);
	case OPT_THREADS:
		return as_word(c, "threads", optarg);
	case OPT_DAEMON:
		c->daemon = true;
		return 0;
	case OPT_DEBUG:
		c->debug = true;
		return 0;
	case OPT_STATS:
		c->stats = true;
		return 0;
	case OPT_LOG:
		c->log = optarg;
		return 0;
	}
	return fail(-EINVAL, "option %d is not known", opt);
}

static void cmd_init(struct mount_cmd *c)
{
	*c = (struct mount_cmd){ .ready_fd = -1 };
	mount_args_init(&c->args);
}

static int usage(struct mount_cmd *c, const char *fmt, const char *what)
{
	mount_args_fini(&c->args);
	return cli_usage(fmt, what);
}

int cmd_mount(int argc, char **argv)
{
	struct mount_cmd c;
	int opt;

	cmd_init(&c);
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "p:o:r", long_options, NULL)) != -1) {
		if (opt == '?')
			return usage(&c, "%s: not an option, or its value is missing", argv[optind - 1]);
		if (take_option(&c, opt))
			return usage(&c, "%s", err_text());
	}
	if (argc - optind != 2)
		return usage(&c, "%s", "a source and a directory are wanted");
	if (c.args.part && c.args.has_offset)
		return usage(&c, "%s", "a partition and an offset exclude each other");
	c.spec = argv[optind];
	c.dir_arg = argv[optind + 1];
	return start(&c);
}

/* mount.werunos SOURCE DIR [-sfnv] [-o LIST] [-t TYPE] [-N NS]: mount(8)'s own options are of no account here. */
int cmd_mount_helper(int argc, char **argv)
{
	bool fake = false;
	struct mount_cmd c;
	int opt;

	cmd_init(&c);
	c.daemon = true;
	opterr = 0;
	while ((opt = getopt(argc, argv, "sfnvro:t:N:")) != -1) {
		if (opt == '?')
			return usage(&c, "%s: not an option, or its value is missing", argv[optind - 1]);
		if (opt == 'f')
			fake = true;
		if ((opt == 'o' || opt == 'r') && take_option(&c, opt))
			return usage(&c, "%s", err_text());
	}
	if (argc - optind != 2)
		return usage(&c, "%s", "a source and a directory are wanted");
	/* mount(8) says rw also where nobody did. */
	c.args.readwrite = false;
	c.spec = argv[optind];
	c.dir_arg = argv[optind + 1];
	if (!fake)
		return start(&c);
	mount_args_fini(&c.args);
	return 0;
}
