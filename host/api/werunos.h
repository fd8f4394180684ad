/*
 * libwerunos: ext4 and btrfs volumes, read and written in user space, without a mount and without root.
 *
 * Volumes. werunos_open takes what the commands take: a file, a device, either with #pN for a partition, or memfs:SIZE. Its locks are the
 * commands' too: a volume that is open to be changed is nobody else's. Paths are the volume's own, from its root; symbolic links in them
 * never lead out of it. There are no permissions in the way: who can open the image may do everything in it.
 *
 * Durability. What was changed is durable when werunos_sync, werunos_file_sync or werunos_close has returned 0, and not before; on volumes
 * with a journal a crash at any time leaves a sound volume, without the latest of what was not synced. After werunos_close has failed the
 * volume holds what was durable before.
 *
 * Ownership. What a function gives by its last parameter is the caller's, and goes by the function that the type names; NULL is ignored
 * there. Everything that is handed in is borrowed until the function returns, and what a callback gets until the callback returns. Options
 * are structures to be zeroed first: zero is always the default, and NULL is all of them. Files are closed before their volume.
 *
 * Threads. Any number of threads may use one volume, one file, and several volumes; open and close belong to one. Callbacks of listings
 * and walks come without a lock and may call everything but the close of what is being used. Those of a copy come from its own threads,
 * one at a time, and call nothing here. After a fork the child may use nothing that was open.
 *
 * Errors. 0, or a negative errno (linux: -ENOENT); results in parameters are void then. werunos_error_text is the sentence that belongs to it, of
 * the calling thread's last call that failed; it speaks of options as the commands call them, and holds names of
 * volumes and archives as they are: what shows it on a terminal makes that harmless. Of a volume whose content cannot be right: -EUCLEAN.
 * Nothing is printed, no signal, umask, limit or directory of the process is touched. Of the environment SOURCE_DATE_EPOCH (werunos_make) and
 * WERUNOS_NO_RING are read. A copy to a pipe may meet SIGPIPE, and one of very deep trees to the host more open files than RLIMIT_NOFILE has.
 *
 * Units are in the names: bytes, or blocks of 512. Strings are bytes that end in NUL; names on a volume need not be UTF-8.
 */
#ifndef WERUNOS_H
#define WERUNOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WERUNOS_VERSION "0.1"
#define WERUNOS_CHECKED __attribute__((warn_unused_result))

/* Of the library that runs. */
const char *werunos_version(void);
/* The sentence of this thread's last error, "" before one. Valid until its next call. */
const char *werunos_error_text(void);
/*
 * Where warnings of the whole process go, one line each: appended to a file, or "syslog". Without this call they go nowhere. Before the
 * first volume is opened.
 */
int werunos_log(const char *file) WERUNOS_CHECKED;

/* ---- volumes ---- */

struct werunos_volume;

struct werunos_open_options {
	bool write; /* else nothing is changed, not even the journal; -EROFS, -EOPNOTSUPP: it cannot be written, says the text */
	uint32_t part; /* a partition; 0: as SPEC says */
	bool has_offset;
	uint64_t offset_bytes;     /* where the volume begins, instead of a partition */
	const char *const *device; /* SPECs of its other devices; none: they are looked for */
	uint32_t devices;
	const char *journal;    /* SPEC of the device that its journal has to itself; NULL: not said */
	uint64_t cache_bytes;   /* for metadata; 0: by the machine */
	const char *fs_options; /* "name=value,…", as mount -o has them for this type; NULL: none */
	bool no_recovery;       /* reading: as it lies, without what is in the journal */
	bool has_superblock;    /* reading: by a certain copy of the superblock */
	uint64_t superblock;    /* which, as the type counts them */
	bool has_owner;         /* new files belong to uid and gid; else to the process's user */
	uint32_t uid, gid;
};

int werunos_open(const char *spec, const struct werunos_open_options *o,
		 struct werunos_volume **out) WERUNOS_CHECKED;
