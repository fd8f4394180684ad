/*
 * The crash suite: a workload is run once on a recording device; then, for many moments at which the power may have gone, the
 * device is made as it may be found afterwards, and judged.
 *
 *   model.c    what was done, operation by operation, and what may therefore be found after a crash
 *   record.c   the volume, the stack of devices, and the operations as a workload calls them
 *   work.c     the workloads
 *   state.c    from (record, kind, seed) to an image; states.c: which of them are judged
 *   judge.c    three judges: we mount it; e2fsck alone; the kernel mounts it
 *   log.c      the same for the journal alone; recover.c: for the recovery of any image; mend.c: for its mending
 *   main.c     which states of which workload, and the report
 *
 * What is legal after a crash
 *   names    exactly as after operation k, for one k between the last one that an fsync or sync made sure and the last one that had
 *            begun: names, types, owners (a file's owner is its number here), groups, modes, link counts, targets, attributes
 *   size     one that the file had since its last fsync, or lies between the sizes before and after a write
 *   bytes    each is one that the file held there since its last fsync, zero where it was never written, was cut off or punched
 * Each file's bytes are its own, made from its number and the operation that wrote them; free space is filled with a stamp.
 */
#ifndef CRASH_H
#define CRASH_H

#include "block/block.h"
#include "support/fsapi.h"

#define SECTOR     512u
#define PATH_LEN   512u
#define STAMP      0xa5u /* what free space is filled with */
#define XATTRS_MAX 24u
#define FILE_OPEN  8u
#define NO_OP      0u

static inline u64 rnd(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed * 0x2545f4914f6cdd1dull;
}
static inline u32 rnd_below(u64 *seed, u32 n)
{
	return (u32)((rnd(seed) >> 32) % n);
}

/* ---- model.c ---- */

/* A sentence, to be freed. */
char *say(const char *fmt, ...) __printf_like(1, 2);

/* The bytes [off, end) of a file became those of operation op, or zero. */
struct event {
	u32 op;
	bool data;
	u64 off, end;
};
/* In operation op the size was anything from lo to hi; `size` after it. */
struct span {
	u32 op;
	u64 lo, hi, size;
};
struct xattr {
	char name[40];
	u32 op, len; /* the value is pattern(id, op), len bytes */
};
/* A file of any type. Its number is its owner on the volume, and its group in the beginning. */
struct mfile {
	u32 id, mode, nlink, gid;
	char *target;
	u64 size;
	u32 touched; /* the last operation that changed the inode */
	struct event *event;
	struct span *span;
	struct xattr xattr[XATTRS_MAX];
	u32 events, spans, xattrs;
	u32 *synced; /* operations after which it was made sure */
	u32 syncs;
};
struct entry {
	char *path;
	u32 id;
};
struct op {
	u64 start, end;    /* records before it began, and when it had returned */
	u32 sure;          /* this and all before are durable when it has returned */
	const char *names; /* the tree after it */
	char what[96];
};
struct model {
	struct mfile *file; /* [id]; 0 is the root */
	u32 files;
	struct entry *entry;
	u32 entries;
	struct op *op; /* [1 .. ops]; 0 is the beginning */
	u32 ops;
};

/* Bytes [off, off + len) of what operation op writes into file id. */
void pattern(u32 id, u32 op, u64 off, void *buf, u64 len);
void model_init(struct model *m);
void model_free(struct model *m);
u32 model_begin(struct model *m, u64 records, const char *fmt, ...) __printf_like(3, 4);
/* The operation returned: the tree after it is remembered. */
void model_end(struct model *m, u64 records);
struct mfile *model_file(struct model *m, u32 id);
/* NO_OP when there is none. */
struct entry *model_find(struct model *m, const char *path);
struct mfile *model_at(struct model *m, const char *path);
/* All of these stand for the operation begun last. */
struct mfile *model_create(struct model *m, const char *path, u32 mode, const char *target);
void model_link(struct model *m, const char *path, struct mfile *f);
void model_unlink(struct model *m, const char *path);
void model_rename(struct model *m, const char *from, const char *to, bool exchange);
void model_write(struct model *m, struct mfile *f, u64 off, u64 len);
void model_size(struct model *m, struct mfile *f, u64 size);
void model_zero(struct model *m, struct mfile *f, u64 off, u64 len);
/* len ~0: removed. */
void model_xattr(struct model *m, struct mfile *f, const char *name, u32 len);
void model_sync(struct model *m, struct mfile *f); /* NULL: everything */

/* Is what fs shows legal, when the records [0, cut) had been made? NULL, or why not (freed by the caller). */
char *model_judge(struct model *m, struct fs *fs, u64 cut);

/* ---- record.c ---- */

