/*
 * The power goes while a damaged image is mended: whatever is found then, mending it once more leaves what the mending that was not cut off
 * leaves, name by name and byte by byte, and nothing to be found.
 */
#include "crash.h"

#include "fs.h"
#include "mend.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int yes(void *ctx, const struct check_record *r)
{
	(void)ctx;
	(void)r;
	return 1;
}

/* NULL, or what is left. */
static char *mend(struct blkdev *dev)
{
	const struct check_opts check = { .force = true, .mend = yes };
	const struct mount_opts mount = { 0 };
	struct mending m = { .check = &check };
	int err = mend_volume(&m, fs_find("ext4"), &dev, 1, &mount);

	if (err)
		return say("mending: %s: %s", strerror(-err), err_text());
	if (m.after.found[CHECK_WRONG] || m.after.found[CHECK_LOSS])
		return say("%llu errors are left",
			   (unsigned long long)(m.after.found[CHECK_WRONG] + m.after.found[CHECK_LOSS]));
	return NULL;
}

/* Records the mending of r->before. */
static char *mend_recorded(struct run *r)
{
	struct blkdev *mem;
	int err = dev_mem_new("memory", r->bytes, SECTOR, &mem);

	if (!err)
		err = blkdev_write(mem, 0, r->before, r->bytes, 0);
	if (!err)
		err = dev_fault_new(mem, true, &r->fault);
	blkdev_put(mem);
	return err ? say("a device in memory: %s", err_text()) : mend(r->fault);
}

/* What is shown of the judge's image after mending it; NULL with *wrong. */
static char *mended(struct judge *j, char **wrong)
{
	struct blkdev *dev;
	char *text;

	if (dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev)) {
		*wrong = say("opening the image: %s", err_text());
		return NULL;
	}
	*wrong = mend(dev);
	blkdev_put(dev);
	if (!*wrong)
		*wrong = sound(j);
	text = *wrong ? NULL : shown(j, wrong);
	if (!*wrong)
		*wrong = sound(j);
	return text;
}

/* The first line in which two differ. */
static char *difference(const char *want, const char *got)
{
	size_t n = 0;

	while (want[n] && want[n] == got[n])
		n++;
	while (n && want[n - 1] != '\n')
		n--;
	return say("another tree: \"%.*s\" is \"%.*s\"", (int)strcspn(want + n, "\n"), want + n,
		   (int)strcspn(got + n, "\n"), got + n);
}

/* state_judge: mended again it is what ctx says. */
static char *judge_state(void *ctx, struct replay *p, struct judge *j, const struct state *s)
{
	char *wrong = NULL, *got = mended(j, &wrong);

	(void)p;
	(void)s;
	if (!wrong && strcmp(got, ctx) != 0)
		wrong = difference(ctx, got);
	free(got);
	return wrong;
}

static char *judge_states(struct run *r, struct judge *j, const struct states *states, u64 *records,
			  u64 *judged)
{
	struct replay p;
	char *wrong = mend_recorded(r), *want;

	if (wrong)
		return wrong;
	memcpy(j->image, r->before, r->bytes);
	want = mended(j, &wrong);
	if (!wrong && replay_init(&p, r))
		wrong = strdup("no memory for images");
	if (!wrong) {
		*records = p.count;
		wrong = states_judge(states, &p, j, judge_state, want, judged);
		replay_free(&p);
	}
	free(want);
	return wrong;
}

bool mend_suite(const char *image, const char *undo, const struct states *states, u32 *tests)
{
	u64 records = 0, judged = 0;
	struct judge j;
	struct run r;
	char *wrong;
	bool good;

	(void)undo;
	if (!image_load(image, &r, &j))
		return false;
	wrong = judge_states(&r, &j, states, &records, &judged);
	good = !wrong;
	printf("%sok %u - crash/mend seed %llu: %llu states of %llu records\n", good ? "" : "not ", ++*tests,
	       (unsigned long long)states->seed, (unsigned long long)judged, (unsigned long long)records);
	for (char *rest = wrong, *line; rest && (line = strsep(&rest, "\n"));)
		printf("# %s\n", line);
	judge_free(&j);
	blkdev_put(r.fault);
	free(r.before);
	free(wrong);
	return good;
}
