/* Names of devices, as people type them, made into devices: see open.c. What volume lies there: volume.c. */
#ifndef HOST_OPEN_H
#define HOST_OPEN_H

#include "vfs/vfs.h"

struct source_opts {
	bool write;      /* wanted; when it cannot be, the source is opened read-only */
	bool must_write; /* then that is an error */
	u32 part;        /* 0: as the name says */
	bool has_offset;
	u64 offset_bytes; /* instead of a partition */
	u32 dev_flags;    /* DEV_DIRECT or DEV_BUFFERED, for files */
	char *const *
		device; /* SPECs of further devices of the volume; none: they are looked for, where it has some */
	u32 device_count;
	const char *journal; /* SPEC of the device that its journal has to itself; NULL: not said */
};

struct source {
	char *name;         /* absolute path with #pN, or mem:… */
	struct blkdev *dev; /* referenced */
	const char *fs;     /* this type and no other; NULL: what is found */
	bool rdonly;
	int fd;                   /* holds the lock; -1: memory */
	u64 off_bytes, len_bytes; /* what dev is of fd */
	u32 dev_flags;
	struct source *more; /* the volume's other devices */
	u32 more_count;
	struct source *journal; /* the device that its journal has to itself; NULL: none was named */
	bool named;             /* all its devices were named */
};

/* The path in a SPEC, to be freed, and the partition its end names (0: none). A file whose name ends in #p1 is that file. NULL: no memory. */
char *source_path(const char *spec, u32 *part);
/* mem:SIZE, memfs:SIZE */
bool source_is_memory(const char *spec);
/* SPEC: a file, a device, either with #pN for a partition, mem:SIZE, memfs:SIZE. Locks it. */
int source_open(const char *spec, const struct source_opts *opts, struct source *out) __must_check;
/* One more device of the volume, opened as the first one is. */
int source_add(struct source *s, const char *spec) __must_check;
void source_close(struct source *s);

/* SPEC[:/PATH]: *spec is to be freed; *path points into the operand and is "/" when there is none. */
int operand_split(const char *operand, char **spec, const char **path) __must_check;
/* Two SPECs name the same part of the same file or device. */
bool source_same(const char *a, const char *b);

#endif
