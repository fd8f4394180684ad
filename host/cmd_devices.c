/*
 * werunos devices: every disk and partition of this machine, or of an image, with what lies on each.
 *
 * The list comes from /sys, so that what may not be opened is listed too; contents come from libblkid. Partitions
 * are taken from the table on the disk; one that the kernel knows has the kernel's name, else DISK#pN, which every
 * command of werunos takes.
 */
#include "cmd.h"

#include "fs.h"
#include "lib/scope.h"
#include "probe.h"
#include "tool.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

struct row {
	char name[PATH_MAX];
	const char *kind; /* "disk", "partition", "image" */
	u64 size_bytes, off_bytes;
	u32 nr;        /* partitions */
	char what[96]; /* disk: its table; partition: its type there */
	char part_name[80];
	struct volume_id id;
	u64 devid, devices; /* of a volume that may have several: which of how many this is; 0: not known */
	char dev_uuid[40];
	const char *unreadable; /* why nothing is known of the content; NULL */
};

struct rows {
	struct row *r;
	u32 count, room;
};

static struct row *row_add(struct rows *rows)
{
	if (rows->count == rows->room) {
		u32 room = rows->room ? rows->room * 2 : 16;
		struct row *r = realloc(rows->r, room * sizeof(*r));

		if (!r)
			return NULL;
		rows->r = r;
		rows->room = room;
	}
	memset(&rows->r[rows->count], 0, sizeof(*rows->r));
	return &rows->r[rows->count++];
}

/* ---- one disk or image ---- */

/* What the kernel calls partition nr of a disk; false when it does not know it. */
static bool kernel_name(const char *disk, u32 nr, char *out, size_t size)
{
	const char *base = strrchr(disk, '/');
	char path[PATH_MAX + 32];

	base = base ? base + 1 : disk;
	for (int p = 0; p < 2; p++) {
		snprintf(path, sizeof(path), "/sys/class/block/%s%s%u/partition", base, p ? "p" : "", nr);
		if (access(path, F_OK))
			continue;
		snprintf(out, size, "/dev/%s%s%u", base, p ? "p" : "", nr);
		return true;
	}
	return false;
}

/* What the module that reads it knows better than libblkid. */
static void look_closer(struct row *r, int fd)
{
	scoped(blkdev_putp) struct blkdev *whole = NULL, *part = NULL;
	const struct fs_type *type = fs_find(r->id.type);
	struct fs_probe p = { 0 };
	struct text t = { 0 };

	fd = type ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (fd < 0 || dev_file_fd(fd, r->name, DEV_BUFFERED | DEV_NO_RING, &whole) ||
	    dev_part_new(whole, r->name, r->off_bytes, MIN(r->size_bytes, whole->size_bytes - r->off_bytes),
			 &part) ||
	    type->probe(part, &p) || p.devices < 2)
		return;
	r->devid = p.devid;
	r->devices = p.devices;
	text_add_uuid(&t, p.dev_uuid);
	snprintf(r->dev_uuid, sizeof(r->dev_uuid), "%s", text_str(&t));
	text_free(&t);
}

static int add_part(struct rows *rows, const char *disk, int fd, const struct part *p, bool image)
{
	struct row *r = row_add(rows);

	if (!r)
		return fail(-ENOMEM, "no memory for a list");
	if (image || !kernel_name(disk, p->nr, r->name, sizeof(r->name)))
		snprintf(r->name, sizeof(r->name), "%s#p%u", disk, p->nr);
	r->kind = "partition";
	r->nr = p->nr;
	r->off_bytes = p->off_bytes;
	r->size_bytes = p->len_bytes;
	snprintf(r->what, sizeof(r->what), "%s", p->kind);
	snprintf(r->part_name, sizeof(r->part_name), "%s", p->name);
	/* What cannot be examined has nothing known on it; it is listed all the same. */
	if (!p->extended && probe_volume(fd, p->off_bytes, p->len_bytes, &r->id))
		r->unreadable = "beyond the end";
	else
		look_closer(r, fd);
	return 0;
}

