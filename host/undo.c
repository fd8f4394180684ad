/*
 * Interface and format in short: undo.h.
 *
 *   head      magic, version, number of devices, length and sum of what follows: for each device its size and its name
 *   record    sum, device, offset, length; that many bytes
 *   trailer   a record of device ~0: a sum of each unit as it is now, in the order of the records
 *   end       magic, where the trailer begins
 *
 * Invariant: a record is durable before its unit is written to, so what is incomplete at the end of a file without an end was not needed.
 */
#include "undo.h"

#include "lib/crc.h"
#include "lib/disk.h"
#include "lib/lock.h"
#include "lib/os.h"
#include "lib/scope.h"
#include "lib/text.h"
#include "seen.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT_BYTES  DEV_SNAP_UNIT_BYTES
#define VERSION     1u
#define BATCH_UNITS 256u
#define TRAILER     UINT32_MAX
#define BODY_MAX    (4u << 20)
#define UNIT_BITS   44u /* of a unit's number, above them the device's */

static const char head_magic[8] = "werunosU", end_magic[8] = "werunosE";

struct undo_disk_head {
	char magic[8];
	le32 version;
	le32 devices;
	le32 body_bytes;
	le32 sum; /* of the members before it, then of the body */
};
DISK_SIZE(struct undo_disk_head, 24);

struct undo_disk_device {
	le64 size_bytes;
	le32 name_bytes;
	le32 pad;
};
DISK_SIZE(struct undo_disk_device, 16);

struct undo_disk_record {
	le32 sum; /* of the rest, then of the bytes */
	le32 device;
	le64 off_bytes; /* trailer: how many units */
	le32 len_bytes;
	le32 pad;
};
DISK_SIZE(struct undo_disk_record, 24);

struct undo_disk_end {
	char magic[8];
	le64 trailer_bytes; /* where it begins */
};
DISK_SIZE(struct undo_disk_end, 16);

struct undo_unit {
	u64 off_bytes, at_bytes; /* on the device; of the bytes in the file */
	u32 device, len_bytes;
	u32 left_sum; /* of what the mending left there */
};

struct undo {
	char *file;
	int fd;
	u64 at_bytes; /* the file so far */
	struct undo_unit *unit;
	u64 units, room;
	struct seen seen; /* units that are recorded */
	u8 *buf;
	u64 buf_bytes;
	int err; /* the first: what came after it may be incomplete */
	struct mutex lock;
};

static int add_unit(struct undo_unit **unit, u64 *units, u64 *room, const struct undo_unit *one)
{
	if (*units == *room) {
		u64 more = MAX(2 * *room, (u64)256);
		struct undo_unit *to = reallocarray(*unit, more, sizeof(*to));

		if (!to)
			return fail(-ENOMEM, "no memory for an undo file");
		*unit = to;
		*room = more;
	}
	(*unit)[(*units)++] = *one;
	return 0;
}

/* ---- the file's bytes ---- */

static int file_failed(const char *file, const char *what)
{
	return fail(-errno, "the undo file %s cannot be %s: %s", file, what, strerror(errno));
}

