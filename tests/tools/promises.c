/*
 * promises IMAGE SEED OPS CUTS [no-flush]
 *
 * Threads change the same few files at once, by writes that are answered early among others, and make them durable by fsync and sync. Then the
 * power is cut off at moments all over that, and part of what no flush had covered is lost. After each cut our own mount and e2fsck find
 * nothing to mend, and each file has what it had when the last fsync of it that had returned was asked for, or what was written since.
 *
 * What is done at the same time to one file is known, since each change of it begins when the last one was answered; nothing waits for an
 * fsync. IMAGE is read, and left as it is; IMAGE.cut is a volume after a cut. Exit code 0: all promises were kept. no-flush: flushes are
 * taken to do nothing, and somebody has to notice.
 */
#include "ext4/ext4.h"
#include "support/programs.h"
#include "vfs/vfs.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS     6u
#define THREADS   4u
#define FILE_MAX  (700u << 10)
#define FSCK_EACH 4u
#define TOLD_MAX  8u
#define SAME_MIN  16u /* bytes that are not alike by chance */
#define BLOCK_MIN 1024u

/* Bytes from `seed` at [off, end), or zeros; the file ends at size afterwards, which was `before`. */
struct op {
	u64 off, end, seed; /* seed 0: zeros */
	u64 before, size;
	u64 since; /* how many records there were when it began */
	u8 *bytes; /* not NULL: the file is these, size of them */
};

struct promise {
	u64 record;
	u32 slot, version;
};

struct slot {
	pthread_mutex_t change; /* one change at a time, until it is answered */
	pthread_mutex_t look;
	struct inode *inode; /* [look] */
	u32 acked;           /* [look] operations */
	bool renamed;        /* [look] a name changed since it was durable */
	u64 size;            /* [change] */
	u64 since;           /* [change] records when the change began */
	struct op *op;       /* [change] */
	u32 ops, room;
	u8 *base;    /* what it has at version `reached` */
	u32 reached; /* of what is checked */
};

static struct slot slot[SLOTS];
static struct promise *promise;
static u32 promises, promises_room;
static pthread_mutex_t promise_lock = PTHREAD_MUTEX_INITIALIZER;
static struct super_block *sb;
static struct blkdev *disk;
static struct inode *root;
static _Atomic u32 failures, answered, refused;
static u32 ops_each;
static u64 first_seed;
static const char *path;
static bool no_flush;
static bool *lost; /* of records, at the cut */

struct worker {
	u64 seed;
	u32 id;
	u8 *buf;
	pthread_t thread;
};

static u64 next(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static u32 below(struct worker *w, u32 n)
{
	return (u32)(next(&w->seed) >> 11) % n;
}

static void wrong(const char *what, u32 s, int err)
{
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "%s of slot %u: %s (%s)\n", what, s, err_name(err), err_text());
}

static u8 byte_of(u64 seed, u64 at)
{
	u64 x = (seed ^ at / 8) * 0x9e3779b97f4a7c15ull;

	return seed ? (u8)((x ^ x >> 29) >> 8 * (at % 8)) | 1 : 0;
}

/* ---- what is known ---- */

static void begin(struct slot *s)
{
	pthread_mutex_lock(&s->change);
	s->since = dev_fault_records(disk);
}

/* Locks: change. */
static void note(struct slot *s, struct op op)
{
	if (s->ops == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->op = realloc(s->op, s->room * sizeof(*s->op));
		if (!s->op)
			abort();
	}
	op.before = s->size;
	op.since = s->since;
	s->size = op.size;
	s->op[s->ops++] = op;
}

static void acked(struct slot *s)
{
	pthread_mutex_lock(&s->look);
	s->acked = s->ops;
	pthread_mutex_unlock(&s->look);
}

/* Something was made in part: what there is now counts. Locks: change. */
static void settle(struct slot *s)
{
	u8 *bytes = malloc(FILE_MAX);
	u64 done = 0;

	if (!bytes || vfs_read(s->inode, 0, bytes, FILE_MAX, &done))
		abort();
	note(s, (struct op){ .size = done, .bytes = bytes });
	atomic_fetch_add(&refused, 1);
	err_clear();
}

