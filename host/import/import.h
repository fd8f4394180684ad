/*
 * The copy engine: a tree of files goes from a feed to a sink, file by file.
 *
 *   host tree ──┐                              ┌─► volume (whatever file system can be written)
 *   volume ─────┼─► feed ─► items ─► sink ─────┼─► host directory
 *   tar, OCI ───┘                              └─► tar
 *
 * A feed lists items: what is to be made, parents before what is in them, under paths that cannot leave the top. A sink makes
 * them. The engine stands between: it drops what was not asked for, gives files other owners, moves data with several
 * threads in bounded memory, counts, and goes on after what failed for one file alone.
 *
 * A client of vfs.h as the FUSE adapter is: no file system is known here. Ids are those of the disk.
 *
 * Errors: a function's result ends the copy; what is wrong with one file only is in the item (`err`) or comes from fill and
 * is reported, and the copy goes on. Sentences are err_text's.
 */
#ifndef IMPORT_H
#define IMPORT_H

#include "api/werunos.h"
#include "seen.h"
#include "vfs/vfs.h"

/* ---- items ---- */

enum item_kind {
	ITEM_FILE,     /* of any type: mode says which */
	ITEM_LINK,     /* one more name for the file that an earlier item of the path `target` made */
	ITEM_WHITEOUT, /* nothing has this name any more */
	ITEM_OPAQUE,   /* of this directory, what was in it before is gone */
};

struct item_xattr {
	char *name; /* whole: "security.capability"; ACLs in the form of system.posix_acl_access and _default */
	void *value;
	u32 len_bytes;
};

/* A piece of a file that is no hole. */
struct item_range {
	u64 off_bytes, len_bytes;
};

#define ITEM_OWNER 0x1u /* what the item knows of itself: uid and gid */
#define ITEM_ATIME 0x2u
#define ITEM_MTIME 0x4u
#define ITEM_FLAGS 0x8u  /* inode flags, of ITEM_FLAGS_KEPT */
#define ITEM_MAP   0x10u /* where data are, of a file with holes: range */
#define ITEM_FLAGS_KEPT \
	(INO_SYNC | INO_IMMUTABLE | INO_APPEND | INO_NODUMP | INO_NOATIME | INO_DIRSYNC | INO_PROJINHERIT)

/* One thing to be made. Owned by who has it; given back by item_free. */
struct item {
	enum item_kind kind;
	/* From the top, "" for the top itself. item_path_ok holds: no name in it is "", "." or "..", it has no slash at its ends. Any other byte but NUL. */
	char *path;
	const char
		*feed_path; /* what the feed calls it: the end of path, where copy_opts.top was put before */
	u32 mode;           /* with type */
	u32 has;            /* ITEM_* */
	u32 uid, gid, rdev_major, rdev_minor, flags;
	u64 size_bytes; /* of a regular file. 0: fill is not asked */
	u64 data_bytes; /* about how many of them are data and no holes */
	struct timespec64 atime, mtime;
	char *target; /* symlinks: any bytes but NUL; ITEM_LINK: a path as `path` */
	struct item_xattr *xattr;
	u32 xattrs;
	u32 ranges;
	struct item_range *range; /* rising, none empty, within the size */
	int err;                  /* not 0: this one cannot be had, and why says why; only path is good */
	char *why;
	void *priv; /* the feed's, freed with the item by free() */
};

/* NULL: no memory. path is copied. */
struct item *item_new(const char *path);
/* NULL is ignored. */
void item_free(struct item *it);
/* value is copied. */
int item_add_xattr(struct item *it, const char *name, const void *value, u32 len_bytes) __must_check;
/* -E2BIG: more than any file is given memory for. */
int item_add_range(struct item *it, u64 off_bytes, u64 len_bytes) __must_check;
/* About the memory it takes. */
u64 item_bytes(const struct item *it);
/* Makes it one that cannot be had, with err_text as the reason. */
void item_spoil(struct item *it, int err);
/* True: the path cannot leave the top. */
bool item_path_ok(const char *path);

/* ---- feeds ---- */

/* Where a feed puts a file's bytes. */
struct outlet {
	/* Memory for the file's next bytes, at least 1 and at most want; NULL: the copy has ended, give up with -ECANCELED. */
	u8 *(*room)(struct outlet *o, u64 want_bytes, u64 *room_bytes);
	/* The first len_bytes of the room are the file's bytes at off_bytes, beyond all that was put before. What is left out is a hole. */
	int (*put)(struct outlet *o, u64 off_bytes, u64 len_bytes);
};

