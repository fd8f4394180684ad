/*
 * Two drivers on one volume destroy it. Locks keep two of us apart; this file looks for the kernel: a mount of the
 * device, of a partition of it, of the disk it is a partition of, and loop devices over the image. Interface:
 * busy.h.
 *
 * Reading beside a reader is fine; anything else is refused. What cannot be found out (no /sys, no /proc) is
 * taken as free.
 */
#include "busy.h"

#include "lib/err.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A small file's first line. False when there is none. */
static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = 0;
	return ok;
}

static u64 read_number(const char *dir, const char *name)
{
	char path[PATH_MAX], line[32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return read_line(path, line, sizeof(line)) ? strtoull(line, NULL, 10) : 0;
}

/* ---- loop devices ---- */

/* How long a loop device that goes with its last user is waited for: umount returns before it is gone. */
#define LOOP_GOES_MS 1000

/* dir: the device's place in sysfs. */
static bool loop_holds(const struct stat *st, const char *dir)
{
	char name[PATH_MAX], backing[PATH_MAX];
	struct stat b;

	snprintf(name, sizeof(name), "%s/loop/backing_file", dir);
	return read_line(name, backing, sizeof(backing)) && stat(backing, &b) == 0 &&
	       b.st_dev == st->st_dev && b.st_ino == st->st_ino;
}

static int busy_loop(const char *path, const struct stat *st, const char *loop, bool write,
		     const char *or_else)
{
	char dir[NAME_MAX + 16];
	bool loop_writes;

	snprintf(dir, sizeof(dir), "/sys/block/%s", loop);
	for (u32 ms = 0;; ms += 10) {
		if (!loop_holds(st, dir))
			return 0;
		loop_writes = !read_number(dir, "ro");
		if (!loop_writes && !write)
			return 0;
		if (!read_number(dir, "loop/autoclear") || ms >= LOOP_GOES_MS)
			break;
		usleep(10000);
	}
	return fail(-EBUSY, "%s is in use by /dev/%s%s: detach that first (losetup -d /dev/%s)%s", path, loop,
		    loop_writes ? ", which can write to it" : "", loop, loop_writes ? "" : or_else);
}

int busy_image(const char *path, const struct stat *st, bool write, const char *or_else)
{
	DIR *d = opendir("/sys/block");
	struct dirent *de;
	int err = 0;

	while (d && !err && (de = readdir(d)))
		if (!strncmp(de->d_name, "loop", 4))
			err = busy_loop(path, st, de->d_name, write, or_else);
	if (d)
		closedir(d);
	return err;
}

/* ---- mounts ---- */

/* Where a device lies: its place in sysfs names its disk, its window the part of it. */
struct place {
	char disk[PATH_MAX];
	u64 off_bytes, len_bytes;
};

static bool place_of(dev_t dev, struct place *out)
{
	char link[64], part[PATH_MAX + 16];
	char *slash;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	if (!realpath(link, out->disk))
		return false;
	out->len_bytes = read_number(out->disk, "size") * 512;
	out->off_bytes = 0;
	snprintf(part, sizeof(part), "%s/partition", out->disk);
	if (access(part, F_OK) == 0) {
		out->off_bytes = read_number(out->disk, "start") * 512;
		slash = strrchr(out->disk, '/');
		if (slash)
			*slash = 0;
	}
	return true;
}

static bool overlap(const struct place *a, const struct place *b)
{
	return !strcmp(a->disk, b->disk) && a->off_bytes < b->off_bytes + b->len_bytes &&
	       b->off_bytes < a->off_bytes + a->len_bytes;
}

/* Octal escapes of mountinfo, undone in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

struct mount_line {
	dev_t dev;
	char *dir, *source;
	bool writes;
};

/* "id parent maj:min root dir options … - type source super-options" */
static bool parse_mount(char *line, struct mount_line *m)
{
	char *field[10], *tail = strstr(line, " - "), *rest = line;
	unsigned maj, min;

	if (!tail)
		return false;
	*tail = 0;
	for (u32 i = 0; i < 6; i++)
		if (!(field[i] = strsep(&rest, " ")))
			return false;
	rest = tail + 3;
	for (u32 i = 6; i < 9; i++)
		if (!(field[i] = strsep(&rest, " \n")))
			return false;
	if (sscanf(field[2], "%u:%u", &maj, &min) != 2)
		return false;
	unescape(field[4]);
	unescape(field[7]);
	*m = (struct mount_line){ .dev = makedev(maj, min), .dir = field[4], .source = field[7] };
	m->writes = !strncmp(field[8], "rw", 2);
	return true;
}

static bool sys_name(dev_t dev, char out[PATH_MAX])
{
	char link[64], path[PATH_MAX];

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	if (!realpath(link, path))
		return false;
	strcpy(out, strrchr(path, '/') + 1);
	return true;
}

/* Are both devices of one volume that the kernel has mounted? */
static bool are_members(dev_t a, dev_t b)
{
	char name_a[PATH_MAX], name_b[PATH_MAX], path[3 * PATH_MAX];
	DIR *d = sys_name(a, name_a) && sys_name(b, name_b) ? opendir("/sys/fs/btrfs") : NULL;
	struct dirent *de;
	bool found = false;

	while (d && !found && (de = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/devices/%s", de->d_name, name_a);
		found = !access(path, F_OK);
		snprintf(path, sizeof(path), "/sys/fs/btrfs/%s/devices/%s", de->d_name, name_b);
		found = found && !access(path, F_OK);
	}
	if (d)
		closedir(d);
	return found;
}

/*
 * Is the mount on (a part of) our place? A file system of many devices has a number of its own: then its source tells, which is one of
 * them.
 */
static bool is_on(const struct mount_line *m, dev_t rdev, const struct place *ours)
{
	struct place theirs;
	struct stat st;
	dev_t dev = m->dev;

	if (major(dev) == 0) {
		if (m->source[0] != '/' || stat(m->source, &st) < 0 || !S_ISBLK(st.st_mode))
			return false;
		dev = st.st_rdev;
		if (are_members(dev, rdev))
			return true;
	}
	if (dev == rdev && !ours->disk[0])
		return true;
	return ours->disk[0] && place_of(dev, &theirs) && overlap(ours, &theirs);
}

int busy_device(const char *path, dev_t rdev, u64 off_bytes, u64 len_bytes, bool write, const char *or_else)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct place ours = { 0 };
	struct mount_line m;
	char *line = NULL;
	size_t cap = 0;
	int err = 0;

	if (place_of(rdev, &ours)) {
		ours.off_bytes += off_bytes;
		ours.len_bytes = len_bytes;
	}
	while (f && !err && getline(&line, &cap, f) > 0) {
		if (!parse_mount(line, &m) || !is_on(&m, rdev, &ours))
			continue;
		if (m.writes || write)
			err = fail(-EBUSY, "%s is mounted on %s: unmount that first%s", path, m.dir,
				   m.writes ? "" : or_else);
	}
	if (f)
		fclose(f);
	free(line);
	return err;
}
