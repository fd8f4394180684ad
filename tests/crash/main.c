/*
 * crash: runs workloads, makes states, has them judged.
 *
 *   crash [--volume NAME|all] [--work NAME|all] [--seed N] [--states N] [--others N] [--state CUT:KIND:SEED] [--keep FILE]
 *         [--no-flush] [--expect-failure] [--recover IMAGE] [--mend IMAGE [--undo FILE]] [--log [--tooth NAME]]
 *         [--shorten IMAGE [--size BYTES] [--split BYTES]]
 *
 *   --states N        states of each workload, spread over all moments; 0: every moment in every kind
 *   --others N        every Nth state is judged by e2fsck alone and by the kernel too; 0: none
 *   --state …         that state alone, by all judges; --keep writes its image
 *   --mke2fs OPTIONS  a volume of its own kind instead of a known one, without -E; --extended: words for that, each after a comma;
 *                     --tune2fs OPTIONS afterwards; --fold: its directories fold case; --mib N: its length
 *   --recover IMAGE   instead: the power goes while that image is recovered
 *   --mend IMAGE      instead: the power goes while that image is mended; --undo: with an undo file, which has to give the image back
 *   --shorten IMAGE   instead: the power goes while that image is made as long as --size says, or as short as it can be; --split: where in the
 *                     image the device of its log begins
 *   --log             instead: the journal alone; --tooth: without flush, revoke or gate, which must be found out
 *   --no-flush        flushes and FUA are lost: the suite must find that
 *   --expect-failure  success is that a state is found illegal
 *
 * One line for each workload on each volume, in TAP.
 */
#include "crash.h"

#include "ext4/ext4.h"
#include "lib/hash.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	const char *volume, *work;
	struct volume own; /* args NULL: none */
	struct states states;
	u64 others;
	bool no_flush, expect_failure, log;
	const char *tooth, *recover, *mend, *undo;
	struct shortening shorten;
	u32 tests;
};

/* A run and how its states are judged. */
struct judging {
	const struct options *o;
	struct model *model;
	u64 states, others; /* judged so far; of these, by all judges */
};

/* The power goes once more, while we recover from the first time. */
static char *judge_again(struct judge *j, struct model *m, const struct state *s)
{
	struct run r = { .before = j->image, .bytes = j->bytes, .split_bytes = j->split_bytes };
	struct state again = { .kind = (enum state_kind)(s->seed / STATE_KINDS % STATE_KINDS),
			       .seed = s->seed };
	struct replay p;
	char *wrong = run_mount(&r);

	if (!wrong && replay_init(&p, &r))
		wrong = strdup("no memory for images");
	if (!wrong) {
		again.cut = hash_u64(s->seed + 99) % (p.count + 1);
		replay_make(&p, &again, j->image);
		replay_free(&p);
		wrong = judge_ours(j, m, s->cut);
	}
	blkdev_put(r.fault);
	return wrong;
}

/* A state, by one judge or by all: state_judge. */
static char *judge_state(void *ctx, struct replay *p, struct judge *j, const struct state *s)
{
	struct judging *g = ctx;
	bool all = (g->o->states.one || (g->o->others && g->states % g->o->others == 0)) &&
		   !super_is_torn(j->image);
	char *wrong = judge_ours(j, g->model, s->cut), *said;

	g->states++;
	g->others += all;
	if (!wrong && (all || s->seed % 4 == 0)) {
		replay_make(p, s, j->image);
		wrong = judge_again(j, g->model, s);
		if (wrong && asprintf(&said, "after the power went again: %s", wrong) >= 0) {
			free(wrong);
			wrong = said;
		}
	}
	if (!wrong && all) {
		replay_make(p, s, j->image);
		wrong = judge_e2fsck(j);
	}
	if (!wrong && all && judge_kernel_can(j)) {
		replay_make(p, s, j->image);
		wrong = judge_kernel(j, g->model, s->cut);
	}
	return wrong;
}

static char *judge_run(struct judging *g, struct run *r)
{
	struct replay p;
	struct judge j;
	u64 judged;
	char *wrong;

	if (judge_init(&j, r->bytes) || replay_init(&p, r))
		return strdup("no memory for images");
	j.split_bytes = r->split_bytes;
	j.fold = r->volume->fold;
	g->model = &r->model;
	wrong = states_judge(&g->o->states, &p, &j, judge_state, g, &judged);
	replay_free(&p);
	judge_free(&j);
	return wrong;
}

static bool one_work(struct options *o, const struct volume *v, const struct work *w)
{
	u64 seed = hash_u64(o->states.seed * 1000003 + 17) | 1;
	struct judging g = { .o = o };
	char *wrong = NULL, *found = NULL;
	struct run r;
	bool good;

	if (run_start(&r, v, o->states.seed, o->no_flush)) {
		wrong = strdup("the workload could not begin");
	} else {
		w->run(&r, &seed);
		if (run_stop(&r))
			wrong = strdup(r.wrong);
		else
			wrong = found = judge_run(&g, &r);
	}
	/* What the workload itself sees of a fault counts too. */
	good = o->expect_failure ? found || r.wrong : !wrong;
	printf("%sok %u - crash/%s/%s seed %llu: %u operations, %llu states, %llu by all judges%s\n",
	       good ? "" : "not ", ++o->tests, v->name, w->name, (unsigned long long)o->states.seed,
	       r.model.ops, (unsigned long long)g.states, (unsigned long long)g.others,
	       o->expect_failure ? good ? ", found out" : ", NOT found out" : "");
	for (char *rest = wrong, *line; (!good || o->expect_failure) && rest && (line = strsep(&rest, "\n"));)
		printf("# %s\n", line);
	fflush(stdout);
	free(wrong);
	run_free(&r);
	return good;
}