static int put(struct undo *u, const void *p, u64 len)
{
	const u8 *from = p;

	while (len) {
		ssize_t n = pwrite(u->fd, from, len, (off_t)u->at_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return file_failed(u->file, "written");
		from += n;
		u->at_bytes += (u64)n;
		len -= (u64)n;
	}
	return 0;
}

static int put_batch(struct undo *u)
{
	u64 len = u->buf_bytes;

	u->buf_bytes = 0;
	return put(u, u->buf, len);
}

static u32 record_sum(const struct undo_disk_record *r, const void *bytes)
{
	u32 sum = crc32c(~0u, (const u8 *)r + sizeof(r->sum), sizeof(*r) - sizeof(r->sum));

	return crc32c(sum, bytes, le32_get(r->len_bytes));
}

/* ---- making one ---- */

static int put_head(struct undo *u, const char *const *name, struct blkdev **devs, u32 n)
{
	scoped(text_free) struct text body = { 0 };
	struct undo_disk_head h = { .version = le32_put(VERSION), .devices = le32_put(n) };
	u32 sum;
	int err;

	for (u32 i = 0; i < n; i++) {
		struct undo_disk_device d = { .size_bytes = le64_put(devs[i]->size_bytes),
					      .name_bytes = le32_put((u32)strlen(name[i])) };

		text_add_bytes(&body, &d, sizeof(d));
		text_add_bytes(&body, name[i], strlen(name[i]));
	}
	if (body.oom)
		return fail(-ENOMEM, "no memory for an undo file");
	memcpy(h.magic, head_magic, sizeof(h.magic));
	h.body_bytes = le32_put((u32)body.len_bytes);
	sum = crc32c(~0u, &h, offsetof(struct undo_disk_head, sum));
	h.sum = le32_put(crc32c(sum, body.buf, body.len_bytes));
	err = put(u, &h, sizeof(h));
	return err ? err : put(u, body.buf, body.len_bytes);
}

/* The file's name is durable too. */
static int sync_parent(const char *file)
{
	scoped(freep) char *dir = strdup(file);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	int fd, err = 0;

	if (!dir)
		return fail(-ENOMEM, "no memory for an undo file");
	if (slash)
		slash[slash == dir] = 0;
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		err = file_failed(file, "made durable");
	if (fd >= 0)
		close(fd);
	return err;
}

int undo_create(const char *file, const char *const *name, struct blkdev **devs, u32 n, struct undo **out)
{
	struct undo *u = calloc(1, sizeof(*u));
	int err = 0;

	if (!u)
		return fail(-ENOMEM, "no memory for an undo file");
	u->fd = -1;
	mutex_init(&u->lock, RANK_LRU); /* taken over those of devices */
	u->file = strdup(file);
	u->buf = malloc(BATCH_UNITS * (UNIT_BYTES + sizeof(struct undo_disk_record)));
	if (!u->file || !u->buf)
		err = fail(-ENOMEM, "no memory for an undo file");
	if (!err) {
		u->fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		err = u->fd < 0 ? file_failed(file, "made") : put_head(u, name, devs, n);
	}
	if (!err && fsync(u->fd))
		err = file_failed(file, "written");
	if (!err)
		err = sync_parent(file);
	if (err)
		undo_close(u);
	else
		*out = u;
	return err;
}

static int save_unit(struct undo *u, struct blkdev *dev, u32 device, u64 off)
{
	u32 len = (u32)MIN((u64)UNIT_BYTES, dev->size_bytes - off);
	int err = seen_add(&u->seen, ((u64)device << UNIT_BITS | off / UNIT_BYTES) + 1);
	struct undo_disk_record r = { .device = le32_put(device),
				      .off_bytes = le64_put(off),
				      .len_bytes = le32_put(len) };
	u8 *at = u->buf + u->buf_bytes;

	if (err)
		return err == -EEXIST ? 0 : fail(err, "no memory for an undo file");
	err = blkdev_read(dev, off, at + sizeof(r), len);
	if (err)
		return err;
	r.sum = le32_put(record_sum(&r, at + sizeof(r)));
	memcpy(at, &r, sizeof(r));
	err = add_unit(&u->unit, &u->units, &u->room,
		       &(struct undo_unit){ .device = device, .off_bytes = off, .len_bytes = len });
	u->buf_bytes += sizeof(r) + len;
	if (!err && u->buf_bytes > (BATCH_UNITS - 1) * (UNIT_BYTES + sizeof(r)))
		err = put_batch(u);
	return err;
}

/* What was added to the file is durable. Locks: lock. */
static int end_saving(struct undo *u, int err)
{
	if (!err)
		err = put_batch(u);
	if (!err && fdatasync(u->fd))
		err = file_failed(u->file, "written");
	u->err = err;
	return err;
}

int undo_keep(struct undo *u, struct blkdev *dev, u32 device, u64 off, u64 len)
{
	u64 units;
	int err;

	mutex_guard(&u->lock);
	units = u->units;
	err = u->err;
	for (u64 at = ALIGN_DOWN(off, (u64)UNIT_BYTES); at < off + len && !err; at += UNIT_BYTES)
		err = save_unit(u, dev, device, at);
	return err || u->units > units ? end_saving(u, err) : 0;
}

int undo_save(struct undo *u, struct blkdev **snap, struct blkdev **devs, u32 n)
{
	int err;

	mutex_guard(&u->lock);
	err = u->err;
	for (u32 i = 0; i < n && !err; i++)
		for (u64 at = 0; !err && (at = dev_snap_next(snap[i], at)) < devs[i]->size_bytes;
		     at += UNIT_BYTES)
			err = save_unit(u, devs[i], i, at);
	return end_saving(u, err);
}

int undo_finish(struct undo *u, struct blkdev **devs)
{
	struct undo_disk_record r = { .device = le32_put(TRAILER), .off_bytes = le64_put(u->units) };
	struct undo_disk_end end = { .trailer_bytes = le64_put(u->at_bytes) };
	le32 *sum = calloc(u->units + 1, sizeof(*sum));
	int err = sum ? 0 : fail(-ENOMEM, "no memory for an undo file");

	for (u64 i = 0; i < u->units && !err; i++) {
		const struct undo_unit *unit = &u->unit[i];

		err = blkdev_read(devs[unit->device], unit->off_bytes, u->buf, unit->len_bytes);
		if (!err)
			sum[i] = le32_put(crc32c(~0u, u->buf, unit->len_bytes));
	}
	if (!err && u->units > UINT32_MAX / sizeof(*sum))
		err = fail(-EFBIG, "too much was changed for one undo file");
	if (!err) {
		r.len_bytes = le32_put((u32)(u->units * sizeof(*sum)));
		r.sum = le32_put(record_sum(&r, sum));
		memcpy(end.magic, end_magic, sizeof(end.magic));
		err = put(u, &r, sizeof(r));
	}
	if (!err)
		err = put(u, sum, u->units * sizeof(*sum));
	if (!err)
		err = put(u, &end, sizeof(end));
	if (!err && fsync(u->fd))
		err = file_failed(u->file, "written");
	free(sum);
	return err;
}

void undo_close(struct undo *u)
{
	if (!u)
		return;
	if (u->fd >= 0)
		close(u->fd);
	mutex_fini(&u->lock);
	seen_free(&u->seen);
	free(u->unit);
	free(u->buf);
	free(u->file);
	free(u);
}

/* ---- reading one ---- */

static int broken(const char *file, const char *what)
{
	return fail(-EBADMSG, "%s: %s", file, what);
}

/* All of it, else -ENODATA. */
static int get(int fd, const char *file, u64 at, void *p, u64 len)
{
	u8 *to = p;

	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_failed(file, "read");
		if (!n)
			return -ENODATA;
		to += n;
		at += (u64)n;
		len -= (u64)n;
	}
	return 0;
}

