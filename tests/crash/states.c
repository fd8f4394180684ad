/* Which states of a record are judged, one after the other: the loop that all suites have in common. */
#include "crash.h"

#include "lib/hash.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[STATE_KINDS] = { "all", "none", "some", "torn", "last", "but-one" };

bool states_parse(const char *s, struct state *out)
{
	unsigned long long cut, seed;
	char kind[32];

	if (sscanf(s, "%llu:%31[a-z-]:%llu", &cut, kind, &seed) != 3)
		return false;
	*out = (struct state){ .cut = cut, .seed = seed, .kind = STATE_KINDS };
	for (u32 i = 0; i < STATE_KINDS; i++)
		if (!strcmp(kind, kind_names[i]))
			out->kind = (enum state_kind)i;
	return out->kind != STATE_KINDS;
}

static void keep_image(const char *path, const struct judge *j)
{
	FILE *f = fopen(path, "w");

	if (!f || fwrite(j->image, 1, j->bytes, f) != j->bytes)
		perror(path);
	if (f)
		fclose(f);
}

/* The nth of the wanted states, which are spread evenly over the moments. */
static struct state pick(const struct states *o, const struct replay *p, u64 n)
{
	struct state s = { .seed = hash_u64(o->seed ^ (n << 20)) % 1000000 };

	if (o->count) {
		s.cut = p->count * (n + 1) / o->count;
		s.kind = (enum state_kind)(s.seed % STATE_KINDS);
	} else {
		s.cut = n / STATE_KINDS;
		s.kind = (enum state_kind)(n % STATE_KINDS);
	}
	return s;
}

/* Without anything uncovered all kinds are one. */
static bool is_another(const struct states *o, const struct replay *p, const struct state *s)
{
	return o->count || s->kind == STATE_ALL ||
	       replay_pending(p, s->cut) >= (s->kind == STATE_NONE ? 1 : 2);
}

char *states_judge(const struct states *o, struct replay *p, struct judge *j, state_judge *judge, void *ctx,
		   u64 *judged)
{
	u64 wanted = o->one ? 1 : o->count ? o->count : (p->count + 1) * STATE_KINDS;
	char *wrong = NULL, *said;

	*judged = 0;
	for (u64 n = 0; n < wanted && !wrong; n++) {
		struct state s = o->one ? o->only : pick(o, p, n);

		if (!o->one && !is_another(o, p, &s))
			continue;
		replay_make(p, &s, j->image);
		if (o->keep)
			keep_image(o->keep, j);
		wrong = judge(ctx, p, j, &s);
		++*judged;
		if (!wrong)
			continue;
		said = say("state %llu:%s:%llu of %llu records: %s", (unsigned long long)s.cut,
			   kind_names[s.kind], (unsigned long long)s.seed, (unsigned long long)p->count,
			   wrong);
		free(wrong);
		wrong = said;
	}
	return wrong;
}
