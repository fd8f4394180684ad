/* Between those who read the headers of an archive: tar_head.c and tar_records.c. */
#ifndef IMPORT_TAR_READ_H
#define IMPORT_TAR_READ_H

#include "tar.h"

/* Some bytes of a header. Borrowed. */
struct bytes {
	const char *s; /* NULL: nothing */
	u64 len;
};

#define HAS_SIZE      0x01u
#define HAS_UID       0x02u
#define HAS_GID       0x04u
#define HAS_MTIME     0x08u
#define HAS_ATIME     0x10u
#define HAS_REAL_SIZE 0x20u
#define HAS_DEV_MAJOR 0x40u
#define HAS_DEV_MINOR 0x80u

/* What was said before a file's own header. */
struct facts {
	struct bytes path, link, sparse_name;
	u32 has; /* HAS_* */
	u64 size_bytes, uid, gid, real_size_bytes, dev_major, dev_minor;
	struct timespec64 mtime, atime;
	bool sparse, sparse_1_0;
	u64 sparse_major, sparse_minor, sparse_off;
};

/* The first error of a file counts. */
void tar_spoil(struct tar_head *h, int err);
/* -EINVAL: a sparse file's map is none. */
int tar_bad_map(void) __must_check;
/* Digits alone, below 2^63. */
bool tar_decimal(const struct bytes *b, u64 *out) __must_check;
/*
 * Extended headers of pax: "LENGTH KEY=VALUE\n", the length that of all of it. What is said of the file goes into *f and h, and may spoil it; f
 * borrows from s. An error is the archive's.
 */
int tar_records(struct tar_reader *r, const char *s, u64 len_bytes, struct tar_head *h,
		struct facts *f) __must_check;

#endif
