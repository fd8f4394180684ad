/*
 * The power goes while an image that needs recovery is recovered: whatever is found then must come out as the same tree, and be
 * sound. For images that others made, above all the kernel: what is right is what the first recovery shows.
 */
#include "crash.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASHED_MAX (1ull << 30) /* bytes of a file: a damaged one may say anything */

/* All names below dir, with attributes and a fingerprint of what files hold. False: something cannot be read. */
static bool tree(struct fs *fs, const char *dir, FILE *out)
{
	struct fs_dirent *e = NULL;
	char path[2 * PATH_LEN];
	struct fs_stat st;
	u32 n = 0;
	u64 hash;
	bool good = !fs_list(fs, dir, &e, &n);

	for (u32 i = 0; i < n && good; i++) {
		snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", e[i].name);
		hash = 0;
		good = !FS_CALL(fs, stat, path, false, &st);
		if (good && S_ISREG(st.mode) && st.size <= HASHED_MAX)
			good = !fs_hash(fs, path, &hash);
		fprintf(out, "%s %o %u %llu %llx\n", path, st.mode, st.nlink, (unsigned long long)st.size,
			(unsigned long long)hash);
		if (good && S_ISDIR(st.mode))
			good = tree(fs, path, out);
	}
	free(e);
	return good;
}

char *shown_by(struct fs *fs, char **wrong)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!tree(fs, "", out))
		*wrong = strdup("the tree cannot be read");
	fclose(out);
	return text;
}

char *shown(struct judge *j, char **wrong)
{
	struct blkdev *dev;
	struct fs *fs;
	char *text;
	int err = dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev);

	if (!err) {
		err = mount_whole(dev, j->split_bytes, false, &fs);
		blkdev_put(dev);
	}
	if (err) {
		*wrong = strdup(err_text());
		return NULL;
	}
	text = shown_by(fs, wrong);
	if (fs_vfs_end(fs) && !*wrong)
		*wrong = strdup("unmount failed");
	return text;
}

/* state_judge: the same tree as ctx says. */
static char *judge_state(void *ctx, struct replay *p, struct judge *j, const struct state *s)
{
	char *wrong = NULL, *got = shown(j, &wrong);

	(void)p;
	(void)s;
	if (!wrong && strcmp(got, ctx) != 0)
		wrong = strdup("another tree");
	if (!wrong)
		wrong = judge_clean(j, "recovery");
	free(got);
	return wrong;
}

static char *judge_states(struct run *r, struct judge *j, const struct states *states, u64 *judged)
{
	char *wrong = NULL, *want;
	struct replay p;

	memcpy(j->image, r->before, r->bytes);
	want = shown(j, &wrong);
	if (!wrong)
		wrong = run_mount(r);
	if (!wrong && replay_init(&p, r))
		wrong = strdup("no memory for images");
	if (!wrong) {
		wrong = states_judge(states, &p, j, judge_state, want, judged);
		replay_free(&p);
	}
	free(want);
	return wrong;
}

bool image_load(const char *image, struct run *r, struct judge *j)
{
	struct blkdev *dev;
	int err = dev_file_open(image, 0, &dev);

	*r = (struct run){ 0 };
	if (!err) {
		r->bytes = dev->size_bytes;
		r->before = malloc(r->bytes);
		err = r->before ? blkdev_read(dev, 0, r->before, r->bytes) : -ENOMEM;
		blkdev_put(dev);
	}
	if (!err)
		err = judge_init(j, r->bytes);
	if (err) {
		fprintf(stderr, "%s: %s\n", image, err_text());
		free(r->before);
	}
	return !err;
}

bool recover_suite(const char *image, const struct states *states, u32 *tests)
{
	u64 judged = 0;
	struct judge j;
	struct run r;
	char *wrong;
	bool good;

	if (!image_load(image, &r, &j))
		return false;
	wrong = judge_states(&r, &j, states, &judged);
	good = !wrong;
	printf("%sok %u - crash/recover seed %llu: %llu states\n", wrong ? "not " : "", ++*tests,
	       (unsigned long long)states->seed, (unsigned long long)judged);
	if (wrong)
		printf("# %s\n", wrong);
	judge_free(&j);
	blkdev_put(r.fault);
	free(r.before);
	free(wrong);
	return good;
}