/* The rows of an open disk; `at` is its own. */
static int add_content(struct rows *rows, u32 at, int fd, u32 sector_bytes, bool image)
{
	scoped(freep) char *name = strdup(rows->r[at].name);
	u64 size = rows->r[at].size_bytes;
	struct ptable t = { .type = "" };
	int err = 0;

	if (!name)
		return fail(-ENOMEM, "no memory for a list");
	if (probe_volume(fd, 0, size, &rows->r[at].id))
		rows->r[at].unreadable = "not readable";
	else
		look_closer(&rows->r[at], fd);
	/* A file system over the whole disk may look like a table to those who want to see one. */
	if (!rows->r[at].id.type[0] && probe_ptable(fd, size, sector_bytes, &t))
		rows->r[at].unreadable = "not readable";
	snprintf(rows->r[at].what, sizeof(rows->r[at].what), "%s",
		 !strcmp(t.type, "dos")   ? "MBR"
		 : !strcmp(t.type, "gpt") ? "GPT"
					  : t.type);
	for (u32 i = 0; i < t.count && !err; i++)
		err = add_part(rows, name, fd, &t.part[i], image);
	ptable_free(&t);
	return err;
}

static int add_image(struct rows *rows, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	struct row *r;
	struct stat st;
	u64 size;
	int sector = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err = fail(-errno, "%s cannot be opened: %s", path, strerror(errno));
	} else if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0)
			err = fail(-errno, "%s does not tell its size: %s", path, strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		size = (u64)st.st_size;
	} else {
		err = fail(-ENOTBLK, "%s is neither a file nor a block device", path);
	}
	if (!err && !(r = row_add(rows)))
		err = fail(-ENOMEM, "no memory for a list");
	if (!err) {
		snprintf(r->name, sizeof(r->name), "%s", path);
		r->kind = S_ISBLK(st.st_mode) ? "disk" : "image";
		r->size_bytes = size;
		err = add_content(rows, rows->count - 1, fd, (u32)sector, !S_ISBLK(st.st_mode));
	}
	if (fd >= 0)
		close(fd);
	return err;
}

/* ---- this machine ---- */

static u64 sys_size(const char *name)
{
	char path[PATH_MAX], line[32];
	u64 sectors = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/block/%s/size", name);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f))
		sectors = strtoull(line, NULL, 10);
	if (f)
		fclose(f);
	return sectors * 512;
}

static bool sys_is_part(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/block/%s/partition", name);
	return access(path, F_OK) == 0;
}

static bool listed_already(const struct rows *rows, const char *dev)
{
	for (u32 i = 0; i < rows->count; i++)
		if (!strcmp(rows->r[i].name, dev))
			return true;
	return false;
}

static int add_device(struct rows *rows, const char *name, bool part)
{
	struct row *r = row_add(rows);
	int fd, sector = 0, err = 0;

	if (!r)
		return fail(-ENOMEM, "no memory for a list");
	snprintf(r->name, sizeof(r->name), "/dev/%s", name);
	for (char *s = r->name; *s; s++)
		if (*s == '!') /* how /sys writes a slash */
			*s = '/';
	r->kind = part ? "partition" : "disk";
	r->size_bytes = sys_size(name);
	fd = open(r->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		r->unreadable = errno == EACCES || errno == EPERM ? "no permission" : "not readable";
		return 0;
	}
	if (ioctl(fd, BLKSSZGET, &sector) < 0)
		sector = 0;
	err = add_content(rows, rows->count - 1, fd, (u32)sector, false);
	close(fd);
	return err;
}

static int natural(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

static int add_machine(struct rows *rows)
{
	struct dirent **list = NULL;
	int n = scandir("/sys/class/block", &list, NULL, natural), err = 0;
	char dev[PATH_MAX];

	if (n < 0)
		return fail(-errno, "/sys/class/block cannot be read: %s", strerror(errno));
	/* Disks first, each with its partitions; then partitions of disks that could not be read. */
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < n && !err; i++) {
			const char *name = list[i]->d_name;
			bool part = sys_is_part(name);

			snprintf(dev, sizeof(dev), "/dev/%s", name);
			if (name[0] != '.' && part == (pass == 1) && sys_size(name) &&
			    !listed_already(rows, dev))
				err = add_device(rows, name, part);
		}
	}
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return err;
}

