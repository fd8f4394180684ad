/*
 * tar, as it is read (feed_tar.c) and written (sink_tar.c). Headers are read and written here and not by libarchive, which does the
 * filters alone: names are bytes and stay the same in every locale, what cannot be understood is refused and not left out with a
 * warning, and memory is bounded whatever an archive says.
 *
 * Formats: POSIX.1-2001 pax and ustar ("pax Interchange Format"); the GNU tar manual, "Basic Tar Format", "GNU Extensions" and
 * "Storing Sparse Files"; star(5) for the keywords SCHILY.*; libarchive's tar(5) for LIBARCHIVE.xattr.*.
 */
#ifndef IMPORT_TAR_H
#define IMPORT_TAR_H

#include "import.h"

#define TAR_BLOCK 512u

/* A header as ustar has it; all of it text. */
struct tar_disk_header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char sum[8];
	char type[1];
	char link[100];
	char magic[6];
	char version[2];
	char uname[32];
	char gname[32];
	char dev_major[8];
	char dev_minor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct tar_disk_header) == TAR_BLOCK, "a header is a block");
_Static_assert(offsetof(struct tar_disk_header, magic) == 257, "the magic is at its offset");

/* ---- an archive's bytes ---- */

struct tar_stream;

/* Opens what `file` names ("-": standard input) and unpacks it: gzip, zstd, xz, lzma, bzip2, lz4, compress, or nothing. */
int tar_open(const char *file, struct tar_stream **out) __must_check;
void tar_close(struct tar_stream *s);
/* The next bytes, in place, until the next call; *len_bytes 0: that was all. */
int tar_peek(struct tar_stream *s, const u8 **p, u64 *len_bytes) __must_check;
/* So many of the peeked bytes are done with. */
void tar_took(struct tar_stream *s, u64 len_bytes);
/* Exactly so many bytes, else the archive is broken. */
int tar_read(struct tar_stream *s, void *buf, u64 len_bytes) __must_check;
int tar_skip(struct tar_stream *s, u64 len_bytes) __must_check;
/* Bytes of the file itself; all 0: not known. At any time, by any thread. */
void tar_position(struct tar_stream *s, u64 *done_bytes, u64 *all_bytes);
/* "NAME is a broken archive, at byte N: …" -EBADMSG. */
int tar_broken(const struct tar_stream *s, const char *fmt, ...) __printf_like(2, 3) __must_check;

/* ---- its headers ---- */

/* What is said of one file before its bytes. */
struct tar_head {
	char type;       /* '0' to '6', nothing else */
	char *path;      /* as written, NUL-terminated */
	struct item *it; /* everything but kind, path and target; may be spoiled */
	char *link;      /* symlinks and hard links, as written; else NULL */
	u64 stored_bytes; /* that follow in the archive: with ITEM_MAP the sum of it->range, else it->size_bytes */
};

/* What reading headers needs from one to the next. Zeroed at first. */
struct tar_reader {
	struct tar_stream *s;
	char *global; /* records of pax that hold for all that follows */
	u64 global_bytes;
};

/* The next file; *out NULL: the archive has ended. What is wrong with this file alone spoils its item. */
int tar_next(struct tar_reader *r, struct tar_head **out) __must_check;
void tar_head_free(struct tar_head *h);
void tar_reader_fini(struct tar_reader *r);

/* ---- ACLs as text, "user::rwx,user::r-x:1000,…" ---- */

/* In the form of system.posix_acl_access, to be freed. -EINVAL; -ENOENT: it names somebody whom nobody knows. */
int tar_acl_parse(const char *text, u64 len_bytes, void **value, u32 *value_bytes) __must_check;
/* mode, with the permissions that an ACL, in the same form, gives it. */
u32 tar_acl_mode(const void *value, u32 len_bytes, u32 mode);
/* What tar_acl_parse reads, with numbers alone. */
int tar_acl_text(const void *value, u32 len_bytes, struct text *out) __must_check;

#endif
