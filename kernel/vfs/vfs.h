/*
 * The virtual file system (longer: all that the layer shows): what the host (FUSE adapter, tools, engines) calls, and what a file system module
 * provides. Everything hangs from a super_block; two volumes in one process do not meet.
 *
 * Objects
 *   super_block  a mounted volume. Made by fs_type.mount, ended by vfs_unmount.
 *   inode        a file of any type, in memory at most once, found by number. Referenced (vfs_iget, lookups)
 *                or idle on the LRU, from which it may be dropped and read again later.
 *   dentry       a remembered answer to "what does NAME mean in this directory", "nothing" included. Owned by
 *                the name cache; never seen outside kernel/vfs.
 *   file         an open file: an inode, flags and a position. The adapter does without.
 *
 * Locks (ranks in lib/lock.h; R shared, W exclusive)
 *   inode->lock      directory: names in it; else: size, data, attributes. Lookup and readdir R, changes W.
 *   inode->map_lock  a mapping is valid only while the caller holds it: R from map() until the last byte
 *                    moved, W for whatever takes mappings away. Reads hold this one alone.
 *   inode->attr      leaf: times, mode, owner, link count, block count; for short copies only.
 *   sb->rename       a rename between directories; taken before their locks.
 * inode->size is atomic: written under lock W, read anywhere.
 *
 * Read-only volumes: every changing vfs_ call is -EROFS before a module is asked.
 *
 * Errors are -errno, named as the system call of the same purpose names them.
 */
#ifndef VFS_H
#define VFS_H

#include "vfs/acl.h"
#include "block/block.h"
#include "lib/doc.h"
#include "lib/err.h"
#include "lib/list.h"
#include "lib/lock.h"
#include "lib/os.h"
#include <sys/stat.h>

struct super_block;
struct inode;
struct file;
struct acl;
struct stage;
struct tail;
struct lazies;
struct workq;

#define VFS_NAME_MAX     255u
#define VFS_PATH_MAX     4096u
#define VFS_SYMLINKS_MAX 40u
#define VFS_XATTR_MAX    65536u

/* ---- plain values ---- */

/* A name in a directory: bytes, not NUL-terminated. Borrowed. */
struct name {
	const char *s;
	u32 len;
};
#define NAME(cstr) ((struct name){ (cstr), (u32)strlen(cstr) })

/* Inode flags, with FS_IOC_GETFLAGS's values (linux/fs.h). */
#define INO_SYNC        0x00000008u
#define INO_IMMUTABLE   0x00000010u
#define INO_APPEND      0x00000020u
#define INO_NODUMP      0x00000040u
#define INO_NOATIME     0x00000080u
#define INO_ENCRYPTED   0x00000800u
#define INO_DIRSYNC     0x00010000u
#define INO_VERITY      0x00100000u
#define INO_PROJINHERIT 0x20000000u
#define INO_CASEFOLD    0x40000000u

struct kstat {
	u64 ino;
	u32 generation;
	u32 mode, nlink, uid, gid;
	u32 rdev_major, rdev_minor;
	u64 size_bytes;
	u64 blocks_512;
	u32 block_bytes; /* preferred I/O size */
	u32 flags;       /* INO_* and any other FS_IOC_GETFLAGS bit of the file system */
	u32 project;
	struct timespec64 atime, mtime, ctime, btime;
	bool has_btime;
};

struct kstatfs {
	const char *type;
	u32 block_bytes;
	u64 blocks, blocks_free, blocks_avail; /* avail: to those without privilege */
	u64 inodes, inodes_free;
	u32 name_max;
	u64 fsid;
};

/* How long a volume was, and is. */
struct grown {
	u64 before_bytes, after_bytes;
};

/* A volume that is to become shorter. */
struct shorten {
	u64 size_bytes; /* what it has to fit into; 0: as short as it can be */
	bool plan_only; /* nothing is changed: what would be is told */
	/* What has moved so far, of so many; what other than 0 it returns ends all. NULL: nobody asks. Out are the members behind ctx. */
	int (*progress)(void *ctx, const char *what, u64 done, u64 all);
	void *ctx;
	u64 before_bytes, after_bytes; /* how long it was, and is, or would be */
	u64 least_bytes;               /* about as short as it can be */
	u64 blocks_moved, inodes_moved;
	bool log_moved;
};

#define ATTR_MODE    0x001u
#define ATTR_UID     0x002u
#define ATTR_GID     0x004u
#define ATTR_SIZE    0x008u
#define ATTR_ATIME   0x010u
#define ATTR_MTIME   0x020u
#define ATTR_CTIME   0x040u
#define ATTR_FLAGS   0x080u
#define ATTR_PROJECT 0x100u
#define ATTR_BTIME   0x200u
#define ATTR_KILL_PRIV \
	0x400u /* clear set-id bits and security.capability as a change by an unprivileged writer does */

struct iattr {
	u32 valid; /* ATTR_* */
	u32 mode;  /* permission bits; the type never changes */
	u32 uid, gid;
	u64 size_bytes;
	u32 flags, project;
	struct timespec64 atime, mtime, ctime, btime;
};

/* Who makes a new file. umask applies where the directory has no default ACL. */
struct cred {
	u32 uid, gid, umask;
};

/* What a module makes a new inode from; filled by vfs_create from cred, directory and default ACL. */
struct new_inode {
	u32 mode; /* with type */
	u32 uid, gid;
	u32 rdev_major, rdev_minor;
	u32 project, flags;
	struct name target;                  /* symlinks */
	const struct acl *acl, *default_acl; /* NULL: none beyond mode */
};

/* One directory entry. `next_pos` continues after it. type is DT_*. */
struct dirent_out {
	struct name name;
	u64 ino;
	u64 next_pos;
	u8 type;
};
/* Returns 0 to go on, 1 to stop with this entry not taken, or -errno, which ends the readdir. */
typedef int (*dirent_fn)(void *ctx, const struct dirent_out *de);
typedef int (*xattr_name_fn)(void *ctx, const char *name);