static void done_with(struct slot *s, u32 nr, int err, const char *what)
{
	if (err == -ENOSPC || err == -EDQUOT)
		settle(s);
	else if (err && err != -EOPNOTSUPP)
		wrong(what, nr, err);
	else if (err)
		settle(s);
	acked(s);
	pthread_mutex_unlock(&s->change);
}

static void promised(u32 nr, u32 version)
{
	pthread_mutex_lock(&promise_lock);
	if (promises == promises_room) {
		promises_room = promises_room ? 2 * promises_room : 256;
		promise = realloc(promise, promises_room * sizeof(*promise));
		if (!promise)
			abort();
	}
	promise[promises++] = (struct promise){ dev_fault_records(disk), nr, version };
	pthread_mutex_unlock(&promise_lock);
}

/* ---- what threads do ---- */

struct answer {
	struct write_answer vfs;
	struct slot *s;
};

static void give(struct write_answer *answer, u64 done)
{
	struct slot *s = container_of(answer, struct answer, vfs)->s;

	(void)done;
	atomic_fetch_add(&answered, 1);
	acked(s);
	pthread_mutex_unlock(&s->change);
}

static void put(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	struct answer a = { .vfs.give = give, .s = s };
	struct inode *inode;
	u64 off, len, seed = next(&w->seed) | 1, done = 0;
	int err;

	begin(s);
	off = below(w, 3) ? s->size : below(w, (u32)s->size + 9000);
	len = below(w, 2) ? 1 + below(w, 6000) : below(w, 3) ? (128u << 10) : 1 + below(w, 200000);
	off = below(w, 2) ? off : ALIGN_UP(off, (u64)sb->block_bytes);
	if (off + len > FILE_MAX) {
		pthread_mutex_unlock(&s->change);
		return;
	}
	for (u64 i = 0; i < len; i++)
		w->buf[i] = byte_of(seed, off + i);
	note(s, (struct op){ .off = off, .end = off + len, .seed = seed, .size = MAX(s->size, off + len) });
	inode = vfs_igrab(s->inode);
	err = vfs_write_answered(inode, off, w->buf, len, below(w, 20) ? 0 : WRITE_SYNC, &a.vfs, &done);
	vfs_iput(inode);
	if (a.vfs.given)
		return;
	done_with(s, nr, !err && done < len ? -ENOSPC : err, "write");
}

static void cut(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	u64 to, end;

	begin(s);
	to = below(w, 3) ? below(w, (u32)s->size + 1) : below(w, FILE_MAX / 2);
	to = below(w, 8) ? to : 0;
	end = MAX(to, s->size);
	note(s, (struct op){ .off = MIN(to, s->size), .end = end, .size = to });
	done_with(s, nr, vfs_truncate(s->inode, to), "truncate");
}

static void punch(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	u64 off, end;

	begin(s);
	off = below(w, (u32)s->size + 1);
	end = MIN(off + 1 + below(w, 60000), s->size);
	if (end <= off) {
		pthread_mutex_unlock(&s->change);
		return;
	}
	note(s, (struct op){ .off = off, .end = end, .size = s->size });
	done_with(s, nr,
		  vfs_fallocate(s->inode,
				(below(w, 2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) |
					FALLOC_FL_KEEP_SIZE,
				off, end - off),
		  "punch");
}

static void reserve(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	u64 off, len = 1 + below(w, 100000);
	bool keep = below(w, 2);

	begin(s);
	off = below(w, (u32)MIN(s->size + 4000, FILE_MAX - 1ull));
	len = MIN(len, FILE_MAX - off);
	note(s, (struct op){ .off = s->size,
			     .end = keep ? s->size : MAX(s->size, off + len),
			     .size = keep ? s->size : MAX(s->size, off + len) });
	done_with(s, nr, vfs_fallocate(s->inode, keep ? FALLOC_FL_KEEP_SIZE : 0, off, len), "fallocate");
}

static void copy(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr], *from = &slot[below(w, SLOTS)];
	struct inode *in;
	u64 done, off;
	int err;

	pthread_mutex_lock(&from->look);
	in = vfs_igrab(from->inode);
	pthread_mutex_unlock(&from->look);
	begin(s);
	off = below(w, (u32)s->size + 4000);
	if (s != from && off < FILE_MAX / 2) {
		err = vfs_copy_range(in, below(w, 50000), s->inode, off, below(w, 300000), &done);
		settle(s);
		done_with(s, nr, err == -ENOSPC || err == -EDQUOT ? 0 : err, "copy");
	} else {
		pthread_mutex_unlock(&s->change);
	}
	vfs_iput(in);
}

