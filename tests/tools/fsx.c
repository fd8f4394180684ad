/*
 * fsx --target TREE [--seed N] [--ops N] [--threads N] [--kib N] [--seconds N]
 *
 * Random changes of one file for each thread, by every call that can change bytes, each followed by a look, against an
 * array in memory. On a mounted tree (dir:PATH) also through shared mappings and O_DIRECT. On the first byte that
 * differs the last changes of its place are told. TREE as for the model; the seed is printed.
 */
#include "support/fsapi.h"

#include "lib/os.h"
#include "lib/text.h"
#include <getopt.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HISTORY 4096u

struct change {
	const char *what;
	u64 off, len;
};

struct run {
	struct fs *fs;
	pthread_t thread;
	u64 rnd;
	u32 number, ops;
	u64 max; /* bytes of the file, at most */
	u8 *want, *got;
	u64 size;
	struct fs_file f;
	char name[16];
	struct change history[HISTORY];
	u32 changes;
	bool failed;
};

static _Atomic bool stop;

static u64 rnd(struct run *r, u64 below)
{
	r->rnd = r->rnd * 6364136223846793005ull + 1442695040888963407ull;
	return (r->rnd >> 20) % below;
}

static bool mounted(const struct run *r)
{
	return r->f.fd >= 0;
}

/* ---- what went wrong ---- */

static void said(struct run *r, const char *what, u64 off, u64 len)
{
	r->history[r->changes++ % HISTORY] = (struct change){ what, off, len };
}