/* A tree of files among several of a volume. */
struct subvolume {
	u64 id;
	u64 parent; /* in which it has its name; 0: in none */
	const char *
		path; /* from the top of the volume, "" for that; may be any bytes. What cannot be found out is "?" in it */
	u64 generation, created_generation;
	struct timespec64 created;                       /* 0: unknown */
	u8 uuid[16], parent_uuid[16], received_uuid[16]; /* zeros: none */
	bool rdonly, snapshot;
	bool deleted; /* what is left of it has no name */
	bool shown;   /* the mount shows it */
};
/* Returns 0 to go on, else what ends the listing and is its result. */
typedef int (*subvolume_fn)(void *ctx, const struct subvolume *s);

/* What an id uses, and may use. */
enum quota_kind { QUOTA_USER, QUOTA_GROUP, QUOTA_PROJECT, QUOTA_KINDS };
struct quota {
	u32 id;
	/* Limits 0: none. Until then more than the soft limit may be used; 0: no more is. */
	u64 space_bytes, space_soft_kib, space_hard_kib, space_until_sec;
	u64 inodes, inodes_soft, inodes_hard, inodes_until_sec;
};
/* As subvolume_fn. */
typedef int (*quota_fn)(void *ctx, const struct quota *q);

/* What is to change: of the limits of one id, or for how long more than soft limits may be used by any of its kind. */
#define QUOTA_SET_SPACE_SOFT   0x1u
#define QUOTA_SET_SPACE_HARD   0x2u
#define QUOTA_SET_INODES_SOFT  0x4u
#define QUOTA_SET_INODES_HARD  0x8u
#define QUOTA_SET_SPACE_GRACE  0x10u
#define QUOTA_SET_INODES_GRACE 0x20u
struct quota_set {
	u32 valid; /* QUOTA_SET_* */
	u32 id;
	u64 space_soft_kib, space_hard_kib, inodes_soft, inodes_hard;
	u32 space_grace_sec, inodes_grace_sec;
};
/* For how long more than a soft limit may be used. */
struct quota_grace {
	u32 space_sec, inodes_sec;
};

/* A hash that stands for a file's whole content; which one, by the numbers of linux/fsverity.h. */
#define DIGEST_MAX_BYTES 64u
struct file_digest {
	const char *name; /* of the algorithm */
	u16 algorithm, len_bytes;
	u8 bytes[DIGEST_MAX_BYTES];
};

/* In how many pieces a file lies on its device. */
struct fragments {
	u64 blocks; /* in block_bytes */
	u64 pieces; /* where one ends a reader of the whole file has to go elsewhere */
	u64 best;   /* the fewest that there could be */
};

/* A part of a file under way to a place where it is in fewer pieces. The module's goes on behind it. */
struct defrag_part {
	u64 moved_bytes;
};

/* ---- data mapping ---- */

enum map_kind {
	MAP_HOLE,      /* reads as zeros, nothing is allocated */
	MAP_DATA,      /* on dev at dev_off_bytes */
	MAP_UNWRITTEN, /* allocated, reads as zeros */
	MAP_INLINE,    /* in memory at inline_data */
	MAP_ENCODED,   /* inode_ops.decode makes the bytes */
};

#define MAP_NEW    0x1u  /* alloc: space that the file does not have was set aside for them */
#define MAP_KEPT   0x20u /* alloc: the file has them there already, and what is not written stays */
#define MAP_LAST   0x2u  /* nothing but hole follows */
#define MAP_COSTLY 0x8u  /* ENCODED: making the bytes takes longer than reading what they are made from */
#define MAP_PLAIN  0x10u /* ENCODED: the bytes are as they lie on dev, and are checked */
#define MAP_LATE \
	0x4u /* commit: the write was accepted before, and times are in memory: they stay, the inode is written */

/* What lies at a byte range of a file. Valid while the inode's map lock is held. */
struct mapping {
	enum map_kind kind;
	u32 flags;
	u64 off_bytes, len_bytes; /* in the file */
	struct blkdev *
		dev; /* DATA, UNWRITTEN; ENCODED: of what the bytes are made, NULL: of nothing on a device. Borrowed */
	u64 dev_off_bytes;
	u64 dev_len_bytes;       /* ENCODED and COSTLY: all of it; else it is as long as the mapping */
	const void *inline_data; /* INLINE: len_bytes of them */
	struct buffer_head *bh;  /* what keeps inline_data in place; put by map_done */
	u64 fs_private[4];       /* the module's */
};
/* Ends the use of a mapping. */
void map_done(struct mapping *m);

/* ---- what a module provides ---- */

struct super_ops {
	/* Memory for an inode, zeroed, the module's own part included. free_inode undoes it. */
	struct inode *(*alloc_inode)(struct super_block *sb);
	void (*free_inode)(struct inode *inode);
	/* Fills inode->ino's inode from the volume: all [read_inode] members. -ESTALE: no such inode (free, or out of range).
	 * Locks: none held; nobody else sees the inode yet. */
	int (*read_inode)(struct inode *inode);
	/* The last reference to an inode with nlink 0 went: free its blocks and itself. NULL: nothing to do. Locks: none held; nobody else sees it. */
	int (*evict_inode)(struct inode *inode);
	/* All that was acknowledged becomes durable. NULL: nothing to do. */
	int (*sync)(struct super_block *sb);
	int (*statfs)(struct super_block *sb, struct kstatfs *out);
	/* Reading these inodes is near: a hint, starts background reads. NULL: no hint. */
	void (*readahead_inodes)(struct super_block *sb, const u64 *inos, u32 n);
	/* The trees of files that the volume has, the shown one among them, by id. NULL: there is no such thing. */
	int (*subvolumes)(struct super_block *sb, subvolume_fn emit, void *ctx);
	/* Usage and limits, by id. -EOPNOTSUPP: this kind is not counted. NULL: none is. */
	int (*quota)(struct super_block *sb, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
		     void *ctx);
	/* Limits. -EOPNOTSUPP: this kind is not counted. NULL: none is. Locks: none held. */
	int (*set_quota)(struct super_block *sb, enum quota_kind kind, const struct quota_set *set);
	/* Tells the device which of the bytes [off, off + len) of the volume are free, in pieces of at least min_bytes. NULL: -EOPNOTSUPP. */
	int (*trim)(struct super_block *sb, u64 off_bytes, u64 len_bytes, u64 min_bytes, u64 *trimmed_bytes);
	/* The volume, in use or not, becomes so long, the device too where it can be; 0: as long as the device. Perhaps a little less; or, when
	 * memory of this mount has no room for more, less from which the next mount can go on. *out is good on error too. -EINVAL: it is longer.
	 * NULL: -EOPNOTSUPP. */
	int (*grow)(struct super_block *sb, u64 size_bytes, struct grown *out);
	/* From now on nothing is written to the volume any more, as if the power had gone; what was acknowledged before is durable if it
	 * was. health is ABORTED already. NULL: that is enough. */
	void (*shutdown)(struct super_block *sb);
	/* Last call: super_fini, then everything of the module goes, sb and the references on devices included. No
	 * inode is left. */
	void (*put_super)(struct super_block *sb);
};