static void make_durable(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	struct inode *inode;
	u32 version;
	bool data_only;
	int err;

	pthread_mutex_lock(&s->look);
	version = s->acked;
	inode = vfs_igrab(s->inode);
	data_only = !s->renamed && below(w, 2);
	pthread_mutex_unlock(&s->look);
	err = vfs_fsync(inode, data_only);
	vfs_iput(inode);
	if (err)
		wrong("fsync", nr, err);
	else
		promised(nr, version);
}

static void make_all_durable(void)
{
	u32 version[SLOTS];
	int err;

	for (u32 i = 0; i < SLOTS; i++) {
		pthread_mutex_lock(&slot[i].look);
		version[i] = slot[i].acked;
		pthread_mutex_unlock(&slot[i].look);
	}
	err = vfs_sync(sb);
	if (err)
		wrong("sync", 0, err);
	for (u32 i = 0; i < SLOTS && !err; i++)
		promised(i, version[i]);
}

/* Another file comes to be at the slot's name. */
static void replace(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	const struct cred cred = { .uid = 1000 + below(w, 3), .gid = 2000 };
	char from[16], to[16];
	struct inode *inode, *old;
	u64 len = below(w, 9000), seed = next(&w->seed) | 1, done = 0;
	int err;

	snprintf(from, sizeof(from), "t%u.%u", nr, w->id);
	snprintf(to, sizeof(to), "s%u", nr);
	begin(s);
	err = vfs_create(root, &NAME(from), S_IFREG | 0644, 0, 0, NULL, &cred, &inode);
	if (err) {
		done_with(s, nr, err, "create");
		return;
	}
	for (u64 i = 0; i < len; i++)
		w->buf[i] = byte_of(seed, i);
	err = vfs_write(inode, 0, w->buf, len, 0, &done);
	if (!err && done == len && below(w, 2))
		err = vfs_fsync(inode, false);
	if (err || done < len) {
		if (vfs_unlink(root, &NAME(from)))
			wrong("unlink", nr, -EIO);
		vfs_iput(inode);
		done_with(s, nr, err ? err : -ENOSPC, "a new file");
		return;
	}
	note(s, (struct op){ .off = 0, .end = s->size, .size = 0 });
	note(s, (struct op){ .off = 0, .end = len, .seed = seed, .size = len });
	err = vfs_rename(root, &NAME(from), root, &NAME(to), 0);
	pthread_mutex_lock(&s->look);
	old = s->inode;
	s->inode = inode;
	s->acked = s->ops;
	s->renamed = true;
	pthread_mutex_unlock(&s->look);
	if (err)
		wrong("rename", nr, err);
	vfs_iput(old);
	pthread_mutex_unlock(&s->change);
}