/* 0: all is durable. The volume is closed in any case but -EBUSY, a file of it being open. */
int werunos_close(struct werunos_volume *v) WERUNOS_CHECKED;
/* All that was changed before is durable. */
int werunos_sync(struct werunos_volume *v) WERUNOS_CHECKED;

struct werunos_info {
	const char *type;   /* "ext4" */
	const char *name;   /* of the file or device, whole; as long as the volume is open */
	const char *notice; /* what people should know of it, one line; "" nothing */
	char label[256];
	uint8_t uuid[16];
	bool read_only;
	uint32_t block_bytes, name_max;
	uint64_t file_max_bytes;                    /* the longest file */
	uint64_t blocks, blocks_free, blocks_avail; /* avail: to those without privilege */
	uint64_t inodes, inodes_free;               /* 0: there is no such limit */
};

int werunos_info(struct werunos_volume *v, struct werunos_info *out) WERUNOS_CHECKED;

/* What lies somewhere, without mounting it. */
struct werunos_identity {
	char type[16];
	char label[256];
	uint8_t uuid[16];
	uint64_t size_bytes; /* by the volume's own word; 0: it does not say */
};

/* Of the options, those that say where it is. -ENODEV: no volume; the text says what is there instead. */
int werunos_identify(const char *spec, const struct werunos_open_options *o,
		     struct werunos_identity *out) WERUNOS_CHECKED;

struct werunos_names {
	const char *label;   /* NULL: stays */
	const uint8_t *uuid; /* 16 bytes; NULL: stays */
	bool uuid_random;    /* or a new one */
};

/*
 * New names for a volume that is not open. notice (NULL, or notice_bytes long) gets what people should know besides, "" nothing. A crash leaves
 * the old or the new names.
 */
int werunos_relabel(const char *spec, const struct werunos_open_options *o, const struct werunos_names *names,
		    char *notice, size_t notice_bytes) WERUNOS_CHECKED;

/* ---- what is there ---- */

/* A symbolic link at the end of the path is meant itself, and not what it leads to. */
#define WERUNOS_NOFOLLOW 0x1u

struct werunos_time {
	int64_t sec; /* since 1970 */
	uint32_t nsec;
};

struct werunos_stat {
	uint64_t ino;
	uint32_t generation;
	uint32_t mode; /* with type, as stat(2) has it */
	uint32_t links, uid, gid, rdev_major, rdev_minor;
	uint32_t block_bytes; /* good for I/O */
	uint32_t flags;       /* FS_*_FL of linux/fs.h */
	uint32_t project;
	uint64_t size_bytes, blocks_512;
	struct werunos_time accessed, modified, changed, created;
	bool has_created;
};

int werunos_stat(struct werunos_volume *v, const char *path, uint32_t flags,
		 struct werunos_stat *out) WERUNOS_CHECKED;
/* The target, ended by NUL. -ERANGE: more than size_bytes. */
int werunos_readlink(struct werunos_volume *v, const char *path, char *buf,
		     size_t size_bytes) WERUNOS_CHECKED;

struct werunos_entry {
	const char *name;
	size_t name_bytes;
	uint64_t ino;
	uint8_t type; /* DT_* of dirent.h */
};
/* 0: go on; anything else ends the listing, and is what it returns. */
typedef int (*werunos_entry_fn)(void *ctx, const struct werunos_entry *e);
/* The names in a directory but "." and "..", in the volume's order. What comes or goes meanwhile may be told of or not. */
int werunos_readdir(struct werunos_volume *v, const char *path, werunos_entry_fn fn,
		    void *ctx) WERUNOS_CHECKED;

