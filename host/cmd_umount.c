/*
 * werunos umount: ends a mount, and returns when its last byte is durable. umount(8) returns when the mount has left
 * the directory; its server may still be writing then. So the server is asked, through the mount, to make all durable
 * and who it is; then the mount is ended, and the server's process is waited for.
 */
#include "cmd.h"

#include "fuse/fuse.h"
#include "lib/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The type of the mount that covers `dir`, an absolute path; "" when none begins there. */
static void mount_type(const char *dir, char *type, size_t size)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	scoped(freep) char *line = NULL;
	size_t room = 0;

	*type = 0;
	while (f && getline(&line, &room, f) > 0) {
		char *at = line, *words[3] = { 0 };

		for (int i = 0; i < 3 && at; i++)
			words[i] = strsep(&at, " ");
		if (!words[2])
			continue;
		/* Octal escapes stand for blanks and the like. */
		for (char *r = words[1], *w = r;; r++, w++) {
			unsigned c;

			if (*r == '\\' && sscanf(r + 1, "%3o", &c) == 1) {
				*w = (char)c;
				r += 3;
			} else {
				*w = *r;
			}
			if (!*w)
				break;
		}
		/* The last one is on top. */
		if (!strcmp(words[1], dir))
			snprintf(type, size, "%s", words[2]);
	}
	if (f)
		fclose(f);
}

static int pid_open(u32 pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Makes all durable. *server: a pidfd of the server, -1 when there is none any more. */
static int ask_server(const char *dir, int *server, bool *stopped)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	u32 pid = 0, again = 1;

	*server = -1;
	*stopped = false;
	if (fd < 0)
		return errno == ENOTCONN ? 0 : fail(-errno, "%s: %s", dir, strerror(errno));
	/* Asked twice: the number cannot have passed to another process between. */
	if (ioctl(fd, SERVER_IOC_PID, &pid) == 0) {
		*server = pid_open(pid);
		if (*server < 0 || ioctl(fd, SERVER_IOC_PID, &again) < 0 || again != pid)
			err = fail(-ESRCH, "%s: its server cannot be seen from here (another container?)",
				   dir);
	} else if (errno != ENOTCONN) {
		err = fail(-errno, "%s: its server does not answer: %s", dir, strerror(errno));
	}
	/* What the kernel still has goes to the server first. */
	if (!err && *server >= 0 && (syncfs(fd) < 0 || ioctl(fd, SERVER_IOC_SYNC) < 0)) {
		*stopped = errno == EROFS;
		if (!*stopped)
			err = fail(-errno,
				   "%s: not all could be written (%s): see the server's log, or use --force",
				   dir, strerror(errno));
	}
	close(fd);
	return err;
}

static void await(int server)
{
	struct pollfd p = { .fd = server, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

static int end_mount(const char *dir, bool lazy, bool force)
{
	bool stopped;
	int server, err = ask_server(dir, &server, &stopped);

	if (err && force) {
		fprintf(stderr, "werunos: %s\n", err_text());
		err = 0;
	}
	if (!err) {
		err = fuse_mount_end(dir, lazy);
		if (err == -EBUSY)
			err = fail(-EBUSY,
				   "%s is in use (fuser -vm shows by whom); --lazy unmounts it all the same",
				   dir);
	}
	if (!err && server >= 0)
		await(server);
	if (server >= 0)
		close(server);
	if (!err && stopped)
		err = fail(-EROFS,
			   "%s is unmounted, but the volume had stopped after an error: what was written "
			   "since is lost",
			   dir);
	return err;
}

int cmd_umount(int argc, char **argv)
{
	static const struct option options[] = {
		{ "lazy", no_argument, NULL, 'l' },
		{ "force", no_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	scoped(freep) char *dir = NULL;
	bool lazy = false, force = false;
	char type[64];
	int opt, err;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "lf", options, NULL)) != -1) {
		if (opt == '?')
			return cli_usage("%s: not an option", argv[optind - 1]);
		lazy |= opt == 'l';
		force |= opt == 'f';
	}
	if (argc - optind != 1)
		return cli_usage("%s", "a directory is wanted");
	dir = realpath(argv[optind], NULL);
	/* The directory of a mount whose server died cannot be looked at; its path must be plain then. */
	if (!dir && errno == ENOTCONN)
		dir = strdup(argv[optind]);
	if (!dir)
		return cli_fail("%s: %s", argv[optind], strerror(errno));
	mount_type(dir, type, sizeof(type));
	if (strcmp(type, "fuse.werunos"))
		return cli_fail("%s is %s", dir, *type ? "not a mount of werunos" : "not mounted");
	err = end_mount(dir, lazy, force);
	return err ? cli_error(err, dir) : 0;
}
