/*
 * The power goes while a volume is made shorter: whatever is found then is, once its journal was applied, the same tree and sound, as long as before
 * or shorter; to us, to e2fsck and to the kernel. And it can be gone on with. Its image is one that others filled.
 */
#include "crash.h"

#include "fs.h"
#include "support/programs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a device that has the log's behind it from split_bytes on, unless that is 0. */
static char *cut_short(struct blkdev *whole, u64 split_bytes, struct shorten *what)
{
	u64 bytes = split_bytes ? split_bytes : whole->size_bytes;
	struct blkdev *volume = NULL, *log = NULL;
	struct mount_opts mount = { 0 };
	int err = dev_part_new(whole, "volume", 0, bytes, &volume);

	if (!err && split_bytes)
		err = dev_part_new(whole, "log", bytes, whole->size_bytes - bytes, &log);
	mount.journal = log;
	if (!err)
		err = fs_find("ext4")->shorten(&volume, 1, &mount, what);
	blkdev_put(log);
	blkdev_put(volume);
	return err ? say("making it shorter: %s: %s", strerror(-err), err_text()) : NULL;
}

static char *shorten_recorded(struct run *r, const struct shortening *o)
{
	struct shorten what = { .size_bytes = o->size_bytes };
	struct blkdev *dev;
	char *wrong;
	int err = record_new(r, o->no_flush, &dev);

	if (err)
		return say("a device in memory: %s", err_text());
	wrong = cut_short(dev, o->split_bytes, &what);
	blkdev_put(dev);
	if (!wrong && what.after_bytes >= what.before_bytes)
		wrong = say("it did not become shorter");
	return wrong;
}

static char *compared(char *got, const char *want, char *wrong)
{
	if (!wrong && strcmp(got, want) != 0)
		wrong = say("another tree");
	free(got);
	return wrong;
}

static char *by_us(struct judge *j, const char *want)
{
	char *wrong = NULL, *got = shown(j, &wrong);

	wrong = compared(got, want, wrong);
	return wrong ? wrong : judge_clean(j, "our mount");
}

static char *gone_on_with(struct judge *j, const char *want, u64 size_bytes)
{
	struct shorten what = { .size_bytes = size_bytes };
	struct blkdev *dev;
	char *wrong;
	int err = dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev);

	if (err)
		return say("opening the image: %s", err_text());
	wrong = cut_short(dev, j->split_bytes, &what);
	blkdev_put(dev);
	if (!wrong)
		wrong = by_us(j, want);
	if (!wrong && size_bytes && what.after_bytes > size_bytes)
		wrong = say("gone on with, it has %llu bytes", (unsigned long long)what.after_bytes);
	return wrong;
}

static char *by_kernel(struct judge *j, const char *want)
{
	char command[512], *said, *got, *wrong = judge_kernel_mount(j);
	struct fs *fs;
	int code;

	if (wrong)
		return wrong;
	if (fs_dir_new(j->dir, &fs)) {
		wrong = say("%s cannot be opened", j->dir);
	} else {
		got = shown_by(fs, &wrong);
		wrong = compared(got, want, wrong);
		fs_free(fs);
	}
	snprintf(command, sizeof(command),
		 "dd if=/dev/zero of=%s/probe bs=64k count=9 2>/dev/null; rm -f %s/probe; umount %s || "
		 "umount -l %s",
		 j->dir, j->dir, j->dir, j->dir);
	code = program_run(command, &said);
	if (code && !wrong)
		wrong = say("the kernel's unmount: %s", said);
	free(said);
	return wrong ? wrong : judge_clean(j, "the kernel's mount");
}

/* One of the judges in turn; ours each time. */
static char *judge_one(struct replay *p, struct judge *j, const struct state *s, u64 n, const char *want,
		       u64 size_bytes)
{
	char *wrong;

	replay_make(p, s, j->image);
	wrong = by_us(j, want);
	if (wrong || super_is_torn(j->image))
		return wrong;
	replay_make(p, s, j->image);
	if (super_is_torn(j->image))
		return NULL;
	if (n % 3 == 0)
		return gone_on_with(j, want, size_bytes);
	if (n % 3 == 1 && judge_kernel_can(j))
		return by_kernel(j, want);
	wrong = judge_e2fsck(j);
	return wrong ? wrong : by_us(j, want);
}

static char *judge_states(struct run *r, struct judge *j, const struct shortening *o, u64 *records)
{
	char *wrong = NULL, *want, *said;
	u64 seed = o->seed | 1;
	struct replay p;

	memcpy(j->image, r->before, r->bytes);
	want = shown(j, &wrong);
	if (!wrong)
		wrong = shorten_recorded(r, o);
	if (!wrong && replay_init(&p, r))
		wrong = say("no memory for images");
	if (wrong) {
		free(want);
		return wrong;
	}
	*records = p.count;
	for (u64 n = 0; n < o->states && !wrong; n++) {
		struct state s = { .cut = p.count * (n + 1) / o->states, .seed = rnd(&seed) % 1000000 };

		s.kind = (enum state_kind)(s.seed % STATE_KINDS);
		wrong = judge_one(&p, j, &s, n, want, o->size_bytes);
		if (!wrong)
			continue;
		said = say("state %llu:%u:%llu of %llu records: %s", (unsigned long long)s.cut, s.kind,
			   (unsigned long long)s.seed, (unsigned long long)p.count, wrong);
		free(wrong);
		wrong = said;
	}
	replay_free(&p);
	free(want);
	return wrong;
}

bool shorten_suite(const struct shortening *o, u32 *tests)
{
	struct run r;
	struct judge j;
	char *wrong;
	u64 records = 0;
	bool good;

	if (!image_load(o->image, &r, &j))
		return false;
	r.split_bytes = j.split_bytes = o->split_bytes;
	wrong = judge_states(&r, &j, o, &records);
	good = o->expect_failure ? wrong != NULL : !wrong;
	printf("%sok %u - crash/shorten seed %llu: %llu states of %llu records%s\n", good ? "" : "not ",
	       ++*tests, (unsigned long long)o->seed, (unsigned long long)o->states,
	       (unsigned long long)records,
	       o->expect_failure ? good ? ", found out" : ", NOT found out" : "");
	for (char *rest = wrong, *line; !good && rest && (line = strsep(&rest, "\n"));)
		printf("# %s\n", line);
	judge_free(&j);
	blkdev_put(r.fault);
	free(r.before);
	free(wrong);
	return good;
}