struct werunos_visit {
	const char *path; /* from the start, "" for that */
	uint32_t depth;
	const struct werunos_stat *stat; /* NULL: it could not be looked at */
	int err;                         /* not 0: that, or its directory could not be listed */
	const char *why;
};
typedef int (*werunos_visit_fn)(void *ctx, const struct werunos_visit *e);
/* A path and all that is below it, directories before what is in them. Symbolic links are not followed. */
int werunos_walk(struct werunos_volume *v, const char *path, werunos_visit_fn fn, void *ctx) WERUNOS_CHECKED;

/* Writes at most size_bytes; size_bytes 0: only how long it is. -ERANGE: it is longer. -ENODATA: there is none. */
int werunos_getxattr(struct werunos_volume *v, const char *path, uint32_t flags, const char *name, void *buf,
		     size_t size_bytes, size_t *len_bytes) WERUNOS_CHECKED;
/* Names, each ended by NUL. */
int werunos_listxattr(struct werunos_volume *v, const char *path, uint32_t flags, char *buf,
		      size_t size_bytes, size_t *len_bytes) WERUNOS_CHECKED;

/* ---- changing it ---- */

/* Modes are permission bits, taken as they are: the umask is the process's and is not looked at. */
int werunos_mkdir(struct werunos_volume *v, const char *path, uint32_t mode) WERUNOS_CHECKED;
int werunos_symlink(struct werunos_volume *v, const char *target, const char *path) WERUNOS_CHECKED;
/* One more name for a file. Symbolic links at the end of `from` are not followed. */
int werunos_link(struct werunos_volume *v, const char *from, const char *path) WERUNOS_CHECKED;
/* mode with the type: a device, fifo, socket, or an empty file. */
int werunos_mknod(struct werunos_volume *v, const char *path, uint32_t mode, uint32_t rdev_major,
		  uint32_t rdev_minor) WERUNOS_CHECKED;
int werunos_unlink(struct werunos_volume *v, const char *path) WERUNOS_CHECKED;
int werunos_rmdir(struct werunos_volume *v, const char *path) WERUNOS_CHECKED;
/* flags: RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h. */
int werunos_rename(struct werunos_volume *v, const char *from, const char *to,
		   uint32_t flags) WERUNOS_CHECKED;
int werunos_truncate(struct werunos_volume *v, const char *path, uint64_t size_bytes) WERUNOS_CHECKED;
int werunos_chmod(struct werunos_volume *v, const char *path, uint32_t mode) WERUNOS_CHECKED;
/* An id of UINT32_MAX stays. */
int werunos_chown(struct werunos_volume *v, const char *path, uint32_t flags, uint32_t uid,
		  uint32_t gid) WERUNOS_CHECKED;
/* A time that is NULL stays. */
int werunos_utimes(struct werunos_volume *v, const char *path, uint32_t flags,
		   const struct werunos_time *accessed, const struct werunos_time *modified) WERUNOS_CHECKED;
/* xattr_flags: XATTR_CREATE and XATTR_REPLACE of sys/xattr.h. */
int werunos_setxattr(struct werunos_volume *v, const char *path, uint32_t flags, const char *name,
		     const void *value, size_t len_bytes, uint32_t xattr_flags) WERUNOS_CHECKED;
int werunos_removexattr(struct werunos_volume *v, const char *path, uint32_t flags,
			const char *name) WERUNOS_CHECKED;

/* ---- open files ---- */

struct werunos_file;

/*
 * flags: of open(2): O_RDONLY, O_WRONLY, O_RDWR, O_CREAT (with mode), O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW. Regular files alone:
 * -EISDIR, -ENODEV.
 */
int werunos_file_open(struct werunos_volume *v, const char *path, int flags, uint32_t mode,
		      struct werunos_file **out) WERUNOS_CHECKED;
void werunos_file_close(struct werunos_file *f);
int werunos_file_stat(struct werunos_file *f, struct werunos_stat *out) WERUNOS_CHECKED;
/* *done_bytes is less than len_bytes only at the end of the file. */
int werunos_file_read(struct werunos_file *f, uint64_t off_bytes, void *buf, size_t len_bytes,
		      size_t *done_bytes) WERUNOS_CHECKED;