/* What does not change what it holds. */
static void others(struct worker *w, u32 nr)
{
	struct slot *s = &slot[nr];
	struct iattr a = { 0 };
	struct inode *inode;
	char name[16];
	u64 pos = 0, moved;
	int err = 0;

	pthread_mutex_lock(&s->look);
	inode = vfs_igrab(s->inode);
	pthread_mutex_unlock(&s->look);
	snprintf(name, sizeof(name), "l%u.%u", nr, w->id);
	switch (below(w, 7)) {
	case 0:
		a = (struct iattr){ .valid = ATTR_UID | ATTR_GID,
				    .uid = 1000 + below(w, 3),
				    .gid = 2000 + below(w, 3) };
		err = vfs_setattr(inode, &a);
		break;
	case 1:
		a.valid = ATTR_FLAGS;
		/* A rename looks at flags as it comes by. */
		pthread_mutex_lock(&s->change);
		a.flags = inode->flags ^ EXT4_FL_JOURNAL_DATA;
		err = vfs_setattr(inode, &a);
		pthread_mutex_unlock(&s->change);
		break;
	case 2:
		err = vfs_defrag(inode, &pos, &moved);
		break;
	case 3:
		err = vfs_link(inode, root, &NAME(name));
		break;
	case 4:
		err = vfs_unlink(root, &NAME(name));
		break;
	case 5:
		memset(w->buf, 'a' + (int)below(w, 3), 70000);
		err = vfs_setxattr(inode, "user.v", w->buf,
				   below(w, 2) ? 20 + below(w, 300) : 2000 + below(w, 3000), 0);
		break;
	case 6:
		vfs_closed(inode);
		break;
	}
	vfs_iput(inode);
	if (err && err != -ENOENT && err != -EEXIST && err != -ENOSPC && err != -EDQUOT &&
	    err != -EOPNOTSUPP && err != -EPERM && err != -E2BIG)
		wrong("another operation", nr, err);
	err_clear();
}

static void *work(void *arg)
{
	struct worker *w = arg;

	vfs_set_privileged(w->id == 0);
	for (u32 i = 0; i < ops_each; i++) {
		u32 nr = below(w, SLOTS), what = below(w, 100);

		if (what < 40)
			put(w, nr);
		else if (what < 47)
			cut(w, nr);
		else if (what < 51)
			punch(w, nr);
		else if (what < 54)
			reserve(w, nr);
		else if (what < 57)
			copy(w, nr);
		else if (what < 77)
			make_durable(w, nr);
		else if (what < 79)
			make_all_durable();
		else if (what < 84)
			replace(w, nr);
		else
			others(w, nr);
	}
	return NULL;
}

/* ---- after a cut ---- */

/* Brings the model up to version v. */
static void redo(const struct slot *s, u32 from, u32 to, u8 *model)
{
	for (u32 v = from; v < to; v++) {
		const struct op *op = &s->op[v];

		if (op->bytes) {
			memset(model, 0, FILE_MAX);
			memcpy(model, op->bytes, op->size);
		}
		for (u64 i = op->off; i < op->end; i++)
			model[i] = byte_of(op->seed, i);
	}
}

/* Of what may be there at the cut some operation must have made each byte. *bad: one of which that is not so, else size. */
static bool may_be(struct slot *s, u32 from, u64 cut_at, const u8 *got, u64 size, u64 *bad)
{
	static u8 known[FILE_MAX], model[FILE_MAX];
	bool size_ok = from ? s->op[from - 1].size == size : !size;

	redo(s, s->reached, from, s->base);
	s->reached = from;
	memcpy(model, s->base, FILE_MAX);
	for (u64 i = 0; i < size; i++)
		known[i] = model[i] == got[i];
	for (u32 v = from; v < s->ops && s->op[v].since <= cut_at; v++) {
		const struct op *op = &s->op[v];
		u64 off = op->bytes ? 0 : op->off, end = op->bytes ? FILE_MAX : op->end;

		redo(s, v, v + 1, model);
		size_ok = size_ok || op->size == size ||
			  (op->seed && size > op->before && size <= op->size) || op->bytes;
		for (u64 i = off; i < MIN(end, size); i++)
			known[i] |= model[i] == got[i];
	}
	for (*bad = 0; *bad < size && known[*bad];)
		++*bad;
	return *bad == size && size_ok;
}

/* What was done from a promise on. */
static void tell(const struct slot *s, u32 version)
{
	for (u32 v = version ? version - 1 : 0; v < MIN(s->ops, version + TOLD_MAX); v++) {
		const struct op *op = &s->op[v];

		fprintf(stderr, "%u: [%llu, %llu) %s, size %llu, from record %llu on\n", v,
			(unsigned long long)op->off, (unsigned long long)op->end,
			op->bytes  ? "as found"
			: op->seed ? "bytes"
				   : "zeros",
			(unsigned long long)op->size, (unsigned long long)op->since);
	}
}

