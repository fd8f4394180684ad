/*
 * The judges. Each gets a state's image and says whether what becomes of it is what was promised:
 *   ours     we mount it read-write, show it, change it a little and unmount; e2fsck finds nothing
 *   e2fsck   alone: it replays the journal and clears orphans, and does nothing else
 *   kernel   mounts it, and shows what is legal
 */
#include "crash.h"

#include "ext4/ext4.h"
#include "support/programs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PROBE "after-the-crash"

int judge_init(struct judge *j, u64 bytes)
{
	*j = (struct judge){ .bytes = bytes, .fd = memfd_create("crash-state", MFD_CLOEXEC) };
	if (j->fd < 0 || ftruncate(j->fd, (off_t)bytes))
		return -errno;
	j->image = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);
	if (j->image == MAP_FAILED)
		return -errno;
	snprintf(j->path, sizeof(j->path), "/proc/%d/fd/%d", (int)getpid(), j->fd);
	snprintf(j->dir, sizeof(j->dir), "/tmp/werunos-crash-XXXXXX");
	j->can_mount = !geteuid() && mkdtemp(j->dir);
	return 0;
}

void judge_free(struct judge *j)
{
	munmap(j->image, j->bytes);
	close(j->fd);
	if (j->can_mount)
		rmdir(j->dir);
}

bool super_is_torn(const u8 *image)
{
	const struct ext4_disk_super *d = (const void *)(image + EXT4_SUPER_OFF);

	return le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_METADATA_CSUM &&
	       ext4_csum_super(d) != le32_get(d->checksum);
}

bool judge_kernel_can(const struct judge *j)
{
	const struct ext4_disk_super *d = (const void *)(j->image + EXT4_SUPER_OFF);

	return j->can_mount && !(le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_QUOTA) &&
	       !(le32_get(d->feature_incompat) & EXT4_INCOMPAT_CASEFOLD) &&
	       1024u << le32_get(d->log_block_size) <= (u32)sysconf(_SC_PAGESIZE);
}

int judge_run_program(const struct judge *j, const char *command, char **said)
{
	char line[1024];

	if (!j->split_bytes)
		return program_run(command, said);
	snprintf(line, sizeof(line),
		 "log=$(losetup --show -f -o %llu %s) || exit 99; { %s; }; code=$?; losetup -d $log; exit "
		 "$code",
		 (unsigned long long)j->split_bytes, j->path, command);
	return program_run(line, said);
}

/* e2fsck with its words and, where the log is elsewhere, where that is. */
static int e2fsck(const struct judge *j, const char *words, char **said)
{
	char command[160];

	snprintf(command, sizeof(command), "e2fsck %s%s %s", words, j->split_bytes ? " -j $log" : "",
		 j->path);
	return judge_run_program(j, command, said);
}

char *judge_clean(struct judge *j, const char *after)
{
	char *said, *wrong = NULL;
	int code = e2fsck(j, "-fn", &said);

	if (code)
		wrong = say("e2fsck -fn after %s: exit code %d\n%s", after, code, said ? said : "");
	free(said);
	return wrong;
}

/* A recovered volume can be changed: what counters and bitmaps say is used. */
static char *change(struct fs *fs)
{
	static const u8 bytes[20000] = { 1, 2, 3 };
	int err = fs_put(fs, PROBE, bytes, sizeof(bytes));

	if (err == -ENOSPC)
		err = 0;
	if (!err)
		err = FS_CALL(fs, unlink, PROBE);
	return err && err != -ENOENT
		       ? say("changing the recovered volume: %s: %s", strerror(-err), err_text())
		       : NULL;
}

char *judge_ours(struct judge *j, struct model *m, u64 cut)
{
	struct blkdev *dev;
	struct fs *fs;
	char *wrong;
	int err = dev_file_fd(dup(j->fd), "state", DEV_WRITE | DEV_BUFFERED | DEV_NO_RING, &dev);

	if (err)
		return say("opening the image: %s", err_text());
	err = mount_whole(dev, j->split_bytes, false, &fs);
	blkdev_put(dev);
	if (err)
		return say("our mount: %s: %s", strerror(-err), err_text());
	if (j->fold)
		fs_spell_otherwise(fs);
	wrong = model_judge(m, fs, cut);
	if (!wrong)
		wrong = change(fs);
	err = fs_vfs_end(fs);
	if (err && !wrong)
		wrong = say("our unmount: %s: %s", strerror(-err), err_text());
	return wrong ? wrong : judge_clean(j, "our mount");
}

/* ---- e2fsck ---- */