/* All of it, else an error. Of a file opened with O_APPEND at its end, wherever off_bytes is. done_bytes: NULL, or how much, also on error. */
int werunos_file_write(struct werunos_file *f, uint64_t off_bytes, const void *buf, size_t len_bytes,
		       size_t *done_bytes) WERUNOS_CHECKED;
int werunos_file_truncate(struct werunos_file *f, uint64_t size_bytes) WERUNOS_CHECKED;
/* The file, and that it has its name, are durable. */
int werunos_file_sync(struct werunos_file *f) WERUNOS_CHECKED;

/* ---- copies ---- */

/* What copies leave out of what the source says, unless their description says more: */
#define WERUNOS_DROP_OWNER 0x1u
#define WERUNOS_DROP_MODE  0x2u /* permissions stay, less umask; set-id bits go */
#define WERUNOS_DROP_TIMES 0x4u
#define WERUNOS_DROP_XATTR 0x8u /* ACLs and flags too */
#define WERUNOS_DROP_ALL   0xfu

/* Ids from `from` on, so many, become those from `to` on. */
struct werunos_id_map {
	uint32_t from, to, count;
};

struct werunos_report {
	uint64_t files, directories, links, others; /* made */
	uint64_t bytes;                             /* of file data, moved */
	uint64_t failed;                            /* what could not be copied */
	uint64_t position_bytes, position_all;      /* of the source; 0: unknown */
	bool stopped;                               /* by *stop */
};

struct werunos_copy_options {
	uint32_t drop;  /* WERUNOS_DROP_* */
	uint32_t umask; /* with DROP_MODE */
	bool has_owner; /* everything belongs to uid and gid */
	uint32_t uid, gid;
	const struct werunos_id_map *uid_map, *gid_map; /* what is in none stays */
	uint32_t uid_maps, gid_maps;
	/* Patterns of fnmatch(3): with a slash of the whole path (from the top, no slash in front), else of the last name. */
	const char *const *exclude;
	uint32_t excludes;
	bool one_file_system; /* trees of the host: stays on the top's */
	bool dereference;     /* trees of the host: what symbolic links lead to, instead of them */
	bool follow;          /* of a volume: what a symbolic link at the end of the source's path leads to */
	uint32_t threads;     /* 0: by the machine */
	uint64_t memory_bytes; /* for data on its way; 0: 64 MiB */
	/* Not 0: stop; NULL: never. A signal handler or another thread may set it: what is complete stays, the rest is left out. */
	const volatile int *stop;
	/* One file could not be copied: errno, sentence. */
	void (*failed)(void *ctx, const char *path, int err, const char *why);
	/* About twice a second, and at the end. */
	void (*progress)(void *ctx, const struct werunos_report *r);
	void *ctx;
};

/*
 * Copies of files and trees. The destination's path is the copy's own: its parent exists; what has that name is replaced, but a directory is
 * merged with a directory. A destination that ends in a slash (or is ".", "..") is a directory that exists: the content of a tree becomes
 * its content, and a single file goes into it under its own name.
 *
 * 0: to the end, though single files may have failed (report, which may be NULL; failed). -ECANCELED: stopped. Else what ended the copy: no
 * space, a broken volume or archive; what was made before stands.
 */
int werunos_import_tree(struct werunos_volume *v, const char *host_path, const char *path,
			const struct werunos_copy_options *o, struct werunos_report *report) WERUNOS_CHECKED;
int werunos_export_tree(struct werunos_volume *v, const char *path, const char *host_path,
			const struct werunos_copy_options *o, struct werunos_report *report) WERUNOS_CHECKED;
int werunos_copy(struct werunos_volume *from, const char *path, struct werunos_volume *to,
		 const char *to_path, const struct werunos_copy_options *o,
		 struct werunos_report *report) WERUNOS_CHECKED;