struct volume {
	const char *name;
	const char *args; /* of mke2fs */
	u64 bytes;
	bool unsafe;          /* it promises nothing: only for showing that the suite can fail */
	const char *tune;     /* of tune2fs afterwards; NULL: nothing */
	bool some_journalled; /* every second file is +j */
	u64 made_bytes;       /* how long mke2fs makes it, so that it can grow; 0: all of it */
	const char *extended; /* more words for mke2fs -E, after a comma; NULL: none */
	bool fold;            /* the root directory folds case, and all below; names are spelled in any way */
	u64 log_bytes;        /* the log is a device of its own, so long; 0: it lies on the volume */
	u32 log_compat, log_incompat; /* features of the log besides its own */
};
const struct volume *volume_find(const char *name);
const struct volume *volumes(void);
/* An image in memory, the caller's to free; formatted once in a row. 0, or -errno with a message on stderr. */
int volume_make(const struct volume *v, u8 **out);

struct run {
	const struct volume *volume;
	u64 seed;
	u64 bytes;       /* of the device that is recorded */
	u64 split_bytes; /* the volume's on it, the log's device being the rest; 0: it is all the volume */
	u8 *before;      /* the image when recording began */
	struct blkdev *fault;
	struct fs *fs; /* NULL when the workload is over */
	struct model model;
	struct fs_file held[FILE_OPEN];
	u32 held_id[FILE_OPEN];
	bool full;       /* -ENOSPC is expected */
	u64 moved_bytes; /* by w_defrag */
	char *wrong;
};

/* 0, or -errno with a message on stderr. no_flush: as mount_whole's. */
int run_start(struct run *r, const struct volume *v, u64 seed, bool no_flush);
/* Compares what is shown with the model, and unmounts. */
int run_stop(struct run *r);
void run_free(struct run *r);
/* Records a mount and unmount of r->before. NULL, or what went wrong (freed by the caller). */
char *run_mount(struct run *r);
/* The volume on whole, which has the log's device behind it from split_bytes on unless that is 0. no_flush: the volume's device forgets
 * every flush and FUA, the log's does not. */
int mount_whole(struct blkdev *whole, u64 split_bytes, bool no_flush, struct fs **out);
/* What a workload calls. An unexpected result ends up in r->wrong, and what follows does nothing. False: it was not done. */
/* What forgets every flush and FUA on the way to lower. */
int lossy_new(struct blkdev *lower, struct blkdev **out);
/* A device in memory that begins as r->before and records into r->fault; *out is it, or one that loses its flushes. -errno. */
int record_new(struct run *r, bool no_flush, struct blkdev **out);
bool w_create(struct run *r, const char *path);
bool w_mkdir(struct run *r, const char *path);
bool w_symlink(struct run *r, const char *path, u32 len);
bool w_link(struct run *r, const char *from, const char *to);
bool w_unlink(struct run *r, const char *path);
bool w_rmdir(struct run *r, const char *path);
bool w_rename(struct run *r, const char *from, const char *to, bool exchange);
bool w_write(struct run *r, const char *path, u64 off, u64 len);
bool w_append(struct run *r, const char *path, u64 len);
bool w_truncate(struct run *r, const char *path, u64 size);
bool w_punch(struct run *r, const char *path, u64 off, u64 len);
bool w_zero(struct run *r, const char *path, u64 off, u64 len);
bool w_prealloc(struct run *r, const char *path, u64 off, u64 len, bool keep_size);
bool w_chmod(struct run *r, const char *path, u32 mode);
bool w_chgrp(struct run *r, const char *path, u32 gid);
/* The file is of the project; inherits: what is made in the directory too. */
bool w_project(struct run *r, const char *path, u32 project, bool inherits);
bool w_setxattr(struct run *r, const char *path, const char *name, u32 len);
bool w_removexattr(struct run *r, const char *path, const char *name);
bool w_fsync(struct run *r, const char *path);
bool w_sync(struct run *r);
/* The volume becomes longer, by `part` of 16 parts of what it does not have. */
bool w_grow(struct run *r, u32 part);
/* In fewer pieces, if that can be. */
bool w_defrag(struct run *r, const char *path);
/* Keeps the file open in a slot; it may lose its names. */
bool w_hold(struct run *r, u32 slot, const char *path);
bool w_held_write(struct run *r, u32 slot, u64 off, u64 len);
bool w_held_truncate(struct run *r, u32 slot, u64 size);
bool w_release(struct run *r, u32 slot);
/* A new file on the way to being named: the names that are there, at random. NULL: none. */
const char *w_some_file(struct run *r, u64 *seed);
const char *w_some_path(struct run *r, u64 *seed);

/* ---- work.c ---- */