/* ---- output ---- */

static bool is_ours(const struct row *r)
{
	return fs_find(r->id.type) || !strcmp(r->id.type, "ext2") || !strcmp(r->id.type, "ext3");
}

static int show_json(const struct rows *rows)
{
	struct doc *d = doc_new(), *a;
	int err;

	if (!d)
		return fail(-ENOMEM, "no memory for the output");
	a = doc_array(d, "devices");
	for (u32 i = 0; i < rows->count; i++) {
		const struct row *r = &rows->r[i];
		bool part = !strcmp(r->kind, "partition");
		struct doc *o = doc_object(a, NULL);

		doc_bytes(o, "name", r->name, strlen(r->name));
		doc_str(o, "kind", r->kind);
		doc_u64(o, "size", r->size_bytes);
		if (part && r->nr) {
			doc_u64(o, "partition", r->nr);
			doc_u64(o, "offset", r->off_bytes);
			doc_bytes(o, "partition_name", r->part_name, strlen(r->part_name));
		}
		if (part || r->what[0])
			doc_str(o, part ? "partition_type" : "table", r->what);
		if (r->id.type[0]) {
			doc_str(o, "fs", r->id.type);
			doc_bytes(o, "label", r->id.label, strlen(r->id.label));
			doc_str(o, "uuid", r->id.uuid);
		}
		if (r->devices) {
			doc_u64(o, "devid", r->devid);
			doc_u64(o, "devices", r->devices);
			doc_str(o, "device_uuid", r->dev_uuid);
		}
		doc_bool(o, "mountable", is_ours(r));
		if (r->unreadable)
			doc_str(o, "unreadable", r->unreadable);
	}
	err = put_doc(d, true);
	doc_free(d);
	return err;
}

static const char *content(const struct row *r, char *buf, size_t size)
{
	if (r->unreadable)
		return r->unreadable;
	if (!r->devices)
		return r->id.type[0] ? r->id.type : "-";
	snprintf(buf, size, "%s %llu of %llu", r->id.type, (unsigned long long)r->devid,
		 (unsigned long long)r->devices);
	return buf;
}

static int show_table(const struct rows *rows)
{
	struct text t = { 0 }, size = { 0 }, name = { 0 };
	int width = 4, err;
	char buf[80];

	for (u32 i = 0; i < rows->count; i++)
		width = MAX(width, (int)MIN(strlen(rows->r[i].name), (size_t)60));
	text_add(&t, "%-*s %10s  %-9s %-20s %-14s %s\n", width, "NAME", "SIZE", "KIND", "TABLE OR TYPE",
		 "CONTENT", "LABEL");
	for (u32 i = 0; i < rows->count; i++) {
		const struct row *r = &rows->r[i];

		text_reset(&size);
		text_reset(&name);
		text_add_size(&size, r->size_bytes);
		text_add_name(&name, r->name, strlen(r->name));
		text_add(&t, "%-*s %10s  %-9s %-20s %-14s ", width, text_str(&name), text_str(&size), r->kind,
			 r->what[0] ? r->what : "-", content(r, buf, sizeof(buf)));
		text_add_name(&t, r->id.label, strlen(r->id.label));
		text_add(&t, "\n");
	}
	err = put_text(&t);
	text_free(&t);
	text_free(&size);
	text_free(&name);
	return err;
}

static const struct option long_options[] = { { "json", no_argument, NULL, 'J' }, { NULL, 0, NULL, 0 } };

int cmd_devices(int argc, char **argv)
{
	struct rows rows = { 0 };
	bool json = false;
	int opt, err = 0, failed = 0;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (opt != 'J')
			return cli_usage("%s: not an option", argv[optind - 1]);
		json = true;
	}
	if (optind == argc)
		err = add_machine(&rows);
	for (int i = optind; i < argc && !err; i++) {
		int bad = add_image(&rows, argv[i]);

		if (bad)
			failed = cli_error(bad, argv[i]);
	}
	if (!err && (rows.count || !failed))
		err = json ? show_json(&rows) : show_table(&rows);
	free(rows.r);
	return err ? cli_error(err, "devices") : failed;
}