/* A byte that nobody promised, and those behind it. */
struct stray {
	const u8 *got;
	u64 at, size;
	u64 cut_at;
};

static void tell_whose(const struct stray *st)
{
	for (u32 i = 0; i < SLOTS; i++)
		for (u32 v = 0; v < slot[i].ops; v++) {
			const struct op *op = &slot[i].op[v];
			u64 end = st->at;

			while (op->seed && op->off <= st->at && end < MIN(op->end, st->size) &&
			       st->got[end] == byte_of(op->seed, end))
				end++;
			if (end - st->at >= SAME_MIN)
				fprintf(stderr, "up to %llu they are of version %u of slot %u\n",
					(unsigned long long)end, v + 1, i);
		}
}

/* What went to a place of the device, and what had these bytes. */
static void tell_records(const struct stray *st, u64 off)
{
	for (u64 k = 0; k < st->cut_at; k++) {
		struct fault_record r;
		bool has = false, there;

		if (dev_fault_record(disk, k, &r))
			abort();
		there = r.off_bytes <= off && off < r.off_bytes + r.len_bytes;
		for (u64 i = 0; r.data && i + SAME_MIN <= r.len_bytes; i += BLOCK_MIN)
			has = has || !memcmp((const u8 *)r.data + i, st->got + ALIGN_DOWN(st->at, BLOCK_MIN),
					     SAME_MIN);
		if (has || there)
			fprintf(stderr, "record %llu: %s [%llu, %llu)%s%s%s\n", (unsigned long long)k,
				r.data ? "write" : "no write", (unsigned long long)r.off_bytes,
				(unsigned long long)(r.off_bytes + r.len_bytes), there ? "" : ", elsewhere",
				has ? ", had them" : "", lost[k] ? ", lost" : "");
	}
}

static int tell_place(void *ctx, const struct mapping *m)
{
	const struct stray *st = ctx;

	fprintf(stderr, "[%llu, %llu) lies at %llu (%u)\n", (unsigned long long)m->off_bytes,
		(unsigned long long)(m->off_bytes + m->len_bytes), (unsigned long long)m->dev_off_bytes,
		m->kind);
	if (m->dev && m->off_bytes <= st->at && st->at < m->off_bytes + m->len_bytes)
		tell_records(st, m->dev_off_bytes + (st->at - m->off_bytes));
	return 0;
}

static void tell_stray(struct inode *inode, const u8 *got, u64 at, u64 size, u64 cut_at)
{
	struct stray st = { got, at, size, cut_at };

	if (at == size) {
		fprintf(stderr, "size %llu\n", (unsigned long long)size);
		return;
	}
	fprintf(stderr, "byte %llu of %llu is 0x%02x\n", (unsigned long long)at, (unsigned long long)size,
		got[at]);
	tell_whose(&st);
	if (vfs_extents(inode, 0, size, tell_place, &st))
		err_clear();
}

static void check_slot(struct super_block *after, u32 nr, u32 version, u64 cut_at)
{
	static u8 got[FILE_MAX];
	struct inode *inode;
	char name[16];
	u64 size = 0, bad;
	int err;

	snprintf(name, sizeof(name), "/s%u", nr);
	err = vfs_path(after, NULL, name, false, &inode);
	if (err) {
		wrong("looking up", nr, err);
		return;
	}
	err = vfs_read(inode, 0, got, FILE_MAX, &size);
	if (err)
		wrong("reading", nr, err);
	else if (!may_be(&slot[nr], version, cut_at, got, size, &bad)) {
		atomic_fetch_add(&failures, 1);
		tell(&slot[nr], version);
		tell_stray(inode, got, bad, size, cut_at);
		fprintf(stderr,
			"slot %u after a cut at record %llu is not what was promised (version %u of %u)\n",
			nr, (unsigned long long)cut_at, version, slot[nr].ops);
	}
	vfs_iput(inode);
}

static void write_image(const u8 *image, u64 bytes)
{
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s.cut", path);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, image, bytes) != (ssize_t)bytes)
		abort();
	close(fd);
}