struct work {
	const char *name;
	void (*run)(struct run *r, u64 *seed);
};
const struct work *works(void);
const struct work *work_find(const char *name);

/* ---- state.c ---- */

enum state_kind {
	STATE_ALL,     /* everything up to the cut */
	STATE_NONE,    /* nothing that no flush covers */
	STATE_SOME,    /* whole requests at random */
	STATE_TORN,    /* sectors at random */
	STATE_LAST,    /* of the uncovered ones, only the last */
	STATE_BUT_ONE, /* all but one */
	STATE_KINDS,
};
struct state {
	u64 cut;
	enum state_kind kind;
	u64 seed;
};
/* What is durable grows with the cut: states come in order of cut. */
struct replay {
	const struct run *run;
	u64 count;      /* of records */
	u64 applied[2]; /* records [0, applied) of the volume, of the log's device, are in `durable` */
	u8 *durable;
};
int replay_init(struct replay *p, const struct run *r);
void replay_free(struct replay *p);
/* Requests that no flush covers when the power goes at the cut. */
u32 replay_pending(const struct replay *p, u64 cut);
void replay_make(struct replay *p, const struct state *s, u8 *image);

/* ---- judge.c ---- */

struct judge {
	int fd;
	u8 *image;
	u64 bytes, split_bytes; /* as struct run */
	bool fold;
	char path[64]; /* of the image, for other programs */
	char dir[64];  /* where the kernel mounts it */
	bool can_mount;
};
int judge_init(struct judge *j, u64 bytes);
/* COMMAND as a shell runs it, with $log for the log's device if there is one (freed by the caller). */
int judge_run_program(const struct judge *j, const char *command, char **said);
void judge_free(struct judge *j);
/* Each works on j->image, and spoils it. NULL, or what is wrong (freed by the caller). */
char *judge_ours(struct judge *j, struct model *m, u64 cut);
char *judge_e2fsck(struct judge *j);
/* e2fsck -fn finds nothing. It spoils nothing. */
char *judge_clean(struct judge *j, const char *after);
/* On j->dir. */
char *judge_kernel_mount(struct judge *j);
/* The superblock's checksum lies in its other sector: of one that was torn, the kernel and e2fsck want nothing to do with. */
bool super_is_torn(const u8 *image);
char *judge_kernel(struct judge *j, struct model *m, u64 cut);
/* No kernel mounts a volume whose blocks are longer than its pages; for quota files and casefold it has to be built. */
bool judge_kernel_can(const struct judge *j);

/* ---- states.c ---- */

struct states {
	u64 seed, count; /* spread over all moments; 0: every moment in every kind */
	bool one;        /* only this one: */
	struct state only;
	const char *keep; /* where the image of each goes, over the last; NULL: nowhere */
};
/* CUT:KIND:SEED */
bool states_parse(const char *s, struct state *out);
/* Judges the state that j->image is, which it may spoil. NULL, or what is wrong (freed by the caller). */
typedef char *state_judge(void *ctx, struct replay *p, struct judge *j, const struct state *s);
/* The wanted states until one is wrong: NULL, or which and why (freed by the caller). */
char *states_judge(const struct states *o, struct replay *p, struct judge *j, state_judge *judge, void *ctx,
		   u64 *judged);

/* ---- recover.c ---- */

/* The image's bytes are r->before, and j is for it. False: it cannot be read, which was said. */
bool image_load(const char *image, struct run *r, struct judge *j);
/* An image that needs recovery, whose recovery is cut off. */
bool recover_suite(const char *image, const struct states *states, u32 *tests);
/* What our mount of the judge's image shows: each name, with its content (freed by the caller); *wrong when that is not all. */
char *shown(struct judge *j, char **wrong);
char *shown_by(struct fs *fs, char **wrong);

/* ---- mend.c ---- */

/* A damaged image, the mending of which is cut off. undo_file: where one is kept meanwhile, which is not there yet; NULL: nowhere. 0; 1: not
 * good; 3: the mending fails by itself, or leaves errors, so that there is nothing to compare with. */
int mend_suite(const char *image, const char *undo_file, const struct states *states, bool no_flush,
	       u32 *tests);

/* ---- shorten.c ---- */

struct shortening {
	const char *image;
	u64 size_bytes;  /* 0: as short as it can be */
	u64 split_bytes; /* its log's device lies in the image from there on; 0: the log is inside */
	u64 seed, states;
	bool no_flush, expect_failure;
};
/* A volume that becomes shorter, which is cut off. */
bool shorten_suite(const struct shortening *o, u32 *tests);

/* ---- log.c ---- */

/* The journal by itself. tooth: "", or what is switched off, which must be found out: "flush", "revoke", "gate". */
bool log_suite(const char *tooth, const struct states *states, u32 *tests);

#endif
