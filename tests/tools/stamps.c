/*
 * stamps --target TREE [--seconds N] [--seed N]
 *
 * Nobody ever reads what belongs to another file. Each sector of a file carries that file's stamp. Files of the first
 * kind are written, appended to, truncated, punched and zeroed by threads at once, while a second kind eats every block
 * that becomes free, and gives it back; readers look at all of them. A sector is zeros, or of its own file; a sector
 * that is in part another's is a fault. TREE as for the model; better a small one.
 */
#include "support/fsapi.h"

#include "lib/os.h"
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define SHARED 3u         /* files that many threads change */
#define EATERS 2u         /* files that eat what is free */
#define SPAN   (4u << 20) /* of a shared file */
#define CHUNK  (256u << 10)

static struct fs *fs;
static _Atomic bool stop;
static _Atomic u64 looked, changed;
static u64 base_seed;

struct thread {
	pthread_t id;
	u32 file;
	void (*step)(struct thread *t, struct fs_file *f);
	u64 rnd;
	u8 *buf;
};

static u64 rnd(struct thread *t, u64 below)
{
	t->rnd = t->rnd * 6364136223846793005ull + 1442695040888963407ull;
	return (t->rnd >> 20) % below;
}

static void wrong(u32 file, u64 at, const u8 *sector)
{
	if (atomic_exchange(&stop, true))
		return;
	printf("# file %u at byte %llu: %02x %02x %02x … %02x\n", file, (unsigned long long)at, sector[0],
	       sector[1], sector[2], sector[SECTOR - 1]);
}

static u8 stamp_of(u32 file)
{
	return (u8)(0x11 * (file + 1));
}

/* What a write that is under way has reached of a sector may differ from the rest, by zeros only. */
static void check(u32 file, u64 off, const u8 *p, u64 len)
{
	u8 stamp = stamp_of(file);

	for (u64 i = 0; i < len; i++)
		if (p[i] && p[i] != stamp) {
			u64 at = ALIGN_DOWN(i, (u64)SECTOR);

			wrong(file, off + at, p + at);
			return;
		}
	atomic_fetch_add(&looked, len);
}

static void fine(int err, const char *what, u32 file)
{
	if (!err || err == -ENOSPC || err == -EOPNOTSUPP)
		return;
	if (!atomic_exchange(&stop, true))
		printf("# %s of file %u: %s\n", what, file, strerror(-err));
}

static void change(struct thread *t, struct fs_file *f)
{
	u64 off = rnd(t, SPAN), len = rnd(t, rnd(t, 2) ? 9000 : CHUNK) + 1, done;
	struct fs_stat st;

	atomic_fetch_add(&changed, 1);
	if (rnd(t, 2))
		off = ALIGN_DOWN(off, 4096ull);
	if (rnd(t, 3) == 0 && !FS_CALL(fs, fstat, f, &st))
		off = MIN(st.size, (u64)SPAN);
	switch (rnd(t, 8)) {
	case 0:
		fine(FS_CALL(fs, ftruncate, f, rnd(t, 3) ? off : 0), "truncate", t->file);
		break;
	case 1:
		fine(FS_CALL(fs, fallocate, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), "punch",
		     t->file);
		break;
	case 2:
		fine(FS_CALL(fs, fallocate, f, rnd(t, 2) ? FALLOC_FL_ZERO_RANGE : 0, off, len), "fallocate",
		     t->file);
		break;
	default:
		memset(t->buf, stamp_of(t->file), len);
		fine(FS_CALL(fs, pwrite, f, off, t->buf, len, &done), "write", t->file);
	}
}

/* Takes all that is free, looks at it, and gives it back. */
static void eat(struct thread *t, struct fs_file *f)
{
	u64 off = 0, done = 0;
	int err = 0;

	memset(t->buf, stamp_of(t->file), CHUNK);
	while (!err && !atomic_load(&stop) && off < (1ull << 30)) {
		err = FS_CALL(fs, pwrite, f, off, t->buf, rnd(t, CHUNK) + 1, &done);
		off += err ? 0 : done;
	}
	fine(err, "write", t->file);
	for (u64 at = 0; at < off && !atomic_load(&stop); at += done) {
		err = FS_CALL(fs, pread, f, at, t->buf, CHUNK, &done);
		fine(err, "read", t->file);
		if (err || !done)
			break;
		check(t->file, at, t->buf, done);
	}
	fine(FS_CALL(fs, ftruncate, f, 0), "truncate", t->file);
}