static bool works_on(struct options *o, const struct volume *v)
{
	bool good = true;

	if (v->log_bytes && geteuid()) {
		printf("ok %u - crash/%s # SKIP a log on a device of its own needs root\n", ++o->tests,
		       v->name);
		return true;
	}
	for (const struct work *w = works(); w->name; w++)
		if (strcmp(o->work, "all") ? !strcmp(o->work, w->name)
					   : v->made_bytes || strcmp(w->name, "grow") != 0)
			good &= one_work(o, v, w);
	return good;
}

static bool all_works(struct options *o)
{
	bool good = true;

	if (o->own.args)
		return works_on(o, &o->own);
	for (const struct volume *v = volumes(); v->name; v++)
		if (strcmp(o->volume, "all") ? !strcmp(o->volume, v->name) : !v->unsafe)
			good &= works_on(o, v);
	return good;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: crash [--volume V|all] [--work W|all] [--seed N] [--states N] [--others N]\n"
		"             [--state CUT:KIND:SEED] [--keep FILE] [--no-flush] [--expect-failure]\n");
	return 2;
}

static bool shorten_option(struct options *o, int c)
{
	if (c == 'z')
		o->shorten.image = optarg;
	else if (c == 'Z')
		o->shorten.size_bytes = strtoull(optarg, NULL, 0);
	else if (c == 'P')
		o->shorten.split_bytes = strtoull(optarg, NULL, 0);
	else
		return false;
	return true;
}

/* False: there is no such option, or not with such a value. */
static bool option(struct options *o, int c)
{
	switch (c) {
	case 'v':
		o->volume = optarg;
		break;
	case 'M':
		o->own.args = optarg;
		break;
	case 'E':
		o->own.extended = optarg;
		break;
	case 'T':
		o->own.tune = optarg;
		break;
	case 'B':
		o->own.bytes = strtoull(optarg, NULL, 0) << 20;
		break;
	case 'F':
		o->own.fold = true;
		break;
	case 'w':
		o->work = optarg;
		break;
	case 's':
		o->states.seed = strtoull(optarg, NULL, 0);
		break;
	case 'n':
		o->states.count = strtoull(optarg, NULL, 0);
		break;
	case 'o':
		o->others = strtoull(optarg, NULL, 0);
		break;
	case 'S':
		o->states.one = true;
		if (!states_parse(optarg, &o->states.only))
			return false;
		break;
	case 'r':
		o->recover = optarg;
		break;
	case 'm':
		o->mend = optarg;
		break;
	case 'u':
		o->undo = optarg;
		break;
	case 'l':
		o->log = true;
		break;
	case 't':
		o->tooth = optarg;
		break;
	case 'k':
		o->states.keep = optarg;
		break;
	case 'f':
		o->no_flush = true;
		break;
	case 'x':
		o->expect_failure = true;
		break;
	default:
		return shorten_option(o, c);
	}
	return true;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "volume", 1, NULL, 'v' },         { "mke2fs", 1, NULL, 'M' }, { "extended", 1, NULL, 'E' },
		{ "tune2fs", 1, NULL, 'T' },        { "mib", 1, NULL, 'B' },    { "fold", 0, NULL, 'F' },
		{ "work", 1, NULL, 'w' },           { "seed", 1, NULL, 's' },   { "states", 1, NULL, 'n' },
		{ "others", 1, NULL, 'o' },         { "state", 1, NULL, 'S' },  { "log", 0, NULL, 'l' },
		{ "recover", 1, NULL, 'r' },        { "mend", 1, NULL, 'm' },   { "shorten", 1, NULL, 'z' },
		{ "size", 1, NULL, 'Z' },           { "split", 1, NULL, 'P' },  { "undo", 1, NULL, 'u' },
		{ "tooth", 1, NULL, 't' },          { "keep", 1, NULL, 'k' },   { "no-flush", 0, NULL, 'f' },
		{ "expect-failure", 0, NULL, 'x' }, { NULL, 0, NULL, 0 },
	};
	struct options o = {
		.volume = "4k",
		.work = "all",
		.states = { .seed = 1, .count = 60 },
		.others = 20,
		.tooth = "",
		.own = { .name = "own", .bytes = 24 << 20 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!option(&o, c))
			return usage();
	if (optind != argc || (strcmp(o.volume, "all") && !volume_find(o.volume)) ||
	    (strcmp(o.work, "all") && !work_find(o.work)))
		return usage();
	if (o.recover)
		return recover_suite(o.recover, &o.states, &o.tests) ? 0 : 1;
	if (o.shorten.image) {
		o.shorten.seed = o.states.seed;
		o.shorten.states = o.states.count;
		o.shorten.no_flush = o.no_flush;
		o.shorten.expect_failure = o.expect_failure;
		return shorten_suite(&o.shorten, &o.tests) ? 0 : 1;
	}
	if (o.mend) {
		int code = mend_suite(o.mend, o.undo, &o.states, o.no_flush, &o.tests);

		return o.expect_failure ? code != 1 : code;
	}
	if (o.log)
		return log_suite(o.tooth, &o.states, &o.tests) ? 0 : 1;
	return all_works(&o) ? 0 : 1;
}
