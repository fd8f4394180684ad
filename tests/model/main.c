/*
 * model --target TREE --oracle dir:PATH [--seed N] [--ops N] [--runs N] [--values BYTES]
 *
 * Runs `runs` sequences of `ops` operations with the seeds from N on (default: from the clock). A sequence whose
 * sides differ is cut down to what is needed to make them differ and printed with its seed; exit code 1.
 * --values: so long are some attributes' values at most, at most 65536. TREE is "vfs:TYPE" or "dir:PATH". FS_FAULT plants a fault in the target.
 */
#include "model/model.h"

#include "lib/err.h"
#include "lib/os.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#define WORK       "model.d"
#define TREE_EVERY 400u /* operations between two comparisons of the whole tree */
#define SHRINK_NS  (40ull * 1000000000)

static struct side sides[2];
/* It moves fewer times, and where its holes end depends on its large pages. */
static bool oracle_is_tmpfs;
/* Blocks of the two differ in length, and with them where holes end. */
static bool other_blocks;
/* Files have no unwritten blocks (ext3): the kernel refuses to allocate only after it has moved the times. */
static bool no_unwritten;
static u32 value_max;

static void must(int err, const char *what)
{
	if (!err)
		return;
	printf("# %s: %s\nnot ok - model\n", what, strerror(-err));
	exit(1);
}

static void probe_unwritten(struct fs *fs)
{
	struct fs_file f;

	must(fs_open(fs, "probe", O_RDWR | O_CREAT, 0600, &f), "creating a file");
	no_unwritten = FS_CALL(fs, fallocate, &f, 0, 0, 1) == -EOPNOTSUPP;
	fs_close(fs, &f);
	must(FS_CALL(fs, unlink, "probe"), "unlink");
}

/* Empty trees on both sides. */
static void begin(void)
{
	for (u32 s = 0; s < 2; s++) {
		struct fs *fs = sides[s].fs;

		side_close_all(&sides[s]);
		must(FS_CALL(fs, enter, NULL), "entering the root");
		must(fs_clear(fs, ""), "clearing the tree");
		probe_unwritten(fs);
		must(FS_CALL(fs, mkdir, WORK, 0755), "mkdir");
		must(FS_CALL(fs, enter, WORK), "entering");
	}
}

/*
 * What is left out, since its meaning is not agreed: opening a fifo, socket or device; seeking in a directory.
 * Punching exactly up to the end of file, after which ext4 keeps the last block; beyond it in a file of block pointers, which the kernel
 * measures by what one of extents can be. RENAME_WHITEOUT over a file, since ext4 moves times even when it refuses that. Set-id
 * bits of files, which go in more cases behind FUSE, where root cannot be told from others.
 */
static bool left_out(const struct op *op)
{
	struct slot *slot = &sides[0].slot[op->slot];
	struct fs *fs = sides[0].fs;
	struct fs_stat st;

	switch (op->kind) {
	case OP_SEEK:
		return slot->used && !FS_CALL(fs, fstat, &slot->f, &st) && S_ISDIR(st.mode);
	case OP_FALLOCATE:
		if (no_unwritten && !(op->flags & FALLOC_FL_PUNCH_HOLE))
			return true;
		return op->flags & FALLOC_FL_PUNCH_HOLE && slot->used && !FS_CALL(fs, fstat, &slot->f, &st) &&
		       (st.size == op->off + op->len || (no_unwritten && st.size <= op->off));
	case OP_RENAME:
		return op->flags & RENAME_WHITEOUT && !FS_CALL(fs, stat, op->path2, false, &st);
	case OP_CHMOD:
		return op->mode & 06000 && !FS_CALL(fs, stat, op->path, true, &st) && !S_ISDIR(st.mode);
	case OP_OPEN:
		return !FS_CALL(fs, stat, op->path, true, &st) && !S_ISREG(st.mode) && !S_ISDIR(st.mode);
	default:
		return false;
	}
}

/* In a file of block pointers the kernel's SEEK_DATA misses what has no blocks yet. */
static void settle_oracle(const struct op *op)
{
	struct slot *slot = &sides[0].slot[op->slot];

	if (op->kind == OP_SEEK && no_unwritten && slot->used)
		(void)!FS_CALL(sides[0].fs, fsync, &slot->f, false);
}

/* One operation on both sides. False: they differ. */
static bool step(const struct op *op, struct result r[2], const struct rules *rules, char *why, size_t size)
{
	static struct touched t;

	memset(r, 0, 2 * sizeof(*r));
	if (left_out(op)) {
		r[0].err = r[1].err = -EOPNOTSUPP;
		return true;
	}
	settle_oracle(op);
	touched_before(sides, op, &t);
	for (u32 s = 0; s < 2; s++)
		op_run(&sides[s], op, &r[s]);
	if (r[0].err == -ENOSPC && r[1].err == -ENOSPC) {
		snprintf(why, size, "both volumes are full: the trees are too small for the test");
		return false;
	}
	return check_step(sides, op, r, &t, rules, why, size);
}

/* Repeats a sequence. Returns how many operations it took to differ, 0 when they all agree. */
static u32 replay(const struct op *ops, u32 n, const struct rules *rules, char *why, size_t size)
{
	struct result r[2];

	begin();
	for (u32 i = 0; i < n; i++)
		if (!step(&ops[i], r, rules, why, size))
			return i + 1;
	return check_tree(sides, rules, why, size) ? 0 : n;
}

/* Halves it down to single operations, which are tried again for as long as some can be left out. */
static u32 next_piece(u32 piece, bool shorter)
{
	return piece > 1 ? (piece + 1) / 2 : shorter ? 1 : 0;
}