static int read_devices(struct undo_plan *p, const char *file, const u8 *body, u64 len)
{
	for (u32 i = 0; i < p->devices; i++) {
		struct undo_disk_device d;
		u32 name;

		if (len < sizeof(d))
			return broken(file, "its head makes no sense");
		memcpy(&d, body, sizeof(d));
		name = le32_get(d.name_bytes);
		if (name > len - sizeof(d))
			return broken(file, "its head makes no sense");
		p->size_bytes[i] = le64_get(d.size_bytes);
		p->name[i] = strndup((const char *)body + sizeof(d), name);
		if (!p->name[i])
			return fail(-ENOMEM, "no memory for %s", file);
		body += sizeof(d) + name;
		len -= sizeof(d) + name;
	}
	return len ? broken(file, "its head makes no sense") : 0;
}

static int read_head(struct undo_plan *p, const char *file, u64 *at)
{
	struct undo_disk_head h;
	scoped(freep) u8 *body = NULL;
	u32 len, sum;
	int err = get(p->fd, file, 0, &h, sizeof(h));

	if (err == -ENODATA || (!err && memcmp(h.magic, head_magic, sizeof(h.magic)) != 0))
		return broken(file, "this is no undo file");
	if (err)
		return err;
	len = le32_get(h.body_bytes);
	p->devices = le32_get(h.devices);
	if (le32_get(h.version) != VERSION)
		return fail(-EOPNOTSUPP, "%s: undo files of version %u are not known", file,
			    le32_get(h.version));
	if (!p->devices || p->devices > UNDO_DEVICES_MAX || len > BODY_MAX) {
		p->devices = 0;
		return broken(file, "its head makes no sense");
	}
	body = malloc(len + 1ul);
	if (!body)
		return fail(-ENOMEM, "no memory for %s", file);
	err = get(p->fd, file, sizeof(h), body, len);
	sum = crc32c(~0u, &h, offsetof(struct undo_disk_head, sum));
	if (err == -ENODATA || (!err && crc32c(sum, body, len) != le32_get(h.sum)))
		return broken(file, "its head is damaged");
	*at = sizeof(h) + len;
	return err ? err : read_devices(p, file, body, len);
}

/* Where the trailer begins; 0: there is none. */
static u64 trailer_at(const struct undo_plan *p, const char *file, u64 size)
{
	struct undo_disk_end end;

	if (size < sizeof(end) || get(p->fd, file, size - sizeof(end), &end, sizeof(end)) ||
	    memcmp(end.magic, end_magic, sizeof(end.magic)) != 0)
		return 0;
	return MIN(le64_get(end.trailer_bytes), size);
}

