/*
 * A new volume that is made with its content: from a host tree, a tar archive or a container image. It counts only once it is complete
 * (newvol.h, unfinished).
 */
#ifndef IMPORT_POPULATE_H
#define IMPORT_POPULATE_H

#include "import/import.h"
#include "newvol.h"

struct populate {
	const char *from;     /* a directory, an archive, a container image's layout or DIR:TAG of one */
	const char *platform; /* of the image; NULL: see oci_open */
	bool shrink;          /* no larger than it takes */
	struct newvol_opts place;
	struct format_opts format;
	const struct fs_type *type;
	const struct mount_script *script; /* NULL: none */
	struct copy_opts copy;
	struct select select;
	struct werunos_report *report;
};

/*
 * Makes the volume at spec and fills it; place.size_bytes 0: as large as its content takes, where spec is a file. -ECANCELED: stopped; the
 * volume counts, with what was complete.
 */
int populate_run(struct populate *p, const char *spec) __must_check;
/* The volume that lies there, as its type shows it; nothing when it cannot be read. */
void populate_describe(const char *spec, u32 part, struct doc *out);

#endif
