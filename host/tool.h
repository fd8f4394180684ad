/* What the commands that read or change a volume without mounting it share: options, opening, listing, output. */
#ifndef HOST_TOOL_H
#define HOST_TOOL_H

#include "api/api.h"
#include "lib/doc.h"
#include "volume.h"
#include <getopt.h>

#define TOOL_DEVICES_MAX 256u

struct tool_opts {
	bool json;
	u32 part;
	bool has_offset;
	u64 offset_bytes;
	char *device[TOOL_DEVICES_MAX]; /* further devices of the volume */
	u32 device_count;
	const char *journal;     /* the device that its journal has to itself; NULL: not said */
	struct mount_opts mount; /* read-only */
	char fs_opts[1024];      /* what mount.fs_opts names: words for the module */
};

/* Rows of a command's long options, and its short ones. */
#define TOOL_LONG                                                                                            \
	{ "json", no_argument, NULL, 'J' }, { "part", required_argument, NULL, 'p' },                        \
		{ "offset", required_argument, NULL, 'O' }, { "sb", required_argument, NULL, 'S' },          \
		{ "norecovery", no_argument, NULL, 'N' }, { "cache", required_argument, NULL, 'C' },         \
		{ "options", required_argument, NULL, 'o' }, { "generation", required_argument, NULL, 'G' }, \
		{ "device", required_argument, NULL, 'V' }, { "journal", required_argument, NULL, 'E' },     \
	{                                                                                                    \
		NULL, 0, NULL, 0                                                                             \
	}
#define TOOL_SHORT "p:o:"

/* *o stays where it is from then on. */
void tool_init(struct tool_opts *o);
/* Takes what getopt_long returned. 0, or after cli_usage the exit code. */
int tool_option(struct tool_opts *o, int opt, char **argv) __must_check;

/* A number; or a name that this machine knows, of a user whose group comes along, or of a group. False: neither. */
bool tool_id(const char *s, bool group, u32 *id, u32 *login_group) __must_check;

/* What they say, to werunos.h. */
struct werunos_open_options tool_open_options(const struct tool_opts *o, bool write);

/* A volume opened for a command, and the path its operand names. */
struct volume {
	struct werunos_volume *api;
	struct super_block *sb; /* of api */
	struct source src;      /* of volume_source alone */
	char *spec;
	const char *path; /* "/" when none was given */
};
/* Opens and mounts read-only what OPERAND (IMAGE[#pN][:/PATH]) names. Says on stderr what the user should know. */
int volume_open(const struct tool_opts *o, const char *operand, struct volume *out) __must_check;
/*
 * The same to be changed: the source is opened for this process alone, the journal is replayed, and from then on the vfs's functions change
 * the volume. What cannot be written is refused: -EROFS with a sentence that says why, -EOPNOTSUPP for a type that is read only.
 */
int volume_open_rw(const struct tool_opts *o, const char *operand, struct volume *out) __must_check;
/*
 * Of a volume that was opened to be changed all is durable when this returns 0. Else EXIT_ERROR, and it has been said on stderr. No inode may
 * be referenced.
 */
int volume_close(struct volume *v);
/* Only the source, for what needs no mount. write: to be written, or it is an error. */
int volume_source(const struct tool_opts *o, const char *operand, bool write,
		  struct volume *out) __must_check;

/* One name of a directory. */
struct listed {
	char *name; /* NUL-terminated */
	u32 len;
	u8 type; /* DT_* */
	u64 ino;
};
struct listing {
	struct listed *e;
	u32 count, room;
};
/* The names in a directory, sorted; "." and ".." only with dots. Freed with listing_free, also after an error. */
int listing_read(struct inode *dir, bool dots, struct listing *out) __must_check;
void listing_free(struct listing *l);

/* "drwxr-xr-x" */
void mode_text(u32 mode, char out[11]);
/* "directory", "regular file", … */
const char *mode_kind(u32 mode);
/* The target of a symlink, appended as a name. -errno when it cannot be read. */
int add_target(struct inode *link, struct text *t) __must_check;

/* Everything about an inode that has one value. */
void stat_doc(struct inode *inode, struct doc *out);

/* Writes all of it to stdout; -EPIPE and others as they come. */
int put_bytes(const void *p, size_t len_bytes) __must_check;
int put_text(struct text *t) __must_check;
/* Shows a document the way that was asked for. */
int put_doc(const struct doc *d, bool json) __must_check;

#endif