struct feed;

struct feed_ops {
	/* The next item; *out NULL: there is none. One call at a time. */
	int (*next)(struct feed *f, struct item **out);
	/*
	 * A regular file's bytes. Of a `serial` feed: between the item's next and the following one, by the same thread; what is not asked
	 * for is skipped. Else at any time before close, by any thread, for several items at once.
	 */
	int (*fill)(struct feed *f, const struct item *it, struct outlet *to);
	/*
	 * Finds out where the data of a regular file are that may have holes: ITEM_MAP, unless that would be too long. Right after its next, for
	 * a sink with SINK_MAP. NULL: next has said what it knows.
	 */
	int (*map)(struct feed *f, struct item *it);
	/* How far it is, of how much, in bytes of its own; NULL: unknown. At any time, by any thread. */
	void (*position)(struct feed *f, u64 *done_bytes, u64 *all_bytes);
	void (*close)(struct feed *f); /* frees it */
};

/* What is not wanted of a tree. */
struct select {
	const char *const *
		exclude; /* patterns of fnmatch(3): with a slash of the whole path (from the top, no leading slash), else of the last name */
	u32 excludes;
	bool one_file_system; /* host trees: stays on the top's */
	bool dereference;     /* host trees: what symbolic links lead to, instead of them */
	u64 dst_dev, dst_ino; /* host trees: of the file that is copied to, which cannot be copied; 0: none */
};
/* What is copied to is the file that is open there; no file (-1, a device): nothing. */
void select_dst(struct select *s, int fd);
/* Excluded, or in something that is. */
bool select_drops(const struct select *s, const char *path) __must_check;

/* Embedded at the start of a feed of its own. */
struct feed {
	const struct feed_ops *ops;
	const struct select *
		select; /* [const] NULL: everything is wanted. Feeds of trees do not go into what is dropped */
	bool serial;    /* [const] */
};

/* The tree at a path of the host; its top is the item "". A file that is no directory is an item whose path is `name`. */
int feed_host(const char *path, const char *name, const struct select *select,
	      struct feed **out) __must_check;
/* The tree at an inode of a volume, which stays mounted meanwhile; `name` as above. */
int feed_volume(struct inode *top, const char *name, const struct select *select,
		struct feed **out) __must_check;
/*
 * A tar archive: ustar, pax, GNU's and old star's form, whatever packs it (tar.h). "-": standard input. layers: OCI's .wh. names are whiteouts and
 * opaque directories. An error of next or fill is -EBADMSG where the archive is broken.
 */
int feed_tar(const char *file, bool layers, const struct select *select, struct feed **out) __must_check;

/* ---- sinks ---- */

#define SINK_PAD_BYTES 4096u

struct sink;
struct sink_file; /* a file being made: the sink's */

/* Calls are one at a time and in the feed's order. Only write and end of a `parallel` sink's files may come from several threads at once. */
struct sink_ops {
	/* Anything but a regular file. What has the name already is replaced, a directory by a directory kept. */
	int (*make)(struct sink *k, const struct item *it);
	/* A regular file: begin, write in rising order, end. end with err: it is not to be had, nothing is left of it. end's result is the file's. */
	int (*begin)(struct sink *k, const struct item *it, struct sink_file **out);
	/* Behind buf + len there is room to write up to a multiple of SINK_PAD_BYTES from buf. */
	int (*write)(struct sink *k, struct sink_file *sf, u64 off_bytes, void *buf, u64 len_bytes);
	int (*end)(struct sink *k, struct sink_file *sf, const struct item *it, int err);
	/* After the last item, also when the copy was broken off: times of directories; everything is as it shall stay, if not durable. */
	int (*finish)(struct sink *k);
	void (*close)(struct sink *k); /* frees it */
};

/* Embedded at the start of a sink of its own. */
struct sink {
	const struct sink_ops *ops;
	bool parallel; /* [const] */
	u32 keep;      /* [const] KEEP_*, SINK_* */
};

