/*
 * The power goes while a damaged image is mended: whatever is found then, mending it once more leaves what the mending that was not cut off
 * leaves, name by name, and nothing to be found, by us and by e2fsck. Bytes count of those files that are the same before and after the mending: what a
 * damaged map leads to is another thing each time. With an undo file, as much of it as was durable at that moment gives the image back.
 */
#include "crash.h"

#include "fs.h"
#include "mend.h"
#include "undo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int yes(void *ctx, const struct check_record *r)
{
	(void)ctx;
	(void)r;
	return 1;
}

/* The undo file while a mending is recorded: how much of it was durable from which record on. */
static struct {
	const char *path;
	struct blkdev *fault;
	struct undo_moment {
		u64 records;
		off_t size;
	} * moment;
	u32 moments, room;
	ino_t ino;
	u8 *bytes; /* all of it, in the end */
} undo;

static void note_durable(int fd)
{
	struct stat st;

	if (!undo.fault || fstat(fd, &st) || st.st_ino != undo.ino)
		return;
	if (undo.moments == undo.room) {
		undo.room = undo.room ? 2 * undo.room : 64;
		undo.moment = realloc(undo.moment, undo.room * sizeof(*undo.moment));
		if (!undo.moment)
			abort();
	}
	undo.moment[undo.moments++] = (struct undo_moment){ dev_fault_records(undo.fault), st.st_size };
}

/* These two stand before libc's, so that what makes an undo file durable is seen. */
int fdatasync(int fd)
{
	note_durable(fd);
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	struct stat st;

	/* The first is of the file that was just made. */
	if (undo.fault && !undo.ino && !fstat(fd, &st) && S_ISREG(st.st_mode))
		undo.ino = st.st_ino;
	note_durable(fd);
	return (int)syscall(SYS_fsync, fd);
}

/* NULL, or what is left. */
static char *mend(struct blkdev *dev, const char *undo_file)
{
	const struct check_opts check = { .force = true, .mend = yes };
	const struct mount_opts mount = { 0 };
	const char *name[] = { "/mended" };
	struct mending m = { .check = &check, .undo_file = undo_file, .name = name };
	int err = mend_volume(&m, fs_find("ext4"), &dev, 1, &mount);

	if (err)
		return say("mending: %s: %s", strerror(-err), err_text());
	if (m.after.found[CHECK_WRONG] || m.after.found[CHECK_LOSS])
		return say("%llu errors are left",
			   (unsigned long long)(m.after.found[CHECK_WRONG] + m.after.found[CHECK_LOSS]));
	return NULL;
}

/* Records the mending of r->before. */
static char *mend_recorded(struct run *r, bool no_flush)
{
	struct blkdev *dev;
	char *wrong;
	int err = record_new(r, no_flush, &dev);

	if (err)
		return say("a device in memory: %s", err_text());
	undo.fault = undo.path ? r->fault : NULL;
	wrong = mend(dev, undo.path);
	undo.fault = NULL;
	blkdev_put(dev);
	return wrong;
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
	*wrong = mend(dev, NULL);
	blkdev_put(dev);
	if (!*wrong)
		*wrong = judge_clean(j, "mending");
	text = *wrong ? NULL : shown(j, wrong);
	if (!*wrong)
		*wrong = judge_clean(j, "mending");
	return text;
}