static void wrong(struct run *r, const char *fmt, ...) __printf_like(2, 3);
static void wrong(struct run *r, const char *fmt, ...)
{
	va_list ap;

	if (atomic_exchange(&stop, true))
		return;
	r->failed = true;
	printf("# %s after %u changes: ", r->name, r->changes);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* The changes that met the byte, and those of the whole file. */
static void tell(struct run *r, u64 at)
{
	u32 first = r->changes > HISTORY ? r->changes - HISTORY : 0;

	for (u32 i = first; i < r->changes; i++) {
		const struct change *c = &r->history[i % HISTORY];

		if (c->off <= at && at - c->off < c->len)
			printf("#   %u: %s [%llu, %llu)\n", i, c->what, (unsigned long long)c->off,
			       (unsigned long long)(c->off + c->len));
	}
}

static void must(struct run *r, int err, const char *what)
{
	if (err)
		wrong(r, "%s: %s", what, strerror(-err));
}

static void same(struct run *r, const u8 *got, u64 off, u64 len, const char *how)
{
	for (u64 i = 0; i < len; i++) {
		if (got[i] == r->want[off + i])
			continue;
		wrong(r, "%s: byte %llu of %llu is %#x, not %#x", how, (unsigned long long)(off + i),
		      (unsigned long long)r->size, got[i], r->want[off + i]);
		if (r->failed)
			tell(r, off + i);
		return;
	}
}

/* ---- places ---- */

/* Near the borders of blocks and pages, and near the end, is where mistakes live. */
static u64 place(struct run *r)
{
	u64 at = rnd(r, 3) ? rnd(r, r->max) : r->size ? rnd(r, r->size) : 0;

	switch (rnd(r, 4)) {
	case 0:
		return ALIGN_DOWN(at, 4096ull);
	case 1:
		at = ALIGN_DOWN(at, 4096ull);
		return at ? at - rnd(r, 3) : rnd(r, 3);
	case 2:
		return MIN(r->size, r->max - 1);
	default:
		return at;
	}
}

static u64 length(struct run *r, u64 off)
{
	static const u64 most[] = { 100, 4096, 5000, 20000, 200000 };
	u64 len = rnd(r, most[rnd(r, ARRAY_SIZE(most))]) + 1;

	if (!rnd(r, 4))
		len = ALIGN_UP(len, 4096ull);
	return MIN(len, r->max - off);
}

static void grow(struct run *r, u64 end)
{
	if (end <= r->size)
		return;
	memset(r->want + r->size, 0, end - r->size);
	r->size = end;
}

static void fill(struct run *r, u8 *p, u64 len)
{
	u64 word = rnd(r, ~0ull >> 1);

	for (u64 i = 0; i < len; i++)
		p[i] = (u8)((word >> i % 7) + i / 512);
}

/* ---- changes ---- */

static void do_write(struct run *r)
{
	u64 off = place(r), len = length(r, off);

	fill(r, r->got, len);
	said(r, "write", off, len);
	must(r, fs_write_all(r->fs, &r->f, off, r->got, len), "write");
	grow(r, off + len);
	memcpy(r->want + off, r->got, len);
}

static void do_append(struct run *r)
{
	for (u32 n = (u32)rnd(r, 20); n && r->size < r->max; n--) {
		u64 len = MIN(rnd(r, 700) + 1, r->max - r->size);

		fill(r, r->got, len);
		said(r, "append", r->size, len);
		must(r, fs_write_all(r->fs, &r->f, r->size, r->got, len), "append");
		memcpy(r->want + r->size, r->got, len);
		r->size += len;
	}
}

static void do_truncate(struct run *r)
{
	u64 size = rnd(r, 8) ? place(r) : 0;

	said(r, size < r->size ? "truncate down to" : "truncate up to", size, ~0ull - size);
	must(r, FS_CALL(r->fs, ftruncate, &r->f, size), "truncate");
	grow(r, size);
	r->size = size;
}

static void do_fallocate(struct run *r)
{
	static const struct {
		int mode;
		const char *what;
	} modes[] = { { 0, "fallocate" },
		      { FALLOC_FL_KEEP_SIZE, "fallocate, size kept" },
		      { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch" },
		      { FALLOC_FL_ZERO_RANGE, "zero" },
		      { FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero, size kept" } };
	u32 k = (u32)rnd(r, ARRAY_SIZE(modes));
	u64 off = place(r), len = length(r, off), end = off + len;
	int err = FS_CALL(r->fs, fallocate, &r->f, modes[k].mode, off, len);

	if (err == -EOPNOTSUPP)
		return; /* and nothing has changed */
	said(r, modes[k].what, off, len);
	must(r, err, modes[k].what);
	if (!(modes[k].mode & FALLOC_FL_KEEP_SIZE))
		grow(r, end);
	if (k >= 2 && off < r->size)
		memset(r->want + off, 0, MIN(end, r->size) - off);
}

static void do_copy(struct run *r)
{
	u64 from = r->size ? rnd(r, r->size) : 0, to = place(r), done;
	u64 len = MIN(length(r, to), r->size - from);

	if (!len || (from < to + len && to < from + len))
		return;
	said(r, "copy to", to, len);
	must(r, FS_CALL(r->fs, copy_range, &r->f, from, &r->f, to, len, &done), "copy");
	if (done > len)
		wrong(r, "copy: more than was asked for");
	grow(r, to + done);
	memmove(r->want + to, r->want + from, done);
}

static void do_map(struct run *r)
{
	u64 off = r->size ? rnd(r, r->size) : 0, len = MIN(length(r, off), r->size - off),
	    page = off & ~4095ull;
	u8 *p;

	if (!mounted(r) || !len)
		return;
	p = mmap(NULL, off + len - page, PROT_READ | PROT_WRITE, MAP_SHARED, r->f.fd, (off_t)page);
	if (p == MAP_FAILED) {
		must(r, -errno, "mmap");
		return;
	}
	same(r, p + (off - page), off, len, "mapping");
	if (rnd(r, 2)) {
		said(r, "write by mapping", off, len);
		fill(r, r->got, len);
		memcpy(p + (off - page), r->got, len);
		memcpy(r->want + off, r->got, len);
		if (rnd(r, 2) && msync(p, off + len - page, MS_SYNC) < 0)
			must(r, -errno, "msync");
	}
	munmap(p, off + len - page);
}

static void do_direct(struct run *r)
{
	u64 off = ALIGN_DOWN(place(r), 4096ull), len = ALIGN_UP(length(r, off), 4096ull);
	struct fs_file d;

	if (!mounted(r) || off + len > r->max)
		return;
	/* What was written by mapping or cached must be out before. */
	must(r, FS_CALL(r->fs, fsync, &r->f, true), "fsync");
	must(r, fs_open(r->fs, r->name, O_RDWR | O_DIRECT, 0, &d), "open with O_DIRECT");
	if (atomic_load(&stop))
		return;
	fill(r, r->got, len);
	said(r, "direct write", off, len);
	must(r, fs_write_all(r->fs, &d, off, r->got, len), "direct write");
	fs_close(r->fs, &d);
	grow(r, off + len);
	memcpy(r->want + off, r->got, len);
}

static void do_defrag(struct run *r)
{
	u64 moved;
	int err = FS_CALL(r->fs, defrag, &r->f, &moved);

	if (err != -EOPNOTSUPP && err != -EPERM)
		must(r, err, "defrag");
	if (moved)
		said(r, "defrag", 0, r->size);
}

static void do_reopen(struct run *r)
{
	switch (rnd(r, 4)) {
	case 0:
		fs_close(r->fs, &r->f);
		must(r, fs_open(r->fs, r->name, O_RDWR, 0, &r->f), "open");
		break;
	case 1:
		if (mounted(r) && posix_fadvise(r->f.fd, 0, 0, POSIX_FADV_DONTNEED))
			wrong(r, "fadvise fails");
		break;
	case 2:
		must(r, FS_CALL(r->fs, sync), "sync");
		break;
	default:
		must(r, FS_CALL(r->fs, fsync, &r->f, rnd(r, 2)), "fsync");
	}
}

/* ---- looking ---- */

static void look(struct run *r)
{
	u64 off = place(r), len = rnd(r, 10) ? length(r, off) : r->max - off, done = 0;
	struct fs_stat st;

	must(r, fs_read_all(r->fs, &r->f, off, r->got, len, &done), "read");
	if (done != (off < r->size ? MIN(len, r->size - off) : 0))
		wrong(r, "read at %llu: %llu bytes of a file of %llu", (unsigned long long)off,
		      (unsigned long long)done, (unsigned long long)r->size);
	same(r, r->got, off, done, "read");
	if (rnd(r, 20))
		return;
	must(r, FS_CALL(r->fs, fstat, &r->f, &st), "stat");
	if (st.size != r->size)
		wrong(r, "the size is %llu, not %llu", (unsigned long long)st.size,
		      (unsigned long long)r->size);
}

/* Where there is no data there are zeros. */
static void look_at_holes(struct run *r)
{
	u64 pos = 0;

	while (pos < r->size && !atomic_load(&stop)) {
		u64 data, hole;
		int err = FS_CALL(r->fs, seek, &r->f, pos, SEEK_DATA, &data);

		if (err == -ENXIO)
			data = r->size;
		else
			must(r, err, "SEEK_DATA");
		for (u64 i = pos; i < data; i++)
			if (r->want[i]) {
				wrong(r, "byte %llu lies in a hole", (unsigned long long)i);
				tell(r, i);
				return;
			}
		if (data >= r->size)
			return;
		must(r, FS_CALL(r->fs, seek, &r->f, data, SEEK_HOLE, &hole), "SEEK_HOLE");
		if (hole <= data)
			wrong(r, "SEEK_HOLE stands still");
		pos = hole;
	}
}

static void *work(void *arg)
{
	struct run *r = arg;

	must(r, fs_open(r->fs, r->name, O_RDWR | O_CREAT | O_TRUNC, 0644, &r->f), "create");
	for (u32 i = 0; i < r->ops && !atomic_load(&stop); i++) {
		static void (*const change[])(struct run *) = {
			do_write, do_write, do_append, do_append, do_truncate, do_fallocate,
			do_copy,  do_map,   do_direct, do_reopen, do_defrag,
		};

		change[rnd(r, ARRAY_SIZE(change))](r);
		look(r);
		if (i % 200 == 0)
			look_at_holes(r);
	}
	if (atomic_load(&stop))
		return NULL;
	fs_close(r->fs, &r->f);
	must(r, fs_open(r->fs, r->name, O_RDWR, 0, &r->f), "open");
	for (u32 i = 0; i < 20; i++)
		look(r);
	fs_close(r->fs, &r->f);
	return NULL;
}

static bool run_all(struct fs *fs, u64 seed, u32 ops, u32 threads, u64 max)
{
	struct run *runs = calloc(threads, sizeof(*runs));
	bool ok = true;

	for (u32 i = 0; i < threads; i++) {
		struct run *r = &runs[i];

		r->fs = fs;
		r->number = i;
		r->ops = ops;
		r->max = max;
		r->rnd = (seed + i) * 0x9e3779b97f4a7c15ull + 1;
		r->want = calloc(1, max + 4096);
		r->got = os_alloc_aligned(4096, max + 4096);
		snprintf(r->name, sizeof(r->name), "fsx.%u", i);
		if (!r->want || !r->got || pthread_create(&r->thread, NULL, work, r))
			abort();
	}
	for (u32 i = 0; i < threads; i++) {
		pthread_join(runs[i].thread, NULL);
		ok &= !runs[i].failed;
		free(runs[i].want);
		free(runs[i].got);
	}
	free(runs);
	return ok && !atomic_load(&stop);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "target", required_argument, NULL, 't' },
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'n' },
		{ "threads", required_argument, NULL, 'j' },
		{ "kib", required_argument, NULL, 'k' },
		{ "seconds", required_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 },
	};
	u64 seed = os_monotonic_ns() % 1000000, kib = 600;
	u32 ops = 3000, threads = 1, rounds = 0;
	const char *target = NULL;
	u64 seconds = 0, began;
	struct fs *fs;
	bool ok;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 't')
			target = optarg;
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'n')
			ops = (u32)atoi(optarg);
		else if (opt == 'j')
			threads = (u32)atoi(optarg);
		else if (opt == 'k')
			kib = strtoull(optarg, NULL, 0);
		else if (opt == 'S')
			seconds = strtoull(optarg, NULL, 0);
		else
			return 64;
	}
	fs = target ? fs_by_name(target) : NULL;
	if (!fs || fs_plant_env_fault(fs))
		return 64;
	setvbuf(stdout, NULL, _IOLBF, 0);
	began = os_monotonic_ns();
	/* Round after round, each with the next seed. */
	do
		ok = run_all(fs, seed + rounds, ops, threads, kib << 10);
	while (rounds++, ok && os_monotonic_ns() - began < seconds * 1000000000ull);
	printf("%s - fsx: seed %llu, round %u, %u operations on each of %u files\n", ok ? "ok" : "not ok",
	       (unsigned long long)(seed + rounds - 1), rounds, ops, threads);
	fs_free(fs);
	return !ok;
}
