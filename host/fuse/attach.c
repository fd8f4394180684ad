/*
 * Mounting and unmounting: a /dev/fuse descriptor that the kernel shows at a directory. Root asks the kernel;
 * others ask fusermount3, which may, and which hands the descriptor over on a socket.
 *
 * libfuse could do this too, but it writes its own lines to stderr, and it unmounts by cutting files off.
 */
#include "adapter.h"

#include "lib/log.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUSERMOUNT "fusermount3"
#define COMMFD     "_FUSE_COMMFD"

/*
 * By itself the kernel asks a FUSE mount for 128 KiB ahead of a reader, so that one request at a time is on its
 * way. 4 MiB is what it takes for its own btrfs.
 */
#define READ_AHEAD_KIB 4096u

static const struct {
	unsigned long flag;
	const char *name;
} flag_names[] = {
	{ MS_NOSUID, "nosuid" },         { MS_NODEV, "nodev" },     { MS_NOEXEC, "noexec" },
	{ MS_SYNCHRONOUS, "sync" },      { MS_DIRSYNC, "dirsync" }, { MS_NOATIME, "noatime" },
	{ MS_NODIRATIME, "nodiratime" },
};

static unsigned long all_flags(const struct adapter_opts *o)
{
	return o->ms_flags | (o->rdonly ? MS_RDONLY : 0);
}

/* ---- fusermount3 ---- */

/* Its options; the source may hold commas. */
static void fusermount_opts(const struct adapter_opts *o, struct text *t)
{
	unsigned long flags = all_flags(o);

	text_add(t, flags & MS_RDONLY ? "ro" : "rw");
	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (flags & flag_names[i].flag)
			text_add(t, ",%s", flag_names[i].name);
	text_add(t, ",default_permissions,subtype=werunos");
	if (o->allow_other)
		text_add(t, ",allow_other");
	text_add(t, ",fsname=");
	for (const char *s = o->source; *s; s++)
		text_add(t, *s == ',' || *s == '\\' ? "\\%c" : "%c", *s);
}

/* Reads all that comes, keeps the first line. */
static void first_line(int fd, char *line, size_t size)
{
	char buf[512];
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		size_t k = MIN((size_t)n, size - 1 - used);

		memcpy(line + used, buf, k);
		used += k;
	}
	line[used] = 0;
	line[strcspn(line, "\n")] = 0;
}