#define KEEP_OWNER 0x1u
#define KEEP_MODE  0x2u /* set-id bits too; without: permissions less umask */
#define KEEP_TIMES 0x4u
#define KEEP_XATTR 0x8u /* and ACLs, and flags */
#define KEEP_ALL   0xfu
/* The items are a layer: a file may take a directory's place, with all that is in it; what the same sink made is not lost to whiteouts. */
#define SINK_LAYER 0x10u
/* Times of access are not kept: they are no part of what was copied. */
#define SINK_NO_ATIME 0x20u
/* Must know a file's holes before its data. */
#define SINK_MAP 0x40u
_Static_assert((KEEP_ALL | SINK_LAYER | SINK_NO_ATIME | SINK_MAP) == 0x7f, "each bit means one thing");

/* Below directory `top` of a volume. Symbolic links on the way to an item are refused (-ELOOP), never followed. cred: owner where none is kept. */
int sink_volume(struct inode *top, u32 keep, const struct cred *cred, struct sink **out) __must_check;
/*
 * Below a directory of the host, which exists. Nothing outside it is touched, whatever the items are called. umask: of the modes of new files, where
 * none are kept. Each level of the tree takes an open file.
 */
int sink_host(const char *dir, u32 keep, u32 umask, struct sink **out) __must_check;
/*
 * A tar archive (pax), compressed as its name says (.gz, .zst, .xz, else not). "-": standard output, which is left open. What breaks off in the middle
 * of a file is filled up with zeros: its header has been written. Sockets: -EOPNOTSUPP.
 */
int sink_tar(const char *file, struct sink **out) __must_check;

/*
 * Everything in a directory goes, as deep as it is, but for the inodes in `kept` (NULL: none); a directory that is kept stays, with what
 * is kept in it. What cannot go stays, the first such error is the result.
 */
int volume_clear(struct inode *top, const struct seen *kept) __must_check;
/* The same for one name and what is below it. -ENOENT. */
int volume_remove(struct inode *dir, const struct name *name, const struct seen *kept) __must_check;

/* ---- the engine ---- */

/* Set by a signal's handler or another thread. */
static inline bool stop_asked(const volatile int *stop)
{
	return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

struct copy_opts {
	bool has_owner; /* everything belongs to uid and gid */
	u32 uid, gid;
	const struct werunos_id_map *uid_map, *gid_map; /* what is in none stays */
	u32 uid_maps, gid_maps;
	const char *
		top; /* the items' paths go below this one ("etc/conf.d"); NULL: they stay. The item "" is then this directory */
	u32 threads;      /* 0: by the machine */
	u64 memory_bytes; /* for data on its way; 0: 64 MiB */
	const volatile int
		*stop; /* not 0: what is complete stays, the rest is left out; NULL: never. See stop_asked */
	/* One file could not be copied: path, errno, sentence. Any thread, one at a time. */
	void (*failed)(void *ctx, const char *path, int err, const char *why);
	/* About twice a second, and at the end. NULL: nobody looks. */
	void (*progress)(void *ctx, const struct werunos_report *r);
	void *ctx;
};

/*
 * Copies everything. 0: to the end, though single files may have failed (report). -ECANCELED: stopped. Else what made going on useless: no
 * space, a broken volume, a broken archive; what was made before stands. finish was called in any case.
 */
int copy_run(struct feed *f, struct sink *k, const struct copy_opts *opts,
	     struct werunos_report *report) __must_check;

/* Adds what one of several copies, one after the other, has done. */
void report_add(struct werunos_report *sum, const struct werunos_report *r);

/* Several copies, one after the other, that are one to who asked for them. */
struct series {
	const struct copy_opts *asked;
	struct copy_opts opts; /* of each of them */
	struct werunos_report all;
	u64 position_all; /* of all their feeds; 0: unknown */
};
/* opts stays where it is as long as the series goes on. */
void series_init(struct series *s, const struct copy_opts *opts, u64 position_all);
/* copy_run, and s->all has it. */
int series_run(struct series *s, struct feed *f, struct sink *k) __must_check;

/* What a tree needs, by looking at it without its data. */
struct copy_size {
	u64 files, directories, others; /* others: symlinks, devices; names of hard links are not counted */
	u64 bytes;                      /* of data, holes left out */
	u64 blocks_4k;                  /* the same in blocks, each file rounded up */
	u64 name_bytes;                 /* of all names */
	u64 xattr_bytes;
};
/* Goes through a feed to its end, which can then only be closed. */
int copy_measure(struct feed *f, const struct copy_opts *opts, struct copy_size *out) __must_check;

#endif