/*
 * Parts of a file go to where they lie in fewer pieces: begin; copy and swap, as long as there is something to copy; end. The file may
 * change between two swaps, not between copy and swap. At no time, a crash included, does it read otherwise than before.
 */
struct defrag_ops {
	/* The first part worth it from *pos_bytes on has a place set aside: *out, and *pos_bytes is behind it. NULL: up to *pos_bytes there is none; ~0:
	 * up to the end. Locks: lock W, map_lock R. */
	int (*begin)(struct inode *inode, u64 *pos_bytes, struct defrag_part **out);
	/* The next few MiB are at their new place too. 1. 0: there is nothing left. Locks: lock W, map_lock R. */
	int (*copy)(struct inode *inode, struct defrag_part *part);
	/* They are the file's there, and no more where they were. Locks: lock W, map_lock W. */
	int (*swap)(struct inode *inode, struct defrag_part *part);
	/* What was set aside and not used is given back; also after an error. Locks: lock W. */
	int (*end)(struct inode *inode, struct defrag_part *part);
};

/* Who keeps times: a module sets ctime and mtime of the inode and its directories in create, link, unlink, rename,
 * commit, unmap, prealloc, set_size, setxattr and set_acl, in the same transaction; setattr sets exactly what it is told. */
struct inode_ops {
	/* -- directories; locks: dir->lock R for lookup and readdir, W for the others -- */
	/* -ENOENT: no such name. "." and ".." are asked like any other name. */
	int (*lookup)(struct inode *dir, const struct name *name, u64 *ino);
	/* Entries from pos on (0: the start), "." and ".." included, until emit says stop. A position stays good while other entries come and go. */
	int (*readdir)(struct inode *dir, u64 pos, dirent_fn emit, void *ctx);
	/* A new inode of any type; name NULL: unnamed (O_TMPFILE, nlink 0). Checked before: the name is free and legal. *out is referenced. */
	int (*create)(struct inode *dir, const struct name *name, const struct new_inode *what,
		      struct inode **out);
	/* W on inode->lock too. Link count limit: -EMLINK. */
	int (*link)(struct inode *dir, const struct name *name, struct inode *inode);
	/* Removes the name of `inode`, W on its lock too. Directory: -ENOTEMPTY; afterwards nlink is 0. */
	int (*unlink)(struct inode *dir, const struct name *name, struct inode *inode);
	/* Moves `inode`; `victim` (or NULL) has the new name. exchange: the two change places; else the victim loses
	 * its name, and `whiteout` (or NULL) says what is made at the old name. W on both directories and both inodes. */
	int (*rename)(struct inode *dir, const struct name *name, struct inode *inode, struct inode *new_dir,
		      const struct name *new_name, struct inode *victim, bool exchange,
		      const struct new_inode *whiteout);
	/* -- symlinks; locks: none. At most `size` bytes, not NUL-terminated -- */
	int (*readlink)(struct inode *inode, char *buf, u32 size, u32 *len);
	/* -- attributes: inode->lock W. Makes attr (mode, owner, times, flags, project; never size) the inode's, and lasting -- */
	int (*setattr)(struct inode *inode, const struct iattr *attr);
	/* -- regular files -- */
	/* What is at off_bytes: one mapping that begins at or before it and goes on beyond it, at most to off + len where cutting costs something.
	 * Beyond the end of file: MAP_HOLE. Locks: map_lock R or W. */
	int (*map)(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
	/*
	 * MAP_ENCODED: the bytes from off on, where m is: at least one, at most [off, off + len), as many as the module likes to
	 * read at once. *done: how many. At dst is room for room_bytes >= len; what lies behind *done may be
	 * overwritten. Locks: map_lock R, or a piece of the read stage is under way, for which everybody waits before mappings go.
	 */
	int (*decode)(struct inode *inode, const struct mapping *m, u64 off_bytes, void *dst, u64 len_bytes,
		      u64 room_bytes, u64 *done);
	/*
	 * What is read is checked before anybody gets it. verify_unit: in pieces of so many bytes, a power of two, at least 512. verify: the bytes
	 * [off, off + len), which begin with a piece and end with one or with the file; -EIO: they are not the file's. NULL, both: there
	 * is nothing to check by. Locks: map_lock R.
	 */
	int (*verify_unit)(struct inode *inode, u32 *unit_bytes);
	int (*verify)(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes);
	/* What verify goes by, as one value. NULL: -ENODATA. Locks: none. */
	int (*digest)(struct inode *inode, struct file_digest *out);
	/* inode->is_packed: the file's bytes lie where they cannot be changed. Afterwards they do not: asked before the first write, truncate or
	 * fallocate. Locks: lock W, map_lock W. */
	int (*unpack)(struct inode *inode);
	/* Where to write [off, off + len): block-aligned. One MAP_DATA mapping from off on, perhaps shorter. Locks: lock W, map_lock R. */
	int (*alloc)(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
	/*
	 * The bytes of an alloc are on the device: make the mapping part of the file, and the file at least size_bytes long
	 * (inode_grow). Between alloc and commit or abort seconds may go by, and other changes of the file that
	 * do not meet its units of space; no lock is held all the time. What commit needs was set aside by alloc: no -ENOSPC.
	 */
	int (*commit)(struct inode *inode, const struct mapping *m, u64 size_bytes);
	/* An alloc whose write failed. */
	void (*abort)(struct inode *inode, const struct mapping *m);
	/* Nothing is mapped at [off, off + len) any more; block-aligned, len may be ~0 (to the end of all). Locks: lock W, map_lock W. */
	int (*unmap)(struct inode *inode, u64 off_bytes, u64 len_bytes);
	/* Holes in the block-aligned range become unwritten. -EOPNOTSUPP: this file cannot have that; len 0 only asks. Locks: lock W, map_lock W. */
	int (*prealloc)(struct inode *inode, u64 off_bytes, u64 len_bytes);
	/* The file is size_bytes long (inode_set_size). When that is shorter than before, unmap(end, ~0) of what lies beyond follows,
	 * and the module sees to it that a crash in between completes it. Locks: lock W, map_lock W. */
	int (*set_size)(struct inode *inode, u64 size_bytes);
	/* How the file lies. NULL: -EOPNOTSUPP. Locks: map_lock R. */
	int (*fragments)(struct inode *inode, struct fragments *out);
	/* NULL: the file stays where it is. */
	const struct defrag_ops *defrag;
	/* Whether content may be read (`write`: changed) at all, when a file is opened or changed by its path. NULL: yes. Locks: none. */
	int (*may_open)(const struct inode *inode, bool write);
	/* A writer has closed it: what was set aside for more of it may be given back. Others may be writing still. NULL: nothing to do.
	 * Locks: none. */
	void (*closed)(struct inode *inode);
	/* The inode, with its data, becomes durable. NULL: super_ops.sync. Locks: none. */
	int (*fsync)(struct inode *inode, bool data_only);
	/*
	 * ioctl of the file system's own, with Linux's number and structures; an argument of the number's size, in at `in` (NULL where the
	 * number does not say so) and out at `out`, which has *out_bytes. privileged: the caller may do everything. -ENOTTY: unknown.
	 * NULL: there are none. Locks: none.
	 */
	int (*ioctl)(struct inode *inode, u32 cmd, bool privileged, const void *in, u32 in_bytes, void *out,
		     u32 *out_bytes);
	/* -- extended attributes: inode->lock R, W for set. Names are whole ("user.x"), checked; value NULL removes: -ENODATA. -- */
	int (*getxattr)(struct inode *inode, const char *name, void *buf, u32 size, u32 *len);
	int (*setxattr)(struct inode *inode, const char *name, const void *value, u32 len, u32 flags);
	/* Every name but those of ACLs. */
	int (*listxattr)(struct inode *inode, xattr_name_fn emit, void *ctx);
	/* ACLs. *out is NULL when there is none; else freed with acl_free. acl NULL removes. setting the access ACL changes mode too. */
	int (*get_acl)(struct inode *inode, bool is_default, struct acl **out);
	int (*set_acl)(struct inode *inode, bool is_default, const struct acl *acl, u32 mode);
};

struct fs_probe {
	int score; /* 0: no; 100: surely */
	u8 uuid[16];
	char label[256];
	u64 size_bytes; /* the volume's own idea of its size, 0 unknown */
	/* Of a volume that may have several devices, whose uuid says which belong together: */
	u64 devices; /* how many it has; 0: always one */
	u64 devid;   /* which of them this is */
	u8 dev_uuid[16];
	u64 generation; /* the volume's, when this device was last written: tells a copy of the device from an older one */
};

#define FS_MISSING_MAX 64u
/* Devices that a volume wants and was not given. */
struct fs_missing {
	u32 count;
	u8 dev_uuid[FS_MISSING_MAX][16]; /* as fs_probe.dev_uuid */
};

/* When a time of access is news. Which of them the kernel reports: reads that reach us, not those from its own cache. */
enum atime_rule {
	ATIME_RELATIVE, /* when it is not after the last change, or a day old */
	ATIME_NEVER,
	ATIME_STRICT,
};

/* What a new volume is to be. The same options give the same bytes. */
struct format_opts {
	u64 size_bytes;    /* of the volume: at most the device's */
	u32 block_bytes;   /* 0: as fits the size */
	const char *label; /* NULL: none */
	u8 uuid[16];       /* the volume's */
	u64 seed;          /* of all else that is chance */
	struct timespec64 now;
	u32 root_uid, root_gid;
	u64 files; /* that it must have room for at least, where the module counts them beforehand; 0: as is usual for its size */
	const char *features; /* "name,^name,…", the module's words, changes to its defaults; NULL: none */
	const char *fs_opts;  /* "name=value,…", the module's own words; NULL: none */
	bool zeroed;          /* the device reads as zeros where nobody wrote: zeros need not be written */
	bool dry; /* nothing is written, the device is asked for its size and limits only: whether it could be made, and what */
};

/* What names a volume. */
struct relabel {
	const char *label;   /* NULL: stays */
	const u8 *uuid;      /* NULL: stays */
	bool uuid_random;    /* or the module chooses one */
	struct text *notice; /* gets what the user should know besides, if anything */
};

/* ---- checking a volume ---- */

enum check_grade {
	CHECK_HINT,  /* right, but could be better */
	CHECK_WRONG, /* the volume is not what its format says; nothing that was stored is touched by it */
	CHECK_LOSS,  /* content is lost, or cannot be trusted */
	CHECK_GRADES,
};

/* One thing that a check found. Borrowed during the call. */
struct check_record {
	const char *code;   /* what kind of thing: a word that stays the same, "extent-overlap" */
	const char *object; /* where: "superblock", "group", "inode", "block", "tree" … */
	u64 nr;             /* which of them */
	const char *name;   /* the object as people call it: a path, a tree's name; NULL: nothing is known */
	const char *text;   /* what is wrong, as a sentence without its full stop */
	enum check_grade grade;
	const char *fix; /* what would mend it, as a question without its mark; NULL: nothing here does */
	bool safe;       /* that can lose nothing, and needs no question */
};

struct check_opts {
	bool force;        /* also a volume that says that it is sound */
	bool data;         /* every byte that has a checksum, of every copy */
	bool base;         /* with mend: only what write_mended has to find sound */
	bool rebuild_dirs; /* every directory is written anew, with mend: in this round */
	bool clear_log; /* with mend: a log that waits for the next writer may be dropped, with what was synced into it */
	u64 cache_bytes; /* of metadata; what a check keeps of its own is bounded by the module, a few bytes for each inode and block */
	/* Not 0 ends the check with that. */
	int (*found)(void *ctx, const struct check_record *r);
	/*
	 * Asked about each finding that can be mended. 1: it is mended, on the devices, and not told to `found`; 0: it is left, and told; < 0 ends the
	 * check with that. NULL: nothing is mended, and nothing written.
	 */
	int (*mend)(void *ctx, const struct check_record *r);
	/* The pass that is under way, from 1 on, what it is called, and how far it is. NULL: nobody looks. */
	void (*progress)(void *ctx, u32 pass, u32 passes, const char *name, u64 done, u64 all);
	const _Atomic bool *stop; /* set: the check ends with -ECANCELED; NULL: never */
	void *ctx;
};

struct check_summary {
	u64 found[CHECK_GRADES];
	u64 mended;                              /* in this round */
	u64 inodes, directories, links, extents; /* in use */
	u64 blocks, blocks_used;                 /* in block_bytes */
	u32 block_bytes;
	bool replayed; /* its log held what the volume did not have yet */
	bool skipped;  /* it says that it is sound, and was not looked at any further (force) */
	/* What another machine would have changed, had it the volume, and was seen not to change: for fs_claim. 0: nothing of the kind. */
	u64 still;
	char state
		[64]; /* what it says of itself: "clean", "not cleanly unmounted, its journal was applied in memory" */
};

struct mount_script {
	struct timespec64 now;
	u64 seed;
};

struct mount_opts {
	bool rdonly;
	bool norecovery; /* show the volume as it lies, its log unread */
	bool readahead_off;
	enum atime_rule atime;
	bool nodiratime; /* of directories: never */
	bool lazytime;   /* a time of access alone is written only at sync, unmount, or with many others */
	struct blkdev *
		journal; /* where the volume's log lies, if not on the volume; NULL: unknown. The module takes its own reference */
	bool has_sb;  /* the copy that sb_block names, and no other; else the best that is good */
	u64 sb_block; /* which superblock copy, as the module counts them: ext4 in blocks, btrfs 0 to 2 */
	u32 sb_block_bytes;         /* of the blocks that sb_block counts; 0: as the copy says */
	u64 cache_bytes;            /* buffer cache limit; 0: by the machine */
	struct fs_missing *missing; /* what was missing, also when that was no error; NULL: nobody asks */
	const char *fs_opts;        /* the module's own, "name=value,…", NULL: none */
	/*
	 * The volume was made a moment ago, and counts for nothing before vfs_unmount has succeeded: nothing on the way there has to
	 * survive a crash. The module may leave its log alone and write metadata once, at the end.
	 */
	bool fresh;
	/* One job for which nothing has to be durable before its end: transactions may be few and large. */
	bool batch;
	bool claimed; /* the caller knows that no other machine has the volume (fs_type.claim): nobody has to be looked for */
	/* Not NULL: what the clock says during this mount, and what chance is made from: the same calls give the same bytes. */
	const struct mount_script *script;
};

struct fs_claim {
	u64 still; /* check_summary.still of a look at the volume before: if it still is, that is not waited for again */
	bool trial; /* on an overlay that is thrown away, to know what will be written: nobody is waited for */
};

struct fs_type {
	const char *name;
	bool rdonly; /* the module cannot write: its mounts are read-only, whatever is asked */
	/* Reads a few blocks; 0 with info->score. NULL: not to be found on a device. */
	int (*probe)(struct blkdev *dev, struct fs_probe *info);
	/* Takes its own references on the devices. On error everything is as before. */
	int (*mount)(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct super_block **out);
	/* Superblock and features, without mounting; the devices as for mount, perhaps not all. NULL: nothing to say. */
	int (*info)(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct doc *out);
	/* One on-disk object, named by words ("inode", "12"). -EINVAL with the known words in err_text. */
	int (*dump)(struct blkdev **devs, u32 n, const struct mount_opts *opts, u32 words,
		    const char *const *word, struct doc *out);
	/*
	 * Makes a volume on dev, whatever lies there, and flushes. *out, if not NULL: what was made, as info shows it. NULL: cannot. -EINVAL: these
	 * options make none, err_text says why; nothing was written then.
	 */
	int (*format)(struct blkdev *dev, const struct format_opts *opts, struct doc *out);
	/*
	 * New names for a volume that nobody has mounted; its log is replayed before. A crash leaves the old or the new ones, and nothing to repair.
	 * -EINVAL: not such names; -EOPNOTSUPP: not on this volume. NULL: cannot.
	 */
	int (*relabel)(struct blkdev **devs, u32 n, const struct mount_opts *opts,
		       const struct relabel *what);
	/*
	 * Finds what is wrong with a volume that nobody writes, and changes nothing; its log is applied in memory. 0 with *out, however much was
	 * found. -ECANCELED: opts->stop; or what opts->found returned; -EOPNOTSUPP, -EINVAL and others: it cannot be looked at. NULL: cannot.
	 * With opts->mend this is one round of mending, and writes to the devices in whatever order: they have to be overlays. Each round may leave
	 * what the next one finds; when out->mended is 0 there is nothing more to mend. After that a round that only finds tells what is left.
	 */
	int (*check)(struct blkdev **devs, u32 n, const struct mount_opts *mount,
		     const struct check_opts *opts, struct check_summary *out);
	/*
	 * Before rounds of mending, on the devices themselves: the log is replayed, and the volume says, durably, that it has to be checked, so
	 * that a mending which breaks off while it is written is gone on with by the next. 0 also when the volume is too damaged for either. NULL: there
	 * is nothing to do.
	 */
	int (*settle)(struct blkdev **devs, u32 n, const struct mount_opts *mount);
	/*
	 * For who changes a volume without mounting it: no other machine takes it as long as *out, a device over dev, is there. -EBUSY: one has
	 * it, err_text names it; that may take some seconds to find out. *out NULL: the volume has no such protection. -EUCLEAN: it is too
	 * damaged to tell. NULL: no volume has such.
	 */
	int (*claim)(struct blkdev *dev, const struct fs_claim *how, struct blkdev **out);
	/*
	 * After rounds of mending: what overlays over the devices hold goes to these by way of a log, so that after a crash all of it is there or
	 * nothing. Before, rounds with check_opts.base were, and what these mended is on the devices. *done false: no log can take it, and little or nothing
	 * was written. NULL: there is no such way, and no base.
	 */
	int (*write_mended)(struct blkdev **devs, struct blkdev **overlays, u32 n,
			    const struct mount_opts *mount, bool *done);
	/*
	 * A volume that nobody has mounted becomes shorter; its log is replayed before. What lies behind the new end is moved before it. A crash
	 * leaves it whole, as long as it was or as it was to be. The devices stay as long as they are. -ENOSPC, -EOPNOTSUPP: it cannot be that short, err_text
	 * says why and how short it could be. NULL: cannot.
	 */
	int (*shorten)(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct shorten *what);
	/* Where the first superblock lies: of what was mended and is written without a log, this is written last. */
	u64 super_bytes;
	u32 super_len_bytes;
};

/* ---- objects ---- */

struct super_block {
	const struct fs_type *type;  /* [const] */
	const struct super_ops *ops; /* [const] */
	struct health health;
	struct blkdev *dev;   /* [const] the first device; referenced by the module */
	struct bcache *cache; /* [const] owned by the module */
	u64 root_ino;         /* [const] */
	u32 block_bytes;      /* [const] unit of maps of files */
	u32 unit_bytes; /* [const] files have space in units of this: a block, or where those are shared by neighbouring blocks, several. 0: a block */
	u64 size_max_bytes;      /* [const] longest file */
	u32 name_max;            /* [const] */
	u32 time_gran_ns;        /* [const] times are multiples of it */
	bool rdonly;             /* [const] */
	bool has_acl, has_xattr; /* [const] */
	bool folds_case;         /* [const] a directory without names may become I_NO_DCACHE */
	const char *
		xattr_prefix; /* [const] of attributes that are the file system's own, "btrfs."; NULL: none */
	char notice[256];     /* [const] what the user should know about this mount, "" nothing */
	struct mutex rename;  /* rank RENAME */
	struct icache *icache;     /* [const] */
	struct dcache *dcache;     /* [const] */
	bool readahead_off;        /* [const] */
	enum atime_rule atime;     /* [const] */
	bool nodiratime, lazytime; /* [const] */
	bool scripted;             /* [const] `script` is what the clock says */
	struct mount_script script;
	struct lazies *lazies;   /* [const] what is written later */
	_Atomic u64 moment;      /* of the last that was to have a number: vfs_moment */
	_Atomic u64 stage_bytes; /* held by all read stages */

	_Atomic(void *) stage_spare[8];     /* buffers of stages that were read, for the next */
	_Atomic(struct workq *) stage_pool; /* makes encoded bytes ahead; NULL until it is needed */
};

#define LAZY_KINDS 2u

#define I_NO_DCACHE 0x1u /* names are not byte strings here (casefold): ask the module each time */
#define I_RESIDENT  0x2u /* is in memory only: stays while it has a link, and goes with the super block */

/* Embedded at the start of a module's own inode. Members marked [read_inode] are the module's to fill. */
struct inode {
	struct super_block *sb; /* [const] */
	u64 ino;                /* [const] */
	u32 generation;         /* [const] [read_inode] */
	_Atomic u32 iflags;     /* [read_inode] [lock W to add some] I_* */
	const struct inode_ops
		*ops;       /* [const] [read_inode] NULL members: -EPERM, -EOPNOTSUPP, -ENOTDIR … as fits */
	struct rwlock lock; /* rank DIR or INODE */
	struct rwlock map_lock;     /* rank MAP */
	struct mutex attr;          /* rank LEAF */
	_Atomic u64 size_bytes;     /* [lock W to change] [read_inode] */
	_Atomic bool is_packed;     /* [lock W and map_lock W to change] [read_inode] see unpack */
	u32 mode;                   /* [attr] [read_inode] the type bits are const */
	u32 uid, gid, nlink;        /* [attr] [read_inode] */
	u32 flags, project;         /* [attr] [read_inode] */
	u32 rdev_major, rdev_minor; /* [const] [read_inode] */
	u64 blocks_512;             /* [attr] [read_inode] */
	struct timespec64 atime, mtime, ctime, btime; /* [attr] [read_inode] */
	bool times_seen;                              /* [attr] somebody looked at them since they moved */
	/* vfs's own: */
	struct tail *_Atomic tail; /* [lock W and map_lock W to change] */
	_Atomic u64 tail_from; /* [lock W to change] bytes from here on are in memory only; ~0: none. Without
				       * a tail: they are on their way */
	u32 tail_512;          /* [attr] blocks that blocks_512 does not count yet */
	struct list lazy[LAZY_KINDS];  /* [lazies] */
	u64 lazy_since_ns[LAZY_KINDS]; /* [lazies] */
	_Atomic u64
		failed_at; /* the moment at which what was written later could not be; 0: it always could */
	int failed_err;    /* [lazies] why */
	bool failed_heard; /* [lazies] by somebody */
	_Atomic int answered_err; /* of what was answered before it failed, for the next write as well */
	_Atomic u32 refs;
	_Atomic u32 state;
	struct inode *hash_next;     /* [icache shard] */
	struct list lru;             /* [icache shard] */
	_Atomic u64 ra_next_bytes;   /* where a sequential reader would go on */
	_Atomic u64 ra_run_bytes;    /* read in order so far */
	_Atomic u64 ra_done_bytes;   /* hinted or staged up to here */
	struct mutex stage_lock;     /* rank STAGE */
	struct stage *_Atomic stage; /* [stage_lock to change] */
};

static inline bool is_dir(const struct inode *i)
{
	return S_ISDIR(i->mode);
}
static inline bool is_reg(const struct inode *i)
{
	return S_ISREG(i->mode);
}
static inline bool is_symlink(const struct inode *i)
{
	return S_ISLNK(i->mode);
}

/* ---- for modules: making and ending a super_block ---- */

/* Sets up the vfs part of sb. `limits` come from the cache size. */
int super_init(struct super_block *sb, const struct fs_type *type, const struct super_ops *ops,
	       const char *name, const struct mount_opts *opts) __must_check;
/* Undoes super_init; every inode is dropped. For the module's failing mount; else vfs_unmount calls it. */
void super_fini(struct super_block *sb);
/* Adds a sentence to sb->notice. What finds no room there is logged. */
void super_note(struct super_block *sb, const char *fmt, ...) __printf_like(2, 3);
/* For create: a new inode whose number the module chose, hashed and referenced; the caller fills it before anyone can find a name for it. */
int inode_new(struct super_block *sb, u64 ino, struct inode **out) __must_check;
/* For create, after filling: others may now have it. With err: it is dropped, freed by its last vfs_iput without evict. */
void inode_ready(struct inode *inode, int err);
/* The wall clock, or what the mount's script says instead. */
struct timespec64 super_now(const struct super_block *sb);
/* The same, cut to the file system's granularity. */
struct timespec64 inode_now(const struct inode *inode);
/* Sets these times (ATTR_ATIME, _MTIME, _CTIME) to now, in memory. */
void inode_touch(struct inode *inode, u32 which);
/*
 * How long the volume may say the file is: size_bytes, less what lies in the tail stage alone. That is what a module
 * writes into its own inode.
 */
static inline u64 inode_disk_size(const struct inode *inode)
{
	return MIN(atomic_load(&inode->size_bytes), atomic_load(&inode->tail_from));
}
/*
 * How far a file may be read at this moment: the tail stage has what is not on the device, and nobody has what is on
 * its way there. Locks: map_lock, or lock.
 */
static inline u64 inode_readable_size(const struct inode *inode)
{
	u64 size = atomic_load(&inode->size_bytes), from;

	if (inode->tail)
		return size;
	/* Set before the size grows. */
	from = atomic_load(&inode->tail_from);
	return MIN(size, from);
}
/* For set_size: the file is so long, and the volume may say so. */
void inode_set_size(struct inode *inode, u64 size_bytes);
/* For commit: the same, when that makes it longer. True: the volume's size changes, so the inode must be written. */
bool inode_grow(struct inode *inode, u64 size_bytes);
/*
 * mtime and ctime say "just now", and nobody has looked at them since: a change of data alone need not move them again. The kernel's
 * file systems keep times no finer than that either, unless they are looked at.
 */
bool inode_times_fresh(struct inode *inode);
/* Copies the valid members into the inode, in memory: the common part of every setattr. */
void inode_apply(struct inode *inode, const struct iattr *attr);

/* Whether this thread acts for somebody who may use what is kept back for the superuser (reserved blocks). True unless told otherwise. */
bool vfs_privileged(void);
void vfs_set_privileged(bool privileged);

/* ---- for the host ---- */

/* Syncs, drops everything, frees sb. The error is sync's; the volume is gone in any case. No inode may be referenced. */
int vfs_unmount(struct super_block *sb);
int vfs_sync(struct super_block *sb) __must_check;
int vfs_statfs(struct super_block *sb, struct kstatfs *out) __must_check;
/* See super_ops. */
int vfs_trim(struct super_block *sb, u64 off_bytes, u64 len_bytes, u64 min_bytes,
	     u64 *trimmed_bytes) __must_check;
/* See super_ops. */
int vfs_grow(struct super_block *sb, u64 size_bytes, struct grown *out) __must_check;
/* See super_ops. -EOPNOTSUPP. */
int vfs_subvolumes(struct super_block *sb, subvolume_fn emit, void *ctx) __must_check;
/* What the volume keeps count of, by id. -EOPNOTSUPP: nothing of the kind. */
int vfs_quota(struct super_block *sb, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
	      void *ctx) __must_check;
int vfs_set_quota(struct super_block *sb, enum quota_kind kind, const struct quota_set *set) __must_check;
/* The volume stays as a power cut at this moment would leave it; it is still shown. */
void vfs_shutdown(struct super_block *sb);

int vfs_iget(struct super_block *sb, u64 ino, struct inode **out) __must_check;
struct inode *vfs_igrab(struct inode *inode); /* one more reference */
void vfs_iput(struct inode *inode);           /* NULL is ignored. Locks: none above HANDLE held */
void vfs_iputp(struct inode **inode);
/* These inodes will be asked for soon: a hint. */
void vfs_readahead_inodes(struct super_block *sb, const u64 *inos, u32 n);
/* Drops idle inodes and names. */
void vfs_shrink(struct super_block *sb);

int vfs_lookup(struct inode *dir, const struct name *name, struct inode **out) __must_check;
/* The inode at `path`, from `start` (NULL: the root). follow: a symlink at the end too. */
int vfs_path(struct super_block *sb, struct inode *start, const char *path, bool follow,
	     struct inode **out) __must_check;
/* The directory of the path's last name, and that name (points into path). -EINVAL when there is none ("/"). */
int vfs_path_parent(struct super_block *sb, struct inode *start, const char *path, struct inode **dir,
		    struct name *last) __must_check;

void vfs_getattr(struct inode *inode, struct kstat *out);
/* Size changes are truncate. Times beyond the file system's range are clamped. */
int vfs_setattr(struct inode *inode, const struct iattr *attr) __must_check;

/* A file of any type. rdev for devices, target for symlinks. name NULL: O_TMPFILE. */
int vfs_create(struct inode *dir, const struct name *name, u32 mode, u32 rdev_major, u32 rdev_minor,
	       const struct name *target, const struct cred *cred, struct inode **out) __must_check;
int vfs_link(struct inode *inode, struct inode *dir, const struct name *name) __must_check;
int vfs_unlink(struct inode *dir, const struct name *name) __must_check;
int vfs_rmdir(struct inode *dir, const struct name *name) __must_check;
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of linux/fs.h's values 1, 2, 4. */
int vfs_rename(struct inode *dir, const struct name *name, struct inode *new_dir, const struct name *new_name,
	       u32 flags) __must_check;
int vfs_readlink(struct inode *inode, char *buf, u32 size, u32 *len) __must_check;
int vfs_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx) __must_check;

/* Somebody has read it, listed it, followed it: its time of access, by the mount's rule. */
void vfs_accessed(struct inode *inode);
/* A program that had it open for writing has closed it. */
void vfs_closed(struct inode *inode);
/* Bytes moved, short at the end of file. */
int vfs_read(struct inode *inode, u64 off_bytes, void *buf, u64 len_bytes, u64 *done) __must_check;
#define WRITE_APPEND    0x1u /* off is the end of file */
#define WRITE_KILL_PRIV 0x2u
#define WRITE_SYNC      0x4u
/* The file ends with this write, and behind buf + len there are zeros up to the end of the file's last block. */
#define WRITE_PADDED 0x8u
/* *done may be short on error: then 0 is returned and the next call says why. */
int vfs_write(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes, u32 flags,
	      u64 *done) __must_check;
/*
 * As vfs_write for somebody who waits for the answer alone: a large piece that makes the file longer is answered as soon as its place is
 * sure, by give(), with `done` all of it; the device gets the bytes afterwards, and whoever reads them, changes the file or wants
 * it durable waits until it has. When it cannot take them, the file ends where the volume says, and the next write and the next fsync say why: of each
 * file that was open then, and of the first opened later if none of these did.
 * answer->given tells after the return that it was; then the result is 0.
 */
struct write_answer {
	void (*give)(struct write_answer *answer, u64 done);
	bool given;
};
int vfs_write_answered(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes, u32 flags,
		       struct write_answer *answer, u64 *done) __must_check;
int vfs_truncate(struct inode *inode, u64 size_bytes) __must_check;
/* mode: FALLOC_FL_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE; others -EOPNOTSUPP. */
int vfs_fallocate(struct inode *inode, u32 mode, u64 off_bytes, u64 len_bytes) __must_check;
/* whence SEEK_HOLE or SEEK_DATA. -ENXIO as lseek(2). */
int vfs_seek(struct inode *inode, u64 off_bytes, int whence, u64 *out) __must_check;
int vfs_copy_range(struct inode *in, u64 in_off, struct inode *out, u64 out_off, u64 len_bytes,
		   u64 *done) __must_check;
/* The mappings that meet the range, in order, holes included. emit returns 0 to go on. */
int vfs_extents(struct inode *inode, u64 off_bytes, u64 len_bytes,
		int (*emit)(void *ctx, const struct mapping *m), void *ctx) __must_check;
/* -EOPNOTSUPP: the module does not tell. */
int vfs_fragments(struct inode *inode, struct fragments *out) __must_check;
/* Why the file is not to be moved on its device; NULL: it may be. Locks: none. */
const char *vfs_defrag_refused(struct inode *inode);
/*
 * One part of the file, at *pos_bytes or behind that, goes to where it is in fewer pieces, if there is such a place; *pos_bytes goes on behind it: ~0 when there is
 * nothing left to look at. Others may read and write the file meanwhile. *moved_bytes is good on error too. -EPERM: see vfs_defrag_refused.
 */
int vfs_defrag(struct inode *inode, u64 *pos_bytes, u64 *moved_bytes) __must_check;
int vfs_fsync(struct inode *inode, bool data_only) __must_check;
/* For who has the file open since this moment: what was written later and failed since then he hears once, whoever else heard it. */
int vfs_fsync_opened(struct inode *inode, u64 opened, bool data_only) __must_check;
/* A number for something that happens to the volume now: later things have higher ones. */
u64 vfs_moment(struct super_block *sb);
/* By what each read of the file is checked. -ENODATA: it is not. */
int vfs_digest(struct inode *inode, struct file_digest *out) __must_check;

/* See inode_ops. */
int vfs_ioctl(struct inode *inode, u32 cmd, bool privileged, const void *in, u32 in_bytes, void *out,
	      u32 *out_bytes) __must_check;

/* size 0: *len only. -ERANGE: too small. */
int vfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len) __must_check;
/* flags: XATTR_CREATE, XATTR_REPLACE. */
int vfs_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags) __must_check;
int vfs_removexattr(struct inode *inode, const char *name) __must_check;
int vfs_listxattr(struct inode *inode, char *buf, u32 size, u32 *len) __must_check;