static void fsck(u64 cut_at)
{
	char command[4200], *said;

	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin; e2fsck -fn '%s.cut'", path);
	if (program_run(command, &said)) {
		atomic_fetch_add(&failures, 1);
		fprintf(stderr, "after a cut at record %llu:\n%s", (unsigned long long)cut_at, said);
	}
	free(said);
}

static void check_cut(const u8 *image, u64 bytes, u64 cut_at, u32 nr)
{
	const struct mount_opts opts = { 0 };
	u32 version[SLOTS] = { 0 };
	struct super_block *after;
	struct blkdev *mem;
	u8 *now;
	int err;

	for (u32 i = 0; i < promises; i++)
		if (promise[i].record <= cut_at)
			version[promise[i].slot] = MAX(version[promise[i].slot], promise[i].version);
	if (dev_mem_new("cut", bytes, 512, &mem) || blkdev_write(mem, 0, image, bytes, 0))
		abort();
	err = ext4_fs_type.mount(&mem, 1, &opts, &after);
	if (err || after->rdonly) {
		wrong("mounting", 0, err);
		write_image(image, bytes);
		exit(!no_flush);
	}
	for (u32 i = 0; i < SLOTS; i++)
		check_slot(after, i, version[i], cut_at);
	if (health_state(&after->health) != HEALTH_OK)
		wrong("health", 0, -EUCLEAN);
	err = vfs_unmount(after);
	if (err)
		wrong("unmounting", 0, err);
	if (failures)
		write_image(image, bytes);
	else if (nr % FSCK_EACH == 0) {
		now = malloc(bytes);
		if (!now || blkdev_read(mem, 0, now, bytes))
			abort();
		write_image(now, bytes);
		free(now);
		fsck(cut_at);
	}
	blkdev_put(mem);
}

static void apply(u8 *image, u64 i)
{
	struct fault_record r;

	if (dev_fault_record(disk, i, &r))
		abort();
	if (r.op == FAULT_WRITE)
		memcpy(image + r.off_bytes, r.data, r.len_bytes);
}

/* The records before `cut_at`, of which those that no flush covers are there or not. *covered, in `image`: those that are. */
static void advance(u8 *image, u64 *covered, u64 from, u64 cut_at)
{
	u64 to = *covered;

	for (u64 i = from; i < cut_at; i++) {
		struct fault_record r;

		if (dev_fault_record(disk, i, &r))
			abort();
		if (r.op == FAULT_FLUSH && !no_flush)
			to = MAX(to, r.covers);
	}
	for (; *covered < to; ++*covered)
		apply(image, *covered);
}

static void check_all(u8 *image, u64 bytes, u32 cuts)
{
	u64 all = dev_fault_records(disk), covered = 0, at = 0;
	u8 *torn = malloc(bytes);

	lost = calloc(all + 1, sizeof(lost[0]));
	if (!torn || !lost)
		abort();
	for (u32 i = 0; i < cuts && !failures; i++) {
		u64 cut_at = MAX(at, all * (i + 1) / cuts - next(&first_seed) % MAX(all / cuts, 1ull));
		bool loses = next(&first_seed) >> 13 & 1;

		advance(image, &covered, at, cut_at);
		memset(lost, 0, covered);
		at = cut_at;
		memcpy(torn, image, bytes);
		for (u64 k = covered; k < cut_at; k++) {
			struct fault_record r;

			if (dev_fault_record(disk, k, &r))
				abort();
			lost[k] = loses && !(r.flags & BIO_FUA) && !(next(&first_seed) >> 17 & 1);
			if (!lost[k])
				apply(torn, k);
		}
		check_cut(torn, bytes, cut_at, i);
	}
	free(torn);
	free(lost);
}

/* ---- the run ---- */

static void slot_name(u32 nr, char name[16])
{
	snprintf(name, 16, "/s%u", nr);
}