/* Two sentences that begin alike, up to the file they speak of, tell of the same fault. */
static bool same_fault(const char *a, const char *b)
{
	size_t n = strcspn(a, ":");
	const char *of = strstr(a, " of ");

	return !strncmp(a, b, of && (size_t)(of - a) < n ? (size_t)(of - a) : n);
}

/* Leaves out ever smaller pieces for as long as the rest still fails. */
static u32 shrink(struct op *ops, u32 n, const struct rules *rules, char *why, size_t size)
{
	struct op *try = malloc(n * sizeof(*try));
	u64 end = os_monotonic_ns() + SHRINK_NS;
	char said[512];

	for (u32 piece = n / 2, whole = n; piece; piece = next_piece(piece, n < whole)) {
		whole = n;
		for (u32 at = 0; at < n && os_monotonic_ns() < end;) {
			u32 cut = MIN(piece, n - at), rest = n - cut, failed;

			memcpy(try, ops, at * sizeof(*ops));
			memcpy(try + at, ops + at + cut, (rest - at) * sizeof(*ops));
			failed = rest ? replay(try, rest, rules, said, sizeof(said)) : 0;
			if (failed && same_fault(said, why)) {
				n = failed;
				memcpy(ops, try, n * sizeof(*ops));
				snprintf(why, size, "%s", said);
			} else {
				at += cut;
			}
		}
	}
	free(try);
	return n;
}

static void report(const struct op *ops, u32 n, u64 seed, const char *why)
{
	char line[700];

	printf("# seed %llu fails after %u operations: %s\n", (unsigned long long)seed, n, why);
	for (u32 i = 0; i < n; i++) {
		op_print(&ops[i], line, sizeof(line));
		printf("#   %u: %s\n", i + 1, line);
	}
}

static bool run(u64 seed, u32 count)
{
	static struct gen g;
	struct rules rules;
	struct op *ops = malloc(count * sizeof(*ops));
	char why[512] = "";
	u32 n = 0, again, good = 0;
	bool ok = true;

	gen_init(&g, seed, sides[0].fs, oracle_is_tmpfs);
	g.value_max = value_max;
	rules.exact_seek = g.exact_seek && !oracle_is_tmpfs && !other_blocks;
	rules.times = !oracle_is_tmpfs;
	begin();
	while (ok && n < count) {
		struct result r[2];

		gen_next(&g, &ops[n]);
		ok = step(&ops[n], r, &rules, why, sizeof(why));
		gen_learn(&g, &ops[n], &r[0]);
		good += !r[0].err;
		n++;
		if (ok && (n % TREE_EVERY == 0 || n == count))
			ok = check_tree(sides, &rules, why, sizeof(why));
	}
	if (!ok) {
		printf("# seed %llu, operation %u: %s\n", (unsigned long long)seed, n, why);
		again = replay(ops, n, &rules, why, sizeof(why));
		if (again)
			n = shrink(ops, again, &rules, why, sizeof(why));
		else
			printf("# the same operations agree when repeated\n");
		report(ops, again ? n : MIN(n, 10u), seed, why);
	}
	free(ops);
	printf("%s - seed %llu, %u operations, %u %% succeeded\n", ok ? "ok" : "not ok",
	       (unsigned long long)seed, count, ok ? good * 100 / MAX(n, 1u) : 0);
	fflush(stdout);
	return ok;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "target", required_argument, NULL, 't' },
						 { "oracle", required_argument, NULL, 'o' },
						 { "seed", required_argument, NULL, 's' },
						 { "ops", required_argument, NULL, 'n' },
						 { "runs", required_argument, NULL, 'r' },
						 { "values", required_argument, NULL, 'v' },
						 { NULL, 0, NULL, 0 } };
	u64 seed = (u64)time(NULL), runs = 1, ops = 5000;
	const char *target = NULL, *oracle = NULL;
	struct fs_statfs space[2];
	struct statfs sfs;
	bool ok = true;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't':
			target = optarg;
			break;
		case 'o':
			oracle = optarg;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			ops = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			runs = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			value_max = (u32)strtoul(optarg, NULL, 0);
			break;
		default:
			return 64;
		}
	}
	if (!target || !oracle || !ops || ops > 1000000 || value_max > VALUE_MAX) {
		fprintf(stderr, "usage: model --target TREE --oracle dir:PATH [--seed N] [--ops N] [--runs "
				"N] [--values BYTES]\n");
		return 64;
	}
	sides[0].fs = fs_by_name(oracle);
	sides[1].fs = fs_by_name(target);
	if (!sides[0].fs || !sides[1].fs)
		return 1;
	oracle_is_tmpfs =
		!strncmp(oracle, "dir:", 4) && !statfs(oracle + 4, &sfs) && sfs.f_type == TMPFS_MAGIC;
	for (u32 s = 0; s < 2; s++)
		must(FS_CALL(sides[s].fs, statfs, &space[s]), "statfs");
	other_blocks = space[0].block_bytes != space[1].block_bytes;
	must(FS_CALL(sides[1].fs, as, sides[0].fs->uid, sides[0].fs->gid, 0), "acting as the oracle's user");
	must(fs_plant_env_fault(sides[1].fs), "FS_FAULT");
	for (u64 i = 0; ok && i < runs; i++)
		ok = run(seed + i, (u32)ops);
	begin();
	for (u32 s = 0; s < 2; s++) {
		side_close_all(&sides[s]);
		must(FS_CALL(sides[s].fs, enter, NULL), "entering the root");
		must(fs_clear(sides[s].fs, ""), "clearing the tree");
		fs_free(sides[s].fs);
	}
	return ok ? 0 : 1;
}