/* Open files, for engines and tests. flags: O_* of open(2). */
struct file {
	struct inode *inode; /* referenced */
	u64 opened;          /* when: vfs_moment */
	u32 flags;
	u64 pos_bytes;
};
/* O_CREAT with mode and cred; O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_TMPFILE. */
int vfs_open(struct super_block *sb, struct inode *start, const char *path, u32 flags, u32 mode,
	     const struct cred *cred, struct file **out) __must_check;
/* What open(2) with these flags says to the inode's type, its flags and a read-only volume; no permission bits. */
int vfs_may_open(const struct inode *inode, u32 flags) __must_check;
void vfs_close(struct file *f);
int vfs_file_read(struct file *f, void *buf, u64 len_bytes, u64 *done) __must_check;
int vfs_file_write(struct file *f, const void *buf, u64 len_bytes, u64 *done) __must_check;
int vfs_file_seek(struct file *f, s64 off_bytes, int whence, u64 *pos) __must_check;

/*
 * Every file below and including `start`, parents first, a directory's entries in order of inode number. fn
 * returns 0 to go on; anything else ends the walk and is its result. With err set, fn is told of what could not
 * be looked at (inode NULL) or listed (inode is the directory), and decides.
 */
struct walk_entry {
	const char *path; /* from the start, without a leading slash; "" is the start */
	struct inode *inode;
	struct inode *parent; /* NULL at the start */
	u32 depth;
	int err;
};
int vfs_walk(struct inode *start, int (*fn)(void *ctx, const struct walk_entry *e), void *ctx) __must_check;

#endif