/* The record at `at`. -ENODATA: it is incomplete or damaged. */
static int read_record(struct undo_plan *p, const char *file, u64 at, u64 *room, u8 *buf, u64 *len)
{
	struct undo_disk_record r;
	struct undo_unit unit;
	int err = get(p->fd, file, at, &r, sizeof(r));

	if (err)
		return err;
	unit = (struct undo_unit){ .device = le32_get(r.device),
				   .off_bytes = le64_get(r.off_bytes),
				   .at_bytes = at + sizeof(r),
				   .len_bytes = le32_get(r.len_bytes) };
	if (!unit.len_bytes || unit.len_bytes > UNIT_BYTES || unit.device >= p->devices)
		return -ENODATA;
	err = get(p->fd, file, unit.at_bytes, buf, unit.len_bytes);
	if (err)
		return err;
	if (record_sum(&r, buf) != le32_get(r.sum) || unit.off_bytes > p->size_bytes[unit.device] ||
	    unit.len_bytes > p->size_bytes[unit.device] - unit.off_bytes)
		return -ENODATA;
	*len = sizeof(r) + unit.len_bytes;
	return add_unit(&p->unit, &p->units, room, &unit);
}

static int read_trailer(struct undo_plan *p, const char *file, u64 at)
{
	scoped(freep) le32 *sum = calloc(p->units + 1, sizeof(*sum));
	struct undo_disk_record r;
	u64 len = p->units * sizeof(*sum);
	int err = sum ? get(p->fd, file, at, &r, sizeof(r)) : fail(-ENOMEM, "no memory for %s", file);

	if (!err)
		err = le32_get(r.device) == TRAILER && le64_get(r.off_bytes) == p->units &&
				      le32_get(r.len_bytes) == len
			      ? get(p->fd, file, at + sizeof(r), sum, len)
			      : -ENODATA;
	if (err == -ENODATA || (!err && record_sum(&r, sum) != le32_get(r.sum)))
		return broken(file, "its end is damaged");
	for (u64 i = 0; i < p->units && !err; i++)
		p->unit[i].left_sum = le32_get(sum[i]);
	return err;
}

static int read_records(struct undo_plan *p, const char *file, u64 at, u64 size)
{
	u64 end = trailer_at(p, file, size), room = 0, len;
	u8 buf[UNIT_BYTES];
	int err = 0;

	p->finished = end;
	while (!err && at < (end ? end : size)) {
		err = read_record(p, file, at, &room, buf, &len);
		at += err ? 0 : len;
	}
	if (err == -ENODATA && end)
		return fail(-EBADMSG, "%s is damaged at byte %llu", file, (unsigned long long)at);
	if (err == -ENODATA)
		err = 0;
	return err || !end ? err : read_trailer(p, file, end);
}

int undo_read(const char *file, struct undo_plan *out)
{
	struct stat st;
	u64 at = 0;
	int err;

	*out = (struct undo_plan){ .fd = open(file, O_RDONLY | O_CLOEXEC) };
	if (out->fd < 0 || fstat(out->fd, &st))
		err = file_failed(file, "opened");
	else
		err = S_ISREG(st.st_mode) ? read_head(out, file, &at) : broken(file, "this is no undo file");
	if (!err)
		err = read_records(out, file, at, (u64)st.st_size);
	if (err)
		undo_forget(out);
	return err;
}

void undo_forget(struct undo_plan *p)
{
	if (p->fd >= 0)
		close(p->fd);
	for (u32 i = 0; i < p->devices; i++)
		free(p->name[i]);
	free(p->unit);
	*p = (struct undo_plan){ .fd = -1 };
}

/* ---- putting back ---- */

static int get_old(const struct undo_plan *p, const struct undo_unit *unit, u8 *buf)
{
	int err = get(p->fd, "", unit->at_bytes, buf, unit->len_bytes);

	return err == -ENODATA ? fail(-EIO, "the undo file got shorter meanwhile") : err;
}

int undo_changed(const struct undo_plan *p, struct blkdev **devs, u64 *units)
{
	u8 buf[UNIT_BYTES], old[UNIT_BYTES];
	int err = 0;

	*units = 0;
	for (u64 i = 0; i < p->units && !err; i++) {
		const struct undo_unit *unit = &p->unit[i];

		err = blkdev_read(devs[unit->device], unit->off_bytes, buf, unit->len_bytes);
		if (err || crc32c(~0u, buf, unit->len_bytes) == unit->left_sum)
			continue;
		err = get_old(p, unit, old);
		*units += !err && memcmp(buf, old, unit->len_bytes) != 0;
	}
	return err;
}

int undo_apply(const struct undo_plan *p, struct blkdev **devs)
{
	u8 *buf = os_alloc_aligned(UNIT_BYTES, UNIT_BYTES);
	int err = buf ? 0 : fail(-ENOMEM, "no memory for an undo file");

	for (u64 i = 0; i < p->units && !err; i++) {
		const struct undo_unit *unit = &p->unit[i];

		err = get_old(p, unit, buf);
		if (!err)
			err = blkdev_write(devs[unit->device], unit->off_bytes, buf, unit->len_bytes, 0);
	}
	for (u32 i = 0; i < p->devices && !err; i++)
		err = blkdev_flush(devs[i]);
	free(buf);
	return err;
}
