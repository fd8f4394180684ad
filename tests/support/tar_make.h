/* Archives made byte by byte, for tests of who reads them. */
#ifndef SUPPORT_TAR_MAKE_H
#define SUPPORT_TAR_MAKE_H

#include "import/tar.h"

struct tar_make {
	u8 *buf;
	size_t len, room;
};

void make_bytes(struct tar_make *m, const void *p, size_t len);
/* Up to the next block. */
void make_pad(struct tar_make *m);
/* A header of ustar with its sum: mode 0644, uid 1, gid 2, mtime 3. Its place. */
struct tar_disk_header *make_head(struct tar_make *m, char type, const char *name, u64 size);
/* After a header was changed. */
void make_sum(struct tar_disk_header *d);
/* A header and its body. */
void make_file(struct tar_make *m, char type, const char *name, const void *body, size_t len);
/* "LENGTH KEY=VALUE\n" at out, which has room; returns its length. */
size_t make_record(char *out, const char *key, const void *value, size_t len);
/* An extended header with one record. */
void make_pax(struct tar_make *m, char type, const char *key, const char *value);
/* Two blocks of zeros. */
void make_end(struct tar_make *m);
/* A file, to be removed, that holds it. */
void make_write(const struct tar_make *m, const char *path);
void make_free(struct tar_make *m);

/*
 * Goes through an archive as the engine does and writes down what comes, a line for each item:
 * "f path 0644 1:2 5 @3 <target> {name=value} [data]"; holes are dots. What is spoiled: "! path: why". MAKE_BAD_DATA, which no name can say, is
 * behind data that do not come in order or within the file. Returns next's or fill's error.
 */
#define MAKE_BAD_DATA "\x01"
int make_read(const char *path, bool layers, struct text *out) __must_check;

#endif