/* Runs fusermount3 with its stderr in `said`. Returns its exit status, or -errno. keep_fd: stays open in it, or -1. */
static int run_fusermount(const char *const *argv, int keep_fd, char *said, size_t size)
{
	posix_spawn_file_actions_t fa;
	int pipefd[2], status = 0, err;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return fail(-errno, "no pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, pipefd[1], STDERR_FILENO);
	/* dup2 onto itself takes close-on-exec away. */
	if (keep_fd >= 0)
		posix_spawn_file_actions_adddup2(&fa, keep_fd, keep_fd);
	err = posix_spawnp(&pid, FUSERMOUNT, &fa, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(pipefd[1]);
	if (!err) {
		first_line(pipefd[0], said, size);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(pipefd[0]);
	if (err)
		return fail(-err, FUSERMOUNT " cannot be run (%s): install the package fuse3, or be root",
			    strerror(err));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int receive_fd(int sock, int *fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	struct cmsghdr *c;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) <= 0)
		return -EIO;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return 0;
}

static int attach_by_fusermount(const struct adapter_opts *o, int *fd)
{
	char said[256] = "", number[16];
	const char *text = said;
	struct text opts = { 0 };
	int sock[2], status, err = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
		return fail(-errno, "no socket: %s", strerror(errno));
	snprintf(number, sizeof(number), "%d", sock[0]);
	setenv(COMMFD, number, 1);
	fusermount_opts(o, &opts);
	status =
		run_fusermount((const char *const[]){ FUSERMOUNT, "-o", text_str(&opts), "--", o->dir, NULL },
			       sock[0], said, sizeof(said));
	unsetenv(COMMFD);
	text_free(&opts);
	close(sock[0]);
	if (status < 0)
		err = status;
	else if (status || receive_fd(sock[1], fd)) {
		if (!strncmp(text, FUSERMOUNT ": ", strlen(FUSERMOUNT) + 2))
			text += strlen(FUSERMOUNT) + 2;
		err = fail(-EPERM, "cannot mount on %s: %s", o->dir, *text ? text : FUSERMOUNT " failed");
	}
	close(sock[1]);
	return err;
}

/* ---- the kernel ---- */

static int device_error(int err)
{
	if (err == ENOENT || err == ENODEV || err == ENXIO)
		return fail(-err, "there is no /dev/fuse: load the module (modprobe fuse), or give the "
				  "container the device");
	return fail(-err,
		    "/dev/fuse cannot be opened (%s): run as root, or let root open it to all (chmod 666)",
		    strerror(err));
}

static int mount_error(const struct adapter_opts *o, int err)
{
	switch (err) {
	case ENODEV:
		return fail(-err, "this kernel has no FUSE: load the module (modprobe fuse)");
	case EBUSY:
		return fail(-err, "%s is busy: choose another directory, or unmount what is there", o->dir);
	default:
		return fail(-err, "cannot mount on %s: %s", o->dir, strerror(err));
	}
}

static int attach_by_kernel(const struct adapter_opts *o, int *out)
{
	char data[160];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return device_error(errno);
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd,
		 getuid(), getgid(), o->allow_other ? ",allow_other" : "");
	if (mount(o->source, o->dir, "fuse.werunos", all_flags(o), data) < 0) {
		int err = errno;

		close(fd);
		return mount_error(o, err);
	}
	*out = fd;
	return 0;
}

int attach(const struct adapter_opts *opts, int *fd)
{
	int err;

	/* fusermount3 opens it as the user, too. */
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return device_error(errno);
	if (geteuid() == 0) {
		err = attach_by_kernel(opts, fd);
		if (err != -EPERM)
			return err;
	}
	return attach_by_fusermount(opts, fd);
}

/* Of the mount that fd, opened in it, shows: its knob in path. */
static bool find_read_ahead(int fd, char *path, size_t size)
{
	struct statfs fs;
	struct stat st;

	/* The first asks us, and so comes after the kernel's own limit, which it sets with INIT's reply. */
	if (fstatfs(fd, &fs) < 0 || fs.f_type != FUSE_SUPER_MAGIC || fstat(fd, &st) < 0)
		return false;
	snprintf(path, size, "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	return true;
}

void mount_read_ahead(const char *dir)
{
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char path[64];
	bool found;

	if (fd < 0)
		return;
	found = find_read_ahead(fd, path, sizeof(path));
	close(fd);
	fd = found ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	if (dprintf(fd, "%u", READ_AHEAD_KIB) < 0)
		log_debug("%s: %s", path, strerror(errno));
	close(fd);
}

/* The mount is not ours any more, or never was: as wished. */
static bool is_gone(int err)
{
	return err == EINVAL || err == ENOENT;
}

int fuse_mount_end(const char *dir, bool lazy)
{
	const char *argv[] = { FUSERMOUNT,        "-u", lazy ? "-z" : "--", lazy ? "--" : dir,
			       lazy ? dir : NULL, NULL };
	char said[256] = "";
	int err;

	if (!umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) || is_gone(errno))
		return 0;
	if (errno == EBUSY)
		return -EBUSY;
	if (errno != EPERM)
		return fail(-errno, "cannot unmount %s: %s", dir, strerror(errno));
	err = run_fusermount(argv, -1, said, sizeof(said));
	if (err <= 0)
		return err;
	return lazy || !strstr(said, strerror(EBUSY)) ? fail(-EPERM, "cannot unmount %s: %s", dir, said)
						      : -EBUSY;
}