/*
 * A tar archive of any format, compressed with gzip, zstd, xz, lzma, bzip2, lz4, compress, or not at all ("-": standard input) into a directory that is
 * there. layer: it is one of a container image, in which names in .wh. take away what is there.
 */
int werunos_import_tar(struct werunos_volume *v, const char *file, bool layer, const char *path,
		       const struct werunos_copy_options *o, struct werunos_report *report) WERUNOS_CHECKED;
/*
 * A tree, or a file, as a tar archive (pax), compressed as its name says (.gz, .zst, .xz) or not at all. "-": standard output. A file that was not
 * completed is taken away.
 */
int werunos_export_tar(struct werunos_volume *v, const char *path, const char *file,
		       const struct werunos_copy_options *o, struct werunos_report *report) WERUNOS_CHECKED;

/* A container image, all of whose layers are what their digests say. */
struct werunos_image;

/*
 * The layout (OCI, or docker's in one) in DIR, as SPEC "DIR" or "DIR:TAG". platform: OS/ARCHITECTURE[/VARIANT]; NULL: this machine's, or the only
 * one there is. stop as above.
 */
int werunos_image_open(const char *spec, const char *platform, const volatile int *stop,
		       struct werunos_image **out) WERUNOS_CHECKED;
void werunos_image_close(struct werunos_image *i);
/* What was asked for and the digest of its manifest; its platform, "" when nobody says; as long as it is open. */
const char *werunos_image_name(const struct werunos_image *i);
const char *werunos_image_platform(const struct werunos_image *i);
uint32_t werunos_image_layers(const struct werunos_image *i);
/* All layers, into a directory that is there. */
int werunos_import_image(struct werunos_volume *v, const struct werunos_image *i, const char *path,
			 const struct werunos_copy_options *o, struct werunos_report *report) WERUNOS_CHECKED;

/* ---- new volumes ---- */

struct werunos_make_options {
	uint32_t part;        /* 0: as SPEC says */
	uint64_t size_bytes;  /* 0: all that is there; with `from`, of a file: as much as it takes */
	bool force;           /* what is there may go */
	bool keep;            /* of a device: what was there is not discarded */
	bool dry_run;         /* nothing is made or changed; the facts are what would be */
	uint32_t block_bytes; /* 0: as fits the size */
	const char *label;    /* NULL: none */
	bool has_uuid;        /* else chosen */
	uint8_t uuid[16];
	uint32_t root_uid, root_gid;
	const char *features; /* "name,^name,…", changes to what is usual; NULL: none */
	const char
		*words; /* "name=value,…", the type's own: for ext4 those of werunos(1), mkfs; NULL: none */
	/* What it is filled with: a directory, a tar archive, a container image's SPEC; NULL: nothing. It counts once it is complete. */
	const char *from;
	const char *platform;                    /* of an image */
	bool shrink;                             /* of a file: no larger than it takes */
	const struct werunos_copy_options *copy; /* NULL: the defaults */
	struct werunos_report *report;           /* NULL: nobody asks */
};

/* What was made, as people and programs read it. */
struct werunos_facts;
void werunos_facts_free(struct werunos_facts *f);
/* As JSON, or as lines of text; as long as the facts are there. NULL: no memory. */
const char *werunos_facts_text(struct werunos_facts *f, bool json);

/*
 * A volume of the type ("ext4", "ext3", "ext2") at SPEC: a file, which is made when there is none, a device, or a partition of one. Refused: what
 * is in use, what holds anything, without force (-EEXIST), and what makes no volume (-EINVAL), before anything is changed. facts may be NULL. A file
 * that was made for it goes when it comes to nothing. -ECANCELED: stopped; the volume is there, with what was complete, and so are the facts.
 */
int werunos_make(const char *type, const char *spec, const struct werunos_make_options *o,
		 struct werunos_facts **facts) WERUNOS_CHECKED;

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