/* The files, which are there from the beginning, and little room for who owns some of them. */
static void make_slots(void)
{
	const struct cred cred = { .uid = 1000, .gid = 2000 };
	char name[16];

	for (u32 i = 0; i < SLOTS; i++) {
		struct inode *inode;

		slot_name(i, name);
		if (vfs_create(root, &NAME(name + 1), S_IFREG | 0644, 0, 0, NULL, &cred, &inode))
			abort();
		vfs_iput(inode);
	}
	for (u32 id = 1000; id < 1003; id++) {
		const struct quota_set q = { .valid = QUOTA_SET_SPACE_HARD,
					     .id = id,
					     .space_hard_kib = 1200 };

		if (vfs_set_quota(sb, QUOTA_USER, &q))
			err_clear();
	}
}

static void open_slots(void)
{
	char name[16];

	for (u32 i = 0; i < SLOTS; i++) {
		struct slot *s = &slot[i];

		pthread_mutex_init(&s->change, NULL);
		pthread_mutex_init(&s->look, NULL);
		s->base = calloc(1, FILE_MAX);
		slot_name(i, name);
		if (!s->base || vfs_path(sb, NULL, name, false, &s->inode))
			abort();
	}
}

static void free_slots(void)
{
	for (u32 i = 0; i < SLOTS; i++) {
		for (u32 v = 0; v < slot[i].ops; v++)
			free(slot[i].op[v].bytes);
		free(slot[i].op);
		free(slot[i].base);
	}
	free(promise);
}

static void mount_on(struct blkdev *dev)
{
	const struct mount_opts opts = { 0 };
	struct blkdev *devs[] = { dev };

	if (ext4_fs_type.mount(devs, 1, &opts, &sb) || sb->rdonly || vfs_path(sb, NULL, "/", false, &root)) {
		fprintf(stderr, "not mounted: %s\n", err_text());
		exit(2);
	}
}

static void unmount(void)
{
	int err;

	vfs_iput(root);
	err = vfs_unmount(sb);
	if (err)
		wrong("unmounting", 0, err);
}

static void run(u64 seed)
{
	static struct worker w[THREADS];

	for (u32 i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .seed = (seed + i + 1) * 0x9e3779b97f4a7c15ull | 1,
					.id = i,
					.buf = malloc(FILE_MAX) };
		if (!w[i].buf || pthread_create(&w[i].thread, NULL, work, &w[i]))
			abort();
	}
	for (u32 i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		free(w[i].buf);
	}
	for (u32 i = 0; i < SLOTS; i++)
		vfs_iput(slot[i].inode);
}

/* The image, in memory. */
static u8 *load(struct blkdev **mem)
{
	struct blkdev *file;
	u8 *image = NULL;

	if (!dev_file_open(path, DEV_BUFFERED, &file)) {
		image = malloc(file->size_bytes);
		if (!image || blkdev_read(file, 0, image, file->size_bytes) ||
		    dev_mem_new("mem", file->size_bytes, 512, mem) ||
		    blkdev_write(*mem, 0, image, file->size_bytes, 0))
			abort();
		blkdev_put(file);
	}
	return image;
}

int main(int argc, char **argv)
{
	struct blkdev *mem;
	u8 *image;

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: promises IMAGE SEED OPS CUTS [no-flush]\n");
		return 2;
	}
	path = argv[1];
	first_seed = strtoull(argv[2], NULL, 0) * 2 + 1;
	ops_each = (u32)strtoul(argv[3], NULL, 0) / THREADS;
	no_flush = argc == 6;
	image = load(&mem);
	if (!image)
		return 2;
	mount_on(mem);
	make_slots();
	unmount();
	if (blkdev_read(mem, 0, image, mem->size_bytes) || dev_fault_new(mem, true, &disk))
		return 2;
	mount_on(disk);
	open_slots();
	run(first_seed);
	unmount();
	check_all(image, mem->size_bytes, (u32)strtoul(argv[4], NULL, 0));
	printf("%s - promises: %llu records, %u promises, %u answered early, %u refused\n",
	       !failures == no_flush ? "not ok" : "ok", (unsigned long long)dev_fault_records(disk), promises,
	       answered, refused);
	blkdev_put(disk);
	blkdev_put(mem);
	free_slots();
	free(image);
	return !failures == no_flush;
}
