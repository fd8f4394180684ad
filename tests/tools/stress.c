/*
 * stress SPEC SEED THREADS OPS [full]
 *
 * Threads work at once on one tree (SPEC as in fsapi.h: "vfs:ext4:IMAGE", "dir:PATH"). Each has a directory of its own, of whose files
 * it knows every byte, and all of them meet in one where anything may happen to a name. What a file holds is read back now and then and
 * at the end. Exit code 0: nothing was wrong. full: the volume is too small for all that, and calls that need space may say so;
 * then each byte of the file is what it was or what it was to be.
 */
#include "support/fsapi.h"

#include "lib/err.h"
#include "lib/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES     24u
#define SIZE_MAX_ (300u << 10)
#define SHARED    16u
#define OWNERS    6u

struct own_file {
	bool there;
	u8 *byte; /* SIZE_MAX_ */
	u64 size;
};

struct worker {
	struct fs *fs;
	u32 id, ops;
	u64 seed;
	struct own_file file[FILES];
	u8 *buf, *old;
	pthread_t thread;
};

static _Atomic u32 failures, refused;
static bool may_be_full;

static u64 rnd(struct worker *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static void must(struct worker *w, int err, const char *what, u32 f)
{
	if (!err)
		return;
	atomic_fetch_add(&failures, 1);
	fprintf(stderr, "thread %u: %s of file %u: %s (%s)\n", w->id, what, f, err_name(err), err_text());
}

static const char *own_name(const struct worker *w, u32 f, char *name)
{
	snprintf(name, 64, "own%u/file%u", w->id, f);
	return name;
}

static const char *shared_name(struct worker *w, char *name)
{
	u64 r = rnd(w);

	snprintf(name, 64, r & 1 ? "shared/n%llu" : "shared/d%llu/n", (unsigned long long)(r >> 8) % SHARED);
	return name;
}

/* The same of what needs space. True: there was none. */
static bool no_room(struct worker *w, int err, const char *what, u32 f)
{
	if (may_be_full && err == -ENOSPC) {
		atomic_fetch_add(&refused, 1);
		return true;
	}
	must(w, err, what, f);
	return false;
}

/* ---- a thread's own files ---- */

static void check(struct worker *w, u32 f)
{
	struct own_file *o = &w->file[f];
	struct fs_file in;
	char name[64];
	u64 done = 0;
	int err = fs_open(w->fs, own_name(w, f, name), O_RDONLY, 0, &in);

	if (!o->there) {
		must(w, err == -ENOENT ? 0 : -EEXIST, "absence", f);
		if (!err)
			fs_close(w->fs, &in);
		return;
	}
	must(w, err, "open", f);
	if (err)
		return;
	must(w, fs_read_all(w->fs, &in, 0, w->buf, SIZE_MAX_, &done), "read", f);
	if (done != o->size || memcmp(w->buf, o->byte, done)) {
		atomic_fetch_add(&failures, 1);
		fprintf(stderr, "thread %u: file %u has wrong content (%llu bytes, %llu expected)\n", w->id,
			f, (unsigned long long)done, (unsigned long long)o->size);
	}
	fs_close(w->fs, &in);
}

/* A change to o->byte and o->size, from w->old and `size`, was not made whole: what is there now counts. */
static void settle(struct worker *w, u32 f, u64 size)
{
	struct own_file *o = &w->file[f];
	struct fs_file in;
	char name[64];
	u64 done = 0;
	bool good;
	int err = fs_open(w->fs, own_name(w, f, name), O_RDONLY, 0, &in);

	must(w, err, "open", f);
	if (err)
		return;
	must(w, fs_read_all(w->fs, &in, 0, w->buf, SIZE_MAX_, &done), "read", f);
	fs_close(w->fs, &in);
	good = done >= MIN(size, o->size) && done <= MAX(size, o->size);
	for (u64 i = 0; i < done && good; i++)
		good = w->buf[i] == o->byte[i] || w->buf[i] == (i < size ? w->old[i] : 0);
	if (!good) {
		atomic_fetch_add(&failures, 1);
		fprintf(stderr, "thread %u: file %u has wrong content after -ENOSPC\n", w->id, f);
	}
	memcpy(o->byte, w->buf, done);
	o->size = done;
}

static void write_some(struct worker *w, u32 f)
{
	struct own_file *o = &w->file[f];
	u64 size, off = rnd(w) % (SIZE_MAX_ / 2), len = 1 + rnd(w) % (SIZE_MAX_ / 4);
	struct fs_file out;
	char name[64];
	int err = fs_open(w->fs, own_name(w, f, name), O_RDWR | O_CREAT, 0644, &out);

	if (no_room(w, err, "create", f) || err)
		return;
	if (!o->there)
		o->size = 0;
	size = o->size;
	memcpy(w->old, o->byte, size);
	o->there = true;
	if (rnd(w) % 3 == 0)
		off = o->size % (SIZE_MAX_ / 2);
	memset(o->byte + MIN(o->size, off), 0, off - MIN(o->size, off));
	for (u64 i = 0; i < len; i++)
		o->byte[off + i] = (u8)(w->id + f + (off + i) / 512 + w->ops);
	o->size = MAX(o->size, off + len);
	if (no_room(w, fs_write_all(w->fs, &out, off, o->byte + off, len), "write", f))
		settle(w, f, size);
	if (rnd(w) % 6 == 0)
		must(w, w->fs->ops->fsync(w->fs, &out, rnd(w) & 1), "fsync", f);
	fs_close(w->fs, &out);
}

static void cut(struct worker *w, u32 f)
{
	struct own_file *o = &w->file[f];
	u64 size = rnd(w) % SIZE_MAX_, old = o->size;
	char name[64];

	if (!o->there)
		return;
	memcpy(w->old, o->byte, old);
	if (size > o->size)
		memset(o->byte + o->size, 0, size - o->size);
	o->size = size;
	if (no_room(w, FS_CALL(w->fs, truncate, own_name(w, f, name), size), "truncate", f))
		settle(w, f, old);
}

static void drop(struct worker *w, u32 f)
{
	char name[64];

	if (w->file[f].there)
		must(w, FS_CALL(w->fs, unlink, own_name(w, f, name)), "unlink", f);
	w->file[f].there = false;
}

static void move(struct worker *w, u32 f)
{
	u32 to = (u32)(rnd(w) % FILES);
	struct own_file old = w->file[to];
	char a[64], b[64];

	if (!w->file[f].there || to == f)
		return;
	if (no_room(w, FS_CALL(w->fs, rename, own_name(w, f, a), own_name(w, to, b), 0), "rename", f))
		return;
	w->file[to] = w->file[f];
	w->file[f] = old;
	w->file[f].there = false;
}

/* Others meanwhile take inodes and space for the same ones. */
static u32 owner(struct worker *w)
{
	return 1000 + (u32)(rnd(w) % OWNERS);
}

static void give(struct worker *w, u32 f)
{
	char name[64];
	u32 uid = owner(w), gid = owner(w);

	if (w->file[f].there)
		no_room(w, FS_CALL(w->fs, chown, own_name(w, f, name), uid, gid), "chown", f);
}

/* ---- where all meet ---- */

/* What must not happen whoever else is at work. */
static void race(struct worker *w, int err, const char *what)
{
	if (err && err != -ENOENT && err != -EEXIST && err != -ENOTEMPTY && err != -ENOTDIR &&
	    err != -EISDIR && err != -EINVAL && err != -ELOOP && err != -EMLINK)
		(void)no_room(w, err, what, ~0u);
}

static void meet(struct worker *w)
{
	char a[64], b[64], d[64];
	struct fs_dirent *e;
	u32 n;

	snprintf(d, sizeof(d), "shared/d%llu", (unsigned long long)rnd(w) % SHARED);
	switch (rnd(w) % 9) {
	case 0:
		race(w, FS_CALL(w->fs, mkdir, d, 0755), "mkdir");
		break;
	case 1:
		race(w, FS_CALL(w->fs, rmdir, d), "rmdir");
		break;
	case 2:
		race(w, fs_put(w->fs, shared_name(w, a), w->buf, rnd(w) % 9000), "put");
		break;
	case 3:
		race(w, FS_CALL(w->fs, unlink, shared_name(w, a)), "unlink");
		break;
	case 4:
		race(w, FS_CALL(w->fs, link, shared_name(w, a), shared_name(w, b)), "link");
		break;
	case 5:
		race(w, FS_CALL(w->fs, symlink, "a/target/of/some/length", shared_name(w, a)), "symlink");
		break;
	case 6:
		race(w, FS_CALL(w->fs, rename, shared_name(w, a), shared_name(w, b), 0), "rename");
		break;
	case 7:
		n = owner(w);
		race(w, FS_CALL(w->fs, chown, shared_name(w, a), n, n), "chown");
		break;
	default:
		race(w, fs_list(w->fs, "shared", &e, &n), "list");
		free(e);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (; w->ops; w->ops--) {
		u32 f = (u32)(rnd(w) % FILES), r = (u32)(rnd(w) % 100);

		if (r < 40)
			meet(w);
		else if (r < 70)
			write_some(w, f);
		else if (r < 80)
			drop(w, f);
		else if (r < 87)
			cut(w, f);
		else if (r < 92)
			move(w, f);
		else if (r < 94)
			give(w, f);
		else if (r < 95)
			must(w, FS_CALL(w->fs, sync), "sync", f);
		else
			check(w, f);
	}
	for (u32 f = 0; f < FILES; f++)
		check(w, f);
	return NULL;
}

static bool set_up(struct worker *w, struct fs *fs, u32 id, u64 seed, u32 ops)
{
	char name[64];

	*w = (struct worker){
		.fs = fs, .id = id, .ops = ops, .seed = (seed + id) * 0x9e3779b97f4a7c15ull | 1
	};
	w->buf = malloc(SIZE_MAX_);
	w->old = malloc(SIZE_MAX_);
	for (u32 f = 0; f < FILES; f++) {
		w->file[f].byte = calloc(1, SIZE_MAX_);
		if (!w->file[f].byte)
			return false;
	}
	snprintf(name, sizeof(name), "own%u", id);
	return w->buf && w->old && !FS_CALL(fs, mkdir, name, 0755);
}

int main(int argc, char **argv)
{
	struct worker *w;
	struct fs *fs;
	u32 threads;

	may_be_full = argc == 6 && !strcmp(argv[5], "full");
	if (argc != 5 && !may_be_full) {
		fprintf(stderr, "usage: stress SPEC SEED THREADS OPS [full]\n");
		return 64;
	}
	fs = fs_by_name(argv[1]);
	threads = (u32)strtoul(argv[3], NULL, 0);
	w = calloc(threads, sizeof(*w));
	if (!fs || !w || fs_plant_env_fault(fs) || FS_CALL(fs, mkdir, "shared", 0755))
		return 1;
	for (u32 i = 0; i < threads; i++)
		if (!set_up(&w[i], fs, i, strtoull(argv[2], NULL, 0), (u32)strtoul(argv[4], NULL, 0)))
			return 1;
	/* Each has its directory before the first of them fills the volume. */
	for (u32 i = 0; i < threads; i++)
		if (os_thread(&w[i].thread, "stress", work, &w[i]))
			return 1;
	for (u32 i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		for (u32 f = 0; f < FILES; f++)
			free(w[i].file[f].byte);
		free(w[i].buf);
		free(w[i].old);
	}
	free(w);
	fs_free(fs);
	if (may_be_full)
		printf("# refused for want of space: %u\n", refused);
	printf("%s - stress %s %s\n", failures ? "not ok" : "ok", argv[1], argv[2]);
	return failures ? 1 : 0;
}