static bool begins(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

static bool contains(const char *s, const char *what)
{
	return strstr(s, what) != NULL;
}

/* A journal that is to be applied though the superblock does not say so, or a copy of its map that is not the newest: see ext4/shorten.h. */
static bool is_log_alone(const char *line)
{
	return contains(line, "needs_recovery flag is clear, but journal has data") ||
	       begins(line, "Run journal anyway? yes") ||
	       begins(line, "Backing up journal inode block information");
}

/*
 * What e2fsck itself leaves to be mended when it finishes orphans: of their usage it takes off blocks where clusters were counted, and the values
 * of their attributes stay.
 */
static bool is_orphans_rest(const struct judge *j, const char *line, const char *before)
{
	const struct ext4_disk_super *d = (const void *)(j->image + EXT4_SUPER_OFF);
	bool values = le32_get(d->feature_incompat) & EXT4_INCOMPAT_EA_INODE,
	     clusters = le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_BIGALLOC;

	if ((values || clusters) && le32_get(d->feature_ro_compat) & EXT4_RO_COMPAT_QUOTA &&
	    (begins(line, "[QUOTA WARNING] Usage inconsistent for ID ") ||
	     begins(line, "Update quota info for quota type ")))
		return true;
	return values &&
	       (begins(line, "Unattached inode ") ||
		(begins(before, "Unattached inode ") && !strcmp(line, "Connect to /lost+found? yes")) ||
		(begins(line, "Inode ") && contains(line, " ref count is 2, should be 1.  Fix? yes")));
}

/* What replaying a journal and finishing orphans says. */
static bool line_allowed(const char *line, const char *before)
{
	/* The number that the log's device has today. */
	static const char hint[] = "Superblock hint for external superblock should be ";
	static const char present[] = "Feature orphan_present is set but orphan file is clean.";
	bool asked = begins(before, present) || begins(before, "Orphan file (inode ");

	return !*line || begins(line, "e2fsck 1.") || begins(line, "Pass ") ||
	       contains(line, "recovering journal") || is_log_alone(line) ||
	       begins(line, "Clearing orphaned inode ") || begins(line, "Truncating orphaned inode ") ||
	       begins(line, present) ||
	       (begins(line, "Orphan file (inode ") && contains(line, " is not clean.")) ||
	       (asked && !strcmp(line, "Clear? yes")) || begins(line, hint) ||
	       contains(line, "FILE SYSTEM WAS MODIFIED") || contains(line, "% non-contiguous), ") ||
	       /* Sound without, and the kernel leaves such trees as well. */
	       (begins(line, "Inode ") && contains(line, " extent tree (at level ") &&
		contains(line, "Optimize? yes"));
}

char *judge_e2fsck(struct judge *j)
{
	char *said, *wrong = NULL, *line, *rest;
	const char *before = "";
	int code = e2fsck(j, "-fy", &said);
	bool orphans;

	if (code & ~1)
		wrong = say("e2fsck -fy: exit code %d\n%s", code, said ? said : "");
	orphans = said && contains(said, "ing orphaned inode ");
	for (rest = said; !wrong && rest && (line = strsep(&rest, "\n")); before = *line ? line : before)
		if (!line_allowed(line, before) && !(orphans && is_orphans_rest(j, line, before)))
			wrong = say("e2fsck -fy did more than replay: %s", line);
	free(said);
	return wrong ? wrong : judge_clean(j, "e2fsck -fy");
}

/* ---- the kernel ---- */

char *judge_kernel_mount(struct judge *j)
{
	char command[512], *said, *wrong = NULL;

	if (j->split_bytes)
		snprintf(command, sizeof(command),
			 "vol=$(losetup --show -f --sizelimit %llu %s) && { mount -t ext4 -o "
			 "journal_path=$log $vol %s; code=$?; losetup -d $vol; [ $code = 0 ]; }",
			 (unsigned long long)j->split_bytes, j->path, j->dir);
	else
		snprintf(command, sizeof(command), "mount -t ext4 -o loop %s %s", j->path, j->dir);
	/* Loop devices stay for as long as they are mounted. */
	if (judge_run_program(j, command, &said))
		wrong = say("the kernel's mount: %s", said);
	free(said);
	return wrong;
}

char *judge_kernel(struct judge *j, struct model *m, u64 cut)
{
	char command[512], *said, *wrong = judge_kernel_mount(j);
	struct fs *fs;
	int code;

	if (wrong)
		return wrong;
	if (fs_dir_new(j->dir, &fs)) {
		wrong = say("%s cannot be opened", j->dir);
	} else {
		wrong = model_judge(m, fs, cut);
		fs_free(fs);
	}
	snprintf(command, sizeof(command), "umount %s || umount -l %s", j->dir, j->dir);
	code = program_run(command, &said);
	if (code && !wrong)
		wrong = say("the kernel's unmount: %s", said);
	free(said);
	return wrong ? wrong : judge_clean(j, "the kernel's mount");
}
