/*
 * The model test: random operations, done on a tree under test and on an oracle (a directory of the kernel's own
 * file system), compared after each.
 *
 *   gen.c    makes the next operation: plain data, so that a sequence can be repeated and cut down
 *   run.c    does an operation on one side
 *   check.c  compares what both sides say and show
 *   main.c   runs sequences, and shrinks one that fails
 */
#ifndef MODEL_H
#define MODEL_H

#include "support/fsapi.h"

#define SLOTS    12u
#define PATH_LEN 200u

enum op_kind {
	OP_OPEN,
	OP_CLOSE,
	OP_PREAD,
	OP_PWRITE,
	OP_FTRUNCATE,
	OP_FALLOCATE,
	OP_SEEK,
	OP_COPY,
	OP_FSYNC,
	OP_FLINK,
	OP_MKDIR,
	OP_RMDIR,
	OP_UNLINK,
	OP_RENAME,
	OP_LINK,
	OP_SYMLINK,
	OP_READLINK,
	OP_MKNOD,
	OP_TRUNCATE,
	OP_CHMOD,
	OP_CHOWN,
	OP_UTIMENS,
	OP_SETXATTR,
	OP_GETXATTR,
	OP_REMOVEXATTR,
	OP_LISTXATTR,
	OP_STAT,
	OP_LIST,
	OP_FORGET,
	OP_COUNT,
};

struct op {
	enum op_kind kind;
	u32 slot, slot2; /* open files */
	int flags;       /* of open, rename, setxattr, fallocate; whence of seek */
	u32 mode, a, b;  /* owners, device numbers */
	u32 data;        /* what a write writes */
	u64 off, off2, len;
	struct timespec t[2];
	char path[PATH_LEN], path2[PATH_LEN]; /* path2: target, or an attribute's name */
};

/* What an operation gave. Members that it does not give are 0. */
struct result {
	int err;
	u64 value, hash;
	char text[256];
	struct fs_stat st;
};

struct slot {
	struct fs_file f;
	bool used;
};

struct side {
	struct fs *fs;
	struct slot slot[SLOTS];
};

/* The names that exist, as far as the generator knows; and its random state. */
#define VALUE_MAX 65536u

struct gen {
	u64 random;
	u32 uid, gid;    /* who acts */
	bool root;       /* owners may be changed */
	bool tmpfs;      /* the oracle lacks ZERO_RANGE */
	bool exact_seek; /* only operations after which holes are the same everywhere */
	u32 value_max;   /* bytes of some attributes' values; 0: all are short */
	struct {
		bool open;
		int flags;
		u64 size; /* about */
	} slot[SLOTS];
	u32 known;
	struct known {
		char path[PATH_LEN];
		bool dir;
	} names[400];
};

u64 gen_random(struct gen *g);
void gen_init(struct gen *g, u64 seed, const struct fs *oracle, bool tmpfs);
void gen_next(struct gen *g, struct op *out);
/* The oracle's answer, from which the generator learns what exists. */
void gen_learn(struct gen *g, const struct op *op, const struct result *r);

/* Done on one side; `type` is the type of the file that an open would meet, or 0. */
void op_run(struct side *s, const struct op *op, struct result *out);
/* One line without end. */
void op_print(const struct op *op, char *out, size_t size);
void side_close_all(struct side *s);

/* Before and after an operation: what both sides show of the files it touches. */
struct touched {
	u32 n;
	struct view {
		char path[PATH_LEN];
		int slot; /* -1: the path */
		struct fs_stat st[2];
		int err[2];
	} view[8];
};
void touched_before(struct side sides[2], const struct op *op, struct touched *t);
/* False, with a sentence in why, when the sides differ. sides[0] is the oracle. */
/* What can be compared with this oracle after this kind of sequence. */
struct rules {
	bool exact_seek, times;
};
bool check_step(struct side sides[2], const struct op *op, const struct result r[2], struct touched *t,
		const struct rules *rules, char *why, size_t size);
bool check_tree(struct side sides[2], const struct rules *rules, char *why, size_t size);

#endif