/* The line of the path at `line` in another tree; NULL: it is not there. */
static char *same_path(char *tree, const char *line)
{
	size_t n = strcspn(line, " \n") + 1;

	for (char *at = tree; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
		if (!strncmp(at, line, n))
			return at;
	return NULL;
}

/* Of files that are not the same in `before`, the bytes do not count: a "-" in their place. */
static void forget_changed(char *want, char *before)
{
	for (char *line = want; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		size_t n = strcspn(line, "\n"), bytes = n;
		char *was = before ? same_path(before, line) : NULL;

		while (bytes && line[bytes - 1] != ' ')
			bytes--;
		if (!was || strncmp(was, line, n + 1) != 0)
			memset(line + bytes, '-', n - bytes);
	}
}

/* Where the two differ, other than in bytes that do not count; NULL: nowhere. */
static char *difference(const char *want, const char *got)
{
	while (*want && *got) {
		size_t n = strcspn(want, "\n"), m = strcspn(got, "\n"), bytes = n;

		while (bytes && want[bytes - 1] == '-')
			bytes--;
		if (strncmp(want, got, bytes) != 0 || (bytes == n && n != m))
			break;
		want += n + (want[n] == '\n');
		got += m + (got[m] == '\n');
	}
	if (!*want && !*got)
		return NULL;
	return say("another tree: \"%.*s\" is \"%.*s\"", (int)strcspn(want, "\n"), want,
		   (int)strcspn(got, "\n"), got);
}

/* What the image shows before it is mended; NULL: nothing. */
static char *shown_before(struct run *r, struct judge *j)
{
	char *wrong = NULL, *text;

	memcpy(j->image, r->before, r->bytes);
	text = shown(j, &wrong);
	if (wrong) {
		free(text);
		text = NULL;
	}
	free(wrong);
	return text;
}

/* ---- judging ---- */

struct mend_judge {
	struct run *run;
	const char *want;
};

/* The file as the mending that was recorded left it, or its first bytes. False: it cannot be read, or written. */
static bool undo_load(void)
{
	struct stat st;
	FILE *f = fopen(undo.path, "r");
	bool good = f && !fstat(fileno(f), &st) && (undo.bytes = malloc((size_t)st.st_size + 1));

	good = good && fread(undo.bytes, 1, (size_t)st.st_size, f) == (size_t)st.st_size;
	if (f)
		fclose(f);
	return good;
}

static bool undo_cut(off_t size)
{
	FILE *f = fopen(undo.path, "w");
	bool good = f && fwrite(undo.bytes, 1, (size_t)size, f) == (size_t)size;

	return f && !fclose(f) && good;
}

/* What of the undo file was durable at the cut gives the image back. */
static char *judge_undo(struct mend_judge *g, struct judge *j, u64 cut)
{
	struct undo_plan plan;
	struct blkdev *dev;
	off_t size = -1;
	char *wrong = NULL;
	int err;

	for (u32 i = 0; i < undo.moments && undo.moment[i].records <= cut; i++)
		size = undo.moment[i].size;
	if (size < 0)
		return memcmp(j->image, g->run->before, j->bytes)
			       ? say("written to before there was an undo file")
			       : NULL;
	if (!undo_cut(size))
		return say("%s cannot be written", undo.path);
	if (undo_read(undo.path, &plan))
		return say("the undo file: %s", err_text());
	err = dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev);
	if (!err) {
		err = undo_apply(&plan, &dev);
		blkdev_put(dev);
	}
	undo_forget(&plan);
	if (err)
		wrong = say("undoing: %s", err_text());
	else if (memcmp(j->image, g->run->before, j->bytes) != 0)
		wrong = say("the undo file of %lld bytes does not give the image back", (long long)size);
	return wrong;
}

/* state_judge: mended again it is what was wanted. */
static char *judge_state(void *ctx, struct replay *p, struct judge *j, const struct state *s)
{
	struct mend_judge *g = ctx;
	char *wrong = NULL, *got = mended(j, &wrong);

	if (!wrong)
		wrong = difference(g->want, got);
	free(got);
	if (!wrong && undo.path) {
		replay_make(p, s, j->image);
		wrong = judge_undo(g, j, s->cut);
	}
	return wrong;
}

/* What is wrong before there is anything to judge. */
#define NOT_WHOLE "the mending that is not cut off: "

static char *not_whole(char *wrong)
{
	char *said = say(NOT_WHOLE "%s", wrong);

	free(wrong);
	return said;
}

static char *judge_states(struct run *r, struct judge *j, const struct states *states, bool no_flush,
			  u64 *records, u64 *judged)
{
	char *wrong = mend_recorded(r, no_flush), *want, *before;
	struct mend_judge g = { .run = r };
	struct replay p;

	if (!wrong && undo.path && !undo_load())
		wrong = say("%s cannot be read", undo.path);
	if (wrong)
		return not_whole(wrong);
	before = shown_before(r, j);
	memcpy(j->image, r->before, r->bytes);
	g.want = want = mended(j, &wrong);
	if (!wrong && replay_init(&p, r))
		wrong = strdup("no memory for images");
	else if (wrong)
		wrong = not_whole(wrong);
	if (!wrong) {
		forget_changed(want, before);
		*records = p.count;
		wrong = states_judge(states, &p, j, judge_state, &g, judged);
		replay_free(&p);
	}
	free(before);
	free(want);
	return wrong;
}

int mend_suite(const char *image, const char *undo_file, const struct states *states, bool no_flush,
	       u32 *tests)
{
	u64 records = 0, judged = 0;
	struct judge j;
	struct run r;
	char *wrong;
	int code;

	if (!image_load(image, &r, &j))
		return 1;
	undo.path = undo_file;
	wrong = judge_states(&r, &j, states, no_flush, &records, &judged);
	code = !wrong ? 0 : strncmp(wrong, NOT_WHOLE, sizeof(NOT_WHOLE) - 1) ? 1 : 3;
	printf("%sok %u - crash/mend%s seed %llu: %llu states of %llu records\n", code ? "not " : "",
	       ++*tests, undo_file ? "/undo" : "", (unsigned long long)states->seed,
	       (unsigned long long)judged, (unsigned long long)records);
	for (char *rest = wrong, *line; rest && (line = strsep(&rest, "\n"));)
		printf("# %s\n", line);
	judge_free(&j);
	blkdev_put(r.fault);
	free(r.before);
	free(wrong);
	free(undo.moment);
	free(undo.bytes);
	if (undo_file)
		unlink(undo_file);
	return code;
}
