/* What lies on a disk: file systems and partition tables, ours or foreign, as libblkid sees them. */
#ifndef HOST_PROBE_H
#define HOST_PROBE_H

#include "lib/text.h"

struct volume_id {
	char type[32];   /* libblkid's name; "" nothing was found */
	char usage[16];  /* "filesystem", "raid", "crypto", "other" */
	char label[256]; /* "" none */
	char uuid[40];   /* "" none */
};

struct part {
	u32 nr;
	u64 off_bytes, len_bytes;
	char kind[40]; /* the type in the table, as a person knows it where it is a common one */
	char name[80]; /* GPT: the partition's name */
	bool extended; /* a container of other partitions */
};

struct ptable {
	char type[16]; /* "gpt", "dos"; "" there is none */
	u32 count;
	struct part *part; /* in the table's order */
};

/* Looks at [off, off + len) of a file or device. 0 with out->type "" when nothing is known there. */
int probe_volume(int fd, u64 off_bytes, u64 len_bytes, struct volume_id *out) __must_check;
/* Reads the table at the start. `sector_bytes` 0: by trial. */
int probe_ptable(int fd, u64 size_bytes, u32 sector_bytes, struct ptable *out) __must_check;
void ptable_free(struct ptable *t);
/* "1, 2, 5": partitions that can hold a volume. */
void ptable_numbers(const struct ptable *t, struct text *out);
/* Nothing is known in [off, off + len) afterwards: of each signature there, a few bytes are cleared. fd can be written. */
int probe_wipe(int fd, u64 off_bytes, u64 len_bytes) __must_check;
const struct part *ptable_find(const struct ptable *t, u32 nr);
/* "an XFS file system", "a LUKS volume", "swap space": what a person calls it. `size` bytes of buf are used. */
const char *volume_says(const struct volume_id *v, char *buf, size_t size);

#endif