static void look(struct thread *t, struct fs_file *f)
{
	u64 off = rnd(t, SPAN), done = 0;
	int err = FS_CALL(fs, pread, f, off, t->buf, rnd(t, CHUNK) + 1, &done);

	fine(err, "read", t->file);
	if (!err)
		check(t->file, off, t->buf, done);
}

static void *work(void *arg)
{
	struct thread *t = arg;
	char name[16];

	snprintf(name, sizeof(name), "stamps.%u", t->file);
	while (!atomic_load(&stop)) {
		struct fs_file f;
		int err = fs_open(fs, name, O_RDWR | O_CREAT, 0644, &f);

		fine(err, "open", t->file);
		for (u32 i = 0; i < 50 && !err && !atomic_load(&stop); i++)
			t->step(t, &f);
		if (!err)
			fs_close(fs, &f);
		if (err == -ENOSPC)
			os_wait(&(_Atomic u32){ 0 }, 0, 10);
	}
	return NULL;
}

static void start(struct thread *t, u32 n, u32 file, void (*step)(struct thread *, struct fs_file *))
{
	t->file = file;
	t->step = step;
	t->rnd = (base_seed + n) * 0x9e3779b97f4a7c15ull + 1;
	t->buf = malloc(CHUNK);
	if (!t->buf || pthread_create(&t->id, NULL, work, t))
		abort();
}

/* Everything as it lies on the disk, after all. */
static void look_at_all(void)
{
	u8 *buf = malloc(CHUNK);

	FS_CALL(fs, forget);
	for (u32 file = 0; buf && file < SHARED + EATERS; file++) {
		struct fs_file f;
		char name[16];
		u64 done;

		snprintf(name, sizeof(name), "stamps.%u", file);
		if (fs_open(fs, name, O_RDONLY, 0, &f))
			continue;
		for (u64 at = 0; !FS_CALL(fs, pread, &f, at, buf, CHUNK, &done) && done; at += done)
			check(file, at, buf, done);
		fs_close(fs, &f);
	}
	free(buf);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "target", required_argument, NULL, 't' },
						 { "seed", required_argument, NULL, 's' },
						 { "seconds", required_argument, NULL, 'n' },
						 { NULL, 0, NULL, 0 } };
	struct thread threads[3 * SHARED + EATERS];
	u32 seconds = 5, n = 0;
	const char *target = NULL;
	bool ok;
	int opt;

	base_seed = os_monotonic_ns() % 1000000;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 't')
			target = optarg;
		else if (opt == 's')
			base_seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			seconds = (u32)atoi(optarg);
		else
			return 64;
	}
	fs = target ? fs_by_name(target) : NULL;
	if (!fs || fs_plant_env_fault(fs))
		return 64;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (u32 i = 0; i < SHARED; i++) {
		start(&threads[n], n, i, change);
		n++;
		start(&threads[n], n, i, change);
		n++;
		start(&threads[n], n, i, look);
		n++;
	}
	for (u32 i = 0; i < EATERS; i++, n++)
		start(&threads[n], n, SHARED + i, eat);
	for (u32 i = 0; i < seconds * 10 && !atomic_load(&stop); i++)
		usleep(100000);
	ok = !atomic_exchange(&stop, true);
	for (u32 i = 0; i < n; i++) {
		pthread_join(threads[i].id, NULL);
		free(threads[i].buf);
	}
	atomic_store(&stop, false);
	if (ok)
		look_at_all();
	ok &= !atomic_load(&stop);
	printf("%s - stamps: seed %llu, %llu changes, %llu MiB looked at\n", ok ? "ok" : "not ok",
	       (unsigned long long)base_seed, (unsigned long long)changed,
	       (unsigned long long)(looked >> 20));
	fs_free(fs);
	return !ok;
}
