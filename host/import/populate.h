/*
 * A new volume that is made with its content: from a host tree, a tar archive or a container image. It counts only once it is complete
 * (newvol.h, unfinished).
 */
#ifndef IMPORT_POPULATE_H
#define IMPORT_POPULATE_H

#include "import/copy_cli.h"
#include "newvol.h"

struct populate {
	const char *from;     /* a directory, an archive, a container image's layout or DIR:TAG of one */
	const char *platform; /* of the image; NULL: see oci_open */
	bool shrink;          /* no larger than it takes */
	struct newvol_opts place;
	struct format_opts format;
	const struct fs_type *type;
	const struct mount_script *script; /* NULL: none */
	struct copy_cli *cli;              /* set up, not begun */
};

/*
 * Makes the volume at spec and fills it; place.size_bytes 0: as large as its content takes, where spec is a file. The report is cli's.
 * Returns the exit code.
 */
int populate_run(struct populate *p, const char *spec) __must_check;

#endif
